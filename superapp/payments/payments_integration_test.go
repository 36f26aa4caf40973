package payments_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"dhow/internal/pgserver/pgtest"
	"dhow/superapp/accounts"
	"dhow/superapp/payments"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

// The variables that make this binary a payments service of its own, to be killed.
const childAccounts, childFile = "PAYMENTS_TEST_ACCOUNTS", "PAYMENTS_TEST_FILE"

func TestMain(m *testing.M) {
	if address := os.Getenv(childAccounts); address != "" {
		u, err := url.Parse(address)
		if err == nil {
			err = payments.Run(context.Background(), service.Options{Listen: "127.0.0.1:0", AddressFile: os.Getenv(childFile), Instance: "source", Pool: 4, LogLevel: "error"}, u, nil)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// wire is what stands between the services. It can cut a transfer before it
// arrives or its answer behind it.
type wire struct {
	*httptest.Server
	mu    sync.Mutex
	fault fault
	met   chan struct{} // tells of each fault
}

type fault int

const (
	sound fault = iota
	cutBefore
	cutBehind
	hangBehind // the transfer is made, and the answer never comes
	proxyError // something in between answers in the service's place
)

func newWire(t *testing.T, to string) *wire {
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{met: make(chan struct{}, 100)}
	transport := &http.Transport{}
	over := make(chan struct{})
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		f := w.fault
		w.mu.Unlock()
		switch f {
		case sound:
			proxy.ServeHTTP(rw, r)
			return
		case proxyError:
			rw.WriteHeader(http.StatusNotFound)
			_, _ = rw.Write([]byte("no such page"))
		case cutBehind, hangBehind:
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		w.met <- struct{}{}
		if f == hangBehind {
			select {
			case <-over:
			case <-r.Context().Done():
			}
		}
		if f != proxyError {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(func() { close(over); w.Close(); transport.CloseIdleConnections() })
	return w
}

func (w *wire) set(f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = f
}

// town is a bank and a payments service before it: accounts 2 and 3 hold 1000 AED each, 4 is in USD.
type town struct {
	*servicetest.Service
	t         *testing.T
	bank      *servicetest.Service
	wire      *wire
	url       string
	db, bank0 *pgxpool.Pool
	doc       *servicetest.Description
	events    *url.URL // of the analytics; nil for none
	told      int64    // how many events have left for it
}

// Send asks, and holds each answer against the document.
func (p *town) Send(what, key, body string) servicetest.Reply {
	a := p.Service.Send(what, key, body)
	p.doc.Check(p.t, what, key, body, a)
	return a
}

const opening = 1000

func TestPayments(t *testing.T) {
	s := pgtest.Start(t, 15)
	for i, c := range []struct {
		name string
		test func(*town)
	}{
		{"a payment and its key", pays},
		{"declined payments", declines},
		{"bad requests", badRequests},
		{"requests", requests},
		{"the accounts service is away", bankAway},
		{"the answer to a transfer is lost", answerLost},
		{"a proxy's answer is no outcome", proxyAnswers},
		{"the same payment at once", atOnce},
		{"killed behind the transfer", killed},
		{"killed before the transfer", leftPending},
		{"an accepted request is left pending", acceptedPending},
		{"metrics", metrics},
		{"splits", splits},
		{"the same split at once", splitAtOnce},
		{"lists", lists},
		{"requests expire", expires},
		{"the analytics are told", tells},
		{"history can not be changed", historyStays},
		{"expiry against acceptance", expiryAgainstAccept},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &town{t: t}
			bankURL, bankDB := servicetest.Database(t, s, fmt.Sprint("bank", i), accounts.Migrate)
			p.bank0 = bankDB
			p.url, p.db = servicetest.Database(t, s, fmt.Sprint("payments", i), payments.Migrate)
			p.url = servicetest.Restricted(t, s, p.url, payments.Schema())
			p.bank = servicetest.Start(t, bankURL, service.Options{}, func(ctx context.Context, o service.Options) error {
				return service.Run(ctx, accounts.Name, o, accounts.New)
			})
			p.exec(p.bank0, "INSERT INTO accounts (customer, kind, currency) VALUES (0, 'system', 'AED'), (1, 'customer', 'AED'), (2, 'customer', 'AED'), (3, 'customer', 'USD')")
			for id := 2; id <= 3; id++ {
				servicetest.Want(t, p.bank.Send("POST /transfers", fmt.Sprint("open", id), fmt.Sprintf(`{"from":1,"to":%d,"amount":%d,"currency":"AED","reference":"opening"}`, id, opening)), http.StatusCreated, "")
			}
			p.wire = newWire(t, p.bank.URL)
			p.start()
			c.test(p)
			p.audit()
		})
	}
}

// The service's role changes no amount and deletes no payment.
func historyStays(p *town) {
	servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusCreated, "")
	conn, err := pgx.Connect(p.t.Context(), p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, sql := range []string{
		"UPDATE payments SET amount = 1", "DELETE FROM payments", "UPDATE requests SET payer = payee", "DELETE FROM requests",
		"UPDATE splits SET total = 1", "DELETE FROM splits", "UPDATE outbox SET event = '{}'", "DELETE FROM idempotency", "CREATE TABLE mine (id int)", "DROP TABLE payments",
	} {
		var refused *pgconn.PgError
		if _, err := conn.Exec(p.t.Context(), sql); !errors.As(err, &refused) || refused.Code != "42501" {
			p.t.Errorf("%s: %v", sql, err)
		}
	}
}

func (p *town) start() {
	p.t.Helper()
	u, err := url.Parse(p.wire.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Service = servicetest.Start(p.t, p.url, service.Options{}, func(ctx context.Context, o service.Options) error { return payments.Run(ctx, o, u, p.events) })
	p.doc = p.Described(p.t)
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

// paid checks how many transfers a payment's key has made, and what account 2 holds.
func (p *town) paid(transfers, balance int64) {
	p.t.Helper()
	if n := p.number(p.bank0, "SELECT count(*) FROM transfers WHERE key LIKE 'payment:%'"); n != transfers {
		p.t.Errorf("%d transfers were made, want %d", n, transfers)
	}
	if n := p.number(p.bank0, "SELECT balance FROM accounts WHERE id = 2"); n != balance {
		p.t.Errorf("account 2 holds %d, want %d", n, balance)
	}
}

// audit holds at every test's end: each completed payment has its transfer, each
// transfer its completed payment, and the ledger adds up.
func (p *town) audit() {
	p.t.Helper()
	completed := p.number(p.db, "SELECT count(*) FROM payments WHERE state = 'completed'")
	transfers := p.number(p.bank0, "SELECT count(*) FROM transfers WHERE key LIKE 'payment:%'")
	if completed != transfers {
		p.t.Errorf("%d payments are completed, and %d transfers were made", completed, transfers)
	}
	if n := p.number(p.bank0, "SELECT count(*) FROM (SELECT FROM accounts GROUP BY currency HAVING sum(balance) <> 0) x"); n != 0 {
		p.t.Error("money was made or lost")
	}
	if n := p.number(p.db, "SELECT count(*) FROM outbox WHERE (event->>'amount')::bigint > 0 AND event->>'kind' = 'payment' AND event->>'currency' = 'AED' AND (event->>'account')::bigint IN (SELECT payer FROM payments)"); n+p.told != completed {
		p.t.Errorf("%d payments are completed, the outbox tells of %d, and %d were told", completed, n, p.told)
	}
	if n := p.number(p.db, "SELECT count(*) FROM requests r LEFT JOIN payments p ON p.id = r.payment WHERE (r.state = 'accepted') <> (p.state IS NOT DISTINCT FROM 'completed')"); n != 0 {
		p.t.Errorf("%d requests are not as their payments", n)
	}
	if n := p.number(p.db, "SELECT count(*) FROM payments p JOIN idempotency i USING (key) WHERE (p.state = 'pending') <> (i.status = 102)"); n != 0 {
		p.t.Errorf("of %d payments the key says something else", n)
	}
}

func order(from, to, amount int) string {
	return fmt.Sprintf(`{"from":%d,"to":%d,"amount":%d,"currency":"AED","note":"rent"}`, from, to, amount)
}

func (p *town) pay(key string, from, to, amount int) servicetest.Reply {
	return p.Send("POST /payments", key, order(from, to, amount))
}

func pays(p *town) {
	one := servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusCreated, "")
	if one.State != payments.Completed || one.FromBalance != opening-100 || one.FromVersion != 2 || one.Replayed {
		p.t.Errorf("%s", one.Text)
	}
	two := servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusCreated, "")
	if !two.Replayed || two.Text != one.Text {
		p.t.Errorf("replayed %v: %s; want %s", two.Replayed, two.Text, one.Text)
	}
	servicetest.Want(p.t, p.pay("k", 2, 3, 101), http.StatusUnprocessableEntity, "idempotency_conflict")
	servicetest.Want(p.t, p.Send("POST /requests", "k", `{"payee":2,"payer":3,"amount":1,"currency":"AED"}`), http.StatusUnprocessableEntity, "idempotency_conflict")
	if a := p.Send(fmt.Sprint("GET /payments/", one.ID), "", ""); a.Status != http.StatusOK || a.State != payments.Completed || !strings.Contains(a.Text, `"note":"rent"`) {
		p.t.Errorf("%d %s", a.Status, a.Text)
	}
	p.paid(1, opening-100)
}

func declines(p *town) {
	for i, c := range []struct {
		from, to, amount int
		status           int
		code             string
	}{
		{2, 3, opening + 1, http.StatusUnprocessableEntity, "insufficient_funds"}, {2, 99, 1, http.StatusNotFound, "unknown_account"},
		{99, 2, 1, http.StatusNotFound, "unknown_account"}, {2, 4, 1, http.StatusUnprocessableEntity, "currency_mismatch"},
	} {
		key := fmt.Sprint("d", i)
		one := servicetest.Want(p.t, p.pay(key, c.from, c.to, c.amount), c.status, c.code)
		two := servicetest.Want(p.t, p.pay(key, c.from, c.to, c.amount), c.status, c.code)
		if one.State != payments.Declined || two.Text != one.Text || !two.Replayed {
			p.t.Errorf("%s, then %s (replayed %v)", one.Text, two.Text, two.Replayed)
		}
	}
	if n := p.number(p.db, "SELECT count(*) FROM payments WHERE state = 'declined' AND transfer IS NULL"); n != 4 {
		p.t.Errorf("%d of 4 are declined", n)
	}
	p.paid(0, opening)
}

func badRequests(p *town) {
	for _, c := range []struct {
		what, key, body string
		status          int
		code            string
	}{
		{"POST /payments", "", order(2, 3, 1), http.StatusBadRequest, "idempotency_key_missing"},
		{"POST /payments", "request:5", order(2, 3, 1), http.StatusBadRequest, "idempotency_key_invalid"},
		{"POST /payments", strings.Repeat("k", 250), order(2, 3, 1), http.StatusBadRequest, "idempotency_key_invalid"},
		{"POST /payments", "k", "[]", http.StatusBadRequest, "invalid_request"},
		{"POST /payments", "k", order(2, 2, 1), http.StatusUnprocessableEntity, "same_account"},
		{"POST /payments", "k", order(0, 2, 1), http.StatusUnprocessableEntity, "invalid_account"},
		{"POST /payments", "k", order(2, 3, 0), http.StatusUnprocessableEntity, "invalid_amount"},
		{"POST /payments", "k", strings.Replace(order(2, 3, 1), "rent", strings.Repeat("x", 141), 1), http.StatusUnprocessableEntity, "invalid_note"},
		{"POST /payments", "k", strings.Replace(order(2, 3, 1), "AED", "aed", 1), http.StatusUnprocessableEntity, "unknown_currency"},
		{"GET /payments/99", "", "", http.StatusNotFound, "unknown_payment"},
		{"GET /requests/99", "", "", http.StatusNotFound, "unknown_request"},
		{"GET /requests/0", "", "", http.StatusBadRequest, "invalid_request"},
		{"POST /requests/99/accept", "k", "", http.StatusNotFound, "unknown_request"},
		{"POST /requests/99/decline", "k", "", http.StatusNotFound, "unknown_request"},
		{"POST /requests", "k", `{"payee":2,"payer":2,"amount":1,"currency":"AED"}`, http.StatusUnprocessableEntity, "same_account"},
	} {
		servicetest.Want(p.t, p.Send(c.what, c.key, c.body), c.status, c.code)
	}
	if n := p.number(p.db, "SELECT (SELECT count(*) FROM idempotency) + (SELECT count(*) FROM payments)"); n != 0 {
		p.t.Errorf("bad requests left %d rows", n)
	}
}

// ask makes a request in which 3 asks 2 for money.
func (p *town) ask(key string, amount int) int64 {
	p.t.Helper()
	body := fmt.Sprintf(`{"payee":3,"payer":2,"amount":%d,"currency":"AED","note":"dinner"}`, amount)
	a := servicetest.Want(p.t, p.Send("POST /requests", key, body), http.StatusCreated, "")
	if again := p.Send("POST /requests", key, body); again.Text != a.Text || !again.Replayed {
		p.t.Errorf("asked again: %s", again.Text)
	}
	return a.ID
}

func (p *town) requestIs(id int64, state string) {
	p.t.Helper()
	if a := servicetest.Want(p.t, p.Send(fmt.Sprint("GET /requests/", id), "", ""), http.StatusOK, ""); a.State != state {
		p.t.Errorf("request %d is %s, want %s", id, a.State, state)
	}
}

func requests(p *town) {
	id := p.ask("a", 100)
	p.requestIs(id, payments.Open)
	accept := fmt.Sprintf("POST /requests/%d/accept", id)
	one := servicetest.Want(p.t, p.Send(accept, "yes", ""), http.StatusOK, "")
	if one.ID != id || one.State != payments.Accepted || one.FromBalance != opening-100 || one.Payment == 0 {
		p.t.Errorf("%s", one.Text)
	}
	if two := p.Send(accept, "yes", ""); two.Text != one.Text || !two.Replayed {
		p.t.Errorf("accepted again: %s", two.Text)
	}
	servicetest.Want(p.t, p.Send(accept, "other", ""), http.StatusConflict, "request_closed")
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /requests/%d/decline", id), "no", ""), http.StatusConflict, "request_closed")
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /requests/%d/decline", id), "yes", ""), http.StatusUnprocessableEntity, "idempotency_conflict")
	p.requestIs(id, payments.Accepted)

	id = p.ask("b", 100)
	decline := fmt.Sprintf("POST /requests/%d/decline", id)
	one = servicetest.Want(p.t, p.Send(decline, "no", ""), http.StatusOK, "")
	if two := p.Send(decline, "no", ""); one.State != payments.Declined || two.Text != one.Text || !two.Replayed {
		p.t.Errorf("declined: %s, then %s", one.Text, two.Text)
	}
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /requests/%d/accept", id), "late", ""), http.StatusConflict, "request_closed")

	id = p.ask("c", opening)
	if a := servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /requests/%d/accept", id), "poor", ""), http.StatusUnprocessableEntity, "insufficient_funds"); a.State != payments.Declined {
		p.t.Errorf("%s", a.Text)
	}
	p.requestIs(id, payments.Declined)
	p.paid(1, opening-100)
}

// Nothing is known while the bank can not be reached, nothing moves, and the same request later pays once.
func bankAway(p *town) {
	p.wire.set(cutBefore)
	servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusServiceUnavailable, "unavailable")
	servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusServiceUnavailable, "unavailable")
	servicetest.Want(p.t, p.pay("k", 2, 3, 101), http.StatusUnprocessableEntity, "idempotency_conflict")
	if n := p.number(p.db, "SELECT count(*) FROM payments WHERE state = 'pending'"); n != 1 {
		p.t.Errorf("%d payments are pending", n)
	}
	p.paid(0, opening)
	p.wire.set(sound)
	servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusCreated, "")
	p.paid(1, opening-100)
}

