// Package operator is the controller of Exposures: it makes in a cluster what package
// render says that each takes, keeps it so, and tells in the Exposure's status what it did,
// why, and what AWS's own controller says. It talks to the API server alone: load balancers
// are the AWS Load Balancer Controller's to make. Only where it is told to look for those that
// nothing owns does it ask AWS, through Balancers.
//
// What it makes it applies on the server's side as the field manager dhow. It fights nobody:
// a field that another program has set is a conflict, which the status tells; what was
// changed by hand is set right. It takes over nothing that it did not make unless it is told
// to, and where everything is as it should be, it writes nothing.
package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/expiry"
	"dhow/internal/operator/render"
)

const (
	// leaseName is the lease by which one operator of several works.
	leaseName = "dhow-operator"
	// DefaultWorkers is how many Exposures are worked on at once.
	DefaultWorkers = 8
	// firstRetry and lastRetry are between attempts at an Exposure that fails.
	firstRetry, lastRetry = 100 * time.Millisecond, 5 * time.Minute
	// lookEvery is how often the operator looks whether the cluster has learned new kinds.
	lookEvery = time.Minute
	// stopTime bounds the end of what is being worked on.
	stopTime = 20 * time.Second
	// clientQPS and clientBurst are requests for objects of one kind to the API server, which
	// has limits of its own, as the workers are one of all kinds together: client-go's 5 a second
	// would make a thousand Exposures a matter of many minutes.
	clientQPS, clientBurst = 300, 600
	// workTime bounds the work on one object, with all of its requests: the client's own
	// bound would end watches too.
	workTime = 2 * time.Minute
)

// The rights that it takes, and no others.
//
//go:generate go tool controller-gen rbac:roleName=dhow-operator paths=. output:rbac:dir=../../deploy/operator
//
// +kubebuilder:rbac:groups=dhow.dev,resources=exposures,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=dhow.dev,resources=exposures/status,verbs=get;patch
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list
// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets,verbs=get;list;watch
// +kubebuilder:rbac:groups=argoproj.io,resources=rollouts,verbs=get;list;watch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies;ingresses,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=gateways;httproutes;grpcroutes;tcproutes;udproutes;gatewayclasses,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.k8s.aws,resources=loadbalancerconfigurations;targetgroupconfigurations;listenerruleconfigurations,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",namespace=dhow-system,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=dhow-system,resources=leases,verbs=get;create;update;patch
// +kubebuilder:rbac:groups="",namespace=dhow-system,resources=secrets,resourceNames=dhow-operator-webhook,verbs=get;update
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingwebhookconfigurations,resourceNames=dhow-operator,verbs=get;patch

// Options say how to run.
type Options struct {
	// Config reaches the API server.
	Config *rest.Config
	Policy render.Policy
	// LeaderElection lets one of several operators work.
	LeaderElection bool
	// Workers is how many Exposures are worked on at once, 0 for 8.
	Workers int
	// Metrics and Health are where those are served, as ":8080"; "" serves none.
	Metrics, Health string
	// KeepEmpty is for how long a shared Gateway stays that nobody asks for; 0 is ten minutes.
	KeepEmpty time.Duration
	// Balancers are looked at for orphans where the policy says so, and OrphansEvery how often;
	// 0 is ten minutes.
	Balancers    Balancers
	OrphansEvery time.Duration
	// Webhook completes pods when they are made.
	Webhook Webhook
	// Now tells calendars the time; nil is the machine's clock.
	Now func() time.Time
	// Dial connects to load balancers, to look at their certificates; nil connects to other
	// machines alone.
	Dial expiry.Dial
	Log  *slog.Logger
}

// Scheme are the kinds whose types the operator knows.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(s), gatewayv1.Install(s), metricsv1beta1.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		return nil, fmt.Errorf("learn the kinds: %w", err)
	}
	return s, nil
}

// errNewKinds says that the cluster has learned or forgotten kinds since the start.
var errNewKinds = errors.New("the cluster's kinds have changed")

// logTo lets what controller-runtime logs beside its managers go where the first operator of the
// process logs: it has one place for that, which two at once may not set.
//
//nolint:gochecknoglobals // what it guards is one
var logTo sync.Once

