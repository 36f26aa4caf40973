package check

import (
	"context"
	"slices"
	"strings"
	"time"

	"dhow/superapp/service"
)

// store is one of the application's databases.
type store struct {
	name    string
	mariadb bool
	// optional ones are looked at when their addresses are given.
	optional bool
	// tables are looked at.
	tables []string
	url    func(*Databases) *string
	opened func(*checker) **database
}

// The tables of the ledger and of the payments.
var (
	accountsTables = []string{"accounts", "transfers", "entries", "holds", "idempotency"}
	paymentsTables = []string{"payments", "splits", "requests", "outbox", "idempotency"}
)

// stores are all of them. Snapshots are taken from the last to the first: what
// names money that moved comes before the ledger, which moved it first, and what
// tells the analytics before those.
var stores = []store{
	{"analytics", true, true, []string{"events"},
		func(d *Databases) *string { return &d.Analytics }, func(c *checker) **database { return &c.analytics }},
	{"accounts", false, false, accountsTables,
		func(d *Databases) *string { return &d.Accounts }, func(c *checker) **database { return &c.accounts }},
	{"payments", false, false, paymentsTables,
		func(d *Databases) *string { return &d.Payments }, func(c *checker) **database { return &c.payments }},
	{"transfers", false, true, []string{"sends", "outbox", "idempotency"},
		func(d *Databases) *string { return &d.Transfers }, func(c *checker) **database { return &c.transfers }},
	{"cards", true, true, []string{"cards", "authorisations", "movements", "ledger_outbox", "outbox", "idempotency"},
		func(d *Databases) *string { return &d.Cards }, func(c *checker) **database { return &c.cards }},
}

// variable is the environment's name of its address, on a side if one is given.
func (s store) variable(side string) string {
	if side != "" {
		side += "_"
	}
	return strings.ToUpper(s.name + "_" + side + "url")
}

// open connects to the databases of the serving side that are given.
func (c *checker) open(ctx context.Context) error {
	for _, s := range stores {
		url := *s.url(&c.cfg.Serving)
		if s.optional && url == "" {
			continue
		}
		d, err := connect(ctx, "the "+s.name+" database", url, s.variable(""), s)
		if err != nil {
			c.close(ctx)
			return err
		}
		*s.opened(c) = d
	}
	return nil
}

func (c *checker) close(ctx context.Context) {
	for _, s := range stores {
		(*s.opened(c)).close(ctx)
	}
}

// freeze takes the snapshots.
func (c *checker) freeze(ctx context.Context) error {
	for _, s := range slices.Backward(stores) {
		if err := (*s.opened(c)).freeze(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settlePoll is the pause between two looks at what is on its way.
const settlePoll = 200 * time.Millisecond

// pendings count what was there at an instant and has not come to its end.
var pendings = []struct {
	opened func(*checker) **database
	sql    string
	into   func(*Report) *int64
	told   bool // it is on its way to the analytics
}{
	{func(c *checker) **database { return &c.payments }, "SELECT count(*) FROM payments WHERE state = 'pending' AND created <= $1", func(r *Report) *int64 { return &r.PendingPayments }, false},
	{func(c *checker) **database { return &c.cards }, "SELECT count(*) FROM movements WHERE state = 'pending' AND created <= ?", func(r *Report) *int64 { return &r.PendingMovements }, false},
	{func(c *checker) **database { return &c.transfers }, "SELECT count(*) FROM sends WHERE state IN ('created', 'held', 'submitted', 'failed') AND created <= $1", func(r *Report) *int64 { return &r.SendsInMotion }, false},
	{func(c *checker) **database { return &c.payments }, "SELECT count(*) FROM outbox WHERE at <= $1", func(r *Report) *int64 { return &r.UndeliveredEvents }, true},
	{func(c *checker) **database { return &c.cards }, "SELECT count(*) FROM outbox WHERE at <= ?", func(r *Report) *int64 { return &r.UndeliveredEvents }, true},
	{func(c *checker) **database { return &c.transfers }, "SELECT count(*) FROM outbox WHERE at <= $1", func(r *Report) *int64 { return &r.UndeliveredEvents }, true},
}

// settle waits until what is on its way now has come to its end, or the time is over.
func (c *checker) settle(ctx context.Context) error {
	starts := map[*database]time.Time{}
	for _, s := range stores {
		d := *s.opened(c)
		if d == nil {
			continue
		}
		now := "SELECT clock_timestamp()"
		if d.mariadb != nil {
			now = "SELECT current_timestamp(6)"
		}
		var start time.Time
		if err := d.row(ctx, []any{&start}, now); err != nil {
			return err
		}
		starts[d] = start
	}
	until := time.Now().Add(c.cfg.Settle)
	for {
		left, err := c.pending(ctx, starts)
		if err != nil {
			return err
		}
		if left == 0 || !time.Now().Before(until) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settlePoll):
		}
	}
}

// pending counts what was on its way at an instant of each database's clock, and still is.
func (c *checker) pending(ctx context.Context, since map[*database]time.Time) (all int64, err error) {
	r := c.report
	r.PendingPayments, r.PendingMovements, r.SendsInMotion, r.UndeliveredEvents = 0, 0, 0, 0
	for _, p := range pendings {
		d := *p.opened(c)
		if d == nil || p.told && c.analytics == nil {
			continue
		}
		var n int64
		if err := d.row(ctx, []any{&n}, p.sql, since[d]); err != nil {
			return 0, err
		}
		*p.into(r) += n
		all += n
	}
	return all, nil
}

// need says that operations of the histories can not be checked without a database.
func need(name, variable string) error {
	return service.Usagef("the histories have operations of the %s service: set %s, its database", name, variable)
}
