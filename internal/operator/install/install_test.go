package install

import (
	"bytes"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"dhow/internal/assess"
	"dhow/internal/inventory"
	"dhow/internal/operator/admit"
	"dhow/internal/operator/certificate"
)

//nolint:gochecknoglobals // a flag
var update = flag.Bool("update", false, "write deploy/operator/install.yaml and deploy/chart anew")

const (
	manifestFile = "../../../deploy/operator/install.yaml"
	chartFolder  = "../../../deploy/chart/dhow-operator"
)

// TestFresh holds what is in the repository to what this package makes.
func TestFresh(t *testing.T) {
	manifest, err := Manifest()
	if err != nil {
		t.Fatal(err)
	}
	chart, err := Chart()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{manifestFile: manifest}
	for name, text := range chart {
		want[filepath.Join(chartFolder, name)] = text
	}
	if *update {
		if err := os.RemoveAll(chartFolder); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	const how = "run `go test ./internal/operator/install -update`"
	for _, name := range slices.Sorted(maps.Keys(want)) {
		have, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%v: %s", err, how)
			continue
		}
		if d := cmp.Diff(string(want[name]), string(have)); d != "" {
			t.Errorf("%s is stale: %s\n-want +have:\n%s", name, how, d)
		}
	}
	err = filepath.WalkDir(chartFolder, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && want[name] == nil {
			t.Errorf("%s is left over: %s", name, how)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// rendered is the chart in the repository with values, as Helm makes it, its kinds with it.
func rendered(t *testing.T, namespace, values string) (map[string]*unstructured.Unstructured, error) {
	t.Helper()
	c, err := loader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	given := map[string]any{}
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	// It holds the values to the schema as well.
	all, err := util.ToRenderValues(c, given, common.ReleaseOptions{Name: "some-release", Namespace: namespace, IsInstall: true, Revision: 1}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.RenderWithContext(t.Context(), c, all)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text.WriteString("\n---\n" + files[name])
	}
	for _, crd := range c.CRDObjects() {
		text.WriteString("\n---\n")
		text.Write(crd.File.Data)
	}
	return byName(t, text.Bytes()), nil
}

//nolint:gochecknoglobals // a constant
var strict = serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict)

func byName(t *testing.T, text []byte) map[string]*unstructured.Unstructured {
	t.Helper()
	objects, err := parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	all := map[string]*unstructured.Unstructured{}
	for _, o := range objects {
		key := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		if all[key] != nil {
			t.Fatalf("%s is there twice", key)
		}
		all[key] = o
		text, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		// Kubernetes' own kinds have no field that is not theirs.
		if _, _, err := strict.UniversalDeserializer().Decode(text, nil, nil); err != nil && !runtime.IsNotRegisteredError(err) {
			t.Errorf("%s: %v", key, err)
		}
	}
	return all
}

// TestChart: with its default values the chart makes what the one file makes, object by object,
// but for the namespace, which is Helm's to make.
func TestChart(t *testing.T) {
	manifest, err := os.ReadFile(manifestFile)
	if err != nil {
		t.Fatal(err)
	}
	want := byName(t, manifest)
	space := "Namespace /" + Namespace
	if want[space] == nil {
		t.Errorf("install.yaml has no %s", space)
	}
	delete(want, space)
	have, err := rendered(t, Namespace, "")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(have))); d != "" {
		t.Fatalf("-install.yaml +chart:\n%s", d)
	}
	for key := range want {
		if d := cmp.Diff(want[key].Object, have[key].Object); d != "" {
			t.Errorf("%s: -install.yaml +chart:\n%s", key, d)
		}
	}
	for _, kind := range []string{"ServiceAccount", "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding", "ConfigMap", "Secret", "Service", "PodDisruptionBudget", "Deployment", "MutatingWebhookConfiguration", "CustomResourceDefinition"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(want)), func(key string) bool { return strings.HasPrefix(key, kind+" ") }) {
			t.Errorf("install.yaml has no %s", kind)
		}
	}
}

