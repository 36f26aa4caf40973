package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
	"dhow/internal/operator/schedule"
)

const (
	// targetIndex finds ScheduledScales by what they scale, as Kind/name.
	targetIndex = "target"
	// giveBack keeps a ScheduledScale until its target has got its own numbers again.
	giveBack = v1alpha1.Group + "/give-back"
	// giveBackTime is for how long that is tried after it was deleted: then it goes all the same.
	giveBackTime = 5 * time.Minute
	// longestSleep is after which a calendar is looked at again whatever it says: the clock of
	// the machine may have been set.
	longestSleep = time.Hour
	// scaleWorkers is how many ScheduledScales are worked on at once.
	scaleWorkers = 2
)

// The reasons of a ScheduledScale's conditions.
const (
	reasonWrong    = "Wrong"
	reasonTaken    = "Taken"
	reasonNoTarget = "TargetNotFound"
	reasonNoScaler = "NotScaled"
	reasonOther    = "ScaledByOther"
	reasonDryRun   = "DryRun"
	reasonApplied  = "Applied"
	reasonWaiting  = "Waiting"
	reasonFailed   = "Failed"
)

// The rights that ScheduledScales take. Of workloads they may write the number of pods alone.
//
// +kubebuilder:rbac:groups=dhow.dev,resources=scheduledscales,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=dhow.dev,resources=scheduledscales/status,verbs=get;patch
// +kubebuilder:rbac:groups=apps,resources=deployments/scale;statefulsets/scale,verbs=get;patch
// +kubebuilder:rbac:groups=argoproj.io,resources=rollouts/scale,verbs=get;patch

// scaleReconciler holds targets to their calendars. An Exposure's numbers it only decides:
// who makes the Exposure's objects reads them from its status.
type scaleReconciler struct {
	client   client.Client
	live     client.Reader
	events   events.EventRecorder
	count    *counters
	rollouts bool
	now      func() time.Time
}

// scaling is what is found out of one ScheduledScale in one go.
type scaling struct {
	*v1alpha1.ScheduledScale
	bounds schedule.Bounds
	// again says that this is the first look since it was changed.
	again bool
	// refused says that it can not be done as it is.
	refused bool
}

func (s *scaling) set(kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: s.Generation})
}

func (s *scaling) refuse(reason, text string) {
	s.refused = true
	s.set(v1alpha1.Accepted, metav1.ConditionFalse, reason, text)
	s.set(v1alpha1.Applied, metav1.ConditionUnknown, "NotAccepted", "nothing is done of what is not accepted")
	s.set(v1alpha1.Ready, metav1.ConditionFalse, reason, text)
}

func (s *scaling) applied(status metav1.ConditionStatus, reason, text string) {
	s.set(v1alpha1.Applied, status, reason, text)
	ready := status
	if reason == reasonDryRun {
		ready = metav1.ConditionTrue
	}
	s.set(v1alpha1.Ready, ready, reason, text)
}

