package postgres

import (
	"context"
	"errors"

	"dhow/internal/move"
)

// To be replaced piece by piece by load.go/copy.go, stream.go/apply.go, preflight.go, ddl.go, verify.go, fence.go, promote.go, finish.go.

var errPending = errors.New("not built yet")

func (m *Mover) load(context.Context, func(move.Progress)) (*streamState, error) {
	return nil, errPending
}
func (m *Mover) watchSchema(ctx context.Context) error           { <-ctx.Done(); return ctx.Err() }
func (m *Mover) Preflight(context.Context) ([]move.Issue, error) { return nil, errPending }
func (m *Mover) Verify(context.Context, move.VerifyOptions, func(move.Progress)) (move.Comparison, error) {
	return move.Comparison{}, errPending
}
