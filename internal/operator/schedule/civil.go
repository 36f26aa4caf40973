package schedule

import (
	"fmt"
	"time"
)

// civil is a time as a calendar and a clock show it, in seconds since 1970 began on a clock
// that is never put forward or back.
type civil int64

// The parts of a civil time.
const (
	minute civil = 60
	hour         = 60 * minute
	day          = 24 * hour
)

// farthest is more than any clock was ever off from that of Greenwich.
const farthest = 36 * time.Hour

// shown is what the clocks of a zone show at a time.
func shown(t time.Time, zone *time.Location) civil {
	_, offset := t.In(zone).Zone()
	return civil(t.Unix() + int64(offset))
}

// midnight begins the day of a civil time.
func (c civil) midnight() civil {
	c -= c % day
	return c
}

// utc is the same calendar and clock in UTC, to be read.
func (c civil) utc() time.Time { return time.Unix(int64(c), 0).UTC() }

// in is the first moment at which the clocks of a zone show a civil time or a later one: the
// moment at which they are put forward over it, and the first of two where they are put back.
func (c civil) in(zone *time.Location) time.Time {
	from := time.Unix(int64(c), 0).Add(-farthest)
	for {
		_, offset := from.In(zone).Zone()
		at := time.Unix(int64(c)-int64(offset), 0)
		if at.Before(from) {
			at = from
		}
		_, end := from.In(zone).ZoneBounds()
		if end.IsZero() || at.Before(end) {
			return at.UTC()
		}
		from = end
	}
}

// clock reads a time of the day, as 08:00 or 24:00.
func clock(text string) (civil, error) {
	if text == "24:00" {
		return day, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%q: want a time of the day as 08:00", text)
	}
	return civil(t.Hour())*hour + civil(t.Minute())*minute, nil
}
