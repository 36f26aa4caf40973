package operator

import (
	"fmt"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/api/v1alpha1"
)

// offset is a clock that can be set.
type offset struct {
	mu sync.Mutex
	by time.Duration
}

func (c *offset) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.by)
}

// set puts the clock to a time of 2026-12-07, a Monday, as 08:00:00 in UTC.
func (c *offset) set(b *bench, text string) {
	b.Helper()
	t, err := time.Parse(time.DateTime, "2026-12-07 "+text)
	if err != nil {
		b.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by = time.Until(t)
}

// calendar is the namespace of these tests.
const calendar = "calendar"

// space makes the namespace of a step.
func (b *bench) space(name string) {
	b.Helper()
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

// office is a calendar with a day from 08:00 to 20:00 and an evening until 22:00.
func (b *bench) office(namespace, kind, name string, mode v1alpha1.Mode, day, evening v1alpha1.ScaleBounds) *v1alpha1.ScheduledScale {
	b.Helper()
	x := &v1alpha1.ScheduledScale{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1alpha1.ScheduledScaleSpec{Target: v1alpha1.ScaleTarget{Kind: kind, Name: name}, TimeZone: "UTC", Mode: mode, Windows: []v1alpha1.ScaleWindow{
		{Name: "day", From: "08:00", To: "20:00", ScaleBounds: day}, {Name: "evening", From: "20:00", To: "22:00", ScaleBounds: evening}}}}
	b.create(x)
	return x
}

func bounds(least, most int32) v1alpha1.ScaleBounds {
	return v1alpha1.ScaleBounds{Min: &least, Max: &most}
}

// poke sets the clock, and wakes a calendar, which would sleep until its own time comes.
func (b *bench) poke(x *v1alpha1.ScheduledScale, text string) {
	b.Helper()
	b.clock.set(b, text)
	b.change(x, func() { x.Annotations = map[string]string{"example.com/woken": text + time.Now().String()} })
}

// change changes a calendar.
func (b *bench) change(x *v1alpha1.ScheduledScale, do func()) {
	b.Helper()
	b.get(x)
	do()
	if err := b.Update(b.ctx, x); err != nil {
		b.Fatal(err)
	}
}

// says waits until a calendar has that window, and a condition with that status and reason.
func (b *bench) says(x *v1alpha1.ScheduledScale, window, kind string, status metav1.ConditionStatus, reason, text string) {
	b.Helper()
	b.await(fmt.Sprintf("%s of %s to be %s, %s, in window %q, with %q", kind, x.Name, status, reason, window, text), func() string {
		b.get(x)
		c := meta.FindStatusCondition(x.Status.Conditions, kind)
		if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != x.Generation || x.Status.Now == nil || x.Status.Now.Window != window || !strings.Contains(c.Message, text) {
			return fmt.Sprintf("the status is %+v, now %+v", x.Status, x.Status.Now)
		}
		return ""
	})
}

// has waits until an autoscaler has those numbers.
func (b *bench) has(namespace, name string, least, most int32) *autoscalingv2.HorizontalPodAutoscaler {
	b.Helper()
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	b.await(fmt.Sprintf("the autoscaler %s to have %d to %d", name, least, most), func() string {
		if err := b.Get(b.ctx, client.ObjectKeyFromObject(h), h); err != nil {
			return err.Error()
		}
		if ptr.Deref(h.Spec.MinReplicas, 0) != least || h.Spec.MaxReplicas != most {
			return fmt.Sprintf("it has %d to %d", ptr.Deref(h.Spec.MinReplicas, 0), h.Spec.MaxReplicas)
		}
		return ""
	})
	return h
}

// gone waits until an object is.
func (b *bench) gone(o client.Object) {
	b.Helper()
	b.await(fmt.Sprintf("%T %s to be gone", o, o.GetName()), func() string {
		if err := b.Get(b.ctx, client.ObjectKeyFromObject(o), o); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("%v, with the finalizers %v", err, o.GetFinalizers())
		}
		return ""
	})
}

func schedulesExposure(b *bench) {
	b.workload("pay")
	e := b.exposure("pay", func(s *v1alpha1.ExposureSpec) {
		s.Scaling = &v1alpha1.Scaling{Min: 2, Max: 10, CPU: &v1alpha1.CPUTarget{Percent: ptr.To(int32(70))}}
	})
	b.ready(e)
	b.has("superapp", "pay", 2, 10)
	b.clock.set(b, "09:00:00")
	x := b.office("superapp", "Exposure", "pay", v1alpha1.DryRun, bounds(6, 40), v1alpha1.ScaleBounds{Min: ptr.To(int32(12))})
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonDryRun, "Exposure pay: 6 to 40 pods instead of 2 to 10; nothing is done")
	if n := x.Status.Next; n == nil || n.Window != "evening" || *n.Min != 12 || n.Max != nil || !n.From.Equal(x.Status.Now.Until) || n.From.UTC().Format(time.TimeOnly) != "20:00:00" || n.Until.UTC().Format(time.TimeOnly) != "22:00:00" {
		b.Errorf("got %+v: want the evening", n)
	}
	b.settled()
	b.has("superapp", "pay", 2, 10)
	b.change(x, func() { x.Spec.Mode = v1alpha1.Apply })
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "6 to 40 pods instead of 2 to 10")
	b.has("superapp", "pay", 6, 40)
	b.ready(e)
	if n := e.Status.Notes; len(n) == 0 || n[len(n)-1] != "by ScheduledScale pay there are 6 to 40 pods, for it is its window day" {
		b.Errorf("got the notes %q", n)
	}
	if e.Spec.Scaling.Min != 2 || e.Spec.Scaling.Max != 10 {
		b.Errorf("got %+v: want the Exposure as somebody wrote it", e.Spec.Scaling)
	}
	// A new operator writes nothing to them.
	b.settled()
	b.stop()
	before := b.writes.count()
	b.start()
	b.await("the new operator to have looked", func() string {
		if b.writes.count() == before {
			return "it has not yet applied what Exposures share"
		}
		return ""
	})
	b.settled()
	for _, w := range b.writes.since(before) {
		if strings.Contains(w, "/scheduledscales/") || strings.Contains(w, "/horizontalpodautoscalers/") {
			b.Errorf("a restart wrote %s", w)
		}
	}
	// The evening has no max: what it demands moves the Exposure's.
	b.poke(x, "21:00:00")
	b.says(x, "evening", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "12 pods instead of 2 to 10")
	b.has("superapp", "pay", 12, 12)
	// Nobody wakes it: its own time comes.
	b.poke(x, "21:59:58")
	b.says(x, "", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "2 to 10 pods, which are its own")
	b.has("superapp", "pay", 2, 10)
	b.poke(x, "09:00:00")
	b.has("superapp", "pay", 6, 40)
	if err := b.Delete(b.ctx, x); err != nil {
		b.Fatal(err)
	}
	b.has("superapp", "pay", 2, 10)
	b.gone(x)
	b.ready(e)
	if err := b.Delete(b.ctx, e); err != nil {
		b.Fatal(err)
	}
	b.gone(e)
	lost := b.office("superapp", "Exposure", "nobody", v1alpha1.Apply, bounds(1, 2), bounds(1, 2))
	b.says(lost, "day", v1alpha1.Accepted, metav1.ConditionFalse, reasonNoTarget, "there is no Exposure nobody")
	b.exposure("nobody", nil)
	b.says(lost, "day", v1alpha1.Accepted, metav1.ConditionFalse, reasonNoScaler, "Exposure nobody has no scaling.max")
}

