package voyage

import (
	"context"
	"fmt"

	"dhow/internal/cutover"
	"dhow/internal/move"
)

// Leftover is something of ours that stands in a database.
type Leftover struct {
	Database string       `json:"database"`
	Side     cutover.Side `json:"side"`
	// Kind is what it is in the engine's words: slot, publication, trigger, schema,
	// replication, key; of a trigger, Name is its table's.
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// leaver lists what moves have left behind on a side, as the mover's own direction names it.
type leaver interface {
	Leftovers(ctx context.Context, side string) ([]move.Leftover, error)
}

// Leftovers lists what moves have left behind in the estate's databases, on both
// sides; those of another estate in the same database too.
func (v *Voyage) Leftovers(ctx context.Context) ([]Leftover, error) {
	var all []Leftover
	for _, m := range v.Movers {
		l, ok := m.(leaver)
		if !ok {
			continue
		}
		for _, side := range []cutover.Side{cutover.Source, cutover.Target} {
			found, err := l.Leftovers(ctx, string(side))
			if err != nil {
				return nil, fmt.Errorf("list what a move left behind at the %s of database %s: %w", side, m.Name(), err)
			}
			for _, f := range found {
				all = append(all, Leftover{Database: m.Name(), Side: side, Kind: f.Kind, Name: f.Name})
			}
		}
	}
	return all, nil
}
