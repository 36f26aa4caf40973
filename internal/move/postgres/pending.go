package postgres

import (
	"context"
	"errors"

	"dhow/internal/move"
)

var errPending = errors.New("not built yet")

func (m *Mover) watchSchema(ctx context.Context) error           { <-ctx.Done(); return ctx.Err() }
func (m *Mover) Preflight(context.Context) ([]move.Issue, error) { return nil, errPending }
func (m *Mover) Verify(context.Context, move.VerifyOptions, func(move.Progress)) (move.Comparison, error) {
	return move.Comparison{}, errPending
}
