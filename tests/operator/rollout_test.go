package operator

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"

	"dhow/api/v1alpha1"
	"dhow/internal/demo/kube"
	"dhow/internal/demo/kube/kubetest"
	"dhow/internal/elb"
	"dhow/internal/operator"
	"dhow/internal/operator/albtest"
	"dhow/internal/operator/apitest"
	"dhow/internal/operator/render"
	"dhow/superapp/images"
)

//nolint:gochecknoglobals // flags
var (
	rate     = flag.Int("rate", 1000, "requests a second during rollouts")
	rollouts = flag.Int("rollouts", 0, "rollouts that must lose no request; 0 is 1, or 20 with -whole, with which a pod is ended and the autoscaler takes some away too")
)

const (
	// setUpTime bounds the cluster's start with all that is put in it, rolloutTime one rollout.
	setUpTime, rolloutTime = 10 * time.Minute, 3 * time.Minute
	// callers send requests side by side; callTime bounds one.
	callers, callTime = 64, 10 * time.Second
	// calmly is how many answers must come before and behind whatever happens.
	calmly = 500
	// least is how many pods there are, most how many before some are taken away.
	least, most = 2, 4
	// port is the pods' own.
	port = 8080
)

// TestRollouts calls real pods on a real kubelet through a stand-in for an ALB, which reads
// what the operator made, while they are replaced in every way. With what the operator sets
// no request is lost. With less, some are: so the test can fail.
func TestRollouts(t *testing.T) {
	needsAlone(t)
	kubetest.Require(t, kube.Check)
	times, careless := form(*rollouts, 1, 20), form(0, 1, 3)
	ctx, cancel := context.WithTimeout(t.Context(), setUpTime+time.Duration(times+2*careless+4)*rolloutTime)
	defer cancel()
	h := newHarbour(ctx, t)
	// As the super-app was deployed: one pod, replaced after it has gone, with no time to leave.
	h.deploy("old", nil, func(d *appsv1.Deployment) {
		d.Spec.Replicas = ptr.To(int32(1))
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
		d.Spec.Template.Spec.TerminationGracePeriodSeconds = ptr.To(int64(1))
		d.Spec.Template.Spec.Containers[0].ReadinessProbe = nil
	})
	// Two pods with a readiness probe, and what Kubernetes does by itself.
	h.deploy("plain", nil, func(*appsv1.Deployment) {})
	h.deploy("cart", &v1alpha1.Scaling{Min: least, Max: most, CPU: &v1alpha1.CPUTarget{Average: ptr.To(resource.MustParse("2"))}, Calm: &metav1.Duration{Duration: 5 * time.Second}}, h.guard)
	for _, name := range []string{"old", "plain"} {
		h.call(name, func(s *stream) {
			h.rollOut(name, careless)
			if s.failed.Load() == 0 {
				t.Errorf("the deployment %s lost no request: without preStop and readiness gates it should", name)
			}
		})
	}
	type happening struct {
		what string
		do   func()
	}
	all := []happening{
		{fmt.Sprintf("rollouts: %d", times), func() { h.rollOut("cart", times) }},
		{"a node's drain", func() { h.drain("cart") }},
	}
	if *whole {
		all = append(all, happening{"a pod's end", func() { h.end("cart") }}, happening{"a scale-in by the HorizontalPodAutoscaler", func() { h.scaleIn("cart") }})
	}
	h.call("cart", func(s *stream) {
		for _, x := range all {
			answered, failed, began := s.answered.Load(), s.failed.Load(), time.Now()
			s.await(t)
			x.do()
			h.gone("cart")
			s.await(t)
			answered, failed = s.answered.Load()-answered, s.failed.Load()-failed
			t.Logf("%s: %d requests in %s, %.0f a second, %d failed, the latest was sent %s too late", x.what, answered+failed, time.Since(began).Round(time.Second),
				float64(answered+failed)/time.Since(began).Seconds(), failed, time.Duration(s.latest.Swap(0)).Round(time.Millisecond))
			if failed > 0 {
				t.Errorf("%s lost %d requests, the first: %s", x.what, failed, s.first())
			}
		}
	})
}

// harbour is a cluster with the operator at work, and a load balancer.
type harbour struct {
	*testing.T
	ctx      context.Context
	cluster  *kube.Local
	client   client.Client
	policy   render.Policy
	image    string
	balancer *albtest.Balancer
}