// Reconcile brings one target to what holds now. It may be repeated at any time; where
// everything is as it should be, it writes nothing.
func (r *scaleReconciler) Reconcile(ctx context.Context, at reconcile.Request) (reconcile.Result, error) {
	// Past the cache: what a target had before must be known for sure.
	x := &v1alpha1.ScheduledScale{}
	if err := r.live.Get(ctx, at.NamespacedName, x); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if x.DeletionTimestamp != nil {
		return reconcile.Result{}, r.end(ctx, x)
	}
	was := x.DeepCopy()
	s := &scaling{ScheduledScale: x, again: x.Status.ObservedGeneration != x.Generation}
	err := r.hold(ctx, s)
	switch {
	case errors.Is(err, context.Canceled):
		return reconcile.Result{}, err
	case apierrors.IsConflict(err): // something was changed meanwhile: what follows from that?
		return reconcile.Result{RequeueAfter: firstRetry}, nil
	}
	var wrong *objectError
	switch {
	case errors.As(err, &wrong):
		s.applied(metav1.ConditionFalse, wrong.reason, wrong.text)
		err = nil // nothing helps but a change, which wakes this
	case err != nil:
		s.applied(metav1.ConditionUnknown, reasonFailed, "it is tried again: "+err.Error())
	}
	if told := r.tell(ctx, was, s); told != nil {
		return reconcile.Result{}, told
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	sleep := longestSleep
	if u := s.Status.Now; u != nil && u.Until != nil {
		sleep = min(sleep, max(u.Until.Sub(r.now()), time.Millisecond))
	}
	return reconcile.Result{RequeueAfter: sleep}, nil
}

// hold does the work: its error is why the target has not got its numbers.
func (r *scaleReconciler) hold(ctx context.Context, s *scaling) error {
	s.Status.ObservedGeneration = s.Generation
	calendar, err := schedule.Parse(&s.Spec)
	if err != nil {
		s.Status.Now, s.Status.Next = nil, nil
		s.refuse(reasonWrong, err.Error())
		return nil
	}
	r.look(s, calendar)
	taken, err := taken(ctx, r.client, s)
	if err != nil {
		return err
	}
	if taken != "" {
		s.refuse(reasonTaken, taken)
		return nil
	}
	if s.Spec.Target.Kind == "Exposure" {
		return r.exposure(ctx, s)
	}
	return r.direct(ctx, s)
}

// look says in the status what holds, and what comes next.
func (r *scaleReconciler) look(s *scaling, calendar *schedule.Calendar) {
	now := r.now()
	moment := func(m schedule.Moment) *v1alpha1.ScaleMoment {
		return &v1alpha1.ScaleMoment{Window: m.Window, Yield: m.Yield, Min: m.Min, Max: m.Max}
	}
	here := calendar.At(now)
	s.bounds = here.Bounds
	s.Status.Now, s.Status.Next = moment(here), nil
	if since, ok := calendar.Since(now); ok {
		s.Status.Now.From = ptr.To(metav1.NewTime(since))
	}
	at, then, ok := calendar.Next(now)
	if !ok {
		return
	}
	s.Status.Now.Until = ptr.To(metav1.NewTime(at))
	s.Status.Next = moment(then)
	s.Status.Next.From = s.Status.Now.Until
	if after, _, ok := calendar.Next(at); ok {
		s.Status.Next.Until = ptr.To(metav1.NewTime(after))
	}
}

// taken says which other ScheduledScale has the target already, "" if none. Who has given it
// numbers has it until it has given back what was there before, and otherwise who is older.
func taken(ctx context.Context, c client.Reader, s *scaling) (string, error) {
	if s.Spec.Mode != v1alpha1.Apply {
		return "", nil
	}
	all := &v1alpha1.ScheduledScaleList{}
	if err := c.List(ctx, all, client.InNamespace(s.Namespace)); err != nil {
		return "", fmt.Errorf("list ScheduledScales: %w", err)
	}
	for i := range all.Items {
		x := &all.Items[i]
		older := x.Spec.Mode == v1alpha1.Apply && (x.CreationTimestamp.Before(&s.CreationTimestamp) || x.CreationTimestamp.Equal(&s.CreationTimestamp) && x.Name < s.Name)
		if his, mine := x.Status.Before != nil, s.Status.Before != nil; his != mine {
			older = his
		}
		if x.UID != s.UID && older && targetOf(x) == targetOf(s.ScheduledScale) {
			return fmt.Sprintf("%s is what ScheduledScale %s scales: put the windows into that one, or delete it", targetOf(s.ScheduledScale), x.Name), nil
		}
	}
	return "", nil
}

func targetOf(x *v1alpha1.ScheduledScale) string {
	return x.Spec.Target.Kind + "/" + x.Spec.Target.Name
}

// exposure waits until the Exposure's own autoscaler has what was decided.
func (r *scaleReconciler) exposure(ctx context.Context, s *scaling) error {
	e := &v1alpha1.Exposure{}
	switch err := r.client.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: s.Spec.Target.Name}, e); {
	case apierrors.IsNotFound(err):
		s.refuse(reasonNoTarget, "there is no Exposure "+s.Spec.Target.Name+": make it, or name another")
		return nil
	case err != nil:
		return fmt.Errorf("read Exposure %s: %w", s.Spec.Target.Name, err)
	}
	if e.Spec.Scaling == nil || e.Spec.Scaling.Max == 0 {
		s.refuse(reasonNoScaler, fmt.Sprintf("Exposure %s has no scaling.max, so that nothing adds or removes its pods: give it one, or let the target be the workload itself", e.Name))
		return nil
	}
	s.set(v1alpha1.Accepted, metav1.ConditionTrue, "Accepted", "it can be done as it is")
	own := e.Spec.Scaling
	least, most := s.bounds.Bound(own.Min, own.Max)
	text := difference("Exposure "+e.Name, own.Min, own.Max, least, most)
	if s.Spec.Mode != v1alpha1.Apply {
		s.Status.Applied = nil
		s.dry(text)
		return nil
	}
	h := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := r.client.Get(ctx, client.ObjectKeyFromObject(e), h); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read HorizontalPodAutoscaler %s: %w", e.Name, err)
	}
	if c := metav1.GetControllerOf(h); c == nil || c.UID != e.UID || ptr.Deref(h.Spec.MinReplicas, 1) != least || h.Spec.MaxReplicas != most {
		s.applied(metav1.ConditionFalse, reasonWaiting, fmt.Sprintf("%s: its autoscaler has not got them yet; the conditions of the Exposure say why", text))
		return nil
	}
	s.applied(metav1.ConditionTrue, reasonApplied, text)
	s.gave(least, most)
	return nil
}

