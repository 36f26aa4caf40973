package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
	"dhow/internal/move/movetest"
)

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

// wanted says what is to be found of a trap.
func (p *two) wanted(t *testing.T, i int, issues []move.Issue) *move.Issue {
	t.Helper()
	trap := traps[i]
	r, object := trap.rule(t), trap.in(trap.object, i)
	got := movetest.Find(issues, r.id, object)
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

// findsEveryTrap plants all that can stand beside each other,
// looks, mends all, and looks again.
func findsEveryTrap(t *testing.T, c couple) {
	p := c.two(t, "traps", nil)
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
			if still := movetest.Find(issues, trap.rule(t).id, trap.in(trap.object, i)); still != nil {
				t.Errorf("after its fix there is still %+v", *still)
			}
		}
	}
}

// findsEveryTrapAlone plants those that concern a whole database,
// each in databases of its own.
func findsEveryTrapAlone(t *testing.T, servers couple) {
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
			if still := movetest.Find(p.lookFor(t, r, defaultThresholds), r.id, trap.object); still != nil {
				t.Errorf("after its fix there is still %+v", *still)
			}
		})
	}
}
