package inventory

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const (
	gatewayGroup    = "gateway.networking.k8s.io"
	networkingGroup = "networking.k8s.io"
	rbacGroup       = "rbac.authorization.k8s.io"
	extensionsGroup = "extensions"
)

// kind is one that has a Go type here.
type kind struct {
	group, kind string
	// resource is its name in the API's paths.
	resource string
	// version is today's; same are others of the same shape, which are read as it.
	version string
	same    []string
	// old are versions of another shape, with what makes today's of them.
	old        map[string]func(*node)
	namespaced bool
	make       func() Content
}

// kinds are all that have a Go type.
func kinds() []kind {
	const (
		inNamespace = true
		inCluster   = false
	)
	return []kind{
		{"apps", "Deployment", "deployments", "v1", []string{"v1beta1", "v1beta2"}, nil, inNamespace, func() Content { return &appsv1.Deployment{} }},
		{"apps", "StatefulSet", "statefulsets", "v1", []string{"v1beta1", "v1beta2"}, nil, inNamespace, func() Content { return &appsv1.StatefulSet{} }},
		{"apps", "DaemonSet", "daemonsets", "v1", []string{"v1beta1", "v1beta2"}, nil, inNamespace, func() Content { return &appsv1.DaemonSet{} }},
		{"apps", "ReplicaSet", "replicasets", "v1", []string{"v1beta1", "v1beta2"}, nil, inNamespace, func() Content { return &appsv1.ReplicaSet{} }},
		{"batch", "Job", "jobs", "v1", nil, nil, inNamespace, func() Content { return &batchv1.Job{} }},
		{"batch", "CronJob", "cronjobs", "v1", []string{"v1beta1", "v2alpha1"}, nil, inNamespace, func() Content { return &batchv1.CronJob{} }},
		{"", "Pod", "pods", "v1", nil, nil, inNamespace, func() Content { return &corev1.Pod{} }},
		{"", "ReplicationController", "replicationcontrollers", "v1", nil, nil, inNamespace, func() Content { return &corev1.ReplicationController{} }},
		{"", "Service", "services", "v1", nil, nil, inNamespace, func() Content { return &corev1.Service{} }},
		{"", "Endpoints", "endpoints", "v1", nil, nil, inNamespace, func() Content { return &corev1.Endpoints{} }}, //nolint:staticcheck // what old deployments have
		{"", "ConfigMap", "configmaps", "v1", nil, nil, inNamespace, func() Content { return &corev1.ConfigMap{} }},
		{"", "Secret", "secrets", "v1", nil, nil, inNamespace, func() Content { return &corev1.Secret{} }},
		{"", "ServiceAccount", "serviceaccounts", "v1", nil, nil, inNamespace, func() Content { return &corev1.ServiceAccount{} }},
		{"", "PersistentVolumeClaim", "persistentvolumeclaims", "v1", nil, nil, inNamespace, func() Content { return &corev1.PersistentVolumeClaim{} }},
		{"", "PersistentVolume", "persistentvolumes", "v1", nil, nil, inCluster, func() Content { return &corev1.PersistentVolume{} }},
		{"", "Namespace", "namespaces", "v1", nil, nil, inCluster, func() Content { return &corev1.Namespace{} }},
		{"", "Node", "nodes", "v1", nil, nil, inCluster, func() Content { return &corev1.Node{} }},
		{"", "LimitRange", "limitranges", "v1", nil, nil, inNamespace, func() Content { return &corev1.LimitRange{} }},
		{"", "ResourceQuota", "resourcequotas", "v1", nil, nil, inNamespace, func() Content { return &corev1.ResourceQuota{} }},
		{"discovery.k8s.io", "EndpointSlice", "endpointslices", "v1", []string{"v1beta1"}, nil, inNamespace, func() Content { return &discoveryv1.EndpointSlice{} }},
		{networkingGroup, "Ingress", "ingresses", "v1", nil, map[string]func(*node){"v1beta1": ingressV1}, inNamespace, func() Content { return &networkingv1.Ingress{} }},
		{networkingGroup, "IngressClass", "ingressclasses", "v1", []string{"v1beta1"}, nil, inCluster, func() Content { return &networkingv1.IngressClass{} }},
		{networkingGroup, "NetworkPolicy", "networkpolicies", "v1", []string{"v1beta1"}, nil, inNamespace, func() Content { return &networkingv1.NetworkPolicy{} }},
		{"autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "v2", []string{"v2beta2"},
			map[string]func(*node){"v1": scalerV2, "v2beta1": scalerV2}, inNamespace, func() Content { return &autoscalingv2.HorizontalPodAutoscaler{} }},
		{"policy", "PodDisruptionBudget", "poddisruptionbudgets", "v1", []string{"v1beta1"}, nil, inNamespace, func() Content { return &policyv1.PodDisruptionBudget{} }},
		{rbacGroup, "Role", "roles", "v1", []string{"v1beta1", "v1alpha1"}, nil, inNamespace, func() Content { return &rbacv1.Role{} }},
		{rbacGroup, "ClusterRole", "clusterroles", "v1", []string{"v1beta1", "v1alpha1"}, nil, inCluster, func() Content { return &rbacv1.ClusterRole{} }},
		{rbacGroup, "RoleBinding", "rolebindings", "v1", []string{"v1beta1", "v1alpha1"}, nil, inNamespace, func() Content { return &rbacv1.RoleBinding{} }},
		{rbacGroup, "ClusterRoleBinding", "clusterrolebindings", "v1", []string{"v1beta1", "v1alpha1"}, nil, inCluster, func() Content { return &rbacv1.ClusterRoleBinding{} }},
		{"storage.k8s.io", "StorageClass", "storageclasses", "v1", []string{"v1beta1"}, nil, inCluster, func() Content { return &storagev1.StorageClass{} }},
		{"scheduling.k8s.io", "PriorityClass", "priorityclasses", "v1", []string{"v1beta1", "v1alpha1"}, nil, inCluster, func() Content { return &schedulingv1.PriorityClass{} }},
		{gatewayGroup, "GatewayClass", "gatewayclasses", "v1", []string{"v1beta1", "v1alpha2"}, nil, inCluster, func() Content { return &gatewayv1.GatewayClass{} }},
		{gatewayGroup, "Gateway", "gateways", "v1", []string{"v1beta1", "v1alpha2"}, nil, inNamespace, func() Content { return &gatewayv1.Gateway{} }},
		{gatewayGroup, "HTTPRoute", "httproutes", "v1", []string{"v1beta1", "v1alpha2"}, nil, inNamespace, func() Content { return &gatewayv1.HTTPRoute{} }},
		{gatewayGroup, "GRPCRoute", "grpcroutes", "v1", []string{"v1alpha2"}, nil, inNamespace, func() Content { return &gatewayv1.GRPCRoute{} }},
		{gatewayGroup, "TLSRoute", "tlsroutes", "v1", []string{"v1alpha2", "v1alpha3"}, nil, inNamespace, func() Content { return &gatewayv1.TLSRoute{} }},
		{gatewayGroup, "TCPRoute", "tcproutes", "v1", []string{"v1alpha2"}, nil, inNamespace, func() Content { return &gatewayv1.TCPRoute{} }},
		{gatewayGroup, "UDPRoute", "udproutes", "v1", []string{"v1alpha2"}, nil, inNamespace, func() Content { return &gatewayv1.UDPRoute{} }},
		{gatewayGroup, "ReferenceGrant", "referencegrants", "v1", []string{"v1beta1", "v1alpha2"}, nil, inNamespace, func() Content { return &gatewayv1.ReferenceGrant{} }},
	}
}

