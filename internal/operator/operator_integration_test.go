package operator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/deploy"
	"dhow/internal/elb"
	"dhow/internal/operator/apitest"
	"dhow/internal/operator/expiry"
	"dhow/internal/operator/render"
)

// within bounds every wait of these tests.
const within = 2 * time.Minute

// bench is an API server with an operator at work.
type bench struct {
	testing.TB
	client.Client
	conf      *rest.Config
	ctx       context.Context
	balancers *apitest.Balancers
	policy    render.Policy
	writes    *writes
	stop      func()
	clock     *offset
	dial      expiry.Dial
	cloud     Balancers
	// root is the test that the operator's log belongs to, which outlives the steps.
	root testing.TB
}

// writes are the requests that change something.
type writes struct {
	mu  sync.Mutex
	all []string
}

func (w *writes) add(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

func (w *writes) since(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all[n:])
}

func (w *writes) count() int { return len(w.since(0)) }

// counted counts the requests of a client that change something.
type counted struct {
	next   http.RoundTripper
	writes *writes
}

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && !strings.Contains(r.URL.Path, "/events") && !strings.Contains(r.URL.Path, "/leases") {
		c.writes.add(r.Method + " " + r.URL.Path)
	}
	return c.next.RoundTrip(r)
}

// WrappedRoundTripper lets requests be given up.
func (c counted) WrappedRoundTripper() http.RoundTripper { return c.next }

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{TB: t, conf: apitest.Start(t, nil, append(apitest.Ours(t), apitest.Others(t)...)...), writes: &writes{}, clock: &offset{}, root: t}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	b.ctx = ctx
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	if b.Client, err = client.New(b.conf, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	b.policy = render.Policy{Name: "bank", Domain: "bank.example", Edge: []string{"10.0.0.0/22"}, Inner: []string{"10.0.0.0/16"}}.WithDefaults()
	for _, name := range []string{b.policy.Namespace, "superapp"} {
		b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	b.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: b.policy.Namespace, Name: render.OrphanReport}})
	b.rights()
	b.balancers = apitest.PlayBalancers(ctx, t, b.conf)
	b.start()
	t.Cleanup(func() { b.stop(); cancel() })
	return b
}

// account is who the operator is.
const account = "operator-under-test"

// rights gives the operator those of its own roles, and no others.
func (b *bench) rights() {
	b.Helper()
	text, err := deploy.Rights()
	if err != nil {
		b.Fatal(err)
	}
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), len(text))
	who := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: account}}
	for {
		o := &unstructured.Unstructured{}
		err := documents.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			b.Fatal(err)
		}
		if len(o.Object) == 0 {
			continue
		}
		b.create(o)
		named := metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace()}
		role := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: o.GetKind(), Name: o.GetName()}
		if o.GetKind() == "ClusterRole" {
			b.create(&rbacv1.ClusterRoleBinding{ObjectMeta: named, RoleRef: role, Subjects: who})
		} else {
			b.create(&rbacv1.RoleBinding{ObjectMeta: named, RoleRef: role, Subjects: who})
		}
	}
}

// start starts an operator; stop ends it.
func (b *bench) start() {
	b.Helper()
	conf := rest.CopyConfig(b.conf)
	conf.Impersonate = rest.ImpersonationConfig{UserName: account}
	conf.Wrap(func(next http.RoundTripper) http.RoundTripper { return counted{next, b.writes} })
	ctx, cancel := context.WithCancel(b.ctx)
	o := Options{Config: conf, Policy: b.policy, Now: b.clock.now, Dial: b.dial, Balancers: b.cloud, OrphansEvery: 100 * time.Millisecond, Log: slog.New(slog.NewTextHandler(b.root.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))}
	root := b.root
	var group sync.WaitGroup
	group.Go(func() {
		if err := Run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
			root.Error(err)
		}
	})
	b.stop = sync.OnceFunc(func() { cancel(); group.Wait() })
}

func (b *bench) create(o client.Object) {
	b.Helper()
	if err := b.Create(b.ctx, o); err != nil {
		b.Fatal(err)
	}
}

