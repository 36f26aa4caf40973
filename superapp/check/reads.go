package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"dhow/superapp/history"
)

// atOnce bounds the sightings that are in memory at once, of some 60 bytes each;
// a longer history is read several times, for a part of the accounts each.
const atOnce = 2_000_000

// sighting is an account's version that an acknowledged operation showed.
type sighting struct {
	account, version int64
	sent, done       int64
	// write: the operation made this version, so it must be above all seen before.
	write bool
	file  int32
	line  int64
}

// seenIn is what an operation showed.
func seenIn(r *history.Record) []sighting {
	if r.Outcome != history.Acknowledged || !r.Op.Write() && !r.Op.Shows() {
		return nil
	}
	s := sighting{account: r.Account, version: r.Version, sent: r.Sent, done: r.Done}
	if !r.Op.Write() {
		return []sighting{s}
	}
	// A stored answer shows a version that was made at another time.
	if r.Replayed || r.Version == 0 {
		return nil
	}
	s.account, s.write = r.From, true
	if r.ToVersion == 0 {
		return []sighting{s}
	}
	to := s
	to.account, to.version = r.To, r.ToVersion
	return []sighting{s, to}
}

// reads looks for operations that showed an older state than one that was seen,
// by any client, before they were sent.
func (c *checker) reads(ctx context.Context) error { return c.readsAtOnce(ctx, atOnce) }

func (c *checker) readsAtOnce(ctx context.Context, most int64) error {
	parts := (c.sightings + most - 1) / most
	for part := range parts {
		list := make([]sighting, 0, c.sightings/parts+1)
		if _, err := c.each(func(f int, line int64, r *history.Record) error {
			for _, s := range seenIn(r) {
				if s.account%parts == part {
					s.file, s.line = int32(f), line
					list = append(list, s)
				}
			}
			return ctx.Err()
		}); err != nil {
			return err
		}
		for _, b := range backwards(list) {
			now, before := list[b.now], list[b.before]
			kind, verb := StaleRead, "showed"
			if now.write {
				kind, verb = StaleWrite, "made"
			}
			c.report.add(kind, fmt.Sprintf("account %d, %s:%d", now.account, c.files[now.file].path, now.line),
				"it %s version %d, and version %d was seen %s before it was sent (%s:%d)", verb, now.version, before.version,
				time.Duration(now.sent-before.done), c.files[before.file].path, before.line)
		}
	}
	return nil
}

// back is a sighting that went back in time, and one of the highest version that
// was seen before: their places in the list.
type back struct{ now, before int }

// backwards finds, in the order of their sending, all sightings that show less
// than another one of the same account whose operation was done before theirs
// was sent. It goes through time once: what is done raises its account's mark,
// what is sent is held against it. So it takes as long as sorting does.
func backwards(list []sighting) []back {
	bySent, byDone := make([]int, len(list)), make([]int, len(list))
	for i := range list {
		bySent[i], byDone[i] = i, i
	}
	slices.SortFunc(bySent, func(a, b int) int { return cmp.Or(cmp.Compare(list[a].sent, list[b].sent), cmp.Compare(a, b)) })
	slices.SortFunc(byDone, func(a, b int) int { return cmp.Or(cmp.Compare(list[a].done, list[b].done), cmp.Compare(a, b)) })
	var found []back
	highest := map[int64]int{} // by account: the place of the highest that is done
	next := 0
	for _, i := range bySent {
		for ; next < len(byDone) && list[byDone[next]].done < list[i].sent; next++ {
			d := byDone[next]
			if h, ok := highest[list[d].account]; !ok || list[d].version > list[h].version {
				highest[list[d].account] = d
			}
		}
		h, ok := highest[list[i].account]
		if ok && (list[i].version < list[h].version || list[i].write && list[i].version == list[h].version) {
			found = append(found, back{i, h})
		}
	}
	return found
}
