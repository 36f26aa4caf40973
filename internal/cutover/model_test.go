package cutover

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"dhow/internal/move"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what survives the death of a process: databases with two sides each,
// and the gate with the side that it serves. Processes act on it; each has a
// number, and what a dead one tries has no effect.
type world struct {
	mu      sync.Mutex
	process int
	dbs     []*pair
	served  Side
	held    bool
	// fault decides, for each call, whether it fails, and whether the process
	// dies before or after it has acted.
	fault func(call string) fate
	wrong error // the first broken promise
	death func()
	// lag is what a rehearsal takes; slow is what a call waits for.
	lag  func() time.Duration
	slow map[string]time.Duration
}

type fate int

const (
	works fate = iota
	fails
	failsAfter // it has acted, and the answer was lost
	unlocks    // a lock that its server keeps for a time only lapses before the call
	diesBefore
	diesAfter
)

// pair is one database: closed sides refuse writes durably, the locked one
// does while the process that locked it lives.
type pair struct {
	closed map[Side]bool
	locked map[Side]int // the process that holds the lock; 0 for none
	slot   map[Side]bool
	// loose says that its servers keep no fence by themselves: a seal is lost with
	// the process, until the other side is open. lent are such seals.
	loose bool
	lent  map[Side]bool
}

var errDead = errors.New("this process is dead")

// act runs one call of a process; do changes the world.
func (w *world) act(process int, call string, do func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if process != w.process {
		return errDead
	}
	f := works
	if w.fault != nil {
		f = w.fault(call)
	}
	switch f {
	case fails:
		return fmt.Errorf("%s failed", call)
	case unlocks:
		for _, d := range w.dbs {
			clear(d.locked)
		}
		w.look("a lock that lapsed")
	case diesBefore:
		w.die()
		return errDead
	}
	err := do()
	w.look(call)
	switch f {
	case diesAfter:
		w.die()
		return errDead
	case failsAfter:
		return fmt.Errorf("%s was not answered", call)
	}
	return err
}

func (w *world) die() {
	w.process++
	for _, d := range w.dbs {
		clear(d.locked) // the server ends the session
		for s := range d.lent {
			d.closed[s] = false
		}
		clear(d.lent)
	}
	w.look("death")
	w.death()
}

// look checks the promise: no database takes writes on both sides.
func (w *world) look(after string) {
	for i, d := range w.dbs {
		writable := 0
		for _, s := range []Side{Source, Target} {
			if !d.closed[s] && d.locked[s] == 0 {
				writable++
			}
		}
		if writable > 1 && w.wrong == nil {
			w.wrong = fmt.Errorf("after %s database %d takes writes on both sides", after, i)
		}
	}
}

// modelMover is a Mover on the world.
type modelMover struct {
	w        *world
	process  int
	i        int
	from, to Side
}

