package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"dhow/superapp/fleet"
	"dhow/superapp/images"
)

// parse reads manifests as the API server does that refuses unknown and double fields.
func parse(t *testing.T, text []byte) *cluster {
	t.Helper()
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	c := &cluster{}
	for doc := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		one, err := doc.Read()
		if errors.Is(err, io.EOF) {
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := strict.Decode(one, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, one)
		}
		c.take(t, o)
	}
}

func (c *cluster) take(t *testing.T, o runtime.Object) {
	switch o := o.(type) {
	case *corev1.Namespace:
		c.namespaces = append(c.namespaces, o)
	case *appsv1.Deployment:
		c.deployments = append(c.deployments, o)
	case *batchv1.CronJob:
		c.cronJobs = append(c.cronJobs, o)
	case *batchv1.Job:
		c.jobs = append(c.jobs, o)
	case *corev1.Service:
		c.services = append(c.services, o)
	case *corev1.Endpoints: //nolint:staticcheck // what the old deployment has
		c.endpoints = append(c.endpoints, o)
	case *corev1.ConfigMap:
		c.configMaps = append(c.configMaps, o)
	case *corev1.Secret:
		c.secrets = append(c.secrets, o)
	case *corev1.ServiceAccount:
		c.accounts = append(c.accounts, o)
	case *corev1.PersistentVolumeClaim:
		c.claims = append(c.claims, o)
	case *corev1.ResourceQuota:
		c.quotas = append(c.quotas, o)
	case *corev1.LimitRange:
		c.ranges = append(c.ranges, o)
	case *rbacv1.ClusterRoleBinding:
		c.bindings = append(c.bindings, o)
	case *rbacv1.Role:
		c.roles = append(c.roles, o)
	case *rbacv1.RoleBinding:
		c.roleBinds = append(c.roleBinds, o)
	case *autoscalingv2.HorizontalPodAutoscaler:
		c.scalers = append(c.scalers, o)
	case *policyv1.PodDisruptionBudget:
		c.budgets = append(c.budgets, o)
	case *networkingv1.NetworkPolicy:
		c.policies = append(c.policies, o)
	case *networkingv1.Ingress:
		c.ingresses = append(c.ingresses, o)
	default:
		t.Fatalf("nothing is known of %T", o)
	}
}

// all writes objects as they stand, with the examples in them.
func all(t *testing.T, objects []map[string]any) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, o := range objects {
		if err := write(&out, o); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// asItStands is a folder's deployment with the examples in it.
func asItStands(t *testing.T, dir string) *cluster {
	t.Helper()
	objects, err := read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, all(t, objects))
}

func TestFaultsAreWhereTheListSays(t *testing.T) {
	faults, err := Faults()
	if err != nil {
		t.Fatal(err)
	}
	source, find := asItStands(t, "source"), rules()
	shown := map[string]int{}
	for _, f := range faults {
		rule, ok := find[f.ID]
		if !ok {
			t.Errorf("%s: no rule finds it, or it is listed twice", f.ID)
			continue
		}
		delete(find, f.ID)
		var listed []string
		for _, p := range f.At {
			for _, o := range p.Objects {
				listed = append(listed, o+" "+p.Path)
			}
		}
		slices.Sort(listed)
		if len(listed) == 0 {
			t.Errorf("%s: it is nowhere", f.ID)
		}
		if d := cmp.Diff(listed, slices.Sorted(slices.Values(rule(source)))); d != "" {
			t.Errorf("%s: the list and the manifests differ:\n%s", f.ID, d)
		}
		if f.Wrong == "" || f.Hurts == "" {
			t.Errorf("%s: it says not what is wrong, or why it hurts", f.ID)
		}
		shown[f.Shows]++
	}
	for id := range find {
		t.Errorf("%s: it is found, but not listed", id)
	}
	if got := slices.Sorted(maps.Keys(shown)); !slices.Equal(got, []string{"cloud", "many-nodes", "one-node"}) {
		t.Errorf("faults show on %v", got)
	}
	if shown["one-node"] < 20 {
		t.Errorf("only %d faults show on one node", shown["one-node"])
	}
}

