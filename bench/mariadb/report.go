package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"dhow/internal/move/mariadb"
)

// turn is one rival's turn.
type turn struct {
	Who     string  `json:"who"`
	Seconds float64 `json:"seconds"`
	// OwnCPU, SourceCPU and TargetCPU are seconds of CPU time: of the rival's own
	// processes, and of each server's.
	OwnCPU    float64 `json:"own_cpu_seconds"`
	SourceCPU float64 `json:"source_cpu_seconds"`
	TargetCPU float64 `json:"target_cpu_seconds"`
	// PeakMiB is the most memory of the mover's process.
	PeakMiB float64 `json:"peak_mib,omitempty"`
	Phases  []phase `json:"phases,omitempty"`
}

// String is a turn in a line.
func (t turn) String() string {
	s := fmt.Sprintf("%-8s %6.2f s", t.Who, t.Seconds)
	s += fmt.Sprintf("; CPU: itself %.1f s, source %.1f s, target %.1f s", t.OwnCPU, t.SourceCPU, t.TargetCPU)
	if t.PeakMiB > 0 {
		s += fmt.Sprintf("; peak memory %.0f MiB", t.PeakMiB)
	}
	for i, p := range t.Phases {
		sep := "; "
		if i > 0 {
			sep = ", "
		}
		s += fmt.Sprintf("%s%s %.2f s", sep, p.Name, p.Seconds)
	}
	return s
}

// copyPair is a turn of each: Ratio is our time by mydumper's.
type copyPair struct {
	Peer  turn    `json:"mydumper"`
	Ours  turn    `json:"dhow"`
	Ratio float64 `json:"ratio"`
}

// copyResult is a shape's.
type copyResult struct {
	Shape string     `json:"shape"`
	What  string     `json:"what"`
	Rows  int64      `json:"rows"`
	Bytes int64      `json:"bytes"`
	Pairs []copyPair `json:"pairs"`
	// Ratio is the median of the pairs'.
	Ratio float64 `json:"ratio"`
}

// host is what it ran on.
type host struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryGB int    `json:"memory_gb"`
	Kernel   string `json:"kernel"`
	Server   string `json:"server"`
	Mydumper string `json:"mydumper"`
	Go       string `json:"go"`
}

// report is all that was found.
type report struct {
	Machine host         `json:"machine"`
	Quick   bool         `json:"quick,omitempty"`
	Pairs   int          `json:"pairs"`
	Copies  []copyResult `json:"copies"`
	// Copy is the worst of the shapes' ratios, CopyMean their geometric mean;
	// PeakMiB the most that the mover's process took in any of its turns.
	Copy     float64 `json:"copy_ratio"`
	CopyMean float64 `json:"copy_ratio_mean"`
	PeakMiB  float64 `json:"peak_mib"`
	// LoadBefore and LoadAfter are the machine's load averages of a minute: others
	// who work on it make absolute times worthless, and the ratios doubtful.
	LoadBefore string `json:"load_before"`
	LoadAfter  string `json:"load_after"`
}

// conclude computes what follows from the turns.
func (r *report) conclude() {
	logs := 0.0
	for i := range r.Copies {
		c := &r.Copies[i]
		var ratios []float64
		for _, p := range c.Pairs {
			ratios = append(ratios, p.Ratio)
			r.PeakMiB = max(r.PeakMiB, p.Ours.PeakMiB)
		}
		c.Ratio = median(ratios)
		r.Copy = max(r.Copy, c.Ratio)
		logs += math.Log(c.Ratio)
	}
	if len(r.Copies) > 0 {
		r.CopyMean = math.Exp(logs / float64(len(r.Copies)))
	}
}

// median is the middle one, or the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// print writes the report for people; the two figures come last.
func (r *report) print(out io.Writer) error {
	m := r.Machine
	var text, table strings.Builder
	fmt.Fprintf(&text, "\n%s, %d cores, %d GB; Linux %s; %s on both ends; %s; %s\n", m.CPU, m.Cores, m.MemoryGB, m.Kernel, m.Server, m.Mydumper, m.Go)
	if r.Quick {
		fmt.Fprintln(&text, "A quick run: its figures say that it works, not how fast.")
	}
	if len(r.Copies) > 0 {
		fmt.Fprintln(&table, "\ncopy\trows\tMB\tpair\tmydumper, s\tdhow, s\tratio\tCPU of source + target + itself, s: mydumper\tdhow")
		for _, c := range r.Copies {
			for i, p := range c.Pairs {
				fmt.Fprintf(&table, "%s\t%d\t%d\t%d\t%.2f\t%.2f\t%.2f\t%s\t%s\n", c.Shape, c.Rows, c.Bytes>>20, i+1, p.Peer.Seconds, p.Ours.Seconds, p.Ratio, p.Peer.cpu(), p.Ours.cpu())
			}
			fmt.Fprintf(&table, "%s\t\t\tmedian\t\t\t%.2f\t\t\n", c.Shape, c.Ratio)
		}
	}
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(w, table.String()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	text.WriteString("\n")
	fmt.Fprintf(&text, "%d threads for mydumper and myloader, %d copies for dhow; load average before %s, after %s: of one rival at a time it is about %d\n", mariadb.DefaultCopies, mariadb.DefaultCopies, r.LoadBefore, r.LoadAfter, m.Cores)
	if len(r.Copies) > 1 {
		fmt.Fprintf(&text, "copy is the worst of the %d shapes' medians; their geometric mean is %.2f. memory is the peak of the mover's process in all turns.\n", len(r.Copies), r.CopyMean)
	}
	fmt.Fprintf(&text, "memory: %.0f MiB\n", r.PeakMiB)
	if len(r.Copies) > 0 {
		fmt.Fprintf(&text, "copy: %.2f x mydumper's time\n", r.Copy)
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

func (t turn) cpu() string {
	return fmt.Sprintf("%.1f + %.1f + %.1f", t.SourceCPU, t.TargetCPU, t.OwnCPU)
}

// load is the machine's load average of the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// machine describes this one; what can not be found out is left empty.
func machine(ctx context.Context) host {
	h := host{Cores: runtime.NumCPU(), Go: runtime.Version()}
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
	h.Server = firstLine(ctx, "mariadbd", "--version")
	h.Mydumper = firstLine(ctx, "mydumper", "--version")
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
