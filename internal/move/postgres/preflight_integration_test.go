package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
)

// two are the databases that a preflight looks at, with a superuser's session on each.
type two struct {
	*Mover
	source, target *pgx.Conn
	servers        couple
	name           string
}

func (c couple) two(t *testing.T, name string, change func(*Config)) *two {
	t.Helper()
	p := &two{servers: c, name: name}
	cfg := Config{Estate: "test", Name: name}
	for _, e := range []struct {
		server *pgserver.Server
		cfg    **pgx.ConnConfig
		conn   **pgx.Conn
	}{{c.source, &cfg.Source, &p.source}, {c.target, &cfg.Target, &p.target}} {
		var err error
		if *e.cfg, err = pgx.ParseConfig(pgtest.Database(t, e.server, name)); err != nil {
			t.Fatal(err)
		}
		if *e.conn, err = pgx.ConnectConfig(context.Background(), *e.cfg); err != nil {
			t.Fatal(err)
		}
		conn := *e.conn
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if p.Mover, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return p
}

// look runs the preflight, every threshold at nothing where eager.
func (p *two) look(t *testing.T, eager bool) []move.Issue {
	t.Helper()
	if eager {
		return p.lookWith(t, thresholds{})
	}
	return p.lookWith(t, defaultThresholds)
}

func (p *two) lookWith(t *testing.T, limits thresholds) []move.Issue {
	t.Helper()
	issues, err := p.inspect(context.Background(), limits)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range issues {
		if i.Object == "" || i.Consequence == "" || i.Fix == "" || strings.ContainsAny(i.Object+i.Consequence+i.Fix, "{}") {
			t.Errorf("issue %s is not whole: %+v", i.Rule, i)
		}
	}
	return issues
}

func find(issues []move.Issue, rule, object string) *move.Issue {
	for _, i := range issues {
		if i.Rule == rule && (object == "" || i.Object == object) {
			return &i
		}
	}
	return nil
}

func ruleByID(id string) *rule {
	for _, g := range groups() {
		for _, r := range g {
			if r.id == id {
				return &r
			}
		}
	}
	return nil
}

// mend runs an issue's fix, statement by statement as psql does.
func (p *two) mend(t *testing.T, i move.Issue) {
	t.Helper()
	conn := p.source
	if i.Side == "target" {
		conn = p.target
	}
	sql, _, _ := strings.Cut(i.Fix, "-- ")
	for statement := range strings.SplitSeq(sql, "; ") {
		if strings.TrimSpace(statement) != "" {
			run(t, conn, statement)
		}
	}
}

// trap is what a rule must find. Where it can stand beside others, public is a
// schema of its own.
type trap struct {
	name           string // the rule's id, or that and more after a space
	source, target string // what plants it
	object         string
	fix            string // a part of the fix; empty: the fix is a sentence
	fixed          string // SQL that stands for a fix which is a sentence
	alone          bool   // it concerns the whole database
	change         func(*Config)
}

var traps = []trap{
	{name: "no-replica-identity", source: "CREATE TABLE t (a int)", object: "public.t", fix: `ALTER TABLE public.t REPLICA IDENTITY FULL`},
	{name: "no-replica-identity index", source: `CREATE TABLE "T 1" (a int NOT NULL UNIQUE)`, object: "public.T 1", fix: `ALTER TABLE public."T 1" REPLICA IDENTITY USING INDEX "T 1_a_key"`},
	{name: "no-replica-identity partition", source: "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)", object: "public.p1", fix: "REPLICA IDENTITY FULL"},
	{name: "deferrable-key", source: "CREATE TABLE t (a int PRIMARY KEY DEFERRABLE)", object: "public.t", fix: "REPLICA IDENTITY FULL"},
	{name: "replica-identity-nothing", source: "CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING", object: "public.t", fix: "REPLICA IDENTITY DEFAULT"},
	{name: "replica-identity-lost", source: "CREATE TABLE t (a int NOT NULL, b int NOT NULL UNIQUE); CREATE UNIQUE INDEX i ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX i; DROP INDEX i", object: "public.t", fix: "REPLICA IDENTITY USING INDEX t_b_key"},
	{name: "slow-identity", source: "CREATE TABLE t (a int); INSERT INTO t VALUES (1); ALTER TABLE t REPLICA IDENTITY FULL", object: "public.t", fix: "ADD COLUMN dhow_key bigint"},
	{name: "unlogged-table", source: "CREATE UNLOGGED TABLE t (a int PRIMARY KEY)", object: "public.t", fix: "ALTER TABLE public.t SET LOGGED"},
	{name: "left-behind key", source: "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE b.t (a int PRIMARY KEY); CREATE TABLE a.t (a int PRIMARY KEY REFERENCES b.t)", object: "a.t", fixed: "ALTER TABLE a.t DROP CONSTRAINT t_a_fkey", change: func(c *Config) { c.Schemas = []string{"a"} }},
	{name: "left-behind part", source: "CREATE TABLE p (a int PRIMARY KEY) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)", object: "public.p", fixed: "ALTER TABLE p DETACH PARTITION p1", change: func(c *Config) { c.Exclude = []string{"public.p1"} }},
	{name: "left-behind parent", source: "CREATE TABLE p (a int PRIMARY KEY) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)", object: "public.p1", fixed: "ALTER TABLE p DETACH PARTITION p1", change: func(c *Config) { c.Exclude = []string{"public.p"} }},
	{name: "left-behind sequence", source: "CREATE SCHEMA b; CREATE SEQUENCE b.s; CREATE TABLE t (a int PRIMARY KEY DEFAULT nextval('b.s'))", object: "public.t", fixed: "ALTER TABLE t ALTER a DROP DEFAULT", change: func(c *Config) { c.Schemas = []string{"public"} }},
	{name: "left-behind view", source: "CREATE TABLE t (a int PRIMARY KEY); CREATE VIEW v AS SELECT * FROM t", object: "public.v", fixed: "DROP VIEW v", change: func(c *Config) { c.Exclude = []string{"public.t"} }},
	{name: "left-behind type", source: "CREATE SCHEMA b; CREATE TYPE b.e AS ENUM ('x'); CREATE TABLE t (a int PRIMARY KEY, e b.e)", object: "public.t", fixed: "ALTER TABLE t DROP COLUMN e", change: func(c *Config) { c.Schemas = []string{"public"} }},
	{name: "foreign-table", source: "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; CREATE FOREIGN TABLE f (a int) SERVER far", object: "public.f", fixed: "DROP FOREIGN TABLE f"},
	{name: "foreign-key-off", source: "CREATE TABLE p (a int PRIMARY KEY); CREATE TABLE c (a int PRIMARY KEY REFERENCES p); ALTER TABLE c DISABLE TRIGGER ALL", object: "public.c", fix: "ALTER TABLE public.c ENABLE TRIGGER ALL"},
	{name: "trigger-in-replica", source: "CREATE TABLE t (a int PRIMARY KEY); CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger(); ALTER TABLE t ENABLE ALWAYS TRIGGER x", object: "public.t", fix: "ALTER TABLE public.t ENABLE TRIGGER x"},
	{name: "trigger-in-replica only", source: "CREATE TABLE t (a int PRIMARY KEY); CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger(); ALTER TABLE t ENABLE REPLICA TRIGGER x", object: "public.t", fix: "ALTER TABLE public.t ENABLE TRIGGER x"},
	{name: "rule-in-replica", source: "CREATE TABLE t (a int PRIMARY KEY); CREATE RULE r AS ON DELETE TO t DO ALSO NOTHING; ALTER TABLE t ENABLE ALWAYS RULE r", object: "public.t", fix: "ALTER TABLE public.t ENABLE RULE r"},
	{name: "trigger-off", source: "CREATE TABLE t (a int PRIMARY KEY); CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger(); ALTER TABLE t DISABLE TRIGGER x", object: "public.t", fix: "ENABLE TRIGGER x"},
	{name: "exclusion-constraint", source: "CREATE TABLE t (a int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))", object: "public.t", fixed: "ALTER TABLE t DROP CONSTRAINT t_r_excl"},
	{name: "not-valid-constraint", source: "CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID", object: "public.t", fix: "ALTER TABLE public.t VALIDATE CONSTRAINT c"},
	{name: "invalid-index", source: "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE INDEX i ON t (b); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i'::regclass", object: "public.i", fix: "REINDEX INDEX public.i"},
	{name: "oid-column", source: "CREATE TABLE t (a int PRIMARY KEY, o oid)", object: "public.t.o", fix: "TYPE bigint"},
	{name: "name-column", source: "CREATE TABLE t (a int PRIMARY KEY, o regclass)", object: "public.t.o", fix: "TYPE text"},
	{name: "name-column array", source: "CREATE TABLE t (a int PRIMARY KEY, o regtype[])", object: "public.t.o", fixed: "ALTER TABLE t DROP COLUMN o"},
	{name: "transaction-column", source: "CREATE TABLE t (a int PRIMARY KEY, x xid8 DEFAULT pg_current_xact_id())", object: "public.t.x", fixed: "ALTER TABLE t DROP COLUMN x"},
	{name: "generated-column", source: "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1'; CREATE TABLE t (a int PRIMARY KEY, b int GENERATED ALWAYS AS (f(a)) STORED)", object: "public.t.b", fixed: "ALTER TABLE t DROP COLUMN b"},
	{name: "base-type", source: `CREATE TYPE odd; CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal IMMUTABLE STRICT AS 'int4in'; CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
		CREATE TYPE odd (INPUT = odd_in, OUTPUT = odd_out, LIKE = int4)`, object: "public.odd", fixed: "DROP TYPE odd CASCADE"},
	{name: "large-objects", source: "SELECT lo_from_bytea(0, 'x')", fixed: "SELECT lo_unlink(oid) FROM pg_largeobject_metadata"},
	{name: "sequence-near-end", source: "CREATE TABLE t (a serial PRIMARY KEY); SELECT setval('t_a_seq', 2100000000)", object: "public.t_a_seq", fix: "ALTER TABLE public.t ALTER COLUMN a TYPE bigint; ALTER SEQUENCE"},
	{name: "sequence-near-end column", source: "CREATE TABLE t (a int PRIMARY KEY); CREATE SEQUENCE s OWNED BY t.a; SELECT setval('s', 2100000000)", object: "public.s", fix: "ALTER TABLE public.t ALTER COLUMN a TYPE bigint"},
	{name: "sequence-near-end identity", source: "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY PRIMARY KEY); SELECT setval('t_a_seq', 2100000000)", object: "public.t_a_seq", fix: "ALTER TABLE public.t ALTER COLUMN a TYPE bigint"},
	{name: "sequence-near-end own", source: "CREATE SEQUENCE s AS smallint; SELECT setval('s', 32000)", object: "public.s", fix: "ALTER SEQUENCE public.s AS bigint"},
	{name: "materialized-view", source: "CREATE MATERIALIZED VIEW v AS SELECT 1 a", object: "public.v", fixed: "DROP MATERIALIZED VIEW v"},
	{name: "security-label", source: "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO pg_seclabel VALUES ('t'::regclass, 'pg_class'::regclass, 0, 'selinux', 'x')", object: "selinux", fixed: "DELETE FROM pg_seclabel"},
	{name: "function-search-path", source: "CREATE FUNCTION helper(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'; CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper($1); END'; CREATE TABLE t (a int PRIMARY KEY); CREATE INDEX i ON t (f(a))",
		object: "public.f(integer)", fix: "ALTER FUNCTION public.f(integer) SET search_path = public, pg_catalog, pg_temp"},
	{name: "function-search-path check", source: "CREATE TABLE codes (c int PRIMARY KEY); CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM codes WHERE c = $1)'; CREATE TABLE t (a int PRIMARY KEY CHECK (known(a)))",
		object: "public.known(integer)", fix: "SET search_path"},
	{name: "c-function", source: "CREATE FUNCTION f(cstring) RETURNS bool LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_validator'", object: "public.f(cstring)", fixed: "DROP FUNCTION f(cstring)"},
	{name: "publication", source: "CREATE PUBLICATION theirs FOR ALL TABLES", object: "theirs", fixed: "DROP PUBLICATION theirs"},
	{name: "subscription", source: "CREATE SUBSCRIPTION trap_in CONNECTION 'dbname=none' PUBLICATION x WITH (connect = false); ALTER SUBSCRIPTION trap_in ENABLE", object: "trap_in", fix: "ALTER SUBSCRIPTION trap_in DISABLE"},
	{name: "event-trigger", source: "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION e()", object: "watching", fix: "ALTER EVENT TRIGGER watching DISABLE"},
	{name: "scheduled-jobs", source: "CREATE SCHEMA cron; CREATE TABLE cron.job (id int PRIMARY KEY)", object: "cron.job", fixed: "DROP TABLE cron.job"},
	{name: "database-size", source: "CREATE TABLE t (a int PRIMARY KEY)"},
	{alone: true, name: "setting-differs", source: "ALTER DATABASE trap_setting_differs SET default_transaction_isolation = serializable; ALTER DATABASE trap_setting_differs SET search_path = app, public", object: "default_transaction_isolation", fix: "ALTER DATABASE \"trap_setting_differs\" SET default_transaction_isolation = 'serializable'"},
	{alone: true, name: "setting-differs path", source: "ALTER DATABASE trap_setting_differs_path SET search_path = app, public", object: "search_path", fix: "SET search_path = app, public"},
	{alone: true, name: "role-settings", source: "ALTER DATABASE trap_role_settings SET app.tenant = 'it''s'", object: "database trap_role_settings", fix: "SET app.tenant = 'it''s'"},
	{alone: true, name: "role-settings role", source: "CREATE ROLE trap_set; ALTER ROLE trap_set IN DATABASE trap_role_settings_role SET work_mem = '9MB'", target: "CREATE ROLE trap_set", object: "role trap_set", fix: `ALTER ROLE "trap_set" IN DATABASE "trap_role_settings_role" SET work_mem = '9MB'`},
	{alone: true, name: "role-missing", source: "CREATE ROLE trap_owner LOGIN; CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t OWNER TO trap_owner", object: "trap_owner", fix: `CREATE ROLE "trap_owner" LOGIN`},
	{name: "role-missing grant", source: "CREATE ROLE trap_reader; CREATE TABLE t (a int PRIMARY KEY); GRANT SELECT (a) ON t TO trap_reader", object: "mapped_reader", fix: `CREATE ROLE "mapped_reader"`, change: func(c *Config) { c.Roles = map[string]string{"trap_reader": "mapped_reader"} }},
	{alone: true, name: "extension-missing", source: "INSERT INTO pg_extension VALUES (99999, 'odd', 10, 'public'::regnamespace, true, '1.0', NULL, NULL)", object: "odd", fixed: "DELETE FROM pg_extension WHERE extname = 'odd'"},
	{name: "extension-not-made", source: "CREATE EXTENSION pg_trgm", object: "pg_trgm", fix: `CREATE EXTENSION "pg_trgm"`, change: func(c *Config) { c.Schemas = []string{"public"} }},
	{name: "extension-older", source: "CREATE EXTENSION pg_trgm", target: "CREATE EXTENSION pg_trgm VERSION '1.5'", object: "pg_trgm", fix: `ALTER EXTENSION "pg_trgm" UPDATE`},
	{name: "extension-data", source: "CREATE EXTENSION pg_trgm; CREATE TABLE conf (a int PRIMARY KEY); ALTER EXTENSION pg_trgm ADD TABLE conf; INSERT INTO conf VALUES (1), (7); UPDATE pg_extension SET extconfig = ARRAY['conf'::regclass::oid], extcondition = ARRAY['WHERE a > 5'] WHERE extname = 'pg_trgm'", object: "public.conf", fixed: "DELETE FROM conf"},
	{name: "target-not-empty", target: "CREATE TABLE t (a int)", object: "public", fix: "DROP SCHEMA \"public\" CASCADE"},
	{name: "target-not-empty schema", source: "CREATE SCHEMA app", target: "CREATE SCHEMA app", object: "app", fix: "DROP SCHEMA \"app\" CASCADE"},
	{name: "target-not-empty type", target: "CREATE TYPE e AS ENUM ('x')", object: "public", fix: "DROP SCHEMA \"public\" CASCADE"},
	{name: "target-not-empty function", target: "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", object: "public", fix: "DROP SCHEMA \"public\" CASCADE"},
	{alone: true, name: "other-move", target: stateDDL + "INSERT INTO dhow.stream VALUES ('dhow_else', 'copy', 's', 'x', 1)", object: "dhow_else"},
	{alone: true, name: "source-refuses", source: stateDDL + "INSERT INTO dhow.fence VALUES ('else/x', 'sealed')", fixed: "DROP SCHEMA dhow CASCADE"},
	{alone: true, name: "unknown-name", object: "nowhere", fixed: "CREATE SCHEMA nowhere", change: func(c *Config) { c.Schemas = []string{"public", "nowhere"} }},
	{name: "unknown-name table", object: "public.nothing", fixed: "CREATE TABLE nothing (a int PRIMARY KEY)", change: func(c *Config) { c.Exclude = []string{"public.nothing"} }},
	{name: "unknown-name role", object: "trap_nobody", fixed: "CREATE ROLE trap_nobody", change: func(c *Config) { c.Roles = map[string]string{"trap_nobody": "postgres"} }},
	{name: "collation-missing", source: `CREATE COLLATION odd (locale = 'C'); CREATE TABLE t (a text COLLATE odd PRIMARY KEY); UPDATE pg_collation SET collnamespace = 'pg_catalog'::regnamespace WHERE collname = 'odd'`, object: "odd", fixed: "ALTER TABLE t ALTER a TYPE text"},
	{name: "collation-version", source: `CREATE TABLE t (a text COLLATE "en-x-icu" PRIMARY KEY); UPDATE pg_collation SET collversion = '1.0' WHERE collname = 'en-x-icu'`, object: "pg_catalog.en-x-icu", fixed: `ALTER COLLATION pg_catalog."en-x-icu" REFRESH VERSION`},
	{name: "collation-changed", source: `CREATE TABLE t (a text COLLATE "en-x-icu" PRIMARY KEY); UPDATE pg_collation SET collversion = '1.0' WHERE collname = 'en-x-icu'`, object: `collation "en-x-icu"`, fix: `ALTER COLLATION "en-x-icu" REFRESH VERSION`},
	{name: "tablespace", source: "SET allow_in_place_tablespaces = on; CREATE TABLESPACE trap_space LOCATION ''; CREATE TABLE t (a int PRIMARY KEY) TABLESPACE trap_space", object: "public.t", fixed: "ALTER TABLE t SET TABLESPACE pg_default"},
}

// plantTrap runs what plants a trap, apart where a statement refuses to be one of several.
func plantTrap(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	for _, alone := range []string{"CREATE TABLESPACE", "ALTER SUBSCRIPTION"} {
		if strings.Contains(sql, alone) {
			for statement := range strings.SplitSeq(sql, "; ") {
				run(t, conn, statement)
			}
			return
		}
	}
	if sql != "" {
		run(t, conn, sql)
	}
}

// lookFor runs one rule.
func (p *two) lookFor(t *testing.T, r *rule, limits thresholds) []move.Issue {
	t.Helper()
	ctx := context.Background()
	x := &inspection{m: p.Mover, limits: limits}
	var err error
	if x.source, err = x.open(ctx, onSource, p.cfg.Source); err != nil {
		t.Fatal(err)
	}
	defer hangUp(ctx, x.source.conn)
	if x.target, err = x.open(ctx, onTarget, p.cfg.Target); err != nil {
		t.Fatal(err)
	}
	defer hangUp(ctx, x.target.conn)
	if err := x.measure(ctx); err != nil {
		t.Fatal(err)
	}
	issues, err := x.apply(ctx, *r)
	if err != nil {
		t.Fatal(err)
	}
	return issues
}

// wanted says what is to be found of a trap.
func (p *two) wanted(t *testing.T, i int, issues []move.Issue) *move.Issue {
	t.Helper()
	trap := traps[i]
	r, object := trap.rule(t), trap.in(trap.object, i)
	got := find(issues, r.id, object)
	if got == nil {
		t.Errorf("%s of %q was not found in %+v", r.id, object, issues)
		return nil
	}
	side := string(r.on)
	if r.on == onEither {
		side = "source"
	}
	if got.Severity != r.severity || got.Side != side || !strings.Contains(got.Fix, trap.in(trap.fix, i)) {
		t.Errorf("got %+v, want severity %s, side %s, fix %q", *got, r.severity, side, trap.in(trap.fix, i))
	}
	return got
}

// rule is the one that finds the trap.
func (tr trap) rule(t *testing.T) *rule {
	t.Helper()
	id, _, _ := strings.Cut(tr.name, " ")
	r := ruleByID(id)
	if r == nil {
		t.Fatalf("there is no rule %s", id)
	}
	return r
}

// shares says whether the trap can be planted beside others: then it has a schema of its own.
func (tr trap) shares() bool {
	return tr.change == nil && tr.target == "" && !tr.alone && !strings.Contains(tr.source, "EXTENSION pg_trgm") && !strings.Contains(tr.source, "dhow.")
}

// in names the trap's own schema where it has one.
func (tr trap) in(text string, i int) string {
	if !tr.shares() {
		return text
	}
	return strings.ReplaceAll(text, "public", fmt.Sprintf("trap%d", i))
}

// TestPreflightFindsEveryTrap plants all that can stand beside each other,
// looks, mends all, and looks again.
func TestPreflightFindsEveryTrap(t *testing.T) {
	p := pairUp(t, 15, 15).two(t, "traps", nil)
	eager := defaultThresholds
	eager.scan, eager.large = 0, 0
	for i, trap := range traps {
		if trap.shares() {
			run(t, p.source, fmt.Sprintf("CREATE SCHEMA trap%d; SET search_path = trap%d", i, i))
			plantTrap(t, p.source, trap.source)
		}
	}
	issues := p.lookWith(t, eager)
	for i, trap := range traps {
		if !trap.shares() {
			continue
		}
		run(t, p.source, fmt.Sprintf("SET search_path = trap%d", i))
		got := p.wanted(t, i, issues)
		switch {
		case trap.fixed != "":
			run(t, p.source, trap.fixed)
		case trap.fix != "" && got != nil:
			p.mend(t, *got)
		}
	}
	issues = p.lookWith(t, eager)
	for i, trap := range traps {
		if trap.shares() && trap.fix+trap.fixed != "" {
			if still := find(issues, trap.rule(t).id, trap.in(trap.object, i)); still != nil {
				t.Errorf("after its fix there is still %+v", *still)
			}
		}
	}
}

// TestPreflightFindsEveryTrapAlone plants those that concern a whole database,
// each in databases of its own.
func TestPreflightFindsEveryTrapAlone(t *testing.T) {
	servers := pairUp(t, 15, 15)
	for i, trap := range traps {
		if trap.shares() {
			continue
		}
		t.Run(trap.name, func(t *testing.T) {
			t.Parallel()
			r := trap.rule(t)
			p := servers.two(t, "trap_"+strings.NewReplacer("-", "_", " ", "_").Replace(trap.name), trap.change)
			plantTrap(t, p.source, trap.source)
			plantTrap(t, p.target, trap.target)
			got := p.wanted(t, i, p.lookFor(t, r, defaultThresholds))
			switch {
			case got == nil:
				return
			case trap.fixed != "":
				run(t, p.source, trap.fixed)
			case trap.fix != "":
				p.mend(t, *got)
			default:
				return
			}
			if still := find(p.lookFor(t, r, defaultThresholds), r.id, trap.object); still != nil {
				t.Errorf("after its fix there is still %+v", *still)
			}
		})
	}
}

// TestPreflightOfACleanPair finds nothing, on the oldest and the newest version, and changes nothing.
func TestPreflightOfACleanPair(t *testing.T) {
	for _, v := range [][2]int{{13, 15}, {15, 17}} {
		t.Run(fmt.Sprintf("%d_to_%d", v[0], v[1]), func(t *testing.T) {
			t.Parallel()
			c := couple{pgtest.Start(t, v[0]), pgtest.Start(t, v[1], "fsync", "on", "full_page_writes", "on")}
			p := c.two(t, "clean", nil)
			run(t, p.source, `CREATE TABLE t (a bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, b text UNIQUE, c numeric DEFAULT 1 CHECK (c > 0), d text GENERATED ALWAYS AS (lower(b)) STORED);
				CREATE TABLE u (a int PRIMARY KEY, t bigint REFERENCES t, s serial, CHECK (a > 0)); CREATE INDEX ON u (abs(s)); CREATE VIEW v AS SELECT * FROM u; CREATE EXTENSION pg_trgm;
				CREATE TABLE parts (a int PRIMARY KEY) PARTITION BY RANGE (a); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
				CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'; CREATE INDEX ON u (public.f(a)); INSERT INTO t (b) SELECT 'b' || i FROM generate_series(1, 100) i`)
			before := [2]string{traces(t, p.source), traces(t, p.target)}
			for _, i := range p.look(t, false) {
				if i.Rule != "dump-tool" || v[0] < 15 { // this machine's pg_dump is of version 15
					t.Errorf("found %+v", i)
				}
			}
			if after := [2]string{traces(t, p.source), traces(t, p.target)}; before != after {
				t.Errorf("the preflight changed something: %s, then %s", before, after)
			}
		})
	}
}

// traces is what a preflight could leave in a database or its server.
func traces(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	var text string
	if err := conn.QueryRow(context.Background(), `SELECT concat_ws(' ', (SELECT sum(hashtextextended(concat_ws(' ', oid, relname, relfilenode, relacl), 0)) FROM pg_class c WHERE c.oid >= 16384), (SELECT sum(hashtextextended(r::text, 0)) FROM pg_authid r),
		(SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT string_agg(nspname, ' ') FROM pg_namespace WHERE nspname NOT LIKE 'pg_%temp%'))`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestPreflightOfServers plants what stands in the servers' settings, runs every
// fix, starts the servers again and finds nothing of it any more.
func TestPreflightOfServers(t *testing.T) {
	ctx := context.Background()
	c := couple{
		pgtest.Start(t, 15, "wal_level", "replica", "max_replication_slots", "1", "max_wal_senders", "1", "max_slot_wal_keep_size", "100MB", "wal_sender_timeout", "0", "old_snapshot_threshold", "1h",
			"idle_session_timeout", "10min", "max_connections", "12", "max_locks_per_transaction", "10", "max_prepared_transactions", "3"),
		pgtest.Start(t, 17, "wal_level", "replica", "max_replication_slots", "0", "max_wal_senders", "0", "synchronous_standby_names", "elsewhere", "max_connections", "10",
			"transaction_timeout", "10min", "TimeZone", "Asia/Dubai", "max_locks_per_transaction", "10", "full_page_writes", "off"),
	}
	p := c.two(t, "crooked", nil)
	run(t, p.source, "DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE format('CREATE TABLE t%s (a int PRIMARY KEY)', i); COMMIT; END LOOP; END $$")
	want := map[string][]string{
		"wal-level": {"source", "target"}, "replication-slots": {"source", "target"}, "wal-senders": {"source", "target"}, "wal-kept": {"source"}, "wal-sender-timeout": {"source"}, "old-snapshot": {"source"},
		"session-timeout": {"source", "target"}, "connections": {"source", "target"}, "locks": {"source", "target"}, "synchronous-standby": {"target"}, "unsafe-disk": {"target"}, "setting-lower": {"target"}, "setting-differs": {"target"},
	}
	issues := p.look(t, false)
	for id, sides := range want {
		for _, side := range sides {
			var got *move.Issue
			for _, i := range issues {
				if i.Rule == id && i.Side == side {
					got = &i
				}
			}
			if got == nil {
				t.Errorf("%s was not found on the %s", id, side)
			} else if got.Severity != ruleByID(id).severity {
				t.Errorf("%s has severity %s", id, got.Severity)
			}
		}
	}
	for _, i := range issues {
		if want[i.Rule] == nil {
			t.Errorf("found %+v", i)
		}
	}
	for range 2 { // what the source needs more of, the target must have then too
		for _, i := range issues {
			p.mend(t, i)
		}
		for _, s := range []*pgserver.Server{c.source, c.target} {
			if err := s.Restart(ctx); err != nil {
				t.Fatal(err)
			}
		}
		p.reconnect(t)
		issues = p.look(t, false)
	}
	for _, i := range issues {
		t.Errorf("after the fixes there is still %+v", i)
	}
}

// reconnect opens the sessions anew after their servers were started again.
func (p *two) reconnect(t *testing.T) {
	t.Helper()
	for conn, cfg := range map[**pgx.Conn]*pgx.ConnConfig{&p.source: p.cfg.Source, &p.target: p.cfg.Target} {
		fresh, err := pgx.ConnectConfig(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		*conn = fresh
		t.Cleanup(func() { _ = fresh.Close(context.Background()) })
	}
}

// TestPreflightSeesWhatGoesOn finds sessions, slots and prepared transactions.
func TestPreflightSeesWhatGoesOn(t *testing.T) {
	ctx := context.Background()
	c := couple{pgtest.Start(t, 15, "max_prepared_transactions", "5"), pgtest.Start(t, 15, "max_prepared_transactions", "5")}
	p := c.two(t, "busy", nil)
	run(t, p.source, "CREATE TABLE t (a int PRIMARY KEY)")
	check := func(id, object, fix string, undo func()) {
		t.Helper()
		got := find(p.look(t, true), id, object)
		if got == nil {
			t.Fatalf("%s of %q was not found in %+v", id, object, p.look(t, true))
		}
		if fix != "" {
			if !strings.Contains(got.Fix, fix) {
				t.Errorf("got %+v, want fix %q", *got, fix)
			}
			p.mend(t, *got)
		} else {
			undo()
		}
		within(t, id+" is gone", func() bool { return find(p.look(t, true), id, object) == nil })
	}

	other, err := pgx.Connect(ctx, c.source.URL("busy"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(ctx)
	run(t, other, "SET application_name = 'forgotten'; BEGIN; INSERT INTO t VALUES (1)")
	check("long-transaction", fmt.Sprintf("pid %d (postgres, forgotten)", other.PgConn().PID()), "SELECT pg_terminate_backend(", nil)

	run(t, p.source, "BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'left over'")
	check("prepared-transaction", "left over", "COMMIT PREPARED 'left over'", nil)
	var n int
	if err := p.source.QueryRow(ctx, "SELECT count(*) FROM t WHERE a = 2").Scan(&n); err != nil || n != 1 {
		t.Errorf("the fix of a prepared transaction lost its row: %d, %v", n, err)
	}

	run(t, p.source, "SELECT pg_create_logical_replication_slot('unread', 'pgoutput')")
	check("idle-slot", "unread", "SELECT pg_drop_replication_slot('unread')", nil)
	run(t, p.source, "SELECT pg_create_physical_replication_slot('standby')")
	check("failover", "slot standby", "", func() { run(t, p.source, "SELECT pg_drop_replication_slot('standby')") })

	cfg := p.cfg.Source.Copy()
	cfg.RuntimeParams["replication"] = "database"
	reader, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.PgConn().Exec(ctx, "CREATE_REPLICATION_SLOT read TEMPORARY LOGICAL pgoutput").Close(); err != nil {
		t.Fatal(err)
	}
	check("other-stream", "read", "", func() { _ = reader.Close(ctx) })
}

// TestPreflightKnowsItsEnds gives it one database twice, two of one server, a
// copy of the server, a standby and a server that is away.
func TestPreflightKnowsItsEnds(t *testing.T) {
	ctx := context.Background()
	c := pairUp(t, 15, 15)
	only := func(t *testing.T, m *Mover, id string) {
		t.Helper()
		issues, err := m.Preflight(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []string{"same-database", "same-server", "cloned-server"} {
			if got := find(issues, other, ""); (got != nil) != (other == id) {
				t.Errorf("%s: found %v in %+v", other, got != nil, issues)
			}
		}
	}
	p := c.two(t, "kin", nil)
	only(t, p.Mover, "")
	run(t, p.source, "CREATE TABLE t (a int PRIMARY KEY)")
	twice := p.cfg
	twice.Target = p.cfg.Source.Copy()
	twice.Target.Host = "localhost" // another name of the same
	m, err := New(twice)
	if err != nil {
		t.Fatal(err)
	}
	only(t, m, "same-database")
	issues, _ := m.Preflight(ctx)
	if got := find(issues, "target-not-empty", ""); got != nil {
		t.Errorf("asks to empty the source: %+v", *got)
	}
	near := p.cfg
	if near.Target, err = pgx.ParseConfig(pgtest.Database(t, c.source, "kin_too")); err != nil {
		t.Fatal(err)
	}
	if m, err = New(near); err != nil {
		t.Fatal(err)
	}
	only(t, m, "same-server")

	away := p.cfg
	away.Source = p.cfg.Source.Copy()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away.Source.Port = uint16(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	if m, err = New(away); err != nil {
		t.Fatal(err)
	}
	run(t, p.target, "CREATE SCHEMA full_already CREATE TABLE t (a int)")
	issues, err = m.Preflight(ctx)
	var refused *connectError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "nothing answers on that port") || strings.Contains(err.Error(), c.source.Password()) {
		t.Errorf("with the source away: %v", err)
	}
	if find(issues, "unsafe-disk", "") == nil { // the other side is looked at all the same
		t.Errorf("with the source away the target was not looked at: %+v", issues)
	}
}

// TestPreflightOfOddServers gives it a standby, a physical copy, an older target
// and databases that encode and sort otherwise.
func TestPreflightOfOddServers(t *testing.T) {
	ctx := context.Background()
	c := pairUp(t, 15, 13)
	p := c.two(t, "odd", nil)
	find1 := func(id, object, fix string) {
		t.Helper()
		got := find(p.lookFor(t, ruleByID(id), defaultThresholds), id, object)
		if got == nil || got.Severity != ruleByID(id).severity || !strings.Contains(got.Fix, fix) {
			t.Fatalf("%s of %s: %+v", id, object, got)
		}
		if !strings.HasPrefix(fix, "DROP DATABASE") {
			return
		}
		// The fix makes the target's database anew, from another one.
		_ = p.target.Close(ctx)
		admin, err := pgx.Connect(ctx, c.target.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		defer admin.Close(ctx)
		within(t, "the last session has ended", func() bool {
			var n int
			err := admin.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'odd'").Scan(&n)
			return err == nil && n == 0
		})
		sql, _, _ := strings.Cut(got.Fix, "-- ")
		for statement := range strings.SplitSeq(sql, "; ") {
			if statement != "" {
				run(t, admin, statement)
			}
		}
		if still := find(p.lookFor(t, ruleByID(id), defaultThresholds), id, object); still != nil {
			t.Errorf("after its fix there is still %+v", *still)
		}
	}
	find1("older-target", "PostgreSQL 13", "version 15")
	narrow := unsupported(14, 15)
	if got := p.lookFor(t, &narrow, defaultThresholds); len(got) != 1 || got[0].Side != "target" || got[0].Object != "PostgreSQL 13" || got[0].Severity != move.Loses {
		t.Errorf("unsupported-version: %+v", got)
	}
	for server, locale := range map[*pgserver.Server]string{c.target: "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'", c.source: "ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"} {
		_ = p.source.Close(ctx)
		_ = p.target.Close(ctx)
		for _, sql := range []string{"DROP DATABASE odd WITH (FORCE)", "CREATE DATABASE odd TEMPLATE template0 " + locale} {
			if err := server.Exec(ctx, "postgres", sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	find1("collation", "lc_ctype", "LC_CTYPE 'C.UTF-8'")
	find1("encoding", "odd", `DROP DATABASE "odd"; CREATE DATABASE "odd" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8'`)
	if got := find(p.lookFor(t, ruleByID("collation"), defaultThresholds), "collation", ""); got != nil {
		t.Errorf("after the fix there is still %+v", *got)
	}

	// A server that holds a copy of the other's files; and the same as a standby.
	if err := c.source.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	copied, err := pgserver.Start(ctx, pgserver.Options{Version: 15, Dir: copyOf(t, c.source)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = copied.Stop(context.WithoutCancel(ctx)) })
	clone := p.cfg
	if clone.Target, err = pgx.ParseConfig(copied.URL("odd")); err != nil {
		t.Fatal(err)
	}
	if p.Mover, err = New(clone); err != nil {
		t.Fatal(err)
	}
	find1("cloned-server", "odd", "initdb")
	if err := os.WriteFile(filepath.Join(copied.Dir, "data", "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := copied.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	find1("standby", "the server", "databases[].target.host")
}

// copyOf copies a server's folder while the server stands still.
func copyOf(t *testing.T, s *pgserver.Server) string {
	t.Helper()
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "dhow-copy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := s.Exec(ctx, "postgres", "CHECKPOINT; SELECT pg_backup_start('copy', true)"); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if out, err := exec.CommandContext(ctx, "cp", "-a", s.Dir+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_ = os.Remove(filepath.Join(dir, "data", "postmaster.pid"))
	if err := s.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPreflightOfAHumbleUser finds every right that a plain role lacks; when all
// that it asks for was granted, the whole move works as that role.
func TestPreflightOfAHumbleUser(t *testing.T) {
	ctx := context.Background()
	c := pairUp(t, 15, 15)
	p := c.two(t, "humble", nil)
	for _, conn := range []*pgx.Conn{p.source, p.target} {
		run(t, conn, "CREATE ROLE mover LOGIN PASSWORD 'secret' CONNECTION LIMIT 5; CREATE ROLE app; CREATE ROLE vault; CREATE ROLE boss SUPERUSER; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
	}
	run(t, p.source, `CREATE SCHEMA hidden; CREATE TABLE hidden.h (a int PRIMARY KEY); ALTER SCHEMA hidden OWNER TO vault; ALTER TABLE hidden.h OWNER TO vault;
		CREATE TABLE t (a serial PRIMARY KEY, b text); ALTER TABLE t OWNER TO app; INSERT INTO t (b) SELECT 'b' || i FROM generate_series(1, 100) i;
		CREATE TABLE r (a int PRIMARY KEY); ALTER TABLE r OWNER TO app; ALTER TABLE r ENABLE ROW LEVEL SECURITY; ALTER TABLE r FORCE ROW LEVEL SECURITY; INSERT INTO r VALUES (1), (2);
		CREATE TABLE blind (a int PRIMARY KEY); ALTER TABLE blind OWNER TO app; REVOKE SELECT ON blind FROM app; CREATE SEQUENCE lone; ALTER SEQUENCE lone OWNER TO app; REVOKE ALL ON SEQUENCE lone FROM app;
		CREATE EXTENSION pageinspect; CREATE FUNCTION low(int4) RETURNS int4 LANGUAGE internal IMMUTABLE STRICT AS 'int4abs'; ALTER FUNCTION low OWNER TO app;
		CREATE FUNCTION strong() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; ALTER FUNCTION strong OWNER TO boss; SELECT lo_from_bytea(0, 'large')`)
	run(t, p.target, "ALTER ROLE boss NOSUPERUSER; ALTER SCHEMA public OWNER TO postgres")
	cfg := p.cfg
	cfg.Stragglers = TerminateSessions
	for _, e := range []**pgx.ConnConfig{&cfg.Source, &cfg.Target} {
		*e = (*e).Copy()
		(*e).User, (*e).Password = "mover", "secret"
	}
	var err error
	if p.Mover, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	issues := p.look(t, false)
	run(t, p.source, "DROP FUNCTION low; ALTER FUNCTION strong OWNER TO app; ALTER LARGE OBJECT "+firstObject(t, p.source)+" OWNER TO mover")
	sentences := []string{"untrusted-language", "security-definer", "large-objects", "unsafe-disk"}
	for range 3 { // what a right hides is found when it is granted
		found := p.look(t, false)
		for _, i := range found {
			if !slices.Contains(sentences, i.Rule) {
				p.mend(t, i)
			}
		}
		issues = append(issues, found...)
	}
	for _, w := range []struct{ rule, object, side, fix string }{
		{"replication-right", "role mover", "source", `ALTER ROLE "mover" REPLICATION`},
		{"replication-right", "role mover", "target", `ALTER ROLE "mover" REPLICATION`},
		{"create-right", "humble", "source", `GRANT CREATE ON DATABASE "humble" TO "mover"`},
		{"create-right", "humble", "target", `GRANT CREATE ON DATABASE "humble" TO "mover"`},
		{"replica-right", "role mover", "source", "GRANT SET ON PARAMETER session_replication_role"},
		{"replica-right", "role mover", "target", "GRANT SET ON PARAMETER session_replication_role"},
		{"identity-hidden", "pg_control_system()", "source", "GRANT EXECUTE"},
		{"not-owner", "role app", "source", `GRANT app TO "mover"`},
		{"schema-right", "hidden", "source", `GRANT USAGE ON SCHEMA hidden TO "mover"`},
		{"table-right", "public.lone", "source", `GRANT SELECT, UPDATE ON SEQUENCE public.lone TO "mover"`},
		{"table-right", "public.blind", "source", `GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON public.blind TO "mover"`},
		{"row-security", "public.r", "source", `ALTER ROLE "mover" BYPASSRLS`},
		{"row-security-target", "public.r", "target", `ALTER ROLE "mover" BYPASSRLS`},
		{"large-object-right", "pg_largeobject", "source", `GRANT SELECT ON pg_catalog.pg_largeobject TO "mover"`},
		{"large-object-right", "large objects of postgres", "source", `GRANT postgres TO "mover"`},
		{"hidden-sessions", "role mover", "source", "GRANT pg_read_all_stats"},
		{"session-end-right", "role mover", "source", "GRANT pg_signal_backend"},
		{"connection-limit", "role mover", "target", "CONNECTION LIMIT -1"},
		{"owner-right", "role app", "target", `GRANT "app" TO "mover"`},
		{"schema-create-right", "public", "target", `GRANT CREATE ON SCHEMA public TO "app"`},
		{"extension-not-made", "pageinspect", "target", `CREATE EXTENSION "pageinspect"`},
		{"untrusted-language", "public.low(integer)", "target", "drop it"},
		{"security-definer", "public.strong()", "target", "ALTER FUNCTION public.strong() OWNER TO"},
	} {
		got := false
		for _, i := range issues {
			if i.Rule == w.rule && i.Object == w.object && i.Side == w.side && strings.Contains(i.Fix, w.fix) && i.Severity == ruleByID(w.rule).severity {
				got = true
			}
		}
		if !got {
			t.Errorf("no %+v", w)
		}
	}
	for _, i := range p.look(t, false) {
		if i.Rule != "large-objects" && i.Rule != "unsafe-disk" {
			t.Errorf("after the fixes there is still %+v", i)
		}
	}
	var super bool
	if err := p.source.QueryRow(ctx, "SELECT rolsuper FROM pg_roles WHERE rolname = 'mover'").Scan(&super); err != nil || super {
		t.Fatalf("the user became a superuser: %v", err)
	}
	v := &voyage{Mover: p.Mover, source: p.source, target: p.target}
	stop, ended := v.sailing(t)
	run(t, p.source, "INSERT INTO t (b) VALUES ('late'); INSERT INTO r VALUES (3); DELETE FROM t WHERE a = 1; INSERT INTO hidden.h VALUES (1); INSERT INTO blind VALUES (1)")
	settle(t, p.Mover, p.source)
	if err := p.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	sameContent(t, p.source, p.target)
	mk, err := p.Fence(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CatchUp(ctx, mk); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := p.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Open(ctx); err != nil {
		t.Fatal(err)
	}
	run(t, p.target, "INSERT INTO t (b) VALUES ('on the target')")
	if err := p.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	p.Close(ctx)
}

// TestPreflightDuringAMove names what changed since, with statements that mend it.
func TestPreflightDuringAMove(t *testing.T) {
	ctx := context.Background()
	v := pairUp(t, 15, 15).voyage(t, "midway", "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT i, 'b' FROM generate_series(1, 100) i", Limits{})
	p := &two{Mover: v.Mover, source: v.source, target: v.target}
	stop, ended := v.sailing(t)
	run(t, v.source, "CREATE INDEX t_b ON t (b); CREATE VIEW seen AS SELECT b FROM t; COMMENT ON TABLE t IS 'x'")
	within(t, "the reports name what is missing", func() bool {
		return strings.Contains(v.progress().Note, "index public.t_b was created") && strings.Contains(v.progress().Note, "dhow preflight")
	})
	issues := p.look(t, false)
	for _, object := range []string{"index public.t_b", "view public.seen"} {
		got := find(issues, "schema-behind", object)
		if got == nil || got.Severity != move.Warns || got.Side != "target" {
			t.Fatalf("%s: %+v in %+v", object, got, issues)
		}
		p.mend(t, *got)
	}
	within(t, "the note is gone", func() bool { return v.progress().Note == "" })
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	run(t, v.source, "ALTER TABLE t ADD COLUMN c int DEFAULT 7; UPDATE t SET c = a")
	issues = p.look(t, false)
	got := find(issues, "schema-changed", "column public.t.c")
	if got == nil || got.Severity != move.Loses || !strings.Contains(got.Fix, `ALTER TABLE "public"."t" ADD COLUMN "c" integer DEFAULT 7`) {
		t.Fatalf("%+v in %+v", got, issues)
	}
	for _, i := range issues {
		if i.Rule == "target-not-empty" || i.Rule == "source-refuses" || i.Rule == "other-move" {
			t.Errorf("our own unfinished move is refused: %+v", i)
		}
	}
	p.mend(t, *got)
	if issues = p.look(t, false); find(issues, "schema-changed", "") != nil || find(issues, "schema-behind", "") != nil {
		t.Errorf("after the fixes there is still %+v", issues)
	}
	stop, ended = v.sailing(t)
	settle(t, v.Mover, v.source)
	sameContent(t, v.source, v.target)
	if err := v.Prepare(ctx); err != nil {
		t.Error(err)
	}
	stop()
	<-ended
}

func firstObject(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	var oid uint32
	if err := conn.QueryRow(context.Background(), "SELECT oid FROM pg_largeobject_metadata").Scan(&oid); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(oid)
}

// TestClocks computes by how much two clocks differ.
func TestClocks(t *testing.T) {
	now := time.Now()
	at := func(ahead, trip time.Duration) *end {
		return &end{began: now, clock: now.Add(trip/2 + ahead), trip: trip}
	}
	for _, c := range []struct {
		a, b *end
		want time.Duration
	}{
		{at(0, time.Second), at(0, time.Millisecond), 0},
		{at(0, 0), at(5*time.Second, 0), 5 * time.Second},
		{at(-3*time.Second, 2*time.Second), at(0, 0), 2 * time.Second},
	} {
		x := &inspection{source: c.a, target: c.b}
		if got := skew(c.a, c.b); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		found, err := differentClocks(context.Background(), x, c.b)
		if err != nil || (len(found) > 0) != (c.want > clockTolerance) {
			t.Errorf("found %v, %v", found, err)
		}
	}
}

func TestOlder(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"1.9", "1.10", true}, {"1.10", "1.9", false}, {"3.4.2", "3.4.2", false}, {"3.4", "3.4.1", true}, {"2.0dev", "2.1", true}, {"", "1.0", true}, {"010", "9", false}} {
		if got := older(c.a, c.b); got != c.want {
			t.Errorf("older(%q, %q) is %v", c.a, c.b, got)
		}
	}
}
