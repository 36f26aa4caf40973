package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
)

const (
	// The annotations of external-dns.
	dnsHostname   = "external-dns.alpha.kubernetes.io/hostname"
	dnsTTL        = "external-dns.alpha.kubernetes.io/ttl"
	dnsController = "external-dns.alpha.kubernetes.io/controller"
	// nobody is no controller of external-dns: it leaves such objects alone.
	nobody = "none"
	// listenerName is that of the one listener of requests of a shared Gateway.
	listenerName = "https"
	// allWeight is the sum of all versions' weights.
	allWeight = 100
)

// match is a path of an Exposure, "/" where it names none.
type match struct {
	path  string
	exact bool
}

// pathsOf are the paths that lead to a port: all for the first where the Exposure names none.
func (m *maker) pathsOf(p port, first bool) []match {
	var some []match
	for _, x := range m.spec.Paths {
		if x.Port == p.name || x.Port == "" && first {
			some = append(some, match{x.Path, x.Type == "Exact"})
		}
	}
	if len(m.spec.Paths) == 0 && first {
		some = append(some, match{"/", false})
	}
	return some
}

// annotations are those of a route for external-dns, nil without.
func (m *maker) annotations(hosts bool) map[string]string {
	all := map[string]string{}
	d := m.spec.DNS
	switch {
	case m.Policy.NoDNS:
	case d != nil && d.Disabled:
		all[dnsController] = nobody
	default:
		if hosts && len(m.hosts) > 0 {
			all[dnsHostname] = strings.Join(m.hosts, ",")
		}
		if d != nil && d.TTL != nil {
			all[dnsTTL] = strconv.Itoa(int(d.TTL.Seconds()))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// gatewayRoutes makes the routes to the shared Gateways, and what is asked of those.
func (m *maker) gatewayRoutes(l7, l4 []port) error {
	scope := Scope{Public: m.public()}
	parent := m.parent(scope, listenerName)
	var others []any
	for i, p := range l7 {
		paths := m.pathsOf(p, i == 0)
		if len(paths) == 0 {
			m.note("port %s is reached inside of the cluster alone: name it in a path to lead a load balancer to it", p.name)
			continue
		}
		name := m.Exposure.Name
		if i > 0 {
			name += "-" + p.name
		}
		kind := "HTTPRoute"
		if p.protocol == v1alpha1.GRPC {
			kind = "GRPCRoute"
			if !m.Cluster.GRPC {
				return &WrongError{NoLoadBalancer, "the cluster does not know GRPCRoutes: install the Gateway API's standard channel"}
			}
			m.grpcRoute(name, parent, p, paths)
		} else {
			m.httpRoutes(name, []gatewayv1.ParentReference{parent}, p, paths)
		}
		if i > 0 && version(p) != version(l7[0]) {
			h := m.health(true)
			if p.protocol == v1alpha1.GRPC && m.probe() == nil && m.spec.Health == nil {
				h = elb.GRPCHealth
			}
			others = append(others, m.routeProps(kind, name, elb.TargetGroup(m.requests, h, version(p))))
		}
	}
	if len(l7) > 0 {
		m.demand(scope)
	}
	more, err := m.connectionRoutes(l7, l4)
	if err != nil {
		return err
	}
	m.targets(l7, l4, append(others, more...))
	return nil
}

func (m *maker) routeProps(kind, name string, props map[string]any) map[string]any {
	return map[string]any{"routeIdentifier": map[string]any{"kind": kind, "namespace": m.Exposure.Namespace, "name": name}, "targetGroupProps": props}
}

// parent is the listener of a shared Gateway.
func (m *maker) parent(s Scope, section string) gatewayv1.ParentReference {
	name := gatewayv1.SectionName(section)
	p := gatewayv1.ParentReference{Name: gatewayv1.ObjectName(s.Name()), SectionName: &name}
	if m.Policy.Namespace != m.Exposure.Namespace {
		namespace := gatewayv1.Namespace(m.Policy.Namespace)
		p.Namespace = &namespace
	}
	return p
}

// targets says how the load balancers treat the pods, and those of the canaries.
func (m *maker) targets(l7, l4 []port, others []any) {
	var props map[string]any
	if len(l7) > 0 {
		props = elb.TargetGroup(m.requests, m.health(true), version(l7[0]))
	} else {
		props = m.connectionProps(l4)
	}
	spec := func(service string) map[string]any {
		s := map[string]any{"targetReference": map[string]any{"name": service}, "defaultConfiguration": props}
		if len(others) > 0 {
			s["routeConfigurations"] = others
		}
		return s
	}
	if m.Targeted == "" {
		m.add(custom(m.Cluster.controlAPI(), elb.TargetGroupKind, m.meta(m.Exposure.Name), spec(m.service)))
	} else {
		m.note("how load balancers treat Service %s is said by Exposure %s already, in the same way: it is not said twice", m.service, m.Targeted)
	}
	for _, s := range otherServices(m.Exposure) {
		m.add(custom(m.Cluster.controlAPI(), elb.TargetGroupKind, m.meta(m.Exposure.Name+"-"+s), spec(s)))
	}
}

// otherServices are those of canaries and header rules, sorted.
func otherServices(e *v1alpha1.Exposure) []string {
	var all []string
	if r := e.Spec.Routing; r != nil {
		for _, c := range r.Canaries {
			all = append(all, c.Service)
		}
		for _, h := range r.Headers {
			all = append(all, h.Service)
		}
	}
	all = slices.DeleteFunc(all, func(s string) bool { return s == ServiceName(e) })
	slices.Sort(all)
	return slices.Compact(all)
}

// backend is a Service's port, with a weight where there are several.
func backend(service string, number int32, weight *int32) gatewayv1.BackendRef {
	return gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(service), Port: &number}, Weight: weight}
}

// backends are the workload's and its canaries'.
func (m *maker) backends(p port) []gatewayv1.BackendRef {
	if m.spec.Routing == nil || len(m.spec.Routing.Canaries) == 0 {
		return []gatewayv1.BackendRef{backend(m.service, p.number, nil)}
	}
	rest := int32(allWeight)
	var all []gatewayv1.BackendRef
	for _, c := range m.spec.Routing.Canaries {
		number, weight := p.number, c.Weight
		if c.Port > 0 {
			number = c.Port
		}
		rest -= weight
		all = append(all, backend(c.Service, number, &weight))
	}
	return append([]gatewayv1.BackendRef{backend(m.service, p.number, &rest)}, all...)
}

// configurations makes what rules take that the Gateway API has no words for: who is let
// in, and who must sign in. It returns their names: each rule is written once for each. With
// none there is one without a name.
func (m *maker) configurations(values int) []string {
	a := m.spec.Access
	if a == nil || len(a.SourceRanges) == 0 && a.Authentication == nil {
		return []string{""}
	}
	meta := func(i int) metav1.ObjectMeta {
		name := m.Exposure.Name
		if i > 0 {
			name += "-" + strconv.Itoa(i+1)
		}
		return m.meta(name)
	}
	chunks := [][]any{nil}
	if len(a.SourceRanges) > 0 {
		chunks = nil
		for some := range slices.Chunk(a.SourceRanges, max(1, elb.MostConditionValues-values)) {
			var ranges []any
			for _, r := range some {
				ranges = append(ranges, string(r))
			}
			chunks = append(chunks, ranges)
		}
	}
	var names []string
	for i, ranges := range chunks {
		spec := map[string]any{}
		if ranges != nil {
			spec["conditions"] = []any{map[string]any{"field": "source-ip", "sourceIPConfig": map[string]any{"values": ranges}}}
		}
		if a.Authentication != nil {
			spec["actions"] = []any{signIn(a.Authentication)}
		}
		names = append(names, meta(i).Name)
		m.add(custom(m.Cluster.controlAPI(), elb.ListenerRuleKind, meta(i), spec))
	}
	return names
}

// signIn is the action that lets nobody pass who is not known.
func signIn(a *v1alpha1.Authentication) map[string]any {
	scoped := func(c map[string]any, scope string) map[string]any {
		if scope != "" {
			c["scope"] = scope
		}
		return c
	}
	switch {
	case a.OIDC != nil:
		return map[string]any{"type": "authenticate-oidc", "authenticateOIDCConfig": scoped(map[string]any{"issuer": string(a.OIDC.Issuer), "authorizationEndpoint": string(a.OIDC.AuthorizationEndpoint), "tokenEndpoint": string(a.OIDC.TokenEndpoint),
			"userInfoEndpoint": string(a.OIDC.UserInfoEndpoint), "secret": map[string]any{"name": a.OIDC.Secret}}, a.OIDC.Scope)}
	case a.Cognito != nil:
		return map[string]any{"type": "authenticate-cognito", "authenticateCognitoConfig": scoped(map[string]any{"userPoolArn": a.Cognito.UserPoolARN, "userPoolClientId": a.Cognito.UserPoolClientID, "userPoolDomain": a.Cognito.UserPoolDomain}, a.Cognito.Scope)}
	default:
		return map[string]any{"type": "jwt-validation", "jwtValidationConfig": map[string]any{"issuer": string(a.JWT.Issuer), "jwksEndpoint": string(a.JWT.JWKSEndpoint)}}
	}
}

// values are how many values a rule of an ALB compares beside the sources: the host, the
// path, of which a prefix takes two, and a header.
func (m *maker) values(paths []match) int {
	n := 1
	for _, p := range paths {
		if !p.exact && p.path != "/" {
			n = 2
		}
	}
	if m.spec.Routing != nil && len(m.spec.Routing.Headers) > 0 {
		n++
	}
	return n + 1
}

// httpRoutes makes the HTTPRoutes of a port: those with more rules than one may have are
// several, name-2 and so on.
func (m *maker) httpRoutes(name string, parents []gatewayv1.ParentReference, p port, paths []match) {
	var rules []gatewayv1.HTTPRouteRule
	filters := []string{""}
	if m.led() {
		filters = m.configurations(m.values(paths))
	}
	rule := func(matches []gatewayv1.HTTPRouteMatch, to []gatewayv1.BackendRef) {
		for _, f := range filters {
			r := gatewayv1.HTTPRouteRule{Matches: matches}
			for _, b := range to {
				r.BackendRefs = append(r.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: b})
			}
			if f != "" {
				r.Filters = []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterExtensionRef, ExtensionRef: &gatewayv1.LocalObjectReference{Group: elb.ControlGroup, Kind: elb.ListenerRuleKind, Name: gatewayv1.ObjectName(f)}}}
			}
			if x := m.spec.Routing; !m.led() && x != nil && x.Timeouts != nil && x.Timeouts.Request != nil {
				request := gatewayv1.Duration(gatewayDuration(x.Timeouts.Request))
				r.Timeouts = &gatewayv1.HTTPRouteTimeouts{Request: &request}
			}
			rules = append(rules, r)
		}
	}
	matches := make([]gatewayv1.HTTPRouteMatch, 0, len(paths))
	for _, x := range paths {
		kind, value := gatewayv1.PathMatchPathPrefix, x.path
		if x.exact {
			kind = gatewayv1.PathMatchExact
		}
		matches = append(matches, gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Type: &kind, Value: &value}})
	}
	if r := m.spec.Routing; r != nil {
		for _, h := range r.Headers {
			with := make([]gatewayv1.HTTPRouteMatch, 0, len(matches))
			for _, x := range matches {
				exact := gatewayv1.HeaderMatchExact
				x.Headers = []gatewayv1.HTTPHeaderMatch{{Type: &exact, Name: gatewayv1.HTTPHeaderName(h.Name), Value: h.Value}}
				with = append(with, x)
			}
			number := p.number
			if h.Port > 0 {
				number = h.Port
			}
			rule(with, []gatewayv1.BackendRef{backend(h.Service, number, nil)})
		}
	}
	rule(matches, m.backends(p))
	for i, some := range packed(rules) {
		r := &gatewayv1.HTTPRoute{TypeMeta: typed(elb.GatewayAPI, "HTTPRoute"), ObjectMeta: m.meta(numbered(name, i)), Spec: gatewayv1.HTTPRouteSpec{CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: parents}, Rules: some}}
		if m.led() {
			r.Annotations = m.annotations(false)
			r.Spec.Hostnames = hostnames(m.hosts)
		}
		m.add(r)
	}
}

