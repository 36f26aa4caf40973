package accounts_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

func holdOrder(account, amount int) string {
	return fmt.Sprintf(`{"account":%d,"amount":%d,"currency":"AED","reference":"taxi"}`, account, amount)
}

func (b *bank) hold(key string, account, amount int) servicetest.Reply {
	return b.Send("POST /holds", key, holdOrder(account, amount))
}

func (b *bank) capture(key string, hold int64, to, amount int) servicetest.Reply {
	return b.Send(fmt.Sprintf("POST /holds/%d/capture", hold), key, fmt.Sprintf(`{"to":%d,"amount":%d}`, to, amount))
}

func (b *bank) release(key string, hold int64) servicetest.Reply {
	return b.Send(fmt.Sprintf("POST /holds/%d/release", hold), key, "{}")
}

// stands checks what an account has and what of it is held.
func (b *bank) stands(account int, balance, held int64) {
	b.t.Helper()
	a := b.Send(fmt.Sprint("GET /accounts/", account), "", "")
	if want := fmt.Sprintf(`"balance":%d,"held":%d,"available":%d,`, balance, held, balance-held); !strings.Contains(a.Text, want) {
		b.t.Errorf("account %d is %s, want %s", account, a.Text, want)
	}
}

func holds(b *bank) {
	one := servicetest.Want(b.t, b.hold("h1", 3, 600), http.StatusCreated, "")
	if one.State != "held" || one.Replayed || !strings.Contains(one.Text, `"available": 400`) {
		b.t.Errorf("the hold: %s", one.Text)
	}
	if two := b.hold("h1", 3, 600); !two.Replayed || two.Text != one.Text {
		b.t.Errorf("replayed %v: %s, want %s", two.Replayed, two.Text, one.Text)
	}
	servicetest.Want(b.t, b.hold("h1", 3, 601), http.StatusUnprocessableEntity, "idempotency_conflict")
	b.stands(3, opening, 600)
	// What is held is spent neither by a transfer nor by another hold.
	servicetest.Want(b.t, b.transfer("t1", 3, 4, 401), http.StatusUnprocessableEntity, "insufficient_funds")
	servicetest.Want(b.t, b.hold("h2", 3, 401), http.StatusUnprocessableEntity, "insufficient_funds")
	servicetest.Want(b.t, b.transfer("t2", 3, 4, 400), http.StatusCreated, "")
	b.stands(3, 600, 600)

	// A part is captured, and the rest is available again.
	servicetest.Want(b.t, b.capture("c0", one.ID, 4, 601), http.StatusUnprocessableEntity, "amount_exceeds_hold")
	got := servicetest.Want(b.t, b.capture("c1", one.ID, 4, 250), http.StatusOK, "")
	if got.State != "captured" || got.ID != one.ID || got.FromBalance != 350 || got.FromVersion != 3 || string(got.Transfer) == "" {
		b.t.Errorf("the capture: %s", got.Text)
	}
	if again := b.capture("c1", one.ID, 4, 250); !again.Replayed || again.Text != got.Text {
		b.t.Errorf("replayed %v: %s, want %s", again.Replayed, again.Text, got.Text)
	}
	servicetest.Want(b.t, b.capture("c1", one.ID, 4, 251), http.StatusUnprocessableEntity, "idempotency_conflict")
	// The refusal stands under its key, and so does the capture's answer.
	if no := servicetest.Want(b.t, b.capture("c0", one.ID, 4, 601), http.StatusUnprocessableEntity, "amount_exceeds_hold"); !no.Replayed {
		b.t.Error("a refusal was not stored")
	}
	b.stands(3, 350, 0)
	b.stands(4, opening+650, 0)
	servicetest.Want(b.t, b.capture("c2", one.ID, 4, 1), http.StatusConflict, "hold_closed")
	servicetest.Want(b.t, b.release("r0", one.ID), http.StatusConflict, "hold_closed")
	if h := b.Send(fmt.Sprint("GET /holds/", one.ID), "", ""); h.State != "captured" || string(h.Transfer) != string(got.Transfer) || !strings.Contains(h.Text, `"amount":600`) {
		b.t.Errorf("the hold: %s", h.Text)
	}
	if s := b.Send(fmt.Sprint("GET /transfers/", string(got.Transfer)), "", ""); !strings.Contains(s.Text, `"amount":250`) || !strings.Contains(s.Text, `"reference":"taxi"`) {
		b.t.Errorf("the transfer: %s", s.Text)
	}

	other := servicetest.Want(b.t, b.hold("h3", 3, 350), http.StatusCreated, "")
	let := servicetest.Want(b.t, b.release("r1", other.ID), http.StatusOK, "")
	if again := b.release("r1", other.ID); let.State != "released" || !again.Replayed || again.Text != let.Text {
		b.t.Errorf("released %s, then %s", let.Text, again.Text)
	}
	servicetest.Want(b.t, b.capture("c3", other.ID, 4, 1), http.StatusConflict, "hold_closed")
	b.stands(3, 350, 0)
}

