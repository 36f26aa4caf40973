package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// maxFriends bounds how many a bill is split among.
const maxFriends = 20

// payee is a friend, found by email.
type payee struct {
	Customer int64  `json:"customer"`
	Name     string `json:"name"`
	Accounts []struct {
		ID       int64  `json:"id"`
		Currency string `json:"currency"`
	} `json:"accounts"`
}

// account is the friend's in a currency; 0 when he has none.
func (p payee) account(currency string) int64 {
	for _, a := range p.Accounts {
		if a.Currency == currency {
			return a.ID
		}
	}
	return 0
}

// friend looks up who has an email and his account in a currency. What is wrong
// goes onto the form's field; the status is 0 when nothing is.
func (v *visit) friend(f *form, name, email, currency string) (payee, int64, int) {
	var p payee
	err := v.services.get(v.r.Context(), v.services.Accounts, "/payees?email="+url.QueryEscape(normal(email)), &p)
	if code, ok := refused(err); ok {
		if code != "unknown_customer" {
			f.fail(name, "error.email")
		}
		f.fail(name, "error.friend", email)
		return p, 0, http.StatusUnprocessableEntity
	}
	if err != nil {
		return p, 0, v.tell(f, err)
	}
	to := p.account(currency)
	switch {
	case p.Customer == v.customer.Customer:
		f.fail(name, "error.yourself")
	case to == 0:
		f.fail(name, "error.currency", p.Name, currency)
	default:
		return p, to, 0
	}
	return p, to, http.StatusUnprocessableEntity
}

// payForm asks whom to pay, or to ask for money, and how much.
func (v *visit) payForm(mine []account) *form {
	return v.form(
		&field{Name: "email", Type: "email", Auto: "off", Hinted: true},
		v.accountField(mine),
		&field{Name: "amount", Type: "amount"},
		&field{Name: "note", Optional: true, Most: maxNote},
	)
}

func payPage(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "pay", v.payForm(mine))
}

// review is a payment before it is made.
type review struct {
	*form
	Payee    payee
	Amount   int64
	Currency string
}

// pay shows whom the customer is about to pay, and pays when that was confirmed.
func pay(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	f := v.payForm(mine)
	if !f.read(v.r) || v.r.PostFormValue("change") != "" {
		return v.show(f.status(), "pay", f)
	}
	from := f.chosen(mine)
	amount := f.amount("amount", from.Currency)
	if !f.good() {
		return v.show(f.status(), "pay", f)
	}
	friend, to, status := v.friend(f, "email", f.value("email"), from.Currency)
	if status != 0 {
		return v.show(status, "pay", f)
	}
	if v.r.PostFormValue("confirmed") != "yes" {
		// Each review is a payment of its own; only the same one sent twice is the same.
		f.Key = uuid.NewString()
		return v.show(http.StatusOK, "review", review{f, friend, amount, from.Currency})
	}
	var made struct {
		ID int64 `json:"id"`
	}
	err = v.services.post(v.r.Context(), v.services.Payments, "/payments", v.key(f),
		map[string]any{"from": from.ID, "to": to, "amount": amount, "currency": from.Currency, "note": f.value("note")}, &made)
	if err != nil {
		return v.show(v.tell(f, err), "review", review{f, friend, amount, from.Currency})
	}
	return v.redirect(fmt.Sprintf("/app/payments/%d", made.ID))
}

// payment is one as the payments service shows it.
type payment struct {
	ID       int64     `json:"id"`
	From     int64     `json:"from"`
	To       int64     `json:"to"`
	Amount   int64     `json:"amount"`
	Currency string    `json:"currency"`
	Note     string    `json:"note"`
	State    string    `json:"state"`
	Created  time.Time `json:"created"`
	// Other is the name of who is on the other side; Sent says that the customer paid.
	Other string `json:"-"`
	Sent  bool   `json:"-"`
}

