package albtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// idleTime is for how long a connection to a target is kept without a request.
	idleTime = 60 * time.Second
	// idleConnections are kept to each target.
	idleConnections = 256
	// dialTime bounds a connection to a target.
	dialTime = 5 * time.Second
	// headerTime bounds a client's header.
	headerTime = 10 * time.Second
	// firstCheck is within which a node checks a target that it has heard of.
	firstCheck = time.Second
)

// state is what a node knows of a target.
type state int

const (
	unknown state = iota
	// initial is a target that has passed no check yet.
	initial
	healthy
	unhealthy
	// draining is one that was taken out: what it had goes on.
	draining
)

func (s state) String() string {
	return [...]string{"unknown", "initial", "healthy", "unhealthy", "draining"}[s]
}

// node is one of a load balancer's: it knows what it has heard, and checks health by itself.
type node struct {
	listener net.Listener
	checker  *http.Client
	tasks    sync.WaitGroup

	mu      sync.Mutex
	version int
	routes  []route
	groups  map[string]*group
}

// group is a target group as a node knows it.
type group struct {
	settings settings
	targets  map[string]*target
	turn     int
}

// target is a pod's port.
type target struct {
	address     string
	proxy       *httputil.ReverseProxy
	transport   *http.Transport
	gone        context.Context // ends when nothing may go on there any more
	end         context.CancelFunc
	state       state
	outstanding int
	// right and wrong are checks in a row.
	right, wrong int
	turn         int // when it was last chosen
}

func newNode(l net.Listener) *node {
	return &node{listener: l, groups: map[string]*group{}, checker: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// serve serves until ctx ends.
func (n *node) serve(ctx context.Context) {
	server := &http.Server{Handler: n, ReadHeaderTimeout: headerTime, ErrorLog: log.New(io.Discard, "", 0)}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	_ = server.Serve(n.listener) // it ends with ctx
	n.mu.Lock()
	for _, g := range n.groups {
		for _, t := range g.targets {
			t.end()
			t.transport.CloseIdleConnections()
		}
	}
	n.mu.Unlock()
	n.tasks.Wait()
}

// apply is what a node does when it hears of a change.
func (n *node) apply(ctx context.Context, version int, v view) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if version <= n.version || ctx.Err() != nil {
		return
	}
	n.version, n.routes = version, v.routes
	for name, want := range v.groups {
		g := n.groups[name]
		if g == nil {
			g = &group{targets: map[string]*target{}}
			n.groups[name] = g
		}
		g.settings = want.settings
		for address := range want.targets {
			if t := g.targets[address]; t == nil || t.state == draining {
				g.targets[address] = n.register(ctx, g, address)
			}
		}
	}
	for name, g := range n.groups {
		for address, t := range g.targets {
			if !v.groups[name].targets[address] && t.state != draining {
				n.drain(g, t)
			}
		}
	}
}

// register begins to check a new target.
func (n *node) register(ctx context.Context, g *group, address string) *target {
	t := n.newTarget(ctx, address)
	n.tasks.Go(func() { n.check(g, t) })
	return t
}

// newTarget is one that was not checked yet.
func (n *node) newTarget(ctx context.Context, address string) *target {
	t := &target{address: address, state: initial, transport: &http.Transport{MaxIdleConnsPerHost: idleConnections, IdleConnTimeout: idleTime, DialContext: (&net.Dialer{Timeout: dialTime}).DialContext}}
	t.gone, t.end = context.WithCancel(ctx)
	t.proxy = &httputil.ReverseProxy{
		Transport: t.transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host
			r.SetXForwarded()
			if r.Out.Body == nil && (r.Out.Method == http.MethodGet || r.Out.Method == http.MethodHead || r.Out.Method == http.MethodOptions) {
				// With a body, of which the transport finds that it is empty, it sends a request
				// that a target has dropped no second time.
				r.Out.Body, r.Out.ContentLength = io.NopCloser(strings.NewReader("")), -1
			}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("target %s, which is %s: %v", address, n.stateOf(t), err), http.StatusBadGateway)
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return t
}

// drain sends nothing new to a target, and ends what is left there after the delay.
func (n *node) drain(g *group, t *target) {
	t.state = draining
	delay := g.settings.delay
	n.tasks.Go(func() {
		select {
		case <-t.gone.Done():
		case <-time.After(delay):
		}
		t.end()
		t.transport.CloseIdleConnections()
		n.mu.Lock()
		defer n.mu.Unlock()
		if g.targets[t.address] == t {
			delete(g.targets, t.address)
		}
	})
}

// check asks a target for its health until it is taken out.
func (n *node) check(g *group, t *target) {
	wait := time.Duration(rand.Int64N(int64(firstCheck)))
	for {
		select {
		case <-t.gone.Done():
			return
		case <-time.After(wait):
		}
		n.mu.Lock()
		s, over := g.settings, t.state == draining
		n.mu.Unlock()
		if over {
			return
		}
		well := n.ask(t.gone, s, t.address)
		n.mu.Lock()
		t.checked(s, well)
		n.mu.Unlock()
		wait = max(s.interval, time.Millisecond)
	}
}

// checked counts a check. A new target must pass one to be healthy.
func (t *target) checked(s settings, well bool) {
	if well {
		t.right, t.wrong = t.right+1, 0
	} else {
		t.right, t.wrong = 0, t.wrong+1
	}
	switch {
	case t.state == initial && well, t.state == unhealthy && t.right >= s.healthy:
		t.state = healthy
	case (t.state == initial || t.state == healthy) && t.wrong >= s.unhealthy:
		t.state = unhealthy
	}
}

// ask asks a target for its health once.
func (n *node) ask(ctx context.Context, s settings, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if s.port != "" && s.port != "traffic-port" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return false
		}
		address = net.JoinHostPort(host, s.port)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+s.path, nil)
	if err != nil {
		return false
	}
	request.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
	answer, err := n.checker.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return wellCode(s.codes, answer.StatusCode)
}

