package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
)

// parse reads a spec's calendar from YAML.
func parse(t testing.TB, text string) *Calendar {
	t.Helper()
	var s v1alpha1.ScheduledScaleSpec
	if err := yaml.UnmarshalStrict([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	c, err := Parse(&s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// at reads a time of a zone.
func at(t testing.TB, zone, text string) time.Time {
	t.Helper()
	l, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	x, err := time.ParseInLocation("2006-01-02 15:04", text, l)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

const office = `{timeZone: Asia/Dubai, target: {name: cart}, otherwise: {min: 1, max: 4},
 holidays: [{name: national day, from: 12-02, to: 12-03}, {name: move, from: 2026-12-10}, {name: new year, from: 12-31, to: 01-01}],
 windows: [
  {name: day, days: [Mon, Tue, Wed, Thu, Fri], from: "08:00", to: "20:00", min: 6, max: 40},
  {name: night, from: "22:00", to: "04:00", max: 3},
  {name: salaries, cron: "0 6 25 * *", for: 30h, holidays: Keep, priority: 10, min: 20},
  {name: feast, from: "00:00", to: "24:00", holidays: Only, min: 2, max: 8, priority: 5},
  {name: sale, from: "10:00", to: "12:00", between: {from: 2026-12-07, to: 2026-12-08}, min: 6, max: 60}]}`

// TestAt: a Monday is 2026-12-07.
func TestAt(t *testing.T) {
	c := parse(t, office)
	for when, want := range map[string]string{
		"2026-12-07 07:59": "otherwise 1-4",
		"2026-12-07 08:00": "day 6-40",
		"2026-12-07 10:00": "sale 6-60, day yields", // the larger max
		"2026-12-07 12:00": "day 6-40",
		"2026-12-07 20:00": "otherwise 1-4",
		"2026-12-07 22:00": "night --3",
		"2026-12-08 03:59": "night --3", // it began the day before
		"2026-12-08 04:00": "otherwise 1-4",
		"2026-12-09 10:00": "day 6-40", // the sale is over
		"2026-12-12 10:00": "otherwise 1-4",
		"2026-12-02 10:00": "feast 2-8",
		"2026-12-04 00:00": "otherwise 1-4",
		"2026-12-03 23:00": "feast 2-8",     // nights do not begin on a holiday
		"2026-12-10 10:00": "feast 2-8",     // a holiday of one year
		"2027-12-10 10:00": "day 6-40",      // and not of the next
		"2027-01-01 12:00": "feast 2-8",     // around a new year
		"2026-12-25 06:00": "salaries 20--", // before anything else
		"2026-12-25 10:00": "salaries 20--, day yields",
		"2026-12-26 11:59": "salaries 20--",
		"2026-12-26 12:00": "otherwise 1-4",
		"2026-12-31 23:59": "feast 2-8",
		"2027-01-02 00:00": "otherwise 1-4",
	} {
		m := c.At(at(t, "Asia/Dubai", when))
		show := func(n *int32) string {
			if n == nil {
				return "-"
			}
			return fmt.Sprint(*n)
		}
		name := m.Window
		if name == "" {
			name = "otherwise"
		}
		got := fmt.Sprintf("%s %s-%s", name, show(m.Min), show(m.Max))
		if len(m.Yield) > 0 {
			got += ", " + strings.Join(m.Yield, " ") + " yields"
		}
		if got != want {
			t.Errorf("at %s: got %s, want %s", when, got, want)
		}
	}
}

func TestNext(t *testing.T) {
	c := parse(t, office)
	now := at(t, "Asia/Dubai", "2026-12-06 12:00") // a Sunday
	var got []string
	for range 8 {
		next, m, ok := c.Next(now)
		if !ok {
			t.Fatalf("after %s nothing comes any more", now)
		}
		if since, ok := c.Since(next.Add(time.Minute)); !ok || !since.Equal(next) {
			t.Errorf("got since %s: want %s", since, next)
		}
		now = next
		got = append(got, next.In(c.zone).Format("Mon 15:04 ")+m.Window)
	}
	want := []string{"Sun 22:00 night", "Mon 04:00 ", "Mon 08:00 day", "Mon 10:00 sale", "Mon 12:00 day", "Mon 20:00 ", "Mon 22:00 night", "Tue 04:00 "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	always := parse(t, `{timeZone: UTC, target: {name: a}, windows: [{name: always, from: "00:00", to: "24:00", min: 3}]}`)
	if next, m, ok := always.Next(now); ok {
		t.Errorf("got %s, %+v: want no change, for a day follows the other", next, m)
	}
	if since, ok := always.Since(now); ok {
		t.Errorf("got since %s: want for ever", since)
	}
	yearly := parse(t, `{timeZone: UTC, target: {name: a}, windows: [{name: feast, cron: "30 18 24 12 *", for: 6h, min: 3}]}`)
	if next, m, ok := yearly.Next(at(t, "UTC", "2026-12-25 12:00")); !ok || !next.Equal(at(t, "UTC", "2027-12-24 18:30")) || m.Window != "feast" {
		t.Errorf("got %s, %+v, %v: want it a year later", next, m, ok)
	}
}

// TestClockChanges: the clocks of Berlin go from 02:00 to 03:00 on 2026-03-29, and from
// 03:00 back to 02:00 on 2026-10-25.
func TestClockChanges(t *testing.T) {
	for name, x := range map[string]struct{ window, day, from, to string }{
		"a day that is short":          {`from: "00:00", to: "24:00"`, "2026-03-29", "2026-03-28T23:00Z", "2026-03-29T22:00Z"},
		"a day that is long":           {`from: "00:00", to: "24:00"`, "2026-10-25", "2026-10-24T22:00Z", "2026-10-25T23:00Z"},
		"from a time that is not":      {`from: "02:30", to: "05:00"`, "2026-03-29", "2026-03-29T01:00Z", "2026-03-29T03:00Z"},
		"to a time that is not":        {`from: "01:00", to: "02:30"`, "2026-03-29", "2026-03-29T00:00Z", "2026-03-29T01:00Z"},
		"within the hour that is not":  {`from: "02:15", to: "02:45"`, "2026-03-29", "", ""},
		"from a time that is twice":    {`from: "02:30", to: "05:00"`, "2026-10-25", "2026-10-25T00:30Z", "2026-10-25T04:00Z"},
		"to a time that is twice":      {`from: "01:00", to: "02:30"`, "2026-10-25", "2026-10-24T23:00Z", "2026-10-25T00:30Z"},
		"the hour that is twice":       {`from: "02:00", to: "03:00"`, "2026-10-25", "2026-10-25T00:00Z", "2026-10-25T02:00Z"},
		"a cron of a time that is not": {`cron: "30 2 * * *", for: 1h`, "2026-03-29", "2026-03-29T01:00Z", "2026-03-29T02:00Z"},
		"a cron of a time twice":       {`cron: "30 2 * * *", for: 90m`, "2026-10-25", "2026-10-25T00:30Z", "2026-10-25T02:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			c := parse(t, fmt.Sprintf(`{timeZone: Europe/Berlin, target: {name: a}, windows: [{name: w, %s, between: {from: %q}, min: 3}]}`, x.window, x.day))
			start, m, ok := c.Next(at(t, "Europe/Berlin", x.day+" 00:00").Add(-12 * time.Hour))
			if x.from == "" {
				if ok {
					t.Fatalf("got %+v from %s: want that it never is", m, start)
				}
				return
			}
			end, _, _ := c.Next(start)
			if got := start.UTC().Format("2006-01-02T15:04Z") + " " + end.UTC().Format("2006-01-02T15:04Z"); got != x.from+" "+x.to {
				t.Errorf("got %s, want %s %s", got, x.from, x.to)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, x := range []struct{ spec, want string }{
		{`timeZone: Asia/Atlantis, windows: [{name: a, from: "08:00", to: "09:00"}]`, `there is no time zone "Asia/Atlantis"`},
		{`timeZone: Local, windows: [{name: a, from: "08:00", to: "09:00"}]`, `there is no time zone "Local"`},
		{`timeZone: "", windows: [{name: a, from: "08:00", to: "09:00"}]`, `there is no time zone ""`},
		{`timeZone: UTC, windows: [{name: a, from: "25:00", to: "09:00"}]`, `window a: from: "25:00": want a time of the day`},
		{`timeZone: UTC, windows: [{name: a, from: "08:00", to: "9:00"}]`, `window a: to: "9:00": want a time of the day`},
		{`timeZone: UTC, windows: [{name: a, days: [Mo], from: "08:00", to: "09:00"}]`, `there is no day "Mo"`},
		{`timeZone: UTC, windows: [{name: a, cron: "0 8 * *", for: 1h}]`, "expected exactly 5 fields"},
		{`timeZone: UTC, windows: [{name: a, cron: "0 25 * * *", for: 1h}]`, "above maximum"},
		{`timeZone: UTC, windows: [{name: a, cron: "TZ=UTC", for: 1h}]`, "want five parts"},
		{`timeZone: UTC, windows: [{name: a, cron: "*/30 * * * *", for: 1h}]`, "it begins 48 times a day: at most 24"},
		{`timeZone: UTC, windows: [{name: a, cron: "0 8 * * *"}]`, "for: want from 1m"},
		{`timeZone: UTC, windows: [{name: a, from: "08:00", to: "09:00", between: {from: 2026-02-29}}]`, `between: there is no day "2026-02-29"`},
		{`timeZone: UTC, windows: [{name: a, from: "08:00", to: "09:00", between: {from: 2026-03-02, to: 2026-03-01}}]`, "2026-03-02 is after 2026-03-01"},
		{`timeZone: UTC, windows: [{name: a, from: "08:00", to: "09:00"}], holidays: [{name: h, from: 02-30}]`, `holiday h: there is no day "02-30"`},
		{`timeZone: UTC, windows: [{name: a, from: "08:00", to: "09:00"}], holidays: [{name: h, from: 02-28, to: 2026-03-01}]`, "give the year in both"},
	} {
		var s v1alpha1.ScheduledScaleSpec
		if err := yaml.UnmarshalStrict([]byte("{target: {name: x}, "+x.spec+"}"), &s); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(&s); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: got %v, want %q in it", x.spec, err, x.want)
		}
	}
}

func TestBound(t *testing.T) {
	for _, x := range []struct {
		min, max    *int32
		least, most int32
	}{{nil, nil, 2, 10}, {ptr.To(int32(6)), nil, 6, 10}, {ptr.To(int32(20)), nil, 20, 20}, {nil, ptr.To(int32(5)), 2, 5}, {nil, ptr.To(int32(1)), 1, 1}, {ptr.To(int32(3)), ptr.To(int32(4)), 3, 4}} {
		if least, most := (Bounds{x.min, x.max}).Bound(2, 10); least != x.least || most != x.most {
			t.Errorf("%v of 2 and 10: got %d and %d, want %d and %d", x, least, most, x.least, x.most)
		}
	}
	for replicas, want := range map[int32]int32{0: 3, 3: 3, 4: 4, 9: 5} {
		if got := (Bounds{ptr.To(int32(3)), ptr.To(int32(5))}).Clamp(replicas); got != want {
			t.Errorf("%d in 3 to 5: got %d, want %d", replicas, got, want)
		}
	}
}

// zones are some whose clocks do what others' do not: half an hour, a midnight that is not,
// a day that is not, a month of every year by the moon.
//
//nolint:gochecknoglobals // a table of tests
var zones = []struct {
	name string
	year int
}{{"Europe/Berlin", 2026}, {"America/New_York", 2026}, {"Australia/Lord_Howe", 2026}, {"America/Havana", 2026}, {"Asia/Beirut", 2026}, {"Africa/Cairo", 2026}, {"Africa/Casablanca", 2026},
	{"Pacific/Apia", 2011}, {"America/Sao_Paulo", 2017}, {"Antarctica/Troll", 2026}, {"Asia/Dubai", 2026}, {"UTC", 2026}, {"Pacific/Kwajalein", 1993}}

// turns are the times of a year at which a zone's clocks are changed.
func turns(zone *time.Location, year int) []time.Time {
	var all []time.Time
	for t := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC); ; {
		_, end := t.In(zone).ZoneBounds()
		if end.IsZero() || end.UTC().Year() > year {
			return all
		}
		all = append(all, end)
		t = end
	}
}

// drawTime draws a time of the year, mostly near a change of the clocks.
func drawTime(t *rapid.T, zone *time.Location, year int) time.Time {
	base := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 365*24*60).Draw(t, "minute of the year")) * time.Minute)
	if all := turns(zone, year); len(all) > 0 && rapid.IntRange(0, 3).Draw(t, "anywhere") > 0 {
		base = rapid.SampledFrom(all).Draw(t, "turn").Add(time.Duration(rapid.IntRange(-30*60, 30*60).Draw(t, "minutes from it")) * time.Minute)
	}
	return base
}

// TestCivil compares the moment of a civil time with what a clock shows that is read every
// quarter of an hour.
func TestCivil(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		z := rapid.SampledFrom(zones).Draw(t, "zone")
		zone, err := time.LoadLocation(z.name)
		if err != nil {
			t.Fatal(err)
		}
		const step = 15 * time.Minute // every zone's clock is some of these off
		c := shown(drawTime(t, zone, z.year).Truncate(step), zone) + civil(rapid.IntRange(-8, 8).Draw(t, "quarters"))*15*minute
		want := time.Unix(int64(c), 0).Add(-48 * time.Hour)
		for shown(want, zone) < c {
			want = want.Add(step)
		}
		if got := c.in(zone); !got.Equal(want) {
			t.Fatalf("%s in %s: got %s, want %s", c.utc().Format(time.DateTime), zone, got.UTC(), want.UTC())
		}
	})
}

// drawSpec draws a calendar of the zone.
func drawSpec(t *rapid.T, zone string, year int) *v1alpha1.ScheduledScaleSpec {
	s := &v1alpha1.ScheduledScaleSpec{TimeZone: zone}
	clock := func(name string) string {
		return fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, name), rapid.SampledFrom([]int{0, 15, 30}).Draw(t, name+"'s minutes"))
	}
	for i := range rapid.IntRange(1, 5).Draw(t, "windows") {
		w := v1alpha1.ScaleWindow{Name: fmt.Sprintf("w%d", i), Priority: rapid.Int32Range(0, 2).Draw(t, "priority"), Holidays: rapid.SampledFrom([]string{"Skip", "Keep", "Only"}).Draw(t, "on holidays")}
		w.Min = ptr.To(rapid.Int32Range(0, 3).Draw(t, "min"))
		if rapid.Bool().Draw(t, "by cron") {
			w.Cron = fmt.Sprintf("%d %d %s * %s", rapid.SampledFrom([]int{0, 15, 30}).Draw(t, "minute"), rapid.IntRange(0, 23).Draw(t, "hour"), rapid.SampledFrom([]string{"*", "*/2", "1-20"}).Draw(t, "day of the month"), rapid.SampledFrom([]string{"*", "Mon-Fri", "0,6"}).Draw(t, "weekday"))
			w.For = &metav1.Duration{Duration: time.Duration(rapid.IntRange(1, 24*8-1).Draw(t, "quarters")) * 15 * time.Minute}
		} else {
			w.From, w.To = clock("from"), clock("to")
			if rapid.Bool().Draw(t, "of some days") {
				w.Days = []v1alpha1.Weekday{"Sun", rapid.SampledFrom(weekdays[1:]).Draw(t, "weekday")}
			}
		}
		s.Windows = append(s.Windows, w)
	}
	if rapid.Bool().Draw(t, "with a holiday") {
		first := drawTime(t, time.UTC, year)
		s.Holidays = []v1alpha1.Holiday{{Name: "h", Days: v1alpha1.Days{From: v1alpha1.Day(first.Format("01-02")), To: v1alpha1.Day(first.AddDate(0, 0, 2).Format("01-02"))}}}
	}
	return s
}

