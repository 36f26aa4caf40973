package check

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"dhow/superapp/service"
)

const (
	// connectTimeout bounds the making of a connection.
	connectTimeout = 10 * time.Second
	// closeTimeout bounds its end.
	closeTimeout = 2 * time.Second
	// workMemory is for the sorts and sums of whole tables, of which one runs at a time.
	workMemory = "64MB"
	// streamTimeout is how long MariaDB lets a reader rest that merges rows of two
	// servers, in seconds.
	streamTimeout = "3600"
)

// rows are a query's. They are closed by each, or by the stream that took them.
type rows interface {
	Next() bool
	Scan(into ...any) error
	Err() error
	Close()
}

// sqlRows are MariaDB's.
type sqlRows struct{ *sql.Rows }

func (r sqlRows) Close() { _ = r.Rows.Close() } // nothing was written; what went wrong Err says

// database is one connection, and the snapshot that it reads once frozen.
type database struct {
	name string // for people: "the accounts database at the source"
	// One of the two is set.
	postgres *pgx.Conn
	mariadb  *sql.Conn
	pool     *sql.DB // MariaDB's, of that one connection
}

// connect opens a database that must have the tables; variable is where its
// address came from.
func connect(ctx context.Context, name, url, variable string, of store) (_ *database, err error) {
	if url == "" {
		return nil, fmt.Errorf("no address of %s: set %s", name, variable)
	}
	d := &database{name: name}
	if of.mariadb {
		err = d.dialMariaDB(ctx, url, variable)
	} else {
		err = d.dialPostgres(ctx, url, variable)
	}
	if err != nil {
		return nil, err
	}
	for _, table := range of.tables {
		there, err := d.has(ctx, table)
		if err == nil && !there {
			err = fmt.Errorf("%s has no table %s: does %s name the right database? `superapp migrate` makes the tables", name, table, variable)
		}
		if err != nil {
			d.close(ctx)
			return nil, err
		}
	}
	return d, nil
}

func (d *database) dialPostgres(ctx context.Context, url, variable string) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		// The parser's error repeats parts of the address, which may be secret.
		return fmt.Errorf("%s is not a connection string of postgresql: write it as postgres://user:password@host:5432/database", variable)
	}
	cfg.ConnectTimeout = connectTimeout
	cfg.RuntimeParams["application_name"] = "superapp check"
	cfg.RuntimeParams["timezone"] = "UTC" // rows of two servers are compared as text
	cfg.RuntimeParams["work_mem"] = workMemory
	if d.postgres, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		return fmt.Errorf("connect to %s (%s): %w", d.name, variable, err)
	}
	return nil
}

func (d *database) dialMariaDB(ctx context.Context, url, variable string) error {
	cfg, err := service.MariaDBConfig(url, variable)
	if err != nil {
		return err
	}
	// Sums of whole tables take longer than a service's requests.
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = connectTimeout, 0, 0
	cfg.Params["net_write_timeout"] = streamTimeout
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return fmt.Errorf("%s is not a connection string of MariaDB: write it as mariadb://user:password@host:3306/database", variable)
	}
	d.pool = sql.OpenDB(connector)
	if d.mariadb, err = d.pool.Conn(ctx); err != nil {
		_ = d.pool.Close() // it has no connection
		return fmt.Errorf("connect to %s (%s): %w", d.name, variable, err)
	}
	return nil
}

func (d *database) has(ctx context.Context, table string) (there bool, err error) {
	if d.mariadb != nil {
		err = d.row(ctx, []any{&there}, "SELECT count(*) > 0 FROM information_schema.tables WHERE table_schema = database() AND table_name = ?", table)
	} else {
		err = d.row(ctx, []any{&there}, "SELECT to_regclass($1) IS NOT NULL", table)
	}
	return there, err
}

// freeze begins a transaction that sees the database as it is now until thaw or close.
func (d *database) freeze(ctx context.Context) error {
	if d == nil {
		return nil
	}
	var err error
	if d.mariadb != nil {
		if err = d.exec(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err == nil {
			err = d.exec(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
		}
	} else {
		// The first query takes the snapshot, so there is one.
		err = d.exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1")
	}
	if err != nil {
		return fmt.Errorf("take a snapshot of %s: %w", d.name, err)
	}
	return nil
}

// thaw ends the snapshot: what is read next is what is there now.
func (d *database) thaw(ctx context.Context) error {
	if err := d.exec(ctx, "ROLLBACK"); err != nil {
		return fmt.Errorf("end the snapshot of %s: %w", d.name, err)
	}
	return nil
}

func (d *database) exec(ctx context.Context, statement string) (err error) {
	if d.mariadb != nil {
		_, err = d.mariadb.ExecContext(ctx, statement)
	} else {
		_, err = d.postgres.Exec(ctx, statement)
	}
	return err
}

func (d *database) close(ctx context.Context) {
	switch {
	case d == nil:
	case d.mariadb != nil: // nothing was written
		_ = d.mariadb.Close()
		_ = d.pool.Close()
	default:
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = d.postgres.Close(ctx)
	}
}

// query begins to read. Who calls it closes the rows.
func (d *database) query(ctx context.Context, statement string, args ...any) (r rows, err error) {
	if d.mariadb != nil {
		var of *sql.Rows
		of, err = d.mariadb.QueryContext(ctx, statement, args...) //nolint:rowserrcheck // the caller does
		r = sqlRows{of}
	} else {
		r, err = d.postgres.Query(ctx, statement, args...) //nolint:sqlclosecheck // the caller does
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.name, err)
	}
	return r, nil
}

// each calls do for every row of a query, in memory that does not grow with it.
func (d *database) each(ctx context.Context, into []any, do func() error, statement string, args ...any) error {
	r, err := d.query(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer r.Close()
	for r.Next() {
		if err := r.Scan(into...); err != nil {
			return fmt.Errorf("read %s: %w", d.name, err)
		}
		if err := do(); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("read %s: %w", d.name, err)
	}
	return nil
}

// row reads the one row of a query.
func (d *database) row(ctx context.Context, into []any, statement string, args ...any) error {
	n := 0
	err := d.each(ctx, into, func() error { n++; return nil }, statement, args...)
	if err == nil && n != 1 {
		err = fmt.Errorf("read %s: %d rows, not 1", d.name, n)
	}
	return err
}

// in completes a statement that ends in "IN" with a list of values, MariaDB's way of PostgreSQL's ANY.
func in[T any](statement string, values []T) (string, []any) {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return statement + " (" + strings.TrimSuffix(strings.Repeat("?,", len(values)), ",") + ")", args
}

// stream is a query whose rows are taken one at a time, so that two can be merged.
type stream[T any] struct {
	d    *database
	rows rows
	scan func(rows, *T) error
}

func open[T any](ctx context.Context, d *database, scan func(rows, *T) error, statement string, args ...any) (*stream[T], error) {
	r, err := d.query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	return &stream[T]{d: d, rows: r, scan: scan}, nil
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
