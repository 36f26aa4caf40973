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
	cfg := Config{To: Target, Journal: j, Budget: time.Minute, Patience: 10 * time.Millisecond, Persistence: 2 * time.Second, Breath: time.Nanosecond, Proof: true, Gate: &modelGate{w, w.process}}
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
	w.lag = func() time.Duration { return 2 * time.Minute }
	m, j := machineOn(t, w, nil)
	r, err := m.Run(context.Background())
	if !errors.Is(err, ErrOverBudget) || !strings.Contains(err.Error(), "cutover.stall_budget") {
		t.Errorf("got %v, want a refusal that names the budget", err)
	}
	if !r.HeldAt.IsZero() || r.Predicted != 2*time.Minute {
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
			return 2 * time.Minute
		}
		return time.Millisecond
	}
	m, _ := machineOn(t, w, func(c *Config) { c.Patience = time.Minute })
	if r, err := m.Run(context.Background()); err != nil || r.Outcome != Done || r.Predicted != time.Millisecond {
		t.Errorf("outcome %q, predicted %s, %v", r.Outcome, r.Predicted, err)
	}
	standsAt(t, w, Target)
}

// TestRunPrefersACalmerMoment: a stall that only just fits is taken once nothing
// better has come for half of the patience.
func TestRunPrefersACalmerMoment(t *testing.T) {
	const tight, calm = 42 * time.Second, time.Millisecond // of a minute
	for name, c := range map[string]struct {
		comes    bool
		patience time.Duration
		want     time.Duration
	}{
		"it comes":     {true, time.Minute, calm},
		"it does not":  {false, 20 * time.Millisecond, tight},
		"it came late": {true, time.Nanosecond, tight},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1)
			asked := 0
			w.lag = func() time.Duration {
				if asked++; asked <= rehearsals+1 || !c.comes {
					return tight
				}
				return calm
			}
			m, _ := machineOn(t, w, func(cfg *Config) { cfg.Patience = c.patience })
			if r, err := m.Run(context.Background()); err != nil || r.Outcome != Done || r.Predicted != c.want {
				t.Errorf("outcome %q, predicted %s, %v: want %s", r.Outcome, r.Predicted, err, c.want)
			}
		})
	}
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

// TestUndoReachesEveryone: one server that can not be unfenced is no reason to leave
// the others fenced.
func TestUndoReachesEveryone(t *testing.T) {
	w := newWorld(3)
	w.slow = map[string]time.Duration{"unfence db2": 20 * time.Millisecond}
	w.fault = func(call string) fate {
		if call == "seal db1" || call == "unfence db0" {
			return fails
		}
		return works
	}
	m, j := machineOn(t, w, nil)
	_, err := m.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "undoing was not complete") || !strings.Contains(err.Error(), "database db0") {
		t.Errorf("got %v", err)
	}
	for i, d := range w.dbs[1:] {
		if d.closed[Source] || d.locked[Source] != 0 {
			t.Errorf("database %d is still fenced", i+1)
		}
	}
	if last, err := j.Last(context.Background()); err != nil || last.Outcome != "" {
		t.Errorf("the journal holds %+v, %v: the run is not undone", last, err)
	}
	w.fault = nil
	again, err := New(m.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := again.Run(context.Background()); err != nil || !strings.Contains(r.Recovered, "it was undone") {
		t.Errorf("%q, %v", r.Recovered, err)
	}
	standsAt(t, w, Target)
}

// TestOpenWaitsForNobody: an engine that opens slowly opens although another fails
// at once, again and again.
func TestOpenWaitsForNobody(t *testing.T) {
	w := newWorld(2)
	w.slow = map[string]time.Duration{"open db1": 30 * time.Millisecond}
	opened := 0
	w.fault = func(call string) fate {
		switch call {
		case "open db0":
			if w.dbs[1].closed[Target] { // it works only once the slow one is open
				return fails
			}
		case "open db1":
			opened++
		}
		return works
	}
	m, _ := machineOn(t, w, func(c *Config) { c.Persistence = 10 * time.Second })
	if r, err := m.Run(context.Background()); err != nil || r.Outcome != Done || opened == 0 {
		t.Errorf("outcome %q, opened %d times, %v", r.Outcome, opened, err)
	}
	standsAt(t, w, Target)
}

