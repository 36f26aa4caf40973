package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Exposure says who may reach a workload, and how.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=exp,categories=dhow
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.scaling.min,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Workload",type=string,JSONPath=`.status.workload`
// +kubebuilder:printcolumn:name="Visibility",type=string,JSONPath=`.spec.visibility`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.status.address`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
type Exposure struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec ExposureSpec `json:"spec"`
	// +optional
	Status ExposureStatus `json:"status,omitempty"`
}

// ExposureList is a list of them.
//
// +kubebuilder:object:root=true
type ExposureList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Exposure `json:"items"`
}

// ExposureSpec is what is wanted.
//
// +kubebuilder:validation:XValidation:rule="self.visibility != 'public' || (has(self.hosts) && size(self.hosts) > 0) || (has(self.ports) && self.ports.all(p, p.protocol in ['TCP', 'UDP', 'TLS']))",message="a public exposure of requests needs hosts: name at least one host, or make it private"
// +kubebuilder:validation:XValidation:rule="!has(self.paths) || size(self.paths) == 0 || !has(self.ports) || self.ports.exists(p, p.protocol in ['HTTP', 'HTTP2', 'GRPC', 'WebSocket'])",message="paths belong to requests: name a port of HTTP, HTTP2, GRPC or WebSocket, or leave the paths out"
// +kubebuilder:validation:XValidation:rule="!has(self.routing) || !has(self.routing.retries) || self.visibility == 'mesh'",message="retries are made by a mesh, which AWS's load balancers are not: set visibility to mesh, or leave routing.retries out"
// +kubebuilder:validation:XValidation:rule="!has(self.paths) || !has(self.ports) || self.paths.all(x, !has(x.port) || self.ports.exists(p, p.name == x.port))",message="a path names a port that is not among the ports"
// +kubebuilder:validation:XValidation:rule="!has(self.access) || !has(self.access.authentication) || self.visibility in ['public', 'private']",message="authentication is done by a load balancer: set visibility to public or private"
// +kubebuilder:validation:XValidation:rule="!has(self.access) || !has(self.access.webACL) || self.visibility in ['public', 'private']",message="a web ACL belongs to a load balancer: set visibility to public or private"
// +kubebuilder:validation:XValidation:rule="!has(self.service) || !has(self.service.existing) || size(self.service.existing) == 0 || !has(self.service.name) || size(self.service.name) == 0",message="service.existing takes a Service that is there, service.name names one to make: give one of them"
type ExposureSpec struct {
	// workload is what serves.
	// +required
	Workload Workload `json:"workload"`
	// ports are those to be reached; without any, those that the workload's containers declare.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Ports []Port `json:"ports,omitempty"`
	// visibility says from where the workload can be reached: the internet, the private
	// networks, other workloads through a mesh, or the cluster alone.
	// +kubebuilder:default=private
	// +optional
	Visibility Visibility `json:"visibility,omitempty"`
	// hosts are the names by which it is called. A private one without any gets a name of the operator's domain.
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Hosts []Host `json:"hosts,omitempty"`
	// paths are those that lead to it; without any, all.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Paths []Path `json:"paths,omitempty"`
	// tls says how connections are secured; without it, by the certificates of AWS Certificate Manager that fit the hosts.
	// +optional
	TLS *TLS `json:"tls,omitempty"`
	// routing says how requests are spread. What is left out is fitted to the workload, and told in the status.
	// +optional
	Routing *Routing `json:"routing,omitempty"`
	// health is how a load balancer asks whether a pod is well; without it, as the readiness probe does.
	// +optional
	Health *Health `json:"health,omitempty"`
	// scaling adds and removes pods; without it, nothing does.
	// +optional
	Scaling *Scaling `json:"scaling,omitempty"`
	// sizing measures what its containers take, and says what they should ask for; without
	// it, nothing is measured.
	// +optional
	Sizing *Sizing `json:"sizing,omitempty"`
	// availability is what stays when nodes and zones go.
	// +optional
	Availability *Availability `json:"availability,omitempty"`
	// access says who may call, and whom the workload may call.
	// +optional
	Access *Access `json:"access,omitempty"`
	// limits are of the load balancer that it shares: of several Exposures' the largest holds, capacities are added.
	// +optional
	Limits *Limits `json:"limits,omitempty"`
	// service names the Service that leads to the pods.
	// +optional
	Service *Service `json:"service,omitempty"`
	// dns says how names are told to external-dns.
	// +optional
	DNS *DNS `json:"dns,omitempty"`
	// adopt lets the operator take over objects that it did not make, where they have the name of one that it would make.
	// +optional
	Adopt bool `json:"adopt,omitempty"`
}

