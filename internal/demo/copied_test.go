package demo

import (
	"testing"
	"time"

	"dhow/internal/move"
)

func TestCopyMeterTellsHowLongACopyTook(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := start.Add
	c := &copyMeter{began: start, last: map[string]move.Progress{}, heard: map[string]time.Time{}, copied: map[string]time.Time{}}
	for _, p := range []move.Progress{
		{Database: "large", Phase: move.PhaseCopy, At: at(time.Second), Rows: 10},
		{Database: "small", Phase: move.PhaseStream, At: at(2 * time.Second)},
		{Database: "half", Phase: move.PhaseCopy, At: at(2 * time.Second)},
		{Database: "large", Phase: move.PhaseIndex, At: at(4 * time.Second), Rows: 20},
		{Database: "large", Phase: move.PhaseStream, At: at(9 * time.Second)},
	} {
		c.hear(p)
	}
	for database, want := range map[string]time.Duration{"large": 3 * time.Second, "small": 2 * time.Second, "half": 0, "unknown": 0} {
		if got := c.over(database); got != want {
			t.Errorf("the copy of %s took %s, want %s", database, got, want)
		}
	}
}
