package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"golang.org/x/net/html"

	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/pgserver/pgtest"
	"dhow/internal/redisserver/redistest"
	"dhow/superapp/accounts"
	"dhow/superapp/analytics"
	"dhow/superapp/cards"
	"dhow/superapp/fx"
	"dhow/superapp/payments"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
	"dhow/superapp/transfers"
	"dhow/superapp/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pin is every test customer's.
const pin = "1357"

// bank is the services that the pages ask, and the pages.
type bank struct {
	t                                                        *testing.T
	accounts, payments, fx, analytics, transfers, cards, web *servicetest.Service
	redis                                                    *redis.Client
	sends                                                    *pgxpool.Pool // the transfers service's database
}

func parsed(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// open starts every service on real servers.
func open(t *testing.T) *bank {
	t.Helper()
	server := redistest.Start(t)
	t.Setenv("REDIS_URL", server.URL())
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	b := &bank{t: t, redis: redis.NewClient(options)}
	t.Cleanup(func() { _ = b.redis.Close() })
	pg := pgtest.Start(t, 15)
	postgres := func(name string, migrate func(context.Context) error, run func(context.Context, service.Options) error) *servicetest.Service {
		database, db := servicetest.Database(t, pg, name, migrate)
		db.Close()
		return servicetest.Start(t, database, service.Options{Pool: 4}, run)
	}
	maria := mariadbtest.Start(t)
	mariadb := func(name string, schema service.Schema, run func(context.Context, service.Options) error) *servicetest.Service {
		t.Setenv("MARIADB_URL", mariadbtest.Database(t, maria, name))
		if err := service.MigrateMariaDB(t.Context(), schema); err != nil {
			t.Fatal(err)
		}
		return servicetest.Start(t, "", service.Options{Pool: 4}, run)
	}
	t.Setenv("CARDS_KEY", strings.Repeat("0123456789abcdef", 4))
	at := func(s *servicetest.Service) *url.URL { return parsed(t, s.URL) }

	b.accounts = postgres(accounts.Name, accounts.Migrate, accounts.Run)
	b.fx = servicetest.Start(t, "", service.Options{}, func(ctx context.Context, o service.Options) error {
		return fx.Run(ctx, fx.Options{Options: o, Every: fx.DefaultEvery, Stale: fx.DefaultStale, Seed: 1})
	})
	b.analytics = mariadb(analytics.Name, analytics.Schema(), analytics.Run)
	b.payments = postgres(payments.Name, payments.Migrate, func(ctx context.Context, o service.Options) error {
		return payments.Run(ctx, o, at(b.accounts), at(b.analytics))
	})
	database, sends := servicetest.Database(t, pg, transfers.Name, transfers.Migrate)
	b.sends = sends
	b.transfers = servicetest.Start(t, database, service.Options{Pool: 4}, func(ctx context.Context, o service.Options) error {
		return transfers.Run(ctx, transfers.Options{Options: o, QuoteLife: time.Minute, SubmitAfter: time.Hour, PayAfter: time.Millisecond},
			transfers.Beside{Accounts: at(b.accounts), FX: at(b.fx), Analytics: at(b.analytics)})
	})
	b.cards = mariadb(cards.Name, cards.Schema(), func(ctx context.Context, o service.Options) error {
		return cards.Run(ctx, o, at(b.accounts), at(b.analytics))
	})
	b.web = servicetest.Start(t, "", service.Options{}, func(ctx context.Context, o service.Options) error {
		return web.Run(ctx, o, web.Services{Accounts: at(b.accounts), Payments: at(b.payments), Transfers: at(b.transfers), Cards: at(b.cards), FX: at(b.fx), Analytics: at(b.analytics)})
	})
	return b
}

// customer makes one with money in an account in AED, and returns that account.
func (b *bank) customer(name string, money int64) int64 {
	b.t.Helper()
	a := servicetest.Want(b.t, b.accounts.Send("POST /customers", "join-"+name, fmt.Sprintf(`{"name":"%s Haddad","email":"%s@example.com","pin":"%s","language":"en"}`, name, name, pin)), http.StatusCreated, "")
	var made struct{ Account int64 }
	if err := json.Unmarshal([]byte(a.Text), &made); err != nil {
		b.t.Fatal(err)
	}
	account := made.Account
	if money > 0 {
		system := servicetest.Want(b.t, b.accounts.Send("PUT /system/payouts/AED/0", "", ""), http.StatusOK, "").ID
		servicetest.Want(b.t, b.accounts.Send("POST /transfers", "open-"+name, fmt.Sprintf(`{"from":%d,"to":%d,"amount":%d,"currency":"AED","reference":"opening"}`, system, account, money)), http.StatusCreated, "")
	}
	return account
}

func (b *bank) balance(account int64) int64 {
	b.t.Helper()
	return servicetest.Want(b.t, b.accounts.Send(fmt.Sprint("GET /accounts/", account), "", ""), http.StatusOK, "").Balance
}

// browser keeps cookies and reads pages, as a customer's does.
type browser struct {
	t    *testing.T
	base string
	http *http.Client
	// header is sent with every request.
	header http.Header
}

func (b *bank) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	transport := &http.Transport{}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &browser{t: b.t, base: b.web.URL, http: &http.Client{Jar: jar, Transport: transport, Timeout: servicetest.Patience}, header: http.Header{}}
}

