package redis

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// The way back starts in the target's log, at the place where the traffic turned.
// A server keeps such a log (its backlog) only from its first replica on, and
// goes on keeping it for a while after the last one left. So we are a replica of
// the target from Prepare until the way back runs, one that throws away what it hears.

// ackEvery is how often a primary hears from its replica that it is there.
const ackEvery = time.Second

// logKeeper makes a server keep its log.
type logKeeper struct {
	p     *psync
	heard atomic.Int64
	stop  context.CancelFunc
	done  chan struct{}
}

// keepLog makes the target keep its log. It may be called again.
func (m *Mover) keepLog(ctx context.Context) error {
	m.mu.Lock()
	k := m.keeper
	m.mu.Unlock()
	if k != nil {
		select {
		case <-k.done: // its connection broke
			m.dropLog()
		default:
			return nil
		}
	}
	s, err := m.dial(ctx, target)
	if err != nil {
		return err
	}
	defer s.hangUp()
	info, err := s.info(ctx, "replication")
	if err != nil {
		return err
	}
	var at logPlace
	if info[backlogActive] == "1" { // then nothing needs to be read but what comes
		if at, err = placeOf(info); err != nil {
			return s.fails("read the place in its log", err)
		}
	}
	p, err := dialPSYNC(ctx, s.Options(), at.replid, at.offset)
	if refusal(err) {
		m.log.Warn("the target takes no replica: the way back can not start from its log", "error", err)
		return nil
	}
	if err != nil {
		return s.fails("make it keep a log for the way back", err)
	}
	if err := p.passOver(ctx); err != nil {
		p.hangUp()
		return s.fails("make it keep a log for the way back", err)
	}
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	k = &logKeeper{p: p, stop: stop, done: make(chan struct{})}
	go k.run(keeping)
	m.mu.Lock()
	m.keeper = k
	m.mu.Unlock()
	return nil
}

// backlogActive is the field of INFO replication that says whether a log is kept.
const backlogActive = "repl_backlog_active"

// passOver reads a snapshot to its end, if there is one.
func (p *psync) passOver(ctx context.Context) error {
	if !p.full {
		return nil
	}
	stop := p.closeWith(ctx)
	defer stop()
	snapshot, _, err := p.snapshot()
	if err == nil {
		_, err = io.Copy(io.Discard, snapshot)
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("read its snapshot: %w", err)
	}
	return nil
}

// run reads and forgets, and tells the server so, until it is stopped or the connection breaks.
func (k *logKeeper) run(ctx context.Context) {
	defer close(k.done)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		_, _ = io.Copy(counter{&k.heard}, k.p.br) // its end is all that matters
	}()
	tick := time.NewTicker(ackEvery)
	defer tick.Stop()
	for alive := true; alive; {
		select {
		case <-ctx.Done():
			alive = false
		case <-heard:
			alive = false
		case <-tick.C:
			alive = k.p.ack(k.p.offset+k.heard.Load()) == nil
		}
	}
	k.p.hangUp()
	<-heard
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// dropLog is no replica of the target any more; its log lasts a while longer
// (repl-backlog-ttl).
func (m *Mover) dropLog() {
	m.mu.Lock()
	k := m.keeper
	m.keeper = nil
	m.mu.Unlock()
	if k != nil {
		k.stop()
		<-k.done
	}
}
