package operator

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
	"dhow/internal/operator/admit"
	"dhow/internal/operator/apitest"
	"dhow/internal/operator/certificate"
	"dhow/internal/operator/install"
	"dhow/internal/operator/render"
	"dhow/internal/process"
)

// gateBench is an API server into which the operator is installed, and two operators that
// answer it with the rights that they have there, and no others.
type gateBench struct {
	bench
	ports [2]*process.Port
	stops [2]func()
	// address leads to one of those that answer.
	address string
	logs    *logs
	pods    int
}

// logs are what the operators log, kept to be looked through.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
	next io.Writer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	return l.next.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newGateBench(t *testing.T) *gateBench {
	t.Helper()
	g := &gateBench{bench: bench{TB: t, conf: apitest.Start(t, nil, slices.Concat(apitest.Ours(t), apitest.Others(t), []*apiextensionsv1.CustomResourceDefinition{apitest.Rollouts()})...), writes: &writes{}, root: t}, logs: &logs{next: t.Output()}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	g.ctx = ctx
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	if g.Client, err = client.New(g.conf, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	g.policy = render.Policy{Name: "bank", Domain: "bank.example", Edge: []string{"10.0.0.0/22"}, Inner: []string{"10.0.0.0/16"}}.WithDefaults()
	for i := range g.ports {
		if g.ports[i], err = process.ReservePort(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.ports[i].Release)
	}
	g.address = forward(t, g.ports[:])
	g.install()
	guarded := map[string]string{render.GuardLabel: render.GuardOn}
	for name, labels := range map[string]map[string]string{"superapp": guarded, "elsewhere": nil, "auto": {render.GuardLabel: render.GuardOn, render.ExposeLabel: render.ExposeAuto}} {
		g.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	}
	g.balancers = apitest.PlayBalancers(ctx, t, g.conf)
	for i := range g.ports {
		g.begin(i)
	}
	t.Cleanup(func() {
		for _, stop := range g.stops {
			stop()
		}
		cancel()
	})
	return g
}

// answerWithin is the longest that Kubernetes lets a webhook take, in seconds: most steps demand an
// answer, and what becomes of those that wait longer for one is the API server's.
const answerWithin = 30

// install applies the one file, as kubectl does. There is no network of Services here, so that
// the API server calls the operators by an address.
func (g *gateBench) install() {
	g.Helper()
	objects, err := install.Objects()
	if err != nil {
		g.Fatal(err)
	}
	apply := func(o *unstructured.Unstructured, options ...client.ApplyOption) {
		g.Helper()
		options = append(options, client.FieldOwner("kubectl"))
		if err := g.Apply(g.ctx, client.ApplyConfigurationFromUnstructured(o), options...); err != nil {
			g.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
	for _, o := range objects {
		if o.GetKind() == "MutatingWebhookConfiguration" {
			apply(o.DeepCopy(), client.DryRunAll) // as it is
			hooks, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
			for i, path := range []string{admit.Path, admit.DigestsPath} {
				hook := hooks[i].(map[string]any)
				hook["clientConfig"], hook["timeoutSeconds"] = map[string]any{"url": "https://" + g.address + path}, int64(answerWithin)
			}
			if err := unstructured.SetNestedSlice(o.Object, hooks, "webhooks"); err != nil {
				g.Fatal(err)
			}
		}
		apply(o)
	}
}

// forward leads connections to the first port that takes them, as a Service leads to pods
// that are ready.
func forward(t *testing.T, ports []*process.Port) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	t.Cleanup(func() { l.Close(); group.Wait() })
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				for _, port := range ports {
					up, err := net.Dial("tcp", port.On("127.0.0.1"))
					if err != nil {
						continue
					}
					group.Go(func() { _, _ = io.Copy(up, c); up.Close() })
					_, _ = io.Copy(c, up)
					up.Close()
					return
				}
			})
		}
	})
	return l.Addr().String()
}

