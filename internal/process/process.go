// Package process runs child processes that never outlive their parent: each is
// ended when its owner stops it and when the owner dies, however it dies. It
// knows nothing of what the children do.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Process is a running child.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // valid once done is closed
}

// Options say how a child is run.
type Options struct {
	// Name is for errors.
	Name string
	// Log is the file that takes the child's output, truncated first.
	Log string
	// DeathSignal is sent to the child by the kernel when this process dies.
	DeathSignal syscall.Signal
}

// Start starts cmd, whose output goes to the log. The child is in a session of
// its own, so that Ctrl-C reaches the owner alone, who then stops it; and so that a
// kernel which shares a processor out by sessions gives each child its share: see
// Together for children that are many.
func Start(cmd *exec.Cmd, o Options) (*Process, error) {
	logFile, err := os.OpenFile(o.Log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", o.Name, err)
	}
	if cmd.Stdout == nil {
		cmd.Stdout = logFile
	}
	cmd.Stderr = logFile
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = o.DeathSignal
	cmd.SysProcAttr.Setsid = true

	p := &Process{name: o.Name, cmd: cmd, log: o.Log, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel signals the child when the thread that made it ends, so
		// this goroutine keeps its thread until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		_ = logFile.Close()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Name, err)
	}
	return p, nil
}

// Pid is the child's process number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the child ended: nil for exit code 0. Call it after Done.
func (p *Process) Err() error {
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s ended: %w: %s", p.name, p.err, p.LogTail())
}

// Signal sends the child a signal; a child that is gone is no error.
func (p *Process) Signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
}

// ErrForced says that a child did not end by itself in time and was killed.
var ErrForced = errors.New("did not end in time and was killed")

// Stop sends the signal and waits until the child has ended; when ctx ends
// before, the child is killed. It may be called again.
func (p *Process) Stop(ctx context.Context, s syscall.Signal) error {
	p.Signal(syscall.SIGCONT) // a paused child can not stop
	p.Signal(s)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("%s %w", p.name, ErrForced)
	}
}

// StopWithin is Stop with a time of its own: for use in a defer.
func (p *Process) StopWithin(d time.Duration, s syscall.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return p.Stop(ctx, s)
}

// Kill ends the child at once and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// LogTail is the end of the child's log, for an error's text.
func (p *Process) LogTail() string {
	const most = 2000 // bytes
	text, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return strings.TrimSpace(string(text))
}
