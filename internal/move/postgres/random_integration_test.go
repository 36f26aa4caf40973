package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
)

const (
	// randomRounds are the rounds from 15 to 15, and a share of it from and to other versions.
	randomRounds = 400
	otherShare   = 16
	// voyageRounds are the rounds of one move: from an empty target to the open one, and on the way back.
	voyageRounds = 200
	// sessionsAtOnce write to the source at the same time.
	sessionsAtOnce = 3
	// settleWithin bounds the wait for the target after a round.
	settleWithin = time.Minute
)

// TestRandomTransactionsArriveExactly moves databases while several sessions run
// random transactions on them, and compares both sides after each round by
// reading every row of both. DHOW_SEED repeats a run's transactions (not how the
// sessions meet), DHOW_ROUNDS sets how many rounds there are.
func TestRandomTransactionsArriveExactly(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL servers: not with -short (testing.Short)")
	}
	seed, rounds := uint64(time.Now().UnixNano()), randomRounds
	for name, set := range map[string]func(string) error{
		"DHOW_SEED":   func(s string) (err error) { seed, err = strconv.ParseUint(s, 10, 64); return err },
		"DHOW_ROUNDS": func(s string) (err error) { rounds, err = strconv.Atoi(s); return err },
	} {
		if s := os.Getenv(name); s != "" {
			if err := set(s); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	for _, v := range [][2]int{{15, 15}, {13, 15}, {15, 17}} {
		t.Run(fmt.Sprintf("%d to %d", v[0], v[1]), func(t *testing.T) {
			n := rounds
			if v != [2]int{15, 15} {
				n = max(1, rounds/otherShare)
			}
			t.Logf("DHOW_SEED=%d, %d rounds", seed, n)
			defer func() {
				if t.Failed() {
					t.Logf("to repeat the transactions: DHOW_SEED=%d DHOW_ROUNDS=%d", seed, rounds)
				}
			}()
			x := newRandomMoves(t, v[0], v[1], seed)
			for x.round < n && !t.Failed() {
				x.voyage(min(n, x.round+voyageRounds))
			}
			x.summary(n)
		})
	}
}

// randomMoves are moves one after the other, between the same two servers.
type randomMoves struct {
	t       *testing.T
	seed    uint64
	servers [2]*pgserver.Server
	schema  string
	tables  []randomTable
	total   int // of the tables' weights

	round, voyages, restarts, interrupted, verified, repeated int
	committed, failed                                         atomic.Int64

	mu    sync.Mutex
	wrote map[string]int // statements that succeeded, by table
}

func newRandomMoves(t *testing.T, from, to int, seed uint64) *randomMoves {
	t.Helper()
	settings := []string{"max_prepared_transactions", "20", "deadlock_timeout", "20ms", "max_connections", "60"}
	x := &randomMoves{t: t, seed: seed, wrote: map[string]int{}}
	x.servers = [2]*pgserver.Server{pgtest.Start(t, from, settings...), pgtest.Start(t, to, settings...)}
	xml, icu := true, true
	for _, s := range x.servers {
		xml = xml && s.Exec(t.Context(), "postgres", "SELECT xml '<a/>'") == nil
		icu = icu && s.Exec(t.Context(), "postgres", foldedSchema) == nil
	}
	of := kindsFor(from, xml)
	x.everyTypeIsCovered(of, xml)
	tables, list := randomTables(of)
	x.schema, x.tables = randomSchema+tables, list
	if icu {
		x.schema, x.tables = x.schema+foldedSchema, append(x.tables, foldedTables()...)
	}
	for _, table := range x.tables {
		x.total += table.weight
	}
	return x
}

// everyTypeIsCovered fails for a type of the source's that no column has.
func (x *randomMoves) everyTypeIsCovered(of []kind, xml bool) {
	x.t.Helper()
	conn, err := pgx.Connect(x.t.Context(), x.servers[0].URL("postgres"))
	if err != nil {
		x.t.Fatal(err)
	}
	defer conn.Close(x.t.Context())
	var have []string
	for _, k := range of {
		if !strings.HasPrefix(k.sql, "public.") {
			have = append(have, k.sql)
		}
	}
	rows, err := conn.Query(x.t.Context(), `SELECT typname::text FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype NOT IN ('p', 'c') AND typisdefined AND typcategory <> 'A'
		AND NOT oid = ANY (SELECT t::regtype::oid FROM unnest($1::text[]) t) ORDER BY 1`, have)
	if err != nil {
		x.t.Fatal(err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		x.t.Fatal(err)
	}
	for _, name := range missing {
		if !slices.Contains(uncovered, name) && (name != "xml" || xml) {
			x.t.Errorf("no column of the test has the type %s", name)
		}
	}
}

func (x *randomMoves) summary(rounds int) {
	x.t.Logf("%d rounds in %d moves: %d transactions committed, %d failed or undone; the mover started again %d times, %d of them in the copy, %d ways back; %d comparisons of its own",
		x.round, x.voyages, x.committed.Load(), x.failed.Load(), x.restarts, x.interrupted, x.repeated, x.verified)
	if x.t.Failed() || rounds < randomRounds/2 {
		return
	}
	if c := x.committed.Load(); c < int64(rounds) {
		x.t.Errorf("only %d transactions in %d rounds: the test tests too little", c, rounds)
	}
	for _, table := range x.tables {
		if x.wrote[table.name] == 0 {
			x.t.Errorf("nothing was ever written to table %s", table.name)
		}
	}
}

// leg is one direction of a move: writes go to the source, and arrive at the target.
type leg struct {
	x              *randomMoves
	m              *Mover
	source, target *pgx.Conn
	names          []string // of all tables, as both sides' statements need them
	r              *rand.Rand

	sessions []*pgx.Conn // that write

	stop  func() // ends Replicate and waits for it; nil while it does not run
	ended chan error
}

// voyage moves one database: writes, copies and streams at the same time, fences,
// opens the target, and streams back; until a round.
func (x *randomMoves) voyage(until int) {
	x.t.Helper()
	ctx := x.t.Context()
	x.voyages++
	r := rand.New(rand.NewPCG(x.seed, uint64(x.voyages)<<32))
	name := fmt.Sprintf("app%d", x.voyages)
	var cfgs [2]*pgx.ConnConfig
	var conns [2]*pgx.Conn
	for i, s := range x.servers {
		var err error
		if cfgs[i], err = pgx.ParseConfig(pgtest.Database(x.t, s, name)); err != nil {
			x.t.Fatal(err)
		}
		if conns[i], err = pgx.ConnectConfig(ctx, cfgs[i]); err != nil {
			x.t.Fatal(err)
		}
	}
	if _, err := conns[0].Exec(ctx, x.schema); err != nil {
		x.t.Fatal(err)
	}
	m, err := New(Config{Estate: "random", Name: name, Source: cfgs[0], Target: cfgs[1], Log: x.log(),
		Limits: Limits{ChunkBytes: 64 << 10, Copies: 2 + r.IntN(3), Lanes: 1 + r.IntN(5), RowsPerSecond: 20000}})
	if err != nil {
		x.t.Fatal(err)
	}
	l := &leg{x: x, m: m, source: conns[0], target: conns[1], r: r}
	l.dial(cfgs[0])
	for range min(3, until-x.round) { // there are rows before the move begins
		l.writes()
	}
	l.names = tableNames(x.t, l.source)
	l.load()
	l.same(true)
	back := until - (until-x.round)/6
	for x.round < back && !x.t.Failed() {
		l.turn()
	}
	if x.t.Failed() {
		return
	}
	l.verify()
	l.cutover()
	reverse, err := m.Reverse()
	if err != nil {
		x.t.Fatal(err)
	}
	x.repeated++
	b := &leg{x: x, m: reverse, source: l.target, target: l.source, names: l.names, r: r}
	b.dial(cfgs[1])
	b.start()
	for x.round < until && !x.t.Failed() {
		b.turn()
	}
	if x.t.Failed() {
		return
	}
	b.verify()
	b.halt()
	for _, mover := range []*Mover{reverse, m} {
		mover.Close(ctx)
	}
	if err := m.Finish(ctx); err != nil {
		x.t.Fatal(err)
	}
	for i, conn := range conns {
		_ = conn.Close(ctx) // read from only
		if err := x.servers[i].Exec(ctx, "postgres", "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			x.t.Fatal(err)
		}
	}
}

// log shows what the mover says when a test fails, or with -v.
func (x *randomMoves) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{x.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// tableNames lists what holds rows.
func tableNames(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// start lets the mover run.
func (l *leg) start() {
	ctx, cancel := context.WithCancel(l.x.t.Context())
	l.ended = make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.ended <- l.m.Replicate(ctx, func(move.Progress) {})
	}()
	l.stop = func() { cancel(); <-ended }
}

// halt stops the mover; it must not have stopped by itself.
func (l *leg) halt() {
	l.x.t.Helper()
	l.stop()
	if err := <-l.ended; !errors.Is(err, context.Canceled) {
		l.x.t.Fatalf("round %d: the mover stopped: %v", l.x.round, err)
	}
}

// load lets the mover copy while sessions write, and interrupts it a few times.
func (l *leg) load() {
	l.x.t.Helper()
	l.start()
	for interrupt := l.r.IntN(3); ; {
		wait := time.After(time.Duration(50+l.r.IntN(900)) * time.Millisecond)
		for busy := true; busy; {
			l.writes()
			if l.streams() {
				return
			}
			select {
			case <-wait:
				busy = false
			default:
			}
		}
		if interrupt > 0 {
			interrupt--
			l.halt()
			l.x.restarts++
			l.x.interrupted++
			l.start()
		}
	}
}

// streams says whether the change stream runs; the mover must not have stopped.
func (l *leg) streams() bool {
	l.x.t.Helper()
	select {
	case err := <-l.ended:
		l.x.t.Fatalf("round %d: the mover stopped: %v", l.x.round, err)
	default:
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.m.running != nil
}

// turn is a round: several sessions write, meanwhile the mover is perhaps started
// again, or compares; then all must be equal.
func (l *leg) turn() {
	l.x.t.Helper()
	l.x.round++
	var beside func()
	switch n := l.r.IntN(100); {
	case n < 7:
		beside = func() { l.halt(); l.x.restarts++; l.start() }
	case n < 9:
		beside = l.verify
	}
	var g errgroup.Group
	g.Go(func() error { l.writes(); return nil })
	if beside != nil {
		beside()
	}
	_ = g.Wait() // writes tells the test by itself
	if l.r.IntN(30) == 0 {
		// What was written while the mover did not run is waiting for it.
		l.halt()
		l.writes()
		l.x.restarts++
		l.start()
	}
	l.same(l.x.round%25 == 0)
}

// writes runs random transactions in several sessions at once.
func (l *leg) writes() {
	x := l.x
	var g errgroup.Group
	for _, conn := range l.sessions {
		r := rand.New(rand.NewPCG(x.seed, l.r.Uint64()))
		g.Go(func() error { return x.session(conn, r) })
	}
	if err := g.Wait(); err != nil {
		x.t.Errorf("round %d: a transaction can not be right: %v", x.round, err)
	}
}

// dial opens the sessions that write; they end with the test.
func (l *leg) dial(cfg *pgx.ConnConfig) {
	l.x.t.Helper()
	ctx := l.x.t.Context()
	for range sessionsAtOnce {
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			l.x.t.Fatal(err)
		}
		l.x.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
		if _, err := conn.Exec(ctx, "SET lock_timeout = '300ms'; SET client_min_messages = error"); err != nil {
			l.x.t.Fatal(err)
		}
		l.sessions = append(l.sessions, conn)
	}
}

// session runs some transactions.
func (x *randomMoves) session(conn *pgx.Conn, r *rand.Rand) error {
	ctx := x.t.Context()
	for range 1 + r.IntN(3) {
		list := transaction(r, x.tables, x.total)
		if r.IntN(100) == 0 {
			list = slices.Insert(list, 1, large[r.IntN(len(large))](r))
		}
		if err := x.run(ctx, conn, list, r.IntN(3) > 0); err != nil {
			return err
		}
	}
	return nil
}

// run runs a transaction. A careful one goes on after a statement that failed.
func (x *randomMoves) run(ctx context.Context, conn *pgx.Conn, list []string, careful bool) error {
	for i, sql := range list {
		guarded := careful && i > 0 && i < len(list)-1 && !strings.HasPrefix(sql, "SAVEPOINT") && !strings.HasPrefix(sql, "RELEASE") && !strings.HasPrefix(sql, "ROLLBACK") && !strings.HasPrefix(sql, "PREPARE")
		text := sql
		if guarded {
			text = "SAVEPOINT careful; " + sql + "; RELEASE careful"
		}
		err := conn.PgConn().Exec(ctx, text).Close()
		if err == nil {
			x.count(sql)
			continue
		}
		if !expected(err) {
			return fmt.Errorf("%.300s: %w", sql, err)
		}
		next := "ROLLBACK"
		if guarded && conn.PgConn().TxStatus() == 'E' {
			next = "ROLLBACK TO careful; RELEASE careful"
		}
		if err := conn.PgConn().Exec(ctx, next).Close(); err != nil {
			return fmt.Errorf("%s: %w", next, err)
		}
		if !guarded {
			x.failed.Add(1)
			return nil
		}
	}
	if strings.HasPrefix(list[len(list)-1], "COMMIT") {
		x.committed.Add(1)
	} else {
		x.failed.Add(1)
	}
	return nil
}

// count notes which table a statement wrote to.
func (x *randomMoves) count(sql string) {
	for _, verb := range []string{"INSERT INTO ", "UPDATE ", "DELETE FROM "} {
		if rest, ok := strings.CutPrefix(sql, verb); ok {
			name, _, _ := strings.Cut(rest, " ")
			if strings.HasPrefix(rest, `"`) {
				name = `"Odd ""name"""`
			}
			x.mu.Lock()
			x.wrote[name]++
			x.mu.Unlock()
		}
	}
}

// expected says whether a statement may fail like this: it met a constraint,
// another session, or a trigger that waits for the end.
func expected(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	class := pg.Code[:2]
	return class == "23" || class == "40" || pg.Code == lockNotAvailable || pg.Code == objectInUse || pg.Code == featureNotSupported && strings.Contains(pg.Message, "truncate")
}

// arrived waits until the target has what the source holds.
func (l *leg) arrived() {
	l.x.t.Helper()
	ctx, cancel := context.WithTimeout(l.x.t.Context(), settleWithin)
	defer cancel()
	var mk move.Marker
	for marked := false; ; {
		if l.streams() {
			if !marked {
				var err error
				if mk, err = l.m.mark(ctx, l.source); err != nil {
					l.x.t.Fatal(err)
				}
				marked = true
			}
			// It may stop between the look and the wait; the wait is short, so that this is seen.
			wait, stop := context.WithTimeout(ctx, time.Second)
			err := l.m.CatchUp(wait, mk)
			stop()
			if err == nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			l.x.t.Fatalf("round %d: the target did not catch up within %s", l.x.round, settleWithin)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// same compares all rows of both sides: by their text's digest, or whole.
func (l *leg) same(wholeText bool) {
	l.x.t.Helper()
	l.arrived()
	var sums [2]map[string]string
	var g errgroup.Group
	for i, conn := range []*pgx.Conn{l.source, l.target} {
		g.Go(func() (err error) {
			sums[i], err = digestsOf(l.x.t.Context(), conn, l.names)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		l.x.t.Fatal(err)
	}
	for _, name := range l.names {
		if sums[0][name] == sums[1][name] && !wholeText {
			continue
		}
		want, got := rowsOf(l.x.t, l.source, name), rowsOf(l.x.t, l.target, name)
		if !slices.Equal(want, got) {
			l.x.t.Errorf("round %d: table %s has %d rows at the source and %d on the target; only at the source:\n%s\nonly on the target:\n%s",
				l.x.round, name, len(want), len(got), without(want, got), without(got, want))
		}
	}
	if l.x.t.Failed() {
		l.x.t.FailNow()
	}
}

// digestsOf reads, for each table, how many rows it has and the digest of them all.
func digestsOf(ctx context.Context, conn *pgx.Conn, names []string) (map[string]string, error) {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = fmt.Sprintf(`SELECT %s, count(*) || ' ' || md5(coalesce(string_agg(r, E'\n' ORDER BY r COLLATE "C"), '')) FROM (SELECT t::text AS r FROM ONLY %s t) x`, quote(n), n)
	}
	if _, err := conn.Exec(ctx, "SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET DateStyle = 'ISO'; SET jit = off"); err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, strings.Join(parts, " UNION ALL "))
	if err != nil {
		return nil, fmt.Errorf("read the rows' digests: %w", err)
	}
	sums := map[string]string{}
	var name, sum string
	_, err = pgx.ForEachRow(rows, []any{&name, &sum}, func() error { sums[name] = sum; return nil })
	return sums, err
}

// rowsOf reads a table's rows as text, in the order of that text.
func rowsOf(t *testing.T, conn *pgx.Conn, name string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT t::text FROM ONLY `+name+` t ORDER BY t::text COLLATE "C"`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// without is what of a sorted list is not in another, cut short.
func without(list, other []string) string {
	var only strings.Builder
	for i, k := 0, 0; i < len(list); i++ {
		for k < len(other) && other[k] < list[i] {
			k++
		}
		if k < len(other) && other[k] == list[i] {
			k++
			continue
		}
		if only.Len() < 4000 {
			fmt.Fprintf(&only, "  %.700s\n", list[i])
		}
	}
	return only.String()
}

// verify lets the mover compare, also while both sides move: it must find nothing.
func (l *leg) verify() {
	l.x.t.Helper()
	l.x.verified++
	c, err := l.m.Verify(l.x.t.Context(), move.VerifyOptions{}, nil)
	if err != nil {
		l.x.t.Fatalf("round %d: %v", l.x.round, err)
	}
	if c.Different != 0 {
		l.x.t.Errorf("round %d: the mover's comparison names %d rows that are equal: %+v", l.x.round, c.Different, c.Differences[:min(len(c.Differences), 5)])
	}
}

// cutover makes the target the one that takes writes, and compares what it hands over.
func (l *leg) cutover() {
	t, ctx := l.x.t, l.x.t.Context()
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("round %d: %v", l.x.round, err)
		}
	}
	for !l.streams() {
		time.Sleep(time.Millisecond)
	}
	must(l.m.Prepare(ctx))
	mk, err := l.m.Fence(ctx)
	must(err)
	must(l.m.CatchUp(ctx, mk))
	l.halt()
	must(l.m.Pin(ctx))
	must(l.m.Seal(ctx))
	must(l.m.Open(ctx))
	c, err := l.m.Verify(ctx, move.VerifyOptions{Pinned: true}, nil)
	must(err)
	if c.Different != 0 {
		t.Errorf("round %d: the pinned comparison names %d differences: %+v", l.x.round, c.Different, c.Differences[:min(len(c.Differences), 5)])
	}
	l.m.Unpin(ctx)
	const handed = `SELECT schemaname || '.' || sequencename || ' ' || coalesce(last_value::text, 'unused') FROM pg_sequences WHERE schemaname = 'public'
		UNION ALL SELECT 'object ' || oid || ' ' || md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 1`
	var lists [2][]string
	for i, conn := range []*pgx.Conn{l.source, l.target} {
		rows, err := conn.Query(ctx, handed)
		must(err)
		lists[i], err = pgx.CollectRows(rows, pgx.RowTo[string])
		must(err)
	}
	if !slices.Equal(lists[0], lists[1]) {
		t.Errorf("round %d: handed over otherwise; only at the source:\n%s\nonly on the target:\n%s", l.x.round, without(lists[0], lists[1]), without(lists[1], lists[0]))
	}
}
