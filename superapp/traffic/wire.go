package traffic

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"dhow/superapp/history"
)

// statementLimit is how many entries a statement asks for.
const statementLimit = 20

func number(n int64) string { return strconv.FormatInt(n, 10) }

// http is the operation as an HTTP request.
func (o operation) http() (method, path string, body []byte, err error) {
	type m = map[string]any
	var v m
	switch o.op {
	case history.Pay:
		path, v = "/payments", m{"from": o.from, "to": o.to, "amount": o.amount, "currency": o.currency, "note": "traffic"}
	case history.Transfer:
		path, v = "/transfers", m{"from": o.from, "to": o.to, "amount": o.amount, "currency": o.currency, "reference": o.key}
	case history.Request:
		path, v = "/requests", m{"payee": o.to, "payer": o.from, "amount": o.amount, "currency": o.currency, "note": "traffic"}
	case history.Accept:
		path, v = "/requests/"+number(o.request)+"/accept", m{}
	case history.Split:
		path, v = "/splits", m{"payee": o.to, "payers": o.payers, "total": o.amount, "currency": o.currency, "note": "traffic", "include_payee": o.included}
	case history.Quote:
		path, v = "/quotes", m{"account": o.account, "country": o.corridor.Country, "currency": o.other, "amount": o.amount, "fix": "send"}
	case history.Send:
		path, v = "/sends", m{"quote": o.quote, "beneficiary": o.corridor.beneficiary(), "purpose": "family support"}
	case history.Card:
		path, v = "/cards", m{"customer": o.customer, "account": o.from}
	case history.Authorise:
		path, v = "/cards/"+number(o.card)+"/authorisations", m{"amount": o.amount, "currency": o.currency, "merchant": o.merchant[0], "category": o.merchant[1]}
	case history.Capture:
		path, v = "/authorisations/"+number(o.authorisation)+"/capture", m{"amount": o.amount}
	case history.Reverse:
		path, v = "/authorisations/"+number(o.authorisation)+"/reverse", m{}
	case history.Refund:
		path, v = "/authorisations/"+number(o.authorisation)+"/refund", m{"amount": o.amount}
	default:
		path, err = o.get()
		return http.MethodGet, path, nil, err
	}
	body, err = json.Marshal(v)
	return http.MethodPost, path, body, err
}

// get is the path of a read.
func (o operation) get() (string, error) {
	switch o.op {
	case history.Read:
		return "/accounts/" + number(o.account), nil
	case history.Statement:
		return "/accounts/" + number(o.account) + "/entries?limit=" + strconv.Itoa(statementLimit), nil
	case history.Insights:
		return "/insights/" + number(o.account), nil
	case history.Rates:
		if o.other == o.currency {
			return "/rates", nil
		}
		return "/rates/" + o.currency + "/" + o.other, nil
	case history.Corridor:
		return "/corridors/" + url.PathEscape(o.corridor.Country), nil
	}
	return "", fmt.Errorf("no such operation: %q", o.op)
}

// then is what follows from an operation that was acknowledged.
func (o operation) then(rec *history.Record, body []byte) []operation {
	next := operation{from: o.from, to: o.to, amount: o.amount, currency: o.currency, card: o.card, authorisation: rec.Authorisation}
	switch o.op {
	case history.Request:
		next.op, next.key, next.request = history.Accept, o.key+"-accept", rec.ID
	case history.Split:
		return o.accepts(body)
	case history.Quote:
		next.op, next.key, next.quote, next.corridor, next.from, next.amount = history.Send, o.key+"-send", rec.Quote, o.corridor, o.account, rec.Amount
	case history.Authorise:
		next.authorisation, next.amount, next.refunded = rec.ID, o.captured, o.refunded
		next.op, next.key = history.Capture, o.key+"-capture"
		if o.captured == 0 {
			next.op, next.key, next.amount = history.Reverse, o.key+"-reverse", o.amount
		}
	case history.Capture:
		if o.refunded == 0 {
			return nil
		}
		next.op, next.key, next.amount = history.Refund, o.key+"-refund", o.refunded
	default:
		return nil
	}
	return []operation{next}
}

// shared is the answer to a split.
type shared struct {
	ID     int64 `json:"id"`
	Total  int64 `json:"total"`
	Payee  int64 `json:"payee_share"`
	Shares []struct {
		Payer   int64 `json:"payer"`
		Amount  int64 `json:"amount"`
		Request int64 `json:"request"`
	} `json:"shares"`
}

// accepts are the acceptances of a split's shares, each by its payer.
func (o operation) accepts(body []byte) []operation {
	var got shared
	if json.Unmarshal(body, &got) != nil { // it was understood before
		return nil
	}
	var list []operation
	for i, s := range got.Shares {
		list = append(list, operation{op: history.Accept, key: o.key + "-accept-" + strconv.Itoa(i), from: s.Payer, to: o.to,
			amount: s.Amount, currency: o.currency, request: s.Request})
	}
	return list
}

// understand takes from the answer what the checker compares with the databases.
// An answer that lacks it acknowledges nothing.
func understand(rec *history.Record, body []byte) error {
	switch rec.Op {
	case history.Statement:
		return understandStatement(rec, body)
	case history.Split:
		return understandSplit(rec, body)
	case history.Quote:
		return understandQuote(rec, body)
	case history.Insights:
		return understandList(body, "months")
	case history.Rates:
		return understandList(body, "rates", "mid")
	case history.Corridor:
		return understandList(body, "fields")
	}
	var got made
	if err := read(body, &got); err != nil {
		return err
	}
	if got.ID <= 0 {
		return errors.New("the answer has no id")
	}
	rec.ID = got.ID
	if err := got.check(rec); err != nil {
		return err
	}
	if rec.Op.Write() {
		rec.Version, rec.ToVersion, rec.Balance = got.FromVersion, got.ToVersion, got.FromBalance
	}
	return nil
}

