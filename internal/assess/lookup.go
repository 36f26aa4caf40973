package assess

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"dhow/internal/inventory"
)

// lookup is what several rules need to know of an inventory, found out once.
type lookup struct {
	inv   *inventory.Inventory
	graph *graph
	// workloads by namespace, and whether there are quotas and default sizes.
	workloads map[string][]*inventory.Workload
	quotas    map[string][]*corev1.ResourceQuota
	defaults  map[string]limits
	// bound are ServiceAccounts that have rights.
	bound map[inventory.Ref]bool
	// custom are the labels of pods that objects of other kinds make, by namespace.
	custom map[string][]map[string]string
	// databases are the workloads that run one.
	databases map[inventory.Ref]inventory.Engine
}

// limits are what a namespace gives to containers that name nothing.
type limits struct{ cpu, memory, memoryLimit bool }

func newLookup(inv *inventory.Inventory) *lookup {
	l := &lookup{inv: inv, workloads: map[string][]*inventory.Workload{}, quotas: map[string][]*corev1.ResourceQuota{}, defaults: map[string]limits{},
		bound: map[inventory.Ref]bool{}, custom: map[string][]map[string]string{}, databases: map[inventory.Ref]inventory.Engine{}}
	for _, w := range inv.Workloads {
		l.workloads[w.Namespace] = append(l.workloads[w.Namespace], w)
	}
	for o, q := range inventory.Of[*corev1.ResourceQuota](inv) {
		l.quotas[o.Namespace] = append(l.quotas[o.Namespace], q)
	}
	for o, r := range inventory.Of[*corev1.LimitRange](inv) {
		have := l.defaults[o.Namespace]
		for _, i := range r.Spec.Limits {
			if i.Type != corev1.LimitTypeContainer {
				continue
			}
			has := func(list corev1.ResourceList, name corev1.ResourceName) bool {
				q, ok := list[name]
				return ok && !q.IsZero()
			}
			have.cpu = have.cpu || has(i.DefaultRequest, corev1.ResourceCPU) || has(i.Default, corev1.ResourceCPU)
			have.memory = have.memory || has(i.DefaultRequest, corev1.ResourceMemory) || has(i.Default, corev1.ResourceMemory)
			have.memoryLimit = have.memoryLimit || has(i.Default, corev1.ResourceMemory)
		}
		l.defaults[o.Namespace] = have
	}
	for _, u := range inv.Uses {
		if u.Of.Kind == "ServiceAccount" && strings.HasPrefix(u.Path, "subjects[") {
			l.bound[u.Of] = true
		}
	}
	for o, u := range inventory.Of[*unstructured.Unstructured](inv) {
		if o.Kind == inventory.KindCompose {
			continue
		}
		if labels, ok, err := unstructured.NestedStringMap(u.Object, "spec", "template", "metadata", "labels"); ok && err == nil {
			l.custom[o.Namespace] = append(l.custom[o.Namespace], labels)
		}
	}
	for n := range inv.Databases {
		if d := &inv.Databases[n]; d.Server != nil {
			l.databases[*d.Server] = d.Engine
		}
	}
	l.graph = newGraph(inv)
	return l
}

// pods gives the workloads of Kubernetes, with all that a pod has; Compose has less.
func (l *lookup) pods(look func(w *inventory.Workload, spec *corev1.PodSpec)) {
	for _, w := range l.inv.Workloads {
		if w.Kind != inventory.KindCompose {
			look(w, &w.Template.Spec)
		}
	}
}

// containers gives the containers of workloads of Kubernetes.
func (l *lookup) containers(look func(w *inventory.Workload, c *inventory.Container)) {
	l.pods(func(w *inventory.Workload, _ *corev1.PodSpec) {
		for n := range w.Containers {
			look(w, &w.Containers[n])
		}
	})
}

// everyContainer gives those of Compose files too.
func (l *lookup) everyContainer(look func(w *inventory.Workload, c *inventory.Container)) {
	for _, w := range l.inv.Workloads {
		for n := range w.Containers {
			look(w, &w.Containers[n])
		}
	}
}

// servers gives the containers that answer requests: of workloads that are always there
// and have a Service, without those beside the main one that open no port, and without
// Deployments that name no port and whose Services are headless: those give pods a name.
func (l *lookup) servers(look func(w *inventory.Workload, c *inventory.Container)) {
	l.containers(func(w *inventory.Workload, c *inventory.Container) {
		if w.Serves && !c.Init && len(w.Services) > 0 && (len(c.Ports) > 0 || len(w.Containers) == 1 && !namesOnly(w)) {
			look(w, c)
		}
	})
}

func namesOnly(w *inventory.Workload) bool {
	return w.Kind == "Deployment" && !slices.ContainsFunc(w.Services, func(s *inventory.Service) bool { return s.Spec.ClusterIP != corev1.ClusterIPNone })
}

// stable is a path without positions in lists, as far as their items have names.
func (l *lookup) stable(r inventory.Ref, path string) string {
	if w := l.inv.Workload(r); w != nil {
		for n := range w.Containers {
			c := &w.Containers[n]
			rest, ok := strings.CutPrefix(path, c.Path)
			if !ok {
				continue
			}
			path = "container " + c.Name + rest
			list, n, after := positioned(rest)
			switch {
			case list == ".env" && n < len(c.Container.Env):
				path = "container " + c.Name + ".env." + c.Container.Env[n].Name + after
			case list == ".args" && n < len(c.Args):
				name, _, _ := strings.Cut(c.Args[n], "=")
				path = "container " + c.Name + ".args." + name + after
			case list == ".ports" && n < len(c.Ports):
				path = "container " + c.Name + ".ports." + strconv.Itoa(int(c.Ports[n].ContainerPort)) + after
			}
			return path
		}
		if rest, ok := strings.CutPrefix(path, w.SpecPath+".volumes"); ok {
			if _, n, after := positioned(rest); n >= 0 && n < len(w.Template.Spec.Volumes) {
				return w.SpecPath + ".volumes." + w.Template.Spec.Volumes[n].Name + after
			}
		}
	}
	if s := l.inv.Service(r.Namespace, r.Name); s != nil && r.Kind == "Service" {
		if rest, ok := strings.CutPrefix(path, "spec.ports"); ok {
			if _, n, after := positioned(rest); n >= 0 && n < len(s.Spec.Ports) {
				return "spec.ports." + strconv.Itoa(int(s.Spec.Ports[n].Port)) + after
			}
		}
	}
	return path
}

// positioned takes ".env[2].value" apart; the position is -1 if there is none.
func positioned(path string) (list string, n int, after string) {
	open, end := strings.IndexByte(path, '['), strings.IndexByte(path, ']')
	if open < 0 || end < open {
		return path, -1, ""
	}
	n, err := strconv.Atoi(path[open+1 : end])
	if err != nil || n < 0 {
		return path, -1, ""
	}
	return path[:open], n, path[end+1:]
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

// annotation is an object's annotation in lower case.
func annotation(o metav1.Object, name string) string {
	return strings.ToLower(o.GetAnnotations()[name])
}

// index is a field's item: containers[0].
func index(field string, n int) string { return field + "[" + strconv.Itoa(n) + "]" }
