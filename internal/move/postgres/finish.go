package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

const (
	// dropLockWait bounds the wait for one table's lock while a trigger is
	// dropped: the application's statements queue behind us no longer than that.
	dropLockWait = 100 * time.Millisecond
	// dropTries bounds the tries for one table.
	dropTries = 100
)

// Finish removes from both sides all that the move left: slots, publications,
// triggers, the schema dhow. It refuses while neither side would take writes.
func (m *Mover) Finish(ctx context.Context) error {
	m.closeSpares(ctx)
	m.Unpin(ctx)
	m.dropFence(ctx)
	s, err := m.State(ctx)
	if err != nil {
		return err
	}
	// A sealed source whose target knows of no move is what an earlier Finish,
	// cut off in the middle, leaves: going on is right.
	if s.Sealed && s.Started && !s.Open {
		return &move.Refused{Reason: fmt.Sprintf("database %s stands between its two ends: neither takes writes", m.cfg.Name), Fix: "run `dhow cutover` or `dhow rollback` again; they end in a safe state"}
	}
	// The side that does not serve is cleaned last, so that its fence stands
	// until nothing else of the move is left.
	sides := []func(context.Context) (*pgx.Conn, error){m.source, m.target}
	if s.Open {
		sides[0], sides[1] = sides[1], sides[0]
	}
	for _, dial := range sides {
		if err := m.clean(ctx, dial); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mover) clean(ctx context.Context, dial func(context.Context) (*pgx.Conn, error)) error {
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	for _, name := range []string{m.stream, m.back} {
		if err := dropSlot(ctx, conn, name); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "DROP PUBLICATION IF EXISTS "+pgx.Identifier{name}.Sanitize()); err != nil {
			return fmt.Errorf("drop publication %s: %w", name, err)
		}
	}
	rows, err := conn.Query(ctx, `SELECT n.nspname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE t.tgname = $1 ORDER BY 1, 2`, fenceTrigger)
	if err != nil {
		return fmt.Errorf("list the fence's triggers: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Name])
	if err != nil {
		return fmt.Errorf("list the fence's triggers: %w", err)
	}
	for _, t := range tables {
		if err := dropTrigger(ctx, conn, t); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, "SET client_min_messages = warning; DROP SCHEMA IF EXISTS dhow CASCADE"); err != nil {
		return fmt.Errorf("drop the schema dhow of database %s: %w", conn.Config().Database, err)
	}
	return nil
}

// dropTrigger waits for the table's lock in short tries, so that the
// application never queues behind a long wait of ours.
func dropTrigger(ctx context.Context, conn *pgx.Conn, t Name) error {
	sql := fmt.Sprintf("BEGIN; SET LOCAL lock_timeout = %d; DROP TRIGGER IF EXISTS %s ON %s; COMMIT", dropLockWait.Milliseconds(), fenceTrigger, t.SQL())
	for try := 1; ; try++ {
		_, err := conn.Exec(ctx, sql)
		if err == nil {
			return nil
		}
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != lockNotAvailable || try == dropTries {
			return fmt.Errorf("drop the fence's trigger on table %s (run `dhow finish` again): %w", t, err)
		}
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return fmt.Errorf("drop the fence's trigger on table %s: %w", t, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(dropLockWait):
		}
	}
}

// Close ends the mover's sessions: an open fence and pinned snapshots go with them.
func (m *Mover) Close(ctx context.Context) {
	m.closeSpares(ctx)
	m.Unpin(ctx)
	m.dropFence(ctx)
}
