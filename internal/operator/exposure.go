package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
	"dhow/internal/operator/render"
)

// The indexes of Exposures.
const (
	claimIndex    = "claim"
	workloadIndex = "workload"
	serviceIndex  = "service"
	podsIndex     = "pods"
)

// againAfter is when an object that is being deleted is looked at again, beside being told
// of its end.
const againAfter = 5 * time.Second

// cacheLag is when an Exposure is looked at again of which the cache does not yet have what
// was written last.
const cacheLag = 50 * time.Millisecond

// reconciler makes what an Exposure takes, and tells what came of it.
type reconciler struct {
	client  client.Client
	apply   *applier
	events  events.EventRecorder
	cluster cluster
	policy  render.Policy
	kinds   []kind
	owned   *owned
	demands *demands
	count   *counters
	// guards says that pods of namespaces that ask for it are completed when they are made.
	guards bool
}

// Reconcile makes one Exposure's objects what they should be. It may be repeated at any
// time, and by several at once; where everything is as it should be, it writes nothing.
func (r *reconciler) Reconcile(ctx context.Context, at reconcile.Request) (reconcile.Result, error) {
	e := &v1alpha1.Exposure{}
	if err := r.client.Get(ctx, at.NamespacedName, e); err != nil {
		if apierrors.IsNotFound(err) {
			r.demands.drop(at.NamespacedName)
			r.apply.forget(statusKey(at.NamespacedName))
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("read Exposure %s: %w", at, err)
	}
	if r.apply.stale(statusKey(at.NamespacedName), e) {
		// Compared with the status before the last one, what is found now may look the same.
		return reconcile.Result{RequeueAfter: cacheLag}, nil
	}
	if e.DeletionTimestamp != nil { // the garbage collector removes what is its own
		r.demands.drop(at.NamespacedName)
		return reconcile.Result{}, nil
	}
	e = e.DeepCopy()
	was := e.DeepCopy()
	s := &state{Exposure: e}
	err := r.make(ctx, s)
	if errors.Is(err, context.Canceled) {
		return reconcile.Result{}, err
	}
	s.conclude(err)
	if wrote := r.tell(ctx, was, e); wrote != nil {
		return reconcile.Result{}, wrote
	}
	var o *objectError
	switch {
	case errors.As(err, &o) && o.reason == reasonTerminating:
		return reconcile.Result{RequeueAfter: againAfter}, nil
	case errors.As(err, &o), s.refused:
		// Nothing helps but a change of the Exposure or of what is around it, which wakes this.
		return reconcile.Result{RequeueAfter: r.lookAgain()}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: s.again}, nil
}

// statusKey is that of an Exposure's status among what was written.
func statusKey(at types.NamespacedName) string { return "status of Exposure " + at.String() }

// lookAgain is when something that nobody tells of is looked at again.
func (r *reconciler) lookAgain() time.Duration { return time.Minute }

// state is what is found out of one Exposure in one go.
type state struct {
	*v1alpha1.Exposure
	facts facts
	out   render.Output
	// scheduled says what the calendar makes of its numbers, "" if nothing.
	scheduled string
	// refused says that it can not be made as it is.
	refused bool
	// routes and balancer are what AWS's controller says.
	programmed metav1.Condition
	accepted   bool
	// again is when to look whether what was written has been seen, 0 where it has.
	again time.Duration
}

func (s *state) set(kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: s.Generation})
}