// TestOneThatCanNotFollowTakesAllBack: of three engines one does not catch up in time.
func TestOneThatCanNotFollowTakesAllBack(t *testing.T) {
	for _, call := range []string{"fence db2", "catch up db2", "seal db2"} {
		w := newWorld(3)
		w.slow = map[string]time.Duration{call: time.Minute}
		m, _ := machineOn(t, w, func(c *Config) { c.Budget = 2 * time.Second })
		if r, err := m.Run(context.Background()); !errors.Is(err, ErrOverBudget) || !strings.Contains(err.Error(), "database db2") || r.Outcome != Undone {
			t.Errorf("%s: outcome %q, %v", call, r.Outcome, err)
		}
		standsAt(t, w, Source)
	}
}

// TestSealThatDidNotLast: a process dies when one target is open, and the server of
// another source lets go of its seal with it. It takes writes again; the next run
// fences it again, and only then opens its target.
func TestSealThatDidNotLast(t *testing.T) {
	w := newWorld(2)
	w.dbs[1].loose = true
	w.slow = map[string]time.Duration{"open db1": 50 * time.Millisecond}
	w.fault = func(call string) fate {
		if call == "open db1" {
			return diesBefore
		}
		return works
	}
	m, _ := machineOn(t, w, nil)
	if _, err := m.Run(context.Background()); err == nil {
		t.Fatal("a dead process has arrived")
	}
	if w.dbs[0].closed[Target] || w.dbs[1].closed[Source] || !w.dbs[1].closed[Target] {
		t.Fatalf("the stage is not as it was to be: %v %v", w.dbs[0].closed, w.dbs[1].closed)
	}
	w.fault, w.slow = nil, nil
	var said []string
	next := m.cfg
	next.Movers, next.Back, next.Gate = nil, nil, &modelGate{w, w.process}
	next.Report = func(e Event) { said = append(said, e.Text) }
	for i := range w.dbs {
		next.Movers = append(next.Movers, &modelMover{w, w.process, i, Source, Target})
		next.Back = append(next.Back, &modelMover{w, w.process, i, Target, Source})
	}
	again, err := New(next)
	if err != nil {
		t.Fatal(err)
	}
	r, err := again.Run(context.Background())
	if err != nil || r.Outcome != Done || !slices.Contains(said, "the fence of db1 did not last: fencing again") {
		t.Errorf("outcome %q, %v, said %q", r.Outcome, err, said)
	}
	standsAt(t, w, Target)
	if w.wrong != nil {
		t.Error(w.wrong)
	}
}

// TestBothSidesOpenIsForPeople: what took writes on both sides is not decided here.
func TestBothSidesOpenIsForPeople(t *testing.T) {
	w := newWorld(2)
	m, j := machineOn(t, w, nil)
	if _, err := j.Begin(context.Background(), Target); err != nil {
		t.Fatal(err)
	}
	w.dbs[1].closed[Target] = false
	var refused *move.Refused
	if _, err := m.Run(context.Background()); !errors.As(err, &refused) || !strings.Contains(err.Error(), "both sides of database db1 take writes") {
		t.Errorf("got %v", err)
	}
}

// timed is a mover whose rehearsals and comparisons are given.
type timed struct {
	move.Mover
	rehearsal move.Rehearsal
	pinned    error // of the comparison of what is pinned
	moving    int   // comparisons of moving data
}

func (m *timed) Rehearse(context.Context) (move.Rehearsal, error) { return m.rehearsal, nil }

func (m *timed) Verify(_ context.Context, o move.VerifyOptions, _ func(move.Progress)) (move.Comparison, error) {
	if o.Pinned && m.pinned != nil {
		return move.Comparison{}, m.pinned
	}
	if !o.Pinned {
		m.moving++
	}
	return move.Comparison{Rows: 1, ByTable: []move.TableComparison{{Table: "t", Rows: 1}}}, nil
}

