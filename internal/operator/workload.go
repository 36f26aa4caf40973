package operator

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/admit"
	"dhow/internal/operator/render"
)

// rolloutKind is Argo's, which is known where it is installed.
//
//nolint:gochecknoglobals // a constant
var rolloutKind = schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Rollout"}

// facts are what is known of a workload.
type facts struct {
	render.Workload
	// ready are its pods that serve; known says that it is known how many do.
	ready int32
	known bool
	// unguarded says that its pods are left out of what their namespace asks for.
	unguarded bool
}

// errNoWorkload says that there is no such workload.
var errNoWorkload = fmt.Errorf("there is no such workload")

// workload reads an Exposure's workload from the cache.
func (r *reconciler) workload(ctx context.Context, e *v1alpha1.Exposure) (facts, error) {
	w := e.Spec.Workload
	if w.Selector != nil {
		return facts{Workload: render.Workload{Selector: w.Selector.MatchLabels}}, nil
	}
	var o client.Object
	switch w.Kind {
	case "StatefulSet":
		o = &appsv1.StatefulSet{}
	case rolloutKind.Kind:
		if !r.cluster.rollouts {
			return facts{}, fmt.Errorf("%w: the cluster does not know Argo Rollouts", errNoWorkload)
		}
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(rolloutKind)
		o = u
	default:
		o = &appsv1.Deployment{}
	}
	if err := r.client.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: w.Name}, o); err != nil {
		if apierrors.IsNotFound(err) {
			return facts{}, fmt.Errorf("%w as %s %s", errNoWorkload, w.Kind, w.Name)
		}
		return facts{}, fmt.Errorf("read %s %s: %w", w.Kind, w.Name, err)
	}
	return factsOf(o)
}

// factsOf reads a workload.
func factsOf(o client.Object) (facts, error) {
	switch x := o.(type) {
	case *appsv1.Deployment:
		return factsFrom("apps/v1", "Deployment", x.Name, x.Spec.Selector, x.Spec.Replicas, &x.Spec.Template, x.Status.AvailableReplicas)
	case *appsv1.StatefulSet:
		return factsFrom("apps/v1", "StatefulSet", x.Name, x.Spec.Selector, x.Spec.Replicas, &x.Spec.Template, x.Status.AvailableReplicas)
	case *unstructured.Unstructured:
		// A Rollout's fields that matter are a Deployment's.
		d := &appsv1.Deployment{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(x.Object, d); err != nil {
			return facts{}, fmt.Errorf("read %s: %w", describe(o), err)
		}
		return factsFrom(x.GetAPIVersion(), x.GetKind(), d.Name, d.Spec.Selector, d.Spec.Replicas, &d.Spec.Template, d.Status.AvailableReplicas)
	}
	return facts{}, fmt.Errorf("read a workload: %T is none", o)
}

func factsFrom(version, kind, name string, selector *metav1.LabelSelector, replicas *int32, t *corev1.PodTemplateSpec, ready int32) (facts, error) {
	f := facts{Workload: render.Workload{APIVersion: version, Kind: kind, Name: name, Replicas: 1, Grace: t.Spec.TerminationGracePeriodSeconds}, ready: ready, known: true, unguarded: t.Labels[render.GuardLabel] == render.GuardOff}
	if replicas != nil {
		f.Replicas = *replicas
	}
	if selector == nil || len(selector.MatchLabels) == 0 || len(selector.MatchExpressions) > 0 {
		return f, fmt.Errorf("%w that can be exposed: %s %s selects its pods by expressions, which a Service can not", errNoWorkload, kind, name)
	}
	f.Selector = selector.MatchLabels
	for i := range t.Spec.Containers {
		c := &t.Spec.Containers[i]
		one := render.Container{Name: c.Name, Ports: c.Ports, Readiness: c.ReadinessProbe, Liveness: c.LivenessProbe, CPU: !c.Resources.Requests.Cpu().IsZero()}
		if l := c.Lifecycle; l != nil && l.PreStop != nil {
			seconds, known := admit.Slept(l.PreStop)
			one.PreStop, one.Hooked = seconds, !known
		}
		f.Containers = append(f.Containers, one)
	}
	return f, nil
}
