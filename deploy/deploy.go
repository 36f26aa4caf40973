// Package deploy holds what the operator needs in a cluster: the definitions of its kinds,
// which are made by `go generate ./api/...`, and its rights, by `go generate
// ./internal/operator`. Of both, package install makes what is applied: operator/install.yaml
// and the chart.
package deploy

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed crd/*.yaml operator/role.yaml
var files embed.FS

// Definitions are the CustomResourceDefinitions of the group dhow.dev, a file a kind.
func Definitions() fs.FS {
	sub, err := fs.Sub(files, "crd")
	if err != nil { // the name is a constant and valid
		return files
	}
	return sub
}

// Rights are the operator's roles, one for the cluster and one for its own namespace, as YAML
// documents.
func Rights() ([]byte, error) {
	text, err := files.ReadFile("operator/role.yaml")
	if err != nil {
		return nil, fmt.Errorf("read the operator's rights: %w", err)
	}
	return text, nil
}
