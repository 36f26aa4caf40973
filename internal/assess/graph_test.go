package assess

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// graphPods are pods with a Service, which the cases lead to.
const graphPods = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: 'x:1', ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
`

// service is another Service of the pods, with more of a specification and annotations.
func graphService(spec, annotations string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: lb, namespace: shop, annotations: {" + annotations + "}}\nspec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]" + spec + "}\n"
}

func graphPolicy(ingress string) string {
	return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: np, namespace: shop}\nspec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: " + ingress + "}\n"
}

const (
	graphIngress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: in, namespace: shop}\nspec:\n  tls: [{hosts: ['*.shop.example'], secretName: t}]\n" +
		"  rules: [{host: www.shop.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}}]\n"
	graphRoute   = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: [{name: gw, namespace: edge, sectionName: tls}], hostnames: [www.shop.example], rules: [{backendRefs: [{name: web, port: 80}]}]}\n"
	graphGateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gw, namespace: edge}\nspec:\n  gatewayClassName: alb\n  infrastructure: {parametersRef: {group: gateway.k8s.aws, kind: LoadBalancerConfiguration, name: lbc}}\n" +
		"  listeners: [{name: plain, port: 80, protocol: HTTP}, {name: tls, port: 443, protocol: HTTPS}]\n"
	graphClass = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: alb}\nspec: {controllerName: gateway.k8s.aws/alb}\n"
	graphNode  = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: ExternalIP, address: 198.51.100.7}]}\n"
)

func graphScheme(scheme string) string {
	return "apiVersion: gateway.k8s.aws/v1beta1\nkind: LoadBalancerConfiguration\nmetadata: {name: lbc, namespace: edge}\nspec: {scheme: " + scheme + "}\n"
}

// TestPaths: who can come in by which path, and who can not.
func TestPaths(t *testing.T) {
	const balanced = "internet -> Service/shop/lb load balancer, port 80 -> Deployment/shop/web port 8080"
	for name, c := range map[string]struct {
		objects []string
		want    []string
		over    Over
	}{
		"nothing is open": {nil, nil, ""},
		"load balancer":   {[]string{graphService(", type: LoadBalancer", "")}, []string{balanced}, OverClear},
		"load balancer with a certificate": {[]string{graphService(", type: LoadBalancer", "service.beta.kubernetes.io/aws-load-balancer-ssl-cert: 'arn:x'")},
			[]string{balanced}, OverTLS},
		"internal by GKE":                 {[]string{graphService(", type: LoadBalancer", "networking.gke.io/load-balancer-type: Internal")}, nil, ""},
		"internal by Azure":               {[]string{graphService(", type: LoadBalancer", "service.beta.kubernetes.io/azure-load-balancer-internal: 'true'")}, nil, ""},
		"internal by the controller":      {[]string{graphService(", type: LoadBalancer, loadBalancerClass: service.k8s.aws/nlb", "")}, nil, ""},
		"public by the controller":        {[]string{graphService(", type: LoadBalancer, loadBalancerClass: service.k8s.aws/nlb", "service.beta.kubernetes.io/aws-load-balancer-scheme: internet-facing")}, []string{balanced}, OverClear},
		"private ranges":                  {[]string{graphService(", type: LoadBalancer, loadBalancerSourceRanges: [10.0.0.0/8]", "")}, nil, ""},
		"public ranges":                   {[]string{graphService(", type: LoadBalancer, loadBalancerSourceRanges: [0.0.0.0/0]", "")}, []string{balanced}, OverClear},
		"policy without rules":            {[]string{graphService(", type: LoadBalancer", ""), graphPolicy("[]")}, nil, ""},
		"policy for pods":                 {[]string{graphService(", type: LoadBalancer", ""), graphPolicy("[{from: [{podSelector: {}}]}]")}, nil, ""},
		"policy for a private range":      {[]string{graphService(", type: LoadBalancer", ""), graphPolicy("[{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]")}, nil, ""},
		"policy for another port":         {[]string{graphService(", type: LoadBalancer", ""), graphPolicy("[{ports: [{port: 9090}]}]")}, nil, ""},
		"policy for the port by its name": {[]string{graphService(", type: LoadBalancer", ""), graphPolicy("[{ports: [{port: http}]}]")}, []string{"internet -> Service/shop/lb load balancer, port 80 -> NetworkPolicy/shop/np lets it in -> Deployment/shop/web port 8080"}, OverClear},
		"policy for a range of ports":     {[]string{graphService(", type: LoadBalancer", ""), graphPolicy("[{from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 8000, endPort: 8100}]}]")}, []string{"internet -> Service/shop/lb load balancer, port 80 -> NetworkPolicy/shop/np lets it in -> Deployment/shop/web port 8080"}, OverClear},
		"node port":                       {[]string{graphService(", type: NodePort", "")}, []string{"network of the nodes -> Node every node's address, a port that is chosen -> Service/shop/lb port 80 -> Deployment/shop/web port 8080"}, OverClear},
		"node port of public nodes":       {[]string{graphService(", type: NodePort", ""), graphNode}, []string{"internet -> Node every node's address, a port that is chosen -> Service/shop/lb port 80 -> Deployment/shop/web port 8080"}, OverClear},
		"external address":                {[]string{graphService(", externalIPs: [203.0.113.4]", "")}, []string{"internet -> Service/shop/lb external address 203.0.113.4, port 80 -> Deployment/shop/web port 8080"}, OverClear},
		"ingress":                         {[]string{graphIngress}, []string{"internet -> Ingress/shop/in host www.shop.example, path / -> Service/shop/web port 80 -> Deployment/shop/web port 8080"}, OverTLS},
		"ingress past a policy for its controller": {[]string{graphIngress, graphPolicy("[{from: [{namespaceSelector: {}}]}]")},
			[]string{"internet -> Ingress/shop/in host www.shop.example, path / -> Service/shop/web port 80 -> NetworkPolicy/shop/np lets it in -> Deployment/shop/web port 8080"}, OverTLS},
		"ingress before a closed policy": {[]string{graphIngress, graphPolicy("[{from: [{podSelector: {matchLabels: {app: other}}}]}]")}, nil, ""},
		"gateway": {[]string{graphClass, graphGateway, graphRoute, graphScheme("internet-facing")},
			[]string{"internet -> Gateway/edge/gw listener tls, port 443 -> HTTPRoute/shop/r hosts www.shop.example -> Service/shop/web port 80 -> Deployment/shop/web port 8080"}, OverTLS},
		"internal gateway":         {[]string{graphClass, graphGateway, graphRoute, graphScheme("internal")}, nil, ""},
		"gateway that is not told": {[]string{graphClass, graphGateway, graphRoute}, nil, ""},
		"gateway of another controller": {[]string{graphGateway, graphRoute},
			[]string{"internet -> Gateway/edge/gw listener tls, port 443 -> HTTPRoute/shop/r hosts www.shop.example -> Service/shop/web port 80 -> Deployment/shop/web port 8080"}, OverTLS},
	} {
		t.Run(name, func(t *testing.T) {
			text := graphPods
			for _, o := range c.objects {
				text += "---\n" + o
			}
			path := filepath.Join(t.TempDir(), "all.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range assessFiles(t, Options{}, path).Exposures {
				got = append(got, e.Steps())
				if e.Over != c.over {
					t.Errorf("it goes over %s, not %s", e.Over, c.over)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestOutside(t *testing.T) {
	for host, want := range map[string]bool{
		"redis": false, "redis.cache": false, "redis.cache.svc": false, "redis.cache.svc.cluster.local": false, "a.redis.cache.svc.": false, "127.0.0.1": false, "::1": false, "": false,
		"10.1.2.3": true, "db.example.com": true, "shop.abc123.eu-central-1.rds.amazonaws.com": true, "2001:db8::7": true,
	} {
		if got := outside(host); got != want {
			t.Errorf("%q is outside: %v, not %v", host, got, want)
		}
	}
}

// TestProxyBeside: the configuration of a proxy that lies beside the manifests is found
// too, at the line of its first address.
func TestProxyBeside(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"web.yaml": graphPods, "nginx.conf": "events {}\nhttp {\n  upstream web {\n    server 10.20.30.11:30080;\n  }\n  server {\n    listen 80;\n    location / { proxy_pass http://web; }\n  }\n}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found := findingsOf(t, filesOf(t, dir), "hand-kept-proxy")
	if len(found) != 1 || found[0].File != filepath.Join(dir, "nginx.conf") || found[0].Line != 4 || found[0].Fingerprint == "" {
		t.Errorf("it is found as %+v", found)
	}
}
