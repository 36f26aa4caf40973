// Package balance fits the settings of a load balancer, and of the pods behind it, to the
// traffic that was seen, each with its reason, and plays a queue of requests before and
// after, so that the choice can be judged by the time that users wait.
//
// It knows what AWS's load balancers accept (ranges, and which settings exclude each
// other) and how Kubernetes replaces pods. It asks nobody, and gives the same answer for
// the same question, byte for byte.
package balance

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"dhow/internal/inventory"
)

// Protocol is what is spoken to the pods.
type Protocol string

// The protocols.
const (
	HTTP      Protocol = "http"
	GRPC      Protocol = "grpc"
	WebSocket Protocol = "websocket"
	TCP       Protocol = "tcp"
)

// Behind is what stands in front of the pods.
type Behind string

// What may stand in front of pods.
const (
	// ALB is AWS's balancer of requests.
	ALB Behind = "alb"
	// NLB is AWS's balancer of connections.
	NLB Behind = "nlb"
	// Service is a ClusterIP inside of the cluster alone.
	Service Behind = "service"
)

// Traffic is what was seen of a workload's requests. What is not known is 0.
type Traffic struct {
	Protocol Protocol
	// Rate is how many requests a second come to all pods together.
	Rate inventory.Quantiles
	// P50 and P99 are how long a pod takes for a request; Longest is what the slowest may
	// take before its client gives up.
	P50, P99, Longest time.Duration
	// Connections is how many connections clients keep open to it at once.
	Connections int
	// Sticky says that a client must come back to the pod that it came to first, for its
	// session lives there; StickyFor is for how long.
	Sticky    bool
	StickyFor time.Duration
}

// Pods are what requests are spread over. What is not known is 0.
type Pods struct {
	// Count is the least number of pods; Zones over how many zones they are spread.
	Count, Zones int
	// Concurrency is how many requests a pod works on at once.
	Concurrency int
	// Start is how long a pod takes from its start until it is ready; Warmup for how long
	// after that it is slow (a compiler that learns, caches that fill).
	Start, Warmup time.Duration
	// KeepAlive is for how long its server keeps a connection that nobody uses.
	KeepAlive time.Duration
	// Drains says that the server, told to end, finishes the requests that it has.
	Drains bool
	// HealthPath is where it says that it is ready; "" is not known.
	HealthPath string
}

// Choice is a setting, and why it is that.
type Choice[T any] struct {
	Value T `json:"value"`
	// Why is a sentence. Assumed says that it rests on something that nobody measured.
	Why     string `json:"why"`
	Assumed bool   `json:"assumed,omitempty"`
}

// Algorithm is how a target is chosen, by its name in AWS's attributes.
type Algorithm string

// The algorithms of an ALB. An NLB and a Service have none to choose.
const (
	RoundRobin       Algorithm = "round_robin"
	LeastOutstanding Algorithm = "least_outstanding_requests"
	WeightedRandom   Algorithm = "weighted_random"
)

