package render

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"dhow/api/v1alpha1"
	"dhow/internal/balance"
	"dhow/internal/elb"
)

const (
	albPrefix = "alb.ingress.kubernetes.io/"
	// useAnnotation is the port's name by which a rule leads to an action of an annotation.
	useAnnotation = "use-annotation"
	ingressClass  = "alb"
)

// ingress makes the form of the routes that clusters without the Gateway API know: one
// Ingress, which shares its load balancer with all others of its group.
func (m *maker) ingress(l7 []port) {
	if len(l7) == 0 {
		return
	}
	class, prefix := ingressClass, networkingv1.PathTypePrefix
	o := &networkingv1.Ingress{TypeMeta: typed("networking.k8s.io/v1", "Ingress"), ObjectMeta: m.meta(m.Exposure.Name), Spec: networkingv1.IngressSpec{IngressClassName: &class}}
	notes := m.ingressNotes(l7[0])
	var paths []networkingv1.HTTPIngressPath
	for i, p := range l7 {
		for _, x := range m.pathsOf(p, i == 0) {
			kind := prefix
			if x.exact {
				kind = networkingv1.PathTypeExact
			}
			for _, to := range m.ingressBackends(notes, p, x) {
				paths = append(paths, networkingv1.HTTPIngressPath{Path: x.path, PathType: &kind, Backend: networkingv1.IngressBackend{Service: to}})
			}
		}
	}
	for _, h := range m.hosts {
		o.Spec.Rules = append(o.Spec.Rules, networkingv1.IngressRule{Host: h, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: paths}}})
	}
	if len(l7) > 1 && slices.ContainsFunc(l7[1:], func(p port) bool { return version(p) != version(l7[0]) }) {
		m.note("an Ingress has one protocol to all of its targets, that of port %s: make another Exposure for the others, or install the Gateway API", l7[0].name)
	}
	o.Annotations = notes
	m.add(o)
}

// ingressNotes are the Ingress' annotations.
func (m *maker) ingressNotes(first port) map[string]string {
	s, h, a := &m.requests, m.health(true), m.spec.Access
	scope := Scope{Public: m.public()}.Name()
	notes := map[string]string{
		"group.name": elb.Label(m.Policy.Name + "-" + scope), "scheme": elb.Scheme(m.public()), "target-type": s.TargetType.Value,
		"listen-ports": `[{"HTTP":80},{"HTTPS":443}]`, "ssl-redirect": strconv.Itoa(elb.HTTPSPort), "ssl-policy": m.Policy.TLSPolicy,
		"healthcheck-path": h.Path, "healthcheck-interval-seconds": strconv.Itoa(s.HealthInterval.Value), "healthcheck-timeout-seconds": strconv.Itoa(s.HealthTimeout.Value),
		"healthy-threshold-count": strconv.Itoa(s.HealthyThreshold.Value), "unhealthy-threshold-count": strconv.Itoa(s.UnhealthyThreshold.Value), "success-codes": h.Codes,
		"target-group-attributes": elb.Words(s.TargetGroup()),
	}
	attributes := append([]balance.Attribute{{Key: "routing.http.drop_invalid_header_fields.enabled", Value: "true"}}, s.LoadBalancer()...)
	if m.Policy.AccessLogs != "" {
		attributes = append(attributes, balance.Attribute{Key: "access_logs.s3.enabled", Value: "true"}, balance.Attribute{Key: "access_logs.s3.bucket", Value: m.Policy.AccessLogs})
	}
	notes["load-balancer-attributes"] = elb.Words(attributes)
	if v := version(first); v != "" {
		notes["backend-protocol-version"] = v
	}
	if h.Port != "" {
		notes["healthcheck-port"] = h.Port
	}
	if t := m.spec.TLS; t != nil {
		if t.Policy != "" {
			notes["ssl-policy"] = t.Policy
		}
		var all []string
		for _, c := range t.Certificates {
			all = append(all, string(c))
		}
		slices.Sort(all)
		if len(all) > 0 {
			notes["certificate-arn"] = strings.Join(all, ",")
		}
	}
	acl := ""
	if m.public() {
		acl = m.Policy.WebACL
	}
	if a != nil && a.WebACL != "" {
		acl = a.WebACL
	}
	if acl != "" {
		notes["wafv2-acl-arn"] = acl
	}
	if l := m.spec.Limits; l != nil && l.CapacityUnits > 0 {
		notes["minimum-load-balancer-capacity"] = fmt.Sprintf("CapacityUnits=%d", l.CapacityUnits)
	}
	if a != nil && a.Authentication != nil {
		m.ingressSignIn(notes, a.Authentication)
	}
	full := m.annotations(false)
	if full == nil {
		full = map[string]string{}
	}
	for k, v := range notes {
		full[albPrefix+k] = v
	}
	return full
}