// difference tells what becomes of a target's own numbers.
func difference(name string, ownMin, ownMax, least, most int32) string {
	show := func(a, b int32) string {
		if a == b {
			return fmt.Sprint(a)
		}
		return fmt.Sprintf("%d to %d", a, b)
	}
	if ownMin == least && ownMax == most {
		return fmt.Sprintf("%s: %s pods, which are its own", name, show(least, most))
	}
	return fmt.Sprintf("%s: %s pods instead of %s", name, show(least, most), show(ownMin, ownMax))
}

// dry says what would be done.
func (s *scaling) dry(text string) {
	s.applied(metav1.ConditionFalse, reasonDryRun, text+"; nothing is done as long as mode is not Apply")
}

// gave remembers what a target was given.
func (s *scaling) gave(least, most int32) {
	s.Status.Applied = &v1alpha1.ScaleApplied{Window: s.Status.Now.Window, Min: least, Max: most}
}

// direct gives a target its numbers, and gives it back its own where no window holds.
func (r *scaleReconciler) direct(ctx context.Context, s *scaling) error {
	t, err := r.read(ctx, s)
	if err != nil || s.refused {
		return err
	}
	if t.ours && s.Status.Before == nil {
		// Another one may have given it numbers just now, of which the cache does not know yet.
		other, err := taken(ctx, r.live, s)
		if err != nil {
			return err
		}
		if other != "" {
			s.refuse(reasonTaken, other)
			return nil
		}
	}
	s.set(v1alpha1.Accepted, metav1.ConditionTrue, "Accepted", "it can be done as it is")
	own := v1alpha1.ScaleNumbers{Min: t.least, Max: t.most, Manager: t.manager}
	if t.ours && s.Status.Before != nil {
		own = *s.Status.Before
	}
	least, most := s.bounds.Bound(own.Min, own.Max)
	if t.workload {
		least = s.bounds.Clamp(own.Min)
		most = least
	}
	text := difference(t.name(), own.Min, own.Max, least, most)
	if s.Spec.Mode != v1alpha1.Apply {
		if err := r.restore(ctx, s.ScheduledScale, t); err != nil {
			return err
		}
		s.dry(text)
		return r.finalize(ctx, s.ScheduledScale, false)
	}
	switch {
	case least == t.least && most == t.most:
		if !t.ours { // it has them by itself
			s.Status.Before, s.Status.Applied = nil, nil
			break
		}
		s.gave(least, most)
	case t.ours && least == own.Min && most == own.Max:
		if err := r.restore(ctx, s.ScheduledScale, t); err != nil {
			return err
		}
	default:
		if err := r.take(ctx, s, t, least, most); err != nil {
			return err
		}
		s.gave(least, most)
	}
	s.applied(metav1.ConditionTrue, reasonApplied, text)
	return nil
}

// take gives a target its numbers.
func (r *scaleReconciler) take(ctx context.Context, s *scaling, t *scaled, least, most int32) error {
	if !t.ours {
		hand := t.manager == "" || strings.HasPrefix(t.manager, byHand)
		last := s.Status.Applied
		had := last != nil && last.Window == s.Status.Now.Window && !s.again
		switch {
		case hand:
		case !s.Spec.Adopt:
			return &objectError{reason: reasonConflict, text: fmt.Sprintf("%s: %s has set its numbers: leave them to dhow there, or set adopt to take them", t.name(), t.manager)}
		case had:
			return &objectError{reason: reasonConflict, text: fmt.Sprintf("%s: %s has set its numbers again in this window, and keeps them until the next: leave them to dhow there", t.name(), t.manager)}
		}
		// What is its own is written down before it is overwritten, so that a crash forgets nothing.
		before := s.DeepCopy()
		s.Status.Before = &v1alpha1.ScaleNumbers{Min: t.least, Max: t.most, Manager: t.manager}
		if err := r.finalize(ctx, s.ScheduledScale, true); err != nil {
			return err
		}
		if !equality.Semantic.DeepEqual(before.Status.Before, s.Status.Before) {
			if err := r.write(ctx, before, s.ScheduledScale); err != nil {
				return err
			}
		}
	}
	if err := r.apply(ctx, t, least, most); err != nil {
		return err
	}
	r.count.writes.Inc()
	return nil
}

