package kubernetes

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
	"dhow/internal/demo"
	"dhow/internal/demo/kube"
	"dhow/internal/demo/kube/crds"
	"dhow/internal/operator"
	"dhow/internal/operator/admit"
	"dhow/internal/operator/apitest"
	"dhow/internal/operator/install"
	"dhow/internal/operator/render"
	"dhow/internal/plan/plantest"
	"dhow/superapp/deploy"
	"dhow/superapp/fleet"
)

const (
	// goldenPlan is the plan of the old deployment for a cluster that has the operator.
	goldenPlan = "../../internal/plan/testdata/golden/exposures"
	// exposedWithin bounds each wait for something that the operator does.
	exposedWithin = 2 * time.Minute
	// planLabel is what pods are called by in the plan, ownLabel in the old deployment.
	planLabel, ownLabel = "app.kubernetes.io/name", "app"
)

// old is the old deployment in its cluster, on its way to what is planned for it.
type old struct {
	*testing.T
	client.Client
	ctx                      context.Context
	dhow, kubeconfig, reader string
	conf                     *rest.Config
	began                    time.Time
	// plan are the objects of the plan, with the labels of the pods that are there; policy is what
	// it tells the operator.
	plan   map[string]*unstructured.Unstructured
	policy []byte
}

// exposed: labelled for automatic exposure, told what the plan tells, and with what nobody but
// a person can mend mended, the old deployment becomes what the plan says, and nothing is
// found of how it is exposed and balanced.
func exposed(ctx context.Context, t *testing.T, programs string, mooring demo.Mooring, reader, image string) {
	o := newOld(ctx, t, programs, mooring, reader)
	o.step("the operator runs", func() { o.install(image) })
	o.play()
	o.step("each workload has an Exposure", o.label)
	o.step("what only a person can say is said", o.say)
	o.await("the API server has the operator complete a pod", o.completes)
	o.step("what only a person can mend is mended", o.mend)
	o.step("pods are replaced", o.replace)
	o.step("the Exposures are ready", o.ready)
	o.planned()
	o.found()
}

