// Package stacks holds the CloudFormation templates of the landing zone, as they
// are deployed: plain YAML that can be read, linted and deployed by hand too.
//
// Templates know each other by names alone: an output of one is the value of the
// parameter of that name of another. Nothing is exported or imported, so that a
// stack may be replaced without its readers.
package stacks

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed *.yaml
var templates embed.FS

const suffix = ".yaml"

// Names are those of all templates, sorted.
func Names() []string {
	files, err := fs.Glob(templates, "*"+suffix)
	if err != nil { // only a malformed pattern fails, and this one is not
		return nil
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(f, suffix)
	}
	slices.Sort(files)
	return files
}

// Template is the text of a template in YAML. The caller may change what it gets.
func Template(name string) ([]byte, error) {
	text, err := templates.ReadFile(name + suffix)
	if err != nil {
		return nil, fmt.Errorf("there is no template %q: there are %s", name, strings.Join(Names(), ", "))
	}
	return text, nil
}
