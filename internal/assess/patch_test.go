package assess

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"dhow/internal/inventory"
)

// TestPatchesMend applies each rule's patch to what it fires for: the finding is gone then.
func TestPatchesMend(t *testing.T) {
	tried := 0
	for _, r := range Rules() {
		if r.check == nil || r.Live {
			continue
		}
		inv := caseOf(t, filepath.Join(cases, r.ID), "fires")
		found := findingsOf(t, inv, r.ID)
		for i := range found {
			f := &found[i]
			patch, kind, err := f.Patch()
			if err != nil {
				t.Fatal(err)
			}
			if kind != PatchStrategic {
				continue
			}
			tried++
			t.Run(r.ID, func(t *testing.T) {
				for _, g := range findingsOf(t, filesOf(t, patched(t, inv, f, patch)), r.ID) {
					if g.Fingerprint == f.Fingerprint {
						t.Errorf("%s is still there after\n%s", f.Name(), patch)
					}
				}
			})
		}
	}
	if tried < 20 {
		t.Errorf("only %d patches were tried", tried)
	}
}

// patched writes an inventory's objects into a file, one of them with its patch.
func patched(t *testing.T, inv *inventory.Inventory, f *Finding, patch string) string {
	t.Helper()
	var all []byte
	for _, o := range inv.Objects {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o.Content)
		if err != nil {
			t.Fatal(err)
		}
		content["apiVersion"], content["kind"] = o.APIVersion, o.Kind
		raw, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		if o.Ref == f.Object {
			change, err := yaml.YAMLToJSON([]byte(patch))
			if err != nil {
				t.Fatal(err)
			}
			if raw, err = strategicpatch.StrategicMergePatch(raw, change, o.Content); err != nil {
				t.Fatalf("%s can not be patched with\n%s: %v", f.Name(), patch, err)
			}
		}
		text, err := yaml.JSONToYAML(raw)
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, text...), "---\n"...)
	}
	path := filepath.Join(t.TempDir(), "patched.yaml")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPointer(t *testing.T) {
	for path, want := range map[string]string{
		"spec.template.spec.tolerations[0]":              "/spec/template/spec/tolerations/0",
		`metadata.annotations["example.com/name"]`:       "/metadata/annotations/example.com~1name",
		`data["nginx.conf"]`:                             "/data/nginx.conf",
		"spec.containers[12].securityContext.privileged": "/spec/containers/12/securityContext/privileged",
	} {
		if d := cmp.Diff(want, pointer(path)); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
}

// TestStableFingerprints: a container that is put before another, and lines that move,
// change no fingerprint of the other.
func TestStableFingerprints(t *testing.T) {
	const head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: n}\nspec:\n  selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: a}}\n    spec:\n      containers:\n"
	const one = "      - {name: one, image: 'x:1', securityContext: {privileged: true}, env: [{name: A, value: b}, {name: LOG_LEVEL, value: debug}]}\n"
	const two = "      - {name: two, image: 'y:1', env: [{name: LOG_LEVEL, value: debug}]}\n"
	prints := func(text string) map[string]string {
		path := filepath.Join(t.TempDir(), "a.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, f := range assessFiles(t, Options{}, path).Findings {
			all[f.Fingerprint] = f.Rule.ID
		}
		return all
	}
	before, after := prints(head+one), prints("# a line\n"+head+two+one)
	for print, rule := range before {
		if after[print] != rule && rule != "not-spread" {
			t.Errorf("the fingerprint of %s changed", rule)
		}
	}
}
