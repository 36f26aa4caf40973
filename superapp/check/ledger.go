package check

import (
	"context"
	"fmt"
)

// fault is a query whose rows are faults of a database by itself: what each is
// of, and what is wrong with it. It reads whole tables once, inside the server,
// and trusts no constraint and no index: a move can lose both.
type fault struct {
	kind Kind
	sql  string
}

var ledgerFaults = []fault{
	{Doubled, `SELECT 'transfer with key ' || key, count(*) || ' transfers have it: ids ' || string_agg(id::text, ', ' ORDER BY id)
		FROM transfers GROUP BY key HAVING count(*) > 1`},
	// The application names a payment's transfer by the payment: so a payment that
	// moved money twice shows under whatever keys it did.
	{Doubled, `SELECT 'the money of ' || reference, count(DISTINCT key) || ' transfers with different keys moved it: ids ' || string_agg(id::text, ', ' ORDER BY id)
		FROM transfers WHERE reference ~ '^payment [0-9]+$' GROUP BY reference HAVING count(DISTINCT key) > 1`},
	// Each transfer takes from one account what it gives to another, in one currency.
	{Unbalanced, `SELECT 'transfer ' || coalesce(t.id, e.transfer) || coalesce(' (key ' || t.key || ')', ''),
			CASE WHEN t.id IS NULL THEN 'there are ' || e.n || ' entries of it and no transfer'
				WHEN coalesce(e.n, 0) <> 2 THEN 'it has ' || coalesce(e.n, 0) || ' entries, not 2'
				WHEN e.foreign_currency > 0 THEN 'an account of it is in another currency than ' || t.currency || ', or does not exist'
				ELSE 'its entries sum to ' || e.sum || ' and the larger is ' || e.most || ', for an amount of ' || t.amount END
		FROM transfers t FULL JOIN (
			SELECT e.transfer, count(*) AS n, sum(e.amount) AS sum, max(e.amount) AS most,
				count(*) FILTER (WHERE a.currency IS DISTINCT FROM t.currency) AS foreign_currency
			FROM entries e LEFT JOIN accounts a ON a.id = e.account LEFT JOIN transfers t ON t.id = e.transfer
			GROUP BY e.transfer) e ON e.transfer = t.id
		WHERE t.id IS NULL OR coalesce(e.n, 0) <> 2 OR e.sum <> 0 OR e.most <> t.amount OR e.foreign_currency > 0`},
	{CreatedMoney, `SELECT 'currency ' || coalesce(a.currency::text, '(of no account)'), 'all entries sum to ' || sum(e.amount) || ', not 0'
		FROM entries e LEFT JOIN accounts a ON a.id = e.account GROUP BY a.currency HAVING sum(e.amount) <> 0`},
	{CreatedMoney, `SELECT 'currency ' || currency::text, 'all balances sum to ' || sum(balance) || ', not 0'
		FROM accounts GROUP BY currency HAVING sum(balance) <> 0`},
	// Each entry follows the one before: versions without a gap, balances that add up.
	{BrokenAccount, `SELECT 'account ' || account || ', entry ' || id,
			CASE WHEN version <> before + 1 THEN 'version ' || version || ' follows version ' || before
				ELSE 'balance ' || balance || ' follows balance ' || balance_before || ' by an amount of ' || amount END
		FROM (SELECT id, account, version, amount, balance, lag(version, 1, 0::bigint) OVER w AS before, lag(balance, 1, 0::bigint) OVER w AS balance_before
			FROM entries WINDOW w AS (PARTITION BY account ORDER BY version)) e
		WHERE version <> before + 1 OR balance <> balance_before + amount`},
	// Each account is what its entries make it.
	{BrokenAccount, `SELECT 'account ' || coalesce(a.id, e.account),
			CASE WHEN a.id IS NULL THEN 'it has ' || e.n || ' entries and does not exist'
				WHEN a.version <> coalesce(e.n, 0) OR a.version <> coalesce(e.last, 0) THEN 'it is at version ' || a.version || ' with ' || coalesce(e.n, 0) || ' entries, the last of version ' || coalesce(e.last, 0)
				ELSE 'its balance is ' || a.balance || ' and its entries sum to ' || coalesce(e.sum, 0) END
		FROM accounts a FULL JOIN (
			SELECT account, count(*) AS n, max(version) AS last, sum(amount) AS sum FROM entries GROUP BY account) e ON e.account = a.id
		WHERE a.id IS NULL OR a.version <> coalesce(e.n, 0) OR a.version <> coalesce(e.last, 0) OR a.balance <> coalesce(e.sum, 0)`},
	{Overdrawn, `SELECT 'account ' || a.id, 'it is a customer''s, and is or was at ' || least(a.balance, e.least)
		FROM accounts a LEFT JOIN (SELECT account, min(balance) AS least FROM entries WHERE balance < 0 GROUP BY account) e ON e.account = a.id
		WHERE a.kind = 'customer' AND (a.balance < 0 OR e.least < 0)`},
	{Overdrawn, `SELECT 'account ' || id, 'it is a customer''s and has ' || balance || ', of which ' || held || ' are held'
		FROM accounts WHERE kind = 'customer' AND balance >= 0 AND held > balance`},
	// Nothing else moves what the system keeps for cards and sends.
	{HalfMovement, `SELECT 'transfer ' || t.id || ' (key ' || t.key || ')', 'it moves money of the system''s account for ' || a.purpose || ', and is of no card movement'
		FROM accounts a JOIN entries e ON e.account = a.id JOIN transfers t ON t.id = e.transfer
		WHERE a.purpose IN ('cards', 'merchants') AND t.key !~ '^card:[1-9][0-9]{0,17}$'`},
	{HalfSend, `SELECT 'transfer ' || t.id || ' (key ' || t.key || ')', 'it moves money of the system''s account for ' || a.purpose || ', and is of no send'
		FROM accounts a JOIN entries e ON e.account = a.id JOIN transfers t ON t.id = e.transfer
		WHERE a.purpose IN ('payouts', 'fees') AND t.key !~ '^send:[1-9][0-9]{0,17}:(capture|fee|refund)$'`},
	// What is held is what the open holds add up to.
	{BrokenHold, `SELECT 'account ' || coalesce(a.id, h.account), 'it holds ' || coalesce(a.held, 0) || ' and its open holds sum to ' || coalesce(h.sum, 0)
		FROM accounts a FULL JOIN (SELECT account, sum(amount) AS sum FROM holds WHERE state = 'held' GROUP BY account) h ON h.account = a.id
		WHERE coalesce(a.held, 0) <> coalesce(h.sum, 0)`},
	{Doubled, `SELECT 'hold with key ' || key, count(*) || ' holds have it: ids ' || string_agg(id::text, ', ' ORDER BY id)
		FROM holds GROUP BY key HAVING count(*) > 1`},
	{Doubled, `SELECT 'transfer ' || transfer, count(*) || ' holds were captured with it: ids ' || string_agg(id::text, ', ' ORDER BY id)
		FROM holds WHERE transfer IS NOT NULL GROUP BY transfer HAVING count(*) > 1`},
	// A captured hold moved no more than it held, from its account; no other hold moved anything.
	{BrokenHold, `SELECT 'hold ' || h.id || ' (key ' || h.key || ')',
			CASE WHEN h.state NOT IN ('held', 'captured', 'released') THEN 'it is in an unknown state'
				WHEN h.state <> 'captured' THEN 'it is ' || h.state || ' and yet names transfer ' || h.transfer
				WHEN t.id IS NULL THEN 'it is captured and its transfer is not there'
				ELSE 'it held ' || h.amount || ' ' || h.currency || ' of account ' || h.account || ', and transfer ' || t.id || ' moved ' || t.amount || ' ' || t.currency || ' of account ' || coalesce(e.account::text, '(none)') END
		FROM holds h LEFT JOIN transfers t ON t.id = h.transfer LEFT JOIN entries e ON e.transfer = t.id AND e.amount < 0
		WHERE h.state NOT IN ('held', 'captured', 'released') OR (h.state = 'captured') <> (h.transfer IS NOT NULL)
			OR h.state = 'captured' AND (t.id IS NULL OR t.amount > h.amount OR t.currency <> h.currency OR e.account IS DISTINCT FROM h.account)`},
}

