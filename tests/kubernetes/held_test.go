package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/internal/demo"
	"dhow/internal/operator/admit"
	"dhow/internal/operator/install"
	"dhow/superapp/fleet"
	"dhow/superapp/images"
)

const (
	// heldNamespace is where images are held.
	heldNamespace = "held"
	// ofIndex has a tag that names an index of images, ofImage one that names an image alone.
	ofIndex, ofImage = "cart", "agent"
)

// heldPods are a Deployment and a DaemonSet by tags in REGISTRY. Each asks the registry at
// every start: a node that asks nobody would run the old image anyway.
const heldPods = `apiVersion: v1
kind: Namespace
metadata: {name: held, labels: {dhow.dev/digests: pin}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: held}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers:
      - {name: begin, image: REGISTRY/held/agent:v1, imagePullPolicy: Always, args: [--help]}
      - {name: beside, image: REGISTRY/held/agent:v1, imagePullPolicy: Always, args: ["--listen=:8081"], restartPolicy: Always}
      containers:
      - {name: cart, image: REGISTRY/held/cart:v1, imagePullPolicy: Always, readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}}
      - {name: hand, image: "localhost/pause:1", imagePullPolicy: Never}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: held}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: agent, image: REGISTRY/held/agent:v1, imagePullPolicy: Always, readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}}
      - {name: named, image: "REGISTRY/held/agent@DIGEST", args: ["--listen=:8081"]}
`

// holding are workloads whose images are held, and the registry in which their tags move.
type holding struct {
	*old
	set      kubernetes.Interface
	registry string
	// had are the digests that the tags named, by what the images answer and by repository.
	had map[string]map[string]string
	// seen are the pods that were looked at, last those of each workload that were so last.
	seen map[types.UID]bool
	last map[string]*corev1.Pod
}

// workloads are a Deployment and a DaemonSet.
//
//nolint:gochecknoglobals // a constant
var workloads = []string{ofIndex, ofImage}

// held: pods that come after their tag has moved run what the first one ran, whatever makes
// them; a new rollout takes what the registry has; and a rehearsal tells of a pod that
// followed the tag.
func held(ctx context.Context, t *testing.T, programs string, mooring demo.Mooring, reader, image string) {
	h := &holding{old: newOld(ctx, t, programs, mooring, reader), registry: mooring.Registry, had: map[string]map[string]string{}, seen: map[types.UID]bool{}, last: map[string]*corev1.Pod{}}
	var err error
	if h.set, err = kubernetes.NewForConfig(h.conf); err != nil {
		t.Fatal(err)
	}
	h.step("the operator runs", func() { h.install(image) })
	h.move("first")
	h.apply([]byte(strings.NewReplacer("REGISTRY", h.registry, "DIGEST", h.had["first"][ofImage]).Replace(heldPods)))
	h.step("the first pods run", func() { h.runs("first", false) })
	h.step("what they run is written down", func() { h.recorded("first") })

	h.move("second")
	h.await("new pods to be held", func() error { return h.asked(true) })
	h.endPods()
	h.step("the next pods run the same", func() { h.runs("first", true) })
	if n := h.metric("dhow_operator_pods_held_total"); n < 2 {
		t.Errorf("the operators have held %g pods", n)
	}

	h.roll()
	h.step("a rollout takes what the registry has", func() { h.runs("second", false) })
	h.step("that is written down", func() { h.recorded("second") })

	h.change("v1", "Namespace", heldNamespace, types.MergePatchType, `{"metadata":{"labels":{"`+admit.DigestsLabel+`":"`+admit.DigestsDryRun+`"}}}`)
	h.move("third")
	h.await("new pods to be left as they are", func() error { return h.asked(false) })
	h.endPods()
	h.step("in a rehearsal pods follow the tag", func() { h.runs("third", false) })
	h.step("that is told", h.told)
}

