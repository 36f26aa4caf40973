package gate_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"dhow/internal/estate"
	"dhow/internal/gate"
)

// echo answers with what it was sent, as JSON.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"method": r.Method, "host": r.Host, "uri": r.RequestURI, "header": r.Header, "trailer": r.Trailer,
		"body": string(body), "length": r.ContentLength, "proto": r.Proto, "encoding": r.TransferEncoding,
	})
}

type echoed struct {
	Method, Host, URI, Body, Proto string
	Header, Trailer                http.Header
	Length                         int64
	Encoding                       []string
}

func decode(t *testing.T, a answer) echoed {
	t.Helper()
	var e echoed
	if a.err != nil || a.status != http.StatusOK {
		t.Fatalf("status %d, error %v: %s", a.status, a.err, a.body)
	}
	must(t, json.Unmarshal([]byte(a.body), &e))
	return e
}

func TestRequestPassesAsItIs(t *testing.T) {
	l := newLab(t, echo, nil)
	c := newClient(t)
	r := request(t, http.MethodPatch, l.url+"/a%2Fb//c/../d?x=1;y=%zz&z", strings.NewReader("some text"))
	r.Host = "bank.example:8443"
	r.Header = http.Header{
		"X-Forwarded-For": {"203.0.113.7, 198.51.100.2"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=203.0.113.7;proto=https"},
		"Connection": {"close, X-Private"}, "X-Private": {"1"}, "Keep-Alive": {"timeout=5"}, "Proxy-Authorization": {"secret"}, "Te": {"trailers, deflate"},
		"X-Many": {"1", "2"}, "Cookie": {"a=b"}, "Accept-Encoding": {"br"}, "User-Agent": {"test"}, "Idempotency-Key": {"k1"},
	}
	e := decode(t, do(c, r))
	if e.Method != http.MethodPatch || e.Host != "bank.example:8443" || e.Body != "some text" || e.Length != 9 || e.URI != "/a%2Fb//c/../d?x=1;y=%zz&z" {
		t.Errorf("passed %+v", e)
	}
	for name, want := range map[string][]string{
		"X-Forwarded-For": {"203.0.113.7, 198.51.100.2, 127.0.0.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"bank.example:8443"},
		"Forwarded": {`for=203.0.113.7;proto=https, for="127.0.0.1";host="bank.example:8443";proto=http`},
		"X-Private": nil, "Keep-Alive": nil, "Proxy-Authorization": nil, "Connection": nil, "Te": {"trailers"},
		"X-Many": {"1", "2"}, "Cookie": {"a=b"}, "Accept-Encoding": {"br"}, "User-Agent": {"test"}, "Idempotency-Key": {"k1"},
	} {
		if !slices.Equal(e.Header[name], want) {
			t.Errorf("%s arrived as %q, want %q", name, e.Header[name], want)
		}
	}

	e = decode(t, get(t, c, l.url+"/plain"))
	if e.Header.Get("X-Forwarded-Proto") != "http" || e.Header.Get("X-Forwarded-For") != "127.0.0.1" || e.Header["Forwarded"] != nil || e.Header["Idempotency-Key"] != nil {
		t.Errorf("a first proxy's headers are %v", e.Header)
	}
	if e.Header.Get("Accept-Encoding") != "" {
		t.Errorf("the gate asks for an encoding of its own: %v", e.Header)
	}
}

func TestFramingIsKept(t *testing.T) {
	l := newLab(t, echo, nil)
	for _, tc := range []struct {
		name, request string
		length        int64
		body          string
	}{
		{"no body", "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 0, ""},
		{"length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", 3, "abc"},
		{"chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n", -1, "abc"},
		{"keyed without a body", "POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nConnection: close\r\n\r\n", 0, ""},
		{"HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", 3, "abc"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn := raw(t, l.gate.Addrs().Data, tc.request)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			must(t, err)
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			e := decode(t, answer{status: res.StatusCode, body: string(body), err: err})
			if e.Length != tc.length || e.Body != tc.body {
				t.Errorf("length %d, body %q arrived; want %d, %q", e.Length, e.Body, tc.length, tc.body)
			}
		})
	}
}

func TestTrailersPassBothWays(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Announced")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("Announced", "sum "+r.Trailer.Get("Sum"))
		w.Header().Set(http.TrailerPrefix+"Late", "yes")
	}
	for _, h2c := range []bool{false, true} {
		l := newLab(t, handler, func(c *gate.Config) { c.Routes[0].H2C = h2c })
		for name, client := range map[string]*http.Client{"HTTP/1.1": newClient(t), "h2c": newH2CClient(t)} {
			t.Run(fmt.Sprintf("%s, upstream h2c %v", name, h2c), func(t *testing.T) {
				r := request(t, http.MethodPost, l.url, io.MultiReader(strings.NewReader("some"), strings.NewReader("thing")))
				r.Trailer = http.Header{"Sum": {"42"}}
				a := do(client, r)
				want(t, a, estate.Source)
				if a.body != "body" || a.trailer.Get("Announced") != "sum 42" || a.trailer.Get("Late") != "yes" {
					t.Errorf("body %q, trailers %v", a.body, a.trailer)
				}
			})
		}
	}
}

func TestProtocols(t *testing.T) {
	for _, upstream := range []bool{false, true} {
		l := newLab(t, echo, func(c *gate.Config) { c.Routes[0].H2C = upstream })
		want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[upstream]
		for name, client := range map[string]*http.Client{"HTTP/1.1": newClient(t), "h2c": newH2CClient(t)} {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				r := request(t, method, l.url+"/", nil)
				r.Header.Set("Idempotency-Key", "k")
				if e := decode(t, do(client, r)); e.Proto != want || e.Header.Get("Idempotency-Key") != "k" {
					t.Errorf("%s by %s arrived by %s (%v), want %s", method, name, e.Proto, e.Header, want)
				}
			}
			large := strings.Repeat("x", 3<<20)
			if e := decode(t, do(client, request(t, http.MethodPut, l.url+"/", strings.NewReader(large)))); e.Body != large {
				t.Errorf("%d bytes of a large body arrived by %s", len(e.Body), name)
			}
		}
	}
}

