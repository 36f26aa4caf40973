package operator

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestRevisionOf(t *testing.T) {
	pod := func(version, kind, hash string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{appsv1.ControllerRevisionHashLabelKey: hash}, OwnerReferences: []metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: "cart", UID: "0b1c", Controller: ptr.To(true)}}}}
	}
	for _, c := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{pod("apps/v1", "ReplicaSet", ""), "ReplicaSet cart"},
		{pod("apps/v1", "StatefulSet", "cart-7f"), "ControllerRevision cart-7f"},
		{pod("apps/v1", "DaemonSet", "7f"), "ControllerRevision cart-7f"},
		{pod("apps/v1", "StatefulSet", ""), ""},
		{pod("apps.kruise.io/v1beta1", "StatefulSet", "cart-7f"), ""},
		{pod("batch/v1", "Job", ""), ""},
		{&corev1.Pod{}, ""},
	} {
		rev, ok := revisionOf(c.pod)
		if ok != (c.want != "") || ok && (rev.String() != c.want || rev.of != "0b1c") {
			t.Errorf("%+v: got %s, %v: want %q", c.pod.OwnerReferences, rev, ok, c.want)
		}
	}
}
