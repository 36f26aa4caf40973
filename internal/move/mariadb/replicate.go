package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

const (
	// progressEvery is how often a report is made.
	progressEvery = 500 * time.Millisecond
	// predecessorWait bounds the wait for the lock of a process that was killed a
	// moment ago, whose session the server has yet to end, in seconds.
	predecessorWait = 3
	// stopTime bounds the wait for the target to finish the transaction it applies
	// when the replication is stopped.
	stopTime = 30 * time.Second
	// unreachedFor is how long the target may fail to reach the source before the
	// move gives up, when it never did yet.
	unreachedFor = 30 * time.Second
)

// Replicate brings the target from wherever it stands to the stream, and streams
// until ctx ends: then the target's replication is stopped, and ctx's error
// returned. A connection that is lost on the way is sought again.
func (m *Mover) Replicate(ctx context.Context, report func(move.Progress)) error {
	return m.persistence().Run(ctx, report, m.locked)
}

// locked replicates while this process holds the move's lock.
func (m *Mover) locked(ctx context.Context, report func(move.Progress)) error {
	lock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer hangUp(lock)
	b := &move.Board{Database: m.cfg.Name}
	b.Begin(move.PhaseSchema, 0)
	g, gctx := errgroup.WithContext(ctx)
	loaded := make(chan struct{})
	g.Go(func() error {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-loaded:
				return nil
			case <-gctx.Done():
				return nil
			case <-tick.C:
				report(b.Read(time.Now()))
			}
		}
	})
	g.Go(func() error {
		defer close(loaded)
		return m.load(gctx, b)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return m.follow(ctx, b, lock, report)
}

// lock makes sure that only one process anywhere runs this move: a lock of a
// session on the target, which dies with its holder.
func (m *Mover) lock(ctx context.Context) (*sql.Conn, error) {
	conn, err := m.session(ctx, target)
	if err != nil {
		return nil, err
	}
	var got, holder sql.NullInt64
	err = conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?), IS_USED_LOCK(?)", m.stream, predecessorWait, m.stream).Scan(&got, &holder)
	if err == nil && got.Int64 == 1 {
		if _, err = conn.ExecContext(ctx, "SET SESSION wait_timeout = 2147483"); err == nil {
			return conn, nil
		}
	}
	if err != nil {
		hangUp(conn)
		return nil, fmt.Errorf("take the move's lock on the target: %w", err)
	}
	var from string
	_ = conn.QueryRowContext(ctx, "SELECT CONCAT('from ', host, ' ') FROM information_schema.processlist WHERE id = ?", holder.Int64).Scan(&from) // only to be helpful
	hangUp(conn)
	return nil, move.HeldBy(m.cfg.Name, from)
}

// running is the change stream while it runs in this process.
type running struct {
	ended chan struct{} // closed when it has ended
}

// follow lets the target's replication run, and watches and reports, until ctx ends or it fails.
func (m *Mover) follow(ctx context.Context, b *move.Board, lock *sql.Conn, report func(move.Progress)) (err error) {
	conn, err := m.writer(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	r, err := m.replication(ctx, conn)
	if err != nil {
		return err
	}
	// Whatever happens, the replication does not outlive the watch over it.
	defer func() { err = errors.Join(err, m.stopReplication(ctx)) }()
	if err := m.startStream(ctx, conn, r); err != nil {
		return err
	}
	run := &running{ended: make(chan struct{})}
	m.mu.Lock()
	m.running = run
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.running = nil
		m.mu.Unlock()
		close(run.ended)
	}()
	b.Begin(move.PhaseStream, 0)
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	began := time.Now()
	met := false
	for { // the first report at once: the copy is complete
		s, err := r.status(ctx, conn)
		if err != nil {
			return err
		}
		if s == nil {
			return &move.Refused{Reason: "somebody removed the replication on the target", Fix: "run `dhow replicate` again, or `dhow finish`"}
		}
		if err := s.failed(m); err != nil {
			return err
		}
		note := s.unconnected()
		met = met || s.io == "Yes"
		if !met && note != "" && time.Since(began) > unreachedFor {
			return &move.Refused{Reason: note, Fix: "set the database's replication addresses, user and TLS in the estate so that the target reaches the source"}
		}
		if s.sql == "No" && s.io == "No" {
			return &move.Refused{Reason: "somebody stopped the replication on the target", Fix: "run `dhow replicate` again"}
		}
		p := b.Read(time.Now())
		p.LagSeconds, p.LagBytes, p.Note = max(0, s.lag), s.behind, note
		report(p)
		if err := lock.PingContext(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("keep the move's lock on the target: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// startStream starts the replication from where the target stands.
func (m *Mover) startStream(ctx context.Context, q querier, r replication) error {
	state, err := readStream(ctx, q, m.stream)
	if err != nil {
		return err
	}
	if state == nil || state.Phase != phaseStream {
		return fmt.Errorf("start the stream of database %s: it was not copied", m.cfg.Name)
	}
	if err := m.positioned(ctx, q, r, state); err != nil {
		return err
	}
	if right, err := r.filtered(ctx, q, nil); err != nil {
		return err
	} else if !right {
		if err := r.stop(ctx, q); err != nil {
			return err
		}
		if err := r.filter(ctx, q, nil); err != nil {
			return err
		}
	}
	return r.start(ctx, q, "")
}

// positioned points the replication to the stream's beginning, once; from then on
// the target's server itself keeps the position, together with the rows.
func (m *Mover) positioned(ctx context.Context, q querier, r replication, state *streamState) error {
	if state.Positioned {
		s, err := r.status(ctx, q)
		if err != nil {
			return err
		}
		if s == nil {
			return &move.Refused{Reason: "the replication on the target is gone, and with it the position that it had reached", Fix: "run `dhow finish --abandon` and begin the move again"}
		}
		if err := r.stop(ctx, q); err != nil {
			return err
		}
		return r.connect(ctx, q)
	}
	if err := r.point(ctx, q, state.Start); err != nil {
		return err
	}
	state.Positioned = true
	return writeStream(ctx, q, m.stream, *state)
}

// stopReplication stops the target's replication, with a session and a time of its own.
func (m *Mover) stopReplication(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	conn, err := m.session(ctx, target)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	r, err := m.replication(ctx, conn)
	if err != nil {
		return err
	}
	return r.stop(ctx, conn)
}
