package money

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/bojanz/currency"
	"pgregory.net/rapid"
)

func TestDigitsAndUnit(t *testing.T) {
	for _, c := range []struct {
		code   string
		digits int
		unit   int64
		ok     bool
	}{
		{"AED", 2, 100, true},
		{"KWD", 3, 1000, true},
		{"JPY", 0, 1, true},
		{"", 0, 1, false},
		{"aed", 0, 1, false},
		{"XYZ", 0, 1, false},
		{"AEDX", 0, 1, false},
	} {
		digits, ok := Digits(c.code)
		if ok != c.ok || (ok && digits != c.digits) {
			t.Errorf("Digits(%q) = %d, %t; want %d, %t", c.code, digits, ok, c.digits, c.ok)
		}
		unit, ok := Unit(c.code)
		if ok != c.ok || (ok && unit != c.unit) {
			t.Errorf("Unit(%q) = %d, %t; want %d, %t", c.code, unit, ok, c.unit, c.ok)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		amount int64
		code   string
		want   string
	}{
		{123456, "AED", "AED 1234.56"},
		{5, "AED", "AED 0.05"},
		{-5, "AED", "AED -0.05"},
		{0, "KWD", "KWD 0.000"},
		{1234, "KWD", "KWD 1.234"},
		{1234, "JPY", "JPY 1234"},
		{math.MinInt64, "AED", "AED -92233720368547758.08"},
		{7, "XYZ", "XYZ 7"},
	} {
		if got := Format(c.amount, c.code); got != c.want {
			t.Errorf("Format(%d, %s) = %q, want %q", c.amount, c.code, got, c.want)
		}
	}
}

// Every amount of every currency is written as the library's exact decimals are.
func TestFormatAgreesWithDecimals(t *testing.T) {
	codes := currency.GetCurrencyCodes()
	rapid.Check(t, func(t *rapid.T) {
		n, code := rapid.Int64().Draw(t, "amount"), rapid.SampledFrom(codes).Draw(t, "code")
		want, err := currency.NewAmountFromInt64(n, code)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimPrefix(Format(n, code), code+" "); got != want.Number() {
			t.Fatalf("Format(%d, %s) = %q, want %q", n, code, got, want.Number())
		}
	})
}

func TestAdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		exact := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
		sum, ok := Add(a, b)
		if ok != exact.IsInt64() || (ok && sum != exact.Int64()) {
			t.Fatalf("Add(%d, %d) = %d, %t; want %s", a, b, sum, ok, exact)
		}
	})
}
