package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"dhow/internal/move"
)

const (
	// catchUpWait is how long one wait for a marker lasts before the stream is looked
	// at again, in seconds.
	catchUpWait = 0.25
	// What the steps under the fence take, measured on a small server; they only
	// serve the prediction.
	costPerEvent, costPerSequence = 2 * time.Millisecond, 2 * time.Millisecond
	// roundTrips are the statements and connections, in round trips, that fencing,
	// sealing and opening take.
	roundTrips = 40
)

// errNotRunning says that there is no stream to wait for.
var errNotRunning = errors.New("the change stream does not run: start `dhow replicate` and wait until it streams")

// CatchUp returns once the running stream has applied the marker.
func (m *Mover) CatchUp(ctx context.Context, mk move.Marker) error {
	m.mu.Lock()
	run := m.running
	m.mu.Unlock()
	if run == nil {
		return errNotRunning
	}
	conn, err := m.take(ctx, target, ordinary)
	if err != nil {
		return err
	}
	caughtUp := false
	defer func() {
		if !caughtUp { // it may be in the middle of a wait
			hangUp(conn.Conn)
			return
		}
		m.putBack(conn)
	}()
	for {
		var n sql.NullInt64
		if err := conn.QueryRowContext(ctx, "SELECT MAX(n) FROM dhow.marker WHERE stream = ?", m.stream).Scan(&n); err != nil {
			return fmt.Errorf("look for marker %d on the target: %w", mk.N, err)
		}
		if n.Valid && n.Int64 >= mk.N {
			caughtUp = true
			return nil
		}
		select {
		case <-run.ended:
			return errNotRunning
		default:
		}
		// It returns when the target has applied that position, which wakes us at once.
		var waited sql.NullInt64
		if err := conn.QueryRowContext(ctx, "SELECT MASTER_GTID_WAIT(?, ?)", mk.Position, catchUpWait).Scan(&waited); err != nil {
			return fmt.Errorf("wait until the target has applied marker %d: %w", mk.N, err)
		}
		if waited.Valid && waited.Int64 == 0 {
			select { // the position is there and the row not yet, or no row of this stream's
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// Rehearse sends a marker through the stream and estimates the cost of sealing.
func (m *Mover) Rehearse(ctx context.Context) (move.Rehearsal, error) {
	var r move.Rehearsal
	w, err := m.take(ctx, source, ordinary) // as the fence does
	if err != nil {
		return r, err
	}
	if r, err = m.rehearse(ctx, w); err != nil {
		hangUp(w.Conn)
		return r, err
	}
	m.putBack(w)
	return r, nil
}

func (m *Mover) rehearse(ctx context.Context, w *worker) (move.Rehearsal, error) {
	var r move.Rehearsal
	began := time.Now()
	mk, err := m.mark(ctx, w)
	if err != nil {
		return r, err
	}
	if err := m.CatchUp(ctx, mk); err != nil {
		return r, err
	}
	r.Lag = time.Since(began)
	_, sequences, err := m.tableNames(ctx, w)
	if err != nil {
		return r, err
	}
	events, err := m.enabledEvents(ctx, w)
	if err != nil {
		return r, err
	}
	began = time.Now()
	if _, err := w.ExecContext(ctx, "DO 1"); err != nil {
		return r, fmt.Errorf("time a round trip to the source: %w", err)
	}
	r.Seal = roundTrips*time.Since(began) + time.Duration(len(events))*costPerEvent + time.Duration(len(sequences))*costPerSequence
	return r, nil
}
