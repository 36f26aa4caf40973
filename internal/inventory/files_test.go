package inventory

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// read reads files that are written for the test, by their names.
func read(t *testing.T, files map[string]string) *Inventory {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return readPaths(t, FileOptions{}, dir)
}

func readPaths(t *testing.T, o FileOptions, paths ...string) *Inventory {
	t.Helper()
	inv, err := FromFiles(t.Context(), o, paths...)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func names(inv *Inventory) []string {
	var all []string
	for _, o := range inv.Objects {
		all = append(all, o.Ref.String())
	}
	return all
}

// problems are written with the file's base name.
func problems(inv *Inventory) []string {
	var all []string
	for _, p := range inv.Problems {
		p.File = filepath.Base(p.File)
		p.Do = ""
		all = append(all, p.String())
	}
	return all
}

const (
	service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: %s\nspec:\n  ports:\n  - port: 80\n"
	account = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: "
)

func TestManifests(t *testing.T) {
	for name, c := range map[string]struct {
		text     string
		objects  []string
		problems []string
		partial  bool
	}{
		"several": {account + "a\n---\n# nothing\n---\n" + account + "b\n  namespace: x\n", []string{"ServiceAccount/default/a", "ServiceAccount/x/b"}, nil, false},
		"list": {"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: x}\n- apiVersion: v1\n  kind: ServiceAccount\n  metadata: {name: a}\n",
			[]string{"Namespace/x", "ServiceAccount/default/a"}, nil, false},
		"typed list": {"apiVersion: v1\nkind: ServiceAccountList\nitems:\n- metadata: {name: a}\n", []string{"ServiceAccount/default/a"}, nil, false},
		"windows":    {strings.ReplaceAll(account+"a\n---\n"+account+"b\n", "\n", "\r\n"), []string{"ServiceAccount/default/a", "ServiceAccount/default/b"}, nil, false},
		"invalid in the middle": {account + "a\n---\napiVersion: v1\nkind: [\n---\n" + account + "b\n", []string{"ServiceAccount/default/a", "ServiceAccount/default/b"},
			[]string{"f.yaml:7: it is not valid YAML: did not find expected node content"}, true},
		"key twice": {account + "a\n  name: b\n", []string{"ServiceAccount/default/b"}, []string{`f.yaml:5: the key "name" stands twice, the last one is taken`}, false},
		"wrong type": {"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: a\nspec:\n  replicas: two\n", []string{"Deployment/default/a"},
			[]string{"f.yaml:6: Deployment/default/a: the object does not fit its kind: spec.replicas is of type string and should be int32"}, true},
		"unknown field": {"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: a\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        imagePullpolicy: Always\n", []string{"Deployment/default/a"},
			[]string{"f.yaml:10: Deployment/default/a: the field spec.template.spec.containers[0].imagePullpolicy is not known and has no effect"}, false},
		"unknown version": {"apiVersion: apps/v9\nkind: Deployment\nmetadata:\n  name: a\n", []string{"Deployment/default/a"}, []string{"f.yaml:1: Deployment/default/a: version apps/v9 of Deployment is not known"}, true},
		"custom":          {"apiVersion: example.com/v1\nkind: Boat\nmetadata:\n  name: a\n  namespace: b\nspec: {sails: 2}\n", []string{"Boat/b/a"}, nil, false},
		"no name":         {"apiVersion: v1\nkind: Service\nspec: {}\n", nil, []string{"f.yaml:1: Service/: the object has no metadata.name"}, true},
		"twice, the same": {account + "a\n---\n" + account + "a\n", []string{"ServiceAccount/default/a"}, []string{"f.yaml:6: ServiceAccount/default/a: the object is also in DIR/f.yaml:1, the same"}, false},
		"twice": {account + "a\n---\n" + account + "a\n  labels: {x: y}\n", []string{"ServiceAccount/default/a"},
			[]string{"f.yaml:6: ServiceAccount/default/a: the object is also in DIR/f.yaml:1, with other content: that one is taken"}, true},
		"alias":        {"apiVersion: v1\nkind: ConfigMap\nmetadata: &m\n  name: a\n  labels: &l {x: y}\n  annotations: *l\ndata: {<<: *l, z: w}\n", []string{"ConfigMap/default/a"}, nil, false},
		"alias itself": {"apiVersion: v1\nkind: ConfigMap\nmetadata: &m\n  name: a\n  labels: *m\n", nil, []string{"f.yaml:4: it goes deeper than 200 levels"}, true},
		"another tool": {"apiVersion: skaffold/v4beta6\nkind: Config\nbuild: {}\n", nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			inv := read(t, map[string]string{"f.yaml": c.text})
			if d := cmp.Diff(c.objects, names(inv)); d != "" {
				t.Error(d)
			}
			got := problems(inv)
			for i := range got {
				if at := strings.Index(got[i], " /"); at >= 0 {
					if end := strings.Index(got[i][at:], "/f.yaml"); end >= 0 {
						got[i] = got[i][:at] + " DIR" + got[i][at+end:]
					}
				}
			}
			if d := cmp.Diff(c.problems, got); d != "" {
				t.Error(d)
			}
			if inv.Partial != c.partial {
				t.Errorf("partial is %v", inv.Partial)
			}
		})
	}
}

