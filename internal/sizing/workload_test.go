package sizing

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dhow/internal/inventory"
)

var sunday = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// week is what a container took over a week.
func week(cpu, memory inventory.Quantiles) *inventory.Usage {
	return &inventory.Usage{CPU: cpu, Memory: memory, Samples: 2016, From: sunday.AddDate(0, 0, -7), To: sunday, Source: "Prometheus"}
}

// steady are quantiles that differ little.
func steady(v float64) inventory.Quantiles {
	return inventory.Quantiles{P50: v / 2, P90: v, P95: v, P99: v, Max: v}
}

func TestContainer(t *testing.T) {
	mib := float64(MiB)
	for _, c := range []struct {
		name       string
		in         Container
		policy     Policy
		cpu        Milli
		memory     Bytes
		cpuWhy     string
		memoryWhy  string
		assumed    bool
		limit      Milli
		env        string
		assumedMem bool
	}{
		{name: "measured", in: Container{Requests: Resources{CPU: 1000, Memory: GiB}, Usage: week(inventory.Quantiles{P50: 0.02, P95: 0.1, P99: 0.3, Max: 0.9}, steady(150*mib))},
			cpu: 120, memory: 192 * MiB, cpuWhy: "95th percentile of 100m and 20% headroom, over 7 days by Prometheus", memoryWhy: "highest use of 150Mi and 25% headroom"},
		{name: "one look", in: Container{Usage: &inventory.Usage{CPU: inventory.Quantiles{P95: 0.1, Max: 0.2}, Memory: steady(100 * mib), Samples: 2, From: sunday, To: sunday, Source: "metrics API"}},
			cpu: 250, memory: 128 * MiB, cpuWhy: "use of 200m and 20% headroom, the highest of 2 samples by the metrics API"},
		{name: "half a day", in: Container{Usage: &inventory.Usage{CPU: inventory.Quantiles{P95: 0.1, Max: 0.2}, Memory: steady(100 * mib), Samples: 200, From: sunday.Add(-12 * time.Hour), To: sunday, Source: "Prometheus"}},
			cpu: 250, memory: 128 * MiB, cpuWhy: "the highest within 12h0m0s by Prometheus"},
		{name: "held down by its limit", in: Container{Limits: Resources{CPU: 200}, Usage: week(inventory.Quantiles{P50: 0.1, P95: 0.12, P99: 0.2, Max: 0.2}, steady(100*mib))},
			cpu: 250, memory: 128 * MiB, cpuWhy: "held down by the limit of 200m"},
		{name: "killed for memory", in: Container{OOMKills: 3, Limits: Resources{Memory: 512 * MiB}, Usage: week(steady(0.1), steady(500*mib))},
			cpu: 120, memory: 768 * MiB, cpuWhy: "95th percentile", memoryWhy: "the kernel ended it 3 times for want of memory, at 512Mi"},
		{name: "killed, nothing else known", in: Container{OOMKills: 1}, cpu: 100, memory: 384 * MiB, memoryWhy: "the kernel ended it once", assumed: true, assumedMem: true},
		{name: "nothing known", in: Container{}, cpu: 100, memory: 256 * MiB, cpuWhy: "100m is assumed", memoryWhy: "256Mi is assumed", assumed: true, assumedMem: true},
		{name: "nothing measured", in: Container{Requests: Resources{CPU: 50, Memory: 64 * MiB}, Limits: Resources{CPU: 1000, Memory: 192 * MiB}}, cpu: 50, memory: 192 * MiB, cpuWhy: "today's request is kept", memoryWhy: "the higher of today's request and limit is kept", assumed: true, assumedMem: true},
		{name: "only a limit", in: Container{Limits: Resources{CPU: 50}}, cpu: 50, memory: 256 * MiB, cpuWhy: "within today's limit of 50m", assumed: true, assumedMem: true},
		{name: "does nothing", in: Container{Usage: week(inventory.Quantiles{}, inventory.Quantiles{})}, cpu: LeastCPU, memory: LeastMemory, cpuWhy: "bounded to 10m", memoryWhy: "bounded to 32Mi"},
		{name: "enormous", in: Container{Usage: week(steady(1e9), steady(1e18))}, cpu: MostCPU, memory: MostMemory, cpuWhy: "bounded to 64"},
		{name: "not a number", in: Container{Usage: week(steady(math.NaN()), steady(math.Inf(-1)))}, cpu: LeastCPU, memory: LeastMemory},
		{name: "with a limit", in: Container{Usage: week(steady(0.5), steady(100*mib))}, policy: Policy{CPULimit: 200}, cpu: 600, memory: 128 * MiB, limit: 1250},
		{name: "other headroom", in: Container{Usage: week(steady(0.5), steady(100*mib))}, policy: Policy{CPUHeadroom: 100, MemoryHeadroom: 100}, cpu: 1000, memory: 208 * MiB},
		{name: "go", in: Container{Runtime: Go, Usage: week(steady(0.1), steady(150*mib))}, cpu: 120, memory: 192 * MiB, env: "GOMEMLIMIT=163MiB"},
		{name: "java", in: Container{Runtime: JVM, Usage: week(steady(0.1), steady(700*mib))}, cpu: 120, memory: 896 * MiB, env: "JAVA_TOOL_OPTIONS=-XX:MaxRAMPercentage=75 -XX:+ExitOnOutOfMemoryError"},
		{name: "node", in: Container{Runtime: Node, Usage: week(steady(0.1), steady(150*mib))}, cpu: 120, memory: 192 * MiB, env: "NODE_OPTIONS=--max-old-space-size=144"},
		{name: "dotnet", in: Container{Runtime: DotNet}, cpu: 100, memory: 256 * MiB, env: "DOTNET_GCHeapHardLimitPercent=4B", assumed: true, assumedMem: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := For(Workload{Name: "w", Replicas: 1, Containers: []Container{c.in}}, c.policy).Containers[0]
			if s.CPU != c.cpu || s.Memory != c.memory || s.CPULimit != c.limit {
				t.Errorf("it is %s with the limit %s, and %s; want %s, %s and %s", s.CPU, s.CPULimit, s.Memory, c.cpu, c.limit, c.memory)
			}
			if !strings.Contains(s.CPUWhy.Reason, c.cpuWhy) || !strings.Contains(s.MemoryWhy.Reason, c.memoryWhy) || s.LimitWhy.Reason == "" {
				t.Errorf("the reasons are %q and %q", s.CPUWhy.Reason, s.MemoryWhy.Reason)
			}
			if s.CPUWhy.Assumed != c.assumed || s.MemoryWhy.Assumed != c.assumedMem {
				t.Errorf("assumed: %v and %v", s.CPUWhy.Assumed, s.MemoryWhy.Assumed)
			}
			env := ""
			for _, e := range s.Env {
				env += e.Name + "=" + e.Value
				if e.Why == "" {
					t.Errorf("%s has no reason", e.Name)
				}
			}
			if env != c.env {
				t.Errorf("the environment is %q, want %q", env, c.env)
			}
		})
	}
}

