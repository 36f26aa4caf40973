package price

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Text is the list as a file that Load takes, sorted: the same list has the same text.
func (l *List) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "date: %q\n", l.Date)
	for _, k := range []struct{ key, value string }{{"currency", l.Currency}, {"base", l.Base}} {
		if k.value != "" {
			fmt.Fprintf(&b, "%s: %s\n", k.key, k.value)
		}
	}
	if l.Hours != 0 {
		fmt.Fprintf(&b, "hours: %d\n", l.Hours)
	}
	if l.other != 0 {
		fmt.Fprintf(&b, "other: %q\n", l.other)
	}
	b.WriteString("sources:\n")
	for _, name := range slices.Sorted(maps.Keys(l.sources)) {
		s := l.sources[name]
		fmt.Fprintf(&b, "  %s:\n    title: %s\n", strconv.Quote(name), strconv.Quote(s.Title))
		if s.URL != "" {
			fmt.Fprintf(&b, "    url: %s\n", strconv.Quote(s.URL))
		}
		fmt.Fprintf(&b, "    date: %q\n", s.Date)
		if s.Estimate {
			b.WriteString("    estimate: true\n")
		}
	}
	if len(l.factors) > 0 {
		b.WriteString("factors:\n")
		for _, region := range slices.Sorted(maps.Keys(l.factors)) {
			f := l.factors[region]
			fmt.Fprintf(&b, "  %s: {times: %q, source: %s}\n", region, f.of, strconv.Quote(f.source))
		}
	}
	if len(l.commitments) > 0 {
		b.WriteString("commitments:\n")
		for _, years := range slices.Sorted(maps.Keys(l.commitments)) {
			c := l.commitments[years]
			fmt.Fprintf(&b, "  %d: {compute: %d, data: %d, source: %s}\n", years, c.compute, c.data, strconv.Quote(c.source))
		}
	}
	b.WriteString("prices:\n")
	for _, code := range l.Codes() {
		e := l.prices[code]
		if e.everywhere != nil {
			fmt.Fprintf(&b, "- {of: %s, per: %q, source: %s, everywhere: %q}\n", code, e.per, strconv.Quote(e.everywhere.source), e.everywhere.rate)
		}
		// One entry for each source, with the regions that it gives.
		by := map[string][]string{}
		for region, r := range e.regions {
			by[r.source] = append(by[r.source], region)
		}
		for _, source := range slices.Sorted(maps.Keys(by)) {
			fmt.Fprintf(&b, "- of: %s\n  per: %q\n  source: %s\n  regions:\n", code, e.per, strconv.Quote(source))
			slices.Sort(by[source])
			for _, region := range by[source] {
				fmt.Fprintf(&b, "    %s: %q\n", region, e.regions[region].rate)
			}
		}
	}
	return b.Bytes()
}
