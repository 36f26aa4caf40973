package mariadb

import (
	"context"
	"errors"
	"fmt"

	"dhow/internal/move"
)

// A comparison of moving data needs a stream that moves: what is on its way must
// arrive. The servers replicate by themselves while some process watches over it: this
// one, as in a cutover, or another, `dhow replicate` beside `dhow verify`. Where none
// does, the comparison lets the replication run as long as it takes, and holds the
// move's lock so that no other does.

// followStream makes sure that the stream runs. The context that it returns ends when
// the stream does; stop says why, if it was not the comparison's end.
func (v *verifier) followStream(ctx context.Context) (follows context.Context, stop func() error, err error) {
	m := v.m
	m.mu.Lock()
	running := m.running != nil
	m.mu.Unlock()
	nothing := func() error { return nil }
	if running {
		return ctx, nothing, nil
	}
	if state, err := readStream(ctx, v.plain.target, m.stream); err != nil || state == nil { // replicated by somebody else
		return ctx, nothing, err
	}
	lock, err := m.lock(ctx)
	if held := (*move.LockHeld)(nil); errors.As(err, &held) {
		return ctx, nothing, nil
	}
	if err != nil {
		return nil, nil, err
	}
	m.log.Info("no process runs the change stream; it runs as long as the comparison takes")
	strict := func() error { return nil }
	if v.o.Repair {
		// The stream may have stopped at a row that is not as it should be. It gets past
		// that forgivingly; whatever is wrong then, the comparison finds.
		if strict, err = v.forgive(ctx); err != nil {
			hangUp(lock)
			return nil, nil, err
		}
	}
	follows, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	var why error
	go func() {
		defer close(ended)
		defer cancel()
		defer hangUp(lock)
		why = m.follow(follows, &move.Board{Database: m.cfg.Name}, lock, func(move.Progress) {})
	}()
	stop = func() error {
		cancel()
		<-ended
		if errors.Is(why, context.Canceled) {
			why = nil
		}
		if why != nil {
			why = fmt.Errorf("the change stream ended during the comparison: %w", why)
		}
		return why
	}
	passed, err := (&looker{v: v, pair: v.plain}).pass(follows, passPatience)
	if e := strict(); err == nil {
		err = e
	}
	if err == nil && !passed {
		err = v.stuck()
	}
	if err != nil {
		if e := stop(); e != nil {
			err = e
		}
		return nil, nil, err
	}
	return follows, stop, nil
}

// stuck says that the target does not follow.
func (v *verifier) stuck() error {
	return &move.Refused{Reason: fmt.Sprintf("the target of database %s did not apply in %v what the source had committed: its replication stands still, or is far behind", v.m.cfg.Name, passPatience), Fix: "let `dhow replicate` run until it follows, then compare"}
}

// forgive lets the target's replication pass over rows that are missing, or there
// already, until strict is called. Where our account may not, it does not.
func (v *verifier) forgive(ctx context.Context) (strict func() error, err error) {
	set := func(ctx context.Context, mode string) error {
		if _, err := v.plain.target.ExecContext(ctx, "SET GLOBAL slave_exec_mode = "+quoteText(mode)); err != nil && !denied(err) {
			return fmt.Errorf("let the replication pass what is to be repaired: %w", err)
		}
		return nil
	}
	var was string
	if err := v.plain.target.QueryRowContext(ctx, "SELECT @@GLOBAL.slave_exec_mode").Scan(&was); err != nil {
		return nil, fmt.Errorf("ask the target how it replicates: %w", err)
	}
	if err := set(ctx, "IDEMPOTENT"); err != nil {
		return nil, err
	}
	return func() error {
		late, cancel := parting(ctx)
		defer cancel()
		return set(late, was)
	}, nil
}
