package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
	"dhow/internal/move/movetest"
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
	return movetest.Issues(t, issues, err)
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

// TestPreflight looks at databases of one pair of servers, one test after the other.
func TestPreflight(t *testing.T) {
	c := couple{pgtest.Start(t, 15, "max_prepared_transactions", "5"), pgtest.Start(t, 15, "max_prepared_transactions", "5")}
	for _, test := range []struct {
		name string
		run  func(*testing.T, couple)
	}{
		{"traps", findsEveryTrap}, {"traps_alone", findsEveryTrapAlone}, {"what_goes_on", seesWhatGoesOn}, {"ends", knowsItsEnds}, {"humble_user", servesAHumbleUser}, {"during_a_move", looksDuringAMove},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c) })
	}
}

// TestPreflightOfACleanPair finds nothing, on the oldest and the newest version, and changes nothing.
func TestPreflightOfACleanPair(t *testing.T) {
	for _, v := range [][2]int{{13, 15}, {15, 17}, {17, 17}} {
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
				if i.Rule != "dump-tool" || v[0] <= 15 { // this machine's pg_dump is of version 15
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

// seesWhatGoesOn finds sessions, slots and prepared transactions.
func seesWhatGoesOn(t *testing.T, c couple) {
	ctx := context.Background()
	p := c.two(t, "busy", nil)
	run(t, p.source, "CREATE TABLE t (a int PRIMARY KEY)")
	check := func(id, object, fix string, undo func()) {
		t.Helper()
		got := movetest.Find(p.look(t, true), id, object)
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
		within(t, id+" is gone", func() bool { return movetest.Find(p.look(t, true), id, object) == nil })
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

// knowsItsEnds gives it one database twice, two of one server, and a server that is away.
func knowsItsEnds(t *testing.T, c couple) {
	ctx := context.Background()
	only := func(t *testing.T, m *Mover, id string) {
		t.Helper()
		issues, err := m.Preflight(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []string{"same-database", "same-server", "cloned-server"} {
			if got := movetest.Find(issues, other, ""); (got != nil) != (other == id) {
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
	if got := movetest.Find(issues, "target-not-empty", ""); got != nil {
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
	var refused *move.ConnectError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "nothing answers on that port") || strings.Contains(err.Error(), c.source.Password()) {
		t.Errorf("with the source away: %v", err)
	}
	if movetest.Find(issues, "unsafe-disk", "") == nil { // the other side is looked at all the same
		t.Errorf("with the source away the target was not looked at: %+v", issues)
	}
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
