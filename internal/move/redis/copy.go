package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"dhow/internal/move"
	"dhow/internal/move/redis/rdb"
	"dhow/internal/move/redis/resp"
)

const (
	// copyLanes are the connections that carry the copy: one writes while the target answers another.
	copyLanes = 3
	// chunkBytes is how much is sent before the answers are awaited. Its answers
	// are few bytes, so that neither side waits for the other with full buffers.
	chunkBytes = 256 << 10
	// copyBytes bounds what is on its way to the target in all, in bytes.
	copyBytes = 64 << 20
	// sweepCount is how many keys are looked at at once where a target is emptied.
	sweepCount = 1000
)

// copy brings the source's snapshot to the target, which it empties before: what
// an interrupted copy left may have gone at the source. It returns where the
// stream begins.
func (m *Mover) copy(ctx context.Context, p *psync, to *session, note string, report func(move.Progress)) (position, error) {
	stop := p.closeWith(ctx)
	defer stop()
	pos := position{phase: move.PhaseCopy, replid: p.replid, offset: p.offset, expiry: expiriesPadded}
	if err := m.claim(ctx, to, pos); err != nil {
		return pos, err
	}
	src, size, err := p.snapshot()
	if err != nil {
		return pos, err
	}
	c := &copying{m: m, to: to, note: note, report: report, size: max(size, 0), started: time.Now()}
	c.total, _ = m.sourceKeys(ctx) // an estimate for people
	if err := c.run(ctx, p, src); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return pos, err
	}
	pos.phase = move.PhaseStream
	if err := writePosition(ctx, to, m.stream, pos); err != nil {
		return pos, to.fails("end the copy", err)
	}
	m.log.Info("copied", "keys", c.keys.Load(), "bytes", c.bytes.Load(), "took", time.Since(c.started))
	return pos, nil
}

// claim makes the target ours: it must hold nothing but what a copy of ours left.
func (m *Mover) claim(ctx context.Context, to *session, pos position) error {
	old, err := readPosition(ctx, to, m.stream)
	if err != nil {
		return to.fails("begin the copy", err)
	}
	if old.phase == "" {
		n, example, err := m.foreign(ctx, to)
		if err != nil {
			return err
		}
		if n > 0 {
			return &move.Refused{
				Reason: fmt.Sprintf("the target of database %s is not empty: it holds %s", m.cfg.Name, example),
				Fix:    "empty it (FLUSHALL) if nobody needs that, or choose another server",
			}
		}
	}
	if err := writePosition(ctx, to, m.stream, pos); err != nil {
		return to.fails("begin the copy", err)
	}
	return m.empty(ctx, to)
}

// keyspace is how many keys each database of a server holds.
func keyspace(ctx context.Context, s *session) (map[int]int64, error) {
	info, err := s.info(ctx, "keyspace")
	if err != nil {
		return nil, err
	}
	all := map[int]int64{}
	for name, value := range info {
		db, err := strconv.Atoi(strings.TrimPrefix(name, "db"))
		if err != nil {
			continue
		}
		for pair := range strings.SplitSeq(value, ",") {
			if n, ok := strings.CutPrefix(pair, "keys="); ok {
				all[db], _ = strconv.ParseInt(n, 10, 64) // the server's own number
			}
		}
	}
	return all, nil
}

// sourceKeys is how many keys move, about.
func (m *Mover) sourceKeys(ctx context.Context) (int64, error) {
	from, err := m.dial(ctx, source)
	if err != nil {
		return 0, err
	}
	defer from.hangUp()
	all, err := keyspace(ctx, from)
	var n int64
	for _, keys := range all {
		n += keys
	}
	return n, err
}

// foreign counts what a target holds that is not ours, and names some of it.
func (m *Mover) foreign(ctx context.Context, to *session) (int64, string, error) {
	all, err := keyspace(ctx, to)
	if err != nil {
		return 0, "", err
	}
	for db, n := range all {
		if db != 0 && n > 0 {
			return n, fmt.Sprintf("%d keys in database %d", n, db), nil
		}
	}
	var n int64
	err = m.sweep(ctx, to, func(keys []string) error {
		n += int64(len(keys))
		return nil
	})
	return n, fmt.Sprintf("%d keys in database 0", n), err
}

