package redis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"dhow/internal/move"
	"dhow/internal/move/redis/resp"
)

const (
	// batchesUnderway is how many transactions are on their way to the target at
	// once. While they are, the next one grows: so few changes are committed at
	// once, and many together.
	batchesUnderway = 2
	// batchBytes is how long a transaction gets, in bytes, unless the source's own
	// is longer; pendingBytes bounds what waits to be sent, and the reading of the
	// source stops there.
	batchBytes   = 256 << 10
	pendingBytes = 2 << 20
	// persistEvery is how often the position of a stream that brings no changes is written.
	persistEvery = 5 * time.Second
)

// applier sends changes to the target, in transactions that carry the position
// behind them. One goroutine adds, one sends, one reads the answers.
type applier struct {
	key  string // of the position
	lane *wire
	name string // of the target, for errors

	mu   sync.Mutex
	cond *sync.Cond
	err  error
	// data are commands that wait to be sent, of them so many.
	data     []byte
	commands int
	// opened says that MULTI is sent or waits; held that the source's own transaction is not complete.
	opened, held bool
	db           int // the lane's database behind data
	whole        bool
	batch        int // commands in the transaction so far, sent or not
	at           position
	dirty        bool // at is further than what is committed
	underway     int
	bytes        int // sent and not answered
	applied      position
	appliedAt    time.Time
	persisted    time.Time
	changes      int64 // commands applied
	spare        [][]byte
	// pauses are those who want nothing to be on its way, see still.
	pauses int
	// exactAfter is the end, in Unix milliseconds, behind which expiries are exact;
	// near remembers the keys of the others. See expiry.go.
	exactAfter int64
	near       *nearKeys
}

// sent is what the target has yet to answer.
type sent struct {
	data     []byte
	commands int
	closes   bool // the last is EXEC
	pos      position
	changes  int
}

func newApplier(key, name string, lane *wire, pos position) *applier {
	a := &applier{key: key, lane: lane, name: name, at: pos, applied: pos, persisted: time.Now(), appliedAt: time.Now(), exactAfter: math.MaxInt64}
	a.cond = sync.NewCond(&a.mu)
	return a
}

// fail ends the applier: whoever waits learns of err.
func (a *applier) fail(err error) {
	a.mu.Lock()
	if a.err == nil {
		a.err = err
	}
	a.cond.Broadcast()
	a.mu.Unlock()
}

// waitFor waits until is says so; the lock is held while it looks, and on return.
func (a *applier) waitFor(is func() bool) error {
	for a.err == nil && !is() {
		a.cond.Wait()
	}
	return a.err
}

// await waits until is says so, or ctx ends.
func (a *applier) await(ctx context.Context, is func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		a.mu.Lock()
		a.cond.Broadcast()
		a.mu.Unlock()
	})
	defer stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.waitFor(func() bool { return ctx.Err() != nil || is() })
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// begin makes room and opens a transaction in the database. The caller holds the
// lock, and calls end.
func (a *applier) begin(db int) error {
	if err := a.waitFor(func() bool { return len(a.data) < pendingBytes && (a.pauses == 0 || a.opened) }); err != nil {
		return err
	}
	if !a.opened {
		a.push("MULTI")
		a.opened = true
		a.batch = 0
	}
	a.use(db)
	return nil
}

func (a *applier) use(db int) {
	if a.db != db {
		a.push("SELECT", fmt.Sprint(db))
		a.db = db
	}
}

// push adds a command of our own.
func (a *applier) push(args ...string) {
	a.data = resp.Append(a.data, args...)
	a.commands++
}

// add adds a command of the source, as it came or as it was made anew.
func (a *applier) add(raw []byte) {
	a.data = append(a.data, raw...)
	a.commands++
	a.batch++
}

// reached moves the position: all before it is added. The caller holds the lock.
func (a *applier) reached(offset int64, db int, held bool) {
	a.held = held
	if !held {
		a.at.offset, a.at.db = offset, db
		a.dirty = true
	}
	if len(a.data) >= batchBytes || a.underway < batchesUnderway {
		a.cond.Broadcast()
	}
}

// ready says that there is something to send.
func (a *applier) ready() bool {
	switch {
	case a.underway >= batchesUnderway || a.bytes >= pendingBytes:
		return false
	case a.held:
		return len(a.data) >= batchBytes
	case a.opened:
		return true
	}
	// Nothing but a position; it is enough to write it now and then.
	return (a.dirty || a.whole) && a.underway == 0
}

// send sends what is ready, until the applier ends.
func (a *applier) send(underway chan<- sent) error {
	for {
		s, err := a.take()
		if err != nil {
			return err
		}
		if s.commands == 0 {
			continue
		}
		underway <- s // it holds as many as there can be
		if _, err := a.lane.Write(s.data); err != nil {
			return fmt.Errorf("send changes to the %s: %w", a.name, err)
		}
	}
}

