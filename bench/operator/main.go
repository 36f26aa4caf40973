// Command operator measures the operator at a real API server with its etcd: how long a
// thousand new Exposures take until all are ready, what ten thousand take in memory, how
// many requests the API server answers for each, and how many of them ask for a change
// when all are looked at again. The operator is a process of its own with the rights that
// it has in a cluster; AWS's controller is played. What is counted is the API server's
// word, not the operator's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/bench/sidebyside"
	"dhow/internal/operator"
	"dhow/internal/operator/apitest"
)

const (
	// patience bounds each wait.
	patience = time.Hour
	// askEvery is how often what is waited for is looked at.
	askEvery = 100 * time.Millisecond
	// calm is for how long the operator must ask for nothing to be at rest.
	calm = 3 * time.Second
	// roles are what the operator may do in a cluster.
	roles = "deploy/operator/role.yaml"
	// policy is the operator's: with a domain, private Exposures get names of it.
	policy = "name: bank\ndomain: bank.example\nedge: [10.0.0.0/22]\ninner: [10.0.0.0/16]\n"
	// quickReady and quickMany are the Exposures of a quick run.
	quickReady, quickMany = 100, 500
	// memoryAim is in MiB, readyAim in seconds.
	memoryAim, readyAim = 512, 60
)

// bench is what is measured, and with what.
type bench struct {
	ready, many int
	quick       bool
	dhow        string
	say         func(format string, args ...any)

	dir   string
	plane *apitest.Plane
	admin client.WithWatch
	seen  *watcher
	life  *life
	lives int
	// peak is the most memory of all lives, in MiB.
	peak float64
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "bench-operator:", err)
	os.Exit(1) //nolint:gocritic // nothing is left to release
}

func run(ctx context.Context, args []string, out, log io.Writer) error {
	b := &bench{}
	fs := flag.NewFlagSet("bench/operator", flag.ContinueOnError)
	fs.SetOutput(log)
	fs.IntVar(&b.ready, "ready", 1000, "Exposures whose time is taken")
	fs.IntVar(&b.many, "many", 10_000, "Exposures in all, with which they are looked at again")
	fs.BoolVar(&b.quick, "quick", false, fmt.Sprintf("%d and %d of them: to see that it works, not to measure", quickReady, quickMany))
	fs.StringVar(&b.dhow, "dhow", "bin/dhow", "the `program` that is measured")
	output := fs.String("o", "text", "text or json")
	verbose := fs.Bool("v", false, "tell on standard error how far it is")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if b.quick {
		b.ready, b.many = quickReady, quickMany
	}
	switch {
	case fs.NArg() > 0:
		return fmt.Errorf("unknown argument %q: see `go run ./bench/operator -h`", fs.Arg(0))
	case b.ready < 1 || b.many < b.ready:
		return errors.New("want at least one Exposure with -ready, and as many with -many: see `go run ./bench/operator -h`")
	case *output != "text" && *output != "json":
		return fmt.Errorf("-o %s: text or json", *output)
	}
	if _, err := exec.LookPath(b.dhow); err != nil {
		return fmt.Errorf("find the operator: %w; `make build` builds it", err)
	}
	began := time.Now()
	b.say = func(format string, args ...any) {
		if *verbose {
			_, _ = fmt.Fprintf(log, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...)) // whoever is gone reads no progress
		}
	}
	rep, err := b.measure(ctx, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		return err
	}
	if *output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(rep)
	}
	return rep.print(out)
}

