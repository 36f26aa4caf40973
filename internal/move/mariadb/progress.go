package mariadb

import (
	"slices"
	"strings"
	"sync"
	"time"

	"dhow/internal/move"
)

// meterSlots is how many seconds a rate looks back.
const meterSlots = 5

// meter tells a rate over the last seconds.
type meter struct {
	marks [meterSlots]struct {
		second      int64
		rows, bytes int64
	}
}

func (m *meter) add(now time.Time, rows, bytes int64) {
	s := now.Unix()
	slot := &m.marks[s%meterSlots]
	if slot.second != s {
		slot.second, slot.rows, slot.bytes = s, 0, 0
	}
	slot.rows += rows
	slot.bytes += bytes
}

func (m *meter) perSecond(now time.Time) (rows, bytes float64) {
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

// board is where workers write what they have done, and where a report is read off.
type board struct {
	mu         sync.Mutex
	database   string
	now        move.Phase
	note       string
	rate       meter
	rows       int64
	rowsTotal  int64
	bytes      int64
	bytesTotal int64
	steps      int
	stepsTotal int
	tables     map[Name]*move.TableProgress
}

// begin enters a phase of so many steps.
func (b *board) begin(ph move.Phase, steps int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now, b.rate, b.steps, b.stepsTotal = ph, meter{}, 0, steps
}

// expect adds a table's share to the totals.
func (b *board) expect(n Name, rows, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tables[n]
	if t == nil {
		t = &move.TableProgress{Table: n.String()}
		b.tables[n] = t
	}
	t.RowsTotal += rows
	b.rowsTotal += rows
	b.bytesTotal += bytes
}

// copied adds rows that were sent.
func (b *board) copied(n Name, rows, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows += rows
	b.bytes += bytes
	b.rate.add(time.Now(), rows, bytes)
	if t := b.tables[n]; t != nil {
		t.Rows += rows
		t.Bytes += bytes
	}
}

func (b *board) tableDone(n Name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.tables[n]; t != nil {
		t.Done = true
	}
}

func (b *board) stepDone() {
	b.mu.Lock()
	b.steps++
	b.mu.Unlock()
}

// say sets the warning for people that each report bears from now on.
func (b *board) say(note string) {
	b.mu.Lock()
	b.note = note
	b.mu.Unlock()
}

func (b *board) read(now time.Time) move.Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := move.Progress{Database: b.database, Phase: b.now, At: now, Rows: b.rows, RowsTotal: max(b.rows, b.rowsTotal), Bytes: b.bytes,
		BytesTotal: max(b.bytes, b.bytesTotal), Steps: b.steps, StepsTotal: b.stepsTotal, Note: b.note}
	p.RowsPerSecond, p.BytesPerSecond = b.rate.perSecond(now)
	if left := p.RowsTotal - p.Rows; left > 0 && p.RowsPerSecond > 1 {
		p.ETA = time.Duration(float64(left) / p.RowsPerSecond * float64(time.Second)).Round(time.Second)
	}
	for _, t := range b.tables {
		p.Tables = append(p.Tables, *t)
	}
	slices.SortFunc(p.Tables, func(a, b move.TableProgress) int { return strings.Compare(a.Table, b.Table) })
	return p
}
