package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// connectTimeout bounds the making of a connection.
	connectTimeout = 10 * time.Second
	// closeTimeout bounds its end.
	closeTimeout = 2 * time.Second
	// workMemory is for the sorts and sums of whole tables, of which one runs at a time.
	workMemory = "64MB"
)

// The tables that are looked at.
var (
	accountsTables = []string{"accounts", "transfers", "entries", "idempotency"}
	paymentsTables = []string{"payments", "requests", "idempotency"}
)

// database is one connection, and the snapshot that it reads once frozen.
type database struct {
	name string // for people: "the accounts database at the source"
	conn *pgx.Conn
}

// connect opens a database that must have the tables; variable is where its
// address came from.
func connect(ctx context.Context, name, url, variable string, tables []string) (*database, error) {
	if url == "" {
		return nil, fmt.Errorf("no address of %s: set %s", name, variable)
	}
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		// The parser's error repeats parts of the address, which may be secret.
		return nil, fmt.Errorf("%s is not a connection string of postgresql: write it as postgres://user:password@host:5432/database", variable)
	}
	cfg.ConnectTimeout = connectTimeout
	cfg.RuntimeParams["application_name"] = "superapp check"
	cfg.RuntimeParams["timezone"] = "UTC" // rows of two servers are compared as text
	cfg.RuntimeParams["work_mem"] = workMemory
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s (%s): %w", name, variable, err)
	}
	d := &database{name: name, conn: conn}
	for _, table := range tables {
		var there bool
		if err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", table).Scan(&there); err != nil {
			d.close(ctx)
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		if !there {
			d.close(ctx)
			return nil, fmt.Errorf("%s has no table %s: does %s name the right database? `superapp migrate` makes the tables", name, table, variable)
		}
	}
	return d, nil
}

// freeze begins a transaction that sees the database as it is now until thaw or close.
func (d *database) freeze(ctx context.Context) error {
	// The first query takes the snapshot, so there is one.
	if _, err := d.conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1"); err != nil {
		return fmt.Errorf("take a snapshot of %s: %w", d.name, err)
	}
	return nil
}

// thaw ends the snapshot: what is read next is what is there now.
func (d *database) thaw(ctx context.Context) error {
	if _, err := d.conn.Exec(ctx, "ROLLBACK"); err != nil {
		return fmt.Errorf("end the snapshot of %s: %w", d.name, err)
	}
	return nil
}

func (d *database) close(ctx context.Context) {
	if d == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = d.conn.Close(ctx) // nothing was written
}

// each calls do for every row of a query, in memory that does not grow with it.
func (d *database) each(ctx context.Context, into []any, do func() error, sql string, args ...any) error {
	rows, err := d.conn.Query(ctx, sql, args...)
	if err == nil {
		_, err = pgx.ForEachRow(rows, into, do)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", d.name, err)
	}
	return nil
}

// row reads one row.
func (d *database) row(ctx context.Context, into []any, sql string, args ...any) error {
	if err := d.conn.QueryRow(ctx, sql, args...).Scan(into...); err != nil {
		return fmt.Errorf("read %s: %w", d.name, err)
	}
	return nil
}

// stream is a query whose rows are taken one at a time, so that two can be merged.
type stream[T any] struct {
	d    *database
	rows pgx.Rows
	scan func(pgx.Rows, *T) error
}

func open[T any](ctx context.Context, d *database, scan func(pgx.Rows, *T) error, sql string, args ...any) (*stream[T], error) {
	rows, err := d.conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.name, err)
	}
	return &stream[T]{d: d, rows: rows, scan: scan}, nil
}

// next is the next row, or nil behind the last.
func (s *stream[T]) next() (*T, error) {
	if !s.rows.Next() {
		if err := s.rows.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.d.name, err)
		}
		return nil, nil
	}
	v := new(T)
	if err := s.scan(s.rows, v); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.d.name, err)
	}
	return v, nil
}

func (s *stream[T]) close() { s.rows.Close() }

// open connects to the serving side.
func (c *checker) open(ctx context.Context) error {
	var err error
	if c.accounts, err = connect(ctx, "the accounts database", c.cfg.Serving.Accounts, accountsVariable, accountsTables); err != nil {
		return err
	}
	c.payments, err = connect(ctx, "the payments database", c.cfg.Serving.Payments, paymentsVariable, paymentsTables)
	if err != nil {
		c.accounts.close(ctx)
	}
	return err
}

// freeze takes the snapshots, the payments first: a payment is completed after
// its transfer, so what this snapshot says was moved, the other one has.
func (c *checker) freeze(ctx context.Context) error {
	return errors.Join(c.payments.freeze(ctx), c.accounts.freeze(ctx))
}

const (
	// settlePoll is the pause between two looks at pending payments.
	settlePoll = 200 * time.Millisecond
	// pendingPayments counts those that were there at an instant and are not resolved.
	pendingPayments = "SELECT count(*) FROM payments WHERE state = 'pending' AND created <= $1"
)

// settle waits until the payments that are pending now are resolved, or the time is over.
func (c *checker) settle(ctx context.Context) error {
	var start time.Time
	if err := c.payments.row(ctx, []any{&start}, "SELECT clock_timestamp()"); err != nil {
		return err
	}
	until := time.Now().Add(c.cfg.Settle)
	for {
		if err := c.payments.row(ctx, []any{&c.report.PendingPayments}, pendingPayments, start); err != nil {
			return err
		}
		if c.report.PendingPayments == 0 || !time.Now().Before(until) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settlePoll):
		}
	}
}
