package inventory

import (
	"slices"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Route is a route of the Gateway API, of any kind, with what it leaves out filled in.
type Route struct {
	Object *Object
	// Parents are in the order of spec.parentRefs.
	Parents []RouteParent
	// Hosts are empty if it names none, or has none by its kind.
	Hosts []string
	// Backends are those of all rules, in their order.
	Backends []RouteBackend
}

// RouteParent is what a route attaches to: a Gateway as a rule.
type RouteParent struct {
	// Path is the field that names it.
	Path string
	To   Ref
	// Section is the listener's name, "" for all. Port is 0 for all.
	Section string
	Port    int32
}

// RouteBackend is what a route sends to: a Service as a rule.
type RouteBackend struct {
	// Path is the field that names it.
	Path string
	To   Ref
	// Port is 0 if none is named.
	Port int32
}

// IsService says whether a backend is a Service.
func (b RouteBackend) IsService() bool { return b.To.Group == "" && b.To.Kind == "Service" }

// Routes are all routes, by kind.
func (i *Inventory) Routes() []Route {
	return slices.Concat(
		routesOf(i, func(c *gatewayv1.HTTPRoute) (gatewayv1.CommonRouteSpec, []gatewayv1.Hostname, []gatewayv1.HTTPRouteRule) {
			return c.Spec.CommonRouteSpec, c.Spec.Hostnames, c.Spec.Rules
		}, func(r gatewayv1.HTTPRouteRule) []gatewayv1.BackendRef {
			return unfiltered(r.BackendRefs, func(b gatewayv1.HTTPBackendRef) gatewayv1.BackendRef { return b.BackendRef })
		}),
		routesOf(i, func(c *gatewayv1.GRPCRoute) (gatewayv1.CommonRouteSpec, []gatewayv1.Hostname, []gatewayv1.GRPCRouteRule) {
			return c.Spec.CommonRouteSpec, c.Spec.Hostnames, c.Spec.Rules
		}, func(r gatewayv1.GRPCRouteRule) []gatewayv1.BackendRef {
			return unfiltered(r.BackendRefs, func(b gatewayv1.GRPCBackendRef) gatewayv1.BackendRef { return b.BackendRef })
		}),
		routesOf(i, func(c *gatewayv1.TLSRoute) (gatewayv1.CommonRouteSpec, []gatewayv1.Hostname, []gatewayv1.TLSRouteRule) {
			return c.Spec.CommonRouteSpec, c.Spec.Hostnames, c.Spec.Rules
		}, func(r gatewayv1.TLSRouteRule) []gatewayv1.BackendRef { return r.BackendRefs }),
		routesOf(i, func(c *gatewayv1.TCPRoute) (gatewayv1.CommonRouteSpec, []gatewayv1.Hostname, []gatewayv1.TCPRouteRule) {
			return c.Spec.CommonRouteSpec, nil, c.Spec.Rules
		}, func(r gatewayv1.TCPRouteRule) []gatewayv1.BackendRef { return r.BackendRefs }),
		routesOf(i, func(c *gatewayv1.UDPRoute) (gatewayv1.CommonRouteSpec, []gatewayv1.Hostname, []gatewayv1.UDPRouteRule) {
			return c.Spec.CommonRouteSpec, nil, c.Spec.Rules
		}, func(r gatewayv1.UDPRouteRule) []gatewayv1.BackendRef { return r.BackendRefs }),
	)
}

// routesOf are the routes of one kind T, whose rules are R.
func routesOf[T Content, R any](i *Inventory, spec func(T) (gatewayv1.CommonRouteSpec, []gatewayv1.Hostname, []R), to func(R) []gatewayv1.BackendRef) []Route {
	var all []Route
	for o, c := range Of[T](i) {
		common, hosts, rules := spec(c)
		r := Route{Object: o}
		for n, p := range common.ParentRefs {
			ref := Ref{Group: gatewayGroup, Kind: "Gateway", Namespace: o.Namespace, Name: string(p.Name)}
			fill(&ref, p.Group, p.Kind, p.Namespace)
			r.Parents = append(r.Parents, RouteParent{Path: "spec.parentRefs[" + itoa(n) + "]", To: ref, Section: string(ptr.Deref(p.SectionName, "")), Port: ptr.Deref(p.Port, 0)})
		}
		for _, h := range hosts {
			r.Hosts = append(r.Hosts, string(h))
		}
		for n, rule := range rules {
			for m, b := range to(rule) {
				ref := Ref{Kind: "Service", Namespace: o.Namespace, Name: string(b.Name)}
				fill(&ref, b.Group, b.Kind, b.Namespace)
				r.Backends = append(r.Backends, RouteBackend{Path: "spec.rules[" + itoa(n) + "].backendRefs[" + itoa(m) + "]", To: ref, Port: ptr.Deref(b.Port, 0)})
			}
		}
		all = append(all, r)
	}
	return all
}

// unfiltered are backends without the filters that their kind of route has.
func unfiltered[B any](all []B, plain func(B) gatewayv1.BackendRef) []gatewayv1.BackendRef {
	refs := make([]gatewayv1.BackendRef, 0, len(all))
	for _, b := range all {
		refs = append(refs, plain(b))
	}
	return refs
}

// fill takes over what a reference of the Gateway API says of itself.
func fill(ref *Ref, group *gatewayv1.Group, kind *gatewayv1.Kind, namespace *gatewayv1.Namespace) {
	if group != nil {
		ref.Group = string(*group)
	}
	if kind != nil {
		ref.Kind = string(*kind)
	}
	if namespace != nil {
		ref.Namespace = string(*namespace)
	}
}
