package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"sigs.k8s.io/yaml"

	"dhow/internal/assess"
	"dhow/internal/demo/kube/crds"
	"dhow/internal/inventory"
	"dhow/internal/plan"
	"dhow/superapp/deploy"
	"dhow/superapp/fleet"
)

// What the plan of the new deployment is made from and leaves, in the harbour's folder.
const (
	deploymentFolder = "deployment"
	optionsFile      = "plan-options.yaml"
	planFolder       = "plan"
)

// mostPods are those of a service at most: eight services of two pods each ask for most of
// what two cores have, and a pod that finds no room would never be ready.
const mostPods = 3

// every is the name for all workloads in the options of a plan.
const every = "default"

// planned is what a plan of the old deployment has for this cluster: the definitions of
// its kinds, for no cluster of one's own has them, the operator, and the manifests as the
// plan wrote them, with Exposures of which the operator makes the rest. The plan is made as `dhow plan DEPLOYMENT --options FILE` makes it, and stays in
// the folder to be read.
func (d *dock) planned(ctx context.Context, stores fleet.Stores, around netip.Prefix) ([]byte, error) {
	text, err := crds.All(ctx, "")
	if err != nil {
		return nil, err
	}
	deployment := filepath.Join(d.dir, deploymentFolder)
	if err := errors.Join(os.RemoveAll(deployment), os.CopyFS(deployment, deploy.SourceFiles())); err != nil {
		return nil, fmt.Errorf("write the old deployment: %w", err)
	}
	o, err := d.planOptions(stores, around)
	if err != nil {
		return nil, err
	}
	inv, err := inventory.FromFiles(ctx, inventory.FileOptions{}, deployment)
	if err != nil {
		return nil, err
	}
	report, err := assess.Assess(ctx, inv, assess.Options{})
	if err != nil {
		return nil, err
	}
	p, err := plan.Make(ctx, inv, report, o)
	if err != nil {
		return nil, err
	}
	if err := d.keepPlan(p); err != nil {
		return nil, err
	}
	operator, err := d.operator(ctx, p.OperatorPolicy.Text)
	if err != nil {
		return nil, err
	}
	text = append(append(text, '\n'), operator...)
	for _, f := range p.Manifests {
		text = append(append(text, "\n---\n"...), f.Text...)
	}
	return text, nil
}

// planOptions are what no manifest of the source tells: that all of the application goes
// to this cluster, which has one node, its images, where the stores are, and what its
// services answer.
func (d *dock) planOptions(stores fleet.Stores, around netip.Prefix) (*plan.Options, error) {
	o := plan.Options{
		Name:      deploy.Namespace,
		Placement: map[string]plan.Place{every: plan.EKS},
		Probes:    map[string]plan.Paths{every: {Readiness: "/readyz", Liveness: "/healthz"}},
		Replace:   map[string]string{"--instance=source": "--instance=" + string(d.side)},
		Images:    map[string]string{},
		Network:   plan.NetworkChoice{Edge: around, Stores: around},
		Databases: map[string]plan.Facts{},
		Goals:     plan.Goals{MostReplicas: mostPods},
		Exposures: true,
	}
	for _, s := range fleet.Services() {
		o.Images[s.Name] = d.images[s.Name]
	}
	for engine, address := range map[string]string{"postgres": stores.Postgres, "mariadb": stores.MariaDB, "redis": stores.Redis} {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("read the address of the %s's %s: %w", d.side, engine, err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			return nil, fmt.Errorf("read the address of the %s's %s: %w", d.side, engine, err)
		}
		o.Databases[o.Name+"-"+engine] = plan.Facts{Port: n}
	}
	text, err := yaml.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("write the plan's options: %w", err)
	}
	file := filepath.Join(d.dir, optionsFile)
	if err := keepFile(file, text); err != nil {
		return nil, err
	}
	return plan.ReadOptions(file)
}

// keepPlan writes the plan's folder.
func (d *dock) keepPlan(p *plan.Plan) error {
	files := append(slices.Clone(p.Manifests), *p.OperatorPolicy)
	for name, write := range map[string]func(io.Writer) error{"plan.yaml": p.WriteYAML, "plan.md": p.WriteMarkdown, "plan.html": p.WriteHTML} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		files = append(files, plan.File{Path: name, Text: b.Bytes()})
	}
	if p.Estate != nil {
		files = append(files, *p.Estate)
	}
	for _, f := range files {
		if err := keepFile(filepath.Join(d.dir, planFolder, f.Path), f.Text); err != nil {
			return err
		}
	}
	return nil
}

func keepFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep the plan: %w", err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("keep the plan: %w", err)
	}
	return nil
}
