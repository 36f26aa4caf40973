package cutover

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"dhow/internal/move"
)

// differsBefore is the error of a cutover that may not begin, because rows differ.
func differsBefore(all map[string]move.Comparison) error {
	what := whatDiffers(all)
	if what == "" {
		return nil
	}
	return fmt.Errorf("%w in %s: nothing was held; look with `dhow verify`, mend with `dhow verify --repair`", ErrDiffers, what)
}

// differsBehind is the alarm of a run that has arrived, though rows differ. From
// here on `dhow verify` compares the other way, so it is no remedy: it would carry
// the new side's rows to the old one. A rollback finds once more what made it go back.
func differsBehind(all map[string]move.Comparison, to Side) error {
	what := whatDiffers(all)
	if what == "" {
		return nil
	}
	if to == Source {
		return fmt.Errorf("%w in %s: the source serves, and the report names every row; where the rollback was for such rows, the source's are right: `dhow verify --repair` makes the target equal; "+
			"else the target's are right: `dhow cutover --no-verify` goes there again, and `dhow verify --repair` must not run before", ErrDiffers, what)
	}
	return fmt.Errorf("%w in %s: the target serves, and the report names every row; run `dhow rollback --no-verify` to go back, where the rows are right and the writes since then follow, "+
		"and do not run `dhow verify --repair` before, for it would now mend the source after the target; then `dhow verify --repair` and `dhow cutover` again", ErrDiffers, what)
}

// whatDiffers says how many rows differ, of which databases, and which is the
// first; empty where none does.
func whatDiffers(all map[string]move.Comparison) string {
	var rows int64
	var parts []string
	first := ""
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		if c.Different == 0 {
			continue
		}
		rows += c.Different
		parts = append(parts, fmt.Sprintf("%d of %s", c.Different, name))
		for _, d := range c.Differences {
			if at := fmt.Sprintf("%s: %s %s (%s)", name, d.Table, d.Key, d.Kind); first == "" || at < first {
				first = at
			}
		}
	}
	if rows == 0 {
		return ""
	}
	text := fmt.Sprintf("%d rows or keys (%s)", rows, strings.Join(parts, ", "))
	if first != "" {
		text += ", the first is " + first
	}
	return text
}
