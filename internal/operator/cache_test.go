package operator

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"dhow/internal/operator/render"
)

// TestStrip: what was stripped once stays as it is when it is stripped again.
func TestStrip(t *testing.T) {
	fields := metav1.FieldsV1{}
	fields.SetRawBytes([]byte(`{"f:spec":{}}`))
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "cart", Annotations: map[string]string{"a": "b", render.HostsNote: "shop.example.com"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: render.Manager, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: &fields}}}}
	var notes []string
	for range 2 {
		x, err := strip(s)
		if err != nil {
			t.Fatal(err)
		}
		s = x.(*corev1.Service)
		notes = append(notes, fieldsOf(s))
	}
	if notes[0] == "" || notes[0] != notes[1] {
		t.Errorf("got the notes %q: want the same twice", notes)
	}
	if len(s.ManagedFields) > 0 || s.Annotations["a"] != "" || s.Annotations[render.HostsNote] == "" {
		t.Errorf("got %+v", s.ObjectMeta)
	}
}
