package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"

	"dhow/internal/cutover"
	"dhow/internal/dr"
	"dhow/internal/landing"
	"dhow/internal/region"
)

// drLock keeps two runs from working with the same state.
const drLock = "dr.lock"

// drFlags are what all of dr's commands have.
type drFlags struct {
	stacks string
	yes    bool
}

func (f *drFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.stacks, "stacks", "", "a `folder` of templates of one's own, laid over dhow's")
}

func (f *drFlags) addYes(cmd *cobra.Command) {
	f.add(cmd)
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
}

func (a *app) drCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dr",
		Short: "Say what a lost region would cost, try it, and fall back to another",
		Long: `For the day that main's region is gone: what would be lost, how long it would take,
a drill that measures it, the way over to the region for disaster recovery, and back.

Credentials and endpoints come from the environment, as for every AWS tool.`,
		Example: `  # what would be lost now, and how long it would take
  dhow dr status

  # try what can be tried, without a change in main
  dhow dr drill`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.drStatusCommand(), a.drDrillCommand(), a.drFailoverCommand(), a.drFailbackCommand())
	return cmd
}

// openDR is the application's two sides. What it returns last lets go of the state.
func (a *app) openDR(ctx context.Context, what string, f drFlags) (*dr.DR, func(), error) {
	e, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	regions, err := region.Load()
	if err != nil {
		return nil, nil, err
	}
	g, err := a.graph(e, regions, f.stacks)
	if err != nil {
		return nil, nil, err
	}
	externalID, err := e.Landing.Role.ExternalID.Resolve(ctx)
	if err != nil {
		return nil, nil, err
	}
	aws, err := config.LoadDefaultConfig(ctx, config.WithDefaultRegion(e.Landing.Regions.DR))
	if err != nil {
		return nil, nil, fmt.Errorf("read the configuration of AWS: %w", err)
	}
	release := func() {}
	if what != "" { // who only reads may do so while another works
		lock, err := cutover.TakeLock(filepath.Join(e.State, drLock), "dr "+what)
		if err != nil {
			return nil, nil, err
		}
		release = lock.Release
	}
	d, err := dr.New(dr.Options{Graph: g, State: e.State, AWS: aws, ExternalID: externalID, Report: a.drStep, Stacks: func(e landing.Event) {
		a.log.Info("stack", "stack", e.Stack, "resource", e.Resource, "status", e.Status, "reason", e.Reason)
	}})
	if err != nil {
		release()
		return nil, nil, err
	}
	return d, release, nil
}

// drStep prints a step that has ended.
func (a *app) drStep(t dr.Timing) {
	if a.json() {
		return
	}
	mark := a.out.green("done")
	if !t.Done {
		mark = a.out.red("failed")
	}
	a.printf("%s  %-9s %10s  %s  %s", t.Began.Local().Format(clock), t.Step, took(t.Took), mark, t.Text)
}

