package inventory

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// references finds who uses what.
func (i *Inventory) references() {
	for _, w := range i.Workloads {
		i.podUses(w)
	}
	i.volumeUses()
	i.routeUses()
	i.rightUses()
	for o, c := range Of[*autoscalingv2.HorizontalPodAutoscaler](i) {
		i.use(Use{By: o.Ref, Path: "spec.scaleTargetRef.name", Of: targetRef(c, o.Namespace)})
	}
	i.referredKeys()
	for n := range i.Uses {
		u := &i.Uses[n]
		u.Found = i.has(u.Of, u.Key)
	}
	slices.SortStableFunc(i.Uses, func(a, b Use) int {
		return cmp.Or(compareRefs(a.By, b.By), strings.Compare(a.Path, b.Path), compareRefs(a.Of, b.Of), strings.Compare(a.Key, b.Key))
	})
	for _, u := range i.Uses {
		i.index.uses[u.Of] = append(i.index.uses[u.Of], u)
		i.index.usesBy[u.By] = append(i.index.usesBy[u.By], u)
	}
}

func (i *Inventory) use(u Use) {
	if u.Of.Name != "" {
		i.Uses = append(i.Uses, u)
	}
}

// has says whether an object, and a key of it, is there.
func (i *Inventory) has(r Ref, key string) bool {
	o := i.index.byRef[r]
	if o == nil {
		return r.Kind == "ServiceAccount" && r.Name == "default" // every namespace has it
	}
	if key == "" {
		return true
	}
	switch c := o.Content.(type) {
	case *corev1.ConfigMap:
		_, text := c.Data[key]
		_, binary := c.BinaryData[key]
		return text || binary
	case *corev1.Secret:
		return !o.KeysKnown || slices.Contains(secretKeys(c), key)
	}
	return true
}

// referredKeys gives Secrets whose keys could not be read those that something refers to.
func (i *Inventory) referredKeys() {
	for _, u := range i.Uses {
		o := i.index.byRef[u.Of]
		if u.Key == "" || o == nil || o.KeysKnown {
			continue
		}
		if s, ok := o.Content.(*corev1.Secret); ok {
			if s.Data == nil {
				s.Data = map[string][]byte{}
			}
			s.Data[u.Key] = nil
		}
	}
}

func yes(b *bool) bool { return b != nil && *b }

// podUses are what a pod's specification refers to.
func (i *Inventory) podUses(w *Workload) {
	spec := &w.Template.Spec
	use := func(path, kind, name, key string, optional *bool) {
		i.use(Use{By: w.Ref, Path: path, Of: Ref{Kind: kind, Namespace: w.Namespace, Name: name}, Key: key, Optional: yes(optional)})
	}
	for _, c := range w.Containers {
		for n, e := range c.EnvFrom {
			at := c.Path + ".envFrom[" + strconv.Itoa(n) + "]"
			if r := e.ConfigMapRef; r != nil {
				use(at+".configMapRef", "ConfigMap", r.Name, "", r.Optional)
			}
			if r := e.SecretRef; r != nil {
				use(at+".secretRef", "Secret", r.Name, "", r.Optional)
			}
		}
		for n, e := range c.Container.Env {
			if e.ValueFrom == nil {
				continue
			}
			at := c.Path + ".env[" + strconv.Itoa(n) + "].valueFrom"
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				use(at+".configMapKeyRef", "ConfigMap", r.Name, r.Key, r.Optional)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				use(at+".secretKeyRef", "Secret", r.Name, r.Key, r.Optional)
			}
		}
	}
	for n, s := range spec.ImagePullSecrets {
		use(w.SpecPath+".imagePullSecrets["+strconv.Itoa(n)+"]", "Secret", s.Name, "", nil)
	}
	for n := range spec.Volumes {
		i.volume(w, &spec.Volumes[n], w.SpecPath+".volumes["+strconv.Itoa(n)+"]", use)
	}
	if w.Kind != KindCompose {
		account := spec.ServiceAccountName
		if account == "" {
			account = cmp.Or(spec.DeprecatedServiceAccount, "default")
		}
		use(w.SpecPath+".serviceAccountName", "ServiceAccount", account, "", nil)
	}
	if spec.PriorityClassName != "" && !strings.HasPrefix(spec.PriorityClassName, "system-") {
		i.use(Use{By: w.Ref, Path: w.SpecPath + ".priorityClassName", Of: Ref{Group: "scheduling.k8s.io", Kind: "PriorityClass", Name: spec.PriorityClassName}})
	}
	if s, ok := w.Object.Content.(*appsv1.StatefulSet); ok {
		for n := range s.Spec.VolumeClaimTemplates {
			i.storageClass(w.Ref, "spec.volumeClaimTemplates["+strconv.Itoa(n)+"].spec.storageClassName", s.Spec.VolumeClaimTemplates[n].Spec.StorageClassName)
		}
		use("spec.serviceName", "Service", s.Spec.ServiceName, "", nil)
	}
}

