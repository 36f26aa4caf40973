package accounts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"dhow/internal/pgserver/pgtest"
	"dhow/superapp/accounts"
	"dhow/superapp/money"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bank is an accounts service with an issuer of AED (1), one of USD (2), and
// customers 3 to 8 who have 1000 of AED each.
type bank struct {
	*servicetest.Service
	t   *testing.T
	url string
	db  *pgxpool.Pool
	doc *servicetest.Description
}

// Send asks, and holds each answer against the document.
func (b *bank) Send(what, key, body string) servicetest.Reply {
	a := b.Service.Send(what, key, body)
	b.doc.Check(b.t, what, key, body, a)
	return a
}

const (
	issuer, dollars = 1, 2
	first, last     = 3, 8
	opening         = 1000
)

func run(ctx context.Context, o service.Options) error {
	return service.Run(ctx, accounts.Name, o, accounts.New)
}

func TestAccounts(t *testing.T) {
	s := pgtest.Start(t, 15)
	for i, c := range []struct {
		name string
		test func(b *bank)
	}{
		{"the same key twice", sameKeyTwice},
		{"the same key at once", sameKeyAtOnce},
		{"refusals", refusals},
		{"a refusal is kept", refusalIsKept},
		{"bad requests", badRequests},
		{"the keys of other services", reservedKeys},
		{"money is conserved", moneyIsConserved},
		{"conflicts with another process", conflicts},
		{"statements", statements},
		{"accounts are opened", opened},
		{"a sealed database", sealed},
		{"metrics", metrics},
		{"holds", holds},
		{"holds are refused", holdRefusals},
		{"a hold ends once", holdEndsOnce},
		{"holds add up", holdsAddUp},
		{"the system's accounts", systemAccounts},
		{"customers", customers},
		{"many join at once", joinAtOnce},
		{"history can not be changed", historyStays},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bank{t: t}
			b.url, b.db = servicetest.Database(t, s, fmt.Sprint("accounts", i), accounts.Migrate)
			b.exec("INSERT INTO accounts (customer, kind, currency) VALUES (1, 'system', 'AED'), (1, 'system', 'USD')")
			b.exec("INSERT INTO accounts (customer, kind, currency) SELECT g, 'customer', 'AED' FROM generate_series(3, 8) g")
			b.url = servicetest.Restricted(t, s, b.url, accounts.Schema())
			b.Service = servicetest.Start(t, b.url, service.Options{}, run)
			b.doc = b.Described(t)
			for id := first; id <= last; id++ {
				servicetest.Want(t, b.transfer(fmt.Sprint("open", id), issuer, id, opening), http.StatusCreated, "")
			}
			c.test(b)
			b.audit()
		})
	}
}