// move pushes new images, which answer otherwise, under the tags of the old ones.
func (h *holding) move(answer string) {
	h.Helper()
	at := func(path string) name.Tag {
		tag, err := name.NewTag(h.registry+"/"+path, name.Insecure)
		if err != nil {
			h.Fatal(err)
		}
		return tag
	}
	site, err := remote.Image(at("superapp/"+fleet.Site+":latest"), remote.WithContext(h.ctx))
	if err != nil {
		h.Fatal(err)
	}
	image := func(repository string) v1.Image {
		file, err := site.ConfigFile()
		if err != nil {
			h.Fatal(err)
		}
		file = file.DeepCopy()
		file.Config.Cmd = []string{"--listen=:8080", "--public-url=" + address(repository, answer)}
		i, err := mutate.ConfigFile(site, file)
		if err != nil {
			h.Fatal(err)
		}
		return i
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image(ofIndex), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: images.DefaultArch}}})
	if err := remote.WriteIndex(at("held/"+ofIndex+":v1"), index, remote.WithContext(h.ctx)); err != nil {
		h.Fatal(err)
	}
	alone := image(ofImage)
	if err := remote.Write(at("held/"+ofImage+":v1"), alone, remote.WithContext(h.ctx)); err != nil {
		h.Fatal(err)
	}
	h.had[answer] = map[string]string{}
	for repository, of := range map[string]interface{ Digest() (v1.Hash, error) }{ofIndex: index, ofImage: alone} {
		digest, err := of.Digest()
		if err != nil {
			h.Fatal(err)
		}
		h.had[answer][repository] = digest.String()
	}
}

// address is what an image says when it is asked.
func address(repository, answer string) string {
	return "https://" + repository + "." + answer + ".example"
}

// began is what the pods of a workload begin with while the images answer so.
func (h *holding) began(app, answer string) []admit.Image {
	image := func(container, repository string) admit.Image {
		return admit.Image{Container: container, Image: h.registry + "/held/" + repository + ":v1", Digest: h.had[answer][repository]}
	}
	if app == ofImage {
		return []admit.Image{image(ofImage, ofImage)}
	}
	return []admit.Image{image("begin", ofImage), image("beside", ofImage), image(ofIndex, ofIndex)}
}

// pod waits for a workload's pod that is ready, and that was not looked at before.
func (h *holding) pod(app string) *corev1.Pod {
	h.Helper()
	var p *corev1.Pod
	h.await("a new pod of "+app, func() error {
		all := &corev1.PodList{}
		if err := h.List(h.ctx, all, client.InNamespace(heldNamespace), client.MatchingLabels{ownLabel: app}); err != nil {
			return err
		}
		n := slices.IndexFunc(all.Items, func(p corev1.Pod) bool {
			return p.DeletionTimestamp == nil && !h.seen[p.UID] && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			})
		})
		if n < 0 {
			return fmt.Errorf("none of %d is new and ready", len(all.Items))
		}
		p = &all.Items[n]
		return nil
	})
	h.seen[p.UID], h.last[app] = true, p
	return p
}

// runs waits for new pods, and sees what their nodes run, and how they were told to.
func (h *holding) runs(answer string, held bool) {
	h.Helper()
	for _, app := range workloads {
		p := h.pod(app)
		named, ids := map[string]string{}, map[string]string{}
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			named[c.Name] = c.Image
		}
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			ids[s.Name] = s.ImageID
		}
		for _, x := range h.began(app, answer) {
			name := x.Image
			if held {
				name += "@" + x.Digest
			}
			if id := strings.TrimSuffix(x.Image, ":v1") + "@" + x.Digest; named[x.Container] != name || ids[x.Container] != id {
				h.Errorf("container %s of pod %s is %s and runs %s: want %s and %s", x.Container, p.Name, named[x.Container], ids[x.Container], name, id)
			}
		}
		said, err := h.set.CoreV1().Pods(heldNamespace).ProxyGet("http", p.Name, "8080", "/robots.txt", nil).DoRaw(h.ctx)
		if err != nil || !strings.Contains(string(said), address(app, answer)) {
			h.Errorf("pod %s answers %q, %v: want %s", p.Name, said, err, address(app, answer))
		}
	}
}

