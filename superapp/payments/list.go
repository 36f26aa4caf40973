package payments

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/superapp/service"
)

const (
	// defaultListed and maxListed bound a list.
	defaultListed = 20
	maxListed     = 200
)

// shownPayment is a payment as it is read.
type shownPayment struct {
	ID       int64     `json:"id"`
	From     int64     `json:"from"`
	To       int64     `json:"to"`
	Amount   int64     `json:"amount"`
	Currency string    `json:"currency"`
	Note     string    `json:"note"`
	State    string    `json:"state"`
	Transfer *int64    `json:"transfer,omitempty"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

// shownRequest is a request as it is read.
type shownRequest struct {
	ID       int64     `json:"id"`
	Payee    int64     `json:"payee"`
	Payer    int64     `json:"payer"`
	Amount   int64     `json:"amount"`
	Currency string    `json:"currency"`
	Note     string    `json:"note"`
	State    string    `json:"state"`
	Payment  *int64    `json:"payment,omitempty"`
	Split    *int64    `json:"split,omitempty"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	Expires  time.Time `json:"expires"`
}

const (
	selectPayment  = "SELECT id, payer, payee, amount, currency, note, state, transfer, created, updated FROM payments"
	selectPayments = selectPayment + ` WHERE id IN (
    (SELECT id FROM payments WHERE payer = $1 ORDER BY id DESC LIMIT $2) UNION ALL (SELECT id FROM payments WHERE payee = $1 ORDER BY id DESC LIMIT $2)
) ORDER BY id DESC LIMIT $2`

	// currentState is a request's state now: one may be over before the worker has closed it.
	currentState = "CASE WHEN state = '" + Open + "' AND payment IS NULL AND expires <= clock_timestamp() THEN '" + Expired + "' ELSE state END"

	selectRequest = "SELECT id, payee, payer, amount, currency, note, " + currentState + ", payment, split, created, updated, expires FROM requests"
	// Of these two one is asked, by whose requests are wanted.
	requestsOfPayer = selectRequest + " WHERE payer = $1" + requestsInState
	requestsOfPayee = selectRequest + " WHERE payee = $1" + requestsInState
	requestsInState = " AND ($2 = '' OR " + currentState + " = $2) ORDER BY id DESC LIMIT $3"
)

// payment shows one payment.
func (b *book) payment(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	rows, _ := b.db.Query(r.Context(), selectPayment+" WHERE id = $1", id) // the error comes with the rows
	p, err := pgx.CollectExactlyOneRow(rows, readPayment)
	if errors.Is(err, pgx.ErrNoRows) {
		return service.Answer{}, &service.Refusal{Status: http.StatusNotFound, Code: "unknown_payment", Text: fmt.Sprintf("there is no payment %d", id)}
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("read a payment: %w", err)
	}
	return service.JSON(http.StatusOK, p)
}

func readPayment(row pgx.CollectableRow) (shownPayment, error) {
	p, err := pgx.RowToStructByPos[shownPayment](row)
	p.Created, p.Updated = p.Created.UTC(), p.Updated.UTC()
	return p, err
}

// request shows one request.
func (b *book) request(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	rows, _ := b.db.Query(r.Context(), selectRequest+" WHERE id = $1", id) // the error comes with the rows
	q, err := pgx.CollectExactlyOneRow(rows, readRequest)
	if errors.Is(err, pgx.ErrNoRows) {
		return service.Answer{}, unknownRequest(id)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("read a request: %w", err)
	}
	return service.JSON(http.StatusOK, q)
}

func readRequest(row pgx.CollectableRow) (shownRequest, error) {
	q, err := pgx.RowToStructByPos[shownRequest](row)
	q.Created, q.Updated, q.Expires = q.Created.UTC(), q.Updated.UTC(), q.Expires.UTC()
	return q, err
}

// listPayments shows what an account has paid and was paid, newest first.
func (b *book) listPayments(r *http.Request) (service.Answer, error) {
	account, limit, err := listed(r, "account")
	if err != nil {
		return service.Answer{}, err
	}
	rows, _ := b.db.Query(r.Context(), selectPayments, account, limit) // the error comes with the rows
	all, err := pgx.CollectRows(rows, readPayment)
	if err != nil {
		return service.Answer{}, fmt.Errorf("list payments: %w", err)
	}
	return service.JSON(http.StatusOK, struct {
		Payments []shownPayment `json:"payments"`
	}{all})
}

// listRequests shows what an account shall pay (payer) or has asked for (payee), newest first.
func (b *book) listRequests(r *http.Request) (service.Answer, error) {
	q := r.URL.Query()
	side, sql := "payer", requestsOfPayer
	if q.Has("payee") {
		side, sql = "payee", requestsOfPayee
	}
	if q.Has("payee") == q.Has("payer") {
		return service.Answer{}, badParameter("give one of the parameters payer and payee")
	}
	account, limit, err := listed(r, side)
	if err != nil {
		return service.Answer{}, err
	}
	state := q.Get("state")
	if states := []string{Open, Accepted, Declined, Expired}; state != "" && !slices.Contains(states, state) {
		return service.Answer{}, badParameter("the parameter state must be one of " + strings.Join(states, ", "))
	}
	rows, _ := b.db.Query(r.Context(), sql, account, state, limit) // the error comes with the rows
	all, err := pgx.CollectRows(rows, readRequest)
	if err != nil {
		return service.Answer{}, fmt.Errorf("list requests: %w", err)
	}
	return service.JSON(http.StatusOK, struct {
		Requests []shownRequest `json:"requests"`
	}{all})
}

// listed are the parameters of a list: an account, which must be given, and how many at most.
func listed(r *http.Request, name string) (account, limit int64, err error) {
	if account, err = service.QueryInt(r, name, 0, 1, math.MaxInt64); err != nil {
		return 0, 0, err
	}
	if account == 0 {
		return 0, 0, badParameter("give the parameter " + name + ", an account")
	}
	limit, err = service.QueryInt(r, "limit", defaultListed, 1, maxListed)
	return account, limit, err
}

func badParameter(text string) error {
	return &service.Refusal{Status: http.StatusBadRequest, Code: service.CodeInvalidRequest, Text: text}
}
