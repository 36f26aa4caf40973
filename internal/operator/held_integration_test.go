package operator

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/internal/operator/admit"
	"dhow/internal/operator/render"
)

// digestOf is a digest of one figure.
func digestOf(figure string) string { return "sha256:" + strings.Repeat(figure, 64) }

// replicas makes a ReplicaSet as a Deployment's controller does.
func (b *bench) replicas(namespace, name string) *appsv1.ReplicaSet {
	b.Helper()
	labels := map[string]string{"app": name, "pod-template-hash": "5d9"}
	r := &appsv1.ReplicaSet{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"}, ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name + "-5d9", Labels: labels}, Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example.com:5000/app:v1"}}}}}}
	b.create(r)
	r.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet")) // which the answer leaves out
	return r
}

// podOf makes a pod of a ReplicaSet or a StatefulSet.
func (b *bench) podOf(o client.Object, name string, change func(*corev1.Pod)) *corev1.Pod {
	b.Helper()
	kind := o.GetObjectKind().GroupVersionKind()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: name, Labels: o.GetLabels(), OwnerReferences: []metav1.OwnerReference{{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Name: o.GetName(), UID: o.GetUID(), Controller: ptr.To(true)}}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example.com:5000/app:v1"}}}}
	if change != nil {
		change(p)
	}
	b.create(p)
	return p
}

// runs says, as a kubelet does, what a pod's container runs.
func (b *bench) runs(p *corev1.Pod, id string) {
	b.Helper()
	b.get(p)
	p.Status.Phase = corev1.PodRunning
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", Image: "app", ImageID: id, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	if err := b.Status().Update(b.ctx, p); err != nil {
		b.Fatal(err)
	}
}

// looks lets a workload of a namespace tell that pods have come.
func (b *bench) looks(namespace string) {
	b.Helper()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "bell"}}
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(d), d); apierrors.IsNotFound(err) {
		labels := map[string]string{"app": "bell"}
		d.Spec = appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "bell", Image: "bell"}}}}}
		b.create(d)
	} else if err != nil {
		b.Fatal(err)
	}
	d.Status.Replicas++
	d.Status.ReadyReplicas, d.Status.AvailableReplicas = d.Status.Replicas, d.Status.Replicas
	if err := b.Status().Update(b.ctx, d); err != nil {
		b.Fatal(err)
	}
}

// recorded waits for the record of a revision.
func (b *bench) recorded(namespace, revision string) *appsv1.ControllerRevision {
	b.Helper()
	o := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: revision + recordEnd}}
	b.await("what "+revision+" began with", func() string {
		if err := b.Get(b.ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err.Error()
		}
		return ""
	})
	return o
}

// tells waits for an event of an object, and says how often it was told.
func (b *bench) tells(o client.Object, reason, text string) int {
	b.Helper()
	n := 0
	b.await(fmt.Sprintf("an event %s of %s with %q", reason, o.GetName(), text), func() string {
		all := &corev1.EventList{}
		if err := b.List(b.ctx, all); err != nil {
			return err.Error()
		}
		n = 0
		var others []string
		for i := range all.Items {
			if e := &all.Items[i]; e.InvolvedObject.Name == o.GetName() {
				others = append(others, e.Reason+": "+e.Message)
				if e.Reason == reason && strings.Contains(e.Message, text) {
					n++
				}
			}
		}
		if n == 0 {
			return fmt.Sprintf("there are %q", others)
		}
		return ""
	})
	return n
}

// differing is what the metric says of a namespace, -1 where it says nothing.
func (b *bench) differing(namespace string) float64 {
	b.Helper()
	if n, ok := b.gauge("dhow_operator_pods_of_other_image", namespace); ok {
		return n
	}
	return -1
}

// labelled gives a namespace the label of what becomes of its images, "" for none.
func (b *bench) labelled(namespace, mode string) *corev1.Namespace {
	b.Helper()
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	b.get(space)
	if delete(space.Labels, admit.DigestsLabel); mode != "" {
		if space.Labels == nil {
			space.Labels = map[string]string{}
		}
		space.Labels[admit.DigestsLabel] = mode
	}
	if err := b.Update(b.ctx, space); err != nil {
		b.Fatal(err)
	}
	return space
}