// TestCalendar: until the next change the same window holds, from it on another one, that
// change began when it says, and the order in which windows are written says nothing.
func TestCalendar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		z := rapid.SampledFrom(zones).Draw(t, "zone")
		s := drawSpec(t, z.name, z.year)
		c, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		now := drawTime(t, c.zone, z.year)
		here := c.At(now)
		turned := *s
		turned.Windows = slices.Clone(s.Windows)
		slices.Reverse(turned.Windows)
		other, err := Parse(&turned)
		if err != nil {
			t.Fatal(err)
		}
		if m := other.At(now); m.Window != here.Window || !slices.Equal(m.Yield, here.Yield) {
			t.Fatalf("got %+v and, written in another order, %+v", here, m)
		}
		next, then, ok := c.Next(now)
		if !ok {
			next = now.Add(horizons[1])
		}
		if !next.After(now) {
			t.Fatalf("the next change is at %s, and not after %s", next, now)
		}
		for range 20 {
			x := now.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(now))-1).Draw(t, "until")))
			if m := c.At(x); m.Window != here.Window {
				t.Fatalf("at %s holds %q, at %s already %q, and the next change was to be at %s", now, here.Window, x, m.Window, next)
			}
		}
		if !ok {
			return
		}
		if m := c.At(next); m.Window != then.Window || m.Window == here.Window {
			t.Fatalf("from %s on holds %q: want %q, and not %q", next, m.Window, then.Window, here.Window)
		}
		if since, ok := c.Since(next.Add(time.Nanosecond)); !ok || !since.Equal(next) {
			t.Fatalf("it holds since %s, %v: want since %s", since, ok, next)
		}
	})
}

