package cutover

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"dhow/internal/move"
)

// Step names a step, in the journal too.
type Step string

// The steps of a run, in order.
const (
	StepHold    Step = "hold"
	StepDrain   Step = "drain"
	StepFence   Step = "fence"
	StepCatchUp Step = "catch-up"
	StepPin     Step = "pin"
	StepSeal    Step = "seal"
	StepOpen    Step = "open"
	StepSwitch  Step = "switch"
	StepRetire  Step = "retire"
	StepProve   Step = "prove"
)

// Steps are the names of all steps, in order.
func Steps() []Step {
	names := make([]Step, len(table))
	for i, st := range table {
		names[i] = st.name
	}
	return names
}

// step is a row of the machine's table.
type step struct {
	name  Step
	does  string
	stage stage
	do    func(*Machine, context.Context) error
}

// stage says what a step's failure means.
type stage int

const (
	// undoable: clients wait, the stall budget runs, and a failure is undone.
	undoable stage = iota
	// final: clients wait, but the way back is closed: it is repeated, never undone.
	final
	// after: the traffic has moved; a failure is reported.
	after
)

// table is the state machine: each step and what it does. A failure of a step
// that is not final is undone by Unfence of every mover and Release of the gate,
// whatever was done before: both may be called at any time.
var table = []step{
	{StepHold, "the gate keeps new requests back", undoable, (*Machine).hold},
	{StepDrain, "requests in flight end", undoable, (*Machine).drain},
	{StepFence, "every source is locked against writes, and marked", undoable, (*Machine).fence},
	{StepCatchUp, "every target has applied its marker; the streams end", undoable, (*Machine).catchUp},
	{StepPin, "snapshots of both sides are kept for the proof", undoable, (*Machine).pin},
	{StepSeal, "every target is completed, every fence made durable", undoable, (*Machine).seal},
	{StepOpen, "every target takes writes", final, (*Machine).open},
	{StepSwitch, "the gate sends the held requests, and all others, to the new side", final, (*Machine).switchOver},
	{StepRetire, "after a breath the streams back run; the old streams' slots go", after, (*Machine).retire},
	{StepProve, "all rows are compared as they stood at the cutover", after, (*Machine).prove},
}

func (m *Machine) hold(ctx context.Context) error {
	m.result.HeldAt = time.Now()
	if m.cfg.Gate == nil {
		return nil
	}
	return m.cfg.Gate.Hold(ctx)
}

func (m *Machine) drain(ctx context.Context) error {
	if m.cfg.Gate == nil {
		return nil
	}
	return m.cfg.Gate.Drain(ctx)
}

func (m *Machine) fence(ctx context.Context) error {
	marks := make([]move.Marker, len(m.cfg.Movers))
	err := m.eachIndexed(ctx, func(ctx context.Context, i int, mv move.Mover) (err error) {
		marks[i], err = mv.Fence(ctx)
		return err
	})
	m.marks = marks
	return err
}

func (m *Machine) catchUp(ctx context.Context) error {
	began, took := time.Now(), make([]time.Duration, len(m.cfg.Movers))
	err := m.eachIndexed(ctx, func(ctx context.Context, i int, mv move.Mover) error {
		err := mv.CatchUp(ctx, m.marks[i])
		took[i] = time.Since(began)
		return err
	})
	m.result.Lag = make(map[string]time.Duration, len(took))
	for i, mv := range m.cfg.Movers {
		m.result.Lag[mv.Name()] = took[i]
	}
	if err != nil {
		return errors.Join(err, m.streams.failure())
	}
	m.stopStreams()
	return ctx.Err()
}

func (m *Machine) pin(ctx context.Context) error {
	if !m.cfg.Proof {
		return nil
	}
	if err := m.each(ctx, m.cfg.Movers, pinMover); err != nil {
		return err
	}
	m.pinned = true
	return nil
}

func (m *Machine) seal(ctx context.Context) error { return m.each(ctx, m.cfg.Movers, sealMover) }

func (m *Machine) open(ctx context.Context) error { return m.all(ctx, m.cfg.Movers, openMover) }

func (m *Machine) switchOver(ctx context.Context) error {
	if m.cfg.Gate != nil {
		if err := m.cfg.Gate.SwitchAndRelease(ctx, m.cfg.To); err != nil {
			return err
		}
	}
	m.result.ReleasedAt = time.Now()
	if !m.result.HeldAt.IsZero() {
		m.result.Stall = m.result.ReleasedAt.Sub(m.result.HeldAt)
	}
	return nil
}

func (m *Machine) retire(ctx context.Context) error {
	select {
	case <-time.After(m.cfg.Breath):
	case <-ctx.Done(): // what follows is done all the same
	}
	if m.streams == nil {
		m.startStreams(context.WithoutCancel(ctx), m.cfg.Back)
	}
	return m.all(ctx, m.cfg.Movers, retireMover)
}

func pinMover(ctx context.Context, mv move.Mover) error     { return mv.Pin(ctx) }
func sealMover(ctx context.Context, mv move.Mover) error    { return mv.Seal(ctx) }
func openMover(ctx context.Context, mv move.Mover) error    { return mv.Open(ctx) }
func retireMover(ctx context.Context, mv move.Mover) error  { return mv.Retire(ctx) }
func unfenceMover(ctx context.Context, mv move.Mover) error { return mv.Unfence(ctx) }
func prepareMover(ctx context.Context, mv move.Mover) error { return mv.Prepare(ctx) }

// prove compares all rows as they stood at the cutover, while the snapshots of
// that moment are held; of a database whose snapshots were lost, to a crash or
// with their sessions, the rows as they move.
func (m *Machine) prove(ctx context.Context) error {
	if !m.cfg.Proof {
		return nil
	}
	m.result.Compared = make(map[string]move.Comparison, len(m.cfg.Movers))
	lost := m.cfg.Back
	if m.pinned {
		m.say("comparing all rows as they stood at the cutover")
		lost = nil
		for i, mv := range m.cfg.Movers {
			c, err := m.compareOne(ctx, mv, move.VerifyOptions{Pinned: true})
			mv.Unpin(context.WithoutCancel(ctx))
			if err == nil {
				m.result.Compared[mv.Name()] = c
				continue
			}
			if ctx.Err() == nil {
				m.log.Warn("the pinned snapshots can not be compared", "database", mv.Name(), "error", err)
			}
			lost = append(lost, m.cfg.Back[i])
		}
		m.pinned = false
	}
	if len(lost) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, mv := range lost {
		m.result.Moving = append(m.result.Moving, mv.Name())
	}
	m.say("the snapshots of the cutover were lost of %s: comparing both sides while they move", strings.Join(m.result.Moving, ", "))
	if err := m.awaitStreams(ctx); err != nil {
		return err
	}
	compared, err := m.compare(ctx, lost, move.VerifyOptions{})
	maps.Copy(m.result.Compared, compared)
	return arrivedAllTheSame(err)
}

// arrivedAllTheSame: rows that differ do not stop a run that has moved the
// traffic; its result holds them, and its end says so.
func arrivedAllTheSame(err error) error {
	if errors.Is(err, ErrDiffers) {
		return nil
	}
	return err
}

func (m *Machine) eachIndexed(ctx context.Context, do func(context.Context, int, move.Mover) error) error {
	index := make(map[move.Mover]int, len(m.cfg.Movers))
	for i, mv := range m.cfg.Movers {
		index[mv] = i
	}
	return m.each(ctx, m.cfg.Movers, func(ctx context.Context, mv move.Mover) error { return do(ctx, index[mv], mv) })
}
