package mariadb

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"dhow/internal/move"
)

// compareCounters compares what hands out numbers: sequences and AUTO_INCREMENT.
// They are made equal by the seal, and move on when the target serves; what matters
// is that the target is not behind, so that no number is handed out twice.
func (v *verifier) compareCounters(ctx context.Context, catalogs [2]*Catalog) error {
	now, err := v.m.catalog(ctx, v.plain.target) // later than the source's was read
	if err != nil {
		return err
	}
	for _, s := range catalogs[0].Tables {
		if t := now.Table(s.Name); t != nil && t.AutoIncrement < s.AutoIncrement {
			v.found.Object(s.String(), "AUTO_INCREMENT", move.Changed)
		}
	}
	for i, kind := range []move.Kind{move.Missing, move.Extra} {
		other := map[Name]bool{}
		for _, n := range catalogs[1-i].Sequences {
			other[n] = true
		}
		for _, n := range catalogs[i].Sequences {
			switch {
			case !other[n]:
				v.found.Object(n.String(), "sequence", kind)
			case i == 0:
				if err := v.compareSequence(ctx, n); err != nil {
					return fmt.Errorf("compare sequence %s: %w", n, err)
				}
			}
		}
	}
	return nil
}

// sequence is a sequence's state. Its numbers may be negative, or larger than those.
type sequence struct{ next, lowest, highest, start, increment, cycle string }

func readSequence(ctx context.Context, q querier, n Name) (s sequence, err error) {
	err = q.QueryRowContext(ctx, "SELECT next_not_cached_value, minimum_value, maximum_value, start_value, increment, cycle_option FROM "+n.SQL()).
		Scan(&s.next, &s.lowest, &s.highest, &s.start, &s.increment, &s.cycle)
	return s, err
}

func (v *verifier) compareSequence(ctx context.Context, n Name) error {
	ours, err := readSequence(ctx, v.plain.source, n)
	if err != nil {
		return err
	}
	theirs, err := readSequence(ctx, v.plain.target, n)
	if err != nil {
		return err
	}
	next := theirs.next
	theirs.next = ours.next
	if ours != theirs {
		v.found.Object(n.String(), "definition", move.Changed)
		return nil
	}
	behind := less(next, ours.next)
	if strings.HasPrefix(ours.increment, "-") {
		behind = less(ours.next, next)
	}
	if behind && (ours.cycle == "0" || v.pins == nil) { // one that cycles may have begun anew since
		v.found.Object(n.String(), "next value", move.Changed)
	}
	return nil
}

// less compares whole numbers as the servers print them.
func less(a, b string) bool {
	x, errX := strconv.ParseInt(a, 10, 64)
	y, errY := strconv.ParseInt(b, 10, 64)
	if errX == nil && errY == nil {
		return x < y
	}
	return len(a) < len(b) || len(a) == len(b) && a < b // beyond what is signed, and so not negative
}
