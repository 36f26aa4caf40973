package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
	"dhow/superapp/history"
)

// last is the last operation of a kind that was acknowledged.
func (w *world) last(op history.Op) *history.Record {
	for i := len(w.ops) - 1; i >= 0; i-- {
		if r := &w.ops[i]; r.Op == op && r.Outcome == history.Acknowledged && !r.Replayed {
			return r
		}
	}
	w.t.Fatalf("no %s", op)
	return nil
}

// undo takes a transfer from the ledger as if it had never been: of both accounts, the last.
func (w *world) undo(id int64) {
	w.t.Helper()
	w.a("UPDATE accounts a SET balance = a.balance - e.amount, version = a.version - 1 FROM entries e WHERE e.transfer = $1 AND a.id = e.account", id)
	w.a("DELETE FROM entries WHERE transfer = $1", id)
	w.a("DELETE FROM transfers WHERE id = $1", id)
}

// planted are all faults that can be planted: each is found, by its name, and
// nothing else is.
var planted = []struct {
	name  string
	plant func(w *world)
	want  map[Kind]int64
	what  string // in a finding
}{
	{"nothing", func(*world) {}, map[Kind]int64{}, ""},

	// Acknowledged and missing.
	{"a transfer is lost", func(w *world) {
		r := w.transfer("gone", 6, 7, 4)
		w.undo(r.ID)
	}, map[Kind]int64{Lost: 1}, "lost_write transfer with key gone: there is no transfer"},
	{"a transfer is lost, its stored answer too", func(w *world) {
		r := w.transfer("gone", 6, 7, 4)
		w.undo(r.ID)
		w.a("DELETE FROM idempotency WHERE key = 'gone'")
	}, map[Kind]int64{Lost: 1}, "there is no transfer"},
	{"a payment is lost whole", func(w *world) {
		r := w.pay("gone", 6, 7, 4)
		w.undo(r.Transfer)
		w.p("DELETE FROM payments WHERE id = $1", r.ID)
	}, map[Kind]int64{Lost: 1}, "there is no payment, and no money moved"},
	{"a payment's transfer is lost", func(w *world) {
		r := w.pay("gone", 6, 7, 4)
		w.undo(r.Transfer)
	}, map[Kind]int64{Lost: 1, HalfPayment: 1}, "is completed and no money moved"},
	{"a payment's row is lost", func(w *world) {
		r := w.pay("gone", 6, 7, 4)
		w.p("DELETE FROM payments WHERE id = $1", r.ID)
	}, map[Kind]int64{Lost: 1, HalfPayment: 1}, "there is no payment for transfer"},
	{"a payment's completion is lost", func(w *world) {
		r := w.pay("half", 6, 7, 4)
		w.p("UPDATE payments SET state = 'pending', transfer = NULL WHERE id = $1", r.ID)
	}, map[Kind]int64{Lost: 1}, "is pending, though transfer"},
	{"a request is lost", func(w *world) {
		w.told(w.tick(history.Record{Op: history.Request, Key: "gone", From: 2, To: 3, Amount: 5, Currency: "AED", Outcome: history.Acknowledged, Status: 201, ID: 99}))
	}, map[Kind]int64{Lost: 1}, "there is no request"},
	{"an acceptance is lost", func(w *world) {
		w.p("UPDATE requests SET state = 'open', payment = NULL WHERE id = $1", w.last(history.Accept).Request)
	}, map[Kind]int64{Lost: 1}, "is open and not by payment"},
	{"the last seconds are lost", func(w *world) {
		for i := range 3 {
			r := w.transfer(fmt.Sprint("tail", i), 2, 3, 1)
			defer w.undo(r.ID)
		}
	}, map[Kind]int64{Lost: 3}, "transfer with key tail2"},

	// Done twice.
	{"a transfer is done twice under its key", func(w *world) {
		r := w.transfer("twice", 6, 7, 4)
		w.move("twice", "r", r.From, r.To, r.Amount, "target")
	}, map[Kind]int64{Doubled: 1}, "transfer with key twice: 2 transfers have it"},
	{"a payment moves its money twice, under another key", func(w *world) {
		r := w.pay("twice", 6, 7, 4)
		w.move("again", fmt.Sprint("payment ", r.ID), r.From, r.To, r.Amount, "target")
	}, map[Kind]int64{Doubled: 1}, "2 transfers with different keys moved it"},
	{"a payment is made twice under its key", func(w *world) {
		w.pay("twice", 6, 7, 4)
		w.p("INSERT INTO payments (key, payer, payee, amount, currency, note, state, instance) VALUES ('twice', 6, 7, 4, 'AED', '', 'pending', 'target')")
	}, map[Kind]int64{Doubled: 1}, "payment with key twice: 2 payments have it"},
	{"a request is made twice under its key", func(w *world) {
		w.p("INSERT INTO requests (key, payee, payer, amount, currency, note, state, instance) SELECT key, payee, payer, amount, currency, note, 'open', instance FROM requests WHERE id = 1")
	}, map[Kind]int64{Doubled: 1}, "2 requests have it"},
	{"two payments name one transfer", func(w *world) {
		r := w.pay("one", 6, 7, 4)
		w.p("INSERT INTO payments (key, payer, payee, amount, currency, note, state, transfer, instance) VALUES ('other', 6, 7, 4, 'AED', '', 'completed', $1, 'target')", r.Transfer)
	}, map[Kind]int64{Doubled: 1, HalfPayment: 1}, "2 payments were made with it"},
	{"an unknown one is done twice", func(w *world) {
		w.told(w.tick(history.Record{Op: history.Transfer, Key: "u", From: 2, To: 3, Amount: 5, Currency: "AED", Outcome: history.Unknown}))
		w.move("u", "r", 2, 3, 5, "source")
		w.move("u", "r", 2, 3, 5, "target")
	}, map[Kind]int64{Doubled: 1}, "transfer with key u"},

	// Not to be done, and done.
	{"a refused transfer is done", func(w *world) {
		w.not(history.Transfer, "no", history.Refused, 422)
		w.move("no", "r", 2, 3, 5, "source")
	}, map[Kind]int64{AppliedRefusal: 1}, `its outcome is "refused" (status 422) and yet it was done`},
	{"a declined payment moves money", func(w *world) {
		w.move("payment:refused", "payment 0", 2, 3, 5, "source")
	}, map[Kind]int64{AppliedRefusal: 1, HalfPayment: 1}, "is declined and transfer"},
	{"a failed one is done", func(w *world) { w.move("failed", "r", 2, 3, 5, "source") }, map[Kind]int64{AppliedRefusal: 1}, `"failed" (status 404)`},
	{"one that was never sent is done", func(w *world) { w.paid("late", 2, 3, 5) }, map[Kind]int64{AppliedRefusal: 1}, `"late"`},

	// Done otherwise.
	{"another amount moved than was asked", func(w *world) { w.last(history.Transfer).Amount++ }, map[Kind]int64{WrongAnswer: 1}, "asked were"},
	{"an unknown one was done with other parties", func(w *world) {
		w.told(w.tick(history.Record{Op: history.Transfer, Key: "u", From: 2, To: 4, Amount: 5, Currency: "AED", Outcome: history.Unknown}))
		w.move("u", "r", 2, 3, 5, "source")
	}, map[Kind]int64{WrongAnswer: 1}, "asked were 5 AED from 2 to 4"},
	{"another request than was asked", func(w *world) { w.last(history.Request).To = 99 }, map[Kind]int64{WrongAnswer: 1}, "request"},
	{"done again later: another version than was answered", func(w *world) {
		r := w.transfer("redone", 6, 7, 4)
		w.undo(r.ID)
		w.balance[6] += 4
		w.balance[7] -= 4
		w.version[6]--
		w.version[7]--
		w.transfer("between", 6, 7, 3)
		w.move("redone", "r", 6, 7, 4, "target")
	}, map[Kind]int64{WrongAnswer: 1, StaleWrite: 2}, "answered was transfer"},
	{"another balance than was answered", func(w *world) { w.last(history.Pay).Balance++ }, map[Kind]int64{WrongAnswer: 1}, "answered was a balance"},
	{"another payment than was answered", func(w *world) { w.last(history.Pay).ID++ }, map[Kind]int64{WrongAnswer: 1}, "answered was payment"},
	{"a stored answer is lost", func(w *world) {
		w.a("DELETE FROM idempotency WHERE key = $1", w.last(history.Transfer).Key)
		w.p("DELETE FROM idempotency WHERE key = $1", w.last(history.Accept).Key)
	}, map[Kind]int64{LostAnswer: 2}, "there is no stored answer"},
	{"a stored answer is not the one that was given", func(w *world) {
		w.p("UPDATE idempotency SET status = 102 WHERE key = $1", w.last(history.Pay).Key)
	}, map[Kind]int64{LostAnswer: 1}, "has status 102"},

	// Money.
	{"an entry is lost", func(w *world) {
		w.a("DELETE FROM entries WHERE transfer = $1 AND amount > 0", w.transfer("x", 6, 7, 4).ID)
	}, map[Kind]int64{CreatedMoney: 1, Unbalanced: 1, BrokenAccount: 1}, "it has 1 entries, not 2"},
	{"an entry is larger", func(w *world) {
		w.a("UPDATE entries SET amount = amount + 1 WHERE transfer = $1 AND amount > 0", w.transfer("x", 6, 7, 4).ID)
	}, map[Kind]int64{CreatedMoney: 1, Unbalanced: 1, BrokenAccount: 2}, "its entries sum to 1"},
	{"both entries are larger than the transfer", func(w *world) {
		id := w.transfer("x", 6, 7, 4).ID
		w.a("UPDATE entries SET amount = amount * 2, balance = balance + amount WHERE transfer = $1", id)
		w.a("UPDATE accounts a SET balance = e.balance FROM entries e WHERE e.transfer = $1 AND e.account = a.id", id)
	}, map[Kind]int64{Unbalanced: 1, WrongAnswer: 1}, "the larger is 8, for an amount of 4"},
	{"a transfer has no entries", func(w *world) {
		w.a("INSERT INTO transfers (key, reference, currency, amount, instance) VALUES ('bare', '', 'AED', 1, 'source')")
	}, map[Kind]int64{Unbalanced: 1}, "it has 0 entries"},
	{"a transfer is lost and its entries are not", func(w *world) {
		w.a("DELETE FROM transfers WHERE id = $1", w.move("orphan", "r", 6, 7, 4, "source"))
	}, map[Kind]int64{Unbalanced: 1}, "there are 2 entries of it and no transfer"},
	{"a transfer between currencies", func(w *world) {
		w.a("UPDATE accounts SET currency = 'USD' WHERE id = 7")
	}, map[Kind]int64{Unbalanced: -1, CreatedMoney: 4}, "an account of it is in another currency"},
	{"a balance is raised", func(w *world) { w.a("UPDATE accounts SET balance = balance + 1 WHERE id = 5") }, map[Kind]int64{CreatedMoney: 1, BrokenAccount: 1}, "its balance is"},
	{"money goes from one balance to another", func(w *world) {
		w.a("UPDATE accounts SET balance = balance + CASE id WHEN 5 THEN 1 ELSE -1 END WHERE id IN (5, 6)")
	}, map[Kind]int64{BrokenAccount: 2}, "account 6: its balance is"},
	{"a version is left out", func(w *world) {
		w.a("UPDATE entries SET version = version + 1 WHERE account = 6 AND version = $1", w.version[6])
		w.a("UPDATE accounts SET version = version + 1 WHERE id = 6")
		w.ops = w.ops[:0]
	}, map[Kind]int64{BrokenAccount: 2}, "follows version"},
	{"a version is there twice", func(w *world) {
		w.a("UPDATE entries SET version = version - 1 WHERE account = 6 AND version = $1", w.version[6])
		w.ops = w.ops[:0]
	}, map[Kind]int64{BrokenAccount: -1}, "version"},
	{"an account is lost and its entries are not", func(w *world) { w.a("DELETE FROM accounts WHERE id = 6") },
		map[Kind]int64{BrokenAccount: 1, CreatedMoney: 3, Unbalanced: -1}, "and does not exist"},
	{"a customer is overdrawn", func(w *world) { w.move("too much", "r", 6, 7, 1_000_000, "source") }, map[Kind]int64{Overdrawn: 1}, "is or was at -"},

	// Holds.
	{"an account holds more than its holds", func(w *world) { w.a("UPDATE accounts SET held = held + 1 WHERE id = 3") }, map[Kind]int64{BrokenHold: 1}, "account 3: it holds 41 and its open holds sum to 40"},
	{"an open hold is lost", func(w *world) { w.a("DELETE FROM holds WHERE key = 'kept'") }, map[Kind]int64{BrokenHold: 1}, "sum to 0"},
	{"an open hold of no account", func(w *world) { w.a("UPDATE holds SET account = 99 WHERE key = 'kept'") }, map[Kind]int64{BrokenHold: 2}, "account 99: it holds 0"},
	{"more is held than is there", func(w *world) { w.held("too much", 6, 1_000_000) }, map[Kind]int64{Overdrawn: 1}, "of which 1000000 are held"},
	{"a hold is made twice", func(w *world) { w.held("kept", 4, 1) }, map[Kind]int64{Doubled: 1}, "hold with key kept: 2 holds have it"},
	{"two holds are captured with one transfer", func(w *world) {
		w.release(w.held("other", 3, 60))
		w.a("UPDATE holds SET state = 'captured', transfer = (SELECT transfer FROM holds WHERE key = 'moved') WHERE key = 'other'")
	}, map[Kind]int64{Doubled: 1}, "2 holds were captured with it"},
	{"a captured hold's transfer is lost", func(w *world) { w.a("UPDATE holds SET transfer = 99999 WHERE key = 'moved'") }, map[Kind]int64{BrokenHold: 1}, "its transfer is not there"},
	{"a captured hold names no transfer", func(w *world) { w.a("UPDATE holds SET transfer = NULL WHERE key = 'moved'") }, map[Kind]int64{BrokenHold: 1}, "its transfer is not there"},
	{"a released hold names a transfer", func(w *world) { w.a("UPDATE holds SET transfer = 1 WHERE key = 'let go'") }, map[Kind]int64{BrokenHold: 1}, "it is released and yet names transfer 1"},
	{"more was captured than was held", func(w *world) { w.a("UPDATE holds SET amount = 54 WHERE key = 'moved'") }, map[Kind]int64{BrokenHold: 1}, "it held 54 AED of account 3, and transfer"},
	{"another account's money was captured", func(w *world) { w.a("UPDATE holds SET account = 4 WHERE key = 'moved'") }, map[Kind]int64{BrokenHold: 1}, "of account 4, and transfer"},
	{"a hold in no known state", func(w *world) { w.a("UPDATE holds SET state = 'odd' WHERE key = 'let go'") }, map[Kind]int64{BrokenHold: 1}, "unknown state"},

	// Splits.
	{"a split is lost", func(w *world) {
		r := w.split("gone", 6, []int64{7, 2}, 9)
		w.p("DELETE FROM splits WHERE id = $1", r.ID)
	}, map[Kind]int64{Lost: 1, BrokenSplit: 1}, "there are 2 shares of it and no split"},
	{"a split is lost with its shares", func(w *world) {
		w.told(w.tick(history.Record{Op: history.Split, Key: "gone", To: 3, Shares: 1, Amount: 5, Currency: "AED", Outcome: history.Acknowledged, Status: 201, ID: 99}))
	}, map[Kind]int64{Lost: 1}, "split with key gone: there is no split"},
	{"a split is made twice under its key", func(w *world) {
		w.p("INSERT INTO splits (key, payee, total, payee_share, currency, note, instance) SELECT key, payee, total, payee_share, currency, note, instance FROM splits")
	}, map[Kind]int64{Doubled: 1, BrokenSplit: 1}, "2 splits have it"},
	{"a share is lost", func(w *world) { w.p("DELETE FROM requests WHERE split IS NOT NULL AND payer = 4") },
		map[Kind]int64{BrokenSplit: 1, WrongAnswer: 1, Lost: 1}, "the payee's own is 25, for a total of 101"},
	{"a split's total is raised", func(w *world) { w.p("UPDATE splits SET total = total + 1"); w.last(history.Split).Amount++ }, map[Kind]int64{BrokenSplit: 1}, "for a total of 102"},
	{"a split is unfair", func(w *world) {
		w.p("UPDATE splits SET payee_share = payee_share - 1, total = total - 1")
		w.last(history.Split).Amount--
	}, map[Kind]int64{BrokenSplit: 1}, "its shares go from 24 to 26"},
	{"a share is asked by another", func(w *world) {
		w.p("UPDATE splits SET payee = 6")
		w.last(history.Split).To = 6
	}, map[Kind]int64{BrokenSplit: 1}, "3 shares of it are asked by another account"},
	{"another split than was asked", func(w *world) { w.last(history.Split).Shares++ }, map[Kind]int64{WrongAnswer: 1}, "by 4 others"},
	{"another split than was answered", func(w *world) { w.last(history.Split).ID++ }, map[Kind]int64{WrongAnswer: 1}, "it is split"},

	// Payments and transfers.
	{"a transfer without its payment", func(w *world) { w.move("payment:nobody", "r", 6, 7, 4, "source") }, map[Kind]int64{HalfPayment: 1}, "payment with key nobody: there is no payment for transfer"},
	{"a payment names another transfer", func(w *world) {
		w.p("UPDATE payments SET transfer = 1 WHERE id = $1", w.last(history.Pay).ID)
	}, map[Kind]int64{HalfPayment: 1}, "names another transfer"},
	{"a payment of another amount than its transfer", func(w *world) {
		w.p("UPDATE payments SET amount = amount + 1 WHERE id = $1", w.last(history.Pay).ID)
	}, map[Kind]int64{HalfPayment: 1}, "and transfer"},
	{"a payment in no known state", func(w *world) { w.p("UPDATE payments SET state = 'odd' WHERE key = 'unknown-done'") }, map[Kind]int64{HalfPayment: 1}, `unknown state, "odd"`},
	{"a pending payment with the wrong transfer", func(w *world) {
		w.p("INSERT INTO payments (key, payer, payee, amount, currency, note, state, instance) VALUES ('pend', 2, 3, 5, 'AED', '', 'pending', 'source')")
		w.move("payment:pend", "r", 2, 3, 6, "source")
	}, map[Kind]int64{HalfPayment: 1}, "is of 5 AED from 2 to 3, and transfer"},
	{"pending payments with and without a transfer are right", func(w *world) {
		w.p("INSERT INTO payments (key, payer, payee, amount, currency, note, state, instance) VALUES ('pend', 2, 3, 5, 'AED', '', 'pending', 'source'), ('pend2', 2, 3, 5, 'AED', '', 'pending', 'source')")
		w.move("payment:pend", "r", 2, 3, 5, "source")
	}, map[Kind]int64{}, ""},

	// Reads.
	{"a read goes back in time", func(w *world) {
		w.transfer("x", 6, 7, 4)
		r := w.tick(history.Record{Op: history.Read, Account: 6, Outcome: history.Acknowledged, Version: w.version[6] - 1})
		r.Balance = w.balance[6] + 4
		w.told(r)
	}, map[Kind]int64{StaleRead: 1}, "was seen"},
	{"a statement goes back in time for the payee", func(w *world) {
		w.transfer("x", 6, 7, 4)
		r := w.tick(history.Record{Op: history.Statement, Account: 7, Outcome: history.Acknowledged, Version: w.version[7] - 1, Client: 9})
		r.Balance = w.balance[7] - 4
		w.told(r)
	}, map[Kind]int64{StaleRead: 1}, "account 7"},
	{"reads that overlap may differ", func(w *world) {
		w.transfer("x", 6, 7, 4)
		r := w.ops[len(w.ops)-1]
		w.told(history.Record{Op: history.Read, Account: 6, Outcome: history.Acknowledged, Scheduled: r.Sent, Sent: r.Done, Done: r.Done + 10, Version: r.Version - 1, Balance: r.Balance + 4})
	}, map[Kind]int64{}, ""},
	{"a read shows a balance that never was", func(w *world) {
		w.read(history.Read, 6)
		w.ops[len(w.ops)-1].Balance++
	}, map[Kind]int64{ImpossibleRead: 1}, "it showed a balance of"},
	{"a read shows a version that never was", func(w *world) {
		w.read(history.Read, 6)
		w.ops[len(w.ops)-1].Version++
	}, map[Kind]int64{ImpossibleRead: 1}, "which the account does not have"},
	{"an account without entries shows money", func(w *world) {
		w.told(w.tick(history.Record{Op: history.Read, Account: 4242, Outcome: history.Acknowledged, Balance: 3}))
	}, map[Kind]int64{ImpossibleRead: 1}, "before the first entry"},
	{"a write builds upon an old state", func(w *world) {
		r := w.transfer("x", 6, 7, 4)
		later := w.tick(r)
		later.Key = "y"
		w.told(later)
	}, map[Kind]int64{StaleWrite: 2, Lost: 1, LostAnswer: 0}, "it made version"},
}