// account reaches the API server as an operator of the cluster does.
func (g *gateBench) account() *rest.Config {
	conf := rest.CopyConfig(g.conf)
	conf.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + install.Namespace + ":" + install.Name}
	return conf
}

// begin starts an operator with the rights of its account, and certificates that do not last. They
// settle for longer than the API server takes to hear of an authority.
func (g *gateBench) begin(i int) {
	conf := g.account()
	ctx, cancel := context.WithCancel(g.ctx)
	var group sync.WaitGroup
	group.Go(func() {
		o := Options{Config: conf, Policy: g.policy, LeaderElection: true, Log: slog.New(slog.NewTextHandler(g.logs, nil)).With("operator", i),
			Webhook: Webhook{Address: g.ports[i].On("127.0.0.1"), Hosts: []string{"127.0.0.1"}, Times: certificate.Times{Life: time.Hour, Renew: time.Second, Settle: 5 * time.Second, Look: 200 * time.Millisecond}}}
		if err := Run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
			g.root.Error(err)
		}
	})
	g.stops[i] = sync.OnceFunc(func() { cancel(); group.Wait() })
}

// pod is one as its ReplicaSet makes it.
func (g *gateBench) pod(namespace, workload string, change func(*corev1.Pod)) *corev1.Pod {
	g.pods++
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-5d9-%d", workload, g.pods), Labels: map[string]string{"app": workload, "pod-template-hash": "5d9"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: workload + "-5d9", UID: "0b1c", Controller: ptr.To(true)}}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: workload, Image: workload, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
	}
	if change != nil {
		change(p)
	}
	return p
}

// stored makes a pod, and is what the API server has stored.
func (g *gateBench) stored(p *corev1.Pod) *corev1.Pod {
	g.Helper()
	g.create(p)
	g.get(p)
	return p
}

// completes waits until pods of a workload are completed, and is the first that was.
func (g *gateBench) completes(namespace, workload string) *corev1.Pod {
	g.Helper()
	var p *corev1.Pod
	g.await("pods of "+workload+" to be completed", func() string {
		if p = g.stored(g.pod(namespace, workload, nil)); p.Annotations[admit.SetNote] == "" {
			return "one was let in as it was"
		}
		return ""
	})
	return p
}

// TestAdmission: a real API server asks two operators to complete pods.
func TestAdmission(t *testing.T) {
	g := newGateBench(t)
	step := func(name string, do func(g *gateBench)) {
		t.Run(name, func(t *testing.T) {
			mine := *g
			mine.TB = t
			do(&mine)
			g.pods, g.stops = mine.pods, mine.stops
		})
	}
	step("a pod gets what its Exposure's load balancer waits for", getsTimes)
	step("what the author has set stays", keepsOwn)
	step("pods elsewhere stay as they are", touchesNoOthers)
	step("the first pods of a workload that is exposed by itself", foresees)
	step("pods of a revision run what its first one ran", holdsImages)
	step("so do those of revisions beside each other, of whatever workload", holdsRevisions)
	step("the operator's own pods keep to the restricted standard", keepsStandard)
	step("the operator reads no Secrets but its own", readsNoOthers)
	step("the operator that works says so", tellsWhoLeads)
	step("what installs it can be applied again", appliesAgain)
	step("a certificate that changes is trusted all the time", changesCertificate)
	step("the operator that waits goes on alone", goesOn)
	step("without an operator pods are let in as they are", failsOpen)
	if log := g.logs.String(); strings.Contains(log, "PRIVATE KEY") {
		t.Error("a key is in the log")
	}
}

