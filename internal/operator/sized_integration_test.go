package operator

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/rightsize"
)

// metricsAPI is the metrics API's kind, served from what a test writes.
func metricsAPI() *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "pods.metrics.k8s.io", Annotations: map[string]string{"api-approved.kubernetes.io": "unapproved, for a test"}},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{Group: "metrics.k8s.io", Scope: apiextensionsv1.NamespaceScoped, Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "pods", Kind: "PodMetrics", ListKind: "PodMetricsList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1beta1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true)}}}}}}
}

// pod makes a pod of a workload that runs.
func (b *bench) pod(name, workload string) *corev1.Pod {
	b.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "superapp", Name: name, Labels: map[string]string{"app": workload}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi")}, Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")}}}}}}
	b.create(p)
	p.Status.Phase = corev1.PodRunning
	if err := b.Status().Update(b.ctx, p); err != nil {
		b.Fatal(err)
	}
	return p
}

// takes says what a pod takes at a time.
func (b *bench) takes(p *corev1.Pod, at time.Time, cpu, memory string) {
	b.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{"timestamp": at.UTC().Format(time.RFC3339), "window": "30s", "containers": []any{map[string]any{"name": "app", "usage": map[string]any{"cpu": cpu, "memory": memory}}}}}
	u.SetAPIVersion("metrics.k8s.io/v1beta1")
	u.SetKind("PodMetrics")
	u.SetNamespace(p.Namespace)
	u.SetName(p.Name)
	u.SetLabels(p.Labels)
	if err := b.Apply(b.ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("metrics-server")); err != nil {
		b.Fatal(err)
	}
}

// sized wakes what measures until it says that.
func (b *bench) sized(e *v1alpha1.Exposure, text string) *v1alpha1.SizingStatus {
	b.Helper()
	return b.sizedBy(e, text, time.Second)
}

// sizedBy wakes what measures so often until it says that, 0 being never: then it looks once
// when it starts, and again in a minute.
func (b *bench) sizedBy(e *v1alpha1.Exposure, text string, every time.Duration) *v1alpha1.SizingStatus {
	b.Helper()
	woken := time.Time{}
	b.await(fmt.Sprintf("the sizes of %s to say %q", e.Name, text), func() string {
		b.get(e)
		if s := e.Status.Sizing; s != nil && strings.Contains(s.Message, text) {
			return ""
		}
		if every > 0 && time.Since(woken) > every {
			woken = time.Now()
			e.Annotations = map[string]string{"example.com/woken": woken.String()}
			if err := b.Update(b.ctx, e); err != nil {
				return err.Error()
			}
		}
		return fmt.Sprintf("they say %+v", e.Status.Sizing)
	})
	return e.Status.Sizing
}

