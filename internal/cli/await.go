package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/cutover"
	"dhow/internal/move"
	"dhow/internal/voyage"
)

const (
	// lookAtStreams is the pause between two looks at streams that are waited beside.
	lookAtStreams = 5 * time.Second
	// mayLag is how long streams get to follow closely once the time has come.
	mayLag = 30 * time.Second
	// lagPoll is the pause between two looks meanwhile.
	lagPoll = 500 * time.Millisecond
	// freshReport is how old a stream's last report may be.
	freshReport = time.Minute
	// longestSleep bounds a sleep, so that a clock that was put right is noticed.
	longestSleep = time.Minute
)

// allWell says all that speaks against a cutover now; the comparison is the
// cutover's own. A stream that nobody runs does not: the cutover runs it.
func (a *app) allWell(ctx context.Context) error {
	v, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer v.Close(ctx)
	return a.well(ctx, v)
}

// well checks everything but the streams, all at once: who mends one thing can mend the next too.
func (a *app) well(ctx context.Context, v *voyage.Voyage) error {
	last, err := v.LastRun(ctx)
	if err != nil {
		return err
	}
	if last != nil && last.Outcome == "" {
		return &move.Refused{Reason: fmt.Sprintf("an earlier run to the %s was cut off at step %q", last.To, last.Last), Fix: fmt.Sprintf("run `dhow %s` without --at, it ends in a safe state first", command(last.To))}
	}
	serving, states, err := cutover.Where(ctx, v.Movers)
	if err != nil {
		return err
	}
	if serving == cutover.Target {
		return &move.Refused{Reason: "the target serves already", Fix: "see `dhow status`"}
	}
	var wrong []error
	for i, s := range states {
		if !s.Copied {
			wrong = append(wrong, &move.Refused{Reason: fmt.Sprintf("database %s is not copied yet", v.Movers[i].Name()), Fix: "run `dhow replicate` until it streams"})
		}
	}
	found := make([]error, len(v.Movers))
	var all sync.WaitGroup
	for i, mv := range v.Movers {
		all.Go(func() { found[i] = passesPreflight(ctx, mv) })
	}
	all.Wait()
	wrong = append(wrong, found...)
	if v.Gate != nil {
		s, err := v.Gate.Status(ctx)
		switch {
		case err != nil:
			wrong = append(wrong, err)
		case s.Side != cutover.Source:
			wrong = append(wrong, &move.Refused{Reason: "the gate does not send all traffic to the source", Fix: "see `dhow gate status`"})
		}
	}
	return errors.Join(wrong...)
}

// passesPreflight is an error when a database's preflight finds one.
func passesPreflight(ctx context.Context, mv move.Mover) error {
	issues, err := mv.Preflight(ctx)
	if err != nil {
		return fmt.Errorf("preflight of database %s: %w", mv.Name(), err)
	}
	n, first := 0, ""
	for _, i := range issues {
		if i.Severity == move.Loses {
			if n++; first == "" {
				first = fmt.Sprintf("%s at the %s, %s", i.Rule, i.Side, i.Object)
			}
		}
	}
	if n == 0 {
		return nil
	}
	return &move.Refused{Reason: fmt.Sprintf("preflight finds %s in database %s: %s", counted(int64(n), "error"), mv.Name(), first), Fix: "see `dhow preflight`"}
}

// await waits until a cutover has to begin, keeps the streams running meanwhile,
// and then checks that all is well. An error means that nothing was begun.
func (a *app) await(ctx context.Context, s *schedule) error {
	v, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer v.Close(ctx)
	if err := a.well(ctx, v); err != nil { // rather now than in the night
		return fmt.Errorf("a cutover could not start now, so it is not waited for: %w", err)
	}
	k := &keeper{app: a, v: v, text: "the streams begin"}
	g, waiting := errgroup.WithContext(ctx)
	keeping, enough := context.WithCancel(waiting)
	g.Go(func() error { return k.keep(keeping) })
	g.Go(func() error {
		defer enough()
		err := a.countDown(waiting, s.Begin, true, func(left time.Duration) string {
			return fmt.Sprintf("the cutover begins in %s, for %s; %s; Ctrl-C gives it up", took(left), s.At.Format(moments), k.state())
		})
		if err != nil {
			return err
		}
		a.tell("checking whether all is well")
		if err := errors.Join(a.well(waiting, v), k.follow(waiting)); err != nil {
			return fmt.Errorf("the cutover was not started: %w", err)
		}
		return nil
	})
	err = g.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("waiting for the moment was given up, nothing was changed: %w", context.Cause(ctx))
	}
	return err
}

// keeper keeps streams running: it leaves them to a `dhow replicate` that runs,
// and runs them in this process where none does.
type keeper struct {
	app *app
	v   *voyage.Voyage

	mu   sync.Mutex
	text string
}

func (k *keeper) state() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text
}

func (k *keeper) note(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.text = fmt.Sprintf(format, args...)
}

