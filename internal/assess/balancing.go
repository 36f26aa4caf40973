package assess

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/inventory"
)

// balancingRules are about where requests are sent, and how they are spread.
func balancingRules() []Rule {
	const g = GroupLoadBalancing
	return []Rule{
		{ID: "selects-nothing", Group: g, Severity: High, Title: "A Service's selector matches no pods.",
			Why: "Whoever calls it waits in vain.", Fix: "Give the selector the labels of the pods that it is meant for, or remove the Service.", check: selectsNothing},
		{ID: "selects-several", Group: g, Severity: High, Title: "A Service's selector matches the pods of several services.",
			Why: "Requests are spread over programs that do not know them: most are answered with errors.",
			Fix: "Select by a label that only one service's pods have; send paths to services by routes of a Gateway.", check: selectsSeveral},
		{ID: "port-of-nothing", Group: g, Severity: High, Title: "A Service sends to a named port that its pods do not have.",
			Why: "Connections to it are refused.", Fix: "Name a port that a container has, or give the container's port that name.", check: portOfNothing},
		{ID: "ingress-to-nothing", Group: g, Severity: High, Title: "An Ingress leads to a Service that does not exist.",
			Why: "Its path answers with an error.", Fix: "Name the Service that is there, or remove the path.", check: ingressToNothing},
		{ID: "ingress-to-wrong-port", Group: g, Severity: High, Title: "An Ingress leads to a port that its Service does not have.",
			Why: "Its path answers with an error.", Fix: "Name a port of the Service.", check: ingressToWrongPort},
		{ID: "route-to-nothing", Group: g, Severity: High, Title: "A route leads to a Service or a port that does not exist.",
			Why: "Its requests are answered with an error.", Fix: "Name a Service and a port that are there, or remove the backend.", check: routeToNothing},
		{ID: "route-without-gateway", Group: g, Severity: Medium, Title: "A route belongs to a Gateway, or a listener, that does not exist.",
			Why: "Nothing ever sends a request by it.", Fix: "Name the Gateway and its listener.", check: routeWithoutGateway},
		{ID: "host-claimed-twice", Group: g, Severity: High, Title: "Two Ingresses claim the same path of the same host.",
			Why: "Which of them gets the requests depends on the controller and on their age, and changes when one is made anew.",
			Fix: "Leave the path to one of them.", check: hostClaimedTwice},
		{ID: "no-endpoints", Group: g, Severity: High, Live: true, Title: "A Service has no pod that is ready.",
			Why: "Every request to it fails, now.", Fix: "See why its pods are not ready.", check: noEndpoints},
		{ID: "node-by-address", Group: g, Severity: Medium, Title: "A workload calls another through the address of a node.",
			Why: "When that node is replaced the calls fail, though the service is well; they pass no load balancer.",
			Fix: "Call the Service by its name and port.", check: nodeByAddress},
		{ID: "hand-kept-proxy", Group: g, Severity: Medium, Title: "A proxy's configuration with fixed addresses is kept by hand.",
			Why: "No change of a Service reaches it, and every copy of it has to be edited.",
			Fix: "Replace it by routes of a Gateway, which follow Services by themselves.", check: handKeptProxy},
		{ID: "load-balancer-each", Group: g, Severity: Medium, Title: "Services have load balancers of their own.",
			Why: "Each is paid for by the hour, counts against limits, and is a public address with certificates and rules of its own.",
			Fix: "Make the Services ClusterIP, and serve them through one Gateway or Ingress.", check: loadBalancerEach},
		{ID: "local-traffic-unspread", Group: g, Severity: Medium, Title: "A load balancer only sends to nodes that have a pod, and nothing spreads the pods.",
			Why: "Each node gets the same share whatever pods it has, and a rollout can leave the balancer without a node that answers.",
			Fix: "Spread the pods over nodes by topologySpreadConstraints, or send to pods by their addresses.", check: localUnspread},
		{ID: "pinned-connections", Group: g, Severity: Low, Title: "Clients of a gRPC Service keep to one pod.",
			Why: "A Service spreads connections, and gRPC keeps one for hours: new pods get no requests, and one gets most.",
			Fix: "Balance by request: a GRPCRoute, a mesh, or a headless Service with clients that balance themselves.", check: pinnedConnections},
		{ID: "session-affinity", Group: g, Severity: Low, Title: "A Service keeps each client's address to one pod.",
			Why: "All who come through one proxy or one office's address go to the same pod, and lose their session when it ends.",
			Fix: "Keep sessions in a store that all pods reach, and set sessionAffinity to None.", check: sessionAffinity},
		{ID: "undeclared-port", Group: g, Severity: Low, Title: "A Service sends to a port that its pods do not declare.",
			Why: "If the program does not listen there, connections are refused; if it does, policies by name and readers miss it.",
			Fix: "Declare the port in the container, or correct targetPort.", check: undeclaredPort},
		{ID: "targets-by-node", Group: g, Severity: Low, Title: "A load balancer sends to nodes instead of pods.",
			Why: "A request takes a second hop, often to another zone, and health checks see nodes, not pods: requests go on to pods that leave.",
			Fix: "Set the target type to ip.", check: targetsByNode},
		{ID: "no-readiness-gate", Group: g, Severity: Medium, Title: "Rollouts do not wait until the load balancer has the new pods.",
			Why: "With targets by IP old pods end before new ones take requests: a rollout answers with 502 and 504.",
			Fix: "Label the namespace elbv2.k8s.aws/pod-readiness-gate-inject=enabled.", check: noReadinessGate},
	}
}

