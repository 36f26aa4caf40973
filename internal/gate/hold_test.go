package gate_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"dhow/internal/estate"
	"dhow/internal/gate"
)

// crew are clients that ask all the time and note what went wrong for them.
type crew struct {
	group  *errgroup.Group
	cancel context.CancelFunc
	asked  atomic.Int64
	// dropped are the connections that the gate ended.
	dropped atomic.Int64
}

// watched is a client's connection that tells when the other end ends it.
type watched struct {
	net.Conn
	dropped *atomic.Int64
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		w.dropped.Add(1)
	}
	return n, err
}

// newCrew starts n clients, each with a connection of its own. Each request has an id.
func newCrew(t *testing.T, url string, n int, h2c bool) *crew {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crew{cancel: cancel}
	c.group, ctx = errgroup.WithContext(ctx)
	for i := range n {
		tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, address)
			return watched{conn, &c.dropped}, err
		}}
		tr.Protocols.SetHTTP1(!h2c)
		tr.Protocols.SetUnencryptedHTTP2(h2c)
		client := &http.Client{Transport: tr, Timeout: patience}
		t.Cleanup(tr.CloseIdleConnections)
		c.group.Go(func() error {
			for k := 0; ctx.Err() == nil; k++ {
				// A key that the transport must not take for leave to send twice.
				r, err := http.NewRequest(http.MethodPost, url, strings.NewReader("amount=5"))
				if err != nil {
					return err
				}
				r.Header.Set("Id", fmt.Sprintf("%v-%d-%d", h2c, i, k))
				r.Header.Set("Idempotency-Key", r.Header.Get("Id"))
				a := do(client, r)
				c.asked.Add(1)
				if a.err != nil || a.status != http.StatusOK || a.body != a.header.Get("Side") || a.header.Get("Connection") != "" {
					return fmt.Errorf("client %d, request %d: status %d, body %q: %w", i, k, a.status, a.body, errors.Join(a.err, errors.New("not answered")))
				}
			}
			return nil
		})
	}
	return c
}

// end stops the clients, whose last requests end.
func (c *crew) end() error {
	c.cancel()
	return c.group.Wait()
}

// Under load the traffic goes from one side to the other and back, many times. No
// request fails, none is done twice, none is lost, no client's connection is
// dropped, and at the moment of the switch neither side has anything under way.
func TestSwitchUnderLoad(t *testing.T) {
	for _, h2c := range []bool{false, true} {
		t.Run(fmt.Sprintf("upstream h2c %v", h2c), func(t *testing.T) {
			var busy atomic.Int64
			l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
				busy.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				busy.Add(-1) // before the answer goes, as a transaction ends before its acknowledgement
				_, _ = io.WriteString(w, w.Header().Get("Side"))
			}, func(c *gate.Config) { c.Routes[0].H2C = h2c })
			const clients = 24
			crews := []*crew{newCrew(t, l.url, clients, false), newCrew(t, l.url, clients, true)}
			asked := func() int64 { return crews[0].asked.Load() + crews[1].asked.Load() }
			to := estate.Target
			for range 8 {
				before := asked()
				await(t, "traffic", func() bool { return asked() > before+200 })
				must(t, l.Hold(t.Context()))
				must(t, l.Drain(t.Context()))
				if n := busy.Load(); n != 0 {
					t.Errorf("drained, and %d requests are under way", n)
				}
				if s := l.status(t); s.InFlight != 0 || s.Side == to {
					t.Errorf("drained, and the status is %+v", s)
				}
				must(t, l.SwitchAndRelease(t.Context(), to))
				if s := l.status(t); s.Side != to {
					t.Errorf("switched to %s, and %q is served", to, s.Side)
				}
				if to == estate.Target {
					to = estate.Source
				} else {
					to = estate.Target
				}
			}
			for _, c := range crews {
				must(t, c.end())
				if n := c.dropped.Load(); n != 0 {
					t.Errorf("%d connections of clients were dropped", n)
				}
			}
			seen := map[string]int{}
			for _, a := range []*application{l.source, l.target} {
				if len(a.seen) == 0 {
					t.Errorf("the %s was never asked", a.side)
				}
				for id, n := range a.seen {
					seen[id] += n
				}
			}
			for id, n := range seen {
				if n != 1 {
					t.Errorf("request %s was done %d times", id, n)
				}
			}
			if int64(len(seen)) != asked() {
				t.Errorf("%d requests were answered and %d done", asked(), len(seen))
			}
			if s := l.gate.Status(); s.Failures != 0 || s.Held != 0 || s.InFlight != 0 || s.ReadAhead != 0 || s.HeldMost == 0 {
				t.Errorf("at the end %+v", s)
			}
		})
	}
}

