package dr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestEveryCall strikes each call of each command once, by each fate: at no time both
// sides take writes, and nothing is lost that main has acknowledged; a drill asks main
// nothing; and what was begun ends by itself afterwards.
func TestEveryCall(t *testing.T) {
	dir := quickDir(t)
	graph := graphOf(t, twoTemplates())
	for _, command := range []string{"failover", "failback", "drill"} {
		for what := lost; what < mostFates; what++ {
			most := 0
			for at := 0; ; at++ {
				s := newSky(graph, filepath.Join(dir, fmt.Sprint(command, what, at)))
				do := over
				switch command {
				case "failback":
					if err := s.run(t.Context(), -1, granted, over); err != nil {
						t.Fatal(err)
					}
					do = back
				case "drill":
					do = s.drilled
				}
				err := s.run(t.Context(), at, what, do)
				struck := s.struck
				failed := t.Failed()
				s.mend(t.Context(), t)
				if t.Failed() && !failed {
					t.Fatalf("fate %d at call %d of a %s, which ended with %v, is to blame", what, at, command, err)
				}
				if !struck {
					if err != nil {
						t.Fatalf("a %s that nothing struck: %v", command, err)
					}
					break
				}
				most = at
			}
			if most < 8 {
				t.Errorf("a %s has %d calls alone", command, most)
			}
		}
	}
}

// stroke is a command, and what strikes it.
type stroke struct {
	command string
	at      int
	fate    fate
}

// TestAnyOrder: the same for commands in any order, with a main that comes and goes, but
// where somebody accepts loss.
func TestAnyOrder(t *testing.T) {
	dir := quickDir(t)
	graph := graphOf(t, twoTemplates())
	commands := []string{"failover", "accepted", "failback", "drill", "status", "silence", "answer", "busy", "mute", "remake"}
	tries := 0
	rapid.Check(t, func(rt *rapid.T) {
		strokes := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) stroke {
			return stroke{rapid.SampledFrom(commands).Draw(rt, "command"), rapid.IntRange(-1, 120).Draw(rt, "at"), fate(rapid.IntRange(1, int(mostFates)-1).Draw(rt, "fate"))}
		}), 1, 8).Draw(rt, "strokes")
		tries++
		s := newSky(graph, filepath.Join(dir, fmt.Sprint(tries)))
		for _, one := range strokes {
			switch one.command {
			case "failover":
				_ = s.run(t.Context(), one.at, one.fate, over)
			case "accepted":
				_ = s.run(t.Context(), one.at, one.fate, s.accepted)
			case "mute":
				s.mute = !s.mute
			case "failback":
				_ = s.run(t.Context(), one.at, one.fate, back)
			case "drill":
				_ = s.run(t.Context(), one.at, one.fate, s.drilled)
			case "status":
				_ = s.run(t.Context(), one.at, one.fate, looked)
			case "silence":
				s.gone = true
			case "answer":
				s.gone = false
			case "busy":
				for name, m := range s.main {
					s.keep(m, "backing-up")
					s.keep(s.dr[name], "backing-up")
				}
			case "remake":
				d, err := s.open()
				if err != nil {
					rt.Fatal(err)
				}
				if !s.turned() && d.state.unfinished() == nil {
					s.remake()
				}
			}
		}
		s.mend(t.Context(), rt)
	})
}