func holdRefusals(b *bank) {
	h := servicetest.Want(b.t, b.hold("h", 3, 100), http.StatusCreated, "")
	path := fmt.Sprintf("POST /holds/%d/", h.ID)
	for i, c := range []struct {
		what, body string
		status     int
		code       string
	}{
		{"POST /holds", holdOrder(99, 1), http.StatusNotFound, "unknown_account"},
		{"POST /holds", holdOrder(0, 1), http.StatusUnprocessableEntity, "invalid_account"},
		{"POST /holds", holdOrder(3, 0), http.StatusUnprocessableEntity, "invalid_amount"},
		{"POST /holds", holdOrder(issuer, 1), http.StatusUnprocessableEntity, "system_account"},
		{"POST /holds", strings.Replace(holdOrder(3, 1), "AED", "USD", 1), http.StatusUnprocessableEntity, "currency_mismatch"},
		{"POST /holds", strings.Replace(holdOrder(3, 1), "AED", "XXQ", 1), http.StatusUnprocessableEntity, "unknown_currency"},
		{"POST /holds", strings.Replace(holdOrder(3, 1), "taxi", strings.Repeat("x", 141), 1), http.StatusUnprocessableEntity, "invalid_reference"},
		{"POST /holds", `{"amount":"1"}`, http.StatusBadRequest, "invalid_request"},
		{path + "capture", `{"to":99,"amount":1}`, http.StatusNotFound, "unknown_account"},
		{path + "capture", `{"to":3,"amount":1}`, http.StatusUnprocessableEntity, "same_account"},
		{path + "capture", `{"to":2,"amount":1}`, http.StatusUnprocessableEntity, "currency_mismatch"},
		{path + "capture", `{"to":4,"amount":0}`, http.StatusUnprocessableEntity, "invalid_amount"},
		{"POST /holds/99/capture", `{"to":4,"amount":1}`, http.StatusNotFound, "unknown_hold"},
		{"POST /holds/99/release", "", http.StatusNotFound, "unknown_hold"},
		{"GET /holds/99", "", http.StatusNotFound, "unknown_hold"},
		{"PUT /system/fun/AED/0", "", http.StatusUnprocessableEntity, "unknown_purpose"},
		{"PUT /system/fees/XXQ/0", "", http.StatusUnprocessableEntity, "unknown_currency"},
		{"PUT /system/fees/AED/8", "", http.StatusUnprocessableEntity, "unknown_shard"},
	} {
		servicetest.Want(b.t, b.Send(c.what, fmt.Sprint("no", i), c.body), c.status, c.code)
	}
	servicetest.Want(b.t, b.Send("POST /holds", "", holdOrder(3, 1)), http.StatusBadRequest, "idempotency_key_missing")
	b.exec("UPDATE accounts SET balance = 9223372036854775807 - 5 WHERE id = 4")
	servicetest.Want(b.t, b.capture("much", h.ID, 4, 6), http.StatusUnprocessableEntity, "balance_out_of_range")
	b.exec("UPDATE accounts SET balance = $1 WHERE id = 4", opening)
	b.stands(3, opening, 100)
}

