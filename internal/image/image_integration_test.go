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

	"dhow/internal/image"
	"dhow/superapp/images"
)

// largest is what the image may have, compressed, in bytes: a node loads it once.
const largest = 60 << 20

// TestImage builds the image twice and runs what is in it, in a root of its own.
func TestImage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds dhow: not with -short (testing.Short)")
	}
	o := images.Options{Dir: "../.."}
	first, err := image.Build(t.Context(), o, "/")
	if err != nil {
		t.Fatal(err)
	}
	again, err := image.Build(t.Context(), o, "/")
	if err != nil {
		t.Fatal(err)
	}
	one, err := first.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if other, err := again.Digest(); err != nil || other != one {
		t.Errorf("built again it is %s, and was %s (%v)", other, one, err)
	}
	size, err := first.LoadSize()
	if err != nil {
		t.Fatal(err)
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
	for _, want := range []string{"pg_dump", "libpq", "of the package"} {
		if !strings.Contains(string(first.SBOM), want) {
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

// unpack writes an image's files into a folder.
func unpack(t *testing.T, i images.Image) string {
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
		for r := tar.NewReader(stream); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
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
					err = os.WriteFile(path, content, os.FileMode(h.Mode))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		_ = stream.Close()
	}
	return root
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
