package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"dhow/internal/move"
)

// settleWait is how long one wait of the settling lasts before the replication is
// looked at again, in seconds.
const settleWait = 0.5

// settle brings tables that were copied under earlier snapshots to the position of
// the last: the stream runs from each snapshot to the next, limited to the tables
// that were whole by then. anew says that it can not be told how far the target
// got, because its server forgot that limit in a restart: the copy begins again.
func (l *loader) settle(ctx context.Context, conn *sql.Conn) (anew bool, err error) {
	r, err := l.m.replication(ctx, conn)
	if err != nil {
		return false, err
	}
	src, err := l.m.session(ctx, source)
	if err != nil {
		return false, err
	}
	l.catalog, err = l.m.catalog(ctx, src)
	hangUp(src)
	if err != nil {
		return false, err
	}
	for {
		list := strings.Split(l.state.Settled, snapshotSeparator)
		if len(list) < 2 {
			break
		}
		chunks, err := readPlan(ctx, conn, l.m.stream)
		if err != nil {
			return false, err
		}
		only := []Name{} // none, where all that was whole then was copied again: not nil, which would mean all
		for _, ch := range chunks {
			if ch.DoneAt == list[0] && !slices.Contains(only, ch.Table) {
				only = append(only, ch.Table)
			}
		}
		if anew, err := l.settleStep(ctx, conn, r, only, list[1]); err != nil || anew {
			return anew, err
		}
		l.state.Start, l.state.Settled = list[1], strings.Join(list[1:], snapshotSeparator)
		err = l.inTransaction(ctx, func(q querier) error {
			if _, err := q.ExecContext(ctx, "UPDATE dhow.chunk SET done_gtid = ? WHERE stream = ? AND done_gtid = ?", list[1], l.m.stream, list[0]); err != nil {
				return fmt.Errorf("note what has settled: %w", err)
			}
			return writeStream(ctx, q, l.m.stream, *l.state)
		})
		if err != nil {
			return false, err
		}
	}
	l.state.Phase = phaseIndex
	return false, writeStream(ctx, conn, l.m.stream, *l.state)
}

// settleStep lets some tables follow the stream from the state's start to a position.
func (l *loader) settleStep(ctx context.Context, conn *sql.Conn, r replication, only []Name, until string) (anew bool, err error) {
	l.board.Begin(move.PhaseIndex, 0)
	l.board.Say("the copy was interrupted: finished tables follow the source up to the snapshot of the others")
	// Rows are found by the indexes, and what a foreign key changes is in no log.
	if err := l.makeSettling(ctx, only); err != nil {
		return false, err
	}
	var stands string
	if err := conn.QueryRowContext(ctx, "SELECT @@global.gtid_slave_pos").Scan(&stands); err != nil {
		return false, fmt.Errorf("ask the target where it stands: %w", err)
	}
	right, err := r.filtered(ctx, conn, only)
	if err != nil {
		return false, err
	}
	if l.state.Positioned && !right && !samePosition(stands, l.state.Start) {
		return true, nil
	}
	if err := l.m.positioned(ctx, conn, r, l.state); err != nil {
		return false, err
	}
	if err := r.filter(ctx, conn, only); err != nil {
		return false, err
	}
	if err := r.start(ctx, conn, until); err != nil {
		return false, err
	}
	for {
		var reached sql.NullInt64
		if err := conn.QueryRowContext(ctx, "SELECT MASTER_GTID_WAIT(?, ?)", until, settleWait).Scan(&reached); err != nil {
			return false, fmt.Errorf("wait until the target has settled: %w", err)
		}
		s, err := r.status(ctx, conn)
		if err != nil {
			return false, err
		}
		if s == nil {
			return false, &move.Refused{Reason: "somebody removed the replication on the target", Fix: "run `dhow finish --abandon` and begin the move again"}
		}
		if err := s.failed(l.m); err != nil {
			return false, err
		}
		if reached.Valid && reached.Int64 == 0 {
			l.board.Say("")
			return false, r.stop(ctx, conn)
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
}

// makeSettling completes the tables that are about to follow the stream: with their
// indexes, and with the foreign keys between them that change rows. Those that refer
// to other tables go until all is settled: those tables are ahead.
func (l *loader) makeSettling(ctx context.Context, only []Name) error {
	among := func(n Name) bool { return slices.Contains(only, n) }
	conn, err := l.m.writer(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	there, err := l.m.catalog(ctx, conn)
	if err != nil {
		return err
	}
	for _, t := range there.Tables {
		for _, f := range t.ForeignKeys {
			if among(f.Parent) && among(t.Name) {
				continue
			}
			if _, err := conn.ExecContext(ctx, "ALTER TABLE "+t.SQL()+" DROP FOREIGN KEY "+quote(f.Name)); err != nil {
				return fmt.Errorf("let foreign key %s of table %s wait: %w", f.Name, t.Name, err)
			}
		}
	}
	return l.makeIndexesOf(ctx, func(t *Table) bool { return among(t.Name) }, func(f ForeignKey) bool { return f.cascades() && among(f.Parent) })
}

// samePosition compares two GTID positions.
func samePosition(a, b string) bool {
	key := func(position string) []string {
		var texts []string
		for _, p := range splitGTIDs(position) {
			texts = append(texts, p.text)
		}
		slices.Sort(texts)
		return texts
	}
	return slices.Equal(key(a), key(b))
}
