package plan

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"dhow/internal/inventory"
	"dhow/internal/sizing"
)

const (
	// podUser is who a program runs as that says nothing else: nobody of any image.
	podUser = 65532
	// scratch is the folder that programs expect to write to, and its volume; scratchSize bounds it.
	scratch     = "/tmp"
	scratchName = "tmp"
	scratchSize = 128 * sizing.MiB
	// storageClass is that of disks, as the landing zone makes it.
	storageClass = "gp3"
	// lowPort is up to where ports were root's own.
	lowPort = 1024
	// jobDeadline and jobKept are a job's in seconds where the source says nothing: an hour, a day.
	jobDeadline, jobKept = 3600, 86400
)

// workload writes what makes the pods.
func (w *writer) workload(file string, u *unit) {
	labels := u.labels(w.m.plan.Name)
	o := meta(u.namespace, u.name)
	o.Labels = labels
	pod := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: w.pod(u)}
	if v := u.w.Template.Labels["version"]; v != "" {
		pod.Labels = maps.Clone(labels)
		pod.Labels["app.kubernetes.io/version"] = v
	}
	selector := &metav1.LabelSelector{MatchLabels: u.selector()}
	kept := int32(revisions)
	switch u.kind {
	case "StatefulSet":
		s := appsv1.StatefulSetSpec{Replicas: &u.scaling.Least, Selector: selector, Template: pod, RevisionHistoryLimit: &kept, UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
			PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.RetainPersistentVolumeClaimRetentionPolicyType}}
		if old, ok := u.w.Object.Content.(*appsv1.StatefulSet); ok {
			s.ServiceName = cmp.Or(old.Spec.ServiceName, u.name)
			s.PodManagementPolicy = old.Spec.PodManagementPolicy
			for _, c := range old.Spec.VolumeClaimTemplates {
				s.VolumeClaimTemplates = append(s.VolumeClaimTemplates, claim(c.Name, "", &c.Spec))
			}
		}
		w.add(file, &appsv1.StatefulSet{TypeMeta: typed("apps/v1", u.kind), ObjectMeta: o, Spec: s})
	case "DaemonSet":
		one := intstr.FromInt32(1)
		w.add(file, &appsv1.DaemonSet{TypeMeta: typed("apps/v1", u.kind), ObjectMeta: o, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: pod, RevisionHistoryLimit: &kept,
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &one}}}})
	case "Job":
		spec := batchv1.JobSpec{}
		if old, ok := u.w.Object.Content.(*batchv1.Job); ok {
			spec = batchv1.JobSpec{Parallelism: old.Spec.Parallelism, Completions: old.Spec.Completions, CompletionMode: old.Spec.CompletionMode, BackoffLimit: old.Spec.BackoffLimit, ActiveDeadlineSeconds: old.Spec.ActiveDeadlineSeconds,
				TTLSecondsAfterFinished: old.Spec.TTLSecondsAfterFinished}
		}
		w.add(file, &batchv1.Job{TypeMeta: typed("batch/v1", u.kind), ObjectMeta: o, Spec: bounded(spec, pod, u)})
	case "CronJob":
		old, ok := u.w.Object.Content.(*batchv1.CronJob)
		if !ok {
			return
		}
		policy := old.Spec.ConcurrencyPolicy
		if policy == "" || policy == batchv1.AllowConcurrent {
			policy = batchv1.ForbidConcurrent
		}
		j := old.Spec.JobTemplate.Spec
		w.add(file, &batchv1.CronJob{TypeMeta: typed("batch/v1", u.kind), ObjectMeta: o, Spec: batchv1.CronJobSpec{Schedule: old.Spec.Schedule, TimeZone: old.Spec.TimeZone, ConcurrencyPolicy: policy,
			StartingDeadlineSeconds: old.Spec.StartingDeadlineSeconds, SuccessfulJobsHistoryLimit: old.Spec.SuccessfulJobsHistoryLimit, FailedJobsHistoryLimit: old.Spec.FailedJobsHistoryLimit,
			JobTemplate: batchv1.JobTemplateSpec{Spec: bounded(batchv1.JobSpec{Parallelism: j.Parallelism, Completions: j.Completions, BackoffLimit: j.BackoffLimit, ActiveDeadlineSeconds: j.ActiveDeadlineSeconds, TTLSecondsAfterFinished: j.TTLSecondsAfterFinished}, pod, u)}}})
	default:
		surge, gone := intstr.FromInt32(1), intstr.FromInt32(0)
		ready := int32(0)
		if b := u.balancing; b != nil {
			surge, gone = intstr.FromInt32(int32(max(1, b.fitted.MaxSurge.Value))), intstr.FromInt32(int32(b.fitted.MaxUnavailable.Value))
			ready = int32(b.fitted.MinReady.Value)
		}
		w.add(file, &appsv1.Deployment{TypeMeta: typed("apps/v1", "Deployment"), ObjectMeta: o, Spec: appsv1.DeploymentSpec{Replicas: &u.scaling.Least, Selector: selector, Template: pod, RevisionHistoryLimit: &kept, MinReadySeconds: ready,
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &gone}}}})
	}
}

