package operator

import (
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

func TestMadeBy(t *testing.T) {
	pod := func(kind, name string, labels map[string]string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels, OwnerReferences: []metav1.OwnerReference{{Kind: kind, Name: name, Controller: ptr.To(true)}}}}
	}
	for _, c := range []struct {
		pod        *corev1.Pod
		kind, name string
	}{
		{pod("ReplicaSet", "cart-web-5d9", map[string]string{"pod-template-hash": "5d9"}), "Deployment", "cart-web"},
		{pod("ReplicaSet", "cart-5d9", map[string]string{rolloutHash: "5d9"}), "Rollout", "cart"},
		{pod("ReplicaSet", "by-hand", nil), "", ""},
		{pod("ReplicaSet", "cart-5d9", map[string]string{"pod-template-hash": "other"}), "", ""},
		{pod("StatefulSet", "ledger", nil), "StatefulSet", "ledger"},
		{pod("Job", "ledger", nil), "", ""},
		{&corev1.Pod{}, "", ""},
	} {
		if kind, name := madeBy(c.pod); kind != c.kind || name != c.name {
			t.Errorf("%v: got %s %s: want %s %s", c.pod.OwnerReferences, kind, name, c.kind, c.name)
		}
	}
}

func TestWebhookAddress(t *testing.T) {
	for _, address := range []string{"9443", ":0", ":http", "127.0.0.1:70000", "a:b:c"} {
		if g, err := keepGate(t.Context(), Webhook{Address: address}, func(error) {}); err == nil {
			g.end()
			t.Errorf("%s: want it refused", address)
		}
	}
}

// TestWebhookBusy: an address that another program has is told, also before the cluster has answered.
func TestWebhookBusy(t *testing.T) {
	taken := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	busy, silent := taken(), taken()
	err := Run(t.Context(), Options{Config: &rest.Config{Host: "http://" + silent.Addr().String()}, Webhook: Webhook{Address: busy.Addr().String()}})
	if err == nil || !strings.Contains(err.Error(), "serve the webhook at "+busy.Addr().String()) {
		t.Errorf("got %v: want the address named", err)
	}
}