func paymentPage(v *visit) error {
	id, err := v.pathID()
	if err != nil {
		return err
	}
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	var p payment
	if err := v.services.get(v.r.Context(), v.services.Payments, fmt.Sprintf("/payments/%d", id), &p); err != nil {
		return err
	}
	_, p.Sent = find(mine, p.From)
	_, received := find(mine, p.To)
	if !p.Sent && !received {
		return errNotHere
	}
	other := p.From
	if p.Sent {
		other = p.To
	}
	p.Other = v.names([]int64{other})[other]
	return v.show(http.StatusOK, "payment", p)
}

// names are the names of the owners of accounts. One that can not be asked for is
// left out: a page is better without a name than not at all.
func (v *visit) names(accounts []int64) map[int64]string {
	slices.Sort(accounts)
	accounts = slices.Compact(accounts)
	found := make([]string, len(accounts))
	err := each(accounts, func(i int, id int64) error {
		var owner struct{ Customer int64 }
		if err := v.services.get(v.r.Context(), v.services.Accounts, fmt.Sprintf("/accounts/%d", id), &owner); err != nil {
			return err
		}
		var who struct{ Name string }
		err := v.services.get(v.r.Context(), v.services.Accounts, fmt.Sprintf("/customers/%d", owner.Customer), &who)
		found[i] = who.Name
		return err
	})
	if err != nil {
		v.note(err)
	}
	names := map[int64]string{}
	for i, id := range accounts {
		names[id] = found[i]
	}
	return names
}

