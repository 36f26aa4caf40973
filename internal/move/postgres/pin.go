package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// pins are snapshots of both sides as they stood under the fence.
type pins struct{ source, target pin }

// pin is a session that keeps a snapshot alive; others import it by its name
// with SET TRANSACTION SNAPSHOT.
type pin struct {
	conn     *pgx.Conn
	snapshot string
}

// Pin keeps a snapshot of both sides as they stand under the fence.
func (m *Mover) Pin(ctx context.Context) error {
	m.Unpin(ctx)
	p := &pins{}
	var err error
	if p.source, err = m.pinSide(ctx, m.sourceSide()); err != nil {
		return fmt.Errorf("pin the source: %w", err)
	}
	if p.target, err = m.pinSide(ctx, m.targetSide()); err != nil {
		hangUp(ctx, p.source.conn)
		return fmt.Errorf("pin the target: %w", err)
	}
	m.mu.Lock()
	m.pins = p
	m.mu.Unlock()
	return nil
}

func (m *Mover) pinSide(ctx context.Context, d dialer) (pin, error) {
	var p pin
	var err error
	if p.conn, err = m.take(ctx, d); err != nil {
		return p, err
	}
	if _, err = p.conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err == nil {
		err = p.conn.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&p.snapshot)
	}
	if err != nil {
		hangUp(ctx, p.conn)
		return p, fmt.Errorf("export a snapshot: %w", err)
	}
	return p, nil
}

// pinTargetAnew replaces the target's snapshot by one that also shows the large
// objects, which no stream carries and which were completed since. The rows are
// the same in both: the stream has stopped and the target takes no writes.
func (m *Mover) pinTargetAnew(ctx context.Context) error {
	m.mu.Lock()
	p := m.pins
	m.mu.Unlock()
	if p == nil {
		return nil
	}
	fresh, err := m.pinSide(ctx, m.targetSide())
	if err != nil {
		return fmt.Errorf("pin the target: %w", err)
	}
	old := p.target.conn
	m.mu.Lock()
	p.target = fresh
	m.mu.Unlock()
	hangUp(ctx, old)
	return nil
}

// Unpin gives the snapshots back.
func (m *Mover) Unpin(ctx context.Context) {
	m.mu.Lock()
	p := m.pins
	m.pins = nil
	m.mu.Unlock()
	if p != nil {
		hangUp(ctx, p.source.conn)
		hangUp(ctx, p.target.conn)
	}
}
