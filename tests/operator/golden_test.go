package operator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
	"dhow/internal/operator/render"
)

const (
	// compareTime bounds one comparison, compareAgain is between two.
	compareTime, compareAgain = 2 * time.Minute, time.Second
	// toldWrong is how many differences an error tells.
	toldWrong = 12
	// goldenName begins the names under which objects are made on trial.
	goldenName = "golden-"
	// askers ask the API server at once.
	askers = 8
)

// made are the kinds of which the operator makes objects.
//
//nolint:gochecknoglobals // a constant list
var made = []schema.GroupVersionKind{
	corev1.SchemeGroupVersion.WithKind("Service"),
	policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
	autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
	networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"),
	networkingv1.SchemeGroupVersion.WithKind("Ingress"),
	{Group: gatewayv1.GroupName, Version: "v1", Kind: "HTTPRoute"},
	{Group: gatewayv1.GroupName, Version: "v1", Kind: "GRPCRoute"},
	{Group: gatewayv1.GroupName, Version: "v1", Kind: "TCPRoute"},
	{Group: gatewayv1.GroupName, Version: "v1", Kind: "UDPRoute"},
	{Group: gatewayv1.GroupName, Version: "v1", Kind: "Gateway"},
	{Group: gatewayv1.GroupName, Version: "v1", Kind: "GatewayClass"},
	{Group: elb.ControlGroup, Version: elb.ControlVersion, Kind: elb.TargetGroupKind},
	{Group: elb.ControlGroup, Version: elb.ControlVersion, Kind: elb.ListenerRuleKind},
	{Group: elb.ControlGroup, Version: elb.ControlVersion, Kind: elb.LoadBalancerKind},
}

// goldens are objects as package render has them, and as the API server has them when they
// are made anew.
type goldens struct {
	exposures, objects int
	mu                 sync.Mutex
	// served are by name and by what was rendered.
	served map[string]map[string]any
}

// golden is an object that should be there.
type golden struct {
	*unstructured.Unstructured
	// owner is the Exposure's UID, "" of what Exposures share.
	owner types.UID
}

func keyOf(u *unstructured.Unstructured) string {
	return u.GetKind() + " " + u.GetNamespace() + "/" + u.GetName()
}

