package albtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"dhow/internal/elb"
)

// within bounds every wait.
const within = 30 * time.Second

// server is a pod's program on a loopback address of its own.
type server struct {
	well  atomic.Bool
	count atomic.Int64
	// hold, if it is not nil, is what requests wait for.
	hold chan struct{}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/readyz" {
		if !s.well.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return
	}
	s.count.Add(1)
	if s.hold != nil && r.URL.Path == "/api/slow" {
		select {
		case <-s.hold:
		case <-r.Context().Done():
		}
	}
	_, _ = io.WriteString(w, "done")
}

// bench is a cluster that is only told of, with two pods that are there.
type bench struct {
	testing.TB
	client.Client
	ctx      context.Context
	balancer *Balancer
	servers  []*server
	slice    *discoveryv1.EndpointSlice
	targets  *unstructured.Unstructured
}

// attribute is one of a target group.
func attribute(key, value string) map[string]any { return map[string]any{"key": key, "value": value} }

func newBench(t *testing.T) *bench {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), gatewayv1.Install(scheme)); err != nil {
		t.Fatal(err)
	}
	b := &bench{TB: t}
	port, pods, endpoints := 0, []client.Object{}, []discoveryv1.Endpoint{}
	for i := range 2 {
		address := fmt.Sprintf("127.0.7.%d", i+1)
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		port = l.Addr().(*net.TCPAddr).Port
		s := &server{hold: make(chan struct{})}
		s.well.Store(true)
		b.servers = append(b.servers, s)
		program := &http.Server{Handler: s}
		go func() { _ = program.Serve(l) }()
		t.Cleanup(func() { _ = program.Close() })
		name := "cart-" + strconv.Itoa(i)
		pods = append(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: name}, Spec: corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{Gate("cart")}},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}}}})
		endpoints = append(endpoints, discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false)}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "bank", Name: name}})
	}
	b.slice = &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "cart-x", Labels: map[string]string{discoveryv1.LabelServiceName: "cart"}}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(port))}}, Endpoints: endpoints}
	section, space, number, prefix, path := gatewayv1.SectionName("https"), gatewayv1.Namespace("dhow-system"), int32(80), gatewayv1.PathMatchPathPrefix, "/api"
	route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "cart"}, Spec: gatewayv1.HTTPRouteSpec{
		CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "private", Namespace: &space, SectionName: &section}}}, Hostnames: []gatewayv1.Hostname{"cart.example.com"},
		Rules: []gatewayv1.HTTPRouteRule{{Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Type: &prefix, Value: &path}}},
			BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: "cart", Port: &number}}}}}}}}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "cart"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}}}}
	b.targets = &unstructured.Unstructured{Object: map[string]any{"apiVersion": elb.ControlAPI, "kind": elb.TargetGroupKind, "metadata": map[string]any{"namespace": "bank", "name": "cart"}, "spec": map[string]any{
		"targetReference": map[string]any{"name": "cart"}, "defaultConfiguration": map[string]any{"targetType": "ip",
			"healthCheckConfig":     map[string]any{"healthCheckInterval": int64(1), "healthCheckTimeout": int64(within / time.Second), "healthCheckPath": "/readyz", "healthyThresholdCount": int64(2), "unhealthyThresholdCount": int64(2), "matcher": map[string]any{"httpCode": "200"}},
			"targetGroupAttributes": []any{attribute("deregistration_delay.timeout_seconds", "3600"), attribute("load_balancing.algorithm.type", "least_outstanding_requests")}}}}}
	b.Client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&corev1.Pod{}).
		WithObjects(append(pods, route, service, b.targets, b.slice, elb.Gateway("dhow-system", "private", "dhow-alb", nil))...).Build()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	b.ctx = ctx
	var err error
	b.balancer, err = Start(ctx, Options{Client: b.Client, Gateway: types.NamespacedName{Namespace: "dhow-system", Name: "private"}, LeastSpread: 100 * time.Millisecond, MostSpread: 500 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); b.balancer.Wait() })
	return b
}