// shown is a page as it came.
type shown struct {
	t      *testing.T
	status int
	path   string
	text   string
	header http.Header
	root   *html.Node
}

func (w *browser) do(method, path string, form url.Values) *shown {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, values := range w.header {
		r.Header[name] = values
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := w.http.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	root, err := html.Parse(strings.NewReader(string(text)))
	if err != nil {
		w.t.Fatal(err)
	}
	return &shown{w.t, res.StatusCode, res.Request.URL.Path, string(text), res.Header, root}
}

func (w *browser) get(path string) *shown { w.t.Helper(); return w.do(http.MethodGet, path, nil) }

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// fields are what a page's form to an action would send untouched.
func (s *shown) fields(action string) url.Values {
	s.t.Helper()
	for n := range s.root.Descendants() {
		if n.Data != "form" || attr(n, "method") != "post" || (attr(n, "action") != action && (attr(n, "action") != "" || s.path != action)) {
			continue
		}
		values := url.Values{}
		for f := range n.Descendants() {
			kind := attr(f, "type")
			switch {
			case f.Data == "input" && kind != "radio" && kind != "checkbox", f.Data == "input" && hasAttr(f, "checked"):
				values.Set(attr(f, "name"), attr(f, "value"))
			case f.Data == "option" && (hasAttr(f, "selected") || values.Get(attr(f.Parent, "name")) == ""):
				values.Set(attr(f.Parent, "name"), attr(f, "value"))
			}
		}
		return values
	}
	s.t.Fatalf("the page %s has no form to %s: %s", s.path, action, s.text)
	return nil
}

func hasAttr(n *html.Node, key string) bool {
	for _, a := range n.Attr {
		if a.Key == key {
			return true
		}
	}
	return false
}

// submit fills a form of a page and sends it.
func (w *browser) submit(s *shown, action string, filled ...string) *shown {
	w.t.Helper()
	values := s.fields(action)
	for i := 0; i < len(filled); i += 2 {
		values.Set(filled[i], filled[i+1])
	}
	return w.do(http.MethodPost, action, values)
}

// want fails unless the page has a status and holds all texts.
func (s *shown) want(status int, texts ...string) *shown {
	s.t.Helper()
	plain := strings.NewReplacer("\u00a0", " ", "&#43;", "+", "&#39;", "'").Replace(s.text)
	if s.status != status {
		s.t.Fatalf("%s: status %d, want %d: %s", s.path, s.status, status, s.text)
	}
	for _, text := range texts {
		if !strings.Contains(plain, text) {
			s.t.Fatalf("%s does not say %q: %s", s.path, text, s.text)
		}
	}
	return s
}

// enter signs in.
func (w *browser) enter(name string) *shown {
	w.t.Helper()
	return w.submit(w.get("/app/sign-in"), "/app/sign-in", "email", name+"@example.com", "pin", pin)
}

// One bank serves all: its servers take longer to start than the tests to run. The
// first counts what is in Redis, the last stops the services.
func TestCustomers(t *testing.T) {
	b := open(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *bank)
	}{
		{"sessions", sessions}, {"cookies", cookies}, {"attempts", attempts}, {"sign up", signUp}, {"pay", pay},
		{"requests and splits", requestsAndSplits}, {"send abroad", sendAbroad}, {"cards and insights", cardsAndInsights}, {"services away", servicesAway},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := *b
			own.t = t
			c.test(t, &own)
		})
	}
}

