package inventory

import (
	"cmp"
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// compareRefs is the order of all lists of objects.
func compareRefs(a, b Ref) int {
	return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// equalContent says whether two objects are the same but for where they stand.
func equalContent(a, b *Object) bool { return reflect.DeepEqual(a.Content, b.Content) }

// relate finds out all that follows from the objects. It is the last step of every reader.
func (i *Inventory) relate(ctx context.Context) error {
	slices.SortStableFunc(i.Objects, func(a, b *Object) int { return compareRefs(a.Ref, b.Ref) })
	i.index = index{byRef: make(map[Ref]*Object, len(i.Objects)), byType: map[reflect.Type][]*Object{}, byKind: map[string][]*Object{},
		workloads: map[Ref]*Workload{}, services: map[Ref]*Service{}, uses: map[Ref][]Use{}, usesBy: map[Ref][]Use{}}
	for _, o := range i.Objects {
		i.index.byRef[o.Ref] = o
		i.index.byKind[o.Kind] = append(i.index.byKind[o.Kind], o)
		t := reflect.TypeOf(o.Content)
		i.index.byType[t] = append(i.index.byType[t], o)
	}
	i.Workloads, i.Services, i.Uses, i.Images, i.Databases, i.Calls = nil, nil, nil, nil, nil, nil
	for _, step := range []func(){i.workloads, i.services, i.attach, i.references, i.environments, i.live, i.conclude, i.settle} {
		if err := ctx.Err(); err != nil {
			return err
		}
		step()
	}
	return nil
}

// conclude finds out what follows from the rest and changes nothing of it, side by side.
func (i *Inventory) conclude() {
	var g sync.WaitGroup
	g.Go(i.images)
	g.Go(i.findDatabases)
	g.Go(func() {
		i.findCalls()
		i.proxies() // adds to both calls and files
	})
	g.Wait()
}

// settle sorts what is left and says whether anything is missing.
func (i *Inventory) settle() {
	slices.SortStableFunc(i.Problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.What, b.What), strings.Compare(a.Context, b.Context))
	})
	i.Problems = slices.CompactFunc(i.Problems, func(a, b Problem) bool { return a.String() == b.String() })
	slices.SortStableFunc(i.Plain, func(a, b PlainSecret) int {
		return cmp.Or(compareRefs(a.Object, b.Object), strings.Compare(a.File, b.File), strings.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), strings.Compare(a.Name, b.Name))
	})
	slices.SortStableFunc(i.Files, func(a, b File) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Field, b.Field))
	})
	i.Partial = slices.ContainsFunc(i.Problems, func(p Problem) bool { return p.Lost })
}

// shape is where the pods of a workload are in its object.
type shape struct {
	template *corev1.PodTemplateSpec
	selector *metav1.LabelSelector
	replicas *int32
	owners   []metav1.OwnerReference
	meta     string
	serves   bool
}

const (
	templateMeta = "spec.template.metadata"
	cronMeta     = "spec.jobTemplate.spec.template.metadata"
)

func shapeOf(o *Object) (s shape, ok bool) {
	s = shape{owners: o.Content.GetOwnerReferences(), meta: templateMeta, serves: true}
	switch c := o.Content.(type) {
	case *appsv1.Deployment:
		s.template, s.selector, s.replicas = &c.Spec.Template, c.Spec.Selector, c.Spec.Replicas
	case *appsv1.StatefulSet:
		s.template, s.selector, s.replicas = &c.Spec.Template, c.Spec.Selector, c.Spec.Replicas
	case *appsv1.DaemonSet:
		s.template, s.selector = &c.Spec.Template, c.Spec.Selector
		if n := c.Status.DesiredNumberScheduled; n > 0 {
			s.replicas = &n
		}
	case *appsv1.ReplicaSet:
		s.template, s.selector, s.replicas = &c.Spec.Template, c.Spec.Selector, c.Spec.Replicas
	case *corev1.ReplicationController:
		if c.Spec.Template == nil {
			return s, false
		}
		s.template, s.selector, s.replicas = c.Spec.Template, &metav1.LabelSelector{MatchLabels: c.Spec.Selector}, c.Spec.Replicas
	case *batchv1.Job:
		s.template, s.selector, s.replicas, s.serves = &c.Spec.Template, c.Spec.Selector, c.Spec.Parallelism, false
	case *batchv1.CronJob:
		s.template, s.replicas, s.serves, s.meta = &c.Spec.JobTemplate.Spec.Template, c.Spec.JobTemplate.Spec.Parallelism, false, cronMeta
	case *corev1.Pod:
		s.template, s.meta = &corev1.PodTemplateSpec{ObjectMeta: c.ObjectMeta, Spec: c.Spec}, "metadata"
		s.serves = c.Spec.RestartPolicy == "" || c.Spec.RestartPolicy == corev1.RestartPolicyAlways
	case *unstructured.Unstructured:
		if o.Kind != KindCompose {
			return s, false
		}
		return s, composeShape(c, &s)
	default:
		return s, false
	}
	return s, true
}

