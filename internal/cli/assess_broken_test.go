package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dhow/internal/cli"
)

// brokenServer is an API server that forbids Secrets, never answers for ConfigMaps, and
// has a Deployment for whoever asks.
func brokenServer(t *testing.T) *httptest.Server {
	t.Helper()
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer := map[string]string{
			"/version": `{"gitVersion":"v1.37.2","platform":"linux/amd64"}`,
			"/api":     `{"kind":"APIVersions","versions":["v1"]}`,
			"/apis":    `{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}]}`,
			"/api/v1": `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"configmaps","kind":"ConfigMap","namespaced":true,"verbs":["list"]},
				{"name":"secrets","kind":"Secret","namespaced":true,"verbs":["list"]},{"name":"services","kind":"Service","namespaced":true,"verbs":["list"]}]}`,
			"/apis/apps/v1":    `{"kind":"APIResourceList","groupVersion":"apps/v1","resources":[{"name":"deployments","kind":"Deployment","namespaced":true,"verbs":["list"]}]}`,
			"/api/v1/services": `{"metadata":{},"items":[]}`,
			"/apis/apps/v1/deployments": `{"metadata":{},"items":[{"metadata":{"name":"live","namespace":"shop"},"spec":{"selector":{"matchLabels":{"app":"live"}},
				"template":{"metadata":{"labels":{"app":"live"}},"spec":{"containers":[{"name":"live","image":"live:1","securityContext":{"privileged":true}}]}}}}]}`,
		}[r.URL.Path]
		switch {
		case answer != "":
			fmt.Fprint(w, answer)
		case r.URL.Path == "/api/v1/configmaps":
			select {
			case <-r.Context().Done():
			case <-release:
			}
		case r.URL.Path == "/api/v1/secrets":
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"secrets is forbidden"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"none"}`)
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(release) }) // before the server waits for its requests
	return s
}

// TestAssessBrokenInput: whatever can not be read is told of with its place, the rest is
// assessed all the same, and the exit code says that it is not all.
func TestAssessBrokenInput(t *testing.T) {
	dir := t.TempDir()
	const deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s, namespace: shop}\nspec:\n  selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: a}}\n    spec:\n      containers:\n      - {name: a, image: 'a:1', securityContext: {privileged: true}}\n"
	for name, text := range map[string]string{
		"files/invalid.yaml":                     fmt.Sprintf(deployment, "before") + "---\napiVersion: v1\nkind: [\n---\n" + fmt.Sprintf(deployment, "after"),
		"files/unknown.yaml":                     "apiVersion: example.com/v1\nkind: Boat\nmetadata: {name: dhow, namespace: shop}\nspec: {sails: 2}\n---\napiVersion: apps/v9\nkind: Deployment\nmetadata: {name: new, namespace: shop}\n",
		"files/untyped.yaml":                     "apiVersion: v1\nmetadata: {name: a}\nkind: ''\n",
		"files/one.yaml":                         fmt.Sprintf(deployment, "twice"),
		"files/two.yaml":                         "# a line\n" + fmt.Sprintf(deployment, "twice") + "  replicas: 3\n",
		"files/chart/Chart.yaml":                 "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
		"files/chart/templates/good.yaml":        fmt.Sprintf(deployment, "charted"),
		"files/chart/templates/bad.yaml":         "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ required \"a name is needed\" .Values.name }}\n",
		"files/syntax/Chart.yaml":                "apiVersion: v2\nname: syntax\nversion: 1.0.0\n",
		"files/syntax/templates/bad.yaml":        "a: {{ if }}\n",
		"files/broken/kustomization.yaml":        "resources:\n- gone.yaml\n",
		"files/composed/compose.yaml":            "services:\n  web:\n    image: web:1\n    ports: [eighty]\n",
		"files/well-composed/docker-compose.yml": "services:\n  fine:\n    image: fine:1\n    privileged: true\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: here\nclusters:\n- name: a\n  cluster: {server: %q}\nusers:\n- name: a\n  user: {}\ncontexts:\n- name: here\n  context: {cluster: a, user: a}\n", brokenServer(t).URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	files := filepath.Join(dir, "files")
	var out, said bytes.Buffer
	// The one list that hangs is given up on, and the others are not.
	code := cli.Run(t.Context(), []string{"assess", files, "--kubeconfig", kubeconfig, "--request-timeout", "5s", "-o", "json"}, cli.IO{In: strings.NewReader(""), Out: &out, Err: &said})
	if code != 3 {
		t.Errorf("the exit code is %d, not 3: %s", code, said.String())
	}
	var report struct {
		Findings []struct {
			Rule   string
			Object struct{ Name string }
		}
		Problems []struct {
			File, Context, What, Do string
			Line                    int
			Lost                    bool
		}
		Partial bool
		Cluster struct{ Unread []string }
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	if !report.Partial || !slices.Equal(report.Cluster.Unread, []string{"configmaps", "secrets"}) {
		t.Errorf("partial is %v, and not read are %v", report.Partial, report.Cluster.Unread)
	}
	for _, want := range []struct {
		at   string
		line int
		what string
	}{
		{"invalid.yaml", 13, "not valid YAML"},
		{"unknown.yaml", 6, "version apps/v9 of Deployment is not known"},
		{"untyped.yaml", 1, "apiVersion or kind is missing"},
		{"two.yaml", 2, "with other content"},
		{"chart/templates/bad.yaml", 4, "a name is needed"},
		{"syntax/templates/bad.yaml", 1, "missing value for if"},
		{"broken/kustomization.yaml", 0, "gone.yaml"},
		{"composed/compose.yaml", 0, "eighty"},
		{"here", 0, "not allowed to list secrets"},
		{"here", 0, "no answer in time to the list of configmaps"},
	} {
		found := false
		for _, p := range report.Problems {
			place := p.Context
			if p.File != "" {
				var err error
				if place, err = filepath.Rel(files, p.File); err != nil {
					t.Fatal(err)
				}
			}
			found = found || place == want.at && p.Line == want.line && strings.Contains(p.What, want.what) && p.Do != "" && p.Lost
		}
		if !found {
			t.Errorf("%s:%d: %q is not told of", want.at, want.line, want.what)
		}
	}
	assessed := map[string]bool{}
	for _, f := range report.Findings {
		if f.Rule == "privileged" {
			assessed[f.Object.Name] = true
		}
	}
	for _, name := range []string{"before", "after", "twice", "charted", "live", "fine"} {
		if !assessed[name] {
			t.Errorf("%s was not assessed", name)
		}
	}
	if t.Failed() {
		for _, p := range report.Problems {
			t.Logf("%+v", p)
		}
	}
}