// paymentFaults are the same for the payments database.
var paymentFaults = []fault{
	{Doubled, `SELECT 'payment with key ' || key, count(*) || ' payments have it: ids ' || string_agg(id::text, ', ' ORDER BY id)
		FROM payments GROUP BY key HAVING count(*) > 1`},
	{Doubled, `SELECT 'request with key ' || key, count(*) || ' requests have it: ids ' || string_agg(id::text, ', ' ORDER BY id)
		FROM requests GROUP BY key HAVING count(*) > 1`},
	{Doubled, `SELECT 'transfer ' || transfer, count(*) || ' payments were made with it: ids ' || string_agg(id::text, ', ' ORDER BY id)
		FROM payments WHERE transfer IS NOT NULL GROUP BY transfer HAVING count(*) > 1`},
	{Doubled, `SELECT 'split with key ' || key, count(*) || ' splits have it: ids ' || string_agg(id::text, ', ' ORDER BY id)
		FROM splits GROUP BY key HAVING count(*) > 1`},
	// The shares of a split are requests of its payee, differ by at most one minor
	// unit, and add up to the total.
	{BrokenSplit, `SELECT 'split ' || coalesce(s.id, q.split),
			CASE WHEN s.id IS NULL THEN 'there are ' || q.n || ' shares of it and no split'
				WHEN q.n IS NULL THEN 'it has no share'
				WHEN q.foreign > 0 THEN q.foreign || ' shares of it are asked by another account or in another currency'
				WHEN q.sum + s.payee_share <> s.total THEN 'its shares sum to ' || q.sum || ' and the payee''s own is ' || s.payee_share || ', for a total of ' || s.total
				ELSE 'its shares go from ' || q.least || ' to ' || q.most END
		FROM splits s FULL JOIN (
			SELECT q.split, count(*) AS n, sum(q.amount) AS sum, least(min(q.amount), min(nullif(s.payee_share, 0))) AS least, greatest(max(q.amount), max(s.payee_share)) AS most,
				count(*) FILTER (WHERE q.payee <> s.payee OR q.currency <> s.currency) AS foreign
			FROM requests q LEFT JOIN splits s ON s.id = q.split WHERE q.split IS NOT NULL GROUP BY q.split) q ON q.split = s.id
		WHERE s.id IS NULL OR q.n IS NULL OR q.foreign > 0 OR q.sum + s.payee_share <> s.total OR q.most - q.least > 1`},
}

