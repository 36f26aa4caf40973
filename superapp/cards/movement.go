package cards

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"time"

	"dhow/superapp/ledger"
	"dhow/superapp/outbox"
	"dhow/superapp/service"
)

// Kinds of movements.
const (
	authorise = "authorise" // from the customer to the cards' account
	capture   = "capture"   // from there to the merchants'
	reverse   = "reverse"   // from there back to the customer
	refund    = "refund"    // from the merchants' to the customer
)

// Posted is the state of a movement whose money was moved; the others are Pending and Declined.
const Posted = "posted"

// eventKind is what the analytics call what cards pay.
const eventKind = "card"

// movement is money that a card moves.
type movement struct {
	id, authorisation, card int64
	key                     sql.NullString
	kind                    string
	amount                  int64
	currency                string
	account                 int64
	// merchant and category are the authorisation's.
	merchant, category string
}

const selectMovement = "SELECT m.id, m.authorisation, m.card, m.`key`, m.kind, m.amount, m.currency, m.account, a.merchant, a.category FROM movements m JOIN authorisations a ON a.id = m.authorisation"

func (m *movement) scan(scan func(...any) error) error {
	return scan(&m.id, &m.authorisation, &m.card, &m.key, &m.kind, &m.amount, &m.currency, &m.account, &m.merchant, &m.category)
}

// movementOf is the movement that a key's request made.
func (d *desk) movementOf(ctx context.Context, key string) (movement, error) {
	var m movement
	if err := m.scan(d.db.QueryRowContext(ctx, selectMovement+" WHERE m.`key` = ?", key).Scan); err != nil {
		return m, fmt.Errorf("read the movement of a key: %w", err)
	}
	return m, nil
}

// An authorisation of number 0 is the one that was inserted just before.
const insertMovement = "INSERT INTO movements (`key`, authorisation, card, kind, amount, currency, account, state, instance) VALUES (?, coalesce(nullif(?, 0), last_insert_id()), ?, ?, ?, ?, ?, '" + Pending + "', ?)"

// move writes movements as pending, each with its row in the outbox for the ledger.
// The first one is what the key's request is answered with.
func (d *desk) move(tx *transaction, key string, moves ...movement) decision {
	at := make([]int, len(moves))
	for i := range moves {
		m := &moves[i]
		m.key = sql.NullString{String: key, Valid: i == 0}
		at[i] = tx.write(insertMovement, m.key, m.authorisation, m.card, m.kind, m.amount, m.currency, m.account, d.instance)
		tx.write("INSERT INTO ledger_outbox (movement) VALUES (last_insert_id())")
	}
	return decision{post: func(r results) []movement {
		for i := range moves {
			moves[i].id = r.ids[at[i]]
		}
		return moves
	}}
}

// finish posts movements and returns the answer that stands under a key, which is
// the first one's. What can not be posted of the others is left to the settler.
func (d *desk) finish(ctx context.Context, key string, moves []movement) (service.Answer, error) {
	answer, err := d.post(ctx, moves[0])
	if err != nil {
		return service.Answer{}, err
	}
	for _, m := range moves[1:] {
		if _, err := d.post(ctx, m); err != nil {
			d.log.Warn("the rest of a capture is left to the settler", "movement", m.id, "error", err)
			break
		}
	}
	if answer.Body != nil {
		return answer, nil
	}
	s, found, err := service.LookupMariaDB(ctx, d.db, key)
	if err == nil && !found {
		err = errVanished
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("read the answer to a movement: %w", err)
	}
	// Another was quicker; to this client the answer is new all the same.
	return service.Answer{Status: s.Status, Body: s.Answer}, nil
}

// post asks for a movement's transfer and writes down what came of it, with the
// answer under the movement's key. It may be called again, and by several at once:
// the transfer's outcome is the same each time, and who comes second changes nothing
// and gets no answer.
func (d *desk) post(ctx context.Context, m movement) (service.Answer, error) {
	order, err := d.order(ctx, m)
	if err != nil {
		return service.Answer{}, err
	}
	out, err := d.accounts.Transfer(ctx, fmt.Sprint(ledger.CardKey, m.id), order)
	if err != nil {
		return service.Answer{}, err
	}
	if out.Refused != nil && m.kind != authorise {
		// The money is the system's to move: that is a defect, and nothing that a client can mend.
		return service.Answer{}, fmt.Errorf("the accounts service refuses movement %d, a %s: %s", m.id, m.kind, out.Refused.Error())
	}
	answer, state, err := m.answer(out)
	if err != nil {
		return service.Answer{}, err
	}
	at := 0
	done, err := d.transact(ctx, func(tx *transaction) (err error) {
		at, err = m.end(tx, out, state, answer)
		return err
	})
	if err != nil {
		return service.Answer{}, fmt.Errorf("end a movement: %w", err)
	}
	if done.changed[at] == 0 {
		return service.Answer{}, nil
	}
	d.movements.WithLabelValues(m.kind, state).Inc()
	return answer, nil
}

