// Package cutover moves the traffic: a state machine over the movers and the
// gate, with a durable journal. It owns the order of things, the stall budget,
// the undoing and the recovery; how a database is fenced or a request is held is
// the movers' and the gate's. The same machine with the movers' ends swapped is
// the way back.
package cutover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"dhow/internal/estate"
	"dhow/internal/move"
)

// Side is an end of the voyage: a rollback moves to the source.
type Side = estate.Side

// The sides.
const (
	Source = estate.Source
	Target = estate.Target
)

// Gate is what the cutover needs of the traffic gate.
type Gate interface {
	// Hold makes every route keep new requests back, at most for the gate's own
	// bounds; it holds until Release or SwitchAndRelease.
	Hold(ctx context.Context) error
	// Drain returns once no request is in flight.
	Drain(ctx context.Context) error
	// SwitchAndRelease sends all traffic to a side from now on, the held requests first.
	SwitchAndRelease(ctx context.Context, to Side) error
	// Release lets the held requests go to the side that was served before.
	Release(ctx context.Context) error
}

// Defaults and bounds; the first is what the estate's stall_budget overrides.
const (
	// DefaultBudget is how long requests may be held, in all.
	DefaultBudget = 300 * time.Millisecond
	// undoTime bounds each attempt to undo.
	undoTime = 15 * time.Second
	// DefaultPersistence bounds what comes behind the point of no return; the next run goes on from there.
	DefaultPersistence = 30 * time.Second
	// DefaultPatience is how long a run waits for a moment in which the stall would be short enough.
	DefaultPatience = 10 * time.Second
	// forwardPause and forwardLongest bound the pause between two tries behind the
	// point of no return: clients wait, so it grows slowly.
	forwardPause   = 50 * time.Millisecond
	forwardLongest = 500 * time.Millisecond
	// DefaultBreath is how long the side that has just begun to serve is left alone:
	// its caches are cold, and clients come first.
	DefaultBreath = 2 * time.Second
	// restShare is the share of a breath that the clients are left alone before a
	// prediction, and again before the hold: what was prepared, and the prediction
	// itself, made their requests wait too.
	restShare = 4
	// calmShare is the share of the budget in which a predicted stall should fit while
	// there is patience: what a client notices is about twice what requests are held.
	calmShare = 2
	// rehearsals is how many markers are timed to predict the stall.
	rehearsals = 5
	// steadyEvery is the pause between two looks at whether the streams have caught up.
	steadyEvery = 100 * time.Millisecond
)

// Config is what a Machine works on.
type Config struct {
	// Movers are in the direction of the move; Back are the same with the ends swapped, in the same order.
	Movers, Back []move.Mover
	// Gate may be nil: then somebody else moves the traffic, and nothing is held.
	Gate   Gate
	To     Side
	Budget time.Duration
	// Patience is how long a run waits for a moment in which the predicted stall
	// fits the budget, before it gives up with nothing held; 0 means DefaultPatience.
	Patience time.Duration
	// Persistence is how long each step behind the point of no return is tried
	// before the run stops and must be started again; 0 means DefaultPersistence.
	Persistence time.Duration
	// Breath is the pause between the switch and what follows it, and in parts before
	// the hold; 0 means DefaultBreath.
	Breath time.Duration
	// Proof compares, after the traffic has moved, all data as it stood at the cutover point.
	Proof bool
	// Verify compares the moving data before, and refuses to cut over when it differs.
	Verify  bool
	Journal *Journal
	// Report gets every event; nil means none.
	Report func(Event)
	// Confirm is asked once all is ready and the stall is predicted; an error gives
	// the run up before anything is held. nil means yes.
	Confirm func(ctx context.Context, predicted time.Duration) error
	// AfterStep is called when a step stands in the journal and before it acts.
	// Tests stop the process there.
	AfterStep func(Step)
	Log       *slog.Logger
}

// Event is what happens, for people and for the report.
type Event struct {
	At       time.Time      `json:"at"`
	Step     Step           `json:"step,omitempty"`
	Took     time.Duration  `json:"took_ns,omitempty"`
	Slowest  Slowest        `json:"slowest,omitzero"`
	Text     string         `json:"text,omitempty"`
	Progress *move.Progress `json:"progress,omitempty"`
}

