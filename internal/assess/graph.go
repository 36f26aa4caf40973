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
	"k8s.io/apimachinery/pkg/util/intstr"

	"dhow/internal/inventory"
)

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

// through follows a way in by a proxy that goes on at a Service's port, to the pods behind it.
func (g *graph) through(s *inventory.Service, p *corev1.ServicePort, e Exposure) {
	e.Path = append(slices.Clip(e.Path), Hop{Kind: "Service", Object: &s.Object.Ref, Text: fmt.Sprintf("port %d", p.Port)})
	for _, w := range s.Workloads {
		if !w.Serves {
			continue
		}
		e.PodPort = podPort(p, w)
		e.PortName = cmp.Or(portName(w, e.PodPort), p.Name)
		g.open(w, e, proxy)
	}
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
