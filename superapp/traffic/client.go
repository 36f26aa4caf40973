package traffic

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// dialTimeout bounds the making of a connection; an operation's time-out may end it sooner.
	dialTimeout = 5 * time.Second
	// keepAlive is the pause between two TCP probes of an idle connection.
	keepAlive = 15 * time.Second
	// maxAnswer bounds an answer's body, in bytes; a statement has a few thousand.
	maxAnswer = 1 << 20
	// readBuffer takes most answers in one system call, in bytes.
	readBuffer = 8 << 10
)

// client is one connection, made again when it breaks. One goroutine uses it, and
// that one writes and reads by itself: net/http's client has two more for each
// connection, and of a thousand clients' worth of requests a second that is a third of
// the cost. It also sends a request again by itself where it thinks fit; here nothing is.
type client struct {
	to    *url.URL // where the application answers
	wrong error    // of its address
	clock clock

	conn *counted // nil while there is none
	in   *bufio.Reader
	out  []byte // the request as it is sent
}

func newClient(base string, clock clock) *client {
	to, err := url.Parse(base)
	return &client{to: to, wrong: err, clock: clock}
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nobody waits for what is left in it
		c.conn = nil
	}
}

// counted is a connection that counts what is written to the network, so that
// "nothing was sent" is known and not guessed.
type counted struct {
	net.Conn // what the request is written to
	tcp      *net.TCPConn
	written  int64 // in bytes
	tls      bool
}

// network is what lies below a connection's TLS, if it has any.
type network struct {
	net.Conn
	of *counted
}

func (n network) Write(b []byte) (int, error) {
	done, err := n.Conn.Write(b)
	n.of.written += int64(done)
	return done, err
}

// dial makes the connection.
func (c *client) dial(ctx context.Context) error {
	to, address := c.to, c.to.Host
	if to.Port() == "" {
		address = net.JoinHostPort(to.Hostname(), map[string]string{"http": "80", "https": "443"}[to.Scheme])
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{KeepAlive: keepAlive}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.Join(fmt.Errorf("the connection to %s is no TCP connection", address), conn.Close())
	}
	one := &counted{tcp: tcp}
	one.Conn = network{tcp, one}
	if to.Scheme == "https" {
		secure := tls.Client(one.Conn, &tls.Config{ServerName: to.Hostname(), MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			return errors.Join(fmt.Errorf("agree on TLS with %s: %w", address, err), tcp.Close())
		}
		one.Conn, one.tls = secure, true
	}
	c.conn, c.in = one, bufio.NewReaderSize(one, readBuffer)
	return nil
}

// alive says whether an idle connection can take a request: the other end has not
// closed it, and has said nothing unasked (in TLS it may).
func (c *counted) alive() bool {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return false
	}
	lives := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		lives = errors.Is(err, syscall.EAGAIN) || err == nil && n > 0 && c.tls
		return true // look once
	})
	return err == nil && lives
}

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

// errAnswerLong is a fault of an exchange.
var errAnswerLong = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)

// exchange sends one request once and reads its answer whole. The end of ctx ends it.
func (c *client) exchange(ctx context.Context, method, path, key string, body []byte) answer {
	a := answer{sent: c.clock.now()}
	err := c.wrong
	if err == nil && c.conn != nil && !c.conn.alive() {
		c.close()
	}
	if err == nil && c.conn == nil {
		err = c.dial(ctx)
	}
	if err != nil {
		a.done, a.err, a.unsent = c.clock.now(), err, true
		return a
	}
	conn := c.conn
	before := conn.written
	// A deadline in the past ends what is waited for just now.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	keep := c.ask(&a, method, path, key, body)
	a.done = c.clock.now()
	a.unsent = a.err != nil && conn.written == before
	if !stop() && a.err != nil && ctx.Err() != nil {
		a.err = errors.Join(a.err, ctx.Err())
	}
	if !keep || ctx.Err() != nil {
		c.close()
	}
	return a
}

// ask writes a request and reads its answer, and says whether the connection can take another one.
func (c *client) ask(a *answer, method, path, key string, body []byte) bool {
	c.out = append(c.out[:0], method+" "+strings.TrimSuffix(c.to.EscapedPath(), "/")+path+" HTTP/1.1\r\nHost: "+c.to.Host+"\r\nUser-Agent: superapp-traffic\r\nAccept: application/json\r\n"...)
	if key != "" {
		c.out = append(c.out, "Idempotency-Key: "+key+"\r\n"...)
	}
	if method == http.MethodPost {
		c.out = append(c.out, "Content-Type: application/json\r\nContent-Length: "...)
		c.out = append(strconv.AppendInt(c.out, int64(len(body)), 10), "\r\n"...)
	}
	c.out = append(append(c.out, "\r\n"...), body...)
	if _, err := c.conn.Write(c.out); err != nil {
		a.err = fmt.Errorf("send the request: %w", err)
		return false
	}
	resp, err := c.head(method)
	if err != nil {
		a.err = fmt.Errorf("read the answer: %w", err)
		return false
	}
	defer resp.Body.Close()
	a.status, a.replayed = resp.StatusCode, resp.Header.Get("Idempotency-Replayed") == "true"
	if n := resp.ContentLength; n >= 0 && n <= maxAnswer {
		a.body = make([]byte, n)
		_, err = io.ReadFull(resp.Body, a.body)
	} else {
		a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	}
	switch {
	case err != nil:
		a.err = fmt.Errorf("the answer (status %d) is cut off: %w", a.status, err)
	case len(a.body) > maxAnswer:
		a.err = errAnswerLong
	}
	return a.err == nil && !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols && c.in.Buffered() == 0
}

// head reads an answer's head, and what a server says before that.
func (c *client) head(method string) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
		if err != nil || resp.StatusCode >= http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
		_ = resp.Body.Close() // it has none
	}
}
