package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"dhow/internal/assess"
	"dhow/internal/elb"
	"dhow/internal/inventory"
)

// connectionBalancer is AWS's load balancer of connections, which looks into none of them.
const connectionBalancer = "nlb"

// entrance is a Service of the source by which clients connect to a workload from outside
// of the cluster and speak something else than HTTP. It keeps a load balancer of its own:
// neither a port nor a name tells one workload's connections from another's.
type entrance struct {
	service *inventory.Service
	ports   []corev1.ServicePort
	public  bool
}

func (e *entrance) scope() Scope {
	if e.public {
		return Public
	}
	return Private
}

// connectionPorts are ports that are known for what is spoken there, and that is not HTTP.
//
//nolint:gochecknoglobals // a constant table; IANA's registry of service names and port numbers
var connectionPorts = map[int32]bool{
	21: true, 22: true, 25: true, 53: true, 110: true, 143: true, 389: true, 465: true, 514: true, 587: true, 636: true, 853: true, 993: true, 995: true, // ftp, ssh, mail, dns, ldap, syslog
	1194: true, 1433: true, 1521: true, 1883: true, 3306: true, 5060: true, 5061: true, 5222: true, 5269: true, 5432: true, 5671: true, 5672: true, // vpn, databases, mqtt, sip, xmpp, amqp
	6379: true, 6667: true, 8883: true, 9092: true, 11211: true, 27017: true, // redis, irc, mqtt, kafka, memcached, mongodb
}

// connectionWords begin the names of ports that do not speak HTTP.
//
//nolint:gochecknoglobals // a constant table
var connectionWords = []string{"tcp", "udp", "tls", "ssh", "ftp", "sftp", "smtp", "imap", "pop3", "ldap", "dns", "syslog", "mqtt", "amqp", "sip", "rtmp", "rtp", "xmpp", "irc", "kafka", "postgres", "mysql", "redis", "mongo", "memcache"}

// connects says that a port takes connections that are not HTTP's, by its protocol, what
// it says of its application, its name and its number, in this order.
func connects(p *corev1.ServicePort) bool {
	if p.Protocol == corev1.ProtocolUDP || p.Protocol == corev1.ProtocolSCTP {
		return true
	}
	if p.AppProtocol != nil {
		app := strings.ToLower(*p.AppProtocol)
		return !slices.ContainsFunc([]string{"http", "grpc", "h2c", "ws"}, func(word string) bool { return strings.Contains(app, word) })
	}
	name := strings.ToLower(p.Name)
	if slices.ContainsFunc([]string{"http", "grpc", "web", "ws"}, func(word string) bool { return strings.HasPrefix(name, word) }) {
		return false
	}
	return connectionPorts[p.Port] || slices.ContainsFunc(connectionWords, func(word string) bool { return strings.HasPrefix(name, word) })
}

// takesRequests says that a Service has a port for HTTP.
func takesRequests(s *inventory.Service, w *inventory.Workload) bool {
	ports := soundPorts(s, w)
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p corev1.ServicePort) bool { return !connects(&p) })
}

// entrances finds by which Services clients connect to a unit. One that workloads inside
// use too, as a database's, is closed instead: nobody else is known to come by it.
func (m *maker) entrances(u *unit) {
	if !u.moves() {
		return
	}
	for _, s := range u.services {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer && s.Spec.Type != corev1.ServiceTypeNodePort {
			continue
		}
		var ports []corev1.ServicePort
		for _, p := range soundPorts(s, u.w) {
			if connects(&p) && p.Protocol != corev1.ProtocolSCTP {
				ports = append(ports, p)
			}
			if p.Protocol == corev1.ProtocolSCTP {
				m.decide(Decision{Object: s.Object.Ref.String(), What: fmt.Sprintf("its port %d speaks SCTP, which no load balancer of AWS carries", p.Port), Do: "let its clients speak TCP or UDP before it moves", Blocks: true})
			}
		}
		open := slices.ContainsFunc(u.open, func(e *assess.Exposure) bool { return e.Entry == s.Object.Ref && e.From == assess.FromInternet })
		inner := s.Spec.Type == corev1.ServiceTypeLoadBalancer && !open
		if len(ports) == 0 || len(s.Workloads) != 1 || !inner && (!open || m.called(u, s.Object.Ref)) {
			continue
		}
		if u.place != EKS {
			m.decide(Decision{Object: s.Object.Ref.String(), What: fmt.Sprintf("clients connect by it to %s, which is to run outside of the cluster, and there it gets a load balancer of requests alone", u.name), Do: fmt.Sprintf("name eks as the place of %s in the options", u.name), Blocks: true})
			continue
		}
		if open && len(s.Spec.LoadBalancerSourceRanges) == 0 {
			m.decide(Decision{Object: s.Object.Ref.String(), What: "everybody on the internet may connect by it", Do: "if its clients' addresses are known, name them as its loadBalancerSourceRanges, which are taken over"})
		}
		u.entries = append(u.entries, entrance{service: s, ports: ports, public: open})
		u.change("way in of connections", s.Object.Ref.String()+", a "+string(s.Spec.Type), "a Network Load Balancer", "they are not requests: it sends them to the pods' own addresses, and looks into none")
		m.decide(Decision{Object: s.Object.Ref.String(), What: fmt.Sprintf("clients connect by it to %s; connections can not be held as requests are", u.name),
			Do: fmt.Sprintf("lead the name that they use to the load balancer %s once the traffic has moved; who is connected then must connect again", m.entranceName(s))})
	}
}

