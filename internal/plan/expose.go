package plan

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/assess"
	"dhow/internal/inventory"
)

// route is a host and path that leads to a unit.
type route struct {
	host, path string
	exact      bool
	to         *unit
	// from is what says so, and from where the source's own proxy takes it, as HOST:PORT.
	from, upstream string
	public, tls    bool
}

// key is what no two routes may share.
func (r *route) key() string { return fmt.Sprintf("%s %s %t", r.host, r.path, r.exact) }

// expose says who may reach each workload. What leads users there, an Ingress, a Gateway
// or a proxy's configuration, is what counts; that something is open is not enough, for
// that is how sources come to be as they are.
func (m *maker) expose() error {
	for name := range m.o.Hosts {
		if !slices.ContainsFunc(m.units, func(u *unit) bool { return u.name == name || u.id() == name }) {
			return &InvalidError{[]string{fmt.Sprintf("hosts: there is no workload %q at the source: want one of %s", name, m.workloadNames())}}
		}
	}
	m.ingresses()
	m.gatewayRoutes()
	m.proxies()
	m.settle()
	m.below = m.domain()
	for _, u := range m.units {
		if u.moves() {
			m.exposeUnit(u)
		}
	}
	m.privateCalls()
	return nil
}

// entries are the ways in from the internet, by the object that opens them.
func (m *maker) entries() map[inventory.Ref]bool {
	open := map[inventory.Ref]bool{}
	for i := range m.report.Exposures {
		open[m.report.Exposures[i].Entry] = true
	}
	return open
}

// behind is the unit that a Service leads to, nil if that is none alone.
func (m *maker) behind(namespace, name string) *unit {
	s := m.inv.Service(namespace, name)
	if s == nil || len(s.Workloads) != 1 {
		return nil
	}
	return m.byRef[s.Workloads[0].Ref]
}

func (m *maker) ingresses() {
	open := m.entries()
	for o, c := range inventory.Of[*networkingv1.Ingress](m.inv) {
		for key := range c.Annotations {
			if strings.HasSuffix(key, "/rewrite-target") {
				m.decide(Decision{Object: o.Ref.String(), What: "it rewrites paths, which a load balancer of AWS does by rules of its own", Do: "check the paths of its workloads' HTTPRoutes, and add a URLRewrite where the service wants one"})
			}
		}
		tls := len(c.Spec.TLS) > 0 || c.Annotations["alb.ingress.kubernetes.io/certificate-arn"] != ""
		add := func(host, path string, exact bool, b *networkingv1.IngressBackend) {
			if b == nil || b.Service == nil {
				return
			}
			to := m.behind(o.Namespace, b.Service.Name)
			if to == nil {
				m.decide(Decision{Object: o.Ref.String(), What: fmt.Sprintf("%s leads to Service %s, behind which there is no single workload", orAll(host, path), b.Service.Name), Do: "it is left out: say what it should lead to by mending the source's Ingress"})
				return
			}
			m.routes = append(m.routes, route{host: host, path: cleanPath(path), exact: exact, to: to, from: o.Ref.String(), public: open[o.Ref], tls: tls})
		}
		add("", "/", false, c.Spec.DefaultBackend)
		for _, r := range c.Spec.Rules {
			if r.HTTP == nil {
				continue
			}
			for i := range r.HTTP.Paths {
				p := &r.HTTP.Paths[i]
				add(strings.ToLower(r.Host), p.Path, p.PathType != nil && *p.PathType == networkingv1.PathTypeExact, &p.Backend)
			}
		}
	}
}

func orAll(host, path string) string { return cmp.Or(host, "any host") + cmp.Or(path, "/") }

// cleanPath is a path as routes of the Gateway API take it: /* of the load balancer
// controller is a prefix too.
func cleanPath(path string) string {
	path = strings.TrimSuffix(path, "*")
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	return cmp.Or(path, "/")
}

