package plan

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// documentOf is a plan as it is read again.
func documentOf(t *testing.T, p *Plan) *Document {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteYAML(&b); err != nil {
		t.Fatal(err)
	}
	d, err := ParseDocument("plan.yaml", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDiff(t *testing.T) {
	source := "../../superapp/deploy/source"
	old := planned(t, standard(t), source)
	d, err := planned(t, standard(t), source).Compare(documentOf(t, old))
	if err != nil || len(d.Differences) != 0 {
		t.Errorf("the same plan differs: %v, %v", d, err)
	}
	o := standard(t)
	o.Placement = map[string]Place{"web": EKS, "analytics": Left}
	o.Instead = []Instead{{"me-south-1", "eu-south-1"}}
	d, err = planned(t, o, source).Compare(documentOf(t, old))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Difference{
		{Part: "workloads", Item: "Deployment/superapp/web", Field: "place", Kind: Changed, Before: "ecs", After: "eks"},
		{Part: "workloads", Item: "Deployment/superapp/analytics", Field: "place", Kind: Changed, Before: "eks", After: "left"},
		{Part: "regions", Field: "dr.region", Kind: Changed, Before: "me-south-1", After: "eu-south-1"},
	} {
		if !has(d, want) {
			t.Errorf("%+v is not told", want)
		}
	}
	for _, want := range []struct{ part, item, kind string }{{"networks", "production-me-south-1", Removed}, {"networks", "production-eu-south-1", Added}, {"secrets", "superapp/analytics-mariadb", Removed}, {"load_balancers", "superapp-web", Removed}} {
		found := false
		for _, x := range d.Differences {
			found = found || x.Part == want.part && x.Item == want.item && x.Kind == want.kind && x.Field == ""
		}
		if !found {
			t.Errorf("%+v is not told", want)
		}
	}
}

func has(d *Diff, want Difference) bool {
	for _, x := range d.Differences {
		if x == want {
			return true
		}
	}
	return false
}

func TestBadDocuments(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "is no plan",
		"name: my-move":        "is no plan",
		"format: 99":           "is of format 99, and this dhow writes 1",
		"format: 1\n- a: [":    "old.yaml:",
		"just a text":          "old.yaml:1",
		"format: 1\nformat: 1": "old.yaml:2",
	} {
		if _, err := ParseDocument("old.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, and should have %q", text, err, want)
		}
	}
	if _, err := ReadDocument(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("a file that is not there is read")
	}
	file := filepath.Join(t.TempDir(), "plan.yaml")
	if err := os.WriteFile(file, []byte("format: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDocument(file); err != nil {
		t.Error(err)
	}
}
