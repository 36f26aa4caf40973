package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"dhow/api/v1alpha1"
)

// scheduler is who owns the numbers that a target was given by the calendar.
const scheduler = "dhow-schedule"

// scaleVersion and scaleKind are what a workload's number of pods is written as.
const (
	scaleVersion = "autoscaling/v1"
	scaleKind    = "Scale"
	scalePart    = "scale"
)

// scaled is an autoscaler or a workload with its numbers, as the API server has it.
type scaled struct {
	object client.Object
	kind   schema.GroupVersionKind
	// workload says that its numbers are one: how many pods it has.
	workload    bool
	least, most int32
	// ours says that the numbers are those that it was given; where they are not, manager is
	// who has set them, "" if that is not known.
	ours    bool
	manager string
}

func (t *scaled) name() string { return t.kind.Kind + " " + t.object.GetName() }

// read reads a target past the cache. It refuses one that is scaled otherwise already.
func (r *scaleReconciler) read(ctx context.Context, s *scaling) (*scaled, error) {
	t := &scaled{workload: true}
	var fields [][]any
	switch s.Spec.Target.Kind {
	case "HorizontalPodAutoscaler":
		t.object, t.kind, t.workload = &autoscalingv2.HorizontalPodAutoscaler{}, autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"), false
		fields = [][]any{{"spec", "minReplicas"}, {"spec", "maxReplicas"}}
	case "Deployment":
		t.object, t.kind = &appsv1.Deployment{}, appsv1.SchemeGroupVersion.WithKind("Deployment")
	case "StatefulSet":
		t.object, t.kind = &appsv1.StatefulSet{}, appsv1.SchemeGroupVersion.WithKind("StatefulSet")
	case rolloutKind.Kind:
		if !r.rollouts {
			s.refuse(reasonNoTarget, "the cluster does not know Argo Rollouts: install them, or name another target")
			return nil, nil
		}
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(rolloutKind)
		t.object, t.kind = u, rolloutKind
	default:
		return nil, fmt.Errorf("read the target: %s is none", s.Spec.Target.Kind)
	}
	err := r.live.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: s.Spec.Target.Name}, t.object)
	switch {
	case apierrors.IsNotFound(err), err == nil && t.object.GetDeletionTimestamp() != nil:
		s.refuse(reasonNoTarget, fmt.Sprintf("there is no %s %s: make it, or make a ScheduledScale of another", s.Spec.Target.Kind, s.Spec.Target.Name))
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read %s %s: %w", s.Spec.Target.Kind, s.Spec.Target.Name, err)
	}
	switch o := t.object.(type) {
	case *autoscalingv2.HorizontalPodAutoscaler:
		if c := metav1.GetControllerOf(o); c != nil && c.Kind == "Exposure" {
			s.refuse(reasonOther, fmt.Sprintf("HorizontalPodAutoscaler %s is of Exposure %s: let the target be that", o.Name, c.Name))
			return nil, nil
		}
		t.least, t.most = ptr.Deref(o.Spec.MinReplicas, 1), o.Spec.MaxReplicas
	case *appsv1.Deployment:
		t.least = ptr.Deref(o.Spec.Replicas, 1)
	case *appsv1.StatefulSet:
		t.least = ptr.Deref(o.Spec.Replicas, 1)
	case *unstructured.Unstructured:
		n, found, err := unstructured.NestedInt64(o.Object, "spec", "replicas")
		if err != nil || n < 0 || n > math.MaxInt32 {
			return nil, fmt.Errorf("read Rollout %s: spec.replicas is no number of pods", o.GetName())
		}
		t.least = 1
		if found {
			t.least = int32(n)
		}
	}
	if t.workload {
		t.most = t.least
		fields = [][]any{{"spec", "replicas"}}
		scalers := &autoscalingv2.HorizontalPodAutoscalerList{}
		if err := r.client.List(ctx, scalers, client.InNamespace(s.Namespace), client.MatchingFields{workloadIndex: t.kind.Kind + "/" + t.object.GetName()}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list what scales: %w", err)
		}
		if len(scalers.Items) > 0 {
			h := &scalers.Items[0]
			other := "HorizontalPodAutoscaler " + h.Name
			if c := metav1.GetControllerOf(h); c != nil && c.Kind == "Exposure" {
				other = "Exposure " + c.Name
			}
			s.refuse(reasonOther, fmt.Sprintf("%s is scaled by %s: let the target be that", t.name(), other))
			return nil, nil
		}
	}
	t.ours, t.manager = ownerOf(t.object.GetManagedFields(), fields)
	return t, nil
}

