package check

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"dhow/superapp/history"
)

// Kind is a kind of fault.
type Kind string

// The kinds.
const (
	Lost            Kind = "lost_write"
	Doubled         Kind = "doubled_write"
	AppliedRefusal  Kind = "applied_refusal"
	WrongAnswer     Kind = "wrong_answer"
	LostAnswer      Kind = "lost_answer"
	CreatedMoney    Kind = "created_money"
	Unbalanced      Kind = "unbalanced_transfer"
	BrokenAccount   Kind = "broken_account"
	Overdrawn       Kind = "overdrawn_account"
	BrokenHold      Kind = "broken_hold"
	HalfPayment     Kind = "half_payment"
	BrokenSplit     Kind = "broken_split"
	HalfSend        Kind = "half_send"
	HalfMovement    Kind = "half_movement"
	BrokenCard      Kind = "broken_authorisation"
	Miscounted      Kind = "miscounted_spending"
	StaleRead       Kind = "stale_read"
	StaleWrite      Kind = "stale_write"
	ImpossibleRead  Kind = "impossible_read"
	BothSidesWrote  Kind = "both_sides_wrote"
	WroteElsewhere  Kind = "wrote_elsewhere"
	UnknownInstance Kind = "unknown_instance"
)

// kinds says what each fault is and where it is counted, in the order of the table.
var kinds = []struct {
	kind Kind
	name string
	into func(*Report) *int64
}{
	{Lost, "acknowledged writes that are missing", func(r *Report) *int64 { return &r.LostWrites }},
	{Doubled, "writes that were done twice", func(r *Report) *int64 { return &r.DoubledWrites }},
	{AppliedRefusal, "refused or failed writes that were done", func(r *Report) *int64 { return &r.AppliedRefusals }},
	{WrongAnswer, "writes that were done otherwise than asked or answered", func(r *Report) *int64 { return &r.WrongAnswers }},
	{LostAnswer, "stored answers that are missing", func(r *Report) *int64 { return &r.LostAnswers }},
	{CreatedMoney, "currencies in which money was made or lost", func(r *Report) *int64 { return &r.CreatedMoney }},
	{Unbalanced, "transfers that do not balance", func(r *Report) *int64 { return &r.UnbalancedTransfers }},
	{BrokenAccount, "faults of accounts and their entries", func(r *Report) *int64 { return &r.BrokenAccounts }},
	{Overdrawn, "customers' accounts below zero", func(r *Report) *int64 { return &r.OverdrawnAccounts }},
	{BrokenHold, "faults of holds", func(r *Report) *int64 { return &r.BrokenHolds }},
	{HalfPayment, "payments and transfers that disagree", func(r *Report) *int64 { return &r.HalfPayments }},
	{BrokenSplit, "splits that do not add up", func(r *Report) *int64 { return &r.BrokenSplits }},
	{HalfSend, "sends and their money that disagree", func(r *Report) *int64 { return &r.HalfSends }},
	{HalfMovement, "card movements and transfers that disagree", func(r *Report) *int64 { return &r.HalfMovements }},
	{BrokenCard, "authorisations that are not their movements", func(r *Report) *int64 { return &r.BrokenAuthorisations }},
	{Miscounted, "sums of spending that are not what was spent", func(r *Report) *int64 { return &r.MiscountedSpending }},
	{StaleRead, "reads that went back in time", func(r *Report) *int64 { return &r.StaleReads }},
	{StaleWrite, "writes upon a state that was older than one seen", func(r *Report) *int64 { return &r.StaleWrites }},
	{ImpossibleRead, "reads of a state that never was", func(r *Report) *int64 { return &r.ImpossibleReads }},
	{BothSidesWrote, "changes of the serving side beyond those allowed, and rows that differ", func(r *Report) *int64 { return &r.extraChanges }},
	{WroteElsewhere, "rows that were first committed on the wrong side", func(r *Report) *int64 { return &r.WroteElsewhere }},
	{UnknownInstance, "rows of an instance that is neither source nor target", func(r *Report) *int64 { return &r.UnknownInstances }},
}