// asking is a request for money.
type asking struct {
	ID       int64     `json:"id"`
	Payee    int64     `json:"payee"`
	Payer    int64     `json:"payer"`
	Amount   int64     `json:"amount"`
	Currency string    `json:"currency"`
	Note     string    `json:"note"`
	State    string    `json:"state"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	// Other is the name of who asked, or was asked.
	Other string `json:"-"`
	Form  *form  `json:"-"`
}

// askings are the open requests that the customer shall pay (side payer), or all
// that he made (side payee), newest first.
func (v *visit) askings(mine []account, side string) ([]asking, error) {
	lists := make([][]asking, len(mine))
	err := each(mine, func(i int, a account) error {
		path := fmt.Sprintf("/requests?%s=%d&limit=%d", side, a.ID, entriesShown)
		if side == "payer" {
			path += "&state=open"
		}
		var answer struct {
			Requests []asking `json:"requests"`
		}
		err := v.services.get(v.r.Context(), v.services.Payments, path, &answer)
		lists[i] = answer.Requests
		return err
	})
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b asking) int { return b.Created.Compare(a.Created) })
	all = all[:min(len(all), entriesShown)]
	other := func(q asking) int64 {
		if side == "payer" {
			return q.Payee
		}
		return q.Payer
	}
	var ids []int64
	for _, q := range all {
		ids = append(ids, other(q))
	}
	names := v.names(ids)
	for i := range all {
		all[i].Other, all[i].Form = names[other(all[i])], v.form()
	}
	return all, err
}

// asked is the page of requests.
type asked struct {
	*form
	Sent     []asking
	SentAway bool
}

func (v *visit) asked(status int, mine []account, f *form) error {
	sent, err := v.askings(mine, "payee")
	if err != nil {
		v.note(err)
	}
	return v.show(status, "request", asked{f, sent, err != nil})
}

func requestPage(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	return v.asked(http.StatusOK, mine, v.payForm(mine))
}

// request asks a friend for money.
func request(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	f := v.payForm(mine)
	if !f.read(v.r) {
		return v.asked(f.status(), mine, f)
	}
	to := f.chosen(mine)
	amount := f.amount("amount", to.Currency)
	if !f.good() {
		return v.asked(f.status(), mine, f)
	}
	_, from, status := v.friend(f, "email", f.value("email"), to.Currency)
	if status != 0 {
		return v.asked(status, mine, f)
	}
	var made struct{ ID int64 }
	err = v.services.post(v.r.Context(), v.services.Payments, "/requests", v.key(f),
		map[string]any{"payee": to.ID, "payer": from, "amount": amount, "currency": to.Currency, "note": f.value("note")}, &made)
	if err != nil {
		return v.asked(v.tell(f, err), mine, f)
	}
	return v.redirect("/app/request")
}

// replyToRequest pays or declines a request that was made to the customer.
func replyToRequest(v *visit) error {
	id, err := v.pathID()
	if err != nil {
		return err
	}
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	var q asking
	if err := v.services.get(v.r.Context(), v.services.Payments, fmt.Sprintf("/requests/%d", id), &q); err != nil {
		return err
	}
	if _, ok := find(mine, q.Payer); !ok {
		return errNotHere
	}
	verb := v.r.PostFormValue("reply")
	if verb != "accept" && verb != "decline" {
		return errNotHere
	}
	f := v.form()
	f.read(v.r)
	var made struct{ Payment int64 }
	err = v.services.post(v.r.Context(), v.services.Payments, fmt.Sprintf("/requests/%d/%s", id, verb), v.key(f)+":"+verb, nil, &made)
	if err != nil {
		status := v.tell(f, err) // it also sets the problem
		return v.show(status, "refused", f.Problem)
	}
	if made.Payment > 0 {
		return v.redirect(fmt.Sprintf("/app/payments/%d", made.Payment))
	}
	return v.redirect("/app/")
}

// splitForm asks for a bill and who shares it.
func (v *visit) splitForm(mine []account) *form {
	return v.form(
		&field{Name: "amount", Type: "amount", Hinted: true},
		v.accountField(mine),
		&field{Name: "friends", Type: "textarea", Hinted: true, Most: maxFriends * maxField},
		&field{Name: "mine", Type: "checkbox", Optional: true, Value: "yes"},
		&field{Name: "note", Optional: true, Most: maxNote},
	)
}

func splitPage(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "split", v.splitForm(mine))
}

// share is one friend's part of a bill.
type share struct {
	Payer   int64  `json:"payer"`
	Amount  int64  `json:"amount"`
	Request int64  `json:"request"`
	State   string `json:"state"`
	Name    string `json:"-"`
}

// bill is a split as the payments service shows it.
type bill struct {
	ID         int64   `json:"id"`
	Payee      int64   `json:"payee"`
	Total      int64   `json:"total"`
	Currency   string  `json:"currency"`
	Note       string  `json:"note"`
	PayeeShare int64   `json:"payee_share"`
	Shares     []share `json:"shares"`
}

// split shares a bill: each friend is asked for his part.
func split(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	f := v.splitForm(mine)
	if !f.read(v.r) {
		return v.show(f.status(), "split", f)
	}
	to := f.chosen(mine)
	total := f.amount("amount", to.Currency)
	emails := strings.FieldsFunc(f.value("friends"), func(r rune) bool { return strings.ContainsRune(" ,;\r\n\t،؛", r) })
	if len(emails) > maxFriends {
		f.fail("friends", "error.many", maxFriends)
	}
	if !f.good() {
		return v.show(f.status(), "split", f)
	}
	var payers []int64
	for _, email := range emails {
		_, from, status := v.friend(f, "friends", email, to.Currency)
		if status != 0 {
			return v.show(status, "split", f)
		}
		if slices.Contains(payers, from) {
			f.fail("friends", "error.twice", email)
			return v.show(f.status(), "split", f)
		}
		payers = append(payers, from)
	}
	var made bill
	err = v.services.post(v.r.Context(), v.services.Payments, "/splits", v.key(f), map[string]any{
		"payee": to.ID, "payers": payers, "total": total, "currency": to.Currency,
		"note": f.value("note"), "include_payee": f.value("mine") == "yes",
	}, &made)
	if err != nil {
		return v.show(v.tell(f, err), "split", f)
	}
	return v.redirect(fmt.Sprintf("/app/splits/%d", made.ID))
}

// splitShown shows a bill to who split it.
func splitShown(v *visit) error {
	id, err := v.pathID()
	if err != nil {
		return err
	}
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	var b bill
	if err := v.services.get(v.r.Context(), v.services.Payments, fmt.Sprintf("/splits/%d", id), &b); err != nil {
		return err
	}
	if _, ok := find(mine, b.Payee); !ok {
		return errNotHere
	}
	var ids []int64
	for _, s := range b.Shares {
		ids = append(ids, s.Payer)
	}
	names := v.names(ids)
	for i := range b.Shares {
		b.Shares[i].Name = names[b.Shares[i].Payer]
	}
	return v.show(http.StatusOK, "split-shown", b)
}