func TestReplicas(t *testing.T) {
	busy := func(cores float64) []Container {
		return []Container{{Name: "app", Usage: week(steady(cores), steady(float64(100*MiB)))}}
	}
	for _, c := range []struct {
		name     string
		in       Workload
		policy   Policy
		min, max int
		scales   bool
		assumed  bool
		says     string
	}{
		{name: "busy, three zones", in: Workload{Replicas: 6, Serves: true, Containers: busy(0.5)}, policy: Policy{Zones: 3}, min: 8, max: 24, scales: true, says: "6 pods of today use 500m each at the 95th percentile, which 8 pods carry at 65% of their requests"},
		{name: "busy, two zones", in: Workload{Replicas: 6, Serves: true, Containers: busy(0.5)}, policy: Policy{Zones: 2}, min: 11, max: 33, scales: true, says: "11, so that those in 1 zone carry it when one of 2 fails"},
		{name: "idle", in: Workload{Replicas: 1, Serves: true, Containers: busy(0.001)}, policy: Policy{Zones: 3}, min: 2, max: 6, scales: true, says: "2 at least, so that one may go while the other serves"},
		{name: "not measured", in: Workload{Replicas: 3, Serves: true, Containers: []Container{{Name: "app"}}}, min: 3, max: 9, scales: true, assumed: true, says: "today's number of 3 is kept"},
		{name: "a singleton that serves", in: Workload{Replicas: 1, Serves: true, Containers: []Container{{Name: "app"}}}, min: 2, max: 6, scales: true, assumed: true},
		{name: "today's autoscaler", in: Workload{Replicas: 2, MinReplicas: 4, MaxReplicas: 40, Serves: true, Containers: busy(0.001)}, min: 4, max: 40, scales: true, says: "today's autoscaler has 4 at least"},
		{name: "fixed", in: Workload{Replicas: 3, Serves: true, Fixed: true, Containers: busy(0.5)}, min: 3, max: 3, says: "part of what the workload is"},
		{name: "a job", in: Workload{Replicas: 1, Containers: busy(0.5)}, min: 1, max: 1, says: "no requests come to it"},
		{name: "no pods today", in: Workload{Fixed: true}, min: 1, max: 1},
		{name: "far too many", in: Workload{Replicas: 5000, Serves: true, Containers: busy(2)}, min: MostReplicas, max: MostReplicas, scales: true, says: "beyond which somebody should look"},
		{name: "a sidecar that was not measured", in: Workload{Replicas: 2, Serves: true, Containers: append(busy(0.5), Container{Name: "proxy"})}, min: 2, max: 6, scales: true, assumed: true},
		{name: "a container that ends before", in: Workload{Replicas: 6, Serves: true, Containers: append(busy(0.5), Container{Name: "migrate", Init: true})}, policy: Policy{Zones: 3}, min: 8, max: 24, scales: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := For(c.in, c.policy)
			if s.Replicas.Min != c.min || s.Replicas.Max != c.max {
				t.Errorf("it is %d to %d, want %d to %d: %s", s.Replicas.Min, s.Replicas.Max, c.min, c.max, s.Replicas.Why.Reason)
			}
			if (s.Autoscaler != nil) != c.scales || (s.NoAutoscaler == "") != c.scales {
				t.Errorf("its autoscaler is %+v, %q", s.Autoscaler, s.NoAutoscaler)
			}
			if !strings.Contains(s.Replicas.Why.Reason, c.says) || s.Replicas.Why.Assumed != c.assumed {
				t.Errorf("the reason is %q, assumed %v", s.Replicas.Why.Reason, s.Replicas.Why.Assumed)
			}
		})
	}
	s := For(Workload{Name: "w", Replicas: 6, Serves: true, Containers: busy(0.5)}, Policy{Zones: 3})
	if a := s.Autoscaler; a.Utilization != 65 || a.AverageValue != 390 || a.DownAfter != 5*time.Minute {
		t.Errorf("the autoscaler is %+v", a)
	}
}