// Workload names pods: by what makes them, or by their labels.
//
// +kubebuilder:validation:XValidation:rule="(has(self.name) && size(self.name) > 0) != has(self.selector)",message="name a workload, or give a selector of its pods: one of them"
// +kubebuilder:validation:XValidation:rule="!has(self.selector) || ((has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0) && !has(self.selector.matchExpressions))",message="the selector needs matchLabels, and those alone: a Service has no expressions"
type Workload struct {
	// kind of the workload.
	// +kubebuilder:validation:Enum=Deployment;StatefulSet;Rollout
	// +kubebuilder:default=Deployment
	// +optional
	Kind string `json:"kind,omitempty"`
	// name of the workload, in the Exposure's namespace.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Name string `json:"name,omitempty"`
	// selector of pods that no such workload makes.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// Protocol is what a port speaks.
//
// +kubebuilder:validation:Enum=HTTP;HTTP2;GRPC;WebSocket;TCP;UDP;TLS
type Protocol string

// The protocols. TLS is passed through to the pods, which hold the certificate.
const (
	HTTP      Protocol = "HTTP"
	HTTP2     Protocol = "HTTP2"
	GRPC      Protocol = "GRPC"
	WebSocket Protocol = "WebSocket"
	TCP       Protocol = "TCP"
	UDP       Protocol = "UDP"
	TLSPass   Protocol = "TLS"
)

// Port is a port to be reached.
type Port struct {
	// name of the port, as the Service has it.
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$`
	// +required
	Name string `json:"name"`
	// port by which others of the cluster call it, and clients of a load balancer of connections.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port"`
	// targetPort is the pods' own, a number or a name; without it, the same number.
	// +kubebuilder:validation:XIntOrString
	// +optional
	TargetPort *intstr.IntOrString `json:"targetPort,omitempty"`
	// protocol is what is spoken there.
	// +kubebuilder:default=HTTP
	// +optional
	Protocol Protocol `json:"protocol,omitempty"`
}

// Visibility is from where a workload can be reached.
//
// +kubebuilder:validation:Enum=public;private;mesh;none
type Visibility string

// The visibilities.
const (
	Public  Visibility = "public"
	Private Visibility = "private"
	Mesh    Visibility = "mesh"
	None    Visibility = "none"
)

// Host is a DNS name, of which the first part may be an asterisk.
//
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$`
type Host string

// Path is a path that leads to the workload.
type Path struct {
	// path begins with a slash.
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^/[A-Za-z0-9/_.~!$&'()+,;=:@%-]*$`
	// +required
	Path string `json:"path"`
	// type is Prefix, which means whole parts of a path, or Exact.
	// +kubebuilder:validation:Enum=Prefix;Exact
	// +kubebuilder:default=Prefix
	// +optional
	Type string `json:"type,omitempty"`
	// port is the name of the port that it leads to; without it, the first.
	// +kubebuilder:validation:MaxLength=15
	// +optional
	Port string `json:"port,omitempty"`
}

// TLS says how connections are secured.
type TLS struct {
	// certificates are ARNs of AWS Certificate Manager; without any, those are taken that fit the hosts.
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Certificates []CertificateARN `json:"certificates,omitempty"`
	// policy is the load balancer's security policy; without it, the operator's.
	// +kubebuilder:validation:Pattern=`^ELBSecurityPolicy-[A-Za-z0-9-]+$`
	// +optional
	Policy string `json:"policy,omitempty"`
}

// CertificateARN names a certificate of AWS Certificate Manager.
//
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:Pattern=`^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[A-Za-z0-9-]+$`
type CertificateARN string

// Algorithm is how a load balancer chooses a pod.
//
// +kubebuilder:validation:Enum=RoundRobin;LeastOutstandingRequests;WeightedRandom
type Algorithm string

// The algorithms.
const (
	RoundRobin               Algorithm = "RoundRobin"
	LeastOutstandingRequests Algorithm = "LeastOutstandingRequests"
	WeightedRandom           Algorithm = "WeightedRandom"
)

