package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime/debug"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"dhow/internal/operator"
	"dhow/internal/operator/orphan"
	"dhow/internal/operator/render"
)

// softMemory is from how many bytes on garbage is collected harder, where GOMEMLIMIT says
// nothing: in a cluster the operator may have 512 MiB, with the program itself.
const softMemory = 320 << 20

// operatorFlags are those of dhow operator.
type operatorFlags struct {
	kubeconfig, context string
	policy              string
	elect               bool
	workers             int
	metrics, health     string
	webhook             string
}

func (a *app) operatorCommand() *cobra.Command {
	var f operatorFlags
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "Run the operator: expose and balance the workloads of a cluster",
		Long: `Runs the controller of Exposures until Ctrl-C: for each it makes the Service, the
routes on shared Gateways, what the AWS Load Balancer Controller is to make of them, a
NetworkPolicy, a PodDisruptionBudget and a HorizontalPodAutoscaler, keeps them so, and
tells in the Exposure's status what it did and why, and what AWS says.

With --webhook it also completes the pods of exposed workloads when they are made, in
namespaces that ask for it by the label dhow.dev/pods=enabled, so that a rollout loses no
request.

In a cluster it runs as a Deployment, by the manifests in deploy/. Two of them may run
with --leader-elect: one works, the other takes over within seconds; both complete pods.`,
		Example: `  # against the cluster of the kubeconfig's current context
  dhow operator --policy policy.yaml

  # in a pod
  dhow operator --leader-elect --metrics :8080 --health :8081 --webhook :9443`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.operator(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "the `file` that says where the cluster is (default: as kubectl finds it, or the cluster of the pod that this runs in)")
	flags.StringVar(&f.context, "context", "", "the `context` of the kubeconfig (default: its current one)")
	flags.StringVar(&f.policy, "policy", "", "the `file` that says what holds for all Exposures of the cluster")
	flags.BoolVar(&f.elect, "leader-elect", false, "let one of several operators work")
	flags.IntVar(&f.workers, "workers", operator.DefaultWorkers, "work on so `many` Exposures at once")
	flags.StringVar(&f.metrics, "metrics", "", "serve metrics at this `address` (default: nowhere)")
	flags.StringVar(&f.health, "health", "", "serve /healthz and /readyz at this `address` (default: nowhere)")
	flags.StringVar(&f.webhook, "webhook", "", "complete pods when they are made, asked by the API server at this `address` (default: complete none)")
	for _, name := range []string{"kubeconfig", "policy"} {
		_ = cmd.MarkFlagFilename(name) // fails for an unknown flag alone
	}
	return cmd
}

func (a *app) operator(ctx context.Context, f operatorFlags) error {
	if f.workers < 1 {
		return &usageError{text: fmt.Sprintf("--workers %d: want 1 at least", f.workers), see: "dhow operator"}
	}
	if _, _, err := net.SplitHostPort(f.webhook); f.webhook != "" && err != nil {
		return &usageError{text: fmt.Sprintf("--webhook %q: want an address as :9443", f.webhook), see: "dhow operator"}
	}
	policy, err := readPolicy(f.policy)
	if err != nil {
		return err
	}
	conf, err := clusterConfig(f.kubeconfig, f.context)
	if err != nil {
		return err
	}
	o := operator.Options{Config: conf, Policy: policy, LeaderElection: f.elect, Workers: f.workers, Metrics: f.metrics, Health: f.health, Webhook: operator.Webhook{Address: f.webhook}, Log: a.log}
	if policy.Orphans != nil {
		aws, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return fmt.Errorf("read the configuration of AWS: %w", err)
		}
		if aws.Region == "" {
			return &usageError{text: "orphans: AWS_REGION says no region: give the operator's account a Pod Identity, which sets it, or set it", see: "dhow operator"}
		}
		o.Balancers = orphan.NewCloud(aws)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemory)
	}
	return operator.Run(ctx, o)
}

// readPolicy reads the operator's policy; without a file it is the default.
func readPolicy(file string) (render.Policy, error) {
	var p render.Policy
	if file == "" {
		return p, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return p, fmt.Errorf("read the operator's policy: %w", err)
	}
	if err := yaml.UnmarshalStrict(text, &p); err != nil {
		return p, &usageError{text: fmt.Sprintf("the operator's policy %s: %v", file, err), see: "dhow operator"}
	}
	if err := p.Check(); err != nil {
		return p, &usageError{text: fmt.Sprintf("the operator's policy %s: %v", file, err), see: "dhow operator"}
	}
	return p, nil
}

// clusterConfig reaches the cluster that kubectl would reach, or that of the pod.
func clusterConfig(kubeconfig, context string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	conf, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	return conf, nil
}