// catalog finds a kind by its group and name.
type catalog map[[2]string]*kind

func newCatalog() catalog {
	c := catalog{}
	all := kinds()
	for i := range all {
		c[[2]string{all[i].group, all[i].kind}] = &all[i]
	}
	return c
}

// find gives the kind and its group as it is called today; the kind is nil if it has no Go type.
func (c catalog) find(apiVersion, name string) (k *kind, group, version string) {
	group, version, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group, version = "", apiVersion
	}
	if group == extensionsGroup {
		switch name {
		case "Deployment", "DaemonSet", "ReplicaSet":
			group = "apps"
		case "Ingress", "NetworkPolicy":
			group = networkingGroup
		}
	}
	return c[[2]string{group, name}], group, version
}

// ingressV1 makes networking.k8s.io/v1 of an Ingress of v1beta1.
func ingressV1(n *node) {
	spec := n.get("spec")
	backend(spec, "backend", "defaultBackend")
	rules := spec.get("rules")
	if rules == nil {
		return
	}
	for _, rule := range rules.kids {
		if paths := rule.at("http", "paths"); paths != nil {
			for _, p := range paths.kids {
				backend(p, "backend", "backend")
			}
		}
	}
}

func backend(in *node, from, to string) {
	b := in.get(from)
	name := b.get("serviceName")
	if name == nil {
		return
	}
	service := &node{form: mapping, line: b.line}
	service.add("name", name.line, name)
	if port := b.get("servicePort"); port != nil {
		p := &node{form: mapping, line: port.line}
		if port.form == text {
			p.add("name", port.line, port)
		} else {
			p.add("number", port.line, port)
		}
		service.add("port", port.line, p)
	}
	whole := &node{form: mapping, line: b.line}
	whole.add("service", b.line, service)
	in.remove(from)
	in.add(to, b.line, whole)
}

// scalerV2 makes autoscaling/v2 of a HorizontalPodAutoscaler of v1 or v2beta1.
func scalerV2(n *node) {
	spec := n.get("spec")
	if spec == nil || spec.form != mapping {
		return
	}
	if target := spec.get("targetCPUUtilizationPercentage"); target != nil {
		spec.remove("targetCPUUtilizationPercentage")
		metrics := &node{form: sequence, line: target.line, kids: []*node{resourceMetric("cpu", "averageUtilization", "Utilization", target)}}
		spec.add("metrics", target.line, metrics)
	}
	metrics := spec.get("metrics")
	if metrics == nil {
		return
	}
	for i, m := range metrics.kids {
		name := m.at("resource", "name").string()
		if t := m.at("resource", "targetAverageUtilization"); t != nil {
			metrics.kids[i] = resourceMetric(name, "averageUtilization", "Utilization", t)
		} else if t := m.at("resource", "targetAverageValue"); t != nil {
			metrics.kids[i] = resourceMetric(name, "averageValue", "AverageValue", t)
		}
	}
}

func resourceMetric(name, field, how string, value *node) *node {
	leaf := func(s string) *node { return &node{form: text, text: s, line: value.line} }
	object := func() *node { return &node{form: mapping, line: value.line} }
	target := object()
	target.add("type", value.line, leaf(how))
	target.add(field, value.line, value)
	resource := object()
	resource.add("name", value.line, leaf(name))
	resource.add("target", value.line, target)
	m := object()
	m.add("type", value.line, leaf("Resource"))
	m.add("resource", value.line, resource)
	return m
}
