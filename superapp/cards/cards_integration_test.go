package cards_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"dhow/internal/mariadbserver"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/pgserver/pgtest"
	"dhow/superapp/accounts"
	"dhow/superapp/analytics"
	"dhow/superapp/cards"
	"dhow/superapp/ledger"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

const cardsKey = "a key of the tests, of no use elsewhere"

func TestMain(m *testing.M) {
	if what := os.Getenv(childVariable); what != "" {
		child(what)
	}
	goleak.VerifyTestMain(m)
}

func runAccounts(ctx context.Context, o service.Options) error {
	o.Needs.Postgres = true
	return service.Run(ctx, accounts.Name, o, accounts.New)
}

// town is a bank and a cards service before it, which connects as its restricted role.
type town struct {
	*servicetest.Service
	t       *testing.T
	whole   *testing.T // what is started for all of the tests ends with it
	bank    *servicetest.Service
	mariadb *mariadbserver.Server
	bankURL string
	url     string // of the cards' database, as its role
	db      *sql.DB
	bank0   *pgxpool.Pool
	doc     *servicetest.Description
	serial  atomic.Int64
	told    int64 // events that have left for the analytics
}

func openMariaDB(t *testing.T, text string) *sql.DB {
	c, err := service.MariaDBConfig(text, "the test's")
	if err != nil {
		t.Fatal(err)
	}
	c.Logger = &mysql.NopLogger{} // tests kill servers
	c.MultiStatements = true      // as the service's own
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// role is a database's address for a role with no more rights than its schema grants.
func (p *town) role(t *testing.T, name string, schema service.Schema) string {
	t.Helper()
	text := mariadbtest.Database(t, p.mariadb, name)
	if err := p.mariadb.Exec(t.Context(), "mysql", "CREATE USER '"+name+"'@'%' IDENTIFIED BY '"+p.mariadb.Password()+"'"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MARIADB_URL", text)
	for range 2 { // again changes nothing
		if err := service.MigrateMariaDB(t.Context(), schema.For(name)); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, p.mariadb.Password())
	return u.String()
}

func TestCards(t *testing.T) {
	p := &town{whole: t, mariadb: mariadbtest.Start(t)}
	p.bankURL, p.bank0 = servicetest.Database(t, pgtest.Start(t, 15), "bank", accounts.Migrate)
	if _, err := p.bank0.Exec(t.Context(), "INSERT INTO accounts (customer, kind, currency) VALUES (0, 'system', 'AED'), (0, 'system', 'KWD')"); err != nil {
		t.Fatal(err)
	}
	p.url = p.role(t, cards.Name, cards.Schema())
	p.db = openMariaDB(t, p.url)
	p.bank = servicetest.Start(t, p.bankURL, service.Options{}, runAccounts)
	p.start(t, p.bank.URL)
	for _, c := range []struct {
		name string
		test func(*town)
	}{
		{"a card", aCard},
		{"bad requests", badRequests},
		{"authorise, capture, reverse, refund", moves},
		{"declined", declines},
		{"limits", limits},
		{"limits at once", limitsAtOnce},
		{"the same request at once", sameAtOnce},
		{"capture against reverse", captureAgainstReverse},
		{"refunds at once", refundsAtOnce},
		{"the accounts service is away", bankAway},
		{"a refusal that can not be", oddRefusal},
		{"transactions that lose", conflicts},
		{"connections that the server closed", deadConnections},
		{"history can not be changed", historyStays},
		{"killed in a storm", storm},
		{"the analytics are told", tells},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.t = t
			c.test(p)
			p.audit()
		})
	}
}

func (p *town) start(t *testing.T, bank string) {
	t.Helper()
	u, err := url.Parse(bank)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CARDS_KEY", cardsKey)
	t.Setenv("MARIADB_URL", p.url)
	p.Service = servicetest.Start(t, "", service.Options{Pool: 16}, func(ctx context.Context, o service.Options) error { return cards.Run(ctx, o, u, nil) })
	p.doc = p.Described(t)
}

// Send asks, and holds the answer against the document.
func (p *town) Send(what, key, body string) servicetest.Reply {
	a := p.Service.Send(what, key, body)
	p.doc.Check(p.t, what, key, body, a)
	return a
}

// key is a new one.
func (p *town) key() string { return fmt.Sprint("k", p.serial.Add(1)) }

func (p *town) number(statement string, args ...any) (n int64) {
	p.t.Helper()
	if err := p.db.QueryRowContext(p.t.Context(), statement, args...).Scan(&n); err != nil {
		p.t.Fatalf("%s: %v", statement, err)
	}
	return n
}

func (p *town) inBank(statement string, args ...any) (n int64) {
	p.t.Helper()
	if err := p.bank0.QueryRow(p.t.Context(), statement, args...).Scan(&n); err != nil {
		p.t.Fatalf("%s: %v", statement, err)
	}
	return n
}

