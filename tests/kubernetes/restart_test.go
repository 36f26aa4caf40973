// Package kubernetes runs the application in the pods of two real clusters: as it
// was deployed carelessly, and as it should be.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dhow/internal/demo"
	"dhow/internal/demo/kube"
	"dhow/internal/demo/kube/kubetest"
	"dhow/internal/estate"
	"dhow/internal/programtest"
	"dhow/superapp/deploy"
	"dhow/superapp/fleet"
)

const (
	// within bounds everything here: two clusters, their images and their pods.
	within = 10 * time.Minute
	// clients send one request after the other.
	clients = 8
	// calm is how many requests must have been answered before and behind a restart.
	calm = 200
)

// build makes the programs and returns their folder.
func build(t *testing.T) string {
	t.Helper()
	kubetest.Require(t, kube.Check)
	return programtest.Build(t, "dhow/cmd/dhow", "dhow/cmd/image", "dhow/superapp/cmd/superapp")
}

// A rolling restart under traffic fails requests with the old deployment, which has
// one replica, no readiness and no time to leave, and none with what is planned for it.
func TestRollingRestartUnderTraffic(t *testing.T) {
	programs := build(t)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	dir, err := os.MkdirTemp("", "restart") //nolint:usetesting // t.TempDir's are too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	harbour, err := demo.OpenHarbour(ctx, dir, func(format string, args ...any) { t.Logf(format, args...) }, estate.Source, estate.Target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := harbour.Close(); err != nil {
			t.Error(err)
		}
	})
	superapp := filepath.Join(programs, "superapp")
	stage, err := demo.NewStage(ctx, demo.StageConfig{Dir: filepath.Join(dir, "stage"), Dhow: filepath.Join(programs, "dhow"), Superapp: superapp,
		From: 15, To: 15, Accounts: 1000, Entries: 4000, Whole: true, Places: harbour.Places()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stage.Close(); err != nil {
			t.Error(err)
		}
	})
	// Nothing moves here: the target gets databases of its own.
	if err := fleet.Migrate(ctx, superapp, fleet.Services(), stage.Stores(estate.Target)); err != nil {
		t.Fatal(err)
	}
	if err := stage.Stores(estate.Target).Seed(ctx, superapp, "--accounts", "1000", "--entries", "4000"); err != nil {
		t.Fatal(err)
	}
	if err := stage.StartServices(ctx, estate.Target); err != nil {
		t.Fatal(err)
	}
	failed := map[estate.Side]int64{}
	for _, side := range []estate.Side{estate.Source, estate.Target} {
		l := newLoad("http://" + harbour.Places()[side].Address(fleet.Accounts))
		l.start(ctx)
		l.await(t)
		if err := kube.Restart(ctx, harbour.Kubeconfig(side), deploy.Namespace, fleet.Accounts); err != nil {
			t.Fatal(err)
		}
		if _, err := kube.AwaitReady(ctx, harbour.Kubeconfig(side), deploy.Namespace); err != nil {
			t.Fatal(err)
		}
		l.await(t)
		l.stop()
		failed[side] = l.failed.Load()
		t.Logf("the %s: %d requests answered, %d failed over the restart: %s", side, l.answered.Load(), l.failed.Load(), l.first())
	}
	if failed[estate.Source] == 0 {
		t.Error("the old deployment failed no request: it should")
	}
	if failed[estate.Target] != 0 {
		t.Error("the new deployment failed requests")
	}
}

// load sends transfers and reads, one after the other, and counts.
type load struct {
	base             string
	http             *http.Client
	answered, failed atomic.Int64
	end              context.CancelFunc
	running          sync.WaitGroup
	mu               sync.Mutex
	why              error
}

func newLoad(base string) *load {
	return &load{base: base, http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: clients}}}
}

func (l *load) start(ctx context.Context) {
	ctx, l.end = context.WithCancel(ctx)
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	for c := range clients {
		l.running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := l.one(ctx, fmt.Sprintf("%s-%d-%d", run, c, n), n%2 == 0)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					l.failed.Add(1)
					l.mu.Lock()
					if l.why == nil {
						l.why = err
					}
					l.mu.Unlock()
				default:
					l.answered.Add(1)
				}
			}
		})
	}
}

// one sends a transfer or a read; accounts 6 and 11 are of the first currency.
func (l *load) one(ctx context.Context, key string, write bool) error {
	method, path, body := http.MethodGet, "/accounts/6", ""
	if write {
		method, path, body = http.MethodPost, "/transfers", `{"from":1,"to":6,"amount":1,"currency":"AED","reference":"restart"}`
	}
	req, err := http.NewRequestWithContext(ctx, method, l.base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if write {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := l.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode >= http.StatusInternalServerError {
		return errors.New(res.Status)
	}
	return nil
}

// await returns once some more requests were answered.
func (l *load) await(t *testing.T) {
	t.Helper()
	until := l.answered.Load() + calm
	for end := time.Now().Add(time.Minute); l.answered.Load() < until; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no answers: %s", l.first())
		}
	}
}

func (l *load) stop() {
	l.end()
	l.running.Wait()
	l.http.CloseIdleConnections()
}

func (l *load) first() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		return "none failed"
	}
	return l.why.Error()
}