func selectsNothing(p *pass) {
	for _, s := range p.inv.Services {
		if len(s.Spec.Selector) == 0 || s.Spec.Type == corev1.ServiceTypeExternalName || len(s.Workloads) > 0 || len(s.Endpoints) > 0 || p.madeElsewhere(s.Namespace, s.Spec.Selector) {
			continue
		}
		p.at(s.Object, "spec.selector", "no pods have the labels "+pairs(s.Spec.Selector))
	}
}

func pairs(m map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+"="+m[k])
	}
	return strings.Join(all, ", ")
}

// identities are the labels that tell which service a pod belongs to.
var identities = []string{"app.kubernetes.io/name", "app", "k8s-app", "name"}

// serviceOf is the service that a workload's pods belong to, by their labels, or their image.
func serviceOf(w *inventory.Workload) string {
	for _, l := range identities {
		if v := w.Template.Labels[l]; v != "" {
			return v
		}
	}
	for n := range w.Containers {
		if c := &w.Containers[n]; !c.Init {
			return c.Image.Repository
		}
	}
	return w.Name
}

func selectsSeveral(p *pass) {
	for _, s := range p.inv.Services {
		services := map[string]bool{}
		for _, w := range s.Workloads {
			if w.Serves {
				services[serviceOf(w)] = true
			}
		}
		if len(services) > 1 && s.Spec.ClusterIP != corev1.ClusterIPNone { // a headless one names, and does not balance
			p.at(s.Object, "spec.selector", "the labels "+pairs(s.Spec.Selector)+" are those of "+strings.Join(slices.Sorted(maps.Keys(services)), ", "))
		}
	}
}

// declares says whether pods of a workload declare a port.
func declares(w *inventory.Workload, port intstr.IntOrString) bool {
	for n := range w.Containers {
		for _, c := range w.Containers[n].Ports {
			if port.Type == intstr.String && c.Name == port.StrVal || port.Type == intstr.Int && c.ContainerPort == port.IntVal {
				return true
			}
		}
	}
	return false
}

func portOfNothing(p *pass) {
	for _, s := range p.inv.Services {
		for n := range s.Spec.Ports {
			port := s.Spec.Ports[n].TargetPort
			if port.Type != intstr.String || len(s.Workloads) == 0 {
				continue
			}
			if !slices.ContainsFunc(s.Workloads, func(w *inventory.Workload) bool { return declares(w, port) }) {
				p.at(s.Object, index("spec.ports", n)+".targetPort", "no container of "+s.Workloads[0].Ref.String()+" has a port called "+port.StrVal)
			}
		}
	}
}