func sessions(t *testing.T, b *bank) {
	b.customer("amal", 100_00)
	w := b.browser()
	if s := w.get("/"); s.path != "/app/sign-in" {
		t.Errorf("a stranger is led to %s", s.path)
	}
	w.submit(w.get("/app/sign-in"), "/app/sign-in", "email", "amal@example.com", "pin", "0000").want(http.StatusUnprocessableEntity, "The email or the PIN is wrong.")
	w.submit(w.get("/app/sign-in"), "/app/sign-in", "email", "nobody@example.com", "pin", "0000").want(http.StatusUnprocessableEntity, "The email or the PIN is wrong.")
	home := w.enter("amal").want(http.StatusOK, "Hello, amal Haddad", "AED 100.00", "Opening balance", "+AED 100.00")
	if home.path != "/app/" || home.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(home.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("home is %s with %v", home.path, home.header)
	}

	// What Redis holds does not let anybody in, and ends by itself.
	id := w.cookie("sambuk_session").Value
	keys := b.keys("web:*")
	for _, key := range keys {
		value := b.redis.Get(t.Context(), key).Val()
		if strings.Contains(key+value, id) {
			t.Errorf("Redis holds the session's id: %s", key)
		}
		if left := b.redis.TTL(t.Context(), key).Val(); left <= 0 || left > 30*time.Minute {
			t.Errorf("%s is kept for %s", key, left)
		}
	}
	// A session that is used lives on.
	sessionKey := b.keys("web:session:*")[0]
	b.redis.Expire(t.Context(), sessionKey, time.Minute)
	w.get("/app/").want(http.StatusOK)
	if left := b.redis.TTL(t.Context(), sessionKey).Val(); left <= time.Minute {
		t.Errorf("the session ends in %s although it is used", left)
	}

	// No form of another session or another site is taken.
	pay := w.get("/app/pay")
	w.submit(pay, "/app/pay", "csrf", strings.Repeat("0", 64)).want(http.StatusForbidden, "This form is too old")
	w.header.Set("Sec-Fetch-Site", "cross-site")
	w.submit(pay, "/app/pay").want(http.StatusForbidden)
	w.header.Del("Sec-Fetch-Site")

	// Signed out is signed out, with the old cookie too.
	if s := w.submit(home, "/app/sign-out"); s.path != "/app/sign-in" {
		t.Errorf("signing out leads to %s", s.path)
	}
	if keys := b.keys("web:session:*"); len(keys) != 0 {
		t.Errorf("sessions are left: %v", keys)
	}
	w.header.Set("Cookie", "sambuk_session="+id)
	if s := w.get("/app/"); s.path != "/app/sign-in" {
		t.Errorf("with the old cookie one is at %s", s.path)
	}
}

func (b *bank) keys(pattern string) []string {
	b.t.Helper()
	keys, err := b.redis.Keys(b.t.Context(), pattern).Result()
	if err != nil {
		b.t.Fatal(err)
	}
	return keys
}

func (w *browser) cookie(name string) *http.Cookie {
	w.t.Helper()
	u := parsed(w.t, w.base+"/app/")
	for _, c := range w.http.Jar.Cookies(u) {
		if c.Name == name {
			return c
		}
	}
	w.t.Fatalf("there is no cookie %s", name)
	return nil
}

func cookies(t *testing.T, b *bank) {
	for _, proto := range []string{"http", "https"} {
		w := b.browser()
		w.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		w.header.Set("X-Forwarded-Proto", proto)
		cookies := strings.Join(w.enter("amal").header.Values("Set-Cookie"), "\n")
		want := regexp.MustCompile(`(?m)^sambuk_session=[0-9a-f]{64}; Path=/app; Max-Age=43200; HttpOnly; SameSite=Lax$`)
		if proto == "https" {
			want = regexp.MustCompile(`(?m)^sambuk_session=[0-9a-f]{64}; Path=/app; Max-Age=43200; HttpOnly; Secure; SameSite=Lax$`)
		}
		if !want.MatchString(cookies) {
			t.Errorf("behind %s the cookies are %s", proto, cookies)
		}
	}
}

