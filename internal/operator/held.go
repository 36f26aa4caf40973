package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"dhow/internal/operator/admit"
	"dhow/internal/operator/render"
)

const (
	// imagesEvery is how often a namespace's pods are looked at where no workload has told
	// that pods of it have come or gone.
	imagesEvery = 5 * time.Minute
	// imagesGather is for how long what workloads tell is gathered before a look.
	imagesGather = 2 * time.Second
	// podPage is how many pods are read at once.
	podPage = 500
	// recorder is who writes records.
	recorder = "dhow-digests"
	// recordEnd is what the name of a record ends with.
	recordEnd = "-digests"
)

// The rights that it takes beside reading pods: it can change and remove no revision, not even
// its own. DaemonSets are heard for its sake alone.
//
// +kubebuilder:rbac:groups=apps,resources=daemonsets,verbs=list;watch
// +kubebuilder:rbac:groups=apps,resources=controllerrevisions,verbs=get;list;watch;create

// revision is what makes pods that are all alike: a ReplicaSet, or the ControllerRevision of a
// StatefulSet or a DaemonSet.
type revision struct {
	kind, name string
	// of is the pods' controller.
	of types.UID
}

func (r revision) String() string { return r.kind + " " + r.name }

// revisionOf is a pod's; it may have none, as those of Jobs, each of which is made once.
func revisionOf(pod *corev1.Pod) (revision, bool) {
	o := metav1.GetControllerOf(pod)
	if o == nil || o.APIVersion != appsv1.SchemeGroupVersion.String() {
		return revision{}, false
	}
	hash := pod.Labels[appsv1.ControllerRevisionHashLabelKey]
	switch {
	case o.Kind == "ReplicaSet":
		return revision{o.Kind, o.Name, o.UID}, true
	case o.Kind == "StatefulSet" && hash != "":
		return revision{"ControllerRevision", hash, o.UID}, true
	case o.Kind == "DaemonSet" && hash != "":
		return revision{"ControllerRevision", o.Name + "-" + hash, o.UID}, true
	}
	return revision{}, false
}

// record is the name of the object that remembers a revision's images. It is a ControllerRevision,
// whose data nobody can change, and not an annotation of the ReplicaSet: kubectl's undo of a
// rollout copies such into the Deployment, and its controller from there into the next ReplicaSet.
func (r revision) record() string { return r.name + recordEnd }

// read reads a revision's record, nil where there is none. The record may be of another
// controller that had the same name.
func (r revision) read(ctx context.Context, c client.Reader, namespace string) (*admit.Record, error) {
	o := &appsv1.ControllerRevision{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: r.record()}, o); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("read what %s began with: %w", r, err)
	}
	record := &admit.Record{}
	if err := json.Unmarshal(o.Data.Raw, record); err != nil {
		return nil, fmt.Errorf("read what %s began with: ControllerRevision %s holds something else: remove it", r, o.Name)
	}
	return record, nil
}

// imageReconciler writes down what the first pod of each revision runs, in namespaces that ask
// for it, and tells of pods that run something else. It caches no pods, of which a cluster has
// tens of thousands: workloads, which are cached anyway, tell when pods have come, and then those
// of the one namespace are read page by page, and of each is kept what it runs until all are read.
type imageReconciler struct {
	client client.Client
	live   client.Reader
	events events.EventRecorder
	count  *counters
	differ *prometheus.GaugeVec
	// said is what was told of each namespace's objects. There is one worker.
	said map[string]map[types.UID]string
}

// ran is what a pod runs.
type ran struct {
	admit.Record
	pod  *metav1.PartialObjectMetadata
	made time.Time
}

// Reconcile looks at the pods of one namespace. It may be repeated at any time.
func (r *imageReconciler) Reconcile(ctx context.Context, at reconcile.Request) (reconcile.Result, error) {
	space := &metav1.PartialObjectMetadata{}
	space.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.client.Get(ctx, client.ObjectKey{Name: at.Name}, space); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("read namespace %s: %w", at.Name, err)
	}
	mode := space.Labels[admit.DigestsLabel] // none of a namespace that is gone
	if space.DeletionTimestamp != nil || mode == "" {
		delete(r.said, at.Name)
		r.differ.DeleteLabelValues(at.Name)
		return reconcile.Result{}, nil
	}
	if r.said[at.Name] == nil {
		r.said[at.Name] = map[types.UID]string{}
	}
	l := &look{imageReconciler: r, namespace: at.Name, pins: mode == admit.DigestsPin, said: map[types.UID]string{}}
	if mode != admit.DigestsPin && mode != admit.DigestsDryRun {
		r.differ.DeleteLabelValues(at.Name)
		l.tell(space, corev1.EventTypeWarning, "UnknownLabel", fmt.Sprintf("the label %s says %q: let it be %s or %s", admit.DigestsLabel, mode, admit.DigestsDryRun, admit.DigestsPin))
		return reconcile.Result{}, nil
	}
	all, err := l.pods(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	differ := 0
	var wrong []error // which keep nothing else from being told
	for _, rev := range slices.SortedFunc(maps.Keys(all), func(a, b revision) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(string(a.of), string(b.of)))
	}) {
		n, err := l.revision(ctx, rev, all[rev])
		wrong = append(wrong, err)
		differ += n
	}
	r.differ.WithLabelValues(at.Name).Set(float64(differ))
	if err := errors.Join(wrong...); err != nil {
		return reconcile.Result{}, err
	}
	r.said[at.Name] = l.said // what is no longer so is forgotten
	return reconcile.Result{RequeueAfter: imagesEvery}, nil
}

