package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// server answers like an API server that has a few resources.
type server struct {
	t *testing.T
	// lists are the answers by path; a list is answered in pages of two.
	lists map[string][]string
	// errors are the answers that refuse, by path: each once more is asked for it.
	errors map[string]int
	asked  atomic.Int64
	// expires answers 410 to the first question for a second page.
	expires atomic.Bool
	accepts func(path, accept string)
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodGet {
		s.t.Errorf("%s %s is no reading", r.Method, r.URL.Path)
	}
	fail := func(code int, reason string) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"no"}`, reason, code)
	}
	switch r.URL.Path {
	case "/version":
		fmt.Fprint(w, `{"gitVersion":"v1.37.2","platform":"linux/amd64"}`)
		return
	case "/api":
		fmt.Fprint(w, `{"kind":"APIVersions","versions":["v1"]}`)
		return
	case "/apis":
		fmt.Fprint(w, `{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}]}`)
		return
	case "/api/v1":
		fmt.Fprint(w, `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","kind":"Pod","namespaced":true,"verbs":["list"]},{"name":"configmaps","kind":"ConfigMap","namespaced":true,"verbs":["list"]},{"name":"secrets","kind":"Secret","namespaced":true,"verbs":["list"]},{"name":"services","kind":"Service","namespaced":true,"verbs":["list"]}]}`)
		return
	case "/apis/apps/v1":
		fmt.Fprint(w, `{"kind":"APIResourceList","groupVersion":"apps/v1","resources":[{"name":"deployments","kind":"Deployment","namespaced":true,"verbs":["list"]},{"name":"replicasets","kind":"ReplicaSet","namespaced":true,"verbs":["list"]}]}`)
		return
	}
	if s.accepts != nil {
		s.accepts(r.URL.Path, r.Header.Get("Accept"))
	}
	switch code := s.errors[r.URL.Path]; code {
	case 0:
	case http.StatusForbidden:
		fail(code, "Forbidden")
		return
	case http.StatusGatewayTimeout:
		fail(code, "Timeout")
		return
	default:
		fail(code, "InternalError")
		return
	}
	items, ok := s.lists[r.URL.Path]
	if !ok {
		fail(http.StatusNotFound, "NotFound")
		return
	}
	from := 0
	if c := r.URL.Query().Get("continue"); c != "" {
		if s.expires.CompareAndSwap(true, false) {
			fail(http.StatusGone, "Expired")
			return
		}
		if _, err := fmt.Sscan(c, &from); err != nil {
			s.t.Error(err)
		}
	}
	if r.URL.Query().Get("limit") != "500" {
		s.t.Errorf("the limit is %q", r.URL.Query().Get("limit"))
	}
	to, next := min(from+2, len(items)), ""
	if to < len(items) {
		next = fmt.Sprint(to)
	}
	fmt.Fprintf(w, `{"metadata":{"continue":%q},"items":[%s]}`, next, strings.Join(items[from:to], ","))
}

