package transfers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/superapp/ledger"
	"dhow/superapp/service"
)

// States of sends.
const (
	Created   = "created"   // written down; nothing is held yet
	Declined  = "declined"  // the accounts service refused to hold the money
	Held      = "held"      // the money is held; the customer may still cancel
	Cancelled = "cancelled" // the customer did; nothing is held any more
	Submitted = "submitted" // the money is with the payouts, the order with the provider
	Paid      = "paid"      // the provider paid, and the fee is earned
	Failed    = "failed"    // the provider did not pay
	Refunded  = "refunded"  // and the customer has all of it back
)

// step is what is done for a send in a state, and where that may lead.
//
// Each step first does its work at the accounts service, under a key that follows
// from the send's id, and is written down then. So it may be done again, after a
// crash and by two at once: the work's outcome is the same each time, and only the
// first to write it down moves the send.
type step struct {
	do func(*desk, context.Context, send) (move, error)
	to []string
}

// steps are the whole machine. A state without a step is an end. Beside them only
// the customer moves a send: from held to cancelled.
func steps() map[string]step {
	return map[string]step{
		Created:   {(*desk).hold, []string{Held, Declined}},
		Held:      {(*desk).submit, []string{Submitted, Cancelled}},
		Submitted: {(*desk).follow, []string{Paid, Failed}},
		Failed:    {(*desk).refund, []string{Refunded}},
	}
}

// rest is how long a send is left alone in a state; false says for ever.
func (d *desk) rest(state string) (time.Duration, bool) {
	switch state {
	case Held:
		return d.submitAfter, true
	case Submitted:
		return d.payAfter, true
	}
	_, moves := steps()[state]
	return 0, moves
}

// send is what the steps need of one.
type send struct {
	id                 int64
	key                string
	account            int64
	sendAmount         int64
	fee, total         int64
	currency           string
	receiveAmount      int64
	receiveCurrency    string
	rate               string
	provider           string
	quote              string
	country            string
	state              string
	held               int64 // the hold's id; 0 before it is made
	name, purpose      string
	captured, refunded *int64
	created, updated   time.Time
}

// stepKey names a step's work at the accounts service.
func (s send) stepKey(step string) string { return fmt.Sprintf("%s%d:%s", ledger.SendKey, s.id, step) }

func (s send) reference() string { return fmt.Sprintf("send %d", s.id) }

// move is where a step led, and what it made; nil is nothing.
type move struct {
	to                                 string
	hold, capture, feeTransfer, refund *int64
	answer                             *service.Answer // to who asked for the send
}

// holdClosed is the accounts service's refusal of a hold that has ended.
const holdClosed = "hold_closed"

// refusedStep says that the accounts service refuses what it must not: somebody has
// to look. The send stays, and is tried again.
func refusedStep(what string, r *service.Refusal) error {
	return fmt.Errorf("the accounts service refuses to %s, which must not be: compare the send with its hold and its transfers: %s: %s", what, r.Code, r.Text)
}

// hold keeps the money from being spent.
func (d *desk) hold(ctx context.Context, s send) (move, error) {
	out, err := d.accounts.Hold(ctx, s.stepKey("hold"), ledger.HoldOrder{Account: s.account, Amount: s.total, Currency: s.currency, Reference: s.reference()})
	if err != nil {
		return move{}, err
	}
	if out.Refused != nil {
		answer, err := service.JSON(out.Refused.Status, struct {
			ID    int64  `json:"id"`
			State string `json:"state"`
			Error string `json:"error"`
			Code  string `json:"code"`
		}{s.id, Declined, out.Refused.Text, out.Refused.Code})
		return move{to: Declined, answer: &answer}, err
	}
	s.state, s.held = Held, out.Made.ID
	answer, err := service.JSON(http.StatusCreated, s.view())
	return move{to: Held, hold: &s.held, answer: &answer}, err
}

// submit takes the held money and gives the order to the provider. Whether that or
// the customer's cancelling came first, the hold decides: it ends once.
func (d *desk) submit(ctx context.Context, s send) (move, error) {
	payouts, err := d.accounts.System(ctx, ledger.Payouts, s.currency, s.id)
	if err != nil {
		return move{}, err
	}
	out, err := d.accounts.Capture(ctx, s.stepKey("capture"), s.held, payouts, s.total)
	if err != nil {
		return move{}, err
	}
	if out.Made != nil {
		return move{to: Submitted, capture: &out.Made.Transfer}, nil
	}
	if out.Refused.Code != holdClosed {
		return move{}, refusedStep("capture a hold", out.Refused)
	}
	// Only a cancelling releases, and its key tells that it did.
	released, err := d.accounts.Release(ctx, s.stepKey("release"), s.held)
	if err != nil {
		return move{}, err
	}
	if released.Refused != nil {
		return move{}, refusedStep("capture a hold", out.Refused)
	}
	return move{to: Cancelled}, nil
}

// follow asks the provider how it went, and earns the fee when it went well.
func (d *desk) follow(ctx context.Context, s send) (move, error) {
	if providerFails(s.id) {
		return move{to: Failed}, nil
	}
	if s.fee == 0 {
		return move{to: Paid}, nil
	}
	id, err := d.fromPayouts(ctx, s, "fee", s.fee, func() (int64, error) { return d.accounts.System(ctx, ledger.Fees, s.currency, s.id) })
	return move{to: Paid, feeTransfer: id}, err
}