// Settings are a load balancer's, its target group's and its pods' settings. Times are in
// whole seconds, as both APIs have them.
type Settings struct {
	Behind Behind `json:"behind"`
	// Algorithm is "" where there is none to choose.
	Algorithm         Choice[Algorithm] `json:"algorithm"`
	AnomalyMitigation Choice[bool]      `json:"anomaly_mitigation"`
	// SlowStart is 0, or 30 to 900.
	SlowStart Choice[int] `json:"slow_start"`
	// TargetType is always ip.
	TargetType Choice[string] `json:"target_type"`
	// DeregistrationDelay is 0 to 3600.
	DeregistrationDelay Choice[int] `json:"deregistration_delay"`
	// ResetOnDeregistration ends an NLB's connections when the delay is over.
	ResetOnDeregistration Choice[bool] `json:"reset_on_deregistration"`
	// PreStop is the sleep before a pod is told to end; GracePeriod is from before it until
	// the kernel ends the pod.
	PreStop     Choice[int] `json:"pre_stop"`
	GracePeriod Choice[int] `json:"grace_period"`
	// Of the health check: seconds, and how often in a row.
	HealthPath         Choice[string] `json:"health_path"`
	HealthInterval     Choice[int]    `json:"health_interval"`
	HealthTimeout      Choice[int]    `json:"health_timeout"`
	HealthyThreshold   Choice[int]    `json:"healthy_threshold"`
	UnhealthyThreshold Choice[int]    `json:"unhealthy_threshold"`
	// IdleTimeout is the balancer's, 1 to 4000; KeepAlive what the server's must be at least.
	IdleTimeout Choice[int]  `json:"idle_timeout"`
	KeepAlive   Choice[int]  `json:"keep_alive"`
	CrossZone   Choice[bool] `json:"cross_zone"`
	// Stickiness is 0 for none, or for how many seconds.
	Stickiness Choice[int] `json:"stickiness"`
	// ReadinessGate holds a rollout until the balancer has taken a new pod.
	ReadinessGate Choice[bool] `json:"readiness_gate"`
	// MaxUnavailable and MaxSurge are of a rollout; MinReady is its minReadySeconds.
	MaxUnavailable Choice[int] `json:"max_unavailable"`
	MaxSurge       Choice[int] `json:"max_surge"`
	MinReady       Choice[int] `json:"min_ready"`
	// Notes are what a reader must know beside.
	Notes []string `json:"notes,omitempty"`
}

// Attribute is a setting by its name in the API of Elastic Load Balancing.
type Attribute struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// The bounds that Elastic Load Balancing sets, and what the settings are made of.
const (
	leastSlowStart, mostSlowStart   = 30, 900
	mostDeregistration              = 3600
	leastIdle, mostIdle             = 1, 4000
	leastInterval, mostInterval     = 5, 300
	leastTimeout, mostTimeout       = 2, 120
	leastStickiness, mostStickiness = 1, 604800
	// mostGrace is where a rollout takes too long for anybody to wait for.
	mostGrace = 3600

	// spread is how long it takes until nobody sends new requests to a pod that leaves, in
	// seconds: kube-proxies hear of it within one, an ALB within ten, an NLB within thirty.
	spreadService, spreadALB, spreadNLB = 5, 10, 30
	// assumedLongest is how long the slowest request is taken to be where nobody says.
	assumedLongest = 15 * time.Second
	// margin is between times that must follow each other, in seconds.
	margin = 5
	// usualIdle is ELB's own idle time-out, in seconds.
	usualIdle = 60
	// unevenService is how many times the median the 99th percentile is for requests that
	// are not alike.
	unevenService = 3
	// manyPods is from how many on an algorithm by chance spreads well enough, and one pod
	// that fails can be told from the others.
	manyPods = 12
	// noticeableWarmup is from which on a slow start is worth its algorithm.
	noticeableWarmup = 10 * time.Second
)

// Fit says how to balance the traffic over the pods. It is never an error: what is not
// known is assumed, and said to be.
func Fit(t Traffic, p Pods, b Behind) Settings {
	p.Count, p.Zones = max(1, p.Count), max(1, p.Zones)
	s := Settings{Behind: b}
	s.algorithm(t, p)
	s.drain(t, p)
	s.health(t, p)
	s.idle(t, p)
	s.zones(p)
	s.rollout(p)
	return s
}

func because[T any](v T, why string, args ...any) Choice[T] {
	if len(args) > 0 {
		why = fmt.Sprintf(why, args...)
	}
	return Choice[T]{Value: v, Why: why}
}

func assumed[T any](unknown bool, c Choice[T]) Choice[T] {
	c.Assumed = c.Assumed || unknown
	return c
}

