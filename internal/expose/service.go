package expose

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
)

const (
	// sourcesNote is the older form of spec.loadBalancerSourceRanges.
	sourcesNote = "service.beta.kubernetes.io/load-balancer-source-ranges"
	// autoNLB is the class of NLBs of clusters that EKS runs by itself.
	autoNLB = "eks.amazonaws.com/nlb"
	// topologyNotes say how the Service, which stays, chooses among pods.
	topologyNotes = "service.kubernetes.io/topology-"
)

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// service converts a Service of type NodePort or LoadBalancer: an Exposure of the same ports,
// to which the Service itself goes on leading inside of the cluster.
func (c *converter) service() error {
	notes := c.Service.Annotations
	named := c.dns(notes)
	c.certificates("--certificate", c.Certificates)
	for _, p := range c.Service.Spec.Ports {
		if p.Protocol == corev1.ProtocolSCTP {
			return wrong("the Service %s has port %d of SCTP, which no load balancer of AWS speaks: take it out", c.Service.Name, p.Port)
		}
	}
	if len(c.ByNodes) > 0 {
		return wrong("Ingress %s leads to the Service %s by the ports of nodes, which would go: convert that first", strings.Join(c.ByNodes, ", Ingress "), c.Service.Name)
	}
	balanced := c.Service.Spec.Type == corev1.ServiceTypeLoadBalancer
	spec := &c.Service.Spec
	if balanced {
		from := spec.LoadBalancerSourceRanges
		if len(from) == 0 {
			from = split(notes[sourcesNote])
		}
		c.sources("spec.loadBalancerSourceRanges", from)
		c.nlbNotes(notes)
	}
	c.foreignNotes(notes, func(key string) bool {
		return strings.HasPrefix(key, elb.NLBPrefix) || strings.HasPrefix(key, dnsPrefix) || key == sourcesNote || strings.HasPrefix(key, topologyNotes)
	})
	if spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && !c.restricted() {
		c.lost("spec.externalTrafficPolicy", "Local: pods see the load balancer's address in the place of the client's")
	}
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		c.lost("spec.sessionAffinity", "ClientIP: a client would come to any pod")
	}
	if spec.LoadBalancerIP != "" {
		c.lost("spec.loadBalancerIP", "the address %s would be another", spec.LoadBalancerIP)
	}
	if len(spec.ExternalIPs) > 0 {
		c.carried("spec.externalIPs", "%s go on leading to the Service", strings.Join(spec.ExternalIPs, ", "))
	}
	if c.all.Visibility = c.Visibility; c.all.Visibility == "" {
		c.all.Visibility = c.serviceVisibility(notes)
	}
	e, s, err := c.exposure(c.Service.Name)
	if err != nil {
		return err
	}
	e.Spec.Hosts = hosts(append(slices.Clone(named), c.Hosts...))
	c.servicePorts(e, s, notes)
	if slices.ContainsFunc(e.Spec.Ports, func(p v1alpha1.Port) bool { return requests(p.Protocol) }) && len(e.Spec.Hosts) == 0 && (e.Spec.Visibility == v1alpha1.Public || c.Policy.Domain == "") {
		return wrong("the Service %s serves requests, and no name is known by which they come: say it with --host", c.Service.Name)
	}
	if balanced && len(named) == 0 {
		c.lost(lostAddress, "no name of it is known to external-dns: who calls its load balancer by AWS's own name has to be told the new one")
	}
	if len(named) == 0 && c.out.ByHand == "" {
		c.out.ByHand = "no name of it is known to external-dns, so that there is none to shift"
	}
	c.out.Exposures = append(c.out.Exposures, e)
	return nil
}

