package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

const (
	// reconnectFirst and reconnectMost bound the pause before the next try after a
	// lost connection; it doubles, with jitter.
	reconnectFirst = 50 * time.Millisecond
	reconnectMost  = 5 * time.Second
	// reconnectFor bounds how long a stream that makes no progress is tried again.
	reconnectFor = 10 * time.Minute
	// reconnectWell is how long a session that brought nothing lasts when all is well.
	reconnectWell = time.Minute
	// retainedEvery is how often the source is asked how much WAL it keeps for us.
	retainedEvery = 2 * time.Second
)

// relay is a move's change stream: a reader that receives committed changes and
// lanes that apply them. It keeps no state of its own between two runs: its
// positions are on the target.
type relay struct {
	m    *Mover
	name string
	log  *slog.Logger
	slot string
	n    int // lanes
	// mending: the stream runs for a repair. It applies leniently without an end,
	// and what stands in its way is left out; the repair brings it.
	mending bool
	// until is the marker at which the stream ends, with nothing applied that lies
	// behind it; 0 for none.
	until int64

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when marker or done changes
	marker   int64         // the highest marker that is applied
	start    LSN
	settled  LSN
	received LSN // the end of what the source has written, as last heard
	flushed  LSN // what the target holds durably
	behind   time.Time
	rows     int64
	bytes    int64
	retained int64
	leftOut  int64 // changes that a mending stream left out
	rate     move.Meter
}

func (m *Mover) newRelay(_ context.Context, s streamState) (*relay, error) {
	if s.Lanes <= 0 {
		return nil, fmt.Errorf("stream %s has %d lanes", m.stream, s.Lanes)
	}
	return &relay{m: m, name: m.stream, slot: s.Slot, n: s.Lanes, start: s.Start, settled: s.Settled, log: m.log.With("stream", m.stream), changed: make(chan struct{})}, nil
}

// errArrived ends a stream that was to run until a marker.
var errArrived = errors.New("the stream has arrived at its marker")

