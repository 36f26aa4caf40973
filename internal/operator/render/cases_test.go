package render

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
)

// example is one Exposure and what is around it.
type example struct {
	spec string
	// change makes something else of the usual workload, cluster and policy.
	change func(*Input)
}

const (
	testCertificate = "arn:aws:acm:me-central-1:123456789012:certificate/0b1c"
	testACL         = "arn:aws:wafv2:me-central-1:123456789012:regional/webacl/bank/0b1c"
)

// examples have at least one for each field of an Exposure, each with a golden file.
//
//nolint:gochecknoglobals // a table of tests
var examples = map[string]example{
	"deduced":          {spec: `{}`},
	"public":           {spec: `{visibility: public, hosts: [shop.example.com, www.example.com]}`},
	"none":             {spec: `{visibility: none}`},
	"mesh":             {spec: `{visibility: mesh, routing: {retries: {attempts: 2}, timeouts: {request: 2500ms}, canaries: [{service: cart-next, weight: 10}], headers: [{name: X-Try, value: next, service: cart-next}]}}`},
	"mesh-quiet":       {spec: `{visibility: mesh}`},
	"selector":         {spec: `{workload: {selector: {matchLabels: {app: cart}}}, ports: [{name: http, port: 80, targetPort: 8080}], scaling: {max: 4, cpu: {percent: 60}}}`, change: func(in *Input) { in.Workload = Workload{Selector: map[string]string{"app": "cart"}} }},
	"statefulset":      {spec: `{workload: {kind: StatefulSet, name: cart}, service: {headless: true}}`, change: func(in *Input) { in.Workload.Kind = "StatefulSet" }},
	"rollout":          {spec: `{workload: {kind: Rollout, name: cart}, scaling: {min: 2, max: 4, cpu: {average: 700m}}}`, change: func(in *Input) { in.Workload.Kind, in.Workload.APIVersion = "Rollout", "argoproj.io/v1alpha1" }},
	"ports":            {spec: `{ports: [{name: http, port: 80, targetPort: web}, {name: admin, port: 81, targetPort: 8081}, {name: grpc, port: 9000, protocol: GRPC}], paths: [{path: /}, {path: /admin, port: admin}, {path: /bank.Cart/Add, port: grpc, type: Exact}]}`},
	"http2":            {spec: `{ports: [{name: h2, port: 8080, protocol: HTTP2}]}`},
	"grpc":             {spec: `{ports: [{name: grpc, port: 9000, protocol: GRPC}], routing: {headers: [{name: x-try, value: next, service: cart-next, port: 9001}]}, access: {sourceRanges: [10.0.0.0/8]}}`, change: func(in *Input) { in.Workload.Containers[0].Readiness = nil }},
	"websocket":        {spec: `{ports: [{name: ws, port: 8080, protocol: WebSocket}]}`},
	"connections":      {spec: `{visibility: public, hosts: [pg.example.com], ports: [{name: pg, port: 5432, protocol: TCP}, {name: tls, port: 8443, protocol: TLS}, {name: talk, port: 5000, protocol: UDP}], access: {sourceRanges: [203.0.113.0/24]}, dns: {ttl: 60s}, limits: {capacityUnits: 200}}`},
	"datagrams":        {spec: `{ports: [{name: talk, port: 5000, protocol: UDP}]}`},
	"both":             {spec: `{ports: [{name: http, port: 80, targetPort: 8080}, {name: pg, port: 5432, protocol: TCP}]}`},
	"paths":            {spec: `{paths: [{path: /cart}, {path: /basket, type: Exact}]}`},
	"tls":              {spec: `{tls: {certificates: ["` + testCertificate + `"], policy: ELBSecurityPolicy-TLS13-1-3-2021-06}}`},
	"round-robin":      {spec: `{routing: {algorithm: RoundRobin, slowStart: 60s}}`},
	"slow-start":       {spec: `{routing: {slowStart: 30s}}`},
	"warm-up":          {spec: `{routing: {timeouts: {warmUp: 40s}}}`},
	"weighted-random":  {spec: `{routing: {algorithm: WeightedRandom, anomalyMitigation: true}}`},
	"sticky":           {spec: `{routing: {stickiness: 30m}}`},
	"timeouts":         {spec: `{routing: {timeouts: {request: 90s, idle: 120s, keepAlive: 75s}}}`, change: func(in *Input) { in.Workload.Guarded = true }},
	"canaries":         {spec: `{routing: {canaries: [{service: cart-next, port: 81, weight: 10}, {service: cart-old, weight: 5}]}}`},
	"headers":          {spec: `{routing: {headers: [{name: X-Try, value: next, service: cart-next}]}, paths: [{path: /cart}]}`},
	"health":           {spec: `{health: {path: /well, port: 9090, codes: 200-204, interval: 15s, timeout: 4s, healthy: 3, unhealthy: 4}}`},
	"health-interval":  {spec: `{health: {interval: 5s, timeout: 4s}}`},
	"scaling":          {spec: `{scaling: {min: 3, max: 12, cpu: {percent: 65}, requests: {metric: requests_per_second, average: "50"}, queue: {metric: depth, average: "30", selector: {matchLabels: {queue: cart}}}, calm: 10m}}`},
	"scaled-by-others": {spec: `{scaling: {min: 3, max: 12, cpu: {percent: 65}}}`, change: func(in *Input) { in.Scaled, in.Budgeted = "theirs", "theirs" }},
	"availability":     {spec: `{availability: {maxUnavailable: 25%, zones: Required, crossZone: false}}`},
	"sources":          {spec: `{visibility: public, hosts: [shop.example.com], paths: [{path: /cart}], access: {sourceRanges: [203.0.113.0/24, 198.51.100.0/24, "2001:db8::/32"]}}`},
	"web-acl":          {spec: `{visibility: public, hosts: [shop.example.com], access: {webACL: "` + testACL + `"}}`},
	"oidc":             {spec: `{access: {authentication: {oidc: {issuer: "https://id.example.com", authorizationEndpoint: "https://id.example.com/a", tokenEndpoint: "https://id.example.com/t", userInfoEndpoint: "https://id.example.com/u", secret: oidc, scope: openid}}}}`},
	"cognito":          {spec: `{access: {authentication: {cognito: {userPoolARN: "arn:aws:cognito-idp:me-central-1:123456789012:userpool/x", userPoolClientID: client, userPoolDomain: bank}}}}`},
	"jwt":              {spec: `{access: {sourceRanges: [10.0.0.0/8], authentication: {jwt: {issuer: "https://id.example.com", jwksEndpoint: "https://id.example.com/keys"}}}}`},
	"peers":            {spec: `{access: {from: [{labels: {app: web}}, {namespace: ops}, {namespace: edge, labels: {app: gate}}], to: [{cidr: 10.20.0.0/16, ports: [5432, 6379]}, {labels: {app: user}}, {namespace: ops}]}}`},
	"limits":           {spec: `{limits: {capacityUnits: 500, clientKeepAlive: 1h}}`},
	"service":          {spec: `{service: {name: basket}}`},
	"existing-service": {spec: `{service: {existing: cart-old}}`, change: func(in *Input) {
		in.Ports = []corev1.ServicePort{{Name: "grpc", Port: 90, TargetPort: intstr.FromString("grpc")}}
	}},
	"younger-twin": {spec: `{service: {existing: cart}, scaling: {max: 4, cpu: {percent: 65}}}`, change: func(in *Input) {
		in.Ports = []corev1.ServicePort{{Name: "http", Port: 8080, TargetPort: intstr.FromString("http")}}
		in.Scaled, in.Budgeted, in.Targeted = "cart of Exposure cart-public", "cart of Exposure cart-public", "cart-public"
	}},
	"no-dns":        {spec: `{dns: {disabled: true}}`},
	"no-dns-at-all": {spec: `{dns: {ttl: 30s}}`, change: func(in *Input) { in.Policy.NoDNS = true }},
	"policy": {spec: `{visibility: public, hosts: [shop.example.com]}`, change: func(in *Input) {
		in.Policy = Policy{Name: "a-bank-with-a-very-long-name-indeed", AccessLogs: "logs", WebACL: testACL, PublicSubnets: map[string][]string{"tier": {"edge"}}}
	}},
	"same-namespace":        {spec: `{}`, change: func(in *Input) { in.Policy.Namespace = "superapp" }},
	"long-grace":            {spec: `{}`, change: func(in *Input) { g := int64(120); in.Workload.Grace = &g }},
	"zones":                 {spec: `{scaling: {min: 9}, ports: [{name: pg, port: 5432, protocol: TCP}]}`, change: func(in *Input) { in.Workload.Replicas = 9 }},
	"ingress":               {spec: `{visibility: public, hosts: [shop.example.com], paths: [{path: /cart}], tls: {certificates: ["` + testCertificate + `"], policy: ELBSecurityPolicy-TLS13-1-3-2021-06}, routing: {canaries: [{service: cart-next, weight: 10}], headers: [{name: X-Try, value: next, service: cart-next}]}, access: {sourceRanges: [203.0.113.0/24, 198.51.100.0/24], webACL: "` + testACL + `"}, limits: {capacityUnits: 300}, dns: {ttl: 60s}}`, change: withoutGateways},
	"ingress-oidc":          {spec: `{access: {authentication: {oidc: {issuer: "https://id.example.com", authorizationEndpoint: "https://id.example.com/a", tokenEndpoint: "https://id.example.com/t", userInfoEndpoint: "https://id.example.com/u", secret: oidc, scope: openid}}}}`, change: withoutGateways},
	"ingress-cognito":       {spec: `{access: {authentication: {cognito: {userPoolARN: "arn:aws:cognito-idp:me-central-1:123456789012:userpool/x", userPoolClientID: client, userPoolDomain: bank}}}}`, change: withoutGateways},
	"ingress-jwt":           {spec: `{health: {port: 9090}, access: {authentication: {jwt: {issuer: "https://id.example.com", jwksEndpoint: "https://id.example.com/keys"}}}}`, change: withoutGateways},
	"ingress-connections":   {spec: `{visibility: public, ports: [{name: pg, port: 5432, protocol: TCP}], access: {sourceRanges: [203.0.113.0/24]}}`, change: withoutGateways},
	"controller-of-version": {spec: `{}`, change: func(in *Input) { in.Cluster.ControlVersion = "v1" }},
}