// customer is a new one's account with an amount of a currency.
func (p *town) customer(currency string, amount int64) (id int64) {
	p.t.Helper()
	id = p.inBank("INSERT INTO accounts (customer, kind, currency) VALUES (1000 + (SELECT max(id) FROM accounts), 'customer', $1) RETURNING id", currency)
	source := p.inBank("SELECT min(id) FROM accounts WHERE kind = 'system' AND currency = $1", currency)
	servicetest.Want(p.t, p.bank.Send("POST /transfers", fmt.Sprint("open", id), fmt.Sprintf(`{"from":%d,"to":%d,"amount":%d,"currency":%q,"reference":"opening"}`, source, id, amount, currency)), http.StatusCreated, "")
	return id
}

func (p *town) balance(account int64) int64 {
	return p.inBank("SELECT balance FROM accounts WHERE id = $1", account)
}

func (p *town) cardOf(account int64) int64 {
	p.t.Helper()
	owner := p.inBank("SELECT customer FROM accounts WHERE id = $1", account)
	return servicetest.Want(p.t, p.Send("POST /cards", p.key(), fmt.Sprintf(`{"customer":%d,"account":%d}`, owner, account)), http.StatusCreated, "").ID
}

// card is a new customer's with a card, and its account.
func (p *town) card(amount int64) (card, account int64) {
	p.t.Helper()
	account = p.customer("AED", amount)
	return p.cardOf(account), account
}

func (p *town) authorise(key string, card, amount int64) servicetest.Reply {
	return p.Send(fmt.Sprintf("POST /cards/%d/authorisations", card), key, fmt.Sprintf(`{"amount":%d,"currency":"AED","merchant":"متجر & Shop","category":"groceries"}`, amount))
}

func (p *town) authorised(card, amount int64) int64 {
	p.t.Helper()
	return servicetest.Want(p.t, p.authorise(p.key(), card, amount), http.StatusCreated, "").ID
}

func (p *town) capture(key string, authorisation, amount int64) servicetest.Reply {
	return p.Send(fmt.Sprintf("POST /authorisations/%d/capture", authorisation), key, fmt.Sprintf(`{"amount":%d}`, amount))
}

func (p *town) reverse(key string, authorisation int64) servicetest.Reply {
	return p.Send(fmt.Sprintf("POST /authorisations/%d/reverse", authorisation), key, "")
}

func (p *town) refund(key string, authorisation, amount int64) servicetest.Reply {
	return p.Send(fmt.Sprintf("POST /authorisations/%d/refund", authorisation), key, fmt.Sprintf(`{"amount":%d}`, amount))
}

// audit holds at every test's end: each posted movement has exactly its transfer,
// declined ones have none, authorisations are what their movements are, and the
// system's accounts hold what they should.
func (p *town) audit() {
	p.t.Helper()
	if p.t.Failed() {
		return
	}
	if n := p.number("SELECT (SELECT count(*) FROM movements WHERE state = 'pending') + (SELECT count(*) FROM ledger_outbox) + (SELECT count(*) FROM idempotency WHERE status = 102)"); n != 0 {
		p.t.Fatalf("%d rows are pending", n)
	}
	type transfer struct {
		id, amount, from, to int64
		currency             string
	}
	made := map[string]transfer{}
	rows, err := p.bank0.Query(p.t.Context(), "SELECT t.key, t.id, t.amount, t.currency, f.account, g.account FROM transfers t JOIN entries f ON f.transfer = t.id AND f.amount < 0 JOIN entries g ON g.transfer = t.id AND g.amount > 0 WHERE t.key LIKE 'card:%'")
	if err != nil {
		p.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var m transfer
		if err := rows.Scan(&key, &m.id, &m.amount, &m.currency, &m.from, &m.to); err != nil {
			p.t.Fatal(err)
		}
		if _, twice := made[key]; twice {
			p.t.Errorf("two transfers under %s", key)
		}
		made[key] = m
	}
	var shard int64 // an authorisation's movements are all with the same accounts of the system
	system := func(purpose, currency string) int64 {
		return p.inBank("SELECT coalesce((SELECT id FROM accounts WHERE purpose = $1 AND currency = $2 AND shard = $3), 0)", purpose, currency, shard)
	}
	all, err := p.db.QueryContext(p.t.Context(), "SELECT id, authorisation, kind, amount, currency, account, state, coalesce(transfer, 0) FROM movements")
	if err != nil {
		p.t.Fatal(err)
	}
	defer all.Close()
	for all.Next() {
		var id, account int64
		var kind, state string
		var want transfer
		if err := all.Scan(&id, &shard, &kind, &want.amount, &want.currency, &account, &state, &want.id); err != nil {
			p.t.Fatal(err)
		}
		key := fmt.Sprint("card:", id)
		shard %= ledger.Shards
		got, there := made[key]
		delete(made, key)
		switch kind {
		case "authorise":
			want.from, want.to = account, system("cards", want.currency)
		case "capture":
			want.from, want.to = system("cards", want.currency), system("merchants", want.currency)
		case "reverse":
			want.from, want.to = system("cards", want.currency), account
		case "refund":
			want.from, want.to = system("merchants", want.currency), account
		}
		if there != (state == "posted") || there && got != want {
			p.t.Errorf("movement %d, a %s, is %s: want %+v, there is %+v (%v)", id, kind, state, want, got, there)
		}
	}
	if len(made) != 0 {
		p.t.Errorf("transfers of no movement: %v", made)
	}
	for _, currency := range []string{"AED", "KWD"} {
		for purpose, want := range map[string]string{
			"cards": "SELECT coalesce(sum(amount), 0) FROM authorisations WHERE state = 'authorised' AND currency = ?", "merchants": "SELECT coalesce(sum(captured - refunded), 0) FROM authorisations WHERE currency = ?",
		} {
			if got, want := p.inBank("SELECT coalesce((SELECT sum(balance)::bigint FROM accounts WHERE purpose = $1 AND currency = $2), 0)", purpose, currency), p.number(want, currency); got != want {
				p.t.Errorf("%s hold %d %s, want %d", purpose, got, currency, want)
			}
		}
	}
	if n := p.number(`SELECT count(*) FROM authorisations a WHERE
		NOT (a.state <=> (SELECT CASE WHEN sum(m.kind = 'capture') = 1 THEN 'captured' WHEN sum(m.kind = 'reverse') = 1 THEN 'reversed' WHEN sum(m.state = 'declined') = 1 THEN 'declined' WHEN count(*) = 1 THEN 'authorised' END FROM movements m WHERE m.authorisation = a.id))
		OR a.captured <> (SELECT coalesce(sum(m.amount), 0) FROM movements m WHERE m.authorisation = a.id AND m.kind = 'capture')
		OR a.refunded <> (SELECT coalesce(sum(m.amount), 0) FROM movements m WHERE m.authorisation = a.id AND m.kind = 'refund')
		OR a.state IN ('captured', 'reversed') AND a.amount - a.captured <> (SELECT coalesce(sum(m.amount), 0) FROM movements m WHERE m.authorisation = a.id AND m.kind = 'reverse')`); n != 0 {
		p.t.Errorf("%d authorisations are not their movements", n)
	}
	if n := p.inBank("SELECT count(*) FROM (SELECT FROM accounts GROUP BY currency HAVING sum(balance) <> 0) x"); n != 0 {
		p.t.Error("money was made or lost")
	}
	if want, n := p.number("SELECT count(*) FROM movements WHERE kind IN ('capture', 'refund')"), p.number("SELECT count(*) FROM outbox"); n+p.told != want {
		p.t.Errorf("the outbox tells of %d, %d were told, want %d", n, p.told, want)
	}
}

