package cards

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"dhow/superapp/money"
	"dhow/superapp/service"
)

// States of authorisations; Pending and Declined are movements' too.
const (
	Pending    = "pending"
	Declined   = "declined"
	Authorised = "authorised"
	Captured   = "captured"
	Reversed   = "reversed"
)

const (
	// maxMerchant and maxCategory are in characters.
	maxMerchant = 100
	maxCategory = 40
)

// authorisation is one as it is shown.
type authorisation struct {
	ID        int64           `json:"id"`
	State     string          `json:"state"`
	Card      int64           `json:"card"`
	Account   int64           `json:"account"`
	Amount    int64           `json:"amount"`
	Captured  int64           `json:"captured"`
	Refunded  int64           `json:"refunded"`
	Currency  string          `json:"currency"`
	Merchant  string          `json:"merchant"`
	Category  string          `json:"category"`
	Created   time.Time       `json:"created"`
	Updated   time.Time       `json:"updated"`
	Movements []shownMovement `json:"movements,omitempty"`
}

type shownMovement struct {
	ID       int64  `json:"id"`
	Kind     string `json:"kind"`
	Amount   int64  `json:"amount"`
	State    string `json:"state"`
	Transfer *int64 `json:"transfer,omitempty"`
}

// movement is of a part of the authorisation's amount.
func (a authorisation) movement(kind string, amount int64) movement {
	return movement{authorisation: a.ID, card: a.Card, kind: kind, amount: amount, currency: a.Currency, account: a.Account, merchant: a.Merchant, category: a.Category}
}

const selectAuthorisation = "SELECT id, state, card, account, amount, captured, refunded, currency, merchant, category, created, updated FROM authorisations WHERE id = ?"

func (a *authorisation) scan(scan func(...any) error) error {
	return scan(&a.ID, &a.State, &a.Card, &a.Account, &a.Amount, &a.Captured, &a.Refunded, &a.Currency, &a.Merchant, &a.Category, &a.Created, &a.Updated)
}

// unread is the error of an authorisation that could not be read.
func unread(id int64, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return &service.Refusal{Status: http.StatusNotFound, Code: "unknown_authorisation", Text: fmt.Sprintf("there is no authorisation %d", id)}
	}
	return fmt.Errorf("read an authorisation: %w", err)
}

// authorisation shows one authorisation with its movements.
func (d *desk) authorisation(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	var a authorisation
	if err := a.scan(d.db.QueryRowContext(r.Context(), selectAuthorisation, id).Scan); err != nil {
		return service.Answer{}, unread(id, err)
	}
	rows, err := d.db.QueryContext(r.Context(), "SELECT id, kind, amount, state, transfer FROM movements WHERE authorisation = ? ORDER BY id", id)
	if err != nil {
		return service.Answer{}, fmt.Errorf("read movements: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var m shownMovement
		if err := rows.Scan(&m.ID, &m.Kind, &m.Amount, &m.State, &m.Transfer); err != nil {
			return service.Answer{}, fmt.Errorf("read movements: %w", err)
		}
		a.Movements = append(a.Movements, m)
	}
	if err := rows.Err(); err != nil {
		return service.Answer{}, fmt.Errorf("read movements: %w", err)
	}
	return service.JSON(http.StatusOK, a)
}

// purchase is the body of POST /cards/{id}/authorisations.
type purchase struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
	Merchant string `json:"merchant"`
	Category string `json:"category"`
}

func (p purchase) check() error {
	if err := checkAmount("amount", p.Amount); err != nil {
		return err
	}
	if _, known := money.Digits(p.Currency); !known {
		return invalid("unknown_currency", fmt.Sprintf("%q is no ISO 4217 currency: write its code of three capital letters, for example AED", p.Currency))
	}
	if err := checkText("merchant", p.Merchant, maxMerchant); err != nil {
		return err
	}
	return checkText("category", p.Category, maxCategory)
}

// spentToday is what a card has authorised in this day of UTC and not given back.
const spentToday = `
SELECT CAST(coalesce(sum(CASE state WHEN '` + Captured + `' THEN captured WHEN '` + Declined + `' THEN 0 WHEN '` + Reversed + `' THEN 0 ELSE amount END), 0) AS signed)
FROM authorisations WHERE card = ? AND created >= current_date`

