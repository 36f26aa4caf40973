package cards

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/go-sql-driver/mysql"

	"dhow/superapp/service"
)

const (
	// tries bounds how often a transaction that lost against another begins anew.
	tries = 8
	// retryPause is the first pause before it does; the next ones are longer.
	retryPause = 5 * time.Millisecond
	// undoTime bounds the end of a transaction that failed; a connection that does
	// not end it in time is closed.
	undoTime = time.Second
)

// isolation lets statements see what is committed when they begin; what must not
// change meanwhile they lock.
const isolation = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

// transaction is one on a connection of its own. What is written waits, and goes to
// the server with the next read or with the commit: a transaction that reads once
// costs two round trips, however much it writes.
type transaction struct {
	conn  *sql.Conn
	text  strings.Builder // what waits, each statement with its semicolon
	args  []any
	count int // of the statements that wait
	// reserves says that a key is reserved by what is sent first: there a duplicate is errTaken.
	reserves bool
}

// reserve writes a key down that nobody may have yet.
func (t *transaction) reserve(key string, fingerprint []byte) {
	t.write("INSERT INTO idempotency (`key`, request_hash, status, answer) VALUES (?, ?, ?, '{}')", key, fingerprint, service.InProgress)
	t.reserves = true
}

// sent says what an error of a sending means.
func (t *transaction) sent(err error) error {
	if t.reserves && service.Duplicate(err) {
		return errTaken
	}
	t.reserves = false
	return err
}

// write lets a statement wait, and says its place among the results.
func (t *transaction) write(statement string, args ...any) int {
	t.text.WriteString(statement)
	t.text.WriteByte(';')
	t.args = append(t.args, args...)
	t.count++
	return t.count - 1
}

// take is all that waits; the transaction keeps nothing of it.
func (t *transaction) take() (string, []any) {
	text, args := t.text.String(), t.args
	t.text.Reset()
	t.args, t.count = nil, 0
	return text, args
}

// one is a question that one row answers.
type one struct {
	sql  string
	args []any
	into func(scan func(...any) error) error
}

// read sends what waits, and questions behind it. sql.ErrNoRows says that one of them
// has no answer.
func (t *transaction) read(ctx context.Context, questions ...one) (err error) {
	for _, q := range questions {
		t.write(q.sql, q.args...)
	}
	text, args := t.take()
	rows, err := t.conn.QueryContext(ctx, text, args...)
	if err = t.sent(err); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for i, q := range questions {
		if i > 0 && !rows.NextResultSet() {
			return errors.Join(rows.Err(), errNoResult)
		}
		if !rows.Next() {
			if err := rows.Err(); err != nil {
				return err
			}
			return sql.ErrNoRows
		}
		if err := q.into(rows.Scan); err != nil {
			return err
		}
	}
	return nil
}

// errNoResult says that the server answered fewer statements than were sent.
var errNoResult = errors.New("a statement has no result")

// results are what became of the statements that were sent together.
type results struct{ ids, changed []int64 }

// send sends what waits.
func (t *transaction) send(ctx context.Context) (r results, err error) {
	count := t.count
	text, args := t.take()
	err = t.conn.Raw(func(raw any) error {
		conn, ok := raw.(driver.ExecerContext)
		check, checks := raw.(driver.NamedValueChecker)
		if !ok || !checks {
			return fmt.Errorf("%T is no connection to MariaDB", raw)
		}
		values := make([]driver.NamedValue, len(args))
		for i, arg := range args {
			values[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
			if err := check.CheckNamedValue(&values[i]); err != nil {
				return fmt.Errorf("argument %d: %w", i+1, err)
			}
		}
		res, err := conn.ExecContext(ctx, text, values)
		if err != nil {
			return err
		}
		all, ok := res.(mysql.Result)
		if !ok {
			return fmt.Errorf("%T has no results of several statements", res)
		}
		r.ids, r.changed = all.AllLastInsertIds(), all.AllRowsAffected()
		return nil
	})
	if err = t.sent(err); err == nil && (len(r.ids) < count || len(r.changed) < count) {
		err = errNoResult
	}
	return r, err
}

// transact runs a transaction and says what became of the statements that went with
// its commit. One that lost against another is tried again.
func (d *desk) transact(ctx context.Context, do func(*transaction) error) (results, error) {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = retryPause
	return backoff.Retry(ctx, func() (results, error) {
		r, err := d.once(ctx, do)
		if err != nil && !service.Conflict(err) && !errors.Is(err, errAnew) {
			err = backoff.Permanent(err)
		}
		return r, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(tries), backoff.WithNotify(func(error, time.Duration) { d.conflicts.Inc() }))
}

// once runs it once, over a connection that was alive just now: the pool looks.
func (d *desk) once(ctx context.Context, do func(*transaction) error) (r results, err error) {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return r, fmt.Errorf("get a connection: %w", err)
	}
	defer func() {
		if err != nil {
			undo(ctx, conn)
		}
		_ = conn.Close() // it goes back to the pool
	}()
	t := &transaction{conn: conn}
	t.write(isolation)
	t.write("START TRANSACTION")
	if err := do(t); err != nil {
		return r, err
	}
	return t.commit(ctx)
}

// commit sends what waits, and ends the transaction.
func (t *transaction) commit(ctx context.Context) (results, error) {
	t.write("COMMIT")
	r, err := t.send(ctx)
	if err != nil {
		return r, fmt.Errorf("commit: %w", err)
	}
	return r, nil
}

// undo ends a transaction that failed, also when its request is over. A connection on
// which that can not be done is not used again: its end does the same.
func undo(ctx context.Context, conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}
