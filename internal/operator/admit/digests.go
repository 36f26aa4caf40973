package admit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"dhow/api/v1alpha1"
)

// How the API server asks for images to be held.
const (
	// DigestsHook is the name of the webhook, DigestsPath what it calls.
	DigestsHook = "digests." + v1alpha1.Group
	DigestsPath = "/digests"
	// DigestsLabel on a namespace says what becomes of the images of its pods: DigestsDryRun
	// only tells, DigestsPin holds them. DigestsOff on a pod leaves that out.
	DigestsLabel  = v1alpha1.Group + "/digests"
	DigestsDryRun = "dry-run"
	DigestsPin    = "pin"
	DigestsOff    = "disabled"
)

// Record is what the pods of one revision of a workload run: that which its first pod ran.
type Record struct {
	// Of is the pods' controller, so that a workload which was made again under its old name
	// does not go by what the former ran.
	Of types.UID `json:"of"`
	// Images are those whose digests are known.
	Images []Image `json:"images,omitempty"`
	// Left are containers that are not held.
	Left []Left `json:"left,omitempty"`
}

// Image is what a container runs.
type Image struct {
	Container string `json:"container"`
	// Image is as the pod names it, Digest what that was when the pod was started.
	Image  string `json:"image"`
	Digest string `json:"digest"`
}

// Left is a container whose image can not be held, and why.
type Left struct {
	Container string `json:"container"`
	Why       string `json:"why"`
}

// Learn is what a pod runs. whole says that all of its containers have been started; until
// then it may still learn more. Images that are named by digest already are no part of it,
// unless it was Hold that named them so: a pod that is held tells what its revision began with
// as well as the first one did, and may be the only one that is left to tell it.
func Learn(pod *corev1.Pod) (r Record, whole bool) {
	ids := map[string]string{}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		ids[s.Name] = s.ImageID
	}
	report := reported(pod)
	whole = true
	for _, c := range containersOf(pod) {
		id := ids[c.Name]
		if id == "" {
			whole = false
			continue
		}
		if image, digest, ok := report.held(c); ok {
			r.Images = append(r.Images, Image{c.Name, image, digest})
			continue
		}
		switch digest, err := Digest(c.Image, id); {
		case errors.Is(err, errDigested):
		case err != nil:
			r.Left = append(r.Left, Left{c.Name, err.Error()})
		default:
			r.Images = append(r.Images, Image{c.Name, c.Image, digest})
		}
	}
	return r, whole
}

// container is a pod's, and the field that has its image.
type container struct {
	*corev1.Container
	field string
}

// containersOf are a pod's, those that only begin it first.
func containersOf(pod *corev1.Pod) []container {
	var all []container
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		all = append(all, container{c, fmt.Sprintf("spec.initContainers[%s].image", c.Name)})
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		all = append(all, container{c, fieldOf(c.Name, "image")})
	}
	return all
}

// held is as what a container's image was named before Hold named it by its digest too.
func (r Report) held(c container) (image, digest string, ok bool) {
	if !slices.ContainsFunc(r.Set, func(x Change) bool { return x.Field == c.field && x.Value == c.Image }) {
		return "", "", false
	}
	return strings.Cut(c.Image, "@")
}

// errDigested says that an image is named by its digest.
var errDigested = errors.New("it is named by its digest already")

// Digest is what an image was when a container was started of it, from the name by which the pod
// has it and the ID that the kubelet tells. The ID must be of the same repository: of two names
// of one image the kubelet tells either, and a registry knows each digest by its own name alone.
func Digest(image, id string) (string, error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return "", fmt.Errorf("its image %q is no name that a registry knows", image)
	}
	if _, ok := ref.(name.Digest); ok {
		return "", errDigested
	}
	if _, rest, found := strings.Cut(id, "://"); found {
		id = rest // what some runtimes put before it
	}
	if !strings.Contains(id, "@") {
		return "", fmt.Errorf("the node knows %s by no digest of a registry: was it put there by hand?", image)
	}
	is, err := name.NewDigest(id)
	if err != nil {
		return "", fmt.Errorf("the node knows %s as %q, which is no digest of a registry", image, id)
	}
	if is.Context().Name() != ref.Context().Name() {
		return "", fmt.Errorf("the node knows %s as one of %s: the two may name it by different digests", image, is.Context().Name())
	}
	return is.DigestStr(), nil
}

// Hold lets a pod run what its revision began with, and says whether that changed it. Only a
// container with the same image as then gets its digest. It may be called again for a pod that
// it has changed. An error leaves the pod as it was.
func Hold(pod *corev1.Pod, r Record, revision string) (bool, error) {
	done := pod.DeepCopy()
	report := reported(pod)
	changed := false
	for _, c := range containersOf(done) {
		i := slices.IndexFunc(r.Images, func(x Image) bool { return x.Container == c.Name && x.Image == c.Image })
		if i < 0 {
			continue
		}
		held := c.Image + "@" + r.Images[i].Digest
		if _, err := name.NewDigest(held); err != nil {
			return false, fmt.Errorf("hold the image of container %s: the record of %s has the digest %q, which is none: remove the record", c.Name, revision, r.Images[i].Digest)
		}
		report.Set = append(report.Set, Change{c.field, held, "the first pod of " + revision + " ran that, whatever the registry has by that name now"})
		c.Image, changed = held, true
	}
	if !changed {
		return false, nil
	}
	if err := report.note(done); err != nil {
		return false, err
	}
	*pod = *done
	return true, nil
}

// Differs is what a pod runs otherwise than its revision began with.
func (r Record) Differs(from Record) []Image {
	var all []Image
	for _, x := range r.Images {
		if slices.ContainsFunc(from.Images, func(y Image) bool {
			return y.Container == x.Container && y.Image == x.Image && y.Digest != x.Digest
		}) {
			all = append(all, x)
		}
	}
	return all
}