// Update writes an object as it is, whatever was written to it meanwhile.
func (b *bench) Update(ctx context.Context, o client.Object, opts ...client.UpdateOption) error {
	for {
		err := b.Client.Update(ctx, o, opts...)
		if !apierrors.IsConflict(err) {
			return err
		}
		now := o.DeepCopyObject().(client.Object)
		if err := b.Get(ctx, client.ObjectKeyFromObject(o), now); err != nil {
			return err
		}
		o.SetResourceVersion(now.GetResourceVersion())
	}
}

func (b *bench) get(o client.Object) {
	b.Helper()
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(o), o); err != nil {
		b.Fatal(err)
	}
}

// await waits for a condition, which is true when it returns "".
func (b *bench) await(what string, missing func() string) {
	b.Helper()
	deadline := time.Now().Add(within)
	for {
		text := missing()
		if text == "" {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s: %s", what, text)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// workload makes a Deployment with ready pods, as far as its status goes.
func (b *bench) workload(name string) *appsv1.Deployment {
	b.Helper()
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: name}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: name, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("http")}}}}}}}}}
	b.create(d)
	b.pods(d, 2)
	return d
}

func (b *bench) pods(d *appsv1.Deployment, n int32) {
	b.Helper()
	d.Status.Replicas, d.Status.ReadyReplicas, d.Status.AvailableReplicas = n, n, n
	if err := b.Status().Update(b.ctx, d); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) exposure(name string, change func(*v1alpha1.ExposureSpec)) *v1alpha1.Exposure {
	b.Helper()
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: name}, Spec: v1alpha1.ExposureSpec{Workload: v1alpha1.Workload{Kind: "Deployment", Name: name}, Visibility: v1alpha1.Private}}
	if change != nil {
		change(&e.Spec)
	}
	b.create(e)
	return e
}

// sees waits until the operator has seen what was done to namespaces, by one that is made
// after it: it sees one after the other, but a namespace beside another object at any time.
func (b *bench) sees(name string) {
	b.Helper()
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{render.ExposeLabel: render.ExposeAuto}}})
	labels := map[string]string{"app": name}
	b.create(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: name}, Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: name, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}}}}})
	b.await("an Exposure in the namespace "+name, func() string {
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: name, Name: name}, &v1alpha1.Exposure{}); err != nil {
			return err.Error()
		}
		return ""
	})
}

// is waits until a condition of an Exposure has that status and reason.
func (b *bench) is(e *v1alpha1.Exposure, kind string, status metav1.ConditionStatus, reason string) *metav1.Condition {
	b.Helper()
	var c *metav1.Condition
	b.await(fmt.Sprintf("%s of %s to be %s, %s", kind, e.Name, status, reason), func() string {
		b.get(e)
		if c = meta.FindStatusCondition(e.Status.Conditions, kind); c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != e.Generation {
			return fmt.Sprintf("conditions are %+v", e.Status.Conditions)
		}
		return ""
	})
	return c
}

func (b *bench) ready(e *v1alpha1.Exposure) {
	b.Helper()
	b.is(e, v1alpha1.Ready, metav1.ConditionTrue, "Serving")
}

// settled waits until nothing is written any more, and nothing looked at, for a while: who
// waits long for an answer may write once it is there.
func (b *bench) settled() {
	b.Helper()
	last, since := b.writes.count(), time.Now()
	b.await("the operator to come to rest", func() string {
		if now := b.writes.count(); now != last || b.works() {
			last, since = now, time.Now()
		}
		if time.Since(since) < time.Second {
			return "it still works"
		}
		return ""
	})
}

// works says whether a controller of the operator is at something.
func (b *bench) works() bool {
	b.Helper()
	workers, _ := b.gauge("controller_runtime_active_workers", "")
	return workers > 0
}

// gauge is the sum of a metric's figures that have a label of that value, "" for all of them;
// ok says that there are any.
func (b *bench) gauge(name, value string) (sum float64, ok bool) {
	b.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			mine := value == ""
			for _, l := range m.GetLabel() {
				mine = mine || l.GetValue() == value
			}
			if mine && f.GetName() == name {
				sum, ok = sum+m.GetGauge().GetValue(), true
			}
		}
	}
	return sum, ok
}

