package landing

import (
	"slices"
	"strings"
	"time"
)

// Timeline is when CloudFormation worked on which stack, and what the whole waited for.
type Timeline struct {
	// Spans are the stacks on which it worked, by their beginning.
	Spans []Span `json:"spans"`
	// Took is how long all of it took.
	Took time.Duration `json:"took_ns"`
	// Critical are the stacks of the longest way through the graph, in order, and
	// CriticalTook is how long CloudFormation worked on them: no deployment is quicker.
	Critical     []string      `json:"critical"`
	CriticalTook time.Duration `json:"critical_took_ns"`
}

// Span is CloudFormation's work on one stack.
type Span struct {
	Stack string `json:"stack"`
	// After is how long after the first it began.
	After time.Duration `json:"after_ns"`
	Took  time.Duration `json:"took_ns"`
}

// Ratio is how many times the critical path all of it took; 0 where nothing was done.
func (t Timeline) Ratio() float64 {
	if t.CriticalTook <= 0 {
		return 0
	}
	return float64(t.Took) / float64(t.CriticalTook)
}

// End is how long after the first beginning the last end was.
func (t Timeline) End() time.Duration {
	end := t.Took
	for _, s := range t.Spans {
		end = max(end, s.After+s.Took)
	}
	return end
}

// Bar draws when a span was, on a line of a width in characters that stands for the whole.
func (t Timeline) Bar(s Span, width int) string {
	at := func(d time.Duration) int { return int(int64(width) * int64(d) / max(1, int64(t.End()))) }
	return strings.Repeat(" ", at(s.After)) + strings.Repeat("=", max(1, at(s.Took)))
}

// NewTimeline is the timeline of a run's results, which took a time in all.
func NewTimeline(g *Graph, results []Result, took time.Duration) Timeline {
	t := Timeline{Took: took, Spans: []Span{}, Critical: []string{}}
	var first time.Time
	lasted := map[string]time.Duration{}
	for _, r := range results {
		if r.Began.IsZero() {
			continue
		}
		lasted[r.Stack] = r.Took()
		if first.IsZero() || r.Began.Before(first) {
			first = r.Began
		}
	}
	for _, r := range results {
		if !r.Began.IsZero() {
			t.Spans = append(t.Spans, Span{Stack: r.Stack, After: r.Began.Sub(first), Took: r.Took()})
		}
	}
	slices.SortStableFunc(t.Spans, func(a, b Span) int {
		if a.After != b.After {
			return int(a.After - b.After)
		}
		return strings.Compare(a.Stack, b.Stack)
	})
	path, length := Critical(g, func(s *Stack) int64 { return int64(lasted[s.ID]) })
	t.CriticalTook = time.Duration(length)
	for _, s := range path {
		if lasted[s.ID] > 0 {
			t.Critical = append(t.Critical, s.ID)
		}
	}
	return t
}
