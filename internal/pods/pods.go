// Package pods is how dhow runs in a Kubernetes cluster: the gate and the movers
// of an estate as one Deployment, and a large copy spread over an Indexed Job of
// parts that help. It packs an estate for pods, makes the objects, and keeps such a
// Job going; what the commands in the pods do is theirs. It knows no cluster of its
// own: any will do.
package pods

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"dhow/internal/estate"
)

const (
	// userID is the account of the image, which has no rights.
	userID = 65532
	// estateDir is where a pod finds its estate, stateDir where it keeps state.
	estateDir = "/etc/dhow"
	stateDir  = "/var/lib/dhow"
	// EstateFile is the estate's file in every pod.
	EstateFile = estateDir + "/" + estateKey
	// secretMode lets the pod's account read what it must not change, and nobody else.
	secretMode = 0o440
	// memoryTarget is what Go's garbage collector keeps a process to, in Kubernetes'
	// and Go's common notation: a mover needs less than 256 MiB whatever the database's size.
	memoryTarget = "200MiB"
	// graceSeconds is how long a pod has to end: the gate lets requests in flight end
	// first, which takes at most twenty seconds.
	graceSeconds = 30

	// nameLabel and its kin are Kubernetes' recommended labels.
	nameLabel      = "app.kubernetes.io/name"
	instanceLabel  = "app.kubernetes.io/instance"
	componentLabel = "app.kubernetes.io/component"
	managedLabel   = "app.kubernetes.io/managed-by"
	// program is the value of the labels that say whose an object is.
	program = "dhow"
	// estateAnnotation names the estate as it names itself.
	estateAnnotation = "dhow.dev/estate"
)

// Place is where pods run, and what.
type Place struct {
	Namespace string
	// Image is dhow's own, best by digest.
	Image string
	// ServiceAccount is the account of pods whose estate keeps secrets in AWS;
	// empty means the namespace's default one. Its token is mounted nowhere.
	ServiceAccount string
}

// check refuses what the API server would refuse in other words.
func (p Place) check() error {
	if p.Image == "" {
		return fmt.Errorf("pods need an image of dhow: name one that the cluster's nodes can pull")
	}
	if strings.ContainsFunc(p.Image, func(r rune) bool { return r <= ' ' }) {
		return fmt.Errorf("the image %q has a space in it", p.Image)
	}
	if wrong := validation.IsDNS1123Label(p.Namespace); len(wrong) > 0 {
		return fmt.Errorf("the namespace %q: %s", p.Namespace, wrong[0])
	}
	if p.ServiceAccount == "" {
		return nil
	}
	if wrong := validation.IsDNS1123Subdomain(p.ServiceAccount); len(wrong) > 0 {
		return fmt.Errorf("the service account %q: %s", p.ServiceAccount, wrong[0])
	}
	return nil
}

// Name is what an estate's objects are called in a cluster.
func Name(e *estate.Estate) string {
	return program + "-" + strings.TrimRight(strings.ReplaceAll(e.Name, "_", "-"), "-")
}

// meta is an object's head.
func meta(e *estate.Estate, name, namespace, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: labels(e, component), Annotations: map[string]string{estateAnnotation: e.Name}}
}

func labels(e *estate.Estate, component string) map[string]string {
	all := map[string]string{nameLabel: program, instanceLabel: Name(e), managedLabel: program}
	if component != "" {
		all[componentLabel] = component
	}
	return all
}

// choosing are the labels that find the pods of a component; of all where it is empty.
func choosing(e *estate.Estate, component string) map[string]string {
	all := labels(e, component)
	delete(all, managedLabel)
	return all
}

// Selector finds the pod of an estate's gate and movers, as kubectl's --selector does.
func Selector(e *estate.Estate) string {
	return fmt.Sprintf("%s=%s,%s=%s", instanceLabel, Name(e), componentLabel, moveComponent)
}

// podSecurity lets a pod do nothing that dhow does not need.
func podSecurity() *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(userID)), RunAsGroup: new(int64(userID)), FSGroup: new(int64(userID)),
		FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
		SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func containerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
}

// estateVolume holds an estate and its secrets, as Pack gives them.
func estateVolume(secret string) corev1.Volume {
	return corev1.Volume{Name: "estate", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret, DefaultMode: new(int32(secretMode))}}}
}

func estateMount() corev1.VolumeMount {
	return corev1.VolumeMount{Name: "estate", MountPath: estateDir, ReadOnly: true}
}

// scratchVolume is a small folder for temporary files, in a file system that is
// read-only otherwise.
func scratchVolume() corev1.Volume {
	return corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: quantity(scratchSize)}}}
}

func scratchMount() corev1.VolumeMount {
	return corev1.VolumeMount{Name: "scratch", MountPath: "/tmp"}
}

// YAML writes objects as manifests, in their order.
func YAML(objects ...runtime.Object) ([]byte, error) {
	all, err := Fields(objects...)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, fields := range all {
		text, err := yaml.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("write a manifest: %w", err)
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	return out.Bytes(), nil
}

// Fields are objects as JSON has them, in their order.
func Fields(objects ...runtime.Object) ([]map[string]any, error) {
	all := make([]map[string]any, 0, len(objects))
	for _, o := range objects {
		fields, err := plain(o)
		if err != nil {
			return nil, err
		}
		all = append(all, fields)
	}
	return all, nil
}

// plain is an object without what only a cluster says of it.
func plain(o runtime.Object) (map[string]any, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("write a manifest: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("write a manifest: %w", err)
	}
	delete(fields, "status")
	prune(fields)
	return fields, nil
}

// prune removes what Go's types write of fields that were not set.
func prune(v any) {
	switch x := v.(type) {
	case map[string]any:
		for k, one := range x {
			if one == nil {
				delete(x, k)
				continue
			}
			prune(one)
		}
	case []any:
		for _, one := range x {
			prune(one)
		}
	}
}
