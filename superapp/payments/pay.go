package payments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"dhow/superapp/ledger"
	"dhow/superapp/service"
)

// payBody is the body of POST /payments.
type payBody struct {
	From     int64  `json:"from"`
	To       int64  `json:"to"`
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
	Note     string `json:"note"`
}

// payment is what is needed to end one.
type payment struct {
	id       int64
	key      string
	payer    int64
	payee    int64
	amount   int64
	currency string
}

// request is the id of the request that this payment pays; 0 for none.
func (p payment) request() int64 {
	text, ok := strings.CutPrefix(p.key, requestKey)
	if !ok {
		return 0
	}
	id, _ := strconv.ParseInt(text, 10, 64) // clients can not choose such a key: it is ours
	return id
}

func (p payment) order() ledger.Order {
	return ledger.Order{From: p.payer, To: p.payee, Amount: p.amount, Currency: p.currency, Reference: fmt.Sprintf("payment %d", p.id)}
}

// insertPayment reserves the key and writes the payment, or does nothing when the key is taken.
const insertPayment = `
WITH k AS (
    INSERT INTO idempotency (key, request_hash, status, answer) VALUES ($1, $2, $3, '{}')
    ON CONFLICT (key) DO NOTHING RETURNING key
)
INSERT INTO payments (key, payer, payee, amount, currency, note, state, instance)
SELECT key, $4, $5, $6, $7, $8, '` + Pending + `', $9 FROM k
RETURNING id`

