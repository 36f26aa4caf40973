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
func streamRace(ctx context.Context, l *lab, o options) (*streamResult, error) {
	l.say("stream: make the data")
	defer l.dropStream(ctx)
	if err := l.prepareStream(ctx, o); err != nil {
		return nil, err
	}
	res := &streamResult{Rows: backlogRows(o.divisor)}
	for pair := range o.pairs {
		l.say("stream: write a backlog of %d rows", res.Rows)
		if err := l.produce(ctx, pair, o); err != nil {
			return nil, err
		}
		want, err := read(ctx, l.source, streamDatabase)
		if err != nil {
			return nil, err
		}
		turns := []func(context.Context, *lab, int, options) (turn, error){drainNative, drainOurs}
		names := []string{nativeDatabase, streamDatabase}
		var t [2]turn
		for _, who := range []int{pair % 2, 1 - pair%2} {
			if err := l.calm(ctx); err != nil {
				return nil, err
			}
			before := [2]float64{cpu(l.source), cpu(l.target)}
			if t[who], err = turns[who](ctx, l, pair, o); err != nil {
				return nil, err
			}
			t[who].SourceCPU, t[who].TargetCPU = cpu(l.source)-before[0], cpu(l.target)-before[1]
			t[who].RowsPerSecond = float64(res.Rows) / t[who].Seconds
			got, err := read(ctx, l.target, names[who])
			if err != nil {
				return nil, err
			}
			if err := want.same(got); err != nil {
				return nil, fmt.Errorf("after %s: %w", t[who].Who, err)
			}
			l.say("stream: %s", t[who])
		}
		res.Pairs = append(res.Pairs, streamPair{Peer: t[0], Ours: t[1], Ratio: t[1].RowsPerSecond / t[0].RowsPerSecond})
	}
	return res, nil
}

// prepareStream makes the same rows on the source and on native replication's
// target, lets the mover copy them to its own, and leaves both consumers off.
func (l *lab) prepareStream(ctx context.Context, o options) error {
	rows := fmt.Sprintf(`INSERT INTO branches SELECT i, 0, '' FROM generate_series(1, %d) i; INSERT INTO tellers SELECT i, 1 + i %% %d, 0, '' FROM generate_series(1, %d) i;
		INSERT INTO accounts SELECT i, 1 + i %% %d, 0, '' FROM generate_series(1, %d) i`, branches, branches, branches*tellersEach, branches, accounts/o.divisor)
	for _, db := range []struct {
		s    *pgserver.Server
		name string
		more string
	}{{l.source, streamDatabase, producer}, {l.target, nativeDatabase, ""}} {
		if err := db.s.CreateDatabase(ctx, db.name); err != nil {
			return err
		}
		for _, sql := range []string{streamSchema + db.more, rows, "VACUUM ANALYZE"} {
			if err := db.s.Exec(ctx, db.name, sql); err != nil {
				return err
			}
		}
	}
	if err := l.source.Exec(ctx, streamDatabase, "CREATE PUBLICATION "+nativeName+" FOR TABLE "+streamTables); err != nil {
		return err
	}
	// Without "create_slot" this is native replication's default in every way.
	for _, sql := range []string{
		fmt.Sprintf("CREATE SUBSCRIPTION %s CONNECTION '%s' PUBLICATION %s WITH (copy_data = false)", nativeName, libpq(l.source, streamDatabase), nativeName),
		"ALTER SUBSCRIPTION " + nativeName + " DISABLE",
	} {
		if err := l.target.Exec(ctx, nativeDatabase, sql); err != nil {
			return err
		}
	}
	if err := l.fresh(ctx, streamDatabase); err != nil {
		return err
	}
	c, err := startChild(ctx, task{Source: l.source.URL(streamDatabase), Target: l.target.URL(streamDatabase), Lanes: o.lanes})
	if err != nil {
		return err
	}
	defer c.kill()
	if _, err := c.await(eventStreaming); err != nil {
		return err
	}
	if err := c.tell(orderStop); err != nil {
		return err
	}
	if _, err := c.await(eventEnd); err != nil {
		return err
	}
	return c.wait()
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
func (l *lab) dropStream(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var errs []error
	errs = append(errs, l.target.Exec(ctx, nativeDatabase, "DROP SUBSCRIPTION IF EXISTS "+nativeName), l.dropStreams(ctx, streamDatabase))
	for _, db := range []struct {
		s    *pgserver.Server
		name string
	}{{l.source, streamDatabase}, {l.target, streamDatabase}, {l.target, nativeDatabase}} {
		errs = append(errs, db.s.Exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+db.name))
	}
	if err := errors.Join(errs...); err != nil {
		l.say("remove the stream's data: %v", err)
	}
}

// produce writes a backlog while both consumers are off; its last row is the end's mark.
func (l *lab) produce(ctx context.Context, pair int, o options) error {
	for step, statements := range backlog(o.divisor) {
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
func (l *lab) write(ctx context.Context, statements ...string) error {
	conn, err := connect(ctx, l.source, streamDatabase)
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
func drainNative(ctx context.Context, l *lab, pair int, _ options) (turn, error) {
	t := turn{Who: "native"}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	conn, err := connect(ctx, l.target, nativeDatabase)
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
func (l *lab) slotIdle(ctx context.Context, slot string) error {
	conn, err := connect(ctx, l.source, streamDatabase)
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

// drainOurs is the mover's turn: from the start of its process until a marker,
// written behind the backlog, has been applied by all lanes.
func drainOurs(ctx context.Context, l *lab, pair int, o options) (turn, error) {
	t := turn{Who: "dhow"}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	c, err := startChild(ctx, task{Source: l.source.URL(streamDatabase), Target: l.target.URL(streamDatabase), Profile: profilePath(o, fmt.Sprintf("stream-%d", pair+1)), Lanes: o.lanes})
	if err != nil {
		return t, err
	}
	defer c.kill()
	if err := c.tell(orderDrain); err != nil {
		return t, err
	}
	if _, err := c.await(eventApplied); err != nil {
		return t, err
	}
	t.Seconds = time.Since(c.began).Seconds()
	if err := c.tell(orderStop); err != nil {
		return t, err
	}
	end, err := c.await(eventEnd)
	if err != nil {
		return t, err
	}
	t.PeakMiB = end.PeakMiB
	if err := c.wait(); err != nil {
		return t, err
	}
	t.OwnCPU = (c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()).Seconds()
	return t, nil
}
