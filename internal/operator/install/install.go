// Package install makes what puts the operator into a cluster: one file for kubectl, and a
// Helm chart, both of the same objects. What is in the repository of them is written by this
// package's tests, which fail where it is stale.
package install

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
	"dhow/deploy"
	"dhow/internal/operator/admit"
	"dhow/internal/operator/certificate"
	"dhow/internal/operator/render"
)

const (
	// Name is the operator's, and that of most of its objects.
	Name = "dhow-operator"
	// Namespace is where install.yaml puts it.
	Namespace = "dhow-system"
	// image is what somebody must replace by where he has pushed it.
	image = "dhow"

	webhookPort, metricsPort, healthPort = 9443, 8080, 8081
	// account is that of a program without rights, as the image has it.
	account = 65532
	// leaveTime is for how many seconds an operator that ends still answers, until the API servers have heard that it does.
	leaveTime = 5
	// webhookTimeout is for how many seconds the API server waits for an answer, which takes milliseconds.
	webhookTimeout = 2
	// policyHash is the annotation that starts the operator anew when its policy changes.
	policyHash = v1alpha1.Group + "/policy-hash"
	// defaultPolicy is what the operator is told where nobody says more.
	defaultPolicy = "namespace: " + Namespace
)

// Manifest is everything in one file: the namespace, the kinds, rights, and the operator.
func Manifest() ([]byte, error) {
	all, err := Objects()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("# The operator of dhow, installed by one `kubectl apply --server-side -f` of this file.\n# The image dhow is to be replaced by where you have pushed it.\n# " + made + "\n")
	for _, o := range all {
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("write %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	return b.Bytes(), nil
}

// Objects are those of the manifest, in the order in which they can be made.
func Objects() ([]*unstructured.Unstructured, error) {
	space, err := render.Plain(&corev1.Namespace{TypeMeta: typed("v1", "Namespace"), ObjectMeta: metav1.ObjectMeta{Name: Namespace, Labels: labelled("pod-security.kubernetes.io/enforce", "restricted")}})
	if err != nil {
		return nil, err
	}
	kinds, err := definitions()
	if err != nil {
		return nil, err
	}
	all, err := objects()
	if err != nil {
		return nil, err
	}
	return slices.Concat([]*unstructured.Unstructured{space}, kinds, all), nil
}

// definitions are the operator's own kinds.
func definitions() ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	files := deploy.Definitions()
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list the definitions: %w", err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read a definition: %w", err)
		}
		some, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("read the definition %s: %w", name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// parse reads YAML documents.
func parse(text []byte) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	documents := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		asJSON, err := yaml.YAMLToJSON(document)
		if err != nil {
			return nil, err
		}
		if string(asJSON) == "null" {
			continue // comments alone
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(asJSON); err != nil {
			return nil, err
		}
		all = append(all, o)
	}
}

func typed(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

// mine finds the operator's pods.
func mine() map[string]string { return map[string]string{"app.kubernetes.io/name": Name} }

// labelled are the labels of all objects, with more in pairs.
func labelled(more ...string) map[string]string {
	l := mine()
	for i := 0; i+1 < len(more); i += 2 {
		l[more[i]] = more[i+1]
	}
	return l
}

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: Namespace, Labels: labelled()}
}

func ofCluster(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: labelled()}
}

// objects are the operator's own, in the order in which they are made, without its namespace.
func objects() ([]*unstructured.Unstructured, error) {
	rights, err := deploy.Rights()
	if err != nil {
		return nil, err
	}
	roles, err := parse(rights)
	if err != nil {
		return nil, fmt.Errorf("read the operator's rights: %w", err)
	}
	subject := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: Name, Namespace: Namespace}}
	made := []any{
		&corev1.ServiceAccount{TypeMeta: typed("v1", "ServiceAccount"), ObjectMeta: named(Name)},
	}
	for _, r := range roles {
		r.SetLabels(labelled())
		made = append(made, r)
	}
	made = append(made,
		&rbacv1.ClusterRoleBinding{TypeMeta: typed("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"), ObjectMeta: ofCluster(Name), Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: Name}},
		&rbacv1.RoleBinding{TypeMeta: typed("rbac.authorization.k8s.io/v1", "RoleBinding"), ObjectMeta: named(Name), Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: Name}},
		&corev1.ConfigMap{TypeMeta: typed("v1", "ConfigMap"), ObjectMeta: named(Name), Data: map[string]string{"policy.yaml": defaultPolicy + "\n"}},
		// The operator fills it, and may make none.
		&corev1.ConfigMap{TypeMeta: typed("v1", "ConfigMap"), ObjectMeta: named(render.OrphanReport)},
		// The operator fills it: it may write no other, and make none.
		&corev1.Secret{TypeMeta: typed("v1", "Secret"), ObjectMeta: named(certificate.Secret), Type: corev1.SecretTypeOpaque},
		&corev1.Service{TypeMeta: typed("v1", "Service"), ObjectMeta: named(admit.Service), Spec: corev1.ServiceSpec{Selector: mine(), Ports: []corev1.ServicePort{{Name: "webhook", Port: 443, TargetPort: intstr.FromString("webhook"), Protocol: corev1.ProtocolTCP}}}},
		&policyv1.PodDisruptionBudget{TypeMeta: typed("policy/v1", "PodDisruptionBudget"), ObjectMeta: named(Name), Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: mine()}}},
		policy(),
		deployment(),
		hooks(),
	)
	all := make([]*unstructured.Unstructured, 0, len(made))
	for _, o := range made {
		u, err := render.Plain(o)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// policy lets the API servers ask, wherever they stand, and the cluster's pods read metrics,
// and nobody at anything else of the operators. Where they go is not bounded: nobody knows the
// API servers' addresses.
func policy() *networkingv1.NetworkPolicy {
	at := func(port int32) []networkingv1.NetworkPolicyPort {
		return []networkingv1.NetworkPolicyPort{{Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(intstr.FromInt32(port))}}
	}
	return &networkingv1.NetworkPolicy{TypeMeta: typed("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: named(Name), Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: mine()}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{
			{Ports: at(webhookPort)},
			{Ports: at(metricsPort), From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}},
		},
	}}
}