// TestOperator goes through the life of Exposures on a real API server, one after the other.
func TestOperator(t *testing.T) {
	b := newBench(t)
	step := func(name string, do func(b *bench)) {
		t.Run(name, func(t *testing.T) {
			mine := *b
			mine.TB = t
			do(&mine)
			b.stop = mine.stop
		})
	}
	step("an Exposure becomes ready", becomesReady)
	step("a resync and a restart write nothing", writesNothing)
	step("what was changed or deleted by hand is set right", healsHands)
	step("what an operator wrote that leads no more is set right", healsLateWrites)
	step("another program's fields are a conflict", fightsNobody)
	step("what others made is not taken over", adoptsNothing)
	step("an Exposure that is made again has what the one before it had", inherits)
	step("conditions follow the workload and AWS", follows)
	step("what is no longer wanted is removed", prunes)
	step("who claims what another has waits for it", waits)
	step("of two Exposures of one workload the older protects and scales it", protectsOnce)
	step("of two Exposures of one Service the older says how it is treated", treatsOnce)
	step("ports of connections have Gateways of their own", connections)
	step("a workload that comes later is waited for", comesLater)
	step("a calendar moves an Exposure's numbers", schedulesExposure)
	step("a calendar takes an autoscaler's numbers and gives them back", schedulesAutoscaler)
	step("a calendar gives a workload its pods, and none at night", schedulesWorkload)
	step("of two calendars one has the target", schedulesOnce)
	step("a calendar keeps no namespace from going", schedulesLetsGo)
	step("what containers take becomes what they should ask for", sizes)
	step("a certificate that ends is told", expires)
	step("what a revision began with is written down once", recordsImages)
	step("what nothing owns is found, and deleted", cleans)
	step("a namespace's workloads get Exposures by themselves", deduces)
}

// protectsOnce: pods that two budgets select can not be evicted at all, and two scalers fight.
func protectsOnce(b *bench) {
	b.workload("twins")
	scaled := func(s *v1alpha1.ExposureSpec) {
		s.Workload.Name, s.Service = "twins", &v1alpha1.Service{Name: "twins"}
		s.Visibility, s.Scaling = v1alpha1.None, &v1alpha1.Scaling{Max: 4, CPU: &v1alpha1.CPUTarget{Percent: ptr.To(int32(60))}}
	}
	elder := b.exposure("twins-a", scaled)
	// Exposures of the same second are told apart by their names.
	younger := b.exposure("twins-b", func(s *v1alpha1.ExposureSpec) { scaled(s); s.Service.Name = "twins-b" })
	once := func(e *v1alpha1.Exposure, other string) func() string {
		return func() string {
			budgets, scalers := &policyv1.PodDisruptionBudgetList{}, &autoscalingv2.HorizontalPodAutoscalerList{}
			if err := errors.Join(b.List(b.ctx, budgets, client.InNamespace("superapp")), b.List(b.ctx, scalers, client.InNamespace("superapp"))); err != nil {
				return err.Error()
			}
			var names []string
			for i := range budgets.Items {
				if strings.HasPrefix(budgets.Items[i].Name, "twins") && budgets.Items[i].Name != other {
					names = append(names, "budget "+budgets.Items[i].Name)
				}
			}
			for i := range scalers.Items {
				if strings.HasPrefix(scalers.Items[i].Name, "twins") && scalers.Items[i].Name != other {
					names = append(names, "scaler "+scalers.Items[i].Name)
				}
			}
			if want := []string{"budget " + e.Name, "scaler " + e.Name}; !slices.Equal(names, want) {
				return fmt.Sprintf("there are %q: want %q", names, want)
			}
			return ""
		}
	}
	b.await("the older one's budget and scaler alone", once(elder, ""))
	b.await("the younger one to say so", func() string {
		b.get(younger)
		text := strings.Join(younger.Status.Notes, " ")
		if !strings.Contains(text, "PodDisruptionBudget twins-a of Exposure twins-a covers its pods already") || !strings.Contains(text, "HorizontalPodAutoscaler twins-a of Exposure twins-a scales the workload already") {
			return fmt.Sprintf("it notes %q", younger.Status.Notes)
		}
		return ""
	})
	b.settled()
	if text := once(elder, "")(); text != "" {
		b.Error(text)
	}
	if err := b.Delete(b.ctx, elder); err != nil {
		b.Fatal(err)
	}
	// What the elder made is the garbage collector's, which is not here.
	b.await("the younger one to take over", once(younger, elder.Name))
	b.settled()
	if text := once(younger, elder.Name)(); text != "" {
		b.Error(text)
	}
}

