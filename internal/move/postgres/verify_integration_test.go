package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// moved copies a source with a schema to a fresh target; the stream does not run yet.
func moved(t *testing.T, from, to int, schema string) (*Mover, *pgx.Conn, *pgx.Conn) {
	t.Helper()
	m, source, target := empties(t, from, to, schema, Limits{})
	ctx := context.Background()
	if _, err := target.Exec(ctx, `CREATE ROLE "new app"; CREATE ROLE kinds_reader`); err != nil {
		t.Fatal(err)
	}
	if _, err := m.load(ctx, func(move.Progress) {}); err != nil {
		t.Fatal(err)
	}
	return m, source, target
}

// plant changes rows of the target behind the move's back.
func plant(t *testing.T, target *pgx.Conn, sql ...string) {
	t.Helper()
	ctx := context.Background()
	for _, s := range append(append([]string{"SET session_replication_role = replica"}, sql...), "RESET session_replication_role") {
		if _, err := target.Exec(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func verify(t *testing.T, m *Mover, o move.VerifyOptions) move.Comparison {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := m.Verify(ctx, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantTables(t, c)
	return c
}

// wantTables: the tables' shares are sorted, sum up to the whole, and each took its time.
func wantTables(t *testing.T, c move.Comparison) {
	t.Helper()
	var rows, different int64
	timed, names := 0, []string{}
	for _, b := range c.ByTable {
		rows, different = rows+b.Rows, different+b.Different
		names = append(names, b.Table)
		if b.Took > 0 {
			timed++
		}
	}
	if rows != c.Rows || different != c.Different || timed != c.Tables || !slices.IsSorted(names) {
		t.Errorf("of %d tables with %d rows, %d of them different, the shares are %d timed ones with %d and %d: %v", c.Tables, c.Rows, c.Different, timed, rows, different, names)
	}
}

// replicating streams under the move's lock, as `dhow replicate` does.
func replicating(t *testing.T, m *Mover, target *pgx.Conn) (stop func() error) {
	t.Helper()
	unlock, err := m.lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	end := again(t, m, target)
	return func() error { defer unlock(); return end() }
}

func wantDifferences(t *testing.T, got move.Comparison, want ...string) {
	t.Helper()
	lines := []string{}
	for _, d := range got.Differences {
		line := fmt.Sprintf("%s %s %s", d.Kind, d.Table, d.Key)
		if d.Repaired {
			line += " repaired"
		}
		lines = append(lines, line)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(lines))); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	if got.Different != int64(len(want)) {
		t.Errorf("%d differ, want %d", got.Different, len(want))
	}
}

// bigger adds tables that are cut into chunks in each of the ways.
const bigger = `
	CREATE TABLE ranged (id bigint PRIMARY KEY, v text); INSERT INTO ranged SELECT i * 3, 'v' || i FROM generate_series(1, 50000) i;
	CREATE TABLE composite (day date, n int, v text, PRIMARY KEY (day, n)); INSERT INTO composite SELECT '2026-01-01'::date + i / 1000, i % 1000, 'v' FROM generate_series(0, 49999) i;
	CREATE TABLE hashed (id uuid PRIMARY KEY, v int); INSERT INTO hashed SELECT md5(i::text)::uuid, i FROM generate_series(1, 50000) i;
	CREATE TABLE texts (code text COLLATE "en-x-icu" PRIMARY KEY, v int); INSERT INTO texts SELECT 'Code ' || i, i FROM generate_series(1, 50000) i;
	CREATE TABLE bag (a int, b text); ALTER TABLE bag REPLICA IDENTITY FULL; INSERT INTO bag SELECT i / 2, 'twice' FROM generate_series(1, 50000) i;
	CREATE UNLOGGED TABLE cache (id int PRIMARY KEY, v int); INSERT INTO cache VALUES (1, 1);
	ANALYZE;`

func TestVerifyNamesEveryDifference(t *testing.T) {
	for _, v := range [][2]int{{13, 15}, {15, 15}, {15, 17}} {
		t.Run(fmt.Sprintf("%d to %d", v[0], v[1]), func(t *testing.T) {
			schema := bigger
			if v[0] != 15 { // the other builds have no ICU
				schema = strings.ReplaceAll(bigger, `COLLATE "en-x-icu"`, "")
			} else if v[1] != 15 {
				schema = strings.ReplaceAll(bigger, `"en-x-icu"`, `"POSIX"`)
			}
			m, source, target := moved(t, v[0], v[1], kindsSchema+schema)
			ctx := context.Background()
			var rows int64
			for n := range content(t, source) {
				var k int64
				if err := source.QueryRow(ctx, "SELECT count(*) FROM ONLY "+n).Scan(&k); err != nil {
					t.Fatal(err)
				}
				if n != "kept" && n != "kept_too" && n != "cache" {
					rows += k
				}
			}
			clean := verify(t, m, move.VerifyOptions{}) // it runs the stream itself
			wantDifferences(t, clean)
			if clean.Rows != rows || clean.Chunks < clean.Tables+5 {
				t.Errorf("compared %d rows of %d, in %d chunks of %d tables", clean.Rows, rows, clean.Chunks, clean.Tables)
			}
			plant(t, target,
				"UPDATE ranged SET v = 'other' WHERE id IN (3, 30000); DELETE FROM ranged WHERE id = 9; INSERT INTO ranged VALUES (10, 'new'), (999999, 'last')",
				"UPDATE composite SET v = NULL WHERE day = '2026-01-01' AND n = 0; DELETE FROM composite WHERE n = 999 AND day = '2026-02-19'",
				"UPDATE hashed SET v = -v WHERE v = 77; DELETE FROM hashed WHERE v = 78",
				"UPDATE texts SET code = 'code 5' WHERE v = 5",
				"DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE a = 7 LIMIT 1); INSERT INTO bag VALUES (8, 'twice'), (8, NULL)",
				"UPDATE kinds SET ar[1][1] = 9 WHERE id = 1; UPDATE kinds SET j = NULL WHERE id = 2; UPDATE kinds SET n = 0.000 WHERE id = 3; UPDATE kinds SET d = 8, p = NULL WHERE id = 4; UPDATE kinds SET p = (NULL, NULL) WHERE id = 5",
				"UPDATE events SET v = 'x' WHERE id = 7; UPDATE heir SET extra = 'z'; DELETE FROM parent WHERE id = 1",
				"INSERT INTO nothing DEFAULT VALUES",
				"UPDATE cache SET v = 2")
			var events string
			if err := source.QueryRow(ctx, "SELECT tableoid::regclass::text || ' id=7, day=' || day FROM events WHERE id = 7").Scan(&events); err != nil {
				t.Fatal(err)
			}
			var u77, u78 string
			if err := source.QueryRow(ctx, "SELECT md5('77')::uuid::text, md5('78')::uuid::text").Scan(&u77, &u78); err != nil {
				t.Fatal(err)
			}
			want := []string{
				"missing public.bag (7,twice)", "extra public.bag (8,)", "extra public.bag (8,twice)",
				"changed public.composite day=2026-01-01, n=0", "missing public.composite day=2026-02-19, n=999",
				"changed public." + events,
				"changed public.hashed id=" + u77, "missing public.hashed id=" + u78,
				"changed public.heir id=2",
				"changed public.kinds id=1", "changed public.kinds id=2", "changed public.kinds id=3", "changed public.kinds id=4", "changed public.kinds id=5",
				"extra public.nothing ()",
				"missing public.parent id=1",
				"changed public.ranged id=3", "missing public.ranged id=9", "extra public.ranged id=10", "changed public.ranged id=30000", "extra public.ranged id=999999",
				"missing public.texts code=Code 5", "extra public.texts code=code 5",
			}
			if u77 > u78 {
				want[6], want[7] = want[7], want[6]
			}
			wantDifferences(t, verify(t, m, move.VerifyOptions{}), want...)
			few := verify(t, m, move.VerifyOptions{Most: 1})
			if few.Different != int64(len(want)) || len(few.Differences) != 10 {
				t.Errorf("with one row named for each table: %d named of %d", len(few.Differences), few.Different)
			}
			for i := range want {
				want[i] += " repaired"
			}
			wantDifferences(t, verify(t, m, move.VerifyOptions{Repair: true}), want...)
			wantDifferences(t, verify(t, m, move.VerifyOptions{}))
			plant(t, target, "UPDATE cache SET v = 1")
			sameContent(t, source, target)
		})
	}
}

// TestVerifyMovingData compares while some rows change all the time: those that
// are equal must not be named, and those that are not must be.
func TestVerifyMovingData(t *testing.T) {
	const schema = `
		CREATE TABLE hot (id int PRIMARY KEY, n bigint, pad text); INSERT INTO hot SELECT i, 0, 'p' FROM generate_series(1, 40000) i;
		CREATE TABLE log (at int, v text); ALTER TABLE log REPLICA IDENTITY FULL; INSERT INTO log SELECT i, 'v' FROM generate_series(1, 30000) i;
		CREATE TABLE flicker (id int PRIMARY KEY, b bool); INSERT INTO flicker SELECT i, false FROM generate_series(1, 10) i; ANALYZE;`
	m, source, target := moved(t, 15, 15, schema)
	ctx := context.Background()
	stop := replicating(t, m, target)
	writing, quiet := context.WithCancel(ctx)
	var g errgroup.Group
	for w := range 2 {
		g.Go(func() error {
			conn, err := pgx.ConnectConfig(ctx, m.cfg.Source)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			for i := w; writing.Err() == nil; i += 2 {
				sql := fmt.Sprintf(`BEGIN; UPDATE hot SET n = n + 1 WHERE id = %d; UPDATE hot SET n = n + 1 WHERE id = %d; INSERT INTO log VALUES (%d, 'new'); DELETE FROM log WHERE at = %d;
					UPDATE flicker SET b = NOT b WHERE id = %d; DELETE FROM flicker WHERE id = %d; INSERT INTO flicker VALUES (%d, true); COMMIT`,
					1+w, 100+i*7919%30000, 100000+i, i%30000, 1+w, 3+w, 3+w)
				if _, err := conn.Exec(ctx, sql); err != nil {
					return err
				}
			}
			return nil
		})
	}
	settle(t, m, source)
	other, err := New(m.cfg) // as another process would
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		for name, mv := range map[string]*Mover{"here": m, "elsewhere": other} {
			c := verify(t, mv, move.VerifyOptions{})
			t.Logf("round %d, stream %s: %d rows, %d different, %d undecided", round, name, c.Rows, c.Different, c.Undecided)
			wantDifferences(t, c)
		}
	}
	planted := []string{"extra public.flicker id=99", "changed public.hot id=50", "extra public.hot id=50000", "missing public.hot id=51", "extra public.log (7,twice)"}
	wrong := []string{"UPDATE hot SET pad = 'wrong' WHERE id = 50; DELETE FROM hot WHERE id = 51; INSERT INTO hot VALUES (50000, 1, 'x'); INSERT INTO flicker VALUES (99, true)", "INSERT INTO log VALUES (7, 'twice')"}
	plant(t, target, wrong...)
	wantDifferences(t, verify(t, m, move.VerifyOptions{}), planted...)
	wantDifferences(t, verify(t, other, move.VerifyOptions{}), planted...)
	for i := range planted {
		planted[i] += " repaired"
	}
	wantDifferences(t, verify(t, m, move.VerifyOptions{Repair: true}), planted...)
	plant(t, target, wrong...)
	wantDifferences(t, verify(t, other, move.VerifyOptions{Repair: true}), planted...)
	quiet()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	settle(t, m, source)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	sameContent(t, source, target)
}

// TestVerifyPinned compares what stood at the cutover after both sides moved on.
func TestVerifyPinned(t *testing.T) {
	const schema = `
		CREATE TABLE plain (id int PRIMARY KEY, v text); INSERT INTO plain SELECT i, 'v' FROM generate_series(1, 1000) i;
		CREATE TABLE bag (a int); ALTER TABLE bag REPLICA IDENTITY FULL; INSERT INTO bag VALUES (1), (1), (2);
		CREATE UNLOGGED TABLE cache (id int PRIMARY KEY); CREATE SEQUENCE s; SELECT nextval('s'); CREATE SEQUENCE down INCREMENT -1; SELECT nextval('down'), nextval('down'), nextval('down');
		SELECT lo_from_bytea(77, 'large'), lo_from_bytea(78, ''), lo_create(79); SELECT lo_put(79, 5000000, 'sparse');`
	m, source, target := moved(t, 15, 15, schema)
	ctx := context.Background()
	if _, err := m.Verify(ctx, move.VerifyOptions{Pinned: true}, nil); err == nil {
		t.Fatal("compared a snapshot that was never pinned")
	}
	stop := again(t, m, target)
	settle(t, m, source)
	if err := m.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Exec(ctx, "SELECT lo_put(77, 0, 'LARGE'); SELECT nextval('s'); INSERT INTO cache VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	mk, err := m.Fence(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.CatchUp(ctx, mk); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	plant(t, target, "UPDATE plain SET v = 'w' WHERE id = 500; DELETE FROM bag WHERE a = 2; INSERT INTO bag VALUES (1)")
	if err := m.Pin(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	want := []string{"extra public.bag (1)", "missing public.bag (2)", "missing public.cache id=1", "changed public.plain id=500"}
	wantDifferences(t, verify(t, m, move.VerifyOptions{}), want...) // sealed: exact without a snapshot
	if err := m.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Exec(ctx, "DELETE FROM plain WHERE id < 900; UPDATE plain SET v = 'moved on'; INSERT INTO bag VALUES (3); SELECT nextval('s'), nextval('down'); SELECT lo_unlink(77), lo_from_bytea(80, 'new')"); err != nil {
		t.Fatal(err)
	}
	wantDifferences(t, verify(t, m, move.VerifyOptions{Pinned: true}), want...)
	_, err = m.Verify(ctx, move.VerifyOptions{}, nil)
	var refused *move.Refused
	if !errors.As(err, &refused) {
		t.Fatalf("compared a source with a target that has moved on: %v", err)
	}
	// A sequence that is behind would give out a number twice.
	if _, err := target.Exec(ctx, "SELECT setval('s', 1), setval('down', -1)"); err != nil {
		t.Fatal(err)
	}
	got := verify(t, m, move.VerifyOptions{Pinned: true})
	if got.Different != int64(len(want))+2 {
		t.Errorf("sequences that are behind: %+v", got.Differences)
	}
	back, err := m.Reverse()
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close(ctx)
	c := verify(t, back, move.VerifyOptions{Repair: true}) // it streams the way back itself
	if c.Different == 0 || slices.ContainsFunc(c.Differences, func(d move.Difference) bool { return !d.Repaired }) {
		t.Errorf("the way back: %+v", c.Differences)
	}
	wantDifferences(t, verify(t, back, move.VerifyOptions{}))
	if _, err := target.Exec(ctx, "TRUNCATE plain"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Verify(ctx, move.VerifyOptions{Pinned: true}, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "public.plain") {
		t.Errorf("a table that no snapshot shows any more: %v", err)
	}
}

func TestVerifyNamesObjects(t *testing.T) {
	m, source, target := moved(t, 15, 15, "CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a VALUES (1, 1); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE p (id int) PARTITION BY LIST (id)")
	ctx := context.Background()
	if _, err := target.Exec(ctx, "DROP TABLE b; DROP TABLE p; CREATE TABLE c (id int); ALTER TABLE a DROP v; ALTER TABLE a ADD w int"); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Exec(ctx, "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	wantDifferences(t, verify(t, m, move.VerifyOptions{}), "missing public.a column v", "extra public.a column w", "missing public.b table", "extra public.c table", "missing public.p table")
}

// TestRepairLetsAStoppedStreamGoOn mends what the stream itself stumbles over.
func TestRepairLetsAStoppedStreamGoOn(t *testing.T) {
	const schema = `CREATE TABLE plain (id int PRIMARY KEY, v text, u int UNIQUE); INSERT INTO plain SELECT i, 'v', i FROM generate_series(1, 20) i;
		CREATE TABLE bag (a int, b text); ALTER TABLE bag REPLICA IDENTITY FULL; INSERT INTO bag VALUES (1, 'x'), (2, 'y');`
	m, source, target := moved(t, 15, 17, schema)
	ctx := context.Background()
	plant(t, target, "DELETE FROM plain WHERE id = 1; UPDATE plain SET u = 1 WHERE id = 2; INSERT INTO plain VALUES (21, 'x', 2); DELETE FROM bag WHERE a = 1")
	if _, err := source.Exec(ctx, "UPDATE plain SET v = 'w' WHERE id = 1; INSERT INTO plain VALUES (21, 'real', 21); UPDATE plain SET u = -u WHERE id IN (3, 4); UPDATE bag SET b = 'z' WHERE a = 1; DELETE FROM bag WHERE a = 2"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Verify(ctx, move.VerifyOptions{}, nil); err == nil || !strings.Contains(err.Error(), "--repair") {
		t.Fatalf("the stream passed a row that is not there: %v", err)
	}
	c := verify(t, m, move.VerifyOptions{Repair: true})
	for _, d := range c.Differences {
		if !d.Repaired {
			t.Errorf("not repaired: %+v", d)
		}
	}
	wantDifferences(t, verify(t, m, move.VerifyOptions{}))
	stop := again(t, m, target)
	settle(t, m, source)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	sameContent(t, source, target)
}
