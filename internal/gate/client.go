package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

const (
	// connectTime bounds the connecting to a gate, which is on this machine.
	connectTime = 2 * time.Second
	// maxReply bounds a gate's answer, in bytes: the status of thousands of routes.
	maxReply = 8 << 20
	// lastWord is how long before its own end a drain asks the gate to give up, so
	// that it can still say what it was waiting for.
	lastWord = 10 * time.Millisecond
)

// ErrNoGate says that no gate answers.
var ErrNoGate = errors.New("the gate does not answer")

// Client steers a gate. All commands may be sent again, and at once; it keeps no
// connection, so there is nothing to close.
type Client struct {
	control, token string
	base           string
	http           *http.Client
}

// Dial makes a client of the gate at a control address: a Unix socket's path, or
// host:port with a token. It does not connect yet.
func Dial(control, token string) *Client {
	d := &net.Dialer{Timeout: connectTime}
	t := &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}
	c := &Client{control: control, token: token, base: "http://" + control, http: &http.Client{Transport: t}}
	if isSocket(control) {
		c.base = "http://gate"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", control) }
	}
	return c
}

// Hold makes every route hold new requests, for as long as the gate's bounds let it.
// A hold that is under way is neither begun again nor made longer.
func (c *Client) Hold(ctx context.Context) error { return c.HoldRoute(ctx, "") }

// HoldRoute is Hold for one route; an empty name means all of them, here and below.
func (c *Client) HoldRoute(ctx context.Context, route string) error {
	return c.command(ctx, "hold", command{Route: route})
}

// Drain returns once no request is in flight. It fails with ErrNotHeld when
// nothing is held, with ErrHoldOver when the hold ends first, and when ctx does.
func (c *Client) Drain(ctx context.Context) error { return c.DrainRoute(ctx, "") }

// DrainRoute is Drain for one route.
func (c *Client) DrainRoute(ctx context.Context, route string) error {
	ask := command{Route: route}
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		ask.WithinMS = min(max((left-min(lastWord, left/2)).Milliseconds(), 1), maxDrain.Milliseconds())
	}
	return c.command(ctx, "drain", ask)
}

// SwitchAndRelease sends all requests to a side from now on, the held ones first.
// When it returns without an error, that is so after a crash of the gate too.
func (c *Client) SwitchAndRelease(ctx context.Context, to Side) error {
	return c.SwitchRoute(ctx, "", to)
}

// SwitchRoute is SwitchAndRelease for one route.
func (c *Client) SwitchRoute(ctx context.Context, route string, to Side) error {
	return c.command(ctx, "switch", command{Route: route, To: to})
}

// Release lets the held requests go to the side that is served.
func (c *Client) Release(ctx context.Context) error { return c.ReleaseRoute(ctx, "") }

// ReleaseRoute is Release for one route.
func (c *Client) ReleaseRoute(ctx context.Context, route string) error {
	return c.command(ctx, "release", command{Route: route})
}

// Status says how the gate stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.ask(ctx, http.MethodGet, "status", nil, &s)
	return s, err
}

func (c *Client) command(ctx context.Context, verb string, ask command) error {
	var d done
	return c.ask(ctx, http.MethodPost, verb, &ask, &d)
}

// ask sends a question and reads the answer.
func (c *Client) ask(ctx context.Context, method, verb string, question *command, answer any) error {
	var body io.Reader
	if question != nil {
		text, err := json.Marshal(question)
		if err != nil {
			return fmt.Errorf("write the command %s: %w", verb, err)
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+"/"+verb, body)
	if err != nil {
		return fmt.Errorf("the gate's control address %q: %w", c.control, err)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(r)
	if err != nil {
		return c.unreached(verb, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err != nil {
		return c.unreached(verb, err)
	}
	if res.StatusCode != http.StatusOK {
		return c.refused(verb, res.StatusCode, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("what answers on %s is no gate of this version: %w", c.control, err)
	}
	return nil
}

// unreached is the error when no answer came.
func (c *Client) unreached(verb string, err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err // what it adds is an address that nobody wrote
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: the gate's socket %s belongs to another account: run this as the account that runs `dhow gate`: %w", verb, c.control, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w on %s: start it with `dhow gate`: %w", verb, ErrNoGate, c.control, err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%s: %w on %s any more, it went away in the middle of it: see its log: %w", verb, ErrNoGate, c.control, err)
	}
	return fmt.Errorf("ask the gate on %s to %s: %w", c.control, verb, err)
}

// refused is the error that the gate answered with.
func (c *Client) refused(verb string, status int, text []byte) error {
	var p problem
	if json.Unmarshal(text, &p) != nil || p.Code == "" {
		return fmt.Errorf("what answers on %s is no gate: it answered %s with status %d", c.control, verb, status)
	}
	for _, known := range refusals {
		if known.code == p.Code {
			return fmt.Errorf("%s: %w", verb, &refusal{text: p.Error, err: known.err})
		}
	}
	return fmt.Errorf("%s: %s", verb, p.Error)
}

// refusal is the gate's own words for an error that is known here too.
type refusal struct {
	text string
	err  error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.err }
