package check

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"dhow/internal/mariadbserver"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/pgserver"
	"dhow/superapp/analytics"
	"dhow/superapp/history"
	"dhow/superapp/service"
)

// The system's accounts, behind the customers'.
const (
	cardsAccount = issuer + customers + 1 + iota
	merchantsAccount
	payoutsAccount
	feesAccount
)

// whole is the world with cards, sends and analytics.
type whole struct {
	*world
	transfers *pgx.Conn
	nextSend  int64
	analytics *sql.DB
}

// plantedWhole are all faults that can be planted in what the ledger and the
// payments alone do not have.
var plantedWhole = []struct {
	name  string
	plant func(w *whole)
	want  map[Kind]int64
	what  string // in a finding
}{
	{"nothing", func(*whole) {}, map[Kind]int64{}, ""},

	// Sends that are acknowledged and missing, or done twice, or otherwise.
	{"a send is lost", func(w *whole) {
		r := w.send("gone", 2, 10, 1, "held")
		w.x("DELETE FROM sends WHERE id = $1", r.ID)
		w.release(r.Hold)
		w.a("DELETE FROM holds WHERE id = $1", r.Hold)
	}, map[Kind]int64{Lost: 1}, "send with key gone: there is no send"},
	{"a send's row is lost", func(w *whole) {
		w.x("DELETE FROM sends WHERE id = $1", w.send("gone", 2, 10, 1, "held").ID)
	}, map[Kind]int64{Lost: 1, HalfSend: 1}, "there is no such send for hold"},
	{"a send's holding is forgotten", func(w *whole) {
		w.x("UPDATE sends SET state = 'created', hold = NULL WHERE key = 'held'")
	}, map[Kind]int64{Lost: 1}, "is created, and holds no money"},
	{"a send is made twice under its key", func(w *whole) {
		w.send("held", 2, 10, 1, "held")
		w.ops = w.ops[:len(w.ops)-1]
		w.x("UPDATE sends SET quote = 'another' WHERE id = $1", w.nextSend)
		w.x("DELETE FROM idempotency WHERE key = 'held' AND ctid <> (SELECT min(ctid) FROM idempotency WHERE key = 'held')")
	}, map[Kind]int64{Doubled: 1}, "send with key held: 2 sends have it"},
	{"a quote is used twice", func(w *whole) {
		w.send("second", 2, 10, 1, "held")
		w.x("UPDATE sends SET quote = 'quote of held' WHERE key = 'second'")
		w.last(history.Send).Quote = "quote of held"
	}, map[Kind]int64{Doubled: 1}, "quote of held: 2 sends were made at it"},
	{"a refused send is done", func(w *whole) {
		r := w.last(history.Send)
		r.Outcome, r.Status = history.Refused, 201
	}, map[Kind]int64{AppliedRefusal: 1}, "and yet it was done"},
	{"another send than was asked", func(w *whole) { w.last(history.Send).Amount++ }, map[Kind]int64{WrongAnswer: 1}, "asked were"},
	{"another quote than was asked", func(w *whole) { w.last(history.Send).Quote = "x" }, map[Kind]int64{WrongAnswer: 1}, "at quote x, and send"},
	{"another send than was answered", func(w *whole) { w.last(history.Send).ID-- }, map[Kind]int64{WrongAnswer: 1}, "answered was send"},
	{"another hold than was answered", func(w *whole) { w.last(history.Send).Hold++ }, map[Kind]int64{WrongAnswer: 1}, "answered was hold"},
	{"a send's stored answer is lost", func(w *whole) { w.x("DELETE FROM idempotency WHERE key = 'paid'") }, map[Kind]int64{LostAnswer: 1}, "there is no stored answer"},

	// Sends and their money.
	{"a send's hold is lost", func(w *whole) {
		r := w.send("h", 2, 10, 1, "held")
		w.release(r.Hold)
		w.a("DELETE FROM holds WHERE id = $1", r.Hold)
	}, map[Kind]int64{HalfSend: 1}, "the ledger has no hold of it"},
	{"a send's capture is lost", func(w *whole) {
		w.send("c", 2, 10, 0, "paid")
		w.a("UPDATE holds SET state = 'released', transfer = NULL WHERE key = $1", w.key("hold"))
		w.undo(w.nextTransfer)
	}, map[Kind]int64{HalfSend: 1}, "it is paid, and the ledger has no capture of it"},
	{"a send's fee is lost", func(w *whole) {
		w.send("f", 2, 10, 1, "paid")
		w.undo(w.nextTransfer)
	}, map[Kind]int64{HalfSend: 1}, "the ledger has no fee of it"},
	{"a send's refund is lost", func(w *whole) {
		w.send("r", 2, 10, 1, "refunded")
		w.undo(w.nextTransfer)
	}, map[Kind]int64{HalfSend: 1}, "the ledger has no refund of it"},
	{"a paid send is given back", func(w *whole) {
		w.send("p", 2, 10, 1, "paid")
		w.move(w.key("refund"), "r", payoutsAccount, 2, 11, "source")
	}, map[Kind]int64{HalfSend: 1}, "it is paid, and the ledger has its refund"},
	{"a send without a fee pays one", func(w *whole) {
		w.send("p", 2, 10, 0, "paid")
		w.move(w.key("fee"), "r", payoutsAccount, feesAccount, 1, "source")
	}, map[Kind]int64{HalfSend: 1}, "it has no fee, and transfer"},
	{"a cancelled send keeps its hold", func(w *whole) {
		w.send("k", 2, 10, 1, "held")
		w.x("UPDATE sends SET state = 'cancelled' WHERE key = 'k'")
	}, map[Kind]int64{HalfSend: 1}, "it is cancelled and its hold is held"},
	{"a declined send holds money", func(w *whole) {
		w.held("send:7:hold", 2, 307)
	}, map[Kind]int64{HalfSend: 1}, "it is declined, and the ledger has its hold"},
	{"a send's fee is larger than its fee", func(w *whole) { w.x("UPDATE sends SET fee = fee - 1 WHERE key = 'paid'") },
		map[Kind]int64{HalfSend: 1}, "its fee is of 6 AED"},
	{"a send holds for another account", func(w *whole) {
		w.x("UPDATE sends SET account = 7 WHERE key = 'held'")
		for i := range w.ops {
			if w.ops[i].Key == "held" {
				w.ops[i].From = 7
			}
		}
	}, map[Kind]int64{HalfSend: 1}, "for account 7, and row"},
	{"a send names another hold", func(w *whole) {
		w.x("UPDATE sends SET hold = 1 WHERE key = 'refunded'")
		for i := range w.ops {
			if w.ops[i].Key == "refunded" {
				w.ops[i].Hold = 1
			}
		}
	}, map[Kind]int64{HalfSend: 1}, "it names row 1 for its hold"},
	{"a send's capture goes to a customer", func(w *whole) {
		hold := w.send("c", 2, 10, 1, "held").Hold
		w.x("UPDATE sends SET state = 'submitted', capture = $1 WHERE key = 'c'", w.capture(w.key("capture"), hold, 2, 3, 11))
	}, map[Kind]int64{HalfSend: 1}, "(a customer's) to 3 (a customer's)"},
	{"a send in no known state", func(w *whole) { w.x("UPDATE sends SET state = 'odd' WHERE key = 'held'") }, map[Kind]int64{HalfSend: 1}, "unknown state"},
	{"money of no send", func(w *whole) { w.move("send:99:refund", "r", payoutsAccount, 2, 1, "source") }, map[Kind]int64{HalfSend: 1}, "send 99: there is no such send for refund"},
	{"money of an odd send", func(w *whole) { w.move("send:1:present", "r", payoutsAccount, 2, 1, "source") }, map[Kind]int64{HalfSend: 2}, "for send:1:present"},
	{"a send's money moves twice, under another key", func(w *whole) { w.move("again", "r", payoutsAccount, 2, 307, "source") },
		map[Kind]int64{HalfSend: 1}, "it moves money of the system's account for payouts, and is of no send"},

	// Spending.
	{"a payment is not counted", func(w *whole) { w.pay("p", 6, 7, 4) }, map[Kind]int64{Miscounted: 1}, "account 6, AED, "},
	{"a payment that waits to be counted is right", func(w *whole) {
		w.pay("p", 6, 7, 4)
		w.waits(6, 4, w.updated("p"))
	}, map[Kind]int64{}, ""},
	{"a payment that is counted and still in the outbox is right", func(w *whole) {
		w.pay("p", 6, 7, 4)
		w.counted(w.waits(6, 4, w.updated("p")), 6, "payment", "AED", 4, w.updated("p"))
	}, map[Kind]int64{}, ""},
	{"a payment is counted twice", func(w *whole) {
		w.pay("p", 6, 7, 4)
		w.counted("payments:90001", 6, "payment", "AED", 4, w.updated("p"))
		w.counted("payments:90002", 6, "payment", "AED", 4, w.updated("p"))
	}, map[Kind]int64{Miscounted: 1}, "were counted, and"},
	{"a payment is counted for another month", func(w *whole) {
		w.pay("p", 6, 7, 4)
		w.counted("payments:90001", 6, "payment", "AED", 4, w.updated("p").AddDate(-1, 0, 0))
	}, map[Kind]int64{Miscounted: 2}, "4 in 1 events were counted, and 0 in 0 were spent"},
	{"a payment is counted with another amount", func(w *whole) {
		w.pay("p", 6, 7, 4)
		w.counted("payments:90001", 6, "payment", "AED", 5, w.updated("p"))
	}, map[Kind]int64{Miscounted: 1}, "were spent"},
	{"what nobody spent waits to be counted", func(w *whole) { w.waits(99, 4, time.Now()) }, map[Kind]int64{Miscounted: 1}, "account 99, AED"},
}

