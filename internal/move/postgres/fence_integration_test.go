package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/pgserver/pgtest"
)

// ends are a source and a target with the same schema, for tests of what comes after the copy.
func ends(t *testing.T, from, to int, schema string) (*Mover, *pgx.Conn, *pgx.Conn) {
	t.Helper()
	ctx := context.Background()
	urls := [2]string{pgtest.Database(t, pgtest.Start(t, from), "app"), pgtest.Database(t, pgtest.Start(t, to), "app")}
	var conns [2]*pgx.Conn
	var cfgs [2]*pgx.ConnConfig
	for i, url := range urls {
		cfg, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		cfgs[i] = cfg
		if conns[i], err = pgx.ConnectConfig(ctx, cfg); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conns[i].Close(ctx) })
		if _, err := conns[i].Exec(ctx, schema); err != nil {
			t.Fatal(err)
		}
		if err := ensureState(ctx, conns[i]); err != nil {
			t.Fatal(err)
		}
	}
	m, err := New(Config{Estate: "test", Name: "app", Source: cfgs[0], Target: cfgs[1]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(ctx) })
	return m, conns[0], conns[1]
}

const fenceSchema = `
	CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
	CREATE TABLE child (id int PRIMARY KEY, plain bigint REFERENCES plain ON DELETE CASCADE);
	CREATE TABLE parts (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
	CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
	CREATE SEQUENCE loose START 7;
	CREATE VIEW seen AS SELECT * FROM plain;
	CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM plain;`

// close fences the target as a load does.
func closeTarget(t *testing.T, m *Mover, target *pgx.Conn) {
	t.Helper()
	ctx := context.Background()
	c, err := m.catalog(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
		if err := writeStream(ctx, tx, m.stream, streamState{Phase: phaseStream, Slot: m.stream, SourceID: "x", Lanes: 1}); err != nil {
			return err
		}
		return installFence(ctx, tx, c, m.moveName(), "target")
	})
	if err != nil {
		t.Fatal(err)
	}
}

// writes are one statement for each way into a table.
var writes = []string{
	"INSERT INTO plain (v) VALUES ('x')", "UPDATE plain SET v = 'y'", "DELETE FROM plain", "TRUNCATE plain CASCADE", "INSERT INTO seen (v) VALUES ('x')",
	"INSERT INTO parts VALUES (1, '2026-01-02')", "INSERT INTO parts_a VALUES (2, '2026-01-02')", "UPDATE parts SET id = 5", "DELETE FROM parts_a",
	"MERGE_OR_UPSERT", "INSERT INTO child VALUES (1, NULL)",
}

func refused(t *testing.T, conn *pgx.Conn, side string) {
	t.Helper()
	ctx := context.Background()
	for _, sql := range writes {
		if sql == "MERGE_OR_UPSERT" {
			sql = "INSERT INTO child VALUES (1, NULL) ON CONFLICT (id) DO UPDATE SET plain = NULL"
		}
		_, err := conn.Exec(ctx, sql)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "25006" {
			t.Errorf("%s: %s: got %v, want the fence's refusal", side, sql, err)
		}
	}
}

