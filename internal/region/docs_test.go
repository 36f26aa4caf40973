package region

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"dhow/internal/manualtest"
	"github.com/dustin/go-humanize"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestManual keeps the tables of the page as the data is.
func TestManual(t *testing.T) {
	manualtest.Section(t, "../../docs/regions.md", "internal/region", tables(t), *update)
}

func tables(t *testing.T) string {
	c := all(t)
	var b strings.Builder
	b.WriteString("\n| region | name | country | opt-in | zones | types | last told |\n|---|---|---|---|---|---|---|\n")
	for _, r := range c.Regions() {
		country, err := c.Country(r.Country)
		if err != nil {
			t.Fatal(err)
		}
		if r.State != "" {
			country = r.State + ", " + country
		}
		if len(r.Blocs) > 0 {
			country += " (" + strings.Join(r.Blocs, ", ") + ")"
		}
		opt := ""
		if r.OptIn {
			opt = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %d | %s | %s |\n", r.Name, r.Display, country, opt, len(r.Zones), humanize.Comma(int64(len(r.Types()))), r.Offer.Known())
	}
	fmt.Fprintf(&b, "\nOf %s types that any of them offers.\n", humanize.Comma(int64(len(c.Types()))))
	b.WriteString("\n## Notices\n\n| region | date | severity | zones | what | source |\n|---|---|---|---|---|---|\n")
	for _, r := range c.Regions() {
		for _, n := range r.Notices {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", r.Name, n.Date, n.Severity, strings.Join(n.Zones, ", "), n.Text, n.Source)
		}
	}
	b.WriteString("\n## Sources\n\n| of what | source | date |\n|---|---|---|\n")
	lists := map[string]Source{}
	for _, r := range c.Regions() {
		s := r.Offer.Source
		lists[s.Date] = s
	}
	for _, day := range slices.Sorted(maps.Keys(lists)) {
		var of []string
		for _, r := range c.Regions() {
			if r.Offer.Source == lists[day] {
				of = append(of, "`"+r.Name+"`")
			}
		}
		what := "types of " + strings.Join(of, ", ")
		if len(of) > len(c.Regions())/2 {
			what = "types of all other regions, classes of instances of all"
		}
		fmt.Fprintf(&b, "| %s | %s, %s | %s |\n", what, lists[day].Title, lists[day].URL, day)
	}
	for _, of := range slices.Sorted(maps.Keys(c.Sources())) {
		s := c.Sources()[of]
		fmt.Fprintf(&b, "| %s | %s, %s | %s |\n", of, s.Title, s.URL, s.Date)
	}
	return b.String() + "\n"
}