func aCard(p *town) {
	account := p.customer("KWD", 1000)
	owner := p.inBank("SELECT customer FROM accounts WHERE id = $1", account)
	body := fmt.Sprintf(`{"customer":%d,"account":%d}`, owner, account)
	one := servicetest.Want(p.t, p.Send("POST /cards", "card", body), http.StatusCreated, "")
	if two := p.Send("POST /cards", "card", body); two.Text != one.Text || !two.Replayed {
		p.t.Errorf("%s, then %s (replayed %v)", one.Text, two.Text, two.Replayed)
	}
	if !strings.Contains(one.Text, `"limit_transaction":10000000,"limit_day":50000000`) || !strings.Contains(one.Text, `"currency":"KWD"`) {
		p.t.Errorf("the card is %s", one.Text)
	}
	servicetest.Want(p.t, p.Send("POST /cards", "card", `{"customer":1,"account":3}`), http.StatusUnprocessableEntity, "idempotency_conflict")
	path := fmt.Sprint("/cards/", one.ID)
	if a := p.Send("GET "+path, "", ""); a.Text != one.Text {
		p.t.Errorf("made as %s, shown as %s", one.Text, a.Text)
	}
	if a := p.Send(fmt.Sprint("GET /cards?customer=", owner), "", ""); a.Text != `{"cards":[`+one.Text+`]}` {
		p.t.Errorf("listed as %s", a.Text)
	}
	if a := p.Send("GET /cards?customer=999999", "", ""); a.Text != `{"cards":[]}` {
		p.t.Errorf("nobody's cards: %s", a.Text)
	}
	var shown struct{ Number, Last4 string }
	a := p.Send("GET "+path+"/number", "", "")
	if err := errors.Join(json.Unmarshal([]byte(a.Text), &shown), json.Unmarshal([]byte(one.Text), &shown)); err != nil || !strings.HasSuffix(shown.Number, shown.Last4) || a.Header.Get("Cache-Control") != "no-store" {
		p.t.Errorf("%s of %s: %v", a.Text, one.Text, err)
	}
	if n := p.number("SELECT count(*) FROM idempotency WHERE answer LIKE ?", "%"+shown.Number+"%"); n != 0 {
		p.t.Error("the number is stored")
	}
	// Frozen, nothing is authorised, and that answer stays its key's.
	if a := servicetest.Want(p.t, p.Send("POST "+path+"/freeze", "freeze", ""), http.StatusOK, ""); a.State != cards.Frozen {
		p.t.Errorf("%s", a.Text)
	}
	buy := func(key string) servicetest.Reply {
		return p.Send("POST "+path+"/authorisations", key, `{"amount":5,"currency":"KWD","merchant":"m","category":"c"}`)
	}
	servicetest.Want(p.t, buy("frozen"), http.StatusUnprocessableEntity, "card_frozen")
	servicetest.Want(p.t, p.Send("POST "+path+"/unfreeze", "freeze", ""), http.StatusUnprocessableEntity, "idempotency_conflict")
	if a := servicetest.Want(p.t, p.Send("POST "+path+"/unfreeze", "thaw", ""), http.StatusOK, ""); a.State != cards.Active {
		p.t.Errorf("%s", a.Text)
	}
	if a := servicetest.Want(p.t, buy("frozen"), http.StatusUnprocessableEntity, "card_frozen"); !a.Replayed {
		p.t.Error("another answer under the same key")
	}
	servicetest.Want(p.t, buy("thawed"), http.StatusCreated, "")
	if a := p.Send("POST "+path+"/freeze", "freeze", ""); !a.Replayed || a.State != cards.Frozen {
		p.t.Errorf("replayed %v: %s", a.Replayed, a.Text)
	}
	if a := p.Send("GET "+path, "", ""); a.State != cards.Active {
		p.t.Error("a replay froze the card")
	}
	if err := p.mariadb.Exec(p.t.Context(), cards.Name, fmt.Sprint("UPDATE cards SET expires = current_date - INTERVAL 1 DAY WHERE id = ", one.ID)); err != nil {
		p.t.Fatal(err)
	}
	servicetest.Want(p.t, buy("late"), http.StatusUnprocessableEntity, "card_expired")
}

