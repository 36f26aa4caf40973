package check

import (
	"context"
	"strconv"

	"dhow/superapp/history"
)

// facts are what the databases hold of a batch of operations.
type facts struct {
	transfers map[string][]moved
	payments  map[string][]paid
	requests  map[string][]asked
	byID      map[int64]asked
	splits    map[string][]split
	sends     map[string][]sent
	cards     cardFacts
	// answers are the statuses of the stored answers, by service and key.
	answers  map[string]map[string]int
	balances map[point]int64
}

// keeps names the service that takes a write and keeps its answer.
func keeps(op history.Op) string {
	switch {
	case op == history.Transfer:
		return "accounts"
	case op == history.Send:
		return "transfers"
	case op.Cards():
		return "cards"
	}
	return "payments"
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
		splits: map[string][]split{}, sends: map[string][]sent{}, answers: map[string]map[string]int{}, balances: map[point]int64{}}
	var transfers, payments, requests []string
	var ids, accounts, versions []int64
	kept := map[string][]string{} // keys by the service that keeps their answers
	of := map[history.Op][]string{}
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
		case op.Op.Write():
			kept[keeps(op.Op)] = append(kept[keeps(op.Op)], op.Key)
			of[op.Op] = append(of[op.Op], op.Key)
			if op.Op == history.Accept {
				ids = append(ids, op.Request)
			}
		case op.Version > 0:
			accounts, versions = append(accounts, op.Account), append(versions, op.Version)
		}
	}
	cards, ofCards, err := c.lookUpCards(ctx, ops)
	if err != nil {
		return nil, err
	}
	f.cards, transfers = cards, append(transfers, ofCards...)
	for _, look := range []func() error{
		func() error { return c.lookUpTransfers(ctx, transfers, f.transfers) },
		func() error { return c.lookUpPayments(ctx, payments, f.payments) },
		func() error { return c.lookUpRequests(ctx, requests, ids, f) },
		func() error { return c.lookUpSplits(ctx, of[history.Split], f.splits) },
		func() error { return c.lookUpSends(ctx, of[history.Send], f.sends) },
		func() error { return c.lookUpAnswers(ctx, kept, f.answers) },
		func() error { return c.lookUpBalances(ctx, accounts, versions, f.balances) },
	} {
		if err := look(); err != nil {
			return nil, err
		}
	}
	return f, nil
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

func (c *checker) lookUpSplits(ctx context.Context, keys []string, into map[string][]split) error {
	if len(keys) == 0 {
		return nil
	}
	var s split
	var key string
	return c.payments.each(ctx, []any{&key, &s.id, &s.payee, &s.total, &s.currency, &s.shares}, func() error {
		into[key] = append(into[key], s)
		return nil
	}, "SELECT key, id, payee, total, currency, (SELECT count(*) FROM requests WHERE split = splits.id) FROM splits WHERE key = ANY($1) ORDER BY id", keys)
}

func (c *checker) lookUpSends(ctx context.Context, keys []string, into map[string][]sent) error {
	if len(keys) == 0 {
		return nil
	}
	var s sent
	var key string
	return c.transfers.each(ctx, []any{&key, &s.id, &s.quote, &s.account, &s.total, &s.currency, &s.state, &s.hold}, func() error {
		into[key] = append(into[key], s)
		return nil
	}, "SELECT key, id, quote::text, account, total, currency, state, coalesce(hold, 0) FROM sends WHERE key = ANY($1) ORDER BY id", keys)
}

func (c *checker) lookUpAnswers(ctx context.Context, kept map[string][]string, into map[string]map[string]int) error {
	for _, s := range stores {
		keys := kept[s.name]
		if len(keys) == 0 {
			continue
		}
		answers := map[string]int{}
		into[s.name] = answers
		var key string
		var status int
		statement, args := "SELECT key, status FROM idempotency WHERE key = ANY($1)", []any{keys}
		if s.mariadb {
			statement, args = in("SELECT `key`, status FROM idempotency WHERE `key` IN", keys)
		}
		if err := (*s.opened(c)).each(ctx, []any{&key, &status}, func() error { answers[key] = status; return nil }, statement, args...); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) lookUpBalances(ctx context.Context, accounts, versions []int64, into map[point]int64) error {
	var p point
	var balance int64
	return c.accounts.each(ctx, []any{&p.account, &p.version, &balance}, func() error { into[p] = balance; return nil },
		"SELECT account, version, balance FROM entries JOIN unnest($1::bigint[], $2::bigint[]) AS q (account, version) USING (account, version)", accounts, versions)
}
