package redis

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"dhow/internal/move"
)

// TestComparisonFindsItsStream: beside another process that streams, and by itself where none does.
func TestComparisonFindsItsStream(t *testing.T) {
	e := startEnds(t, "repl-ping-replica-period", "1")
	admin := as(t, e.source, "", "")
	fill(t, admin, 2000)
	stop := follow(t, e.m)

	compare := func() move.Comparison {
		t.Helper()
		other := e.mover(t) // as another process has one
		defer other.Close(context.Background())
		c, err := other.Verify(t.Context(), move.VerifyOptions{}, nil)
		must(t, err)
		return c
	}
	var writes sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	writes.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := admin.Set(ctx, "busy", i, 0).Err(); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
				return
			}
		}
	})
	for _, c := range []move.Comparison{compare(), compare()} {
		if c.Different != 0 || c.Rows < 2000 {
			t.Errorf("beside a stream %+v", c)
		}
	}
	cancel()
	writes.Wait()
	stop()

	do(t, admin, "SET", "behind", "1") // nobody streams
	if c := compare(); c.Different != 0 || c.Rows < 2002 {
		t.Errorf("by itself %+v", c)
	}
	// What it has started has ended: another takes the move's lock at once.
	follow(t, e.m)()
}

// TestPassElsewhereNamesABrokenStream: what has stopped for good is not waited for.
func TestPassElsewhereNamesABrokenStream(t *testing.T) {
	e := startEnds(t)
	follow(t, e.m)()
	from, to, err := e.m.dialBoth(t.Context())
	must(t, err)
	defer from.hangUp()
	defer to.hangUp()
	must(t, to.HSet(t.Context(), stateKey(e.m.stream), fieldOffset, "0", fieldBroken, "a test").Err())
	var refused *move.Refused
	if err := e.m.passElsewhere(t.Context(), from, to); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "has stopped for good: a test") {
		t.Errorf("got %v", err)
	}
}