// measure sets everything up, takes the measures, and leaves nothing behind.
func (b *bench) measure(ctx context.Context, log *slog.Logger) (_ *report, err error) {
	rep := &report{Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version(), Quick: b.quick, LoadBefore: sidebyside.Load()}
	permitted, err := os.ReadFile(roles)
	if err != nil {
		return nil, fmt.Errorf("read what the operator may do: %w: run it in the project's folder", err)
	}
	if b.dir, err = os.MkdirTemp("", "bench-operator"); err != nil {
		return nil, fmt.Errorf("make a folder for the API server: %w", err)
	}
	defer func() { _ = os.RemoveAll(b.dir) }() // it is in the folder for what may be lost
	state := filepath.Join(b.dir, "plane")
	if err := os.Mkdir(state, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder for the API server: %w", err)
	}
	if b.plane, err = apitest.NewPlane(ctx, apitest.PlaneOptions{Dir: state, Audited: []string{apitest.Operator}}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.plane.Close()) }() //nolint:contextcheck // also when ctx has ended
	if err := b.plane.Permit(ctx, permitted); err != nil {
		return nil, err
	}
	if rep.Kubernetes, err = b.clients(); err != nil {
		return nil, err
	}
	b.say("an API server is there: %s", rep.Kubernetes)
	conf, err := b.plane.Config(apitest.Balancer)
	if err != nil {
		return nil, err
	}
	playing, stop := context.WithCancel(ctx)
	balancers, err := apitest.StartBalancers(playing, conf, log)
	if err != nil {
		stop()
		return nil, err
	}
	b.seen = newWatcher()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		b.seen.follow(playing, b.admin)
	}()
	defer func() {
		stop()
		balancers.Wait()
		<-watched
	}()
	defer func() {
		if b.life != nil {
			b.life.process.Kill()
		}
	}()
	if err := b.take(ctx, rep); err != nil {
		return nil, err
	}
	rep.PeakMiB, rep.LoadAfter = b.peak, sidebyside.Load()
	return rep, nil
}

// clients makes the administrator's client, and asks for the version.
func (b *bench) clients() (version string, err error) {
	conf, err := b.plane.Config(apitest.Admin)
	if err != nil {
		return "", err
	}
	scheme, err := operator.Scheme()
	if err != nil {
		return "", err
	}
	if b.admin, err = client.NewWithWatch(conf, client.Options{Scheme: scheme}); err != nil {
		return "", fmt.Errorf("make a client of the API server: %w", err)
	}
	return serverVersion(conf)
}

// take takes the measures, one after the other.
func (b *bench) take(ctx context.Context, rep *report) error {
	if err := b.workloads(ctx, 0, b.ready); err != nil {
		return err
	}
	if err := b.startOperator(ctx); err != nil {
		return err
	}
	first, err := b.grow(ctx, 0, b.ready)
	if err != nil {
		return err
	}
	rep.Steps = append(rep.Steps, first)
	rep.ReadySeconds, rep.RequestsPerExposure = first.Seconds, first.PerExposure
	if b.many > b.ready {
		if err := b.workloads(ctx, b.ready, b.many); err != nil {
			return err
		}
		rest, err := b.grow(ctx, b.ready, b.many)
		if err != nil {
			return err
		}
		rep.Steps = append(rep.Steps, rest)
	}
	if rep.Resync, err = b.resync(ctx); err != nil {
		return err
	}
	if rep.Restart, err = b.restart(ctx); err != nil {
		return err
	}
	return b.endOperator() //nolint:contextcheck // its end has a bound of its own
}

// grow makes the Exposures from first to before end, and waits until all that there are
// are ready.
func (b *bench) grow(ctx context.Context, first, end int) (s step, err error) {
	at, err := b.rest(ctx, 0)
	if err != nil {
		return s, err
	}
	began := time.Now()
	if err := b.exposures(ctx, first, end); err != nil {
		return s, err
	}
	b.say("%d Exposures are made", end-first)
	if err := b.wait(ctx, fmt.Sprintf("%d Exposures to be ready", end), func() (string, error) { return b.seen.missing(end), nil }); err != nil {
		return s, err
	}
	s = step{Exposures: end - first, InAll: end, Seconds: b.seen.lastAt().Sub(began).Seconds()}
	if _, err := b.rest(ctx, at); err != nil {
		return s, err
	}
	if s.Requests, _, err = b.plane.Requests(apitest.Operator, at); err != nil {
		return s, err
	}
	s.PerExposure = float64(s.Requests.All()) / float64(s.Exposures)
	s.PeakMiB = b.life.peakMiB()
	b.say("all %d are ready, the last %d after %.1f s; %.1f requests for each, %.0f MiB", end, s.Exposures, s.Seconds, s.PerExposure, s.PeakMiB)
	return s, nil
}