// updated is when a payment was completed.
func (w *whole) updated(key string) (at time.Time) {
	w.t.Helper()
	if err := w.payments.QueryRow(context.Background(), "SELECT updated FROM payments WHERE key = $1", key).Scan(&at); err != nil {
		w.t.Fatal(err)
	}
	return at
}

// key is that of a step of the last send.
func (w *whole) key(step string) string { return fmt.Sprintf("send:%d:%s", w.nextSend, step) }

const temporarySends = `CREATE TABLE sends (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL UNIQUE, quote text NOT NULL UNIQUE, account bigint NOT NULL, country text NOT NULL,
	send_amount bigint NOT NULL, fee bigint NOT NULL, total bigint NOT NULL, currency char(3) NOT NULL, receive_amount bigint NOT NULL, receive_currency char(3) NOT NULL, rate text NOT NULL,
	provider text NOT NULL, beneficiary jsonb NOT NULL, state text NOT NULL, hold bigint, capture bigint, refund bigint, instance text NOT NULL, created timestamptz NOT NULL DEFAULT clock_timestamp(), updated timestamptz NOT NULL DEFAULT clock_timestamp());
	CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event jsonb NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()); CREATE TABLE idempotency (key text PRIMARY KEY, request_hash bytea NOT NULL, status int NOT NULL, answer jsonb NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())`

