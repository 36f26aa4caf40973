package traffic

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"dhow/superapp/history"
)

const (
	// maxAmount is the largest amount of one operation, in minor units: small
	// beside what the seed gives an account, so that few are refused.
	maxAmount = 1000
	// leastSent and mostSent bound what is sent abroad, in minor units: enough to bear a fee.
	leastSent, mostSent = 10_000, 30_000
	// hotOneIn makes one account of so many a hot one.
	hotOneIn = 100
	// maxPayers is how many pay of a split at most, beside the one who asks.
	maxPayers = 4
	// stream separates the plan's random numbers from those that choose the accounts.
	stream = 2

	// Of the card payments these shares are reversed, captured in part, and given
	// back after they were captured; the others are captured whole.
	reversedShare = 0.08
	partialShare  = 0.1
	refundedShare = 0.08
)

// merchants are where cards pay, with what they sell.
var merchants = [][2]string{
	{"Corner Grocery", "groceries"}, {"Fresh Market", "groceries"}, {"Harbour Cafe", "restaurants"}, {"Shawarma House", "restaurants"},
	{"City Taxi", "transport"}, {"Metro", "transport"}, {"Desert Fuel", "fuel"}, {"Book Souk", "shopping"}, {"Electronics World", "shopping"},
	{"Power and Water", "utilities"}, {"Sky Mobile", "utilities"}, {"Cinema Nine", "entertainment"}, {"Gulf Pharmacy", "health"}, {"Blue Airlines", "travel"},
}

// weight is one kind of operation, the first where it has several steps, and its share.
type weight struct {
	name  string
	op    history.Op
	share float64
}

func (s Shares) weights() []weight {
	return []weight{
		{"pay", history.Pay, s.Pay}, {"transfer", history.Transfer, s.Transfer}, {"request", history.Request, s.Request}, {"split", history.Split, s.Split},
		{"send", history.Quote, s.Send}, {"card", history.Authorise, s.Card},
		{"read", history.Read, s.Read}, {"statement", history.Statement, s.Statement}, {"insights", history.Insights, s.Insights},
		{"rates", history.Rates, s.Rates}, {"corridor", history.Corridor, s.Corridor},
	}
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

	// other is the currency that is exchanged into, of rates and quotes.
	other    string
	corridor *corridor // where a quote's money goes
	quote    string    // what is sent
	payers   []int64   // of a split
	included bool      // the one who splits pays a share too
	customer int64     // whose card is made
	card     int64
	merchant [2]string // and its category
	// authorisation is what is captured, reversed or refunded.
	authorisation int64
	// captured and refunded are what follows an authorisation; with nothing
	// captured it is reversed.
	captured, refunded int64
}

// record is the operation's line, without its end.
func (o operation) record(client int) history.Record {
	return history.Record{Op: o.op, Key: o.key, Client: client, From: o.from, To: o.to, Account: o.account,
		Amount: o.amount, Currency: o.currency, Request: o.request, Scheduled: o.due,
		Card: o.card, Authorisation: o.authorisation, Quote: o.quote, Shares: len(o.payers)}
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
	// cards and corridors are what was found of them before the start.
	cards     []card
	corridors []corridor
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

// next draws the next operation; key becomes its key if it has one.
func (p *plan) next(key string) operation {
	g := &p.groups[p.all[p.random.IntN(len(p.all))]]
	from := p.pick(g)
	op := operation{op: p.kind(), key: key, currency: g.currency}
	switch op.op {
	case history.Read, history.Statement, history.Insights:
		return operation{op: op.op, account: g.accounts[from]}
	case history.Rates:
		return operation{op: op.op, currency: g.currency, other: p.groups[p.random.IntN(len(p.groups))].currency}
	case history.Corridor:
		return operation{op: op.op, corridor: &p.corridors[p.random.IntN(len(p.corridors))]}
	case history.Quote:
		c := &p.corridors[p.random.IntN(len(p.corridors))]
		op.account, op.corridor, op.other = g.accounts[from], c, c.Currencies[p.random.IntN(len(c.Currencies))]
		op.amount = leastSent + p.random.Int64N(mostSent-leastSent)
	case history.Authorise:
		p.pay(&op)
	case history.Split:
		op.to, op.payers, op.included = g.accounts[from], p.others(g, from), p.random.IntN(2) == 0
		op.amount = int64(len(op.payers)+1) + p.random.Int64N(maxAmount)
	default:
		op.from, op.to, op.amount = g.accounts[from], g.accounts[p.other(g, from)], 1+p.random.Int64N(maxAmount)
	}
	return op
}

// pay completes a payment by card, with what becomes of it.
func (p *plan) pay(op *operation) {
	c := p.cards[p.random.IntN(len(p.cards))]
	op.card, op.from, op.currency = c.id, c.account, c.currency
	op.amount = 1 + p.random.Int64N(maxAmount)
	op.merchant = merchants[p.random.IntN(len(merchants))]
	part, back := 1+p.random.Int64N(op.amount), p.random.Float64()
	switch what := p.random.Float64(); {
	case what < reversedShare:
		return
	case what < reversedShare+partialShare:
		op.captured = part
	default:
		op.captured = op.amount
	}
	if back < refundedShare {
		op.refunded = 1 + p.random.Int64N(op.captured)
	}
}

// other is an account of a group that is not the one at hand.
func (p *plan) other(g *group, from int) int {
	to := p.pick(g)
	if to == from {
		to = (from + 1) % len(g.accounts)
	}
	return to
}

// others are some accounts of a group beside the one at hand, each once.
func (p *plan) others(g *group, beside int) []int64 {
	var list []int64
	for range 1 + p.random.IntN(min(maxPayers, len(g.accounts)-1)) {
		if id := g.accounts[p.other(g, beside)]; !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	return list
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
