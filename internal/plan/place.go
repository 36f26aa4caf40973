package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"dhow/internal/inventory"
)

// placeAll says where each workload goes. The first rule that fits decides: what the
// options say, what a managed service replaces, what does nothing, then what the graph
// of calls tells.
func (m *maker) placeAll() error {
	servers := map[inventory.Ref]inventory.Engine{}
	for _, d := range m.inv.Databases {
		if d.Server != nil {
			servers[*d.Server] = d.Engine
		}
	}
	used := map[string]bool{}
	for _, u := range m.units {
		asked, key := m.asked(u)
		used[key] = true
		switch engine := servers[u.w.Ref]; {
		case asked != "" && key != other:
			u.place, u.why = asked, "the options say so"
		case slices.Contains(inventory.SystemNamespaces(), u.w.Namespace):
			u.place, u.why = Left, "it belongs to the old cluster itself: the new one has its own"
		case engine != "" && serviceOf(engine).Name != "":
			u.place, u.why = Managed, fmt.Sprintf("it is a %s server: %s keeps it patched, backed up and in two zones", engine, serviceOf(engine).Name)
		case u.neverRuns() != "":
			u.place, u.why = Left, u.neverRuns()
			m.decide(Decision{Object: u.w.String(), What: u.neverRuns(), Do: fmt.Sprintf("say whether it is still wanted: correct it at the source, or set placement.%s in the options", u.name)})
		case u.w.Kind == "DaemonSet" && u.wantsNode() != "":
			u.place, u.why = Left, "it serves the nodes of the old cluster and wants "+u.wantsNode()+": the new cluster's own add-ons do that"
			m.decide(Decision{Object: u.w.String(), What: "an agent of the nodes stays behind", Do: "install its add-on for EKS if what it does is still wanted"})
		case asked != "":
			u.place, u.why = asked, "the options say so of all"
		default:
			u.place, u.why = m.judged(u)
		}
		if u.place == Left && key != "" && key != other {
			m.decide(Decision{Object: u.w.String(), What: "it stays behind because the options say so", Do: "see that nothing needs it"})
		}
		u.kind = kindOf(u)
	}
	for _, name := range slices.Sorted(maps.Keys(m.o.Placement)) {
		if !used[name] && name != other {
			return &InvalidError{[]string{fmt.Sprintf("placement: there is no workload %q at the source: want one of %s", name, m.workloadNames())}}
		}
	}
	return nil
}

// mostNames is how many names an error lists.
const mostNames = 20

func (m *maker) workloadNames() string {
	var names []string
	for _, u := range m.units {
		names = append(names, u.name)
	}
	if len(names) > mostNames {
		names = append(names[:mostNames], "...")
	}
	return strings.Join(names, ", ")
}

// asked is the place that the options name for a unit, and by which key.
func (m *maker) asked(u *unit) (place Place, key string) {
	for _, key := range []string{u.id(), u.name, other} {
		if p, ok := m.o.Placement[key]; ok {
			return p, key
		}
	}
	return "", ""
}

// judged is the place that the graph of calls tells. A front end answers users by asking
// others, and nobody asks it; a website answers users by itself. Both are those whose
// copies need nothing of a cluster.
func (m *maker) judged(u *unit) (Place, string) {
	data := slices.ContainsFunc(m.databasesOf(u.w.Ref), func(d *inventory.Database) bool {
		return d.Engine != inventory.Redis && d.Engine != inventory.Memcached
	})
	volumes := u.w.Kind == "StatefulSet" || u.w.Kind == "DaemonSet" || slices.ContainsFunc(m.inv.UsesBy(u.w.Ref), func(x inventory.Use) bool { return x.Of.Kind == "PersistentVolumeClaim" })
	switch {
	case u.runsJobs():
		return EKS, "a job beside the services whose data it works on"
	case len(u.open) == 0 || data || volumes || len(u.servingCallers()) > 0 || u.hasSidecars():
		return EKS, m.microservice(u, data)
	case len(u.calls) > 0 && !m.callsByURL(u):
		return EKS, "a front end, but it calls others by names and ports that are no URLs: they need the cluster's own names, and can not be told to use TLS"
	case len(u.calls) > 0:
		return ECS, fmt.Sprintf("a front end: users reach it, it asks %s, no service asks it, and it keeps no rows; Fargate runs it without nodes to patch", counted(len(u.calls), "service"))
	case m.mayCall(u):
		return EKS, "users reach it, and it may call services of its namespace of which nothing tells who calls them: beside them it finds them"
	case len(m.databasesOf(u.w.Ref)) == 0 && len(u.outside) == 0:
		return EC2, "a website: users reach it, and it asks nobody; machines behind a load balancer serve it, with no cluster on the way"
	}
	return EKS, m.microservice(u, data)
}

// callsByURL says that every call of a unit is by a URL of HTTP, in which the scheme and
// the host can be others.
func (m *maker) callsByURL(u *unit) bool {
	for i := range m.inv.Calls {
		c := &m.inv.Calls[i]
		if c.From == u.w.Ref && c.To != nil && !c.Allowed && m.byRef[*c.To] != u && c.Scheme != "http" && c.Scheme != "https" {
			return false
		}
	}
	return true
}

// mayCall says that there are services beside a unit of which nothing tells who calls them.
func (m *maker) mayCall(u *unit) bool {
	return slices.ContainsFunc(m.units, func(o *unit) bool {
		return o != u && o.namespace == u.namespace && len(o.services) > 0 && len(o.callers) == 0 && len(o.open) == 0 && !o.runsJobs()
	})
}

func (m *maker) microservice(u *unit, data bool) string {
	var why []string
	if n := len(u.callers); n > 0 {
		why = append(why, "called by "+counted(n, "workload"))
	}
	if n := len(u.calls); n > 0 {
		why = append(why, "it calls "+counted(n, "other"))
	}
	if data {
		why = append(why, "it keeps rows in a database")
	}
	if len(why) == 0 {
		return "a micro-service"
	}
	return "a micro-service: " + strings.Join(why, ", ")
}

func (u *unit) hasSidecars() bool {
	n := 0
	for i := range u.w.Containers {
		if !u.w.Containers[i].Init {
			n++
		}
	}
	return n > 1
}

func (m *maker) databasesOf(r inventory.Ref) []*inventory.Database {
	var all []*inventory.Database
	for i := range m.inv.Databases {
		if d := &m.inv.Databases[i]; slices.Contains(d.Clients, r) {
			all = append(all, d)
		}
	}
	return all
}

// kindOf is what runs the workload in its new place.
func kindOf(u *unit) string {
	switch u.place {
	case ECS:
		if u.runsJobs() {
			return "ScheduledTask"
		}
		return "Service"
	case EC2:
		return "AutoScalingGroup"
	case EKS:
		switch u.w.Kind {
		case "StatefulSet", "DaemonSet", "CronJob", "Job":
			return u.w.Kind
		}
		return "Deployment"
	case Managed, Left:
	}
	return ""
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