func (n *node) stateOf(t *target) state {
	n.mu.Lock()
	defer n.mu.Unlock()
	return t.state
}

// state is what the node knows of a target.
func (n *node) state(group, address string) state {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.groups[group]
	if g == nil || g.targets[address] == nil {
		return unknown
	}
	return g.targets[address].state
}

// ServeHTTP sends a request to a target. It tries one, once.
func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, err := n.choose(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer func() {
		n.mu.Lock()
		t.outstanding--
		n.mu.Unlock()
	}()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := context.AfterFunc(t.gone, cancel) //nolint:contextcheck // the target's end is not the request's
	defer stop()
	t.proxy.ServeHTTP(w, r.WithContext(ctx))
}

var (
	errNoRoute  = errors.New("no rule matches")
	errNoTarget = errors.New("the target group has no target that may be sent to")
)

// choose chooses a target: a healthy one, or where there is none, any that is not.
func (n *node) choose(r *http.Request) (*target, error) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.routes {
		if !n.routes[i].matches(host, r.URL.Path) {
			continue
		}
		g := n.groups[n.routes[i].pick()]
		if g == nil {
			return nil, errNoTarget
		}
		for _, s := range []state{healthy, unhealthy} {
			if t := g.least(s); t != nil {
				g.turn++
				t.turn = g.turn
				t.outstanding++
				return t, nil
			}
		}
		return nil, errNoTarget
	}
	return nil, errNoRoute
}

// least is the target in a state whose turn it is, nil if there is none.
func (g *group) least(s state) *target {
	var best *target
	for _, t := range g.targets {
		if t.state != s {
			continue
		}
		switch {
		case best == nil, g.settings.leastOutstanding && t.outstanding < best.outstanding:
			best = t
		case (!g.settings.leastOutstanding || t.outstanding == best.outstanding) && t.turn < best.turn:
			best = t
		}
	}
	return best
}

func (r *route) matches(host, path string) bool {
	if r.host != host {
		rest, wild := strings.CutPrefix(r.host, "*")
		if !wild || !strings.HasSuffix(host, rest) {
			return false
		}
	}
	if r.exact {
		return path == r.path
	}
	prefix := strings.TrimSuffix(r.path, "/")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// pick gives each target group its share.
func (r *route) pick() string {
	sum := int32(0)
	for _, b := range r.backends {
		sum += b.weight
	}
	if sum <= 0 {
		return ""
	}
	at := rand.Int32N(sum)
	for _, b := range r.backends {
		if at -= b.weight; at < 0 {
			return b.group
		}
	}
	return ""
}
