package postgres

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"dhow/internal/move"
)

// findings gather what the workers find.
type findings struct {
	most int // named rows of a table

	mu     sync.Mutex
	sum    move.Comparison
	tables map[*comparedTable]int // rows named, or about to be
	byName map[string]*tableFound
}

// tableFound is a table's share of the findings, and when its chunks were compared.
type tableFound struct {
	move.TableComparison
	began, ended time.Time
}

// of is a table's share, which begins as nothing; f.mu is held.
func (f *findings) of(name string) *tableFound {
	if f.byName == nil {
		f.byName = map[string]*tableFound{}
	}
	t := f.byName[name]
	if t == nil {
		t = &tableFound{TableComparison: move.TableComparison{Table: name}}
		f.byName[name] = t
	}
	return t
}

// expect lists a table that will be compared, though it may hold no row.
func (f *findings) expect(t *comparedTable) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of(t.source.Name.String())
}

// compared counts chunks of a table and their rows; began is when they were begun with.
func (f *findings) compared(t *comparedTable, rows int64, chunks int, began time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Rows += rows
	f.sum.Chunks += chunks
	found := f.of(t.source.Name.String())
	found.Rows += rows
	if found.began.IsZero() || began.Before(found.began) {
		found.began = began
	}
	found.ended = time.Now()
}

// object notes that a whole object is missing, extra or changed.
func (f *findings) object(name, what string, kind move.Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Different++
	f.of(name).Different++
	f.sum.Differences = append(f.sum.Differences, move.Difference{Table: name, Key: what, Kind: kind})
}

// room is how many rows of a table there is room to name.
func (f *findings) room(t *comparedTable) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(f.most - f.tables[t])
}

// row counts a difference, and names it while there is room.
func (f *findings) row(t *comparedTable, d difference) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tables == nil {
		f.tables = map[*comparedTable]int{}
	}
	f.sum.Different += d.count
	f.of(t.source.Name.String()).Different += d.count
	if d.repaired {
		f.sum.Repaired += d.count
	}
	key := d.text
	if d.key != nil {
		key = t.describe(d.key)
	}
	room := int(min(d.count, int64(f.most-f.tables[t])))
	f.tables[t] += room
	for range room {
		f.sum.Differences = append(f.sum.Differences, move.Difference{Table: t.source.Name.String(), Key: key, Kind: d.kind, Repaired: d.repaired})
	}
}

// undecided counts rows that changed too fast to be judged.
func (f *findings) undecided(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Undecided += n
}

// result is all that was found, sorted.
func (f *findings) result(tables int) move.Comparison {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Tables = tables
	for _, name := range slices.Sorted(maps.Keys(f.byName)) {
		t := f.byName[name]
		t.Took = t.ended.Sub(t.began)
		f.sum.ByTable = append(f.sum.ByTable, t.TableComparison)
	}
	slices.SortFunc(f.sum.Differences, func(a, b move.Difference) int {
		return cmp.Or(strings.Compare(a.Table, b.Table), compareNatural(a.Key, b.Key), strings.Compare(string(a.Kind), string(b.Kind)))
	})
	return f.sum
}

// compareNatural orders texts so that numbers in them come in their own order.
func compareNatural(a, b string) int {
	for a != "" && b != "" {
		da, db := digits(a), digits(b)
		if da == 0 || db == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		na, nb := strings.TrimLeft(a[:da], "0"), strings.TrimLeft(b[:db], "0")
		if c := cmp.Or(cmp.Compare(len(na), len(nb)), strings.Compare(na, nb), cmp.Compare(da, db)); c != 0 {
			return c
		}
		a, b = a[da:], b[db:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits is the length of the number that a text begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// differing are the tables that have differing rows.
func (f *findings) differing() map[*comparedTable]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[*comparedTable]bool{}
	for t := range f.tables {
		all[t] = true
	}
	return all
}