// serviceVisibility is who may call, by what the Service says to whom makes its load balancer.
func (c *converter) serviceVisibility(notes map[string]string) v1alpha1.Visibility {
	if c.Service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		c.carried("visibility", "private, unless --visibility says otherwise: nodes have no word on who reaches them")
		return v1alpha1.Private
	}
	inner := notes[elb.NLBPrefix+"internal"]
	switch scheme := notes[elb.NLBPrefix+"scheme"]; {
	case scheme == "internal", inner != "" && inner != no:
		return v1alpha1.Private
	case scheme == "internet-facing":
		return v1alpha1.Public
	}
	kind := notes[elb.NLBPrefix+"type"]
	if class := ptr.Deref(c.Service.Spec.LoadBalancerClass, ""); kind == "external" || kind == "nlb-ip" || class == elb.NLBClass || class == autoNLB {
		return v1alpha1.Private // as the AWS Load Balancer Controller has it where nothing is said
	}
	for _, at := range c.Service.Status.LoadBalancer.Ingress {
		if v := visibilityOf(at.IP, at.Hostname); v != "" {
			return v
		}
	}
	return v1alpha1.Public // as every cloud has it where nothing is said
}

// servicePorts gives the Exposure the Service's ports, and says which would be served otherwise.
func (c *converter) servicePorts(e *v1alpha1.Exposure, s *corev1.Service, notes map[string]string) {
	secured := split(notes[elb.NLBPrefix+"ssl-ports"])
	ended := func(p corev1.ServicePort) bool { // says that TLS ends at the load balancer
		if notes[elb.NLBPrefix+"ssl-cert"] == "" {
			return false
		}
		return len(secured) == 0 || secured[0] == "*" || slices.Contains(secured, p.Name) || slices.Contains(secured, itoa(p.Port))
	}
	web := -1
	for _, p := range s.Spec.Ports {
		as := port(p, c.protocol(e, p, notes, ended(p)))
		if !requests(as.Protocol) {
			if ended(p) {
				c.lost(elb.NLBPrefix+"ssl-cert", "TLS of port %d ends at the load balancer today: it would come to the pods as it is", p.Port)
			}
			e.Spec.Ports = append(e.Spec.Ports, as)
			continue
		}
		balanced := s.Spec.Type == corev1.ServiceTypeLoadBalancer
		switch {
		case balanced && !ended(p):
			c.lost(lostPlain, "port %d serves plain HTTP: the shared load balancer sends port 80 on to HTTPS, which clients that post do not all follow", p.Port)
		case balanced && p.Port != elb.HTTPSPort:
			c.lost(lostPort, "port %d is called at %d", p.Port, elb.HTTPSPort)
		}
		if web < 0 {
			web = len(e.Spec.Ports)
			e.Spec.Ports = append(e.Spec.Ports, as)
			continue
		}
		if *e.Spec.Ports[web].TargetPort == *as.TargetPort {
			c.carried("port "+as.Name, "port %d leads to the same port of the pods as %d does", as.Port, e.Spec.Ports[web].Port)
			continue
		}
		e.Spec.Ports = append(e.Spec.Ports, as)
		c.lost(lostPort, "port %d, %s, has neither a host nor a path of its own: it would be reached inside of the cluster alone", as.Port, as.Name)
	}
	if web >= 0 {
		for _, p := range e.Spec.Ports {
			if !requests(p.Protocol) {
				c.lost(lostPort, "port %d, %s, would be called by the name of a load balancer of its own: names lead to that of requests", p.Port, p.Name)
			}
		}
	}
	if s.Spec.Type == corev1.ServiceTypeNodePort {
		var all []string
		for _, p := range s.Spec.Ports {
			if p.NodePort > 0 {
				all = append(all, itoa(p.NodePort))
			}
		}
		c.lost(lostNodes, "who calls nodes at %s has to be told the new address: the ports of nodes go when the old way does", strings.Join(all, ", "))
	}
}

// protocol is what a port speaks through a load balancer: what was passed through as it
// is still is, unless the load balancer speaks HTTP today, or nobody could tell before.
func (c *converter) protocol(e *v1alpha1.Exposure, p corev1.ServicePort, notes map[string]string, ended bool) v1alpha1.Protocol {
	says := spoken(p)
	switch {
	case p.Protocol == corev1.ProtocolUDP:
		return v1alpha1.UDP
	case c.Service.Spec.Type == corev1.ServiceTypeLoadBalancer:
		switch strings.ToLower(notes[elb.NLBPrefix+"backend-protocol"]) {
		case "http":
			return v1alpha1.HTTP
		case "https", "ssl":
			return v1alpha1.TCP
		}
		if ended && requests(says) && (p.Name != "" || p.AppProtocol != nil || p.Port == elb.HTTPPort || p.Port == elb.HTTPSPort) {
			return says
		}
	case requests(says) && (len(e.Spec.Hosts) > 0 || c.Policy.Domain != ""):
		return says
	}
	if says == v1alpha1.TLSPass {
		return says
	}
	return v1alpha1.TCP
}

