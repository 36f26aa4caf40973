package expose

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dhow/api/v1alpha1"
)

// TestProbe asks a real server as a load balancer is asked: past the DNS, by the name and the
// certificate of the host.
func TestProbe(t *testing.T) {
	status, server := http.StatusOK, "app"
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "example.com" || r.URL.Path != "/healthz" {
			t.Errorf("got %s%s", r.Host, r.URL.Path)
		}
		w.Header().Set("Server", server)
		w.WriteHeader(status)
	}))
	defer s.Close()
	address, text, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	p := Prober{Roots: roots}
	at := Target{Address: address, Port: int32(port), Host: "example.com", Path: "/healthz"}
	for _, c := range []struct {
		status int
		server string
		want   string
	}{{200, "app", ""}, {302, "app", ""}, {401, "app", ""}, {404, "app", ""}, {404, "awselb/2.0", "answers 404"}, {503, "awselb/2.0", "answers 503"}, {500, "app", "answers 500"}} {
		status, server = c.status, c.server
		err := p.Probe(t.Context(), at)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d of %s: got %v: want %q", c.status, c.server, err, c.want)
		}
	}
	if err := (Prober{}).Probe(t.Context(), at); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v: want that the certificate is not trusted", err)
	}
	if err := p.Probe(t.Context(), Target{Address: address, Port: int32(port)}); err != nil {
		t.Errorf("a connection: %v", err)
	}
	s.Close()
	if err := p.Probe(t.Context(), Target{Address: address, Port: int32(port)}); err == nil {
		t.Error("a connection to nobody succeeds")
	}
}

// TestLeads asks a DNS whose answers are given.
func TestLeads(t *testing.T) {
	names := map[string][]string{"new.elb.example": {"192.0.2.1", "192.0.2.2"}, "moved.example": {"192.0.2.2"}, "left.example": {"192.0.2.9"}}
	p := Prober{Lookup: func(_ context.Context, name string) ([]string, error) {
		if at, ok := names[name]; ok {
			return at, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}}
	for _, c := range []struct{ name, balancer, want string }{{"moved.example", "new.elb.example", ""}, {"left.example", "new.elb.example", "left.example leads to 192.0.2.9, and not to new.elb.example"}, {"gone.example", "new.elb.example", "no such host"}, {"moved.example", "gone.elb.example", "no such host"}} {
		err := p.Leads(t.Context(), c.name, []string{c.balancer})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s at %s: got %v: want %q", c.name, c.balancer, err, c.want)
		}
	}
}

func TestTargets(t *testing.T) {
	web := v1alpha1.Port{Name: "http", Port: 80, Protocol: v1alpha1.HTTP}
	pg := v1alpha1.Port{Name: "pg", Port: 5432, Protocol: v1alpha1.TCP}
	talk := v1alpha1.Port{Name: "talk", Port: 53, Protocol: v1alpha1.UDP}
	const alb, nlb = "a-1.me-central-1.elb.amazonaws.com", "b-1.elb.me-central-1.amazonaws.com"
	for name, c := range map[string]struct {
		spec     v1alpha1.ExposureSpec
		settings []v1alpha1.Setting
		at       []string
		want     []Target
	}{
		"requests":    {spec: v1alpha1.ExposureSpec{Ports: []v1alpha1.Port{web}, Hosts: []v1alpha1.Host{"*.shop.example"}}, at: []string{alb}, want: []Target{{alb, 443, "any.shop.example", "/"}}},
		"health":      {spec: v1alpha1.ExposureSpec{Ports: []v1alpha1.Port{web}, Hosts: []v1alpha1.Host{"a.example"}, Health: &v1alpha1.Health{Path: "/well?deep"}}, at: []string{alb}, want: []Target{{alb, 443, "a.example", "/well"}}},
		"fitted":      {spec: v1alpha1.ExposureSpec{Ports: []v1alpha1.Port{web}, Hosts: []v1alpha1.Host{"a.example"}}, settings: []v1alpha1.Setting{{Name: "health check", Value: "/readyz every 5s"}}, at: []string{alb}, want: []Target{{alb, 443, "a.example", "/readyz"}}},
		"paths":       {spec: v1alpha1.ExposureSpec{Ports: []v1alpha1.Port{web}, Hosts: []v1alpha1.Host{"a.example"}, Paths: []v1alpha1.Path{{Path: "/cart", Type: "Prefix"}}, Health: &v1alpha1.Health{Path: "/well"}}, at: []string{alb}, want: []Target{{alb, 443, "a.example", "/cart"}}},
		"below":       {spec: v1alpha1.ExposureSpec{Ports: []v1alpha1.Port{web}, Hosts: []v1alpha1.Host{"a.example"}, Paths: []v1alpha1.Path{{Path: "/x", Type: "Exact"}, {Path: "/cart", Type: "Prefix"}}, Health: &v1alpha1.Health{Path: "/cart/well"}}, at: []string{alb}, want: []Target{{alb, 443, "a.example", "/cart/well"}}},
		"connections": {spec: v1alpha1.ExposureSpec{Ports: []v1alpha1.Port{talk, pg}}, at: []string{nlb}, want: []Target{{Address: nlb, Port: 5432}}},
		"both":        {spec: v1alpha1.ExposureSpec{Ports: []v1alpha1.Port{web, pg}, Hosts: []v1alpha1.Host{"a.example"}}, at: []string{alb, nlb}, want: []Target{{alb, 443, "a.example", "/"}, {Address: nlb, Port: 5432}}},
		"nowhere yet": {spec: v1alpha1.ExposureSpec{Ports: []v1alpha1.Port{web}, Hosts: []v1alpha1.Host{"a.example"}}},
	} {
		e := &v1alpha1.Exposure{Spec: c.spec, Status: v1alpha1.ExposureStatus{LoadBalancers: c.at, Settings: c.settings}}
		if d := cmp.Diff(c.want, targets(e)); d != "" {
			t.Errorf("%s: -want +have:\n%s", name, d)
		}
	}
}

// TestTraffic asks a server that answers as Prometheus does.
func TestTraffic(t *testing.T) {
	answer := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("query") != "sum(rate(requests_total[1m]))" {
			t.Errorf("got the query %q", r.FormValue("query"))
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status": "success", "data": ` + answer + `}`))
	}))
	defer s.Close()
	ask, err := Traffic(s.URL, "sum(rate(requests_total[1m]))")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		answer string
		want   float64
		wrong  string
	}{
		{`{"resultType": "vector", "result": [{"metric": {"a": "1"}, "value": [0, "1.5"]}, {"metric": {"a": "2"}, "value": [0, "2"]}]}`, 3.5, ""},
		{`{"resultType": "vector", "result": []}`, 0, "answers with nothing"},
		{`{"resultType": "scalar", "result": [0, "4"]}`, 4, ""},
		{`{"resultType": "matrix", "result": []}`, 0, "want an instant vector"},
	} {
		answer = c.answer
		got, err := ask(t.Context())
		if got != c.want || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: got %v, %v: want %v, %q", c.answer, got, err, c.want, c.wrong)
		}
	}
	s.Close()
	if _, err := ask(t.Context()); err == nil {
		t.Error("nobody answers: want an error")
	}
}
