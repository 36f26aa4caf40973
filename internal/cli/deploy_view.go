package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dhow/internal/landing"
)

// mostDetails is how many changed properties of a resource a person reads.
const mostDetails = 12

// deployView shows a deployment: on a terminal the stacks that are worked on, each with
// the resources that are; elsewhere a line of each stack's and each failed resource's
// state.
type deployView struct {
	app *app

	mu     sync.Mutex
	began  time.Time
	all    int
	ended  int
	active map[string]*activeStack
	order  []string
	stop   context.CancelFunc
	done   chan struct{}
}

// activeStack is a stack that is worked on.
type activeStack struct {
	since    time.Time
	status   string
	begun    int
	finished int
	// busy are the resources that are worked on.
	busy   []string
	failed string
}

// newDeployView makes a view; begin starts it, close ends it.
func (a *app) newDeployView(ctx context.Context) *deployView {
	v := &deployView{app: a, active: map[string]*activeStack{}, done: make(chan struct{})}
	ctx, v.stop = context.WithCancel(context.WithoutCancel(ctx)) // it shows the end of an interrupted run too
	if a.json() || !a.screen.live {
		close(v.done)
		return v
	}
	go func() {
		defer close(v.done)
		tick := time.NewTicker(drawEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				v.draw()
			}
		}
	}()
	return v
}

// begin says that stacks are worked on from now on; what it returns is for how long.
func (v *deployView) begin(meant []*landing.Stack) func() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	began := time.Now()
	v.began, v.all = began, len(meant)
	return func() time.Duration { return time.Since(began) }
}

// close ends the view; it may be called again.
func (v *deployView) close() {
	v.stop()
	<-v.done
	v.app.screen.clear()
}

// outcomes are the words with which a stack is done.
var outcomes = []string{landing.OutcomeCreated, landing.OutcomeUpdated, landing.OutcomeUnchanged, landing.OutcomeDeleted, landing.OutcomeKept, landing.OutcomeAbsent, landing.OutcomeFailed, landing.OutcomeSkipped}

// note takes an event in.
func (v *deployView) note(e landing.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if slices.Contains(outcomes, e.Status) {
		v.end(e)
		return
	}
	s := v.active[e.Stack]
	if s == nil {
		s = &activeStack{since: time.Now()}
		v.active[e.Stack] = s
		v.order = append(v.order, e.Stack)
	}
	if e.Resource == "" {
		s.status = e.Status
		if !v.app.json() && !v.app.screen.live {
			v.line(e, "%s", reasoned(e))
		}
		return
	}
	s.busy = slices.DeleteFunc(s.busy, func(r string) bool { return r == e.Resource })
	switch {
	case strings.HasSuffix(e.Status, "_IN_PROGRESS"):
		s.busy = append(s.busy, e.Resource)
		if !slices.Contains(s.busy[:len(s.busy)-1], e.Resource) {
			s.begun++
		}
	case strings.HasSuffix(e.Status, "_FAILED"):
		s.finished++
		if s.failed == "" && !strings.Contains(strings.ToLower(e.Reason), "cancelled") {
			s.failed = e.Resource + ": " + e.Reason
			if !v.app.json() {
				v.line(e, "%s (%s) %s: %s", e.Resource, e.Type, v.app.out.red(e.Status), e.Reason)
			}
		}
	default:
		s.finished++
		if v.app.verbose > 0 && !v.app.json() {
			v.line(e, "%s (%s) %s", e.Resource, e.Type, e.Status)
		}
	}
}

func reasoned(e landing.Event) string {
	if e.Reason == "" || e.Reason == "User Initiated" {
		return e.Status
	}
	return e.Status + ": " + e.Reason
}

// end takes a stack out of the view.
func (v *deployView) end(e landing.Event) {
	delete(v.active, e.Stack)
	v.order = slices.DeleteFunc(v.order, func(id string) bool { return id == e.Stack })
	v.ended++
	if v.app.json() {
		return
	}
	paint := v.app.out.green
	switch e.Status {
	case landing.OutcomeFailed:
		paint = v.app.out.red
	case landing.OutcomeSkipped, landing.OutcomeKept:
		paint = v.app.out.yellow
	case landing.OutcomeUnchanged, landing.OutcomeAbsent:
		paint = v.app.out.dim
	}
	text := paint(e.Status)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	v.line(e, "%s", text)
}

// line prints a line about a stack.
func (v *deployView) line(e landing.Event, format string, args ...any) {
	v.app.printf("%s  %s  %s", e.At.Local().Format(clock), e.Stack, fmt.Sprintf(format, args...))
}

func (v *deployView) draw() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.began.IsZero() {
		return
	}
	_, height := size(v.app.Out)
	v.app.screen.draw(v.lines(height, time.Now()))
}

// lines draws the view for a terminal of a height, in lines; 0 is unknown.
func (v *deployView) lines(height int, now time.Time) []viewLine {
	const unknownHeight = 24
	if height <= 0 {
		height = unknownHeight
	}
	width := 0
	for _, id := range v.order {
		width = max(width, len(id))
	}
	var lines []viewLine
	for _, id := range v.order {
		s := v.active[id]
		text := fmt.Sprintf("%-*s  %-28s %6s  %d of %d", width, id, s.status, now.Sub(s.since).Round(time.Second), s.finished, s.begun)
		paint := v.app.out.bold
		switch {
		case s.failed != "":
			text, paint = text+"  "+s.failed, v.app.out.red
		case len(s.busy) > 0:
			text += "  " + strings.Join(s.busy, ", ")
		}
		lines = append(lines, viewLine{text: text, paint: paint})
	}
	if more := len(lines) - (height - 2); more > 0 {
		lines = append(lines[:height-3], viewLine{text: fmt.Sprintf("and %d more", more+1), paint: v.app.out.dim})
	}
	return append(lines, viewLine{text: fmt.Sprintf("%d of %s done, %s", v.ended, counted(int64(v.all), "stack"), now.Sub(v.began).Round(time.Second))})
}

