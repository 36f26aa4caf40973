package sidebyside

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// A benchmark runs itself as a child that does the mover's work, so that the
// memory and the CPU time of the mover are a process's own. The two speak through
// pipes: the task and orders in, events out, a line of JSON each.

const childCommand = "mover-child"

// IsChild says whether a command line is a child's.
func IsChild(args []string) bool { return len(args) > 0 && args[0] == childCommand }

// task is what a child does. It goes through a pipe because it holds passwords.
type task struct {
	Profile string `json:"profile,omitempty"`
	// Move is for the child's Opener.
	Move json.RawMessage `json:"move"`
}

// Opener makes the mover of a task, as it was given to Start.
type Opener func(task json.RawMessage) (move.Mover, error)

// The events of a child and the orders for it.
const (
	Streaming = "streaming" // the copy is complete and the stream runs
	applied   = "applied"   // all that was written before orderDrain is on the target
	ended     = "end"

	orderDrain = "drain"
	orderStop  = "stop"
)

// Event is what a child says.
type Event struct {
	Event string `json:"event"`
	Error string `json:"error,omitempty"`
	// PeakMiB and Phases come with the end.
	PeakMiB float64 `json:"peak_mib,omitempty"`
	Phases  []Phase `json:"phases,omitempty"`
}

// Phase is a part of a copy and how long it took.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Child is a child's main: it replicates until it is told to stop. What goes wrong
// is told to the parent.
func Child(ctx context.Context, in io.Reader, out io.Writer, open Opener) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return fmt.Errorf("read the task: %w", errors.Join(lines.Err(), io.ErrUnexpectedEOF))
	}
	var t task
	if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	var mu sync.Mutex
	say := func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(out).Encode(e) // a parent that is gone has no ear
	}
	var phases phaseClock
	err := t.run(ctx, open, lines, say, &phases)
	e := Event{Event: ended, PeakMiB: peakMiB(), Phases: phases.list()}
	if err != nil {
		e.Error = err.Error()
	}
	say(e)
	return nil
}

func (t task) run(ctx context.Context, open Opener, orders *bufio.Scanner, say func(Event), phases *phaseClock) error {
	if t.Profile != "" {
		f, err := os.Create(t.Profile)
		if err != nil {
			return fmt.Errorf("create the profile: %w", err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("begin the profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	m, err := open(t.Move)
	if err != nil {
		return err
	}
	defer m.Close(context.WithoutCancel(ctx))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	replicated := make(chan struct{})
	streaming := make(chan struct{})
	var once sync.Once
	g.Go(func() error {
		defer close(replicated)
		err := m.Replicate(ctx, func(p move.Progress) {
			phases.enter(string(p.Phase), p.At)
			if p.Phase == move.PhaseStream {
				once.Do(func() {
					say(Event{Event: Streaming})
					close(streaming)
				})
			}
		})
		if ctx.Err() != nil {
			return nil // we were told to
		}
		return err
	})
	drain := make(chan struct{}, 1)
	go func() { // ends with the parent, or with this process
		for orders.Scan() {
			if orders.Text() == orderDrain {
				drain <- struct{}{}
				continue
			}
			stop()
			return
		}
		stop()
	}()
	g.Go(func() error {
		for {
			select {
			case <-replicated:
				return nil
			case <-drain:
			}
			select {
			case <-replicated:
				return nil
			case <-streaming:
			}
			// A rehearsal sends a marker through the stream, behind all that was written.
			if _, err := m.Rehearse(ctx); err != nil {
				stop()
				return fmt.Errorf("wait for the end of the stream: %w", err)
			}
			say(Event{Event: applied})
		}
	})
	return g.Wait()
}

// phaseClock notes when each phase was first reported.
type phaseClock struct {
	mu    sync.Mutex
	began []time.Time
	names []string
}

func (c *phaseClock) enter(name string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.names); n > 0 && c.names[n-1] == name {
		return
	}
	c.names, c.began = append(c.names, name), append(c.began, at)
}

// list is each phase but the last with its length.
func (c *phaseClock) list() []Phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Phase
	for i := 0; i+1 < len(c.names); i++ {
		list = append(list, Phase{c.names[i], c.began[i+1].Sub(c.began[i]).Seconds()})
	}
	return list
}

// Process is the parent's hold on a child.
type Process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Scanner
	began time.Time
}

// Start starts a child with a task for its Opener; profile is a file for its CPU
// profile, or empty.
func Start(ctx context.Context, profile string, move any) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	t := task{Profile: profile}
	if t.Move, err = json.Marshal(move); err != nil {
		return nil, fmt.Errorf("write the mover's task: %w", err)
	}
	p := &Process{cmd: exec.CommandContext(ctx, self, childCommand)}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the mover: %w", err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the mover: %w", err)
	}
	p.out = bufio.NewScanner(out)
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the mover: %w", err)
	}
	if err := json.NewEncoder(p.in).Encode(t); err != nil {
		p.Kill()
		return nil, fmt.Errorf("give the mover its task: %w", err)
	}
	return p, nil
}

// Await returns when the child says an event; the end comes early only with an error.
func (p *Process) Await(name string) (Event, error) {
	for p.out.Scan() {
		var e Event
		if err := json.Unmarshal(p.out.Bytes(), &e); err != nil {
			return e, fmt.Errorf("the mover said %q: %w", p.out.Text(), err)
		}
		if e.Error != "" {
			return e, fmt.Errorf("the mover failed: %s", e.Error)
		}
		if e.Event == name {
			return e, nil
		}
	}
	return Event{}, fmt.Errorf("the mover ended before it said %q", name)
}

func (p *Process) tell(order string) error {
	if _, err := fmt.Fprintln(p.in, order); err != nil {
		return fmt.Errorf("tell the mover to %s: %w", order, err)
	}
	return nil
}

// Stop lets the child end and gives its last event.
func (p *Process) Stop() (Event, error) {
	if err := p.tell(orderStop); err != nil {
		return Event{}, err
	}
	end, err := p.Await(ended)
	if err != nil {
		return end, err
	}
	if err := p.cmd.Wait(); err != nil {
		return end, fmt.Errorf("the mover ended: %w", err)
	}
	return end, nil
}

// Kill ends a child that still runs; one that is gone is no error.
func (p *Process) Kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}
