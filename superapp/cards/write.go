package cards

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"dhow/superapp/service"
)

// finishTime bounds the posting of what was decided, also when the client has left.
const finishTime = 5 * time.Second

var (
	// errTaken says that a request's key is taken.
	errTaken = errors.New("the idempotency key is taken")
	// errAnew says that a transaction should be tried again with another random value.
	errAnew = errors.New("a random value is taken")
	// errVanished says that a row which was just there is gone: somebody deleted it.
	errVanished = errors.New("the row is gone")
)

// decision is what a write's transaction came to: an answer, or movements to post,
// the first of which the answer is of. Their ids are known behind the commit.
type decision struct {
	answer service.Answer
	post   func(results) []movement
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
func (d *desk) write(r *http.Request, operation string, body any, decide func(tx *transaction, key string) (decision, error)) (service.Answer, error) {
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
	done, err := d.transact(ctx, func(tx *transaction) error {
		tx.reserve(key, fingerprint)
		var err error
		if made, err = decide(tx, key); err != nil {
			return err
		}
		if made.post == nil {
			complete(tx, key, made.answer)
		}
		return nil
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
	return d.finish(ctx, key, made.post(done))
}

// complete writes down the answer of a key that has none yet.
func complete(tx *transaction, key string, a service.Answer) {
	tx.write("UPDATE idempotency SET status = ?, answer = ? WHERE `key` = ? AND status = ?", a.Status, string(a.Body), key, service.InProgress)
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
