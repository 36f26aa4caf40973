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
	// spareSource: one that locks, one that marks, one that looks meanwhile.
	spareSource = 3
	// spareTarget: those that complete the target together; one of them opens it.
	spareTarget = 3
	// sealWait bounds what a sealing session may wait for at its server, in seconds:
	// nobody should hold what it needs. The context bounds it more closely.
	sealWait = 2
)

// kind is what a worker is for.
type kind int

const (
	ordinary kind = iota
	// seals: it changes what the other side must not change too, and waits for nobody long.
	seals
)

// worker is a session to a side, for the steps of the promotion.
type worker struct {
	*sql.Conn
	side string
	kind kind
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

// post is where spares wait.
type post struct {
	side string
	kind kind
}

// spares are workers that are open and idle.
type spares struct {
	mu   sync.Mutex
	idle map[post][]*worker
}

// openSpares opens all spare sessions anew.
func (m *Mover) openSpares(ctx context.Context) error {
	m.closeSpares()
	g, gctx := errgroup.WithContext(ctx)
	for at, n := range map[post]int{{source, ordinary}: spareSource, {source, seals}: 1, {target, seals}: spareTarget} {
		for range n {
			g.Go(func() error {
				w, err := m.open(gctx, at)
				if err == nil {
					m.putBack(w)
				}
				return err
			})
		}
	}
	return g.Wait()
}

// worker opens a plain session.
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

// open opens a session of a kind.
func (m *Mover) open(ctx context.Context, at post) (*worker, error) {
	w, err := m.worker(ctx, at.side)
	if err != nil || at.kind == ordinary {
		return w, err
	}
	w.kind = at.kind
	if err = w.quiet(ctx); err == nil {
		_, err = w.ExecContext(ctx, fmt.Sprintf("SET SESSION lock_wait_timeout = %d", sealWait))
	}
	if err != nil {
		hangUp(w.Conn)
		return nil, fmt.Errorf("prepare a session at the %s: %w", m.named(at.side), err)
	}
	return w, nil
}

// take gives a spare session that answers, or opens one.
func (m *Mover) take(ctx context.Context, side string, of kind) (*worker, error) {
	at := post{side, of}
	for {
		m.spares.mu.Lock()
		list := m.spares.idle[at]
		var w *worker
		if n := len(list); n > 0 {
			w, m.spares.idle[at] = list[n-1], list[:n-1]
		}
		m.spares.mu.Unlock()
		if w == nil {
			return m.open(ctx, at)
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

// putBack keeps an idle session for the next step.
func (m *Mover) putBack(w *worker) {
	m.spares.mu.Lock()
	defer m.spares.mu.Unlock()
	if m.spares.idle == nil {
		m.spares.idle = map[post][]*worker{}
	}
	at := post{w.side, w.kind}
	m.spares.idle[at] = append(m.spares.idle[at], w)
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
