package expose

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"dhow/api/v1alpha1"
)

// useAnnotation is the port's name by which a rule leads to an action of an annotation.
const useAnnotation = "use-annotation"

// route is a path of a host, and where it leads.
type route struct {
	host     string
	path     v1alpha1.Path
	service  string
	number   int32
	portName string
	canaries []v1alpha1.Canary
}

// ingress converts an Ingress: an Exposure for each Service that it leads to.
func (c *converter) ingress() error {
	notes := c.Ingress.Annotations
	if notes["nginx.ingress.kubernetes.io/canary"] == "true" && c.Controller == NGINX {
		return wrong("the Ingress %s is a canary of another: convert that one, and give its Exposure the canary under routing.canaries", c.Ingress.Name)
	}
	told := c.dns(notes)
	c.certificates("--certificate", c.Certificates)
	switch c.Controller {
	case ALB:
		if err := c.albNotes(notes); err != nil {
			return err
		}
	case NGINX:
		c.nginxNotes(notes)
	default:
	}
	c.foreignNotes(notes, func(key string) bool {
		return strings.HasPrefix(key, albPrefix) && c.Controller == ALB || strings.HasPrefix(key, nginxPrefix) && c.Controller == NGINX || key == classNote
	})
	if err := c.ingressVisibility(notes); err != nil {
		return err
	}
	routes, err := c.routes()
	if err != nil {
		return err
	}
	if len(routes) == 0 {
		return wrong("the Ingress %s leads nowhere that an Exposure could: it has no rule left", c.Ingress.Name)
	}
	c.ingressTLS(routes)
	known := map[string]bool{}
	for _, r := range routes {
		known[r.host] = true
	}
	for _, h := range told {
		if !known[h] {
			c.lost(dnsPrefix+"hostname", "%s is told to external-dns, and no rule serves it", h)
		}
	}
	of := map[string][]route{}
	for _, r := range routes {
		of[r.service] = append(of[r.service], r)
	}
	for _, service := range sorted(of) {
		if err := c.group(service, of[service]); err != nil {
			return err
		}
	}
	return nil
}

// ingressVisibility finds out who may call.
func (c *converter) ingressVisibility(notes map[string]string) error {
	c.all.Visibility = c.Visibility
	if c.Visibility != "" {
		return nil
	}
	if c.Controller == ALB {
		scheme := notes[albPrefix+"scheme"]
		c.all.Visibility = v1alpha1.Private // as its controller has it where nothing is said
		if scheme == "internet-facing" || scheme == "" && slices.ContainsFunc(c.Ingress.Status.LoadBalancer.Ingress, func(at networkingv1.IngressLoadBalancerIngress) bool {
			return strings.HasSuffix(at.Hostname, balancerDomain) && !strings.HasPrefix(at.Hostname, "internal-") // its class can say it too
		}) {
			c.all.Visibility = v1alpha1.Public
		}
		return nil
	}
	for _, at := range c.Ingress.Status.LoadBalancer.Ingress {
		if v := visibilityOf(at.IP, at.Hostname); v != "" {
			c.all.Visibility = v
			c.carried("visibility", "%s, by its address %s", v, at.IP+at.Hostname)
			return nil
		}
	}
	return wrong("who may call the Ingress %s does not stand in it, but in its controller: say --visibility public or --visibility private", c.Ingress.Name)
}

// balancerDomain ends the names of ALBs.
const balancerDomain = ".elb.amazonaws.com"

// visibilityOf is who may call an address, "" where that can not be told from it.
func visibilityOf(ip, host string) v1alpha1.Visibility {
	if a, err := netip.ParseAddr(ip); err == nil {
		if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
			return v1alpha1.Private
		}
		return v1alpha1.Public
	}
	if strings.HasPrefix(host, "internal-") && strings.HasSuffix(host, balancerDomain) {
		return v1alpha1.Private
	}
	return ""
}

// routes are what the rules say, each path of each host.
func (c *converter) routes() ([]route, error) {
	var all []route
	for _, rule := range c.Ingress.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		names, err := c.names(rule.Host)
		if err != nil {
			return nil, err
		}
		for _, p := range rule.HTTP.Paths {
			path, ok := c.path(p)
			if !ok {
				continue
			}
			to, err := c.backend(p.Backend)
			if err != nil {
				return nil, err
			}
			if to == nil {
				continue
			}
			for _, h := range names {
				r := *to
				r.host, r.path = h, path
				all = append(all, r)
			}
		}
	}
	seen := map[string]route{}
	var some []route
	for _, r := range all {
		key := r.host + r.path.Path + " " + r.path.Type
		if old, ok := seen[key]; ok {
			if old.service != r.service || old.number != r.number || old.portName != r.portName {
				return nil, wrong("the Ingress %s leads %s%s to both %s and %s: take one of them out", c.Ingress.Name, r.host, r.path.Path, old.service, r.service)
			}
			continue
		}
		seen[key] = r
		some = append(some, r)
	}
	return c.withDefault(some)
}