// recordsImages: a rehearsal writes down once what a revision began with, tells who runs something
// else, and changes no pod.
func recordsImages(b *bench) {
	const space, image = "images", "registry.example.com:5000/app"
	b.space(space)
	cart := b.replicas(space, "cart")
	first, second := b.podOf(cart, "cart-1", nil), b.podOf(cart, "cart-2", nil)
	b.runs(first, image+"@"+digestOf("a"))
	b.looks(space)
	b.tells(b.labelled(space, "on"), "UnknownLabel", `says "on": let it be dry-run or pin`)
	revisions := &appsv1.ControllerRevisionList{}
	if err := b.List(b.ctx, revisions); err != nil || len(revisions.Items) > 0 {
		b.Errorf("got %d revisions, %v: want nothing where nobody has asked", len(revisions.Items), err)
	}
	b.labelled(space, admit.DigestsDryRun)
	record := b.recorded(space, "cart-5d9")
	want := fmt.Sprintf(`{"of":%q,"images":[{"container":"app","image":"%s:v1","digest":%q}]}`, cart.UID, image, digestOf("a"))
	if string(record.Data.Raw) != want {
		b.Errorf("got %s: want %s", record.Data.Raw, want)
	}
	if o := record.OwnerReferences; len(o) != 1 || o[0].UID != cart.UID || o[0].Controller != nil || o[0].BlockOwnerDeletion != nil {
		b.Errorf("got owners %+v: want the ReplicaSet, and that it blocks nothing", o)
	}
	b.tells(cart, "ImagesRecorded", "its new pods would be held at the digests of 1 containers")

	// The tag was moved: the pod that has come since is told once, and left as it is.
	b.runs(second, "docker-pullable://"+image+"@"+digestOf("b"))
	b.looks(space)
	b.tells(second, "OtherImage", fmt.Sprintf("container app runs %s, where ReplicaSet cart-5d9 began with %s", digestOf("b"), digestOf("a")))
	b.tells(second, "OtherImage", "with dhow.dev/digests=pin on the namespace it would run what the others do")
	b.await("the metric", func() string {
		if n := b.differing(space); n != 1 {
			return fmt.Sprintf("it says %g", n)
		}
		return ""
	})

	// What a node knows by no digest is told too, and written down so that it is told once.
	hand := b.replicas(space, "hand")
	b.runs(b.podOf(hand, "hand-1", nil), digestOf("c"))
	// Those that are left out, and those of Jobs, are not looked at.
	out := b.replicas(space, "out")
	b.runs(b.podOf(out, "out-1", func(p *corev1.Pod) { p.Labels = map[string]string{admit.DigestsLabel: admit.DigestsOff} }), image+"@"+digestOf("c"))
	// Somebody else's object of that name stays.
	taken := b.replicas(space, "taken")
	theirs := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "taken-5d9" + recordEnd}, Data: runtime.RawExtension{Raw: []byte(`{"theirs":true}`)}, Revision: 7}
	b.create(theirs)
	b.runs(b.podOf(taken, "taken-1", nil), image+"@"+digestOf("c"))
	b.looks(space)
	b.recorded(space, "hand-5d9")
	b.tells(hand, "ImagesRecorded", "1 are not, such as app: the node knows "+image+":v1 by no digest of a registry")
	b.tells(taken, "NotHeld", "ControllerRevision taken-5d9-digests is there already, and dhow did not make it")
	if b.get(theirs); theirs.Revision != 7 || string(theirs.Data.Raw) != `{"theirs":true}` {
		b.Errorf("got %+v: want it as it was", theirs)
	}

	// Further looks write nothing, neither by this operator nor by the next.
	idle := func(what string, do func()) {
		b.Helper()
		b.settled()
		before := b.writes.count()
		do()
		b.settled()
		for _, w := range b.writes.since(before) {
			if strings.Contains(w, "/controllerrevisions") {
				b.Errorf("%s wrote %s", what, w)
			}
		}
	}
	if err := b.Delete(b.ctx, theirs); err != nil {
		b.Fatal(err)
	}
	b.looks(space)
	b.recorded(space, "taken-5d9")
	idle("a further look", func() {
		third := b.podOf(cart, "cart-3", nil)
		b.runs(third, image+"@"+digestOf("b"))
		b.looks(space)
		b.tells(third, "OtherImage", digestOf("b")) // by which it has looked
	})
	if n := b.tells(second, "OtherImage", ""); n != 1 {
		b.Errorf("it was told %d times: want once", n)
	}
	idle("a restart", func() {
		b.stop()
		b.start()
		b.looks(space)
		b.await("the new operator to have looked", func() string {
			if b.tells(second, "OtherImage", "") < 2 {
				return "it has not told"
			}
			return ""
		})
	})
	// A record that is removed by hand is made again; one that is edited can not be.
	record = b.recorded(space, "cart-5d9")
	record.Data.Raw = []byte(strings.ReplaceAll(string(record.Data.Raw), digestOf("a"), digestOf("b")))
	if err := b.Client.Update(b.ctx, record); !apierrors.IsInvalid(err) {
		b.Errorf("got %v: want a record that nobody can change", err)
	}
	if err := b.Delete(b.ctx, record); err != nil {
		b.Fatal(err)
	}
	if again := b.recorded(space, "cart-5d9"); !strings.Contains(string(again.Data.Raw), digestOf("a")) {
		b.Errorf("got %s: want what the oldest pod runs", again.Data.Raw)
	}
	revisions = &appsv1.ControllerRevisionList{}
	if err := b.List(b.ctx, revisions, client.InNamespace(space)); err != nil || slices.ContainsFunc(revisions.Items, func(x appsv1.ControllerRevision) bool { return strings.HasPrefix(x.Name, "out") }) {
		b.Errorf("got %v, and %d revisions: want none of pods that are left out", err, len(revisions.Items))
	}
	// A ReplicaSet that is made again under its name does not go by what the former one ran.
	b.create(&appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "anew-5d9" + recordEnd, Labels: map[string]string{render.ManagedLabel: render.Manager}}, Data: runtime.RawExtension{Raw: []byte(`{"of":"0b1c"}`)}, Revision: 1})
	anew := b.replicas(space, "anew")
	b.runs(b.podOf(anew, "anew-1", nil), image+"@"+digestOf("c"))
	b.looks(space)
	b.tells(anew, "NotHeld", "tells what another of this name began with: remove it")
	if err := b.Delete(b.ctx, b.recorded(space, "anew-5d9")); err != nil {
		b.Fatal(err)
	}
	if o := b.recorded(space, "anew-5d9"); !strings.Contains(string(o.Data.Raw), string(anew.UID)) {
		b.Errorf("got %s: want its own", o.Data.Raw)
	}
	// Turned off, it says nothing any more, and the records stay for when it is turned on again.
	b.labelled(space, "")
	b.await("the metric to be gone", func() string {
		if n := b.differing(space); n >= 0 {
			return fmt.Sprintf("it says %g", n)
		}
		return ""
	})
	b.recorded(space, "cart-5d9")
}