func (m *maker) gatewayRoutes() {
	open := m.entries()
	tlsOf := map[inventory.Ref]bool{}
	for o, g := range inventory.Of[*gatewayv1.Gateway](m.inv) {
		tlsOf[o.Ref] = slices.ContainsFunc(g.Spec.Listeners, func(l gatewayv1.Listener) bool { return l.Protocol == gatewayv1.HTTPSProtocolType })
	}
	for o, c := range inventory.Of[*gatewayv1.HTTPRoute](m.inv) {
		public, tls := false, false
		for _, r := range m.inv.Routes() {
			if r.Object == o {
				for _, p := range r.Parents {
					public, tls = public || open[p.To], tls || tlsOf[p.To]
				}
			}
		}
		hosts := []string{""}
		if len(c.Spec.Hostnames) > 0 {
			hosts = nil
			for _, h := range c.Spec.Hostnames {
				hosts = append(hosts, strings.ToLower(string(h)))
			}
		}
		for _, rule := range c.Spec.Rules {
			matches := rule.Matches
			if len(matches) == 0 {
				matches = []gatewayv1.HTTPRouteMatch{{}}
			}
			for i := range rule.BackendRefs {
				b := &rule.BackendRefs[i]
				namespace := o.Namespace
				if b.Namespace != nil {
					namespace = string(*b.Namespace)
				}
				to := m.behind(namespace, string(b.Name))
				if to == nil {
					m.decide(Decision{Object: o.Ref.String(), What: fmt.Sprintf("it leads to %s, behind which there is no single workload", b.Name), Do: "it is left out: mend the source's route"})
					continue
				}
				for _, match := range matches {
					path, exact := "/", false
					if match.Path != nil && match.Path.Value != nil {
						path = *match.Path.Value
						exact = match.Path.Type != nil && *match.Path.Type == gatewayv1.PathMatchExact
						if match.Path.Type != nil && *match.Path.Type == gatewayv1.PathMatchRegularExpression {
							m.decide(Decision{Object: o.Ref.String(), What: "it matches paths by the regular expression " + path, Do: "name the prefixes that it stands for: it is taken as all paths"})
							path = "/"
						}
					}
					for _, host := range hosts {
						m.routes = append(m.routes, route{host: host, path: cleanPath(path), exact: exact, to: to, from: o.Ref.String(), public: public, tls: tls})
					}
				}
			}
		}
	}
}

// proxies reads what proxies outside of the cluster send to it. One that a workload
// mounts is inside: what it sends is among the calls.
func (m *maker) proxies() {
	byAddress := map[string]*unit{}
	for i := range m.inv.Calls {
		c := &m.inv.Calls[i]
		if c.To != nil && c.Host != "" && m.byRef[*c.To] != nil {
			byAddress[net.JoinHostPort(c.Host, strconv.Itoa(c.Port))] = m.byRef[*c.To]
		}
	}
	for i := range m.inv.Files {
		f := &m.inv.Files[i]
		if f.Object != nil && len(m.inv.UsesOf(*f.Object)) > 0 {
			continue
		}
		name := f.Path
		if f.Object != nil {
			name = f.Object.String()
		}
		if f.Kind != "nginx" {
			if slices.Contains([]string{"haproxy", "envoy", "caddy", "apache", "traefik"}, f.Kind) {
				m.decide(Decision{Object: name, What: "its routes of " + f.Kind + " are not read", Do: "name the hosts of the workloads behind it under hosts in the options"})
			}
			continue
		}
		for _, l := range forwards(parseNginx(f.Text)) {
			for _, s := range l.servers {
				to := byAddress[s]
				if to == nil {
					continue
				}
				if l.pattern || !pathForm.MatchString(l.path) {
					m.decide(Decision{Object: name, What: "it sends paths by the pattern " + l.path + " to " + to.name, Do: "name the prefixes that it stands for in a route of the workload: it is left out"})
					continue
				}
				if l.rewritten {
					m.decide(Decision{Object: name, What: fmt.Sprintf("it gives %s another path before %s gets it", l.path, to.name), Do: "add a URLRewrite to the workload's HTTPRoute, or let the service take the path as it is"})
				}
				hosts := l.hosts
				if len(hosts) == 0 {
					hosts = []string{""}
				}
				for _, h := range hosts {
					m.routes = append(m.routes, route{host: h, path: cleanPath(l.path), exact: l.exact, to: to, from: name, upstream: s, public: true, tls: l.tls})
				}
			}
		}
	}
}