func badRequests(p *town) {
	card, account := p.card(1000)
	before := p.number("SELECT (SELECT count(*) FROM idempotency) + (SELECT count(*) FROM cards) + (SELECT count(*) FROM authorisations)")
	buy := fmt.Sprintf("POST /cards/%d/authorisations", card)
	for _, c := range []struct {
		what, key, body string
		status          int
		code            string
	}{
		{"POST /cards", "", fmt.Sprintf(`{"customer":1,"account":%d}`, account), http.StatusBadRequest, "idempotency_key_missing"},
		{"POST /cards", "b", `{"customer":1}`, http.StatusUnprocessableEntity, "invalid_account"},
		{"POST /cards", "b", `{"customer":1,"account":999999}`, http.StatusNotFound, "unknown_account"},
		{"GET /cards", "", "", http.StatusBadRequest, "invalid_request"},
		{"GET /cards?customer=x", "", "", http.StatusBadRequest, "invalid_request"},
		{"GET /cards/0", "", "", http.StatusBadRequest, "invalid_request"},
		{"GET /cards/999999", "", "", http.StatusNotFound, "unknown_card"},
		{"GET /cards/999999/number", "", "", http.StatusNotFound, "unknown_card"},
		{"POST /cards/999999/freeze", "b", "", http.StatusNotFound, "unknown_card"},
		{"PUT /cards/999999/limits", "b", `{"transaction":1,"day":1}`, http.StatusNotFound, "unknown_card"},
		{"PUT /cards/1/limits", "b", `{"transaction":2,"day":1}`, http.StatusUnprocessableEntity, "invalid_limits"},
		{"PUT /cards/1/limits", "b", `{"transaction":0,"day":1}`, http.StatusUnprocessableEntity, "invalid_limits"},
		{"POST /cards/999999/authorisations", "b", `{"amount":1,"currency":"AED","merchant":"m","category":"c"}`, http.StatusNotFound, "unknown_card"},
		{buy, "b", `{"amount":0,"currency":"AED","merchant":"m","category":"c"}`, http.StatusUnprocessableEntity, "invalid_amount"},
		{buy, "b", `{"amount":1,"currency":"aed","merchant":"m","category":"c"}`, http.StatusUnprocessableEntity, "unknown_currency"},
		{buy, "b", `{"amount":1,"currency":"AED","merchant":"","category":"c"}`, http.StatusUnprocessableEntity, "invalid_merchant"},
		{buy, "b", `{"amount":1,"currency":"AED","merchant":"m","category":"c\u0007"}`, http.StatusUnprocessableEntity, "invalid_category"},
		{buy, "b", `{"amount":1.5}`, http.StatusBadRequest, "invalid_request"},
		{"POST /authorisations/999999/capture", "b", `{"amount":1}`, http.StatusNotFound, "unknown_authorisation"},
		{"POST /authorisations/1/capture", "b", `{"amount":0}`, http.StatusUnprocessableEntity, "invalid_amount"},
		{"POST /authorisations/999999/reverse", "b", "", http.StatusNotFound, "unknown_authorisation"},
		{"POST /authorisations/999999/refund", "b", `{"amount":1}`, http.StatusNotFound, "unknown_authorisation"},
		{"POST /authorisations/1/refund", "b", `{"amount":-1}`, http.StatusUnprocessableEntity, "invalid_amount"},
		{"GET /authorisations/999999", "", "", http.StatusNotFound, "unknown_authorisation"},
	} {
		servicetest.Want(p.t, p.Send(c.what, c.key, c.body), c.status, c.code)
	}
	if n := p.number("SELECT (SELECT count(*) FROM idempotency) + (SELECT count(*) FROM cards) + (SELECT count(*) FROM authorisations)"); n != before {
		p.t.Errorf("bad requests left %d rows", n-before)
	}
	// These answers are kept: what they depend on stays.
	servicetest.Want(p.t, p.Send("POST /cards", "not-mine", fmt.Sprintf(`{"customer":1,"account":%d}`, account)), http.StatusUnprocessableEntity, "wrong_customer")
	servicetest.Want(p.t, p.Send("POST /cards", "system", `{"customer":1,"account":1}`), http.StatusUnprocessableEntity, "system_account")
}