// holdsImages: pods of a revision get the digests that its first one ran.
func holdsImages(g *gateBench) {
	const space, image = "held", "registry.example.com:5000/app"
	g.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space, Labels: map[string]string{admit.DigestsLabel: admit.DigestsPin}}})
	cart := g.replicas(space, "cart")
	first := g.podOf(cart, "cart-1", nil)
	if got := first; got.Spec.Containers[0].Image != image+":v1" || got.Annotations[admit.SetNote] != "" {
		g.Errorf("got %+v: want the first pod as it was", got.Spec.Containers[0])
	}
	g.runs(first, image+"@"+digestOf("a"))
	g.looks(space)
	g.recorded(space, "cart-5d9")
	n := 1
	next := func(o client.Object, change func(*corev1.Pod)) *corev1.Pod {
		n++
		return g.podOf(o, fmt.Sprintf("%s-%d", o.GetName(), n), change)
	}
	// What each operator's cache shows takes a moment.
	var second *corev1.Pod
	held := image + ":v1@" + digestOf("a")
	g.await("a pod with the digest", func() string {
		if second = next(cart, nil); second.Spec.Containers[0].Image != held {
			return "one has " + second.Spec.Containers[0].Image
		}
		return ""
	})
	if note := second.Annotations[admit.SetNote]; !strings.Contains(note, "spec.containers[app].image") || !strings.Contains(note, "the first pod of ReplicaSet cart-5d9 ran that") {
		g.Errorf("got the annotation %s", note)
	}
	if second.Spec.Containers[0].ImagePullPolicy != first.Spec.Containers[0].ImagePullPolicy {
		g.Errorf("got %s: want the policy as it was", second.Spec.Containers[0].ImagePullPolicy)
	}
	for what, change := range map[string]func(*corev1.Pod){
		"another image": func(p *corev1.Pod) { p.Spec.Containers[0].Image = image + ":v2" },
		"one left out":  func(p *corev1.Pod) { p.Labels = map[string]string{admit.DigestsLabel: admit.DigestsOff} },
		"one of a ReplicaSet that had the same name": func(p *corev1.Pod) { p.OwnerReferences[0].UID = "0b1c" },
		"one of nobody": func(p *corev1.Pod) { p.OwnerReferences = nil },
	} {
		if p := next(cart, change); strings.Contains(p.Spec.Containers[0].Image, "@") || p.Annotations[admit.SetNote] != "" {
			g.Errorf("%s: got %s", what, p.Spec.Containers[0].Image)
		}
	}
	// A new rollout begins with what the registry has by then.
	later := g.replicas(space, "later")
	g.runs(next(later, nil), image+"@"+digestOf("b"))
	// A StatefulSet's revision is a ControllerRevision of its own.
	rev := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "ledger-7f"}, Data: runtime.RawExtension{Raw: []byte(`{}`)}, Revision: 1}
	g.create(rev)
	labels := map[string]string{"app": "ledger", appsv1.ControllerRevisionHashLabelKey: "ledger-7f"}
	ledger := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: "ledger", Labels: labels}, Spec: appsv1.StatefulSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "ledger"}}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "ledger"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image + ":v1"}}}}}}
	g.create(ledger)
	ledger.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("StatefulSet"))
	g.runs(next(ledger, nil), image+"@"+digestOf("c"))
	g.looks(space)
	if o := g.recorded(space, "ledger-7f").OwnerReferences; len(o) != 1 || o[0].UID != rev.UID || o[0].Kind != "ControllerRevision" {
		g.Errorf("got owners %+v: want the revision", o)
	}
	for o, want := range map[client.Object]string{later: digestOf("b"), ledger: digestOf("c"), cart: digestOf("a")} {
		g.await("a pod of "+o.GetName()+" with its digest", func() string {
			if p := next(o, nil); p.Spec.Containers[0].Image != image+":v1@"+want {
				return "one has " + p.Spec.Containers[0].Image
			}
			return ""
		})
	}
	// A pod that is held tells what its revision began with where the record and the first pod have gone.
	g.runs(second, image+"@"+digestOf("a"))
	for _, o := range []client.Object{first, g.recorded(space, "cart-5d9")} {
		if err := g.Delete(g.ctx, o, client.GracePeriodSeconds(0)); err != nil {
			g.Fatal(err)
		}
	}
	if again := g.recorded(space, "cart-5d9"); !strings.Contains(string(again.Data.Raw), `"image":"`+image+`:v1","digest":"`+digestOf("a")) {
		g.Errorf("got %s: want what it was", again.Data.Raw)
	}
	// A rehearsal changes nothing.
	g.labelled(space, admit.DigestsDryRun)
	g.await("a pod as it was", func() string {
		p := next(cart, nil)
		if strings.Contains(p.Spec.Containers[0].Image, "@") {
			return "one has " + p.Spec.Containers[0].Image
		}
		return ""
	})
}