// take takes what is ready.
func (a *applier) take() (sent, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.waitFor(a.ready); err != nil {
		return sent{}, err
	}
	if !a.held && !a.opened {
		if !a.whole && time.Since(a.persisted) < persistEvery {
			a.settleAt(a.at)
			return sent{}, nil
		}
		a.push("MULTI")
		a.opened = true
	}
	s := sent{closes: !a.held}
	if s.closes {
		a.use(0)
		fields := a.at.fields()
		if !a.whole {
			fields = fields[4:8] // offset and database
		}
		a.push(append([]string{"HSET", a.key}, fields...)...)
		a.push("EXEC")
		a.opened, a.whole, a.dirty = false, false, false
		s.pos, s.changes = a.at, a.batch
		a.batch = 0
		a.underway++
	}
	s.data, s.commands = a.data, a.commands
	a.bytes += len(s.data)
	a.data, a.commands = nil, 0
	if n := len(a.spare); n > 0 {
		a.data, a.spare = a.spare[n-1][:0], a.spare[:n-1]
	}
	a.cond.Broadcast()
	return s, nil
}

// settleAt notes that the target holds everything before the position.
func (a *applier) settleAt(pos position) {
	a.applied, a.appliedAt = pos, time.Now()
	if pos.offset == a.at.offset {
		a.dirty = false
	}
	a.cond.Broadcast()
}

// receive reads the target's answers, until the applier ends.
func (a *applier) receive(underway <-chan sent) error {
	answers := resp.NewAnswers(a.lane.br)
	for s := range underway {
		var queued string
		for i := range s.commands {
			if s.closes && i == s.commands-1 {
				break
			}
			answer, err := answers.Next()
			if err != nil {
				return fmt.Errorf("apply changes on the %s: %w", a.name, err)
			}
			if answer.Err != "" && queued == "" {
				queued = fmt.Sprintf("%s: %s", s.command(i), answer.Err)
			}
		}
		if queued != "" {
			return a.notTaken(queued)
		}
		if s.closes {
			answer, err := answers.Next()
			if err != nil {
				return fmt.Errorf("commit changes on the %s: %w", a.name, err)
			}
			if err := a.committed(s, answer); err != nil {
				return err
			}
		}
		a.done(s)
	}
	return nil
}

// notTaken makes an error of an answer that kept a transaction from being committed.
func (a *applier) notTaken(what string) error {
	reason := fmt.Sprintf("the %s does not take a change, %s", a.name, what)
	switch {
	case strings.Contains(what, "OOM "):
		return &move.Refused{Reason: reason, Fix: "raise maxmemory there; nothing is lost, the stream goes on where it stopped"}
	case strings.Contains(what, "NOPERM"):
		return &move.Refused{Reason: reason, Fix: "give our user all commands, keys and channels (+@all ~* &*)"}
	case strings.Contains(what, "unknown command"), strings.Contains(what, "unknown subcommand"):
		return &move.Refused{Reason: reason, Fix: "move to a server that is at least as new as the source, with the same modules"}
	case strings.Contains(what, "LOADING "), strings.Contains(what, "MASTERDOWN "):
		return fmt.Errorf("%s: %w", reason, serverError("LOADING"))
	}
	return errors.New(reason)
}

// committed looks at the answer of EXEC. An error in it is no refusal: the rest is done.
func (a *applier) committed(s sent, answer resp.Answer) error {
	switch {
	case answer.Err != "":
		return a.notTaken("EXEC: " + answer.Err)
	case answer.Nil:
		return fmt.Errorf("the %s did not commit a transaction of changes", a.name)
	}
	for _, e := range answer.Errors {
		name := s.inside(e.Index)
		if strings.HasPrefix(name, "EVAL") {
			continue // a script of Redis 6 that ends with an error did the same at the source
		}
		return &broken{fmt.Sprintf("the %s answered %q to %s, which the source had done", a.name, e.Err, name)}
	}
	return nil
}

// broken says that the target is no longer the same as the source was.
type broken struct{ reason string }

func (b *broken) Error() string { return b.reason }

func (a *applier) done(s sent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes -= len(s.data)
	if cap(s.data) <= pendingBytes {
		a.spare = append(a.spare, s.data)
	}
	if s.closes {
		a.underway--
		a.changes += int64(s.changes)
		a.persisted = time.Now()
		a.settleAt(s.pos)
	}
	a.cond.Broadcast()
}

// command names a command that was sent, without its keys and values.
func (s sent) command(i int) string {
	r := resp.NewReader(strings.NewReader(string(s.data)), 0)
	for ; ; i-- {
		c, err := r.Next()
		if err != nil {
			return "a command"
		}
		if i == 0 {
			return strings.ToUpper(string(c.Args[0]))
		}
	}
}

// inside names the command of a transaction to which EXEC answered with its i-th answer.
func (s sent) inside(i int) string {
	if s.command(0) != "MULTI" {
		return "a command of a long transaction"
	}
	return s.command(i + 1)
}