// Routing says how requests are spread over pods and versions.
//
// +kubebuilder:validation:XValidation:rule="!has(self.slowStart) || duration(self.slowStart) == duration('0s') || !has(self.algorithm) || self.algorithm == 'RoundRobin'",message="only RoundRobin can be combined with a slow start: leave one of them out"
// +kubebuilder:validation:XValidation:rule="!has(self.slowStart) || duration(self.slowStart) == duration('0s') || (duration(self.slowStart) >= duration('30s') && duration(self.slowStart) <= duration('15m'))",message="slowStart must be 0s, or from 30s to 15m"
// +kubebuilder:validation:XValidation:rule="!has(self.anomalyMitigation) || !self.anomalyMitigation || (has(self.algorithm) && self.algorithm == 'WeightedRandom')",message="anomaly mitigation belongs to WeightedRandom alone: set algorithm to that, or leave it out"
// +kubebuilder:validation:XValidation:rule="!has(self.stickiness) || !has(self.algorithm) || self.algorithm != 'WeightedRandom' || !has(self.anomalyMitigation) || !self.anomalyMitigation",message="sessions that stick can not be combined with anomaly mitigation: leave one of them out"
// +kubebuilder:validation:XValidation:rule="!has(self.canaries) || self.canaries.map(c, c.weight).sum() <= 100",message="the canaries' weights are percents, and together at most 100"
type Routing struct {
	// +optional
	Algorithm Algorithm `json:"algorithm,omitempty"`
	// anomalyMitigation gives less to pods that answer with errors.
	// +optional
	AnomalyMitigation bool `json:"anomalyMitigation,omitempty"`
	// slowStart is how long a new pod takes to its full share.
	// +optional
	SlowStart *metav1.Duration `json:"slowStart,omitempty"`
	// stickiness brings a client back to the pod that it came to first, for so long.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('168h')",message="stickiness must be from 1s to 168h"
	// +optional
	Stickiness *metav1.Duration `json:"stickiness,omitempty"`
	// +optional
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	// +optional
	Retries *Retries `json:"retries,omitempty"`
	// canaries are other Services that get a share of the requests; the rest is the workload's.
	// +listType=map
	// +listMapKey=service
	// +kubebuilder:validation:MaxItems=4
	// +optional
	Canaries []Canary `json:"canaries,omitempty"`
	// headers send requests that carry them to another Service, in the order given.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Headers []HeaderRule `json:"headers,omitempty"`
}

// Timeouts are the times of a request and of a connection.
type Timeouts struct {
	// request is what the slowest request takes: the end of a pod waits for it, and a mesh ends a request after it.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('55m')",message="request must be from 1s to 55m"
	// +optional
	Request *metav1.Duration `json:"request,omitempty"`
	// idle is after which a load balancer closes a connection on which nothing comes.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('4000s')",message="idle must be from 1s to 4000s"
	// +optional
	Idle *metav1.Duration `json:"idle,omitempty"`
	// keepAlive is for how long the workload's server keeps a quiet connection, where that is known.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="keepAlive must be at least 1s"
	// +optional
	KeepAlive *metav1.Duration `json:"keepAlive,omitempty"`
	// warmUp is for how long a new pod is slow after it is ready.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('15m')",message="warmUp must be from 0s to 15m"
	// +optional
	WarmUp *metav1.Duration `json:"warmUp,omitempty"`
}

// Retries are made by a mesh.
type Retries struct {
	// attempts beside the first.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	// +required
	Attempts int32 `json:"attempts"`
	// codes are the answers after which another attempt is made.
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Minimum=400
	// +kubebuilder:validation:items:Maximum=599
	// +optional
	Codes []int32 `json:"codes,omitempty"`
}

// Canary is another Service that gets a share.
type Canary struct {
	// service in the Exposure's namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Service string `json:"service"`
	// port of that Service; without it, the same as the workload's.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
	// weight in percent.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +required
	Weight int32 `json:"weight"`
}

// HeaderRule sends requests with a header to another Service.
type HeaderRule struct {
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+\\-.^_\\x60|~]+$"
	// +required
	Name string `json:"name"`
	// value that the header has, whole.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +required
	Value string `json:"value"`
	// service in the Exposure's namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Service string `json:"service"`
	// port of that Service; without it, the same as the workload's.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
}

