package web

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"dhow/superapp/service"
)

const (
	// sendsShown is how many earlier sends the page lists.
	sendsShown = 6
	// livePart is the header with which the page's script asks for a quote alone.
	livePart = "X-Part"
	// detailField begins the names of the fields that a country's accounts need.
	detailField = "detail."
)

// purposes are why money is sent; regulators ask.
var purposes = []string{"family", "education", "medical", "rent", "goods", "savings", "other"} //nolint:gochecknoglobals // a constant

// corridor is a country that money can be sent to.
type corridor struct {
	Country    string   `json:"country"`
	Name       string   `json:"name"`
	Currencies []string `json:"currencies"`
	Fields     []struct {
		Name    string `json:"name"`
		Label   string `json:"label"`
		Kind    string `json:"kind"`
		Example string `json:"example"`
	} `json:"fields"`
}

// offer is a quote as the transfers service makes it.
type offer struct {
	ID              string    `json:"id"`
	Account         int64     `json:"account"`
	Country         string    `json:"country"`
	SendAmount      int64     `json:"send_amount"`
	SendCurrency    string    `json:"send_currency"`
	ReceiveAmount   int64     `json:"receive_amount"`
	ReceiveCurrency string    `json:"receive_currency"`
	Rate            string    `json:"rate"`
	Provider        string    `json:"provider"`
	Fee             int64     `json:"fee"`
	Total           int64     `json:"total"`
	Expires         time.Time `json:"expires"`
	// Mid is the rate without anybody's margin; empty when nobody can say it now.
	Mid string `json:"-"`
}

// sent is a send as the transfers service shows it.
type sent struct {
	ID              int64     `json:"id"`
	State           string    `json:"state"`
	Account         int64     `json:"account"`
	Country         string    `json:"country"`
	SendAmount      int64     `json:"send_amount"`
	Fee             int64     `json:"fee"`
	Total           int64     `json:"total"`
	Currency        string    `json:"currency"`
	ReceiveAmount   int64     `json:"receive_amount"`
	ReceiveCurrency string    `json:"receive_currency"`
	Provider        string    `json:"provider"`
	Created         time.Time `json:"created"`
	Form            *form     `json:"-"`
}

// Moving says that more will happen by itself.
func (s sent) Moving() bool {
	return slices.Contains([]string{"created", "held", "submitted", "failed"}, s.State)
}

// Step is how far the send has come of the three steps that a page shows.
func (s sent) Step() int {
	switch s.State {
	case "held":
		return 1
	case "submitted", "failed":
		return 2
	case "paid":
		return 3
	}
	return 0
}

// sending is the page on which a send begins.
type sending struct {
	*form
	Countries []option
	Country   string
	Sends     []sent
	SendsAway bool
}

// quoteForm asks how much is to be sent where.
func (v *visit) quoteForm(mine []account, c corridor) *form {
	receive := &field{Name: "currency", Type: "select"}
	for _, code := range c.Currencies {
		receive.Options = append(receive.Options, option{code, code})
	}
	return v.form(
		&field{Name: "country", Type: "hidden", Value: c.Country},
		&field{Name: "amount", Type: "amount"},
		&field{Name: "fix", Type: "radio", Options: []option{{"send", v.text("fix.send")}, {"receive", v.text("fix.receive")}}},
		v.accountField(mine),
		receive,
	)
}

func (v *visit) corridor(country string) (corridor, error) {
	var c corridor
	err := v.services.get(v.r.Context(), v.services.Transfers, "/corridors/"+url.PathEscape(country)+"?lang="+v.lang.Code, &c)
	return c, err
}

func sendPage(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	country := v.r.URL.Query().Get("country")
	if country == "" {
		return v.sending(http.StatusOK, mine, "", nil)
	}
	c, err := v.corridor(country)
	if err != nil {
		return err
	}
	return v.sending(http.StatusOK, mine, country, v.quoteForm(mine, c))
}

// sending shows the countries, the form once one is chosen, and what was sent before.
func (v *visit) sending(status int, mine []account, country string, f *form) error {
	s := sending{form: f, Country: country}
	var all struct {
		Corridors []corridor `json:"corridors"`
	}
	if err := v.services.get(v.r.Context(), v.services.Transfers, "/corridors?lang="+v.lang.Code, &all); err != nil {
		return err
	}
	for _, c := range all.Corridors {
		s.Countries = append(s.Countries, option{c.Country, c.Name})
	}
	slices.SortFunc(s.Countries, func(a, b option) int { return cmp.Compare(a.Text, b.Text) })
	lists := make([][]sent, len(mine))
	err := each(mine, func(i int, a account) error {
		var answer struct {
			Sends []sent `json:"sends"`
		}
		err := v.services.get(v.r.Context(), v.services.Transfers, fmt.Sprintf("/sends?account=%d&limit=%d", a.ID, sendsShown), &answer)
		lists[i] = answer.Sends
		return err
	})
	if s.SendsAway = err != nil; s.SendsAway {
		v.note(err)
	}
	s.Sends = slices.Concat(lists...)
	slices.SortStableFunc(s.Sends, func(a, b sent) int { return b.Created.Compare(a.Created) })
	s.Sends = s.Sends[:min(len(s.Sends), sendsShown)]
	return v.show(status, "send", s)
}

// quote asks for an offer. The page's script asks while the customer types, and
// gets the offer alone; without it the customer goes on to the offer's page.
func quote(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	c, err := v.corridor(v.r.PostFormValue("country"))
	if err != nil {
		return err
	}
	live := v.r.Header.Get(livePart) == "quote"
	f := v.quoteForm(mine, c)
	status := 0
	var o offer
	if f.read(v.r) {
		o, status = v.offer(f, mine, c)
	}
	switch {
	case live && f.good():
		return v.write(http.StatusOK, "send", "offer", o)
	case live:
		return v.write(http.StatusUnprocessableEntity, "send", "no-offer", f)
	case !f.good():
		return v.sending(cmp.Or(status, f.status()), mine, c.Country, f)
	}
	return v.redirect("/app/send/" + url.PathEscape(o.ID))
}

