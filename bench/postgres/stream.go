package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/bench/sidebyside"
	"dhow/internal/pgserver"
)

const (
	// streamDatabase is written at the source and relayed to it by the mover;
	// nativeDatabase is where native replication brings it.
	streamDatabase = "copied"
	nativeDatabase = "native"
	nativeName     = "bench_native"
	// lookEvery is how often the target is asked whether the end has arrived.
	lookEvery = 10 * time.Millisecond
	// drainTimeout bounds the wait for it.
	drainTimeout = 5 * time.Minute
)

// The backlog of one pair, each part a figure of its own in pgbench's terms.
const (
	accounts     = 500000 // rows of the table that is changed
	branches     = 50
	tellersEach  = 10
	smallChanges = 100000 // transactions of pgbench's kind: three updates and an insert
	// smallSessions make them at once.
	smallSessions = 4
	largeRows     = 500000 // rows that one transaction inserts
	mixed         = 20000  // transactions that update three rows, delete one and insert one
	massUpdate    = 200000 // rows that one transaction updates
	massDelete    = 100000 // rows that one transaction deletes
)

// streamSchema is pgbench's, with a key for the history so that native
// replication takes its updates too.
const streamSchema = `
	CREATE TABLE branches (bid int PRIMARY KEY, bbalance bigint, filler char(88));
	CREATE TABLE tellers (tid int PRIMARY KEY, bid int, tbalance bigint, filler char(84));
	CREATE TABLE accounts (aid int PRIMARY KEY, bid int, abalance bigint, filler char(84));
	CREATE TABLE history (id bigint PRIMARY KEY, tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
	CREATE TABLE bulk (id bigint PRIMARY KEY, account int, amount numeric(14, 2), at timestamptz, note text);
	CREATE TABLE the_end (n int PRIMARY KEY);`

// streamTables are its tables. The mover adds some of its own to the source,
// which native replication must not see.
const streamTables = "branches, tellers, accounts, history, bulk, the_end"

// producer makes the backlog inside the source, where no client's speed matters.
const producer = `
	CREATE SEQUENCE produced_history; CREATE SEQUENCE produced_bulk; CREATE SEQUENCE produced_account START 100000001;
	CREATE PROCEDURE produce_small(n int, most int, mt int, mb int) LANGUAGE plpgsql AS $$
	DECLARE a int; t int; b int; d int;
	BEGIN
		FOR i IN 1..n LOOP
			a := 1 + floor(random() * most); t := 1 + floor(random() * mt); b := 1 + floor(random() * mb); d := floor(random() * 10000) - 5000;
			UPDATE accounts SET abalance = abalance + d WHERE aid = a;
			UPDATE tellers SET tbalance = tbalance + d WHERE tid = t;
			UPDATE branches SET bbalance = bbalance + d WHERE bid = b;
			INSERT INTO history VALUES (nextval('produced_history'), t, b, a, d, localtimestamp, '');
			COMMIT;
		END LOOP;
	END $$;
	CREATE PROCEDURE produce_mixed(n int, most int) LANGUAGE plpgsql AS $$
	DECLARE first bigint := (SELECT min(id) FROM history); a int;
	BEGIN
		FOR i IN 1..n LOOP
			FOR k IN 1..3 LOOP
				a := 1 + floor(random() * most);
				UPDATE accounts SET abalance = abalance + k, filler = 'mixed ' || i WHERE aid = a;
			END LOOP;
			DELETE FROM history WHERE id = first - 1 + i;
			INSERT INTO accounts VALUES (nextval('produced_account'), 1, 0, 'new');
			COMMIT;
		END LOOP;
	END $$;`

// backlog is the statements that make one pair's changes: those of one step by
// sessions of their own, at once, so that their transactions lie in the log one
// inside another. Each is a transaction of its own; the procedures commit inside.
func backlog(divisor int) [][]string {
	first := []string{
		fmt.Sprintf("INSERT INTO bulk SELECT nextval('produced_bulk'), 1 + i %% 1000, i / 7.0, '2026-01-01Z'::timestamptz + i * interval '1 second', 'a payment of row ' || i FROM generate_series(1, %d) i", largeRows/divisor),
	}
	for range smallSessions {
		first = append(first, fmt.Sprintf("CALL produce_small(%d, %d, %d, %d)", smallChanges/smallSessions/divisor, accounts/divisor, branches*tellersEach, branches))
	}
	return [][]string{
		first,
		{
			fmt.Sprintf("CALL produce_mixed(%d, %d)", mixed/divisor, accounts/divisor),
			fmt.Sprintf("DELETE FROM bulk WHERE id IN (SELECT id FROM bulk ORDER BY id LIMIT %d)", massDelete/divisor),
		},
		{fmt.Sprintf("UPDATE accounts SET abalance = abalance + 1 WHERE aid <= %d", massUpdate/divisor)},
	}
}

