package gate_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dhow/internal/estate"
	"dhow/internal/gate"
)

// fragile is an upstream by hand: it answers the first request of a connection, and
// of the second it does what the test says, which is what a dying server does.
type fragile struct {
	url     string
	arrived sync.Map // by the header Id: *atomic.Int64, each time that a request came whole
	conns   atomic.Int64
}

func newFragile(t *testing.T, second func(c *net.TCPConn)) *fragile {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f := &fragile{url: "http://" + l.Addr().String()}
	var wait sync.WaitGroup
	open := map[net.Conn]struct{}{}
	var mu sync.Mutex
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.conns.Add(1)
			mu.Lock()
			open[c] = struct{}{}
			mu.Unlock()
			wait.Go(func() { f.serve(c.(*net.TCPConn), second) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wait.Wait()
	})
	return f
}

func (f *fragile) serve(c *net.TCPConn, second func(*net.TCPConn)) {
	defer c.Close()
	in := bufio.NewReader(c)
	for n := 1; ; n++ {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		count, _ := f.arrived.LoadOrStore(r.Header.Get("Id"), &atomic.Int64{})
		count.(*atomic.Int64).Add(1)
		if n == 2 {
			second(c)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSide: source\r\n\r\nok")
	}
}

func (f *fragile) times(id string) int64 {
	count, ok := f.arrived.Load(id)
	if !ok {
		return 0
	}
	return count.(*atomic.Int64).Load()
}

// A write that reached the application is never sent a second time, whatever key it
// carries: the client is told that it is not known what became of it.
func TestWritesAreSentOnce(t *testing.T) {
	for name, die := range map[string]func(*net.TCPConn){
		"closed":           func(*net.TCPConn) {},
		"reset":            func(c *net.TCPConn) { _ = c.SetLinger(0) },
		"half an answer":   func(c *net.TCPConn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConte") },
		"no HTTP":          func(c *net.TCPConn) { _, _ = io.WriteString(c, "SSH-2.0\r\n\r\n") },
		"a 1xx and no end": func(c *net.TCPConn) { _, _ = io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFragile(t, die)
			g, _ := serve(t, config(t, f.url, f.url))
			c := newClient(t)
			for i, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
				for j, body := range []string{"", "order", strings.Repeat("x", 100<<10)} {
					warm := request(t, http.MethodGet, "http://"+g.Addrs().Data, nil)
					want(t, do(c, warm), estate.Source)
					r := request(t, method, "http://"+g.Addrs().Data, strings.NewReader(body))
					id := fmt.Sprint(i, "-", j)
					r.Header = http.Header{"Id": {id}, "idempotency-key": {id}, "x-idempotency-key": {id}}
					if a := do(c, r); a.status != http.StatusBadGateway || !strings.Contains(a.body, `"no_answer"`) {
						t.Errorf("%s with %d bytes: status %d, error %v: %s", method, len(body), a.status, a.err, a.body)
					}
					if n := f.times(id); n != 1 {
						t.Errorf("%s with %d bytes reached the application %d times", method, len(body), n)
					}
				}
			}
		})
	}
}

// A connection that the application closes between two requests costs no read over
// HTTP/1.1, and no write is done twice for it: at worst the client is told that nothing is known.
func TestIdleConnectionsThatDied(t *testing.T) {
	for _, h2c := range []bool{false, true} {
		l := newLab(t, nil, func(c *gate.Config) { c.Routes[0].H2C = h2c })
		c := newClient(t)
		for i := range 20 {
			for range 2 {
				if a := get(t, c, l.url); a.status != http.StatusOK && (!h2c || !strings.Contains(a.body, `"no_answer"`)) {
					t.Errorf("read %d: status %d, error %v: %s", i, a.status, a.err, a.body)
				}
				l.source.closeIdle()
			}
			r := request(t, http.MethodPost, l.url, strings.NewReader("order"))
			id := strconv.Itoa(i)
			r.Header.Set("Id", id)
			r.Header.Set("Idempotency-Key", id)
			a := do(c, r)
			if a.status != http.StatusOK && !strings.Contains(a.body, `"no_answer"`) {
				t.Errorf("order %d: status %d, error %v: %s", i, a.status, a.err, a.body)
			}
			if n := l.source.times(id); n > 1 || n == 0 && a.status == http.StatusOK {
				t.Errorf("order %d was done %d times, and answered with status %d", i, n, a.status)
			}
		}
	}
}
