// Package kubetest lets tests that start clusters go one after the other: packages
// are tested side by side, and these tests compare the machine before and after.
package kubetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Require leaves a test out where clusters are not wanted or can not be, and otherwise
// waits until it has them alone. What check, which is kube.Check, finds missing is a failure.
func Require(tb testing.TB, check func() error) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("starts clusters: not with -short (testing.Short)")
	}
	if os.Getuid() != 0 {
		tb.Skip("clusters take root: left out as with testing.Short()")
	}
	if err := check(); err != nil {
		tb.Fatal(err)
	}
	alone(tb)
}

// alone waits until no other test on this machine has clusters, and keeps others
// waiting until this one ends.
func alone(tb testing.TB) {
	tb.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "dhow-cluster-tests.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		tb.Fatal(err)
	}
	// The lock goes with the file, also when this process is killed.
	tb.Cleanup(func() { _ = f.Close() })
}

// Mounts are this machine's, without those that other tests have in their temporary
// folders.
func Mounts(tb testing.TB) []string {
	tb.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		tb.Fatal(err)
	}
	root, _, _ := strings.Cut(tb.Name(), "/")
	var mounts []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, " "+os.TempDir()+"/") && !strings.Contains(line, "/"+root) {
			continue
		}
		mounts = append(mounts, strings.TrimSpace(line))
	}
	return mounts
}
