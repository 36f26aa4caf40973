// Package demo runs the demo as a user does: the program, its output, its end.
package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dhow/internal/estate"
	"dhow/internal/programtest"
)

// build makes both programs and returns the path of dhow.
func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers and an application: not with -short (testing.Short)")
	}
	return filepath.Join(programtest.Build(t, "dhow/cmd/dhow", "dhow/superapp/cmd/superapp"), "dhow")
}

// within bounds a small demo on a machine that tests share.
const within = 5 * time.Minute

// folder is where a demo works: a socket's path must not be long.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo") //nolint:usetesting // t.TempDir's are too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestDemoGoesThereAndBackAndThereAgain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(t), "demo", "--accounts", "5000", "--rate", "200", "--duration", "4s", "--rollback", "--again", "--stall-budget", "3s", "-o", "json")
	cmd.Dir = folder(t)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, &said, &out)
	}
	var r map[string]any
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("standard output is not the figures alone: %v\n%s", err, &out)
	}
	for field, want := range map[string]any{"failed_requests": 0.0, "lost_writes": 0.0, "doubled_writes": 0.0, "rows_different": 0.0, "faults": 0.0,
		"money_conserved": true, "both_sides_wrote": false, "rolled_back": true, "again": true} {
		if r[field] != want {
			t.Errorf("%s is %v, want %v", field, r[field], want)
		}
	}
	for _, field := range []string{"landing_s", "stacks", "requests", "longest_stall_ms", "control_stall_ms", "p50_ms", "p99_ms", "acknowledged_writes", "rows_compared", "copy_rows_per_s", "copy_mb_per_s", "peak_rss_mb"} {
		if n, is := r[field].(float64); !is || n <= 0 {
			t.Errorf("%s is %v, want a number above 0", field, r[field])
		}
	}
	// Three times: 5,000 accounts and 25,000 entries at the least.
	if n, _ := r["rows_compared"].(float64); n < 3*30_000 {
		t.Errorf("%v rows were compared, which can not be all", n)
	}
	engines, _ := r["engines"].(map[string]any)
	for engine, compared := range map[string]string{"postgresql": "rows_compared", "mariadb": "rows_compared", "redis": "keys_compared"} {
		e, _ := engines[engine].(map[string]any)
		if n, _ := e[compared].(float64); n <= 0 || e["different"] != 0.0 {
			t.Errorf("%s: %v", engine, e)
		}
		for _, field := range []string{"copy_s", "lag_ms_at_fence"} {
			if n, is := e[field].(float64); !is || n <= 0 {
				t.Errorf("%s of %s is %v, want a number above 0", field, engine, e[field])
			}
		}
	}
	for _, name := range []string{"report.json", "report.html"} {
		if _, err := os.Stat(filepath.Join(cmd.Dir, ".dhow", "demo", name)); err != nil {
			t.Error(err)
		}
	}
	landed(t, r, said.String(), filepath.Join(cmd.Dir, ".dhow", "demo"))
	nothingRuns(t, cmd.Dir)
}

// landed holds that the landing zone was deployed before anything was copied, that its
// timeline is shown, and that the targets are what its stacks told.
func landed(t *testing.T, r map[string]any, said, dir string) {
	t.Helper()
	zone, _ := r["landing"].(map[string]any)
	spans, _ := zone["spans"].([]any)
	if n, _ := r["stacks"].(float64); n < 20 || len(spans) != int(n) {
		t.Errorf("%v stacks are in a timeline of %d", r["stacks"], len(spans))
	}
	stand, copied := strings.Index(said, "stacks stand after"), strings.Index(said, "copied ")
	if stand < 0 || copied < stand {
		t.Errorf("the landing zone does not stand before the copy:\n%s", said)
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil || !bytes.Contains(page, []byte("<title>main/postgresql: after ")) {
		t.Errorf("the report has no timeline, %v", err)
	}
	e, err := estate.Load(filepath.Join(dir, estate.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if e.Landing == nil {
		t.Error("the estate has no landing zone")
	}
	_, told, _ := strings.Cut(said, "the targets are what the stacks tell: ")
	for _, d := range e.Databases {
		if want := fmt.Sprintf("%s at %s:%d,", d.Engine, d.Target.Host, d.Target.Port); !strings.Contains(told, want) {
			t.Errorf("the target of %s is not what the stacks told, %s", d.Name, want)
		}
	}
}

func TestDemoIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(t), "demo", "--accounts", "5000", "--rate", "100", "--duration", "1h")
	cmd.Dir = folder(t)
	said := &watched{until: "requests a second", seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-said.seen:
	case <-ctx.Done():
		t.Fatal("the traffic did not start")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit status 1", err)
	}
	nothingRuns(t, cmd.Dir)
}

// watched closes seen when a text has been written.
type watched struct {
	until string
	text  bytes.Buffer
	seen  chan struct{}
	found bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.text.Write(p)
	if !w.found && strings.Contains(w.text.String(), w.until) {
		w.found = true
		close(w.seen)
	}
	return len(p), nil
}

// nothingRuns looks for a process that names the folder, or works in it.
func nothingRuns(t *testing.T, dir string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(processes) == 0 {
		return // only where the system shows its processes
	}
	for _, p := range processes {
		line, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		at, _ := os.Readlink(filepath.Join(p, "cwd"))
		if bytes.Contains(line, []byte(dir)) || strings.HasPrefix(at, dir) {
			t.Errorf("still runs: %s", bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		}
	}
}
