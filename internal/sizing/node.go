package sizing

import (
	"fmt"
	"math"
)

// Nodes is which machines a set of pods needs.
type Nodes struct {
	Class string `json:"class"`
	VCPU  int    `json:"vcpu"`
	// Memory is of one.
	Memory Bytes  `json:"memory"`
	Count  int    `json:"count"`
	Why    Figure `json:"why"`
}

const (
	// nodeFull is how full nodes are planned to be, in percent: what is left takes the pods
	// of a rollout, and of a node that is replaced.
	nodeFull = 75
	// systemCPU and systemMemory are what each node needs for itself and for what runs on
	// every node: kubelet, network, logs.
	systemCPU    Milli = 300
	systemMemory       = GiB
	// systemPods are how many of a node's pods are the system's own.
	systemPods = 6
	// machineWeight is what a machine costs beside its size, in cores: somebody watches it.
	machineWeight = 0.01
	// maxNodes is where somebody should look.
	maxNodes = 5000
)

// ForNodes says which machines take so many pods that together ask for so much, over so
// many zones: machines of one class, of which each zone has as many as every other, in
// the fewest that are not larger than they must be. An error says that no class will do.
func ForNodes(asked Resources, pods, zones int, arm bool, offered Offered) (Nodes, error) {
	zones = max(1, zones)
	all, err := offers("", offered)
	if err != nil {
		return Nodes{}, fmt.Errorf("size the nodes: %w", err)
	}
	var best Nodes
	bestCost := math.Inf(1)
	for _, c := range all {
		if c.Burst || c.ARM != arm {
			continue
		}
		cpu, memory := Milli(c.VCPU)*1000-systemCPU, c.Memory-systemMemory
		if cpu <= 0 || memory <= 0 {
			continue
		}
		n := max(ceil(float64(asked.CPU)*100/nodeFull, float64(cpu)), ceil(float64(asked.Memory)*100/nodeFull, float64(memory)), ceil(float64(pods), float64(podsOn(c))), zones)
		n = (n + zones - 1) / zones * zones
		// What is bought in all; of equals the one with fewer machines.
		weight := float64(n) * (c.weight() + machineWeight)
		if n <= maxNodes && weight < bestCost-slack {
			bestCost = weight
			best = Nodes{Class: c.Name, VCPU: c.VCPU, Memory: c.Memory, Count: n}
		}
	}
	if best.Class == "" {
		return Nodes{}, fmt.Errorf("size the nodes: no class takes %d pods that ask for %s of CPU and %s of memory in fewer than %d nodes: split the cluster", pods, asked.CPU, asked.Memory, maxNodes)
	}
	best.Why = Figure{Reason: fmt.Sprintf("%s ask for %s of CPU and %s of memory; the nodes are %d%% full with that, the rest takes a rollout's pods and those of a node that is replaced; as many in each of %s", counted(pods, "pod"), asked.CPU, asked.Memory, nodeFull, counted(zones, "zone"))}
	return best, nil
}

// podsOn is how many pods of ours a node takes: as many as its network interfaces have
// addresses, as the VPC CNI gives them without delegated prefixes.
func podsOn(c Class) int {
	pods := 110
	switch {
	case c.VCPU < 2:
		pods = 8
	case c.VCPU < 4:
		pods = 29
	case c.VCPU < 16:
		pods = 58
	}
	return max(1, pods-systemPods)
}

func ceil(v, by float64) int { return int(min(math.Ceil(v/by-slack), 1e9)) }