// order is the transfer that a movement is.
func (d *desk) order(ctx context.Context, m movement) (ledger.Order, error) {
	o := ledger.Order{Amount: m.amount, Currency: m.currency, Reference: fmt.Sprintf("card %s: %s", m.kind, m.merchant)}
	purpose := ledger.Cards
	if m.kind == refund {
		purpose = ledger.Merchants
	}
	system, err := d.accounts.System(ctx, purpose, m.currency, m.authorisation)
	if err != nil {
		return o, err
	}
	switch m.kind {
	case authorise:
		o.From, o.To = m.account, system
	case capture:
		o.From = system
		o.To, err = d.accounts.System(ctx, ledger.Merchants, m.currency, m.authorisation)
	default:
		o.From, o.To = system, m.account
	}
	return o, err
}

// tell writes an event, if nobody has yet: as long as a movement is pending, it has its row in ledger_outbox.
const tell = "INSERT INTO outbox (event) SELECT ? FROM ledger_outbox WHERE movement = ?"

// end writes down a movement's outcome, if nobody has yet. The statement at the place
// that it returns changes a row then; it locks the movement, so that those behind it
// see what another has written.
func (m movement) end(tx *transaction, out ledger.Outcome[ledger.Transfer], state string, answer service.Answer) (int, error) {
	var transfer *int64
	if out.Made != nil {
		transfer = &out.Made.ID
	}
	// One instant for the row and its event, so that both are of the same month.
	at := time.Now().UTC().Truncate(time.Microsecond)
	place := tx.write("UPDATE movements SET state = ?, transfer = ?, updated = ? WHERE id = ? AND state = '"+Pending+"'", state, transfer, at, m.id)
	event := outbox.Event{Account: m.account, Kind: eventKind, Category: m.category, Merchant: m.merchant, Currency: m.currency, Amount: m.amount, At: at}
	switch m.kind {
	case authorise:
		now := Authorised
		if state == Declined {
			now = Declined
		}
		tx.write("UPDATE authorisations SET state = ?, updated = current_timestamp(6) WHERE id = ? AND state = '"+Pending+"'", now, m.authorisation)
	case refund:
		event.Amount = -m.amount
		fallthrough
	case capture:
		text, err := event.Text()
		if err != nil {
			return 0, err
		}
		tx.write(tell, text, m.id)
	}
	tx.write("DELETE FROM ledger_outbox WHERE movement = ?", m.id)
	if m.key.Valid {
		complete(tx, m.key.String, answer)
	}
	return place, nil
}

// answer is what the client is told of an outcome, and the movement's state.
func (m movement) answer(out ledger.Outcome[ledger.Transfer]) (service.Answer, string, error) {
	switch {
	case out.Refused != nil:
		a, err := service.JSON(out.Refused.Status, struct {
			ID    int64  `json:"id"`
			State string `json:"state"`
			Error string `json:"error"`
			Code  string `json:"code"`
		}{m.authorisation, Declined, out.Refused.Text, out.Refused.Code})
		return a, Declined, err
	case m.kind == authorise:
		a, err := service.JSON(http.StatusCreated, struct {
			ID          int64  `json:"id"`
			State       string `json:"state"`
			Card        int64  `json:"card"`
			Amount      int64  `json:"amount"`
			Currency    string `json:"currency"`
			Movement    int64  `json:"movement"`
			Transfer    int64  `json:"transfer"`
			FromBalance int64  `json:"from_balance"`
			FromVersion int64  `json:"from_version"`
		}{m.authorisation, Authorised, m.card, m.amount, m.currency, m.id, out.Made.ID, out.Made.FromBalance, out.Made.FromVersion})
		return a, Posted, err
	}
	state := Captured
	if m.kind == reverse {
		state = Reversed
	}
	a, err := service.JSON(http.StatusOK, struct {
		ID       int64  `json:"id"`
		State    string `json:"state"`
		Movement int64  `json:"movement"`
		Transfer int64  `json:"transfer"`
	}{m.authorisation, state, m.id, out.Made.ID})
	return a, Posted, err
}