// held sends n requests one after the other, each once the one before is held.
func (l *lab) held(t *testing.T, c *http.Client, n int, body func(i int) string) []<-chan answer {
	t.Helper()
	var all []<-chan answer
	for i := range n {
		r := request(t, http.MethodPost, l.url, strings.NewReader(body(i)))
		r.Header.Set("Id", strconv.Itoa(i))
		all = append(all, later(t, c, r))
		l.awaitHeld(t, int64(i+1))
	}
	return all
}

func TestReleaseWithoutSwitch(t *testing.T) {
	l := newLab(t, nil, nil)
	must(t, l.Hold(t.Context()))
	must(t, l.Hold(t.Context()))
	all := l.held(t, newClient(t), 5, func(int) string { return "x" })
	s := l.status(t)
	if r := s.Routes[0]; r.State != gate.StateHolding || r.HeldSince == nil || r.HeldUntil.Sub(*r.HeldSince) != estate.DefaultHoldTime {
		t.Errorf("while it holds: %+v", r)
	}
	must(t, l.Drain(t.Context()))
	must(t, l.Release(t.Context()))
	must(t, l.Release(t.Context()))
	for i, ch := range all {
		want(t, <-ch, estate.Source)
		if n := l.source.times(strconv.Itoa(i)); n != 1 {
			t.Errorf("request %d was done %d times", i, n)
		}
	}
	if s := l.status(t); s.Routes[0].State != gate.StateOpen || s.Side != estate.Source {
		t.Errorf("after the release: %+v", s)
	}
}

// A release of many requests finds connections that were opened before, and nobody waits for the others.
func TestReleaseFindsConnectionsReady(t *testing.T) {
	const n = 200
	var opened, open atomic.Int64
	l := &lab{source: newApplication(t, estate.Source, nil), target: newApplication(t, estate.Target, nil)}
	counting, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &http.Server{ReadHeaderTimeout: patience, ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
			open.Add(1)
		case http.StateClosed: // one that got too old, and another takes its place
			open.Add(-1)
		}
	}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Side", "target")
	})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(counting) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	l.cfg = config(t, l.source.url, "http://"+counting.Addr().String())
	l.gate, l.stop = serve(t, l.cfg)
	l.url, l.Client = "http://"+l.gate.Addrs().Data, gate.Dial(l.gate.Addrs().Control, "")
	must(t, l.Hold(t.Context()))
	var all []<-chan answer
	for c := newClient(t); len(all) < n; {
		all = append(all, later(t, c, request(t, http.MethodPost, l.url, strings.NewReader("x"))))
	}
	l.awaitHeld(t, n)
	await(t, "connections that are opened ahead", func() bool { return l.gate.SparesReady(estate.Target) == n && open.Load() == n })
	before := opened.Load()
	must(t, l.SwitchAndRelease(t.Context(), estate.Target))
	for _, ch := range all {
		want(t, <-ch, estate.Target)
	}
	if got := opened.Load() - before; got != 0 {
		t.Errorf("%d of %d requests were released over connections that were not ready", got, n)
	}
}

