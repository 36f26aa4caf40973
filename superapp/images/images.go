// Package images builds container images of Go programs without a container
// engine: a static binary, certificate authorities and an account without
// rights, in two layers, with a bill of materials attached. The same sources and
// toolchain give the same digests, on any machine and in any folder. It knows how
// a program is built and packed, and which images the application has; it runs
// none of them, and it signs nothing.
package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// labels are the standard names of an image's labels begin with this.
const labels = "org.opencontainers.image."

// Spec is an image to be built.
type Spec struct {
	// Name is the last part of the image's repository.
	Name string
	// Package is the import path of the main package; images of the same package
	// share the binary's layer.
	Package string
	// Args follow the binary in the image's entrypoint.
	Args []string
	// Title and Description are for people, in the image's labels.
	Title, Description string
	// Port is what the program listens on; 0 means none.
	Port int
	// Files stand below the program, in a layer of their own.
	Files []File
}

// File is a file that an image has besides its program.
type File struct {
	// Name is its path, without the slash at its beginning.
	Name    string
	Mode    int64
	Content []byte
	// Origin is the package that it is from, for the bill of materials; empty means unknown.
	Origin, Version string
}

// Options say how images are built.
type Options struct {
	// Dir is a folder of the module that the packages belong to; empty is the
	// working directory.
	Dir string
	// Arch is the processor, as Go names it; empty is amd64.
	Arch string
	// Version and Revision become labels; empty ones do not. The digests follow them.
	Version, Revision string
}

// DefaultArch is the processor that images are built for.
const DefaultArch = "amd64"

// architectures are those that images are built for.
var architectures = []string{DefaultArch, "arm64"} //nolint:gochecknoglobals // a constant list

// Image is a built image.
type Image struct {
	Name string
	v1.Image
	// SBOM is the binary's bill of materials, SPDX 2.3 in JSON.
	SBOM []byte
}

// Build builds the images, in the order of specs. Each package is built once.
func Build(ctx context.Context, o Options, specs ...Spec) ([]Image, error) {
	if o.Arch == "" {
		o.Arch = DefaultArch
	}
	base, err := baseLayer()
	if err != nil {
		return nil, err
	}
	built := map[string]*program{}
	images := make([]Image, 0, len(specs))
	for _, s := range specs {
		p, ok := built[s.Package]
		if !ok {
			if p, err = compile(ctx, o, s.Package); err != nil {
				return nil, err
			}
			built[s.Package] = p
		}
		image, err := assemble(o, s, base, p.layer)
		if err != nil {
			return nil, fmt.Errorf("put the image %s together: %w", s.Name, err)
		}
		sbom, err := withFiles(p.sbom, s.Files)
		if err != nil {
			return nil, err
		}
		images = append(images, Image{Name: s.Name, Image: image, SBOM: sbom})
	}
	return images, nil
}

// assemble has no clock and no random value in it: the image is a function of its parts.
func assemble(o Options, s Spec, base, binary v1.Layer) (v1.Image, error) {
	text := map[string]string{labels + "title": s.Title, labels + "description": s.Description, labels + "version": o.Version, labels + "revision": o.Revision}
	for name, value := range text {
		if value == "" {
			delete(text, name)
		}
	}
	file := &v1.ConfigFile{
		Architecture: o.Arch,
		OS:           "linux",
		Created:      v1.Time{Time: time.Unix(0, 0).UTC()},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       strconv.Itoa(userID),
			Entrypoint: append([]string{"/" + path.Base(s.Package)}, s.Args...),
			Env:        []string{"PATH=/", "SSL_CERT_FILE=/" + authoritiesFile},
			WorkingDir: "/",
			Labels:     text,
		},
	}
	if s.Port != 0 {
		file.Config.ExposedPorts = map[string]struct{}{strconv.Itoa(s.Port) + "/tcp": {}}
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.ConfigFile(image, file)
	if err != nil {
		return nil, err
	}
	layers := []mutate.Addendum{{Layer: base, History: v1.History{CreatedBy: "certificate authorities, accounts, /tmp"}}}
	if len(s.Files) > 0 {
		files, err := fileLayer(s.Files)
		if err != nil {
			return nil, err
		}
		layers = append(layers, mutate.Addendum{Layer: files, History: v1.History{CreatedBy: fmt.Sprintf("%d files of other packages", len(s.Files))}})
	}
	return mutate.Append(image, append(layers, mutate.Addendum{Layer: binary, History: v1.History{CreatedBy: "go build " + s.Package}})...)
}

// LoadSize is what a node loads that has nothing of the image yet, in bytes.
func (i Image) LoadSize() (int64, error) {
	m, err := i.Manifest()
	if err != nil {
		return 0, fmt.Errorf("read the manifest of %s: %w", i.Name, err)
	}
	size := m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return size, nil
}

// scratch makes a folder that is gone when use has ended.
func scratch(use func(dir string) error) (err error) {
	dir, err := os.MkdirTemp("", "images-")
	if err != nil {
		return fmt.Errorf("make a folder to work in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return use(dir)
}