// A conversation in one request and its answer: each side waits for the other's next word.
func TestBodiesStreamBothWays(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		words := bufio.NewScanner(r.Body)
		for words.Scan() {
			_, _ = fmt.Fprintf(w, "%s!\n", words.Text())
			_ = rc.Flush()
		}
	}
	for _, h2c := range []bool{false, true} {
		l := newLab(t, handler, func(c *gate.Config) { c.Routes[0].H2C = h2c })
		for name, client := range map[string]*http.Client{"HTTP/1.1": newClient(t), "h2c": newH2CClient(t)} {
			t.Run(fmt.Sprintf("%s, upstream h2c %v", name, h2c), func(t *testing.T) {
				out, in := io.Pipe()
				defer in.Close()
				said := make(chan error, 1)
				go func() { _, err := io.WriteString(in, "one\n"); said <- err }()
				res, err := client.Do(request(t, http.MethodPost, l.url, out))
				must(t, err)
				defer res.Body.Close()
				must(t, <-said)
				answers := bufio.NewReader(res.Body)
				for _, word := range []string{"one", "two", "three"} {
					if word != "one" {
						_, err := io.WriteString(in, word+"\n")
						must(t, err)
					}
					if line, err := answers.ReadString('\n'); err != nil || line != word+"!\n" {
						t.Fatalf("answer to %s: %q, %v", word, line, err)
					}
				}
				must(t, in.Close())
				if rest, err := io.ReadAll(answers); err != nil || len(rest) > 0 {
					t.Fatalf("at the end: %q, %v", rest, err)
				}
			})
		}
	}
}

func TestLargeBodiesPassWhole(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(io.MultiWriter(h, w), r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_ = n
		w.Header().Set(http.TrailerPrefix+"Sum", hex.EncodeToString(h.Sum(nil)))
	}, nil)
	data := make([]byte, 16<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	sum := sha256.Sum256(data)
	for name, client := range map[string]*http.Client{"HTTP/1.1": newClient(t), "h2c": newH2CClient(t)} {
		a := do(client, request(t, http.MethodPost, l.url, bytes.NewReader(data)))
		if a.err != nil || a.body != string(data) || a.trailer.Get("Sum") != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %d bytes came back, sum %q, error %v", name, len(a.body), a.trailer.Get("Sum"), a.err)
		}
	}
}

func TestEventStreamIsFlushedAtOnce(t *testing.T) {
	next := make(chan string)
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		_ = rc.Flush()
		for {
			select {
			case text, ok := <-next:
				if !ok {
					return
				}
				_, _ = fmt.Fprintf(w, "data: %s\n\n", text)
				_ = rc.Flush()
			case <-r.Context().Done():
				return
			}
		}
	}, nil)
	res, err := newClient(t).Do(request(t, http.MethodGet, l.url+"/events", nil))
	must(t, err)
	defer res.Body.Close()
	events := bufio.NewReader(res.Body)
	for i := range 5 {
		next <- strconv.Itoa(i)
		line, err := events.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q, %v", i, line, err)
		}
		_, _ = events.ReadString('\n')
	}
	if s := l.status(t); s.LongLived != 1 || s.InFlight != 0 {
		t.Errorf("an open event stream counts as %d long-lived and %d in flight", s.LongLived, s.InFlight)
	}
	close(next)
	if rest, err := io.ReadAll(events); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
}

