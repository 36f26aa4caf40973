package expose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
	"dhow/internal/operator"
	"dhow/internal/operator/apitest"
	"dhow/internal/operator/render"
)

// within bounds every wait of these tests.
const within = time.Minute

// bench is an API server with an operator at work, and AWS's controller played.
type bench struct {
	testing.TB
	client.Client
	conf      *rest.Config
	ctx       context.Context
	balancers *apitest.Balancers
	look      *operator.Look
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{TB: t, conf: apitest.Start(t, nil, append(apitest.Ours(t), apitest.Others(t)...)...)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	b.ctx = ctx
	scheme, err := operator.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	if b.Client, err = client.New(b.conf, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	policy := render.Policy{Name: "bank", Domain: "bank.example", Edge: []string{"10.0.0.0/22"}, Inner: []string{"10.0.0.0/16"}}
	for _, name := range []string{policy.WithDefaults().Namespace, "shop"} {
		b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	b.create(&networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Spec: networkingv1.IngressClassSpec{Controller: nginxController}})
	if b.look, err = operator.NewLook(ctx, b.conf, b.Client, policy); err != nil {
		t.Fatal(err)
	}
	b.balancers = apitest.PlayBalancers(ctx, t, b.conf)
	var group sync.WaitGroup
	group.Go(func() {
		log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
		if err := operator.Run(ctx, operator.Options{Config: b.conf, Policy: policy, Log: log}); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return b
}

func (b *bench) create(o client.Object) {
	b.Helper()
	if err := b.Create(b.ctx, o); err != nil {
		b.Fatal(err)
	}
}

func deployment(namespace, name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: name, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("http")}}}}}}}}}
}

// workload makes a Deployment with pods that serve, as far as its status goes, and a Service
// that leads to it.
func (b *bench) workload(name string, change func(*corev1.Service)) {
	b.Helper()
	d := deployment("shop", name)
	b.create(d)
	d.Status.Replicas, d.Status.ReadyReplicas, d.Status.AvailableReplicas = 2, 2, 2
	if err := b.Status().Update(b.ctx, d); err != nil {
		b.Fatal(err)
	}
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{Selector: d.Spec.Selector.MatchLabels, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}}}}
	if change != nil {
		change(s)
	}
	b.create(s)
}

// ingress makes an Ingress of nginx that leads to workloads, each by a path.
func (b *bench) ingress(name string, services ...string) *networkingv1.Ingress {
	b.Helper()
	host := name + ".shop.example"
	in := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Annotations: map[string]string{dnsPrefix + "ttl": "1s"}}, Spec: networkingv1.IngressSpec{IngressClassName: ptr.To("nginx"),
		TLS: []networkingv1.IngressTLS{{Hosts: []string{host}}}, Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{}}}}}}
	for _, s := range services {
		in.Spec.Rules[0].HTTP.Paths = append(in.Spec.Rules[0].HTTP.Paths, networkingv1.HTTPIngressPath{Path: "/" + s, PathType: ptr.To(networkingv1.PathTypePrefix),
			Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: s, Port: networkingv1.ServiceBackendPort{Name: "http"}}}})
	}
	b.create(in)
	return in
}

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

// options convert an Ingress as fast as it goes.
func (b *bench) options(name string) Options {
	return Options{From: FromIngress, Namespace: "shop", Name: name, Wish: Wish{Visibility: v1alpha1.Public}, Weights: []int{90, 50, 0}, Wait: within,
		Probe: func(_ context.Context, t Target) error {
			if t.Address == "" || t.Host == "" {
				return fmt.Errorf("ask %s: it is no place of requests", t)
			}
			return nil
		}}
}

// TestExpose goes through all of it on a real API server, one after the other.
func TestExpose(t *testing.T) {
	b := newBench(t)
	step := func(name string, do func(b *bench)) {
		t.Run(name, func(t *testing.T) {
			mine := *b
			mine.TB = t
			do(&mine)
		})
	}
	step("the API server takes every conversion", accepted)
	step("a workload is shown, applied and ready", applies)
	step("what the operator deduced gives way, what others set does not", givesWay)
	step("a namespace is labelled", turnsOn)
	step("an Ingress is converted", converts)
	step("a conversion is killed at every write", killed)
	step("a conversion is taken back, killed at every write", undone)
	step("weights go back where the new way is not well", fallsBack)
	step("a Service is converted by hand", byHand)
	step("what can not be is refused", refuses)
}