func TestOldVersions(t *testing.T) {
	inv := read(t, map[string]string{"old.yaml": `apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: a}
spec:
  backend: {serviceName: fallback, servicePort: http}
  rules:
  - http:
      paths:
      - path: /
        backend:
          serviceName: web
          servicePort: 80
---
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: a}
spec:
  scaleTargetRef: {kind: Deployment, name: web, apiVersion: extensions/v1beta1}
  maxReplicas: 3
  targetCPUUtilizationPercentage: 70
---
apiVersion: extensions/v1beta1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers: [{name: web, image: "web"}]
`})
	if inv.Partial {
		t.Error(inv.Problems)
	}
	for o, c := range Of[*networkingv1.Ingress](inv) {
		b := c.Spec.Rules[0].HTTP.Paths[0].Backend.Service
		if o.APIVersion != "extensions/v1beta1" || o.Group != "networking.k8s.io" || b.Name != "web" || b.Port.Number != 80 || c.Spec.DefaultBackend.Service.Port.Name != "http" {
			t.Errorf("%+v %+v", o.Ref, c.Spec)
		}
		if line := o.Source.LineOf("spec.rules[0].http.paths[0].backend"); line != 10 {
			t.Errorf("the backend is in line %d", line)
		}
	}
	for _, c := range Of[*autoscalingv2.HorizontalPodAutoscaler](inv) {
		if m := c.Spec.Metrics[0].Resource; m.Name != "cpu" || *m.Target.AverageUtilization != 70 {
			t.Errorf("%+v", m)
		}
	}
	if len(inv.Workloads) != 1 || len(inv.Workloads[0].Scalers) != 1 || inv.Workloads[0].Replicas != 1 || inv.Workloads[0].ReplicasSet {
		t.Errorf("%+v", inv.Workloads)
	}
}

// Each field of the list of faults is found in its line, and those that lack in the
// line of what is around them.
func TestLines(t *testing.T) {
	inv := readPaths(t, FileOptions{}, "../../superapp/deploy/source")
	if inv.Partial || len(inv.Problems) > 0 {
		t.Error(inv.Problems)
	}
	text, err := os.ReadFile("../../superapp/deploy/faults.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Faults []struct {
			At []struct {
				Path    string   `json:"path"`
				Objects []string `json:"objects"`
			} `json:"at"`
		} `json:"faults"`
	}
	if err := yaml.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	objects := map[string]*Object{}
	for _, o := range inv.Objects {
		objects[o.Ref.String()] = o
	}
	places := 0
	for _, f := range list.Faults {
		for _, at := range f.At {
			for _, name := range at.Objects {
				o := objects[name]
				if o == nil {
					t.Errorf("%s is not there", name)
					continue
				}
				text, err := os.ReadFile(o.Source.File)
				if err != nil {
					t.Fatal(err)
				}
				line := strings.Split(string(text), "\n")[o.Source.LineOf(at.Path)-1]
				steps := splitPath(at.Path)
				if !slices.ContainsFunc(steps, func(s step) bool {
					return strings.Contains(line, s.key+":") || s.list && strings.HasPrefix(strings.TrimSpace(line), "- ")
				}) {
					t.Errorf("%s %s: line %d is %q", name, at.Path, o.Source.LineOf(at.Path), line)
				}
				places++
			}
		}
	}
	if places < 100 {
		t.Errorf("only %d places", places)
	}
	image := objects["Deployment/superapp/accounts"].Source
	if got := filepath.Base(image.At("spec.template.spec.containers[0].image")); got != "accounts.yaml:26" {
		t.Error(got)
	}
}