func newWhole(t *testing.T, s *pgserver.Server, m *mariadbserver.Server, name string) *whole {
	t.Helper()
	w := &whole{world: newWorld(t, s, name)}
	for _, purpose := range []string{"cards", "merchants", "payouts", "fees"} {
		w.a("INSERT INTO accounts (customer, kind, currency, purpose) VALUES (0, 'system', 'AED', $1)", purpose)
	}
	if err := s.CreateDatabase(context.Background(), name+"_t"); err != nil {
		t.Fatal(err)
	}
	w.urls.Transfers = s.URL(name + "_t")
	w.transfers = dial(t, w.urls.Transfers)
	w.exec(w.transfers, temporarySends)
	w.exec(w.transfers, loose)
	w.others = map[*pgx.Conn][]string{w.transfers: {"sends", "outbox", "idempotency"}}
	w.urls.Analytics, w.analytics = mariadb(t, m, name+"_analytics", analytics.Schema())
	return w
}

// mariadb makes a database without constraints.
func mariadb(t *testing.T, m *mariadbserver.Server, name string, schema service.Schema) (string, *sql.DB) {
	t.Helper()
	url := mariadbtest.Database(t, m, name)
	t.Setenv("MARIADB_URL", url)
	if err := service.MigrateMariaDB(context.Background(), schema); err != nil {
		t.Fatal(err)
	}
	cfg, err := service.MariaDBConfig(url, "MARIADB_URL")
	if err != nil {
		t.Fatal(err)
	}
	cfg.MultiStatements = true
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	for _, table := range mariadbTables(t, db) {
		execMariaDB(t, db, fmt.Sprintf("SET foreign_key_checks = 0; CREATE TABLE loose_copy AS SELECT * FROM %s LIMIT 0; DROP TABLE %[1]s; RENAME TABLE loose_copy TO %[1]s", table))
	}
	return url, db
}

func mariadbTables(t *testing.T, db *sql.DB) []string {
	t.Helper()
	rows, err := db.Query("SELECT table_name FROM information_schema.tables WHERE table_schema = database() AND table_name NOT LIKE 'kept%'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func execMariaDB(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatalf("%v: %s", err, statement)
	}
}

// keep remembers what all databases hold, for again.
func (w *whole) keep() {
	w.world.keep()
	for _, db := range w.mariadbs() {
		for _, table := range mariadbTables(w.t, db) {
			execMariaDB(w.t, db, fmt.Sprintf("CREATE TABLE kept_%s AS SELECT * FROM %[1]s", table))
		}
	}
}

func (w *whole) mariadbs() []*sql.DB { return []*sql.DB{w.analytics} }

// again is the whole world as it was kept.
func (w *whole) again(t *testing.T) *whole {
	c := *w
	c.world = w.world.again(t)
	for _, db := range w.mariadbs() {
		for _, table := range mariadbTables(t, db) {
			execMariaDB(t, db, fmt.Sprintf("DELETE FROM %s; INSERT INTO %[1]s SELECT * FROM kept_%[1]s", table))
		}
	}
	return &c
}

func (w *whole) x(sql string, args ...any) { w.t.Helper(); w.exec(w.transfers, sql, args...) }

