package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"dhow/api/v1alpha1"
)

// What namespaces and workloads say of their exposure.
const (
	// ExposeLabel is auto on a namespace whose workloads get Exposures by themselves, and
	// never on a workload that gets none.
	ExposeLabel = v1alpha1.Group + "/expose"
	ExposeAuto  = "auto"
	ExposeNever = "never"
	// VisibilityNote and HostsNote on a workload say who may reach it, and by which names,
	// with commas between them.
	VisibilityNote = v1alpha1.Group + "/visibility"
	HostsNote      = v1alpha1.Group + "/hosts"
	// DeducedLabel is on Exposures that were deduced.
	DeducedLabel = v1alpha1.Group + "/deduced"
)

// Deduce says which Exposure a workload gets by itself, from its labels and annotations, its
// ports and the Services that lead to it; nil with the reason if it gets none. It is private
// unless the workload says otherwise, and for the cluster alone where no load balancer of
// requests could lead to it.
func Deduce(w Workload, said, notes map[string]string, services []corev1.Service, p Policy) (*v1alpha1.ExposureSpec, string) {
	if said[ExposeLabel] == ExposeNever {
		return nil, "its label " + ExposeLabel + " says never"
	}
	spec := &v1alpha1.ExposureSpec{Workload: v1alpha1.Workload{Kind: w.Kind, Name: w.Name}, Visibility: v1alpha1.Private}
	in := Input{Exposure: &v1alpha1.Exposure{Spec: *spec}, Workload: w}
	if s := leading(w, said, services); s != nil {
		spec.Service = &v1alpha1.Service{Existing: s.Name}
		in.Ports = s.Spec.Ports
	}
	m := &maker{Input: in, spec: &in.Exposure.Spec}
	if err := m.resolvePorts(); err != nil {
		return nil, "it declares no port, and no Service leads to it"
	}
	var hosts []v1alpha1.Host
	for _, h := range strings.Split(notes[HostsNote], ",") {
		if h = strings.ToLower(strings.TrimSpace(h)); h != "" && !slices.Contains(hosts, v1alpha1.Host(h)) {
			hosts = append(hosts, v1alpha1.Host(h))
		}
	}
	slices.Sort(hosts)
	spec.Hosts = hosts
	known := []v1alpha1.Visibility{v1alpha1.Public, v1alpha1.Private, v1alpha1.Mesh, v1alpha1.None}
	switch v := v1alpha1.Visibility(notes[VisibilityNote]); {
	case v == "" && (len(m.of(true)) == 0 || len(hosts) == 0 && p.Domain == ""):
		// Connections take a port of a load balancer that all share: that is for somebody to say.
		spec.Visibility = v1alpha1.None
	case v == "":
	case !slices.Contains(known, v):
		return nil, fmt.Sprintf("its annotation %s is %q: want public, private, mesh or none", VisibilityNote, v)
	case v == v1alpha1.Public && len(hosts) == 0 && len(m.of(true)) > 0:
		return nil, fmt.Sprintf("its annotation %s is public, and %s names no host", VisibilityNote, HostsNote)
	default:
		spec.Visibility = v
	}
	return spec, ""
}

// leading is the Service that leads to a workload's pods: of several the one with its name,
// or the first by name. Those that the operator made lead to nothing by themselves.
func leading(w Workload, pods map[string]string, services []corev1.Service) *corev1.Service {
	var found []*corev1.Service
	for i := range services {
		s := &services[i]
		if len(s.Spec.Selector) == 0 || s.Labels[ManagedLabel] == Manager || len(s.Spec.Ports) == 0 {
			continue
		}
		if labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(w.Selector)) || labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pods)) {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return slices.MinFunc(found, func(a, b *corev1.Service) int {
		if (a.Name == w.Name) != (b.Name == w.Name) {
			if a.Name == w.Name {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
}