// nlbNotes takes the annotations by which a Service gets a load balancer of AWS.
func (c *converter) nlbNotes(notes map[string]string) {
	for _, key := range sorted(notes) {
		name, ok := strings.CutPrefix(key, elb.NLBPrefix)
		if !ok {
			continue
		}
		v := notes[key]
		if name == "healthcheck-path" && strings.EqualFold(notes[elb.NLBPrefix+"healthcheck-protocol"], "tcp") || c.checks(key, name, v) {
			continue // a path is not asked for over TCP
		}
		switch name {
		case "scheme", "internal", "type", "ssl-ports", "target-node-labels", "manage-backend-security-group-rules", "backend-protocol": // see serviceVisibility and servicePorts
		case "nlb-target-type":
			if v != "ip" {
				c.carried(key, "targets are the pods themselves, and no nodes")
			}
		case "name":
			c.carried(key, "the load balancer is the one that all Exposures share")
		case "ssl-cert":
			c.certificates(key, split(v))
		case "ssl-negotiation-policy":
			if !strings.HasPrefix(v, "ELBSecurityPolicy-") {
				c.lost(key, "%q is no policy of ELB", v)
				continue
			}
			part(&c.all.TLS).Policy = v
		case "cross-zone-load-balancing-enabled":
			c.crossZone(v)
		case "attributes":
			c.balancerAttributes(key, v)
		case "target-group-attributes":
			c.nlbTargets(key, v)
		case "connection-draining-enabled", "connection-draining-timeout":
			c.carried(key, "%s: %s", v, fitted)
		case "connection-idle-timeout":
			if strings.ToLower(notes[elb.NLBPrefix+"backend-protocol"]) != "http" {
				c.lost(key, "%s s: an NLB forgets a quiet connection after 350 s", v)
				continue
			}
			if n, ok := c.number(key, v, 1, 4000); ok {
				c.idle(n)
			}
		case "healthcheck-protocol":
			if p := strings.ToUpper(v); p != "TCP" && p != "HTTP" {
				c.lost(key, "%s: health is asked without TLS", v)
			}
		case "minimum-load-balancer-capacity":
			if n, ok := c.number(key, strings.TrimPrefix(v, "CapacityUnits="), 100, 100000); ok {
				part(&c.all.Limits).CapacityUnits = int32(n)
			}
		case "proxy-protocol":
			c.lost(key, "%s: pods that wait for the proxy protocol's line would understand nothing", v)
		case "eip-allocations", "private-ipv4-addresses", "ipv6-addresses":
			c.lost(key, "%s: who knows it by its addresses would have to be told the new ones", v)
		default:
			c.lost(key, "%s: the load balancer is shared, and is not told so", short(v))
		}
	}
}

// restricted says that not everybody is let in: then an NLB shows pods who calls.
func (c *converter) restricted() bool {
	return c.all.Access != nil && len(c.all.Access.SourceRanges) > 0
}

// nlbTargets takes the settings of an NLB's target group.
func (c *converter) nlbTargets(key, text string) {
	for _, p := range pairs(text) {
		switch v := p[1]; {
		case strings.HasPrefix(p[0], "deregistration_delay."):
			c.carried(key, "%s=%s: %s", p[0], v, fitted)
		case p[0] == "preserve_client_ip.enabled":
			if v == yes && !c.restricted() {
				c.lost(key, "%s=%s: pods see the load balancer's address in the place of the client's", p[0], v)
			}
		case (p[0] == "stickiness.enabled" || p[0] == "proxy_protocol_v2.enabled") && v == no: // as it is anyway
		case p[0] == "proxy_protocol_v2.enabled":
			c.lost(key, "%s=%s: pods that wait for the proxy protocol's line would understand nothing", p[0], v)
		default:
			c.lost(key, "%s=%s", p[0], v)
		}
	}
}
