package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dhow/internal/move"
)

// A comparison of moving data waits for the stream to pass. Three places can run
// it: this process, as in a cutover; another, `dhow replicate` beside `dhow verify`,
// whose position stands at the target; or none, and then the comparison runs it as
// long as it takes.

const (
	// passPoll is the pause between two looks at how far the stream is.
	passPoll = 50 * time.Millisecond
	// passSilence is how long another process's position may stand still before its
	// stream counts as stopped: three of the source's pings, of which each moves it.
	passSilence = 30 * time.Second
)

// following finds out how to wait for the stream, and runs it where nobody does.
// stop ends what it has started.
func (m *Mover) following(ctx context.Context, from, to *session) (pass func(context.Context) error, stop func(), err error) {
	if _, err := m.isRunning(); err == nil {
		return func(ctx context.Context) error { return m.passHere(ctx, from) }, func() {}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.Replicate(ctx, func(move.Progress) {}) }()
	tick := time.NewTicker(passPoll)
	defer tick.Stop()
	for {
		if _, err := m.isRunning(); err == nil {
			m.log.Info("no process runs the change stream; the comparison runs it as long as it takes")
			return func(ctx context.Context) error { return m.passHere(ctx, from) }, func() {
				cancel()
				<-ended //nolint:errcheck // that it was told to end is no news
			}, nil
		}
		select {
		case err := <-ended:
			cancel()
			if held := (*move.LockHeld)(nil); errors.As(err, &held) {
				return func(ctx context.Context) error { return m.passElsewhere(ctx, from, to) }, func() {}, nil
			}
			return nil, nil, fmt.Errorf("run the change stream for the comparison: %w", err)
		case <-tick.C:
		}
	}
}

// passHere waits for the stream of this process.
func (m *Mover) passHere(ctx context.Context, from *session) error {
	at, err := masterOffset(ctx, from)
	if err != nil {
		return err
	}
	r, err := m.isRunning()
	if err != nil {
		return err
	}
	return r.reaches(ctx, at)
}

// passElsewhere waits for the stream of another process, which writes its position
// with every batch, and now and then where there is nothing else to write.
func (m *Mover) passElsewhere(ctx context.Context, from, to *session) error {
	at, err := masterOffset(ctx, from)
	if err != nil {
		return err
	}
	tick := time.NewTicker(passPoll)
	defer tick.Stop()
	last, moved := int64(-1), time.Now()
	for {
		pos, err := readPosition(ctx, to, m.stream)
		switch {
		case err != nil:
			return to.fails("ask how far the stream is", err)
		case pos.broken != "":
			return &move.Refused{Reason: fmt.Sprintf("the stream of database %s has stopped for good: %s", m.cfg.Name, pos.broken), Fix: "clean up with `dhow finish`, empty the target and begin again"}
		case pos.offset >= at:
			return nil
		case pos.offset != last:
			last, moved = pos.offset, time.Now()
		case time.Since(moved) > passSilence:
			return &move.Refused{Reason: fmt.Sprintf("the process that moves database %s does not stream", m.cfg.Name), Fix: "look at its log, or stop it: the comparison then runs the stream itself"}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
