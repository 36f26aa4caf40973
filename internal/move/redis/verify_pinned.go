package redis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
	"dhow/internal/move/redis/rdb"
)

// Both snapshots are read at the same time, each in the order in which its server
// keeps the keys. A key that both have shown with the same digest is forgotten; so
// what is remembered are the keys that only one side has shown yet. Besides, the
// digests are added up in buckets: should there be too many keys to remember, the
// sums still tell which buckets differ, and a second look at the servers names the keys.

const (
	// bucketCount is the number of buckets of a database.
	bucketCount = 1 << 16
	// rememberMost bounds the memory of the keys that one side has shown, in bytes.
	rememberMost = 96 << 20
	// rememberEach is what a remembered key costs beside its bytes.
	rememberEach = 128
)

// keyAt is a key of a database; functions have the database -1.
type keyAt struct {
	db  int
	key string
}

const functionsDB = -1

func (k keyAt) table() string {
	if k.db == functionsDB {
		return functionsTable
	}
	return keySpace(k.db)
}

// shown is a key that one side has shown; the other has not yet, or with another digest.
type shown struct {
	digest [2]rdb.Sum // by side
	end    [2]int64
	has    [2]bool
}

// equal says whether both sides have shown the same.
func (s shown) equal(slack int64) bool {
	off := s.end[0] - s.end[1]
	return s.has[0] && s.has[1] && s.digest[0] == s.digest[1] && max(off, -off) <= slack
}

// pinnedComparison compares two snapshots as they are read.
type pinnedComparison struct {
	at    int64
	slack int64 // by how much ends may differ, in milliseconds
	limit int

	mu       sync.Mutex
	left     map[keyAt]shown // nil once there were too many
	leftSize int
	sums     map[int][]rdb.Sum // by database and bucket: the source's less the target's
	f        *findings
}