// authorise takes an amount from the card's account and keeps it for the merchant.
func (d *desk) authorise(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	p, err := service.Decode[purchase](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := p.check(); err != nil {
		return service.Answer{}, err
	}
	ctx := r.Context()
	return d.write(r, fmt.Sprintf("POST /cards/%d/authorisations", id), p, func(tx *transaction, key string) (decision, error) {
		var spent int64
		// Who else authorises with the card waits here; what they spent is seen behind the lock.
		c, err := lockCard(ctx, tx, id, one{spentToday, []any{id}, func(scan func(...any) error) error { return scan(&spent) }})
		if err != nil {
			return decision{}, err
		}
		if no := c.refuse(p, spent, time.Now()); no != nil {
			return refused(no), nil
		}
		a := authorisation{Card: c.ID, Account: c.Account, Currency: c.Currency, Merchant: p.Merchant, Category: p.Category}
		at := tx.write("INSERT INTO authorisations (card, account, amount, currency, merchant, category, state, instance) VALUES (?, ?, ?, ?, ?, ?, '"+Pending+"', ?)",
			a.Card, a.Account, p.Amount, a.Currency, a.Merchant, a.Category, d.instance)
		made := d.move(tx, key, a.movement(authorise, p.Amount))
		return decision{post: func(r results) []movement {
			moves := made.post(r)
			moves[0].authorisation = r.ids[at]
			return moves
		}}, nil
	})
}

// refuse says why a purchase is not authorised, given what was spent in this day; nil lets it be.
func (c card) refuse(p purchase, spent int64, now time.Time) *service.Refusal {
	switch {
	case c.State == Frozen:
		return invalid("card_frozen", fmt.Sprintf("card %d is frozen: unfreeze it first", c.ID))
	case !now.UTC().Before(c.last.AddDate(0, 0, 1)):
		return invalid("card_expired", fmt.Sprintf("card %d could be used until %s", c.ID, c.Expires))
	case p.Currency != c.Currency:
		return invalid("currency_mismatch", fmt.Sprintf("card %d is in %s, not in %s", c.ID, c.Currency, p.Currency))
	case p.Amount > c.LimitTransaction:
		return invalid("limit_exceeded", fmt.Sprintf("card %d may pay %s at once", c.ID, money.Format(c.LimitTransaction, c.Currency)))
	case p.Amount > c.LimitDay-spent:
		return invalid("limit_exceeded", fmt.Sprintf("card %d may pay %s a day (UTC)", c.ID, money.Format(c.LimitDay, c.Currency)))
	}
	return nil
}

// part is the body of a capture and of a refund.
type part struct {
	Amount int64 `json:"amount"`
}

// capture gives the merchant an authorised amount, or a part of it; the rest goes back.
func (d *desk) capture(r *http.Request) (service.Answer, error) {
	p, err := service.Decode[part](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := checkAmount("amount", p.Amount); err != nil {
		return service.Answer{}, err
	}
	return d.decide(r, "capture", p, func(ctx context.Context, tx *transaction, a authorisation, key string) (decision, error) {
		if no := a.closed(); no != nil {
			return refused(no), nil
		}
		if p.Amount > a.Amount {
			return refused(invalid("amount_exceeds_authorisation", fmt.Sprintf("authorisation %d is of %s: no more can be captured", a.ID, money.Format(a.Amount, a.Currency)))), nil
		}
		tx.write("UPDATE authorisations SET state = '"+Captured+"', captured = ?, updated = current_timestamp(6) WHERE id = ?", p.Amount, a.ID)
		moves := []movement{a.movement(capture, p.Amount)}
		if rest := a.Amount - p.Amount; rest > 0 {
			moves = append(moves, a.movement(reverse, rest))
		}
		return d.move(tx, key, moves...), nil
	})
}

// reverse gives an authorised amount back.
func (d *desk) reverse(r *http.Request) (service.Answer, error) {
	return d.decide(r, "reverse", nil, func(ctx context.Context, tx *transaction, a authorisation, key string) (decision, error) {
		if no := a.closed(); no != nil {
			return refused(no), nil
		}
		tx.write("UPDATE authorisations SET state = '"+Reversed+"', updated = current_timestamp(6) WHERE id = ?", a.ID)
		return d.move(tx, key, a.movement(reverse, a.Amount)), nil
	})
}

// refund gives a captured amount, or a part of it, back.
func (d *desk) refund(r *http.Request) (service.Answer, error) {
	p, err := service.Decode[part](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := checkAmount("amount", p.Amount); err != nil {
		return service.Answer{}, err
	}
	return d.decide(r, "refund", p, func(ctx context.Context, tx *transaction, a authorisation, key string) (decision, error) {
		switch {
		case a.State != Captured:
			return refused(&service.Refusal{Status: http.StatusConflict, Code: "not_captured", Text: fmt.Sprintf("authorisation %d is %s: only what was captured can be refunded", a.ID, a.State)}), nil
		case p.Amount > a.Captured-a.Refunded:
			return refused(invalid("amount_exceeds_capture", fmt.Sprintf("of authorisation %d %s can be refunded", a.ID, money.Format(a.Captured-a.Refunded, a.Currency)))), nil
		}
		// What comes from the merchants' account must have come there.
		var open bool
		pending := one{"SELECT EXISTS (SELECT 1 FROM movements WHERE authorisation = ? AND kind = '" + capture + "' AND state = '" + Pending + "')", []any{a.ID}, func(scan func(...any) error) error { return scan(&open) }}
		if err := tx.read(ctx, pending); err != nil {
			return decision{}, fmt.Errorf("look for the capture: %w", err)
		}
		if open {
			return decision{}, service.Unavailable(fmt.Errorf("the capture of authorisation %d is not posted yet", a.ID))
		}
		tx.write("UPDATE authorisations SET refunded = refunded + ?, updated = current_timestamp(6) WHERE id = ?", p.Amount, a.ID)
		return d.move(tx, key, a.movement(refund, p.Amount)), nil
	})
}

// decide writes what is to become of the authorisation that a path names, under its lock.
func (d *desk) decide(r *http.Request, verb string, body any, decide func(ctx context.Context, tx *transaction, a authorisation, key string) (decision, error)) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	ctx := r.Context()
	return d.write(r, fmt.Sprintf("POST /authorisations/%d/%s", id, verb), body, func(tx *transaction, key string) (decision, error) {
		var a authorisation
		if err := tx.read(ctx, one{selectAuthorisation + " FOR UPDATE", []any{id}, a.scan}); err != nil {
			return decision{}, unread(id, err)
		}
		if a.State == Pending {
			return decision{}, service.Unavailable(fmt.Errorf("authorisation %d is still pending", a.ID))
		}
		return decide(ctx, tx, a, key)
	})
}

// closed says why an authorisation can not be captured or reversed; nil lets it be.
func (a authorisation) closed() *service.Refusal {
	if a.State == Authorised {
		return nil
	}
	return &service.Refusal{Status: http.StatusConflict, Code: "authorisation_closed", Text: fmt.Sprintf("authorisation %d is %s already", a.ID, a.State)}
}
