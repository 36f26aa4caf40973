package double

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// hashed is a text of 64 hexadecimal digits that follows from parts, always the same.
func hashed(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// uuidOf is a UUID that follows from parts.
func uuidOf(parts ...string) string {
	h := hashed(parts...)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:32]
}

// letters are n capital letters and digits that follow from parts.
func letters(n int, parts ...string) string {
	const set = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	h := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	b := make([]byte, n)
	for i := range b {
		b[i] = set[int(h[i%len(h)])%len(set)]
	}
	return string(b)
}
