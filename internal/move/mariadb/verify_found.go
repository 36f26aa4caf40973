package mariadb

import (
	"cmp"
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
	tables map[*comparedTable]*tableFindings
}

// tableFindings are those of one table.
type tableFindings struct {
	named           int
	rows, different int64
	began, ended    time.Time
}

func (f *findings) of(t *comparedTable) *tableFindings {
	if f.tables == nil {
		f.tables = map[*comparedTable]*tableFindings{}
	}
	if f.tables[t] == nil {
		f.tables[t] = &tableFindings{}
	}
	return f.tables[t]
}

// compared counts a chunk and its rows.
func (f *findings) compared(t *comparedTable, rows int64, began time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Rows += rows
	f.sum.Chunks++
	of := f.of(t)
	of.rows += rows
	if of.began.IsZero() || began.Before(of.began) {
		of.began = began
	}
	of.ended = time.Now()
}

// object notes that a whole object is missing, extra or changed.
func (f *findings) object(name, what string, kind move.Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Different++
	f.sum.Differences = append(f.sum.Differences, move.Difference{Table: name, Key: what, Kind: kind})
}

// room is how many rows of a table there is room to name.
func (f *findings) room(t *comparedTable) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(f.most - f.of(t).named)
}

// row counts a difference, and names it while there is room.
func (f *findings) row(t *comparedTable, d difference) {
	f.mu.Lock()
	defer f.mu.Unlock()
	of := f.of(t)
	f.sum.Different += d.count
	of.different += d.count
	if d.repaired {
		f.sum.Repaired += d.count
	}
	of.ended = time.Now()
	key := d.text
	if d.suspect.key != nil {
		key = t.describe(d.suspect.key)
	}
	room := int(min(d.count, int64(f.most-of.named)))
	of.named += room
	for range room {
		f.sum.Differences = append(f.sum.Differences, move.Difference{Table: t.source.String(), Key: key, Kind: d.kind, Repaired: d.repaired})
	}
}

// undecided counts rows that could not be judged.
func (f *findings) undecided(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Undecided += n
}

// result is all that was found, sorted.
func (f *findings) result(tables []*comparedTable) move.Comparison {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sum.Tables = len(tables)
	for _, t := range tables {
		of := f.of(t)
		f.sum.ByTable = append(f.sum.ByTable, move.TableComparison{Table: t.source.String(), Rows: of.rows, Different: of.different, Took: of.ended.Sub(of.began)})
	}
	slices.SortFunc(f.sum.ByTable, func(a, b move.TableComparison) int { return strings.Compare(a.Table, b.Table) })
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

// teller tells a comparison's progress, from whichever goroutine has something to tell.
type teller struct {
	database string
	report   func(move.Progress)

	mu     sync.Mutex
	began  time.Time
	last   time.Time
	sum    move.Progress
	tables map[*comparedTable]int // places in sum.Tables
}

// expect says what will be compared.
func (t *teller) expect(tables []*comparedTable) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began, t.tables = time.Now(), map[*comparedTable]int{}
	t.sum = move.Progress{Database: t.database, Phase: move.PhaseVerify}
	for _, of := range tables {
		t.tables[of] = len(t.sum.Tables)
		t.sum.RowsTotal += of.source.Rows
		t.sum.BytesTotal += of.source.Bytes
		t.sum.Tables = append(t.sum.Tables, move.TableProgress{Table: of.source.String(), RowsTotal: of.source.Rows})
	}
}

// rows says that a chunk was compared; last, that it was its table's last in order.
func (t *teller) rows(of *comparedTable, n int64, last bool) {
	t.mu.Lock()
	share := &t.sum.Tables[t.tables[of]]
	share.Rows += n
	share.Done = share.Done || last
	t.sum.Rows += n
	t.sum.Steps++
	due := time.Since(t.last) >= reportEvery
	t.mu.Unlock()
	if due {
		t.now()
	}
}

// now tells the progress.
func (t *teller) now() {
	if t.report == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = time.Now()
	p := t.sum
	p.At, p.Tables = t.last, slices.Clone(t.sum.Tables)
	p.RowsTotal = max(p.Rows, p.RowsTotal)
	if spent := t.last.Sub(t.began).Seconds(); spent > 0 {
		p.RowsPerSecond = float64(p.Rows) / spent
	}
	if left := p.RowsTotal - p.Rows; left > 0 && p.RowsPerSecond > 1 {
		p.ETA = time.Duration(float64(left) / p.RowsPerSecond * float64(time.Second)).Round(time.Second)
	}
	t.report(p)
}
