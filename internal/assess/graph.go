package assess

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/inventory"
)

// Way is how something from outside comes in.
type Way string

// The ways in.
const (
	ByLoadBalancer Way = "load balancer"
	ByNodePort     Way = "node port"
	ByHostPort     Way = "host port"
	ByHostNetwork  Way = "host network"
	ByExternalIP   Way = "external address"
	ByIngress      Way = "ingress"
	ByGateway      Way = "gateway"
)

// From is who stands outside.
type From string

// Who may come.
const (
	// FromInternet is anybody.
	FromInternet From = "internet"
	// FromNodes is whoever reaches a node's address: anybody, where nodes have public ones.
	FromNodes From = "network of the nodes"
)

// Over is what the first part of the way is encrypted with.
type Over string

// What a path goes over.
const (
	OverTLS   Over = "TLS"
	OverClear Over = "clear"
	// OverUnknown is a port whose protocol nothing tells.
	OverUnknown Over = "unknown"
)

// Hop is one step of a path.
type Hop struct {
	// Kind is Ingress, Gateway, HTTPRoute, Service, Node, NetworkPolicy or the workload's.
	Kind string `json:"kind"`
	// Object is nil for what is no object of the cluster.
	Object *inventory.Ref `json:"object,omitempty"`
	// Text says what happens there: "port 80", "host www.example.com, path /".
	Text string `json:"text,omitempty"`
}

// String is such as "Service/shop/web port 80".
func (h Hop) String() string {
	name := h.Kind
	if h.Object != nil {
		name = h.Object.String()
	}
	return strings.TrimSpace(name + " " + h.Text)
}

// Exposure is one path from outside to the pods of a workload.
type Exposure struct {
	Workload inventory.Ref `json:"workload"`
	From     From          `json:"from"`
	Way      Way           `json:"way"`
	// Entry is the object that opens the way, Port the port there, PodPort the one that
	// the pods listen on: 0 if it is not known.
	Entry   inventory.Ref `json:"entry"`
	Port    int32         `json:"port,omitempty"`
	PodPort int32         `json:"podPort,omitempty"`
	// PortName is the pod's port's name, and the Service's if that has none.
	PortName string `json:"portName,omitempty"`
	Over     Over   `json:"over"`
	Hosts    string `json:"hosts,omitempty"`
	// Path are all steps, from outside to the pods.
	Path []Hop `json:"path"`
}

// Steps is the path as a line.
func (e *Exposure) Steps() string {
	parts := make([]string, 0, len(e.Path)+1)
	parts = append(parts, string(e.From))
	for _, h := range e.Path {
		parts = append(parts, h.String())
	}
	return strings.Join(parts, " -> ")
}

// graph is who can be reached from where.
type graph struct {
	inv *inventory.Inventory
	// Exposures are sorted by workload, way, entry and port.
	Exposures []Exposure
	byPods    map[inventory.Ref][]*Exposure
	byEntry   map[inventory.Ref][]*Exposure
	// nodes says who reaches nodes' addresses.
	nodes From
}

func newGraph(inv *inventory.Inventory) *graph {
	g := &graph{inv: inv, byPods: map[inventory.Ref][]*Exposure{}, byEntry: map[inventory.Ref][]*Exposure{}, nodes: FromNodes}
	for _, n := range inventory.Of[*corev1.Node](inv) {
		for _, a := range n.Status.Addresses {
			ip, err := netip.ParseAddr(a.Address)
			if err == nil && a.Type == corev1.NodeExternalIP && isPublic(ip) {
				g.nodes = FromInternet
			}
		}
	}
	for _, s := range inv.Services {
		g.service(s)
	}
	for _, w := range inv.Workloads {
		g.hostPorts(w)
	}
	for o, in := range inventory.Of[*networkingv1.Ingress](inv) {
		g.ingress(o, in)
	}
	g.gateways()
	slices.SortStableFunc(g.Exposures, func(a, b Exposure) int {
		return cmp.Or(compareRefs(a.Workload, b.Workload), strings.Compare(string(a.Way), string(b.Way)), compareRefs(a.Entry, b.Entry), cmp.Compare(a.Port, b.Port), strings.Compare(a.Hosts, b.Hosts))
	})
	for i := range g.Exposures {
		e := &g.Exposures[i]
		g.byPods[e.Workload] = append(g.byPods[e.Workload], e)
		g.byEntry[e.Entry] = append(g.byEntry[e.Entry], e)
	}
	return g
}

