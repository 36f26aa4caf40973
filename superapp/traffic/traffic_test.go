package traffic

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dhow/superapp/history"
)

func small(t *testing.T, b *bank) Config {
	return Config{URL: b.URL, History: filepath.Join(t.TempDir(), "history"), Rate: 400, Connections: 8, Duration: time.Second,
		Accounts: 40, Active: 40, HotShare: 0.2, Seed: 7, Timeout: 5 * time.Second, Shares: LedgerShares()}
}

// set says what goes wrong from now on, and which accounts do not exist.
func (b *bank) set(fault func(http.ResponseWriter, *http.Request) bool, missing map[int64]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault, b.missing = fault, missing
}

// begin arms the bank's fault when the schedule begins.
func (b *bank) begin(cfg *Config, fault func(http.ResponseWriter, *http.Request) bool) {
	cfg.Started = func(time.Time) {
		b.mu.Lock()
		b.fault = fault
		b.mu.Unlock()
	}
}

func TestRunCountsWhatTheServerSaw(t *testing.T) {
	b := newBank(t)
	b.missing = map[int64]bool{10: true, 11: true}
	cfg := small(t, b)
	cfg.Shares, cfg.Cards = Shares{Pay: 13, Transfer: 4, Request: 3, Split: 1, Send: 3, Card: 9, Read: 38, Statement: 15, Insights: 4, Rates: 7, Corridor: 3}, 5
	var n, faults atomic.Int64
	b.begin(&cfg, func(w http.ResponseWriter, _ *http.Request) bool {
		switch n.Add(1) % 20 {
		case 0:
			faults.Add(1)
			return answerWith(503, `{"code":"unavailable"}`)(w, nil)
		case 7:
			faults.Add(1)
			reset(w)
			return true
		}
		return false
	})
	s, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := records(t, cfg.History)
	byOutcome, byOp := map[history.Outcome]int64{}, map[history.Op]int64{}
	keys := map[string]bool{}
	var writes, scheduled, cards int64
	var last int64
	first := map[history.Op]bool{}
	for _, w := range cfg.Shares.weights() {
		first[w.op] = true
	}
	for _, r := range all {
		byOutcome[r.Outcome]++
		byOp[r.Op]++
		if r.Op.Write() {
			if keys[r.Key] {
				t.Errorf("key %s twice", r.Key)
			}
			keys[r.Key] = true
			if r.Outcome == history.Acknowledged {
				writes++
			}
			if r.From > 0 && r.To > 0 && currency(r.From) != currency(r.To) || r.From == r.To || r.From == 10 || r.To == 11 {
				t.Errorf("%+v", r)
			}
		}
		if r.Op == history.Card {
			cards++
			if r.Scheduled != 0 || r.Outcome != history.Acknowledged || !strings.HasPrefix(r.Key, cardKey) {
				t.Errorf("%+v", r)
			}
		}
		if first[r.Op] {
			scheduled++
			last = max(last, r.Scheduled)
		}
	}
	if scheduled != 400 {
		t.Errorf("%d operations were scheduled in a second, want 400", scheduled)
	}
	want := Summary{Requests: int64(len(all)), Acknowledged: byOutcome[history.Acknowledged], Refused: byOutcome[history.Refused], Unknown: faults.Load(), AcknowledgedWrites: writes}
	if s.Requests != want.Requests || s.Acknowledged != want.Acknowledged || s.Refused != want.Refused || s.Unknown != want.Unknown || s.AcknowledgedWrites != want.AcknowledgedWrites || s.Failed+s.Late+s.Replayed != 0 {
		t.Errorf("summary %+v, want %+v", s, want)
	}
	if cards != 5 {
		t.Errorf("%d cards, want 5", cards)
	}
	if s.Requests != n.Load()+cards || s.Refused == 0 || !maps.Equal(byOp, s.Operations) || len(byOp) != len(history.Ops()) {
		t.Errorf("%d requests of %d arrived, operations %v and %v", s.Requests, n.Load(), byOp, s.Operations)
	}
	if !(s.P50 > 0 && s.P50 <= s.P99 && s.P99 <= s.Max && s.SentP50 <= s.P99 && s.SentMax <= s.Max) {
		t.Errorf("waits of %+v", s)
	}
	if keys := b.twice(); len(keys) > 0 {
		t.Errorf("sent more than once: %v", keys)
	}
}

