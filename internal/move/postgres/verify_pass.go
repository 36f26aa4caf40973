package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// This file lets a comparison wait until the stream has passed: until the target
// has applied all that the source had committed before. Three places can run the
// stream, and it is found out which one does:
//
//   - this process, as in a cutover: its relay says when a marker is applied;
//   - another process, `dhow replicate` beside `dhow verify`: what the target holds
//     durably is what its relay tells the source, which shows it as the slot's
//     confirmed position;
//   - none: then the comparison runs the stream itself as long as it takes, and
//     holds the move's lock so that no other does.

const (
	// passPoll is how often the slot is asked how far the stream is.
	passPoll = 50 * time.Millisecond
	// passSilence is how long a slot may be without a reader before the stream
	// counts as stopped: long enough for a restart and its first pauses.
	passSilence = 30 * time.Second
	// relayCheck is how often a wait makes sure that the stream still runs.
	relayCheck = time.Second
)

// followStream finds out how to wait for the stream, and runs it where nobody does.
func (v *verifier) followStream(ctx context.Context) (stop func(), err error) {
	m := v.m
	m.mu.Lock()
	running := m.running != nil
	m.mu.Unlock()
	if running {
		v.pass = v.passHere
		return func() {}, nil
	}
	unlock, err := m.lock(ctx)
	var refused *move.Refused
	if errors.As(err, &refused) {
		v.pass = v.passElsewhere
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	end, err := v.ownStream(ctx)
	if err != nil {
		unlock()
		return nil, err
	}
	return func() { end(); unlock() }, nil
}

// ownStream runs the stream for this comparison.
func (v *verifier) ownStream(ctx context.Context) (stop func(), err error) {
	m := v.m
	if v.o.Repair {
		// The stream may have stopped at a row that is not as it should be. It gets
		// past it leniently; whatever is wrong then, the comparison finds. Should we
		// die in between, the next stream is lenient up to here.
		at, err := insertPosition(ctx, v.lead.source)
		if err != nil {
			return nil, err
		}
		if _, err := v.lead.target.Exec(ctx, "UPDATE dhow.stream SET settled_lsn = greatest(settled_lsn, $2::text::pg_lsn) WHERE name = $1", m.stream, at.String()); err != nil {
			return nil, fmt.Errorf("let the stream pass what is to be repaired: %w", err)
		}
	}
	state, err := readStream(ctx, v.lead.target, m.stream)
	if err != nil {
		return nil, err
	}
	r, err := m.newRelay(ctx, *state)
	if err != nil {
		return nil, err
	}
	r.mending = v.o.Repair
	m.log.Info("no process runs the change stream; the comparison runs it as long as it takes")
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	var why error
	go func() {
		defer close(ended)
		why = r.run(ctx)
	}()
	v.pass = func(ctx context.Context, patience time.Duration) (bool, error) {
		mk, err := m.mark(ctx, v.lead.source)
		if err != nil {
			return false, err
		}
		for began := time.Now(); ; {
			if passed, err := caughtUpSoon(ctx, r, mk, began, patience); passed || err != nil {
				return passed, err
			}
			select {
			case <-ended:
				return false, fmt.Errorf("the change stream ended during the comparison: %w", why)
			default:
			}
			if patience > 0 && time.Since(began) >= patience {
				return false, nil
			}
		}
	}
	stop = func() { cancel(); <-ended }
	if v.o.Repair {
		if _, err := v.pass(ctx, 0); err != nil {
			stop()
			return nil, err
		}
		before := r.left()
		v.leftOut = func() int64 { return r.left() - before }
	}
	return stop, nil
}

// caughtUpSoon waits for a marker for relayCheck at most, and not beyond the patience that is left.
func caughtUpSoon(ctx context.Context, r *relay, mk move.Marker, began time.Time, patience time.Duration) (bool, error) {
	most := relayCheck
	if patience > 0 {
		most = min(most, patience-time.Since(began))
	}
	wait, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := r.caughtUp(wait, mk.N)
	if err != nil && ctx.Err() == nil {
		return false, nil // only the wait was over
	}
	return err == nil, err
}

// passHere waits for the stream of this process.
func (v *verifier) passHere(ctx context.Context, patience time.Duration) (bool, error) {
	var on *relay
	var mk move.Marker
	for began := time.Now(); ; {
		v.m.mu.Lock()
		r := v.m.running
		v.m.mu.Unlock()
		if r == nil {
			return false, errors.New("the change stream stopped during the comparison: start it and compare again")
		}
		if r != on { // a stream that began anew may not see the older marker
			var err error
			if mk, err = v.m.mark(ctx, v.lead.source); err != nil {
				return false, err
			}
			on = r
		}
		if passed, err := caughtUpSoon(ctx, r, mk, began, patience); passed || err != nil {
			return passed, err
		}
		if patience > 0 && time.Since(began) >= patience {
			return false, nil
		}
	}
}

// passElsewhere waits for the stream of another process.
func (v *verifier) passElsewhere(ctx context.Context, patience time.Duration) (bool, error) {
	mk, err := v.m.mark(ctx, v.lead.source)
	if err != nil {
		return false, err
	}
	// The second marker lies behind the first one's position, so that an idle
	// source too sends the stream past it.
	if _, err := v.m.mark(ctx, v.lead.source); err != nil {
		return false, err
	}
	tick := time.NewTicker(passPoll)
	defer tick.Stop()
	began := time.Now()
	for seen := began; ; {
		var passed, active bool
		err := v.lead.source.QueryRow(ctx, "SELECT confirmed_flush_lsn >= $2::text::pg_lsn, active FROM pg_replication_slots WHERE slot_name = $1", v.m.stream, mk.Position).Scan(&passed, &active)
		if errors.Is(err, pgx.ErrNoRows) {
			return false, &move.Refused{Reason: fmt.Sprintf("slot %s is gone from the source: the stream can not go on", v.m.stream), Fix: "run `dhow finish --abandon` and begin the move again"}
		}
		if err != nil {
			return false, fmt.Errorf("ask the source how far the stream is: %w", err)
		}
		if passed {
			return true, nil
		}
		if active {
			seen = time.Now()
		} else if time.Since(seen) > passSilence {
			return false, &move.Refused{Reason: fmt.Sprintf("the process that moves database %s does not stream", v.m.cfg.Name), Fix: "look at its log, or stop it: the comparison then runs the stream itself"}
		}
		if patience > 0 && time.Since(began) >= patience {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick.C:
		}
	}
}
