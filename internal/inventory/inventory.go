// Package inventory knows what really runs at the source: every object of a cluster,
// read from a live API server, from manifests (files, folders, charts, kustomizations,
// Compose files) or from both, and what follows from them: workloads in one form
// whatever their kind, which Service leads to which pods, who uses which ConfigMap,
// Secret and volume, images, databases, who calls whom, and what is used.
//
// It reads and relates; it does not judge. What is wrong is for package assess to say,
// what to do about it for package plan. It changes nothing, neither in files nor in
// clusters. What could not be read is a Problem, never the end: the rest is still there.
//
// No secret leaves this package. Values of Secrets are dropped the moment they are
// read. Where a password or a key stands in the open, in a ConfigMap, a variable, an
// argument or a file, it is replaced by Masked as the object is read, and listed in
// Inventory.Plain. So any text of an Inventory may be printed.
package inventory

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Masked stands where a secret stood. It is such that a connection string is still one.
const Masked = "MASKED"

// DefaultNamespace is where manifests put what names no namespace, as `kubectl apply` does.
const DefaultNamespace = metav1.NamespaceDefault

// KindCompose is the kind of a workload that is a service of a Compose file.
const KindCompose = "Compose"

// Ref names an object. It is comparable, so it is a key of maps.
type Ref struct {
	// Group is the API group, "" for core and for Compose: "apps", "gateway.networking.k8s.io".
	// Old groups are written as today's: "extensions" of a Deployment is "apps".
	Group string `json:"group,omitempty"`
	Kind  string `json:"kind"`
	// Namespace is "" for what is in none.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is KIND/NAMESPACE/NAME, or KIND/NAME without a namespace.
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + "/" + r.Name
	}
	return r.Kind + "/" + r.Namespace + "/" + r.Name
}

// Content is an object as Go knows it: a type of k8s.io/api or of sigs.k8s.io/gateway-api,
// or *unstructured.Unstructured for every other kind (the load balancer controller's
// own too) and for Compose services.
type Content interface {
	metav1.Object
	runtime.Object
}

// Object is one object, typed, and where it was read.
type Object struct {
	Ref
	// APIVersion is as written, also an old one: the content is today's type all the same.
	APIVersion string
	// Content is as written: no defaults are filled in but those that a live server
	// filled in. It is shared: change a DeepCopy. A Secret has its keys, each with an
	// empty value, in Data and StringData; those of a live cluster may lack, see KeysKnown.
	Content Content
	Source  Source
	// Live is the same object of the cluster where Content is of the files, else nil.
	Live Content
	// KeysKnown says of a Secret that Data has all of its keys; where they could not be
	// read, Data has those that something refers to.
	KeysKnown bool
}

// Source is where an object was read.
type Source struct {
	// File is the path as given or found below a path that was given; "" if the object
	// was only in a cluster. For a chart it is the template's, for a kustomization
	// the kustomization.yaml if the resource's own file is not known.
	File string
	// Line is where the object begins, from 1, and 0 if that is not known. In a chart it
	// is the line of the text that the template gave.
	Line int
	// Rendered says that the file is a template and lines are those of its output.
	Rendered bool
	// Context is the kubeconfig's, if the object was read from a cluster; of a merged
	// Inventory both File and Context may be set.
	Context string

	lines []lineAt // sorted by hash
}

// Inventory is all that was found. It is complete and no longer changes once a reader or
// Merge has returned it, but for what package inquire learns of databases right after; it
// may be read from several goroutines. All slices are sorted.
type Inventory struct {
	// Objects are sorted by group, kind, namespace and name.
	Objects []*Object
	// Workloads are what makes pods, without those that another makes: a Deployment but not
	// its ReplicaSet, a CronJob but not its Jobs, and a Pod that nobody owns.
	Workloads []*Workload
	Services  []*Service
	// Uses are all references to ConfigMaps, Secrets, claims, accounts and classes.
	Uses []Use
	// Images are all that containers name, each once.
	Images []Image
	// Databases are those that something connects to or that run in the cluster.
	Databases []Database
	// Calls are who calls whom, as far as settings tell.
	Calls []Call
	// Plain are the secrets that stood in the open.
	Plain []PlainSecret
	// Files are those beside the manifests that are not of Kubernetes but tell how
	// the application is reached: the configuration of proxies above all.
	Files []File
	// Pods are those of a live cluster. Among Objects are only the pods that nobody owns,
	// and no ReplicaSet that a Deployment made.
	Pods []Pod
	// Usage is of each container of each workload, from metrics; empty without.
	Usage []Usage
	// History says where requests of the past are kept, nil if nowhere that is known.
	History *History
	// Drift is where files and cluster differ; only Merge finds any.
	Drift []Drift
	// Problems are what could not be read or looks unlike what was meant.
	Problems []Problem
	// Partial says that something could not be read: see the Problems with Lost.
	Partial bool
	// Cluster is nil unless a live cluster was read.
	Cluster *Cluster

	index index
}

