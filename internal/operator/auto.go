package operator

import (
	"context"
	"fmt"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

const (
	// Deducer is who owns the fields of a deduced Exposure: another than who makes objects, so
	// that what somebody sets by hand in one stays.
	Deducer = "dhow-deduce"
	// deducedNote is the hash of what was deduced.
	deducedNote = v1alpha1.Group + "/deduced-hash"
)

// deduceReconciler gives the workloads of namespaces that ask for it an Exposure each. What
// somebody changes in one is his from then on; turned off, they stay as they are, for traffic
// may depend on them.
type deduceReconciler struct {
	client client.Client
	events events.EventRecorder
	policy render.Policy
	count  *counters
	// sample is the kind of workload.
	sample client.Object
}

// Reconcile looks at one workload. It may be repeated at any time.
func (r *deduceReconciler) Reconcile(ctx context.Context, at reconcile.Request) (reconcile.Result, error) {
	o := r.sample.DeepCopyObject().(client.Object)
	if err := r.client.Get(ctx, at.NamespacedName, o); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	space := &metav1.PartialObjectMetadata{}
	space.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.client.Get(ctx, client.ObjectKey{Name: at.Namespace}, space); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if o.GetDeletionTimestamp() != nil || space.DeletionTimestamp != nil || space.Labels[render.ExposeLabel] != render.ExposeAuto {
		return reconcile.Result{}, nil
	}
	f, err := factsOf(o)
	if err != nil {
		return reconcile.Result{}, nil //nolint:nilerr // it can not be exposed, which nobody asked for
	}
	theirs := &v1alpha1.ExposureList{}
	if err := r.client.List(ctx, theirs, client.InNamespace(at.Namespace), client.MatchingFields{workloadIndex: f.Kind + "/" + f.Name}); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Exposures: %w", err)
	}
	for i := range theirs.Items {
		if theirs.Items[i].Labels[render.DeducedLabel] == "" {
			return reconcile.Result{}, nil // somebody has said it himself
		}
	}
	spec, err := deduce(ctx, r.client, o, f, r.policy)
	if err != nil || spec == nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, r.give(ctx, o, f, spec)
}

// deduce says which Exposure a workload gets by itself, nil for none.
func deduce(ctx context.Context, c client.Reader, o client.Object, f facts, p render.Policy) (*v1alpha1.ExposureSpec, error) {
	services := &corev1.ServiceList{}
	if err := c.List(ctx, services, client.InNamespace(o.GetNamespace())); err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	spec, _ := deduced(o, f, o.GetAnnotations(), services.Items, p)
	return spec, nil
}

// deduced says which Exposure a workload gets by itself, notes being its annotations; nil
// with the reason if it gets none.
func deduced(o client.Object, f facts, notes map[string]string, services []corev1.Service, p render.Policy) (*v1alpha1.ExposureSpec, string) {
	said := map[string]string{}
	for k, v := range podLabels(o) {
		said[k] = v
	}
	for k, v := range o.GetLabels() {
		if k == render.ExposeLabel {
			said[k] = v
		}
	}
	return render.Deduce(f.Workload, said, notes, services, p)
}

// podLabels are those of a workload's pods.
func podLabels(o client.Object) map[string]string {
	switch x := o.(type) {
	case *appsv1.Deployment:
		return x.Spec.Template.Labels
	case *appsv1.StatefulSet:
		return x.Spec.Template.Labels
	}
	return nil
}

// give makes or changes a workload's Exposure.
func (r *deduceReconciler) give(ctx context.Context, o client.Object, f facts, spec *v1alpha1.ExposureSpec) error {
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(spec)
	if err != nil {
		return fmt.Errorf("write an Exposure: %w", err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": tree}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Exposure"))
	u.SetNamespace(o.GetNamespace())
	u.SetName(o.GetName())
	u.SetLabels(map[string]string{render.ManagedLabel: render.Manager, render.DeducedLabel: "true"})
	// With the workload goes its Exposure, and with that what was made of it.
	yes, no := true, false
	u.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: f.APIVersion, Kind: f.Kind, Name: f.Name, UID: o.GetUID(), Controller: &yes, BlockOwnerDeletion: &no}})
	hash, err := render.Hash(u)
	if err != nil {
		return err
	}
	u.SetAnnotations(map[string]string{deducedNote: hash})
	have := &v1alpha1.Exposure{}
	switch err := r.client.Get(ctx, client.ObjectKeyFromObject(o), have); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("read Exposure %s/%s: %w", o.GetNamespace(), o.GetName(), err)
	case have.Annotations[deducedNote] == hash, have.Labels[render.DeducedLabel] == "":
		return nil
	}
	err = r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(Deducer))
	switch {
	case apierrors.IsConflict(err): // somebody has made it his own
		return nil
	case apierrors.IsInvalid(err):
		r.events.Eventf(o, nil, corev1.EventTypeWarning, "NotExposed", "Deduce", "no Exposure could be deduced: %v", err)
		return nil
	case err != nil:
		return fmt.Errorf("apply Exposure %s/%s: %w", o.GetNamespace(), o.GetName(), err)
	}
	r.count.writes.Inc()
	r.events.Eventf(o, nil, corev1.EventTypeNormal, "Exposed", "Deduce", "it has the Exposure %s, %s: its namespace asks for one by the label %s", o.GetName(), spec.Visibility, render.ExposeLabel)
	return nil
}

// registerDeduced lets workloads, and what their Exposures follow from, wake the controller.
func registerDeduced(m manager.Manager, r *deduceReconciler, name string, list func() client.ObjectList) error {
	space := func(ctx context.Context, namespace string) []reconcile.Request {
		l := list()
		if err := r.client.List(ctx, l, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
			return nil
		}
		var all []reconcile.Request
		_ = metaEach(l, func(o client.Object) {
			all = append(all, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(o)})
		})
		return all
	}
	err := builder.ControllerManagedBy(m).Named("deduce-"+name).For(r.sample, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			if o.GetLabels()[render.ExposeLabel] != render.ExposeAuto {
				return nil
			}
			return space(ctx, o.GetName())
		}), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			if isOwn(o) || o.GetLabels()[render.ManagedLabel] == render.Manager {
				return nil
			}
			return space(ctx, o.GetNamespace())
		})).
		Watches(&v1alpha1.Exposure{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			e, ok := o.(*v1alpha1.Exposure)
			if !ok || e.Spec.Workload.Kind != reflect.TypeOf(r.sample).Elem().Name() {
				return nil
			}
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: e.Namespace, Name: e.Spec.Workload.Name}}}
		}), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(r)
	if err != nil {
		return fmt.Errorf("make the controller of deduced Exposures: %w", err)
	}
	return nil
}