// backlogRows counts the changed rows of one pair.
func backlogRows(divisor int) int64 {
	return int64(4*smallChanges+largeRows+5*mixed+massUpdate+massDelete) / int64(divisor)
}

// streamRace lets native replication and the mover drain the same backlogs in turns.
func streamRace(ctx context.Context, l lab, o sidebyside.Options, lanes int) (*streamResult, error) {
	l.Say("stream: make the data")
	defer l.dropStream(ctx)
	relay := task{Source: l.Source.URL(streamDatabase), Target: l.Target.URL(streamDatabase), Lanes: lanes}
	if err := l.prepareStream(ctx, o, relay); err != nil {
		return nil, err
	}
	res := &streamResult{Rows: backlogRows(o.Divisor)}
	for n := range o.Pairs {
		l.Say("stream: write a backlog of %d rows", res.Rows)
		if err := l.produce(ctx, n, o); err != nil {
			return nil, err
		}
		want, err := read(ctx, l.Source, streamDatabase)
		if err != nil {
			return nil, err
		}
		// drains is a turn within its time, and what of it is a rate.
		drains := func(turn func(context.Context) (sidebyside.Turn, error)) func(context.Context) (sidebyside.Turn, error) {
			return func(ctx context.Context) (sidebyside.Turn, error) {
				ctx, cancel := context.WithTimeout(ctx, drainTimeout)
				defer cancel()
				t, err := turn(ctx)
				t.RowsPerSecond = float64(res.Rows) / t.Seconds
				return t, err
			}
		}
		pair, err := l.Pair(ctx, n, sidebyside.Race{
			Name:  "stream",
			Ready: l.calm,
			Turns: [2]func(context.Context) (sidebyside.Turn, error){
				drains(func(ctx context.Context) (sidebyside.Turn, error) { return l.drainNative(ctx, n) }),
				drains(func(ctx context.Context) (sidebyside.Turn, error) {
					return sidebyside.MoverDrains(ctx, o.Profile(fmt.Sprintf("stream-%d", n+1)), relay)
				}),
			},
			Check: func(ctx context.Context, who int) error {
				got, err := read(ctx, l.Target, []string{nativeDatabase, streamDatabase}[who])
				if err != nil {
					return err
				}
				return want.Same(got)
			},
		})
		if err != nil {
			return nil, err
		}
		pair.Ratio = pair.Ours.RowsPerSecond / pair.Peer.RowsPerSecond
		res.Pairs = append(res.Pairs, pair)
	}
	return res, nil
}

// prepareStream makes the same rows on the source and on native replication's
// target, lets the mover copy them to its own, and leaves both consumers off.
func (l lab) prepareStream(ctx context.Context, o sidebyside.Options, relay task) error {
	rows := fmt.Sprintf(`INSERT INTO branches SELECT i, 0, '' FROM generate_series(1, %d) i; INSERT INTO tellers SELECT i, 1 + i %% %d, 0, '' FROM generate_series(1, %d) i;
		INSERT INTO accounts SELECT i, 1 + i %% %d, 0, '' FROM generate_series(1, %d) i`, branches, branches, branches*tellersEach, branches, accounts/o.Divisor)
	for _, db := range []struct {
		s    *pgserver.Server
		name string
		more string
	}{{l.Source, streamDatabase, producer}, {l.Target, nativeDatabase, ""}} {
		if err := db.s.CreateDatabase(ctx, db.name); err != nil {
			return err
		}
		for _, sql := range []string{streamSchema + db.more, rows, "VACUUM ANALYZE"} {
			if err := db.s.Exec(ctx, db.name, sql); err != nil {
				return err
			}
		}
	}
	if err := l.Source.Exec(ctx, streamDatabase, "CREATE PUBLICATION "+nativeName+" FOR TABLE "+streamTables); err != nil {
		return err
	}
	// Without "create_slot" this is native replication's default in every way.
	for _, sql := range []string{
		fmt.Sprintf("CREATE SUBSCRIPTION %s CONNECTION '%s' PUBLICATION %s WITH (copy_data = false)", nativeName, libpq(l.Source, streamDatabase), nativeName),
		"ALTER SUBSCRIPTION " + nativeName + " DISABLE",
	} {
		if err := l.Target.Exec(ctx, nativeDatabase, sql); err != nil {
			return err
		}
	}
	if err := l.fresh(ctx, streamDatabase); err != nil {
		return err
	}
	p, err := sidebyside.Start(ctx, "", relay)
	if err != nil {
		return err
	}
	defer p.Kill()
	if _, err := p.Await(sidebyside.Streaming); err != nil {
		return err
	}
	_, err = p.Stop()
	return err
}

