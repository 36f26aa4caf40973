package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dhow/superapp/money"
	"dhow/superapp/service"
)

const (
	// maxReference is in characters.
	maxReference = 140
	// transferTries bounds how often a transaction that lost against another is
	// tried; firstPause and longestPause bound the pauses between.
	transferTries = 50
	firstPause    = 2 * time.Millisecond
	longestPause  = 100 * time.Millisecond
	// pauseJitter spreads the tries of those that lost together.
	pauseJitter = 0.8
	// undoTime bounds the end of a transaction that failed; a connection that does
	// not end it in time is closed.
	undoTime = time.Second
)

// Outcomes of transfers, for the metrics.
const (
	outcomeMade     = "made"
	outcomeRefused  = "refused"
	outcomeReplayed = "replayed"
	outcomeFailed   = "failed"
)

// transfer is the body of POST /transfers.
type transfer struct {
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	Amount    int64  `json:"amount"`
	Currency  string `json:"currency"`
	Reference string `json:"reference"`
}

func (t transfer) check() error {
	switch {
	case t.From < 1 || t.To < 1:
		return invalid("invalid_account", "from and to must be whole numbers from 1")
	case t.From == t.To:
		return invalid("same_account", "from and to are the same account")
	case t.Amount < 1 || t.Amount > money.MaxAmount:
		return invalid("invalid_amount", fmt.Sprintf("amount must be a whole number of minor units from 1 to %d", int64(money.MaxAmount)))
	}
	if utf8.RuneCountInString(t.Reference) > maxReference || strings.ContainsFunc(t.Reference, unicode.IsControl) {
		return invalid("invalid_reference", fmt.Sprintf("reference may have %d characters, no control characters", maxReference))
	}
	return checkCurrency(t.Currency)
}

