package operator

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/admit"
	"dhow/internal/operator/certificate"
	"dhow/internal/operator/render"
)

const (
	// answerTime bounds an answer: the API server waits no longer than twice that, and lets the
	// pod in as it is.
	answerTime = time.Second
	// rolloutHash is Argo's label on the pods of a Rollout, as Kubernetes' own on a Deployment's.
	rolloutHash = "rollouts-pod-template-hash"
)

// Webhook says how pods are completed when they are made.
type Webhook struct {
	// Address is where the API server calls, as ":9443"; "" completes none.
	Address string
	// Hosts are names and addresses by which it is called beside those of the Service.
	Hosts []string
	// Times are its certificate's.
	Times certificate.Times
}

// gatekeeper answers the API server, also while the operator begins anew: until then it
// answers by what it knew before.
type gatekeeper struct {
	webhook Webhook
	store   *certificate.Store
	server  webhook.Server
	current atomic.Pointer[completer]
	group   sync.WaitGroup
	stop    context.CancelFunc
}

// keepGate serves until end is called. failed is called where it can not.
func keepGate(ctx context.Context, w Webhook, failed func(error)) (*gatekeeper, error) {
	host, text, err := net.SplitHostPort(w.Address)
	port, wrong := strconv.Atoi(text)
	if err != nil || wrong != nil || port < 1 || port > 65535 {
		return nil, fmt.Errorf("serve the webhook at %q: want an address as :9443", w.Address)
	}
	g := &gatekeeper{webhook: w, store: &certificate.Store{}}
	g.server = webhook.NewServer(webhook.Options{Host: host, Port: port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS13
		c.GetCertificate = g.store.Get
	}}})
	g.server.Register(admit.Path, &admission.Webhook{Handler: g.handler((*completer).complete, func(c *counters) prometheus.Counter { return c.completed })})
	g.server.Register(admit.DigestsPath, &admission.Webhook{Handler: g.handler((*completer).hold, func(c *counters) prometheus.Counter { return c.held })})
	// It answers until the controllers have ended.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.stop = stop
	g.group.Go(func() {
		if err := g.server.Start(serving); err != nil {
			failed(fmt.Errorf("serve the webhook at %s: %w", w.Address, err))
		}
	})
	return g, nil
}

// end stops serving, after what is being answered.
func (g *gatekeeper) end() {
	g.stop()
	g.group.Wait()
}

// ready says whether it can answer.
func (g *gatekeeper) ready(r *http.Request) error {
	if g.current.Load() == nil {
		return errors.New("the webhook does not know the cluster yet")
	}
	return g.server.StartedChecker()(r)
}

// handler changes a pod that is being made. Whatever fails, the pod is let in as it is.
func (g *gatekeeper) handler(change changing, done func(*counters) prometheus.Counter) admission.HandlerFunc {
	return func(ctx context.Context, r admission.Request) admission.Response {
		c := g.current.Load()
		if c == nil || r.Operation != admissionv1.Create || r.Kind.Kind != "Pod" || r.SubResource != "" {
			return admission.Allowed("")
		}
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		was, is, err := c.answer(ctx, r.Namespace, r.Object.Raw, change)
		if err != nil {
			c.count.letIn.Inc()
			c.log.Warn("a pod was let in as it is", "namespace", r.Namespace, "error", err)
			return admission.Allowed("")
		}
		if is == nil {
			return admission.Allowed("")
		}
		done(c.count).Inc()
		return admission.PatchResponseFromRaw(was, is)
	}
}

// register lets an operator answer: all of them do, the leader and those that wait.
func (g *gatekeeper) register(ctx context.Context, m manager.Manager, r *reconciler, log *slog.Logger) error {
	// Who does not lead has no controllers that would fill its cache.
	space := &metav1.PartialObjectMetadata{}
	space.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	needed := []client.Object{space, &appsv1.Deployment{}, &appsv1.StatefulSet{}, &corev1.Service{}, &v1alpha1.Exposure{}, &appsv1.ControllerRevision{}}
	if r.cluster.rollouts {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(rolloutKind)
		needed = append(needed, u)
	}
	for _, o := range needed {
		if _, err := m.GetCache().GetInformer(ctx, o); err != nil {
			return fmt.Errorf("fill the cache of the webhook: %w", err)
		}
	}
	namespace := r.policy.Namespace
	hosts := append([]string{admit.Service + "." + namespace + ".svc", admit.Service + "." + namespace + ".svc.cluster.local"}, g.webhook.Hosts...)
	news := &announcer{reader: m.GetAPIReader(), client: m.GetClient()}
	return errors.Join(
		m.AddReadyzCheck("webhook", g.ready),
		m.Add(&answering{gate: g, with: &completer{reconciler: r, log: log}}),
		m.Add(&certificate.Loader{Reader: m.GetAPIReader(), Namespace: namespace, Store: g.store, Times: g.webhook.Times, Log: log}),
		m.Add(&certificate.Keeper{Reader: m.GetAPIReader(), Writer: m.GetClient(), Namespace: namespace, Hosts: hosts, Times: g.webhook.Times, Announce: news.announce, Log: log}),
	)
}