// recorded waits until it is written down what the pods that were looked at last began with.
func (h *holding) recorded(answer string) {
	h.Helper()
	for _, app := range workloads {
		p := h.last[app]
		owner := metav1.GetControllerOf(p)
		of := owner.Name
		if owner.Kind == "DaemonSet" {
			of += "-" + p.Labels[appsv1.ControllerRevisionHashLabelKey]
		}
		o := &appsv1.ControllerRevision{}
		h.await("what "+of+" began with", func() error {
			return h.Get(h.ctx, client.ObjectKey{Namespace: heldNamespace, Name: of + "-digests"}, o)
		})
		var got admit.Record
		if err := json.Unmarshal(o.Data.Raw, &got); err != nil {
			h.Fatal(err)
		}
		want := admit.Record{Of: owner.UID, Images: h.began(app, answer)}
		if app == ofIndex {
			want.Left = []admit.Left{{Container: "hand", Why: "the node knows localhost/pause:1 by no digest of a registry: was it put there by hand?"}}
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			h.Errorf("of %s other is written down than it runs, -want +got:\n%s", of, diff)
		}
	}
}

// asked says whether the API server would have a further pod of each workload held, or not.
func (h *holding) asked(held bool) error {
	for _, app := range workloads {
		was := h.last[app]
		first := h.began(app, "first")
		x := first[len(first)-1]
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: heldNamespace, Name: app + "-trial", Labels: was.Labels, OwnerReferences: was.OwnerReferences},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: x.Container, Image: x.Image}}}}
		if err := h.Create(h.ctx, p, client.DryRunAll); err != nil {
			return err
		}
		if strings.Contains(p.Spec.Containers[0].Image, "@") != held {
			return fmt.Errorf("one of %s has %s", app, p.Spec.Containers[0].Image)
		}
	}
	return nil
}

// endPods ends the pods that were looked at last.
func (h *holding) endPods() {
	h.Helper()
	for _, app := range workloads {
		if err := h.Delete(h.ctx, h.last[app]); err != nil {
			h.Fatal(err)
		}
	}
}

// roll changes the template of each workload.
func (h *holding) roll() {
	h.Helper()
	for _, o := range []client.Object{&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: heldNamespace, Name: ofIndex}}, &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: heldNamespace, Name: ofImage}}} {
		if err := h.Patch(h.ctx, o, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"template":{"metadata":{"annotations":{"release":"2"}}}}}`))); err != nil {
			h.Fatal(err)
		}
	}
}

// told waits until the pods that were looked at last are told to have followed their tags.
func (h *holding) told() {
	h.Helper()
	h.await("the pods that followed their tags to be told", func() error {
		for _, app := range workloads {
			before, now := h.began(app, "second"), h.began(app, "third")
			want := fmt.Sprintf("container %s runs %s, where ", now[0].Container, now[0].Digest)
			all := &corev1.EventList{}
			if err := h.List(h.ctx, all, client.InNamespace(heldNamespace)); err != nil {
				return err
			}
			if !slices.ContainsFunc(all.Items, func(e corev1.Event) bool {
				return e.InvolvedObject.UID == h.last[app].UID && e.Reason == "OtherImage" && strings.HasPrefix(e.Message, want) && strings.Contains(e.Message, "began with "+before[0].Digest)
			}) {
				return fmt.Errorf("no event of pod %s says that %s", h.last[app].Name, want)
			}
		}
		if n := h.metric(`dhow_operator_pods_of_other_image{namespace="` + heldNamespace + `"}`); n != float64(len(workloads)) {
			return fmt.Errorf("the metric says %g", n)
		}
		return nil
	})
}

// metric is the sum of what the operators say of something.
func (h *holding) metric(name string) float64 {
	h.Helper()
	all, err := h.set.CoreV1().Pods(install.Namespace).List(h.ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
	if err != nil {
		h.Fatal(err)
	}
	sum := 0.0
	for i := range all.Items {
		page, err := h.set.CoreV1().Pods(install.Namespace).ProxyGet("http", all.Items[i].Name, "8080", "/metrics", nil).DoRaw(h.ctx)
		if err != nil {
			h.Fatal(err)
		}
		for line := range strings.Lines(string(page)) {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					h.Fatal(err)
				}
				sum += n
			}
		}
	}
	return sum
}