// composeShape reads the template that composeNode wrote.
func composeShape(u *unstructured.Unstructured, s *shape) bool {
	template, _, err := unstructured.NestedMap(u.Object, "spec", "template")
	if err != nil {
		return false
	}
	var t corev1.PodTemplateSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, &t); err != nil {
		return false
	}
	s.template = &t
	if n, ok, err := unstructured.NestedInt64(u.Object, "spec", "replicas"); ok && err == nil {
		r := int32(n)
		s.replicas = &r
	}
	return true
}

// workloads finds all that makes pods and is not made by another that is here.
func (i *Inventory) workloads() {
	for _, o := range i.Objects {
		s, ok := shapeOf(o)
		if !ok || i.owned(o, s.owners) {
			continue
		}
		w := &Workload{Ref: o.Ref, Object: o, Replicas: 1, Serves: s.serves, Selector: s.selector, Template: s.template, MetaPath: s.meta, SpecPath: strings.TrimSuffix(s.meta, "metadata") + "spec"}
		if s.replicas != nil {
			w.Replicas, w.ReplicasSet = *s.replicas, true
		}
		spec := &s.template.Spec
		for n := range spec.InitContainers {
			c := &spec.InitContainers[n]
			sidecar := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
			w.Containers = append(w.Containers, Container{Container: c, Path: w.SpecPath + ".initContainers[" + strconv.Itoa(n) + "]", Init: !sidecar, Sidecar: sidecar, Image: parseImage(c.Image)})
		}
		for n := range spec.Containers {
			c := &spec.Containers[n]
			w.Containers = append(w.Containers, Container{Container: c, Path: w.SpecPath + ".containers[" + strconv.Itoa(n) + "]", Image: parseImage(c.Image)})
		}
		i.Workloads = append(i.Workloads, w)
		i.index.workloads[w.Ref] = w
	}
}

// owned says whether another object that is here made it.
func (i *Inventory) owned(o *Object, owners []metav1.OwnerReference) bool {
	for _, r := range owners {
		if r.Controller == nil || !*r.Controller {
			continue
		}
		group, _, grouped := strings.Cut(r.APIVersion, "/")
		if !grouped {
			group = ""
		}
		if i.index.byRef[Ref{group, r.Kind, o.Namespace, r.Name}] != nil {
			return true
		}
	}
	return false
}

// selecting finds workloads by their pods' labels.
type selecting struct {
	// byLabel has the workloads of a namespace that have a label; all has all of it.
	byLabel map[[3]string][]*Workload
	all     map[string][]*Workload
}

func (i *Inventory) selecting() selecting {
	s := selecting{map[[3]string][]*Workload{}, map[string][]*Workload{}}
	for _, w := range i.Workloads {
		s.all[w.Namespace] = append(s.all[w.Namespace], w)
		for k, v := range w.Template.Labels {
			key := [3]string{w.Namespace, k, v}
			s.byLabel[key] = append(s.byLabel[key], w)
		}
	}
	return s
}

// match gives the workloads of a namespace whose pods have all the labels.
func (s selecting) match(namespace string, want map[string]string) []*Workload {
	candidates := s.all[namespace]
	for k, v := range want {
		if c := s.byLabel[[3]string{namespace, k, v}]; len(c) < len(candidates) {
			candidates = c
		}
	}
	var found []*Workload
	selector := labels.Set(want).AsSelectorPreValidated()
	for _, w := range candidates {
		if selector.Matches(labels.Set(w.Template.Labels)) {
			found = append(found, w)
		}
	}
	return found
}

// selects gives the workloads of a namespace that a selector selects; an empty one selects all.
func (s selecting) selects(namespace string, by *metav1.LabelSelector) []*Workload {
	if by == nil {
		return nil
	}
	found := s.match(namespace, by.MatchLabels)
	if len(by.MatchExpressions) == 0 {
		return found
	}
	selector, err := metav1.LabelSelectorAsSelector(by)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(found, func(w *Workload) bool { return !selector.Matches(labels.Set(w.Template.Labels)) })
}