// TestThePredictionIsOfTheSlowest: every database waits for the slowest, at the marker and at the seal.
func TestThePredictionIsOfTheSlowest(t *testing.T) {
	w := newWorld(2)
	lags := []move.Rehearsal{{Lag: 30 * time.Millisecond, Seal: 5 * time.Millisecond}, {Lag: 10 * time.Millisecond, Seal: 40 * time.Millisecond}}
	m, _ := machineOn(t, w, func(c *Config) {
		for i, mv := range c.Movers {
			c.Movers[i] = &timed{Mover: mv, rehearsal: lags[i]}
		}
	})
	r, err := m.Rehearse(context.Background())
	if err != nil || r.Predicted != 70*time.Millisecond || r.Rehearsed["db0"] != lags[0] || r.Rehearsed["db1"] != lags[1] {
		t.Errorf("predicted %s of %v, %v", r.Predicted, r.Rehearsed, err)
	}
}

// TestProofOfALostSnapshot: where one database's snapshot was lost, it alone is compared as it moves.
func TestProofOfALostSnapshot(t *testing.T) {
	w := newWorld(2)
	var movers, back []*timed
	m, _ := machineOn(t, w, func(c *Config) {
		for i := range c.Movers {
			movers, back = append(movers, &timed{Mover: c.Movers[i]}), append(back, &timed{Mover: c.Back[i]})
			c.Movers[i], c.Back[i] = movers[i], back[i]
		}
	})
	movers[1].pinned = errors.New("the snapshot is gone")
	r, err := m.Run(context.Background())
	if err != nil || len(r.Compared) != 2 || !slices.Equal(r.Moving, []string{"db1"}) {
		t.Errorf("compared %v, as they move %v, %v", r.Compared, r.Moving, err)
	}
	if back[0].moving != 0 || back[1].moving != 1 || movers[0].moving+movers[1].moving != 0 {
		t.Errorf("moving data was compared %d and %d times on the way back", back[0].moving, back[1].moving)
	}
	if c := r.Compared["db0"]; c.Took <= 0 || len(c.ByTable) != 1 {
		t.Errorf("the proof of db0 is %+v", c)
	}
	standsAt(t, w, Target)
}

// TestAlarm: it names what differs, and what to run, which is not the same before and behind.
func TestAlarm(t *testing.T) {
	found := map[string]move.Comparison{
		"cards":    {Different: 2, Differences: []move.Difference{{Table: "cards.card", Key: "id=7", Kind: move.Missing}}},
		"sessions": {Different: 1}, "ledger": {Rows: 5},
	}
	before, behind := differsBefore(found), differsBehind(found, Target)
	for _, want := range []string{"3 rows or keys (2 of cards, 1 of sessions)", "the first is cards: cards.card id=7 (missing)", "mend with `dhow verify --repair`"} {
		if !strings.Contains(before.Error(), want) {
			t.Errorf("%v does not say %q", before, want)
		}
	}
	for _, want := range []string{"the target serves", "run `dhow rollback --no-verify` to go back", "do not run `dhow verify --repair` before", "mend the source after the target", "`dhow cutover` again"} {
		if !strings.Contains(behind.Error(), want) {
			t.Errorf("%v does not say %q", behind, want)
		}
	}
	again := differsBehind(found, Source)
	for _, want := range []string{"the source serves", "`dhow verify --repair` makes the target equal", "`dhow cutover --no-verify`"} {
		if !strings.Contains(again.Error(), want) {
			t.Errorf("%v does not say %q", again, want)
		}
	}
	if !errors.Is(before, ErrDiffers) || !errors.Is(behind, ErrDiffers) || differsBefore(nil) != nil || differsBehind(map[string]move.Comparison{"a": {Rows: 1}}, Source) != nil {
		t.Error("an alarm is not what callers look for, or rings for nothing")
	}
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
