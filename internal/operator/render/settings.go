package render

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"dhow/api/v1alpha1"
	"dhow/internal/balance"
	"dhow/internal/elb"
)

const (
	// endMargin is between a pod's end and the end of what is sent to it, in seconds.
	endMargin = 5
	// unknownPath is asked where no path is known: any answer below 500 says that the program serves.
	unknownPath, unknownCodes = "/", "200-499"
	wellCodes                 = "200"
	asWanted                  = "the Exposure says so"
)

// fit chooses the settings, and then takes what the Exposure says.
func (m *maker) fit() {
	t := balance.Traffic{Protocol: balance.HTTP}
	switch l7 := m.of(true); {
	case slices.ContainsFunc(l7, func(p port) bool { return p.protocol == v1alpha1.WebSocket }):
		t.Protocol = balance.WebSocket
	case len(l7) > 0 && l7[0].protocol == v1alpha1.GRPC:
		t.Protocol = balance.GRPC
	}
	p := balance.Pods{Count: int(max(m.Workload.Replicas, m.least())), Zones: m.Cluster.Zones}
	if path := m.health(true); path.Path != unknownPath {
		p.HealthPath = path.Path
	}
	var sticky, slow *metav1.Duration
	if r := m.spec.Routing; r != nil {
		sticky, slow = r.Stickiness, r.SlowStart
		if x := r.Timeouts; x != nil {
			t.Longest, p.KeepAlive, p.Warmup = lasts(x.Request), lasts(x.KeepAlive), lasts(x.WarmUp)
		}
	}
	if sticky != nil {
		t.Sticky, t.StickyFor = true, sticky.Duration
	}
	m.requests = balance.Fit(t, p, balance.ALB)
	t.Protocol = balance.TCP
	m.connections = balance.Fit(t, p, balance.NLB)
	m.in = balance.Fit(t, p, balance.Service)
	m.override(slow)
	for _, s := range []*balance.Settings{&m.requests, &m.connections} {
		m.matchEnd(s)
	}
}

// least is how many pods there are at least.
func (m *maker) least() int32 {
	if s := m.spec.Scaling; s != nil {
		return s.Min
	}
	return 1
}

func lasts(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}

func set[T any](c *balance.Choice[T], v T) { *c = balance.Choice[T]{Value: v, Why: asWanted} }

// override takes what the Exposure says in the place of what was fitted.
func (m *maker) override(slow *metav1.Duration) {
	s := &m.requests
	if r := m.spec.Routing; r != nil {
		switch r.Algorithm {
		case v1alpha1.RoundRobin:
			set(&s.Algorithm, balance.RoundRobin)
		case v1alpha1.LeastOutstandingRequests:
			set(&s.Algorithm, balance.LeastOutstanding)
			set(&s.SlowStart, 0)
		case v1alpha1.WeightedRandom:
			set(&s.Algorithm, balance.WeightedRandom)
			set(&s.AnomalyMitigation, r.AnomalyMitigation)
			set(&s.SlowStart, 0)
		default:
		}
		if slow != nil {
			set(&s.SlowStart, int(slow.Seconds()))
			if slow.Duration > 0 && r.Algorithm == "" {
				s.Algorithm = balance.Choice[balance.Algorithm]{Value: balance.RoundRobin, Why: "only round robin can be combined with the slow start that the Exposure asks for"}
			}
		}
		if r.Timeouts != nil && r.Timeouts.Idle != nil {
			set(&s.IdleTimeout, int(r.Timeouts.Idle.Seconds()))
			s.KeepAlive.Value = max(s.KeepAlive.Value, s.IdleTimeout.Value+endMargin)
		}
	}
	if a := m.spec.Availability; a != nil && a.CrossZone != nil {
		set(&m.requests.CrossZone, *a.CrossZone)
		set(&m.connections.CrossZone, *a.CrossZone)
	}
	h := m.spec.Health
	if h == nil {
		return
	}
	for _, s := range []*balance.Settings{&m.requests, &m.connections} {
		if h.Path != "" {
			set(&s.HealthPath, h.Path)
		}
		if h.Interval != nil {
			set(&s.HealthInterval, int(h.Interval.Seconds()))
		}
		if h.Timeout != nil {
			set(&s.HealthTimeout, int(h.Timeout.Seconds()))
		}
		if h.Healthy > 0 {
			set(&s.HealthyThreshold, int(h.Healthy))
		}
		if h.Unhealthy > 0 {
			set(&s.UnhealthyThreshold, int(h.Unhealthy))
		}
		// Only one of the two may have been given: the other follows.
		if s.HealthTimeout.Value >= s.HealthInterval.Value {
			if h.Interval != nil {
				s.HealthTimeout.Value = s.HealthInterval.Value - 1
			} else {
				s.HealthInterval.Value = s.HealthTimeout.Value + endMargin
			}
		}
	}
}

// matchEnd lets the load balancer send to a pod that leaves no longer than it is there,
// where nobody gives it the time that it should have.
func (m *maker) matchEnd(s *balance.Settings) {
	if m.Workload.Guarded && !OwnGrace(m.Workload.Grace) || len(m.Workload.Containers) == 0 {
		return
	}
	has := int(graceOf(m.Workload))
	if most := max(0, has-endMargin); s.DeregistrationDelay.Value > most {
		s.DeregistrationDelay = balance.Choice[int]{Value: most, Why: "no longer than the pods are there, whose grace period is short"}
	}
}

