package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"dhow/internal/move"
	"dhow/internal/move/redis/rdb"
)

// Verify compares key by key: type, value in its meaning (not its encoding) and
// the very millisecond of its end. Pinned snapshots are compared in one reading,
// see verify_pinned.go; moving data by looking at the keys, and looking again at
// those that differ until each is proved, see verify_moving.go.
//
// Keys of ours are no keys of the application: they are left out.

const (
	// functionsTable names the libraries of functions among the key spaces.
	functionsTable = "functions"
	// tellEvery is the pause between two reports.
	tellEvery = 500 * time.Millisecond
)

// Verify compares both sides and names every key that differs.
func (m *Mover) Verify(ctx context.Context, o move.VerifyOptions, report func(move.Progress)) (move.Comparison, error) {
	if o.Most <= 0 {
		o.Most = move.DefaultMostDifferences
	}
	if report == nil {
		report = func(move.Progress) {}
	}
	f := newFindings(m.cfg.Name, o.Most)
	ctx, cancel := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		f.tell(ctx, report)
	}()
	err := func() error {
		if o.Pinned {
			if o.Repair || len(o.Tables) > 0 {
				return errors.New("what is pinned can not be repaired, and is compared whole: compare the moving data")
			}
			return m.verifyPinned(ctx, f)
		}
		return m.verifyMoving(ctx, o, f)
	}()
	cancel()
	<-told
	if err != nil {
		return move.Comparison{}, err
	}
	return f.result(), nil
}

// spaceFound is what was found in a key space.
type spaceFound struct {
	rows, different, named int64
	total                  int64
	began, ended           time.Time
	done                   bool
}

// findings collects what both comparisons find.
type findings struct {
	database string
	most     int

	mu          sync.Mutex
	spaces      map[string]*spaceFound
	differences []move.Difference
	repaired    int64
	undecided   int64
	chunks      int
}

func newFindings(database string, most int) *findings {
	return &findings{database: database, most: most, spaces: map[string]*spaceFound{}}
}

// space is a key space's share; the caller holds mu.
func (f *findings) space(table string) *spaceFound {
	s := f.spaces[table]
	if s == nil {
		s = &spaceFound{began: time.Now()}
		f.spaces[table] = s
	}
	return s
}

func (f *findings) expect(table string, total int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.space(table).total = total
}

func (f *findings) compared(table string, rows int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.space(table)
	s.rows += rows
	s.ended = time.Now()
	f.chunks++
}

func (f *findings) finished(table string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.space(table)
	s.done, s.ended = true, time.Now()
}

// differs counts a difference, and keeps it as long as there are not too many.
func (f *findings) differs(d move.Difference) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.space(d.Table)
	s.different++
	if d.Repaired {
		f.repaired++
	}
	if s.named < int64(f.most) {
		s.named++
		f.differences = append(f.differences, d)
	}
}

func (f *findings) undecide(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.undecided += n
}

func (f *findings) result() move.Comparison {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := move.Comparison{Tables: len(f.spaces), Chunks: f.chunks, Repaired: f.repaired, Undecided: f.undecided, Differences: f.differences}
	for _, name := range slices.SortedFunc(maps.Keys(f.spaces), byNumber) {
		s := f.spaces[name]
		c.Rows += s.rows
		c.Different += s.different
		took := max(s.ended.Sub(s.began), 0)
		c.ByTable = append(c.ByTable, move.TableComparison{Table: name, Rows: s.rows, Different: s.different, Took: took})
	}
	slices.SortStableFunc(c.Differences, func(a, b move.Difference) int {
		if n := byNumber(a.Table, b.Table); n != 0 {
			return n
		}
		return strings.Compare(a.Key, b.Key)
	})
	return c
}

// byNumber orders db2 before db10.
func byNumber(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// tell reports until ctx ends.
func (f *findings) tell(ctx context.Context, report func(move.Progress)) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			report(f.progress())
		}
	}
}

func (f *findings) progress() move.Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := move.Progress{Database: f.database, Phase: move.PhaseVerify, At: time.Now(), StepsTotal: len(f.spaces)}
	var began time.Time
	for _, name := range slices.SortedFunc(maps.Keys(f.spaces), byNumber) {
		s := f.spaces[name]
		p.Rows += s.rows
		p.RowsTotal += max(s.total, s.rows)
		if s.done {
			p.Steps++
		}
		if began.IsZero() || s.began.Before(began) {
			began = s.began
		}
		p.Tables = append(p.Tables, move.TableProgress{Table: name, Rows: s.rows, RowsTotal: s.total, Done: s.done})
	}
	if took := p.At.Sub(began).Seconds(); !began.IsZero() && took > 0 {
		p.RowsPerSecond = float64(p.Rows) / took
		if left := p.RowsTotal - p.Rows; left > 0 && p.RowsPerSecond > 0 {
			p.ETA = time.Duration(float64(left) / p.RowsPerSecond * float64(time.Second))
		}
	}
	return p
}

// ours says that a key is of the move itself.
func ours(key string) bool { return strings.HasPrefix(key, ourPrefix) }

// keyText is a key as people can read it: quoted where it holds anything odd.
func keyText(key string) string {
	odd := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) || r == '"' || r == ' ' }
	if key == "" || strings.ContainsFunc(key, odd) {
		return strconv.Quote(key)
	}
	return key
}

// differenceText names a key and in what it differs, without its values.
func differenceText(key, what string) string {
	if what == "" {
		return keyText(key)
	}
	return keyText(key) + " (" + what + ")"
}

// inWhat names the type and the first part in which two values differ, or that
// it is the expiry. Empty when nothing differs.
func inWhat(a, b holding, counters bool) (string, error) {
	switch {
	case a.gone() && b.gone():
		return "", nil
	case a.gone() || b.gone():
		payload := a.payload
		if a.gone() {
			payload = b.payload
		}
		return rdb.TypeOf([]byte(payload))
	}
	what, err := rdb.Diff([]byte(a.payload), []byte(b.payload), counters)
	if err != nil || what != "" {
		return what, err
	}
	if !a.endsLike(b) {
		kind, err := rdb.TypeOf([]byte(a.payload))
		if err != nil {
			return "", err
		}
		return kind + ", expiry", nil
	}
	return "", nil
}

// holding is a key as a server holds it; no payload: it holds none.
type holding struct {
	payload string
	// expiry is the key's end in Unix milliseconds; 0 means none.
	expiry int64
	// slack is by how much the expiry may be off, where a server tells only what is left.
	slack int64
}

func (h holding) gone() bool { return h.payload == "" }

func (h holding) endsLike(o holding) bool {
	if (h.expiry == 0) != (o.expiry == 0) {
		return false
	}
	off := h.expiry - o.expiry
	return max(off, -off) <= h.slack+o.slack
}

// same says whether two servers hold the same. Equal bytes are equal values; a
// value can also be kept in two ways.
func (h holding) same(o holding, counters bool) (bool, error) {
	if h.gone() || o.gone() {
		return h.gone() == o.gone(), nil
	}
	if !h.endsLike(o) {
		return false, nil
	}
	if h.payload == o.payload {
		return true, nil
	}
	a, err := rdb.Digest([]byte(h.payload), counters)
	if err != nil {
		return false, fmt.Errorf("read a value of the source: %w", err)
	}
	b, err := rdb.Digest([]byte(o.payload), counters)
	if err != nil {
		return false, fmt.Errorf("read a value of the target: %w", err)
	}
	return a == b, nil
}
