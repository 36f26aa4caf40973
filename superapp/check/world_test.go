package check

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
	"dhow/superapp/accounts"
	"dhow/superapp/history"
	"dhow/superapp/payments"
)

// loose takes every constraint from a database, so that faults can be planted
// which the constraints would refuse: the checker must not lean on them.
const loose = `DO $$ DECLARE c record; BEGIN
	FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
		WHERE connamespace = 'public'::regnamespace AND contype IN ('f', 'u', 'p', 'c') ORDER BY contype = 'p', contype = 'u' LOOP
		EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname);
	END LOOP;
END $$`

// world is an application with a past: its two databases and the history of a
// client, which agree until a test plants a fault.
type world struct {
	t                  *testing.T
	urls               Databases
	accounts, payments *pgx.Conn
	ops                []history.Record
	now                int64
	balance, version   map[int64]int64
	nextTransfer       int64
	others             map[*pgx.Conn][]string // more databases to keep, with their tables
}

const (
	issuer    = 1 // of AED
	customers = 6 // ids 2 to 7
	opening   = 10_000
)

// templates makes the application's databases on a server and gives their names.
func templates(t *testing.T, s *pgserver.Server) {
	t.Helper()
	ctx := context.Background()
	for name, migrate := range map[string]func(context.Context) error{"accounts_template": accounts.Migrate, "payments_template": payments.Migrate} {
		t.Setenv("DATABASE_URL", pgtest.Database(t, s, name))
		if err := migrate(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Exec(ctx, name, loose); err != nil {
			t.Fatal(err)
		}
	}
}

func clone(t *testing.T, s *pgserver.Server, template, name string) string {
	t.Helper()
	if err := s.Exec(context.Background(), "postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s_template", pgx.Identifier{name}.Sanitize(), template)); err != nil {
		t.Fatal(err)
	}
	return s.URL(name)
}

func dial(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// newWorld makes an application with accounts and money in them.
func newWorld(t *testing.T, s *pgserver.Server, name string) *world {
	t.Helper()
	w := &world{t: t, urls: Databases{Accounts: clone(t, s, "accounts", name+"_a"), Payments: clone(t, s, "payments", name+"_p")},
		now: 1_700_000_000_000_000_000, balance: map[int64]int64{}, version: map[int64]int64{}}
	w.accounts, w.payments = dial(t, w.urls.Accounts), dial(t, w.urls.Payments)
	for id := int64(issuer); id <= issuer+customers; id++ {
		kind := "customer"
		if id == issuer {
			kind = "system"
		}
		w.a("INSERT INTO accounts (customer, kind, currency) VALUES ($1, $2, 'AED')", id, kind)
	}
	for id := int64(2); id < 2+customers; id++ {
		w.move(fmt.Sprint("seed:", id), "opening balance", issuer, id, opening, "seed")
	}
	return w
}

func (w *world) exec(conn *pgx.Conn, sql string, args ...any) {
	w.t.Helper()
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		w.t.Fatalf("%v: %s", err, sql)
	}
}

func (w *world) a(sql string, args ...any) { w.t.Helper(); w.exec(w.accounts, sql, args...) }
func (w *world) p(sql string, args ...any) { w.t.Helper(); w.exec(w.payments, sql, args...) }

// move makes a transfer as the accounts service does, but for the stored answer.
func (w *world) move(key, reference string, from, to, amount int64, instance string) int64 {
	w.t.Helper()
	for account, by := range map[int64]int64{from: -amount, to: amount} {
		w.balance[account] += by
		w.version[account]++
	}
	w.nextTransfer++
	w.a(`WITH t AS (INSERT INTO transfers (key, reference, currency, amount, instance) VALUES ($1, $2, 'AED', $5, $10) RETURNING id),
		a AS (UPDATE accounts SET balance = CASE id WHEN $3 THEN $6::bigint ELSE $8 END, version = CASE id WHEN $3 THEN $7::bigint ELSE $9 END WHERE id IN ($3, $4))
		INSERT INTO entries (transfer, account, amount, balance, version)
		SELECT id, $3, -$5::bigint, $6::bigint, $7::bigint FROM t UNION ALL SELECT id, $4, $5::bigint, $8::bigint, $9::bigint FROM t`,
		key, reference, from, to, amount, w.balance[from], w.version[from], w.balance[to], w.version[to], instance)
	return w.nextTransfer
}

