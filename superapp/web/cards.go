package web

import (
	"fmt"
	"net/http"
	"slices"
)

// card is one of the customer's.
type card struct {
	ID               int64  `json:"id"`
	Last4            string `json:"last4"`
	Expires          string `json:"expires"`
	State            string `json:"state"`
	Account          int64  `json:"account"`
	Currency         string `json:"currency"`
	LimitTransaction int64  `json:"limit_transaction"`
	LimitDay         int64  `json:"limit_day"`
}

// wallet is the page of all cards.
type wallet struct {
	*form
	Cards []card
}

// cards are the customer's.
func (v *visit) cards() ([]card, error) {
	var answer struct {
		Cards []card `json:"cards"`
	}
	err := v.services.get(v.r.Context(), v.services.Cards, fmt.Sprintf("/cards?customer=%d", v.customer.Customer), &answer)
	return answer.Cards, err
}

func cardsPage(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	all, err := v.cards()
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "cards", wallet{v.form(v.accountField(mine)), all})
}

// newCard makes a card that pays from one of the customer's accounts.
func newCard(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	f := v.form(v.accountField(mine))
	status := f.status()
	if f.read(v.r) {
		var made card
		err := v.services.post(v.r.Context(), v.services.Cards, "/cards", v.key(f),
			map[string]any{"customer": v.customer.Customer, "account": f.chosen(mine).ID}, &made)
		if err == nil {
			return v.redirect(fmt.Sprintf("/app/cards/%d", made.ID))
		}
		status = v.tell(f, err)
	}
	all, err := v.cards()
	if err != nil {
		return err
	}
	return v.show(max(status, f.status()), "cards", wallet{f, all})
}

// held is one card's page.
type held struct {
	*form
	Card card
	// Number is shown on the one page that was asked for it, and kept nowhere.
	Number string
}

// mineCard is the card that the page's address names, if it is the customer's.
func (v *visit) mineCard() (held, error) {
	id, err := v.pathID()
	if err != nil {
		return held{}, err
	}
	all, err := v.cards()
	if err != nil {
		return held{}, err
	}
	i := slices.IndexFunc(all, func(c card) bool { return c.ID == id })
	if i < 0 {
		return held{}, errNotHere
	}
	c := all[i]
	return held{Card: c, form: v.form(
		&field{Name: "transaction", Type: "amount", Value: typed(c.LimitTransaction, c.Currency)},
		&field{Name: "day", Type: "amount", Value: typed(c.LimitDay, c.Currency)},
	)}, nil
}

func cardPage(v *visit) error {
	h, err := v.mineCard()
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "card", h)
}

func cardNumber(v *visit) error {
	h, err := v.mineCard()
	if err != nil {
		return err
	}
	var shown struct{ Number string }
	if err := v.services.get(v.r.Context(), v.services.Cards, fmt.Sprintf("/cards/%d/number", h.Card.ID), &shown); err != nil {
		return v.show(v.tell(h.form, err), "card", h)
	}
	for i, r := range shown.Number {
		if i > 0 && i%4 == 0 {
			h.Number += " "
		}
		h.Number += string(r)
	}
	return v.show(http.StatusOK, "card", h)
}

// cardState freezes a card or makes it usable again.
func cardState(v *visit) error {
	h, err := v.mineCard()
	if err != nil {
		return err
	}
	verb := v.r.PostFormValue("state")
	if verb != "freeze" && verb != "unfreeze" {
		return errNotHere
	}
	// The fields are those of another form of this page; only the key is read here.
	key := v.form()
	key.read(v.r)
	var after card
	if err := v.services.post(v.r.Context(), v.services.Cards, fmt.Sprintf("/cards/%d/%s", h.Card.ID, verb), v.key(key)+":"+verb, nil, &after); err != nil {
		return v.show(v.tell(h.form, err), "card", h)
	}
	return v.redirect(fmt.Sprintf("/app/cards/%d", h.Card.ID))
}

func cardLimits(v *visit) error {
	h, err := v.mineCard()
	if err != nil {
		return err
	}
	if !h.read(v.r) {
		return v.show(h.status(), "card", h)
	}
	transaction, day := h.amount("transaction", h.Card.Currency), h.amount("day", h.Card.Currency)
	if h.good() && transaction > day {
		h.fail("transaction", "error.limits")
	}
	if !h.good() {
		return v.show(h.status(), "card", h)
	}
	var after card
	err = v.services.ask(v.r.Context(), http.MethodPut, v.services.Cards, fmt.Sprintf("/cards/%d/limits", h.Card.ID), v.key(h.form),
		map[string]any{"transaction": transaction, "day": day}, &after)
	if err != nil {
		return v.show(v.tell(h.form, err), "card", h)
	}
	return v.redirect(fmt.Sprintf("/app/cards/%d", h.Card.ID))
}
