package assess

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/inventory"
)

// maxPaths bounds the paths that are told of one finding: more prove no more.
const maxPaths = 10

// exposureRules are about who can reach what from outside.
func exposureRules() []Rule {
	const g = GroupExposure
	return []Rule{
		{ID: "database-exposed", Group: g, Severity: Critical, ordered: true, Title: "A database's pods can be reached from outside.",
			Why: "Whoever finds the port has every row one password, or one unpatched hole, away.",
			Fix: "Make its Service ClusterIP, take host ports away, and let only its clients in by a NetworkPolicy.", check: databaseExposed},
		{ID: "console-exposed", Group: g, Severity: High, ordered: true, Title: "An administrator's console can be reached from outside.",
			Why: "Such consoles are looked for by every scanner, and who signs in may change the cluster or its data.",
			Fix: "Take the way in away and reach it by `kubectl port-forward`, a VPN, or a proxy that asks who it is.", check: consoleExposed},
		{ID: "inner-port-exposed", Group: g, Severity: High, ordered: true, Title: "A port for metrics, debugging or administration can be reached from outside.",
			Why: "It tells strangers what runs inside, and often lets them change or stop it.",
			Fix: "Leave only the ports for users in the Service that is open; give the others a ClusterIP Service of their own.", check: innerPortExposed},
		{ID: "external-address", Group: g, Severity: High, Title: "A Service takes traffic for addresses that it names itself.",
			Why: "Nothing checks that the addresses are its own: whoever may write Services can take over others' traffic within the cluster.",
			Fix: "Remove externalIPs and use a load balancer or a Gateway.", check: externalAddress},
		{ID: "ingress-without-tls", Group: g, Severity: High, Title: "An Ingress serves a host without TLS.",
			Why: "Passwords, PINs and balances travel in the clear.",
			Fix: "Give the Ingress a certificate for each of its hosts, and redirect port 80.", check: ingressWithoutTLS},
		{ID: "gateway-without-tls", Group: g, Severity: High, Title: "A Gateway serves routes without TLS.",
			Why: "Passwords, PINs and balances travel in the clear.",
			Fix: "Attach the routes to an HTTPS listener, and leave on the HTTP listener only a route that redirects.", check: gatewayWithoutTLS},
		{ID: "host-network", Group: g, Severity: High, Title: "Pods share the node's network.",
			Why: "They listen on the node's own address, past every NetworkPolicy, reach what only the node may, and two can not stand on one node.",
			Fix: "Remove hostNetwork, and reach the pods by their Service.", check: hostNetwork},
		{ID: "load-balancer-in-the-clear", Group: g, Severity: Medium, ordered: true, Title: "A public load balancer carries HTTP in the clear.",
			Why: "Who is on the way reads and changes what is sent, and browsers warn.",
			Fix: "End TLS at the load balancer, or put the Service behind a Gateway that has a certificate.", check: loadBalancerInTheClear},
		{ID: "past-the-gateway", Group: g, Severity: Medium, ordered: true, Title: "Pods that are served through a gateway can be reached past it too.",
			Why: "Whatever the gateway does, TLS, rate limits, sign-in, logs, is avoided by taking the other way.",
			Fix: "Make the Service ClusterIP, and leave the gateway as the only way in.", check: pastTheGateway},
		{ID: "node-port", Group: g, Severity: Medium, ordered: true, Title: "A Service is open on every node's address.",
			Why: "Internal interfaces can be called past the gateway and its rate limits by whoever reaches a node, and callers depend on nodes' addresses.",
			Fix: "Make the Service ClusterIP; a load balancer with targets by IP needs no node ports.", check: nodePorts},
		{ID: "host-port", Group: g, Severity: Medium, Title: "A container takes a port of the node.",
			Why: "Two such pods can not stand on one node, rollouts wait for each other, and the port is open past the Service.",
			Fix: "Remove hostPort, and reach the pods by their Service.", check: hostPort},
		{ID: "load-balancer-open-to-all", Group: g, Severity: Medium, ordered: true, Title: "A load balancer opens an unusual port to the whole internet.",
			Why: "Ports other than those of the web are seldom meant for everybody, and nothing stands before them.",
			Fix: "Name the callers in loadBalancerSourceRanges, make the load balancer internal, or serve it through the gateway.", check: openToAll},
		{ID: "no-network-policy", Group: g, Severity: Medium, Title: "No NetworkPolicy says who may call the pods.",
			Why: "From one pod an attacker reaches every service, every database and the cloud's metadata.",
			Fix: "Deny all in the namespace, then allow each caller that there is.", check: noNetworkPolicy},
		{ID: "policy-lets-all-in", Group: g, Severity: Medium, Title: "A NetworkPolicy lets everybody in to every port.",
			Why: "It looks like a protection and is none: any pod and any address may call.",
			Fix: "Name the callers and the ports.", check: policyLetsAllIn},
		{ID: "gateway-for-all-namespaces", Group: g, Severity: Medium, Title: "Any namespace may attach routes to a Gateway's listener.",
			Why: "Whoever may write a route anywhere can publish a service, or take over a host's paths.",
			Fix: "Allow the route's own namespace, or those with a label.", check: gatewayForAll},
		{ID: "ingress-for-any-host", Group: g, Severity: Low, Title: "An Ingress answers for every host.",
			Why: "It takes requests that were meant for nobody, and those of hosts whose own rule is gone.",
			Fix: "Name the host.", check: ingressForAnyHost},
		{ID: "policy-selects-nothing", Group: g, Severity: Low, Title: "A NetworkPolicy selects no pods.",
			Why: "Pods that it was meant for are open, and it looks as if they were not.",
			Fix: "Correct its podSelector, or remove it.", check: policySelectsNothing},
	}
}

