package postgres

import (
	"sort"
	"sync"
	"time"

	"dhow/internal/move"
)

// board is where workers write what they have done, and where a report is read off.
type board struct {
	mu         sync.Mutex
	now        move.Phase
	began      time.Time
	rate       meter
	rows       int64
	rowsTotal  int64
	bytes      int64
	bytesTotal int64
	steps      int
	stepsTotal int
	tables     map[Name]*move.TableProgress
}

func (b *board) begin(ph move.Phase) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now, b.began, b.rate, b.steps, b.stepsTotal = ph, time.Now(), meter{}, 0, 0
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

func (b *board) stepsExpected(n int) {
	b.mu.Lock()
	b.stepsTotal += n
	b.mu.Unlock()
}

func (b *board) stepDone() {
	b.mu.Lock()
	b.steps++
	b.mu.Unlock()
}

func (b *board) read(now time.Time) move.Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := move.Progress{Phase: b.now, At: now, Rows: b.rows, RowsTotal: max(b.rows, b.rowsTotal), Bytes: b.bytes, BytesTotal: max(b.bytes, b.bytesTotal), Steps: b.steps, StepsTotal: b.stepsTotal}
	p.RowsPerSecond, p.BytesPerSecond = b.rate.perSecond(now)
	if left := p.RowsTotal - p.Rows; left > 0 && p.RowsPerSecond > 1 {
		p.ETA = time.Duration(float64(left) / p.RowsPerSecond * float64(time.Second)).Round(time.Second)
	}
	for _, t := range b.tables {
		p.Tables = append(p.Tables, *t)
	}
	sort.Slice(p.Tables, func(i, j int) bool { return p.Tables[i].Table < p.Tables[j].Table })
	return p
}