// postTransfer moves money.
func (l *ledger) postTransfer(r *http.Request) (service.Answer, error) {
	key, err := service.Key(r)
	if err != nil {
		return service.Answer{}, err
	}
	t, err := service.Decode[transfer](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := t.check(); err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint("POST /transfers", t)
	if err != nil {
		return service.Answer{}, err
	}
	answer, err := l.transfer(r.Context(), key, fingerprint, t)
	outcome := outcomeMade
	switch {
	case err != nil:
		outcome = outcomeFailed
	case answer.Replayed:
		outcome = outcomeReplayed
	case answer.Status != http.StatusCreated:
		outcome = outcomeRefused
	}
	l.transfers.WithLabelValues(outcome).Inc()
	return answer, err
}

// transfer makes the transfer once for its key. A transaction that lost against
// another is tried again, a bounded number of times.
func (l *ledger) transfer(ctx context.Context, key string, fingerprint []byte, t transfer) (service.Answer, error) {
	give, err := l.turns.take(ctx, t.From, t.To)
	if err != nil {
		return service.Answer{}, err
	}
	defer give()
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval, pauses.RandomizationFactor = firstPause, longestPause, pauseJitter
	answer, err := backoff.Retry(ctx, func() (service.Answer, error) {
		answer, err := l.try(ctx, key, fingerprint, t)
		if err != nil && !service.Conflict(err) {
			return answer, backoff.Permanent(err)
		}
		return answer, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(transferTries), backoff.WithNotify(func(error, time.Duration) { l.conflicts.Inc() }))
	switch {
	case err == nil:
		return answer, nil
	case service.Duplicate(err):
		return service.Taken(ctx, l.db, key, fingerprint)
	}
	return service.Answer{}, fmt.Errorf("transfer: %w", err)
}

const (
	// lockAccounts locks in the order of the ids, so that no two transfers wait for each other.
	lockAccounts = "SELECT id, kind, currency, balance, version FROM accounts WHERE id IN ($1, $2) ORDER BY id FOR UPDATE"

	insertTransfer = `
WITH t AS (
    INSERT INTO transfers (key, reference, currency, amount, instance) VALUES ($1, $3, $4, $5, $6) RETURNING id
), a AS (
    UPDATE accounts SET balance = balance + CASE id WHEN $7 THEN -$5::bigint ELSE $5::bigint END, version = version + 1
    WHERE id IN ($7, $8) RETURNING id, balance, version
), e AS (
    INSERT INTO entries (transfer, account, amount, balance, version)
    SELECT t.id, a.id, CASE a.id WHEN $7 THEN -$5::bigint ELSE $5::bigint END, a.balance, a.version FROM t, a ORDER BY a.id = $8
)
INSERT INTO idempotency (key, request_hash, status, answer)
SELECT $1, $2, 201, jsonb_build_object('id', t.id, 'from', $7::bigint, 'to', $8::bigint, 'amount', $5::bigint, 'currency', $4::text, 'reference', $3::text,
    'from_balance', payer.balance, 'from_version', payer.version, 'to_version', payee.version)
FROM t, a payer, a payee WHERE payer.id = $7 AND payee.id = $8
RETURNING answer::text`

	insertRefusal = "INSERT INTO idempotency (key, request_hash, status, answer) VALUES ($1, $2, $3, $4) RETURNING answer::text"
)

// serializable begins a transaction; it is queued with the first statement, as
// "commit" is with the last, so that a transfer costs two round trips.
var serializable = pgx.TxOptions{IsoLevel: pgx.Serializable}

// try makes the transfer, or stores why not, in one transaction.
//
// The key is not looked up first: the insert finds out. A lookup would read a page of the
// index into which all others insert, and to a serializable transaction that is a conflict.
func (l *ledger) try(ctx context.Context, key string, fingerprint []byte, t transfer) (_ service.Answer, err error) {
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
	from, to, err := lock(ctx, conn, t)
	if err != nil {
		return service.Answer{}, err
	}
	var end pgx.Batch
	status := http.StatusCreated
	if refusal := t.refuse(from, to); refusal != nil {
		status = refusal.Status
		end.Queue(insertRefusal, key, fingerprint, status, refusal.Body())
	} else {
		end.Queue(insertTransfer, key, fingerprint, t.Reference, t.Currency, t.Amount, l.instance, t.From, t.To)
	}
	end.Queue("commit")
	results := conn.SendBatch(ctx, &end)
	var answer string
	err = results.QueryRow().Scan(&answer)
	if err == nil {
		_, err = results.Exec()
	}
	if err = errors.Join(err, results.Close()); err != nil {
		return service.Answer{}, fmt.Errorf("write the transfer: %w", err)
	}
	return service.Answer{Status: status, Body: []byte(answer)}, nil
}

// account is a locked row.
type account struct {
	id               int64
	kind, currency   string
	balance, version int64
}

// lock begins the transaction and locks both accounts; one that does not exist is nil.
func lock(ctx context.Context, conn *pgxpool.Conn, t transfer) (from, to *account, err error) {
	var begin pgx.Batch
	begin.BeginTx(serializable)
	begin.Queue(lockAccounts, t.From, t.To).Query(func(rows pgx.Rows) error {
		var a account
		_, err := pgx.ForEachRow(rows, []any{&a.id, &a.kind, &a.currency, &a.balance, &a.version}, func() error {
			found := a
			if a.id == t.From {
				from = &found
			} else {
				to = &found
			}
			return nil
		})
		return err
	})
	if err := conn.SendBatch(ctx, &begin).Close(); err != nil {
		return nil, nil, fmt.Errorf("lock the accounts: %w", err)
	}
	return from, to, nil
}

// refuse says why a transfer is not made; nil lets it be made.
func (t transfer) refuse(from, to *account) *service.Refusal {
	refusal := &service.Refusal{Status: http.StatusUnprocessableEntity}
	switch {
	case from == nil:
		return unknownAccount(t.From)
	case to == nil:
		return unknownAccount(t.To)
	case from.currency != t.Currency || to.currency != t.Currency:
		refusal.Code = "currency_mismatch"
		refusal.Text = fmt.Sprintf("account %d is in %s and account %d in %s: a transfer of %s needs two accounts in it", from.id, from.currency, to.id, to.currency, t.Currency)
		return refusal
	case from.kind != KindSystem && from.balance < t.Amount:
		refusal.Code, refusal.Text = "insufficient_funds", fmt.Sprintf("account %d holds less than %s", from.id, money.Format(t.Amount, t.Currency))
		return refusal
	}
	_, fits := money.Add(from.balance, -t.Amount)
	if _, grows := money.Add(to.balance, t.Amount); !fits || !grows {
		refusal.Code, refusal.Text = "balance_out_of_range", "a balance would become too large to be kept"
		return refusal
	}
	return nil
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
