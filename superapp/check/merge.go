package check

import (
	"cmp"
	"context"
	"errors"
)

// suspects bounds the disagreements that are looked at a second time.
const suspects = 1000

// merge walks through two streams in the order of their keys and calls do for
// each key with the rows of both.
func merge[A, B any, K cmp.Ordered](as *stream[A], keyA func(*A) K, bs *stream[B], keyB func(*B) K, do func(key K, a []A, b []B)) error {
	a, errA := as.next()
	b, errB := bs.next()
	for errA == nil && errB == nil && (a != nil || b != nil) {
		var key K
		if a != nil {
			key = keyA(a)
		}
		if a == nil || b != nil && keyB(b) < key {
			key = keyB(b)
		}
		var ofA []A
		var ofB []B
		for ; a != nil && keyA(a) == key && errA == nil; a, errA = as.next() {
			ofA = append(ofA, *a)
		}
		for ; b != nil && keyB(b) == key && errB == nil; b, errB = bs.next() {
			ofB = append(ofB, *b)
		}
		do(key, ofA, ofB)
	}
	return errors.Join(errA, errB)
}

// comparison holds the rows of one database against those of another.
type comparison[K any] struct {
	kind Kind
	of   func(K) string
	// run tells what disagrees; only, if it is not nil, are the keys to look at.
	run func(ctx context.Context, c *checker, only []K, tell func(key K, wrong string)) error
}

// compare runs a comparison. What disagrees is looked at again as it is then: on
// a system in service, the snapshots are not of the same instant.
func compare[K any](ctx context.Context, c *checker, what comparison[K]) error {
	var suspect []K
	err := what.run(ctx, c, nil, func(key K, wrong string) {
		if len(suspect) < suspects {
			suspect = append(suspect, key)
			return
		}
		c.report.add(what.kind, what.of(key), "%s", wrong)
	})
	if err != nil || len(suspect) == 0 {
		return err
	}
	again := &checker{cfg: c.cfg}
	if err := again.open(ctx); err != nil {
		return err
	}
	defer again.close(ctx)
	return what.run(ctx, again, suspect, func(key K, wrong string) { c.report.add(what.kind, what.of(key), "%s", wrong) })
}
