package plan

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dhow/internal/assess"
	"dhow/internal/estate"
	"dhow/internal/inventory"
)

var update = flag.Bool("update", false, "write the golden files anew")

// planned makes the plan of manifests.
func planned(t *testing.T, o *Options, paths ...string) *Plan {
	t.Helper()
	p, err := tryPlan(t.Context(), o, paths...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryPlan(ctx context.Context, o *Options, paths ...string) (*Plan, error) {
	inv, err := inventory.FromFiles(ctx, inventory.FileOptions{}, paths...)
	if err != nil {
		return nil, err
	}
	report, err := assess.Assess(ctx, inv, assess.Options{})
	if err != nil {
		return nil, err
	}
	return Make(ctx, inv, report, o)
}

// standard are the options of a file that says nothing.
func standard(t *testing.T) *Options {
	t.Helper()
	o, err := ParseOptions("", nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// written are all files of a plan, by their paths.
func written(t *testing.T, p *Plan) map[string]string {
	t.Helper()
	files := map[string]string{}
	for name, write := range map[string]func(io.Writer) error{"plan.yaml": p.WriteYAML, "plan.md": p.WriteMarkdown, "plan.html": p.WriteHTML, "plan.json": p.WriteJSON} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		files[name] = b.String()
	}
	for _, f := range p.Manifests {
		files[f.Path] = string(f.Text)
	}
	for _, f := range []*File{p.Estate, p.OperatorPolicy} {
		if f != nil {
			files[f.Path] = string(f.Text)
		}
	}
	return files
}

// golden compares a plan's files with a folder of testdata/golden, which -update writes
// anew. The page and the JSON say the same as the others, and are not kept.
func golden(t *testing.T, name string, files map[string]string) {
	t.Helper()
	dir := filepath.Join("testdata", "golden", name)
	files = maps.Clone(files)
	delete(files, "plan.html")
	delete(files, "plan.json")
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		for path, text := range files {
			to := filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	var kept []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			path, err = filepath.Rel(dir, path)
			kept = append(kept, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range kept {
		want, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := files[path]; !ok {
			t.Errorf("%s is not written any more", path)
		} else if got != string(want) {
			t.Errorf("%s is not as in the golden; -update takes it over: %s", path, firstDifference(string(want), got))
		}
	}
	for path := range files {
		if !slices.Contains(kept, path) {
			t.Errorf("%s is new; -update takes it over", path)
		}
	}
}

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d is %q, was %q", i+1, b[i], a[i])
		}
	}
	return fmt.Sprintf("%d lines, were %d", len(b), len(a))
}

// sources are the goldens: a source, and what is said of its plan.
func sources(t *testing.T) map[string]struct {
	path    string
	options *Options
} {
	t.Helper()
	away, err := ReadOptions("testdata/evacuation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	away.Instead = []Instead{{"me-central-1", "eu-central-1"}, {"me-south-1", "eu-south-1"}}
	together := standard(t)
	together.Placement = map[string]Place{other: EKS}
	together.Probes = map[string]Paths{other: {Readiness: "/readyz", Liveness: "/healthz"}}
	return map[string]struct {
		path    string
		options *Options
	}{
		"superapp":   {"../../superapp/deploy/source", standard(t)},
		"together":   {"../../superapp/deploy/source", together},
		"evacuation": {"testdata/eks", away},
	}
}

// TestGolden: the plans are as they were, twice; nothing is wrong with what they write.
func TestGolden(t *testing.T) {
	for name, s := range sources(t) {
		t.Run(name, func(t *testing.T) {
			files := written(t, planned(t, s.options, s.path))
			golden(t, name, files)
			if again := written(t, planned(t, s.options, s.path)); !maps.Equal(files, again) {
				t.Error("the second plan is another")
			}
			sound(t, files)
		})
	}
}

// sound looks at what a plan wrote: the estate loads, and the assessment finds nothing
// grave in the manifests.
func sound(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for path, text := range files {
		to := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if files[estate.FileName] != "" {
		if _, err := estate.Load(filepath.Join(dir, estate.FileName)); err != nil {
			t.Errorf("the estate does not load: %v", err)
		}
	}
	if _, err := ParseDocument("plan.yaml", []byte(files["plan.yaml"])); err != nil {
		t.Errorf("the plan is not read again: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "manifests")); err != nil {
		return
	}
	inv, err := inventory.FromFiles(t.Context(), inventory.FileOptions{}, filepath.Join(dir, "manifests"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := assess.Assess(t.Context(), inv, assess.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Rule.Severity >= assess.High || f.Rule.Group == assess.GroupExposure || f.Rule.Group == assess.GroupLoadBalancing {
			t.Errorf("the manifests have %s at %s %s: %v", f.Rule.ID, f.Name(), f.Path, f.Evidence)
		} else {
			t.Logf("the manifests have %s at %s %s: %v", f.Rule.ID, f.Name(), f.Path, f.Evidence)
		}
	}
	for _, p := range r.Problems {
		t.Errorf("the manifests have a problem: %s", p)
	}
}
