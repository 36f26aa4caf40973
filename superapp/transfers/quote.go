package transfers

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/superapp/money"
	"dhow/superapp/service"
)

const (
	// quotePrefix begins a quote's key in Redis; its id follows.
	quotePrefix = "transfers:quote:"
	// keyPrefix begins an idempotency key's; it holds the request's fingerprint and
	// the answer behind it.
	keyPrefix = "transfers:key:"
	// keyLife is for how long a repeated request gets the quote that was made for it,
	// also when that has ended. A quote moves no money: what is asked later than that
	// is a new question.
	keyLife = 2 * maxQuoteLife
	// maxQuoteID is in bytes.
	maxQuoteID = 64
)

// quoteBody is the body of POST /quotes.
type quoteBody struct {
	Account  int64  `json:"account"`
	Country  string `json:"country"`
	Currency string `json:"currency"`
	Amount   int64  `json:"amount"`
	Fix      string `json:"fix"`
}

// quote is a promise: what a send costs and brings until it expires.
type quote struct {
	ID              string    `json:"id"`
	Account         int64     `json:"account"`
	Country         string    `json:"country"`
	SendAmount      int64     `json:"send_amount"`
	SendCurrency    string    `json:"send_currency"`
	ReceiveAmount   int64     `json:"receive_amount"`
	ReceiveCurrency string    `json:"receive_currency"`
	Rate            string    `json:"rate"`
	Provider        string    `json:"provider"`
	Fee             int64     `json:"fee"`
	Total           int64     `json:"total"`
	Expires         time.Time `json:"expires"`
}

func unknownQuote() *service.Refusal {
	return &service.Refusal{Status: http.StatusNotFound, Code: "unknown_quote", Text: "there is no such quote, or its time is over: ask for a new one"}
}

// check finds what is wrong with a wish before anybody is asked.
func (d *desk) check(b quoteBody) error {
	switch {
	case b.Account < 1:
		return invalid("invalid_account", "account must be a whole number from 1")
	case b.Amount < 1 || b.Amount > money.MaxAmount:
		return invalid("invalid_amount", fmt.Sprintf("amount must be a whole number of minor units from 1 to %d", int64(money.MaxAmount)))
	case b.Fix != fixSend && b.Fix != fixReceive:
		return invalid("invalid_fix", "fix must be send or receive: which side the amount is of")
	}
	c, err := d.corridor(b.Country)
	if err != nil {
		return err
	}
	if !c.Pays(b.Currency) {
		return invalid("currency_not_paid", fmt.Sprintf("%s is paid out in %v only", c.Country, c.Currencies))
	}
	return nil
}

// postQuote makes a quote.
func (d *desk) postQuote(r *http.Request) (service.Answer, error) {
	key, err := service.Key(r)
	if err != nil {
		return service.Answer{}, err
	}
	body, err := service.Decode[quoteBody](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := d.check(body); err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint("POST /quotes", body)
	if err != nil {
		return service.Answer{}, err
	}
	ctx := r.Context()
	taken, err := d.redis.Get(ctx, keyPrefix+key).Bytes()
	if err == nil {
		return replay(taken, fingerprint)
	}
	if !errors.Is(err, redis.Nil) {
		return service.Answer{}, fmt.Errorf("look up the key of a quote: %w", err)
	}
	q, err := d.quote(ctx, body)
	if err != nil {
		return service.Answer{}, err
	}
	answer, err := service.JSON(http.StatusCreated, q)
	if err != nil {
		return service.Answer{}, err
	}
	return d.keep(ctx, key, fingerprint, q.ID, answer)
}

// quote asks who the account's money is and what providers offer for it.
func (d *desk) quote(ctx context.Context, b quoteBody) (quote, error) {
	account, err := d.accounts.Account(ctx, b.Account)
	if err != nil {
		return quote{}, err
	}
	if account.Refused != nil {
		return quote{}, account.Refused
	}
	w := wish{from: account.Made.Currency, to: b.Currency, amount: b.Amount, fix: b.Fix}
	offers, err := d.rates.Providers(ctx, w.from, w.to)
	if err != nil {
		return quote{}, err
	}
	t, err := w.best(offers)
	if err != nil {
		return quote{}, err
	}
	return quote{
		ID: rand.Text(), Account: b.Account, Country: b.Country, SendAmount: t.send, SendCurrency: w.from, ReceiveAmount: t.received, ReceiveCurrency: w.to,
		Rate: t.rate, Provider: t.provider, Fee: t.fee, Total: t.total, Expires: time.Now().Add(d.quoteLife).UTC().Truncate(time.Millisecond),
	}, nil
}

// keepQuote keeps a quote with its key, or says what the key holds already.
const keepQuote = `
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
	redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
	return false
end
return redis.call('GET', KEYS[1])`

// keep stores a quote. Of two identical requests at the same instant one stores its
// own, and the other gets that.
func (d *desk) keep(ctx context.Context, key string, fingerprint []byte, id string, answer service.Answer) (service.Answer, error) {
	taken, err := redis.NewScript(keepQuote).Run(ctx, d.redis, []string{keyPrefix + key, quotePrefix + id},
		append(bytes.Clone(fingerprint), answer.Body...), keyLife.Milliseconds(), answer.Body, d.quoteLife.Milliseconds()).Text()
	if errors.Is(err, redis.Nil) {
		d.quotes.Inc()
		return answer, nil
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("keep a quote: %w", err)
	}
	return replay([]byte(taken), fingerprint)
}

// replay answers from what a key holds.
func replay(taken, fingerprint []byte) (service.Answer, error) {
	if len(taken) < sha256.Size {
		return service.Answer{}, errors.New("the key of a quote holds something else: is this server another application's too?")
	}
	s := service.Stored{Fingerprint: taken[:sha256.Size], Status: http.StatusCreated, Answer: taken[sha256.Size:]}
	if err := s.Check(fingerprint); err != nil {
		return service.Answer{}, err
	}
	return s.Replay(), nil
}

// getQuote shows a quote while it holds.
func (d *desk) getQuote(r *http.Request) (service.Answer, error) {
	text, _, err := d.findQuote(r.Context(), r.PathValue("id"))
	return service.Answer{Status: http.StatusOK, Body: text}, err
}

// findQuote finds a quote that holds, as text and read.
func (d *desk) findQuote(ctx context.Context, id string) ([]byte, quote, error) {
	var q quote
	if id == "" || len(id) > maxQuoteID {
		return nil, q, unknownQuote()
	}
	text, err := d.redis.Get(ctx, quotePrefix+id).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, q, unknownQuote()
	}
	if err != nil {
		return nil, q, fmt.Errorf("read a quote: %w", err)
	}
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, q, fmt.Errorf("read a quote: %w", err)
	}
	if !time.Now().Before(q.Expires) { // a restored server may keep what is over
		return nil, q, unknownQuote()
	}
	return text, q, nil
}
