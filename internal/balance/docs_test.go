package balance

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"dhow/internal/manualtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestManual keeps the page's example as it is played.
func TestManual(t *testing.T) {
	manualtest.Section(t, "../../docs/balancing.md", "internal/balance", example(t), *update)
}

func example(t *testing.T) string {
	var b strings.Builder
	b.WriteString("\n## An example\n\nFour pods that work on 8 requests each at once, of which one is twice as slow; a median of 20 ms, a slowest hundredth of 200 ms; a balancer of three nodes.\n\n")
	b.WriteString("| requests a second | policy | median | slowest hundredth | slowest thousandth | busy | busiest pod |\n|---|---|---|---|---|---|---|\n")
	for _, rate := range []float64{200, 400, 600} {
		for _, p := range []Policy{PerConnection, PerRequest, InTurn, Fewest} {
			o := play(t, Queue{Policy: p, Pods: 4, Concurrency: 8, Rate: rate, Times: Times{Shape: Lognormal, P50: 20 * time.Millisecond, P99: 200 * time.Millisecond}, Balancers: 3, Slow: 1, SlowTimes: slowTimes, Seed: seed})
			if o.Overloaded {
				fmt.Fprintf(&b, "| %.0f | %s | | | | %.0f%% | overloaded |\n", rate, p, o.Utilization*100)
				continue
			}
			fmt.Fprintf(&b, "| %.0f | %s | %s | %s | %s | %.0f%% | %.0f%% |\n", rate, p, o.P50, o.P99, o.P999, o.Utilization*100, o.Busiest*100)
		}
	}
	return b.String() + "\n"
}
