package voyage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dhow/internal/cutover"
	"dhow/internal/move"
)

// followsPoll is the pause between two markers while a stream is behind.
const followsPoll = 250 * time.Millisecond

// Replication runs the movers of one direction and knows how each of them
// stands. One database that fails does not stop the others: each is resumed
// alone, and a copy is too dear to be thrown away for another's sake.
type Replication struct {
	to     cutover.Side
	movers []move.Mover
	began  time.Time

	mu       sync.Mutex
	standing map[string]*Standing
	changed  chan struct{} // closed and replaced when a database ends
}

// Standing is how one database's replication stands.
type Standing struct {
	Database string `json:"database"`
	// Progress is the latest report; nil before the first.
	Progress *move.Progress `json:"progress,omitempty"`
	// Error is why it ended before it was told to.
	Error string `json:"error,omitempty"`

	err error
}

// Replication makes a replication towards a side; Run starts it.
func (v *Voyage) Replication(to cutover.Side) *Replication {
	movers, _ := v.Toward(to)
	r := &Replication{to: to, movers: movers, standing: map[string]*Standing{}, changed: make(chan struct{}), began: time.Now()}
	for _, mv := range movers {
		r.standing[mv.Name()] = &Standing{Database: mv.Name()}
	}
	return r
}

// To is the side that the replication keeps up to date.
func (r *Replication) To() cutover.Side { return r.to }

// Run copies and streams until ctx ends, which is no error, or until no database
// is left that goes on. report is called from several goroutines, one call at a
// time for each database. It is called once.
func (r *Replication) Run(ctx context.Context, report func(move.Progress)) error {
	var wg sync.WaitGroup
	for _, mv := range r.movers {
		wg.Go(func() {
			err := mv.Replicate(ctx, func(p move.Progress) {
				r.note(p)
				report(p)
			})
			if ctx.Err() == nil {
				if err == nil {
					err = errors.New("the change stream ended")
				}
				r.fail(mv.Name(), fmt.Errorf("database %s: %w", mv.Name(), err))
			}
		})
	}
	wg.Wait()
	return r.failure()
}

func (r *Replication) note(p move.Progress) {
	r.mu.Lock()
	r.standing[p.Database].Progress = &p
	r.mu.Unlock()
}

func (r *Replication) fail(name string, err error) {
	r.mu.Lock()
	r.standing[name].err, r.standing[name].Error = err, err.Error()
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
}

// failed is why a database's replication ended, nil while it goes on.
func (r *Replication) failed(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.standing[name].err
}

// failure joins the errors of all databases that failed so far.
func (r *Replication) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []error
	for _, mv := range r.movers {
		all = append(all, r.standing[mv.Name()].err)
	}
	return errors.Join(all...)
}

// Failures calls said once for each database that fails, until ctx ends.
func (r *Replication) Failures(ctx context.Context, said func(database string, err error)) {
	told := map[string]bool{}
	for {
		r.mu.Lock()
		changed := r.changed
		var fresh []Standing
		for _, mv := range r.movers {
			if s := r.standing[mv.Name()]; s.err != nil && !told[s.Database] {
				told[s.Database] = true
				fresh = append(fresh, *s)
			}
		}
		r.mu.Unlock()
		for _, s := range fresh {
			said(s.Database, s.err)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// Copied says whether the copies of all of some databases are over, or given up.
func (r *Replication) Copied(databases []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range databases {
		s := r.standing[name]
		if s == nil || s.err != nil {
			continue
		}
		if s.Progress == nil || !slices.Contains([]move.Phase{move.PhaseIndex, move.PhaseGuard, move.PhaseStream}, s.Progress.Phase) {
			return false
		}
	}
	return true
}

// Standings are how the databases stand, in the estate's order.
func (r *Replication) Standings() []Standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Standing, len(r.movers))
	for i, mv := range r.movers {
		list[i] = *r.standing[mv.Name()]
	}
	return list
}

// Goes says whether any database's replication has not failed.
func (r *Replication) Goes() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.standing {
		if s.err == nil {
			return true
		}
	}
	return false
}

// Streams says whether every database is copied and streams, or did until it was
// told to end.
func (r *Replication) Streams() bool {
	for _, mv := range r.movers {
		if !r.streams(mv.Name()) {
			return false
		}
	}
	return true
}

// Following returns once every database's stream follows closely. A database
// that fails is an error, but only when the others follow: they are let to.
func (r *Replication) Following(ctx context.Context) error {
	for _, mv := range r.movers {
		if err := r.follows(ctx, mv); err != nil {
			return err
		}
	}
	return r.failure()
}

func (r *Replication) follows(ctx context.Context, mv move.Mover) error {
	for r.failed(mv.Name()) == nil {
		if r.streams(mv.Name()) {
			try, cancel := context.WithTimeout(ctx, move.FollowsWithin)
			_, err := mv.Rehearse(try)
			cancel()
			if err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followsPoll):
		}
	}
	return nil
}

// streams says whether a database's copy is behind it.
func (r *Replication) streams(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.standing[name]
	return s.err == nil && s.Progress != nil && s.Progress.Phase == move.PhaseStream
}
