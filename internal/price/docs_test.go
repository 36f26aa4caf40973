package price

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"dhow/internal/manualtest"
)

// TestManual keeps the tables of the page as the list is.
func TestManual(t *testing.T) {
	manualtest.Section(t, "../../docs/prices.md", "internal/price", tables(list(t)), *update)
}

func tables(l *List) string {
	of := map[string]map[string]bool{}
	own := map[string]int{}
	add := func(source string, code Code) {
		if of[source] == nil {
			of[source] = map[string]bool{}
		}
		what, _, _ := strings.Cut(string(code), "/")
		of[source][what] = true
	}
	for code, e := range l.prices {
		if e.everywhere != nil {
			add(e.everywhere.source, code)
		}
		for region, r := range e.regions {
			add(r.source, code)
			own[region]++
		}
	}
	for _, f := range l.factors {
		of[f.source] = map[string]bool{"factors of regions": true}
	}
	for _, c := range l.commitments {
		of[c.source] = map[string]bool{"commitments": true}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nThe list is of %s, in %s.\n\n| of what | source | day |\n|---|---|---|\n", l.Date, l.Currency)
	for _, name := range slices.Sorted(maps.Keys(l.sources)) {
		s := l.sources[name]
		title := s.Title
		if s.URL != "" {
			title = fmt.Sprintf("[%s](%s)", title, s.URL)
		}
		if s.Estimate {
			title += " (estimate)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", strings.Join(slices.Sorted(maps.Keys(of[name])), ", "), title, s.Date)
	}
	b.WriteString("\n| region | prices of its own | factor for the rest |\n|---|---|---|\n")
	for _, r := range l.Regions() {
		factor := l.other.String()
		if r == l.Base {
			factor = "base"
		}
		if f, ok := l.factors[r]; ok {
			factor = f.of.String()
		}
		fmt.Fprintf(&b, "| `%s` | %d | %s |\n", r, own[r], factor)
	}
	fmt.Fprintf(&b, "| any other | 0 | %s |\n\n", l.other)
	return b.String()
}
