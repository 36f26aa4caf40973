package dr

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestEveryCall strikes each call of each command once, by each fate: at no time both
// sides take writes, unless main was silent; nothing is lost that a main has acknowledged
// which answers; a drill asks main nothing; and what was begun ends by itself afterwards.
func TestEveryCall(t *testing.T) {
	graph, dir := graphOf(t, twoTemplates()), t.TempDir()
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

// TestAnyOrder: the same for commands in any order, with a main that comes and goes.
func TestAnyOrder(t *testing.T) {
	graph, dir := graphOf(t, twoTemplates()), t.TempDir()
	commands := []string{"failover", "failback", "drill", "status", "silence", "answer", "busy", "remake"}
	rapid.Check(t, func(rt *rapid.T) {
		strokes := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) stroke {
			return stroke{rapid.SampledFrom(commands).Draw(rt, "command"), rapid.IntRange(-1, 120).Draw(rt, "at"), fate(rapid.IntRange(1, int(mostFates)-1).Draw(rt, "fate"))}
		}), 1, 8).Draw(rt, "strokes")
		own, err := os.MkdirTemp(dir, "")
		if err != nil {
			rt.Fatal(err)
		}
		s := newSky(graph, own)
		for _, one := range strokes {
			switch one.command {
			case "failover":
				_ = s.run(t.Context(), one.at, one.fate, over)
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

// TestLocked: a failover of a main that answers loses nothing, and says so.
func TestLocked(t *testing.T) {
	s := newSky(graphOf(t, twoTemplates()), t.TempDir())
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
