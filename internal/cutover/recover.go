package cutover

import (
	"context"
	"fmt"
	"strings"

	"dhow/internal/move"
)

// recover ends a run that was cut off. The servers say what happened, not the
// journal: where a target is open the run goes on to its end (arrived is true);
// where none is, all is undone, and a new run may begin.
//
// Why this is safe: a target opens only when its own source is sealed, and the
// machine opens the first one only when every source is sealed. So an open target
// means that all sources are sealed; and while no target is open, unsealing
// every source is as if nothing had happened. Should a server have lost its seal
// meanwhile, its target is not open yet, and it is fenced again.
func (m *Machine) recover(ctx context.Context) (arrived bool, err error) {
	last, err := m.cfg.Journal.Last(ctx)
	if err != nil {
		return false, err
	}
	if last == nil || last.Outcome != "" {
		return false, nil
	}
	if last.To != m.cfg.To {
		return false, fmt.Errorf("an earlier run to the %s was cut off at step %q: finish that first, with `dhow %s`", last.To, last.Last, command(last.To))
	}
	m.run = last
	open := false
	var loose []move.Mover
	for _, mv := range m.cfg.Movers {
		s, err := mv.State(ctx)
		switch {
		case err != nil:
			return false, fmt.Errorf("an earlier run was cut off at step %q, and how it stands can not be seen: database %s: %w", last.Last, mv.Name(), err)
		case s.Open && !s.Sealed:
			return false, &move.Refused{Reason: fmt.Sprintf("an earlier run was cut off at step %q, and both sides of database %s take writes: the fence of its %s did not outlive the process, as `dhow preflight` warned", last.Last, mv.Name(), m.cfg.To.Other()),
				Fix: fmt.Sprintf("keep the application away from the %s, compare the two, and mend the %s by hand", m.cfg.To.Other(), m.cfg.To)}
		case s.Open:
			open = true
		case !s.Sealed:
			loose = append(loose, mv)
		}
	}
	if !open {
		m.result.Recovered = fmt.Sprintf("an earlier run was cut off at step %q: it was undone", last.Last)
		m.say("%s", m.result.Recovered)
		c, cancel := context.WithTimeout(ctx, undoTime)
		defer cancel()
		if err := m.all(c, m.cfg.Movers, unfenceMover); err != nil {
			return false, fmt.Errorf("undo the run that was cut off at step %q: %w", last.Last, err)
		}
		if m.cfg.Gate != nil {
			if err := m.cfg.Gate.Release(c); err != nil {
				return false, fmt.Errorf("undo the run that was cut off at step %q: %w", last.Last, err)
			}
		}
		return false, m.cfg.Journal.End(ctx, m.run, Undone, "cut off at step "+string(last.Last))
	}
	m.result.Recovered = fmt.Sprintf("an earlier run was cut off at step %q, behind the point of no return: it was brought to its end", last.Last)
	m.say("%s", m.result.Recovered)
	m.passed = true
	if len(loose) > 0 {
		if err := m.fenceAgain(ctx, loose); err != nil {
			return false, fmt.Errorf("fence again what a run that was cut off had fenced (run the same command again to go on): %w", err)
		}
	}
	for _, st := range table {
		if st.stage == undoable {
			continue
		}
		if err := m.step(ctx, st); err != nil {
			return false, fmt.Errorf("step %s of a run that was cut off (run the same command again to go on): %w", st.name, err)
		}
	}
	return true, m.arrive(ctx)
}

// fenceAgain seals the sources whose seal did not last: a server that can keep
// none lets go when the process dies, and may have taken writes since. While another
// database is open the only way is forward, but none of these is, so nothing is lost: the
// streams bring them up to date, as in any cutover.
func (m *Machine) fenceAgain(ctx context.Context, movers []move.Mover) error {
	names := make([]string, len(movers))
	for i, mv := range movers {
		names[i] = mv.Name()
	}
	m.say("the fence of %s did not last: fencing again", strings.Join(names, ", "))
	m.startStreams(ctx, movers)
	defer m.stopStreams()
	if err := m.awaitStreams(ctx); err != nil {
		return err
	}
	if err := m.each(ctx, movers, prepareMover); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Persistence)
	defer cancel()
	if err := m.hold(ctx); err != nil {
		return err
	}
	if err := m.drain(ctx); err != nil {
		return err
	}
	err := m.each(ctx, movers, func(ctx context.Context, mv move.Mover) error {
		mark, err := mv.Fence(ctx)
		if err != nil {
			return err
		}
		return mv.CatchUp(ctx, mark)
	})
	if err != nil {
		return err
	}
	m.stopStreams()
	return m.each(ctx, movers, sealMover)
}

func command(to Side) string {
	if to == Source {
		return "rollback"
	}
	return "cutover"
}

// Where asks the servers which side serves: the target when every database is
// open there and sealed at its source. The movers are those of the way there.
func Where(ctx context.Context, movers []move.Mover) (Side, []move.State, error) {
	states := make([]move.State, len(movers))
	atTarget := 0
	for i, mv := range movers {
		s, err := mv.State(ctx)
		if err != nil {
			return "", nil, err
		}
		states[i] = s
		if s.Open && s.Sealed {
			atTarget++
		}
	}
	switch atTarget {
	case 0:
		return Source, states, nil
	case len(movers):
		return Target, states, nil
	}
	return "", states, fmt.Errorf("%d of %d databases are served by the target: a cutover was cut off, run it again and it ends in a safe state", atTarget, len(movers))
}