// Cluster is what a live API server says of itself.
type Cluster struct {
	Context string `json:"context"`
	// Version is such as v1.34.2, Platform such as linux/amd64.
	Version  string `json:"version"`
	Platform string `json:"platform,omitempty"`
	// Provider is guessed from the nodes' provider ids: aws, gce, azure, kind, or "".
	Provider string `json:"provider,omitempty"`
	// Read is when.
	Read time.Time `json:"read"`
	// Unread are the resources, as GROUP/RESOURCE, that were not allowed or did not answer:
	// of these nothing may be concluded from an absence.
	Unread []string `json:"unread,omitempty"`
}

// Workload is whatever makes pods, in one form.
type Workload struct {
	// Ref's Kind is Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController,
	// Job, CronJob, Pod or Compose.
	Ref
	Object *Object
	// Replicas is how many pods are wanted: 1 where a file says nothing, a Job's
	// parallelism, and a DaemonSet's number of nodes if the cluster is live, else 1.
	Replicas int32
	// ReplicasSet says that the manifest named the number.
	ReplicasSet bool
	// Serves says that its pods are always there: false for Jobs and CronJobs.
	Serves bool
	// Selector is nil for a Pod and a Compose service.
	Selector *metav1.LabelSelector
	// Template is never nil. Its labels are the pods'.
	Template *corev1.PodTemplateSpec
	// MetaPath and SpecPath are the fields of the pods' metadata and specification:
	// "spec.template.metadata" and "spec.template.spec" for most.
	MetaPath, SpecPath string
	// Containers are the init containers first, then the others, as they stand.
	Containers []Container

	// Services select its pods; Scalers and Budgets are HorizontalPodAutoscalers and
	// PodDisruptionBudgets that name or select it; Policies are NetworkPolicies that do.
	Services []*Service
	Scalers  []*Object
	Budgets  []*Object
	Policies []*Object
	// Pods are of a live cluster.
	Pods []Pod
	// Digests are those that run, by the container's name, sorted: "sha256:...". Live only.
	Digests map[string][]string
}

// Container is a container of a workload.
type Container struct {
	*corev1.Container
	// Path is its field, such as spec.template.spec.containers[0].
	Path string
	// Init says that it ends before the others start; a sidecar (an init container that
	// is restarted always) is not.
	Init, Sidecar bool
	Image         Image
	// Env is what the process gets, from the container's own env and from ConfigMaps
	// and Secrets, in the order in which Kubernetes sets it, each name once, $(NAME) filled in.
	Env []Setting
	// Usage is nil without metrics.
	Usage *Usage
}

// Setting is a variable of an environment.
type Setting struct {
	Name string `json:"name"`
	// Value is "" where a Secret or the pod's own fields give it. Secrets in it are masked.
	Value string `json:"value,omitempty"`
	// Object and Path are where the value stands: the workload's own field, or a key of a
	// ConfigMap or a Secret.
	Object Ref    `json:"object"`
	Path   string `json:"path"`
	// Secret is the Secret that gives it, and Key which of its keys.
	Secret *Ref   `json:"secret,omitempty"`
	Key    string `json:"key,omitempty"`
}

// Service is a Service with what it leads to.
type Service struct {
	*corev1.Service
	Object *Object
	// Workloads are those whose pods its selector matches; empty without a selector.
	Workloads []*Workload
	// Endpoints are of EndpointSlices and Endpoints, from the cluster or from files.
	Endpoints []Endpoint
	// EndpointsKnown says that Endpoints were read, so that none means none.
	EndpointsKnown bool
}