func attempts(t *testing.T, b *bank) {
	b.customer("faris", 0)
	b.customer("ghada", 0)
	w := b.browser()
	for range 10 {
		w.submit(w.get("/app/sign-in"), "/app/sign-in", "email", "faris@example.com", "pin", "0000").want(http.StatusUnprocessableEntity)
	}
	w.submit(w.get("/app/sign-in"), "/app/sign-in", "email", " FARIS@example.com", "pin", pin).want(http.StatusTooManyRequests, "Too many attempts")
	w.enter("ghada").want(http.StatusOK, "Hello, ghada")
	// Of one address too: it is the one that the nearest proxy saw.
	far := b.browser()
	far.header.Set("X-Forwarded-For", "192.0.2.1, 198.51.100.7")
	before := b.keys("web:attempts:address:*")
	far.enter("nobody").want(http.StatusUnprocessableEntity)
	for _, key := range b.keys("web:attempts:address:*") {
		if !slices.Contains(before, key) {
			b.redis.IncrBy(t.Context(), key, 200)
		}
	}
	far.enter("ghada").want(http.StatusTooManyRequests, "Too many attempts")
	far.header.Set("X-Forwarded-For", "198.51.100.7, 192.0.2.1")
	far.enter("ghada").want(http.StatusOK, "Hello, ghada")
}

func signUp(t *testing.T, b *bank) {
	w := b.browser()
	w.get("/app/sign-up?lang=ar").want(http.StatusOK, `<html lang="ar" dir="rtl">`, "افتح حساباً مجانياً")
	page := w.get("/app/sign-up")
	w.submit(page, "/app/sign-up", "name", "ليلى", "email", "layla@example.com", "pin", "12").want(http.StatusUnprocessableEntity, "يجب أن يتكون الرقم السري من 4 إلى 12 رقماً.")
	w.submit(page, "/app/sign-up", "name", "", "email", "layla@example.com", "pin", pin).want(http.StatusUnprocessableEntity, `aria-invalid="true"`, `aria-describedby="e-name"`)
	if s := w.submit(page, "/app/sign-up", "name", "ليلى", "email", "layla@example.com", "pin", pin).want(http.StatusOK, "مرحباً، ليلى", "0.00 AED"); s.path != "/app/" {
		t.Errorf("signing up leads to %s", s.path)
	}
	// Who has only the form's key does not get in by sending it again.
	thief := b.browser()
	values := page.fields("/app/sign-up")
	values.Set("name", "ليلى")
	values.Set("email", "layla@example.com")
	values.Set("pin", "9999")
	thief.get("/app/sign-up?lang=ar")
	thief.do(http.MethodPost, "/app/sign-up", values).want(http.StatusUnprocessableEntity, "غير صحيح")
	// A second account, in dinars.
	w.submit(w.get("/app/"), "/app/accounts", "currency", "KWD").want(http.StatusOK, "0.000 KWD")
	w.submit(w.get("/app/"), "/app/accounts", "currency", "AED").want(http.StatusUnprocessableEntity, "يرجى الاختيار من القائمة.")
}

func pay(t *testing.T, b *bank) {
	hind, idris, jana := b.customer("hind", 1000_00), b.customer("idris", 0), b.customer("jana", 500_00)
	w := b.browser()
	w.enter("hind")
	page := w.get("/app/pay").want(http.StatusOK, "Pay a friend")
	review := w.submit(page, "/app/pay", "email", "idris@example.com", "amount", "1,234.5", "note", "قهوة <3").want(http.StatusOK, "Is this right?", "idris Haddad", "AED 1,234.50", "قهوة &lt;3")
	w.submit(review, "/app/pay").want(http.StatusUnprocessableEntity, "There is not enough money in this account.")
	review = w.submit(page, "/app/pay", "email", "idris@example.com", "amount", "٢٥٠٫٧٥").want(http.StatusOK, "AED 250.75")
	paid := w.submit(review, "/app/pay").want(http.StatusOK, "Payment sent", "idris Haddad", "AED 250.75", "Completed")
	// Sent again, as by a double click: the same payment, and no other.
	if again := w.submit(review, "/app/pay"); again.path != paid.path {
		t.Errorf("sent again it leads to %s, not %s", again.path, paid.path)
	}
	if one, two := b.balance(hind), b.balance(idris); one != 1000_00-250_75 || two != 250_75 {
		t.Errorf("the balances are %d and %d", one, two)
	}
	w.get(fmt.Sprint("/app/accounts/", hind)).want(http.StatusOK, "-AED 250.75", "AED 749.25", "Payment")

	for _, c := range []struct{ email, amount, says string }{
		{"nobody@example.com", "1", "We know no customer with the email nobody@example.com."},
		{"hind@example.com", "1", "This is you."},
		{"idris@example.com", "1,5", "Please write an amount"},
		{"idris@example.com", "1.234", "AED has fewer decimals than that."},
		{"idris@example.com", "0", "The amount must be more than zero"},
		{"", "1", "Please fill this in."},
	} {
		w.submit(page, "/app/pay", "email", c.email, "amount", c.amount).want(http.StatusUnprocessableEntity, c.says, `aria-invalid="true"`)
	}
	// Another customer's account is none that can be paid from, nor looked at.
	w.submit(page, "/app/pay", "email", "idris@example.com", "amount", "1", "account", fmt.Sprint(jana), "confirmed", "yes").want(http.StatusUnprocessableEntity, "Please choose one of the list.")
	w.get(fmt.Sprint("/app/accounts/", jana)).want(http.StatusNotFound, "This page does not exist")
	w.get("/app/accounts/999999").want(http.StatusNotFound, "This page does not exist")
	w.get("/app/accounts/x").want(http.StatusNotFound)
	other := b.browser()
	other.enter("jana")
	other.get(paid.path).want(http.StatusNotFound, "This page does not exist")
	// To whom it was paid it is a payment received.
	payee := b.browser()
	payee.enter("idris")
	payee.get(paid.path).want(http.StatusOK, "Payment received", "hind Haddad")
	if b.balance(jana) != 500_00 {
		t.Errorf("jana has %d", b.balance(jana))
	}
}

