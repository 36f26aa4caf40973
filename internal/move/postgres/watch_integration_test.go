package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
)

// couple are two servers on which many moves are tried, each between databases of its own.
type couple struct {
	source, target *pgserver.Server
}

func pairUp(t *testing.T, from, to int) couple {
	t.Helper()
	return couple{pgtest.Start(t, from), pgtest.Start(t, to)}
}

// voyage is one move between two databases of a couple.
type voyage struct {
	*Mover
	source, target *pgx.Conn

	mu     sync.Mutex
	latest move.Progress
}

func (c couple) voyage(t *testing.T, name, schema string, limits Limits) *voyage {
	t.Helper()
	ctx := context.Background()
	v := &voyage{}
	var cfgs [2]*pgx.ConnConfig
	var conns [2]*pgx.Conn
	for i, s := range []*pgserver.Server{c.source, c.target} {
		var err error
		if cfgs[i], err = pgx.ParseConfig(pgtest.Database(t, s, name)); err != nil {
			t.Fatal(err)
		}
		if conns[i], err = pgx.ConnectConfig(ctx, cfgs[i]); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conns[i].Close(ctx) })
	}
	v.source, v.target = conns[0], conns[1]
	run(t, v.source, schema)
	var err error
	if v.Mover, err = New(Config{Estate: "test", Name: name, Source: cfgs[0], Target: cfgs[1], Limits: limits}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Finish(ctx); err != nil {
			t.Error(err)
		}
		v.Close(ctx)
	})
	return v
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(context.Background(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// start lets the move run; ended gets what Replicate returned.
func (v *voyage) start() (stop func(), ended chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan error, 1)
	go func() {
		ended <- v.Replicate(ctx, func(p move.Progress) {
			v.mu.Lock()
			v.latest = p
			v.mu.Unlock()
		})
	}()
	return cancel, ended
}

func (v *voyage) progress() move.Progress {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.latest
}

// within waits until a condition holds.
func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// sailing starts the move and waits until it streams.
func (v *voyage) sailing(t *testing.T) (stop func(), ended chan error) {
	t.Helper()
	stop, ended = v.start()
	within(t, "the stream runs", func() bool {
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
		v.Mover.mu.Lock()
		defer v.Mover.mu.Unlock()
		return v.running != nil
	})
	settle(t, v.Mover, v.source)
	return stop, ended
}

// stopped waits for the refusal that ends the move.
func stopped(t *testing.T, ended chan error) *move.Refused {
	t.Helper()
	select {
	case err := <-ended:
		var refused *move.Refused
		if !errors.As(err, &refused) {
			t.Fatalf("got %v, want a refusal", err)
		}
		return refused
	case <-time.After(time.Minute):
		t.Fatal("the change of the schema was not noticed within a minute")
	}
	return nil
}

// statements takes what is to be run on the target out of a refusal's text.
func statements(t *testing.T, r *move.Refused) string {
	t.Helper()
	_, rest, ok := strings.Cut(r.Fix, "make the same change on the target: ")
	sql, _, ok2 := strings.Cut(rest, "; then start `dhow replicate` again")
	if !ok || !ok2 {
		t.Fatalf("no statements in %q", r.Fix)
	}
	return sql
}

const baseSchema = `
	CREATE TABLE t (id int PRIMARY KEY, v varchar(10) NOT NULL, u int UNIQUE, w int);
	INSERT INTO t SELECT i, 'v' || i, i, i FROM generate_series(1, 200) i;
	CREATE TYPE mood AS ENUM ('sad', 'happy');
	CREATE TABLE feels (id int PRIMARY KEY, m mood); INSERT INTO feels SELECT i, 'sad' FROM generate_series(1, 20) i;
	CREATE TABLE parts (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
	CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01'); INSERT INTO parts SELECT i, '2026-01-05', 'p' FROM generate_series(1, 20) i;
	CREATE TABLE other (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL); INSERT INTO other SELECT i, i, i FROM generate_series(1, 20) i;
	CREATE TYPE empty AS ENUM (); CREATE TABLE empties (id int PRIMARY KEY, e empty); INSERT INTO empties SELECT i FROM generate_series(1, 20) i;
	CREATE TABLE viewed (id int PRIMARY KEY); CREATE VIEW seen AS SELECT id FROM viewed;
	CREATE TABLE refers (id int PRIMARY KEY, t int REFERENCES t); INSERT INTO refers SELECT i, i FROM generate_series(1, 20) i;`

// reshapings are changes of the source's schema, each with writes before and
// behind it that the stream may meet in one go.
var reshapings = []struct {
	name   string
	before string // writes that the target may not have applied when the change comes
	change string
	after  string
	says   string // in the refusal; empty: the move goes on by itself
	again  string // a table that the refusal says is copied again
}{
	{name: "add_column", before: "UPDATE t SET w = w + 1; INSERT INTO t VALUES (1001, 'a', 1001, 1)", change: "ALTER TABLE t ADD COLUMN note text", after: "UPDATE t SET note = 'n' WHERE id % 2 = 0; INSERT INTO t VALUES (1002, 'b', 1002, 1, 'new')", says: "column public.t.note was added (text)"},
	{name: "add_column_default", before: "INSERT INTO t VALUES (1001, 'a', 1001, 1)", change: "ALTER TABLE t ADD COLUMN n numeric(6,2) NOT NULL DEFAULT 1.50, ADD COLUMN j jsonb DEFAULT '{}'", after: "INSERT INTO t VALUES (1002, 'b', 1002, 1); UPDATE t SET n = 2 WHERE id < 10", says: "column public.t.n was added (numeric(6,2))"},
	{name: "add_column_random", before: "INSERT INTO t VALUES (1001, 'a', 1001, 1)", change: "ALTER TABLE t ADD COLUMN r uuid DEFAULT gen_random_uuid()", after: "INSERT INTO t VALUES (1002, 'b', 1002, 1)", says: "column public.t.r was added (uuid)", again: "public.t"},
	{name: "add_column_clock", change: "ALTER TABLE t ADD COLUMN at timestamptz DEFAULT now()", after: "INSERT INTO t VALUES (1002, 'b', 1002, 1)", says: "column public.t.at was added", again: "public.t"},
	{name: "add_column_filled_later", change: "ALTER TABLE t ADD COLUMN n int; UPDATE t SET n = id; ALTER TABLE t ALTER n SET NOT NULL", after: "INSERT INTO t VALUES (1002, 'b', 1002, 1, 5)", says: "column public.t.n was added (integer)"},
	{name: "add_serial", change: "ALTER TABLE t ADD COLUMN s serial", after: "INSERT INTO t VALUES (1002, 'b', 1002, 1)", says: "column public.t.s was added", again: "public.t"},
	{name: "add_identity", change: "ALTER TABLE t ADD COLUMN s bigint GENERATED ALWAYS AS IDENTITY", after: "INSERT INTO t VALUES (1002, 'b', 1002, 1)", says: "column public.t.s was added", again: "public.t"},
	{name: "add_generated", before: "INSERT INTO t VALUES (1001, 'a', 1001, 1)", change: "ALTER TABLE t ADD COLUMN g int GENERATED ALWAYS AS (w * 2) STORED", after: "UPDATE t SET w = w + 1", says: "column public.t.g was added"},
	{name: "drop_column", before: "UPDATE t SET w = w + 1; INSERT INTO t VALUES (1001, 'a', 1001, 1)", change: "ALTER TABLE t DROP COLUMN w", after: "INSERT INTO t VALUES (1002, 'b', 1002); UPDATE t SET v = 'x' WHERE id < 5", says: "column public.t.w was dropped"},
	{name: "rename_column", before: "UPDATE t SET w = w + 1", change: "ALTER TABLE t RENAME COLUMN w TO weight", after: "UPDATE t SET weight = 7 WHERE id < 5", says: "column public.t.w was renamed to weight", again: "public.t"},
	{name: "move_column", before: "UPDATE t SET w = w + 1", change: "ALTER TABLE t DROP COLUMN w; ALTER TABLE t ADD COLUMN w int", after: "UPDATE t SET w = 7 WHERE id < 5", says: ""},
	{name: "change_type", before: "UPDATE t SET w = w + 1", change: "ALTER TABLE t ALTER w TYPE bigint", after: "UPDATE t SET w = 7000000000 WHERE id < 5", says: "column public.t.w has type bigint instead of integer", again: "public.t"},
	{name: "change_type_by_expression", change: "ALTER TABLE t ALTER w TYPE text USING md5(w::text)", after: "INSERT INTO t VALUES (1002, 'b', 1002, 'c')", says: "column public.t.w has type text instead of integer", again: "public.t"},
	{name: "widen", before: "INSERT INTO t VALUES (1001, 'a', 1001, 1)", change: "ALTER TABLE t ALTER v TYPE varchar(200)", after: "UPDATE t SET v = repeat('long', 20) WHERE id < 5", says: "column public.t.v has type character varying(200) instead of character varying(10)"},
	{name: "drop_not_null", change: "ALTER TABLE t ALTER v DROP NOT NULL", after: "UPDATE t SET v = NULL WHERE id < 5", says: "column public.t.v may be null now"},
	{name: "drop_unique", change: "ALTER TABLE t DROP CONSTRAINT t_u_key", after: "UPDATE t SET u = 1", says: "constraint t_u_key of public.t was dropped"},
	{name: "add_enum_value", change: "ALTER TYPE mood ADD VALUE 'ok' BEFORE 'happy'; ALTER TYPE mood ADD VALUE 'awful' BEFORE 'sad'", after: "UPDATE feels SET m = 'ok' WHERE id < 5; INSERT INTO feels VALUES (100, 'awful')", says: "type public.mood has new values"},
	{name: "add_first_enum_values", change: "ALTER TYPE empty ADD VALUE 'b'; ALTER TYPE empty ADD VALUE 'a' BEFORE 'b'", after: "UPDATE empties SET e = 'b' WHERE id < 5; INSERT INTO empties VALUES (100, 'a')", says: "type public.empty has new values"},
	{name: "rename_enum_value", before: "UPDATE feels SET m = 'happy' WHERE id = 1; INSERT INTO feels VALUES (99, 'sad')", change: "ALTER TYPE mood RENAME VALUE 'sad' TO 'glum'", after: "INSERT INTO feels VALUES (100, 'glum')", says: "type public.mood was changed", again: "public.feels"},
	{name: "create_table", change: `CREATE SCHEMA fresh; CREATE TYPE fresh.kind AS ENUM ('a', 'b'); CREATE SEQUENCE fresh.counter START 50;
		CREATE TABLE fresh.made (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, n int NOT NULL DEFAULT nextval('fresh.counter'), k fresh.kind, t int REFERENCES t, up text COLLATE "C", low text GENERATED ALWAYS AS (lower(up)) STORED, CHECK (n > 0), UNIQUE (n));
		CREATE INDEX made_up ON fresh.made (up) WHERE up <> ''; CREATE TABLE fresh.all_of_it (a int, b text); ALTER TABLE fresh.all_of_it REPLICA IDENTITY FULL;
		CREATE TABLE fresh.a_child (made bigint REFERENCES fresh.made, PRIMARY KEY (made));
		INSERT INTO fresh.made (k, t, up) SELECT 'a', i, 'U' || i FROM generate_series(1, 50) i; INSERT INTO fresh.all_of_it VALUES (1, 'x'), (1, 'x'); INSERT INTO fresh.a_child VALUES (1)`,
		after: "UPDATE fresh.made SET up = 'NEW' WHERE id < 5; INSERT INTO fresh.made (up) VALUES ('LATE'); DELETE FROM fresh.all_of_it WHERE ctid = '(0,1)'", says: "table fresh.made was created", again: "fresh.made"},
	{name: "create_partition", change: "CREATE TABLE parts_b PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01'); INSERT INTO parts VALUES (1, '2026-02-05', 'q')", after: "INSERT INTO parts VALUES (2, '2026-02-06', 'r'); UPDATE parts SET day = '2026-02-07' WHERE id = 3", says: "partition public.parts_b was created", again: "public.parts_b"},
	{name: "add_column_to_partitioned", change: "ALTER TABLE parts ADD COLUMN extra int DEFAULT 3", after: "INSERT INTO parts VALUES (100, '2026-01-06', 'r', 4)", says: "column public.parts.extra was added"},
	{name: "detach_partition", change: "ALTER TABLE parts DETACH PARTITION parts_a", after: "INSERT INTO parts_a VALUES (100, '2027-01-06', 'r')", says: "table public.parts_a was detached from public.parts"},
	{name: "attach_partition", change: "CREATE TABLE lone (id int, day date, v text, PRIMARY KEY (id, day)); INSERT INTO lone VALUES (5, '2026-03-03', 'l'); ALTER TABLE parts ATTACH PARTITION lone FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')", after: "INSERT INTO parts VALUES (6, '2026-03-04', 'm')", says: "partition public.lone was created", again: "public.lone"},
	{name: "drop_table", before: "UPDATE other SET a = 5", change: "DROP TABLE other", after: "UPDATE t SET w = 3", says: "table public.other was dropped"},
	{name: "rename_table", before: "UPDATE other SET a = 5; INSERT INTO other VALUES (100, 1, 1)", change: "ALTER TABLE other RENAME TO others; CREATE SCHEMA away; ALTER TABLE others SET SCHEMA away", after: "UPDATE away.others SET b = 9", says: "table public.other was renamed to away.others", again: "away.others"},
	{name: "replace_table", before: "UPDATE other SET a = 5", change: "DROP TABLE other; CREATE TABLE other (id int PRIMARY KEY, c text); INSERT INTO other VALUES (1, 'one')", after: "INSERT INTO other VALUES (2, 'two')", says: "table public.other was dropped and created again", again: "public.other"},
	{name: "another_key", before: "UPDATE other SET a = a + 100", change: "ALTER TABLE other DROP CONSTRAINT other_pkey, ADD PRIMARY KEY (b, a)", after: "UPDATE other SET id = 1; DELETE FROM other WHERE b = 5", says: "table public.other names its rows by (b, a) instead of (id)", again: "public.other"},
	{name: "another_identity", before: "UPDATE other SET a = a + 100", change: "CREATE UNIQUE INDEX other_a ON other (a); ALTER TABLE other REPLICA IDENTITY USING INDEX other_a", after: "UPDATE other SET id = id + 1000; DELETE FROM other WHERE a = 105", says: "table public.other got another replica identity", again: "public.other"},
	{name: "identity_full", before: "UPDATE other SET b = b + 100", change: "ALTER TABLE other REPLICA IDENTITY FULL", after: "UPDATE other SET id = id + 1000; DELETE FROM other WHERE a = 5", says: "table public.other got another replica identity"},
	{name: "replace_table_by_its_like", before: "UPDATE other SET a = 5", change: "DROP TABLE other; CREATE TABLE other (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL); INSERT INTO other VALUES (1, 7, 7)", after: "INSERT INTO other VALUES (2, 8, 8)"},
	{name: "drop_table_with_its_view", change: "DROP VIEW seen; DROP TABLE viewed", after: "UPDATE t SET w = 3", says: "table public.viewed was dropped"},
	{name: "create_sequence", change: "CREATE SEQUENCE steps INCREMENT 7 START 70 CYCLE MAXVALUE 1000", after: "SELECT nextval('steps')", says: "sequence public.steps was created"},
	{name: "unpublished", before: "UPDATE other SET a = 1", change: "ALTER PUBLICATION dhow_test_unpublished DROP TABLE ONLY other", after: "UPDATE other SET a = 2; INSERT INTO other VALUES (101, 1, 1)"},
}

// TestChangedSchemaIsFollowed changes the source's schema in every way that
// harms, under writes; does on the target what the refusal says; and goes on.
func TestChangedSchemaIsFollowed(t *testing.T) {
	servers := map[[2]int]couple{}
	for _, v := range [][2]int{{15, 15}, {13, 17}} {
		servers[v] = pairUp(t, v[0], v[1])
	}
	for i, c := range reshapings {
		v := [2]int{15, 15}
		if i%4 == 0 || c.name == "create_table" {
			v = [2]int{13, 17}
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			m := servers[v].voyage(t, c.name, baseSchema, Limits{})
			stop, ended := m.sailing(t)
			if c.before != "" && i%2 == 0 { // the change meets a stream that is behind, or that is not there
				stop()
				<-ended
				run(t, m.source, c.before)
				run(t, m.source, c.change)
				run(t, m.source, c.after)
				stop, ended = m.start()
			} else {
				run(t, m.source, c.before)
				run(t, m.source, c.change)
				run(t, m.source, c.after)
			}
			if c.says == "" {
				within(t, "the change is taken up", func() bool {
					s, err := m.survey(ctx, m.plain(t, m.cfg.Source), m.plain(t, m.cfg.Target))
					m.Mover.mu.Lock()
					defer m.Mover.mu.Unlock()
					return err == nil && !s.harms() && m.running != nil
				})
			} else {
				refused := stopped(t, ended)
				if !strings.Contains(refused.Reason, c.says) {
					t.Fatalf("refused with %q, want %q", refused.Reason, c.says)
				}
				if says := strings.Contains(refused.Fix, "copies"); says != (c.again != "") || !strings.Contains(refused.Fix, c.again) {
					t.Fatalf("the way on is %q, want table %q copied again", refused.Fix, c.again)
				}
				if err := m.Prepare(ctx); !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.says) {
					t.Fatalf("a cutover over a changed schema: %v", err)
				}
				_, again := m.start() // without the change on the target it stops again
				if r := stopped(t, again); !strings.Contains(r.Reason, c.says) {
					t.Fatalf("second time refused with %q", r.Reason)
				}
				run(t, m.target, statements(t, refused))
				stop, ended = m.sailing(t)
			}
			run(t, m.source, "UPDATE t SET u = u; INSERT INTO feels VALUES (5000, 'happy')")
			settle(t, m.Mover, m.source)
			sameContent(t, m.source, m.target)
			if _, err := m.target.Exec(ctx, "DELETE FROM feels"); err == nil {
				t.Error("the target takes writes")
			}
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			s, err := m.survey(ctx, m.plain(t, m.cfg.Source), m.plain(t, m.cfg.Target))
			if err != nil {
				t.Fatal(err)
			}
			if s.harms() {
				t.Errorf("still to follow: %s", changeList(s.changes))
			}
			var open int // every table of the target is closed, the new ones too
			if err := m.target.QueryRow(ctx, `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('dhow', 'information_schema')
				AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = $1)`, fenceTrigger).Scan(&open); err != nil || open != 0 {
				t.Errorf("%d tables of the target are open, %v", open, err)
			}
		})
	}
}

// plain is a session as the mover opens it.
func (v *voyage) plain(t *testing.T, cfg *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	conn, err := connect(context.Background(), cfg, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangUp(context.Background(), conn) })
	return conn
}
