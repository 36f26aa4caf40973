package operator

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"dhow/api/v1alpha1"
)

// TestOwned: what is shown is remembered once, of Exposures alone, until it is gone.
func TestOwned(t *testing.T) {
	of := func(kind string, id types.UID, name string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind, UID: id, Controller: ptr.To(true)}}}}
	}
	w := newOwned()
	for _, o := range []*corev1.Service{of("Exposure", "1", "cart"), of("Exposure", "1", "cart"), of("Exposure", "1", "cart-next"), of("Exposure", "2", "user"), of("StatefulSet", "1", "other"), {ObjectMeta: metav1.ObjectMeta{Name: "nobody's"}}} {
		w.show("Service", o)
	}
	w.show("HTTPRoute", of("Exposure", "1", "cart"))
	w.gone("Service", of("Exposure", "1", "cart-next"))
	w.gone("Service", of("Exposure", "2", "user"))
	w.gone("Service", of("Exposure", "3", "never shown"))
	if got, want := w.all("1"), []piece{{"Service", "cart"}, {"HTTPRoute", "cart"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(w.of) != 1 {
		t.Errorf("of those without objects something is left: %v", w.of)
	}
}