// printPreview prints what would change, resource by resource and property by property.
func (a *app) printPreview(previewed []landing.Previewed) {
	count := map[string]int{}
	for _, p := range previewed {
		count[p.Action]++
		switch p.Action {
		case landing.PreviewUnchanged:
			continue
		case landing.PreviewCreate, landing.PreviewRecreate:
			a.printf("%s %s: %s", a.out.green("+"), p.Stack, counted(int64(len(p.Changes)), "resource"))
			if a.verbose == 0 {
				continue
			}
		case landing.PreviewUpdate:
			a.printf("%s %s", a.out.yellow("~"), a.out.bold(p.Stack))
		default:
			a.printf("%s %s: %s", a.out.yellow("?"), p.Stack, p.Reason)
		}
		for _, c := range p.Changes {
			a.printChange(c)
		}
	}
	a.printf("%d to create, %d to update, %d to make anew, %d unchanged, %d known later", count[landing.PreviewCreate], count[landing.PreviewUpdate], count[landing.PreviewRecreate],
		count[landing.PreviewUnchanged], count[landing.PreviewLater]+count[landing.PreviewWait]+count[landing.PreviewStuck])
}

func (a *app) printChange(c landing.Change) {
	sign, paint := "~", a.out.yellow
	note := ""
	switch c.Action {
	case "add":
		sign, paint = "+", a.out.green
	case "remove":
		sign, paint = "-", a.out.red
	}
	switch {
	case c.Loses:
		note = ": its data would be lost"
	case c.Replacement == "true":
		note = ": replaced"
	case c.Replacement == "conditional":
		note = ": may be replaced"
	}
	if c.Refused() {
		sign, paint = "!", a.out.red
	}
	a.printf("  %s", paint(fmt.Sprintf("%s %s (%s)%s", sign, c.Resource, c.Type, note)))
	for i, d := range c.Details {
		if i == mostDetails {
			a.printf("      and %d more", len(c.Details)-i)
			break
		}
		text := d.Property
		if d.Before != "" || d.After != "" {
			text = fmt.Sprintf("%s: %s -> %s", d.Property, orNothing(d.Before), orNothing(d.After))
		}
		if d.Recreation == "always" {
			text = a.out.red(text)
		}
		a.printf("      %s", text)
	}
}

func orNothing(value string) string {
	if value == "" {
		return "(nothing)"
	}
	return value
}

// printDeployed prints what became of each stack and when, and ends with the error.
func (a *app) printDeployed(out deployed, err error) error {
	out.Succeeded = err == nil
	if a.json() {
		if printed := a.printJSON(out); printed != nil {
			return printed
		}
		if err != nil {
			return &exitError{err.Error()}
		}
		return nil
	}
	if out.Timeline != nil {
		if printed := a.printTimeline(*out.Timeline); printed != nil {
			return printed
		}
	}
	return err
}

// printTimeline prints when which stack was worked on, with the longest way marked.
func (a *app) printTimeline(t landing.Timeline) error {
	if len(t.Spans) == 0 {
		return nil
	}
	tab := &table{head: []string{"STACK", "AFTER", "TOOK", ""}}
	for _, s := range t.Spans {
		paint := func(text string) string { return text }
		if slices.Contains(t.Critical, s.Stack) {
			paint = a.out.yellow
		}
		tab.add(cell{text: s.Stack, paint: paint}, number(took(s.After)), number(took(s.Took)), cell{text: t.Bar(s, 2*barWidth), paint: paint})
	}
	if err := a.printTable(tab); err != nil {
		return err
	}
	if t.CriticalTook > 0 {
		a.printf("critical path %s: %s", took(t.CriticalTook), strings.Join(t.Critical, " > "))
		a.printf("took %s, %.2f x the critical path", took(t.Took), t.Ratio())
	}
	return nil
}

// printDrift prints what others changed, and ends with a failure where they did.
func (a *app) printDrift(ctx context.Context, d *landing.Deployer, meant []*landing.Stack) error {
	drifts, absent, err := d.Drifted(ctx, meant)
	if err != nil {
		return err
	}
	why := &exitError{"something is not as it was deployed"}
	if a.json() {
		if err := a.printJSON(deployed{Findings: []landing.Finding{}, Drifts: drifts, NotThere: absent, Succeeded: len(drifts) == 0}); err != nil {
			return err
		}
		if len(drifts) > 0 {
			return why
		}
		return nil
	}
	for _, one := range drifts {
		a.printf("%s %s: %s (%s) was %s", a.out.red("!"), one.Stack, one.Resource, one.Type, one.Status)
		for _, p := range one.Details {
			a.printf("      %s: %s -> %s", p.Property, orNothing(p.Before), orNothing(p.After))
		}
	}
	for _, id := range absent {
		a.printf("%s %s is not deployed", a.out.dim("-"), id)
	}
	if len(drifts) > 0 {
		a.printf("%s", a.out.bold(counted(int64(len(drifts)), "resource")+" not as deployed: set it back by hand, or take the change over into the estate and deploy"))
		return why
	}
	a.printf("%s", a.out.green(fmt.Sprintf("nothing drifted in %s", counted(int64(len(meant)-len(absent)), "stack"))))
	return nil
}
