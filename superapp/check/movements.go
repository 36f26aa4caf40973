package check

import (
	"context"
	"fmt"

	"dhow/superapp/ledger"
)

// Kinds and states of card movements, and the key of a movement's transfer: this
// is how the application derives it.
const (
	authorise = "authorise"
	capture   = "capture"
	reverse   = "reverse"
	refund    = "refund"
	posted    = "posted"
)

const (
	allMovements = "SELECT id, kind, amount, currency, account, state, coalesce(transfer, 0) FROM movements"
	// A key that is of no movement has 0 for it, as a movement has no such id.
	allCardTransfers = `SELECT m.movement, t.key, t.id, t.amount, t.currency, coalesce(f.account, 0), coalesce(fa.purpose, ''), coalesce(g.account, 0), coalesce(ga.purpose, '')
		FROM transfers t CROSS JOIN LATERAL (SELECT CASE WHEN t.key ~ '^card:[1-9][0-9]{0,17}$' THEN substr(t.key, 6)::bigint ELSE 0 END) m (movement)
			LEFT JOIN entries f ON f.transfer = t.id AND f.amount < 0 LEFT JOIN accounts fa ON fa.id = f.account
			LEFT JOIN entries g ON g.transfer = t.id AND g.amount > 0 LEFT JOIN accounts ga ON ga.id = g.account
		WHERE t.key LIKE 'card:%' AND ($1::bigint[] IS NULL OR m.movement = ANY($1)) ORDER BY m.movement, t.id`
)

// movement is money that a card moved, as the cards service has it.
type movement struct {
	id, amount, account, transfer int64
	kind, currency, state         string
}

func scanMovement(r rows, m *movement) error {
	return r.Scan(&m.id, &m.kind, &m.amount, &m.currency, &m.account, &m.state, &m.transfer)
}

// step is a transfer, or a hold, that the ledger has of a movement or a send.
type step struct {
	of           int64  // its movement or send
	name         string // its key, or what it is for a send
	id, amount   int64
	currency     string
	from, to     int64
	payer, payee string // what the system keeps the account for
	state        string // a hold's
	transfer     int64  // that captured a hold
}

func scanCardTransfer(r rows, t *step) error {
	return r.Scan(&t.of, &t.name, &t.id, &t.amount, &t.currency, &t.from, &t.payer, &t.to, &t.payee)
}

// movements holds each movement of a card against the ledger, both ways.
func (c *checker) movements(ctx context.Context) error {
	if c.cards == nil {
		return nil
	}
	return compare(ctx, c, comparison[int64]{kind: HalfMovement, of: func(id int64) string { return fmt.Sprintf("card movement %d", id) }, run: mergeMovements})
}

func mergeMovements(ctx context.Context, c *checker, only []int64, tell func(id int64, wrong string)) error {
	statement, args := allMovements, []any(nil)
	if only != nil {
		statement, args = in(statement+" WHERE id IN", only)
	}
	ms, err := open(ctx, c.cards, scanMovement, statement+" ORDER BY id", args...)
	if err != nil {
		return err
	}
	defer ms.close()
	ts, err := open(ctx, c.accounts, scanCardTransfer, allCardTransfers, only)
	if err != nil {
		return err
	}
	defer ts.close()
	return merge(ms, func(m *movement) int64 { return m.id }, ts, func(t *step) int64 { return t.of }, func(id int64, ms []movement, ts []step) {
		switch {
		case len(ms) > 1:
			tell(id, fmt.Sprintf("there are %d movements with this id", len(ms)))
		case len(ms) == 0:
			tell(id, fmt.Sprintf("there is no such movement for transfer %d (key %s)", ts[0].id, ts[0].name))
		default:
			if wrong := ms[0].disagree(ts); wrong != "" {
				tell(id, wrong)
			}
		}
	})
}

// disagree says what is wrong between a movement and the transfers with its key.
func (m movement) disagree(ts []step) string {
	var want *step // if there is none, an entry is missing; that is told among the transfers that do not balance
	if len(ts) > 0 {
		want = &ts[0] // a second one with this key is told among the doubled
	}
	switch {
	case m.state != posted && m.state != declined && m.state != pending:
		return fmt.Sprintf("it is in an unknown state, %q", m.state)
	case m.state == declined && want != nil:
		return fmt.Sprintf("it is declined and transfer %d moved its money", want.id)
	case m.state == posted && want == nil:
		return "it is posted and no money moved"
	case m.state == posted && m.transfer != want.id:
		return fmt.Sprintf("it names transfer %d, and its money moved with %d", m.transfer, want.id)
	case m.state != posted && m.transfer != 0:
		return fmt.Sprintf("it is %s and names transfer %d", m.state, m.transfer)
	case want == nil:
		return ""
	}
	payer, payee, known := "", "", true // of the customer the purpose is empty
	switch m.kind {
	case authorise:
		payee = ledger.Cards
	case capture:
		payer, payee = ledger.Cards, ledger.Merchants
	case reverse:
		payer = ledger.Cards
	case refund:
		payer = ledger.Merchants
	default:
		known = false
	}
	from, to := want.from, want.to
	if payer != "" && want.payer == payer {
		from = m.account
	}
	if payee != "" && want.payee == payee {
		to = m.account
	}
	if !known || want.amount != m.amount || want.currency != m.currency || from != m.account || to != m.account {
		return fmt.Sprintf("it is the %s of %d %s for account %d, and transfer %d moved %d %s from account %d (%s) to %d (%s)",
			m.kind, m.amount, m.currency, m.account, want.id, want.amount, want.currency, want.from, orCustomer(want.payer), want.to, orCustomer(want.payee))
	}
	return ""
}

// orCustomer names whose account it is.
func orCustomer(purpose string) string {
	if purpose == "" {
		return "a customer's"
	}
	return purpose
}
