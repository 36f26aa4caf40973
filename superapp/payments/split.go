package payments

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/superapp/service"
)

// maxPayers bounds one bill.
const maxPayers = 50

// splitBody is the body of POST /splits.
type splitBody struct {
	Payee        int64   `json:"payee"`
	Payers       []int64 `json:"payers"`
	Total        int64   `json:"total"`
	Currency     string  `json:"currency"`
	Note         string  `json:"note"`
	IncludePayee bool    `json:"include_payee"`
}

// people is how many bear the bill.
func (s splitBody) people() int {
	if s.IncludePayee {
		return len(s.Payers) + 1
	}
	return len(s.Payers)
}

func (s splitBody) check() error {
	if len(s.Payers) < 1 || len(s.Payers) > maxPayers {
		return invalid("invalid_payers", fmt.Sprintf("a bill is split among 1 to %d payers", maxPayers))
	}
	for i, payer := range s.Payers {
		if err := check(payer, s.Payee, s.Total, s.Currency, s.Note); err != nil {
			return err
		}
		if slices.Contains(s.Payers[:i], payer) {
			return invalid("invalid_payers", fmt.Sprintf("account %d is among the payers twice", payer))
		}
	}
	if s.Total < int64(s.people()) {
		return invalid("invalid_amount", fmt.Sprintf("the total is too small to be split among %d", s.people()))
	}
	return nil
}

// shares divides a total among a number of people. No two shares differ by more
// than one minor unit, and they add up. Who bears what is left over goes round
// with the split's id: of as many splits in a row as there are people, each bears
// one unit more equally often.
func shares(total int64, people int, id int64) []int64 {
	n := int64(people)
	all := make([]int64, people)
	for i := range all {
		all[i] = total / n
		if behind := (int64(i) - id%n + n) % n; behind < total%n {
			all[i]++
		}
	}
	return all
}

const (
	// nextSplit is asked for first: the shares follow from the id.
	nextSplit = "SELECT nextval(pg_get_serial_sequence('splits', 'id'))"

	insertSplit = `
WITH s AS (
    INSERT INTO splits (id, key, payee, total, payee_share, currency, note, instance) VALUES ($3, $1, $4, $5, $6, $7, $8, $9) RETURNING id
), r AS (
    INSERT INTO requests (key, payee, payer, amount, currency, note, state, instance, split)
    SELECT '` + splitKey + `' || s.id || ':' || share.n, $4, share.payer, share.amount, $7, $8, '` + Open + `', $9, s.id
    FROM s, unnest($10::bigint[], $11::bigint[]) WITH ORDINALITY share (payer, amount, n) ORDER BY share.n
    RETURNING id, payer, amount
)
INSERT INTO idempotency (key, request_hash, status, answer)
SELECT $1, $2, 201, jsonb_build_object('id', $3::bigint, 'total', $5::bigint, 'payee_share', $6::bigint,
    'shares', (SELECT jsonb_agg(jsonb_build_object('payer', payer, 'amount', amount, 'request', id) ORDER BY id) FROM r))
RETURNING answer::text`
)

// split asks each payer for a share of a bill.
func (b *book) split(r *http.Request) (service.Answer, error) {
	k, err := key(r)
	if err != nil {
		return service.Answer{}, err
	}
	body, err := service.Decode[splitBody](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := body.check(); err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint("POST /splits", body)
	if err != nil {
		return service.Answer{}, err
	}
	answer, err := b.insertSplit(r.Context(), k, fingerprint, body)
	if service.Duplicate(err) {
		return service.Taken(r.Context(), b.db, k, fingerprint)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("split a bill: %w", err)
	}
	return service.Answer{Status: http.StatusCreated, Body: []byte(answer)}, nil
}

func (b *book) insertSplit(ctx context.Context, key string, fingerprint []byte, s splitBody) (answer string, err error) {
	var id int64
	if err := b.db.QueryRow(ctx, nextSplit).Scan(&id); err != nil {
		return "", err
	}
	amounts := shares(s.Total, s.people(), id)
	payers, own := amounts[:len(s.Payers)], int64(0)
	if s.IncludePayee {
		own = amounts[len(s.Payers)]
	}
	err = b.db.QueryRow(ctx, insertSplit, key, fingerprint, id, s.Payee, s.Total, own, s.Currency, s.Note, b.instance, s.Payers, payers).Scan(&answer)
	return answer, err
}

// share is what one payer is asked for.
type share struct {
	Payer   int64  `json:"payer"`
	Amount  int64  `json:"amount"`
	Request int64  `json:"request"`
	State   string `json:"state"`
}

// One statement is one snapshot: the shares belong to the total.
const selectSplit = `
SELECT s.id, s.payee, s.total, s.currency, s.note, s.payee_share, s.created, r.payer, r.amount, r.id, ` + currentState + `
FROM splits s JOIN requests r ON r.split = s.id WHERE s.id = $1 ORDER BY r.id`

// getSplit shows a bill and how far it is paid.
func (b *book) getSplit(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	var s struct {
		ID         int64     `json:"id"`
		Payee      int64     `json:"payee"`
		Total      int64     `json:"total"`
		Currency   string    `json:"currency"`
		Note       string    `json:"note"`
		PayeeShare int64     `json:"payee_share"`
		Created    time.Time `json:"created"`
		Shares     []share   `json:"shares"`
	}
	rows, err := b.db.Query(r.Context(), selectSplit, id)
	if err != nil {
		return service.Answer{}, fmt.Errorf("read a split: %w", err)
	}
	var one share
	_, err = pgx.ForEachRow(rows, []any{&s.ID, &s.Payee, &s.Total, &s.Currency, &s.Note, &s.PayeeShare, &s.Created, &one.Payer, &one.Amount, &one.Request, &one.State}, func() error {
		s.Shares = append(s.Shares, one)
		return nil
	})
	if err != nil {
		return service.Answer{}, fmt.Errorf("read a split: %w", err)
	}
	if len(s.Shares) == 0 {
		return service.Answer{}, &service.Refusal{Status: http.StatusNotFound, Code: "unknown_split", Text: fmt.Sprintf("there is no split %d", id)}
	}
	s.Created = s.Created.UTC()
	return service.JSON(http.StatusOK, s)
}
