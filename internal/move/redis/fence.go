package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

// The fence has two forms.
//
// The first is CLIENT PAUSE WRITE, which holds back writes by every user, of
// scripts and transactions too, and suspends expiry and eviction. It is taken in
// one transaction with the log's position, and ends by itself soon after this
// process died, because the process renews it all the time. Whether it held
// without a gap is known twice over: by its time, and by the log, in which
// nothing but the server's own heartbeat may have been added.
//
// The second is durable: the users' rights, see acl.go. They are taken away while
// the pause holds, so that there is no instant at which a write could slip through.

const (
	// pauseTime is how long the server holds writes back by itself: how long the
	// application waits when this process dies with the fence up.
	pauseTime = 5 * time.Second
	// renewals is how often a pause is renewed within its time.
	renewals = 3
	// heartbeat is what a primary writes into its log by itself, in bytes: a PING.
	heartbeat = int64(len("*1\r\n$4\r\nPING\r\n"))
	// heartbeatLeast is the shortest time between two of them that can be set.
	heartbeatLeast = time.Second
)

// logPlace is a place in a server's log of commands.
type logPlace struct {
	replid string
	offset int64
}

func (l logPlace) String() string { return fmt.Sprintf("%s:%d", l.replid, l.offset) }

// placeOf reads the place from INFO replication.
func placeOf(info map[string]string) (logPlace, error) {
	l := logPlace{replid: info["master_replid"]}
	var err error
	if l.offset, err = strconv.ParseInt(info["master_repl_offset"], 10, 64); err != nil || l.replid == "" {
		return l, errors.New("INFO replication names no position")
	}
	return l, nil
}

// fence is a pause that is renewed.
type fence struct {
	s      *session
	marked logPlace
	since  time.Time
	lasts  time.Duration
	stop   context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	until  time.Time // the pause holds at least until then
	broken error
}

// pause begins or extends the pause, and reads the log's position in the same
// transaction. The server's time counts from when it ran, so no earlier than sent.
func (f *fence) pause(ctx context.Context) (logPlace, error) {
	sent := time.Now()
	var info *redis.StringCmd
	answers, err := f.s.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Do(ctx, "CLIENT", "PAUSE", f.lasts.Milliseconds(), "WRITE")
		info = p.Info(ctx, "replication")
		return nil
	})
	if err = firstError(answers, err); err != nil {
		return logPlace{}, f.s.fails("pause writes", err)
	}
	at, err := placeOf(parseInfo(info.Val()))
	if err != nil {
		return at, f.s.fails("pause writes", err)
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.until.IsZero() && now.After(f.until) {
		f.broken = fmt.Errorf("the pause of writes was renewed %s too late", now.Sub(f.until).Round(time.Millisecond))
		return at, f.broken
	}
	f.until = sent.Add(f.lasts)
	return at, nil
}

// renew extends the pause until the fence is taken down.
func (f *fence) renew(ctx context.Context) {
	defer close(f.done)
	tick := time.NewTicker(f.lasts / renewals)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		at, err := f.pause(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = f.untouched(at)
		}
		if err != nil {
			f.mu.Lock()
			f.broken = err
			f.mu.Unlock()
			return
		}
	}
}

// untouched says whether the log got nothing but heartbeats since the marker.
func (f *fence) untouched(at logPlace) error {
	if at.replid != f.marked.replid {
		return errors.New("the source began another history: it was restarted or failed over")
	}
	more := at.offset - f.marked.offset
	if beats := int64(time.Since(f.since)/heartbeatLeast) + 1; more%heartbeat != 0 || more < 0 || more/heartbeat > beats {
		return errors.New("somebody wrote to the source though writes are paused: the pause was ended by another client")
	}
	return nil
}

// holds says whether the pause has held without a gap until now.
func (f *fence) holds() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.broken
	if late := time.Since(f.until); err == nil && late >= 0 {
		err = fmt.Errorf("the pause of writes ended %s ago, before it was renewed", late.Round(time.Millisecond))
	}
	if err != nil {
		return fmt.Errorf("the fence of the %s is broken: %w", f.s.side, err)
	}
	return nil
}

