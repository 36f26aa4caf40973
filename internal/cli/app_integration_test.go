package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"dhow/internal/cutover"
)

// application is a service on both sides that books an entry for each request,
// and clients that send one after the other through the gate and write down what
// they were told.
type application struct {
	stage    *stage
	database string
	servers  map[cutover.Side]*httptest.Server
	pools    map[cutover.Side]*pgxpool.Pool

	gate    string
	clients sync.WaitGroup
	stop    context.CancelFunc

	mu     sync.Mutex
	acked  []string
	failed []string
}

func newApplication(t *testing.T, s *stage, database string) *application {
	t.Helper()
	a := &application{stage: s, database: database, servers: map[cutover.Side]*httptest.Server{}, pools: map[cutover.Side]*pgxpool.Pool{}}
	for _, side := range []cutover.Side{cutover.Source, cutover.Target} {
		cfg, err := pgxpool.ParseConfig(s.server(side).URL(database))
		if err != nil {
			t.Fatal(err)
		}
		cfg.MaxConns = 4
		pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		a.pools[side] = pool
		a.servers[side] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.book(w, r, side) }))
		t.Cleanup(func() { a.servers[side].Close(); pool.Close() })
	}
	return a
}

// book books an entry, in the database of the side that was asked.
func (a *application) book(w http.ResponseWriter, r *http.Request, side cutover.Side) {
	_, err := a.pools[side].Exec(r.Context(), "INSERT INTO entries (key, account, amount) VALUES ($1, 1 + $2 % 500, 1)", r.FormValue("key"), len(r.FormValue("key")))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Side", string(side))
	w.WriteHeader(http.StatusCreated)
}

// estate is the gate's part of an estate file, on an address that nobody else gets.
func (a *application) estate(t *testing.T) string {
	t.Helper()
	a.gate = net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
	return fmt.Sprintf("gate:\n  listen: %s\n  routes:\n    - {name: entries, source: %q, target: %q}\n", a.gate, a.servers[cutover.Source].URL, a.servers[cutover.Target].URL)
}

// traffic begins to send requests.
func (a *application) traffic(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	t.Cleanup(func() { stop(); a.clients.Wait() })
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	const clients = 4
	for c := range clients {
		a.clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("client-%d-%d", c, n)
				err := send(client, a.gate, key)
				a.mu.Lock()
				if err != nil {
					a.failed = append(a.failed, key+": "+err.Error())
				} else {
					a.acked = append(a.acked, key)
				}
				a.mu.Unlock()
				time.Sleep(20 * time.Millisecond) // the rate
			}
		})
	}
}

// send is not cancelled: a client wants its answer.
func send(client *http.Client, gate, key string) error {
	res, err := client.Post("http://"+gate+"/?key="+key, "text/plain", strings.NewReader(""))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusCreated {
		err = errors.Join(err, fmt.Errorf("%s: %s", res.Status, text))
	}
	return err
}

// flows waits until so many more requests have been answered.
func (a *application) flows(t *testing.T, more int) {
	t.Helper()
	count := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.acked)
	}
	before := count()
	eventually(t, fmt.Sprintf("%d more requests are answered", more), func() bool { return count() >= before+more })
}

// judge ends the traffic, and compares what clients were told with what a side holds.
func (a *application) judge(t *testing.T, serving cutover.Side) {
	t.Helper()
	a.stop()
	a.clients.Wait()
	for _, f := range a.failed {
		t.Errorf("a request failed: %s", f)
	}
	booked := map[string]bool{}
	for _, key := range a.stage.list(t, serving, a.database, "SELECT key FROM entries WHERE key LIKE 'client-%'") {
		booked[key] = true
	}
	lost := 0
	for _, key := range a.acked {
		if !booked[key] {
			lost++
		}
	}
	if lost > 0 || len(booked) != len(a.acked) {
		t.Errorf("%d entries were acknowledged, %d are at the %s, %d of those acknowledged are lost", len(a.acked), len(booked), serving, lost)
	}
	t.Logf("%d requests", len(a.acked))
}