// The other side may be away, or close what was opened ahead: the requests find out by themselves.
func TestSpareConnectionsThatDied(t *testing.T) {
	var accepted atomic.Int64
	closing, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := closing.Addr().String()
	over := make(chan struct{})
	go func() {
		defer close(over)
		for c, err := closing.Accept(); err == nil; c, err = closing.Accept() { // until its deadline
			_ = c.Close()
			accepted.Add(1)
		}
	}()
	source := newApplication(t, estate.Source, nil)
	cfg := config(t, source.url, "http://"+address)
	g, _ := serve(t, cfg)
	l := &lab{Client: gate.Dial(cfg.Control, ""), gate: g, cfg: cfg, url: "http://" + g.Addrs().Data}
	must(t, l.Hold(t.Context()))
	all := l.held(t, newClient(t), 20, func(int) string { return "x" })
	await(t, "connections that are opened ahead", func() bool { return accepted.Load() >= 20 })
	// A server that works takes the place of the one that closed them, and its port, which nobody else may get.
	port := closing.(*net.TCPListener)
	must(t, port.SetDeadline(time.Now()))
	<-over
	must(t, port.SetDeadline(time.Time{}))
	s := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Side", "target") })}
	served := make(chan error, 1)
	go func() { served <- s.Serve(port) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	must(t, l.SwitchAndRelease(t.Context(), estate.Target))
	for _, ch := range all {
		want(t, <-ch, estate.Target)
	}
}

func TestHoldIsBoundedInNumber(t *testing.T) {
	l := newLab(t, nil, func(c *gate.Config) { c.Hold.Requests = 3 })
	c := newClient(t)
	must(t, l.Hold(t.Context()))
	all := l.held(t, c, 3, func(int) string { return "x" })
	a := do(c, request(t, http.MethodPost, l.url, strings.NewReader("one too many")))
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `"hold_full"`) {
		t.Errorf("status %d, %v: %s", a.status, a.header, a.body)
	}
	must(t, l.SwitchAndRelease(t.Context(), estate.Target))
	for _, ch := range all {
		want(t, <-ch, estate.Target)
	}
	if s := l.status(t); s.HeldMost != 3 || s.Failures != 1 || s.Held != 0 {
		t.Errorf("at the end %+v", s)
	}
}

// What is read of bodies while they are held is bounded; what is over waits in the network, and nothing is refused for it.
func TestHoldIsBoundedInBytes(t *testing.T) {
	const most, n = 256 << 10, 8
	l := newLab(t, echo, func(c *gate.Config) { c.Hold.Bytes = most })
	must(t, l.Hold(t.Context()))
	body := func(i int) string { return strings.Repeat(string(rune('a'+i)), 200<<10) }
	all := l.held(t, newClient(t), n, body)
	await(t, "bodies that are read ahead", func() bool { return l.gate.Status().ReadAhead > 0 })
	if got := l.status(t).ReadAhead; got > most {
		t.Errorf("%d bytes are read ahead of %d", got, most)
	}
	must(t, l.SwitchAndRelease(t.Context(), estate.Target))
	for i, ch := range all {
		if e := decode(t, <-ch); e.Body != body(i) {
			t.Errorf("of body %d %d bytes arrived", i, len(e.Body))
		}
	}
	await(t, "the memory's return", func() bool { return l.gate.Status().ReadAhead == 0 })
}

func TestHoldIsBoundedInTime(t *testing.T) {
	l := newLab(t, nil, func(c *gate.Config) { c.Hold.Time = 60 * time.Millisecond; c.Metrics = "127.0.0.1:0" })
	began := time.Now()
	must(t, l.Hold(t.Context()))
	a := do(newClient(t), request(t, http.MethodPost, l.url, strings.NewReader("x")))
	want(t, a, estate.Source)
	if took := time.Since(began); took < l.cfg.Hold.Time {
		t.Errorf("it was held for %s only", took)
	}
	if err := l.Drain(t.Context()); !errors.Is(err, gate.ErrNotHeld) {
		t.Errorf("a drain behind the hold's end: %v", err)
	}
	page := get(t, newClient(t), "http://"+l.gate.Addrs().Metrics+"/metrics").body
	if !strings.Contains(page, `dhow_gate_hold_duration_seconds_count{end="expired",route="all"} 1`) {
		t.Errorf("the metrics do not say that a hold expired:\n%s", page)
	}
}

