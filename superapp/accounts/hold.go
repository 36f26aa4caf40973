package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/superapp/money"
	"dhow/superapp/service"
)

// States of holds.
const (
	stateHeld     = "held"     // the amount is kept from being spent
	stateCaptured = "captured" // it, or a part, was moved and the rest let go
	stateReleased = "released" // it was let go
)

// Operations on holds, for the metrics and in paths.
const (
	opHold    = "hold"
	opCapture = "capture"
	opRelease = "release"
)

// holding is the body of POST /holds.
type holding struct {
	Account   int64  `json:"account"`
	Amount    int64  `json:"amount"`
	Currency  string `json:"currency"`
	Reference string `json:"reference"`
}

func (h holding) check() error {
	if h.Account < 1 {
		return invalid("invalid_account", "account must be a whole number from 1")
	}
	return checkOrder(h.Amount, h.Currency, h.Reference)
}

const insertHold = `
WITH h AS (
    INSERT INTO holds (key, account, amount, currency, reference, state, instance) VALUES ($1, $3, $4, $5, $6, '` + stateHeld + `', $7) RETURNING id, state
), a AS (
    UPDATE accounts SET held = held + $4 WHERE id = $3 RETURNING balance - held AS available
)
INSERT INTO idempotency (key, request_hash, status, answer)
SELECT $1, $2, 201, jsonb_build_object('id', h.id, 'account', $3::bigint, 'amount', $4::bigint, 'currency', $5::text, 'state', h.state, 'available', a.available) FROM h, a
RETURNING answer::text`

