package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"dhow/internal/balance"
	"dhow/internal/elb"
	"dhow/internal/inventory"
)

// The kinds of what stands before workloads.
const (
	loadBalancer = "alb"
	distribution = "cloudfront"
)

// Balancer is a load balancer, or what spreads one host's paths over several.
type Balancer struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Scope  Scope  `json:"scope"`
	MadeBy string `json:"made_by"`
	Why    string `json:"why"`
	// Hosts are those of its certificate.
	Hosts       []string  `json:"hosts"`
	Certificate string    `json:"certificate"`
	Routes      []LeadsTo `json:"routes"`
	Attributes  []Chosen  `json:"attributes,omitempty"`
	Zones       int       `json:"zones,omitempty"`
}

// LeadsTo is a host and path, and the workload or load balancer that gets it.
type LeadsTo struct {
	Host  string `json:"host"`
	Path  string `json:"path"`
	Exact bool   `json:"exact,omitempty"`
	To    string `json:"to"`
}

// Chosen is a setting, and why it is that.
type Chosen struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Why   string `json:"why,omitempty"`
	// Assumed says that it rests on something that nobody measured.
	Assumed bool `json:"assumed,omitempty"`
}

// Balancing is how requests are spread over a workload's pods.
type Balancing struct {
	// Behind is alb or service.
	Behind   string   `json:"behind"`
	Settings []Chosen `json:"settings"`
	// Before and After are the times of a simulated queue of requests.
	Before      *Times   `json:"before,omitempty"`
	After       *Times   `json:"after,omitempty"`
	Text        string   `json:"text,omitempty"`
	Assumptions []string `json:"assumptions,omitempty"`
	Notes       []string `json:"notes,omitempty"`

	fitted balance.Settings
}

// Times are what users wait, in milliseconds.
type Times struct {
	How   string  `json:"how"`
	Pods  int     `json:"pods"`
	P50Ms float64 `json:"p50_ms"`
	P99Ms float64 `json:"p99_ms"`
	// Overloaded says that more comes than can be worked on.
	Overloaded bool `json:"overloaded,omitempty"`
}

// balanceAll fits the settings of each workload that serves, and then says which load
// balancers there are.
func (m *maker) balanceAll() error {
	for _, u := range m.units {
		if !u.moves() || u.runsJobs() || !u.w.Serves {
			continue
		}
		if servicePort(u) == 0 {
			u.rollout = Rollout{PreStop: 0, Grace: m.graceOf(u, 0), Why: "nothing sends it requests: it is told to end at once, and has that long to finish"}
			continue
		}
		if err := m.balanceUnit(u); err != nil {
			return err
		}
	}
	m.balancers()
	return nil
}

// graceOf is at least what the source gives, and no more than a node's own end waits for.
func (m *maker) graceOf(u *unit, fitted int64) int64 {
	least := max(fitted, preStop+longestRequest+stopMargin)
	if given := u.w.Template.Spec.TerminationGracePeriodSeconds; given != nil && *given > least {
		return min(*given, mostGrace)
	}
	return least
}

