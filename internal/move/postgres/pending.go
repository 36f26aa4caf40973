package postgres

import (
	"context"
	"errors"

	"dhow/internal/move"
)

var errPending = errors.New("not built yet")

func (m *Mover) Preflight(context.Context) ([]move.Issue, error) { return nil, errPending }
