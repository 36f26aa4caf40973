package inventory

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// reach is whom a host's name means to a pod in a namespace: a Service, and the workload
// behind it. Both are nil if it is not of the cluster.
func (i *Inventory) reach(namespace, host string) (*Service, *Workload) {
	if host == "" {
		return nil, nil
	}
	host = strings.TrimSuffix(strings.TrimSuffix(host, "."), ".cluster.local")
	if at := strings.Index(host, ".svc."); at >= 0 { // a cluster's own domain
		host = host[:at+4]
	}
	parts := strings.Split(strings.TrimSuffix(host, ".svc"), ".")
	pods := ""
	switch {
	case len(parts) == 3: // a pod of a StatefulSet
		pods, parts = parts[0], parts[1:]
	case len(parts) > 3:
		return nil, nil
	}
	in := namespace
	if len(parts) == 2 {
		in = parts[1]
	}
	s := i.Service(in, parts[0])
	if s == nil && len(parts) == 2 && pods == "" { // pod.service in one's own namespace
		s = i.Service(namespace, parts[1])
	}
	if s != nil {
		if len(s.Workloads) == 1 || len(s.Workloads) > 1 && pods == "" {
			return s, s.Workloads[0]
		}
		return s, nil
	}
	if len(parts) == 1 {
		return nil, i.index.workloads[Ref{Kind: KindCompose, Name: parts[0]}]
	}
	return nil, nil
}

type callKey struct {
	from    Ref
	to      Ref
	host    string
	port    int
	allowed bool
}

// calls gathers what is found until it is one of each.
type calls struct {
	inv   *Inventory
	found map[callKey]*Call
	// ports are Services by their node ports, and workloads by the ports that they
	// have on a node.
	nodePorts map[int]*Service
	hostPorts map[int][]*Workload
	nodes     map[string]bool
}

// findCalls finds who calls whom.
func (i *Inventory) findCalls() {
	c := &calls{inv: i, found: map[callKey]*Call{}, nodePorts: map[int]*Service{}, hostPorts: map[int][]*Workload{}, nodes: map[string]bool{}}
	c.ports()
	for _, w := range i.Workloads {
		for n := range w.Containers {
			c.container(w, &w.Containers[n])
		}
	}
	c.configMaps()
	c.routes()
	c.policies()
	for _, one := range c.found {
		sortEvidence(&one.Evidence)
		i.Calls = append(i.Calls, *one)
	}
	i.sortCalls()
}

func (i *Inventory) sortCalls() {
	slices.SortFunc(i.Calls, func(a, b Call) int {
		return cmp.Or(compareRefs(a.From, b.From), compareRefs(deref(a.To), deref(b.To)), strings.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port), strings.Compare(a.Scheme, b.Scheme))
	})
}

// ports learns what is open on nodes.
func (c *calls) ports() {
	for _, s := range c.inv.Services {
		for _, p := range s.Spec.Ports {
			if p.NodePort > 0 {
				c.nodePorts[int(p.NodePort)] = s
			}
		}
	}
	for _, w := range c.inv.Workloads {
		for _, container := range w.Containers {
			for _, p := range container.Ports {
				port := int(p.HostPort)
				if w.Template.Spec.HostNetwork {
					port = int(p.ContainerPort)
				}
				if port > 0 {
					c.hostPorts[port] = append(c.hostPorts[port], w)
				}
			}
		}
	}
	for _, n := range Of[*corev1.Node](c.inv) {
		for _, a := range n.Status.Addresses {
			c.nodes[strings.ToLower(a.Address)] = true
		}
	}
}

