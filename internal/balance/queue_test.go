package balance

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const service = 10 * time.Millisecond

// erlang is the mean wait in the queue of an M/M/c by Erlang's formula, in units of the
// mean service, where the c places are busy for the part rho of the time.
func erlang(c int, rho float64) float64 {
	load := rho * float64(c)
	sum, term := 0.0, 1.0
	for k := range c {
		if k > 0 {
			term *= load / float64(k)
		}
		sum += term
	}
	full := term * load / float64(c)
	if c == 1 {
		full = load
	}
	full /= 1 - rho
	return full / (sum + full) / (float64(c) * (1 - rho))
}

func play(t *testing.T, q Queue) Outcome {
	t.Helper()
	o, err := Play(q)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// near allows a part, and a thousandth of the service for what chance leaves at low loads.
func near(got, want, part float64) bool {
	return math.Abs(got-want) <= part*want+service.Seconds()/1000
}

// waits is the mean wait, and how busy the pods were, over several seeds: one has an
// error of some hundredths.
func waits(t *testing.T, q Queue) (seconds, busy float64) {
	t.Helper()
	const seeds = 6
	q.Requests = 120_000
	for seed := range uint64(seeds) {
		q.Seed = seed
		o := play(t, q)
		seconds, busy = seconds+o.Wait.Seconds()/seeds, busy+o.Utilization/seeds
	}
	return seconds, busy
}

// TestMeanWaits plays queues whose mean wait is known: M/M/c by Erlang, M/G/1 by
// Pollaczek and Khinchine.
func TestMeanWaits(t *testing.T) {
	for _, rho := range []float64{0.5, 0.8} {
		for _, c := range []int{1, 4} {
			got, busy := waits(t, Queue{Policy: InTurn, Pods: 1, Concurrency: c, Rate: rho * float64(c) / service.Seconds(), Times: Times{Shape: Exponential, Mean: service}})
			if want := erlang(c, rho) * service.Seconds(); !near(got, want, 0.05) {
				t.Errorf("M/M/%d, %v busy: waits %.6fs, theory has %.6fs", c, rho, got, want)
			}
			if math.Abs(busy-rho) > 0.01 {
				t.Errorf("M/M/%d, %v busy: it was %v", c, rho, busy)
			}
		}
		rate := rho / service.Seconds()
		got, _ := waits(t, Queue{Policy: InTurn, Pods: 1, Concurrency: 1, Rate: rate, Times: Times{Shape: Fixed, Mean: service}})
		if want := rho / (2 * (1 - rho)) * service.Seconds(); !near(got, want, 0.05) {
			t.Errorf("M/D/1, %v busy: waits %.6fs, theory has %.6fs", rho, got, want)
		}
		times := Times{Shape: Lognormal, P50: service, P99: 4 * service}
		sigma := times.sigma()
		rate = rho / times.mean()
		got, _ = waits(t, Queue{Policy: InTurn, Pods: 1, Concurrency: 1, Rate: rate, Times: times})
		square := times.mean() * times.mean() * math.Exp(sigma*sigma)
		if want := rate * square / (2 * (1 - rho)); !near(got, want, 0.05) {
			t.Errorf("M/G/1 lognormal, %v busy: waits %.6fs, theory has %.6fs", rho, got, want)
		}
	}
}

// TestPercentiles plays an M/M/1, in which the whole time of a request is distributed
// exponentially, and pods of it among which chance chooses, which are as many M/M/1.
func TestPercentiles(t *testing.T) {
	for _, pods := range []int{1, 5} {
		const rho = 0.7
		o := play(t, Queue{Policy: PerRequest, Pods: pods, Concurrency: 1, Rate: rho * float64(pods) / service.Seconds(), Times: Times{Shape: Exponential, Mean: service}, Requests: 300_000, Seed: 4})
		mean := service.Seconds() / (1 - rho)
		for _, p := range []struct {
			name string
			got  time.Duration
			of   float64
		}{{"median", o.P50, 0.5}, {"99th", o.P99, 0.99}} {
			if want := -math.Log(1-p.of) * mean; !near(p.got.Seconds(), want, 0.05) {
				t.Errorf("%d pods: the %s is %s, theory has %.6fs", pods, p.name, p.got, want)
			}
		}
	}
}

// TestFewestIsNeverWorse plays least outstanding requests beside chance where it counts:
// loads, unequal requests, a slow pod, a balancer of several nodes.
func TestFewestIsNeverWorse(t *testing.T) {
	for _, pods := range []int{2, 6, 20} {
		for _, busy := range []float64{0.3, 0.75} {
			for _, p99 := range []time.Duration{2 * service, 20 * service} {
				for _, slow := range []int{0, 1} {
					times := Times{Shape: Lognormal, P50: service, P99: p99}
					// Capacity without what the slow pod lacks.
					capacity := (float64(pods-slow) + float64(slow)/3) * 4
					q := Queue{Pods: pods, Concurrency: 4, Rate: busy * capacity / times.mean(), Times: times, Slow: slow, SlowTimes: 3, Seed: 5, Balancers: 2, Requests: 10_000}
					q.Policy = Fewest
					fewest := play(t, q)
					for _, other := range []Policy{PerRequest, PerConnection} {
						q.Policy = other
						if o := play(t, q); float64(fewest.P99) > 1.02*float64(o.P99) {
							t.Errorf("%d pods, %v busy, p99 %s, %d slow: %s with least outstanding, %s with %s", pods, busy, p99, slow, fewest.P99, o.P99, other)
						}
					}
				}
			}
		}
	}
}

// TestSlowStart plays pods that have just started, with a share that grows and without.
func TestSlowStart(t *testing.T) {
	q := Queue{Policy: InTurn, Pods: 4, Concurrency: 2, Rate: 300, Times: Times{Shape: Exponential, Mean: service}, Cold: 1, ColdTimes: 10, Warmup: 20 * time.Second, Requests: 9000, Seed: 6}
	without := play(t, q)
	q.SlowStart = 30 * time.Second
	with := play(t, q)
	if with.P99 >= without.P99 {
		t.Errorf("the slowest hundredth takes %s with a slow start, %s without", with.P99, without.P99)
	}
}

func TestOverload(t *testing.T) {
	q := Queue{Policy: InTurn, Pods: 2, Concurrency: 1, Rate: 400, Times: Times{Shape: Exponential, Mean: service}, Seed: 7}
	if o := play(t, q); !o.Overloaded || o.Utilization != 1 {
		t.Errorf("twice of what it can: %+v", o)
	}
	q.Rate = 100
	if o := play(t, q); o.Overloaded {
		t.Errorf("half of what it can: %+v", o)
	}
}

func question(t *rapid.T) Queue {
	pods := rapid.IntRange(1, 12).Draw(t, "pods")
	p50 := time.Duration(rapid.Int64Range(1, int64(200*time.Millisecond)).Draw(t, "p50"))
	q := Queue{
		Policy: rapid.SampledFrom([]Policy{PerConnection, PerRequest, InTurn, Fewest}).Draw(t, "policy"),
		Pods:   pods, Concurrency: rapid.IntRange(1, 32).Draw(t, "concurrency"),
		Times: rapid.SampledFrom([]Times{{Shape: Lognormal, P50: p50, P99: p50 * 5}, {Shape: Exponential, Mean: p50}, {Shape: Fixed, Mean: p50}}).Draw(t, "times"),
		Slow:  rapid.IntRange(0, pods).Draw(t, "slow"), SlowTimes: rapid.Float64Range(1, 20).Draw(t, "slow times"),
		Balancers: rapid.IntRange(0, 3).Draw(t, "balancers"), Requests: rapid.IntRange(1, 3000).Draw(t, "requests"), Seed: rapid.Uint64().Draw(t, "seed"),
		Connections: rapid.IntRange(0, 50).Draw(t, "connections"), PerEach: rapid.IntRange(0, 50).Draw(t, "per each"),
		SlowStart: time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "slow start")),
	}
	q.Cold = rapid.IntRange(0, pods-q.Slow).Draw(t, "cold")
	q.ColdTimes, q.Warmup = rapid.Float64Range(1, 20).Draw(t, "cold times"), time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "warm-up"))
	q.Rate = rapid.Float64Range(0.01, 1.2).Draw(t, "busy") * float64(q.Pods*q.Concurrency) / q.Times.mean()
	if q.Rate > maxRate {
		q.Rate = maxRate
	}
	return q
}