// autoscaler makes one as a program does.
func (b *bench) autoscaler(namespace, name string, least, most int32, manager string) *autoscalingv2.HorizontalPodAutoscaler {
	b.Helper()
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: &least, MaxReplicas: most, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name}}}
	if err := b.Create(b.ctx, h, client.FieldOwner(manager)); err != nil {
		b.Fatal(err)
	}
	return h
}

// setTo sets an autoscaler's numbers as a program does.
func (b *bench) setTo(h *autoscalingv2.HorizontalPodAutoscaler, least, most int32, manager string) {
	b.Helper()
	b.get(h)
	h.Spec.MinReplicas, h.Spec.MaxReplicas = &least, most
	if err := b.Update(b.ctx, h, client.FieldOwner(manager)); err != nil {
		b.Fatal(err)
	}
}

// ownedBy demands who has the numbers of a target.
func (b *bench) ownedBy(o client.Object, manager string, fields ...string) {
	b.Helper()
	b.get(o)
	var paths [][]any
	for _, f := range fields {
		paths = append(paths, []any{"spec", f})
	}
	if ours, who := ownerOf(o.GetManagedFields(), paths); ours != (manager == scheduler) || !ours && who != manager {
		b.Errorf("got that they are the calendar's: %v, and %q: want %q", ours, who, manager)
	}
	for _, m := range o.GetManagedFields() {
		if manager != scheduler && m.Manager == scheduler {
			b.Errorf("%s is left among the managers: %s", scheduler, m.FieldsV1)
		}
	}
}

