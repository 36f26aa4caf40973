// Package schedule says what a ScheduledScale's calendar holds at a time, until when, and
// what comes next. It knows nothing of a cluster, and asks no clock.
package schedule

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // where the system has no zones, as in a container

	"github.com/robfig/cron/v3"

	"dhow/api/v1alpha1"
)

const (
	// oftenest is how many times a day a cron expression may begin a window: who needs more
	// wants an autoscaler.
	oftenest = 24
	// longest is how long a window may be.
	longest = 168 * time.Hour
	// lookBack is before when no window began that still holds: the longest, and what clocks
	// can be put forward, and a day because windows are looked for by days.
	lookBack = longest + 48*time.Hour
)

// horizons are how far a change is looked for, the near ones first, for most come soon. The
// last is more than a year, so that what happens once a year is found.
//
//nolint:gochecknoglobals // a constant list
var horizons = []time.Duration{3 * 24 * time.Hour, 30 * 24 * time.Hour, 400 * 24 * time.Hour}

// Bounds are the least and the largest number of pods; nil is the target's own.
type Bounds struct{ Min, Max *int32 }

// Moment is what holds for a while.
type Moment struct {
	// Window that holds, "" if none does.
	Window string
	// Yield are the windows of which it is the time too, sorted.
	Yield []string
	Bounds
}

// Calendar is a ScheduledScale's.
type Calendar struct {
	zone      *time.Location
	windows   []window // those that others yield to come first
	otherwise Bounds
	holidays  []days
}

type window struct {
	name     string
	weekdays [7]bool
	// from and to are of the day, to of the next one where it is above a day.
	from, to civil
	// cron and long are set in their place.
	cron    *cron.SpecSchedule
	long    time.Duration
	between *days
	onHolidays,
	onOthers bool
	bounds Bounds
}

// Parse reads a calendar. Its errors say which window is wrong.
func Parse(s *v1alpha1.ScheduledScaleSpec) (*Calendar, error) {
	zone, err := time.LoadLocation(s.TimeZone)
	if err != nil || s.TimeZone == "" || s.TimeZone == "Local" {
		return nil, fmt.Errorf("there is no time zone %q: name one of the IANA, as Asia/Dubai", s.TimeZone)
	}
	c := &Calendar{zone: zone}
	if s.Otherwise != nil {
		c.otherwise = Bounds{s.Otherwise.Min, s.Otherwise.Max}
	}
	for i := range s.Holidays {
		d, err := parseDays(&s.Holidays[i].Days)
		if err != nil {
			return nil, fmt.Errorf("holiday %s: %w", s.Holidays[i].Name, err)
		}
		c.holidays = append(c.holidays, d)
	}
	order := slices.Clone(s.Windows)
	slices.SortFunc(order, func(a, b v1alpha1.ScaleWindow) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(number(b.Min), number(a.Min)), cmp.Compare(number(b.Max), number(a.Max)), cmp.Compare(a.Name, b.Name))
	})
	for i := range order {
		w, err := parseWindow(&order[i])
		if err != nil {
			return nil, fmt.Errorf("window %s: %w", order[i].Name, err)
		}
		c.windows = append(c.windows, w)
	}
	return c, nil
}

// number is a bound to be compared: none is below all.
func number(n *int32) int32 {
	if n == nil {
		return -1
	}
	return *n
}

func parseWindow(x *v1alpha1.ScaleWindow) (window, error) {
	w := window{name: x.Name, bounds: Bounds{x.Min, x.Max}, onHolidays: x.Holidays == v1alpha1.HolidaysKeep || x.Holidays == v1alpha1.HolidaysOnly, onOthers: x.Holidays != v1alpha1.HolidaysOnly}
	if x.Between != nil {
		d, err := parseDays(x.Between)
		if err != nil {
			return w, fmt.Errorf("between: %w", err)
		}
		w.between = &d
	}
	if x.Cron != "" {
		return w, w.parseCron(x)
	}
	for _, d := range x.Days {
		at := slices.Index(weekdays, d)
		if at < 0 {
			return w, fmt.Errorf("there is no day %q", d)
		}
		w.weekdays[at] = true
	}
	if len(x.Days) == 0 {
		w.weekdays = [7]bool{true, true, true, true, true, true, true}
	}
	var err error
	if w.from, err = clock(x.From); err != nil {
		return w, fmt.Errorf("from: %w", err)
	}
	if w.to, err = clock(x.To); err != nil {
		return w, fmt.Errorf("to: %w", err)
	}
	if w.to <= w.from {
		w.to += day
	}
	return w, nil
}