// compare says what is not as it should be: Exposures that are not ready, objects that are
// missing, differ or are left over. Its error ends the test.
func (g *goldens) compare(w *world) ([]string, error) {
	ctx, cancel := context.WithTimeout(w.ctx, compareTime)
	defer cancel()
	all := &v1alpha1.ExposureList{}
	if err := w.admin.List(ctx, all); err != nil {
		return []string{err.Error()}, nil
	}
	var wrong []string
	for i := range all.Items {
		e := &all.Items[i]
		c := meta.FindStatusCondition(e.Status.Conditions, v1alpha1.Ready)
		if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != e.Generation {
			wrong = append(wrong, fmt.Sprintf("Exposure %s/%s is not ready: %+v", e.Namespace, e.Name, c))
		}
	}
	if len(wrong) > 0 {
		return wrong, nil
	}
	deployments := &appsv1.DeploymentList{}
	if err := w.admin.List(ctx, deployments); err != nil {
		return []string{err.Error()}, nil
	}
	want, spaces, err := wanted(w, all.Items, deployments.Items)
	if err != nil {
		return nil, err
	}
	have, err := there(ctx, w)
	if err != nil {
		return []string{err.Error()}, nil
	}
	switch err := g.serve(ctx, w, want); {
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return nil, err
	case err != nil:
		return []string{err.Error()}, nil
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if text := g.differs(want[key], have[key]); text != "" {
			wrong = append(wrong, key+": "+text)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[key]; !ok {
			wrong = append(wrong, key+" is left over")
		}
	}
	for _, name := range spaces {
		space := &corev1.Namespace{}
		if err := w.admin.Get(ctx, client.ObjectKey{Name: name}, space); err != nil {
			return []string{err.Error()}, nil
		}
		if space.Labels[elb.ReadinessLabel] != "enabled" {
			wrong = append(wrong, "namespace "+name+" has no label that lets new pods wait for the load balancer")
		}
	}
	g.exposures, g.objects = len(all.Items), len(want)
	return wrong, nil
}

// wanted renders everything, and names the namespaces with pods that load balancers lead to.
func wanted(w *world, all []v1alpha1.Exposure, deployments []appsv1.Deployment) (map[string]golden, []string, error) {
	cluster := render.Cluster{Gateway: true, GRPC: true, TCP: true, UDP: true, ControlVersion: elb.ControlVersion}
	want := map[string]golden{}
	workloads := map[string]*appsv1.Deployment{}
	for i := range deployments {
		d := &deployments[i]
		workloads[d.Namespace+"/"+d.Name] = d
	}
	demands := map[render.Scope][]render.Demand{}
	spaces := map[string]bool{}
	for i := range all {
		e := &all[i]
		d := workloads[e.Namespace+"/"+e.Spec.Workload.Name]
		if d == nil {
			return nil, nil, fmt.Errorf("find the workload of Exposure %s/%s: there is none", e.Namespace, e.Name)
		}
		out, err := render.Render(render.Input{Exposure: e, Workload: workloadOf(d), Cluster: cluster, Policy: w.policy})
		if err != nil {
			return nil, nil, fmt.Errorf("render Exposure %s/%s: %w", e.Namespace, e.Name, err)
		}
		for _, o := range out.Objects {
			want[keyOf(o)] = golden{o, e.UID}
		}
		for _, x := range out.Demands {
			demands[x.Scope] = append(demands[x.Scope], x)
		}
		if out.Gated {
			spaces[e.Namespace] = true
		}
	}
	for scope, some := range demands {
		objects, err := render.Gateway(scope, some, cluster, w.policy)
		if err != nil {
			return nil, nil, fmt.Errorf("render the Gateway %s: %w", scope.Name(), err)
		}
		for _, o := range objects {
			want[keyOf(o)] = golden{o, ""}
		}
	}
	return want, slices.Sorted(maps.Keys(spaces)), nil
}

// workloadOf is a Deployment as package render wants to know it.
func workloadOf(d *appsv1.Deployment) render.Workload {
	t := &d.Spec.Template.Spec
	w := render.Workload{APIVersion: "apps/v1", Kind: "Deployment", Name: d.Name, Selector: d.Spec.Selector.MatchLabels, Replicas: *d.Spec.Replicas, Grace: t.TerminationGracePeriodSeconds}
	for i := range t.Containers {
		c := &t.Containers[i]
		one := render.Container{Name: c.Name, Ports: c.Ports, Readiness: c.ReadinessProbe, Liveness: c.LivenessProbe, CPU: !c.Resources.Requests.Cpu().IsZero()}
		if l := c.Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil {
			one.PreStop = l.PreStop.Sleep.Seconds
		}
		w.Containers = append(w.Containers, one)
	}
	return w
}

// there are all objects of the operator's kinds where nobody else makes any.
func there(ctx context.Context, w *world) (map[string]*unstructured.Unstructured, error) {
	have := map[string]*unstructured.Unstructured{}
	for _, kind := range made {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		if err := w.admin.List(ctx, list); err != nil {
			return nil, fmt.Errorf("list %ss: %w", kind.Kind, err)
		}
		for i := range list.Items {
			if u := &list.Items[i]; w.ours(u) {
				have[keyOf(u)] = u
			}
		}
	}
	return have, nil
}

// serve asks the API server what it would make of each object, by making it on trial under
// another name: with its defaults it must be what is there.
func (g *goldens) serve(ctx context.Context, w *world, want map[string]golden) error {
	if g.served == nil {
		g.served = map[string]map[string]any{}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askers)
	for _, x := range want {
		id, err := idOf(x.Unstructured)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if g.known(id) != nil {
			continue
		}
		group.Go(func() error {
			one := x.DeepCopy()
			one.SetName(goldenName + x.GetName())
			if err := w.admin.Create(ctx, one, client.DryRunAll, client.FieldOwner(render.Manager)); err != nil {
				return fmt.Errorf("make %s on trial: %w", keyOf(one), err)
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			g.served[id] = plain(one)
			return nil
		})
	}
	return group.Wait()
}

// known is what the API server makes of an object, nil if it was not asked.
func (g *goldens) known(id string) map[string]any {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.served[id]
}

// idOf tells objects apart by all that they are.
func idOf(u *unstructured.Unstructured) (string, error) {
	hash, err := render.Hash(u)
	return keyOf(u) + " " + hash, err
}

// differs says how an object is not what it should be.
func (g *goldens) differs(want golden, have *unstructured.Unstructured) string {
	if have == nil {
		return "it is not there"
	}
	if have.GetDeletionTimestamp() != nil {
		return "it is being deleted"
	}
	id, err := idOf(want.Unstructured)
	if err != nil {
		return err.Error()
	}
	if d := cmp.Diff(g.known(id), plain(have)); d != "" {
		return "-want +have:\n" + d
	}
	owner := metav1.GetControllerOf(have)
	switch {
	case want.owner == "" && owner != nil:
		return fmt.Sprintf("it is owned by %s %s", owner.Kind, owner.Name)
	case want.owner != "" && (owner == nil || owner.UID != want.owner):
		return fmt.Sprintf("its owner is %+v: want the Exposure %s", owner, want.owner)
	}
	return ""
}

// plain is what of an object follows from what was applied: its labels and annotations,
// and its spec without the addresses that the API server gave out.
func plain(u *unstructured.Unstructured) map[string]any {
	spec, _, err := unstructured.NestedFieldNoCopy(u.Object, "spec")
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	part, ok := spec.(map[string]any)
	if !ok {
		return map[string]any{"error": "there is no spec"}
	}
	part = runtime.DeepCopyJSON(part)
	if u.GetKind() == "Service" {
		delete(part, "clusterIP")
		delete(part, "clusterIPs")
	}
	all := map[string]any{"spec": part}
	for name, texts := range map[string]map[string]string{"labels": u.GetLabels(), "annotations": u.GetAnnotations()} {
		if len(texts) > 0 {
			all[name] = texts
		}
	}
	return all
}
