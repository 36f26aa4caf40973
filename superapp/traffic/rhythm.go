package traffic

import (
	"math"
	"time"
)

// A week has an hour's weight for each of its hours; between two full hours the
// rate goes straight from one to the other. One is the peak.
const (
	dayHours  = 24
	weekHours = 7 * dayHours
	// dubai is ahead of UTC by so much, all year.
	dubai = 4 * time.Hour
)

// The days in the United Arab Emirates: lunch and evening are busy, on Friday the
// noon prayer empties the shops and the evening fills them, Saturday and Sunday
// begin late and end late.
var (
	workday = [dayHours]float64{.12, .08, .05, .04, .04, .07, .18, .38, .55, .62, .66, .72, .88, .92, .78, .66, .64, .70, .82, .90, .92, .80, .55, .30}
	friday  = [dayHours]float64{.16, .10, .07, .05, .05, .08, .15, .28, .45, .56, .62, .58, .40, .38, .60, .70, .75, .82, .92, 1, 1, .92, .75, .50}
	weekend = [dayHours]float64{.30, .18, .11, .07, .05, .06, .10, .18, .30, .44, .56, .66, .78, .84, .76, .70, .72, .80, .90, .96, .98, .88, .65, .42}
)

// hourWeight is the weight of a full hour, counted from some Monday's midnight.
func hourWeight(hour int) float64 {
	hour %= weekHours
	switch day := hour / dayHours; {
	case day < 4:
		return workday[hour%dayHours]
	case day == 4:
		return friday[hour%dayHours]
	}
	return weekend[hour%dayHours]
}

// schedule says when operations are due, from its begin; they are asked for one after the other.
type schedule interface{ next() time.Duration }

// even is the same rate all the time.
type even struct {
	rate float64 // a second
	n    int64
}

func (e *even) next() time.Duration {
	due := time.Duration(float64(e.n) / e.rate * float64(time.Second))
	e.n++
	return due
}

// rhythm goes with the hours of the day and the days of the week. The n-th
// operation is due when the area under the curve reaches n.
type rhythm struct {
	hour    time.Duration // how long an hour takes
	peak    float64       // operations in an hour at the peak
	phase   float64       // the hour of the week at the begin
	segment int           // the full hour at hand
	before  float64       // the area from the begin to it, in hours of the peak
	n       int64
}

// newRhythm begins at an instant of the week, in hours from Monday's midnight; rate is the peak's, a second.
func newRhythm(rate float64, day time.Duration, phase float64) *rhythm {
	hour := day / dayHours
	segment, into := math.Modf(phase)
	r := &rhythm{hour: hour, peak: rate * hour.Seconds(), phase: phase, segment: int(segment)}
	a, b := hourWeight(r.segment), hourWeight(r.segment+1)
	r.before = -(a*into + (b-a)*into*into/2)
	return r
}

func (r *rhythm) next() time.Duration {
	area := float64(r.n) / r.peak
	r.n++
	for {
		a, b := hourWeight(r.segment), hourWeight(r.segment+1)
		if left := area - r.before; left < (a+b)/2 {
			// The root of a·x + (b-a)·x²/2 = left, written so that it holds for a = b too.
			x := 2 * left / (a + math.Sqrt(a*a+2*(b-a)*left))
			return time.Duration((float64(r.segment) + x - r.phase) * float64(r.hour))
		}
		r.before += (a + b) / 2
		r.segment++
	}
}

// hourOfWeek is the hour of the week in Dubai, from Monday's midnight.
func hourOfWeek(t time.Time) float64 {
	t = t.UTC().Add(dubai)
	days := (int(t.Weekday()) + 6) % 7
	return (time.Duration(days)*24*time.Hour + t.Sub(t.Truncate(24*time.Hour))).Hours()
}

// newSchedule is what the configuration says. A day that takes a day is today;
// one that is pressed together begins on a Monday at midnight, so that every run is the same.
func newSchedule(cfg Config, now time.Time) schedule {
	switch cfg.RhythmDay {
	case 0:
		return &even{rate: cfg.Rate}
	case DefaultRhythmDay:
		return newRhythm(cfg.Rate, cfg.RhythmDay, hourOfWeek(now))
	}
	return newRhythm(cfg.Rate, cfg.RhythmDay, 0)
}
