package v1alpha1_test

import (
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/apitest"
)

// TestExposureAtTheServer sends right and wrong Exposures to a real API server.
func TestExposureAtTheServer(t *testing.T) {
	conf := apitest.Start(t, nil, apitest.Ours(t)...)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(conf, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	create := func(t *testing.T, spec string) (*unstructured.Unstructured, error) {
		t.Helper()
		o := &unstructured.Unstructured{Object: map[string]any{}}
		var tree map[string]any
		if err := yaml.UnmarshalStrict([]byte(spec), &tree); err != nil {
			t.Fatal(err)
		}
		o.Object["spec"] = tree
		o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Exposure"))
		o.SetNamespace("default")
		o.SetGenerateName("it-")
		return o, c.Create(t.Context(), o, client.FieldValidation("Strict"))
	}
	for _, w := range wrong {
		t.Run(w.want, func(t *testing.T) {
			_, err := create(t, w.spec)
			if !apierrors.IsInvalid(err) {
				t.Fatalf("got %v: want it refused", err)
			}
			if !strings.Contains(err.Error(), w.want) {
				t.Errorf("got %q: want %q in it", err, w.want)
			}
		})
	}
	for name, spec := range right {
		t.Run(name, func(t *testing.T) {
			if _, err := create(t, spec); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("defaults", func(t *testing.T) {
		o, err := create(t, `{workload: {name: cart}, ports: [{name: http, port: 80}], paths: [{path: /}], scaling: {}, availability: {}}`)
		if err != nil {
			t.Fatal(err)
		}
		e := &v1alpha1.Exposure{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, e); err != nil {
			t.Fatal(err)
		}
		s := e.Spec
		if s.Visibility != v1alpha1.Private || s.Workload.Kind != "Deployment" || s.Ports[0].Protocol != v1alpha1.HTTP || s.Paths[0].Type != "Prefix" || s.Scaling.Min != 2 || s.Availability.MaxUnavailable.IntValue() != 1 || s.Availability.Zones != "Preferred" {
			t.Errorf("got %+v: want every default", s)
		}
	})
	t.Run("scale and status", func(t *testing.T) {
		o, err := create(t, `{workload: {name: cart}, scaling: {min: 3}}`)
		if err != nil {
			t.Fatal(err)
		}
		scale := &unstructured.Unstructured{}
		scale.SetGroupVersionKind(scaleKind)
		if err := c.SubResource("scale").Get(t.Context(), o, scale); err != nil {
			t.Fatal(err)
		}
		if n, _, _ := unstructured.NestedInt64(scale.Object, "spec", "replicas"); n != 3 {
			t.Errorf("the scale says %d: want 3", n)
		}
		e := &v1alpha1.Exposure{}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(o), e); err != nil {
			t.Fatal(err)
		}
		before := e.Generation
		e.Status.Conditions = []metav1.Condition{{Type: v1alpha1.Ready, Status: metav1.ConditionTrue, Reason: "Serving", LastTransitionTime: metav1.NewTime(time.Now())}}
		if err := c.Status().Update(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if e.Generation != before {
			t.Errorf("the status moved the generation from %d to %d", before, e.Generation)
		}
	})
}
