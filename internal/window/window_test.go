package window_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dhow/internal/window"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// now is a Wednesday; doha is a zone without daylight saving, and berlin one with.
var (
	now    = time.Date(2026, 11, 25, 10, 3, 0, 0, time.UTC)
	doha   = zone("Asia/Qatar")
	berlin = zone("Europe/Berlin")
)

func zone(name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return z
}

const (
	week    = 7 * 24 * time.Hour
	stall   = 200 * time.Millisecond
	quarter = 15 * time.Minute
)

// bank is what an hour at a bank is like, in requests a second: days and nights, a
// quieter Friday, and the deepest hour on Tuesdays at half past four.
func bank(at time.Time) float64 {
	h := float64(at.Hour()) + float64(at.Minute())/60
	rate := 60 - 50*math.Cos((h-3.5)/24*2*math.Pi)
	if at.Weekday() == time.Friday {
		rate *= 0.7
	}
	if at.Weekday() == time.Tuesday && at.Hour() == 4 {
		rate *= 0.3
	}
	if at.Hour() == 3 && at.Minute() < 15 { // a nightly job, on the deepest point of the curve
		rate *= 8
	}
	return rate
}

// poisson scatters a number as chance does.
func poisson(r *rand.Rand, mean float64) float64 {
	if mean > 50 {
		return math.Max(0, math.Round(mean+math.Sqrt(mean)*r.NormFloat64()))
	}
	n, p, limit := 0.0, 1.0, math.Exp(-mean)
	for p *= r.Float64(); p > limit; p *= r.Float64() {
		n++
	}
	return n
}