// answering answers by a cache once that is filled, which is when it is started.
type answering struct {
	gate *gatekeeper
	with *completer
}

func (*answering) NeedLeaderElection() bool { return false }

func (a *answering) Start(ctx context.Context) error {
	a.gate.current.Store(a.with)
	<-ctx.Done()
	return nil
}

// announcer tells the API server which authorities to trust when it calls.
type announcer struct {
	reader client.Reader
	client client.Client
}

// announce writes them into the webhook's configuration, where they are not there yet.
func (a *announcer) announce(ctx context.Context, authorities []byte) error {
	have := &admissionregistrationv1.MutatingWebhookConfiguration{}
	err := a.reader.Get(ctx, client.ObjectKey{Name: admit.Configuration}, have)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no MutatingWebhookConfiguration %s: apply deploy/operator/install.yaml, which has it", admit.Configuration)
	}
	if err != nil {
		return fmt.Errorf("read the MutatingWebhookConfiguration %s: %w", admit.Configuration, err)
	}
	var hooks []any
	told, found := true, false
	for i := range have.Webhooks {
		// One that an older installation lacks can not be added: it would not be whole.
		w := &have.Webhooks[i]
		if w.Name != admit.Hook && w.Name != admit.DigestsHook {
			continue
		}
		found = found || w.Name == admit.Hook
		told = told && string(w.ClientConfig.CABundle) == string(authorities)
		hooks = append(hooks, map[string]any{"name": w.Name, "clientConfig": map[string]any{"caBundle": base64.StdEncoding.EncodeToString(authorities)}})
	}
	if !found {
		return fmt.Errorf("the MutatingWebhookConfiguration %s has no webhook %s: apply deploy/operator/install.yaml, which has it", admit.Configuration, admit.Hook)
	}
	if told {
		return nil
	}
	o := &unstructured.Unstructured{Object: map[string]any{"webhooks": hooks}}
	o.SetGroupVersionKind(admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"))
	o.SetName(admit.Configuration)
	// It is the operator's own: who else has set this has set what can not work.
	if err := a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(render.Manager), client.ForceOwnership); err != nil {
		return fmt.Errorf("write the authorities into the MutatingWebhookConfiguration %s: %w", admit.Configuration, err)
	}
	return nil
}

// completer completes pods by what the cache knows.
type completer struct {
	*reconciler
	log *slog.Logger
}

// changing changes a pod of a namespace, and says whether it did.
type changing func(c *completer, ctx context.Context, space *metav1.PartialObjectMetadata, pod *corev1.Pod) (bool, error)

