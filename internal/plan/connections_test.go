package plan

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestConnects(t *testing.T) {
	app := func(s string) *string { return &s }
	for _, c := range []struct {
		port corev1.ServicePort
		want bool
	}{
		{corev1.ServicePort{Port: 80}, false},
		{corev1.ServicePort{Port: 8080, Name: "main"}, false},
		{corev1.ServicePort{Port: 1883}, true},
		{corev1.ServicePort{Port: 1883, Name: "http-api"}, false},
		{corev1.ServicePort{Port: 9000, Name: "tcp-feed"}, true},
		{corev1.ServicePort{Port: 9000, Protocol: corev1.ProtocolUDP, Name: "http"}, true},
		{corev1.ServicePort{Port: 5432, AppProtocol: app("kubernetes.io/h2c")}, false},
		{corev1.ServicePort{Port: 80, AppProtocol: app("tls")}, true},
		{corev1.ServicePort{Port: 8443, AppProtocol: app("https")}, false},
		{corev1.ServicePort{Port: 50051, Name: "grpc"}, false},
	} {
		if got := connects(&c.port); got != c.want {
			t.Errorf("%+v: %t, want %t", c.port, got, c.want)
		}
	}
}

const connectionSource = `apiVersion: apps/v1
kind: Deployment
metadata: {name: broker, namespace: shop}
spec:
  selector: {matchLabels: {app: broker}}
  template:
    metadata: {labels: {app: broker}}
    spec:
      containers:
      - name: broker
        image: broker:1
        ports: [{name: mqtt, containerPort: 1883}, {name: coap, containerPort: 5683, protocol: UDP}, {name: admin, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: broker, namespace: shop%s}
spec:
  type: %s
  selector: {app: broker}
  ports: [%s]
`

const connectionCaller = `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "web:1", ports: [{containerPort: 80}], env: [{name: BROKER, value: "tcp://broker.shop:1883"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80}]
`

// TestConnections: what is not HTTP gets a load balancer of connections, and never a
// route of requests.
func TestConnections(t *testing.T) {
	const mqtt, coap, admin = "{name: mqtt, port: 1883}", "{name: coap, port: 5683, protocol: UDP}", "{name: http-admin, port: 80, targetPort: 8080}"
	const inner = `, annotations: {service.beta.kubernetes.io/aws-load-balancer-internal: "true"}`
	for name, c := range map[string]struct {
		annotations, kind string
		ports             []string
		caller            bool
		scope             Scope
		// wanted and unwanted stand in the workload's manifests, or do not.
		wanted, unwanted []string
		decision         string
		// place is where the caller runs.
		place Place
		// behind is what its pods stand behind.
		behind string
	}{
		"public": {kind: "LoadBalancer", ports: []string{mqtt, coap}, scope: Public, behind: "nlb", decision: "connections can not be held",
			wanted: []string{"name: broker-nlb", "loadBalancerClass: service.k8s.aws/nlb", "aws-load-balancer-scheme: internet-facing", "aws-load-balancer-nlb-target-type: ip", "allocateLoadBalancerNodePorts: false",
				"cidr: 0.0.0.0/0\n    ports:\n    - port: 5683\n      protocol: UDP", "port: 1883\n      protocol: TCP"}, unwanted: []string{"HTTPRoute", "nodePort:"}},
		"internal": {annotations: inner, kind: "LoadBalancer", ports: []string{mqtt}, scope: Private, behind: "nlb", decision: "connections can not be held",
			wanted: []string{"aws-load-balancer-scheme: internal"}, unwanted: []string{"HTTPRoute", "0.0.0.0/0"}},
		"both kinds of ports": {kind: "LoadBalancer", ports: []string{mqtt, admin}, scope: Public, behind: "alb", decision: "connections can not be held",
			wanted: []string{"HTTPRoute", "name: broker-nlb"}},
		"used from inside too": {kind: "LoadBalancer", ports: []string{mqtt}, caller: true, scope: None, behind: "service", decision: "it is open today, but nothing leads users to it",
			unwanted: []string{"HTTPRoute", "broker-nlb"}},
		"called from another place": {kind: "ClusterIP", ports: []string{mqtt}, caller: true, place: ECS, scope: Private, behind: "nlb", decision: "workloads outside of the cluster connect to broker",
			wanted: []string{"name: broker-nlb", "aws-load-balancer-scheme: internal"}, unwanted: []string{"HTTPRoute", "0.0.0.0/0"}},
		"for the inside alone": {kind: "ClusterIP", ports: []string{mqtt, coap}, caller: true, scope: None, behind: "service",
			wanted: []string{"protocol: UDP"}, unwanted: []string{"HTTPRoute", "broker-nlb"}},
		"SCTP": {kind: "LoadBalancer", ports: []string{"{name: sig, port: 2905, targetPort: 1883, protocol: SCTP}"}, scope: None, behind: "service", decision: "speaks SCTP", unwanted: []string{"HTTPRoute", "broker-nlb"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprintf(connectionSource, c.annotations, c.kind, strings.Join(c.ports, ", "))
			if c.caller {
				text += connectionCaller
			}
			o := standard(t)
			o.Placement = map[string]Place{other: EKS}
			if c.place != "" {
				o.Placement["web"] = c.place
			}
			p := planned(t, o, sourceOf(t, map[string]string{"source.yaml": text}))
			w := workloadOf(t, p, "broker")
			if w.Exposure == nil || w.Exposure.Scope != c.scope {
				t.Errorf("exposed as %+v, want %s", w.Exposure, c.scope)
			}
			if w.Balancing == nil || w.Balancing.Behind != c.behind {
				t.Errorf("its pods stand behind %+v, want %s", w.Balancing, c.behind)
			}
			files := written(t, p)
			if c.scope != Public { // what is meant to be open to everybody is found to be
				sound(t, files)
			}
			manifest := files["manifests/shop/broker.yaml"]
			for _, text := range c.wanted {
				if !strings.Contains(manifest, text) {
					t.Errorf("%q is not in its manifests:\n%s", text, manifest)
				}
			}
			for _, text := range c.unwanted {
				if strings.Contains(manifest, text) {
					t.Errorf("%q is in its manifests:\n%s", text, manifest)
				}
			}
			found := c.decision == ""
			for _, d := range p.Decide {
				found = found || strings.Contains(d.What, c.decision)
			}
			if !found {
				t.Errorf("nothing is to be decided about %q: %v", c.decision, p.Decide)
			}
			if quota := fmt.Sprintf("services.loadbalancers: %q", strconv.Itoa(strings.Count(manifest, "loadBalancerClass"))); !strings.Contains(files["manifests/00-namespaces.yaml"], quota) {
				t.Errorf("its namespace has no %s:\n%s", quota, files["manifests/00-namespaces.yaml"])
			}
			balancers := 0
			for _, b := range p.Balancers {
				if b.Kind == connectionBalancer {
					balancers++
					if b.Scope != c.scope || len(b.Routes) == 0 || !strings.HasPrefix(b.Routes[0].Path, "port 1883, TCP") {
						t.Errorf("the plan's load balancer is %+v", b)
					}
				}
			}
			if want := strings.Count(manifest, "loadBalancerClass"); balancers != want {
				t.Errorf("the plan has %d load balancers of connections, its manifests %d", balancers, want)
			}
		})
	}
}