// restore gives a target its own numbers back, if it has not got them already. Who had set
// them has them again.
func (r *scaleReconciler) restore(ctx context.Context, x *v1alpha1.ScheduledScale, t *scaled) error {
	own := x.Status.Before
	if own != nil && t.ours {
		if err := r.give(ctx, t, own); err != nil {
			return err
		}
		r.count.writes.Inc()
	}
	x.Status.Before, x.Status.Applied = nil, nil
	return nil
}

// end gives back what was taken, and lets a deleted ScheduledScale go. It waits for nothing
// that may never come: not for a target that is gone, not in a namespace that goes, and not
// for ever.
func (r *scaleReconciler) end(ctx context.Context, x *v1alpha1.ScheduledScale) error {
	if !controllerutil.ContainsFinalizer(x, giveBack) {
		return nil
	}
	space := &metav1.PartialObjectMetadata{}
	space.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.client.Get(ctx, client.ObjectKey{Name: x.Namespace}, space); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read namespace %s: %w", x.Namespace, err)
	}
	if space.Name != "" && space.DeletionTimestamp == nil {
		s := &scaling{ScheduledScale: x}
		t, err := r.read(ctx, s)
		if err == nil && t != nil {
			err = r.restore(ctx, x, t)
		}
		var wrong *objectError
		late := time.Since(x.DeletionTimestamp.Time) > giveBackTime
		switch {
		case err != nil && (late || errors.As(err, &wrong)):
			r.events.Eventf(x, nil, corev1.EventTypeWarning, "NotGivenBack", "Delete", "%s keeps the numbers that it was given: %v", targetOf(x), err)
		case err != nil:
			return err
		}
	}
	return r.finalize(ctx, x, false)
}

// finalize keeps a ScheduledScale when it is deleted, or lets it go.
func (r *scaleReconciler) finalize(ctx context.Context, x *v1alpha1.ScheduledScale, keep bool) error {
	if controllerutil.ContainsFinalizer(x, giveBack) == keep {
		return nil
	}
	o := &v1alpha1.ScheduledScale{ObjectMeta: *x.ObjectMeta.DeepCopy()}
	old := o.DeepCopy()
	if keep {
		controllerutil.AddFinalizer(o, giveBack)
	} else {
		controllerutil.RemoveFinalizer(o, giveBack)
	}
	if err := r.client.Patch(ctx, o, client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{}), client.FieldOwner(render.Manager)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("write the finalizers of ScheduledScale %s/%s: %w", x.Namespace, x.Name, err))
	}
	x.Finalizers, x.ResourceVersion = o.Finalizers, o.ResourceVersion
	return nil
}

// write writes a status.
func (r *scaleReconciler) write(ctx context.Context, was, is *v1alpha1.ScheduledScale) error {
	o := is.DeepCopy()
	if err := r.client.Status().Patch(ctx, o, client.MergeFrom(was), client.FieldOwner(render.Manager)); err != nil {
		return fmt.Errorf("write the status of ScheduledScale %s/%s: %w", is.Namespace, is.Name, err)
	}
	is.ResourceVersion = o.ResourceVersion
	r.count.statuses.Inc()
	return nil
}

// tell writes the status where it changed, and an event where something was done or failed.
func (r *scaleReconciler) tell(ctx context.Context, was *v1alpha1.ScheduledScale, s *scaling) error {
	if equality.Semantic.DeepEqual(was.Status, s.Status) {
		return nil
	}
	if err := r.write(ctx, was, s.ScheduledScale); err != nil {
		return client.IgnoreNotFound(err) // it was deleted meanwhile
	}
	c, old := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.Ready), meta.FindStatusCondition(was.Status.Conditions, v1alpha1.Ready)
	if c == nil || old != nil && old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message {
		return nil
	}
	kind := corev1.EventTypeNormal
	if c.Status != metav1.ConditionTrue && c.Reason != reasonWaiting {
		kind = corev1.EventTypeWarning
	}
	window := "no window holds"
	if n := s.Status.Now; n != nil && n.Window != "" {
		window = "window " + n.Window
	}
	r.events.Eventf(s.ScheduledScale, nil, kind, c.Reason, "Scale", "%s: %s", window, c.Message)
	return nil
}

