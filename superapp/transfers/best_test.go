package transfers

import (
	"errors"
	"fmt"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"dhow/superapp/fx"
	"dhow/superapp/money"
	"dhow/superapp/service"
)

func TestBest(t *testing.T) {
	offers := []fx.Offer{
		{Provider: "cheap rate", Rate: "75", Fee: 0, FeeCurrency: "AED"},
		{Provider: "good rate", Rate: "76", Fee: 1000, FeeCurrency: "AED"},
	}
	for _, c := range []struct {
		amount                     int64
		fix                        string
		provider                   string
		send, fee, total, received int64
	}{
		{10_000, fixSend, "cheap rate", 10_000, 0, 10_000, 750_000},
		{1_000_000, fixSend, "good rate", 1_000_000, 1000, 1_001_000, 76_000_000},
		{750_001, fixReceive, "cheap rate", 10_001, 0, 10_001, 750_001},
		{76_000_000, fixReceive, "good rate", 1_000_000, 1000, 1_001_000, 76_000_000},
		{1, fixReceive, "cheap rate", 1, 0, 1, 1},
	} {
		got, err := wish{"AED", "PKR", c.amount, c.fix}.best(offers)
		want := terms{c.provider, got.rate, c.send, c.fee, c.total, c.received}
		if err != nil || got != want {
			t.Errorf("%d %s: %+v, %v; want %+v", c.amount, c.fix, got, err, want)
		}
	}
	for _, c := range []struct {
		w      wish
		offers []fx.Offer
		code   string // empty: no refusal, a defect
	}{
		{wish{"AED", "PKR", 1, fixSend}, nil, "no_provider"},
		{wish{"IDR", "KWD", 1, fixSend}, []fx.Offer{{Rate: "0.00001", FeeCurrency: "IDR"}}, "amount_too_small"},
		{wish{"AED", "PKR", money.MaxAmount, fixSend}, []fx.Offer{{Rate: "1", Fee: 1, FeeCurrency: "AED"}}, "amount_too_large"},
		{wish{"AED", "PKR", money.MaxAmount, fixReceive}, []fx.Offer{{Rate: "0.0000001", FeeCurrency: "AED"}}, "amount_too_large"},
		{wish{"AED", "PKR", 1, fixSend}, []fx.Offer{{Rate: "0", FeeCurrency: "AED"}}, ""},
		{wish{"AED", "PKR", 1, fixSend}, []fx.Offer{{Rate: "1", FeeCurrency: "USD"}}, ""},
		{wish{"AED", "PKR", 1, fixSend}, []fx.Offer{{Rate: "1", Fee: -1, FeeCurrency: "AED"}}, ""},
	} {
		_, err := c.w.best(c.offers)
		var refusal *service.Refusal
		if err == nil || errors.As(err, &refusal) != (c.code != "") || (refusal != nil && refusal.Code != c.code) {
			t.Errorf("%+v %v: %v, want %q", c.w, c.offers, err, c.code)
		}
	}
}

// Of any offers the one is taken at which most is received for what is paid; who
// has a lower fee and a better rate is never passed over; and the customer never
// receives more than the rate gives, nor a whole unit less.
func TestBestIsBest(t *testing.T) {
	currencies := rapid.SampledFrom([]string{"AED", "KWD", "JPY", "USD"})
	rapid.Check(t, func(t *rapid.T) {
		w := wish{currencies.Draw(t, "from"), currencies.Draw(t, "to"), rapid.Int64Range(1, 1e9).Draw(t, "amount"), rapid.SampledFrom([]string{fixSend, fixReceive}).Draw(t, "fix")}
		var offers []fx.Offer
		for i := range rapid.IntRange(1, 6).Draw(t, "offers") {
			rate := fmt.Sprintf("%d.%04d", rapid.IntRange(0, 50).Draw(t, "whole"), rapid.IntRange(1, 9999).Draw(t, "fraction"))
			offers = append(offers, fx.Offer{Provider: fmt.Sprint(i), Rate: rate, Fee: rapid.Int64Range(0, 10_000).Draw(t, "fee"), FeeCurrency: w.from})
		}
		best, err := w.best(offers)
		if err != nil {
			var refusal *service.Refusal
			if !errors.As(err, &refusal) {
				t.Fatal(err)
			}
			return
		}
		worth := func(x terms) *big.Rat { return big.NewRat(x.received, x.total) }
		for _, o := range offers {
			x, no, err := w.terms(o)
			if err != nil {
				t.Fatal(err)
			}
			if no != nil {
				continue
			}
			if worth(x).Cmp(worth(best)) > 0 || (w.fix == fixReceive && x.total < best.total) || (w.fix == fixSend && x.total <= best.total && x.received > best.received) {
				t.Fatalf("%+v was passed over for %+v", x, best)
			}
			rate, _ := money.ParseRate(x.rate)
			f, _ := money.Unit(w.from)
			u, _ := money.Unit(w.to)
			exact := new(big.Rat).Mul(rate, big.NewRat(x.send*u, f))
			if most := new(big.Rat).SetInt64(x.received); most.Cmp(exact) > 0 {
				t.Fatalf("%+v: more is received than %s", x, exact.FloatString(4))
			}
			if x.total != x.send+x.fee {
				t.Fatalf("%+v does not add up", x)
			}
			if w.fix == fixSend && new(big.Rat).Sub(exact, big.NewRat(1, 1)).Cmp(new(big.Rat).SetInt64(x.received)) >= 0 {
				t.Fatalf("%+v: a whole unit less is received than %s", x, exact.FloatString(4))
			}
		}
	})
}
