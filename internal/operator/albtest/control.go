package albtest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/elb"
)

// gatePrefix begins the names of the controller's readiness gates.
const gatePrefix = "target-health.elbv2.k8s.aws/"

// Gate is the readiness gate that the controller gives to new pods behind a Service, in
// namespaces with the label for it.
func Gate(service string) corev1.PodReadinessGate {
	return corev1.PodReadinessGate{ConditionType: corev1.PodConditionType(gatePrefix + "k8s-" + service)}
}

// view is everything that a node has to know.
type view struct {
	routes []route
	groups map[string]groupView
}

// route leads a host and a path to target groups.
type route struct {
	host, path string
	exact      bool
	backends   []backend
}

// backend is a target group's share.
type backend struct {
	group  string
	weight int32
}

// groupView is a target group: its settings, and its targets by address.
type groupView struct {
	settings settings
	targets  map[string]bool
}

// settings are those of a target group.
type settings struct {
	path, codes string
	// port is that of health checks, "" for the one that gets the requests.
	port               string
	interval, timeout  time.Duration
	healthy, unhealthy int
	// delay is for how long what a target had goes on after it was taken out.
	delay time.Duration
	// leastOutstanding spreads requests so; otherwise they go round.
	leastOutstanding bool
}

// elbDefaults are ELB's own where nothing is said.
func elbDefaults() settings {
	return settings{path: "/", codes: "200", interval: 30 * time.Second, timeout: 5 * time.Second, healthy: 5, unhealthy: 2, delay: 300 * time.Second}
}

// podTargets are a pod with the targets that it is.
type podTargets struct {
	pod     *corev1.Pod
	targets []struct{ group, address string }
}

// read reads the cluster: what the nodes have to know, and the pods that wait for them.
func (b *Balancer) read(ctx context.Context) (view, []*podTargets, error) {
	v := view{groups: map[string]groupView{}}
	gateway := &gatewayv1.Gateway{}
	if err := b.o.Client.Get(ctx, b.o.Gateway, gateway); err != nil {
		if apierrors.IsNotFound(err) { // then there is no load balancer yet, or no longer
			return v, nil, nil
		}
		return v, nil, fmt.Errorf("read the Gateway %s: %w", b.o.Gateway, err)
	}
	routes := &gatewayv1.HTTPRouteList{}
	if err := b.o.Client.List(ctx, routes); err != nil {
		return v, nil, fmt.Errorf("list HTTPRoutes: %w", err)
	}
	pods := map[types.NamespacedName]*podTargets{}
	for i := range routes.Items {
		r := &routes.Items[i]
		if !b.leads(r) {
			continue
		}
		for _, rule := range r.Spec.Rules {
			var to []backend
			for _, ref := range rule.BackendRefs {
				name, err := b.targetGroup(ctx, v, pods, r.Namespace, ref.BackendRef)
				if err != nil {
					return v, nil, err
				}
				weight := int32(1)
				if ref.Weight != nil {
					weight = *ref.Weight
				}
				to = append(to, backend{name, weight})
			}
			if len(to) > 0 {
				v.routes = append(v.routes, routesOf(r, rule, to)...)
			}
		}
	}
	// Whole hosts and longer paths come first, as the controller orders an ALB's rules.
	slices.SortStableFunc(v.routes, func(a, b route) int {
		return cmp.Or(strings.Count(a.host, "*")-strings.Count(b.host, "*"), len(b.path)-len(a.path))
	})
	all := make([]*podTargets, 0, len(pods))
	for _, p := range pods {
		all = append(all, p)
	}
	return v, all, nil
}

// leads says that a route is one of the Gateway's.
func (b *Balancer) leads(r *gatewayv1.HTTPRoute) bool {
	return slices.ContainsFunc(r.Spec.ParentRefs, func(p gatewayv1.ParentReference) bool {
		namespace := r.Namespace
		if p.Namespace != nil {
			namespace = string(*p.Namespace)
		}
		return string(p.Name) == b.o.Gateway.Name && namespace == b.o.Gateway.Namespace && (p.Kind == nil || *p.Kind == "Gateway")
	})
}