// Starting a server takes longer than most tests on it.
func TestOnOneServer(t *testing.T) {
	s := pgtest.Start(t, 15)
	templates(t, s)
	for name, test := range map[string]func(*testing.T, *pgserver.Server){
		"every planted fault is named": everyPlantedFaultIsNamed, "settle waits": settleWaitsForPendingPayments, "can not look": canNotLook,
		"every planted fault of the whole is named": everyPlantedFaultOfTheWholeIsNamed,
		"command": command, "both sides": checkWithBothSides,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func everyPlantedFaultIsNamed(t *testing.T, s *pgserver.Server) {
	base := newWorld(t, s, "planted")
	base.live(3)
	base.keep()
	for _, c := range planted {
		t.Run(c.name, func(t *testing.T) {
			w := base.again(t)
			c.plant(w)
			r := w.check(w.config())
			named(t, r, c.want, c.what)
			if wrong := c.want[CreatedMoney]+c.want[Unbalanced]+c.want[BrokenAccount] > 0; r.MoneyConserved == wrong {
				t.Errorf("money conserved: %v", r.MoneyConserved)
			}
		})
	}
}

// named says whether a report has the faults that are wanted, and a finding that says what.
func named(t *testing.T, r *Report, want map[Kind]int64, what string) {
	t.Helper()
	got := r.found()
	for kind, n := range want {
		if n < 0 && got[kind] > 0 { // any number
			want[kind] = got[kind]
		}
		if n == 0 {
			delete(want, kind)
		}
	}
	expect(t, r, want)
	var all strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&all, "%s %s: %s\n", f.Kind, f.Of, f.What)
	}
	if !strings.Contains(all.String(), what) {
		t.Errorf("no finding says %q:\n%s", what, &all)
	}
}

