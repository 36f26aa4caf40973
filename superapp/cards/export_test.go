package cards

// What tests reach into.
var (
	Build      = build
	CheckDigit = checkDigit
)

// Numbers makes numbers with a key.
func Numbers(key string) (of func(token string) string, tag func(number string) []byte) {
	n := numbers{[]byte(key)}
	return n.of, n.tag
}

// NoNumbers makes none.
var NoNumbers = numbers{}
