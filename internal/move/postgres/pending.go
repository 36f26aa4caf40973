package postgres

import (
	"context"
	"errors"

	"dhow/internal/move"
)

// To be replaced piece by piece by load.go/copy.go, stream.go/apply.go, preflight.go, ddl.go, verify.go, fence.go, promote.go, finish.go.

type relay struct{}

var errPending = errors.New("not built yet")

func (m *Mover) load(context.Context, func(move.Progress)) (*streamState, error) {
	return nil, errPending
}
func (m *Mover) newRelay(context.Context, streamState) (*relay, error) { return nil, errPending }
func (r *relay) run(context.Context) error                             { return errPending }
func (r *relay) caughtUp(context.Context, int64) error                 { return errPending }
func (r *relay) progress() move.Progress                               { return move.Progress{} }
func (m *Mover) watchSchema(context.Context) error                     { return errPending }
func (m *Mover) Preflight(context.Context) ([]move.Issue, error)       { return nil, errPending }
func (m *Mover) Verify(context.Context, move.VerifyOptions, func(move.Progress)) (move.Comparison, error) {
	return move.Comparison{}, errPending
}
