package estate_test

import (
	"testing"

	"dhow/internal/estate"
	"dhow/internal/move/postgres"
)

// TestDefaultsAreTheMovers: a mover without an estate takes the same from the
// servers as one with an estate that says nothing of it.
func TestDefaultsAreTheMovers(t *testing.T) {
	for name, c := range map[string]struct{ estate, mover int64 }{
		"copies":   {estate.DefaultCopies, postgres.DefaultCopies},
		"lanes":    {estate.DefaultLanes, postgres.DefaultLanes},
		"chunk":    {int64(estate.DefaultChunk), postgres.DefaultChunkBytes},
		"wal_warn": {int64(estate.DefaultWALWarn), postgres.DefaultWALWarn},
		"wal_stop": {int64(estate.DefaultWALStop), postgres.DefaultWALStop},
	} {
		if c.estate != c.mover {
			t.Errorf("%s: the estate's default is %d, the mover's %d", name, c.estate, c.mover)
		}
	}
}
