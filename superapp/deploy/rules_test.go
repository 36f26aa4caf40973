package deploy

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// cluster is what a deployment makes.
type cluster struct {
	namespaces  []*corev1.Namespace
	deployments []*appsv1.Deployment
	cronJobs    []*batchv1.CronJob
	jobs        []*batchv1.Job
	services    []*corev1.Service
	endpoints   []*corev1.Endpoints //nolint:staticcheck // what the old deployment has
	configMaps  []*corev1.ConfigMap
	secrets     []*corev1.Secret
	accounts    []*corev1.ServiceAccount
	claims      []*corev1.PersistentVolumeClaim
	quotas      []*corev1.ResourceQuota
	ranges      []*corev1.LimitRange
	bindings    []*rbacv1.ClusterRoleBinding
	roles       []*rbacv1.Role
	roleBinds   []*rbacv1.RoleBinding
	scalers     []*autoscalingv2.HorizontalPodAutoscaler
	budgets     []*policyv1.PodDisruptionBudget
	policies    []*networkingv1.NetworkPolicy
	ingresses   []*networkingv1.Ingress
}

// found are the places of one fault.
type found []string

func (f *found) add(object, path string) { *f = append(*f, object+" "+path) }

func ref(kind string, o metav1.Object) string {
	if o.GetNamespace() == "" {
		return kind + "/" + o.GetName()
	}
	return kind + "/" + o.GetNamespace() + "/" + o.GetName()
}

// pods are the templates of pods, and where they stand.
type pod struct {
	object, path string
	labels       labels.Set
	spec         *corev1.PodSpec
	// serves says that it is always there, and does not end by itself.
	serves bool
}

func (c *cluster) pods() []pod {
	var all []pod
	for _, d := range c.deployments {
		all = append(all, pod{ref("Deployment", d), "spec.template.spec", d.Spec.Template.Labels, &d.Spec.Template.Spec, true})
	}
	for _, j := range c.cronJobs {
		t := &j.Spec.JobTemplate.Spec.Template
		all = append(all, pod{ref("CronJob", j), "spec.jobTemplate.spec.template.spec", t.Labels, &t.Spec, false})
	}
	for _, j := range c.jobs {
		all = append(all, pod{ref("Job", j), "spec.template.spec", j.Spec.Template.Labels, &j.Spec.Template.Spec, false})
	}
	return all
}

// eachPod and eachContainer look at pods in turn; look gives a path below the
// pod's or the container's where something is wrong, or nothing.
func eachPod(look func(p pod) string) func(*cluster) found {
	return func(c *cluster) (f found) {
		for _, p := range c.pods() {
			if path := look(p); path != "" {
				f.add(p.object, p.path+"."+path)
			}
		}
		return f
	}
}

func eachContainer(look func(p pod, c *corev1.Container) string) func(*cluster) found {
	return eachPod(func(p pod) string {
		for i := range p.spec.Containers {
			if path := look(p, &p.spec.Containers[i]); path != "" {
				return fmt.Sprintf("containers[%d].%s", i, path)
			}
		}
		return ""
	})
}

// onlyIf is the path where something is wrong.
func onlyIf(wrong bool, path string) string {
	if wrong {
		return path
	}
	return ""
}

func security(c *corev1.Container) corev1.SecurityContext {
	if c.SecurityContext == nil {
		return corev1.SecurityContext{}
	}
	return *c.SecurityContext
}

func podSecurity(p pod) corev1.PodSecurityContext {
	if p.spec.SecurityContext == nil {
		return corev1.PodSecurityContext{}
	}
	return *p.spec.SecurityContext
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

var (
	digest      = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)
	secretName  = regexp.MustCompile(`(?i)(password|_key|token|secret)`)
	nodeAddress = regexp.MustCompile(`10\.20\.30\.11:\d+`)
	plainURL    = regexp.MustCompile(`sslmode=disable|^redis://|^mariadb://[^?]*$`)
)

// holdsSecret says whether a setting holds a password, a key or a token.
func holdsSecret(name, value string) bool {
	if u, err := url.Parse(value); err == nil && u.User != nil {
		_, has := u.User.Password()
		return has
	}
	return value != "" && secretName.MatchString(name)
}