// treatsOnce: AWS's controller takes one word for a Service, which equal Exposures share.
func treatsOnce(b *bench) {
	b.workload("both")
	elder := b.exposure("both", func(s *v1alpha1.ExposureSpec) {
		s.Visibility, s.Hosts, s.Health = v1alpha1.Public, []v1alpha1.Host{"both.example.com"}, &v1alpha1.Health{Path: "/well"}
	})
	b.ready(elder)
	younger := b.exposure("both-private", func(s *v1alpha1.ExposureSpec) {
		s.Workload.Name, s.Service, s.Health = "both", &v1alpha1.Service{Existing: "both"}, &v1alpha1.Health{Path: "/well"}
	})
	b.ready(younger)
	treat := func(names ...string) func() string {
		return func() string {
			all := &unstructured.UnstructuredList{}
			all.SetGroupVersionKind(schema.FromAPIVersionAndKind(elb.ControlAPI, elb.TargetGroupKind+"List"))
			if err := b.List(b.ctx, all, client.InNamespace("superapp")); err != nil {
				return err.Error()
			}
			var have []string
			for i := range all.Items {
				if service, _, _ := unstructured.NestedString(all.Items[i].Object, "spec", "targetReference", "name"); service == "both" {
					have = append(have, all.Items[i].GetName())
				}
			}
			if !slices.Equal(have, names) {
				return fmt.Sprintf("there are %q: want %q", have, names)
			}
			return ""
		}
	}
	if text := treat("both")(); text != "" {
		b.Error(text)
	}
	if text := strings.Join(younger.Status.Notes, " "); !strings.Contains(text, "said by Exposure both already") {
		b.Errorf("it notes %q", text)
	}
	younger.Spec.Health.Path = "/"
	if err := b.Update(b.ctx, younger); err != nil {
		b.Fatal(err)
	}
	if c := b.is(younger, v1alpha1.Accepted, metav1.ConditionFalse, "Taken"); !strings.Contains(c.Message, "how load balancers treat Service both is what Exposure superapp/both has") {
		b.Errorf("got %q", c.Message)
	}
	if err := b.Delete(b.ctx, elder); err != nil {
		b.Fatal(err)
	}
	// What the elder made is the garbage collector's, which is not here.
	b.await("the younger one to take over", treat("both", "both-private"))
	b.ready(younger)
}

func becomesReady(b *bench) {
	b.workload("cart")
	e := b.exposure("cart", nil)
	b.ready(e)
	if e.Status.Address != "https://cart.internal.bank.example" || e.Status.Replicas != 2 || e.Status.Selector != "app=cart" || e.Status.Workload != "Deployment/cart" {
		b.Errorf("got %+v: want its address, replicas, selector and workload", e.Status)
	}
	if len(e.Status.LoadBalancers) != 1 || e.Status.LoadBalancers[0] != "private.elb.example" {
		b.Errorf("got load balancers %v", e.Status.LoadBalancers)
	}
	if len(e.Status.Settings) == 0 || len(e.Status.Notes) == 0 {
		b.Error("want the settings with their reasons, and notes")
	}
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	b.get(s)
	if o := metav1.GetControllerOf(s); o == nil || o.UID != e.UID || ptr.Deref(o.BlockOwnerDeletion, true) {
		b.Errorf("got owner %+v: want the Exposure, and that it blocks nothing", o)
	}
	if len(e.Finalizers)+len(s.Finalizers) > 0 {
		b.Errorf("finalizers: want none")
	}
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "superapp"}}
	b.get(space)
	if space.Labels[elb.ReadinessLabel] != enabled {
		b.Errorf("got labels %v: want new pods to wait for the load balancer", space.Labels)
	}
}

func writesNothing(b *bench) {
	b.settled()
	before := b.writes.count()
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	b.get(e)
	version := e.ResourceVersion
	// An annotation wakes the operator, and changes nothing of what is wanted.
	e.Annotations = map[string]string{"example.com/touched": "yes"}
	if err := b.Update(b.ctx, e); err != nil {
		b.Fatal(err)
	}
	b.settled()
	if now := b.writes.count(); now != before {
		b.Errorf("%d writes, %q: want none", now-before, b.writes.since(before))
	}
	b.stop()
	b.start()
	b.await("the new operator to have looked", func() string {
		if b.writes.count() == before {
			return "it has not yet applied what Exposures share"
		}
		return ""
	})
	b.settled()
	// What Exposures share is applied once after a start, and that changes nothing either.
	if now := b.writes.count() - before; now > 4 {
		b.Errorf("%d writes after a restart, %q: want those of the Gateway alone", now, b.writes.since(before))
	}
	b.get(e)
	if e.ResourceVersion == version {
		b.Error("want the annotation")
	}
}