// registerScaled lets calendars, targets and what scales them wake the controller.
func registerScaled(ctx context.Context, m manager.Manager, r *scaleReconciler) error {
	err := m.GetFieldIndexer().IndexField(ctx, &v1alpha1.ScheduledScale{}, targetIndex, func(o client.Object) []string {
		if x, ok := o.(*v1alpha1.ScheduledScale); ok {
			return []string{targetOf(x)}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("index ScheduledScales: %w", err)
	}
	of := func(ctx context.Context, namespace string, targets ...string) []reconcile.Request {
		var requests []reconcile.Request
		for _, t := range targets {
			all := &v1alpha1.ScheduledScaleList{}
			if err := r.client.List(ctx, all, client.InNamespace(namespace), client.MatchingFields{targetIndex: t}, client.UnsafeDisableDeepCopy); err != nil {
				return nil // the cache ends, and with it the operator
			}
			for i := range all.Items {
				requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
			}
		}
		return requests
	}
	by := func(kind string) handler.EventHandler {
		return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return of(ctx, o.GetNamespace(), kind+"/"+o.GetName())
		})
	}
	rivals := func(ctx context.Context, o client.Object, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		if x, ok := o.(*v1alpha1.ScheduledScale); ok {
			for _, other := range of(ctx, x.Namespace, targetOf(x)) {
				if other.Name != x.Name {
					q.Add(other)
				}
			}
		}
	}
	changed := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	b := builder.ControllerManagedBy(m).Named("scheduledscale").For(&v1alpha1.ScheduledScale{}, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: scaleWorkers, ReconciliationTimeout: workTime, RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)}).
		Watches(&v1alpha1.Exposure{}, by("Exposure"), changed).
		Watches(&appsv1.Deployment{}, by("Deployment"), changed).
		Watches(&appsv1.StatefulSet{}, by("StatefulSet"), changed).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			h, ok := o.(*autoscalingv2.HorizontalPodAutoscaler)
			if !ok {
				return nil
			}
			targets := []string{"HorizontalPodAutoscaler/" + h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name}
			if c := metav1.GetControllerOf(h); c != nil && c.Kind == "Exposure" {
				targets = append(targets, "Exposure/"+c.Name)
			}
			return of(ctx, h.Namespace, targets...)
		}), builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
			old, ok := e.ObjectOld.(*autoscalingv2.HorizontalPodAutoscaler)
			now, alike := e.ObjectNew.(*autoscalingv2.HorizontalPodAutoscaler)
			return !ok || !alike || !equality.Semantic.DeepEqual(old.Spec, now.Spec)
		}})).
		// Others of the same target come to their turn when one gives it up.
		Watches(&v1alpha1.ScheduledScale{}, handler.Funcs{
			UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				old, ok := e.ObjectOld.(*v1alpha1.ScheduledScale)
				now, alike := e.ObjectNew.(*v1alpha1.ScheduledScale)
				if ok && alike && (old.Generation != now.Generation || (old.Status.Before == nil) != (now.Status.Before == nil)) {
					rivals(ctx, now, q)
				}
			},
			DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				rivals(ctx, e.Object, q)
			},
		})
	if r.rollouts {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(rolloutKind)
		b = b.Watches(u, by(rolloutKind.Kind), changed)
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("make the controller of ScheduledScales: %w", err)
	}
	return nil
}

// scheduled is the Exposure with the numbers that the calendar gives it, and a note that
// says so, "" if none does. The Exposure itself is left as it is.
func (r *reconciler) scheduled(ctx context.Context, e *v1alpha1.Exposure) (*v1alpha1.Exposure, string, error) {
	if !r.cluster.scheduled || e.Spec.Scaling == nil || e.Spec.Scaling.Max == 0 {
		return e, "", nil
	}
	all := &v1alpha1.ScheduledScaleList{}
	if err := r.client.List(ctx, all, client.InNamespace(e.Namespace), client.MatchingFields{targetIndex: "Exposure/" + e.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, "", fmt.Errorf("list ScheduledScales: %w", err)
	}
	at := slices.IndexFunc(all.Items, func(x v1alpha1.ScheduledScale) bool {
		return x.Spec.Mode == v1alpha1.Apply && x.DeletionTimestamp == nil && meta.IsStatusConditionTrue(x.Status.Conditions, v1alpha1.Accepted) && x.Status.Now != nil && (x.Status.Now.Min != nil || x.Status.Now.Max != nil)
	})
	if at < 0 {
		return e, "", nil
	}
	x := &all.Items[at]
	e = e.DeepCopy()
	s := e.Spec.Scaling
	s.Min, s.Max = schedule.Bounds{Min: x.Status.Now.Min, Max: x.Status.Now.Max}.Bound(s.Min, s.Max)
	note := fmt.Sprintf("by ScheduledScale %s there are %d to %d pods", x.Name, s.Min, s.Max)
	if w := x.Status.Now.Window; w != "" {
		note += ", for it is its window " + w
	}
	return e, note, nil
}
