package kube

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestSlotsShareTheRange(t *testing.T) {
	for _, tt := range []struct {
		number                              int
		all, link, services, pods, host, id string
		dns                                 string
	}{
		{0, "198.18.0.0/20", "198.18.0.0/24", "198.18.4.0/22", "198.18.8.0/21", "198.18.0.1", "dhow-kube-00", "198.18.4.10"},
		{17, "198.19.16.0/20", "198.19.16.0/24", "198.19.20.0/22", "198.19.24.0/21", "198.19.16.1", "dhow-kube-17", "198.19.20.10"},
		{slots - 1, "198.19.240.0/20", "198.19.240.0/24", "198.19.244.0/22", "198.19.248.0/21", "198.19.240.1", "dhow-kube-31", "198.19.244.10"},
	} {
		s := &slot{number: tt.number}
		got := []string{s.all().String(), s.link().String(), s.services().String(), s.pods().String(), s.host().String(), s.id(), s.dns().String()}
		want := []string{tt.all, tt.link, tt.services, tt.pods, tt.host, tt.id, tt.dns}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("slot %d (-want +got):\n%s", tt.number, diff)
		}
		for _, p := range []bool{s.all().Overlaps(s.link()), s.all().Overlaps(s.services()), s.all().Overlaps(s.pods()), !s.services().Overlaps(s.pods()), s.services().Contains(s.apiService())} {
			if !p {
				t.Errorf("slot %d: the parts do not lie side by side in its range", tt.number)
			}
		}
	}
}

func TestParseOrdersManifests(t *testing.T) {
	manifests, err := Files(fstest.MapFS{
		"20-app.yaml":      {Data: []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\n---\n# nothing\n---\napiVersion: v1\nkind: Service\nmetadata: {name: app}\n")},
		"30-space.yml":     {Data: []byte("apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n")},
		"sub/definit.yaml": {Data: []byte("apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: d}\n")},
		"README.md":        {Data: []byte("not: [a manifest")},
	})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := parse(manifests)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, describe(o))
	}
	want := []string{"Namespace shop", "CustomResourceDefinition d", "ConfigMap c", "Service app", "Deployment app"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Service\nmetadata: {namespace: shop}\n": "Service shop/ has no apiVersion, kind or name",
		"apiVersion: v1\n---\nkind: [\n":                               "document 2",
		"metadata: {name: x}\n":                                        "x has no apiVersion, kind or name",
	} {
		if _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse %q: got %v, want %q", text, err, want)
		}
	}
}

func TestBirthTellsProcessesApart(t *testing.T) {
	began, alive := birth(os.Getpid())
	if n, err := strconv.ParseUint(began, 10, 64); err != nil || n == 0 || !alive {
		t.Errorf("this process: began %q, alive %v", began, alive)
	}
	if first, _ := birth(1); first == began {
		t.Errorf("the first process and this one both began at %s", began)
	}
	const none = 1 << 30 // above the kernel's highest process number
	if _, alive := birth(none); alive {
		t.Error("a process that never was is alive")
	}
}

func TestTemplatesAreFilled(t *testing.T) {
	if _, err := render("kubelet.yaml", map[string]any{"ID": "x"}); err == nil || !strings.Contains(err.Error(), "kubelet.yaml") {
		t.Errorf("a template with keys missing: got %v", err)
	}
}

// TestOnlyItsOwnFolderIsRemoved is about two who want the same folder: the one that
// comes second must not remove the first one's.
func TestOnlyItsOwnFolderIsRemoved(t *testing.T) {
	for name, tt := range map[string]struct {
		marker  string // what the mark says; none if empty
		file    bool
		removed bool
	}{
		"its own":              {marker: "dhow-kube-05", file: true, removed: true},
		"another one's":        {marker: "dhow-kube-06", file: true},
		"not marked, and used": {file: true},
		"not marked yet":       {removed: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cluster")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if tt.marker != "" {
				if err := os.Symlink(tt.marker, filepath.Join(dir, markerName)); err != nil {
					t.Fatal(err)
				}
			}
			if tt.file {
				if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := &slot{number: 5, record: record{Dir: dir}}
			for range 2 { // again changes nothing
				if err := s.removeFolder(); err != nil {
					t.Fatal(err)
				}
			}
			_, err := os.Stat(dir)
			if removed := errors.Is(err, fs.ErrNotExist); removed != tt.removed {
				t.Errorf("removed: %v, want %v", removed, tt.removed)
			}
		})
	}
}
