package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

// The fence has two forms.
//
// The first is a transaction that holds a lock on every table of the source: it
// stops writes by every role, the superuser too, and it vanishes when this
// process, its host or the network dies, because the server ends the session.
//
// The second is durable: a statement trigger on every table that calls
// dhow.refuse(), and the body of that function, which refuses or lets pass. The
// transaction that holds the locks creates what is missing and replaces the
// body; when it commits there was no instant at which a write could slip
// through. Opening replaces the body alone, so it waits for no table's lock.
// Triggers do not fire for sessions whose session_replication_role is replica:
// the change stream passes.

const (
	// fenceTrigger is on every table of a side that was ever closed.
	fenceTrigger = "dhow_fence"
	// fenceRetry is the pause between two tries to lock all tables. Each try
	// takes all locks or none, so that it can not deadlock with the application.
	fenceRetry = 2 * time.Millisecond
	// fenceMost bounds how long the server keeps a fence whose owner says nothing;
	// where the stall is bounded, fenceGrace behind that bound is enough.
	fenceMost  = 60 * time.Second
	fenceGrace = 5 * time.Second
	// terminateAfter is how long stragglers may end by themselves before they are ended.
	terminateAfter = 50 * time.Millisecond
	// fenceSession is the application_name of the session that holds the locks.
	fenceSession = "dhow fence "
)

// fence is the open transaction that holds the locks.
type fence struct {
	conn    *pgx.Conn
	catalog *Catalog // see relations
}

// bodies of dhow.refuse().
const (
	refuseBody = `BEGIN
	RAISE EXCEPTION 'dhow: this database does not take writes: its data is served elsewhere'
		USING ERRCODE = 'read_only_sql_transaction', HINT = 'Write through the gate, or see "dhow status".';
END`
	admitBody = `BEGIN
	RETURN NULL;
END`
)

func setRefuse(ctx context.Context, q querier, body string) error {
	sql := "CREATE OR REPLACE FUNCTION dhow.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $body$" + body + "$body$"
	if _, err := q.Exec(ctx, sql); err != nil {
		return fmt.Errorf("replace the function dhow.refuse: %w", err)
	}
	return nil
}

// installFence closes a database for writes: a trigger on every table that has
// none, the refusing function, and the row that says so. It must run in a
// transaction. Tables that take writes meanwhile must be locked by the caller.
func installFence(ctx context.Context, q querier, c *Catalog, moveName, reason string) error {
	if err := setRefuse(ctx, q, refuseBody); err != nil {
		return err
	}
	rows, err := q.Query(ctx, "SELECT tgrelid FROM pg_trigger WHERE tgname = $1", fenceTrigger)
	if err != nil {
		return fmt.Errorf("list the fence's triggers: %w", err)
	}
	has := map[uint32]bool{}
	var oid uint32
	if _, err := pgx.ForEachRow(rows, []any{&oid}, func() error { has[oid] = true; return nil }); err != nil {
		return fmt.Errorf("list the fence's triggers: %w", err)
	}
	var sql strings.Builder
	for _, list := range [][]*Table{c.Tables, c.Roots} {
		for _, t := range list {
			if !has[t.OID] {
				fmt.Fprintf(&sql, "CREATE TRIGGER %s BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION dhow.refuse();\n", fenceTrigger, t.SQL())
			}
		}
	}
	if sql.Len() > 0 {
		if _, err := q.Exec(ctx, sql.String()); err != nil {
			return fmt.Errorf("create the fence's triggers: %w", err)
		}
	}
	if _, err := q.Exec(ctx, "INSERT INTO dhow.fence (move, reason) VALUES ($1, $2) ON CONFLICT (move) DO UPDATE SET reason = excluded.reason, at = clock_timestamp()", moveName, reason); err != nil {
		return fmt.Errorf("note the fence: %w", err)
	}
	return nil
}

// openFence lets a database take writes, in the caller's transaction.
func openFence(ctx context.Context, q querier, moveName string) error {
	if err := setRefuse(ctx, q, admitBody); err != nil {
		return err
	}
	if _, err := q.Exec(ctx, "DELETE FROM dhow.fence WHERE move = $1", moveName); err != nil {
		return fmt.Errorf("note that the fence is open: %w", err)
	}
	return nil
}