// Endpoint is one address behind a Service.
type Endpoint struct {
	Address string `json:"address"`
	Ready   bool   `json:"ready"`
	Zone    string `json:"zone,omitempty"`
	Node    string `json:"node,omitempty"`
	// Ports are those of its slice.
	Ports []int32 `json:"ports,omitempty"`
	// Pod is the pod's, if it is one.
	Pod *Ref `json:"pod,omitempty"`
	// From is the EndpointSlice or Endpoints object.
	From Ref `json:"from"`
}

// Use is one reference from an object to another.
type Use struct {
	// By is the workload, or the Ingress, Gateway, ServiceAccount, claim or other object; Path its field.
	By   Ref    `json:"by"`
	Path string `json:"path"`
	// Of is what it refers to; its Kind is ConfigMap, Secret, PersistentVolumeClaim,
	// ServiceAccount, StorageClass, PriorityClass, IngressClass, Service or a scaler's target.
	Of Ref `json:"of"`
	// Key is the key of a ConfigMap or Secret, "" for all.
	Key string `json:"key,omitempty"`
	// Optional says that it may be missing.
	Optional bool `json:"optional,omitempty"`
	// Found says that the object is in the inventory, and the key if one is named and keys are known.
	Found bool `json:"found"`
}

// Image is a container image's name in its parts.
type Image struct {
	// Text is as written.
	Text string `json:"text"`
	// Registry is such as docker.io, Repository such as library/nginx: with what is implied.
	Registry   string `json:"registry"`
	Repository string `json:"repository"`
	// Tag and Digest are "" where not written: Tag is then latest by implication.
	Tag    string `json:"tag,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Uses are the fields that name it, only in Inventory.Images.
	Uses []Place `json:"uses,omitempty"`
	// Running are the digests that pods run under this name, live only.
	Running []string `json:"running,omitempty"`
}

// Place is a field of an object.
type Place struct {
	Object Ref    `json:"object"`
	Path   string `json:"path"`
}

// Engine is a kind of database.
type Engine string

// The engines that are known by their images, ports and connection strings.
const (
	PostgreSQL    Engine = "postgresql"
	MySQL         Engine = "mysql"
	MariaDB       Engine = "mariadb"
	Redis         Engine = "redis" // Valkey too
	MongoDB       Engine = "mongodb"
	SQLServer     Engine = "sqlserver"
	Oracle        Engine = "oracle"
	Cassandra     Engine = "cassandra"
	Elasticsearch Engine = "elasticsearch" // OpenSearch too
	Memcached     Engine = "memcached"
	Kafka         Engine = "kafka"
	RabbitMQ      Engine = "rabbitmq"
	NATS          Engine = "nats"
	Etcd          Engine = "etcd"
)

// Database is one database of one server, as those who use it name it.
type Database struct {
	Engine Engine `json:"engine"`
	// Host is as named, a DNS name or an address; "" if only the server's image is known.
	Host string `json:"host,omitempty"`
	// Port is the engine's own where none is named.
	Port int `json:"port,omitempty"`
	// Name is the database's, Redis' number too, "" if not named.
	Name string `json:"name,omitempty"`
	// User is "" if not named, or if it comes from a Secret.
	User string `json:"user,omitempty"`
	// Encryption is what the string says: its sslmode, "tls" for rediss://, or "" if it says nothing.
	Encryption string `json:"encryption,omitempty"`
	// PlainPassword says that the password stood in the open.
	PlainPassword bool `json:"plainPassword,omitempty"`
	// Server is the Workload that runs it in the cluster, nil if it runs elsewhere.
	Server *Ref `json:"server,omitempty"`
	// Service is the Service through which it is reached, nil if by an address or foreign name.
	Service *Ref `json:"service,omitempty"`
	// Secret is the Secret that has the connection string or the password, nil if none is
	// known; SecretKey is which of its keys, "" if that is not known.
	Secret    *Ref   `json:"secret,omitempty"`
	SecretKey string `json:"secretKey,omitempty"`
	// Managed is the provider's product if the name tells: rds, aurora, elasticache,
	// memorydb, documentdb, cloudsql, azure, or "". Region is the provider's if the name tells.
	Managed string `json:"managed,omitempty"`
	Region  string `json:"region,omitempty"`
	// Clients are the workloads that connect, sorted.
	Clients []Ref `json:"clients,omitempty"`
	// Evidence is where it was found, sorted.
	Evidence []Evidence `json:"evidence"`
	// Answers is what its server said of itself, nil unless it was asked: see package inquire.
	Answers *Answers `json:"answers,omitempty"`
}

// Answers is what a database's server says of itself. What it did not say, or what the user
// who asked may not see, is 0 or "".
type Answers struct {
	// Product is PostgreSQL, MariaDB, MySQL, Redis or Valkey, Version such as 15.18.
	Product string `json:"product"`
	Version string `json:"version"`
	// Bytes is what the data takes: on disk, or of Redis in memory. Items are its tables, or
	// of Redis its keys. Both are of the database that is named, and of the whole server if
	// none is, or if it is Redis.
	Bytes int64 `json:"bytes"`
	Items int64 `json:"items"`
	// Extensions are those of PostgreSQL with their versions, the plugins and the storage
	// engines in use of MariaDB beside its own, and Redis' modules; sorted.
	Extensions []string `json:"extensions,omitempty"`
	// Connections are open at the time, and MaxConnections may be.
	Connections    int `json:"connections"`
	MaxConnections int `json:"maxConnections,omitempty"`
	// PerSecond is how many transactions (PostgreSQL), statements (MariaDB) or commands
	// (Redis) it served a second, on average over Over.
	PerSecond float64       `json:"perSecond"`
	Over      time.Duration `json:"over"`
	// Replicas are those that follow it; Replica says that it follows another itself.
	Replicas int  `json:"replicas,omitempty"`
	Replica  bool `json:"replica,omitempty"`
}

// Evidence is what told something, and where it stands.
type Evidence struct {
	// By is how: one of the By constants.
	By     By     `json:"by"`
	Object Ref    `json:"object"`
	Path   string `json:"path"`
	// Text is the value with secrets masked, shortened to maxEvidence bytes.
	Text string `json:"text,omitempty"`
	// File and Line are the object's field in a file, if it was read from one.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// By is a way of finding out.
type By string

// The ways of finding out.
const (
	ByImage       By = "image"
	ByEnvironment By = "environment"
	ByArgument    By = "argument"
	ByConfigMap   By = "configmap"
	ByPolicy      By = "networkpolicy"
	ByService     By = "service"
	ByRoute       By = "route"  // an Ingress or Gateway API route leads there
	ByFile        By = "file"   // a file beside the manifests
	ByEstate      By = "estate" // the estate file names it
)

// Call is that one workload calls another, or a host outside.
type Call struct {
	// From is a workload; an Ingress, Gateway API route or file may stand there for
	// what comes from outside.
	From Ref `json:"from"`
	// To is the workload that is called, nil if it is not in the inventory.
	To *Ref `json:"to,omitempty"`
	// Service is the Service on the way, nil if there is none.
	Service *Ref `json:"service,omitempty"`
	// Host and Port are as named; Port is 0 if not named. Scheme may be "".
	Host   string `json:"host,omitempty"`
	Port   int    `json:"port,omitempty"`
	Scheme string `json:"scheme,omitempty"`
	// NodeAddress says that the host is a node's address, or that the port is a Service's node port.
	NodeAddress bool `json:"nodeAddress,omitempty"`
	// Allowed says that there is only a NetworkPolicy that lets it, which is no proof of a call.
	Allowed  bool       `json:"allowed,omitempty"`
	Evidence []Evidence `json:"evidence"`
}

// PlainSecret is a secret that stood in the open and has been masked.
type PlainSecret struct {
	// Object is the ConfigMap, workload or other object; its zero value if it stood in File.
	Object Ref    `json:"object,omitzero"`
	Path   string `json:"path,omitempty"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	// Context is the cluster's, if it was found there.
	Context string `json:"context,omitempty"`
	// What is one of the What constants.
	What What `json:"what"`
	// Name is the variable's, key's or argument's.
	Name string `json:"name,omitempty"`
	// Same is equal for equal secrets of this run, and says nothing of the secret:
	// it is a hash with a key that is thrown away.
	Same string `json:"-"`

	in *Object // nil if it stood in a file
}

