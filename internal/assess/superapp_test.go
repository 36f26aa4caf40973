package assess

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"dhow/internal/inventory"
	"dhow/superapp/deploy"
)

func assessFiles(t *testing.T, o Options, paths ...string) *Report {
	t.Helper()
	inv, err := inventory.FromFiles(context.Background(), inventory.FileOptions{}, paths...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Assess(context.Background(), inv, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPlantedFaults: in the old deployment each fault is found where it stands, and
// nowhere else.
func TestPlantedFaults(t *testing.T) {
	r := assessFiles(t, Options{}, "../../superapp/deploy/source")
	found := map[string][]string{}
	for i := range r.Findings {
		f := &r.Findings[i]
		found[f.Rule.ID] = append(found[f.Rule.ID], f.Name()+" "+f.Path)
		if f.Line == 0 || f.File == "" || len(f.Evidence) == 0 {
			t.Errorf("%s of %s has no place or no evidence: %s, %v", f.Rule.ID, f.Name(), f.Where(), f.Evidence)
		}
	}
	faults, err := deploy.Faults()
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		if RuleOf(fault.ID) == nil {
			t.Errorf("no rule is for %s", fault.ID)
			continue
		}
		var want []string
		for _, place := range fault.At {
			for _, object := range place.Objects {
				want = append(want, object+" "+place.Path)
			}
		}
		got := found[fault.ID]
		slices.Sort(want)
		slices.Sort(got)
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("%s is not found at %s", fault.ID, w)
			}
		}
		for _, g := range got {
			if !slices.Contains(want, g) {
				t.Errorf("%s is found at %s, where it is not", fault.ID, g)
			}
		}
	}
}

// TestNewDeployment: in the new deployment nothing is found.
func TestNewDeployment(t *testing.T) {
	r := assessFiles(t, Options{}, "../../superapp/deploy/aws")
	for i := range r.Findings {
		f := &r.Findings[i]
		t.Errorf("%s at %s %s (%s): %v", f.Rule.ID, f.Name(), f.Path, f.Where(), f.Evidence)
	}
	for _, e := range r.Exposures {
		t.Errorf("%s is open: %s", e.Workload, e.Steps())
	}
	if r.Partial || len(r.Problems) > 0 {
		t.Errorf("it is not read whole: %v", r.Problems)
	}
	if r.Workloads == 0 {
		t.Error("there are no workloads")
	}
}

// TestSameAgain: two runs say the same, in the same order.
func TestSameAgain(t *testing.T) {
	text := func() string {
		r := assessFiles(t, Options{}, "../../superapp/deploy/source")
		s := ""
		for i := range r.Findings {
			f := &r.Findings[i]
			s += fmt.Sprintln(f.Rule.ID, f.Name(), f.Path, f.Where(), f.Evidence, f.Fingerprint)
		}
		return s
	}
	if first := text(); first != text() {
		t.Error("the second run says something else")
	}
}

// TestFingerprints are those of one finding each.
func TestFingerprints(t *testing.T) {
	r := assessFiles(t, Options{}, "../../superapp/deploy/source")
	of := map[string]string{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if other := of[f.Fingerprint]; other != "" {
			t.Errorf("%s %s has the fingerprint of %s", f.Rule.ID, f.Name(), other)
		}
		of[f.Fingerprint] = f.Rule.ID + " " + f.Name()
	}
}