// routesOf are those of a rule, one for each host and path.
func routesOf(r *gatewayv1.HTTPRoute, rule gatewayv1.HTTPRouteRule, to []backend) []route {
	paths := []route{{path: "/", backends: to}}
	if len(rule.Matches) > 0 {
		paths = nil
	}
	for _, m := range rule.Matches {
		one := route{path: "/", backends: to}
		if m.Path != nil && m.Path.Value != nil {
			one.path = *m.Path.Value
			one.exact = m.Path.Type != nil && *m.Path.Type == gatewayv1.PathMatchExact
		}
		paths = append(paths, one)
	}
	var all []route
	for _, host := range r.Spec.Hostnames {
		for _, p := range paths {
			p.host = string(host)
			all = append(all, p)
		}
	}
	return all
}

// targetGroup puts the target group of a Service's port into the view, and gives its name.
func (b *Balancer) targetGroup(ctx context.Context, v view, pods map[types.NamespacedName]*podTargets, namespace string, ref gatewayv1.BackendRef) (string, error) {
	if ref.Port == nil {
		return "", fmt.Errorf("a route in namespace %s leads to Service %s without a port", namespace, ref.Name)
	}
	name := fmt.Sprintf("%s/%s:%d", namespace, ref.Name, *ref.Port)
	if _, known := v.groups[name]; known {
		return name, nil
	}
	g := groupView{targets: map[string]bool{}}
	service := &corev1.Service{}
	if err := b.o.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: string(ref.Name)}, service); err != nil {
		if apierrors.IsNotFound(err) { // ELB answers 503 for it
			v.groups[name] = g
			return name, nil
		}
		return "", fmt.Errorf("read Service %s/%s: %w", namespace, ref.Name, err)
	}
	i := slices.IndexFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == *ref.Port })
	if i < 0 {
		return "", fmt.Errorf("read Service %s/%s: it has no port %d", namespace, ref.Name, *ref.Port)
	}
	var err error
	if g.settings, err = b.settings(ctx, namespace, service.Name); err != nil {
		return "", err
	}
	ends := &discoveryv1.EndpointSliceList{}
	if err := b.o.Client.List(ctx, ends, client.InNamespace(namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service.Name}); err != nil {
		return "", fmt.Errorf("list the endpoints of Service %s/%s: %w", namespace, service.Name, err)
	}
	for j := range ends.Items {
		if err := b.register(ctx, name, g, pods, &ends.Items[j], service.Spec.Ports[i].Name); err != nil {
			return "", err
		}
	}
	v.groups[name] = g
	return name, nil
}

// register makes targets of those endpoints that are to be: they serve, or would if their
// readiness gates did not wait for this. Those that end are none any more.
func (b *Balancer) register(ctx context.Context, group string, g groupView, pods map[types.NamespacedName]*podTargets, s *discoveryv1.EndpointSlice, port string) error {
	number := int32(0)
	for _, p := range s.Ports {
		if p.Port != nil && (p.Name == nil && port == "" || p.Name != nil && *p.Name == port) {
			number = *p.Port
		}
	}
	if number == 0 {
		return nil
	}
	for _, e := range s.Endpoints {
		if len(e.Addresses) == 0 || e.Conditions.Terminating != nil && *e.Conditions.Terminating {
			continue
		}
		ready := e.Conditions.Ready == nil || *e.Conditions.Ready
		address := e.Addresses[0] + ":" + strconv.Itoa(int(number))
		if e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
			if ready {
				g.targets[address] = true
			}
			continue
		}
		key := types.NamespacedName{Namespace: s.Namespace, Name: e.TargetRef.Name}
		p := pods[key]
		if p == nil {
			p = &podTargets{pod: &corev1.Pod{}}
			if err := b.o.Client.Get(ctx, key, p.pod); err != nil {
				if apierrors.IsNotFound(err) {
					continue
				}
				return fmt.Errorf("read pod %s: %w", key, err)
			}
		}
		waits := gated(p.pod) && podCondition(p.pod, corev1.ContainersReady) == corev1.ConditionTrue
		if p.pod.DeletionTimestamp != nil || !ready && !waits {
			continue
		}
		g.targets[address] = true
		p.targets = append(p.targets, struct{ group, address string }{group, address})
		pods[key] = p
	}
	return nil
}

func gated(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool { return strings.HasPrefix(string(g.ConditionType), gatePrefix) })
}

