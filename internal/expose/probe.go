package expose

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"dhow/api/v1alpha1"
	"dhow/internal/elb"
)

const (
	// probeTime bounds one question to a load balancer.
	probeTime = 10 * time.Second
	// mostAnswer is how much of an answer is read, in bytes.
	mostAnswer = 64 << 10
)

// Target is a place at which an Exposure answers.
type Target struct {
	// Address is the load balancer's own, a name or an IP address.
	Address string
	Port    int32
	// Host and Path are asked for; without a Host a connection is tried.
	Host, Path string
}

func (t Target) String() string {
	if t.Host == "" {
		return net.JoinHostPort(t.Address, strconv.Itoa(int(t.Port)))
	}
	return "https://" + t.Host + t.Path + " at " + t.Address
}

// Prober asks load balancers, past the DNS, as their clients will.
type Prober struct {
	// Roots are who may have signed certificates; nil are the system's.
	Roots *x509.CertPool
	// Lookup asks the DNS for a name's addresses; nil asks the system's.
	Lookup func(ctx context.Context, name string) ([]string, error)
}

// Leads says whether a name leads to one of the load balancers by the DNS: its error says
// where it leads otherwise. The load balancers are names or addresses.
func (p Prober) Leads(ctx context.Context, name string, balancers []string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	lookup := p.Lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupHost
	}
	at, err := lookup(ctx, name)
	if err != nil {
		return fmt.Errorf("ask the DNS for %s: %w", name, err)
	}
	for _, b := range balancers {
		theirs, err := lookup(ctx, b)
		if err != nil {
			return fmt.Errorf("ask the DNS for the load balancer %s: %w", b, err)
		}
		// Of its many addresses a load balancer tells some at a time.
		if slices.ContainsFunc(theirs, func(a string) bool { return slices.Contains(at, a) }) {
			return nil
		}
	}
	return fmt.Errorf("%s leads to %s, and not to %s", name, strings.Join(at, ", "), strings.Join(balancers, ", "))
}

// anyLabel stands for the asterisk of a host.
const anyLabel = "any"

// balancerName begins what load balancers call themselves in answers of their own.
const balancerName = "awselb"

// Probe asks once. Any answer of the pods' own below 500 is one; a load balancer's own 404 says
// that it has no rule for what was asked yet.
func (p Prober) Probe(ctx context.Context, t Target) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(t.Address, strconv.Itoa(int(t.Port))))
	}
	if t.Host == "" {
		conn, err := dial(ctx, "", "")
		if err != nil {
			return fmt.Errorf("connect to %s: %w", t, err)
		}
		return conn.Close()
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: p.Roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	asked := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	at := url.URL{Scheme: "https", Host: t.Host, Path: t.Path}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", t, err)
	}
	answer, err := asked.Do(r)
	if err != nil {
		return fmt.Errorf("ask %s: %w", t, errors.Unwrap(err))
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, mostAnswer) // what stands in it does not matter
	nowhere := answer.StatusCode == http.StatusNotFound && strings.HasPrefix(answer.Header.Get("Server"), balancerName)
	if nowhere || answer.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("ask %s: it answers %s", t, answer.Status)
	}
	return nil
}

// targets are where an Exposure answers: its health path where that is led to, or the first
// of its paths, and the first port of connections.
func targets(e *v1alpha1.Exposure) []Target {
	kind := func(p v1alpha1.Port) bool { return requests(p.Protocol) }
	both := slices.ContainsFunc(e.Spec.Ports, kind) && slices.ContainsFunc(e.Spec.Ports, func(p v1alpha1.Port) bool { return !kind(p) })
	var all []Target
	seen := map[bool]bool{}
	for _, p := range e.Spec.Ports {
		if seen[kind(p)] || p.Protocol == v1alpha1.UDP {
			continue
		}
		seen[kind(p)] = true
		for _, at := range e.Status.LoadBalancers {
			switch {
			case both && kind(p) == connections(at): // the other ports'
			case !kind(p):
				all = append(all, Target{Address: at, Port: p.Port})
			case len(e.Spec.Hosts) > 0:
				all = append(all, Target{Address: at, Port: elb.HTTPSPort, Host: strings.Replace(string(e.Spec.Hosts[0]), "*", anyLabel, 1), Path: healthPath(e)})
			}
		}
	}
	return all
}

// connections says whether a load balancer is one of connections: an NLB's name ends in
// elb.REGION.amazonaws.com, an ALB's in REGION.elb.amazonaws.com.
func connections(at string) bool {
	return strings.Contains(at, ".elb.") && !strings.HasSuffix(at, balancerDomain)
}

// healthPath is a path that the Exposure leads to: that of its health if it does.
func healthPath(e *v1alpha1.Exposure) string {
	wish := "/"
	if e.Spec.Health != nil && e.Spec.Health.Path != "" {
		wish, _, _ = strings.Cut(e.Spec.Health.Path, "?")
	} else {
		for _, s := range e.Status.Settings {
			if s.Name == "health check" {
				wish, _, _ = strings.Cut(s.Value, " ")
			}
		}
	}
	for _, p := range e.Spec.Paths {
		switch {
		case p.Path == wish, p.Type != "Exact" && (p.Path == "/" || strings.HasPrefix(wish, strings.TrimSuffix(p.Path, "/")+"/")):
			return wish
		}
	}
	if len(e.Spec.Paths) > 0 {
		return e.Spec.Paths[0].Path
	}
	return wish
}
