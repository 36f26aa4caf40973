// Package history is what a client did and what it was told: one JSON line an
// operation, written when the operation ends. The traffic writes it, the checker
// and the demo read it. It knows nothing of HTTP or of databases.
package history

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Op names what was asked for.
type Op string

// The operations. Those that change what a database keeps are writes; a quote
// only reserves a price for a while.
const (
	Pay       Op = "pay"       // POST /payments
	Transfer  Op = "transfer"  // POST /transfers
	Request   Op = "request"   // POST /requests
	Accept    Op = "accept"    // POST /requests/{id}/accept
	Split     Op = "split"     // POST /splits
	Send      Op = "send"      // POST /sends
	Card      Op = "card"      // POST /cards
	Authorise Op = "authorise" // POST /cards/{id}/authorisations
	Capture   Op = "capture"   // POST /authorisations/{id}/capture
	Reverse   Op = "reverse"   // POST /authorisations/{id}/reverse
	Refund    Op = "refund"    // POST /authorisations/{id}/refund

	Quote     Op = "quote"     // POST /quotes
	Read      Op = "read"      // GET /accounts/{id}
	Statement Op = "statement" // GET /accounts/{id}/entries
	Insights  Op = "insights"  // GET /insights/{account}
	Rates     Op = "rates"     // GET /rates/{from}/{to}
	Corridor  Op = "corridor"  // GET /corridors/{country}
)

// Ops are all operations.
func Ops() []Op {
	return []Op{Pay, Transfer, Request, Accept, Split, Send, Card, Authorise, Capture, Reverse, Refund, Quote, Read, Statement, Insights, Rates, Corridor}
}

// Write says whether the operation changes something.
func (o Op) Write() bool {
	switch o {
	case Pay, Transfer, Request, Accept, Split, Send, Card, Authorise, Capture, Reverse, Refund:
		return true
	}
	return false
}

// Cards says whether the operation is a write of the cards service.
func (o Op) Cards() bool {
	return o == Card || o == Authorise || o == Capture || o == Reverse || o == Refund
}

// Shows says whether the operation shows an account at one of its versions.
func (o Op) Shows() bool { return o == Read || o == Statement }

// ofAccount says whether the operation looks at what belongs to one account.
func (o Op) ofAccount() bool { return o == Quote || o == Read || o == Statement || o == Insights }

func (o Op) known() bool { return o.Write() || o.ofAccount() || o == Rates || o == Corridor }

// Outcome is what the client knows when an operation has ended.
type Outcome string

// The outcomes.
const (
	// Acknowledged: the answer says that it was done. It must stay done.
	Acknowledged Outcome = "acknowledged"
	// Refused: the application's own right to say no, such as too little money. Nothing was done.
	Refused Outcome = "refused"
	// Failed: a definite answer that nothing was done, or nothing was ever sent.
	Failed Outcome = "failed"
	// Unknown: no answer, half an answer, or one that says neither. Done once or not at all.
	Unknown Outcome = "unknown"
	// Late: never sent, because no connection became free in time.
	Late Outcome = "late"
)

func (o Outcome) known() bool {
	return o == Acknowledged || o == Refused || o == Failed || o == Unknown || o == Late
}

// Record is one operation. Times are nanoseconds since 1970 of one clock that
// never goes back; amounts and balances are minor units; what does not apply is zero.
type Record struct {
	Op Op `json:"op"`
	// Key is the idempotency key that was sent; no other operation has it.
	Key string `json:"key,omitempty"`
	// Client is the number of the connection.
	Client int `json:"client"`
	// From and To are the parties of a payment, a transfer or a request (payer and
	// payee); From is also whose card or send it is, To who splits a bill.
	From     int64  `json:"from,omitempty"`
	To       int64  `json:"to,omitempty"`
	Account  int64  `json:"account,omitempty"`
	Amount   int64  `json:"amount,omitempty"`
	Currency string `json:"currency,omitempty"`
	// Request is the request that was accepted.
	Request int64 `json:"request,omitempty"`
	// Card is the card that was used, Authorisation what was captured, reversed or refunded of it.
	Card          int64 `json:"card,omitempty"`
	Authorisation int64 `json:"authorisation,omitempty"`
	// Quote is the quote that was made or used, Shares how many were to pay of a split.
	Quote  string `json:"quote,omitempty"`
	Shares int    `json:"shares,omitempty"`
	// Scheduled is when it should have been sent, Sent when it was, Done when its
	// outcome was known. An operation that was never sent has no Sent.
	Scheduled int64   `json:"scheduled,omitempty"`
	Sent      int64   `json:"sent,omitempty"`
	Done      int64   `json:"done"`
	Outcome   Outcome `json:"outcome"`
	// Status is the answer's HTTP status, Code its machine-readable reason.
	Status int    `json:"status,omitempty"`
	Code   string `json:"code,omitempty"`
	// ID is the id of what was made: a payment's, a transfer's, a request's, a
	// split's, a send's, a card's, an authorisation's, or the movement of what
	// followed one.
	ID int64 `json:"id,omitempty"`
	// Transfer is the transfer that moved its money, Hold what keeps a send's.
	Transfer int64 `json:"transfer,omitempty"`
	Hold     int64 `json:"hold,omitempty"`
	// Version and Balance are what the answer showed of the account (From, for a
	// write); ToVersion is the other party's, where the answer shows it.
	Version   int64 `json:"version,omitempty"`
	ToVersion int64 `json:"to_version,omitempty"`
	Balance   int64 `json:"balance,omitempty"`
	// Replayed: the answer was a stored one, for a key that was there before.
	Replayed bool   `json:"replayed,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Due is the instant from which a client's wait counts: when the operation was
// scheduled, or sent where no schedule is known.
func (r *Record) Due() int64 {
	if r.Scheduled > 0 {
		return r.Scheduled
	}
	return r.Sent
}

// Wait is how long the client waited in all, in nanoseconds.
func (r *Record) Wait() int64 { return r.Done - r.Due() }

// errors of a line that is JSON but no operation.
var (
	errOp      = errors.New("unknown op")
	errOutcome = errors.New("unknown outcome")
	errKey     = errors.New("a write without its key")
	errTimes   = errors.New("its times are out of order")
	errAccount = errors.New("a read without its account")
)

// Parse reads one line.
func Parse(line []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return Record{}, err
	}
	if err := r.check(); err != nil {
		return Record{}, err
	}
	return r, nil
}

func (r *Record) check() error {
	switch {
	case !r.Op.known():
		return fmt.Errorf("%w %q", errOp, r.Op)
	case !r.Outcome.known():
		return fmt.Errorf("%w %q", errOutcome, r.Outcome)
	case r.Op.Write() && r.Key == "":
		return errKey
	case r.Op.ofAccount() && r.Account <= 0:
		return errAccount
	case r.Outcome == Late:
		if r.Sent != 0 || r.Scheduled <= 0 || r.Done < r.Scheduled {
			return errTimes
		}
	case r.Sent <= 0 || r.Done < r.Sent || r.Scheduled < 0 || r.Scheduled > r.Sent:
		return errTimes
	}
	return nil
}
