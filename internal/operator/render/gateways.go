package render

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/balance"
	"dhow/internal/elb"
)

// Scope is one of the shared Gateways: for the internet or the private networks, and for
// requests or for connections, which can not share a load balancer.
type Scope struct {
	Public      bool
	Connections bool
}

// Scopes are all of them.
//
//nolint:gochecknoglobals // a constant list
var Scopes = []Scope{{Public: true}, {Public: true, Connections: true}, {}, {Connections: true}}

// Name is the Gateway's.
func (s Scope) Name() string {
	name := "private"
	if s.Public {
		name = "public"
	}
	if s.Connections {
		name += "-tcp"
	}
	return name
}

func (s Scope) class() (name, controller string) {
	if s.Connections {
		return "dhow-nlb", elb.NLBController
	}
	return "dhow-alb", elb.ALBController
}

// Demand is what an Exposure asks of a shared Gateway.
type Demand struct {
	Scope Scope
	// Namespace is the Exposure's, whose routes the Gateway lets in.
	Namespace    string
	Certificates []string
	TLSPolicy    string
	WebACL       string
	Attributes   []balance.Attribute
	// Capacity is in units of ELB, 0 for none.
	Capacity int32
	// Listeners are those of connections, as tcp-5432.
	Listeners []Listener
}

// Listener is a port at which connections come in.
type Listener struct {
	Name     string
	Protocol gatewayv1.ProtocolType
	Port     int32
}

// demand asks for what the Exposure needs of a Gateway.
func (m *maker) demand(s Scope, ports ...port) {
	d := Demand{Scope: s, Namespace: m.Exposure.Namespace}
	if t := m.spec.TLS; t != nil && !s.Connections {
		d.TLSPolicy = t.Policy
		for _, c := range t.Certificates {
			d.Certificates = append(d.Certificates, string(c))
		}
		slices.Sort(d.Certificates)
	}
	if a := m.spec.Access; a != nil && !s.Connections {
		d.WebACL = a.WebACL
	}
	if !s.Connections {
		d.Attributes = m.requests.LoadBalancer()
	}
	if l := m.spec.Limits; l != nil {
		d.Capacity = l.CapacityUnits
		if l.ClientKeepAlive != nil && !s.Connections {
			d.Attributes = append(d.Attributes, balance.Attribute{Key: "client_keep_alive.seconds", Value: strconv.Itoa(int(l.ClientKeepAlive.Seconds()))})
		}
	}
	for _, p := range ports {
		protocol := gatewayv1.TCPProtocolType
		if p.protocol == v1alpha1.UDP {
			protocol = gatewayv1.UDPProtocolType
		}
		d.Listeners = append(d.Listeners, Listener{listenerOf(p), protocol, p.number})
	}
	m.out.Demands = append(m.out.Demands, d)
}

// Demands are what an Exposure asks for as far as that follows from itself alone: for as
// long as its workload is not there.
func Demands(e *v1alpha1.Exposure, p Policy) []Demand {
	m := &maker{Input: Input{Exposure: e, Policy: p.WithDefaults()}, spec: &e.Spec}
	if err := m.resolvePorts(); err != nil {
		m.ports = []port{{name: "http", number: elb.HTTPPort, protocol: v1alpha1.HTTP}}
	}
	if !m.led() {
		return nil
	}
	m.fit()
	scope := Scope{Public: m.public()}
	if len(m.of(true)) > 0 {
		m.demand(scope)
	}
	if l4 := m.of(false); len(l4) > 0 {
		scope.Connections = true
		m.demand(scope, l4...)
	}
	return m.out.Demands
}