// public says whether a text names an address of the internet: here those are examples.
func public(text string) bool {
	return strings.Contains(text, "203.0.113.") || strings.HasSuffix(text, ".example.com")
}

// dataPath is the path of a key, which may have dots in it.
func dataPath(key string) string {
	if strings.Contains(key, ".") {
		return fmt.Sprintf("data[%q]", key)
	}
	return "data." + key
}

// settings calls look for each setting of a container or a ConfigMap, with its path.
func (c *cluster) settings(look func(object, path, name, value string)) {
	for _, m := range c.configMaps {
		for _, key := range slices.Sorted(maps.Keys(m.Data)) {
			look(ref("ConfigMap", m), dataPath(key), key, m.Data[key])
		}
	}
	for _, p := range c.pods() {
		for i, container := range p.spec.Containers {
			for j, e := range container.Env {
				look(p.object, fmt.Sprintf("%s.containers[%d].env[%d].value", p.path, i, j), e.Name, e.Value)
			}
			for j, a := range container.Args {
				name, value, _ := strings.Cut(a, "=")
				look(p.object, fmt.Sprintf("%s.containers[%d].args[%d]", p.path, i, j), name, value)
			}
		}
	}
}

func (c *cluster) eachSetting(wrong func(object, name, value string) bool) (f found) {
	c.settings(func(object, path, name, value string) {
		if wrong(object, name, value) {
			f.add(object, path)
		}
	})
	return f
}

// references are the names of ConfigMaps and Secrets that pods use, and where.
func (c *cluster) references(look func(object, path, kind, name string)) {
	for _, p := range c.pods() {
		for i, s := range p.spec.ImagePullSecrets {
			look(p.object, fmt.Sprintf("%s.imagePullSecrets[%d]", p.path, i), "Secret", s.Name)
		}
		for i, container := range p.spec.Containers {
			at := fmt.Sprintf("%s.containers[%d]", p.path, i)
			for j, e := range container.EnvFrom {
				if e.ConfigMapRef != nil {
					look(p.object, fmt.Sprintf("%s.envFrom[%d].configMapRef", at, j), "ConfigMap", e.ConfigMapRef.Name)
				}
			}
			for j, e := range container.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					look(p.object, fmt.Sprintf("%s.env[%d].valueFrom.secretKeyRef", at, j), "Secret", e.ValueFrom.SecretKeyRef.Name)
				}
			}
		}
	}
}

func (c *cluster) used(kind, name string) (yes bool) {
	c.references(func(_, _, k, n string) { yes = yes || k == kind && n == name })
	return yes
}

func (c *cluster) selected(s *corev1.Service) []pod {
	var all []pod
	for _, p := range c.pods() {
		if p.serves && len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(p.labels) {
			all = append(all, p)
		}
	}
	return all
}

// opens says whether a pod has the port that a Service sends to.
func opens(p pod, port intstr.IntOrString) bool {
	for _, container := range p.spec.Containers {
		for _, open := range container.Ports {
			if port == intstr.FromInt32(open.ContainerPort) || port == intstr.FromString(open.Name) {
				return true
			}
		}
	}
	return false
}

func covers(s *metav1.LabelSelector, of labels.Set) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && s != nil && selector.Matches(of)
}

// eachService looks at Services; a wrong port's number is given too.
func eachService(wrong func(c *cluster, s *corev1.Service, p corev1.ServicePort) string) func(*cluster) found {
	return func(c *cluster) (f found) {
		for _, s := range c.services {
			for i, p := range s.Spec.Ports {
				if path := wrong(c, s, p); path != "" {
					f.add(ref("Service", s), strings.ReplaceAll(path, "#", fmt.Sprint(i)))
				}
			}
		}
		return f
	}
}

func eachDeployment(look func(c *cluster, d *appsv1.Deployment) string) func(*cluster) found {
	return func(c *cluster) (f found) {
		for _, d := range c.deployments {
			if path := look(c, d); path != "" {
				f.add(ref("Deployment", d), path)
			}
		}
		return f
	}
}