func answerLost(p *town) {
	p.wire.set(cutBehind)
	servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusServiceUnavailable, "unavailable")
	p.paid(1, opening-100)
	p.wire.set(sound)
	if a := servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusCreated, ""); a.FromBalance != opening-100 {
		p.t.Errorf("%s", a.Text)
	}
	p.paid(1, opening-100)
}

// Only the bank's own word declines a payment.
func proxyAnswers(p *town) {
	p.wire.set(proxyError)
	servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusInternalServerError, "internal")
	if n := p.number(p.db, "SELECT count(*) FROM payments WHERE state = 'pending'"); n != 1 {
		p.t.Error("a proxy's 404 ended a payment")
	}
	p.wire.set(sound)
	servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusCreated, "")
	p.paid(1, opening-100)
}

func atOnce(p *town) {
	replies := make([]servicetest.Reply, 20)
	var wait sync.WaitGroup
	for i := range replies {
		wait.Go(func() { replies[i] = p.pay("k", 2, 3, 100) })
	}
	wait.Wait()
	for _, a := range replies {
		if servicetest.Want(p.t, a, http.StatusCreated, ""); a.Text != replies[0].Text {
			p.t.Errorf("two answers: %s and %s", a.Text, replies[0].Text)
		}
	}
	p.paid(1, opening-100)
}

