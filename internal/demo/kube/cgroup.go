package kube

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// hierarchies are the mount points of this machine's cgroups: one for each
// controller in version 1, a single one in version 2.
func hierarchies() (v1, v2 []string, err error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, nil, fmt.Errorf("list the cgroups' mounts: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue
		}
		switch fields[2] {
		case "cgroup":
			v1 = append(v1, fields[1])
		case "cgroup2":
			v2 = append(v2, fields[1])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, nil, fmt.Errorf("list the cgroups' mounts: %w", err)
	}
	return v1, v2, nil
}

// weights are how much of the processors a cluster's pods get beside single processes
// of this machine: a cluster has some twenty processes, and one cgroup would count as
// one. The default is 1024 in version 1 and 100 in version 2.
var weights = map[string]string{"cpu.shares": "16384", "cpu.weight": "1600"}

// createCgroups makes the cluster's own cgroup in every hierarchy, which keeps two
// kubelets apart: each has its pods below its own.
func createCgroups(id string) error {
	v1, v2, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range v2 {
		if len(v1) > 0 {
			continue // a version 2 beside version 1 has no controllers
		}
		// A child has the controllers that its parent hands down.
		controllers, err := os.ReadFile(filepath.Join(h, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("read the cgroup's controllers: %w", err)
		}
		for c := range strings.FieldsSeq(string(controllers)) {
			_ = os.WriteFile(filepath.Join(h, "cgroup.subtree_control"), []byte("+"+c), 0) // the kubelet says which one it misses
		}
		v1 = append(v1, h)
	}
	for _, h := range v1 {
		if err := os.MkdirAll(filepath.Join(h, id), 0o755); err != nil {
			return fmt.Errorf("create a cgroup: %w", err)
		}
		for file, weight := range weights {
			err := os.WriteFile(filepath.Join(h, id, file), []byte(weight), 0)
			// Each controller has its own file, in its own hierarchy; O_CREATE is refused there.
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("weigh a cgroup: %w", err)
			}
		}
	}
	return nil
}

// removeCgroups removes the cluster's cgroups, which must have no processes left.
func removeCgroups(id string) error {
	v1, v2, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range append(v1, v2...) {
		var groups []string // parents first
		err := filepath.WalkDir(filepath.Join(h, id), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				groups = append(groups, path)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("list a cgroup: %w", err)
		}
		for i := len(groups) - 1; i >= 0; i-- {
			if err := os.Remove(groups[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove a cgroup: %w", err)
			}
		}
	}
	return nil
}