// call sends a request by a node, and gives the answer's code and text.
func (b *bench) call(node int, host, path string) (int, string) {
	request, err := http.NewRequestWithContext(b.ctx, http.MethodGet, "http://"+b.balancer.Addresses()[node]+path, nil)
	if err != nil {
		b.Error(err)
		return 0, ""
	}
	request.Host = host
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(text)
}

func (b *bench) await(what string, missing func() string) {
	b.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		text := missing()
		if text == "" {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s: %s", what, text)
		}
	}
}

// change changes the endpoints.
func (b *bench) change(do func([]discoveryv1.Endpoint) []discoveryv1.Endpoint) {
	b.Helper()
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(b.slice), b.slice); err != nil {
		b.Fatal(err)
	}
	b.slice.Endpoints = do(b.slice.Endpoints)
	if err := b.Update(b.ctx, b.slice); err != nil {
		b.Fatal(err)
	}
}

// gate waits until a pod's readiness gate says so.
func (b *bench) gate(pod string, want corev1.ConditionStatus) {
	b.Helper()
	b.await("the readiness gate of "+pod, func() string {
		p := &corev1.Pod{}
		if err := b.Get(b.ctx, client.ObjectKey{Namespace: "bank", Name: pod}, p); err != nil {
			return err.Error()
		}
		if have := podCondition(p, Gate("cart").ConditionType); have != want {
			return fmt.Sprintf("is %s, want %s", have, want)
		}
		return ""
	})
}

// TestBalancer goes through the life of two targets.
func TestBalancer(t *testing.T) {
	b := newBench(t)
	b.gate("cart-0", corev1.ConditionTrue)
	b.gate("cart-1", corev1.ConditionTrue)
	for node := range 2 {
		for range 10 {
			if code, text := b.call(node, "cart.example.com", "/api/x"); code != http.StatusOK || text != "done" {
				t.Fatalf("got %d %q: want an answer", code, text)
			}
		}
	}
	for i, s := range b.servers {
		if s.count.Load() < 5 {
			t.Errorf("target %d had %d of 20 requests: want that both have their share", i, s.count.Load())
		}
	}
	for _, c := range [][2]string{{"other.example.com", "/api"}, {"cart.example.com", "/apis"}} {
		if code, _ := b.call(0, c[0], c[1]); code != http.StatusServiceUnavailable {
			t.Errorf("%v: got %d: want that nothing leads there", c, code)
		}
	}

	// A pod that is told to end gets new requests until both nodes have heard of it, and what
	// it had before goes on.
	var slow sync.WaitGroup
	codes := make([]int, 4)
	before := b.servers[0].count.Load() + b.servers[1].count.Load()
	for i := range codes {
		slow.Go(func() { codes[i], _ = b.call(i%2, "cart.example.com", "/api/slow") })
	}
	b.await("the slow requests", func() string {
		if b.servers[0].count.Load()+b.servers[1].count.Load() < before+4 {
			return "are on their way"
		}
		return ""
	})
	b.change(func(all []discoveryv1.Endpoint) []discoveryv1.Endpoint {
		all[0].Conditions.Terminating = ptr.To(true)
		return all
	})
	address := func(i int) string {
		return b.slice.Endpoints[i].Addresses[0] + ":" + strconv.Itoa(int(*b.slice.Ports[0].Port))
	}
	first := address(0)
	b.await("both nodes to hear that a target leaves", func() string {
		for _, n := range b.balancer.nodes {
			if s := n.state("bank/cart:80", first); s != draining {
				return "it is " + s.String()
			}
		}
		return ""
	})
	had := b.servers[0].count.Load()
	for node := range 2 {
		for range 10 {
			if code, text := b.call(node, "cart.example.com", "/api"); code != http.StatusOK {
				t.Errorf("got %d %s", code, text)
			}
		}
	}
	if now := b.servers[0].count.Load(); now != had {
		t.Errorf("a draining target had %d new requests", now-had)
	}
	for _, s := range b.servers {
		close(s.hold)
	}
	slow.Wait()
	for _, code := range codes {
		if code != http.StatusOK {
			t.Errorf("a request under way was answered %d", code)
		}
	}

	// What fails its checks counts no more, and where nothing is well all are tried.
	b.servers[1].well.Store(false)
	b.gate("cart-1", corev1.ConditionFalse)
	b.await("the last target to be sent to all the same", func() string {
		if code, text := b.call(0, "cart.example.com", "/api"); code != http.StatusOK {
			return text
		}
		return ""
	})
	// What was taken out is there for as long as was said then: the first one for an hour, in which
	// this test ends, and the last one for a second.
	if err := b.Get(b.ctx, client.ObjectKeyFromObject(b.targets), b.targets); err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedSlice(b.targets.Object, []any{attribute("deregistration_delay.timeout_seconds", "1")}, "spec", "defaultConfiguration", "targetGroupAttributes"); err != nil {
		t.Fatal(err)
	}
	if err := b.Update(b.ctx, b.targets); err != nil {
		t.Fatal(err)
	}
	last := address(1)
	b.change(func([]discoveryv1.Endpoint) []discoveryv1.Endpoint { return nil })
	b.await("the target group to be empty", func() string {
		if code, text := b.call(1, "cart.example.com", "/api"); code != http.StatusServiceUnavailable {
			return fmt.Sprintf("got %d %s", code, text)
		}
		return ""
	})
	b.await("the last target to be gone", func() string {
		for _, n := range b.balancer.nodes {
			if s := n.state("bank/cart:80", last); s != unknown {
				return "it is " + s.String()
			}
		}
		return ""
	})
	for _, n := range b.balancer.nodes {
		if s := n.state("bank/cart:80", first); s != draining {
			t.Errorf("the first target is %s before its time has passed", s)
		}
	}
}

