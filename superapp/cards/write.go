package cards

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"dhow/superapp/service"
)

const (
	// tries bounds how often a transaction that lost against another begins anew.
	tries = 8
	// retryPause is the first pause before it does; the next ones are longer.
	retryPause = 5 * time.Millisecond
	// finishTime bounds the posting of what was decided, also when the client has left.
	finishTime = 5 * time.Second
)

var (
	// errTaken says that a request's key is taken.
	errTaken = errors.New("the idempotency key is taken")
	// errAnew says that a transaction should be tried again with another random value.
	errAnew = errors.New("a random value is taken")
	// errVanished says that a row which was just there is gone: somebody deleted it.
	errVanished = errors.New("the row is gone")
)

// decision is what a write's transaction came to: an answer, or movements to post,
// the first of which the answer is of.
type decision struct {
	answer service.Answer
	post   []movement
}

func answered(status int, v any) (decision, error) {
	answer, err := service.JSON(status, v)
	return decision{answer: answer}, err
}

// refused is a refusal that is kept under the key: what it depends on may change,
// and the key's answer does not.
func refused(r *service.Refusal) decision {
	return decision{answer: service.Answer{Status: r.Status, Body: r.Body()}}
}

// write does a write once for its key. The function decides in a transaction in
// which the key is reserved; an error of it leaves nothing behind, not even the key.
func (d *desk) write(r *http.Request, operation string, body any, decide func(tx *sql.Tx, key string) (decision, error)) (service.Answer, error) {
	key, err := service.Key(r)
	if err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint(operation, body)
	if err != nil {
		return service.Answer{}, err
	}
	ctx := r.Context()
	var made decision
	err = d.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO idempotency (`key`, request_hash, status, answer) VALUES (?, ?, ?, '{}')", key, fingerprint, service.InProgress)
		if service.Duplicate(err) {
			return errTaken
		}
		if err != nil {
			return fmt.Errorf("reserve an idempotency key: %w", err)
		}
		if made, err = decide(tx, key); err != nil || made.post != nil {
			return err
		}
		return complete(ctx, tx, key, made.answer)
	})
	switch {
	case errors.Is(err, errTaken):
		return d.again(ctx, key, fingerprint)
	case err != nil:
		return service.Answer{}, fmt.Errorf("%s: %w", operation, err)
	case made.post == nil:
		return made.answer, nil
	}
	ctx, cancel := keepOn(ctx)
	defer cancel()
	return d.finish(ctx, key, made.post)
}

// complete writes down the answer of a key that has none yet.
func complete(ctx context.Context, tx *sql.Tx, key string, a service.Answer) error {
	_, err := tx.ExecContext(ctx, "UPDATE idempotency SET status = ?, answer = ? WHERE `key` = ? AND status = ?", a.Status, string(a.Body), key, service.InProgress)
	if err != nil {
		return fmt.Errorf("write down an answer: %w", err)
	}
	return nil
}

// again answers a request whose key is taken: with the stored answer, or by posting
// the movement that was left pending.
func (d *desk) again(ctx context.Context, key string, fingerprint []byte) (service.Answer, error) {
	answer, err := service.TakenMariaDB(ctx, d.db, key, fingerprint)
	if err != nil || answer.Status != service.InProgress {
		return answer, err
	}
	m, err := d.movementOf(ctx, key)
	if err != nil {
		return service.Answer{}, err
	}
	ctx, cancel := keepOn(ctx)
	defer cancel()
	return d.finish(ctx, key, []movement{m})
}

// keepOn is a context for what should be ended although the client may have left:
// what was decided is better posted now than by the settler.
func keepOn(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), finishTime)
}

// transact runs a transaction, again when it lost against another. Its statements
// see what is committed when they begin; what must not change meanwhile they lock.
func (d *desk) transact(ctx context.Context, do func(*sql.Tx) error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = retryPause
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := d.once(ctx, do)
		if err != nil && !service.Conflict(err) && !errors.Is(err, errAnew) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(tries), backoff.WithNotify(func(error, time.Duration) { d.conflicts.Inc() }))
	return err
}

func (d *desk) once(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // the connection's end would do the same
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
