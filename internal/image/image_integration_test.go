package image_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"dhow/internal/image"
)

// largest is what the image may have, compressed, in bytes: a node loads it once.
const largest = 60 << 20

// TestImage builds the image twice and runs what is in it, in a root of its own. The
// program of the command builds it, not this test's: the race detector makes
// compressing ten times as slow.
func TestImage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds dhow: not with -short (testing.Short)")
	}
	dir := t.TempDir()
	command := filepath.Join(dir, "image")
	run(t, "go", "build", "-o", command, "dhow/cmd/image")
	file, bills := filepath.Join(dir, "image.tar"), filepath.Join(dir, "bills")
	one := run(t, command, "--tarball", file, "--sbom", bills)
	if other := run(t, command); other != one {
		t.Errorf("built again it is %s, and was %s", other, one)
	}
	first := open(t, file, one)
	size := int64(0)
	manifest, err := first.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range manifest.Layers {
		size += l.Size
	}
	t.Logf("%d bytes", size)
	if size > largest {
		t.Errorf("it has %d bytes, more than %d", size, largest)
	}
	config, err := first.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532" || config.Config.Entrypoint[0] != "/dhow" {
		t.Errorf("it runs %v as user %s", config.Config.Entrypoint, config.Config.User)
	}
	bill, err := os.ReadFile(filepath.Join(bills, image.Name+".spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pg_dump", "libpq", "of the package"} {
		if !strings.Contains(string(bill), want) {
			t.Errorf("its bill of materials does not name %q", want)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("running it takes a root of its own, and root: left out as with testing.Short()")
	}
	root := unpack(t, first)
	dumps, err := filepath.Glob(filepath.Join(root, "usr/lib/postgresql/*/bin/pg_*"))
	if err != nil || len(dumps) != 2 {
		t.Fatalf("it holds %v (%v)", dumps, err)
	}
	for _, program := range append(dumps, filepath.Join(root, "dhow")) {
		inside := "/" + strings.TrimPrefix(program, root+"/")
		flag := "--version"
		said, err := exec.CommandContext(t.Context(), "chroot", "--userspec=65532:65532", root, inside, flag).CombinedOutput()
		if err != nil || !regexp.MustCompile(`\d|dhow`).Match(said) {
			t.Errorf("%s %s ends with %v: %s", inside, flag, err, said)
		}
	}
}

// run runs a command in the project's folder and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = "../.."
	var failed strings.Builder
	cmd.Stderr = &failed
	said, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, failed.String())
	}
	return strings.TrimSpace(string(said))
}

// open reads an image in a layout that was written into a file.
func open(t *testing.T, file, digest string) v1.Image {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	extract(t, f, dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := v1.NewHash(digest)
	if err != nil {
		t.Fatal(err)
	}
	i, err := index.Image(hash)
	if err != nil {
		t.Fatalf("the file does not hold the image that the command named: %v", err)
	}
	return i
}

// unpack writes an image's files into a folder.
func unpack(t *testing.T, i v1.Image) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil { // an account without rights looks into it
		t.Fatal(err)
	}
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	layers, err := i.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		stream, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		extract(t, stream, root)
		_ = stream.Close()
	}
	return root
}

// extract writes the files of an archive into a folder.
func extract(t *testing.T, from io.Reader, root string) {
	t.Helper()
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, os.FileMode(h.Mode))
		} else {
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, os.FileMode(h.Mode)))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestClientsRefused: a machine without the clients, and one of another kind.
func TestClientsRefused(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		machine fstest.MapFS
		arch    string
		want    string
	}{
		"none":      {fstest.MapFS{}, "amd64", "install the package postgresql-client"},
		"a script":  {fstest.MapFS{"usr/lib/postgresql/16/bin/pg_dump": {Data: []byte("#!/bin/sh\n")}}, "amd64", "read what usr/lib/postgresql/16/bin/pg_dump is linked with"},
		"the other": {fstest.MapFS{"usr/lib/postgresql/16/bin/pg_dump": {Data: self}}, "arm64", "build an image for arm64 on such a machine"},
		"half":      {fstest.MapFS{"usr/lib/postgresql/9/bin/pg_dump": {}, "usr/lib/postgresql/16/bin/pg_dump": {Data: self}}, "amd64", "into the image"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := image.Clients(t.Context(), c.machine, c.arch)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it is refused with %v, want %q", err, c.want)
			}
		})
	}
}