func TestDrainSaysWhyItDidNot(t *testing.T) {
	goOn := make(chan struct{})
	hangs := func(http.ResponseWriter, *http.Request) { <-goOn }
	l := newLab(t, hangs, func(c *gate.Config) { onPort(c); c.Hold.Time = patience })
	if err := l.Drain(t.Context()); !errors.Is(err, gate.ErrNotHeld) {
		t.Errorf("without a hold: %v", err)
	}
	slow := later(t, newClient(t), request(t, http.MethodGet, l.url, nil))
	l.awaitInFlight(t, 1)
	must(t, l.Hold(t.Context()))
	if a := l.command(t, "/drain", `{"within_ms":20}`); a.status != http.StatusGatewayTimeout || !strings.Contains(a.body, "route all: 1 requests are still in flight") {
		t.Errorf("out of time: status %d, error %v: %s", a.status, a.err, a.body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("out of time: %v", err)
	}
	must(t, l.Release(t.Context()))
	short := newLab(t, hangs, func(c *gate.Config) { c.Hold.Time = 200 * time.Millisecond })
	slowToo := later(t, newClient(t), request(t, http.MethodGet, short.url, nil))
	short.awaitInFlight(t, 1)
	await(t, "a drain that a hold's end meets", func() bool {
		must(t, short.Hold(t.Context()))
		err := short.Drain(t.Context())
		if !errors.Is(err, gate.ErrHoldOver) && !errors.Is(err, gate.ErrNotHeld) { // the latter when it comes behind the end
			t.Fatalf("when the hold ends first: %v", err)
		}
		return errors.Is(err, gate.ErrHoldOver)
	})
	close(goOn)
	want(t, <-slow, estate.Source)
	want(t, <-slowToo, estate.Source)
}

// A client that goes away while it is held leaves no place taken and nothing to be sent.
func TestHeldClientGoesAway(t *testing.T) {
	l := newLab(t, nil, nil)
	must(t, l.Hold(t.Context()))
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\nId: gone\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nId: gone\r\nContent-Length: 4\r\n\r\nbody",
		"POST / HTTP/1.1\r\nHost: a\r\nId: gone\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
	} {
		conn := raw(t, l.gate.Addrs().Data, text)
		l.awaitHeld(t, 1)
		_ = conn.Close()
		l.awaitHeld(t, 0)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, strings.NewReader("x"))
	must(t, err)
	r.Header.Set("Id", "gone")
	ch := later(t, newH2CClient(t), r)
	l.awaitHeld(t, 1)
	cancel()
	<-ch
	l.awaitHeld(t, 0)
	must(t, l.SwitchAndRelease(t.Context(), estate.Target))
	want(t, get(t, newClient(t), l.url), estate.Target)
	if n := l.source.times("gone") + l.target.times("gone"); n != 0 {
		t.Errorf("%d requests of clients that had gone were sent", n)
	}
	if s := l.gate.Status(); s.Failures != 0 || s.ReadAhead != 0 {
		t.Errorf("at the end %+v", s)
	}
}

// While one route is held and switched, the other is served as before.
func TestRoutesAreSteeredAlone(t *testing.T) {
	l := newLab(t, nil, func(c *gate.Config) {
		pay := c.Routes[0]
		pay.Name, pay.Path = "pay", "/pay"
		c.Routes = append(c.Routes, pay)
	})
	c := newClient(t)
	must(t, l.HoldRoute(t.Context(), "pay"))
	ch := later(t, c, request(t, http.MethodGet, l.url+"/pay", nil))
	l.awaitHeld(t, 1)
	want(t, get(t, c, l.url+"/"), estate.Source)
	must(t, l.DrainRoute(t.Context(), "pay"))
	must(t, l.SwitchRoute(t.Context(), "pay", estate.Target))
	want(t, <-ch, estate.Target)
	want(t, get(t, c, l.url+"/"), estate.Source)
	if s := l.status(t); s.Side != "" {
		t.Errorf("the sides differ, and the status says %q", s.Side)
	}
	must(t, l.ReleaseRoute(t.Context(), "pay"))
	must(t, l.SwitchAndRelease(t.Context(), estate.Source))
	want(t, get(t, c, l.url+"/pay"), estate.Source)
}