func withoutGateways(in *Input) { in.Cluster = Cluster{Zones: 3} }

// input is an example's, with the usual around it.
func (x example) input(tb interface{ Fatal(args ...any) }) Input {
	e := &v1alpha1.Exposure{}
	e.Namespace, e.Name = "superapp", "cart"
	e.Spec.Visibility = v1alpha1.Private
	if err := yaml.UnmarshalStrict([]byte(x.spec), &e.Spec); err != nil {
		tb.Fatal(err)
	}
	if e.Spec.Workload.Selector == nil && e.Spec.Workload.Name == "" {
		e.Spec.Workload = v1alpha1.Workload{Kind: "Deployment", Name: "cart"}
	}
	if s := e.Spec.Scaling; s != nil && s.Min == 0 {
		s.Min = 2 // as the API server does
	}
	for i := range e.Spec.Paths {
		if e.Spec.Paths[i].Type == "" {
			e.Spec.Paths[i].Type = "Prefix"
		}
	}
	in := Input{Exposure: e, Cluster: Cluster{Gateway: true, GRPC: true, TCP: true, UDP: true, ControlVersion: "v1beta1", Zones: 3},
		Policy: Policy{Name: "bank", Domain: "bank.example", Edge: []string{"10.0.0.0/22"}, Inner: []string{"10.0.0.0/16"}},
		Workload: Workload{APIVersion: "apps/v1", Kind: "Deployment", Name: "cart", Selector: map[string]string{"app": "cart"}, Replicas: 2, Containers: []Container{{Name: "cart", CPU: true,
			Ports:     []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "metrics", ContainerPort: 9090}},
			Readiness: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("http")}}}}}}}
	if x.change != nil {
		x.change(&in)
	}
	return in
}

func names() []string { return slices.Sorted(maps.Keys(examples)) }
