package cutover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// streams are the movers' running change streams.
type streams struct {
	movers []move.Mover
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	latest map[string]move.Progress
	err    error
}

func (m *Machine) startStreams(ctx context.Context, movers []move.Mover) {
	ctx, cancel := context.WithCancel(ctx)
	s := &streams{movers: movers, cancel: cancel, ended: make(chan struct{}), latest: map[string]move.Progress{}}
	m.streams = s
	g, gctx := errgroup.WithContext(ctx)
	for _, mv := range movers {
		g.Go(func() error {
			err := mv.Replicate(gctx, func(p move.Progress) {
				s.mu.Lock()
				s.latest[mv.Name()] = p
				s.mu.Unlock()
				m.cfg.Report(Event{At: p.At, Progress: &p})
			})
			if err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("database %s: %w", mv.Name(), err)
			}
			return nil
		})
	}
	go func() {
		defer close(s.ended)
		err := g.Wait()
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
	}()
}

// stopStreams ends the streams and waits until they have; it may be called again.
func (m *Machine) stopStreams() {
	if m.streams != nil {
		m.streams.cancel()
		<-m.streams.ended
		m.streams = nil
	}
}

// failure is why the streams ended by themselves, if they did.
func (s *streams) failure() error {
	select {
	case <-s.ended:
	default:
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return errors.New("the change stream ended")
	}
	return s.err
}

// awaitStreams waits until every stream runs and follows closely.
func (m *Machine) awaitStreams(ctx context.Context) error {
	movers := m.streams.movers
	g, gctx := errgroup.WithContext(ctx)
	for _, mv := range movers {
		g.Go(func() error {
			for {
				// Whether the stall will fit a budget shorter than that is predicted later, and said.
				try, cancel := context.WithTimeout(gctx, max(m.cfg.Budget, move.FollowsWithin))
				_, err := mv.Rehearse(try)
				cancel()
				if err == nil {
					return nil
				}
				if failed := m.streams.failure(); failed != nil {
					return failed
				}
				select {
				case <-gctx.Done():
					return fmt.Errorf("wait until the stream of database %s follows closely: %w", mv.Name(), errors.Join(gctx.Err(), err))
				case <-time.After(steadyEvery):
				}
			}
		})
	}
	return g.Wait()
}

// predict rehearses all movers at once, as the cutover will, and takes the worst
// of several rounds. Every database waits for the slowest, at each of the two steps.
func (m *Machine) predict(ctx context.Context) error {
	var worst time.Duration
	m.result.Rehearsed = make(map[string]move.Rehearsal, len(m.cfg.Movers))
	for range rehearsals {
		var mu sync.Mutex
		var lag, seal time.Duration
		err := m.each(ctx, m.cfg.Movers, func(ctx context.Context, mv move.Mover) error {
			r, err := mv.Rehearse(ctx)
			if err != nil {
				return errors.Join(err, m.streams.failure())
			}
			mu.Lock()
			defer mu.Unlock()
			lag, seal = max(lag, r.Lag), max(seal, r.Seal)
			if was := m.result.Rehearsed[mv.Name()]; r.Lag+r.Seal >= was.Lag+was.Seal {
				m.result.Rehearsed[mv.Name()] = r
			}
			return nil
		})
		if err != nil {
			return err
		}
		worst = max(worst, lag+seal)
	}
	m.result.Predicted = worst
	return nil
}

// compare verifies all movers, one after the other: a comparison takes what it gets of both servers.
func (m *Machine) compare(ctx context.Context, movers []move.Mover, o move.VerifyOptions) (map[string]move.Comparison, error) {
	all := make(map[string]move.Comparison, len(movers))
	for _, mv := range movers {
		c, err := m.compareOne(ctx, mv, o)
		if err != nil {
			return all, err
		}
		all[mv.Name()] = c
	}
	return all, differsBefore(all)
}

func (m *Machine) compareOne(ctx context.Context, mv move.Mover, o move.VerifyOptions) (move.Comparison, error) {
	began := time.Now()
	c, err := mv.Verify(ctx, o, func(p move.Progress) { m.cfg.Report(Event{At: p.At, Progress: &p}) })
	if err != nil {
		return c, fmt.Errorf("compare database %s: %w", mv.Name(), err)
	}
	c.Took = time.Since(began)
	return c, nil
}