// connectedTo opens a unit that takes connections alone to callers in another place of the
// plan, and says whether it is one.
func (m *maker) connectedTo(u *unit) bool {
	if u.place != EKS || len(u.services) == 0 || slices.ContainsFunc(u.services, func(s *inventory.Service) bool { return takesRequests(s, u.w) }) {
		return false
	}
	for _, s := range u.services {
		if !slices.ContainsFunc(u.entries, func(e entrance) bool { return e.service == s }) {
			u.entries = append(u.entries, entrance{service: s, ports: soundPorts(s, u.w)})
		}
		m.decide(Decision{Object: s.Object.Ref.String(), What: fmt.Sprintf("workloads outside of the cluster connect to %s", u.name),
			Do: fmt.Sprintf("give the load balancer %s the name %s in the private zone, by which they call it", m.entranceName(s), m.inside(u)), Blocks: true})
	}
	return true
}

// entranceService is the name of the new Service in the place of one of the source.
func entranceService(s *inventory.Service) string { return label(s.Name + "-" + connectionBalancer) }

// entranceName is what its load balancer is called.
func (m *maker) entranceName(s *inventory.Service) string {
	return balancerName(m.plan.Name, entranceService(s))
}

// entrance makes the Service that the AWS Load Balancer Controller makes a Network Load
// Balancer of.
func (w *writer) entrance(u *unit, e *entrance) *corev1.Service {
	class, no := elb.NLBClass, false
	s := &corev1.Service{TypeMeta: typed("v1", "Service"), ObjectMeta: meta(u.namespace, entranceService(e.service)),
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, AllocateLoadBalancerNodePorts: &no, Selector: u.selector(), LoadBalancerSourceRanges: e.service.Spec.LoadBalancerSourceRanges}}
	for _, p := range e.ports {
		port := corev1.ServicePort{Name: p.Name, Port: p.Port, TargetPort: intstr.FromInt32(podPort(u.w, p))}
		if p.Protocol != corev1.ProtocolTCP {
			port.Protocol = p.Protocol
		}
		s.Spec.Ports = append(s.Spec.Ports, port)
	}
	notes := elb.ServiceNotes(u.connections, elb.Health{}, e.public, u.connections.TargetGroup())
	notes["name"] = w.m.entranceName(e.service)
	s.Annotations = map[string]string{}
	for k, v := range notes {
		s.Annotations[elb.NLBPrefix+k] = v
	}
	return s
}

// entranceRules let connections in. A Network Load Balancer shows pods its own address, and
// the clients' own of UDP.
func (w *writer) entranceRules(u *unit) []networkingv1.NetworkPolicyIngressRule {
	home := w.m.home()
	var rules []networkingv1.NetworkPolicyIngressRule
	for i := range u.entries {
		e := &u.entries[i]
		from := map[corev1.Protocol]networkingv1.NetworkPolicyPeer{corev1.ProtocolTCP: block(home.Inner), corev1.ProtocolUDP: block(home.Inner)}
		if e.public {
			from[corev1.ProtocolTCP] = block(w.edge())
			from[corev1.ProtocolUDP] = networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0"}}
		}
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			rule := networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{from[protocol]}}
			for _, p := range e.ports {
				if transport(&p) == protocol {
					port := intstr.FromInt32(podPort(u.w, p))
					rule.Ports = append(rule.Ports, networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &port})
				}
			}
			if len(rule.Ports) > 0 {
				rules = append(rules, rule)
			}
		}
	}
	return rules
}

// transport is a port's protocol, which is TCP where nothing is said.
func transport(p *corev1.ServicePort) corev1.Protocol {
	if p.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return p.Protocol
}

// entranceBalancers are the load balancers of a unit's connections.
func (m *maker) entranceBalancers(u *unit) {
	for i := range u.entries {
		e := &u.entries[i]
		b := Balancer{Name: m.entranceName(e.service), Kind: connectionBalancer, Scope: e.scope(), MadeBy: "the Service " + u.namespace + "/" + entranceService(e.service) + " and the AWS Load Balancer Controller",
			Why: "clients speak something else than HTTP, so that only an address and a port tell whom they mean", Hosts: u.hosts, Certificate: "none: what is spoken through it is between clients and pods", Zones: len(m.home().Zones)}
		for _, p := range e.ports {
			b.Routes = append(b.Routes, LeadsTo{Path: fmt.Sprintf("port %d, %s", p.Port, transport(&p)), To: u.id()})
		}
		m.plan.Balancers = append(m.plan.Balancers, b)
	}
}
