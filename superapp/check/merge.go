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
type comparison[K comparable] struct {
	kind Kind
	of   func(K) string
	// run tells what disagrees; only, if it is not nil, are the keys to look at.
	run func(ctx context.Context, c *checker, only []K, tell func(key K, wrong string)) error
	// looks is how often what disagrees is looked at again; 0 is once.
	looks int
}

// compare runs a comparison. What disagrees is looked at again as it is then: on
// a system in service, the snapshots are not of the same instant.
func compare[K comparable](ctx context.Context, c *checker, what comparison[K]) error {
	var suspect []K
	var last map[K]string
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
	for range max(what.looks, 1) {
		wrong := map[K]string{}
		if err := look(ctx, c.cfg, what, suspect, wrong); err != nil {
			return err
		}
		again := suspect[:0]
		for _, key := range suspect {
			if wrong[key] != "" {
				again = append(again, key)
			}
		}
		if suspect = again; len(suspect) == 0 {
			return nil
		}
		last = wrong
	}
	for _, key := range suspect {
		c.report.add(what.kind, what.of(key), "%s", last[key])
	}
	return nil
}

// look looks at some keys as they are now.
func look[K comparable](ctx context.Context, cfg Config, what comparison[K], only []K, wrong map[K]string) error {
	now := &checker{cfg: cfg}
	if err := now.open(ctx); err != nil {
		return err
	}
	defer now.close(ctx)
	return what.run(ctx, now, only, func(key K, text string) { wrong[key] = text })
}