func undeclaredPort(p *pass) {
	for _, s := range p.inv.Services {
		for n := range s.Spec.Ports {
			port := s.Spec.Ports[n].TargetPort
			if port.Type != intstr.Int || len(s.Workloads) == 0 {
				continue
			}
			if port.IntVal == 0 {
				port.IntVal = s.Spec.Ports[n].Port
			}
			var has []string
			if slices.ContainsFunc(s.Workloads, func(w *inventory.Workload) bool {
				ports := portsOf(w)
				has = append(has, ports...)
				return len(ports) == 0 || declares(w, port)
			}) {
				continue
			}
			p.at(s.Object, index("spec.ports", n)+".targetPort", "it sends to port "+strconv.Itoa(int(port.IntVal)), "the pods declare "+strings.Join(has, ", "))
		}
	}
}

func portsOf(w *inventory.Workload) []string {
	var ports []string
	for n := range w.Containers {
		for _, c := range w.Containers[n].Ports {
			ports = append(ports, strconv.Itoa(int(c.ContainerPort)))
		}
	}
	return ports
}

// backends are an Ingress' backends with their fields.
func backends(in *networkingv1.Ingress, look func(path string, b *networkingv1.IngressServiceBackend)) {
	if b := in.Spec.DefaultBackend; b != nil && b.Service != nil {
		look("spec.defaultBackend.service", b.Service)
	}
	for n, r := range in.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for m := range r.HTTP.Paths {
			if b := r.HTTP.Paths[m].Backend.Service; b != nil {
				look(fmt.Sprintf("spec.rules[%d].http.paths[%d].backend.service", n, m), b)
			}
		}
	}
}

func ingressToNothing(p *pass) {
	for o, in := range inventory.Of[*networkingv1.Ingress](p.inv) {
		backends(in, func(path string, b *networkingv1.IngressServiceBackend) {
			if b.Port.Name == "use-annotation" { // an action of the load balancer, not a Service
				return
			}
			if p.inv.Service(o.Namespace, b.Name) == nil {
				p.at(o, path+".name", "there is no Service "+b.Name+" in the namespace "+o.Namespace)
			}
		})
	}
}

func ingressToWrongPort(p *pass) {
	for o, in := range inventory.Of[*networkingv1.Ingress](p.inv) {
		backends(in, func(path string, b *networkingv1.IngressServiceBackend) {
			s := p.inv.Service(o.Namespace, b.Name)
			if s == nil || s.Spec.Type == corev1.ServiceTypeExternalName || b.Port.Name == "use-annotation" {
				return
			}
			var has []string
			for _, port := range s.Spec.Ports {
				if b.Port.Name != "" && port.Name == b.Port.Name || b.Port.Name == "" && port.Port == b.Port.Number {
					return
				}
				has = append(has, strings.TrimSpace(strconv.Itoa(int(port.Port))+" "+port.Name))
			}
			want := b.Port.Name
			if want == "" {
				want = strconv.Itoa(int(b.Port.Number))
			}
			p.at(o, path+".port", "it leads to port "+want, "the Service "+b.Name+" has "+strings.Join(has, ", "))
		})
	}
}

func routeToNothing(p *pass) {
	for _, r := range p.inv.Routes() {
		for _, b := range r.Backends {
			if !b.IsService() {
				continue
			}
			s := p.inv.Service(b.To.Namespace, b.To.Name)
			switch {
			case s == nil:
				p.at(r.Object, b.Path+".name", "there is no "+b.To.String())
			case b.Port != 0 && !slices.ContainsFunc(s.Spec.Ports, func(port corev1.ServicePort) bool { return port.Port == b.Port }):
				p.at(r.Object, b.Path+".port", fmt.Sprintf("%s has no port %d", b.To, b.Port))
			}
		}
	}
}