// newOld reads the plan, and lets load balancers be played in the cluster.
func newOld(ctx context.Context, t *testing.T, programs string, mooring demo.Mooring, reader string) *old {
	t.Helper()
	conf, err := clientcmd.BuildConfigFromFlags("", mooring.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	conf.QPS = -1
	scheme, err := operator.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	o := &old{T: t, ctx: ctx, conf: conf, began: time.Now(), dhow: filepath.Join(programs, "dhow"), kubeconfig: mooring.Kubeconfig, reader: reader}
	if o.Client, err = client.New(conf, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	var texts [][]byte
	for _, pattern := range []string{"manifests/*.yaml", "manifests/*/*.yaml"} {
		files, err := filepath.Glob(filepath.Join(goldenPlan, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			// Whom a Service and a policy select, the old deployment's pods say by another label.
			texts = append(texts, bytes.ReplaceAll(o.read(f), []byte(planLabel), []byte(ownLabel)))
		}
	}
	o.plan = plantest.Objects(t, texts...)
	o.policy = o.read(filepath.Join(goldenPlan, "operator-policy.yaml"))
	return o
}

// step does something, and tells how long it took.
func (o *old) step(what string, do func()) {
	o.Helper()
	do()
	o.Logf("%s after %.0f s", what, time.Since(o.began).Seconds())
}

func (o *old) read(path string) []byte {
	o.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		o.Fatal(err)
	}
	return text
}

func (o *old) apply(manifests []byte) {
	o.Helper()
	if err := kube.Apply(o.ctx, o.kubeconfig, manifests); err != nil {
		o.Fatal(err)
	}
}

// await looks again until nothing is missing.
func (o *old) await(what string, missing func() error) {
	o.Helper()
	for end := time.Now().Add(exposedWithin); ; time.Sleep(200 * time.Millisecond) {
		err := missing()
		if err == nil {
			return
		}
		if time.Now().After(end) || o.ctx.Err() != nil {
			o.Fatalf("%s: %v", what, err)
		}
	}
}

// change patches an object.
func (o *old) change(version, kind, name string, as types.PatchType, patch string) {
	o.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.FromAPIVersionAndKind(version, kind))
	u.SetName(name)
	if kind != "Namespace" {
		u.SetNamespace(deploy.Namespace)
	}
	if err := o.Patch(o.ctx, u, client.RawPatch(as, []byte(patch)), client.FieldOwner("kubectl")); err != nil {
		o.Fatalf("change %s %s: %v", kind, name, err)
	}
}

// install puts the operator into the cluster, and the kinds that it has on AWS.
func (o *old) install(image string) {
	kinds, err := crds.All(o.ctx, "")
	if err != nil {
		o.Fatal(err)
	}
	o.apply(kinds)
	all, err := demo.Operator(image, o.policy)
	if err != nil {
		o.Fatal(err)
	}
	o.apply(all)
	if _, err := kube.AwaitReady(o.ctx, o.kubeconfig, install.Namespace); err != nil {
		o.Fatal(err)
	}
}

// play lets load balancers be played until the test ends.
func (o *old) play() {
	playing, end := context.WithCancel(o.ctx)
	apitest.PlayBalancers(playing, o, o.conf)
	o.Cleanup(end) // comes before they are waited for
}

// run runs dhow expose in the deployment's namespace.
func (o *old) run(args ...string) ([]byte, error) {
	cmd := exec.CommandContext(o.ctx, o.dhow, append([]string{"expose", "--kubeconfig", o.kubeconfig, "-n", deploy.Namespace, "-o", "json"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("dhow expose %s: %w: %s", strings.Join(args, " "), err, said.Bytes())
	}
	return out, nil
}

func (o *old) exposures() []v1alpha1.Exposure {
	o.Helper()
	all := &v1alpha1.ExposureList{}
	if err := o.List(o.ctx, all, client.InNamespace(deploy.Namespace)); err != nil {
		o.Fatal(err)
	}
	return all.Items
}

// label asks for automatic exposure, and for pods that are completed.
func (o *old) label() {
	if _, err := o.run("--label"); err != nil {
		o.Fatal(err)
	}
	o.change("v1", "Namespace", deploy.Namespace, types.MergePatchType, `{"metadata":{"labels":{"`+render.GuardLabel+`":"`+render.GuardOn+`"}}}`)
	o.await("each workload gets an Exposure, private, by its old Service", func() error {
		missing := map[string]bool{}
		for _, s := range fleet.Services() {
			missing[s.Name] = true
		}
		for _, e := range o.exposures() {
			if e.Labels[render.DeducedLabel] == "true" && e.Spec.Visibility == v1alpha1.Private && e.Spec.Service != nil && e.Spec.Service.Existing == e.Name && e.Spec.Workload.Name == e.Name {
				delete(missing, e.Name)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("missing: %v", slices.Sorted(maps.Keys(missing)))
		}
		return nil
	})
}

// say gives the Exposures what the plan's have beyond what can be deduced, as a person would:
// hosts, paths, callers and scaling, of which the old deployment's manifests say nothing or the
// wrong thing. And it lets the operator take over what has the name of what it makes: the
// Services that had a load balancer each, and an autoscaler that scales nothing.
func (o *old) say() {
	theirs := map[string]bool{}
	for _, e := range o.exposures() {
		theirs[e.Name] = true
	}
	said := map[string]map[string]any{
		fleet.Site: {},
		// The plan leaves it where it is: it gets what the Ingress says.
		fleet.Web: {"visibility": "public", "hosts": []string{"www.superapp.example"}, "paths": []map[string]string{{"path": "/app", "type": "Prefix"}}},
	}
	for _, u := range o.plan {
		if u.GetKind() != "Exposure" {
			continue
		}
		spec, _ := u.Object["spec"].(map[string]any)
		said[u.GetName()] = maps.Clone(spec)
	}
	for _, name := range slices.Sorted(maps.Keys(said)) {
		spec := said[name]
		if !theirs[name] {
			u := o.plan["Exposure "+deploy.Namespace+"/"+name].DeepCopy()
			if err := o.Create(o.ctx, u, client.FieldOwner("kubectl")); err != nil {
				o.Fatal(err)
			}
			continue
		}
		spec["adopt"], spec["service"] = true, nil
		text, err := json.Marshal(map[string]any{"spec": spec})
		if err != nil {
			o.Fatal(err)
		}
		o.change(v1alpha1.GroupVersion.String(), "Exposure", name, types.MergePatchType, string(text))
	}
}

func object(version, kind, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.FromAPIVersionAndKind(version, kind))
	u.SetNamespace(deploy.Namespace)
	u.SetName(name)
	return u
}

const (
	// ownPatch is the patch that the assessment writes itself, away that the object is deleted.
	ownPatch, away = "", "delete"
	// inPods, ofNodes and toNothing are why a person has to mend it.
	inPods    = "it stands in a pod template, which is its author's: the operator completes what is left out there, and changes nothing"
	ofNodes   = "which arguments and which files of its own a program reads nobody else can know"
	toNothing = "what leads nowhere, or to everything, can not be told from what is yet to come"
)

// chore is a finding, and what a person does about it.
type chore struct{ rule, kind, name, how, why string }

// byHand is what the operator leaves to a person, and how it is mended: by ownPatch, by being
// put away, or by a JSON patch.
//
//nolint:gochecknoglobals // a table
var byHand = []chore{
	{"host-network", "Deployment", fleet.FX, ownPatch, inPods},
	{"host-port", "Deployment", fleet.Cards, ownPatch, inPods},
	{"killed-at-once", "Deployment", fleet.Accounts, ownPatch, inPods},
	{"killed-at-once", "Deployment", fleet.Payments, ownPatch, inPods},
	{"node-by-address", "Deployment", fleet.Transfers, `[{"op":"replace","path":"/spec/template/spec/containers/0/args/5","value":"--fx-url=http://fx:8080"}]`, ofNodes},
	{"node-by-address", "Deployment", fleet.Web, `[{"op":"replace","path":"/spec/template/spec/containers/0/args/2","value":"--accounts-url=http://accounts:8080"},
		{"op":"replace","path":"/spec/template/spec/containers/0/args/3","value":"--payments-url=http://payments:8080"}]`, ofNodes},
	{"hand-kept-proxy", "ConfigMap", "nginx-conf", away, ofNodes},
	{"hand-kept-proxy", "ConfigMap", "nginx-conf-gw2", away, ofNodes},
	{"selects-several", "Service", "api", away, toNothing},
	{"selects-nothing", "Service", "payments-internal", away, toNothing},
	{"port-of-nothing", "Service", "cards-metrics", away, toNothing},
	{"ingress-to-nothing", "Ingress", "superapp", away, "its one path that leads anywhere is an Exposure's now, and an Ingress is nobody's but its author's"},
}

// mend mends what a person has to.
func (o *old) mend() {
	versions := map[string]string{"Deployment": "apps/v1", "ConfigMap": "v1", "Service": "v1", "Ingress": "networking.k8s.io/v1"}
	all := assess(o.ctx, o.T, o.dhow, "--kubeconfig", o.reader).all
	for _, x := range byHand {
		n := slices.IndexFunc(all, func(f finding) bool {
			return f.found() == found{x.rule, x.kind + "/" + deploy.Namespace + "/" + x.name}
		})
		switch {
		case n < 0:
			o.Errorf("%s of %s %s is not found, and left to a person because %s", x.rule, x.kind, x.name, x.why)
		case x.how == away:
			if err := o.Delete(o.ctx, object(versions[x.kind], x.kind, x.name)); err != nil {
				o.Fatal(err)
			}
		case x.how == ownPatch:
			if len(all[n].Patch) == 0 {
				o.Fatalf("the assessment has no patch of %v", all[n].found())
			}
			o.change(versions[x.kind], x.kind, x.name, types.StrategicMergePatchType, string(all[n].Patch))
		default:
			o.change(versions[x.kind], x.kind, x.name, types.JSONPatchType, x.how)
		}
	}
}

// replace rolls out what has not been, so that each pod is made anew and completed by the
// operator's webhook, and sees that it is.
func (o *old) replace() {
	for _, s := range fleet.Services() {
		if !slices.ContainsFunc(byHand, func(x chore) bool { return x.kind == "Deployment" && x.name == s.Name }) {
			if err := kube.Restart(o.ctx, o.kubeconfig, deploy.Namespace, s.Name); err != nil {
				o.Fatal(err)
			}
		}
	}
	if _, err := kube.AwaitReady(o.ctx, o.kubeconfig, deploy.Namespace); err != nil {
		o.Fatal(err)
	}
	o.completed()
}

// completes tries to make a pod as a ReplicaSet would.
func (o *old) completes() error {
	all := &corev1.PodList{}
	if err := o.List(o.ctx, all, client.InNamespace(deploy.Namespace), client.MatchingLabels{ownLabel: fleet.Site}); err != nil || len(all.Items) == 0 {
		return fmt.Errorf("no pod of the %s: %w", fleet.Site, err)
	}
	was := &all.Items[0]
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: was.Namespace, Name: was.Name + "-trial", Labels: was.Labels, OwnerReferences: was.OwnerReferences},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: fleet.Site, Image: was.Spec.Containers[0].Image, Ports: was.Spec.Containers[0].Ports}}}}
	if err := o.Create(o.ctx, p, client.DryRunAll); err != nil {
		return err
	}
	if p.Annotations[admit.SetNote] == "" {
		return errors.New("it was let in as it is")
	}
	return nil
}

