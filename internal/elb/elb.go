// Package elb knows how AWS's load balancers are described in Kubernetes: by the Gateway
// API with the AWS Load Balancer Controller's own kinds, or by an Ingress or a Service with
// its annotations. Plans and the operator write the same objects by it. What is best for a
// workload is package balance's; here it is only put into words.
package elb

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/balance"
)

// The names of the APIs.
const (
	// GatewayAPI is the Gateway API's version in which all routes are stable.
	GatewayAPI = gatewayv1.GroupName + "/v1"
	// ControlGroup is the AWS Load Balancer Controller's, for what the Gateway API has no words for.
	ControlGroup = "gateway.k8s.aws"
	// ControlVersion is served by every release that knows Gateways; its successor v1 has the
	// same fields.
	ControlVersion = "v1beta1"
	ControlAPI     = ControlGroup + "/" + ControlVersion
	// ALBController and NLBController serve the classes of Gateways of requests and of connections.
	ALBController = ControlGroup + "/alb"
	NLBController = ControlGroup + "/nlb"
	// NLBClass is the class of Services of which the controller makes NLBs, and NLBPrefix
	// begins the annotations that say how.
	NLBClass  = "service.k8s.aws/nlb"
	NLBPrefix = "service.beta.kubernetes.io/aws-load-balancer-"
	// ReadinessLabel on a namespace holds its new pods back until a load balancer has found them healthy.
	ReadinessLabel = "elbv2.k8s.aws/pod-readiness-gate-inject"
	// TLSPolicy is ELB's newest that has TLS 1.3 and 1.2 with forward secrecy alone.
	TLSPolicy = "ELBSecurityPolicy-TLS13-1-2-2021-06"
)

// The kinds of the controller.
const (
	LoadBalancerKind = "LoadBalancerConfiguration"
	TargetGroupKind  = "TargetGroupConfiguration"
	ListenerRuleKind = "ListenerRuleConfiguration"
)

// The bounds of the APIs and of ELB.
const (
	// MostName is how long a load balancer's name may be.
	MostName = 32
	// MostHostnames are of a route.
	MostHostnames = 16
	// MostMatches are of a rule of a route.
	MostMatches = 64
	// MostRules are of a route.
	MostRules = 16
	// MostRouteMatches are of all rules of a route.
	MostRouteMatches = 128
	// MostConditionValues are what a rule of an ALB may compare with, all of its conditions together.
	MostConditionValues = 5
	// HTTPPort is where a load balancer of requests listens, to send on to HTTPSPort.
	HTTPPort = 80
	// HTTPSPort is where it serves.
	HTTPSPort    = 443
	movedForGood = 301
)

// Health is how a load balancer asks whether a target is well.
type Health struct {
	// Path is "" where only a connection is tried.
	Path string
	// Codes are the answers of a target that is well: HTTP's, or gRPC's where GRPC is set.
	Codes string
	GRPC  bool
	// Port is "" for the port that gets the requests.
	Port string
}

// GRPCHealth is how a target that speaks gRPC is asked: any code says that it is there.
//
//nolint:gochecknoglobals // a constant
var GRPCHealth = Health{Path: "/grpc.health.v1.Health/Check", Codes: "0-99", GRPC: true}

// TargetGroup is what a TargetGroupConfiguration says of targets: the settings, and how
// their health is asked. version is ALB's protocol version, "" for HTTP1.
func TargetGroup(s balance.Settings, h Health, version string) map[string]any {
	check := map[string]any{
		"healthCheckInterval": int64(s.HealthInterval.Value), "healthCheckTimeout": int64(s.HealthTimeout.Value),
		"healthyThresholdCount": int64(s.HealthyThreshold.Value), "unhealthyThresholdCount": int64(s.UnhealthyThreshold.Value),
	}
	if h.Path != "" {
		check["healthCheckPath"] = h.Path
		code := "httpCode"
		if h.GRPC {
			code = "grpcCode"
		}
		check["matcher"] = map[string]any{code: h.Codes}
	}
	if h.Port != "" {
		check["healthCheckPort"] = h.Port
	}
	if s.Behind == balance.NLB {
		check["healthCheckProtocol"] = "TCP"
		if h.Path != "" {
			check["healthCheckProtocol"] = "HTTP"
		}
	}
	props := map[string]any{"targetType": s.TargetType.Value, "healthCheckConfig": check}
	if version != "" {
		props["protocolVersion"] = version
	}
	if a := Attributes(s.TargetGroup()); len(a) > 0 {
		props["targetGroupAttributes"] = a
	}
	return props
}

// ServiceNotes are the annotations, without NLBPrefix, of a Service that gets an NLB: its
// scheme, how its targets' health is asked, and the attributes of its target group.
func ServiceNotes(s balance.Settings, h Health, public bool, attributes []balance.Attribute) map[string]string {
	notes := map[string]string{"nlb-target-type": s.TargetType.Value, "scheme": Scheme(public), "target-group-attributes": Words(attributes),
		"healthcheck-interval": strconv.Itoa(s.HealthInterval.Value), "healthcheck-timeout": strconv.Itoa(s.HealthTimeout.Value), "healthcheck-healthy-threshold": strconv.Itoa(s.HealthyThreshold.Value),
		"healthcheck-unhealthy-threshold": strconv.Itoa(s.UnhealthyThreshold.Value), "healthcheck-protocol": "TCP"}
	if h.Path != "" {
		notes["healthcheck-protocol"], notes["healthcheck-path"], notes["healthcheck-success-codes"] = "HTTP", h.Path, h.Codes
	}
	if h.Port != "" {
		notes["healthcheck-port"] = h.Port
	}
	return notes
}

