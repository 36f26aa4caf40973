package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// sequenceState is all that a sequence remembers.
type sequenceState struct {
	Last   int64
	Called bool
}

// sequenceBatch is how many sequences one statement reads or sets.
const sequenceBatch = 200

// copySequences sets the target's sequences exactly as the source's are, those
// that no column owns too, and reads them back.
func copySequences(ctx context.Context, source, target *pgx.Conn, names []Name) error {
	want, err := readSequences(ctx, source, names)
	if err != nil {
		return fmt.Errorf("read the source's sequences: %w", err)
	}
	for batch := range batches(names, sequenceBatch) {
		var sql strings.Builder
		for _, n := range batch {
			fmt.Fprintf(&sql, "SELECT setval(%s::regclass, %d, %t);\n", quote(n.SQL()), want[n].Last, want[n].Called)
		}
		if _, err := target.Exec(ctx, sql.String()); err != nil {
			return fmt.Errorf("set the target's sequences: %w", err)
		}
	}
	got, err := readSequences(ctx, target, names)
	if err != nil {
		return fmt.Errorf("read the target's sequences: %w", err)
	}
	for _, n := range names {
		if got[n] != want[n] {
			return &move.Refused{Reason: fmt.Sprintf("sequence %s stands at %d on the target after it was set to %d", n, got[n].Last, want[n].Last), Fix: "somebody uses the target already: stop them"}
		}
	}
	return nil
}

func readSequences(ctx context.Context, conn *pgx.Conn, names []Name) (map[Name]sequenceState, error) {
	states := make(map[Name]sequenceState, len(names))
	for batch := range batches(names, sequenceBatch) {
		selects := make([]string, len(batch))
		for i, n := range batch {
			selects[i] = fmt.Sprintf("SELECT %d, last_value, is_called FROM %s", i, n.SQL())
		}
		rows, err := conn.Query(ctx, strings.Join(selects, " UNION ALL "))
		if err != nil {
			return nil, err
		}
		var i int
		var s sequenceState
		if _, err := pgx.ForEachRow(rows, []any{&i, &s.Last, &s.Called}, func() error { states[batch[i]] = s; return nil }); err != nil {
			return nil, err
		}
	}
	return states, nil
}

// batches cuts a list into pieces of at most n.
func batches[T any](list []T, n int) func(yield func([]T) bool) {
	return func(yield func([]T) bool) {
		for len(list) > 0 {
			k := min(n, len(list))
			if !yield(list[:k]) {
				return
			}
			list = list[k:]
		}
	}
}
