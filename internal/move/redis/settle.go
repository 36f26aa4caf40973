package redis

import (
	"context"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// approachFor is how long an approach holds at least: so long no key whose expiry
	// is exact ends, and before it is over all expiries are padded again.
	approachFor = time.Minute
	// retreatBefore is how long before its end the retreat begins.
	retreatBefore = 20 * time.Second
	// settleRate is how many keys a second a pass over a server is expected to see, at least.
	settleRate = 50_000
	// settlePage is how many keys a pass looks at at once.
	settlePage = 512
	// nearMost bounds the keys that are remembered for settle; nearBytes their names.
	nearMost  = 1_000_000
	nearBytes = 32 << 20
)

// place is a key's place on a server.
type place struct {
	db  int
	key string
}

// nearKeys are the keys whose expiries may be padded during an approach.
type nearKeys struct {
	mu    sync.Mutex
	keys  map[place]struct{}
	bytes int
	// many says that they are too many to remember: all keys have to be looked at.
	many bool
}

func (n *nearKeys) add(db int, key []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.many {
		return
	}
	at := place{db, string(key)}
	if _, ok := n.keys[at]; ok {
		return
	}
	if n.bytes += len(key); len(n.keys) >= nearMost || n.bytes > nearBytes {
		n.keys, n.many = nil, true
		return
	}
	n.keys[at] = struct{}{}
}

// forget makes settle look at all keys.
func (n *nearKeys) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.keys, n.many = nil, true
}

// pages hands out the keys by database, piece by piece; false says that they are not known.
func (n *nearKeys) pages(f func(db int, keys []string) error) (bool, error) {
	if n == nil {
		return false, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.many {
		return false, nil
	}
	byDB := map[int][]string{}
	for at := range n.keys {
		byDB[at.db] = append(byDB[at.db], at.key)
	}
	for db, keys := range byDB {
		for len(keys) > 0 {
			some := keys[:min(len(keys), settlePage)]
			keys = keys[len(some):]
			if err := f(db, some); err != nil {
				return true, err
			}
		}
	}
	return true, nil
}

// changeExpiry says what becomes of an expiry of the target, in Unix milliseconds.
type changeExpiry func(db int, key string, end int64) (changed int64, change bool)

// reExpire changes the expiries of some keys of a database, in which the session is.
func reExpire(ctx context.Context, s *session, db int, keys []string, change changeExpiry) error {
	ends, err := expiriesOf(ctx, s, keys)
	if err != nil {
		return err
	}
	pipe := s.Pipeline()
	for i, key := range keys {
		if ends[i] <= 0 {
			continue
		}
		if end, ok := change(db, key, ends[i]); ok {
			pipe.Do(ctx, "PEXPIREAT", key, end)
		}
	}
	if pipe.Len() == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return s.fails("set the expiries of keys", err)
	}
	return nil
}

// expiriesOf reads when keys end, in Unix milliseconds; 0 and less is never, or gone.
func expiriesOf(ctx context.Context, s *session, keys []string) ([]int64, error) {
	ends := make([]int64, len(keys))
	read := func(name string) ([]redis.Cmder, *redis.TimeCmd, error) {
		pipe := s.TxPipeline() // so that the clock stands still
		clock := pipe.Time(ctx)
		cmds := make([]redis.Cmder, len(keys))
		for i, key := range keys {
			cmds[i] = pipe.Do(ctx, name, key)
		}
		_, err := pipe.Exec(ctx)
		return cmds, clock, err
	}
	cmds, _, err := read("PEXPIRETIME")
	var base int64
	if refusal(err) { // Redis 6.2
		var clock *redis.TimeCmd
		if cmds, clock, err = read("PTTL"); err == nil {
			base = clock.Val().UnixMilli()
		}
	}
	if err != nil {
		return nil, s.fails("read the expiries of keys", err)
	}
	for i, c := range cmds {
		n, err := c.(*redis.Cmd).Int64()
		if err != nil {
			return nil, s.fails("read a key's expiry", err)
		}
		if ends[i] = n; n > 0 {
			ends[i] += base
		}
	}
	return ends, nil
}

