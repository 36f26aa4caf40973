package redis

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// pinPatience bounds the wait for both servers to fork: clients wait meanwhile.
// A server that is busy with another snapshot would take longer than that; then
// the proof compares the moving data.
const pinPatience = 150 * time.Millisecond

// pins are snapshots of both sides as they stood under the fence: each is a
// replica's full synchronisation, whose bytes wait in the server's forked child
// until they are read.
type pins struct {
	source, target *psync
	// at is the servers' time behind both forks, in Unix milliseconds: keys that
	// ended before may be there or gone on either side.
	at int64
}

// Pin keeps a snapshot of both sides as they stand under the fence. Where a
// server does not fork at once none is kept, and comparing the pinned says so.
func (m *Mover) Pin(ctx context.Context) error {
	m.Unpin(ctx)
	m.mu.Lock()
	f := m.fence
	m.mu.Unlock()
	if f == nil {
		return fmt.Errorf("pin database %s without a fence: fence the source first", m.cfg.Name)
	}
	short, cancel := context.WithTimeout(ctx, m.pinPatience)
	defer cancel()
	p := &pins{}
	var later sync.Mutex // guards at
	g, gctx := errgroup.WithContext(short)
	for side, into := range map[string]**psync{source: &p.source, target: &p.target} {
		g.Go(func() error {
			snapshot, now, err := m.pinSide(gctx, side, f)
			if err != nil {
				return fmt.Errorf("pin the %s: %w", m.named(side), err)
			}
			*into = snapshot
			later.Lock()
			defer later.Unlock()
			p.at = max(p.at, now)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		p.hangUp()
		if ctx.Err() != nil {
			return err
		}
		m.log.Warn("no snapshot of the cutover point is kept: the moving data is compared instead", "error", err)
		return nil
	}
	m.mu.Lock()
	m.pins = p
	m.mu.Unlock()
	return nil
}

// pinSide makes a server fork. The snapshot must not be one that was begun for
// another replica before the fence: its place in the log tells.
func (m *Mover) pinSide(ctx context.Context, side string, f *fence) (_ *psync, now int64, err error) {
	s, err := m.take(ctx, side)
	if err != nil {
		return nil, 0, err
	}
	defer m.putBack(s)
	least := f.marked.offset
	if side == target {
		info, err := s.info(ctx, "replication")
		if err != nil {
			return nil, 0, err
		}
		at, err := placeOf(info)
		if err != nil {
			return nil, 0, err
		}
		least = at.offset
	}
	p, err := dialPSYNC(ctx, s.Options(), "", 0)
	if err != nil {
		return nil, 0, err
	}
	if p.offset < least {
		p.hangUp()
		return nil, 0, fmt.Errorf("the server gives a snapshot that was begun before, for another replica")
	}
	t, err := s.Time(ctx).Result()
	if err != nil {
		p.hangUp()
		return nil, 0, s.fails("read the time", err)
	}
	return p, t.UnixMilli(), nil
}

func (p *pins) hangUp() {
	for _, side := range []*psync{p.source, p.target} {
		if side != nil {
			side.hangUp()
		}
	}
}

// Unpin gives the snapshots back.
func (m *Mover) Unpin(context.Context) {
	m.mu.Lock()
	p := m.pins
	m.pins = nil
	m.mu.Unlock()
	if p != nil {
		p.hangUp()
	}
}
