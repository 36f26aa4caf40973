package transfers

import (
	"fmt"
	"math/big"

	"dhow/superapp/fx"
	"dhow/superapp/money"
	"dhow/superapp/service"
)

// What a quote fixes: what is sent, before fees, or what is received.
const (
	fixSend    = "send"
	fixReceive = "receive"
)

// wish is what a customer wants to know.
type wish struct {
	from, to string // currencies
	amount   int64
	fix      string
}

// terms are what a provider would do, in minor units.
type terms struct {
	provider, rate             string
	send, fee, total, received int64
}

// terms are an offer's. The customer receives what is rounded down, and pays what
// is rounded up. A refusal says that the amount does not fit the offer.
func (w wish) terms(o fx.Offer) (terms, *service.Refusal, error) {
	t := terms{provider: o.Provider, rate: o.Rate, send: w.amount, fee: o.Fee, received: w.amount}
	rate, err := money.ParseRate(o.Rate)
	if err != nil {
		return t, nil, fmt.Errorf("read the rate of %s: %w", o.Provider, err)
	}
	if o.FeeCurrency != w.from || o.Fee < 0 {
		return t, nil, fmt.Errorf("the fee of %s is no amount of %s", o.Provider, w.from)
	}
	var fits bool
	if w.fix == fixSend {
		t.received, fits = money.Convert(w.amount, w.from, w.to, rate, money.Floor)
	} else {
		t.send, fits = money.Convert(w.amount, w.to, w.from, new(big.Rat).Inv(rate), money.Ceil)
	}
	total, adds := money.Add(t.send, t.fee)
	t.total = total
	switch {
	case !fits || !adds || t.total > money.MaxAmount:
		return t, invalid("amount_too_large", "no more than "+money.Format(money.MaxAmount, w.from)+" can be sent at once"), nil
	case t.received < 1:
		return t, invalid("amount_too_small", "nothing would arrive: send more"), nil
	}
	return t, nil, nil
}

// better says whether more is received at a than at b for each unit that is paid,
// fees included. Where the amount received is fixed, that is to pay less.
func (t terms) better(b terms) bool {
	mine := new(big.Int).Mul(big.NewInt(t.received), big.NewInt(b.total))
	theirs := new(big.Int).Mul(big.NewInt(b.received), big.NewInt(t.total))
	return mine.Cmp(theirs) > 0
}

// best are the terms of the best offer; of equal ones the first's.
func (w wish) best(offers []fx.Offer) (terms, error) {
	var best terms
	var refusal *service.Refusal
	found := false
	for _, o := range offers {
		t, no, err := w.terms(o)
		switch {
		case err != nil:
			return terms{}, err
		case no != nil:
			refusal = no
		case !found || t.better(best):
			best, found = t, true
		}
	}
	switch {
	case found:
		return best, nil
	case refusal != nil:
		return terms{}, refusal
	}
	return terms{}, invalid("no_provider", fmt.Sprintf("nobody pays out %s for %s at the moment: choose another currency", w.to, w.from))
}
