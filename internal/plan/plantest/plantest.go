// Package plantest compares what the operator makes of a plan's Exposures with what a plan
// has, for the plan's own tests and for those of a cluster.
package plantest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

// nameLabel is what a plan's pods are called by.
const nameLabel = "app.kubernetes.io/name"

// Objects are those of manifests by kind, namespace and name.
func Objects(t testing.TB, texts ...[]byte) map[string]*unstructured.Unstructured {
	t.Helper()
	all := map[string]*unstructured.Unstructured{}
	for _, text := range texts {
		documents := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			text, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			u := &unstructured.Unstructured{}
			if err == nil {
				err = yaml.Unmarshal(text, &u.Object)
			}
			if err != nil {
				t.Fatalf("read manifests: %v", err)
			}
			all[u.GetKind()+" "+u.GetNamespace()+"/"+u.GetName()] = u
		}
	}
	return all
}

// Made is what the operator, told of a policy, makes of a plan's Exposures among its objects.
func Made(t testing.TB, objects map[string]*unstructured.Unstructured, text []byte) map[string]*unstructured.Unstructured {
	t.Helper()
	var policy render.Policy
	if err := yaml.UnmarshalStrict(text, &policy); err != nil {
		t.Fatal(err)
	}
	all := map[string]*unstructured.Unstructured{}
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		if objects[name].GetKind() != "Exposure" {
			continue
		}
		var e v1alpha1.Exposure
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(objects[name].Object, &e, true); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var d appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects["Deployment "+e.Namespace+"/"+e.Spec.Workload.Name].Object, &d); err != nil {
			t.Fatal(err)
		}
		in := render.Input{Exposure: &e, Policy: policy, Cluster: render.Cluster{Gateway: true, GRPC: true, ControlVersion: "v1beta1", Zones: 3},
			Workload: render.Workload{APIVersion: "apps/v1", Kind: "Deployment", Name: d.Name, Selector: d.Spec.Selector.MatchLabels, Replicas: *d.Spec.Replicas, Grace: d.Spec.Template.Spec.TerminationGracePeriodSeconds}}
		for _, c := range d.Spec.Template.Spec.Containers {
			in.Workload.Containers = append(in.Workload.Containers, render.Container{Name: c.Name, Ports: c.Ports, Readiness: c.ReadinessProbe, Liveness: c.LivenessProbe, PreStop: c.Lifecycle.PreStop.Sleep.Seconds, CPU: true})
		}
		if s := e.Spec.Service; s != nil && s.Existing != "" {
			in.Ports = []corev1.ServicePort{}
			for _, p := range all["Service "+e.Namespace+"/"+s.Existing].Object["spec"].(map[string]any)["ports"].([]any) {
				var port corev1.ServicePort
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(p.(map[string]any), &port); err != nil {
					t.Fatal(err)
				}
				in.Ports = append(in.Ports, port)
			}
			in.Scaled, in.Budgeted, in.Targeted = d.Name, d.Name, d.Name
		}
		out, err := render.Render(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, o := range out.Objects {
			all[o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName()] = o
		}
	}
	return all
}

// Spec is an object's spec as JSON has it, without what differs by who has the Gateways,
// and what a server would fill in.
func Spec(t testing.TB, u *unstructured.Unstructured) map[string]any {
	t.Helper()
	text, err := json.Marshal(u.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	switch u.GetKind() {
	case "HTTPRoute":
		for _, p := range spec["parentRefs"].([]any) {
			delete(p.(map[string]any), "namespace")
			delete(p.(map[string]any), "sectionName")
		}
	case "Service":
		for _, p := range spec["ports"].([]any) {
			delete(p.(map[string]any), "appProtocol")
			delete(p.(map[string]any), "protocol")
		}
	}
	return spec
}

// LetIn are who may come to which port by policies, but for a workload itself.
func LetIn(t testing.TB, self string, policies ...*unstructured.Unstructured) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, u := range policies {
		if u == nil {
			continue
		}
		var policy networkingv1.NetworkPolicy
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &policy); err != nil {
			t.Fatal(err)
		}
		for _, rule := range policy.Spec.Ingress {
			for _, from := range rule.From {
				if from.PodSelector != nil && from.PodSelector.MatchLabels[nameLabel] == self {
					continue
				}
				for _, port := range rule.Ports {
					all[from.String()+" "+port.String()] = true
				}
			}
		}
	}
	return all
}
