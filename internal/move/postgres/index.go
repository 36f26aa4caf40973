package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

const (
	// indexMemory is the memory for one index build on the target.
	indexMemory = "256MB"
	// deadlockTries bounds the tries of a statement that met another one's locks.
	deadlockTries = 20
)

// postEntry is something that is made after the copy.
type postEntry struct {
	id   int
	kind string
	name string // of the table and the object, as pg_dump says it
	sql  string
	size int64 // of the source's index, in bytes
}

// stages of the work after the copy: those of one stage do not depend upon each other.
var stages = []struct {
	kinds    []string
	parallel bool
}{
	{[]string{"INDEX", "CONSTRAINT"}, true},
	{[]string{"INDEX ATTACH"}, false},
	{[]string{"FK CONSTRAINT"}, true},
	{nil, false}, // all else, in pg_dump's order
}

// indexSizes are the sizes of the source's indexes, by schema and name.
func indexSizes(ctx context.Context, conn *pgx.Conn) (map[Name]int64, error) {
	rows, err := conn.Query(ctx, `SELECT n.nspname, c.relname, CASE c.relkind WHEN 'i' THEN pg_relation_size(c.oid) ELSE 0 END
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'I')`)
	if err != nil {
		return nil, fmt.Errorf("list the indexes: %w", err)
	}
	sizes := map[Name]int64{}
	var n Name
	var size int64
	if _, err := pgx.ForEachRow(rows, []any{&n.Schema, &n.Name, &size}, func() error { sizes[n] = size; return nil }); err != nil {
		return nil, fmt.Errorf("list the indexes: %w", err)
	}
	return sizes, nil
}

// storePost keeps the entries on the target, so that a load goes on without a second dump.
func storePost(ctx context.Context, tx pgx.Tx, stream, settings string, entries []entry, sizes map[Name]int64) error {
	if _, err := tx.Exec(ctx, "DELETE FROM dhow.postdata WHERE stream = $1", stream); err != nil {
		return fmt.Errorf("store what comes after the copy: %w", err)
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"dhow", "postdata"}, []string{"stream", "id", "type", "name", "sql", "size"},
		pgx.CopyFromSlice(len(entries)+1, func(i int) ([]any, error) {
			if i == 0 {
				return []any{stream, 0, "SETTINGS", "", settings, 0}, nil
			}
			e := entries[i-1]
			// "table index" for constraints, "index" for indexes
			name := e.Name
			if at := strings.LastIndex(name, " "); at >= 0 && e.Type == "CONSTRAINT" {
				name = name[at+1:]
			}
			kind := e.Type
			if skipped(e) {
				kind = "SKIPPED"
			}
			return []any{stream, i, kind, qualified(e), e.SQL, sizes[Name{e.Schema, name}]}, nil
		}))
	if err != nil {
		return fmt.Errorf("store what comes after the copy: %w", err)
	}
	return nil
}

// readPost reads what is still to be made, and the settings for it.
func (l *loader) readPost(ctx context.Context) (settings string, entries []postEntry, err error) {
	if err := l.target.QueryRow(ctx, "SELECT sql FROM dhow.postdata WHERE stream = $1 AND type = 'SETTINGS'", l.m.stream).Scan(&settings); err != nil {
		return "", nil, fmt.Errorf("read what comes after the copy: %w", err)
	}
	rows, err := l.target.Query(ctx, "SELECT id, type, name, sql, size FROM dhow.postdata WHERE stream = $1 AND type NOT IN ('SETTINGS', 'SKIPPED') AND done IS NULL ORDER BY id", l.m.stream)
	if err != nil {
		return "", nil, fmt.Errorf("read what comes after the copy: %w", err)
	}
	var e postEntry
	_, err = pgx.ForEachRow(rows, []any{&e.id, &e.kind, &e.name, &e.sql, &e.size}, func() error { entries = append(entries, e); return nil })
	if err != nil {
		return "", nil, fmt.Errorf("read what comes after the copy: %w", err)
	}
	return settings, entries, nil
}

// buildPost makes all that is left, stage by stage.
func (l *loader) buildPost(ctx context.Context) error {
	settings, entries, err := l.readPost(ctx)
	if err != nil {
		return err
	}
	l.progress.board.ExpectSteps(len(entries))
	for _, st := range stages {
		var now, later []postEntry
		for _, e := range entries {
			if st.kinds == nil || slices.Contains(st.kinds, e.kind) {
				now = append(now, e)
			} else {
				later = append(later, e)
			}
		}
		entries = later
		workers := 1
		if st.parallel {
			workers = l.m.limits.Copies
			slices.SortStableFunc(now, func(a, b postEntry) int { return int(min(max(b.size-a.size, -1), 1)) })
		}
		if err := l.build(ctx, settings, now, workers); err != nil {
			return err
		}
	}
	return nil
}

// buildKeys makes only the indexes that name rows, of all tables or of some.
func (l *loader) buildKeys(ctx context.Context, of func(Name) bool) error {
	settings, entries, err := l.readPost(ctx)
	if err != nil {
		return err
	}
	c, err := l.m.catalog(ctx, l.source)
	if err != nil {
		return err
	}
	keys := map[string]bool{}
	for _, t := range c.Tables {
		if len(t.Key) > 0 && (of == nil || of(t.Name)) {
			keys[t.Schema+"."+t.KeyIndex] = true
			keys[t.Schema+"."+t.Name.Name+" "+t.KeyIndex] = true
		}
	}
	var now []postEntry
	for _, e := range entries {
		if (e.kind == "INDEX" || e.kind == "CONSTRAINT") && keys[e.name] {
			now = append(now, e)
		}
	}
	l.progress.board.ExpectSteps(len(now))
	return l.build(ctx, settings, now, l.m.limits.Copies)
}

// build runs entries, each in a transaction with the note that it is done.
func (l *loader) build(ctx context.Context, settings string, entries []postEntry, workers int) error {
	if len(entries) == 0 {
		return nil
	}
	queue := make(chan postEntry)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(queue)
		for _, e := range entries {
			select {
			case queue <- e:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(workers, len(entries)) {
		g.Go(func() error {
			conn, err := l.m.target(ctx)
			if err != nil {
				return err
			}
			defer hangUp(ctx, conn)
			if _, err := conn.Exec(ctx, settings+l.m.writerName()+"; SET maintenance_work_mem = '"+indexMemory+"'; SET synchronous_commit = off"); err != nil {
				return fmt.Errorf("prepare the target's session: %w", err)
			}
			for e := range queue {
				if err := l.buildOne(ctx, conn, e); err != nil {
					return err
				}
				l.progress.board.StepDone()
			}
			return nil
		})
	}
	return g.Wait()
}

func (l *loader) buildOne(ctx context.Context, conn *pgx.Conn, e postEntry) error {
	for try := 1; ; try++ {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, e.sql); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "UPDATE dhow.postdata SET done = clock_timestamp() WHERE stream = $1 AND id = $2", l.m.stream, e.id)
			return err
		})
		if err == nil {
			return nil
		}
		if deadlocked(err) && try < deadlockTries { // two foreign keys between the same tables
			continue
		}
		return fmt.Errorf("create %s %s on the target: %w", strings.ToLower(e.kind), e.name, withoutDetail(err))
	}
}