// Run works until ctx ends. Where the cluster learns kinds that matter, such as the Gateway
// API's, it begins anew by itself.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = expiry.Outside()
	}
	o.Policy = o.Policy.WithDefaults()
	if err := o.Policy.Check(); err != nil {
		return fmt.Errorf("the operator's policy: %w", err)
	}
	if o.Policy.Orphans != nil && o.Balancers == nil {
		return errors.New("look for orphans: nobody said how AWS is reached")
	}
	o.Config = rest.CopyConfig(o.Config)
	if o.Config.QPS == 0 {
		o.Config.QPS, o.Config.Burst = clientQPS, clientBurst
	}
	logTo.Do(func() { ctrl.SetLogger(logr.FromSlogHandler(o.Log.Handler())) })
	var gate *gatekeeper
	if o.Webhook.Address != "" {
		var fail context.CancelCauseFunc
		ctx, fail = context.WithCancelCause(ctx)
		defer fail(nil)
		var err error
		if gate, err = keepGate(ctx, o.Webhook, func(err error) { fail(&gateError{err}) }); err != nil {
			return err
		}
		defer gate.end()
	}
	err := runOn(ctx, o, gate)
	var broken *gateError
	if errors.As(context.Cause(ctx), &broken) {
		return broken.error
	}
	return err
}

// gateError says that the webhook could not be served.
type gateError struct{ error }

// runOn works until ctx ends, on whatever kinds the cluster has.
func runOn(ctx context.Context, o Options, gate *gatekeeper) error {
	count := newCounters()
	for {
		known, err := discover(ctx, o.Config)
		if err != nil {
			return err
		}
		o.Log.Info("the operator starts", "gateway", known.Gateway, "controller", known.ControlVersion, "rollouts", known.rollouts, "zones", known.Zones)
		err = runOnce(ctx, o, known, gate, count)
		if !errors.Is(err, errNewKinds) {
			return err
		}
		o.Log.Info("the cluster has other kinds than before: beginning anew")
	}
}

// runOnce works until ctx ends, or the cluster is another than known.
func runOnce(ctx context.Context, o Options, known cluster, gate *gatekeeper, count *counters) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	m, err := newManager(ctx, o, known, gate, count)
	if err != nil {
		return err
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now, err := discover(ctx, o.Config); err == nil && now != known {
				stop(errNewKinds)
			}
		}
	}()
	err = m.Start(ctx)
	stop(nil)
	<-watched
	if err != nil {
		return fmt.Errorf("run the operator: %w", err)
	}
	if errors.Is(context.Cause(ctx), errNewKinds) {
		return errNewKinds
	}
	return nil
}

