package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// dialTime bounds the opening of a connection to an upstream. It is on the same
	// network, so a second dropped packet is the most that is waited for.
	dialTime = 5 * time.Second
	// tlsTime bounds the handshake with an upstream that speaks TLS.
	tlsTime = 5 * time.Second
	// keptConnections is how many idle connections to one upstream are kept. It is
	// above what a busy service has in flight, so that a burst opens few new ones.
	keptConnections = 2048
	// keptTime is how long an idle connection is kept. Servers close theirs after
	// five seconds or more (Node and uvicorn after five), and a write that meets the
	// closing fails: so the gate is the one that closes.
	keptTime = 4 * time.Second
	// continueTime is how long an upstream may take to say that it wants the body of
	// a request that asks first; then it is sent all the same.
	continueTime = time.Second
	// ioBuffer is the size, in bytes, of a connection's buffer in each direction:
	// most requests and answers pass in one system call.
	ioBuffer = 8 << 10
	// copyBuffer is the size, in bytes, of the buffers that answers are copied with.
	copyBuffer = 32 << 10
	// flushTime is how long a part of an answer of known length waits for more of it.
	// Event streams and answers of unknown length wait for nothing.
	flushTime = 10 * time.Millisecond
	// pingTime is after how long of silence an HTTP/2 upstream is asked whether it lives,
	// and pongTime how long it may take to say so.
	pingTime = 15 * time.Second
	pongTime = 5 * time.Second
)

// upstream is one side of a route.
type upstream struct {
	url   *url.URL
	proxy *httputil.ReverseProxy
	// plain speaks HTTP/1.1, h2c HTTP/2 in the clear; the latter is nil unless the
	// route wants it, and even then a switch of protocols needs the former.
	plain, h2c *http.Transport
	// ahead and aheadH2C hold connections that were opened before they are needed.
	ahead, aheadH2C *spares
}

// newUpstream makes the proxy to an upstream.
func newUpstream(raw string, h2c bool, answerTime time.Duration, log *slog.Logger, buffers *bufferPool, opened *prometheus.CounterVec) (*upstream, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("want http:// or https:// and a host, for example http://127.0.0.1:9001")
	}
	if h2c && u.Scheme != "http" {
		return nil, errors.New("h2c is HTTP/2 in the clear, so the URL begins with http://")
	}
	dialer := &net.Dialer{Timeout: dialTime, KeepAlive: pingTime}
	up := &upstream{url: u, ahead: newSpares(u, dialer, false, opened)}
	up.plain = newTransport(answerTime, up.ahead)
	up.plain.Protocols.SetHTTP1(true)
	if h2c {
		up.aheadH2C = newSpares(u, dialer, true, opened)
		up.h2c = newTransport(answerTime, up.aheadH2C)
		up.h2c.Protocols.SetUnencryptedHTTP2(true)
		up.h2c.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingTime, PingTimeout: pongTime}
	}
	up.proxy = &httputil.ReverseProxy{
		Rewrite:        up.rewrite,
		Transport:      up,
		FlushInterval:  flushTime,
		BufferPool:     buffers,
		ModifyResponse: answered,
		ErrorHandler:   failed,
		// What it would say is counted and logged in failed, or is the client's going away.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return up, nil
}

func newTransport(answerTime time.Duration, ahead *spares) *http.Transport {
	return &http.Transport{
		DialContext:           ahead.dial,
		TLSHandshakeTimeout:   tlsTime,
		MaxIdleConnsPerHost:   keptConnections,
		IdleConnTimeout:       keptTime,
		ResponseHeaderTimeout: answerTime,
		ExpectContinueTimeout: continueTime,
		DisableCompression:    true, // the answer passes as it is
		WriteBufferSize:       ioBuffer,
		ReadBufferSize:        ioBuffer,
		Protocols:             new(http.Protocols),
	}
}

// RoundTrip sends a request by the protocol that it needs.
func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	if u.h2c != nil && r.Header["Upgrade"] == nil {
		return u.h2c.RoundTrip(r)
	}
	return u.plain.RoundTrip(r)
}

// spares are those of the protocol that most requests need.
func (u *upstream) spares() *spares {
	if u.aheadH2C != nil {
		return u.aheadH2C
	}
	return u.ahead
}

func (u *upstream) close() {
	u.ahead.close()
	u.plain.CloseIdleConnections()
	if u.h2c != nil {
		u.aheadH2C.close()
		u.h2c.CloseIdleConnections()
	}
}

// rewrite makes the upstream's request of the client's.
func (u *upstream) rewrite(pr *httputil.ProxyRequest) {
	pr.SetURL(u.url)
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery // as it came, also where it is odd
	pr.Out.Host = pr.In.Host
	forwardedFor(pr.Out.Header, pr.In)
	x := exchangeOf(pr.In.Context())
	if pr.Out.Body != nil {
		x.request.x, x.request.src, x.request.trailers = x, pr.In.Body, pr.Out.Trailer
		pr.Out.Body = &x.request
	}
	u.sendOnce(pr.Out, x)
}

