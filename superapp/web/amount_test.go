package web

import (
	"errors"
	"strings"
	"testing"

	"github.com/bojanz/currency"
	"pgregory.net/rapid"

	"dhow/superapp/money"
)

func TestParseAmount(t *testing.T) {
	for _, c := range []struct {
		text, currency string
		want           int64
		err            error
	}{
		{"1", "AED", 100, nil},
		{"1.5", "AED", 150, nil},
		{"0.05", "AED", 5, nil},
		{"1,234.50", "AED", 123450, nil},
		{"1,234,567", "JPY", 1234567, nil},
		{"1.234", "KWD", 1234, nil},
		{" 12 ", "AED", 1200, nil},
		{"١٬٢٣٤٫٥٠", "AED", 123450, nil},
		{"۱۲٫۵", "AED", 1250, nil},
		{"\u200e1\u00a0234.5", "AED", 123450, nil},
		{"10000000000", "AED", 1_000_000_000_000, nil},
		{"10000000000.01", "AED", 0, errRange},
		{strings.Repeat("9", 60), "AED", 0, errRange},
		{"0", "AED", 0, errRange},
		{"0.00", "AED", 0, errRange},
		{"1.234", "AED", 0, errDecimals},
		{"1.0", "JPY", 0, errDecimals},
		{"1,5", "AED", 0, errAmount},
		{"1,50", "AED", 0, errAmount},
		{",500", "AED", 0, errAmount},
		{"1234,567", "AED", 0, errAmount},
		{"1.", "AED", 0, errAmount},
		{".5", "AED", 0, errAmount},
		{"1.2.3", "AED", 0, errAmount},
		{"1.2,3", "AED", 0, errAmount},
		{"-5", "AED", 0, errAmount},
		{"+5", "AED", 0, errAmount},
		{"1e3", "AED", 0, errAmount},
		{"AED 5", "AED", 0, errAmount},
		{"", "AED", 0, errAmount},
		{"5", "XYZ", 0, errAmount},
		{strings.Repeat("1", 65), "AED", 0, errAmount},
	} {
		got, err := parseAmount(c.text, c.currency)
		if !errors.Is(err, c.err) || (err == nil && got != c.want) {
			t.Errorf("parseAmount(%q, %s) = %d, %v; want %d, %v", c.text, c.currency, got, err, c.want, c.err)
		}
	}
}

// What the pages write, in either language, can be typed back.
func TestAmountsAreReadAsTheyAreWritten(t *testing.T) {
	f := newTestFront(t)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, money.MaxAmount).Draw(t, "amount")
		code := rapid.SampledFrom(currency.GetCurrencyCodes()).Draw(t, "code")
		texts := []string{typed(n, code)}
		for _, l := range f.languages {
			texts = append(texts, strings.TrimSpace(strings.ReplaceAll(l.Money(n, code), code, "")))
		}
		for _, text := range texts {
			if got, err := parseAmount(text, code); err != nil || got != n {
				t.Fatalf("%q of %s is read as %d, %v; want %d", text, code, got, err, n)
			}
		}
	})
}

func FuzzParseAmount(f *testing.F) {
	for _, seed := range []string{"1", "1,234.5", "١٢٫٥", "-1", "1.2.3", "99999999999999999999"} {
		f.Add(seed, "AED")
	}
	f.Fuzz(func(t *testing.T, text, code string) {
		n, err := parseAmount(text, code)
		if err != nil {
			return
		}
		if n < 1 || n > money.MaxAmount {
			t.Fatalf("%q is read as %d", text, n)
		}
		if again, err := parseAmount(typed(n, code), code); err != nil || again != n {
			t.Fatalf("%q is read as %d, and that as %d, %v", text, n, again, err)
		}
	})
}
