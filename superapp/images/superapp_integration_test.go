package images

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dhow/superapp/fleet"
)

// largest is what an image may have, in bytes: nodes load it while customers wait.
const largest = 20 << 20

// The whole application, built twice: the second time only links.
func TestSuperapp(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the whole application: not with -short (testing.Short)")
	}
	first := build(t, Options{}, Superapp()...)
	again := build(t, Options{}, Superapp()...)
	if len(first) != len(fleet.Services())+1 {
		t.Errorf("%d images of %d services and the tools", len(first), len(fleet.Services()))
	}
	for i := range first {
		if a, b := digest(t, first[i]), digest(t, again[i]); a != b {
			t.Errorf("%s has the digests %s and %s", first[i].Name, a, b)
		}
		size, err := first[i].LoadSize()
		if err != nil {
			t.Fatal(err)
		}
		if size > largest {
			t.Errorf("%s has %d bytes, more than %d", first[i].Name, size, largest)
		}
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
