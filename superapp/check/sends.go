package check

import (
	"context"
	"fmt"
	"slices"

	"dhow/superapp/ledger"
)

const (
	allSends = `SELECT id, account, total, fee, currency, state, coalesce(hold, 0), coalesce(capture, 0), coalesce(fee_transfer, 0), coalesce(refund, 0)
		FROM sends WHERE $1::bigint[] IS NULL OR id = ANY($1) ORDER BY id`
	// What the ledger has of sends: their holds and transfers. A key that is of no
	// send has 0 for it, as a send has no such id.
	allSendSteps = `SELECT CASE WHEN k.fits THEN split_part(s.key, ':', 2)::bigint ELSE 0 END AS send, CASE WHEN k.fits THEN split_part(s.key, ':', 3) ELSE s.key END,
			s.id, s.amount, s.currency, s.from, s.payer, s.to, s.payee, s.state, s.transfer
		FROM (
			SELECT h.key, h.id, h.amount, h.currency, h.account AS from, '' AS payer, 0 AS to, '' AS payee, h.state, coalesce(h.transfer, 0) AS transfer FROM holds h WHERE h.key LIKE 'send:%'
			UNION ALL
			SELECT t.key, t.id, t.amount, t.currency, coalesce(f.account, 0), coalesce(fa.purpose, ''), coalesce(g.account, 0), coalesce(ga.purpose, ''), '', 0
			FROM transfers t LEFT JOIN entries f ON f.transfer = t.id AND f.amount < 0 LEFT JOIN accounts fa ON fa.id = f.account
				LEFT JOIN entries g ON g.transfer = t.id AND g.amount > 0 LEFT JOIN accounts ga ON ga.id = g.account
			WHERE t.key LIKE 'send:%') s
			CROSS JOIN LATERAL (SELECT s.key ~ CASE WHEN s.state <> '' THEN '^send:[1-9][0-9]{0,17}:hold$' ELSE '^send:[1-9][0-9]{0,17}:(capture|fee|refund)$' END) k (fits)
		WHERE $1::bigint[] IS NULL OR k.fits AND split_part(s.key, ':', 2) = ANY($1::text[]) OR NOT k.fits AND 0 = ANY($1)
		ORDER BY send, s.id`
)

// The steps of a send at the ledger, as its keys name them.
const (
	stepHold    = "hold"
	stepCapture = "capture"
	stepFee     = "fee"
	stepRefund  = "refund"
)

// has says whether a step of a send is there in a state.
type has int

const (
	never has = iota
	may       // it is on its way
	must
)

// sendStates are what each state of a send says of its money. A step is made at
// the ledger before the send's state tells, so the step that leads on may be there.
var sendStates = map[string]struct {
	hold, capture, fee, refund has
	holds                      []string // the hold's states
}{
	"created":   {hold: may, holds: []string{"held"}},
	"declined":  {},
	"held":      {hold: must, capture: may, holds: []string{"held", "captured", "released"}},
	"cancelled": {hold: must, holds: []string{"released"}},
	"submitted": {hold: must, capture: must, fee: may, holds: []string{"captured"}},
	"paid":      {hold: must, capture: must, fee: must, holds: []string{"captured"}},
	"failed":    {hold: must, capture: must, refund: may, holds: []string{"captured"}},
	"refunded":  {hold: must, capture: must, refund: must, holds: []string{"captured"}},
}

// sent is a send as the transfers service has it.
type sent struct {
	id, account, total, fee       int64
	currency, state               string
	hold, capture, earned, refund int64 // rows of the ledger; earned is the fee's
	quote                         string
}

func scanSend(r rows, s *sent) error {
	return r.Scan(&s.id, &s.account, &s.total, &s.fee, &s.currency, &s.state, &s.hold, &s.capture, &s.earned, &s.refund)
}

func scanSendStep(r rows, s *step) error {
	return r.Scan(&s.of, &s.name, &s.id, &s.amount, &s.currency, &s.from, &s.payer, &s.to, &s.payee, &s.state, &s.transfer)
}