// open notes a path whose last hops, the policy and the pods, it adds itself; it does
// nothing if a policy closes the way.
func (g *graph) open(w *inventory.Workload, e Exposure, caller caller) {
	if w.Kind == inventory.KindCompose {
		return
	}
	policy, ok := g.letIn(w, e.PodPort, caller)
	if !ok {
		return
	}
	e.Workload = w.Ref
	if policy != nil {
		e.Path = append(slices.Clip(e.Path), *policy)
	}
	text := "any port"
	if e.PodPort > 0 {
		text = "port " + strconv.Itoa(int(e.PodPort))
	}
	e.Path = append(slices.Clip(e.Path), Hop{Kind: w.Kind, Object: &w.Ref, Text: text})
	g.Exposures = append(g.Exposures, e)
}

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

// portNamed is the number of a named port of a workload's pods, 0 if they have none.
func portNamed(w *inventory.Workload, name string) int32 {
	for n := range w.Containers {
		for _, p := range w.Containers[n].Ports {
			if p.Name == name {
				return p.ContainerPort
			}
		}
	}
	return 0
}

func portName(w *inventory.Workload, number int32) string {
	for n := range w.Containers {
		for _, p := range w.Containers[n].Ports {
			if p.ContainerPort == number {
				return p.Name
			}
		}
	}
	return ""
}

// podPort is where a Service's port leads in the pods of a workload, 0 if nowhere known.
func podPort(p *corev1.ServicePort, w *inventory.Workload) int32 {
	switch {
	case p.TargetPort.Type == intstr.String:
		return portNamed(w, p.TargetPort.StrVal)
	case p.TargetPort.IntVal != 0:
		return p.TargetPort.IntVal
	}
	return p.Port
}

// isPublic says whether an address is one of the internet. Addresses for documentation
// count as such: in examples they stand for public ones.
func isPublic(ip netip.Addr) bool {
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !sharedSpace.Contains(ip) && !benchSpace.Contains(ip)
}

var (
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // carriers' and clouds' own
	benchSpace  = netip.MustParsePrefix("198.18.0.0/15")
)

// publicBlock says whether a range has public addresses in it.
func publicBlock(cidr string) bool {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return false
	}
	return isPublic(p.Masked().Addr()) || p.Bits() < 8
}

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

// internalClass says whether an Ingress is for the private network only.
func internalIngress(in *networkingv1.Ingress) bool {
	class := annotation(in, "kubernetes.io/ingress.class")
	if in.Spec.IngressClassName != nil {
		class = strings.ToLower(*in.Spec.IngressClassName)
	}
	switch {
	case class == "alb":
		return annotation(in, "alb.ingress.kubernetes.io/scheme") != "internet-facing"
	case class == "gce-internal", strings.Contains(class, "internal"), strings.Contains(class, "private"):
		return true
	case annotation(in, "appgw.ingress.kubernetes.io/use-private-ip") == "true":
		return true
	}
	return annotation(in, "alb.ingress.kubernetes.io/scheme") == "internal"
}

// ingressTLS says whether a host of an Ingress is served over TLS.
func ingressTLS(in *networkingv1.Ingress, host string) bool {
	for _, name := range []string{"alb.ingress.kubernetes.io/certificate-arn", "networking.gke.io/managed-certificates", "ingress.gcp.kubernetes.io/pre-shared-cert",
		"appgw.ingress.kubernetes.io/appgw-ssl-certificate", "nginx.ingress.kubernetes.io/ssl-passthrough", "traefik.ingress.kubernetes.io/router.tls"} {
		if v := annotation(in, name); v != "" && v != "false" {
			return true
		}
	}
	if strings.Contains(annotation(in, "alb.ingress.kubernetes.io/listen-ports"), "https") {
		return true // the certificate is found by the host's name
	}
	for _, t := range in.Spec.TLS {
		if len(t.Hosts) == 0 || slices.ContainsFunc(t.Hosts, func(h string) bool { return hostCovers(h, host) }) {
			return true
		}
	}
	return false
}

