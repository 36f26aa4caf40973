package mariadb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dhow/internal/move"
)

// snapshotSeparator stands between the positions of several snapshots.
const snapshotSeparator = ";"

// load brings the target to the point where its stream can run, from wherever it stands.
func (m *Mover) load(ctx context.Context, b *move.Board) error {
	if err := m.ensureStates(ctx); err != nil {
		return err
	}
	conn, err := m.writer(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	src, err := m.session(ctx, source)
	if err != nil {
		return err
	}
	id, err := serverID(ctx, src)
	hangUp(src)
	if err != nil {
		return err
	}
	state, err := readStream(ctx, conn, m.stream)
	if err != nil {
		return err
	}
	switch {
	case m.cfg.Back && (state == nil || state.Phase != phaseStream):
		return &move.Refused{Reason: "the way back does not begin before a cutover", Fix: "cut over first: `dhow cutover`"}
	case state != nil && state.SourceID != id:
		return &move.Refused{Reason: fmt.Sprintf("the target was begun from the server with server_id %s, and the source now has %s", state.SourceID, id), Fix: "give the source its address back, or `dhow finish --abandon` and begin the move again"}
	case state != nil && state.Phase == phaseStream:
		return nil
	}
	l := &loader{m: m, board: b, state: state}
	defer func() { l.snapshots.close() }()
	if state == nil || state.Phase == phaseSchema {
		if err := l.beginAnew(ctx, conn, id, state == nil); err != nil {
			return err
		}
	}
	if l.state.Phase == phaseCopy {
		if err := l.resumeCopy(ctx, conn, id); err != nil {
			return err
		}
	}
	if l.state.Phase == phaseSettle {
		anew, err := l.settle(ctx, conn)
		if err != nil {
			return err
		}
		if l.state.Phase == phaseIndex {
			if err := l.carrySequences(ctx); err != nil {
				return err
			}
		}
		if anew {
			b.Say("the target's server was restarted while it settled: the copy began anew")
			if err := l.startOver(ctx, conn, id); err != nil {
				return err
			}
		}
	}
	return l.complete(ctx, conn)
}

// ensureStates makes the state's database on both sides.
func (m *Mover) ensureStates(ctx context.Context) error {
	for _, side := range []string{source, target} {
		conn, err := m.session(ctx, side)
		if err != nil {
			return err
		}
		if _, err = unlogged(ctx, conn); err == nil {
			err = ensureState(ctx, conn)
		}
		hangUp(conn)
		if err != nil {
			return fmt.Errorf("%s: %w", m.named(side), err)
		}
	}
	return nil
}

// beginAnew makes the schema and plans the copy, under fresh snapshots, and copies.
func (l *loader) beginAnew(ctx context.Context, conn querier, id string, first bool) error {
	there, err := l.m.catalog(ctx, conn)
	if err != nil {
		return err
	}
	if first {
		if len(there.Tables)+len(there.Views) > 0 {
			var name Name
			if len(there.Tables) > 0 {
				name = there.Tables[0].Name
			} else {
				name = there.Views[0]
			}
			return &move.Refused{Reason: fmt.Sprintf("the target is not empty: it has %s", name), Fix: "drop what is there in the databases that move, or choose another target"}
		}
		l.state = &streamState{Phase: phaseSchema, SourceID: id}
		if err := writeStream(ctx, conn, l.m.stream, *l.state); err != nil {
			return err
		}
	}
	if err := l.open(ctx, conn); err != nil {
		return err
	}
	if err := dropAll(ctx, conn, there); err != nil {
		return err
	}
	if err := l.makeSchema(ctx); err != nil {
		return err
	}
	l.state.Phase, l.state.Start, l.state.Settled = phaseCopy, l.snapshots.gtid, l.snapshots.gtid
	chunks, err := l.plan(ctx, l.catalog.Tables, 1, l.deferred)
	if err != nil {
		return err
	}
	return l.copied(ctx, conn, chunks)
}

// deferred says whether a table's indexes are made after its rows.
func (l *loader) deferred(t *Table) bool { return t.Bytes >= min(deferFrom, l.m.limits.ChunkBytes) }

// open takes snapshots and reads what the source holds then.
func (l *loader) open(ctx context.Context, conn querier) (err error) {
	if l.snapshots, err = l.m.takeSnapshots(ctx, l.m.limits.Copies); err != nil {
		return err
	}
	if l.catalog, err = l.m.catalog(ctx, l.snapshots.conns[0]); err != nil {
		return err
	}
	var history int
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM information_schema.system_variables WHERE variable_name = 'SYSTEM_VERSIONING_INSERT_HISTORY'").Scan(&history); err != nil {
		return fmt.Errorf("ask the target whether it takes histories over: %w", err)
	}
	return refuseUncopied(l.catalog, history > 0)
}