// TestAnyQuestion holds what is true of every queue, and that the same question has the
// same answer.
func TestAnyQuestion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := question(t)
		o, err := Play(q)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Play(q); err != nil || again != o {
			t.Fatalf("played again: %+v, %v; before: %+v", again, err, o)
		}
		switch {
		case o.P50 > o.P99, o.P99 > o.P999, o.P999 > o.Max:
			t.Fatalf("its percentiles fall: %+v", o)
		case o.Wait < 0, o.Mean < o.Wait, o.Mean > o.Max:
			t.Fatalf("its mean is none: %+v", o)
		case o.Utilization < 0, o.Utilization > 1, o.Busiest < o.Utilization, o.Busiest > 1:
			t.Fatalf("its utilization is none: %+v", o)
		case o.Requests == 0:
			t.Fatalf("nothing was counted: %+v", o)
		}
	})
}

func TestRefusedQuestions(t *testing.T) {
	good := Queue{Policy: Fewest, Pods: 2, Concurrency: 1, Rate: 1, Times: Times{Shape: Fixed, Mean: service}}
	play(t, good)
	for _, c := range []struct {
		change func(q *Queue)
		want   string
	}{
		{func(q *Queue) { q.Policy = "best" }, `"best" is no policy`},
		{func(q *Queue) { q.Pods = 0 }, "0 pods: want 1 to 1000"},
		{func(q *Queue) { q.Pods = 1001 }, "1001 pods"},
		{func(q *Queue) { q.Concurrency = 0 }, "0 requests at once in a pod"},
		{func(q *Queue) { q.Rate = 0 }, "0 requests a second"},
		{func(q *Queue) { q.Rate = math.NaN() }, "NaN requests a second"},
		{func(q *Queue) { q.Rate = math.Inf(1) }, "+Inf requests a second"},
		{func(q *Queue) { q.Requests = maxRequests + 1 }, "requests to play"},
		{func(q *Queue) { q.Connections = -1 }, "-1 connections"},
		{func(q *Queue) { q.Balancers = -1 }, "-1 nodes of the balancer"},
		{func(q *Queue) { q.Slow, q.SlowTimes = 3, 2 }, "3 slow and 0 cold pods of 2"},
		{func(q *Queue) { q.Slow, q.SlowTimes = 1, 0.5 }, "slow or cold pods take 0.5"},
		{func(q *Queue) { q.Cold, q.ColdTimes = 1, math.NaN() }, "NaN times as long"},
		{func(q *Queue) { q.Warmup = -1 }, "below zero"},
		{func(q *Queue) { q.Times = Times{Shape: Lognormal, P50: 2, P99: 1} }, "the median 2ns"},
		{func(q *Queue) { q.Times.Mean = 2 * time.Hour }, "the mean 2h0m0s"},
		{func(q *Queue) { q.Times.Shape = "square" }, `"square" is no shape`},
	} {
		q := good
		c.change(&q)
		if _, err := Play(q); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "play the queue: ") {
			t.Errorf("%+v: the error is %v, want %q in it", q, err, c.want)
		}
	}
}

func BenchmarkPlay(b *testing.B) {
	for b.Loop() {
		if _, err := Play(Queue{Policy: Fewest, Pods: 6, Concurrency: 8, Rate: 1000, Times: Times{Shape: Lognormal, P50: 20 * time.Millisecond, P99: 200 * time.Millisecond}, Balancers: 3}); err != nil {
			b.Fatal(err)
		}
	}
}