// Streams are not waited for. At the switch they end, cleanly, and begin again at the new side.
func TestLongLivedAreCutAtTheSwitch(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/socket" {
			echoSocket(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = fmt.Fprintf(w, "data: %s\n\n", w.Header().Get("Side"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, nil)
	events := func(c *http.Client) (*http.Response, string) {
		t.Helper()
		r := request(t, http.MethodGet, l.url+"/events", nil)
		r.Header.Set("Accept", "text/event-stream")
		res, err := c.Do(r)
		must(t, err)
		t.Cleanup(func() { _ = res.Body.Close() })
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		must(t, err)
		return res, line
	}
	for name, c := range map[string]*http.Client{"HTTP/1.1": newClient(t), "h2c": newH2CClient(t)} {
		socket := dialSocket(t, l.url+"/socket")
		if got := say(t, socket, "a"); got != "source:a" {
			t.Fatalf("the socket said %q", got)
		}
		stream, line := events(c)
		if line != "data: source\n" {
			t.Fatalf("%s: the stream said %q", name, line)
		}
		must(t, l.Hold(t.Context()))
		must(t, l.Drain(t.Context()))
		if got := say(t, socket, "b"); got != "source:b" {
			t.Fatalf("held, and the socket said %q", got)
		}
		must(t, l.SwitchAndRelease(t.Context(), estate.Target))
		if rest, err := io.ReadAll(stream.Body); err != nil || strings.Contains(string(rest), "data") {
			t.Errorf("%s: the stream ended with %q, %v: want a clean end", name, rest, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, _, err := socket.Read(ctx); err == nil || ctx.Err() != nil {
			t.Errorf("the socket lives on: %v", err)
		}
		cancel()
		await(t, "the end of what is long-lived", func() bool { return l.gate.Status().LongLived == 0 })
		again, line := events(c)
		_ = again.Body.Close()
		if line != "data: target\n" {
			t.Errorf("%s: the next stream said %q", name, line)
		}
		next := dialSocket(t, l.url+"/socket")
		if got := say(t, next, "c"); got != "target:c" {
			t.Errorf("the next socket said %q", got)
		}
		must(t, next.Close(websocket.StatusNormalClosure, ""))
		must(t, l.SwitchAndRelease(t.Context(), estate.Source))
		await(t, "the end of what is long-lived", func() bool { return l.gate.Status().LongLived == 0 })
	}
}

// A client that asks before it sends its body is answered when it is let go, by the side that serves then.
func TestHeldExpectContinueAndTrailers(t *testing.T) {
	l := newLab(t, echo, nil)
	must(t, l.Hold(t.Context()))
	asking := raw(t, l.gate.Addrs().Data, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	l.awaitHeld(t, 1)
	trailing := raw(t, l.gate.Addrs().Data, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n3\r\nabc\r\n0\r\nSum: 42\r\n\r\n")
	l.awaitHeld(t, 2)
	must(t, l.SwitchAndRelease(t.Context(), estate.Target))
	br := bufio.NewReader(asking)
	first, err := http.ReadResponse(br, nil)
	must(t, err)
	_ = first.Body.Close()
	if first.StatusCode != http.StatusContinue {
		t.Fatalf("the first answer is %s", first.Status)
	}
	_, err = io.WriteString(asking, "abc")
	must(t, err)
	for _, from := range []*bufio.Reader{br, bufio.NewReader(trailing)} {
		res, err := http.ReadResponse(from, nil)
		must(t, err)
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		e := decode(t, answer{status: res.StatusCode, body: string(body), err: err})
		if e.Body != "abc" || res.Header.Get("Side") != "target" {
			t.Errorf("%s answered with body %q", res.Header.Get("Side"), e.Body)
		}
		if from != br && e.Trailer.Get("Sum") != "42" {
			t.Errorf("trailers %v", e.Trailer)
		}
	}
}