// keep returns when ctx ends, or when somebody else asks for the estate.
func (k *keeper) keep(ctx context.Context) error {
	for ctx.Err() == nil {
		lock, err := k.v.Lock(voyage.CutoverAt)
		switch {
		case err == nil:
			err = k.stream(ctx)
			lock.Release()
			var yielded *yieldedError
			if errors.As(err, &yielded) {
				return fmt.Errorf("waiting for the moment was given up: %w", err)
			}
			if err != nil && ctx.Err() == nil {
				k.note("the streams have stopped, and are started again: %v", err)
				k.app.log.Warn("the streams are started again", "error", err)
			}
		case errors.Is(err, cutover.ErrLocked):
			k.beside(ctx)
		default:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookAtStreams):
		}
	}
	return nil
}

// stream runs the streams in this process until ctx ends or one of them fails.
func (k *keeper) stream(ctx context.Context) error {
	socket, err := k.v.Listen(ctx)
	if err != nil {
		return err
	}
	repl := k.v.Replication(cutover.Target)
	work, end := context.WithCancelCause(ctx)
	defer end(nil)
	var g errgroup.Group
	g.Go(func() error {
		return repl.Serve(work, socket, k.app.log, func(what string) { end(&yieldedError{what}) })
	})
	g.Go(func() error {
		repl.Failures(work, func(_ string, err error) { end(err) })
		return nil
	})
	err = repl.Run(work, func(p move.Progress) { k.note("streaming here, %s", behind(p)) })
	end(err)
	err = errors.Join(err, g.Wait())
	if cause := context.Cause(work); ctx.Err() == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// beside looks at the streams that another process runs.
func (k *keeper) beside(ctx context.Context) {
	status, err := k.v.Running().Status(ctx)
	if err != nil {
		what, pid := k.v.Holder()
		k.note("dhow %s, process %d, works on the estate", what, pid)
		return
	}
	var latest *move.Progress
	for _, d := range status.Databases {
		switch {
		case d.Error != "":
			k.note("database %s has stopped: %s", d.Database, d.Error)
			return
		case d.Progress != nil && (latest == nil || d.Progress.LagSeconds > latest.LagSeconds):
			latest = d.Progress
		}
	}
	if latest != nil {
		k.note("`dhow replicate` streams, %s", behind(*latest))
	}
}

// behind says how a database's stream stands, in few words.
func behind(p move.Progress) string {
	if p.Phase != move.PhaseStream {
		return fmt.Sprintf("database %s is at its %s", p.Database, p.Phase)
	}
	return fmt.Sprintf("%.1f s behind", p.LagSeconds)
}

// follow returns once every stream follows closely, in whichever process they
// run, or says which does not.
func (k *keeper) follow(ctx context.Context) error {
	until := time.Now().Add(mayLag)
	for {
		err := k.follows(ctx)
		if err == nil || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(lagPoll):
		}
	}
}

func (k *keeper) follows(ctx context.Context) error {
	status, err := k.v.Running().Status(ctx)
	if err != nil {
		return fmt.Errorf("the streams do not run: %w", err)
	}
	var wrong []error
	for _, d := range status.Databases {
		p := d.Progress
		var why string
		switch {
		case d.Error != "":
			why = "has stopped: " + d.Error
		case p == nil || p.Phase != move.PhaseStream:
			why = "does not stream yet"
		case time.Since(p.At) > freshReport:
			why = "was heard of last at " + p.At.Format(clock)
		case p.LagSeconds > move.FollowsWithin.Seconds():
			why = fmt.Sprintf("is %.0f s behind", p.LagSeconds)
		default:
			continue
		}
		wrong = append(wrong, &move.Refused{Reason: fmt.Sprintf("the stream of database %s %s", d.Database, why), Fix: "see `dhow status`"})
	}
	return errors.Join(wrong...)
}

// tell prints a line with the time; where the output is for programs, it is logged.
func (a *app) tell(format string, args ...any) {
	if a.json() {
		a.log.Info(fmt.Sprintf(format, args...))
		return
	}
	a.printf("%s  %s", time.Now().Format(clock), fmt.Sprintf(format, args...))
}

// countDown waits for a time, and shows how long it is to wait: each second on a
// terminal that nothing else draws on, in lines that come closer together elsewhere.
func (a *app) countDown(ctx context.Context, to time.Time, view bool, text func(left time.Duration) string) error {
	live := view && a.screen.live && !a.json()
	if live {
		defer a.screen.clear()
	}
	told := time.Duration(0)
	for {
		left := time.Until(to).Round(time.Second)
		if time.Until(to) <= 0 {
			return ctx.Err()
		}
		mark := markBelow(left)
		switch {
		case live:
			a.screen.draw([]viewLine{{text: text(left)}})
			mark = left - time.Second
		case told == 0 || left <= told:
			a.tell("%s", text(left))
			told = mark
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(longestSleep, max(time.Until(to)-mark, time.Millisecond))):
		}
	}
}

// markBelow is the time left at which the next line is printed.
func markBelow(left time.Duration) time.Duration {
	for _, every := range []time.Duration{time.Hour, 10 * time.Minute, time.Minute, 10 * time.Second} {
		if left > every {
			return (left - 1).Truncate(every)
		}
	}
	return 0
}
