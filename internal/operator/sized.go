package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
	"dhow/internal/operator/rightsize"
	"dhow/internal/sizing"
)

const (
	// sampleEvery is how often an Exposure's pods are measured: the metrics server itself
	// looks every 15 seconds to a minute.
	sampleEvery = time.Minute
	// firstWord is for how long is measured before anything is said: a start is not what a
	// container takes.
	firstWord = 10 * time.Minute
	// firstDeed is for how long is measured before a pod is resized: a day has quiet hours.
	firstDeed = 24 * time.Hour
	// keepEvery is how often what was measured is written down where nothing else changes: an
	// operator that starts anew has lost no more than that.
	keepEvery = time.Hour
	// sizeWorkers is how many Exposures are measured at once.
	sizeWorkers = 2
	// mostContainers bounds what is remembered of one Exposure.
	mostContainers = 32
	// sizer is who owns the resources of pods that were resized.
	sizer = "dhow-sizing"
	// vpaNote is on pods that a VerticalPodAutoscaler has.
	vpaNote = "vpaObservedContainers"
)

// The rights that sizing takes. Of pods it may write the resources alone.
//
// +kubebuilder:rbac:groups="",resources=pods,verbs=list
// +kubebuilder:rbac:groups="",resources=pods/resize,verbs=patch
// +kubebuilder:rbac:groups=metrics.k8s.io,resources=pods,verbs=list

// sizeReconciler measures the pods of Exposures that ask for it.
type sizeReconciler struct {
	client  client.Client
	live    client.Reader
	events  events.EventRecorder
	count   *counters
	now     func() time.Time
	records *records
}

// records are what is remembered of each Exposure.
type records struct {
	mu sync.Mutex
	of map[types.NamespacedName]*measured
}

// measured is what is remembered of one Exposure. One worker at a time has it.
type measured struct {
	uid types.UID
	by  map[string]*rightsize.Record
	// seen is when each pod that is there was measured last.
	seen map[string]time.Time
	// kept is when it was written down last.
	kept time.Time
}

func newRecords() *records { return &records{of: map[types.NamespacedName]*measured{}} }

// get returns what is remembered of an Exposure: for the first time, what its status has.
func (r *records) get(e *v1alpha1.Exposure, now time.Time) *measured {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := client.ObjectKeyFromObject(e)
	if m := r.of[key]; m != nil && m.uid == e.UID {
		return m
	}
	m := &measured{uid: e.UID, by: map[string]*rightsize.Record{}, seen: map[string]time.Time{}, kept: now}
	if e.Status.Sizing != nil {
		for _, c := range e.Status.Sizing.Containers {
			one := &rightsize.Record{}
			if one.UnmarshalText([]byte(c.History)) == nil && len(m.by) < mostContainers {
				m.by[c.Name] = one
			}
		}
	}
	r.of[key] = m
	return m
}

func (r *records) drop(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, key)
}

