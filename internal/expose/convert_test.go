package expose

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/render"
)

//nolint:gochecknoglobals // a flag
var update = flag.Bool("update", false, "write the golden files anew")

// conversions are the files of testdata/convert, with what a person says to each.
//
//nolint:gochecknoglobals // a table of tests
var conversions = map[string]Wish{
	"alb":           {},
	"alb-full":      {Accept: []string{"alb.ingress.kubernetes.io/tags"}},
	"alb-actions":   {},
	"alb-plain":     {Hosts: []string{"game.shop.example"}},
	"alb-grpc":      {},
	"nginx":         {Certificates: []string{"arn:aws:acm:me-central-1:123456789012:certificate/0b1c"}},
	"nginx-rewrite": {Visibility: v1alpha1.Public},
	"nginx-sticky":  {},
	"nginx-grpc":    {Accept: []string{"tls-secret"}},
	"several":       {},
	"other-default": {Visibility: v1alpha1.Private, Hosts: []string{"odd.shop.example"}},
	"nlb":           {},
	"nlb-tls":       {},
	"clb":           {},
	"nlb-udp":       {},
	"nodeport":      {Visibility: v1alpha1.Public, Hosts: []string{"www.shop.example"}},
	"nodeport-tcp":  {},
}

// source reads a file of manifests, of which the first is the one to convert.
func source(tb testing.TB, text []byte) Source {
	tb.Helper()
	s := Source{Services: map[string]*corev1.Service{}, Workloads: map[string]v1alpha1.Workload{}, Policy: render.Policy{}.WithDefaults()}
	var workloads []client.Object
	documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), len(text))
	for {
		var raw json.RawMessage
		if err := documents.Decode(&raw); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			tb.Fatal(err)
		}
		kind := metav1.TypeMeta{}
		if err := json.Unmarshal(raw, &kind); err != nil {
			tb.Fatal(err)
		}
		read := func(o client.Object) {
			strict := json.NewDecoder(bytes.NewReader(raw))
			strict.DisallowUnknownFields()
			if err := strict.Decode(o); err != nil {
				tb.Fatalf("%s: %v", kind.Kind, err)
			}
		}
		switch kind.Kind {
		case "Ingress":
			s.Ingress = &networkingv1.Ingress{}
			read(s.Ingress)
		case "Service":
			x := &corev1.Service{}
			read(x)
			s.Services[x.Name] = x
			if s.Ingress == nil && s.Service == nil {
				s.Service = x
			}
		case "Deployment":
			x := &appsv1.Deployment{}
			read(x)
			workloads = append(workloads, x)
		case "StatefulSet":
			x := &appsv1.StatefulSet{}
			read(x)
			workloads = append(workloads, x)
		default:
			tb.Fatalf("a %s is not known here", kind.Kind)
		}
	}
	if s.Ingress != nil {
		s.Controller = controllerAmong(s.Ingress, nil)
	}
	for name, x := range s.Services {
		if w := behind(x, workloads); w != nil {
			s.Workloads[name] = *w
		}
	}
	return s
}

// converted is a conversion as a golden file has it.
func converted(tb testing.TB, name string) (*Conversion, []byte) {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "convert", name+".yaml"))
	if err != nil {
		tb.Fatal(err)
	}
	c, err := Convert(source(tb, text), conversions[name])
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.known(conversions[name].Accept); err != nil {
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
	add(c)
	for _, e := range c.Exposures {
		u, err := plain(e)
		if err != nil {
			tb.Fatal(err)
		}
		add(u.Object)
	}
	return c, b.Bytes()
}

