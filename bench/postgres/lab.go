package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/internal/pgserver"
)

const (
	// stopTimeout bounds the end of the servers.
	stopTimeout = time.Minute
	// clockTicks are the kernel's units of a process's CPU time in a second.
	clockTicks = 100
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
	source, target *pgserver.Server
	log            io.Writer
	began          time.Time
}

func openLab(ctx context.Context, log io.Writer) (*lab, error) {
	l := &lab{log: log, began: time.Now()}
	for _, s := range []**pgserver.Server{&l.source, &l.target} {
		var err error
		if *s, err = pgserver.Start(ctx, pgserver.Options{Version: serverVersion, Settings: settings}); err != nil {
			l.close(ctx)
			return nil, err
		}
	}
	return l, nil
}

func (l *lab) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	for _, s := range []*pgserver.Server{l.source, l.target} {
		if s != nil {
			if err := s.Stop(ctx); err != nil {
				l.say("stop a server: %v", err)
			}
		}
	}
}

// say tells what goes on, with the time since the start.
func (l *lab) say(format string, args ...any) {
	_, _ = fmt.Fprintf(l.log, "%6.1fs  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...)) // whoever is gone reads no progress
}

// fresh makes an empty database on the target in place of an older one of that name.
func (l *lab) fresh(ctx context.Context, name string) error {
	if err := l.target.Exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()); err != nil {
		return err
	}
	return l.target.CreateDatabase(ctx, name)
}

// calm ends each turn's left-overs: what is dirty goes to the disk now.
func (l *lab) calm(ctx context.Context) error {
	for _, s := range []*pgserver.Server{l.source, l.target} {
		if err := s.Exec(ctx, "postgres", "CHECKPOINT"); err != nil {
			return err
		}
	}
	return nil
}

// dropStreams removes what moves left on the source.
func (l *lab) dropStreams(ctx context.Context, database string) error {
	return l.source.Exec(ctx, database, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database();
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

// content is a database's rows: each table's number of them and a sum of their
// hashes, whatever their order.
type content map[string]string

// read computes a database's content, two tables at a time.
func read(ctx context.Context, s *pgserver.Server, database string) (content, error) {
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
	c := content{}
	for i, n := range names {
		c[n] = sums[i]
	}
	return c, nil
}

// rows counts them all.
func (c content) rows() (n int64) {
	for _, sum := range c {
		count, _, _ := strings.Cut(sum, " ")
		of, _ := strconv.ParseInt(count, 10, 64) // read wrote it
		n += of
	}
	return n
}

// same says what differs.
func (c content) same(other content) error {
	if len(c) != len(other) {
		return fmt.Errorf("%d tables became %d", len(c), len(other))
	}
	for name, sum := range c {
		if other[name] != sum {
			return fmt.Errorf("table %s differs: rows and checksum %s became %s", name, sum, other[name])
		}
	}
	return nil
}

// objects counts what surrounds the rows: indexes, constraints and tables with
// statistics. A copy that left some of it out would be quicker, and no copy.
type objects struct{ Indexes, Constraints, Analyzed int }

func (l *lab) objects(ctx context.Context, s *pgserver.Server, database string) (o objects, err error) {
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

// cpu is the CPU time, in seconds, that a server's processes have used so far:
// those that live, and those that the postmaster has seen end.
func cpu(s *pgserver.Server) float64 {
	const tries = 10 // a process that ends in between would be missed, or counted twice
	postmaster := strconv.Itoa(s.Pid())
	total := 0.0
	for range tries {
		before := processCPU(postmaster, true)
		total = before + childrenCPU(postmaster)
		if ended := processCPU(postmaster, true) - before; ended < 2.0/clockTicks {
			break
		}
	}
	return total
}

// childrenCPU is the CPU time of the processes that a process has started and that live.
func childrenCPU(parent string) float64 {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return 0 // no Linux: the report shows zero
	}
	total := 0.0
	for _, p := range all {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		if f := processStat(p.Name()); len(f) > 1 && f[1] == parent {
			total += processCPU(p.Name(), false)
		}
	}
	return total
}

// processStat is /proc/PID/stat from the state on; the process may be gone.
func processStat(pid string) []string {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.Fields(rest)
}

func processCPU(pid string, withEnded bool) float64 {
	const user, system, endedUser, endedSystem = 11, 12, 13, 14
	f := processStat(pid)
	if len(f) <= endedSystem {
		return 0
	}
	sum := 0.0
	for i, at := range []int{user, system, endedUser, endedSystem} {
		if i >= 2 && !withEnded {
			break
		}
		n, _ := strconv.ParseFloat(f[at], 64) // the kernel wrote it
		sum += n
	}
	return sum / clockTicks
}