func (b *bank) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.db.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bank) number(sql string, args ...any) (n int64) {
	b.t.Helper()
	if err := b.db.QueryRow(b.t.Context(), sql, args...).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func order(from, to, amount int) string {
	return fmt.Sprintf(`{"from":%d,"to":%d,"amount":%d,"currency":"AED","reference":"rent"}`, from, to, amount)
}

func (b *bank) transfer(key string, from, to, amount int) servicetest.Reply {
	return b.Send("POST /transfers", key, order(from, to, amount))
}

// audit holds whatever was done: money is only moved, each balance is the sum of its entries.
func (b *bank) audit() {
	b.t.Helper()
	for what, sql := range map[string]string{
		"currencies whose balances do not sum to zero": "SELECT count(*) FROM (SELECT FROM accounts GROUP BY currency HAVING sum(balance) <> 0) x",
		"transfers that do not balance":                "SELECT count(*) FROM transfers t WHERE (SELECT count(*) FROM entries e WHERE e.transfer = t.id) <> 2 OR (SELECT sum(amount) FROM entries e WHERE e.transfer = t.id) <> 0",
		"accounts that are not their entries":          "SELECT count(*) FROM accounts a WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM entries WHERE account = a.id) OR version <> (SELECT count(*) FROM entries WHERE account = a.id)",
		"customers below zero":                         "SELECT count(*) FROM accounts WHERE kind = 'customer' AND balance < held",
		"accounts that hold something else":            "SELECT count(*) FROM accounts a WHERE held <> (SELECT coalesce(sum(amount), 0) FROM holds WHERE account = a.id AND state = 'held')",
		"captures that are not their transfers":        "SELECT count(*) FROM holds h LEFT JOIN transfers t ON t.id = h.transfer WHERE h.state = 'captured' AND (t.id IS NULL OR t.amount > h.amount OR t.currency <> h.currency)",
		"transfers without their stored answer":        "SELECT count(*) FROM transfers t WHERE NOT EXISTS (SELECT FROM idempotency i WHERE i.key = t.key AND i.status IN (200, 201))",
	} {
		if n := b.number(sql); n != 0 {
			b.t.Errorf("%s: %d", what, n)
		}
	}
}

func sameKeyTwice(b *bank) {
	one := servicetest.Want(b.t, b.transfer("k", 3, 4, 100), http.StatusCreated, "")
	if one.Replayed || one.FromBalance != opening-100 || one.FromVersion != 2 {
		b.t.Errorf("the first answer: %s", one.Text)
	}
	servicetest.Want(b.t, b.transfer("between", 3, 4, 1), http.StatusCreated, "")
	two := servicetest.Want(b.t, b.transfer("k", 3, 4, 100), http.StatusCreated, "")
	if !two.Replayed || two.Text != one.Text {
		b.t.Errorf("the second answer: replayed %v, %s; want %s", two.Replayed, two.Text, one.Text)
	}
	// White space and the order of fields are no other request.
	if a := b.Send("POST /transfers", "k", `{ "to":4, "from":3, "currency":"AED", "amount":100, "reference":"rent" }`); a.Text != one.Text {
		b.t.Errorf("written otherwise: %s", a.Text)
	}
	for _, other := range []string{order(3, 4, 101), order(4, 3, 100), order(3, 5, 100), strings.Replace(order(3, 4, 100), "rent", "food", 1)} {
		servicetest.Want(b.t, b.Send("POST /transfers", "k", other), http.StatusUnprocessableEntity, "idempotency_conflict")
	}
	servicetest.Want(b.t, b.Send("POST /accounts", "k", `{"customer":3,"currency":"AED"}`), http.StatusUnprocessableEntity, "idempotency_conflict")
	if n := b.number("SELECT balance FROM accounts WHERE id = 3"); n != opening-101 {
		b.t.Errorf("account 3 holds %d", n)
	}
}

func sameKeyAtOnce(b *bank) {
	const n = 40
	replies := make([]servicetest.Reply, n)
	var wait sync.WaitGroup
	for i := range replies {
		wait.Go(func() { replies[i] = b.transfer("k", 3, 4, 10) })
	}
	wait.Wait()
	made := 0
	for _, a := range replies {
		servicetest.Want(b.t, a, http.StatusCreated, "")
		if a.Text != replies[0].Text {
			b.t.Errorf("two answers: %s and %s", a.Text, replies[0].Text)
		}
		if !a.Replayed {
			made++
		}
	}
	if got := b.number("SELECT count(*) FROM transfers WHERE key = 'k'"); made != 1 || got != 1 {
		b.t.Errorf("%d say that they made it, and %d were made", made, got)
	}
}

func refusals(b *bank) {
	for i, c := range []struct {
		body   string
		status int
		code   string
	}{
		{order(3, 4, opening+1), http.StatusUnprocessableEntity, "insufficient_funds"},
		{order(3, 99, 1), http.StatusNotFound, "unknown_account"},
		{order(99, 3, 1), http.StatusNotFound, "unknown_account"},
		{order(3, dollars, 1), http.StatusUnprocessableEntity, "currency_mismatch"},
		{strings.Replace(order(3, 4, 1), "AED", "USD", 1), http.StatusUnprocessableEntity, "currency_mismatch"},
		{strings.Replace(order(3, 4, 1), "AED", "XXQ", 1), http.StatusUnprocessableEntity, "unknown_currency"},
		{order(3, 3, 1), http.StatusUnprocessableEntity, "same_account"},
		{order(0, 3, 1), http.StatusUnprocessableEntity, "invalid_account"},
		{order(3, 4, 0), http.StatusUnprocessableEntity, "invalid_amount"},
		{order(3, 4, -5), http.StatusUnprocessableEntity, "invalid_amount"},
		{order(3, 4, money.MaxAmount+1), http.StatusUnprocessableEntity, "invalid_amount"},
		{strings.Replace(order(3, 4, 1), "rent", strings.Repeat("x", 141), 1), http.StatusUnprocessableEntity, "invalid_reference"},
	} {
		a := servicetest.Want(b.t, b.Send("POST /transfers", fmt.Sprint("no", i), c.body), c.status, c.code)
		if a.Error == "" {
			b.t.Errorf("%s: no text", c.code)
		}
	}
	if n := b.number("SELECT count(*) FROM transfers WHERE key LIKE 'no%'"); n != 0 {
		b.t.Errorf("%d refused transfers were made", n)
	}
	b.exec("UPDATE accounts SET balance = 9223372036854775807 - 5 WHERE id = 4")
	servicetest.Want(b.t, b.transfer("much", 3, 4, 6), http.StatusUnprocessableEntity, "balance_out_of_range")
	b.exec("UPDATE accounts SET balance = $1 WHERE id = 4", opening)
}

// What was refused stays refused under its key, whatever has changed since.
func refusalIsKept(b *bank) {
	one := servicetest.Want(b.t, b.transfer("poor", 3, 4, opening+1), http.StatusUnprocessableEntity, "insufficient_funds")
	servicetest.Want(b.t, b.transfer("gift", issuer, 3, 500), http.StatusCreated, "")
	if two := servicetest.Want(b.t, b.transfer("poor", 3, 4, opening+1), http.StatusUnprocessableEntity, "insufficient_funds"); !two.Replayed || two.Text != one.Text {
		b.t.Errorf("replayed %v: %s; want %s", two.Replayed, two.Text, one.Text)
	}
	servicetest.Want(b.t, b.transfer("rich", 3, 4, opening+1), http.StatusCreated, "")
}

func badRequests(b *bank) {
	for _, c := range []struct {
		what, key, body string
		status          int
		code            string
	}{
		{"POST /transfers", "", order(3, 4, 1), http.StatusBadRequest, "idempotency_key_missing"},
		{"POST /transfers", strings.Repeat("k", 256), order(3, 4, 1), http.StatusBadRequest, "idempotency_key_invalid"},
		{"POST /transfers", "a b", order(3, 4, 1), http.StatusBadRequest, "idempotency_key_invalid"},
		{"POST /transfers", "k", "", http.StatusBadRequest, "invalid_request"},
		{"POST /transfers", "k", "{", http.StatusBadRequest, "invalid_request"},
		{"POST /transfers", "k", order(3, 4, 1) + "{}", http.StatusBadRequest, "invalid_request"},
		{"POST /transfers", "k", `{"from":3,"too":4}`, http.StatusBadRequest, "invalid_request"},
		{"POST /transfers", "k", `{"from":"3"}`, http.StatusBadRequest, "invalid_request"},
		{"POST /transfers", "k", `{"amount":1.5}`, http.StatusBadRequest, "invalid_request"},
		{"POST /transfers", "k", `{"reference":"` + strings.Repeat("x", 20<<10) + `"}`, http.StatusRequestEntityTooLarge, "body_too_large"},
		{"POST /accounts", "k", `{"customer":0,"currency":"AED"}`, http.StatusUnprocessableEntity, "invalid_customer"},
		{"POST /accounts", "k", `{"customer":1,"currency":""}`, http.StatusUnprocessableEntity, "unknown_currency"},
		{"GET /accounts/x", "", "", http.StatusBadRequest, "invalid_request"},
		{"GET /accounts/99", "", "", http.StatusNotFound, "unknown_account"},
		{"GET /accounts/99/entries", "", "", http.StatusNotFound, "unknown_account"},
		{"GET /accounts/3/entries?limit=0", "", "", http.StatusBadRequest, "invalid_request"},
		{"GET /accounts/3/entries?before=x", "", "", http.StatusBadRequest, "invalid_request"},
		{"GET /transfers/99999", "", "", http.StatusNotFound, "unknown_transfer"},
		{"GET /nothing", "", "", http.StatusNotFound, "unknown_path"},
		{"DELETE /accounts/3", "", "", http.StatusNotFound, "unknown_path"},
	} {
		servicetest.Want(b.t, b.Send(c.what, c.key, c.body), c.status, c.code)
	}
	// None of them took the key.
	servicetest.Want(b.t, b.transfer("k", 3, 4, 1), http.StatusCreated, "")
}

// Nobody from outside can take the key of another service's step, which then finds it free.
func reservedKeys(b *bank) {
	for _, key := range []string{"payment:x", "card:5", "send:5:fee"} {
		for what, body := range map[string]string{
			"POST /transfers": order(3, 4, 1), "POST /accounts": `{"customer":1,"currency":"AED"}`,
			"POST /customers": `{"name":"Reem","email":"reserved@example.com","pin":"2468","language":"ar"}`,
		} {
			servicetest.Want(b.t, b.Send(what, key, body), http.StatusBadRequest, "idempotency_key_invalid")
		}
		first := servicetest.Want(b.t, b.Send("POST /system/transfers", key, order(3, 4, 1)), http.StatusCreated, "")
		again := servicetest.Want(b.t, b.Send("POST /system/transfers", key, order(3, 4, 1)), http.StatusCreated, "")
		if again.Text != first.Text {
			b.t.Errorf("%s, then %s", first.Text, again.Text)
		}
	}
}

// Many clients pay each other in circles, two processes serve them, and everything adds up.
func moneyIsConserved(b *bank) {
	other := servicetest.Start(b.t, b.url, service.Options{Instance: "target"}, run)
	const clients, each = 12, 25
	var g errgroup.Group
	for c := range clients {
		g.Go(func() error {
			random := rand.New(rand.NewPCG(1, uint64(c)))
			for i := range each {
				from := first + random.IntN(last-first+1)
				to := first + (from-first+1+random.IntN(last-first))%(last-first+1)
				s := b.Service
				if i%2 == 1 {
					s = other
				}
				key := fmt.Sprintf("c%d-%d", c, i)
				a := s.Send("POST /transfers", key, order(from, to, 1+random.IntN(700)))
				if a.Err != nil || a.Status != http.StatusCreated && a.Code != "insufficient_funds" {
					return fmt.Errorf("status %d, %w: %s", a.Status, a.Err, a.Text)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		b.t.Error(err)
	}
	if n := b.number("SELECT count(*) FROM idempotency WHERE key LIKE 'c%'"); n != clients*each {
		b.t.Errorf("%d of %d answers are stored", n, clients*each)
	}
	if n := b.number("SELECT count(DISTINCT instance) FROM transfers WHERE key LIKE 'c%'"); n != 2 {
		b.t.Errorf("%d instances made transfers", n)
	}
	if n := b.number("SELECT sum(balance) FROM accounts WHERE kind = 'customer'"); n != (last-first+1)*opening {
		b.t.Errorf("the customers hold %d", n)
	}
}

// A transaction of somebody else that changes the account in between makes the
// transfer begin again, and it comes out right.
func conflicts(b *bank) {
	ctx := b.t.Context()
	tx, err := b.db.Begin(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(ctx, "UPDATE accounts SET opened = opened WHERE id = 3"); err != nil {
		b.t.Fatal(err)
	}
	got := make(chan servicetest.Reply, 1)
	go func() { got <- b.transfer("k", 3, 4, 10) }()
	servicetest.Await(b.t, "a transfer that waits", func() bool {
		return b.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
	})
	if err := tx.Commit(ctx); err != nil {
		b.t.Fatal(err)
	}
	if a := servicetest.Want(b.t, <-got, http.StatusCreated, ""); a.FromBalance != opening-10 {
		b.t.Errorf("%s", a.Text)
	}
	if page := b.Send("GET /metrics", "", "").Text; !strings.Contains(page, "superapp_transfer_conflicts_total 1\n") {
		b.t.Error("the conflict was not counted")
	}
}

func statements(b *bank) {
	for i := range 7 {
		servicetest.Want(b.t, b.transfer(fmt.Sprint("s", i), 3, 4, 10), http.StatusCreated, "")
	}
	seen := int64(0)
	for next, page := int64(9), "?limit=3"; page != ""; {
		a := b.Send("GET /accounts/3/entries"+page, "", "")
		var s struct {
			Balance, Version, Before int64
			Currency                 string
			Entries                  []struct{ Amount, Balance, Version, Transfer int64 }
		}
		unmarshal(b.t, a, &s)
		if s.Balance != opening-70 || s.Version != 8 || s.Currency != "AED" || len(s.Entries) == 0 {
			b.t.Fatalf("%s", a.Text)
		}
		for _, e := range s.Entries {
			next--
			seen++
			if e.Version != next || e.Version > 1 && (e.Amount != -10 || e.Balance != opening-10*(e.Version-1)) {
				b.t.Errorf("entry %+v, want version %d", e, next)
			}
		}
		if page = ""; s.Before > 0 {
			page = fmt.Sprintf("?limit=3&before=%d", s.Before)
		}
	}
	if seen != 8 {
		b.t.Errorf("%d entries of 8", seen)
	}
	id := b.number("SELECT id FROM transfers WHERE key = 's0'")
	if a := b.Send(fmt.Sprint("GET /transfers/", id), "", ""); a.Status != http.StatusOK || a.FromBalance != opening-10 || !strings.Contains(a.Text, `"amount":10`) || !strings.Contains(a.Text, `"reference":"rent"`) {
		b.t.Errorf("%d %s", a.Status, a.Text)
	}
}

func opened(b *bank) {
	one := servicetest.Want(b.t, b.Send("POST /accounts", "new", `{"customer":77,"currency":"KWD"}`), http.StatusCreated, "")
	two := servicetest.Want(b.t, b.Send("POST /accounts", "new", `{"customer":77,"currency":"KWD"}`), http.StatusCreated, "")
	if one.ID == 0 || two.Text != one.Text || !two.Replayed || one.Replayed {
		b.t.Errorf("%s, then %s (replayed %v)", one.Text, two.Text, two.Replayed)
	}
	servicetest.Want(b.t, b.Send("POST /accounts", "new", `{"customer":78,"currency":"KWD"}`), http.StatusUnprocessableEntity, "idempotency_conflict")
	if a := b.Send(fmt.Sprint("GET /accounts/", one.ID), "", ""); a.Status != http.StatusOK || a.Balance != 0 || !strings.Contains(a.Text, `"kind":"customer"`) {
		b.t.Errorf("%d %s", a.Status, a.Text)
	}
	if n := b.number("SELECT count(*) FROM accounts WHERE customer IN (77, 78)"); n != 1 {
		b.t.Errorf("%d accounts were opened", n)
	}
}

// A database that refuses writes, as a fenced one does, costs no write: it is a 503 and nothing is done.
func sealed(b *bank) {
	b.exec("ALTER DATABASE " + pgx.Identifier{b.db.Config().ConnConfig.Database}.Sanitize() + " SET default_transaction_read_only = on")
	b.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	servicetest.Await(b.t, "reads over new connections", func() bool {
		a := b.Send("GET /accounts/3", "", "")
		return a.Status == http.StatusOK && a.Balance == opening
	})
	servicetest.Await(b.t, "the refusal of a write", func() bool {
		return strings.Contains(b.Send("GET /metrics", "", "").Text, `outcome="failed"}`) || b.transfer("k", 3, 4, 10).Status != http.StatusServiceUnavailable
	})
	if a := servicetest.Want(b.t, b.transfer("k", 3, 4, 10), http.StatusServiceUnavailable, "unavailable"); a.Header.Get("Retry-After") == "" {
		b.t.Error("a 503 does not say when to come again")
	}
	if _, err := b.db.Exec(b.t.Context(), "BEGIN READ WRITE; ALTER DATABASE "+pgx.Identifier{b.db.Config().ConnConfig.Database}.Sanitize()+" RESET default_transaction_read_only; COMMIT"); err != nil {
		b.t.Fatal(err)
	}
	b.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	servicetest.Await(b.t, "the write", func() bool { return b.transfer("k", 3, 4, 10).Status == http.StatusCreated })
	if n := b.number("SELECT balance FROM accounts WHERE id = 3"); n != opening-10 {
		b.t.Errorf("account 3 holds %d", n)
	}
}

// The service's role adds to the history and can not change it, nor anything else that it need not.
func historyStays(b *bank) {
	conn, err := pgx.Connect(b.t.Context(), b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, sql := range []string{
		"UPDATE entries SET amount = amount", "DELETE FROM entries", "TRUNCATE entries", "UPDATE transfers SET amount = amount", "DELETE FROM transfers",
		"UPDATE accounts SET kind = 'system'", "DELETE FROM accounts", "UPDATE holds SET amount = 1", "DELETE FROM holds",
		"UPDATE customers SET pin = ''", "DELETE FROM customers", "DELETE FROM idempotency", "CREATE TABLE mine (id int)", "DROP TABLE entries",
	} {
		var refused *pgconn.PgError
		if _, err := conn.Exec(b.t.Context(), sql); !errors.As(err, &refused) || refused.Code != "42501" {
			b.t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	app := accounts.New(service.Base{Metrics: prometheus.NewRegistry()})
	servicetest.OpenAPI(t, app.OpenAPI, app.Routes)
}

func metrics(b *bank) {
	servicetest.Want(b.t, b.transfer("k", 3, 4, 10), http.StatusCreated, "")
	servicetest.Want(b.t, b.transfer("k", 3, 4, 10), http.StatusCreated, "")
	servicetest.Want(b.t, b.transfer("n", 3, 4, opening), http.StatusUnprocessableEntity, "insufficient_funds")
	page := b.Send("GET /metrics", "", "").Text
	for _, line := range []string{
		fmt.Sprintf(`superapp_transfers_total{outcome="made"} %d`, 1+last-first+1), `superapp_transfers_total{outcome="replayed"} 1`, `superapp_transfers_total{outcome="refused"} 1`,
		`superapp_http_request_seconds_count{route="POST /transfers",status="422"} 1`, `superapp_pool_connections 8`,
	} {
		if !strings.Contains(page, line+"\n") {
			b.t.Errorf("no %s in\n%s", line, page)
		}
	}
}

func unmarshal(t *testing.T, a servicetest.Reply, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.Text), v); err != nil || a.Status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", a.Status, err, a.Text)
	}
}
