package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

const (
	// batchRows and batchBytes are how much waits for a lane at most; the reader
	// then waits. What waits is applied in one transaction.
	batchRows  = 10000
	batchBytes = 4 << 20
	// handRows and handBytes bound what the reader keeps for a lane before it hands it over.
	handRows  = 200
	handBytes = 1 << 20
	// lingerRows and linger are what a lane waits for before it begins a
	// transaction: many small ones would take the servers' time from the large.
	// Nobody waits that long for a marker, see hurry.
	lingerRows = 4000
	linger     = 60 * time.Millisecond
	// A session's plans are made anew every plansEvery and after plansRows
	// inserts: a plan that was made for an empty table reads the whole of it.
	plansEvery = 5 * time.Second
	plansRows  = 10000
)

// change is one row's change, or a truncation, of a committed transaction.
type change struct {
	rel      *relation
	msg      rowMessage
	truncate *truncation
	lsn      LSN   // the transaction's commit
	ordinal  int64 // within the transaction, from 1
	bytes    int
}

type truncation struct {
	relations []*relation
	cascade   bool
	restart   bool
}

// place is a lane's position in the stream.
type place struct {
	lsn     LSN
	ordinal int64
}

func (p place) before(c *change) bool {
	return p.lsn < c.lsn || p.lsn == c.lsn && p.ordinal < c.ordinal
}

// lane applies the changes of its rows, in order, in transactions of its own
// that carry its position.
type lane struct {
	relay   *relay
	number  int
	session *applySession
	work    chan struct{} // there is reason to look at what waits
	room    chan struct{} // what waited was taken

	// the reader's own
	pending      []*change
	pendingBytes int

	// the lane's own
	planned  time.Time // when the session's plans were last thrown away
	inserted int       // rows since then

	mu           sync.Mutex
	waiting      []*change
	waitingBytes int
	hurry        bool // somebody waits for all that was given to the lane
	idle         *sync.Cond
	applied      place // durable on the target
	enqueued     place // last given to the lane
	failed       bool
}

func newLane(r *relay, number int, s *applySession, at place) *lane {
	l := &lane{relay: r, number: number, session: s, work: make(chan struct{}, 1), room: make(chan struct{}, 1), planned: time.Now(), applied: at, enqueued: at}
	l.idle = sync.NewCond(&l.mu)
	return l
}

// signal leaves a note in a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// add gives the lane a change; the reader calls it.
func (l *lane) add(ctx context.Context, c *change) error {
	l.mu.Lock()
	l.enqueued = place{c.lsn, c.ordinal}
	l.mu.Unlock()
	l.pending = append(l.pending, c)
	l.pendingBytes += c.bytes
	if len(l.pending) >= handRows || l.pendingBytes >= handBytes {
		return l.handOver(ctx)
	}
	return nil
}

// handOver lets the lane begin with what it was given so far.
func (l *lane) handOver(ctx context.Context) error {
	if len(l.pending) == 0 {
		return nil
	}
	var before int
	for {
		l.mu.Lock()
		before = len(l.waiting)
		if before == 0 || before+len(l.pending) <= batchRows && l.waitingBytes+l.pendingBytes <= batchBytes {
			break
		}
		l.mu.Unlock()
		select {
		case <-l.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.waiting = append(l.waiting, l.pending...)
	l.waitingBytes += l.pendingBytes
	wake := before == 0 || l.enough() || l.hurry
	l.mu.Unlock()
	if wake {
		signal(l.work)
	}
	clear(l.pending) // the changes are the lane's now
	l.pending, l.pendingBytes = l.pending[:0], 0
	return nil
}

// enough says that what waits is worth a transaction; the caller holds mu.
func (l *lane) enough() bool { return len(l.waiting) >= lingerRows || l.waitingBytes >= batchBytes/2 }

// take waits for changes, and a moment longer for more of them.
func (l *lane) take(ctx context.Context) ([]*change, error) {
	var patience <-chan time.Time
	patient := true
	for {
		l.mu.Lock()
		n := len(l.waiting)
		if l.enough() || n > 0 && (l.hurry || !patient) {
			batch := l.waiting
			l.waiting, l.waitingBytes = nil, 0
			l.mu.Unlock()
			signal(l.room)
			return batch, nil
		}
		l.mu.Unlock()
		if n > 0 && patience == nil {
			patience = time.After(linger)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-patience:
			patient = false
		case <-l.work:
		}
	}
}

// bound is the position behind which this lane needs nothing sent again.
func (l *lane) bound(reader LSN) LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.applied == l.enqueued {
		return reader
	}
	return l.applied.lsn
}

// hasten makes the lane begin with what it was given.
func (l *lane) hasten() {
	l.mu.Lock()
	l.hurry = true
	l.mu.Unlock()
	signal(l.work)
}

// wait returns once the lane has applied all it was given, or false when it has failed.
func (l *lane) wait() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.applied != l.enqueued && !l.failed {
		l.idle.Wait()
	}
	l.hurry = false
	return l.applied == l.enqueued
}