// Finding is one fault.
type Finding struct {
	Kind Kind `json:"kind"`
	// Of names what it is about, by its key or id.
	Of string `json:"of"`
	// What says what is wrong with it.
	What string `json:"what"`
}

// Report is what a check found.
type Report struct {
	// OK says that nothing is wrong.
	OK bool `json:"ok"`

	// Operations counts the histories' operations, by outcome below.
	Operations         int64                     `json:"operations"`
	Outcomes           map[history.Outcome]int64 `json:"outcomes"`
	AcknowledgedWrites int64                     `json:"acknowledged_writes"`
	// TornHistories end in half a line, as a killed client leaves it.
	TornHistories int64 `json:"torn_histories"`
	// Accounts and so on are the rows that were looked at.
	Accounts  int64 `json:"accounts"`
	Transfers int64 `json:"transfers"`
	Entries   int64 `json:"entries"`
	Payments  int64 `json:"payments"`
	Requests  int64 `json:"requests"`
	Holds     int64 `json:"holds"`
	Splits    int64 `json:"splits"`
	// Those of the databases that were given: else 0.
	Sends          int64 `json:"sends"`
	Quotes         int64 `json:"quotes"`
	Cards          int64 `json:"cards"`
	Authorisations int64 `json:"authorisations"`
	CardMovements  int64 `json:"card_movements"`
	Events         int64 `json:"events"`

	LostWrites           int64 `json:"lost_writes"`
	DoubledWrites        int64 `json:"doubled_writes"`
	AppliedRefusals      int64 `json:"applied_refusals"`
	WrongAnswers         int64 `json:"wrong_answers"`
	LostAnswers          int64 `json:"lost_answers"`
	MoneyConserved       bool  `json:"money_conserved"`
	CreatedMoney         int64 `json:"created_money"`
	UnbalancedTransfers  int64 `json:"unbalanced_transfers"`
	BrokenAccounts       int64 `json:"broken_accounts"`
	OverdrawnAccounts    int64 `json:"overdrawn_accounts"`
	BrokenHolds          int64 `json:"broken_holds"`
	HalfPayments         int64 `json:"half_payments"`
	BrokenSplits         int64 `json:"broken_splits"`
	HalfSends            int64 `json:"half_sends"`
	HalfMovements        int64 `json:"half_movements"`
	BrokenAuthorisations int64 `json:"broken_authorisations"`
	MiscountedSpending   int64 `json:"miscounted_spending"`
	StaleReads           int64 `json:"stale_reads"`
	StaleWrites          int64 `json:"stale_writes"`
	ImpossibleReads      int64 `json:"impossible_reads"`

	// Unknown operations are fine either way, but never done twice.
	UnknownApplied    int64 `json:"unknown_applied"`
	UnknownNotApplied int64 `json:"unknown_not_applied"`
	// ReplayedAnswers were stored ones: somebody sent a request twice.
	ReplayedAnswers int64 `json:"replayed_answers"`
	// PendingPayments were not resolved in the time that they had.
	PendingPayments int64 `json:"pending_payments"`
	// The same of movements of cards, of sends, and of events for the analytics.
	PendingMovements  int64 `json:"pending_movements"`
	SendsInMotion     int64 `json:"sends_in_motion"`
	UndeliveredEvents int64 `json:"undelivered_events"`

	// Audited says that both sides were audited; the rest is empty if not.
	Audited          bool  `json:"audited"`
	BothSidesWrote   bool  `json:"both_sides_wrote"`
	WroteElsewhere   int64 `json:"wrote_elsewhere"`
	UnknownInstances int64 `json:"unknown_instances"`
	// Switches is how often the serving side changed, over both databases together.
	Switches        int `json:"switches"`
	SwitchesAllowed int `json:"switches_allowed"`
	// AuditedRows were placed in time; UndecidedRows differ on the two sides,
	// because the stream between them has not passed yet.
	AuditedRows   int64 `json:"audited_rows"`
	UndecidedRows int64 `json:"undecided_rows"`

	// Findings are the first faults of each kind.
	Findings []Finding `json:"findings"`
	Seconds  float64   `json:"seconds"`

	extraChanges int64
	most         int
	counts       map[Kind]int64
	listed       map[Kind]int
}