func TestFenceVanishesWithItsHolder(t *testing.T) {
	m, source, target := ends(t, 15, 15, fenceSchema)
	ctx := context.Background()
	closeTarget(t, m, target)
	refused(t, target, "target before the cutover")
	if _, err := m.Fence(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Exec(ctx, "SET lock_timeout = 50"); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Exec(ctx, "INSERT INTO plain (v) VALUES ('x')"); err == nil {
		t.Fatal("a write passed the fence")
	}
	var n int
	if err := source.QueryRow(ctx, "SELECT count(*) FROM plain").Scan(&n); err != nil || n != 0 {
		t.Fatalf("read under the fence: %d, %v", n, err)
	}
	m.mu.Lock()
	f := m.fence
	m.mu.Unlock()
	if err := f.conn.PgConn().Conn().Close(); err != nil { // as the kernel does for a killed process
		t.Fatal(err)
	}
	if _, err := source.Exec(ctx, "SET lock_timeout = '1min'"); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Exec(ctx, "INSERT INTO plain (v) VALUES ('x')"); err != nil {
		t.Fatalf("the fence outlived its holder: %v", err)
	}
	if err := m.Seal(ctx); err == nil {
		t.Fatal("sealed without holding the locks")
	}
	if s, err := m.State(ctx); err != nil || s.Sealed || s.Open {
		t.Fatalf("state %+v, %v", s, err)
	}
}

func TestSealAndOpenAndBack(t *testing.T) {
	for _, v := range [][2]int{{13, 15}, {15, 17}} {
		m, source, target := ends(t, v[0], v[1], fenceSchema)
		ctx := context.Background()
		closeTarget(t, m, target)
		if _, err := source.Exec(ctx, "SELECT nextval('loose'), lo_from_bytea(4242, 'a large one')"); err != nil {
			t.Fatal(err)
		}
		if err := m.Open(ctx); err == nil {
			t.Fatal("opened a target whose source is not sealed")
		}
		if err := m.Prepare(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Fence(ctx); err != nil {
			t.Fatal(err)
		}
		if err := m.Pin(ctx); err != nil {
			t.Fatal(err)
		}
		if err := m.Seal(ctx); err != nil {
			t.Fatal(err)
		}
		refused(t, source, "sealed source")
		refused(t, target, "target before Open")
		if s, err := m.State(ctx); err != nil || !s.Sealed || s.Open {
			t.Fatalf("state %+v, %v", s, err)
		}
		if err := m.Finish(ctx); err == nil {
			t.Fatal("finished between the two ends")
		}
		// Undo, once: both as before.
		if err := m.Unfence(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := source.Exec(ctx, "INSERT INTO plain (v) VALUES ('after the undo')"); err != nil {
			t.Fatal(err)
		}
		// And again, to the end.
		if _, err := m.Fence(ctx); err != nil {
			t.Fatal(err)
		}
		if err := m.Seal(ctx); err != nil {
			t.Fatal(err)
		}
		if err := m.Open(ctx); err != nil {
			t.Fatal(err)
		}
		if err := m.Unfence(ctx); err == nil {
			t.Fatal("unfenced a source whose target is open")
		}
		var loose int64
		var object string
		if err := target.QueryRow(ctx, "SELECT nextval('loose'), convert_from(lo_get(4242), 'UTF8')").Scan(&loose, &object); err != nil || loose != 8 || object != "a large one" {
			t.Fatalf("sequence %d, large object %q, %v", loose, object, err)
		}
		if _, err := target.Exec(ctx, "INSERT INTO plain (v) VALUES ('at the target'); INSERT INTO parts VALUES (1, '2026-01-02')"); err != nil {
			t.Fatal(err)
		}
		refused(t, source, "source after Open")
		back, err := m.Reverse()
		if err != nil {
			t.Fatal(err)
		}
		if s, err := back.State(ctx); err != nil || !s.Copied || s.Sealed || s.Open {
			t.Fatalf("state of the way back %+v, %v", s, err)
		}
		if err := m.Retire(ctx); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it may be called again
			if err := m.Finish(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for side, conn := range map[string]*pgx.Conn{"source": source, "target": target} {
			var left int
			if err := conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_namespace WHERE nspname = 'dhow')
				+ (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'dhow%') + (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'dhow%')`).Scan(&left); err != nil || left != 0 {
				t.Errorf("%s: %d things of ours are left, %v", side, left, err)
			}
		}
	}
}

func TestFenceNamesWhoHoldsWritesOpen(t *testing.T) {
	m, source, target := ends(t, 15, 15, fenceSchema)
	ctx := context.Background()
	closeTarget(t, m, target)
	if _, err := source.Exec(ctx, "SET application_name = 'nightly batch'; BEGIN; INSERT INTO plain (v) VALUES ('long')"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithCancel(ctx)
	defer cancel()
	observer, err := pgx.ConnectConfig(ctx, m.cfg.Source) // a transaction sees others' sessions as they stood at its first look
	if err != nil {
		t.Fatal(err)
	}
	defer observer.Close(ctx)
	fenced := make(chan error, 1)
	go func() { _, err := m.Fence(short); fenced <- err }()
	within(t, "it tries to take the locks", func() bool {
		var tries bool
		if err := observer.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE $1 AND query LIKE 'BEGIN; LOCK %')", fenceSession+"%").Scan(&tries); err != nil {
			t.Fatal(err)
		}
		return tries
	})
	cancel()
	err = <-fenced
	if err == nil || !strings.Contains(err.Error(), "nightly batch") || strings.Contains(err.Error(), "INSERT") {
		t.Fatalf("got %v, want the session's name and not its statement", err)
	}
	m.cfg.Stragglers = TerminateSessions
	long, cancel2 := context.WithTimeout(ctx, time.Minute)
	defer cancel2()
	if _, err := m.Fence(long); err != nil {
		t.Fatal(err)
	}
}
