// Package cfnlint reads what cfn-lint ships of AWS's resource schemas: which types each
// region has, and each type's schema. Releases are those that the files in hack/ lock;
// they are fetched by pip with their hashes, kept in dhow's cache folder, and only read:
// no code of theirs is run.
package cfnlint

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dhow/hack"
)

// patience is how long one release may take to arrive: the largest has 35 MB.
const patience = 5 * time.Minute

// Wheel is a release of a Python package: a zip file, to be closed.
type Wheel struct {
	*zip.ReadCloser
	Name, Version string
}

// Fetch opens the release of a package that one of hack's lock files names. Unless the
// cache has it, pip downloads it and checks its hash, within five minutes.
func Fetch(ctx context.Context, lock, name string) (*Wheel, error) {
	entry, version, err := lockedEntry(hack.Locks, lock, name)
	if err != nil {
		return nil, err
	}
	cache := os.Getenv("DHOW_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find the cache folder: %w", err)
		}
		cache = filepath.Join(home, ".cache", "dhow")
	}
	dir := filepath.Join(cache, "wheels", name+"-"+version)
	w, err := openWheel(dir, name, version)
	if err == nil {
		return w, nil
	}
	if err := download(ctx, dir, name, entry); err != nil {
		return nil, fmt.Errorf("fetch %s %s: %w", name, version, err)
	}
	return openWheel(dir, name, version)
}

// download lets pip put one release into a folder. What is there is whole: it arrives
// in a folder beside it, which is then renamed.
func download(ctx context.Context, dir, name, entry string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), name+"-*.part")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(part) }() // what is left of it does no harm
	only := filepath.Join(part, "only.txt")
	if err := os.WriteFile(only, []byte(entry), 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
		"--require-hashes", "--requirement", only, "--dest", part)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s: python3 with pip and the package index are needed", err, strings.TrimSpace(string(out)))
	}
	if err := os.Remove(only); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	err = os.Rename(part, dir)
	if err != nil && isWheelThere(dir) { // another process was faster
		return nil
	}
	return err
}

func isWheelThere(dir string) bool {
	found, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	return err == nil && len(found) == 1
}

func openWheel(dir, name, version string) (*Wheel, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(found) != 1 {
		return nil, errors.Join(fmt.Errorf("there is not one wheel in %s", dir), err)
	}
	z, err := zip.OpenReader(found[0])
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", found[0], err)
	}
	return &Wheel{ReadCloser: z, Name: name, Version: version}, nil
}

// lockedEntry is the part of a lock file that is about a package: its version, and
// the lines that pip wants with its hashes.
func lockedEntry(locks fs.FS, lock, name string) (entry, version string, err error) {
	text, err := fs.ReadFile(locks, lock)
	if err != nil {
		return "", "", fmt.Errorf("read what is locked: %w", err)
	}
	var b strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, name+"=="); ok {
			version, _, _ = strings.Cut(rest, " ")
			b.WriteString(line + "\n")
		} else if b.Len() > 0 {
			if !strings.HasPrefix(strings.TrimSpace(line), "--hash=") {
				break
			}
			b.WriteString(line + "\n")
		}
	}
	if err := lines.Err(); err != nil {
		return "", "", fmt.Errorf("read %s: %w", lock, err)
	}
	if version == "" || !strings.Contains(b.String(), "--hash=") {
		return "", "", fmt.Errorf("%s locks no %s with its hashes", lock, name)
	}
	return b.String(), version, nil
}
