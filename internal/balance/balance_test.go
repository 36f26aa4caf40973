package balance

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dhow/internal/inventory"
)

func TestFit(t *testing.T) {
	const ms = time.Millisecond
	even := Traffic{Protocol: HTTP, Rate: inventory.Quantiles{P95: 100}, P50: 20 * ms, P99: 40 * ms, Longest: 8 * time.Second}
	uneven := even
	uneven.P99 = 900 * ms
	with := func(t Traffic, change func(*Traffic)) Traffic { change(&t); return t }
	for _, c := range []struct {
		name    string
		traffic Traffic
		pods    Pods
		behind  Behind
		want    map[string]any
		says    string
	}{
		{name: "uneven requests", traffic: uneven, pods: Pods{Count: 3, Zones: 3, HealthPath: "/readyz", Drains: true}, behind: ALB,
			want: map[string]any{"algorithm": LeastOutstanding, "slow": 0, "pre": 10, "grace": 25, "delay": 20, "interval": 10, "timeout": 4, "idle": 60, "keep": 65, "cross": true, "gate": true, "surge": 1}, says: "45.0 times the median"},
		{name: "alike, many pods", traffic: even, pods: Pods{Count: 20, Zones: 3}, behind: ALB, want: map[string]any{"algorithm": WeightedRandom, "anomaly": true, "surge": 5}, says: "2.0 times the median"},
		{name: "alike, few pods", traffic: even, pods: Pods{Count: 2, Zones: 3}, behind: ALB, want: map[string]any{"algorithm": LeastOutstanding, "anomaly": false}},
		{name: "warm-up", traffic: uneven, pods: Pods{Count: 4, Zones: 2, Warmup: 45 * time.Second}, behind: ALB, want: map[string]any{"algorithm": RoundRobin, "slow": 70, "minReady": 45}, says: "only round robin"},
		{name: "long warm-up", traffic: uneven, pods: Pods{Count: 4, Warmup: time.Hour}, behind: ALB, want: map[string]any{"slow": 900, "minReady": 900}},
		{name: "grpc", traffic: with(even, func(t *Traffic) { t.Protocol = GRPC }), pods: Pods{Count: 20}, behind: ALB, want: map[string]any{"algorithm": LeastOutstanding}, says: "calls last"},
		{name: "grpc inside", traffic: with(even, func(t *Traffic) { t.Protocol = GRPC }), pods: Pods{Count: 2}, behind: Service, want: map[string]any{"algorithm": Algorithm(""), "gate": false, "pre": 5 + 8}},
		{name: "sockets", traffic: with(even, func(t *Traffic) { t.Protocol = WebSocket }), pods: Pods{Count: 2}, behind: ALB, want: map[string]any{"idle": 3600, "keep": 3605}},
		{name: "sticky", traffic: with(even, func(t *Traffic) { t.Sticky = true }), pods: Pods{Count: 2}, behind: ALB, want: map[string]any{"algorithm": RoundRobin, "sticky": 3600}},
		{name: "long requests", traffic: with(even, func(t *Traffic) { t.Longest = 2 * time.Minute }), pods: Pods{Count: 2}, behind: ALB, want: map[string]any{"idle": 130, "keep": 135, "grace": 135, "pre": 130, "delay": 130}},
		{name: "server gives up first", traffic: even, pods: Pods{Count: 2, KeepAlive: 30 * time.Second}, behind: ALB, want: map[string]any{"idle": 25, "keep": 30}},
		{name: "server gives up far too early", traffic: even, pods: Pods{Count: 2, KeepAlive: 5 * time.Second}, behind: ALB, want: map[string]any{"idle": 60, "keep": 65}},
		{name: "server waits long", traffic: even, pods: Pods{Count: 2, KeepAlive: 75 * time.Second}, behind: ALB, want: map[string]any{"idle": 60, "keep": 75}},
		{name: "connections", traffic: with(even, func(t *Traffic) { t.Protocol = TCP }), pods: Pods{Count: 9, Zones: 3, Drains: true}, behind: NLB, want: map[string]any{"algorithm": Algorithm(""), "reset": true, "cross": false, "pre": 30, "idle": 350}},
		{name: "connections, few pods", traffic: even, pods: Pods{Count: 3, Zones: 3}, behind: NLB, want: map[string]any{"cross": true}},
		{name: "nothing known", pods: Pods{Count: 2, Zones: 2}, behind: ALB, want: map[string]any{"algorithm": LeastOutstanding, "pre": 25, "grace": 30, "delay": 25, "timeout": 2, "interval": 5}, says: "not measured"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Fit(c.traffic, c.pods, c.behind)
			got := map[string]any{"algorithm": s.Algorithm.Value, "anomaly": s.AnomalyMitigation.Value, "slow": s.SlowStart.Value, "pre": s.PreStop.Value, "grace": s.GracePeriod.Value, "delay": s.DeregistrationDelay.Value,
				"interval": s.HealthInterval.Value, "timeout": s.HealthTimeout.Value, "idle": s.IdleTimeout.Value, "keep": s.KeepAlive.Value, "cross": s.CrossZone.Value, "gate": s.ReadinessGate.Value, "surge": s.MaxSurge.Value,
				"sticky": s.Stickiness.Value, "reset": s.ResetOnDeregistration.Value, "minReady": s.MinReady.Value}
			for key, want := range c.want {
				if got[key] != want {
					t.Errorf("%s is %v, want %v", key, got[key], want)
				}
			}
			if !strings.Contains(s.Algorithm.Why, c.says) {
				t.Errorf("the algorithm's reason is %q, want %q in it", s.Algorithm.Why, c.says)
			}
		})
	}
}