func healsHands(b *bench) {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	b.get(s)
	s.Spec.Ports[0].TargetPort = intstr.FromInt32(9)
	if err := b.Update(b.ctx, s, client.FieldOwner("kubectl-edit")); err != nil {
		b.Fatal(err)
	}
	b.await("the port", func() string {
		if b.get(s); s.Spec.Ports[0].TargetPort != intstr.FromString("http") {
			return "is " + s.Spec.Ports[0].TargetPort.String()
		}
		return ""
	})
	for _, o := range []client.Object{&corev1.Service{}, &networkingv1.NetworkPolicy{}, &policyv1.PodDisruptionBudget{}, &gatewayv1.HTTPRoute{}} {
		o.SetNamespace("superapp")
		o.SetName("cart")
		b.get(o)
		was := o.GetUID()
		if err := b.Delete(b.ctx, o); err != nil {
			b.Fatal(err)
		}
		b.await(fmt.Sprintf("%T to come back", o), func() string {
			if err := b.Get(b.ctx, client.ObjectKey{Namespace: "superapp", Name: "cart"}, o); err != nil || o.GetUID() == was {
				return fmt.Sprint(err)
			}
			return ""
		})
	}
	// A label that is taken away hides an object from the operator's cache, not from it.
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	b.get(p)
	p.Labels = nil
	if err := b.Update(b.ctx, p, client.FieldOwner("kubectl-edit")); err != nil {
		b.Fatal(err)
	}
	b.await("the label", func() string {
		if b.get(p); p.Labels[render.ExposureLabel] != "cart" {
			return "is gone"
		}
		return ""
	})
	g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: b.policy.Namespace, Name: "private"}}
	b.get(g)
	was := g.UID
	if err := b.Delete(b.ctx, g); err != nil {
		b.Fatal(err)
	}
	b.await("the Gateway to come back", func() string {
		if err := b.Get(b.ctx, client.ObjectKeyFromObject(g), g); err != nil || g.UID == was {
			return fmt.Sprint(err)
		}
		return ""
	})
	b.ready(&v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}})
}

// healsLateWrites: a request of an operator that has lost its lease may come late. It sets the
// same fields as the same manager, but not as they should be now.
func healsLateWrites(b *bench) {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	b.get(s)
	late, err := applycorev1.ExtractService(s, render.Manager)
	if err != nil {
		b.Fatal(err)
	}
	late.Spec.Ports[0].TargetPort = ptr.To(intstr.FromInt32(9))
	// What was written within one second is not told apart.
	b.await("another second", func() string {
		for _, m := range s.ManagedFields {
			if time.Since(m.Time.Time) < time.Second {
				return "it is the same"
			}
		}
		return ""
	})
	if err := b.Apply(b.ctx, late, client.FieldOwner(render.Manager)); err != nil {
		b.Fatal(err)
	}
	b.await("the port", func() string {
		if b.get(s); s.Spec.Ports[0].TargetPort != intstr.FromString("http") {
			return "is " + s.Spec.Ports[0].TargetPort.String()
		}
		return ""
	})
	b.settled()
}

func fightsNobody(b *bench) {
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	p := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	b.get(p)
	p.Spec.MaxUnavailable = ptr.To(intstr.FromInt32(5))
	if err := b.Update(b.ctx, p, client.FieldOwner("argocd")); err != nil {
		b.Fatal(err)
	}
	c := b.is(e, v1alpha1.Applied, metav1.ConditionFalse, reasonConflict)
	if !strings.Contains(c.Message, "argocd has set .spec.maxUnavailable") {
		b.Errorf("got %q: want who set what", c.Message)
	}
	b.is(e, v1alpha1.Ready, metav1.ConditionFalse, reasonConflict)
	b.settled()
	if b.get(p); p.Spec.MaxUnavailable.IntValue() != 5 {
		b.Errorf("got %s: want the other program's", p.Spec.MaxUnavailable)
	}
	// Given up, it is the operator's again.
	if err := b.Delete(b.ctx, p); err != nil {
		b.Fatal(err)
	}
	b.ready(e)
}

