package operator

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
	"dhow/internal/operator/render"
)

// kind is a kind of which the operator makes objects.
type kind struct {
	schema.GroupVersionKind
	// sample is as the cache has it: whole where more than its name and labels matters.
	sample client.Object
}

func (k kind) empty() client.Object { return k.sample.DeepCopyObject().(client.Object) }

// kinds are those that this cluster knows: an Exposure's own, and what Exposures share.
func kinds(c cluster) (own, shared []kind) {
	whole := func(o client.Object, gvk schema.GroupVersionKind) kind {
		o.GetObjectKind().SetGroupVersionKind(gvk)
		return kind{gvk, o}
	}
	named := func(gvk schema.GroupVersionKind) kind {
		o := &metav1.PartialObjectMetadata{}
		o.SetGroupVersionKind(gvk)
		return kind{gvk, o}
	}
	own = []kind{
		whole(&corev1.Service{}, corev1.SchemeGroupVersion.WithKind("Service")),
		whole(&policyv1.PodDisruptionBudget{}, policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget")),
		whole(&autoscalingv2.HorizontalPodAutoscaler{}, autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler")),
		named(networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy")),
		whole(&networkingv1.Ingress{}, networkingv1.SchemeGroupVersion.WithKind("Ingress")),
	}
	gateway := schema.GroupVersion{Group: gatewayv1.GroupName, Version: "v1"}
	if c.Gateway {
		own = append(own, whole(&gatewayv1.HTTPRoute{}, gateway.WithKind("HTTPRoute")))
	}
	if c.GRPC {
		own = append(own, whole(&gatewayv1.GRPCRoute{}, gateway.WithKind("GRPCRoute")))
	}
	if c.TCP {
		own = append(own, whole(&gatewayv1.TCPRoute{}, gateway.WithKind("TCPRoute")))
	}
	if c.UDP {
		own = append(own, whole(&gatewayv1.UDPRoute{}, gateway.WithKind("UDPRoute")))
	}
	if c.ControlVersion != "" {
		control := schema.GroupVersion{Group: elb.ControlGroup, Version: c.ControlVersion}
		own = append(own, named(control.WithKind(elb.TargetGroupKind)), named(control.WithKind(elb.ListenerRuleKind)))
		if c.Gateway {
			shared = append(shared, named(control.WithKind(elb.LoadBalancerKind)), named(gateway.WithKind("GatewayClass")), whole(&gatewayv1.Gateway{}, gateway.WithKind("Gateway")))
		}
	}
	return own, shared
}

// cacheOptions keep of each object what the operator looks at. Of what Exposures share only
// the operator's own matter; of the kinds that each Exposure has, all do: what the cache has
// not was not there when what it has was written, which spares a question for each new object.
func cacheOptions(shared []kind) cache.Options {
	o := cache.Options{DefaultTransform: strip, ByObject: map[client.Object]cache.ByObject{}, ReaderFailOnMissingInformer: true}
	ours := labels.SelectorFromSet(labels.Set{render.ManagedLabel: render.Manager})
	for _, k := range shared {
		o.ByObject[k.empty()] = cache.ByObject{Label: ours}
	}
	o.ByObject[&appsv1.ControllerRevision{}] = cache.ByObject{Label: ours}
	return o
}

// strip keeps of an object what the operator looks at. It may be given what it made itself:
// what comes with the first list passes by here twice.
func strip(x any) (any, error) {
	o, ok := x.(client.Object)
	if !ok {
		return x, nil
	}
	note := fieldsOf(o)
	if len(o.GetManagedFields()) > 0 {
		note = ownFields(o.GetManagedFields())
	}
	o.SetManagedFields(nil)
	switch x.(type) {
	case *v1alpha1.Exposure, *v1alpha1.ScheduledScale:
		return x, nil
	}
	kept := map[string]string{}
	for _, k := range []string{render.VisibilityNote, render.HostsNote} {
		if v, ok := o.GetAnnotations()[k]; ok {
			kept[k] = v
		}
	}
	o.SetSelfLink(note)
	o.SetAnnotations(nil)
	if len(kept) > 0 {
		o.SetAnnotations(kept)
	}
	if isOwn(o) { // its name and its owner say as much
		o.SetLabels(nil)
	}
	switch x := x.(type) {
	case *appsv1.Deployment:
		x.Spec.Template = stripPod(&x.Spec.Template)
		x.Status = appsv1.DeploymentStatus{AvailableReplicas: x.Status.AvailableReplicas}
	case *appsv1.StatefulSet:
		x.Spec.Template, x.Spec.VolumeClaimTemplates = stripPod(&x.Spec.Template), nil
		x.Status = appsv1.StatefulSetStatus{AvailableReplicas: x.Status.AvailableReplicas}
	case *appsv1.DaemonSet:
		x.Spec = appsv1.DaemonSetSpec{}
		x.Status = appsv1.DaemonSetStatus{NumberAvailable: x.Status.NumberAvailable}
	case *unstructured.Unstructured:
		stripRollout(x)
	case *policyv1.PodDisruptionBudget:
		x.Spec = policyv1.PodDisruptionBudgetSpec{Selector: x.Spec.Selector}
		x.Status = policyv1.PodDisruptionBudgetStatus{}
	case *autoscalingv2.HorizontalPodAutoscaler:
		x.Spec = autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: x.Spec.ScaleTargetRef, MinReplicas: x.Spec.MinReplicas, MaxReplicas: x.Spec.MaxReplicas}
		x.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
	case *networkingv1.Ingress:
		x.Spec = networkingv1.IngressSpec{}
	case *gatewayv1.HTTPRoute:
		x.Spec = gatewayv1.HTTPRouteSpec{}
	case *gatewayv1.GRPCRoute:
		x.Spec = gatewayv1.GRPCRouteSpec{}
	case *gatewayv1.TCPRoute:
		x.Spec = gatewayv1.TCPRouteSpec{}
	case *gatewayv1.UDPRoute:
		x.Spec = gatewayv1.UDPRouteSpec{}
	case *gatewayv1.Gateway:
		x.Spec = gatewayv1.GatewaySpec{}
	}
	return x, nil
}

// stripPod keeps of a pod's template what render.Workload is made of.
func stripPod(t *corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	small := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: t.Labels}, Spec: corev1.PodSpec{TerminationGracePeriodSeconds: t.Spec.TerminationGracePeriodSeconds}}
	for i := range t.Spec.Containers {
		c := &t.Spec.Containers[i]
		one := corev1.Container{Name: c.Name, Ports: c.Ports, ReadinessProbe: c.ReadinessProbe, LivenessProbe: c.LivenessProbe}
		if cpu, ok := c.Resources.Requests[corev1.ResourceCPU]; ok {
			one.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: cpu}
		}
		if c.Lifecycle != nil {
			one.Lifecycle = &corev1.Lifecycle{PreStop: c.Lifecycle.PreStop}
		}
		small.Spec.Containers = append(small.Spec.Containers, one)
	}
	return small
}

// stripRollout keeps of a Rollout what is kept of a Deployment.
func stripRollout(u *unstructured.Unstructured) {
	d := &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, d); err != nil {
		return // it is read again, and the error told, where it is used
	}
	d.Spec.Template = stripPod(&d.Spec.Template)
	small, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Selector: d.Spec.Selector, Replicas: d.Spec.Replicas, Template: d.Spec.Template}})
	if err != nil {
		return
	}
	u.Object["spec"] = small["spec"]
	u.Object["status"] = map[string]any{"availableReplicas": int64(d.Status.AvailableReplicas)}
}
