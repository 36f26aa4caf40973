package check

import (
	"context"
	"errors"
	"fmt"
	"io"

	"dhow/superapp/history"
)

const (
	// batch is how many operations are looked up at once, in one query a table.
	batch = 5000
	// transferKey begins the key of a payment's transfer, requestKey that of the
	// payment of a request: this is how the application derives them.
	transferKey = "payment:"
	requestKey  = "request:"
	// requestClosed is the code of a reply to a request that was replied to already.
	requestClosed = "request_closed"
)

// States of payments and requests.
const (
	pending   = "pending"
	completed = "completed"
	declined  = "declined"
	accepted  = "accepted"
)

// each reads all histories as they were at the start.
func (c *checker) each(do func(f int, line int64, r *history.Record) error) (torn int64, err error) {
	for i, f := range c.files {
		err := func() error {
			r, err := history.OpenUntil(f.path, f.size)
			if err != nil {
				return err
			}
			defer func() { _ = r.Close() }()
			for {
				rec, err := r.Next()
				if errors.Is(err, io.EOF) {
					if r.Torn() {
						torn++
					}
					return nil
				}
				if err != nil {
					return err
				}
				if err := do(i, r.Line(), &rec); err != nil {
					return err
				}
			}
		}()
		if err != nil {
			return torn, err
		}
	}
	return torn, nil
}

// writes compares every operation with what the databases hold of it.
func (c *checker) writes(ctx context.Context) error {
	r := c.report
	waiting := make([]history.Record, 0, batch)
	flush := func() error {
		f, err := c.lookUp(ctx, waiting)
		if err != nil {
			return err
		}
		for i := range waiting {
			c.judge(&waiting[i], f)
		}
		waiting = waiting[:0]
		return nil
	}
	torn, err := c.each(func(_ int, _ int64, rec *history.Record) error {
		r.Operations++
		r.Outcomes[rec.Outcome]++
		c.sightings += int64(len(seenIn(rec)))
		if rec.Replayed {
			r.ReplayedAnswers++
		}
		if err := c.covers(rec.Op); err != nil {
			return err
		}
		if rec.Op.Write() {
			if rec.Outcome == history.Acknowledged {
				r.AcknowledgedWrites++
			}
		} else if rec.Outcome != history.Acknowledged || !rec.Op.Shows() {
			return nil // what it showed has no version
		}
		waiting = append(waiting, *rec)
		if len(waiting) < batch {
			return nil
		}
		return flush()
	})
	r.TornHistories = torn
	return errors.Join(err, flush())
}

// covers says, by its error, that an operation needs a database that was not given.
func (c *checker) covers(op history.Op) error {
	switch {
	case op.Cards() && c.cards == nil:
		return need("cards", "CARDS_URL")
	case op == history.Send && c.transfers == nil:
		return need("transfers", "TRANSFERS_URL")
	}
	return nil
}

// moved is a transfer as the ledger has it.
type moved struct {
	id        int64
	amount    int64
	currency  string
	from, to  party
	malformed bool // it has not one entry that takes and one that gives
}

// party is one entry of a transfer.
type party struct{ account, balance, version int64 }

// paid is a payment.
type paid struct {
	id, payer, payee, amount int64
	currency, state          string
	transfer                 *int64
}

// asked is a request.
type asked struct {
	id, payer, payee, amount int64
	currency, state          string
	payment                  *int64
}

// split is a bill that was split.
type split struct {
	id, payee, total int64
	currency         string
	shares           int
}

// point is a state that an account was in.
type point struct{ account, version int64 }

// trace is what the databases hold of one write.
type trace struct {
	// done says that something of it is there.
	done bool
	// missing is what an acknowledged one lacks, differs how it is not what was
	// asked or, where it was acknowledged, answered; empty if nothing is wrong.
	missing, differs string
}

func (f *facts) trace(r *history.Record) trace {
	switch {
	case r.Op == history.Request:
		return traceRequest(r, f.requests[r.Key])
	case r.Op == history.Split:
		return traceSplit(r, f.splits[r.Key])
	case r.Op == history.Send:
		return traceSend(r, f.sends[r.Key])
	case r.Op.Cards():
		return f.traceCard(r)
	}
	return f.traceMoney(r)
}