func requestsAndSplits(t *testing.T, b *bank) {
	karim, lina, mona := b.customer("karim", 1000_00), b.customer("lina", 300_00), b.customer("mona", 300_00)
	w, payer, third := b.browser(), b.browser(), b.browser()
	w.enter("karim")
	payer.enter("lina")
	third.enter("mona")
	w.submit(w.get("/app/request"), "/app/request", "email", "lina@example.com", "amount", "30", "note", "taxi").want(http.StatusOK, "lina Haddad", "AED 30.00", "taxi", "Open")
	home := payer.get("/app/").want(http.StatusOK, "Waiting for you", "karim Haddad", "AED 30.00", "taxi")
	reply := regexp.MustCompile(`/app/request/\d+`).FindString(home.text)
	// Nobody else can reply to it.
	values := home.fields(reply)
	values.Set("csrf", third.get("/app/pay").fields("/app/pay").Get("csrf"))
	values.Set("reply", "accept")
	third.do(http.MethodPost, reply, values).want(http.StatusNotFound, "This page does not exist")
	payer.submit(home, reply, "reply", "accept").want(http.StatusOK, "Payment sent", "AED 30.00")
	payer.submit(home, reply, "reply", "decline").want(http.StatusUnprocessableEntity, "This request was answered already.")
	if b.balance(karim) != 1030_00 || b.balance(lina) != 270_00 {
		t.Errorf("the balances are %d and %d", b.balance(karim), b.balance(lina))
	}

	page := w.get("/app/split")
	w.submit(page, "/app/split", "amount", "100", "friends", "lina@example.com\nnobody@example.com").want(http.StatusUnprocessableEntity, "We know no customer with the email nobody@example.com.")
	w.submit(page, "/app/split", "amount", "100", "friends", "lina@example.com, lina@example.com").want(http.StatusUnprocessableEntity, "lina@example.com is named twice.")
	bill := w.submit(page, "/app/split", "amount", "100", "friends", "lina@example.com\r\n mona@example.com", "note", "dinner", "mine", "yes").want(http.StatusOK, "The bill is split", "AED 100.00", "Your share", "AED 33.33", "AED 33.34", "lina Haddad", "mona Haddad", "Open")
	third.get(bill.path).want(http.StatusNotFound)
	home = third.get("/app/").want(http.StatusOK, "Waiting for you", "karim Haddad", "dinner")
	third.submit(home, regexp.MustCompile(`/app/request/\d+`).FindString(home.text), "reply", "decline").want(http.StatusOK, "Hello, mona")
	w.get(bill.path).want(http.StatusOK, "Declined", "Open")
	if b.balance(mona) != 300_00 {
		t.Errorf("mona has %d", b.balance(mona))
	}
}