func TestStepsFollowOneAnother(t *testing.T) {
	b := newBank(t)
	cfg := small(t, b)
	cfg.Shares, cfg.Cards = Shares{Card: 3, Send: 1, Split: 1}, 5
	if _, err := Run(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	byKey := map[string]history.Record{}
	n := map[string]int{}
	for _, r := range records(t, cfg.History) {
		byKey[r.Key] = r
	}
	for key, r := range byKey {
		switch r.Op {
		case history.Capture, history.Reverse:
			a := byKey[strings.TrimSuffix(key, "-"+string(r.Op))]
			if a.Op != history.Authorise || a.ID != r.Authorisation || a.Card != r.Card || r.Amount > a.Amount || r.From != a.From || r.Sent < a.Done {
				t.Errorf("%+v follows %+v", r, a)
			}
			if r.Amount < a.Amount {
				n["partial"]++
			}
		case history.Refund:
			c := byKey[strings.TrimSuffix(key, "-refund")]
			if c.Op != history.Capture || c.Authorisation != r.Authorisation || r.Amount > c.Amount {
				t.Errorf("%+v follows %+v", r, c)
			}
		case history.Send:
			q := byKey[strings.TrimSuffix(key, "-send")]
			if q.Op != history.Quote || q.Quote != r.Quote || q.Account != r.From || q.Amount != r.Amount {
				t.Errorf("%+v follows %+v", r, q)
			}
		case history.Split:
			for i := range r.Shares {
				if a := byKey[fmt.Sprint(key, "-accept-", i)]; a.Op != history.Accept || a.To != r.To || a.From == r.To || a.Amount < 1 {
					t.Errorf("%+v follows %+v", a, r)
				}
			}
		}
		n[string(r.Op)]++
	}
	for _, op := range []string{"capture", "partial", "reverse", "refund", "send", "split", "accept"} {
		if n[op] == 0 {
			t.Errorf("no %s among %v", op, n)
		}
	}
	if n["capture"]+n["reverse"] != n["authorise"] || n["capture"] < 3*n["reverse"] || n["send"] != n["quote"] {
		t.Errorf("%v", n)
	}
}

func TestDefaultsLookFourTimesOfFive(t *testing.T) {
	b := newBank(t)
	cfg := small(t, b)
	cfg.Shares, cfg.Rate = DefaultShares(), 2000
	s, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var reads float64
	for op, n := range s.Operations {
		if !op.Write() && op != history.Quote {
			reads += float64(n)
		}
	}
	if share := reads / float64(s.Requests); share < 0.73 || share > 0.85 {
		t.Errorf("%.2f of the operations are reads: %v", share, s.Operations)
	}
}

func TestStallIsSeenByAllThatWereDueInIt(t *testing.T) {
	const stall = 300 * time.Millisecond
	b := newBank(t)
	cfg := small(t, b)
	cfg.Connections = 4 // far fewer than are due in the stall
	cfg.Duration = 1500 * time.Millisecond
	var begun, over atomic.Int64
	var gate sync.RWMutex
	var once sync.Once
	b.begin(&cfg, func(http.ResponseWriter, *http.Request) bool {
		once.Do(func() {
			time.AfterFunc(500*time.Millisecond, func() {
				gate.Lock()
				begun.Store(time.Now().UnixNano())
				time.Sleep(stall) // the server's own slowness, which is what is tested
				over.Store(time.Now().UnixNano())
				gate.Unlock()
			})
		})
		gate.RLock()
		defer gate.RUnlock()
		return false
	})
	s, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	from, to := begun.Load(), over.Load()
	var in, sentLate int
	for _, r := range records(t, cfg.History) {
		if r.Op == history.Accept || r.Scheduled < from || r.Scheduled >= to {
			continue
		}
		in++
		if r.Done < to {
			t.Errorf("due %s into the stall and done before its end: %+v", time.Duration(r.Scheduled-from), r)
		}
		if r.Sent > to {
			sentLate++
		}
	}
	// The schedule did not slow down: as many were due as at any other time.
	want := int(cfg.Rate * time.Duration(to-from).Seconds())
	if in < want-1 || in > want+1 {
		t.Errorf("%d were due in a stall of %s, want %d", in, time.Duration(to-from), want)
	}
	if sentLate < in/2 {
		t.Errorf("only %d of %d waited in the client: the test does not test what it should", sentLate, in)
	}
	if s.Max < 0.9*float64(stall.Milliseconds()) || s.P99 < 150 || s.Late != 0 || s.Unknown != 0 {
		t.Errorf("%+v", s)
	}
}

func TestWhatCanNotBeSentInTimeIsLate(t *testing.T) {
	b := newBank(t)
	cfg := small(t, b)
	cfg.Connections, cfg.Timeout, cfg.Duration = 2, 200*time.Millisecond, 600*time.Millisecond
	b.begin(&cfg, func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	s, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := records(t, cfg.History)
	if int64(len(all)) != s.Requests+s.Late || len(all) != 240 || s.Late < 200 || s.Unknown != s.Requests || s.Requests < 4 {
		t.Errorf("%d operations, %+v", len(all), s)
	}
	for _, r := range all {
		if r.Outcome == history.Late && (r.Sent != 0 || r.Error == "") {
			t.Errorf("%+v", r)
		}
	}
	if s.Max < 200 {
		t.Errorf("the longest wait is %v ms, though nothing was answered", s.Max)
	}
}

func TestEndedRunFinishesWhatIsInFlight(t *testing.T) {
	b := newBank(t)
	cfg := small(t, b)
	cfg.Duration = 0
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var n atomic.Int64
	b.begin(&cfg, func(_ http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) == 50 {
			cancel()
		}
		if n.Load() >= 45 {
			time.Sleep(100 * time.Millisecond) // so that some are in flight
		}
		return false
	})
	s, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s.Requests < 50 || s.Requests > 120 || s.Unknown+s.Failed+s.Late != 0 || s.Requests != n.Load() || int64(len(records(t, cfg.History))) != s.Requests {
		t.Errorf("%d arrived, %+v", n.Load(), s)
	}
}

func TestEndedRunDoesNotWaitForeverForAnswers(t *testing.T) {
	b := newBank(t)
	cfg := small(t, b)
	cfg.Duration, cfg.Timeout = 100*time.Millisecond, time.Second
	b.begin(&cfg, func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	began := time.Now()
	s, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > cfg.Timeout+closing+5*time.Second {
		t.Errorf("took %s", took)
	}
	if s.Unknown != s.Requests || s.Requests+s.Late != 40 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestConnectionsAreWarmAndNoMore(t *testing.T) {
	b := newBank(t)
	cfg := small(t, b)
	cfg.Connections, cfg.Active = 16, 5 // fewer candidates than connections
	var warm int
	cfg.Started = func(time.Time) {
		b.mu.Lock()
		warm = b.conns
		b.mu.Unlock()
	}
	if _, err := Run(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	if warm != 16 || b.conns != 16 {
		t.Errorf("%d connections at the start, %d at the end, want 16", warm, b.conns)
	}
}

func TestProgressEachSecond(t *testing.T) {
	b := newBank(t)
	cfg := small(t, b)
	cfg.Duration = 2500 * time.Millisecond
	var lines []string
	cfg.Progress = func(tk Tick) { lines = append(lines, tk.String()) }
	if _, err := Run(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	if len(lines) < 2 || !strings.HasPrefix(lines[0], "1s  ") || !strings.HasSuffix(lines[0], "  failed 0") || !strings.Contains(lines[1], "/s  p50 ") {
		t.Errorf("%q", lines)
	}
	got := Tick{Elapsed: 12 * time.Second, PerSecond: 499.6, P50: 3100 * time.Microsecond, P99: 11 * time.Millisecond, Unknown: 2, Late: 1}.String()
	if want := "12s  500/s  p50 3.1 ms  p99 11 ms  failed 0  unknown 2  late 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCanNotRun(t *testing.T) {
	b := newBank(t)
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no server":        {func(c *Config) { c.URL = "http://127.0.0.1:1" }, "connection refused"},
		"no accounts":      {func(c *Config) { c.Accounts, c.Active = 1<<40, 3; b.set(nil, everything{}.missing()) }, "superapp seed"},
		"no cards":         {func(c *Config) { c.Shares = Shares{Card: 1}; b.set(without("/cards"), nil) }, "--card-share 0"},
		"no corridors":     {func(c *Config) { c.Shares = Shares{Send: 1}; b.set(without("/corridors"), nil) }, "--send-share 0"},
		"one per currency": {func(c *Config) { c.Accounts = 2 }, "no two accounts of one currency"},
		"not ready":        {func(*Config) { b.set(answerWith(503, ""), nil) }, "it answers 503"},
		"another service":  {func(*Config) { b.set(answerWith(200, "<html>"), nil) }, "not an account"},
		"another account":  {func(*Config) { b.set(answerWith(200, `{"id":1000,"currency":"AED"}`), nil) }, "is of account 1000"},
		"history exists":   {func(c *Config) { c.History = "/dev/null/x" }, "create the history"},
	} {
		t.Run(name, func(t *testing.T) {
			b.set(nil, nil)
			cfg := small(t, b)
			c.change(&cfg)
			if _, err := Run(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// without is an application that lacks what answers a path.
func without(path string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasPrefix(r.URL.Path, path) && answerWith(404, `{"code":"not_found"}`)(w, r)
	}
}

// everything says that no account of the test's candidates exists.
type everything struct{}

func (everything) missing() map[int64]bool {
	m := map[int64]bool{}
	for _, id := range candidates(Config{Accounts: 1 << 40, Active: 3, Seed: 7}) {
		m[id] = true
	}
	return m
}

func TestFullDiskEndsTheRun(t *testing.T) {
	b := newBank(t)
	cfg := small(t, b)
	cfg.History, cfg.Duration = "/dev/full", 0
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := Run(ctx, cfg); err == nil || !strings.Contains(err.Error(), "no space left") || ctx.Err() != nil {
		t.Errorf("got %v, %v", err, ctx.Err())
	}
}

func TestValidateNamesTheFlag(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"--url http":          func(c *Config) { c.URL = "" },
		"not an address":      func(c *Config) { c.URL = "127.0.0.1:80" },
		"user's name":         func(c *Config) { c.URL = "http://a:b@c" },
		"--history":           func(c *Config) { c.History = "" },
		"--rate NaN":          func(c *Config) { c.Rate = math.NaN() },
		"--rate -1":           func(c *Config) { c.Rate = -1 },
		"--connections 0":     func(c *Config) { c.Connections = 0 },
		"--duration -1s":      func(c *Config) { c.Duration = -time.Second },
		"--timeout 0s":        func(c *Config) { c.Timeout = 0 },
		"--accounts 1":        func(c *Config) { c.Accounts = 1 },
		"--active 1":          func(c *Config) { c.Active = 1 },
		"--hot-share 2":       func(c *Config) { c.HotShare = 2 },
		"--read-share -1":     func(c *Config) { c.Shares.Read = -1 },
		"--card-share -1":     func(c *Config) { c.Shares.Card = -1 },
		"--cards 0":           func(c *Config) { c.Cards = 0 },
		"--rhythm-day 5ms":    func(c *Config) { c.RhythmDay = 5 * time.Millisecond },
		"--transfer-share +I": func(c *Config) { c.Shares.Transfer = math.Inf(1) },
		"all shares are 0":    func(c *Config) { c.Shares = Shares{} },
	} {
		cfg := Config{URL: "http://h:1", History: "f"}
		cfg.defaults()
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if err := cfg.Validate(); err != nil && strings.Contains(err.Error(), "a:b") {
			t.Errorf("a password is shown: %v", err)
		}
	}
}

func TestPlanIsDeterminedByItsSeed(t *testing.T) {
	draw := func(seed uint64) []operation {
		cfg := Config{Seed: seed, Accounts: 1000, Active: 100, HotShare: 0.3}
		cfg.defaults()
		var known []account
		var cards []card
		for _, id := range candidates(cfg) {
			known = append(known, account{ID: id, Currency: currency(id)})
			cards = append(cards, card{id, id, currency(id)})
		}
		p, err := newPlan(cfg, known)
		if err != nil {
			t.Fatal(err)
		}
		p.cards, p.corridors = cards, []corridor{{Country: "JO", Currencies: []string{"JOD", "USD"}}, {Country: "IN", Currencies: []string{"INR"}}}
		var ops []operation
		for i := range 1000 {
			ops = append(ops, p.next(fmt.Sprint(i)))
		}
		return ops
	}
	if !reflect.DeepEqual(draw(1), draw(1)) {
		t.Error("the same seed gave other operations")
	}
	if reflect.DeepEqual(draw(1), draw(2)) {
		t.Error("another seed gave the same operations")
	}
}

func TestPlanKeepsSharesAndHeat(t *testing.T) {
	cfg := Config{Seed: 3, HotShare: 0.5, Shares: Shares{Pay: 6, Read: 3, Statement: 1}}
	cfg.defaults()
	known := []account{{ID: 9999, Currency: "KWD"}} // alone: it can not take part
	for id := range int64(400) {
		known = append(known, account{ID: id + 1, Currency: currency(id + 1)})
	}
	p, err := newPlan(cfg, known)
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	kinds, froms := map[history.Op]float64{}, map[int64]float64{}
	for range n {
		op := p.next("k")
		kinds[op.op]++
		froms[op.from+op.account]++
	}
	for op, want := range map[history.Op]float64{history.Pay: 0.6, history.Read: 0.3, history.Statement: 0.1, history.Transfer: 0, history.Request: 0} {
		if got := kinds[op] / n; math.Abs(got-want) > 0.02 {
			t.Errorf("%s: %.3f of all, want %.3f", op, got, want)
		}
	}
	if froms[9999] > 0 {
		t.Error("an account that is alone in its currency took part")
	}
	var hot float64
	for _, id := range []int64{1, 2, 3, 4} { // the first hundredth of each currency
		hot += froms[id] / n
	}
	if math.Abs(hot-0.505) > 0.03 {
		t.Errorf("the hot accounts took %.3f of the choices, want 0.505", hot)
	}
}

func TestCandidatesAreDistinctAndInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Accounts: rapid.Int64Range(2, 300).Draw(t, "accounts"), Active: rapid.IntRange(2, 400).Draw(t, "active"), Seed: rapid.Uint64().Draw(t, "seed")}
		ids := candidates(cfg)
		if int64(len(ids)) != min(cfg.Accounts, int64(cfg.Active)) {
			t.Fatalf("%d ids", len(ids))
		}
		seen := map[int64]bool{}
		for _, id := range ids {
			if id < 1 || id > cfg.Accounts || seen[id] {
				t.Fatalf("id %d of %v", id, ids)
			}
			seen[id] = true
		}
	})
}
