package traffic

import (
	"fmt"
	"math/rand/v2"

	"dhow/superapp/history"
)

const (
	// maxAmount is the largest amount of one operation, in minor units: small
	// beside what the seed gives an account, so that few are refused.
	maxAmount = 1000
	// hotOneIn makes one account of so many a hot one.
	hotOneIn = 100
	// stream separates the plan's random numbers from those that choose the accounts.
	stream = 2
)

// weight is one kind of operation and its share.
type weight struct {
	op    history.Op
	share float64
}

func (s Shares) weights() []weight {
	return []weight{{history.Pay, s.Pay}, {history.Transfer, s.Transfer}, {history.Request, s.Request}, {history.Read, s.Read}, {history.Statement, s.Statement}}
}

// operation is what is to be done, and when.
type operation struct {
	op       history.Op
	key      string // a write's
	due      int64  // nanoseconds since 1970
	from, to int64  // a write's parties: payer and payee
	account  int64  // a read's
	amount   int64
	currency string
	request  int64 // what is accepted
}

// record is the operation's line, without its end.
func (o operation) record(client int) history.Record {
	return history.Record{Op: o.op, Key: o.key, Client: client, From: o.from, To: o.to, Account: o.account,
		Amount: o.amount, Currency: o.currency, Request: o.request, Scheduled: o.due}
}

// plan draws operations. The same seed and accounts give the same operations.
type plan struct {
	random  *rand.Rand
	weights []weight
	sum     float64
	hot     float64
	// groups are the active accounts by currency, the hot ones of each first;
	// all says for each active account its group.
	groups []group
	all    []int
}

type group struct {
	currency string
	accounts []int64
	hot      int
}

// newPlan sorts the accounts by currency; those that are alone in theirs can not pay and take no part.
func newPlan(cfg Config, known []account) (*plan, error) {
	p := &plan{random: rand.New(rand.NewPCG(cfg.Seed, stream)), weights: cfg.Shares.weights(), hot: cfg.HotShare}
	for _, w := range p.weights {
		p.sum += w.share
	}
	index := map[string]int{}
	for _, a := range known {
		i, ok := index[a.Currency]
		if !ok {
			i = len(p.groups)
			index[a.Currency] = i
			p.groups = append(p.groups, group{currency: a.Currency})
		}
		p.groups[i].accounts = append(p.groups[i].accounts, a.ID)
	}
	for i := range p.groups {
		g := &p.groups[i]
		if len(g.accounts) < 2 {
			continue
		}
		g.hot = max(1, len(g.accounts)/hotOneIn)
		for range g.accounts {
			p.all = append(p.all, i)
		}
	}
	if len(p.all) == 0 {
		return nil, fmt.Errorf("no two accounts of one currency among the %d that exist of ids 1 to %d: run `superapp seed` first, or say how many there are with --accounts", len(known), cfg.Accounts)
	}
	return p, nil
}

// next draws the next operation; key becomes its key if it is a write.
func (p *plan) next(key string) operation {
	g := &p.groups[p.all[p.random.IntN(len(p.all))]]
	from := p.pick(g)
	switch op := p.kind(); op {
	case history.Read, history.Statement:
		return operation{op: op, account: g.accounts[from]}
	default:
		to := p.pick(g)
		if to == from {
			to = (from + 1) % len(g.accounts)
		}
		return operation{op: op, key: key, from: g.accounts[from], to: g.accounts[to], currency: g.currency, amount: 1 + p.random.Int64N(maxAmount)}
	}
}

func (p *plan) kind() history.Op {
	at := p.random.Float64() * p.sum
	last := history.Pay
	for _, w := range p.weights {
		if w.share == 0 {
			continue
		}
		last = w.op
		if at < w.share {
			break
		}
		at -= w.share
	}
	return last
}

// pick chooses an account of a group, with the hot ones chosen more often.
func (p *plan) pick(g *group) int {
	if p.random.Float64() < p.hot {
		return p.random.IntN(g.hot)
	}
	return p.random.IntN(len(g.accounts))
}