// settle leaves each host and path to one workload: to the one that most sources of
// routes name, then to that of the source which knows the most routes.
func (m *maker) settle() {
	weight := map[string]int{}
	for i := range m.routes {
		weight[m.routes[i].from]++
	}
	slices.SortStableFunc(m.routes, func(a, b route) int {
		return cmp.Or(strings.Compare(a.key(), b.key()), cmp.Compare(weight[b.from], weight[a.from]), strings.Compare(a.from, b.from), strings.Compare(a.to.id(), b.to.id()))
	})
	var kept []route
	for i := range m.routes {
		r := &m.routes[i]
		if n := len(kept); n > 0 && kept[n-1].key() == r.key() {
			k := &kept[n-1]
			if k.to != r.to {
				m.decide(Decision{Object: r.from, What: fmt.Sprintf("it sends %s to %s, and %s sends it to %s", orAll(r.host, r.path), r.to.name, k.from, k.to.name), Do: fmt.Sprintf("the plan takes %s, whose configuration knows more routes: correct the source if the other is right", k.to.name)})
				continue
			}
			k.public, k.tls, k.upstream = k.public || r.public, k.tls || r.tls, cmp.Or(k.upstream, r.upstream)
			continue
		}
		kept = append(kept, *r)
	}
	m.routes = kept
}

// exposeUnit says who reaches one workload.
func (m *maker) exposeUnit(u *unit) {
	hosts := m.o.Hosts[u.id()]
	if hosts == nil {
		hosts = m.o.Hosts[u.name]
	}
	var public, private bool
	var from []string
	for i := range m.routes {
		r := &m.routes[i]
		if r.to != u {
			continue
		}
		public, private = public || r.public, private || !r.public
		if r.host != "" && !slices.Contains(u.hosts, r.host) {
			u.hosts = append(u.hosts, r.host)
		}
		if !slices.Contains(u.paths, r.path) {
			u.paths = append(u.paths, r.path)
		}
		if !slices.Contains(from, r.from) {
			from = append(from, r.from)
		}
	}
	if hosts != nil {
		for i := range m.routes {
			if r := &m.routes[i]; r.to == u && r.host == "" {
				r.host = hosts[0]
			}
		}
		if len(u.paths) == 0 {
			for _, h := range hosts {
				m.routes = append(m.routes, route{host: h, path: "/", to: u, from: "the options", public: true})
			}
			from = append(from, "the options")
		}
		u.hosts, public = hosts, true
	}
	slices.Sort(u.hosts)
	slices.Sort(u.paths)
	slices.Sort(from)
	if !u.runsJobs() {
		m.entrances(u)
	}
	bare := m.bareBalancers(u)
	if name := m.innerBalancer(u); name != "" && !u.runsJobs() {
		private = true
		from = append(from, name)
		m.routes = append(m.routes, route{host: m.inside(u), path: "/", to: u, from: name, tls: true})
		u.change("internal load balancer", name, m.inside(u), "one load balancer serves all that is private, over TLS")
		m.decide(Decision{Object: name, What: "callers of other networks come by it to " + u.name, Do: "give them the new name, " + m.inside(u) + ", and let their networks in"})
	}
	switch {
	case u.runsJobs():
		u.scope, u.scopeWhy = None, "a job serves nobody"
	case public:
		u.scope, u.scopeWhy = Public, "users are led to it by "+strings.Join(from, " and ")
	case private:
		u.scope, u.scopeWhy = Private, "callers inside are led to it by "+strings.Join(from, " and ")
	case len(bare) > 0:
		u.scope, u.scopeWhy = Public, bare[0]+" is open, and nothing inside calls it by that, so users do"
		u.paths = []string{"/"}
	case len(u.entries) > 0:
		e := &u.entries[0]
		if i := slices.IndexFunc(u.entries, func(e entrance) bool { return e.public }); i >= 0 {
			e = &u.entries[i]
		}
		u.scope, u.scopeWhy = e.scope(), "clients connect to it by "+e.service.Object.Ref.String()
	case len(u.open) > 0:
		u.scope, u.scopeWhy = None, "it is open today, but nothing leads users to it, and workloads inside call it: it is closed"
		u.change("way in from outside", strings.Join(m.ways(u), "; "), "none", u.scopeWhy)
		m.decide(Decision{Object: u.w.String(), What: u.scopeWhy, Do: fmt.Sprintf("if users do come to it, name its hosts under hosts.%s in the options", u.name)})
	default:
		u.scope, u.scopeWhy = None, "only workloads of the cluster call it"
		if len(u.callers) == 0 {
			u.scopeWhy = "nothing is known to call it"
		}
	}
	if u.scope == Public && len(u.hosts) == 0 && (public || len(bare) > 0) {
		m.decide(Decision{Object: u.w.String(), What: "users reach it, but no host is known for it", Do: fmt.Sprintf("name its hosts under hosts.%s in the options; until then it is %s", u.name, m.inside(u)), Blocks: true})
		u.hosts = []string{m.publicName(u)}
		if !slices.ContainsFunc(m.routes, func(r route) bool { return r.to == u }) {
			m.routes = append(m.routes, route{host: u.hosts[0], path: "/", to: u, from: strings.Join(bare, ", "), public: true})
		}
	}
	for i := range m.routes {
		if r := &m.routes[i]; r.to == u && r.host == "" && len(u.hosts) > 0 {
			r.host = u.hosts[0]
		}
	}
}

