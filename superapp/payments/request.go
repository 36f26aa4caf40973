package payments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/superapp/service"
)

// askBody is the body of POST /requests.
type askBody struct {
	Payee    int64  `json:"payee"`
	Payer    int64  `json:"payer"`
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
	Note     string `json:"note"`
	// ExpiresIn is in seconds.
	ExpiresIn *int64 `json:"expires_in,omitempty"`
}

// expiry is how long the request can be accepted.
func (a askBody) expiry() (time.Duration, error) {
	if a.ExpiresIn == nil {
		return defaultExpiry, nil
	}
	if most := int64(maxExpiry / time.Second); *a.ExpiresIn < 1 || *a.ExpiresIn > most {
		return 0, invalid("invalid_expiry", fmt.Sprintf("expires_in must be a whole number of seconds from 1 to %d", most))
	}
	return time.Duration(*a.ExpiresIn) * time.Second, nil
}

const insertRequest = `
WITH r AS (
    INSERT INTO requests (key, payee, payer, amount, currency, note, state, instance, expires)
    VALUES ($1, $3, $4, $5, $6, $7, '` + Open + `', $8, clock_timestamp() + $9::interval) RETURNING id, state
)
INSERT INTO idempotency (key, request_hash, status, answer)
SELECT $1, $2, 201, jsonb_build_object('id', id, 'state', state) FROM r
RETURNING answer::text`

// ask writes a request to be paid.
func (b *book) ask(r *http.Request) (service.Answer, error) {
	k, err := key(r)
	if err != nil {
		return service.Answer{}, err
	}
	body, err := service.Decode[askBody](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := check(body.Payer, body.Payee, body.Amount, body.Currency, body.Note); err != nil {
		return service.Answer{}, err
	}
	expiry, err := body.expiry()
	if err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint("POST /requests", body)
	if err != nil {
		return service.Answer{}, err
	}
	var answer string
	err = b.db.QueryRow(r.Context(), insertRequest, k, fingerprint, body.Payee, body.Payer, body.Amount, body.Currency, body.Note, b.instance, expiry).Scan(&answer)
	if service.Duplicate(err) {
		return service.Taken(r.Context(), b.db, k, fingerprint)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("write a request: %w", err)
	}
	return service.Answer{Status: http.StatusCreated, Body: []byte(answer)}, nil
}

// reply is what accepting and declining a request have in common.
type reply struct {
	key         string
	fingerprint []byte
	request     int64
}

func readReply(r *http.Request, verb string) (reply, error) {
	var p reply
	var err error
	if p.request, err = service.PathID(r); err != nil {
		return p, err
	}
	if p.key, err = key(r); err != nil {
		return p, err
	}
	p.fingerprint, err = service.Fingerprint(fmt.Sprintf("POST /requests/%d/%s", p.request, verb), nil)
	return p, err
}

// errTaken says that the key of a reply is not free.
var errTaken = errors.New("the idempotency key is taken")

const (
	reserveKey  = "INSERT INTO idempotency (key, request_hash, status, answer) VALUES ($1, $2, $3, '{}') ON CONFLICT (key) DO NOTHING"
	lockRequest = "SELECT payee, payer, amount, currency, note, " + currentState + ", payment IS NULL FROM requests WHERE id = $1 FOR UPDATE"
)

// claim reserves the key and locks the request, which must be open and not be replied to by anybody else.
func (p reply) claim(ctx context.Context, tx pgx.Tx) (askBody, error) {
	var b askBody
	var state string
	var free bool
	var batch pgx.Batch
	batch.Queue(reserveKey, p.key, p.fingerprint, service.InProgress)
	batch.Queue(lockRequest, p.request)
	results := tx.SendBatch(ctx, &batch)
	reserved, err := results.Exec()
	if err == nil && reserved.RowsAffected() == 0 {
		err = errTaken
	}
	if err == nil {
		err = results.QueryRow().Scan(&b.Payee, &b.Payer, &b.Amount, &b.Currency, &b.Note, &state, &free)
	}
	closed := results.Close()
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return b, unknownRequest(p.request)
	case err != nil:
		return b, err
	case closed != nil:
		return b, closed
	case state == Expired:
		return b, &service.Refusal{Status: http.StatusConflict, Code: "request_expired", Text: fmt.Sprintf("request %d is over: ask for a new one", p.request)}
	case state != Open || !free:
		return b, &service.Refusal{Status: http.StatusConflict, Code: "request_closed", Text: fmt.Sprintf("request %d was replied to already", p.request)}
	}
	return b, nil
}

func unknownRequest(id int64) error {
	return &service.Refusal{Status: http.StatusNotFound, Code: "unknown_request", Text: fmt.Sprintf("there is no request %d", id)}
}

const insertAccepted = `
WITH p AS (
    INSERT INTO payments (key, payer, payee, amount, currency, note, state, instance)
    VALUES ($2, $3, $4, $5, $6, $7, '` + Pending + `', $8) RETURNING id
)
UPDATE requests SET payment = p.id, updated = clock_timestamp() FROM p WHERE requests.id = $1 RETURNING p.id`

// accept pays a request. The request stays open, and nobody else's to reply to,
// until the payment has ended; when it is refused, the request is declined.
func (b *book) accept(r *http.Request) (service.Answer, error) {
	reply, err := readReply(r, "accept")
	if err != nil {
		return service.Answer{}, err
	}
	p := payment{key: fmt.Sprintf("%s%d", requestKey, reply.request)}
	err = pgx.BeginFunc(r.Context(), b.db, func(tx pgx.Tx) error { //nolint:contextcheck // the request's is used throughout
		q, err := reply.claim(r.Context(), tx)
		if err != nil {
			return err
		}
		p.payer, p.payee, p.amount, p.currency = q.Payer, q.Payee, q.Amount, q.Currency
		return tx.QueryRow(r.Context(), insertAccepted, reply.request, p.key, p.payer, p.payee, p.amount, p.currency, q.Note, b.instance).Scan(&p.id)
	})
	if errors.Is(err, errTaken) {
		return b.again(r.Context(), reply.key, reply.fingerprint, p.key)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("accept a request: %w", err)
	}
	ctx, cancel := keepOn(r.Context())
	defer cancel()
	return b.finish(ctx, p, reply.key)
}

const declineRequest = `
WITH r AS (
    UPDATE requests SET state = '` + Declined + `', updated = clock_timestamp() WHERE id = $1 RETURNING id, state
)
UPDATE idempotency SET status = 200, answer = jsonb_build_object('id', r.id, 'state', r.state) FROM r WHERE key = $2 RETURNING answer::text`

// decline closes a request that will not be paid.
func (b *book) decline(r *http.Request) (service.Answer, error) {
	reply, err := readReply(r, "decline")
	if err != nil {
		return service.Answer{}, err
	}
	var answer string
	err = pgx.BeginFunc(r.Context(), b.db, func(tx pgx.Tx) error { //nolint:contextcheck // the request's is used throughout
		if _, err := reply.claim(r.Context(), tx); err != nil {
			return err
		}
		return tx.QueryRow(r.Context(), declineRequest, reply.request, reply.key).Scan(&answer)
	})
	if errors.Is(err, errTaken) {
		return service.Taken(r.Context(), b.db, reply.key, reply.fingerprint)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("decline a request: %w", err)
	}
	return service.Answer{Status: http.StatusOK, Body: []byte(answer)}, nil
}
