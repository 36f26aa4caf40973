package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// startTimeout bounds the wait for a server that was started; one that recovers
	// after a crash needs seconds, never a minute.
	startTimeout = time.Minute
	// stopTimeout bounds a shutdown before the server is killed.
	stopTimeout = 20 * time.Second
	// probeEvery is how often a starting server is asked whether it is ready.
	probeEvery = 20 * time.Millisecond
)

// ServerOptions say what a server is, and how it is started, asked and ended.
type ServerOptions struct {
	// Name is for errors.
	Name string
	// Dir is its folder, which need not exist. Empty: a temporary folder, removed by Stop.
	Dir string
	// Command makes the command that runs it; it is asked again for each start.
	Command func() *exec.Cmd
	// Probe says whether it answers: nil once it does.
	Probe func(context.Context) error
	// Orderly is the signal that shuts it down, Crash the one that ends it at once.
	Orderly, Crash syscall.Signal
}

// Server is a child that serves on a port of its own, out of a folder of its own,
// where its output is in server.log.
type Server struct {
	Dir  string
	Port int

	o    ServerOptions
	temp bool
	port *Port    // kept until Stop
	proc *Process // nil before the first Restart
}

// NewServer finds the folder and the port of a server; Restart starts it, and Stop
// gives both back. It ends when this process dies, however it dies.
func NewServer(o ServerOptions) (s *Server, err error) {
	kind, _, _ := strings.Cut(o.Name, " ") // without the version
	s = &Server{Dir: o.Dir, o: o}
	if s.Dir == "" {
		if s.Dir, err = os.MkdirTemp("", "dhow-"+kind); err != nil {
			return nil, fmt.Errorf("create a folder for %s: %w", o.Name, err)
		}
		s.temp = true
	}
	if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", o.Name, err)
	}
	if s.port, err = ReservePort(); err != nil {
		s.remove()
		return nil, err
	}
	s.Port = s.port.Number()
	return s, nil
}

// Pid is the server's process.
func (s *Server) Pid() int { return s.proc.Pid() }

// LogTail is the end of what the server said since it was started last.
func (s *Server) LogTail() string { return s.proc.LogTail() }

// Restart stops the server if it runs, starts it on the same port and returns once
// it answers.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.shutdown(ctx); err != nil {
		return err
	}
	proc, err := Start(s.o.Command(), Options{Name: s.o.Name, Log: filepath.Join(s.Dir, "server.log"), DeathSignal: s.o.Crash})
	if err != nil {
		return err
	}
	s.proc = proc
	if err := s.ready(ctx); err != nil {
		s.Kill() //nolint:contextcheck // also when ctx has ended
		return err
	}
	return nil
}

func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		if s.o.Probe(ctx) == nil {
			return nil
		}
		select {
		case <-s.proc.Done():
			return fmt.Errorf("%s ended while it started: %s", s.o.Name, s.proc.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s on port %d: %w: %s", s.o.Name, s.Port, ctx.Err(), s.proc.LogTail())
		case <-tick.C:
		}
	}
}

// Stop shuts the server down and waits until it is gone; a temporary folder is
// removed, and its port is given back. It may be called again.
func (s *Server) Stop(ctx context.Context) error {
	defer s.remove()
	return s.shutdown(ctx)
}

func (s *Server) shutdown(ctx context.Context) error {
	if s.proc == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return s.proc.Stop(ctx, s.o.Orderly)
}

// Kill ends the server at once, as a crash would, and waits until it is gone. The
// next Restart finds what a crash leaves.
func (s *Server) Kill() {
	if s.proc != nil {
		_ = s.proc.StopWithin(stopTimeout, s.o.Crash) // killed in any case
	}
}

func (s *Server) remove() {
	s.port.Release()
	if s.temp {
		_ = os.RemoveAll(s.Dir) // only our own temporary folder; what cannot go is the system's to clean
	}
}

// Unprivileged is the first of some accounts that is there: what a server runs
// under that refuses to be root. It is nil where this process is not root.
func Unprivileged(server string, accounts ...string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // no other account is needed
	}
	for _, name := range accounts {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errors.Join(errUID, errGID) == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("%s should not run as root and there is no account %s to run it as: create one, or run as another user", server, strings.Join(accounts, " or "))
}
