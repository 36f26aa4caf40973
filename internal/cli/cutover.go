package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dhow/internal/cutover"
	"dhow/internal/move"
)

// moveFlags are those of the commands that move the traffic.
type moveFlags struct {
	dryRun, yes, stay bool
}

func (f *moveFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "do all that nobody notices, print the predicted stall, and stop before the fence")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&f.stay, "stay", false, "go on streaming back until Ctrl-C, so that the way back stays fresh")
}

func (a *app) cutoverCommand() *cobra.Command {
	var f moveFlags
	cmd := &cobra.Command{
		Use:   "cutover",
		Short: "Move the traffic to the target, within the stall budget or not at all",
		Long: `Compares both sides, prepares, and predicts how long requests will be held. Then
the gate holds new requests, the sources are fenced, the targets take the last
change, and the held requests go on at the target. Over the stall budget, or when
anything fails before the point of no return, all is undone and the source goes on.
Afterwards every row is compared as it stood at the cutover.

A running dhow replicate hands the estate over by itself. Killed at any moment and
started again, the command ends in a safe state. A report is written into the
state folder.`,
		Example: `  # what would happen, and how long requests would be held
  dhow cutover --dry-run

  # in a pipeline
  dhow cutover --yes -o json

  # keep the way back fresh from the first moment
  dhow cutover --stay`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.moveTraffic(cmd.Context(), cutover.Target, f) },
	}
	f.add(cmd)
	return cmd
}

// moveTraffic moves the traffic to a side: the cutover, and the rollback.
func (a *app) moveTraffic(ctx context.Context, to cutover.Side, f moveFlags) error {
	if f.dryRun && f.stay {
		return &usageError{text: "--dry-run moves nothing, so there is no way back to stay for: give one of --dry-run and --stay", see: "dhow " + command(to)}
	}
	if !f.dryRun {
		if err := a.mayAsk(command(to), f.yes); err != nil {
			return err
		}
	}
	v, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer v.Close(ctx)
	lock, yielded, err := v.TakeOver(ctx, command(to))
	if err != nil {
		return err
	}
	defer lock.Release()
	if yielded && !a.json() {
		a.printf("`dhow replicate` has handed the estate over")
	}
	journal, err := v.Journal(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = journal.Close() }() // every step is on the disk already
	before, err := journal.Last(ctx)
	if err != nil {
		return err
	}
	r := &run{app: a, to: to, budget: v.Estate.Cutover.StallBudget, reporter: a.newReporter(ctx, names(v.Movers), a.Out, false)}
	cfg := v.Config(to, journal)
	cfg.Report, cfg.AfterStep = r.event, a.AfterStep
	if !f.yes && !f.dryRun {
		cfg.Confirm = func(ctx context.Context, predicted time.Duration) error {
			return a.confirm(ctx, fmt.Sprintf("hold the traffic for about %s and move it to the %s?", took(predicted), to))
		}
	}
	machine, err := cutover.New(cfg)
	if err != nil {
		return err
	}
	if f.dryRun {
		r.result, err = machine.Rehearse(ctx)
		listed(r.result.Before)
		r.reporter.close(false)
		err = a.printRehearsal(r, err)
		a.replicateAgain(yielded)
		return err
	}
	r.result, err = machine.Run(ctx)
	listed(r.result.Before)
	listed(r.result.Compared)
	r.reporter.close(false)
	err = errors.Join(err, r.writeReport(ctx, v, journal, before, err))
	err = a.printRun(r, err)
	if r.result.Outcome != cutover.Done {
		a.replicateAgain(yielded)
		return err
	}
	if !f.stay {
		if !a.json() {
			a.printf("the way back is open: `dhow replicate` keeps it fresh, `dhow %s` takes it", command(to.Other()))
		}
		return err
	}
	return errors.Join(err, a.stream(ctx, v, to.Other(), true, false))
}

// replicateAgain reminds of a replication that was stopped for a run that did
// not move the traffic.
func (a *app) replicateAgain(yielded bool) {
	if yielded && !a.json() {
		a.printf("`dhow replicate` was stopped for this: start it again, or the log that its stream needs piles up")
	}
}

