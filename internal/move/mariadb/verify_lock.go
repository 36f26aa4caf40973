package mariadb

import (
	"context"
	"fmt"
	"time"
)

// This file looks at suspects under a lock at the source: nothing of what is locked
// is under way to the target then, once the stream has passed.

// passLocked is pass while the locker holds locks at the source. As long as nobody
// waits for them it has more time.
func (l *looker) passLocked(ctx context.Context) (bool, error) {
	at, err := l.position(ctx)
	if err != nil {
		return false, err
	}
	for began := time.Now(); ; {
		if passed, err := l.applied(ctx, at, lockedPatience); passed || err != nil {
			return passed, err
		}
		if time.Since(began) >= lockedMost || l.inTheWay(ctx) {
			return false, nil
		}
	}
}

// inTheWay says whether somebody waits for the locker, as far as our account may see.
func (l *looker) inTheWay(ctx context.Context) bool {
	var waiting bool
	err := l.pair.source.QueryRowContext(ctx, `SELECT EXISTS (SELECT * FROM information_schema.innodb_lock_waits w JOIN information_schema.innodb_trx t ON t.trx_id = w.blocking_trx_id WHERE t.trx_mysql_thread_id = ?)
		OR EXISTS (SELECT * FROM information_schema.processlist WHERE state LIKE 'Waiting for table%lock')`, l.thread).Scan(&waiting)
	return waiting || err != nil
}

// lookUnderRowLocks proves suspects while nobody can change them at the source: what
// the target then has applied is all that there is. Rows that somebody is changing
// just now stay open. Nobody waits for us but who wants to write to one of the rows,
// and not for longer than lockedPatience and a little; we wait for nobody.
func (l *looker) lookUnderRowLocks(ctx context.Context, t *comparedTable, open []*doubt) (proved, left []*doubt, err error) {
	if _, err := l.locker.ExecContext(ctx, "START TRANSACTION"); err != nil {
		return nil, nil, fmt.Errorf("lock rows at the source: %w", err)
	}
	defer func() {
		end, cancel := parting(ctx)
		defer cancel()
		if _, e := l.locker.ExecContext(end, "ROLLBACK"); e != nil && err == nil {
			err = fmt.Errorf("unlock rows at the source: %w", e)
		}
	}()
	locked, left, err := l.lockRows(ctx, t, open)
	if err != nil || len(locked) == 0 {
		return nil, open, err
	}
	if passed, err := l.passLocked(ctx); err != nil || !passed {
		return nil, open, err
	}
	at, err := readSuspects(ctx, 1, l.pair.target, t, locked, "")
	if err != nil {
		return nil, nil, err
	}
	for _, d := range locked {
		d.target = at[d.id]
	}
	proved = differing(locked)
	return proved, left, l.mend(ctx, t, l.locker, proved)
}

// lockRows locks suspects' rows, and notes what they hold: all at once, or where
// somebody holds one of them each by itself.
func (l *looker) lockRows(ctx context.Context, t *comparedTable, open []*doubt) (locked, left []*doubt, err error) {
	const mode = " LOCK IN SHARE MODE NOWAIT"
	of, err := readSuspects(ctx, 0, l.locker, t, open, mode)
	if err == nil {
		for _, d := range open {
			d.source = of[d.id]
		}
		return open, nil, nil
	}
	if !isNumber(err, errHeld, errCycle) {
		return nil, nil, err
	}
	for i, d := range open {
		of, err := readSuspects(ctx, 0, l.locker, t, open[i:i+1], mode)
		switch {
		case isNumber(err, errCycle): // that ended the transaction, and all its locks
			return nil, open, nil
		case isNumber(err, errHeld):
			left = append(left, d)
		case err != nil:
			return nil, nil, err
		default:
			d.source = of[d.id]
			locked = append(locked, d)
		}
	}
	return locked, left, nil
}

// lookUnderTableLock is for tables whose rows can not be locked one by one. The lock
// is taken only when it is free; it is held while the stream passes, and while
// snapshots are taken of both sides, which are then searched at leisure. A table
// without snapshots is searched under the lock, if that takes no longer either.
func (l *looker) lookUnderTableLock(ctx context.Context, t *comparedTable, open []*doubt) (proved, left []*doubt, err error) {
	_, err = l.locker.ExecContext(ctx, "LOCK TABLES "+t.source.SQL()+" AS t READ NOWAIT")
	if isNumber(err, errHeld) {
		return nil, open, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("lock the table at the source: %w", err)
	}
	unlocked := false
	unlock := func() {
		if unlocked {
			return
		}
		unlocked = true
		end, cancel := parting(ctx)
		defer cancel()
		if _, e := l.locker.ExecContext(end, "UNLOCK TABLES"); e != nil && err == nil {
			err = fmt.Errorf("unlock the table at the source: %w", e)
		}
	}
	defer unlock()
	if passed, err := l.passLocked(ctx); err != nil || !passed {
		return nil, open, err
	}
	if t.source.Transactional() && t.target.Transactional() {
		if err := l.pair.bothSides(ctx, func(ctx context.Context, _ int, q querier) error {
			if _, err := q.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
				return err
			}
			_, err := q.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
			return err
		}); err != nil {
			return nil, nil, fmt.Errorf("take a snapshot: %w", err)
		}
		unlock()
		if err := l.look(ctx, t, open); err != nil {
			return nil, nil, err
		}
		if err := l.pair.bothSides(ctx, func(ctx context.Context, _ int, q querier) error {
			_, err := q.ExecContext(ctx, "COMMIT")
			return err
		}); err != nil {
			return nil, nil, fmt.Errorf("give a snapshot back: %w", err)
		}
		return differing(open), nil, nil
	}
	limit := fmt.Sprintf("SET STATEMENT max_statement_time = %.3f FOR ", lockedPatience.Seconds())
	from, err := readLimited(ctx, limit, 0, l.locker, t, open)
	if err == nil {
		var at map[string]seen
		if at, err = readLimited(ctx, limit, 1, l.pair.target, t, open); err == nil {
			for _, d := range open {
				d.source, d.target = from[d.id], at[d.id]
			}
			proved = differing(open)
			return proved, nil, l.mend(ctx, t, l.locker, proved)
		}
	}
	if isNumber(err, errStatementTime) {
		return nil, open, nil
	}
	return nil, nil, err
}
