package images

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"dhow/superapp/fleet"
)

// largest is what an image may have, in bytes: nodes load it while customers wait.
const largest = 20 << 20

// The whole application, built twice: the second time only links. The program of the
// command builds it, not this test's: the race detector makes compressing ten times as slow.
func TestSuperapp(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the whole application: not with -short (testing.Short)")
	}
	dir := t.TempDir()
	command, kept := filepath.Join(dir, "images"), filepath.Join(dir, "layout")
	if said, err := exec.CommandContext(t.Context(), "go", "build", "-o", command, "dhow/superapp/cmd/images").CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v: %s", err, said)
	}
	rows := func(args ...string) (list []struct {
		Name, Digest string
		Size         int64
	}) {
		cmd := exec.CommandContext(t.Context(), command, append([]string{"-o", "json"}, args...)...)
		var failed strings.Builder
		cmd.Stderr = &failed
		said, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(said, &list)
		}
		if err != nil {
			t.Fatalf("images %v: %v: %s", args, err, failed.String())
		}
		return list
	}
	printed, again := rows("--oci-layout", kept), rows()
	if len(printed) != len(fleet.Services())+1 || len(again) != len(printed) {
		t.Fatalf("%d and then %d images of %d services and the tools", len(printed), len(again), len(fleet.Services()))
	}
	index, err := layout.ImageIndexFromPath(kept)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]Image, 0, len(printed))
	for i, row := range printed {
		if row != again[i] {
			t.Errorf("%v was built, and then %v", row, again[i])
		}
		if row.Size > largest {
			t.Errorf("%s has %d bytes, more than %d", row.Name, row.Size, largest)
		}
		hash, err := v1.NewHash(row.Digest)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := index.Image(hash)
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, Image{Name: row.Name, Image: kept})
	}
	t.Run("commands", func(t *testing.T) { commands(t, first) })
}

// commands runs the binary out of an image, with each image's entrypoint.
func commands(t *testing.T, images []Image) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	binary := filepath.Join(t.TempDir(), "superapp")
	if err := os.WriteFile(binary, content(t, images[0])["superapp"].content, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		file, err := i.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		args := append(append([]string{}, file.Config.Entrypoint[1:]...), "--help")
		said, err := exec.CommandContext(ctx, binary, args...).CombinedOutput()
		if usage := "superapp " + strings.Join(args[:len(args)-1], " "); err != nil || !strings.Contains(string(said), usage) {
			t.Errorf("the entrypoint of %s is no command: %v: %s", i.Name, err, said)
		}
	}
}
