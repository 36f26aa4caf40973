package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

// adopt takes up what changed in the source's schema since the target last
// followed it, provided that the target has been changed alike: the publication
// gets the new tables, rows that no change stream carries are copied again, and
// the schema is stored as followed. It is done before the stream runs. Killed
// in between it is begun again, and ends the same.
func (m *Mover) adopt(ctx context.Context, report func(move.Progress)) error {
	target, err := m.target(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, target)
	source, err := m.source(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, source)
	state, err := m.resumable(ctx, source, target)
	if err != nil || state == nil || state.Phase == phaseSchema {
		return err // there is nothing to follow yet
	}
	if err := ensureState(ctx, target); err != nil {
		return err
	}
	s, err := m.survey(ctx, source, target)
	if err != nil {
		return err
	}
	if s == nil { // the first look, on the way back or after an older dhow
		now, err := m.sourceShape(ctx, source)
		if err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error { return storeAccepted(ctx, tx, m.stream, now) })
	}
	if err := s.refusal(m); err != nil {
		return err
	}
	if len(s.changes) == 0 {
		return nil
	}
	if err := s.tooEarly(m); err != nil {
		return err
	}
	if s.harms() {
		if err := m.takeUp(ctx, source, target, *state, s, report); err != nil {
			return fmt.Errorf("take up the changed schema: %w", err)
		}
	}
	accepted := s.withFollowed()
	m.setNote(s.note())
	return pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error { return storeAccepted(ctx, tx, m.stream, accepted) })
}

// schemaAtSnapshot is the source's schema as the snapshot shows it, which the
// target follows from then on. Every table of it must be in the publication.
func (l *loader) schemaAtSnapshot(ctx context.Context) (shape, error) {
	conn, err := l.atSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, conn)
	s, err := l.m.sourceShape(ctx, conn)
	if err != nil {
		return nil, err
	}
	for k, p := range s {
		d := parse[tableDetail](p.Detail)
		if _, published := s[pieceKey{kindPublished, k.Schema, k.Relation, ""}]; k.Kind == kindTable && d.Kind == "r" && !d.Unlogged && !published {
			return nil, &move.Refused{Reason: fmt.Sprintf("table %s was created in the very moment in which the move began", Name{k.Schema, k.Relation}), Fix: "start `dhow replicate` again"}
		}
	}
	return s, nil
}

// withFollowed is the accepted schema with the changes that the target has
// followed. The others stay open, so that they are named again.
func (s *survey) withFollowed() shape {
	accepted := make(shape, len(s.now))
	for k, p := range s.accepted {
		accepted[k] = p
	}
	set := func(k pieceKey) {
		if p, ok := s.now[k]; ok {
			accepted[k] = p
		} else {
			delete(accepted, k)
		}
	}
	for k, p := range s.now {
		if old, ok := s.accepted[k]; ok && old.Detail == p.Detail {
			set(k) // what only the source knows
		}
	}
	for _, c := range s.changes {
		if !s.followed(c) {
			continue
		}
		for _, k := range c.keys {
			set(k)
			if k.Kind != kindTable {
				continue
			}
			// What belongs to a table that came or went is told with it.
			for _, kind := range partOfTable {
				for _, part := range slices.Concat(s.now.of(kind, Name{k.Schema, k.Relation}), s.accepted.of(kind, Name{k.Schema, k.Relation})) {
					if s.now[part].Detail == s.target[part].Detail || part.Kind == kindPublished {
						set(part)
					}
				}
			}
		}
	}
	return accepted
}

// takeUp brings the publication, the target's fence and the rows up to date.
func (m *Mover) takeUp(ctx context.Context, source, target *pgx.Conn, state streamState, s *survey, report func(move.Progress)) error {
	m.log.Info("the schema has changed on both sides alike", "changes", changeList(s.changes))
	c, err := m.catalog(ctx, source)
	if err != nil {
		return err
	}
	if err := publish(ctx, source, m.stream, c); err != nil {
		return err
	}
	if err := m.fenceNewTables(ctx, target); err != nil {
		return err
	}
	again := slices.DeleteFunc(s.again(s.changes), func(n Name) bool { return c.table(n) == nil || c.table(n).Unlogged })
	if len(again) == 0 {
		return nil
	}
	l := &loader{m: m, source: source, target: target, state: &state, progress: newProgress(m.cfg.Name, report)}
	stop := l.progress.start(ctx)
	defer stop()
	defer l.release(ctx)
	return l.copyAgain(ctx, again)
}

