package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"dhow/internal/balance"
	"dhow/internal/elb"
	"dhow/internal/inventory"
	"dhow/internal/sizing"
)

const (
	// manifestFolder holds the manifests in the plan's folder. Files are applied by their
	// names' order: what others need to be there comes first.
	manifestFolder = "manifests/"
	nameLabel      = "app.kubernetes.io/name"
	partLabel      = "app.kubernetes.io/part-of"
	namespaceLabel = "kubernetes.io/metadata.name"
	securityLabel  = "pod-security.kubernetes.io/"
	restricted     = "restricted"
	dnsPort        = 53
	// quotaRoom is what a quota leaves beside what all pods ask for at their most, in percent.
	quotaRoom = 150
	// revisions are how many old versions of a workload are kept to go back to.
	revisions = 5
)

// writer writes the manifests, file by file.
type writer struct {
	m     *maker
	files map[string]*bytes.Buffer
	// scopes are the Gateways, by whether they are public.
	scopes map[bool]*scopeGateway
	err    error
}

// writeManifests writes what the cluster of the primary region is given.
func (m *maker) writeManifests() error {
	w := &writer{m: m, files: map[string]*bytes.Buffer{}, scopes: map[bool]*scopeGateway{true: m.gatewayFor(true), false: m.gatewayFor(false)}}
	spaces := map[string][]*unit{}
	for _, u := range m.units {
		if u.place == EKS {
			spaces[u.namespace] = append(spaces[u.namespace], u)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(spaces)) {
		w.namespace(name, spaces[name])
		for _, u := range spaces[name] {
			w.unit(u)
		}
	}
	if m.o.Exposures {
		w.operatorPolicy()
	} else {
		w.gateways()
	}
	if w.err != nil {
		return w.err
	}
	for _, path := range slices.Sorted(maps.Keys(w.files)) {
		m.plan.Manifests = append(m.plan.Manifests, File{manifestFolder + path, w.files[path].Bytes()})
	}
	return nil
}

// add appends an object to a file. What only a server fills in is left out.
func (w *writer) add(file string, object any) {
	if w.err != nil {
		return
	}
	text, err := json.Marshal(object)
	var tree map[string]any
	if err == nil {
		err = json.Unmarshal(text, &tree)
	}
	if err == nil {
		delete(tree, "status")
		clean(tree)
		text, err = yaml.Marshal(tree)
	}
	if err != nil {
		w.err = fmt.Errorf("write an object of %s: %w", file, err)
		return
	}
	b := w.files[file]
	if b == nil {
		b = &bytes.Buffer{}
		w.files[file] = b
	} else {
		b.WriteString("---\n")
	}
	b.Write(text)
}

// clean takes out what types write that have nothing in it.
func clean(part any) {
	switch x := part.(type) {
	case map[string]any:
		for k, v := range x {
			clean(v)
			// Empty selectors and empty folders mean something.
			y, ok := v.(map[string]any)
			if v == nil || ok && len(y) == 0 && (k == "resources" || k == "strategy" || k == "updateStrategy" || k == "spec") {
				delete(x, k)
			}
		}
	case []any:
		for _, v := range x {
			clean(v)
		}
	}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func typed(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

const firstFile = "00-namespaces.yaml"

// namespace writes a namespace, its bounds, and that nothing is allowed which no other
// policy allows.
func (w *writer) namespace(name string, units []*unit) {
	o := meta("", name)
	o.Labels = map[string]string{securityLabel + "enforce": restricted, securityLabel + "audit": restricted, securityLabel + "warn": restricted}
	if slices.ContainsFunc(units, func(u *unit) bool { return u.scope != None }) {
		o.Labels[elb.ReadinessLabel] = "enabled"
	}
	w.add(firstFile, &corev1.Namespace{TypeMeta: typed("v1", "Namespace"), ObjectMeta: o})
	var cpu sizing.Milli
	var memory sizing.Bytes
	pods, balancers := int64(0), int64(0)
	for _, u := range units {
		balancers += int64(len(u.entries))
		n := int64(max(1, u.scaling.Most))
		pods += n
		for _, b := range u.containers {
			cpu += b.size.CPU * sizing.Milli(n)
			memory += b.size.Memory * sizing.Bytes(n)
		}
	}
	room := func(v int64, unit int64) int64 { return (v*quotaRoom/100 + unit - 1) / unit * unit }
	const core, mib = 1000, int64(sizing.MiB)
	w.add(firstFile, &corev1.ResourceQuota{TypeMeta: typed("v1", "ResourceQuota"), ObjectMeta: meta(name, name), Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
		"pods": *resource.NewQuantity(room(pods, 1), resource.DecimalSI), "services.loadbalancers": *resource.NewQuantity(balancers, resource.DecimalSI),
		"requests.cpu": *resource.NewMilliQuantity(room(int64(cpu), core), resource.DecimalSI), "requests.memory": *resource.NewQuantity(room(int64(memory), 256*mib), resource.BinarySI),
		"limits.memory": *resource.NewQuantity(room(int64(memory), 256*mib), resource.BinarySI)}}})
	standard := corev1.ResourceList{"cpu": quantity(sizing.AssumedCPU), "memory": size(sizing.AssumedMemory)}
	w.add(firstFile, &corev1.LimitRange{TypeMeta: typed("v1", "LimitRange"), ObjectMeta: meta(name, name), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer,
		DefaultRequest: standard, Default: corev1.ResourceList{"memory": size(sizing.AssumedMemory)}}}}})
	both := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	w.add(firstFile, &networkingv1.NetworkPolicy{TypeMeta: typed("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: meta(name, "default-deny"), Spec: networkingv1.NetworkPolicySpec{PolicyTypes: both}})
	udp, tcp, dns := corev1.ProtocolUDP, corev1.ProtocolTCP, intstr.FromInt32(dnsPort)
	w.add(firstFile, &networkingv1.NetworkPolicy{TypeMeta: typed("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: meta(name, "names"), Spec: networkingv1.NetworkPolicySpec{PolicyTypes: both[1:],
		Egress: []networkingv1.NetworkPolicyEgressRule{{
			To: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{namespaceLabel: "kube-system"}},
				PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}}}},
			Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: &dns}, {Protocol: &tcp, Port: &dns}},
		}}}})
}

