// Package render says what objects an Exposure takes. It reads nothing and writes nothing:
// the same Exposure, workload, cluster and policy give the same objects, in the same order,
// byte for byte. What is best for the workload is package balance's; how AWS's load
// balancers are told is package elb's.
package render

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"dhow/api/v1alpha1"
	"dhow/internal/balance"
	"dhow/internal/elb"
)

// The labels and annotations of what is made.
const (
	// ExposureLabel names the Exposure for which an object was made.
	ExposureLabel = v1alpha1.Group + "/exposure"
	// ManagedLabel names the operator on everything that it makes.
	ManagedLabel = "app.kubernetes.io/managed-by"
	// Manager is who owns the fields of what is made.
	Manager = "dhow"
)

// Workload is what is known of who serves.
type Workload struct {
	APIVersion, Kind, Name string
	// Selector finds its pods.
	Selector map[string]string
	// Replicas are those that it has been told to have.
	Replicas   int32
	Containers []Container
	// Grace is its pods' grace period in seconds; nil is Kubernetes' own 30.
	Grace *int64
	// Guarded says that pods get their times and probes by admission when they are made, where
	// nobody has set them.
	Guarded bool
}

// Container is a container of the workload's pods.
type Container struct {
	Name  string
	Ports []corev1.ContainerPort
	// Readiness and Liveness are its probes, nil without.
	Readiness, Liveness *corev1.Probe
	// PreStop is how long it sleeps before it is told to end; Hooked says that something is
	// done then, of which the time is not known.
	PreStop int64
	Hooked  bool
	// CPU says that it asks for CPU, without which there are no percents of it.
	CPU bool
}

// Cluster is what the cluster can do.
type Cluster struct {
	// Gateway says that it knows Gateways and HTTPRoutes; GRPC, TCP and UDP the other routes.
	Gateway, GRPC, TCP, UDP bool
	// ControlVersion is that of the AWS Load Balancer Controller's kinds for Gateways, "" without.
	ControlVersion string
	// Zones are those of its nodes; 0 is not known.
	Zones int
}

// gateways says whether load balancers are described by Gateways.
func (c Cluster) gateways() bool { return c.Gateway && c.ControlVersion != "" }

func (c Cluster) controlAPI() string { return elb.ControlGroup + "/" + c.ControlVersion }

// Policy is what holds for all Exposures of a cluster.
type Policy struct {
	// Name is what load balancers' names begin with.
	Name string `json:"name,omitempty"`
	// Namespace is where the shared Gateways stand.
	Namespace string `json:"namespace,omitempty"`
	// Domain is below which private names are made; "" makes none.
	Domain string `json:"domain,omitempty"`
	// TLSPolicy is the load balancers' security policy.
	TLSPolicy string `json:"tlsPolicy,omitempty"`
	// Edge and Inner are the networks in which the nodes of public and of private load
	// balancers stand. Without them policies let in everybody's ports that are exposed.
	Edge  []string `json:"edge,omitempty"`
	Inner []string `json:"inner,omitempty"`
	// AccessLogs is the S3 bucket that takes them, with a prefix; "" writes none.
	AccessLogs string `json:"accessLogs,omitempty"`
	// WebACL is the ARN of the web ACL of public load balancers where no Exposure names another.
	WebACL string `json:"webACL,omitempty"`
	// PublicSubnets and PrivateSubnets find the load balancers' subnets by tags; without them
	// the controller finds those with the tags of their role.
	PublicSubnets  map[string][]string `json:"publicSubnets,omitempty"`
	PrivateSubnets map[string][]string `json:"privateSubnets,omitempty"`
	// NoGates says that namespaces are not labelled for their new pods to wait for load balancers.
	NoGates bool `json:"noGates,omitempty"`
	// ExpiryDays is how many days ahead the end of a certificate is told; 0 looks at none.
	ExpiryDays int `json:"expiryDays,omitempty"`
	// Orphans says what is done with load balancers that nothing owns; nil looks for none.
	Orphans *Orphans `json:"orphans,omitempty"`
	// NoDNS says that no names are told to external-dns.
	NoDNS bool `json:"noDNS,omitempty"`
}

// Orphans are load balancers and target groups that no object of the cluster owns any more.
type Orphans struct {
	// Cluster is the cluster's name, as the AWS Load Balancer Controller was told it.
	Cluster string `json:"cluster"`
	// Mode is OrphansDryRun, which is the default, or OrphansDelete.
	Mode string `json:"mode,omitempty" jsonschema:"enum=DryRun,enum=Delete"`
	// AfterHours is for how long something must have been an orphan before it is deleted, 1 at
	// least and 8760, a year, at most; 0 is 24.
	AfterHours int `json:"afterHours,omitempty" jsonschema:"minimum=1,maximum=8760"`
}

