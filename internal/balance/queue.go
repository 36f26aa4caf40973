package balance

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Policy is how a request finds its pod.
type Policy string

// The policies.
const (
	// PerConnection is a NodePort, a Service or an NLB: chance chooses a pod for each
	// connection, and all its requests go there.
	PerConnection Policy = "random per connection"
	// PerRequest chooses by chance for each request.
	PerRequest Policy = "random per request"
	// InTurn is round robin.
	InTurn Policy = "round robin"
	// Fewest is least outstanding requests; equals are chosen among in turn.
	Fewest Policy = "least outstanding requests"
)

// Shape is how the times that requests take are distributed.
type Shape string

// The shapes.
const (
	// Lognormal is what most services' times look like; by the median and the 99th percentile.
	Lognormal Shape = "lognormal"
	// Exponential is by its mean.
	Exponential Shape = "exponential"
	// Fixed is the same for all, its mean.
	Fixed Shape = "fixed"
)

// Times is how long a pod works on a request.
type Times struct {
	Shape Shape `json:"shape"`
	// P50 and P99 are of Lognormal, Mean of the others.
	P50  time.Duration `json:"p50,omitempty"`
	P99  time.Duration `json:"p99,omitempty"`
	Mean time.Duration `json:"mean,omitempty"`
}

// z99 is how many standard deviations the 99th percentile of the normal distribution is
// above its middle.
const z99 = 2.3263478740408408

// mean is in seconds.
func (t Times) mean() float64 {
	if t.Shape != Lognormal {
		return t.Mean.Seconds()
	}
	sigma := t.sigma()
	return t.P50.Seconds() * math.Exp(sigma*sigma/2)
}

func (t Times) sigma() float64 { return math.Log(float64(t.P99)/float64(t.P50)) / z99 }

// draw is one of the times, in whole nanoseconds.
func (s *run) draw() int64 {
	t := &s.q.Times
	var ns float64
	switch t.Shape {
	case Fixed:
		return int64(t.Mean)
	case Exponential:
		ns = float64(t.Mean) * exponential(s.r)
	default:
		ns = float64(t.P50) * math.Exp(s.sigma*s.normal())
	}
	return int64(min(ns, float64(longest)))
}

// longest bounds a single time that is drawn.
const longest = time.Hour

// exponential is with the mean 1. Both are drawn by formulas of their own, for what a
// library's draw gives may change with its version, and a plan's bytes must not.
func exponential(r *rand.Rand) float64 { return -math.Log(1 - r.Float64()) }

// normal is by Box and Muller, which gives two at a time.
func (s *run) normal() float64 {
	if s.hasSpare {
		s.hasSpare = false
		return s.spare
	}
	radius := math.Sqrt(-2 * math.Log(1-s.r.Float64()))
	sin, cos := math.Sincos(2 * math.Pi * s.r.Float64())
	s.spare, s.hasSpare = radius*sin, true
	return radius * cos
}

// Queue is a question to the simulation: requests that come by chance at a rate, pods that
// work on some at once and queue the others first come first served, and how a request
// finds its pod.
type Queue struct {
	Policy Policy `json:"policy"`
	// Pods is how many, Concurrency how many requests each works on at once.
	Pods        int `json:"pods"`
	Concurrency int `json:"concurrency"`
	// Rate is requests a second.
	Rate  float64 `json:"rate"`
	Times Times   `json:"times"`
	// Connections is of PerConnection: how many there are at once; 0 is 4 for each pod.
	// PerEach is how many requests one carries before another takes its place; 0 has each
	// replaced so often that what is told is not one throw of the dice.
	Connections int `json:"connections,omitempty"`
	PerEach     int `json:"per_each,omitempty"`
	// Balancers is how many nodes the balancer has, each of which knows of its own requests
	// alone; 0 is 1.
	Balancers int `json:"balancers,omitempty"`
	// Slow is how many pods take SlowTimes as long as the others, all the time.
	Slow      int     `json:"slow,omitempty"`
	SlowTimes float64 `json:"slow_times,omitempty"`
	// Cold is how many pods have just started: they take ColdTimes as long at first, and
	// as long as the others after Warmup; less, evenly, in between.
	Cold      int           `json:"cold,omitempty"`
	ColdTimes float64       `json:"cold_times,omitempty"`
	Warmup    time.Duration `json:"warmup,omitempty"`
	// SlowStart is for how long the cold pods' share grows from nothing to a full one; of
	// InTurn alone.
	SlowStart time.Duration `json:"slow_start,omitempty"`
	// Requests is how many are played; 0 is DefaultRequests. The first tenth is not counted,
	// but where pods are cold.
	Requests int `json:"requests,omitempty"`
	// Seed makes chance repeatable: the same question has the same answer.
	Seed uint64 `json:"seed,omitempty"`
}

const (
	// DefaultRequests is how many requests are played: 20 of them are slower than the
	// 99.9th percentile.
	DefaultRequests = 20_000
	// replaced is how often a connection is replaced where nobody says.
	replaced = 16
	// maxRequests, maxPods and maxConnections bound what is played.
	maxRequests    = 2_000_000
	maxPods        = 1000
	maxConcurrency = 10_000
	maxConnections = 100_000
	minRate        = 0.001
	maxRate        = 1_000_000.0
	maxTimes       = 1000.0
)