// TestTriesOnce: a request that a target takes and drops is an error, and is not sent again.
func TestTriesOnce(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					if asked.Add(1) > 1 { // the second is read, and then the connection ends
						return
					}
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	n := newNode(nil)
	address := l.Addr().String()
	ctx := t.Context()
	n.routes = []route{{host: "x", path: "/", backends: []backend{{"g", 1}}}}
	one := n.newTarget(ctx, address)
	one.state = healthy
	n.groups["g"] = &group{settings: elbDefaults(), targets: map[string]*target{address: one}}
	for i, want := range []int{http.StatusOK, http.StatusBadGateway} {
		w := &recorder{header: http.Header{}}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = "127.0.0.1:1"
		n.ServeHTTP(w, r)
		if w.code != want {
			t.Errorf("request %d: got %d %s: want %d", i+1, w.code, w.text.String(), want)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("the target was asked %d times: want twice", asked.Load())
	}
	one.transport.CloseIdleConnections()
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	code   int
	text   strings.Builder
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
}
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.text.Write(p)
}

func TestWellCode(t *testing.T) {
	for _, c := range []struct {
		codes string
		code  int
		want  bool
	}{{"200", 200, true}, {"200", 204, false}, {"200-299", 204, true}, {"200,204", 204, true}, {"200-399,401", 401, true}, {"200-499", 500, false}, {"", 200, false}, {"x", 200, false}} {
		if have := wellCode(c.codes, c.code); have != c.want {
			t.Errorf("%q %d: got %t", c.codes, c.code, have)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		route      route
		host, path string
		want       bool
	}{
		{route{host: "a.b", path: "/"}, "a.b", "/x", true},
		{route{host: "a.b", path: "/x"}, "a.b", "/x", true},
		{route{host: "a.b", path: "/x"}, "a.b", "/x/y", true},
		{route{host: "a.b", path: "/x"}, "a.b", "/xy", false},
		{route{host: "a.b", path: "/x", exact: true}, "a.b", "/x/y", false},
		{route{host: "*.b", path: "/"}, "a.b", "/", true},
		{route{host: "*.b", path: "/"}, "b", "/", false},
	} {
		if have := c.route.matches(c.host, c.path); have != c.want {
			t.Errorf("%+v with %s%s: got %t", c.route, c.host, c.path, have)
		}
	}
}
