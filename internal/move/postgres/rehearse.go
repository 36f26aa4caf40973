package postgres

import (
	"context"
	"time"

	"dhow/internal/move"
)

// What the steps under the fence take for each object, measured on a small
// server; they only serve the prediction.
const (
	costPerTrigger  = 200 * time.Microsecond
	costPerSequence = 50 * time.Microsecond
	// roundTrips are the statements and connections, in round trips, that fencing,
	// sealing and opening one database take.
	roundTrips = 40
)

// Rehearse sends a marker through the stream and estimates the cost of sealing.
func (m *Mover) Rehearse(ctx context.Context) (move.Rehearsal, error) {
	var r move.Rehearsal
	source, err := m.take(ctx, m.sourceSide()) // as the fence does
	if err != nil {
		return r, err
	}
	defer m.putBack(ctx, m.sourceSide(), source)
	began := time.Now()
	mk, err := m.mark(ctx, source)
	if err != nil {
		return r, err
	}
	if err := m.CatchUp(ctx, mk); err != nil {
		return r, err
	}
	r.Lag = time.Since(began)
	c, err := m.relations(ctx, source)
	if err != nil {
		return r, err
	}
	began = time.Now()
	if err := source.Ping(ctx); err != nil {
		return r, err
	}
	r.Seal = roundTrips*time.Since(began) + time.Duration(len(c.Tables)+len(c.Roots))*costPerTrigger + time.Duration(len(c.Sequences))*costPerSequence
	began = time.Now()
	if _, err := objects(ctx, source); err != nil {
		return r, err
	}
	r.Seal += 2 * time.Since(began)
	return r, nil
}
