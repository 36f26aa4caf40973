package render

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"dhow/api/v1alpha1"
)

func TestDeduce(t *testing.T) {
	service := func(name string, labels map[string]string, ports ...corev1.ServicePort) corev1.Service {
		return corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "cart"}, Ports: ports}}
	}
	http := corev1.ServicePort{Name: "http", Port: 80}
	own := v1alpha1.Workload{Kind: "Deployment", Name: "cart"}
	for name, c := range map[string]struct {
		said, notes map[string]string
		services    []corev1.Service
		change      func(*Workload)
		noDomain    bool
		want        v1alpha1.ExposureSpec
		why         string
	}{
		"by its ports":        {want: v1alpha1.ExposureSpec{Workload: own, Visibility: v1alpha1.Private}},
		"by its Service":      {services: []corev1.Service{service("basket", nil, http)}, want: v1alpha1.ExposureSpec{Workload: own, Visibility: v1alpha1.Private, Service: &v1alpha1.Service{Existing: "basket"}}},
		"of several Services": {services: []corev1.Service{service("a", nil, http), service("cart", nil, http)}, want: v1alpha1.ExposureSpec{Workload: own, Visibility: v1alpha1.Private, Service: &v1alpha1.Service{Existing: "cart"}}},
		"not by its own":      {services: []corev1.Service{service("cart", map[string]string{ManagedLabel: Manager}, http)}, want: v1alpha1.ExposureSpec{Workload: own, Visibility: v1alpha1.Private}},
		"public": {notes: map[string]string{VisibilityNote: "public", HostsNote: "www.example.com, shop.example.com,"},
			want: v1alpha1.ExposureSpec{Workload: own, Visibility: v1alpha1.Public, Hosts: []v1alpha1.Host{"shop.example.com", "www.example.com"}}},
		"without a domain": {noDomain: true, want: v1alpha1.ExposureSpec{Workload: own, Visibility: v1alpha1.None}},
		"a database": {change: func(w *Workload) { w.Containers[0].Ports = []corev1.ContainerPort{{Name: "pg", ContainerPort: 5432}} },
			want: v1alpha1.ExposureSpec{Workload: own, Visibility: v1alpha1.None}},
		"a database for the private networks": {notes: map[string]string{VisibilityNote: "private"}, change: func(w *Workload) { w.Containers[0].Ports = []corev1.ContainerPort{{Name: "pg", ContainerPort: 5432}} },
			want: v1alpha1.ExposureSpec{Workload: own, Visibility: v1alpha1.Private}},
		"never":          {said: map[string]string{ExposeLabel: ExposeNever}, why: "says never"},
		"without a port": {change: func(w *Workload) { w.Containers[0].Ports = nil }, why: "declares no port"},
		"without a host": {notes: map[string]string{VisibilityNote: "public"}, why: "names no host"},
		"a wrong word":   {notes: map[string]string{VisibilityNote: "open"}, why: "want public, private, mesh or none"},
	} {
		t.Run(name, func(t *testing.T) {
			in := examples["deduced"].input(t)
			if c.change != nil {
				c.change(&in.Workload)
			}
			if c.noDomain {
				in.Policy.Domain = ""
			}
			got, why := Deduce(in.Workload, c.said, c.notes, c.services, in.Policy)
			if c.why != "" {
				if got != nil || !strings.Contains(why, c.why) {
					t.Errorf("got %+v, %q: want none, for %q", got, why, c.why)
				}
				return
			}
			if got == nil {
				t.Fatalf("got none: %s", why)
			}
			if d := cmp.Diff(c.want, *got); d != "" {
				t.Errorf("-want +have:\n%s", d)
			}
		})
	}
}