// services finds where each Service leads.
func (i *Inventory) services() {
	selecting := i.selecting()
	for o, c := range Of[*corev1.Service](i) {
		s := &Service{Service: c, Object: o}
		if len(c.Spec.Selector) > 0 && c.Spec.Type != corev1.ServiceTypeExternalName {
			s.Workloads = selecting.match(o.Namespace, c.Spec.Selector)
			for _, w := range s.Workloads {
				w.Services = append(w.Services, s)
			}
		}
		i.Services = append(i.Services, s)
		i.index.services[o.Ref] = s
	}
	for o, c := range Of[*discoveryv1.EndpointSlice](i) {
		s := i.index.services[Ref{Kind: "Service", Namespace: o.Namespace, Name: c.Labels[discoveryv1.LabelServiceName]}]
		if s == nil {
			continue
		}
		s.EndpointsKnown = true
		var ports []int32
		for _, p := range c.Ports {
			if p.Port != nil {
				ports = append(ports, *p.Port)
			}
		}
		for _, e := range c.Endpoints {
			one := Endpoint{Ready: e.Conditions.Ready == nil || *e.Conditions.Ready, Ports: ports, From: o.Ref}
			if e.Zone != nil {
				one.Zone = *e.Zone
			}
			if e.NodeName != nil {
				one.Node = *e.NodeName
			}
			if t := e.TargetRef; t != nil && t.Kind == "Pod" {
				one.Pod = &Ref{Kind: "Pod", Namespace: t.Namespace, Name: t.Name}
			}
			for _, a := range e.Addresses {
				one.Address = a
				s.Endpoints = append(s.Endpoints, one)
			}
		}
	}
	i.endpoints()
	for _, s := range i.Services {
		slices.SortStableFunc(s.Endpoints, func(a, b Endpoint) int {
			return cmp.Or(strings.Compare(a.Address, b.Address), compareRefs(a.From, b.From))
		})
	}
}

// endpoints takes in the Endpoints objects, which old deployments have; those of which
// the slices already told are not counted twice.
func (i *Inventory) endpoints() {
	for o, c := range Of[*corev1.Endpoints](i) { //nolint:staticcheck // what old deployments have
		s := i.index.services[Ref{Kind: "Service", Namespace: o.Namespace, Name: o.Name}]
		if s == nil {
			continue
		}
		s.EndpointsKnown = true
		known := map[string]bool{}
		for _, e := range s.Endpoints {
			known[e.Address] = true
		}
		for _, set := range c.Subsets {
			var ports []int32
			for _, p := range set.Ports {
				ports = append(ports, p.Port)
			}
			for ready, addresses := range map[bool][]corev1.EndpointAddress{true: set.Addresses, false: set.NotReadyAddresses} {
				for _, a := range addresses {
					if !known[a.IP] {
						s.Endpoints = append(s.Endpoints, Endpoint{Address: a.IP, Ready: ready, Ports: ports, From: o.Ref})
					}
				}
			}
		}
	}
}

// attach gives workloads their scalers, budgets and policies.
func (i *Inventory) attach() {
	selecting := i.selecting()
	for o, c := range Of[*autoscalingv2.HorizontalPodAutoscaler](i) {
		if w := i.index.workloads[targetRef(c, o.Namespace)]; w != nil {
			w.Scalers = append(w.Scalers, o)
		}
	}
	for o, c := range Of[*policyv1.PodDisruptionBudget](i) {
		for _, w := range selecting.selects(o.Namespace, c.Spec.Selector) {
			if w.Serves {
				w.Budgets = append(w.Budgets, o)
			}
		}
	}
	for o, c := range Of[*networkingv1.NetworkPolicy](i) {
		for _, w := range selecting.selects(o.Namespace, &c.Spec.PodSelector) {
			w.Policies = append(w.Policies, o)
		}
	}
}

// targetRef is what a scaler scales.
func targetRef(c *autoscalingv2.HorizontalPodAutoscaler, namespace string) Ref {
	t := c.Spec.ScaleTargetRef
	group, _, grouped := strings.Cut(t.APIVersion, "/")
	if !grouped {
		group = ""
		switch t.Kind {
		case "Deployment", "StatefulSet", "ReplicaSet":
			group = "apps" // the version may be left out
		}
	}
	if group == extensionsGroup {
		group = "apps"
	}
	return Ref{group, t.Kind, namespace, t.Name}
}

// environments finds what each container's process gets.
func (i *Inventory) environments() {
	for _, w := range i.Workloads {
		for n := range w.Containers {
			w.Containers[n].Env = i.environment(w, &w.Containers[n])
		}
	}
}