// look is one look at a namespace.
type look struct {
	*imageReconciler
	namespace string
	pins      bool
	// said is what is so now, also of what was told before.
	said map[types.UID]string
}

// tell tells something of an object, unless it was told already.
func (l *look) tell(o client.Object, kind, reason, text string) {
	id, before := o.GetUID(), l.imageReconciler.said[l.namespace]
	if l.said[id] = text; before[id] != text {
		before[id] = text
		l.events.Eventf(o, nil, kind, reason, "HoldImages", "%s", text)
	}
}

// pods are those that run, by their revisions, the oldest first.
func (l *look) pods(ctx context.Context) (map[revision][]ran, error) {
	all := map[revision][]ran{}
	page := &corev1.PodList{}
	for {
		next := page.Continue
		page = &corev1.PodList{}
		if err := l.live.List(ctx, page, client.InNamespace(l.namespace), client.Limit(podPage), client.Continue(next)); err != nil {
			return nil, fmt.Errorf("list the pods of namespace %s: %w", l.namespace, err)
		}
		for i := range page.Items {
			p := &page.Items[i]
			rev, ok := revisionOf(p)
			if !ok || p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.Labels[admit.DigestsLabel] == admit.DigestsOff {
				continue
			}
			record, whole := admit.Learn(p)
			if !whole || len(record.Images)+len(record.Left) == 0 {
				continue
			}
			record.Of = rev.of
			all[rev] = append(all[rev], ran{record, l.part(corev1.SchemeGroupVersion.WithKind("Pod"), p.Name, p.UID), p.CreationTimestamp.Time})
		}
		if page.Continue == "" {
			break
		}
	}
	for _, pods := range all {
		slices.SortFunc(pods, func(a, b ran) int {
			if c := a.made.Compare(b.made); c != 0 {
				return c
			}
			return strings.Compare(a.pod.Name, b.pod.Name)
		})
	}
	return all, nil
}

// part is as much of an object as events and owner references take.
func (l *look) part(kind schema.GroupVersionKind, name string, uid types.UID) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: name, UID: uid}}
	o.SetGroupVersionKind(kind)
	return o
}

// revision writes down what a revision began with, or tells of the pods that run something
// else, and says how many they are.
func (l *look) revision(ctx context.Context, rev revision, pods []ran) (int, error) {
	record, err := rev.read(ctx, l.client, l.namespace)
	if err != nil {
		return 0, err
	}
	if record == nil {
		record = &pods[0].Record
		if err := l.write(ctx, rev, record); err != nil {
			return 0, err
		}
	}
	if record.Of != rev.of {
		l.tell(l.part(appsv1.SchemeGroupVersion.WithKind(rev.kind), rev.name, rev.of), corev1.EventTypeWarning, "NotHeld", fmt.Sprintf("ControllerRevision %s tells what another of this name began with: remove it, unless the garbage collector does so by itself", rev.record()))
		return 0, nil
	}
	n := 0
	for _, p := range pods {
		others := p.Differs(*record)
		if len(others) == 0 {
			continue
		}
		n++
		x := others[0]
		i := slices.IndexFunc(record.Images, func(y admit.Image) bool { return y.Container == x.Container })
		what := "delete the pod, and the next one runs what the others do"
		if !l.pins {
			what = fmt.Sprintf("with %s=%s on the namespace it would run what the others do", admit.DigestsLabel, admit.DigestsPin)
		}
		l.tell(p.pod, corev1.EventTypeWarning, "OtherImage", fmt.Sprintf("container %s runs %s, where %s began with %s: the registry has another image by the name %.150s than then; %s; a new rollout takes what the registry has now",
			x.Container, x.Digest, rev, record.Images[i].Digest, x.Image, what))
	}
	return n, nil
}

