package venv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEntry(t *testing.T) {
	lock := "# cfn-lint==9\nattrs==26.1.0 \\\n    --hash=sha256:aa\ncfn-lint==1.2.3 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\nboto3==1 \\\n    --hash=sha256:dd\nbare==1\nempty==\n"
	entry, version, err := entryOf(lock, "cfn-lint")
	if want := "cfn-lint==1.2.3 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"; err != nil || version != "1.2.3" || entry != want {
		t.Errorf("%q, %q, %v", entry, version, err)
	}
	for _, name := range []string{"bare", "empty", "other", "cfn"} {
		if _, _, err := entryOf(lock, name); err == nil || !strings.Contains(err.Error(), "locks no "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWrong: what is not locked is named, and nothing is fetched.
func TestWrong(t *testing.T) {
	t.Setenv("DHOW_CACHE", t.TempDir())
	for what, fetch := range map[string]func(lock, name string) error{
		"an environment": func(lock, name string) error { _, err := Install(t.Context(), lock, name); return err },
		"a wheel":        func(lock, name string) error { _, _, err := Wheel(t.Context(), lock, name); return err },
	} {
		if err := fetch("requirements-none.txt", "none"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of a lock that is not there: %v", what, err)
		}
		if err := fetch("requirements-cfn-lint.txt", "cfn"); err == nil || !strings.Contains(err.Error(), "requirements-cfn-lint.txt: it locks no cfn") {
			t.Errorf("%s that the lock lacks: %v", what, err)
		}
	}
}

// TestTurn: who comes while another installs waits, and gives up when it is told to.
func TestTurn(t *testing.T) {
	e := Env{Dir: filepath.Join(t.TempDir(), "x-1"), Version: "1"}
	other, err := os.Create(e.Dir + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.install(ctx, []byte("x==1\n")); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("installing ends with %v", err)
	}
	if _, err := download(ctx, e.Dir, "x==1\n"); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("downloading ends with %v", err)
	}
}

// TestThere: a wheel that the cache has is not fetched again.
func TestThere(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("DHOW_CACHE", cache)
	t.Setenv("PATH", t.TempDir()) // without python3
	text, err := os.ReadFile("../../hack/requirements-cfn-lint.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, version, err := entryOf(string(text), "cfn-lint")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Wheel(t.Context(), "requirements-cfn-lint.txt", "cfn-lint"); err == nil || !strings.Contains(err.Error(), "hack/setup") {
		t.Errorf("without pip: %v", err)
	}
	want := filepath.Join(cache, "wheels", "cfn-lint-"+version, "x.whl")
	if err := errors.Join(os.MkdirAll(filepath.Dir(want), 0o755), os.WriteFile(want, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if file, got, err := Wheel(t.Context(), "requirements-cfn-lint.txt", "cfn-lint"); file != want || got != version || err != nil {
		t.Errorf("%s, %s, %v", file, got, err)
	}
}

// TestHash: a package with another hash than the lock's is not installed, nor kept, and
// the next time is tried again.
func TestHash(t *testing.T) {
	if testing.Short() {
		t.Skip("makes an environment with pip: skipped under testing.Short")
	}
	dir := filepath.Join(t.TempDir(), "six-1.17.0")
	wrong := "six==1.17.0 --hash=sha256:" + strings.Repeat("0", 64) + "\n"
	for range 2 {
		if err := (Env{Dir: dir, Version: "1.17.0"}).install(t.Context(), []byte(wrong)); err == nil || !strings.Contains(err.Error(), "hack/setup") {
			t.Errorf("installing ends with %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "installed-from")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it counts as installed: %v", err)
		}
	}
	wheels := filepath.Join(t.TempDir(), "six-1.17.0")
	if file, err := download(t.Context(), wheels, wrong); err == nil || !strings.Contains(err.Error(), "hack/setup") {
		t.Errorf("downloading ends with %s, %v", file, err)
	}
	if _, err := os.Stat(wheels); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it counts as there: %v", err)
	}
}
