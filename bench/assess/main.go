// Command assess measures `dhow assess` beside kube-score, which looks at manifests with
// about forty checks: the same files, each rival a process from its start to its end, in
// turns. Then dhow alone assesses ten times as many objects, for the memory that this takes.
package main

import (
	"context"
	_ "embed" // the template
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"dhow/bench/sidebyside"
)

//go:embed application.yaml.tmpl
var applicationTemplate string

const (
	// peerVersion is that which hack/setup builds.
	peerVersion = "v1.20.0"
	// patience bounds each turn.
	patience = 10 * time.Minute
	// mostComplaint is how many bytes of what a rival says are kept for an error.
	mostComplaint = 2000
)

type bench struct {
	objects, many, pairs int
	dhow, peer           string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-assess:", err)
		os.Exit(1)
	}
}

func run() error {
	cache, err := os.UserHomeDir()
	if err != nil {
		return fmt.Errorf("find the folder of the tools: %w", err)
	}
	if cache = filepath.Join(cache, ".cache", "dhow"); os.Getenv("DHOW_CACHE") != "" {
		cache = os.Getenv("DHOW_CACHE")
	}
	var b bench
	flag.IntVar(&b.objects, "objects", 10_000, "objects that both look at")
	flag.IntVar(&b.many, "many", 100_000, "objects that dhow looks at alone, 0 for none")
	flag.IntVar(&b.pairs, "pairs", 3, "turns of each rival")
	flag.StringVar(&b.dhow, "dhow", "bin/dhow", "the `program` that is measured")
	flag.StringVar(&b.peer, "kube-score", filepath.Join(cache, "tools", "kube-score-"+peerVersion, "kube-score"), "the `program` that it is measured against")
	flag.Parse()
	if flag.NArg() > 0 || b.pairs < 1 {
		return errors.New("want flags alone, and at least one pair: see `go run ./bench/assess -h`")
	}
	for _, program := range []string{b.dhow, b.peer} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("find a rival: %w; `make build` builds dhow, `hack/setup --bench` kube-score", err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return b.run(ctx)
}

func (b *bench) run(ctx context.Context) error {
	fmt.Printf("%s, %d cores; kube-score %s; %s; %d objects, load average before: %s\n\n", runtime.GOARCH, runtime.NumCPU(), peerVersion, runtime.Version(), b.objects, sidebyside.Load())
	dir, files, remove, err := manifests(b.objects)
	if err != nil {
		return err
	}
	defer remove()
	// Both tell all that they find in JSON. kube-score reads files, not folders.
	peer := append([]string{"score", "--output-format", "json"}, files...)
	ours := []string{"assess", dir, "--output", "json"}
	fmt.Println("assess  pair  kube-score, s  CPU, s  memory, MiB  dhow, s  CPU, s  memory, MiB  ratio  of CPU")
	var ratios, cpus []float64
	memory := 0.0
	for pair := range b.pairs {
		var t [2]sidebyside.Turn
		for _, who := range []int{pair % 2, 1 - pair%2} { // who begins takes turns too
			if who == 0 {
				// It exits with 1 where anything is wrong, as something is.
				t[who], err = turn(ctx, 1, b.peer, peer...)
			} else {
				t[who], err = turn(ctx, 0, b.dhow, ours...)
			}
			if err != nil {
				return err
			}
		}
		memory = max(memory, t[1].PeakMiB)
		ratios, cpus = append(ratios, t[1].Seconds/t[0].Seconds), append(cpus, t[1].OwnCPU/t[0].OwnCPU)
		fmt.Printf("        %-4d  %-13.2f  %-6.2f  %-11.0f  %-7.2f  %-6.2f  %-11.0f  %-5.2f  %.2f\n", pair+1,
			t[0].Seconds, t[0].OwnCPU, t[0].PeakMiB, t[1].Seconds, t[1].OwnCPU, t[1].PeakMiB, ratios[pair], cpus[pair])
	}
	fmt.Printf("\nload average after: %s; of one rival at a time it is about 2\n", sidebyside.Load())
	fmt.Printf("memory: %.0f MiB\n", memory)
	if b.many > 0 {
		if err := b.alone(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("CPU: %.2f x kube-score's\n", sidebyside.Median(cpus))
	fmt.Printf("assess: %.2f x kube-score's time\n", sidebyside.Median(ratios))
	return nil
}

// alone lets dhow look at a larger number of objects.
func (b *bench) alone(ctx context.Context) error {
	dir, _, remove, err := manifests(b.many)
	if err != nil {
		return err
	}
	defer remove()
	t, err := turn(ctx, 0, b.dhow, "assess", dir, "--output", "json")
	if err != nil {
		return err
	}
	fmt.Printf("%d objects: %.2f s, CPU %.2f s, memory %.0f MiB\n", b.many, t.Seconds, t.OwnCPU, t.PeakMiB)
	return nil
}

// manifests writes manifests into a folder of their own.
func manifests(objects int) (dir string, files []string, remove func(), err error) {
	if dir, err = os.MkdirTemp("", "bench-assess"); err != nil {
		return "", nil, nil, fmt.Errorf("make a folder for manifests: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) } // it is in the folder for what may be lost
	if files, err = generate(dir, objects); err != nil {
		remove()
		return "", nil, nil, err
	}
	return dir, files, remove, nil
}

// turn runs a program that must end with a code, and reads all that it says.
func turn(ctx context.Context, code int, program string, args ...string) (sidebyside.Turn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var said complaint
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return sidebyside.Turn{}, fmt.Errorf("start %s: %w", program, err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return sidebyside.Turn{}, fmt.Errorf("start %s: %w", program, err)
	}
	length, readErr := io.Copy(io.Discard, out)
	err = cmd.Wait()
	t := sidebyside.Turn{Who: filepath.Base(program), Seconds: time.Since(began).Seconds()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return t, fmt.Errorf("run %s: %w", program, err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || length == 0 || readErr != nil {
		return t, errors.Join(fmt.Errorf("%s ended with %d, not %d, after %d bytes: %s", program, got, code, length, said), readErr, ctx.Err())
	}
	state := cmd.ProcessState
	t.OwnCPU = (state.UserTime() + state.SystemTime()).Seconds()
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		t.PeakMiB = float64(usage.Maxrss) / 1024 // the kernel counts KiB
	}
	return t, nil
}

// complaint is the begin of what a program says.
type complaint []byte

func (c *complaint) Write(p []byte) (int, error) {
	*c = append(*c, p[:min(len(p), mostComplaint-len(*c))]...)
	return len(p), nil
}

func (c complaint) String() string { return string(c) }