// Fence locks every table of the source against writes and returns the marker
// behind which nothing was written. The context bounds the wait for transactions
// that hold writes open.
func (m *Mover) Fence(ctx context.Context) (move.Marker, error) {
	var mk move.Marker
	m.mu.Lock()
	held := m.fence
	m.mu.Unlock()
	if held != nil {
		return mk, errors.New("the source is fenced already: unfence it first")
	}
	conn, err := m.take(ctx, m.sourceSide())
	if err != nil {
		return mk, err
	}
	f := &fence{conn: conn}
	if mk, err = m.raise(ctx, f); err != nil {
		hangUp(ctx, conn)
		return mk, err
	}
	m.mu.Lock()
	m.fence = f
	m.mu.Unlock()
	return mk, nil
}

func (m *Mover) raise(ctx context.Context, f *fence) (move.Marker, error) {
	var mk move.Marker
	sealed, err := fenced(ctx, f.conn, m.moveName())
	if err != nil {
		return mk, err
	}
	if sealed {
		return mk, fmt.Errorf("database %s refuses writes already: a cutover got as far as that and was not finished: run `dhow cutover` or `dhow rollback` again", m.cfg.Name)
	}
	if f.catalog, err = m.relations(ctx, f.conn); err != nil {
		return mk, err
	}
	idle := fenceMost
	if until, ok := ctx.Deadline(); ok {
		idle = min(idle, max(time.Until(until), 0)+fenceGrace)
	}
	// A dead host sends no FIN: the server must find out by itself, soon.
	if _, err := f.conn.Exec(ctx, fmt.Sprintf("SET application_name = %s; SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; SET idle_in_transaction_session_timeout = %d",
		quote(fenceSession+m.stream), idle.Milliseconds())); err != nil {
		return mk, fmt.Errorf("prepare the fence's session: %w", err)
	}
	if err := m.lockTables(ctx, f); err != nil {
		return mk, err
	}
	other, err := m.take(ctx, m.sourceSide())
	if err != nil {
		return mk, err
	}
	defer m.putBack(ctx, m.sourceSide(), other)
	var prepared string
	if err := other.QueryRow(ctx, "SELECT coalesce(string_agg(gid, ', '), '') FROM pg_prepared_xacts WHERE database = current_database()").Scan(&prepared); err != nil {
		return mk, fmt.Errorf("look for prepared transactions: %w", err)
	}
	if prepared != "" {
		return mk, &move.Refused{Reason: fmt.Sprintf("database %s holds prepared transactions (%s), which could commit behind the fence", m.cfg.Name, prepared), Fix: "COMMIT PREPARED or ROLLBACK PREPARED them"}
	}
	return m.mark(ctx, other)
}

// lockTables takes a lock that admits readers and no writer, on all tables or on none.
func (m *Mover) lockTables(ctx context.Context, f *fence) error {
	lock := lockStatement(f.catalog)
	if lock == "" {
		_, err := f.conn.Exec(ctx, "BEGIN")
		return err
	}
	began := time.Now()
	for {
		_, err := f.conn.Exec(ctx, "BEGIN; "+lock)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return m.blocked(ctx, f, err)
		}
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != lockNotAvailable {
			return fmt.Errorf("lock the tables of database %s against writes: %w", m.cfg.Name, err)
		}
		if _, err := f.conn.Exec(ctx, "ROLLBACK"); err != nil {
			return m.blocked(ctx, f, err)
		}
		if err := m.makeWay(ctx, f, time.Since(began) > terminateAfter); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return m.blocked(ctx, f, ctx.Err())
		case <-time.After(fenceRetry):
		}
	}
}

// lockNotAvailable is the SQLSTATE of a lock that NOWAIT did not get.
const lockNotAvailable = "55P03"

func lockStatement(c *Catalog) string {
	if len(c.Tables)+len(c.Roots) == 0 {
		return ""
	}
	names := make([]string, 0, len(c.Tables)+len(c.Roots))
	for _, list := range [][]*Table{c.Roots, c.Tables} {
		for _, t := range list {
			names = append(names, "ONLY "+t.SQL())
		}
	}
	return "LOCK TABLE " + strings.Join(names, ", ") + " IN SHARE ROW EXCLUSIVE MODE NOWAIT"
}

// blockers selects the other sessions that hold a lock on a moving table that
// excludes ours. $1 are the tables.
const blockers = `FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
	WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid() AND l.relation = ANY ($1)
	AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`

