// Package demo is a whole voyage on one machine: the landing zone at a double of AWS,
// real servers of PostgreSQL, MariaDB and Redis at both ends, the super-app with all its
// services, as processes or in the pods of two clusters, the gate, live traffic, the move
// and the proof. It uses the same parts as the commands do and knows no shortcut; what it
// adds is the stage around them and the figures at the end.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/internal/move"
	"dhow/internal/process"
	"dhow/internal/voyage"
)

// Defaults of the demo's options.
const (
	// DefaultRate is in operations a second, some of which are several requests: about
	// 300 requests a second, which keep two cores busy half of the time.
	DefaultRate = 250
	// KubernetesRate is the same where two clusters share those cores with the application.
	KubernetesRate = 100
	// DefaultConnections are the clients.
	DefaultConnections = 64
	// DefaultAccounts and entriesPerAccount make 200,000 accounts and 1,000,000 ledger rows.
	DefaultAccounts   = 200_000
	entriesPerAccount = 5
	// DefaultDuration is how long the traffic runs around the cutover, in all.
	DefaultDuration = 20 * time.Second
	// DefaultFrom is the source's major version of PostgreSQL.
	DefaultFrom = 15
	// DefaultTo is the target's.
	DefaultTo = 15
	// MinimumAccounts are needed for the clients to have somebody to pay.
	MinimumAccounts = 1000
	// trafficSeed makes the traffic the same each time.
	trafficSeed = 1
	// copies, lanes and rowsPerSecond keep the move from taking the processors that
	// the application needs: here all of it shares one machine.
	copies, lanes = 2, 2
	rowsPerSecond = 100_000
	// busyRate is from how many operations a second on the application needs more than
	// one of two processors, and busyRowsPerSecond what the move makes do with then. The
	// comparison before the cutover is left out there, which would have clients wait; the
	// proof behind it stays.
	busyRate          = 400
	busyRowsPerSecond = 50_000
	// tellEvery is the pause between two lines about a long piece of work.
	tellEvery = 2 * time.Second
)

// Options say what to show.
type Options struct {
	Rate, Connections int
	Accounts          int
	Duration          time.Duration
	// Rollback goes there and back again.
	Rollback bool
	// Again goes there once more after the way back.
	Again bool
	// Kubernetes runs the application in the pods of two clusters.
	Kubernetes bool
	// Keep leaves everything running until ctx ends, once the voyage is over.
	Keep     bool
	From, To int
	// StallBudget is the estate's; 0 means the default.
	StallBudget time.Duration
	// Dir is the folder of the stage and the report; it is emptied first.
	Dir string
	// Dhow and Superapp are the programs.
	Dhow, Superapp string
	// Out takes what happens, line by line.
	Out io.Writer
	// Show is given the figures once they are known, before Keep waits.
	Show func(*Report) error
	Log  *slog.Logger
}

