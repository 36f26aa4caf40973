package money

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/bojanz/currency"
	"pgregory.net/rapid"
)

func rate(t testing.TB, text string) *big.Rat {
	t.Helper()
	r, err := ParseRate(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return r
}

func TestConvert(t *testing.T) {
	for _, c := range []struct {
		amount   int64
		from, to string
		rate     string
		round    Rounding
		want     int64
		ok       bool
	}{
		{100, "USD", "AED", "3.6725", Floor, 367, true},
		{100, "USD", "AED", "3.6725", Ceil, 368, true},
		{100, "USD", "AED", "3.6725", Nearest, 367, true},
		{200, "USD", "AED", "3.6725", Nearest, 735, true}, // 734.5
		{1000, "KWD", "JPY", "487.5", Floor, 487, true},
		{1, "JPY", "KWD", "0.002051282051", Ceil, 3, true},
		{0, "USD", "AED", "3.6725", Ceil, 0, true},
		{-100, "USD", "AED", "3.6725", Floor, -368, true},
		{-100, "USD", "AED", "3.6725", Ceil, -367, true},
		{math.MaxInt64, "USD", "USD", "1", Floor, math.MaxInt64, true},
		{math.MaxInt64, "USD", "AED", "3.6725", Floor, 0, false},
		{1, "USD", "XYZ", "1", Floor, 0, false},
		{1, "", "USD", "1", Floor, 0, false},
	} {
		got, ok := Convert(c.amount, c.from, c.to, rate(t, c.rate), c.round)
		if ok != c.ok || (ok && got != c.want) {
			t.Errorf("%d %s in %s at %s: %d, %t; want %d, %t", c.amount, c.from, c.to, c.rate, got, ok, c.want, c.ok)
		}
	}
	for _, r := range []*big.Rat{nil, new(big.Rat), big.NewRat(-1, 2)} {
		if _, ok := Convert(1, "USD", "AED", r, Floor); ok {
			t.Errorf("the rate %v is taken", r)
		}
	}
}

// The result is within one minor unit of the exact value, on the side that the
// rounding names; and who pays what a conversion back costs, rounded up, has never
// paid less than what he receives is worth.
func TestConvertIsExact(t *testing.T) {
	codes := currency.GetCurrencyCodes()
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.Int64Range(0, MaxAmount).Draw(t, "amount")
		from, to := rapid.SampledFrom(codes).Draw(t, "from"), rapid.SampledFrom(codes).Draw(t, "to")
		r := big.NewRat(rapid.Int64Range(1, 1e10).Draw(t, "numerator"), rapid.Int64Range(1, 1e10).Draw(t, "denominator"))
		f, _ := Unit(from)
		u, _ := Unit(to)
		exact := new(big.Rat).Mul(r, big.NewRat(amount, f))
		exact.Mul(exact, big.NewRat(u, 1))
		for round, side := range map[Rounding]int{Floor: -1, Ceil: 1} {
			got, ok := Convert(amount, from, to, r, round)
			if !ok {
				if exact.Cmp(new(big.Rat).SetInt64(math.MaxInt64-1)) < 0 {
					t.Fatalf("%s does not fit", exact)
				}
				continue
			}
			off := new(big.Rat).Sub(new(big.Rat).SetInt64(got), exact)
			if off.Sign()*side < 0 || off.Abs(off).Cmp(big.NewRat(1, 1)) >= 0 {
				t.Fatalf("%d for %s, rounding %d", got, exact, round)
			}
			if back, ok := Convert(got, to, from, new(big.Rat).Inv(r), Ceil); ok && round == Floor && back > amount {
				t.Fatalf("%d would have paid for the same %d, and %d was paid", back, got, amount)
			}
		}
	})
}

func TestParseRate(t *testing.T) {
	for _, text := range []string{"", ".", "1.", ".5", "0", "0.000", "-1", "+1", "1e3", "1/3", "0x1", "1_000", " 1", "1,5", "١", "NaN", strings.Repeat("1", 41)} {
		if r, err := ParseRate(text); err == nil {
			t.Errorf("%q is %s", text, r)
		}
	}
	for text, want := range map[string]*big.Rat{"3.6725": big.NewRat(36725, 10000), "1": big.NewRat(1, 1), "0.10": big.NewRat(1, 10), "0012": big.NewRat(12, 1)} {
		if r := rate(t, text); r.Cmp(want) != 0 {
			t.Errorf("%q is %s", text, r)
		}
	}
}

func TestFormatRate(t *testing.T) {
	for _, c := range []struct {
		rate  *big.Rat
		round Rounding
		want  string
	}{
		{big.NewRat(36725, 10000), Nearest, "3.6725"},
		{big.NewRat(1, 3), Floor, "0.3333333333"},
		{big.NewRat(2, 3), Nearest, "0.6666666667"},
		{big.NewRat(2, 3), Floor, "0.6666666666"},
		{big.NewRat(1, 300000), Ceil, "0.000003333333334"},
		{big.NewRat(123456789060, 1), Nearest, "123456789100"},
		{big.NewRat(99999999999, 1), Nearest, "100000000000"},
		{big.NewRat(99999999999, 100000000000), Nearest, "1"},
		{big.NewRat(1, 1), Floor, "1"},
		{big.NewRat(1000, 1), Floor, "1000"},
	} {
		if got, err := FormatRate(c.rate, c.round); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.rate, got, err, c.want)
		}
	}
	for _, r := range []*big.Rat{new(big.Rat), big.NewRat(-1, 2), new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Exp(big.NewInt(10), big.NewInt(50), nil))} {
		if text, err := FormatRate(r, Floor); err == nil {
			t.Errorf("%s is written %q", r, text)
		}
	}
}

// What is written is read back as the same rate, but for what was rounded off.
func TestFormatRateAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := big.NewRat(rapid.Int64Range(1, 1e12).Draw(t, "numerator"), rapid.Int64Range(1, 1e12).Draw(t, "denominator"))
		text, err := FormatRate(r, Floor)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseRate(text)
		if err != nil {
			t.Fatal(err)
		}
		off := new(big.Rat).Sub(r, back)
		if off.Sign() < 0 || off.Cmp(new(big.Rat).Mul(r, big.NewRat(1, 1e9))) > 0 {
			t.Fatalf("%s was written %s", r, text)
		}
		if again, err := FormatRate(back, Ceil); err != nil || again != text {
			t.Fatalf("%s was written %s, then %s (%v)", r, text, again, err)
		}
	})
}

func FuzzParseRate(f *testing.F) {
	for _, text := range []string{"3.6725", "1", "0", "1e9", "1/3", "-0.1", "0.0000000000000000000000000000000000001"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRate(text); err == nil && (r.Sign() <= 0 || strings.ContainsAny(text, "eE/+-_ ")) {
			t.Fatalf("%q is %s", text, r)
		}
	})
}
