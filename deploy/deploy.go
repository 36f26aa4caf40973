// Package deploy holds what the operator needs in a cluster: the definitions of its
// kinds. They are made by `go generate ./api/...`.
package deploy

import (
	"embed"
	"io/fs"
)

//go:embed crd/*.yaml
var files embed.FS

// Definitions are the CustomResourceDefinitions of the group dhow.dev, a file a kind.
func Definitions() fs.FS {
	sub, err := fs.Sub(files, "crd")
	if err != nil { // the name is a constant and valid
		return files
	}
	return sub
}