// deployment runs two operators, of which one works and both answer.
func deployment() *appsv1.Deployment {
	sum := sha256.Sum256([]byte(defaultPolicy))
	probe := func(path string, period int32) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("health")}}, PeriodSeconds: period}
	}
	spread := func(key string) corev1.TopologySpreadConstraint {
		return corev1.TopologySpreadConstraint{TopologyKey: key, MaxSkew: 1, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: &metav1.LabelSelector{MatchLabels: mine()}}
	}
	return &appsv1.Deployment{TypeMeta: typed("apps/v1", "Deployment"), ObjectMeta: named(Name), Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: mine()},
		// No operator ends before another has taken its place, so that there is always one that answers.
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: ptr.To(intstr.FromInt32(0)), MaxSurge: ptr.To(intstr.FromInt32(1))}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labelled(), Annotations: map[string]string{policyHash: hex.EncodeToString(sum[:])}}, Spec: corev1.PodSpec{
			ServiceAccountName: Name,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(int64(account)), RunAsGroup: ptr.To(int64(account)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			TopologySpreadConstraints: []corev1.TopologySpreadConstraint{spread(corev1.LabelTopologyZone), spread(corev1.LabelHostname)},
			Containers: []corev1.Container{{
				Name: "operator", Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
				Args:           []string{"operator", "--leader-elect", "--policy=/etc/dhow/policy.yaml", fmt.Sprintf("--metrics=:%d", metricsPort), fmt.Sprintf("--health=:%d", healthPort), "--log-format=json", "-v", fmt.Sprintf("--webhook=:%d", webhookPort)},
				Ports:          []corev1.ContainerPort{{Name: "webhook", ContainerPort: webhookPort, Protocol: corev1.ProtocolTCP}, {Name: "metrics", ContainerPort: metricsPort, Protocol: corev1.ProtocolTCP}, {Name: "health", ContainerPort: healthPort, Protocol: corev1.ProtocolTCP}},
				ReadinessProbe: probe("/readyz", 5), LivenessProbe: probe("/healthz", 20),
				Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: leaveTime}}},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("256Mi")},
					Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")}, // a limit of CPU would slow answers
				},
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
				VolumeMounts:    []corev1.VolumeMount{{Name: "policy", MountPath: "/etc/dhow", ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "policy", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: Name}}}}},
		}},
	}}
}

// hooks are how the API server asks for pods to be completed, and for their images to be held:
// two, for a namespace may want either. Where nobody answers, or not in time, a pod is let in as
// it is.
func hooks() *admissionregistrationv1.MutatingWebhookConfiguration {
	hook := func(name, path, label, on, off string) admissionregistrationv1.MutatingWebhook {
		return admissionregistrationv1.MutatingWebhook{
			Name: name, AdmissionReviewVersions: []string{"v1"}, TimeoutSeconds: ptr.To(int32(webhookTimeout)),
			FailurePolicy: ptr.To(admissionregistrationv1.Ignore), MatchPolicy: ptr.To(admissionregistrationv1.Equivalent),
			SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone), ReinvocationPolicy: ptr.To(admissionregistrationv1.IfNeededReinvocationPolicy),
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: Namespace, Name: admit.Service, Path: &path, Port: ptr.To(int32(443))}},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{label: on}},
			ObjectSelector:    &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: label, Operator: metav1.LabelSelectorOpNotIn, Values: []string{off}}}},
			Rules: []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule: admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}, Scope: ptr.To(admissionregistrationv1.NamespacedScope)}}},
		}
	}
	return &admissionregistrationv1.MutatingWebhookConfiguration{TypeMeta: typed("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"), ObjectMeta: ofCluster(admit.Configuration), Webhooks: []admissionregistrationv1.MutatingWebhook{
		hook(admit.Hook, admit.Path, render.GuardLabel, render.GuardOn, render.GuardOff),
		hook(admit.DigestsHook, admit.DigestsPath, admit.DigestsLabel, admit.DigestsPin, admit.DigestsOff),
	}}
}
