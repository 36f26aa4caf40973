package cards

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
)

const (
	// keyVariable names the secret: an argument would be in every process list.
	keyVariable = "CARDS_KEY"
	// minKey is in characters; 32 of hexadecimal are 128 bits.
	minKey = 32
	// bin begins every number. ISO/IEC 7812 leaves what begins with 9 to national
	// bodies, so no card network routes these.
	bin = "990000"
	// tailDigits stand between bin and the check digit; tails is how many there are.
	tailDigits = 9
	tails      = 1_000_000_000
	tokenBytes = 16
)

// numbers makes card numbers of tokens. They are never stored.
type numbers struct{ key []byte }

// readNumbers takes the key from the environment.
func readNumbers() (numbers, error) {
	key := os.Getenv(keyVariable)
	if len(key) < minKey {
		return numbers{}, fmt.Errorf("%s has %d characters: export a secret of at least %d, the same for every instance and every time, for example of `openssl rand -hex 32`", keyVariable, len(key), minKey)
	}
	return numbers{[]byte(key)}, nil
}

// newToken is a random name for a card.
func newToken() string {
	var random [tokenBytes]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return hex.EncodeToString(random[:])
}

func (n numbers) hash(what, text string) []byte {
	mac := hmac.New(sha256.New, n.key)
	mac.Write([]byte(what + "\x00" + text))
	return mac.Sum(nil)
}

// of is the number of a token, always the same.
func (n numbers) of(token string) string {
	tail := binary.BigEndian.Uint64(n.hash("number", token)) % tails
	number := fmt.Sprintf("%s%0*d", bin, tailDigits, tail)
	return number + string(checkDigit(number))
}

// tag tells numbers apart without telling them.
func (n numbers) tag(number string) []byte { return n.hash("tag", number) }

// checkDigit completes a number by Luhn's rule: of the digits, from the last on,
// each second counts twice, and with the check digit all add up to a multiple of 10.
func checkDigit(number string) byte {
	sum := 0
	for i := range len(number) {
		digit := int(number[len(number)-1-i] - '0')
		if i%2 == 0 {
			digit *= 2
		}
		sum += digit/10 + digit%10
	}
	return byte('0' + (10-sum%10)%10)
}
