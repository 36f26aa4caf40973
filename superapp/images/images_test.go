package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// module writes a program into a folder of its own.
func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for file, text := range map[string]string{
		"go.mod":           "module example.com/ship\n\ngo 1.26\n",
		"cmd/boat/main.go": "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"ahoy\") }\n",
	} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func boats() []Spec {
	return []Spec{
		{Name: "dinghy", Package: "example.com/ship/cmd/boat", Title: "Dinghy", Description: "A small boat"},
		{Name: "ferry", Package: "example.com/ship/cmd/boat", Args: []string{"ferry", "--slow"}, Port: 8080},
	}
}

func build(t *testing.T, o Options, specs ...Spec) []Image {
	t.Helper()
	built, err := Build(t.Context(), o, specs...)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func digest(t *testing.T, i v1.Image) v1.Hash {
	t.Helper()
	h, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSameSourcesGiveTheSameDigests(t *testing.T) {
	first := build(t, Options{Dir: module(t)}, boats()...)
	// Another folder, in a repository, and a builder with settings of his own.
	dir := module(t)
	if err := os.Mkdir(filepath.Join(dir, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOFLAGS", "-ldflags=-X=main.x=y")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("CGO_ENABLED", "1")
	t.Setenv("TZ", "Asia/Dubai")
	again := build(t, Options{Dir: dir}, boats()...)
	for i := range first {
		if a, b := digest(t, first[i]), digest(t, again[i]); a != b {
			t.Errorf("%s has the digests %s and %s", first[i].Name, a, b)
		}
		if !bytes.Equal(first[i].SBOM, again[i].SBOM) {
			t.Errorf("%s: the bills of materials differ", first[i].Name)
		}
	}
	if digest(t, first[0]) == digest(t, first[1]) {
		t.Error("two images of different arguments have one digest")
	}
	if other := build(t, Options{Dir: dir, Arch: "arm64"}, boats()[0]); digest(t, other[0]) == digest(t, first[0]) {
		t.Error("images for two processors have one digest")
	}
}

func TestImage(t *testing.T) {
	ferry := build(t, Options{Dir: module(t), Version: "1.2", Revision: "abc"}, boats()...)[1]
	file, err := ferry.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		User: "65532", WorkingDir: "/", Entrypoint: []string{"/boat", "ferry", "--slow"},
		Env:          []string{"PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Labels:       map[string]string{"org.opencontainers.image.version": "1.2", "org.opencontainers.image.revision": "abc"},
	}
	if d := cmp.Diff(want, file.Config); d != "" {
		t.Error(d)
	}
	if file.OS != "linux" || file.Architecture != "amd64" || file.Created.Unix() != 0 {
		t.Errorf("the image is of %s/%s, made at %v", file.OS, file.Architecture, file.Created)
	}

	files := content(t, ferry)
	for name, mode := range map[string]int64{"etc/passwd": 0o644, "etc/group": 0o644, "boat": 0o755, "tmp/": 0o1777, authoritiesFile: 0o644} {
		f, ok := files[name]
		if !ok {
			t.Errorf("the image lacks %s", name)
			continue
		}
		if f.header.Mode != mode || !f.header.ModTime.IsZero() && f.header.ModTime.Unix() != 0 {
			t.Errorf("%s has the mode %o and the time %v", name, f.header.Mode, f.header.ModTime)
		}
	}
	if !strings.Contains(string(files["etc/passwd"].content), "nonroot:x:65532:65532:") {
		t.Errorf("passwd lacks the account: %s", files["etc/passwd"].content)
	}
	if block, _ := pem.Decode(files[authoritiesFile].content); block == nil || bytes.Count(files[authoritiesFile].content, []byte("BEGIN")) < 100 {
		t.Error("the image has hardly a certificate authority")
	}
}

type packed struct {
	header  *tar.Header
	content []byte
}

// content is every file of every layer.
func content(t *testing.T, i v1.Image) map[string]packed {
	t.Helper()
	layers, err := i.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]packed{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for tr := tar.NewReader(r); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			files[h.Name] = packed{h, b}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestBuildSaysWhatIsWrong(t *testing.T) {
	dir := module(t)
	for name, test := range map[string]struct {
		o    Options
		s    Spec
		want string
	}{
		"no such package": {Options{Dir: dir}, Spec{Name: "x", Package: "example.com/ship/cmd/none"}, "build example.com/ship/cmd/none with the go command"},
		"processor":       {Options{Dir: dir, Arch: "z80"}, boats()[0], "give one of amd64, arm64"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Build(t.Context(), test.o, test.s); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, which lacks %q", err, test.want)
			}
		})
	}
	if err := selfContained([]byte("#!/bin/sh")); err == nil {
		t.Error("a script passed as a binary")
	}
}

func TestBillOfMaterials(t *testing.T) {
	// This test's own package has dependencies; its command is built from here.
	i := build(t, Options{}, Spec{Name: "images", Package: "dhow/superapp/cmd/images"})[0]
	var d spdx
	if err := json.Unmarshal(i.SBOM, &d); err != nil {
		t.Fatal(err)
	}
	if d.Version != "SPDX-2.3" || d.Creation.Created != spdxCreated || d.Packages[0].Name != "dhow/superapp/cmd/images" {
		t.Errorf("the document is of %s, %s and %s", d.Version, d.Creation.Created, d.Packages[0].Name)
	}
	ids := map[string]bool{d.ID: true}
	found := map[string]string{}
	valid := regexp.MustCompile(`^SPDXRef-[a-zA-Z0-9.-]+$`)
	for _, p := range d.Packages {
		if ids[p.ID] || !valid.MatchString(p.ID) {
			t.Errorf("the identifier %s is there twice, or is none", p.ID)
		}
		ids[p.ID] = true
		found[p.Name] = p.Version
	}
	for _, name := range []string{"github.com/google/go-containerregistry", "github.com/spf13/cobra", "stdlib"} {
		if found[name] == "" {
			t.Errorf("the bill lacks %s", name)
		}
	}
	for _, r := range d.Relationships {
		if !ids[r.Element] || !ids[r.Related] {
			t.Errorf("a relationship is with what is not there: %v", r)
		}
	}
	if len(d.Relationships) != len(d.Packages) {
		t.Errorf("%d packages have %d relationships", len(d.Packages), len(d.Relationships))
	}
}

// serve runs a registry until the test ends.
func serve(t *testing.T, dir string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	g.Go(func() error { return Registry(t.Context(), l, dir) })
	t.Cleanup(func() {
		remote.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestPush(t *testing.T) {
	images := build(t, Options{Dir: module(t)}, boats()...)
	for name, dir := range map[string]string{"memory": "", "disk": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			target := Target{Prefix: serve(t, dir) + "/fleet", Tag: "v1"}
			refs, err := Push(t.Context(), target, images...)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Push(t.Context(), target, images...); err != nil || !cmp.Equal(refs, again) {
				t.Errorf("pushed again, it gave %v and %v", again, err)
			}
			for _, i := range images {
				pulled(t, target, refs[i.Name], i)
			}
		})
	}
}

// pulled fails the test unless the registry gives the image, by tag and by digest, and its bill.
func pulled(t *testing.T, target Target, ref string, want Image) {
	t.Helper()
	if !strings.HasPrefix(ref, target.Prefix+"/"+want.Name+"@sha256:") {
		t.Fatalf("the reference of %s is %s", want.Name, ref)
	}
	for _, text := range []string{ref, target.Prefix + "/" + want.Name + ":v1"} {
		r, err := name.ParseReference(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remote.Image(r, remote.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(got); err != nil || digest(t, got) != digest(t, want) {
			t.Errorf("%s is %s, and %v", text, digest(t, got), err)
		}
	}
	subject, err := name.NewDigest(ref)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Referrers(subject, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 1 {
		t.Fatalf("%s is referred to by %+v", ref, m.Manifests)
	}
	bill, err := remote.Image(subject.Context().Digest(m.Manifests[0].Digest.String()), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if about, err := bill.Manifest(); err != nil || about.ArtifactType != "application/spdx+json" || about.Subject.Digest != digest(t, want) {
		t.Errorf("the bill of materials of %s is %+v, and %v", want.Name, about, err)
	}
	if got := only(t, bill); !bytes.Equal(got, want.SBOM) {
		t.Errorf("the registry's bill of materials of %s is another", want.Name)
	}
}

// only is the content of an artifact's one layer.
func only(t *testing.T, i v1.Image) []byte {
	t.Helper()
	m, err := i.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != 1 {
		t.Fatalf("the artifact has %d layers", len(m.Layers))
	}
	l, err := i.LayerByDigest(m.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPushSaysWhatIsWrong(t *testing.T) {
	i := build(t, Options{Dir: module(t)}, boats()[0])[0]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for prefix, want := range map[string]string{
		"Registry/UPPER":             "name the image dinghy",
		l.Addr().String() + "/fleet": "connection refused",
	} {
		if _, err := Push(t.Context(), Target{Prefix: prefix, Tag: "v1"}, i); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, which lacks %q", prefix, err, want)
		}
	}
}

func TestPlainHTTPIsAskedForElsewhere(t *testing.T) {
	for _, test := range []struct {
		prefix   string
		insecure bool
		want     string
	}{
		{"localhost:5000", false, "http"}, {"127.0.0.1:5000", false, "http"}, {"10.1.2.3:5000", false, "http"},
		{"198.18.0.1:5000", false, "https"}, {"registry.example.com", false, "https"},
		{"198.18.0.1:5000", true, "http"}, {"registry.example.com", true, "http"},
	} {
		tag, err := Target{Prefix: test.prefix + "/x", Tag: "v1", Insecure: test.insecure}.tag("y")
		if err != nil || tag.Scheme() != test.want {
			t.Errorf("%s, insecure %t: %s and %v, not %s", test.prefix, test.insecure, tag.Scheme(), err, test.want)
		}
	}
}

func TestRegistryIsBounded(t *testing.T) {
	address := serve(t, "")
	if _, err := Push(t.Context(), Target{Prefix: address + "/fleet", Tag: "v1"}, build(t, Options{Dir: module(t)}, boats()[0])...); err != nil {
		t.Fatal(err)
	}
	m := &metered{ReadCloser: io.NopCloser(strings.NewReader("0123456789")), left: new(atomic.Int64)}
	m.left.Store(4)
	if _, err := io.ReadAll(m); !errors.Is(err, errFull) {
		t.Errorf("ten bytes where four were left gave %v", err)
	}
}

func TestLayoutAndTarball(t *testing.T) {
	images := build(t, Options{Dir: module(t)}, boats()...)
	target := Target{Prefix: "localhost/fleet", Tag: "v1"}
	dir := filepath.Join(t.TempDir(), "layout")
	for range 2 { // the second time replaces
		if err := WriteLayout(dir, target, images...); err != nil {
			t.Fatal(err)
		}
	}
	laid(t, dir, images)

	var tarballs [][]byte
	for range 2 {
		file := filepath.Join(t.TempDir(), "images.tar")
		if err := WriteTarball(file, target, images...); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tarballs = append(tarballs, b)
	}
	if !bytes.Equal(tarballs[0], tarballs[1]) {
		t.Error("two tarballs of the same images differ")
	}
	out := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(tarballs[0])); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(out, filepath.FromSlash(h.Name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	laid(t, out, images)
}

// laid fails the test unless a layout holds these images under their names, and nothing more than their bills.
func laid(t *testing.T, dir string, want []Image) {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	bills := 0
	for _, d := range m.Manifests {
		if n := d.Annotations[containerdName]; n != "" {
			got[n] = d.Digest.String()
		} else {
			bills++
		}
	}
	expected := map[string]string{}
	for _, i := range want {
		expected["localhost/fleet/"+i.Name+":v1"] = digest(t, i).String()
	}
	if d := cmp.Diff(expected, got); d != "" || bills != len(want) {
		t.Errorf("%d bills of materials, and %s", bills, d)
	}
}

func TestSBOMFiles(t *testing.T) {
	images := build(t, Options{Dir: module(t)}, boats()...)
	dir := filepath.Join(t.TempDir(), "new")
	if err := WriteSBOMs(dir, images...); err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		if b, err := os.ReadFile(filepath.Join(dir, i.Name+".spdx.json")); err != nil || !bytes.Equal(b, i.SBOM) {
			t.Errorf("the file of %s is another, or %v", i.Name, err)
		}
	}
}
