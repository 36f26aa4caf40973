package estate

import (
	"fmt"
	"slices"
	"strings"
)

// synonyms are the names that other tools give to what a key here is called.
var synonyms = map[string][]string{
	"dbname": {"database"}, "db": {"database"}, "hostname": {"host"}, "address": {"host", "listen"}, "username": {"user"}, "pass": {"password"},
	"ssl": {"tls"}, "sslmode": {"mode", "tls"}, "sslrootcert": {"ca", "tls"},
}

// nearest is the name of those known that a writer most likely meant; empty
// when none is near enough.
func nearest(name string, known []string) string {
	folded := fold(name)
	best, bestAt := "", len(folded)/3+2 // a third of it, and one more, may be wrong
	for _, k := range known {
		if d := distance(folded, fold(k)); d < bestAt && d < len(k) {
			best, bestAt = k, d
		}
	}
	if best != "" {
		return best
	}
	for _, k := range known {
		if slices.Contains(synonyms[folded], k) {
			return k
		}
	}
	return ""
}

// fold drops what people write differently: case and the signs between words.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(name))
}

// distance is how many letters have to be put in, left out, changed or swapped
// with their neighbour to turn a into b.
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	var before []int
	last := make([]int, len(to)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(from); i++ {
		row := make([]int, len(to)+1)
		row[0] = i
		for j := 1; j <= len(to); j++ {
			change := 1
			if from[i-1] == to[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && from[i-1] == to[j-2] && from[i-2] == to[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(to)]
}

// oneOf says which values are taken, and which of them was most likely meant.
func oneOf(got string, known []string) string {
	text := "want " + alternatives(known)
	if n := nearest(got, known); n != "" {
		text = fmt.Sprintf("did you mean %s? (%s)", n, text)
	}
	return text
}

// alternatives lists names: "a, b or c".
func alternatives(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