// Result is what a run came to.
type Result struct {
	To      Side    `json:"to"`
	Outcome Outcome `json:"outcome"`
	// Predicted and Stall are how long requests were expected to be held, and were.
	Predicted time.Duration `json:"predicted_ns"`
	Stall     time.Duration `json:"stall_ns"`
	// HeldAt and ReleasedAt bound the stall; zero when nothing was held.
	HeldAt     time.Time `json:"held_at,omitzero"`
	ReleasedAt time.Time `json:"released_at,omitzero"`
	Steps      []Timing  `json:"steps"`
	// Rehearsed is the worst that each database's rehearsals came to: the slowest
	// one bounds the stall.
	Rehearsed map[string]move.Rehearsal `json:"rehearsed,omitempty"`
	// Lag is how long each target was behind the fence, by database.
	Lag map[string]time.Duration `json:"lag_ns,omitempty"`
	// Compared is the proof, by database; Before is the comparison that let the cutover go ahead.
	Compared map[string]move.Comparison `json:"compared,omitempty"`
	Before   map[string]move.Comparison `json:"before,omitempty"`
	// Moving are the databases whose proof compared the moving data, because the
	// snapshots of the cutover were lost.
	Moving []string `json:"compared_moving,omitempty"`
	// Recovered says that an earlier run, cut off in the middle, was ended first.
	Recovered string `json:"recovered,omitempty"`
}

// Timing is how long a step took.
type Timing struct {
	Step    Step          `json:"step"`
	Took    time.Duration `json:"took_ns"`
	Slowest Slowest       `json:"slowest,omitzero"`
}

// Slowest is the database that a step waited for longest: all take part at once.
type Slowest struct {
	Database string        `json:"database"`
	Took     time.Duration `json:"took_ns"`
}

// ErrOverBudget says that the stall would have been, or became, longer than allowed; all was undone.
var ErrOverBudget = errors.New("over the stall budget")

// ErrDiffers says that both sides do not hold the same rows.
var ErrDiffers = errors.New("the two sides differ")

// Machine runs cutovers.
type Machine struct {
	cfg Config
	log *slog.Logger

	run     *Run
	result  Result
	streams *streams
	marks   []move.Marker
	mu      sync.Mutex // guards slowest
	slowest Slowest    // of the step that is done
	// pinned says that the snapshots of the cutover point are held.
	pinned bool
	// passed says that the point of no return is behind: a target may be open.
	passed bool
}