func (s *server) kubeconfig(t *testing.T) string {
	t.Helper()
	s.t = t
	live := httptest.NewServer(s)
	t.Cleanup(live.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: a\n  cluster: {server: %q}\nusers:\n- name: a\n  user: {}\ncontexts:\n- name: a\n  context: {cluster: a, user: a}\n", live.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func configMap(name string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"x","managedFields":[{}],"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"PASSWORD\":\"hush\"}}"}},"data":{"PASSWORD":"hush","MODE":"a"}}`, name)
}

func shop() *server {
	owner := func(version, kind, name string) string {
		return fmt.Sprintf(`"ownerReferences":[{"apiVersion":%q,"kind":%q,"name":%q,"controller":true,"uid":"1"}]`, version, kind, name)
	}
	return &server{errors: map[string]int{}, lists: map[string][]string{
		"/api/v1/configmaps": {configMap("a"), configMap("b"), configMap("c"), `{"metadata":{"name":"kube-root-ca.crt","namespace":"x"}}`, `{"metadata":{"name":"d","namespace":"kube-system"}}`},
		"/api/v1/secrets":    {`{"metadata":{"name":"keys","namespace":"x"},"data":{"token":"aHVzaA==","user":"aHVzaA=="}}`},
		"/api/v1/services":   {`{"metadata":{"name":"web","namespace":"x"},"spec":{"selector":{"app":"web"},"ports":[{"port":80}]}}`},
		"/apis/apps/v1/deployments": {`{"metadata":{"name":"web","namespace":"x"},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"web","image":"web:1",
			"env":[{"name":"T","valueFrom":{"secretKeyRef":{"name":"keys","key":"token"}}}]}]}}}}`},
		"/apis/apps/v1/replicasets": {`{"metadata":{"name":"web-abc","namespace":"x",` + owner("apps/v1", "Deployment", "web") + `},"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:1","env":[{"name":"PASSWORD","value":"hush"}]}]}}}}`},
		"/api/v1/pods": {`{"metadata":{"name":"web-abc-12345","namespace":"x",` + owner("apps/v1", "ReplicaSet", "web-abc") + `,"creationTimestamp":"2026-01-01T00:00:00Z"},"spec":{"nodeName":"n","containers":[{"name":"web","image":"web:1","env":[{"name":"PASSWORD","value":"hush"}]}]},
			"status":{"phase":"Running","conditions":[{"type":"Ready","status":"False"}],"containerStatuses":[{"name":"web","imageID":"docker.io/library/web@sha256:12","restartCount":4,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"reason":"OOMKilled","exitCode":137}}}]}}`},
		"/apis/metrics.k8s.io/v1beta1/pods": {`{"metadata":{"name":"web-abc-12345","namespace":"x"},"timestamp":"2026-01-02T00:00:00Z","containers":[{"name":"web","usage":{"cpu":"250m","memory":"64Mi"}}]}`},
	}}
}

func TestCluster(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // after the server's
	s := shop()
	s.expires.Store(true)
	s.accepts = func(path, accept string) {
		if path == "/api/v1/secrets" && !strings.Contains(accept, "PartialObjectMetadataList") {
			t.Errorf("Secrets are asked for as %s", accept)
		}
	}
	inv, err := FromCluster(t.Context(), Options{Kubeconfig: s.kubeconfig(t)})
	if err != nil {
		t.Fatal(err)
	}
	if inv.Partial {
		t.Error(inv.Problems)
	}
	want := []string{"ConfigMap/x/a", "ConfigMap/x/b", "ConfigMap/x/c", "Secret/x/keys", "Service/x/web", "Deployment/x/web"}
	if got := names(inv); !slices.Equal(got, want) {
		t.Error(got)
	}
	w := inv.Workload(Ref{"apps", "Deployment", "x", "web"})
	if len(w.Services) != 1 || len(w.Pods) != 1 || w.Digests["web"][0] != "sha256:12" || w.Containers[0].Usage == nil || w.Containers[0].Usage.CPU.Max != 0.25 || w.Containers[0].Usage.Memory.P50 != 64<<20 {
		t.Errorf("%+v", w)
	}
	if c := w.Pods[0].Containers[0]; c.Restarts != 4 || !c.OOM || c.Waiting != "CrashLoopBackOff" || w.Pods[0].Ready || w.Pods[0].Node != "n" {
		t.Errorf("%+v", w.Pods[0])
	}
	secret := inv.Find("Secret", "x", "keys")
	if got := secretKeys(secret.Content.(*corev1.Secret)); !slices.Equal(got, []string{"token"}) || secret.KeysKnown {
		t.Error(got)
	}
	raw, err := json.Marshal(inv)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "hush") || strings.Contains(string(raw), "aHVzaA") {
		t.Error("a secret is in the inventory")
	}
	if len(inv.Plain) != 3 || inv.Plain[0].Context != "a" {
		t.Errorf("%+v", inv.Plain)
	}
}

func TestClusterSecretsKeys(t *testing.T) {
	s := shop()
	inv, err := FromCluster(t.Context(), Options{Kubeconfig: s.kubeconfig(t), Secrets: SecretsKeys})
	if err != nil {
		t.Fatal(err)
	}
	o := inv.Find("Secret", "x", "keys")
	if got := secretKeys(o.Content.(*corev1.Secret)); !slices.Equal(got, []string{"token", "user"}) || !o.KeysKnown {
		t.Error(got)
	}
	raw, err := json.Marshal(inv)
	if err != nil || strings.Contains(string(raw), "aHVzaA") {
		t.Error("a secret is in the inventory", err)
	}
	inv, err = FromCluster(t.Context(), Options{Kubeconfig: s.kubeconfig(t), Secrets: SecretsNone})
	if err != nil || inv.Find("Secret", "x", "keys") != nil || !slices.Contains(inv.Cluster.Unread, "secrets") {
		t.Error(err, names(inv))
	}
}

// What is refused is told of, and the rest is read.
func TestClusterRefuses(t *testing.T) {
	s := shop()
	s.errors["/api/v1/secrets"] = http.StatusForbidden
	s.errors["/api/v1/services"] = http.StatusGatewayTimeout
	delete(s.lists, "/apis/metrics.k8s.io/v1beta1/pods")
	inv, err := FromCluster(t.Context(), Options{Kubeconfig: s.kubeconfig(t)})
	if err != nil {
		t.Fatal(err)
	}
	if !inv.Partial || len(inv.Problems) != 3 || len(inv.Workloads) != 1 || !slices.Equal(inv.Cluster.Unread, []string{"secrets", "services"}) {
		t.Errorf("%v %v", inv.Problems, inv.Cluster.Unread)
	}
	all := fmt.Sprint(inv.Problems)
	for _, part := range []string{"cluster a: not allowed to list secrets", "no answer in time to the list of services", "what the pods take can not be read"} {
		if !strings.Contains(all, part) {
			t.Errorf("%q is missing in %s", part, all)
		}
	}
}

func TestClusterErrors(t *testing.T) {
	if _, err := FromCluster(t.Context(), Options{Kubeconfig: "testdata/none"}); err == nil || !strings.Contains(err.Error(), "testdata/none") {
		t.Error(err)
	}
	s := shop()
	if _, err := FromCluster(t.Context(), Options{Kubeconfig: s.kubeconfig(t), Context: "other"}); err == nil || !strings.Contains(err.Error(), "other") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := FromCluster(ctx, Options{Kubeconfig: s.kubeconfig(t)}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestRole(t *testing.T) {
	text, err := Role(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict(text, &role); err != nil {
		t.Fatal(err)
	}
	for _, r := range role.Rules {
		if !slices.Equal(r.Verbs, []string{"list"}) || slices.Contains(r.APIGroups, "*") {
			t.Errorf("%+v", r)
		}
	}
	if !strings.Contains(string(text), "- secrets\n") {
		t.Error("Secrets are missing")
	}
	if text, err = Role(Options{Secrets: SecretsNone}); err != nil || strings.Contains(string(text), "secrets\n") {
		t.Error(err, string(text))
	}
}

func TestMerge(t *testing.T) {
	s := shop()
	live, err := FromCluster(t.Context(), Options{Kubeconfig: s.kubeconfig(t)})
	if err != nil {
		t.Fatal(err)
	}
	files := read(t, map[string]string{"web.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: x}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:1
        resources: {requests: {cpu: 100m}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: x}
data: {PASSWORD: hush-2, MODE: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: gone, namespace: x}
`})
	both, err := Merge(t.Context(), files, live)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range both.Drift {
		got = append(got, fmt.Sprint(d.Object, " ", d.Path, " ", d.Only, " ", d.Files, " ", d.Cluster, " ", d.Line))
	}
	want := []string{
		`ConfigMap/x/a data.MODE  "b" "a" 18`, `ConfigMap/x/b  cluster   0`, `ConfigMap/x/c  cluster   0`, `ConfigMap/x/gone  files   20`, `Secret/x/keys  cluster   0`, `Service/x/web  cluster   0`,
		`Deployment/x/web spec.replicas  3 1 5`, `Deployment/x/web spec.template.spec.containers[0].resources.requests files {"cpu":"100m"}  13`,
	}
	if !slices.Equal(got, want) {
		t.Error(strings.Join(got, "\n"))
	}
	w := both.Workload(Ref{"apps", "Deployment", "x", "web"})
	if w.Replicas != 3 || len(w.Pods) != 1 || w.Object.Live == nil || filepath.Base(w.Object.Source.File) != "web.yaml" || w.Object.Source.Context != "a" || w.Containers[0].Usage == nil {
		t.Errorf("%+v", w)
	}
}

