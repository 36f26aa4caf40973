package dr

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dhow/internal/durable"
)

const (
	// stateFile is in the estate's folder of state.
	stateFile = "dr.json"
	// mostKept bounds the drills, and the runs, that are kept.
	mostKept = 50
	// stateVersion is the form of the file.
	stateVersion = 1
)

// state is what is kept between runs: a file that is written whole or not at all, before
// each change that could not be found out from AWS after a crash.
type state struct {
	Version int `json:"version"`
	// Drills and Runs are in the order of their beginning.
	Drills []Drill `json:"drills,omitempty"`
	Runs   []Run   `json:"runs,omitempty"`
	// Raised are floors that are higher than they were, and what they were.
	Raised []Floor `json:"raised,omitempty"`
	// Fences are databases that take no connection.
	Fences []Fence `json:"fences,omitempty"`

	path string
}

// Floor is a stack whose least size was raised.
type Floor struct {
	Stack string `json:"stack"`
	// Before are the parameters' values to put back.
	Before map[string]string `json:"before"`
}

// Fence is a database that takes no connection.
type Fence struct {
	Environment string `json:"environment"`
	Database    string `json:"database"`
	// Group is the security group that lets nobody in, Groups those that it had before;
	// empty where nobody kept them.
	Group  string   `json:"group"`
	Groups []string `json:"groups"`
	// At is when the last connection was cut, by AWS's clock; zero while none was, or
	// when it may be open again.
	At time.Time `json:"at,omitzero"`
	// CaughtUp says that dr's database has shown since that it has all.
	CaughtUp bool `json:"caught_up,omitempty"`
}

func openState(dir string) (*state, error) {
	s := &state{Version: stateVersion, path: filepath.Join(dir, stateFile)}
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what earlier drills have kept: %w", err)
	}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("read %s, which earlier drills have kept: %w: restore it from a copy, or move it away and put right by hand what stands higher or locked", s.path, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("%s has the form %d, and this dhow knows %d: use the dhow that wrote it", s.path, s.Version, stateVersion)
	}
	return s, nil
}

// save has the state on the disk when it returns.
func (s *state) save() error {
	s.Drills, s.Runs = newest(s.Drills), newest(s.Runs)
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fmt.Errorf("create the folder of state: %w", err)
	}
	if err := durable.Replace(s.path, append(text, '\n')); err != nil {
		return fmt.Errorf("write %s (nothing further was changed; is its disk full?): %w", s.path, err)
	}
	return nil
}

func newest[T any](all []T) []T { return all[max(0, len(all)-mostKept):] }

// unfinished is the run that was cut off; nil where there is none.
func (s *state) unfinished() *Run {
	if n := len(s.Runs); n > 0 && s.Runs[n-1].Outcome == "" {
		return &s.Runs[n-1]
	}
	return nil
}

// measured is how long a step took when it last ended in a run that did its work;
// false where none did.
func (s *state) measured(step Step) (time.Duration, bool) {
	for i := len(s.Runs) - 1; i >= 0; i-- {
		for _, t := range s.Runs[i].Steps {
			if t.Step == step && t.Done {
				return t.Took, true
			}
		}
	}
	return 0, false
}

// passed is the last drill that found nothing wrong; nil where there is none.
func (s *state) passed() *Drill {
	for i := len(s.Drills) - 1; i >= 0; i-- {
		if s.Drills[i].Passed {
			return &s.Drills[i]
		}
	}
	return nil
}

// fence is what is known of a locked database; nil where nothing is.
func (s *state) fence(environment, database string) *Fence {
	for i := range s.Fences {
		if f := &s.Fences[i]; f.Environment == environment && f.Database == database {
			return f
		}
	}
	return nil
}

// fencedAt is when a database was locked; false where it is not.
func (s *state) fencedAt(environment, database string) (time.Time, bool) {
	f := s.fence(environment, database)
	if f == nil || f.At.IsZero() {
		return time.Time{}, false
	}
	return f.At, true
}
