package gate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dhow/internal/cutover"
	"dhow/internal/estate"
	"dhow/internal/gate"
)

// The cutover steers a gate through a client.
var _ cutover.Gate = (*gate.Client)(nil)

// childConfig is the environment variable that makes this binary a gate of its
// own, for the tests that kill one.
const childConfig = "GATE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childConfig); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}

// child runs a gate until it is killed or told to stop.
func child(path string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	text, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var cfg gate.Config
	if err := json.Unmarshal(text, &cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	g, err := gate.New(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := g.Serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// patience bounds every wait for something that has to come, on a loaded machine too.
const patience = 30 * time.Second

// application is one side of an application: a real server that says which side
// it is, and remembers whom it answered.
type application struct {
	side estate.Side
	url  string
	// closeIdle closes the connections that nobody uses at the moment.
	closeIdle func()

	mu   sync.Mutex
	seen map[string]int // by the header Id
}

// newApplication starts a side. Without a handler it answers with its name.
func newApplication(t testing.TB, side estate.Side, handler http.HandlerFunc) *application {
	t.Helper()
	a := &application{side: side, seen: map[string]int{}}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get("Id"); id != "" {
			a.mu.Lock()
			a.seen[id]++
			a.mu.Unlock()
		}
		w.Header().Set("Side", string(side))
		if handler != nil {
			handler(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, string(side))
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.Start()
	t.Cleanup(s.Close)
	a.url, a.closeIdle = s.URL, s.CloseClientConnections
	return a
}

func (a *application) times(id string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[id]
}

// lab is a running gate before an application on two sides.
type lab struct {
	*gate.Client
	gate           *gate.Gate
	cfg            gate.Config
	url            string
	source, target *application
	stop           func() error
}

// newLab starts all of it; handler may be nil. edit may change the gate's configuration.
func newLab(t testing.TB, handler http.HandlerFunc, edit func(*gate.Config)) *lab {
	t.Helper()
	l := &lab{source: newApplication(t, estate.Source, handler), target: newApplication(t, estate.Target, handler)}
	l.cfg = config(t, l.source.url, l.target.url)
	if edit != nil {
		edit(&l.cfg)
	}
	l.gate, l.stop = serve(t, l.cfg)
	l.url = "http://" + l.gate.Addrs().Data
	l.Client = gate.Dial(l.gate.Addrs().Control, l.cfg.Token)
	return l
}

// config is a gate with one route for all, in a folder with a short path.
func config(t testing.TB, source, target string) gate.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "gate") //nolint:usetesting // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return gate.Config{
		Listen: "127.0.0.1:0", Control: filepath.Join(dir, "gate.sock"), State: filepath.Join(dir, "gate.json"),
		Routes:   []estate.Route{{Name: "all", Path: "/", Source: source, Target: target}},
		StopTime: patience,
	}
}

// serve runs a gate in this process until the test ends or stop is called.
func serve(t testing.TB, cfg gate.Config) (*gate.Gate, func() error) {
	t.Helper()
	g, err := gate.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the gate stopped with: %v", err)
		}
	})
	select {
	case <-g.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatalf("the gate did not start: %v", err)
	}
	return g, stop
}

// newClient is a client of HTTP/1.1 with connections of its own.
func newClient(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// newH2CClient speaks HTTP/2 in the clear.
func newH2CClient(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// answer is what came back.
type answer struct {
	status  int
	body    string
	header  http.Header
	trailer http.Header
	err     error
}

func do(c *http.Client, r *http.Request) answer {
	res, err := c.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, string(body), res.Header, res.Trailer, err}
}

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func get(t testing.TB, c *http.Client, url string) answer {
	t.Helper()
	return do(c, request(t, http.MethodGet, url, nil))
}

// later asks in the background.
func later(t testing.TB, c *http.Client, r *http.Request) <-chan answer {
	t.Helper()
	ch := make(chan answer, 1)
	go func() { ch <- do(c, r) }()
	return ch
}

// want fails unless an answer is a 200 of a side.
func want(t testing.TB, a answer, side estate.Side) {
	t.Helper()
	if a.err != nil || a.status != http.StatusOK || a.header.Get("Side") != string(side) {
		t.Fatalf("answer: status %d of side %q, error %v, body %.200q; want 200 of %s", a.status, a.header.Get("Side"), a.err, a.body, side)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits until something holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// status asks the gate itself.
func (l *lab) status(t testing.TB) gate.Status {
	t.Helper()
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (l *lab) awaitHeld(t testing.TB, n int64) {
	t.Helper()
	await(t, fmt.Sprintf("%d held requests", n), func() bool { return l.gate.Status().Held == n })
}

func (l *lab) awaitInFlight(t testing.TB, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%d requests in flight", n), func() bool { return l.gate.Status().InFlight == n })
}

// raw sends bytes over a connection of its own.
func raw(t testing.TB, address, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	if _, err := io.WriteString(c, text); err != nil && !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
	return c
}
