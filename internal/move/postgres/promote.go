package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// quietWait bounds the wait for maintenance to leave the source's tables
	// before the fence; the fence copes without, only slower.
	quietWait = 10 * time.Second
	quietPoll = 100 * time.Millisecond
)

// Prepare does before the fence what would otherwise lengthen it: statistics
// and views of the target, the slot and the publication of the way back, a
// first copy of the large objects, and a wait for maintenance to pass.
func (m *Mover) Prepare(ctx context.Context) error {
	source, err := m.source(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, source)
	target, err := m.target(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, target)
	if err := ensureState(ctx, source); err != nil {
		return err
	}
	if err := m.sameSchema(ctx, source, target); err != nil {
		return err
	}
	c, err := m.catalog(ctx, target)
	if err != nil {
		return err
	}
	if !m.cfg.Back { // on the way back the target has been in service all along
		if err := freshen(ctx, target, c); err != nil {
			return err
		}
	}
	if _, err := m.copyLargeObjects(ctx, source, target); err != nil {
		return err
	}
	if err := m.openWayBack(ctx, target, c); err != nil {
		return err
	}
	if err := m.openSpares(ctx); err != nil {
		return err
	}
	return m.awaitQuiet(ctx, source)
}

// freshen renews statistics and materialized views.
func freshen(ctx context.Context, conn *pgx.Conn, c *Catalog) error {
	for _, v := range c.MaterializedViews {
		var populated bool
		if err := conn.QueryRow(ctx, "SELECT ispopulated FROM pg_matviews WHERE schemaname = $1 AND matviewname = $2", v.Schema, v.Name).Scan(&populated); err != nil {
			return fmt.Errorf("look at materialized view %s: %w", v, err)
		}
		if !populated {
			continue
		}
		if _, err := conn.Exec(ctx, "REFRESH MATERIALIZED VIEW "+v.SQL()); err != nil {
			return fmt.Errorf("refresh materialized view %s: %w", v, err)
		}
	}
	for _, t := range c.Tables {
		if _, err := conn.Exec(ctx, "ANALYZE "+t.SQL()); err != nil {
			return fmt.Errorf("analyze table %s: %w", t.Name, err)
		}
	}
	return nil
}

// openWayBack makes the publication and a fresh slot on the target, from which
// the stream back begins.
func (m *Mover) openWayBack(ctx context.Context, target *pgx.Conn, c *Catalog) error {
	if err := publish(ctx, target, m.back, c); err != nil {
		return err
	}
	if err := dropSlot(ctx, target, m.back); err != nil {
		return err
	}
	if _, err := target.Exec(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", m.back); err != nil {
		return fmt.Errorf("create slot %s on the target, for the way back (it needs wal_level=logical, a free slot and the right to replicate): %w", m.back, err)
	}
	return nil
}

// publish makes the publication hold the tables of the catalog. Each table is
// added by itself: a statement that locks many would meet transactions of the
// application that lock them in another order, and one of the two would be ended.
func publish(ctx context.Context, conn *pgx.Conn, name string, c *Catalog) error {
	want := map[Name]bool{{"dhow", "marker"}: true}
	for _, t := range c.Tables {
		if !t.Unlogged {
			want[t.Name] = true
		}
	}
	var has bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)", name).Scan(&has); err != nil {
		return fmt.Errorf("look for publication %s: %w", name, err)
	}
	id := pgx.Identifier{name}.Sanitize()
	if !has {
		if _, err := conn.Exec(ctx, "CREATE PUBLICATION "+id); err != nil {
			return fmt.Errorf("create publication %s in database %s: %w", name, conn.Config().Database, err)
		}
	}
	rows, err := conn.Query(ctx, `SELECT n.nspname, c.relname FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1`, name)
	if err != nil {
		return fmt.Errorf("list the tables of publication %s: %w", name, err)
	}
	have, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Name])
	if err != nil {
		return fmt.Errorf("list the tables of publication %s: %w", name, err)
	}
	for _, n := range have {
		if want[n] {
			delete(want, n)
			continue
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE ONLY %s", id, n.SQL())); err != nil {
			return fmt.Errorf("take table %s out of publication %s: %w", n, name, err)
		}
	}
	for n := range want {
		if _, err := conn.Exec(ctx, fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE ONLY %s", id, n.SQL())); err != nil {
			return fmt.Errorf("publish table %s of database %s: %w", n, conn.Config().Database, err)
		}
	}
	return nil
}

// dropSlot drops a slot if it exists; a session of ours that still reads from it is ended.
func dropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	for {
		_, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", name)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == objectInUse {
			if _, err := conn.Exec(ctx, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active", name); err != nil {
				return fmt.Errorf("end the session that reads slot %s: %w", name, err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("drop slot %s: %w", name, ctx.Err())
			case <-time.After(quietPoll):
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("drop slot %s: %w", name, err)
		}
		return nil
	}
}

const objectInUse = "55006"