// note takes in one address that a caller has. It is no call if it is neither of the
// cluster nor looks like one of another machine.
func (c *calls) note(from Ref, namespace string, conn connection, named bool, e Evidence) {
	host := conn.host
	if host == "" || host == "localhost" || strings.HasPrefix(host, "127.") || host == "0.0.0.0" || host == "::1" || host == "::" {
		return
	}
	call := Call{From: from, Host: host, Port: conn.port, Scheme: conn.scheme}
	s, w := c.inv.reach(namespace, host)
	if s == nil && w == nil {
		s, w = c.node(host, conn.port)
		call.NodeAddress = s != nil || w != nil || c.nodes[host]
	}
	switch {
	case s != nil:
		call.Service = &s.Object.Ref
	case w == nil && (!named || conn.engine != ""):
		return // somewhere else, or a database there, which is listed as one
	}
	if w != nil {
		if w.Ref == from {
			return
		}
		call.To = &w.Ref
	}
	c.keep(call, e)
}

func (c *calls) keep(call Call, e Evidence) {
	key := callKey{call.From, deref(call.To), call.Host, call.Port, call.Allowed}
	have := c.found[key]
	if have == nil {
		have = &call
		c.found[key] = have
	}
	have.Scheme = cmp.Or(have.Scheme, call.Scheme)
	have.Evidence = append(have.Evidence, e)
}

// node is who answers at an address with that port, if it is a node's.
func (c *calls) node(host string, port int) (*Service, *Workload) {
	if _, err := netip.ParseAddr(host); err != nil && !c.nodes[host] {
		return nil, nil
	}
	if len(c.nodes) > 0 && !c.nodes[host] && !isPrivate(host) {
		return nil, nil
	}
	if s := c.nodePorts[port]; s != nil {
		if len(s.Workloads) > 0 {
			return s, s.Workloads[0]
		}
		return s, nil
	}
	if all := c.hostPorts[port]; len(all) == 1 {
		return nil, all[0]
	}
	return nil, nil
}

var (
	hostName = regexp.MustCompile(`(?i)(host|hostname|addr|address|server|service|endpoint|url|uri|upstream|backend|target|brokers?|servers)s?$`)
	hostWord = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
)

// container looks at a container's settings and arguments.
func (c *calls) container(w *Workload, container *Container) {
	for _, s := range container.Env {
		if s.Value != "" && s.Value != Masked {
			c.value(w.Ref, w.Namespace, s.Name, s.Value, c.inv.evidence(byOf(s), s.Object, s.Path, s.Value))
		}
	}
	for field, list := range map[string][]string{"command": container.Command, "args": container.Args} {
		previous := ""
		for n, a := range list {
			name, value, has := strings.Cut(a, "=")
			if !has || !strings.HasPrefix(a, "-") {
				name, value = previous, a
			}
			c.value(w.Ref, w.Namespace, strings.TrimLeft(name, "-"), value, c.inv.evidence(ByArgument, w.Ref, container.Path+"."+field+"["+strconv.Itoa(n)+"]", a))
			previous = ""
			if strings.HasPrefix(a, "-") && !has {
				previous = a
			}
		}
	}
}

// value looks at one setting.
func (c *calls) value(from Ref, namespace, name, value string, e Evidence) {
	found := connections(value)
	for _, conn := range found {
		c.note(from, namespace, conn, true, e)
	}
	if len(found) > 0 || len(value) > maxEvidence || strings.Contains(value, "://") {
		return
	}
	for v := range strings.SplitSeq(value, ",") {
		host, port := hostPort(strings.TrimSpace(v))
		if cut := strings.IndexByte(v, '/'); cut > 0 { // host:port/path
			host, port = hostPort(v[:cut])
		}
		if !hostWord.MatchString(host) || port == 0 && !hostName.MatchString(name) {
			continue
		}
		if _, err := strconv.Atoi(host); err == nil {
			continue
		}
		c.note(from, namespace, connection{host: host, port: port}, false, e)
	}
}

