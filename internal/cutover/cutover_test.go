package cutover

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dhow/internal/move"
)

// machineOn makes a machine towards the target on a world, and its journal.
func machineOn(t *testing.T, w *world, change func(*Config)) (*Machine, *Journal) {
	t.Helper()
	j, err := OpenJournal(context.Background(), filepath.Join(t.TempDir(), "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	cfg := Config{To: Target, Journal: j, Budget: time.Second, Patience: 10 * time.Millisecond, Persistence: 100 * time.Millisecond, Breath: time.Nanosecond, Proof: true, Gate: &modelGate{w, w.process}}
	for i := range w.dbs {
		cfg.Movers = append(cfg.Movers, &modelMover{w, w.process, i, Source, Target})
		cfg.Back = append(cfg.Back, &modelMover{w, w.process, i, Target, Source})
	}
	if change != nil {
		change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m, j
}

// standsAt fails unless everything is at one side, whole.
func standsAt(t *testing.T, w *world, want Side) {
	t.Helper()
	if side, err := w.settled(); err != nil || side != want {
		t.Errorf("all should stand at the %s, and stands at %q: %v", want, side, err)
	}
}

func TestRunRefusesAStallThatIsTooLong(t *testing.T) {
	w := newWorld(2)
	w.lag = func() time.Duration { return 2 * time.Second }
	m, j := machineOn(t, w, nil)
	r, err := m.Run(context.Background())
	if !errors.Is(err, ErrOverBudget) || !strings.Contains(err.Error(), "cutover.stall_budget") {
		t.Errorf("got %v, want a refusal that names the budget", err)
	}
	if !r.HeldAt.IsZero() || r.Predicted != 2*time.Second {
		t.Errorf("held at %s, predicted %s", r.HeldAt, r.Predicted)
	}
	if last, err := j.Last(context.Background()); err != nil || last != nil {
		t.Errorf("the journal holds %v, %v: nothing was begun", last, err)
	}
	standsAt(t, w, Source)
}

func TestRunWaitsForACalmMoment(t *testing.T) {
	w := newWorld(1)
	asked := 0
	w.lag = func() time.Duration {
		if asked++; asked <= rehearsals+1 { // one look at whether the stream follows, one prediction
			return 2 * time.Second
		}
		return time.Millisecond
	}
	m, _ := machineOn(t, w, func(c *Config) { c.Patience = time.Minute })
	if r, err := m.Run(context.Background()); err != nil || r.Outcome != Done || r.Predicted != time.Millisecond {
		t.Errorf("outcome %q, predicted %s, %v", r.Outcome, r.Predicted, err)
	}
	standsAt(t, w, Target)
}

func TestRunUndoesAStepThatOutlastsTheBudget(t *testing.T) {
	for _, step := range []string{"fence", "catch up", "pin", "seal"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(2)
			w.slow = map[string]time.Duration{step: time.Minute}
			m, j := machineOn(t, w, func(c *Config) { c.Budget = 50 * time.Millisecond })
			r, err := m.Run(context.Background())
			if !errors.Is(err, ErrOverBudget) || r.Outcome != Undone {
				t.Errorf("outcome %q, %v: want it undone for its budget", r.Outcome, err)
			}
			if last, err := j.Last(context.Background()); err != nil || last == nil || last.Outcome != Undone {
				t.Errorf("the journal holds %+v, %v", last, err)
			}
			standsAt(t, w, Source)
		})
	}
}

func TestRunIsGivenUpByThoseWhoAreAsked(t *testing.T) {
	w := newWorld(1)
	no := errors.New("no")
	m, _ := machineOn(t, w, func(c *Config) {
		c.Confirm = func(context.Context, time.Duration) error { return no }
	})
	if r, err := m.Run(context.Background()); !errors.Is(err, no) || !r.HeldAt.IsZero() {
		t.Errorf("held at %s, %v", r.HeldAt, err)
	}
	standsAt(t, w, Source)
}

func TestRehearseMovesNothing(t *testing.T) {
	w := newWorld(2)
	w.lag = func() time.Duration { return 7 * time.Millisecond }
	m, j := machineOn(t, w, nil)
	if r, err := m.Rehearse(context.Background()); err != nil || r.Predicted != 7*time.Millisecond || len(r.Steps) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if last, err := j.Last(context.Background()); err != nil || last != nil {
		t.Errorf("the journal holds %v, %v", last, err)
	}
	standsAt(t, w, Source)
}

func TestRunsOfAnotherDirectionComeFirst(t *testing.T) {
	w := newWorld(1)
	m, j := machineOn(t, w, nil)
	if _, err := j.Begin(context.Background(), Source); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "dhow rollback") {
		t.Errorf("got %v, want to be told of the rollback that was cut off", err)
	}
}

func TestRunNamesEachStepInTheJournalBeforeItActs(t *testing.T) {
	w := newWorld(1)
	var seen []Step
	var j *Journal
	m, j := machineOn(t, w, func(c *Config) {
		c.AfterStep = func(s Step) {
			last, err := j.Last(context.Background())
			if err != nil || last.Last != s {
				t.Errorf("step %s is not in the journal: %+v, %v", s, last, err)
			}
			seen = append(seen, s)
		}
	})
	if _, err := m.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, Steps()) {
		t.Errorf("steps %v, want %v", seen, Steps())
	}
}

// differing is a mover whose comparison finds a row.
type differing struct{ move.Mover }

func (d differing) Verify(context.Context, move.VerifyOptions, func(move.Progress)) (move.Comparison, error) {
	return move.Comparison{Rows: 1, Different: 1, Differences: []move.Difference{{Table: "public.t", Key: "id=1", Kind: move.Changed}}}, nil
}

func TestRowsThatDiffer(t *testing.T) {
	differ := func(c *Config) {
		for i, mv := range c.Movers {
			c.Movers[i] = differing{mv}
		}
	}
	t.Run("before the cutover nothing is held", func(t *testing.T) {
		w := newWorld(1)
		m, _ := machineOn(t, w, func(c *Config) { differ(c); c.Verify = true })
		r, err := m.Run(context.Background())
		if !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), "public.t id=1") || !r.HeldAt.IsZero() {
			t.Errorf("held at %s, %v", r.HeldAt, err)
		}
		standsAt(t, w, Source)
	})
	t.Run("behind it the run has arrived and says so", func(t *testing.T) {
		w := newWorld(1)
		m, _ := machineOn(t, w, differ)
		r, err := m.Run(context.Background())
		if !errors.Is(err, ErrDiffers) || r.Outcome != Done {
			t.Errorf("outcome %q, %v", r.Outcome, err)
		}
		standsAt(t, w, Target)
	})
}

func TestLockIsForOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "lock")
	l, err := TakeLock(path, "replicate")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TakeLock(path, "cutover"); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "dhow replicate, process") {
		t.Errorf("got %v, want to be told who holds it", err)
	}
	l.Release()
	again, err := TakeLock(path, "cutover")
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}

func TestStepsAreInTheManual(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "cutover.md"))
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, s := range Steps() {
		i := strings.Index(string(page[at:]), "| "+string(s)+" ")
		if i < 0 {
			t.Fatalf("docs/cutover.md has no row for step %s behind the row before it", s)
		}
		at += i
	}
}
