package money

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

const (
	// maxRate bounds a rate's text: ten significant digits, with all the zeros that
	// stand between the dearest currency and the cheapest.
	maxRate = 40
	// RateDigits is how many significant digits a rate is written with.
	RateDigits = 10
)

// Rounding says where what is smaller than one minor unit goes.
type Rounding int

const (
	// Floor is for what a customer receives: never more than was promised.
	Floor Rounding = iota
	// Ceil is for what he pays: never less than it costs.
	Ceil
	// Nearest is for rates that nobody pays; a half goes up.
	Nearest
)

// divide is a/b, rounded; b is above zero.
func (r Rounding) divide(a, b *big.Int) *big.Int {
	switch r {
	case Ceil:
		a = new(big.Int).Add(a, new(big.Int).Sub(b, big.NewInt(1)))
	case Nearest:
		a, b = new(big.Int).Add(new(big.Int).Lsh(a, 1), b), new(big.Int).Lsh(b, 1)
	case Floor:
	}
	return new(big.Int).Div(a, b) // of Euclid: the floor, as b is above zero
}

// Convert is an amount in another currency, at a rate in whole units: 3.6725 is
// what one dollar is in dirhams. It is exact up to the last rounding. It is false
// for a currency that does not exist, a rate that is not above zero, and a result
// that does not fit.
func Convert(amount int64, from, to string, rate *big.Rat, round Rounding) (int64, bool) {
	unitFrom, known := Unit(from)
	unitTo, alsoKnown := Unit(to)
	if !known || !alsoKnown || rate == nil || rate.Sign() <= 0 {
		return 0, false
	}
	a := new(big.Int).Mul(big.NewInt(amount), rate.Num())
	a.Mul(a, big.NewInt(unitTo))
	b := new(big.Int).Mul(rate.Denom(), big.NewInt(unitFrom))
	result := round.divide(a, b)
	return result.Int64(), result.IsInt64()
}

// errRate says what a rate looks like.
var errRate = errors.New("a rate is a decimal number above zero, for example 3.6725")

// ParseRate reads a decimal number above zero, exactly.
func ParseRate(text string) (*big.Rat, error) {
	whole, fraction, point := strings.Cut(text, ".")
	if len(text) > maxRate || !digits(whole) || (point && !digits(fraction)) {
		return nil, errRate // the library reads more: fractions, exponents of any size
	}
	rate, ok := new(big.Rat).SetString(text)
	if !ok || rate.Sign() <= 0 {
		return nil, errRate
	}
	return rate, nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// FormatRate writes a rate above zero as a decimal number of RateDigits
// significant digits, without zeros at its end.
func FormatRate(rate *big.Rat, round Rounding) (string, error) {
	if rate.Sign() <= 0 {
		return "", errRate
	}
	ten, least := big.NewInt(10), new(big.Int).Exp(big.NewInt(10), big.NewInt(RateDigits-1), nil)
	most := new(big.Int).Mul(least, ten)
	// The rate is n / 10^places, with as many digits in n as are wanted.
	a, b, places := new(big.Int).Set(rate.Num()), new(big.Int).Set(rate.Denom()), 0
	for a.Cmp(new(big.Int).Mul(b, least)) < 0 {
		a.Mul(a, ten)
		places++
	}
	for a.Cmp(new(big.Int).Mul(b, most)) >= 0 {
		b.Mul(b, ten)
		places--
	}
	text := round.divide(a, b).String() // rounding up may make it one digit longer: a power of ten
	switch {
	case places <= 0:
		text += strings.Repeat("0", -places)
	case len(text) <= places:
		text = "0." + strings.Repeat("0", places-len(text)) + text
	default:
		text = text[:len(text)-places] + "." + text[len(text)-places:]
	}
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if len(text) > maxRate {
		return "", fmt.Errorf("a rate has %d characters, more than %d: %w", len(text), maxRate, errRate)
	}
	return text, nil
}
