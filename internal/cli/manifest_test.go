package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestManifest: what is printed for a cluster, with the secrets and without.
func TestManifest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dhow.yaml")
	text := `{name: bank, databases: [{name: ledger, source: {host: a.example, database: l, user: u, password: {env: DHOW_TEST_MANIFEST}}, target: {host: b.example, database: l, user: u}}],
		gate: {listen: ":80", routes: [{name: all, source: "http://a.example", target: "http://b.example"}]}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DHOW_TEST_MANIFEST", "s3cret")
	for name, c := range map[string]struct {
		args  []string
		code  int
		want  []string
		never string
	}{
		"workload": {[]string{"--image", "dhow:v1", "--job", "2", "--storage-class", "fast"}, exitDone, []string{"kind: Deployment", "kind: Role\n", "storageClassName: fast", "--forever", "namespace: dhow\n"}, "s3cret"},
		"secret":   {[]string{"--secret", "-n", "moves"}, exitDone, []string{"kind: Secret", "ledger.source.password: czNjcmV0", "namespace: moves"}, "kind: Deployment"},
		"list":     {[]string{"--image", "dhow:v1", "-o", "json"}, exitDone, []string{`"kind": "List"`, `"kind": "Deployment"`}, "s3cret"},
		"no image": {nil, exitUsage, []string{"--image is missing"}, "kind"},
		"no size":  {[]string{"--image", "a", "--storage", "much"}, exitUsage, []string{`"much" is no size`}, "kind"},
		"no place": {[]string{"--image", "a", "-n", "A"}, exitUsage, []string{`the namespace "A"`}, "kind"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			code := Run(context.Background(), append([]string{"manifest", "--file", file}, c.args...), IO{In: strings.NewReader(""), Out: &out, Err: &out})
			if code != c.code {
				t.Errorf("it ends with %d, want %d: %s", code, c.code, out.String())
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not print %q, but:\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), c.never) {
				t.Errorf("it prints %q", c.never)
			}
		})
	}
}
