package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"dhow/internal/mariadbserver"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
	"dhow/superapp/analytics"
	"dhow/superapp/cards"
	"dhow/superapp/history"
	"dhow/superapp/service"
	"dhow/superapp/transfers"
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
	cards     *sql.DB
	// The last ids of cards, authorisations and movements.
	nextCard, nextAuthorisation, nextMovement int64
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

	// Cards: acknowledged and missing, done twice, refused and done, done otherwise.
	{"a card is lost", func(w *whole) {
		w.c("DELETE FROM cards WHERE id = ?", w.card("gone", 4).ID)
	}, map[Kind]int64{Lost: 1}, "card with key gone: there is no card"},
	{"an authorisation is lost whole", func(w *whole) {
		r := w.authorise("gone", w.ofCard(2), 4)
		w.undo(r.Transfer)
		w.c("DELETE FROM movements WHERE id = ?", w.nextMovement)
		w.c("DELETE FROM authorisations WHERE id = ?", r.ID)
	}, map[Kind]int64{Lost: 1}, "authorise with key gone: there is no movement"},
	{"a capture is lost whole", func(w *whole) {
		r := w.follow(history.Capture, w.authorise("x", w.ofCard(2), 4), 4)
		w.undo(r.Transfer)
		w.c("DELETE FROM movements WHERE id = ?", r.ID)
		w.c("UPDATE authorisations SET state = 'authorised', captured = 0 WHERE id = ?", r.Authorisation)
	}, map[Kind]int64{Lost: 1}, "capture with key x-capture: there is no movement"},
	{"a movement's posting is forgotten", func(w *whole) {
		w.follow(history.Reverse, w.authorise("x", w.ofCard(2), 4), 4)
		w.pends(w.nextMovement)
	}, map[Kind]int64{Lost: 1}, "is pending"},
	{"a card is made twice under its key", func(w *whole) {
		w.c("INSERT INTO cards SELECT id + 100, `key`, token, reverse(tag), last4, customer, account, currency, state, limit_transaction, limit_day, expires, instance, created, updated FROM cards WHERE id = 2")
	}, map[Kind]int64{Doubled: 1}, "card with key card-3: 2 cards have it"},
	{"two cards have one number", func(w *whole) {
		w.c("INSERT INTO cards SELECT id + 100, 'another', token, tag, last4, customer, account, currency, state, limit_transaction, limit_day, expires, instance, created, updated FROM cards WHERE id = 2")
	}, map[Kind]int64{Doubled: 1}, "cards 2, 102: they have one number"},
	{"a movement is made twice under its key", func(w *whole) {
		r := w.authorise("twice", w.ofCard(2), 4)
		r.Authorisation = r.ID
		w.movement("twice", r, "refund", 4)
	}, map[Kind]int64{Doubled: 1, BrokenCard: 1, Miscounted: 1}, "card movement with key twice: 2 movements have it"},
	{"two movements name one transfer", func(w *whole) {
		w.c("UPDATE movements SET transfer = (SELECT transfer FROM (SELECT transfer FROM movements WHERE id = 1) m) WHERE id = 2")
	}, map[Kind]int64{Doubled: 1, HalfMovement: 1}, "2 card movements were made with it"},
	{"a refused authorisation is done", func(w *whole) {
		w.authorise("no", w.ofCard(2), 4)
		last := &w.ops[len(w.ops)-1]
		last.Outcome, last.Version = history.Refused, 0
	}, map[Kind]int64{AppliedRefusal: 1}, "and yet it was done"},
	{"another amount was captured than was asked", func(w *whole) { w.last(history.Capture).Amount-- }, map[Kind]int64{WrongAnswer: 1}, "asked was the capture of"},
	{"another card was used than was asked", func(w *whole) { w.last(history.Authorise).Card = 9 }, map[Kind]int64{WrongAnswer: 1}, "with card 9"},
	{"another authorisation than was answered", func(w *whole) { w.last(history.Authorise).ID++ }, map[Kind]int64{WrongAnswer: 1}, "is of authorisation"},
	{"another balance than was answered by the cards", func(w *whole) { w.last(history.Authorise).Balance++ }, map[Kind]int64{WrongAnswer: 1}, "answered was a balance"},
	{"another transfer than was answered by the cards", func(w *whole) { w.last(history.Reverse).Transfer++ }, map[Kind]int64{WrongAnswer: 1}, "answered was transfer"},
	{"a card of another account than was asked", func(w *whole) { w.last(history.Card).From = 7 }, map[Kind]int64{WrongAnswer: 1}, "asked was a card of account 7"},
	{"a stored answer of the cards is lost", func(w *whole) { w.c("DELETE FROM idempotency WHERE `key` = 'part-refund'") }, map[Kind]int64{LostAnswer: 1}, "there is no stored answer"},

	// Movements of cards and their transfers.
	{"a movement's transfer is lost", func(w *whole) {
		w.authorise("x", w.ofCard(2), 4)
		w.undo(w.nextTransfer)
	}, map[Kind]int64{HalfMovement: 1}, "it is posted and no money moved"},
	{"a movement is lost", func(w *whole) {
		w.authorise("x", w.ofCard(2), 4)
		w.ops = w.ops[:len(w.ops)-1]
		w.c("DELETE FROM movements WHERE id = ?", w.nextMovement)
		w.c("DELETE FROM authorisations WHERE id = ?", w.nextAuthorisation)
	}, map[Kind]int64{HalfMovement: 1}, "there is no such movement for transfer"},
	{"a movement is posted twice, under another key", func(w *whole) { w.move("again", "r", cardsAccount, merchantsAccount, 4, "target") },
		map[Kind]int64{HalfMovement: 2}, "it moves money of the system's account for cards, and is of no card movement"},
	{"a transfer of an odd movement", func(w *whole) { w.move("card:007", "r", cardsAccount, merchantsAccount, 4, "target") },
		map[Kind]int64{HalfMovement: 3}, "(key card:007)"},
	{"a movement is posted twice under its key", func(w *whole) { w.move("card:1", "r", 2, cardsAccount, 90, "target") }, map[Kind]int64{Doubled: 1}, "transfer with key card:1: 2 transfers have it"},
	{"a declined movement moves money", func(w *whole) { w.move(fmt.Sprint("card:", w.movementOf("poor")), "r", 2, cardsAccount, 5, "source") },
		map[Kind]int64{HalfMovement: 1}, "it is declined and transfer"},
	{"a movement of another amount than its transfer", func(w *whole) {
		w.c("UPDATE movements SET amount = 61 WHERE `key` = 'open'")
		w.c("UPDATE authorisations SET amount = 61 WHERE id = ?", w.last(history.Authorise).ID)
		w.last(history.Authorise).Amount = 61
	}, map[Kind]int64{HalfMovement: 1}, "it is the authorise of 61 AED"},
	{"a movement goes to another of the system's accounts", func(w *whole) {
		r := w.authorise("x", w.ofCard(2), 4)
		w.unmove(r)
		w.move(fmt.Sprint("card:", w.nextMovement), "r", r.From, merchantsAccount, 4, "source")
		w.c("UPDATE movements SET transfer = ? WHERE id = ?", w.nextTransfer, w.nextMovement)
		w.ops = w.ops[:len(w.ops)-1]
	}, map[Kind]int64{HalfMovement: 1}, "(merchants)"},
	{"a pending movement with its transfer is right", func(w *whole) {
		w.authorise("x", w.ofCard(2), 4)
		w.ops = w.ops[:len(w.ops)-1]
		w.pends(w.nextMovement)
		w.c("UPDATE authorisations SET state = 'pending' WHERE id = ?", w.nextAuthorisation)
	}, map[Kind]int64{}, ""},
	{"a pending movement that nothing will post", func(w *whole) {
		w.authorise("x", w.ofCard(2), 4)
		w.ops = w.ops[:len(w.ops)-1]
		w.pends(w.nextMovement)
		w.c("UPDATE authorisations SET state = 'pending' WHERE id = ?", w.nextAuthorisation)
		w.c("DELETE FROM ledger_outbox")
	}, map[Kind]int64{HalfMovement: 1}, "nothing will post it"},
	{"a posted movement that will be posted again", func(w *whole) { w.c("INSERT INTO ledger_outbox (movement) VALUES (1)") }, map[Kind]int64{HalfMovement: 1}, "it is posted, and waits to be posted"},
	{"a movement in no known state", func(w *whole) {
		w.c("UPDATE movements SET state = 'odd' WHERE `key` IS NULL")
	}, map[Kind]int64{HalfMovement: 1}, "unknown state"},

	// Authorisations and their movements.
	{"an authorisation without movements", func(w *whole) {
		w.c("INSERT INTO authorisations (id, card, account, amount, currency, merchant, category, state, instance) VALUES (99, 1, 2, 5, 'AED', 'm', 'c', 'authorised', 'source')")
	}, map[Kind]int64{BrokenCard: 1}, "authorisation 99: it has no movement"},
	{"a movement without its authorisation", func(w *whole) { w.c("DELETE FROM authorisations WHERE id = 1") }, map[Kind]int64{BrokenCard: 2}, "there is no authorisation 1"},
	{"an authorisation of no card", func(w *whole) { w.c("UPDATE authorisations SET card = 77 WHERE id = 1") }, map[Kind]int64{BrokenCard: 2}, "there is no card 77"},
	{"an authorisation of another account than its card", func(w *whole) { w.c("UPDATE cards SET account = 5 WHERE id = 2"); w.last(history.Card).From = 5 }, map[Kind]int64{BrokenCard: 2}, "and card 2 of account 5"},
	{"more is captured than its movements say", func(w *whole) { w.c("UPDATE authorisations SET captured = 51 WHERE captured = 50") }, map[Kind]int64{BrokenCard: 1}, "it says that 51 were captured and 20 refunded"},
	{"more is captured than was authorised", func(w *whole) {
		w.c("UPDATE authorisations SET captured = 100 WHERE id = 1")
		w.move("card:2000", "r", cardsAccount, merchantsAccount, 10, "source")
		w.c("INSERT INTO movements (id, authorisation, card, kind, amount, currency, account, state, transfer, instance) VALUES (2000, 1, 1, 'capture', 10, 'AED', 2, 'posted', ?, 'source')", w.nextTransfer)
		w.counted("cards:9001", 2, "card", "AED", 10, time.Now())
	}, map[Kind]int64{BrokenCard: 1}, "of 90 authorised 100 were captured"},
	{"more is refunded than was captured", func(w *whole) {
		r := w.last(history.Refund)
		of := *r
		of.ID = r.Authorisation
		of.Key = "much"
		w.follow(history.Refund, of, 40)
		w.counted("cards:9001", 3, "card", "AED", -40, time.Now())
	}, map[Kind]int64{BrokenCard: 1}, "and of those 60 refunded"},
	{"the rest of a partial capture is not given back", func(w *whole) {
		w.c("DELETE FROM movements WHERE `key` IS NULL")
		w.undo(w.last(history.Capture).Transfer + 1)
	}, map[Kind]int64{BrokenCard: 1, BrokenAccount: -1}, "it is captured with 50 captured and 0 reversed of 80"},
	{"what is captured is reversed too", func(w *whole) {
		of := *w.last(history.Capture)
		of.ID, of.Key = of.Authorisation, "too much"
		w.follow(history.Reverse, of, 3)
		w.c("UPDATE authorisations SET state = 'captured' WHERE id = ?", of.Authorisation)
	}, map[Kind]int64{BrokenCard: 1}, "it is captured with"},
	{"a declined authorisation counts as open", func(w *whole) {
		w.c("UPDATE authorisations SET state = 'authorised' WHERE state = 'declined'")
	}, map[Kind]int64{BrokenCard: 1}, "it is authorised, and its first movement is declined"},

	// Spending.
	{"a capture is not counted", func(w *whole) { w.uncounted("card", 90) }, map[Kind]int64{Miscounted: 1}, "account 2, AED, "},
	{"a send is not counted", func(w *whole) { w.uncounted("send", 307) }, map[Kind]int64{Miscounted: 1}, "account 2, AED, "},
	{"a send is counted twice", func(w *whole) { w.counted("transfers:9", 2, "send", "AED", 307, time.Now()) }, map[Kind]int64{Miscounted: 1}, "614 in 2 events were counted, and 307 in 1 were spent"},
	{"a refund is not counted", func(w *whole) { w.uncounted("card", -20) }, map[Kind]int64{Miscounted: 1}, "card: 50 in 1 events were counted, and 30 in 2 were spent"},
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