// sweep hands out the keys of database 0 that are not ours, piece by piece.
func (m *Mover) sweep(ctx context.Context, to *session, f func(keys []string) error) error {
	for cursor := uint64(0); ; {
		keys, next, err := to.Scan(ctx, cursor, "", sweepCount).Result()
		if err != nil {
			return to.fails("look at the keys", err)
		}
		theirs := keys[:0]
		for _, k := range keys {
			if !strings.HasPrefix(k, ourPrefix) {
				theirs = append(theirs, k)
			}
		}
		if len(theirs) > 0 {
			if err := f(theirs); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// empty removes everything from the target but our own keys.
func (m *Mover) empty(ctx context.Context, to *session) error {
	all, err := keyspace(ctx, to)
	if err != nil {
		return err
	}
	for db := range all {
		if db == 0 {
			continue
		}
		pipe := to.Pipeline()
		pipe.Do(ctx, "SELECT", db)
		pipe.FlushDBAsync(ctx)
		pipe.Do(ctx, "SELECT", 0)
		if _, err := pipe.Exec(ctx); err != nil {
			return to.fails("empty a database", err)
		}
	}
	if err := m.sweep(ctx, to, func(keys []string) error { return to.Unlink(ctx, keys...).Err() }); err != nil {
		return to.fails("empty database 0", err)
	}
	if err := to.Do(ctx, "FUNCTION", "FLUSH").Err(); err != nil && !refusal(err) {
		return to.fails("remove functions", err)
	}
	return nil
}

// copying is a copy at work.
type copying struct {
	m           *Mover
	to          *session
	note        string
	report      func(move.Progress)
	size, total int64
	started     time.Time
	keys, bytes atomic.Int64
	meter       meter
}

// chunk is a piece of the copy: commands for one database.
type chunk struct {
	data     []byte
	db       int
	commands int
	weight   int64
	first    string // the first key, for an error
}

// run reads the snapshot and restores it, over a few connections.
func (c *copying) run(ctx context.Context, p *psync, src io.Reader) error {
	g, gctx := errgroup.WithContext(ctx)
	stop := p.closeWith(gctx)
	chunks := make(chan chunk)
	room := semaphore.NewWeighted(copyBytes)
	for range copyLanes {
		g.Go(func() error { return c.lane(gctx, chunks, room) })
	}
	done := make(chan struct{})
	g.Go(func() error {
		defer close(done)
		defer close(chunks)
		err := c.read(gctx, src, chunks, room)
		if err == nil {
			stop() // the group's context ends with the group, and the stream goes on
		}
		return err
	})
	g.Go(func() error { return c.accompany(gctx, p, done) })
	err := g.Wait()
	stop()
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// accompany reports, and tells the source that we are there.
func (c *copying) accompany(ctx context.Context, p *psync, done <-chan struct{}) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		c.report(c.progress())
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if time.Since(last) >= newlineEvery {
			last = time.Now()
			if _, err := p.Write([]byte("\n")); err != nil {
				return fmt.Errorf("keep the connection to the %s: %w", c.m.named(source), err)
			}
		}
	}
}

func (c *copying) progress() move.Progress {
	p := move.Progress{
		Database: c.m.cfg.Name, Phase: move.PhaseCopy, At: time.Now(),
		Rows: c.keys.Load(), RowsTotal: max(c.total, c.keys.Load()), Bytes: c.bytes.Load(), BytesTotal: max(c.size, c.bytes.Load()), Note: c.note,
	}
	p.RowsPerSecond, p.BytesPerSecond = c.meter.rates(p.Rows, p.Bytes)
	if p.RowsPerSecond > 0 && p.RowsTotal > p.Rows {
		p.ETA = time.Duration(float64(p.RowsTotal-p.Rows) / p.RowsPerSecond * float64(time.Second))
	}
	return p
}

// read makes RESTORE commands of the snapshot.
func (c *copying) read(ctx context.Context, src io.Reader, chunks chan<- chunk, room *semaphore.Weighted) error {
	pace := move.NewPace(c.m.limits.KeysPerSecond)
	r := rdb.NewReader(src)
	var cur chunk
	send := func() error {
		if cur.commands == 0 {
			return nil
		}
		cur.weight = min(int64(len(cur.data)), copyBytes)
		if err := room.Acquire(ctx, cur.weight); err != nil {
			return err
		}
		select {
		case chunks <- cur:
		case <-ctx.Done():
			return ctx.Err()
		}
		cur = chunk{data: make([]byte, 0, chunkBytes+chunkBytes/4)}
		return nil
	}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return send()
		}
		if errors.Is(err, rdb.ErrModule) {
			return &move.Refused{Reason: err.Error(), Fix: "take it out of the source"}
		}
		if err != nil {
			return err
		}
		c.bytes.Store(r.Bytes())
		switch e.Kind {
		case rdb.KindFunction:
			if err := c.to.Do(ctx, "FUNCTION", "LOAD", "REPLACE", e.Code).Err(); err != nil {
				return c.to.fails("load a library of functions", err)
			}
			continue
		case rdb.KindScript:
			if err := c.to.ScriptLoad(ctx, string(e.Code)).Err(); err != nil {
				return c.to.fails("load a script", err)
			}
			continue
		}
		if strings.HasPrefix(string(e.Key), ourPrefix) {
			continue
		}
		if err := pace.Took(ctx, 1); err != nil {
			return err
		}
		if cur.commands > 0 && (cur.db != e.DB || len(cur.data)+len(e.Payload) > chunkBytes) {
			if err := send(); err != nil {
				return err
			}
		}
		if cur.commands == 0 {
			cur.db, cur.first = e.DB, strconv.Quote(string(e.Key))
		}
		cur.data = appendRestore(cur.data, e)
		cur.commands++
	}
}