// sendOnce sees to it that the transport never sends twice what is not
// idempotent by its method. By itself it repeats a request whose connection broke
// when it can replay the body and there is a header named Idempotency-Key, be it
// that the upstream has done the work already. Nobody who counts money wants to
// rely on every upstream's keeping that promise, so the transport does not get to see the
// header under that name: in lower case it is the same header to the upstream.
//
// What remains is the repetition of a request of which not one byte was written,
// because its idle connection had been closed. That is safe for every method, and
// it needs a body that can be read again.
func (u *upstream) sendOnce(out *http.Request, x *exchange) {
	switch out.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := out.Header[name]; ok {
			delete(out.Header, name)
			out.Header[strings.ToLower(name)] = values
		}
	}
	switch {
	case u.h2c != nil && out.Header["Upgrade"] == nil:
		// HTTP/2's transport repeats on some errors of a stream that was sent already,
		// but never a body that it can not replay.
		if out.Body == nil {
			out.Body = emptyBody{}
		}
	case out.Body != nil && out.ContentLength > 0 && out.ContentLength <= replayMost:
		x.request.kept = make([]byte, 0, out.ContentLength)
		out.GetBody = x.request.again
	}
}

// forwardedFor says for whom the request is sent. What proxies before the gate have said is
// kept: they know the client's address and scheme, the gate only its neighbour's.
func forwardedFor(out http.Header, in *http.Request) {
	ip, _, err := net.SplitHostPort(in.RemoteAddr)
	if err != nil {
		ip = in.RemoteAddr
	}
	chain := ip
	if before := in.Header["X-Forwarded-For"]; len(before) > 0 {
		chain = strings.Join(before, ", ") + ", " + ip
	}
	out["X-Forwarded-For"] = []string{chain}
	out["X-Forwarded-Host"] = orElse(in.Header["X-Forwarded-Host"], in.Host)
	out["X-Forwarded-Proto"] = orElse(in.Header["X-Forwarded-Proto"], "http")
	if before := in.Header["Forwarded"]; len(before) > 0 {
		node := ip
		if strings.Contains(ip, ":") {
			node = "[" + ip + "]"
		}
		out["Forwarded"] = []string{strings.Join(before, ", ") + fmt.Sprintf(", for=%q;host=%q;proto=http", node, in.Host)}
	}
}

func orElse(values []string, otherwise string) []string {
	if len(values) > 0 {
		return values
	}
	return []string{otherwise}
}

// answered looks at an answer before it goes to the client.
func answered(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	x.status = res.StatusCode
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.long = true
		x.pass.lasts()
		return nil
	}
	if types := res.Header["Content-Type"]; len(types) > 0 && isEventStream(types[0]) {
		x.long = true
		x.pass.lasts()
	}
	if x.in.ProtoAtLeast(1, 1) && len(res.Trailer) > 0 {
		// HTTP/2 has trailers behind a body of known length, HTTP/1.1 behind chunks only.
		res.Header.Del("Content-Length")
	}
	x.answer.x, x.answer.src = x, res.Body
	res.Body = &x.answer
	if x.in.ProtoMajor == 1 && !x.request.whole() {
		// What the client still sends belongs to no request of its own.
		res.Header["Connection"] = []string{"close"}
	}
	return nil
}

// failed answers in place of an upstream that did not.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	x.status = http.StatusBadGateway
	var (
		dial    *net.OpError
		timeout net.Error
	)
	switch {
	case x.turned.Load():
		x.endEvents(w)
		return
	case x.in.Context().Err() != nil:
		x.failure, x.status = failClient, statusClientGone
		abort()
	case x.request.failure() != nil:
		x.failure, x.status = failClient, http.StatusBadRequest
		respond(w, x.in, x.status, string(x.failure), "the request's body broke off")
		return
	case errors.As(err, &dial) && dial.Op == "dial":
		x.failure = failUnreachable
		respond(w, x.in, x.status, string(x.failure), "the application can not be reached: nothing was sent to it")
	case errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded):
		x.failure, x.status = failTimeout, http.StatusGatewayTimeout
		respond(w, x.in, x.status, string(x.failure), "the application did not answer in time: whether it did what was asked is not known")
	default:
		x.failure = failNoAnswer
		respond(w, x.in, x.status, string(x.failure), "the application broke off before it answered: whether it did what was asked is not known")
	}
	x.gate.complain(x, err)
}

// endEvents answers a client whose event stream was ended by the switch before
// it began: with an empty stream, after which it asks again.
func (x *exchange) endEvents(w http.ResponseWriter) {
	x.status, x.long = http.StatusOK, true
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(x.status)
}

// bufferPool lends the buffers that answers are copied with.
type bufferPool struct{ pool sync.Pool }

func newBufferPool() *bufferPool {
	return &bufferPool{sync.Pool{New: func() any { return new([copyBuffer]byte) }}}
}

// Get implements httputil.BufferPool.
func (p *bufferPool) Get() []byte { return p.pool.Get().(*[copyBuffer]byte)[:] }

// Put implements httputil.BufferPool.
func (p *bufferPool) Put(b []byte) { p.pool.Put((*[copyBuffer]byte)(b)) }
