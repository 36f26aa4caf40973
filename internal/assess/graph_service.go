package assess

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"dhow/internal/inventory"
)

// service follows load balancers, node ports and external addresses.
func (g *graph) service(s *inventory.Service) {
	kind := s.Spec.Type
	if kind == corev1.ServiceTypeExternalName || len(s.Workloads) == 0 {
		return
	}
	for _, w := range s.Workloads {
		if !w.Serves {
			continue
		}
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			e := Exposure{Entry: s.Object.Ref, Port: p.Port, PodPort: podPort(p, w)}
			e.PortName = cmp.Or(portName(w, e.PodPort), p.Name)
			e.Over = overOf(s.Service, p)
			hop := Hop{Kind: "Service", Object: &s.Object.Ref}
			if kind == corev1.ServiceTypeLoadBalancer && !internal(s.Service) && openRanges(s.Service) {
				one := e
				one.From, one.Way = FromInternet, ByLoadBalancer
				hop.Text = "load balancer, port " + strconv.Itoa(int(p.Port))
				one.Path = []Hop{hop}
				g.open(w, one, stranger)
			}
			if nodePort(s.Service, p) {
				one := e
				one.From, one.Way = g.nodes, ByNodePort
				hop.Text = "port " + strconv.Itoa(int(p.Port))
				node := Hop{Kind: "Node", Text: "every node's address, a port that is chosen"}
				if one.Port = p.NodePort; p.NodePort > 0 {
					node.Text = "every node's address, port " + strconv.Itoa(int(p.NodePort))
				}
				one.Path = []Hop{node, hop}
				g.open(w, one, stranger)
			}
			for _, ip := range s.Spec.ExternalIPs {
				one := e
				one.From, one.Way = FromNodes, ByExternalIP
				if a, err := netip.ParseAddr(ip); err == nil && isPublic(a) {
					one.From = FromInternet
				}
				hop.Text = "external address " + ip + ", port " + strconv.Itoa(int(p.Port))
				one.Path = []Hop{hop}
				g.open(w, one, stranger)
			}
		}
	}
}

// nodePort says whether a Service's port is open on nodes.
func nodePort(s *corev1.Service, p *corev1.ServicePort) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return p.NodePort > 0 // where a manifest says nothing, a cluster may be told to choose none
	}
	return false
}

// openRanges says whether a load balancer takes callers from the internet.
func openRanges(s *corev1.Service) bool {
	ranges := s.Spec.LoadBalancerSourceRanges
	if text := annotation(s, "service.beta.kubernetes.io/load-balancer-source-ranges"); len(ranges) == 0 && text != "" {
		ranges = strings.Split(text, ",")
	}
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(c string) bool { return publicBlock(strings.TrimSpace(c)) })
}

// internal says whether a load balancer, an Ingress or a Gateway is for the private
// network only, by the words of each provider.
func internal(o metav1.Object) bool {
	for _, name := range []string{"networking.gke.io/load-balancer-type", "cloud.google.com/load-balancer-type"} {
		if annotation(o, name) == "internal" {
			return true
		}
	}
	for _, name := range []string{"service.beta.kubernetes.io/azure-load-balancer-internal", "service.beta.kubernetes.io/oci-load-balancer-internal",
		"service.beta.kubernetes.io/openstack-internal-load-balancer"} {
		if annotation(o, name) == "true" {
			return true
		}
	}
	if annotation(o, "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type") == "intranet" {
		return true
	}
	aws := annotation(o, "service.beta.kubernetes.io/aws-load-balancer-internal")
	switch scheme := annotation(o, "service.beta.kubernetes.io/aws-load-balancer-scheme"); {
	case scheme == "internet-facing":
		return false
	case scheme == "internal", aws == "true", aws == "0.0.0.0/0":
		return true
	}
	// The AWS Load Balancer Controller's are internal unless they are told otherwise.
	s, ok := o.(*corev1.Service)
	kind := annotation(o, "service.beta.kubernetes.io/aws-load-balancer-type")
	return ok && (kind == "external" || kind == "nlb-ip" || s.Spec.LoadBalancerClass != nil && *s.Spec.LoadBalancerClass == "service.k8s.aws/nlb") && aws != "false"
}

// overOf tells what a load balancer's port goes over.
func overOf(s *corev1.Service, p *corev1.ServicePort) Over {
	protocol := strings.ToLower(p.Name)
	if p.AppProtocol != nil {
		protocol = strings.ToLower(*p.AppProtocol)
	}
	const cert, ports = "service.beta.kubernetes.io/aws-load-balancer-ssl-cert", "service.beta.kubernetes.io/aws-load-balancer-ssl-ports"
	switch {
	case annotation(s, cert) != "":
		list := annotation(s, ports)
		if list == "" || list == "*" || slices.ContainsFunc(strings.Split(list, ","), func(t string) bool {
			t = strings.TrimSpace(t)
			return t == strconv.Itoa(int(p.Port)) || t == protocol && t != ""
		}) {
			return OverTLS
		}
		return OverClear
	case p.Port == 443, p.Port == 8443, strings.Contains(protocol, "https"), strings.Contains(protocol, "tls"), protocol == "wss":
		return OverTLS
	case p.Port == 80, p.Port == 8080, strings.HasPrefix(protocol, "http"), strings.HasPrefix(protocol, "web"), protocol == "ws", strings.HasSuffix(protocol, "h2c"):
		return OverClear
	}
	return OverUnknown
}

// hostPorts follows what pods open on nodes by themselves.
func (g *graph) hostPorts(w *inventory.Workload) {
	if !w.Serves || w.Kind == inventory.KindCompose {
		return
	}
	host := w.Template.Spec.HostNetwork
	known := false
	for n := range w.Containers {
		for _, p := range w.Containers[n].Ports {
			e := Exposure{From: g.nodes, Entry: w.Ref, Port: p.HostPort, PodPort: p.ContainerPort, PortName: p.Name, Way: ByHostPort, Over: OverUnknown}
			switch {
			case host:
				e.Way, e.Port = ByHostNetwork, p.ContainerPort
				known = true
			case p.HostPort == 0, p.HostIP == "127.0.0.1", p.HostIP == "::1":
				continue
			}
			e.Path = []Hop{{Kind: "Node", Text: "the node's address, port " + strconv.Itoa(int(e.Port))}}
			g.open(w, e, stranger)
		}
	}
	if host && !known {
		e := Exposure{From: g.nodes, Entry: w.Ref, Way: ByHostNetwork, Over: OverUnknown, Path: []Hop{{Kind: "Node", Text: "the node's address, whatever ports the pod opens"}}}
		g.open(w, e, stranger)
	}
}
