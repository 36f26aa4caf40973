package move

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// StreamNames names the change streams there and back of a database of an estate,
// in at most so many bytes of [a-z0-9_]. What had to be changed or cut is told
// apart by a hash.
func StreamNames(estate, database string, most int) (there, back string) {
	whole := estate + "_" + database
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, whole)
	most -= len("dhow_") + len("_back")
	if plain != whole || len(plain) > most {
		sum := sha256.Sum256([]byte(estate + "/" + database))
		plain = plain[:min(len(plain), most-len("_01234567"))] + "_" + hex.EncodeToString(sum[:4])
	}
	return "dhow_" + plain, "dhow_" + plain + "_back"
}