// paths are exposures as evidence.
func paths(all []*Exposure, of func(*Exposure) bool) []string {
	var text []string
	for _, e := range all {
		if of == nil || of(e) {
			if len(text) == maxPaths {
				return append(text, "and more ways")
			}
			text = append(text, e.Steps())
		}
	}
	return text
}

func databaseExposed(p *pass) {
	for _, w := range p.inv.Workloads {
		engine, ok := p.databases[w.Ref]
		if !ok {
			continue
		}
		if all := paths(p.graph.byPods[w.Ref], nil); len(all) > 0 {
			p.at(w.Object, w.MetaPath+".labels", append([]string{"it runs " + string(engine)}, all...)...)
		}
	}
}

// consoles are images of programs that administer something.
var consoles = regexp.MustCompile(`(^|/)(phpmyadmin|adminer|pgadmin4?|mongo-express|redis-?commander|redisinsight|kubernetes-dashboard|dashboard-web|kubeview|portainer(-ce)?|argocd|prometheus|alertmanager|kibana|jenkins|rancher|hawtio|akhq|kafka-ui|kafdrop|cerebro|pgweb|sqlpad|weave-scope|scope|consul|vault)$`)

func consoleExposed(p *pass) {
	for _, w := range p.inv.Workloads {
		for n := range w.Containers {
			c := &w.Containers[n]
			if c.Init || !consoles.MatchString(c.Image.Repository) {
				continue
			}
			if all := paths(p.graph.byPods[w.Ref], nil); len(all) > 0 {
				p.at(w.Object, c.Path+".image", append([]string{"its image is " + c.Image.Text}, all...)...)
			}
		}
	}
}

var innerPort = regexp.MustCompile(`(?i)(^|-)(metrics|prometheus|debug|pprof|admin|actuator|management|mgmt|jmx|jdwp|profiling|telemetry)(-|$)`)

// innerNumbers are ports that are never meant for users.
var innerNumbers = map[int32]string{2375: "Docker's API", 2379: "etcd", 5005: "Java's debugger", 6060: "Go's profiles", 9229: "Node.js' debugger", 10250: "the kubelet", 15000: "Envoy's administration", 15020: "the mesh's metrics"}

func innerPortExposed(p *pass) {
	for i := range p.graph.Exposures {
		e := &p.graph.Exposures[i]
		what, known := innerNumbers[e.PodPort]
		if !known && !innerPort.MatchString(e.PortName) {
			continue
		}
		o := p.inv.Get(e.Entry)
		if o == nil {
			continue
		}
		fact := "the port is called " + e.PortName
		if known {
			fact = fmt.Sprintf("port %d is that of %s", e.PodPort, what)
		}
		p.at(o, "spec", fact, e.Steps()).about(fmt.Sprintf("%s %s %d", e.Way, e.Workload, e.PodPort))
	}
}

