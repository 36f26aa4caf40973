package kube

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// version is Kubernetes' version; hack/kube builds the same.
const version = "1.37.2"

// searchPath is where the machine's own programs are looked for, whatever the
// user's PATH leaves out; the cluster's processes get it too.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// programs are what a machine must have; the packages that hold them are in
// hack/setup, except for those that every Linux has.
var programs = []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "iptables", "nsenter", "mount", "sh"}

// built are what hack/kube builds.
var built = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns", "metrics-server", "pause"}

// plugins are the CNI plugins in use.
var plugins = []string{"ptp", "host-local", "portmap", "loopback"}

// ErrMissing says that this machine can not run a cluster as it is.
var ErrMissing = errors.New("no kubernetes cluster can run here")

// Check says whether a cluster can run here: nil, or ErrMissing with what is
// missing and what to do about it.
func Check() error {
	_, err := tools()
	return err
}

// toolbox says where the programs are.
type toolbox struct {
	// bin is the folder of what hack/kube built, cni that of the CNI plugins.
	bin, cni string
	// found are the machine's own programs.
	found map[string]string
}

func tools() (toolbox, error) {
	t := toolbox{found: map[string]string{}}
	if os.Getuid() != 0 {
		return t, fmt.Errorf("%w: it needs root, for network namespaces, mounts and cgroups: run as root, or use a cluster of your own", ErrMissing)
	}
	var missing []string
	for _, p := range programs {
		path, err := lookPath(p)
		if err != nil {
			missing = append(missing, p)
		}
		t.found[p] = path
	}
	if t.cni = holding(plugins, "/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"); t.cni == "" {
		missing = append(missing, "the CNI plugins "+strings.Join(plugins, ", "))
	}
	places := []string{}
	if c := os.Getenv("DHOW_CACHE"); c != "" {
		places = append(places, filepath.Join(c, "kube-"+version))
	}
	if home, err := os.UserHomeDir(); err == nil {
		places = append(places, filepath.Join(home, ".cache/dhow/kube-"+version))
	}
	if t.bin = holding(built, places...); t.bin == "" {
		missing = append(missing, fmt.Sprintf("Kubernetes %s in %s", version, strings.Join(places, " or ")))
	}
	if len(missing) > 0 {
		return t, fmt.Errorf("%w: missing %s: run `hack/setup --kube`, which installs and builds them", ErrMissing, strings.Join(missing, ", "))
	}
	return t, nil
}

// lookPath finds a program of the machine's.
func lookPath(name string) (string, error) {
	for _, dir := range filepath.SplitList(searchPath) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// holding is the first of the folders that holds all of the files.
func holding(files []string, folders ...string) string {
next:
	for _, dir := range folders {
		for _, f := range files {
			if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
				continue next
			}
		}
		return dir
	}
	return ""
}
