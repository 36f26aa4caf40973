package plan

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/elb"
)

const (
	// gatewayClass is served by the AWS Load Balancer Controller.
	gatewayClass = "dhow-alb"
	gatewayFile  = "01-gateways.yaml"
)

// scopeGateway is a Gateway: the public one, or the private one.
type scopeGateway struct {
	name      string
	namespace string
	public    bool
	hosts     []string
	// spaces are the namespaces with routes to it.
	spaces []string
}

// gatewayFor is the Gateway of a scope, nil where nothing of the cluster has it.
func (m *maker) gatewayFor(public bool) *scopeGateway {
	g := &scopeGateway{name: "private", public: public}
	if public {
		g.name = "public"
	}
	for _, u := range m.units {
		if u.place != EKS {
			continue
		}
		for _, r := range m.routesOf(u, public) {
			if !slices.Contains(g.hosts, r.host) {
				g.hosts = append(g.hosts, r.host)
			}
			if !slices.Contains(g.spaces, u.namespace) {
				g.spaces = append(g.spaces, u.namespace)
			}
		}
	}
	if len(g.hosts) == 0 {
		return nil
	}
	slices.Sort(g.hosts)
	slices.Sort(g.spaces)
	// One load balancer serves all namespaces; it stands in that of most of the plan.
	g.namespace = g.spaces[0]
	if slices.Contains(g.spaces, m.plan.Name) {
		g.namespace = m.plan.Name
	}
	return g
}

// mostListeners is the Gateway API's own bound of a Gateway.
const mostListeners = 64

// listener is the listener of a host: all names of the inside share one, and so does
// everything where there are more hosts than listeners. Its hostname is "" for any.
func (m *maker) listener(g *scopeGateway, host string) (name gatewayv1.SectionName, hostname string) {
	switch {
	case len(g.hosts) >= mostListeners:
		return "https", ""
	case strings.HasSuffix(host, insidePart+m.below):
		return "inside", "*" + insidePart + m.below
	}
	return gatewayv1.SectionName(elb.HostLabel(host)), host
}

// gateways writes the class, and for each scope a Gateway, what the controller is to
// make of it, and the route that sends port 80 to 443.
func (w *writer) gateways() {
	written := false
	for _, public := range []bool{true, false} {
		g := w.scopes[public]
		if g == nil {
			continue
		}
		if !written {
			written = true
			w.add(gatewayFile, elb.Class(gatewayClass, elb.ALBController))
		}
		w.gateway(g)
	}
}

func (w *writer) gateway(g *scopeGateway) {
	b := w.m.balancer(balancerName(w.m.plan.Name, g.name))
	var attributes []any
	if b != nil {
		for _, a := range b.Attributes {
			attributes = append(attributes, map[string]any{"key": a.Name, "value": a.Value})
		}
	}
	spec := map[string]any{"scheme": elb.Scheme(g.public), "loadBalancerName": balancerName(w.m.plan.Name, g.name), "listenerConfigurations": []any{map[string]any{"protocolPort": elb.ProtocolPort("HTTPS", elb.HTTPSPort), "sslPolicy": elb.TLSPolicy}}}
	if len(attributes) > 0 {
		spec["loadBalancerAttributes"] = attributes
	}
	w.add(gatewayFile, object(elb.ControlAPI, elb.LoadBalancerKind, g.namespace, g.name, spec))
	from := gatewayv1.NamespacesFromSame
	allowed := &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: &from}}
	if len(g.spaces) > 1 {
		from = gatewayv1.NamespacesFromSelector
		allowed.Namespaces.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: namespaceLabel, Operator: metav1.LabelSelectorOpIn, Values: g.spaces}}}
	}
	listeners := []gatewayv1.Listener{elb.PlainListener()}
	for _, h := range g.hosts {
		name, hostname := w.m.listener(g, h)
		if slices.ContainsFunc(listeners, func(l gatewayv1.Listener) bool { return l.Name == name }) {
			continue
		}
		listeners = append(listeners, elb.Listener(string(name), hostname, allowed))
	}
	w.add(gatewayFile, elb.Gateway(g.namespace, g.name, gatewayClass, listeners))
	w.add(gatewayFile, elb.Redirect(g.namespace, g.name))
}

