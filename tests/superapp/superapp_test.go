// Package superapp runs the whole application on this machine under its traffic, and
// kills its services meanwhile: nothing that was acknowledged may be lost or doubled,
// and the books of all databases must agree.
package superapp

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dhow/internal/programtest"
	"dhow/superapp/check"
	"dhow/superapp/fleet"
	"dhow/superapp/traffic"
)

const (
	// within bounds everything here.
	within = 5 * time.Minute
	// customers have five accounts each, and the system one for each currency.
	customers, accounts = 1000, 5005
	// rounds is how often each service is killed at least.
	rounds = 2
	// longestPause is between two kills.
	longestPause = 800 * time.Millisecond
	// settle is how long what was begun may take to end behind the traffic.
	settle = "30s"
)

// rate and lasts are small: this machine is shared with other tests. For more:
// go test ./tests/superapp -rate 1000 -lasts 60s
var (
	rate  = flag.Float64("rate", 150, "operations a second")
	lasts = flag.Duration("lasts", 0, "how long services are killed at least")
)

func launch(ctx context.Context, t *testing.T) *fleet.Fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers and services: not with -short (testing.Short)")
	}
	dir := t.TempDir()
	superapp := filepath.Join(programtest.Build(t, "dhow/superapp/cmd/superapp"), "superapp")
	f, err := fleet.Launch(ctx, fleet.Config{Superapp: superapp, Dir: dir, Listen: "127.0.0.1:0", Customers: customers, Pool: fleet.DefaultPool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
			for _, log := range logs {
				text, _ := os.ReadFile(log)
				t.Logf("%s:\n%s", log, text[max(0, len(text)-2000):])
			}
		}
		if err := f.Close(); err != nil && !t.Failed() {
			t.Error(err)
		}
	})
	return f
}

// TestServicesAreKilledUnderTraffic kills each service at random moments while
// clients pay, split, send, use cards and read.
func TestServicesAreKilledUnderTraffic(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	f := launch(ctx, t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))

	history := filepath.Join(t.TempDir(), "history.jsonl")
	running, stop := context.WithCancel(ctx)
	defer stop()
	started := make(chan struct{})
	type end struct {
		summary traffic.Summary
		err     error
	}
	ended := make(chan end, 1)
	go func() {
		s, err := traffic.Run(running, traffic.Config{URL: "http://" + f.Address, Rate: *rate, Accounts: accounts, Active: 400, History: history, Connections: 32,
			Started: func(time.Time) { close(started) }})
		ended <- end{s, err}
	}()
	select {
	case <-started:
	case e := <-ended:
		t.Fatalf("the traffic did not start: %v", e.err)
	}
	for began, round := time.Now(), 0; round < rounds || time.Since(began) < *lasts; round++ {
		services := fleet.Services()
		random.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
		for _, s := range services {
			wait(ctx, t, time.Duration(random.Int64N(int64(longestPause))))
			f.Kill(s.Name)
			if err := f.Start(ctx, s.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	wait(ctx, t, longestPause)
	stop()
	e := <-ended
	if e.err != nil {
		t.Fatal(e.err)
	}
	s := e.summary
	t.Logf("%d requests: %d acknowledged (%d writes), %d failed, %d unknown, %d late", s.Requests, s.Acknowledged, s.AcknowledgedWrites, s.Failed, s.Unknown, s.Late)
	if s.Failed+s.Unknown == 0 {
		t.Error("no request failed although services were killed: were they?")
	}
	judge(ctx, t, f, history, s.AcknowledgedWrites)
}

func wait(ctx context.Context, t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	case <-time.After(d):
	}
}

// judge lets the checker compare what clients were told with all databases.
func judge(ctx context.Context, t *testing.T, f *fleet.Fleet, history string, writes int64) {
	t.Helper()
	out, err := f.Check(ctx, "--history", history, "--settle", settle, "-o", "json")
	var report check.Report
	if jerr := json.Unmarshal(out, &report); jerr != nil {
		t.Fatal(errors.Join(jerr, err))
	}
	for _, finding := range report.Findings {
		t.Errorf("%s: %s: %s", finding.Kind, finding.Of, finding.What)
	}
	if !report.OK || err != nil {
		t.Errorf("the check: %v", err)
	}
	if report.AcknowledgedWrites != writes || writes == 0 {
		t.Errorf("%d acknowledged writes were checked, of %d", report.AcknowledgedWrites, writes)
	}
	if report.CardMovements == 0 || report.Sends == 0 || report.Splits == 0 {
		t.Errorf("of some kinds nothing was checked: %d card movements, %d sends, %d splits", report.CardMovements, report.Sends, report.Splits)
	}
}