func TestNotes(t *testing.T) {
	s := Fit(Traffic{Longest: 20 * time.Second}, Pods{Count: 2, KeepAlive: 5 * time.Second}, ALB)
	if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "raise that to 65 s") {
		t.Errorf("the notes are %q", s.Notes)
	}
	if s := Fit(Traffic{}, Pods{}, ALB); !s.Algorithm.Assumed || !s.GracePeriod.Assumed || !s.HealthPath.Assumed || !s.KeepAlive.Assumed || s.TargetType.Assumed {
		t.Errorf("what is assumed is not told: %+v", s)
	}
}

func TestAttributes(t *testing.T) {
	s := Fit(Traffic{Protocol: HTTP, P50: time.Millisecond, P99: time.Second}, Pods{Count: 2, Warmup: time.Minute}, ALB)
	got := map[string]string{}
	last := ""
	for _, a := range s.TargetGroup() {
		if a.Key <= last || a.Why == "" {
			t.Errorf("%s is out of order, or has no reason", a.Key)
		}
		got[a.Key], last = a.Value, a.Key
	}
	for key, want := range map[string]string{"load_balancing.algorithm.type": "round_robin", "slow_start.duration_seconds": "90", "deregistration_delay.timeout_seconds": "25", "stickiness.enabled": "false", "load_balancing.cross_zone.enabled": "true"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	if _, has := got["load_balancing.algorithm.anomaly_mitigation"]; has {
		t.Error("anomaly mitigation is set beside round robin, which refuses it")
	}
	if b := s.LoadBalancer(); len(b) != 1 || b[0].Value != "60" {
		t.Errorf("the balancer's attributes are %+v", b)
	}
	if s := Fit(Traffic{}, Pods{}, Service); s.TargetGroup() != nil || s.LoadBalancer() != nil {
		t.Error("a Service has attributes of a balancer")
	}
}

// TestAnyFit holds what AWS and Kubernetes demand of any settings.
func TestAnyFit(t *testing.T) {
	span := func(t *rapid.T, name string) time.Duration {
		return time.Duration(rapid.Int64Range(-int64(time.Second), int64(3*time.Hour)).Draw(t, name))
	}
	rapid.Check(t, func(t *rapid.T) {
		s := Fit(Traffic{
			Protocol: rapid.SampledFrom([]Protocol{"", HTTP, GRPC, WebSocket, TCP}).Draw(t, "protocol"), P50: span(t, "p50"), P99: span(t, "p99"), Longest: span(t, "longest"),
			Sticky: rapid.Bool().Draw(t, "sticky"), StickyFor: span(t, "sticky for"),
		}, Pods{
			Count: rapid.IntRange(-1, 500).Draw(t, "count"), Zones: rapid.IntRange(-1, 6).Draw(t, "zones"), Warmup: span(t, "warm-up"), KeepAlive: span(t, "keep-alive"), Drains: rapid.Bool().Draw(t, "drains"),
		}, rapid.SampledFrom([]Behind{ALB, NLB, Service}).Draw(t, "behind"))
		in := func(what string, v, low, high int) {
			if v < low || v > high {
				t.Fatalf("%s is %d, want %d to %d", what, v, low, high)
			}
		}
		if v := s.SlowStart.Value; v != 0 {
			in("slow start", v, 30, 900)
			if s.Algorithm.Value != RoundRobin {
				t.Fatalf("slow start with %s", s.Algorithm.Value)
			}
		}
		if s.AnomalyMitigation.Value && s.Algorithm.Value != WeightedRandom {
			t.Fatalf("anomaly mitigation with %s", s.Algorithm.Value)
		}
		in("deregistration delay", s.DeregistrationDelay.Value, 0, 3600)
		in("preStop", s.PreStop.Value, 1, s.GracePeriod.Value-1)
		in("grace period", s.GracePeriod.Value, 1, mostGrace)
		in("health check's interval", s.HealthInterval.Value, 5, 300)
		in("health check's time-out", s.HealthTimeout.Value, 2, s.HealthInterval.Value-1)
		in("threshold", s.UnhealthyThreshold.Value, 2, 10)
		in("stickiness", s.Stickiness.Value, 0, 604800)
		if s.Behind == ALB {
			in("idle time-out", s.IdleTimeout.Value, 1, 4000)
			in("keep-alive", s.KeepAlive.Value, s.IdleTimeout.Value+1, 1<<31-1)
			in("deregistration delay beside the grace period", s.DeregistrationDelay.Value, 1, s.GracePeriod.Value)
		}
		if s.MaxUnavailable.Value != 0 || s.MaxSurge.Value < 1 {
			t.Fatalf("a rollout takes pods away before there are new ones: %+v", s)
		}
		for _, why := range []string{s.Algorithm.Why, s.SlowStart.Why, s.PreStop.Why, s.GracePeriod.Why, s.DeregistrationDelay.Why, s.HealthInterval.Why, s.IdleTimeout.Why, s.KeepAlive.Why, s.CrossZone.Why, s.Stickiness.Why, s.ReadinessGate.Why, s.MaxSurge.Why} {
			if why == "" || strings.Contains(why, "%!") {
				t.Fatalf("a choice has no reason, or a broken one: %q in %+v", why, s)
			}
		}
	})
}

func TestCompare(t *testing.T) {
	traffic := Traffic{Protocol: HTTP, Rate: inventory.Quantiles{P95: 240}, P50: 20 * time.Millisecond, P99: 200 * time.Millisecond, Connections: 12}
	pods := Pods{Count: 3, Zones: 3, Concurrency: 8}
	s := Fit(traffic, pods, ALB)
	c, err := Compare(traffic, pods, Today{Policy: PerConnection, Pods: 3}, s)
	if err != nil {
		t.Fatal(err)
	}
	if c.After.P99 >= c.Before.P99 || c.After.Overloaded {
		t.Errorf("before %+v, after %+v", c.Before, c.After)
	}
	if len(c.Assumptions) != 0 || !strings.Contains(c.Text, "at 240 requests a second, one pod 2 times as slow as the others: today random per connection over 3 pods") {
		t.Errorf("it says %q, with %q", c.Text, c.Assumptions)
	}
	again, err := Compare(traffic, pods, Today{Policy: PerConnection, Pods: 3}, s)
	if err != nil || again.Text != c.Text || again.After != c.After {
		t.Errorf("again it says %q, %v", again.Text, err)
	}
	// Nothing is known, and there is one pod today.
	c, err = Compare(Traffic{}, Pods{}, Today{}, Fit(Traffic{}, Pods{}, Service))
	if err != nil || len(c.Assumptions) != 3 {
		t.Errorf("%v, with %q", err, c.Assumptions)
	}
}

// TestAnyCompare never fails, whatever is measured.
func TestAnyCompare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		traffic := Traffic{Rate: inventory.Quantiles{P95: rapid.Float64().Draw(t, "rate")}, P50: time.Duration(rapid.Int64Range(-1, int64(2*time.Hour)).Draw(t, "p50")), P99: time.Duration(rapid.Int64Range(-1, int64(2*time.Hour)).Draw(t, "p99")), Connections: rapid.IntRange(-1, 1<<40).Draw(t, "connections")}
		pods := Pods{Count: rapid.IntRange(-1, 3000).Draw(t, "count"), Zones: rapid.IntRange(-1, 6).Draw(t, "zones"), Concurrency: rapid.IntRange(-1, 1<<40).Draw(t, "concurrency")}
		behind := rapid.SampledFrom([]Behind{ALB, NLB, Service}).Draw(t, "behind")
		if _, err := compare(traffic, pods, Today{Pods: rapid.IntRange(-1, 3000).Draw(t, "today")}, Fit(traffic, pods, behind), 200); err != nil {
			t.Fatal(err)
		}
	})
}

// BenchmarkPlan plays what a plan of twenty workloads does.
func BenchmarkPlan(b *testing.B) {
	traffic := Traffic{Protocol: HTTP, Rate: inventory.Quantiles{P95: 240}, P50: 20 * time.Millisecond, P99: 200 * time.Millisecond}
	pods := Pods{Count: 3, Zones: 3, Concurrency: 8}
	for b.Loop() {
		for range 20 {
			if _, err := Compare(traffic, pods, Today{Pods: 3}, Fit(traffic, pods, ALB)); err != nil {
				b.Fatal(err)
			}
		}
	}
}