func newManager(ctx context.Context, o Options, known cluster, gate *gatekeeper, count *counters) (manager.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	own, shared := kinds(known)
	off := func(address string) string {
		if address == "" {
			return "0"
		}
		return address
	}
	limit := stopTime
	m, err := manager.New(o.Config, manager.Options{Scheme: scheme, Cache: cacheOptions(shared), Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		Logger: logr.FromSlogHandler(o.Log.Handler()), LeaderElection: o.LeaderElection, LeaderElectionID: leaseName, LeaderElectionNamespace: o.Policy.Namespace, LeaderElectionReleaseOnCancel: true,
		Metrics: metricsserver.Options{BindAddress: off(o.Metrics)}, HealthProbeBindAddress: off(o.Health), GracefulShutdownTimeout: &limit,
		// Begun anew, a controller has the name that it had.
		Controller: config.Controller{SkipNameValidation: ptr.To(true), MaxConcurrentReconciles: max(1, workers(o))}})
	if err != nil {
		return nil, fmt.Errorf("make the operator: %w", err)
	}
	if err := errors.Join(m.AddHealthzCheck("ping", healthz.Ping), m.AddReadyzCheck("ping", healthz.Ping)); err != nil {
		return nil, fmt.Errorf("make the operator: %w", err)
	}
	if err := indexes(ctx, m, o.Policy); err != nil {
		return nil, fmt.Errorf("index the cache: %w", err)
	}
	wake := make(chan event.TypedGenericEvent[render.Scope], len(render.Scopes))
	asked := newDemands(func(s render.Scope) {
		select {
		case wake <- event.TypedGenericEvent[render.Scope]{Object: s}:
		case <-ctx.Done():
		}
	})
	apply := &applier{client: m.GetClient(), live: m.GetAPIReader()}
	r := &reconciler{client: m.GetClient(), apply: apply, events: m.GetEventRecorder(leaseName), cluster: known, policy: o.Policy, kinds: own, owned: newOwned(), demands: asked, count: count, guards: gate != nil}
	if err := r.register(m, shared, workers(o)); err != nil {
		return nil, err
	}
	if gate != nil {
		if err := gate.register(ctx, m, r, o.Log); err != nil {
			return nil, err
		}
	}
	for name, x := range map[string]struct {
		sample client.Object
		list   func() client.ObjectList
	}{"deployment": {&appsv1.Deployment{}, func() client.ObjectList { return &appsv1.DeploymentList{} }}, "statefulset": {&appsv1.StatefulSet{}, func() client.ObjectList { return &appsv1.StatefulSetList{} }}} {
		if err := registerDeduced(m, &deduceReconciler{client: m.GetClient(), events: r.events, policy: o.Policy, count: count, sample: x.sample}, name, x.list); err != nil {
			return nil, err
		}
	}
	if err := registerSized(m, &sizeReconciler{client: m.GetClient(), live: m.GetAPIReader(), events: r.events, count: count, now: o.Now, records: newRecords()}); err != nil {
		return nil, err
	}
	if err := registerExpiry(m, &expiryReconciler{client: m.GetClient(), events: r.events, count: count, policy: o.Policy, now: o.Now, dial: o.Dial, ends: expiryGauge()}); err != nil {
		return nil, err
	}
	if err := registerImages(m, &imageReconciler{client: m.GetClient(), live: m.GetAPIReader(), events: r.events, count: count, said: map[string]map[types.UID]string{},
		differ: gauges("pods_of_other_image", "Pods that run another image than their revision began with.", "namespace")}, known.rollouts); err != nil {
		return nil, err
	}
	if known.scheduled {
		if err := registerScaled(ctx, m, &scaleReconciler{client: m.GetClient(), live: m.GetAPIReader(), events: r.events, count: count, rollouts: known.rollouts, now: o.Now}); err != nil {
			return nil, err
		}
	}
	if o.Policy.Orphans != nil {
		if err := m.Add(newOrphanKeeper(m, o)); err != nil {
			return nil, fmt.Errorf("look for orphans: %w", err)
		}
	}
	keep := o.KeepEmpty
	if keep == 0 {
		keep = keepEmpty
	}
	if i := slices.IndexFunc(own, func(k kind) bool { return k.Kind == "HTTPRoute" }); i >= 0 && len(shared) > 0 {
		g := &gatewayReconciler{client: m.GetClient(), apply: apply, events: r.events, cluster: known, policy: o.Policy, kinds: append(slices.Clone(shared), own[i]), demands: asked, count: count, keepEmpty: keep, last: map[string]v1alpha1.Object{}}
		return m, g.register(m, wake)
	}
	// Nobody makes Gateways here, so somebody must hear what is asked of them.
	return m, m.Add(manager.RunnableFunc(func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-wake:
			}
		}
	}))
}

func workers(o Options) int {
	if o.Workers > 0 {
		return o.Workers
	}
	return DefaultWorkers
}

// indexes let Exposures be found by what they claim and name.
func indexes(ctx context.Context, m manager.Manager, p render.Policy) error {
	in := m.GetFieldIndexer()
	exposures := func(name string, of func(*v1alpha1.Exposure) []string) error {
		return in.IndexField(ctx, &v1alpha1.Exposure{}, name, func(o client.Object) []string {
			if e, ok := o.(*v1alpha1.Exposure); ok {
				return of(e)
			}
			return nil
		})
	}
	return errors.Join(
		exposures(claimIndex, func(e *v1alpha1.Exposure) []string {
			var keys []string
			for _, c := range render.Claims(e, p) {
				keys = append(keys, c.Key)
			}
			return keys
		}),
		exposures(workloadIndex, func(e *v1alpha1.Exposure) []string {
			return []string{e.Spec.Workload.Kind + "/" + e.Spec.Workload.Name}
		}),
		exposures(podsIndex, func(e *v1alpha1.Exposure) []string {
			if e.Status.Selector == "" {
				return nil
			}
			return []string{e.Status.Selector}
		}),
		exposures(serviceIndex, func(e *v1alpha1.Exposure) []string {
			if s := e.Spec.Service; s != nil && s.Existing != "" {
				return []string{s.Existing}
			}
			return nil
		}),
		in.IndexField(ctx, &autoscalingv2.HorizontalPodAutoscaler{}, workloadIndex, func(o client.Object) []string {
			if h, ok := o.(*autoscalingv2.HorizontalPodAutoscaler); ok {
				return []string{h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name}
			}
			return nil
		}),
		in.IndexField(ctx, &policyv1.PodDisruptionBudget{}, foreignIndex, func(o client.Object) []string {
			if c := metav1.GetControllerOf(o); c == nil || c.Kind != "Exposure" {
				return []string{foreign}
			}
			return nil
		}))
}