// Reconcile measures the pods of one Exposure once.
func (r *sizeReconciler) Reconcile(ctx context.Context, at reconcile.Request) (reconcile.Result, error) {
	e := &v1alpha1.Exposure{}
	if err := r.client.Get(ctx, at.NamespacedName, e); err != nil {
		if apierrors.IsNotFound(err) {
			r.records.drop(at.NamespacedName)
		}
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if e.DeletionTimestamp != nil || e.Spec.Sizing == nil {
		r.records.drop(at.NamespacedName)
		if e.DeletionTimestamp != nil || e.Status.Sizing == nil {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, r.write(ctx, e, nil)
	}
	again := reconcile.Result{RequeueAfter: sampleEvery}
	m := r.records.get(e, r.now())
	status, err := r.size(ctx, e, m)
	switch {
	case apierrors.IsConflict(err): // a pod has changed meanwhile
		return again, nil
	case err != nil:
		return reconcile.Result{}, err
	}
	if !r.news(e.Status.Sizing, status) && r.now().Sub(m.kept) < keepEvery {
		return again, nil
	}
	if err := r.write(ctx, e, status); err != nil {
		return reconcile.Result{}, err
	}
	m.kept = r.now()
	return again, nil
}

// news says whether a status says something new: reasons and histories change all the time.
func (r *sizeReconciler) news(was, is *v1alpha1.SizingStatus) bool {
	bare := func(s *v1alpha1.SizingStatus) *v1alpha1.SizingStatus {
		s = s.DeepCopy()
		for i := range s.Containers {
			c := &s.Containers[i]
			c.CPUWhy, c.MemoryWhy, c.History = "", "", ""
		}
		return s
	}
	return was == nil || !equality.Semantic.DeepEqual(bare(was), bare(is))
}

func (r *sizeReconciler) write(ctx context.Context, e *v1alpha1.Exposure, status *v1alpha1.SizingStatus) error {
	o := e.DeepCopy()
	o.Status.Sizing = status
	if err := r.client.Status().Patch(ctx, o, client.MergeFrom(e), client.FieldOwner(render.Manager)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the sizes of Exposure %s/%s: %w", e.Namespace, e.Name, err)
	}
	r.count.statuses.Inc()
	return nil
}

// size measures, and says what follows. It resizes one pod at most.
func (r *sizeReconciler) size(ctx context.Context, e *v1alpha1.Exposure, m *measured) (*v1alpha1.SizingStatus, error) {
	selector, err := labels.Parse(e.Status.Selector)
	if err != nil || selector.Empty() {
		return &v1alpha1.SizingStatus{Message: "the Exposure has no workload yet"}, nil //nolint:nilerr // it waits for one
	}
	pods := &corev1.PodList{}
	of := &client.ListOptions{Namespace: e.Namespace, LabelSelector: selector, Raw: &metav1.ListOptions{ResourceVersion: "0"}} // what the API server has in memory is new enough
	if err := r.live.List(ctx, pods, of); err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	pods.Items = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
		return p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning
	})
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	r.ends(e, m, pods)
	usage := &metricsv1beta1.PodMetricsList{}
	message := ""
	switch err := r.live.List(ctx, usage, &client.ListOptions{Namespace: e.Namespace, LabelSelector: selector}); {
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err), apierrors.IsServiceUnavailable(err):
		message = "nothing is measured: the cluster has no metrics API that answers; install the metrics server"
	case err != nil:
		return nil, fmt.Errorf("read what pods take: %w", err)
	}
	m.sample(pods, usage)
	status := &v1alpha1.SizingStatus{Message: message}
	sizes := map[string]sizing.ContainerSize{}
	var long time.Duration
	for _, c := range containers(pods) {
		one := m.by[c.Name]
		if one == nil || one.Span() < firstWord && one.OOMs == 0 {
			continue
		}
		size := one.Size(c)
		history, err := one.MarshalText()
		if err != nil {
			return nil, err
		}
		if !size.CPUWhy.Assumed && !size.MemoryWhy.Assumed {
			sizes[c.Name] = size
		}
		long = max(long, one.Span())
		status.Containers = append(status.Containers, v1alpha1.ContainerSizing{Name: c.Name, CPU: size.CPU.String(), CPUWhy: size.CPUWhy.Reason, Memory: size.Memory.String(), MemoryWhy: size.MemoryWhy.Reason,
			Asks: fmt.Sprintf("%s, %s", c.Resources.Requests.Cpu(), c.Resources.Requests.Memory()), History: string(history)})
	}
	if message != "" {
		return status, nil
	}
	if len(status.Containers) == 0 {
		status.Message = fmt.Sprintf("it is measured for %s before anything is said", firstWord)
		return status, nil
	}
	status.Message, err = r.resize(ctx, e, pods, sizes, long)
	return status, err
}

// containers are those of the pods that run, each once, as the newest pod has it, sorted.
func containers(pods *corev1.PodList) []*corev1.Container {
	newest := map[string]*corev1.Container{}
	at := map[string]time.Time{}
	for i := range pods.Items {
		p := &pods.Items[i]
		for j := range p.Spec.Containers {
			c := &p.Spec.Containers[j]
			if newest[c.Name] == nil || p.CreationTimestamp.After(at[c.Name]) {
				newest[c.Name], at[c.Name] = c, p.CreationTimestamp.Time
			}
		}
	}
	var all []*corev1.Container
	for _, name := range sortedKeys(newest) {
		all = append(all, newest[name])
	}
	return all
}

// record is that of a container, nil where there are too many.
func (m *measured) record(name string) *rightsize.Record {
	one := m.by[name]
	if one == nil && len(m.by) < mostContainers {
		one = &rightsize.Record{}
		m.by[name] = one
	}
	return one
}

// sample counts what was measured since the last time, of pods that are there.
func (m *measured) sample(pods *corev1.PodList, usage *metricsv1beta1.PodMetricsList) {
	there := map[string]bool{}
	known := map[string]bool{}
	for i := range pods.Items {
		there[pods.Items[i].Name] = true
		for j := range pods.Items[i].Spec.Containers {
			known[pods.Items[i].Spec.Containers[j].Name] = true
		}
	}
	for name := range m.seen {
		if !there[name] {
			delete(m.seen, name)
		}
	}
	// What a former release had and this one has not is forgotten; where no pod runs, nothing is.
	for name := range m.by {
		if len(known) > 0 && !known[name] {
			delete(m.by, name)
		}
	}
	for i := range usage.Items {
		u := &usage.Items[i]
		if !there[u.Name] || !u.Timestamp.After(m.seen[u.Name]) {
			continue
		}
		m.seen[u.Name] = u.Timestamp.Time
		for _, c := range u.Containers {
			if one := m.record(c.Name); known[c.Name] && one != nil {
				one.Sample(u.Timestamp.Time, c.Usage.Cpu().AsApproximateFloat64(), c.Usage.Memory().AsApproximateFloat64())
			}
		}
	}
}