// refund gives all back: the amount and the fee.
func (d *desk) refund(ctx context.Context, s send) (move, error) {
	id, err := d.fromPayouts(ctx, s, "refund", s.total, func() (int64, error) { return s.account, nil })
	return move{to: Refunded, refund: id}, err
}

// fromPayouts moves money that was captured on to somebody's account.
func (d *desk) fromPayouts(ctx context.Context, s send, step string, amount int64, whose func() (int64, error)) (*int64, error) {
	to, err := whose()
	if err != nil {
		return nil, err
	}
	payouts, err := d.accounts.System(ctx, ledger.Payouts, s.currency, s.id)
	if err != nil {
		return nil, err
	}
	out, err := d.accounts.Transfer(ctx, s.stepKey(step), ledger.Order{From: payouts, To: to, Amount: amount, Currency: s.currency, Reference: s.reference()})
	if err != nil {
		return nil, err
	}
	if out.Refused != nil {
		return nil, refusedStep("move the "+step, out.Refused)
	}
	return &out.Made.ID, nil
}

// failsOneIn is how many sends there are for each that a provider does not pay.
const failsOneIn = 50

// providerFails simulates a provider: it pays, but for one send in failsOneIn, and
// says the same however often it is asked.
func providerFails(id int64) bool {
	h := fnv.New32a()
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(id))) // a hash's Write does not fail
	return h.Sum32()%failsOneIn == 0
}

// moveSend writes a step down, with the answer to who asked for the send, and
// tells of money that was paid. Of two it lets the first.
const moveSend = `
WITH s AS (
    UPDATE sends SET state = $3, hold = coalesce($4, hold), capture = coalesce($5, capture), fee_transfer = coalesce($6, fee_transfer), refund = coalesce($7, refund),
        updated = clock_timestamp(), due = clock_timestamp() + $8::interval
    WHERE id = $1 AND state = $2
    RETURNING key, state, account, currency, total, country, updated
), k AS (
    UPDATE idempotency SET status = $9, answer = $10::jsonb FROM s WHERE idempotency.key = s.key AND status = $11 AND $9::int IS NOT NULL RETURNING answer
), o AS (
    INSERT INTO outbox (event)
    SELECT jsonb_build_object('account', account, 'kind', 'send', 'category', 'abroad', 'merchant', country, 'currency', currency, 'amount', total, 'at', updated)
    FROM s WHERE state = '` + Paid + `'
)
SELECT (SELECT answer::text FROM k), EXISTS (SELECT FROM s)`

// advance does the step of a send's state and writes it down. It gives the send as
// it is then, and the answer that it stored, if it did. A send at its end stays as it is.
func (d *desk) advance(ctx context.Context, s send) (send, *service.Answer, error) {
	step, moves := steps()[s.state]
	if !moves {
		return s, nil, nil
	}
	m, err := step.do(d, ctx, s)
	if err != nil {
		return s, nil, fmt.Errorf("move send %d on from %s: %w", s.id, s.state, err)
	}
	if !slices.Contains(step.to, m.to) {
		return s, nil, fmt.Errorf("send %d may not go from %s to %s", s.id, s.state, m.to)
	}
	var due *time.Duration
	if rest, more := d.rest(m.to); more {
		due = &rest
	}
	var status *int
	var body, stored *string
	if m.answer != nil {
		text := string(m.answer.Body)
		status, body = &m.answer.Status, &text
	}
	var moved bool
	err = d.db.QueryRow(ctx, moveSend, s.id, s.state, m.to, m.hold, m.capture, m.feeTransfer, m.refund, due, status, body, service.InProgress).Scan(&stored, &moved)
	if err != nil {
		return s, nil, fmt.Errorf("write down that send %d is %s: %w", s.id, m.to, err)
	}
	if !moved { // somebody else was quicker
		s, err = d.byID(ctx, s.id)
		return s, nil, err
	}
	d.moves.WithLabelValues(m.to).Inc()
	s.state = m.to
	if m.hold != nil {
		s.held = *m.hold
	}
	if stored == nil {
		return s, nil, nil
	}
	return s, &service.Answer{Status: *status, Body: []byte(*stored)}, nil
}

// columns are a send's, in the order in which scan reads them.
const columns = `id, key, quote, account, country, send_amount, fee, total, currency, receive_amount, receive_currency, rate, provider, beneficiary->>'name', purpose, state,
    coalesce(hold, 0), capture, refund, created, updated`

func (s *send) scan(row pgx.Row) error {
	err := row.Scan(&s.id, &s.key, &s.quote, &s.account, &s.country, &s.sendAmount, &s.fee, &s.total, &s.currency, &s.receiveAmount, &s.receiveCurrency, &s.rate, &s.provider,
		&s.name, &s.purpose, &s.state, &s.held, &s.captured, &s.refunded, &s.created, &s.updated)
	s.created, s.updated = s.created.UTC(), s.updated.UTC()
	return err
}

const (
	sendByID  = "SELECT " + columns + " FROM sends WHERE id = $1"
	sendByKey = "SELECT " + columns + " FROM sends WHERE key = $1"
)

func (d *desk) byID(ctx context.Context, id int64) (send, error) {
	var s send
	err := s.scan(d.db.QueryRow(ctx, sendByID, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return s, &service.Refusal{Status: http.StatusNotFound, Code: "unknown_send", Text: fmt.Sprintf("there is no send %d", id)}
	}
	if err != nil {
		return s, fmt.Errorf("read a send: %w", err)
	}
	return s, nil
}