// register lets everything that an Exposure depends on wake it.
func (r *reconciler) register(m manager.Manager, shared []kind, workers int) error {
	b := builder.ControllerManagedBy(m).Named("exposure").For(&v1alpha1.Exposure{}, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, certificatesChanged()))).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, ReconciliationTimeout: workTime, RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)})
	for _, k := range r.kinds {
		b = b.Watches(k.empty(), r.ownHandler(m, k))
	}
	by := func(index string, value func(client.Object) string) handler.EventHandler {
		return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			v := value(o)
			if v == "" {
				return nil
			}
			return r.find(ctx, o.GetNamespace(), client.MatchingFields{index: v})
		})
	}
	b = b.Watches(&appsv1.Deployment{}, by(workloadIndex, func(o client.Object) string { return "Deployment/" + o.GetName() })).
		Watches(&appsv1.StatefulSet{}, by(workloadIndex, func(o client.Object) string { return "StatefulSet/" + o.GetName() })).
		Watches(&corev1.Service{}, by(serviceIndex, func(o client.Object) string { return o.GetName() })).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, by(workloadIndex, func(o client.Object) string {
			if h, ok := o.(*autoscalingv2.HorizontalPodAutoscaler); ok && !isOwn(o) {
				return h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name
			}
			return ""
		})).
		Watches(&policyv1.PodDisruptionBudget{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			if isOwn(o) {
				return nil
			}
			return r.find(ctx, o.GetNamespace())
		})).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request { return r.find(ctx, o.GetName()) }), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		// Others that claimed the same come to their turn when one gives it up, and so do those
		// of the same pods.
		Watches(&v1alpha1.Exposure{}, handler.Funcs{
			UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				if e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() {
					r.rivals(ctx, e.ObjectOld, q)
				}
				was, ok1 := e.ObjectOld.(*v1alpha1.Exposure)
				is, ok2 := e.ObjectNew.(*v1alpha1.Exposure)
				if ok1 && ok2 && once(was) != once(is) {
					r.rivals(ctx, was, q)
					r.rivals(ctx, is, q)
				}
			},
			DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				r.rivals(ctx, e.Object, q)
			},
		})
	if r.cluster.rollouts {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(rolloutKind)
		b = b.Watches(u, by(workloadIndex, func(o client.Object) string { return "Rollout/" + o.GetName() }))
	}
	if r.cluster.scheduled {
		b = b.Watches(&v1alpha1.ScheduledScale{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			if x, ok := o.(*v1alpha1.ScheduledScale); ok && x.Spec.Target.Kind == "Exposure" {
				return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: x.Namespace, Name: x.Spec.Target.Name}}}
			}
			return nil
		}))
	}
	for _, k := range shared {
		if k.Kind == "Gateway" {
			b = b.Watches(k.empty(), handler.EnqueueRequestsFromMapFunc(r.behind))
		}
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("make the controller of Exposures: %w", err)
	}
	return nil
}

func isOwn(o client.Object) bool {
	c := metav1.GetControllerOf(o)
	return c != nil && c.Kind == "Exposure"
}

// ownHandler wakes the Exposure that an object is of, notes what the cache shows, and forgets
// what is gone.
func (r *reconciler) ownHandler(m manager.Manager, k kind) handler.EventHandler {
	wake := handler.EnqueueRequestForOwner(m.GetScheme(), m.GetRESTMapper(), &v1alpha1.Exposure{}, handler.OnlyControllerOwner())
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			r.apply.see(k.GroupVersionKind, e.Object)
			r.owned.show(k.Kind, e.Object)
			wake.Create(ctx, e, q)
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			r.apply.see(k.GroupVersionKind, e.ObjectNew)
			if was, is := metav1.GetControllerOf(e.ObjectOld), metav1.GetControllerOf(e.ObjectNew); was != nil && (is == nil || is.UID != was.UID) {
				r.owned.gone(k.Kind, e.ObjectOld)
			}
			r.owned.show(k.Kind, e.ObjectNew)
			wake.Update(ctx, e, q)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			r.apply.see(k.GroupVersionKind, e.Object)
			r.owned.gone(k.Kind, e.Object)
			o := e.Object.DeepCopyObject().(client.Object)
			o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
			r.apply.forget(keyOf(o))
			wake.Delete(ctx, e, q)
		},
	}
}