// The service is killed when its transfer is made and not noted. The next one notes it.
func killed(p *town) {
	if err := p.Stop(); err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(p.t.TempDir(), "address")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childAccounts+"="+p.wire.URL, childFile+"="+file, "DATABASE_URL="+p.url)
	if err := child.Start(); err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	var address string
	servicetest.Await(p.t, "the child", func() (ok bool) {
		var err error
		address, err = service.ReadAddress(file)
		return err == nil
	})
	p.wire.set(hangBehind)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		r, err := http.NewRequest(http.MethodPost, "http://"+address+"/payments", strings.NewReader(order(2, 3, 100)))
		if err != nil {
			return
		}
		r.Header.Set("Idempotency-Key", "k")
		transport := &http.Transport{DisableKeepAlives: true}
		if res, err := transport.RoundTrip(r); err == nil {
			p.t.Errorf("it was answered with status %d", res.StatusCode)
			_ = res.Body.Close()
		}
	}()
	<-p.wire.met
	if err := child.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-gone
	p.paid(1, opening-100)
	if n := p.number(p.db, "SELECT count(*) FROM payments WHERE state = 'pending'"); n != 1 {
		p.t.Fatalf("%d payments are pending", n)
	}
	p.wire.set(sound)
	p.start()
	p.settled("k")
	if a := servicetest.Want(p.t, p.pay("k", 2, 3, 100), http.StatusCreated, ""); !a.Replayed || a.FromBalance != opening-100 {
		p.t.Errorf("asked again: replayed %v, %s", a.Replayed, a.Text)
	}
	p.paid(1, opening-100)
}