func read(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer is not understood: %w", err)
	}
	return nil
}

// made is the answer to a write, or an account.
type made struct {
	ID          int64  `json:"id"`
	State       string `json:"state"`
	Account     int64  `json:"account"`
	Payment     int64  `json:"payment"`
	Movement    int64  `json:"movement"`
	Transfer    int64  `json:"transfer"`
	Hold        int64  `json:"hold"`
	Total       int64  `json:"total"`
	Balance     int64  `json:"balance"`
	Version     *int64 `json:"version"`
	FromBalance int64  `json:"from_balance"`
	FromVersion int64  `json:"from_version"`
	ToVersion   int64  `json:"to_version"`
}

// states are those in which an answer acknowledges an operation.
var states = map[history.Op]string{history.Request: "open", history.Pay: "completed", history.Accept: "accepted", history.Send: "held",
	history.Card: "active", history.Authorise: "authorised", history.Capture: "captured", history.Reverse: "reversed", history.Refund: "captured"}

// check says what the answer lacks, and takes from it what is the operation's own.
func (got *made) check(rec *history.Record) error {
	if want := states[rec.Op]; want != "" && got.State != want {
		return fmt.Errorf("the state is %q, not %s", clip(got.State), want)
	}
	rec.Transfer = got.Transfer
	switch rec.Op {
	case history.Read:
		if got.ID != rec.Account || got.Version == nil {
			return fmt.Errorf("the answer is not account %d with its version", rec.Account)
		}
		rec.Version, rec.Balance = *got.Version, got.Balance
	case history.Transfer:
		if got.FromVersion <= 0 || got.ToVersion <= 0 {
			return errors.New("the transfer's answer lacks the accounts' versions")
		}
		rec.Transfer = got.ID
	case history.Accept: // its answer is the request, which names the payment
		if got.ID != rec.Request {
			return fmt.Errorf("the answer is of request %d", got.ID)
		}
		rec.ID = got.Payment
		return got.moved(rec)
	case history.Pay, history.Authorise:
		return got.moved(rec)
	case history.Send:
		if got.Hold <= 0 || got.Account != rec.From || got.Total != rec.Amount {
			return errors.New("the send's answer lacks its hold, or is of another account or total")
		}
		rec.Hold = got.Hold
	case history.Card:
		if got.Account != rec.From {
			return fmt.Errorf("the card is of account %d", got.Account)
		}
	case history.Capture, history.Reverse, history.Refund:
		if got.ID != rec.Authorisation || got.Movement <= 0 || got.Transfer <= 0 {
			return errors.New("the answer lacks its movement or transfer, or is of another authorisation")
		}
		rec.ID = got.Movement
	}
	return nil
}

// moved is what an answer shows of the money that left the payer.
func (got *made) moved(rec *history.Record) error {
	if got.FromVersion <= 0 || got.Transfer <= 0 || rec.ID <= 0 {
		return errors.New("the answer lacks its id, its transfer or the payer's version")
	}
	return nil
}

// understandSplit takes the split's id, and looks that its shares add up.
func understandSplit(rec *history.Record, body []byte) error {
	var got shared
	if err := read(body, &got); err != nil {
		return err
	}
	sum := got.Payee
	for _, s := range got.Shares {
		if s.Request <= 0 || s.Amount <= 0 {
			return errors.New("a share lacks its request or its amount")
		}
		sum += s.Amount
	}
	if got.ID <= 0 || len(got.Shares) != rec.Shares || got.Total != rec.Amount || sum != rec.Amount {
		return errors.New("the split has no id, or its shares are not those that were asked for")
	}
	rec.ID = got.ID
	return nil
}

// understandQuote takes the quote and what it costs in all.
func understandQuote(rec *history.Record, body []byte) error {
	var got struct {
		ID      string `json:"id"`
		Account int64  `json:"account"`
		Total   int64  `json:"total"`
	}
	if err := read(body, &got); err != nil {
		return err
	}
	if got.ID == "" || got.Account != rec.Account || got.Total <= 0 {
		return errors.New("the quote lacks its id, its account or its total")
	}
	rec.Quote, rec.Amount = got.ID, got.Total
	return nil
}

// understandList looks that the answer has one of some fields.
func understandList(body []byte, fields ...string) error {
	var got map[string]json.RawMessage
	if err := read(body, &got); err != nil {
		return err
	}
	for _, field := range fields {
		if len(got[field]) > 0 {
			return nil
		}
	}
	return fmt.Errorf("the answer has no %s", fields[0])
}

// understandStatement takes the newest entry: what the account was after it.
func understandStatement(rec *history.Record, body []byte) error {
	var got struct {
		Version *int64 `json:"version"`
		Entries *[]struct {
			Version int64 `json:"version"`
			Balance int64 `json:"balance"`
		} `json:"entries"`
	}
	if err := read(body, &got); err != nil {
		return err
	}
	if got.Entries == nil {
		return errors.New("the answer has no entries")
	}
	list := *got.Entries
	for i, e := range list {
		if e.Version <= 0 || i > 0 && e.Version != list[i-1].Version-1 {
			return errors.New("the statement's entries do not follow one another")
		}
	}
	if len(list) > 0 {
		rec.Version, rec.Balance = list[0].Version, list[0].Balance
	}
	if got.Version != nil && *got.Version != rec.Version {
		return fmt.Errorf("the statement is of version %d and its newest entry of %d", *got.Version, rec.Version)
	}
	return nil
}
