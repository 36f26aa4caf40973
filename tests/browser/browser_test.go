// Package browser uses the application as a customer does, with a browser: in both
// languages, on a phone and on a computer, and asks the services afterwards
// whether what the pages said is so.
package browser

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"dhow/internal/browsertest"
	"dhow/internal/programtest"
	"dhow/superapp/fleet"
)

// images is where the documents' pictures are.
const images = "../../docs/images"

var update = flag.Bool("update", false, "take the pictures in docs/images anew")

// words are what a language's pages say.
type words struct {
	code, dir                                            string
	hello, review, sent, split, received, frozen, active string
	fee, insights, groceries                             string
	amount                                               func(string) string
}

func languages() []words {
	return []words{
		{
			code: "en", dir: "ltr", hello: "Hello", review: "Is this right?", sent: "Payment sent", split: "The bill is split", received: "Received",
			frozen: "This card is frozen.", active: "Freeze", fee: "Fee", insights: "Spending by month", groceries: "Groceries",
			amount: func(n string) string { return "AED " + n },
		},
		{
			code: "ar", dir: "rtl", hello: "مرحباً", review: "هل هذا صحيح؟", sent: "أُرسلت الدفعة", split: "قُسّمت الفاتورة", received: "وصل",
			frozen: "هذه البطاقة مجمّدة.", active: "جمّد البطاقة", fee: "الرسوم", insights: "الإنفاق حسب الشهر", groceries: "بقالة",
			amount: func(n string) string { return n + " AED" },
		},
	}
}

