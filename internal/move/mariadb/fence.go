package mariadb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dhow/internal/move"
)

// The fence's first form: one session that holds LOCK TABLES ... READ on every
// moving table. It stops writes and changes of the schema by every role, also those
// that READ ONLY ADMIN and SUPER exempt from read_only; reads go on. It ends with
// the session, and the session with this process, its host or the network: the
// server closes one that says nothing for fenceSilence.
//
// A transaction that has written to a table keeps us from it until it has ended,
// and it ends only when all of it stands in the binary log. So what was written
// before the locks stands before the marker that is written behind them.

const (
	// fenceSilence is how long the server keeps a fence whose owner says nothing, in
	// seconds; fencePing is how often we say something.
	fenceSilence = 5
	fencePing    = time.Second
	// lockTry bounds one try to lock all tables. Those that are locked already keep
	// their writers waiting while we wait for the others. Stragglers that are open
	// over two tries are ended, if the estate wants it.
	lockTry = 100 * time.Millisecond
	// lastFence bounds how long the fence's session may be waited for that an attempt
	// before this one has given up.
	lastFence = time.Second
	// fencePause is left to the application between two tries.
	fencePause = 10 * time.Millisecond
	// preparedPoll is the pause between two looks at prepared transactions.
	preparedPoll = 2 * time.Millisecond
)

// lockable is a table, or a sequence, that moves.
type lockable struct {
	Name
	// Waits: the engine lets writers come as far as the table itself, where they
	// wait with what they know of the guard. InnoDB stops them before.
	waits bool
}

// tableNames lists the moving tables and sequences; it is quicker than the catalog.
func (m *Mover) tableNames(ctx context.Context, q querier) (tables, sequences []lockable, err error) {
	err = scan(ctx, q, "SELECT table_schema, table_name, table_type, COALESCE(engine, '') FROM information_schema.tables WHERE table_type <> 'VIEW' AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema', 'dhow')", func(row func(...any) error) error {
		var l lockable
		var kind, engine string
		if err := row(&l.Schema, &l.Name.Name, &kind, &engine); err != nil {
			return err
		}
		if !m.moves(l.Schema) || slices.Contains(m.cfg.Exclude, l.Name.String()) {
			return nil
		}
		switch kind {
		case "SEQUENCE":
			sequences = append(sequences, l)
		case "BASE TABLE", "SYSTEM VERSIONED":
			l.waits = !strings.EqualFold(engine, "InnoDB")
			tables = append(tables, l)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list the tables: %w", err)
	}
	order := func(a, b lockable) int { return compareNames(a.Name, b.Name) }
	slices.SortFunc(tables, order)
	slices.SortFunc(sequences, order)
	return tables, sequences, nil
}

// fence is the session that holds the locks.
type fence struct {
	*worker
	tables, sequences []lockable
	using             sync.Mutex // the session: a ping must not come between a question and its answer
	stop              context.CancelFunc
	working           sync.WaitGroup
	seen              chan glance // what was seen while the target caught up
}

// glance is what the seal must know of a fenced source, which does not change any more.
type glance struct {
	unguarded []gap
	next      map[Name]uint64 // of AUTO_INCREMENT
	err       error
}

// held says whether the locks were held without a break until now: the session that
// took them still answers.
func (f *fence) held(ctx context.Context) error {
	var id int64
	err := f.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id)
	if err == nil && id != f.id {
		err = errors.New("another session answers")
	}
	if err != nil {
		return fmt.Errorf("the fence was lost: %w", err)
	}
	return nil
}

// keep pings the session, so that the server keeps it, until release, which ends the context.
func (f *fence) keep(ctx context.Context) context.Context {
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	f.working.Go(func() {
		tick := time.NewTicker(fencePing)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if f.ping(ctx) != nil {
					return // whoever relies on the fence asks held
				}
			}
		}
	})
	return ctx
}

// ping is not cut off by release: that would close the session.
func (f *fence) ping(ctx context.Context) error {
	f.using.Lock()
	defer f.using.Unlock()
	ctx, cancel := parting(ctx)
	defer cancel()
	return f.PingContext(ctx)
}