func (m *maker) ingressSignIn(notes map[string]string, a *v1alpha1.Authentication) {
	scope := ""
	switch {
	case a.OIDC != nil:
		notes["auth-type"], scope = "oidc", a.OIDC.Scope
		notes["auth-idp-oidc"] = m.json(map[string]any{"issuer": a.OIDC.Issuer, "authorizationEndpoint": a.OIDC.AuthorizationEndpoint, "tokenEndpoint": a.OIDC.TokenEndpoint, "userInfoEndpoint": a.OIDC.UserInfoEndpoint, "secretName": a.OIDC.Secret})
	case a.Cognito != nil:
		notes["auth-type"], scope = "cognito", a.Cognito.Scope
		notes["auth-idp-cognito"] = m.json(map[string]any{"userPoolARN": a.Cognito.UserPoolARN, "userPoolClientID": a.Cognito.UserPoolClientID, "userPoolDomain": a.Cognito.UserPoolDomain})
	default:
		notes["jwt-validation"] = m.json(map[string]any{"issuer": a.JWT.Issuer, "jwksEndpoint": a.JWT.JWKSEndpoint})
	}
	if scope != "" {
		notes["auth-scope"] = scope
	}
}

// json is a value in an annotation.
func (m *maker) json(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		m.err = fmt.Errorf("write an annotation: %w", err)
	}
	return string(text)
}

// ingressBackends are what a path leads to: header rules first, one for each few source
// ranges, where a rule can not compare with more.
func (m *maker) ingressBackends(notes map[string]string, p port, x match) []*networkingv1.IngressServiceBackend {
	var ranges [][]string
	if a := m.spec.Access; a != nil && len(a.SourceRanges) > 0 {
		for some := range slices.Chunk(a.SourceRanges, max(1, elb.MostConditionValues-m.values([]match{x}))) {
			var words []string
			for _, r := range some {
				words = append(words, string(r))
			}
			ranges = append(ranges, words)
		}
	}
	r := m.spec.Routing
	if len(ranges) == 0 && (r == nil || len(r.Canaries) == 0 && len(r.Headers) == 0) {
		return []*networkingv1.IngressServiceBackend{{Name: m.service, Port: networkingv1.ServiceBackendPort{Number: p.number}}}
	}
	if len(ranges) == 0 {
		ranges = [][]string{nil}
	}
	var all []*networkingv1.IngressServiceBackend
	action := func(name string, groups []any, header *v1alpha1.HeaderRule) {
		for i, some := range ranges {
			name := numbered(name, i)
			notes[albPrefix+"actions."+name] = m.json(map[string]any{"type": "forward", "forwardConfig": map[string]any{"targetGroups": groups}})
			var conditions []any
			if header != nil {
				conditions = append(conditions, map[string]any{"field": "http-header", "httpHeaderConfig": map[string]any{"httpHeaderName": header.Name, "values": []string{header.Value}}})
			}
			if some != nil {
				conditions = append(conditions, map[string]any{"field": "source-ip", "sourceIpConfig": map[string]any{"values": some}})
			}
			if len(conditions) > 0 {
				notes[albPrefix+"conditions."+name] = m.json(conditions)
			}
			all = append(all, &networkingv1.IngressServiceBackend{Name: name, Port: networkingv1.ServiceBackendPort{Name: useAnnotation}})
		}
	}
	group := func(service string, number, weight int32) map[string]any {
		return map[string]any{"serviceName": service, "servicePort": number, "weight": weight}
	}
	if r != nil {
		for i := range r.Headers {
			number := p.number
			if r.Headers[i].Port > 0 {
				number = r.Headers[i].Port
			}
			action(fmt.Sprintf("%s-%s-header-%d", m.service, p.name, i+1), []any{group(r.Headers[i].Service, number, allWeight)}, &r.Headers[i])
		}
	}
	var groups []any
	for _, b := range m.backends(p) {
		weight := int32(allWeight)
		if b.Weight != nil {
			weight = *b.Weight
		}
		groups = append(groups, group(string(b.Name), *b.Port, weight))
	}
	action(m.service+"-"+p.name, groups, nil)
	return all
}

// balancerService makes a Service with an NLB of its own, where connections can not come
// in by a Gateway.
func (m *maker) balancerService(l4 []port) {
	if len(l4) == 0 {
		return
	}
	s, h, class := &m.connections, m.health(false), elb.NLBClass
	o := &corev1.Service{TypeMeta: typed("v1", "Service"), ObjectMeta: m.meta(m.service + "-balancer"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, Selector: m.Workload.Selector}}
	no := false
	o.Spec.AllocateLoadBalancerNodePorts = &no
	for _, p := range l4 {
		o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{Name: p.name, Port: p.number, TargetPort: p.target, Protocol: p.transport()})
	}
	attributes := s.TargetGroup()
	if a := m.spec.Access; a != nil && len(a.SourceRanges) > 0 {
		attributes = append(attributes, balance.Attribute{Key: "preserve_client_ip.enabled", Value: "true"})
		for _, r := range a.SourceRanges {
			o.Spec.LoadBalancerSourceRanges = append(o.Spec.LoadBalancerSourceRanges, string(r))
		}
	}
	notes := elb.ServiceNotes(*s, h, m.public(), attributes)
	if m.Policy.AccessLogs != "" {
		notes["attributes"] = "access_logs.s3.bucket=" + m.Policy.AccessLogs + ",access_logs.s3.enabled=true"
	}
	full := m.annotations(len(m.of(true)) == 0)
	if full == nil {
		full = map[string]string{}
	}
	for k, v := range notes {
		full[elb.NLBPrefix+k] = v
	}
	o.Annotations = full
	m.add(o)
}