// The modes of Orphans, and the ConfigMap that tells what is known of them: the operator may
// write it and make none, so that it is installed empty.
const (
	OrphansDryRun = "DryRun"
	OrphansDelete = "Delete"
	OrphanReport  = "dhow-orphans"
)

// The policy's defaults.
const (
	defaultName       = "dhow"
	defaultNamespace  = "dhow-system"
	defaultAfterHours = 24
	mostAfterHours    = 8760
)

// Check says what is wrong with a policy that was written down.
func (p Policy) Check() error {
	switch o := p.Orphans; {
	case o == nil:
		return nil
	case o.Cluster == "":
		return errors.New("orphans.cluster: want the cluster's name, as the AWS Load Balancer Controller was told it")
	case o.Mode != "" && o.Mode != OrphansDryRun && o.Mode != OrphansDelete:
		return fmt.Errorf("orphans.mode: %q: want %s or %s", o.Mode, OrphansDryRun, OrphansDelete)
	case o.AfterHours < 0 || o.AfterHours > mostAfterHours:
		return fmt.Errorf("orphans.afterHours: %d: want 1 to %d", o.AfterHours, mostAfterHours)
	}
	return nil
}

// WithDefaults fills in what a policy leaves out.
func (p Policy) WithDefaults() Policy {
	p.Name = cmp.Or(p.Name, defaultName)
	p.Namespace = cmp.Or(p.Namespace, defaultNamespace)
	p.TLSPolicy = cmp.Or(p.TLSPolicy, elb.TLSPolicy)
	if p.Orphans != nil {
		o := *p.Orphans
		o.Mode, o.AfterHours = cmp.Or(o.Mode, OrphansDryRun), cmp.Or(o.AfterHours, defaultAfterHours)
		p.Orphans = &o
	}
	return p
}

// Input is everything that the objects of one Exposure follow from.
type Input struct {
	Exposure *v1alpha1.Exposure
	Workload Workload
	// Ports are those of the Service that the Exposure takes as it is, nil without one.
	Ports   []corev1.ServicePort
	Cluster Cluster
	Policy  Policy
	// Scaled and Budgeted name what others have made for the workload, and which can not be
	// there twice: a HorizontalPodAutoscaler and a PodDisruptionBudget. "" is none.
	Scaled, Budgeted string
	// Targeted names the older Exposure that says already how load balancers treat the Service,
	// in the same way, "" without one: the AWS Load Balancer Controller takes one word for each.
	Targeted string
}

// Output is what an Exposure takes.
type Output struct {
	// Objects are to be made, in this order.
	Objects []*unstructured.Unstructured
	// Demands are made of the Gateways that it shares with others.
	Demands []Demand
	// Pod is what its pods should have.
	Pod Pod
	// Gated says that its namespace's pods should wait for the load balancer.
	Gated bool
	// Address is where to call it, "" as long as only AWS knows.
	Address  string
	Settings []v1alpha1.Setting
	Notes    []string
}

// Pod is what pods should have, so that a rollout loses no request.
type Pod struct {
	// PreStop and Grace are in seconds.
	PreStop, Grace int64
	// Readiness is asked where a pod says nothing; nil where nothing is known to ask.
	Readiness *corev1.Probe
	Spread    []corev1.TopologySpreadConstraint
}

// WrongError says why an Exposure can not be made, and what to do.
type WrongError struct{ Reason, Text string }

func (e *WrongError) Error() string { return e.Text }

// The reasons of a WrongError.
const (
	NoPorts        = "NoPorts"
	NoHosts        = "NoHosts"
	NoLoadBalancer = "NoLoadBalancer"
)

// maker makes the objects of one Exposure.
type maker struct {
	Input
	spec    *v1alpha1.ExposureSpec
	service string
	ports   []port
	// requests and connections are the settings for load balancers of those; in is what
	// holds inside of the cluster.
	requests, connections, in balance.Settings
	hosts                     []string
	out                       Output
	err                       error
}