func routeWithoutGateway(p *pass) {
	if len(p.inv.Kind("Gateway")) == 0 {
		return // they are kept elsewhere
	}
	for _, r := range p.inv.Routes() {
		for _, parent := range r.Parents {
			if parent.To.Group != gatewayGroup || parent.To.Kind != "Gateway" {
				continue
			}
			o := p.inv.Get(parent.To)
			if o == nil {
				p.at(r.Object, parent.Path+".name", "there is no "+parent.To.String())
				continue
			}
			gw, ok := o.Content.(*gatewayv1.Gateway)
			if ok && parent.Section != "" && !slices.ContainsFunc(gw.Spec.Listeners, func(l gatewayv1.Listener) bool { return string(l.Name) == parent.Section }) {
				p.at(r.Object, parent.Path+".sectionName", parent.To.String()+" has no listener "+parent.Section)
			}
		}
	}
}

func hostClaimedTwice(p *pass) {
	type claim struct{ class, host, path string }
	type claimer struct {
		o    *inventory.Object
		path string
	}
	claims := map[claim][]claimer{}
	for o, in := range inventory.Of[*networkingv1.Ingress](p.inv) {
		class := annotation(in, "kubernetes.io/ingress.class")
		if in.Spec.IngressClassName != nil {
			class = *in.Spec.IngressClassName
		}
		if annotation(in, "nginx.ingress.kubernetes.io/canary") == "true" {
			continue
		}
		for n, r := range in.Spec.Rules {
			if r.HTTP == nil || r.Host == "" {
				continue
			}
			for m := range r.HTTP.Paths {
				k := claim{class, r.Host, r.HTTP.Paths[m].Path}
				claims[k] = append(claims[k], claimer{o, fmt.Sprintf("spec.rules[%d].http.paths[%d].path", n, m)})
			}
		}
	}
	for k, all := range claims {
		for n, c := range all {
			other := all[(n+1)%len(all)]
			if len(all) > 1 && other.o != c.o {
				p.at(c.o, c.path, fmt.Sprintf("host %s, path %s is claimed by %s too", k.host, orAny(k.path), other.o.Ref))
			}
		}
	}
}

func noEndpoints(p *pass) {
	for _, s := range p.inv.Services {
		if !s.EndpointsKnown || s.Spec.Type == corev1.ServiceTypeExternalName || len(s.Spec.Selector) == 0 || len(s.Workloads) == 0 {
			continue
		}
		wanted := slices.ContainsFunc(s.Workloads, func(w *inventory.Workload) bool { return w.Serves && w.Replicas > 0 })
		if wanted && !slices.ContainsFunc(s.Endpoints, func(e inventory.Endpoint) bool { return e.Ready }) {
			p.at(s.Object, "spec.selector", fmt.Sprintf("%d endpoints, none of them ready", len(s.Endpoints)))
		}
	}
}

func nodeByAddress(p *pass) {
	for _, c := range p.inv.Calls {
		if !c.NodeAddress || p.inv.Workload(c.From) == nil {
			continue
		}
		for _, e := range c.Evidence {
			f := p.on(e.Object, e.Path, e.Text)
			f.about(c.Host + ":" + strconv.Itoa(c.Port))
			switch {
			case c.Service != nil:
				f.Evidence = append(f.Evidence, "the port is that of "+c.Service.String())
			case c.To != nil:
				f.Evidence = append(f.Evidence, "the port is that of "+c.To.String())
			}
		}
	}
}

func handKeptProxy(p *pass) {
	for _, f := range p.inv.Files {
		switch f.Kind {
		case "", "dockerfile", "env", "systemd":
			continue
		}
		fixed := fixedAddresses(f.Text)
		if len(fixed) == 0 {
			continue
		}
		facts := make([]string, 0, maxPaths)
		for _, a := range fixed[:min(len(fixed), maxPaths)] {
			facts = append(facts, "it sends to "+a)
		}
		if f.Object != nil {
			p.on(*f.Object, f.Field, facts...)
		} else {
			p.in(f.Path, 1+strings.Count(f.Text[:max(0, strings.Index(f.Text, fixed[0]))], "\n"), facts...)
		}
	}
}