// names are the hosts of a rule, with those that a person or an annotation adds.
func (c *converter) names(host string) ([]string, error) {
	if host != "" {
		return slices.Compact(append([]string{strings.ToLower(host)}, c.aliases...)), nil
	}
	if len(c.Hosts) == 0 {
		return nil, wrong("a rule of the Ingress %s has no host, and takes every name: say by which it shall be called with --host", c.Ingress.Name)
	}
	c.lost(lostAnyHost, "a rule takes every name: now it is called as %s alone", strings.Join(c.Hosts, ", "))
	return append(slices.Clone(c.Hosts), c.aliases...), nil
}

// path is a rule's path as an Exposure has it; false where it has no words for it.
func (c *converter) path(p networkingv1.HTTPIngressPath) (v1alpha1.Path, bool) {
	text := p.Path
	if text == "" {
		text = "/"
	}
	kind := "Prefix"
	switch ptr.Deref(p.PathType, networkingv1.PathTypeImplementationSpecific) {
	case networkingv1.PathTypeExact:
		kind = "Exact"
	case networkingv1.PathTypePrefix:
	default:
		switch c.Controller {
		case ALB: // whole paths, in which an asterisk stands for anything
			if short, ok := strings.CutSuffix(text, "/*"); ok {
				if short != "" {
					c.carried(text, "all below %s, and %s itself", short, short)
				}
				text = short
				if text == "" {
					text = "/"
				}
			} else {
				kind = "Exact"
			}
			if strings.ContainsAny(text, "*?") {
				c.lost(lostPath, "%s: an Exposure has no asterisks in paths", text)
				return v1alpha1.Path{}, false
			}
		case NGINX:
			if strings.ContainsAny(text, `*^$()[]{}|\+?`) {
				c.lost(lostPath, "%s: an Exposure has no expressions in paths", text)
				return v1alpha1.Path{}, false
			}
			if !strings.HasSuffix(text, "/") {
				c.carried(text, "whole parts of paths: what only begins like %s, as %sx, came here too", text, text)
			}
		default:
		}
	}
	const most = 128
	if !goodPath.MatchString(text) || len(text) > most {
		c.lost(lostPath, "%s: an Exposure's paths have no such letters, and %d of them at most", text, most)
		return v1alpha1.Path{}, false
	}
	if kind == "Prefix" && text != "/" {
		text = strings.TrimRight(text, "/")
		if text == "" {
			text = "/"
		}
	}
	return v1alpha1.Path{Path: text, Type: kind}, true
}

// backend is where a rule leads; nothing where that is only another form of what a shared
// load balancer does anyway, or is lost.
func (c *converter) backend(b networkingv1.IngressBackend) (*route, error) {
	switch {
	case b.Service == nil:
		return nil, wrong("the Ingress %s leads to a resource, and an Exposure leads to pods: take that rule out", c.Ingress.Name)
	case b.Service.Port.Name == useAnnotation && c.Controller == ALB:
		return c.action(b.Service.Name)
	}
	return &route{service: b.Service.Name, number: b.Service.Port.Number, portName: b.Service.Port.Name}, nil
}

// albAction is an action of an annotation.
type albAction struct {
	Type           string `json:"type"`
	RedirectConfig *struct {
		Protocol string `json:"protocol"`
		Host     string `json:"host"`
		Path     string `json:"path"`
		Query    string `json:"query"`
	} `json:"redirectConfig"`
	ForwardConfig *struct {
		TargetGroups []struct {
			ServiceName string             `json:"serviceName"`
			ServicePort intstr.IntOrString `json:"servicePort"`
			Weight      *int32             `json:"weight"`
		} `json:"targetGroups"`
	} `json:"forwardConfig"`
}