// completed sees that each pod has what the plan gives its own.
func (o *old) completed() {
	pods := &corev1.PodList{}
	if err := o.List(o.ctx, pods, client.InNamespace(deploy.Namespace)); err != nil {
		o.Fatal(err)
	}
	seen := map[string]bool{}
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning {
			continue
		}
		name := p.Labels[ownLabel]
		seen[name] = true
		d := &appsv1.Deployment{}
		if u := o.plan["Deployment "+deploy.Namespace+"/"+cmp.Or(map[string]string{fleet.Site: fleet.Accounts, fleet.Web: fleet.Accounts}[name], name)]; u == nil {
			o.Errorf("pod %s is of no service", p.Name)
			continue
		} else if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, d); err != nil {
			o.Fatal(err)
		}
		want, c := d.Spec.Template.Spec, p.Spec.Containers[0]
		type what struct {
			PreStop    *corev1.Lifecycle
			Grace      *int64
			Asked      corev1.ProbeHandler
			Every, Out int32
			Spread     int
		}
		of := func(s *corev1.PodSpec, c *corev1.Container) what {
			w := what{PreStop: c.Lifecycle, Grace: s.TerminationGracePeriodSeconds, Spread: len(s.TopologySpreadConstraints)}
			if r := c.ReadinessProbe; r != nil {
				w.Asked, w.Every, w.Out = r.ProbeHandler, r.PeriodSeconds, r.FailureThreshold
				if h := w.Asked.HTTPGet; h != nil {
					h.Scheme = "" // the server's default
				}
			}
			return w
		}
		if diff := gocmp.Diff(of(&want, &want.Containers[0]), of(&p.Spec, &c)); diff != "" {
			o.Errorf("pod %s has other than what the plan's has:\n%s%s", p.Name, diff, p.Annotations[admit.SetNote])
		}
		var r admit.Report
		if err := json.Unmarshal([]byte(p.Annotations[admit.SetNote]), &r); err != nil || len(r.Set) == 0 || !slices.Contains(r.Exposures, name) {
			o.Errorf("pod %s does not say what was set: %q", p.Name, p.Annotations[admit.SetNote])
		}
	}
	if len(seen) != len(fleet.Services()) {
		o.Errorf("there are pods of %v", slices.Sorted(maps.Keys(seen)))
	}
}

