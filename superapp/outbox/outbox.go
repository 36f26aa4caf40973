// Package outbox tells the analytics service what happened, no sooner and no less
// often than it did: a service writes an event into its table outbox in the
// transaction of the write itself, and a relay delivers what is there and deletes
// it. Events arrive in the order of their ids and at least once; who receives them
// tells repeated ones by their id. It is no message broker: there is one receiver.
package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"dhow/superapp/service"
)

const (
	// page is how many events are read, and at most delivered, at once.
	page = 50
	// maxBatch bounds the events of one delivery, in bytes of JSON. It leaves room
	// below what a service takes as a body, 16 KiB.
	maxBatch = 12 << 10
	// gather is the pause before the next look once all that was there is delivered.
	// What happens meanwhile goes in one delivery, which costs three commits however
	// many events it has.
	gather = 500 * time.Millisecond
	// firstPause and lastPause bound the pauses after failures, each of which is
	// about twice as long as the one before.
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Event is one thing that happened to an account, as the analytics service takes it.
type Event struct {
	// ID is given by the relay; it is empty in the table.
	ID       string    `json:"id,omitempty"`
	Account  int64     `json:"account"`
	Kind     string    `json:"kind"`
	Category string    `json:"category"`
	Merchant string    `json:"merchant"`
	Currency string    `json:"currency"`
	Amount   int64     `json:"amount"` // in minor units; negative is money that came back
	At       time.Time `json:"at"`
}

// Row is an event in the table.
type Row struct {
	ID    int64
	Event []byte // JSON
}

// Store is a table of events.
type Store interface {
	// First are the events with the smallest ids, in their order.
	First(ctx context.Context, most int) ([]Row, error)
	// Delete removes events that were delivered.
	Delete(ctx context.Context, ids []int64) error
}

// Send delivers events; an error says that they must be sent again.
type Send func(ctx context.Context, events []Event) error

// Relay delivers the events of a service until ctx ends. Several may run on one
// table, one in each instance of the service: then events arrive repeatedly.
//
// While the receiver or the store is away the relay waits, and says so once. An
// event that the receiver refuses is a defect: it stays, with all behind it, and
// the log tells why at each attempt.
func Relay(ctx context.Context, name string, store Store, send Send, log *slog.Logger) {
	pauses := &backoff.ExponentialBackOff{InitialInterval: firstPause, MaxInterval: lastPause, Multiplier: 2, RandomizationFactor: backoff.DefaultRandomizationFactor}
	pauses.Reset()
	waits := false
	for {
		more, err := deliver(ctx, name, store, send)
		pause := gather
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !service.Away(err) || !waits {
				log.Warn("events can not be delivered to the analytics; they wait in the outbox", "error", err)
			}
			waits, pause = true, pauses.NextBackOff()
		default:
			if waits {
				log.Info("events are delivered to the analytics again")
			}
			waits = false
			pauses.Reset()
			if more {
				pause = 0
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// deliver sends the first events, deletes them and says whether there are more.
func deliver(ctx context.Context, name string, store Store, send Send) (more bool, err error) {
	rows, err := store.First(ctx, page)
	if err != nil {
		return false, fmt.Errorf("read the outbox: %w", err)
	}
	var events []Event
	var ids []int64
	size := 0
	for _, row := range rows {
		var e Event
		if err := json.Unmarshal(row.Event, &e); err != nil {
			return false, fmt.Errorf("read event %d of the outbox: %w", row.ID, err)
		}
		e.ID = fmt.Sprintf("%s:%d", name, row.ID)
		text, err := json.Marshal(e) // as it is sent: that may be longer than it is kept
		if err != nil {
			return false, fmt.Errorf("write event %d of the outbox: %w", row.ID, err)
		}
		if size += len(text); size > maxBatch && len(events) > 0 {
			break
		}
		events, ids = append(events, e), append(ids, row.ID)
	}
	if len(events) == 0 {
		return false, nil
	}
	if err := send(ctx, events); err != nil {
		return false, err
	}
	// Exactly these: an event with a smaller id may have been committed meanwhile.
	if err := store.Delete(ctx, ids); err != nil {
		return false, fmt.Errorf("delete delivered events: %w", err)
	}
	return len(rows) == page || len(events) < len(rows), nil
}