// configMaps looks at the files that pods mount.
func (c *calls) configMaps() {
	for o, m := range Of[*corev1.ConfigMap](c.inv) {
		for _, u := range c.inv.UsesOf(o.Ref) {
			w := c.inv.index.workloads[u.By]
			if w == nil || strings.Contains(u.Path, ".env") {
				continue
			}
			for _, k := range sortedKeys(m.Data) {
				if u.Key != "" && u.Key != k {
					continue
				}
				for _, conn := range connections(m.Data[k]) {
					if s, to := c.inv.reach(w.Namespace, conn.host); s != nil || to != nil {
						c.note(w.Ref, w.Namespace, conn, true, c.inv.evidence(ByConfigMap, o.Ref, KeyPath("data", k), lineWith(m.Data[k], conn.host)))
					}
				}
			}
		}
	}
}

// routes are the ways in from outside.
func (c *calls) routes() {
	add := func(o *Object, path, namespace, name string, port func(*Service) int) {
		s := c.inv.Service(namespace, name)
		if s == nil {
			return
		}
		e := c.inv.evidence(ByRoute, o.Ref, path, name)
		for _, w := range s.Workloads {
			c.keep(Call{From: o.Ref, To: &w.Ref, Service: &s.Object.Ref, Host: s.Name, Port: port(s)}, e)
		}
	}
	for o, n := range Of[*networkingv1.Ingress](c.inv) {
		for _, b := range ingressBackends(n) {
			add(o, b.path, o.Namespace, b.name, b.portOf)
		}
	}
	for _, r := range c.inv.Routes() {
		for _, b := range r.Backends {
			if b.IsService() {
				add(r.Object, b.Path, b.To.Namespace, b.To.Name, func(*Service) int { return int(b.Port) })
			}
		}
	}
}

// portOf is the Service's port that is meant, 0 if it has none of that name.
func (b ingressBackend) portOf(s *Service) int {
	for _, p := range s.Spec.Ports {
		if b.portName != "" && p.Name == b.portName {
			return int(p.Port)
		}
	}
	return b.port
}

// policies are whom a policy lets in: no proof of a call, so it is marked, and only kept
// where nothing else tells of it.
func (c *calls) policies() {
	selecting := c.inv.selecting()
	known := map[[2]Ref]*Call{}
	for _, one := range c.found {
		if one.To != nil {
			known[[2]Ref{one.From, *one.To}] = one
		}
	}
	for _, w := range c.inv.Workloads {
		for _, o := range w.Policies {
			p, ok := o.Content.(*networkingv1.NetworkPolicy)
			if !ok {
				continue
			}
			for n, rule := range p.Spec.Ingress {
				for m, peer := range rule.From {
					// A policy for everybody tells of nobody.
					if peer.PodSelector == nil || peer.NamespaceSelector != nil || len(peer.PodSelector.MatchLabels)+len(peer.PodSelector.MatchExpressions) == 0 {
						continue
					}
					e := c.inv.evidence(ByPolicy, o.Ref, "spec.ingress["+strconv.Itoa(n)+"].from["+strconv.Itoa(m)+"]", "")
					for _, from := range selecting.selects(o.Namespace, peer.PodSelector) {
						if from == w {
							continue
						}
						if call := known[[2]Ref{from.Ref, w.Ref}]; call != nil {
							call.Evidence = append(call.Evidence, e)
							continue
						}
						c.keep(Call{From: from.Ref, To: &w.Ref, Allowed: true}, e)
					}
				}
			}
		}
	}
}

var (
	proxyPass   = regexp.MustCompile(`(?m)^[^#\n]*?\b(?:proxy_pass|grpc_pass|fastcgi_pass|reverse_proxy)\s+([^;\s{]+)`)
	upstream    = regexp.MustCompile(`(?m)^[^#\n]*?\bupstream\s+([A-Za-z0-9_.-]+)`)
	proxyServer = regexp.MustCompile(`(?m)^[^#\n]*?\bserver\s+(?:[A-Za-z0-9_.-]+\s+)?([A-Za-z0-9_.-]+:\d+)`)
)

