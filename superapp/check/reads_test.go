package check

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"dhow/superapp/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slowBackwards is the definition, by looking at every pair.
func slowBackwards(list []sighting) map[int]int64 {
	found := map[int]int64{}
	for i, now := range list {
		for _, before := range list {
			if before.account != now.account || before.done >= now.sent {
				continue
			}
			if before.version > now.version || now.write && before.version == now.version {
				found[i] = max(found[i], before.version)
			}
		}
	}
	return found
}

func TestBackwardsIsWhatItsDefinitionSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) sighting {
			sent := rapid.Int64Range(0, 30).Draw(t, "sent")
			return sighting{
				account: rapid.Int64Range(1, 3).Draw(t, "account"), version: rapid.Int64Range(0, 6).Draw(t, "version"),
				sent: sent, done: sent + rapid.Int64Range(0, 12).Draw(t, "took"), write: rapid.Bool().Draw(t, "write"),
			}
		}), 0, 40).Draw(t, "sightings")
		want := slowBackwards(list)
		got := map[int]int64{}
		for _, b := range backwards(list) {
			if _, twice := got[b.now]; twice {
				t.Fatalf("sighting %d was found twice", b.now)
			}
			got[b.now] = list[b.before].version
			if list[b.before].done >= list[b.now].sent || list[b.before].account != list[b.now].account {
				t.Fatalf("sighting %d is no evidence against %d", b.before, b.now)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("found %v, want %v", got, want)
		}
		for i, v := range want {
			if got[i] != v {
				t.Fatalf("found %v, want %v", got, want)
			}
		}
	})
}

// A correct application, whatever the timing, is never accused: versions are
// taken at an instant between sending and answer.
func TestBackwardsAccusesNoCorrectHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "operations")
		version := map[int64]int64{}
		var list []sighting
		for i := range n { // in the order of the instants at which they take effect
			at := int64(10 * (i + 1))
			s := sighting{account: rapid.Int64Range(1, 3).Draw(t, "account"), write: rapid.Bool().Draw(t, "write"),
				sent: at - rapid.Int64Range(0, 80).Draw(t, "before"), done: at + rapid.Int64Range(0, 80).Draw(t, "after")}
			if s.write {
				version[s.account]++
			}
			s.version = version[s.account]
			list = append(list, s)
		}
		if found := backwards(list); len(found) > 0 {
			t.Fatalf("accused %v", found)
		}
	})
}

func TestLongHistoryIsReadInParts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	w, err := history.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const accounts, each = 17, 40
	for i := range int64(each) {
		for a := range int64(accounts) {
			version := i
			if i == each-1 && a%5 == 0 { // four of the seventeen go back at the end
				version = 3
			}
			at := i*1000 + a*10 + 1
			if err := w.Append(&history.Record{Op: history.Read, Account: a + 1, Scheduled: at, Sent: at, Done: at + 5, Outcome: history.Acknowledged, Version: version}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	size, err := history.Size(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, most := range []int64{1 << 40, 100, 7} {
		c := &checker{report: newReport(DefaultMost), files: []file{{path, size}}, sightings: accounts * each}
		if err := c.readsAtOnce(context.Background(), most); err != nil {
			t.Fatal(err)
		}
		c.report.conclude()
		if c.report.StaleReads != 4 || len(c.report.Findings) != 4 {
			t.Errorf("with %d at once: %d stale reads, %d listed, want 4", most, c.report.StaleReads, len(c.report.Findings))
		}
		if f := c.report.Findings[0]; !strings.Contains(f.What, "showed version 3, and version 38 was seen") || !strings.Contains(f.Of, path+":") {
			t.Errorf("finding %+v", f)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	c := &checker{report: newReport(1), files: []file{{path, size}}, sightings: 1}
	if err := c.reads(ended); err == nil {
		t.Error("reading went on after it was cancelled")
	}
}

func TestBadHistoryIsAnErrorWithItsLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path, []byte("{\"op\":\"x\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &checker{report: newReport(1), files: []file{{path, 100}}, sightings: 1}
	if err := c.reads(context.Background()); err == nil || !strings.Contains(err.Error(), path+":1:") {
		t.Errorf("got %v", err)
	}
}

func TestCheckOfAMillionSightingsTakesSeconds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second: not with -short (testing.Short)")
	}
	list := make([]sighting, 1_000_000)
	for i := range list {
		list[i] = sighting{account: int64(i % 1000), version: int64(i / 1000), sent: int64(i * 10), done: int64(i*10 + i%977)}
	}
	began := time.Now()
	if found := backwards(list); len(found) != 0 {
		t.Errorf("%d went back", len(found))
	}
	if took := time.Since(began); took > 30*time.Second { // about a second without the race detector
		t.Errorf("took %s", took)
	}
}