// appendRestore appends the command that makes the key, its expiry padded.
func appendRestore(dst []byte, e rdb.Entry) []byte {
	words := 4
	if e.Expiry != 0 {
		words++
	}
	dst = resp.AppendHead(dst, words)
	dst = resp.AppendString(dst, "RESTORE")
	dst = resp.AppendBytes(dst, e.Key)
	if e.Expiry == 0 {
		dst = resp.AppendString(dst, "0")
		return resp.AppendBytes(dst, e.Payload)
	}
	dst = resp.AppendInt(dst, e.Expiry+expiryPad)
	dst = resp.AppendBytes(dst, e.Payload)
	return resp.AppendString(dst, "ABSTTL")
}

// lane carries chunks to the target, one after the other.
func (c *copying) lane(ctx context.Context, chunks <-chan chunk, room *semaphore.Weighted) error {
	o, err := c.m.options(ctx, target)
	if err != nil {
		return err
	}
	w, err := dialWire(ctx, o)
	if err != nil {
		return explainConnect(ctx, o, c.m.named(target), err)
	}
	defer w.hangUp()
	stop := w.closeWith(ctx)
	defer stop()
	answers := resp.NewAnswers(w.br)
	db := 0
	for ch := range chunks {
		if ch.db != db {
			if _, err := w.ask("SELECT", strconv.Itoa(ch.db)); err != nil {
				return c.to.fails(fmt.Sprintf("use database %d", ch.db), err)
			}
			db = ch.db
		}
		if _, err := w.Write(ch.data); err != nil {
			return c.to.fails("restore keys", err)
		}
		for i := range ch.commands {
			a, err := answers.Next()
			if err != nil {
				return c.to.fails("restore keys", err)
			}
			if a.Err != "" {
				return c.refused(ch, i, a.Err)
			}
		}
		c.keys.Add(int64(ch.commands))
		room.Release(ch.weight)
	}
	return nil
}

// refused tells which key the target did not take, and why.
func (c *copying) refused(ch chunk, i int, text string) error {
	key := ch.first
	r := resp.NewReader(strings.NewReader(string(ch.data)), 0)
	for range i + 1 {
		if cmd, err := r.Next(); err == nil {
			key = strconv.Quote(string(cmd.Args[1]))
		}
	}
	what := fmt.Sprintf("restore key %s of database %d on the %s", key, ch.db, c.to.side)
	switch {
	case strings.HasPrefix(text, "OOM"):
		return &move.Refused{Reason: what + ": its memory is full", Fix: "raise maxmemory there, and begin again"}
	case strings.HasPrefix(text, "BUSYKEY"):
		return &move.Refused{Reason: what + ": somebody else made a key of that name", Fix: "find out who writes to the target"}
	case strings.Contains(text, "DUMP payload version"), strings.Contains(text, "Bad data format"):
		return &move.Refused{Reason: what + ": that server is too old for the value (" + text + ")", Fix: "move to a server that is at least as new as the source"}
	}
	return fmt.Errorf("%s: %w", what, serverError(text))
}
