package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	// userID is an account without rights; the number is the one that distroless
	// images use for theirs.
	userID = 65532
	// authoritiesFile is where TLS libraries look first.
	authoritiesFile = "etc/ssl/certs/ca-certificates.crt"
)

// entry is a file in a layer, or a folder where the name ends in a slash.
type entry struct {
	name    string
	mode    int64
	owner   int
	content []byte
}

// baseLayer is what every image has below its program.
func baseLayer() (v1.Layer, error) {
	passwd := fmt.Sprintf("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%d:%d:nonroot:/:/sbin/nologin\n", userID, userID)
	group := fmt.Sprintf("root:x:0:\nnonroot:x:%d:\n", userID)
	return newLayer(
		entry{name: "etc/", mode: 0o755},
		entry{name: "etc/passwd", mode: 0o644, content: []byte(passwd)},
		entry{name: "etc/group", mode: 0o644, content: []byte(group)},
		entry{name: "etc/ssl/", mode: 0o755},
		entry{name: "etc/ssl/certs/", mode: 0o755},
		entry{name: authoritiesFile, mode: 0o644, content: authorities()},
		entry{name: "tmp/", mode: 0o1777, owner: userID},
	)
}

// authorities are Mozilla's, from a module and not from the machine that builds.
// Those that may only vouch for some certificates are left out: the file can not say so.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return b.Bytes()
}

// fileLayer holds files and the folders above them, in the order of their names.
func fileLayer(files []File) (v1.Layer, error) {
	entries := map[string]entry{}
	for _, f := range files {
		entries[f.Name] = entry{name: f.Name, mode: f.Mode, content: f.Content}
		for dir := path.Dir(f.Name); dir != "."; dir = path.Dir(dir) {
			entries[dir+"/"] = entry{name: dir + "/", mode: 0o755}
		}
	}
	sorted := make([]entry, 0, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		sorted = append(sorted, entries[name])
	}
	return newLayer(sorted...)
}

func newLayer(entries ...entry) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := e.write(w); err != nil {
			return nil, fmt.Errorf("write a layer: %s: %w", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write a layer: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer),
		tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("compress a layer: %w", err)
	}
	return layer, nil
}

// write gives no time: it would be the only thing to differ between two builds.
func (e entry) write(w *tar.Writer) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.content)), Format: tar.FormatUSTAR}
	if strings.HasSuffix(e.name, "/") {
		h.Typeflag = tar.TypeDir
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(e.content)
	return err
}
