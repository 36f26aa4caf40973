package render

import (
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"dhow/api/v1alpha1"
)

// everywhere are all addresses, of both families.
//
//nolint:gochecknoglobals // a constant list
var everywhere = []string{"0.0.0.0/0", "::/0"}

const dnsPort = 53

// guard makes the NetworkPolicy, and the PodDisruptionBudget.
func (m *maker) guard() {
	policy := &networkingv1.NetworkPolicy{TypeMeta: typed("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: m.meta(m.Exposure.Name),
		Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: m.Workload.Selector}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}}}
	if m.led() {
		for _, requests := range []bool{true, false} {
			if from, ports := m.balancers(requests), m.policyPorts(m.of(requests)); len(ports) > 0 {
				policy.Spec.Ingress = append(policy.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: from, Ports: ports})
			}
		}
	}
	if from := m.callers(); len(from) > 0 {
		policy.Spec.Ingress = append(policy.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: from, Ports: m.policyPorts(m.ports)})
	}
	if a := m.spec.Access; a != nil && len(a.To) > 0 {
		policy.Spec.PolicyTypes = append(policy.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		policy.Spec.Egress = egress(a.To)
	}
	m.add(policy)
	if m.Budgeted != "" {
		m.note("PodDisruptionBudget %s covers its pods already, and two of them would let no node be drained: none is made", m.Budgeted)
		return
	}
	one, always := intstr.FromInt32(1), policyv1.AlwaysAllow
	budget := policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &one, UnhealthyPodEvictionPolicy: &always, Selector: &metav1.LabelSelector{MatchLabels: m.Workload.Selector}}
	if a := m.spec.Availability; a != nil && a.MaxUnavailable != nil {
		budget.MaxUnavailable = a.MaxUnavailable
	}
	m.add(&policyv1.PodDisruptionBudget{TypeMeta: typed("policy/v1", "PodDisruptionBudget"), ObjectMeta: m.meta(m.Exposure.Name), Spec: budget})
}

// balancers are where load balancers send from. An NLB shows pods its clients' own
// addresses where sources are restricted; its health checks come from its own.
func (m *maker) balancers(requests bool) []networkingv1.NetworkPolicyPeer {
	at := m.Policy.Inner
	if m.public() {
		at = m.Policy.Edge
	}
	restricted := m.spec.Access != nil && len(m.spec.Access.SourceRanges) > 0
	if len(at) == 0 && (requests || !restricted) {
		m.note("the operator is not told in which networks the load balancers stand, so the policy lets everybody come to the ports that are exposed: set edge and inner of its policy")
		at = everywhere
	}
	from := blocks(at)
	if requests {
		return from
	}
	switch {
	case restricted:
		for _, r := range m.spec.Access.SourceRanges {
			from = append(from, blocks([]string{string(r)})...)
		}
	case slices.ContainsFunc(m.of(false), func(p port) bool { return p.protocol == v1alpha1.UDP }):
		from = blocks(everywhere) // an NLB always keeps the clients' addresses of UDP
	}
	return from
}

func blocks(networks []string) []networkingv1.NetworkPolicyPeer {
	all := make([]networkingv1.NetworkPolicyPeer, 0, len(networks))
	for _, n := range networks {
		all = append(all, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: n}})
	}
	return all
}

// callers are the workloads that may call: where none is named, those of the namespace.
func (m *maker) callers() []networkingv1.NetworkPolicyPeer {
	if m.spec.Access == nil || len(m.spec.Access.From) == 0 {
		return []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}
	}
	var all []networkingv1.NetworkPolicyPeer
	for _, p := range m.spec.Access.From {
		all = append(all, peer(p.Namespace, p.Labels))
	}
	return all
}

func peer(namespace string, labels map[string]string) networkingv1.NetworkPolicyPeer {
	p := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: labels}}
	if namespace != "" {
		p.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{namespaceLabel: namespace}}
	}
	return p
}