// verifyPinned compares the snapshots that Pin keeps. They are used up by it.
func (m *Mover) verifyPinned(ctx context.Context, f *findings) error {
	m.mu.Lock()
	p := m.pins
	m.mu.Unlock()
	if p == nil {
		return fmt.Errorf("no snapshot of database %s is pinned: it is pinned during the cutover and lasts as long as that process", m.cfg.Name)
	}
	defer m.Unpin(ctx)
	counters, slack, err := m.precision(ctx)
	if err != nil {
		return err
	}
	c := &pinnedComparison{at: p.at + slack, slack: slack, limit: m.rememberMost, left: map[keyAt]shown{}, sums: map[int][]rdb.Sum{}, f: f}
	g, gctx := errgroup.WithContext(ctx)
	for i, side := range []*psync{p.source, p.target} {
		g.Go(func() error {
			stop := side.closeWith(gctx)
			defer stop()
			err := c.read(side, i, counters)
			if gctx.Err() != nil {
				return gctx.Err()
			}
			if err != nil {
				return fmt.Errorf("read the snapshot of the %s: %w", m.named([]string{source, target}[i]), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return m.tellPinned(ctx, c, counters)
}

// read reads one side's snapshot.
func (c *pinnedComparison) read(p *psync, side int, counters bool) error {
	from, _, err := p.snapshot()
	if err != nil {
		return err
	}
	r := rdb.NewReader(from)
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var digest rdb.Sum
		at, end := keyAt{db: e.DB}, trueExpiry(e.Expiry)
		switch e.Kind {
		case rdb.KindKey:
			if bytes.HasPrefix(e.Key, []byte(ourPrefix)) || end != 0 && end <= c.at {
				continue
			}
			at.key = string(e.Key)
			if digest, err = rdb.Digest(e.Payload, counters); err != nil {
				return fmt.Errorf("key %s of %s: %w", keyText(at.key), at.table(), err)
			}
		case rdb.KindFunction:
			at = keyAt{db: functionsDB, key: libraryName(string(e.Code))}
			h := sha256.Sum256(e.Code)
			digest = sumOf(h)
		default:
			continue // a script that is cached is no data
		}
		c.show(side, at, digest, end)
	}
}

// libraryName is the name that a library of functions gives itself in its first line.
func libraryName(code string) string {
	line, _, _ := strings.Cut(code, "\n")
	for word := range strings.FieldsSeq(line) {
		if name, ok := strings.CutPrefix(word, "name="); ok {
			return name
		}
	}
	return line
}

func sumOf(h [sha256.Size]byte) rdb.Sum {
	return rdb.Sum{binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:])}
}

// whole is the digest of all of a key: its name, its value and its end.
func whole(key string, digest rdb.Sum, expiry int64) rdb.Sum {
	b := make([]byte, 0, 3*8+len(key))
	b = binary.LittleEndian.AppendUint64(b, digest[0])
	b = binary.LittleEndian.AppendUint64(b, digest[1])
	b = binary.LittleEndian.AppendUint64(b, uint64(expiry))
	return sumOf(sha256.Sum256(append(b, key...)))
}

// bucketOf is a key's bucket. It is the same in every process.
func bucketOf(key string) int {
	h := sha256.Sum256([]byte(key))
	return int(binary.LittleEndian.Uint16(h[:]))
}

// show takes what one side holds of a key.
func (c *pinnedComparison) show(side int, at keyAt, value rdb.Sum, end int64) {
	bucket := bucketOf(at.key)
	exact := end
	if c.slack > 0 && end != 0 {
		exact = 1 // the digest says only that there is one
	}
	digest := whole(at.key, value, exact)
	if side == 0 {
		c.f.compared(at.table(), 1)
	} else {
		c.f.compared(at.table(), 0)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sums := c.sums[at.db]
	if sums == nil {
		sums = make([]rdb.Sum, bucketCount)
		c.sums[at.db] = sums
	}
	if side == 0 {
		sums[bucket].Add(digest)
	} else {
		sums[bucket].Sub(digest)
	}
	if c.left == nil {
		return
	}
	s, known := c.left[at]
	s.has[side], s.digest[side], s.end[side] = true, digest, end
	if s.equal(c.slack) {
		delete(c.left, at)
		c.leftSize -= len(at.key) + rememberEach
		return
	}
	c.left[at] = s
	if !known {
		if c.leftSize += len(at.key) + rememberEach; c.leftSize > c.limit {
			c.left = nil // the sums go on
		}
	}
}

// tellPinned names what differs.
func (m *Mover) tellPinned(ctx context.Context, c *pinnedComparison, counters bool) error {
	if c.left == nil {
		return m.tellBuckets(ctx, c, counters)
	}
	look := m.newLook(counters)
	defer look.hangUp()
	for at, s := range c.left {
		kind := move.Changed
		switch {
		case !s.has[1]:
			kind = move.Missing
		case !s.has[0]:
			kind = move.Extra
		}
		what := ""
		if at.db != functionsDB {
			// The values themselves are gone; what the servers hold now often tells in what they differ.
			if now, err := look.at(ctx, at); err == nil {
				if what, err = inWhat(now[0], now[1], counters); err != nil {
					return err
				}
			}
		}
		if kind == move.Changed && what == "" {
			what = "equal since"
		}
		c.f.differs(move.Difference{Table: at.table(), Key: differenceText(at.key, what), Kind: kind})
	}
	return nil
}

// tellBuckets names the keys of the buckets whose sums differ, as far as they
// still differ.
func (m *Mover) tellBuckets(ctx context.Context, c *pinnedComparison, counters bool) error {
	look := m.newLook(counters)
	defer look.hangUp()
	for db, sums := range c.sums {
		named := map[int]bool{}
		for b, s := range sums {
			if s != (rdb.Sum{}) {
				named[b] = false
			}
		}
		if len(named) == 0 {
			continue
		}
		if db != functionsDB {
			if err := look.name(ctx, db, named, c.f); err != nil {
				return err
			}
		}
		for b, is := range named {
			if !is {
				c.f.differs(move.Difference{Table: keyAt{db: db}.table(), Key: fmt.Sprintf("a key of bucket %d of %d, equal since", b, bucketCount), Kind: move.Changed})
			}
		}
	}
	return nil
}
