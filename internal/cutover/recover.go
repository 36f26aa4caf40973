package cutover

import (
	"context"
	"fmt"

	"dhow/internal/move"
)

// recover ends a run that was cut off. The servers say what happened, not the
// journal: where a target is open the run goes on to its end (arrived is true);
// where none is, all is undone, and a new run may begin.
//
// Why this is safe: a target opens only when its own source is sealed, and the
// machine opens the first one only when every source is sealed. So an open target
// means that all sources are sealed; and while no target is open, unsealing
// every source is as if nothing had happened.
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
	for _, mv := range m.cfg.Movers {
		s, err := mv.State(ctx)
		if err != nil {
			return false, fmt.Errorf("an earlier run was cut off at step %q, and how it stands can not be seen: %w", last.Last, err)
		}
		open = open || s.Open && s.Sealed
	}
	if !open {
		m.result.Recovered = fmt.Sprintf("an earlier run was cut off at step %q: it was undone", last.Last)
		m.say("%s", m.result.Recovered)
		c, cancel := context.WithTimeout(ctx, undoTime)
		defer cancel()
		if err := m.each(c, m.cfg.Movers, unfenceMover); err != nil {
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