// dropAll drops what a copy that is begun anew left behind.
func dropAll(ctx context.Context, conn querier, c *Catalog) error {
	var statements []string
	for _, n := range c.Views {
		statements = append(statements, "DROP VIEW IF EXISTS "+n.SQL())
	}
	for _, t := range c.Tables {
		statements = append(statements, "DROP TABLE IF EXISTS "+t.SQL())
	}
	for _, n := range c.Sequences {
		statements = append(statements, "DROP SEQUENCE IF EXISTS "+n.SQL())
	}
	for _, sql := range statements {
		if _, err := conn.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("begin the copy anew: %w", err)
		}
	}
	return nil
}

// copied copies chunks and enters the phase that comes after.
func (l *loader) copied(ctx context.Context, conn querier, chunks []chunk) error {
	if err := l.copyChunks(ctx, chunks); err != nil {
		return err
	}
	l.snapshots.close()
	l.snapshots = nil
	l.state.Phase = phaseIndex
	if strings.Contains(l.state.Settled, snapshotSeparator) {
		l.state.Phase = phaseSettle
	}
	return writeStream(ctx, conn, l.m.stream, *l.state)
}

// startOver forgets the copy and makes it again.
func (l *loader) startOver(ctx context.Context, conn querier, id string) error {
	l.snapshots.close()
	l.snapshots = nil
	r, err := l.m.replication(ctx, conn)
	if err != nil {
		return err
	}
	if l.state.Positioned { // of the settling; the new copy has another position
		if err := r.remove(ctx, conn); err != nil {
			return err
		}
	}
	l.state = &streamState{Phase: phaseSchema, SourceID: id}
	if err := writeStream(ctx, conn, l.m.stream, *l.state); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "DELETE FROM dhow.chunk WHERE stream = ?", l.m.stream); err != nil {
		return fmt.Errorf("forget the copy: %w", err)
	}
	return l.beginAnew(ctx, conn, id, false)
}

// resumeCopy goes on with a copy whose snapshots are gone with their sessions.
// Tables that are whole stay at their snapshot's position; the others are made and
// copied again under a new one. Then the target settles: the finished tables follow
// the stream up to the new snapshot's position.
func (l *loader) resumeCopy(ctx context.Context, conn querier, id string) error {
	chunks, err := readPlan(ctx, conn, l.m.stream)
	if err != nil {
		return err
	}
	r, err := l.m.replication(ctx, conn)
	if err != nil {
		return err
	}
	done := finished(chunks)
	if _, managed := r.(*rdsReplication); len(done) == 0 || managed {
		if len(done) > 0 {
			l.board.Say("the copy was interrupted and began anew: a managed server's replication can not be limited to the tables that were finished")
		}
		return l.startOver(ctx, conn, id)
	}
	if len(done) == countTables(chunks) { // it ended between the last row and the note of it
		return l.copied(ctx, conn, nil)
	}
	if err := l.open(ctx, conn); err != nil {
		return err
	}
	keep := cascaded(l.catalog, done)
	var again []*Table
	for _, t := range l.catalog.Tables {
		if !keep[t.Name] {
			again = append(again, t)
		}
	}
	if err := l.remake(ctx, conn, chunks, keep, again); err != nil {
		return err
	}
	list := strings.Split(l.state.Settled, snapshotSeparator)
	if list[len(list)-1] != l.snapshots.gtid {
		list = append(list, l.snapshots.gtid)
	}
	l.state.Settled = strings.Join(list, snapshotSeparator)
	last := 0
	for _, ch := range chunks {
		last = max(last, ch.ID)
		if keep[ch.Table] {
			l.board.Expect(ch.Table.String(), ch.Rows, ch.Bytes)
			l.board.Done(ch.Table.String(), ch.Rows, ch.Bytes)
			l.board.TableDone(ch.Table.String())
		}
	}
	todo, err := l.plan(ctx, again, last+1, l.deferred)
	if err != nil {
		return err
	}
	return l.copied(ctx, conn, todo)
}