func podCondition(p *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

// open says at a pod's readiness gates whether the load balancer sends to it.
func (b *Balancer) open(ctx context.Context, p *podTargets) error {
	status, reason := corev1.ConditionTrue, "Healthy"
	for _, t := range p.targets {
		if !b.healthy(t.group, t.address) {
			status, reason = corev1.ConditionFalse, "Elb.InitialHealthChecking"
		}
	}
	var conditions []corev1.PodCondition
	for _, g := range p.pod.Spec.ReadinessGates {
		if strings.HasPrefix(string(g.ConditionType), gatePrefix) && podCondition(p.pod, g.ConditionType) != status {
			conditions = append(conditions, corev1.PodCondition{Type: g.ConditionType, Status: status, Reason: reason, LastTransitionTime: metav1.Now()})
		}
	}
	if len(conditions) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": conditions}})
	if err != nil {
		return fmt.Errorf("write the conditions of pod %s: %w", p.pod.Name, err)
	}
	err = b.o.Client.Status().Patch(ctx, p.pod, client.RawPatch(types.StrategicMergePatchType, patch))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the conditions of pod %s: %w", p.pod.Name, err)
	}
	return nil
}

// settings are what the TargetGroupConfiguration of a Service says, and ELB's own beside it.
func (b *Balancer) settings(ctx context.Context, namespace, service string) (settings, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: elb.ControlGroup, Version: elb.ControlVersion, Kind: elb.TargetGroupKind + "List"})
	if err := b.o.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return settings{}, fmt.Errorf("list TargetGroupConfigurations: %w", err)
	}
	for i := range list.Items {
		u := &list.Items[i]
		name, _, err := unstructured.NestedString(u.Object, "spec", "targetReference", "name")
		if err != nil {
			return settings{}, fmt.Errorf("read TargetGroupConfiguration %s: %w", u.GetName(), err)
		}
		if name == service {
			return settingsOf(u)
		}
	}
	return elbDefaults(), nil
}

// configuration is what of a TargetGroupConfiguration is read.
type configuration struct {
	Spec struct {
		DefaultConfiguration struct {
			TargetType            string
			TargetGroupAttributes []struct{ Key, Value string }
			HealthCheckConfig     struct {
				HealthCheckInterval, HealthCheckTimeout        int
				HealthyThresholdCount, UnhealthyThresholdCount int
				HealthCheckPath, HealthCheckPort               string
				Matcher                                        struct{ HTTPCode string }
			}
		}
	}
}

func settingsOf(u *unstructured.Unstructured) (settings, error) {
	s := elbDefaults()
	text, err := json.Marshal(u.Object)
	if err != nil {
		return s, fmt.Errorf("read TargetGroupConfiguration %s: %w", u.GetName(), err)
	}
	var c configuration
	if err := json.Unmarshal(text, &c); err != nil {
		return s, fmt.Errorf("read TargetGroupConfiguration %s: %w", u.GetName(), err)
	}
	d := c.Spec.DefaultConfiguration
	if d.TargetType != "ip" {
		return s, fmt.Errorf("read TargetGroupConfiguration %s: its targets are of type %q, and only ip is played", u.GetName(), d.TargetType)
	}
	h := d.HealthCheckConfig
	s.path, s.codes = cmp.Or(h.HealthCheckPath, s.path), cmp.Or(h.Matcher.HTTPCode, s.codes)
	s.port = h.HealthCheckPort
	s.interval = cmp.Or(time.Duration(h.HealthCheckInterval)*time.Second, s.interval)
	s.timeout = cmp.Or(time.Duration(h.HealthCheckTimeout)*time.Second, s.timeout)
	s.healthy, s.unhealthy = cmp.Or(h.HealthyThresholdCount, s.healthy), cmp.Or(h.UnhealthyThresholdCount, s.unhealthy)
	for _, a := range d.TargetGroupAttributes {
		switch a.Key {
		case "deregistration_delay.timeout_seconds":
			seconds, err := strconv.Atoi(a.Value)
			if err != nil {
				return s, fmt.Errorf("read TargetGroupConfiguration %s: the deregistration delay %q: %w", u.GetName(), a.Value, err)
			}
			s.delay = time.Duration(seconds) * time.Second
		case "load_balancing.algorithm.type":
			s.leastOutstanding = a.Value == "least_outstanding_requests"
		}
	}
	return s, nil
}

// wellCode says whether an answer is one of a target that is well: codes are as 200 or
// 200-299 or 200,204.
func wellCode(codes string, code int) bool {
	for part := range strings.SplitSeq(codes, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 == nil && err2 == nil && from <= code && code <= to {
			return true
		}
	}
	return false
}
