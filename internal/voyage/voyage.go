// Package voyage puts an estate to work: it makes the movers there and back, the
// client of the gate, the journal and the lock that the estate describes, runs
// the streams of a direction and answers questions about them over a local
// socket. The commands and the demo stand on it. What is moved and when is
// decided above; how it is moved, below.
package voyage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/internal/gate"
	"dhow/internal/move"
)

// What an estate's state folder holds, beside the reports.
const (
	journalFile = "journal.db"
	lockFile    = "lock"
	socketFile  = "dhow.sock"
)

const (
	// takeOverTime bounds the wait for a running `dhow replicate` to end its
	// streams: each lane finishes the transaction that it applies.
	takeOverTime = 30 * time.Second
	// takeOverPoll is the pause between two tries for the lock meanwhile.
	takeOverPoll = 50 * time.Millisecond
)

// Options are what a Voyage needs besides its estate.
type Options struct {
	// Log gets what the movers have to say; nil means nothing is kept.
	Log *slog.Logger
}

// Voyage is an estate with its movers. Its fields are not changed after Open.
type Voyage struct {
	Estate *estate.Estate
	// Movers move from the estate's source to its target; Back are the same with
	// the ends swapped, in the same order.
	Movers, Back []move.Mover
	// Gate steers the traffic gate; nil when the estate has none.
	Gate *gate.Client

	log *slog.Logger
}

// Open makes all that the estate describes and connects to no database. It
// resolves the credentials, which may ask Secrets Manager.
func Open(ctx context.Context, e *estate.Estate, o Options) (*Voyage, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	v := &Voyage{Estate: e, log: o.Log}
	var wrong []error // all at once: who sets one credential can set the next too
	for _, d := range e.Databases {
		there, back, err := v.movers(ctx, d)
		if err != nil {
			wrong = append(wrong, err...)
			continue
		}
		v.Movers, v.Back = append(v.Movers, there), append(v.Back, back)
	}
	if e.Gate != nil {
		token, err := e.Gate.Token.Resolve(ctx)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("the gate's token: %w", err))
		}
		v.Gate = gate.Dial(e.Gate.Control, token)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return v, nil
}

// Toward are the movers whose stream ends at a side, and those of the way back.
func (v *Voyage) Toward(side cutover.Side) (movers, back []move.Mover) {
	if side == cutover.Source {
		return v.Back, v.Movers
	}
	return v.Movers, v.Back
}

// Config is what a cutover.Machine needs to move the traffic to a side, by the
// estate's policy. The caller may change it.
func (v *Voyage) Config(to cutover.Side, journal *cutover.Journal) cutover.Config {
	cfg := cutover.Config{To: to, Journal: journal, Budget: v.Estate.Cutover.StallBudget, Log: v.log,
		Proof: isTrue(v.Estate.Cutover.Proof), Verify: isTrue(v.Estate.Cutover.Verify)}
	cfg.Movers, cfg.Back = v.Toward(to)
	if v.Gate != nil { // a nil client in the interface would be taken for a gate
		cfg.Gate = v.Gate
	}
	return cfg
}

// path is a file of the state folder.
func (v *Voyage) path(name string) string { return filepath.Join(v.Estate.State, name) }

// isTrue reads a switch of the estate that is on unless it is turned off.
func isTrue(b *bool) bool { return b == nil || *b }

// Journal opens the estate's journal, and creates it where it is missing.
func (v *Voyage) Journal(ctx context.Context) (*cutover.Journal, error) {
	return cutover.OpenJournal(ctx, v.path(journalFile))
}

// LastRun is the journal's newest run. It creates nothing: nil where there is no
// journal or no run yet.
func (v *Voyage) LastRun(ctx context.Context) (*cutover.Run, error) {
	if _, err := os.Stat(v.path(journalFile)); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	j, err := v.Journal(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = j.Close() }() // nothing was written
	return j.Last(ctx)
}

// Lock makes this process the only one that works on the estate; what names the
// command, for whoever meets the lock.
func (v *Voyage) Lock(what string) (*cutover.Lock, error) {
	return cutover.TakeLock(v.path(lockFile), what)
}

// The commands that hold the lock while they replicate, and hand it over when asked.
const (
	Replicate = "replicate"
	CutoverAt = "cutover --at"
)

// TakeOver takes the lock, and asks a running `dhow replicate` to hand it over
// first; yielded says that one did. Any other holder is not disturbed.
func (v *Voyage) TakeOver(ctx context.Context, what string) (lock *cutover.Lock, yielded bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, takeOverTime)
	defer cancel()
	for {
		lock, err = v.Lock(what)
		if !errors.Is(err, cutover.ErrLocked) {
			return lock, yielded && err == nil, err
		}
		if !yielded {
			holder, _ := v.Holder()
			switch asked := v.Running().Yield(ctx, what); {
			case asked == nil:
				yielded = true
			case errors.Is(asked, ErrNotRunning) && (holder == "" || holder == Replicate || holder == CutoverAt):
				// It has only just taken the lock, or gives it back: it can be asked soon.
			case errors.Is(asked, ErrNotRunning):
				return nil, false, err
			default:
				return nil, false, fmt.Errorf("ask the running `dhow replicate` to hand the estate over: %w", asked)
			}
		}
		select {
		case <-ctx.Done():
			return nil, false, fmt.Errorf("the running `dhow replicate` was asked to hand the estate over and did not: %w", errors.Join(ctx.Err(), err))
		case <-time.After(takeOverPoll):
		}
	}
}

// TakeBack takes the lock again after the estate was handed over: once the command
// that asked for it has had it and given it back, or did not take it in time. It
// waits for as long as anybody holds it.
func (v *Voyage) TakeBack(ctx context.Context, what string) (*cutover.Lock, error) {
	until := time.Now().Add(takeOverTime)
	for had := false; ; {
		_, pid := v.Holder()
		had = had || pid != 0
		if had && pid == 0 || time.Now().After(until) {
			lock, err := v.Lock(what)
			if !errors.Is(err, cutover.ErrLocked) {
				return lock, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the estate to be handed back: %w", ctx.Err())
		case <-time.After(takeOverPoll):
		}
	}
}

// Close ends the movers' sessions and the client of the gate.
func (v *Voyage) Close(ctx context.Context) {
	for _, list := range [][]move.Mover{v.Movers, v.Back} {
		for _, m := range list {
			m.Close(ctx)
		}
	}
}