func getsTimes(g *gateBench) {
	g.workload("cart")
	e := g.exposure("cart", func(s *v1alpha1.ExposureSpec) {
		s.Routing = &v1alpha1.Routing{Timeouts: &v1alpha1.Timeouts{Request: &metav1.Duration{Duration: 40 * time.Second}}}
	})
	g.ready(e)
	p := g.completes("superapp", "cart")
	setting := func(name string) string {
		for _, s := range e.Status.Settings {
			if s.Name == name {
				return s.Value
			}
		}
		return ""
	}
	c := p.Spec.Containers[0]
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil || c.Lifecycle.PreStop.Sleep.Seconds != 50 || setting(render.PreStopSetting) != "50s" {
		g.Errorf("got %+v, and %q in the status: want a sleep of 50 s", c.Lifecycle, setting(render.PreStopSetting))
	}
	if grace := ptr.Deref(p.Spec.TerminationGracePeriodSeconds, 0); grace != 55 || setting(render.GraceSetting) != "55s" {
		g.Errorf("got a grace period of %d s, and %q in the status: want 55 s", grace, setting(render.GraceSetting))
	}
	if r := c.ReadinessProbe; r == nil || r.TCPSocket == nil || r.TCPSocket.Port != intstr.FromString("http") {
		g.Errorf("got %+v: want a probe of its port", r)
	}
	if len(p.Spec.TopologySpreadConstraints) != 2 {
		g.Errorf("got %+v: want it spread over zones and nodes", p.Spec.TopologySpreadConstraints)
	}
	for _, want := range []string{`"exposures":["cart"]`, "spec.containers[cart].lifecycle.preStop", "the slowest request of 40 s"} {
		if note := p.Annotations[admit.SetNote]; !strings.Contains(note, want) {
			g.Errorf("got the annotation %s: want %q", note, want)
		}
	}
	// The target group sends to a pod that leaves for no longer than the pod sleeps.
	for _, o := range e.Status.Objects {
		if o.Kind != elb.TargetGroupKind {
			continue
		}
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(schema.GroupVersionKind{Group: elb.ControlGroup, Version: elb.ControlVersion, Kind: o.Kind})
		u.SetNamespace("superapp")
		u.SetName(o.Name)
		g.get(u)
		attributes, _, _ := unstructured.NestedSlice(u.Object, "spec", "defaultConfiguration", "targetGroupAttributes")
		if text := fmt.Sprint(attributes); !strings.Contains(text, "map[key:deregistration_delay.timeout_seconds value:50]") {
			g.Errorf("got the target group's attributes %s: want a delay of 50 s", text)
		}
		return
	}
	g.Errorf("there is no target group among %+v", e.Status.Objects)
}

func keepsOwn(g *gateBench) {
	own := g.stored(g.pod("superapp", "cart", func(p *corev1.Pod) {
		p.Spec.TerminationGracePeriodSeconds = ptr.To(int64(12))
		p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/own", Port: intstr.FromInt32(8080)}}}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "proxy", Image: "proxy", Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"quit"}}}}})
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 3, TopologyKey: "rack", WhenUnsatisfiable: corev1.ScheduleAnyway}}
	}))
	if *own.Spec.TerminationGracePeriodSeconds != 12 || own.Spec.Containers[0].ReadinessProbe.HTTPGet.Path != "/own" || own.Spec.Containers[1].Lifecycle.PreStop.Exec == nil || len(own.Spec.TopologySpreadConstraints) != 1 {
		g.Errorf("got %+v: want what was set", own.Spec)
	}
	if l := own.Spec.Containers[0].Lifecycle; l == nil || l.PreStop.Sleep.Seconds != 7 {
		g.Errorf("got %+v: want a sleep that fits the grace period", l)
	}
	out := g.pod("superapp", "cart", func(p *corev1.Pod) { p.Labels[render.GuardLabel] = render.GuardOff })
	g.same(out, "a pod that is left out")
}

// same says that a pod is stored as the API server stores it without any operator.
func (g *gateBench) same(p *corev1.Pod, what string) {
	g.Helper()
	dry := p.DeepCopy()
	dry.Namespace = "default" // which nobody has opted in
	if err := g.Create(g.ctx, dry, client.DryRunAll); err != nil {
		g.Fatal(err)
	}
	have := g.stored(p)
	if d := cmp.Diff(dry.Spec, have.Spec); d != "" || have.Annotations[admit.SetNote] != "" {
		g.Errorf("%s was changed: -want +have:\n%s", what, d)
	}
}

