package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

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
		if rec.Op.Write() {
			if rec.Outcome == history.Acknowledged {
				r.AcknowledgedWrites++
			}
		} else if rec.Outcome != history.Acknowledged {
			return nil
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

// point is a state that an account was in.
type point struct{ account, version int64 }

// facts are what the databases hold of a batch of operations.
type facts struct {
	transfers map[string][]moved
	payments  map[string][]paid
	requests  map[string][]asked
	byID      map[int64]asked
	// answers are the statuses of the stored answers, by service and key.
	accountsAnswers, paymentsAnswers map[string]int
	balances                         map[point]int64
}

// keys of an operation: of its transfer, its payment and its request; empty where it has none.
func keys(r *history.Record) (transfer, payment, request string) {
	switch r.Op {
	case history.Transfer:
		return r.Key, "", ""
	case history.Pay:
		return transferKey + r.Key, r.Key, ""
	case history.Accept:
		payment = requestKey + strconv.FormatInt(r.Request, 10)
		return transferKey + payment, payment, ""
	case history.Request:
		return "", "", r.Key
	}
	return "", "", ""
}

func (c *checker) lookUp(ctx context.Context, ops []history.Record) (*facts, error) {
	f := &facts{transfers: map[string][]moved{}, payments: map[string][]paid{}, requests: map[string][]asked{}, byID: map[int64]asked{},
		accountsAnswers: map[string]int{}, paymentsAnswers: map[string]int{}, balances: map[point]int64{}}
	var transfers, payments, requests, atAccounts, atPayments []string
	var ids, accounts, versions []int64
	for i := range ops {
		op := &ops[i]
		t, p, q := keys(op)
		for _, k := range []struct {
			key  string
			into *[]string
		}{{t, &transfers}, {p, &payments}, {q, &requests}} {
			if k.key != "" {
				*k.into = append(*k.into, k.key)
			}
		}
		switch {
		case op.Op == history.Transfer:
			atAccounts = append(atAccounts, op.Key)
		case op.Op.Write():
			atPayments = append(atPayments, op.Key)
			if op.Op == history.Accept {
				ids = append(ids, op.Request)
			}
		case op.Version > 0:
			accounts, versions = append(accounts, op.Account), append(versions, op.Version)
		}
	}
	if err := c.lookUpTransfers(ctx, transfers, f.transfers); err != nil {
		return nil, err
	}
	if err := c.lookUpPayments(ctx, payments, f.payments); err != nil {
		return nil, err
	}
	if err := c.lookUpRequests(ctx, requests, ids, f); err != nil {
		return nil, err
	}
	var key string
	var status int
	const answers = "SELECT key, status FROM idempotency WHERE key = ANY($1)"
	if err := c.accounts.each(ctx, []any{&key, &status}, func() error { f.accountsAnswers[key] = status; return nil }, answers, atAccounts); err != nil {
		return nil, err
	}
	if err := c.payments.each(ctx, []any{&key, &status}, func() error { f.paymentsAnswers[key] = status; return nil }, answers, atPayments); err != nil {
		return nil, err
	}
	var p point
	var balance int64
	err := c.accounts.each(ctx, []any{&p.account, &p.version, &balance}, func() error { f.balances[p] = balance; return nil },
		"SELECT account, version, balance FROM entries JOIN unnest($1::bigint[], $2::bigint[]) AS q (account, version) USING (account, version)", accounts, versions)
	return f, err
}

func (c *checker) lookUpTransfers(ctx context.Context, keys []string, into map[string][]moved) error {
	var t moved
	var key string
	var account, amount, balance, version *int64
	taken := 0 // entries of the transfer at hand
	return c.accounts.each(ctx, []any{&key, &t.id, &t.amount, &t.currency, &account, &amount, &balance, &version}, func() error {
		list := into[key]
		if n := len(list); n == 0 || list[n-1].id != t.id {
			list = append(list, t)
			taken = 0
		}
		last := &list[len(list)-1]
		switch {
		case account == nil: // no entries at all
		case *amount < 0:
			last.from = party{*account, *balance, *version}
		default:
			last.to = party{*account, *balance, *version}
		}
		taken++
		last.malformed = taken != 2 || last.from.account == 0 || last.to.account == 0
		into[key] = list
		return nil
	}, `SELECT t.key, t.id, t.amount, t.currency, e.account, e.amount, e.balance, e.version
		FROM transfers t LEFT JOIN entries e ON e.transfer = t.id WHERE t.key = ANY($1) ORDER BY t.id, e.id`, keys)
}

func (c *checker) lookUpPayments(ctx context.Context, keys []string, into map[string][]paid) error {
	var p paid
	var key string
	return c.payments.each(ctx, []any{&key, &p.id, &p.payer, &p.payee, &p.amount, &p.currency, &p.state, &p.transfer}, func() error {
		into[key] = append(into[key], p)
		return nil
	}, "SELECT key, id, payer, payee, amount, currency, state, transfer FROM payments WHERE key = ANY($1) ORDER BY id", keys)
}

func (c *checker) lookUpRequests(ctx context.Context, keys []string, ids []int64, f *facts) error {
	var q asked
	var key string
	return c.payments.each(ctx, []any{&key, &q.id, &q.payer, &q.payee, &q.amount, &q.currency, &q.state, &q.payment}, func() error {
		f.requests[key] = append(f.requests[key], q)
		f.byID[q.id] = q
		return nil
	}, "SELECT key, id, payer, payee, amount, currency, state, payment FROM requests WHERE key = ANY($1) OR id = ANY($2) ORDER BY id", keys, ids)
}

// judge compares one operation with the facts.
func (c *checker) judge(r *history.Record, f *facts) {
	if !r.Op.Write() {
		c.judgeRead(r, f)
		return
	}
	of := fmt.Sprintf("%s with key %s", r.Op, r.Key)
	transfer, payment, request := keys(r)
	transfers := f.transfers[transfer]
	done := len(transfers) > 0 || len(f.requests[request]) > 0 && request != ""
	switch r.Outcome {
	case history.Unknown:
		if !done {
			c.report.UnknownNotApplied++
			return
		}
		c.report.UnknownApplied++
	case history.Acknowledged:
		if lost := missing(r, f, transfers, f.payments[payment], f.requests[request]); lost != "" {
			c.report.add(Lost, of, "%s", lost)
			return
		}
	default:
		// The refusal of a second reply says nothing of the first one's payment.
		if done && (r.Op != history.Accept || r.Code != requestClosed) {
			c.report.add(AppliedRefusal, of, "its outcome is %q (status %d) and yet it was done", r.Outcome, r.Status)
		}
	}
	c.judgeAnswer(of, r, f)
	if !done || r.Outcome == history.Refused || r.Outcome == history.Failed || r.Outcome == history.Late {
		return
	}
	if wrong := differs(r, transfers, f.payments[payment], f.requests[request]); wrong != "" {
		c.report.add(WrongAnswer, of, "%s", wrong)
	}
}

// missing says what an acknowledged write lacks.
func missing(r *history.Record, f *facts, transfers []moved, payments []paid, requests []asked) string {
	switch r.Op {
	case history.Transfer:
		if len(transfers) == 0 {
			return "there is no transfer"
		}
	case history.Request:
		if len(requests) == 0 {
			return "there is no request"
		}
	case history.Pay, history.Accept:
		switch {
		case len(payments) == 0 && len(transfers) == 0:
			return "there is no payment, and no money moved"
		case len(payments) == 0:
			return fmt.Sprintf("there is no payment, though transfer %d moved its money", transfers[0].id)
		case len(transfers) == 0:
			return fmt.Sprintf("payment %d is %s and no money moved", payments[0].id, payments[0].state)
		case payments[0].state != completed:
			return fmt.Sprintf("payment %d is %s, though transfer %d moved its money", payments[0].id, payments[0].state, transfers[0].id)
		}
		if r.Op == history.Accept {
			q, ok := f.byID[r.Request]
			switch {
			case !ok:
				return fmt.Sprintf("there is no request %d", r.Request)
			case q.state != accepted || q.payment == nil || *q.payment != payments[0].id:
				return fmt.Sprintf("request %d is %s and not by payment %d", q.id, q.state, payments[0].id)
			}
		}
	}
	return ""
}

// differs says how what was done differs from what was asked and, where it was
// acknowledged, from what was answered.
func differs(r *history.Record, transfers []moved, payments []paid, requests []asked) string {
	told := r.Outcome == history.Acknowledged
	if len(requests) > 0 {
		q := requests[0]
		switch {
		case q.payer != r.From || q.payee != r.To || q.amount != r.Amount || q.currency != r.Currency:
			return fmt.Sprintf("asked were %d %s from %d to %d, and request %d is of %d %s from %d to %d", r.Amount, r.Currency, r.From, r.To, q.id, q.amount, q.currency, q.payer, q.payee)
		case told && r.ID > 0 && q.id != r.ID:
			return fmt.Sprintf("answered was request %d, and it is request %d", r.ID, q.id)
		}
		return ""
	}
	t := transfers[0]
	if t.malformed {
		return "" // told among the transfers that do not balance
	}
	if t.from.account != r.From || t.to.account != r.To || t.amount != r.Amount || t.currency != r.Currency {
		return fmt.Sprintf("asked were %d %s from %d to %d, and transfer %d moved %d %s from %d to %d", r.Amount, r.Currency, r.From, r.To, t.id, t.amount, t.currency, t.from.account, t.to.account)
	}
	if !told {
		return ""
	}
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
	if len(payments) > 0 && r.ID > 0 && payments[0].id != r.ID {
		return fmt.Sprintf("answered was payment %d, and it is payment %d", r.ID, payments[0].id)
	}
	return ""
}

// judgeAnswer looks for the stored answer, which keeps the same request from
// being done again: it is a part of the write.
func (c *checker) judgeAnswer(of string, r *history.Record, f *facts) {
	if r.Outcome != history.Acknowledged && r.Outcome != history.Refused {
		return
	}
	answers := f.paymentsAnswers
	if r.Op == history.Transfer {
		answers = f.accountsAnswers
	}
	if status, ok := answers[r.Key]; !ok {
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
