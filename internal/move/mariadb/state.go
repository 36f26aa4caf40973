package mariadb

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// stateDatabase holds the move's state, on both servers. Finish drops it.
const stateDatabase = "dhow"

// maxName bounds a stream's name, in bytes: a replication connection's has at most 64.
const maxName = 60

// streamNames names the streams there and back. What had to be changed or cut is
// told apart by a hash.
func streamNames(estate, database string) (there, back string) {
	whole := estate + "_" + database
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, whole)
	const affixes = len("dhow_") + len("_back")
	if plain != whole || len(plain) > maxName-affixes {
		sum := sha256.Sum256([]byte(estate + "/" + database))
		if most := maxName - affixes - 9; len(plain) > most {
			plain = plain[:most]
		}
		plain += "_" + hex.EncodeToString(sum[:4])
	}
	return "dhow_" + plain, "dhow_" + plain + "_back"
}