func TestCleanReportCountsEverything(t *testing.T) {
	s := pgtest.Start(t, 17)
	templates(t, s)
	w := newWorld(t, s, "clean")
	w.live(4)
	cfg := w.config()
	appendToFile(t, cfg.Histories[0], `{"op":"pay","key":"to`)
	r := w.check(cfg)
	expect(t, r, map[Kind]int64{})
	var entries int64
	for _, v := range w.version {
		entries += v
	}
	if r.Operations != int64(len(w.ops)) || r.AcknowledgedWrites != 4*4+2+4 || r.UnknownApplied != 1 || r.UnknownNotApplied != 3 || r.ReplayedAnswers != 1 || r.TornHistories != 1 ||
		r.Outcomes[history.Late] != 1 || r.Entries != entries || r.Transfers != entries/2 || r.Accounts != customers+1 || r.Payments != 4*2+2+3 || r.Splits != 1 || r.Requests != 4+3 || r.Holds != 3 || !r.MoneyConserved || r.Audited {
		t.Errorf("%+v", r)
	}
	var text, again bytes.Buffer
	if err := r.Print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"acknowledged writes that are missing", "nothing is wrong", "histories that end in half a line"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if err := json.NewEncoder(&again).Encode(r); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"lost_writes", "doubled_writes", "money_conserved", "stale_reads", "both_sides_wrote", "acknowledged_writes", "unknown_applied", "pending_payments", "findings"} {
		if !strings.Contains(again.String(), `"`+field+`":`) {
			t.Errorf("no field %s in %s", field, &again)
		}
	}
}