func newHarbour(ctx context.Context, t *testing.T) *harbour {
	t.Helper()
	if err := kube.Clean(ctx); err != nil { // what a test that was killed left
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "rollouts") // t.TempDir's are too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &harbour{T: t, ctx: ctx, policy: render.Policy{Name: "bank", Domain: "bank.example"}.WithDefaults()}
	if h.cluster, err = kube.Up(ctx, kube.Options{Name: "rollouts", Dir: filepath.Join(dir, "cluster")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.cluster.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	definitions, err := apitest.Definitions(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := kube.Apply(ctx, h.cluster.Kubeconfig(), definitions); err != nil {
		t.Fatal(err)
	}
	conf, err := clientcmd.BuildConfigFromFlags("", h.cluster.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	conf.QPS, conf.WarningHandler = -1, rest.NoWarnings{}
	scheme, err := operator.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	if h.client, err = client.New(conf, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	h.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: h.policy.Namespace}})
	h.image = h.serveImage()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	playing, stop := context.WithCancel(context.WithoutCancel(ctx))
	balancers, err := apitest.StartBalancers(playing, conf, log)
	if err != nil {
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); balancers.Wait() })
	if h.balancer, err = albtest.Start(playing, albtest.Options{Client: h.told(playing, conf, scheme), Gateway: types.NamespacedName{Namespace: h.policy.Namespace, Name: render.Scope{}.Name()}, Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); h.balancer.Wait() })
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("name: bank\ndomain: bank.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keep(t, dir, "operator", "operator", "--kubeconfig", h.cluster.Kubeconfig(), "--policy", policy, "-v")
	return h
}

// told is a client that reads what the API server tells, as a controller does, and does not
// ask for it each time.
func (h *harbour) told(ctx context.Context, conf *rest.Config, scheme *runtime.Scheme) client.Client {
	h.Helper()
	c, err := cluster.New(conf, func(o *cluster.Options) {
		o.Scheme, o.Client.Cache = scheme, &client.CacheOptions{Unstructured: true}
	})
	if err != nil {
		h.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	go func() { ended <- c.Start(ctx) }()
	h.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			h.Error(err)
		}
	})
	return c.GetClient()
}

// serveImage builds the pods' image, and serves it where the cluster can have it.
func (h *harbour) serveImage() string {
	h.Helper()
	built, err := images.Build(h.ctx, images.Options{}, images.Spec{Name: "serve", Package: "dhow/tests/operator/testdata/serve", Title: "serve", Port: port})
	if err != nil {
		h.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(h.ctx, "tcp", net.JoinHostPort(h.cluster.Host(), "0"))
	if err != nil {
		h.Fatal(err)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(h.ctx))
	served := make(chan error, 1)
	go func() { served <- images.Registry(serving, l, "") }()
	h.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			h.Error(err)
		}
	})
	refs, err := images.Push(h.ctx, images.Target{Prefix: l.Addr().String() + "/tests", Tag: "1", Insecure: true}, built...)
	if err != nil {
		h.Fatal(err)
	}
	if err := h.cluster.TrustRegistry(l.Addr().String()); err != nil {
		h.Fatal(err)
	}
	return refs["serve"]
}

func (h *harbour) create(o client.Object) {
	h.Helper()
	if err := h.client.Create(h.ctx, o); err != nil {
		h.Fatal(err)
	}
}

// await waits for a condition, which is true when it returns "".
func (h *harbour) await(what string, within time.Duration, missing func() string) {
	h.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(again) {
		text := missing()
		if text == "" {
			return
		}
		if time.Now().After(deadline) || h.ctx.Err() != nil {
			h.Fatalf("wait for %s: %s", what, text)
		}
	}
}

// deploy puts a workload into a namespace of its own, and exposes it. Its pods are changed
// before they are made.
func (h *harbour) deploy(name string, scaling *v1alpha1.Scaling, change func(*appsv1.Deployment)) {
	h.Helper()
	h.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	e := h.exposure(name)
	e.Spec.Scaling = scaling
	h.create(e)
	d := h.deployment(name)
	change(d)
	h.create(d)
}