func schedulesAutoscaler(b *bench) {
	b.space(calendar)
	b.clock.set(b, "09:00:00")
	h := b.autoscaler(calendar, "pay", 2, 8, "helm")
	numbers := []string{"minReplicas", "maxReplicas"}
	x := b.office(calendar, "HorizontalPodAutoscaler", "pay", v1alpha1.DryRun, bounds(6, 40), bounds(3, 9))
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonDryRun, "6 to 40 pods instead of 2 to 8; nothing is done")
	b.change(x, func() { x.Spec.Mode = v1alpha1.Apply })
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionFalse, reasonConflict, "helm has set its numbers: leave them to dhow there, or set adopt")
	b.settled()
	b.ownedBy(b.has(calendar, "pay", 2, 8), "helm", numbers...)
	if len(x.Finalizers) > 0 || x.Status.Before != nil {
		b.Errorf("got %v, %+v: want nothing to be kept of what is not taken", x.Finalizers, x.Status.Before)
	}
	// A second look at the same writes nothing.
	before := b.writes.count()
	b.poke(x, "09:00:00")
	b.settled()
	if w := b.writes.since(before); len(w) > 0 {
		b.Errorf("a look at a conflict wrote %q", w)
	}
	b.change(x, func() { x.Spec.Adopt = true })
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "6 to 40 pods instead of 2 to 8")
	b.ownedBy(b.has(calendar, "pay", 6, 40), scheduler, numbers...)
	if n := x.Status.Before; n == nil || *n != (v1alpha1.ScaleNumbers{Min: 2, Max: 8, Manager: "helm"}) || len(x.Finalizers) != 1 {
		b.Errorf("got %+v, %v: want what was there before, and that it is given back", n, x.Finalizers)
	}
	// Who takes them again keeps them for this window, and they are what is given back.
	b.setTo(h, 4, 7, "helm")
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionFalse, reasonConflict, "helm has set its numbers again in this window")
	b.settled()
	b.has(calendar, "pay", 4, 7)
	b.poke(x, "20:30:00")
	b.says(x, "evening", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "3 to 9 pods instead of 4 to 7")
	b.has(calendar, "pay", 3, 9)
	// What is changed by hand is set right, and is what is given back.
	b.setTo(h, 1, 5, "kubectl-edit")
	b.has(calendar, "pay", 3, 9)
	b.says(x, "evening", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "3 to 9 pods instead of 1 to 5")
	b.poke(x, "23:00:00")
	b.says(x, "", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "1 to 5 pods, which are its own")
	b.ownedBy(b.has(calendar, "pay", 1, 5), "kubectl-edit", numbers...)
	if x.Status.Before != nil || x.Status.Applied != nil {
		b.Errorf("got %+v, %+v: want nothing kept", x.Status.Before, x.Status.Applied)
	}
	b.poke(x, "09:00:00")
	b.has(calendar, "pay", 6, 40)
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "6 to 40 pods instead of 1 to 5")
	// Back to a rehearsal: everything is given back.
	b.change(x, func() { x.Spec.Mode = v1alpha1.DryRun })
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonDryRun, "6 to 40 pods instead of 1 to 5; nothing is done")
	b.ownedBy(b.has(calendar, "pay", 1, 5), "kubectl-edit", numbers...)
	if len(x.Finalizers) > 0 {
		b.Errorf("got the finalizers %v: want none", x.Finalizers)
	}
	b.change(x, func() { x.Spec.Mode = v1alpha1.Apply })
	b.has(calendar, "pay", 6, 40)
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "6 to 40")
	// Deleted while no operator runs: the next one gives back.
	b.settled()
	b.stop()
	if err := b.Delete(b.ctx, x); err != nil {
		b.Fatal(err)
	}
	b.start()
	b.gone(x)
	b.ownedBy(b.has(calendar, "pay", 1, 5), "kubectl-edit", numbers...)
}

// pods waits until a workload has been told to have so many.
func (b *bench) told(d *appsv1.Deployment, n int32) {
	b.Helper()
	b.await(fmt.Sprintf("%s to be told to have %d pods", d.Name, n), func() string {
		if b.get(d); ptr.Deref(d.Spec.Replicas, -1) != n {
			return fmt.Sprintf("it has %d", ptr.Deref(d.Spec.Replicas, -1))
		}
		return ""
	})
}

