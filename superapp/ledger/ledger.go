// Package ledger asks the accounts service to move and to hold money. It is what
// payments, cards and sends have in common: each asks under a key that follows
// from its own row, so that asking again never moves money twice.
package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"dhow/superapp/service"
)

// maxAnswer is in bytes.
const maxAnswer = 64 << 10

// What begins the keys under which services ask; what follows is of their own rows.
// Customers can not use such keys: one who took the key of a step to come would keep
// that step from being made.
const (
	// PaymentKey begins those of payments.
	PaymentKey = "payment:"
	// CardKey begins those of cards' movements.
	CardKey = "card:"
	// SendKey begins those of sends' steps.
	SendKey = "send:"
)

// Reserved says whether a key can be a service's.
func Reserved(key string) bool {
	for _, begin := range []string{PaymentKey, CardKey, SendKey} {
		if strings.HasPrefix(key, begin) {
			return true
		}
	}
	return false
}

// Purposes of the system's accounts.
const (
	// Cards holds what cards have authorised and not captured.
	Cards = "cards"
	// Merchants holds what was captured.
	Merchants = "merchants"
	// Payouts holds what providers pay out abroad.
	Payouts = "payouts"
	// Fees holds what customers paid for services.
	Fees = "fees"
)

// Shards is how many accounts the system has of a purpose in a currency: all who use
// one wait for each other, since each transfer locks both its accounts. It must never
// change: what is asked again must name the same accounts.
const Shards = 8

// Client asks the accounts service. Its methods may be called by many at once.
type Client struct {
	base *url.URL
	http *http.Client

	mu     sync.Mutex
	system map[systemAccount]int64 // ids, which never change
}

