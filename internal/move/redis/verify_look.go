package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

const (
	// pageKeys is how many keys are asked for at once.
	pageKeys = 512
	// fetchBytes bounds what is read at once of one side, by the server's own
	// estimate; a single key can be larger.
	fetchBytes = 8 << 20
	// fetchBlind is how many keys are read at once where the server tells no sizes.
	fetchBlind = 32
)

// look reads keys of both sides, with a session for each database that is looked at.
type look struct {
	m        *Mover
	counters bool
	sessions map[lookAt]*session
	// blunt: the server tells no expiry, only what is left.
	blunt [2]bool
}

// lookAt names a session: of a side, 0 or 1, in a database.
type lookAt struct{ side, db int }

func (m *Mover) newLook(counters bool) *look {
	return &look{m: m, counters: counters, sessions: map[lookAt]*session{}}
}

func (l *look) hangUp() {
	for _, s := range l.sessions {
		s.hangUp()
	}
}

// session opens the sessions of a database on both sides, once.
func (l *look) session(ctx context.Context, side, db int) (*session, error) {
	at := lookAt{side, db}
	if s := l.sessions[at]; s != nil {
		return s, nil
	}
	name := []string{source, target}[side]
	o, err := l.m.options(ctx, name)
	if err != nil {
		return nil, err
	}
	o.DB = db
	s, err := l.m.dialAs(ctx, name, o)
	if err != nil {
		return nil, err
	}
	major, err := majorVersion(ctx, s)
	if err != nil {
		s.hangUp()
		return nil, err
	}
	l.blunt[side] = major < exactExpirySince
	l.sessions[at] = s
	return s, nil
}

// bluntSlack is by how much an expiry may be off at the target, in milliseconds,
// where the source sends its expiries as what is left: they count from their
// arrival, as at any replica of it.
const bluntSlack = 2000

// versions of Redis from which on a server tells the very millisecond of a key's
// end, and counts what was read of a stream.
const (
	exactExpirySince = 7
	countersSince    = 7
)

// majorVersion is that of the Redis that a server is, or that it is compatible with.
func majorVersion(ctx context.Context, s *session) (int, error) {
	info, err := s.info(ctx, "server")
	if err != nil {
		return 0, err
	}
	text, _, _ := strings.Cut(info["redis_version"], ".")
	major, err := strconv.Atoi(text)
	if err != nil {
		return 0, s.fails("read the server's version", errors.New("INFO server names none"))
	}
	return major, nil
}

// precision says whether both servers count what was read of a stream, and by how
// much expiries may be off, in milliseconds.
func (m *Mover) precision(ctx context.Context) (counters bool, slack int64, err error) {
	from, to, err := m.dialBoth(ctx)
	if err != nil {
		return false, 0, err
	}
	defer from.hangUp()
	defer to.hangUp()
	there, err := majorVersion(ctx, from)
	if err != nil {
		return false, 0, err
	}
	here, err := majorVersion(ctx, to)
	if err != nil {
		return false, 0, err
	}
	if there < exactExpirySince {
		slack = bluntSlack
	}
	return min(there, here) >= countersSince, slack, nil
}

// reader is a session, or a transaction's view of one.
type reader interface {
	Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

// fetch reads keys of one side, and the server's time behind, in Unix milliseconds.
func (l *look) fetch(ctx context.Context, r reader, side int, keys []string) (_ []holding, now int64, err error) {
	dumps, ends := make([]*redis.StringCmd, len(keys)), make([]*redis.Cmd, len(keys))
	var before, after *redis.TimeCmd
	ask := "PEXPIRETIME"
	if l.blunt[side] {
		ask = "PTTL"
	}
	answers, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
		before = p.Time(ctx)
		for i, k := range keys {
			dumps[i] = p.Dump(ctx, k)
			ends[i] = p.Do(ctx, ask, k) // the driver's own way loses what ends in centuries
		}
		after = p.Time(ctx)
		return nil
	})
	if err = firstError(answers, err); err != nil && !errors.Is(err, redis.Nil) {
		return nil, 0, err
	}
	list := make([]holding, len(keys))
	for i := range keys {
		if errors.Is(dumps[i].Err(), redis.Nil) {
			continue
		}
		list[i].payload = dumps[i].Val()
		end, err := ends[i].Int64()
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("read when key %s ends: %w", keyText(keys[i]), err)
		case end < 0: // it has none
		case l.blunt[side]:
			list[i].expiry = trueExpiry(before.Val().UnixMilli() + end)
			list[i].slack = after.Val().Sub(before.Val()).Milliseconds() + 2
			if side == 0 {
				list[i].slack += bluntSlack
			}
		default:
			list[i].expiry = trueExpiry(end)
		}
	}
	return list, after.Val().UnixMilli(), nil
}

