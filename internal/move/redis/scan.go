package redis

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// Where a source takes no replica, its keys are read one by one, and read again
// whenever a notification tells that one has changed. That keeps no transactions
// together, and no notification tells of a database that was emptied or swapped, of
// a consumer group that moved on, or of functions. So the server's own counts of
// such commands are watched, and streams and functions are looked at regularly and
// again under the fence.

const (
	// dirtyMost bounds the keys that wait to be read again; beyond, all are read.
	dirtyMost = 1_000_000
	// scanPageMost and scanPageBytes bound what is read at once, in keys and bytes.
	scanPageMost  = 512
	scanPageBytes = 8 << 20
	// lookEvery is how often the counts, the streams and the functions are looked at.
	lookEvery = time.Second
	// probeWait is how long the first notification may take.
	probeWait = 5 * time.Second
	// notifyFlags are the notifications that are needed: of events, all kinds.
	notifyFlags = "AE"
)

// scanning follows a source by its notifications.
type scanning struct {
	m        *Mover
	from, to *session
	events   *redis.PubSub

	mu      sync.Mutex
	changed chan struct{} // closed and renewed whenever something below changes
	dirty   map[place]struct{}
	again   bool // all keys have to be read
	busy    bool
	copied  bool
	streams map[place]struct{}
	pongs   int
	done    int64
	lag     time.Time // since when something waits

	page      int
	commands  string // the counts of commands that no notification tells of
	functions string
	meter     meter
	barriers  sync.Mutex
}

// scan moves by reading keys, until ctx ends.
func (m *Mover) scan(ctx context.Context, to *session, pos position, report func(move.Progress)) error {
	from, err := m.dial(ctx, source)
	if err != nil {
		return err
	}
	defer from.hangUp()
	if pos.phase != move.PhaseStream {
		pos = position{phase: move.PhaseCopy, expiry: expiriesExact}
		if err := m.claim(ctx, to, pos); err != nil {
			return err
		}
	}
	o, err := m.options(ctx, source)
	if err != nil {
		return err
	}
	listener := redis.NewClient(o)
	defer func() { _ = listener.Close() }() // nothing is written behind the last answer
	s := &scanning{m: m, from: from, to: to, changed: make(chan struct{}), dirty: map[place]struct{}{}, streams: map[place]struct{}{}, again: true, page: fetchPage}
	if err := s.listen(ctx, listener); err != nil {
		return err
	}
	defer func() { _ = s.events.Close() }()
	r := &running{m: m, to: to, scan: s}
	defer r.letGo()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.hear(gctx) })
	g.Go(func() error { return s.work(gctx, r) })
	g.Go(func() error { return s.tell(gctx, report) })
	err = g.Wait()
	m.mu.Lock()
	m.running = nil
	m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// taint notes that a key has to be read. The lock is held.
func (s *scanning) taint(at place) {
	if len(s.dirty) >= dirtyMost {
		s.again, s.dirty = true, map[place]struct{}{}
	}
	if len(s.dirty) == 0 {
		s.lag = time.Now()
	}
	s.dirty[at] = struct{}{}
	s.notify()
}

func (s *scanning) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until is says so; the lock is held while it looks.
func (s *scanning) await(ctx context.Context, is func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := is(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// work reads what has changed and writes it to the target.
func (s *scanning) work(ctx context.Context, r *running) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		s.mu.Lock()
		again, dirty, changed := s.again, s.dirty, s.changed
		s.again, s.dirty = false, map[place]struct{}{}
		s.busy = again || len(dirty) > 0
		busy := s.busy
		s.mu.Unlock()
		switch {
		case again:
			if err := s.all(ctx, r); err != nil {
				return err
			}
		case busy:
			if err := s.some(ctx, dirty); err != nil {
				return err
			}
		default:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			case <-look.C:
				if err := s.look(ctx); err != nil {
					return err
				}
			}
		}
		s.mu.Lock()
		s.busy = false
		s.notify()
		s.mu.Unlock()
	}
}

