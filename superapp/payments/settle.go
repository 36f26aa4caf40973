package payments

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/superapp/service"
)

const (
	// settleEvery is the pause between two looks for pending payments.
	settleEvery = 2 * time.Second
	// settleAge is how old a pending payment is before the settler touches it:
	// longer than a request takes, so that it does not do a request's work.
	settleAge = finishTime + time.Second
	// settlePage is how many payments are read at once.
	settlePage = 100
)

// settleAll ends pending payments until ctx ends. At the start all of them: who
// began them is gone, or does the same beside us, which harms nothing.
func (b *book) settleAll(ctx context.Context) {
	age := time.Duration(0)
	service.Regularly(ctx, b.log, settleEvery, "settle pending payments", func() error {
		err := b.settle(ctx, age)
		if err == nil {
			age = settleAge
		}
		return err
	})
}

const selectPending = `
SELECT id, key, payer, payee, amount, currency FROM payments
WHERE state = '` + Pending + `' AND id > $1 AND created < clock_timestamp() - $2::interval
ORDER BY id LIMIT $3`

// settle goes once through the pending payments of an age. One that can not be
// settled does not keep the others from it, but a service that is away ends the pass.
func (b *book) settle(ctx context.Context, age time.Duration) error {
	var failed error
	for last := int64(0); ; {
		page, err := b.pending(ctx, last, age)
		if err != nil {
			return err
		}
		for _, p := range page {
			last = p.id
			err := b.settleOne(ctx, p)
			if service.Away(err) {
				return err
			}
			if err != nil {
				failed = fmt.Errorf("settle payment %d: %w", p.id, err)
			}
		}
		if len(page) < settlePage {
			return failed
		}
	}
}

// settleOne ends one payment. The key under which a request was accepted is not
// known here; its answer is written when the client asks for it again.
func (b *book) settleOne(ctx context.Context, p payment) error {
	key := p.key
	if p.request() != 0 {
		key = ""
	}
	_, state, ended, err := b.end(ctx, p, key)
	if err != nil {
		return err
	}
	if ended {
		b.settled.Inc()
		b.log.Info("settled a pending payment", "payment", p.id, "state", state)
	}
	return nil
}

func (b *book) pending(ctx context.Context, last int64, age time.Duration) ([]payment, error) {
	rows, err := b.db.Query(ctx, selectPending, last, age, settlePage)
	if err != nil {
		return nil, fmt.Errorf("look for pending payments: %w", err)
	}
	var page []payment
	var p payment
	_, err = pgx.ForEachRow(rows, []any{&p.id, &p.key, &p.payer, &p.payee, &p.amount, &p.currency}, func() error {
		page = append(page, p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for pending payments: %w", err)
	}
	return page, nil
}
