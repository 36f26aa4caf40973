package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func typed(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

// meta names an object of the Exposure.
func (m *maker) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Exposure.Namespace, Name: name, Labels: labelled(m.Exposure.Name)}
}

func labelled(exposure string) map[string]string {
	return map[string]string{ManagedLabel: Manager, ExposureLabel: exposure}
}

// custom is an object of a kind whose types are not at hand.
func custom(version, kind string, meta metav1.ObjectMeta, spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": kind, "spec": spec}}
	u.SetNamespace(meta.Namespace)
	u.SetName(meta.Name)
	u.SetLabels(meta.Labels)
	return u
}

// add puts an object to the others.
func (m *maker) add(object any) {
	u, err := Plain(object)
	if err != nil {
		m.err = err
		return
	}
	m.out.Objects = append(m.out.Objects, u)
}

// Plain is an object without what only a server fills in, as it is applied.
func Plain(object any) (*unstructured.Unstructured, error) {
	text, err := json.Marshal(object)
	u := &unstructured.Unstructured{}
	if err == nil {
		err = u.UnmarshalJSON(text)
	}
	if err != nil {
		return nil, fmt.Errorf("write an object: %w", err)
	}
	delete(u.Object, "status")
	clean(u.Object)
	return u, nil
}

// clean takes out what types write that have nothing in it: null, and the empty parts of
// which emptiness says nothing.
func clean(part any) {
	switch x := part.(type) {
	case map[string]any:
		for k, v := range x {
			clean(v)
			y, ok := v.(map[string]any)
			if v == nil || ok && len(y) == 0 && slices.Contains([]string{"resources", "strategy", "behavior", "loadBalancer", "metadata"}, k) {
				delete(x, k)
			}
		}
	case []any:
		for _, v := range x {
			clean(v)
		}
	}
}

// order is that in which kinds are made; all others follow.
//
//nolint:gochecknoglobals // a constant list
var order = []string{"GatewayClass", "Service", "LoadBalancerConfiguration", "TargetGroupConfiguration", "ListenerRuleConfiguration", "Gateway", "NetworkPolicy", "PodDisruptionBudget", "HorizontalPodAutoscaler"}

func rank(u *unstructured.Unstructured) int {
	if at := slices.Index(order, u.GetKind()); at >= 0 {
		return at
	}
	return len(order)
}

// hashBytes is how much of a hash tells objects apart.
const hashBytes = 8

// Hash is the same for the same content.
func Hash(u *unstructured.Unstructured) (string, error) {
	text, err := json.Marshal(u.Object) // whose keys are sorted
	if err != nil {
		return "", fmt.Errorf("hash %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return HashOf(text), nil
}

// HashOf is a short hash of bytes.
func HashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:hashBytes])
}