// balancer is a load balancer of the document, nil if there is none of that name.
func (m *maker) balancer(name string) *Balancer {
	for i := range m.plan.Balancers {
		if m.plan.Balancers[i].Name == name {
			return &m.plan.Balancers[i]
		}
	}
	return nil
}

// lead is what leads hosts to a unit by the same paths.
type lead struct {
	name  string
	hosts []string
	paths []route
}

// leads are those of a unit through a load balancer: a route's paths hold for all of its
// hosts, so hosts with other paths have another. Each has at most so many hosts.
func (m *maker) leads(u *unit, public bool, most int) []lead {
	routes := m.routesOf(u, public)
	byPaths := map[string][]string{}
	var order []string
	paths := map[string][]route{}
	for _, host := range hostsOf(routes) {
		var mine []route
		key := ""
		for _, r := range routes {
			if r.host == host {
				mine = append(mine, r)
				key += r.path + " " + map[bool]string{true: "=", false: ""}[r.exact] + "\n"
			}
		}
		if byPaths[key] == nil {
			order = append(order, key)
			paths[key] = mine
		}
		byPaths[key] = append(byPaths[key], host)
	}
	var all []lead
	for _, key := range order {
		for hosts := range slices.Chunk(byPaths[key], most) {
			name := u.name
			if !public {
				name += "-private"
			}
			if len(all) > 0 {
				name += "-" + elb.HostLabel(hosts[0])
			}
			all = append(all, lead{name, hosts, paths[key]})
		}
	}
	return all
}

// routes writes what leads to a unit, and how its targets are treated.
func (w *writer) routes(file string, u *unit) {
	led := false
	for _, public := range []bool{true, false} {
		g := w.scopes[public]
		if g == nil {
			continue
		}
		for _, l := range w.m.leads(u, public, elb.MostHostnames) {
			led = true
			w.add(file, w.route(u, g, l.name, l.hosts, l.paths))
		}
	}
	if led {
		w.targets(file, u)
	}
}

func hostsOf(routes []route) []string {
	var hosts []string
	for _, r := range routes {
		if !slices.Contains(hosts, r.host) {
			hosts = append(hosts, r.host)
		}
	}
	return hosts
}

func (w *writer) route(u *unit, g *scopeGateway, name string, hosts []string, paths []route) *gatewayv1.HTTPRoute {
	r := &gatewayv1.HTTPRoute{TypeMeta: typed(elb.GatewayAPI, "HTTPRoute"), ObjectMeta: meta(u.namespace, name)}
	for _, h := range hosts {
		r.Spec.Hostnames = append(r.Spec.Hostnames, gatewayv1.Hostname(h))
		section, _ := w.m.listener(g, h)
		if slices.ContainsFunc(r.Spec.ParentRefs, func(p gatewayv1.ParentReference) bool { return *p.SectionName == section }) {
			continue
		}
		p := gatewayv1.ParentReference{Name: gatewayv1.ObjectName(g.name), SectionName: &section}
		if g.namespace != u.namespace {
			namespace := gatewayv1.Namespace(g.namespace)
			p.Namespace = &namespace
		}
		r.Spec.ParentRefs = append(r.Spec.ParentRefs, p)
	}
	port := servicePort(u)
	to := gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(w.m.newService(u)), Port: &port}}}
	for some := range slices.Chunk(paths, elb.MostMatches) {
		rule := gatewayv1.HTTPRouteRule{BackendRefs: []gatewayv1.HTTPBackendRef{to}}
		for _, p := range some {
			kind, value := gatewayv1.PathMatchPathPrefix, p.path
			if p.exact {
				kind = gatewayv1.PathMatchExact
			}
			rule.Matches = append(rule.Matches, gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Type: &kind, Value: &value}})
		}
		r.Spec.Rules = append(r.Spec.Rules, rule)
	}
	return r
}

// targets writes how the load balancer treats a unit's pods.
func (w *writer) targets(file string, u *unit) {
	path, codes := u.healthPath()
	h, version := elb.Health{Path: path, Codes: codes}, ""
	if protocolOf(u) == "grpc" {
		h, version = elb.GRPCHealth, "GRPC"
	}
	props := elb.TargetGroup(u.balancing.fitted, h, version)
	w.add(file, object(elb.ControlAPI, elb.TargetGroupKind, u.namespace, u.name, map[string]any{"targetReference": map[string]any{"name": w.m.newService(u)}, "defaultConfiguration": props}))
}
