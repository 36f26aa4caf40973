package operator

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestRights makes the operator's role again from the markers in the code, and compares it
// with that in the repository.
func TestRights(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the generator: not with -short (testing.Short)")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "controller-gen", "rbac:roleName=dhow-operator", "paths=.", "output:rbac:dir="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, err := os.ReadFile(filepath.Join(dir, "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile("../../deploy/operator/role.yaml"); err != nil || string(have) != string(want) {
		t.Errorf("deploy/operator/role.yaml is stale (%v): run `go generate ./internal/operator`", err)
	}
}
