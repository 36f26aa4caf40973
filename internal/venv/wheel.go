package venv

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dhow/hack"
)

// Wheel is the file of a package's release, as one of hack's lock files names it, and its
// version. Unless the cache has it, pip downloads it and checks its hash, within ten
// minutes. Nothing of it is run.
func Wheel(ctx context.Context, lock, name string) (file, version string, err error) {
	text, err := fs.ReadFile(hack.Locks, lock)
	if err != nil {
		return "", "", fmt.Errorf("read what is locked: %w", err)
	}
	entry, version, err := entryOf(string(text), name)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", lock, err)
	}
	cache, err := cacheDir("wheels")
	if err != nil {
		return "", "", err
	}
	dir := filepath.Join(cache, name+"-"+version)
	if file, err := wheelIn(dir); err == nil {
		return file, version, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if file, err = download(ctx, dir, entry); err != nil {
		return "", "", fmt.Errorf("fetch %s %s: %w", name, version, err)
	}
	return file, version, nil
}

// download lets pip put one release into a folder. What is there is whole: it arrives in
// a folder beside it, which is then renamed.
func download(ctx context.Context, dir, entry string) (file string, err error) {
	turn, err := take(ctx, dir)
	if err != nil {
		return "", err
	}
	defer turn.Close() // gives the turn on
	if file, err := wheelIn(dir); err == nil {
		return file, nil // another process was faster
	}
	part := dir + ".part"
	for _, old := range []string{part, dir} { // what one that was cut off has left
		if err := os.RemoveAll(old); err != nil {
			return "", err
		}
	}
	if err := run(ctx, []byte(entry), "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
		"--require-hashes", "--requirement", "/dev/stdin", "--dest", part); err != nil {
		return "", err
	}
	if _, err := wheelIn(part); err != nil {
		return "", err
	}
	if err := os.Rename(part, dir); err != nil {
		return "", err
	}
	return wheelIn(dir)
}

// wheelIn is the one wheel of a folder.
func wheelIn(dir string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("there is not one wheel in %s", dir)
	}
	return found[0], nil
}
