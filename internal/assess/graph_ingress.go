package assess

import (
	"cmp"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"dhow/internal/inventory"
)

// internalIngress says whether an Ingress is for the private network only.
func internalIngress(in *networkingv1.Ingress) bool {
	class := annotation(in, "kubernetes.io/ingress.class")
	if in.Spec.IngressClassName != nil {
		class = strings.ToLower(*in.Spec.IngressClassName)
	}
	switch {
	case class == "alb":
		return annotation(in, "alb.ingress.kubernetes.io/scheme") != "internet-facing"
	case class == "gce-internal", strings.Contains(class, "internal"), strings.Contains(class, "private"):
		return true
	case annotation(in, "appgw.ingress.kubernetes.io/use-private-ip") == "true":
		return true
	}
	return annotation(in, "alb.ingress.kubernetes.io/scheme") == "internal"
}

// ingressTLS says whether a host of an Ingress is served over TLS.
func ingressTLS(in *networkingv1.Ingress, host string) bool {
	for _, name := range []string{"alb.ingress.kubernetes.io/certificate-arn", "networking.gke.io/managed-certificates", "ingress.gcp.kubernetes.io/pre-shared-cert",
		"appgw.ingress.kubernetes.io/appgw-ssl-certificate", "nginx.ingress.kubernetes.io/ssl-passthrough", "traefik.ingress.kubernetes.io/router.tls"} {
		if v := annotation(in, name); v != "" && v != "false" {
			return true
		}
	}
	if strings.Contains(annotation(in, "alb.ingress.kubernetes.io/listen-ports"), "https") {
		return true // the certificate is found by the host's name
	}
	for _, t := range in.Spec.TLS {
		if len(t.Hosts) == 0 || slices.ContainsFunc(t.Hosts, func(h string) bool { return hostCovers(h, host) }) {
			return true
		}
	}
	return false
}

// hostCovers says whether a host, which may begin with *., is meant by another.
func hostCovers(pattern, host string) bool {
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		_, tail, cut := strings.Cut(host, ".")
		return cut && tail == rest || pattern == host
	}
	return pattern == host
}

// ingress follows an Ingress.
func (g *graph) ingress(o *inventory.Object, in *networkingv1.Ingress) {
	if internalIngress(in) {
		return
	}
	send := func(host, path string, b *networkingv1.IngressBackend) {
		if b == nil || b.Service == nil {
			return
		}
		s := g.inv.Service(o.Namespace, b.Service.Name)
		if s == nil {
			return
		}
		over := OverClear
		port := int32(80)
		if ingressTLS(in, host) {
			over, port = OverTLS, 443
		}
		text := "host " + cmp.Or(host, "any")
		if path != "" {
			text += ", path " + path
		}
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			if b.Service.Port.Name != "" && p.Name != b.Service.Port.Name || b.Service.Port.Name == "" && p.Port != b.Service.Port.Number {
				continue
			}
			g.through(s, p, Exposure{From: FromInternet, Way: ByIngress, Entry: o.Ref, Port: port, Over: over, Hosts: cmp.Or(host, "*"), Path: []Hop{{Kind: "Ingress", Object: &o.Ref, Text: text}}})
		}
	}
	send("", "", in.Spec.DefaultBackend)
	for _, r := range in.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for i := range r.HTTP.Paths {
			send(r.Host, r.HTTP.Paths[i].Path, &r.HTTP.Paths[i].Backend)
		}
	}
}