// Run plays the whole voyage and returns its figures. Whatever it started is
// stopped when it returns, also when it fails and when ctx ends.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	if o.Accounts < MinimumAccounts {
		return nil, fmt.Errorf("%d accounts are too few for the clients: use at least --accounts %d", o.Accounts, MinimumAccounts)
	}
	// Another demo in the same folder would lose the ground under its feet.
	lock, err := cutover.TakeLock(o.Dir+".lock", "demo")
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	apart, err := process.Together() // one machine does the work of many
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, apart()) }()
	if err := os.RemoveAll(o.Dir); err != nil {
		return nil, fmt.Errorf("empty the demo's folder: %w", err)
	}
	p := &play{o: o, began: time.Now(), report: &Report{Engines: map[estate.Engine]*EngineFigures{}, Rate: o.Rate, Accounts: o.Accounts, From: o.From, To: o.To, Began: time.Now().UTC()}}
	// What the landing zone's deployment lacks is told before anything is started.
	zone, err := newLander(ctx, p.say)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, zone.close()) }()
	var places map[estate.Side]Place
	if o.Kubernetes {
		p.say("starting two Kubernetes clusters")
		if p.harbour, err = OpenHarbour(ctx, o.Dir, p.say, sides...); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, p.harbour.Close()) }() //nolint:contextcheck // also when ctx has ended
		places, p.report.ClustersUpS = p.harbour.Places(), p.harbour.UpSeconds
		p.say("building dhow's own image, for the gate and the movers in the target's pods")
		if err := p.harbour.Provision(ctx); err != nil {
			return nil, err
		}
	}
	p.say("starting PostgreSQL %d and %d, two of MariaDB and of Redis, and filling the ledger: %d accounts, %d entries", o.From, o.To, o.Accounts, o.Accounts*entriesPerAccount)
	p.stage, err = NewStage(ctx, StageConfig{Whole: true, Places: places, Harbour: p.harbour, Land: zone.land,
		Dir: o.Dir, Dhow: o.Dhow, Superapp: o.Superapp, From: o.From, To: o.To,
		Accounts: o.Accounts, Entries: o.Accounts * entriesPerAccount, StallBudget: o.StallBudget,
		Copies: copies, Lanes: lanes, RowsPerSecond: rowLimit(o.Rate), Quick: o.Rate >= busyRate, TargetSettings: map[string]string{"max_parallel_maintenance_workers": "0"}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stage.Close()) }() //nolint:contextcheck // also when ctx has ended
	// Nothing is deployed any more, and traffic is yet to come.
	if err := zone.close(); err != nil {
		return nil, err
	}
	p.report.land(p.stage.Landed)
	if err := p.voyage(ctx); err != nil {
		return nil, err
	}
	if err := p.report.write(o.Dir); err != nil {
		return nil, err
	}
	if err := o.Show(p.report); err != nil {
		return nil, err
	}
	if o.Keep {
		p.keep(ctx)
	}
	return p.report, nil
}

// play is one run of the demo.
type play struct {
	o     Options
	began time.Time
	stage *Stage
	// harbour is nil unless the application runs in pods.
	harbour *Harbour
	// moves is when the movers began.
	moves  time.Time
	report *Report
	// engines are the databases', by their names in the estate.
	engines map[string]estate.Engine
	// databases are those names, in the estate's order.
	databases []string
	// windows are the stalls, with the stretches of the same length before them.
	windows []window
}

