// Package sizing says how much a workload should ask for, how many of it there should
// be, and which class a database needs, from what was used: percentiles over a window,
// restarts, connections, sizes. Each figure carries its reason, with the headroom that
// was put on top of what was seen.
//
// Where nothing was measured, it says what it assumes instead, and marks the figure as
// Assumed: an assumption never looks like a measurement. It knows no cluster and no
// region, and asks nobody.
package sizing

import (
	"fmt"
	"time"

	"dhow/internal/inventory"
)

// Milli are thousandths of a core.
type Milli int64

// String is as Kubernetes writes it: "250m", "2".
func (m Milli) String() string {
	if m%1000 == 0 {
		return fmt.Sprint(int64(m / 1000))
	}
	return fmt.Sprintf("%dm", int64(m))
}

// Bytes are bytes of memory or disk.
type Bytes int64

// Units of memory.
const (
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
)

// String is as Kubernetes writes it: "192Mi", "2Gi"; rounded up to whole MiB.
func (b Bytes) String() string {
	if b%GiB == 0 {
		return fmt.Sprintf("%dGi", b/GiB)
	}
	return fmt.Sprintf("%dMi", (b+MiB-1)/MiB)
}

// MarshalText writes it as String does.
func (m Milli) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalText writes it as String does.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Runtime is what a container's program runs in, as far as it matters for memory.
type Runtime string

// The runtimes that have a setting for how much memory they may take.
const (
	Unknown Runtime = ""
	Go      Runtime = "go"
	JVM     Runtime = "jvm"
	Node    Runtime = "node"
	Python  Runtime = "python"
	DotNet  Runtime = "dotnet"
)

// Resources are what a container asks for or may take; 0 is nothing said.
type Resources struct {
	CPU    Milli `json:"cpu,omitempty"`
	Memory Bytes `json:"memory,omitempty"`
}

// Container is a container of a workload as it is today.
type Container struct {
	Name string
	// Init says that it ends before the others start: it counts neither for how many pods
	// there are nor for what one asks for.
	Init    bool
	Runtime Runtime
	// Requests and Limits are today's.
	Requests, Limits Resources
	// Usage is what it took, of one container; nil without measurements.
	Usage *inventory.Usage
	// OOMKills is how often the kernel ended it for want of memory, Restarts how often it
	// was started anew for any reason, over all pods that are known.
	OOMKills, Restarts int
}

// Workload is a workload as it is today.
type Workload struct {
	Name string
	// Replicas is today's number of pods.
	Replicas int
	// MinReplicas and MaxReplicas are an autoscaler's of today; 0 without one.
	MinReplicas, MaxReplicas int
	Containers               []Container
	// Fixed says that their number is part of what it is (a StatefulSet, a DaemonSet, a
	// singleton): no autoscaler is suggested.
	Fixed bool
	// Serves says that requests come to it; Batch work is not kept available.
	Serves bool
	// Requests is how many requests a second come to all its pods together; the zero
	// value is not known.
	Requests inventory.Quantiles
}

// Policy is how much room is left. What is 0 is the default; what is out of its range is
// brought into it.
type Policy struct {
	// CPUHeadroom and MemoryHeadroom are in percent on top of what was seen.
	CPUHeadroom, MemoryHeadroom int
	// OOMHeadroom is what is put on top where the kernel has ended a container.
	OOMHeadroom int
	// CPULimit makes a CPU limit of so many percent of the request; 0 makes none.
	CPULimit int
	// Target is how busy pods are when more are started, in percent of the CPU request.
	Target int
	// Zones is how many zones the pods are spread over; a serving workload has at least
	// two pods.
	Zones int
	// MaxTimes is how many times the pods that the busiest hour needs an autoscaler may start.
	MaxTimes int
}

