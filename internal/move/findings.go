package move

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Findings gather what the workers of a comparison find. Their methods may be
// called from several goroutines.
type Findings struct {
	// Most bounds the differing rows named for each table. It stays as it is.
	Most int

	mu     sync.Mutex
	sum    Comparison
	tables map[string]*tableFound
}

// tableFound is a table's share of the findings, and when its chunks were compared.
type tableFound struct {
	TableComparison
	named        int
	rows         bool // rows of it differ
	began, ended time.Time
}

// of is a table's share, which begins as nothing; f.mu is held.
func (f *Findings) of(table string) *tableFound {
	if f.tables == nil {
		f.tables = map[string]*tableFound{}
	}
	t := f.tables[table]
	if t == nil {
		t = &tableFound{TableComparison: TableComparison{Table: table}}
		f.tables[table] = t
	}
	return t
}

// Expect lists a table that will be compared, though it may hold no row.
func (f *Findings) Expect(table string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.of(table)
}

// Compared counts chunks of a table and their rows; began is when they were begun with.
func (f *Findings) Compared(table string, rows int64, chunks int, began time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Rows += rows
	f.sum.Chunks += chunks
	t := f.of(table)
	t.Rows += rows
	if t.began.IsZero() || began.Before(t.began) {
		t.began = began
	}
	t.ended = time.Now()
}

// Object notes that a whole object, or a part of a table that is no row, is
// missing, extra or changed.
func (f *Findings) Object(name, what string, kind Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Different++
	f.of(name).Different++
	f.sum.Differences = append(f.sum.Differences, Difference{Table: name, Key: what, Kind: kind})
}

// Room is how many rows of a table there is room to name.
func (f *Findings) Room(table string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.tables[table]; t != nil {
		return int64(f.Most - t.named)
	}
	return int64(f.Most)
}

// Row counts a difference of so many equal rows, and names each while there is room.
func (f *Findings) Row(d Difference, count int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.of(d.Table)
	t.rows = true
	f.sum.Different += count
	t.Different += count
	if d.Repaired {
		f.sum.Repaired += count
	}
	room := int(min(count, int64(f.Most-t.named)))
	t.named += room
	for range room {
		f.sum.Differences = append(f.sum.Differences, d)
	}
}

// Undecided counts rows that could not be judged.
func (f *Findings) Undecided(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Undecided += n
}

// Differ says whether rows of a table differ.
func (f *Findings) Differ(table string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tables[table] != nil && f.tables[table].rows
}

// Result is all that was found in so many tables, sorted. It may be called once.
func (f *Findings) Result(tables int) Comparison {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Tables = tables
	for _, name := range slices.Sorted(maps.Keys(f.tables)) {
		t := f.tables[name]
		t.Took = t.ended.Sub(t.began)
		f.sum.ByTable = append(f.sum.ByTable, t.TableComparison)
	}
	slices.SortFunc(f.sum.Differences, func(a, b Difference) int {
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
