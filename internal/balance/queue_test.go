package balance

import (
	"math"
	"testing"
	"time"
)

// mmcWait is Erlang's mean wait in the queue of an M/M/c, in units of the mean service.
func mmcWait(c int, rho float64) float64 {
	a := rho * float64(c)
	sum, term := 0.0, 1.0
	for k := range c {
		if k > 0 {
			term *= a / float64(k)
		}
		sum += term
	}
	last := term * a / float64(c) / (1 - rho)
	if c == 1 {
		last = a / (1 - rho)
	}
	return last / (sum + last) / (float64(c) * (1 - rho))
}

// TestTheory plays queues whose mean wait is known.
func TestTheory(t *testing.T) {
	mean := 10 * time.Millisecond
	for _, c := range []int{1, 2, 4, 16} {
		for _, rho := range []float64{0.3, 0.5, 0.7, 0.8} {
			q := Queue{Policy: InTurn, Pods: 1, Concurrency: c, Rate: rho * float64(c) / mean.Seconds(), Times: Times{Shape: Exponential, Mean: mean}, Requests: 1_000_000, Seed: 1}
			o, err := Play(q)
			if err != nil {
				t.Fatal(err)
			}
			want := mmcWait(c, rho) * mean.Seconds()
			if got := o.Wait.Seconds(); math.Abs(got-want) > 0.05*want+2e-6 {
				t.Errorf("M/M/%d at %v: waited %v, theory has %v", c, rho, got, want)
			}
			if math.Abs(o.Utilization-rho) > 0.01 {
				t.Errorf("M/M/%d at %v: utilization is %v", c, rho, o.Utilization)
			}
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
