package assess

import (
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"dhow/internal/inventory"
)

const (
	// wasted is how many times its highest use a container may ask for.
	wasted = 4.0
	// leastCPU and leastMemory are below what a request is too small to save anything: a
	// tenth of a core, and 128 MiB.
	leastCPU    = 0.1
	leastMemory = 128 << 20
	// idleCPU is the use, in cores, of a container that does nothing: probes take a thousandth.
	idleCPU = 0.003
	// enoughSamples are from how many on their absence of load tells something.
	enoughSamples = 3
)

// efficiencyRules are about what is asked for and what is used.
func efficiencyRules() []Rule {
	const g = GroupEfficiency
	return []Rule{
		{ID: "larger-than-nodes", Group: g, Severity: High, Live: true, Title: "A pod asks for more than any node has.",
			Why: "It never starts.", Fix: "Lower its requests, or add a larger node.", check: largerThanNodes},
		{ID: "larger-than-quota", Group: g, Severity: High, Title: "The workloads of a namespace ask for more than its quota.",
			Why: "The last of them get no pods, and a rollout finds no room.", Fix: "Raise the quota, or lower requests or replicas.", check: largerThanQuota},
		{ID: "undersized", Group: g, Severity: High, Live: true, Title: "A container uses nearly all the memory that it may, or more than it asks for.",
			Why: "The kernel ends it under a little more load, or the node runs short of memory that nobody asked for.", Fix: "Raise its request and limit to its highest use and a quarter more.", check: undersized},
		{ID: "no-requests", Group: g, Severity: Medium, Title: "A container asks for no processor or no memory.",
			Why: "The scheduler packs nodes too full, and autoscaling by utilisation can not work.", Fix: "Set requests to what it uses.", check: noRequests},
		{ID: "no-limits", Group: g, Severity: Medium, Title: "A container has no bound of memory.",
			Why: "One that leaks takes the node's memory, and the kernel ends others.", Fix: "Set a memory limit.", check: noLimits},
		{ID: "oversized", Group: g, Severity: Low, Live: true, Title: "A container asks for several times what it uses.",
			Why: "The difference is paid for and stands idle.", Fix: "Lower its request to its highest use and a quarter more.", check: oversized},
		{ID: "idle", Group: g, Severity: Low, Live: true, Title: "A workload does nothing.",
			Why: "Its pods are paid for, kept up to date and attacked for nothing.", Fix: "Ask whose it is, and remove it.", check: idle},
		{ID: "no-quota", Group: g, Severity: Low, Title: "A namespace has no quota, or no default sizes for containers.",
			Why: "A mistyped number of replicas takes the whole cluster.", Fix: "Add a ResourceQuota and a LimitRange.", check: noQuota},
		{ID: "limit-far-above-request", Group: g, Severity: Low, Title: "A container may take many times the memory that it asks for.",
			Why: "The scheduler counts the request: pods that grow together take the node down.", Fix: "Bring the memory request near the limit.", check: limitFarAbove},
		{ID: "throttled", Group: g, Severity: Low, Title: "A container's bound of processor time is tiny.",
			Why: "It is stopped for most of each tenth of a second: answers and starts take several times as long.", Fix: "Raise the CPU limit, or remove it and keep the request.", check: throttled},
		{ID: "keeps-its-node", Group: g, Severity: Low, Title: "A pod forbids that its node is taken away.",
			Why: "A node that is nearly empty is kept and paid for.", Fix: "Remove the annotation, and give the pods a PodDisruptionBudget.", check: keepsItsNode},
		{ID: "scaled-to-nothing", Group: g, Severity: Low, Title: "A workload has no pods by its own manifest.",
			Why: "It looks as if it were there; what calls it fails.", Fix: "Remove it, or give it replicas.", check: scaledToNothing},
	}
}

func noRequests(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		have := p.defaults[w.Namespace]
		asks := func(name corev1.ResourceName, byDefault bool) bool {
			request, limit := c.Resources.Requests[name], c.Resources.Limits[name]
			if pod := w.Template.Spec.Resources; pod != nil {
				q := pod.Requests[name]
				byDefault = byDefault || !q.IsZero()
			}
			return byDefault || !request.IsZero() || !limit.IsZero()
		}
		var facts []string
		if !asks(corev1.ResourceCPU, have.cpu) {
			facts = append(facts, "it asks for no processor")
		}
		if !asks(corev1.ResourceMemory, have.memory) {
			facts = append(facts, "it asks for no memory")
		}
		if c.Init || len(facts) == 0 {
			return
		}
		f := p.at(w.Object, c.Path+".resources.requests", facts...)
		if c.Usage != nil {
			f.set(c.Path+".resources.requests.cpu", cpuText(c.Usage.CPU.P95*1.25)).set(c.Path+".resources.requests.memory", memoryText(c.Usage.Memory.Max*1.25))
		}
	})
}

