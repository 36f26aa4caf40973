package move

import (
	"context"

	"golang.org/x/time/rate"
)

// Pace bounds how many rows, or keys, a second are read by all that share it. A nil Pace
// bounds nothing.
type Pace struct{ limit *rate.Limiter }

// NewPace is a Pace of so many rows a second; of 0 or less it is nil.
func NewPace(rowsPerSecond int) *Pace {
	if rowsPerSecond <= 0 {
		return nil
	}
	return &Pace{rate.NewLimiter(rate.Limit(rowsPerSecond), max(1, rowsPerSecond/10))}
}

// Took waits until the rows that were just read are within the pace, or ctx ends.
func (p *Pace) Took(ctx context.Context, rows int64) error {
	if p == nil {
		return nil
	}
	for most := int64(p.limit.Burst()); rows > 0; rows -= most {
		if err := p.limit.WaitN(ctx, int(min(rows, most))); err != nil {
			return err
		}
	}
	return nil
}