// hostCovers says whether a host, which may begin with *., is meant by another.
func hostCovers(pattern, host string) bool {
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		_, tail, cut := strings.Cut(host, ".")
		return cut && tail == rest || pattern == host
	}
	return pattern == host
}

func (g *graph) ingress(o *inventory.Object, in *networkingv1.Ingress) {
	if internalIngress(in) {
		return
	}
	send := func(host, path string, b *networkingv1.IngressBackend) {
		if b == nil || b.Service == nil {
			return
		}
		s := g.inv.Service(o.Namespace, b.Service.Name)
		if s == nil {
			return
		}
		over := OverClear
		port := int32(80)
		if ingressTLS(in, host) {
			over, port = OverTLS, 443
		}
		text := "host " + cmp.Or(host, "any")
		if path != "" {
			text += ", path " + path
		}
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			if b.Service.Port.Name != "" && p.Name != b.Service.Port.Name || b.Service.Port.Name == "" && p.Port != b.Service.Port.Number {
				continue
			}
			for _, w := range s.Workloads {
				if !w.Serves {
					continue
				}
				e := Exposure{From: FromInternet, Way: ByIngress, Entry: o.Ref, Port: port, PodPort: podPort(p, w), Over: over, Hosts: cmp.Or(host, "*"),
					Path: []Hop{{Kind: "Ingress", Object: &o.Ref, Text: text}, {Kind: "Service", Object: &s.Object.Ref, Text: fmt.Sprintf("port %d", p.Port)}}}
				e.PortName = cmp.Or(portName(w, e.PodPort), p.Name)
				g.open(w, e, proxy)
			}
		}
	}
	send("", "", in.Spec.DefaultBackend)
	for _, r := range in.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for i := range r.HTTP.Paths {
			send(r.Host, r.HTTP.Paths[i].Path, &r.HTTP.Paths[i].Backend)
		}
	}
}

// route is one rule's backend of a route of the Gateway API.
type route struct {
	object  *inventory.Object
	parents []gatewayv1.ParentReference
	hosts   []gatewayv1.Hostname
	// ruleAt are the paths of the backends.
	backends []routeBackend
}

type routeBackend struct {
	path string
	ref  gatewayv1.BackendObjectReference
}

// routes are all of the Gateway API.
func routes(inv *inventory.Inventory) []route {
	var all []route
	at := func(rule, n int) string { return index("spec.rules", rule) + "." + index("backendRefs", n) }
	for o, c := range inventory.Of[*gatewayv1.HTTPRoute](inv) {
		r := route{object: o, parents: c.Spec.ParentRefs, hosts: c.Spec.Hostnames}
		for i := range c.Spec.Rules {
			for n := range c.Spec.Rules[i].BackendRefs {
				r.backends = append(r.backends, routeBackend{at(i, n), c.Spec.Rules[i].BackendRefs[n].BackendObjectReference})
			}
		}
		all = append(all, r)
	}
	for o, c := range inventory.Of[*gatewayv1.GRPCRoute](inv) {
		r := route{object: o, parents: c.Spec.ParentRefs, hosts: c.Spec.Hostnames}
		for i := range c.Spec.Rules {
			for n := range c.Spec.Rules[i].BackendRefs {
				r.backends = append(r.backends, routeBackend{at(i, n), c.Spec.Rules[i].BackendRefs[n].BackendObjectReference})
			}
		}
		all = append(all, r)
	}
	for o, c := range inventory.Of[*gatewayv1.TLSRoute](inv) {
		r := route{object: o, parents: c.Spec.ParentRefs, hosts: c.Spec.Hostnames}
		for i := range c.Spec.Rules {
			for n := range c.Spec.Rules[i].BackendRefs {
				r.backends = append(r.backends, routeBackend{at(i, n), c.Spec.Rules[i].BackendRefs[n].BackendObjectReference})
			}
		}
		all = append(all, r)
	}
	for o, c := range inventory.Of[*gatewayv1.TCPRoute](inv) {
		r := route{object: o, parents: c.Spec.ParentRefs}
		for i := range c.Spec.Rules {
			for n := range c.Spec.Rules[i].BackendRefs {
				r.backends = append(r.backends, routeBackend{at(i, n), c.Spec.Rules[i].BackendRefs[n].BackendObjectReference})
			}
		}
		all = append(all, r)
	}
	for o, c := range inventory.Of[*gatewayv1.UDPRoute](inv) {
		r := route{object: o, parents: c.Spec.ParentRefs}
		for i := range c.Spec.Rules {
			for n := range c.Spec.Rules[i].BackendRefs {
				r.backends = append(r.backends, routeBackend{at(i, n), c.Spec.Rules[i].BackendRefs[n].BackendObjectReference})
			}
		}
		all = append(all, r)
	}
	return all
}