// accepted: the API server takes what each of the conversions becomes.
func accepted(b *bench) {
	for _, name := range sorted(conversions) {
		c, _ := converted(b, name)
		for _, e := range c.Exposures {
			u, err := plain(e)
			if err != nil {
				b.Fatal(err)
			}
			if err := b.Create(b.ctx, u, client.DryRunAll, client.FieldValidation("Strict")); err != nil {
				b.Errorf("%s: %v", name, err)
			}
		}
	}
}

func (b *bench) propose(w Want) []Proposal {
	b.Helper()
	w.Namespace = "shop"
	all, err := Propose(b.ctx, b.Client, b.look, w)
	if err != nil {
		b.Fatal(err)
	}
	return all
}

func applies(b *bench) {
	b.workload("cart", nil)
	all := b.propose(Want{Names: []string{"deploy/cart"}, Objects: true})
	if len(all) != 1 || all[0].Change != New || all[0].Workload != "Deployment/cart" || all[0].Address != "https://cart.internal.bank.example" || len(all[0].Against) > 0 {
		b.Fatalf("got %+v", all)
	}
	if !strings.Contains(all[0].Diff, "+  visibility: private\n") || !strings.Contains(all[0].Diff, "+    existing: cart\n") {
		b.Errorf("got the diff %s", all[0].Diff)
	}
	kinds := map[string]bool{}
	for _, o := range all[0].Objects {
		kinds[o.Kind] = true
		if o.Change != New || o.Diff == "" {
			b.Errorf("%s %s is %s: want it new, with what it has", o.Kind, o.Name, o.Change)
		}
	}
	for _, k := range []string{"HTTPRoute", "TargetGroupConfiguration", "NetworkPolicy", "PodDisruptionBudget", "Gateway", "LoadBalancerConfiguration", "GatewayClass"} {
		if !kinds[k] {
			b.Errorf("there is no %s among %v", k, kinds)
		}
	}
	if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: "cart"}, &v1alpha1.Exposure{}); !apierrors.IsNotFound(err) {
		b.Fatalf("the Exposure: %v: want that looking makes none", err)
	}
	if err := Apply(b.ctx, b.Client, all[0].Exposure); err != nil {
		b.Fatal(err)
	}
	heard := 0
	e, err := Await(b.ctx, b.Client, "shop", "cart", within, func(*v1alpha1.Exposure) { heard++ })
	if err != nil || e.Status.Address != "https://cart.internal.bank.example" || heard == 0 {
		b.Fatalf("got %v, %+v, heard %d times", err, e.Status, heard)
	}
	again := b.propose(Want{Names: []string{"cart"}, Objects: true})
	if again[0].Change != Same || again[0].Diff != "" {
		b.Errorf("got %s: %s", again[0].Change, again[0].Diff)
	}
	for _, o := range again[0].Objects {
		if o.Change != Same || len(o.Against) > 0 {
			b.Errorf("%s %s is %s: %s %q", o.Kind, o.Name, o.Change, o.Diff, o.Against)
		}
	}
	public := b.propose(Want{Names: []string{"cart"}, Visibility: v1alpha1.Public, Hosts: []string{"cart.example.com"}})
	if public[0].Change != Changed || !strings.Contains(public[0].Diff, "-  visibility: private\n") || !strings.Contains(public[0].Diff, "+  visibility: public\n") {
		b.Errorf("got %s: %s", public[0].Change, public[0].Diff)
	}
	if none := b.propose(Want{Names: []string{"cart"}, Visibility: v1alpha1.Public}); none[0].Exposure != nil || !strings.Contains(none[0].Why, "names no host") {
		b.Errorf("got %+v: want the operator's own reason", none[0])
	}
	for _, c := range []struct{ name, want string }{{"nobody", "it has deployment/cart"}, {"pod/cart", "no kind of workload"}} {
		_, err := Propose(b.ctx, b.Client, b.look, Want{Namespace: "shop", Names: []string{c.name}})
		var wrong *WrongError
		if !errors.As(err, &wrong) || !strings.Contains(wrong.Text, c.want) {
			b.Errorf("%s: got %v: want %q", c.name, err, c.want)
		}
	}
	if _, err := Propose(b.ctx, b.Client, b.look, Want{Namespace: "nowhere"}); err == nil || !strings.Contains(err.Error(), "there is no namespace nowhere") {
		b.Errorf("got %v", err)
	}
	_, err = Await(b.ctx, b.Client, "shop", "cart", within, nil)
	if err != nil {
		b.Error(err)
	}
}

