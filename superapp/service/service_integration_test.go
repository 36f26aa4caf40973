package service_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func nothing(ctx context.Context) error { return service.Migrate(ctx, service.Schema{}) }

func TestWithAServer(t *testing.T) {
	s := pgtest.Start(t, 15)
	for name, test := range map[string]func(*testing.T, *pgserver.Server){"graceful end": gracefulEnd, "readiness": readiness, "edge": edge, "migrate again and at once": migrateAgainAndAtOnce} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

// app is a service with routes that do what a test needs.
func app(routes map[string]service.Handler) func(context.Context, service.Options) error {
	return func(ctx context.Context, o service.Options) error {
		return service.Run(ctx, "app", o, func(service.Base) service.App { return service.App{Routes: routes} })
	}
}

func gracefulEnd(t *testing.T, s *pgserver.Server) {
	url, _ := servicetest.Database(t, s, "graceful", nothing)
	arrived, goOn := make(chan struct{}), make(chan struct{})
	a := servicetest.Start(t, url, service.Options{}, app(map[string]service.Handler{"GET /slow": func(r *http.Request) (service.Answer, error) {
		close(arrived)
		<-goOn
		if err := r.Context().Err(); err != nil {
			return service.Answer{}, err
		}
		return service.JSON(http.StatusOK, map[string]string{"state": "done"})
	}}))
	got := make(chan servicetest.Reply, 1)
	go func() { got <- a.Send("GET /slow", "", "") }()
	<-arrived
	a.Ask()
	servicetest.Await(t, "the end of listening", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(goOn)
	if r := servicetest.Want(t, <-got, http.StatusOK, ""); r.State != "done" {
		t.Errorf("a request in flight at the end: %s", r.Text)
	}
	if err := a.Stop(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

// A service lives while its database does not, says so, and serves when it is back.
func readiness(t *testing.T, s *pgserver.Server) {
	url, _ := servicetest.Database(t, s, "readiness", nothing)
	a := servicetest.Start(t, url, service.Options{}, app(nil))
	servicetest.Want(t, a.Send("GET /readyz", "", ""), http.StatusOK, "")
	s.Kill()
	servicetest.Await(t, "unreadiness", func() bool {
		r := a.Send("GET /readyz", "", "")
		return r.Status == http.StatusServiceUnavailable && r.Code == "unavailable" && !strings.Contains(r.Text, "127.0.0.1")
	})
	servicetest.Want(t, a.Send("GET /healthz", "", ""), http.StatusOK, "")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	servicetest.Await(t, "readiness", func() bool { return a.Send("GET /readyz", "", "").Status == http.StatusOK })
}

// Before the database answers nothing is announced, and an old announcement is gone.
func TestStartWithoutADatabase(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://u:secret@127.0.0.1:1/x")
	file := filepath.Join(t.TempDir(), "address")
	if err := os.WriteFile(file, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listen.Addr().String()
	_ = listen.Close()
	go func() {
		ended <- app(nil)(ctx, service.Options{Needs: service.Needs{Postgres: true}, Listen: address, AddressFile: file, Instance: "i", Pool: 1, LogLevel: "error"})
	}()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: servicetest.Patience}
	servicetest.Await(t, "a service that lives", func() bool {
		res, err := client.Get("http://" + address + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusServiceUnavailable
	})
	if _, err := service.ReadAddress(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is announced: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the end: %v", err)
	}
}

func TestCanNotStart(t *testing.T) {
	ok := service.Options{Needs: service.Needs{Postgres: true}, Listen: "127.0.0.1:0", Instance: "i", Pool: 1, LogLevel: "info"}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		url   string
		edit  func(*service.Options)
		want  string
		usage bool
	}{
		"no database":   {"", func(*service.Options) {}, "DATABASE_URL is not set", false},
		"odd database":  {"postgres://u:secret@h:port/x", func(*service.Options) {}, "no connection string", false},
		"no pool":       {"postgres://127.0.0.1:1/x", func(o *service.Options) { o.Pool = 0 }, "--pool is 0", true},
		"odd limit":     {"postgres://127.0.0.1:1/x", func(o *service.Options) { o.RateLimit = -1 }, "--rate-limit is -1", true},
		"large pool":    {"postgres://127.0.0.1:1/x", func(o *service.Options) { o.Pool = 201 }, "--pool is 201", true},
		"no instance":   {"postgres://127.0.0.1:1/x", func(o *service.Options) { o.Instance = "" }, "--instance", true},
		"odd level":     {"postgres://127.0.0.1:1/x", func(o *service.Options) { o.LogLevel = "loud" }, "--log-level", true},
		"address taken": {"postgres://127.0.0.1:1/x", func(o *service.Options) { o.Listen = taken.Addr().String() }, "listen on", false},
	} {
		t.Setenv("DATABASE_URL", c.url)
		o := ok
		c.edit(&o)
		err := app(nil)(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		var coded interface{ ExitCode() int }
		if errors.As(err, &coded) != c.usage || c.usage && coded.ExitCode() != 2 {
			t.Errorf("%s: is it a mistake of the call? %v", name, err)
		}
	}
	t.Setenv("DATABASE_URL", "postgres://u:secret@127.0.0.1:1/x")
	if err := nothing(t.Context()); err == nil || !strings.Contains(err.Error(), "check DATABASE_URL") || strings.Contains(err.Error(), "secret") {
		t.Errorf("a migration without a server: %v", err)
	}
}

func edge(t *testing.T, s *pgserver.Server) {
	url, _ := servicetest.Database(t, s, "edge", nothing)
	cause := errors.New("a cause with secrets")
	a := servicetest.Start(t, url, service.Options{LogLevel: "error"}, app(map[string]service.Handler{
		"GET /panic":  func(*http.Request) (service.Answer, error) { panic("secrets") },
		"GET /defect": func(*http.Request) (service.Answer, error) { return service.Answer{}, cause },
		"GET /away":   func(*http.Request) (service.Answer, error) { return service.Answer{}, service.Unavailable(cause) },
		"GET /late": func(*http.Request) (service.Answer, error) {
			return service.Answer{}, fmt.Errorf("x: %w", context.DeadlineExceeded)
		},
		"GET /id": func(r *http.Request) (service.Answer, error) {
			return service.JSON(http.StatusOK, map[string]string{"state": service.RequestID(r.Context())})
		},
		"POST /body": func(r *http.Request) (service.Answer, error) {
			v, err := service.Decode[struct {
				N int64 `json:"n"`
			}](r)
			if err != nil {
				return service.Answer{}, err
			}
			return service.JSON(http.StatusOK, v)
		},
	}))
	for what, want := range map[string]struct {
		status int
		code   string
	}{"GET /panic": {500, "internal"}, "GET /defect": {500, "internal"}, "GET /away": {503, "unavailable"}, "GET /late": {503, "unavailable"}} {
		r := servicetest.Want(t, a.Send(what, "", ""), want.status, want.code)
		if strings.Contains(r.Text, "secrets") || (r.Header.Get("Retry-After") != "") != (want.status == 503) || r.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %v %s", what, r.Header, r.Text)
		}
	}
	for given, kept := range map[string]bool{"order-1": true, "": false, strings.Repeat("x", 65): false, "a b": false} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/id", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Request-Id", given)
		transport := &http.Transport{}
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		transport.CloseIdleConnections()
		id := res.Header.Get("X-Request-Id")
		if (id == given) != kept || id == "" || !strings.Contains(string(text), id) {
			t.Errorf("the id %q became %q: %s", given, id, text)
		}
	}
	for body, want := range map[string]string{`{"n":"x"}`: "whole number", `{"n":1}x`: "something follows", ``: "empty", `{"m":1}`: "unknown field"} {
		if r := servicetest.Want(t, a.Send("POST /body", "", body), http.StatusBadRequest, "invalid_request"); !strings.Contains(r.Error, want) {
			t.Errorf("%q: %s, want %q", body, r.Error, want)
		}
	}
	page := a.Send("GET /metrics", "", "").Text
	for _, line := range []string{`superapp_http_request_seconds_count{route="GET /panic",status="500"} 1`, `superapp_http_request_seconds_count{route="POST /body",status="400"} 4`, "superapp_pool_connections "} {
		if !strings.Contains(page, line) {
			t.Errorf("no %s", line)
		}
	}
}

func migrateAgainAndAtOnce(t *testing.T, s *pgserver.Server) {
	t.Setenv("DATABASE_URL", pgtest.Database(t, s, "migrate"))
	ended := make(chan error, 4)
	for range cap(ended) {
		go func() {
			ended <- service.Migrate(t.Context(), service.Schema{SQL: "CREATE TABLE IF NOT EXISTS a (x int)"})
		}()
	}
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if err := service.Migrate(t.Context(), service.Schema{SQL: "CREATE TABLE b (x int); CREATE TABLE a (x int)"}); err == nil {
		t.Error("a schema that can not be made was made")
	}
	if err := s.Exec(t.Context(), "migrate", "CREATE TABLE b (x int)"); err != nil {
		t.Errorf("half a schema stayed: %v", err)
	}
}
