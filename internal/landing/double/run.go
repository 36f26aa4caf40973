package double

import (
	"maps"
	"slices"
	"time"
)

// run works through a graph of resources, each as soon as those that it waits for are
// done, as many at once as the graph allows.
type run struct {
	clock  *clock
	waits  map[string]int
	next   map[string][]string
	active map[string]*task
	failed []string
	// stubborn goes on past a failure with whatever does not wait for it.
	stubborn bool
	begin    func(at time.Time, t *task)
	cancel   func(at time.Time, name string)
	finish   func(at time.Time, failed []string)
	over     bool
}

// task is one resource that is worked on.
type task struct {
	r    *run
	name string
	over bool
}

// start works through deps, which say for each what it waits for, from a moment later on.
func (r *run) start(at time.Time, deps map[string][]string) {
	at = at.Add(betweenTime)
	r.clock.after(at, 0, func() {
		if !r.over {
			r.work(at, deps)
		}
	})
}

func (r *run) work(at time.Time, deps map[string][]string) {
	r.waits, r.active = map[string]int{}, map[string]*task{}
	r.next = turned(deps)
	var ready []string
	for _, name := range slices.Sorted(maps.Keys(deps)) {
		for _, on := range deps[name] {
			if _, ok := deps[on]; ok {
				r.waits[name]++
			}
		}
		if r.waits[name] == 0 {
			ready = append(ready, name)
		}
	}
	if len(ready) == 0 {
		r.end(at)
		return
	}
	r.launch(at, ready)
}

func (r *run) launch(at time.Time, names []string) {
	tasks := make([]*task, len(names))
	for i, name := range names { // all are active before the first can fail
		tasks[i] = &task{r: r, name: name}
		r.active[name] = tasks[i]
	}
	for _, t := range tasks {
		if !t.over && !r.over {
			r.begin(at, t)
		}
	}
}

// then lets do happen later, unless the task was called off.
func (t *task) then(at time.Time, d time.Duration, do func(at time.Time)) {
	at = at.Add(d)
	t.r.clock.after(at, 0, func() {
		if !t.over {
			do(at)
		}
	})
}

// done says that the task has succeeded.
func (t *task) done(at time.Time) {
	r := t.r
	t.over = true
	delete(r.active, t.name)
	var ready []string
	for _, name := range r.next[t.name] {
		if r.waits[name]--; r.waits[name] == 0 {
			ready = append(ready, name)
		}
	}
	if len(ready) > 0 && (len(r.failed) == 0 || r.stubborn) {
		for _, name := range ready { // they keep the run from ending
			r.active[name] = &task{r: r, name: name, over: true}
		}
		r.clock.after(at, betweenTime, func() {
			if !r.over {
				r.launch(at.Add(betweenTime), ready)
			}
		})
	}
	r.end(at)
}

// pass says that there was nothing to do.
func (t *task) pass(at time.Time) {
	t.then(at, 0, t.done)
}

// fail says that the task has failed: nothing more is begun, and what was is called off.
func (t *task) fail(at time.Time) {
	t.over = true
	delete(t.r.active, t.name)
	t.r.failed = append(t.r.failed, t.name)
	if !t.r.stubborn {
		t.r.callOff(at)
	}
	t.r.end(at)
}

// callOff stops everything that is worked on.
func (r *run) callOff(at time.Time) {
	for _, name := range slices.Sorted(maps.Keys(r.active)) {
		t := r.active[name]
		begun := !t.over
		t.over = true
		delete(r.active, name)
		if begun && r.cancel != nil {
			r.cancel(at, name)
		}
	}
}

func (r *run) end(at time.Time) {
	if len(r.active) == 0 && !r.over {
		r.over = true
		r.finish(at, r.failed)
	}
}
