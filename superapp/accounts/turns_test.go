package accounts

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestTurns(t *testing.T) {
	turns := newTurns()
	var wait sync.WaitGroup
	var counts [5]int // guarded by the turns alone, which the race detector watches
	for i := range 200 {
		wait.Go(func() {
			a, b := int64(i%5), int64((i+1+i/5%4)%5)
			give, err := turns.take(context.Background(), a, b)
			if err != nil {
				t.Error(err)
				return
			}
			defer give()
			counts[a]++
			counts[b]++
		})
	}
	wait.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	if sum != 400 || len(turns.held) != 0 {
		t.Errorf("%d of 400 turns were taken, %d are kept", sum, len(turns.held))
	}
}

// Who gives up while it waits leaves neither a turn taken nor an entry behind.
func TestTurnThatIsGivenUp(t *testing.T) {
	turns := newTurns()
	give, err := turns.take(t.Context(), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, pair := range [][2]int64{{1, 3}, {3, 2}, {0, 1}} {
		if _, err := turns.take(ended, pair[0], pair[1]); !errors.Is(err, context.Canceled) {
			t.Errorf("it did not give up: %v", err)
		}
	}
	give()
	give, err = turns.take(t.Context(), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	give()
	if len(turns.held) != 0 {
		t.Errorf("%d turns are kept", len(turns.held))
	}
}
