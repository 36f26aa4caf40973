package payments

import (
	"context"
	"fmt"
	"time"

	"dhow/superapp/service"
)

const (
	// defaultExpiry is how long a request can be accepted; maxExpiry is the longest that can be asked for.
	defaultExpiry = 7 * 24 * time.Hour
	maxExpiry     = 90 * 24 * time.Hour
	// expireEvery is the pause between two looks for requests that are over. They can
	// not be accepted in between: the time decides, not the look.
	expireEvery = 2 * time.Second
	// expirePage is how many are closed by one statement.
	expirePage = 100
)

// Whoever accepts one at this instant has locked it; it is skipped, and left alone once it names its payment.
const expireRequests = `
UPDATE requests SET state = '` + Expired + `', updated = clock_timestamp() WHERE id IN (
    SELECT id FROM requests WHERE state = '` + Open + `' AND payment IS NULL AND expires <= clock_timestamp()
    ORDER BY expires LIMIT $1 FOR UPDATE SKIP LOCKED
)`

// expireAll closes requests that nobody accepted in time, until ctx ends.
func (b *book) expireAll(ctx context.Context) {
	service.Regularly(ctx, b.log, expireEvery, "close expired requests", func() error {
		for {
			tag, err := b.db.Exec(ctx, expireRequests, expirePage)
			if err != nil {
				return fmt.Errorf("close expired requests: %w", err)
			}
			b.expired.Add(float64(tag.RowsAffected()))
			if tag.RowsAffected() < expirePage {
				return nil
			}
		}
	})
}
