package service

import (
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	// askTime bounds one question to another service.
	askTime = 4 * time.Second
	// dialTime bounds a connection to it.
	dialTime = 2 * time.Second
	// maxConnections to it, all kept alive; more questions at once wait for one.
	maxConnections = 64
	// keepTime is shorter than the server's, so that no question goes into a
	// connection that the server is about to close.
	keepTime = time.Minute
)

// NewClient asks other services: bounded in time and connections, in the trace and
// under the id of the request that it asks for. Its owner calls CloseIdleConnections.
func NewClient() *http.Client {
	return &http.Client{Timeout: askTime, Transport: &passing{&http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTime}).DialContext,
		MaxConnsPerHost:     maxConnections,
		MaxIdleConns:        maxConnections,
		MaxIdleConnsPerHost: maxConnections,
		IdleConnTimeout:     keepTime,
		DisableCompression:  true,
	}}}
}

// passing passes on what names a request in logs and traces.
type passing struct{ *http.Transport }

func (p *passing) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	tracer := trace.SpanFromContext(ctx).TracerProvider().Tracer(tracerName)
	ctx, span := tracer.Start(ctx, r.Method+" "+r.URL.Host, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("server.address", r.URL.Hostname())))
	r = r.Clone(ctx) // a request is its sender's
	propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
	if id := RequestID(ctx); id != "" {
		r.Header.Set(requestIDHeader, id)
	}
	res, err := p.Transport.RoundTrip(r)
	status := http.StatusBadGateway
	if err == nil {
		status = res.StatusCode
	}
	ended(span, status)
	return res, err
}

// URL is another service's address, given by a flag.
type URL struct{ text string }

// URLFlag adds the flag.
func URLFlag(f *pflag.FlagSet, into *URL, name, usage string) {
	f.StringVar(&into.text, name, "", usage)
}

// Check says what is wrong with the address that the flag of this name gave.
func (u URL) Check(name string) error {
	if p := u.URL(); p == nil || (p.Scheme != "http" && p.Scheme != "https") || p.Host == "" {
		return Usagef("--%s is %q: give the service's address, for example http://127.0.0.1:8081", name, u.text)
	}
	return nil
}

// Optional is the address, or nil where none was given.
func (u URL) Optional(name string) (*url.URL, error) {
	if u.text == "" {
		return nil, nil
	}
	return u.URL(), u.Check(name)
}

// URL is the address; nil when it can not be read.
func (u URL) URL() *url.URL {
	p, err := url.Parse(u.text)
	if err != nil {
		return nil
	}
	return p
}