func quantity(m sizing.Milli) resource.Quantity {
	return *resource.NewMilliQuantity(int64(m), resource.DecimalSI)
}
func size(b sizing.Bytes) resource.Quantity {
	return *resource.NewQuantity(int64(b), resource.BinarySI)
}

func (u *unit) selector() map[string]string { return map[string]string{nameLabel: u.name} }

func (u *unit) labels(plan string) map[string]string {
	return map[string]string{nameLabel: u.name, partLabel: plan}
}

// unit writes all of a workload.
func (w *writer) unit(u *unit) {
	file := u.namespace + "/" + u.name + ".yaml"
	no := false
	w.add(file, &corev1.ServiceAccount{TypeMeta: typed("v1", "ServiceAccount"), ObjectMeta: meta(u.namespace, u.name), AutomountServiceAccountToken: &no})
	w.configs(file, u)
	w.workload(file, u)
	for i := range u.entries {
		w.add(file, w.entrance(u, &u.entries[i]))
	}
	if w.m.o.Exposures && w.exposed(u) {
		w.exposures(file, u)
		return
	}
	for _, s := range u.newServices() {
		w.add(file, s)
	}
	if !u.runsJobs() {
		if u.w.Serves {
			one, policy := intstr.FromInt32(1), policyv1.AlwaysAllow
			w.add(file, &policyv1.PodDisruptionBudget{TypeMeta: typed("policy/v1", "PodDisruptionBudget"), ObjectMeta: meta(u.namespace, u.name),
				Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &one, UnhealthyPodEvictionPolicy: &policy, Selector: &metav1.LabelSelector{MatchLabels: u.selector()}}})
		}
		if u.scaling.CPUMilli > 0 && u.kind == "Deployment" {
			average := quantity(sizing.Milli(u.scaling.CPUMilli))
			w.add(file, &autoscalingv2.HorizontalPodAutoscaler{TypeMeta: typed("autoscaling/v2", "HorizontalPodAutoscaler"), ObjectMeta: meta(u.namespace, u.name), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: u.kind, Name: u.name}, MinReplicas: &u.scaling.Least, MaxReplicas: u.scaling.Most,
				Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU,
					Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &average}}}}}})
		}
	}
	w.policy(file, u)
	w.routes(file, u)
}

