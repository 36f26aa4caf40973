package dr

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestState: what is kept is read back, bounded, and what can not be read is told.
func TestState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := openState(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range mostKept + 3 {
		s.Drills = append(s.Drills, Drill{Began: now(), Steps: []Timing{}, Passed: true})
	}
	s.Fences = []Fence{{Environment: "main", Database: "a", Groups: []string{"sg-1"}}}
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	again, err := openState(dir)
	if err != nil || len(again.Drills) != mostKept || again.fence("main", "a") == nil || again.fence("dr", "a") != nil || again.passed() == nil || again.unfinished() != nil {
		t.Errorf("read back: %+v, %v", again, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("the folder has %v, %v", files, err)
	}
	for text, want := range map[string]string{"{": "restore it from a copy", `{"version": 9}`: "has the form 9"} {
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openState(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is read with %v", text, err)
		}
	}
}

// TestSteps: the tables' undoable steps come first, and each has its words.
func TestSteps(t *testing.T) {
	for _, kind := range []string{KindFailover, KindFailback} {
		final := false
		for _, s := range Steps(kind) {
			if s.Does == "" || final && s.Undoable {
				t.Errorf("%s: %+v", kind, s)
			}
			final = final || !s.Undoable
		}
		if !final {
			t.Errorf("%s has no step that is final", kind)
		}
	}
}