func (p *play) say(format string, args ...any) {
	fmt.Fprintf(p.o.Out, "%7.1fs  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...)) //nolint:errcheck // a closed terminal stops nothing
}

// voyage plays everything between the stage's start and its end.
func (p *play) voyage(ctx context.Context) error {
	s := p.stage
	e, err := estate.Load(s.EstateFile)
	if err != nil {
		return err
	}
	p.engines = map[string]estate.Engine{}
	for _, d := range e.Databases {
		p.engines[d.Name] = d.Engine
		p.databases = append(p.databases, d.Name)
	}
	// Before the gate, for the movers in its pod begin to copy with it.
	if err := p.preflight(ctx, e); err != nil {
		return err
	}
	p.moves = time.Now()
	if err := s.StartGate(ctx); err != nil {
		return err
	}
	if err := s.StartTraffic(p.o.Rate, p.o.Connections, trafficSeed); err != nil {
		return err
	}
	p.say("the application serves clients at http://%s, %d requests a second", s.Gate, p.o.Rate)

	h, err := p.takeHelm(ctx, e)
	if err != nil {
		return err
	}
	defer h.close(ctx)

	if err := p.replicate(ctx, h); err != nil {
		return err
	}
	if err := s.StartServices(ctx, estate.Target); err != nil {
		return err
	}
	p.say("both sides are alike; the target's services are up")
	if h := p.harbour; h != nil {
		p.say("the target's pods run from what dhow plans for the old deployment: %s", h.Plan())
		p.report.SourcePods, p.report.TargetPods = h.Pods(estate.Source), h.Pods(estate.Target)
		p.report.Exposures = h.Exposures()
		p.say("pods: %d at the source, %d at the target; the operator, in pods there too, has made what %d Exposures take", p.report.SourcePods, p.report.TargetPods, p.report.Exposures)
	}
	if err := p.sail(ctx, p.o.Duration/2); err != nil {
		return err
	}
	serving, switches := estate.Source, 0
	for i, to := range p.legs() {
		if i > 0 {
			p.say("going to the %s again, with all that was written since", to)
		}
		if err := p.cutover(ctx, h, to); err != nil {
			return err
		}
		serving, switches = to, switches+1
		if err := p.sail(ctx, p.o.Duration/2); err != nil {
			return err
		}
	}
	p.report.RolledBack, p.report.Again = p.o.Rollback, p.o.Again
	p.report.PeakRSSMB = h.memory(ctx)
	if err := p.judge(ctx, serving, switches); err != nil {
		return err
	}
	if err := h.finish(ctx, serving); err != nil {
		return err
	}
	p.say("cleaned up: nothing of the move is left in the databases")
	return nil
}

// takeHelm steers from where the movers are.
func (p *play) takeHelm(ctx context.Context, e *estate.Estate) (helm, error) {
	if p.harbour != nil {
		return newAshore(p.harbour, e, p.say), nil
	}
	return newAboard(ctx, e, voyage.Options{Log: p.o.Log}, p.say)
}

// legs are the sides that the traffic is moved to, one after the other.
func (p *play) legs() []estate.Side {
	legs := []estate.Side{estate.Target}
	if p.o.Rollback {
		legs = append(legs, estate.Source)
	}
	if p.o.Again {
		legs = append(legs, estate.Target)
	}
	return legs
}

// sail lets the traffic run for a while.
func (p *play) sail(ctx context.Context, d time.Duration) error {
	p.say("the traffic runs for %s", d)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.stage.TrafficDone():
		return errors.New("the clients ended before they were told to, see traffic.log in the demo's folder")
	case <-time.After(d):
		return nil
	}
}

func (p *play) preflight(ctx context.Context, e *estate.Estate) error {
	a, err := newAboard(ctx, e, voyage.Options{Log: p.o.Log}, p.say)
	if err != nil {
		return err
	}
	defer a.close(ctx)
	found, err := a.preflight(ctx)
	if err != nil {
		return err
	}
	for _, name := range p.databases {
		for _, i := range found[name] {
			p.say("preflight, %s: %s %s: %s", name, i.Severity, i.Object, i.Consequence)
			if i.Severity == move.Loses {
				return fmt.Errorf("the preflight of database %s found %s at %s: %s", name, i.Rule, i.Object, i.Fix)
			}
		}
	}
	p.say("preflight: nothing stands in the way")
	return nil
}

// attempts is how often a cutover that would take, or took, longer than the
// budget is tried in all; each one is undone before the next.
const attempts = 3

// cutover moves the traffic to a side and notes the figures.
func (p *play) cutover(ctx context.Context, h helm, to estate.Side) error {
	for attempt := 1; ; attempt++ {
		err := p.attempt(ctx, h, to)
		if !errors.Is(err, cutover.ErrOverBudget) || attempt == attempts {
			return err
		}
		p.say("trying again: %v", err)
	}
}

// attempt is one run of the cutover.
func (p *play) attempt(ctx context.Context, h helm, to estate.Side) error {
	r, err := h.move(ctx, to, len(p.report.Legs) == 0) // later the proof of the cutover before stands
	if !r.HeldAt.IsZero() && !r.ReleasedAt.IsZero() {  // clients waited, whatever came of it
		p.note(r)
	}
	if err != nil {
		return err
	}
	p.say("the %s serves; requests were held for %d ms (%d ms predicted)", to, r.Stall.Milliseconds(), r.Predicted.Milliseconds())
	leg := p.report.Legs[len(p.report.Legs)-1]
	p.say("proof: %d rows compared as they stood at the cutover, %d different", leg.RowsCompared, leg.RowsDifferent)
	return nil
}

