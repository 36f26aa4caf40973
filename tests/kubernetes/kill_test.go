package kubernetes

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"dhow/internal/demo/kube/kubetest"
)

// A demo that is killed, while its clusters start and while clients are served from
// their pods, keeps no later one from starting, and leaves nothing once it is cleaned up.
func TestDemoIsKilled(t *testing.T) {
	dhow := filepath.Join(build(t), "dhow")
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// The images are built from the sources, so the demo works in their folder; its
	// own state goes below it.
	root = filepath.Dir(filepath.Dir(root))
	before := snapshot(t)
	for _, until := range []string{"starting two Kubernetes clusters", "requests a second"} {
		var said watched
		said.until, said.seen = until, make(chan struct{})
		cmd := exec.CommandContext(ctx, dhow, "demo", "--kubernetes", "--accounts", "2000", "--rate", "100", "--duration", "1h")
		cmd.Dir, cmd.Stdout, cmd.Stderr = root, &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-said.seen:
		case err := <-ended:
			t.Fatalf("it ended before %q: %v\n%s", until, err, said.String())
		case <-ctx.Done():
			t.Fatalf("waited in vain for %q\n%s", until, said.String())
		}
		if until == "starting two Kubernetes clusters" {
			awaitFile(ctx, t, filepath.Join(root, ".dhow", "demo", "cluster-source", "logs", "kubelet.log"))
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-ended
	}
	clean := exec.CommandContext(ctx, dhow, "demo", "--kubernetes", "--clean")
	clean.Dir = root
	if out, err := clean.CombinedOutput(); err != nil {
		t.Fatalf("clean: %v\n%s", err, out)
	}
	// The kernel takes a moment for what it ends itself.
	var after map[string][]string
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if after = snapshot(t); cmp.Equal(before, after) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("something is left:\n%s", cmp.Diff(before, after))
		}
	}
}

// awaitFile waits until a file is there.
func awaitFile(ctx context.Context, t *testing.T, path string) {
	t.Helper()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not come", path)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// snapshot is what a cluster could leave on this machine.
func snapshot(t *testing.T) map[string][]string {
	t.Helper()
	s := map[string][]string{}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		line, _ := os.ReadFile(filepath.Join(p, "cmdline")) // it may be gone
		text := strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " ")
		space, err := os.Readlink(filepath.Join(p, "ns/pid"))
		if err != nil || text == "" {
			continue
		}
		if space != own || strings.Contains(text, "demo-cluster") || strings.Contains(text, ".dhow/demo") {
			s["processes"] = append(s["processes"], text)
		}
	}
	s["mounts"] = kubetest.Mounts(t)
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		s["links"] = append(s["links"], l.Attrs().Name)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		s["routes"] = append(s["routes"], r.String())
	}
	for what, pattern := range map[string]string{"cgroups": "/sys/fs/cgroup/*/*", "clusters": "/run/dhow/kube/*", "network namespaces": "/run/netns/*"} {
		if s[what], err = filepath.Glob(pattern); err != nil {
			t.Fatal(err)
		}
	}
	s["cgroups"] = slices.DeleteFunc(s["cgroups"], func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.IsDir()
	})
	for _, list := range s {
		slices.Sort(list)
	}
	return s
}

// watched closes seen when a text has been written.
type watched struct {
	until string
	seen  chan struct{}
	text  strings.Builder
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

func (w *watched) String() string { return w.text.String() }
