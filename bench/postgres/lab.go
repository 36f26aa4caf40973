package main

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/bench/sidebyside"
	"dhow/internal/pgserver"
)

// settings are both servers' alike, and those of a server that is meant to take
// a large load: durable, with memory, and with room for the log so that no
// checkpoint falls into one rival's turn. Autovacuum is off because it would
// start in the middle of anybody's turn.
var settings = map[string]string{
	"fsync":                  "on",
	"full_page_writes":       "on",
	"synchronous_commit":     "on",
	"shared_buffers":         "1GB",
	"maintenance_work_mem":   "256MB",
	"max_wal_size":           "32GB",
	"min_wal_size":           "8GB",
	"checkpoint_timeout":     "1h",
	"wal_buffers":            "16MB",
	"autovacuum":             "off",
	"track_commit_timestamp": "off",
	"max_wal_senders":        "20",
	"max_connections":        "120",
}

// lab is a source and a target server.
type lab struct {
	*sidebyside.Lab[*pgserver.Server]
}

func openLab(ctx context.Context, log io.Writer) (lab, error) {
	l, err := sidebyside.OpenLab(ctx, log, func(ctx context.Context) (*pgserver.Server, error) {
		return pgserver.Start(ctx, pgserver.Options{Version: serverVersion, Settings: settings})
	})
	return lab{l}, err
}

// fresh makes an empty database on the target in place of an older one of that name.
func (l lab) fresh(ctx context.Context, name string) error {
	if err := l.Target.Exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()); err != nil {
		return err
	}
	return l.Target.CreateDatabase(ctx, name)
}

// calm ends each turn's left-overs: what is dirty goes to the disk now.
func (l lab) calm(ctx context.Context) error {
	for _, s := range []*pgserver.Server{l.Source, l.Target} {
		if err := s.Exec(ctx, "postgres", "CHECKPOINT"); err != nil {
			return err
		}
	}
	return nil
}

// dropStreams removes what moves left on the source.
func (l lab) dropStreams(ctx context.Context, database string) error {
	return l.Source.Exec(ctx, database, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database();
		DO $$ DECLARE p text; BEGIN FOR p IN SELECT pubname FROM pg_publication LOOP EXECUTE format('DROP PUBLICATION %I', p); END LOOP; END $$;
		DROP SCHEMA IF EXISTS dhow CASCADE`)
}

// connect opens a session as the superuser.
func connect(ctx context.Context, s *pgserver.Server, database string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		return nil, fmt.Errorf("connect to database %s: %w", database, err)
	}
	return conn, nil
}

// hangUp ends a session that has said all.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	_ = conn.Close(context.WithoutCancel(ctx)) // the server notices in any case
}

// read computes a database's content, two tables at a time.
func read(ctx context.Context, s *pgserver.Server, database string) (sidebyside.Content, error) {
	conn, err := connect(ctx, s, database)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, conn)
	rows, err := conn.Query(ctx, "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'dhow') ORDER BY 1")
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", database, err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", database, err)
	}
	const readers = 2
	sums := make([]string, len(names))
	g, ctx := errgroup.WithContext(ctx)
	for r := range readers {
		g.Go(func() error {
			conn, err := connect(ctx, s, database)
			if err != nil {
				return err
			}
			defer hangUp(ctx, conn)
			for i := r; i < len(names); i += readers {
				if err := conn.QueryRow(ctx, "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM "+names[i]+" t").Scan(&sums[i]); err != nil {
					return fmt.Errorf("read table %s: %w", names[i], err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	c := sidebyside.Content{}
	for i, n := range names {
		c[n] = sums[i]
	}
	return c, nil
}

// objects counts what surrounds the rows: indexes, constraints and tables with
// statistics. A copy that left some of it out would be quicker, and no copy.
type objects struct{ Indexes, Constraints, Analyzed int }

func (l lab) objects(ctx context.Context, s *pgserver.Server, database string) (o objects, err error) {
	conn, err := connect(ctx, s, database)
	if err != nil {
		return o, err
	}
	defer hangUp(ctx, conn)
	err = conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'), (SELECT count(*) FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND convalidated),
		(SELECT count(DISTINCT tablename) FROM pg_stats WHERE schemaname = 'public')`).Scan(&o.Indexes, &o.Constraints, &o.Analyzed)
	if err != nil {
		return o, fmt.Errorf("count the objects of %s: %w", database, err)
	}
	return o, nil
}
