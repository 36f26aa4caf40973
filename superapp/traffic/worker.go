package traffic

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"dhow/superapp/history"
)

// maxText bounds a text of an answer or an error in the history, in bytes.
const maxText = 200

// refusals are the codes that the application may rightly refuse with, and their
// statuses, given that the plan asks only for what is otherwise allowed.
var refusals = map[string]int{
	"insufficient_funds": http.StatusUnprocessableEntity,
	"limit_exceeded":     http.StatusUnprocessableEntity, // a card's
	"request_expired":    http.StatusConflict,
}

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
			w.all(ctx, op)
		}
	}
}

// all does an operation and, once it is acknowledged, what follows from it.
func (w *worker) all(ctx context.Context, op operation) {
	rec, body := w.do(ctx, op)
	if rec.Outcome != history.Acknowledged {
		return
	}
	for _, next := range op.then(&rec, body) {
		if ctx.Err() != nil {
			return
		}
		next.due = rec.Done
		w.all(ctx, next)
	}
}

// do does one operation, writes it down and gives the answer's body.
func (w *worker) do(ctx context.Context, op operation) (history.Record, []byte) {
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
	return rec, a.body
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
		case refusals[refusal.Code] == a.status:
			rec.Outcome = history.Refused
		case a.status >= 400 && a.status < 500 && a.status != http.StatusRequestTimeout && a.status != http.StatusTooManyRequests:
			rec.Outcome = history.Failed
		default:
			rec.Outcome = history.Unknown
		}
	}
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }
