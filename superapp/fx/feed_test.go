package fx

import (
	"math/big"
	"strings"
	"testing"

	"github.com/bojanz/currency"
	"pgregory.net/rapid"

	"dhow/superapp/money"
)

func testFeed(tb testing.TB, seed uint64) *feed {
	tb.Helper()
	f, err := newFeed(seed)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func ratesOf(tb rapid.TB, f *feed, tick int64) map[string]*big.Rat {
	texts, err := f.rates(tick)
	if err != nil {
		tb.Fatal(err)
	}
	rates := map[string]*big.Rat{}
	for code, text := range texts {
		if rates[code], err = money.ParseRate(text); err != nil {
			tb.Fatalf("%s %s: %v", code, text, err)
		}
	}
	return rates
}

// Every currency that people use has a rate; what has none is listed here.
func TestEveryCurrencyHasARate(t *testing.T) {
	none := map[string]bool{"BOV": true, "CHE": true, "CHW": true, "CLF": true, "COU": true, "MXV": true, "USN": true, "UYI": true, "UYW": true, "XAD": true}
	rates := ratesOf(t, testFeed(t, 1), 1_700_000_000)
	for _, code := range currency.GetCurrencyCodes() {
		if (rates[code] == nil) != none[code] {
			t.Errorf("%s: rate %v", code, rates[code])
		}
	}
	for code, want := range map[string]*big.Rat{"USD": big.NewRat(1, 1), "AED": big.NewRat(36725, 10000), "BHD": big.NewRat(376, 1000)} {
		if rates[code] == nil || rates[code].Cmp(want) != 0 {
			t.Errorf("%s is %v, want %s", code, rates[code], want)
		}
	}
}

// The same seed and tick give the same rates; each stays near its base, and moves
// from one tick to the next, but by little; pegged currencies follow what they are pegged to.
func TestTheWalk(t *testing.T) {
	f, twin, other := testFeed(t, 1), testFeed(t, 1), testFeed(t, 2)
	moved := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		tick := rapid.Int64Range(0, 4_000_000_000).Draw(t, "tick")
		now, again, next := ratesOf(t, f, tick), ratesOf(t, twin, tick), ratesOf(t, f, tick+1)
		for _, q := range f.quotes {
			if now[q.currency].Cmp(again[q.currency]) != 0 {
				t.Fatalf("%s differs between twins", q.currency)
			}
			per := new(big.Rat).Quo(now[q.currency], now[q.of])
			if far := apart(per, q.rate); far.Cmp(big.NewRat(q.sway*1000+1, 1_000_000_000)) > 0 {
				t.Fatalf("%s is %s from its base, more than %d parts per million", q.currency, far.FloatString(9), q.sway)
			}
			step := apart(now[q.currency], next[q.currency])
			if step.Cmp(big.NewRat(1, 1000)) > 0 {
				t.Fatalf("%s jumped by %s", q.currency, step.FloatString(9))
			}
			if step.Sign() > 0 {
				moved[q.currency] = true
			}
		}
	})
	if n := len(moved); n < 90 {
		t.Errorf("%d currencies moved", n)
	}
	if ratesOf(t, f, 5)["EUR"].Cmp(ratesOf(t, other, 5)["EUR"]) == 0 {
		t.Error("another seed gives the same market")
	}
}

func apart(a, b *big.Rat) *big.Rat {
	d := new(big.Rat).Sub(a, b)
	return d.Quo(d.Abs(d), b)
}

func TestBadRates(t *testing.T) {
	const header = "currency,rate,of,sway\n"
	for text, want := range map[string]string{
		"":                                     "first line",
		header + "QQQ,1,USD,0\n":               "no such currency",
		header + "USD,1,USD,0\nEUR,0,USD,0\n":  "a rate is",
		header + "USD,1,USD,0\nEUR,1,USD,-1\n": "sway",
		header + "USD,1,USD,0\nXOF,1,EUR,0\n":  "no rate of its own",
		header + "USD,1\n":                     "wrong number of fields",
	} {
		if _, err := readFeed(1, []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func testCross(t *testing.T, from, to string) cross {
	t.Helper()
	rates := ratesOf(t, testFeed(t, 1), 12345)
	return cross{from: from, to: to, perBase: rates, rate: new(big.Rat).Quo(rates[to], rates[from])}
}

func TestProviders(t *testing.T) {
	list, err := readProviders(providerList)
	if err != nil || len(list) < 4 {
		t.Fatalf("%d providers, %v", len(list), err)
	}
	fewer := 0
	for _, p := range list {
		if !p.pays("ARS") {
			fewer++
		}
		for _, pair := range [][2]string{{"AED", "PKR"}, {"AED", "EUR"}, {"KWD", "JPY"}, {"IRR", "KWD"}, {"JPY", "IRR"}, {"USD", "USD"}} {
			c := testCross(t, pair[0], pair[1])
			o, err := p.offer(c)
			if err != nil {
				t.Fatal(err)
			}
			rate, err := money.ParseRate(o.Rate)
			if err != nil || o.Fee < 0 || o.FeeCurrency != pair[0] {
				t.Fatalf("%+v, %v", o, err)
			}
			if pair[0] == pair[1] {
				if o.Rate != "1" {
					t.Errorf("%s exchanges a currency for itself at %s", p.Name, o.Rate)
				}
				continue
			}
			margin := new(big.Rat).Sub(big.NewRat(1, 1), new(big.Rat).Quo(rate, c.rate))
			if low, high := big.NewRat(p.Margin, million), big.NewRat(p.Margin*1000+10, million*1000); margin.Cmp(low) < 0 || margin.Cmp(high) > 0 {
				t.Errorf("%s takes %s of %v", p.Name, margin.FloatString(9), pair)
			}
		}
	}
	if fewer == 0 {
		t.Error("every provider pays everything")
	}
	o, err := list[0].offer(testCross(t, "AED", "GBP"))
	if err != nil || o.Fee != 1102 { // three dollars are 11.0175 dirhams
		t.Errorf("%+v, %v", o, err)
	}
}

func TestBadProviders(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "none",
		"- {name: a, margin: 1000000}":   "out of range",
		"- {name: a, fee: -1}":           "out of range",
		"- {name: a, fees: {INR: -1}}":   "below zero",
		"- {name: a, without: [RUPEES]}": "no currency",
		"- {name: a, colour: green}":     "unknown field",
		"- {margin: 5}":                  "no name",
	} {
		if _, err := readProviders([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