// fetchBoth reads keys of both sides at once. What ended by either server's time is gone on both.
func (l *look) fetchBoth(ctx context.Context, db int, keys []string) (from, to []holding, err error) {
	var now [2]int64
	var lists [2][]holding
	var sessions [2]*session
	for side := range sessions {
		if sessions[side], err = l.session(ctx, side, db); err != nil {
			return nil, nil, err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for side, s := range sessions {
		g.Go(func() (err error) {
			if lists[side], now[side], err = l.fetch(gctx, s, side, keys); err != nil {
				return s.fails("read keys", err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	l.bury(max(now[0], now[1]), lists[0], lists[1])
	return lists[0], lists[1], nil
}

// bury takes keys whose end has come for gone: a server may be yet to notice.
func (l *look) bury(now int64, lists ...[]holding) {
	if l.blunt[0] {
		now += bluntSlack
	}
	for _, list := range lists {
		for i, h := range list {
			if h.expiry != 0 && h.expiry <= now {
				list[i] = holding{}
			}
		}
	}
}

// at reads one key of both sides.
func (l *look) at(ctx context.Context, k keyAt) ([2]holding, error) {
	from, to, err := l.fetchBoth(ctx, k.db, []string{k.key})
	if err != nil {
		return [2]holding{}, err
	}
	return [2]holding{from[0], to[0]}, nil
}

// pages gives all keys of a side's database, page by page, our own left out. A
// key that stands all the time is given once at least.
func (l *look) pages(ctx context.Context, side, db int, page func(keys []string) error) error {
	s, err := l.session(ctx, side, db)
	if err != nil {
		return err
	}
	for cursor := uint64(0); ; {
		keys, next, err := s.Scan(ctx, cursor, "", pageKeys).Result()
		if err != nil {
			return s.fails("list keys", err)
		}
		mine := keys[:0]
		for _, k := range keys {
			if !ours(k) {
				mine = append(mine, k)
			}
		}
		if len(mine) > 0 {
			if err := page(mine); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// chunks cuts a page so that little is in memory at once.
func (l *look) chunks(ctx context.Context, side, db int, keys []string, chunk func(keys []string) error) error {
	s, err := l.session(ctx, side, db)
	if err != nil {
		return err
	}
	sizes := make([]*redis.IntCmd, len(keys))
	answers, err := s.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, k := range keys {
			sizes[i] = p.MemoryUsage(ctx, k)
		}
		return nil
	})
	if err = firstError(answers, err); err != nil && !errors.Is(err, redis.Nil) && !refusal(err) {
		return s.fails("ask for the sizes of keys", err)
	}
	blind := refusal(err)
	for from := 0; from < len(keys); {
		to, bytes := from, int64(0)
		for to < len(keys) && (to == from || bytes+sizes[to].Val() <= fetchBytes) && (!blind || to-from < fetchBlind) {
			bytes += sizes[to].Val()
			to++
		}
		if err := chunk(keys[from:to]); err != nil {
			return err
		}
		from = to
	}
	return nil
}

const (
	// nameTries is how often a key of a bucket that differed is looked at, and
	// namePause what lies between: the stream back is a little behind.
	nameTries = 3
	namePause = 200 * time.Millisecond
)

// name looks for the keys by which buckets differ, among what both sides hold
// now. Those it names are marked in buckets.
func (l *look) name(ctx context.Context, db int, buckets map[int]bool, f *findings) error {
	told := map[string]bool{}
	for side := range 2 {
		err := l.pages(ctx, side, db, func(page []string) error {
			var keys []string
			for _, k := range page {
				if _, is := buckets[bucketOf(k)]; is && !told[k] {
					keys = append(keys, k)
				}
			}
			if len(keys) == 0 {
				return nil
			}
			return l.chunks(ctx, side, db, keys, func(keys []string) error {
				return l.nameOf(ctx, db, keys, func(key, what string, kind move.Kind) {
					told[key], buckets[bucketOf(key)] = true, true
					f.differs(move.Difference{Table: keySpace(db), Key: differenceText(key, what), Kind: kind})
				})
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// nameOf names those of a few keys that differ, and still do a while later.
func (l *look) nameOf(ctx context.Context, db int, keys []string, name func(key, what string, kind move.Kind)) error {
	for try := 1; len(keys) > 0; try++ {
		from, to, err := l.fetchBoth(ctx, db, keys)
		if err != nil {
			return err
		}
		var still []string
		for i, k := range keys {
			same, err := from[i].same(to[i], l.counters)
			if err != nil {
				return err
			}
			if same {
				continue
			}
			still = append(still, k)
			if try == nameTries {
				what, err := inWhat(from[i], to[i], l.counters)
				if err != nil {
					return err
				}
				name(k, what, kindOf(from[i], to[i]))
			}
		}
		if keys = still; try == nameTries {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(namePause):
		}
	}
	return nil
}

// kindOf says how two sides differ that do.
func kindOf(from, to holding) move.Kind {
	switch {
	case to.gone():
		return move.Missing
	case from.gone():
		return move.Extra
	}
	return move.Changed
}
