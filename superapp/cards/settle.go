package cards

import (
	"context"
	"fmt"
	"time"

	"dhow/superapp/service"
)

const (
	// settleEvery is the pause between two looks for pending movements.
	settleEvery = 2 * time.Second
	// settleAge is how old a pending movement is before the settler touches it:
	// longer than a request takes, so that it does not do a request's work.
	settleAge = finishTime + time.Second
	// settlePage is how many movements are read at once.
	settlePage = 100
)

// settleAll posts pending movements until ctx ends. At the start all of them: who
// began them is gone, or does the same beside us, which harms nothing.
func (d *desk) settleAll(ctx context.Context) {
	age := time.Duration(0)
	service.Regularly(ctx, d.log, settleEvery, "post pending movements", func() error {
		err := d.settle(ctx, age)
		if err == nil {
			age = settleAge
		}
		return err
	})
}

// settle goes once through the pending movements of an age. One that can not be
// posted does not keep the others from it, but a service that is away ends the pass.
func (d *desk) settle(ctx context.Context, age time.Duration) error {
	var failed error
	for last := int64(0); ; {
		page, err := d.pending(ctx, last, age)
		if err != nil {
			return fmt.Errorf("look for pending movements: %w", err)
		}
		for _, m := range page {
			last = m.id
			answer, err := d.post(ctx, m)
			switch {
			case service.Away(err):
				return err
			case err != nil:
				failed = fmt.Errorf("post movement %d: %w", m.id, err)
			case answer.Body != nil:
				d.settled.Inc()
				d.log.Info("posted a pending movement", "movement", m.id, "kind", m.kind)
			}
		}
		if len(page) < settlePage {
			return failed
		}
	}
}

func (d *desk) pending(ctx context.Context, last int64, age time.Duration) ([]movement, error) {
	rows, err := d.db.QueryContext(ctx, selectMovement+" JOIN ledger_outbox o ON o.movement = m.id WHERE o.movement > ? AND o.at <= current_timestamp(6) - INTERVAL ? MICROSECOND ORDER BY o.movement LIMIT ?", last, age.Microseconds(), settlePage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []movement
	for rows.Next() {
		var m movement
		if err := m.scan(rows.Scan); err != nil {
			return nil, err
		}
		page = append(page, m)
	}
	return page, rows.Err()
}