const gatewayGroup = "gateway.networking.k8s.io"

// parentGateway is the Gateway of a route's parent, false if it is of another kind.
func parentGateway(p gatewayv1.ParentReference, namespace string) (inventory.Ref, bool) {
	if p.Kind != nil && *p.Kind != "Gateway" || p.Group != nil && *p.Group != gatewayGroup {
		return inventory.Ref{}, false
	}
	if p.Namespace != nil {
		namespace = string(*p.Namespace)
	}
	return inventory.Ref{Group: gatewayGroup, Kind: "Gateway", Namespace: namespace, Name: string(p.Name)}, true
}

// backendService is the Service of a route's backend, false if it is of another kind.
func backendService(b gatewayv1.BackendObjectReference, namespace string) (inventory.Ref, bool) {
	if b.Kind != nil && *b.Kind != "Service" || b.Group != nil && *b.Group != "" {
		return inventory.Ref{}, false
	}
	if b.Namespace != nil {
		namespace = string(*b.Namespace)
	}
	return inventory.Ref{Kind: "Service", Namespace: namespace, Name: string(b.Name)}, true
}

func (g *graph) gateways() {
	closed := map[inventory.Ref]bool{}
	byRef := map[inventory.Ref]*gatewayv1.Gateway{}
	for o, c := range inventory.Of[*gatewayv1.Gateway](g.inv) {
		byRef[o.Ref], closed[o.Ref] = c, g.internalGateway(o, c)
	}
	for _, r := range routes(g.inv) {
		for _, parent := range r.parents {
			ref, ok := parentGateway(parent, r.object.Namespace)
			gw := byRef[ref]
			if !ok || gw == nil || closed[ref] {
				continue
			}
			for i := range gw.Spec.Listeners {
				l := &gw.Spec.Listeners[i]
				if parent.SectionName != nil && *parent.SectionName != l.Name || parent.Port != nil && *parent.Port != l.Port {
					continue
				}
				g.routed(ref, l, &r)
			}
		}
	}
}

func (g *graph) routed(gw inventory.Ref, l *gatewayv1.Listener, r *route) {
	over := OverUnknown
	switch l.Protocol {
	case gatewayv1.HTTPSProtocolType, gatewayv1.TLSProtocolType:
		over = OverTLS
	case gatewayv1.HTTPProtocolType:
		over = OverClear
	}
	hosts := make([]string, 0, len(r.hosts))
	for _, h := range r.hosts {
		hosts = append(hosts, string(h))
	}
	if len(hosts) == 0 && l.Hostname != nil {
		hosts = append(hosts, string(*l.Hostname))
	}
	if len(hosts) == 0 {
		hosts = append(hosts, "*")
	}
	text := strings.Join(hosts, ", ")
	for _, b := range r.backends {
		ref, ok := backendService(b.ref, r.object.Namespace)
		s := g.inv.Service(ref.Namespace, ref.Name)
		if !ok || s == nil {
			continue
		}
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			if b.ref.Port != nil && *b.ref.Port != p.Port {
				continue
			}
			for _, w := range s.Workloads {
				if !w.Serves {
					continue
				}
				e := Exposure{From: FromInternet, Way: ByGateway, Entry: gw, Port: l.Port, PodPort: podPort(p, w), Over: over, Hosts: text,
					Path: []Hop{{Kind: "Gateway", Object: &gw, Text: fmt.Sprintf("listener %s, port %d", l.Name, l.Port)},
						{Kind: r.object.Kind, Object: &r.object.Ref, Text: "hosts " + text}, {Kind: "Service", Object: &s.Object.Ref, Text: fmt.Sprintf("port %d", p.Port)}}}
				e.PortName = cmp.Or(portName(w, e.PodPort), p.Name)
				g.open(w, e, proxy)
			}
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