func externalAddress(p *pass) {
	for _, s := range p.inv.Services {
		if len(s.Spec.ExternalIPs) > 0 {
			p.at(s.Object, "spec.externalIPs", "the addresses are "+strings.Join(s.Spec.ExternalIPs, ", ")).set("spec.externalIPs", nil)
		}
	}
}

func ingressWithoutTLS(p *pass) {
	for o, in := range inventory.Of[*networkingv1.Ingress](p.inv) {
		if internalIngress(in) {
			continue
		}
		var bare []string
		if in.Spec.DefaultBackend != nil && len(in.Spec.Rules) == 0 && !ingressTLS(in, "") {
			bare = append(bare, "any host is served without TLS")
		}
		for _, r := range in.Spec.Rules {
			if !ingressTLS(in, r.Host) {
				bare = append(bare, "host "+orAny(r.Host)+" is served without TLS")
			}
		}
		if len(bare) > 0 {
			p.at(o, "spec.tls", bare...)
		}
	}
}

func orAny(host string) string {
	if host == "" {
		return "(any)"
	}
	return host
}

func gatewayWithoutTLS(p *pass) {
	listeners := map[string]*Finding{}
	for i := range p.graph.Exposures {
		e := &p.graph.Exposures[i]
		if e.Way != ByGateway || e.Over != OverClear {
			continue
		}
		o := p.inv.Get(e.Entry)
		c, ok := o.Content.(*gatewayv1.Gateway)
		if !ok {
			continue
		}
		for n := range c.Spec.Listeners {
			key := e.Entry.String() + index("", n)
			if l := &c.Spec.Listeners[n]; l.Port == e.Port && l.Protocol == gatewayv1.HTTPProtocolType && listeners[key] == nil {
				listeners[key] = p.at(o, index("spec.listeners", n)+".protocol", e.Steps())
			}
		}
	}
}

func hostNetwork(p *pass) {
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		if spec.HostNetwork {
			f := p.at(w.Object, w.SpecPath+".hostNetwork", "hostNetwork is true")
			if w.Kind != "Pod" {
				f.set(w.SpecPath+".hostNetwork", nil)
			}
		}
	})
}

func loadBalancerInTheClear(p *pass) {
	for _, s := range p.inv.Services {
		all := p.graph.byEntry[s.Object.Ref]
		if text := paths(all, func(e *Exposure) bool { return e.Way == ByLoadBalancer && e.Over == OverClear }); len(text) > 0 {
			p.at(s.Object, "spec.ports", text...)
		}
	}
}

func pastTheGateway(p *pass) {
	for _, w := range p.inv.Workloads {
		all := p.graph.byPods[w.Ref]
		front := func(e *Exposure) bool { return e.Way == ByIngress || e.Way == ByGateway }
		if !slices.ContainsFunc(all, front) {
			continue
		}
		if past := paths(all, func(e *Exposure) bool { return !front(e) }); len(past) > 0 {
			p.at(w.Object, w.MetaPath+".labels", append(paths(all, front)[:1], past...)...)
		}
	}
}

func nodePorts(p *pass) {
	for _, s := range p.inv.Services {
		open := p.graph.byEntry[s.Object.Ref]
		for n := range s.Spec.Ports {
			port := &s.Spec.Ports[n]
			if !nodePort(s.Service, port) {
				continue
			}
			text := paths(open, func(e *Exposure) bool { return e.Way == ByNodePort && (e.Port == port.NodePort) })
			if len(text) == 0 && (len(s.Workloads) > 0 || len(s.Spec.Selector) == 0) {
				continue // policies close it
			}
			path := index("spec.ports", n)
			if port.NodePort > 0 {
				path += ".nodePort"
				text = append(text, "port "+strconv.Itoa(int(port.NodePort))+" of every node leads to it")
			}
			f := p.at(s.Object, path, text...)
			if s.Spec.Type == corev1.ServiceTypeNodePort {
				f.set("spec.type", string(corev1.ServiceTypeClusterIP)).set(index("spec.ports", n)+".nodePort", nil)
			}
		}
	}
}

