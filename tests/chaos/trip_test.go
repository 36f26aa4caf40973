// Package chaos moves a live application while things are killed, cut off and
// filled up, and asks the checker each time: nothing that was acknowledged is
// lost, nothing is done twice, and the two sides never took writes at once.
package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dhow/internal/cutover"
	"dhow/internal/demo"
	"dhow/internal/estate"
	"dhow/internal/programtest"
)

const (
	// commandTime bounds a command that should end by itself.
	commandTime = 2 * time.Minute
	// budget and hold are long, for these tests share a small machine with others:
	// what clients wait is the demo's matter.
	budget = 1500 * time.Millisecond
	hold   = 2 * time.Second
	// rate and connections make the traffic.
	rate, connections = 150, 16
	poll              = 5 * time.Millisecond
	// tries bounds how often a run is begun again that the machine was too busy for.
	tries = 5
)

// trip is a stage with traffic, and what is known of its voyage.
type trip struct {
	t        *testing.T
	programs string // the folder of the programs
	stage    *demo.Stage
	serving  estate.Side
	switches int
	pauses   int
}

// newTrip sets up a stage with the gate and traffic; nothing is moved yet.
func newTrip(t *testing.T, cfg demo.StageConfig) *trip {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers and an application: not with -short (testing.Short)")
	}
	dir, err := os.MkdirTemp("", "chaos") //nolint:usetesting // t.TempDir's are too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	programs := programtest.Build(t, "dhow/cmd/dhow", "dhow/superapp/cmd/superapp", "dhow/tests/chaos/mortal")
	cfg.Dir, cfg.Dhow, cfg.Superapp, cfg.From, cfg.To = dir, filepath.Join(programs, "dhow"), filepath.Join(programs, "superapp"), 15, 15
	cfg.StallBudget, cfg.HoldTime = budget, hold
	stage, err := demo.NewStage(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	tr := &trip{t: t, programs: programs, stage: stage, serving: estate.Source}
	t.Cleanup(func() {
		if t.Failed() {
			tr.logs()
		}
		if err := stage.Close(); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	if err := stage.StartGate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stage.StartTraffic(rate, connections, 1); err != nil {
		t.Fatal(err)
	}
	return tr
}

// logs shows the end of what each process said.
func (tr *trip) logs() {
	const most = 2000
	files, _ := filepath.Glob(filepath.Join(tr.stage.Dir, "*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		tr.t.Logf("%s: %s", filepath.Base(f), text[max(0, len(text)-most):])
	}
}

// on lets the same stage serve a subtest.
func (tr *trip) on(t *testing.T) *trip {
	tr.t = t
	return tr
}

// command prepares a run of dhow.
func (tr *trip) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(tr.programs, "dhow"), append(args, "--file", tr.stage.EstateFile)...)
}

// mortal prepares a run of dhow that dies at a step, or makes a file there and pauses until
// that is gone.
func (tr *trip) mortal(ctx context.Context, step cutover.Step, file string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(tr.programs, "mortal"), slices.Concat([]string{string(step), file}, args, []string{"--file", tr.stage.EstateFile})...)
}

// dhow runs a command to its end.
func (tr *trip) dhow(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(tr.t.Context(), commandTime)
	defer cancel()
	out, err := tr.command(ctx, args...).CombinedOutput()
	return string(out), err
}

