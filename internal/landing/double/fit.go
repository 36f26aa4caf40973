package double

import (
	"regexp/syntax"
	"strings"
)

const (
	// fitRepeats is how many more than the fewest repetitions a made text has at most.
	fitRepeats = 8
	// fitLength bounds a made text, in bytes.
	fitLength = 1024
)

// fitted is a text that an expression takes, the same for the same seed; ok says
// whether there is one: expressions that look around them are beyond it.
func fitted(expression, seed string) (text string, ok bool) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "", false
	}
	f := &fitting{seed: seed}
	f.add(parsed.Simplify())
	return f.text.String(), f.text.Len() <= fitLength
}

// fitting makes a text; what is left open is chosen by the seed.
type fitting struct {
	seed string
	text strings.Builder
	used int
}

// choose is a number below n.
func (f *fitting) choose(n int) int {
	f.used++
	return int(hashByte(hashed(f.seed, string(rune(f.used))))) % n
}

func (f *fitting) add(e *syntax.Regexp) {
	if f.text.Len() > fitLength {
		return
	}
	switch e.Op {
	case syntax.OpLiteral:
		f.text.WriteString(string(e.Rune))
	case syntax.OpCharClass:
		f.text.WriteRune(f.letter(e.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		f.text.WriteRune(rune('a' + f.choose(26)))
	case syntax.OpCapture, syntax.OpConcat:
		for _, part := range e.Sub {
			f.add(part)
		}
	case syntax.OpAlternate:
		f.add(e.Sub[0]) // the first is what the writers thought of first
	case syntax.OpPlus, syntax.OpStar, syntax.OpQuest:
		fewest := 0
		if e.Op == syntax.OpPlus {
			fewest = 1
		}
		most := fewest + fitRepeats
		if e.Op == syntax.OpQuest {
			most = 1
		}
		for range fewest + f.choose(most-fewest+1) {
			f.add(e.Sub[0])
		}
	}
}

// letter is one of a class, which is told by pairs; a plain one where there is any.
func (f *fitting) letter(pairs []rune) rune {
	var plain []rune
	for i := 0; i+1 < len(pairs); i += 2 {
		for c := max(pairs[i], '0'); c <= min(pairs[i+1], 'z'); c++ {
			if c <= '9' || c >= 'a' {
				plain = append(plain, c)
			}
		}
	}
	if len(plain) > 0 {
		return plain[f.choose(len(plain))]
	}
	return pairs[0]
}