func (a *app) drStatusCommand() *cobra.Command {
	var f drFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what would be lost with main now, how long it would take, and what dr lacks",
		Long: `Reads dr's stacks, how far its replicas are behind, and the copies in its vault, and
says what would be lost if main were gone now (RPO), how long the way over would take
by the last drill (RTO), where users go, and what dr lacks. Main is not asked.`,
		Example: `  dhow dr status

  # for programs
  dhow dr status -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, release, err := a.openDR(cmd.Context(), "", f)
			if err != nil {
				return err
			}
			defer release()
			st, err := d.Status(cmd.Context())
			if err != nil {
				return err
			}
			return a.printDRStatus(st)
		},
	}
	f.add(cmd)
	return cmd
}

// printDRStatus ends with a failure where a failover would fail.
func (a *app) printDRStatus(st *dr.Status) error {
	grave := 0
	for _, l := range st.Lacks {
		if l.Severity == dr.SeverityError {
			grave++
		}
	}
	why := error(nil)
	if grave > 0 {
		why = &exitError{"dr is not as it should be"}
	}
	if a.json() {
		return errors.Join(a.printJSON(st), why)
	}
	a.printf("%s", a.out.bold(fmt.Sprintf("users of %s go to %s (main %s, dr %s)", st.Application, st.Side, st.MainRegion, st.DRRegion)))
	t := &table{head: []string{"STORE", "WAY", "IN DR", "STATE", "BEHIND", "COPY", "LOST NOW"}}
	for _, s := range st.Stores {
		copied := ""
		if !s.Copied.IsZero() {
			copied = s.Copied.UTC().Format(time.RFC3339)
		}
		lost := ""
		switch s.Way {
		case dr.WayNone:
			lost = "all"
		case dr.WayReplica, dr.WayCopy:
			lost = spanOr(s.Lost, "unknown")
		}
		t.add(plain(s.Store), plain(s.Way), plain(s.Name), plain(s.State), number(spanOr(s.Lag, "")), plain(copied), number(lost))
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	if st.Side == dr.SideMain {
		a.printf("would be lost now (RPO): %s", spanOr(st.RPO, "nobody knows"))
	}
	a.printEstimate(st.RTO)
	if d := st.Drill; d != nil {
		a.printDrill(d)
	}
	for _, l := range st.Lacks {
		paint := a.out.yellow
		if l.Severity == dr.SeverityError {
			paint = a.out.red
		}
		a.printf("%s %s %s", paint(l.Severity), l.Where, l.Text)
		a.printf("  %s %s", a.out.bold("next:"), l.Fix)
	}
	return why
}

// printDrill prints what the last drill has measured, or that it failed.
func (a *app) printDrill(d *dr.Drill) {
	if !d.Passed {
		a.printf("the last drill, of %s, %s", d.Began.UTC().Format(time.RFC3339), a.out.red("did not pass"))
		return
	}
	rto := "nobody knows"
	if d.RTO != nil {
		rto = took(d.RTO.Took)
	}
	a.printf("the last drill, of %s, measured: would be lost (RPO) %s, would take (RTO) %s", d.Began.UTC().Format(time.RFC3339), spanOr(d.RPO, "nobody knows"), rto)
}

func (a *app) printEstimate(e *dr.Estimate) {
	if e == nil {
		a.printf("would take (RTO): nobody knows before a drill")
		return
	}
	assumed := ""
	for _, part := range e.Assumed {
		assumed += ", " + part + " assumed"
	}
	a.printf("would take (RTO): %s: promotion %s, scaling %s, switching %s, by the drill of %s%s", took(e.Took), took(e.Promotion), took(e.Scaling), took(e.Switching), e.Measured.UTC().Format(time.RFC3339), assumed)
}

// spanOr is a time as a person reads it, or a word where there is none.
func spanOr(d *time.Duration, none string) string {
	if d == nil {
		return none
	}
	return took(*d)
}

func (a *app) drDrillCommand() *cobra.Command {
	var f drFlags
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Try the way over to dr as far as that changes nothing in main, and measure it",
		Long: `Looks whether every replica works and follows, lets CloudFormation say what the switch
would change, brings dr to main's size, and puts it back. Nothing in main is changed,
nothing promoted, nobody turned over. Killed, the next drill puts back what it left.`,
		Example: `  dhow dr drill

  # each month, by a scheduler
  dhow dr drill --yes -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := a.mayAsk("dr drill", f.yes); err != nil {
				return err
			}
			d, release, err := a.openDR(ctx, "drill", f)
			if err != nil {
				return err
			}
			defer release()
			if !f.yes {
				if err := a.confirm(ctx, "Bring dr to main's size for the drill, which costs while it lasts?"); err != nil {
					return err
				}
			}
			drill, err := d.Drill(ctx)
			if drill == nil {
				return err
			}
			if a.json() {
				return errors.Join(err, a.printJSON(drill))
			}
			if err != nil {
				return err
			}
			a.printf("%s", a.out.green("the drill has passed"))
			a.printf("would be lost (RPO): %s", spanOr(drill.RPO, "nobody knows"))
			a.printEstimate(drill.RTO)
			return nil
		},
	}
	f.addYes(cmd)
	return cmd
}