// run is one run of the machine, as it is shown.
type run struct {
	app      *app
	to       cutover.Side
	budget   time.Duration
	reporter *reporter
	result   cutover.Result
	// id is the run's number in the journal; 0 when none was begun.
	id int64
	// report is the path of the report for programs, and readable the one for people.
	report, readable string
}

// event shows what happens as it happens.
func (r *run) event(e cutover.Event) {
	switch {
	case e.Progress != nil:
		r.reporter.report(*e.Progress)
	case r.app.json():
		r.app.log.Info("cutover", "step", string(e.Step), "took", e.Took, "text", e.Text)
	case e.Step != "":
		r.app.printf("%s  %-9s %10s", e.At.Format(clockMillis), e.Step, took(e.Took))
	default:
		r.app.printf("%s  %s", e.At.Format(clockMillis), e.Text)
	}
}

// clockMillis is the time in front of a step.
const clockMillis = "15:04:05.000"

// listed gives every comparison a list of differences, also where it is empty.
func listed(all map[string]move.Comparison) {
	for name, c := range all {
		if c.Differences == nil {
			c.Differences = []move.Difference{}
			all[name] = c
		}
	}
}

// printRehearsal prints what a cutover would come to.
func (a *app) printRehearsal(r *run, err error) error {
	if err != nil {
		return err
	}
	over := r.result.Predicted > r.budget
	if a.json() {
		err = a.printJSON(struct {
			To         cutover.Side               `json:"to"`
			DryRun     bool                       `json:"dry_run"`
			Predicted  time.Duration              `json:"predicted_ns"`
			Budget     time.Duration              `json:"budget_ns"`
			OverBudget bool                       `json:"over_budget"`
			Before     map[string]move.Comparison `json:"before,omitempty"`
		}{r.to, true, r.result.Predicted, r.budget, over, r.result.Before})
	} else {
		paint := a.out.green
		if over {
			paint = a.out.red
		}
		err = a.printProof("compared while both sides move", r.to, r.result.Before)
		a.printf("requests would be held for about %s, of the %s allowed", paint(took(r.result.Predicted)), r.budget)
		a.printf("nothing was held, fenced or moved")
	}
	if over {
		err = errors.Join(err, fmt.Errorf("%w: `dhow %s` would refuse: raise cutover.stall_budget, or lessen the load", cutover.ErrOverBudget, command(r.to)))
	}
	return err
}

// printRun prints what a run came to; err is why it did not succeed, if so.
func (a *app) printRun(r *run, err error) error {
	if a.json() {
		text := ""
		if err != nil {
			text = err.Error()
		}
		return errors.Join(err, a.printJSON(struct {
			Run int64 `json:"run,omitempty"`
			cutover.Result
			Budget time.Duration `json:"budget_ns"`
			Report string        `json:"report,omitempty"`
			Error  string        `json:"error,omitempty"`
		}{r.id, r.result, r.budget, r.report, text}))
	}
	if r.result.Outcome == cutover.Done {
		if err := a.printProof("compared as it stood at the cutover", r.to, r.result.Compared); err != nil {
			return err
		}
		a.printf("%s", a.out.green(fmt.Sprintf("the %s serves", r.to)))
		if !r.result.HeldAt.IsZero() {
			a.printf("requests were held for %s (%s predicted, %s allowed)", took(r.result.Stall), took(r.result.Predicted), r.budget)
		}
	} else if !r.result.HeldAt.IsZero() {
		a.printf("requests were held for %s before the run was given up", took(r.result.Stall))
	}
	if r.report != "" {
		a.printf("report: %s", r.readable)
	}
	return err
}

// printProof prints a comparison of a run; nothing where there was none.
func (a *app) printProof(title string, to cutover.Side, all map[string]move.Comparison) error {
	if len(all) == 0 {
		return nil
	}
	a.printf("%s:", title)
	found := make([]compared, 0, len(all))
	for _, name := range sortedKeys(all) {
		found = append(found, compared{Database: name, Comparison: all[name]})
	}
	t := &table{head: []string{"DATABASE", "TABLES", "ROWS COMPARED", "DIFFERENT"}}
	for _, f := range found {
		paint := a.out.green
		if f.Different > 0 {
			paint = a.out.red
		}
		t.add(plain(f.Database), number(rows(int64(f.Tables))), number(rows(f.Rows)), cell{text: rows(f.Different), paint: paint, right: true})
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	return a.printDifferences(to, found)
}