// all reads every key, and removes from the target what the source has not.
func (s *scanning) all(ctx context.Context, r *running) error {
	var err error
	if s.commands, err = s.counts(ctx); err != nil {
		return err
	}
	if err := s.carryFunctions(ctx); err != nil {
		return err
	}
	err = s.m.allKeys(ctx, source, func(_ *session, db int, keys []string) error {
		dirty := make(map[place]struct{}, len(keys))
		for _, key := range keys {
			dirty[place{db, key}] = struct{}{}
		}
		return s.some(ctx, dirty)
	})
	if err != nil {
		return err
	}
	err = s.m.allKeys(ctx, target, func(_ *session, db int, keys []string) error {
		pipe := s.from.Pipeline()
		pipe.Do(ctx, "SELECT", db)
		there := make([]*redis.IntCmd, len(keys))
		for i, key := range keys {
			there[i] = pipe.Exists(ctx, key)
		}
		pipe.Do(ctx, "SELECT", 0)
		if _, err := pipe.Exec(ctx); err != nil {
			return s.from.fails("look for keys", err)
		}
		dirty := map[place]struct{}{}
		for i, key := range keys {
			if there[i].Val() == 0 {
				dirty[place{db, key}] = struct{}{}
			}
		}
		return s.some(ctx, dirty)
	})
	if err != nil || s.copied {
		return err
	}
	if err := writePosition(ctx, s.to, s.m.stream, position{phase: move.PhaseStream, expiry: expiriesExact}); err != nil {
		return s.to.fails("end the copy", err)
	}
	s.mu.Lock()
	s.copied = true
	s.mu.Unlock()
	s.m.mu.Lock()
	s.m.running = r
	s.m.mu.Unlock()
	return nil
}

// some reads keys and makes the target's equal to them.
func (s *scanning) some(ctx context.Context, dirty map[place]struct{}) error {
	byDB := map[int][]string{}
	for at := range dirty {
		byDB[at.db] = append(byDB[at.db], at.key)
	}
	for db, keys := range byDB {
		for len(keys) > 0 {
			some := keys[:min(len(keys), s.page)]
			keys = keys[len(some):]
			if err := s.bring(ctx, db, some); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scanning) bring(ctx context.Context, db int, keys []string) error {
	all, _, err := fetch(ctx, s.from, db, keys)
	if err != nil {
		return err
	}
	bytes := 0
	tx := s.to.TxPipeline()
	tx.Do(ctx, "SELECT", db)
	s.mu.Lock()
	for _, f := range all {
		bytes += len(f.payload)
		delete(s.streams, f.at)
		if f.payload == "" {
			tx.Unlink(ctx, f.at.key)
			continue
		}
		if isStream(f.payload) {
			s.streams[f.at] = struct{}{}
		}
		tx.Do(ctx, "RESTORE", f.at.key, f.end, f.payload, "REPLACE", "ABSTTL")
	}
	s.mu.Unlock()
	tx.Do(ctx, "SELECT", 0)
	if _, err := tx.Exec(ctx); err != nil {
		return s.to.fails("restore keys", err)
	}
	switch {
	case bytes > scanPageBytes:
		s.page = max(1, s.page/2)
	case bytes < scanPageBytes/4:
		s.page = min(scanPageMost, s.page*2)
	}
	s.mu.Lock()
	s.done += int64(len(keys))
	s.mu.Unlock()
	return nil
}

// isStream says whether a payload is a stream's: its groups change without a notification.
func isStream(payload string) bool {
	switch payload[0] {
	case 15, 19, 21: // the numbers of the stream types, see package rdb
		return true
	}
	return false
}

// barrier waits until the target holds all that the source had done when it was called.
func (s *scanning) barrier(ctx context.Context) error {
	s.barriers.Lock()
	defer s.barriers.Unlock()
	s.mu.Lock()
	before := s.pongs
	s.mu.Unlock()
	if err := s.events.Ping(ctx); err != nil { // it is answered behind the notifications
		return s.from.fails("ask for the end of its notifications", err)
	}
	if err := s.await(ctx, func() bool { return s.pongs > before }); err != nil {
		return err
	}
	s.mu.Lock()
	for at := range s.streams {
		s.taint(at)
	}
	s.mu.Unlock()
	from, err := s.m.dial(ctx, source)
	if err != nil {
		return err
	}
	defer from.hangUp()
	fresh := &scanning{from: from}
	counts, err := fresh.counts(ctx)
	if err != nil {
		return err
	}
	if err := s.await(ctx, func() bool { return !s.busy }); err != nil {
		return err
	}
	s.mu.Lock()
	s.again = s.again || counts != s.commands
	s.notify()
	s.mu.Unlock()
	return s.await(ctx, func() bool { return !s.busy && !s.again && len(s.dirty) == 0 })
}

// tell reports, until ctx ends.
func (s *scanning) tell(ctx context.Context, report func(move.Progress)) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	total, _ := s.m.sourceKeys(ctx) // an estimate for people
	for {
		now := time.Now()
		s.mu.Lock()
		p := move.Progress{Database: s.m.cfg.Name, Phase: move.PhaseCopy, At: now, Rows: s.done, RowsTotal: max(total, s.done)}
		if s.copied {
			p.Phase, p.RowsTotal = move.PhaseStream, s.done
			if s.busy || len(s.dirty) > 0 {
				p.LagSeconds = now.Sub(s.lag).Seconds()
			}
		}
		s.mu.Unlock()
		p.Note = "the source takes no replica: keys are read one by one, transactions are not kept together"
		p.RowsPerSecond, _ = s.meter.rates(p.Rows, 0)
		report(p)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
