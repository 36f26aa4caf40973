package estate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Invalid is an estate file that can not be used, with everything that is wrong with it.
type Invalid struct { //nolint:errname // it is the file that is invalid
	File     string    `json:"file"` // as it was given to Load
	Problems []Problem `json:"problems"`
}

// Problem is one thing that is wrong with an estate file, and what to do about it.
type Problem struct {
	// Line and Column count from 1.
	Line   int `json:"line"`
	Column int `json:"column"`
	// Path is the key's, for example databases[0].source.port; empty when the file as a whole is meant.
	Path string `json:"path,omitempty"`
	Text string `json:"text"`
}

// Error has a line for each problem, in the order of the file.
func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = e.Line(p)
	}
	return strings.Join(lines, "\n")
}

// Line is a problem as file:line, for a person to read.
func (e *Invalid) Line(p Problem) string {
	if p.Path == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, p.Line, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", e.File, p.Line, p.Path, p.Text)
}

// position is a place in the file, from 1.
type position struct{ line, column int }

// reading is what is known of a file while it is read and checked: what is
// wrong so far, and where each key stands.
type reading struct {
	file     string // as it was given to Load
	dir      string // the file's folder, absolute
	problems []Problem
	known    map[Problem]bool // those of problems
	// at is where each key's value stands, by path; a path that is missing here was not given.
	at map[string]position
	// broken are the paths that have a problem of their own already, so that
	// the checks do not report what follows from it.
	broken map[string]bool
}

// maxProblems bounds the report of one file; who has more starts with these.
const maxProblems = 100

func newReading(file, dir string) *reading {
	return &reading{file: file, dir: dir, known: map[Problem]bool{}, at: map[string]position{}, broken: map[string]bool{}}
}

// problem notes what is wrong at a place, once.
func (r *reading) problem(at position, path, format string, args ...any) {
	r.broken[path] = true
	p := Problem{Line: at.line, Column: at.column, Path: path, Text: fmt.Sprintf(format, args...)}
	if !r.known[p] {
		r.known[p] = true
		r.problems = append(r.problems, p)
	}
}

// wrong notes what is wrong with a key's value, at its place or, when it was
// not given, at the nearest key above it.
func (r *reading) wrong(path, format string, args ...any) {
	at, above := position{1, 1}, path
	for above != "" {
		if p, ok := r.at[above]; ok {
			at = p
			break
		}
		above = parent(above)
	}
	r.problem(at, path, format, args...)
}

// parent is the path of the key that holds this one; empty for the file's own keys.
func parent(path string) string {
	i := strings.LastIndexAny(path, ".[")
	if i < 0 {
		return ""
	}
	return path[:i]
}

// sound says whether a key, and all below which it stands, was read without a problem.
func (r *reading) sound(path string) bool {
	for ; path != ""; path = parent(path) {
		if r.broken[path] {
			return false
		}
	}
	return true
}

// given says whether the file gives a key.
func (r *reading) given(path string) bool {
	_, ok := r.at[path]
	return ok
}

// invalid is the error for what was found; nil when there is nothing.
func (r *reading) invalid() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	shown := r.problems
	if more := len(shown) - maxProblems; more > 0 {
		next := shown[maxProblems]
		shown = append(shown[:maxProblems:maxProblems], Problem{Line: next.Line, Column: next.Column, Text: fmt.Sprintf("%d more problems follow from here on: correct those above first", more)})
	}
	return &Invalid{File: r.file, Problems: shown}
}