func TestFaultsAreCountedAndTheFirstListed(t *testing.T) {
	s := pgtest.Start(t, 13)
	templates(t, s)
	w := newWorld(t, s, "many")
	for i := range 30 {
		r := w.transfer(fmt.Sprint("gone", i), 6, 7, 1)
		defer func() { _ = r }()
		w.a("INSERT INTO transfers (key, reference, currency, amount, instance) VALUES ($1, '', 'AED', 1, 'source')", fmt.Sprint("bare", i))
	}
	w.a("DELETE FROM transfers WHERE key LIKE 'gone%'")
	w.a("DELETE FROM entries WHERE transfer > $1", customers)
	cfg := w.config()
	cfg.Most = 4
	r := w.check(cfg)
	if r.LostWrites != 30 || r.UnbalancedTransfers != 30 || r.Faults() < 60 {
		t.Errorf("%v", r.found())
	}
	listed := map[Kind]int{}
	for _, f := range r.Findings {
		listed[f.Kind]++
	}
	if listed[Lost] != 4 || listed[Unbalanced] != 4 {
		t.Errorf("listed %v", listed)
	}
	var text bytes.Buffer
	if err := r.Print(&text); err != nil || !strings.Contains(text.String(), "30  WRONG") || !strings.Contains(text.String(), " faults (") {
		t.Errorf("%v\n%s", err, &text)
	}
}