// make does the work: its error is why not everything is as it should be.
func (r *reconciler) make(ctx context.Context, s *state) error {
	s.Status.ObservedGeneration = s.Generation
	var err error
	if s.facts, err = r.workload(ctx, s.Exposure); err != nil {
		r.demands.keep(s.Exposure, render.Demands(s.Exposure, r.policy))
		if errors.Is(err, errNoWorkload) {
			s.refuse("WorkloadNotFound", err.Error()+": make it, or name another; what was made stays until then")
			return nil
		}
		return err
	}
	s.Status.Workload = strings.TrimPrefix(s.facts.Kind+"/"+s.facts.Name, "/")
	s.Status.Selector = labels.FormatLabels(s.facts.Selector)
	s.Status.Replicas = s.facts.ready
	in, err := r.input(ctx, s)
	if err != nil {
		return err
	}
	taken, err := r.taken(ctx, s.Exposure)
	if err != nil {
		return err
	}
	if taken != "" {
		r.demands.keep(s.Exposure, nil)
		s.refuse("Taken", taken)
		return nil
	}
	s.out, err = render.Render(in)
	var wrong *render.WrongError
	if errors.As(err, &wrong) {
		r.demands.keep(s.Exposure, nil)
		s.refuse(wrong.Reason, wrong.Text)
		return nil
	}
	if err != nil {
		return err
	}
	s.accepted = true
	s.set(v1alpha1.Accepted, metav1.ConditionTrue, "Accepted", "it can be made as it is")
	r.demands.keep(s.Exposure, s.out.Demands)
	s.Status.Address, s.Status.Settings, s.Status.Notes = s.out.Address, s.out.Settings, s.out.Notes
	if s.scheduled != "" {
		s.Status.Notes = append(s.Status.Notes, s.scheduled)
	}
	if s.out.Gated {
		if err := r.gate(ctx, s); err != nil {
			return err
		}
	}
	if err := r.objects(ctx, s); err != nil {
		return err
	}
	return r.ask(ctx, s)
}

func (s *state) refuse(reason, text string) {
	s.refused = true
	s.set(v1alpha1.Accepted, metav1.ConditionFalse, reason, text)
}

// input is everything that the objects follow from.
func (r *reconciler) input(ctx context.Context, s *state) (render.Input, error) {
	in := render.Input{Exposure: s.Exposure, Workload: s.facts.Workload, Cluster: r.cluster.Cluster, Policy: r.policy}
	space := &metav1.PartialObjectMetadata{}
	space.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.client.Get(ctx, client.ObjectKey{Name: s.Namespace}, space); err != nil {
		return in, fmt.Errorf("read namespace %s: %w", s.Namespace, err)
	}
	in.Workload.Guarded = r.guards && !s.facts.unguarded && space.Labels[render.GuardLabel] == render.GuardOn
	var err error
	if in.Ports, err = r.ports(ctx, s.Exposure); err != nil {
		return in, err
	}
	if err := r.others(ctx, s, &in); err != nil {
		return in, err
	}
	in.Exposure, s.scheduled, err = r.scheduled(ctx, s.Exposure)
	return in, err
}

const enabled = "enabled"

// ports are those of the Service that an Exposure takes as it is, nil where there is none.
func (r *reconciler) ports(ctx context.Context, e *v1alpha1.Exposure) ([]corev1.ServicePort, error) {
	x := e.Spec.Service
	if x == nil || x.Existing == "" {
		return nil, nil
	}
	service := &corev1.Service{}
	switch err := r.client.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: x.Existing}, service); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read Service %s: %w", x.Existing, err)
	}
	return service.Spec.Ports, nil
}