// answer is a pod before and after a change, both written alike, so that nothing of it that
// this program does not know is lost between them; is is nil where nothing is to be done.
func (c *completer) answer(ctx context.Context, namespace string, raw []byte, change changing) (was, is []byte, err error) {
	space := &metav1.PartialObjectMetadata{}
	space.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := c.client.Get(ctx, client.ObjectKey{Name: namespace}, space); err != nil {
		return nil, nil, fmt.Errorf("read namespace %s: %w", namespace, err)
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(raw, pod); err != nil {
		return nil, nil, fmt.Errorf("read a pod of namespace %s: %w", namespace, err)
	}
	if was, err = json.Marshal(pod); err != nil {
		return nil, nil, fmt.Errorf("write a pod of namespace %s: %w", namespace, err)
	}
	changed, err := change(c, ctx, space, pod)
	if err != nil || !changed {
		return nil, nil, err
	}
	if is, err = json.Marshal(pod); err != nil {
		return nil, nil, fmt.Errorf("write a pod of namespace %s: %w", namespace, err)
	}
	return was, is, nil
}

// complete gives a pod what its Exposures need.
func (c *completer) complete(ctx context.Context, space *metav1.PartialObjectMetadata, pod *corev1.Pod) (bool, error) {
	// The API server asks for no others; but it is told by an object that somebody may change.
	if space.Labels[render.GuardLabel] != render.GuardOn || pod.Labels[render.GuardLabel] == render.GuardOff {
		return false, nil
	}
	needs, err := c.needs(ctx, space, pod)
	if err != nil || len(needs) == 0 {
		return false, err
	}
	return admit.Complete(pod, needs)
}

// hold lets a pod run the images with which its revision began.
func (c *completer) hold(ctx context.Context, space *metav1.PartialObjectMetadata, pod *corev1.Pod) (bool, error) {
	if space.Labels[admit.DigestsLabel] != admit.DigestsPin || pod.Labels[admit.DigestsLabel] == admit.DigestsOff {
		return false, nil
	}
	rev, ok := revisionOf(pod)
	if !ok {
		return false, nil
	}
	record, err := rev.read(ctx, c.client, space.Name)
	if err != nil || record == nil || record.Of != rev.of {
		return false, err
	}
	return admit.Hold(pod, *record, rev.String())
}

// needs are what the Exposures need that a pod belongs to.
func (c *completer) needs(ctx context.Context, space *metav1.PartialObjectMetadata, pod *corev1.Pod) ([]admit.Need, error) {
	kind, name := madeBy(pod)
	exposures, err := c.candidates(ctx, space.Name, kind, name)
	if err != nil {
		return nil, err
	}
	named := slices.ContainsFunc(exposures, func(e *v1alpha1.Exposure) bool { return e.Spec.Workload.Name != "" })
	if !named && space.Labels[render.ExposeLabel] == render.ExposeAuto {
		e, err := c.foreseen(ctx, space.Name, kind, name)
		if err != nil {
			return nil, err
		}
		if e != nil {
			exposures = append(exposures, e)
		}
	}
	var needs []admit.Need
	for _, e := range exposures {
		f, err := c.workload(ctx, e)
		if errors.Is(err, errNoWorkload) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if e.DeletionTimestamp != nil || len(f.Selector) == 0 || !labels.SelectorFromSet(f.Selector).Matches(labels.Set(pod.Labels)) {
			continue
		}
		in := render.Input{Exposure: e, Workload: f.Workload, Cluster: c.cluster.Cluster, Policy: c.policy}
		in.Workload.Guarded = true
		in.Workload.Grace = nil // what is needed, whatever it has
		if in.Ports, err = c.ports(ctx, e); err != nil {
			return nil, err
		}
		need, times, err := render.Pods(in)
		var wrong *render.WrongError
		if errors.As(err, &wrong) {
			continue // its status says so
		}
		if err != nil {
			return nil, err
		}
		needs = append(needs, admit.Need{Exposure: e.Name, Pod: need, Times: times})
	}
	return needs, nil
}

// madeBy is the workload that a pod is of, "" where it is none that could have an Exposure.
func madeBy(pod *corev1.Pod) (kind, name string) {
	o := metav1.GetControllerOf(pod)
	if o == nil {
		return "", ""
	}
	switch o.Kind {
	case "StatefulSet":
		return o.Kind, o.Name
	case "ReplicaSet":
		// A ReplicaSet is named by its Deployment or Rollout, and the hash of the pods' template.
		for _, by := range [][2]string{{rolloutHash, rolloutKind.Kind}, {appsv1.DefaultDeploymentUniqueLabelKey, "Deployment"}} {
			if hash := pod.Labels[by[0]]; hash != "" {
				if name, ok := strings.CutSuffix(o.Name, "-"+hash); ok {
					return by[1], name
				}
			}
		}
	}
	return "", ""
}

// candidates are the Exposures of a workload, and those that find pods by their labels.
func (c *completer) candidates(ctx context.Context, namespace, kind, name string) ([]*v1alpha1.Exposure, error) {
	keys := []string{"Deployment/", "StatefulSet/", rolloutKind.Kind + "/"}
	if name != "" {
		keys = append(keys, kind+"/"+name)
	}
	var all []*v1alpha1.Exposure
	for _, key := range keys {
		some := &v1alpha1.ExposureList{}
		if err := c.client.List(ctx, some, client.InNamespace(namespace), client.MatchingFields{workloadIndex: key}); err != nil {
			return nil, fmt.Errorf("list Exposures: %w", err)
		}
		for i := range some.Items {
			all = append(all, &some.Items[i])
		}
	}
	return all, nil
}

// foreseen is the Exposure that a workload gets by itself and may not have yet: its first
// pods are made as soon as it is. nil is none.
func (c *completer) foreseen(ctx context.Context, namespace, kind, name string) (*v1alpha1.Exposure, error) {
	var o client.Object
	switch kind {
	case "Deployment":
		o = &appsv1.Deployment{}
	case "StatefulSet":
		o = &appsv1.StatefulSet{}
	default:
		return nil, nil
	}
	if err := c.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, o); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	f, err := factsOf(o)
	if err != nil {
		return nil, nil //nolint:nilerr // it can not be exposed, which nobody asked for
	}
	spec, err := deduce(ctx, c.client, o, f, c.policy)
	if err != nil || spec == nil {
		return nil, err
	}
	return &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: *spec}, nil
}
