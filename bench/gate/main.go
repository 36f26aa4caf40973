// Command gate measures what the gate adds to a request: each request is sent
// three times, right after each other, to the application itself, through the gate
// and through a bare reverse proxy of Go's library, in changing order, so that
// whatever else the machine does hits all.
// The application and the gate are processes of their own, the rate is fixed and
// moderate, and connections are kept alive. At the end it holds requests,
// switches, and measures how long the last of them waits for its answer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// aim is what the gate may add to the median request.
const aim = 150 * time.Microsecond

// options are what the command line says.
type options struct {
	duration time.Duration
	rate     int
	clients  int
	held     int
	profile  string
}

// errUsage is a command line that does not make sense.
var errUsage = errors.New("see `go run ./bench/gate -h`")

func main() { os.Exit(start()) }

func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(ctx, role); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", role, err)
			return 1
		}
		return 0
	}
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("gate", flag.ContinueOnError)
	f.DurationVar(&o.duration, "duration", 15*time.Second, "how long each protocol is measured")
	f.IntVar(&o.rate, "rate", 300, "triples of requests a second")
	f.IntVar(&o.clients, "clients", 16, "clients, each with a connection to either")
	f.IntVar(&o.held, "held", 500, "requests that are held and released at once")
	f.StringVar(&o.profile, "profile", "", "file that gets the gate's CPU profile")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	if f.NArg() > 0 || o.duration < time.Second || o.rate < 1 || o.clients < 1 || o.clients > o.rate || o.held < 1 {
		return o, fmt.Errorf("%w: -duration is at least 1s, -rate at least -clients, and the others are above zero", errUsage)
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	stage, err := newStage(ctx, o.profile)
	if err != nil {
		return err
	}
	defer stage.close()
	var results []result
	for _, h2c := range []bool{true, false} {
		r, err := measure(ctx, stage, o, h2c)
		if err != nil {
			return err
		}
		r.print(out)
		results = append(results, r)
	}
	stall, err := release(ctx, stage, o.held)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "gate: the last of %d held requests was answered %.1f ms after the switch\n", o.held, float64(stall.Microseconds())/1000)
	_, _ = fmt.Fprintf(out, "gate: adds %d µs to the median request by h2c\n", results[0].added(throughGate).Microseconds())
	plain := results[1]
	if a := plain.added(throughGate); a > aim {
		_, _ = fmt.Fprintf(out, "gate: the aim is %d µs; a bare reverse proxy adds %d µs here: -profile FILE shows where the gate's time goes\n", aim.Microseconds(), plain.added(throughBare).Microseconds())
	}
	_, err = fmt.Fprintf(out, "gate: adds %d µs to the median request\n", plain.added(throughGate).Microseconds())
	return err
}