// libpq is a server's address in libpq's words, as a subscription takes it.
func libpq(s *pgserver.Server, database string) string {
	u, err := url.Parse(s.URL(database))
	if err != nil {
		return "" // a URL that pgserver made
	}
	host, port, _ := net.SplitHostPort(u.Host)
	return fmt.Sprintf("host=%s port=%s dbname=%s user=%s password=%s", host, port, database, s.User(), s.Password())
}

// dropStream removes both consumers and the data.
func (l lab) dropStream(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sidebyside.StopTimeout)
	defer cancel()
	var errs []error
	errs = append(errs, l.Target.Exec(ctx, nativeDatabase, "DROP SUBSCRIPTION IF EXISTS "+nativeName), l.dropStreams(ctx, streamDatabase))
	for _, db := range []struct {
		s    *pgserver.Server
		name string
	}{{l.Source, streamDatabase}, {l.Target, streamDatabase}, {l.Target, nativeDatabase}} {
		errs = append(errs, db.s.Exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+db.name))
	}
	if err := errors.Join(errs...); err != nil {
		l.Say("remove the stream's data: %v", err)
	}
}

// produce writes a backlog while both consumers are off; its last row is the end's mark.
func (l lab) produce(ctx context.Context, pair int, o sidebyside.Options) error {
	for step, statements := range backlog(o.Divisor) {
		g, gctx := errgroup.WithContext(ctx)
		for i, sql := range statements {
			seed := fmt.Sprintf("SELECT setseed(0.%d)", 1+pair*100+step*10+i)
			g.Go(func() error { return l.write(gctx, "SET synchronous_commit = off", seed, sql) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return l.write(ctx, fmt.Sprintf("INSERT INTO the_end VALUES (%d)", pair), "VACUUM ANALYZE")
}

// write runs statements at the source in a session of their own.
func (l lab) write(ctx context.Context, statements ...string) error {
	conn, err := connect(ctx, l.Source, streamDatabase)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("write the backlog: %s: %w", strings.SplitN(sql, "(", 2)[0], err)
		}
	}
	return nil
}

// drainNative is native replication's turn: from the moment the subscription is
// enabled until the end's mark is on the target. Its one worker applies in the
// source's order, so all is there then.
func (l lab) drainNative(ctx context.Context, pair int) (sidebyside.Turn, error) {
	t := sidebyside.Turn{Who: "native"}
	conn, err := connect(ctx, l.Target, nativeDatabase)
	if err != nil {
		return t, err
	}
	defer hangUp(ctx, conn)
	began := time.Now()
	if _, err := conn.Exec(ctx, "ALTER SUBSCRIPTION "+nativeName+" ENABLE"); err != nil {
		return t, fmt.Errorf("enable the subscription: %w", err)
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for there := false; !there; {
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM the_end WHERE n = $1)", pair).Scan(&there); err != nil {
			return t, fmt.Errorf("look for the end of the stream: %w", err)
		}
		if !there {
			<-tick.C
		}
	}
	t.Seconds = time.Since(began).Seconds()
	if _, err := conn.Exec(ctx, "ALTER SUBSCRIPTION "+nativeName+" DISABLE"); err != nil {
		return t, fmt.Errorf("disable the subscription: %w", err)
	}
	return t, l.slotIdle(ctx, nativeName)
}

// slotIdle waits until nobody reads from a slot.
func (l lab) slotIdle(ctx context.Context, slot string) error {
	conn, err := connect(ctx, l.Source, streamDatabase)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var active bool
		if err := conn.QueryRow(ctx, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&active); err != nil {
			return fmt.Errorf("look at slot %s: %w", slot, err)
		}
		if !active {
			return nil
		}
		<-tick.C
	}
}