func cpuText(cores float64) string { return fmt.Sprintf("%dm", max(10, int64(cores*1000))) }
func memoryText(b float64) string  { return fmt.Sprintf("%dMi", max(16, int64(b)>>20+1)) }

func noLimits(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		q := c.Resources.Limits[corev1.ResourceMemory]
		if pod := w.Template.Spec.Resources; pod != nil && q.IsZero() {
			q = pod.Limits[corev1.ResourceMemory]
		}
		if c.Init || !q.IsZero() || p.defaults[w.Namespace].memoryLimit {
			return
		}
		f := p.at(w.Object, c.Path+".resources.limits", "it has no memory limit")
		if c.Usage != nil {
			f.set(c.Path+".resources.limits.memory", memoryText(c.Usage.Memory.Max*1.5))
		}
	})
}

func noQuota(p *pass) {
	for o := range inventory.Of[*corev1.Namespace](p.inv) {
		_, sizes := p.defaults[o.Name]
		var facts []string
		if len(p.quotas[o.Name]) == 0 {
			facts = append(facts, "it has no ResourceQuota")
		}
		if !sizes {
			facts = append(facts, "it has no LimitRange")
		}
		if len(facts) > 0 && len(p.workloads[o.Name]) > 0 {
			p.at(o, "metadata.name", facts...)
		}
	}
}

// manyTimes is how many times its request a memory limit may be.
const manyTimes = 8

func limitFarAbove(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		request, limit := c.Resources.Requests[corev1.ResourceMemory], c.Resources.Limits[corev1.ResourceMemory]
		if !request.IsZero() && limit.Value() > manyTimes*request.Value() {
			p.at(w.Object, c.Path+".resources.limits.memory", "it asks for "+request.String()+" and may take "+limit.String())
		}
	})
}

// tinyCPU is a limit below which a program is stopped most of the time, in thousandths.
const tinyCPU = 100

func throttled(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		limit := c.Resources.Limits[corev1.ResourceCPU]
		if !c.Init && w.Serves && !limit.IsZero() && limit.MilliValue() < tinyCPU {
			p.at(w.Object, c.Path+".resources.limits.cpu", "the limit is "+limit.String()).set(c.Path+".resources.limits.cpu", nil)
		}
	})
}

func keepsItsNode(p *pass) {
	for _, w := range p.inv.Workloads {
		for name, value := range map[string]string{"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"} {
			if w.Template.Annotations[name] == value {
				at := inventory.KeyPath(w.MetaPath+".annotations", name)
				p.at(w.Object, at, name+" is "+value).set(at, nil)
			}
		}
	}
}

func scaledToNothing(p *pass) {
	for _, w := range p.inv.Workloads {
		if w.Serves && w.ReplicasSet && w.Replicas == 0 && (w.Kind == "Deployment" || w.Kind == "StatefulSet") && len(w.Scalers) == 0 {
			p.at(w.Object, "spec.replicas", "replicas is 0")
		}
	}
}

// asked is what one pod of a workload asks for.
func asked(w *inventory.Workload, name corev1.ResourceName) resource.Quantity {
	var sum resource.Quantity
	for n := range w.Containers {
		c := &w.Containers[n]
		if c.Init {
			continue
		}
		q := c.Resources.Requests[name]
		if q.IsZero() {
			q = c.Resources.Limits[name]
		}
		sum.Add(q)
	}
	return sum
}

func largerThanNodes(p *pass) {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		var most resource.Quantity
		for _, n := range inventory.Of[*corev1.Node](p.inv) {
			if q := n.Status.Allocatable[name]; q.Cmp(most) > 0 {
				most = q
			}
		}
		if most.IsZero() {
			continue
		}
		p.pods(func(w *inventory.Workload, _ *corev1.PodSpec) {
			if q := asked(w, name); q.Cmp(most) > 0 {
				p.at(w.Object, w.SpecPath+".containers", fmt.Sprintf("a pod asks for %s of %s, and the largest node has %s", q.String(), name, most.String())).about(string(name))
			}
		})
	}
}

