package pods

import (
	"fmt"
	"net"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// moveComponent is the label of the pod of the gate and the movers.
	moveComponent = "move"
	// GateContainer is the gate's container in it.
	GateContainer = "gate"
	// MoverContainer is the movers'.
	MoverContainer = "mover"
	// tokenDir is where Kubernetes' clients look for a pod's account.
	tokenDir = "/var/run/secrets/kubernetes.io/serviceaccount" //nolint:gosec // a folder's name
	// tokenSeconds is how long a token holds; the kubelet renews it in time.
	tokenSeconds = 3600
	// DefaultStorage is what the state takes: the journal, the reports, the sockets.
	DefaultStorage = "1Gi"
	// defaultPort is the Service's where the estate lets the system choose.
	defaultPort = 80
)

// Workload is the gate and the movers of an estate as one pod.
type Workload struct {
	// Place is where it runs. An empty ServiceAccount means one of its own.
	Place
	// Parts are the pods that help with the copies; 0 means none.
	Parts int
	// Storage is the size of the volume of the state, StorageClass its class, empty
	// for the cluster's default.
	Storage, StorageClass string
	// Volatile keeps the state with the pod rather than in a volume: it is lost with it.
	Volatile bool
	// NodePort serves the gate at the nodes' addresses too; 0 does not.
	NodePort int
}

func (w Workload) check() error {
	if w.Parts < 0 || w.Parts > MaxParts {
		return fmt.Errorf("%d parts of a copy: want 0 to %d", w.Parts, MaxParts)
	}
	return w.Place.check()
}

// account is the service account of the pod.
func (p *Pack) account(w Workload) string {
	if w.ServiceAccount != "" {
		return w.ServiceAccount
	}
	return Name(p.estate)
}

// Objects are all but the pack's Secret, which is called like the estate's other
// objects (Name) and has to be there first. The gate and the movers are one pod: they
// share the folder of the state, with its sockets and the journal, and the pod is
// never there twice.
func (p *Pack) Objects(w Workload) ([]runtime.Object, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	if w.Storage == "" {
		w.Storage = DefaultStorage
	}
	var all []runtime.Object
	if w.ServiceAccount == "" {
		all = append(all, &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: meta(p.estate, Name(p.estate), w.Namespace, ""), AutomountServiceAccountToken: new(false)})
	}
	if w.Parts > 0 {
		all = append(all, p.rights(w)...)
	}
	if !w.Volatile {
		claim, err := p.claim(w)
		if err != nil {
			return nil, err
		}
		all = append(all, claim)
	}
	all = append(all, p.policy(w))
	if p.estate.Gate != nil {
		service, err := p.service(w)
		if err != nil {
			return nil, err
		}
		all = append(all, service)
	}
	return append(all, p.deployment(w)), nil
}

// rights are what the movers need to spread a copy: their own Job and its Secret, by
// name, and a look at the namespace's pods. Who may create a Job may have its pods
// read any Secret of the namespace: so the namespace should be dhow's alone.
func (p *Pack) rights(w Workload) []runtime.Object {
	name := p.JobName()
	return []runtime.Object{
		&rbacv1.Role{TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"}, ObjectMeta: meta(p.estate, name, w.Namespace, ""), Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"create"}}, // which knows no names
			{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"get", "patch", "delete"}, ResourceNames: []string{name}},
			{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"create"}},
			{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"patch", "delete"}, ResourceNames: []string{name}},
			{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
		}},
		&rbacv1.RoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding"}, ObjectMeta: meta(p.estate, name, w.Namespace, ""),
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: p.account(w), Namespace: w.Namespace}},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}},
	}
}

func (p *Pack) claim(w Workload) (*corev1.PersistentVolumeClaim, error) {
	size, err := parseQuantity(w.Storage)
	if err != nil {
		return nil, err
	}
	c := &corev1.PersistentVolumeClaim{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: meta(p.estate, Name(p.estate), w.Namespace, moveComponent),
		Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: size}}}}
	if w.StorageClass != "" {
		c.Spec.StorageClassName = new(w.StorageClass)
	}
	return c, nil
}

// policy lets clients at the gate and the namespaces of the cluster at its metrics,
// and nobody at anything else of dhow's pods.
func (p *Pack) policy(w Workload) *networkingv1.NetworkPolicy {
	at := func(port int) []networkingv1.NetworkPolicyPort {
		return []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(int32(port)))}}
	}
	n := &networkingv1.NetworkPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: meta(p.estate, Name(p.estate), w.Namespace, ""),
		Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: choosing(p.estate, "")}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}}}
	if p.estate.Gate != nil {
		n.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{
			{Ports: at(gatePort)},
			{Ports: at(metricsPort), From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}},
		}
	}
	return n
}