func (l *lane) fail() {
	l.mu.Lock()
	l.failed = true
	l.idle.Broadcast()
	l.mu.Unlock()
}

// run applies until ctx ends.
func (l *lane) run(ctx context.Context) error {
	defer l.fail()
	for {
		batch, err := l.take(ctx)
		if err != nil {
			return err
		}
		if err := l.apply(ctx, batch); err != nil {
			return err
		}
	}
}

// apply commits a batch together with the lane's new position.
func (l *lane) apply(ctx context.Context, batch []*change) error {
	last := batch[len(batch)-1]
	at := place{last.lsn, last.ordinal}
	settled := l.relay.settledAt()
	var err error
	if batch[0].lsn > settled {
		ops := netEffect(batch)
		for _, o := range ops {
			l.inserted += o.inserts
		}
		err = l.transaction(ctx, at, ops, nil)
	} else {
		err = errOneByOne
	}
	// A set of rows can meet a constraint that the source's order did not meet
	// (values that swap), and a row that is not as it should be is only named
	// when it is alone: then each change goes by itself, in the source's order.
	if retryOneByOne(err) {
		l.inserted += len(batch)
		err = l.transaction(ctx, at, nil, func() error { return l.oneByOne(ctx, batch, settled) })
	}
	if err != nil {
		return fmt.Errorf("apply changes at %s: %w", at.lsn, err)
	}
	var bytes int64
	for _, c := range batch {
		bytes += int64(c.bytes)
	}
	l.relay.count(int64(len(batch)), bytes)
	l.mu.Lock()
	l.applied = at
	if l.applied == l.enqueued {
		l.idle.Broadcast()
	}
	l.mu.Unlock()
	return nil
}

var errOneByOne = errors.New("apply one by one")

func retryOneByOne(err error) bool {
	var wrong *mismatch
	var pg *pgconn.PgError
	return errors.Is(err, errOneByOne) || errors.As(err, &wrong) ||
		errors.As(err, &pg) && (pg.Code == uniqueViolation || pg.Code == exclusionViolation || pg.Code == cardinalityViolation)
}

const (
	uniqueViolation      = "23505"
	exclusionViolation   = "23P01"
	cardinalityViolation = "21000"
)

// transaction runs ops, and then do where there is one, between BEGIN and the
// commit of the lane's position.
func (l *lane) transaction(ctx context.Context, at place, ops []op, do func() error) error {
	s := l.session
	// synchronous_commit is local in these sessions: what is committed here is on
	// the target's disk before the source may forget it.
	begin := []op{{sql: "BEGIN", expect: -1}, {sql: "SET CONSTRAINTS ALL DEFERRED", expect: -1}}
	if l.inserted >= plansRows || time.Since(l.planned) > plansEvery {
		begin = append(begin, op{sql: "DISCARD PLANS", expect: -1})
		l.inserted, l.planned = 0, time.Now()
	}
	err := s.run(ctx, append(begin, ops...))
	if err == nil && do != nil {
		err = do()
	}
	if err == nil {
		err = s.run(ctx, []op{
			{sql: `INSERT INTO dhow.position (stream, lane, commit_lsn, ordinal) VALUES ($1::text, $2::text::int, $3::text::pg_lsn, $4::text::bigint)
				ON CONFLICT (stream, lane) DO UPDATE SET commit_lsn = excluded.commit_lsn, ordinal = excluded.ordinal`,
				params: [][]byte{[]byte(l.relay.name), fmt.Append(nil, l.number), []byte(at.lsn.String()), fmt.Append(nil, at.ordinal)}, expect: 1},
			{sql: "COMMIT", expect: -1},
		})
	}
	if err != nil && !s.conn.IsClosed() {
		last, cancel := parting(ctx)
		defer cancel()
		_ = s.run(last, []op{{sql: "ROLLBACK", expect: -1}}) // a broken session is replaced
	}
	return err
}

