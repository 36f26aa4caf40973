package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Opening a session takes several round trips. Under the fence clients would wait
// for them, so Prepare opens beforehand what the steps behind it need.
const (
	// spareSource: one that locks, one that looks and marks.
	spareSource = 2
	// spareTarget: one that completes and opens.
	spareTarget = 1
)

// worker is a session to a side, for the steps of the promotion.
type worker struct {
	*sql.Conn
	side string
	// id is the session's number at its server.
	id int64
	// unlogged: what it writes stays out of the binary log.
	unlogged bool
}

// quiet keeps what the worker writes out of the binary log, where the server lets us.
func (w *worker) quiet(ctx context.Context) (err error) {
	if !w.unlogged {
		w.unlogged, err = unlogged(ctx, w)
	}
	return err
}

// spares are workers that are open and idle.
type spares struct {
	mu   sync.Mutex
	idle map[string][]*worker // by side
}

// openSpares opens all spare sessions anew.
func (m *Mover) openSpares(ctx context.Context) error {
	m.closeSpares()
	g, gctx := errgroup.WithContext(ctx)
	for side, n := range map[string]int{source: spareSource, target: spareTarget} {
		for range n {
			g.Go(func() error {
				w, err := m.worker(gctx, side)
				if err == nil {
					m.putBack(w)
				}
				return err
			})
		}
	}
	return g.Wait()
}

// worker opens a session.
func (m *Mover) worker(ctx context.Context, side string) (*worker, error) {
	conn, err := m.session(ctx, side)
	if err != nil {
		return nil, err
	}
	w := &worker{Conn: conn, side: side}
	if err := w.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&w.id); err != nil {
		hangUp(conn)
		return nil, fmt.Errorf("ask for a session's number at the %s: %w", m.named(side), err)
	}
	return w, nil
}

// take gives a spare session that answers, or opens one.
func (m *Mover) take(ctx context.Context, side string) (*worker, error) {
	for {
		m.spares.mu.Lock()
		list := m.spares.idle[side]
		var w *worker
		if n := len(list); n > 0 {
			w, m.spares.idle[side] = list[n-1], list[:n-1]
		}
		m.spares.mu.Unlock()
		if w == nil {
			return m.worker(ctx, side)
		}
		if w.PingContext(ctx) == nil {
			return w, nil
		}
		hangUp(w.Conn) // its server was started again meanwhile
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// putBack keeps an idle session for the next step. One whose settings were changed
// is closed by who took it.
func (m *Mover) putBack(w *worker) {
	if w.unlogged {
		hangUp(w.Conn) // the next user may have to write for the other side to read
		return
	}
	m.spares.mu.Lock()
	defer m.spares.mu.Unlock()
	if m.spares.idle == nil {
		m.spares.idle = map[string][]*worker{}
	}
	m.spares.idle[w.side] = append(m.spares.idle[w.side], w)
}

func (m *Mover) closeSpares() {
	m.spares.mu.Lock()
	idle := m.spares.idle
	m.spares.idle = nil
	m.spares.mu.Unlock()
	for _, list := range idle {
		for _, w := range list {
			hangUp(w.Conn)
		}
	}
}