// What is a kind of plain secret.
type What string

// What kinds of plain secrets there are.
const (
	PasswordInURL   What = "password in a connection string"
	SecretByName    What = "value of a setting that is named like a secret" //nolint:gosec // a kind of finding
	KeyMaterial     What = "private key"
	TokenByForm     What = "token of a known form"
	SecretInFile    What = "value of a Secret in a manifest" //nolint:gosec // a kind of finding
	SecretInHistory What = "copy in the last-applied annotation"
)

// File is a file that is not of Kubernetes.
type File struct {
	Path string `json:"path"`
	// Kind is nginx, haproxy, envoy, caddy, apache, traefik, dockerfile, env, systemd or "".
	Kind string `json:"kind,omitempty"`
	// Text has its secrets masked, lines stay lines.
	Text string `json:"text"`
	// Object and Field are set if the text is a key of a ConfigMap rather than a file.
	Object *Ref   `json:"object,omitempty"`
	Field  string `json:"field,omitempty"`
}

// Pod is a pod of a live cluster.
type Pod struct {
	Ref
	// Owner is the Workload at the top of the chain of owners; the pod's own Ref if nobody owns it.
	Owner Ref    `json:"owner"`
	Phase string `json:"phase"`
	Ready bool   `json:"ready"`
	Node  string `json:"node,omitempty"`
	// Created is when; Age is since then, as of the reading.
	Created    time.Time        `json:"created"`
	Age        time.Duration    `json:"age"`
	Reason     string           `json:"reason,omitempty"` // why it is not running: Evicted, Unschedulable
	Containers []ContainerState `json:"containers,omitempty"`
}