// bounded is a job with a time by which it must be done, and one after which it is cleaned away.
func bounded(j batchv1.JobSpec, pod corev1.PodTemplateSpec, u *unit) batchv1.JobSpec {
	deadline, kept := int64(jobDeadline), int32(jobKept)
	if j.ActiveDeadlineSeconds == nil {
		j.ActiveDeadlineSeconds = &deadline
	}
	if j.TTLSecondsAfterFinished == nil {
		j.TTLSecondsAfterFinished = &kept
	}
	pod.Spec.RestartPolicy = cmp.Or(u.w.Template.Spec.RestartPolicy, corev1.RestartPolicyNever)
	if pod.Spec.RestartPolicy == corev1.RestartPolicyAlways {
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	}
	j.Template = pod
	return j
}

// claim is a claim of a disk of the new cluster.
func claim(name, namespace string, old *corev1.PersistentVolumeClaimSpec) corev1.PersistentVolumeClaim {
	class := storageClass
	c := corev1.PersistentVolumeClaim{TypeMeta: typed("v1", "PersistentVolumeClaim"), ObjectMeta: meta(namespace, name), Spec: corev1.PersistentVolumeClaimSpec{AccessModes: old.AccessModes, Resources: old.Resources, StorageClassName: &class}}
	if namespace == "" { // within a StatefulSet it has no type of its own
		c.TypeMeta = metav1.TypeMeta{}
	}
	return c
}

// pod is a unit's pod: nothing of the node, no rights, spread over zones and nodes.
func (w *writer) pod(u *unit) corev1.PodSpec {
	no, yes := false, true
	old := &u.w.Template.Spec
	spec := corev1.PodSpec{ServiceAccountName: u.name, AutomountServiceAccountToken: &no, EnableServiceLinks: &no, Subdomain: old.Subdomain, HostAliases: old.HostAliases,
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: userOf(old.SecurityContext, nil), RunAsGroup: groupOf(old.SecurityContext), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}}
	if s := old.SecurityContext; s != nil {
		spec.SecurityContext.FSGroup, spec.SecurityContext.SupplementalGroups = s.FSGroup, s.SupplementalGroups
	}
	if u.rollout.Grace > 0 {
		spec.TerminationGracePeriodSeconds = &u.rollout.Grace
	}
	if !u.runsJobs() && u.kind != "DaemonSet" {
		for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
			spec.TopologySpreadConstraints = append(spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{TopologyKey: key, MaxSkew: 1, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: &metav1.LabelSelector{MatchLabels: u.selector()}})
		}
	}
	spec.Volumes = w.volumes(u)
	low, disks := false, slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.PersistentVolumeClaim != nil }) || u.kind == "StatefulSet"
	if disks && spec.SecurityContext.FSGroup == nil {
		spec.SecurityContext.FSGroup = spec.SecurityContext.RunAsGroup
	}
	for _, b := range u.containers {
		c := w.container(u, b, spec.Volumes)
		if b.c.Init || b.c.Sidecar {
			spec.InitContainers = append(spec.InitContainers, c)
		} else {
			spec.Containers = append(spec.Containers, c)
		}
		low = low || slices.ContainsFunc(b.ports, func(p Port) bool { return p.Port < lowPort })
	}
	if low {
		spec.SecurityContext.Sysctls = []corev1.Sysctl{{Name: "net.ipv4.ip_unprivileged_port_start", Value: "0"}}
	}
	return spec
}