// newServices are the Services of a unit, all for the inside of the cluster alone.
func (u *unit) newServices() []*corev1.Service {
	var all []*corev1.Service
	service := func(name string, headless bool, ports []corev1.ServicePort) {
		s := &corev1.Service{TypeMeta: typed("v1", "Service"), ObjectMeta: meta(u.namespace, name), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: u.selector(), Ports: ports}}
		if headless {
			s.Spec.ClusterIP = corev1.ClusterIPNone
		}
		all = append(all, s)
	}
	for _, s := range u.services {
		var ports []corev1.ServicePort
		for _, p := range soundPorts(s, u.w) {
			number := podPort(u.w, p)
			port := corev1.ServicePort{Name: p.Name, Port: p.Port, TargetPort: intstr.FromInt32(number), AppProtocol: p.AppProtocol}
			if p.Protocol != corev1.ProtocolTCP {
				port.Protocol = p.Protocol
			}
			for _, b := range u.containers {
				for _, known := range b.ports {
					if known.Port == number && port.Protocol == "" {
						port.TargetPort = intstr.FromString(known.Name)
					}
				}
			}
			ports = append(ports, port)
		}
		service(s.Name, s.Spec.ClusterIP == corev1.ClusterIPNone || u.pins(s), ports)
	}
	if b := u.mainBox(); len(all) == 0 && b != nil && len(b.ports) > 0 && (len(u.callers) > 0 || u.scope != None || u.kind == "StatefulSet") {
		var ports []corev1.ServicePort
		for _, p := range b.ports {
			ports = append(ports, corev1.ServicePort{Name: p.Name, Port: p.Port, TargetPort: intstr.FromString(p.Name)})
		}
		service(u.name, u.kind == "StatefulSet", ports)
	}
	return all
}

// pins says that clients of a Service would keep to one pod: gRPC's connections last for
// hours, and a Service spreads connections. Without an address of its own clients see
// all pods, if they call the port that the pods listen on.
func (u *unit) pins(s *inventory.Service) bool {
	ports := soundPorts(s, u.w)
	return len(ports) > 0 && !slices.ContainsFunc(ports, func(p corev1.ServicePort) bool { return spoken(&p) != balance.GRPC || p.Port != podPort(u.w, p) })
}

// policy writes who may call a unit, and whom it may call.
func (w *writer) policy(file string, u *unit) {
	m, home := w.m, w.m.home()
	spec := networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: u.selector()}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}}
	var from []networkingv1.NetworkPolicyPeer
	if len(m.routesOf(u, true)) > 0 {
		from = append(from, block(w.edge()))
	}
	if len(m.routesOf(u, false)) > 0 {
		from = append(from, block(home.Inner))
	}
	for _, c := range u.callers {
		if c.place == EKS {
			from = append(from, peer(u, c))
		}
	}
	if u.stranger {
		from = append(from, networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}})
	}
	if ports := policyPorts(u); len(from) > 0 && len(ports) > 0 {
		spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: from, Ports: ports}}
	}
	spec.Ingress = append(spec.Ingress, w.entranceRules(u)...)
	spec.Egress = w.egress(u)
	w.add(file, &networkingv1.NetworkPolicy{TypeMeta: typed("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: meta(u.namespace, u.name), Spec: spec})
}

// edge is where public load balancers are.
func (w *writer) edge() netip.Prefix {
	if e := w.m.o.Network.Edge; e.IsValid() {
		return e
	}
	return w.m.home().Edge
}

// policyPorts are the ports of a unit by which it is called.
func policyPorts(u *unit) []networkingv1.NetworkPolicyPort {
	var ports []networkingv1.NetworkPolicyPort
	for _, s := range u.newServices() {
		for _, p := range s.Spec.Ports {
			port, protocol := p.TargetPort, transport(&p)
			one := networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &port}
			if !slices.ContainsFunc(ports, func(x networkingv1.NetworkPolicyPort) bool { return *x.Port == port && *x.Protocol == protocol }) {
				ports = append(ports, one)
			}
		}
	}
	return ports
}

func block(p netip.Prefix) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: p.String()}}
}

