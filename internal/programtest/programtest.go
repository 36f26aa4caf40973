// Package programtest builds the project's programs for tests that run them: once for all
// packages, which are tested side by side, and anew only where something has changed.
package programtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// folder is where the programs are, in the project's.
const folder = "bin/test"

// Build makes main packages of the project, such as dhow/cmd/dhow, and returns the folder
// that has them under their last names. They are stripped, and have no race detector.
func Build(tb testing.TB, packages ...string) string {
	tb.Helper()
	root, err := exec.CommandContext(tb.Context(), "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		tb.Fatalf("find the project's folder: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), folder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer lock.Close()
	for {
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err == nil {
			break
		} else if !errors.Is(err, unix.EINTR) {
			tb.Fatalf("wait for who builds the programs: %v", err)
		}
	}
	// The go command links nothing that is there as it would be.
	args := append([]string{"build", "-ldflags", "-s -w", "-o", dir + string(filepath.Separator)}, packages...)
	if out, err := exec.CommandContext(tb.Context(), "go", args...).CombinedOutput(); err != nil {
		tb.Fatalf("build %s: %v\n%s", strings.Join(packages, ", "), err, out)
	}
	return dir
}