// Of many who end one hold at the same instant, one does.
func holdEndsOnce(b *bank) {
	other := &bank{t: b.t, doc: b.doc, Service: servicetest.Start(b.t, b.url, service.Options{Instance: "target"}, run)}
	for round := range 5 {
		h := servicetest.Want(b.t, b.hold(fmt.Sprint("h", round), 3, 100), http.StatusCreated, "")
		const n = 12
		replies := make([]servicetest.Reply, n)
		var wait sync.WaitGroup
		for i := range replies {
			wait.Go(func() {
				at, key := []*bank{b, other}[i/2%2], fmt.Sprintf("end%d-%d", round, i)
				if i%2 == 0 {
					replies[i] = at.capture(key, h.ID, 4+i%3, 100)
				} else {
					replies[i] = at.release(key, h.ID)
				}
			})
		}
		wait.Wait()
		ended := 0
		for _, a := range replies {
			if a.Status == http.StatusOK {
				ended++
			} else {
				servicetest.Want(b.t, a, http.StatusConflict, "hold_closed")
			}
		}
		if ended != 1 {
			b.t.Errorf("a hold was ended %d times", ended)
		}
		// The same capture many times at once is one.
		h = servicetest.Want(b.t, b.hold(fmt.Sprint("g", round), 3, 10), http.StatusCreated, "")
		for i := range replies {
			wait.Go(func() { replies[i] = []*bank{b, other}[i%2].capture(fmt.Sprint("same", round), h.ID, 4, 10) })
		}
		wait.Wait()
		made := 0
		for _, a := range replies {
			if servicetest.Want(b.t, a, http.StatusOK, ""); !a.Replayed {
				made++
			}
		}
		if made != 1 {
			b.t.Errorf("%d say that they captured", made)
		}
	}
}

// Many clients hold, capture, release and pay, two processes serve them: the
// schema would refuse what is below zero, and what is held is the sum of the open holds.
func holdsAddUp(b *bank) {
	other := &bank{t: b.t, doc: b.doc, Service: servicetest.Start(b.t, b.url, service.Options{Instance: "target"}, run)}
	const clients, each = 10, 30
	var g errgroup.Group
	for c := range clients {
		g.Go(func() error {
			random := rand.New(rand.NewPCG(2, uint64(c)))
			var open []int64
			for i := range each {
				at, key := []*bank{b, other}[i%2], fmt.Sprintf("c%d-%d", c, i)
				account, amount := first+random.IntN(3), 1+random.IntN(400)
				var a servicetest.Reply
				switch n := random.IntN(4); {
				case n == 0 && len(open) > 0:
					a = at.capture(key, open[0], last, 1+random.IntN(20))
				case n == 1 && len(open) > 0:
					a = at.release(key, open[0])
				case n == 2:
					a = at.transfer(key, account, first+(account-first+1)%3, amount)
				default:
					a = at.hold(key, account, amount)
					if a.Status == http.StatusCreated {
						open = append(open, a.ID)
						continue
					}
				}
				switch {
				case a.Status == http.StatusOK:
					open = open[1:]
				case a.Err != nil || a.Status != http.StatusCreated && a.Code != "insufficient_funds" && a.Code != "amount_exceeds_hold":
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
	for _, state := range []string{"held", "captured", "released"} {
		if b.number("SELECT count(*) FROM holds WHERE state = $1", state) == 0 {
			b.t.Errorf("no hold is %s: the test does not test it", state)
		}
	}
}

// The system has one account for each purpose and currency, whoever asks first.
func systemAccounts(b *bank) {
	const n = 10
	ids := make([]int64, n)
	var wait sync.WaitGroup
	for i := range ids {
		wait.Go(func() { ids[i] = b.Send("PUT /system/cards/AED/0", "", "{}").ID })
	}
	wait.Wait()
	for _, id := range ids {
		if id != ids[0] || id == 0 {
			b.t.Fatalf("several accounts: %v", ids)
		}
	}
	if a := servicetest.Want(b.t, b.Send("PUT /system/cards/USD/0", "", ""), http.StatusOK, ""); a.ID == ids[0] || a.Text != fmt.Sprintf(`{"id":%d,"currency":"USD"}`, a.ID) {
		b.t.Errorf("%s", a.Text)
	}
	cards := int(ids[0])
	servicetest.Want(b.t, b.transfer("t", 3, cards, 100), http.StatusCreated, "")
	servicetest.Want(b.t, b.transfer("u", cards, 3, 40), http.StatusCreated, "")
	b.stands(cards, 60, 0)
	if n := b.number("SELECT count(*) FROM accounts WHERE customer = 0"); n != 2 {
		b.t.Errorf("%d accounts of the system", n)
	}
}