// New makes a Machine.
func New(cfg Config) (*Machine, error) {
	if len(cfg.Movers) == 0 || len(cfg.Movers) != len(cfg.Back) {
		return nil, errors.New("a cutover needs its movers, and as many for the way back")
	}
	if cfg.Journal == nil {
		return nil, errors.New("a cutover needs a journal")
	}
	if cfg.Budget <= 0 {
		cfg.Budget = DefaultBudget
	}
	if cfg.Patience <= 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.Persistence <= 0 {
		cfg.Persistence = DefaultPersistence
	}
	if cfg.Breath <= 0 {
		cfg.Breath = DefaultBreath
	}
	if cfg.Report == nil {
		cfg.Report = func(Event) {}
	}
	if cfg.AfterStep == nil {
		cfg.AfterStep = func(Step) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Machine{cfg: cfg, log: cfg.Log, result: Result{To: cfg.To}}, nil
}

// Run ends what an earlier run left, then moves the traffic. When it fails
// before the point of no return, all is as before; behind it, a second Run goes on.
func (m *Machine) Run(ctx context.Context) (Result, error) {
	defer m.stopStreams()
	arrived, err := m.recover(ctx)
	if err != nil || arrived {
		return m.result, err
	}
	if err := m.ready(ctx); err != nil {
		return m.result, err
	}
	m.startStreams(ctx, m.cfg.Movers)
	if err = m.rehearse(ctx); err != nil {
		return m.result, err
	}
	if err := m.awaitCalm(ctx); err != nil {
		return m.result, err
	}
	if m.cfg.Confirm != nil {
		if err := m.cfg.Confirm(ctx, m.result.Predicted); err != nil {
			return m.result, err
		}
	}
	if m.run, err = m.cfg.Journal.Begin(ctx, m.cfg.To); err != nil {
		return m.result, err
	}
	return m.result, m.drive(ctx)
}

// Rehearse does all of a cutover that nobody can notice: it streams, compares,
// prepares and times markers. Nothing is held, fenced or journaled.
func (m *Machine) Rehearse(ctx context.Context) (Result, error) {
	defer m.stopStreams()
	last, err := m.cfg.Journal.Last(ctx)
	if err != nil {
		return m.result, err
	}
	if last != nil && last.Outcome == "" {
		return m.result, fmt.Errorf("an earlier run to the %s was cut off at step %q: run it again without --dry-run, it ends in a safe state first", last.To, last.Last)
	}
	if err := m.ready(ctx); err != nil {
		return m.result, err
	}
	m.startStreams(ctx, m.cfg.Movers)
	if err := m.rehearse(ctx); err != nil {
		return m.result, err
	}
	return m.result, m.predict(ctx)
}

// ready checks, at the servers, that there is something to cut over.
func (m *Machine) ready(ctx context.Context) error {
	for _, mv := range m.cfg.Movers {
		s, err := mv.State(ctx)
		switch {
		case err != nil:
			return err
		case s.Open && s.Sealed:
			return &move.Refused{Reason: fmt.Sprintf("database %s is served by the %s already", mv.Name(), m.cfg.To), Fix: "see `dhow status`"}
		case !s.Copied:
			return &move.Refused{Reason: fmt.Sprintf("database %s is not copied yet", mv.Name()), Fix: "run `dhow replicate` until it streams"}
		case s.Open:
			return &move.Refused{Reason: fmt.Sprintf("both sides of database %s would take writes", mv.Name()), Fix: "stop the application's access to the " + string(m.cfg.To) + " and see `dhow status`"}
		case s.Sealed:
			return fmt.Errorf("database %s is sealed though no run is unfinished: see `dhow status`", mv.Name())
		}
	}
	return nil
}

// rehearse brings the streams up to date, compares, and prepares.
func (m *Machine) rehearse(ctx context.Context) error {
	if err := m.awaitStreams(ctx); err != nil {
		return err
	}
	if m.cfg.Verify {
		m.say("comparing both sides while they move")
		compared, err := m.compare(ctx, m.cfg.Movers, move.VerifyOptions{})
		m.result.Before = compared
		if err != nil {
			return err
		}
	}
	m.say("preparing what can be done before the fence")
	return m.each(ctx, m.cfg.Movers, prepareMover)
}

// awaitCalm returns at a moment in which the predicted stall fits the budget, well if
// one comes while half of the patience lasts.
func (m *Machine) awaitCalm(ctx context.Context) error {
	began := time.Now()
	for {
		if err := m.rest(ctx); err != nil {
			return err
		}
		if err := m.predict(ctx); err != nil {
			return err
		}
		predicted := m.result.Predicted.Round(time.Millisecond)
		m.say("predicted stall %s, of the %s allowed", predicted, m.cfg.Budget)
		waited := time.Since(began)
		if m.result.Predicted <= m.cfg.Budget/calmShare || m.result.Predicted <= m.cfg.Budget && waited > m.cfg.Patience/2 {
			return m.rest(ctx)
		}
		if waited > m.cfg.Patience {
			return fmt.Errorf("%w: %s are predicted and %s allowed, nothing was held: raise cutover.stall_budget, or lessen the load", ErrOverBudget, predicted, m.cfg.Budget)
		}
	}
}

// rest leaves the clients alone for a moment.
func (m *Machine) rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(m.cfg.Breath / restShare):
		return nil
	}
}

// drive does the steps in order. Any failure before the point of no return is undone.
func (m *Machine) drive(ctx context.Context) error {
	over := time.Now().Add(m.cfg.Budget)
	short, cancel := context.WithDeadline(ctx, over)
	defer cancel()
	for _, st := range table {
		stepCtx := ctx
		if st.stage == undoable {
			stepCtx = short
		}
		err := m.step(stepCtx, st)
		if err == nil {
			continue
		}
		if m.passed {
			return fmt.Errorf("step %s (behind the point of no return, run the same command again to go on): %w", st.name, err)
		}
		// A connection's own timeout, at that very moment, is no DeadlineExceeded.
		if ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || !time.Now().Before(over)) {
			err = fmt.Errorf("%w of %s at step %s: %w", ErrOverBudget, m.cfg.Budget, st.name, err)
		} else {
			err = fmt.Errorf("step %s: %w", st.name, err)
		}
		return m.undo(ctx, err)
	}
	return m.arrive(ctx)
}