// Gateway makes a shared Gateway of what is asked of it: nothing where nobody asks. The
// demands' order does not matter.
func Gateway(s Scope, demands []Demand, c Cluster, p Policy) ([]*unstructured.Unstructured, error) {
	if len(demands) == 0 {
		return nil, nil
	}
	p = p.WithDefaults()
	meta := metav1.ObjectMeta{Namespace: p.Namespace, Name: s.Name(), Labels: map[string]string{ManagedLabel: Manager}}
	class, controller := s.class()
	all := elb.Class(class, controller)
	all.Labels = meta.Labels
	gateway := elb.Gateway(p.Namespace, s.Name(), class, nil)
	gateway.Labels = meta.Labels
	objects := []any{all, custom(c.controlAPI(), elb.LoadBalancerKind, meta, loadBalancer(s, demands, p))}
	var spaces []string
	var listeners []Listener
	for _, d := range demands {
		spaces = append(spaces, d.Namespace)
		listeners = append(listeners, d.Listeners...)
	}
	slices.Sort(spaces)
	allowed := allow(slices.Compact(spaces), p.Namespace)
	if s.Connections {
		slices.SortFunc(listeners, func(a, b Listener) int { return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Name, b.Name)) })
		for _, l := range slices.Compact(listeners) {
			gateway.Spec.Listeners = append(gateway.Spec.Listeners, gatewayv1.Listener{Name: gatewayv1.SectionName(l.Name), Protocol: l.Protocol, Port: l.Port, AllowedRoutes: allowed})
		}
		objects = append(objects, gateway)
	} else {
		gateway.Spec.Listeners = []gatewayv1.Listener{elb.PlainListener(), elb.Listener(listenerName, "", allowed)}
		moved := elb.Redirect(p.Namespace, s.Name())
		moved.Labels = meta.Labels
		objects = append(objects, gateway, moved)
	}
	var plain []*unstructured.Unstructured
	for _, o := range objects {
		u, err := Plain(o)
		if err != nil {
			return nil, err
		}
		plain = append(plain, u)
	}
	return plain, nil
}

const namespaceLabel = "kubernetes.io/metadata.name"

// allow lets in the routes of the namespaces.
func allow(spaces []string, own string) *gatewayv1.AllowedRoutes {
	from := gatewayv1.NamespacesFromSelector
	if len(spaces) == 1 && spaces[0] == own {
		from = gatewayv1.NamespacesFromSame
		return &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: &from}}
	}
	return &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: &from, Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: namespaceLabel, Operator: metav1.LabelSelectorOpIn, Values: spaces}}}}}
}

// loadBalancer is what the controller makes of a Gateway.
func loadBalancer(s Scope, demands []Demand, p Policy) map[string]any {
	suffix := "-" + s.Name()
	prefix := elb.Label(p.Name)
	prefix = strings.Trim(prefix[:min(len(prefix), elb.MostName-len(suffix))], "-")
	spec := map[string]any{"scheme": elb.Scheme(s.Public), "loadBalancerName": prefix + suffix}
	var attributes []balance.Attribute
	if p.AccessLogs != "" {
		attributes = append(attributes, balance.Attribute{Key: "access_logs.s3.bucket", Value: p.AccessLogs}, balance.Attribute{Key: "access_logs.s3.enabled", Value: "true"}, balance.Attribute{Key: "access_logs.s3.prefix", Value: prefix + suffix})
	}
	if !s.Connections {
		// What no proper client sends is how requests are smuggled past a filter.
		attributes = append(attributes, balance.Attribute{Key: "routing.http.drop_invalid_header_fields.enabled", Value: "true"})
	}
	capacity := int32(0)
	var certificates []string
	policy, acl := "", ""
	for _, d := range demands {
		attributes = elb.Larger(attributes, d.Attributes)
		capacity += d.Capacity
		certificates = append(certificates, d.Certificates...)
		// Who claimed another before is told so, and asks for none here.
		policy, acl = max(policy, d.TLSPolicy), max(acl, d.WebACL)
	}
	spec["loadBalancerAttributes"] = elb.Attributes(attributes)
	if capacity > 0 {
		spec["minimumLoadBalancerCapacity"] = map[string]any{"capacityUnits": int64(capacity)}
	}
	if acl == "" && s.Public && !s.Connections {
		acl = p.WebACL
	}
	if acl != "" {
		spec["wafV2"] = map[string]any{"webACL": acl}
	}
	if !s.Connections {
		listener := map[string]any{"protocolPort": elb.ProtocolPort("HTTPS", elb.HTTPSPort), "sslPolicy": cmp.Or(policy, p.TLSPolicy)}
		slices.Sort(certificates)
		if certificates = slices.Compact(certificates); len(certificates) > 0 {
			listener["defaultCertificate"] = certificates[0]
			var more []any
			for _, c := range certificates[1:] {
				more = append(more, c)
			}
			if len(more) > 0 {
				listener["certificates"] = more
			}
		}
		spec["listenerConfigurations"] = []any{listener}
	}
	tags := p.PrivateSubnets
	if s.Public {
		tags = p.PublicSubnets
	}
	if len(tags) > 0 {
		selector := map[string]any{}
		for k, values := range tags {
			var all []any
			for _, v := range values {
				all = append(all, v)
			}
			selector[k] = all
		}
		spec["loadBalancerSubnetsSelector"] = selector
	}
	return spec
}