// packed are rules by routes, each within the API's bounds.
func packed(rules []gatewayv1.HTTPRouteRule) [][]gatewayv1.HTTPRouteRule {
	var all [][]gatewayv1.HTTPRouteRule
	matches := 0
	for _, r := range rules {
		n := len(all) - 1
		if n < 0 || len(all[n]) == elb.MostRules || matches+len(r.Matches) > elb.MostRouteMatches {
			all, matches = append(all, nil), 0
			n++
		}
		all[n] = append(all[n], r)
		matches += len(r.Matches)
	}
	return all
}

func numbered(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, i+1)
}

func hostnames(hosts []string) []gatewayv1.Hostname {
	all := make([]gatewayv1.Hostname, 0, len(hosts))
	for _, h := range hosts {
		all = append(all, gatewayv1.Hostname(h))
	}
	return all
}

// gatewayDuration is a duration as the Gateway API has it.
func gatewayDuration(d *metav1.Duration) string {
	whole := d.Truncate(time.Second)
	text := strconv.FormatInt(int64(whole/time.Second), 10) + "s"
	if rest := (d.Duration - whole).Milliseconds(); rest > 0 {
		text += strconv.FormatInt(rest, 10) + "ms"
	}
	return text
}

// grpcRoute makes the GRPCRoute of a port: its paths are /package.Service/Method.
func (m *maker) grpcRoute(name string, parent gatewayv1.ParentReference, p port, paths []match) {
	r := &gatewayv1.GRPCRoute{TypeMeta: typed(elb.GatewayAPI, "GRPCRoute"), ObjectMeta: m.meta(name), Spec: gatewayv1.GRPCRouteSpec{CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{parent}}}}
	filters := []string{""}
	if m.led() {
		r.Annotations = m.annotations(false)
		r.Spec.Hostnames = hostnames(m.hosts)
		filters = m.configurations(m.values(paths))
	}
	rule := func(matches []gatewayv1.GRPCRouteMatch, to []gatewayv1.BackendRef) {
		for _, f := range filters {
			one := gatewayv1.GRPCRouteRule{Matches: matches}
			for _, b := range to {
				one.BackendRefs = append(one.BackendRefs, gatewayv1.GRPCBackendRef{BackendRef: b})
			}
			if f != "" {
				one.Filters = []gatewayv1.GRPCRouteFilter{{Type: gatewayv1.GRPCRouteFilterExtensionRef, ExtensionRef: &gatewayv1.LocalObjectReference{Group: elb.ControlGroup, Kind: elb.ListenerRuleKind, Name: gatewayv1.ObjectName(f)}}}
			}
			r.Spec.Rules = append(r.Spec.Rules, one)
		}
	}
	var matches []gatewayv1.GRPCRouteMatch
	for _, x := range paths {
		service, method, _ := strings.Cut(strings.Trim(x.path, "/"), "/")
		if service == "" {
			matches = nil
			break
		}
		exact := gatewayv1.GRPCMethodMatchExact
		one := gatewayv1.GRPCMethodMatch{Type: &exact, Service: &service}
		if method != "" {
			one.Method = &method
		}
		matches = append(matches, gatewayv1.GRPCRouteMatch{Method: &one})
	}
	if x := m.spec.Routing; x != nil {
		for _, h := range x.Headers {
			with := slices.Clone(matches)
			if len(with) == 0 {
				with = []gatewayv1.GRPCRouteMatch{{}}
			}
			exact := gatewayv1.GRPCHeaderMatchExact
			for i := range with {
				with[i].Headers = []gatewayv1.GRPCHeaderMatch{{Type: &exact, Name: gatewayv1.GRPCHeaderName(h.Name), Value: h.Value}}
			}
			number := p.number
			if h.Port > 0 {
				number = h.Port
			}
			rule(with, []gatewayv1.BackendRef{backend(h.Service, number, nil)})
		}
	}
	rule(matches, m.backends(p))
	m.add(r)
}