// resync lets the operator look at all Exposures anew: a label of a namespace may matter
// to every Exposure in it.
func (b *bench) resync(ctx context.Context) (a again, err error) {
	at, err := b.rest(ctx, 0)
	if err != nil {
		return a, err
	}
	before, err := b.life.looked(ctx)
	if err != nil {
		return a, err
	}
	began := time.Now()
	if err := b.touchNamespaces(ctx); err != nil {
		return a, err
	}
	return b.lookedAt(ctx, before, began, at)
}

// restart ends the operator and starts another, which reads everything and looks at it.
func (b *bench) restart(ctx context.Context) (a again, err error) {
	at, err := b.rest(ctx, 0)
	if err != nil {
		return a, err
	}
	if err := b.endOperator(); err != nil { //nolint:contextcheck // its end has a bound of its own
		return a, err
	}
	began := time.Now()
	if err := b.startOperator(ctx); err != nil {
		return a, err
	}
	return b.lookedAt(ctx, 0, began, at)
}

// lookedAt waits until as many looks were taken as there are Exposures, and counts what
// the API server was asked for since a position. How many looks were taken is the
// operator's word; that none of them asked for a change is not.
func (b *bench) lookedAt(ctx context.Context, before int, began time.Time, at int64) (a again, err error) {
	err = b.wait(ctx, "the operator to look at all Exposures", func() (string, error) {
		now, err := b.life.looked(ctx)
		if err != nil {
			return "", err
		}
		busy, err := b.life.busy(ctx)
		if err != nil {
			return "", err
		}
		a.Looked = now - before
		if a.Looked < b.many || busy {
			return fmt.Sprintf("it took %d looks at %d", a.Looked, b.many), nil
		}
		return "", nil
	})
	if err != nil {
		return a, err
	}
	a.Seconds = time.Since(began).Seconds()
	if _, err := b.rest(ctx, at); err != nil {
		return a, err
	}
	all, _, err := b.plane.Requests(apitest.Operator, at)
	if err != nil {
		return a, err
	}
	a.Requests, a.Writes = all.All(), all.Writes()
	b.say("%d looks in %.1f s, %d requests, of which %d ask for a change", a.Looked, a.Seconds, a.Requests, a.Writes.All())
	return a, nil
}

// rest waits until the operator has asked for nothing for a while behind a position, and
// returns the position that it has come to.
func (b *bench) rest(ctx context.Context, at int64) (int64, error) {
	since := time.Now()
	err := b.wait(ctx, "the operator to come to rest", func() (string, error) {
		some, next, err := b.plane.Requests(apitest.Operator, at)
		if err != nil {
			return "", err
		}
		at = next
		if some.All() > 0 {
			since = time.Now()
		}
		if time.Since(since) < calm {
			return "it still asks", nil
		}
		return "", nil
	})
	return at, err
}

// wait waits until nothing is missing, and fails where the operator has ended meanwhile.
func (b *bench) wait(ctx context.Context, what string, missing func() (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		text, err := missing()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if text == "" {
			return nil
		}
		var ended <-chan struct{} // of nothing, where no operator runs
		if b.life != nil {
			ended = b.life.process.Done()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %s", what, ctx.Err(), text)
		case <-ended:
			return fmt.Errorf("wait for %s: the operator has ended: %w", what, b.life.ended())
		case <-tick.C:
		}
	}
}
