package demo

import (
	"fmt"
	"time"

	"dhow/superapp/check"
	"dhow/superapp/history"
	"dhow/superapp/traffic"
)

// window is the time during which the gate held requests.
type window struct{ from, to time.Time }

const (
	// around is what counts as around a cutover, before and behind the hold: a
	// stall of the databases need not end with it.
	around = time.Second
	// sliceMS is the picture's resolution, in milliseconds.
	sliceMS = 50
)

// watch follows the longest wait in a stretch of time.
type watch struct {
	from, to int64 // nanoseconds since 1970
	longest  int64
}

func (w *watch) see(r *history.Record) {
	if r.Due() < w.to && r.Done > w.from {
		w.longest = max(w.longest, r.Wait())
	}
}

// measureLeg is what is measured of one cutover.
type measureLeg struct {
	stall, control watch
	slices         []int64
}

// newMeasureLeg lays the stretch around the hold, and one of the same length
// right before it.
func newMeasureLeg(w window) *measureLeg {
	from, to := w.from.Add(-around).UnixNano(), w.to.Add(around).UnixNano()
	return &measureLeg{
		stall:   watch{from: from, to: to},
		control: watch{from: from - (to - from), to: from},
		slices:  make([]int64, (to-from)/int64(sliceMS*time.Millisecond)+1),
	}
}

func (m *measureLeg) see(r *history.Record) {
	m.stall.see(r)
	m.control.see(r)
	if at := r.Due() - m.stall.from; at >= 0 && r.Due() < m.stall.to {
		i := at / int64(sliceMS*time.Millisecond)
		m.slices[i] = max(m.slices[i], r.Wait())
	}
}

// fill measures the history and takes over the checker's judgement.
func (r *Report) fill(sum traffic.Summary, c check.Report, path string, windows []window) error {
	legs := make([]*measureLeg, len(windows))
	for i, w := range windows {
		legs[i] = newMeasureLeg(w)
	}
	waits := history.NewWaits()
	err := history.Each(path, func(rec *history.Record) error {
		waits.Add(time.Duration(rec.Wait()))
		for _, l := range legs {
			l.see(rec)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("measure the history: %w", err)
	}
	for i, l := range legs {
		leg := &r.Legs[i]
		leg.StallMS, leg.ControlMS = milliseconds(time.Duration(l.stall.longest)), milliseconds(time.Duration(l.control.longest))
		if leg.StallMS >= r.LongestStallMS {
			r.LongestStallMS, r.ControlStallMS = leg.StallMS, leg.ControlMS
		}
		for k, longest := range l.slices {
			at := time.Duration(l.stall.from) + time.Duration(k*sliceMS)*time.Millisecond - time.Duration(windows[i].from.UnixNano())
			leg.Waits = append(leg.Waits, Wait{AtMS: milliseconds(at), MS: milliseconds(time.Duration(longest))})
		}
	}
	r.P50MS, r.P99MS = milliseconds(waits.Quantile(0.50)), milliseconds(waits.Quantile(0.99))
	r.take(sum, c)
	r.TookS = time.Since(r.Began).Seconds()
	return nil
}

// take notes what the clients counted and what the checker found. An operation
// that was never sent, or that nobody knows the end of, failed for its client.
func (r *Report) take(sum traffic.Summary, c check.Report) {
	r.Requests = sum.Requests + sum.Late
	r.FailedRequests = sum.Failed + sum.Unknown + sum.Late
	r.AcknowledgedWrites = sum.AcknowledgedWrites
	r.LostWrites, r.DoubledWrites = c.LostWrites, c.DoubledWrites
	r.MoneyConserved, r.StaleReads, r.BothSidesWrote = c.MoneyConserved, c.StaleReads, c.BothSidesWrote
	r.CardMovements, r.Sends, r.Splits = c.CardMovements, c.Sends, c.Splits
	r.Faults = c.Faults()
	for _, f := range c.Findings {
		r.Findings = append(r.Findings, fmt.Sprintf("%s: %s: %s", f.Kind, f.Of, f.What))
	}
}
