package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// load brings the target from wherever it stands to a full copy with all its
// indexes and constraints. What is done is noted on the target in the very
// transaction that does it, so a load that was killed goes on from there.
func (m *Mover) load(ctx context.Context, report func(move.Progress)) (*streamState, error) {
	target, err := m.target(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, target)
	source, err := m.source(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, source)
	state, err := m.resumable(ctx, source, target)
	if err != nil || state != nil && state.Phase == phaseStream {
		return state, err
	}
	if m.cfg.Back {
		return nil, &move.Refused{Reason: fmt.Sprintf("there is no way back for database %s yet", m.cfg.Name), Fix: "it opens with `dhow cutover`"}
	}
	if err := m.endPredecessors(ctx, target); err != nil {
		return nil, err
	}
	if state, err = readStream(ctx, target, m.stream); err != nil { // what they did last
		return nil, err
	}
	l := &loader{m: m, source: source, target: target, state: state, progress: newProgress(m.cfg.Name, report)}
	stop := l.progress.start(ctx)
	defer stop()
	defer l.release(ctx)
	if state == nil || state.Phase == phaseSchema {
		if err := l.begin(ctx); err != nil {
			return nil, err
		}
	}
	for l.state.Phase == phaseCopy {
		err := l.copyAll(ctx)
		if errors.Is(err, errRewritten) {
			m.log.Warn("the copy goes on under a new snapshot", "error", err)
			l.release(ctx)
			if err := m.endPredecessors(ctx, target); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	if err := l.finish(ctx); err != nil {
		return nil, err
	}
	return l.state, nil
}

// resumable reads where the move stands and refuses what is not its own.
func (m *Mover) resumable(ctx context.Context, source, target *pgx.Conn) (*streamState, error) {
	sourceID, err := databaseID(ctx, source)
	if err != nil {
		return nil, err
	}
	targetID, err := databaseID(ctx, target)
	if err != nil {
		return nil, err
	}
	if sourceID == targetID {
		return nil, &move.Refused{Reason: fmt.Sprintf("source and target of %s are the same database, %s on one server", m.cfg.Name, m.cfg.Source.Database), Fix: "name another target in the estate"}
	}
	for side, conn := range map[string]*pgx.Conn{"source": source, "target": target} {
		v, err := serverVersion(ctx, conn)
		if err != nil {
			return nil, err
		}
		if !v.supported() {
			return nil, &move.Refused{Reason: fmt.Sprintf("the %s of %s is PostgreSQL %d; versions %d to %d are supported", side, m.cfg.Name, v.major, oldestVersion, newestVersion), Fix: "upgrade it, or use a newer dhow"}
		}
	}
	state, err := readStream(ctx, target, m.stream)
	if err != nil {
		return nil, err
	}
	if state != nil {
		if state.SourceID != sourceID {
			return nil, &move.Refused{Reason: fmt.Sprintf("the target of %s holds a move from another source", m.cfg.Name), Fix: "name the right source in the estate, or run `dhow finish --abandon` with the old estate"}
		}
		return state, nil
	}
	if m.cfg.Back {
		return nil, nil
	}
	var objects string
	err = target.QueryRow(ctx, `SELECT coalesce(string_agg(n.nspname || '.' || c.relname, ', ' ORDER BY n.nspname, c.relname), '') FROM (
			SELECT * FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') ORDER BY oid) c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'dhow')
		AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')`).Scan(&objects)
	if err != nil {
		return nil, fmt.Errorf("look at the target: %w", err)
	}
	if objects != "" {
		const most = 200
		if len(objects) > most {
			objects = objects[:most] + "..."
		}
		return nil, &move.Refused{Reason: fmt.Sprintf("the target of %s is not empty, it holds %s", m.cfg.Name, objects), Fix: "name an empty database in the estate, or empty this one"}
	}
	return nil, nil
}

// loader is one run of load.
type loader struct {
	m              *Mover
	source, target *pgx.Conn
	state          *streamState
	progress       *progress
	snapshot       *snapshot
}

// snapshot is an exported snapshot whose place in the stream is known exactly.
type snapshot struct {
	name string
	at   LSN
	conn *pgconn.PgConn // keeps it
}

func (l *loader) release(ctx context.Context) {
	if l.snapshot != nil {
		last, cancel := parting(ctx)
		defer cancel()
		_ = l.snapshot.conn.Close(last) // a temporary slot goes with it
		l.snapshot = nil
	}
}

// takeSnapshot creates a slot and keeps the snapshot that it exports: what
// committed before the slot's position is in the snapshot, what commits later is
// in the stream.
func (l *loader) takeSnapshot(ctx context.Context, slot string, temporary bool) error {
	l.release(ctx)
	cfg := l.m.cfg.Source.Copy()
	cfg.RuntimeParams = map[string]string{"replication": "database", "application_name": "dhow snapshot " + l.m.stream,
		"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"} // it is idle, in a transaction, as long as the copy takes
	pg, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return fmt.Errorf("open a session that makes slot %s: %w", slot, explainConnect(ctx, l.m.cfg.Source, l.m.named("source"), err))
	}
	res, err := pglogrepl.CreateReplicationSlot(ctx, pg, slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{Temporary: temporary, SnapshotAction: "EXPORT_SNAPSHOT", Mode: pglogrepl.LogicalReplication})
	if err != nil {
		_ = pg.Close(ctx)
		return fmt.Errorf("create slot %s on the source: %w", slot, err)
	}
	at, err := pglogrepl.ParseLSN(res.ConsistentPoint)
	if err != nil {
		_ = pg.Close(ctx)
		return fmt.Errorf("read the position of slot %s: %w", slot, err)
	}
	l.snapshot = &snapshot{name: res.SnapshotName, at: LSN(at), conn: pg}
	return nil
}

// begin makes the slot, and on the target the schema and the plan of the copy.
func (l *loader) begin(ctx context.Context) error {
	m := l.m
	l.progress.phase(move.PhaseSchema)
	for _, conn := range []*pgx.Conn{l.source, l.target} {
		if err := ensureState(ctx, conn); err != nil {
			return err
		}
	}
	id, err := databaseID(ctx, l.source)
	if err != nil {
		return err
	}
	l.state = &streamState{Phase: phaseSchema, Slot: m.stream, SourceID: id, Lanes: m.limits.Lanes}
	if err := writeStream(ctx, l.target, m.stream, *l.state); err != nil {
		return err
	}
	c, err := m.catalog(ctx, l.source)
	if err != nil {
		return err
	}
	if err := publish(ctx, l.source, m.stream, c); err != nil {
		return err
	}
	if err := dropSlot(ctx, l.source, m.stream); err != nil {
		return err
	}
	if err := l.takeSnapshot(ctx, m.stream, false); err != nil {
		return err
	}
	l.state.Start, l.state.Settled, l.state.Phase = l.snapshot.at, l.snapshot.at, phaseCopy
	server, err := serverVersion(ctx, l.source)
	if err != nil {
		return err
	}
	d, err := m.dumpSchema(ctx, l.snapshot.name, server)
	if err != nil {
		return err
	}
	var roles []string
	for _, list := range [][]entry{d.pre, d.post} {
		for i, e := range list {
			mapped, used := mapRoles(e, m.cfg.Roles)
			list[i] = mapped
			roles = append(roles, used...)
		}
	}
	missing, err := missingRoles(ctx, l.target, roles)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return refuseMissingRoles(missing)
	}
	chunks, err := l.plan(ctx, server)
	if err != nil {
		return err
	}
	schema, err := l.schemaAtSnapshot(ctx)
	if err != nil {
		return err
	}
	sizes, err := indexSizes(ctx, l.source)
	if err != nil {
		return err
	}
	// A session of its own: the dump's settings (search_path, role) end with it.
	conn, err := m.target(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, d.settings+m.writerName()); err != nil {
			return fmt.Errorf("prepare the target's session: %w", err)
		}
		for _, e := range d.pre {
			if skipped(e) {
				continue
			}
			if _, err := tx.Exec(ctx, e.SQL); err != nil {
				return fmt.Errorf("create %s %s on the target: %w", strings.ToLower(e.Type), qualified(e), err)
			}
		}
		if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog"); err != nil {
			return fmt.Errorf("prepare the target's session: %w", err)
		}
		if err := storePlan(ctx, tx, m.stream, chunks); err != nil {
			return err
		}
		if err := storePost(ctx, tx, m.stream, d.settings, d.post, sizes); err != nil {
			return err
		}
		made, err := loadCatalog(ctx, tx.Conn(), m.cfg.Schemas, m.cfg.Exclude)
		if err != nil {
			return fmt.Errorf("read what was created on the target: %w", err)
		}
		if err := installFence(ctx, tx, made, m.moveName(), "target"); err != nil {
			return err
		}
		if err := storeAccepted(ctx, tx, m.stream, schema); err != nil {
			return err
		}
		return writeStream(ctx, tx, m.stream, *l.state)
	})
}