func adoptsNothing(b *bench) {
	b.workload("user")
	mine := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "user"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "old", Port: 81}}}}
	b.create(mine)
	e := b.exposure("user", nil)
	c := b.is(e, v1alpha1.Applied, metav1.ConditionFalse, reasonNotOwned)
	if !strings.Contains(c.Message, "Service superapp/user is there already") {
		b.Errorf("got %q", c.Message)
	}
	b.settled()
	if b.get(mine); len(mine.Spec.Selector) > 0 || len(mine.OwnerReferences) > 0 {
		b.Errorf("it was changed: %+v", mine.Spec)
	}
	e.Spec.Adopt = true
	if err := b.Update(b.ctx, e); err != nil {
		b.Fatal(err)
	}
	b.ready(e)
	if b.get(mine); mine.Spec.Selector["app"] != "user" || metav1.GetControllerOf(mine) == nil {
		b.Errorf("got %+v: want it taken over", mine)
	}
}

func inherits(b *bench) {
	b.workload("again")
	first := b.exposure("again", nil)
	b.ready(first)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "again"}}
	b.get(service)
	id := service.UID
	if err := b.Delete(b.ctx, first); err != nil {
		b.Fatal(err)
	}
	// There is no garbage collector here, and in a cluster it may take a quarter of an hour.
	second := b.exposure("again", nil)
	b.ready(second)
	if b.get(service); service.UID != id || len(service.OwnerReferences) != 1 || service.OwnerReferences[0].UID != second.UID {
		b.Errorf("the Service is owned by %+v: want it as it was, and of the second Exposure alone", service.OwnerReferences)
	}
	b.settled()
}

func follows(b *bench) {
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	b.balancers.Say(b.ctx, b, route, "no certificate fits the host")
	if c := b.is(e, v1alpha1.Programmed, metav1.ConditionFalse, reasonRejected); !strings.Contains(c.Message, "no certificate fits the host") {
		b.Errorf("got %q: want what AWS's controller says", c.Message)
	}
	b.balancers.Say(b.ctx, b, route, "")
	b.ready(e)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	b.get(d)
	b.pods(d, 0)
	b.is(e, v1alpha1.Ready, metav1.ConditionFalse, "NoPods")
	b.pods(d, 1)
	b.ready(e)
	if e.Status.Replicas != 1 {
		b.Errorf("got %d replicas: want 1", e.Status.Replicas)
	}
	gateway := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: b.policy.Namespace, Name: "private"}}
	b.balancers.Say(b.ctx, b, gateway, "subnets have too few addresses")
	if c := b.is(e, v1alpha1.Programmed, metav1.ConditionFalse, reasonRejected); !strings.Contains(c.Message, "subnets have too few addresses") {
		b.Errorf("got %q: want what AWS's controller says", c.Message)
	}
	b.balancers.Say(b.ctx, b, gateway, "")
	b.ready(e)
	b.await("events", func() string {
		all := &corev1.EventList{}
		if err := b.List(b.ctx, all, client.InNamespace("superapp")); err != nil {
			return err.Error()
		}
		seen := map[string]bool{}
		for i := range all.Items {
			if all.Items[i].InvolvedObject.Name == "cart" {
				seen[all.Items[i].Reason+" "+all.Items[i].Type] = true
			}
		}
		for _, want := range []string{"Serving Normal", "Rejected Warning", "Conflict Warning"} {
			if !seen[want] {
				return fmt.Sprintf("there is no %q among %v", want, seen)
			}
		}
		return ""
	})
}

func prunes(b *bench) {
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	b.get(e)
	e.Spec.Visibility = v1alpha1.None
	if err := b.Update(b.ctx, e); err != nil {
		b.Fatal(err)
	}
	b.ready(e)
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(e), &gatewayv1.HTTPRoute{}); client.IgnoreNotFound(err) != nil || err == nil {
		b.Errorf("the route: %v: want it gone", err)
	}
	if e.Status.Address != "http://cart.superapp:8080" || len(e.Status.LoadBalancers) > 0 {
		b.Errorf("got %q, %v", e.Status.Address, e.Status.LoadBalancers)
	}
	e.Spec.Visibility = v1alpha1.Private
	if err := b.Update(b.ctx, e); err != nil {
		b.Fatal(err)
	}
	b.ready(e)
}