// Render says what an Exposure takes. Its error is a *WrongError where the Exposure itself
// is what is wrong.
func Render(in Input) (Output, error) {
	in.Policy = in.Policy.WithDefaults()
	m := &maker{Input: in, spec: &in.Exposure.Spec}
	if err := m.resolvePorts(); err != nil {
		return Output{}, err
	}
	m.service = ServiceName(in.Exposure)
	m.hosts = Hosts(in.Exposure, m.Policy)
	m.fit()
	if err := m.lead(); err != nil {
		return Output{}, err
	}
	m.guard()
	m.scale()
	m.pod()
	m.tell()
	if m.err != nil {
		return Output{}, m.err
	}
	slices.SortStableFunc(m.out.Objects, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	return m.out, nil
}

// Pods says what an Exposure's pods should have, and why their times are what they are: the
// part of Render that a pod waits for when it is made. It is the same that Render says.
func Pods(in Input) (Pod, []v1alpha1.Setting, error) {
	in.Policy = in.Policy.WithDefaults()
	m := &maker{Input: in, spec: &in.Exposure.Spec}
	if err := m.resolvePorts(); err != nil {
		return Pod{}, nil, err
	}
	m.fit()
	m.pod()
	return m.out.Pod, m.times(), nil
}

// ServiceName is the Service that leads to an Exposure's pods.
func ServiceName(e *v1alpha1.Exposure) string {
	if s := e.Spec.Service; s != nil {
		return cmp.Or(s.Existing, s.Name, e.Name)
	}
	return e.Name
}

// Hosts are the names by which an Exposure is called through a load balancer.
func Hosts(e *v1alpha1.Exposure, p Policy) []string {
	var hosts []string
	for _, h := range e.Spec.Hosts {
		hosts = append(hosts, string(h))
	}
	if len(hosts) == 0 && e.Spec.Visibility == v1alpha1.Private && p.Domain != "" {
		hosts = append(hosts, e.Name+insidePart+p.Domain)
	}
	slices.Sort(hosts)
	return hosts
}

// insidePart stands between a workload's name and the domain in names of the inside.
const insidePart = ".internal."

// led says that a load balancer leads to the Exposure.
func (m *maker) led() bool {
	return m.spec.Visibility == v1alpha1.Public || m.spec.Visibility == v1alpha1.Private
}

func (m *maker) public() bool { return m.spec.Visibility == v1alpha1.Public }

// lead makes what leads to the pods: the Service, and what a load balancer takes.
func (m *maker) lead() error {
	if m.spec.Service == nil || m.spec.Service.Existing == "" {
		m.add(m.makeService())
	}
	l7, l4 := m.of(true), m.of(false)
	switch {
	case m.spec.Visibility == v1alpha1.Mesh:
		m.meshRoutes()
		return nil
	case !m.led():
		return nil
	case len(l7) > 0 && len(m.hosts) == 0:
		return &WrongError{NoHosts, "it has no host by which a load balancer could tell its requests from others': name one under hosts, or give the operator a domain"}
	case m.Cluster.gateways():
		if err := m.gatewayRoutes(l7, l4); err != nil {
			return err
		}
	default:
		m.ingress(l7)
		m.balancerService(l4)
	}
	if len(l7) > 0 && len(l4) > 0 {
		m.note("its names lead to the load balancer of requests: its connections are called at the other one, by that one's own name")
	}
	m.out.Gated = true
	return nil
}

// pod says what the pods should have.
func (m *maker) pod() {
	s := m.widest()
	m.out.Pod.PreStop = int64(s.PreStop.Value)
	m.out.Pod.Grace = int64(s.GracePeriod.Value)
	if g := m.Workload.Grace; g != nil && *g > m.out.Pod.Grace {
		m.out.Pod.Grace = *g
	}
	m.out.Pod.Readiness = m.readiness()
	m.out.Pod.Spread = m.spread()
	if m.Workload.Guarded {
		m.keptTimes()
		return
	}
	if len(m.Workload.Containers) == 0 {
		return
	}
	has, sleeps := graceOf(m.Workload), slices.ContainsFunc(m.Workload.Containers, func(c Container) bool { return c.Hooked || c.PreStop >= m.out.Pod.PreStop })
	if !sleeps || has < m.out.Pod.Grace {
		m.note("its pods end too early for a rollout to lose no request: give them a preStop sleep of %d s and a grace period of %d s, or let the operator do so by the label %s=%s on the namespace", m.out.Pod.PreStop, m.out.Pod.Grace, GuardLabel, GuardOn)
	}
	if m.out.Pod.Readiness != nil && !slices.ContainsFunc(m.Workload.Containers, func(c Container) bool { return c.Readiness != nil }) {
		m.note("its pods have no readiness probe, so that a rollout goes on before they serve")
	}
}

// keptTimes notes which of the pods' own times are too short: what somebody has set stays.
func (m *maker) keptTimes() {
	need := m.out.Pod
	if g := m.Workload.Grace; OwnGrace(g) && *g < need.Grace {
		m.note("its pods' own grace period of %d s is shorter than the %d s that a rollout takes to lose no request, and stays: take it out of the pod template, or raise it", *g, need.Grace)
	}
	for _, c := range m.Workload.Containers {
		if c.PreStop > 0 && c.PreStop < need.PreStop {
			m.note("the preStop of container %s sleeps for %d s, where %d s are needed, and stays: take it out of the pod template, or raise it", c.Name, c.PreStop, need.PreStop)
		}
	}
}

// GuardLabel is enabled on a namespace of which the operator completes pods when they are
// made, and disabled on a pod that is left out of that.
const (
	GuardLabel = v1alpha1.Group + "/pods"
	GuardOn    = "enabled"
	GuardOff   = "disabled"
)

// usualGrace is Kubernetes' own grace period in seconds.
const usualGrace = 30

// OwnGrace says that somebody has set a grace period, in seconds. Kubernetes writes its own
// in where nobody did, so that one of 30 s is taken to be nobody's.
func OwnGrace(seconds *int64) bool { return seconds != nil && *seconds != usualGrace }

// Within is for how many seconds a pod may sleep before it ends, where its grace period, in
// seconds, is one that somebody has set: as long as a load balancer then still sends to it.
func (p Pod) Within(grace int64) int64 { return max(0, min(p.PreStop, grace-endMargin)) }

func graceOf(w Workload) int64 {
	if w.Grace != nil {
		return *w.Grace
	}
	return usualGrace
}

func (m *maker) note(text string, args ...any) {
	if said := fmt.Sprintf(text, args...); !slices.Contains(m.out.Notes, said) {
		m.out.Notes = append(m.out.Notes, said)
	}
}

// tell writes the settings and their reasons into the status.
func (m *maker) tell() {
	add := func(name, value, why string, assumed bool) {
		m.out.Settings = append(m.out.Settings, v1alpha1.Setting{Name: name, Value: value, Why: why, Assumed: assumed})
	}
	switch {
	case m.led() && len(m.of(true)) > 0:
		r := m.requests
		add("algorithm", string(r.Algorithm.Value), r.Algorithm.Why, r.Algorithm.Assumed)
		if r.SlowStart.Value > 0 {
			add("slow start", seconds(r.SlowStart.Value), r.SlowStart.Why, r.SlowStart.Assumed)
		}
		add("deregistration delay", seconds(r.DeregistrationDelay.Value), r.DeregistrationDelay.Why, r.DeregistrationDelay.Assumed)
		add("health check", fmt.Sprintf("%s every %s", m.health(true).Path, seconds(r.HealthInterval.Value)), r.HealthPath.Why, r.HealthPath.Assumed)
		add("idle time-out", seconds(r.IdleTimeout.Value), r.IdleTimeout.Why, r.IdleTimeout.Assumed)
		add("server's keep-alive at least", seconds(r.KeepAlive.Value), r.KeepAlive.Why, r.KeepAlive.Assumed)
	case m.led():
		c := m.connections
		add("deregistration delay", seconds(c.DeregistrationDelay.Value), c.DeregistrationDelay.Why, c.DeregistrationDelay.Assumed)
		add("cross-zone", fmt.Sprint(c.CrossZone.Value), c.CrossZone.Why, c.CrossZone.Assumed)
	}
	m.out.Settings = append(m.out.Settings, m.times()...)
	slices.SortFunc(m.out.Settings, func(a, b v1alpha1.Setting) int { return strings.Compare(a.Name, b.Name) })
	if m.led() {
		m.out.Notes = append(m.out.Notes, m.requests.Notes...)
	}
	m.out.Address = m.address()
}

// The names of the settings that are the pods'.
const (
	PreStopSetting = "preStop sleep"
	GraceSetting   = "grace period"
)

// times are the settings of its pods' end.
func (m *maker) times() []v1alpha1.Setting {
	s := m.widest()
	return []v1alpha1.Setting{
		{Name: PreStopSetting, Value: seconds(int(m.out.Pod.PreStop)), Why: s.PreStop.Why, Assumed: s.PreStop.Assumed},
		{Name: GraceSetting, Value: seconds(int(m.out.Pod.Grace)), Why: s.GracePeriod.Why, Assumed: s.GracePeriod.Assumed},
	}
}

func seconds(n int) string { return (time.Duration(n) * time.Second).String() }

// address is where clients call it.
func (m *maker) address() string {
	l7, l4 := m.of(true), m.of(false)
	switch {
	case m.led() && len(l7) > 0 && len(m.hosts) > 0:
		host := m.hosts[0]
		path := ""
		if len(m.spec.Paths) > 0 && l7[0].protocol != v1alpha1.GRPC {
			path = strings.TrimSuffix(m.spec.Paths[0].Path, "/")
		}
		return "https://" + strings.Replace(host, "*", "any", 1) + path
	case m.led() && len(l4) > 0 && len(m.hosts) > 0:
		return fmt.Sprintf("%s://%s:%d", strings.ToLower(string(l4[0].protocol)), m.hosts[0], l4[0].number)
	case m.led():
		return ""
	default:
		p := m.ports[0]
		scheme := map[bool]string{true: "http", false: strings.ToLower(string(p.protocol))}[p.requests()]
		return fmt.Sprintf("%s://%s.%s:%d", scheme, m.service, m.Exposure.Namespace, p.number)
	}
}
