package sidebyside

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Turn is one rival's turn.
type Turn struct {
	Who     string  `json:"who"`
	Seconds float64 `json:"seconds"`
	// RowsPerSecond is of a stream.
	RowsPerSecond float64 `json:"rows_per_second,omitempty"`
	// OwnCPU, SourceCPU and TargetCPU are seconds of CPU time: of the rival's own
	// processes, and of each server's.
	OwnCPU    float64 `json:"own_cpu_seconds"`
	SourceCPU float64 `json:"source_cpu_seconds"`
	TargetCPU float64 `json:"target_cpu_seconds"`
	// PeakMiB is the most memory of the mover's process.
	PeakMiB float64 `json:"peak_mib,omitempty"`
	Phases  []Phase `json:"phases,omitempty"`
}

// String is a turn in a line.
func (t Turn) String() string {
	s := fmt.Sprintf("%-8s %6.2f s", t.Who, t.Seconds)
	if t.RowsPerSecond > 0 {
		s += fmt.Sprintf(", %.0f rows/s", t.RowsPerSecond)
	}
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

// CPU is the CPU time of source, target and rival, for a table.
func (t Turn) CPU() string {
	return fmt.Sprintf("%.1f + %.1f + %.1f", t.SourceCPU, t.TargetCPU, t.OwnCPU)
}

// MoverCopies is the mover's turn of a copy: a process of its own, from its start
// until it streams. profile and task are Start's.
func MoverCopies(ctx context.Context, profile string, task any) (Turn, error) {
	return moverTurn(ctx, profile, task, Streaming)
}

// MoverDrains is the mover's turn of a stream: from the start of its process until
// all that was written before is on the target.
func MoverDrains(ctx context.Context, profile string, task any) (Turn, error) {
	t, err := moverTurn(ctx, profile, task, applied)
	t.Phases = nil
	return t, err
}

func moverTurn(ctx context.Context, profile string, task any, until string) (Turn, error) {
	t := Turn{Who: "dhow"}
	p, err := Start(ctx, profile, task)
	if err != nil {
		return t, err
	}
	defer p.Kill()
	if until == applied {
		if err := p.tell(orderDrain); err != nil {
			return t, err
		}
	}
	if _, err := p.Await(until); err != nil {
		return t, err
	}
	t.Seconds = time.Since(p.began).Seconds()
	end, err := p.Stop()
	if err != nil {
		return t, err
	}
	t.PeakMiB, t.Phases, t.OwnCPU = end.PeakMiB, end.Phases, cpuOf(p.cmd)
	return t, nil
}

// Run runs a rival's program and tells the seconds of CPU time that it took; the
// error holds its last words.
func Run(cmd *exec.Cmd) (cpu float64, err error) {
	const most = 2000 // bytes of last words
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		words := said.String()
		return 0, fmt.Errorf("%w: %s", err, strings.TrimSpace(words[max(0, len(words)-most):]))
	}
	return cpuOf(cmd), nil
}

// cpuOf is the CPU time, in seconds, of a process that has ended.
func cpuOf(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}