// call lets something happen to a workload while clients call it.
func (h *harbour) call(name string, during func(*stream)) {
	h.Helper()
	e := h.exposure(name)
	h.await("the Exposure "+name, rolloutTime, func() string {
		if err := h.client.Get(h.ctx, client.ObjectKeyFromObject(e), e); err != nil {
			return err.Error()
		}
		if c := meta.FindStatusCondition(e.Status.Conditions, v1alpha1.Ready); c == nil || c.Status != metav1.ConditionTrue {
			return fmt.Sprintf("%+v", e.Status.Conditions)
		}
		return ""
	})
	space := &corev1.Namespace{}
	if err := h.client.Get(h.ctx, client.ObjectKey{Name: name}, space); err != nil {
		h.Fatal(err)
	}
	if space.Labels[elb.ReadinessLabel] != "enabled" {
		h.Errorf("namespace %s has the labels %v: want that for readiness gates", name, space.Labels)
	}
	s := newStream(h.balancer.Addresses(), e.Name+".internal."+h.policy.Domain)
	h.await("the load balancer to lead to "+name, rolloutTime, func() string {
		for range 2 * len(h.balancer.Addresses()) {
			if err := s.one(h.ctx); err != nil {
				return err.Error()
			}
		}
		return ""
	})
	s.start(h.ctx, *rate)
	defer s.stop()
	s.await(h.T)
	during(s)
	h.Logf("%s: %d requests answered, %d failed: %s", name, s.answered.Load(), s.failed.Load(), s.first())
}

// exposure is of a workload whose slowest request takes a second at most, so that the end of a
// pod is short.
func (h *harbour) exposure(name string) *v1alpha1.Exposure {
	return &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: name}, Spec: v1alpha1.ExposureSpec{Workload: v1alpha1.Workload{Kind: "Deployment", Name: name}, Visibility: v1alpha1.Private,
		Routing: &v1alpha1.Routing{Timeouts: &v1alpha1.Timeouts{Request: &metav1.Duration{Duration: time.Second}}}}}
}

func (h *harbour) deployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: name}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To(int32(least)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: h.image, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("http")}}, PeriodSeconds: 1},
			Resources:      corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")}}}}}}}}
}

// guard gives a Deployment what the operator says that its pods should have, and the
// readiness gate that AWS's controller gives to new pods of a labelled namespace. In a
// cluster both are done by admission.
func (h *harbour) guard(d *appsv1.Deployment) {
	h.Helper()
	w := workloadOf(d)
	w.Guarded = true
	cluster := render.Cluster{Gateway: true, GRPC: true, TCP: true, UDP: true, ControlVersion: elb.ControlVersion}
	out, err := render.Render(render.Input{Exposure: h.exposure(d.Name), Workload: w, Cluster: cluster, Policy: h.policy})
	if err != nil {
		h.Fatal(err)
	}
	h.Logf("%s: a preStop sleep of %d s, and a grace period of %d s", d.Name, out.Pod.PreStop, out.Pod.Grace)
	pod := &d.Spec.Template.Spec
	pod.TerminationGracePeriodSeconds = ptr.To(out.Pod.Grace)
	for i := range pod.Containers {
		pod.Containers[i].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: out.Pod.PreStop}}}
	}
	pod.ReadinessGates = []corev1.PodReadinessGate{albtest.Gate(d.Name)}
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: ptr.To(intstr.FromInt32(0)), MaxSurge: ptr.To(intstr.FromInt32(1))}}
}

// rollOut replaces all pods so many times.
func (h *harbour) rollOut(name string, times int) {
	h.Helper()
	for range times {
		if err := kube.Restart(h.ctx, h.cluster.Kubeconfig(), name, name); err != nil {
			h.Fatal(err)
		}
		h.ready(name)
	}
}

// ready waits until all pods are as they should be.
func (h *harbour) ready(name string) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, rolloutTime)
	defer cancel()
	if _, err := kube.AwaitReady(ctx, h.cluster.Kubeconfig(), name); err != nil {
		h.Fatal(err)
	}
}

// gone waits until there are no more pods than there are to be: those that were replaced go
// on serving while they end.
func (h *harbour) gone(name string) {
	h.Helper()
	h.await("the end of the pods", rolloutTime, func() string {
		all := &corev1.PodList{}
		if err := h.client.List(h.ctx, all, client.InNamespace(name)); err != nil {
			return err.Error()
		}
		if there := len(all.Items); there > least {
			return fmt.Sprintf("there are %d", there)
		}
		return ""
	})
}

func (h *harbour) pods(name string) []corev1.Pod {
	h.Helper()
	all := &corev1.PodList{}
	if err := h.client.List(h.ctx, all, client.InNamespace(name)); err != nil {
		h.Fatal(err)
	}
	var some []corev1.Pod
	for i := range all.Items {
		if all.Items[i].DeletionTimestamp == nil {
			some = append(some, all.Items[i])
		}
	}
	return some
}