// held keeps an amount of an account for later.
func (w *world) held(key string, account, amount int64) (id int64) {
	w.t.Helper()
	if err := w.accounts.QueryRow(context.Background(), `WITH a AS (UPDATE accounts SET held = held + $3 WHERE id = $2)
		INSERT INTO holds (key, account, amount, currency, reference, state, instance) VALUES ($1, $2, $3, 'AED', 'r', 'held', 'source') RETURNING id`, key, account, amount).Scan(&id); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// release lets a hold go.
func (w *world) release(hold int64) {
	w.t.Helper()
	w.a("UPDATE accounts a SET held = held - h.amount FROM holds h WHERE h.id = $1 AND a.id = h.account", hold)
	w.a("UPDATE holds SET state = 'released' WHERE id = $1", hold)
}

// capture moves an amount of a hold.
func (w *world) capture(key string, hold, from, to, amount int64) (transfer int64) {
	w.t.Helper()
	w.release(hold)
	transfer = w.move(key, "r", from, to, amount, "source")
	w.a("UPDATE holds SET state = 'captured', transfer = $2 WHERE id = $1", hold, transfer)
	return transfer
}

// tick lets time pass and gives an operation's times.
func (w *world) tick(r history.Record) history.Record {
	w.now += 1_000_000
	r.Scheduled, r.Sent, r.Done = w.now, w.now+1000, w.now+500_000
	return r
}

func (w *world) told(r history.Record) { w.ops = append(w.ops, r) }

func (w *world) stored(conn *pgx.Conn, key string, status int) {
	w.t.Helper()
	w.exec(conn, "INSERT INTO idempotency (key, request_hash, status, answer) VALUES ($1, '', $2, '{}')", key, status)
}

// transfer, pay and the others do an operation rightly and note it.
func (w *world) transfer(key string, from, to, amount int64) history.Record {
	w.t.Helper()
	r := w.tick(history.Record{Op: history.Transfer, Key: key, From: from, To: to, Amount: amount, Currency: "AED", Outcome: history.Acknowledged, Status: 201})
	r.ID = w.move(key, "r", from, to, amount, "source")
	w.stored(w.accounts, key, 201)
	r.Transfer, r.Version, r.ToVersion, r.Balance = r.ID, w.version[from], w.version[to], w.balance[from]
	w.told(r)
	return r
}

// paid makes a completed payment and its transfer.
func (w *world) paid(key string, from, to, amount int64) (payment, transfer int64) {
	w.t.Helper()
	if err := w.payments.QueryRow(context.Background(), `INSERT INTO payments (key, payer, payee, amount, currency, note, state, instance)
		VALUES ($1, $2, $3, $4, 'AED', '', 'pending', 'source') RETURNING id`, key, from, to, amount).Scan(&payment); err != nil {
		w.t.Fatal(err)
	}
	transfer = w.move("payment:"+key, fmt.Sprint("payment ", payment), from, to, amount, "source")
	w.p("UPDATE payments SET state = 'completed', transfer = $2, updated = clock_timestamp() WHERE id = $1", payment, transfer)
	return payment, transfer
}

func (w *world) pay(key string, from, to, amount int64) history.Record {
	w.t.Helper()
	r := w.tick(history.Record{Op: history.Pay, Key: key, From: from, To: to, Amount: amount, Currency: "AED", Outcome: history.Acknowledged, Status: 201})
	r.ID, r.Transfer = w.paid(key, from, to, amount)
	w.stored(w.payments, key, 201)
	r.Version, r.Balance = w.version[from], w.balance[from]
	w.told(r)
	return r
}

func (w *world) requestAndAccept(key string, payer, payee, amount int64) {
	w.t.Helper()
	r := w.tick(history.Record{Op: history.Request, Key: key, From: payer, To: payee, Amount: amount, Currency: "AED", Outcome: history.Acknowledged, Status: 201})
	if err := w.payments.QueryRow(context.Background(), `INSERT INTO requests (key, payee, payer, amount, currency, note, state, instance)
		VALUES ($1, $2, $3, $4, 'AED', '', 'open', 'source') RETURNING id`, key, payee, payer, amount).Scan(&r.ID); err != nil {
		w.t.Fatal(err)
	}
	w.stored(w.payments, key, 201)
	w.told(r)
	w.accepted(w.tick(history.Record{Op: history.Accept, Key: key + "-accept", Request: r.ID, From: payer, To: payee, Amount: amount, Currency: "AED", Outcome: history.Acknowledged, Status: 200}))
}

// accepted pays a request and tells what was answered.
func (w *world) accepted(a history.Record) {
	w.t.Helper()
	a.ID, a.Transfer = w.paid(fmt.Sprint("request:", a.Request), a.From, a.To, a.Amount)
	w.p("UPDATE requests SET state = 'accepted', payment = $2 WHERE id = $1", a.Request, a.ID)
	w.stored(w.payments, a.Key, 200)
	a.Version, a.Balance = w.version[a.From], w.balance[a.From]
	w.told(a)
}

// split splits a bill among a payee and payers, who all accept.
func (w *world) split(key string, payee int64, payers []int64, total int64) history.Record {
	w.t.Helper()
	r := w.tick(history.Record{Op: history.Split, Key: key, To: payee, Amount: total, Currency: "AED", Shares: len(payers), Outcome: history.Acknowledged, Status: 201})
	n := int64(len(payers) + 1)
	own := total / n
	if err := w.payments.QueryRow(context.Background(), `INSERT INTO splits (key, payee, total, payee_share, currency, note, instance)
		VALUES ($1, $2, $3, $4, 'AED', '', 'source') RETURNING id`, key, payee, total, own).Scan(&r.ID); err != nil {
		w.t.Fatal(err)
	}
	w.stored(w.payments, key, 201)
	w.told(r)
	left := total - own
	for i, payer := range payers {
		amount := left / int64(len(payers)-i)
		left -= amount
		a := w.tick(history.Record{Op: history.Accept, Key: fmt.Sprint(key, "-accept-", i), From: payer, To: payee, Amount: amount, Currency: "AED", Outcome: history.Acknowledged, Status: 200})
		if err := w.payments.QueryRow(context.Background(), `INSERT INTO requests (key, payee, payer, amount, currency, note, state, instance, split)
			VALUES ($1, $2, $3, $4, 'AED', '', 'open', 'source', $5) RETURNING id`, fmt.Sprint("split:", r.ID, ":", i), payee, payer, amount, r.ID).Scan(&a.Request); err != nil {
			w.t.Fatal(err)
		}
		w.accepted(a)
	}
	return r
}

func (w *world) read(op history.Op, account int64) {
	w.told(w.tick(history.Record{Op: op, Account: account, Outcome: history.Acknowledged, Status: 200, Version: w.version[account], Balance: w.balance[account]}))
}

// not is an operation that was not done, for the reason that its outcome says.
func (w *world) not(op history.Op, key string, outcome history.Outcome, status int) {
	w.t.Helper()
	r := w.tick(history.Record{Op: op, Key: key, From: 2, To: 3, Amount: 5, Currency: "AED", Outcome: outcome, Status: status})
	if outcome == history.Late {
		r.Sent = 0
	}
	if outcome == history.Refused {
		r.Code = "insufficient_funds"
		w.stored(map[bool]*pgx.Conn{true: w.accounts, false: w.payments}[op == history.Transfer], key, status)
	}
	w.told(r)
}

// live lets the application live for a while, with all that may rightly happen.
func (w *world) live(n int) {
	w.t.Helper()
	for i := range n {
		k := fmt.Sprint("live", w.now, "-", i)
		from := int64(2 + i%customers)
		to := int64(2 + (i+1)%customers)
		w.transfer(k+"t", from, to, 10)
		w.pay(k+"p", to, from, 20)
		w.requestAndAccept(k+"q", from, to, 30)
		w.read(history.Read, from)
		w.read(history.Statement, to)
	}
	w.split("split", 2, []int64{3, 4, 5}, 101)
	w.not(history.Split, "unknown-not-split", history.Unknown, 503)
	w.held("kept", 3, 40)
	w.release(w.held("let go", 3, 50))
	w.capture("captured", w.held("moved", 3, 60), 3, 4, 55)
	w.read(history.Read, 7)
	w.not(history.Pay, "refused", history.Refused, 422)
	w.p("INSERT INTO payments (key, payer, payee, amount, currency, note, state, instance) VALUES ('refused', 2, 3, 5, 'AED', '', 'declined', 'source')")
	w.not(history.Transfer, "refused-transfer", history.Refused, 422)
	w.not(history.Transfer, "failed", history.Failed, 404)
	w.not(history.Pay, "late", history.Late, 0)
	w.not(history.Pay, "unknown-not", history.Unknown, 503)
	w.not(history.Request, "unknown-not-q", history.Unknown, 0)
	// Unknown and done: the answer got lost.
	r := w.tick(history.Record{Op: history.Pay, Key: "unknown-done", From: 2, To: 3, Amount: 5, Currency: "AED", Outcome: history.Unknown})
	w.paid("unknown-done", 2, 3, 5)
	w.told(r)
	// A replayed answer shows an old version.
	old := w.transfer("replayed", 4, 5, 1)
	w.transfer("after", 4, 5, 1)
	w.ops[len(w.ops)-2].Replayed = true
	w.ops[len(w.ops)-2].Sent, w.ops[len(w.ops)-2].Done = w.now+2_000_000, w.now+3_000_000
	w.now += 5_000_000
	_ = old
	w.read(history.Read, 4)
}

// history writes what the client was told into a file.
func (w *world) history() string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "history")
	h, err := history.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range w.ops {
		if err := h.Append(&w.ops[i]); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := h.Close(); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) config() Config {
	return Config{Histories: []string{w.history()}, Serving: w.urls, Settle: -1}
}