func touchesNoOthers(g *gateBench) {
	// The same workload and Exposure, in a namespace that has not opted in.
	labels := map[string]string{"app": "cart"}
	g.create(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: "cart"}, Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "cart", Image: "cart", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}}}}})
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: "cart"}, Spec: v1alpha1.ExposureSpec{Workload: v1alpha1.Workload{Kind: "Deployment", Name: "cart"}, Visibility: v1alpha1.None}}
	g.create(e)
	g.is(e, v1alpha1.Accepted, metav1.ConditionTrue, "Accepted")
	g.same(g.pod("elsewhere", "cart", nil), "a pod of another namespace")
	// In a namespace that has, pods of no Exposure.
	g.same(g.pod("superapp", "nobody", nil), "a pod of no Exposure")
	// The label of the Exposure's pods alone does not make it one of them.
	g.same(g.pod("superapp", "cart", func(p *corev1.Pod) { p.Labels["app"] = "other" }), "a pod that the workload does not select")
	g.completes("superapp", "cart") // where the operators still do
}

func foresees(g *gateBench) {
	labels := map[string]string{"app": "loyalty"}
	g.create(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "auto", Name: "loyalty"}, Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "loyalty", Image: "loyalty", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}}}}})
	p := g.completes("auto", "loyalty")
	if !strings.Contains(p.Annotations[admit.SetNote], `"exposures":["loyalty"]`) {
		g.Errorf("got %s", p.Annotations[admit.SetNote])
	}
}

// keepsStandard: the operator's namespace takes no pods but restricted ones, and takes its own.
func keepsStandard(g *gateBench) {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: install.Namespace, Name: install.Name}}
	g.get(d)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: install.Namespace, Name: "one", Labels: d.Spec.Template.Labels}, Spec: d.Spec.Template.Spec}
	if err := g.Create(g.ctx, p.DeepCopy(), client.DryRunAll); err != nil {
		g.Error(err)
	}
	p.Spec.Containers[0].SecurityContext = nil
	if err := g.Create(g.ctx, p, client.DryRunAll); !apierrors.IsForbidden(err) {
		g.Errorf("got %v: want a pod without its restrictions refused", err)
	}
}

func readsNoOthers(g *gateBench) {
	c, err := client.New(g.account(), client.Options{})
	if err != nil {
		g.Fatal(err)
	}
	secret := func(namespace, name string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	own := secret(install.Namespace, certificate.Secret)
	if err := c.Get(g.ctx, client.ObjectKeyFromObject(own), own); err != nil {
		g.Errorf("its own Secret: %v", err)
	}
	hook := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "another"}}
	for what, err := range map[string]error{
		"another Secret of its namespace":      c.Get(g.ctx, client.ObjectKey{Namespace: install.Namespace, Name: "another"}, secret("", "")),
		"a Secret of that name of another one": c.Get(g.ctx, client.ObjectKey{Namespace: "superapp", Name: certificate.Secret}, secret("", "")),
		"all Secrets of its namespace":         c.List(g.ctx, &corev1.SecretList{}, client.InNamespace(install.Namespace)),
		"a new Secret":                         c.Create(g.ctx, secret(install.Namespace, "new")),
		"another's webhook":                    c.Get(g.ctx, client.ObjectKeyFromObject(hook), hook),
		"a new webhook":                        c.Create(g.ctx, hook.DeepCopy()),
		"its own webhook's removal":            c.Delete(g.ctx, &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: admit.Configuration}}),
	} {
		if !apierrors.IsForbidden(err) {
			g.Errorf("%s: got %v: want it forbidden", what, err)
		}
	}
}

// tellsWhoLeads: it has the right to its events, which nothing else would miss.
func tellsWhoLeads(g *gateBench) {
	g.await("an event of who leads", func() string {
		events := &corev1.EventList{}
		if err := g.List(g.ctx, events, client.InNamespace(install.Namespace)); err != nil {
			return err.Error()
		}
		for _, e := range events.Items {
			if e.Reason == "LeaderElection" && e.InvolvedObject.Name == install.Name {
				return ""
			}
		}
		return fmt.Sprintf("%d others", len(events.Items))
	})
}