// fenceNewTables closes tables of the target that were made while it takes no writes.
func (m *Mover) fenceNewTables(ctx context.Context, target *pgx.Conn) error {
	var reason string
	err := target.QueryRow(ctx, "SELECT reason FROM dhow.fence WHERE move = $1", m.moveName()).Scan(&reason)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the fence on the target: %w", err)
	}
	c, err := m.catalog(ctx, target)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error { return installFence(ctx, tx, c, m.moveName(), reason) })
}

// copyAgain replaces the rows of tables by those of a new snapshot. The stream
// then leaves out what is older than that, see relation.start.
func (l *loader) copyAgain(ctx context.Context, names []Name) error {
	m := l.m
	l.progress.phase(move.PhaseCopy)
	// The publication is up to date already. The slot's snapshot waits for every
	// transaction that began before, so none is left whose changes of a new table
	// are neither in the snapshot nor in the stream.
	if err := l.takeSnapshot(ctx, m.stream+"_tmp", true); err != nil {
		return err
	}
	server, err := serverVersion(ctx, l.source)
	if err != nil {
		return err
	}
	all, err := l.plan(ctx, server)
	if err != nil {
		return err
	}
	var chunks []chunk
	for _, ch := range all {
		if slices.Contains(names, ch.Table) {
			chunks = append(chunks, ch)
		}
	}
	if err := l.emptied(ctx, names, chunks); err != nil {
		return err
	}
	c, err := m.catalog(ctx, l.source)
	if err != nil {
		return err
	}
	for _, ch := range chunks {
		if c.table(ch.Table) == nil {
			return &move.Refused{Reason: fmt.Sprintf("table %s is gone from the source since the snapshot was taken", ch.Table), Fix: "start `dhow replicate` again"}
		}
		l.progress.board.Expect(ch.Table.String(), c.table(ch.Table).Rows*ch.Estimate/max(c.table(ch.Table).Bytes, 1), ch.Estimate)
	}
	l.progress.board.ExpectSteps(len(chunks))
	// No table is copied alone: one whose keys exist is not written frozen, which would need a TRUNCATE.
	if err := l.copyJobs(ctx, c, jobs(chunks), nil, nil, &counted{}); err != nil {
		return err
	}
	for _, n := range names {
		if _, err := l.target.Exec(ctx, "ANALYZE "+n.SQL()); err != nil {
			return fmt.Errorf("analyze table %s: %w", n, err)
		}
	}
	return nil
}

// emptied removes the rows that are copied again, and stores the new chunks in
// place of the tables' old ones; it numbers them.
func (l *loader) emptied(ctx context.Context, names []Name, chunks []chunk) error {
	session, err := newApplySession(ctx, l.m)
	if err != nil {
		return err
	}
	defer session.close(ctx)
	return pgx.BeginFunc(ctx, session.conn, func(tx pgx.Tx) error {
		for _, n := range names {
			if err := empty(ctx, tx, n); err != nil {
				return fmt.Errorf("empty table %s of the target: %w", n, withoutDetail(err))
			}
			if _, err := tx.Exec(ctx, "DELETE FROM dhow.chunk WHERE stream = $1 AND schema_name = $2 AND table_name = $3", l.m.stream, n.Schema, n.Name); err != nil {
				return fmt.Errorf("forget how table %s was copied: %w", n, err)
			}
		}
		first := 0
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(id) + 1, 0) FROM dhow.chunk WHERE stream = $1", l.m.stream).Scan(&first); err != nil {
			return fmt.Errorf("number the chunks: %w", err)
		}
		for i := range chunks {
			chunks[i].ID = first + i
		}
		return addChunks(ctx, tx, l.m.stream, chunks)
	})
}

// empty removes a table's rows: at once where no foreign key stands in the way.
func empty(ctx context.Context, tx pgx.Tx, n Name) error {
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "TRUNCATE ONLY "+n.SQL())
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == featureNotSupported {
		_, err = tx.Exec(ctx, "DELETE FROM ONLY "+n.SQL())
	}
	return err
}

// featureNotSupported is the SQLSTATE of, among others, a TRUNCATE of a table that a foreign key points at.
const featureNotSupported = "0A000"
