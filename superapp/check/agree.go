package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	// Both in the order of the payments' keys, byte by byte, so that they can be merged.
	allPayments = `SELECT key, id, payer, payee, amount, currency, state, transfer FROM payments %s ORDER BY key COLLATE "C", id`
	// A transfer with more entries than two comes in several rows; one that lacks an entry has none there.
	allPaymentTransfers = `SELECT substr(t.key, 9), t.id, t.amount, t.currency, coalesce(f.account, 0), coalesce(g.account, 0)
		FROM transfers t LEFT JOIN entries f ON f.transfer = t.id AND f.amount < 0 LEFT JOIN entries g ON g.transfer = t.id AND g.amount > 0
		WHERE t.key LIKE 'payment:%%' %s ORDER BY substr(t.key, 9) COLLATE "C", t.id`
	// suspects bounds the disagreements that are looked at a second time.
	suspects = 1000
)

type keyedPayment struct {
	key string
	paid
}

type keyedTransfer struct {
	key string // of the payment
	moved
}

func scanPayment(rows pgx.Rows, p *keyedPayment) error {
	return rows.Scan(&p.key, &p.id, &p.payer, &p.payee, &p.amount, &p.currency, &p.state, &p.transfer)
}

func scanTransfer(rows pgx.Rows, t *keyedTransfer) error {
	return rows.Scan(&t.key, &t.id, &t.amount, &t.currency, &t.from.account, &t.to.account)
}

// agree compares the payments with their transfers, both ways. What disagrees is
// looked at again as it is then: on a system in service, the two snapshots are
// not of the same instant.
func (c *checker) agree(ctx context.Context) error {
	var suspect []string
	err := merge(ctx, c.payments, c.accounts, "", "", func(key, wrong string) {
		if len(suspect) < suspects {
			suspect = append(suspect, key)
			return
		}
		c.report.add(HalfPayment, "payment with key "+key, "%s", wrong)
	})
	if err != nil || len(suspect) == 0 {
		return err
	}
	again := &checker{cfg: c.cfg}
	if err := again.open(ctx); err != nil {
		return err
	}
	defer again.accounts.close(ctx)
	defer again.payments.close(ctx)
	transfers := make([]string, len(suspect))
	for i, key := range suspect {
		transfers[i] = transferKey + key
	}
	return merge(ctx, again.payments, again.accounts, "WHERE key = ANY($1)", "AND t.key = ANY($1)", func(key, wrong string) {
		c.report.add(HalfPayment, "payment with key "+key, "%s", wrong)
	}, suspect, transfers)
}

// merge walks through payments and transfers by their keys and tells what
// disagrees. The conditions' arguments are given in their order.
func merge(ctx context.Context, payments, accounts *database, ofPayments, ofTransfers string, tell func(key, wrong string), args ...[]string) (err error) {
	var forPayments, forTransfers []any
	if len(args) == 2 {
		forPayments, forTransfers = []any{args[0]}, []any{args[1]}
	}
	ps, err := open(ctx, payments, scanPayment, fmt.Sprintf(allPayments, ofPayments), forPayments...)
	if err != nil {
		return err
	}
	defer ps.close()
	ts, err := open(ctx, accounts, scanTransfer, fmt.Sprintf(allPaymentTransfers, ofTransfers), forTransfers...)
	if err != nil {
		return err
	}
	defer ts.close()
	p, errP := ps.next()
	t, errT := ts.next()
	for errP == nil && errT == nil && (p != nil || t != nil) {
		var key string
		if p != nil {
			key = p.key
		}
		if p == nil || t != nil && t.key < p.key {
			key = t.key
		}
		var payment *paid
		var transfers []moved
		for ; p != nil && p.key == key && errP == nil; p, errP = ps.next() {
			if payment == nil { // a second one with this key is told among the doubled
				payment = &p.paid
			}
		}
		for ; t != nil && t.key == key && errT == nil; t, errT = ts.next() {
			if n := len(transfers); n == 0 || transfers[n-1].id != t.id {
				transfers = append(transfers, t.moved)
			}
		}
		if wrong := disagree(payment, transfers); wrong != "" {
			tell(key, wrong)
		}
	}
	return errors.Join(errP, errT)
}

// disagree says what is wrong between a payment and the transfers with its key.
func disagree(p *paid, transfers []moved) string {
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
