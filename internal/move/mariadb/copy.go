package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// loader brings a target from nothing to the point where its stream can run.
type loader struct {
	m         *Mover
	board     *move.Board
	state     *streamState
	catalog   *Catalog
	snapshots *snapshots
}

// inTransaction writes state at the target, all or nothing.
func (l *loader) inTransaction(ctx context.Context, do func(querier) error) error {
	conn, err := l.m.writer(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	return transaction(ctx, conn, func() error { return do(conn) })
}

// transaction runs do between a START TRANSACTION and a COMMIT. A session that
// failed is not used again by its callers.
func transaction(ctx context.Context, conn *sql.Conn, do func() error) error {
	if _, err := conn.ExecContext(ctx, "START TRANSACTION"); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	if err := do(); err != nil {
		ended, cancel := parting(ctx)
		defer cancel()
		_, _ = conn.ExecContext(ended, "ROLLBACK") // the session's end does it too
		return err
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// errTableChanged is the server's word that a table has changed since the snapshot.
const errTableChanged = 1412

// copyChunks copies pieces under the snapshots that are open.
func (l *loader) copyChunks(ctx context.Context, todo []chunk) error {
	list := jobs(l.catalog, todo, min(jobBytes, l.m.limits.ChunkBytes))
	l.board.Begin(move.PhaseCopy, len(todo))
	left := map[Name]int{}
	for _, ch := range todo {
		t := l.catalog.Table(ch.Table)
		if t == nil {
			return &move.Refused{Reason: fmt.Sprintf("table %s is gone from the source since the copy began", ch.Table), Fix: "run `dhow finish --abandon` and begin the move again"}
		}
		left[ch.Table]++
		l.board.Expect(ch.Table.String(), t.Rows*ch.Estimate/max(t.Bytes, 1), ch.Estimate)
	}
	if len(list) == 0 {
		return nil
	}
	pace := move.NewPace(l.m.limits.RowsPerSecond)
	queue := make(chan job)
	done := make(chan Name)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(queue)
		for _, j := range list {
			select {
			case queue <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	g.Go(func() error {
		for range todo {
			select {
			case n := <-done:
				l.board.StepDone()
				if left[n]--; left[n] == 0 {
					l.board.TableDone(n.String())
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for _, conn := range l.snapshots.conns {
		g.Go(func() error {
			to, err := l.m.writer(ctx)
			if err != nil {
				return err
			}
			defer hangUp(to)
			w := &copyWorker{l: l, from: conn, to: to, pace: pace}
			for j := range queue {
				if err := w.copy(ctx, j); err != nil {
					return err
				}
				for _, ch := range j.chunks {
					select {
					case done <- ch.Table:
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// copyWorker copies jobs over a session to each side.
type copyWorker struct {
	l        *loader
	from, to *sql.Conn
	pace     *move.Pace
	checks   string // the target session's unique_checks
}

// copy copies a job's chunks and notes them as done, in one transaction.
func (w *copyWorker) copy(ctx context.Context, j job) error {
	// Without unique checks the server takes an empty table's rows in bulk, with a lock
	// on all of it and a syncing of files that a small table never makes up for; and
	// parts of a table would wait for one another.
	checks := "1"
	if len(j.chunks) == 1 && j.chunks[0].whole() && j.chunks[0].Estimate >= deferFrom {
		checks = "0"
	}
	if w.checks != checks {
		if _, err := w.to.ExecContext(ctx, "SET SESSION unique_checks = "+checks); err != nil {
			return fmt.Errorf("prepare a session of the target: %w", err)
		}
		w.checks = checks
	}
	return transaction(ctx, w.to, func() error {
		for _, ch := range j.chunks {
			t := w.l.catalog.Table(ch.Table)
			rows, bytes, err := newTransfer(t).run(ctx, w.from, w.to, ch.where(t), w.pace, func(rows, bytes int64) { w.l.board.Done(ch.Table.String(), rows, bytes) })
			if isNumber(err, errTableChanged) {
				return &move.Refused{Reason: fmt.Sprintf("the definition of table %s was changed while it was copied", ch.Table), Fix: "start `dhow replicate` again; the copy goes on under a new snapshot"}
			}
			if err != nil {
				return fmt.Errorf("copy table %s: %w", ch.Table, withoutValues(err))
			}
			if _, err := w.to.ExecContext(ctx, "UPDATE dhow.chunk SET done_gtid = ?, done_rows = ?, done_bytes = ? WHERE stream = ? AND id = ?", w.l.snapshots.gtid, rows, bytes, w.l.m.stream, ch.ID); err != nil {
				return fmt.Errorf("note what is copied: %w", err)
			}
		}
		return nil
	})
}

// withoutValues keeps the rows' values, which the server quotes in some of its
// errors, out of ours: the number and the server's state stay.
func withoutValues(err error) error {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return err
	}
	message := e.Message
	if at := strings.IndexAny(message, `'"`); at >= 0 {
		message = message[:at] + "..."
	}
	return &mysql.MySQLError{Number: e.Number, SQLState: e.SQLState, Message: message}
}