// ownerOf says whether fields were applied by the calendar and have not been changed since,
// and otherwise who has set the last of them that somebody else has.
func ownerOf(all []metav1.ManagedFieldsEntry, fields [][]any) (ours bool, manager string) {
	ours = true
	for _, f := range fields {
		path := fieldpath.MakePathOrDie(f...)
		mine := false
		for i := range all {
			m := &all[i]
			set := &fieldpath.Set{}
			if m.FieldsV1 == nil || set.FromJSON(bytes.NewReader(m.FieldsV1.GetRawBytes())) != nil || !set.Has(path) {
				continue
			}
			if m.Manager == scheduler && m.Operation == metav1.ManagedFieldsOperationApply {
				mine = true
			} else {
				manager = m.Manager
			}
		}
		ours = ours && mine
	}
	if ours {
		manager = ""
	}
	return ours, manager
}

// apply gives a target its numbers. Whether it may was decided by what was read, so that it
// is refused, and tried again, where the target has changed since.
func (r *scaleReconciler) apply(ctx context.Context, t *scaled, least, most int32) error {
	body := map[string]any{"metadata": map[string]any{"name": t.object.GetName(), "namespace": t.object.GetNamespace(), "uid": string(t.object.GetUID()), "resourceVersion": t.object.GetResourceVersion()}}
	u := &unstructured.Unstructured{Object: body}
	var err error
	if t.workload {
		body["spec"] = map[string]any{"replicas": int64(least)}
		u.SetGroupVersionKind(schema.FromAPIVersionAndKind(scaleVersion, scaleKind))
		whole := &unstructured.Unstructured{Object: map[string]any{}}
		whole.SetGroupVersionKind(t.kind)
		whole.SetNamespace(t.object.GetNamespace())
		whole.SetName(t.object.GetName())
		err = r.client.SubResource(scalePart).Apply(ctx, client.ApplyConfigurationFromUnstructured(whole), &client.SubResourceApplyOptions{ApplyOptions: client.ApplyOptions{FieldManager: scheduler, Force: ptr.To(true)}, SubResourceBody: client.ApplyConfigurationFromUnstructured(u)})
	} else {
		body["spec"] = map[string]any{"minReplicas": int64(least), "maxReplicas": int64(most)}
		u.SetGroupVersionKind(t.kind)
		err = r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(scheduler), client.ForceOwnership)
	}
	return scaleError(t, err)
}

// give gives a target its own numbers back, in the name of who had set them, so that they are
// nobody else's afterwards.
func (r *scaleReconciler) give(ctx context.Context, t *scaled, own *v1alpha1.ScaleNumbers) error {
	spec := map[string]any{"minReplicas": own.Min, "maxReplicas": own.Max}
	if t.workload {
		spec = map[string]any{"replicas": own.Min}
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": t.object.GetUID(), "resourceVersion": t.object.GetResourceVersion()}, "spec": spec})
	if err != nil {
		return fmt.Errorf("write the numbers of %s: %w", t.name(), err)
	}
	manager := own.Manager
	if manager == "" {
		manager = scheduler
	}
	patch := client.RawPatch(types.MergePatchType, text)
	o := t.object.DeepCopyObject().(client.Object)
	if t.workload {
		err = r.client.SubResource(scalePart).Patch(ctx, o, patch, client.WithSubResourceBody(&autoscalingv1.Scale{}), client.FieldOwner(manager))
	} else {
		err = r.client.Patch(ctx, o, patch, client.FieldOwner(manager))
	}
	return scaleError(t, err)
}

// scaleError says in words what the API server says.
func scaleError(t *scaled, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err):
		return &objectError{reasonRefused, fmt.Sprintf("%s: the API server refuses its numbers: %v", t.name(), err), err}
	}
	return fmt.Errorf("write the numbers of %s: %w", t.name(), err)
}