func (i *Inventory) volume(w *Workload, v *corev1.Volume, at string, use func(path, kind, name, key string, optional *bool)) {
	items := func(path, kind, name string, items []corev1.KeyToPath, optional *bool) {
		if len(items) == 0 {
			use(path, kind, name, "", optional)
		}
		for n, item := range items {
			use(path+".items["+strconv.Itoa(n)+"]", kind, name, item.Key, optional)
		}
	}
	secret := func(path string, r *corev1.LocalObjectReference) {
		if r != nil {
			use(at+path, "Secret", r.Name, "", nil)
		}
	}
	switch {
	case v.ConfigMap != nil:
		items(at+".configMap", "ConfigMap", v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.Secret != nil:
		items(at+".secret", "Secret", v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.PersistentVolumeClaim != nil:
		use(at+".persistentVolumeClaim", "PersistentVolumeClaim", v.PersistentVolumeClaim.ClaimName, "", nil)
	case v.Projected != nil:
		for n, s := range v.Projected.Sources {
			path := at + ".projected.sources[" + strconv.Itoa(n) + "]"
			if s.ConfigMap != nil {
				items(path+".configMap", "ConfigMap", s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
			}
			if s.Secret != nil {
				items(path+".secret", "Secret", s.Secret.Name, s.Secret.Items, s.Secret.Optional)
			}
		}
	case v.CSI != nil:
		secret(".csi.nodePublishSecretRef", v.CSI.NodePublishSecretRef)
	case v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil:
		i.storageClass(w.Ref, at+".ephemeral.volumeClaimTemplate.spec.storageClassName", v.Ephemeral.VolumeClaimTemplate.Spec.StorageClassName)
	case v.CephFS != nil:
		secret(".cephfs.secretRef", v.CephFS.SecretRef)
	case v.RBD != nil:
		secret(".rbd.secretRef", v.RBD.SecretRef)
	case v.ISCSI != nil:
		secret(".iscsi.secretRef", v.ISCSI.SecretRef)
	case v.FlexVolume != nil:
		secret(".flexVolume.secretRef", v.FlexVolume.SecretRef)
	case v.AzureFile != nil:
		use(at+".azureFile.secretName", "Secret", v.AzureFile.SecretName, "", nil)
	}
}

func (i *Inventory) storageClass(by Ref, path string, name *string) {
	if name != nil {
		i.use(Use{By: by, Path: path, Of: Ref{Group: "storage.k8s.io", Kind: "StorageClass", Name: *name}})
	}
}

// volumeUses are those of claims and accounts.
func (i *Inventory) volumeUses() {
	for o, c := range Of[*corev1.PersistentVolumeClaim](i) {
		i.storageClass(o.Ref, "spec.storageClassName", c.Spec.StorageClassName)
		i.use(Use{By: o.Ref, Path: "spec.volumeName", Of: Ref{Kind: "PersistentVolume", Name: c.Spec.VolumeName}})
	}
	for o, c := range Of[*corev1.PersistentVolume](i) {
		if c.Spec.StorageClassName != "" {
			i.storageClass(o.Ref, "spec.storageClassName", &c.Spec.StorageClassName)
		}
	}
	for o, c := range Of[*corev1.ServiceAccount](i) {
		for n, s := range c.Secrets {
			i.use(Use{By: o.Ref, Path: "secrets[" + strconv.Itoa(n) + "].name", Of: Ref{Kind: "Secret", Namespace: o.Namespace, Name: s.Name}})
		}
		for n, s := range c.ImagePullSecrets {
			i.use(Use{By: o.Ref, Path: "imagePullSecrets[" + strconv.Itoa(n) + "].name", Of: Ref{Kind: "Secret", Namespace: o.Namespace, Name: s.Name}})
		}
	}
}

// routeUses are those of Ingresses, Gateways and routes.
func (i *Inventory) routeUses() {
	for o, c := range Of[*networkingv1.Ingress](i) {
		for n, t := range c.Spec.TLS {
			i.use(Use{By: o.Ref, Path: "spec.tls[" + strconv.Itoa(n) + "].secretName", Of: Ref{Kind: "Secret", Namespace: o.Namespace, Name: t.SecretName}})
		}
		if c.Spec.IngressClassName != nil {
			i.use(Use{By: o.Ref, Path: "spec.ingressClassName", Of: Ref{Group: networkingGroup, Kind: "IngressClass", Name: *c.Spec.IngressClassName}})
		}
		for _, b := range ingressBackends(c) {
			i.use(Use{By: o.Ref, Path: b.path + ".service.name", Of: Ref{Kind: "Service", Namespace: o.Namespace, Name: b.name}})
		}
	}
	for o, c := range Of[*gatewayv1.Gateway](i) {
		i.use(Use{By: o.Ref, Path: "spec.gatewayClassName", Of: Ref{Group: gatewayGroup, Kind: "GatewayClass", Name: string(c.Spec.GatewayClassName)}})
		for n, l := range c.Spec.Listeners {
			if l.TLS == nil {
				continue
			}
			for m, r := range l.TLS.CertificateRefs {
				of := Ref{Kind: "Secret", Namespace: o.Namespace, Name: string(r.Name)}
				fill(&of, r.Group, r.Kind, r.Namespace)
				i.use(Use{By: o.Ref, Path: "spec.listeners[" + strconv.Itoa(n) + "].tls.certificateRefs[" + strconv.Itoa(m) + "].name", Of: of})
			}
		}
	}
	for _, r := range i.Routes() {
		for _, b := range r.Backends {
			i.use(Use{By: r.Object.Ref, Path: b.Path + ".name", Of: b.To})
		}
		for _, p := range r.Parents {
			i.use(Use{By: r.Object.Ref, Path: p.Path + ".name", Of: p.To})
		}
	}
}

// ingressBackend is a Service that an Ingress sends to.
type ingressBackend struct {
	path, name string
	port       int
	portName   string
}

func ingressBackends(c *networkingv1.Ingress) []ingressBackend {
	var all []ingressBackend
	add := func(b *networkingv1.IngressBackend, path string) {
		if b != nil && b.Service != nil {
			all = append(all, ingressBackend{path: path, name: b.Service.Name, port: int(b.Service.Port.Number), portName: b.Service.Port.Name})
		}
	}
	add(c.Spec.DefaultBackend, "spec.defaultBackend")
	for n, r := range c.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for m := range r.HTTP.Paths {
			add(&r.HTTP.Paths[m].Backend, "spec.rules["+strconv.Itoa(n)+"].http.paths["+strconv.Itoa(m)+"].backend")
		}
	}
	return all
}

// rightUses are those of bindings.
func (i *Inventory) rightUses() {
	binding := func(o *Object, role rbacv1.RoleRef, subjects []rbacv1.Subject) {
		of := Ref{Group: rbacGroup, Kind: role.Kind, Name: role.Name}
		if role.Kind == "Role" {
			of.Namespace = o.Namespace
		}
		i.use(Use{By: o.Ref, Path: "roleRef.name", Of: of})
		for n, s := range subjects {
			if s.Kind == rbacv1.ServiceAccountKind {
				i.use(Use{By: o.Ref, Path: "subjects[" + strconv.Itoa(n) + "].name", Of: Ref{Kind: s.Kind, Namespace: cmp.Or(s.Namespace, o.Namespace), Name: s.Name}})
			}
		}
	}
	for o, c := range Of[*rbacv1.RoleBinding](i) {
		binding(o, c.RoleRef, c.Subjects)
	}
	for o, c := range Of[*rbacv1.ClusterRoleBinding](i) {
		binding(o, c.RoleRef, c.Subjects)
	}
}