// arrive records that the traffic has moved. Rows that differ are the caller's to
// know: the way back is open.
func (m *Machine) arrive(ctx context.Context) error {
	m.result.Outcome = Done
	if err := m.cfg.Journal.End(context.WithoutCancel(ctx), m.run, Done, ""); err != nil {
		return fmt.Errorf("the %s serves, but that is not in the journal; run the same command again once it can be written: %w", m.cfg.To, err)
	}
	return differsBehind(m.result.Compared, m.cfg.To)
}

// step records a step, then lets it act.
func (m *Machine) step(ctx context.Context, st step) error {
	if err := m.cfg.Journal.Step(context.WithoutCancel(ctx), m.run, st.name); err != nil {
		if !m.passed {
			return err
		}
		// Clients wait, and only forward is a way; a run that goes on after a crash
		// believes the servers, not the journal.
		m.log.Error("a step is not in the journal; going on without", "step", string(st.name), "error", err)
	}
	m.cfg.AfterStep(st.name)
	m.passed = m.passed || st.stage == final
	m.mu.Lock()
	m.slowest = Slowest{}
	m.mu.Unlock()
	began := time.Now()
	var err error
	if st.stage == final {
		err = m.untilDone(ctx, st)
	} else {
		err = st.do(m, ctx)
	}
	if err != nil {
		return err
	}
	took := time.Since(began)
	m.mu.Lock()
	slowest := m.slowest
	m.mu.Unlock()
	m.result.Steps = append(m.result.Steps, Timing{Step: st.name, Took: took, Slowest: slowest})
	m.cfg.Report(Event{At: time.Now(), Step: st.name, Took: took, Slowest: slowest})
	return nil
}

// untilDone repeats a step that has no undo until it succeeds or its time is
// over. Neither the budget nor Ctrl-C stops it halfway.
func (m *Machine) untilDone(ctx context.Context, st step) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Persistence)
	defer cancel()
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = forwardPause, forwardLongest
	for {
		err := st.do(m, ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		m.log.Warn("a step is tried again", "step", string(st.name), "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pauses.NextBackOff()):
		}
	}
}

// undo makes all as it was before the run, whatever step it got to. The cause is
// returned, with what could not be undone.
func (m *Machine) undo(ctx context.Context, cause error) error {
	m.say("undoing: %v", cause)
	m.stopStreams()
	c, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	unfence := m.all(c, m.cfg.Movers, unfenceMover)
	var release error
	if m.cfg.Gate != nil {
		release = m.cfg.Gate.Release(c)
	}
	m.result.ReleasedAt = time.Now()
	if !m.result.HeldAt.IsZero() {
		m.result.Stall = m.result.ReleasedAt.Sub(m.result.HeldAt)
	}
	if unfence != nil || release != nil {
		return errors.Join(cause, fmt.Errorf("undoing was not complete, run the same command again when the servers can be reached: %w", errors.Join(unfence, release)))
	}
	if err := m.cfg.Journal.End(c, m.run, Undone, cause.Error()); err != nil {
		return errors.Join(cause, err)
	}
	m.result.Outcome = Undone
	return fmt.Errorf("undone, the %s goes on as before: %w", m.cfg.To.Other(), cause)
}

// all does the same with all movers at once, and lets each come to its end: one
// server that is away is no reason to leave another as it is.
func (m *Machine) all(ctx context.Context, movers []move.Mover, do func(context.Context, move.Mover) error) error {
	errs := make([]error, len(movers))
	var wg sync.WaitGroup
	for i, mv := range movers {
		wg.Go(func() {
			if err := m.timed(ctx, mv, do); err != nil {
				errs[i] = fmt.Errorf("database %s: %w", mv.Name(), err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// each does the same with all movers at once; the first that fails stops the others.
func (m *Machine) each(ctx context.Context, movers []move.Mover, do func(context.Context, move.Mover) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, mv := range movers {
		g.Go(func() error {
			if err := m.timed(ctx, mv, do); err != nil {
				return fmt.Errorf("database %s: %w", mv.Name(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

// timed does it with one mover, and notes how long that took if none took longer.
func (m *Machine) timed(ctx context.Context, mv move.Mover, do func(context.Context, move.Mover) error) error {
	began := time.Now()
	err := do(ctx, mv)
	m.mu.Lock()
	defer m.mu.Unlock()
	if took := time.Since(began); took > m.slowest.Took {
		m.slowest = Slowest{Database: mv.Name(), Took: took}
	}
	return err
}

func (m *Machine) say(format string, args ...any) {
	m.cfg.Report(Event{At: time.Now(), Text: fmt.Sprintf(format, args...)})
}
