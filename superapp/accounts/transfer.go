package accounts

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"dhow/superapp/money"
	"dhow/superapp/service"
)

// maxReference is in characters.
const maxReference = 140

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
		return sameAccount()
	}
	return checkOrder(t.Amount, t.Currency, t.Reference)
}

func sameAccount() *service.Refusal {
	return invalid("same_account", "from and to are the same account")
}

func checkAmount(amount int64) error {
	if amount < 1 || amount > money.MaxAmount {
		return invalid("invalid_amount", fmt.Sprintf("amount must be a whole number of minor units from 1 to %d", int64(money.MaxAmount)))
	}
	return nil
}

// checkOrder holds for transfers and for holds alike.
func checkOrder(amount int64, currency, reference string) error {
	if err := checkAmount(amount); err != nil {
		return err
	}
	if utf8.RuneCountInString(reference) > maxReference || strings.ContainsFunc(reference, unicode.IsControl) {
		return invalid("invalid_reference", fmt.Sprintf("reference may have %d characters, no control characters", maxReference))
	}
	return checkCurrency(currency)
}

// moveMoney writes a transfer and its entries; of the payer's held amount $9 is let go.
const moveMoney = `
WITH t AS (
    INSERT INTO transfers (key, reference, currency, amount, instance) VALUES ($1, $3, $4, $5, $6) RETURNING id
), a AS (
    UPDATE accounts SET balance = balance + CASE id WHEN $7 THEN -$5::bigint ELSE $5::bigint END,
        held = held - CASE id WHEN $7 THEN $9::bigint ELSE 0 END, version = version + 1
    WHERE id IN ($7, $8) RETURNING id, balance, version
), e AS (
    INSERT INTO entries (transfer, account, amount, balance, version)
    SELECT t.id, a.id, CASE a.id WHEN $7 THEN -$5::bigint ELSE $5::bigint END, a.balance, a.version FROM t, a ORDER BY a.id = $8
)`

const insertTransfer = moveMoney + `
INSERT INTO idempotency (key, request_hash, status, answer)
SELECT $1, $2, 201, jsonb_build_object('id', t.id, 'from', $7::bigint, 'to', $8::bigint, 'amount', $5::bigint, 'currency', $4::text, 'reference', $3::text,
    'from_balance', payer.balance, 'from_version', payer.version, 'to_version', payee.version)
FROM t, a payer, a payee WHERE payer.id = $7 AND payee.id = $8
RETURNING answer::text`

// orderTransfer moves money for whoever asks.
func (l *ledger) orderTransfer(r *http.Request) (service.Answer, error) {
	key, err := customersKey(r)
	if err != nil {
		return service.Answer{}, err
	}
	return l.transfer(r, key)
}

// stepTransfer moves money as a step of another service. It is not for customers, so
// no route from outside leads here, and all keys are free to be used.
func (l *ledger) stepTransfer(r *http.Request) (service.Answer, error) {
	key, err := service.Key(r)
	if err != nil {
		return service.Answer{}, err
	}
	return l.transfer(r, key)
}

// transfer moves money, once for its key whichever way it came.
func (l *ledger) transfer(r *http.Request, key string) (service.Answer, error) {
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
	answer, err := l.change(r.Context(), change{key: key, fingerprint: fingerprint, from: t.From, to: t.To, decide: func(rows locked) (written, *service.Refusal) {
		return written{http.StatusCreated, insertTransfer, []any{key, fingerprint, t.Reference, t.Currency, t.Amount, l.instance, t.From, t.To, 0}}, t.refuse(rows)
	}})
	l.transfers.WithLabelValues(outcome(answer, err)).Inc()
	if err != nil {
		return service.Answer{}, fmt.Errorf("transfer: %w", err)
	}
	return answer, nil
}

// refuse says why a transfer is not made; nil lets it be made.
func (t transfer) refuse(rows locked) *service.Refusal {
	if refusal := t.misdirected(rows); refusal != nil {
		return refusal
	}
	if rows.from.short(t.Amount) {
		return insufficient(rows.from, t.Amount)
	}
	return nil
}

// misdirected says why an amount can not go from one account to the other, whatever is available.
func (t transfer) misdirected(rows locked) *service.Refusal {
	switch from, to := rows.from, rows.to; {
	case from == nil:
		return unknownAccount(t.From)
	case to == nil:
		return unknownAccount(t.To)
	case from.currency != t.Currency || to.currency != t.Currency:
		return invalid("currency_mismatch", fmt.Sprintf("account %d is in %s and account %d in %s: a transfer of %s needs two accounts in it", from.id, from.currency, to.id, to.currency, t.Currency))
	}
	_, fits := money.Add(rows.from.balance, -t.Amount)
	if _, grows := money.Add(rows.to.balance, t.Amount); !fits || !grows {
		return invalid("balance_out_of_range", "a balance would become too large to be kept")
	}
	return nil
}

func insufficient(a *account, amount int64) *service.Refusal {
	return invalid("insufficient_funds", fmt.Sprintf("account %d has less than %s available", a.id, money.Format(amount, a.currency)))
}