// TestValues: each value comes where it belongs.
func TestValues(t *testing.T) {
	at := func(all map[string]*unstructured.Unstructured, key string, path ...any) any {
		t.Helper()
		o := all[key]
		if o == nil {
			t.Fatalf("there is no %s", key)
		}
		var x any = o.Object
		for _, step := range path {
			switch s := step.(type) {
			case string:
				m, _ := x.(map[string]any)
				x = m[s]
			case int:
				l, _ := x.([]any)
				if s >= len(l) {
					return nil
				}
				x = l[s]
			}
		}
		return x
	}
	const deployment = "Deployment ops/dhow-operator"
	container := []any{"spec", "template", "spec", "containers", 0}
	digest := "sha256:" + strings.Repeat("0b1c", 16)
	all, err := rendered(t, "ops", `
image: {repository: registry.example.com/dhow, tag: v1, digest: "`+digest+`", pullPolicy: Always}
imagePullSecrets: [{name: registry}]
replicas: 3
policy: {domain: bank.example, namespace: elsewhere, edge: [10.0.0.0/22], publicSubnets: {tier: [edge]}}
admission: {timeoutSeconds: 5}
verbose: false
resources: {requests: {cpu: 1}}
serviceAccount: {annotations: {a: b}}
podAnnotations: {c: d}
podLabels: {e: f}
priorityClassName: system-cluster-critical
nodeSelector: {g: h}
tolerations: [{key: x, operator: Exists}]
affinity: {nodeAffinity: {}}
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  string
		path []any
		want any
	}{
		{deployment, []any{"spec", "replicas"}, int64(3)},
		{deployment, append(slices.Clone(container), "image"), "registry.example.com/dhow@" + digest},
		{deployment, append(slices.Clone(container), "imagePullPolicy"), "Always"},
		{deployment, append(slices.Clone(container), "resources"), map[string]any{"requests": map[string]any{"cpu": int64(1), "memory": "256Mi"}, "limits": map[string]any{"memory": "512Mi"}}},
		{deployment, append(slices.Clone(container), "args", 6), "--webhook=:9443"},
		{deployment, []any{"spec", "template", "spec", "imagePullSecrets", 0, "name"}, "registry"},
		{deployment, []any{"spec", "template", "spec", "priorityClassName"}, "system-cluster-critical"},
		{deployment, []any{"spec", "template", "spec", "nodeSelector", "g"}, "h"},
		{deployment, []any{"spec", "template", "spec", "tolerations", 0, "operator"}, "Exists"},
		{deployment, []any{"spec", "template", "spec", "affinity", "nodeAffinity"}, map[string]any{}},
		{deployment, []any{"spec", "template", "metadata", "annotations", "c"}, "d"},
		{deployment, []any{"spec", "template", "metadata", "labels", "e"}, "f"},
		{"ServiceAccount ops/dhow-operator", []any{"metadata", "annotations", "a"}, "b"},
		{"ConfigMap ops/dhow-operator", []any{"data", "policy.yaml"}, "domain: bank.example\nedge:\n- 10.0.0.0/22\nnamespace: ops\npublicSubnets:\n  tier:\n  - edge\n"},
		{"ClusterRoleBinding /dhow-operator", []any{"subjects", 0, "namespace"}, "ops"},
		{"RoleBinding ops/dhow-operator", []any{"subjects", 0, "namespace"}, "ops"},
		{"MutatingWebhookConfiguration /" + admit.Configuration, []any{"webhooks", 0, "clientConfig", "service", "namespace"}, "ops"},
		{"MutatingWebhookConfiguration /" + admit.Configuration, []any{"webhooks", 0, "timeoutSeconds"}, int64(5)},
		{"MutatingWebhookConfiguration /" + admit.Configuration, []any{"webhooks", 1, "clientConfig", "service", "namespace"}, "ops"},
		{"Secret ops/" + certificate.Secret, []any{"type"}, "Opaque"},
	} {
		if d := cmp.Diff(c.want, at(all, c.key, c.path...)); d != "" {
			t.Errorf("%s %v: -want +have:\n%s", c.key, c.path, d)
		}
	}
	plain, err := rendered(t, Namespace, "")
	if err != nil {
		t.Fatal(err)
	}
	hash := []any{"spec", "template", "metadata", "annotations", policyHash}
	if a, b := at(all, deployment, hash...), at(plain, "Deployment dhow-system/dhow-operator", hash...); a == nil || a == b {
		t.Errorf("got the hash %v for another policy", a)
	}
	empty, err := rendered(t, Namespace, "policy:\n")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(plain, empty); d != "" {
		t.Errorf("values that are left empty: -none +empty:\n%s", d)
	}
	off, err := rendered(t, Namespace, "admission: {enabled: false}\nimage: {tag: v1}")
	if err != nil {
		t.Fatal(err)
	}
	for key := range off {
		if strings.HasPrefix(key, "MutatingWebhookConfiguration") || strings.HasPrefix(key, "Secret") || strings.HasPrefix(key, "Service ") {
			t.Errorf("%s is made without admission", key)
		}
	}
	if args := at(off, "Deployment dhow-system/dhow-operator", append(slices.Clone(container), "args")...).([]any); slices.Contains(args, any("--webhook=:9443")) || !slices.Contains(args, any("-v")) {
		t.Errorf("got %v", args)
	}
	if got := at(off, "Deployment dhow-system/dhow-operator", append(slices.Clone(container), "image")...); got != "dhow:v1" {
		t.Errorf("got the image %v", got)
	}
}

// TestWrongValues: what the chart does not know is refused, with its name.
func TestWrongValues(t *testing.T) {
	for _, c := range []struct{ values, want string }{
		{"replica: 3", "replica"},
		{"replicas: 0", "replicas"},
		{"image: {digest: latest}", "digest"},
		{"image: {pullPolicy: Sometimes}", "pullPolicy"},
		{"policy: {domian: bank.example}", "domian"},
		{"policy: {edge: 10.0.0.0/22}", "edge"},
		{"policy: {orphans: {cluster: bank, mode: Sometimes}}", "mode"},
		{"policy: {orphans: {}}", "cluster"},
		{"admission: {timeoutSeconds: 60}", "timeoutSeconds"},
	} {
		if _, err := rendered(t, Namespace, c.values); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v: want %q refused", c.values, err, c.want)
		}
	}
}

// TestAssessed: what dhow finds in others' manifests it does not find in its own.
func TestAssessed(t *testing.T) {
	inv, err := inventory.FromFiles(t.Context(), inventory.FileOptions{}, manifestFile)
	if err != nil {
		t.Fatal(err)
	}
	report, err := assess.Assess(t.Context(), inv, assess.Options{})
	if err != nil {
		t.Fatal(err)
	}
	but := map[string]string{
		"image-without-digest": "who installs it says where the image is",
		"public-registry":      "who installs it says where the image is",
		"no-quota":             "a namespace of two pods that says what they take",
		"unused-secret":        "the operator reads it by the API server",
		"unused-configmap":     "the operator writes it by the API server",
	}
	for _, f := range report.Findings {
		if but[f.Rule.ID] == "" {
			t.Errorf("%s: %s %s: %v", f.Rule.ID, f.Object, f.Path, f.Evidence)
		}
	}
	if report.Objects < 10 || report.Partial {
		t.Errorf("%d objects were looked at, %v", report.Objects, report.Problems)
	}
}
