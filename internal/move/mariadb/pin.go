package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
)

// A MariaDB snapshot can not be given from session to session. So as many sessions
// as the comparison will use take theirs while the fence stands: nothing is written
// meanwhile, and all show the same.

// pins are sessions of both sides that each keep a snapshot of the data as it stands
// under the fence, once they are pinned.
type pins struct {
	pairs  []*pair
	pinned bool
	using  sync.Mutex // held by the comparison that uses them
}

// pair is a session on each side, both of which see what is to be compared.
type pair struct{ source, target *sql.Conn }

// pinSettings keep an idle session, and let a snapshot show one instant whatever the
// server's own isolation is.
var pinSettings = []string{ //nolint:gochecknoglobals // a constant in all but syntax
	"SET SESSION wait_timeout = 86400, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0",
	"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
}

// readyPins opens the sessions that Pin will use, so that this costs no stall. It may
// be called again.
func (m *Mover) readyPins(ctx context.Context) error {
	m.mu.Lock()
	have := m.pins != nil
	m.mu.Unlock()
	if have {
		return nil
	}
	p, err := m.openPins(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.pins = p
	m.mu.Unlock()
	return nil
}

// Pin keeps a snapshot of both sides as they stand under the fence.
func (m *Mover) Pin(ctx context.Context) error {
	m.mu.Lock()
	p := m.pins
	m.pins = nil
	m.mu.Unlock()
	if p != nil && (p.pinned || p.pin(ctx) != nil) { // of an earlier attempt, or gone meanwhile
		p.close()
		p = nil
	}
	if p == nil {
		var err error
		if p, err = m.openPins(ctx); err != nil {
			return err
		}
		if err := p.pin(ctx); err != nil {
			p.close()
			return fmt.Errorf("pin database %s: %w", m.cfg.Name, err)
		}
	}
	m.mu.Lock()
	m.pins = p
	m.mu.Unlock()
	return nil
}

// Unpin gives the snapshots back.
func (m *Mover) Unpin(context.Context) {
	m.mu.Lock()
	p := m.pins
	m.pins = nil
	m.mu.Unlock()
	if p != nil {
		p.close()
	}
}

// openPins opens one pair of sessions that plans, and one for each worker.
func (m *Mover) openPins(ctx context.Context) (*pins, error) {
	p := &pins{pairs: make([]*pair, 1+m.workers())}
	g, ctx := errgroup.WithContext(ctx)
	for i := range p.pairs {
		g.Go(func() error {
			opened, err := m.openPair(ctx)
			if err != nil {
				return err
			}
			p.pairs[i] = opened
			return opened.both(ctx, func(ctx context.Context, _ int, conn *sql.Conn) error {
				for _, set := range pinSettings {
					if _, err := conn.ExecContext(ctx, set); err != nil {
						return fmt.Errorf("prepare a session for a snapshot: %w", err)
					}
				}
				// Outside of the binary log a session can give a table's lock back within
				// its transaction (see unlocking). Where that is refused it keeps them.
				_, err := unlogged(ctx, conn)
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// pin takes all snapshots.
func (p *pins) pin(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, of := range p.pairs {
		g.Go(func() error {
			return of.both(ctx, func(ctx context.Context, _ int, conn *sql.Conn) error {
				if _, err := conn.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"); err != nil {
					return fmt.Errorf("take a snapshot: %w", err)
				}
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	p.pinned = true
	return nil
}

func (p *pins) close() {
	for _, of := range p.pairs {
		of.close()
	}
}

// openPair opens a session on each side.
func (m *Mover) openPair(ctx context.Context) (*pair, error) {
	p := &pair{}
	g, gctx := errgroup.WithContext(ctx)
	for _, side := range []string{source, target} {
		g.Go(func() (err error) {
			conn, err := m.session(gctx, side)
			if side == source {
				p.source = conn
			} else {
				p.target = conn
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// both runs do on both sides at once: 0 is the source, 1 the target.
func (p *pair) both(ctx context.Context, do func(ctx context.Context, i int, conn *sql.Conn) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, side := range []string{source, target} {
		g.Go(func() error {
			if err := do(ctx, i, p.side(i)); err != nil {
				return fmt.Errorf("on the %s: %w", side, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// bothSides is both for what needs no session of its own kind.
func (p *pair) bothSides(ctx context.Context, do func(ctx context.Context, i int, q querier) error) error {
	return p.both(ctx, func(ctx context.Context, i int, conn *sql.Conn) error { return do(ctx, i, conn) })
}

func (p *pair) side(i int) *sql.Conn {
	if i == 0 {
		return p.source
	}
	return p.target
}

func (p *pair) close() {
	if p == nil {
		return
	}
	for _, conn := range []*sql.Conn{p.source, p.target} {
		if conn != nil {
			hangUp(conn)
		}
	}
}