// ContainerState is a container of a live pod.
type ContainerState struct {
	Name     string `json:"name"`
	Ready    bool   `json:"ready"`
	Restarts int32  `json:"restarts"`
	// Waiting is the reason, such as CrashLoopBackOff or ImagePullBackOff.
	Waiting string `json:"waiting,omitempty"`
	// LastEnd is why it last ended, such as OOMKilled or Error, with its exit code.
	LastEnd  string    `json:"lastEnd,omitempty"`
	LastExit int32     `json:"lastExit,omitempty"`
	LastAt   time.Time `json:"lastAt,omitzero"`
	OOM      bool      `json:"oom,omitempty"`
	// Digest is the image's that runs, "sha256:...".
	Digest string `json:"digest,omitempty"`
}

// Usage is what the containers of one name of a workload take, over its pods.
type Usage struct {
	Workload  Ref    `json:"workload"`
	Container string `json:"container"`
	// CPU is in cores and Memory in bytes, of one container.
	CPU    Quantiles `json:"cpu"`
	Memory Quantiles `json:"memory"`
	// Samples is how many values that is; with the metrics API one for each pod.
	Samples int `json:"samples"`
	// From and To is the time they are of; the same with the metrics API.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Source is "metrics API" or "Prometheus".
	Source string `json:"source"`
}

// Quantiles are of samples; with few samples the high ones are the maximum.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// History is where the requests of the past are kept.
type History struct {
	// Kind is "prometheus" or "file"; At is its URL, without a password, or path.
	Kind string `json:"kind"`
	At   string `json:"at"`
	// Metric is that which counts requests, if one was found.
	Metric string `json:"metric,omitempty"`
}

// Drift is a difference between files and cluster.
type Drift struct {
	Object Ref `json:"object"`
	// Path is the field; "" if the whole object is only on one side.
	Path string `json:"path,omitempty"`
	// Only is "files" or "cluster" if the object, or the field, is only there.
	Only string `json:"only,omitempty"`
	// Files and Cluster are the values as JSON, shortened, secrets masked.
	Files   string `json:"files,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	// File and Line are the field's in the file.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// Problem is something that could not be read, or not as it was meant.
type Problem struct {
	// File and Line are where; Line is 0 if it is the whole file. For a cluster, File is
	// "" and Context is set.
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Context string `json:"context,omitempty"`
	// Object is what it is about, if that is known.
	Object *Ref `json:"object,omitempty"`
	// What is what is the matter, Do what to do about it; both start in lower case.
	What string `json:"what"`
	Do   string `json:"do,omitempty"`
	// Lost says that something was not read because of it.
	Lost bool `json:"lost"`
}

// String is "place: object: what; do".
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += ":" + itoa(p.Line)
	}
	if p.File == "" && p.Context != "" {
		s = "cluster " + p.Context
	}
	if p.Object != nil {
		s = join(s, p.Object.String())
	}
	s = join(s, p.What)
	if p.Do != "" {
		s += "; " + p.Do
	}
	return s
}
