package fleet

import (
	"crypto/rand"
	"encoding/hex"
)

// Owner is the role that owns the tables; services connect as roles of their own.
const Owner = "superapp"

// secretBytes are 128 bits of randomness.
const secretBytes = 16

// Secrets are the passwords of one installation.
type Secrets struct {
	roles map[string]string
	// Redis is the server's password; CardsKey makes the numbers of cards.
	Redis, CardsKey string
}

// NewSecrets makes new ones.
func NewSecrets() Secrets {
	s := Secrets{roles: map[string]string{Owner: secret()}, Redis: secret(), CardsKey: secret()}
	for _, one := range Services() {
		if one.Database != None {
			s.roles[one.Name] = secret()
		}
	}
	return s
}

// Password is a role's.
func (s Secrets) Password(role string) string { return s.roles[role] }

func secret() string {
	var random [secretBytes]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return hex.EncodeToString(random[:])
}