// others name what scales and protects the workload already, and is not this Exposure's: what
// no Exposure made, or what an older one of the same pods did.
func (r *reconciler) others(ctx context.Context, s *state, in *render.Input) error {
	mine := func(o client.Object) bool {
		return isOwn(o) || metav1.GetControllerOf(o) == nil && s.Spec.Adopt && o.GetName() == s.Name
	}
	scalers := &autoscalingv2.HorizontalPodAutoscalerList{}
	if err := r.client.List(ctx, scalers, client.InNamespace(s.Namespace), client.MatchingFields{workloadIndex: s.facts.Kind + "/" + s.facts.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list what scales: %w", err)
	}
	for i := range scalers.Items {
		h := &scalers.Items[i]
		if at := h.Spec.ScaleTargetRef; !mine(h) && s.facts.Name != "" && at.Kind == s.facts.Kind && at.Name == s.facts.Name {
			in.Scaled = max(in.Scaled, h.Name)
		}
	}
	budgets := &policyv1.PodDisruptionBudgetList{}
	if err := r.client.List(ctx, budgets, client.InNamespace(s.Namespace), client.MatchingFields{foreignIndex: foreign}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list what protects from disruption: %w", err)
	}
	for i := range budgets.Items {
		b := &budgets.Items[i]
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || mine(b) {
			continue
		}
		if selector.Matches(labels.Set(s.facts.Selector)) {
			in.Budgeted = max(in.Budgeted, b.Name)
		}
	}
	return r.elders(ctx, s, in)
}

// elders name what scales and protects the same pods for an older Exposure, and which says
// how load balancers treat the same Service. Who is younger makes none, so that of several it
// is always one, and the same, that does.
func (r *reconciler) elders(ctx context.Context, s *state, in *render.Input) error {
	var scaled, budgeted string
	pods := labels.FormatLabels(s.facts.Selector)
	all := &v1alpha1.ExposureList{}
	if err := r.client.List(ctx, all, client.InNamespace(s.Namespace), client.MatchingFields{podsIndex: pods}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list Exposures: %w", err)
	}
	for i := range all.Items {
		x := &all.Items[i]
		if x.UID == s.UID || x.DeletionTimestamp != nil || x.Status.Selector != pods || !older(x, s.Exposure) {
			continue
		}
		for _, o := range x.Status.Objects {
			switch o.Kind {
			case scalerKind:
				scaled = o.Name + " of Exposure " + x.Name
			case budgetKind:
				budgeted = o.Name + " of Exposure " + x.Name
			case elb.TargetGroupKind:
				if o.Name == x.Name && render.ServiceName(x) == render.ServiceName(s.Exposure) {
					in.Targeted = x.Name
				}
			}
		}
	}
	in.Scaled, in.Budgeted = cmp.Or(in.Scaled, scaled), cmp.Or(in.Budgeted, budgeted)
	return nil
}

// The kinds of which there is one for pods, however many Exposures they have; and there is one
// of elb.TargetGroupKind for a Service.
const scalerKind, budgetKind = "HorizontalPodAutoscaler", "PodDisruptionBudget"

// once is what younger Exposures of the same pods look at.
func once(e *v1alpha1.Exposure) string {
	text := e.Status.Selector
	for _, o := range e.Status.Objects {
		if o.Kind == scalerKind || o.Kind == budgetKind || o.Kind == elb.TargetGroupKind {
			text += " " + o.Kind + "/" + o.Name
		}
	}
	return text
}

// foreignIndex finds what no Exposure made.
const foreignIndex, foreign = "foreign", "yes"

// taken says what of an Exposure's claims another has already, "" if nothing. Who is older has it.
func (r *reconciler) taken(ctx context.Context, e *v1alpha1.Exposure) (string, error) {
	for _, c := range render.Claims(e, r.policy) {
		all := &v1alpha1.ExposureList{}
		if err := r.client.List(ctx, all, client.MatchingFields{claimIndex: c.Key}, client.UnsafeDisableDeepCopy); err != nil {
			return "", fmt.Errorf("list Exposures: %w", err)
		}
		for i := range all.Items {
			x := &all.Items[i]
			if x.UID == e.UID || x.DeletionTimestamp != nil || !older(x, e) {
				continue
			}
			if j := slices.IndexFunc(render.Claims(x, r.policy), func(o render.Claim) bool { return o.Key == c.Key }); j < 0 || render.Claims(x, r.policy)[j].Value == c.Value {
				continue
			}
			return fmt.Sprintf("%s is what Exposure %s/%s has: choose another, or change that one", c.What, x.Namespace, x.Name), nil
		}
	}
	return "", nil
}

func older(a, b *v1alpha1.Exposure) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Namespace+"/"+a.Name < b.Namespace+"/"+b.Name
}

