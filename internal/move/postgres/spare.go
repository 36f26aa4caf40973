package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// Opening a session takes milliseconds: a process of the server's and the
// key stretching of the password. What a session does first takes several times as
// long as what it has done before, for it knows neither the statement nor the
// server's catalog yet. Under the fence clients would wait for that, so Prepare opens
// beforehand what the steps behind it need, and lets each session ask once what it
// will be asked.
const (
	// spareSource: one that locks, one that looks and marks, one that pins.
	spareSource = 3
	// spareTarget: one that completes and opens, one that pins.
	spareTarget = 2
)

// spares are sessions that are open and idle.
type spares struct {
	mu   sync.Mutex
	idle map[string][]*pgx.Conn // by side
}

// dialer opens a session to one side.
type dialer struct {
	side string
	open func(context.Context) (*pgx.Conn, error)
}

func (m *Mover) sourceSide() dialer { return dialer{"source", m.source} }
func (m *Mover) targetSide() dialer { return dialer{"target", m.target} }

// openSpares opens all spare sessions anew.
func (m *Mover) openSpares(ctx context.Context) error {
	m.closeSpares(ctx)
	g, gctx := errgroup.WithContext(ctx)
	for range spareSource {
		g.Go(func() error { return m.addSpare(gctx, m.sourceSide()) })
	}
	for range spareTarget {
		g.Go(func() error { return m.addSpare(gctx, m.targetSide()) })
	}
	return g.Wait()
}

func (m *Mover) addSpare(ctx context.Context, d dialer) error {
	conn, err := d.open(ctx)
	if err != nil {
		return err
	}
	if err := m.acquaint(ctx, d, conn); err != nil {
		hangUp(ctx, conn)
		return err
	}
	m.putBack(ctx, d, conn)
	return nil
}

// acquaint asks what the fence and the seal will ask at a side.
func (m *Mover) acquaint(ctx context.Context, d dialer, conn *pgx.Conn) error {
	if _, err := fenced(ctx, conn, m.moveName()); err != nil {
		return err
	}
	c, err := m.relations(ctx, conn)
	if err != nil {
		return err
	}
	if _, err := readSequences(ctx, conn, c.Sequences); err != nil {
		return fmt.Errorf("read the %s's sequences: %w", d.side, err)
	}
	if d.side == m.sourceSide().side {
		_, err = readPulse(ctx, conn, m.cfg.Schemas, m.cfg.Exclude, m.stream)
		return err
	}
	start, err := insertPosition(ctx, conn)
	if err != nil {
		return err
	}
	if _, err := m.wayBackIsOpen(ctx, conn, start); err != nil {
		return err
	}
	_, err = databaseID(ctx, conn)
	return err
}

// take gives a spare session that answers, or opens one.
func (m *Mover) take(ctx context.Context, d dialer) (*pgx.Conn, error) {
	for {
		m.spares.mu.Lock()
		list := m.spares.idle[d.side]
		var conn *pgx.Conn
		if n := len(list); n > 0 {
			conn = list[n-1]
			m.spares.idle[d.side] = list[:n-1]
		}
		m.spares.mu.Unlock()
		if conn == nil {
			return d.open(ctx)
		}
		if conn.Ping(ctx) == nil {
			return conn, nil
		}
		hangUp(ctx, conn) // its server was started again meanwhile
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// putBack keeps an idle session for the next step; one in any other state is closed.
func (m *Mover) putBack(ctx context.Context, d dialer, conn *pgx.Conn) {
	const idle = 'I'
	if conn.IsClosed() || conn.PgConn().TxStatus() != idle {
		hangUp(ctx, conn)
		return
	}
	m.spares.mu.Lock()
	if m.spares.idle == nil {
		m.spares.idle = map[string][]*pgx.Conn{}
	}
	m.spares.idle[d.side] = append(m.spares.idle[d.side], conn)
	m.spares.mu.Unlock()
}

func (m *Mover) closeSpares(ctx context.Context) {
	m.spares.mu.Lock()
	idle := m.spares.idle
	m.spares.idle = nil
	m.spares.mu.Unlock()
	for _, list := range idle {
		for _, conn := range list {
			hangUp(ctx, conn)
		}
	}
}