// Part of an answer of known length goes on without waiting for the rest.
func TestSlowAnswerOfKnownLengthStreams(t *testing.T) {
	goOn := make(chan struct{})
	l := newLab(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		<-goOn
		_, _ = io.WriteString(w, "b")
	}, nil)
	res, err := newClient(t).Do(request(t, http.MethodGet, l.url, nil))
	must(t, err)
	defer res.Body.Close()
	one := make([]byte, 1)
	_, err = io.ReadFull(res.Body, one)
	must(t, err)
	close(goOn)
	rest, err := io.ReadAll(res.Body)
	must(t, err)
	if string(one)+string(rest) != "ab" {
		t.Errorf("%q, then %q", one, rest)
	}
}

func echoSocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, text, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, append([]byte(w.Header().Get("Side")+":"), text...)); err != nil {
			return
		}
	}
}

func dialSocket(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	c, _, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1), &websocket.DialOptions{HTTPClient: newClientWithoutTimeout(t)})
	must(t, err)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func newClientWithoutTimeout(t *testing.T) *http.Client {
	c := newClient(t)
	c.Timeout = 0
	return c
}

func say(t *testing.T, c *websocket.Conn, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, c.Write(ctx, websocket.MessageText, []byte(text)))
	_, got, err := c.Read(ctx)
	must(t, err)
	return string(got)
}

func TestWebSocketPasses(t *testing.T) {
	for _, h2c := range []bool{false, true} {
		l := newLab(t, echoSocket, func(c *gate.Config) { c.Routes[0].H2C = h2c })
		c := dialSocket(t, l.url+"/socket")
		for i := range 10 {
			if got := say(t, c, strconv.Itoa(i)); got != "source:"+strconv.Itoa(i) {
				t.Fatalf("message %d came back as %q", i, got)
			}
		}
		if s := l.status(t); s.LongLived != 1 || s.InFlight != 0 {
			t.Errorf("an open WebSocket counts as %d long-lived and %d in flight", s.LongLived, s.InFlight)
		}
		must(t, c.Close(websocket.StatusNormalClosure, ""))
		await(t, "the end of the WebSocket", func() bool { return l.gate.Status().LongLived == 0 })
	}
}

func TestExpectContinueIsTheUpstreams(t *testing.T) {
	var asked sync.WaitGroup
	asked.Add(1)
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Refuse") != "" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		echo(w, r)
	}, nil)
	conn := raw(t, l.gate.Addrs().Data, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, nil)
	must(t, err)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusContinue {
		t.Fatalf("first answer %s, want 100", res.Status)
	}
	_, err = io.WriteString(conn, "abc")
	must(t, err)
	if res, err = http.ReadResponse(br, nil); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("second answer %v, %v", res, err)
	}
	_ = res.Body.Close()

	conn = raw(t, l.gate.Addrs().Data, "POST / HTTP/1.1\r\nHost: a\r\nRefuse: 1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	res, err = http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusExpectationFailed {
		t.Fatalf("answer %s, want 417 and no 100 before it", res.Status)
	}
}

