package accounts

import (
	"context"
	"fmt"
	"sync"
)

// turns lets the changes of one account go one after the other within this
// process. It keeps nothing right: the database does that, also against other
// processes. It keeps popular accounts quick: without it, of fifty transfers
// that want the same row one would commit and forty-nine would begin anew, and
// each would hold a connection while it waits.
type turns struct {
	mu   sync.Mutex
	held map[int64]*turn
}

// turn is one account's; it exists while somebody has it or waits for it.
type turn struct {
	free    chan struct{} // holds one token while nobody has the turn
	waiting int           // and who has it, counted too
}

func newTurns() *turns { return &turns{held: map[int64]*turn{}} }

// take waits for the turns of two accounts, which may be the same, in the order of
// their ids so that no two can wait for each other. The function gives them back.
func (t *turns) take(ctx context.Context, a, b int64) (func(), error) {
	low, high := min(a, b), max(a, b)
	if err := t.one(ctx, low); err != nil {
		return nil, err
	}
	if low == high {
		return func() { t.give(low) }, nil
	}
	if err := t.one(ctx, high); err != nil {
		t.give(low)
		return nil, err
	}
	return func() { t.give(high); t.give(low) }, nil
}

func (t *turns) one(ctx context.Context, id int64) error {
	t.mu.Lock()
	one := t.held[id]
	if one == nil {
		one = &turn{free: make(chan struct{}, 1)}
		one.free <- struct{}{}
		t.held[id] = one
	}
	one.waiting++
	t.mu.Unlock()
	select {
	case <-one.free:
		return nil
	case <-ctx.Done():
		t.leave(id, one)
		return fmt.Errorf("wait for the transfers before this one: %w", ctx.Err())
	}
}

func (t *turns) give(id int64) {
	t.mu.Lock()
	one := t.held[id]
	t.mu.Unlock()
	one.free <- struct{}{}
	t.leave(id, one)
}

func (t *turns) leave(id int64, one *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one.waiting--; one.waiting == 0 {
		delete(t.held, id)
	}
}
