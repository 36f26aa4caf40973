package crds

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/yaml"
)

// kinds are the definitions' kinds and versions, sorted.
func kinds(t *testing.T, text []byte) []string {
	t.Helper()
	var all []string
	for documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		var one struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct {
				Group    string
				Names    struct{ Kind, Plural string }
				Versions []struct {
					Name   string
					Served bool
					Schema struct{ OpenAPIV3Schema map[string]any }
				}
			}
		}
		err := documents.Decode(&one)
		if errors.Is(err, io.EOF) {
			slices.Sort(all)
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if one.Kind == "" {
			continue
		}
		if one.Kind != "CustomResourceDefinition" || one.Metadata.Name != one.Spec.Names.Plural+"."+one.Spec.Group {
			t.Errorf("%s %s is no definition", one.Kind, one.Metadata.Name)
		}
		for _, v := range one.Spec.Versions {
			if len(v.Schema.OpenAPIV3Schema) == 0 {
				t.Errorf("%s has no schema in %s", one.Metadata.Name, v.Name)
			}
			if v.Served {
				all = append(all, one.Spec.Group+"/"+v.Name+" "+one.Spec.Names.Kind)
			}
		}
	}
}

func TestAWS(t *testing.T) {
	text, err := AWS()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"elbv2.k8s.aws/v1beta1 IngressClassParams", "elbv2.k8s.aws/v1beta1 TargetGroupBinding",
		"gateway.k8s.aws/v1 ListenerRuleConfiguration", "gateway.k8s.aws/v1 LoadBalancerConfiguration", "gateway.k8s.aws/v1 TargetGroupConfiguration",
		"gateway.k8s.aws/v1beta1 ListenerRuleConfiguration", "gateway.k8s.aws/v1beta1 LoadBalancerConfiguration", "gateway.k8s.aws/v1beta1 TargetGroupConfiguration",
	}
	if got := kinds(t, text); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestGatewayAPI(t *testing.T) {
	text, err := GatewayAPI(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	got := kinds(t, text)
	for _, want := range []string{"Gateway", "GatewayClass", "HTTPRoute", "GRPCRoute", "ReferenceGrant"} {
		if !slices.ContainsFunc(got, func(k string) bool {
			return k == "gateway.networking.k8s.io/v1 "+want || k == "gateway.networking.k8s.io/v1beta1 "+want
		}) {
			t.Errorf("there is no %s in %v", want, got)
		}
	}
	if _, err := GatewayAPI(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), gatewayModule) || !strings.Contains(err.Error(), "project's folder") {
		t.Errorf("outside of the project the error is %v", err)
	}
}
