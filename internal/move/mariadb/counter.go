package mariadb

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Counters are what hands out numbers: AUTO_INCREMENT columns and sequences. The
// stream carries the rows, and so most of it; what it does not carry is a number
// that was used for no row, because the row was deleted or rolled back.

const (
	// raiseSoon bounds how long next values are tried to be set while clients are served.
	raiseSoon = time.Second
	// restTime is for how long a table's next value stays as it is where the table is at
	// rest. It is also the time that the stream has to bring what came before.
	restTime = 200 * time.Millisecond
)

// autoIncrements are the next values of the moving tables.
func (m *Mover) autoIncrements(ctx context.Context, q querier, tables []lockable) (map[Name]uint64, error) {
	next := map[Name]uint64{}
	if len(tables) == 0 {
		return next, nil
	}
	err := scan(ctx, q, "SELECT table_schema, table_name, auto_increment FROM information_schema.tables WHERE auto_increment IS NOT NULL AND table_schema"+inSchemas(tables), func(row func(...any) error) error {
		var n Name
		var v uint64
		if err := row(&n.Schema, &n.Name, &v); err != nil {
			return err
		}
		next[n] = v
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the next AUTO_INCREMENT values: %w", err)
	}
	return next, nil
}

// atRest are the next values of the tables to which no rows are added just now.
func (m *Mover) atRest(ctx context.Context, q querier, tables []lockable) (map[Name]uint64, error) {
	before, err := m.autoIncrements(ctx, q, tables)
	if err != nil || len(before) == 0 {
		return before, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(restTime):
	}
	next, err := m.autoIncrements(ctx, q, tables)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(next, func(n Name, v uint64) bool { return before[n] != v })
	return next, nil
}

// raiseAutoIncrements makes the target's next values no smaller than the source's, which
// are wanted. Greater ones stay: they only leave numbers unused. The workers share the work.
func (m *Mover) raiseAutoIncrements(ctx context.Context, want map[Name]uint64, workers []*worker, tables []lockable) error {
	have, err := m.autoIncrements(ctx, workers[0], tables)
	if err != nil {
		return err
	}
	var behind []Name
	for _, l := range tables {
		if n, ok := want[l.Name]; ok && have[l.Name] < n {
			behind = append(behind, l.Name)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for i, t := range workers {
		g.Go(func() error {
			for k := i; k < len(behind); k += len(workers) {
				n := behind[k]
				// While it waits for the table the stream does too.
				if err := m.shortDDL(gctx, t, ddlWait, fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT = %d", n.SQL(), want[n])); err != nil {
					return fmt.Errorf("set the next AUTO_INCREMENT value of table %s: %w", n, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// raiseSequences makes the target's sequences go on where the source's stand, or
// further on. What counts is the next value that no server has cached: smaller ones
// may have been handed out.
func raiseSequences(ctx context.Context, s, t querier, list []lockable) error {
	for _, l := range list {
		want, err := readSequence(ctx, s, l.Name)
		if err != nil {
			return fmt.Errorf("read sequence %s: %w", l.Name, err)
		}
		have, err := readSequence(ctx, t, l.Name)
		if err != nil {
			return fmt.Errorf("read sequence %s: %w", l.Name, err)
		}
		down := strings.HasPrefix(want.increment, "-")
		if !down && !less(have.next, want.next) || down && !less(want.next, have.next) {
			continue
		}
		sql := "ALTER SEQUENCE " + l.SQL() + " RESTART " + want.next
		switch {
		case !down && less(want.highest, want.next): // it has run out
			sql = "DO SETVAL(" + l.SQL() + ", " + want.highest + ", 1)"
		case down && less(want.next, want.lowest):
			sql = "DO SETVAL(" + l.SQL() + ", " + want.lowest + ", 1)"
		}
		if _, err := t.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("set sequence %s: %w", l.Name, err)
		}
	}
	return nil
}
