package transfers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"dhow/internal/pgserver/pgtest"
	"dhow/internal/redisserver/redistest"
	"dhow/superapp/accounts"
	"dhow/superapp/fx"
	"dhow/superapp/outbox"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

// The variables that make this binary a transfers service of its own, to be killed.
const childAccounts, childFX, childFile = "TRANSFERS_TEST_ACCOUNTS", "TRANSFERS_TEST_FX", "TRANSFERS_TEST_FILE"

// quick is how the service is run here: no send rests.
func quick() Options {
	return Options{Options: service.Options{Listen: "127.0.0.1:0", Instance: "source", Pool: 8, LogLevel: "error"}, QuoteLife: time.Minute}
}

func TestMain(m *testing.M) {
	if os.Getenv(childFile) != "" {
		bank, err := url.Parse(os.Getenv(childAccounts))
		rates, err2 := url.Parse(os.Getenv(childFX))
		if err = errors.Join(err, err2); err == nil {
			o := quick()
			o.AddressFile = os.Getenv(childFile)
			err = Run(context.Background(), o, Beside{Accounts: bank, FX: rates})
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func TestOpenAPI(t *testing.T) { servicetest.OpenAPI(t, openAPI, (&desk{}).routes()) }

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {QuoteLife: 2 * maxQuoteLife}, {QuoteLife: time.Minute, SubmitAfter: -1}, {QuoteLife: time.Minute, PayAfter: -1}} {
		var usage interface{ ExitCode() int }
		if err := Run(t.Context(), o, Beside{}); !errors.As(err, &usage) || usage.ExitCode() != 2 {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// wire stands between the service and the bank. It can cut requests to a path, or
// the answers to them.
type wire struct {
	*httptest.Server
	mu    sync.Mutex
	fault fault
	path  *regexp.Regexp
	met   chan struct{} // tells of each fault
}

type fault int

const (
	sound fault = iota
	cutBefore
	cutBehind
	hangBehind // it is done, and the answer never comes
)

func newWire(t *testing.T, to string) *wire {
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{met: make(chan struct{}, 1000)}
	transport := &http.Transport{}
	over := make(chan struct{})
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		f := w.fault
		if f != sound && !w.path.MatchString(r.URL.Path+" "+r.Header.Get("Idempotency-Key")) {
			f = sound
		}
		w.mu.Unlock()
		switch f {
		case sound:
			proxy.ServeHTTP(rw, r)
			return
		case cutBehind, hangBehind:
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		case cutBefore:
		}
		select {
		case w.met <- struct{}{}:
		default:
		}
		if f == hangBehind {
			select {
			case <-over:
			case <-r.Context().Done():
			}
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(func() { close(over); w.Close(); transport.CloseIdleConnections() })
	return w
}

// set makes a fault of what a pattern fits: a path, a space and the key.
func (w *wire) set(f fault, pattern string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault, w.path = f, regexp.MustCompile(pattern)
	for len(w.met) > 0 {
		<-w.met
	}
}

// await waits for the fault to be met.
func (w *wire) await(t *testing.T) {
	t.Helper()
	select {
	case <-w.met:
	case <-time.After(servicetest.Patience):
		t.Fatal("the fault was not met")
	}
}

// town is a bank, rates and a transfers service: accounts 2 and 3 hold some dirhams, 5 some yen.
type town struct {
	*servicetest.Service
	t         *testing.T
	options   Options
	bank      *servicetest.Service
	wire      *wire
	rates     *servicetest.Service
	events    *url.URL
	url       string
	db, bank0 *pgxpool.Pool
	redis     *redis.Client
	described *servicetest.Description
}

const opening = 1_000_000

func TestTransfers(t *testing.T) {
	s := pgtest.Start(t, 15)
	r := redistest.Start(t)
	t.Setenv("REDIS_URL", r.URL())
	o, err := redis.ParseURL(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	look := redis.NewClient(o)
	t.Cleanup(func() { _ = look.Close() })
	for i, c := range []struct {
		name string
		test func(*town)
	}{
		{"corridors", countries},
		{"quotes", quotes},
		{"a quote expires", expires},
		{"a send is paid", pays},
		{"a send fails and is refunded", refunds},
		{"declined sends", declines},
		{"bad requests", badRequests},
		{"a quote is raced", raced},
		{"the same send at once", atOnce},
		{"cancelled", cancels},
		{"cancelled while it is submitted", cancelRaced},
		{"the bank is away at each step", awayAtEachStep},
		{"killed at each step", killedAtEachStep},
		{"the quotes are lost", quotesLost},
		{"the analytics are told", tells},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &town{t: t, options: quick(), redis: look}
			if err := look.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			bankURL, bankDB := servicetest.Database(t, s, fmt.Sprint("bank", i), accounts.Migrate)
			p.bank0 = bankDB
			owner, db := servicetest.Database(t, s, fmt.Sprint("transfers", i), Migrate)
			p.db, p.url = db, servicetest.Restricted(t, s, owner, Schema())
			p.bank = servicetest.Start(t, bankURL, service.Options{}, accounts.Run)
			p.rates = servicetest.Start(t, "", service.Options{}, func(ctx context.Context, o service.Options) error {
				return fx.Run(ctx, fx.Options{Options: o, Every: 50 * time.Millisecond, Stale: time.Minute, Seed: 1})
			})
			p.exec(p.bank0, "INSERT INTO accounts (customer, kind, currency) VALUES (0, 'system', 'AED'), (1, 'customer', 'AED'), (2, 'customer', 'AED'), (0, 'system', 'JPY'), (1, 'customer', 'JPY')")
			for _, o := range []struct {
				from, to int
				currency string
			}{{1, 2, "AED"}, {1, 3, "AED"}, {4, 5, "JPY"}} {
				servicetest.Want(t, p.bank.Send("POST /transfers", fmt.Sprint("open", o.to), fmt.Sprintf(`{"from":%d,"to":%d,"amount":%d,"currency":%q,"reference":"opening"}`, o.from, o.to, opening, o.currency)), http.StatusCreated, "")
			}
			servicetest.Await(t, "rates", func() bool { return p.rates.Send("GET /rates", "", "").Status == http.StatusOK })
			p.wire = newWire(t, p.bank.URL)
			p.start()
			c.test(p)
			p.audit()
		})
	}
}

func (p *town) address(of string) *url.URL {
	p.t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		p.t.Fatal(err)
	}
	return u
}

func (p *town) start() {
	p.t.Helper()
	beside := Beside{Accounts: p.address(p.wire.URL), FX: p.address(p.rates.URL), Analytics: p.events}
	p.Service = servicetest.Start(p.t, p.url, p.options.Options, func(ctx context.Context, o service.Options) error {
		with := p.options
		with.Options = o
		return Run(ctx, with, beside)
	})
	p.described = p.Service.Described(p.t)
}

// restart runs the service with other options.
func (p *town) restart(change func(*Options)) {
	p.t.Helper()
	if err := p.Stop(); err != nil {
		p.t.Fatal(err)
	}
	if change != nil {
		change(&p.options)
	}
	p.start()
}

// Send asks, and holds the answer against the service's description.
func (p *town) Send(what, key, body string) servicetest.Reply {
	p.t.Helper()
	a := p.Service.Send(what, key, body)
	p.described.Check(p.t, what, key, body, a)
	return a
}

func (p *town) exec(db *pgxpool.Pool, sql string, args ...any) {
	p.t.Helper()
	if _, err := db.Exec(p.t.Context(), sql, args...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *town) number(db *pgxpool.Pool, sql string, args ...any) (n int64) {
	p.t.Helper()
	if err := db.QueryRow(p.t.Context(), sql, args...).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}

// audit holds at every test's end, once all sends have ended: of each send the
// money stands where its state says, and none was made or lost.
func (p *town) audit() {
	p.t.Helper()
	servicetest.Await(p.t, "all sends to end", func() bool {
		p.soon()
		return p.number(p.db, "SELECT count(*) FROM sends WHERE due IS NOT NULL") == 0
	})
	sum := func(what, where string) int64 {
		return p.number(p.db, "SELECT coalesce(sum("+what+"), 0)::bigint FROM sends WHERE "+where)
	}
	for _, c := range []struct {
		what      string
		got, want int64
	}{
		{"sends without an end", sum("1", "state NOT IN ('declined', 'cancelled', 'paid', 'refunded')"), 0},
		{"the books", p.number(p.bank0, "SELECT count(*) FROM (SELECT FROM accounts GROUP BY currency HAVING sum(balance) <> 0) x"), 0},
		{"what is still held", p.number(p.bank0, "SELECT coalesce(sum(held), 0)::bigint FROM accounts"), 0},
		{"open holds", p.number(p.bank0, "SELECT count(*) FROM holds WHERE state = 'held'"), 0},
		{"payouts", p.number(p.bank0, "SELECT coalesce(sum(balance), 0)::bigint FROM accounts WHERE purpose = 'payouts'"), sum("send_amount", "state = 'paid'")},
		{"fees", p.number(p.bank0, "SELECT coalesce(sum(balance), 0)::bigint FROM accounts WHERE purpose = 'fees'"), sum("fee", "state = 'paid'")},
		{"captures", p.number(p.bank0, "SELECT count(*) FROM transfers WHERE key LIKE 'send:%:capture'"), sum("1", "capture IS NOT NULL")},
		{"refunds", p.number(p.bank0, "SELECT count(*) FROM transfers WHERE key LIKE 'send:%:refund'"), sum("1", "state = 'refunded' AND refund IS NOT NULL")},
		{"fee transfers", p.number(p.bank0, "SELECT count(*) FROM transfers WHERE key LIKE 'send:%:fee'"), sum("1", "state = 'paid' AND fee > 0 AND fee_transfer IS NOT NULL")},
		{"keys without an answer", p.number(p.db, "SELECT count(*) FROM sends s LEFT JOIN idempotency i USING (key) WHERE i.status IS NULL OR i.status = 102"), 0},
	} {
		if c.got != c.want {
			p.t.Errorf("%s: %d, want %d", c.what, c.got, c.want)
		}
	}
	for _, account := range []int64{2, 3, 5} {
		spent := p.number(p.db, "SELECT coalesce(sum(total), 0)::bigint FROM sends WHERE state = 'paid' AND account = $1", account)
		if got := p.number(p.bank0, "SELECT balance FROM accounts WHERE id = $1", account); got != opening-spent {
			p.t.Errorf("account %d holds %d, and %d were paid from it", account, got, spent)
		}
	}
	if p.events == nil {
		if told, paid := p.number(p.db, "SELECT count(*) FROM outbox"), sum("1", "state = 'paid'"); told != paid {
			p.t.Errorf("%d sends are paid, and %d told", paid, told)
		}
	}
}

// soon makes due what is due later: time goes by.
func (p *town) soon() {
	p.exec(p.db, "UPDATE sends SET due = clock_timestamp() WHERE due IS NOT NULL")
}

func (p *town) is(id int64, state string) {
	p.t.Helper()
	servicetest.Await(p.t, fmt.Sprintf("send %d to be %s", id, state), func() bool {
		p.soon()
		return p.Send(fmt.Sprint("GET /sends/", id), "", "").State == state
	})
}

func want(country, currency string, amount int64, fix string) string {
	return fmt.Sprintf(`{"account":2,"country":%q,"currency":%q,"amount":%d,"fix":%q}`, country, currency, amount, fix)
}

func (p *town) quote(key, body string) (quote, servicetest.Reply) {
	p.t.Helper()
	a := servicetest.Want(p.t, p.Send("POST /quotes", key, body), http.StatusCreated, "")
	var q quote
	if err := json.Unmarshal([]byte(a.Text), &q); err != nil {
		p.t.Fatal(err)
	}
	return q, a
}

const iban = "PK36 SCBL 0000 0011 2345 6702"

func order(quote string) string {
	return fmt.Sprintf(`{"quote":%q,"beneficiary":{"name":"Amina Khan","fields":{"iban":%q,"bic":"SCBLPKKX"}},"purpose":"family"}`, quote, iban)
}

// toFrance is a send that always costs a fee.
func toFrance(quote string) string {
	return fmt.Sprintf(`{"quote":%q,"beneficiary":{"name":"René","fields":{"iban":"FR1420041010050500013M02606"}},"purpose":"rent"}`, quote)
}

// sendTo quotes and sends, and gives the quote and what is answered.
func (p *town) sendTo(key string, amount int64) (quote, servicetest.Reply) {
	p.t.Helper()
	q, _ := p.quote("q-"+key, want("PK", "PKR", amount, fixSend))
	return q, p.Send("POST /sends", key, order(q.ID))
}

func countries(p *town) {
	var all struct{ Corridors []shown }
	if err := json.Unmarshal([]byte(servicetest.Want(p.t, p.Send("GET /corridors", "", ""), http.StatusOK, "").Text), &all); err != nil {
		p.t.Fatal(err)
	}
	currencies := map[string]bool{}
	for _, c := range all.Corridors {
		for _, code := range c.Currencies {
			currencies[code] = true
			// Somebody pays out every currency.
			if offers := p.rates.Send("GET /rates/AED/"+code+"/providers", "", ""); offers.Status != http.StatusOK || !strings.Contains(offers.Text, `"provider":"`) {
				p.t.Errorf("%s: %s", code, offers.Text)
			}
		}
	}
	if len(all.Corridors) < 160 || len(currencies) < 99 {
		p.t.Errorf("%d countries, %d currencies", len(all.Corridors), len(currencies))
	}
	if a := p.Send("GET /corridors/JO?lang=ar", "", ""); !strings.Contains(a.Text, "الأردن") || !strings.Contains(a.Text, "سويفت") {
		p.t.Error(a.Text)
	}
	if a := p.Send("GET /corridors/US", "", ""); !strings.Contains(a.Text, `"United States"`) || !strings.Contains(a.Text, `"aba"`) {
		p.t.Error(a.Text)
	}
	for _, country := range []string{"IR", "us", "ZZZZZZZZZZZZZZZZZZZZ"} {
		servicetest.Want(p.t, p.Send("GET /corridors/"+country, "", ""), http.StatusNotFound, "unknown_corridor")
	}
	servicetest.Want(p.t, p.Send("GET /corridors?lang=fr", "", ""), http.StatusBadRequest, "invalid_request")
}

func quotes(p *town) {
	q, one := p.quote("k", want("PK", "PKR", 100_000, fixSend))
	if q.SendAmount != 100_000 || q.Total != q.SendAmount+q.Fee || q.SendCurrency != "AED" || q.ReceiveCurrency != "PKR" || time.Until(q.Expires) > time.Minute || q.Provider == "" {
		p.t.Errorf("%+v", q)
	}
	if two := p.Send("POST /quotes", "k", want("PK", "PKR", 100_000, fixSend)); !two.Replayed || two.Text != one.Text || two.Status != http.StatusCreated {
		p.t.Errorf("again: %v %d %s, want %s", two.Replayed, two.Status, two.Text, one.Text)
	}
	servicetest.Want(p.t, p.Send("POST /quotes", "k", want("PK", "PKR", 100_001, fixSend)), http.StatusUnprocessableEntity, "idempotency_conflict")
	if a := p.Send("GET /quotes/"+q.ID, "", ""); a.Status != http.StatusOK || a.Text != one.Text {
		p.t.Errorf("%d %s", a.Status, a.Text)
	}
	if ttl := p.redis.PTTL(p.t.Context(), quotePrefix+q.ID).Val(); ttl <= 0 || ttl > time.Minute {
		p.t.Errorf("it is kept for %s", ttl)
	}
	back, _ := p.quote("back", want("JP", "JPY", 12_345, fixReceive))
	if back.ReceiveAmount != 12_345 || back.Total != back.SendAmount+back.Fee || back.SendAmount < 1 {
		p.t.Errorf("%+v", back)
	}
	same, _ := p.quote("same", `{"account":5,"country":"JP","currency":"JPY","amount":500,"fix":"send"}`)
	if same.Rate != "1" || same.ReceiveAmount != 500 {
		p.t.Errorf("%+v", same)
	}
	replies := make([]servicetest.Reply, 20)
	var wait sync.WaitGroup
	for i := range replies {
		wait.Go(func() { replies[i] = p.Service.Send("POST /quotes", "atonce", want("IN", "INR", 5000, fixSend)) })
	}
	wait.Wait()
	for _, a := range replies {
		if servicetest.Want(p.t, a, http.StatusCreated, ""); a.Text != replies[0].Text {
			p.t.Errorf("two quotes under one key: %s, %s", a.Text, replies[0].Text)
		}
	}
	for _, c := range []struct {
		body   string
		status int
		code   string
	}{
		{want("IR", "IRR", 1, fixSend), http.StatusNotFound, "unknown_corridor"},
		{want("PK", "INR", 1, fixSend), http.StatusUnprocessableEntity, "currency_not_paid"},
		{want("PK", "PKR", 0, fixSend), http.StatusUnprocessableEntity, "invalid_amount"},
		{want("PK", "PKR", 1, "both"), http.StatusUnprocessableEntity, "invalid_fix"},
		{want("KW", "KWD", 1_000_000_000_000, fixReceive), http.StatusUnprocessableEntity, "amount_too_large"},
		{`{"account":0,"country":"PK","currency":"PKR","amount":1,"fix":"send"}`, http.StatusUnprocessableEntity, "invalid_account"},
		{`{"account":99,"country":"PK","currency":"PKR","amount":1,"fix":"send"}`, http.StatusNotFound, "unknown_account"},
		{`{"account":5,"country":"KW","currency":"KWD","amount":1,"fix":"send"}`, http.StatusCreated, ""}, // a yen is two fils
		{`{"rate":1}`, http.StatusBadRequest, "invalid_request"},
	} {
		servicetest.Want(p.t, p.Send("POST /quotes", "bad-"+c.code, c.body), c.status, c.code)
	}
	servicetest.Want(p.t, p.Send("POST /quotes", "a b", want("PK", "PKR", 1, fixSend)), http.StatusBadRequest, "idempotency_key_invalid")
	if err := p.rates.Stop(); err != nil {
		p.t.Fatal(err)
	}
	servicetest.Want(p.t, p.Send("POST /quotes", "later", want("PK", "PKR", 1, fixSend)), http.StatusServiceUnavailable, "unavailable")
}

func expires(p *town) {
	q, _ := p.quote("k", want("PK", "PKR", 100_000, fixSend))
	servicetest.Want(p.t, p.Send("POST /sends", "early", order(q.ID)), http.StatusCreated, "")
	p.restart(func(o *Options) { o.QuoteLife = 20 * time.Millisecond })
	short, one := p.quote("short", want("PK", "PKR", 100_000, fixSend))
	servicetest.Await(p.t, "the quote to expire", func() bool { return p.Send("GET /quotes/"+short.ID, "", "").Status == http.StatusNotFound })
	no := servicetest.Want(p.t, p.Send("POST /sends", "late", order(short.ID)), http.StatusNotFound, "unknown_quote")
	if again := p.Send("POST /sends", "late", order(short.ID)); !again.Replayed || again.Text != no.Text || again.Status != no.Status {
		p.t.Errorf("%d %s", again.Status, again.Text)
	}
	servicetest.Want(p.t, p.Send("POST /sends", "late", order(q.ID)), http.StatusUnprocessableEntity, "idempotency_conflict")
	if two := p.Send("POST /quotes", "short", want("PK", "PKR", 100_000, fixSend)); !two.Replayed || two.Text != one.Text {
		p.t.Errorf("its key: %s", two.Text)
	}
	// A quote that Redis forgot to forget is over too.
	short.Expires = time.Now().Add(-time.Second)
	text, err := json.Marshal(short)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.redis.Set(p.t.Context(), quotePrefix+short.ID, text, 0).Err(); err != nil {
		p.t.Fatal(err)
	}
	servicetest.Want(p.t, p.Send("GET /quotes/"+short.ID, "", ""), http.StatusNotFound, "unknown_quote")
}

func pays(p *town) {
	p.restart(func(o *Options) { o.SubmitAfter, o.PayAfter = time.Hour, time.Hour })
	q, one := p.sendTo("k", 100_000)
	servicetest.Want(p.t, one, http.StatusCreated, "")
	var v view
	if err := json.Unmarshal([]byte(one.Text), &v); err != nil {
		p.t.Fatal(err)
	}
	if v.State != Held || v.Quote != q.ID || v.Account != 2 || v.SendAmount != q.SendAmount || v.Fee != q.Fee || v.Total != q.Total || v.Currency != "AED" || v.ReceiveAmount != q.ReceiveAmount || v.Hold == 0 || v.Provider != q.Provider {
		p.t.Errorf("%+v, the quote was %+v", v, q)
	}
	if strings.Contains(one.Text, "SCBL") {
		p.t.Error("the answer shows the beneficiary's account")
	}
	if two := p.Send("POST /sends", "k", order(q.ID)); !two.Replayed || two.Text != one.Text || two.Status != http.StatusCreated {
		p.t.Errorf("again: %s, want %s", two.Text, one.Text)
	}
	servicetest.Want(p.t, p.Send("POST /sends", "k", strings.Replace(order(q.ID), "family", "rent", 1)), http.StatusUnprocessableEntity, "idempotency_conflict")
	no := servicetest.Want(p.t, p.Send("POST /sends", "other", order(q.ID)), http.StatusConflict, "quote_used")
	if again := p.Send("POST /sends", "other", order(q.ID)); !again.Replayed || again.Text != no.Text {
		p.t.Errorf("%s, then %s", no.Text, again.Text)
	}
	if n := p.number(p.bank0, "SELECT held FROM accounts WHERE id = 2"); n != q.Total {
		p.t.Errorf("%d are held, want %d", n, q.Total)
	}
	var kept string
	if err := p.db.QueryRow(p.t.Context(), "SELECT beneficiary->'fields'->>'iban' FROM sends").Scan(&kept); err != nil || kept != "PK36SCBL0000001123456702" {
		p.t.Errorf("kept was %q, %v", kept, err)
	}
	for _, state := range []string{Submitted, Paid} {
		if a := p.Send(fmt.Sprint("GET /sends/", v.ID), "", ""); a.State == state {
			p.t.Errorf("it is %s before its time", state)
		}
		p.is(v.ID, state)
	}
	_, two := p.sendTo("k2", 50_000)
	list := servicetest.Want(p.t, p.Send("GET /sends?account=2", "", ""), http.StatusOK, "")
	var sends struct{ Sends []view }
	if err := json.Unmarshal([]byte(list.Text), &sends); err != nil {
		p.t.Fatal(err)
	}
	if len(sends.Sends) != 2 || sends.Sends[0].ID != two.ID || sends.Sends[1].State != Paid || sends.Sends[1].Capture == nil || sends.Sends[1].Beneficiary != "Amina Khan" {
		p.t.Errorf("%s", list.Text)
	}
	if a := p.Send("GET /sends?account=3&limit=5", "", ""); a.Text != `{"sends":[]}` {
		p.t.Error(a.Text)
	}
	if page := p.Send("GET /metrics", "", "").Text; !strings.Contains(page, `superapp_sends_total{state="paid"} 1`) {
		p.t.Error("the metrics do not say that one was paid")
	}
}

// next makes the next send's id one that the provider pays, or does not.
func (p *town) next(fails bool) int64 {
	p.t.Helper()
	id := p.number(p.db, "SELECT coalesce(max(id), 0) + 1 FROM sends")
	for ; providerFails(id) != fails; id++ {
	}
	p.exec(p.db, fmt.Sprintf("ALTER SEQUENCE sends_id_seq RESTART WITH %d", id))
	return id
}

func refunds(p *town) {
	id := p.next(true)
	_, a := p.sendTo("k", 100_000)
	if servicetest.Want(p.t, a, http.StatusCreated, ""); a.ID != id {
		p.t.Fatalf("it is send %d, want %d", a.ID, id)
	}
	p.is(id, Refunded)
	if n := p.number(p.bank0, "SELECT balance FROM accounts WHERE id = 2"); n != opening {
		p.t.Errorf("the customer has %d, want %d", n, opening)
	}
	if n := p.number(p.bank0, "SELECT count(*) FROM entries WHERE account = 2"); n != 3 {
		p.t.Errorf("the account has %d entries, want its opening, the capture and the refund", n)
	}
}

func declines(p *town) {
	q, one := p.sendTo("k", opening) // and the fee is too much
	if q.Fee == 0 {
		q, one = p.sendTo("k+", opening+1)
	}
	servicetest.Want(p.t, one, http.StatusUnprocessableEntity, "insufficient_funds")
	key := "k"
	if q.SendAmount > opening {
		key = "k+"
	}
	if again := p.Send("POST /sends", key, order(q.ID)); one.State != Declined || !again.Replayed || again.Text != one.Text {
		p.t.Errorf("%s, then %s", one.Text, again.Text)
	}
	servicetest.Want(p.t, p.Send("POST /sends", "another", order(q.ID)), http.StatusConflict, "quote_used")
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /sends/%d/cancel", one.ID), "c", ""), http.StatusConflict, "send_closed")
	p.is(one.ID, Declined)
}

func badRequests(p *town) {
	q, _ := p.quote("k", want("PK", "PKR", 100_000, fixSend))
	good := order(q.ID)
	for _, c := range []struct {
		what, key, body string
		status          int
		code, text      string
	}{
		{"POST /sends", "", good, http.StatusBadRequest, "idempotency_key_missing", ""},
		{"POST /sends", "s", "[]", http.StatusBadRequest, "invalid_request", ""},
		{"POST /sends", "s", strings.Replace(good, "Amina Khan", " ", 1), http.StatusUnprocessableEntity, "invalid_beneficiary", "name"},
		{"POST /sends", "s", strings.Replace(good, "Amina Khan", `a\nb`, 1), http.StatusUnprocessableEntity, "invalid_beneficiary", "name"},
		{"POST /sends", "s", strings.Replace(good, "PK36", "PK37", 1), http.StatusUnprocessableEntity, "invalid_beneficiary", "iban"},
		{"POST /sends", "s", strings.Replace(good, `"bic"`, `"bix"`, 1), http.StatusUnprocessableEntity, "invalid_beneficiary", "bic"},
		{"POST /sends", "s", strings.Replace(good, "family", "", 1), http.StatusUnprocessableEntity, "invalid_purpose", ""},
		{"POST /sends", "s2", order(""), http.StatusNotFound, "unknown_quote", ""},
		{"POST /sends", "s3", order(strings.Repeat("q", 1000)), http.StatusNotFound, "unknown_quote", ""},
		{"GET /quotes/none", "", "", http.StatusNotFound, "unknown_quote", ""},
		{"GET /sends/99", "", "", http.StatusNotFound, "unknown_send", ""},
		{"GET /sends/0", "", "", http.StatusBadRequest, "invalid_request", ""},
		{"GET /sends", "", "", http.StatusBadRequest, "invalid_request", ""},
		{"GET /sends?account=2&limit=1000", "", "", http.StatusBadRequest, "invalid_request", ""},
		{"POST /sends/99/cancel", "c", "", http.StatusNotFound, "unknown_send", ""},
		{"POST /sends/99/cancel", "", "", http.StatusBadRequest, "idempotency_key_missing", ""},
	} {
		a := servicetest.Want(p.t, p.Send(c.what, c.key, c.body), c.status, c.code)
		if !strings.HasPrefix(a.Error, c.text) || strings.Contains(a.Error, "SCBL 0000") {
			p.t.Errorf("%s: %q does not name %q, or shows the account", c.body, a.Error, c.text)
		}
	}
	if n := p.number(p.db, "SELECT count(*) FROM sends"); n != 0 {
		p.t.Errorf("bad requests left %d sends", n)
	}
	servicetest.Want(p.t, p.Send("POST /sends", "s", good), http.StatusCreated, "") // the quote is still good
}

// Many want one quote, each under its own key: one gets it.
func raced(p *town) {
	q, _ := p.quote("k", want("PK", "PKR", 1000, fixSend))
	replies := make([]servicetest.Reply, 40)
	var wait sync.WaitGroup
	for i := range replies {
		wait.Go(func() { replies[i] = p.Service.Send("POST /sends", fmt.Sprint("s", i), order(q.ID)) })
	}
	wait.Wait()
	won := 0
	for _, a := range replies {
		if a.Status == http.StatusCreated {
			won++
			continue
		}
		servicetest.Want(p.t, a, http.StatusConflict, "quote_used")
	}
	if n := p.number(p.db, "SELECT count(*) FROM sends"); won != 1 || n != 1 {
		p.t.Errorf("%d won, and there are %d sends", won, n)
	}
	if n := p.number(p.bank0, "SELECT count(*) FROM holds"); n != 1 {
		p.t.Errorf("there are %d holds", n)
	}
	for i, a := range replies {
		if again := p.Send("POST /sends", fmt.Sprint("s", i), order(q.ID)); !again.Replayed || again.Text != a.Text || again.Status != a.Status {
			p.t.Errorf("%d %s, then %d %s", a.Status, a.Text, again.Status, again.Text)
		}
	}
}

func atOnce(p *town) {
	q, _ := p.quote("k", want("PK", "PKR", 1000, fixSend))
	replies := make([]servicetest.Reply, 20)
	var wait sync.WaitGroup
	for i := range replies {
		wait.Go(func() { replies[i] = p.Service.Send("POST /sends", "s", order(q.ID)) })
	}
	wait.Wait()
	for _, a := range replies {
		if servicetest.Want(p.t, a, http.StatusCreated, ""); a.Text != replies[0].Text {
			p.t.Errorf("two answers: %s and %s", a.Text, replies[0].Text)
		}
	}
}

func cancels(p *town) {
	p.restart(func(o *Options) { o.SubmitAfter = time.Hour })
	_, a := p.sendTo("k", 1000)
	cancel := fmt.Sprintf("POST /sends/%d/cancel", a.ID)
	one := servicetest.Want(p.t, p.Send(cancel, "c", ""), http.StatusOK, "")
	if two := p.Send(cancel, "c", ""); one.State != Cancelled || !two.Replayed || two.Text != one.Text {
		p.t.Errorf("%s, then %s", one.Text, two.Text)
	}
	if again := servicetest.Want(p.t, p.Send(cancel, "c2", ""), http.StatusOK, ""); again.State != Cancelled {
		p.t.Error(again.Text)
	}
	_, b := p.sendTo("k2", 1000)
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /sends/%d/cancel", b.ID), "c", ""), http.StatusUnprocessableEntity, "idempotency_conflict")
	p.is(a.ID, Cancelled)
	p.is(b.ID, Submitted)
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /sends/%d/cancel", b.ID), "c3", ""), http.StatusConflict, "send_closed")

	// It was released, and the service died before it wrote that down: the worker finds out.
	_, c := p.sendTo("k3", 1000)
	hold := p.number(p.db, "SELECT hold FROM sends WHERE id = $1", c.ID)
	servicetest.Want(p.t, p.bank.Send(fmt.Sprintf("POST /holds/%d/release", hold), fmt.Sprintf("send:%d:release", c.ID), "{}"), http.StatusOK, "")
	p.is(c.ID, Cancelled)

	// Its hold was never made: the bank was away.
	p.wire.set(cutBefore, ".* send:.*:hold")
	q, _ := p.quote("q4", want("PK", "PKR", 1000, fixSend))
	servicetest.Want(p.t, p.Send("POST /sends", "k4", order(q.ID)), http.StatusServiceUnavailable, "unavailable")
	p.wire.set(sound, "")
	id := p.number(p.db, "SELECT id FROM sends WHERE key = 'k4'")
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /sends/%d/cancel", id), "c4", ""), http.StatusOK, "")
	servicetest.Want(p.t, p.Send("POST /sends", "k4", order(q.ID)), http.StatusCreated, "")
}

// Cancelled and submitted at the same instant, a send ends as one of both, with the
// money where that says (the audit looks), and the customer is told the truth.
func cancelRaced(p *town) {
	const sends = 30
	p.next(false)
	ids := make([]int64, sends)
	for i := range ids {
		q, _ := p.quote(fmt.Sprint("q", i), want("PK", "PKR", 1000, fixSend))
		ids[i] = servicetest.Want(p.t, p.Send("POST /sends", fmt.Sprint("s", i), order(q.ID)), http.StatusCreated, "").ID
		a := p.Send(fmt.Sprintf("POST /sends/%d/cancel", ids[i]), fmt.Sprint("c", i), "")
		state := ""
		servicetest.Await(p.t, "the end", func() bool {
			p.soon()
			state = p.Send(fmt.Sprint("GET /sends/", ids[i]), "", "").State
			return state == Cancelled || state == Paid || state == Refunded
		})
		if (a.Status == http.StatusOK) != (state == Cancelled) {
			p.t.Errorf("the customer was told %d %s, and send %d is %s", a.Status, a.Text, ids[i], state)
		}
	}
}

// whole are the steps of a send by the requests that they make.
var whole = []struct { //nolint:gochecknoglobals // a table
	fails         bool
	path          string // and key
	before, after string // states
}{
	{false, "/holds send:.*:hold", Created, Held},
	{false, "/capture send:.*:capture", Held, Submitted},
	{false, "/transfers send:.*:fee", Submitted, Paid},
	{true, "/transfers send:.*:refund", Failed, Refunded},
}

// The bank goes away before and behind each step; when it is back, all ends right.
func awayAtEachStep(p *town) {
	for i, c := range whole {
		for _, f := range []fault{cutBefore, cutBehind} {
			id := p.next(c.fails)
			p.wire.set(f, c.path)
			q, _ := p.quote(fmt.Sprintf("q%d-%d", i, f), want("FR", "EUR", 10_000, fixSend))
			body := toFrance(q.ID)
			key := fmt.Sprintf("s%d-%d", i, f)
			if a := p.Send("POST /sends", key, body); (a.Status == http.StatusCreated) != (c.before != Created) {
				p.t.Fatalf("%d %s", a.Status, a.Text)
			}
			p.is(id, c.before)
			p.wire.await(p.t)
			p.is(id, c.before)
			if c.before == Held && f == cutBehind { // the money is taken, and that is not written down: too late
				servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /sends/%d/cancel", id), "late", ""), http.StatusConflict, "send_closed")
			}
			p.wire.set(sound, "")
			end := Paid
			if c.fails {
				end = Refunded
			}
			p.is(id, end)
			if a := p.Send("POST /sends", key, body); !a.Replayed || a.Status != http.StatusCreated || a.State != Held {
				p.t.Errorf("asked again: %v %d %s", a.Replayed, a.Status, a.Text)
			}
		}
	}
}

// The service is killed when the bank has done a step and it has not written that
// down. The next one goes on from there.
func killedAtEachStep(p *town) {
	if err := p.Stop(); err != nil {
		p.t.Fatal(err)
	}
	for i, c := range whole {
		id := p.next(c.fails)
		p.wire.set(hangBehind, c.path)
		kill := p.child()
		q, _ := p.quote(fmt.Sprint("q", i), want("FR", "EUR", 10_000, fixSend))
		gone := make(chan servicetest.Reply, 1)
		go func() { gone <- p.Service.Send("POST /sends", fmt.Sprint("s", i), toFrance(q.ID)) }()
		p.wire.await(p.t)
		kill()
		if a := <-gone; (a.Err == nil) != (c.before != Created) {
			p.t.Errorf("%d %s, %v", a.Status, a.Text, a.Err)
		}
		if n := p.number(p.db, "SELECT count(*) FROM sends WHERE id = $1 AND state = $2", id, c.before); n != 1 {
			p.t.Errorf("it is not %s", c.before)
		}
		p.wire.set(sound, "")
		p.start()
		end := Paid
		if c.fails {
			end = Refunded
		}
		p.is(id, end)
		if a := p.Send("POST /sends", fmt.Sprint("s", i), toFrance(q.ID)); !a.Replayed || a.Status != http.StatusCreated {
			p.t.Errorf("asked again: %v %d %s", a.Replayed, a.Status, a.Text)
		}
		if i < len(whole)-1 {
			if err := p.Stop(); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// child runs the service as a process of its own, and gives what kills it.
func (p *town) child() (kill func()) {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), "address")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childAccounts+"="+p.wire.URL, childFX+"="+p.rates.URL, childFile+"="+file, "DATABASE_URL="+p.url)
	if err := child.Start(); err != nil {
		p.t.Fatal(err)
	}
	kill = sync.OnceFunc(func() { _ = child.Process.Kill(); _ = child.Wait() })
	p.t.Cleanup(kill)
	servicetest.Await(p.t, "the child", func() bool {
		address, err := service.ReadAddress(file)
		p.Service.URL = "http://" + address
		return err == nil
	})
	return kill
}

// Redis loses everything: quotes are gone, and what was sent is not.
func quotesLost(p *town) {
	q, one := p.sendTo("k", 1000)
	lost, _ := p.quote("lost", want("PK", "PKR", 1000, fixSend))
	if err := p.redis.FlushAll(p.t.Context()).Err(); err != nil {
		p.t.Fatal(err)
	}
	if two := p.Send("POST /sends", "k", order(q.ID)); !two.Replayed || two.Text != one.Text {
		p.t.Errorf("%d %s", two.Status, two.Text)
	}
	servicetest.Want(p.t, p.Send("POST /sends", "k2", order(lost.ID)), http.StatusNotFound, "unknown_quote")
	servicetest.Want(p.t, p.Send("POST /sends", "k2", order(q.ID)), http.StatusUnprocessableEntity, "idempotency_conflict")
}

// Each send that was paid is told to the analytics.
func tells(p *town) {
	var mu sync.Mutex
	got := map[string]outbox.Event{}
	events := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Events []outbox.Event }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/events" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, e := range body.Events {
			got[e.ID] = e
		}
		_, _ = fmt.Fprintf(w, `{"taken":%d}`, len(body.Events))
	}))
	p.t.Cleanup(events.Close)
	p.events = p.address(events.URL)
	p.restart(nil)
	p.next(false)
	q, a := p.sendTo("k", 1000)
	p.is(a.ID, Paid)
	p.next(true)
	_, b := p.sendTo("k2", 1000)
	p.is(b.ID, Refunded)
	servicetest.Await(p.t, "the relay", func() bool { return p.number(p.db, "SELECT count(*) FROM outbox") == 0 })
	mu.Lock()
	defer mu.Unlock()
	e := got["transfers:1"]
	if len(got) != 1 || e.Account != 2 || e.Kind != "send" || e.Category != "abroad" || e.Merchant != "PK" || e.Currency != "AED" || e.Amount != q.Total || e.At.IsZero() {
		p.t.Errorf("%+v", got)
	}
}