func hostPort(p *pass) {
	p.everyContainer(func(w *inventory.Workload, c *inventory.Container) {
		if w.Template.Spec.HostNetwork || w.Kind == inventory.KindCompose {
			return
		}
		for n, port := range c.Ports {
			if port.HostPort > 0 {
				path := c.Path + "." + index("ports", n) + ".hostPort"
				p.at(w.Object, path, fmt.Sprintf("port %d of the node leads to port %d of the pod", port.HostPort, port.ContainerPort)).set(path, nil)
			}
		}
	})
}

func openToAll(p *pass) {
	usual := map[int32]bool{80: true, 443: true}
	for _, s := range p.inv.Services {
		text := paths(p.graph.byEntry[s.Object.Ref], func(e *Exposure) bool { return e.Way == ByLoadBalancer && !usual[e.Port] })
		if len(text) > 0 {
			p.at(s.Object, "spec.loadBalancerSourceRanges", text...)
		}
	}
}

func noNetworkPolicy(p *pass) {
	p.pods(func(w *inventory.Workload, _ *corev1.PodSpec) {
		if !w.Serves {
			return
		}
		for _, o := range w.Policies {
			if c, ok := o.Content.(*networkingv1.NetworkPolicy); !ok || onIngress(c) {
				return
			}
		}
		p.at(w.Object, w.MetaPath+".labels", "no NetworkPolicy for incoming traffic selects the pods")
	})
}

func policyLetsAllIn(p *pass) {
	for o, c := range inventory.Of[*networkingv1.NetworkPolicy](p.inv) {
		for n := range c.Spec.Ingress {
			r := &c.Spec.Ingress[n]
			if onIngress(c) && len(r.Ports) == 0 && (len(r.From) == 0 || slices.ContainsFunc(r.From, func(f networkingv1.NetworkPolicyPeer) bool {
				return f.IPBlock != nil && (f.IPBlock.CIDR == "0.0.0.0/0" || f.IPBlock.CIDR == "::/0") && len(f.IPBlock.Except) == 0
			})) {
				p.at(o, index("spec.ingress", n), "the rule names no port, and lets every address in")
			}
		}
	}
}

func gatewayForAll(p *pass) {
	for o, c := range inventory.Of[*gatewayv1.Gateway](p.inv) {
		for n := range c.Spec.Listeners {
			r := c.Spec.Listeners[n].AllowedRoutes
			if r != nil && r.Namespaces != nil && r.Namespaces.From != nil && *r.Namespaces.From == gatewayv1.NamespacesFromAll {
				path := index("spec.listeners", n) + ".allowedRoutes.namespaces.from"
				p.at(o, path, "listener "+string(c.Spec.Listeners[n].Name)+" allows routes from All").operate("replace", path, "Same")
			}
		}
	}
}

func ingressForAnyHost(p *pass) {
	for o, in := range inventory.Of[*networkingv1.Ingress](p.inv) {
		for n, r := range in.Spec.Rules {
			if r.Host == "" || r.Host == "*" {
				p.at(o, index("spec.rules", n), "the rule names no host")
			}
		}
	}
}

func policySelectsNothing(p *pass) {
	used := map[*inventory.Object]bool{}
	for _, w := range p.inv.Workloads {
		for _, o := range w.Policies {
			used[o] = true
		}
	}
	for o, c := range inventory.Of[*networkingv1.NetworkPolicy](p.inv) {
		all := len(c.Spec.PodSelector.MatchLabels)+len(c.Spec.PodSelector.MatchExpressions) == 0
		if !used[o] && !all && len(p.workloads[o.Namespace]) > 0 && !p.madeElsewhere(o.Namespace, c.Spec.PodSelector.MatchLabels) {
			p.at(o, "spec.podSelector", "no workload of the namespace has the labels")
		}
	}
}

// madeElsewhere says whether an object of another kind makes pods with all these labels.
func (l *lookup) madeElsewhere(namespace string, want map[string]string) bool {
	return slices.ContainsFunc(l.custom[namespace], func(have map[string]string) bool {
		for k, v := range want {
			if have[k] != v {
				return false
			}
		}
		return true
	})
}
