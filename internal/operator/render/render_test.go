package render

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
)

//nolint:gochecknoglobals // a flag
var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden compares what each example takes, with the Gateways that it asks for.
func TestGolden(t *testing.T) {
	for _, name := range names() {
		t.Run(name, func(t *testing.T) {
			in := examples[name].input(t)
			have := written(t, in)
			path := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(path, have, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(have)); d != "" {
				t.Errorf("-want +have:\n%s", d)
			}
		})
	}
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) != len(examples) {
		t.Errorf("%d golden files (%v) for %d examples: remove those that are left over", len(files), err, len(examples))
	}
}

// written is everything that an example takes, as text.
func written(tb testing.TB, in Input) []byte {
	tb.Helper()
	out, err := Render(in)
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	add := func(v any) {
		text, err := yaml.Marshal(v)
		if err != nil {
			tb.Fatal(err)
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	add(map[string]any{"address": out.Address, "settings": out.Settings, "notes": out.Notes, "pod": out.Pod, "gated": out.Gated})
	for _, o := range all(tb, in, out) {
		add(o.Object)
	}
	return b.Bytes()
}

// all are the Exposure's objects, and the Gateways'.
func all(tb testing.TB, in Input, out Output) []*unstructured.Unstructured {
	tb.Helper()
	objects := slices.Clone(out.Objects)
	for _, s := range Scopes {
		var demands []Demand
		for _, d := range out.Demands {
			if d.Scope == s {
				demands = append(demands, d)
			}
		}
		some, err := Gateway(s, demands, in.Cluster, in.Policy)
		if err != nil {
			tb.Fatal(err)
		}
		objects = append(objects, some...)
	}
	return objects
}

func TestWrong(t *testing.T) {
	bare := func(in *Input) { in.Workload.Containers[0].Ports = nil }
	for _, c := range []struct {
		example
		reason, want string
	}{
		{example{`{}`, bare}, NoPorts, "declares no port"},
		{example{`{}`, func(in *Input) { in.Policy.Domain = "" }}, NoHosts, "name one under hosts"},
		{example{`{ports: [{name: grpc, port: 1, protocol: GRPC}]}`, func(in *Input) { in.Cluster.GRPC = false }}, NoLoadBalancer, "GRPCRoute"},
		{example{`{ports: [{name: pg, port: 1, protocol: TCP}]}`, func(in *Input) { in.Cluster.TCP = false }}, NoLoadBalancer, "TCPRoute"},
		{example{`{ports: [{name: talk, port: 1, protocol: UDP}]}`, func(in *Input) { in.Cluster.UDP = false }}, NoLoadBalancer, "UDPRoute"},
	} {
		_, err := Render(c.input(t))
		var wrong *WrongError
		if !errors.As(err, &wrong) || wrong.Reason != c.reason || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v: want %s with %q", c.spec, err, c.reason, c.want)
		}
	}
}

// TestEnd: whatever is asked for, a load balancer sends to no pod that is gone, and no
// pod goes before the news of it has spread.
func TestEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := examples["public"].input(t)
		in.Workload.Guarded = rapid.Bool().Draw(t, "guarded")
		if rapid.Bool().Draw(t, "has a grace period") {
			g := rapid.Int64Range(0, 4000).Draw(t, "grace")
			in.Workload.Grace = &g
		}
		in.Exposure.Spec.Routing = &v1alpha1.Routing{Timeouts: &v1alpha1.Timeouts{}}
		in.Exposure.Spec.Routing.Timeouts.Request = duration(rapid.IntRange(1, 3300).Draw(t, "request"))
		m := &maker{Input: in, spec: &in.Exposure.Spec}
		if err := m.resolvePorts(); err != nil {
			t.Fatal(err)
		}
		m.fit()
		m.pod()
		delay := int64(m.requests.DeregistrationDelay.Value)
		there := m.out.Pod.Grace
		if !in.Workload.Guarded || OwnGrace(in.Workload.Grace) {
			there = graceOf(in.Workload)
		}
		if delay > there {
			t.Fatalf("sends for %d s to a pod that is there for %d s", delay, there)
		}
		if m.out.Pod.PreStop >= m.out.Pod.Grace {
			t.Fatalf("sleeps for %d s of %d s", m.out.Pod.PreStop, m.out.Pod.Grace)
		}
	})
}