func givesWay(b *bench) {
	e := &v1alpha1.Exposure{}
	at := client.ObjectKey{Namespace: "shop", Name: "cart"}
	if err := b.Get(b.ctx, at, e); err != nil {
		b.Fatal(err)
	}
	was := e.DeepCopy()
	e.Spec.Visibility = v1alpha1.None
	if err := b.Patch(b.ctx, e, client.MergeFrom(was), client.FieldOwner("argocd")); err != nil {
		b.Fatal(err)
	}
	p := b.propose(Want{Names: []string{"cart"}})[0]
	if len(p.Against) != 1 || !strings.Contains(p.Against[0], "argocd has set .spec.visibility") {
		b.Errorf("got %q: want who set what", p.Against)
	}
	if err := Apply(b.ctx, b.Client, p.Exposure); err == nil || !strings.Contains(err.Error(), "argocd has set .spec.visibility") {
		b.Errorf("got %v: want a conflict", err)
	}
	b.workload("loyalty", nil)
	b.create(&v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "by-somebody"}, Spec: v1alpha1.ExposureSpec{Workload: v1alpha1.Workload{Kind: "Deployment", Name: "loyalty"}, Visibility: v1alpha1.None}})
	if p := b.propose(Want{Names: []string{"loyalty"}})[0]; p.Exposure != nil || !strings.Contains(p.Why, "by-somebody") {
		b.Errorf("got %+v: want somebody's own left alone", p)
	}
}

func turnsOn(b *bench) {
	for _, already := range []bool{false, true} {
		got, err := TurnOn(b.ctx, b.Client, "shop")
		if err != nil || got != already {
			b.Fatalf("got %t, %v: want %t", got, err, already)
		}
	}
	b.workload("auto", nil)
	b.await("the deduced Exposure", func() string {
		e := &v1alpha1.Exposure{}
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: "auto"}, e); err != nil {
			return err.Error()
		}
		if e.Labels[render.DeducedLabel] == "" {
			return "it is not deduced"
		}
		return ""
	})
	// What the operator deduced is the same as what is shown, and gives way to a person.
	p := b.propose(Want{Names: []string{"auto"}, Visibility: v1alpha1.Public, Hosts: []string{"auto.example.com"}})[0]
	if p.Change != Changed || len(p.Against) > 0 {
		b.Fatalf("got %+v", p)
	}
	if same := b.propose(Want{Names: []string{"auto"}})[0]; same.Change != Same {
		b.Errorf("got the diff %s: want what the operator deduced", same.Diff)
	}
	if err := Apply(b.ctx, b.Client, p.Exposure); err != nil {
		b.Fatal(err)
	}
	if e, err := Await(b.ctx, b.Client, "shop", "auto", within, nil); err != nil || e.Spec.Visibility != v1alpha1.Public {
		b.Errorf("got %v, %+v", err, e.Spec)
	}
	space := &corev1.Namespace{}
	if err := b.Get(b.ctx, client.ObjectKey{Name: "shop"}, space); err != nil {
		b.Fatal(err)
	}
	was := space.DeepCopy()
	delete(space.Labels, render.ExposeLabel)
	if err := b.Patch(b.ctx, space, client.MergeFrom(was)); err != nil {
		b.Fatal(err)
	}
	// The operator sees one namespace after the other, but one beside a workload at any time: who
	// has seen the next one deduces nothing more in this one.
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "next", Labels: map[string]string{render.ExposeLabel: render.ExposeAuto}}})
	b.create(deployment("next", "next"))
	b.await("an Exposure in the next namespace", func() string {
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: "next", Name: "next"}, &v1alpha1.Exposure{}); err != nil {
			return err.Error()
		}
		return ""
	})
}

func (b *bench) route(name string) *gatewayv1.HTTPRoute {
	b.Helper()
	r := &gatewayv1.HTTPRoute{}
	if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: name}, r); err != nil {
		b.Fatal(err)
	}
	return r
}

