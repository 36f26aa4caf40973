package sidebyside

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// clockTicks are the kernel's units of a process's CPU time in a second.
const clockTicks = 100

// Load is the machine's load average of the last minute.
func Load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// Host is what a benchmark ran on.
type Host struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryGB int    `json:"memory_gb"`
	Kernel   string `json:"kernel"`
	// Server and Peer are their programs' versions.
	Server string `json:"server"`
	Peer   string `json:"peer"`
	Go     string `json:"go"`
}

// machine describes this one, and the programs server and peer; what can not be
// found out is left empty.
func machine(ctx context.Context, server, peer string) Host {
	h := Host{Cores: runtime.NumCPU(), Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				h.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int
		if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); err == nil {
			h.MemoryGB = (kib + 1<<19) >> 20
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		h.Kernel = strings.TrimSpace(string(text))
	}
	h.Server, h.Peer = firstLine(ctx, server, "--version"), firstLine(ctx, peer, "--version")
	return h
}

func firstLine(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return name + " not found"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// peakMiB is the most memory that this process ever had, as the kernel counts it.
func peakMiB() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0 // no Linux: the report shows zero
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64) // the kernel wrote it
			return kib / 1024
		}
	}
	return 0
}

// cpu is the CPU time, in seconds, that a server's processes have used so far:
// those that live, and those that the first one has seen end.
func cpu(pid int) float64 {
	const tries = 10 // a process that ends in between would be missed, or counted twice
	first := strconv.Itoa(pid)
	total := 0.0
	for range tries {
		before := processCPU(first, true)
		total = before + childrenCPU(first)
		if ended := processCPU(first, true) - before; ended < 2.0/clockTicks {
			break
		}
	}
	return total
}

// childrenCPU is the CPU time of the processes that a process has started and that live.
func childrenCPU(parent string) float64 {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return 0 // no Linux: the report shows zero
	}
	total := 0.0
	for _, p := range all {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		if f := processStat(p.Name()); len(f) > 1 && f[1] == parent {
			total += processCPU(p.Name(), false)
		}
	}
	return total
}

// processStat is /proc/PID/stat from the state on; the process may be gone.
func processStat(pid string) []string {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.Fields(rest)
}

func processCPU(pid string, withEnded bool) float64 {
	const user, system, endedUser, endedSystem = 11, 12, 13, 14
	f := processStat(pid)
	if len(f) <= endedSystem {
		return 0
	}
	sum := 0.0
	for i, at := range []int{user, system, endedUser, endedSystem} {
		if i >= 2 && !withEnded {
			break
		}
		n, _ := strconv.ParseFloat(f[at], 64) // the kernel wrote it
		sum += n
	}
	return sum / clockTicks
}
