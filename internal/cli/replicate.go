package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"dhow/internal/cutover"
	"dhow/internal/move"
	"dhow/internal/voyage"
)

func (a *app) replicateCommand() *cobra.Command {
	untilStreaming := false
	var databases []string
	cmd := &cobra.Command{
		Use:   "replicate",
		Short: "Copy every database, then stream its changes until told to stop",
		Long: `Copies what is not copied yet, many tables at once, then streams every change
until Ctrl-C. The application goes on writing all the while. Stopped or killed at
any moment and started again, it goes on from there. Once the traffic has moved it
streams the other way, so that the way back stays open.

While it runs, dhow status and dhow verify ask it how it stands, and dhow cutover
makes it hand the estate over.`,
		Example: `  dhow replicate

  # in a pipeline: end as soon as every stream follows closely
  dhow replicate --until-streaming && dhow cutover --yes

  # a line of JSON for each report
  dhow replicate -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.replicate(cmd.Context(), databases, untilStreaming)
		},
	}
	a.databaseFlag(cmd, &databases)
	cmd.Flags().BoolVar(&untilStreaming, "until-streaming", false, "end when every database is copied and its stream follows closely")
	return cmd
}

func (a *app) replicate(ctx context.Context, databases []string, untilStreaming bool) error {
	v, err := a.open(ctx, databases...)
	if err != nil {
		return err
	}
	defer v.Close(ctx)
	lock, err := v.Lock("replicate")
	if err != nil {
		return err
	}
	defer lock.Release()
	last, err := v.LastRun(ctx)
	if err != nil {
		return err
	}
	if last != nil && last.Outcome == "" {
		a.log.Warn(fmt.Sprintf("a run to the %s was cut off at step %q: run `dhow %s` again, it ends in a safe state", last.To, last.Last, command(last.To)))
	}
	serving, states, err := cutover.Where(ctx, v.Movers)
	if err != nil {
		return err
	}
	copied := !slices.ContainsFunc(states, func(s move.State) bool { return !s.Copied })
	return a.stream(ctx, v, serving.Other(), copied, untilStreaming)
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

// stream replicates towards a side, shows how it goes and answers on the socket,
// until ctx ends, another command asks for the estate, or, where that is wanted,
// every stream follows closely. copied says that nothing is left to copy. The
// caller holds the estate's lock.
func (a *app) stream(ctx context.Context, v *voyage.Voyage, to cutover.Side, copied, untilStreaming bool) error {
	socket, err := v.Listen(ctx)
	if err != nil {
		return err
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
	if untilStreaming {
		g.Go(func() error {
			if repl.Following(work) == nil { // a failure comes back from Run too
				end(errFollows)
			}
			return nil
		})
	}
	err = repl.Run(work, rep.report)
	end(err)
	err = errors.Join(err, g.Wait())
	rep.close(true)
	return a.ended(repl, rep, copied || repl.Streams(), context.Cause(work), err)
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
