package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
	"dhow/internal/expose"
	"dhow/internal/move"
	"dhow/internal/operator"
	"dhow/internal/operator/render"
)

const (
	// exposeQPS and exposeBurst are requests to the API server: client-go's own five a second
	// would let a namespace of some size wait.
	exposeQPS, exposeBurst = 50, 100
	// exposeTime bounds a request to the API server.
	exposeTime = 30 * time.Second
)

// exposeFlags are what is to be exposed, as it was typed.
type exposeFlags struct {
	kubeconfig, context, namespace, policy string

	all, objects, apply, label bool
	visibility                 string
	hosts                      []string
	wait                       time.Duration

	from                          string
	accept, certificates          []string
	dryRun, undo, byHand, noProbe bool
	weights                       string
	every                         time.Duration
	remove                        string
	prometheus, traffic           string
	yes                           bool
}

// exposeResult is the JSON of what was proposed, and of what was applied.
type exposeResult struct {
	Namespace string            `json:"namespace"`
	Proposals []expose.Proposal `json:"proposals"`
	Applied   []appliedExposure `json:"applied,omitempty"`
}

// appliedExposure is an Exposure that was applied, as it was last seen.
type appliedExposure struct {
	Name       string             `json:"name"`
	Ready      bool               `json:"ready"`
	Address    string             `json:"address,omitempty"`
	Balancers  []string           `json:"load_balancers,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	Error      string             `json:"error,omitempty"`
}

// labelledSpace is the JSON of a namespace that was labelled.
type labelledSpace struct {
	Namespace string `json:"namespace"`
	// Already says that it was before.
	Already bool `json:"already"`
}

func (a *app) exposeCommand() *cobra.Command {
	var f exposeFlags
	cmd := &cobra.Command{
		Use:         "expose [workload...]",
		Short:       "Show, apply or convert to the Exposures of a cluster's workloads",
		Annotations: map[string]string{moreForms: outputYAML},
		Long: `Shows the Exposure that the operator would deduce for a workload, as a diff against what
is there: a Deployment or StatefulSet by its name, or deployment/NAME and statefulset/NAME.
With --objects it shows what the operator would make of it too. Nothing is changed without
--apply, which applies it on the server's side, waits until it is ready, and prints its
conditions and its address. With --label the namespace's workloads get Exposures by
themselves from then on.

With --from it converts what leads to workloads today - an Ingress, or a Service of type
NodePort or LoadBalancer, by its name - without dropping traffic: the Exposures are made
beside the old object; once they are ready and answer, external-dns shifts the weights of
the names from the old way to the new; the old one is removed only with --remove. What can
not be carried over is told, and must be accepted by its name. A conversion may be killed
and called again at any time, and goes on; --undo leads everybody back. --dry-run says what
each step would do.`,
		Example: `  # what would be made of one workload
  dhow expose cart -n superapp --objects

  # make it, and wait for its address
  dhow expose cart -n superapp --visibility public --host shop.example.com --apply

  # all workloads of a namespace, as YAML to keep
  dhow expose -n superapp --all -o yaml

  # an Ingress: look first, then go
  dhow expose -n superapp --from ingress shop --dry-run
  dhow expose -n superapp --from ingress shop --accept tls-secret --weights 90,50,0 --every 5m

  # when nobody comes the old way any more
  dhow expose -n superapp --from ingress shop --remove ingress/shop`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.expose(cmd, args, f) },
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return f.names(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "the `file` that says where the cluster is (default: as kubectl finds it, or the cluster of the pod that this runs in)")
	flags.StringVar(&f.context, "context", "", "the `context` of the kubeconfig (default: its current one)")
	flags.StringVarP(&f.namespace, "namespace", "n", "", "the `namespace` (default: that of the kubeconfig's context)")
	flags.StringVar(&f.policy, "policy", "", "the `file` of the operator's policy (default: that of the operator in the cluster)")
	flags.BoolVar(&f.all, "all", false, "all workloads of the namespace")
	flags.BoolVar(&f.objects, "objects", false, "show the objects as well that the operator would make")
	flags.BoolVar(&f.apply, "apply", false, "apply what is shown, and wait until it is ready")
	flags.BoolVar(&f.label, "label", false, "only turn automatic exposure on for the namespace")
	flags.StringVar(&f.visibility, "visibility", "", "`who` may call, whatever is said elsewhere: public, private, mesh or none")
	flags.StringArrayVar(&f.hosts, "host", nil, "a `name` by which it is called; may be given again")
	flags.DurationVar(&f.wait, "wait", expose.DefaultWait, "how long to wait at most until it is ready; with --apply, 0s does not wait")
	flags.StringVar(&f.from, "from", "", "convert this `kind` of what leads to workloads today: ingress, nodeport or loadbalancer")
	flags.StringArrayVar(&f.accept, "accept", nil, "the `name` of something that may be lost in the conversion; may be given again")
	flags.StringArrayVar(&f.certificates, "certificate", nil, "the `ARN` of a certificate of AWS Certificate Manager, in the place of a Secret; may be given again")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what each step of the conversion would do, and do nothing")
	flags.StringVar(&f.weights, "weights", weightsText(expose.DefaultWeights()), "the old way's `weights` in percent, one after the other; the new one has the rest")
	flags.DurationVar(&f.every, "every", expose.DefaultEvery, "the `time` between two weights")
	flags.StringVar(&f.remove, "remove", "", "remove the old `object` at the end: its kind and name, as ingress/shop")
	flags.BoolVar(&f.undo, "undo", false, "lead everybody the old way again, and remove what the conversion made")
	flags.BoolVar(&f.byHand, "by-hand", false, "say which weights to set in the DNS, one a call, in the place of external-dns' annotations")
	flags.BoolVar(&f.noProbe, "skip-health", false, "do not ask the new load balancers for an answer, nor the DNS where names lead, where they can not be reached from here")
	flags.StringVar(&f.prometheus, "prometheus", "", "the `URL` of a Prometheus server that counts the requests of the old way")
	flags.StringVar(&f.traffic, "traffic", "", "the `PromQL` that gives them a second: the old way ends when there are none")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask before a conversion goes on")
	for _, name := range []string{"kubeconfig", "policy"} {
		_ = cmd.MarkFlagFilename(name) // fails for an unknown flag alone
	}
	for name, values := range map[string][]string{"visibility": visibilities(), "from": expose.Froms()} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // likewise
	}
	return cmd
}

func visibilities() []string {
	return []string{string(v1alpha1.Public), string(v1alpha1.Private), string(v1alpha1.Mesh), string(v1alpha1.None)}
}

// weightsText are weights with commas between them.
func weightsText(all []int) string {
	var parts []string
	for _, n := range all {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, ",")
}

// check says what flags do not go together; empty where all is well.
func (f *exposeFlags) check(cmd *cobra.Command, args []string) string {
	converting := []string{"accept", "certificate", "dry-run", "weights", "every", "remove", "undo", "by-hand", "skip-health", "prometheus", "traffic", "yes"}
	showing := []string{"all", "objects", "apply"}
	given := func(names ...string) string {
		for _, n := range names {
			if cmd.Flags().Changed(n) {
				return "--" + n
			}
		}
		return ""
	}
	switch {
	case f.visibility != "" && !slices.Contains(visibilities(), f.visibility):
		return fmt.Sprintf("--visibility %q is not known: want %s", f.visibility, strings.Join(visibilities(), ", "))
	case f.wait < 0 || f.every < 0:
		return "--wait and --every: want times, such as 2m"
	case f.label && (len(args) > 0 || given(slices.Concat(converting, showing, []string{"from", "visibility", "host", "policy", "wait"})...) != ""):
		return "--label only labels the namespace: leave workloads and the other flags out"
	case f.label:
		return ""
	case f.from == "" && given(converting...) != "":
		return given(converting...) + " is of a conversion: say --from ingress, nodeport or loadbalancer"
	case f.from == "" && len(args) == 0 && !f.all:
		return "name a workload, or take all of the namespace with --all"
	case f.from == "" && len(args) > 0 && f.all:
		return "--all or workloads by their names, not both"
	case f.from == "":
		return ""
	}
	return f.checkConversion(args, given(showing...))
}

// checkConversion does so for those of a conversion; other is a flag that is of something else.
func (f *exposeFlags) checkConversion(args []string, other string) string {
	switch {
	case !slices.Contains(expose.Froms(), f.from):
		return fmt.Sprintf("--from %q can not be converted: want %s", f.from, strings.Join(expose.Froms(), ", "))
	case other != "":
		return other + " is of workloads, and does not go with --from"
	case len(args) != 1:
		return "name one object to convert, as `dhow expose --from ingress shop`"
	case f.visibility != "" && f.visibility != string(v1alpha1.Public) && f.visibility != string(v1alpha1.Private):
		return "--visibility " + f.visibility + ": a conversion is between load balancers: want public or private"
	case f.undo && (f.dryRun || f.remove != ""):
		return "--undo goes back: leave --dry-run and --remove out"
	case (f.prometheus == "") != (f.traffic == ""):
		return "--prometheus and --traffic go together"
	}
	_, text := f.ladder()
	return text
}

// reach finds the cluster, and the namespace that is meant.
func (f *exposeFlags) reach() (*rest.Config, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	found := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context})
	conf, err := found.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("find the cluster: %w", err)
	}
	conf.QPS, conf.Burst, conf.Timeout = exposeQPS, exposeBurst, exposeTime
	namespace := f.namespace
	if namespace == "" {
		if namespace, _, err = found.Namespace(); err != nil {
			return nil, "", fmt.Errorf("find the namespace: %w", err)
		}
	}
	return conf, namespace, nil
}

// kubeClient reads past any cache, and writes.
func kubeClient(conf *rest.Config) (client.Client, error) {
	scheme, err := operator.Scheme()
	if err != nil {
		return nil, err
	}
	c, err := client.New(conf, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	return c, nil
}

// names are those that a shell may complete; none where they can not be found out soon.
func (f *exposeFlags) names(ctx context.Context) []cobra.Completion {
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	conf, namespace, err := f.reach()
	if err != nil {
		return nil
	}
	c, err := kubeClient(conf)
	if err != nil {
		return nil
	}
	all, err := expose.Names(ctx, c, f.from, namespace)
	if err != nil {
		return nil
	}
	return all
}

func (a *app) expose(cmd *cobra.Command, args []string, f exposeFlags) error {
	ctx := cmd.Context()
	if text := f.check(cmd, args); text != "" {
		return &usageError{text: text, see: cmd.CommandPath()}
	}
	policy, err := readPolicy(f.policy)
	if err != nil {
		return err
	}
	log.SetLogger(logr.FromSlogHandler(a.log.Handler()))
	conf, namespace, err := f.reach()
	if err != nil {
		return err
	}
	c, err := kubeClient(conf)
	if err != nil {
		return err
	}
	if f.label {
		return a.labelSpace(ctx, c, namespace)
	}
	if f.policy == "" {
		var found bool
		if policy, found, err = expose.Policy(ctx, c); err != nil {
			return err
		}
		if !found {
			a.log.Info("no operator's policy is in the cluster, or it may not be read: the default holds")
		}
	}
	look, err := operator.NewLook(ctx, conf, c, policy)
	if err != nil {
		return err
	}
	if f.from != "" {
		return a.convert(ctx, c, look, namespace, args[0], f)
	}
	return a.propose(ctx, c, look, namespace, args, f)
}

// exposeUsage makes usage errors of what was asked for wrongly.
func exposeUsage(err error) error {
	var wrong *expose.WrongError
	if errors.As(err, &wrong) {
		return &usageError{text: wrong.Text, see: "dhow expose"}
	}
	var refused *expose.RefusedError
	if errors.As(err, &refused) {
		var flags []string
		for _, i := range refused.Items {
			if flag := "--accept " + i.Name; !slices.Contains(flags, flag) {
				flags = append(flags, flag)
			}
		}
		return &move.Refused{Reason: refused.Error(), Fix: "see what each means, and accept it with " + strings.Join(flags, " ")}
	}
	return err
}

func (a *app) labelSpace(ctx context.Context, c expose.Cluster, namespace string) error {
	already, err := expose.TurnOn(ctx, c, namespace)
	if err != nil {
		return exposeUsage(err)
	}
	switch {
	case a.json():
		return a.printJSON(labelledSpace{namespace, already})
	case already:
		a.printf("namespace %s has the label %s=%s already", namespace, render.ExposeLabel, render.ExposeAuto)
	default:
		a.printf("namespace %s has the label %s=%s: the operator gives its workloads Exposures from now on", namespace, render.ExposeLabel, render.ExposeAuto)
	}
	return nil
}

// propose shows what workloads would get, and applies it where that is asked for.
func (a *app) propose(ctx context.Context, c expose.Cluster, look expose.Operator, namespace string, names []string, f exposeFlags) error {
	all, err := expose.Propose(ctx, c, look, expose.Want{Namespace: namespace, Names: names, Visibility: v1alpha1.Visibility(f.visibility), Hosts: f.hosts, Objects: f.objects})
	if err != nil {
		return exposeUsage(err)
	}
	switch a.output {
	case outputTable:
		err = a.printProposals(all)
	case outputYAML:
		err = a.printManifests(all)
	}
	if err != nil {
		return err
	}
	result := exposeResult{Namespace: namespace, Proposals: all}
	if f.apply {
		result.Applied, err = a.applyProposals(ctx, c, namespace, all, f.wait)
	}
	if a.json() {
		return errors.Join(a.printJSON(result), err)
	}
	return err
}

// applyProposals applies Exposures, then waits for them; what fails does not stop the others.
func (a *app) applyProposals(ctx context.Context, c expose.Cluster, namespace string, all []expose.Proposal, wait time.Duration) ([]appliedExposure, error) {
	var done []appliedExposure
	var failed []error
	for _, p := range all {
		if p.Exposure == nil {
			continue
		}
		one := appliedExposure{Name: nameOf(p.Exposure)}
		var err error
		if len(p.Against) > 0 {
			err = fmt.Errorf("the Exposure %s is not applied: %s", one.Name, strings.Join(p.Against, "; "))
		} else {
			err = expose.Apply(ctx, c, p.Exposure)
		}
		if err != nil {
			one.Error = err.Error()
			failed = append(failed, err)
		}
		done = append(done, one)
	}
	begun := time.Now()
	for i := range done {
		if done[i].Error != "" || wait == 0 {
			continue
		}
		e, err := expose.Await(ctx, c, namespace, done[i].Name, max(0, wait-time.Since(begun)), nil)
		if ctx.Err() != nil {
			return done, errors.Join(append(failed, ctx.Err())...)
		}
		done[i].Ready = err == nil
		if err != nil {
			done[i].Error = err.Error()
			failed = append(failed, err)
		}
		done[i].Address, done[i].Balancers, done[i].Conditions = e.Status.Address, e.Status.LoadBalancers, e.Status.Conditions
	}
	if a.output == outputTable {
		return done, errors.Join(append(failed, a.printApplied(done))...)
	}
	return done, errors.Join(failed...)
}

// nameOf is a manifest's name.
func nameOf(manifest map[string]any) string {
	m, _ := manifest["metadata"].(map[string]any)
	name, _ := m["name"].(string)
	return name
}

func (a *app) printApplied(all []appliedExposure) error {
	if len(all) == 0 {
		a.printf("nothing was applied")
	}
	for _, x := range all {
		switch {
		case x.Ready:
			a.printf("%s Exposure %s is ready: %s", a.out.green("applied"), x.Name, a.out.bold(x.Address))
		case x.Error == "":
			a.printf("%s Exposure %s", a.out.green("applied"), x.Name)
		case len(x.Conditions) > 0:
			a.printf("%s Exposure %s, which is not ready", a.out.yellow("applied"), x.Name)
		}
		if len(x.Conditions) == 0 {
			continue
		}
		t := &table{wrap: map[int]bool{3: true}}
		for _, c := range x.Conditions {
			paint := a.out.green
			if c.Status != metav1.ConditionTrue {
				paint = a.out.yellow
			}
			t.add(plain("  "+c.Type), cell{text: string(c.Status), paint: paint}, plain(c.Reason), plain(c.Message))
		}
		if err := a.printTable(t); err != nil {
			return err
		}
	}
	return nil
}

// printProposals prints what workloads would get, and then how that differs from what is there.
func (a *app) printProposals(all []expose.Proposal) error {
	t := &table{head: []string{"WORKLOAD", "EXPOSURE", "VISIBILITY", "HOSTS", "CHANGE", "ADDRESS"}, wrap: map[int]bool{5: true}}
	for _, p := range all {
		if p.Exposure == nil {
			t.add(plain(p.Workload), plain("none"), plain(""), plain(""), plain(""), cell{text: p.Why, paint: a.out.dim})
			continue
		}
		spec, _ := p.Exposure["spec"].(map[string]any)
		t.add(plain(p.Workload), plain(nameOf(p.Exposure)), plain(fmt.Sprint(spec["visibility"])), plain(hostsOf(spec)), cell{text: string(p.Change), paint: a.paintChange(p.Change)}, plain(p.Address))
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	for _, p := range all {
		a.printAgainst(p.Diff, p.Against)
		for _, n := range p.Notes {
			a.printf("%s %s: %s", a.out.yellow("note:"), p.Workload, n)
		}
		for _, o := range p.Objects {
			if o.Diff == "" {
				a.printf("%s/%s is as it should be", o.Kind, o.Name)
			}
			a.printAgainst(o.Diff, o.Against)
		}
	}
	return nil
}

func hostsOf(spec map[string]any) string {
	all, _ := spec["hosts"].([]any)
	var names []string
	for _, h := range all {
		names = append(names, fmt.Sprint(h))
	}
	return strings.Join(names, " ")
}

func (a *app) paintChange(c expose.Change) func(string) string {
	switch c {
	case expose.New:
		return a.out.green
	case expose.Changed:
		return a.out.yellow
	case expose.Same:
	}
	return a.out.dim
}

// printAgainst prints a diff, and what stands against it.
func (a *app) printAgainst(diff string, against []string) {
	for _, text := range against {
		a.printf("%s %s", a.out.red("against it:"), text)
	}
	if diff != "" {
		a.printf("%s", a.colouredDiff(diff))
	}
}

// colouredDiff paints a diff as people know it.
func (a *app) colouredDiff(diff string) string {
	lines := strings.Split(strings.TrimSuffix(diff, "\n"), "\n")
	for i, l := range lines {
		switch {
		case strings.HasPrefix(l, "+++"), strings.HasPrefix(l, "---"), strings.HasPrefix(l, "diff "):
			lines[i] = a.out.bold(l)
		case strings.HasPrefix(l, "+"):
			lines[i] = a.out.green(l)
		case strings.HasPrefix(l, "-"):
			lines[i] = a.out.red(l)
		case strings.HasPrefix(l, "@@"):
			lines[i] = a.out.dim(l)
		}
	}
	return strings.Join(lines, "\n")
}

// printManifests prints what would be applied, as kubectl takes it.
func (a *app) printManifests(all []expose.Proposal) error {
	for _, p := range all {
		documents := []map[string]any{}
		if p.Exposure != nil {
			documents = append(documents, p.Exposure)
		}
		for _, o := range p.Objects {
			documents = append(documents, o.Manifest)
		}
		for _, d := range documents {
			if err := a.printDocument(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// printDocument prints one manifest of several.
func (a *app) printDocument(manifest map[string]any) error {
	text, err := yaml.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("write the manifests: %w", err)
	}
	a.printf("---\n%s", strings.TrimSuffix(string(text), "\n"))
	return nil
}
