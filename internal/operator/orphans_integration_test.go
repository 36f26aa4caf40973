package operator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/internal/operator/orphan"
	"dhow/internal/operator/render"
)

// cleans goes from a rehearsal to the deletion of what nothing owns, with the operator's own
// rights at the API server.
func cleans(b *bench) {
	b.clock.set(b, "12:00:00")
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "proof"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	b.create(service)
	edge := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: "edge", Annotations: map[string]string{"alb.ingress.kubernetes.io/group.name": "edge"}},
		Spec: networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "proof", Port: networkingv1.ServiceBackendPort{Number: 80}}}}}
	b.create(edge)
	for _, o := range []map[string]any{
		{"kind": "TargetGroupBinding", "metadata": map[string]any{"namespace": "superapp", "name": "proof"}, "spec": map[string]any{"targetGroupARN": "arn:proof", "serviceRef": map[string]any{"name": "proof", "port": int64(80)}}},
		{"kind": "IngressClassParams", "metadata": map[string]any{"name": "inner"}, "spec": map[string]any{"group": map[string]any{"name": "inner"}}},
	} {
		o["apiVersion"] = "elbv2.k8s.aws/v1beta1"
		b.create(&unstructured.Unstructured{Object: o})
	}
	s := newSky(
		tagged(orphan.TargetGroup, "proof", "service.k8s.aws", "superapp/proof"),
		tagged(orphan.LoadBalancer, "edge", "ingress.k8s.aws", "edge"),
		tagged(orphan.LoadBalancer, "inner", "ingress.k8s.aws", "inner"),
		tagged(orphan.LoadBalancer, "one", "ingress.k8s.aws", "superapp/edge"),
		tagged(orphan.LoadBalancer, "public", "gateway.k8s.aws.alb", b.policy.Namespace+"/"+render.Scopes[0].Name()),
		tagged(orphan.LoadBalancer, "old", "gateway.k8s.aws.alb", "superapp/gone"),
		tagged(orphan.TargetGroup, "old-pods", "gateway.k8s.aws.alb", "superapp/gone", "arn:old"),
		tagged(orphan.LoadBalancer, "odd", "mesh.k8s.aws", "superapp/gone"),
	)
	with := func(o *render.Orphans) {
		b.stop()
		b.policy.Orphans, b.cloud = o, s
		b.start()
	}
	look := func(want string) orphan.Report {
		b.Helper()
		var r orphan.Report
		from := b.clock.now()
		b.await("a look", func() string {
			place := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: b.policy.Namespace, Name: render.OrphanReport}}
			b.get(place)
			var err error
			if r, err = orphan.Read(place.Data[orphanKey]); err != nil {
				return err.Error()
			}
			var got []string
			for _, e := range r.Orphans {
				got = append(got, e.Name)
			}
			if text := strings.Join(got, " "); text != want || len(got) > 0 && r.Looked.Before(from.Truncate(time.Second)) {
				return fmt.Sprintf("%+v", r)
			}
			return ""
		})
		return r
	}
	with(&render.Orphans{Cluster: "bank", AfterHours: 1})
	r := look("old old-pods")
	since := *r.Orphans[0].Since
	if len(r.NotUnderstood) != 1 || r.NotUnderstood[0].Name != "odd" || len(r.Kept) > 0 || r.Refused != "" {
		b.Errorf("got %+v", r)
	}
	b.clock.set(b, "12:45:00")
	look("old old-pods")
	b.clock.set(b, "13:15:00")
	if r := look("old old-pods"); !r.Orphans[0].Since.Equal(since) || !strings.HasPrefix(r.Orphans[0].Then, "nothing, for this is a dry run") {
		b.Errorf("got %+v", r)
	}
	if gone := s.gone(); len(gone) > 0 {
		b.Fatalf("a rehearsal deleted %v", gone)
	}
	with(&render.Orphans{Cluster: "bank", AfterHours: 1, Mode: render.OrphansDelete})
	r = look("")
	if gone := s.gone(); !slices.Equal(gone, []string{"arn:old", "arn:old-pods"}) {
		b.Errorf("it deleted %v", gone)
	}
	if len(r.Deleted) != 2 || !r.Deleted[0].Since.Equal(since) || r.Deleted[0].At == nil {
		b.Errorf("got %+v", r)
	}
	// Without an orphan it writes nothing more.
	before, looks := b.writes.count(), s.looked()
	b.await("three looks", func() string {
		if s.looked() < looks+3 {
			return "there are fewer"
		}
		return ""
	})
	for _, w := range b.writes.since(before) {
		if strings.Contains(w, render.OrphanReport) {
			b.Errorf("it wrote %s", w)
		}
	}
	b.await("events", func() string {
		all := &corev1.EventList{}
		if err := b.List(b.ctx, all, client.InNamespace(b.policy.Namespace)); err != nil {
			return err.Error()
		}
		seen := map[string]bool{}
		for i := range all.Items {
			if all.Items[i].InvolvedObject.Name == render.OrphanReport {
				seen[all.Items[i].Reason] = true
			}
		}
		if !seen["OrphansFound"] || !seen["OrphanDeleted"] {
			return fmt.Sprintf("there are %v", seen)
		}
		return ""
	})
	with(nil)
	looks = s.looked()
	b.settled()
	if s.looked() != looks {
		b.Error("turned off, it looks")
	}
	for _, o := range []client.Object{service, edge} {
		if err := b.Delete(b.ctx, o); err != nil {
			b.Error(err)
		}
	}
}