func converts(b *bench) {
	b.workload("web", nil)
	b.workload("api", nil)
	in := b.ingress("mall", "web", "api")
	o := b.options("mall")
	p, err := Look(b.ctx, b.Client, b.look, o)
	if err != nil || len(p.Steps) != 5 || p.Step != StepMake || p.Steps[0].Done || !strings.Contains(p.Steps[0].Diff, "+  name: web-exposed\n") || !strings.Contains(p.Steps[0].Diff, "+  name: api-exposed\n") {
		b.Fatalf("got %+v, %v", p, err)
	}
	if all, err := p.Manifests(); err != nil || len(all) != 2 {
		b.Errorf("got %v, %v", all, err)
	}
	if all, err := exposures(b.ctx, b.Client, "shop"); err != nil || slices.ContainsFunc(all, func(e v1alpha1.Exposure) bool { return e.Annotations[FromNote] != "" }) {
		b.Fatalf("got %v, %v: want that looking makes nothing", all, err)
	}
	var told []string
	o.Tell = func(s Step, text string) { told = append(told, string(s)+" "+text) }
	if p, err = Run(b.ctx, b.Client, b.look, o); err != nil || p.Step != StepRemove || !strings.Contains(p.Next, "--remove ingress/mall") || p.Weight != 0 {
		b.Fatalf("got %+v, %v", p, err)
	}
	for _, want := range []string{"make made Exposure api-exposed beside Ingress/mall", "weigh weights are 100/0 of old/new", "weigh weights are 90/10 of old/new", "weigh weights are 0/100 of old/new"} {
		if !slices.Contains(told, want) {
			b.Errorf("there is no %q among %q", want, told)
		}
	}
	for _, name := range []string{"web-exposed", "api-exposed"} {
		notes := b.route(name).Annotations
		if notes[weightOfNote] != "100" || notes[identifierNote] != newIdentifier || notes[controllerNote] != "" || notes[dnsPrefix+"ttl"] != "1" {
			b.Errorf("got %v: want all of the weight, and the names told", notes)
		}
		policy := &networkingv1.NetworkPolicy{}
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: name + openSuffix}, policy); err != nil || len(policy.Spec.Ingress) != 1 || len(policy.Spec.Ingress[0].From) != 0 {
			b.Errorf("got %+v, %v: want pods as open as they were", policy.Spec, err)
		}
	}
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(in), in); err != nil || in.Annotations[weightOfNote] != "0" || in.Annotations[identifierNote] != oldIdentifier {
		b.Errorf("got %v, %v", in.Annotations, err)
	}
	for _, c := range []struct{ remove, want string }{{"ingress/other", "repeat just that"}, {"mall", "repeat just that"}} {
		o.Remove = c.remove
		if _, err := Run(b.ctx, b.Client, b.look, o); err == nil || !strings.Contains(err.Error(), c.want) {
			b.Errorf("--remove %s: got %v", c.remove, err)
		}
	}
	o.Remove, o.Wish = "ingress/mall", Wish{} // what was said before is not said again
	o.Leads = func(_ context.Context, name string, balancers []string) error {
		return fmt.Errorf("%s does not lead to %v", name, balancers)
	}
	o.Wait = 0
	if _, err := Run(b.ctx, b.Client, b.look, o); err == nil || !strings.Contains(err.Error(), "mall.shop.example does not lead to [public.elb.example]") {
		b.Errorf("got %v: want the old way left until names lead the new one", err)
	}
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(in), in); err != nil {
		b.Error(err)
	}
	o.Leads, o.Wait = func(context.Context, string, []string) error { return nil }, within
	if p, err = Run(b.ctx, b.Client, b.look, o); err != nil || p.Step != StepDone || len(p.Addresses) != 2 {
		b.Fatalf("got %+v, %v", p, err)
	}
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(in), in); !apierrors.IsNotFound(err) {
		b.Errorf("the Ingress: %v: want it gone", err)
	}
	if p, err = Run(b.ctx, b.Client, b.look, o); err != nil || p.Step != StepDone {
		b.Errorf("called again: got %+v, %v", p, err)
	}
	if _, err := Undo(b.ctx, b.Client, b.look, o); err == nil || !strings.Contains(err.Error(), "removed already") {
		b.Errorf("got %v: want that there is no way back", err)
	}
}