// oneByOne applies changes in order, each by a statement of its own.
func (l *lane) oneByOne(ctx context.Context, batch []*change, settled LSN) error {
	for _, c := range batch {
		var err error
		switch {
		case l.relay.mending:
			err = l.applyOrLeave(ctx, c)
		case c.lsn <= settled:
			err = l.applyAgain(ctx, c)
		default:
			err = l.session.run(ctx, single(c))
		}
		if err != nil {
			return explain(c, err)
		}
	}
	return nil
}

// explain makes of a failed change an error that a person can act upon.
func explain(c *change, err error) error {
	if c.truncate != nil {
		return fmt.Errorf("truncate: %w", err)
	}
	of := c.msg.old
	if of == nil {
		of = c.msg.new
	}
	var wrong *mismatch
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &wrong):
		return &move.Refused{Reason: fmt.Sprintf("table %s: the row %s to be %s is not on the target: somebody else wrote there", c.rel.table.Name, c.rel.describe(of), verbs[c.msg.kind]),
			Fix: "stop whoever writes to the target, mend it with `dhow verify --repair`, then start `dhow replicate` again"}
	case errors.As(err, &pg) && pg.Code == uniqueViolation && c.msg.kind == 'I':
		return &collision{table: c.rel.table.Name, row: c.rel.describe(c.msg.new), constraint: pg.ConstraintName}
	}
	return fmt.Errorf("table %s, row %s: %w", c.rel.table.Name, c.rel.describe(of), withoutDetail(err))
}

var verbs = map[byte]string{'I': "inserted", 'U': "updated", 'D': "deleted"}

// collision is an insert that met a row of the target. Another lane may be about
// to remove it; when it stays, somebody else wrote it.
type collision struct {
	table           Name
	row, constraint string
}

func (e *collision) Error() string {
	return fmt.Sprintf("table %s: the row %s to be inserted is on the target already (constraint %s): somebody else wrote there: stop them, mend it with `dhow verify --repair`, then start `dhow replicate` again", e.table, e.row, e.constraint)
}

// withoutDetail drops what a server says beside its message: the detail holds
// rows' values, which must not reach a log.
func withoutDetail(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	bare := &pgconn.PgError{Severity: pg.Severity, Code: pg.Code, Message: pg.Message, SchemaName: pg.SchemaName, TableName: pg.TableName, ColumnName: pg.ColumnName, ConstraintName: pg.ConstraintName}
	return bare
}

// readPlaces reads the lanes' positions.
func readPlaces(ctx context.Context, conn *pgx.Conn, stream string, lanes int, start LSN) ([]place, error) {
	places := make([]place, lanes)
	for i := range places {
		places[i] = place{lsn: start} // what commits at start or behind it is not in the copy
	}
	rows, err := conn.Query(ctx, "SELECT lane, commit_lsn::text, ordinal FROM dhow.position WHERE stream = $1", stream)
	if err != nil {
		return nil, fmt.Errorf("read the stream's positions: %w", err)
	}
	var n int
	var p place
	_, err = pgx.ForEachRow(rows, []any{&n, &p.lsn, &p.ordinal}, func() error {
		if n < 0 || n >= lanes {
			return fmt.Errorf("lane %d of %d has a position", n, lanes)
		}
		if p.lsn >= places[n].lsn {
			places[n] = p
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the stream's positions: %w", err)
	}
	return places, nil
}
