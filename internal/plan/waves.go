package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// group is workloads that call each other in a circle, or one alone.
type group struct {
	units []*unit
	level int
}

// orderWaves puts what moves into waves, so that nothing comes before what it needs.
// Databases come first; jobs come last, behind the cutover, for they must not run at
// both sides at once.
func (m *maker) orderWaves() error {
	groups := circles(m.units)
	levels := map[int]*Wave{}
	at := func(level int) *Wave {
		if levels[level] == nil {
			levels[level] = &Wave{}
		}
		return levels[level]
	}
	for _, s := range m.stores {
		if s.moves {
			w := at(0)
			w.Databases = append(w.Databases, s.name)
		}
	}
	last := 1
	for _, g := range groups {
		last = max(last, g.level)
	}
	for _, g := range groups {
		for _, u := range g.units {
			if u.runsJobs() && len(u.callers) == 0 {
				g.level = last + 1
			}
		}
		w := at(g.level)
		for _, u := range g.units {
			w.Workloads = append(w.Workloads, u.id())
		}
		w.Cycle = w.Cycle || len(g.units) > 1
	}
	number := 0
	for level := 0; level <= last+1; level++ {
		w := levels[level]
		if w == nil {
			continue
		}
		number++
		w.Number = number
		slices.Sort(w.Databases)
		slices.Sort(w.Workloads)
		m.tell(w, level, last)
		m.plan.Waves = append(m.plan.Waves, *w)
		for _, s := range m.stores {
			if s.moves && level == 0 {
				s.wave = number
			}
		}
		for _, u := range m.units {
			if slices.Contains(w.Workloads, u.id()) {
				u.wave = number
			}
		}
	}
	return nil
}

// circles are the groups of what moves, each with its level: one above the highest of
// what it calls. It is Tarjan's walk; what is called is closed before who calls it.
func circles(units []*unit) []*group {
	t := &walk{index: map[*unit]int{}, low: map[*unit]int{}, on: map[*unit]bool{}, of: map[*unit]*group{}}
	for _, u := range units {
		if u.moves() && t.index[u] == 0 {
			t.visit(u)
		}
	}
	return t.groups
}

type walk struct {
	next       int
	index, low map[*unit]int
	on         map[*unit]bool
	stack      []*unit
	of         map[*unit]*group
	groups     []*group
}

// frame is a unit that is being visited, and how far.
type frame struct {
	u    *unit
	next int
}

// visit walks from a unit. It keeps its own stack: a chain of calls may be long.
func (t *walk) visit(root *unit) {
	frames := []frame{t.enter(root)}
	for len(frames) > 0 {
		f := &frames[len(frames)-1]
		if f.next < len(f.u.calls) {
			c := f.u.calls[f.next]
			f.next++
			switch {
			case !c.moves():
			case t.index[c] == 0:
				frames = append(frames, t.enter(c))
			case t.on[c]:
				t.low[f.u] = min(t.low[f.u], t.index[c])
			}
			continue
		}
		u := f.u
		frames = frames[:len(frames)-1]
		if len(frames) > 0 {
			by := frames[len(frames)-1].u
			t.low[by] = min(t.low[by], t.low[u])
		}
		if t.low[u] == t.index[u] {
			t.leave(u)
		}
	}
}

func (t *walk) enter(u *unit) frame {
	t.next++
	t.index[u], t.low[u], t.on[u] = t.next, t.next, true
	t.stack = append(t.stack, u)
	return frame{u: u}
}

// leave closes the group whose first unit is u.
func (t *walk) leave(u *unit) {
	g := &group{level: 1}
	for {
		last := t.stack[len(t.stack)-1]
		t.stack = t.stack[:len(t.stack)-1]
		t.on[last], t.of[last] = false, g
		g.units = append(g.units, last)
		if last == u {
			break
		}
	}
	slices.SortFunc(g.units, byID)
	for _, x := range g.units {
		for _, c := range x.calls {
			if of := t.of[c]; of != nil && of != g {
				g.level = max(g.level, of.level+1)
			}
		}
	}
	t.groups = append(t.groups, g)
}

// tell says what a wave is, what it risks, and how it is taken back.
func (m *maker) tell(w *Wave, level, last int) {
	switch level {
	case 0:
		w.What = "the databases: their servers are made, copied into, and follow every change of the source until the cutover"
		w.Risks = []string{"the copy reads every row: the sources answer more slowly while it runs, within the estate's limits", "a source keeps its log until the target has it: its disk fills if the target is away, and dhow stops before that"}
		for _, s := range m.stores {
			if s.moves && !serviceOf(s.engine).Moved {
				w.Risks = append(w.Risks, fmt.Sprintf("%s: %s", s.name, serviceOf(s.engine).Method))
			}
		}
		w.Undo = "`dhow finish` removes what the move left on the sources; users notice nothing"
	case last + 1:
		w.What = "the jobs, after the cutover: they change data by themselves, and must not run at both sides"
		w.Risks = []string{"a run between the cutover and this wave is missed: look at the schedules, and start what was missed by hand"}
		w.Undo = "suspend them here, and let them run at the source again"
	default:
		w.What = fmt.Sprintf("%s, whose databases and services stand by now; requests still go to the source", counted(len(w.Workloads), "workload"))
		w.Risks = m.risks(w)
		w.Undo = "remove them: nothing of users leads to them before the cutover"
	}
}

// risks are what the workloads of a wave have that may go wrong.
func (m *maker) risks(w *Wave) []string {
	var risks []string
	if w.Cycle {
		risks = append(risks, "some call each other in a circle: none is ready alone, so all come at once")
	}
	var assumed, changed []string
	for _, u := range m.units {
		if !slices.Contains(w.Workloads, u.id()) {
			continue
		}
		if slices.ContainsFunc(u.containers, func(b *box) bool { return b.size.MemoryWhy.Assumed }) {
			assumed = append(assumed, u.name)
		}
		if u.place != EKS {
			changed = append(changed, u.name)
		}
		if u.w.Kind == "StatefulSet" {
			risks = append(risks, u.name+" has volumes, which dhow does not copy: copy them with the source stopped, or by its own replication")
		}
		for _, o := range u.outside {
			risks = append(risks, fmt.Sprintf("%s calls %s: see that it lets the new addresses in", u.name, cmp.Or(o.host, "a host outside")))
		}
		for _, s := range u.stores {
			if len(s.clients) > 1 && slices.Contains(s.clients[:1], u) {
				risks = append(risks, fmt.Sprintf("%s is used by %d workloads: they share its load and its window", s.name, len(s.clients)))
			}
		}
	}
	if len(assumed) > 0 {
		risks = append(risks, "sizes are assumed, not measured: "+strings.Join(assumed, ", "))
	}
	if len(changed) > 0 {
		risks = append(risks, "not run by Kubernetes any more, and so with another way to roll out and to look into: "+strings.Join(changed, ", "))
	}
	slices.Sort(risks)
	risks = slices.Compact(risks)
	if len(risks) == 0 {
		risks = []string{"settings and secrets that are wrong show here, before users come: try each with requests of your own"}
	}
	return risks
}
