package admit

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
)

const (
	// first and second are two digests.
	first  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	second = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

func TestDigest(t *testing.T) {
	for _, c := range []struct{ image, id, want, wrong string }{
		{"nginx", "docker.io/library/nginx@" + first, first, ""},
		{"nginx:1.29", "docker.io/library/nginx@" + first, first, ""},
		{"docker.io/nginx:1.29", "docker-pullable://nginx@" + first, first, ""},
		{"registry.k8s.io/pause:3.10", "registry.k8s.io/pause@" + first, first, ""},
		{"localhost:5000/bank/cart", "localhost:5000/bank/cart@" + first, first, ""},
		{"registry.example.com:443/cart:v1", "registry.example.com:443/cart@" + first, first, ""},
		{"1234.dkr.ecr.me-central-1.amazonaws.com/bank/cart:v1", "1234.dkr.ecr.me-central-1.amazonaws.com/bank/cart:v1@" + first, first, ""},
		{"cart@" + first, "docker.io/library/cart@" + first, "", errDigested.Error()},
		{"cart:v1@" + first, "docker.io/library/cart@" + second, "", errDigested.Error()},
		{"cart:v1", first, "", "by no digest of a registry"},
		{"cart:v1", "docker://" + first, "", "by no digest of a registry"},
		{"cart:v1", "cart:v1", "", "by no digest of a registry"},
		{"cart:v1", "cart@sha256:11", "", "is no digest of a registry"},
		{"cart:v1", "cart@" + strings.Replace(first, "sha256", "md5", 1), "", "is no digest of a registry"},
		{"cart:v1", "docker.io/library/import-2026-11-01@" + first, "", "as one of index.docker.io/library/import-2026-11-01"},
		{"registry.example.com:443/cart:v1", "registry.example.com/cart@" + first, "", "as one of registry.example.com/cart"},
		{"mirror.example.com/nginx", "docker.io/library/nginx@" + first, "", "as one of index.docker.io/library/nginx"},
		{"Cart", "docker.io/library/cart@" + first, "", "is no name that a registry knows"},
	} {
		got, err := Digest(c.image, c.id)
		if got != c.want || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s as %s: got %q, %v: want %q, %q", c.image, c.id, got, err, c.want, c.wrong)
		}
	}
}

// FuzzDigest: a digest that is found names an image of the same repository.
func FuzzDigest(f *testing.F) {
	f.Add("localhost:5000/bank/cart:v1", "docker-pullable://localhost:5000/bank/cart@"+first)
	f.Add("nginx", "docker.io/library/nginx@"+first)
	f.Add("nginx@"+first, "@")
	f.Fuzz(func(t *testing.T, image, id string) {
		digest, err := Digest(image, id)
		if err != nil {
			return
		}
		was, err := name.ParseReference(image)
		if err != nil {
			t.Fatal(err)
		}
		held, err := name.NewDigest(image + "@" + digest)
		if err != nil || held.DigestStr() != digest || held.Context().Name() != was.Context().Name() || strings.Contains(image, "@") {
			t.Errorf("%q as %q: got %q, %v", image, id, digest, err)
		}
	})
}

// started is a pod with a container that begins it, one that serves, one that is named by its
// digest and one that was put on its node by hand.
func started(t *testing.T) *corev1.Pod {
	return podOf(t, `
metadata: {generateName: cart-, namespace: superapp, labels: {app: cart}}
spec:
  initContainers: [{name: begin, image: "reg.example.com:5000/begin"}]
  containers: [{name: cart, image: "cart:v1"}, {name: proxy, image: "proxy@`+first+`"}, {name: logs, image: "logs:v2"}]
status:
  initContainerStatuses: [{name: begin, imageID: "reg.example.com:5000/begin@`+second+`"}]
  containerStatuses:
  - {name: logs, imageID: "`+first+`"}
  - {name: proxy, imageID: "docker.io/library/proxy@`+first+`"}
  - {name: cart, imageID: "docker.io/library/cart@`+first+`"}
`)
}

