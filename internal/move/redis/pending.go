package redis

// What is not built yet; each method leaves this file when it is. The file goes when it is empty.

import (
	"context"
	"errors"

	"dhow/internal/move"
)

var errPending = errors.New("not built yet")

// copy and stream
type running struct{}

func (m *Mover) Replicate(context.Context, func(move.Progress)) error { return errPending }
func (m *Mover) Rehearse(context.Context) (move.Rehearsal, error) {
	return move.Rehearsal{}, errPending
}
func (m *Mover) CatchUp(context.Context, move.Marker) error { return errPending }

// preflight and comparison
type pins struct{}

func (m *Mover) Preflight(context.Context) ([]move.Issue, error) { return nil, errPending }
func (m *Mover) Verify(context.Context, move.VerifyOptions, func(move.Progress)) (move.Comparison, error) {
	return move.Comparison{}, errPending
}
func (m *Mover) Pin(context.Context) error { return errPending }
func (m *Mover) Unpin(context.Context)     {}