// action is where an annotation leads.
func (c *converter) action(name string) (*route, error) {
	key := albPrefix + "actions." + name
	var a albAction
	if err := json.Unmarshal([]byte(c.Ingress.Annotations[key]), &a); err != nil {
		return nil, wrong("the annotation %s of the Ingress %s can not be read: %v", key, c.Ingress.Name, err)
	}
	switch {
	case a.Type == "redirect" && a.RedirectConfig != nil && a.RedirectConfig.Protocol == "HTTPS" && a.RedirectConfig.Host == "" && a.RedirectConfig.Path == "" && a.RedirectConfig.Query == "":
		c.plain = false // the shared load balancer does so for all
		return nil, nil //nolint:nilnil // it leads nowhere, and that is well
	case a.Type != "forward" || a.ForwardConfig == nil || len(a.ForwardConfig.TargetGroups) == 0:
		c.lost(key, "an Exposure leads to pods, and has no %s of a load balancer's own", a.Type)
		return nil, nil //nolint:nilnil // likewise, and it is told
	}
	groups := a.ForwardConfig.TargetGroups
	sum, first := int32(0), 0
	for i, g := range groups {
		if g.ServiceName == "" {
			c.lost(key, "it leads to a target group that is no Service's")
			return nil, nil //nolint:nilnil // likewise
		}
		w := ptr.Deref(g.Weight, 1)
		sum += w
		if w > ptr.Deref(groups[first].Weight, 1) {
			first = i
		}
	}
	r := &route{service: groups[first].ServiceName, number: groups[first].ServicePort.IntVal, portName: groups[first].ServicePort.StrVal}
	for i, g := range groups {
		if i == first || sum == 0 {
			continue
		}
		to := v1alpha1.Canary{Service: g.ServiceName, Port: g.ServicePort.IntVal, Weight: ptr.Deref(g.Weight, 1) * allWeight / sum}
		if g.ServicePort.StrVal != "" {
			p, err := c.servicePort(g.ServiceName, 0, g.ServicePort.StrVal)
			if err != nil {
				return nil, err
			}
			to.Port = p.Port
		}
		r.canaries = append(r.canaries, to)
	}
	return r, nil
}

// withDefault adds what the default backend serves.
func (c *converter) withDefault(all []route) ([]route, error) {
	b := c.Ingress.Spec.DefaultBackend
	if b == nil {
		return all, nil
	}
	to, err := c.backend(*b)
	if err != nil || to == nil {
		return all, err
	}
	whole, names := map[string]bool{}, map[string]bool{}
	for _, r := range all {
		names[r.host] = true
		if r.path.Path == "/" && r.path.Type == "Prefix" {
			whole[r.host] = true
		}
	}
	for _, h := range c.Hosts {
		names[h] = true
	}
	if len(names) == 0 {
		return nil, wrong("the Ingress %s has a default backend and no host, and takes every name: say by which it shall be called with --host", c.Ingress.Name)
	}
	for _, h := range sorted(names) {
		if !whole[h] {
			r := *to
			r.host, r.path = h, v1alpha1.Path{Path: "/", Type: "Prefix"}
			all = append(all, r)
		}
	}
	c.lost(lostDefault, "%s serves every name that no rule has: now it is called as %s alone", to.service, strings.Join(sorted(names), ", "))
	return all, nil
}

// servicePort finds a port of a Service.
func (c *converter) servicePort(service string, number int32, name string) (corev1.ServicePort, error) {
	s := c.Services[service]
	if s == nil {
		return corev1.ServicePort{}, wrong("the Ingress %s leads to the Service %s, which is not there: make it, or take it out", c.Ingress.Name, service)
	}
	for _, p := range s.Spec.Ports {
		if name != "" && p.Name == name || name == "" && p.Port == number {
			return p, nil
		}
	}
	return corev1.ServicePort{}, wrong("the Ingress %s leads to port %s of the Service %s, which it does not have", c.Ingress.Name, cmp.Or(name, itoa(number)), service)
}

