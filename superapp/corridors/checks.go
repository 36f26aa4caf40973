package corridors

import (
	"strings"

	"github.com/jacoelho/banking/bic"
	"github.com/jacoelho/banking/iban"
)

// check says whether a value whose form is right is right in itself: whether its
// check digits fit, and, where it names one, whether the country is the corridor's.
type check func(country, value string) bool

// checks are the rules by the names that the table of fields uses.
func checks() map[string]check {
	return map[string]check{
		"iban":  checkIBAN,
		"bic":   checkBIC,
		"aba":   func(_, v string) bool { return weighed(v, 3, 7, 1)%10 == 0 },
		"clabe": func(_, v string) bool { return checkCLABE(v) },
		"cbu":   func(_, v string) bool { return checkCBU(v) },
		"rib":   func(_, v string) bool { return mod97(ribDigits.Replace(v)) == 0 },
		"nib":   func(_, v string) bool { return mod97(v) == 1 },
		"rut":   func(_, v string) bool { return checkRUT(v) },
		"cpf":   func(_, v string) bool { return checkCPF(v) },
	}
}

// ibanOf are the countries whose accounts carry another country's IBANs; all
// others' begin with their own code.
func ibanOf(country string) string {
	switch country {
	case "AX":
		return "FI"
	case "BL", "GF", "GP", "MF", "MQ", "NC", "PF", "PM", "RE", "WF", "YT":
		return "FR"
	}
	return country
}

func checkIBAN(country, value string) bool {
	return strings.HasPrefix(value, ibanOf(country)) && iban.Validate(value) == nil
}

func checkBIC(country, value string) bool {
	b, err := bic.Parse(value)
	return err == nil && b.CountryCode == country
}

// weighed adds up the digits, each times its weight; the weights repeat.
func weighed(digits string, weights ...int) int {
	sum := 0
	for i := range len(digits) {
		sum += int(digits[i]-'0') * weights[i%len(weights)]
	}
	return sum
}

// closes says whether the last digit makes the weighed sum of those before it a multiple of ten.
func closes(digits string, weights ...int) bool {
	last := len(digits) - 1
	return (weighed(digits[:last], weights...)+int(digits[last]-'0'))%10 == 0
}

// checkCLABE is Mexico's rule; that it takes each product's last digit only changes nothing in the sum's.
func checkCLABE(v string) bool { return closes(v, 3, 7, 1) }

// checkCBU is Argentina's: a block for the bank and one for the account, each with its digit.
func checkCBU(v string) bool {
	const bank = 8
	return closes(v[:bank], 7, 1, 3, 9) && closes(v[bank:], 3, 9, 7, 1)
}

// ribDigits stand for letters in the French way of counting accounts.
var ribDigits = strings.NewReplacer(
	"A", "1", "J", "1", "B", "2", "K", "2", "S", "2", "C", "3", "L", "3", "T", "3", "D", "4", "M", "4", "U", "4",
	"E", "5", "N", "5", "V", "5", "F", "6", "O", "6", "W", "6", "G", "7", "P", "7", "X", "7", "H", "8", "Q", "8", "Y", "8", "I", "9", "R", "9", "Z", "9")

// mod97 is a number's remainder; the number may be longer than an integer.
func mod97(digits string) int {
	rest := 0
	for i := range len(digits) {
		rest = (rest*10 + int(digits[i]-'0')) % 97
	}
	return rest
}

// checkRUT is Chile's: weights from 2 to 7 from the right, modulo 11, where 10 is K.
func checkRUT(v string) bool {
	last, sum := len(v)-1, 0
	for i := range last {
		sum += int(v[last-1-i]-'0') * (i%6 + 2)
	}
	return "0K987654321"[sum%11] == v[last]
}

// checkCPF is Brazil's: two digits, each closing all before it modulo 11.
func checkCPF(v string) bool {
	const number = 9
	if strings.Count(v, v[:1]) == len(v) { // such ones fit and are never given out
		return false
	}
	for n := number; n < len(v); n++ {
		sum := 0
		for i := range n {
			sum += int(v[i]-'0') * (n + 1 - i)
		}
		if sum*10%11%10 != int(v[n]-'0') {
			return false
		}
	}
	return true
}
