package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"dhow/internal/cutover"
	"dhow/internal/move"
	"dhow/internal/voyage"
)

func (a *app) finishCommand() *cobra.Command {
	var abandon, yes bool
	cmd := &cobra.Command{
		Use:   "finish",
		Short: "Remove everything that the move left behind, on both sides",
		Long: `Removes every slot, publication, trigger, replication, key, user and schema of the
move, on both sides; each engine has its own of them. The side that serves goes on
serving; the way back closes, for what is written from now on is not carried back.
The rows themselves are not touched: the old side keeps what it has, and takes
writes again.

Before the cutover, or after a rollback, the source serves, and finishing gives the
copy up: that needs --abandon. A running dhow replicate is ended first.`,
		Example: `  # after the cutover, when nobody will want to go back
  dhow finish

  # give a move up before the cutover
  dhow finish --abandon`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.finish(cmd.Context(), abandon, yes) },
	}
	cmd.Flags().BoolVar(&abandon, "abandon", false, "give the move up although the source still serves")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) finish(ctx context.Context, abandon, yes bool) error {
	if err := a.mayAsk("finish", yes); err != nil {
		return err
	}
	v, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer v.Close(ctx)
	serving, err := finishable(ctx, v, abandon)
	if err != nil {
		return err
	}
	if !yes {
		question := "close the way back, and remove what the move left behind?"
		if serving == cutover.Source {
			question = "give the move up, and remove what it left behind?"
		}
		if err := a.confirm(ctx, question); err != nil {
			return err
		}
	}
	lock, _, err := v.TakeOver(ctx, "finish")
	if err != nil {
		return err
	}
	defer lock.Release()
	// What ran until now may have changed where the move stands.
	if serving, err = finishable(ctx, v, abandon); err != nil {
		return err
	}
	before, err := v.Leftovers(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, mv := range v.Movers {
		if err := mv.Finish(ctx); err != nil {
			failed = append(failed, fmt.Errorf("database %s: %w", mv.Name(), err))
		}
	}
	after, err := v.Leftovers(context.WithoutCancel(ctx))
	failed = append(failed, err)
	removed := slices.DeleteFunc(before, func(l voyage.Leftover) bool { return err != nil || slices.Contains(after, l) })
	return errors.Join(append(failed, a.printRemoved(serving, removed, errors.Join(failed...) == nil))...)
}

// finishable says which side serves, and refuses what would be a mistake.
func finishable(ctx context.Context, v *voyage.Voyage, abandon bool) (cutover.Side, error) {
	last, err := v.LastRun(ctx)
	if err != nil {
		return "", err
	}
	if last != nil && last.Outcome == "" {
		if pid := underWay(v, last); pid != 0 {
			return "", &move.Refused{Reason: fmt.Sprintf("a run to the %s is under way in process %d", last.To, pid), Fix: "wait for its end, then finish"}
		}
		return "", &move.Refused{Reason: fmt.Sprintf("a run to the %s was cut off at step %q", last.To, last.Last), Fix: fmt.Sprintf("run `dhow %s` again, it ends in a safe state; then finish", command(last.To))}
	}
	serving, states, err := cutover.Where(ctx, v.Movers)
	if err != nil {
		return "", err
	}
	for i, s := range states {
		// A database without a started move has nothing to lose: that is also what a
		// finish that was cut off leaves.
		if s.Started && !s.Open && !abandon {
			return "", &move.Refused{Reason: fmt.Sprintf("the source still serves database %s: finishing now throws the copy away", v.Movers[i].Name()), Fix: "run `dhow cutover` first, or give the move up with `dhow finish --abandon`"}
		}
	}
	return serving, nil
}

func (a *app) printRemoved(serving cutover.Side, removed []voyage.Leftover, whole bool) error {
	if a.json() {
		if removed == nil {
			removed = []voyage.Leftover{}
		}
		return a.printJSON(struct {
			Serving cutover.Side      `json:"serving"`
			Removed []voyage.Leftover `json:"removed"`
		}{serving, removed})
	}
	t := &table{head: []string{"DATABASE", "SIDE", "REMOVED"}}
	for _, at := range places(removed) {
		fenced := map[string]bool{}
		for _, l := range removed {
			switch {
			case l.Database != at[0] || string(l.Side) != at[1]:
			case l.Kind == "trigger": // on each table: their number says enough
				fenced[l.Name] = true
			default:
				t.add(plain(at[0]), plain(at[1]), plain(l.Kind+" "+l.Name))
			}
		}
		if len(fenced) > 0 {
			t.add(plain(at[0]), plain(at[1]), plain("the fence's triggers of "+counted(int64(len(fenced)), "table")))
		}
	}
	if len(t.rows) > 0 {
		if err := a.printTable(t); err != nil {
			return err
		}
	}
	switch {
	case !whole:
	case len(removed) == 0:
		a.printf("nothing of a move was there")
	case serving == cutover.Source:
		a.printf("%s; the source goes on, and the target keeps the rows that were copied: empty it before another move", a.out.green("given up"))
	default:
		a.printf("%s; the target serves", a.out.green("finished"))
	}
	return nil
}

// places are the databases and sides of what was removed, in order.
func places(removed []voyage.Leftover) [][2]string {
	all := map[[2]string]bool{}
	for _, l := range removed {
		all[[2]string{l.Database, string(l.Side)}] = true
	}
	return slices.SortedFunc(maps.Keys(all), func(x, y [2]string) int { return slices.Compare(x[:], y[:]) })
}