func sendAbroad(t *testing.T, b *bank) {
	rami := b.customer("rami", 1000_00)
	b.customer("sara", 1000_00)
	w, other := b.browser(), b.browser()
	w.enter("rami")
	other.enter("sara")
	w.get("/app/send").want(http.StatusOK, `<option value="IN"`, "India")
	w.get("/app/send?country=XX").want(http.StatusNotFound)
	w.get("/app/send?country=IN&lang=ar").want(http.StatusOK, "الهند")
	page := w.get("/app/send?country=IN&lang=en").want(http.StatusOK, "Send to India")
	w.submit(page, "/app/send", "amount", "12.345").want(http.StatusUnprocessableEntity, "AED has fewer decimals than that.")
	w.submit(page, "/app/send", "amount", "100", "currency", "CLF").want(http.StatusUnprocessableEntity, "Please choose one of the list.")

	// The part that the page's script asks for while the customer types.
	w.header.Set("X-Part", "quote")
	live := w.submit(page, "/app/send", "amount", "100").want(http.StatusOK, "You send", "AED 100.00", "They receive", "INR ", "Fee", "Mid-market rate")
	if strings.Contains(live.text, "<html") {
		t.Error("the live quote is a whole page")
	}
	w.submit(page, "/app/send", "amount", "1,5").want(http.StatusUnprocessableEntity, "Please write an amount")
	w.submit(page, "/app/send", "amount", "5000", "fix", "receive").want(http.StatusOK, "INR 5,000.00")
	w.header.Del("X-Part")

	quote := w.submit(page, "/app/send", "amount", "100").want(http.StatusOK, "Your offer", "AED 100.00", "IFSC code", "Account number")
	other.get(quote.path).want(http.StatusNotFound, "This page does not exist")
	w.get("/app/send/nothing").want(http.StatusNotFound, "This offer has expired")
	w.submit(quote, quote.path, "beneficiary", "Asha Rao", "detail.ifsc", "wrong", "detail.account", "000123456789").
		want(http.StatusUnprocessableEntity, "Please check the details", "This is not written as it should be", `aria-describedby="h-detail.ifsc e-detail.ifsc"`)
	sent := w.submit(quote, quote.path, "beneficiary", "Asha Rao", "detail.ifsc", "HDFC0000001", "detail.account", "000123456789").want(http.StatusOK, "Set aside", "AED 100.00", "Cancel")
	if again := w.submit(quote, quote.path, "beneficiary", "Asha Rao", "detail.ifsc", "HDFC0000001", "detail.account", "000123456789"); again.path != sent.path {
		t.Errorf("sent again it leads to %s, not %s", again.path, sent.path)
	}
	other.get(sent.path).want(http.StatusNotFound, "This page does not exist")
	values := sent.fields(sent.path + "/cancel")
	values.Set("csrf", other.get("/app/pay").fields("/app/pay").Get("csrf"))
	other.do(http.MethodPost, sent.path+"/cancel", values).want(http.StatusNotFound)
	w.get("/app/").want(http.StatusOK, "held for payments under way")
	w.submit(sent, sent.path+"/cancel").want(http.StatusOK, "Cancelled")
	if b.balance(rami) != 1000_00 {
		t.Errorf("rami has %d", b.balance(rami))
	}

	quote = w.submit(page, "/app/send", "amount", "100").want(http.StatusOK, "Your offer")
	sent = w.submit(quote, quote.path, "beneficiary", "Asha Rao", "detail.ifsc", "HDFC0000001", "detail.account", "000123456789").want(http.StatusOK, "AED 100.00")
	servicetest.Await(t, "the send to be paid or refunded", func() bool {
		if _, err := b.sends.Exec(t.Context(), "UPDATE sends SET due = clock_timestamp() WHERE state = $1", transfers.Held); err != nil { // an hour is over
			t.Fatal(err)
		}
		text := w.get(sent.path).text
		return strings.Contains(text, "Received</span>") || strings.Contains(text, "Refunded</span>")
	})
	w.get("/app/send").want(http.StatusOK, sent.path, "India", "Cancelled")
	w.get(fmt.Sprint("/app/accounts/", rami)).want(http.StatusOK, "Sent abroad")
}