// Attributes are settings as the controller's kinds have them.
func Attributes(all []balance.Attribute) []any {
	list := make([]any, 0, len(all))
	for _, a := range all {
		list = append(list, map[string]any{"key": a.Key, "value": a.Value})
	}
	return list
}

// Words are settings as the controller's annotations have them: key=value, by commas.
func Words(all []balance.Attribute) string {
	words := make([]string, 0, len(all))
	for _, a := range all {
		words = append(words, a.Key+"="+a.Value)
	}
	return strings.Join(words, ",")
}

// Scheme is the load balancer's, by whether it is public.
func Scheme(public bool) string {
	if public {
		return "internet-facing"
	}
	return "internal"
}

// Name is a load balancer's name of those parts: at most 32 letters, as AWS allows.
func Name(parts ...string) string {
	name := Label(strings.Join(parts, "-"))
	if len(name) > MostName {
		name = strings.Trim(name[:MostName], "-")
	}
	return name
}

// Label is a text as a part of a DNS name, of lower-case letters, digits and single dashes.
func Label(text string) string {
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(text) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
			dash = false
		case b.Len() > 0 && !dash:
			b.WriteByte('-')
			dash = true
		}
	}
	return strings.Trim(b.String(), "-")
}

// Listener is the listener of requests for a host: "" is any. Routes of those namespaces
// may be joined to it, which allowed says.
func Listener(name, host string, allowed *gatewayv1.AllowedRoutes) gatewayv1.Listener {
	l := gatewayv1.Listener{Name: gatewayv1.SectionName(name), Protocol: gatewayv1.HTTPSProtocolType, Port: HTTPSPort, AllowedRoutes: allowed}
	if host != "" {
		of := gatewayv1.Hostname(host)
		l.Hostname = &of
	}
	return l
}

// PlainListener is that of port 80, for the Gateway's own namespace alone: Redirect uses it.
func PlainListener() gatewayv1.Listener {
	same := gatewayv1.NamespacesFromSame
	return gatewayv1.Listener{Name: "http", Protocol: gatewayv1.HTTPProtocolType, Port: HTTPPort, AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: &same}}}
}

// Redirect is the route that sends requests of port 80 of a Gateway to 443.
func Redirect(namespace, gateway string) *gatewayv1.HTTPRoute {
	https, moved, section := "https", movedForGood, gatewayv1.SectionName("http")
	return &gatewayv1.HTTPRoute{TypeMeta: metav1.TypeMeta{APIVersion: GatewayAPI, Kind: "HTTPRoute"}, ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: gateway + "-to-https"}, Spec: gatewayv1.HTTPRouteSpec{
		CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: gatewayv1.ObjectName(gateway), SectionName: &section}}},
		Rules:           []gatewayv1.HTTPRouteRule{{Filters: []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterRequestRedirect, RequestRedirect: &gatewayv1.HTTPRequestRedirectFilter{Scheme: &https, StatusCode: &moved}}}}}}}
}

// Class is the class of Gateways that a controller serves.
func Class(name, controller string) *gatewayv1.GatewayClass {
	return &gatewayv1.GatewayClass{TypeMeta: metav1.TypeMeta{APIVersion: GatewayAPI, Kind: "GatewayClass"}, ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: gatewayv1.GatewayClassSpec{ControllerName: gatewayv1.GatewayController(controller)}}
}

// Gateway is one whose load balancer is made as the LoadBalancerConfiguration of its name says.
func Gateway(namespace, name, class string, listeners []gatewayv1.Listener) *gatewayv1.Gateway {
	return &gatewayv1.Gateway{TypeMeta: metav1.TypeMeta{APIVersion: GatewayAPI, Kind: "Gateway"}, ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: gatewayv1.GatewaySpec{GatewayClassName: gatewayv1.ObjectName(class), Listeners: listeners,
		Infrastructure: &gatewayv1.GatewayInfrastructure{ParametersRef: &gatewayv1.LocalParametersReference{Group: ControlGroup, Kind: LoadBalancerKind, Name: name}}}}
}

// Larger joins the attributes that several workloads want of the load balancer that they
// share: of numbers the largest. The result is sorted by key.
func Larger(all, more []balance.Attribute) []balance.Attribute {
	all = slices.Clone(all)
	for _, a := range more {
		i := slices.IndexFunc(all, func(x balance.Attribute) bool { return x.Key == a.Key })
		if i < 0 {
			all = append(all, a)
			continue
		}
		have, err1 := strconv.Atoi(all[i].Value)
		wanted, err2 := strconv.Atoi(a.Value)
		if err1 == nil && err2 == nil && wanted > have {
			all[i] = a
		}
	}
	slices.SortFunc(all, func(a, b balance.Attribute) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

// HostLabel is a host as the name of a listener or as a part of a route's name.
func HostLabel(host string) string {
	const most = 40
	name := Label(strings.Replace(host, "*", "any", 1))
	if len(name) > most {
		name = strings.Trim(name[:most], "-")
	}
	return name
}

// ProtocolPort is a listener as a LoadBalancerConfiguration names it.
func ProtocolPort(protocol string, port int32) string { return fmt.Sprintf("%s:%d", protocol, port) }