// The defaults of a Policy, and the bounds of all figures.
const (
	// DefaultCPUHeadroom is on top of the 95th percentile: what is above it for a
	// twentieth of the time runs on what the node has over.
	DefaultCPUHeadroom = 20
	// DefaultMemoryHeadroom is on top of the highest use: memory that is short ends a
	// container, where CPU that is short makes it slow.
	DefaultMemoryHeadroom = 25
	// DefaultOOMHeadroom is on top of the limit at which the kernel ended a container: how
	// much it would have taken, nobody saw.
	DefaultOOMHeadroom = 50
	// DefaultTarget leaves a third of a pod for the time until a new one serves.
	DefaultTarget = 65
	// DefaultMaxTimes is how many times the busiest hour's pods there may be.
	DefaultMaxTimes = 3

	// LeastCPU and LeastMemory are the least that is asked for: a probe alone takes as much.
	LeastCPU    Milli = 10
	LeastMemory       = 32 * MiB
	// MostCPU and MostMemory are of one container: more is a case for a person.
	MostCPU    Milli = 64_000
	MostMemory       = 512 * GiB
	// MostReplicas is what an autoscaler may start at most.
	MostReplicas = 200

	// AssumedCPU and AssumedMemory are asked for where nothing was measured and nothing is
	// said today.
	AssumedCPU    Milli = 100
	AssumedMemory       = 256 * MiB

	// mostHeadroom is in percent: ten times what was seen is no headroom.
	mostHeadroom = 1000
	// leastTarget and mostTarget are in percent.
	leastTarget, mostTarget = 10, 95

	// fewSamples are too few to tell a percentile by: the highest is taken.
	fewSamples = 20
	// shortWindow is too short to have seen a habit.
	shortWindow = 24 * time.Hour
)

func (p Policy) filled() Policy {
	set := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	set(&p.CPUHeadroom, DefaultCPUHeadroom)
	set(&p.MemoryHeadroom, DefaultMemoryHeadroom)
	set(&p.OOMHeadroom, DefaultOOMHeadroom)
	set(&p.Target, DefaultTarget)
	set(&p.Zones, 2)
	set(&p.MaxTimes, DefaultMaxTimes)
	within := func(v *int, low, high int) { *v = min(max(*v, low), high) }
	for _, v := range []*int{&p.CPUHeadroom, &p.MemoryHeadroom, &p.OOMHeadroom} {
		within(v, 0, mostHeadroom)
	}
	within(&p.CPULimit, 0, mostHeadroom)
	within(&p.Target, leastTarget, mostTarget)
	within(&p.Zones, 1, MostReplicas)
	within(&p.MaxTimes, 1, MostReplicas)
	return p
}

// Figure is a number's reason.
type Figure struct {
	// Reason is a sentence: what was seen, the headroom, and what bounds it.
	Reason string `json:"reason"`
	// Assumed says that nothing was measured.
	Assumed bool `json:"assumed,omitempty"`
}

// ContainerSize is what a container should ask for.
type ContainerSize struct {
	Name string `json:"name"`
	Init bool   `json:"init,omitempty"`
	// CPU is the request; CPULimit is 0 for none.
	CPU      Milli `json:"cpu"`
	CPULimit Milli `json:"cpu_limit,omitempty"`
	// Memory is the request and the limit.
	Memory Bytes `json:"memory"`
	// Env are settings for the runtime, by name; nil for none.
	Env []Setting `json:"env,omitempty"`
	// Of the figures.
	CPUWhy    Figure `json:"cpu_why"`
	LimitWhy  Figure `json:"limit_why"`
	MemoryWhy Figure `json:"memory_why"`
	// Before is what it asked for until now.
	Before Resources `json:"before"`
}

// Setting is a variable of a container's environment, and why.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// Replicas is how many pods there should be.
type Replicas struct {
	Min int    `json:"min"`
	Max int    `json:"max"`
	Why Figure `json:"why"`
}

// Autoscaler is a HorizontalPodAutoscaler by CPU.
type Autoscaler struct {
	// Utilization is in percent of the request; AverageValue is the same of one pod, which
	// stays right when a sidecar comes in beside it.
	Utilization  int   `json:"utilization"`
	AverageValue Milli `json:"average_value"`
	// DownAfter is how long load must be lower before pods are taken away.
	DownAfter time.Duration `json:"down_after"`
	Why       Figure        `json:"why"`
}

// Size is what a workload should be.
type Size struct {
	Name       string          `json:"name"`
	Containers []ContainerSize `json:"containers"`
	Replicas   Replicas        `json:"replicas"`
	// Autoscaler is nil where there should be none; NoAutoscaler then says why.
	Autoscaler   *Autoscaler `json:"autoscaler,omitempty"`
	NoAutoscaler string      `json:"no_autoscaler,omitempty"`
	// Assumed says that some figure is an assumption.
	Assumed bool `json:"assumed,omitempty"`
	// Notes are what a reader must know beside.
	Notes []string `json:"notes,omitempty"`
}

// Pod is what one pod asks for, all its containers together but those that end before the
// others start.
func (s Size) Pod() Resources {
	var sum Resources
	for _, c := range s.Containers {
		if !c.Init {
			sum.CPU += c.CPU
			sum.Memory += c.Memory
		}
	}
	return sum
}
