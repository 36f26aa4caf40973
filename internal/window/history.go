package window

import (
	"math"
	"time"
)

// slotsPerWeek is how many slots a week has by the clock on the wall.
const slotsPerWeek = int(week / SlotLength)

const (
	// maxSlots bounds the slots that are kept.
	maxSlots = MaxWeeks * slotsPerWeek
	// aheadOfClock is how far a history may reach beyond the clock, for clocks that differ.
	aheadOfClock = time.Hour
	// covered is the share of a slot that must have been seen for its rate to count.
	covered = 0.5
	// believable is how many requests a silence of a log may have been expected to
	// hold and still be taken for one: that chance leaves out so many, it does once in
	// a thousand times a million.
	believable = 20
)

// slot is what was seen in one quarter of an hour.
type slot struct {
	requests float64
	// seconds is how much of it was seen; logs are silent about what they did not see.
	seconds float64
	// stall is the sum of the samples' stalls in seconds, of so many samples.
	stall  float64
	stalls int
}

// rate is the requests a second, false where too little of the slot was seen.
func (s slot) rate() (float64, bool) {
	if s.seconds < covered*SlotLength.Seconds() {
		return 0, false
	}
	return s.requests / s.seconds, true
}

// History is the requests of an application over some weeks, by quarters of an
// hour. Its memory is bounded, however long the logs are that it is read from.
type History struct {
	zone *time.Location
	// now is when the history is read: what lies ahead of it is no history.
	now time.Time

	slots       map[int64]slot
	first, last int64
	requests    float64
	// silent says that a slot without a line is one without a request, unless that
	// is past belief.
	silent bool
	// sealed says that seal has been called.
	sealed     bool
	gaps       int
	unreadable int64
	said       []string
}

func newHistory(zone *time.Location, now time.Time) *History {
	if zone == nil {
		zone = time.Local //nolint:gosmopolitan // the zone of whoever asks, unless another is named
	}
	return &History{zone: zone, now: now, slots: map[int64]slot{}}
}

// slotOf numbers the slots since 1970, and startOf is when one begins.
func slotOf(at time.Time) int64 {
	return int64(math.Floor(float64(at.Unix()) / SlotLength.Seconds()))
}

func startOf(i int64) time.Time { return time.Unix(i*int64(SlotLength/time.Second), 0) }

// slotOfWeek is which slot of the week, by the clock on the wall, a slot is.
func (h *History) slotOfWeek(i int64) int {
	at := startOf(i).In(h.zone)
	return (int(at.Weekday())*int(day/time.Minute) + at.Hour()*60 + at.Minute()) / int(SlotLength/time.Minute)
}

// add counts requests that came in the span of time from at on; a span of zero
// is a line of a log. It says whether the time can be true.
func (h *History) add(at time.Time, requests float64, span, stall time.Duration) bool {
	if at.Unix() < 0 || at.After(h.now.Add(aheadOfClock)) || requests < 0 || math.IsNaN(requests) || math.IsInf(requests, 0) {
		return false
	}
	if span <= 0 {
		h.into(slotOf(at), slot{requests: requests})
		return true
	}
	for from, end := at, at.Add(span); from.Before(end); {
		i := slotOf(from)
		to := startOf(i + 1)
		if to.After(end) {
			to = end
		}
		part := to.Sub(from)
		s := slot{requests: requests * part.Seconds() / span.Seconds(), seconds: part.Seconds()}
		if stall > 0 {
			s.stall, s.stalls = stall.Seconds(), 1
		}
		h.into(i, s)
		from = to
	}
	return true
}

func (h *History) into(i int64, s slot) {
	if len(h.slots) == 0 {
		h.first, h.last = i, i
	}
	h.last = max(h.last, i)
	if i <= h.last-int64(maxSlots) {
		return // older than what is kept
	}
	h.first = min(h.first, i)
	was := h.slots[i]
	h.slots[i] = slot{was.requests + s.requests, was.seconds + s.seconds, was.stall + s.stall, was.stalls + s.stalls}
	if len(h.slots) > 2*maxSlots {
		h.forget()
	}
}

// forget drops what is older than MaxWeeks.
func (h *History) forget() {
	oldest := h.last - int64(maxSlots) + 1
	h.first = h.last
	for i := range h.slots {
		if i < oldest {
			delete(h.slots, i)
		} else {
			h.first = min(h.first, i)
		}
	}
}

// from and to bound what was seen.
func (h *History) from() time.Time { return startOf(h.first) }

func (h *History) to() time.Time { return startOf(h.last + 1) }

// seal ends the reading: what is too old goes, and the silences of logs are
// filled in as far as they can be believed.
func (h *History) seal() {
	if h.sealed {
		return
	}
	h.sealed = true
	if len(h.slots) > 0 {
		h.forget()
		if h.silent {
			h.fillSilence()
		}
	}
	for _, s := range h.slots {
		h.requests += s.requests
	}
}

// fillSilence decides for each run of slots of which a log says nothing whether
// nobody came or the log is missing, by what other weeks had in the same slots.
func (h *History) fillSilence() {
	for i, s := range h.slots {
		s.seconds = SlotLength.Seconds()
		h.slots[i] = s
	}
	// The log may begin and end within a slot: its first and last tell half a truth.
	if h.last-h.first > 2 {
		delete(h.slots, h.first)
		delete(h.slots, h.last)
		h.first, h.last = h.first+1, h.last-1
	}
	var total [slotsPerWeek]float64
	var times [slotsPerWeek]int
	for i := h.first; i <= h.last; i++ {
		w := h.slotOfWeek(i)
		total[w] += h.slots[i].requests
		times[w]++
	}
	var quiet []int64
	for i := h.first; i <= h.last; i++ {
		if _, ok := h.slots[i]; ok {
			continue
		}
		expected := 0.0
		end := i
		for ; end <= h.last; end++ {
			if _, ok := h.slots[end]; ok {
				break
			}
			w := h.slotOfWeek(end)
			expected += total[w] / float64(max(1, times[w]-1)) // of the other weeks: this one had none
		}
		if expected <= believable {
			for j := i; j < end; j++ {
				quiet = append(quiet, j)
			}
		} else {
			h.gaps += int(end - i)
		}
		i = end
	}
	for _, i := range quiet {
		h.slots[i] = slot{seconds: SlotLength.Seconds()}
	}
}