// policyPorts are ports as a policy has them, each once.
func (m *maker) policyPorts(ports []port) []networkingv1.NetworkPolicyPort {
	var all []networkingv1.NetworkPolicyPort
	for _, p := range ports {
		target, transport := p.target, p.transport()
		if slices.ContainsFunc(all, func(x networkingv1.NetworkPolicyPort) bool { return *x.Port == target && *x.Protocol == transport }) {
			continue
		}
		all = append(all, networkingv1.NetworkPolicyPort{Protocol: &transport, Port: &target})
	}
	if h := m.spec.Health; h != nil && h.Port != nil && m.led() {
		port, tcp := *h.Port, corev1.ProtocolTCP
		if !slices.ContainsFunc(all, func(x networkingv1.NetworkPolicyPort) bool { return *x.Port == port && *x.Protocol == tcp }) && len(all) > 0 {
			all = append(all, networkingv1.NetworkPolicyPort{Protocol: &tcp, Port: &port})
		}
	}
	return all
}

// egress are whom the workload may call, and the DNS.
func egress(to []v1alpha1.Destination) []networkingv1.NetworkPolicyEgressRule {
	udp, tcp, dns := corev1.ProtocolUDP, corev1.ProtocolTCP, intstr.FromInt32(dnsPort)
	rules := []networkingv1.NetworkPolicyEgressRule{{
		To: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{namespaceLabel: "kube-system"}},
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}}}},
		Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: &dns}, {Protocol: &tcp, Port: &dns}},
	}}
	for _, d := range to {
		rule := networkingv1.NetworkPolicyEgressRule{}
		if d.CIDR != "" {
			rule.To = blocks([]string{string(d.CIDR)})
		} else {
			rule.To = []networkingv1.NetworkPolicyPeer{peer(d.Namespace, d.Labels)}
		}
		for _, n := range d.Ports {
			number := intstr.FromInt32(n)
			rule.Ports = append(rule.Ports, networkingv1.NetworkPolicyPort{Protocol: &tcp, Port: &number})
		}
		rules = append(rules, rule)
	}
	return rules
}

// scale makes the HorizontalPodAutoscaler.
func (m *maker) scale() {
	s := m.spec.Scaling
	if s == nil || s.Max == 0 {
		return
	}
	switch {
	case m.Scaled != "":
		m.note("HorizontalPodAutoscaler %s scales the workload already, and two of them would fight: none is made", m.Scaled)
		return
	case m.Workload.Name == "":
		m.note("pods that are found by their labels alone can not be scaled: name the workload")
		return
	}
	h := autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: &s.Min, MaxReplicas: s.Max,
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: m.Workload.APIVersion, Kind: m.Workload.Kind, Name: m.Workload.Name}}
	if c := s.CPU; c != nil {
		target := autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: c.Average}
		if c.Percent != nil {
			target = autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: c.Percent}
			if slices.ContainsFunc(m.Workload.Containers, func(c Container) bool { return !c.CPU }) {
				m.note("a container asks for no CPU, so that there is no percentage of it: give it a request of CPU, or scale by an average")
			}
		}
		h.Metrics = append(h.Metrics, autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: target}})
	}
	if r := s.Requests; r != nil {
		average := r.Average
		h.Metrics = append(h.Metrics, autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: r.Metric, Selector: r.Selector},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &average}}})
	}
	if q := s.Queue; q != nil {
		average := q.Average
		h.Metrics = append(h.Metrics, autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: q.Metric, Selector: q.Selector},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &average}}})
	}
	if s.Calm != nil {
		seconds := int32(s.Calm.Seconds())
		h.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &seconds}}
	}
	m.add(&autoscalingv2.HorizontalPodAutoscaler{TypeMeta: typed("autoscaling/v2", "HorizontalPodAutoscaler"), ObjectMeta: m.meta(m.Exposure.Name), Spec: h})
}