func newReport(most int) *Report {
	return &Report{most: most, counts: map[Kind]int64{}, listed: map[Kind]int{}, Outcomes: map[history.Outcome]int64{}, Findings: []Finding{}}
}

// add counts a fault and lists it if there is room.
func (r *Report) add(kind Kind, of, format string, args ...any) {
	r.count(kind, 1)
	if r.listed[kind] < r.most {
		r.list(kind, of, fmt.Sprintf(format, args...))
	}
}

func (r *Report) count(kind Kind, n int64) { r.counts[kind] += n }

func (r *Report) list(kind Kind, of, what string) {
	if r.listed[kind] < r.most {
		r.listed[kind]++
		r.Findings = append(r.Findings, Finding{kind, of, what})
	}
}

// conclude fills in what follows from the counts.
func (r *Report) conclude() {
	var sum int64
	for _, k := range kinds {
		*k.into(r) = r.counts[k.kind]
		sum += r.counts[k.kind]
	}
	r.OK = sum == 0
	r.MoneyConserved = r.CreatedMoney+r.UnbalancedTransfers+r.BrokenAccounts == 0
	r.BothSidesWrote = r.extraChanges > 0
}

// Faults is how many faults were found, of all kinds.
func (r *Report) Faults() int64 {
	var sum int64
	for _, k := range kinds {
		sum += *k.into(r)
	}
	return sum
}

// Print writes the report for people.
func (r *Report) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name string, value any) { _, _ = fmt.Fprintf(w, "%s\t%v\n", name, value) } // Flush tells
	line("operations in the history", r.Operations)
	line("acknowledged writes", r.AcknowledgedWrites)
	line("unknown, and done", r.UnknownApplied)
	line("unknown, and not done", r.UnknownNotApplied)
	line("payments still pending", r.PendingPayments)
	line("answers that were replayed", r.ReplayedAnswers)
	line("rows looked at", fmt.Sprintf("%d accounts, %d transfers, %d entries, %d holds, %d payments, %d requests, %d splits", r.Accounts, r.Transfers, r.Entries, r.Holds, r.Payments, r.Requests, r.Splits))
	if r.Sends > 0 {
		line("", fmt.Sprintf("%d sends at %d quotes; still on their way: %d", r.Sends, r.Quotes, r.SendsInMotion))
	}
	if r.Cards > 0 {
		line("", fmt.Sprintf("%d cards, %d authorisations, %d movements; still pending: %d", r.Cards, r.Authorisations, r.CardMovements, r.PendingMovements))
	}
	if r.Events > 0 {
		line("", fmt.Sprintf("%d events of spending; still to be told: %d", r.Events, r.UndeliveredEvents))
	}
	if r.TornHistories > 0 {
		line("histories that end in half a line", r.TornHistories)
	}
	if r.Audited {
		line("rows placed in time on both sides", r.AuditedRows)
		line("changes of the serving side", fmt.Sprintf("%d of %d allowed", r.Switches, r.SwitchesAllowed))
	}
	_, _ = fmt.Fprintln(w, "\t")
	for _, k := range kinds {
		if (k.kind == BothSidesWrote || k.kind == WroteElsewhere || k.kind == UnknownInstance) && !r.Audited {
			continue
		}
		n := *k.into(r)
		verdict := "ok"
		if n > 0 {
			verdict = "WRONG"
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\n", k.name, n, verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s: %s\n", f.Kind, f.Of, f.What)
	}
	verdict := "nothing is wrong"
	if !r.OK {
		verdict = fmt.Sprintf("%d faults", r.Faults())
	}
	_, err := fmt.Fprintf(out, "\n%s%s (%.1f s)\n", &b, verdict, r.Seconds)
	return err
}