// start starts the whole application.
func start(t *testing.T) *fleet.Fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers, services and a browser: not with -short (testing.Short)")
	}
	browsertest.Chromium(t) // before anything is built
	dir := t.TempDir()
	program := filepath.Join(programtest.Build(t, "dhow/superapp/cmd/superapp"), "superapp")
	f, err := fleet.Launch(t.Context(), fleet.Config{Superapp: program, Dir: filepath.Join(dir, "logs"), Listen: "127.0.0.1:0", Customers: customers, Pool: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
			for _, log := range logs {
				text, _ := os.ReadFile(log)
				t.Logf("%s:\n%s", filepath.Base(log), text)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

const (
	// customers are as many as the journeys meet, and some more.
	customers = 20
	// pin is every seeded customer's.
	pin = "2468"
)

// api asks the services themselves, behind the address that customers know.
type api struct {
	t         *testing.T
	addresses map[string]string
}

// owner is the service that has a path.
func owner(path string) string {
	first, _, _ := strings.Cut(path[1:], "/")
	switch first {
	case "payments", "splits":
		return fleet.Payments
	case "corridors", "sends":
		return fleet.Transfers
	case "cards", "authorisations":
		return fleet.Cards
	}
	return fleet.Accounts
}

// ask sends a request, under a new key, and reads the answer.
func (a api) ask(method, path string, body, into any) {
	a.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(a.t.Context(), method, "http://"+a.addresses[owner(path)]+path, bytes.NewReader(text))
	if err != nil {
		a.t.Fatal(err)
	}
	if method != http.MethodGet {
		r.Header.Set("Idempotency-Key", uuid.NewString())
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= http.StatusMultipleChoices {
		a.t.Fatalf("%s %s: status %d, %v: %s", method, path, res.StatusCode, err, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		a.t.Fatalf("%s %s: %v: %s", method, path, err, answer)
	}
}

// balance is what a customer has in dirhams.
func (a api) balance(customer int) (account, balance int64) {
	a.t.Helper()
	var list struct {
		Accounts []struct {
			ID, Balance int64
			Currency    string
		}
	}
	a.ask(http.MethodGet, fmt.Sprintf("/customers/%d/accounts", customer), nil, &list)
	for _, one := range list.Accounts {
		if one.Currency == "AED" {
			return one.ID, one.Balance
		}
	}
	a.t.Fatalf("customer %d has no account in AED", customer)
	return 0, 0
}

func TestCustomersDay(t *testing.T) {
	f := start(t)
	for i, w := range languages() {
		t.Run(w.code, func(t *testing.T) { day(t, f, w, i+1) })
	}
}

// day is what a customer does: the friends are other customers.
func day(t *testing.T, f *fleet.Fleet, w words, customer int) {
	p, a := open(t, "http://"+f.Address, w), api{t, f.Addresses}
	friend, third := customer+10, customer+12
	email := func(n int) string { return fmt.Sprintf("customer%d@example.com", n) }

	p.visit("/" + map[string]string{"en": "", "ar": "ar/"}[w.code])
	p.picture("site-" + w.code)
	p.visit("/app/sign-in?lang=" + w.code)
	p.fill("email", email(customer), "pin", pin)
	p.press("main button")
	p.says(w.hello)
	p.picture("home-" + w.code)

	// Pay a friend.
	mine, before := a.balance(customer)
	_, theirs := a.balance(friend)
	p.visit("/app/pay")
	p.fill("email", email(friend), "amount", "12.50", "note", "قهوة coffee")
	p.press("main form button")
	p.says(w.review, w.amount("12.50"))
	p.press("main form button:not(.second)")
	p.says(w.sent, w.amount("12.50"), "قهوة coffee")
	var paid struct {
		From, Amount int64
		State        string
	}
	a.ask(http.MethodGet, fmt.Sprintf("/payments/%d", p.id()), nil, &paid)
	if paid.From != mine || paid.Amount != 1250 || paid.State != "completed" {
		t.Errorf("the payment is %+v", paid)
	}
	if _, after := a.balance(customer); after != before-1250 {
		t.Errorf("the customer had %d and has %d", before, after)
	}
	if _, after := a.balance(friend); after != theirs+1250 {
		t.Errorf("the friend had %d and has %d", theirs, after)
	}

	// Split a bill among three.
	p.visit("/app/split")
	p.fill("amount", "100", "friends", email(friend)+"\n"+email(third), "note", "dinner")
	p.press("main form button")
	p.says(w.split, w.amount("100.00"), w.amount("33.33"), w.amount("33.34"))
	var bill struct {
		Total      int64
		PayeeShare int64 `json:"payee_share"`
		Shares     []struct{ Amount int64 }
	}
	a.ask(http.MethodGet, fmt.Sprintf("/splits/%d", p.id()), nil, &bill)
	if len(bill.Shares) != 2 || bill.Total != 100_00 || bill.PayeeShare+bill.Shares[0].Amount+bill.Shares[1].Amount != 100_00 {
		t.Errorf("the bill is %+v", bill)
	}

	p.sendAbroad(a)
	card := p.freezeCard(a)
	p.spend(a, card)
	p.press(".tools form button")
	if p.path() != "/app/sign-in" {
		t.Errorf("signed out, one is at %s", p.path())
	}
}

// sendAbroad sends money with a quote that appears while the amount is typed.
func (p *tab) sendAbroad(a api) {
	p.t.Helper()
	p.visit("/app/send")
	p.choose("country", "IN")
	p.press("main form button")
	p.fill("amount", "200")
	p.awaits("#offer", p.w.fee)
	p.look()
	p.do("show the offer", script("void document.querySelector('#offer').scrollIntoView({block: 'center'})"))
	p.picture("send-" + p.w.code)
	p.press("main form[data-live] button")
	var corridor struct {
		Fields []struct{ Name, Example string }
	}
	a.ask(http.MethodGet, "/corridors/IN", nil, &corridor)
	p.fill("beneficiary", "Asha Rao")
	for _, f := range corridor.Fields {
		p.fill("detail."+f.Name, f.Example)
	}
	p.press("main form button")
	id := p.id()
	p.awaits(".badge", p.w.received)
	p.look()
	var sent struct {
		State, Country string
		SendAmount     int64 `json:"send_amount"`
		Fee, Total     int64
	}
	a.ask(http.MethodGet, fmt.Sprintf("/sends/%d", id), nil, &sent)
	if sent.State != "paid" || sent.Country != "IN" || sent.SendAmount+sent.Fee != sent.Total {
		p.t.Errorf("the send is %+v", sent)
	}
}

// freezeCard makes a card, freezes it, and makes it usable again.
func (p *tab) freezeCard(a api) int64 {
	p.t.Helper()
	p.visit("/app/cards")
	p.press("main form button")
	id := p.id()
	state := func() string {
		var card struct{ State string }
		a.ask(http.MethodGet, fmt.Sprintf("/cards/%d", id), nil, &card)
		return card.State
	}
	if s := state(); s != "active" {
		p.t.Errorf("the new card is %s", s)
	}
	p.picture("card-" + p.w.code)
	p.press("button[name=state]")
	p.says(p.w.frozen)
	if s := state(); s != "frozen" {
		p.t.Errorf("the frozen card is %s", s)
	}
	p.press("button[name=state]")
	p.says(p.w.active)
	if s := state(); s != "active" {
		p.t.Errorf("the card that was frozen is %s", s)
	}
	return id
}

// spend pays with a card and waits until the insights know.
func (p *tab) spend(a api, card int64) {
	p.t.Helper()
	for _, one := range []struct {
		amount             int64
		merchant, category string
	}{{84_20, "Al Barsha Market", "groceries"}, {31_00, "Harbour Café", "restaurants"}, {46_75, "Metro", "transport"}} {
		var authorised struct{ ID int64 }
		a.ask(http.MethodPost, fmt.Sprintf("/cards/%d/authorisations", card), map[string]any{"amount": one.amount, "currency": "AED", "merchant": one.merchant, "category": one.category}, &authorised)
		a.ask(http.MethodPost, fmt.Sprintf("/authorisations/%d/capture", authorised.ID), map[string]any{"amount": one.amount}, &struct{}{})
	}
	for end := time.Now().Add(step); ; {
		p.visit("/app/insights")
		if said := p.text(); time.Now().After(end) || containsAll(said, p.w.groceries, "Harbour Café", "Metro") {
			break
		}
	}
	p.says(p.w.insights, p.w.groceries, p.w.amount("84.20"), "Harbour Café")
	p.picture("insights-" + p.w.code)
	p.resize(deskWidth, deskHeight)
	p.look()
	p.picture("insights-wide-" + p.w.code)
	p.resize(phoneWidth, phoneHeight)
}