// takesAllAway says whether a rollout ends the old pods before the new ones are there.
func takesAllAway(d *appsv1.Deployment) string {
	s := d.Spec.Strategy
	if s.Type == appsv1.RecreateDeploymentStrategyType {
		return "spec.strategy.type"
	}
	if s.RollingUpdate == nil || s.RollingUpdate.MaxUnavailable == nil {
		return ""
	}
	away, err := intstr.GetScaledValueFromIntOrPercent(s.RollingUpdate.MaxUnavailable, int(*d.Spec.Replicas), false)
	return onlyIf(err != nil || away >= int(*d.Spec.Replicas), "spec.strategy.rollingUpdate.maxUnavailable")
}

// rules find the faults, by their ids: all of them in the old deployment, and none in the new.
func rules() map[string]func(*cluster) found {
	return map[string]func(*cluster) found{
		// Images.
		"image-without-digest": eachContainer(func(_ pod, c *corev1.Container) string { return onlyIf(!digest.MatchString(c.Image), "image") }),
		"image-always-pulled": eachContainer(func(_ pod, c *corev1.Container) string {
			return onlyIf(c.ImagePullPolicy == corev1.PullAlways, "imagePullPolicy")
		}),

		// Rollouts and ends.
		"one-replica": eachDeployment(func(_ *cluster, d *appsv1.Deployment) string {
			return onlyIf(d.Spec.Replicas == nil || *d.Spec.Replicas < 2, "spec.replicas")
		}),
		"rollout-takes-all-away": eachDeployment(func(_ *cluster, d *appsv1.Deployment) string { return takesAllAway(d) }),
		"no-way-back": eachDeployment(func(_ *cluster, d *appsv1.Deployment) string {
			return onlyIf(d.Spec.RevisionHistoryLimit != nil && *d.Spec.RevisionHistoryLimit == 0, "spec.revisionHistoryLimit")
		}),
		"no-readiness": eachContainer(func(p pod, c *corev1.Container) string {
			return onlyIf(p.serves && c.ReadinessProbe == nil, "readinessProbe")
		}),
		"no-liveness": eachContainer(func(p pod, c *corev1.Container) string {
			return onlyIf(p.serves && c.LivenessProbe == nil, "livenessProbe")
		}),
		"liveness-asks-database": eachContainer(func(_ pod, c *corev1.Container) string {
			l := c.LivenessProbe
			return onlyIf(l != nil && l.HTTPGet != nil && l.HTTPGet.Path == "/readyz", "livenessProbe.httpGet.path")
		}),
		"no-time-to-leave": eachContainer(func(p pod, c *corev1.Container) string {
			return onlyIf(p.serves && (c.Lifecycle == nil || c.Lifecycle.PreStop == nil), "lifecycle.preStop")
		}),
		"killed-at-once": eachPod(func(p pod) string {
			t := p.spec.TerminationGracePeriodSeconds
			return onlyIf(t != nil && *t < 20, "terminationGracePeriodSeconds")
		}),
		"no-budget": eachDeployment(func(c *cluster, d *appsv1.Deployment) string {
			for _, b := range c.budgets {
				if covers(b.Spec.Selector, d.Spec.Template.Labels) {
					return ""
				}
			}
			return "spec.template.metadata.labels"
		}),

		// Room.
		"no-requests": eachContainer(func(_ pod, c *corev1.Container) string {
			return onlyIf(c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero(), "resources.requests")
		}),
		"no-limits": eachContainer(func(_ pod, c *corev1.Container) string {
			return onlyIf(c.Resources.Limits.Memory().IsZero(), "resources.limits")
		}),
		"no-quota": func(c *cluster) (f found) {
			for _, n := range c.namespaces {
				if len(c.quotas) == 0 || len(c.ranges) == 0 {
					f.add(ref("Namespace", n), "metadata.name")
				}
			}
			return f
		},
		"not-spread": eachPod(func(p pod) string {
			return onlyIf(p.serves && len(p.spec.TopologySpreadConstraints) == 0 && p.spec.Affinity == nil, "topologySpreadConstraints")
		}),
		"tolerates-everything": eachPod(func(p pod) string {
			for i, t := range p.spec.Tolerations {
				if t.Key == "" && t.Operator == corev1.TolerationOpExists {
					return fmt.Sprintf("tolerations[%d]", i)
				}
			}
			return ""
		}),
		"scales-nothing": func(c *cluster) (f found) {
			for _, s := range c.scalers {
				if !slices.ContainsFunc(c.deployments, func(d *appsv1.Deployment) bool { return d.Name == s.Spec.ScaleTargetRef.Name }) {
					f.add(ref("HorizontalPodAutoscaler", s), "spec.scaleTargetRef.name")
				}
			}
			return f
		},
		"unused-volume": func(c *cluster) (f found) {
			for _, claim := range c.claims {
				if !slices.ContainsFunc(c.pods(), func(p pod) bool {
					return slices.ContainsFunc(p.spec.Volumes, func(v corev1.Volume) bool {
						return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name
					})
				}) {
					f.add(ref("PersistentVolumeClaim", claim), "metadata.name")
				}
			}
			return f
		},

		// Rights.
		"cluster-admin": func(c *cluster) (f found) {
			for _, b := range c.bindings {
				if b.RoleRef.Name == "cluster-admin" {
					f.add(ref("ClusterRoleBinding", b), "roleRef.name")
				}
			}
			return f
		},
		"everybody-may-look": func(c *cluster) (f found) {
			for _, b := range c.bindings {
				for i, s := range b.Subjects {
					if s.Name == "system:unauthenticated" || s.Name == "system:anonymous" {
						f.add(ref("ClusterRoleBinding", b), fmt.Sprintf("subjects[%d].name", i))
					}
				}
			}
			return f
		},
		"role-for-everything": func(c *cluster) (f found) {
			for _, r := range c.roles {
				for i, rule := range r.Rules {
					if slices.Contains(rule.Resources, "*") && slices.Contains(rule.Verbs, "*") {
						f.add(ref("Role", r), fmt.Sprintf("rules[%d]", i))
					}
				}
			}
			return f
		},
		"default-account": eachPod(func(p pod) string {
			return onlyIf(p.spec.ServiceAccountName == "" || p.spec.ServiceAccountName == "default", "serviceAccountName")
		}),
		"token-in-pod": eachPod(func(p pod) string {
			return onlyIf(!isFalse(p.spec.AutomountServiceAccountToken), "automountServiceAccountToken")
		}),

		// Containers.
		"privileged": eachContainer(func(_ pod, c *corev1.Container) string {
			return onlyIf(isTrue(security(c).Privileged), "securityContext.privileged")
		}),
		"runs-as-root": eachContainer(func(_ pod, c *corev1.Container) string {
			u := security(c).RunAsUser
			return onlyIf(u != nil && *u == 0, "securityContext.runAsUser")
		}),
		"may-be-root": eachContainer(func(p pod, c *corev1.Container) string {
			return onlyIf(!isTrue(security(c).RunAsNonRoot) && !isTrue(podSecurity(p).RunAsNonRoot), "securityContext.runAsNonRoot")
		}),
		"may-gain-rights": eachContainer(func(_ pod, c *corev1.Container) string {
			return onlyIf(!isFalse(security(c).AllowPrivilegeEscalation), "securityContext.allowPrivilegeEscalation")
		}),
		"keeps-capabilities": eachContainer(func(_ pod, c *corev1.Container) string {
			drops := security(c).Capabilities
			return onlyIf(drops == nil || !slices.Contains(drops.Drop, "ALL"), "securityContext.capabilities.drop")
		}),
		"writable-root": eachContainer(func(_ pod, c *corev1.Container) string {
			return onlyIf(!isTrue(security(c).ReadOnlyRootFilesystem), "securityContext.readOnlyRootFilesystem")
		}),
		"no-seccomp": eachPod(func(p pod) string {
			s := podSecurity(p).SeccompProfile
			return onlyIf(s == nil || s.Type != corev1.SeccompProfileTypeRuntimeDefault, "securityContext.seccompProfile")
		}),
		"host-network": eachPod(func(p pod) string { return onlyIf(p.spec.HostNetwork, "hostNetwork") }),
		"host-port": eachContainer(func(p pod, c *corev1.Container) string {
			for i, port := range c.Ports {
				if port.HostPort != 0 && !p.spec.HostNetwork {
					return fmt.Sprintf("ports[%d].hostPort", i)
				}
			}
			return ""
		}),
		"host-path": eachPod(func(p pod) string {
			for i, v := range p.spec.Volumes {
				if v.HostPath != nil {
					return fmt.Sprintf("volumes[%d].hostPath", i)
				}
			}
			return ""
		}),
		"namespace-without-standard": func(c *cluster) (f found) {
			for _, n := range c.namespaces {
				if n.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
					f.add(ref("Namespace", n), "metadata.labels")
				}
			}
			return f
		},

		// Network.
		"no-network-policy": eachDeployment(func(c *cluster, d *appsv1.Deployment) string {
			denied, allowed := false, false
			for _, p := range c.policies {
				all := len(p.Spec.PodSelector.MatchLabels) == 0
				denied = denied || all && len(p.Spec.Ingress) == 0 && len(p.Spec.Egress) == 0 && len(p.Spec.PolicyTypes) == 2
				allowed = allowed || !all && covers(&p.Spec.PodSelector, d.Spec.Template.Labels)
			}
			return onlyIf(!denied || !allowed, "spec.template.metadata.labels")
		}),
		"node-port": eachService(func(_ *cluster, _ *corev1.Service, p corev1.ServicePort) string {
			return onlyIf(p.NodePort != 0, "spec.ports[#].nodePort")
		}),
		"load-balancer-each": eachService(func(_ *cluster, s *corev1.Service, _ corev1.ServicePort) string {
			return onlyIf(s.Spec.Type == corev1.ServiceTypeLoadBalancer, "spec.type")
		}),
		"selects-nothing": eachService(func(c *cluster, s *corev1.Service, _ corev1.ServicePort) string {
			return onlyIf(len(s.Spec.Selector) > 0 && len(c.selected(s)) == 0, "spec.selector")
		}),
		"selects-several": eachService(func(c *cluster, s *corev1.Service, _ corev1.ServicePort) string {
			return onlyIf(len(c.selected(s)) > 1, "spec.selector")
		}),
		"port-of-nothing": eachService(func(c *cluster, s *corev1.Service, p corev1.ServicePort) string {
			pods := c.selected(s)
			return onlyIf(len(pods) > 0 && !slices.ContainsFunc(pods, func(x pod) bool { return opens(x, p.TargetPort) }), "spec.ports[#].targetPort")
		}),
		"ingress-to-nothing": func(c *cluster) (f found) {
			for _, in := range c.ingresses {
				for i, rule := range in.Spec.Rules {
					for j, path := range rule.HTTP.Paths {
						if !slices.ContainsFunc(c.services, func(s *corev1.Service) bool { return s.Name == path.Backend.Service.Name }) {
							f.add(ref("Ingress", in), fmt.Sprintf("spec.rules[%d].http.paths[%d].backend.service.name", i, j))
						}
					}
				}
			}
			return f
		},
		"ingress-without-tls": func(c *cluster) (f found) {
			for _, in := range c.ingresses {
				if len(in.Spec.TLS) == 0 {
					f.add(ref("Ingress", in), "spec.tls")
				}
			}
			return f
		},
		"database-in-public": func(c *cluster) found {
			f := c.eachSetting(func(_, _, value string) bool {
				u, err := url.Parse(value)
				return err == nil && public(u.Hostname())
			})
			for _, e := range c.endpoints {
				if public(e.Subsets[0].Addresses[0].IP) {
					f.add(ref("Endpoints", e), "subsets[0].addresses[0].ip")
				}
			}
			for _, s := range c.services {
				if public(s.Spec.ExternalName) {
					f.add(ref("Service", s), "spec.externalName")
				}
			}
			return f
		},
		"database-in-the-clear": func(c *cluster) found {
			return c.eachSetting(func(_, _, value string) bool { return plainURL.MatchString(value) })
		},
		"node-by-address": func(c *cluster) found {
			return c.eachSetting(func(object, name, value string) bool {
				return name != "nginx.conf" && nodeAddress.MatchString(value)
			})
		},

		// Settings and secrets.
		"secret-in-configmap": func(c *cluster) found {
			return c.eachSetting(func(object, name, value string) bool {
				return strings.HasPrefix(object, "ConfigMap") && holdsSecret(name, value)
			})
		},
		"secret-in-literal": func(c *cluster) found {
			return c.eachSetting(func(object, name, value string) bool {
				return !strings.HasPrefix(object, "ConfigMap") && !strings.HasPrefix(name, "--") && holdsSecret(name, value)
			})
		},
		"secret-in-arguments": func(c *cluster) found {
			return c.eachSetting(func(_, name, value string) bool { return strings.HasPrefix(name, "--") && holdsSecret(name, value) })
		},
		"secret-in-manifest": func(c *cluster) (f found) {
			for _, s := range c.secrets {
				if len(s.Data) > 0 {
					f.add(ref("Secret", s), "data")
				}
				if len(s.StringData) > 0 {
					f.add(ref("Secret", s), "stringData")
				}
			}
			return f
		},
		"one-database-user": func(c *cluster) found {
			users := map[string]int{}
			count := func(_, _, value string) bool {
				u, err := url.Parse(value)
				return err == nil && u.User.Username() != ""
			}
			c.settings(func(object, path, name, value string) {
				if count(object, name, value) {
					u, _ := url.Parse(value)
					users[u.Scheme+u.User.Username()]++
				}
			})
			return c.eachSetting(func(object, name, value string) bool {
				if !count(object, name, value) {
					return false
				}
				u, _ := url.Parse(value)
				return users[u.Scheme+u.User.Username()] > 1
			})
		},
		"copies-that-drifted": func(c *cluster) (f found) {
			for _, m := range c.configMaps {
				for _, key := range slices.Sorted(maps.Keys(m.Data)) {
					// Addresses of stores differ by right.
					if u, err := url.Parse(m.Data[key]); err == nil && u.Host != "" {
						continue
					}
					if slices.ContainsFunc(c.configMaps, func(o *corev1.ConfigMap) bool {
						other, ok := o.Data[key]
						return ok && other != m.Data[key]
					}) {
						f.add(ref("ConfigMap", m), dataPath(key))
					}
				}
			}
			return f
		},
		"hand-kept-proxy": func(c *cluster) found {
			return c.eachSetting(func(_, name, _ string) bool { return name == "nginx.conf" })
		},
		"unused-configmap": func(c *cluster) (f found) {
			for _, m := range c.configMaps {
				if !c.used("ConfigMap", m.Name) {
					f.add(ref("ConfigMap", m), "metadata.name")
				}
			}
			return f
		},
		"unused-secret": func(c *cluster) (f found) {
			for _, s := range c.secrets {
				if !c.used("Secret", s.Name) {
					f.add(ref("Secret", s), "metadata.name")
				}
			}
			return f
		},
		"refers-to-nothing": func(c *cluster) (f found) {
			c.references(func(object, path, kind, name string) {
				exists := slices.ContainsFunc(c.configMaps, func(m *corev1.ConfigMap) bool { return kind == "ConfigMap" && m.Name == name }) ||
					slices.ContainsFunc(c.secrets, func(s *corev1.Secret) bool { return kind == "Secret" && s.Name == name })
				if !exists {
					f.add(object, path)
				}
			})
			return f
		},
		"debug-logs": func(c *cluster) found {
			return c.eachSetting(func(_, name, value string) bool { return name == "--log-level" && value == "debug" })
		},
		"dead-cronjob": func(c *cluster) (f found) {
			for _, j := range c.cronJobs {
				if isTrue(j.Spec.Suspend) {
					f.add(ref("CronJob", j), "spec.suspend")
				}
				if fields := strings.Fields(j.Spec.Schedule); fields[2] == "30" && fields[3] == "2" {
					f.add(ref("CronJob", j), "spec.schedule")
				}
			}
			return f
		},
	}
}