// userOf is who a container runs as: never root.
func userOf(pod *corev1.PodSecurityContext, c *corev1.SecurityContext) *int64 {
	user := int64(podUser)
	if pod != nil && pod.RunAsUser != nil && *pod.RunAsUser != 0 {
		user = *pod.RunAsUser
	}
	if c != nil && c.RunAsUser != nil && *c.RunAsUser != 0 {
		user = *c.RunAsUser
	}
	return &user
}

func groupOf(pod *corev1.PodSecurityContext) *int64 {
	group := int64(podUser)
	if pod != nil && pod.RunAsGroup != nil && *pod.RunAsGroup != 0 {
		group = *pod.RunAsGroup
	}
	return &group
}

func (w *writer) container(u *unit, b *box, volumes []corev1.Volume) corev1.Container {
	no, yes := false, true
	old := b.c.Container
	c := corev1.Container{Name: b.name, Image: b.image, ImagePullPolicy: corev1.PullIfNotPresent, Command: b.command, Args: b.args, WorkingDir: old.WorkingDir, Env: b.env, EnvFrom: b.envFrom, RestartPolicy: old.RestartPolicy,
		StartupProbe: b.probes.startup, ReadinessProbe: b.probes.readiness, LivenessProbe: b.probes.liveness,
		Resources:       corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: quantity(b.size.CPU), corev1.ResourceMemory: size(b.size.Memory)}, Limits: corev1.ResourceList{corev1.ResourceMemory: size(b.size.Memory)}},
		SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}}
	if b.size.CPULimit > 0 {
		c.Resources.Limits[corev1.ResourceCPU] = quantity(b.size.CPULimit)
	}
	if s := old.SecurityContext; s != nil && s.RunAsUser != nil && *s.RunAsUser != 0 {
		c.SecurityContext.RunAsUser = s.RunAsUser
	}
	for _, p := range b.ports {
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: p.Name, ContainerPort: p.Port})
	}
	for _, p := range old.Ports {
		if p.Protocol == corev1.ProtocolUDP || p.Protocol == corev1.ProtocolSCTP {
			c.Ports = append(c.Ports, corev1.ContainerPort{Name: p.Name, ContainerPort: p.ContainerPort, Protocol: p.Protocol})
		}
	}
	if u.rollout.PreStop > 0 && !b.c.Init && !u.runsJobs() {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: u.rollout.PreStop}}}
	}
	for _, v := range old.VolumeMounts {
		if slices.ContainsFunc(volumes, func(x corev1.Volume) bool { return x.Name == v.Name }) || u.kind == "StatefulSet" && !dropped(u, v.Name) {
			c.VolumeMounts = append(c.VolumeMounts, v)
		}
	}
	if slices.ContainsFunc(volumes, func(x corev1.Volume) bool { return x.Name == scratchName && x.EmptyDir != nil }) && !slices.ContainsFunc(c.VolumeMounts, func(v corev1.VolumeMount) bool { return v.Name == scratchName || path.Clean(v.MountPath) == scratch }) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: scratchName, MountPath: scratch})
	}
	return c
}

// dropped says that a volume of the source is not taken over.
func dropped(u *unit, name string) bool {
	for _, v := range u.w.Template.Spec.Volumes {
		if v.Name == name {
			return true
		}
	}
	return false
}