// What an assessment says it must have found by itself.
func TestOldDeploymentGivesNoHint(t *testing.T) {
	hint := regexp.MustCompile(`(?i)\b(fault|wrong|bad|broken|todo|fixme|insecure|drift|unused|dead|demo|test)`)
	err := fs.WalkDir(files, "source", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if word := hint.Find(text); word != nil {
			t.Errorf("%s has the word %s", name, word)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNewDeploymentHasNoFault(t *testing.T) {
	c := asItStands(t, "aws")
	// The Secrets are made elsewhere.
	secrets := parse(t, must(Secrets(values())))
	for id, rule := range rules() {
		of := c
		if id == "refers-to-nothing" {
			with := *c
			with.secrets = secrets.secrets
			of = &with
		}
		if places := rule(of); len(places) > 0 {
			t.Errorf("%s: %v", id, places)
		}
	}
}

func must(text []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return text
}

// values are some, none of which is an example.
func values() Values {
	v := Values{
		Registry: "198.18.0.1:5000/bank", Images: map[string]string{}, Postgres: map[string]string{}, MariaDB: map[string]string{}, Redis: map[string]string{},
		CardsKey: "of cards", Node: "198.18.0.2", NodePorts: map[string]int{"accounts": 31080},
		Edge: netip.MustParsePrefix("198.18.0.0/24"), Stores: netip.MustParsePrefix("198.19.0.0/24"),
	}
	for i, s := range fleet.Services() {
		v.Postgres[s.Name] = fmt.Sprintf("postgres://%s:p%%40ss@198.18.0.1:%d/%s", s.Name, 40000+i, s.Name)
		v.MariaDB[s.Name] = fmt.Sprintf("mariadb://%s:pass@198.18.0.1:%d/%s", s.Name, 41000+i, s.Name)
		v.Redis[s.Name] = fmt.Sprintf("redis://:pass@198.18.0.1:%d/%d", 42000+i, i)
	}
	for _, s := range images.Superapp() {
		v.Images[s.Name] = "198.18.0.1:5000/bank/" + s.Name + "@sha256:" + strings.Repeat("a", 64)
	}
	return v
}

func TestValuesComeIn(t *testing.T) {
	v := values()
	source, err := Source(v)
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, source)
	for _, s := range fleet.Services() {
		d := deployment(t, c, s.Name)
		if got := d.Spec.Template.Spec.Containers[0].Image; got != v.Registry+"/"+s.Name+":latest" {
			t.Errorf("%s has the image %s", s.Name, got)
		}
		want := []string{}
		for _, u := range v.urls(s) {
			want = append(want, u.value)
		}
		if got := c.storesOf(d); !slices.Equal(got, want) {
			t.Errorf("%s has the stores %v, not %v", s.Name, got, want)
		}
	}
	text := string(source)
	for _, wanted := range []string{"nodePort: 31080", "nodePort: 30081", "=http://198.18.0.2:31080", "=http://198.18.0.2:30083", "=http://198.18.0.2:8085", "server 198.18.0.2:31080", "CARDS_KEY: of cards", "ip: 198.18.0.1", "port: 40000"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("the old deployment lacks %q", wanted)
		}
	}
	for name, fill := range map[string]func(Values) ([]byte, error){"Source": Source, "AWS": AWS, "Edge": Edge, "Migrations": Migrations, "Secrets": Secrets} {
		out, err := fill(v)
		if err != nil {
			t.Fatal(err)
		}
		parse(t, out)
		for _, example := range []string{exampleRegistry, exampleNode, "203.0.113.", examplePassword, exampleCardsKey, exampleEdge, exampleStores, exampleDigest} {
			if bytes.Contains(out, []byte(example)) {
				t.Errorf("%s still has %s", name, example)
			}
		}
	}
	aws := parse(t, must(AWS(v)))
	for _, p := range aws.policies {
		if p.Name == "transfers" {
			var ports []string
			for _, e := range p.Spec.Egress {
				for _, port := range e.Ports {
					ports = append(ports, port.Port.String())
				}
			}
			if want := []string{"http", "40004", "42004"}; !slices.Equal(ports, want) {
				t.Errorf("transfers may reach the ports %v, not %v", ports, want)
			}
		}
	}
}

// Each service is at its own port of a node, in both deployments.
func TestNodePorts(t *testing.T) {
	want := map[string]int32{}
	for service, port := range NodePorts() {
		want[service] = int32(port)
	}
	for dir, suffix := range map[string]string{"source": "", "aws/edge": "-edge"} {
		got := map[string]int32{}
		for _, s := range asItStands(t, dir).services {
			if name := strings.TrimSuffix(s.Name, suffix); want[name] != 0 {
				got[name] = s.Spec.Ports[0].NodePort
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", dir, d)
		}
	}
}

// storesOf are the URLs of stores that a pod gets, from its variables or its ConfigMap.
func (c *cluster) storesOf(d *appsv1.Deployment) []string {
	found := map[string]string{}
	container := d.Spec.Template.Spec.Containers[0]
	for _, from := range container.EnvFrom {
		for _, m := range c.configMaps {
			if m.Name == from.ConfigMapRef.Name {
				maps.Copy(found, m.Data)
			}
		}
	}
	for _, e := range container.Env {
		found[e.Name] = e.Value
	}
	urls := []string{}
	for _, name := range []string{"DATABASE_URL", "MARIADB_URL", "REDIS_URL"} {
		if found[name] != "" {
			urls = append(urls, found[name])
		}
	}
	return urls
}

func deployment(t *testing.T, c *cluster, name string) *appsv1.Deployment {
	t.Helper()
	for _, d := range c.deployments {
		if d.Name == name && d.Namespace == Namespace {
			return d
		}
	}
	t.Fatalf("there is no Deployment %s", name)
	return nil
}

func TestMissingValuesAreNamed(t *testing.T) {
	for _, test := range []struct {
		what string
		take func(*Values)
		fill func(Values) ([]byte, error)
	}{
		{"Registry", func(v *Values) { v.Registry = "" }, Source},
		{"Node", func(v *Values) { v.Node = "" }, Source},
		{"CardsKey", func(v *Values) { v.CardsKey = "" }, Source},
		{"Postgres[payments]", func(v *Values) { delete(v.Postgres, "payments") }, Source},
		{"MariaDB[cards]", func(v *Values) { delete(v.MariaDB, "cards") }, Source},
		{"Redis[fx]", func(v *Values) { delete(v.Redis, "fx") }, Source},
		{"Images[web]", func(v *Values) { delete(v.Images, "web") }, AWS},
		{"Edge", func(v *Values) { v.Edge = netip.Prefix{} }, AWS},
		{"Stores", func(v *Values) { v.Stores = netip.Prefix{} }, AWS},
		{"Images[superapp]", func(v *Values) { delete(v.Images, "superapp") }, Migrations},
		{"Redis[web]", func(v *Values) { delete(v.Redis, "web") }, Secrets},
		{"CardsKey", func(v *Values) { v.CardsKey = "" }, Secrets},
	} {
		v := values()
		test.take(&v)
		if _, err := test.fill(v); err == nil || !strings.Contains(err.Error(), test.what+" is missing") {
			t.Errorf("without %s the error is %v", test.what, err)
		}
	}
}

// The new deployment, property by property, for each service.
func TestNewDeployment(t *testing.T) {
	c := parse(t, must(AWS(values())))
	edge := parse(t, must(Edge(values())))
	if len(c.deployments) != len(fleet.Services()) {
		t.Errorf("%d Deployments of %d services", len(c.deployments), len(fleet.Services()))
	}
	calls := map[string][]string{} // whom each service calls
	for _, d := range c.deployments {
		for _, a := range d.Spec.Template.Spec.Containers[0].Args {
			if _, address, ok := strings.Cut(a, "-url=http://"); ok {
				host, port, _ := strings.Cut(address, ":")
				calls[d.Name] = append(calls[d.Name], host)
				if port != "8080" || !strings.HasPrefix(a, "--"+host+"-url=") {
					t.Errorf("%s has the argument %s", d.Name, a)
				}
			}
		}
	}
	for _, s := range fleet.Services() {
		t.Run(s.Name, func(t *testing.T) {
			d := deployment(t, c, s.Name)
			pod := d.Spec.Template.Spec
			container := pod.Containers[0]
			for what, right := range map[string]bool{
				"two replicas":           *d.Spec.Replicas == 2,
				"none away in a rollout": d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() == 0 && d.Spec.Strategy.RollingUpdate.MaxSurge.IntValue() == 1,
				"its own selector":       covers(d.Spec.Selector, d.Spec.Template.Labels) && d.Spec.Selector.MatchLabels["app.kubernetes.io/name"] == s.Name,
				"one container":          len(pod.Containers) == 1 && len(pod.InitContainers) == 0,
				"its image by digest":    container.Image == values().Images[s.Name],
				"its own account": pod.ServiceAccountName == s.Name && slices.ContainsFunc(c.accounts, func(a *corev1.ServiceAccount) bool {
					return a.Name == s.Name && isFalse(a.AutomountServiceAccountToken)
				}),
				"readiness at /readyz":       container.ReadinessProbe.HTTPGet.Path == "/readyz" && container.ReadinessProbe.HTTPGet.Port.StrVal == "http",
				"liveness at /healthz":       container.LivenessProbe.HTTPGet.Path == "/healthz" && container.LivenessProbe.HTTPGet.Port.StrVal == "http",
				"startup at /healthz":        container.StartupProbe.HTTPGet.Path == "/healthz" && container.StartupProbe.HTTPGet.Port.StrVal == "http",
				"its port":                   len(container.Ports) == 1 && container.Ports[0].ContainerPort == images.ServicePort && container.Ports[0].Name == "http",
				"time to leave":              container.Lifecycle.PreStop.Sleep.Seconds == 5 && *pod.TerminationGracePeriodSeconds >= 5+15,
				"its user":                   *pod.SecurityContext.RunAsUser == 65532,
				"limits above requests":      container.Resources.Limits.Cpu().Cmp(*container.Resources.Requests.Cpu()) > 0 && container.Resources.Limits.Memory().Cmp(*container.Resources.Requests.Memory()) > 0,
				"spread, softly":             len(pod.TopologySpreadConstraints) == 2 && pod.TopologySpreadConstraints[0].WhenUnsatisfiable == corev1.ScheduleAnyway && pod.TopologySpreadConstraints[1].WhenUnsatisfiable == corev1.ScheduleAnyway,
				"listening where it is said": slices.Contains(container.Args, "--listen=:8080"),
				"its Service":                serves(c, s.Name, s.Name, corev1.ServiceTypeClusterIP),
				"its Service at the edge":    serves(&cluster{deployments: c.deployments, services: edge.services}, s.Name, s.Name+"-edge", corev1.ServiceTypeNodePort),
			} {
				if !right {
					t.Errorf("it lacks: %s", what)
				}
			}
			stores(t, s, container)
			policy(t, c, s, calls)
		})
	}
	for _, b := range c.budgets {
		if b.Spec.MaxUnavailable.IntValue() != 1 {
			t.Errorf("the budget %s lets %v away", b.Name, b.Spec.MaxUnavailable)
		}
	}
	room(t, c)
}

// serves says whether a Service leads to the pods of one service, and to its port.
func serves(c *cluster, service, name string, kind corev1.ServiceType) bool {
	for _, s := range c.services {
		if s.Name == name {
			pods := c.selected(s)
			return s.Spec.Type == kind && len(pods) == 1 && pods[0].object == "Deployment/superapp/"+service &&
				len(s.Spec.Ports) == 1 && s.Spec.Ports[0].Port == images.ServicePort && opens(pods[0], s.Spec.Ports[0].TargetPort)
		}
	}
	return false
}

// stores fails the test unless a container gets each store's URL, and nothing else, from a Secret.
func stores(t *testing.T, s fleet.Service, container corev1.Container) {
	t.Helper()
	want, got := map[string]string{}, map[string]string{}
	for variable, needed := range map[string]bool{"DATABASE_URL postgres": s.Database == fleet.Postgres, "MARIADB_URL mariadb": s.Database == fleet.MariaDB, "REDIS_URL redis": s.Redis} {
		if name, store, _ := strings.Cut(variable, " "); needed {
			want[name] = s.Name + "-" + store + "/url"
		}
	}
	if s.Name == "cards" {
		want["CARDS_KEY"] = "cards-key/key"
	}
	for _, e := range container.Env {
		if e.ValueFrom != nil {
			got[e.Name] = e.ValueFrom.SecretKeyRef.Name + "/" + e.ValueFrom.SecretKeyRef.Key
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// policy fails the test unless a service may be called by those, and call those, that it must.
func policy(t *testing.T, c *cluster, s fleet.Service, calls map[string][]string) {
	t.Helper()
	i := slices.IndexFunc(c.policies, func(p *networkingv1.NetworkPolicy) bool { return p.Name == s.Name })
	if i < 0 {
		t.Fatal("it has no NetworkPolicy")
	}
	p := c.policies[i].Spec
	wantIn := []string{"198.18.0.0/24 http"}
	for caller, called := range calls {
		if slices.Contains(called, s.Name) {
			wantIn = append(wantIn, caller+" http")
		}
	}
	var gotIn []string
	for _, in := range p.Ingress {
		for _, from := range in.From {
			gotIn = append(gotIn, peer(from, in.Ports))
		}
	}
	var wantOut, gotOut []string
	for _, called := range calls[s.Name] {
		wantOut = append(wantOut, called+" http")
	}
	for _, u := range values().urls(s) {
		at, err := url.Parse(u.value)
		if err != nil {
			t.Fatal(err)
		}
		wantOut = append(wantOut, "198.19.0.0/24 "+at.Port())
	}
	for _, out := range p.Egress {
		for _, to := range out.To {
			gotOut = append(gotOut, peer(to, out.Ports))
		}
	}
	for what, pair := range map[string][2][]string{"called by": {wantIn, gotIn}, "calls": {wantOut, gotOut}} {
		slices.Sort(pair[0])
		slices.Sort(pair[1])
		if !slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s: %v must be allowed, and %v is", what, pair[0], pair[1])
		}
	}
	if len(p.PolicyTypes) != 2 {
		t.Errorf("the policy is about %v", p.PolicyTypes)
	}
}

// peer is who may be reached or may come, and by which port.
func peer(p networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) string {
	if len(ports) != 1 {
		return fmt.Sprint(ports)
	}
	if p.IPBlock != nil {
		return p.IPBlock.CIDR + " " + ports[0].Port.String()
	}
	return p.PodSelector.MatchLabels["app.kubernetes.io/name"] + " " + ports[0].Port.String()
}

// room fails the test unless the quota has room for all at their most replicas and
// a rollout of all, and a small node for the usual.
func room(t *testing.T, c *cluster) {
	t.Helper()
	var usual, most, limit, memory resource.Quantity
	for _, d := range c.deployments {
		r := d.Spec.Template.Spec.Containers[0].Resources
		replicas := *d.Spec.Replicas
		for range replicas {
			usual.Add(*r.Requests.Cpu())
			memory.Add(*r.Requests.Memory())
		}
		for _, s := range c.scalers {
			if s.Spec.ScaleTargetRef.Name == d.Name {
				if *s.Spec.MinReplicas != replicas {
					t.Errorf("%s is scaled from %d on, and begins with %d", d.Name, *s.Spec.MinReplicas, replicas)
				}
				replicas = s.Spec.MaxReplicas
			}
		}
		for range replicas + 1 {
			most.Add(*r.Requests.Cpu())
			limit.Add(*r.Limits.Cpu())
		}
	}
	hard := c.quotas[0].Spec.Hard
	if most.Cmp(hard[corev1.ResourceRequestsCPU]) > 0 || limit.Cmp(hard[corev1.ResourceLimitsCPU]) > 0 {
		t.Errorf("%s and %s of processors do not fit into the quota", most.String(), limit.String())
	}
	if usual.Cmp(resource.MustParse("1")) > 0 || memory.Cmp(resource.MustParse("1Gi")) > 0 {
		t.Errorf("%s of processors and %s of memory do not fit a node of two", usual.String(), memory.String())
	}
}

// What runs once is held to the same rules as what serves.
func TestMigrations(t *testing.T) {
	c := parse(t, must(Migrations(values())))
	var names []string
	for _, j := range c.jobs {
		names = append(names, strings.TrimPrefix(j.Name, "migrate-"))
		container := j.Spec.Template.Spec.Containers[0]
		name := names[len(names)-1]
		if want := []string{"migrate", name, "--role=" + name}; !slices.Equal(container.Args, want) {
			t.Errorf("%s runs %v", j.Name, container.Args)
		}
		if container.Env[0].ValueFrom.SecretKeyRef.Name != name+"-owner" || container.Image != values().Images[images.Tool] {
			t.Errorf("%s has %s and the image %s", j.Name, container.Env[0].ValueFrom.SecretKeyRef.Name, container.Image)
		}
	}
	if want := []string{"accounts", "analytics", "cards", "payments", "transfers"}; !slices.Equal(names, want) {
		t.Errorf("the Jobs are for %v", names)
	}
	for id, rule := range rules() {
		if id == "refers-to-nothing" { // the owners' Secrets are made elsewhere
			continue
		}
		if places := rule(c); len(places) > 0 {
			t.Errorf("%s: %v", id, places)
		}
	}
}

func TestSecretsAreOfTheValues(t *testing.T) {
	c := parse(t, must(Secrets(values())))
	got := map[string]string{}
	for _, s := range c.secrets {
		for key, value := range s.StringData {
			got[s.Name+"/"+key] = value
		}
	}
	want := map[string]string{"cards-key/key": "of cards"}
	for _, s := range fleet.Services() {
		for _, u := range values().urls(s) {
			want[s.Name+"-"+u.store+"/url"] = u.value
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
