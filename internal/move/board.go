package move

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Board is where the workers of a move write what they have done, and where a
// Progress is read off. Its methods may be called from several goroutines.
type Board struct {
	// Database is the one that is moved, by its name in the estate. It stays as it is.
	Database string

	mu     sync.Mutex
	sum    Progress // as far as it is counted
	rate   Meter
	tables map[string]*TableProgress
}

// Begin enters a phase of so many steps.
func (b *Board) Begin(ph Phase, steps int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sum.Phase, b.rate, b.sum.Steps, b.sum.StepsTotal = ph, Meter{}, 0, steps
}

// Expect adds a share of a table to the totals.
func (b *Board) Expect(table string, rows, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tables == nil {
		b.tables = map[string]*TableProgress{}
	}
	t := b.tables[table]
	if t == nil {
		t = &TableProgress{Table: table}
		b.tables[table] = t
	}
	t.RowsTotal += rows
	b.sum.RowsTotal += rows
	b.sum.BytesTotal += bytes
}

// Done adds rows of a table that are done.
func (b *Board) Done(table string, rows, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sum.Rows += rows
	b.sum.Bytes += bytes
	b.rate.Add(time.Now(), rows, bytes)
	if t := b.tables[table]; t != nil {
		t.Rows += rows
		t.Bytes += bytes
	}
}

// TableDone says that a table is done whole.
func (b *Board) TableDone(table string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.tables[table]; t != nil {
		t.Done = true
	}
}

// ExpectSteps adds steps to those of the phase.
func (b *Board) ExpectSteps(n int) {
	b.mu.Lock()
	b.sum.StepsTotal += n
	b.mu.Unlock()
}

// StepDone says that a step is done.
func (b *Board) StepDone() {
	b.mu.Lock()
	b.sum.Steps++
	b.mu.Unlock()
}

// Say sets the note for people that each Progress bears from now on.
func (b *Board) Say(note string) {
	b.mu.Lock()
	b.sum.Note = note
	b.mu.Unlock()
}

// Read is the progress at a moment.
func (b *Board) Read(now time.Time) Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.sum
	p.Database, p.At = b.Database, now
	p.RowsTotal, p.BytesTotal = max(p.Rows, p.RowsTotal), max(p.Bytes, p.BytesTotal)
	p.RowsPerSecond, p.BytesPerSecond = b.rate.PerSecond(now)
	if left := p.RowsTotal - p.Rows; left > 0 && p.RowsPerSecond > 1 {
		p.ETA = time.Duration(float64(left) / p.RowsPerSecond * float64(time.Second)).Round(time.Second)
	}
	for _, t := range b.tables {
		p.Tables = append(p.Tables, *t)
	}
	slices.SortFunc(p.Tables, func(a, b TableProgress) int { return strings.Compare(a.Table, b.Table) })
	return p
}

// meterSlots is how many seconds a rate looks back.
const meterSlots = 5

// Meter tells a rate over the last seconds. Its zero value has counted nothing.
type Meter struct {
	marks [meterSlots]struct {
		second      int64
		rows, bytes int64
	}
}

// Add counts rows and bytes at a moment, which is not before those of other calls.
func (m *Meter) Add(now time.Time, rows, bytes int64) {
	s := now.Unix()
	slot := &m.marks[s%meterSlots]
	if slot.second != s {
		slot.second, slot.rows, slot.bytes = s, 0, 0
	}
	slot.rows += rows
	slot.bytes += bytes
}

// PerSecond is the rate up to a moment.
func (m *Meter) PerSecond(now time.Time) (rows, bytes float64) {
	s := now.Unix()
	seconds := float64(meterSlots-1) + float64(now.Nanosecond())/1e9
	for _, slot := range m.marks {
		if slot.second > s-meterSlots {
			rows += float64(slot.rows)
			bytes += float64(slot.bytes)
		}
	}
	return rows / seconds, bytes / seconds
}