func settleWaitsForPendingPayments(t *testing.T, s *pgserver.Server) {
	w := newWorld(t, s, "settle")
	r := w.pay("slow", 6, 7, 4)
	w.p("UPDATE payments SET state = 'pending', transfer = NULL WHERE id = $1", r.ID)
	cfg := w.config()
	cfg.Settle = 30 * time.Second
	settled := make(chan error, 1)
	waiting := make(chan struct{})
	cfg.Progress = func(text string) {
		if strings.HasPrefix(text, "waiting") {
			close(waiting)
		}
	}
	other := dial(t, w.urls.Payments)
	go func() {
		<-waiting
		time.Sleep(2 * settlePoll) // so that the check has to wait
		_, err := other.Exec(context.Background(), "UPDATE payments SET state = 'completed', transfer = $2 WHERE id = $1", r.ID, r.Transfer)
		settled <- err
	}()
	report := w.check(cfg)
	if err := <-settled; err != nil {
		t.Fatal(err)
	}
	expect(t, report, map[Kind]int64{})
	if report.PendingPayments != 0 {
		t.Errorf("%d are pending", report.PendingPayments)
	}

	w.p("UPDATE payments SET state = 'pending', transfer = NULL WHERE id = $1", r.ID)
	cfg.Progress, cfg.Settle = nil, settlePoll
	report = w.check(cfg)
	expect(t, report, map[Kind]int64{Lost: 1})
	if report.PendingPayments != 1 {
		t.Errorf("%d are pending", report.PendingPayments)
	}
}