// sendFaults are those of the transfers database.
var sendFaults = []fault{
	{Doubled, `SELECT 'send with key ' || key, count(*) || ' sends have it: ids ' || string_agg(id::text, ', ' ORDER BY id)
		FROM sends GROUP BY key HAVING count(*) > 1`},
	{Doubled, `SELECT 'quote ' || quote, count(*) || ' sends were made at it: ids ' || string_agg(id::text, ', ' ORDER BY id)
		FROM sends GROUP BY quote HAVING count(*) > 1`},
}

// ledger looks for faults that the databases have by themselves, whatever clients were told.
func (c *checker) ledger(ctx context.Context) error {
	r := c.report
	if err := c.accounts.row(ctx, []any{&r.Accounts, &r.Transfers, &r.Entries, &r.Holds},
		"SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM transfers), (SELECT count(*) FROM entries), (SELECT count(*) FROM holds)"); err != nil {
		return err
	}
	if err := c.payments.row(ctx, []any{&r.Payments, &r.Requests, &r.Splits},
		"SELECT (SELECT count(*) FROM payments), (SELECT count(*) FROM requests), (SELECT count(*) FROM splits)"); err != nil {
		return err
	}
	if err := c.allFaults(ctx, c.accounts, ledgerFaults); err != nil {
		return err
	}
	if err := c.allFaults(ctx, c.payments, paymentFaults); err != nil {
		return err
	}
	if c.transfers != nil {
		if err := c.transfers.row(ctx, []any{&r.Sends, &r.Quotes}, "SELECT count(*), count(DISTINCT quote) FROM sends"); err != nil {
			return err
		}
		if err := c.allFaults(ctx, c.transfers, sendFaults); err != nil {
			return err
		}
	}
	if c.cards == nil {
		return nil
	}
	if err := c.cards.row(ctx, []any{&r.Cards, &r.Authorisations, &r.CardMovements},
		"SELECT (SELECT count(*) FROM cards), (SELECT count(*) FROM authorisations), (SELECT count(*) FROM movements)"); err != nil {
		return err
	}
	return c.allFaults(ctx, c.cards, cardFaults)
}

func (c *checker) allFaults(ctx context.Context, d *database, list []fault) error {
	for _, f := range list {
		if err := c.faults(ctx, d, f.kind, f.sql); err != nil {
			return err
		}
	}
	return nil
}

// faults counts what a query returns and lists the first of it; no more than
// those cross the network.
func (c *checker) faults(ctx context.Context, d *database, kind Kind, sql string) error {
	var of, what string
	var all int64
	names := " (subject, detail)"
	if d.mariadb != nil {
		names = "" // MariaDB can not give a subquery's columns names: the statements do
	}
	err := d.each(ctx, []any{&of, &what, &all}, func() error {
		c.report.list(kind, of, what)
		return nil
	}, fmt.Sprintf("SELECT subject, detail, count(*) OVER () FROM (%s) f%s ORDER BY subject LIMIT %d", sql, names, c.report.most))
	c.report.count(kind, all)
	return err
}