func (f *fence) oids() []uint32 {
	list := make([]uint32, 0, len(f.catalog.Tables)+len(f.catalog.Roots))
	for _, t := range f.catalog.Tables {
		list = append(list, t.OID)
	}
	for _, t := range f.catalog.Roots {
		list = append(list, t.OID)
	}
	return list
}

// makeWay cancels maintenance that holds our locks (it begins again by itself),
// and, when the policy and the time say so, ends sessions that hold writes open.
func (m *Mover) makeWay(ctx context.Context, f *fence, late bool) error {
	_, err := f.conn.Exec(ctx, "SELECT pg_cancel_backend(a.pid) "+blockers+" AND a.backend_type = 'autovacuum worker'", f.oids())
	var pg *pgconn.PgError
	if err != nil && (!errors.As(err, &pg) || pg.Code != insufficientPrivilege) {
		return fmt.Errorf("cancel the maintenance that holds tables: %w", err)
	}
	if late && m.cfg.Stragglers == TerminateSessions {
		if _, err := f.conn.Exec(ctx, "SELECT pg_terminate_backend(a.pid) "+blockers+" AND a.backend_type = 'client backend'", f.oids()); err != nil {
			return fmt.Errorf("end the sessions that hold writes open: %w", err)
		}
	}
	return nil
}

const insufficientPrivilege = "42501"

// blocked names who held the tables when the time was over. The sessions'
// statements are not named: they may hold what must not reach a log.
func (m *Mover) blocked(ctx context.Context, f *fence, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	who := "unknown sessions"
	conn, err := m.source(ctx)
	if err == nil {
		defer hangUp(ctx, conn)
		var list string
		if err := conn.QueryRow(ctx, `SELECT coalesce(string_agg(DISTINCT format('pid %s (%s %s, %s, transaction open for %s s)', a.pid, a.backend_type, coalesce(a.usename, ''), coalesce(nullif(a.application_name, ''), 'no name'),
			round(extract(epoch FROM clock_timestamp() - a.xact_start))), '; '), '') `+blockers, f.oids()).Scan(&list); err == nil && list != "" {
			who = list
		}
	}
	return fmt.Errorf("database %s could not be fenced in time, writes are held open by %s: end them, or set cutover.stragglers to terminate: %w", m.cfg.Name, who, cause)
}

// Unfence lets the source take writes again, whatever stage the fence is at.
func (m *Mover) Unfence(ctx context.Context) error {
	m.Unpin(ctx)
	m.dropFence(ctx)
	m.closeSpares(ctx)
	source, err := m.source(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, source)
	if err := m.awaitFenceSession(ctx, source); err != nil {
		return err
	}
	sealed, err := fenced(ctx, source, m.moveName())
	if err != nil || !sealed {
		return err
	}
	target, err := m.target(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, target)
	closed, err := fenced(ctx, target, m.moveName())
	if err != nil {
		return err
	}
	if !closed {
		return &move.Refused{Reason: fmt.Sprintf("database %s is served by the target: the source must not take writes too", m.cfg.Name), Fix: "go back with `dhow rollback`"}
	}
	return pgx.BeginFunc(ctx, source, func(tx pgx.Tx) error {
		for _, sql := range []string{"DELETE FROM dhow.position WHERE stream = $1", "DELETE FROM dhow.stream WHERE name = $1"} {
			if _, err := tx.Exec(ctx, sql, m.back); err != nil {
				return fmt.Errorf("forget the stream back: %w", err)
			}
		}
		return openFence(ctx, tx, m.moveName())
	})
}

// dropFence ends the transaction that holds the locks, if there is one.
func (m *Mover) dropFence(ctx context.Context) {
	m.mu.Lock()
	f := m.fence
	m.fence = nil
	m.mu.Unlock()
	if f != nil {
		last, cancel := parting(ctx)
		defer cancel()
		_, _ = f.conn.Exec(last, "ROLLBACK") // closing ends it as well
		hangUp(ctx, f.conn)
	}
}

// awaitFenceSession waits until no session holds this move's fence: one that
// was cut off in the middle of its commit may still be at work.
func (m *Mover) awaitFenceSession(ctx context.Context, conn *pgx.Conn) error {
	for {
		var n int
		if err := conn.QueryRow(ctx, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()", fenceSession+m.stream).Scan(&n); err != nil {
			return fmt.Errorf("look for a fence that was left: %w", err)
		}
		if n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a fence that was left to end: %w", ctx.Err())
		case <-time.After(fenceRetry):
		}
	}
}
