package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
	"dhow/internal/move/redis/resp"
)

// running is the change stream at work.
type running struct {
	m     *Mover
	psync *psync
	to    *session
	a     *applier
	scan  *scanning // in place of psync and a, where the source takes no replica

	acks sync.Mutex // one writer at a time on psync

	passes sync.Mutex // one approach or retreat at a time
	until  time.Time  // the end of the approach; zero: there is none

	source struct {
		sync.Mutex
		s       *session
		offset  int64 // the end of the source's log as it last said
		history []mark
	}
	meter meter
}

// mark says when the source's log was how long.
type mark struct {
	at     time.Time
	offset int64
}

// follow runs the change stream until ctx ends or it fails.
func (m *Mover) follow(ctx context.Context, p *psync, to *session, lane *wire, pos position, report func(move.Progress)) error {
	r := &running{m: m, psync: p, to: to, a: newApplier(stateKey(m.stream), m.named(target), lane, pos)}
	r.source.offset = pos.offset
	defer r.letGo()
	g, gctx := errgroup.WithContext(ctx)
	defer p.closeWith(gctx)()
	defer lane.closeWith(gctx)()
	context.AfterFunc(gctx, func() { r.a.fail(context.Cause(gctx)) })
	underway := make(chan sent, 1<<10)
	g.Go(func() error {
		defer close(underway)
		return r.a.send(underway)
	})
	g.Go(func() error { return r.a.receive(underway) })
	g.Go(func() error { return r.read(gctx) })
	g.Go(func() error { return r.acknowledge(gctx) })
	g.Go(func() error { return r.measure(gctx, report) })
	m.mu.Lock()
	m.running = r
	m.mu.Unlock()
	err := g.Wait()
	m.mu.Lock()
	m.running = nil
	m.mu.Unlock()
	var b *broken
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &b):
		return r.breakOff(ctx, b)
	}
	return err
}

// letGo ends the session that questions are asked in.
func (r *running) letGo() {
	r.source.Lock()
	defer r.source.Unlock()
	r.source.s.hangUp()
}

// breakOff notes at the target that the stream must not go on.
func (r *running) breakOff(ctx context.Context, b *broken) error {
	last, cancel := parting(ctx)
	defer cancel()
	if err := r.to.HSet(last, stateKey(r.m.stream), fieldBroken, b.reason).Err(); err != nil {
		return errors.Join(b, r.to.fails("note it", err))
	}
	return &move.Refused{
		Reason: fmt.Sprintf("the stream of database %s has stopped for good: %s", r.m.cfg.Name, b.reason),
		Fix:    "find out who else writes to the target; then clean up with `dhow finish`, empty the target and begin again",
	}
}

// read passes the source's commands to the applier, until the connection ends.
func (r *running) read(ctx context.Context) error {
	commands := r.psync.commands()
	t := &translation{m: r.m, a: r.a, to: r.to, db: r.a.at.db, missed: r.a.at.missed}
	if t.missed != nil {
		t.cautious = t.missed.last
	}
	defer func() { t.from.hangUp() }()
	for {
		c, err := commands.Next()
		if err != nil {
			return fmt.Errorf("read the stream of changes from the %s: %w", r.m.named(source), err)
		}
		ack, err := t.pass(ctx, c, commands.Offset())
		if err != nil {
			return err
		}
		if ack {
			if err := r.sendAck(); err != nil {
				return err
			}
		}
	}
}