// New asks the accounts service at an address.
func New(accounts *url.URL) *Client {
	return &Client{base: accounts, http: service.NewClient(), system: map[systemAccount]int64{}}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Outcome is the accounts service's last word.
type Outcome[T any] struct {
	// Made is what was done, nil when it was refused.
	Made *T
	// Refused says why not, nil when it was made.
	Refused *service.Refusal
}

// Order is a transfer that is asked for.
type Order struct {
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	Amount    int64  `json:"amount"`
	Currency  string `json:"currency"`
	Reference string `json:"reference"`
}

// Transfer is one that was made.
type Transfer struct {
	ID          int64 `json:"id"`
	FromBalance int64 `json:"from_balance"`
	FromVersion int64 `json:"from_version"`
	ToVersion   int64 `json:"to_version"`
}

// Transfer moves money. Asked again with the same key and order, it gives the
// same outcome and nothing is moved twice. An error says that there is no outcome
// yet; that holds for the other methods too.
func (c *Client) Transfer(ctx context.Context, key string, o Order) (Outcome[Transfer], error) {
	out, err := ask[Transfer](ctx, c, http.MethodPost, key, o, "system", "transfers")
	if err == nil && out.Made != nil && out.Made.ID == 0 {
		err = errNoOutcome
	}
	if err != nil {
		return Outcome[Transfer]{}, fmt.Errorf("ask for a transfer: %w", err)
	}
	return out, nil
}

// HoldOrder is a hold that is asked for.
type HoldOrder struct {
	Account   int64  `json:"account"`
	Amount    int64  `json:"amount"`
	Currency  string `json:"currency"`
	Reference string `json:"reference"`
}

// Hold is one that was made, captured or released.
type Hold struct {
	ID    int64  `json:"id"`
	State string `json:"state"`
	// Transfer and what follows are a capture's.
	Transfer    int64 `json:"transfer"`
	FromBalance int64 `json:"from_balance"`
	FromVersion int64 `json:"from_version"`
	ToVersion   int64 `json:"to_version"`
}

// Hold keeps an amount of an account from being spent.
func (c *Client) Hold(ctx context.Context, key string, o HoldOrder) (Outcome[Hold], error) {
	return c.hold(ctx, "hold an amount", key, o, "holds")
}

// Capture moves an amount of a hold to another account and releases the rest.
func (c *Client) Capture(ctx context.Context, key string, hold, to, amount int64) (Outcome[Hold], error) {
	body := struct {
		To     int64 `json:"to"`
		Amount int64 `json:"amount"`
	}{to, amount}
	return c.hold(ctx, "capture a hold", key, body, "holds", strconv.FormatInt(hold, 10), "capture")
}

// Release ends a hold without moving anything.
func (c *Client) Release(ctx context.Context, key string, hold int64) (Outcome[Hold], error) {
	return c.hold(ctx, "release a hold", key, struct{}{}, "holds", strconv.FormatInt(hold, 10), "release")
}

func (c *Client) hold(ctx context.Context, what, key string, body any, path ...string) (Outcome[Hold], error) {
	out, err := ask[Hold](ctx, c, http.MethodPost, key, body, path...)
	if err == nil && out.Made != nil && (out.Made.ID == 0 || out.Made.State == "") {
		err = errNoOutcome
	}
	if err != nil {
		return Outcome[Hold]{}, fmt.Errorf("%s: %w", what, err)
	}
	return out, nil
}

// KindSystem is the kind of the accounts that are the system's.
const KindSystem = "system"

// Account is what never changes of an account.
type Account struct {
	ID       int64  `json:"id"`
	Customer int64  `json:"customer"`
	Kind     string `json:"kind"`
	Currency string `json:"currency"`
}

// Account looks at an account.
func (c *Client) Account(ctx context.Context, id int64) (Outcome[Account], error) {
	out, err := ask[Account](ctx, c, http.MethodGet, "", nil, "accounts", strconv.FormatInt(id, 10))
	if err == nil && out.Made != nil && (out.Made.ID != id || out.Made.Currency == "") {
		err = errNoOutcome
	}
	if err != nil {
		return Outcome[Account]{}, fmt.Errorf("look at an account: %w", err)
	}
	return out, nil
}

// systemAccount names one of the system's accounts.
type systemAccount struct {
	purpose, currency string
	shard             int64
}

// System is the id of one of the system's accounts for a purpose; it is made when it
// is missing. The same user, a whole number from 0, gets the same account each time.
func (c *Client) System(ctx context.Context, purpose, currency string, user int64) (int64, error) {
	of := systemAccount{purpose, currency, user % Shards}
	c.mu.Lock()
	id, known := c.system[of]
	c.mu.Unlock()
	if known {
		return id, nil
	}
	out, err := ask[struct {
		ID int64 `json:"id"`
	}](ctx, c, http.MethodPut, "", struct{}{}, "system", purpose, currency, strconv.FormatInt(of.shard, 10))
	switch {
	case err != nil:
		return 0, fmt.Errorf("find the system's account for %s in %s: %w", purpose, currency, err)
	case out.Refused != nil:
		return 0, fmt.Errorf("find the system's account for %s in %s: %w", purpose, currency, out.Refused)
	case out.Made.ID == 0:
		return 0, fmt.Errorf("find the system's account for %s in %s: %w", purpose, currency, errNoOutcome)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.system[of] = out.Made.ID
	return out.Made.ID, nil
}

// errNoOutcome says that what came back is not the accounts service's word.
var errNoOutcome = errors.New("the accounts service gave no outcome")

// errAnotherOrder says that an order differs from the first one under its key, which
// is a defect: an order follows from its row.
var errAnotherOrder = errors.New("the key was used for another order: compare the row with its transfer")

// ask sends one request. What says that the service is away is service.Unavailable.
func ask[T any](ctx context.Context, c *Client, method, key string, body any, path ...string) (Outcome[T], error) {
	var out Outcome[T]
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return out, fmt.Errorf("write the request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(path...).String(), bytes.NewReader(text))
	if err != nil {
		return out, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		// With this header the transport itself repeats a request whose idle
		// connection turned out to be closed.
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return out, service.Unavailable(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return out, service.Unavailable(fmt.Errorf("read the answer: %w", err))
	}
	switch res.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return out, service.Unavailable(fmt.Errorf("status %d", res.StatusCode))
	}
	if err := out.read(res.StatusCode, answer); err != nil {
		return out, fmt.Errorf("status %d: %w", res.StatusCode, err)
	}
	return out, nil
}

// read takes only what the accounts service alone can have said for an outcome:
// a proxy's 404 must not decline a payment.
func (o *Outcome[T]) read(status int, answer []byte) error {
	switch status {
	case http.StatusOK, http.StatusCreated:
		made := new(T)
		if err := json.Unmarshal(answer, made); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		o.Made = made
		return nil
	case http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity:
		var no struct{ Error, Code string }
		if err := json.Unmarshal(answer, &no); err != nil {
			return fmt.Errorf("read the refusal: %w", err)
		}
		switch no.Code {
		case "", service.CodeUnknownPath:
			return errNoOutcome
		case service.CodeKeyConflict:
			// Under this key something else was done already: to call it refused would
			// be to say that nothing was.
			return errAnotherOrder
		}
		o.Refused = &service.Refusal{Status: status, Code: no.Code, Text: no.Error}
		return nil
	}
	return errNoOutcome
}
