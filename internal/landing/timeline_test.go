package landing

import (
	"testing"
	"time"
)

// TestBar: a bar stands where its span does, and is never nothing.
func TestBar(t *testing.T) {
	line := Timeline{Took: 9 * time.Minute, Spans: []Span{
		{Stack: "a", Took: 5 * time.Minute}, {Stack: "b", After: 5 * time.Minute, Took: 5 * time.Minute}, {Stack: "c", After: 9 * time.Minute, Took: time.Second}, {Stack: "d"}}}
	if end := line.End(); end != 10*time.Minute {
		t.Errorf("it ends after %s", end)
	}
	for i, want := range []string{"=====", "     =====", "         =", "="} {
		if got := line.Bar(line.Spans[i], 10); got != want {
			t.Errorf("%s is %q, want %q", line.Spans[i].Stack, got, want)
		}
	}
	if got := (Timeline{}).Bar(Span{Stack: "e"}, 10); got != "=" {
		t.Errorf("where nothing took any time a bar is %q", got)
	}
}
