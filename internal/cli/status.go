package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/internal/move"
	"dhow/internal/voyage"
)

// statusTime bounds the wait for what does not answer.
const statusTime = 10 * time.Second

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say where the move stands: databases, streams, the gate, the last run",
		Long: `Asks both servers of every database which side serves and how far the move is,
a running dhow replicate how far its streams are behind, the gate what it holds,
and the journal how the last run went. Nothing is changed. What does not answer is
said so beside the rest.

Exits with 1 when something did not answer, or when neither or both sides of a
database take writes.`,
		Example: `  dhow status

  # how many seconds the slowest stream is behind
  dhow status -o json | jq '[.databases[].progress.lag_seconds] | max'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

// estateStatus is all that is known of where a move stands.
type estateStatus struct {
	Estate    string           `json:"estate"`
	Databases []databaseStatus `json:"databases"`
	// Replicate is the process that streams, if one does.
	Replicate *replicateStatus `json:"replicate,omitempty"`
	Gate      *gateStatus      `json:"gate,omitempty"`
	LastRun   *cutover.Run     `json:"last_run,omitempty"`
	// RunBy is the process that drives the last run at this moment, if one does.
	RunBy int `json:"run_by,omitempty"`
	// Errors are what did not answer, besides what stands at its place.
	Errors []string `json:"errors,omitempty"`

	failed []error
}

type databaseStatus struct {
	Database string        `json:"database"`
	Engine   estate.Engine `json:"engine"`
	// Serves is the side that takes writes: source, target, or neither or both, which a
	// cutover that was cut off leaves; empty when the servers do not answer.
	Serves   string         `json:"serves,omitempty"`
	State    *move.State    `json:"state,omitempty"`
	Progress *move.Progress `json:"progress,omitempty"`
	Error    string         `json:"error,omitempty"`

	// replicated says that the running replicate streams it.
	replicated bool
}

type replicateStatus struct {
	Pid     int          `json:"pid"`
	Started time.Time    `json:"started"`
	To      cutover.Side `json:"to"`
	// PeakRSS is the most memory that the process had, in bytes; 0 where the system does not say.
	PeakRSS int64 `json:"peak_rss_bytes,omitempty"`
}

func (a *app) status(ctx context.Context) error {
	v, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer v.Close(ctx)
	s := a.ask(ctx, v)
	if a.json() {
		err = a.printJSON(s)
	} else {
		err = a.printStatus(s)
	}
	return errors.Join(append(s.failed, err)...)
}

// ask asks everything at once; each answer, or why there is none, has its place.
func (a *app) ask(ctx context.Context, v *voyage.Voyage) *estateStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	s := &estateStatus{Estate: v.Estate.Name, Databases: make([]databaseStatus, len(v.Movers))}
	var mu sync.Mutex
	fail := func(err error, inPlace bool) {
		mu.Lock()
		defer mu.Unlock()
		s.failed = append(s.failed, err)
		if !inPlace {
			s.Errors = append(s.Errors, err.Error())
		}
	}
	var wg sync.WaitGroup
	for i, mv := range v.Movers {
		wg.Go(func() {
			d := &s.Databases[i]
			d.Database, d.Engine = mv.Name(), a.engineOf(mv.Name())
			state, err := mv.State(ctx)
			if err != nil {
				d.Error = err.Error()
				fail(fmt.Errorf("database %s: %w", mv.Name(), err), true)
				return
			}
			d.State, d.Serves = &state, serves(state)
		})
	}
	wg.Go(func() {
		var err error
		if s.LastRun, err = v.LastRun(ctx); err != nil {
			fail(err, false)
		}
		s.RunBy = underWay(v, s.LastRun)
	})
	wg.Go(func() { s.Gate = askGate(ctx, v, fail) })
	var running *voyage.Status
	wg.Go(func() {
		var err error
		if running, err = v.Running().Status(ctx); err != nil && !errors.Is(err, voyage.ErrNotRunning) {
			fail(err, false)
		}
	})
	wg.Wait()
	if s.RunBy == 0 { // a run that is under way passes through both
		for _, d := range s.Databases {
			if who := map[string]string{servesNeither: "neither side may", servesBoth: "both sides"}[d.Serves]; who != "" {
				fail(fmt.Errorf("%s take writes of database %s: run `dhow cutover` or `dhow rollback` again, they end in a safe state", who, d.Database), true)
			}
		}
	}
	if running != nil {
		s.Replicate = &replicateStatus{Pid: running.Pid, Started: running.Started, To: running.To, PeakRSS: running.PeakRSS}
		for _, r := range running.Databases {
			for i := range s.Databases {
				if s.Databases[i].Database != r.Database {
					continue
				}
				s.Databases[i].Progress, s.Databases[i].replicated = r.Progress, true
				if r.Error != "" {
					s.Databases[i].Error = strings.TrimPrefix(s.Databases[i].Error+"; "+r.Error, "; ")
					fail(errors.New(r.Error), true)
				}
			}
		}
	}
	slices.SortFunc(s.failed, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
	slices.Sort(s.Errors)
	return s
}

// The sides that serve, where it is not one.
const (
	servesNeither = "neither"
	servesBoth    = "both"
)

func serves(s move.State) string {
	switch {
	case s.Open && s.Sealed:
		return string(cutover.Target)
	case s.Open:
		return servesBoth
	case s.Sealed:
		return servesNeither
	}
	return string(cutover.Source)
}

func (a *app) printStatus(s *estateStatus) error {
	a.printf("%s", a.out.bold("estate "+s.Estate))
	t := &table{head: []string{"DATABASE", "ENGINE", "SERVES", "MOVE", "NOW"}, wrap: map[int]bool{4: true}}
	for _, d := range s.Databases {
		side, paint := d.Serves, a.out.green
		switch d.Serves {
		case "":
			side, paint = "unknown", a.out.red
		case servesNeither, servesBoth:
			paint = a.out.red
		}
		t.add(plain(d.Database), plain(string(d.Engine)), cell{text: side, paint: paint}, plain(stage(d.State)), cell{text: a.now(s, d), paint: paintIf(d.Error != "", a.out.red)})
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	if s.Replicate != nil {
		a.printf("replicate: process %d streams to the %s since %s", s.Replicate.Pid, s.Replicate.To, s.Replicate.Started.Format(time.DateTime))
	} else {
		a.printf("replicate: not running")
	}
	if s.Gate != nil {
		a.printGate(s.Gate)
	}
	a.printLastRun(s.LastRun, s.RunBy)
	return nil
}

// underWay is the process that drives a run at this moment; 0 where none does.
func underWay(v *voyage.Voyage, r *cutover.Run) int {
	if r == nil || r.Outcome != "" {
		return 0
	}
	if what, pid := v.Holder(); what == command(r.To) {
		return pid
	}
	return 0
}

func paintIf(really bool, paint func(string) string) func(string) string {
	if really {
		return paint
	}
	return nil
}

// stage is how far a database's move is, in a word or two.
func stage(s *move.State) string {
	switch {
	case s == nil:
		return "unknown"
	case !s.Started:
		return "not begun"
	case s.Open && s.Sealed:
		return "moved"
	case s.Copied:
		return "copied"
	}
	return "copying"
}

// now is what a database is busy with, or what is wrong with it.
func (a *app) now(s *estateStatus, d databaseStatus) string {
	switch {
	case d.Error != "":
		return d.Error
	case d.Progress != nil:
		return string(d.Progress.Phase) + ": " + describe(d.Engine, *d.Progress)
	case d.replicated:
		return "connecting"
	case s.Replicate != nil:
		return "not replicated by that process"
	}
	return "-"
}

func (a *app) printLastRun(r *cutover.Run, by int) {
	if r == nil {
		a.printf("last run: none")
		return
	}
	var came string
	switch {
	case r.Outcome == cutover.Done:
		came = a.out.green("done")
	case r.Outcome == cutover.Undone:
		came = a.out.yellow("undone") + ", " + r.Detail
	case by != 0:
		came = fmt.Sprintf("%s in process %d, at step %q", a.out.yellow("under way"), by, r.Last)
	default:
		came = fmt.Sprintf("%s at step %q: run `dhow %s` again, it ends in a safe state", a.out.red("cut off"), r.Last, command(r.To))
	}
	a.printf("last run: %d to the %s, begun %s: %s", r.ID, r.To, r.Started.Format(time.DateTime), came)
	for _, e := range r.Steps {
		a.printf("%s%s  %s", indent, e.At.Format(clockMillis), e.Step)
	}
}
