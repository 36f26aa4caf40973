package assess

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/inventory"
)

const gatewayGroup = "gateway.networking.k8s.io"

// gateways follows the routes of all Gateways.
func (g *graph) gateways() {
	closed := map[inventory.Ref]bool{}
	byRef := map[inventory.Ref]*gatewayv1.Gateway{}
	for o, c := range inventory.Of[*gatewayv1.Gateway](g.inv) {
		byRef[o.Ref], closed[o.Ref] = c, g.internalGateway(o, c)
	}
	for _, r := range g.inv.Routes() {
		for _, parent := range r.Parents {
			gw := byRef[parent.To]
			if gw == nil || closed[parent.To] {
				continue
			}
			for i := range gw.Spec.Listeners {
				l := &gw.Spec.Listeners[i]
				if parent.Section != "" && parent.Section != string(l.Name) || parent.Port != 0 && parent.Port != l.Port {
					continue
				}
				g.routed(parent.To, l, &r)
			}
		}
	}
}

// routed follows a route from a listener that it attaches to.
func (g *graph) routed(gw inventory.Ref, l *gatewayv1.Listener, r *inventory.Route) {
	over := OverUnknown
	switch l.Protocol {
	case gatewayv1.HTTPSProtocolType, gatewayv1.TLSProtocolType:
		over = OverTLS
	case gatewayv1.HTTPProtocolType:
		over = OverClear
	}
	hosts := r.Hosts
	if len(hosts) == 0 && l.Hostname != nil {
		hosts = append(hosts, string(*l.Hostname))
	}
	if len(hosts) == 0 {
		hosts = append(hosts, "*")
	}
	text := strings.Join(hosts, ", ")
	for _, b := range r.Backends {
		s := g.inv.Service(b.To.Namespace, b.To.Name)
		if !b.IsService() || s == nil {
			continue
		}
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			if b.Port != 0 && b.Port != p.Port {
				continue
			}
			g.through(s, p, Exposure{From: FromInternet, Way: ByGateway, Entry: gw, Port: l.Port, Over: over, Hosts: text,
				Path: []Hop{{Kind: "Gateway", Object: &gw, Text: fmt.Sprintf("listener %s, port %d", l.Name, l.Port)}, {Kind: r.Object.Kind, Object: &r.Object.Ref, Text: "hosts " + text}}})
		}
	}
}

// internalGateway says whether a Gateway is for the private network only. One of the AWS
// Load Balancer Controller is, unless its configuration says otherwise.
func (g *graph) internalGateway(o *inventory.Object, c *gatewayv1.Gateway) bool {
	if internal(c) || annotation(c, "networking.istio.io/service-type") == "clusterip" {
		return true
	}
	if strings.Contains(string(c.Spec.GatewayClassName), "internal") {
		return true
	}
	class := g.inv.Get(inventory.Ref{Group: gatewayGroup, Kind: "GatewayClass", Name: string(c.Spec.GatewayClassName)})
	if class == nil {
		return false
	}
	gc, ok := class.Content.(*gatewayv1.GatewayClass)
	if !ok || !strings.HasPrefix(string(gc.Spec.ControllerName), "gateway.k8s.aws/") {
		return false
	}
	const group, kind = "gateway.k8s.aws", "LoadBalancerConfiguration"
	scheme := ""
	read := func(namespace, name string) {
		conf := g.inv.Get(inventory.Ref{Group: group, Kind: kind, Namespace: namespace, Name: name})
		if conf == nil {
			return
		}
		if u, ok := conf.Content.(*unstructured.Unstructured); ok {
			if s, found, err := unstructured.NestedString(u.Object, "spec", "scheme"); found && err == nil {
				scheme = s
			}
		}
	}
	if p := gc.Spec.ParametersRef; p != nil && string(p.Kind) == kind && p.Namespace != nil {
		read(string(*p.Namespace), p.Name)
	}
	if c.Spec.Infrastructure != nil && c.Spec.Infrastructure.ParametersRef != nil {
		read(o.Namespace, c.Spec.Infrastructure.ParametersRef.Name)
	}
	return scheme != "internet-facing"
}
