// Package cfnlint reads what cfn-lint ships of AWS's resource schemas: which types each
// region has, and each type's schema. Releases are those that the files in hack/ lock;
// they are fetched with their hashes, kept in dhow's cache folder, and only read: no code
// of theirs is run.
package cfnlint

import (
	"archive/zip"
	"context"
	"fmt"

	"dhow/internal/venv"
)

// Wheel is a release of a Python package: a zip file, to be closed.
type Wheel struct {
	*zip.ReadCloser
	Name, Version string
}

// Fetch opens the release of a package that one of hack's lock files names. Unless the
// cache has it, pip downloads it and checks its hash, which may take minutes.
func Fetch(ctx context.Context, lock, name string) (*Wheel, error) {
	file, version, err := venv.Wheel(ctx, lock, name)
	if err != nil {
		return nil, err
	}
	z, err := zip.OpenReader(file)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	return &Wheel{ReadCloser: z, Name: name, Version: version}, nil
}