func TestNotes(t *testing.T) {
	s := For(Workload{Containers: []Container{{Name: "a", Restarts: 4}, {Name: "b", Restarts: 2, OOMKills: 2}}}, Policy{})
	if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "container a was restarted 4 times") || !s.Assumed {
		t.Errorf("the notes are %q", s.Notes)
	}
}

func TestUnits(t *testing.T) {
	for v, want := range map[fmt.Stringer]string{Milli(250): "250m", Milli(2000): "2", 192 * MiB: "192Mi", 2 * GiB: "2Gi", Bytes(1): "1Mi"} {
		if v.String() != want {
			t.Errorf("%v is %q, want %q", v, v, want)
		}
	}
}

func quantiles(t *rapid.T, name string, most float64) inventory.Quantiles {
	max := rapid.Float64Range(0, most).Draw(t, name)
	at := func(p string) float64 { return max * rapid.Float64Range(0, 1).Draw(t, name+p) }
	p99 := at("p99")
	p95 := min(p99, at("p95"))
	return inventory.Quantiles{P50: p95 / 2, P90: p95, P95: p95, P99: p99, Max: max}
}

// TestAnyWorkload holds that sizes cover what was seen within their bounds, that a use
// that grows never makes them smaller, and that assumptions are told.
func TestAnyWorkload(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := Workload{Replicas: rapid.IntRange(0, 300).Draw(t, "replicas"), MinReplicas: rapid.IntRange(0, 20).Draw(t, "least"), MaxReplicas: rapid.IntRange(0, 300).Draw(t, "most"),
			Serves: rapid.Bool().Draw(t, "serves"), Fixed: rapid.Bool().Draw(t, "fixed")}
		for range rapid.IntRange(0, 3).Draw(t, "containers") {
			c := Container{Runtime: rapid.SampledFrom([]Runtime{Unknown, Go, JVM, Node, Python, DotNet}).Draw(t, "runtime"), OOMKills: rapid.IntRange(0, 2).Draw(t, "kills"),
				Requests: Resources{CPU: Milli(rapid.Int64Range(0, 8000).Draw(t, "cpu")), Memory: Bytes(rapid.Int64Range(0, int64(32*GiB)).Draw(t, "memory"))},
				Limits:   Resources{CPU: Milli(rapid.Int64Range(0, 8000).Draw(t, "cpu limit")), Memory: Bytes(rapid.Int64Range(0, int64(32*GiB)).Draw(t, "memory limit"))}}
			if rapid.Bool().Draw(t, "measured") {
				c.Usage = week(quantiles(t, "cpu", 60), quantiles(t, "memory", float64(300*GiB)))
			}
			w.Containers = append(w.Containers, c)
		}
		p := Policy{Zones: rapid.IntRange(-1, 6).Draw(t, "zones"), Target: rapid.IntRange(-5, 200).Draw(t, "target"), CPULimit: rapid.IntRange(-5, 400).Draw(t, "limit")}
		s := For(w, p)
		for i, c := range w.Containers {
			got := s.Containers[i]
			if got.CPU < LeastCPU || got.CPU > MostCPU || got.Memory < LeastMemory || got.Memory > MostMemory {
				t.Fatalf("%+v is out of its bounds", got)
			}
			if (c.Usage == nil) != got.CPUWhy.Assumed {
				t.Fatalf("assumed is %v with %+v", got.CPUWhy.Assumed, c.Usage)
			}
			if got.CPULimit != 0 && p.CPULimit <= 0 {
				t.Fatalf("a limit that nobody asked for: %+v", got)
			}
			for _, f := range []Figure{got.CPUWhy, got.MemoryWhy, got.LimitWhy} {
				if f.Reason == "" || strings.Contains(f.Reason, "%!") {
					t.Fatalf("a reason is %q", f.Reason)
				}
			}
			if c.Usage == nil {
				continue
			}
			if float64(got.Memory) < c.Usage.Memory.Max || float64(got.CPU) < c.Usage.CPU.P95*1000 && got.CPU < MostCPU {
				t.Fatalf("%+v does not cover %+v", got, c.Usage)
			}
			more := c
			u := *c.Usage
			u.CPU.P95, u.CPU.Max, u.Memory.Max = u.CPU.P95*1.5, u.CPU.Max*1.5, u.Memory.Max*1.5
			more.Usage = &u
			grown := For(Workload{Containers: []Container{more}}, p).Containers[0]
			if grown.CPU < got.CPU || grown.Memory < got.Memory {
				t.Fatalf("more use made %+v of %+v", grown, got)
			}
		}
		r := s.Replicas
		if r.Min < 1 || r.Max < r.Min || r.Max > max(MostReplicas, w.Replicas) {
			t.Fatalf("the replicas are %+v", r)
		}
		if a := s.Autoscaler; a != nil && (r.Min < 2 || a.AverageValue < 1 || a.Utilization < leastTarget || a.Utilization > mostTarget) {
			t.Fatalf("the autoscaler is %+v with %+v", a, r)
		}
	})
}
