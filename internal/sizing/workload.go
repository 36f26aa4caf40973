package sizing

import (
	"fmt"
	"math"
	"slices"
	"time"

	"dhow/internal/inventory"
)

// For says what a workload should be. It is never an error: what is not known is assumed,
// and said to be.
func For(w Workload, p Policy) Size {
	p = p.filled()
	s := Size{Name: w.Name}
	for _, c := range w.Containers {
		cs := container(c, p)
		s.Containers = append(s.Containers, cs)
		s.Assumed = s.Assumed || cs.CPUWhy.Assumed || cs.MemoryWhy.Assumed
		if c.OOMKills == 0 && c.Restarts > 0 {
			s.Notes = append(s.Notes, fmt.Sprintf("container %s was restarted %s, not for want of memory: see its last log before the move", c.Name, times(c.Restarts)))
		}
	}
	s.replicas(w, p)
	return s
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func container(c Container, p Policy) ContainerSize {
	out := ContainerSize{Name: c.Name, Init: c.Init, Before: c.Requests}
	out.CPU, out.CPUWhy = cpu(c, p)
	if p.CPULimit > 0 {
		out.CPULimit = stepCPU(float64(out.CPU) * float64(p.CPULimit) / 100)
		out.LimitWhy = Figure{Reason: fmt.Sprintf("%d%% of the request, as asked for: it is stopped for the rest of each tenth of a second once it has used that up", p.CPULimit), Assumed: out.CPUWhy.Assumed}
	} else {
		out.LimitWhy = Figure{Reason: "no CPU limit: the request keeps its share where the node is full, and where it is not, a limit only makes answers slower", Assumed: false}
	}
	out.Memory, out.MemoryWhy = memory(c, p)
	out.Env = settings(c, out)
	return out
}

// enough says whether percentiles of a measurement tell something; the text is how it was measured.
func enough(u *inventory.Usage) (ok bool, how string) {
	span := u.To.Sub(u.From)
	switch {
	case u.Samples < fewSamples && span < shortWindow:
		return false, fmt.Sprintf("the highest of %s by the %s", counted(u.Samples, "sample"), u.Source)
	case span < shortWindow:
		return false, fmt.Sprintf("the highest within %s by %s", span.Round(time.Minute), u.Source)
	}
	return true, fmt.Sprintf("over %s by %s", days(span), u.Source)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return counted(int(d.Hours()/24+0.5), "day")
}

func cpu(c Container, p Policy) (Milli, Figure) {
	if c.Usage == nil {
		if c.Requests.CPU > 0 {
			return clampCPU(c.Requests.CPU), Figure{"nothing was measured: today's request is kept", true}
		}
		if c.Limits.CPU > 0 {
			v := clampCPU(min(c.Limits.CPU, AssumedCPU))
			return v, Figure{fmt.Sprintf("nothing was measured, and nothing is asked for today: %s is assumed, within today's limit of %s", v, c.Limits.CPU), true}
		}
		return AssumedCPU, Figure{fmt.Sprintf("nothing was measured, and nothing is asked for today: %s is assumed", AssumedCPU), true}
	}
	seen, which := c.Usage.CPU.P95, "95th percentile"
	ok, how := enough(c.Usage)
	if !ok {
		seen, which = c.Usage.CPU.Max, "use"
	}
	v := stepCPU(sane(seen) * 1000 * float64(100+p.CPUHeadroom) / 100)
	reason := fmt.Sprintf("%s of %s and %d%% headroom, %s", which, cores(seen), p.CPUHeadroom, how)
	if c.Limits.CPU > 0 && sane(c.Usage.CPU.Max)*1000 >= nearLimit*float64(c.Limits.CPU) {
		// It was held back: what it would have used, nobody saw.
		if atLimit := stepCPU(float64(c.Limits.CPU) * float64(100+p.CPUHeadroom) / 100); atLimit > v {
			v = atLimit
			reason = fmt.Sprintf("its use of up to %s was held down by the limit of %s: the limit and %d%% headroom, %s", cores(c.Usage.CPU.Max), c.Limits.CPU, p.CPUHeadroom, how)
		}
	}
	if bounded := clampCPU(v); bounded != v {
		reason += fmt.Sprintf("; bounded to %s", bounded)
		v = bounded
	}
	return v, Figure{Reason: reason}
}

// nearLimit is from which part of a limit on a use counts as held down by it.
const nearLimit = 0.95

func memory(c Container, p Policy) (Bytes, Figure) {
	today := max(c.Requests.Memory, c.Limits.Memory)
	if c.OOMKills > 0 {
		at := c.Limits.Memory
		if c.Usage != nil {
			at = max(at, Bytes(sane(c.Usage.Memory.Max)))
		}
		if c.Limits.Memory == 0 {
			// Where it ended, nobody knows: the node was full.
			at = max(at, today, AssumedMemory)
		}
		v := bound(stepMemory(float64(at) * float64(100+p.OOMHeadroom) / 100))
		return v, Figure{Reason: fmt.Sprintf("the kernel ended it %s for want of memory, at %s: that and %d%% headroom; look for a leak if it grows on", times(c.OOMKills), at, p.OOMHeadroom), Assumed: c.Usage == nil && c.Limits.Memory == 0}
	}
	if c.Usage == nil {
		if today > 0 {
			return bound(stepMemory(float64(today))), Figure{"nothing was measured: the higher of today's request and limit is kept", true}
		}
		return AssumedMemory, Figure{fmt.Sprintf("nothing was measured, and nothing is asked for today: %s is assumed", AssumedMemory), true}
	}
	_, how := enough(c.Usage)
	v := stepMemory(sane(c.Usage.Memory.Max) * float64(100+p.MemoryHeadroom) / 100)
	reason := fmt.Sprintf("highest use of %s and %d%% headroom, %s", Bytes(sane(c.Usage.Memory.Max)), p.MemoryHeadroom, how)
	if b := bound(v); b != v {
		reason += fmt.Sprintf("; bounded to %s", b)
		v = b
	}
	return v, Figure{Reason: reason + "; request and limit are one, so that no pod lives on memory that nobody gave it"}
}

// sane is a measurement that can be counted with.
func sane(v float64) float64 {
	if math.IsNaN(v) || v < 0 {
		return 0
	}
	return min(v, 1e15)
}

func cores(v float64) string { return Milli(math.Ceil(sane(v) * 1000)).String() }

// stepCPU rounds thousandths of a core up to what is easily read: steps of 5 below 50, of
// 10 below 200, of 50 below 1,000, of 250 above.
func stepCPU(milli float64) Milli {
	step := 250.0
	switch {
	case milli <= 50:
		step = 5
	case milli <= 200:
		step = 10
	case milli <= 1000:
		step = 50
	}
	return Milli(math.Ceil(milli/step-slack) * step)
}

// slack keeps what is a step already from going up by one for a rounding error.
const slack = 1e-9

// stepMemory rounds bytes up: steps of 16 MiB below 256 MiB, of 64 below 1 GiB, of 256 above.
func stepMemory(bytes float64) Bytes {
	step := 256 * MiB
	switch {
	case bytes <= float64(256*MiB):
		step = 16 * MiB
	case bytes <= float64(GiB):
		step = 64 * MiB
	}
	return Bytes(math.Ceil(bytes/float64(step)-slack)) * step
}

func clampCPU(v Milli) Milli { return min(max(v, LeastCPU), MostCPU) }
func bound(v Bytes) Bytes    { return min(max(v, LeastMemory), MostMemory) }

// settings tell a runtime how much memory it has: left alone, most take the node's.
func settings(c Container, s ContainerSize) []Setting {
	mib := int64(s.Memory / MiB)
	switch c.Runtime {
	case Go:
		return []Setting{{"GOMEMLIMIT", fmt.Sprintf("%dMiB", mib*85/100), "85% of the limit: the collector works harder before the kernel ends the process"}}
	case JVM:
		return []Setting{{"JAVA_TOOL_OPTIONS", "-XX:MaxRAMPercentage=75 -XX:+ExitOnOutOfMemoryError", "three quarters of the limit for the heap, where it would be a quarter by itself; the rest is for threads and code"}}
	case Node:
		return []Setting{{"NODE_OPTIONS", fmt.Sprintf("--max-old-space-size=%d", mib*75/100), "three quarters of the limit, in MiB: without it some versions go by the node's memory"}}
	case DotNet:
		return []Setting{{"DOTNET_GCHeapHardLimitPercent", "4B", "75% of the limit, in hexadecimal, for the heap"}}
	default:
		return nil
	}
}

func (s *Size) replicas(w Workload, p Policy) {
	pod := s.Pod()
	least := 1
	if w.Serves && !w.Fixed {
		least = 2
	}
	need, why, known := needed(w, s.Containers, p)
	if w.Fixed || !w.Serves {
		n := max(1, w.Replicas)
		s.Replicas = Replicas{Min: n, Max: n, Why: Figure{Reason: "today's number: it is part of what the workload is"}}
		s.NoAutoscaler = "the number of its pods is part of what it is"
		if !w.Serves {
			s.Replicas.Why.Reason = "today's number: no requests come to it"
			s.NoAutoscaler = "no requests come to it"
		}
		return
	}
	lost := withoutZone(need, p)
	low := max(least, min(lost, MostReplicas), w.MinReplicas)
	if !known {
		low = max(low, w.Replicas)
		why = fmt.Sprintf("load is not known: today's number of %d is kept", max(1, w.Replicas))
	}
	low = min(low, MostReplicas)
	if known && lost > need {
		why += fmt.Sprintf("; %d, so that those in %s carry it when one of %d fails", lost, counted(p.Zones-1, "zone"), p.Zones)
	}
	if low == least && low > max(need, lost) {
		why += fmt.Sprintf("; %d at least, so that one may go while the other serves", least)
	} else if known && w.MinReplicas > 0 && low == w.MinReplicas && low > max(need, lost) {
		why += fmt.Sprintf("; today's autoscaler has %d at least", w.MinReplicas)
	}
	high := min(max(low*p.MaxTimes, w.MaxReplicas, low+1), MostReplicas)
	s.Replicas = Replicas{Min: low, Max: high, Why: Figure{
		Reason:  why + fmt.Sprintf("; at most %d, %s", high, upTo(p, w, high)),
		Assumed: !known}}
	s.Assumed = s.Assumed || !known
	target := pod.CPU * Milli(p.Target) / 100
	s.Autoscaler = &Autoscaler{Utilization: p.Target, AverageValue: max(1, target), DownAfter: 5 * time.Minute,
		Why: Figure{Reason: fmt.Sprintf("more pods from %d%% of the request on, so that what is left carries the load until a new one serves; fewer only after 5 minutes, so that a dip is not paid for with a start", p.Target),
			Assumed: slices.ContainsFunc(s.Containers, func(c ContainerSize) bool { return c.CPUWhy.Assumed })}}
}

// withoutZone is how many pods it takes for those of the zones that are left to carry the
// load, fully busy, when a zone fails.
func withoutZone(need int, p Policy) int {
	if p.Zones < 2 || need == 0 {
		return need
	}
	busy := float64(need) * float64(p.Target) / 100
	return max(need, int(math.Ceil(busy*float64(p.Zones)/float64(p.Zones-1)-slack)))
}

func upTo(p Policy, w Workload, high int) string {
	switch high {
	case MostReplicas:
		return "beyond which somebody should look"
	case w.MaxReplicas:
		return "as today's autoscaler has"
	}
	return fmt.Sprintf("%d times that, for an hour that was never seen", p.MaxTimes)
}

// needed is how many pods the usual load needs at the target, by the use of today's pods.
func needed(w Workload, sized []ContainerSize, p Policy) (n int, why string, known bool) {
	used, asked := 0.0, 0.0
	for i, c := range w.Containers {
		if c.Init {
			continue
		}
		if c.Usage == nil {
			return 0, "", false
		}
		seen := c.Usage.CPU.P95
		if ok, _ := enough(c.Usage); !ok {
			seen = c.Usage.CPU.Max
		}
		used += sane(seen)
		asked += float64(sized[i].CPU) / 1000
	}
	if asked == 0 {
		return 0, "", false
	}
	pods := max(1, w.Replicas)
	n = int(math.Ceil(min(used*float64(pods)/(asked*float64(p.Target)/100), 1e6) - slack))
	n = max(1, n)
	why = fmt.Sprintf("%s of today use %s each at the 95th percentile, which %s", counted(pods, "pod"), cores(used), carried(n, p.Target))
	if w.Requests.P95 > 0 {
		why += fmt.Sprintf(" (%.4g requests a second)", w.Requests.P95)
	}
	return n, why, true
}

func carried(n, target int) string {
	if n == 1 {
		return fmt.Sprintf("1 pod carries at %d%% of its request", target)
	}
	return fmt.Sprintf("%d pods carry at %d%% of their requests", n, target)
}