func largerThanQuota(p *pass) {
	for o, quota := range inventory.Of[*corev1.ResourceQuota](p.inv) {
		if quota.Spec.ScopeSelector != nil || len(quota.Spec.Scopes) > 0 {
			continue
		}
		for _, pair := range [][2]corev1.ResourceName{{corev1.ResourceRequestsCPU, corev1.ResourceCPU}, {corev1.ResourceRequestsMemory, corev1.ResourceMemory}} {
			hard, ok := quota.Spec.Hard[pair[0]]
			if !ok {
				continue
			}
			var sum resource.Quantity
			for _, w := range p.workloads[o.Namespace] {
				if !w.Serves {
					continue
				}
				one := asked(w, pair[1])
				pods := int64(w.Replicas)
				for _, s := range w.Scalers {
					if h, ok := s.Content.(*autoscalingv2.HorizontalPodAutoscaler); ok && h.Spec.MinReplicas != nil {
						pods = max(pods, int64(*h.Spec.MinReplicas))
					}
				}
				one.Mul(pods)
				sum.Add(one)
			}
			if sum.Cmp(hard) > 0 {
				p.at(o, inventory.KeyPath("spec.hard", string(pair[0])), fmt.Sprintf("the workloads ask for %s, and the quota is %s", sum.String(), hard.String()))
			}
		}
	}
}

func undersized(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		if c.Usage == nil {
			return
		}
		used := c.Usage.Memory.Max
		request, limit := c.Resources.Requests[corev1.ResourceMemory], c.Resources.Limits[corev1.ResourceMemory]
		at := c.Path + ".resources"
		const nearly, above = 0.9, 1.25
		switch {
		case !limit.IsZero() && used > nearly*float64(limit.Value()):
			p.at(w.Object, at+".limits.memory", fmt.Sprintf("it used %s of %s", memoryText(used), limit.String())).set(at+".limits.memory", memoryText(used*above))
		case !request.IsZero() && c.Usage.Memory.P95 > above*float64(request.Value()):
			p.at(w.Object, at+".requests.memory", fmt.Sprintf("it asks for %s and uses %s", request.String(), memoryText(c.Usage.Memory.P95))).set(at+".requests.memory", memoryText(used*above))
		}
	})
}

func oversized(p *pass) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		if c.Usage == nil || c.Init {
			return
		}
		cpu, memory := c.Resources.Requests[corev1.ResourceCPU], c.Resources.Requests[corev1.ResourceMemory]
		at := c.Path + ".resources.requests"
		if have := cpu.AsApproximateFloat64(); have > leastCPU && have > wasted*c.Usage.CPU.Max {
			p.at(w.Object, at+".cpu", fmt.Sprintf("it asks for %s and used at most %s", cpu.String(), cpuText(c.Usage.CPU.Max))).set(at+".cpu", cpuText(c.Usage.CPU.Max*1.25))
		}
		if have := memory.AsApproximateFloat64(); have > leastMemory && have > wasted*c.Usage.Memory.Max {
			p.at(w.Object, at+".memory", fmt.Sprintf("it asks for %s and used at most %s", memory.String(), memoryText(c.Usage.Memory.Max))).set(at+".memory", memoryText(c.Usage.Memory.Max*1.25))
		}
	})
}

func idle(p *pass) {
	called := map[inventory.Ref]bool{}
	for _, c := range p.inv.Calls {
		if c.To != nil && !c.Allowed {
			called[*c.To] = true
		}
	}
	p.pods(func(w *inventory.Workload, _ *corev1.PodSpec) {
		if !w.Serves || called[w.Ref] || len(p.graph.byPods[w.Ref]) > 0 || w.Kind == "DaemonSet" {
			return
		}
		known := 0
		for n := range w.Containers {
			c := &w.Containers[n]
			if c.Init {
				continue
			}
			if c.Usage == nil || c.Usage.CPU.Max > idleCPU || c.Usage.Samples < enoughSamples {
				return
			}
			known++
		}
		if known > 0 {
			p.at(w.Object, "metadata.name", "its containers used less than "+cpuAtMost(w), "nothing is known to call it")
		}
	})
}

func cpuAtMost(w *inventory.Workload) string {
	var all []float64
	for n := range w.Containers {
		if u := w.Containers[n].Usage; u != nil {
			all = append(all, u.CPU.Max)
		}
	}
	return fmt.Sprintf("%.4f cores", slices.Max(all)+0.0001)
}