// write writes a record down, once.
func (l *look) write(ctx context.Context, rev revision, record *admit.Record) error {
	owner := l.part(appsv1.SchemeGroupVersion.WithKind(rev.kind), rev.name, rev.of)
	if rev.kind != "ReplicaSet" {
		// The pods' controller is not what the record goes with, but one of its revisions.
		if err := l.live.Get(ctx, client.ObjectKeyFromObject(owner), owner); err != nil {
			return client.IgnoreNotFound(fmt.Errorf("read %s: %w", rev, err))
		}
	}
	text, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("write what %s began with: %w", rev, err)
	}
	o := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: rev.record(), Labels: map[string]string{render.ManagedLabel: render.Manager},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: rev.kind, Name: rev.name, UID: owner.GetUID()}}},
		Data: runtime.RawExtension{Raw: text}, Revision: 1}
	err = l.client.Create(ctx, o, client.FieldOwner(recorder))
	switch {
	case apierrors.IsAlreadyExists(err):
		return l.taken(ctx, owner, o)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		l.tell(owner, corev1.EventTypeWarning, "NotHeld", fmt.Sprintf("what it runs can not be written down: the API server refuses ControllerRevision %s: %.500s", o.Name, err.Error()))
		return nil
	case err != nil:
		return fmt.Errorf("write what %s began with: %w", rev, err)
	}
	l.count.writes.Inc()
	l.count.recorded.Inc()
	held := "are held at"
	if !l.pins {
		held = "would be held at"
	}
	words := fmt.Sprintf("its new pods %s the digests of %d containers, which are in ControllerRevision %s", held, len(record.Images), o.Name)
	if len(record.Left) > 0 {
		words += fmt.Sprintf("; %d are not, such as %s: %.500s", len(record.Left), record.Left[0].Container, record.Left[0].Why)
	}
	l.tell(owner, corev1.EventTypeNormal, "ImagesRecorded", words)
	return nil
}

// taken tells where somebody else has made an object of a record's name.
func (l *look) taken(ctx context.Context, owner client.Object, o *appsv1.ControllerRevision) error {
	there := l.part(appsv1.SchemeGroupVersion.WithKind("ControllerRevision"), o.Name, "")
	if err := l.live.Get(ctx, client.ObjectKeyFromObject(there), there); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("read ControllerRevision %s: %w", o.Name, err))
	}
	if there.Labels[render.ManagedLabel] != render.Manager { // else the cache has not shown it yet
		l.tell(owner, corev1.EventTypeWarning, "NotHeld", fmt.Sprintf("what it runs can not be written down: ControllerRevision %s is there already, and dhow did not make it: remove or rename it", o.Name))
	}
	return nil
}

// registerImages lets namespaces that ask for it, and their workloads, wake the controller.
func registerImages(m manager.Manager, r *imageReconciler, rollouts bool) error {
	ask := func(ctx context.Context, namespace string, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		space := &metav1.PartialObjectMetadata{}
		space.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
		if err := r.client.Get(ctx, client.ObjectKey{Name: namespace}, space); err == nil && space.Labels[admit.DigestsLabel] != "" {
			q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: namespace}}, imagesGather)
		}
	}
	come := handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			ask(ctx, e.Object.GetNamespace(), q)
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if available(e.ObjectOld) != available(e.ObjectNew) {
				ask(ctx, e.ObjectNew.GetNamespace(), q)
			}
		},
	}
	lost := handler.Funcs{DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		ask(ctx, e.Object.GetNamespace(), q)
	}}
	space := &metav1.PartialObjectMetadata{}
	space.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	b := builder.ControllerManagedBy(m).Named("images").For(space, builder.WithPredicates(predicate.LabelChangedPredicate{})).
		Watches(&appsv1.Deployment{}, come).Watches(&appsv1.StatefulSet{}, come).Watches(&appsv1.DaemonSet{}, come).Watches(&appsv1.ControllerRevision{}, lost).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, ReconciliationTimeout: workTime, RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)})
	if rollouts {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(rolloutKind)
		b = b.Watches(u, come)
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("make the controller of images: %w", err)
	}
	return nil
}

// available is how many pods of a workload serve: it changes when pods have been started.
func available(o client.Object) int64 {
	switch x := o.(type) {
	case *appsv1.Deployment:
		return int64(x.Status.AvailableReplicas)
	case *appsv1.StatefulSet:
		return int64(x.Status.AvailableReplicas)
	case *appsv1.DaemonSet:
		return int64(x.Status.NumberAvailable)
	case *unstructured.Unstructured:
		n, _, _ := unstructured.NestedInt64(x.Object, "status", "availableReplicas")
		return n
	}
	return 0
}
