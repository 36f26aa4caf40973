package voyage

import (
	"context"
	"fmt"
	"slices"

	"dhow/internal/move"
)

// tabler lists the tables, or key spaces, that a mover compares, sorted, as its source names them.
type tabler interface {
	Tables(ctx context.Context) ([]string, error)
}

// Tables are the tables, or key spaces, of a database that move, sorted, as its
// source names them; none where its mover knows no parts.
func (v *Voyage) Tables(ctx context.Context, database string) ([]string, error) {
	at := slices.IndexFunc(v.Movers, func(m move.Mover) bool { return m.Name() == database })
	if at < 0 {
		return nil, fmt.Errorf("there is no database %s in %s", database, v.Estate.File)
	}
	t, ok := v.Movers[at].(tabler)
	if !ok {
		return nil, nil
	}
	names, err := t.Tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the tables of database %s: %w", database, err)
	}
	return names, nil
}