// settled waits until the settler has ended the payment of a key.
func (p *town) settled(key string) {
	p.t.Helper()
	servicetest.Await(p.t, "the settler", func() bool {
		return p.number(p.db, "SELECT count(*) FROM payments WHERE key = $1 AND state <> 'pending'", key) == 1
	})
}

func leftPending(p *town) {
	p.wire.set(cutBefore)
	servicetest.Want(p.t, p.pay("rich", 2, 3, 100), http.StatusServiceUnavailable, "unavailable")
	servicetest.Want(p.t, p.pay("poor", 2, 3, opening), http.StatusServiceUnavailable, "unavailable")
	if err := p.Stop(); err != nil {
		p.t.Fatal(err)
	}
	p.wire.set(sound)
	p.start()
	p.settled("rich")
	p.settled("poor")
	if a := p.pay("poor", 2, 3, opening); a.Status != http.StatusUnprocessableEntity || a.Code != "insufficient_funds" || !a.Replayed {
		p.t.Errorf("the declined one: %d %s", a.Status, a.Text)
	}
	if page := p.Send("GET /metrics", "", "").Text; !strings.Contains(page, "superapp_payments_settled_total 2\n") {
		p.t.Error("the metrics do not say that two were settled")
	}
	p.paid(1, opening-100)
}