// send sends abroad, until the money stands as a state says.
func (w *whole) send(key string, account, amount, fee int64, state string) history.Record {
	w.t.Helper()
	w.nextSend++
	id := w.nextSend
	r := w.tick(history.Record{Op: history.Send, Key: key, From: account, Amount: amount + fee, Currency: "AED", Quote: "quote of " + key, Outcome: history.Acknowledged, Status: 201, ID: id})
	w.x(`INSERT INTO sends (key, quote, account, country, send_amount, fee, total, currency, receive_amount, receive_currency, rate, provider, beneficiary, state, instance)
		VALUES ($1, $2, $3, 'JO', $4, $5, $6, 'AED', 1, 'JOD', '0.19', 'p', '{}', $7, 'source')`, key, r.Quote, account, amount, fee, r.Amount, state)
	step := func(name string) string { return fmt.Sprintf("send:%d:%s", id, name) }
	status := 201
	if state == "declined" {
		r.Outcome, r.Status, r.Code, r.ID, status = history.Refused, 422, "insufficient_funds", 0, 422
	} else {
		r.Hold = w.held(step("hold"), account, r.Amount)
		w.x("UPDATE sends SET hold = $2 WHERE id = $1", id, r.Hold)
		switch state {
		case "held":
		case "cancelled":
			w.release(r.Hold)
		default:
			w.x("UPDATE sends SET capture = $2 WHERE id = $1", id, w.capture(step("capture"), r.Hold, account, payoutsAccount, r.Amount))
		}
		switch state {
		case "paid":
			if fee > 0 {
				w.move(step("fee"), "r", payoutsAccount, feesAccount, fee, "source")
			}
		case "refunded":
			w.x("UPDATE sends SET refund = $2 WHERE id = $1", id, w.move(step("refund"), "r", payoutsAccount, account, r.Amount, "source"))
		}
	}
	w.stored(w.transfers, key, status)
	w.told(r)
	return r
}

// count tells the analytics of what was spent, but for what waits in the outboxes.
func (w *whole) count() {
	w.t.Helper()
	n := 0
	rows, err := w.payments.Query(context.Background(), "SELECT payer, currency, amount, updated FROM payments WHERE state = 'completed' ORDER BY id")
	if err != nil {
		w.t.Fatal(err)
	}
	var account, amount int64
	var currency string
	var at time.Time
	if _, err := pgx.ForEachRow(rows, []any{&account, &currency, &amount, &at}, func() error {
		n++
		w.counted(fmt.Sprint("payments:", 1000+n), account, "payment", currency, amount, at)
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *whole) counted(id string, account int64, kind, currency string, amount int64, at time.Time) {
	w.t.Helper()
	execMariaDB(w.t, w.analytics, "INSERT INTO events (id, account, kind, category, merchant, currency, amount, at) VALUES (?, ?, ?, 'c', 'm', ?, ?, ?)", id, account, kind, currency, amount, at.UTC())
}

// waits puts an event into the outbox of the payments, and tells its id.
func (w *whole) waits(account, amount int64, at time.Time) (id string) {
	w.t.Helper()
	var n int64
	if err := w.payments.QueryRow(context.Background(), `INSERT INTO outbox (event) VALUES (jsonb_build_object('account', $1::bigint, 'kind', 'payment', 'category', 'friends', 'merchant', '',
		'currency', 'AED', 'amount', $2::bigint, 'at', $3::timestamptz)) RETURNING id`, account, amount, at).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprint("payments:", n)
}

// liveWhole lets the whole application live for a while.
func (w *whole) liveWhole() {
	w.t.Helper()
	w.live(2)
	w.send("paid", 2, 300, 7, "paid")
	w.send("free", 3, 300, 0, "paid")
	w.send("refunded", 4, 300, 7, "refunded")
	w.send("cancelled", 5, 300, 7, "cancelled")
	w.send("held", 6, 300, 7, "held")
	w.send("on its way", 7, 300, 7, "submitted")
	w.send("declined", 2, 300, 7, "declined")
	w.send("failed", 3, 300, 7, "failed")
	w.told(w.tick(history.Record{Op: history.Send, Key: "no answer", From: 3, Amount: 5, Currency: "AED", Quote: "q", Outcome: history.Unknown, Status: 503}))
	w.count()
	w.told(w.tick(history.Record{Op: history.Quote, Key: "q", Account: 3, Amount: 5, Currency: "AED", Outcome: history.Acknowledged, Status: 201}))
}

func everyPlantedFaultOfTheWholeIsNamed(t *testing.T, s *pgserver.Server) {
	base := newWhole(t, s, mariadbtest.Start(t), "whole")
	base.liveWhole()
	base.keep()
	for _, c := range plantedWhole {
		t.Run(c.name, func(t *testing.T) {
			w := base.again(t)
			c.plant(w)
			named(t, w.check(w.config()), c.want, c.what)
		})
	}
}
