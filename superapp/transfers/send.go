package transfers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"dhow/superapp/corridors"
	"dhow/superapp/service"
)

const (
	// maxName and maxPurpose are in characters.
	maxName, maxPurpose = 100, 140
	// maxFields is more than any country asks for.
	maxFields = 10
	// defaultSends and maxSends bound a list.
	defaultSends, maxSends = 20, 100
)

// sendBody is the body of POST /sends.
type sendBody struct {
	Quote       string      `json:"quote"`
	Beneficiary beneficiary `json:"beneficiary"`
	Purpose     string      `json:"purpose"`
}

// beneficiary is who receives the money, and where.
type beneficiary struct {
	Name   string            `json:"name"`
	Fields map[string]string `json:"fields"`
}

// view is a send as it is told. It shows no account of the beneficiary's.
type view struct {
	ID              int64      `json:"id"`
	State           string     `json:"state"`
	Quote           string     `json:"quote"`
	Account         int64      `json:"account"`
	Country         string     `json:"country"`
	SendAmount      int64      `json:"send_amount"`
	Fee             int64      `json:"fee"`
	Total           int64      `json:"total"`
	Currency        string     `json:"currency"`
	ReceiveAmount   int64      `json:"receive_amount"`
	ReceiveCurrency string     `json:"receive_currency"`
	Rate            string     `json:"rate"`
	Provider        string     `json:"provider"`
	Hold            int64      `json:"hold,omitempty"`
	Capture         *int64     `json:"capture,omitempty"`
	Refund          *int64     `json:"refund,omitempty"`
	Beneficiary     string     `json:"beneficiary"`
	Purpose         string     `json:"purpose"`
	Created         *time.Time `json:"created,omitempty"`
	Updated         *time.Time `json:"updated,omitempty"`
}

// view is the answer to who asks for a send: what is known when it is made.
func (s send) view() view {
	return view{
		ID: s.id, State: s.state, Quote: s.quote, Account: s.account, Country: s.country, SendAmount: s.sendAmount, Fee: s.fee, Total: s.total, Currency: s.currency,
		ReceiveAmount: s.receiveAmount, ReceiveCurrency: s.receiveCurrency, Rate: s.rate, Provider: s.provider, Hold: s.held, Beneficiary: s.name, Purpose: s.purpose,
	}
}

// now is the send with what has become of it.
func (s send) now() view {
	v := s.view()
	v.Capture, v.Refund, v.Created, v.Updated = s.captured, s.refunded, &s.created, &s.updated
	return v
}

// plain says whether a text has 1 to most characters, none of them control characters.
func plain(text string, most int) bool {
	n := utf8.RuneCountInString(text)
	return n >= 1 && n <= most && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl) && strings.TrimSpace(text) != ""
}

// check finds what is wrong with a send's words; the fields of the account are the corridor's to check.
func (b sendBody) check() error {
	switch {
	case !plain(b.Beneficiary.Name, maxName):
		return invalid("invalid_beneficiary", fmt.Sprintf("name: the beneficiary's name must have 1 to %d characters, no control characters", maxName))
	case len(b.Beneficiary.Fields) > maxFields:
		return invalid("invalid_beneficiary", fmt.Sprintf("fields: there are more than %d", maxFields))
	case !plain(b.Purpose, maxPurpose):
		return invalid("invalid_purpose", fmt.Sprintf("purpose must have 1 to %d characters, no control characters: say what the money is for", maxPurpose))
	}
	return nil
}

// insertSend reserves the key and writes the send, or does nothing when the key is
// taken. A quote that was used makes it fail, whole.
const insertSend = `
WITH k AS (
    INSERT INTO idempotency (key, request_hash, status, answer) VALUES ($1, $2, $3, '{}')
    ON CONFLICT (key) DO NOTHING RETURNING key
)
INSERT INTO sends (key, quote, account, country, send_amount, fee, total, currency, receive_amount, receive_currency, rate, provider, beneficiary, purpose, state, instance, due)
SELECT key, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::jsonb, $16, '` + Created + `', $17, clock_timestamp() + $18::interval FROM k
RETURNING ` + columns