func (m *modelMover) db() *pair    { return m.w.dbs[m.i] }
func (m *modelMover) Name() string { return fmt.Sprintf("db%d", m.i) }
func (m *modelMover) act(ctx context.Context, call string, do func(*pair) error) error {
	select {
	case <-ctx.Done():
	case <-time.After(max(m.w.slow[call], m.w.slow[call+" "+m.Name()])):
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.w.act(m.process, call+" "+m.Name(), func() error { return do(m.db()) })
}
func (m *modelMover) Preflight(context.Context) ([]move.Issue, error) { return nil, nil }
func (m *modelMover) Replicate(ctx context.Context, _ func(move.Progress)) error {
	<-ctx.Done()
	return ctx.Err()
}
func (m *modelMover) Verify(ctx context.Context, _ move.VerifyOptions, _ func(move.Progress)) (move.Comparison, error) {
	return move.Comparison{Tables: 1, Rows: 1}, m.act(ctx, "verify", func(*pair) error { return nil })
}
func (m *modelMover) Prepare(ctx context.Context) error {
	return m.act(ctx, "prepare", func(d *pair) error { d.slot[m.to] = true; return nil })
}
func (m *modelMover) Rehearse(ctx context.Context) (move.Rehearsal, error) {
	if m.w.lag == nil {
		return move.Rehearsal{}, ctx.Err()
	}
	return move.Rehearsal{Lag: m.w.lag()}, ctx.Err()
}
func (m *modelMover) Fence(ctx context.Context) (move.Marker, error) {
	return move.Marker{N: 1}, m.act(ctx, "fence", func(d *pair) error {
		if d.closed[m.from] {
			return errors.New("sealed already")
		}
		d.locked[m.from] = m.process
		return nil
	})
}
func (m *modelMover) CatchUp(ctx context.Context, _ move.Marker) error {
	return m.act(ctx, "catch up", func(*pair) error { return nil })
}
func (m *modelMover) Pin(ctx context.Context) error {
	return m.act(ctx, "pin", func(*pair) error { return nil })
}
func (m *modelMover) Unpin(context.Context) {}
func (m *modelMover) Seal(ctx context.Context) error {
	return m.act(ctx, "seal", func(d *pair) error {
		if d.locked[m.from] != m.process || !d.slot[m.to] {
			return errors.New("not fenced or not prepared")
		}
		d.closed[m.from], d.lent[m.from] = true, d.loose
		if !d.loose {
			delete(d.lent, m.from)
		}
		delete(d.locked, m.from)
		return nil
	})
}
func (m *modelMover) Open(ctx context.Context) error {
	return m.act(ctx, "open", func(d *pair) error {
		if !d.closed[m.from] {
			return errors.New("not sealed")
		}
		d.closed[m.to] = false
		delete(d.lent, m.from)
		return nil
	})
}
func (m *modelMover) Retire(ctx context.Context) error {
	return m.act(ctx, "retire", func(d *pair) error { d.slot[m.from] = false; return nil })
}
func (m *modelMover) Unfence(ctx context.Context) error {
	return m.act(ctx, "unfence", func(d *pair) error {
		delete(d.locked, m.from)
		if d.closed[m.from] && !d.closed[m.to] {
			return &move.Refused{Reason: "open"}
		}
		d.closed[m.from] = false
		delete(d.lent, m.from)
		return nil
	})
}
func (m *modelMover) State(ctx context.Context) (move.State, error) {
	var s move.State
	err := m.act(ctx, "state", func(d *pair) error {
		s = move.State{Started: true, Copied: true, Sealed: d.closed[m.from], Open: !d.closed[m.to]}
		return nil
	})
	return s, err
}
func (m *modelMover) Finish(context.Context) error { return nil }
func (m *modelMover) Close(context.Context)        {}

// modelGate is a gate process of its own: it outlives the cutover's.
type modelGate struct {
	w       *world
	process int
}

func (g *modelGate) act(ctx context.Context, call string, do func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return g.w.act(g.process, call, func() error { do(); return nil })
}
func (g *modelGate) Hold(ctx context.Context) error {
	return g.act(ctx, "hold", func() { g.w.held = true })
}
func (g *modelGate) Drain(ctx context.Context) error { return g.act(ctx, "drain", func() {}) }
func (g *modelGate) SwitchAndRelease(ctx context.Context, to Side) error {
	return g.act(ctx, "switch", func() { g.w.served, g.w.held = to, false })
}
func (g *modelGate) Release(ctx context.Context) error {
	return g.act(ctx, "release", func() { g.w.held = false })
}

func newWorld(dbs int) *world {
	w := &world{process: 1, served: Source, death: func() {}}
	for range dbs {
		w.dbs = append(w.dbs, &pair{closed: map[Side]bool{Target: true}, locked: map[Side]int{}, slot: map[Side]bool{Source: true}, lent: map[Side]bool{}})
	}
	return w
}

// start is a new process that runs a cutover to its end, or dies.
func (w *world) start(t *rapid.T, journal string, to Side) (Result, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	j, err := OpenJournal(ctx, journal)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	w.mu.Lock()
	process := w.process
	w.death = func() { _ = j.Close() } // a dead process writes no journal
	w.mu.Unlock()
	cfg := Config{To: to, Journal: j, Budget: 10 * time.Second, Persistence: 100 * time.Millisecond, Breath: time.Nanosecond, Proof: true, Verify: true, Gate: &modelGate{w, process}}
	for i := range w.dbs {
		cfg.Movers = append(cfg.Movers, &modelMover{w, process, i, to.Other(), to})
		cfg.Back = append(cfg.Back, &modelMover{w, process, i, to, to.Other()})
	}
	cfg.AfterStep = func(s Step) { _ = w.act(process, "step "+string(s), func() error { return nil }) }
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m.Run(ctx)
}

// settled says where the world stands, or what is wrong with where it stands.
func (w *world) settled() (Side, error) {
	if w.wrong != nil {
		return "", w.wrong
	}
	side := Side("")
	for i, d := range w.dbs {
		at := Source
		switch {
		case d.closed[Source] == d.closed[Target]:
			return "", fmt.Errorf("database %d stands between its ends: %v", i, d.closed)
		case d.closed[Source]:
			at = Target
		}
		if side != "" && side != at {
			return "", fmt.Errorf("database %d is at the %s, another one is not", i, at)
		}
		side = at
		if d.locked[at] != 0 {
			return "", fmt.Errorf("database %d is still locked", i)
		}
	}
	if w.held {
		return "", errors.New("the gate still holds")
	}
	if w.served != side {
		return "", fmt.Errorf("the gate serves the %s, the databases are at the %s", w.served, side)
	}
	return side, nil
}

// delicate are calls whose failure matters the most; the empty ones stand for any call.
var delicate = []string{"", "", "", "", "", "", "", "fence db1", "pin db0", "seal db0", "seal db1", "open db0", "open db1", "open db1", "switch", "unfence db0", "unfence db1", "release", "retire db0", "state db1"}

// TestMachineKeepsItsPromises lets runs fail and die at random calls, there and
// back: at no call does a database take writes on both sides, a run that failed
// without dying has undone everything, and a run that is started again after a
// death ends on one side, whole.
func TestMachineKeepsItsPromises(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		journal := filepath.Join(dir, fmt.Sprint(n), "journal.db")
		w := newWorld(rapid.IntRange(1, 4).Draw(t, "databases"))
		for i, d := range w.dbs {
			d.loose = rapid.Bool().Draw(t, fmt.Sprintf("database %d keeps no fence by itself", i))
		}
		at := Source
		for range rapid.IntRange(1, 4).Draw(t, "voyages") {
			to := at.Other()
			troubles := rapid.IntRange(0, 4).Draw(t, "troubles")
			for {
				left := 0
				when := -1
				var kind fate
				named := ""
				if troubles > 0 {
					troubles--
					kind = fate(rapid.IntRange(int(fails), int(diesAfter)).Draw(t, "fate"))
					when = 0
					// Half of the troubles meet the calls around the point of no return.
					if named = rapid.SampledFrom(delicate).Draw(t, "named"); named == "" {
						when = rapid.IntRange(0, 60).Draw(t, "call")
					}
				}
				w.fault = func(call string) fate {
					if named != "" && call != named {
						return works
					}
					left++
					if left-1 == when {
						return kind
					}
					return works
				}
				born := w.process
				r, err := w.start(t, journal, to)
				w.fault = nil
				if err == nil {
					if r.Outcome != Done {
						t.Fatalf("no error and outcome %q", r.Outcome)
					}
					break
				}
				if w.wrong != nil {
					t.Fatal(w.wrong)
				}
				var over *move.Refused
				if errors.As(err, &over) {
					t.Fatalf("refused: %v", err)
				}
				if w.process == born && r.Outcome == Undone {
					if side, err := w.settled(); err != nil || side != at {
						t.Fatalf("a run that was undone left the world at %q: %v", side, err)
					}
				}
				if when < 0 {
					t.Fatalf("failed without trouble: %v", err)
				}
			}
			side, err := w.settled()
			if err != nil {
				t.Fatal(err)
			}
			if side != to {
				t.Fatalf("arrived at the %s instead of the %s", side, to)
			}
			at = to
		}
	})
}