// sends holds each send against the ledger, both ways.
func (c *checker) sends(ctx context.Context) error {
	if c.transfers == nil {
		return nil
	}
	return compare(ctx, c, comparison[int64]{kind: HalfSend, of: func(id int64) string { return fmt.Sprintf("send %d", id) }, run: mergeSends})
}

func mergeSends(ctx context.Context, c *checker, only []int64, tell func(id int64, wrong string)) error {
	ss, err := open(ctx, c.transfers, scanSend, allSends, only)
	if err != nil {
		return err
	}
	defer ss.close()
	steps, err := open(ctx, c.accounts, scanSendStep, allSendSteps, only)
	if err != nil {
		return err
	}
	defer steps.close()
	return merge(ss, func(s *sent) int64 { return s.id }, steps, func(s *step) int64 { return s.of }, func(id int64, ss []sent, steps []step) {
		switch {
		case len(ss) > 1:
			tell(id, fmt.Sprintf("there are %d sends with this id", len(ss)))
		case len(ss) == 0:
			tell(id, fmt.Sprintf("there is no such send for %s, row %d", steps[0].name, steps[0].id))
		default:
			if wrong := ss[0].disagree(steps); wrong != "" {
				tell(id, wrong)
			}
		}
	})
}

// disagree says what is wrong between a send and what the ledger has of it.
func (s sent) disagree(steps []step) string {
	allowed, known := sendStates[s.state]
	if !known {
		return fmt.Sprintf("it is in an unknown state, %q", s.state)
	}
	got := map[string]step{}
	for _, one := range steps {
		if _, twice := got[one.name]; !twice { // a second one with this key is told among the doubled
			got[one.name] = one
		}
	}
	for _, w := range []struct {
		name         string
		has          has
		named        int64 // the row that the send names
		amount       int64
		payer, payee string // what the system keeps the account for; the customer's is its own
	}{
		{stepHold, allowed.hold, s.hold, s.total, "", ""},
		{stepCapture, allowed.capture, s.capture, s.total, "", ledger.Payouts},
		{stepFee, allowed.fee, s.earned, s.fee, ledger.Payouts, ledger.Fees},
		{stepRefund, allowed.refund, s.refund, s.total, ledger.Payouts, ""},
	} {
		one, there := got[w.name]
		switch {
		case w.name == stepFee && s.fee == 0 && there:
			return fmt.Sprintf("it has no fee, and transfer %d moved one", one.id)
		case w.name == stepFee && s.fee == 0:
			continue
		case there && w.has == never:
			return fmt.Sprintf("it is %s, and the ledger has its %s (row %d)", s.state, w.name, one.id)
		case !there && (w.has == must || w.named != 0):
			return fmt.Sprintf("it is %s, and the ledger has no %s of it", s.state, w.name)
		case !there:
			continue
		case w.named != 0 && w.named != one.id, w.named == 0 && w.has == must:
			return fmt.Sprintf("it names row %d for its %s, and that is row %d", w.named, w.name, one.id)
		}
		from, to := s.account, s.account
		if w.payer != "" && one.payer == w.payer {
			from = one.from
		}
		if w.payee != "" && one.payee == w.payee || w.name == stepHold {
			to = one.to
		}
		if one.amount != w.amount || one.currency != s.currency || one.from != from || one.to != to {
			return fmt.Sprintf("its %s is of %d %s for account %d, and row %d has %d %s from account %d (%s) to %d (%s)", w.name, w.amount, s.currency, s.account,
				one.id, one.amount, one.currency, one.from, orCustomer(one.payer), one.to, orCustomer(one.payee))
		}
	}
	return s.disagreeHold(got, allowed.holds)
}

// disagreeHold says what is wrong with the state of a send's hold.
func (s sent) disagreeHold(got map[string]step, allowed []string) string {
	hold, held := got[stepHold]
	if !held {
		return ""
	}
	taken, captured := got[stepCapture]
	switch {
	case !slices.Contains(allowed, hold.state):
		return fmt.Sprintf("it is %s and its hold is %s", s.state, hold.state)
	case (hold.state == "captured") != captured, captured && hold.transfer != taken.id:
		return fmt.Sprintf("its hold is %s with transfer %d, and its capture is transfer %d", hold.state, hold.transfer, taken.id)
	}
	return ""
}
