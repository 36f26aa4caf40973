package check

import (
	"context"
	"fmt"
)

const (
	// Both in the order of the payments' keys, byte by byte, so that they can be merged.
	allPayments = `SELECT key, id, payer, payee, amount, currency, state, transfer FROM payments WHERE $1::text[] IS NULL OR key = ANY($1) ORDER BY key COLLATE "C", id`
	// A transfer with more entries than two comes in several rows; one that lacks an entry has none there.
	allPaymentTransfers = `SELECT substr(t.key, 9), t.id, t.amount, t.currency, coalesce(f.account, 0), coalesce(g.account, 0)
		FROM transfers t LEFT JOIN entries f ON f.transfer = t.id AND f.amount < 0 LEFT JOIN entries g ON g.transfer = t.id AND g.amount > 0
		WHERE t.key LIKE 'payment:%' AND ($1::text[] IS NULL OR substr(t.key, 9) = ANY($1)) ORDER BY substr(t.key, 9) COLLATE "C", t.id`
)

type keyedPayment struct {
	key string
	paid
}

type keyedTransfer struct {
	key string // of the payment
	moved
}

func scanPayment(r rows, p *keyedPayment) error {
	return r.Scan(&p.key, &p.id, &p.payer, &p.payee, &p.amount, &p.currency, &p.state, &p.transfer)
}

func scanTransfer(r rows, t *keyedTransfer) error {
	return r.Scan(&t.key, &t.id, &t.amount, &t.currency, &t.from.account, &t.to.account)
}

// agree compares the payments with their transfers, both ways.
func (c *checker) agree(ctx context.Context) error {
	return compare(ctx, c, comparison[string]{kind: HalfPayment, of: func(key string) string { return "payment with key " + key }, run: mergePayments})
}

func mergePayments(ctx context.Context, c *checker, only []string, tell func(key, wrong string)) error {
	ps, err := open(ctx, c.payments, scanPayment, allPayments, only)
	if err != nil {
		return err
	}
	defer ps.close()
	ts, err := open(ctx, c.accounts, scanTransfer, allPaymentTransfers, only)
	if err != nil {
		return err
	}
	defer ts.close()
	return merge(ps, func(p *keyedPayment) string { return p.key }, ts, func(t *keyedTransfer) string { return t.key }, func(key string, payments []keyedPayment, transfers []keyedTransfer) {
		var payment *paid
		if len(payments) > 0 { // a second one with this key is told among the doubled
			payment = &payments[0].paid
		}
		if wrong := disagree(payment, transfers); wrong != "" {
			tell(key, wrong)
		}
	})
}

// disagree says what is wrong between a payment and the transfers with its key.
func disagree(p *paid, transfers []keyedTransfer) string {
	if p == nil {
		return fmt.Sprintf("there is no payment for transfer %d", transfers[0].id)
	}
	switch p.state {
	case completed:
		if len(transfers) == 0 {
			return fmt.Sprintf("payment %d is completed and no money moved", p.id)
		}
		if p.transfer == nil || *p.transfer != transfers[0].id {
			return fmt.Sprintf("payment %d names another transfer than %d", p.id, transfers[0].id)
		}
	case declined:
		if len(transfers) > 0 {
			return fmt.Sprintf("payment %d is declined and transfer %d moved its money", p.id, transfers[0].id)
		}
		return ""
	case pending:
		if len(transfers) == 0 {
			return ""
		}
	default:
		return fmt.Sprintf("payment %d is in an unknown state, %q", p.id, p.state)
	}
	t := transfers[0] // a second one with this key is told among the doubled
	if t.amount != p.amount || t.currency != p.currency || t.from.account != p.payer || t.to.account != p.payee {
		return fmt.Sprintf("payment %d is of %d %s from %d to %d, and transfer %d moved %d %s from %d to %d",
			p.id, p.amount, p.currency, p.payer, p.payee, t.id, t.amount, t.currency, t.from.account, t.to.account)
	}
	return ""
}