// weekdays are in the order of time.Weekday.
//
//nolint:gochecknoglobals // a constant list
var weekdays = []v1alpha1.Weekday{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

func (w *window) parseCron(x *v1alpha1.ScaleWindow) error {
	// A zone before the five parts is not asked for, and is not even read safely.
	if strings.Contains(x.Cron, "=") {
		return fmt.Errorf("cron %q: want five parts, as 0 8 * * Mon-Fri", x.Cron)
	}
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(x.Cron)
	if err != nil {
		return fmt.Errorf("cron %q: %w", x.Cron, err)
	}
	s, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return fmt.Errorf("cron %q: want five parts, as 0 8 * * Mon-Fri", x.Cron)
	}
	if n := bits.OnesCount64(s.Minute&cronMinutes) * bits.OnesCount64(s.Hour&cronHours); n > oftenest {
		return fmt.Errorf("cron %q: it begins %d times a day: at most %d are possible, make it longer instead", x.Cron, n, oftenest)
	}
	if x.For == nil || x.For.Duration < time.Minute || x.For.Duration > longest {
		return fmt.Errorf("for: want from 1m to %s", longest)
	}
	w.cron, w.long = s, x.For.Duration
	return nil
}

// The bits of a cron expression that name minutes and hours, and the one that says that a
// part is an asterisk.
const (
	cronMinutes = 1<<60 - 1
	cronHours   = 1<<24 - 1
	cronStar    = 1 << 63
)

// At says what holds at a time.
func (c *Calendar) At(t time.Time) Moment {
	holds := make([]bool, len(c.windows))
	c.spans(t.Add(-lookBack), t, func(w int, from, to time.Time) {
		if !from.After(t) && to.After(t) {
			holds[w] = true
		}
	})
	return c.moment(func(w int) bool { return holds[w] })
}

// moment is what holds where those windows do.
func (c *Calendar) moment(holds func(w int) bool) Moment {
	m, found := Moment{Bounds: c.otherwise}, false
	for i := range c.windows {
		w := &c.windows[i]
		switch {
		case !holds(i):
		case found:
			m.Yield = append(m.Yield, w.name)
		default:
			m, found = Moment{Window: w.name, Bounds: w.bounds}, true
		}
	}
	slices.Sort(m.Yield)
	return m
}

// Next is when another window holds than at t, and what holds then. false says that there is
// no such time for more than a year.
func (c *Calendar) Next(t time.Time) (time.Time, Moment, bool) {
	for _, h := range horizons {
		if all := c.changes(t, t.Add(h)); len(all) > 0 {
			return all[0].at, all[0].Moment, true
		}
	}
	return time.Time{}, Moment{}, false
}

// Since is since when the window holds that does at t. false says that it has for more than
// a year.
func (c *Calendar) Since(t time.Time) (time.Time, bool) {
	for _, h := range horizons {
		if all := c.changes(t.Add(-h), t); len(all) > 0 {
			return all[len(all)-1].at, true
		}
	}
	return time.Time{}, false
}

// change is a time from which on another window holds than before.
type change struct {
	at time.Time
	Moment
}

// edge is a time at which a window begins, by 1, or ends, by -1.
type edge struct {
	at        time.Time
	window, d int
}

// changes are those after from, until the last moment of until.
func (c *Calendar) changes(from, until time.Time) []change {
	var edges []edge
	c.spans(from.Add(-lookBack), until, func(w int, a, b time.Time) {
		edges = append(edges, edge{a, w, 1}, edge{b, w, -1})
	})
	slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
	open := make([]int, len(c.windows))
	i := 0
	// pass goes by the edges of one time, or of all up to one.
	pass := func(t time.Time) Moment {
		for ; i < len(edges) && !edges[i].at.After(t); i++ {
			open[edges[i].window] += edges[i].d
		}
		return c.moment(func(w int) bool { return open[w] > 0 })
	}
	before := pass(from)
	var all []change
	for i < len(edges) && !edges[i].at.After(until) {
		at := edges[i].at
		if m := pass(at); m.Window != before.Window {
			all = append(all, change{at, m})
			before = m
		}
	}
	return all
}

