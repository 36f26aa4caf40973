package price

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestMoney(t *testing.T) {
	for m, want := range map[Money]string{0: "0.00", 5_000: "0.01", 4_999: "0.00", 1_234_500_000: "1234.50", -1_500_000: "-1.50"} {
		if m.String() != want {
			t.Errorf("%d is %s, want %s", int64(m), m, want)
		}
	}
	if got := Money(14_999).Cents(); got != 10_000 {
		t.Errorf("0.014999 in whole cents is %s", got)
	}
	if got := Money(-15_000).Cents(); got != -20_000 {
		t.Errorf("-0.015 in whole cents is %s", got)
	}
	for text, want := range map[string]Rate{"0.0225": 22_500_000, "1": nanos, "0.000011244": 11_244, "12.50": 12_500_000_000, "0.1000000000000": 100_000_000} {
		r, err := parseRate(text)
		if err != nil || r != want {
			t.Errorf("%s is %d, %v; want %d", text, r, err, want)
		}
	}
	for _, text := range []string{"", ".5", "5.", "-1", "1e3", "0x1", "1,5", "0.0000000001", "1000000", "99999999999999999999", "1.2.3", " 1"} {
		if r, err := parseRate(text); err == nil {
			t.Errorf("%q was taken as %s", text, r)
		}
	}
	for a, want := range map[Amount]string{730_000: "730", 500: "0.5", 1_001: "1.001"} {
		if a.String() != want {
			t.Errorf("%d is %s, want %s", a, a, want)
		}
	}
}

// TestCost holds the product against one of any size.
func TestCost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, a := Rate(rapid.Int64Range(0, maxRate*nanos).Draw(t, "rate")), Amount(rapid.Int64Range(0, maxAmount*milli).Draw(t, "amount"))
		got, err := cost(r, a)
		want := new(big.Int).Mul(big.NewInt(int64(r)), big.NewInt(int64(a)))
		by := big.NewInt(nanos * milli / 100)
		want.Add(want, new(big.Int).Rsh(by, 1)).Div(want, by).Mul(want, big.NewInt(cent))
		if !want.IsInt64() {
			if err == nil {
				t.Fatalf("%s times %s is %s, and does not fit", r, a, got)
			}
			return
		}
		if err != nil || int64(got) != want.Int64() {
			t.Fatalf("%s times %s is %s, %v; want %s", r, a, got, err, Money(want.Int64()))
		}
	})
}

// TestRateText holds that what is written is read again.
func TestRateText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rate(rapid.Int64Range(0, maxRate*nanos-1).Draw(t, "rate"))
		if again, err := parseRate(r.String()); err != nil || again != r {
			t.Fatalf("%d is written %s and read %d, %v", r, r, again, err)
		}
	})
}