// Outcome is what users saw.
type Outcome struct {
	Requests int `json:"requests"`
	// Times from a request's coming to its answer, rounded to three digits.
	Mean time.Duration `json:"mean"`
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
	P999 time.Duration `json:"p999"`
	Max  time.Duration `json:"max"`
	// Wait is the mean time in the queue alone.
	Wait time.Duration `json:"wait"`
	// Utilization is how busy the pods were, 0 to 1; Busiest that of the busiest pod.
	Utilization float64 `json:"utilization"`
	Busiest     float64 `json:"busiest"`
	// Overloaded says that more came than could be worked on, on the whole or at one pod:
	// the times grow with how long it is played, and say nothing but that.
	Overloaded bool `json:"overloaded,omitempty"`
}

func (q Queue) check() error {
	switch {
	case !slices.Contains([]Policy{PerConnection, PerRequest, InTurn, Fewest}, q.Policy):
		return fmt.Errorf("%q is no policy", q.Policy)
	case q.Pods < 1 || q.Pods > maxPods:
		return fmt.Errorf("%d pods: want 1 to %d", q.Pods, maxPods)
	case q.Concurrency < 1 || q.Concurrency > maxConcurrency:
		return fmt.Errorf("%d requests at once in a pod: want 1 to %d", q.Concurrency, maxConcurrency)
	case !(q.Rate >= minRate && q.Rate <= maxRate):
		return fmt.Errorf("%v requests a second: want %v to %v", q.Rate, minRate, maxRate)
	case q.Requests < 0 || q.Requests > maxRequests:
		return fmt.Errorf("%d requests to play: want up to %d", q.Requests, maxRequests)
	case q.Connections < 0 || q.Connections > maxConnections || q.PerEach < 0:
		return fmt.Errorf("%d connections of %d requests: want up to %d connections", q.Connections, q.PerEach, maxConnections)
	case q.Balancers < 0 || q.Balancers > maxPods:
		return fmt.Errorf("%d nodes of the balancer: want up to %d", q.Balancers, maxPods)
	case q.Slow < 0 || q.Cold < 0 || q.Slow+q.Cold > q.Pods:
		return fmt.Errorf("%d slow and %d cold pods of %d", q.Slow, q.Cold, q.Pods)
	case q.Slow > 0 && !(q.SlowTimes >= 1 && q.SlowTimes <= maxTimes), q.Cold > 0 && !(q.ColdTimes >= 1 && q.ColdTimes <= maxTimes):
		return fmt.Errorf("slow or cold pods take %v or %v times as long: want 1 to %v", q.SlowTimes, q.ColdTimes, maxTimes)
	case q.Warmup < 0 || q.SlowStart < 0:
		return errors.New("a warm-up or a slow start is below zero")
	}
	switch q.Times.Shape {
	case Lognormal:
		if q.Times.P50 <= 0 || q.Times.P99 < q.Times.P50 || q.Times.P99 > longest {
			return fmt.Errorf("times with the median %s and the 99th percentile %s: want both above 0 and up to %s, the median lower", q.Times.P50, q.Times.P99, longest)
		}
	case Exponential, Fixed:
		if q.Times.Mean <= 0 || q.Times.Mean > longest {
			return fmt.Errorf("times with the mean %s: want one above 0 and up to %s", q.Times.Mean, longest)
		}
	default:
		return fmt.Errorf("%q is no shape", q.Times.Shape)
	}
	return nil
}

// Play answers the question. It takes some milliseconds for 20,000 requests. An error says what
// in the question can not be.
func Play(q Queue) (Outcome, error) {
	if err := q.check(); err != nil {
		return Outcome{}, fmt.Errorf("play the queue: %w", err)
	}
	return newRun(q).play(), nil
}

// pod is one that works on requests.
type pod struct {
	// free are when each of its places is free next, a heap.
	free heap[int64]
	// busy is how long its places have worked in all, within what was counted.
	busy int64
}

// end is a request's, at a pod, sent there by a node of the balancer.
type end struct {
	at       int64
	pod      int
	balancer int
}

// connection is pinned to a pod.
type connection struct{ pod, left int }

type run struct {
	q Queue
	// r draws when requests come and how long they take, luck whom they meet: apart, so that
	// two policies are played with the same requests.
	r, luck     *rand.Rand
	pods        []pod
	ends        heap[end]
	outstanding [][]int // by balancer and pod
	next        []int   // whose turn it is, by balancer
	connections []connection
	now         int64
	sigma       float64
	spare       float64 // a normal draw that was not used yet
	hasSpare    bool
}