// ofCard is the making of a card.
func (w *whole) ofCard(id int64) history.Record {
	w.t.Helper()
	for _, r := range w.ops {
		if r.Op == history.Card && r.ID == id {
			return r
		}
	}
	w.t.Fatalf("no card %d", id)
	return history.Record{}
}

func (w *whole) movementOf(key string) (id int64) {
	w.t.Helper()
	if err := w.cards.QueryRow("SELECT id FROM movements WHERE `key` = ?", key).Scan(&id); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// uncounted takes an event from the analytics.
func (w *whole) uncounted(kind string, amount int64) {
	w.t.Helper()
	execMariaDB(w.t, w.analytics, "DELETE FROM events WHERE kind = ? AND amount = ?", kind, amount)
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

func newWhole(t *testing.T, s *pgserver.Server, m *mariadbserver.Server, name string) *whole {
	t.Helper()
	w := &whole{world: newWorld(t, s, name)}
	for _, purpose := range []string{"cards", "merchants", "payouts", "fees"} {
		w.a("INSERT INTO accounts (customer, kind, currency, purpose) VALUES (0, 'system', 'AED', $1)", purpose)
	}
	w.urls.Transfers = pgtest.Database(t, s, name+"_t")
	t.Setenv("DATABASE_URL", w.urls.Transfers)
	if err := service.Migrate(context.Background(), transfers.Schema()); err != nil {
		t.Fatal(err)
	}
	w.transfers = dial(t, w.urls.Transfers)
	w.exec(w.transfers, loose)
	w.others = map[*pgx.Conn][]string{w.transfers: {"sends", "outbox", "idempotency"}}
	w.urls.Analytics, w.analytics = mariadb(t, m, name+"_analytics", analytics.Schema())
	w.urls.Cards, w.cards = mariadb(t, m, name+"_cards", cards.Schema())
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
	tables := mariadbTables(t, db)
	for _, table := range tables {
		execMariaDB(t, db, fmt.Sprintf("CREATE TABLE loose_%s AS SELECT * FROM %[1]s LIMIT 0", table))
	}
	execMariaDB(t, db, "SET foreign_key_checks = 0; DROP TABLE "+strings.Join(tables, ", "))
	for _, table := range tables {
		execMariaDB(t, db, fmt.Sprintf("RENAME TABLE loose_%s TO %[1]s", table))
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

func (w *whole) mariadbs() []*sql.DB { return []*sql.DB{w.analytics, w.cards} }

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
			w.counted(fmt.Sprint("transfers:", 1000+id), account, "send", "AED", r.Amount, time.Now())
			if fee > 0 {
				w.x("UPDATE sends SET fee_transfer = $2 WHERE id = $1", id, w.move(step("fee"), "r", payoutsAccount, feesAccount, fee, "source"))
			}
		case "refunded":
			w.x("UPDATE sends SET refund = $2 WHERE id = $1", id, w.move(step("refund"), "r", payoutsAccount, account, r.Amount, "source"))
		}
	}
	w.stored(w.transfers, key, status)
	w.told(r)
	return r
}

func (w *whole) c(sql string, args ...any) {
	w.t.Helper()
	execMariaDB(w.t, w.cards, sql, args...)
}

func (w *whole) storedCard(key string, status int) {
	w.t.Helper()
	w.c("INSERT INTO idempotency (`key`, request_hash, status, answer) VALUES (?, '', ?, '{}')", key, status)
}

// card makes a card of an account.
func (w *whole) card(key string, account int64) history.Record {
	w.t.Helper()
	w.nextCard++
	r := w.tick(history.Record{Op: history.Card, Key: key, From: account, Currency: "AED", Outcome: history.Acknowledged, Status: 201, ID: w.nextCard})
	w.c("INSERT INTO cards (id, `key`, token, tag, last4, customer, account, currency, state, limit_transaction, limit_day, expires, instance) VALUES (?, ?, ?, ?, '1234', 1, ?, 'AED', 'active', 1, 1, '2030-01-31', 'source')",
		r.ID, key, fmt.Sprintf("%032d", r.ID), fmt.Sprintf("%032d", r.ID), account)
	w.storedCard(key, 201)
	w.told(r)
	return r
}

// movement writes a card's movement and moves its money.
func (w *whole) movement(key any, r history.Record, kind string, amount int64) (id, transfer int64) {
	w.t.Helper()
	w.nextMovement++
	from, to := r.From, int64(cardsAccount)
	switch kind {
	case "capture":
		from, to = cardsAccount, merchantsAccount
	case "reverse":
		from, to = cardsAccount, r.From
	case "refund":
		from, to = merchantsAccount, r.From
	}
	transfer = w.move(fmt.Sprint("card:", w.nextMovement), "r", from, to, amount, "source")
	w.c("INSERT INTO movements (id, `key`, authorisation, card, kind, amount, currency, account, state, transfer, instance) VALUES (?, ?, ?, ?, ?, ?, 'AED', ?, 'posted', ?, 'source')",
		w.nextMovement, key, r.Authorisation, r.Card, kind, amount, r.From, transfer)
	return w.nextMovement, transfer
}

// authorise pays by card.
func (w *whole) authorise(key string, card history.Record, amount int64) history.Record {
	w.t.Helper()
	w.nextAuthorisation++
	r := w.tick(history.Record{Op: history.Authorise, Key: key, Card: card.ID, From: card.From, Amount: amount, Currency: "AED", Outcome: history.Acknowledged, Status: 201, ID: w.nextAuthorisation})
	w.c("INSERT INTO authorisations (id, card, account, amount, currency, merchant, category, state, instance) VALUES (?, ?, ?, ?, 'AED', 'm', 'c', 'authorised', 'source')", r.ID, r.Card, r.From, amount)
	of := r
	of.Authorisation = r.ID
	_, r.Transfer = w.movement(key, of, "authorise", amount)
	r.Version, r.Balance = w.version[r.From], w.balance[r.From]
	w.storedCard(key, 201)
	w.told(r)
	return r
}

// follow captures, reverses or refunds.
func (w *whole) follow(op history.Op, of history.Record, amount int64) history.Record {
	w.t.Helper()
	r := w.tick(history.Record{Op: op, Key: of.Key + "-" + string(op), Card: of.Card, Authorisation: of.ID, From: of.From, Amount: amount, Currency: "AED", Outcome: history.Acknowledged, Status: 200})
	r.ID, r.Transfer = w.movement(r.Key, r, string(op), amount)
	switch op {
	case history.Capture:
		w.c("UPDATE authorisations SET state = 'captured', captured = ? WHERE id = ?", amount, of.ID)
		if rest := of.Amount - amount; rest > 0 {
			w.movement(nil, r, "reverse", rest)
		}
	case history.Reverse:
		w.c("UPDATE authorisations SET state = 'reversed' WHERE id = ?", of.ID)
	case history.Refund:
		w.c("UPDATE authorisations SET refunded = refunded + ? WHERE id = ?", amount, of.ID)
	}
	w.storedCard(r.Key, 200)
	w.told(r)
	return r
}

// declined is an authorisation for which there was too little money.
func (w *whole) declined(key string, card history.Record) {
	w.t.Helper()
	r := w.authorise(key, card, 5)
	w.unmove(r)
	w.c("UPDATE authorisations SET state = 'declined' WHERE id = ?", r.ID)
	w.c("UPDATE movements SET state = 'declined', transfer = NULL WHERE id = ?", w.nextMovement)
	w.c("UPDATE idempotency SET status = 422 WHERE `key` = ?", key)
	last := &w.ops[len(w.ops)-1]
	*last = history.Record{Op: history.Authorise, Key: key, Card: card.ID, From: card.From, Amount: 5, Currency: "AED", Scheduled: r.Scheduled, Sent: r.Sent, Done: r.Done, Outcome: history.Refused, Status: 422, Code: "insufficient_funds"}
}

// unmove undoes an authorisation's transfer, so that others can follow.
func (w *whole) unmove(r history.Record) {
	w.t.Helper()
	w.undo(r.Transfer)
	for account, by := range map[int64]int64{r.From: r.Amount, cardsAccount: -r.Amount} {
		w.balance[account] += by
		w.version[account]--
	}
}

// pends leaves a movement as a service that dies does.
func (w *whole) pends(movement int64) {
	w.t.Helper()
	w.c("UPDATE movements SET state = 'pending', transfer = NULL WHERE id = ?", movement)
	w.c("INSERT INTO ledger_outbox (movement) VALUES (?)", movement)
}

func (w *whole) liveCards() {
	w.t.Helper()
	one, two := w.card("card-2", 2), w.card("card-3", 3)
	w.follow(history.Capture, w.authorise("whole", one, 90), 90)
	part := w.authorise("part", two, 80)
	w.follow(history.Capture, part, 50)
	w.follow(history.Refund, part, 20)
	w.follow(history.Reverse, w.authorise("back", one, 70), 70)
	w.authorise("open", two, 60)
	w.declined("poor", one)
	w.told(w.tick(history.Record{Op: history.Authorise, Key: "above", Card: 1, From: 2, Amount: 5, Currency: "AED", Outcome: history.Refused, Status: 422, Code: "limit_exceeded"}))
	w.storedCard("above", 422)
	w.told(w.tick(history.Record{Op: history.Authorise, Key: "unanswered", Card: 1, From: 2, Amount: 5, Currency: "AED", Outcome: history.Unknown, Status: 503}))
	// Unknown and done: the answer got lost.
	w.authorise("half heard", one, 5)
	last := &w.ops[len(w.ops)-1]
	last.Outcome, last.Status, last.ID, last.Transfer, last.Version, last.Balance = history.Unknown, 0, 0, 0, 0, 0
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

// countCards is the same of what cards paid.
func (w *whole) countCards() {
	w.t.Helper()
	rows, err := w.cards.Query("SELECT id, account, amount, kind, updated FROM movements WHERE state = 'posted' AND kind IN ('capture', 'refund')")
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, account, amount int64
		var kind string
		var at time.Time
		if err := rows.Scan(&id, &account, &amount, &kind, &at); err != nil {
			w.t.Fatal(err)
		}
		if kind == "refund" {
			amount = -amount
		}
		w.counted(fmt.Sprint("cards:", 1000+id), account, "card", "AED", amount, at)
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
	w.liveCards()
	w.count()
	w.countCards()
	w.told(w.tick(history.Record{Op: history.Quote, Key: "q", Account: 3, Amount: 5, Currency: "AED", Outcome: history.Acknowledged, Status: 201}))
}

func everyPlantedFaultOfTheWholeIsNamed(t *testing.T, s *pgserver.Server) {
	base := newWhole(t, s, mariadbtest.Start(t), "whole")
	base.liveWhole()
	base.keep()
	for variable, take := range map[string]func(*Databases) *string{
		"CARDS_URL": func(d *Databases) *string { return &d.Cards }, "TRANSFERS_URL": func(d *Databases) *string { return &d.Transfers },
	} {
		cfg := base.config()
		*take(&cfg.Serving) = ""
		_, err := Run(context.Background(), cfg)
		var coded interface{ ExitCode() int }
		if !errors.As(err, &coded) || coded.ExitCode() != 2 || !strings.Contains(err.Error(), variable) {
			t.Errorf("without %s: got %v, want a usage error", variable, err)
		}
	}
	if r := base.check(base.config()); r.Sends != 8 || r.Quotes != 8 || r.Cards != 2 || r.Authorisations != 6 || r.CardMovements != 11 || r.Events == 0 || r.SendsInMotion != 3 {
		t.Errorf("%+v", r)
	}
	for _, c := range plantedWhole {
		t.Run(c.name, func(t *testing.T) {
			w := base.again(t)
			c.plant(w)
			named(t, w.check(w.config()), c.want, c.what)
		})
	}
}