// postHold keeps an amount from being spent.
func (l *ledger) postHold(r *http.Request) (service.Answer, error) {
	key, err := service.Key(r)
	if err != nil {
		return service.Answer{}, err
	}
	h, err := service.Decode[holding](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := h.check(); err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint("POST /holds", h)
	if err != nil {
		return service.Answer{}, err
	}
	return l.changeHold(r.Context(), opHold, change{key: key, fingerprint: fingerprint, from: h.Account, to: h.Account, decide: func(rows locked) (written, *service.Refusal) {
		return written{http.StatusCreated, insertHold, []any{key, fingerprint, h.Account, h.Amount, h.Currency, h.Reference, l.instance}}, h.refuse(rows.from)
	}})
}

// refuse says why an amount is not held; nil lets it be.
func (h holding) refuse(a *account) *service.Refusal {
	switch {
	case a == nil:
		return unknownAccount(h.Account)
	case a.kind == KindSystem:
		return invalid("system_account", fmt.Sprintf("account %d is the system's: only what a customer has can be held", a.id))
	case a.currency != h.Currency:
		return invalid("currency_mismatch", fmt.Sprintf("account %d is in %s, not in %s", a.id, a.currency, h.Currency))
	case a.short(h.Amount):
		return insufficient(a, h.Amount)
	}
	return nil
}

func (l *ledger) changeHold(ctx context.Context, operation string, c change) (service.Answer, error) {
	answer, err := l.change(ctx, c)
	l.holds.WithLabelValues(operation, outcome(answer, err)).Inc()
	if err != nil {
		return service.Answer{}, fmt.Errorf("%s: %w", operation, err)
	}
	return answer, nil
}

// hold is one as it is shown.
type hold struct {
	ID        int64     `json:"id"`
	Account   int64     `json:"account"`
	Amount    int64     `json:"amount"`
	Currency  string    `json:"currency"`
	Reference string    `json:"reference"`
	State     string    `json:"state"`
	Transfer  *int64    `json:"transfer,omitempty"`
	At        time.Time `json:"at"`
	Updated   time.Time `json:"updated"`
}

const selectHold = "SELECT id, account, amount, currency, reference, state, transfer, at, updated FROM holds WHERE id = $1"

// readHold reads the hold that a path names.
func (l *ledger) readHold(r *http.Request) (hold, error) {
	var h hold
	id, err := service.PathID(r)
	if err != nil {
		return h, err
	}
	err = l.db.QueryRow(r.Context(), selectHold, id).Scan(&h.ID, &h.Account, &h.Amount, &h.Currency, &h.Reference, &h.State, &h.Transfer, &h.At, &h.Updated)
	if errors.Is(err, pgx.ErrNoRows) {
		return h, &service.Refusal{Status: http.StatusNotFound, Code: "unknown_hold", Text: fmt.Sprintf("there is no hold %d", id)}
	}
	if err != nil {
		return h, fmt.Errorf("read a hold: %w", err)
	}
	h.At, h.Updated = h.At.UTC(), h.Updated.UTC()
	return h, nil
}

// getHold shows one hold.
func (l *ledger) getHold(r *http.Request) (service.Answer, error) {
	h, err := l.readHold(r)
	if err != nil {
		return service.Answer{}, err
	}
	return service.JSON(http.StatusOK, h)
}

// capture is the body of POST /holds/{id}/capture.
type capture struct {
	To     int64 `json:"to"`
	Amount int64 `json:"amount"`
}

const insertCapture = moveMoney + `, h AS (
    UPDATE holds SET state = '` + stateCaptured + `', transfer = t.id, updated = clock_timestamp() FROM t WHERE holds.id = $10 RETURNING holds.id, state
)
INSERT INTO idempotency (key, request_hash, status, answer)
SELECT $1, $2, 200, jsonb_build_object('id', h.id, 'state', h.state, 'transfer', t.id,
    'from_balance', payer.balance, 'from_version', payer.version, 'to_version', payee.version)
FROM t, h, a payer, a payee WHERE payer.id = $7 AND payee.id = $8
RETURNING answer::text`

// capture moves a held amount, or a part of it, and lets the rest go.
func (l *ledger) capture(r *http.Request) (service.Answer, error) {
	key, err := service.Key(r)
	if err != nil {
		return service.Answer{}, err
	}
	c, err := service.Decode[capture](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := checkAmount(c.Amount); err != nil {
		return service.Answer{}, err
	}
	h, err := l.readHold(r) // what is used of it never changes
	if err != nil {
		return service.Answer{}, err
	}
	t := transfer{From: h.Account, To: c.To, Amount: c.Amount, Currency: h.Currency, Reference: h.Reference}
	if err := t.check(); err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint(fmt.Sprintf("POST /holds/%d/capture", h.ID), c)
	if err != nil {
		return service.Answer{}, err
	}
	return l.changeHold(r.Context(), opCapture, change{key: key, fingerprint: fingerprint, from: t.From, to: t.To, hold: h.ID, decide: func(rows locked) (written, *service.Refusal) {
		refusal := closed(h.ID, rows)
		if refusal == nil && t.Amount > h.Amount {
			refusal = invalid("amount_exceeds_hold", fmt.Sprintf("hold %d is of %s: no more can be captured", h.ID, money.Format(h.Amount, h.Currency)))
		}
		if refusal == nil {
			refusal = t.misdirected(rows)
		}
		return written{http.StatusOK, insertCapture, []any{key, fingerprint, t.Reference, t.Currency, t.Amount, l.instance, t.From, t.To, h.Amount, h.ID}}, refusal
	}})
}

func closed(id int64, rows locked) *service.Refusal {
	if rows.hold == stateHeld {
		return nil
	}
	return &service.Refusal{Status: http.StatusConflict, Code: "hold_closed", Text: fmt.Sprintf("hold %d is %s already", id, rows.hold)}
}

const updateReleased = `
WITH h AS (
    UPDATE holds SET state = '` + stateReleased + `', updated = clock_timestamp() WHERE id = $3 RETURNING id, state, account, amount
), a AS (
    UPDATE accounts SET held = held - h.amount FROM h WHERE accounts.id = h.account
)
INSERT INTO idempotency (key, request_hash, status, answer)
SELECT $1, $2, 200, jsonb_build_object('id', id, 'state', state) FROM h
RETURNING answer::text`

// release lets a held amount go.
func (l *ledger) release(r *http.Request) (service.Answer, error) {
	key, err := service.Key(r)
	if err != nil {
		return service.Answer{}, err
	}
	h, err := l.readHold(r)
	if err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint(fmt.Sprintf("POST /holds/%d/release", h.ID), nil)
	if err != nil {
		return service.Answer{}, err
	}
	return l.changeHold(r.Context(), opRelease, change{key: key, fingerprint: fingerprint, from: h.Account, to: h.Account, hold: h.ID, decide: func(rows locked) (written, *service.Refusal) {
		return written{http.StatusOK, updateReleased, []any{key, fingerprint, h.ID}}, closed(h.ID, rows)
	}})
}
