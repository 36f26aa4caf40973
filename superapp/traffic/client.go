package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync/atomic"
	"time"
)

const (
	// dialTimeout bounds the making of a connection; an operation's time-out may end it sooner.
	dialTimeout = 5 * time.Second
	// keepAlive is the pause between two TCP probes of an idle connection.
	keepAlive = 15 * time.Second
	// maxAnswer bounds an answer's body, in bytes; a statement has a few thousand.
	maxAnswer = 1 << 20
)

// client is one connection, made again when it breaks. One goroutine uses it.
type client struct {
	base      string
	clock     clock
	transport *http.Transport
	written   *atomic.Int64 // bytes that went to the network, over all connections
}

func newClient(base string, clock clock) *client {
	written := new(atomic.Int64)
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &client{base: base, clock: clock, written: written, transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &countedConn{Conn: conn, written: written}, nil
		},
		// One connection, kept: never a second one beside it, and no proxy between.
		MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, MaxIdleConns: 1,
		TLSHandshakeTimeout: dialTimeout,
		DisableCompression:  true,
		Protocols:           protocols,
	}}
}

func (c *client) close() { c.transport.CloseIdleConnections() }

// countedConn counts what is written, so that "nothing was sent" is known and not guessed.
type countedConn struct {
	net.Conn
	written *atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

// once is a body that can be read once. net/http sends a request again by itself,
// on another connection, when the first turns out to be dead and the body can be
// had again: a GET, and a POST too if it carries an idempotency key. A body of a
// type that it does not know, also an empty one, can not be had again.
type once struct{ io.Reader }

func (once) Close() error { return nil }

// answer is what came back.
type answer struct {
	sent, done int64
	status     int
	replayed   bool // a stored answer
	body       []byte
	err        error
	// unsent says of an error that no byte of the request has left this process.
	unsent bool
}

// errAnswerLong and errSentAgain are faults of an exchange.
var (
	errAnswerLong = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	errSentAgain  = errors.New("the request was sent more than once")
)

// exchange sends one request once and reads its answer whole.
func (c *client) exchange(ctx context.Context, method, path, key string, body []byte) answer {
	var connections atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connections.Add(1) }})
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, once{bytes.NewReader(body)})
	if err != nil {
		now := c.clock.now()
		return answer{sent: now, done: now, err: err, unsent: true}
	}
	req.ContentLength = int64(len(body)) // 0 with a body: net/http finds out that it is empty, and sends none
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "superapp-traffic")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	before := c.written.Load()
	a := answer{sent: c.clock.now()}
	// RoundTrip and not http.Client, which follows redirects.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		a.done, a.err = c.clock.now(), err
		// With a connection at hand and the time over, the request may be on its way just now.
		a.unsent = connections.Load() == 0 || c.written.Load() == before && !timedOut(ctx, err)
		return a
	}
	defer resp.Body.Close()
	a.status, a.replayed = resp.StatusCode, resp.Header.Get("Idempotency-Replayed") == "true"
	a.body, a.err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	a.done = c.clock.now()
	switch {
	case a.err != nil:
		a.err = fmt.Errorf("the answer (status %d) is cut off: %w", a.status, a.err)
	case len(a.body) > maxAnswer:
		a.err = errAnswerLong
	case connections.Load() > 1:
		a.err = errSentAgain
	}
	return a
}

func timedOut(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}
