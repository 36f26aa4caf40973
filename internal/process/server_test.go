package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shellServer is a server whose probe looks for the file that its script makes.
func shellServer(t *testing.T, dir, script string) *Server {
	t.Helper()
	var s *Server
	s, err := NewServer(ServerOptions{
		Name: "shell 1", Dir: dir, Orderly: syscall.SIGTERM, Crash: syscall.SIGKILL,
		Command: func() *exec.Cmd {
			cmd := exec.Command("sh", "-c", script)
			cmd.Dir = s.Dir
			return cmd
		},
		Probe: func(context.Context) error {
			_, err := os.Stat(filepath.Join(s.Dir, "ready"))
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s
}

func TestServer(t *testing.T) {
	s := shellServer(t, "", "trap 'rm ready; exit' TERM; touch ready; while :; do sleep 0.01; done")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, port := s.Pid(), s.Port
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Pid() == first || s.Port != port {
		t.Errorf("restarted as process %d on port %d, before %d on %d", s.Pid(), s.Port, first, port)
	}
	s.Kill()
	if _, err := os.Stat(filepath.Join(s.Dir, "ready")); err != nil {
		t.Errorf("a killed server could tidy up: %v", err)
	}
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary folder is still there: %v", err)
	}
}

func TestServerThatDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	s := shellServer(t, dir, "echo no room >&2; exit 3")
	if err := s.Restart(t.Context()); err == nil || !strings.Contains(err.Error(), "shell 1 ended while it started: no room") {
		t.Errorf("a server that ends: %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a folder that was given is removed: %v", err)
	}
	s = shellServer(t, dir, "echo busy; sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Restart(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for shell 1 on port") {
		t.Errorf("a server that never answers: %v", err)
	}
	select {
	case <-s.proc.Done():
	default:
		t.Error("a server that never answered still runs")
	}
}
