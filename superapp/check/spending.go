package check

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	// spendingLooks is how often a sum that is wrong is looked at again: of an
	// account that is used all the time, each look has a small chance to fall
	// between the event and its counting.
	spendingLooks = 3
	month         = "2006-01"

	countedSpending = "SELECT account, currency, date_format(at, '%%Y-%%m') AS month, count(*), sum(amount) FROM events WHERE kind = '%s'%s GROUP BY account, currency, month ORDER BY account, currency, month"
)

// inOrder sorts what PostgreSQL added up as MariaDB sorts it.
const inOrder = `SELECT * FROM (%s) s (account, currency, month, count, amount) ORDER BY account, currency COLLATE "C", month COLLATE "C"`

// spender is a service that tells the analytics what was spent.
type spender struct {
	service string // begins the ids of its events
	kind    string // of its events
	opened  func(*checker) **database
	// spent are the sums of its rows, as countedSpending has them, with a place for a condition on accounts.
	spent string
}

var spenders = []spender{
	{"payments", "payment", func(c *checker) **database { return &c.payments },
		`SELECT payer, currency, to_char(updated AT TIME ZONE 'UTC', 'YYYY-MM'), count(*), sum(amount)::bigint FROM payments
			WHERE state = 'completed' AND ($1::bigint[] IS NULL OR payer = ANY($1)) GROUP BY 1, 2, 3`},
	{"transfers", "send", func(c *checker) **database { return &c.transfers },
		`SELECT account, currency, to_char(updated AT TIME ZONE 'UTC', 'YYYY-MM'), count(*), sum(total)::bigint FROM sends
			WHERE state = 'paid' AND ($1::bigint[] IS NULL OR account = ANY($1)) GROUP BY 1, 2, 3`},
	{"cards", "card", func(c *checker) **database { return &c.cards },
		`SELECT account, currency, date_format(updated, '%%Y-%%m') AS month, count(*), sum(CASE kind WHEN 'refund' THEN -amount ELSE amount END) FROM movements
			WHERE state = 'posted' AND kind IN ('capture', 'refund')%s GROUP BY account, currency, month ORDER BY account, currency, month`},
}

// spot is what is added up: an account in a currency and a month.
type spot struct {
	account         int64
	currency, month string
}

// key is in the order in which the databases sort.
func (s spot) key() string { return fmt.Sprintf("%020d %s %s", s.account, s.currency, s.month) }

type sum struct {
	spot
	count, amount int64
}

func scanSum(r rows, s *sum) error {
	return r.Scan(&s.account, &s.currency, &s.month, &s.count, &s.amount)
}

// spending holds what the analytics counted against what the services' own rows say.
func (c *checker) spending(ctx context.Context) error {
	if c.analytics == nil {
		return nil
	}
	if err := c.analytics.row(ctx, []any{&c.report.Events}, "SELECT count(*) FROM events"); err != nil {
		return err
	}
	for _, s := range spenders {
		if *s.opened(c) == nil {
			continue
		}
		of := func(p spot) string {
			return fmt.Sprintf("account %d, %s, %s, %s", p.account, p.currency, p.month, s.kind)
		}
		if err := compare(ctx, c, comparison[spot]{kind: Miscounted, of: of, run: s.merge, looks: spendingLooks}); err != nil {
			return err
		}
	}
	return nil
}

func (s spender) merge(ctx context.Context, c *checker, only []spot, tell func(p spot, wrong string)) error {
	var accounts []int64
	for _, p := range only {
		accounts = append(accounts, p.account)
	}
	d := *s.opened(c)
	// Told, then delivered, then deleted: read in this order, no event is missed.
	waiting, err := c.waiting(ctx, d, s)
	if err != nil {
		return err
	}
	statement, args := fmt.Sprintf(inOrder, s.spent), []any{accounts}
	if d.mariadb != nil {
		if statement, args = fmt.Sprintf(s.spent, ""), nil; only != nil {
			var condition string
			condition, args = in(" AND account IN", accounts)
			statement = fmt.Sprintf(s.spent, condition)
		}
	}
	spent, err := open(ctx, d, scanSum, statement, args...)
	if err != nil {
		return err
	}
	defer spent.close()
	condition, args := "", []any(nil)
	if only != nil {
		condition, args = in(" AND account IN", accounts)
	}
	counted, err := open(ctx, c.analytics, scanSum, fmt.Sprintf(countedSpending, s.kind, condition), args...)
	if err != nil {
		return err
	}
	defer counted.close()
	err = merge(spent, func(s *sum) string { return s.key() }, counted, func(s *sum) string { return s.key() }, func(_ string, spent, counted []sum) {
		var is, should sum
		for _, one := range counted {
			is = one
		}
		for _, one := range spent {
			should = one
		}
		at := is.spot
		if len(spent) > 0 {
			at = should.spot
		}
		left := waiting[at]
		delete(waiting, at)
		if is.count != should.count-left.count || is.amount != should.amount-left.amount {
			tell(at, fmt.Sprintf("%d in %d events were counted, and %d in %d were spent, of which %d in %d wait to be told", is.amount, is.count, should.amount, should.count, left.amount, left.count))
		}
	})
	if err != nil {
		return err
	}
	for at, left := range waiting {
		if only == nil || slices.Contains(only, at) {
			tell(at, fmt.Sprintf("%d in %d events wait to be told, and nothing was spent", left.amount, left.count))
		}
	}
	return nil
}

// waiting adds up the events that a service has not delivered.
func (c *checker) waiting(ctx context.Context, d *database, s spender) (map[spot]sum, error) {
	into := map[spot]sum{}
	statement := fmt.Sprintf("SELECT id, event::text FROM outbox WHERE id > $1 ORDER BY id LIMIT %d", batch)
	if d.mariadb != nil {
		statement = fmt.Sprintf("SELECT id, event FROM outbox WHERE id > ? ORDER BY id LIMIT %d", batch)
	}
	for last := int64(-1); ; {
		var ids []string
		var events []sum
		var text string
		err := d.each(ctx, []any{&last, &text}, func() error {
			var e struct {
				Account  int64
				Currency string
				Amount   int64
				At       time.Time
			}
			if err := json.Unmarshal([]byte(text), &e); err != nil {
				return fmt.Errorf("read event %d of the outbox of %s: %w", last, s.service, err)
			}
			ids = append(ids, fmt.Sprintf("%s:%d", s.service, last))
			events = append(events, sum{spot{e.Account, e.Currency, e.At.UTC().Format(month)}, 1, e.Amount})
			return nil
		}, statement, last)
		if err != nil || len(ids) == 0 {
			return into, err
		}
		counted := map[string]bool{}
		var id string
		known, args := in("SELECT id FROM events WHERE id IN", ids)
		if err := c.analytics.each(ctx, []any{&id}, func() error { counted[id] = true; return nil }, known, args...); err != nil {
			return nil, err
		}
		for i, e := range events {
			if !counted[ids[i]] {
				at := into[e.spot]
				at.count, at.amount = at.count+1, at.amount+e.amount
				into[e.spot] = at
			}
		}
	}
}