func sizes(b *bench) {
	b.clock.set(b, "09:00:00")
	d := b.workload("sized")
	e := b.exposure("sized", func(s *v1alpha1.ExposureSpec) { s.Sizing = &v1alpha1.Sizing{Mode: v1alpha1.DryRun} })
	b.ready(e)
	b.sized(e, "install the metrics server")
	first, second := b.pod("sized-1", "sized"), b.pod("sized-2", "sized")
	if _, err := envtest.InstallCRDs(b.conf, envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{metricsAPI()}}); err != nil {
		b.Fatal(err)
	}
	now := b.clock.now()
	b.takes(first, now, "400m", "100Mi")
	if s := b.sized(e, "it is measured for 10m0s"); len(s.Containers) > 0 {
		b.Errorf("got %+v: want nothing yet", s.Containers)
	}
	b.takes(first, now.Add(11*time.Minute), "300m", "90Mi")
	s := b.sized(e, "2 of 2 pods would be resized")
	if len(s.Containers) != 1 || s.Containers[0].CPU != "500m" || s.Containers[0].Memory != "144Mi" || s.Containers[0].Asks != "100m, 64Mi" || !strings.Contains(s.Containers[0].CPUWhy, "20% headroom") || s.Containers[0].History == "" {
		b.Errorf("got %+v: want the highest of both and some more", s.Containers)
	}
	b.changed(e, func() { e.Spec.Sizing.Mode = v1alpha1.Apply })
	b.sized(e, "2 of 2 pods are resized when a day was measured")
	asks := func(p *corev1.Pod, want string) string {
		b.get(p)
		r := p.Spec.Containers[0].Resources
		if got := fmt.Sprintf("%s %s, %s", r.Requests.Cpu(), r.Requests.Memory(), r.Limits.Memory()); got != want {
			return "it asks for " + got
		}
		return ""
	}
	for _, p := range []*corev1.Pod{first, second} {
		if text := asks(p, "100m 64Mi, 128Mi"); text != "" {
			b.Error(text)
		}
	}
	// An operator that starts anew goes on with what another one has measured.
	b.settled()
	b.stop()
	old := &rightsize.Record{}
	for m := range 2 * 24 * 60 {
		old.Sample(now.Add(-48*time.Hour+time.Duration(m)*time.Minute), .4, 100<<20)
	}
	text, err := old.MarshalText()
	if err != nil {
		b.Fatal(err)
	}
	b.get(e)
	e.Status.Sizing.Containers[0].History = string(text)
	if err := b.Status().Update(b.ctx, e); err != nil {
		b.Fatal(err)
	}
	b.start()
	// One at a time: who is woken goes on with the next.
	s = b.sizedBy(e, "1 of 2 pods are left to be resized", 0)
	if !strings.Contains(s.Containers[0].CPUWhy, "over 2 days by metrics API") {
		b.Errorf("got %q: want what the other one measured", s.Containers[0].CPUWhy)
	}
	if text := asks(first, "500m 144Mi, 144Mi"); text != "" {
		b.Error(text)
	}
	if text := asks(second, "100m 64Mi, 128Mi"); text != "" {
		b.Error(text)
	}
	b.sized(e, "every pod asks for about what it should")
	if text := asks(second, "500m 144Mi, 144Mi"); text != "" {
		b.Error(text)
	}
	if b.get(d); len(d.Spec.Template.Spec.Containers[0].Resources.Requests) > 0 {
		b.Errorf("got %+v: want what makes the pods as it was", d.Spec.Template.Spec.Containers[0].Resources)
	}
	// The kernel ends one: half of its limit is put on top, and the other waits for the node.
	b.get(first)
	first.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonDeferred, Message: "the node is full"}}
	first.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", Image: "app", ImageID: "app", RestartCount: 1, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137, FinishedAt: metav1.NewTime(now)}}}}
	if err := b.Status().Update(b.ctx, first); err != nil {
		b.Fatal(err)
	}
	s = b.sized(e, "pod sized-1 is being resized: Deferred the node is full; the others wait for it")
	if s.Containers[0].Memory != "224Mi" || !strings.Contains(s.Containers[0].MemoryWhy, "the kernel ended it once") {
		b.Errorf("got %s, %q", s.Containers[0].Memory, s.Containers[0].MemoryWhy)
	}
	b.await("an event", func() string {
		all := &corev1.EventList{}
		if err := b.List(b.ctx, all, client.InNamespace("superapp")); err != nil {
			return err.Error()
		}
		for i := range all.Items {
			if all.Items[i].Reason == "OutOfMemory" && strings.Contains(all.Items[i].Message, "its limit is 144Mi") {
				return ""
			}
		}
		return "there is none of it"
	})
	// A look that finds nothing new writes nothing.
	b.settled()
	before := b.writes.count()
	b.changed(e, func() { e.Annotations = map[string]string{"example.com/woken": "once more"} })
	b.settled()
	for _, w := range b.writes.since(before) {
		if strings.Contains(w, "/sized") {
			b.Errorf("it wrote %s", w)
		}
	}
	b.changed(e, func() { e.Spec.Sizing = nil })
	b.await("the sizes to be gone", func() string {
		if b.get(e); e.Status.Sizing != nil {
			return e.Status.Sizing.Message
		}
		return ""
	})
}

// changed changes an Exposure.
func (b *bench) changed(e *v1alpha1.Exposure, do func()) {
	b.Helper()
	b.get(e)
	do()
	if err := b.Update(b.ctx, e); err != nil {
		b.Fatal(err)
	}
}
