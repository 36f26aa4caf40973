package transfers

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/superapp/service"
)

const (
	// driveEvery is the pause between two looks for sends that are due.
	driveEvery = 100 * time.Millisecond
	// drivePage is how many are taken at once.
	drivePage = 64
	// driveAtOnce is how many are moved beside each other.
	driveAtOnce = 8
	// driveAgain is when a send that was taken is due again: after a crash, or a step that
	// failed. Longer than a step takes; that another begins it meanwhile harms nothing.
	driveAgain = 2 * time.Second
	// finishTime bounds the making of a send that has begun.
	finishTime = 5 * time.Second
	// requestsOwn is how long a new send is left to the request that made it.
	requestsOwn = finishTime + time.Second
)

// claimDue takes sends that are due, and nobody else is taking.
const claimDue = `
UPDATE sends SET due = clock_timestamp() + $1::interval
WHERE id IN (SELECT id FROM sends WHERE due <= clock_timestamp() ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING ` + columns

// drive moves sends on until ctx ends. Several may run, one in each instance.
func (d *desk) drive(ctx context.Context) {
	tick := time.NewTicker(driveEvery)
	defer tick.Stop()
	waits := false
	for {
		n, err := d.driveOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			waits = false
		case !service.Away(err) || !waits:
			// That a store or the accounts service is away is told once.
			waits = true
			d.log.Warn("sends can not be moved on; trying again", "error", err)
		}
		if n == drivePage && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// driveOnce moves a page of sends by one step each, and says how many it took. One
// that can not be moved does not keep the others from it; what was not tried because
// the accounts service is away is due again soon.
func (d *desk) driveOnce(ctx context.Context) (int, error) {
	rows, err := d.db.Query(ctx, claimDue, driveAgain, drivePage)
	if err != nil {
		return 0, fmt.Errorf("look for sends that are due: %w", err)
	}
	due, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (send, error) {
		var s send
		err := s.scan(row)
		return s, err
	})
	if err != nil {
		return 0, fmt.Errorf("look for sends that are due: %w", err)
	}
	var g errgroup.Group // without a context of its own: a failure ends no other's step
	var away atomic.Bool // but who is away for one is for all
	g.SetLimit(driveAtOnce)
	for _, s := range due {
		g.Go(func() error {
			if away.Load() {
				return nil
			}
			_, _, err := d.advance(ctx, s)
			if service.Away(err) {
				away.Store(true)
			}
			return err
		})
	}
	return len(due), g.Wait()
}
