package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/superapp/service"
)

const (
	// entriesShown and statementEntries are how many lines the first page and a
	// statement show.
	entriesShown     = 8
	statementEntries = 25
	// maxAsked bounds how many questions one page asks at once.
	maxAsked = 8
	// maxAccounts bounds how many of a customer's accounts a page looks into.
	maxAccounts = 20
)

// offered are the currencies of the accounts that a customer can open here.
var offered = []string{"AED", "USD", "EUR", "GBP", "SAR", "KWD", "BHD", "OMR", "QAR", "INR", "PKR", "PHP", "EGP", "JPY"} //nolint:gochecknoglobals // a constant

// account is one of the customer's own.
type account struct {
	ID        int64  `json:"id"`
	Currency  string `json:"currency"`
	Balance   int64  `json:"balance"`
	Held      int64  `json:"held"`
	Available int64  `json:"available"`
}

// accounts are the customer's.
func (v *visit) accounts() ([]account, error) {
	var answer struct {
		Accounts []account `json:"accounts"`
	}
	err := v.services.get(v.r.Context(), v.services.Accounts, fmt.Sprintf("/customers/%d/accounts", v.customer.Customer), &answer)
	if len(answer.Accounts) > maxAccounts {
		answer.Accounts = answer.Accounts[:maxAccounts]
	}
	return answer.Accounts, err
}

// find is the account with an id among the customer's.
func find(mine []account, id int64) (account, bool) {
	i := slices.IndexFunc(mine, func(a account) bool { return a.ID == id })
	if i < 0 {
		return account{}, false
	}
	return mine[i], true
}

// chosen is the account that a form names; the form's options are the customer's own.
func (f *form) chosen(mine []account) account {
	id, _ := strconv.ParseInt(f.value("account"), 10, 64) // one of the options: read checked it
	a, _ := find(mine, id)
	return a
}

// accountField lets the customer choose one of his accounts.
func (v *visit) accountField(mine []account) *field {
	f := &field{Name: "account", Type: "select"}
	for _, a := range mine {
		f.Options = append(f.Options, option{strconv.FormatInt(a.ID, 10), v.text("account.option", a.Currency, v.lang.Money(a.Available, a.Currency))})
	}
	return f
}

// pathID is the id in the page's address.
func (v *visit) pathID() (int64, error) {
	id, err := strconv.ParseInt(v.r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, errNotHere
	}
	return id, nil
}

// entry is a line of a statement.
type entry struct {
	ID        int64     `json:"id"`
	Amount    int64     `json:"amount"`
	Balance   int64     `json:"balance"`
	Reference string    `json:"reference"`
	At        time.Time `json:"at"`
	Currency  string    `json:"-"`
}

// Detail is at whose a card was used, as in "card authorise: Metro".
func (e entry) Detail() string {
	_, merchant, _ := strings.Cut(e.Reference, ": ")
	return merchant
}

// Kind is what the entry is of: the first word of its reference, which the
// services write themselves, as in "payment 12".
func (e entry) Kind() string {
	kind, _, _ := strings.Cut(e.Reference, " ")
	return kind
}

// statement is a page of an account's entries.
type statement struct {
	Account account `json:"-"`
	Entries []entry `json:"entries"`
	Before  int64   `json:"before"`
}

func (v *visit) statement(a account, before int64, limit int) (statement, error) {
	s := statement{Account: a}
	path := fmt.Sprintf("/accounts/%d/entries?limit=%d", a.ID, limit)
	if before > 0 {
		path += fmt.Sprintf("&before=%d", before)
	}
	err := v.services.get(v.r.Context(), v.services.Accounts, path, &s)
	for i := range s.Entries {
		s.Entries[i].Currency = a.Currency
	}
	return s, err
}

// each asks for every item, several at once, and returns the first error.
func each[T any](items []T, ask func(i int, item T) error) error {
	var g errgroup.Group
	g.SetLimit(maxAsked)
	for i, item := range items {
		g.Go(func() error { return ask(i, item) })
	}
	return g.Wait()
}

// overview is the first page.
type overview struct {
	Accounts []account
	Entries  []entry
	// Requests are those that wait for the customer's answer.
	Requests []asking
	Open     *form
	// EntriesAway and RequestsAway say that a part could not be asked for.
	EntriesAway, RequestsAway bool
}

func home(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	return v.overview(http.StatusOK, mine, v.openForm(mine))
}

func (v *visit) overview(status int, mine []account, open *form) error {
	o := overview{Accounts: mine, Open: open}
	var both sync.WaitGroup
	both.Go(func() {
		lists := make([][]entry, len(mine))
		err := each(mine, func(i int, a account) error {
			s, err := v.statement(a, 0, entriesShown)
			lists[i] = s.Entries
			return err
		})
		if o.EntriesAway = err != nil; o.EntriesAway {
			v.note(err)
		}
		o.Entries = slices.Concat(lists...)
	})
	both.Go(func() {
		var err error
		o.Requests, err = v.askings(mine, "payer")
		if o.RequestsAway = err != nil; o.RequestsAway {
			v.note(err)
		}
	})
	both.Wait()
	slices.SortStableFunc(o.Entries, func(a, b entry) int { return b.At.Compare(a.At) })
	o.Entries = o.Entries[:min(len(o.Entries), entriesShown)]
	return v.show(status, "home", o)
}

// openForm offers the currencies that the customer has no account in.
func (v *visit) openForm(mine []account) *form {
	f := &field{Name: "currency", Type: "select"}
	for _, code := range offered {
		if !slices.ContainsFunc(mine, func(a account) bool { return a.Currency == code }) {
			f.Options = append(f.Options, option{code, code})
		}
	}
	return v.form(f)
}

func openAccount(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	f := v.openForm(mine)
	if !f.read(v.r) {
		return v.overview(f.status(), mine, f)
	}
	var made account
	err = v.services.post(v.r.Context(), v.services.Accounts, "/accounts", v.key(f),
		map[string]any{"customer": v.customer.Customer, "currency": f.value("currency")}, &made)
	if err != nil {
		return v.overview(v.tell(f, err), mine, f)
	}
	return v.redirect("/app/")
}

// key is a form's idempotency key at the services: no customer can use another's.
func (v *visit) key(f *form) string { return fmt.Sprintf("web:%d:%s", v.customer.Customer, f.Key) }

func statementPage(v *visit) error {
	id, err := v.pathID()
	if err != nil {
		return err
	}
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	a, ok := find(mine, id)
	if !ok {
		return errNotHere
	}
	before, err := service.QueryInt(v.r, "before", 0, 0, 1<<62)
	if err != nil {
		return errNotHere
	}
	s, err := v.statement(a, before, statementEntries)
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "statement", s)
}