// holdsRevisions: while a revision is rolled out beside another, by a DaemonSet that replaces
// what is deleted or a Rollout that tries it out, and after it was rolled back, pods of each are
// held at what it began with. The workload's own status tells that there is something to see.
func holdsRevisions(g *gateBench) {
	const space, image = "revisions", "registry.example.com:5000/app"
	g.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space, Labels: map[string]string{admit.DigestsLabel: admit.DigestsPin}}})
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: space, Name: name} }
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "app"}}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: selector.MatchLabels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image + ":v1"}}}}
	rollout := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(2)}}}
	rollout.SetGroupVersionKind(rolloutKind)
	rollout.SetNamespace(space)
	rollout.SetName("shop")
	for _, w := range []struct {
		kind   string
		object client.Object
		// status says how many of its pods serve.
		status string
		// hash is what a revision's pods are labelled with, from its name and from its end.
		label string
		hash  func(name, end string) string
	}{
		{"DaemonSet", &appsv1.DaemonSet{ObjectMeta: named("agent"), Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template, UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}}},
			`{"status":{"numberAvailable":%d}}`, appsv1.ControllerRevisionHashLabelKey, func(_, end string) string { return end }},
		{"StatefulSet", &appsv1.StatefulSet{ObjectMeta: named("store"), Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}},
			`{"status":{"replicas":%[1]d,"readyReplicas":%[1]d,"availableReplicas":%[1]d}}`, appsv1.ControllerRevisionHashLabelKey, func(name, _ string) string { return name }},
		{rolloutKind.Kind, rollout, `{"status":{"availableReplicas":%d}}`, rolloutHash, func(_, end string) string { return end }},
	} {
		g.create(w.object)
		if w.kind != rolloutKind.Kind {
			w.object.GetObjectKind().SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind(w.kind)) // which the answer leaves out
		}
		n := 0
		pod := func(end string) *corev1.Pod {
			n++
			name := w.object.GetName() + "-" + end
			owner := w.object
			if w.kind == rolloutKind.Kind {
				owner = &appsv1.ReplicaSet{ObjectMeta: named(name)}
				g.get(owner)
				owner.GetObjectKind().SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
			}
			return g.podOf(owner, fmt.Sprintf("%s-%d", name, n), func(p *corev1.Pod) { p.Labels = map[string]string{"app": "app", w.label: w.hash(name, end)} })
		}
		held := func(end, figure string) {
			g.Helper()
			g.await(fmt.Sprintf("a pod of %s %s-%s with its digest", w.kind, w.object.GetName(), end), func() string {
				if p := pod(end); p.Spec.Containers[0].Image != image+":v1@"+digestOf(figure) {
					return "one has " + p.Spec.Containers[0].Image
				}
				return ""
			})
		}
		for i, end := range []string{"7f", "8b"} {
			figure := []string{"a", "b"}[i]
			name := w.object.GetName() + "-" + end
			if w.kind == rolloutKind.Kind {
				labels := map[string]string{"app": "app", rolloutHash: end}
				g.create(&appsv1.ReplicaSet{ObjectMeta: named(name), Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template.Spec}}})
			} else {
				g.create(&appsv1.ControllerRevision{ObjectMeta: named(name), Data: runtime.RawExtension{Raw: []byte(`{}`)}, Revision: int64(i + 1)})
			}
			first := pod(end)
			if first.Spec.Containers[0].Image != image+":v1" {
				g.Errorf("the first pod of %s has %s: want it by its tag", name, first.Spec.Containers[0].Image)
			}
			g.runs(first, image+"@"+digestOf(figure))
			if err := g.Status().Patch(g.ctx, w.object.DeepCopyObject().(client.Object), client.RawPatch(types.MergePatchType, fmt.Appendf(nil, w.status, i+1))); err != nil {
				g.Fatal(err)
			}
			g.recorded(space, name)
			held(end, figure)
		}
		held("7f", "a")
	}
}
