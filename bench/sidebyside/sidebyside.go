// Package sidebyside is what the benchmarks of the movers have in common: rivals
// that take turns in pairs, the mover in a process of its own, so that memory and
// CPU time are its own, and the report. It knows no database.
package sidebyside

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	// fullPairs and quickPairs are how often each rival has its turn.
	fullPairs  = 3
	quickPairs = 1
	// quickDivisor makes the data of a quick run smaller.
	quickDivisor = 10
)

// Shape is a data set to copy.
type Shape struct {
	Name string
	What string
	// SQL makes it in an empty database; divisor makes it smaller.
	SQL func(divisor int) []string
}

// Options are what the command line of every benchmark says.
type Options struct {
	Pairs   int
	Divisor int
	Shapes  []Shape
	profile string
	verbose bool
	json    bool
}

// Bench is a benchmark's program.
type Bench struct {
	// Name is its folder below bench.
	Name string
	// Shapes are the data sets that it can copy.
	Shapes []Shape
	// Flags adds flags of its own, Check looks at what they were given; both may be nil.
	Flags func(*flag.FlagSet)
	Check func() error
	// Open makes the mover of a task in its own process.
	Open Opener
	// Measure lets the rivals take their turns; log hears how far it is.
	Measure func(ctx context.Context, o Options, log io.Writer) (Printer, error)
}

// Printer is a report that can print itself for people.
type Printer interface {
	Print(out io.Writer) error
}

// UsageError is a command line that does not make sense.
type UsageError struct{ bench, why string }

func (e *UsageError) Error() string {
	return fmt.Sprintf("%s: see `go run ./bench/%s -h`", e.why, e.bench)
}

// Main runs the program and tells how the process ends.
func (b Bench) Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := b.run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	var usage *UsageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

// run is the program without its process.
func (b Bench) run(ctx context.Context, args []string, out, log io.Writer) error {
	if IsChild(args) {
		return Child(ctx, os.Stdin, out, b.Open)
	}
	o, err := b.parse(args, log)
	if err != nil {
		return err
	}
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return fmt.Errorf("create the folder for profiles: %w", err)
		}
	}
	if !o.verbose && o.json {
		log = io.Discard
	}
	rep, err := b.Measure(ctx, o, log)
	if err != nil {
		return err
	}
	if o.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(rep)
	}
	return rep.Print(out)
}

// parse reads the command line.
func (b Bench) parse(args []string, log io.Writer) (o Options, err error) {
	usage := func(format string, args ...any) (Options, error) {
		return o, &UsageError{b.Name, fmt.Sprintf(format, args...)}
	}
	names := make([]string, len(b.Shapes))
	for i, s := range b.Shapes {
		names[i] = s.Name
	}
	fs := flag.NewFlagSet("bench/"+b.Name, flag.ContinueOnError)
	fs.SetOutput(log)
	quick := fs.Bool("quick", false, "a tenth of the data and one pair: to see that it works, not to measure")
	pairs := fs.Int("pairs", 0, fmt.Sprintf("turns of each rival (default %d, with -quick %d)", fullPairs, quickPairs))
	shape := fs.String("shape", "", "comma-separated shapes to copy: "+strings.Join(names, ", ")+" (default all)")
	output := fs.String("o", "text", "text or json")
	fs.StringVar(&o.profile, "profile", "", "write CPU profiles of our own process into this folder")
	fs.BoolVar(&o.verbose, "v", false, "with -o json: progress on standard error too")
	if b.Flags != nil {
		b.Flags(fs)
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, err
	} else if err != nil {
		return usage("%v", err)
	}
	if fs.NArg() > 0 {
		return usage("unknown argument %q", fs.Arg(0))
	}
	o.Pairs, o.Divisor = fullPairs, 1
	if *quick {
		o.Pairs, o.Divisor = quickPairs, quickDivisor
	}
	if *pairs < 0 {
		return usage("-pairs %d: at least 1", *pairs)
	}
	if *pairs > 0 {
		o.Pairs = *pairs
	}
	o.Shapes = b.Shapes
	if *shape != "" {
		o.Shapes = nil
		for name := range strings.SplitSeq(*shape, ",") {
			i := slices.Index(names, name)
			if i < 0 {
				return usage("-shape %s: one of %s", name, strings.Join(names, ", "))
			}
			o.Shapes = append(o.Shapes, b.Shapes[i])
		}
	}
	if *output != "text" && *output != "json" {
		return usage("-o %s: text or json", *output)
	}
	o.json = *output == "json"
	if b.Check != nil {
		if err := b.Check(); err != nil {
			return usage("%v", err)
		}
	}
	return o, nil
}

// Profile is the file for the CPU profile of a turn of ours; empty when none is wanted.
func (o Options) Profile(turn string) string {
	if o.profile == "" {
		return ""
	}
	return filepath.Join(o.profile, turn+".pprof")
}
