package cards

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"dhow/superapp/ledger"
	"dhow/superapp/money"
	"dhow/superapp/service"
)

// States of cards.
const (
	Active = "active"
	Frozen = "frozen"
)

const (
	// validYears is how long a new card can be used.
	validYears = 4
	// The limits of a new card, in whole units of its currency.
	firstLimitTransaction = 10_000
	firstLimitDay         = 50_000
	// maxListed bounds how many cards of a customer are shown.
	maxListed = 200
	// expiresForm is how the last month is written on cards.
	expiresForm = "01/06"
)

// card is one as it is shown.
type card struct {
	ID               int64  `json:"id"`
	Token            string `json:"token"`
	Last4            string `json:"last4"`
	Expires          string `json:"expires"`
	State            string `json:"state"`
	Customer         int64  `json:"customer"`
	Account          int64  `json:"account"`
	Currency         string `json:"currency"`
	LimitTransaction int64  `json:"limit_transaction"`
	LimitDay         int64  `json:"limit_day"`

	last time.Time // the last day on which it can be used
}

const selectCard = "SELECT id, token, last4, expires, state, customer, account, currency, limit_transaction, limit_day FROM cards"

func (c *card) scan(scan func(...any) error) error {
	err := scan(&c.ID, &c.Token, &c.Last4, &c.last, &c.State, &c.Customer, &c.Account, &c.Currency, &c.LimitTransaction, &c.LimitDay)
	c.Expires = c.last.Format(expiresForm)
	return err
}

func unknownCard(id int64) *service.Refusal {
	return &service.Refusal{Status: http.StatusNotFound, Code: "unknown_card", Text: fmt.Sprintf("there is no card %d", id)}
}