// Health is how a load balancer asks whether a pod is well.
//
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || !has(self.timeout) || duration(self.timeout) < duration(self.interval)",message="the time-out of the health check must be shorter than its interval"
type Health struct {
	// path must answer for the pod alone, not for what the pod depends on.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/`
	// +optional
	Path string `json:"path,omitempty"`
	// port is a port's name or number; without it, the one that gets requests.
	// +kubebuilder:validation:XIntOrString
	// +optional
	Port *intstr.IntOrString `json:"port,omitempty"`
	// codes are the answers of a pod that is well, as 200 or 200-299 or 200,204.
	// +kubebuilder:validation:Pattern=`^[0-9]{1,3}([-,][0-9]{1,3})*$`
	// +optional
	Codes string `json:"codes,omitempty"`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5s') && duration(self) <= duration('300s')",message="interval must be from 5s to 300s"
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('2s') && duration(self) <= duration('120s')",message="timeout must be from 2s to 120s"
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// healthy and unhealthy are how often in a row a check must succeed or fail.
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=10
	// +optional
	Healthy int32 `json:"healthy,omitempty"`
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=10
	// +optional
	Unhealthy int32 `json:"unhealthy,omitempty"`
}

// Scaling adds and removes pods.
//
// +kubebuilder:validation:XValidation:rule="!has(self.max) || self.min <= self.max",message="min must not be above max"
// +kubebuilder:validation:XValidation:rule="!has(self.max) || has(self.cpu) || has(self.requests) || has(self.queue)",message="scaling up to max needs something to go by: cpu, requests or queue"
type Scaling struct {
	// min is the least number of pods.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +kubebuilder:default=2
	// +optional
	Min int32 `json:"min,omitempty"`
	// max is the largest; without it the number stays.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Max int32 `json:"max,omitempty"`
	// cpu is what a pod uses on average.
	// +optional
	CPU *CPUTarget `json:"cpu,omitempty"`
	// requests is how many a second a pod gets on average.
	// +optional
	Requests *MetricTarget `json:"requests,omitempty"`
	// queue is how many messages wait for each pod.
	// +optional
	Queue *MetricTarget `json:"queue,omitempty"`
	// calm is for how long fewer pods must do before some are removed.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('1h')",message="calm must be from 0s to 1h"
	// +optional
	Calm *metav1.Duration `json:"calm,omitempty"`
}

// Sizing measures what containers take.
type Sizing struct {
	// mode DryRun tells in the status what containers should ask for. Apply also gives it to
	// pods that run, in their place, one a minute; what makes the pods is left as it is.
	// +kubebuilder:default=DryRun
	// +optional
	Mode Mode `json:"mode,omitempty"`
}

// CPUTarget is either in percent of what pods ask for, or in CPUs.
//
// +kubebuilder:validation:XValidation:rule="has(self.percent) != has(self.average)",message="give percent or average: one of them"
type CPUTarget struct {
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Percent *int32 `json:"percent,omitempty"`
	// +optional
	Average *resource.Quantity `json:"average,omitempty"`
}

