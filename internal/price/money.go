package price

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Money is an amount in millionths of the file's currency. Amounts of a bill are whole
// hundredths, so that what a reader adds up is what stands below the line.
type Money int64

// Rate is the price of one unit, in thousand-millionths of the file's currency: a
// second of Fargate costs less than a millionth.
type Rate int64

// Amount is how many units, in thousandths of a unit: hours, GB, or pieces a month.
type Amount int64

const (
	// micros are the millionths in one.
	micros = 1_000_000
	// cent is a hundredth, in millionths.
	cent = micros / 100
	// nanos are the thousand-millionths in one.
	nanos = 1_000_000_000
	// milli are the thousandths in one.
	milli = 1000
	// rateDigits are the digits behind a rate's point.
	rateDigits = 9
	// maxRate bounds the price of a unit, in whole ones; the dearest hour of AWS is below a thousand.
	maxRate = 1_000_000
	// maxAmount bounds how much of a thing a month may have, in units.
	maxAmount = 1_000_000_000_000
)

// String is the amount in hundredths: "1234.50".
func (m Money) String() string {
	sign, v := "", uint64(m)
	if m < 0 {
		sign, v = "-", -v
	}
	v = (v + cent/2) / cent
	return fmt.Sprintf("%s%d.%02d", sign, v/100, v%100)
}

// MarshalText writes the amount as String does.
func (m Money) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Cents rounds to whole hundredths, half away from zero.
func (m Money) Cents() Money {
	if m < 0 {
		return -(-m).Cents()
	}
	return (m + cent/2) / cent * cent
}

// String is the rate without needless zeros, with two digits behind the point at least: "0.0225".
func (r Rate) String() string {
	sign, v := "", uint64(r)
	if r < 0 {
		sign, v = "-", -v
	}
	behind := strings.TrimRight(fmt.Sprintf("%09d", v%nanos), "0")
	for len(behind) < 2 {
		behind += "0"
	}
	return fmt.Sprintf("%s%d.%s", sign, v/nanos, behind)
}

// MarshalText writes the rate as String does.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String is the amount without needless zeros: "730", "0.5".
func (a Amount) String() string {
	whole, part := a/milli, a%milli
	if part == 0 {
		return strconv.FormatInt(int64(whole), 10)
	}
	return fmt.Sprintf("%d.%s", whole, strings.TrimRight(fmt.Sprintf("%03d", max(part, -part)), "0"))
}

// MarshalText writes the amount as String does.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// parseRate reads a price as people write it: "0.0225", at most nine digits behind the point.
func parseRate(text string) (Rate, error) {
	whole, behind, point := strings.Cut(text, ".")
	if whole == "" || point && behind == "" || !digits(whole) || !digits(behind) {
		return 0, fmt.Errorf("%q is no price: want a decimal number, for example 0.0225", shown(text))
	}
	behind = strings.TrimRight(behind, "0")
	if len(behind) > rateDigits {
		return 0, fmt.Errorf("%q is too fine: a price has at most %d digits behind its point", shown(text), rateDigits)
	}
	w, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || w >= maxRate {
		return 0, fmt.Errorf("%q is too high: the price of one unit is below %d", shown(text), maxRate)
	}
	part, err := strconv.ParseInt((behind + strings.Repeat("0", rateDigits))[:rateDigits], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the price %q: %w", shown(text), err)
	}
	return Rate(w*nanos + part), nil
}

func digits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// shown is a text short enough for an error.
func shown(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "..."
	}
	return text
}

// errTooMuch says that a sum of money leaves what can be counted.
var errTooMuch = errors.New("comes to more money than can be counted: look for a mistyped number")

// cost is a rate times an amount, rounded to whole hundredths, half up.
func cost(r Rate, a Amount) (Money, error) {
	if r < 0 || a < 0 {
		return 0, fmt.Errorf("%s times %s is below zero", r, a)
	}
	// Thousand-millionths times thousandths, in hundredths.
	const by = nanos * milli / 100
	high, low := bits.Mul64(uint64(r), uint64(a))
	low, carry := bits.Add64(low, by/2, 0)
	high += carry
	if high >= by {
		return 0, errTooMuch
	}
	cents, _ := bits.Div64(high, low, by)
	if cents > math.MaxInt64/cent {
		return 0, errTooMuch
	}
	return Money(cents) * cent, nil
}

// plus adds two amounts of money.
func plus(a, b Money) (Money, error) {
	s := a + b
	if b > 0 && s < a || b < 0 && s > a {
		return 0, errTooMuch
	}
	return s, nil
}

// scale is a rate times a factor in thousandths, rounded half up.
func scale(r Rate, factor Amount) (Rate, error) { return portion(r, factor, milli) }

// portion is a rate times one number by another, rounded half up.
func portion(r Rate, of, by Amount) (Rate, error) {
	high, low := bits.Mul64(uint64(r), uint64(of))
	low, carry := bits.Add64(low, uint64(by)/2, 0)
	high += carry
	if high >= uint64(by) {
		return 0, errTooMuch
	}
	v, _ := bits.Div64(high, low, uint64(by))
	if v > maxRate*nanos {
		return 0, errTooMuch
	}
	return Rate(v), nil
}
