package fx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"dhow/internal/redisserver/redistest"
	"dhow/superapp/money"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpenAPI(t *testing.T) { servicetest.OpenAPI(t, document, (&desk{}).routes()) }

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Every: time.Millisecond, Stale: time.Second}, {Every: time.Second, Stale: time.Millisecond}} {
		var usage interface{ ExitCode() int }
		if err := Run(t.Context(), o); !errors.As(err, &usage) || usage.ExitCode() != 2 {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// bench is a Redis server, and a test's own look into it.
type bench struct {
	t     *testing.T
	redis *redis.Client
}

func newBench(t *testing.T) *bench {
	t.Helper()
	s := redistest.Start(t)
	t.Setenv("REDIS_URL", s.URL())
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, redis: redis.NewClient(o)}
	t.Cleanup(func() { _ = b.redis.Close() })
	return b
}

func (b *bench) start(instance string, every, stale time.Duration) *servicetest.Service {
	b.t.Helper()
	return servicetest.Start(b.t, "", service.Options{Instance: instance}, func(ctx context.Context, o service.Options) error {
		return Run(ctx, Options{Options: o, Every: every, Stale: stale, Seed: 1})
	})
}

func (b *bench) leader() string { return b.redis.Get(b.t.Context(), leaderKey).Val() }

func (b *bench) leads(instance string) {
	b.t.Helper()
	servicetest.Await(b.t, instance+" to lead", func() bool { return strings.HasPrefix(b.leader(), instance+":") })
}

func (b *bench) ready(s *servicetest.Service) {
	b.t.Helper()
	servicetest.Await(b.t, "rates", func() bool { return s.Send("GET /rates", "", "").Status == http.StatusOK })
}

func TestRates(t *testing.T) {
	b := newBench(t)
	s := b.start("one", 20*time.Millisecond, time.Minute)
	b.ready(s)
	var all struct {
		Base  string
		At    time.Time
		Rates map[string]string
	}
	if err := json.Unmarshal([]byte(s.Send("GET /rates", "", "").Text), &all); err != nil {
		t.Fatal(err)
	}
	if all.Base != Base || len(all.Rates) < 150 || all.Rates["AED"] != "3.6725" || time.Since(all.At) > servicetest.Patience {
		t.Errorf("%d rates of %s: AED %s, at %s", len(all.Rates), all.Base, all.Rates["AED"], all.At)
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(u)
	defer c.Close()
	for _, pair := range []struct {
		from, to string
		want     *big.Rat
	}{
		{"USD", "AED", big.NewRat(36725, 10000)}, {"AED", "USD", big.NewRat(10000, 36725)}, {"AED", "AED", big.NewRat(1, 1)},
		{"BHD", "OMR", big.NewRat(3845, 3760)}, {"XOF", "XAF", big.NewRat(1, 1)},
	} {
		mid, at, err := c.Mid(t.Context(), pair.from, pair.to)
		if err != nil {
			t.Fatal(err)
		}
		if apart(mid, pair.want).Cmp(big.NewRat(1, 1_000_000_000)) > 0 || at.IsZero() {
			t.Errorf("%s in %s: %s at %s, want %s", pair.from, pair.to, mid.FloatString(12), at, pair.want.FloatString(12))
		}
	}
	offers, err := c.Providers(t.Context(), "AED", "INR")
	if err != nil || len(offers) < 4 {
		t.Fatalf("%v, %v", offers, err)
	}
	few, err := c.Providers(t.Context(), "AED", "SSP")
	if err != nil || len(few) == 0 || len(few) >= len(offers) {
		t.Errorf("%v, %v", few, err)
	}
	for _, o := range offers {
		rate, err := money.ParseRate(o.Rate)
		if mid, _ := money.ParseRate(all.Rates["INR"]); err != nil || rate.Cmp(new(big.Rat).Quo(mid, big.NewRat(36725, 10000))) >= 0 {
			t.Errorf("%+v is not below mid", o)
		}
	}
	for _, path := range []string{"AED/XYZ", "XYZ/AED", "aed/USD", "AED/CLF", "at/AED", "AED/" + strings.Repeat("A", 100)} {
		if a := servicetest.Want(t, s.Send("GET /rates/"+path, "", ""), http.StatusNotFound, codeUnknownCurrency); len(a.Text) > 200 {
			t.Error(a.Text)
		}
	}
	var refusal *service.Refusal
	if _, _, err := c.Mid(t.Context(), "AED", "XYZ"); !errors.As(err, &refusal) || refusal.Code != codeUnknownCurrency {
		t.Errorf("%v", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Providers(t.Context(), "AED", "INR"); !service.Away(err) {
		t.Errorf("the service is gone: %v", err)
	}
}

// What nobody renews is not told any more; it is when somebody writes again.
func TestStale(t *testing.T) {
	b := newBench(t)
	if err := b.redis.Set(t.Context(), leaderKey, "a leader that writes nothing", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s := b.start("one", 20*time.Millisecond, time.Minute)
	stale := func() {
		t.Helper()
		for _, path := range []string{"", "/AED/USD", "/AED/USD/providers"} {
			servicetest.Want(t, s.Send("GET /rates"+path, "", ""), http.StatusServiceUnavailable, "stale_rate")
		}
	}
	stale() // there is nothing yet
	for _, at := range []time.Time{time.Now().Add(-2 * time.Minute), time.Now().Add(2 * time.Minute)} {
		if err := b.redis.HSet(t.Context(), ratesKey, atField, at.UnixMilli(), "AED", "3.6725", "USD", "1").Err(); err != nil {
			t.Fatal(err)
		}
		stale()
	}
	if err := b.redis.Del(t.Context(), leaderKey).Err(); err != nil {
		t.Fatal(err)
	}
	b.ready(s)
	servicetest.Want(t, s.Send("GET /rates/AED/USD", "", ""), http.StatusOK, "")
}

// One leads; when it ends the other does at once, when it is killed, after the
// lease. Who has lost the lead writes nothing.
func TestLeaderChange(t *testing.T) {
	b := newBench(t)
	const every = time.Second // no leader is silent for the ticks of its lease, on a loaded machine too
	one := b.start("one", every, time.Minute)
	b.leads("one")
	two := b.start("two", every, time.Minute)
	b.ready(two)
	if ticks(two) != 0 || ticks(one) == 0 {
		t.Errorf("the leader wrote %d times, the other %d times", ticks(one), ticks(two))
	}
	if err := one.Stop(); err != nil {
		t.Fatal(err)
	}
	b.leads("two")
	servicetest.Await(t, "the new leader to write", func() bool { return ticks(two) > 0 })

	// Another took the lead, as if this one had slept for longer than its lease.
	if err := b.redis.Set(t.Context(), leaderKey, "three:", 0).Err(); err != nil {
		t.Fatal(err)
	}
	written, before := b.redis.HGet(t.Context(), ratesKey, atField).Val(), ticks(two)
	late := &generator{redis: b.redis, feed: testFeed(t, 1), every: every, now: time.Now}
	if leads, err := late.write(t.Context(), redis.NewScript(lead), "two:"); leads || err != nil {
		t.Errorf("it leads %v, %v", leads, err)
	}
	if at := b.redis.HGet(t.Context(), ratesKey, atField).Val(); at != written {
		t.Errorf("who does not lead wrote: %s, then %s", written, at)
	}
	if err := b.redis.PExpire(t.Context(), leaderKey, every).Err(); err != nil { // three was killed
		t.Fatal(err)
	}
	b.leads("two")
	servicetest.Await(t, "new rates", func() bool { return ticks(two) > before })
}

// ticks is how often a service says that it wrote rates.
func ticks(s *servicetest.Service) (n int) {
	for line := range strings.Lines(s.Send("GET /metrics", "", "").Text) {
		if rest, ok := strings.CutPrefix(line, "superapp_fx_ticks_total "); ok {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n
}

// Redis goes away and comes back empty: the rates too.
func TestRedisAway(t *testing.T) {
	b := newBench(t)
	s := b.start("one", 20*time.Millisecond, time.Minute)
	b.ready(s)
	if err := b.redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	b.ready(s)
	b.leads("one")
	if err := b.redis.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil { // it takes no writes
		t.Fatal(err)
	}
	before := b.redis.HGet(t.Context(), ratesKey, atField).Val()
	servicetest.Want(t, s.Send("GET /rates/AED/USD", "", ""), http.StatusOK, "")
	if err := b.redis.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	servicetest.Await(t, "new rates", func() bool { return b.redis.HGet(t.Context(), ratesKey, atField).Val() != before })
}