// csvOf writes weeks of five minutes each that end now, as change leaves them.
func csvOf(t *testing.T, weeks float64, z *time.Location, change func(at time.Time, rate float64) (float64, bool)) string {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	b.WriteString("time,requests\n")
	end := now.Truncate(5 * time.Minute)
	for at := end.Add(-time.Duration(weeks * float64(week))); at.Before(end); at = at.Add(5 * time.Minute) {
		rate, ok := bank(at.In(z)), true
		if change != nil {
			rate, ok = change(at.In(z), rate)
		}
		if ok {
			fmt.Fprintf(&b, "%s,%.0f\n", at.Format(time.RFC3339), poisson(r, rate*300))
		}
	}
	return file(t, "history.csv", b.String())
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func plan(t *testing.T, path string, z *time.Location) *window.Plan {
	t.Helper()
	h, err := window.Read(t.Context(), window.Source{Where: path, Zone: z, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Find(window.Ahead{Now: now, Stall: stall})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// isDeepest checks that a plan has found the hour that bank has made the deepest.
func isDeepest(t *testing.T, p *window.Plan, z *time.Location) {
	t.Helper()
	at := p.Best.At.In(z)
	if at.Weekday() != time.Tuesday || at.Hour() != 4 || !at.After(now) || at.After(now.Add(week)) {
		t.Errorf("the best moment is %s, and Tuesday at four is the quietest", at.Format(time.RFC1123))
	}
	if want := bank(at) * stall.Seconds(); p.Best.Held < want*0.7 || p.Best.Held > want*1.6 {
		t.Errorf("%.2f requests are expected to be held, about %.2f would be right", p.Best.Held, want)
	}
	if p.Best.Least > p.Best.Held || p.Best.Most < p.Best.Held {
		t.Errorf("%.2f is not between %.2f and %.2f", p.Best.Held, p.Best.Least, p.Best.Most)
	}
	if p.Best.Held > p.Usual/3 || p.Usual > p.Busiest {
		t.Errorf("held at best %.1f, usually %.1f, at most %.1f", p.Best.Held, p.Usual, p.Busiest)
	}
	for i, r := range p.Runners {
		if r.Held < p.Best.Held || i > 0 && r.Held < p.Runners[i-1].Held {
			t.Errorf("the runner-up %s is better than those before it", r.At)
		}
		if r.At.Sub(p.Best.At).Abs() < 2*time.Hour {
			t.Errorf("the runner-up %s is beside the best", r.At)
		}
		if r.At.In(z).Hour() == 3 && r.At.In(z).Minute() < 15 {
			t.Errorf("the runner-up %s is in the nightly job", r.At)
		}
	}
	if len(p.Runners) != window.DefaultRunners {
		t.Errorf("there are %d runners-up", len(p.Runners))
	}
}

func TestFind(t *testing.T) {
	holidays := map[string]bool{}
	for _, d := range []string{"2026-11-17", "2026-11-18", "2026-11-05"} { // a Tuesday is among them
		holidays[d] = true
	}
	for name, change := range map[string]func(at time.Time, rate float64) (float64, bool){
		"seasonal": nil,
		"holidays": func(at time.Time, rate float64) (float64, bool) {
			if holidays[at.Format(time.DateOnly)] {
				rate *= 0.2
			}
			return rate, true
		},
		"a campaign on one deep night": func(at time.Time, rate float64) (float64, bool) {
			if at.Format(time.DateOnly) == "2026-11-10" {
				rate *= 20
			}
			return rate, true
		},
		"an outage": func(at time.Time, rate float64) (float64, bool) {
			if at.Format("2006-01-02 15") == "2026-11-12 12" {
				rate = 0
			}
			return rate, true
		},
		"gaps": func(at time.Time, rate float64) (float64, bool) {
			return rate, at.Day()%9 != 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := plan(t, csvOf(t, 6, doha, change), doha)
			isDeepest(t, p, doha)
			if p.Sure.Weeks < 5 || p.Sure.Quiet < p.Sure.Weeks-1 {
				t.Errorf("it is %s: %+v", p.Sure.Word(), p.Sure)
			}
			if p.Weeks < 5.9 || p.Weeks > 6.1 {
				t.Errorf("the history is said to have %.1f weeks", p.Weeks)
			}
		})
	}
}

// TestTwoWeeks: the least that is enough.
func TestTwoWeeks(t *testing.T) {
	p := plan(t, csvOf(t, 2.01, doha, nil), doha)
	isDeepest(t, p, doha)
	if word := p.Sure.Word(); word == "sure" {
		t.Errorf("two weeks make it %s: %+v", word, p.Sure)
	}
}

// TestNoHabits: where no hour is quieter than another, it says that it does not know.
func TestNoHabits(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	p := plan(t, csvOf(t, 6, doha, func(time.Time, float64) (float64, bool) { return 5 + 100*r.Float64(), true }), doha)
	if p.Sure.Word() != "unsure" {
		t.Errorf("of noise alone it is %s: %+v", p.Sure.Word(), p.Sure)
	}
}

// TestDaylightSaving: habits follow the clock on the wall, over its change.
func TestDaylightSaving(t *testing.T) {
	p := plan(t, csvOf(t, 8, berlin, nil), berlin) // clocks went back on 2026-10-25
	isDeepest(t, p, berlin)
	if !strings.Contains(strings.Join(p.Notes, "\n"), "clocks change in Europe/Berlin, last at 2026-10-25") {
		t.Errorf("the change of clocks is not told: %q", p.Notes)
	}
}

// TestStall: a history that tells how long requests were held is believed.
func TestStall(t *testing.T) {
	var b strings.Builder
	b.WriteString("stall,time,requests\n")
	end := now.Truncate(quarter)
	for at := end.Add(-3 * week); at.Before(end); at = at.Add(quarter) {
		held := "0.100"
		if at.In(doha).Hour() == 4 { // as quiet as ever, but a job makes every stall long
			held = "5s"
		}
		fmt.Fprintf(&b, "%s,%d,%.0f\n", held, at.Unix(), bank(at.In(doha))*900)
	}
	p := plan(t, file(t, "history.csv", b.String()), doha)
	if p.Best.At.In(doha).Hour() == 4 || p.Best.Stall != 100*time.Millisecond {
		t.Errorf("the best moment is %s with a stall of %s", p.Best.At, p.Best.Stall)
	}
}

func TestExpect(t *testing.T) {
	h, err := window.Read(t.Context(), window.Source{Where: csvOf(t, 3, doha, nil), Zone: doha, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 26, 15, 30, 0, 0, doha)
	m, ok, err := h.Expect(at, stall)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if want := bank(at) * stall.Seconds(); math.Abs(m.Held-want) > want/10 || !m.At.Equal(at) {
		t.Errorf("%.1f requests at %s, want about %.1f", m.Held, m.At, want)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":       {"", "holds no access log and no CSV"},
		"no rows":     {"time,requests\n", "the request history is empty"},
		"one row":     {"time,requests\n2026-11-01 00:00,5\n", "do not follow each other"},
		"too coarse":  {"time,requests\n2026-11-01 00:00,5\n2026-11-02 00:00,5\n2026-11-03 00:00,5\n", "a row stands for 24h0m0s"},
		"too short":   {rows(13*24*time.Hour, 1), "is too short: it goes from"},
		"no requests": {rows(15*24*time.Hour, 0), "counts no request at all"},
		"something":   {"this is\nno history\nat all\n", "is no access log"},
		"half a file": {rows(15*24*time.Hour, 1) + strings.Repeat("garbage\n", 2000), "lines can not be read as csv"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := window.Read(t.Context(), window.Source{Where: file(t, "history", c.text), Zone: doha, Now: now})
			if err == nil {
				_, err = h.Find(window.Ahead{Now: now, Stall: stall})
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it is refused with %v, want %q", err, c.want)
			}
		})
	}
}

// rows are quarters of an hour without a head, that end now.
func rows(span time.Duration, n int) string {
	var b strings.Builder
	end := now.Truncate(quarter)
	for at := end.Add(-span); at.Before(end); at = at.Add(quarter) {
		fmt.Fprintf(&b, "%s,%d\n", at.Format("2006-01-02 15:04:05"), n)
	}
	return b.String()
}

// logsOf writes an access log of some weeks, one file a day, the older ones compressed.
func logsOf(t *testing.T, weeks int, line func(at time.Time) string, without func(day string) bool) string {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(3, 4))
	end := now.Truncate(24 * time.Hour)
	for d := end.Add(-time.Duration(weeks) * week); d.Before(end); d = d.Add(24 * time.Hour) {
		name := "access.log-" + d.Format(time.DateOnly)
		if without != nil && without(d.Format(time.DateOnly)) {
			continue
		}
		var b bytes.Buffer
		for at := d; at.Before(d.Add(24 * time.Hour)); at = at.Add(quarter) {
			local := at.In(doha)
			mean := 6.0
			if h := local.Hour(); h >= 1 && h < 6 {
				mean = 1.5
				if local.Weekday() == time.Tuesday && h < 3 {
					mean = 0 // truly nobody
				}
			}
			for range int(poisson(r, mean)) {
				fmt.Fprintln(&b, line(at.Add(time.Duration(r.Int64N(int64(quarter))))))
			}
		}
		text := b.Bytes()
		if d.Before(end.Add(-3 * 24 * time.Hour)) {
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			_, _ = w.Write(text)
			_ = w.Close()
			text, name = z.Bytes(), name+".gz"
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "error.log"), []byte("2026/11/20 10:00:00 [error] 7#7: upstream away\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func albLine(at time.Time) string {
	return fmt.Sprintf(`https %s app/bank/50dc6c495c0c9188 203.0.113.7:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 34 366 "GET https://bank.example:443/ HTTP/1.1" "curl/8" - - arn:aws:x "Root=1-5" "-" "-" 0 2026-11-01T00:00:00.000000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-"`, at.UTC().Format("2006-01-02T15:04:05.000000Z"))
}

func nginxLine(at time.Time) string {
	z := time.FixedZone("", -5*3600) // the server's own clock is elsewhere
	return fmt.Sprintf(`203.0.113.7 - o[b] x [%s] "GET /a [b] HTTP/1.1" 200 612 "-" "curl/8 [x]"`, at.In(z).Format("02/Jan/2006:15:04:05 -0700"))
}

// TestLogs: silence that other weeks had too is a quiet night, and the best moment;
// a missing day is a gap.
func TestLogs(t *testing.T) {
	for name, line := range map[string]func(time.Time) string{"alb": albLine, "nginx": nginxLine} {
		t.Run(name, func(t *testing.T) {
			p := plan(t, logsOf(t, 4, line, func(day string) bool { return day == "2026-11-11" }), doha)
			at := p.Best.At.In(doha)
			if at.Weekday() != time.Tuesday || at.Hour() < 1 || at.Hour() >= 3 || p.Best.Held > 0.0001 {
				t.Errorf("the best moment is %s, with %.4f requests held", at.Format(time.RFC1123), p.Best.Held)
			}
			notes := strings.Join(p.Notes, "\n")
			for _, want := range []string{"24.0 hours are missing", "1 files are no request history and were passed over: error.log"} {
				if !strings.Contains(notes, want) {
					t.Errorf("%q is not told in %q", want, notes)
				}
			}
		})
	}
}

// TestTwoKinds: two logs of the same requests would count each twice.
func TestTwoKinds(t *testing.T) {
	dir := t.TempDir()
	for name, line := range map[string]string{"a.log": albLine(now), "b.log": nginxLine(now)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := window.Read(t.Context(), window.Source{Where: dir, Zone: doha, Now: now})
	if err == nil || !strings.Contains(err.Error(), "alb (a.log), nginx (b.log)") {
		t.Errorf("two kinds of logs give %v", err)
	}
	if _, err := window.Read(t.Context(), window.Source{Where: filepath.Join(dir, "none"), Zone: doha, Now: now}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
}

// TestStale: a history that ended long ago is used, and said to be old.
func TestStale(t *testing.T) {
	h, err := window.Read(t.Context(), window.Source{Where: csvOf(t, 3, doha, nil), Zone: doha, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	later := now.Add(30 * 24 * time.Hour)
	p, err := h.Find(window.Ahead{Now: later, Stall: stall})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Best.At.After(later) || !strings.Contains(strings.Join(p.Notes, "\n"), "the history ends 30 days ago") {
		t.Errorf("the best moment is %s, noted %q", p.Best.At, p.Notes)
	}
}

func TestParseMoment(t *testing.T) {
	for text, want := range map[string]string{
		"2026-12-01 03:30":          "2026-12-01T03:30:00+01:00",
		"2026-12-01T03:30":          "2026-12-01T03:30:00+01:00",
		"2026-12-01T03:30:00Z":      "2026-12-01T04:30:00+01:00",
		"2026-12-01T03:30:00+03:00": "2026-12-01T01:30:00+01:00",
		"2026-03-29 02:30":          "2026-03-29 02:30 does not exist in Europe/Berlin",
		"2026-10-25 02:30":          "comes twice in Europe/Berlin, because clocks are put back: write 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00",
		"tomorrow":                  `"tomorrow" is no time`,
		"":                          `"" is no time`,
	} {
		got, err := window.ParseMoment(text, berlin)
		switch {
		case err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%q gives %v, want %s", text, err, want)
		case err == nil && got.Format(time.RFC3339) != want:
			t.Errorf("%q is %s, want %s", text, got.Format(time.RFC3339), want)
		}
	}
}
