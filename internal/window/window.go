// Package window finds the quietest moment for a cutover: it reads the history
// of an application's requests, learns what a week of it looks like, and says
// in which moment ahead the fewest requests would be held, and how sure that is.
// It knows nothing of movers and gates; whoever waits for the moment, and looks
// whether all is well when it comes, stands above.
package window

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// SlotLength is how finely a week is looked at: short enough to miss a job that
	// runs every hour, long enough for a slot to hold requests of a quiet night. All
	// offsets of time zones are multiples of it.
	SlotLength = 15 * time.Minute
	// intoSlot is how far into its slot a moment lies: what cron starts, it starts
	// at round minutes.
	intoSlot = 7 * time.Minute
	// MinWeeks is how many weeks a history needs before anything is said of a week.
	MinWeeks = 2
	// MaxWeeks is how many of the newest weeks are kept: half a year bounds the
	// memory, and older habits say little of the next week.
	MaxWeeks = 26
	// DefaultWithin is how far ahead is looked: a whole week holds each of its slots once.
	DefaultWithin = week
	// MaxWithin bounds how far ahead may be looked.
	MaxWithin = 8 * week
	// DefaultRunners is how many moments are named beside the best one.
	DefaultRunners = 4
	// apart is how far two named moments are from each other: neighbours are one choice.
	apart = 2 * time.Hour
	// stale is the age of a history's end from which it is said aloud.
	stale = 2 * 24 * time.Hour
	// leastKnown is how many of a week's slots must have been seen in MinWeeks weeks: half.
	leastKnown = slotsPerWeek / 2

	day  = 24 * time.Hour
	week = 7 * day
)

// Ahead says among which moments to look.
type Ahead struct {
	// Now is the time; moments earlier than Earliest are not looked at.
	Now, Earliest time.Time
	// Within is how far ahead of Earliest is looked; 0 means DefaultWithin.
	Within time.Duration
	// Stall is how long requests will be held, where the history does not say it.
	Stall time.Duration
	// Runners is how many other moments are named; 0 means DefaultRunners.
	Runners int
}

// Moment is a time to cut over, and what it would cost.
type Moment struct {
	At time.Time `json:"at"`
	// Until is the end of the quarter of an hour that was judged.
	Until time.Time `json:"until"`
	// Rate is the expected number of requests a second, Stall how long they are held.
	Rate  float64       `json:"requests_per_second"`
	Stall time.Duration `json:"stall_ns"`
	// Held is the expected number of requests held; Least and Most are what it would
	// have been in the weeks of the history, unusual ones left out.
	Held  float64 `json:"held"`
	Least float64 `json:"held_least"`
	Most  float64 `json:"held_most"`
	// Weeks is in how many weeks the slot was seen.
	Weeks int `json:"weeks"`
}

// Plan is what a history says of the time ahead.
type Plan struct {
	Best    Moment   `json:"best"`
	Runners []Moment `json:"runners_up"`
	// Busiest and Usual are the expected requests held in the busiest and in the
	// median slot of the week, to compare with.
	Busiest float64 `json:"held_busiest"`
	Usual   float64 `json:"held_usual"`
	// Sure says how good the guess would have been in the past.
	Sure Sure `json:"sure"`
	// From and To bound the history, Weeks is its length, Requests what was counted in it.
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Weeks    float64   `json:"weeks"`
	Requests float64   `json:"requests"`
	// Notes are what a person should know of it.
	Notes []string `json:"notes"`
}

// Refused says that a history is not enough to tell anything by; Fix says what would be.
type Refused struct { //nolint:errname // it reads as what it is: window.Refused
	Reason string
	Fix    string
}

func (r *Refused) Error() string { return r.Reason + ": " + r.Fix }

// Find names the moment ahead in which the fewest requests would be held.
func (h *History) Find(a Ahead) (*Plan, error) {
	if a.Within <= 0 {
		a.Within = DefaultWithin
	}
	if a.Runners <= 0 {
		a.Runners = DefaultRunners
	}
	if a.Earliest.Before(a.Now) {
		a.Earliest = a.Now
	}
	if a.Stall <= 0 {
		return nil, errors.New("find a quiet moment: how long requests will be held is not known")
	}
	h.seal()
	if err := h.enough(); err != nil {
		return nil, err
	}
	p := h.learn(noWeek)
	if known := p.known(); known < leastKnown {
		return nil, &Refused{
			Reason: fmt.Sprintf("the request history has gaps: of the %d quarters of an hour of a week, only %d were seen in at least %d weeks", slotsPerWeek, known, MinWeeks),
			Fix:    "give one that is complete, or name the time with --at",
		}
	}
	moments := h.ahead(p, a)
	if len(moments) == 0 {
		return nil, &Refused{
			Reason: fmt.Sprintf("the request history says nothing of any moment between %s and %s", a.Earliest.In(h.zone).Format(minute), a.Earliest.Add(a.Within).In(h.zone).Format(minute)),
			Fix:    "look further ahead with --within, or name the time with --at",
		}
	}
	plan := &Plan{Best: moments[0], Runners: []Moment{}, Sure: h.sure(), From: h.from().In(h.zone), To: h.to().In(h.zone), Requests: h.requests, Notes: h.notes(a)}
	plan.Weeks = plan.To.Sub(plan.From).Hours() / week.Hours()
	plan.Usual, plan.Busiest = p.compare(a.Stall)
	for _, m := range moments[1:] {
		if len(plan.Runners) == a.Runners {
			break
		}
		if !near(m, plan.Best) && !slices.ContainsFunc(plan.Runners, func(r Moment) bool { return near(m, r) }) {
			plan.Runners = append(plan.Runners, m)
		}
	}
	return plan, nil
}