func qualified(e entry) string {
	if e.Schema == "-" {
		return e.Name
	}
	return e.Schema + "." + e.Name
}

// finish builds what comes after the copy, and ends the load.
func (l *loader) finish(ctx context.Context) error {
	m := l.m
	l.release(ctx)
	l.progress.phase(move.PhaseIndex)
	if l.state.Settled > l.state.Start {
		// Rows of one table were copied under two snapshots. Until the stream has
		// passed the second, rows may meet that never met at the source: only the
		// keys may be unique until then.
		if err := l.buildKeys(ctx, nil); err != nil {
			return err
		}
		if err := l.settle(ctx); err != nil {
			return err
		}
	}
	if err := l.buildPost(ctx); err != nil {
		return err
	}
	c, err := m.catalog(ctx, l.target)
	if err != nil {
		return err
	}
	if err := l.fillViews(ctx); err != nil {
		return err
	}
	if err := m.analyze(ctx, c); err != nil {
		return err
	}
	l.state.Phase = phaseStream
	return pgx.BeginFunc(ctx, l.target, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM dhow.postdata WHERE stream = $1", m.stream); err != nil {
			return fmt.Errorf("forget the finished entries: %w", err)
		}
		return writeStream(ctx, tx, m.stream, *l.state)
	})
}