func TestQuantiles(t *testing.T) {
	var v []float64
	for n := range 100 {
		v = append(v, float64(100-n))
	}
	if got := quantiles(v); got != (Quantiles{50, 90, 95, 99, 100}) {
		t.Error(got)
	}
	if got := quantiles([]float64{7}); got != (Quantiles{7, 7, 7, 7, 7}) {
		t.Error(got)
	}
}

// A Prometheus is asked for what containers take, and which metric counts requests.
func TestPrometheus(t *testing.T) {
	prom := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		query := r.FormValue("query")
		value := "0.5"
		switch {
		case strings.HasPrefix(query, "count(istio_requests_total"):
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"3"]}]}}`)
			return
		case strings.HasPrefix(query, "count("):
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
			return
		case strings.Contains(query, "memory"):
			value = "1000"
		}
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"namespace":"x","pod":"web-abc-12345","container":"web"},"value":[1,%q]},{"metric":{"namespace":"x","pod":"web-0123456789-abcde","container":"web"},"value":[1,"0.75"]}]}}`, value)
	}))
	defer prom.Close()
	inv, err := FromCluster(t.Context(), Options{Kubeconfig: shop().kubeconfig(t), Prometheus: prom.URL, Window: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Usage) != 1 || inv.Usage[0].CPU.P50 != 0.75 || inv.Usage[0].Memory.Max != 1000 || inv.Usage[0].Source != "Prometheus" || inv.Usage[0].To.Sub(inv.Usage[0].From) != time.Hour {
		t.Errorf("%+v %v", inv.Usage, inv.Problems)
	}
	if inv.History == nil || inv.History.Metric != "istio_requests_total" {
		t.Errorf("%+v", inv.History)
	}
	prom.Close()
	inv, err = FromCluster(t.Context(), Options{Kubeconfig: shop().kubeconfig(t), Prometheus: prom.URL})
	if err != nil || !inv.Partial || len(inv.Usage) != 1 || inv.Usage[0].Source != "metrics API" {
		t.Error(err, inv.Problems)
	}
}
