package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// anyChange is the n-th change of a transaction.
func anyChange(n int) *change { return &change{lsn: 1, ordinal: int64(n), bytes: 10} }

func TestLaneTakesAllThatWaitsInOrder(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l := newLane(nil, 0, nil, place{})
	const n = 3*batchRows + 7
	given := make(chan error, 1)
	go func() {
		for i := 1; i <= n; i++ {
			if err := l.add(ctx, anyChange(i)); err != nil {
				given <- err
				return
			}
		}
		err := l.handOver(ctx)
		l.hasten()
		given <- err
	}()
	next := int64(1)
	for next <= n {
		batch, err := l.take(ctx)
		if err != nil {
			t.Fatalf("after %d changes: %v", next-1, err)
		}
		if len(batch) > batchRows+handRows {
			t.Fatalf("%d changes wait, more than the bound", len(batch))
		}
		for _, c := range batch {
			if c.ordinal != next {
				t.Fatalf("change %d came instead of %d", c.ordinal, next)
			}
			next++
		}
	}
	if err := <-given; err != nil {
		t.Fatal(err)
	}
}

func TestLaneIsNotAheadOfWhatItWasGiven(t *testing.T) {
	l := newLane(nil, 0, nil, place{lsn: 1})
	if got := l.bound(9); got != 9 {
		t.Fatalf("an idle lane holds the reader's position back to %s", got)
	}
	// A change that the reader keeps for the lane is not on the target either.
	if err := l.add(context.Background(), &change{lsn: 5, ordinal: 1, bytes: 1}); err != nil {
		t.Fatal(err)
	}
	if got := l.bound(9); got != 1 {
		t.Fatalf("the source may forget up to %s what the lane has not applied", got)
	}
}

func TestFullLaneMakesTheReaderWait(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	l := newLane(nil, 0, nil, place{})
	var err error
	added := 0
	for ; err == nil && added < 2*batchRows; added++ {
		err = l.add(ctx, anyChange(added+1))
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%d changes were taken without an end: %v", added, err)
	}
}

func TestSlabKeepsMessagesApart(t *testing.T) {
	var s slab
	var kept, want [][]byte
	var rows []row
	for i := range 5000 {
		message := fmt.Appendf(nil, "message %d of many", i)
		if i%1000 == 999 {
			message = bytes.Repeat([]byte{byte(i)}, slabBytes)
		}
		want = append(want, bytes.Clone(message))
		kept = append(kept, s.clone(message))
		clear(message) // the connection uses its buffer again
		r := s.row(i % 300)
		if r == nil {
			t.Fatalf("a row of %d values is nil", i%300)
		}
		for k := range r {
			if r[k].kind != 0 {
				t.Fatalf("row %d got memory that is in use", i)
			}
			r[k].kind = datumNull
		}
		rows = append(rows, r)
		if c := s.change(); c.lsn != 0 {
			t.Fatalf("change %d got memory that is in use", i)
		} else {
			c.lsn = 1
		}
	}
	for i := range kept {
		if !bytes.Equal(kept[i], want[i]) {
			t.Fatalf("message %d became %.40q", i, kept[i])
		}
		if len(rows[i]) != i%300 {
			t.Fatalf("row %d has %d values", i, len(rows[i]))
		}
	}
}