// service serves the gate at the port that the estate names.
func (p *Pack) service(w Workload) (*corev1.Service, error) {
	_, text, err := net.SplitHostPort(p.estate.Gate.Listen)
	if err != nil {
		return nil, fmt.Errorf("read gate.listen: %w", err)
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read gate.listen: %w", err)
	}
	if port == 0 {
		port = defaultPort
	}
	s := &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: meta(p.estate, Name(p.estate), w.Namespace, moveComponent),
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: choosing(p.estate, moveComponent),
			Ports: []corev1.ServicePort{{Name: "http", Port: int32(port), TargetPort: intstr.FromString("http")}}}}
	if w.NodePort != 0 {
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, int32(w.NodePort)
	}
	return s, nil
}

func (p *Pack) deployment(w Workload) *appsv1.Deployment {
	name := Name(p.estate)
	state := corev1.Volume{Name: "state", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}
	if w.Volatile {
		state.VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: quantity(DefaultStorage)}}
	}
	pod := corev1.PodSpec{
		ServiceAccountName:            p.account(w),
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		TerminationGracePeriodSeconds: new(int64(graceSeconds)),
		SecurityContext:               podSecurity(),
		Volumes:                       []corev1.Volume{estateVolume(name), state, scratchVolume()},
	}
	if p.estate.Gate != nil {
		pod.Containers = append(pod.Containers, p.gate(w))
		pod.Volumes = append(pod.Volumes, p.gateVolume())
	}
	pod.Containers = append(pod.Containers, p.mover(w))
	if w.Parts > 0 {
		pod.Volumes = append(pod.Volumes, tokenVolume())
	}
	return &appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: meta(p.estate, name, w.Namespace, moveComponent),
		Spec: appsv1.DeploymentSpec{
			// Two gates would switch at two moments, and two movers can not own one move.
			Replicas: new(int32(1)), Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Selector: &metav1.LabelSelector{MatchLabels: choosing(p.estate, moveComponent)},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels(p.estate, moveComponent)}, Spec: pod},
		}}
}

// dhow is a container that runs a command of dhow on the estate.
func (p *Pack) dhow(w Workload, name string, resources corev1.ResourceRequirements, args ...string) corev1.Container {
	return corev1.Container{
		Name: name, Image: w.Image, ImagePullPolicy: corev1.PullIfNotPresent,
		Args:                     append(args, "--file", EstateFile, "--output", "json", "--log-format", "json", "--verbose"),
		Env:                      []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: memoryTarget}},
		Resources:                resources,
		SecurityContext:          containerSecurity(),
		VolumeMounts:             []corev1.VolumeMount{estateMount(), {Name: "state", MountPath: stateDir}, scratchMount()},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

func (p *Pack) gate(w Workload) corev1.Container {
	c := p.dhow(w, GateContainer, takes(gateCPU, gateCPULimit, gateMemory, gateMemoryLimit), "gate")
	c.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: gatePort}, {Name: "metrics", ContainerPort: metricsPort}}
	c.VolumeMounts[0].Name = "routes"
	// It answers once clients are served. There is no liveness probe: a gate that is
	// slow to answer still holds the requests of clients, and restarting it fails them.
	c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("metrics")}},
		PeriodSeconds: 2, TimeoutSeconds: 2, FailureThreshold: 10}
	return c
}

// gateVolume holds what the gate needs of the pack: no credential of a database.
func (p *Pack) gateVolume() corev1.Volume {
	v := estateVolume(Name(p.estate))
	v.Name = "routes"
	for _, key := range []string{estateKey, gateToken} {
		if _, packed := p.files[key]; packed {
			v.Secret.Items = append(v.Secret.Items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	return v
}

func (p *Pack) mover(w Workload) corev1.Container {
	args := []string{"replicate", "--forever"}
	if w.Parts > 0 {
		args = append(args, "--job", strconv.Itoa(w.Parts), "--image", w.Image, "--namespace", w.Namespace, "--service-account", p.account(w))
	}
	c := p.dhow(w, MoverContainer, takes(moverCPU, moverCPULimit, moverMemory, moverMemoryLimit), args...)
	if w.Parts > 0 {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "token", MountPath: tokenDir, ReadOnly: true})
	}
	return c
}

// tokenVolume is what Kubernetes would mount into every container by itself; the
// movers alone need it.
func tokenVolume() corev1.Volume {
	return corev1.Volume{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: new(int32(secretMode)), Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(tokenSeconds))}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
	}}}}
}