func TestChart(t *testing.T) {
	inv := readPaths(t, FileOptions{}, "testdata/chart")
	if d := cmp.Diff([]string{"Deployment/default/shop-shop"}, names(inv)); d != "" {
		t.Error(d)
	}
	o := inv.Objects[0]
	if o.Source.File != "testdata/chart/templates/deployment.yaml" || !o.Source.Rendered {
		t.Errorf("%+v", o.Source)
	}
	if len(inv.Problems) != 1 || !inv.Partial || inv.Problems[0].File != "testdata/chart/templates/broken.yaml" || inv.Problems[0].Line != 4 || !strings.Contains(inv.Problems[0].What, "a name is needed") {
		t.Errorf("%+v", inv.Problems)
	}
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, []byte("name: given\nreplicas: 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inv = readPaths(t, FileOptions{Values: []string{values}, Release: "live", Namespace: "shops"}, "testdata")
	if w := inv.Workload(Ref{"apps", "Deployment", "shops", "live-shop"}); w == nil || w.Replicas != 5 {
		t.Errorf("%v", names(inv))
	}
	if inv.Get(Ref{Kind: "ConfigMap", Namespace: "shops", Name: "given"}) == nil {
		t.Errorf("%v", names(inv))
	}
}

func TestKustomization(t *testing.T) {
	for _, path := range []string{"testdata/kustomization", "testdata/kustomization/overlay"} {
		inv := readPaths(t, FileOptions{}, path)
		all := names(inv)
		if len(all) != 2 || !strings.HasPrefix(all[0], "ConfigMap/live/live-settings-") || all[1] != "Service/live/live-shop" || inv.Partial {
			t.Errorf("%s: %v %v", path, all, inv.Problems)
		}
	}
	inv := read(t, map[string]string{"kustomization.yaml": "resources:\n- gone.yaml\n", "sub/kustomization.yaml": "resources:\n- https://example.com/x.yaml\n", "other/a.yaml": account + "a\n"})
	if got := names(inv); !slices.Equal(got, []string{"ServiceAccount/default/a"}) || !inv.Partial {
		t.Error(got)
	}
	if len(inv.Problems) != 2 || !strings.Contains(inv.Problems[0].What, "gone.yaml") || !strings.Contains(inv.Problems[1].What, "from the network") {
		t.Error(inv.Problems)
	}
	// Two places of one application are not two applications.
	inv = read(t, map[string]string{"base/kustomization.yaml": "resources: [a.yaml]\n", "base/a.yaml": account + "a\n", "dev/kustomization.yaml": "resources: [../base]\n", "prod/kustomization.yaml": "resources: [../base]\n"})
	if len(inv.Objects) != 1 || len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0].What, "the same application in another place") {
		t.Error(names(inv), inv.Problems)
	}
}

func TestCompose(t *testing.T) {
	inv := readPaths(t, FileOptions{}, "testdata/compose")
	if inv.Partial || len(inv.Workloads) != 3 {
		t.Fatal(names(inv), inv.Problems)
	}
	web := inv.Workload(Ref{Kind: KindCompose, Name: "web"})
	c := web.Containers[0]
	if c.Ports[0].HostPort != 8080 || c.Ports[0].ContainerPort != 80 || c.Image.Tag != "1.2" {
		t.Errorf("%+v", c)
	}
	if got := web.Object.Source.At(c.Path + ".image"); got != "testdata/compose/compose.yaml:3" {
		t.Error(got)
	}
	if got := web.Object.Source.At(c.Path + ".env[1].value"); got != "testdata/compose/compose.yaml:7" {
		t.Error(got)
	}
	if w := inv.Workload(Ref{Kind: KindCompose, Name: "cache"}); w.Replicas != 2 || w.Containers[0].Resources.Limits.Memory().Value() != 64<<20 || w.Containers[0].Resources.Limits.Cpu().MilliValue() != 500 {
		t.Errorf("%+v", w.Containers[0].Resources)
	}
	if len(inv.Databases) != 2 || inv.Databases[0].Name != "shop" || inv.Databases[0].Server.Name != "db" || inv.Databases[0].Clients[0].Name != "web" || !inv.Databases[0].PlainPassword || inv.Databases[1].Clients[0].Name != "web" {
		t.Errorf("%+v", inv.Databases)
	}
	if len(inv.Calls) != 2 || inv.Calls[0].To.Name != "cache" || inv.Calls[1].To.Name != "db" {
		t.Errorf("%+v", inv.Calls)
	}
	if len(inv.Plain) != 2 || inv.Plain[0].Same != inv.Plain[1].Same {
		t.Errorf("%+v", inv.Plain)
	}
	inv = read(t, map[string]string{"compose.yaml": "services:\n  web:\n    imagee: x\n"})
	if len(inv.Problems) != 1 || !inv.Partial {
		t.Error(inv.Problems)
	}
}