// find are the Exposures that match.
func (r *reconciler) find(ctx context.Context, namespace string, match ...client.ListOption) []reconcile.Request {
	all := &v1alpha1.ExposureList{}
	if err := r.client.List(ctx, all, append(match, client.InNamespace(namespace), client.UnsafeDisableDeepCopy)...); err != nil {
		return nil // the cache ends, and with it the operator
	}
	requests := make([]reconcile.Request, 0, len(all.Items))
	for i := range all.Items {
		requests = append(requests, reconcile.Request{NamespacedName: demandKey(&all.Items[i])})
	}
	return requests
}

// behind are the Exposures that a shared Gateway leads to.
func (r *reconciler) behind(ctx context.Context, o client.Object) []reconcile.Request {
	if o.GetNamespace() != r.policy.Namespace {
		return nil
	}
	want := v1alpha1.Private
	if strings.HasPrefix(o.GetName(), string(v1alpha1.Public)) {
		want = v1alpha1.Public
	}
	all := &v1alpha1.ExposureList{}
	if err := r.client.List(ctx, all, client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	var requests []reconcile.Request
	for i := range all.Items {
		if all.Items[i].Spec.Visibility == want {
			requests = append(requests, reconcile.Request{NamespacedName: demandKey(&all.Items[i])})
		}
	}
	return requests
}

// rivals wakes those that claim what an Exposure claimed, or are of the same pods.
func (r *reconciler) rivals(ctx context.Context, o client.Object, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	e, ok := o.(*v1alpha1.Exposure)
	if !ok {
		return
	}
	var all []reconcile.Request
	if e.Status.Selector != "" {
		all = r.find(ctx, e.Namespace, client.MatchingFields{podsIndex: e.Status.Selector})
	}
	for _, c := range render.Claims(e, r.policy) {
		all = append(all, r.find(ctx, "", client.MatchingFields{claimIndex: c.Key})...)
	}
	for _, x := range all {
		if x.NamespacedName != demandKey(e) {
			q.Add(x)
		}
	}
}

// register lets what is asked of Gateways, and what becomes of them, wake their controller.
func (r *gatewayReconciler) register(m manager.Manager, wake <-chan event.TypedGenericEvent[render.Scope]) error {
	later := handler.TypedFuncs[render.Scope, reconcile.Request]{GenericFunc: func(_ context.Context, e event.TypedGenericEvent[render.Scope], q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: e.Object.Name()}}, gatherTime)
	}}
	b := builder.ControllerManagedBy(m).Named("gateway").WatchesRawSource(source.TypedChannel[render.Scope, reconcile.Request](wake, later)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, ReconciliationTimeout: workTime, RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)})
	for _, k := range r.kinds {
		b = b.Watches(k.empty(), handler.Funcs{
			CreateFunc: func(_ context.Context, e event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				r.wake(e.Object, q)
			},
			UpdateFunc: func(_ context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				r.wake(e.ObjectNew, q)
			},
			DeleteFunc: func(_ context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				o := e.Object.DeepCopyObject().(client.Object)
				o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
				r.apply.forget(keyOf(o))
				r.wake(e.Object, q)
			},
		})
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("make the controller of Gateways: %w", err)
	}
	return nil
}

// wake looks at the Gateways that an object may belong to.
func (r *gatewayReconciler) wake(o client.Object, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	if o.GetNamespace() != "" && o.GetNamespace() != r.policy.Namespace || isOwn(o) || o.GetLabels()[render.ExposureLabel] != "" {
		return
	}
	for _, s := range render.Scopes {
		if o.GetNamespace() == "" || o.GetName() == s.Name() || strings.TrimSuffix(o.GetName(), "-to-https") == s.Name() {
			q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: s.Name()}}, gatherTime)
		}
	}
}

// metaEach goes through the objects of a list.
func metaEach(l client.ObjectList, do func(client.Object)) error {
	return meta.EachListItem(l, func(x runtime.Object) error {
		if o, ok := x.(client.Object); ok {
			do(o)
		}
		return nil
	})
}

func equalStatus(a, b *v1alpha1.ExposureStatus) bool { return equality.Semantic.DeepEqual(a, b) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