// A request whose payment is pending can be replied to by nobody else, and ends with its payment.
func acceptedPending(p *town) {
	id := p.ask("a", 100)
	accept := fmt.Sprintf("POST /requests/%d/accept", id)
	p.wire.set(cutBehind)
	servicetest.Want(p.t, p.Send(accept, "yes", ""), http.StatusServiceUnavailable, "unavailable")
	p.requestIs(id, payments.Open)
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /requests/%d/decline", id), "no", ""), http.StatusConflict, "request_closed")
	if err := p.Stop(); err != nil {
		p.t.Fatal(err)
	}
	p.wire.set(sound)
	p.start()
	p.settled(fmt.Sprint("request:", id))
	p.requestIs(id, payments.Accepted)
	if a := servicetest.Want(p.t, p.Send(accept, "yes", ""), http.StatusOK, ""); a.State != payments.Accepted || a.FromBalance != opening-100 {
		p.t.Errorf("%s", a.Text)
	}
	p.paid(1, opening-100)
}

func metrics(p *town) {
	servicetest.Want(p.t, p.pay("a", 2, 3, 1), http.StatusCreated, "")
	servicetest.Want(p.t, p.pay("a", 2, 3, 1), http.StatusCreated, "")
	servicetest.Want(p.t, p.pay("b", 2, 3, opening), http.StatusUnprocessableEntity, "insufficient_funds")
	page := p.Send("GET /metrics", "", "").Text
	for _, line := range []string{`superapp_payments_total{state="completed"} 1`, `superapp_payments_total{state="declined"} 1`, `superapp_payments_settled_total 0`} {
		if !strings.Contains(page, line+"\n") {
			p.t.Errorf("no %s in\n%s", line, page)
		}
	}
}
