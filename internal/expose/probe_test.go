package expose

import (
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