// offer asks for an offer for a form, and says on the form why there is none.
func (v *visit) offer(f *form, mine []account, c corridor) (offer, int) {
	from, fix := f.chosen(mine), f.value("fix")
	typed := from.Currency
	if fix == "receive" {
		typed = f.value("currency")
	}
	amount := f.amount("amount", typed)
	if !f.good() {
		return offer{}, 0
	}
	var o offer
	// A quote moves no money: each has a key of its own.
	err := v.services.post(v.r.Context(), v.services.Transfers, "/quotes", fmt.Sprintf("web:%d:%s", v.customer.Customer, uuid.NewString()),
		map[string]any{"account": from.ID, "country": c.Country, "currency": f.value("currency"), "amount": amount, "fix": fix}, &o)
	if err != nil {
		return o, v.tell(f, err)
	}
	v.compare(&o)
	return o, 0
}

// compare puts the mid rate beside an offer, so that the margin can be seen.
func (v *visit) compare(o *offer) {
	var rate struct{ Mid string }
	if err := v.services.get(v.r.Context(), v.services.FX, "/rates/"+url.PathEscape(o.SendCurrency)+"/"+url.PathEscape(o.ReceiveCurrency), &rate); err != nil {
		v.note(err)
	}
	o.Mid = rate.Mid
}

// quoted is an offer with the form that takes it.
type quoted struct {
	*form
	Offer offer
}

// mineQuote is the offer that the page's address names, if it is the customer's.
func (v *visit) mineQuote() (offer, *form, error) {
	var o offer
	if err := v.services.get(v.r.Context(), v.services.Transfers, "/quotes/"+url.PathEscape(v.r.PathValue("id")), &o); err != nil {
		return o, nil, err
	}
	mine, err := v.accounts()
	if err != nil {
		return o, nil, err
	}
	if _, ok := find(mine, o.Account); !ok {
		return o, nil, errNotHere
	}
	c, err := v.corridor(o.Country)
	if err != nil {
		return o, nil, err
	}
	fields := []*field{{Name: "beneficiary", Auto: "off", Most: 100}}
	for _, x := range c.Fields {
		fields = append(fields, &field{Name: detailField + x.Name, Label: x.Label, Auto: "off", HintText: v.text("hint.example", x.Example)})
	}
	reason := &field{Name: "purpose", Type: "select"}
	for _, p := range purposes {
		reason.Options = append(reason.Options, option{p, v.lang.Word("purpose", p)})
	}
	return o, v.form(append(fields, reason)...), nil
}

func quotePage(v *visit) error {
	o, f, err := v.mineQuote()
	if code, ok := refused(err); ok && code == "unknown_quote" {
		return v.failed(http.StatusNotFound, "expired")
	}
	if err != nil {
		return err
	}
	v.compare(&o)
	return v.show(http.StatusOK, "quote", quoted{f, o})
}

// send takes an offer.
func send(v *visit) error {
	o, f, err := v.mineQuote()
	if code, ok := refused(err); ok && code == "unknown_quote" {
		return v.failed(http.StatusNotFound, "expired")
	}
	if err != nil {
		return err
	}
	if !f.read(v.r) {
		return v.show(f.status(), "quote", quoted{f, o})
	}
	details := map[string]string{}
	for _, x := range f.Fields {
		if name, ok := strings.CutPrefix(x.Name, detailField); ok {
			details[name] = x.Value
		}
	}
	var made sent
	err = v.services.post(v.r.Context(), v.services.Transfers, "/sends", v.key(f), map[string]any{
		"quote": o.ID, "purpose": f.value("purpose"),
		"beneficiary": map[string]any{"name": f.value("beneficiary"), "fields": details},
	}, &made)
	if err != nil {
		status := v.tell(f, err)
		f.wrongDetail(err)
		return v.show(status, "quote", quoted{f, o})
	}
	return v.redirect(fmt.Sprintf("/app/sends/%d", made.ID))
}

// wrongDetail marks the field that a refused beneficiary is about: the refusal's
// text begins with its name.
func (f *form) wrongDetail(err error) {
	var no *service.Refusal
	if errors.As(err, &no) && no.Code == "invalid_beneficiary" {
		name, _, _ := strings.Cut(no.Text, ":")
		f.fail(detailField+name, "error.detail")
	}
}

// mineSend is the send that the page's address names, if it is the customer's.
func (v *visit) mineSend() (sent, error) {
	var s sent
	id, err := v.pathID()
	if err != nil {
		return s, err
	}
	if err := v.services.get(v.r.Context(), v.services.Transfers, "/sends/"+strconv.FormatInt(id, 10), &s); err != nil {
		return s, err
	}
	mine, err := v.accounts()
	if err != nil {
		return s, err
	}
	if _, ok := find(mine, s.Account); !ok {
		return s, errNotHere
	}
	s.Form = v.form()
	return s, nil
}

func sendShown(v *visit) error {
	s, err := v.mineSend()
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "sent", s)
}

func cancelSend(v *visit) error {
	s, err := v.mineSend()
	if err != nil {
		return err
	}
	s.Form.read(v.r)
	var after sent
	if err := v.services.post(v.r.Context(), v.services.Transfers, fmt.Sprintf("/sends/%d/cancel", s.ID), v.key(s.Form), nil, &after); err != nil {
		return v.show(v.tell(s.Form, err), "sent", s)
	}
	return v.redirect(fmt.Sprintf("/app/sends/%d", s.ID))
}
