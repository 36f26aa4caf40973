package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/internal/move"
	"dhow/internal/voyage"
)

func (a *app) verifyCommand() *cobra.Command {
	var o move.VerifyOptions
	var databases []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare both sides row by row, while they move, and name what differs",
		Long: `Compares every table of both sides, chunk by chunk, inside the servers and while
the application writes; of Redis every key, by its value and its expiry. What seems
to differ is looked at again after the stream has passed, so what is reported is
really different. Each such row or key is named. With --repair those of the target
are made equal to the source's.

Runs beside dhow replicate; where none runs, it streams by itself for as long as
it takes. Once the traffic has moved it compares the way back.

Exits with 1 when anything differs that was not repaired.`,
		Example: `  dhow verify

  # mend what differs, and name at most ten rows of each table
  dhow verify --repair --most 10

  # one table alone
  dhow verify --database accounts --table public.entries

  # one database of a Redis server
  dhow verify --database sessions --table db0

  # the keys of all differing rows
  dhow verify -o json | jq -r '.databases[].differences[] | "\(.table) \(.key)"'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Most < 1 {
				return &usageError{text: fmt.Sprintf("--most is %d: at least one row has to be named", o.Most), see: cmd.CommandPath()}
			}
			return a.verify(cmd.Context(), databases, o)
		},
	}
	a.databaseFlag(cmd, &databases)
	a.tableFlag(cmd, &o.Tables, &databases)
	cmd.Flags().BoolVar(&o.Repair, "repair", false, "make differing rows of the target equal to the source's")
	cmd.Flags().IntVar(&o.Most, "most", move.DefaultMostDifferences, "name at most so many differing rows of each table")
	return cmd
}

// compared is what verify found in one database.
type compared struct {
	Database string        `json:"database"`
	Engine   estate.Engine `json:"engine"`
	move.Comparison
	// Repaired counts the rows that were made equal.
	Repaired int64 `json:"repaired"`
	// Error is why the comparison did not come to its end.
	Error string `json:"error,omitempty"`

	err error
}

// remaining is how many rows still differ.
func (c compared) remaining() int64 { return c.Different - c.Repaired }

func (a *app) verify(ctx context.Context, databases []string, o move.VerifyOptions) error {
	v, err := a.open(ctx, databases...)
	if err != nil {
		return err
	}
	defer v.Close(ctx)
	if len(o.Tables) > 0 && len(v.Movers) > 1 {
		return &usageError{text: "--table needs --database, because the estate has several: " + strings.Join(names(v.Movers), ", "), see: "dhow verify"}
	}
	lock, err := lockBeside(ctx, v)
	if err != nil {
		return err
	}
	if lock != nil {
		defer lock.Release()
	}
	serving, _, err := cutover.Where(ctx, v.Movers)
	if err != nil {
		return err
	}
	movers, _ := v.Toward(serving.Other())
	rep := a.newReporter(ctx, names(movers), a.screen.errors(), false)
	found := make([]compared, len(movers))
	for i, mv := range movers { // one after the other: a comparison takes what it gets of both servers
		began := time.Now()
		c, err := mv.Verify(ctx, o, rep.report)
		c.Took = time.Since(began)
		if c.Differences == nil {
			c.Differences = []move.Difference{}
		}
		found[i] = compared{Database: mv.Name(), Engine: a.engineOf(mv.Name()), Comparison: c, Repaired: c.Repaired}
		if err != nil {
			found[i].err, found[i].Error = fmt.Errorf("compare database %s: %w", mv.Name(), err), err.Error()
		}
		if ctx.Err() != nil {
			found = found[:i+1]
			break
		}
	}
	rep.close(false)
	return a.printCompared(serving.Other(), found)
}

// lockBeside takes the estate's lock, so that no move begins during the
// comparison; a running `dhow replicate` keeps it, and is no hindrance.
func lockBeside(ctx context.Context, v *voyage.Voyage) (*cutover.Lock, error) {
	lock, err := v.Lock("verify")
	if !errors.Is(err, cutover.ErrLocked) {
		return lock, err
	}
	if _, asked := v.Running().Status(ctx); asked != nil {
		return nil, err
	}
	return nil, nil
}

// printCompared prints what was found when the rows of the side that does not
// serve were compared with those of the side that does.
func (a *app) printCompared(to cutover.Side, found []compared) error {
	var remaining int64
	var failed []error
	for _, f := range found {
		remaining += f.remaining()
		failed = append(failed, f.err)
	}
	if a.json() {
		failed = append(failed, a.printJSON(struct {
			To        cutover.Side `json:"to"`
			Databases []compared   `json:"databases"`
			Different int64        `json:"different"`
		}{to, found, remaining}))
	} else {
		failed = append(failed, a.printComparisons(to, found, remaining))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if remaining > 0 {
		return &exitError{"the two sides differ"}
	}
	return nil
}

func (a *app) printComparisons(to cutover.Side, found []compared, remaining int64) error {
	t := &table{head: []string{"DATABASE", "ENGINE", "TABLES", "COMPARED", "DIFFERENT", "REPAIRED", "TOOK"}}
	var undecided int64
	for _, f := range found {
		paint := a.out.green
		if f.remaining() > 0 {
			paint = a.out.red
		}
		t.add(plain(f.Database), plain(string(f.Engine)), number(rows(int64(f.Tables))), number(counted(f.Rows, noun(f.Engine))), cell{text: rows(f.Different), paint: paint, right: true}, number(rows(f.Repaired)), number(took(f.Took)))
		undecided += f.Undecided
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	if err := a.printByTable(found); err != nil {
		return err
	}
	if err := a.printDifferences(to, found); err != nil {
		return err
	}
	if undecided > 0 {
		a.printf("%s changed too fast to be judged while they move; the proof of the cutover judges each", things(undecided, found))
	}
	if slices.ContainsFunc(found, func(c compared) bool { return c.err != nil }) {
		return nil // the error has the last word
	}
	if remaining == 0 {
		a.printf("%s", a.out.green("both sides are equal"))
	} else {
		a.printf("%s: %s", a.out.red(things(remaining, found)+" differ"), "`dhow verify --repair` makes the "+string(to)+" equal")
	}
	return nil
}

// printDifferences names the differing rows, by table.
func (a *app) printDifferences(to cutover.Side, found []compared) error {
	t := &table{head: []string{"DATABASE", "TABLE", "DIFFERENCE", "KEY"}}
	unnamed := int64(0)
	for _, f := range found {
		for _, d := range f.Differences {
			text, paint := differs(d.Kind, to), a.out.red
			if d.Repaired {
				text, paint = text+", repaired", a.out.yellow
			}
			t.add(plain(f.Database), plain(d.Table), cell{text: text, paint: paint}, plain(d.Key))
		}
		unnamed += f.Different - int64(len(f.Differences))
	}
	if len(t.rows) == 0 {
		return nil
	}
	a.printf("")
	if err := a.printTable(t); err != nil {
		return err
	}
	if unnamed > 0 {
		a.printf("and %s more, see --most", things(unnamed, found))
	}
	a.printf("")
	return nil
}

// differs says how a row differs, in words.
func differs(k move.Kind, to cutover.Side) string {
	switch k {
	case move.Missing:
		return "missing at the " + string(to)
	case move.Extra:
		return "only at the " + string(to)
	case move.Changed:
		return "other values"
	}
	return string(k)
}

// sortedKeys are a map's keys in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
