package render

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dhow/internal/operator/apitest"
)

// TestAccepted: a real API server that knows the kinds of the Gateway API and of the AWS
// Load Balancer Controller takes all that the examples take, and no field is unknown to it.
func TestAccepted(t *testing.T) {
	c, err := client.New(apitest.Start(t, nil, apitest.Others(t)...), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"superapp", defaultNamespace} {
		if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names() {
		t.Run(name, func(t *testing.T) {
			in := examples[name].input(t)
			if name == "controller-of-version" {
				in.Cluster.ControlVersion = "v1beta1" // the definitions here have no other
			}
			out, err := Render(in)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range all(t, in, out) {
				if err := c.Create(t.Context(), o.DeepCopy(), client.DryRunAll, client.FieldValidation("Strict")); err != nil {
					t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
				}
			}
		})
	}
}
