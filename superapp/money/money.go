// Package money knows ISO 4217's currencies, how amounts are bounded and what they
// are in another currency. An amount is a whole number of the currency's minor
// units (fils, cents) in an int64; nothing here or elsewhere in the application
// computes with floats.
package money

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/bojanz/currency"
)

// MaxAmount is the largest amount of one transfer, in minor units. It leaves room
// for nine million such transfers into one account before a balance overflows.
const MaxAmount = 1_000_000_000_000

// Digits is how many digits of an amount stand behind the decimal point: 2 for
// AED, 3 for KWD, 0 for JPY. It is false for what is no currency's code.
func Digits(code string) (int, bool) {
	if code == "" { // the library takes an empty code for a valid one
		return 0, false
	}
	digits, ok := currency.GetDigits(code)
	return int(digits), ok
}

// Unit is how many minor units make one unit of the currency: 100 fils are one
// dirham. It is false for what is no currency's code.
func Unit(code string) (int64, bool) {
	digits, ok := Digits(code)
	unit := int64(1)
	for range digits {
		unit *= 10
	}
	return unit, ok
}

// Format writes an amount for people: 1234 of KWD is "KWD 1.234". An unknown
// currency is written in minor units.
func Format(amount int64, code string) string {
	digits, _ := Digits(code)
	sign, text := "", strconv.FormatInt(amount, 10)
	if amount < 0 {
		sign, text = "-", text[1:]
	}
	if digits == 0 {
		return fmt.Sprintf("%s %s%s", code, sign, text)
	}
	if missing := digits + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	point := len(text) - digits
	return fmt.Sprintf("%s %s%s.%s", code, sign, text[:point], text[point:])
}

// Add is a + b, and false when the sum does not fit.
func Add(a, b int64) (int64, bool) {
	if (b > 0 && a > math.MaxInt64-b) || (b < 0 && a < math.MinInt64-b) {
		return 0, false
	}
	return a + b, true
}