// check runs the whole check.
func (w *world) check(cfg Config) *Report {
	w.t.Helper()
	r, err := Run(context.Background(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// counts are the faults of a report by kind.
func (r *Report) found() map[Kind]int64 {
	m := map[Kind]int64{}
	for _, k := range kinds {
		if n := *k.into(r); n > 0 {
			m[k.kind] = n
		}
	}
	return m
}

func expect(t *testing.T, r *Report, want map[Kind]int64) {
	t.Helper()
	if got := r.found(); !maps.Equal(got, want) {
		text, _ := json.MarshalIndent(r.Findings, "", " ")
		t.Errorf("found %v, want %v: %s", got, want, text)
	}
	if r.OK != (len(want) == 0) {
		t.Errorf("ok is %v", r.OK)
	}
}

func appendToFile(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// closeAll ends a world's connections, so that its databases can be copied.
func closeAll(w *world) {
	for _, c := range []*pgx.Conn{w.accounts, w.payments} {
		_ = c.Close(context.Background())
	}
}

// copy is the same world in databases of its own.
func (w *world) copy(t *testing.T, s *pgserver.Server, name string) *world {
	t.Helper()
	c := *w
	c.t, c.ops, c.balance, c.version = t, append([]history.Record(nil), w.ops...), maps.Clone(w.balance), maps.Clone(w.version)
	for template, url := range map[string]*string{"base_a": &c.urls.Accounts, "base_p": &c.urls.Payments} {
		own := name + template[len("base"):]
		if err := s.Exec(context.Background(), "postgres", "CREATE DATABASE "+own+" TEMPLATE "+template); err != nil {
			t.Fatal(err)
		}
		*url = s.URL(own)
	}
	c.accounts, c.payments = dial(t, c.urls.Accounts), dial(t, c.urls.Payments)
	return &c
}

// kept are the tables that keep and again copy, by database.
func (w *world) kept() map[*pgx.Conn][]string {
	all := map[*pgx.Conn][]string{w.accounts: accountsTables, w.payments: paymentsTables}
	maps.Copy(all, w.others)
	return all
}

// keep remembers what the databases hold, for again.
func (w *world) keep() {
	w.t.Helper()
	for conn, tables := range w.kept() {
		w.exec(conn, "CREATE SCHEMA kept")
		for _, table := range tables {
			w.exec(conn, fmt.Sprintf("CREATE TABLE kept.%s AS TABLE %[1]s", table))
		}
	}
}

// again is the world as it was kept, in the same databases: much quicker than databases of its own.
func (w *world) again(t *testing.T) *world {
	t.Helper()
	c := *w
	c.t, c.ops, c.balance, c.version = t, append([]history.Record(nil), w.ops...), maps.Clone(w.balance), maps.Clone(w.version)
	for conn, tables := range w.kept() {
		for _, table := range tables {
			c.exec(conn, "TRUNCATE "+table)
			c.exec(conn, fmt.Sprintf("INSERT INTO %s OVERRIDING SYSTEM VALUE SELECT * FROM kept.%[1]s", table))
			if table != "idempotency" {
				c.exec(conn, fmt.Sprintf("SELECT setval(pg_get_serial_sequence('%s', 'id'), (SELECT max(id) FROM %[1]s))", table))
			}
		}
	}
	return &c
}