// peer is another unit's pods, as a policy of u names them.
func peer(u, c *unit) networkingv1.NetworkPolicyPeer {
	p := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: c.selector()}}
	if c.namespace != u.namespace {
		p.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{namespaceLabel: c.namespace}}
	}
	return p
}

// metadata is where machines of a cloud are told who they are: no pod has business there.
//
//nolint:gochecknoglobals // a constant prefix
var metadata = netip.MustParsePrefix("169.254.0.0/16")

// egress are the services, databases and hosts that a unit may call.
func (w *writer) egress(u *unit) []networkingv1.NetworkPolicyEgressRule {
	m, home := w.m, w.m.home()
	tcp := corev1.ProtocolTCP
	at := func(n int32) []networkingv1.NetworkPolicyPort {
		port := intstr.FromInt32(n)
		return []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &port}}
	}
	var rules []networkingv1.NetworkPolicyEgressRule
	// Callees with the same ports share a rule.
	byPorts := map[string]*networkingv1.NetworkPolicyEgressRule{}
	var order []string
	inner := false
	for _, c := range u.calls {
		switch {
		case c.place == EKS:
			ports := policyPorts(c)
			var key strings.Builder
			for _, p := range ports {
				key.WriteString(p.Port.String() + "/" + string(*p.Protocol) + " ")
			}
			if byPorts[key.String()] == nil {
				byPorts[key.String()] = &networkingv1.NetworkPolicyEgressRule{Ports: ports}
				order = append(order, key.String())
			}
			byPorts[key.String()].To = append(byPorts[key.String()].To, peer(u, c))
		case c.moves():
			inner = true
		}
	}
	for _, key := range order {
		if len(byPorts[key].Ports) > 0 {
			rules = append(rules, *byPorts[key])
		}
	}
	rules = append(rules, w.toStrangers(u)...)
	if inner {
		rules = append(rules, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{block(home.Inner)}, Ports: at(httpsPort)})
	}
	stores := home.Stores
	if m.o.Network.Stores.IsValid() {
		stores = m.o.Network.Stores
	}
	seen := map[int]bool{}
	for _, s := range u.stores {
		if port := m.targetPort(s); !seen[port] {
			seen[port] = true
			rules = append(rules, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{block(stores)}, Ports: at(int32(port))})
		}
	}
	return append(rules, outside(u, at)...)
}

// toStrangers is what lets a unit call those of its namespace of which nothing tells who calls them.
func (w *writer) toStrangers(u *unit) []networkingv1.NetworkPolicyEgressRule {
	var rules []networkingv1.NetworkPolicyEgressRule
	for _, c := range w.m.units {
		if c.stranger && c != u && c.namespace == u.namespace && !slices.Contains(u.calls, c) {
			if ports := policyPorts(c); len(ports) > 0 {
				rules = append(rules, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{peer(u, c)}, Ports: ports})
			}
		}
	}
	return rules
}

// outside are the rules for hosts that are not in the plan: policies know addresses, not names.
func outside(u *unit, at func(int32) []networkingv1.NetworkPolicyPort) []networkingv1.NetworkPolicyEgressRule {
	var rules []networkingv1.NetworkPolicyEgressRule
	world := map[int]bool{}
	for _, o := range u.outside {
		port := o.port
		if port == 0 {
			port = httpsPort
		}
		if a := address(o.host); a.IsValid() {
			rules = append(rules, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{block(netip.PrefixFrom(a, a.BitLen()))}, Ports: at(int32(port))})
			continue
		}
		if world[port] || !strings.Contains(o.host, ".") {
			continue
		}
		world[port] = true
		but := []string{metadata.String()}
		for _, p := range private {
			but = append(but, p.String())
		}
		slices.Sort(but)
		rules = append(rules, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: but}}}, Ports: at(int32(port))})
	}
	return rules
}

// object makes a runtime object plain, for kinds whose types are not at hand.
func object(version, kind, namespace, name string, spec map[string]any) map[string]any {
	md := map[string]any{"name": name}
	if namespace != "" {
		md["namespace"] = namespace
	}
	return map[string]any{"apiVersion": version, "kind": kind, "metadata": md, "spec": spec}
}