// fillViews fills the materialized views that the source has filled. One may
// read from another, which must be filled before: what fails is tried again
// after the others.
func (l *loader) fillViews(ctx context.Context) error {
	rows, err := l.source.Query(ctx, `SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'm' AND c.relispopulated AND `+scope+` ORDER BY c.oid`, nonNil(l.m.cfg.Schemas), nonNil(l.m.cfg.Exclude))
	if err != nil {
		return fmt.Errorf("list the materialized views: %w", err)
	}
	views, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Name])
	if err != nil {
		return fmt.Errorf("list the materialized views: %w", err)
	}
	for len(views) > 0 {
		var failed []Name
		var why error
		for _, v := range views {
			if _, err := l.target.Exec(ctx, "REFRESH MATERIALIZED VIEW "+v.SQL()); err != nil {
				failed, why = append(failed, v), fmt.Errorf("fill materialized view %s on the target: %w", v, withoutDetail(err))
			}
		}
		if len(failed) == len(views) {
			return why
		}
		views = failed
	}
	return nil
}

// settle lets the stream run until it has passed the last snapshot of the copy, and what
// it fetched again on the way: such a row is ahead of the stream, so that it may meet
// another that it never met at the source, and no constraint can be made until then.
func (l *loader) settle(ctx context.Context) error {
	for {
		passed, err := l.pass(ctx)
		if err != nil {
			return fmt.Errorf("stream until the copy is settled: %w", err)
		}
		last, cancel := parting(ctx)
		fresh, err := readStream(last, l.target, l.m.stream)
		cancel()
		if err != nil {
			return err
		}
		l.state.Settled = max(l.state.Settled, fresh.Settled)
		if l.state.Settled <= passed {
			return nil
		}
	}
}

// pass lets the stream run until the target has all that the source holds now, and says
// up to where that is. It stops right there: behind a marker each lane goes on for
// itself, and rows of one table could be of different moments.
func (l *loader) pass(ctx context.Context) (LSN, error) {
	r, err := l.m.newRelay(ctx, *l.state)
	if err != nil {
		return 0, err
	}
	mk, err := l.m.mark(ctx, l.source)
	if err != nil {
		return 0, err
	}
	var at LSN
	if err := at.Scan(mk.Position); err != nil {
		return 0, err
	}
	r.until = mk.N
	if err := r.run(ctx); !errors.Is(err, errArrived) {
		return 0, err
	}
	return at, nil
}

// analyze renews the statistics of all tables, several at once.
func (m *Mover) analyze(ctx context.Context, c *Catalog) error {
	names := make(chan Name)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(names)
		for _, t := range c.Tables {
			select {
			case names <- t.Name:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(m.limits.Copies, max(1, len(c.Tables))) {
		g.Go(func() error {
			conn, err := m.target(ctx)
			if err != nil {
				return err
			}
			defer hangUp(ctx, conn)
			for n := range names {
				if _, err := conn.Exec(ctx, "ANALYZE "+n.SQL()); err != nil {
					return fmt.Errorf("analyze table %s: %w", n, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// progress gathers what a load does and reports it from time to time.
type progress struct {
	report func(move.Progress)
	board  move.Board
}

func newProgress(database string, report func(move.Progress)) *progress {
	return &progress{report: report, board: move.Board{Database: database}}
}

func (p *progress) phase(ph move.Phase) { p.board.Begin(ph, 0) }

func (p *progress) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	send := func() { p.report(p.board.Read(time.Now())) }
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				send()
				return
			case <-tick.C:
				send()
			}
		}
	}()
	return func() { cancel(); <-ended }
}