// pay makes a payment.
func (b *book) pay(r *http.Request) (service.Answer, error) {
	k, err := key(r)
	if err != nil {
		return service.Answer{}, err
	}
	body, err := service.Decode[payBody](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := check(body.From, body.To, body.Amount, body.Currency, body.Note); err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint("POST /payments", body)
	if err != nil {
		return service.Answer{}, err
	}
	p := payment{key: k, payer: body.From, payee: body.To, amount: body.Amount, currency: body.Currency}
	err = b.db.QueryRow(r.Context(), insertPayment, k, fingerprint, service.InProgress, p.payer, p.payee, p.amount, p.currency, body.Note, b.instance).Scan(&p.id)
	if errors.Is(err, pgx.ErrNoRows) {
		return b.again(r.Context(), k, fingerprint, k)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("write a payment: %w", err)
	}
	ctx, cancel := keepOn(r.Context())
	defer cancel()
	return b.finish(ctx, p, k)
}

// again answers a request whose key is taken: with the stored answer, or by
// ending the payment when it was left pending.
func (b *book) again(ctx context.Context, key string, fingerprint []byte, paymentKey string) (service.Answer, error) {
	s, found, err := service.Lookup(ctx, b.db, key)
	if err != nil {
		return service.Answer{}, err
	}
	if !found {
		return service.Answer{}, fmt.Errorf("look up the idempotency key again: %w", errVanished)
	}
	if err := s.Check(fingerprint); err != nil {
		return service.Answer{}, err
	}
	if s.Status != service.InProgress {
		return s.Replay(), nil
	}
	p, err := b.byKey(ctx, paymentKey)
	if err != nil {
		return service.Answer{}, err
	}
	ctx, cancel := keepOn(ctx)
	defer cancel()
	return b.finish(ctx, p, key)
}

func (b *book) byKey(ctx context.Context, key string) (payment, error) {
	p := payment{key: key}
	err := b.db.QueryRow(ctx, "SELECT id, payer, payee, amount, currency FROM payments WHERE key = $1", key).
		Scan(&p.id, &p.payer, &p.payee, &p.amount, &p.currency)
	if err != nil {
		return p, fmt.Errorf("read the payment of a key: %w", err)
	}
	return p, nil
}

const (
	// endOne ends what is pending, completes the answer under its key, and tells of money that moved.
	endOne = `
WITH k AS (
    UPDATE idempotency SET status = $4, answer = $5 WHERE key = $6 AND status = $7 RETURNING answer
), p AS (
    UPDATE payments SET state = $2, transfer = $3, updated = clock_timestamp() WHERE id = $1 AND state = '` + Pending + `'
    RETURNING state, payer, amount, currency, updated
), o AS (
    INSERT INTO outbox (event)
    SELECT jsonb_build_object('account', payer, 'kind', 'payment', 'category', 'friends', 'merchant', '', 'currency', currency, 'amount', amount, 'at', updated)
    FROM p WHERE state = '` + Completed + `'
)`
	endResult = ` SELECT (SELECT answer::text FROM k), EXISTS (SELECT FROM p)`

	endPayment = endOne + endResult
	endRequest = endOne + `, r AS (
    UPDATE requests SET state = $9, updated = clock_timestamp() WHERE id = $8 AND state = '` + Open + `'
)` + endResult
)

// finish ends a payment and returns the answer that stands under a key.
func (b *book) finish(ctx context.Context, p payment, key string) (service.Answer, error) {
	answer, _, _, err := b.end(ctx, p, key)
	if err != nil || answer.Body != nil {
		return answer, err
	}
	s, found, err := service.Lookup(ctx, b.db, key)
	if err == nil && !found {
		err = errVanished
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("read the answer to a payment: %w", err)
	}
	// The settler was quicker; to this client the answer is new all the same.
	return service.Answer{Status: s.Status, Body: s.Answer}, nil
}

// end asks for a payment's transfer and writes down what came of it, with the
// answer under a key. It may be called again, and by several at once: the
// transfer's outcome is the same each time, and who comes second changes nothing
// and gets no answer. It says in which state the payment ended and whether it
// did so now.
func (b *book) end(ctx context.Context, p payment, key string) (answer service.Answer, state string, ended bool, err error) {
	out, err := b.accounts.Transfer(ctx, ledger.PaymentKey+p.key, p.order())
	if err != nil {
		return service.Answer{}, "", false, err
	}
	if answer, state, err = p.answer(out); err != nil {
		return service.Answer{}, "", false, err
	}
	var transfer *int64
	if out.Made != nil {
		transfer = &out.Made.ID
	}
	sql, args := endPayment, []any{p.id, state, transfer, answer.Status, string(answer.Body), key, service.InProgress}
	if p.request() != 0 {
		sql, args = endRequest, append(args, p.request(), requestState(state))
	}
	var stored *string
	if err := b.db.QueryRow(ctx, sql, args...).Scan(&stored, &ended); err != nil {
		return service.Answer{}, "", false, fmt.Errorf("end a payment: %w", err)
	}
	if ended {
		b.payments.WithLabelValues(state).Inc()
	}
	if answer.Body = nil; stored != nil {
		answer.Body = []byte(*stored)
	}
	return answer, state, ended, nil
}

// requestState is the state of a request whose payment ended so.
func requestState(payment string) string {
	if payment == Completed {
		return Accepted
	}
	return Declined
}

// answer is what the client is told of an outcome, and the payment's state.
func (p payment) answer(out ledger.Outcome[ledger.Transfer]) (service.Answer, string, error) {
	if out.Refused != nil {
		no := struct {
			ID      int64  `json:"id"`
			State   string `json:"state"`
			Payment int64  `json:"payment,omitempty"`
			Error   string `json:"error"`
			Code    string `json:"code"`
		}{ID: p.id, State: Declined, Error: out.Refused.Text, Code: out.Refused.Code}
		if q := p.request(); q != 0 {
			no.ID, no.Payment = q, p.id
		}
		a, err := service.JSON(out.Refused.Status, no)
		return a, Declined, err
	}
	yes := struct {
		ID          int64  `json:"id"`
		State       string `json:"state"`
		Payment     int64  `json:"payment,omitempty"`
		Transfer    int64  `json:"transfer"`
		FromBalance int64  `json:"from_balance"`
		FromVersion int64  `json:"from_version"`
	}{ID: p.id, State: Completed, Transfer: out.Made.ID, FromBalance: out.Made.FromBalance, FromVersion: out.Made.FromVersion}
	status := http.StatusCreated
	if q := p.request(); q != 0 {
		yes.ID, yes.State, yes.Payment, status = q, Accepted, p.id, http.StatusOK
	}
	a, err := service.JSON(status, yes)
	return a, Completed, err
}
