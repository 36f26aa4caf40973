package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
	"dhow/internal/move/movetest"
	"dhow/internal/pgserver"
)

// TestPreflightOfOddServers gives it a standby, a physical copy, an older target
// and databases that encode and sort otherwise.
func TestPreflightOfOddServers(t *testing.T) {
	ctx := context.Background()
	c := pairUp(t, 15, 13)
	p := c.two(t, "odd", nil)
	find1 := func(id, object, fix string) {
		t.Helper()
		got := movetest.Find(p.lookFor(t, ruleByID(id), defaultThresholds), id, object)
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
		if still := movetest.Find(p.lookFor(t, ruleByID(id), defaultThresholds), id, object); still != nil {
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
	if got := movetest.Find(p.lookFor(t, ruleByID("collation"), defaultThresholds), "collation", ""); got != nil {
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
	dir, err := os.MkdirTemp("", "dhow-copy") //nolint:usetesting // the server's account may not enter a folder of the test's
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

// servesAHumbleUser finds every right that a plain role lacks; when all
// that it asks for was granted, the whole move works as that role.
func servesAHumbleUser(t *testing.T, c couple) {
	ctx := context.Background()
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

// looksDuringAMove names what changed since, with statements that mend it.
func looksDuringAMove(t *testing.T, c couple) {
	ctx := context.Background()
	v := c.voyage(t, "midway", "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT i, 'b' FROM generate_series(1, 100) i", Limits{})
	p := &two{Mover: v.Mover, source: v.source, target: v.target}
	stop, ended := v.sailing(t)
	run(t, v.source, "CREATE INDEX t_b ON t (b); CREATE VIEW seen AS SELECT b FROM t; COMMENT ON TABLE t IS 'x'")
	within(t, "the reports name what is missing", func() bool {
		return strings.Contains(v.progress().Note, "index public.t_b was created") && strings.Contains(v.progress().Note, "dhow preflight")
	})
	issues := p.look(t, false)
	for _, object := range []string{"index public.t_b", "view public.seen"} {
		got := movetest.Find(issues, "schema-behind", object)
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
	got := movetest.Find(issues, "schema-changed", "column public.t.c")
	if got == nil || got.Severity != move.Loses || !strings.Contains(got.Fix, `ALTER TABLE "public"."t" ADD COLUMN "c" integer DEFAULT 7`) {
		t.Fatalf("%+v in %+v", got, issues)
	}
	for _, i := range issues {
		if i.Rule == "target-not-empty" || i.Rule == "source-refuses" || i.Rule == "other-move" {
			t.Errorf("our own unfinished move is refused: %+v", i)
		}
	}
	p.mend(t, *got)
	if issues = p.look(t, false); movetest.Find(issues, "schema-changed", "") != nil || movetest.Find(issues, "schema-behind", "") != nil {
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
