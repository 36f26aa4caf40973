// Command mariadb measures the MariaDB mover's copy beside mydumper and myloader,
// dump and load together, in one run on one machine. It starts servers of its own,
// alike on both ends, lets the rivals take turns, and compares every table's
// checksum after each turn. See bench/README.md for what is measured and how to read it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
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

// options are what the command line says.
type options struct {
	pairs   int
	divisor int
	shapes  []string
	profile string
	verbose bool
}

// errUsage is a command line that does not make sense.
var errUsage = errors.New("see `go run ./bench/mariadb -h`")

func main() {
	os.Exit(status())
}

// status runs the program and tells how the process ends.
func status() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

// run is the program without its process.
func run(ctx context.Context, args []string, out, log io.Writer) error {
	if len(args) > 0 && args[0] == childCommand {
		return child(ctx, os.Stdin, out)
	}
	o, asJSON, err := parse(args, log)
	if err != nil {
		return err
	}
	progress := log
	if !o.verbose && asJSON {
		progress = io.Discard
	}
	rep, err := measure(ctx, o, progress)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(rep)
	}
	return rep.print(out)
}

// parse reads the command line.
func parse(args []string, log io.Writer) (o options, asJSON bool, err error) {
	fs := flag.NewFlagSet("bench/mariadb", flag.ContinueOnError)
	fs.SetOutput(log)
	quick := fs.Bool("quick", false, "a tenth of the data and one pair: to see that it works, not to measure")
	pairs := fs.Int("pairs", 0, fmt.Sprintf("turns of each rival (default %d, with -quick %d)", fullPairs, quickPairs))
	shape := fs.String("shape", "", "comma-separated shapes to copy: "+strings.Join(shapeNames(), ", ")+" (default all)")
	output := fs.String("o", "text", "text or json")
	fs.StringVar(&o.profile, "profile", "", "write CPU profiles of our own process into this folder")
	fs.BoolVar(&o.verbose, "v", false, "with -o json: progress on standard error too")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, false, err
		}
		return o, false, errUsage
	}
	if fs.NArg() > 0 {
		return o, false, fmt.Errorf("unknown argument %q: %w", fs.Arg(0), errUsage)
	}
	o.pairs, o.divisor = fullPairs, 1
	if *quick {
		o.pairs, o.divisor = quickPairs, quickDivisor
	}
	if *pairs < 0 {
		return o, false, fmt.Errorf("-pairs %d: at least 1: %w", *pairs, errUsage)
	}
	if *pairs > 0 {
		o.pairs = *pairs
	}
	o.shapes = shapeNames()
	if *shape != "" {
		o.shapes = strings.Split(*shape, ",")
	}
	for _, s := range o.shapes {
		if !slices.Contains(shapeNames(), s) {
			return o, false, fmt.Errorf("-shape %s: one of %s: %w", s, strings.Join(shapeNames(), ", "), errUsage)
		}
	}
	if *output != "text" && *output != "json" {
		return o, false, fmt.Errorf("-o %s: text or json: %w", *output, errUsage)
	}
	return o, *output == "json", nil
}

// measure lets the rivals copy the shapes that were asked for.
func measure(ctx context.Context, o options, log io.Writer) (*report, error) {
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return nil, fmt.Errorf("create the folder for profiles: %w", err)
		}
	}
	rep := &report{Machine: machine(ctx), Quick: o.divisor > 1, Pairs: o.pairs, LoadBefore: load()}
	l, err := openLab(ctx, log)
	if err != nil {
		return nil, err
	}
	defer l.close(ctx)
	for _, name := range o.shapes {
		r, err := copyRace(ctx, l, shapeNamed(name), o)
		if err != nil {
			return nil, fmt.Errorf("shape %s: %w", name, err)
		}
		rep.Copies = append(rep.Copies, *r)
	}
	rep.LoadAfter = load()
	rep.conclude()
	return rep, nil
}
