package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"dhow/internal/plan/plantest"
)

// objectsOf are a plan's manifests by kind, namespace and name.
func objectsOf(t *testing.T, p *Plan) map[string]*unstructured.Unstructured {
	t.Helper()
	var texts [][]byte
	for _, f := range p.Manifests {
		texts = append(texts, f.Text)
	}
	return plantest.Objects(t, texts...)
}

// TestExposures: of a plan's Exposures the operator makes what the plan without it has.
func TestExposures(t *testing.T) {
	o := standard(t)
	plain := objectsOf(t, planned(t, o, "../../superapp/deploy/source"))
	o = standard(t)
	o.Exposures = true
	p := planned(t, o, "../../superapp/deploy/source")
	golden(t, "exposures", written(t, p))
	left, made := objectsOf(t, p), plantest.Made(t, objectsOf(t, p), p.OperatorPolicy.Text)
	for name, want := range plain {
		kind, rest, _ := strings.Cut(name, " ")
		switch {
		case left[name] != nil || want.GetNamespace() == "" && kind != "Namespace":
			continue // as it is; and the class of Gateways, which are the operator's
		case kind == "Gateway" || kind == "LoadBalancerConfiguration" || strings.HasSuffix(name, "-to-https"):
			continue // shared
		}
		got := made[name]
		if only, private := strings.CutSuffix(rest, "-private"); got == nil && private {
			got = made[kind+" "+only] // one that is private alone needs no other name
		}
		if got == nil {
			t.Errorf("there is no %s", name)
			continue
		}
		if kind == "NetworkPolicy" {
			if d := cmp.Diff(plantest.LetIn(t, want.GetName(), want), plantest.LetIn(t, want.GetName(), got, made[name+"-private"])); d != "" {
				t.Errorf("%s lets others in:\n%s", name, d)
			}
			continue
		}
		if d := cmp.Diff(plantest.Spec(t, want), plantest.Spec(t, got)); d != "" {
			t.Errorf("%s differs:\n%s", name, d)
		}
	}
	for name, o := range made {
		if plain[name] == nil && o.GetKind() != "HTTPRoute" && !strings.HasSuffix(name, "-private") {
			t.Errorf("%s is made too", name)
		}
		if left[name] != nil {
			t.Errorf("%s is made, and in the plan", name)
		}
	}
}
