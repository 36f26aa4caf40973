package dr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Step names a step, in what is kept too.
type Step string

// The steps of a failover, of the way back, and of a drill.
const (
	StepFence   Step = "fence"
	StepCatchUp Step = "catch-up"
	StepPromote Step = "promote"
	StepScale   Step = "scale"
	StepSwitch  Step = "switch"

	StepLock   Step = "lock"
	StepOpen   Step = "open"
	StepReturn Step = "return"
	StepLower  Step = "lower"

	StepLook Step = "look"
	StepTry  Step = "try"
)

// Timing is a step of a run, and how long it took.
type Timing struct {
	Step  Step          `json:"step"`
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took_ns"`
	// Done says that it did its work; without, it failed or was cut off.
	Done bool `json:"done"`
	// Text says what it did, or why it failed.
	Text string `json:"text,omitempty"`
}

// The kinds of runs.
const (
	KindFailover = "failover"
	KindFailback = "failback"
	KindFence    = "fence" // main was locked after a failover that could not reach it
)

// The outcomes of runs.
const (
	OutcomeDone   = "done"
	OutcomeUndone = "undone" // all is as before
	OutcomeLeft   = "left"   // half way, for a failover
)

// Run is one turning over of the users, in either direction.
type Run struct {
	Kind string `json:"kind"`
	// Reason is why a healthy main was left, or how main got what was written in dr.
	Reason string `json:"reason,omitempty"`
	// Loss is why what main has and dr lacks may be lost; empty where it may not.
	Loss  string    `json:"loss,omitempty"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"`
	Steps []Timing  `json:"steps"`
	// Outcome is empty while the run is unfinished.
	Outcome string `json:"outcome,omitempty"`
	// RPO is how much of main's last time is lost at most; nil where nobody knows.
	RPO *time.Duration `json:"rpo_ns,omitempty"`
	// RTO is how long it took in all; 0 while it is unfinished.
	RTO time.Duration `json:"rto_ns,omitempty"`
	// Next is what is left for people to do.
	Next []string `json:"next,omitempty"`
}

// again is the command that goes on with an unfinished run.
func (r *Run) again() string {
	if r.Kind == KindFailback {
		return "dhow dr failback"
	}
	return "dhow dr failover" // which locks main late, too
}

func (r *Run) done(step Step) bool {
	for _, t := range r.Steps {
		if t.Step == step && t.Done {
			return true
		}
	}
	return false
}

// failed says that a step was tried by an earlier process, and has failed.
func (r *Run) failed(step Step) bool {
	for _, t := range r.Steps {
		if t.Step == step && !t.Done && t.Text != "" {
			return true
		}
	}
	return false
}

// begun says that a step was begun, whatever became of it.
func (r *Run) begun(step Step) bool {
	for _, t := range r.Steps {
		if t.Step == step {
			return true
		}
	}
	return false
}

// step is a row of a table. What it does may be done again, also after a crash.
type step struct {
	name Step
	does string
	// undoable: a failure is undone. The others are repeated until they succeed.
	undoable bool
	do       func(*job, context.Context) (string, error)
}

// failover is the way over. After the first promotion there is no way back but failback.
var failover = []step{
	{StepFence, "main's databases take no connection any more, where main answers", true, (*job).fenceMain},
	{StepCatchUp, "every replica has all that main had when it was locked", true, (*job).catchUp},
	{StepPromote, "every replica becomes a server of its own", false, (*job).promote},
	{StepScale, "databases, cluster and services there get main's size", false, (*job).scale},
	{StepSwitch, "the records of users give way to those of dr", false, (*job).turnOver},
}

// failback is the way back, once main has what was written in dr.
var failback = []step{
	{StepLock, "dr's databases take no connection any more", true, (*job).lockDR},
	{StepOpen, "main's databases take connections again", false, (*job).openMain},
	{StepReturn, "the records of users hold to main again", false, (*job).turnBack},
	{StepLower, "cluster and services of dr go back to their floor", false, (*job).lower},
}

// Description is a row of the tables, for people.
type Description struct {
	Step     Step
	Does     string
	Undoable bool
}

// Steps are the rows of a kind of run, in order.
func Steps(kind string) []Description {
	rows := failover
	if kind == KindFailback {
		rows = failback
	}
	list := make([]Description, len(rows))
	for i, r := range rows {
		list[i] = Description{r.name, r.does, r.undoable}
	}
	return list
}

// job is a run at work.
type job struct {
	*DR
	run  *Run
	side *side
	main *mainSide
}

// begin keeps a new run.
func (d *DR) begin(r Run) (*Run, error) {
	r.Began, r.Steps = now(), []Timing{}
	d.state.Runs = append(d.state.Runs, r)
	if err := d.state.save(); err != nil {
		return nil, err
	}
	return &d.state.Runs[len(d.state.Runs)-1], nil
}

// measure does a step and times it; keep is called before and after.
func (d *DR) measure(ctx context.Context, steps *[]Timing, name Step, keep func() error, do func(context.Context) (string, error)) error {
	t := Timing{Step: name, Began: now()}
	*steps = append(*steps, t)
	if err := keep(); err != nil {
		return err
	}
	began := time.Now()
	text, err := do(ctx)
	t.Took, t.Text, t.Done = time.Since(began), text, err == nil
	if err != nil {
		t.Text = err.Error()
	}
	(*steps)[len(*steps)-1] = t
	if d.o.Report != nil {
		d.o.Report(t)
	}
	return errors.Join(err, keep())
}

// work does the steps of a table that are not done yet. One that fails and can be undone
// is, by undo; another says how to go on.
func (j *job) work(ctx context.Context, table []step, undo func(context.Context) error) error {
	for _, st := range table {
		if j.run.done(st.name) && !j.repeats(table, st) {
			continue
		}
		err := j.measure(ctx, &j.run.Steps, st.name, j.state.save, func(ctx context.Context) (string, error) { return st.do(j, ctx) })
		switch {
		case err == nil:
		case st.undoable && !j.passed(table):
			return j.giveUp(ctx, fmt.Errorf("%s: %w", st.name, err), undo)
		default:
			return fmt.Errorf("%s: %w: there is no way back from here but on: mend it, and run `%s` again, which goes on at this step", st.name, err, j.run.again())
		}
	}
	j.run.Outcome, j.run.Ended = OutcomeDone, now()
	j.run.RTO = j.run.Ended.Sub(j.run.Began)
	return j.state.save()
}

// repeats says whether a step is done again that an earlier process has done: what could
// be undone may not hold any more, a main that was silent may answer by now, and what
// follows it still has to have all before it is raised.
func (j *job) repeats(table []step, st step) bool {
	switch {
	case st.undoable && !j.passed(table):
		return true
	case st.name == StepFence:
		return !j.fenced()
	case st.name == StepCatchUp:
		return slices.ContainsFunc(j.side.databases, (*database).follows)
	}
	return false
}

// passed says whether a step that can not be undone was begun.
func (j *job) passed(table []step) bool {
	for _, st := range table {
		if !st.undoable && j.run.begun(st.name) {
			return true
		}
	}
	return false
}

// giveUp undoes a run, also one that was interrupted.
func (j *job) giveUp(ctx context.Context, why error, undo func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := undo(ctx); err != nil {
		return errors.Join(why, fmt.Errorf("it could not be undone: %w: run `dhow dr failback` when it can, which undoes it, or `dhow dr failover`, which goes on", err))
	}
	j.run.Outcome, j.run.Ended = OutcomeUndone, now()
	if err := j.state.save(); err != nil {
		return errors.Join(why, err)
	}
	return fmt.Errorf("%w: all is as before", why)
}
