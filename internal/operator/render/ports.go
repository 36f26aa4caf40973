package render

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"dhow/api/v1alpha1"
)

// port is a port of the Service, and the pods' own behind it.
type port struct {
	name     string
	number   int32
	target   intstr.IntOrString
	protocol v1alpha1.Protocol
}

// requests says that it speaks in requests, which an ALB understands.
func (p port) requests() bool {
	switch p.protocol {
	case v1alpha1.TCP, v1alpha1.UDP, v1alpha1.TLSPass:
		return false
	default:
		return true
	}
}

func (p port) transport() corev1.Protocol {
	if p.protocol == v1alpha1.UDP {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}

// knownConnections are the ports of what speaks no HTTP, where neither its name nor its
// protocol says so.
//
//nolint:gochecknoglobals // a constant list
var knownConnections = []int32{22, 25, 389, 636, 1433, 1521, 3306, 4222, 5432, 5671, 5672, 6379, 9042, 9092, 11211, 27017}

// resolvePorts finds the ports: those of the Exposure, of the Service that it takes, or of
// the workload's containers.
func (m *maker) resolvePorts() error {
	switch {
	case len(m.spec.Ports) > 0:
		for _, p := range m.spec.Ports {
			target := m.named(p.Port)
			if p.TargetPort != nil {
				target = *p.TargetPort
			} else if i := slices.IndexFunc(m.Ports, func(x corev1.ServicePort) bool { return x.Port == p.Port }); i >= 0 && m.Ports[i].TargetPort != (intstr.IntOrString{}) {
				target = m.Ports[i].TargetPort
			}
			m.ports = append(m.ports, port{p.Name, p.Port, target, cmp.Or(p.Protocol, v1alpha1.HTTP)})
		}
	case len(m.Ports) > 0:
		for _, p := range m.Ports {
			target := p.TargetPort
			if target == (intstr.IntOrString{}) {
				target = intstr.FromInt32(p.Port)
			}
			app := ""
			if p.AppProtocol != nil {
				app = *p.AppProtocol
			}
			m.ports = append(m.ports, port{cmp.Or(p.Name, "http"), p.Port, target, Spoken(p.Name, app, p.Protocol, cmp.Or(target.IntVal, p.Port))})
		}
	default:
		m.ports = declared(m.Workload)
	}
	if len(m.ports) == 0 {
		return &WrongError{NoPorts, "its workload declares no port that could be exposed: name the ports, or declare containerPorts"}
	}
	return nil
}

// declared are the ports that containers declare, without those that are for metrics.
func declared(w Workload) []port {
	var all []port
	for _, c := range w.Containers {
		for _, p := range c.Ports {
			if strings.Contains(p.Name, "metrics") || strings.Contains(p.Name, "prom") || p.Protocol == corev1.ProtocolSCTP {
				continue
			}
			one := port{name: p.Name, number: p.ContainerPort, target: intstr.FromInt32(p.ContainerPort), protocol: Spoken(p.Name, "", p.Protocol, p.ContainerPort)}
			if p.Name == "" {
				one.name = strings.ToLower(string(one.protocol))
			} else {
				one.target = intstr.FromString(p.Name)
			}
			if slices.ContainsFunc(all, func(x port) bool {
				return x.name == one.name || x.number == one.number && x.transport() == one.transport()
			}) {
				continue
			}
			all = append(all, one)
		}
	}
	return all
}

// Spoken guesses what a port speaks by its name, its declared protocols and its number.
func Spoken(name, app string, transport corev1.Protocol, number int32) v1alpha1.Protocol {
	is := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool {
			return name == w || strings.HasPrefix(name, w+"-") || app == w || strings.HasSuffix(app, "/"+w)
		})
	}
	switch {
	case transport == corev1.ProtocolUDP:
		return v1alpha1.UDP
	case is("grpc"):
		return v1alpha1.GRPC
	case is("ws", "wss", "websocket"):
		return v1alpha1.WebSocket
	case is("h2c", "http2"):
		return v1alpha1.HTTP2
	case is("tls"):
		return v1alpha1.TLSPass
	case is("http", "https", "web"):
		return v1alpha1.HTTP
	case is("tcp", "pg", "postgres", "postgresql", "mysql", "mariadb", "redis", "amqp", "kafka", "mongo", "nats", "ldap", "smtp", "ssh"):
		return v1alpha1.TCP
	case slices.Contains(knownConnections, number):
		return v1alpha1.TCP
	}
	return v1alpha1.HTTP
}

// named is a port by the name that containers give it, or by its number.
func (m *maker) named(number int32) intstr.IntOrString {
	for _, c := range m.Workload.Containers {
		for _, p := range c.Ports {
			if p.ContainerPort == number && p.Name != "" && p.Protocol != corev1.ProtocolUDP {
				return intstr.FromString(p.Name)
			}
		}
	}
	return intstr.FromInt32(number)
}

// of are the ports of requests, or of connections.
func (m *maker) of(requests bool) []port {
	var some []port
	for _, p := range m.ports {
		if p.requests() == requests {
			some = append(some, p)
		}
	}
	return some
}

// makeService is the Service, for the inside of the cluster alone: load balancers send to
// the pods themselves.
func (m *maker) makeService() *corev1.Service {
	s := &corev1.Service{TypeMeta: typed("v1", "Service"), ObjectMeta: m.meta(m.service), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: m.Workload.Selector}}
	if m.spec.Service != nil && m.spec.Service.Headless {
		s.Spec.ClusterIP = corev1.ClusterIPNone
	}
	for _, p := range m.ports {
		one := corev1.ServicePort{Name: p.name, Port: p.number, TargetPort: p.target, Protocol: p.transport()}
		if app := map[v1alpha1.Protocol]string{v1alpha1.HTTP: "http", v1alpha1.HTTP2: "kubernetes.io/h2c", v1alpha1.GRPC: "grpc", v1alpha1.WebSocket: "kubernetes.io/ws", v1alpha1.TLSPass: "tls"}[p.protocol]; app != "" {
			one.AppProtocol = &app
		}
		s.Spec.Ports = append(s.Spec.Ports, one)
	}
	return s
}
