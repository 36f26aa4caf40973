package plan

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
	"dhow/internal/balance"
	"dhow/internal/elb"
	"dhow/internal/operator/render"
	"dhow/internal/sizing"
)

// policyFile is what the operator is told for the plan's cluster, in the plan's folder.
const policyFile = "operator-policy.yaml"

// mostExposedHosts is the operator's own bound of an Exposure.
const mostExposedHosts = elb.MostHostnames

// exposed says that a unit is called by somebody, and so has an Exposure.
func (w *writer) exposed(u *unit) bool { return !u.runsJobs() && len(u.newServices()) > 0 }

// exposures writes the Exposures of which the operator makes a unit's Service, routes,
// budget, scaling, and who may call it; and what is not the operator's: whom it may call,
// and the other Services that lead to it.
func (w *writer) exposures(file string, u *unit) {
	services := u.newServices()
	visibility := v1alpha1.None
	var leads []lead
	for _, public := range []bool{true, false} {
		for _, l := range w.m.leads(u, public, mostExposedHosts) {
			if visibility == v1alpha1.None {
				visibility = visible(public)
			}
			leads = append(leads, l)
		}
	}
	first := w.exposure(u, u.name, visibility)
	if s := (v1alpha1.Service{Headless: services[0].Spec.ClusterIP == corev1.ClusterIPNone}); s.Headless || services[0].Name != u.name {
		s.Name = services[0].Name
		first.Spec.Service = &s
	}
	first.Spec.Ports = exposedPorts(services[0])
	if u.scaling.CPUMilli > 0 && u.kind == "Deployment" {
		average := quantity(sizing.Milli(u.scaling.CPUMilli))
		first.Spec.Scaling = &v1alpha1.Scaling{Min: u.scaling.Least, Max: u.scaling.Most, CPU: &v1alpha1.CPUTarget{Average: &average}}
	}
	if len(leads) > 0 {
		first.lead(leads[0])
	}
	w.add(file, first.Exposure)
	for _, l := range leads[min(1, len(leads)):] {
		more := w.exposure(u, l.name, visible(l.paths[0].public))
		more.Spec.Service = &v1alpha1.Service{Existing: services[0].Name}
		more.lead(l)
		w.add(file, more.Exposure)
	}
	for _, s := range services[1:] {
		w.add(file, s)
	}
	spec := networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: u.selector()}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}, Egress: w.egress(u)}
	if rules := w.entranceRules(u); len(rules) > 0 {
		spec.PolicyTypes, spec.Ingress = append(spec.PolicyTypes, networkingv1.PolicyTypeIngress), rules
	}
	w.add(file, &networkingv1.NetworkPolicy{TypeMeta: typed("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: meta(u.namespace, u.name+"-calls"), Spec: spec})
}

func visible(public bool) v1alpha1.Visibility {
	if public {
		return v1alpha1.Public
	}
	return v1alpha1.Private
}

// exposing is an Exposure that is being written.
type exposing struct{ *v1alpha1.Exposure }

// exposure is one of a unit, with who may call.
func (w *writer) exposure(u *unit, name string, v v1alpha1.Visibility) exposing {
	e := &v1alpha1.Exposure{TypeMeta: typed(v1alpha1.Group+"/v1alpha1", "Exposure"), ObjectMeta: meta(u.namespace, name)}
	e.Spec.Workload, e.Spec.Visibility = v1alpha1.Workload{Kind: u.kind, Name: u.name}, v
	if v != v1alpha1.None && protocolOf(u) != balance.GRPC {
		path, codes := u.healthPath()
		e.Spec.Health = &v1alpha1.Health{Path: path, Codes: codes}
	}
	if !u.stranger { // an Exposure that names nobody lets its namespace in
		access := &v1alpha1.Access{}
		for _, c := range u.callers {
			if c.place != EKS {
				continue
			}
			p := v1alpha1.Peer{Labels: c.selector()}
			if c.namespace != u.namespace {
				p.Namespace = c.namespace
			}
			access.From = append(access.From, p)
		}
		if len(access.From) == 0 {
			access.From = []v1alpha1.Peer{{Labels: u.selector()}} // nobody but itself
		}
		e.Spec.Access = access
	}
	return exposing{e}
}

// lead adds the hosts and paths that lead to it. All paths are none.
func (e *exposing) lead(l lead) {
	for _, h := range l.hosts {
		e.Spec.Hosts = append(e.Spec.Hosts, v1alpha1.Host(h))
	}
	for _, r := range l.paths {
		kind := "Prefix"
		if r.exact {
			kind = "Exact"
		}
		e.Spec.Paths = append(e.Spec.Paths, v1alpha1.Path{Path: r.path, Type: kind})
	}
	if len(e.Spec.Paths) == 1 && e.Spec.Paths[0] == (v1alpha1.Path{Path: "/", Type: "Prefix"}) {
		e.Spec.Paths = nil
	}
}

// exposedPorts are a Service's ports as an Exposure has them.
func exposedPorts(s *corev1.Service) []v1alpha1.Port {
	var ports []v1alpha1.Port
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		target := p.TargetPort
		one := v1alpha1.Port{Name: cmp.Or(p.Name, fmt.Sprintf("port-%d", p.Port)), Port: p.Port, TargetPort: &target, Protocol: v1alpha1.HTTP}
		switch {
		case transport(p) == corev1.ProtocolUDP:
			one.Protocol = v1alpha1.UDP
		case connects(p):
			one.Protocol = v1alpha1.TCP
		case spoken(p) == balance.GRPC:
			one.Protocol = v1alpha1.GRPC
		case spoken(p) == balance.WebSocket:
			one.Protocol = v1alpha1.WebSocket
		}
		ports = append(ports, one)
	}
	return ports
}

// operatorPolicy writes what the operator is told of the plan's networks and names.
func (w *writer) operatorPolicy() {
	if w.err != nil {
		return
	}
	p := render.Policy{Name: w.m.plan.Name, Domain: w.m.below, Edge: []string{w.edge().String()}, Inner: []string{w.m.home().Inner.String()}}
	text, err := yaml.Marshal(p)
	if err != nil {
		w.err = fmt.Errorf("write the operator's policy: %w", err)
		return
	}
	w.m.plan.OperatorPolicy = &File{policyFile, slices.Concat([]byte("# What `dhow operator --policy` is told for this plan's cluster.\n"), text)}
}