// acknowledge tells the source regularly how far the target is.
func (r *running) acknowledge(ctx context.Context) error {
	tick := time.NewTicker(ackEvery)
	defer tick.Stop()
	for {
		if err := r.sendAck(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (r *running) sendAck() error {
	r.a.mu.Lock()
	offset := r.a.applied.offset
	r.a.mu.Unlock()
	r.acks.Lock()
	defer r.acks.Unlock()
	if err := r.psync.ack(offset); err != nil {
		return fmt.Errorf("tell the %s how far the stream is: %w", r.m.named(source), err)
	}
	return nil
}

// reaches waits until the target holds everything before the offset.
func (r *running) reaches(ctx context.Context, offset int64) error {
	if r.scan != nil {
		return r.scan.barrier(ctx)
	}
	return r.a.await(ctx, func() bool { return r.a.applied.offset >= offset })
}

// sourceOffset asks how long the source's log is.
func (r *running) sourceOffset(ctx context.Context) (int64, error) {
	r.source.Lock()
	defer r.source.Unlock()
	var err error
	if r.source.s == nil {
		if r.source.s, err = r.m.dial(ctx, source); err != nil {
			return 0, err
		}
	}
	offset, err := masterOffset(ctx, r.source.s)
	if err != nil {
		r.source.s.hangUp()
		r.source.s = nil
		return 0, err
	}
	r.source.offset = offset
	r.source.history = append(r.source.history, mark{time.Now(), offset})
	return offset, nil
}

// inTime retreats before an approach is over.
func (r *running) inTime(ctx context.Context) error {
	r.passes.Lock()
	due := !r.until.IsZero() && time.Until(r.until) < retreatBefore
	r.passes.Unlock()
	if !due {
		return nil
	}
	return r.retreat(ctx)
}

// measure reports, until ctx ends. A source that does not answer a question is no
// failure: its stream will tell.
func (r *running) measure(ctx context.Context, report func(move.Progress)) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		if _, err := r.sourceOffset(ctx); err != nil && ctx.Err() == nil {
			r.m.log.Debug("the source's position is not known", "error", err)
		}
		if err := r.inTime(ctx); err != nil {
			return err
		}
		report(r.progress())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (r *running) progress() move.Progress {
	r.a.mu.Lock()
	applied, changes := r.a.applied.offset, r.a.changes
	r.a.mu.Unlock()
	now := time.Now()
	p := move.Progress{Database: r.m.cfg.Name, Phase: move.PhaseStream, At: now, Rows: changes, RowsTotal: changes, Bytes: applied}
	r.source.Lock()
	p.LagBytes = max(r.source.offset-applied, 0)
	p.BytesTotal = max(r.source.offset, applied)
	h := r.source.history
	for len(h) > 1 && h[1].offset <= applied {
		h = h[1:]
	}
	if p.LagBytes > 0 && len(h) > 0 {
		p.LagSeconds = now.Sub(h[0].at).Seconds()
	}
	const most = 1 << 12 // half an hour of marks; an older one is as good
	if len(h) > most {
		h = append(h[:1], h[len(h)-most/2:]...)
	}
	r.source.history = h
	r.source.Unlock()
	p.RowsPerSecond, p.BytesPerSecond = r.meter.rates(changes, applied)
	if p.LagBytes > 0 && p.BytesPerSecond > 0 {
		p.ETA = time.Duration(float64(p.LagBytes) / p.BytesPerSecond * float64(time.Second))
	}
	return p
}

// translation makes of the source's commands what the target has to do.
type translation struct {
	m  *Mover
	a  *applier
	to *session
	db int  // of the source's stream
	tx bool // within a transaction of the source
	// made is a command that was made anew.
	made []byte

	// missed are keys that were fetched, see refetch.go; the rest serves that alone.
	missed   *missed
	cautious int64
	from     *session
	table    map[string]*redis.CommandInfo
}

// pass passes a command on; offset is the position behind it. Ack says that the
// source wants to hear how far we are.
func (t *translation) pass(ctx context.Context, c resp.Command, offset int64) (ack bool, err error) {
	var name [24]byte
	what := upper(name[:0], c.Args[0])
	a := t.a
	if t.missed != nil {
		if err := t.past(offset); err != nil {
			return false, err
		}
	}
	if t.missed != nil && isData(what) {
		over, err := t.overtaken(ctx, what, c, offset)
		if err != nil {
			return false, err
		}
		if over {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.reached(offset, t.db, t.tx)
			return false, nil
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch string(what) {
	case "PING":
	case "REPLCONF":
		ack = true
	case "SELECT":
		if len(c.Args) != 2 {
			return false, errStrange(what)
		}
		if t.db, err = strconv.Atoi(string(c.Args[1])); err != nil {
			return false, errStrange(what)
		}
	case "MULTI":
		t.tx = true
	case "EXEC":
		t.tx = false
	case "PUBLISH", "SPUBLISH":
		// Nobody listens at a target that is closed, and a message is no data.
	case "FLUSHALL", "FLUSHDB", "SWAPDB":
		err = t.keepOurs(ctx, string(what), c)
	default:
		if len(c.Args) > 1 && isOurs(c.Args[1]) {
			break
		}
		if err = a.begin(t.db); err != nil {
			return false, err
		}
		raw, err := t.expiring(what, c)
		if err != nil {
			return false, err
		}
		t.moved(what, c)
		a.add(raw)
	}
	if err == nil {
		a.reached(offset, t.db, t.tx)
	}
	return ack, err
}

// isData says that a command may be about keys.
func isData(what []byte) bool {
	switch string(what) {
	case "PING", "REPLCONF", "SELECT", "MULTI", "EXEC", "PUBLISH", "SPUBLISH", "SCRIPT", "FUNCTION":
		return false
	}
	return true
}

func isOurs(key []byte) bool {
	return len(key) > len(ourPrefix) && string(key[:len(ourPrefix)]) == ourPrefix
}

func errStrange(what []byte) error {
	return fmt.Errorf("the source sends %s in a form that is not known", what)
}

// upper is a command's name as the tables have it; a longer one is cut.
func upper(dst, name []byte) []byte {
	for _, b := range name[:min(len(name), cap(dst))] {
		if b >= 'a' && b <= 'z' {
			b -= 'a' - 'A'
		}
		dst = append(dst, b)
	}
	return dst
}

// keepOurs passes on a command that removes or moves all keys of a database, and
// puts our own back in the same transaction.
func (t *translation) keepOurs(ctx context.Context, what string, c resp.Command) error {
	a := t.a
	t.moved([]byte(what), c)
	if err := a.begin(t.db); err != nil {
		return err
	}
	home := 0 // where our keys are behind the command
	switch what {
	case "FLUSHALL":
	case "FLUSHDB":
		if t.db != 0 {
			home = -1
		}
	default:
		if len(c.Args) != 3 {
			return errStrange([]byte(what))
		}
		x, errX := strconv.Atoi(string(c.Args[1]))
		y, errY := strconv.Atoi(string(c.Args[2]))
		if errX != nil || errY != nil {
			return errStrange([]byte(what))
		}
		switch {
		case x == y || x != 0 && y != 0:
			home = -1
		default:
			home = x + y
		}
	}
	a.add(c.Raw)
	if home < 0 {
		return nil
	}
	if home > 0 {
		a.use(home)
		a.push(append([]string{"DEL"}, t.m.ownKeys()...)...)
	}
	a.use(0)
	for _, key := range t.m.ownKeys() {
		if key == a.key {
			continue
		}
		// Nobody else writes them while the stream runs, and nothing that waits in this transaction does.
		payload, err := t.to.Dump(ctx, key).Result()
		switch {
		case err == nil:
			a.push("RESTORE", key, "0", payload, "REPLACE")
		case !isNil(err):
			return t.to.fails("keep our own keys", err)
		}
	}
	a.whole = true
	return nil
}
