package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
)

const (
	// perNamespace is how many Exposures a namespace has.
	perNamespace = 50
	// makers is how many objects are made at once.
	makers = 8
	// replicas are each workload's, none of which is a pod here.
	replicas = 2
	// toldWhy is how many Exposures that are not ready an error tells of.
	toldWhy = 3
)

func namespaceOf(n int) string { return fmt.Sprintf("team-%03d", n/perNamespace) }

// nameOf is unique in the cluster, for a host follows from it.
func nameOf(n int) string { return fmt.Sprintf("service-%05d", n) }

// each does something for the numbers from first to before end, several at once.
func each(ctx context.Context, first, end int, do func(ctx context.Context, n int) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(makers)
	for n := first; n < end && gctx.Err() == nil; n++ {
		g.Go(func() error { return do(gctx, n) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// workloads makes the Deployments from first to before end with their namespaces, all of
// whose pods serve as far as their status goes.
func (b *bench) workloads(ctx context.Context, first, end int) error {
	err := each(ctx, (first+perNamespace-1)/perNamespace, (end+perNamespace-1)/perNamespace, func(ctx context.Context, n int) error {
		return b.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceOf(n * perNamespace)}})
	})
	if err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	err = each(ctx, first, end, func(ctx context.Context, n int) error {
		d := workload(n)
		if err := b.admin.Create(ctx, d); err != nil {
			return err
		}
		d.Status.Replicas, d.Status.ReadyReplicas, d.Status.AvailableReplicas = replicas, replicas, replicas
		return b.admin.Status().Update(ctx, d)
	})
	if err != nil {
		return fmt.Errorf("make Deployments: %w", err)
	}
	b.say("%d Deployments are there", end)
	return nil
}

// workload is a Deployment as a careful team writes it.
func workload(n int) *appsv1.Deployment {
	labels := map[string]string{"app": nameOf(n)}
	pod := corev1.PodSpec{TerminationGracePeriodSeconds: ptr.To(int64(60)), Containers: []corev1.Container{{
		Name: "main", Image: "registry.example.com/" + nameOf(n) + ":1",
		Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "metrics", ContainerPort: 9090}},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("http")}}},
		Env:            []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"}, {Name: "DATABASE", Value: "postgres://db.bank.example/" + nameOf(n)}},
		Resources:      corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")}},
		Lifecycle:      &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 30}}},
	}}}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespaceOf(n), Name: nameOf(n), Labels: labels}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To(int32(replicas)),
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod}}}
}

// exposures makes those from first to before end.
func (b *bench) exposures(ctx context.Context, first, end int) error {
	err := each(ctx, first, end, func(ctx context.Context, n int) error { return b.admin.Create(ctx, exposure(n)) })
	if err != nil {
		return fmt.Errorf("make Exposures: %w", err)
	}
	return nil
}

// exposure is one of a mix: of ten two are public, one of these restricted, one scales,
// one is for the cluster alone, and the rest are private.
func exposure(n int) *v1alpha1.Exposure {
	e := &v1alpha1.Exposure{ObjectMeta: metav1.ObjectMeta{Namespace: namespaceOf(n), Name: nameOf(n)}, Spec: v1alpha1.ExposureSpec{Workload: v1alpha1.Workload{Kind: "Deployment", Name: nameOf(n)}, Visibility: v1alpha1.Private}}
	s := &e.Spec
	switch n % 10 {
	case 0, 1:
		s.Visibility = v1alpha1.Public
		s.Hosts = []v1alpha1.Host{v1alpha1.Host(nameOf(n) + ".example.com")}
		s.Paths = []v1alpha1.Path{{Path: "/api"}, {Path: "/status", Type: "Exact"}}
		if n%10 == 0 {
			s.Access = &v1alpha1.Access{SourceRanges: []v1alpha1.CIDR{"203.0.113.0/24"}}
		}
	case 2:
		s.Scaling = &v1alpha1.Scaling{Min: 2, Max: 10, CPU: &v1alpha1.CPUTarget{Percent: ptr.To(int32(65))}}
	case 3:
		s.Visibility = v1alpha1.None
	}
	return e
}

// touchNamespaces gives each namespace a label that nobody knows.
func (b *bench) touchNamespaces(ctx context.Context) error {
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"bench.example.com/touched":"yes"}}}`))
	err := each(ctx, 0, (b.many+perNamespace-1)/perNamespace, func(ctx context.Context, n int) error {
		return b.admin.Patch(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceOf(n * perNamespace)}}, patch)
	})
	if err != nil {
		return fmt.Errorf("label the namespaces: %w", err)
	}
	return nil
}

// watcher sees which Exposures are ready.
type watcher struct {
	mu sync.Mutex
	// why is "" for an Exposure that is ready, and otherwise why it is not.
	why   map[types.NamespacedName]string
	ready int
	// last is when one became ready last.
	last time.Time
}

func newWatcher() *watcher { return &watcher{why: map[types.NamespacedName]string{}} }

// follow watches until ctx ends.
func (w *watcher) follow(ctx context.Context, c client.WithWatch) {
	for ctx.Err() == nil {
		stream, err := c.Watch(ctx, &v1alpha1.ExposureList{})
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(askEvery):
			}
			continue
		}
		for e := range stream.ResultChan() {
			if o, ok := e.Object.(*v1alpha1.Exposure); ok && e.Type != watch.Deleted {
				w.see(o)
			}
		}
		stream.Stop()
	}
}

func (w *watcher) see(e *v1alpha1.Exposure) {
	why := "the operator has not looked at it"
	if c := meta.FindStatusCondition(e.Status.Conditions, v1alpha1.Ready); c != nil && c.ObservedGeneration == e.Generation {
		why = c.Message
		if c.Status == metav1.ConditionTrue {
			why = ""
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := client.ObjectKeyFromObject(e)
	before, known := w.why[key]
	w.why[key] = why
	was, is := known && before == "", why == ""
	switch {
	case is && !was:
		w.ready++
		w.last = time.Now()
	case was && !is:
		w.ready--
	}
}

// missing says why not so many are ready, "" if they are.
func (w *watcher) missing(n int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ready >= n {
		return ""
	}
	text, told := fmt.Sprintf("%d are", w.ready), 0
	for key, why := range w.why {
		if why != "" && told < toldWhy {
			told++
			text += fmt.Sprintf("; %s: %s", key, why)
		}
	}
	return text
}

// lastAt is when an Exposure became ready last.
func (w *watcher) lastAt() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}
