package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"

	"dhow/internal/mariadbserver"
	"dhow/internal/move"
	"dhow/internal/move/mariadb"
	"github.com/go-sql-driver/mysql"
)

// This program runs itself as a child that does the mover's work, so that the
// memory and the CPU time of the mover are a process's own. The two speak
// through pipes: the task and orders in, events out, a line of JSON each.

const childCommand = "mover-child"

// task is what a child does. It goes through a pipe because it holds passwords.
type task struct {
	Source  endpoint `json:"source"`
	Target  endpoint `json:"target"`
	Profile string   `json:"profile,omitempty"`
}

// endpoint is a server of this machine and an account there.
type endpoint struct {
	Port     int    `json:"port"`
	User     string `json:"user"`
	Password string `json:"password"`
}

func endpointOf(s *mariadbserver.Server) endpoint {
	return endpoint{s.Port, s.User(), s.Password()}
}

func (e endpoint) config() *mysql.Config {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = "tcp", net.JoinHostPort(loopback, strconv.Itoa(e.Port)), e.User, e.Password
	return c
}

func (e endpoint) replica() mariadb.Replica {
	return mariadb.Replica{Host: loopback, Port: e.Port, User: e.User, Password: e.Password}
}

// loopback is where this program's servers are.
const loopback = "127.0.0.1"

// The events of a child and the order for it.
const (
	eventStreaming = "streaming" // the copy is complete and the stream runs
	eventEnd       = "end"
	orderStop      = "stop"
)

// event is what a child says.
type event struct {
	Event   string  `json:"event"`
	Error   string  `json:"error,omitempty"`
	PeakMiB float64 `json:"peak_mib,omitempty"`
	Phases  []phase `json:"phases,omitempty"`
}

// phase is a part of a copy and how long it took.
type phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// child is the child's main: it replicates until it is told to stop.
func child(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return fmt.Errorf("read the task: %w", errors.Join(lines.Err(), io.ErrUnexpectedEOF))
	}
	var t task
	if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	var mu sync.Mutex
	say := func(e event) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(out).Encode(e) // a parent that is gone has no ear
	}
	var phases phaseClock
	err := t.run(ctx, lines, say, &phases)
	e := event{Event: eventEnd, PeakMiB: peakMiB(), Phases: phases.list()}
	if err != nil {
		e.Error = err.Error()
	}
	say(e)
	return nil
}

func (t task) run(ctx context.Context, orders *bufio.Scanner, say func(event), phases *phaseClock) error {
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
	m, err := mariadb.New(mariadb.Config{Estate: "bench", Name: "copied", Source: t.Source.config(), Target: t.Target.config(),
		SourceReplica: t.Source.replica(), TargetReplica: t.Target.replica(), Schemas: []string{copyDatabase}})
	if err != nil {
		return err
	}
	defer m.Close(context.WithoutCancel(ctx))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // ends with the parent, or with this process
		orders.Scan()
		stop()
	}()
	var once sync.Once
	err = m.Replicate(ctx, func(p move.Progress) {
		phases.enter(string(p.Phase), p.At)
		if p.Phase == move.PhaseStream {
			once.Do(func() { say(event{Event: eventStreaming}) })
		}
	})
	if ctx.Err() != nil {
		return nil // we were told to
	}
	return err
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
func (c *phaseClock) list() []phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []phase
	for i := 0; i+1 < len(c.names); i++ {
		list = append(list, phase{c.names[i], c.began[i+1].Sub(c.began[i]).Seconds()})
	}
	return list
}

// peakMiB is the most memory that this process ever had, as the kernel counts it.
func peakMiB() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0 // no Linux: the report shows zero
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64) // the kernel wrote it
			return kib / 1024
		}
	}
	return 0
}

// process is the parent's hold on a child.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Scanner
	began time.Time
}

func startChild(ctx context.Context, t task) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	p := &process{cmd: exec.CommandContext(ctx, self, childCommand)}
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
		p.kill()
		return nil, fmt.Errorf("give the mover its task: %w", err)
	}
	return p, nil
}

// await returns when the child says an event; the end comes early only with an error.
func (p *process) await(name string) (event, error) {
	for p.out.Scan() {
		var e event
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
	return event{}, fmt.Errorf("the mover ended before it said %q", name)
}

func (p *process) tell(order string) error {
	if _, err := fmt.Fprintln(p.in, order); err != nil {
		return fmt.Errorf("tell the mover to %s: %w", order, err)
	}
	return nil
}

func (p *process) wait() error {
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("the mover ended: %w", err)
	}
	return nil
}

// kill ends a child that still runs; one that is gone is no error.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}
