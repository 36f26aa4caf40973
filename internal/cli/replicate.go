package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"dhow/internal/cutover"
	"dhow/internal/move"
	"dhow/internal/pods"
	"dhow/internal/voyage"
)

// replicateFlags are those of dhow replicate.
type replicateFlags struct {
	databases []string
	// untilStreaming ends when every stream follows closely, forever goes on after
	// another command has had the estate.
	untilStreaming, forever bool
	job                     jobFlags
	// part is which part of a Job this process is; empty means none.
	part string
}

func (a *app) replicateCommand() *cobra.Command {
	var f replicateFlags
	cmd := &cobra.Command{
		Use:   "replicate",
		Short: "Copy every database, then stream its changes until told to stop",
		Long: `Copies what is not copied yet, many tables at once, then streams every change
until Ctrl-C. The application goes on writing all the while. Stopped or killed at
any moment and started again, it goes on from there. Once the traffic has moved it
streams the other way, so that the way back stays open.

While it runs, dhow status and dhow verify ask it how it stands, and dhow cutover
makes it hand the estate over. With --forever it takes the estate up again after
that: so it runs in a pod.

With --job the pods of a Kubernetes Job help to copy the PostgreSQL databases: large
tables in pieces, all under the one snapshot that this process keeps. It owns the
move, and needs none of them; they are removed when the copies are over.`,
		Example: `  dhow replicate

  # in a pipeline: end as soon as every stream follows closely
  dhow replicate --until-streaming && dhow cutover --yes

  # with the help of eight pods of the cluster that kubectl speaks to
  dhow replicate --job 8 --image registry.example.com/dhow:v1 --namespace dhow

  # a line of JSON for each report
  dhow replicate -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.replicate(cmd.Context(), f) },
	}
	a.databaseFlag(cmd, &f.databases)
	cmd.Flags().BoolVar(&f.untilStreaming, "until-streaming", false, "end when every database is copied and its stream follows closely")
	cmd.Flags().BoolVar(&f.forever, "forever", false, "go on after another command has had the estate, until told to stop")
	f.job.add(cmd)
	cmd.Flags().StringVar(&f.part, "part", "", "help the process that owns the copies, as `INDEX/PARTS` of a Job")
	_ = cmd.Flags().MarkHidden("part") // it is for the Job's pods; fails for an unknown flag alone
	return cmd
}

// check refuses flags that do not go together.
func (f *replicateFlags) check() error {
	if f.forever && f.untilStreaming {
		return &usageError{text: "--until-streaming ends, and --forever does not: give one of them", see: "dhow replicate"}
	}
	return f.job.check()
}

func (a *app) replicate(ctx context.Context, f replicateFlags) error {
	if f.part != "" {
		return a.assist(ctx, f.part, f.databases)
	}
	if err := f.check(); err != nil {
		return err
	}
	e, err := a.chosen(f.databases...)
	if err != nil {
		return err
	}
	whole := *e
	if f.job.parts > 0 {
		whole.Databases = slices.Clone(e.Databases)
		voyage.Share(e, f.job.parts+1)
	}
	v, err := voyage.Open(ctx, e, voyage.Options{Log: a.log})
	if err != nil {
		return err
	}
	defer v.Close(ctx)
	var h *helpers
	if f.job.parts > 0 {
		if h, err = a.newHelpers(ctx, &whole, v, f.job); err != nil {
			return err
		}
	}
	lock, err := v.Lock(voyage.Replicate)
	if err != nil {
		return err
	}
	for {
		yielded, err := a.replicateOnce(ctx, v, h, f.untilStreaming)
		lock.Release()
		if err != nil || yielded == "" || !f.forever {
			return err
		}
		if lock, err = v.TakeBack(ctx, voyage.Replicate); err != nil {
			return unlessTold(ctx, err)
		}
		finished, err := a.finished(ctx, v)
		if err != nil || finished {
			lock.Release()
		}
		if err != nil {
			return unlessTold(ctx, err)
		}
		if finished {
			a.sayFinished()
			<-ctx.Done() // whoever started it with --forever would start it again
			return nil
		}
	}
}

func (a *app) sayFinished() {
	if a.json() {
		_ = json.NewEncoder(a.Out).Encode(map[string]string{"event": "finished"}) // nobody has to read it
		return
	}
	a.printf("the move is finished: nothing is left to replicate")
}

// unlessTold is an error that came by itself: the end of ctx is what was asked for.
func unlessTold(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// finished says that dhow finish has ended the move.
func (*app) finished(ctx context.Context, v *voyage.Voyage) (bool, error) {
	_, states, err := cutover.Where(ctx, v.Movers)
	return !slices.ContainsFunc(states, func(s move.State) bool { return s.Started }), err
}

// replicateOnce replicates towards the side that does not serve until ctx ends, or
// another command asks for the estate, which it names then. The caller holds the lock.
func (a *app) replicateOnce(ctx context.Context, v *voyage.Voyage, h *helpers, untilStreaming bool) (yielded string, err error) {
	last, err := v.LastRun(ctx)
	if err != nil {
		return "", err
	}
	if last != nil && last.Outcome == "" {
		a.log.Warn(fmt.Sprintf("a run to the %s was cut off at step %q: run `dhow %s` again, it ends in a safe state", last.To, last.Last, command(last.To)))
	}
	serving, states, err := cutover.Where(ctx, v.Movers)
	if err != nil {
		return "", err
	}
	if h != nil && !slices.ContainsFunc(v.Movers, func(m move.Mover) bool {
		return slices.Contains(h.shared, m.Name()) && !states[slices.Index(v.Movers, m)].Copied
	}) {
		h = nil // there is nothing to help with
	}
	copied := !slices.ContainsFunc(states, func(s move.State) bool { return !s.Copied })
	return a.stream(ctx, v, serving.Other(), streaming{copied: copied, until: untilStreaming, helpers: h})
}

// command is the command that moves the traffic to a side.
func command(to cutover.Side) string {
	if to == cutover.Source {
		return "rollback"
	}
	return "cutover"
}

// The reasons for which a stream is told to end.
var errFollows = errors.New("every stream follows closely")

type yieldedError struct{ what string }

func (y *yieldedError) Error() string { return "handed over to `dhow " + y.what + "`" }

// streaming says how streams are run.
type streaming struct {
	// copied says that nothing is left to copy.
	copied bool
	// until ends them when every stream follows closely.
	until bool
	// helpers are pods that help with the copies; nil means none.
	helpers *helpers
}

// stream replicates towards a side, shows how it goes and answers on the socket,
// until ctx ends, another command asks for the estate, which is named then, or, where
// that is wanted, every stream follows closely. The caller holds the estate's lock.
func (a *app) stream(ctx context.Context, v *voyage.Voyage, to cutover.Side, o streaming) (yielded string, err error) {
	socket, err := v.Listen(ctx)
	if err != nil {
		return "", err
	}
	var crew *pods.Crew
	if o.helpers != nil {
		if crew, err = o.helpers.muster(ctx); err != nil {
			_ = socket.Close() // nobody was told of it
			return "", err
		}
	}
	repl := v.Replication(to)
	rep := a.newReporter(ctx, names(v.Movers), a.Out, true)
	if !a.json() {
		a.printf("replicating %s to the %s; Ctrl-C ends it, started again it goes on", counted(int64(len(v.Movers)), "database"), to)
	}
	work, end := context.WithCancelCause(ctx)
	defer end(nil)
	var g errgroup.Group
	g.Go(func() error { return repl.Serve(work, socket, a.log, func(what string) { end(&yieldedError{what}) }) })
	g.Go(func() error {
		repl.Failures(work, func(database string, err error) {
			rep.fail(database, err)
			if repl.Goes() { // the last error is the command's own
				a.log.Error("a database stopped, the others go on", "database", database, "error", err)
			}
		})
		return nil
	})
	if o.until {
		g.Go(func() error {
			if repl.Following(work) == nil { // a failure comes back from Run too
				end(errFollows)
			}
			return nil
		})
	}
	if crew != nil {
		g.Go(func() error { return o.helpers.accompany(work, crew, repl, rep) })
	}
	err = repl.Run(work, rep.report)
	end(err)
	err = errors.Join(err, g.Wait())
	rep.close(true)
	if cause := (*yieldedError)(nil); errors.As(context.Cause(work), &cause) {
		yielded = cause.what
	}
	return yielded, a.ended(repl, rep, o.copied || repl.Streams(), context.Cause(work), err)
}

// ended says why the streams ended, and whether that is a failure; whole says
// that every database was copied.
func (a *app) ended(repl *voyage.Replication, rep *reporter, whole bool, cause, failure error) error {
	var yielded *yieldedError
	reason, text := "interrupted", "stopped; `dhow replicate` goes on from here"
	switch {
	case failure != nil:
		reason = "failed"
	case errors.As(cause, &yielded):
		reason, text = "yielded", yielded.Error()+"; the streams have ended"
	case errors.Is(cause, errFollows):
		reason, text = "streaming", "every stream follows closely: the move is ready for `dhow "+command(repl.To())+"`"
	case !whole:
		failure = &move.Refused{Reason: "interrupted before every database was copied", Fix: "run `dhow replicate` again, it goes on from here"}
	}
	if a.json() {
		rep.object(struct {
			Event     string            `json:"event"`
			Reason    string            `json:"reason"`
			Databases []voyage.Standing `json:"databases"`
		}{"end", reason, repl.Standings()})
	} else if failure == nil {
		a.printf("%s", text)
	}
	return failure
}