// note takes a run's figures over.
func (p *play) note(r cutover.Result) {
	p.windows = append(p.windows, window{from: r.HeldAt, to: r.ReleasedAt})
	leg := Leg{To: string(r.To), Outcome: string(r.Outcome), HeldMS: milliseconds(r.Stall), PredictedMS: milliseconds(r.Predicted)}
	for _, st := range r.Steps {
		leg.Steps = append(leg.Steps, LegStep{Step: string(st.Step), MS: milliseconds(st.Took)})
	}
	for name, c := range r.Compared {
		leg.RowsCompared += c.Rows
		leg.RowsDifferent += c.Different
		e := p.engine(name)
		if p.engines[name] == estate.Redis {
			e.KeysCompared += c.Rows
		} else {
			e.RowsCompared += c.Rows
		}
		e.Different += c.Different
	}
	for name, lag := range r.Lag {
		e := p.engine(name)
		e.LagMSAtFence = max(e.LagMSAtFence, milliseconds(lag))
	}
	p.report.RowsCompared += leg.RowsCompared
	p.report.RowsDifferent += leg.RowsDifferent
	p.report.Legs = append(p.report.Legs, leg)
}

// engine is the figures of a database's engine.
func (p *play) engine(database string) *EngineFigures {
	of := p.engines[database]
	if p.report.Engines[of] == nil {
		p.report.Engines[of] = &EngineFigures{}
	}
	return p.report.Engines[of]
}

// replicate copies all databases and returns once all streams follow closely.
func (p *play) replicate(ctx context.Context, h helm) error {
	if p.harbour == nil { // in pods the movers began with the gate
		p.moves = time.Now()
	}
	copied := &copyMeter{began: p.moves, last: map[string]move.Progress{}, heard: map[string]time.Time{}, copied: map[string]time.Time{}}
	var reports latest
	telling, stop := context.WithCancel(ctx)
	var told sync.WaitGroup
	told.Go(func() { reports.tell(telling, p.databases, p.say) })
	err := h.replicate(ctx, func(now move.Progress) {
		copied.hear(now)
		reports.hear(now)
	})
	stop()
	told.Wait()
	if err != nil {
		return err
	}
	for _, name := range p.databases {
		e := p.engine(name)
		e.CopyS = max(e.CopyS, copied.over(name).Seconds())
	}
	p.report.CopyRowsPerS, p.report.CopyMBPerS = copied.rates()
	p.say("copied %.0f rows a second, %.1f MB a second; the streams follow", p.report.CopyRowsPerS, p.report.CopyMBPerS)
	return nil
}

// judge ends the traffic and measures what the clients saw.
func (p *play) judge(ctx context.Context, serving estate.Side, switches int) error {
	sum, err := p.stage.StopTraffic() //nolint:contextcheck // clients end in their own time
	if err != nil {
		return err
	}
	p.say("the clients stopped; comparing what they were told with the databases")
	r, err := p.stage.Check(ctx, serving, switches)
	if err != nil {
		return err
	}
	return p.report.fill(sum, r, p.stage.History(), p.windows)
}

// keep leaves everything running and says how to look at it.
func (p *play) keep(ctx context.Context) {
	s := p.stage
	p.say("kept running until Ctrl-C:")
	for _, line := range []string{
		"the application:  curl http://" + s.Gate + "/accounts/1",
		"the folder:       " + s.Dir + " (dhow.yaml, logs, history, report)",
		fmt.Sprintf("the source:       PGPASSWORD=$(cat %s) psql -h 127.0.0.1 -p %d -U %s accounts", filepath.Join(s.Dir, "postgresql.source.password"), s.Source.Port, s.Source.User()),
		fmt.Sprintf("the target:       PGPASSWORD=$(cat %s) psql -h 127.0.0.1 -p %d -U %s accounts", filepath.Join(s.Dir, "postgresql.target.password"), s.Target.Port, s.Target.User()),
	} {
		p.say("  %s", line)
	}
	<-ctx.Done()
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// rowLimit is how many rows a second the move takes beside so many operations.
func rowLimit(rate int) int {
	if rate >= busyRate {
		return busyRowsPerSecond
	}
	return rowsPerSecond
}