// TestTiles: two windows of which the second begins when the first ends never hold both, and
// never none.
func TestTiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		z := rapid.SampledFrom(zones).Draw(t, "zone")
		turn := fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(1, 59).Draw(t, "minute"))
		c, err := Parse(&v1alpha1.ScheduledScaleSpec{TimeZone: z.name, Windows: []v1alpha1.ScaleWindow{{Name: "early", From: "00:00", To: turn}, {Name: "late", From: turn, To: "24:00"}}})
		if err != nil {
			t.Fatal(err)
		}
		now := drawTime(t, c.zone, z.year)
		if m := c.At(now); m.Window == "" || len(m.Yield) > 0 {
			t.Fatalf("at %s: got %+v, want one of the two", now.In(c.zone), m)
		}
	})
}

// FuzzCron holds cron expressions to what is said of them: no panic, no endless work.
func FuzzCron(f *testing.F) {
	for _, text := range []string{"0 8 * * Mon-Fri", "*/30 0 1 1 *", "TZ=UTC 0 8 * * *", "0 8 ? * ?", "59 23 31 2 *", "1-5/18446744073709551615 0 * * *"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(&v1alpha1.ScheduledScaleSpec{TimeZone: "Europe/Berlin", Windows: []v1alpha1.ScaleWindow{{Name: "w", Cron: text, For: &metav1.Duration{Duration: time.Hour}}}})
		if err != nil {
			return
		}
		now := time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)
		if next, m, ok := c.Next(now); ok && (!next.After(now) || c.At(next).Window != m.Window) {
			t.Errorf("%q: got %s and %+v", text, next, m)
		}
	})
}