// TestPods: what a pod is given when it is made is what the Exposure's load balancer waits for.
func TestPods(t *testing.T) {
	for _, name := range names() {
		in := examples[name].input(t)
		out, err := Render(in)
		if err != nil {
			t.Fatal(err)
		}
		pod, times, err := Pods(in)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(out.Pod, pod); d != "" {
			t.Errorf("%s: -Render +Pods:\n%s", name, d)
		}
		if len(times) != 2 || times[0].Name != PreStopSetting || times[1].Name != GraceSetting {
			t.Errorf("%s: got %+v", name, times)
		}
	}
}

// TestKeptTimes: what pods have of their own stays, is told where it is too short, and the
// load balancer keeps to it.
func TestKeptTimes(t *testing.T) {
	in := examples["public"].input(t)
	in.Workload.Guarded = true
	grace := int64(12)
	in.Workload.Grace = &grace
	in.Workload.Containers[0].PreStop = 3
	out, err := Render(in)
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(out.Notes, "\n")
	for _, want := range []string{"own grace period of 12 s", "the preStop of container cart sleeps for 3 s"} {
		if !strings.Contains(notes, want) {
			t.Errorf("got the notes\n%s\nwant %q", notes, want)
		}
	}
	var delay string
	for _, s := range out.Settings {
		if s.Name == "deregistration delay" {
			delay = s.Value
		}
	}
	if delay != "7s" || out.Pod.Within(grace) != 7 {
		t.Errorf("got a delay of %s, and a sleep of %d s: want 7 s of both", delay, out.Pod.Within(grace))
	}
}

// TestSame: the same gives the same, whatever the demands' order.
func TestSame(t *testing.T) {
	for _, name := range names() {
		one, two := written(t, examples[name].input(t)), written(t, examples[name].input(t))
		if !bytes.Equal(one, two) {
			t.Errorf("%s: got two results", name)
		}
	}
	var demands []Demand
	for _, name := range names() {
		out, err := Render(examples[name].input(t))
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range out.Demands {
			if d.Scope == (Scope{}) {
				d.Namespace = name
				demands = append(demands, out.Demands[i], d)
			}
		}
	}
	in := examples["public"].input(t)
	text := func() string {
		objects, err := Gateway(Scope{}, demands, in.Cluster, in.Policy)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, o := range objects {
			h, err := Hash(o)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString(h)
		}
		return b.String()
	}
	first := text()
	slices.Reverse(demands)
	if second := text(); first != second {
		t.Error("the demands' order makes another Gateway")
	}
}

func TestSpoken(t *testing.T) {
	for _, c := range []struct {
		name, app string
		transport corev1.Protocol
		number    int32
		want      v1alpha1.Protocol
	}{
		{"http", "", "", 8080, v1alpha1.HTTP}, {"web-ui", "", "", 1, v1alpha1.HTTP}, {"", "", "", 80, v1alpha1.HTTP}, {"http", "", "", 5432, v1alpha1.HTTP}, {"", "", "", 5432, v1alpha1.TCP}, {"pg", "", "", 1, v1alpha1.TCP},
		{"grpc", "", "", 1, v1alpha1.GRPC}, {"api", "grpc", "", 1, v1alpha1.GRPC}, {"api", "kubernetes.io/h2c", "", 1, v1alpha1.HTTP2}, {"api", "kubernetes.io/ws", "", 1, v1alpha1.WebSocket},
		{"talk", "", corev1.ProtocolUDP, 1, v1alpha1.UDP}, {"tls-x", "", "", 1, v1alpha1.TLSPass},
	} {
		if got := Spoken(c.name, c.app, c.transport, c.number); got != c.want {
			t.Errorf("%q %q %d: got %s: want %s", c.name, c.app, c.number, got, c.want)
		}
	}
}

func duration(seconds int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(seconds) * time.Second}
}

