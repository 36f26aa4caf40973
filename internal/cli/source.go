package cli

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"dhow/internal/inventory"
)

// sourceFlags are where an application is read from, as it was typed.
type sourceFlags struct {
	kubeconfig, context string
	namespaces          []string
	values              []string
	release             string
	prometheus          string
	timeout             time.Duration
	ask                 bool
	estate              string
}

func (f *sourceFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "read the cluster that this `file` leads to")
	flags.StringVar(&f.context, "context", "", "read the cluster of this `context` of the kubeconfig")
	flags.StringArrayVarP(&f.namespaces, "namespace", "n", nil, "read this `namespace` of the cluster alone; may be given again")
	flags.StringArrayVar(&f.values, "values", nil, "a `file` of values for Helm charts; may be given again")
	flags.StringVar(&f.release, "release", "", "the `name` of the release in Helm charts")
	flags.StringVar(&f.prometheus, "prometheus", "", "the `URL` of a Prometheus that knows what the cluster's containers use")
	flags.DurationVar(&f.timeout, "request-timeout", inventory.DefaultTimeout, "how long one request to the cluster may take")
	flags.BoolVar(&f.ask, "ask-databases", false, "sign in to the databases that are found, and ask for version, size, extensions and load")
	flags.StringVar(&f.estate, "estate", "", "let the movers look at the databases of this estate `file`: what they find is a finding")
}

// live says that a cluster is to be read.
func (f *sourceFlags) live() bool { return f.kubeconfig != "" || f.context != "" }

// check says what is wrong with the flags beside the paths that were given; empty is nothing.
func (f *sourceFlags) check(paths []string) string {
	switch {
	case f.ask && !f.live() && f.estate == "":
		return "--ask-databases takes passwords from a cluster's Secrets or an estate file: name one with --context, --kubeconfig or --estate"
	case f.timeout <= 0:
		return "--request-timeout: want a time above 0, such as 30s"
	case !f.live() && (len(f.namespaces) > 0 || f.prometheus != ""):
		return "--namespace and --prometheus go with --context or --kubeconfig"
	case len(paths) == 0 && (len(f.values) > 0 || f.release != ""):
		return "--values and --release go with manifests"
	}
	for _, p := range slices.Concat(paths, f.values) {
		if _, err := os.Stat(p); errors.Is(err, os.ErrNotExist) {
			return "there is nothing at " + p
		}
	}
	return ""
}

// take reads manifests, a cluster, or both.
func (f *sourceFlags) take(ctx context.Context, paths []string) (*inventory.Inventory, error) {
	var files, cluster *inventory.Inventory
	var err error
	if len(paths) > 0 {
		if files, err = inventory.FromFiles(ctx, inventory.FileOptions{Values: f.values, Release: f.release}, paths...); err != nil {
			return nil, err
		}
	}
	if !f.live() {
		if files == nil { // of an estate alone
			files = &inventory.Inventory{}
		}
		return files, nil
	}
	if cluster, err = inventory.FromCluster(ctx, inventory.Options{Kubeconfig: f.kubeconfig, Context: f.context, Namespaces: f.namespaces, Prometheus: f.prometheus, Timeout: f.timeout}); err != nil {
		return nil, err
	}
	if files == nil {
		return cluster, nil
	}
	return inventory.Merge(ctx, files, cluster)
}
