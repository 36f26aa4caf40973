package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/internal/move"
	"dhow/internal/voyage"
)

// helm is from where the move is steered: this process, or the pods of a cluster.
type helm interface {
	// replicate copies, and returns once all streams follow closely. hear gets every
	// report; it may be called from several goroutines.
	replicate(ctx context.Context, hear func(move.Progress)) error
	// move moves the traffic to a side and says what happens; verify compares both
	// sides before. The result stands also beside an error.
	move(ctx context.Context, to estate.Side, verify bool) (cutover.Result, error)
	// memory is the most that the movers' process had, in 10^6 bytes; 0 where nobody knows.
	memory(ctx context.Context) float64
	// finish removes what the move left in the databases; serving is the side that serves.
	finish(ctx context.Context, serving estate.Side) error
	// close ends it. It may be called again.
	close(ctx context.Context)
}

// aboard steers from this process.
type aboard struct {
	say     func(format string, args ...any)
	v       *voyage.Voyage
	lock    *cutover.Lock
	journal *cutover.Journal
	// halt ends the streams that run between the steps, and returns why they ended
	// before; nil while none run.
	halt func() error
}

func newAboard(ctx context.Context, e *estate.Estate, o voyage.Options, say func(string, ...any)) (_ *aboard, err error) {
	a := &aboard{say: say}
	defer func() {
		if err != nil {
			a.close(ctx)
		}
	}()
	if a.v, err = voyage.Open(ctx, e, o); err != nil {
		return nil, err
	}
	if a.lock, err = a.v.Lock("demo"); err != nil {
		return nil, err
	}
	a.journal, err = a.v.Journal(ctx)
	return a, err
}

func (a *aboard) close(ctx context.Context) {
	_ = a.rest() // whoever wanted to know has asked before
	if a.journal != nil {
		_ = a.journal.Close() // every step was written when it was taken
	}
	if a.v != nil {
		a.v.Close(context.WithoutCancel(ctx))
	}
	if a.lock != nil {
		a.lock.Release()
	}
	*a = aboard{say: a.say}
}

// preflight is what stands in the way, by database.
func (a *aboard) preflight(ctx context.Context) (map[string][]move.Issue, error) {
	found := map[string][]move.Issue{}
	for _, m := range a.v.Movers {
		issues, err := m.Preflight(ctx)
		if err != nil {
			return nil, err
		}
		found[m.Name()] = issues
	}
	return found, nil
}

func (a *aboard) replicate(ctx context.Context, hear func(move.Progress)) error {
	r := a.stream(ctx, estate.Target, hear)
	if err := r.Following(ctx); err != nil {
		return errors.Join(err, a.rest())
	}
	return nil
}

// stream lets the changes flow towards a side until rest: as `dhow replicate` does
// until a cutover takes over, and behind it on the way back.
func (a *aboard) stream(ctx context.Context, to estate.Side, hear func(move.Progress)) *voyage.Replication {
	ctx, stop := context.WithCancel(ctx)
	r := a.v.Replication(to)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, hear) }()
	a.halt = func() error {
		stop()
		return <-ended
	}
	return r
}

// rest ends the streams. It may be called again.
func (a *aboard) rest() error {
	halt := a.halt
	if halt == nil {
		return nil
	}
	a.halt = nil
	return halt()
}

func (a *aboard) move(ctx context.Context, to estate.Side, verify bool) (cutover.Result, error) {
	if err := a.rest(); err != nil {
		return cutover.Result{}, err
	}
	cfg := a.v.Config(to, a.journal)
	cfg.Verify = cfg.Verify && verify
	cfg.Report = func(e cutover.Event) {
		switch {
		case e.Text != "":
			a.say("%s", e.Text)
		case e.Step != "":
			a.say("%s", stepLine(e.Step, e.Took, e.Slowest.Database))
		}
	}
	m, err := cutover.New(cfg)
	if err != nil {
		return cutover.Result{}, err
	}
	r, err := m.Run(ctx)
	switch {
	case err == nil:
		a.stream(ctx, to.Other(), func(move.Progress) {})
	case errors.Is(err, cutover.ErrOverBudget): // it is tried again
		a.stream(ctx, to, func(move.Progress) {})
	}
	return r, err
}

func (*aboard) memory(context.Context) float64 { return float64(voyage.PeakRSS()) / 1e6 }

func (a *aboard) finish(ctx context.Context, _ estate.Side) error {
	if err := a.rest(); err != nil {
		return err
	}
	for _, m := range a.v.Movers {
		if err := m.Finish(ctx); err != nil {
			return fmt.Errorf("clean up database %s: %w", m.Name(), err)
		}
	}
	return nil
}

// latest are the last reports of the databases.
type latest struct {
	mu  sync.Mutex
	all map[string]move.Progress
}

func (l *latest) hear(p move.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[string]move.Progress{}
	}
	l.all[p.Database] = p
}

func (l *latest) read() map[string]move.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.all)
}

// tell says now and then where the databases stand, until ctx ends.
func (l *latest) tell(ctx context.Context, databases []string, say func(string, ...any)) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := l.read()
			for _, name := range databases {
				if p, heard := now[name]; heard {
					say("%s", describe(p))
				}
			}
		}
	}
}

// errEnded says that a process of dhow in a pod is gone.
var errEnded = errors.New("the movers' process in the pod has ended")

// stepLine tells of a step, with the database that it waited for longest, if any.
func stepLine(step cutover.Step, took time.Duration, slowest string) string {
	return strings.TrimRight(fmt.Sprintf("  %-9s %6.1f ms  %s", step, milliseconds(took), slowest), " ")
}