func (s *Settings) algorithm(t Traffic, p Pods) {
	s.TargetType = because("ip", "requests go straight to the pods: no hop over another node, and the balancer's health check sees the pod itself")
	s.AnomalyMitigation = because(false, "it belongs to the weighted random algorithm alone")
	s.SlowStart = because(0, "no warm-up was seen that would be worth it")
	switch {
	case t.Sticky:
		d := clamp(seconds(t.StickyFor), leastStickiness, mostStickiness)
		if t.StickyFor == 0 {
			d = 3600
		}
		s.Stickiness = assumed(t.StickyFor == 0, because(d, "sessions live in a pod: keep them in the store instead, and remove this; until then a client comes back to its pod for so long"))
	default:
		s.Stickiness = because(0, "no session lives in a pod: any pod answers any request")
	}
	if s.Behind == Service {
		s.TargetType = because("ip", "a Service of the type ClusterIP sends to pods")
		s.Algorithm = because(Algorithm(""), "inside of the cluster a Service spreads connections by chance")
		s.SlowStart = because(0, "a Service has no slow start")
		if t.Protocol == GRPC {
			s.Notes = append(s.Notes, "gRPC keeps its connections: clients must balance by themselves over a headless Service, or all requests of a client go to one pod")
		}
		return
	}
	if s.Behind == NLB {
		s.Algorithm = because(Algorithm(""), "an NLB spreads connections by a hash of their addresses")
		s.SlowStart = because(0, "an NLB has no slow start")
		return
	}
	known := t.P50 > 0 && t.P99 > 0
	ratio := float64(t.P99) / float64(max(1, t.P50))
	switch {
	case t.Sticky:
		s.Algorithm = because(RoundRobin, "with sessions that stick the algorithm chooses for new clients alone")
	case p.Warmup >= noticeableWarmup:
		s.Algorithm = because(RoundRobin, "new pods are slow for %s: only round robin can be combined with a slow start", p.Warmup)
		s.SlowStart = because(clamp(roundUp(seconds(p.Warmup*3/2), 10), leastSlowStart, mostSlowStart), "a pod gets its full share only after its warm-up of %s and half of that again", p.Warmup)
	case t.Protocol == GRPC || t.Protocol == WebSocket:
		s.Algorithm = because(LeastOutstanding, "calls last: a pod that still has many should not get as many more")
	case known && ratio < unevenService && p.Count >= manyPods:
		s.Algorithm = because(WeightedRandom, "requests are alike (the slowest hundredth takes %.1f times the median) and there are %d pods: chance spreads well, and pods that fail can be told from the others", ratio, p.Count)
		s.AnomalyMitigation = because(true, "a pod that answers with errors gets less, before its health check sees it")
	case known && ratio < unevenService:
		s.Algorithm = because(LeastOutstanding, "requests are alike (the slowest hundredth takes %.1f times the median), but a pod on a busy node is slower than others: whoever has fewest gets the next", ratio)
	case known:
		s.Algorithm = because(LeastOutstanding, "requests differ (the slowest hundredth takes %.1f times the median): round robin would queue short ones behind long ones", ratio)
	default:
		s.Algorithm = assumed(true, because(LeastOutstanding, "how long requests take was not measured: this is never worse than round robin where they differ"))
	}
}

// drain makes the times of a pod's end follow each other: nobody sends to it any more,
// then it ends its requests, then the kernel may end it.
func (s *Settings) drain(t Traffic, p Pods) {
	spread, who := spreadService, "every kube-proxy"
	switch s.Behind {
	case ALB:
		spread, who = spreadALB, "the load balancer"
	case NLB:
		spread, who = spreadNLB, "the load balancer"
	default:
	}
	longest, unknown := t.Longest, t.Longest <= 0
	if unknown {
		longest = max(assumedLongest, t.P99)
	}
	request := clamp(seconds(longest), 1, mostGrace-spread-3*margin)
	said := fmt.Sprintf("the slowest request of %d s", request)
	if unknown {
		said = fmt.Sprintf("a slowest request of %d s (assumed)", request)
	}
	pre := spread
	if p.Drains {
		s.PreStop = because(pre, "until %s has heard that the pod leaves, it goes on serving", who)
		s.GracePeriod = because(0, "the preStop of %d s, %s, and %d s to close", pre, said, margin)
	} else {
		pre += request
		s.GracePeriod = because(0, "the preStop of %d s, which waits for %s too, and %d s to close", pre, said, margin)
		s.PreStop = assumed(unknown, because(pre, "until %s has heard that the pod leaves (%d s) and %s is over, for nothing says that the server finishes its requests by itself", who, spread, said))
	}
	grace := roundUp(spread+request+margin, 5)
	s.GracePeriod.Value = grace
	s.GracePeriod = assumed(unknown, s.GracePeriod)
	if s.Behind == Service {
		s.DeregistrationDelay = because(0, "a Service has none")
		s.ResetOnDeregistration = because(false, "a Service has none")
		return
	}
	delay := min(grace-margin, mostDeregistration)
	s.DeregistrationDelay = assumed(unknown, because(delay, "as long as %s may take and the news to spread, and no longer than the pod is there (%d s)", said, grace))
	s.ResetOnDeregistration = because(false, "an ALB ends its connections by itself")
	if s.Behind == NLB {
		s.ResetOnDeregistration = because(true, "clients of a pod that is gone hear of it at once, where they would wait for an answer until their own time-out")
	}
}