func newRun(q Queue) *run {
	if q.Requests == 0 {
		q.Requests = DefaultRequests
	}
	q.Balancers = max(1, q.Balancers)
	if q.Connections == 0 {
		q.Connections = 4 * q.Pods
	}
	if q.PerEach == 0 {
		q.PerEach = max(1, q.Requests/(q.Connections*replaced))
	}
	s := &run{q: q, r: rand.New(rand.NewPCG(q.Seed, 1)), luck: rand.New(rand.NewPCG(q.Seed, 2)), pods: make([]pod, q.Pods), next: make([]int, q.Balancers),
		ends: heap[end]{less: func(a, b end) bool { return a.at < b.at }}}
	for n := range s.pods {
		s.pods[n].free = heap[int64]{less: func(a, b int64) bool { return a < b }, all: make([]int64, q.Concurrency)}
	}
	if q.Times.Shape == Lognormal {
		s.sigma = q.Times.sigma()
	}
	s.outstanding = make([][]int, q.Balancers)
	for n := range s.outstanding {
		s.outstanding[n] = make([]int, q.Pods)
		s.next[n] = s.luck.IntN(q.Pods)
	}
	if q.Policy == PerConnection {
		s.connections = make([]connection, q.Connections)
		for n := range s.connections {
			// They are of all ages: else all would be renewed at once.
			s.connections[n] = connection{s.luck.IntN(q.Pods), 1 + s.luck.IntN(q.PerEach)}
		}
	}
	return s
}

func (s *run) play() Outcome {
	skip := s.q.Requests / 10
	if s.q.Cold > 0 {
		skip = 0
	}
	took := make([]int64, 0, s.q.Requests-skip)
	var waited, from int64
	gap := float64(time.Second) / s.q.Rate
	for n := range s.q.Requests {
		s.now += int64(gap * exponential(s.r))
		for s.ends.len() > 0 && s.ends.all[0].at <= s.now {
			e := s.ends.pop()
			s.outstanding[e.balancer][e.pod]--
		}
		b := 0
		if s.q.Balancers > 1 {
			b = s.luck.IntN(s.q.Balancers)
		}
		at := s.choose(b)
		p := &s.pods[at]
		start := max(s.now, p.free.all[0])
		works := int64(float64(s.draw()) * s.times(at, start))
		p.free.replace(start + works)
		s.outstanding[b][at]++
		s.ends.push(end{start + works, at, b})
		if n == skip {
			from = s.now
		}
		if n >= skip {
			took = append(took, start+works-s.now)
			waited += start - s.now
			p.busy += works
		}
	}
	return s.outcome(took, waited, from)
}

// times is how many times as long a pod takes for a request that it begins now.
func (s *run) times(pod int, at int64) float64 {
	switch {
	case pod < s.q.Slow:
		return s.q.SlowTimes
	case pod >= s.q.Pods-s.q.Cold && at < int64(s.q.Warmup):
		return s.q.ColdTimes - (s.q.ColdTimes-1)*float64(at)/float64(s.q.Warmup)
	}
	return 1
}

// choose is the pod that a node of the balancer sends the next request to.
func (s *run) choose(b int) int {
	switch s.q.Policy {
	case PerConnection:
		c := &s.connections[s.luck.IntN(len(s.connections))]
		if c.left == 0 {
			*c = connection{s.luck.IntN(s.q.Pods), s.q.PerEach}
		}
		c.left--
		return c.pod
	case PerRequest:
		return s.luck.IntN(s.q.Pods)
	case InTurn:
		for {
			at := s.next[b]
			s.next[b] = (at + 1) % s.q.Pods
			if s.q.Cold < s.q.Pods && at >= s.q.Pods-s.q.Cold && s.now < int64(s.q.SlowStart) && s.luck.Float64()*float64(s.q.SlowStart) > float64(s.now) {
				continue // its turn goes to the next: its share is not whole yet
			}
			return at
		}
	default:
		best := s.next[b]
		mine := s.outstanding[b]
		for at := s.next[b]; at < s.q.Pods; at++ {
			if mine[at] < mine[best] {
				best = at
			}
		}
		for at := range s.next[b] {
			if mine[at] < mine[best] {
				best = at
			}
		}
		s.next[b] = (best + 1) % s.q.Pods
		return best
	}
}

// tooBusy is from which utilization on a queue has no end within what is played.
const tooBusy = 0.999

func (s *run) outcome(took []int64, waited, from int64) Outcome {
	slices.Sort(took)
	at := func(q float64) time.Duration {
		return round(took[max(0, int(math.Ceil(q*float64(len(took))))-1)])
	}
	var sum float64
	for _, t := range took {
		sum += float64(t)
	}
	n := float64(len(took))
	o := Outcome{Requests: len(took), Mean: round(int64(sum / n)), P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1), Wait: round(int64(float64(waited) / n))}
	span := float64(max(1, s.now-from)) * float64(s.q.Concurrency)
	for _, p := range s.pods {
		u := float64(p.busy) / span
		o.Utilization += u / float64(s.q.Pods)
		o.Busiest = max(o.Busiest, u)
	}
	o.Overloaded = o.Busiest >= tooBusy
	o.Utilization, o.Busiest = math.Round(min(1, o.Utilization)*1000)/1000, math.Round(min(1, o.Busiest)*1000)/1000
	return o
}

// round keeps three digits: what is behind them is chance.
func round(ns int64) time.Duration {
	step := int64(1)
	for ns/step >= 1000 {
		step *= 10
	}
	return time.Duration((ns + step/2) / step * step)
}