func TestClaims(t *testing.T) {
	keys := func(name string) []string {
		in := examples[name].input(t)
		var all []string
		for _, c := range Claims(in.Exposure, in.Policy) {
			if strings.HasPrefix(c.Key, "targets ") && c.Value == treatment(in.Exposure) {
				c.Value = "as it says"
			}
			all = append(all, c.Key+" = "+c.Value)
		}
		return all
	}
	for name, want := range map[string][]string{
		"none":        nil,
		"deduced":     {"private cart.internal.bank.example/ false = superapp/cart", "targets superapp/cart = as it says"},
		"paths":       {"private cart.internal.bank.example/cart false = superapp/cart", "private cart.internal.bank.example/basket true = superapp/cart", "targets superapp/cart = as it says"},
		"connections": {"public tcp-5432 = superapp/cart", "public tcp-8443 = superapp/cart", "public udp-5000 = superapp/cart", "targets superapp/cart = as it says"},
		"headers":     {"private cart.internal.bank.example/cart false = superapp/cart", "targets superapp/cart = as it says", "targets superapp/cart-next = superapp/cart"},
		"web-acl":     {"public shop.example.com/ false = superapp/cart", "public acl = " + testACL, "targets superapp/cart = as it says"},
	} {
		if d := cmp.Diff(want, keys(name)); d != "" {
			t.Errorf("%s: -want +have:\n%s", name, d)
		}
	}
}

// TestTreatment: a Service's targets are shared by Exposures of the same pods that have them
// treated alike, whatever else they say.
func TestTreatment(t *testing.T) {
	of := func(spec string) string { return treatment(example{spec: spec}.input(t).Exposure) }
	usual := `{visibility: public, hosts: [shop.example.com], paths: [{path: /cart}], ports: [{name: http, port: 8080, protocol: HTTP, targetPort: http}], scaling: {max: 4}, health: {path: /well}}`
	for _, c := range []struct {
		spec string
		same bool
	}{
		{`{service: {existing: cart}, health: {path: /well}}`, true},
		{`{service: {existing: cart}, health: {path: /well}, availability: {maxUnavailable: 2}}`, true},
		{`{service: {existing: cart}}`, false},
		{`{service: {existing: cart}, health: {path: /}}`, false},
		{`{service: {existing: cart}, health: {path: /well}, routing: {algorithm: RoundRobin}}`, false},
		{`{service: {existing: cart}, health: {path: /well}, availability: {crossZone: false}}`, false},
		{`{service: {existing: cart}, health: {path: /well}, ports: [{name: grpc, port: 8080, protocol: GRPC}]}`, false},
		{`{service: {existing: cart}, health: {path: /well}, workload: {kind: Deployment, name: basket}}`, false},
	} {
		if same := of(usual) == of(c.spec); same != c.same {
			t.Errorf("%s: shared %t: want %t", c.spec, same, c.same)
		}
	}
}

// TestPolicy: an orphan's time is never shorter than an hour, and what is wrong is said.
func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		orphans *Orphans
		want    string
	}{
		{nil, ""},
		{&Orphans{Cluster: "bank"}, ""},
		{&Orphans{Cluster: "bank", Mode: OrphansDelete, AfterHours: 1}, ""},
		{&Orphans{}, "orphans.cluster: want"},
		{&Orphans{Cluster: "bank", Mode: "delete"}, `orphans.mode: "delete": want DryRun or Delete`},
		{&Orphans{Cluster: "bank", AfterHours: -1}, "orphans.afterHours: -1: want 1 to 8760"},
		{&Orphans{Cluster: "bank", AfterHours: 1 << 40}, "want 1 to 8760"},
	} {
		p := Policy{Orphans: c.orphans}
		if err := p.Check(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v: want %q", c.orphans, err, c.want)
		}
		if o := p.WithDefaults().Orphans; c.want == "" && o != nil && (o.Mode == "" || o.AfterHours < 1) {
			t.Errorf("%+v becomes %+v", c.orphans, o)
		}
	}
	o := &Orphans{Cluster: "bank"}
	if got := (Policy{Orphans: o}).WithDefaults().Orphans; *got != (Orphans{Cluster: "bank", Mode: OrphansDryRun, AfterHours: 24}) || o.Mode != "" {
		t.Errorf("got %+v, of %+v", got, o)
	}
}

// The kubelet takes 400 and more for failures, whatever a load balancer does.
func TestRefusals(t *testing.T) {
	for codes, want := range map[string]bool{"": false, "200": false, "200-399": false, "200,302": false, "200-499": true, "200,404": true, "401": true} {
		if got := refusals(codes); got != want {
			t.Errorf("%q: got %t, want %t", codes, got, want)
		}
	}
}
