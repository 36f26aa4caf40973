package landing

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dhow/stacks"
)

const (
	// maxBody is the largest template that CloudFormation takes in a request, in bytes.
	maxBody = 51_200
	// maxTemplates bounds a folder of templates.
	maxTemplates = 200
)

// Library is templates by their name.
type Library map[string]*Template

// Embedded are the templates of the binary.
func Embedded() (Library, error) {
	l := Library{}
	for _, name := range stacks.Names() {
		body, err := stacks.Template(name)
		if err != nil {
			return nil, fmt.Errorf("read the template %s: %w", name, err)
		}
		if l[name], err = Parse(name, body); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Read are the templates of a folder, NAME.yaml each, laid over others: one of a name
// that is there already takes its place, and is noted as edited where it differs. An
// error tells all files that are no templates.
func Read(dir string, over Library) (Library, error) {
	files, err := fs.Glob(os.DirFS(dir), "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("look for templates in %s: %w", dir, err)
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("look for templates: %w", err)
	}
	switch {
	case len(files) == 0:
		return nil, fmt.Errorf("%s has no templates in it: want files NAME.yaml", dir)
	case len(files) > maxTemplates:
		return nil, fmt.Errorf("%s has %d templates in it, and %d are taken", dir, len(files), maxTemplates)
	}
	l := maps.Clone(over)
	if l == nil {
		l = Library{}
	}
	var wrong []error
	for _, file := range files {
		name := strings.TrimSuffix(file, ".yaml")
		body, err := readFile(filepath.Join(dir, file))
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		t, err := Parse(name, body)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		t.File = filepath.Join(dir, file)
		t.Edited = over[name] == nil || over[name].Hash != t.Hash
		l[name] = t
	}
	return l, errors.Join(wrong...)
}

// readFile reads a template, and no more of a file than one can be.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a template: %w", err)
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the template %s: %w", path, err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("the template %s is larger than %d bytes, which CloudFormation takes in a request: split it", path, maxBody)
	}
	return body, nil
}

// names are the library's, sorted.
func (l Library) names() []string { return slices.Sorted(maps.Keys(l)) }

// hashOf is what a body is known by: the SHA-256 of its bytes, in hexadecimal digits.
func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
