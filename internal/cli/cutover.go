package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dhow/internal/cutover"
	"dhow/internal/move"
)

// moveFlags are those of the commands that move the traffic.
type moveFlags struct {
	dryRun, yes, stay, noVerify bool
	// schedule is when the traffic moves; nil means as soon as all is ready.
	schedule *schedule
}

func (f *moveFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "do all that nobody notices, print the predicted stall, and stop before the fence")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&f.noVerify, "no-verify", false, "do not compare both sides before, and move although rows may differ")
	cmd.Flags().BoolVar(&f.stay, "stay", false, "go on streaming back until Ctrl-C, so that the way back stays fresh")
}

// check refuses flags that do not go together.
func (f *moveFlags) check(to cutover.Side) error {
	if f.dryRun && f.stay {
		return &usageError{text: "--dry-run moves nothing, so there is no way back to stay for: give one of --dry-run and --stay", see: "dhow " + command(to)}
	}
	return nil
}

func (a *app) cutoverCommand() *cobra.Command {
	var f moveFlags
	var w whenFlags
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
state folder.

With --at auto it finds the quietest moment of the days ahead in the history of
requests, waits for it, and starts only if all is well then; with --at it waits for
a time that you name. The streams go on meanwhile.`,
		Example: `  # what would happen, and how long requests would be held
  dhow cutover --dry-run

  # in a pipeline
  dhow cutover --yes -o json

  # keep the way back fresh from the first moment
  dhow cutover --stay

  # when would the fewest requests be held?
  dhow cutover --at auto --history /var/log/nginx --dry-run

  # wait for that moment
  dhow cutover --at auto --history http://prometheus:9090 --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.cutoverWhen(cmd.Context(), cmd, f, w) },
	}
	f.add(cmd)
	w.add(cmd)
	return cmd
}

// moveTraffic moves the traffic to a side: the cutover, and the rollback.
func (a *app) moveTraffic(ctx context.Context, to cutover.Side, f moveFlags) error {
	if err := f.check(to); err != nil {
		return err
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
	cfg.Verify = cfg.Verify && !f.noVerify
	switch {
	case f.schedule != nil:
		r.schedule = f.schedule
		cfg.Confirm = func(ctx context.Context, predicted time.Duration) error {
			return a.atItsMoment(ctx, f.schedule, predicted)
		}
	case !f.yes && !f.dryRun:
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
	_, streamed := a.stream(ctx, v, to.Other(), streaming{copied: true})
	return errors.Join(err, streamed)
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
	schedule *schedule
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
		r.app.log.Info("cutover", "step", string(e.Step), "took", e.Took, "slowest", e.Slowest.Database, "text", e.Text)
	case e.Step != "":
		r.app.printf("%s", strings.TrimRight(fmt.Sprintf("%s  %-9s %10s  %s", e.At.Format(clockMillis), e.Step, took(e.Took), e.Slowest.Database), " "))
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
			Budget   time.Duration `json:"budget_ns"`
			Schedule *schedule     `json:"schedule,omitempty"`
			Report   string        `json:"report,omitempty"`
			// OverBudget says that it was refused or undone for its stall alone.
			OverBudget bool   `json:"over_budget,omitempty"`
			Error      string `json:"error,omitempty"`
		}{r.id, r.result, r.budget, r.schedule, r.report, errors.Is(err, cutover.ErrOverBudget), text}))
	}
	if r.result.Outcome == cutover.Done {
		if err := a.printProof("compared as it stood at the cutover", r.to, r.result.Compared); err != nil {
			return err
		}
		a.printMoving(r.result.Moving)
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