// spans tells of each window that begins from one time to another, and of some before and
// after. It does not tell of those that are over as soon as they begin, because the clock
// was put forward over them.
func (c *Calendar) spans(from, until time.Time, tell func(w int, from, to time.Time)) {
	last := shown(until, c.zone).midnight() + day
	for d := shown(from, c.zone).midnight() - day; d <= last; d += day {
		holiday := slices.ContainsFunc(c.holidays, func(h days) bool { return h.has(d) })
		for i := range c.windows {
			w := &c.windows[i]
			if holiday && !w.onHolidays || !holiday && !w.onOthers || w.between != nil && !w.between.has(d) {
				continue
			}
			w.begin(d, c.zone, func(a, b time.Time) {
				if a.Before(b) {
					tell(i, a, b)
				}
			})
		}
	}
}

// begin tells of each time that the window begins on a day.
func (w *window) begin(d civil, zone *time.Location, tell func(from, to time.Time)) {
	date := d.utc()
	if w.cron == nil {
		if w.weekdays[date.Weekday()] {
			tell((d + w.from).in(zone), (d + w.to).in(zone))
		}
		return
	}
	s := w.cron
	has := func(set uint64, n int) bool { return set&(1<<n) != 0 }
	onDay, onWeekday := has(s.Dom, date.Day()), has(s.Dow, int(date.Weekday()))
	fits := onDay || onWeekday
	if s.Dom&cronStar != 0 || s.Dow&cronStar != 0 { // one of them alone is given
		fits = onDay && onWeekday
	}
	if !fits || !has(s.Month, int(date.Month())) {
		return
	}
	for h := range 24 {
		if !has(s.Hour, h) {
			continue
		}
		for m := range 60 {
			if has(s.Minute, m) {
				at := (d + civil(h)*hour + civil(m)*minute).in(zone)
				tell(at, at.Add(w.long))
			}
		}
	}
}

// days are days in a row, of one year or of each.
type days struct {
	from, to string
	yearly   bool
}

// The forms of a day.
const (
	dayForm    = "2006-01-02"
	yearlyForm = "01-02"
	leapYear   = "2024-" // which has each day that there is
)

func parseDays(x *v1alpha1.Days) (days, error) {
	d := days{from: string(x.From), to: cmp.Or(string(x.To), string(x.From)), yearly: len(x.From) == len(yearlyForm)}
	for _, text := range []string{d.from, d.to} {
		if (len(text) == len(yearlyForm)) != d.yearly {
			return d, fmt.Errorf("%s and %s: give the year in both, or in none", d.from, d.to)
		}
		if d.yearly {
			text = leapYear + text
		}
		if _, err := time.Parse(dayForm, text); err != nil {
			return d, fmt.Errorf("there is no day %q", strings.TrimPrefix(text, leapYear))
		}
	}
	if !d.yearly && d.from > d.to {
		return d, fmt.Errorf("%s is after %s", d.from, d.to)
	}
	return d, nil
}

// has says whether a day is one of them.
func (x *days) has(d civil) bool {
	if !x.yearly {
		text := d.utc().Format(dayForm)
		return x.from <= text && text <= x.to
	}
	text := d.utc().Format(yearlyForm)
	if x.from <= x.to {
		return x.from <= text && text <= x.to
	}
	return x.from <= text || text <= x.to
}

// Bound is how many pods a target has at least and at most which has least and most by
// itself. A bound that is not given moves where the other one demands it.
func (b Bounds) Bound(least, most int32) (int32, int32) {
	switch {
	case b.Min != nil && b.Max != nil:
		return *b.Min, *b.Max
	case b.Min != nil:
		return *b.Min, max(most, *b.Min)
	case b.Max != nil:
		return min(least, *b.Max), *b.Max
	}
	return least, most
}

// Clamp is how many pods a workload has that nothing scales, and that has some by itself.
func (b Bounds) Clamp(replicas int32) int32 {
	if b.Min != nil {
		replicas = max(replicas, *b.Min)
	}
	if b.Max != nil {
		replicas = min(replicas, *b.Max)
	}
	return replicas
}