// drain evicts all pods as the drain of their node does: each as soon as the
// PodDisruptionBudget allows. The node goes on taking pods, for there is no other.
func (h *harbour) drain(name string) {
	h.Helper()
	refused := 0
	for _, p := range h.pods(name) {
		h.await("the eviction of "+p.Name, rolloutTime, func() string {
			err := h.client.SubResource("eviction").Create(h.ctx, &p, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}})
			if err == nil || apierrors.IsNotFound(err) {
				return ""
			}
			if apierrors.IsTooManyRequests(err) {
				refused++
			}
			return err.Error()
		})
	}
	h.ready(name)
	if refused == 0 {
		h.Error("no eviction had to wait: want that the PodDisruptionBudget lets one pod go after the other")
	}
}

// end deletes a pod, with the time that it has to leave.
func (h *harbour) end(name string) {
	h.Helper()
	p := h.pods(name)[0]
	if err := h.client.Delete(h.ctx, &p); err != nil {
		h.Fatal(err)
	}
	h.ready(name)
}

// scaleIn makes more pods than are needed, of which the autoscaler takes some away.
func (h *harbour) scaleIn(name string) {
	h.Helper()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: name}}
	if err := h.client.Patch(h.ctx, d, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":`+strconv.Itoa(most)+`}}`))); err != nil {
		h.Fatal(err)
	}
	served := int32(0)
	h.await("the autoscaler to take pods away", rolloutTime, func() string {
		if err := h.client.Get(h.ctx, client.ObjectKeyFromObject(d), d); err != nil {
			return err.Error()
		}
		served = max(served, d.Status.AvailableReplicas)
		if *d.Spec.Replicas > least || d.Status.Replicas > least {
			return fmt.Sprintf("there are %d of %d", d.Status.Replicas, *d.Spec.Replicas)
		}
		return ""
	})
	h.ready(name)
	if served <= least {
		h.Errorf("at most %d pods served: want that some were taken away that did", served)
	}
}

// stream is clients that send requests at a rate, whatever comes of them.
type stream struct {
	addresses []string
	host      string
	http      *http.Client
	turn      atomic.Int64

	answered, failed atomic.Int64
	// latest is by how much, in nanoseconds, a request was sent after it was due, at most.
	latest  atomic.Int64
	end     context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	why     error
}

func newStream(addresses []string, host string) *stream {
	return &stream{addresses: addresses, host: host, http: &http.Client{Timeout: callTime, Transport: &http.Transport{MaxIdleConnsPerHost: callers}}}
}

// start sends requests at a rate a second until stop.
func (s *stream) start(ctx context.Context, rate int) {
	ctx, s.end = context.WithCancel(ctx)
	began := time.Now()
	for c := range callers {
		s.running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				due := began.Add(time.Duration(n*callers+c) * time.Second / time.Duration(rate))
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(due)):
				}
				if late := int64(time.Since(due)); late > s.latest.Load() {
					s.latest.Store(late)
				}
				err := s.one(ctx)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					s.failed.Add(1)
					s.mu.Lock()
					if s.why == nil {
						s.why = err
					}
					s.mu.Unlock()
				default:
					s.answered.Add(1)
				}
			}
		})
	}
}

// one sends a request by the next of the load balancer's nodes.
func (s *stream) one(ctx context.Context) error {
	node := s.addresses[s.turn.Add(1)%int64(len(s.addresses))]
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+node+"/orders", strings.NewReader("one"))
	if err != nil {
		return err
	}
	request.Host = s.host
	answer, err := s.http.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	const told = 300 // bytes of an answer that say why
	text, err := io.ReadAll(io.LimitReader(answer.Body, told))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s at %s: %s", answer.Status, time.Now().Format(time.TimeOnly), strings.TrimSpace(string(text)))
	}
	return nil
}

// await returns once some more requests were answered.
func (s *stream) await(t *testing.T) {
	t.Helper()
	until := s.answered.Load() + calmly
	for deadline := time.Now().Add(time.Minute); s.answered.Load() < until; time.Sleep(again) {
		if time.Now().After(deadline) {
			t.Fatalf("no answers: %s", s.first())
		}
	}
}

func (s *stream) stop() {
	s.end()
	s.running.Wait()
	s.http.CloseIdleConnections()
}

// first is why the first request failed.
func (s *stream) first() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		return "none failed"
	}
	return s.why.Error()
}