func moves(p *town) {
	card, account := p.card(1000)
	one := servicetest.Want(p.t, p.authorise("buy", card, 300), http.StatusCreated, "")
	if one.State != cards.Authorised || one.FromBalance != 700 || one.FromVersion != 2 || string(one.Transfer) == "" {
		p.t.Errorf("%s", one.Text)
	}
	replay := func(one, two servicetest.Reply) {
		p.t.Helper()
		if two.Text != one.Text || two.Status != one.Status || !two.Replayed || one.Replayed {
			p.t.Errorf("%s, then %s (replayed %v)", one.Text, two.Text, two.Replayed)
		}
	}
	replay(one, p.authorise("buy", card, 300))
	servicetest.Want(p.t, p.authorise("buy", card, 301), http.StatusUnprocessableEntity, "idempotency_conflict")
	servicetest.Want(p.t, p.refund("early", one.ID, 1), http.StatusConflict, "not_captured")
	servicetest.Want(p.t, p.capture("much", one.ID, 301), http.StatusUnprocessableEntity, "amount_exceeds_authorisation")
	got := servicetest.Want(p.t, p.capture("capture", one.ID, 200), http.StatusOK, "")
	if got.State != cards.Captured || got.ID != one.ID {
		p.t.Errorf("%s", got.Text)
	}
	replay(got, p.capture("capture", one.ID, 200))
	servicetest.Want(p.t, p.capture("capture-again", one.ID, 1), http.StatusConflict, "authorisation_closed")
	servicetest.Want(p.t, p.reverse("too-late", one.ID), http.StatusConflict, "authorisation_closed")
	if n := p.balance(account); n != 800 {
		p.t.Errorf("the account holds %d after a partial capture", n)
	}
	back := servicetest.Want(p.t, p.refund("refund", one.ID, 50), http.StatusOK, "")
	replay(back, p.refund("refund", one.ID, 50))
	servicetest.Want(p.t, p.refund("refund-too-much", one.ID, 151), http.StatusUnprocessableEntity, "amount_exceeds_capture")
	servicetest.Want(p.t, p.refund("the-rest", one.ID, 150), http.StatusOK, "")
	if n := p.balance(account); n != 1000 {
		p.t.Errorf("the account holds %d when all was refunded", n)
	}
	shown := p.Send(fmt.Sprint("GET /authorisations/", one.ID), "", "")
	for _, part := range []string{`"state":"captured"`, `"captured":200`, `"refunded":200`, `"merchant":"متجر \u0026 Shop"`, `"kind":"authorise","amount":300,"state":"posted"`, `"kind":"reverse","amount":100`} {
		if !strings.Contains(shown.Text, part) {
			p.t.Errorf("no %s in %s", part, shown.Text)
		}
	}
	id := p.authorised(card, 1000)
	gone := servicetest.Want(p.t, p.reverse("reverse", id), http.StatusOK, "")
	if gone.State != cards.Reversed || p.balance(account) != 1000 {
		p.t.Errorf("%s, and the account holds %d", gone.Text, p.balance(account))
	}
	replay(gone, p.reverse("reverse", id))
	if n := p.number("SELECT sum(CAST(json_value(event, '$.amount') AS signed)) FROM outbox WHERE json_value(event, '$.account') = ?", account); n != 0 {
		p.t.Errorf("the events add up to %d", n)
	}
	if text := p.Send("GET /metrics", "", "").Text; !strings.Contains(text, `superapp_card_movements_total{kind="capture",state="posted"}`) {
		p.t.Error("captures are not counted")
	}
}

func declines(p *town) {
	card, account := p.card(100)
	one := servicetest.Want(p.t, p.authorise("poor", card, 101), http.StatusUnprocessableEntity, "insufficient_funds")
	if one.State != cards.Declined {
		p.t.Errorf("%s", one.Text)
	}
	servicetest.Want(p.t, p.capture(p.key(), one.ID, 1), http.StatusConflict, "authorisation_closed")
	servicetest.Want(p.t, p.bank.Send("POST /transfers", "gift", fmt.Sprintf(`{"from":1,"to":%d,"amount":100,"currency":"AED","reference":"gift"}`, account)), http.StatusCreated, "")
	if two := servicetest.Want(p.t, p.authorise("poor", card, 101), http.StatusUnprocessableEntity, "insufficient_funds"); two.Text != one.Text || !two.Replayed {
		p.t.Errorf("%s, then %s", one.Text, two.Text)
	}
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /cards/%d/authorisations", card), p.key(), `{"amount":1,"currency":"KWD","merchant":"m","category":"c"}`), http.StatusUnprocessableEntity, "currency_mismatch")
	if n := p.balance(account); n != 200 {
		p.t.Errorf("the account holds %d", n)
	}
}

