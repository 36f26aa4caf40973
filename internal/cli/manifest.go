package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"

	"dhow/internal/pods"
)

// defaultNamespace is where the gate and the movers are put where nothing else is said:
// one of their own, for who may create Jobs may read the Secrets beside them.
const defaultNamespace = "dhow"

func (a *app) manifestCommand() *cobra.Command {
	var w pods.Workload
	var secret bool
	cmd := &cobra.Command{
		Use:   "manifest",
		Short: "Print the Kubernetes objects that run the gate and the movers in a cluster",
		Long: `Prints manifests of one Deployment, of one pod, that runs dhow gate and dhow
replicate --forever beside each other, and of what belongs to it: a Service, a volume
of the state, an account, a NetworkPolicy, and with --job the right to start the Job
that helps with the copies. They hold no secret.

With --secret it prints the Secret that the pods read instead: the estate file, and
the passwords and certificates that it names, taken from where they are kept here.
Apply that first, and do not keep it.`,
		Example: `  dhow manifest --secret | kubectl apply -f -
  dhow manifest --image registry.example.com/dhow:v1 | kubectl apply -f -

  # then, in the movers' container
  kubectl exec -n dhow deploy/dhow-bank -c mover -- /dhow cutover -f /etc/dhow/dhow.yaml --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.manifest(cmd.Context(), w, secret) },
	}
	f := cmd.Flags()
	f.BoolVar(&secret, "secret", false, "print the Secret that the pods read, and nothing else")
	f.StringVar(&w.Image, "image", "", "the `image` of dhow, best by digest")
	f.StringVarP(&w.Namespace, "namespace", "n", defaultNamespace, "the `namespace`, which has to be there")
	f.IntVar(&w.Parts, "job", 0, "help with the copies in so `many` pods of an Indexed Job")
	f.StringVar(&w.Storage, "storage", pods.DefaultStorage, "the `size` of the state's volume")
	f.StringVar(&w.StorageClass, "storage-class", "", "the `class` of the state's volume (default: the cluster's)")
	f.StringVar(&w.ServiceAccount, "service-account", "", "an `account` that is there already (default: one of their own)")
	return cmd
}

func (a *app) manifest(ctx context.Context, w pods.Workload, secret bool) error {
	if !secret && w.Image == "" {
		return &usageError{text: "--image is missing: the image of dhow that the cluster's nodes can pull", see: "dhow manifest"}
	}
	if secret && a.screen.live {
		return &usageError{text: "--secret prints passwords, and this is a terminal: send them on, as to `kubectl apply -f -`", see: "dhow manifest"}
	}
	e, err := a.chosen()
	if err != nil {
		return err
	}
	pack, err := pods.NewPack(ctx, e)
	if err != nil {
		return err
	}
	objects := []runtime.Object{pack.Secret(pods.Name(e), w.Namespace)}
	if !secret {
		if objects, err = pack.Objects(w); err != nil {
			return &usageError{text: err.Error(), see: "dhow manifest"}
		}
	}
	if a.json() {
		return a.printList(objects)
	}
	text, err := pods.YAML(objects...)
	if err != nil {
		return err
	}
	if _, err := a.Out.Write(text); err != nil {
		return fmt.Errorf("print the manifests: %w", err)
	}
	return nil
}

// printList prints objects as Kubernetes lists them.
func (a *app) printList(objects []runtime.Object) error {
	items, err := pods.Fields(objects...)
	if err != nil {
		return err
	}
	return a.printJSON(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}