// gate lets the namespace's new pods wait for the load balancer.
func (r *reconciler) gate(ctx context.Context, s *state) error {
	if r.policy.NoGates {
		return nil
	}
	space := &metav1.PartialObjectMetadata{}
	space.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.client.Get(ctx, client.ObjectKey{Name: s.Namespace}, space); err != nil {
		return fmt.Errorf("read namespace %s: %w", s.Namespace, err)
	}
	if space.Labels[elb.ReadinessLabel] == enabled {
		return nil
	}
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": s.Namespace, "labels": map[string]any{elb.ReadinessLabel: enabled}}}}
	key := keyOf(o)
	if r.apply.stale(key, space) {
		return nil
	}
	err := r.apply.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(render.Manager))
	switch {
	case apierrors.IsConflict(err), apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		s.Status.Notes = append(s.Status.Notes, fmt.Sprintf("the namespace's label %s could not be set to %s, so that rollouts do not wait for the load balancer: %v", elb.ReadinessLabel, enabled, err))
		return nil
	case err != nil:
		return fmt.Errorf("label namespace %s: %w", s.Namespace, err)
	}
	r.apply.wrote(key, o.GetResourceVersion())
	r.count.writes.Inc()
	return nil
}

// objects makes all objects, and removes those that are no longer wanted. It goes on after
// an object that can not be made, and returns the first error.
func (r *reconciler) objects(ctx context.Context, s *state) error {
	before := map[string]v1alpha1.Object{}
	for _, o := range s.Status.Objects {
		before[o.Kind+"/"+o.Name] = o
	}
	have, err := r.there(ctx, s)
	if err != nil {
		return err
	}
	by := owner{exposure: s.Exposure, adopt: s.Spec.Adopt}
	var first error
	all := make([]v1alpha1.Object, 0, len(s.out.Objects))
	for _, want := range s.out.Objects {
		name := want.GetKind() + "/" + want.GetName()
		o, wrote, err := r.apply.ensure(ctx, by, want, have[name], before[name])
		delete(have, name)
		s.again = max(s.again, r.apply.lookAfter(keyOf(want)))
		if wrote {
			r.count.writes.Inc()
		}
		if err != nil {
			var wrong *objectError
			if !errors.As(err, &wrong) {
				return err
			}
			if first == nil {
				first = err
			}
			if old, ok := before[name]; ok {
				old.Hash, old.Fields = "", ""
				all = append(all, old)
			}
			continue
		}
		all = append(all, o)
	}
	for _, name := range sortedKeys(have) {
		if o := have[name]; o.GetDeletionTimestamp() == nil {
			if err := r.apply.remove(ctx, o); err != nil {
				return err
			}
			r.count.writes.Inc()
		}
	}
	s.Status.Objects = all
	if first != nil {
		return first
	}
	s.set(v1alpha1.Applied, metav1.ConditionTrue, "Applied", fmt.Sprintf("%d objects are as they should be", len(all)))
	return nil
}

// there is what the cache has of the names that are wanted, whosever it is, and of the
// Exposure's own that is no longer wanted, by kind and name.
func (r *reconciler) there(ctx context.Context, s *state) (map[string]client.Object, error) {
	have := map[string]client.Object{}
	look := func(p piece, anybody bool) error {
		i := slices.IndexFunc(r.kinds, func(k kind) bool { return k.Kind == p.kind })
		if i < 0 {
			return nil // the cluster has forgotten the kind, or the object is nobody's to make
		}
		o := r.kinds[i].empty()
		err := r.client.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: p.name}, o)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s %s/%s: %w", p.kind, s.Namespace, p.name, err)
		}
		if c := metav1.GetControllerOf(o); anybody || c != nil && c.UID == s.UID {
			o.GetObjectKind().SetGroupVersionKind(r.kinds[i].GroupVersionKind)
			have[p.String()] = o
		}
		return nil
	}
	wanted := map[piece]bool{}
	for _, want := range s.out.Objects {
		p := piece{want.GetKind(), want.GetName()}
		wanted[p] = true
		if err := look(p, true); err != nil {
			return nil, err
		}
	}
	for _, p := range r.owned.all(s.UID) {
		if wanted[p] {
			continue
		}
		if err := look(p, false); err != nil {
			return nil, err
		}
	}
	return have, nil
}

