// Command postgres measures the PostgreSQL mover beside its peers, in one run
// on one machine: its copy beside pgcopydb's, its change stream beside native
// logical replication. It starts servers of its own, alike on both ends, lets
// the rivals take turns, and compares every row after each turn. See
// bench/README.md for what is measured and how to read it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dhow/bench/sidebyside"
	"dhow/internal/move"
	"dhow/internal/move/postgres"
)

// serverVersion is both servers' major version: the newest that this pgcopydb
// and Debian's pg_dump know.
const serverVersion = 15

// The races.
const (
	raceCopy   = "copy"
	raceStream = "stream"
)

func main() {
	var race string
	var lanes int
	os.Exit(sidebyside.Bench{
		Name:   "postgres",
		Shapes: shapes,
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&race, "race", raceCopy+","+raceStream, "what to measure: copy, stream or both")
			fs.IntVar(&lanes, "lanes", min(runtime.NumCPU(), postgres.DefaultLanes), "lanes of the mover's change stream: as many as cores, at most its default")
		},
		Check: func() error {
			for r := range strings.SplitSeq(race, ",") {
				if r != raceCopy && r != raceStream {
					return fmt.Errorf("-race %s: copy or stream", r)
				}
			}
			return nil
		},
		Open: openMover,
		Measure: func(ctx context.Context, o sidebyside.Options, log io.Writer) (sidebyside.Printer, error) {
			return measure(ctx, o, strings.Split(race, ","), lanes, log)
		},
	}.Main())
}

// task is what a mover's process does.
type task struct {
	Source string `json:"source"`
	Target string `json:"target"`
	// Lanes are the change stream's; 0 is the mover's default.
	Lanes int `json:"lanes,omitempty"`
}

func openMover(text json.RawMessage) (move.Mover, error) {
	var t task
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("read the task: %w", err)
	}
	source, err := pgx.ParseConfig(t.Source)
	if err != nil {
		return nil, fmt.Errorf("read the source's address: %w", err)
	}
	target, err := pgx.ParseConfig(t.Target)
	if err != nil {
		return nil, fmt.Errorf("read the target's address: %w", err)
	}
	return postgres.New(postgres.Config{Estate: "bench", Name: "copied", Source: source, Target: target, Limits: postgres.Limits{Lanes: t.Lanes}})
}

// measure runs the races that were asked for.
func measure(ctx context.Context, o sidebyside.Options, races []string, lanes int, log io.Writer) (*report, error) {
	rep := &report{Report: sidebyside.NewReport(ctx, o, fmt.Sprintf("/usr/lib/postgresql/%d/bin/postgres", serverVersion), "pgcopydb"), Lanes: lanes}
	l, err := openLab(ctx, log)
	if err != nil {
		return nil, err
	}
	defer l.Close(ctx)
	if slices.Contains(races, raceCopy) {
		for _, s := range o.Shapes {
			r, err := copyRace(ctx, l, s, o)
			if err != nil {
				return nil, fmt.Errorf("shape %s: %w", s.Name, err)
			}
			rep.Copies = append(rep.Copies, *r)
		}
	}
	if slices.Contains(races, raceStream) {
		if rep.Stream, err = streamRace(ctx, l, o, lanes); err != nil {
			return nil, fmt.Errorf("stream: %w", err)
		}
	}
	rep.conclude()
	return rep, nil
}