// appliesAgain: nothing of what the operator has written into what installs it is in conflict
// with that, or lost by it.
func appliesAgain(g *gateBench) {
	objects, err := install.Objects()
	if err != nil {
		g.Fatal(err)
	}
	versions := func() map[string]string {
		all := map[string]string{}
		for _, o := range objects {
			have := &metav1.PartialObjectMetadata{}
			have.SetGroupVersionKind(o.GroupVersionKind())
			have.SetNamespace(o.GetNamespace())
			have.SetName(o.GetName())
			g.get(have)
			all[o.GetKind()+" "+o.GetName()] = have.ResourceVersion
		}
		// The operator changes both every few seconds here.
		delete(all, "Secret "+certificate.Secret)
		delete(all, "MutatingWebhookConfiguration "+admit.Configuration)
		return all
	}
	before := versions()
	g.install()
	if d := cmp.Diff(before, versions()); d != "" {
		g.Errorf("it was changed: -before +after:\n%s", d)
	}
	g.served(0) // is trusted
	if p := g.stored(g.pod("superapp", "cart", nil)); p.Annotations[admit.SetNote] == "" {
		g.Error("a pod was let in as it was")
	}
}

// trusted are the authorities that the API server is told to trust.
func (g *gateBench) trusted() *x509.CertPool {
	g.Helper()
	c := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: admit.Configuration}}
	g.get(c)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Webhooks[0].ClientConfig.CABundle)
	return roots
}

// served is the number of the certificate that an operator serves, which is trusted.
func (g *gateBench) served(i int) string {
	g.Helper()
	var serial string
	g.await("a certificate that is trusted", func() string {
		c, err := tls.Dial("tcp", g.ports[i].On("127.0.0.1"), &tls.Config{RootCAs: g.trusted(), ServerName: admit.Service + "." + install.Namespace + ".svc"})
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		serial = c.ConnectionState().PeerCertificates[0].SerialNumber.String()
		return ""
	})
	return serial
}

// keepsCompleting makes pods, each of which must be completed, until an operator has served so
// many further certificates.
func (g *gateBench) keepsCompleting(i, further int) {
	g.Helper()
	seen := map[string]bool{g.served(i): true}
	g.await(fmt.Sprintf("%d further certificates", further), func() string {
		if p := g.stored(g.pod("superapp", "cart", nil)); p.Annotations[admit.SetNote] == "" {
			g.Fatalf("%s was let in as it was, with %d certificates seen", p.Name, len(seen))
		}
		seen[g.served(i)] = true
		if len(seen) <= further {
			return fmt.Sprintf("%d seen", len(seen))
		}
		return ""
	})
}

func changesCertificate(g *gateBench) {
	for i := range g.ports {
		g.keepsCompleting(i, 2)
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: install.Namespace, Name: certificate.Secret}}
	g.get(s)
	if s.Type != corev1.SecretTypeOpaque || len(s.Data["tls.crt"]) == 0 || len(s.Data["ca.crt"]) == 0 {
		g.Errorf("got the Secret's keys %v", sortedKeys(s.Data))
	}
}

func goesOn(g *gateBench) {
	g.stops[0]()
	g.completes("superapp", "cart")
	g.keepsCompleting(1, 1)
}

func failsOpen(g *gateBench) {
	g.stops[1]()
	begun := time.Now()
	p := g.stored(g.pod("superapp", "cart", nil))
	if p.Annotations[admit.SetNote] != "" || p.Spec.Containers[0].Lifecycle != nil {
		g.Errorf("got %+v: want it as it was", p.Spec)
	}
	if took := time.Since(begun); took > 10*time.Second {
		g.Errorf("it took %s", took)
	}
	// Begun again, they complete pods again.
	g.begin(0)
	g.completes("superapp", "cart")
}