// TestSilentMain: a main that does not answer is left only where loss is accepted, and
// nothing is changed where it is not.
func TestSilentMain(t *testing.T) {
	s := skyOf(t)
	if err := s.run(t.Context(), -1, granted, looked); err != nil {
		t.Fatal(err)
	}
	s.gone = true
	if err := s.run(t.Context(), -1, granted, over); !errors.Is(err, ErrLoss) || !strings.Contains(err.Error(), "main can not be locked, and may go on to take writes") || !strings.Contains(err.Error(), "is lost at most") {
		t.Errorf("without a word on loss: %v", err)
	}
	var asked []Question
	ask := func(answer error) func(context.Context, *DR) error {
		return func(ctx context.Context, d *DR) error {
			s.accepts = true
			_, err := d.Failover(ctx, FailoverOptions{Confirm: func(_ context.Context, q Question) error {
				asked = append(asked, q)
				return answer
			}})
			return err
		}
	}
	declined := errors.New("no")
	if err := s.run(t.Context(), -1, granted, ask(declined)); !errors.Is(err, declined) {
		t.Errorf("declined: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, stateFile)); !errors.Is(err, os.ErrNotExist) || s.turned() {
		t.Errorf("what was declined has left something: %v", err)
	}
	if err := s.run(t.Context(), -1, granted, ask(nil)); err != nil {
		t.Fatal(err)
	}
	d, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	if run := d.state.Runs[0]; len(asked) != 2 || asked[1].Loss == "" || run.Loss != confirmedLoss || run.RPO == nil || *run.RPO <= 0 || !s.turned() {
		t.Errorf("confirmed: %+v, after %+v", run, asked)
	}
	s.mend(t.Context(), t)
}

// TestFallsSilent: of a main that falls silent when it is locked, it is asked whether what
// its replicas do not show may be lost.
func TestFallsSilent(t *testing.T) {
	dir := quickDir(t)
	graph := graphOf(t, twoTemplates())
	asked := 0
	for at := range 80 {
		s := newSky(graph, filepath.Join(dir, fmt.Sprint(at)))
		_ = s.run(t.Context(), at, silence, over)
		d, err := s.open()
		if err != nil {
			t.Fatal(err)
		}
		if d.state.unfinished() == nil || d.state.unfinished().done(StepCatchUp) || slices.ContainsFunc(d.state.Fences, func(f Fence) bool { return f.At.IsZero() }) || len(d.state.Fences) < 2 {
			continue
		}
		if err := s.run(t.Context(), -1, granted, func(ctx context.Context, d *DR) error {
			s.accepts = true
			_, err := d.Failover(ctx, FailoverOptions{Reason: "a test", Confirm: func(_ context.Context, q Question) error {
				if !strings.Contains(q.Loss, "main has fallen silent since it was locked") {
					t.Errorf("struck at %d, it asks %+v", at, q)
				}
				asked++
				return nil
			}})
			return err
		}); err != nil || !s.turned() {
			t.Errorf("struck at %d: %v", at, err)
		}
		s.mend(t.Context(), t)
	}
	if asked == 0 {
		t.Error("main fell silent at no such moment")
	}
}

// TestDead: a database of main that is dead can not be locked either.
func TestDead(t *testing.T) {
	s := skyOf(t)
	dead := s.main["bank-main-mariadb"]
	dead.busy = "storage-full"
	for range 2 {
		if err := s.run(t.Context(), -1, granted, over); !errors.Is(err, ErrLoss) || !strings.Contains(err.Error(), "it can not be locked: bank-main-mariadb is storage-full") {
			t.Errorf("without a word on loss: %v", err)
		}
	}
	if err := s.run(t.Context(), -1, granted, s.accepted); err != nil || !s.turned() {
		t.Fatal(err)
	}
	dead.busy = ""
	s.mend(t.Context(), t)
}

// TestMute: a restart of which RDS tells no event is seen all the same.
func TestMute(t *testing.T) {
	s := skyOf(t)
	s.mute = true
	for _, command := range []func(context.Context, *DR) error{over, back} {
		if err := s.run(t.Context(), -1, granted, command); err != nil {
			t.Fatal(err)
		}
	}
	s.mend(t.Context(), t)
}

// TestLocked: a failover of a main that answers loses nothing, and says so.
func TestLocked(t *testing.T) {
	s := skyOf(t)
	if err := s.run(t.Context(), -1, granted, over); err != nil {
		t.Fatal(err)
	}
	d, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	run := d.state.Runs[0]
	var steps []Step
	for _, one := range run.Steps {
		steps = append(steps, one.Step)
	}
	if want := []Step{StepFence, StepCatchUp, StepPromote, StepScale, StepSwitch}; run.Outcome != OutcomeDone || run.RPO == nil || *run.RPO != 0 || !slices.Equal(steps, want) {
		t.Errorf("the run is %+v", run)
	}
	for name, r := range s.dr {
		if r.class != "db.m6g.xlarge" || !r.standby {
			t.Errorf("dr's of %s is %s, with a standby: %v", name, r.class, r.standby)
		}
	}
	s.mend(t.Context(), t)
}
