package v1alpha1_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGenerated makes again what is made from the types, and compares it with what is
// in the repository.
func TestGenerated(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the generator: not with -short (testing.Short)")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "controller-gen", "object", "crd:crdVersions=v1", "paths=.", "output:crd:dir="+dir, "output:object:dir="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made, err := os.ReadDir(dir)
	if err != nil || len(made) != 3 {
		t.Fatalf("made %v, %v: want the definitions and the copies", made, err)
	}
	for _, f := range made {
		want, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		at := "."
		if filepath.Ext(f.Name()) == ".yaml" {
			at = "../../deploy/crd"
		}
		if have, err := os.ReadFile(filepath.Join(at, f.Name())); err != nil || string(have) != string(want) {
			t.Errorf("%s/%s is stale (%v): run `go generate ./api/...`", at, f.Name(), err)
		}
	}
}