// ready waits until the operator, the played balancers and Kubernetes say that all is well.
func (o *old) ready() {
	o.await("the Exposures are ready", func() error {
		var late []error
		for _, e := range o.exposures() {
			if c := meta.FindStatusCondition(e.Status.Conditions, v1alpha1.Ready); c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != e.Generation {
				text := "nothing"
				if c != nil {
					text = c.Reason + ": " + c.Message
				}
				late = append(late, fmt.Errorf("Exposure %s: %s", e.Name, text))
			}
		}
		return errors.Join(late...)
	})
}

// planned compares what the operator has made with what the plan says that it makes.
func (o *old) planned() {
	want := plantest.Made(o, o.plan, o.policy)
	have := map[string]*unstructured.Unstructured{}
	for _, e := range o.exposures() {
		for _, x := range e.Status.Objects {
			u := object(x.APIVersion, x.Kind, x.Name)
			if err := o.Get(o.ctx, client.ObjectKeyFromObject(u), u); err != nil {
				o.Errorf("%s %s of Exposure %s: %v", x.Kind, x.Name, e.Name, err)
				continue
			}
			have[x.Kind+" "+deploy.Namespace+"/"+x.Name] = u
		}
	}
	compared := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		got := have[name]
		if got == nil {
			o.Errorf("there is no %s", name)
			continue
		}
		compared++
		if diff := gocmp.Diff(plantest.Spec(o, want[name]), wanted(plantest.Spec(o, want[name]), plantest.Spec(o, got))); diff != "" {
			o.Errorf("%s differs:\n%s", name, diff)
		}
	}
	o.Logf("%d objects are as planned", compared)
	for name := range have {
		if want[name] == nil && !strings.HasSuffix(name, "/"+fleet.Web) && !strings.HasSuffix(name, "/"+fleet.Site) {
			o.Errorf("%s is made too", name)
		}
	}
}

// wanted is of what there is as much as is wanted: the API server fills in more.
func wanted(want, have any) any {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return have
		}
		some := map[string]any{}
		for k, v := range h {
			if x, ok := w[k]; ok {
				some[k] = wanted(x, v)
			}
		}
		return some
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			return have
		}
		some := make([]any, len(h))
		for i := range h {
			some[i] = wanted(w[i], h[i])
		}
		return some
	}
	return have
}

// found sees that the assessment of the cluster finds nothing of how it is exposed and balanced.
func (o *old) found() {
	a := assess(o.ctx, o.T, o.dhow, "--kubeconfig", o.reader)
	if a.partial || len(a.all) == 0 {
		o.Errorf("the cluster was not read: %v", a.problems)
	}
	for _, f := range a.all {
		if (f.Group == "exposure" || f.Group == "load-balancing") && f.Object.Namespace != "troubled" {
			o.Errorf("%v is found: %s", f.found(), f.Evidence)
		}
	}
}