func (s *Settings) health(t Traffic, p Pods) {
	path := p.HealthPath
	if path == "" {
		path = "/readyz"
	}
	s.HealthPath = assumed(p.HealthPath == "", because(path, "the path of the readiness probe: it answers for the pod alone, not for what the pod depends on"))
	if p.HealthPath == "" {
		s.HealthPath.Why = "no readiness path was found: it must answer for the pod alone, not for what the pod depends on"
	}
	timeout := clamp(seconds(4*t.P99), leastTimeout, 10)
	interval := clamp(roundUp(timeout*2, 5), leastInterval, mostInterval)
	s.HealthTimeout = assumed(t.P99 == 0, because(timeout, "four times the slowest hundredth, so that a busy pod is not taken out for being busy, which would make the others busier"))
	if t.P99 == 0 {
		s.HealthTimeout.Why = "how long answers take was not measured: a pod that is well answers its probe within this"
	}
	s.UnhealthyThreshold = because(2, "one lost answer is chance, two are a fault: out after %d s", 2*interval)
	s.HealthInterval = because(interval, "twice the time-out: a pod that fails is out of use after %d s", 2*interval)
	s.HealthyThreshold = because(2, "back in use after %d s", 2*interval)
}

func (s *Settings) idle(t Traffic, p Pods) {
	longest := t.Longest
	if longest <= 0 {
		longest = max(assumedLongest, t.P99)
	}
	idle, why := usualIdle, "ELB's own, longer than the slowest request"
	have := seconds(p.KeepAlive)
	switch {
	case t.Protocol == WebSocket:
		idle, why = 3600, "sockets stay open with nothing to say: at least as long as their clients' heartbeat"
	case seconds(longest) >= usualIdle:
		idle, why = clamp(roundUp(seconds(longest)+margin, 10), leastIdle, mostIdle), fmt.Sprintf("longer than the slowest request of %d s, or it is cut off", seconds(longest))
	case have > 0 && have <= idle && have-margin > seconds(longest):
		// The server's time-out can not be changed from outside; the balancer's can.
		idle, why = have-margin, fmt.Sprintf("shorter than the server's own %d s, for who closes first must be the balancer", have)
	}
	switch s.Behind {
	case NLB:
		idle, why = 350, "an NLB's own"
		s.IdleTimeout = because(idle, "%s", why)
		s.KeepAlive = because(0, "TCP keep-alive probes every %d s keep a quiet connection open", 300)
		return
	case Service:
		s.IdleTimeout = because(0, "a Service has none")
		s.KeepAlive = because(idle, "clients of the pods must give a quiet connection up before the server does")
		return
	default:
	}
	s.IdleTimeout = because(idle, "%s", why)
	need := idle + margin
	s.KeepAlive = because(need, "the server must keep quiet connections longer than the balancer does, or requests meet a closing connection and end as 502")
	switch {
	case have == 0:
		s.KeepAlive.Assumed = true
	case have < need:
		s.Notes = append(s.Notes, fmt.Sprintf("the server closes quiet connections after %d s: raise that to %d s at least, or the balancer answers 502 now and then", have, need))
	default:
		s.KeepAlive.Why = fmt.Sprintf("the server's own %d s are longer than the balancer's %d s, as they must be", have, idle)
		s.KeepAlive.Value = have
	}
}