// readCard reads a card.
func readCard(ctx context.Context, q service.MariaDBQuerier, id int64) (card, error) {
	var c card
	err := c.scan(q.QueryRowContext(ctx, selectCard+" WHERE id = ?", id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return c, unknownCard(id)
	}
	if err != nil {
		return c, fmt.Errorf("read a card: %w", err)
	}
	return c, nil
}

// lockCard reads a card and locks it until the transaction's end, and asks further questions behind that.
func lockCard(ctx context.Context, tx *transaction, id int64, more ...one) (card, error) {
	var c card
	err := tx.read(ctx, append([]one{{selectCard + " WHERE id = ? FOR UPDATE", []any{id}, c.scan}}, more...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return c, unknownCard(id)
	}
	if err != nil {
		return c, fmt.Errorf("lock a card: %w", err)
	}
	return c, nil
}

// newCard is the body of POST /cards.
type newCard struct {
	Customer int64 `json:"customer"`
	Account  int64 `json:"account"`
}

// create makes a card that pays from an account.
func (d *desk) create(r *http.Request) (service.Answer, error) {
	body, err := service.Decode[newCard](r)
	if err != nil {
		return service.Answer{}, err
	}
	if body.Customer < 1 || body.Account < 1 {
		return service.Answer{}, invalid("invalid_account", "customer and account must be whole numbers from 1")
	}
	ctx := r.Context()
	return d.write(r, "POST /cards", body, func(tx *transaction, key string) (decision, error) {
		if _, err := tx.send(ctx); err != nil {
			return decision{}, fmt.Errorf("reserve an idempotency key: %w", err)
		}
		// An account's owner and currency never change; of what is locked meanwhile
		// there is the key alone.
		a, err := d.accounts.Account(ctx, body.Account)
		switch {
		case err != nil:
			return decision{}, err
		case a.Refused != nil:
			return decision{}, a.Refused
		case a.Made.Kind == ledger.KindSystem:
			return refused(invalid("system_account", fmt.Sprintf("account %d is the system's", body.Account))), nil
		case a.Made.Customer != body.Customer:
			return refused(invalid("wrong_customer", fmt.Sprintf("account %d is not of customer %d", body.Account, body.Customer))), nil
		}
		return d.insertCard(ctx, tx, key, a.Made)
	})
}

const insertCard = "INSERT INTO cards (`key`, token, tag, last4, customer, account, currency, state, limit_transaction, limit_day, expires, instance) VALUES (?, ?, ?, ?, ?, ?, ?, '" + Active + "', ?, ?, ?, ?)"

func (d *desk) insertCard(ctx context.Context, tx *transaction, key string, a *ledger.Account) (decision, error) {
	unit, known := money.Unit(a.Currency)
	if !known {
		return decision{}, fmt.Errorf("account %d is in %q, which is no currency", a.ID, a.Currency)
	}
	now := time.Now().UTC()
	c := card{Token: newToken(), State: Active, Customer: a.Customer, Account: a.ID, Currency: a.Currency,
		LimitTransaction: firstLimitTransaction * unit, LimitDay: firstLimitDay * unit,
		last: time.Date(now.Year()+validYears, now.Month()+1, 0, 0, 0, 0, 0, time.UTC)}
	number := d.numbers.of(c.Token)
	c.Last4, c.Expires = number[len(number)-4:], c.last.Format(expiresForm)
	at := tx.write(insertCard, key, c.Token, d.numbers.tag(number), c.Last4, c.Customer, c.Account, c.Currency, c.LimitTransaction, c.LimitDay, c.last, d.instance)
	made, err := tx.send(ctx)
	if service.Duplicate(err) {
		return decision{}, errAnew // the key is ours, so another card has this number
	}
	if err != nil {
		return decision{}, fmt.Errorf("write a card: %w", err)
	}
	c.ID = made.ids[at]
	return answered(http.StatusCreated, c)
}

// card shows one card.
func (d *desk) card(r *http.Request) (service.Answer, error) {
	c, err := d.named(r)
	if err != nil {
		return service.Answer{}, err
	}
	return service.JSON(http.StatusOK, c)
}

// named is the card that a path names.
func (d *desk) named(r *http.Request) (card, error) {
	id, err := service.PathID(r)
	if err != nil {
		return card{}, err
	}
	return readCard(r.Context(), d.db, id)
}

// number shows a card's number.
func (d *desk) number(r *http.Request) (service.Answer, error) {
	c, err := d.named(r)
	if err != nil {
		return service.Answer{}, err
	}
	return service.JSON(http.StatusOK, struct {
		Number string `json:"number"`
	}{d.numbers.of(c.Token)})
}

// list shows a customer's cards.
func (d *desk) list(r *http.Request) (service.Answer, error) {
	customer, err := service.QueryInt(r, "customer", 0, 1, 1<<62)
	if err != nil {
		return service.Answer{}, err
	}
	if customer == 0 {
		return service.Answer{}, &service.Refusal{Status: http.StatusBadRequest, Code: service.CodeInvalidRequest, Text: "say whose cards: ?customer=ID"}
	}
	rows, err := d.db.QueryContext(r.Context(), selectCard+" WHERE customer = ? ORDER BY id LIMIT ?", customer, maxListed)
	if err != nil {
		return service.Answer{}, fmt.Errorf("list cards: %w", err)
	}
	defer rows.Close()
	all := []card{}
	for rows.Next() {
		var c card
		if err := c.scan(rows.Scan); err != nil {
			return service.Answer{}, fmt.Errorf("list cards: %w", err)
		}
		all = append(all, c)
	}
	if err := rows.Err(); err != nil {
		return service.Answer{}, fmt.Errorf("list cards: %w", err)
	}
	return service.JSON(http.StatusOK, struct {
		Cards []card `json:"cards"`
	}{all})
}

func (d *desk) freeze(r *http.Request) (service.Answer, error) { return d.turn(r, "freeze", Frozen) }
func (d *desk) unfreeze(r *http.Request) (service.Answer, error) {
	return d.turn(r, "unfreeze", Active)
}

// turn puts a card into a state.
func (d *desk) turn(r *http.Request, verb, state string) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	ctx := r.Context()
	return d.write(r, fmt.Sprintf("POST /cards/%d/%s", id, verb), nil, func(tx *transaction, _ string) (decision, error) {
		if _, err := lockCard(ctx, tx, id); err != nil {
			return decision{}, err
		}
		tx.write("UPDATE cards SET state = ?, updated = current_timestamp(6) WHERE id = ?", state, id)
		return answered(http.StatusOK, struct {
			ID    int64  `json:"id"`
			State string `json:"state"`
		}{id, state})
	})
}

// newLimits is the body of PUT /cards/{id}/limits.
type newLimits struct {
	Transaction int64 `json:"transaction"`
	Day         int64 `json:"day"`
}

// limits sets what may be authorised with a card at once and in a day.
func (d *desk) limits(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	body, err := service.Decode[newLimits](r)
	if err != nil {
		return service.Answer{}, err
	}
	if body.Transaction < 1 || body.Transaction > body.Day || body.Day > money.MaxAmount {
		return service.Answer{}, invalid("invalid_limits", fmt.Sprintf("the limits must be whole numbers of minor units from 1 to %d, that of a transaction no larger than that of a day", int64(money.MaxAmount)))
	}
	ctx := r.Context()
	return d.write(r, fmt.Sprintf("PUT /cards/%d/limits", id), body, func(tx *transaction, _ string) (decision, error) {
		c, err := lockCard(ctx, tx, id)
		if err != nil {
			return decision{}, err
		}
		c.LimitTransaction, c.LimitDay = body.Transaction, body.Day
		tx.write("UPDATE cards SET limit_transaction = ?, limit_day = ?, updated = current_timestamp(6) WHERE id = ?", c.LimitTransaction, c.LimitDay, id)
		return answered(http.StatusOK, c)
	})
}
