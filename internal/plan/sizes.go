package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"dhow/internal/inventory"
	"dhow/internal/region"
	"dhow/internal/sizing"
)

// storeSize is the size of a database server.
type storeSize struct {
	class      string
	storageGiB int
	extraIOPS  int
	extraMBps  int
	nodes      int
	standby    bool
	measured   bool
	version    string
	why        string
	notes      []string
}

// sizeAll sizes what moves: from what was used, where that is known.
func (m *maker) sizeAll() error {
	measured := 0
	for _, u := range m.units {
		if !u.moves() {
			continue
		}
		if m.sizeUnit(u) {
			measured++
		}
	}
	if measured == 0 && len(m.units) > 0 {
		m.decide(Decision{What: "nothing is known of what the workloads use: their sizes are what the source asks for, or assumed",
			Do: "plan again with --context and --prometheus, for percentiles over a week; until then watch the first days, and correct the requests"})
	}
	for _, s := range m.stores {
		if s.moves {
			m.sizeStore(s)
		}
	}
	return nil
}

// sizeUnit says whether it was measured.
func (m *maker) sizeUnit(u *unit) bool {
	w := sizing.Workload{Name: u.name, Replicas: int(u.w.Replicas), Serves: u.w.Serves && !u.runsJobs(), Fixed: u.w.Kind == "StatefulSet" || u.w.Kind == "DaemonSet" || u.runsJobs()}
	for _, o := range u.w.Scalers {
		if h, ok := o.Content.(*autoscalingv2.HorizontalPodAutoscaler); ok {
			w.MaxReplicas, w.MinReplicas = int(h.Spec.MaxReplicas), 1
			if h.Spec.MinReplicas != nil {
				w.MinReplicas = int(*h.Spec.MinReplicas)
			}
		}
	}
	if t := m.traffic(u); t.RequestsPerSecond > 0 {
		r := t.RequestsPerSecond
		w.Requests = inventory.Quantiles{P50: r, P90: r, P95: r, P99: r, Max: r}
	}
	for _, b := range u.containers {
		w.Containers = append(w.Containers, m.sizingContainer(u, b))
	}
	s := sizing.For(w, sizing.Policy{Zones: len(m.home().Zones)})
	measured := false
	for i, b := range u.containers {
		b.size = s.Containers[i]
		measured = measured || !b.size.MemoryWhy.Assumed
		for _, e := range b.size.Env {
			if !slices.ContainsFunc(b.env, func(v corev1.EnvVar) bool { return v.Name == e.Name }) {
				b.env = append(b.env, corev1.EnvVar{Name: e.Name, Value: e.Value})
				u.change(e.Name+" of "+b.name, "not set", e.Value, e.Why)
			}
		}
	}
	u.scaling = Scaling{Least: int32(s.Replicas.Min), Most: int32(s.Replicas.Max), Why: s.Replicas.Why.Reason}
	if u.w.Serves && !u.runsJobs() && u.w.Kind != "StatefulSet" && u.w.Kind != "DaemonSet" && u.scaling.Least < m.o.Goals.Replicas {
		u.scaling.Least = m.o.Goals.Replicas
		u.scaling.Why += fmt.Sprintf("; the goals ask for %d at least", m.o.Goals.Replicas)
	}
	if most := m.o.Goals.MostReplicas; most > 0 && u.scaling.Most > most && !w.Fixed {
		u.scaling.Most = most
		u.scaling.Why += fmt.Sprintf("; the goals allow %d at most", most)
	}
	u.scaling.Most = max(u.scaling.Most, u.scaling.Least)
	if a := s.Autoscaler; a != nil && u.scaling.Most > u.scaling.Least {
		u.scaling.CPUMilli = int64(a.AverageValue)
		u.scaling.Why += "; " + a.Why.Reason
	} else if s.NoAutoscaler != "" {
		u.scaling.Why += "; " + s.NoAutoscaler
	}
	if u.w.Kind == "Deployment" && u.w.Replicas != u.scaling.Least {
		u.change("replicas", fmt.Sprint(u.w.Replicas), fmt.Sprint(u.scaling.Least), "whatever ends a single pod, a rollout, a node or a mistake, is an outage")
	}
	return measured
}

