// Package venv brings Python packages, each as one of hack's lock files names it with its
// hashes, into dhow's cache folder: a program with all that it needs, in a virtual
// environment of its own, or a package's wheel, which is only read. What is there is not
// fetched again, and processes that want the same wait for each other.
package venv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dhow/hack"
)

const (
	// patience is how long the packages of one lock may take to arrive.
	patience = 10 * time.Minute
	// turnEvery is how often it is asked whether another process is done installing.
	turnEvery = 200 * time.Millisecond
	// lastWords is how long a program that was ended may take to close its output.
	lastWords = 5 * time.Second
)

// Env is a program's environment.
type Env struct {
	// Dir is its folder, Version that of the program.
	Dir, Version string
}

// Bin is the path of a command that the environment has.
func (e Env) Bin(name string) string { return filepath.Join(e.Dir, "bin", name) }

// Install is the environment of a program, as one of hack's lock files names it. It is
// made once, with pip, which checks each package's hash, within ten minutes. A lock that
// has changed makes it anew.
func Install(ctx context.Context, lock, name string) (Env, error) {
	text, err := fs.ReadFile(hack.Locks, lock)
	if err != nil {
		return Env{}, fmt.Errorf("read what is locked: %w", err)
	}
	_, version, err := entryOf(string(text), name)
	if err != nil {
		return Env{}, fmt.Errorf("%s: %w", lock, err)
	}
	cache, err := cacheDir("")
	if err != nil {
		return Env{}, err
	}
	e := Env{Dir: filepath.Join(cache, name+"-"+version), Version: version}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := e.install(ctx, text); err != nil {
		return Env{}, fmt.Errorf("install %s %s: %w", name, version, err)
	}
	return e, nil
}

// install makes the environment, unless it was made from the same lock before.
func (e Env) install(ctx context.Context, lock []byte) error {
	turn, err := take(ctx, e.Dir)
	if err != nil {
		return err
	}
	defer turn.Close() // gives the turn on
	sum := sha256.Sum256(lock)
	stamp, done := hex.EncodeToString(sum[:]), filepath.Join(e.Dir, "installed-from")
	if was, err := os.ReadFile(done); err == nil && string(was) == stamp {
		return nil
	}
	if err := os.RemoveAll(e.Dir); err != nil {
		return err
	}
	if err := run(ctx, nil, "python3", "-m", "venv", e.Dir); err != nil {
		return err
	}
	if err := run(ctx, lock, e.Bin("pip"), "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--require-hashes", "--requirement", "/dev/stdin"); err != nil {
		return err
	}
	return os.WriteFile(done, []byte(stamp), 0o644)
}

// cacheDir is dhow's cache folder, or a folder in it.
func cacheDir(sub string) (string, error) {
	cache := os.Getenv("DHOW_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder: %w", err)
		}
		cache = filepath.Join(home, ".cache", "dhow")
	}
	cache = filepath.Join(cache, sub)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	return cache, nil
}

// entryOf is the part of a lock that is about a package: the lines that pip wants with
// its hashes, and its version.
func entryOf(lock, name string) (entry, version string, err error) {
	var lines strings.Builder
	for line := range strings.Lines(lock) {
		if rest, found := strings.CutPrefix(line, name+"=="); found {
			version, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
		} else if version == "" {
			continue
		} else if !strings.HasPrefix(strings.TrimSpace(line), "--hash=") {
			break
		}
		lines.WriteString(line)
	}
	if version == "" || !strings.Contains(lines.String(), "--hash=") {
		return "", "", fmt.Errorf("it locks no %s with its hashes", name)
	}
	return lines.String(), version, nil
}

// take takes the turn of a folder, when those before have given it on.
func take(ctx context.Context, dir string) (*os.File, error) {
	turn, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	for {
		err := unix.Flock(int(turn.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return turn, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, turn.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for another process that installs it: %w", ctx.Err()), turn.Close())
		case <-tick.C:
		}
	}
}

func run(ctx context.Context, input []byte, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = lastWords
	cmd.Stdin = strings.NewReader(string(input))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s: python3 with venv and pip, and the package index are needed (hack/setup)", filepath.Base(name), err, strings.TrimSpace(string(out)))
	}
	return nil
}