// proxies keeps the configuration of proxies that ConfigMaps have, and finds whom proxies call.
func (i *Inventory) proxies() {
	i.Files = slices.DeleteFunc(i.Files, func(f File) bool { return f.Object != nil }) // of an earlier time
	for o, m := range Of[*corev1.ConfigMap](i) {
		for _, k := range sortedKeys(m.Data) {
			if kind := proxyKind(k, m.Data[k]); kind != "" {
				i.Files = append(i.Files, File{Path: o.Source.File, Kind: kind, Text: m.Data[k], Object: &o.Ref, Field: KeyPath("data", k)})
			}
		}
	}
	c := &calls{inv: i, found: map[callKey]*Call{}, nodePorts: map[int]*Service{}, hostPorts: map[int][]*Workload{}, nodes: map[string]bool{}}
	c.ports()
	for _, f := range i.Files {
		if f.Kind == "" || f.Kind == "systemd" || f.Kind == "dockerfile" || f.Kind == "env" {
			continue
		}
		from, namespace := Ref{Kind: "File", Name: f.Path}, DefaultNamespace
		if f.Object != nil {
			from, namespace = *f.Object, f.Object.Namespace
			// Who mounts it is who calls; a configuration that nobody mounts is its own caller.
			for _, u := range i.UsesOf(*f.Object) {
				if w := i.index.workloads[u.By]; w != nil {
					from = w.Ref
				}
			}
		} else if spaces := i.namespaces(); len(spaces) == 1 {
			namespace = spaces[0]
		}
		own := map[string]bool{} // names that only mean something within the file
		for _, m := range upstream.FindAllStringSubmatch(f.Text, -1) {
			own[strings.ToLower(m[1])] = true
		}
		for _, re := range []*regexp.Regexp{proxyPass, proxyServer} {
			for _, at := range re.FindAllStringSubmatchIndex(f.Text, -1) {
				text := f.Text[at[2]:at[3]]
				e := Evidence{By: ByFile, Text: shorten(text, maxEvidence), File: f.Path, Line: 1 + strings.Count(f.Text[:at[2]], "\n")}
				if f.Object != nil {
					inText := e.Line // a block of text begins below its key
					if e = i.evidence(ByFile, *f.Object, f.Field, text); e.Line > 0 {
						e.Line += inText
					}
				}
				var conn connection
				if found := connections(text); len(found) > 0 {
					conn = found[0]
				} else {
					conn.host, conn.port = hostPort(text)
				}
				if !own[conn.host] {
					c.note(from, namespace, conn, false, e)
				}
			}
		}
	}
	for _, one := range c.found {
		sortEvidence(&one.Evidence)
		i.Calls = append(i.Calls, *one)
	}
	i.sortCalls()
}

// namespaces are those of the Services.
func (i *Inventory) namespaces() []string {
	var all []string
	for _, s := range i.Services {
		all = append(all, s.Namespace)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// proxyKind tells a proxy's configuration by its text, "" if it is none.
func proxyKind(key, text string) string {
	key = strings.ToLower(key)
	switch {
	case !strings.Contains(text, "\n"):
		return ""
	case strings.Contains(text, "proxy_pass") || strings.Contains(text, "upstream ") && strings.Contains(text, "server {") || strings.Contains(key, "nginx") && strings.Contains(text, "server"):
		return "nginx"
	case strings.Contains(key, "haproxy") || strings.Contains(text, "\nfrontend ") && strings.Contains(text, "\nbackend "):
		return "haproxy"
	case strings.Contains(text, "static_resources:") || strings.Contains(text, "dynamic_resources:"):
		return "envoy"
	case strings.Contains(key, "caddyfile"):
		return "caddy"
	case strings.Contains(text, "<VirtualHost") || strings.Contains(text, "ProxyPass "):
		return "apache"
	case strings.Contains(key, "traefik"):
		return "traefik"
	}
	return ""
}