// connectionRoutes makes the routes of ports of connections. An NLB looks at no name, so TLS
// that is passed through is a connection like others.
func (m *maker) connectionRoutes(l7, l4 []port) ([]any, error) {
	if len(l4) == 0 {
		return nil, nil
	}
	scope := Scope{Public: m.public(), Connections: true}
	var others []any
	kinds := map[string]bool{}
	for _, p := range l4 {
		kind, known := "TCPRoute", m.Cluster.TCP
		if p.protocol == v1alpha1.UDP {
			kind, known = "UDPRoute", m.Cluster.UDP
		}
		if !known {
			return nil, &WrongError{NoLoadBalancer, "the cluster does not know " + kind + "s: install the standard channel of the Gateway API 1.6 or newer"}
		}
		name := m.Exposure.Name + "-" + p.name
		meta := m.meta(name)
		// A name leads to one load balancer: where there are requests too, to theirs.
		meta.Annotations = m.annotations(len(l7) == 0)
		common := gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{m.parent(scope, listenerOf(p))}}
		if kind == "UDPRoute" {
			m.add(&gatewayv1.UDPRoute{TypeMeta: typed(elb.GatewayAPI, kind), ObjectMeta: meta, Spec: gatewayv1.UDPRouteSpec{CommonRouteSpec: common, Rules: []gatewayv1.UDPRouteRule{{BackendRefs: m.backends(p)}}}})
		} else {
			m.add(&gatewayv1.TCPRoute{TypeMeta: typed(elb.GatewayAPI, kind), ObjectMeta: meta, Spec: gatewayv1.TCPRouteSpec{CommonRouteSpec: common, Rules: []gatewayv1.TCPRouteRule{{BackendRefs: m.backends(p)}}}})
		}
		if len(l7) > 0 && !kinds[kind] {
			kinds[kind] = true
			others = append(others, map[string]any{"routeIdentifier": map[string]any{"kind": kind}, "targetGroupProps": m.connectionProps(l4)})
		}
	}
	if a := m.spec.Access; a != nil && a.Authentication != nil {
		m.note("a load balancer of connections asks nobody who he is: authentication holds for requests alone")
	}
	m.demand(scope, l4...)
	return others, nil
}

