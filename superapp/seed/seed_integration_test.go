package seed_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
	"dhow/superapp/accounts"
	"dhow/superapp/seed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// filled makes a database with the schema and seeds it.
func filled(t *testing.T, s *pgserver.Server, name string, o seed.Options) *pgx.Conn {
	t.Helper()
	url := pgtest.Database(t, s, name)
	t.Setenv("DATABASE_URL", url)
	if err := accounts.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := seed.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func number(t *testing.T, c *pgx.Conn, sql string) (n int64) {
	t.Helper()
	if err := c.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func text(t *testing.T, c *pgx.Conn, sql string) (s string) {
	t.Helper()
	if err := c.QueryRow(t.Context(), sql).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

const (
	ledger = "SELECT md5(string_agg(md5(x::text), '' ORDER BY x.id)) FROM (SELECT e.*, t.key, t.reference FROM entries e JOIN transfers t ON t.id = e.transfer) x"
	// shape is every index and constraint, which the seeding takes off and puts back.
	shape = `SELECT string_agg(d, E'\n' ORDER BY d) FROM (SELECT pg_get_indexdef(indexrelid) AS d FROM pg_index WHERE indrelid IN ('transfers'::regclass, 'entries'::regclass, 'accounts'::regclass, 'holds'::regclass, 'customers'::regclass)
		UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n') x`
)

func TestSeed(t *testing.T) {
	s := pgtest.Start(t, 15)
	o := seed.Options{Accounts: 203, Entries: 3000, Currencies: []string{"AED", "KWD", "JPY"}, Seed: 7}
	c := filled(t, s, "one", o)
	for what, want := range map[string]int64{
		"SELECT count(*) FROM accounts":                                                               203,
		"SELECT count(*) FROM entries":                                                                3000,
		"SELECT count(*) FROM transfers":                                                              1500,
		"SELECT max(id) - min(id) + 1 FROM accounts":                                                  203,
		"SELECT count(*) FROM accounts WHERE kind = 'system'":                                         3,
		"SELECT count(*) FROM accounts WHERE kind = 'customer' AND balance < 0":                       0,
		"SELECT count(*) FROM accounts WHERE currency <> ('{AED,KWD,JPY}'::text[])[1 + (id - 1) % 3]": 0,
		"SELECT count(*) FROM (SELECT FROM accounts GROUP BY currency HAVING sum(balance) <> 0) x":    0,
		"SELECT count(*) FROM transfers t WHERE (SELECT sum(amount) FROM entries WHERE transfer = t.id) <> 0 OR (SELECT max(amount) FROM entries WHERE transfer = t.id) <> t.amount":                                                                    0,
		"SELECT count(*) FROM accounts a WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM entries WHERE account = a.id) OR version <> (SELECT count(*) FROM entries WHERE account = a.id)":                                                        0,
		"SELECT count(*) FROM (SELECT version - lag(version, 1, 0::bigint) OVER w AS step, balance - lag(balance, 1, 0::bigint) OVER w - amount AS gap FROM entries WINDOW w AS (PARTITION BY account ORDER BY version)) x WHERE step <> 1 OR gap <> 0": 0,
		"SELECT count(*) FROM entries e JOIN accounts a ON a.id = e.account JOIN transfers t ON t.id = e.transfer WHERE a.currency <> t.currency":                                                                                                       0,
		"SELECT count(*) FROM customers": 67, // the last has two of the three currencies
		"SELECT count(*) FROM customers c WHERE email <> 'customer' || id || '@example.com' OR (language = 'ar') <> (name ~ '[ء-ي]') OR NOT EXISTS (SELECT FROM accounts WHERE customer = c.id AND id BETWEEN c.id * 3 + 1 AND c.id * 3 + 3)": 0,
		"SELECT count(DISTINCT language) FROM customers":                                                                       2,
		"SELECT count(*) FROM accounts a WHERE kind = 'customer' AND NOT EXISTS (SELECT FROM customers WHERE id = a.customer)": 0,
		"SELECT count(*) FROM transfers WHERE at > now() OR at < now() - interval '91 days'":                                   0,
	} {
		if got := number(t, c, what); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	// The same options give the same ledger, another seed another.
	same, other := filled(t, s, "same", o), filled(t, s, "other", seed.Options{Accounts: 203, Entries: 3000, Currencies: o.Currencies, Seed: 8})
	if text(t, c, ledger) != text(t, same, ledger) {
		t.Error("the same options gave another ledger")
	}
	if text(t, c, ledger) == text(t, other, ledger) {
		t.Error("another seed gave the same ledger")
	}
	// What was taken off for speed is on again.
	bare := pgtest.Database(t, s, "bare")
	t.Setenv("DATABASE_URL", bare)
	if err := accounts.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	empty, err := pgx.Connect(t.Context(), bare)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = empty.Close(context.Background()) }()
	if got, want := text(t, c, shape), text(t, empty, shape); got != want {
		t.Errorf("the schema was changed from\n%s\nto\n%s", want, got)
	}
	// The next rows get the next ids.
	if id := number(t, c, "INSERT INTO accounts (customer, kind, currency) VALUES (9, 'customer', 'AED') RETURNING id"); id != 204 {
		t.Errorf("the next account is %d", id)
	}
	if id := number(t, c, "INSERT INTO transfers (key, reference, currency, amount, instance) VALUES ('k', '', 'AED', 1, 'x') RETURNING id"); id != 1501 {
		t.Errorf("the next transfer is %d", id)
	}
	if id := number(t, c, "INSERT INTO customers (name, email, pin, language) VALUES ('x', 'x@example.com', '', 'en') RETURNING id"); id != 68 {
		t.Errorf("the next customer is %d", id)
	}
	t.Setenv("DATABASE_URL", s.URL("one"))
	if err := seed.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "holds accounts already") {
		t.Errorf("seeded twice: %v", err)
	}
	if n := number(t, c, "SELECT count(*) FROM entries"); n != 3000 {
		t.Errorf("the refused seeding left %d entries", n)
	}
	t.Setenv("DATABASE_URL", pgtest.Database(t, s, "nothing"))
	if err := seed.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "superapp migrate accounts") {
		t.Errorf("seeded without a schema: %v", err)
	}
	// As many customers as wanted, and their PIN.
	t.Setenv("SEED_PIN", "975310")
	some := filled(t, s, "some", seed.Options{Customers: 4, Currencies: []string{"AED", "KWD"}})
	if n := number(t, some, "SELECT count(*) FROM customers c WHERE (SELECT count(*) FROM accounts WHERE customer = c.id) = 2"); n != 4 {
		t.Errorf("%d customers with two accounts", n)
	}
	for c, pin := range map[*pgx.Conn]string{c: "2468", some: "975310"} {
		if err := bcrypt.CompareHashAndPassword([]byte(text(t, c, "SELECT pin FROM customers WHERE id = 3")), []byte(pin)); err != nil {
			t.Errorf("the PIN is not %s: %v", pin, err)
		}
	}
	t.Setenv("SEED_PIN", "secret")
	var coded interface{ ExitCode() int }
	t.Setenv("DATABASE_URL", bare)
	if err := seed.Run(t.Context(), o); !errors.As(err, &coded) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a PIN of letters: %v", err)
	}
	t.Setenv("SEED_PIN", "")
	const who = "SELECT string_agg(id || name || email || language, ',' ORDER BY id) FROM customers WHERE id < 60"
	if text(t, same, who) != text(t, other, who) {
		t.Error("the customers do not follow from their ids")
	}
	// Without a history the accounts are there, and empty.
	none := filled(t, s, "none", seed.Options{Accounts: 2, Currencies: []string{"AED"}})
	if n := number(t, none, "SELECT count(*) FROM accounts WHERE balance = 0 AND version = 0"); n != 2 {
		t.Errorf("%d empty accounts", n)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	good := seed.Options{Accounts: 10, Entries: 10, Currencies: []string{"AED"}}
	for want, edit := range map[string]func(*seed.Options){
		"--currencies is empty":   func(o *seed.Options) { o.Currencies = nil },
		"--accounts is 1":         func(o *seed.Options) { o.Accounts = 1 },
		"--accounts is 50000001":  func(o *seed.Options) { o.Accounts = 50_000_001 },
		"--entries is 3":          func(o *seed.Options) { o.Entries = 3 },
		"--entries is -2":         func(o *seed.Options) { o.Entries = -2 },
		"no ISO 4217 currency":    func(o *seed.Options) { o.Currencies = []string{"XXQ"} },
		"AED twice":               func(o *seed.Options) { o.Currencies = []string{"AED", "AED"} },
		"--customers is -1":       func(o *seed.Options) { o.Customers = -1 },
		"--customers is 50000000": func(o *seed.Options) { o.Customers = 50_000_000 },
		"DATABASE_URL is not set": func(*seed.Options) {},
	} {
		o := good
		edit(&o)
		err := seed.Run(t.Context(), o)
		var coded interface{ ExitCode() int }
		if err == nil || !strings.Contains(err.Error(), want) || errors.As(err, &coded) == strings.HasPrefix(want, "DATABASE") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
