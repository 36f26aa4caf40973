package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dhow/superapp/service"
)

const (
	// changeTries bounds how often a transaction that lost against another is
	// tried; firstPause and longestPause bound the pauses between.
	changeTries  = 50
	firstPause   = 2 * time.Millisecond
	longestPause = 100 * time.Millisecond
	// pauseJitter spreads the tries of those that lost together.
	pauseJitter = 0.8
	// undoTime bounds the end of a transaction that failed; a connection that does
	// not end it in time is closed.
	undoTime = time.Second
)

// Outcomes of changes, for the metrics.
const (
	outcomeMade     = "made"
	outcomeRefused  = "refused"
	outcomeReplayed = "replayed"
	outcomeFailed   = "failed"
)

// change is what is done once for its key: a transfer, a hold, the end of a hold.
type change struct {
	key         string
	fingerprint []byte
	// from and to are the accounts that it touches; to is from where it is one only.
	from, to int64
	// hold is what it ends; 0 for none.
	hold int64
	// decide says how it is written, or why not, from the rows as they are locked.
	decide func(locked) (written, *service.Refusal)
}

// locked are rows that nobody else changes meanwhile; what does not exist is nil or empty.
type locked struct {
	from, to *account
	// hold is the state of the hold.
	hold string
}

// account is a locked row.
type account struct {
	id                     int64
	kind, currency         string
	balance, held, version int64
}

// short says whether an amount is more than what is available of an account.
func (a *account) short(amount int64) bool {
	return a.kind != KindSystem && a.balance-a.held < amount
}

// written is the one statement that makes a change and stores its answer.
type written struct {
	status int
	sql    string
	args   []any
}

// change makes a change once for its key. A transaction that lost against another
// is tried again, a bounded number of times.
func (l *ledger) change(ctx context.Context, c change) (service.Answer, error) {
	give, err := l.turns.take(ctx, c.from, c.to)
	if err != nil {
		return service.Answer{}, err
	}
	defer give()
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval, pauses.RandomizationFactor = firstPause, longestPause, pauseJitter
	answer, err := backoff.Retry(ctx, func() (service.Answer, error) {
		answer, err := l.try(ctx, c)
		if err != nil && !service.Conflict(err) {
			return answer, backoff.Permanent(err)
		}
		return answer, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(changeTries), backoff.WithNotify(func(error, time.Duration) { l.conflicts.Inc() }))
	if service.Duplicate(err) {
		return service.Taken(ctx, l.db, c.key, c.fingerprint)
	}
	return answer, err
}

func outcome(answer service.Answer, err error) string {
	switch {
	case err != nil:
		return outcomeFailed
	case answer.Replayed:
		return outcomeReplayed
	case answer.Status >= http.StatusBadRequest:
		return outcomeRefused
	}
	return outcomeMade
}

const (
	// lockAccounts locks in the order of the ids, so that no two changes wait for each other.
	lockAccounts = "SELECT id, kind, currency, balance, held, version FROM accounts WHERE id IN ($1, $2) ORDER BY id FOR UPDATE"
	// lockHold comes behind its account.
	lockHold = "SELECT state FROM holds WHERE id = $1 FOR UPDATE"

	insertRefusal = "INSERT INTO idempotency (key, request_hash, status, answer) VALUES ($1, $2, $3, $4) RETURNING answer::text"
)

// isolation is that of the transaction. A hold is found through an index into which
// others insert, and to a serializable transaction each of them would be a conflict;
// the locks on the hold and on its account keep right what is done with it.
func (c change) isolation() pgx.TxOptions {
	if c.hold != 0 {
		return pgx.TxOptions{IsoLevel: pgx.ReadCommitted}
	}
	return pgx.TxOptions{IsoLevel: pgx.Serializable}
}

// try makes the change, or stores why not, in one transaction.
//
// The key is not looked up first: the insert finds out. A lookup would read a page of the
// index into which all others insert, and to a serializable transaction that is a conflict.
func (l *ledger) try(ctx context.Context, c change) (_ service.Answer, err error) {
	conn, err := l.db.Acquire(ctx)
	if err != nil {
		return service.Answer{}, fmt.Errorf("get a connection: %w", err)
	}
	defer conn.Release()
	defer func() {
		if err != nil {
			undo(ctx, conn)
		}
	}()
	rows, err := c.lock(ctx, conn)
	if err != nil {
		return service.Answer{}, err
	}
	w, refusal := c.decide(rows)
	if refusal != nil {
		w = written{refusal.Status, insertRefusal, []any{c.key, c.fingerprint, refusal.Status, refusal.Body()}}
	}
	var end pgx.Batch
	end.Queue(w.sql, w.args...)
	end.Queue("commit")
	results := conn.SendBatch(ctx, &end)
	var answer string
	err = results.QueryRow().Scan(&answer)
	if err == nil {
		_, err = results.Exec()
	}
	if err = errors.Join(err, results.Close()); err != nil {
		return service.Answer{}, fmt.Errorf("write it: %w", err)
	}
	return service.Answer{Status: w.status, Body: []byte(answer)}, nil
}

// lock begins the transaction and locks what it touches, in one round trip; "commit" is
// sent with the last statement, so that a change costs two.
func (c change) lock(ctx context.Context, conn *pgxpool.Conn) (locked, error) {
	var l locked
	var begin pgx.Batch
	begin.BeginTx(c.isolation())
	begin.Queue(lockAccounts, c.from, c.to).Query(func(rows pgx.Rows) error {
		var a account
		_, err := pgx.ForEachRow(rows, []any{&a.id, &a.kind, &a.currency, &a.balance, &a.held, &a.version}, func() error {
			found := a
			if a.id == c.from {
				l.from = &found
			} else {
				l.to = &found
			}
			return nil
		})
		return err
	})
	if c.hold != 0 {
		begin.Queue(lockHold, c.hold).QueryRow(func(row pgx.Row) error { return row.Scan(&l.hold) })
	}
	if err := conn.SendBatch(ctx, &begin).Close(); err != nil {
		return l, fmt.Errorf("lock the accounts: %w", err)
	}
	return l, nil
}

// undo ends a transaction that failed. It must not be cut short by the request's
// end; what it can not end, the pool does by closing the connection.
func undo(ctx context.Context, conn *pgxpool.Conn) {
	if conn.Conn().IsClosed() || conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	_, _ = conn.Exec(ctx, "rollback") // see above: the pool looks at the state itself
}