// An answer that comes before the whole request is passed on at once, and the
// rest of the request is not taken for the next one.
func TestEarlyAnswer(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_ = http.NewResponseController(w).EnableFullDuplex() // else this server reads on before it answers
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		echo(w, r)
	}, nil)
	for name, head := range map[string]string{
		"length":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nGET /smuggled HTTP/1.1\r\n",
		"chunked": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nGET /smuggled HTTP/1.1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := raw(t, l.gate.Addrs().Data, head)
			br := bufio.NewReader(conn)
			res, err := http.ReadResponse(br, nil)
			must(t, err)
			_ = res.Body.Close()
			if res.StatusCode != http.StatusRequestEntityTooLarge || !res.Close {
				t.Fatalf("answer %s, closing %v; want 413 and the connection's end", res.Status, res.Close)
			}
			_, _ = io.WriteString(conn, "Host: a\r\n\r\n")
			_ = conn.(*net.TCPConn).CloseWrite()
			if rest, _ := io.ReadAll(br); len(rest) > 0 {
				t.Errorf("another answer came: %q", rest)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	type place struct{ host, path string }
	places := map[string]place{"root": {"", "/"}, "pay": {"", "/pay"}, "deep": {"", "/pay/deep"}, "shop": {"shop.example", "/"}, "six": {"::1", "/only"}}
	app := newApplication(t, estate.Source, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	cfg := config(t, app.url, app.url)
	cfg.Routes = nil
	for name, p := range places {
		cfg.Routes = append(cfg.Routes, estate.Route{Name: name, Host: p.host, Path: p.path, Source: app.url + "/" + name, Target: app.url})
	}
	g, _ := serve(t, cfg)
	c := newClient(t)
	for _, tc := range []struct{ host, path, want string }{
		{"any.example", "/", "/root/"}, {"any.example", "", "/root/"}, {"any.example", "/payments", "/root/payments"},
		{"any.example", "/pay", "/pay/pay"}, {"any.example", "/pay/", "/pay/pay/"}, {"any.example", "/pay/x", "/pay/pay/x"}, {"any.example", "/pay/deeper", "/pay/pay/deeper"},
		{"any.example", "/pay/deep", "/deep/pay/deep"}, {"any.example", "/pay/deep/er", "/deep/pay/deep/er"},
		{"shop.example", "/pay", "/shop/pay"}, {"SHOP.example:99", "/pay/deep", "/shop/pay/deep"}, {"shop.example.", "/", "/shop/"},
		{"[::1]:80", "/only/x", "/six/only/x"}, {"[::1]", "/pay", "/pay/pay"},
	} {
		r := request(t, http.MethodGet, "http://"+g.Addrs().Data+tc.path, nil)
		r.Host = tc.host
		if a := do(c, r); a.err != nil || a.body != tc.want {
			t.Errorf("%s%s went to %q (%v), want %q", tc.host, tc.path, a.body, a.err, tc.want)
		}
	}
}

func TestNoRoute(t *testing.T) {
	l := newLab(t, nil, func(c *gate.Config) { c.Routes[0].Path = "/pay" })
	a := get(t, newClient(t), l.url+"/other")
	if a.status != http.StatusNotFound || a.header.Get("Content-Type") != "application/json" || !json.Valid([]byte(a.body)) || !strings.Contains(a.body, `"no_route"`) {
		t.Errorf("status %d, %v: %s", a.status, a.header, a.body)
	}
	conn := raw(t, l.gate.Addrs().Data, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("CONNECT was answered %s", res.Status)
	}
}

func TestUpstreamFails(t *testing.T) {
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cut" {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	}, func(c *gate.Config) {
		dead, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		_ = dead.Close()
		c.Routes = append(c.Routes, estate.Route{Name: "dead", Path: "/dead", Source: "http://" + dead.Addr().String(), Target: "http://" + dead.Addr().String()})
	})
	// A gate of its own: an answer that fails must not be late too.
	hung := make(chan struct{})
	defer close(hung)
	hanging := newLab(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hung:
		case <-r.Context().Done():
		}
	}, func(c *gate.Config) { c.AnswerTime = 100 * time.Millisecond })
	c := newClient(t)
	for _, tc := range []struct {
		url    string
		status int
		code   string
	}{
		{l.url + "/dead", http.StatusBadGateway, "unreachable"}, {l.url + "/break", http.StatusBadGateway, "no_answer"}, {hanging.url, http.StatusGatewayTimeout, "timeout"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			a := do(c, request(t, method, tc.url, strings.NewReader("order")))
			if a.status != tc.status || !json.Valid([]byte(a.body)) || !strings.Contains(a.body, `"`+tc.code+`"`) {
				t.Errorf("%s %s: status %d, error %v: %s; want %d %s", method, tc.url, a.status, a.err, a.body, tc.status, tc.code)
			}
			if strings.Contains(a.body, "127.0.0.1") {
				t.Errorf("%s tells clients where the upstream is: %s", tc.url, a.body)
			}
		}
	}
	if a := get(t, c, l.url+"/cut"); a.err == nil {
		t.Errorf("half an answer came as a whole one: %q", a.body)
	}
	for g, failures := range map[*gate.Gate]int64{l.gate: 5, hanging.gate: 2} {
		await(t, fmt.Sprintf("%d failures", failures), func() bool { return g.Status().Failures == failures })
		if n := g.Status().InFlight; n != 0 {
			t.Errorf("%d requests are in flight at the end", n)
		}
	}
}

func TestClientGoesAway(t *testing.T) {
	arrived, left := make(chan struct{}, 1), make(chan struct{}, 1)
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		if r.URL.Path == "/endless" {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					break
				}
			}
		} else if _, err := io.Copy(io.Discard, r.Body); err == nil { // a server sees that its client is gone only once the body is read
			<-r.Context().Done()
		}
		left <- struct{}{}
	}, nil)
	for _, path := range []string{"/wait", "/endless"} {
		conn := raw(t, l.gate.Addrs().Data, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		<-arrived
		_ = conn.Close()
		<-left
		l.awaitInFlight(t, 0)
	}
	// Half a body: the client's fault, not the application's.
	conn := raw(t, l.gate.Addrs().Data, "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
	<-arrived
	_ = conn.Close()
	<-left
	l.awaitInFlight(t, 0)
	await(t, "three requests", func() bool { return l.gate.Status().Requests == 3 })
	if n := l.gate.Status().Failures; n != 0 {
		t.Errorf("clients that went away count as %d failures", n)
	}
}
