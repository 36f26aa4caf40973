package history

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Bounds of a measured wait, in microseconds. Longer ones count as the longest
// in the quantiles; Max is always exact.
const (
	leastWait = 1
	mostWait  = int64(10 * time.Minute / time.Microsecond)
	// waitDigits is the quantiles' precision, in significant digits.
	waitDigits = 3
)

// Waits collects how long clients waited. The zero value is not ready: see NewWaits.
type Waits struct {
	h   *hdrhistogram.Histogram
	max time.Duration
}

// NewWaits is an empty collection.
func NewWaits() *Waits {
	return &Waits{h: hdrhistogram.New(leastWait, mostWait, waitDigits)}
}

// Add counts one wait.
func (w *Waits) Add(d time.Duration) {
	w.max = max(w.max, d)
	_ = w.h.RecordValue(min(max(d.Microseconds(), leastWait), mostWait)) // in the bounds, so it is taken
}

// Count is how many were added.
func (w *Waits) Count() int64 { return w.h.TotalCount() }

// Quantile is the wait that a share q of all, from 0 to 1, did not exceed.
func (w *Waits) Quantile(q float64) time.Duration {
	if w.Count() == 0 {
		return 0
	}
	return min(time.Duration(w.h.ValueAtQuantile(q*100))*time.Microsecond, w.max)
}

// Max is the longest wait, exactly.
func (w *Waits) Max() time.Duration { return w.max }

// Reset forgets all.
func (w *Waits) Reset() {
	w.h.Reset()
	w.max = 0
}

// Window is a stretch of time: From belongs to it, To does not.
type Window struct{ From, To time.Time }

// Measured is what clients saw of the operations that were due in a window.
type Measured struct {
	// Operations counts them all, also those that were never sent.
	Operations int64 `json:"operations"`
	// Outcomes counts them by outcome.
	Outcomes map[Outcome]int64 `json:"outcomes"`
	// P50, P99 and Max are the waits from the scheduled instant to the end.
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	Max time.Duration `json:"max_ns"`
}

// Measure reads histories once and measures each window.
func Measure(paths []string, windows ...Window) ([]Measured, error) {
	out := make([]Measured, len(windows))
	waits := make([]*Waits, len(windows))
	for i := range windows {
		out[i].Outcomes = map[Outcome]int64{}
		waits[i] = NewWaits()
	}
	for _, path := range paths {
		err := Each(path, func(r *Record) error {
			due := r.Due()
			for i, w := range windows {
				if due >= w.From.UnixNano() && due < w.To.UnixNano() {
					out[i].Operations++
					out[i].Outcomes[r.Outcome]++
					waits[i].Add(time.Duration(r.Wait()))
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for i, w := range waits {
		out[i].P50, out[i].P99, out[i].Max = w.Quantile(0.5), w.Quantile(0.99), w.Max()
	}
	return out, nil
}

// Each calls do for every operation of a file, in its order, until do fails.
func Each(path string, do func(*Record) error) error {
	r, err := Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(&rec); err != nil {
			return fmt.Errorf("%s:%d: %w", path, r.Line(), err)
		}
	}
}