// start begins the renewals; end stops them.
func (f *fence) start(ctx context.Context) {
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop, f.done = stop, make(chan struct{})
	go f.renew(renewing)
}

// restart goes on renewing a pause that was begun anew behind a write of our own.
func (f *fence) restart(ctx context.Context, at logPlace, sent time.Time) {
	f.mu.Lock()
	f.marked, f.since, f.until = at, sent, sent.Add(f.lasts)
	f.mu.Unlock()
	f.start(ctx)
}

// end stops the renewals; the pause itself goes on.
func (f *fence) end() {
	f.stop()
	<-f.done
}

// Fence pauses writes at the source and returns the position behind which
// nothing was written. The pause ends by itself when this process dies.
func (m *Mover) Fence(ctx context.Context) (move.Marker, error) {
	var mk move.Marker
	m.mu.Lock()
	held := m.fence
	m.mu.Unlock()
	if held != nil {
		return mk, errors.New("the source is fenced already: unfence it first")
	}
	s, err := m.take(ctx, source)
	if err != nil {
		return mk, err
	}
	f := &fence{s: s, lasts: m.pauseTime}
	closed, err := m.hasShadows(ctx, s)
	if err == nil && closed {
		err = fmt.Errorf("database %s refuses writes already: a cutover got as far as that and was not finished: run `dhow cutover` or `dhow rollback` again", m.cfg.Name)
	}
	if err != nil {
		s.hangUp()
		return mk, err
	}
	f.since = time.Now()
	if f.marked, err = f.pause(ctx); err != nil {
		last, cancel := parting(ctx)
		defer cancel()
		_ = unpause(last, s) // it ends by itself as well
		s.hangUp()
		return mk, err
	}
	f.start(ctx)
	m.mu.Lock()
	m.fence = f
	m.mu.Unlock()
	return move.Marker{N: f.marked.offset, Position: f.marked.String()}, nil
}

// unpause lets paused writes go on.
func unpause(ctx context.Context, s *session) error {
	if err := s.Do(ctx, "CLIENT", "UNPAUSE").Err(); err != nil {
		return s.fails("end the pause of writes", err)
	}
	return nil
}

// dropFence takes the pause down, if it is held.
func (m *Mover) dropFence(ctx context.Context) {
	m.mu.Lock()
	f := m.fence
	m.fence = nil
	m.mu.Unlock()
	if f == nil {
		return
	}
	f.end()
	last, cancel := parting(ctx)
	defer cancel()
	if err := unpause(last, f.s); err != nil {
		m.log.Warn("the pause of writes ends by itself", "within", f.lasts.String(), "error", err)
	}
	f.s.hangUp()
}

// blocksToWrite are the commands that wait for an element and then take it away:
// a client that waits in one was let in before the rights changed, and would be
// served by what the way back writes.
var blocksToWrite = []string{"blpop", "brpop", "brpoplpush", "blmove", "blmpop", "bzpopmin", "bzpopmax", "bzmpop", "xreadgroup"}

// releaseWaiting ends the waits of others' clients as if their time were over.
// Not while writes are paused: servers take a client that waits for the pause's
// end for one that waits for an element.
func (m *Mover) releaseWaiting(ctx context.Context, s *session) error {
	list, err := s.ClientList(ctx).Result()
	if err != nil {
		return s.fails("list the clients", err)
	}
	for line := range strings.Lines(list) {
		c := parseClient(line)
		if !strings.Contains(c["flags"], "b") || c["user"] == m.ownUser() {
			continue
		}
		for _, cmd := range blocksToWrite {
			if c["cmd"] == cmd {
				if err := s.Do(ctx, "CLIENT", "UNBLOCK", c["id"]).Err(); err != nil {
					return s.fails("end a client's wait for an element", err)
				}
			}
		}
	}
	return nil
}

// parseClient reads the pairs name=value of a line of CLIENT LIST.
func parseClient(line string) map[string]string {
	pairs := map[string]string{}
	for word := range strings.FieldsSeq(line) {
		if name, value, ok := strings.Cut(word, "="); ok {
			pairs[name] = value
		}
	}
	return pairs
}