// errKilled is the end of a call in its middle.
var errKilled = errors.New("killed")

// mortal dies after so many writes, as a process does that is killed, and looks after each
// whether everybody is led somewhere.
type mortal struct {
	client.Client
	left   int
	writes int
	check  func(after string)
}

func (m *mortal) wrote(what string, dry bool, err error) error {
	if err != nil || dry {
		return err
	}
	m.writes++
	m.check(fmt.Sprintf("write %d, %s", m.writes, what))
	if m.left--; m.left == 0 {
		return errKilled
	}
	return nil
}

func (m *mortal) dead() error {
	if m.left <= 0 {
		return errKilled
	}
	return nil
}

func (m *mortal) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if err := m.dead(); err != nil {
		return err
	}
	return m.Client.Get(ctx, key, o, opts...)
}

func (m *mortal) Apply(ctx context.Context, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	if err := m.dead(); err != nil {
		return err
	}
	all := (&client.ApplyOptions{}).ApplyOptions(opts)
	return m.wrote("apply", len(all.DryRun) > 0, m.Client.Apply(ctx, o, opts...))
}

func (m *mortal) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	if err := m.dead(); err != nil {
		return err
	}
	return m.wrote("patch", false, m.Client.Patch(ctx, o, p, opts...))
}

func (m *mortal) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	if err := m.dead(); err != nil {
		return err
	}
	return m.wrote("delete "+o.GetName(), false, m.Client.Delete(ctx, o, opts...))
}

// led says whether names are led somewhere as external-dns would lead them: of one name there
// are two records only if both have identifiers, and some of the weights is above zero.
func (b *bench) led(name string) func(after string) {
	return func(after string) {
		in := &networkingv1.Ingress{}
		old := true
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: name}, in); apierrors.IsNotFound(err) {
			old = false
		} else if err != nil {
			b.Errorf("after %s: %v", after, err)
			return
		}
		r := &gatewayv1.HTTPRoute{}
		published := false
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: name + nameSuffix}, r); err == nil {
			// Without its Exposure the garbage collector, which is not here, has removed it.
			err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: name + nameSuffix}, &v1alpha1.Exposure{})
			published = err == nil && r.Annotations[controllerNote] == ""
		}
		weight := func(notes map[string]string) int {
			n, err := strconv.Atoi(notes[weightOfNote])
			if notes[identifierNote] == "" {
				return allWeight
			}
			if err != nil {
				b.Errorf("after %s: got the weight %q", after, notes[weightOfNote])
			}
			return n
		}
		switch {
		case !old && !published:
			b.Errorf("after %s: nobody is led anywhere", after)
		case old && published && (in.Annotations[identifierNote] == "" || r.Annotations[identifierNote] == ""):
			b.Errorf("after %s: both ways have a record, and not both an identifier: %v, %v", after, in.Annotations, r.Annotations)
		case old && published && weight(in.Annotations)+weight(r.Annotations) == 0:
			b.Errorf("after %s: no record has a weight", after)
		case old && !published && weight(in.Annotations) == 0:
			b.Errorf("after %s: the only record has no weight", after)
		}
	}
}

