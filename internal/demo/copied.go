package demo

import (
	"fmt"
	"sync"
	"time"

	"dhow/internal/move"
)

// copyMeter tells the rate of the copies of all databases together.
type copyMeter struct {
	began       time.Time // for a copy that was over before the first report
	mu          sync.Mutex
	from, until time.Time
	last        map[string]move.Progress
	// heard is when a database was heard of first, copied when its copy was over.
	heard, copied map[string]time.Time
}

// over is how long a database's copy took, with all that belongs to it. Of one that
// was over before the first report it is the time until then.
func (c *copyMeter) over(database string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, from := c.copied[database], c.heard[database]
	if at.IsZero() {
		return 0
	}
	if at.Equal(from) {
		from = c.began
	}
	return at.Sub(from)
}

func (c *copyMeter) hear(p move.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heard[p.Database].IsZero() {
		c.heard[p.Database] = p.At
	}
	if c.copied[p.Database].IsZero() && (p.Phase == move.PhaseIndex || p.Phase == move.PhaseGuard || p.Phase == move.PhaseStream) {
		c.copied[p.Database] = p.At
	}
	switch {
	case p.Phase == move.PhaseCopy:
		if c.from.IsZero() {
			c.from = p.At
		}
		c.last[p.Database], c.until = p, p.At
	case p.Phase == move.PhaseIndex && p.Rows > 0: // the copy's totals are complete now
		if c.last[p.Database].Phase != move.PhaseIndex {
			c.until = p.At
		}
		c.last[p.Database] = p
	}
}

// rates are the rows and the megabytes (10^6 bytes) a second.
func (c *copyMeter) rates() (rows, megabytes float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := c.from
	if from.IsZero() {
		from = c.began
	}
	seconds := c.until.Sub(from).Seconds()
	if seconds <= 0 {
		return 0, 0
	}
	for _, p := range c.last {
		rows += float64(p.Rows)
		megabytes += float64(p.Bytes) / 1e6
	}
	return rows / seconds, megabytes / seconds
}

// describe says in a line where a database stands.
func describe(p move.Progress) string {
	switch p.Phase {
	case move.PhaseStream:
		return fmt.Sprintf("%s: streams, %d bytes behind", p.Database, p.LagBytes)
	case move.PhaseIndex:
		return fmt.Sprintf("%s: indexes and constraints, %d of %d", p.Database, p.Steps, p.StepsTotal)
	case move.PhaseGuard:
		return fmt.Sprintf("%s: closing the target to all but the stream, %d of %d", p.Database, p.Steps, p.StepsTotal)
	}
	return fmt.Sprintf("%s: %s, %d of about %d rows, %.0f a second", p.Database, p.Phase, p.Rows, p.RowsTotal, p.RowsPerSecond)
}
