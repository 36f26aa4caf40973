package web

import (
	"errors"
	"strings"

	"dhow/superapp/money"
)

// maxAmountText is in bytes; the largest amount with separators, in Arabic digits, has fewer.
const maxAmountText = 64

var (
	errAmount   = errors.New("this is no amount")
	errDecimals = errors.New("the amount has more decimals than its currency")
	errRange    = errors.New("the amount is zero or too large")
)

// parseAmount reads what people type, such as 1,234.5 or ١٬٢٣٤٫٥, as minor units
// of a currency. Digits may be Western, Arabic or Persian. A comma only separates
// thousands: 1,5 is refused, because half of its readers mean another amount.
func parseAmount(text, currency string) (int64, error) {
	digits, ok := money.Digits(currency)
	if !ok || len(text) > maxAmountText {
		return 0, errAmount
	}
	whole, fraction, pointed := strings.Cut(plainDigits(text), ".")
	if whole == "" || (pointed && (fraction == "" || strings.Trim(fraction, "0123456789") != "")) {
		return 0, errAmount
	}
	if len(fraction) > digits {
		return 0, errDecimals
	}
	groups := strings.Split(whole, ",")
	for i, group := range groups {
		if group == "" || strings.Trim(group, "0123456789") != "" || (len(groups) > 1 && (len(group) > 3 || (i > 0 && len(group) < 3))) {
			return 0, errAmount
		}
	}
	var amount int64
	for _, d := range strings.Join(groups, "") + fraction + strings.Repeat("0", digits-len(fraction)) {
		if amount = amount*10 + int64(d-'0'); amount > money.MaxAmount {
			return 0, errRange
		}
	}
	if amount == 0 {
		return 0, errRange
	}
	return amount, nil
}

// plainDigits writes digits and separators as ASCII and leaves out spaces and marks of direction.
func plainDigits(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '٠' && r <= '٩':
			return '0' + r - '٠'
		case r >= '۰' && r <= '۹':
			return '0' + r - '۰'
		}
		switch r {
		case '٫':
			return '.'
		case '٬':
			return ','
		case ' ', '\u00a0', '\u202f', '\u200e', '\u200f', '\u061c':
			return -1
		}
		return r
	}, text)
}

// typed writes an amount as a person would type it.
func typed(amount int64, currency string) string {
	return strings.TrimPrefix(money.Format(amount, currency), currency+" ")
}
