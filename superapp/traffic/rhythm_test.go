package traffic

import (
	"math"
	"testing"
	"time"
)

// perHour counts what is due in each hour of some days.
func perHour(s schedule, hour time.Duration, hours int) []float64 {
	n := make([]float64, hours)
	for due := s.next(); due < time.Duration(hours)*hour; due = s.next() {
		n[due/hour]++
	}
	return n
}

func TestRhythmIsTheAreaUnderItsCurve(t *testing.T) {
	const rate = 1000.0
	day := 24 * time.Second // so that an hour takes a second
	got := perHour(newRhythm(rate, day, 0), day/24, 2*weekHours)
	var sum, area float64
	for h, n := range got {
		want := rate * (hourWeight(h) + hourWeight(h+1)) / 2
		sum, area = sum+n, area+want
		if math.Abs(n-want) > 1.001 { // the first and the last may fall on either side
			t.Errorf("hour %d: %v operations, want %v", h, n, want)
		}
		if n > rate {
			t.Errorf("hour %d: %v operations, above the peak of %v", h, n, rate)
		}
	}
	if math.Abs(sum-area) > 1 {
		t.Errorf("%v operations in two weeks, want %v", sum, area)
	}
}

func TestRhythmHasTheShapeOfAWeek(t *testing.T) {
	day := 240 * time.Second
	n := perHour(newRhythm(100, day, 0), day/24, weekHours)
	at := func(day, hour int) float64 { return n[day*24+hour] }
	for d := range 7 {
		for h := range 24 {
			if h >= 2 && h < 5 && at(d, h) > at(d, 20)/4 {
				t.Errorf("day %d: %v at %d o'clock and %v in the evening", d, at(d, h), h, at(d, 20))
			}
		}
	}
	if !(at(0, 12) > at(0, 10) && at(0, 12) > at(0, 15) && at(0, 19) > at(0, 16) && at(0, 19) > at(0, 23)) {
		t.Error("Monday has no peaks at lunch and in the evening")
	}
	if !(at(4, 12) < at(0, 12) && at(4, 12) < at(4, 10) && at(4, 19) > at(0, 19)) {
		t.Error("Friday has no quiet noon and busy evening")
	}
	if !(at(5, 7) < at(0, 7) && at(6, 23) > at(0, 23)) {
		t.Error("the weekend does not begin and end late")
	}
}

func TestRhythmBeginsWithinAnHour(t *testing.T) {
	day := 24 * time.Second
	whole, later := newRhythm(1000, day, 0), newRhythm(1000, day, 13.25)
	begin := time.Duration(13.25 * float64(time.Second))
	var want []time.Duration
	for len(want) < 500 {
		if due := whole.next(); due >= begin {
			want = append(want, due-begin)
		}
	}
	last := time.Duration(-1)
	for i, w := range want {
		got := later.next()
		if got < last || got < 0 {
			t.Fatalf("operation %d is due at %s after %s", i, got, last)
		}
		if d := (got - w).Abs(); d > 2*time.Millisecond {
			t.Fatalf("operation %d is due at %s, want %s", i, got, w)
		}
		last = got
	}
}

func TestHourOfWeekIsDubais(t *testing.T) {
	for text, want := range map[string]float64{
		"2026-11-22T20:00:00Z":      0,     // Monday's midnight there
		"2026-11-22T19:30:00Z":      167.5, // Sunday's end
		"2026-11-25T12:00:00+04:00": 60,
		"2026-11-27T09:15:00Z":      4*24 + 13.25,
	} {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := hourOfWeek(at); math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: hour %v, want %v", text, got, want)
		}
	}
}

func TestScheduleFollowsTheConfiguration(t *testing.T) {
	now := time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC)
	if s, ok := newSchedule(Config{Rate: 10}, now).(*even); !ok || s.next() != 0 || s.next() != 100*time.Millisecond {
		t.Error("without a rhythm the rate is not even")
	}
	if r, ok := newSchedule(Config{Rate: 10, RhythmDay: DefaultRhythmDay}, now).(*rhythm); !ok || r.phase != 60 {
		t.Error("a day's rhythm does not follow the clock")
	}
	if r, ok := newSchedule(Config{Rate: 10, RhythmDay: time.Minute}, now).(*rhythm); !ok || r.phase != 0 {
		t.Error("a day that is pressed together does not begin at midnight")
	}
}
