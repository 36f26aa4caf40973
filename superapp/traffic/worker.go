package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"dhow/superapp/history"
)

const (
	// statementLimit is how many entries a statement asks for.
	statementLimit = 20
	// maxText bounds a text of an answer or an error in the history, in bytes.
	maxText = 200
)

// refusals are the codes that the application may rightly refuse with, given
// that the plan asks only for what is otherwise allowed.
var refusals = map[string]bool{"insufficient_funds": true}

// worker does one operation after the other over its connection.
type worker struct {
	*runner
	number int
	client *client
}

// work does what is queued until the queue is closed and empty.
func (w *worker) work(ctx context.Context) {
	for op := range w.queue {
		switch {
		case ctx.Err() != nil:
			w.late(w.number, op, "the run ended before a connection was free")
		case w.clock.now()-op.due > int64(w.cfg.Timeout):
			w.late(w.number, op, "no connection was free in time")
		default:
			rec := w.do(ctx, op)
			if rec.Op == history.Request && rec.Outcome == history.Acknowledged && ctx.Err() == nil {
				w.do(ctx, operation{op: history.Accept, key: op.key + "-accept", due: rec.Done, from: op.from, to: op.to,
					amount: op.amount, currency: op.currency, request: rec.ID})
			}
		}
	}
}

// do does one operation and writes it down.
func (w *worker) do(ctx context.Context, op operation) history.Record {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	method, path, body, err := op.http()
	var a answer
	if err != nil {
		now := w.clock.now()
		a = answer{sent: now, done: now, err: err, unsent: true}
	} else {
		a = w.client.exchange(ctx, method, path, op.key, body)
	}
	rec := op.record(w.number)
	judge(&rec, a)
	w.end(&rec)
	return rec
}

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
		path, v = "/requests/"+strconv.FormatInt(o.request, 10)+"/accept", m{}
	case history.Read:
		return http.MethodGet, "/accounts/" + strconv.FormatInt(o.account, 10), nil, nil
	case history.Statement:
		return http.MethodGet, "/accounts/" + strconv.FormatInt(o.account, 10) + "/entries?limit=" + strconv.Itoa(statementLimit), nil, nil
	default:
		return "", "", nil, fmt.Errorf("no such operation: %q", o.op)
	}
	body, err = json.Marshal(v)
	return http.MethodPost, path, body, err
}

// judge says in the record what the answer means.
func judge(rec *history.Record, a answer) {
	rec.Sent, rec.Done, rec.Status, rec.Replayed = a.sent, a.done, a.status, a.replayed
	switch {
	case a.err != nil:
		rec.Outcome, rec.Error = history.Unknown, clip(a.err.Error())
		if a.unsent {
			rec.Outcome = history.Failed
		}
	case a.status >= 200 && a.status < 300:
		rec.Outcome = history.Acknowledged
		if err := understand(rec, a.body); err != nil {
			rec.Outcome, rec.Error = history.Unknown, clip(err.Error())
		}
	default:
		var refusal struct {
			Code string `json:"code"`
		}
		_ = json.Unmarshal(a.body, &refusal) // a proxy's error page has no code
		rec.Code = clip(refusal.Code)
		switch {
		case a.status == http.StatusUnprocessableEntity && refusals[refusal.Code]:
			rec.Outcome = history.Refused
		case a.status >= 400 && a.status < 500 && a.status != http.StatusRequestTimeout && a.status != http.StatusTooManyRequests:
			rec.Outcome = history.Failed
		default:
			rec.Outcome = history.Unknown
		}
	}
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }

// understand takes from the answer what the checker compares with the ledger. An
// answer that lacks it acknowledges nothing.
func understand(rec *history.Record, body []byte) error {
	if rec.Op == history.Statement {
		return understandStatement(rec, body)
	}
	var got struct {
		ID          int64  `json:"id"`
		State       string `json:"state"`
		Payment     int64  `json:"payment"`
		Transfer    int64  `json:"transfer"`
		Balance     int64  `json:"balance"`
		Version     *int64 `json:"version"`
		FromBalance int64  `json:"from_balance"`
		FromVersion int64  `json:"from_version"`
		ToVersion   int64  `json:"to_version"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return fmt.Errorf("the answer is not understood: %w", err)
	}
	if got.ID <= 0 {
		return errors.New("the answer has no id")
	}
	rec.ID = got.ID
	switch rec.Op {
	case history.Read:
		if got.ID != rec.Account || got.Version == nil {
			return fmt.Errorf("the answer is not account %d with its version", rec.Account)
		}
		rec.Version, rec.Balance = *got.Version, got.Balance
	case history.Request:
		if got.State != "open" {
			return fmt.Errorf("the request's state is %q", clip(got.State))
		}
	case history.Transfer:
		if got.FromVersion <= 0 || got.ToVersion <= 0 {
			return errors.New("the transfer's answer lacks the accounts' versions")
		}
		rec.Transfer = got.ID
	case history.Pay, history.Accept:
		ended := "completed"
		if rec.Op == history.Accept { // its answer is the request, which names the payment
			ended, rec.ID = "accepted", got.Payment
			if got.ID != rec.Request {
				return fmt.Errorf("the answer is of request %d", got.ID)
			}
		}
		if got.State != ended {
			return fmt.Errorf("the state is %q, not %s", clip(got.State), ended)
		}
		if got.FromVersion <= 0 || got.Transfer <= 0 || rec.ID <= 0 {
			return errors.New("the answer lacks its payment, its transfer or the payer's version")
		}
		rec.Transfer = got.Transfer
	}
	if rec.Op.Write() {
		rec.Version, rec.ToVersion, rec.Balance = got.FromVersion, got.ToVersion, got.FromBalance
	}
	return nil
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
	if err := json.Unmarshal(body, &got); err != nil {
		return fmt.Errorf("the answer is not understood: %w", err)
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