func (a *app) drFailoverCommand() *cobra.Command {
	var f drFlags
	var reason, loss string
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Turn the users over to dr: lock main, promote the replicas, scale up, switch",
		Long: `Locks main where it answers, waits for the replicas, promotes them, gives dr main's
size, and turns the users over. Before the first promotion a failure is undone; after
it there is no way back but ` + "`dhow dr failback`" + `. Killed, the same command goes on.

A healthy main is left only for a reason, which is kept. Writes that main has
acknowledged are lost only where that is accepted: where main does not answer or can not
be locked, or a replica does not catch up, it says what is lost at most, and asks; with
--yes it is refused, or undone, unless --accept-loss says why.`,
		Example: `  # main's region is gone: what is lost is said, and confirmed
  dhow dr failover

  # the same, where nobody can be asked
  dhow dr failover --yes --accept-loss "the region is gone, decided by the board"

  # main works, and is to be left all the same
  dhow dr failover --force "the region is to be evacuated until noon" --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.mayAsk("dr failover", f.yes); err != nil {
				return err
			}
			d, release, err := a.openDR(cmd.Context(), "failover", f)
			if err != nil {
				return err
			}
			defer release()
			run, err := d.Failover(cmd.Context(), dr.FailoverOptions{Reason: reason, Loss: loss, Confirm: a.askFailover(f.yes, loss)})
			switch {
			case errors.Is(err, dr.ErrHealthy):
				err = fmt.Errorf("%w: if it is to be left all the same, say why with --force REASON", err)
			case errors.Is(err, dr.ErrLoss):
				err = fmt.Errorf("%w: if that is accepted, say why with --accept-loss REASON", err)
			}
			return a.printDRRun(run, err)
		},
	}
	f.addYes(cmd)
	cmd.Flags().StringVar(&reason, "force", "", "leave a healthy main, for this `reason`")
	cmd.Flags().StringVar(&loss, "accept-loss", "", "go on although writes of main are lost, for this `reason`")
	return cmd
}

// askFailover says what a failover costs, and asks; nil with yes, which accepts no loss.
func (a *app) askFailover(yes bool, accepted string) func(context.Context, dr.Question) error {
	if yes {
		return nil
	}
	return func(ctx context.Context, q dr.Question) error {
		a.printFailover(q, accepted)
		question := "Promote the replicas and turn the users over to " + q.Status.DRRegion + "?"
		if q.Loss != "" {
			question = "Accept that loss, promote the replicas and turn the users over to " + q.Status.DRRegion + "?"
		}
		return a.confirm(ctx, question)
	}
}

// printFailover prints what is known before a failover is confirmed; accepted is why loss
// is accepted already.
func (a *app) printFailover(q dr.Question, accepted string) {
	a.printf("%s", q.Main)
	switch {
	case q.Loss == "" && accepted == "":
		a.printf("%s: main is locked first, and all is undone where a replica does not show that it has all", a.out.green("nothing is lost"))
	case q.Loss == "":
		a.printf("%s main is locked first, but what a replica does not show that it has is lost, which is accepted: %s", a.out.red("loss:"), accepted)
	default:
		a.printf("%s %s", a.out.red("loss:"), q.Loss)
		a.printf("  what main got and dr lacks is lost (RPO): %s", spanOr(q.Status.RPO, "nobody knows"))
	}
	a.printEstimate(q.Status.RTO)
}

func (a *app) drFailbackCommand() *cobra.Command {
	var f drFlags
	var moved string
	cmd := &cobra.Command{
		Use:   "failback",
		Short: "Turn the users back to main, once it has what was written in dr",
		Long: `Locks dr's databases, opens main's, turns the users back, and puts dr back to its
floor; then it says what has to be made anew. It moves no data: say with --moved how
main got what was written in dr. A failover that was cut off before a promotion is
undone by it. Killed, the same command goes on.`,
		Example: `  # what has to be done before
  dhow dr failback --yes

  # when that is done
  dhow dr failback --moved "dhow cutover of back.yaml, all rows compared"`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.mayAsk("dr failback", f.yes); err != nil {
				return err
			}
			d, release, err := a.openDR(cmd.Context(), "failback", f)
			if err != nil {
				return err
			}
			defer release()
			run, err := d.Failback(cmd.Context(), dr.FailbackOptions{Moved: moved, Confirm: func(ctx context.Context, main string) error {
				if f.yes {
					return nil
				}
				a.printf("%s", main)
				return a.confirm(ctx, "Go on?")
			}})
			if errors.Is(err, dr.ErrNotMoved) {
				if !a.json() {
					for _, line := range d.Back() {
						a.printf("- %s", line)
					}
				}
				return fmt.Errorf("%w: when main has it, say how with --moved HOW", err)
			}
			return a.printDRRun(run, err)
		},
	}
	f.addYes(cmd)
	cmd.Flags().StringVar(&moved, "moved", "", "`how` main got what was written in dr")
	return cmd
}

// printDRRun prints what a run came to, and ends with its error.
func (a *app) printDRRun(run *dr.Run, err error) error {
	if run == nil {
		return err
	}
	if a.json() {
		return errors.Join(err, a.printJSON(run))
	}
	if run.Outcome == dr.OutcomeDone {
		a.printf("%s", a.out.green(fmt.Sprintf("the %s is done", run.Kind)))
		if run.Kind == dr.KindFailover {
			a.printf("lost at most (RPO): %s, took (RTO): %s", spanOr(run.RPO, "nobody knows"), took(run.RTO))
		}
	}
	for _, next := range run.Next {
		a.printf("  %s %s", a.out.bold("next:"), next)
	}
	return err
}