func (tr *trip) must(args ...string) string {
	tr.t.Helper()
	out, err := tr.dhow(args...)
	if err != nil {
		tr.t.Fatalf("dhow %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// depart copies all databases, and starts the application at the target.
func (tr *trip) depart() {
	tr.t.Helper()
	tr.must("replicate", "--until-streaming")
	tr.startTarget()
}

func (tr *trip) startTarget() {
	tr.t.Helper()
	if err := tr.stage.StartServices(tr.t.Context(), estate.Target); err != nil {
		tr.t.Fatal(err)
	}
}

func verb(to estate.Side) string {
	if to == estate.Source {
		return "rollback"
	}
	return "cutover"
}

// arrive moves the traffic to a side. A run that the machine was too busy for
// was undone, and is tried again.
func (tr *trip) arrive(to estate.Side) {
	tr.t.Helper()
	for try := 1; ; try++ {
		out, err := tr.dhow(verb(to), "--yes")
		if err == nil {
			break
		}
		if try == tries || !strings.Contains(out, cutover.ErrOverBudget.Error()) {
			tr.t.Fatalf("dhow %s: %v\n%s", verb(to), err, out)
		}
		tr.t.Logf("a cutover was undone: %s", out)
	}
	tr.at(to)
}

// at says that the traffic has moved, once the servers say so too.
func (tr *trip) at(to estate.Side) {
	tr.t.Helper()
	if out := tr.must("status", "-o", "json"); strings.Count(out, fmt.Sprintf("%q: %q", "serves", to)) != len(tr.stage.Databases()) {
		tr.t.Fatalf("not all databases are served by the %s: %s", to, out)
	}
	if tr.serving != to {
		tr.switches++
	}
	tr.serving = to
}

// check lets the checker judge all that has happened so far.
func (tr *trip) check() {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	r, err := tr.stage.Check(ctx, tr.serving, tr.switches)
	if err != nil {
		tr.t.Fatal(err)
	}
	if !r.OK {
		tr.t.Errorf("the checker found %d faults", r.Faults())
		for _, f := range r.Findings {
			tr.t.Errorf("%s: %s: %s", f.Kind, f.Of, f.What)
		}
	}
	if r.AcknowledgedWrites == 0 || !r.Audited || r.Switches != tr.switches {
		tr.t.Errorf("this run proves nothing: %d acknowledged writes, %d switches seen of %d", r.AcknowledgedWrites, r.Switches, tr.switches)
	}
	tr.t.Logf("%d acknowledged writes, %d rows audited, %d switches, nothing wrong: %t", r.AcknowledgedWrites, r.AuditedRows, r.Switches, r.OK)
}

// child is a command that runs beside the test.
type child struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer
	done chan struct{}
	err  error
}

func (c *child) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *child) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// start runs a command beside the test; it is killed at the test's end.
func (tr *trip) start(cmd *exec.Cmd) *child {
	tr.t.Helper()
	c := &child{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = c, c
	if err := cmd.Start(); err != nil {
		tr.t.Fatal(err)
	}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	tr.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-c.done
	})
	return c
}

// ended waits for the command's end by itself.
func (tr *trip) ended(c *child) error {
	tr.t.Helper()
	select {
	case <-c.done:
		return c.err
	case <-time.After(commandTime):
		_ = c.cmd.Process.Signal(syscall.SIGQUIT) // it says where it stands
		<-c.done
		tr.t.Fatalf("it does not end: %s", c.output())
		return nil
	}
}

// killedAt runs a cutover that dies at a step.
func (tr *trip) killedAt(step cutover.Step, to estate.Side) {
	tr.t.Helper()
	for try := 1; ; try++ {
		out, err := tr.mortal(tr.t.Context(), step, "", verb(to), "--yes").CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
			return
		}
		if try == tries || !strings.Contains(string(out), cutover.ErrOverBudget.Error()) {
			tr.t.Fatalf("it was not killed at step %s: %v\n%s", step, err, out)
		}
	}
}

// pausedAt starts a cutover and returns when it stands at a step; goOn lets it go on.
func (tr *trip) pausedAt(step cutover.Step, to estate.Side) (c *child, goOn func()) {
	tr.t.Helper()
	for try := 1; ; try++ {
		tr.pauses++
		file := filepath.Join(tr.stage.Dir, fmt.Sprintf("pause%d", tr.pauses))
		c = tr.start(tr.mortal(context.Background(), step, file, verb(to), "--yes"))
		goOn = func() {
			if err := os.Remove(file); err != nil {
				tr.t.Fatal(err)
			}
		}
		until := time.Now().Add(commandTime)
		for {
			if _, err := os.Stat(file); err == nil {
				return c, goOn
			}
			select {
			case <-c.done:
			case <-time.After(poll):
				if time.Now().After(until) {
					tr.t.Fatalf("it does not get to step %s: %s", step, c.output())
				}
				continue
			}
			break
		}
		if try == tries || !strings.Contains(c.output(), cutover.ErrOverBudget.Error()) {
			tr.t.Fatalf("it ended before step %s: %v\n%s", step, c.err, c.output())
		}
	}
}

// await waits for a condition.
func (tr *trip) await(what string, within time.Duration, is func() bool) {
	tr.t.Helper()
	for until := time.Now().Add(within); !is(); time.Sleep(10 * poll) {
		if time.Now().After(until) {
			tr.t.Fatalf("%s did not come in %s", what, within)
		}
	}
}

// written counts the transfers that a side holds.
func (tr *trip) written(side estate.Side) int {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n, err := tr.stage.Transfers(ctx, side)
	if err != nil {
		tr.t.Fatal(err)
	}
	return n
}

// goesOn waits until clients' writes are done at a side.
func (tr *trip) goesOn(side estate.Side) {
	tr.t.Helper()
	before := tr.written(side)
	tr.await("a write at the "+string(side), time.Minute, func() bool { return tr.written(side) > before })
}
