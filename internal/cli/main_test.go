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

	"dhow/internal/cli"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMain lets this binary be dhow itself where it is started under that name:
// for the scripts, and for tests that kill one.
func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){"dhow": func() { os.Exit(cli.Main()) }})
}

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

// program is a path at which this binary is dhow.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dhow")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
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
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, "NO_COLOR=1")
			return nil
		},
	})
}