// allKeys hands out the keys of a server, by database and piece by piece, with a
// session that is in the database. Our own keys are not among them.
func (m *Mover) allKeys(ctx context.Context, side string, f func(s *session, db int, keys []string) error) error {
	o, err := m.options(ctx, side)
	if err != nil {
		return err
	}
	s, err := m.dialAs(ctx, side, o)
	if err != nil {
		return err
	}
	all, err := keyspace(ctx, s)
	s.hangUp()
	if err != nil {
		return err
	}
	for db := range all {
		if err := m.allOf(ctx, side, o, db, f); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mover) allOf(ctx context.Context, side string, o *redis.Options, db int, f func(s *session, db int, keys []string) error) error {
	in := *o
	in.DB = db
	s, err := m.dialAs(ctx, side, &in)
	if err != nil {
		return err
	}
	defer s.hangUp()
	for cursor := uint64(0); ; {
		keys, next, err := s.Scan(ctx, cursor, "", settlePage).Result()
		if err != nil {
			return s.fails("look at the keys", err)
		}
		theirs := keys[:0]
		for _, k := range keys {
			if !strings.HasPrefix(k, ourPrefix) {
				theirs = append(theirs, k)
			}
		}
		if len(theirs) > 0 {
			if err := f(s, db, theirs); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// settle makes the expiries at the target exact that are still padded. The stream
// has ended, and the source is sealed: what ends now has ended. It may be called again.
func (m *Mover) settle(ctx context.Context) error {
	to, err := m.dial(ctx, target)
	if err != nil {
		return err
	}
	defer to.hangUp()
	pos, err := readPosition(ctx, to, m.stream)
	if err != nil {
		return to.fails("make the expiries exact", err)
	}
	if pos.phase == "" || pos.expiry == expiriesExact {
		return nil
	}
	exact := func(_ int, _ string, end int64) (int64, bool) { return trueExpiry(end), end >= expiryPad }
	m.mu.Lock()
	near := m.near
	m.mu.Unlock()
	if pos.expiry == expiriesPadded || pos.repaired {
		near = nil
	}
	in := map[int]*session{}
	defer func() {
		for _, s := range in {
			s.hangUp()
		}
	}()
	known, err := near.pages(func(db int, keys []string) error {
		if in[db] == nil {
			o := *to.Options()
			o.DB = db
			if in[db], err = m.dialAs(ctx, target, &o); err != nil {
				return err
			}
		}
		return reExpire(ctx, in[db], db, keys, exact)
	})
	if err == nil && !known {
		err = m.allKeys(ctx, target, func(s *session, db int, keys []string) error { return reExpire(ctx, s, db, keys, exact) })
	}
	if err != nil {
		return err
	}
	if err := to.HDel(ctx, stateKey(m.stream), fieldRepaired).Err(); err != nil {
		return to.fails("note that the expiries are exact", err)
	}
	if err := to.HSet(ctx, stateKey(m.stream), fieldExpiry, string(expiriesExact)).Err(); err != nil {
		return to.fails("note that the expiries are exact", err)
	}
	return nil
}

// approach makes exact what can be before the target opens: the expiries that lie
// beyond the approach's end. Those before it are remembered for settle. Where no
// stream runs in this process there is nothing to do: settle does it all.
func (m *Mover) approach(ctx context.Context) error {
	m.mu.Lock()
	r := m.running
	m.mu.Unlock()
	if r == nil || r.scan != nil {
		return nil
	}
	r.passes.Lock()
	defer r.passes.Unlock()
	all, err := keyspace(ctx, r.to)
	if err != nil {
		return err
	}
	var n int64
	for _, keys := range all {
		n += keys
	}
	now, err := r.to.Time(ctx).Result()
	if err != nil {
		return r.to.fails("read its clock", err)
	}
	if time.Until(r.until) > approachFor/2 {
		return nil // one that was made a moment ago still holds
	}
	until := now.Add(approachFor + time.Duration(n/settleRate)*time.Second)
	near := &nearKeys{keys: map[place]struct{}{}}
	m.mu.Lock()
	m.near = near
	m.mu.Unlock()
	r.until = time.Now().Add(until.Sub(now))
	r.a.mu.Lock()
	r.a.at.expiry, r.a.whole, r.a.dirty = expiriesUntil(until.UnixMilli()), true, true
	r.a.near, r.a.exactAfter = near, until.UnixMilli()
	r.a.cond.Broadcast() // who sends has something to write
	r.a.mu.Unlock()
	// It must be known before the first exact expiry is there.
	if err := r.a.await(ctx, func() bool { return !r.a.whole && r.a.underway == 0 }); err != nil {
		return err
	}
	err = r.overAll(ctx, func(db int, key string, end int64) (int64, bool) {
		if end < expiryPad {
			return 0, false
		}
		if end = trueExpiry(end); end > until.UnixMilli() {
			return end, true
		}
		near.add(db, []byte(key))
		return 0, false
	})
	if err != nil {
		near.forget()
	}
	return err
}

// retreat pads all expiries again, before a key ends whose expiry is exact.
func (r *running) retreat(ctx context.Context) error {
	r.passes.Lock()
	defer r.passes.Unlock()
	if r.until.IsZero() {
		return nil
	}
	r.a.mu.Lock()
	r.a.near, r.a.exactAfter = nil, math.MaxInt64
	r.a.mu.Unlock()
	if err := r.overAll(ctx, padded); err != nil {
		return err
	}
	r.a.mu.Lock()
	r.a.at.expiry, r.a.whole, r.a.dirty = expiriesPadded, true, true
	r.a.cond.Broadcast()
	r.a.mu.Unlock()
	r.until = time.Time{}
	return nil
}

// padded gives an exact expiry its pad.
func padded(_ int, _ string, end int64) (int64, bool) { return end + expiryPad, end < expiryPad }

// overAll changes expiries of all keys of the target while the stream runs. It
// stands still for each page, so that none of its changes of an expiry gets lost.
func (r *running) overAll(ctx context.Context, change changeExpiry) error {
	return r.m.allKeys(ctx, target, func(s *session, db int, keys []string) error {
		return r.a.still(ctx, func() error { return reExpire(ctx, s, db, keys, change) })
	})
}

// still runs f while nothing is on its way to the target.
func (a *applier) still(ctx context.Context, f func() error) error {
	a.mu.Lock()
	a.pauses++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.pauses--
		a.cond.Broadcast()
		a.mu.Unlock()
	}()
	if err := a.await(ctx, func() bool { return !a.opened && a.underway == 0 && a.bytes == 0 }); err != nil {
		return err
	}
	return f()
}

// untilOf is the end of the approach that a position tells of; zero if it tells of none.
func untilOf(e expiries) time.Time {
	ms, err := strconv.ParseInt(string(e), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