// killedEach does something with an Ingress once to its end, and then again and again side by
// side, each time with another that is begun first, killed after the first write, the second,
// and so on.
func (b *bench) killedEach(what string, least int, begin func(name string) error, do func(name string, m *mortal) error) {
	b.Helper()
	const most = 1000
	first := what + "-0"
	b.workload(first, nil)
	b.ingress(first, first)
	if err := begin(first); err != nil {
		b.Fatal(err)
	}
	m := &mortal{Client: b.Client, left: most, check: b.led(first)}
	if err := do(first, m); err != nil {
		b.Fatalf("not killed at all: %v", err)
	}
	if m.writes < least {
		b.Errorf("it has %d writes: want %d at least", m.writes, least)
	}
	b.Logf("it has %d writes", m.writes)
	var group errgroup.Group
	group.SetLimit(8) // as many as the operator works on at once
	for n := 1; n < m.writes; n++ {
		name := fmt.Sprintf("%s-%d", what, n)
		b.workload(name, nil)
		b.ingress(name, name)
		group.Go(func() error {
			if err := begin(name); err != nil {
				return err
			}
			if err := do(name, &mortal{Client: b.Client, left: n, check: b.led(name)}); !errors.Is(err, errKilled) {
				return fmt.Errorf("killed after write %d: got %w", n, err)
			}
			if err := do(name, &mortal{Client: b.Client, left: most, check: b.led(name)}); err != nil {
				return fmt.Errorf("killed after write %d, and called again: %w", n, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Error(err)
	}
}

// killed kills a conversion after each of its writes, and calls it again: it ends as one that
// nobody has killed.
func killed(b *bench) {
	b.killedEach("kill", 18, func(string) error { return nil }, func(name string, m *mortal) error {
		o := b.options(name)
		o.Remove, o.Weights = "ingress/"+name, []int{50, 0}
		e := &v1alpha1.Exposure{}
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: name + nameSuffix}, e); err == nil && e.Annotations[wishNote] != "" {
			o.Wish = Wish{} // what was written down is not said again
		}
		p, err := Run(b.ctx, m, b.look, o)
		if err != nil {
			return err
		}
		in, r := &networkingv1.Ingress{}, &gatewayv1.HTTPRoute{}
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: name}, in); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the Ingress: %w: want it gone", err)
		}
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: name + nameSuffix}, r); err != nil {
			return err
		}
		if notes := r.Annotations; p.Step != StepDone || notes[weightOfNote] != "100" || notes[controllerNote] != "" {
			return fmt.Errorf("it ends at %s, with %v", p.Step, notes)
		}
		return nil
	})
}

// undone takes a conversion back that stands at some weight, and kills that after each write.
func undone(b *bench) {
	begin := func(name string) error {
		o := b.options(name)
		o.Weights = []int{90, 50}
		p, err := Run(b.ctx, b.Client, b.look, o)
		if err == nil && (p.Weight != 50 || !strings.Contains(p.Next, "--weights")) {
			return fmt.Errorf("it stands at %+v", p)
		}
		return err
	}
	b.killedEach("undo", 8, begin, func(name string, m *mortal) error {
		if _, err := Undo(b.ctx, m, b.look, b.options(name)); err != nil && !strings.Contains(err.Error(), "nothing to take back") {
			return err
		}
		in := &networkingv1.Ingress{}
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: name}, in); err != nil {
			return err
		}
		if in.Annotations[weightOfNote] != "" || in.Annotations[identifierNote] != "" {
			return fmt.Errorf("got %v: want the Ingress as it was", in.Annotations)
		}
		for _, o := range []client.Object{&v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Name: name + nameSuffix}}, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name + nameSuffix}},
			&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name + nameSuffix + openSuffix}}} {
			if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: o.GetName()}, o); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%T %s: %w: want it gone", o, o.GetName(), err)
			}
		}
		return nil
	})
}

func fallsBack(b *bench) {
	b.workload("sick", nil)
	in := b.ingress("sick", "sick")
	o := b.options("sick")
	o.Every = time.Hour
	o.Tell = func(_ Step, text string) {
		if text == "weights are 90/10 of old/new" {
			b.balancers.Say(b.ctx, b, &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "sick-exposed"}}, "no certificate fits the host")
		}
	}
	_, err := Run(b.ctx, b.Client, b.look, o)
	if err == nil || !strings.Contains(err.Error(), "the weights are 100/0 of old/new again") {
		b.Fatalf("got %v: want the weights put back", err)
	}
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(in), in); err != nil || in.Annotations[weightOfNote] != "100" {
		b.Errorf("got %v, %v", in.Annotations, err)
	}
	if got := b.route("sick-exposed").Annotations[weightOfNote]; got != "0" {
		b.Errorf("the new way has the weight %q: want none", got)
	}
	b.balancers.Say(b.ctx, b, b.route("sick-exposed"), "")
	o.Tell, o.Every = nil, 0
	if p, err := Run(b.ctx, b.Client, b.look, o); err != nil || p.Weight != 0 {
		b.Errorf("mended, and called again: got %+v, %v", p, err)
	}
}