func canNotLook(t *testing.T, s *pgserver.Server) {
	w := newWorld(t, s, "look")
	w.live(1)
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no history":          {func(c *Config) { c.Histories = []string{"/nowhere/h"} }, "look at the history"},
		"no accounts":         {func(c *Config) { c.Serving.Accounts = "" }, "set ACCOUNTS_URL"},
		"not an address":      {func(c *Config) { c.Serving.Payments = "postgres://u:secret@h:port/x" }, "PAYMENTS_URL is not a connection string"},
		"no server":           {func(c *Config) { c.Serving.Payments = "postgres://u:secret@127.0.0.1:1/x" }, "connect to the payments database (PAYMENTS_URL)"},
		"the databases mixed": {func(c *Config) { c.Serving.Accounts, c.Serving.Payments = c.Serving.Payments, c.Serving.Accounts }, "has no table accounts: does ACCOUNTS_URL"},
		"history is no one":   {func(c *Config) { appendToFile(t, c.Histories[0], "hello\n") }, "not an operation"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := w.config()
			c.change(&cfg)
			_, err := Run(context.Background(), cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ended, w.config()); !errors.Is(err, context.Canceled) {
		t.Errorf("after it was cancelled: %v", err)
	}
}

func command(t *testing.T, s *pgserver.Server) {
	w := newWorld(t, s, "command")
	w.live(1)
	run := func(args ...string) (string, error) {
		cmd := Command()
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		var out, errs bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&errs)
		cmd.SetArgs(args)
		err := cmd.Execute()
		t.Log(errs.String())
		return out.String(), err
	}
	for _, v := range stores {
		for _, side := range []string{"", source, target} {
			t.Setenv(v.variable(side), "")
		}
	}
	path := w.history()
	usage := func(want string, args ...string) {
		t.Helper()
		_, err := run(args...)
		var coded interface{ ExitCode() int }
		if !errors.As(err, &coded) || coded.ExitCode() != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want a usage error with %q", args, err, want)
		}
	}
	usage("--history")
	usage("set ACCOUNTS_URL and PAYMENTS_URL", "--history", path)
	t.Setenv("ACCOUNTS_URL", w.urls.Accounts)
	t.Setenv("PAYMENTS_URL", w.urls.Payments)
	usage("-o", "--history", path, "-o", "xml")
	usage("--most", "--history", path, "--most", "0")
	usage("--settle", "--history", path, "--settle", "-1s")
	usage("--switches -1", "--history", path, "--switches", "-1")
	usage("databases of both", "--history", path, "--switches", "1")
	t.Setenv("ACCOUNTS_SOURCE_URL", w.urls.Accounts)
	usage("set PAYMENTS_SOURCE_URL and ACCOUNTS_TARGET_URL and PAYMENTS_TARGET_URL", "--history", path, "--switches", "1")
	usage("PAYMENTS_SOURCE_URL", "--history", path)
	t.Setenv("PAYMENTS_SOURCE_URL", w.urls.Payments)
	t.Setenv("ACCOUNTS_TARGET_URL", w.urls.Accounts)
	t.Setenv("PAYMENTS_TARGET_URL", w.urls.Payments)
	usage("say --switches", "--history", path)
	if out, err := run("--history", path, "--switches", "0"); err != nil || !strings.Contains(out, "nothing is wrong") || !strings.Contains(out, "0 of 0 allowed") {
		t.Errorf("%v\n%s", err, out)
	}
	w.undo(w.transfer("gone", 6, 7, 4).ID)
	out, err := run("--history", w.history(), "--settle", "0s", "--switches", "0", "-o", "json")
	var wrong *Wrong
	if !errors.As(err, &wrong) || wrong.Faults != 1 {
		t.Errorf("got %v, want one fault", err)
	}
	var report Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.OK || report.LostWrites != 1 || len(report.Findings) != 1 || !report.Audited {
		t.Errorf("%v\n%s", err, out)
	}
}