// judge compares one operation with the facts.
func (c *checker) judge(r *history.Record, f *facts) {
	if !r.Op.Write() {
		c.judgeRead(r, f)
		return
	}
	of := fmt.Sprintf("%s with key %s", r.Op, r.Key)
	is := f.trace(r)
	switch r.Outcome {
	case history.Unknown:
		if !is.done {
			c.report.UnknownNotApplied++
			return
		}
		c.report.UnknownApplied++
	case history.Acknowledged:
		if is.missing != "" {
			c.report.add(Lost, of, "%s", is.missing)
			return
		}
	default:
		// The refusal of a second reply says nothing of the first one's payment.
		if is.done && (r.Op != history.Accept || r.Code != requestClosed) {
			c.report.add(AppliedRefusal, of, "its outcome is %q (status %d) and yet it was done", r.Outcome, r.Status)
		}
	}
	c.judgeAnswer(of, r, f)
	if !is.done || r.Outcome == history.Refused || r.Outcome == history.Failed || r.Outcome == history.Late {
		return
	}
	if is.differs != "" {
		c.report.add(WrongAnswer, of, "%s", is.differs)
	}
}

// told says that the answer's own figures are known.
func told(r *history.Record) bool { return r.Outcome == history.Acknowledged }

// other says that an answer named another row than there is.
func other(r *history.Record, what string, id int64) string {
	if told(r) && r.ID > 0 && r.ID != id {
		return fmt.Sprintf("answered was %s %d, and it is %s %d", what, r.ID, what, id)
	}
	return ""
}

func traceRequest(r *history.Record, requests []asked) trace {
	if len(requests) == 0 {
		return trace{missing: "there is no request"}
	}
	q := requests[0]
	if q.payer != r.From || q.payee != r.To || q.amount != r.Amount || q.currency != r.Currency {
		return trace{done: true, differs: fmt.Sprintf("asked were %d %s from %d to %d, and request %d is of %d %s from %d to %d", r.Amount, r.Currency, r.From, r.To, q.id, q.amount, q.currency, q.payer, q.payee)}
	}
	return trace{done: true, differs: other(r, "request", q.id)}
}

func traceSplit(r *history.Record, splits []split) trace {
	if len(splits) == 0 {
		return trace{missing: "there is no split"}
	}
	s := splits[0]
	if s.payee != r.To || s.total != r.Amount || s.currency != r.Currency || s.shares != r.Shares {
		return trace{done: true, differs: fmt.Sprintf("asked were %d %s for %d by %d others, and split %d is of %d %s for %d by %d", r.Amount, r.Currency, r.To, r.Shares, s.id, s.total, s.currency, s.payee, s.shares)}
	}
	return trace{done: true, differs: other(r, "split", s.id)}
}

func traceSend(r *history.Record, sends []sent) trace {
	if len(sends) == 0 {
		return trace{missing: "there is no send"}
	}
	s := sends[0]
	t := trace{done: s.state != declined, differs: other(r, "send", s.id)}
	switch {
	case s.state == declined || s.state == "created" || s.hold == 0:
		t.missing = fmt.Sprintf("send %d is %s, and holds no money", s.id, s.state)
	case s.quote != r.Quote || s.account != r.From || s.total != r.Amount || s.currency != r.Currency:
		t.differs = fmt.Sprintf("asked were %d %s of account %d at quote %s, and send %d is of %d %s of account %d at quote %s", r.Amount, r.Currency, r.From, r.Quote, s.id, s.total, s.currency, s.account, s.quote)
	case told(r) && r.Hold > 0 && r.Hold != s.hold:
		t.differs = fmt.Sprintf("answered was hold %d, and it is hold %d", r.Hold, s.hold)
	}
	return t
}

// traceMoney is of a write that moves money at once.
func (f *facts) traceMoney(r *history.Record) trace {
	transfer, payment, _ := keys(r)
	transfers, payments := f.transfers[transfer], f.payments[payment]
	t := trace{done: len(transfers) > 0, missing: f.missing(r, transfers, payments)}
	if t.done {
		t.differs = differs(r, transfers[0], payments)
	}
	return t
}