// innerBalancer is a Service of a unit whose load balancer is for private networks alone.
func (m *maker) innerBalancer(u *unit) string {
	for _, s := range u.services {
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer && takesRequests(s, u.w) && !slices.ContainsFunc(u.open, func(e *assess.Exposure) bool { return e.Entry == s.Object.Ref && e.From == assess.FromInternet }) {
			return s.Object.Ref.String()
		}
	}
	return ""
}

// bareBalancers are the Services that open this unit alone to the outside, and by which
// no other that serves calls it.
func (m *maker) bareBalancers(u *unit) []string {
	var names []string
	for _, e := range u.open {
		if e.Way != assess.ByLoadBalancer && e.Way != assess.ByNodePort {
			continue
		}
		if s := m.inv.Service(e.Entry.Namespace, e.Entry.Name); s != nil && len(s.Workloads) == 1 && takesRequests(s, u.w) && !m.called(u, s.Object.Ref) && !slices.Contains(names, e.Entry.String()) {
			names = append(names, e.Entry.String())
		}
	}
	return names
}

// ways are the ways in that the source has, sorted, each once.
func (m *maker) ways(u *unit) []string {
	var ways []string
	for _, e := range u.open {
		text := fmt.Sprintf("%s of %s, port %d, %s", e.Way, e.Entry, e.Port, e.Over)
		if e.Entry.Name == "" {
			text = fmt.Sprintf("%s, port %d, %s", e.Way, e.Port, e.Over)
		}
		if !slices.Contains(ways, text) {
			ways = append(ways, text)
		}
	}
	slices.Sort(ways)
	return ways
}

// domain is below which names are made: that of the options, or the one that all
// public hosts share without their first part.
func (m *maker) domain() string {
	if m.o.Domain != "" {
		return m.o.Domain
	}
	for i := range m.routes {
		if _, rest, ok := strings.Cut(m.routes[i].host, "."); ok && strings.Contains(rest, ".") {
			return rest
		}
	}
	return m.plan.Name + ".example"
}