// run streams until ctx ends, its last marker has come, or something stands in the way that trying again
// does not mend. A lost connection, or a server that restarts, is waited for.
func (r *relay) run(ctx context.Context) error {
	pauses, since := move.Pauses(reconnectFirst, reconnectMost), time.Now()
	for {
		began, opened := r.progressed(), time.Now()
		err := r.session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var refused *move.Refused
		if errors.As(err, &refused) || errors.Is(err, errArrived) {
			return err
		}
		if r.progressed() > began || time.Since(opened) > reconnectWell { // nothing comes from a source that rests
			pauses.Reset()
			since = time.Now()
		}
		if hopeless(err, time.Since(since)) {
			return fmt.Errorf("the change stream of database %s can not go on: %w", r.m.cfg.Name, err)
		}
		pause := pauses.NextBackOff()
		r.log.Warn("the change stream was interrupted and begins again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// internalError is PostgreSQL's code for what it did not expect of itself.
const internalError = "XX000"

// hopeless says whether a stream that was interrupted is not to be tried again, when it
// has made no progress for a time. A decoding that begins again begins with another
// snapshot of the catalog: PostgreSQL has at times not found a table by its file ("could
// not map filenode"), and found it the next time.
func hopeless(err error, idle time.Duration) bool {
	var met *collision
	var pg *pgconn.PgError
	if errors.As(err, &met) || errors.As(err, &pg) && pg.Code == internalError {
		return idle > reconnectMost
	}
	return permanent(err) || idle > reconnectFor
}

// permanent says whether a server's answer will be the same the next time.
func permanent(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code[:2] {
	case "08", "57", "53", "40", "55", "58", "23": // connection, shutdown, resources, rollback, in use, system, another lane's turn
		return false
	}
	return true
}

func (r *relay) progressed() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rows + r.marker
}

// session runs one connection to each side until one of them fails.
func (r *relay) session(ctx context.Context) error {
	in, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer in.close(ctx)
	g, gctx := errgroup.WithContext(ctx)
	for _, l := range in.lanes {
		g.Go(func() error { return l.run(gctx) })
	}
	g.Go(func() error { return in.read(gctx) })
	g.Go(func() error { return in.answer(gctx) })
	g.Go(func() error { return r.watchRetained(gctx) })
	g.Go(func() error {
		<-gctx.Done()
		return in.interrupt() // the reader waits for the network
	})
	return g.Wait()
}

func (r *relay) settledAt() LSN {
	if r.mending {
		return ^LSN(0)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled
}

// leaveOut counts a change that a mending stream leaves to the repair.
func (r *relay) leaveOut() {
	r.mu.Lock()
	r.leftOut++
	r.mu.Unlock()
}

// left is how many changes were left to the repair.
func (r *relay) left() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leftOut
}

func (r *relay) settleBehind(at LSN) {
	r.mu.Lock()
	r.settled = max(r.settled, at)
	r.mu.Unlock()
}

func (r *relay) count(rows, bytes int64) {
	r.mu.Lock()
	r.rows += rows
	r.bytes += bytes
	r.rate.Add(time.Now(), rows, bytes)
	r.mu.Unlock()
}

// arrived notes that everything up to a position, and up to a marker, is applied.
func (r *relay) arrived(flushed LSN, marker int64) {
	r.mu.Lock()
	r.flushed = max(r.flushed, flushed)
	if marker > r.marker {
		r.marker = marker
		close(r.changed)
		r.changed = make(chan struct{})
	}
	r.mu.Unlock()
}

// caughtUp returns once marker n, and everything before it, is applied.
func (r *relay) caughtUp(ctx context.Context, n int64) error {
	for {
		r.mu.Lock()
		have, changed := r.marker, r.changed
		r.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// lag is how many bytes of the source's log the target is behind; the caller holds mu.
func (r *relay) lag() int64 {
	if r.flushed == 0 { // nothing was heard of the target yet
		return 0
	}
	return max(0, int64(r.received)-int64(r.flushed))
}

// progress reports the stream.
func (r *relay) progress() move.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := move.Progress{Rows: r.rows, Bytes: r.bytes, Retained: r.retained, LagBytes: r.lag()}
	p.RowsPerSecond, p.BytesPerSecond = r.rate.PerSecond(time.Now())
	if !r.behind.IsZero() {
		p.LagSeconds = time.Since(r.behind).Seconds()
	}
	if r.retained > r.m.limits.WALWarn {
		p.Note = fmt.Sprintf("the source keeps %d MiB of log for slot %s", r.retained>>20, r.slot)
	}
	return p
}

// watchRetained asks the source how much log our slot makes it keep, and stops
// the stream before that becomes the source's outage.
func (r *relay) watchRetained(ctx context.Context) error {
	conn, err := r.m.source(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	tick := time.NewTicker(retainedEvery)
	defer tick.Stop()
	for {
		var retained int64
		var status string
		err := conn.QueryRow(ctx, `SELECT coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, coalesce(wal_status, '') FROM pg_replication_slots WHERE slot_name = $1`, r.slot).Scan(&retained, &status)
		if err != nil {
			return fmt.Errorf("look at slot %s on the source: %w", r.slot, err)
		}
		r.mu.Lock()
		r.retained = retained
		r.mu.Unlock()
		if status == "lost" {
			return &move.Refused{Reason: fmt.Sprintf("the source has thrown away log that slot %s still needed (max_slot_wal_keep_size): the stream can not go on without a gap", r.slot), Fix: "run `dhow finish --abandon` and begin the move again with a larger max_slot_wal_keep_size"}
		}
		if retained > r.m.limits.WALStop {
			return &move.Refused{Reason: fmt.Sprintf("the source keeps %d MiB of log for slot %s, more than limits.wal_stop allows; the stream stopped, the slot stays", retained>>20, r.slot),
				Fix: fmt.Sprintf("find out why the target is slow and raise limits.wal_stop, or give the move up and free the log with SELECT pg_drop_replication_slot(%s)", quote(r.slot))}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
