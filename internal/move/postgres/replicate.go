package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// progressEvery is how often a report is made.
const progressEvery = 500 * time.Millisecond

const (
	// predecessorWait bounds the wait for the lock of a process that was killed a
	// moment ago, whose session the server has yet to end; predecessorPoll is the pause between two tries.
	predecessorWait = 2 * time.Second
	predecessorPoll = 100 * time.Millisecond
)

// Replicate brings the target from wherever it stands to the stream, and
// streams until ctx ends. A connection that is lost on the way is sought again.
func (m *Mover) Replicate(ctx context.Context, report func(move.Progress)) error {
	return m.persistence().Run(ctx, report, m.locked)
}

// locked replicates while this process holds the move's lock.
func (m *Mover) locked(ctx context.Context, report func(move.Progress)) error {
	unlock, err := m.lock(ctx)
	var held *move.LockHeld
	for until := time.Now().Add(predecessorWait); errors.As(err, &held) && time.Now().Before(until); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(predecessorPoll):
		}
		unlock, err = m.lock(ctx)
	}
	if err != nil {
		return err
	}
	defer unlock()
	report = m.withNote(report)
	for {
		err := m.explain(ctx, m.replicate(ctx, report))
		if !errors.Is(err, errFollowed) {
			return err
		}
	}
}

// replicate goes as far as the source's schema stays as it is.
func (m *Mover) replicate(ctx context.Context, report func(move.Progress)) error {
	if err := m.adopt(ctx, report); err != nil {
		return err
	}
	var state *streamState
	err := m.watching(ctx, func(ctx context.Context) (err error) {
		state, err = m.load(ctx, report)
		return err
	})
	if err != nil {
		return err
	}
	return m.follow(ctx, *state, report)
}

// follow runs the change stream, and reports, until ctx ends or the stream fails.
func (m *Mover) follow(ctx context.Context, state streamState, report func(move.Progress)) error {
	r, err := m.newRelay(ctx, state)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.running = r
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.running = nil
		m.mu.Unlock()
	}()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.run(gctx) })
	g.Go(func() error { return m.watchSchema(gctx) })
	g.Go(func() error {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for { // the first report at once: the copy is complete
			p := r.progress()
			p.Database, p.Phase, p.At = m.cfg.Name, move.PhaseStream, time.Now()
			report(p)
			select {
			case <-gctx.Done():
				return gctx.Err()
			case <-tick.C:
			}
		}
	})
	return g.Wait()
}

// CatchUp returns once the running stream has applied the marker.
func (m *Mover) CatchUp(ctx context.Context, mk move.Marker) error {
	m.mu.Lock()
	r := m.running
	m.mu.Unlock()
	if r == nil {
		return errors.New("the change stream does not run: start `dhow replicate` and wait until it streams")
	}
	if err := r.caughtUp(ctx, mk.N); err != nil {
		return fmt.Errorf("wait until the target has applied marker %d: %w", mk.N, err)
	}
	return nil
}

// lock makes sure that only one process anywhere runs this move: a session lock
// on the target, which dies with its holder. unlock gives it back.
func (m *Mover) lock(ctx context.Context) (unlock func(), err error) {
	conn, err := m.target(ctx)
	if err != nil {
		return nil, err
	}
	var got bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", m.stream).Scan(&got); err != nil {
		hangUp(ctx, conn)
		return nil, fmt.Errorf("take the move's lock on the target: %w", err)
	}
	if !got {
		var who string
		_ = conn.QueryRow(ctx, `SELECT 'from ' || coalesce(a.client_addr::text, 'the server itself') || ' since ' || a.backend_start::timestamp(0)
			FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted
			AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended($1, 0)`, m.stream).Scan(&who)
		hangUp(ctx, conn)
		return nil, move.HeldBy(m.cfg.Name, who)
	}
	return func() {
		ended, cancel := parting(ctx)
		defer cancel()
		// The session's end gives it back as well, but a moment after hangUp.
		_, _ = conn.Exec(ended, "SELECT pg_advisory_unlock(hashtextextended($1, 0))", m.stream)
		hangUp(ctx, conn)
	}, nil
}

// State asks both servers where the move stands.
func (m *Mover) State(ctx context.Context) (move.State, error) {
	var s move.State
	target, err := m.target(ctx)
	if err != nil {
		return s, err
	}
	defer hangUp(ctx, target)
	source, err := m.source(ctx)
	if err != nil {
		return s, err
	}
	defer hangUp(ctx, source)
	row, err := readStream(ctx, target, m.stream)
	if err != nil {
		return s, err
	}
	s.Started = row != nil
	s.Copied = row != nil && row.Phase == phaseStream
	if s.Sealed, err = fenced(ctx, source, m.moveName()); err != nil {
		return s, err
	}
	closed, err := fenced(ctx, target, m.moveName())
	if err != nil {
		return s, err
	}
	s.Open = s.Started && row.Phase != phaseSchema && !closed
	return s, nil
}

// moveName names the move, in either direction.
func (m *Mover) moveName() string { return m.cfg.Estate + "/" + m.cfg.Name }

// fenced says whether a database durably refuses writes for this move.
func fenced(ctx context.Context, conn *pgx.Conn, name string) (bool, error) {
	if has, err := hasState(ctx, conn); err != nil || !has {
		return false, err
	}
	var is bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM dhow.fence WHERE move = $1)", name).Scan(&is); err != nil {
		return false, fmt.Errorf("look for the fence in database %s: %w", conn.Config().Database, err)
	}
	return is, nil
}