// group makes the Exposure of one Service of what leads there.
func (c *converter) group(service string, all []route) error {
	e, _, err := c.exposure(service)
	if err != nil {
		return err
	}
	var names []string
	of := map[string]v1alpha1.Path{}
	has := map[string]bool{}
	for i, r := range all {
		p, err := c.servicePort(service, r.number, r.portName)
		if err != nil {
			return err
		}
		speaks := c.speaks
		if speaks == "" {
			if speaks = spoken(p); !requests(speaks) {
				speaks = v1alpha1.HTTP
			}
		}
		as := port(p, speaks)
		if !slices.ContainsFunc(e.Spec.Ports, func(x v1alpha1.Port) bool { return x.Name == as.Name }) {
			e.Spec.Ports = append(e.Spec.Ports, as)
		}
		x := r.path
		if as.Name != e.Spec.Ports[0].Name {
			x.Port = as.Name
		}
		key := x.Path + " " + x.Type
		if old, ok := of[key]; ok && old != x {
			return wrong("the Ingress %s leads %s to different ports of the Service %s under different hosts, and an Exposure has all of its paths under all of its hosts: split it first", c.Ingress.Name, x.Path, service)
		}
		of[key] = x
		has[r.host+" "+key] = true
		names = append(names, r.host)
		if i == 0 {
			c.canary(e, r.canaries)
		} else if !slices.Equal(r.canaries, all[0].canaries) {
			c.lost(lostCanaries, "not all paths of %s have the same weights: they would have those of %s%s", service, all[0].host, all[0].path.Path)
		}
	}
	e.Spec.Hosts = hosts(names)
	for _, key := range sorted(of) {
		e.Spec.Paths = append(e.Spec.Paths, of[key])
	}
	var more []string
	for _, h := range e.Spec.Hosts {
		for _, key := range sorted(of) {
			if !has[string(h)+" "+key] {
				more = append(more, string(h)+of[key].Path)
			}
		}
	}
	if len(more) > 0 {
		c.lost(lostProduct, "an Exposure has all of its paths under all of its hosts: %s would lead to %s too", strings.Join(more, ", "), service)
	}
	if len(e.Spec.Paths) == 1 && e.Spec.Paths[0].Path == "/" && e.Spec.Paths[0].Type == "Prefix" {
		e.Spec.Paths = nil // which is all of them
	}
	c.out.Exposures = append(c.out.Exposures, e)
	return nil
}

// canary gives an Exposure the other Services that get a share.
func (c *converter) canary(e *v1alpha1.Exposure, all []v1alpha1.Canary) {
	if len(all) == 0 {
		return
	}
	if len(all) > mostCanaries {
		c.lost(lostCanaries, "of %d others that get a share of %s an Exposure takes %d", len(all), e.Spec.Service.Existing, mostCanaries)
		all = all[:mostCanaries]
	}
	if e.Spec.Routing == nil {
		e.Spec.Routing = &v1alpha1.Routing{}
	}
	e.Spec.Routing.Canaries = slices.Clone(all)
}

// ingressTLS says what becomes of certificates, and of requests without TLS.
func (c *converter) ingressTLS(all []route) {
	secured := map[string]bool{}
	var secrets []string
	every := false
	for _, t := range c.Ingress.Spec.TLS {
		every = every || len(t.Hosts) == 0
		for _, h := range t.Hosts {
			secured[strings.ToLower(h)] = true
		}
		if t.SecretName != "" {
			secrets = append(secrets, t.SecretName)
		}
	}
	if c.Controller == ALB {
		if c.plain {
			c.lost(lostPlain, "it serves plain HTTP too: the shared load balancer sends port 80 on to HTTPS, which clients that post do not all follow")
		}
		return
	}
	slices.Sort(secrets)
	if secrets = slices.Compact(secrets); len(secrets) > 0 {
		if c.all.TLS != nil && len(c.all.TLS.Certificates) > 0 {
			c.carried(lostSecret, "the certificates that were named, in the place of the Secret %s", strings.Join(secrets, ", "))
		} else {
			c.lost(lostSecret, "an ALB takes no certificate from a Secret, such as %s: import it into AWS Certificate Manager, where it is found by its hosts, or name one with --certificate", strings.Join(secrets, ", "))
		}
	}
	var open []string
	for _, r := range all {
		if !every && !secured[r.host] && !securedBy(secured, r.host) {
			open = append(open, r.host)
		}
	}
	slices.Sort(open)
	open = slices.Compact(open)
	forced := c.Ingress.Annotations[nginxPrefix+"force-ssl-redirect"] == "true" && c.Controller == NGINX
	if len(open) > 0 && !forced || c.plain {
		who := "it serves"
		if len(open) > 0 {
			who = strings.Join(open, ", ") + " serves"
		}
		c.lost(lostPlain, "%s plain HTTP: the shared load balancer sends port 80 on to HTTPS, which clients that post do not all follow", who)
	}
}

// securedBy says that a certificate of a wildcard covers a host.
func securedBy(secured map[string]bool, host string) bool {
	_, rest, ok := strings.Cut(host, ".")
	return ok && secured["*."+rest]
}
