package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"dhow/internal/estate"
	"dhow/internal/move"
	"dhow/internal/voyage"
)

func (a *app) preflightCommand() *cobra.Command {
	var databases []string
	cmd := &cobra.Command{
		Use:   "preflight",
		Short: "Find what would stop the move or lose data, and the statement that mends it",
		Long: `Looks at both sides of every database for all that would lose data, stop the
move or slow it down: settings, rights, tables without a key, objects that do not
move, commands that a server refuses. Each finding names its object, says what would
happen, and gives the statement that mends it. Nothing is changed, and the
application is not disturbed.

Exits with 1 when something must be mended before the move (severity error).`,
		Example: `  dhow preflight

  # the fixes that must be made, each as its engine takes it
  dhow preflight -o json | jq -r '.databases[].issues[] | select(.severity == "error") | .fix'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.preflight(cmd.Context(), databases) },
	}
	a.databaseFlag(cmd, &databases)
	return cmd
}

// inspected is what preflight found in one database.
type inspected struct {
	Database string        `json:"database"`
	Engine   estate.Engine `json:"engine"`
	Issues   []move.Issue  `json:"issues"`
	// Error is why it could not be inspected whole.
	Error string `json:"error,omitempty"`

	err error
}

func (a *app) preflight(ctx context.Context, databases []string) error {
	v, err := a.open(ctx, databases...)
	if err != nil {
		return err
	}
	defer v.Close(ctx)
	found := inspect(ctx, v)
	loses, warns := 0, 0
	var failed []error
	for _, f := range found {
		failed = append(failed, f.err)
		for _, i := range f.Issues {
			if i.Severity == move.Loses {
				loses++
			} else {
				warns++
			}
		}
	}
	if a.json() {
		err = a.printJSON(struct {
			Databases []inspected `json:"databases"`
			Errors    int         `json:"errors"`
			Warnings  int         `json:"warnings"`
		}{found, loses, warns})
	} else {
		err = a.printIssues(found, loses, warns)
	}
	if err := errors.Join(append(failed, err)...); err != nil {
		return err
	}
	if loses > 0 {
		return &exitError{"preflight found errors"}
	}
	return nil
}

// inspect lets every mover look, side by side.
func inspect(ctx context.Context, v *voyage.Voyage) []inspected {
	found := make([]inspected, len(v.Movers))
	var wg sync.WaitGroup
	for i, mv := range v.Movers {
		wg.Go(func() {
			issues, err := mv.Preflight(ctx)
			found[i] = inspected{Database: mv.Name(), Engine: v.Engine(mv.Name()), Issues: issues}
			if issues == nil {
				found[i].Issues = []move.Issue{}
			}
			if err != nil {
				found[i].err = fmt.Errorf("database %s: %w", mv.Name(), err)
				found[i].Error = err.Error()
			}
		})
	}
	wg.Wait()
	return found
}

// printIssues prints a block for each issue: what it is in columns, then what
// would happen, then the fix on lines that can be copied whole.
func (a *app) printIssues(found []inspected, loses, warns int) error {
	for _, f := range found {
		if len(f.Issues) == 0 {
			continue
		}
		t := &table{head: []string{"SEVERITY", "RULE", "SIDE", "OBJECT"}}
		for _, i := range f.Issues {
			paint := a.out.yellow
			if i.Severity == move.Loses {
				paint = a.out.red
			}
			t.add(cell{text: string(i.Severity), paint: paint}, plain(i.Rule), plain(i.Side), plain(i.Object))
		}
		a.printf("%s", a.out.bold(fmt.Sprintf("database %s (%s)", f.Database, f.Engine)))
		var columns strings.Builder
		if err := t.write(&columns, a.out, 0); err != nil {
			return err
		}
		head, blocks, _ := strings.Cut(columns.String(), "\n")
		a.printf("%s", head)
		for i, line := range strings.Split(strings.TrimSuffix(blocks, "\n"), "\n") {
			a.printf("%s", line)
			a.indented("", f.Issues[i].Consequence)
			if f.Issues[i].Fix != "" {
				a.indentedWhole("fix: ", f.Issues[i].Fix)
			}
		}
		a.printf("")
	}
	databases := counted(int64(len(found)), "database")
	switch {
	case loses > 0:
		a.printf("%s and %s in %s: the errors must be mended before the move", a.out.red(counted(int64(loses), "error")), counted(int64(warns), "warning"), databases)
	case warns > 0:
		a.printf("%s in %s: nothing stands in the way of the move", a.out.yellow(counted(int64(warns), "warning")), databases)
	default:
		a.printf("%s: %s", databases, a.out.green("nothing stands in the way of the move"))
	}
	return nil
}

const (
	// indent stands in front of what explains the line above it.
	indent = "    "
	// readable is the width of sentences where there is no terminal, and the
	// widest on one that is wider, in characters.
	readable = 100
)

// indented prints sentences, wrapped, below a line.
func (a *app) indented(label, text string) {
	w := readable
	if have := width(a.Out); have > 0 {
		w = min(w, have)
	}
	for i, line := range wrapped(text, max(narrowest, w-len(indent)-len(label))) {
		if i > 0 {
			label = strings.Repeat(" ", len(label))
		}
		a.printf("%s%s%s", indent, label, line)
	}
}

// indentedWhole prints lines as they are: a statement is copied whole.
func (a *app) indentedWhole(label, text string) {
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		a.printf("%s%s%s", indent, label, line)
		label = strings.Repeat(" ", len(label))
	}
}
