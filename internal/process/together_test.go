package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestCPURoot(t *testing.T) {
	const mounts = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\ncgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n"
	for name, c := range map[string]struct{ memberships, mounts, want string }{
		"in the root":         {"4:memory:/x\n3:cpuset:/\n2:cpu,cpuacct:/\n0::/\n", mounts, "/sys/fs/cgroup/cpu,cpuacct"},
		"in a group":          {"2:cpu,cpuacct:/user.slice\n", mounts, ""},
		"version 2":           {"0::/\n", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", ""},
		"only the cpuset":     {"3:cpuset:/\n", mounts, ""},
		"mounted nowhere":     {"2:cpu:/\n", "proc /proc proc rw 0 0\n", ""},
		"nothing":             {"", "", ""},
		"a path with a colon": {"2:cpu:/a:b\n", mounts, ""},
	} {
		if got := cpuRoot(c.memberships, c.mounts); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestTogether looks where a child is, before, in and behind the group.
func TestTogether(t *testing.T) {
	of := func() string {
		said, err := exec.CommandContext(t.Context(), "cat", "/proc/self/cgroup").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(said)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	before := of()
	root := cpuRoot(before, string(mounts))
	if root != "" && os.Geteuid() == 0 { // as a killed process leaves it
		gone := exec.CommandContext(t.Context(), "true")
		if err := gone.Run(); err != nil {
			t.Fatal(err)
		}
		for _, left := range []string{filepath.Join(root, groupPrefix+strconv.Itoa(gone.Process.Pid)), filepath.Join(root, groupPrefix+strconv.Itoa(os.Getppid()))} {
			if err := os.Mkdir(left, 0o755); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(left)
		}
	}
	apart, err := Together()
	if err != nil {
		t.Fatal(err)
	}
	in := of()
	if err := apart(); err != nil {
		t.Fatal(err)
	}
	if after := of(); after != before {
		t.Errorf("behind it a child is in\n%s, and was in\n%s", after, before)
	}
	on, err := os.ReadFile("/proc/sys/kernel/sched_autogroup_enabled")
	if root == "" || os.Geteuid() != 0 || err != nil || strings.TrimSpace(string(on)) != "1" {
		if in != before {
			t.Errorf("nothing was to be done, and a child is in\n%s", in)
		}
		return
	}
	if name := groupPrefix + strconv.Itoa(os.Getpid()); !strings.Contains(in, "/"+name+"\n") {
		t.Errorf("a child is in\n%s and not in %s", in, name)
	}
	alive := filepath.Join(root, groupPrefix+strconv.Itoa(os.Getppid()))
	if left, _ := filepath.Glob(filepath.Join(root, groupPrefix+"*")); !slices.Equal(left, []string{alive}) {
		t.Errorf("%v are left, want that of the process that runs", left)
	}
}
