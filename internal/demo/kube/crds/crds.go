// Package crds has the definitions of kinds that a cluster on AWS has beside Kubernetes'
// own, for clusters of one's own: with them an API server takes a plan's manifests, and
// checks them. It has no controller, so nothing is made of what is applied.
package crds

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"dhow/internal/demo/kube"
)

const (
	// gatewayModule has the Gateway API's definitions beside its types.
	gatewayModule = "sigs.k8s.io/gateway-api"
	// standardChannel is where those are that are stable.
	standardChannel = "config/crd/standard"
)

//go:embed aws
var aws embed.FS

// All are GatewayAPI's and AWS's, for kube.Apply.
func All(ctx context.Context, project string) ([]byte, error) {
	ours, err := AWS()
	if err != nil {
		return nil, err
	}
	gateway, err := GatewayAPI(ctx, project)
	if err != nil {
		return nil, err
	}
	return append(gateway, ours...), nil
}

// AWS are the kinds of the AWS Load Balancer Controller. They are written here after its
// API reference, because no registry of packages has its own; a cluster in which the
// controller runs has those.
func AWS() ([]byte, error) { return kube.Files(aws) }

// GatewayAPI are the definitions of the Gateway API's standard channel, from its module in
// the version that the project is built with, which the go command fetches if it is not
// there. project is a folder of the project's sources; "" is the current one.
func GatewayAPI(ctx context.Context, project string) ([]byte, error) {
	dir, err := module(ctx, project, gatewayModule)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, standardChannel, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list the Gateway API's definitions: %w", err)
	}
	var all bytes.Buffer
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the Gateway API's definitions: %w", err)
		}
		// Beside them are a list of the files, and a policy that watches over upgrades.
		if bytes.Contains(text, []byte("\nkind: CustomResourceDefinition\n")) {
			all.WriteString("\n---\n")
			all.Write(text)
		}
	}
	if all.Len() == 0 {
		return nil, fmt.Errorf("read the Gateway API's definitions: %w in %s", fs.ErrNotExist, filepath.Join(dir, standardChannel))
	}
	return all.Bytes(), nil
}

// module is the folder of a module that the project requires.
func module(ctx context.Context, project, name string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", name)
	cmd.Dir = project
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	var found struct{ Dir, Error string }
	if bad := json.Unmarshal(out, &found); bad == nil && found.Error != "" {
		err = errors.New(found.Error)
	} else if err == nil {
		err = bad
	}
	if err != nil {
		return "", fmt.Errorf("find the module %s with the go command; it takes the project's folder: %w: %s", name, err, bytes.TrimSpace(said.Bytes()))
	}
	return found.Dir, nil
}