func byHand(b *bench) {
	b.workload("pg", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerSourceRanges = corev1.ServiceTypeLoadBalancer, []string{"10.0.0.0/8"}
		s.Spec.Ports = []corev1.ServicePort{{Name: "pg", Port: 5432, TargetPort: intstr.FromInt32(8080)}}
		s.Annotations = map[string]string{elb.NLBPrefix + "scheme": "internal", dnsPrefix + "ttl": "1s"}
	})
	o := Options{From: FromLoadBalancer, Namespace: "shop", Name: "pg", Weights: []int{50, 0}, Wait: within}
	_, err := Run(b.ctx, b.Client, b.look, o)
	var refused *RefusedError
	if !errors.As(err, &refused) || len(refused.Items) != 1 || refused.Items[0].Name != lostAddress {
		b.Fatalf("got %v: want what is lost", err)
	}
	o.Accept = []string{lostAddress}
	for _, want := range []string{"weight 50 to private-tcp.elb.example, and with weight 50", "weight 100 to private-tcp.elb.example, and with weight 0"} {
		p, err := Run(b.ctx, b.Client, b.look, o)
		if err != nil || !strings.Contains(p.Next, want) {
			b.Fatalf("got %+v, %v: want %q", p, err, want)
		}
	}
	traffic := 3.0
	o.Traffic = func(context.Context) (float64, error) { traffic--; return max(0, traffic), nil }
	p, err := Run(b.ctx, b.Client, b.look, o)
	if err != nil || p.Step != StepRemove || traffic > 0 {
		b.Fatalf("got %+v, %v, with %v requests a second", p, err, traffic)
	}
	o.Remove = "Service/pg"
	if p, err = Run(b.ctx, b.Client, b.look, o); err != nil || p.Step != StepDone {
		b.Fatalf("got %+v, %v", p, err)
	}
	s := &corev1.Service{}
	if err := b.Get(b.ctx, client.ObjectKey{Namespace: "shop", Name: "pg"}, s); err != nil || s.Spec.Type != corev1.ServiceTypeClusterIP || s.Spec.Ports[0].NodePort != 0 || len(s.Spec.LoadBalancerSourceRanges) > 0 || s.Annotations[elb.NLBPrefix+"scheme"] != "" {
		b.Errorf("got %+v, %v: want it for the inside of the cluster alone", s.Spec, err)
	}
	if p, err = Run(b.ctx, b.Client, b.look, o); err != nil || p.Step != StepDone {
		b.Errorf("called again: got %+v, %v", p, err)
	}
}

func refuses(b *bench) {
	b.workload("taken", nil)
	b.ingress("taken", "taken")
	b.create(&v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "theirs"}, Spec: v1alpha1.ExposureSpec{Workload: v1alpha1.Workload{Kind: "Deployment", Name: "taken"}, Visibility: v1alpha1.None}})
	if _, err := Run(b.ctx, b.Client, b.look, b.options("taken")); err == nil || !strings.Contains(err.Error(), "has the Exposure theirs already") {
		b.Errorf("got %v", err)
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{From: FromIngress, Name: "nothing"}, "there is no Ingress nothing"},
		{Options{From: FromNodePort, Name: "taken"}, "is of type ClusterIP, and no NodePort"},
		{Options{From: "route", Name: "taken"}, "can not be converted"},
		{Options{From: FromIngress, Name: "taken", Weights: []int{0, 50}}, "each smaller than the one before"},
	} {
		c.o.Namespace, c.o.Wait = "shop", within
		_, err := Run(b.ctx, b.Client, b.look, c.o)
		var wrong *WrongError
		if !errors.As(err, &wrong) || !strings.Contains(wrong.Text, c.want) {
			b.Errorf("%+v: got %v: want %q", c.o, err, c.want)
		}
	}
	b.workload("nodes", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	in := b.ingress("by-nodes", "nodes")
	was := in.DeepCopy()
	in.Spec.IngressClassName = ptr.To("alb")
	if err := b.Patch(b.ctx, in, client.MergeFrom(was)); err != nil {
		b.Fatal(err)
	}
	o := Options{From: FromNodePort, Namespace: "shop", Name: "nodes", Wait: within}
	if _, err := Run(b.ctx, b.Client, b.look, o); err == nil || !strings.Contains(err.Error(), "Ingress by-nodes leads to the Service nodes by the ports of nodes") {
		b.Errorf("got %v: want that an ALB needs the ports of nodes", err)
	}
	if _, err := Undo(b.ctx, b.Client, b.look, b.options("taken")); err == nil || !strings.Contains(err.Error(), "nothing to take back") {
		b.Errorf("got %v", err)
	}
}