func (p *town) limit(card, transaction, day int64) {
	p.t.Helper()
	a := servicetest.Want(p.t, p.Send(fmt.Sprintf("PUT /cards/%d/limits", card), p.key(), fmt.Sprintf(`{"transaction":%d,"day":%d}`, transaction, day)), http.StatusOK, "")
	if !strings.Contains(a.Text, fmt.Sprintf(`"limit_transaction":%d,"limit_day":%d`, transaction, day)) {
		p.t.Errorf("%s", a.Text)
	}
}

// What is reversed, declined or not captured counts no more to the day.
func limits(p *town) {
	card, _ := p.card(10_000)
	p.limit(card, 100, 250)
	refused := func(amount int64) {
		p.t.Helper()
		servicetest.Want(p.t, p.authorise(p.key(), card, amount), http.StatusUnprocessableEntity, "limit_exceeded")
	}
	refused(101)
	first := p.authorised(card, 100)
	second := p.authorised(card, 100)
	refused(51)
	servicetest.Want(p.t, p.reverse(p.key(), first), http.StatusOK, "")
	servicetest.Want(p.t, p.capture(p.key(), second, 40), http.StatusOK, "")
	p.authorised(card, 100)
	p.authorised(card, 100)
	refused(11)
	servicetest.Want(p.t, p.refund(p.key(), second, 40), http.StatusOK, "")
	refused(11)
	p.authorised(card, 10)
	if err := p.mariadb.Exec(p.t.Context(), cards.Name, fmt.Sprintf("UPDATE authorisations SET created = created - INTERVAL 1 DAY WHERE card = %d", card)); err != nil {
		p.t.Fatal(err)
	}
	p.authorised(card, 100)
}

// together sends requests at the same time and counts the answers' statuses.
func (p *town) together(n int, send func(i int) servicetest.Reply) (map[int]int, []servicetest.Reply) {
	p.t.Helper()
	replies := make([]servicetest.Reply, n)
	var wait sync.WaitGroup
	for i := range replies {
		wait.Go(func() { replies[i] = send(i) })
	}
	wait.Wait()
	counts := map[int]int{}
	for _, a := range replies {
		if a.Err != nil {
			p.t.Fatal(a.Err)
		}
		counts[a.Status]++
	}
	return counts, replies
}

func limitsAtOnce(p *town) {
	card, account := p.card(100_000)
	p.limit(card, 100, 1000)
	counts, replies := p.together(40, func(i int) servicetest.Reply { return p.authorise(fmt.Sprint("at-once-", i), card, 100) })
	if counts[http.StatusCreated] != 10 || counts[http.StatusUnprocessableEntity] != 30 {
		p.t.Errorf("ten of forty fit into the day's limit: %v, for example %s", counts, replies[0].Text)
	}
	if n := p.balance(account); n != 99_000 {
		p.t.Errorf("the account holds %d", n)
	}
}

func sameAtOnce(p *town) {
	card, account := p.card(1000)
	same := func(want int, send func(int) servicetest.Reply) {
		p.t.Helper()
		counts, replies := p.together(20, send)
		for _, a := range replies {
			if a.Text != replies[0].Text {
				p.t.Errorf("two answers: %s and %s", a.Text, replies[0].Text)
			}
		}
		if counts[want] != 20 {
			p.t.Errorf("%v, want %d", counts, want)
		}
	}
	same(http.StatusCreated, func(int) servicetest.Reply { return p.authorise("same", card, 100) })
	id := p.authorise("same", card, 100).ID
	same(http.StatusOK, func(int) servicetest.Reply { return p.capture("same-capture", id, 60) })
	same(http.StatusOK, func(int) servicetest.Reply { return p.refund("same-refund", id, 10) })
	if n := p.balance(account); n != 950 {
		p.t.Errorf("the account holds %d", n)
	}
	owner := p.inBank("SELECT customer FROM accounts WHERE id = $1", account)
	same(http.StatusCreated, func(int) servicetest.Reply {
		return p.Send("POST /cards", "same-card", fmt.Sprintf(`{"customer":%d,"account":%d}`, owner, account))
	})
}

func captureAgainstReverse(p *town) {
	card, _ := p.card(10_000)
	ids := make([]int64, 10)
	for i := range ids {
		ids[i] = p.authorised(card, 100)
	}
	// The settler and the requests post the rest of a partial capture at once.
	counts, replies := p.together(40, func(i int) servicetest.Reply {
		id := ids[i/4]
		if i%2 == 0 {
			return p.capture(fmt.Sprint("race", i), id, int64(50+50*(i%4/2)))
		}
		return p.reverse(fmt.Sprint("race", i), id)
	})
	if counts[http.StatusOK] != 10 || counts[http.StatusConflict] != 30 {
		p.t.Errorf("one of four wins each of ten: %v", counts)
	}
	for i := range ids {
		won := 0
		for _, a := range replies[4*i : 4*i+4] {
			if a.Status == http.StatusOK {
				won++
			}
		}
		if won != 1 {
			p.t.Errorf("authorisation %d was decided %d times", ids[i], won)
		}
	}
	servicetest.Await(p.t, "the rests", func() bool { return p.number("SELECT count(*) FROM ledger_outbox") == 0 })
}