func cardsAndInsights(t *testing.T, b *bank) {
	tala := b.customer("tala", 1000_00)
	zaid := b.customer("zaid", 0)
	w, other := b.browser(), b.browser()
	w.enter("tala")
	other.enter("zaid")
	page := w.get("/app/cards").want(http.StatusOK, "A new card")
	w.submit(page, "/app/cards", "account", fmt.Sprint(zaid)).want(http.StatusUnprocessableEntity, "Please choose one of the list.")
	card := w.submit(page, "/app/cards").want(http.StatusOK, "Card ending in", "Freeze")
	if again := w.submit(page, "/app/cards"); again.path != card.path {
		t.Errorf("made again it is %s, not %s", again.path, card.path)
	}
	id := card.path[strings.LastIndex(card.path, "/")+1:]
	other.get(card.path).want(http.StatusNotFound, "This page does not exist")
	csrf := other.get("/app/pay").fields("/app/pay").Get("csrf")
	for _, action := range []string{"/state", "/number", "/limits"} {
		values := card.fields(card.path + action)
		values.Set("csrf", csrf)
		values.Set("state", "freeze")
		other.do(http.MethodPost, card.path+action, values).want(http.StatusNotFound)
	}

	shown := w.submit(card, card.path+"/number").want(http.StatusOK, "Card number:")
	if !regexp.MustCompile(`>\d{4} \d{4} \d{4} \d{4}<`).MatchString(shown.text) {
		t.Errorf("the number is not shown: %s", shown.text)
	}
	w.submit(card, card.path+"/limits", "transaction", "600", "day", "500").want(http.StatusUnprocessableEntity, "can not be above that of a day")
	w.submit(card, card.path+"/limits", "transaction", "300", "day", "500").want(http.StatusOK, `value="300.00"`, `value="500.00"`)
	frozen := w.submit(w.get(card.path), card.path+"/state", "state", "freeze").want(http.StatusOK, "This card is frozen.", "Unfreeze")
	purchase := `{"amount":12050,"currency":"AED","merchant":"Al Barsha Market","category":"groceries"}`
	servicetest.Want(t, b.cards.Send("POST /cards/"+id+"/authorisations", "frozen", purchase), http.StatusUnprocessableEntity, "card_frozen")
	w.submit(frozen, card.path+"/state", "state", "unfreeze").want(http.StatusOK, "Freeze")
	authorised := servicetest.Want(t, b.cards.Send("POST /cards/"+id+"/authorisations", "bought", purchase), http.StatusCreated, "")
	servicetest.Want(t, b.cards.Send(fmt.Sprintf("POST /authorisations/%d/capture", authorised.ID), "captured", `{"amount":12050}`), http.StatusOK, "")
	w.get(fmt.Sprint("/app/accounts/", tala)).want(http.StatusOK, "Card", "Al Barsha Market", "-AED 120.50")

	servicetest.Await(t, "the insights", func() bool { return strings.Contains(w.get("/app/insights").text, "Al Barsha Market") })
	w.get("/app/insights").want(http.StatusOK, "Groceries", "100%", "AED 120.50", "<svg")
	w.get(fmt.Sprint("/app/insights?account=", zaid)).want(http.StatusNotFound)
	w.get("/app/insights?month=2001-01&lang=ar").want(http.StatusOK, "بقالة", "120.50 AED")
	other.get("/app/insights").want(http.StatusOK, "Nothing was spent in this month.")
}

// A page is shown without what is away; what would move money says that it is not
// known whether it did, and keeps its key for the next try.
func servicesAway(t *testing.T, b *bank) {
	b.customer("nadia", 100_00)
	b.customer("omar", 0)
	w := b.browser()
	w.enter("nadia")
	page := w.get("/app/pay")
	review := w.submit(page, "/app/pay", "email", "omar@example.com", "amount", "10").want(http.StatusOK, "Is this right?")
	for _, s := range []*servicetest.Service{b.payments, b.transfers, b.cards, b.analytics} {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	w.get("/app/").want(http.StatusOK, "AED 100.00", "This part can not be shown at the moment.")
	unanswered := w.submit(review, "/app/pay").want(http.StatusServiceUnavailable, "We do not know yet whether this went through.")
	if a, b := review.fields("/app/pay"), unanswered.fields("/app/pay"); a.Get("key") == "" || a.Get("key") != b.Get("key") {
		t.Errorf("the key %q became %q", a.Get("key"), b.Get("key"))
	}
	w.get("/app/cards").want(http.StatusServiceUnavailable, "We will be back in a moment")
	w.get("/app/insights").want(http.StatusOK, "This part can not be shown at the moment.")
	if err := b.accounts.Stop(); err != nil {
		t.Fatal(err)
	}
	w.get("/app/").want(http.StatusServiceUnavailable, "We will be back in a moment")
}
