package images

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Names of annotations by which loaders of a layout find an image's name.
const (
	refName = labels + "ref.name"
	// containerdName is containerd's own: the whole name, where OCI's may be the tag alone.
	containerdName = "io.containerd.image.name"
)

// Target is where images are pushed.
type Target struct {
	// Prefix is the registry, and a folder in it if wanted: registry.example.com/superapp.
	Prefix string
	Tag    string
	// Insecure allows plain HTTP with a registry that is not on this machine or in a
	// private network; there it is tried anyway.
	Insecure bool
}

func (t Target) tag(image string) (name.Tag, error) {
	options := []name.Option{name.StrictValidation}
	if t.Insecure {
		options = append(options, name.Insecure)
	}
	tag, err := name.NewTag(t.Prefix+"/"+image+":"+t.Tag, options...)
	if err != nil {
		return tag, fmt.Errorf("name the image %s: give a registry and a folder such as registry.example.com/superapp, and a tag: %w", image, err)
	}
	return tag, nil
}

// Push sends the images and their bills of materials to a registry, with the
// credentials that `docker login` keeps. It gives the references by digest, by
// the images' names. It may be called again: what the registry has is not sent.
func Push(ctx context.Context, t Target, images ...Image) (map[string]string, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	pusher, err := remote.NewPusher(remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithContext(ctx), remote.WithTransport(transport))
	if err != nil {
		return nil, fmt.Errorf("prepare to push: %w", err)
	}
	refs := make(map[string]string, len(images))
	for _, i := range images {
		tag, err := t.tag(i.Name)
		if err != nil {
			return nil, err
		}
		if err := push(ctx, pusher, tag, i); err != nil {
			return nil, fmt.Errorf("push %s: %w", tag, err)
		}
		digest, err := i.Digest()
		if err != nil {
			return nil, fmt.Errorf("take the digest of %s: %w", i.Name, err)
		}
		refs[i.Name] = tag.Digest(digest.String()).Name()
	}
	return refs, nil
}

func push(ctx context.Context, pusher *remote.Pusher, tag name.Tag, i Image) error {
	if err := pusher.Push(ctx, tag, i.Image); err != nil {
		return err
	}
	bill, err := i.attached()
	if err != nil {
		return err
	}
	digest, err := bill.Digest()
	if err != nil {
		return err
	}
	return pusher.Push(ctx, tag.Digest(digest.String()), bill)
}

// WriteLayout writes the images and their bills of materials into a folder, as
// the OCI image layout has it. Images of the same name in it are replaced.
func WriteLayout(dir string, t Target, images ...Image) error {
	l, err := layout.FromPath(dir)
	if errors.Is(err, fs.ErrNotExist) {
		l, err = layout.Write(dir, empty.Index)
	}
	if err != nil {
		return fmt.Errorf("open the image layout in %s: %w", dir, err)
	}
	for _, i := range images {
		tag, err := t.tag(i.Name)
		if err != nil {
			return err
		}
		if err := place(l, tag, i); err != nil {
			return fmt.Errorf("write %s into the image layout in %s: %w", tag, dir, err)
		}
	}
	return nil
}

func place(l layout.Path, tag name.Tag, i Image) error {
	bill, err := i.attached()
	if err != nil {
		return err
	}
	digest, err := bill.Digest()
	if err != nil {
		return err
	}
	called := func(d v1.Descriptor) bool { return d.Annotations[containerdName] == tag.Name() }
	annotations := layout.WithAnnotations(map[string]string{refName: tag.TagStr(), containerdName: tag.Name()})
	return errors.Join(l.ReplaceImage(i.Image, called, annotations), l.ReplaceImage(bill, match.Digests(digest)))
}

// WriteTarball writes the image layout as one file, which containerd, Podman and
// Docker load with the digests kept.
func WriteTarball(file string, t Target, images ...Image) error {
	return scratch(func(dir string) error {
		if err := WriteLayout(dir, t, images...); err != nil {
			return err
		}
		// What is half written never stands under the file's name.
		part, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
		if err != nil {
			return fmt.Errorf("make the tarball %s: %w", file, err)
		}
		err = errors.Join(pack(part, dir), part.Chmod(0o644), part.Close())
		if err == nil {
			err = os.Rename(part.Name(), file)
		}
		if err != nil {
			return fmt.Errorf("write the tarball %s: %w", file, errors.Join(err, os.Remove(part.Name())))
		}
		return nil
	})
}

// pack writes a folder's files, in the order of their names.
func pack(to io.Writer, dir string) error {
	w := tar.NewWriter(to)
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, file)
		if err != nil {
			return err
		}
		return entry{name: path.Clean(file), mode: 0o644, content: content}.write(w)
	})
	return errors.Join(err, w.Close())
}

// WriteSBOMs writes each image's bill of materials to NAME.spdx.json in a folder.
func WriteSBOMs(dir string, images ...Image) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of the bills of materials: %w", err)
	}
	for _, i := range images {
		if err := os.WriteFile(filepath.Join(dir, i.Name+".spdx.json"), i.SBOM, 0o644); err != nil {
			return fmt.Errorf("write the bill of materials of %s: %w", i.Name, err)
		}
	}
	return nil
}
