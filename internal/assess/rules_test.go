package assess

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"dhow/internal/inventory"
)

// caseOf reads what a rule is tried on: NAME.yaml or the folder NAME are the manifests,
// NAME.live.yaml is what only a running cluster has, and NAME.cluster.yaml the objects there.
func caseOf(t *testing.T, dir, name string) *inventory.Inventory {
	t.Helper()
	path := filepath.Join(dir, name+".yaml")
	if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.IsDir() {
		path = filepath.Join(dir, name)
	}
	inv := filesOf(t, path)
	text, err := os.ReadFile(filepath.Join(dir, name+".live.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return inv
	} else if err != nil {
		t.Fatal(err)
	}
	var live inventory.Inventory
	var extra struct {
		Cluster *inventory.Cluster `json:"cluster"`
		Pods    []inventory.Pod    `json:"pods"`
		Usage   []inventory.Usage  `json:"usage"`
	}
	if err := yaml.UnmarshalStrict(text, &extra); err != nil {
		t.Fatal(err)
	}
	if path := filepath.Join(dir, name+".cluster.yaml"); exists(path) {
		live = *filesOf(t, path)
	}
	live.Cluster, live.Pods, live.Usage = extra.Cluster, extra.Pods, extra.Usage
	merged, err := inventory.Merge(context.Background(), inv, &live)
	if err != nil {
		t.Fatal(err)
	}
	return merged
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func filesOf(t *testing.T, path string) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.FromFiles(context.Background(), inventory.FileOptions{}, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range inv.Problems {
		if p.Lost {
			t.Fatalf("%s is not read whole: %s", path, p)
		}
	}
	return inv
}

func findingsOf(t *testing.T, inv *inventory.Inventory, rule string) []Finding {
	t.Helper()
	r, err := Assess(context.Background(), inv, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(r.Findings, func(f Finding) bool { return f.Rule.ID != rule })
}

const cases = "testdata/rules"

// TestRules: each rule fires where it should, with evidence, and nowhere else.
func TestRules(t *testing.T) {
	for _, r := range Rules() {
		if r.check == nil {
			continue // about suppressions, see their tests
		}
		t.Run(r.ID, func(t *testing.T) {
			dir := filepath.Join(cases, r.ID)
			found := findingsOf(t, caseOf(t, dir, "fires"), r.ID)
			if len(found) == 0 {
				t.Error("it does not fire")
			}
			for i := range found {
				f := &found[i]
				if len(f.Evidence) == 0 || slices.Contains(f.Evidence, "") {
					t.Errorf("its evidence is %q", f.Evidence)
				}
				if f.Where() == "" || f.Name() == "" {
					t.Errorf("its place is %q of %q", f.Where(), f.Name())
				}
				if _, _, err := f.Patch(); err != nil {
					t.Error(err)
				}
			}
			for _, f := range findingsOf(t, caseOf(t, dir, "not"), r.ID) {
				t.Errorf("it fires for %s %s: %v", f.Name(), f.Path, f.Evidence)
			}
		})
	}
	dirs, err := os.ReadDir(cases)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if RuleOf(d.Name()) == nil {
			t.Errorf("%s is the case of no rule", d.Name())
		}
	}
}

// TestTable: the table is whole, and its words are sentences.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	id := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for _, r := range Rules() {
		if seen[r.ID] || !id.MatchString(r.ID) {
			t.Errorf("the id %q is there twice or badly formed", r.ID)
		}
		seen[r.ID] = true
		if !slices.Contains(Groups(), r.Group) || !slices.Contains(Severities(), r.Severity) {
			t.Errorf("%s is of the group %q and the severity %s", r.ID, r.Group, r.Severity)
		}
		for _, text := range []string{r.Title, r.Why, r.Fix} {
			if !strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "`") || strings.ToUpper(text[:1]) != text[:1] {
				t.Errorf("%s says %q, which is no sentence", r.ID, text)
			}
		}
	}
	if len(seen) < 60 {
		t.Errorf("there are only %d rules", len(seen))
	}
}