func (i *Inventory) environment(w *Workload, c *Container) []Setting {
	if len(c.EnvFrom) == 0 && len(c.Container.Env) == 0 {
		return nil
	}
	var env []Setting
	at := map[string]int{}
	add := func(s Setting) {
		if n, ok := at[s.Name]; ok {
			env[n] = s
			return
		}
		at[s.Name] = len(env)
		env = append(env, s)
	}
	for _, from := range c.EnvFrom {
		switch {
		case from.ConfigMapRef != nil:
			ref := Ref{Kind: "ConfigMap", Namespace: w.Namespace, Name: from.ConfigMapRef.Name}
			if o := i.index.byRef[ref]; o != nil {
				if m, ok := o.Content.(*corev1.ConfigMap); ok {
					for _, k := range sortedKeys(m.Data) {
						add(Setting{Name: from.Prefix + k, Value: m.Data[k], Object: ref, Path: KeyPath("data", k)})
					}
				}
			}
		case from.SecretRef != nil:
			ref := Ref{Kind: "Secret", Namespace: w.Namespace, Name: from.SecretRef.Name}
			if o := i.index.byRef[ref]; o != nil {
				if m, ok := o.Content.(*corev1.Secret); ok {
					for _, k := range secretKeys(m) {
						add(Setting{Name: from.Prefix + k, Object: ref, Path: KeyPath("data", k), Secret: &ref, Key: k})
					}
				}
			}
		}
	}
	for n, e := range c.Container.Env {
		path := c.Path + ".env[" + strconv.Itoa(n) + "]"
		s := Setting{Name: e.Name, Value: e.Value, Object: w.Ref, Path: path + ".value"}
		if v := e.ValueFrom; v != nil {
			s.Path = path + ".valueFrom"
			switch {
			case v.SecretKeyRef != nil:
				s.Secret, s.Key = &Ref{Kind: "Secret", Namespace: w.Namespace, Name: v.SecretKeyRef.Name}, v.SecretKeyRef.Key
			case v.ConfigMapKeyRef != nil:
				ref := Ref{Kind: "ConfigMap", Namespace: w.Namespace, Name: v.ConfigMapKeyRef.Name}
				s.Key = v.ConfigMapKeyRef.Key
				if o := i.index.byRef[ref]; o != nil {
					if m, ok := o.Content.(*corev1.ConfigMap); ok {
						s.Value, s.Object, s.Path = m.Data[s.Key], ref, KeyPath("data", s.Key)
					}
				}
			}
		}
		s.Value = expand(s.Value, env, at)
		add(s)
	}
	return env
}

// expand fills $(NAME) in, as Kubernetes does, from what stands before.
func expand(v string, env []Setting, at map[string]int) string {
	if !strings.Contains(v, "$(") {
		return v
	}
	var out strings.Builder
	for {
		i := strings.Index(v, "$(")
		if i < 0 {
			break
		}
		end := strings.IndexByte(v[i:], ')')
		if end < 0 {
			break
		}
		n, ok := at[v[i+2:i+end]]
		if !ok || env[n].Value == "" && env[n].Secret != nil {
			out.WriteString(v[:i+end+1]) // a Secret's stays as it is written
		} else {
			out.WriteString(v[:i])
			out.WriteString(env[n].Value)
		}
		v = v[i+end+1:]
		if out.Len() > maxFile>>10 { // each may be as long as the text so far: that doubles
			break
		}
	}
	out.WriteString(v)
	return out.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// secretKeys are the names of a Secret's keys.
func secretKeys(s *corev1.Secret) []string {
	keys := slices.Concat(sortedKeys(s.Data), sortedKeys(s.StringData))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// live hangs what runs under what makes it.
func (i *Inventory) live() {
	slices.SortFunc(i.Pods, func(a, b Pod) int { return compareRefs(a.Ref, b.Ref) })
	for _, p := range i.Pods {
		w := i.index.workloads[p.Owner]
		if w == nil {
			continue
		}
		w.Pods = append(w.Pods, p)
		for _, c := range p.Containers {
			if c.Digest == "" {
				continue
			}
			if w.Digests == nil {
				w.Digests = map[string][]string{}
			}
			w.Digests[c.Name] = append(w.Digests[c.Name], c.Digest)
		}
	}
	for _, w := range i.Workloads {
		for name, digests := range w.Digests {
			slices.Sort(digests)
			w.Digests[name] = slices.Compact(digests)
		}
	}
	for n := range i.Usage {
		u := &i.Usage[n]
		if w := i.index.workloads[u.Workload]; w != nil {
			for c := range w.Containers {
				if w.Containers[c].Name == u.Container {
					w.Containers[c].Usage = u
				}
			}
		}
	}
}

// contentJSON is an object's content as JSON.
func contentJSON(c Content) ([]byte, error) { return json.Marshal(c) }
