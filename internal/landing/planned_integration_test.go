package landing

import (
	"path/filepath"
	"testing"

	"dhow/internal/estate"
)

// TestPlanIsDeployed: the estate that `dhow plan` writes deploys as it is, with the
// templates that are in the program.
func TestPlanIsDeployed(t *testing.T) {
	if testing.Short() {
		t.Skip("AWS's resource schemas are read and many stacks deployed: left out under testing.Short")
	}
	e, err := estate.Load(filepath.Join("..", "plan", "testdata", "golden", "superapp", estate.FileName))
	if err != nil {
		t.Fatal(err)
	}
	Complete(e.Landing)
	library, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	regions := catalog(t)
	g, err := New(Options{Estate: e, Library: library, Regions: regions})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Rehearse(t.Context(), g.Stacks, RehearsalOptions{Graph: g, Regions: regions, Speed: 2000})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Severity == SeverityError {
			t.Errorf("%s: %s", f.Where, f.Text)
		}
	}
	if err := Err(r.Results); err != nil {
		t.Error(err)
	}
	if len(r.Timeline.Spans) != len(g.Stacks) || len(g.Stacks) < 80 {
		t.Errorf("%d of %d stacks were deployed", len(r.Timeline.Spans), len(g.Stacks))
	}
}
