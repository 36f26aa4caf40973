package mariadb

import (
	"context"

	"dhow/internal/move"
)

// State asks both servers where the move stands.
func (m *Mover) State(ctx context.Context) (move.State, error) {
	var s move.State
	t, err := m.session(ctx, target)
	if err != nil {
		return s, err
	}
	defer hangUp(t)
	row, err := readStream(ctx, t, m.stream)
	if err != nil {
		return s, err
	}
	s.Started = row != nil
	s.Copied = row != nil && row.Phase == phaseStream
	there, err := m.askGuard(ctx, t, target)
	if err != nil {
		return s, err
	}
	// Before the target is guarded nothing of it can be served.
	s.Open = s.Started && there == admits
	from, err := m.session(ctx, source)
	if err != nil {
		return s, err
	}
	defer hangUp(from)
	here, err := m.askGuard(ctx, from, source)
	if err != nil {
		return s, err
	}
	s.Sealed = here == refuses
	return s, nil
}