// No value of a Secret, and no password that stands in the open, is in the inventory.
func TestNoSecretIsKept(t *testing.T) {
	inv := read(t, map[string]string{
		"a.yaml": `apiVersion: v1
kind: Secret
metadata:
  name: a
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: '{"stringData":{"x":"hush-1"}}'
data: {token: aHVzaC0y}
stringData: {password: hush-3}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data:
  DATABASE_URL: postgres://u:hush-4@h/d
  API_TOKEN: hush-5
  app.properties: |
    spring.datasource.password=hush-6
    jdbc.url=jdbc:mysql://h:3306/d?user=u&password=hush-7
  appsettings.json: |
    {"ConnectionStrings": {"Main": "Server=tcp:db,1433;Initial Catalog=d;User Id=sa;Password=hush-8;"}, "apiKey": "hush-9"}
---
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
      - name: a
        image: a
        command: ["sh", "-c", "PGPASSWORD=hush-10 psql -h db"]
        args: ["--password", "hush-11", "--redis-token=hush-12", "root:hush-13@tcp(db:3306)/d", "redis://:hush/14@db:6379/0"]
        env:
        - {name: SMTP_PASSWORD, value: hush-15}
        - {name: PASSWORD_FILE, value: /run/secrets/password}
        - {name: TOKEN_TTL, value: "300"}
---
apiVersion: example.com/v1
kind: Boat
metadata: {name: a}
spec: {password: hush-16, url: "amqp://u:hush-17@mq", secretName: kept-1}
`,
		"nginx.conf": "location / { proxy_set_header X-Api-Key \"k\"; proxy_pass http://u:hush-18@web; }\n",
	})
	raw, err := json.Marshal(inv)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, hidden := range []string{"hush", "aHVzaC0y"} {
		for rest := text; ; {
			at := strings.Index(rest, hidden)
			if at < 0 {
				break
			}
			t.Errorf("%s", rest[max(0, at-60):min(len(rest), at+30)])
			rest = rest[at+len(hidden):]
		}
	}
	for _, kept := range []string{"/run/secrets/password", `"300"`, "kept-1", `"token":""`, "postgres://u:MASKED@h/d"} {
		if !strings.Contains(text, kept) {
			t.Errorf("%s is gone", kept)
		}
	}
	if len(inv.Plain) < 16 {
		t.Errorf("%d plain secrets: %+v", len(inv.Plain), inv.Plain)
	}
	if inv.Problems != nil {
		t.Error(inv.Problems)
	}
}

func TestFromFilesErrors(t *testing.T) {
	if _, err := FromFiles(t.Context(), FileOptions{}); err == nil {
		t.Error("no path is no error")
	}
	if _, err := FromFiles(t.Context(), FileOptions{}, "testdata/none"); err == nil || !strings.Contains(err.Error(), "testdata/none") {
		t.Error(err)
	}
}

// What is read does not depend on who was first.
func TestStable(t *testing.T) {
	var first string
	for range 5 {
		raw, err := json.Marshal(readPaths(t, FileOptions{}, "../../superapp/deploy", "testdata/compose"))
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(raw)
		}
		if d := cmp.Diff(first, string(raw)); d != "" {
			t.Fatal("it differs")
		}
	}
}

func TestUnknownKindsStay(t *testing.T) {
	inv := read(t, map[string]string{"a.yaml": "apiVersion: gateway.k8s.aws/v1beta1\nkind: LoadBalancerConfiguration\nmetadata: {name: a, namespace: b}\nspec: {scheme: internet-facing}\n"})
	for o, c := range Of[*unstructured.Unstructured](inv) {
		if s, _, err := unstructured.NestedString(c.Object, "spec", "scheme"); s != "internet-facing" || err != nil || o.Group != "gateway.k8s.aws" {
			t.Error(c)
		}
	}
	if len(inv.Kind("LoadBalancerConfiguration")) != 1 {
		t.Error(names(inv))
	}
	for range Of[*appsv1.Deployment](inv) {
		t.Error("there is no Deployment")
	}
}

// TestDroppedObjectsTellNothing: an object that stands twice tells of its secrets once.
func TestDroppedObjectsTellNothing(t *testing.T) {
	const settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {PASSWORD: hush-hush}\n"
	inv := read(t, map[string]string{"a.yaml": settings, "b.yaml": settings, "c.yaml": settings + "---\n" + strings.ReplaceAll(settings, "name: a", "name: b")})
	var got []string
	for _, p := range inv.Plain {
		got = append(got, p.Object.Name+" "+filepath.Base(p.File))
	}
	if d := cmp.Diff([]string{"a a.yaml", "b c.yaml"}, got); d != "" {
		t.Error(d)
	}
}
