package region

import (
	"fmt"
	"slices"
	"strings"
)

// offeredNames is how many near names an error holds at most.
const offeredNames = 3

// unknown is the error for a name that is not known; it says which are near it.
func unknown(what, name string, known []string) error {
	found := nearest(name, known)
	if len(found) == 0 {
		return fmt.Errorf("no %s is called %q", what, name)
	}
	return fmt.Errorf("no %s is called %q: did you mean %s?", what, name, strings.Join(found, " or "))
}

// nearest are those of the known names that differ least from a name, the nearest
// alone and its equals; none where even they differ by more than a third.
func nearest(name string, known []string) []string {
	name = strings.ToLower(name)
	best := len(name)/3 + 1
	var found []string
	for _, k := range known {
		d := distance(name, strings.ToLower(k))
		switch {
		case d > best:
		case d < best:
			best, found = d, []string{k}
		default:
			found = append(found, k)
		}
	}
	slices.Sort(found)
	return found[:min(len(found), offeredNames)]
}

// distance is how many letters have to be put in, left out or changed to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