func refundsAtOnce(p *town) {
	card, account := p.card(1000)
	id := p.authorised(card, 100)
	servicetest.Want(p.t, p.capture(p.key(), id, 100), http.StatusOK, "")
	counts, _ := p.together(10, func(i int) servicetest.Reply { return p.refund(fmt.Sprint("refund", i), id, 30) })
	if counts[http.StatusOK] != 3 || counts[http.StatusUnprocessableEntity] != 7 || p.balance(account) != 990 {
		p.t.Errorf("three of ten fit: %v, and the account holds %d", counts, p.balance(account))
	}
}

// While the bank is away everything waits, and what was decided is posted when it is back, once.
func bankAway(p *town) {
	card, account := p.card(1000)
	id := p.authorised(card, 100)
	if err := p.bank.Stop(); err != nil {
		p.t.Fatal(err)
	}
	away := func(a servicetest.Reply) {
		p.t.Helper()
		servicetest.Want(p.t, a, http.StatusServiceUnavailable, "unavailable")
	}
	for range 2 {
		away(p.authorise("away", card, 200))
		away(p.capture("away-capture", id, 70))
	}
	servicetest.Want(p.t, p.authorise("away", card, 201), http.StatusUnprocessableEntity, "idempotency_conflict")
	servicetest.Want(p.t, p.reverse("away-reverse", id), http.StatusConflict, "authorisation_closed")
	away(p.refund("too-early", id, 1)) // its capture is not posted
	away(p.Send("POST /cards", "away-card", fmt.Sprintf(`{"customer":1,"account":%d}`, account)))
	pending := p.number("SELECT max(authorisation) FROM movements WHERE state = 'pending' AND kind = 'authorise'")
	away(p.capture("of-a-pending-one", pending, 1))
	if n := p.number("SELECT count(*) FROM ledger_outbox"); n != 3 {
		p.t.Errorf("%d of 3 movements are pending", n)
	}
	p.bank = servicetest.Start(p.whole, p.bankURL, service.Options{Listen: strings.TrimPrefix(p.bank.URL, "http://")}, runAccounts)
	// A new run of the service ends what the last one left.
	if err := p.Stop(); err != nil {
		p.t.Fatal(err)
	}
	p.start(p.whole, p.bank.URL)
	servicetest.Await(p.t, "the settler", func() bool { return p.number("SELECT count(*) FROM ledger_outbox") == 0 })
	if a := servicetest.Want(p.t, p.authorise("away", card, 200), http.StatusCreated, ""); !a.Replayed || a.State != cards.Authorised {
		p.t.Errorf("replayed %v: %s", a.Replayed, a.Text)
	}
	if a := servicetest.Want(p.t, p.capture("away-capture", id, 70), http.StatusOK, ""); !a.Replayed {
		p.t.Errorf("%s", a.Text)
	}
	servicetest.Want(p.t, p.refund("too-early", id, 1), http.StatusOK, "")
	if n := p.balance(account); n != 1000-200-70+1 {
		p.t.Errorf("the account holds %d", n)
	}
}

