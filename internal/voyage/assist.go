package voyage

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"dhow/internal/estate"
	"dhow/internal/move"
)

// assistant is a mover whose copy other processes can take part in.
type assistant interface {
	// Assist copies chunks until the copy is over; part is from 0, of parts.
	Assist(ctx context.Context, part, parts int, report func(move.Progress)) error
}

// ErrUnshared says that no database of the estate has a copy that others could help with.
var ErrUnshared = errors.New("the copy of none of the databases can be shared among processes")

// Shared are the databases whose copies other processes can help with.
func (v *Voyage) Shared() []string {
	var names []string
	for _, m := range v.Movers {
		if _, ok := m.(assistant); ok {
			names = append(names, m.Name())
		}
	}
	return names
}

// Assist helps the process that owns the copies of the estate's databases, until they
// are over: part, from 0, of parts. It takes no lock and keeps no state, so it may be
// killed and called again, anywhere and at any time.
func (v *Voyage) Assist(ctx context.Context, part, parts int, report func(move.Progress)) error {
	g, ctx := errgroup.WithContext(ctx)
	helps := false
	for _, m := range v.Movers {
		one, ok := m.(assistant)
		if !ok {
			continue
		}
		helps = true
		g.Go(func() error {
			if err := one.Assist(ctx, part, parts, report); err != nil {
				return fmt.Errorf("help to copy database %s: %w", m.Name(), err)
			}
			return nil
		})
	}
	if !helps {
		return ErrUnshared
	}
	return g.Wait()
}

// Share lets each of some processes that copy together take its share of what the
// estate allows: rows a second, of the databases whose copies are shared.
func Share(e *estate.Estate, processes int) {
	for i := range e.Databases {
		d := &e.Databases[i]
		d.Limits = merge(d.Limits, e.Limits)
		if n := d.Limits.RowsPerSecond; n > 0 && (d.Engine == estate.PostgreSQL || d.Engine == "") {
			d.Limits.RowsPerSecond = max(1, n/processes)
		}
	}
}