// missing says what an acknowledged write that moves money at once lacks.
func (f *facts) missing(r *history.Record, transfers []moved, payments []paid) string {
	switch {
	case r.Op == history.Transfer && len(transfers) == 0:
		return "there is no transfer"
	case r.Op == history.Transfer:
		return ""
	case len(payments) == 0 && len(transfers) == 0:
		return "there is no payment, and no money moved"
	case len(payments) == 0:
		return fmt.Sprintf("there is no payment, though transfer %d moved its money", transfers[0].id)
	case len(transfers) == 0:
		return fmt.Sprintf("payment %d is %s and no money moved", payments[0].id, payments[0].state)
	case payments[0].state != completed:
		return fmt.Sprintf("payment %d is %s, though transfer %d moved its money", payments[0].id, payments[0].state, transfers[0].id)
	case r.Op != history.Accept:
		return ""
	}
	switch q, ok := f.byID[r.Request]; {
	case !ok:
		return fmt.Sprintf("there is no request %d", r.Request)
	case q.state != accepted || q.payment == nil || *q.payment != payments[0].id:
		return fmt.Sprintf("request %d is %s and not by payment %d", q.id, q.state, payments[0].id)
	}
	return ""
}

// differs says how the money that moved differs from what was asked and answered.
func differs(r *history.Record, t moved, payments []paid) string {
	if t.malformed {
		return "" // told among the transfers that do not balance
	}
	if t.from.account != r.From || t.to.account != r.To || t.amount != r.Amount || t.currency != r.Currency {
		return fmt.Sprintf("asked were %d %s from %d to %d, and transfer %d moved %d %s from %d to %d", r.Amount, r.Currency, r.From, r.To, t.id, t.amount, t.currency, t.from.account, t.to.account)
	}
	if !told(r) {
		return ""
	}
	if wrong := shown(r, t); wrong != "" {
		return wrong
	}
	if len(payments) > 0 {
		return other(r, "payment", payments[0].id)
	}
	return ""
}

// shown says how the money that moved differs from what the answer showed of it.
func shown(r *history.Record, t moved) string {
	for _, p := range []struct {
		what         string
		answered, is int64
	}{
		{"transfer", r.Transfer, t.id},
		{"the payer's version", r.Version, t.from.version},
		{"the payee's version", r.ToVersion, t.to.version},
	} {
		if p.answered > 0 && p.answered != p.is {
			return fmt.Sprintf("answered was %s %d, and it is %d", p.what, p.answered, p.is)
		}
	}
	if r.Version > 0 && r.Balance != t.from.balance {
		return fmt.Sprintf("answered was a balance of %d after it, and it is %d", r.Balance, t.from.balance)
	}
	return ""
}

// judgeAnswer looks for the stored answer, which keeps the same request from
// being done again: it is a part of the write.
func (c *checker) judgeAnswer(of string, r *history.Record, f *facts) {
	if r.Outcome != history.Acknowledged && r.Outcome != history.Refused {
		return
	}
	if status, ok := f.answers[keeps(r.Op)][r.Key]; !ok {
		c.report.add(LostAnswer, of, "there is no stored answer: sent again, it would be taken for a new one")
	} else if r.Status > 0 && status != r.Status {
		c.report.add(LostAnswer, of, "the stored answer has status %d, and %d was answered", status, r.Status)
	}
}

// judgeRead looks for the state that an acknowledged read showed.
func (c *checker) judgeRead(r *history.Record, f *facts) {
	of := fmt.Sprintf("%s of account %d by client %d", r.Op, r.Account, r.Client)
	if r.Version == 0 {
		if r.Balance != 0 {
			c.report.add(ImpossibleRead, of, "it showed a balance of %d before the first entry", r.Balance)
		}
		return
	}
	balance, ok := f.balances[point{r.Account, r.Version}]
	switch {
	case !ok:
		c.report.add(ImpossibleRead, of, "it showed version %d, which the account does not have", r.Version)
	case balance != r.Balance:
		c.report.add(ImpossibleRead, of, "it showed a balance of %d at version %d, and it is %d", r.Balance, r.Version, balance)
	}
}