// ends counts containers that the kernel ended for want of memory, and tells of each.
func (r *sizeReconciler) ends(e *v1alpha1.Exposure, m *measured, pods *corev1.PodList) {
	for i := range pods.Items {
		p := &pods.Items[i]
		for j := range p.Status.ContainerStatuses {
			s := &p.Status.ContainerStatuses[j]
			at := slices.IndexFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == s.Name })
			if at < 0 {
				continue
			}
			limit := p.Spec.Containers[at].Resources.Limits.Memory()
			for _, t := range []*corev1.ContainerStateTerminated{s.LastTerminationState.Terminated, s.State.Terminated} {
				if t == nil || t.Reason != "OOMKilled" {
					continue
				}
				if one := m.record(s.Name); one != nil && one.Ended(t.FinishedAt.Time, limit.Value()) {
					r.events.Eventf(e, p, corev1.EventTypeWarning, "OutOfMemory", "Size", "container %s of pod %s was ended by the kernel for want of memory; its limit is %s", s.Name, p.Name, limit)
				}
			}
		}
	}
}

// resize gives one pod that is off what it should ask for, or says why not.
func (r *sizeReconciler) resize(ctx context.Context, e *v1alpha1.Exposure, pods *corev1.PodList, sizes map[string]sizing.ContainerSize, long time.Duration) (string, error) {
	held := rightsize.Held{CPU: e.Spec.Scaling != nil && e.Spec.Scaling.CPU != nil && e.Spec.Scaling.CPU.Percent != nil}
	var first *corev1.Pod
	var patch []map[string]any
	waits, off := "", 0
	for i := range pods.Items {
		p := &pods.Items[i]
		for _, c := range p.Status.Conditions {
			if c.Status == corev1.ConditionTrue && (c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress) {
				waits = strings.TrimRight(fmt.Sprintf("pod %s is being resized: %s %s", p.Name, c.Reason, c.Message), " :")
			}
		}
		var changes []map[string]any
		for j := range p.Spec.Containers {
			c := &p.Spec.Containers[j]
			size, ok := sizes[c.Name]
			if !ok {
				continue
			}
			if want, changed := rightsize.Resize(c, size, held); changed {
				changes = append(changes, map[string]any{"name": c.Name, "resources": want})
			}
		}
		if len(changes) > 0 {
			if off++; first == nil {
				first, patch = p, changes
			}
		}
	}
	switch {
	case off == 0:
		return "every pod asks for about what it should", nil
	case e.Spec.Sizing.Mode != v1alpha1.Apply:
		return fmt.Sprintf("%d of %d pods would be resized; nothing is done as long as mode is not Apply", off, len(pods.Items)), nil
	case long < firstDeed:
		return fmt.Sprintf("%d of %d pods are resized when a day was measured", off, len(pods.Items)), nil
	case waits != "":
		return waits + "; the others wait for it", nil
	case first.Annotations[vpaNote] != "":
		return fmt.Sprintf("pod %s is a VerticalPodAutoscaler's: nothing is done, for two of them would fight", first.Name), nil
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": first.UID}, "spec": map[string]any{"containers": patch}})
	if err != nil {
		return "", fmt.Errorf("write the resources of pod %s: %w", first.Name, err)
	}
	left := fmt.Sprintf("%d of %d pods are left to be resized", off-1, len(pods.Items))
	err = r.client.SubResource("resize").Patch(ctx, first.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, text), client.FieldOwner(sizer))
	var status apierrors.APIStatus
	switch {
	case apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Name == first.Name:
		return left, nil // the pod is gone
	case apierrors.IsNotFound(err):
		return "pods are not resized: the API server can not do so in place; that takes Kubernetes 1.33", nil
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err):
		return fmt.Sprintf("pod %s is not resized: the API server refuses it: %v", first.Name, err), nil
	case err != nil:
		return "", fmt.Errorf("resize pod %s: %w", first.Name, err)
	}
	r.count.writes.Inc()
	r.events.Eventf(e, first, corev1.EventTypeNormal, "Resized", "Size", "pod %s was told what it should ask for, in its place", first.Name)
	return left, nil
}

// registerSized lets Exposures wake the controller; then it wakes itself.
func registerSized(m manager.Manager, r *sizeReconciler) error {
	err := builder.ControllerManagedBy(m).Named("sizing").For(&v1alpha1.Exposure{}, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: sizeWorkers, ReconciliationTimeout: workTime, RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("make the controller of sizes: %w", err)
	}
	return nil
}