// carrySequences gives the sequences their state of now: while tables settled, what
// the log says of sequences was left out.
func (l *loader) carrySequences(ctx context.Context) error {
	src, err := l.m.session(ctx, source)
	if err != nil {
		return err
	}
	defer hangUp(src)
	to, err := l.m.writer(ctx)
	if err != nil {
		return err
	}
	defer hangUp(to)
	for _, n := range l.catalog.Sequences {
		if err := carrySequence(ctx, src, to, n); err != nil {
			return err
		}
	}
	return nil
}

// finished are the tables of which every piece is copied.
func finished(chunks []chunk) map[Name]bool {
	done := map[Name]bool{}
	for _, ch := range chunks {
		if was, ok := done[ch.Table]; !ok || was {
			done[ch.Table] = ch.Done
		}
	}
	for n, is := range done {
		if !is {
			delete(done, n)
		}
	}
	return done
}

func countTables(chunks []chunk) int {
	all := map[Name]bool{}
	for _, ch := range chunks {
		all[ch.Table] = true
	}
	return len(all)
}

// cascaded are the finished tables without those whose rows a table that is not
// finished changes by a foreign key: such changes are in no log.
func cascaded(c *Catalog, done map[Name]bool) map[Name]bool {
	keep := map[Name]bool{}
	for n := range done {
		keep[n] = true
	}
	for changed := true; changed; {
		changed = false
		for _, t := range c.Tables {
			if !keep[t.Name] {
				continue
			}
			for _, f := range t.ForeignKeys {
				if f.cascades() && !keep[f.Parent] {
					delete(keep, t.Name)
					changed = true
				}
			}
		}
	}
	return keep
}

func (f ForeignKey) cascades() bool {
	acts := func(rule string) bool { return rule == "CASCADE" || rule == "SET NULL" || rule == "SET DEFAULT" }
	return acts(f.OnDelete) || acts(f.OnUpdate)
}

// remake drops the tables that are copied again, and makes them as they are now.
func (l *loader) remake(ctx context.Context, conn querier, chunks []chunk, keep map[Name]bool, again []*Table) error {
	// Their pieces are undone first, and stay until the new plan takes their place: a
	// copy that is cut off here never takes such a table for whole.
	err := l.inTransaction(ctx, func(q querier) error {
		undone := map[Name]bool{}
		for _, ch := range chunks {
			if keep[ch.Table] || undone[ch.Table] {
				continue
			}
			undone[ch.Table] = true
			if _, err := q.ExecContext(ctx, "UPDATE dhow.chunk SET done_gtid = NULL WHERE stream = ? AND schema_name = ? AND table_name = ?", l.m.stream, ch.Table.Schema, ch.Table.Name); err != nil {
				return fmt.Errorf("begin the copy of table %s anew: %w", ch.Table, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	there, err := l.m.catalog(ctx, conn)
	if err != nil {
		return err
	}
	for _, t := range there.Tables {
		if keep[t.Name] {
			continue
		}
		if _, err := conn.ExecContext(ctx, "DROP TABLE IF EXISTS "+t.SQL()); err != nil {
			return fmt.Errorf("begin the copy of table %s anew: %w", t.Name, err)
		}
	}
	w, err := l.m.writer(ctx)
	if err != nil {
		return err
	}
	defer hangUp(w)
	for _, n := range l.catalog.Sequences {
		if !slices.Contains(there.Sequences, n) {
			if err := makeSequence(ctx, l.snapshots.conns[0], w, n); err != nil {
				return err
			}
		}
	}
	return l.makeTables(ctx, again, func(t *Table) waiting { return waiting{l.deferred(t), true} })
}

// complete makes what waited for the rows, and lets the stream begin.
func (l *loader) complete(ctx context.Context, conn querier) error {
	src, err := l.m.session(ctx, source)
	if err != nil {
		return err
	}
	l.catalog, err = l.m.catalog(ctx, src)
	hangUp(src)
	if err != nil {
		return err
	}
	if err := l.makeIndexes(ctx); err != nil {
		return err
	}
	if err := l.makeObjects(ctx); err != nil {
		return err
	}
	if err := l.carryGrants(ctx); err != nil {
		return err
	}
	// Nobody but the stream writes there until the target is opened.
	if err := l.m.guardTarget(ctx, l.board); err != nil {
		return err
	}
	l.state.Phase = phaseStream
	return writeStream(ctx, conn, l.m.stream, *l.state)
}