func TestLearn(t *testing.T) {
	pod := started(t)
	want := Record{Images: []Image{{"begin", "reg.example.com:5000/begin", second}, {"cart", "cart:v1", first}},
		Left: []Left{{"logs", "the node knows logs:v2 by no digest of a registry: was it put there by hand?"}}}
	got, whole := Learn(pod)
	if d := cmp.Diff(want, got); d != "" || !whole {
		t.Errorf("whole is %v, -want +got:\n%s", whole, d)
	}
	pod.Status.ContainerStatuses[1].ImageID = ""
	if _, whole := Learn(pod); whole {
		t.Error("a container that has not been started: want more to learn")
	}
}

func TestHold(t *testing.T) {
	record, _ := Learn(started(t))
	made := func() *corev1.Pod {
		p := started(t)
		p.Status = corev1.PodStatus{}
		return p
	}
	images := func(p *corev1.Pod) (all []string) {
		for _, c := range containersOf(p) {
			all = append(all, c.Image)
		}
		return all
	}
	pod := made()
	if changed, err := Complete(pod, []Need{need(t, "cart", nil)}); err != nil || !changed {
		t.Fatal(changed, err)
	}
	before := reportOf(t, pod)
	if changed, err := Hold(pod, record, "ReplicaSet cart-5d9"); err != nil || !changed {
		t.Fatalf("got %v, %v", changed, err)
	}
	want := []string{"reg.example.com:5000/begin@" + second, "cart:v1@" + first, "proxy@" + first, "logs:v2"}
	if d := cmp.Diff(want, images(pod)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	const why = "the first pod of ReplicaSet cart-5d9 ran that, whatever the registry has by that name now"
	before.Set = append(before.Set, Change{"spec.initContainers[begin].image", want[0], why}, Change{"spec.containers[cart].image", want[1], why})
	if d := cmp.Diff(before, reportOf(t, pod)); d != "" {
		t.Errorf("what was told before is lost: -want +got:\n%s", d)
	}
	if changed, err := Hold(pod, record, "ReplicaSet cart-5d9"); err != nil || changed {
		t.Errorf("a second time: got %v, %v", changed, err)
	}
	// Once it runs, it tells the same as the first one, also where that has gone.
	pod.Status = started(t).Status
	if again, whole := Learn(pod); !whole || cmp.Diff(record, again) != "" {
		t.Errorf("whole is %v, -want +got:\n%s", whole, cmp.Diff(record, again))
	}
	// A digest that another than Hold has put there is its author's, whatever the annotation says of other fields.
	pod.Spec.Containers[0].Image = "cart:v1@" + second
	if r, _ := Learn(pod); slices.ContainsFunc(r.Images, func(i Image) bool { return i.Container == "cart" }) {
		t.Errorf("got %+v", r)
	}
	for what, change := range map[string]func(*corev1.Pod, *Record){
		"another image":     func(p *corev1.Pod, r *Record) { p.Spec.Containers[0].Image, r.Images = "cart:v2", r.Images[1:] },
		"another container": func(p *corev1.Pod, r *Record) { p.Spec.Containers[0].Name, r.Images = "basket", r.Images[1:] },
		"no record":         func(_ *corev1.Pod, r *Record) { r.Images = nil },
		"a broken record": func(_ *corev1.Pod, r *Record) {
			r.Images = []Image{r.Images[0], {"cart", "cart:v1", "latest"}}
		},
	} {
		pod, record := made(), Record{Images: slices.Clone(record.Images)}
		change(pod, &record)
		was := pod.DeepCopy()
		changed, err := Hold(pod, record, "ReplicaSet cart-5d9")
		if d := cmp.Diff(was, pod); d != "" || changed || (err != nil) != (what == "a broken record") {
			t.Errorf("%s: got %v, %v, -was +is:\n%s", what, changed, err, d)
		}
	}
}

func TestDiffers(t *testing.T) {
	record := Record{Images: []Image{{"cart", "cart:v1", first}, {"proxy", "proxy:v1", first}}}
	for want, images := range map[string][]Image{
		"":      {{"cart", "cart:v1", first}, {"proxy", "proxy:v2", second}, {"logs", "logs:v1", second}},
		"proxy": {{"cart", "cart:v1", first}, {"proxy", "proxy:v1", second}},
	} {
		got := ""
		for _, x := range (Record{Images: images}).Differs(record) {
			got += x.Container
		}
		if got != want {
			t.Errorf("got %q: want %q", got, want)
		}
	}
}
