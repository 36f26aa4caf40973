// Package servicetest runs the application's services in tests, each on a
// database of its own, and asks them over HTTP as clients do.
package servicetest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
	"dhow/superapp/service"
)

// Patience bounds every wait for something that has to come, on a loaded machine too.
const Patience = 30 * time.Second

// databaseVariable is how services are told their database.
const databaseVariable = "DATABASE_URL"

// Database makes a database with a schema and a pool on it for the test's own looks.
func Database(t *testing.T, s *pgserver.Server, name string, migrate func(context.Context) error) (url string, db *pgxpool.Pool) {
	t.Helper()
	url = pgtest.Database(t, s, name)
	t.Setenv(databaseVariable, url)
	if err := migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return url, db
}

// Service is one that runs in this process.
type Service struct {
	URL string
	// Stop asks for a graceful end, waits for it, and says how it went. It may be called again.
	Stop func() error
	// Ask ends it without waiting.
	Ask  func()
	http *http.Client
}

// Start runs a service until the test ends; database, unless it is empty, is the
// one of PostgreSQL that it is told of.
func Start(t *testing.T, database string, o service.Options, run func(context.Context, service.Options) error) *Service {
	t.Helper()
	if database != "" {
		t.Setenv(databaseVariable, database)
		o.Needs.Postgres = true
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Instance == "" {
		o.Instance = "source"
	}
	if o.Pool == 0 {
		o.Pool = 8
	}
	if o.LogLevel == "" {
		o.LogLevel = "error"
	}
	o.AddressFile = filepath.Join(t.TempDir(), "address")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, o) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	s := &Service{http: &http.Client{Transport: transport, Timeout: Patience}, Ask: cancel, Stop: sync.OnceValue(func() error {
		cancel()
		return <-ended
	})}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.Stop(); err != nil {
			t.Errorf("the service ended with: %v", err)
		}
	})
	Await(t, "the service", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the service did not start: %v", err)
		default:
		}
		address, err := service.ReadAddress(o.AddressFile)
		s.URL = "http://" + address
		return err == nil
	})
	return s
}

// Await waits until something holds.
func Await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for: %s", Patience, what)
		}
	}
}

// Reply is what came back.
type Reply struct {
	Status   int
	Text     string
	Replayed bool
	Err      error

	// What answers hold; what one does not hold is empty.
	ID          int64           `json:"id"`
	State       string          `json:"state"`
	Code        string          `json:"code"`
	Error       string          `json:"error"`
	Payment     int64           `json:"payment"`
	Transfer    json.RawMessage `json:"transfer"`
	Balance     int64           `json:"balance"`
	Version     int64           `json:"version"`
	FromBalance int64           `json:"from_balance"`
	FromVersion int64           `json:"from_version"`
	Header      http.Header     `json:"-"`
}

// Send sends a request: "POST /transfers", under a key if it is not empty.
func (s *Service) Send(what, key, body string) Reply {
	method, path, _ := strings.Cut(what, " ")
	r, err := http.NewRequest(method, s.URL+path, strings.NewReader(body)) //nolint:noctx // the client's time bounds it
	if err != nil {
		return Reply{Err: err}
	}
	if key != "" {
		r.Header["idempotency-key"] = []string{key} // so that nothing is repeated behind the test's back
	}
	res, err := s.http.Do(r)
	if err != nil {
		return Reply{Err: err}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	a := Reply{Status: res.StatusCode, Text: string(text), Replayed: res.Header.Get("Idempotency-Replayed") == "true", Err: err, Header: res.Header}
	_ = json.Unmarshal(text, &a) // metrics are no JSON
	return a
}

// Want fails unless a reply has a status and, for a refusal, a code.
func Want(t *testing.T, a Reply, status int, code string) Reply {
	t.Helper()
	if a.Err != nil || a.Status != status || a.Code != code {
		t.Fatalf("status %d, code %q, error %v: %s; want %d %q", a.Status, a.Code, a.Err, a.Text, status, code)
	}
	return a
}