func waits(b *bench) {
	for _, name := range []string{"first", "second"} {
		b.workload(name)
	}
	public := func(s *v1alpha1.ExposureSpec) {
		s.Visibility, s.Hosts = v1alpha1.Public, []v1alpha1.Host{"shop.example.com"}
	}
	first := b.exposure("first", public)
	b.ready(first)
	time.Sleep(time.Second) // who is older is told by whole seconds
	second := b.exposure("second", public)
	if c := b.is(second, v1alpha1.Accepted, metav1.ConditionFalse, "Taken"); !strings.Contains(c.Message, "shop.example.com/ is what Exposure superapp/first has") {
		b.Errorf("got %q", c.Message)
	}
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(second), &corev1.Service{}); err == nil {
		b.Error("something was made of what is not accepted")
	}
	if err := b.Delete(b.ctx, first); err != nil {
		b.Fatal(err)
	}
	b.ready(second)
}

func connections(b *bench) {
	b.workload("ledger")
	e := b.exposure("ledger", func(s *v1alpha1.ExposureSpec) {
		s.Ports = []v1alpha1.Port{{Name: "pg", Port: 5432, TargetPort: ptr.To(intstr.FromString("http")), Protocol: v1alpha1.TCP}, {Name: "talk", Port: 5000, Protocol: v1alpha1.UDP}}
	})
	b.ready(e)
	if e.Status.Address != "tcp://ledger.internal.bank.example:5432" || len(e.Status.LoadBalancers) != 1 || e.Status.LoadBalancers[0] != "private-tcp.elb.example" {
		b.Errorf("got %q, %v", e.Status.Address, e.Status.LoadBalancers)
	}
	g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: b.policy.Namespace, Name: "private-tcp"}}
	if b.get(g); len(g.Spec.Listeners) != 2 || g.Spec.Listeners[0].Name != "udp-5000" || g.Spec.Listeners[1].Port != 5432 {
		b.Errorf("got listeners %+v", g.Spec.Listeners)
	}
}

func comesLater(b *bench) {
	e := b.exposure("late", nil)
	b.is(e, v1alpha1.Accepted, metav1.ConditionFalse, "WorkloadNotFound")
	b.workload("late")
	b.ready(e)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "late"}}
	if err := b.Delete(b.ctx, d); err != nil {
		b.Fatal(err)
	}
	b.is(e, v1alpha1.Accepted, metav1.ConditionFalse, "WorkloadNotFound")
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(e), &corev1.Service{}); err != nil {
		b.Errorf("the Service: %v: want it to stay until the workload is back", err)
	}
}

func deduces(b *bench) {
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "superapp"}}
	b.get(space)
	space.Labels[render.ExposeLabel] = render.ExposeAuto
	b.workload("loyalty")
	if err := b.Update(b.ctx, space); err != nil {
		b.Fatal(err)
	}
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "loyalty"}}
	b.await("the Exposure", func() string {
		if err := b.Get(b.ctx, client.ObjectKeyFromObject(e), e); err != nil {
			return err.Error()
		}
		return ""
	})
	b.ready(e)
	if e.Spec.Visibility != v1alpha1.Private || e.Spec.Workload.Name != "loyalty" || metav1.GetControllerOf(e) == nil {
		b.Errorf("got %+v of %v", e.Spec, e.OwnerReferences)
	}
	// What somebody says himself in it stays.
	e.Spec.Visibility = v1alpha1.None
	if err := b.Update(b.ctx, e, client.FieldOwner("kubectl-edit")); err != nil {
		b.Fatal(err)
	}
	b.ready(e)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "loyalty"}}
	b.get(d)
	d.Annotations = map[string]string{render.VisibilityNote: "private", render.HostsNote: "loyalty.example.com"}
	if err := b.Update(b.ctx, d); err != nil {
		b.Fatal(err)
	}
	b.settled()
	if b.get(e); e.Spec.Visibility != v1alpha1.None {
		b.Errorf("got %s: want what was set by hand", e.Spec.Visibility)
	}
	old := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "cart"}}
	if b.get(old); old.Labels[render.DeducedLabel] != "" {
		b.Error("an Exposure that somebody made was taken for a deduced one")
	}
}