func (s *Settings) zones(p Pods) {
	switch {
	case s.Behind == Service:
		s.CrossZone = because(true, "a Service sends to all zones' pods alike")
	case s.Behind == ALB:
		s.CrossZone = because(true, "each pod gets the same share, however many its zone has; an ALB's data between zones is not charged")
	case p.Count >= 3*p.Zones:
		s.CrossZone = because(false, "each of %d zones has %d pods at least: what stays in its zone is faster, and not charged", p.Zones, p.Count/p.Zones)
	default:
		s.CrossZone = because(true, "%s over %s: a zone with fewer would get as much as one with more", counted(p.Count, "pod"), counted(p.Zones, "zone"))
	}
}

func (s *Settings) rollout(p Pods) {
	s.ReadinessGate = because(s.Behind != Service, "a rollout waits until the balancer has found a new pod healthy, before it ends an old one")
	if s.Behind == Service {
		s.ReadinessGate.Why = "there is no balancer to wait for"
	}
	s.MaxUnavailable = because(0, "no pod ends before another has taken its place")
	surge := max(1, p.Count/4)
	s.MaxSurge = because(surge, "a quarter of the pods at a time, one at least")
	s.MinReady = because(0, "the probe tells when a pod serves")
	if p.Warmup >= noticeableWarmup {
		w := clamp(seconds(p.Warmup), 1, mostSlowStart)
		s.MinReady = because(w, "the next old pod ends only when a new one has warmed up")
	}
}

// TargetGroup are the target group's attributes, by key.
func (s Settings) TargetGroup() []Attribute {
	var all []Attribute
	add := func(key, value, why string) { all = append(all, Attribute{key, value, why}) }
	switch s.Behind {
	case ALB:
		add("load_balancing.algorithm.type", string(s.Algorithm.Value), s.Algorithm.Why)
		if s.Algorithm.Value == WeightedRandom {
			add("load_balancing.algorithm.anomaly_mitigation", onOff(s.AnomalyMitigation.Value), s.AnomalyMitigation.Why)
		}
		if s.Algorithm.Value == RoundRobin {
			add("slow_start.duration_seconds", strconv.Itoa(s.SlowStart.Value), s.SlowStart.Why)
		}
		add("load_balancing.cross_zone.enabled", strconv.FormatBool(s.CrossZone.Value), s.CrossZone.Why)
		add("stickiness.enabled", strconv.FormatBool(s.Stickiness.Value > 0), s.Stickiness.Why)
		if s.Stickiness.Value > 0 {
			add("stickiness.type", "lb_cookie", s.Stickiness.Why)
			add("stickiness.lb_cookie.duration_seconds", strconv.Itoa(s.Stickiness.Value), s.Stickiness.Why)
		}
	case NLB:
		add("deregistration_delay.connection_termination.enabled", strconv.FormatBool(s.ResetOnDeregistration.Value), s.ResetOnDeregistration.Why)
		add("load_balancing.cross_zone.enabled", strconv.FormatBool(s.CrossZone.Value), s.CrossZone.Why)
		if s.Stickiness.Value > 0 {
			add("stickiness.enabled", "true", s.Stickiness.Why)
			add("stickiness.type", "source_ip", s.Stickiness.Why)
		}
	default:
		return nil
	}
	add("deregistration_delay.timeout_seconds", strconv.Itoa(s.DeregistrationDelay.Value), s.DeregistrationDelay.Why)
	slices.SortFunc(all, func(a, b Attribute) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// LoadBalancer are the load balancer's own attributes, by key.
func (s Settings) LoadBalancer() []Attribute {
	if s.Behind != ALB {
		return nil
	}
	return []Attribute{{"idle_timeout.timeout_seconds", strconv.Itoa(s.IdleTimeout.Value), s.IdleTimeout.Why}}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// seconds rounds up to whole seconds.
func seconds(d time.Duration) int {
	return int(min(max(0, (int64(d)+int64(time.Second)-1)/int64(time.Second)), math.MaxInt32))
}

func roundUp(n, step int) int { return (n + step - 1) / step * step }

func clamp(n, low, high int) int { return min(max(n, low), high) }

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
