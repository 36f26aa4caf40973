package redis

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move/redis/resp"
)

const (
	// silence is how long a server may say nothing before its connection counts as
	// lost; a primary pings its replicas every ten seconds (repl-ping-replica-period).
	silence = 60 * time.Second
	// wireBuffer is a connection's read buffer, in bytes.
	wireBuffer = 256 << 10
)

// wire is a connection whose bytes we read and write ourselves, where the driver's
// way, one answer for one command, does not do.
type wire struct {
	net.Conn
	br *bufio.Reader
}

// quiet ends a read that waits longer than a server may be silent.
type quiet struct{ net.Conn }

func (q quiet) Read(p []byte) (int, error) {
	if err := q.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return q.Conn.Read(p)
}

func (q quiet) Write(p []byte) (int, error) {
	if err := q.SetWriteDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return q.Conn.Write(p)
}

// dialWire connects and logs in as the options say.
func dialWire(ctx context.Context, o *redis.Options) (_ *wire, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := dialNet(ctx, o)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: quiet{conn}}
	w.br = bufio.NewReaderSize(w.Conn, wireBuffer)
	stop := w.closeWith(ctx)
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			_ = conn.Close() // the error says more
		}
	}()
	user, password, err := credentials(ctx, o)
	if err != nil {
		return nil, err
	}
	if password == "" {
		return w, nil
	}
	auth := []string{"AUTH", password}
	if user != "" {
		auth = []string{"AUTH", user, password}
	}
	if _, err := w.ask(auth...); err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	return w, nil
}

func dialNet(ctx context.Context, o *redis.Options) (net.Conn, error) {
	network := o.Network
	if network == "" {
		network = "tcp"
	}
	if o.Dialer != nil {
		return o.Dialer(ctx, network, o.Addr)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, o.Addr)
	if err != nil || o.TLSConfig == nil {
		return conn, err
	}
	c := o.TLSConfig.Clone()
	if c.ServerName == "" && !c.InsecureSkipVerify {
		if c.ServerName, _, err = net.SplitHostPort(o.Addr); err != nil {
			_ = conn.Close() // the error says more
			return nil, fmt.Errorf("the address of the server: %w", err)
		}
	}
	t := tls.Client(conn, c)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the error says more
		return nil, err
	}
	return t, nil
}

func credentials(ctx context.Context, o *redis.Options) (user, password string, err error) {
	switch {
	case o.CredentialsProviderContext != nil:
		return o.CredentialsProviderContext(ctx)
	case o.CredentialsProvider != nil:
		user, password = o.CredentialsProvider()
		return user, password, nil
	}
	return o.Username, o.Password, nil
}

// serverError is an error that the server answered. The driver's callers know it as redis.Error.
type serverError string

func (e serverError) Error() string { return string(e) }

// RedisError makes it a redis.Error.
func (serverError) RedisError() {}

var _ redis.Error = serverError("")

// ask sends a command and returns the line that answers it. Bare line ends before
// it are passed over: a primary that prepares a snapshot sends them.
func (w *wire) ask(args ...string) (string, error) {
	if _, err := w.Write(resp.Append(nil, args...)); err != nil {
		return "", err
	}
	return w.answer()
}

func (w *wire) answer() (string, error) {
	for {
		line, err := w.line()
		if err != nil {
			return "", err
		}
		switch {
		case line == "":
		case line[0] == '-':
			return "", serverError(line[1:])
		case line[0] == '+' || line[0] == ':' || line[0] == '$':
			return line, nil
		default:
			return "", fmt.Errorf("%w: an answer begins with %q", resp.ErrProtocol, line[0])
		}
	}
}

// line reads one line.
func (w *wire) line() (string, error) {
	b, err := w.br.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			err = resp.ErrProtocol
		}
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// closeWith closes the connection when ctx ends; stop says whether it has not.
func (w *wire) closeWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, w.hangUp)
}

func (w *wire) hangUp() { _ = w.Close() } // whoever reads from it sees the end
