package images

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// program is a built binary, as images hold it.
type program struct {
	layer v1.Layer
	sbom  []byte
}

// compile builds a main package so that only its sources and the toolchain matter:
// not the folder, the state of its repository, nor the settings of who builds.
func compile(ctx context.Context, o Options, pkg string) (*program, error) {
	if !slices.Contains(architectures, o.Arch) {
		return nil, fmt.Errorf("build for %s: give one of %s", o.Arch, strings.Join(architectures, ", "))
	}
	p := &program{}
	err := scratch(func(dir string) error {
		file := filepath.Join(dir, path.Base(pkg))
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", file, pkg)
		cmd.Dir = o.Dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+o.Arch,
			"GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=-mod=readonly", "GOFIPS140=off", "GOWORK=off")
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s with the go command: %w: %s", pkg, err, bytes.TrimSpace(said.Bytes()))
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read the binary of %s: %w", pkg, err)
		}
		return p.pack(pkg, content)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *program) pack(pkg string, content []byte) error {
	if err := selfContained(content); err != nil {
		return fmt.Errorf("look into the binary of %s: %w", pkg, err)
	}
	info, err := buildinfo.Read(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("read the modules of the binary of %s: %w", pkg, err)
	}
	if p.sbom, err = bill(info, content); err != nil {
		return err
	}
	p.layer, err = newLayer(entry{name: path.Base(pkg), mode: 0o755, content: content})
	return err
}

// selfContained refuses a binary that needs a loader: the image has none.
func selfContained(content []byte) error {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return err
	}
	for _, s := range f.Progs {
		if s.Type == elf.PT_INTERP {
			return fmt.Errorf("it is linked dynamically: one of its packages needs cgo, which an image without a C library can not serve")
		}
	}
	return nil
}