// MetricTarget is a metric of the custom or the external metrics API.
type MetricTarget struct {
	// metric is its name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Metric string `json:"metric"`
	// average for each pod.
	// +required
	Average resource.Quantity `json:"average"`
	// selector of an external metric's series.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// Availability is what stays when nodes and zones go.
type Availability struct {
	// maxUnavailable is how many pods may be missing while nodes are drained, a number or percents.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:default=1
	// +optional
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`
	// zones says whether pods must be spread over zones, or should be.
	// +kubebuilder:validation:Enum=Required;Preferred;None
	// +kubebuilder:default=Preferred
	// +optional
	Zones string `json:"zones,omitempty"`
	// crossZone lets a load balancer's node send to pods of other zones; without it, as fits.
	// +optional
	CrossZone *bool `json:"crossZone,omitempty"`
}

// Limits are of the load balancer.
type Limits struct {
	// capacityUnits are reserved ahead of a rush.
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=100000
	// +optional
	CapacityUnits int32 `json:"capacityUnits,omitempty"`
	// clientKeepAlive is for how long at most a client's connection is used.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('60s') && duration(self) <= duration('168h')",message="clientKeepAlive must be from 60s to 168h"
	// +optional
	ClientKeepAlive *metav1.Duration `json:"clientKeepAlive,omitempty"`
}

// Service names the Service that leads to the pods.
type Service struct {
	// name of the Service to make; without it, the Exposure's.
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`
	// +optional
	Name string `json:"name,omitempty"`
	// existing is one that is there, and stays as it is.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Existing string `json:"existing,omitempty"`
	// headless gives it no address of its own, so that its clients see all pods.
	// +optional
	Headless bool `json:"headless,omitempty"`
}

// DNS says how names are told to external-dns.
type DNS struct {
	// disabled tells nothing.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
	// ttl of the records.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="ttl must be from 1s to 24h"
	// +optional
	TTL *metav1.Duration `json:"ttl,omitempty"`
}

// The types of an Exposure's conditions.
const (
	// Accepted says that what is wanted can be made.
	Accepted = "Accepted"
	// Applied says that every object that it takes stands in the cluster as it should.
	Applied = "Applied"
	// Programmed says what AWS's controller says of it.
	Programmed = "Programmed"
	// Available says whether pods are there that serve.
	Available = "Available"
	// Ready is all of them.
	Ready = "Ready"
	// CertificatesValid says what clients see, where the operator looks. It is no part of Ready.
	CertificatesValid = "CertificatesValid"
)

// ExposureStatus is what is.
type ExposureStatus struct {
	// observedGeneration is the generation that this status tells of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// workload is what serves, as Kind/name.
	// +optional
	Workload string `json:"workload,omitempty"`
	// address is where to call it.
	// +optional
	Address string `json:"address,omitempty"`
	// loadBalancers are the names that AWS gave.
	// +listType=atomic
	// +optional
	LoadBalancers []string `json:"loadBalancers,omitempty"`
	// replicas are the pods that serve, selector finds them.
	// +optional
	Replicas int32 `json:"replicas,omitempty"`
	// +optional
	Selector string `json:"selector,omitempty"`
	// settings are what was chosen, and why.
	// +listType=map
	// +listMapKey=name
	// +optional
	Settings []Setting `json:"settings,omitempty"`
	// notes are what a reader should know.
	// +listType=atomic
	// +optional
	Notes []string `json:"notes,omitempty"`
	// sizing says what the containers should ask for.
	// +optional
	Sizing *SizingStatus `json:"sizing,omitempty"`
	// certificates are those that clients see.
	// +listType=map
	// +listMapKey=host
	// +optional
	Certificates []CertificateState `json:"certificates,omitempty"`
	// objects are those that were made.
	// +listType=atomic
	// +optional
	Objects []Object `json:"objects,omitempty"`
}

// SizingStatus says what containers should ask for.
type SizingStatus struct {
	// message says what is done with it, or what is missing.
	// +optional
	Message string `json:"message,omitempty"`
	// +listType=map
	// +listMapKey=name
	// +optional
	Containers []ContainerSizing `json:"containers,omitempty"`
}

// ContainerSizing says what a container should ask for. Its memory is the limit too.
type ContainerSizing struct {
	Name      string `json:"name"`
	CPU       string `json:"cpu"`
	CPUWhy    string `json:"cpuWhy"`
	Memory    string `json:"memory"`
	MemoryWhy string `json:"memoryWhy"`
	// asks is what it asks for in the pods that run, as CPU and memory.
	// +optional
	Asks string `json:"asks,omitempty"`
	// history is what was measured, for an operator that starts anew.
	// +optional
	History string `json:"history,omitempty"`
}

// CertificateState is what is known of the certificate of a host.
type CertificateState struct {
	Host string `json:"host"`
	// state is Valid, Ending, Ended, WrongName or Unknown.
	State string `json:"state"`
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
	// message says what is wrong, and what to do.
	// +optional
	Message string `json:"message,omitempty"`
}

// Setting is a setting, and why it is that.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// +optional
	Why string `json:"why,omitempty"`
	// assumed says that it rests on something that nobody measured.
	// +optional
	Assumed bool `json:"assumed,omitempty"`
}

// Object is one that was made.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	// hash is of what was applied, fields of what the server then held as applied: while both stay, nothing has to be written.
	// +optional
	Hash string `json:"hash,omitempty"`
	// +optional
	Fields string `json:"fields,omitempty"`
}