// awaitQuiet waits until no maintenance holds a lock that the fence needs.
func (m *Mover) awaitQuiet(ctx context.Context, source *pgx.Conn) error {
	c, err := m.catalog(ctx, source)
	if err != nil {
		return err
	}
	f := fence{catalog: c}
	until := time.Now().Add(quietWait)
	for {
		var busy bool
		if err := source.QueryRow(ctx, "SELECT EXISTS (SELECT "+blockers+" AND a.backend_type = 'autovacuum worker')", f.oids()).Scan(&busy); err != nil {
			return fmt.Errorf("look for maintenance on the source: %w", err)
		}
		if !busy || time.Now().After(until) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(quietPoll):
		}
	}
}

// Seal completes the target with what the stream does not carry, then makes the
// fence durable: the locks' own transaction creates the triggers and notes where
// the stream back begins. If its commit fails, nothing was sealed.
func (m *Mover) Seal(ctx context.Context) error {
	m.mu.Lock()
	f, running := m.fence, m.running
	m.mu.Unlock()
	if f == nil {
		return errors.New("seal without a fence: fence the source first")
	}
	if running != nil {
		return errors.New("seal while the stream runs: stop it first")
	}
	target, err := m.take(ctx, m.targetSide())
	if err != nil {
		return err
	}
	defer m.putBack(ctx, m.targetSide(), target)
	source, err := m.take(ctx, m.sourceSide())
	if err != nil {
		return err
	}
	defer m.putBack(ctx, m.sourceSide(), source)
	changed, err := m.copyLargeObjects(ctx, source, target)
	if err != nil {
		return err
	}
	if changed > 0 {
		if err := m.pinTargetAnew(ctx); err != nil {
			return err
		}
	}
	if err := copySequences(ctx, source, target, f.catalog.Sequences); err != nil {
		return errors.Join(m.sameSchema(ctx, source, target), err)
	}
	start, err := insertPosition(ctx, target)
	if err != nil {
		return err
	}
	ready, err := m.wayBackIsOpen(ctx, target, start)
	if err != nil {
		return err
	}
	if !ready {
		return fmt.Errorf("slot %s of the way back is not there on the target of database %s: prepare again", m.back, m.cfg.Name)
	}
	id, err := databaseID(ctx, target)
	if err != nil {
		return err
	}
	if _, err := f.conn.Exec(ctx, "DELETE FROM dhow.position WHERE stream = $1", m.back); err != nil {
		return fmt.Errorf("begin the stream back: %w", err)
	}
	if err := writeStream(ctx, f.conn, m.back, streamState{Phase: phaseStream, Slot: m.back, SourceID: id, Lanes: m.limits.Lanes, Start: start, Settled: start}); err != nil {
		return err
	}
	// The locks keep tables from being changed, but not from being created.
	if err := m.sameSchema(ctx, source, target); err != nil {
		return err
	}
	if err := installFence(ctx, f.conn, f.catalog, m.moveName(), "sealed"); err != nil {
		return err
	}
	if _, err := f.conn.Exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("make the fence of database %s durable: %w", m.cfg.Name, err)
	}
	m.mu.Lock()
	m.fence = nil
	m.mu.Unlock()
	hangUp(ctx, f.conn)
	return nil
}

// wayBackIsOpen says whether the target's slot for the way back is there and keeps all
// from a position on.
func (m *Mover) wayBackIsOpen(ctx context.Context, target *pgx.Conn, start LSN) (ready bool, err error) {
	if err := target.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND restart_lsn <= $2::text::pg_lsn)", m.back, start.String()).Scan(&ready); err != nil {
		return false, fmt.Errorf("look for slot %s on the target: %w", m.back, err)
	}
	return ready, nil
}

// insertPosition is the log position behind which a server's next change lies.
func insertPosition(ctx context.Context, conn *pgx.Conn) (LSN, error) {
	var at LSN
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&at); err != nil {
		return 0, fmt.Errorf("read the log position of database %s: %w", conn.Config().Database, err)
	}
	return at, nil
}

// Open lets the target take writes, once the source durably refuses them.
func (m *Mover) Open(ctx context.Context) error {
	source, err := m.take(ctx, m.sourceSide())
	if err != nil {
		return err
	}
	defer m.putBack(ctx, m.sourceSide(), source)
	sealed, err := fenced(ctx, source, m.moveName())
	if err != nil {
		return err
	}
	if !sealed {
		return fmt.Errorf("database %s still takes writes at the source: the target stays closed", m.cfg.Name)
	}
	target, err := m.take(ctx, m.targetSide())
	if err != nil {
		return err
	}
	defer m.putBack(ctx, m.targetSide(), target)
	return pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error { return openFence(ctx, tx, m.moveName()) })
}

// Retire removes the slot of a stream that has done its work, so that it keeps
// no log: called once the target is open. It may be called again.
func (m *Mover) Retire(ctx context.Context) error {
	m.closeSpares(ctx)
	source, err := m.source(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, source)
	return dropSlot(ctx, source, m.stream)
}
