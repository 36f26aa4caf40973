package assess

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"dhow/internal/inventory"
)

// caller is whose address pods see.
type caller int

const (
	// stranger is anybody's own address.
	stranger caller = iota
	// proxy is a load balancer's or an ingress controller's.
	proxy
)

// letIn says whether the policies let a caller in to a port, and by which of them.
func (g *graph) letIn(w *inventory.Workload, port int32, who caller) (*Hop, bool) {
	if w.Template.Spec.HostNetwork {
		return nil, true // policies do not see it
	}
	closed := false
	for _, o := range w.Policies {
		p, ok := o.Content.(*networkingv1.NetworkPolicy)
		if !ok || !onIngress(p) {
			continue
		}
		closed = true
		for i := range p.Spec.Ingress {
			r := &p.Spec.Ingress[i]
			if portAllowed(r.Ports, port, w) && peersAllow(r.From, who) {
				return &Hop{Kind: "NetworkPolicy", Object: &o.Ref, Text: "lets it in"}, true
			}
		}
	}
	return nil, !closed
}

func onIngress(p *networkingv1.NetworkPolicy) bool {
	return len(p.Spec.PolicyTypes) == 0 || slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
}

func peersAllow(from []networkingv1.NetworkPolicyPeer, who caller) bool {
	if len(from) == 0 {
		return true
	}
	for _, peer := range from {
		switch {
		case peer.IPBlock != nil && (who == proxy || publicBlock(peer.IPBlock.CIDR)):
			return true
		case peer.NamespaceSelector != nil && who == proxy: // the controller's namespace
			return true
		}
	}
	return false
}

func portAllowed(ports []networkingv1.NetworkPolicyPort, port int32, w *inventory.Workload) bool {
	if len(ports) == 0 || port == 0 {
		return true
	}
	for _, p := range ports {
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			if portNamed(w, p.Port.StrVal) == port {
				return true
			}
		case p.EndPort != nil && port >= p.Port.IntVal && port <= *p.EndPort, p.Port.IntVal == port:
			return true
		}
	}
	return false
}
