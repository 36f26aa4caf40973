// Package image builds the container image of dhow itself, without a container
// engine: the program, and PostgreSQL's own pg_dump and pg_restore with the
// libraries that they need, taken from the machine that builds. Nothing else is in
// it: no shell, no package manager, an account without rights. The same machine
// and sources give the same digest.
package image

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"dhow/superapp/images"
)

const (
	// Name is the last part of the image's repository.
	Name = "dhow"
	// program is what the image runs.
	program = "dhow/cmd/dhow"
	// clients is where Debian keeps PostgreSQL's programs, by major version.
	clients = "usr/lib/postgresql"
	// maxFile bounds a file that is taken over, in bytes: the largest library has a tenth of it.
	maxFile = 64 << 20
)

// machines are the processors as ELF files name them.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} //nolint:gochecknoglobals // a constant table

// libraryPaths are where the loader looks by itself, on Debian and elsewhere.
var libraryPaths = map[string][]string{ //nolint:gochecknoglobals // a constant table
	"amd64": {"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64", "lib", "usr/lib"},
	"arm64": {"lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib64", "usr/lib64", "lib", "usr/lib"},
}

// Build builds the image from the sources in o.Dir, and the clients of PostgreSQL
// from the machine's own files below root, which is "/" but in tests.
func Build(ctx context.Context, o images.Options, root string) (images.Image, error) {
	if o.Arch == "" {
		o.Arch = images.DefaultArch
	}
	files, err := Clients(ctx, os.DirFS(root), o.Arch)
	if err != nil {
		return images.Image{}, err
	}
	built, err := images.Build(ctx, o, images.Spec{
		Name: Name, Package: program, Title: Name, Files: files,
		Description: "Moves a running application and its databases, with no failed request",
	})
	if err != nil {
		return images.Image{}, err
	}
	return built[0], nil
}

// Clients are the newest pg_dump and pg_restore, and all that they are linked with.
func Clients(ctx context.Context, machine fs.FS, arch string) ([]images.File, error) {
	dir, err := newest(machine)
	if err != nil {
		return nil, err
	}
	c := &collection{machine: machine, arch: arch, files: map[string]images.File{}}
	for _, name := range []string{"pg_dump", "pg_restore"} {
		if err := c.take(dir+"/"+name, dir+"/"+name); err != nil {
			return nil, err
		}
	}
	list := make([]images.File, 0, len(c.files))
	for _, f := range c.files {
		f.Origin, f.Version = owner(ctx, f.Name)
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b images.File) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// newest is the folder of the newest clients: a pg_dump reads servers of its own
// version and of older ones.
func newest(machine fs.FS) (string, error) {
	found, err := fs.Glob(machine, clients+"/*/bin/pg_dump")
	if err != nil {
		return "", fmt.Errorf("look for pg_dump: %w", err)
	}
	best, dir := 0, ""
	for _, path := range found {
		at := filepath.Dir(path)
		if major, err := strconv.Atoi(filepath.Base(filepath.Dir(at))); err == nil && major > best {
			best, dir = major, at
		}
	}
	if dir == "" {
		return "", errors.New("there is no pg_dump in /" + clients + ", and the image needs one to move PostgreSQL: install the package postgresql-client")
	}
	return dir, nil
}

// collection gathers files and what they are linked with.
type collection struct {
	machine fs.FS
	arch    string
	files   map[string]images.File
}

// take adds a file of the machine under a name, and then all that it needs.
func (c *collection) take(from, name string) error {
	if _, have := c.files[name]; have {
		return nil
	}
	info, err := fs.Stat(c.machine, from)
	if err != nil {
		return fmt.Errorf("take %s into the image: %w", from, err)
	}
	if info.Size() > maxFile {
		return fmt.Errorf("take %s into the image: it has %d bytes", from, info.Size())
	}
	content, err := fs.ReadFile(c.machine, from)
	if err != nil {
		return fmt.Errorf("take %s into the image: %w", from, err)
	}
	c.files[name] = images.File{Name: name, Mode: 0o755, Content: content}
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("read what %s is linked with: %w", from, err)
	}
	if f.Machine != machines[c.arch] {
		return fmt.Errorf("%s is for %s: build an image for %s on such a machine", from, f.Machine, c.arch)
	}
	if loader := interpreter(f); loader != "" {
		loader = strings.TrimPrefix(loader, "/")
		if err := c.take(loader, loader); err != nil {
			return err
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read what %s is linked with: %w", from, err)
	}
	for _, library := range needed {
		if err := c.library(from, library); err != nil {
			return err
		}
	}
	return nil
}

// library adds a library from where the loader finds it.
func (c *collection) library(of, name string) error {
	for _, dir := range libraryPaths[c.arch] {
		path := dir + "/" + name
		if _, err := fs.Stat(c.machine, path); err == nil {
			return c.take(path, path)
		}
	}
	return fmt.Errorf("the library %s, which /%s needs, is in none of the loader's folders", name, of)
}

// interpreter is the loader that a program names; empty for a library.
func interpreter(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, min(p.Filesz, 4096))
		if _, err := p.ReadAt(text, 0); err != nil {
			return ""
		}
		return strings.TrimRight(string(text), "\x00")
	}
	return ""
}

// owner is the package that a file is from, where the machine knows: it keeps some
// files under the other name of their folder.
func owner(ctx context.Context, name string) (origin, version string) {
	for _, path := range []string{"/" + name, "/usr/" + name} {
		found, err := exec.CommandContext(ctx, "dpkg-query", "-S", path).Output()
		if err != nil {
			continue
		}
		origin, _, _ = strings.Cut(string(found), ": ")
		text, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", origin).Output()
		if err != nil {
			return origin, ""
		}
		return origin, string(text)
	}
	return "", ""
}
