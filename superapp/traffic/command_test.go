package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test's own binary behave as the command, so that signals
// can be sent to a process.
const childEnv = "SUPERAPP_TRAFFIC_TEST_CHILD"

func child() bool {
	if os.Getenv(childEnv) == "" {
		return false
	}
	cmd := Command()
	cmd.SetArgs(strings.Split(os.Getenv(childEnv), "\n"))
	cmd.SilenceUsage = true
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := cmd.ExecuteContext(ctx)
	stop()
	if err != nil {
		os.Exit(1)
	}
	return true
}

func TestCommandPrintsItsSummary(t *testing.T) {
	b := newBank(t)
	for output, look := range map[string]func([]byte) error{
		"json": func(out []byte) error {
			var s map[string]any
			if err := json.Unmarshal(out, &s); err != nil {
				return err
			}
			for _, field := range []string{"requests", "acknowledged", "refused", "failed", "unknown", "late", "p50_ms", "p99_ms", "max_ms", "acknowledged_writes"} {
				if _, ok := s[field]; !ok {
					return fmt.Errorf("no field %s", field)
				}
			}
			if s["requests"].(float64) < 50 {
				return fmt.Errorf("%v requests", s["requests"])
			}
			return nil
		},
		"text": func(out []byte) error {
			if !bytes.Contains(out, []byte("late (never sent)")) || !bytes.Contains(out, []byte(" ms")) {
				return errors.New("lines are missing")
			}
			return nil
		},
	} {
		cmd := Command()
		var out, errs bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&errs)
		cmd.SetArgs([]string{"--url", b.URL, "--history", filepath.Join(t.TempDir(), "h"), "--rate", "100", "--duration", "1200ms", "--accounts", "40", "--connections", "4", "-o", output})
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		if err := look(out.Bytes()); err != nil {
			t.Errorf("%s: %v in %s", output, err, out.Bytes())
		}
		if !strings.HasPrefix(errs.String(), "1s  ") || !strings.HasSuffix(errs.String(), "failed 0\n") {
			t.Errorf("progress %q", errs.String())
		}
	}
}

func TestCommandRefusesBadUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--history", "h"}, {"--url", "http://h:1"}, {"--url", "http://h:1", "--history", "h", "--rate", "0"}, {"--url", "http://h:1", "--history", "h", "-o", "xml"},
		{"--url", "http://h:1", "--history", "h", "--rhythm-day", "60s"}, {"--url", "http://h:1", "--history", "h", "--rhythm", "--rhythm-day", "0"},
	} {
		cmd := Command()
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(args)
		err := cmd.Execute()
		var coded interface{ ExitCode() int }
		if !errors.As(err, &coded) || coded.ExitCode() != 2 {
			t.Errorf("%v: got %v, want a usage error", args, err)
		}
	}
}

func TestSignalEndsTheProcessCleanly(t *testing.T) {
	b := newBank(t)
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		path := filepath.Join(t.TempDir(), "h")
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{"--url", b.URL, "--history", path, "--rate", "200", "--duration", "0", "--accounts", "40", "-o", "json"}, "\n"))
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(30 * time.Second)
		for size := int64(0); size == 0; time.Sleep(10 * time.Millisecond) {
			if s, err := os.Stat(path); err == nil {
				size = s.Size()
			}
			if time.Now().After(deadline) {
				_ = cmd.Process.Kill()
				t.Fatalf("no history appeared: %s", errs.Bytes())
			}
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("after %s: %v: %s", sig, err, errs.Bytes())
		}
		var s Summary
		if err := json.Unmarshal(out.Bytes(), &s); err != nil {
			t.Fatalf("%v in %q", err, out.Bytes())
		}
		if got := int64(len(records(t, path))); s.Requests == 0 || got != s.Requests || s.Unknown+s.Failed+s.Late > 0 {
			t.Errorf("after %s: %d lines, %+v", sig, got, s)
		}
	}
}
