// Command landing measures how near a deployment of a whole landing zone comes to the
// critical path of its stacks: four environments over four accounts and two regions, at
// a double of AWS whose resources take as long as AWS's, only faster. It prints the
// timeline, and at last how many times the critical path all of it took.
package main

import (
	"context"
	_ "embed" // the estate
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"dhow/internal/estate"
	"dhow/internal/landing"
	"dhow/internal/region"
)

//go:embed estate.yaml
var estateText []byte

// defaultSpeed leaves what the deployer and this machine take small beside what the
// stacks take: an hour of AWS's takes three minutes.
const defaultSpeed = 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench-landing:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to release
	}
}

func run(ctx context.Context) error {
	speed := flag.Float64("speed", defaultSpeed, "how many times faster than AWS")
	file := flag.String("estate", "", "another estate `file` than the bench's own")
	most := flag.Float64("most", 0, "fail where it takes more than this many times the critical path; 0 never does")
	flag.Parse()
	if *file == "" {
		dir, err := os.MkdirTemp("", "bench-landing-*")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }() // what is left of it does no harm
		*file = filepath.Join(dir, estate.FileName)
		if err := os.WriteFile(*file, estateText, 0o600); err != nil {
			return err
		}
	}
	e, err := estate.Load(*file)
	if err != nil {
		return err
	}
	if e.Landing != nil {
		landing.Complete(e.Landing)
	}
	library, err := landing.Embedded()
	if err != nil {
		return err
	}
	regions, err := region.Load()
	if err != nil {
		return err
	}
	g, err := landing.New(landing.Options{Estate: e, Library: library, Regions: regions})
	if err != nil {
		return err
	}
	r, err := landing.Rehearse(ctx, g.Stacks, landing.RehearsalOptions{Graph: g, Regions: regions, Speed: *speed})
	if err != nil {
		return err
	}
	for _, f := range r.Findings {
		if f.Severity == landing.SeverityError {
			return fmt.Errorf("%s: %s", f.Where, f.Text)
		}
	}
	for _, s := range r.Timeline.Spans {
		fmt.Printf("%-36s after %8s took %8s\n", s.Stack, s.After.Round(time.Second), s.Took.Round(time.Second))
	}
	if err := landing.Err(r.Results); err != nil {
		return err
	}
	resources := 0
	for _, s := range g.Stacks {
		resources += s.Resources
	}
	fmt.Printf("%d stacks, %d resources, %g x AWS's time: took %s\n", len(g.Stacks), resources, *speed, r.Timeline.Took.Round(time.Second))
	fmt.Printf("critical path: %s %v\n", r.Timeline.CriticalTook.Round(time.Second), r.Timeline.Critical)
	fmt.Printf("landing: %.2f x the critical path\n", r.Timeline.Ratio())
	if *most > 0 && r.Timeline.Ratio() > *most {
		return fmt.Errorf("want at most %.2f x", *most)
	}
	return nil
}
