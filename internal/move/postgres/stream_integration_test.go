package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// streaming starts a stream between two empty databases and returns how to stop it.
func streaming(t *testing.T, m *Mover, source, target *pgx.Conn) (stop func() error) {
	t.Helper()
	ctx := context.Background()
	c, err := m.catalog(ctx, source)
	if err != nil {
		t.Fatal(err)
	}
	if err := publish(ctx, source, m.stream, c); err != nil {
		t.Fatal(err)
	}
	var start LSN
	if err := source.QueryRow(ctx, "SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput')", m.stream).Scan(&start); err != nil {
		t.Fatal(err)
	}
	if err := writeStream(ctx, target, m.stream, streamState{Phase: phaseStream, Slot: m.stream, SourceID: "x", Lanes: 3, Start: start, Settled: start}); err != nil {
		t.Fatal(err)
	}
	return again(t, m, target)
}

// again lets the stream run from where it stands.
func again(t *testing.T, m *Mover, target *pgx.Conn) (stop func() error) {
	t.Helper()
	state, err := readStream(context.Background(), target, m.stream)
	if err != nil || state == nil {
		t.Fatalf("state %v, %v", state, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return m.follow(ctx, *state, func(move.Progress) {}) })
	return func() error {
		cancel()
		if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
}

// settle waits until the target has applied what the source holds now.
func settle(t *testing.T, m *Mover, source *pgx.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	mk, err := m.mark(ctx, source)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if err := m.CatchUp(ctx, mk); err == nil {
			return
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestStreamCarriesEveryKindOfChange(t *testing.T) {
	const schema = `
		CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, twice int GENERATED ALWAYS AS (n * 2) STORED, n int);
		CREATE TABLE swap (id int PRIMARY KEY, v int UNIQUE, w int UNIQUE DEFERRABLE INITIALLY DEFERRED);
		CREATE TABLE keyless (a numeric, b jsonb, c json, d point, e char(5), f inet, g bool); ALTER TABLE keyless REPLICA IDENTITY FULL;
		CREATE TABLE toast (id int PRIMARY KEY, big text, small int); ALTER TABLE toast ALTER big SET STORAGE EXTERNAL;
		CREATE TABLE toastfull (id int PRIMARY KEY, big text, small int); ALTER TABLE toastfull ALTER big SET STORAGE EXTERNAL; ALTER TABLE toastfull REPLICA IDENTITY FULL;
		CREATE TABLE parts (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
		CREATE TABLE parts_b PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
		CREATE TABLE counted (id int PRIMARY KEY, n int); CREATE TABLE counts (n int PRIMARY KEY, c int);
		CREATE FUNCTION tally() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.counts VALUES (NEW.n, 1) ON CONFLICT (n) DO UPDATE SET c = counts.c + 1; RETURN NULL; END';
		CREATE TRIGGER tally AFTER INSERT ON counted FOR EACH ROW EXECUTE FUNCTION tally();`
	script := []string{
		"INSERT INTO plain (v, n) SELECT i::text, i FROM generate_series(1, 2000) i",
		"UPDATE plain SET v = v || '!' WHERE id % 3 = 0; DELETE FROM plain WHERE id % 7 = 0",
		"BEGIN; INSERT INTO plain (v, n) VALUES ('x', 1); UPDATE plain SET n = 2 WHERE v = 'x'; DELETE FROM plain WHERE v = 'x'; COMMIT",
		"BEGIN; DELETE FROM plain WHERE id = 1; INSERT INTO plain (id, v) OVERRIDING SYSTEM VALUE VALUES (1, 'again'); UPDATE plain SET v = 'and again' WHERE id = 1; COMMIT",
		"UPDATE plain SET id = DEFAULT WHERE id = 2",
		"INSERT INTO swap SELECT i, i, i FROM generate_series(1, 10) i",
		"BEGIN; UPDATE swap SET v = 100 WHERE id = 1; UPDATE swap SET v = 1 WHERE id = 2; UPDATE swap SET v = 2 WHERE id = 1; UPDATE swap SET w = 11 - w; COMMIT",
		"UPDATE swap SET id = id + 1000",
		`INSERT INTO keyless VALUES (1.0, '{"a": 1}', '{"a":  1}', '(1,2)', 'ab', '1.2.3.4', true), (1.00, NULL, NULL, NULL, NULL, NULL, NULL), (1.0, NULL, NULL, NULL, '', '1.2.3.4/24', false), (1.0, NULL, NULL, NULL, '', '1.2.3.4/24', false)`,
		"UPDATE keyless SET a = 7 WHERE e = 'ab'; DELETE FROM keyless WHERE a::text = '1.00'; UPDATE keyless SET g = true WHERE ctid = (SELECT max(ctid) FROM keyless WHERE e = '')",
		"INSERT INTO toast SELECT i, repeat(i::text || chr(9) || chr(10) || chr(92), 3000), i FROM generate_series(1, 20) i; INSERT INTO toastfull SELECT * FROM toast",
		"UPDATE toast SET small = -small; UPDATE toastfull SET small = -small; UPDATE toast SET id = id + 100 WHERE id < 5; UPDATE toastfull SET id = id + 100 WHERE id < 5; UPDATE toast SET big = NULL WHERE id = 6",
		"INSERT INTO parts VALUES (1, '2026-01-05', 'a'), (2, '2026-02-05', 'b'); UPDATE parts SET day = '2026-02-07' WHERE id = 1",
		"INSERT INTO counted SELECT i, i % 3 FROM generate_series(1, 30) i",
		"BEGIN; INSERT INTO plain (v) VALUES ('rolled back'); SAVEPOINT s; DELETE FROM plain; ROLLBACK TO s; INSERT INTO plain (v) VALUES ('kept'); COMMIT",
		"BEGIN; TRUNCATE counted; INSERT INTO counted VALUES (99, 9); COMMIT",
	}
	tables := []string{"plain", "swap", "keyless", "toast", "toastfull", "parts", "counted", "counts"}
	for _, v := range [][2]int{{13, 15}, {15, 15}, {15, 17}} {
		m, source, target := ends(t, v[0], v[1], schema)
		closeTarget(t, m, target) // the stream passes the fence
		stop := streaming(t, m, source, target)
		for i, sql := range script {
			if _, err := source.Exec(context.Background(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			if i%3 == 2 { // restarts lose and repeat nothing
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				stop = again(t, m, target)
			}
		}
		settle(t, m, source)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			var want, got string
			q := "SELECT coalesce(string_agg(t, E'\n'), '') FROM (SELECT concat(x.*)::text t FROM (SELECT t::text FROM " + table + " t) x ORDER BY 1) y"
			if err := source.QueryRow(context.Background(), q).Scan(&want); err != nil {
				t.Fatal(err)
			}
			if err := target.QueryRow(context.Background(), q).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if want != got {
				t.Errorf("%d -> %d: table %s differs:\nsource %.600s\ntarget %.600s", v[0], v[1], table, want, got)
			}
		}
	}
}