// postSend sends money at a quote.
func (d *desk) postSend(r *http.Request) (service.Answer, error) {
	key, err := service.Key(r)
	if err != nil {
		return service.Answer{}, err
	}
	body, err := service.Decode[sendBody](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := body.check(); err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint("POST /sends", body)
	if err != nil {
		return service.Answer{}, err
	}
	ctx := r.Context()
	_, q, err := d.findQuote(ctx, body.Quote)
	if err != nil {
		return d.withoutQuote(ctx, key, fingerprint, err)
	}
	c, err := d.corridor(q.Country)
	if err != nil {
		return service.Answer{}, err
	}
	if body.Beneficiary.Fields, err = c.Check(body.Beneficiary.Fields); err != nil {
		var wrong *corridors.Invalid
		if errors.As(err, &wrong) {
			err = invalid("invalid_beneficiary", wrong.Error())
		}
		return service.Answer{}, err
	}
	who, err := json.Marshal(body.Beneficiary)
	if err != nil {
		return service.Answer{}, fmt.Errorf("write a beneficiary: %w", err)
	}
	var s send
	err = s.scan(d.db.QueryRow(ctx, insertSend, key, fingerprint, service.InProgress, q.ID, q.Account, q.Country, q.SendAmount, q.Fee, q.Total, q.SendCurrency,
		q.ReceiveAmount, q.ReceiveCurrency, q.Rate, q.Provider, string(who), body.Purpose, d.instance, requestsOwn))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return d.again(ctx, key, fingerprint)
	case service.Duplicate(err):
		return d.refuse(ctx, key, fingerprint, &service.Refusal{Status: http.StatusConflict, Code: "quote_used", Text: "a send was made at this quote already: ask for a new one"})
	case err != nil:
		return service.Answer{}, fmt.Errorf("write a send: %w", err)
	}
	d.moves.WithLabelValues(Created).Inc()
	return d.finish(ctx, s)
}

// withoutQuote answers a request whose quote can not be read: perhaps it was
// answered while the quote held.
func (d *desk) withoutQuote(ctx context.Context, key string, fingerprint []byte, cause error) (service.Answer, error) {
	_, taken, err := service.Lookup(ctx, d.db, key)
	var refusal *service.Refusal
	switch {
	case err != nil:
		return service.Answer{}, errors.Join(cause, err)
	case taken:
		return d.again(ctx, key, fingerprint)
	case errors.As(cause, &refusal):
		return d.refuse(ctx, key, fingerprint, refusal)
	}
	return service.Answer{}, cause
}

const storeRefusal = "INSERT INTO idempotency (key, request_hash, status, answer) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING RETURNING answer::text"

// refuse stores a refusal under its key, so that the same request gets it again.
func (d *desk) refuse(ctx context.Context, key string, fingerprint []byte, refusal *service.Refusal) (service.Answer, error) {
	var answer string
	err := d.db.QueryRow(ctx, storeRefusal, key, fingerprint, refusal.Status, string(refusal.Body())).Scan(&answer)
	if errors.Is(err, pgx.ErrNoRows) {
		return d.again(ctx, key, fingerprint)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("store a refusal: %w", err)
	}
	return service.Answer{Status: refusal.Status, Body: []byte(answer)}, nil
}

// errVanished says that a row which was just there is gone: somebody deleted it.
var errVanished = errors.New("the row is gone: was it deleted by hand?")

// again answers a request whose key is taken: with the stored answer, or by making
// the send that was left without one.
func (d *desk) again(ctx context.Context, key string, fingerprint []byte) (service.Answer, error) {
	stored, found, err := service.Lookup(ctx, d.db, key)
	if err == nil && !found {
		err = errVanished
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("look up the key of a send again: %w", err)
	}
	if err := stored.Check(fingerprint); err != nil {
		return service.Answer{}, err
	}
	if stored.Status != service.InProgress {
		return stored.Replay(), nil
	}
	var s send
	if err := s.scan(d.db.QueryRow(ctx, sendByKey, key)); err != nil {
		return service.Answer{}, fmt.Errorf("read the send of a key: %w", err)
	}
	return d.finish(ctx, s)
}

