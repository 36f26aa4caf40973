package mariadb

import (
	"context"
	"fmt"

	"dhow/internal/move"
)

// Finish removes from both sides all that the move left: replications, the guard,
// the database dhow. It refuses while neither side would take writes. The events of
// the side that does not serve stay disabled.
func (m *Mover) Finish(ctx context.Context) error {
	m.closeSpares()
	m.Unpin(ctx)
	m.dropFence(ctx)
	s, err := m.State(ctx)
	if err != nil {
		return err
	}
	// A sealed source whose target knows of no move is what an earlier Finish,
	// cut off in the middle, leaves: going on is right.
	if s.Sealed && s.Started && !s.Open {
		return &move.Refused{Reason: fmt.Sprintf("database %s stands between its two ends: neither takes writes", m.cfg.Name), Fix: "run `dhow cutover` or `dhow rollback` again; they end in a safe state"}
	}
	// The side that does not serve is cleaned last, so that its guard stands until
	// nothing else of the move is left.
	sides := []string{source, target}
	if s.Open {
		sides = []string{target, source}
	}
	// First the replications: what is dropped must not be dropped at the other end too.
	for _, side := range sides {
		if err := m.quietly(ctx, side, m.forgetReplication); err != nil {
			return err
		}
	}
	for _, side := range sides {
		if err := m.quietly(ctx, side, m.clean); err != nil {
			return err
		}
	}
	return nil
}

// quietly does something in a session of its own that stays out of the binary log where it can.
func (m *Mover) quietly(ctx context.Context, side string, do func(context.Context, *worker) error) error {
	w, err := m.worker(ctx, side)
	if err != nil {
		return err
	}
	defer hangUp(w.Conn)
	if err := w.quiet(ctx); err != nil {
		return err
	}
	return do(ctx, w)
}

// forgetReplication removes the replication that ends at a side.
func (m *Mover) forgetReplication(ctx context.Context, w *worker) error {
	if w.side == target {
		return m.removeReplication(ctx, w)
	}
	return m.reversed().removeReplication(ctx, w)
}

// clean removes the guard and the state from a side. Other moves of the same server keep theirs.
func (m *Mover) clean(ctx context.Context, w *worker) error {
	was, err := m.sealOf(w.side).readSealed(ctx, w)
	if err != nil {
		return err
	}
	if err := m.writable(ctx, w, was); err != nil {
		return err
	}
	if err := m.dropGuard(ctx, w); err != nil {
		return err
	}
	has, err := hasState(ctx, w)
	if err != nil {
		return err
	}
	if has {
		for table, column := range map[string]string{"chunk": "stream", "marker": "stream", "fence": "stream", "stream": "name"} {
			if _, err := w.ExecContext(ctx, fmt.Sprintf("DELETE FROM dhow.%s WHERE %s IN (?, ?)", table, column), m.stream, m.back); err != nil {
				return fmt.Errorf("forget the move's state at the %s: %w", m.named(w.side), err)
			}
		}
		for _, table := range []string{"stream", "fence", "gate"} {
			var others int
			err := w.QueryRowContext(ctx, "SELECT count(*) FROM dhow."+table).Scan(&others)
			if err != nil && !isNumber(err, errNoTable) {
				return fmt.Errorf("look for other moves' state at the %s: %w", m.named(w.side), err)
			}
			if others > 0 { // their triggers read the gate
				return nil
			}
		}
	}
	if _, err := w.ExecContext(ctx, "DROP DATABASE IF EXISTS "+stateDatabase); err != nil {
		return fmt.Errorf("drop the database %s at the %s: %w", stateDatabase, m.named(w.side), err)
	}
	return nil
}