func (m *maker) sizingContainer(u *unit, b *box) sizing.Container {
	c := sizing.Container{Name: b.name, Init: b.c.Init && !b.c.Sidecar, Runtime: runtimeOf(b), Usage: b.c.Usage, Requests: resources(b.c.Resources.Requests), Limits: resources(b.c.Resources.Limits)}
	for _, p := range u.w.Pods {
		for _, s := range p.Containers {
			if s.Name != b.name {
				continue
			}
			c.Restarts += int(s.Restarts)
			if s.OOM {
				c.OOMKills++
			}
		}
	}
	return c
}

func resources(l corev1.ResourceList) sizing.Resources {
	return sizing.Resources{CPU: sizing.Milli(l.Cpu().MilliValue()), Memory: sizing.Bytes(l.Memory().Value())}
}

// runtimeOf is what a container's program runs in, as far as its variables tell.
func runtimeOf(b *box) sizing.Runtime {
	for _, known := range []struct {
		prefixes []string
		runtime  sizing.Runtime
	}{
		{[]string{"GOMEMLIMIT", "GOMAXPROCS", "GOGC"}, sizing.Go}, {[]string{"JAVA_", "JVM_", "JDK_", "SPRING_"}, sizing.JVM}, {[]string{"NODE_"}, sizing.Node},
		{[]string{"PYTHON", "DJANGO_", "FLASK_"}, sizing.Python}, {[]string{"DOTNET_", "ASPNETCORE_"}, sizing.DotNet},
	} {
		for _, v := range b.env {
			if slices.ContainsFunc(known.prefixes, func(p string) bool { return strings.HasPrefix(v.Name, p) }) {
				return known.runtime
			}
		}
	}
	return sizing.Unknown
}

// traffic is what the options know of a unit's requests.
func (m *maker) traffic(u *unit) Traffic {
	for _, key := range []string{u.id(), u.name, other} {
		if t, ok := m.o.Traffic[key]; ok {
			return t
		}
	}
	return Traffic{}
}

// offered says whether the primary region has a class of a service.
func (m *maker) offered(service string) sizing.Offered {
	return func(class string) bool {
		has, err := m.primary.HasInstance(service, class)
		return err == nil && has
	}
}

func (m *maker) sizeStore(s *store) {
	facts, known := m.o.Databases[s.name]
	said := s.said()
	if known = known || said.Version != ""; said.Bytes > 0 && facts.SizeGiB == 0 {
		facts.SizeGiB = float64(said.Bytes) / float64(sizing.GiB)
	}
	facts.Connections = cmp.Or(facts.Connections, said.Connections)
	service := serviceOf(s.engine)
	gib := func(v float64) sizing.Bytes { return sizing.Bytes(v * float64(sizing.GiB)) }
	switch s.engine {
	case inventory.PostgreSQL, inventory.MariaDB, inventory.MySQL:
		d := sizing.Database{Name: s.name, Engine: strings.TrimPrefix(service.Service, "rds/"), Size: gib(facts.SizeGiB), Memory: gib(facts.MemoryGiB), CPU: sizing.Milli(facts.Cores * 1000), Connections: facts.Connections, Production: true}
		m.seenServer(s, &d)
		size, err := sizing.ForDatabase(d, m.offered(service.Service))
		if err != nil {
			m.decide(Decision{Object: s.name, What: err.Error(), Do: "choose another region, or split the server"})
			return
		}
		s.item = storeSize{class: size.Class, storageGiB: size.StorageGB, extraIOPS: size.ExtraIOPS, extraMBps: size.ExtraMBps, nodes: 1, standby: size.MultiAZ, measured: !size.Assumed,
			why: strings.Join([]string{size.ClassWhy.Reason, size.StorageWhy.Reason, size.MultiAZWhy.Reason}, "; "), notes: size.Notes}
	case inventory.Redis:
		size, err := sizing.ForCache(sizing.Cache{Name: s.name, Engine: "valkey", Used: gib(facts.SizeGiB), Connections: facts.Connections, Operations: int(said.PerSecond), Production: true}, m.offered(service.Service))
		if err != nil {
			m.decide(Decision{Object: s.name, What: err.Error(), Do: "choose another region, or split the server"})
			return
		}
		s.item = storeSize{class: size.Class, nodes: size.Nodes(), standby: size.Replicas > 0, measured: !size.Assumed, why: size.ClassWhy.Reason + "; " + size.NodesWhy.Reason, notes: size.Notes}
	default:
		s.item = storeSize{why: "dhow has no rule for its size: take that of today's server"}
	}
	if !known {
		m.decide(Decision{Object: s.name, What: "its version, size and load are not known: its class is assumed", Do: fmt.Sprintf("plan again with --ask-databases, or name them under databases.%s in the options", s.name)})
	}
}