func loadBalancerEach(p *pass) {
	var all []*inventory.Service
	for _, s := range p.inv.Services {
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			all = append(all, s)
		}
	}
	if len(all) < 2 {
		return
	}
	for _, s := range all {
		p.at(s.Object, "spec.type", fmt.Sprintf("it is one of %d load balancers", len(all))).set("spec.type", string(corev1.ServiceTypeClusterIP))
	}
}

func localUnspread(p *pass) {
	for _, s := range p.inv.Services {
		if s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
			continue
		}
		for _, w := range s.Workloads {
			if w.Kind != "DaemonSet" && w.Serves && !spread(&w.Template.Spec) {
				p.at(s.Object, "spec.externalTrafficPolicy", w.Ref.String()+" has no topologySpreadConstraints and no anti-affinity")
				break
			}
		}
	}
}

func pinnedConnections(p *pass) {
	for _, s := range p.inv.Services {
		if s.Spec.ClusterIP == corev1.ClusterIPNone || s.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		for n, port := range s.Spec.Ports {
			protocol := strings.ToLower(port.Name)
			if port.AppProtocol != nil {
				protocol = strings.ToLower(*port.AppProtocol)
			}
			if protocol == "grpc" || strings.HasPrefix(protocol, "grpc-") || strings.HasSuffix(protocol, "/grpc") || strings.HasSuffix(protocol, "/h2c") {
				p.at(s.Object, index("spec.ports", n), "the port's protocol is "+protocol, "the Service has an address of its own")
			}
		}
	}
}

func sessionAffinity(p *pass) {
	for _, s := range p.inv.Services {
		if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
			p.at(s.Object, "spec.sessionAffinity", "sessionAffinity is ClientIP").set("spec.sessionAffinity", string(corev1.ServiceAffinityNone))
		}
	}
}

const (
	albTarget = "alb.ingress.kubernetes.io/target-type"
	nlbTarget = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type"
)

func isALB(in *networkingv1.Ingress) bool {
	return annotation(in, "kubernetes.io/ingress.class") == "alb" || in.Spec.IngressClassName != nil && *in.Spec.IngressClassName == "alb"
}

func targetsByNode(p *pass) {
	for o, in := range inventory.Of[*networkingv1.Ingress](p.inv) {
		if isALB(in) && annotation(in, albTarget) != "ip" {
			path := inventory.KeyPath("metadata.annotations", albTarget)
			p.at(o, path, "the target type is instance, which is the controller's own choice").set(path, "ip")
		}
	}
	for _, s := range p.inv.Services {
		if annotation(s.Service, nlbTarget) == "instance" {
			path := inventory.KeyPath("metadata.annotations", nlbTarget)
			p.at(s.Object, path, "the target type is instance").set(path, "ip")
		}
	}
}

func noReadinessGate(p *pass) {
	const label = "elbv2.k8s.aws/pod-readiness-gate-inject"
	for _, o := range p.inv.Kind("Namespace") {
		if o.Content.GetLabels()[label] == "enabled" {
			continue
		}
		var users []string
		for _, w := range p.workloads[o.Name] {
			for _, s := range w.Services {
				if annotation(s.Service, nlbTarget) == "ip" {
					users = append(users, s.Object.Ref.String()+" has targets by IP")
				}
			}
			for _, e := range p.graph.byPods[w.Ref] {
				if in, ok := contentOf[*networkingv1.Ingress](p.inv, e.Entry); ok && isALB(in) && annotation(in, albTarget) == "ip" {
					users = append(users, e.Entry.String()+" has targets by IP")
				}
			}
		}
		if len(users) > 0 {
			slices.Sort(users)
			users = slices.Compact(users)
			path := inventory.KeyPath("metadata.labels", label)
			p.at(o, path, users[:min(len(users), maxPaths)]...).set(path, "enabled")
		}
	}
}

// contentOf is an object's content, false if it is not there or of another type.
func contentOf[T inventory.Content](inv *inventory.Inventory, r inventory.Ref) (content T, ok bool) {
	o := inv.Get(r)
	if o == nil {
		return content, false
	}
	content, ok = o.Content.(T)
	return content, ok
}