// finish holds a new send's money, and gives the answer that stands under its key. It
// goes on when the client has left: what has begun is better ended now than later.
func (d *desk) finish(ctx context.Context, s send) (service.Answer, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	if s.state == Created {
		_, answer, err := d.advance(ctx, s)
		if err != nil {
			return service.Answer{}, err
		}
		if answer != nil {
			return *answer, nil
		}
	}
	stored, found, err := service.Lookup(ctx, d.db, s.key)
	if err == nil && !found {
		err = errVanished
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("read the answer to a send: %w", err)
	}
	// The worker was quicker; to this client the answer is new all the same.
	return service.Answer{Status: stored.Status, Body: stored.Answer}, nil
}

// getSend shows one send.
func (d *desk) getSend(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	s, err := d.byID(r.Context(), id)
	if err != nil {
		return service.Answer{}, err
	}
	return service.JSON(http.StatusOK, s.now())
}

const sendsByAccount = "SELECT " + columns + " FROM sends WHERE account = $1 ORDER BY id DESC LIMIT $2"

// listSends shows an account's sends, the newest first.
func (d *desk) listSends(r *http.Request) (service.Answer, error) {
	account, err := service.QueryInt(r, "account", 0, 1, 1<<62)
	if err != nil {
		return service.Answer{}, err
	}
	if account == 0 {
		return service.Answer{}, &service.Refusal{Status: http.StatusBadRequest, Code: service.CodeInvalidRequest, Text: "the parameter account is missing: whose sends?"}
	}
	limit, err := service.QueryInt(r, "limit", defaultSends, 1, maxSends)
	if err != nil {
		return service.Answer{}, err
	}
	rows, err := d.db.Query(r.Context(), sendsByAccount, account, limit)
	if err != nil {
		return service.Answer{}, fmt.Errorf("list sends: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (view, error) {
		var s send
		err := s.scan(row)
		return s.now(), err
	})
	if err != nil {
		return service.Answer{}, fmt.Errorf("list sends: %w", err)
	}
	return service.JSON(http.StatusOK, struct {
		Sends []view `json:"sends"`
	}{append([]view{}, list...)})
}

// writeCancelled notes that a send's hold is released, and the answer to who asked for it.
const writeCancelled = `
WITH s AS (
    UPDATE sends SET state = '` + Cancelled + `', due = NULL, updated = clock_timestamp() WHERE id = $1 AND state IN ('` + Held + `', '` + Cancelled + `') RETURNING id, state
)
INSERT INTO idempotency (key, request_hash, status, answer)
SELECT $2, $3, 200, jsonb_build_object('id', id, 'state', state) FROM s
ON CONFLICT (key) DO NOTHING
RETURNING answer::text`

// cancel gives a send up that has not gone to its provider. Of one that was
// cancelled it says so again.
func (d *desk) cancel(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	key, err := service.Key(r)
	if err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint(fmt.Sprintf("POST /sends/%d/cancel", id), nil)
	if err != nil {
		return service.Answer{}, err
	}
	ctx := r.Context()
	if _, taken, err := service.Lookup(ctx, d.db, key); err != nil || taken {
		if err != nil {
			return service.Answer{}, err
		}
		return service.Taken(ctx, d.db, key, fingerprint)
	}
	s, err := d.byID(ctx, id)
	if err == nil && s.state == Created {
		s, _, err = d.advance(ctx, s)
	}
	if err != nil {
		return service.Answer{}, err
	}
	if s.state == Held {
		out, err := d.accounts.Release(ctx, s.stepKey("release"), s.held)
		if err != nil {
			return service.Answer{}, err
		}
		if out.Made != nil {
			s.state = Cancelled
			d.moves.WithLabelValues(Cancelled).Inc()
		}
	}
	if s.state != Cancelled {
		return service.Answer{}, &service.Refusal{Status: http.StatusConflict, Code: "send_closed", Text: fmt.Sprintf("send %d can not be cancelled any more: it has gone to its provider, or has ended", id)}
	}
	var answer string
	err = d.db.QueryRow(ctx, writeCancelled, id, key, fingerprint).Scan(&answer)
	if errors.Is(err, pgx.ErrNoRows) {
		return service.Taken(ctx, d.db, key, fingerprint)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("write down that a send is cancelled: %w", err)
	}
	return service.Answer{Status: http.StatusOK, Body: []byte(answer)}, nil
}