// publicName is a host where none is known; inside is how others of the plan's networks
// call a workload. The name is below a domain of one's own, so that ACM gives a
// certificate for it, and leads to a private address.
func (m *maker) publicName(u *unit) string { return u.name + "." + m.below }
func (m *maker) inside(u *unit) string     { return u.name + insidePart + m.below }

// insidePart stands between a workload's name and the domain in names of the inside.
const insidePart = ".internal."

// privateCalls opens to the plan's networks what is called from another place than its own.
func (m *maker) privateCalls() {
	for _, u := range m.units {
		if !u.moves() {
			continue
		}
		var from []string
		for _, c := range u.callers {
			if c.moves() && c.place != u.place {
				from = append(from, c.name)
			}
		}
		if len(from) == 0 {
			continue
		}
		why := fmt.Sprintf("%s in another place: it is called as %s", strings.Join(from, ", ")+map[bool]string{true: " is", false: " are"}[len(from) == 1], m.inside(u))
		if u.scope == None {
			u.scope, u.scopeWhy = Private, why
		} else {
			u.scopeWhy += "; " + why
		}
		if m.connectedTo(u) {
			continue
		}
		if !slices.ContainsFunc(m.routes, func(r route) bool { return r.to == u && r.host == m.inside(u) }) {
			m.routes = append(m.routes, route{host: m.inside(u), path: "/", to: u, from: "the plan", tls: true})
		}
	}
	for _, u := range m.units {
		if u.scope == Private && len(u.entries) == 0 && !slices.ContainsFunc(m.routes, func(r route) bool { return r.to == u && r.host == m.inside(u) }) && len(u.hosts) == 0 {
			m.routes = append(m.routes, route{host: m.inside(u), path: "/", to: u, from: "the plan", tls: true})
		}
	}
	m.strangers()
	slices.SortStableFunc(m.routes, func(a, b route) int {
		return cmp.Or(strings.Compare(a.host, b.host), strings.Compare(a.path, b.path), strings.Compare(a.to.id(), b.to.id()))
	})
}

// strangers marks what serves in the cluster and is called by nobody that is known:
// programs may know names that no setting tells.
func (m *maker) strangers() {
	var names []string
	for _, u := range m.units {
		if u.place == EKS && u.scope == None && !u.runsJobs() && len(u.callers) == 0 && len(u.services) > 0 {
			u.stranger = true
			names = append(names, u.name)
		}
	}
	if len(names) > 0 {
		m.decide(Decision{What: "nothing tells who calls these, so every pod of their namespace may: " + strings.Join(names, ", "), Do: "name who calls them under calls in the options, as {web: [cart, user]}: the policies then let those in alone"})
	}
	for _, s := range m.stores {
		if s.moves && len(s.clients) == 0 {
			m.decide(Decision{Object: s.name, What: "no setting tells who connects to it, so nobody is told its new address", Do: "see how its clients find it, and give them the new server: by a setting, or a Service of type ExternalName with its old name", Blocks: true})
		}
	}
}

// routesOf are the routes to a unit, of a scope.
func (m *maker) routesOf(u *unit, public bool) []route {
	var all []route
	for i := range m.routes {
		if r := m.routes[i]; r.to == u && r.public == public && r.host != "" {
			all = append(all, r)
		}
	}
	return all
}

// servicePort is the port that others call a unit at, 0 if it has none.
func servicePort(u *unit) int32 {
	for _, s := range u.services {
		for _, p := range soundPorts(s, u.w) {
			if transport(&p) == corev1.ProtocolTCP {
				return p.Port
			}
		}
	}
	for i := range u.w.Containers {
		if c := &u.w.Containers[i]; !c.Init && len(c.Ports) > 0 {
			return c.Ports[0].ContainerPort
		}
	}
	return 0
}