// look finds out, while the target catches up, what the seal must know of the source.
func (m *Mover) look(ctx context.Context, f *fence) {
	f.seen = make(chan glance, 1)
	f.working.Go(func() {
		var r glance
		defer func() { f.seen <- r }()
		w, err := m.take(ctx, source, ordinary)
		if err != nil {
			r.err = err
			return
		}
		defer m.putBack(w)
		if r.unguarded, r.err = m.unguarded(ctx, w); r.err == nil {
			r.next, r.err = m.autoIncrements(ctx, w, f.tables)
		}
	})
}

// release ends the session; its locks end with it.
func (f *fence) release(ctx context.Context) {
	if f.stop != nil {
		f.stop()
		f.working.Wait()
	}
	last, cancel := parting(ctx)
	defer cancel()
	_, _ = f.ExecContext(last, "UNLOCK TABLES") // closing does it as well, a little later
	hangUp(f.Conn)
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
	w, err := m.take(ctx, source, ordinary)
	if err != nil {
		return mk, err
	}
	f := &fence{worker: w}
	if mk, err = m.raise(ctx, f); err != nil {
		f.release(ctx)
		return mk, err
	}
	m.look(f.keep(ctx), f)
	m.mu.Lock()
	m.fence = f
	m.mu.Unlock()
	return mk, nil
}

func (m *Mover) raise(ctx context.Context, f *fence) (move.Marker, error) {
	var mk move.Marker
	says, err := m.askGuard(ctx, f, source)
	if err != nil {
		return mk, err
	}
	if says == refuses {
		return mk, fmt.Errorf("database %s refuses writes already: a cutover got as far as that and was not finished: run `dhow cutover` or `dhow rollback` again", m.cfg.Name)
	}
	if says == noGuard {
		return mk, fmt.Errorf("database %s has no guard yet: prepare first", m.cfg.Name)
	}
	var lock int
	// A session that was cut off holds it until the server notices.
	if err := f.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", m.fenceLock(), lastFence.Seconds()).Scan(&lock); err != nil {
		return mk, fmt.Errorf("name the fence's session: %w", err)
	}
	if lock != 1 {
		return mk, fmt.Errorf("another session fences database %s: run `dhow rollback`, or wait %d s until the server has closed it", m.cfg.Name, fenceSilence)
	}
	// A dead host says no goodbye: the server must find out by itself, soon.
	if _, err := f.ExecContext(ctx, fmt.Sprintf("SET SESSION wait_timeout = %d, SESSION lock_wait_timeout = 1", fenceSilence)); err != nil {
		return mk, fmt.Errorf("prepare the fence's session: %w", err)
	}
	if err := f.quiet(ctx); err != nil {
		return mk, err
	}
	if f.tables, f.sequences, err = m.tableNames(ctx, f); err != nil {
		return mk, err
	}
	if err := m.lockTables(ctx, f); err != nil {
		return mk, err
	}
	w, err := m.take(ctx, source, ordinary)
	if err != nil {
		return mk, err
	}
	defer m.putBack(w)
	if err := m.awaitPrepared(ctx, w); err != nil {
		return mk, err
	}
	return m.mark(ctx, w)
}

// fenceLock is the user lock by which another process finds the fence's session.
func (m *Mover) fenceLock() string { return "f:" + m.stream } // such a name has at most 64 bytes

// lockStatement locks tables against writes, and sequences also against being read
// from: their next value is a write.
func lockStatement(f *fence) string {
	locks := make([]string, 0, len(f.tables)+len(f.sequences))
	for _, t := range f.tables {
		locks = append(locks, t.SQL()+" READ")
	}
	for _, s := range f.sequences {
		locks = append(locks, s.SQL()+" WRITE")
	}
	return "LOCK TABLES " + strings.Join(locks, ", ")
}

