package traffic

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"dhow/superapp/history"
)

// Summary is what a run came to.
type Summary struct {
	// Requests are the operations that were sent; each has one of the next four outcomes.
	Requests     int64 `json:"requests"`
	Acknowledged int64 `json:"acknowledged"`
	Refused      int64 `json:"refused"`
	Failed       int64 `json:"failed"`
	Unknown      int64 `json:"unknown"`
	// Late operations were due and never sent: no connection was free in time.
	Late int64 `json:"late"`
	// AcknowledgedWrites are what must not be lost.
	AcknowledgedWrites int64 `json:"acknowledged_writes"`
	// Replayed answers were stored ones, though every key was sent once.
	Replayed int64 `json:"replayed"`
	// P50, P99 and Max are the waits from the instant at which an operation was
	// due, with those that came late; the Sent ones from its sending. In milliseconds.
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	SentP50 float64 `json:"sent_p50_ms"`
	SentP99 float64 `json:"sent_p99_ms"`
	SentMax float64 `json:"sent_max_ms"`
	// Seconds is how long the run took with the end of what was in flight, Rate what was sent a second.
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"`
	// Operations counts what was sent, by kind.
	Operations map[history.Op]int64 `json:"operations"`
}

// Tick is the progress of the last second; its counts are since the start.
type Tick struct {
	Elapsed time.Duration
	// PerSecond is how many operations ended.
	PerSecond             float64
	P50, P99              time.Duration
	Failed, Unknown, Late int64
}

// String is the line that people read.
func (t Tick) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%ds  %.0f/s  p50 %s  p99 %s  failed %d", int(t.Elapsed.Round(time.Second).Seconds()), t.PerSecond, millis(t.P50), millis(t.P99), t.Failed)
	if t.Unknown > 0 {
		fmt.Fprintf(&b, "  unknown %d", t.Unknown)
	}
	if t.Late > 0 {
		fmt.Fprintf(&b, "  late %d", t.Late)
	}
	return b.String()
}

func millis(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", ms(d))
	}
	return fmt.Sprintf("%.0f ms", ms(d))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// stats counts as operations end.
type stats struct {
	mu           sync.Mutex
	total        Summary
	due, sent    *history.Waits // of the whole run
	second       *history.Waits // since the last tick
	secondEnded  int64
	lastTickTime time.Duration
}

func newStats() *stats {
	return &stats{due: history.NewWaits(), sent: history.NewWaits(), second: history.NewWaits(), total: Summary{Operations: map[history.Op]int64{}}}
}

func (s *stats) add(r *history.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.total
	switch r.Outcome {
	case history.Acknowledged:
		t.Acknowledged++
		if r.Op.Write() {
			t.AcknowledgedWrites++
		}
	case history.Refused:
		t.Refused++
	case history.Failed:
		t.Failed++
	case history.Unknown:
		t.Unknown++
	case history.Late:
		t.Late++
	}
	if r.Replayed {
		t.Replayed++
	}
	if r.Outcome != history.Late {
		t.Requests++
		t.Operations[r.Op]++
	}
	if r.Scheduled == 0 {
		return // a card that was made before the start: nobody waited for it
	}
	wait := time.Duration(r.Wait())
	s.due.Add(wait)
	s.second.Add(wait)
	s.secondEnded++
	if r.Outcome != history.Late {
		s.sent.Add(time.Duration(r.Done - r.Sent))
	}
}

func (s *stats) tick(elapsed time.Duration) Tick {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := Tick{Elapsed: elapsed, P50: s.second.Quantile(0.5), P99: s.second.Quantile(0.99), Failed: s.total.Failed, Unknown: s.total.Unknown, Late: s.total.Late}
	if since := elapsed - s.lastTickTime; since > 0 {
		t.PerSecond = float64(s.secondEnded) / since.Seconds()
	}
	s.second.Reset()
	s.secondEnded, s.lastTickTime = 0, elapsed
	return t
}

func (s *stats) summary(took time.Duration) Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.total
	t.P50, t.P99, t.Max = ms(s.due.Quantile(0.5)), ms(s.due.Quantile(0.99)), ms(s.due.Max())
	t.SentP50, t.SentP99, t.SentMax = ms(s.sent.Quantile(0.5)), ms(s.sent.Quantile(0.99)), ms(s.sent.Max())
	t.Seconds = took.Seconds()
	if took > 0 {
		t.Rate = float64(t.Requests) / took.Seconds()
	}
	return t
}