// connectionProps are those of targets of an NLB. Where sources are restricted, pods must
// see the clients' own addresses, for policies to tell them apart.
func (m *maker) connectionProps(l4 []port) map[string]any {
	props := elb.TargetGroup(m.connections, m.health(false), "")
	if a := m.spec.Access; a != nil && len(a.SourceRanges) > 0 {
		list, _ := props["targetGroupAttributes"].([]any)
		props["targetGroupAttributes"] = append(list, map[string]any{"key": "preserve_client_ip.enabled", "value": "true"})
	}
	if !slices.ContainsFunc(l4, func(p port) bool { return p.protocol != v1alpha1.UDP }) {
		m.note("an NLB can not ask over UDP whether a pod is well: it connects to the health check's port over TCP, so something must listen there")
	}
	return props
}

// listenerOf is the name of a listener of connections.
func listenerOf(p port) string {
	return fmt.Sprintf("%s-%d", strings.ToLower(string(p.transport())), p.number)
}

// meshRoutes makes the routes that a mesh follows inside of the cluster, where there is
// anything that it should do.
func (m *maker) meshRoutes() {
	r := m.spec.Routing
	if r == nil || len(r.Canaries) == 0 && len(r.Headers) == 0 && r.Retries == nil && (r.Timeouts == nil || r.Timeouts.Request == nil) {
		return
	}
	if !m.Cluster.Gateway {
		m.note("the cluster does not know HTTPRoutes, so no mesh hears of the routing: install the Gateway API")
		return
	}
	if r.Retries != nil {
		m.note("retries are not in the Gateway API's standard channel yet: set them in the mesh itself")
	}
	for i, p := range m.of(true) {
		number := p.number
		group, kind := gatewayv1.Group(""), gatewayv1.Kind("Service")
		parent := gatewayv1.ParentReference{Group: &group, Kind: &kind, Name: gatewayv1.ObjectName(m.service), Port: &number}
		name := m.Exposure.Name
		if i > 0 {
			name += "-" + p.name
		}
		if p.protocol == v1alpha1.GRPC && m.Cluster.GRPC {
			m.grpcRoute(name, parent, p, []match{{path: "/"}})
			continue
		}
		paths := m.pathsOf(p, i == 0)
		if len(paths) == 0 {
			paths = []match{{path: "/"}}
		}
		m.httpRoutes(name, []gatewayv1.ParentReference{parent}, p, paths)
	}
}
