package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"dhow/internal/move"
)

// stamped prints a line with the time in front; a reader that is gone stops nothing.
func stamped(w io.Writer, at time.Time, format string, args ...any) {
	_, _ = fmt.Fprintf(w, at.Format(clock)+"  "+format+"\n", args...)
}

// printJSON prints a result for programs.
func (a *app) printJSON(v any) error {
	out := json.NewEncoder(a.Out)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(v); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// printf prints a line on the output, above a live view.
func (a *app) printf(format string, args ...any) { a.screen.printf(format, args...) }

func names(movers []move.Mover) []string {
	list := make([]string, len(movers))
	for i, m := range movers {
		list[i] = m.Name()
	}
	return list
}

// printTable prints a table on the output.
func (a *app) printTable(t *table) error {
	var b strings.Builder
	if err := t.write(&b, a.out, width(a.Out)); err != nil {
		return err
	}
	a.printf("%s", strings.TrimSuffix(b.String(), "\n"))
	return nil
}
