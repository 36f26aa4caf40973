package cli_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"dhow/internal/programtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { os.Exit(leakless{m}.Run()) }

// leakless runs the tests, and fails when one has left a goroutine behind.
type leakless struct{ m *testing.M }

func (l leakless) Run() int {
	code := l.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// program is dhow as it is built for tests: the race detector would take a second to start.
func program(t *testing.T) string {
	t.Helper()
	return filepath.Join(programtest.Build(t, "dhow/cmd/dhow"), "dhow")
}

// start starts dhow as a process of its own, which is killed at the test's end.
func start(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program(t), args...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestScripts runs the commands that need no server.
func TestScripts(t *testing.T) {
	dhow := program(t)
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("NO_COLOR", "1")
			e.Setenv("PATH", filepath.Dir(dhow)+string(filepath.ListSeparator)+e.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"dhow": func(ts *testscript.TestScript, fails bool, args []string) {
			if err := ts.Exec(dhow, args...); fails != (err != nil) {
				ts.Fatalf("dhow ended with %v", err)
			}
		}},
	})
}