// volumes are a unit's: what is of the node or of the old cloud is left out, or an empty folder.
func (w *writer) volumes(u *unit) []corev1.Volume {
	var all []corev1.Volume
	tmp := false
	for i := range u.w.Template.Spec.Volumes {
		v := u.w.Template.Spec.Volumes[i].DeepCopy()
		switch {
		case v.ConfigMap != nil, v.Secret != nil, v.EmptyDir != nil, v.DownwardAPI != nil, v.Ephemeral != nil, v.PersistentVolumeClaim != nil, v.NFS != nil:
			if v.ConfigMap != nil && w.m.isSecretConfig(u, v.ConfigMap.Name) {
				v.VolumeSource = corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: label(v.ConfigMap.Name), Items: v.ConfigMap.Items, DefaultMode: v.ConfigMap.DefaultMode, Optional: v.ConfigMap.Optional}}
			}
		case v.Projected != nil:
			v.Projected.Sources = slices.DeleteFunc(v.Projected.Sources, func(p corev1.VolumeProjection) bool { return p.ServiceAccountToken != nil })
			if len(v.Projected.Sources) == 0 {
				continue
			}
		case v.HostPath != nil:
			bound := size(scratchSize)
			v.VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &bound}}
		default:
			w.m.decide(Decision{Object: u.w.String(), What: "its volume " + v.Name + " is of a kind that only the old cluster has", Do: "say where its data goes: the manifest has an empty folder in its place"})
			bound := size(scratchSize)
			v.VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &bound}}
		}
		tmp = tmp || v.Name == scratchName
		all = append(all, *v)
	}
	if !tmp {
		bound := size(scratchSize)
		all = append(all, corev1.Volume{Name: scratchName, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &bound}}})
	}
	return all
}

// isSecretConfig says that a ConfigMap has a secret in it.
func (m *maker) isSecretConfig(u *unit, name string) bool {
	o := m.inv.Find("ConfigMap", u.w.Namespace, name)
	if o == nil {
		return false
	}
	c, ok := o.Content.(*corev1.ConfigMap)
	if !ok {
		return false
	}
	for _, text := range c.Data {
		if strings.Contains(text, inventory.Masked) {
			return true
		}
	}
	return slices.ContainsFunc(m.inv.Plain, func(p inventory.PlainSecret) bool { return p.Object == o.Ref })
}

// configs writes the ConfigMaps and claims that a unit mounts. Variables are in the pod
// itself, where a change of one rolls the pods.
func (w *writer) configs(file string, u *unit) {
	done := map[string]bool{}
	for _, v := range u.w.Template.Spec.Volumes {
		var names []string
		if v.ConfigMap != nil {
			names = append(names, v.ConfigMap.Name)
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					names = append(names, s.ConfigMap.Name)
				}
			}
		}
		for _, name := range names {
			key := u.namespace + "/" + name
			if done[key] || w.m.isSecretConfig(u, name) || name == "kube-root-ca.crt" {
				continue
			}
			done[key] = true
			if o := w.m.inv.Find("ConfigMap", u.w.Namespace, name); o != nil {
				if c, ok := o.Content.(*corev1.ConfigMap); ok {
					w.shared(u, name, &corev1.ConfigMap{TypeMeta: typed("v1", "ConfigMap"), ObjectMeta: meta(u.namespace, name), Data: c.Data, BinaryData: c.BinaryData})
				}
			}
		}
		if p := v.PersistentVolumeClaim; p != nil && !done[p.ClaimName] {
			done[p.ClaimName] = true
			if o := w.m.inv.Find("PersistentVolumeClaim", u.w.Namespace, p.ClaimName); o != nil {
				if c, ok := o.Content.(*corev1.PersistentVolumeClaim); ok {
					one := claim(p.ClaimName, u.namespace, &c.Spec)
					w.add(file, &one)
					w.m.decide(Decision{Object: o.Ref.String(), What: "it is a volume of " + u.name + ", which dhow does not copy", Do: "copy its files with the source stopped, or let the service keep them in S3"})
				}
			}
		}
	}
}

// shared writes an object once that several units may use.
func (w *writer) shared(u *unit, name string, object any) {
	file := u.namespace + "/config-" + label(name) + ".yaml"
	if w.files[file] == nil {
		w.add(file, object)
	}
}