func schedulesWorkload(b *bench) {
	b.clock.set(b, "09:00:00")
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: calendar, Name: "batch"}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To(int32(3)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "batch"}}, Template: corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "batch"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "batch", Image: "batch"}}}}}}
	if err := b.Create(b.ctx, d, client.FieldOwner("kubectl-client-side-apply")); err != nil {
		b.Fatal(err)
	}
	x := b.office(calendar, "Deployment", "batch", v1alpha1.Apply, bounds(5, 9), bounds(0, 0))
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "Deployment batch: 5 pods instead of 3")
	b.told(d, 5)
	b.ownedBy(d, scheduler, "replicas")
	b.poke(x, "21:00:00")
	b.says(x, "evening", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "0 pods instead of 3")
	b.told(d, 0)
	b.poke(x, "23:00:00")
	b.says(x, "", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "3 pods, which are its own")
	b.told(d, 3)
	b.ownedBy(d, "kubectl-client-side-apply", "replicas")
	// What is within the bounds stays.
	d.Spec.Replicas = ptr.To(int32(7))
	if err := b.Update(b.ctx, d, client.FieldOwner("kubectl-scale")); err != nil {
		b.Fatal(err)
	}
	b.poke(x, "09:00:00")
	b.says(x, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "7 pods, which are its own")
	b.told(d, 7)
	b.ownedBy(d, "kubectl-scale", "replicas")
	b.autoscaler(calendar, "batch", 2, 8, "helm")
	b.says(x, "day", v1alpha1.Accepted, metav1.ConditionFalse, reasonOther, "Deployment batch is scaled by HorizontalPodAutoscaler batch: let the target be that")
	if err := b.Delete(b.ctx, x); err != nil {
		b.Fatal(err)
	}
	b.gone(x)
	b.told(d, 7)
}

func schedulesOnce(b *bench) {
	b.clock.set(b, "09:00:00")
	b.autoscaler(calendar, "once", 2, 8, "kubectl-create")
	first := b.office(calendar, "HorizontalPodAutoscaler", "once", v1alpha1.Apply, bounds(6, 40), bounds(3, 9))
	b.says(first, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "6 to 40 pods instead of 2 to 8")
	second := first.DeepCopy()
	second.ObjectMeta = metav1.ObjectMeta{Namespace: calendar, Name: "a-second"}
	second.Spec.Windows[0].ScaleBounds = bounds(5, 5)
	b.create(second)
	b.says(second, "day", v1alpha1.Accepted, metav1.ConditionFalse, reasonTaken, "HorizontalPodAutoscaler/once is what ScheduledScale once scales")
	b.has(calendar, "once", 6, 40)
	// What is the target's own is not what the first one gave it.
	b.change(first, func() { first.Spec.Mode = v1alpha1.DryRun })
	b.says(second, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "5 pods instead of 2 to 8")
	b.has(calendar, "once", 5, 5)
	b.change(first, func() { first.Spec.Mode = v1alpha1.Apply })
	b.says(first, "day", v1alpha1.Accepted, metav1.ConditionFalse, reasonTaken, "is what ScheduledScale a-second scales")
	if err := b.Delete(b.ctx, second); err != nil {
		b.Fatal(err)
	}
	b.gone(second)
	b.says(first, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "6 to 40 pods instead of 2 to 8")
}

func schedulesLetsGo(b *bench) {
	b.clock.set(b, "09:00:00")
	first := &v1alpha1.ScheduledScale{ObjectMeta: metav1.ObjectMeta{Namespace: calendar, Name: "once"}}
	h := b.has(calendar, "once", 6, 40)
	// A target that is gone keeps nothing.
	if err := b.Delete(b.ctx, h); err != nil {
		b.Fatal(err)
	}
	b.says(first, "day", v1alpha1.Accepted, metav1.ConditionFalse, reasonNoTarget, "there is no HorizontalPodAutoscaler once")
	if b.get(first); len(first.Finalizers) == 0 {
		b.Error("want a finalizer, or this shows nothing")
	}
	if err := b.Delete(b.ctx, first); err != nil {
		b.Fatal(err)
	}
	b.gone(first)
	// Neither does a namespace that goes wait for what is in it.
	b.autoscaler(calendar, "last", 2, 8, "kubectl-create")
	last := b.office(calendar, "HorizontalPodAutoscaler", "last", v1alpha1.Apply, bounds(6, 40), bounds(3, 9))
	b.says(last, "day", v1alpha1.Ready, metav1.ConditionTrue, reasonApplied, "6 to 40 pods instead of 2 to 8")
	if err := b.Delete(b.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: calendar}}); err != nil {
		b.Fatal(err)
	}
	b.sees("going")
	if err := b.Delete(b.ctx, last); err != nil {
		b.Fatal(err)
	}
	b.gone(last)
	b.has(calendar, "last", 6, 40)
}