func (m *maker) balanceUnit(u *unit) error {
	known := m.traffic(u)
	ms := func(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
	r := known.RequestsPerSecond
	t := balance.Traffic{Protocol: protocolOf(u), P50: ms(known.P50Ms), P99: ms(known.P99Ms), Longest: ms(known.LongestMs)}
	if r > 0 {
		t.Rate = inventory.Quantiles{P50: r, P90: r, P95: r, P99: r, Max: r}
	}
	path, _ := u.healthPath()
	if path == unknownPath {
		path = ""
	}
	p := balance.Pods{Count: int(u.scaling.Least), Zones: len(m.home().Zones), Drains: false, HealthPath: path}
	behind := balance.Service
	if u.scope != None || u.place != EKS {
		behind = balance.ALB
	}
	if len(u.entries) > 0 {
		u.connections = balance.Fit(balance.Traffic{}, balance.Pods{Count: p.Count, Zones: p.Zones}, balance.NLB)
		if len(m.routesOf(u, true))+len(m.routesOf(u, false)) == 0 {
			behind = balance.NLB
		}
	}
	s := balance.Fit(t, p, behind)
	b := &Balancing{Behind: string(behind), fitted: s, Notes: s.Notes, Settings: chosen(&s)}
	u.balancing = b
	grace := m.graceOf(u, int64(s.GracePeriod.Value))
	u.rollout = Rollout{PreStop: int64(s.PreStop.Value), Grace: grace, Why: s.PreStop.Why + "; " + s.GracePeriod.Why}
	if grace > int64(s.GracePeriod.Value) {
		u.rollout.Why += "; more, as the source asks for it or as a request may take that long"
	}
	before := u.w.Template.Spec.TerminationGracePeriodSeconds
	if before != nil && *before < grace {
		u.change("terminationGracePeriodSeconds", strconv.FormatInt(*before, 10), strconv.FormatInt(grace, 10), "requests in flight were cut off")
	}
	// Both sides have as many pods: what differs is how requests find them, and not that
	// there are more.
	today := balance.Today{Policy: balance.PerConnection, Pods: max(int(u.w.Replicas), p.Count)}
	c, err := m.played(t, p, today, s)
	if err != nil {
		return fmt.Errorf("play the requests of %s: %w", u.id(), err)
	}
	b.Text, b.Assumptions = c.Text, c.Assumptions
	b.Before, b.After = playedTimes(c.Question.Before, c.Before), playedTimes(c.Question.After, c.After)
	return nil
}

// played plays a workload's requests; the same question, which all workloads have of
// which nothing is known, is played once.
func (m *maker) played(t balance.Traffic, p balance.Pods, today balance.Today, s balance.Settings) (balance.Comparison, error) {
	key := fmt.Sprintf("%+v %+v %+v %+v", t, p, today, s)
	if c, ok := m.plays[key]; ok {
		return c, nil
	}
	c, err := balance.Compare(t, p, today, s)
	if err != nil {
		return c, err
	}
	if m.plays == nil {
		m.plays = map[string]balance.Comparison{}
	}
	m.plays[key] = c
	return c, nil
}

func playedTimes(q balance.Queue, o balance.Outcome) *Times {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return &Times{How: string(q.Policy), Pods: q.Pods, P50Ms: ms(o.P50), P99Ms: ms(o.P99), Overloaded: o.Overloaded}
}

// chosen are the settings that matter for what stands in front, in a fixed order.
func chosen(s *balance.Settings) []Chosen {
	var all []Chosen
	number := func(name string, c balance.Choice[int], unit string) {
		all = append(all, Chosen{name, strconv.Itoa(c.Value) + unit, c.Why, c.Assumed})
	}
	word := func(name string, value, why string, assumed bool) {
		all = append(all, Chosen{name, value, why, assumed})
	}
	if s.Behind != balance.Service {
		word("target type", s.TargetType.Value, s.TargetType.Why, s.TargetType.Assumed)
		if s.Algorithm.Value != "" {
			word("algorithm", string(s.Algorithm.Value), s.Algorithm.Why, s.Algorithm.Assumed)
			word("anomaly mitigation", strconv.FormatBool(s.AnomalyMitigation.Value), s.AnomalyMitigation.Why, s.AnomalyMitigation.Assumed)
		}
		number("slow start", s.SlowStart, "s")
		number("deregistration delay", s.DeregistrationDelay, "s")
		if s.HealthPath.Value != "" {
			word("health check path", s.HealthPath.Value, s.HealthPath.Why, s.HealthPath.Assumed)
		}
		number("health check interval", s.HealthInterval, "s")
		number("health check time-out", s.HealthTimeout, "s")
		number("healthy after", s.HealthyThreshold, "")
		number("unhealthy after", s.UnhealthyThreshold, "")
		number("idle time-out", s.IdleTimeout, "s")
		number("server's keep-alive at least", s.KeepAlive, "s")
		word("cross-zone", strconv.FormatBool(s.CrossZone.Value), s.CrossZone.Why, s.CrossZone.Assumed)
		number("stickiness", s.Stickiness, "s")
		word("readiness gate", strconv.FormatBool(s.ReadinessGate.Value), s.ReadinessGate.Why, s.ReadinessGate.Assumed)
	}
	number("preStop sleep", s.PreStop, "s")
	number("grace period", s.GracePeriod, "s")
	number("most unavailable in a rollout", s.MaxUnavailable, "")
	number("most surplus in a rollout", s.MaxSurge, "")
	return all
}

// protocolOf is what a unit's main port speaks, by its name and protocol.
func protocolOf(u *unit) balance.Protocol {
	for _, s := range u.services {
		if ports := soundPorts(s, u.w); len(ports) > 0 {
			return spoken(&ports[0])
		}
	}
	return balance.HTTP
}

func spoken(p *corev1.ServicePort) balance.Protocol {
	app := ""
	if p.AppProtocol != nil {
		app = *p.AppProtocol
	}
	switch {
	case strings.Contains(app, "grpc") || strings.Contains(p.Name, "grpc"):
		return balance.GRPC
	case strings.Contains(app, "ws") || strings.HasPrefix(p.Name, "ws"):
		return balance.WebSocket
	}
	return balance.HTTP
}

// balancers says which load balancers there are: one of the cluster's Gateway for each
// scope, one for each workload elsewhere, and a distribution where one host's paths
// lead to several of them.
func (m *maker) balancers() {
	byName := map[string]*Balancer{}
	get := func(name, madeBy, why string, scope Scope) *Balancer {
		b := byName[name]
		if b == nil {
			b = &Balancer{Name: name, Kind: loadBalancer, Scope: scope, MadeBy: madeBy, Why: why, Zones: len(m.home().Zones),
				Certificate: fmt.Sprintf("AWS Certificate Manager in %s, validated by DNS; TLS 1.2 and 1.3 (%s); port 80 redirects", m.primary.Name, elb.TLSPolicy)}
			byName[name] = b
		}
		return b
	}
	for _, u := range m.units {
		for _, public := range []bool{true, false} {
			routes := m.routesOf(u, public)
			if len(routes) == 0 || !u.moves() {
				continue
			}
			scope, word := Private, "private"
			if public {
				scope, word = Public, "public"
			}
			var b *Balancer
			if u.place == EKS {
				b = get(balancerName(m.plan.Name, word), "the Gateway "+word+" and the AWS Load Balancer Controller", "one for all workloads of the cluster that are "+word+", in the place of one for each", scope)
			} else {
				// A workload elsewhere has one; its private name, by which the gate finds it during
				// the move, is one more host of it.
				name := balancerName(m.plan.Name, u.name)
				if existing := byName[name]; existing != nil {
					b = existing
				} else {
					b = get(name, "the stack of "+u.name, fmt.Sprintf("%s runs outside of the cluster, whose controller knows pods alone", u.name), scope)
				}
			}
			for _, r := range routes {
				b.add(r.host, r.path, r.exact, u.id())
			}
			if u.place != EKS && public {
				b.add(m.inside(u), "/", false, u.id())
			}
			m.attributes(b, u)
		}
	}
	for _, u := range m.units {
		m.entranceBalancers(u)
	}
	m.distributions(byName)
	for _, b := range byName {
		slices.Sort(b.Hosts)
		slices.SortFunc(b.Routes, func(x, y LeadsTo) int {
			return cmp.Or(strings.Compare(x.Host, y.Host), strings.Compare(x.Path, y.Path), strings.Compare(x.To, y.To))
		})
		slices.SortFunc(b.Attributes, func(x, y Chosen) int { return strings.Compare(x.Name, y.Name) })
		m.plan.Balancers = append(m.plan.Balancers, *b)
	}
	slices.SortFunc(m.plan.Balancers, func(x, y Balancer) int { return strings.Compare(x.Name, y.Name) })
}

// balancerName is at most 32 long, as AWS allows.
func balancerName(plan, what string) string { return elb.Name(plan, what) }

func (b *Balancer) add(host, path string, exact bool, to string) {
	l := LeadsTo{host, path, exact, to}
	if !slices.Contains(b.Routes, l) {
		b.Routes = append(b.Routes, l)
	}
	if !slices.Contains(b.Hosts, host) {
		b.Hosts = append(b.Hosts, host)
	}
}

// attributes takes over what a workload wants of the load balancer that it shares: of
// numbers the largest.
func (m *maker) attributes(b *Balancer, u *unit) {
	if u.balancing == nil {
		return
	}
	for _, a := range u.balancing.fitted.LoadBalancer() {
		i := slices.IndexFunc(b.Attributes, func(c Chosen) bool { return c.Name == a.Key })
		if i < 0 {
			b.Attributes = append(b.Attributes, Chosen{Name: a.Key, Value: a.Value, Why: a.Why})
			continue
		}
		old, err1 := strconv.Atoi(b.Attributes[i].Value)
		wanted, err2 := strconv.Atoi(a.Value)
		if err1 == nil && err2 == nil && wanted > old {
			b.Attributes[i].Value, b.Attributes[i].Why = a.Value, a.Why
		}
	}
}

// distributions adds what spreads a host's paths over several load balancers.
func (m *maker) distributions(byName map[string]*Balancer) {
	of := map[string]map[string]bool{}
	for name, b := range byName {
		if b.Scope != Public {
			continue
		}
		for _, r := range b.Routes {
			if strings.HasSuffix(r.Host, insidePart+m.below) {
				continue
			}
			if of[r.Host] == nil {
				of[r.Host] = map[string]bool{}
			}
			of[r.Host][name] = true
		}
	}
	for host, names := range of {
		if len(names) < 2 {
			continue
		}
		d := &Balancer{Name: label(m.plan.Name + "-" + host), Kind: distribution, Scope: Public, MadeBy: "the stack of the edge", Hosts: []string{host},
			Certificate: "AWS Certificate Manager in us-east-1, where CloudFront takes it from, validated by DNS",
			Why:         fmt.Sprintf("the paths of %s lead to %d load balancers, and a name leads to one: CloudFront chooses by path, caches what may be cached, and is the only one that the load balancers let in", host, len(names))}
		for name := range names {
			for _, r := range byName[name].Routes {
				if r.Host == host {
					d.add(r.Host, r.Path, r.Exact, name)
				}
			}
		}
		m.decide(Decision{Object: host, What: "its paths lead to workloads in several places, and so it is served by CloudFront, where TLS ends at a location near the user", Do: "if TLS must end within the region, place all of its workloads in the cluster: --place default=eks"})
		byName[d.Name] = d
	}
}
