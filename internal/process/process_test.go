package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(exec.Command("sh", "-c", script), Options{Name: "the child", Log: filepath.Join(t.TempDir(), "log"), DeathSignal: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestStopEndsAChildThatListens(t *testing.T) {
	p := start(t, "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done")
	awaitLog(t, p, "ready")
	if err := p.StopWithin(10*time.Second, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err != nil {
		t.Fatalf("ended with %v", err)
	}
	if err := p.StopWithin(time.Second, syscall.SIGTERM); err != nil {
		t.Fatalf("stopped again: %v", err)
	}
}

func TestStopKillsAChildThatDoesNot(t *testing.T) {
	p := start(t, "trap '' TERM; echo ready; while :; do sleep 0.01; done")
	awaitLog(t, p, "ready")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx, syscall.SIGTERM); !errors.Is(err, ErrForced) {
		t.Fatalf("got %v, want ErrForced", err)
	}
	if err := syscall.Kill(p.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("the child is still there: %v", err)
	}
}

func TestErrNamesTheLogsEnd(t *testing.T) {
	p := start(t, "echo what went wrong >&2; exit 3")
	<-p.Done()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "what went wrong") || !strings.Contains(err.Error(), "exit status 3") {
		t.Fatalf("got %v", err)
	}
}

// TestChildDiesWithItsOwner kills an owner, which can clean up nothing.
func TestChildDiesWithItsOwner(t *testing.T) {
	if os.Getenv("OWNER") != "" {
		p, err := Start(exec.Command("sleep", "600"), Options{Name: "sleep", Log: os.DevNull, DeathSignal: syscall.SIGKILL})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(os.Getenv("OWNER"), []byte(strconv.Itoa(p.Pid())), 0o600); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	file := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command(os.Args[0], "-test.run", "^TestChildDiesWithItsOwner$")
	cmd.Env = append(os.Environ(), "OWNER="+file)
	owner, err := Start(cmd, Options{Name: "owner", Log: os.DevNull, DeathSignal: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	await(t, func() bool {
		text, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(string(text))
		return err == nil
	})
	owner.Kill()
	await(t, func() bool { // gone, or a zombie that nobody has collected yet
		state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err != nil || strings.Contains(string(state), ") Z ")
	})
}

func awaitLog(t *testing.T, p *Process, want string) {
	t.Helper()
	await(t, func() bool { return strings.Contains(p.LogTail(), want) })
}

func await(t *testing.T, is func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("waited in vain")
		}
	}
}
