package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"dhow/internal/inventory"
)

// relate makes units of the workloads, and says who calls whom.
func (m *maker) relate() error {
	m.byRef = map[inventory.Ref]*unit{}
	names := map[string]bool{}
	for _, w := range m.inv.Workloads {
		u := &unit{w: w, namespace: label(w.Namespace), name: label(w.Name)}
		if u.namespace == "" {
			u.namespace = m.plan.Name
		}
		// Two kinds may share a name at the source; in the new place one Service, one
		// account and one policy bear it.
		if names[u.id()] {
			u.name = label(w.Name + "-" + strings.ToLower(w.Kind))
		}
		names[u.id()] = true
		m.byRef[w.Ref] = u
		m.units = append(m.units, u)
		u.services = m.soundServices(w)
	}
	slices.SortFunc(m.units, byID)
	for i := range m.report.Exposures {
		e := &m.report.Exposures[i]
		if u := m.byRef[e.Workload]; u != nil {
			u.open = append(u.open, e)
		}
	}
	for i := range m.inv.Calls {
		m.call(&m.inv.Calls[i])
	}
	if err := m.callsOfOptions(); err != nil {
		return err
	}
	for _, u := range m.units {
		slices.SortFunc(u.calls, byID)
		slices.SortFunc(u.callers, byID)
		slices.SortFunc(u.outside, func(a, b target) int {
			return cmp.Or(strings.Compare(a.host, b.host), cmp.Compare(a.port, b.port))
		})
		u.outside = slices.Compact(u.outside)
	}
	return nil
}

func byID(a, b *unit) int { return strings.Compare(a.id(), b.id()) }

// call notes a call of one unit by another, or of a host outside.
func (m *maker) call(c *inventory.Call) {
	from := m.byRef[c.From]
	if from == nil {
		return
	}
	if c.To == nil {
		if c.Host != "" && !c.Allowed && !m.isDatabase(c.Host, c.Port) {
			from.outside = append(from.outside, target{c.Host, cmp.Or(c.Port, schemePort(c.Scheme))})
		}
		return
	}
	to := m.byRef[*c.To]
	if to == nil || to == from {
		return
	}
	if !slices.Contains(from.calls, to) {
		from.calls = append(from.calls, to)
		to.callers = append(to.callers, from)
	}
}

// callsOfOptions adds the calls that no setting tells.
func (m *maker) callsOfOptions() error {
	for _, from := range slices.Sorted(maps.Keys(m.o.Calls)) {
		for _, to := range m.o.Calls[from] {
			a, b := m.unitOf(from), m.unitOf(to)
			for _, name := range []string{from, to} {
				if m.unitOf(name) == nil {
					return &InvalidError{[]string{fmt.Sprintf("calls: there is no workload %q at the source: want one of %s", name, m.workloadNames())}}
				}
			}
			if a != b && !slices.Contains(a.calls, b) {
				a.calls, b.callers = append(a.calls, b), append(b.callers, a)
			}
		}
	}
	return nil
}

// unitOf is the unit of a name, or of NAMESPACE/NAME; nil if there is none.
func (m *maker) unitOf(name string) *unit {
	for _, u := range m.units {
		if u.name == name || u.id() == name {
			return u
		}
	}
	return nil
}

// The ports of schemes that name none.
const (
	httpPort  = 80
	httpsPort = 443
)

func schemePort(scheme string) int {
	switch scheme {
	case "http", "ws":
		return httpPort
	case "https", "wss", "grpcs":
		return httpsPort
	}
	return 0
}

// isDatabase says that a host and port are those of a database of the inventory.
func (m *maker) isDatabase(host string, port int) bool {
	return slices.ContainsFunc(m.inv.Databases, func(d inventory.Database) bool {
		return d.Host == host && (port == 0 || port == d.Port)
	})
}

// soundServices are the Services that lead to one workload alone and to ports that it has.
func (m *maker) soundServices(w *inventory.Workload) []*inventory.Service {
	var sound []*inventory.Service
	for _, s := range w.Services {
		if len(s.Workloads) == 1 && len(soundPorts(s, w)) > 0 {
			sound = append(sound, s)
		}
	}
	return sound
}

// soundPorts are a Service's ports that lead to a port of the pods.
func soundPorts(s *inventory.Service, w *inventory.Workload) []corev1.ServicePort {
	var sound []corev1.ServicePort
	for _, p := range s.Spec.Ports {
		if podPort(w, p) != 0 {
			sound = append(sound, p)
		}
	}
	return sound
}

// podPort is the number of the port that a Service's port leads to, 0 for a name that no container has.
func podPort(w *inventory.Workload, p corev1.ServicePort) int32 {
	if name := p.TargetPort.StrVal; name != "" {
		for i := range w.Containers {
			for _, c := range w.Containers[i].Ports {
				if c.Name == name {
					return c.ContainerPort
				}
			}
		}
		return 0
	}
	return cmp.Or(p.TargetPort.IntVal, p.Port)
}

// servingCallers are the callers that others may call in turn. One that serves nobody and
// that nobody calls drives what it calls: a test of load, a prober, a worker.
func (u *unit) servingCallers() []*unit {
	var all []*unit
	for _, c := range u.callers {
		if len(c.services) > 0 || len(c.open) > 0 || len(c.callers) > 0 {
			all = append(all, c)
		}
	}
	return all
}

// called says that others call a Service of a unit by its name.
func (m *maker) called(u *unit, service inventory.Ref) bool {
	return slices.ContainsFunc(m.inv.Calls, func(c inventory.Call) bool {
		by := m.byRef[c.From]
		return by != nil && by != u && c.Service != nil && *c.Service == service && slices.Contains(u.servingCallers(), by)
	})
}

// runsJobs says that a workload ends by itself.
func (u *unit) runsJobs() bool { return u.w.Kind == "CronJob" || u.w.Kind == "Job" }

// neverRuns says why a workload does nothing today; empty where it may.
func (u *unit) neverRuns() string {
	if c, ok := u.w.Object.Content.(*batchv1.CronJob); ok {
		if c.Spec.Suspend != nil && *c.Spec.Suspend {
			return "it is suspended, and so does nothing today"
		}
		if never(c.Spec.Schedule) {
			return "its schedule, " + c.Spec.Schedule + ", names a day that never comes"
		}
	}
	if u.w.ReplicasSet && u.w.Replicas == 0 && len(u.w.Scalers) == 0 {
		return "it has no pods by its own manifest"
	}
	return ""
}

// never says that a schedule's days are in none of its months.
func never(schedule string) bool {
	f := strings.Fields(schedule)
	if len(f) != 5 || f[4] != "*" {
		return false
	}
	days := map[string][]string{"30": {"2"}, "31": {"2", "4", "6", "9", "11"}}
	short, known := days[f[2]]
	if !known || f[3] == "*" {
		return false
	}
	for month := range strings.SplitSeq(f[3], ",") {
		if !slices.Contains(short, month) {
			return false
		}
	}
	return true
}

// wantsNode says which parts of a node a workload wants for itself; empty for most.
func (u *unit) wantsNode() string {
	spec := &u.w.Template.Spec
	switch {
	case spec.HostPID || spec.HostIPC:
		return "the node's processes"
	case slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.HostPath != nil }):
		return "folders of the node"
	case spec.HostNetwork:
		return "the node's network"
	}
	for i := range u.w.Containers {
		if s := u.w.Containers[i].SecurityContext; s != nil && s.Privileged != nil && *s.Privileged {
			return "all rights of the node"
		}
	}
	return ""
}

// address is a host as an address, invalid if it is a name.
func address(host string) netip.Addr {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}
