package demo

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"dhow/internal/move"
)

// TestListen takes the movers' log apart: reports, how the Job stands, and what is neither.
func TestListen(t *testing.T) {
	var said []string
	a := &ashore{say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
	var heard []move.Progress
	err := a.listen(strings.NewReader(`{"event":"job","job":"dhow/x","parts":2,"running":1,"done":0,"failed":0,"trouble":"pod b: no node"}
{"event":"progress","database":"accounts","phase":"copy","rows":7}
{"time":"2026-11-30T02:00:00Z","level":"INFO","msg":"a route is served"}
{"event":"end","reason":"failed"}
dhow: the source is away
`), func(p move.Progress) { heard = append(heard, p) })
	if !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "the source is away") {
		t.Errorf("it ends with %v", err)
	}
	if len(heard) != 1 || heard[0].Database != "accounts" || heard[0].Rows != 7 {
		t.Errorf("it heard %+v", heard)
	}
	if len(said) != 1 || said[0] != "job dhow/x: 1 of 2 parts run, 0 done; pod b: no node" {
		t.Errorf("it said %q", said)
	}
}

// TestHearSteps says the steps of a cutover as they are without pods.
func TestHearSteps(t *testing.T) {
	var said []string
	a := &ashore{say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
	for _, line := range []string{
		`{"level":"INFO","msg":"cutover","step":"","took":0,"text":"comparing both sides while they move"}`,
		`{"level":"INFO","msg":"cutover","step":"hold","took":1250000,"text":""}`,
		`{"level":"INFO","msg":"something else"}`, `dhow: no JSON`,
	} {
		a.hearSteps([]byte(line))
	}
	if strings.Join(said, "|") != "comparing both sides while they move|  hold         1.2 ms" {
		t.Errorf("it said %q", said)
	}
}