// TestConvert compares what becomes of Ingresses and Services as they are found.
func TestConvert(t *testing.T) {
	for _, name := range sorted(conversions) {
		t.Run(name, func(t *testing.T) {
			_, have := converted(t, name)
			path := filepath.Join("testdata", "convert", name+".golden")
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
	files, err := filepath.Glob("testdata/convert/*")
	if err != nil || len(files) != 2*len(conversions) {
		t.Errorf("%d files (%v) for %d conversions: remove those that are left over", len(files), err, len(conversions))
	}
}

// TestConvertRenders: the operator accepts what each of them becomes, with Gateways and
// without, and leads no name to two load balancers.
func TestConvertRenders(t *testing.T) {
	for _, name := range sorted(conversions) {
		c, _ := converted(t, name)
		for _, e := range c.Exposures {
			for _, cluster := range []render.Cluster{{}, {Gateway: true, GRPC: true, TCP: true, UDP: true, ControlVersion: "v1beta1"}} {
				in := render.Input{Exposure: e, Workload: render.Workload{APIVersion: "apps/v1", Kind: e.Spec.Workload.Kind, Name: e.Spec.Workload.Name, Selector: map[string]string{"app": "x"}, Replicas: 2}, Cluster: cluster}
				out, err := render.Render(in)
				if err != nil {
					t.Errorf("%s: %s: %v", name, e.Name, err)
				}
				served := slices.ContainsFunc(e.Spec.Ports, func(p v1alpha1.Port) bool { return requests(p.Protocol) })
				for _, o := range out.Objects {
					if served && slices.Contains([]string{"TCPRoute", "UDPRoute", "Service"}, o.GetKind()) && o.GetAnnotations()[dnsPrefix+"hostname"] != "" {
						t.Errorf("%s: the names of %s lead to two load balancers", name, e.Name)
					}
				}
			}
		}
	}
}

// TestConvertTwice: what a conversion has set itself changes nothing of it.
func TestConvertTwice(t *testing.T) {
	text, err := os.ReadFile("testdata/convert/nlb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := source(t, text)
	first, err := Convert(s, Wish{})
	if err != nil {
		t.Fatal(err)
	}
	s.Service.Annotations[identifierNote], s.Service.Annotations[weightOfNote] = oldIdentifier, "90"
	second, err := Convert(s, Wish{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(first, second); d != "" {
		t.Errorf("-first +second:\n%s", d)
	}
}

// TestConvertWrong: what has no way to be converted says so, and what to do.
func TestConvertWrong(t *testing.T) {
	ingress := func(class, rest string) string {
		return "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: x, namespace: shop}\nspec: {ingressClassName: " + class + ", " + rest + "}\n"
	}
	rule := func(host, path, service string) string {
		return "{host: " + host + ", http: {paths: [{path: " + path + ", pathType: Prefix, backend: {service: {name: " + service + ", port: {number: 80}}}}]}}"
	}
	service := func(name, spec string) string {
		return "---\napiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", namespace: shop}\nspec: {" + spec + "}\n"
	}
	web := service("web", "selector: {app: web}, ports: [{port: 80}]")
	long := strings.Repeat("x", 60)
	many := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, rule("h"+strings.Repeat("x", i)+".shop.example", "/", "web"))
		}
		return strings.Join(all, ", ")
	}
	for name, c := range map[string]struct {
		text string
		wish Wish
		want string
	}{
		"a host that is none":        {text: ingress("alb", "rules: ["+rule("a.example", "/", "web")+"]") + web, wish: Wish{Hosts: []string{"https://x"}}, want: "is no DNS name"},
		"a certificate that is none": {text: ingress("alb", "rules: ["+rule("a.example", "/", "web")+"]") + web, wish: Wish{Certificates: []string{"shop"}}, want: "is no ARN"},
		"who may call":               {text: ingress("nginx", "rules: ["+rule("a.example", "/", "web")+"]") + web, want: "say --visibility public or --visibility private"},
		"no host":                    {text: ingress("alb", "rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]") + web, want: "--host"},
		"no host by default":         {text: ingress("alb", "defaultBackend: {service: {name: web, port: {number: 80}}}") + web, want: "--host"},
		"nothing":                    {text: ingress("alb", "rules: [{host: a.example}]") + web, want: "leads nowhere"},
		"a resource":                 {text: ingress("alb", "rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {resource: {kind: Bucket, name: x}}}]}}]") + web, want: "leads to a resource"},
		"no Service":                 {text: ingress("alb", "rules: ["+rule("a.example", "/", "gone")+"]") + web, want: "which is not there"},
		"no port":                    {text: ingress("alb", "rules: ["+rule("a.example", "/", "web")+"]") + service("web", "selector: {app: web}, ports: [{port: 81}]"), want: "port 80 of the Service web, which it does not have"},
		"another name":               {text: ingress("alb", "rules: ["+rule("a.example", "/", "web")+"]") + service("web", "type: ExternalName, externalName: x.example, ports: [{port: 80}]"), want: "leads to another name"},
		"no pods":                    {text: ingress("alb", "rules: ["+rule("a.example", "/", "web")+"]") + service("web", "ports: [{port: 80}]"), want: "selects no pods"},
		"two ways":                   {text: ingress("alb", "rules: ["+rule("a.example", "/", "web")+", "+rule("a.example", "/", "api")+"]") + web + service("api", "selector: {app: api}, ports: [{port: 80}]"), want: "to both web and api"},
		"a clash":                    {text: ingress("alb", "rules: ["+rule("a.example", "/", "web")+", "+rule("b.example", "/x", "web")+", "+rule("b.example", "/", "api")+"]") + web + service("api", "selector: {app: api}, ports: [{port: 80}]"), want: "split the Ingress first"},
		"too many hosts":             {text: ingress("alb", "rules: ["+many(17)+"]") + web, want: "17 hosts"},
		"a canary":                   {text: strings.Replace(ingress("nginx", "rules: ["+rule("a.example", "/", "web")+"]"), "namespace: shop", "namespace: shop, annotations: {nginx.ingress.kubernetes.io/canary: 'true'}", 1) + web, want: "is a canary of another"},
		"an annotation in the wrong": {text: strings.Replace(ingress("alb", "rules: ["+rule("a.example", "/", "web")+"]"), "namespace: shop", "namespace: shop, annotations: {alb.ingress.kubernetes.io/listen-ports: '['}", 1) + web, want: "can not be read"},
		"names alike":                {text: ingress("alb", "rules: ["+rule("a.example", "/", long+"-a")+", "+rule("b.example", "/", long+"-b")+"]") + service(long+"-a", "selector: {app: a}, ports: [{port: 80}]") + service(long+"-b", "selector: {app: b}, ports: [{port: 80}]"), want: "would have one name"},
		"two Services of a workload": {text: ingress("alb", "rules: ["+rule("a.example", "/", "web")+", "+rule("b.example", "/", "web2")+"]") + web + service("web2", "selector: {app: web}, ports: [{port: 80}]") +
			"---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}}}\n", want: "by two Services"},
		"SCTP":             {text: strings.TrimPrefix(service("x", "type: LoadBalancer, selector: {app: x}, ports: [{port: 80, protocol: SCTP}]"), "---\n"), want: "SCTP"},
		"requests no host": {text: strings.TrimPrefix(strings.Replace(service("x", "type: LoadBalancer, selector: {app: x}, ports: [{name: http, port: 80}]"), "namespace: shop", "namespace: shop, annotations: {service.beta.kubernetes.io/aws-load-balancer-backend-protocol: http}", 1), "---\n"), want: "say it with --host"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Convert(source(t, []byte(c.text)), c.wish)
			var wrong *WrongError
			if !errors.As(err, &wrong) || !strings.Contains(wrong.Text, c.want) {
				t.Errorf("got %+v, %v: want %q", got, err, c.want)
			}
		})
	}
}

// TestKnown: only what is lost can be accepted.
func TestKnown(t *testing.T) {
	c := &Conversion{Lost: []Item{{Name: "a"}, {Name: "b"}, {Name: "b", Accepted: true}}}
	if err := c.known([]string{"a"}); err != nil {
		t.Error(err)
	}
	if err := c.known([]string{"c"}); err == nil || !strings.Contains(err.Error(), "want a, b") {
		t.Errorf("got %v: want those that there are", err)
	}
	if err := (&Conversion{}).known([]string{"c"}); err == nil || !strings.Contains(err.Error(), "nothing is lost") {
		t.Errorf("got %v", err)
	}
	if got := c.Refused(); len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestCheckWeights(t *testing.T) {
	for _, c := range []struct {
		weights []int
		well    bool
	}{{[]int{90, 50, 0}, true}, {[]int{0}, true}, {[]int{99}, true}, {[]int{100, 0}, false}, {[]int{50, 50}, false}, {[]int{10, 20}, false}, {[]int{-1}, false}} {
		if err := checkWeights(c.weights); (err == nil) != c.well {
			t.Errorf("%v: got %v", c.weights, err)
		}
	}
}

func TestControllerAmong(t *testing.T) {
	class := func(name, controller string, byDefault bool) networkingv1.IngressClass {
		k := networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.IngressClassSpec{Controller: controller}}
		if byDefault {
			k.Annotations = map[string]string{defaultClass: yes}
		}
		return k
	}
	classes := []networkingv1.IngressClass{class("inner", nginxController, false), class("outer", albController, true), class("nginx", "nginx.org/ingress-controller", false)}
	name := func(s string) *string { return &s }
	for _, c := range []struct {
		spec *string
		note string
		want Controller
	}{{name("inner"), "", NGINX}, {nil, "inner", NGINX}, {nil, "", ALB}, {name("alb"), "", ALB}, {name("nginx"), "", Other}, {name("traefik"), "", Other}} {
		in := &networkingv1.Ingress{Spec: networkingv1.IngressSpec{IngressClassName: c.spec}}
		if c.note != "" {
			in.Annotations = map[string]string{classNote: c.note}
		}
		if got := controllerAmong(in, classes); got != c.want {
			t.Errorf("%v %q: got %s: want %s", c.spec, c.note, got, c.want)
		}
	}
}

func TestVisibilityOf(t *testing.T) {
	for _, c := range []struct {
		ip, host string
		want     v1alpha1.Visibility
	}{{"10.1.2.3", "", v1alpha1.Private}, {"198.51.100.1", "", v1alpha1.Public}, {"fd00::1", "", v1alpha1.Private}, {"", "internal-x-1.me-central-1.elb.amazonaws.com", v1alpha1.Private}, {"", "x-1.me-central-1.elb.amazonaws.com", ""}} {
		if got := visibilityOf(c.ip, c.host); got != c.want {
			t.Errorf("%s%s: got %q: want %q", c.ip, c.host, got, c.want)
		}
	}
}

// FuzzNotes: whatever stands in annotations, a conversion ends with an answer or a clear
// error, and each Exposure of it has hosts and paths of the forms that it takes.
func FuzzNotes(f *testing.F) {
	for _, name := range sorted(conversions) {
		text, err := os.ReadFile(filepath.Join("testdata", "convert", name+".yaml"))
		if err != nil {
			f.Fatal(err)
		}
		s := source(f, text)
		var o client.Object = s.Service
		if s.Ingress != nil {
			o = s.Ingress
		}
		for k, v := range o.GetAnnotations() {
			f.Add(k, v, "/")
		}
	}
	f.Fuzz(func(t *testing.T, key, value, path string) {
		for name, wish := range map[string]Wish{"alb": {}, "nginx": {Visibility: v1alpha1.Public}, "clb": {}} {
			text, err := os.ReadFile(filepath.Join("testdata", "convert", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			s := source(t, text)
			if s.Ingress != nil {
				s.Ingress.Annotations[key] = value
				s.Ingress.Spec.Rules[0].HTTP.Paths[0].Path = path
			} else {
				s.Service.Annotations[key] = value
			}
			c, err := Convert(s, wish)
			var wrong *WrongError
			if err != nil && !errors.As(err, &wrong) {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				continue
			}
			for _, e := range c.Exposures {
				if slices.ContainsFunc(e.Spec.Paths, func(p v1alpha1.Path) bool { return !goodPath.MatchString(p.Path) }) {
					t.Errorf("got paths %v", e.Spec.Paths)
				}
			}
		}
	})
}