// widest are the settings of what stands in front that takes the longest to hear that a pod leaves.
func (m *maker) widest() *balance.Settings {
	switch {
	case !m.led():
		return &m.in
	case len(m.of(false)) > 0:
		return &m.connections
	}
	return &m.requests
}

// health is how a load balancer asks a pod.
func (m *maker) health(requests bool) elb.Health {
	h := elb.Health{Path: unknownPath, Codes: unknownCodes}
	asked := m.probe()
	l7 := m.of(true)
	switch {
	case asked != nil:
		h = elb.Health{Path: asked.Path, Codes: wellCodes}
		if h.Path == "" {
			h.Path = "/"
		}
		h.Port = m.otherPort(asked.Port)
	case requests && len(l7) > 0 && l7[0].protocol == v1alpha1.GRPC:
		h = elb.GRPCHealth
	case !requests && len(l7) == 0:
		h = elb.Health{}
	}
	if x := m.spec.Health; x != nil {
		if x.Path != "" {
			h = elb.Health{Path: x.Path, Codes: wellCodes, Port: h.Port, GRPC: h.GRPC && x.Codes != "" && requests}
		}
		if x.Codes != "" && h.Path != "" {
			h.Codes = x.Codes
		}
		if x.Port != nil {
			h.Port = m.number(*x.Port)
		}
	}
	return h
}

// probe is the readiness probe that asks over HTTP, nil without one.
func (m *maker) probe() *corev1.HTTPGetAction {
	for _, c := range m.Workload.Containers {
		if c.Readiness != nil && c.Readiness.HTTPGet != nil {
			return c.Readiness.HTTPGet
		}
	}
	return nil
}

// otherPort is the port of a health check, "" where it is the one that gets the requests.
func (m *maker) otherPort(p intstr.IntOrString) string {
	number := m.number(p)
	for _, x := range m.ports {
		if m.number(x.target) == number {
			return ""
		}
	}
	return number
}

// number is a pod's port as a number, or as the name that it has where no container declares it.
func (m *maker) number(p intstr.IntOrString) string {
	if p.Type == intstr.Int {
		return p.String()
	}
	for _, c := range m.Workload.Containers {
		for _, x := range c.Ports {
			if x.Name == p.StrVal {
				number := intstr.FromInt32(x.ContainerPort)
				return number.String()
			}
		}
	}
	return p.StrVal
}

// The times of a readiness probe that is given to a pod that has none, in seconds.
const (
	readinessPeriod, readinessTimeout, readinessFails = 5, 3, 2
)

// readiness is the probe of pods that say nothing, nil where nothing is known to ask.
func (m *maker) readiness() *corev1.Probe {
	p := m.ports[0]
	probe := &corev1.Probe{PeriodSeconds: readinessPeriod, TimeoutSeconds: readinessTimeout, FailureThreshold: readinessFails}
	switch {
	case p.protocol == v1alpha1.UDP:
		return nil
	case m.spec.Health != nil && m.spec.Health.Path != "" && p.requests() && !refusals(m.spec.Health.Codes):
		port := p.target
		if m.spec.Health.Port != nil {
			port = *m.spec.Health.Port
		}
		probe.HTTPGet = &corev1.HTTPGetAction{Path: m.spec.Health.Path, Port: port}
	default:
		probe.TCPSocket = &corev1.TCPSocketAction{Port: p.target}
	}
	return probe
}

// leastRefusal is the first code that the kubelet takes for a failure.
const leastRefusal = 400

// refusals says that codes of health, as 200 or 200-499, hold some that the kubelet takes for
// failures: a probe that asks for them would keep healthy pods from ever being ready.
func refusals(codes string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(codes, func(r rune) bool { return r == ',' || r == '-' }), func(text string) bool {
		n, err := strconv.Atoi(text)
		return err == nil && n >= leastRefusal
	})
}

// spread is how pods should be spread over zones and nodes.
func (m *maker) spread() []corev1.TopologySpreadConstraint {
	zones := "Preferred"
	if a := m.spec.Availability; a != nil && a.Zones != "" {
		zones = a.Zones
	}
	if zones == "None" {
		return nil
	}
	var all []corev1.TopologySpreadConstraint
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
		when := corev1.ScheduleAnyway
		if key == corev1.LabelTopologyZone && zones == "Required" {
			when = corev1.DoNotSchedule
		}
		all = append(all, corev1.TopologySpreadConstraint{TopologyKey: key, MaxSkew: 1, WhenUnsatisfiable: when, LabelSelector: &metav1.LabelSelector{MatchLabels: m.Workload.Selector}})
	}
	return all
}

// version is an ALB's protocol version to a port, "" for HTTP1.
func version(p port) string {
	switch p.protocol {
	case v1alpha1.GRPC:
		return "GRPC"
	case v1alpha1.HTTP2:
		return "HTTP2"
	default:
		return ""
	}
}