// conclude says what the conditions say together. err is why not everything was made.
func (s *state) conclude(err error) {
	s.certificates()
	var o *objectError
	switch {
	case errors.As(err, &o):
		s.set(v1alpha1.Applied, metav1.ConditionFalse, o.reason, o.text)
	case err != nil:
		s.set(v1alpha1.Applied, metav1.ConditionUnknown, "Failed", "it is tried again: "+err.Error())
	case s.refused:
		s.set(v1alpha1.Applied, metav1.ConditionUnknown, "NotAccepted", "nothing is made of what is not accepted")
	}
	if s.programmed.Type != "" {
		s.set(v1alpha1.Programmed, s.programmed.Status, s.programmed.Reason, s.programmed.Message)
	} else {
		s.set(v1alpha1.Programmed, metav1.ConditionUnknown, "NotApplied", "not everything is applied that a load balancer needs")
	}
	switch {
	case !s.facts.known:
		s.set(v1alpha1.Available, metav1.ConditionUnknown, "NotCounted", "pods that are found by their labels alone are not counted")
	case s.facts.ready == 0 && s.facts.Replicas == 0:
		s.set(v1alpha1.Available, metav1.ConditionFalse, "ScaledToZero", "the workload has been told to have no pods")
	case s.facts.ready == 0:
		s.set(v1alpha1.Available, metav1.ConditionFalse, "NoPods", "no pod of the workload serves")
	default:
		s.set(v1alpha1.Available, metav1.ConditionTrue, "PodsServe", "pods of the workload serve")
	}
	for _, kind := range []string{v1alpha1.Accepted, v1alpha1.Applied, v1alpha1.Programmed, v1alpha1.Available} {
		c := meta.FindStatusCondition(s.Status.Conditions, kind)
		if c == nil || c.Status == metav1.ConditionTrue || kind == v1alpha1.Available && c.Status == metav1.ConditionUnknown {
			continue
		}
		s.set(v1alpha1.Ready, metav1.ConditionFalse, c.Reason, c.Message)
		return
	}
	s.set(v1alpha1.Ready, metav1.ConditionTrue, "Serving", "it can be called")
}

// tell writes the status where it changed, and an event where a condition did.
func (r *reconciler) tell(ctx context.Context, was, is *v1alpha1.Exposure) error {
	if equalStatus(&was.Status, &is.Status) {
		return nil
	}
	if err := r.client.Status().Patch(ctx, is, client.MergeFrom(was), client.FieldOwner(render.Manager)); err != nil {
		if apierrors.IsNotFound(err) { // it was deleted meanwhile
			return nil
		}
		return fmt.Errorf("write the status of Exposure %s/%s: %w", is.Namespace, is.Name, err)
	}
	r.count.statuses.Inc()
	r.apply.wrote(statusKey(demandKey(is)), is.ResourceVersion)
	for i := range is.Status.Conditions {
		c := &is.Status.Conditions[i]
		old := meta.FindStatusCondition(was.Status.Conditions, c.Type)
		if c.Type != v1alpha1.Ready || old != nil && old.Status == c.Status && old.Reason == c.Reason || c.Message == "" {
			continue
		}
		kind := corev1.EventTypeNormal
		if c.Status == metav1.ConditionFalse && slices.Contains([]string{reasonConflict, reasonNotOwned, reasonRefused, "Taken", "Rejected"}, c.Reason) {
			kind = corev1.EventTypeWarning
		}
		r.events.Eventf(is, nil, kind, c.Reason, "Reconcile", "%s", c.Message)
	}
	return nil
}

// demandKey names an Exposure.
func demandKey(e *v1alpha1.Exposure) types.NamespacedName { return client.ObjectKeyFromObject(e) }