// A refusal of what the system itself owes ends nothing: it stays pending until it is mended.
func oddRefusal(p *town) {
	to, err := url.Parse(p.bank.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	transport := &http.Transport{}
	var odd atomic.Bool
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if odd.Load() && r.URL.Path == "/system/transfers" {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = w.Write([]byte(`{"error":"no","code":"insufficient_funds"}`))
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer transport.CloseIdleConnections()
	defer between.Close()
	bank, err := url.Parse(between.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	card, account := p.card(1000)
	id := p.authorised(card, 100)
	p.t.Setenv("MARIADB_URL", p.url)
	other := servicetest.Start(p.t, "", service.Options{}, func(ctx context.Context, o service.Options) error {
		o.LogLevel = "error"
		return cards.Run(ctx, o, bank, nil)
	})
	odd.Store(true)
	capture := func() servicetest.Reply {
		return other.Send(fmt.Sprintf("POST /authorisations/%d/capture", id), "odd", `{"amount":100}`)
	}
	servicetest.Want(p.t, capture(), http.StatusInternalServerError, "internal")
	if n := p.number("SELECT count(*) FROM ledger_outbox"); n != 1 {
		p.t.Errorf("%d movements are pending", n)
	}
	odd.Store(false)
	servicetest.Want(p.t, capture(), http.StatusOK, "")
	if n := p.balance(account); n != 900 {
		p.t.Errorf("the account holds %d", n)
	}
	if err := other.Stop(); err != nil {
		p.t.Error(err)
	}
}

// A transaction that loses against another is tried again, a bounded number of
// times, and leaves nothing behind; other errors are not tried again.
func conflicts(p *town) {
	defect := errors.New("a defect")
	for _, c := range []struct {
		lost  error
		fails int
		tries int
		err   error
	}{
		{&mysql.MySQLError{Number: 1020}, 2, 3, nil},
		{&mysql.MySQLError{Number: 1205}, 2, 3, nil},
		{&mysql.MySQLError{Number: 1213}, 2, 3, nil},
		{&mysql.MySQLError{Number: 1213}, 100, cards.Tries, &mysql.MySQLError{Number: 1213}},
		{&mysql.MySQLError{Number: 1062}, 100, 1, &mysql.MySQLError{Number: 1062}},
		{defect, 100, 1, defect},
	} {
		before, tries := p.number("SELECT count(*) FROM ledger_outbox"), 0
		err := cards.Transact(p.t.Context(), p.db, func(write func(string, ...any)) error {
			write("INSERT INTO ledger_outbox (movement) VALUES (?)", 1<<40+tries)
			if tries++; tries <= c.fails {
				return fmt.Errorf("x: %w", c.lost)
			}
			return nil
		})
		if tries != c.tries || !errors.Is(err, c.err) {
			p.t.Errorf("%v, %d times: tried %d times, %v", c.lost, c.fails, tries, err)
		}
		if n := p.number("SELECT count(*) FROM ledger_outbox") - before; n != 1 && err == nil || n != 0 && err != nil {
			p.t.Errorf("%v: %d rows are left", c.lost, n)
		}
		if _, err := p.db.ExecContext(p.t.Context(), "DELETE FROM ledger_outbox WHERE movement >= ?", 1<<40); err != nil {
			p.t.Fatal(err)
		}
	}
}

// Connections that the server has closed meanwhile are no customer's matter.
func deadConnections(p *town) {
	card, _ := p.card(1000)
	p.authorised(card, 1)
	db := openMariaDB(p.t, mariadbtest.Database(p.t, p.mariadb, "killer"))
	const own = "SELECT id FROM information_schema.processlist WHERE user = 'cards'"
	rows, err := db.QueryContext(p.t.Context(), own)
	if err != nil {
		p.t.Fatal(err)
	}
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			p.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(ids) == 0 {
		p.t.Fatalf("%d connections, %v", len(ids), err)
	}
	for _, id := range ids {
		if _, err := db.ExecContext(p.t.Context(), fmt.Sprint("KILL ", id)); err != nil {
			p.t.Fatal(err)
		}
	}
	servicetest.Await(p.t, "the end of all connections", func() bool {
		var left int
		// The service's relay may have a new one already.
		err := db.QueryRowContext(p.t.Context(), "SELECT count(*) FROM information_schema.processlist WHERE id IN ("+strings.Trim(strings.Join(strings.Fields(fmt.Sprint(ids)), ","), "[]")+")").Scan(&left)
		return err == nil && left == 0
	})
	p.authorised(card, 1)
}

// The service's role changes no amount and deletes nothing but what was delivered.
func historyStays(p *town) {
	card, _ := p.card(1000)
	p.authorised(card, 100)
	for _, statement := range []string{
		"UPDATE cards SET account = 1", "UPDATE cards SET token = 'x'", "DELETE FROM cards", "UPDATE authorisations SET amount = 1", "DELETE FROM authorisations",
		"UPDATE movements SET amount = 1", "DELETE FROM movements", "UPDATE outbox SET event = '{}'", "DELETE FROM idempotency", "CREATE TABLE mine (id int)", "DROP TABLE movements",
	} {
		var refused *mysql.MySQLError
		if _, err := p.db.ExecContext(p.t.Context(), statement); !errors.As(err, &refused) || refused.Number != 1142 && refused.Number != 1143 {
			p.t.Errorf("%s: %v", statement, err)
		}
	}
}

// tells runs the analytics too: what was captured and refunded since the begin arrives there.
func tells(p *town) {
	text := p.role(p.t, analytics.Name, analytics.Schema())
	p.t.Setenv("MARIADB_URL", text)
	events := servicetest.Start(p.t, "", service.Options{}, analytics.Run)
	card, account := p.card(1000)
	id := p.authorised(card, 300)
	servicetest.Want(p.t, p.capture(p.key(), id, 250), http.StatusOK, "")
	servicetest.Want(p.t, p.refund(p.key(), id, 50), http.StatusOK, "")
	want := p.number("SELECT count(*) FROM outbox")
	bank, err := url.Parse(p.bank.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	to, err := url.Parse(events.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Setenv("MARIADB_URL", p.url)
	servicetest.Start(p.t, "", service.Options{}, func(ctx context.Context, o service.Options) error { return cards.Run(ctx, o, bank, to) })
	servicetest.Await(p.t, "an empty outbox", func() bool { return p.number("SELECT count(*) FROM outbox") == 0 })
	a := servicetest.Want(p.t, events.Send(fmt.Sprint("GET /insights/", account), "", ""), http.StatusOK, "")
	if part := `"currency":"AED","total":200,"count":2,"categories":[{"category":"groceries","total":200,"count":2}],"merchants":[{"merchant":"متجر \u0026 Shop","total":200,"count":2}]`; !strings.Contains(a.Text, part) {
		p.t.Errorf("%s", a.Text)
	}
	var got, sum int64
	if err := openMariaDB(p.t, text).QueryRowContext(p.t.Context(), "SELECT count(*), sum(amount) FROM events").Scan(&got, &sum); err != nil {
		p.t.Fatal(err)
	}
	if got != want || sum != p.number("SELECT sum(captured - refunded) FROM authorisations") {
		p.t.Errorf("%d of %d events came, and add up to %d", got, want, sum)
	}
	p.told = want
}
