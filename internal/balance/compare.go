package balance

import (
	"fmt"
	"math"
	"time"
)

// Comparison is the same traffic played twice: as it is balanced today, and as planned.
type Comparison struct {
	Before Outcome `json:"before"`
	After  Outcome `json:"after"`
	// Questions are what was played.
	Question struct {
		Before Queue `json:"before"`
		After  Queue `json:"after"`
	} `json:"question"`
	// Text tells it in a sentence or two.
	Text string `json:"text"`
	// Assumptions are what was not measured, sentence by sentence; none where all was.
	Assumptions []string `json:"assumptions,omitempty"`
}

// The assumptions of a comparison, where nothing was measured.
const (
	assumedP50 = 20 * time.Millisecond
	assumedP99 = 200 * time.Millisecond
	// assumedBusy is how busy the pods are taken to be: a service that nobody measures is
	// rarely at its limit.
	assumedBusy = 0.35
	// assumedRate is in requests a second, of each pod.
	assumedRate = 20.0
	// slowTimes is how many times as long the one slow pod takes that every cluster has:
	// its node is busy, or it collects garbage.
	slowTimes = 2.0
	// balancerNodes is how many nodes an ALB has at least, one in each of two zones.
	balancerNodes = 2
	// seed is the same in all comparisons, so that both sides meet the same chance.
	seed = 20
)

// Today is how requests find their pods until now.
type Today struct {
	Policy Policy
	// Pods is how many there are now.
	Pods int
	// Concurrency is how many requests a pod works on at once now; 0 as planned.
	Concurrency int
}

// Compare plays the traffic as it is balanced today and as the settings have it, with one
// slow pod among them. An error says that something of it can not be.
func Compare(t Traffic, p Pods, today Today, s Settings) (Comparison, error) {
	return compare(t, p, today, s, DefaultRequests)
}

func compare(t Traffic, p Pods, today Today, s Settings, requests int) (Comparison, error) {
	var c Comparison
	p.Count, p.Zones = min(max(1, p.Count), maxPods), max(1, p.Zones)
	today.Pods = min(max(1, today.Pods), maxPods)
	times := Times{Shape: Lognormal, P50: t.P50, P99: t.P99}
	if t.P50 <= 0 || t.P99 <= 0 {
		times.P50, times.P99 = assumedP50, assumedP99
		c.Assumptions = append(c.Assumptions, fmt.Sprintf("how long requests take was not measured: a median of %s and a slowest hundredth of %s are assumed", assumedP50, assumedP99))
	}
	times.P50 = min(times.P50, longest)
	times.P99 = min(max(times.P99, times.P50), longest)
	rate := t.Rate.P95
	if !(rate > 0) || math.IsInf(rate, 0) {
		rate = assumedRate * float64(today.Pods)
		c.Assumptions = append(c.Assumptions, fmt.Sprintf("how many requests come was not measured: %.0f a second are assumed", rate))
	}
	rate = min(max(rate, minRate), maxRate)
	concurrency := p.Concurrency
	if concurrency <= 0 {
		concurrency = max(1, int(math.Ceil(rate*times.mean()/(assumedBusy*float64(min(p.Count, today.Pods))))))
		c.Assumptions = append(c.Assumptions, fmt.Sprintf("how many requests a pod works on at once is not known: %d are assumed, which keeps it busy for %.0f%% of the time", concurrency, assumedBusy*100))
	}
	concurrency = min(concurrency, maxConcurrency)
	slow := func(pods int) int {
		if pods > 1 {
			return 1
		}
		return 0
	}
	before := Queue{Policy: today.Policy, Pods: today.Pods, Concurrency: concurrency, Rate: rate, Times: times, Connections: min(max(0, t.Connections), maxConnections), Slow: slow(today.Pods), SlowTimes: slowTimes, Seed: seed, Requests: requests}
	if today.Concurrency > 0 {
		before.Concurrency = min(today.Concurrency, maxConcurrency)
	}
	if before.Policy == "" {
		before.Policy = PerConnection
	}
	after := before
	after.Pods, after.Concurrency, after.Slow = p.Count, concurrency, slow(p.Count)
	after.Policy, after.Balancers = policy(s), 1
	if s.Behind == ALB {
		after.Balancers = max(balancerNodes, p.Zones)
	}
	c.Question.Before, c.Question.After = before, after
	var err error
	if c.Before, err = Play(before); err != nil {
		return Comparison{}, fmt.Errorf("today's balancing: %w", err)
	}
	if c.After, err = Play(after); err != nil {
		return Comparison{}, fmt.Errorf("the planned balancing: %w", err)
	}
	c.Text = c.sentence()
	return c, nil
}

// policy is how the settings let requests find their pods.
func policy(s Settings) Policy {
	switch {
	case s.Behind != ALB || s.Stickiness.Value > 0:
		return PerConnection
	case s.Algorithm.Value == LeastOutstanding:
		return Fewest
	case s.Algorithm.Value == WeightedRandom:
		return PerRequest
	}
	return InTurn
}

func (c Comparison) sentence() string {
	q := c.Question
	side := func(q Queue, o Outcome) string {
		if o.Overloaded {
			return fmt.Sprintf("%s over %s: overloaded, for one pod gets more than it can work on", q.Policy, counted(q.Pods, "pod"))
		}
		return fmt.Sprintf("%s over %s: median %s, slowest hundredth %s, busiest pod %.0f%%", q.Policy, counted(q.Pods, "pod"), o.P50, o.P99, o.Busiest*100)
	}
	slow := ""
	if q.Before.Slow+q.After.Slow > 0 {
		slow = fmt.Sprintf(", one pod %.0f times as slow as the others", slowTimes)
	}
	return fmt.Sprintf("at %.4g requests a second%s: today %s; planned %s", q.Before.Rate, slow, side(q.Before, c.Before), side(q.After, c.After))
}