// seenServer takes what the cluster knows of a server that runs in it.
func (m *maker) seenServer(s *store, d *sizing.Database) {
	if s.server == nil {
		return
	}
	w := m.inv.Workload(*s.server)
	if w == nil {
		return
	}
	for i := range w.Containers {
		c := &w.Containers[i]
		if c.Init {
			continue
		}
		r := resources(c.Resources.Limits)
		d.Memory, d.CPU = cmp.Or(d.Memory, r.Memory), cmp.Or(d.CPU, r.CPU)
		if c.Usage != nil && d.CPUUsed == 0 {
			d.CPUUsed = sizing.Milli(math.Ceil(c.Usage.CPU.P95 * 1000))
		}
		break
	}
	for _, x := range m.inv.UsesBy(w.Ref) {
		if o := m.inv.Get(x.Of); o != nil && d.Size == 0 {
			if claim, ok := o.Content.(*corev1.PersistentVolumeClaim); ok {
				d.Size = sizing.Bytes(claim.Spec.Resources.Requests.Storage().Value())
			}
		}
	}
}

// classes are the classes of instances that the plan needs.
func (m *maker) classes() []region.Instance {
	var all []region.Instance
	add := func(service, class string) {
		i := region.Instance{Service: service, Class: class}
		if class != "" && service != "" && !slices.Contains(all, i) {
			all = append(all, i)
		}
	}
	for _, s := range m.stores {
		if s.moves {
			add(serviceOf(s.engine).Service, s.item.class)
		}
	}
	if n, ok := m.nodes(); ok {
		add("ec2", n.Class)
	}
	if m.sites() > 0 {
		add("ec2", m.siteClass())
	}
	slices.SortFunc(all, func(a, b region.Instance) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Class, b.Class))
	})
	return all
}

// nodes are the machines of the cluster: for every pod at its least, and for those of a rollout.
func (m *maker) nodes() (sizing.Nodes, bool) {
	var asked sizing.Resources
	pods := 0
	for _, u := range m.units {
		if u.place != EKS || u.runsJobs() {
			continue
		}
		for _, b := range u.containers {
			if b.c.Init {
				continue
			}
			asked.CPU += b.size.CPU * sizing.Milli(u.scaling.Least)
			asked.Memory += b.size.Memory * sizing.Bytes(u.scaling.Least)
		}
		pods += int(u.scaling.Least)
	}
	if pods == 0 {
		return sizing.Nodes{}, false
	}
	n, err := sizing.ForNodes(asked, pods, len(m.home().Zones), false, m.offered("ec2"))
	if err != nil {
		m.decide(Decision{What: err.Error(), Do: "choose another region, or split the cluster"})
		return sizing.Nodes{}, false
	}
	return n, true
}

// sites are how many workloads have machines of their own.
func (m *maker) sites() int {
	n := 0
	for _, u := range m.units {
		if u.place == EC2 {
			n++
		}
	}
	return n
}

// siteClass is the smallest class of machines for a website that the region has.
func (m *maker) siteClass() string {
	n, err := sizing.ForNodes(sizing.Resources{CPU: sizing.AssumedCPU, Memory: sizing.AssumedMemory}, 1, 1, false, m.offered("ec2"))
	if err != nil {
		return ""
	}
	return n.Class
}

// document is a size as the document has it.
func document(s sizing.ContainerSize) *Size {
	const mib = int64(sizing.MiB)
	why := []string{s.CPUWhy.Reason, s.MemoryWhy.Reason}
	if s.LimitWhy.Reason != "" {
		why = append(why, s.LimitWhy.Reason)
	}
	memory := (int64(s.Memory) + mib - 1) / mib
	return &Size{CPURequestMilli: int64(s.CPU), CPULimitMilli: int64(s.CPULimit), MemoryRequestMB: memory, MemoryLimitMB: memory, Measured: !s.CPUWhy.Assumed && !s.MemoryWhy.Assumed, Why: strings.Join(why, "; ")}
}
