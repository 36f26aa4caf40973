package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	// groupPrefix begins the names of the cgroups that Together makes.
	groupPrefix = "dhow-together-"
	// groupShares is how much of the processors all of a group's processes get beside a
	// session of this machine, which has 1024: as much as some twenty sessions.
	groupShares = "16384"
)

// Together lets this process, and the children that it starts from now on, compete
// for the processors one by one. Where the kernel shares out by sessions, a server
// that makes one for each of its connections would get many times what a server of
// threads gets, which on the machines that each of them has in earnest never
// happens. It takes root and a cgroup of the CPU controller, version 1; elsewhere, and
// where the kernel does not do so or a supervisor has put this process in a group
// already, it changes nothing. The function that is returned takes this process out
// again; the children must have ended by then.
func Together() (apart func() error, err error) {
	nothing := func() error { return nil }
	if on, err := os.ReadFile("/proc/sys/kernel/sched_autogroup_enabled"); err != nil || strings.TrimSpace(string(on)) != "1" || os.Geteuid() != 0 {
		return nothing, nil //nolint:nilerr // a kernel without it has no such file
	}
	memberships, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nothing, fmt.Errorf("ask in which cgroup this process is: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nothing, fmt.Errorf("list the cgroups' mounts: %w", err)
	}
	root := cpuRoot(string(memberships), string(mounts))
	if root == "" {
		return nothing, nil
	}
	if err := forgotten(root); err != nil {
		return nothing, err
	}
	group := filepath.Join(root, groupPrefix+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nothing, fmt.Errorf("make a cgroup: %w", err)
	}
	enter := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0) // this process
	}
	apart = func() error {
		if err := enter(root); err != nil {
			return fmt.Errorf("leave a cgroup: %w", err)
		}
		if err := os.Remove(group); err != nil {
			return fmt.Errorf("remove a cgroup: %w", err)
		}
		return nil
	}
	err = os.WriteFile(filepath.Join(group, "cpu.shares"), []byte(groupShares), 0)
	if err == nil {
		err = enter(group)
	}
	if err != nil {
		return nothing, errors.Join(fmt.Errorf("enter a cgroup: %w", err), os.Remove(group))
	}
	return apart, nil
}

// cpuRoot is where the CPU controller of version 1 is mounted if this process is in
// its root, where alone the kernel shares out by sessions; empty otherwise.
func cpuRoot(memberships, mounts string) string {
	for line := range strings.Lines(memberships) {
		words := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		if len(words) != 3 || !slices.Contains(strings.Split(words[1], ","), "cpu") {
			continue
		}
		if words[2] != "/" {
			return ""
		}
		return cpuMount(mounts)
	}
	return ""
}

// cpuMount is where the CPU controller of version 1 is mounted, or empty.
func cpuMount(mounts string) string {
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line) // what, where, kind, options
		if len(fields) >= 4 && fields[2] == "cgroup" && slices.Contains(strings.Split(fields[3], ","), "cpu") {
			return fields[1]
		}
	}
	return ""
}

// Forgotten removes the cgroups that killed processes left.
func Forgotten() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("list the cgroups' mounts: %w", err)
	}
	root := cpuMount(string(mounts))
	if root == "" {
		return nil
	}
	return forgotten(root)
}

func forgotten(root string) error {
	left, err := filepath.Glob(filepath.Join(root, groupPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for cgroups: %w", err)
	}
	for _, group := range left {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(group), groupPrefix))
		if err != nil || syscall.Kill(pid, 0) == nil {
			continue // somebody else's, or one about to be entered
		}
		// Children that outlived their parent keep theirs.
		if err := os.Remove(group); err != nil && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what a killed process left: %w", err)
		}
	}
	return nil
}