// Expect says what a moment that somebody else has chosen would cost; false where
// the history says nothing of it.
func (h *History) Expect(at time.Time, stall time.Duration) (Moment, bool, error) {
	h.seal()
	if err := h.enough(); err != nil {
		return Moment{}, false, err
	}
	m, ok := h.moment(h.learn(noWeek), at, stall)
	return m, ok, nil
}

// ahead are the moments that may be chosen, the quietest first.
func (h *History) ahead(p *profile, a Ahead) []Moment {
	var moments []Moment
	for i := slotOf(a.Earliest); ; i++ {
		at := startOf(i).Add(intoSlot)
		if at.Before(a.Earliest) {
			continue
		}
		if at.After(a.Earliest.Add(a.Within)) {
			break
		}
		if m, ok := h.moment(p, at, a.Stall); ok {
			moments = append(moments, m)
		}
	}
	slices.SortStableFunc(moments, func(a, b Moment) int { // the earlier of equals stays first
		return cmp.Or(cmp.Compare(a.Held, b.Held), cmp.Compare(a.Most, b.Most))
	})
	return moments
}

// moment judges a time by the slot of the week that it lies in.
func (h *History) moment(p *profile, at time.Time, stall time.Duration) (Moment, bool) {
	s, ok := p.expect(h.slotOfWeek(slotOf(at)), stall)
	if !ok {
		return Moment{}, false
	}
	seconds := s.stall.Seconds()
	return Moment{
		At: at.In(h.zone), Until: startOf(slotOf(at) + 1).In(h.zone), Rate: s.rate, Stall: s.stall,
		Held: s.rate * seconds, Least: s.least * seconds, Most: s.most * seconds, Weeks: s.weeks,
	}, true
}

// near says whether two moments are one choice.
func near(a, b Moment) bool { return a.At.Sub(b.At).Abs() < apart }

// minute is how a time is named in a sentence, with its zone.
const minute = "2006-01-02 15:04 MST"

// enough refuses a history that is too short, or holds no requests.
func (h *History) enough() error {
	const fix = "give at least two weeks, or name the time with --at"
	if len(h.slots) == 0 {
		return &Refused{Reason: "the request history is empty", Fix: fix}
	}
	if span := h.to().Sub(h.from()); span < MinWeeks*week-SlotLength {
		return &Refused{
			Reason: fmt.Sprintf("the request history is too short: it goes from %s to %s, that is %.1f days", h.from().In(h.zone).Format(minute), h.to().In(h.zone).Format(minute), span.Hours()/day.Hours()),
			Fix:    fix,
		}
	}
	if h.requests == 0 {
		return &Refused{Reason: "the request history counts no request at all", Fix: "name the query, or the logs, of the application that moves"}
	}
	return nil
}

// notes are what a person should know of the history.
func (h *History) notes(a Ahead) []string {
	notes := slices.Clone(h.said)
	if notes == nil {
		notes = []string{}
	}
	if age := a.Now.Sub(h.to()); age > stale {
		notes = append(notes, fmt.Sprintf("the history ends %.0f days ago, at %s: what has changed since is not in it", age.Hours()/day.Hours(), h.to().In(h.zone).Format(minute)))
	}
	if h.unreadable > 0 {
		notes = append(notes, fmt.Sprintf("%d lines or samples could not be read and were left out", h.unreadable))
	}
	if h.gaps > 0 {
		notes = append(notes, fmt.Sprintf("%.1f hours are missing from the history, where the logs are silent though other weeks were not", float64(h.gaps)*SlotLength.Hours()))
	}
	end := a.Earliest.Add(a.Within)
	if at, ok := clockChange(h.zone, h.from(), end); ok {
		notes = append(notes, fmt.Sprintf("clocks change in %s, last at %s: habits are taken to follow the clock on the wall, and an hour that was seen twice counts twice", h.zone, at.In(h.zone).Format(minute)))
	}
	return notes
}

// clockChange is the last change between summer and winter time in a span.
func clockChange(zone *time.Location, from, to time.Time) (at time.Time, found bool) {
	_, before := from.In(zone).Zone()
	for t := from.Truncate(SlotLength); t.Before(to); t = t.Add(SlotLength) {
		if _, offset := t.In(zone).Zone(); offset != before {
			at, found, before = t, true, offset
		}
	}
	return at, found
}