// lockTables locks all tables, in bounded tries.
func (m *Mover) lockTables(ctx context.Context, f *fence) error {
	if len(f.tables)+len(f.sequences) == 0 {
		return nil
	}
	sql := lockStatement(f)
	var open []straggler
	for {
		err := m.bounded(ctx, f.worker, lockTry, sql)
		if err == nil && ctx.Err() == nil {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if ctx.Err() != nil {
			return m.blocked(ctx, err)
		}
		if !isNumber(err, errLockWait, errDeadlock, errInterrupted) {
			return fmt.Errorf("lock the tables of database %s against writes: %w", m.cfg.Name, err)
		}
		if m.cfg.Stragglers == TerminateSessions {
			if open, err = m.terminate(ctx, open); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return m.blocked(ctx, ctx.Err())
		case <-time.After(fencePause):
		}
	}
}

// straggler is a session whose open transaction may have written to what moves.
type straggler struct {
	id          int64
	trx         string
	user, state string
}

// stragglers are the open transactions that hold locks of rows or tables. Which
// tables, the server does not tell; sessions whose database does not move are left out.
func (m *Mover) stragglers(ctx context.Context, q querier) ([]straggler, error) {
	var list []straggler
	err := scan(ctx, q, `SELECT p.id, t.trx_id, p.user, p.command, COALESCE(p.db, '') FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
		WHERE t.trx_lock_structs + t.trx_rows_modified > 0 AND p.user <> 'system user' AND p.id <> CONNECTION_ID() ORDER BY p.id`, func(row func(...any) error) error {
		var s straggler
		var db string
		if err := row(&s.id, &s.trx, &s.user, &s.state, &db); err != nil {
			return err
		}
		if db == "" || m.moves(db) {
			list = append(list, s)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for transactions that hold writes open: %w", err)
	}
	return list, nil
}

// terminate ends the sessions whose transactions were open at the last look too, and returns this look.
func (m *Mover) terminate(ctx context.Context, before []straggler) ([]straggler, error) {
	w, err := m.take(ctx, source, ordinary)
	if err != nil {
		return nil, err
	}
	defer m.putBack(w)
	now, err := m.stragglers(ctx, w)
	if err != nil {
		return nil, err
	}
	for _, s := range now {
		if !slices.ContainsFunc(before, func(b straggler) bool { return b.id == s.id && b.trx == s.trx }) {
			continue
		}
		if err := kill(ctx, w, "CONNECTION", s.id); err != nil {
			return nil, fmt.Errorf("end the sessions that hold writes open: %w", err)
		}
	}
	return now, nil
}

// blocked names who held the tables when the time was over. The sessions'
// statements are not named: they may hold what must not reach a log.
func (m *Mover) blocked(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	who := "unknown sessions"
	if w, err := m.take(ctx, source, ordinary); err == nil {
		defer m.putBack(w)
		if list, err := m.stragglers(ctx, w); err == nil && len(list) > 0 {
			names := make([]string, len(list))
			for i, s := range list {
				names[i] = fmt.Sprintf("session %d (%s, %s)", s.id, s.user, s.state)
			}
			who = strings.Join(names, "; ")
		}
	}
	return fmt.Errorf("database %s could not be fenced in time, writes are held open by %s: end them, or set cutover.stragglers to terminate: %w", m.cfg.Name, who, cause)
}

// awaitPrepared waits until no transaction is prepared that was when the locks were
// taken: such a one can commit in spite of them. New ones can not have written to
// what moves.
func (m *Mover) awaitPrepared(ctx context.Context, q querier) error {
	old, err := prepared2PC(ctx, q)
	if err != nil {
		return err
	}
	for len(old) > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("database %s could not be fenced in time, %d prepared transactions could commit behind the fence, XA RECOVER names them: XA COMMIT or XA ROLLBACK them: %w", m.cfg.Name, len(old), ctx.Err())
		case <-time.After(preparedPoll):
		}
		now, err := prepared2PC(ctx, q)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			old = slices.DeleteFunc(old, func(x string) bool { return !slices.Contains(now, x) })
		}
	}
	return nil
}

func prepared2PC(ctx context.Context, q querier) ([]string, error) {
	var list []string
	err := scan(ctx, q, "XA RECOVER", func(row func(...any) error) error {
		var format, first, second, xid string
		if err := row(&format, &first, &second, &xid); err != nil {
			return err
		}
		list = append(list, format+"/"+first+"/"+xid)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for prepared transactions: %w", err)
	}
	return list, nil
}

// dropFence ends the session that holds the locks, if there is one.
func (m *Mover) dropFence(ctx context.Context) {
	m.mu.Lock()
	f := m.fence
	m.fence = nil
	m.mu.Unlock()
	if f != nil {
		f.release(ctx)
	}
}

// endHolder ends the session that holds a user lock, if there is one, and waits until it is gone.
func endHolder(ctx context.Context, q querier, lock string) error {
	for {
		var id *int64
		if err := q.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?)", lock).Scan(&id); err != nil {
			return fmt.Errorf("look for a session that was left: %w", err)
		}
		if id == nil {
			return nil
		}
		if err := kill(ctx, q, "CONNECTION", *id); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a session that was left to end: %w", ctx.Err())
		case <-time.After(preparedPoll):
		}
	}
}
