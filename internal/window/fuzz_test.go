package window

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"
	"time"
)

// clock is when the fuzzed histories are read.
var clock = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

// holds checks what must be true of a history whatever it was read from.
func holds(t *testing.T, h *History) {
	t.Helper()
	if len(h.slots) > 2*maxSlots+1 {
		t.Errorf("it keeps %d slots", len(h.slots))
	}
	plan, err := h.Find(Ahead{Now: clock, Stall: time.Second})
	if err != nil {
		var r *Refused
		if !errors.As(err, &r) {
			t.Errorf("it is refused with %v", err)
		}
		return
	}
	if plan.Best.At.Before(clock) || !(plan.Best.Held >= 0) {
		t.Errorf("the best moment is %+v", plan.Best)
	}
}

func FuzzALB(f *testing.F) {
	f.Add([]byte(`https 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 0.086 0.048`))
	f.Add([]byte("h2 - app/"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if at, err := parseALB(line); err == nil && at.IsZero() && !bytes.Contains(line, []byte("0001-01-01")) {
			t.Errorf("%q gives no time and no error", line)
		}
	})
}

func FuzzNginx(f *testing.F) {
	f.Add([]byte(`127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 "-" "-"`))
	f.Add([]byte(`127.0.0.1 - a [b] [x [10/Oct/2000:13:55:36 -0700] "GET`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if at, err := parseNginx(line); err == nil && !bytes.Contains(line, []byte(at.Format("15:04:05"))) {
			t.Errorf("%q gives %s", line, at)
		}
	})
}

func FuzzCSVRow(f *testing.F) {
	f.Add("2026-11-01 00:00,5,180ms", false)
	f.Add("1700000000,1e3,0.2", true)
	f.Fuzz(func(t *testing.T, line string, named bool) {
		fields, err := splitCSV(line)
		if err != nil {
			return
		}
		c := firstColumns(fields)
		if named {
			c, _ = namedColumns(fields)
			if c.time < 0 || c.requests < 0 {
				return
			}
		}
		if r, err := parseRow(fields, c, time.UTC); err == nil && (!(r.requests >= 0) || r.stall < 0) {
			t.Errorf("%q gives %+v", line, r)
		}
	})
}

func FuzzMoment(f *testing.F) {
	for _, s := range []string{"2026-12-01 03:30", "2026-12-01T03:30:00+03:00", "2026-03-29 02:30", "2026-10-25 02:30"} {
		f.Add(s)
	}
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := ParseMoment(text, zone)
		if err != nil {
			return
		}
		if again, err := ParseMoment(at.Format(time.RFC3339), zone); at.Nanosecond() == 0 && at.Year() < 10_000 && at.Year() > 0 && at.Second() == 0 && (err != nil || !again.Equal(at)) {
			t.Errorf("%q is %s, and that is %s (%v)", text, at, again, err)
		}
	})
}

// FuzzRead reads whole files, compressed ones among them.
func FuzzRead(f *testing.F) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write([]byte("time,requests\n2026-11-01 00:00,5\n"))
	_ = w.Close()
	f.Add(z.Bytes())
	f.Add([]byte("time,requests,stall\n2026-11-01 00:00,5,0.1\n2026-11-01 00:05,5,0.1\n"))
	f.Add([]byte("http 2026-11-02T22:23:00.186641Z app/a/5\nhttp 1999-11-02T22:23:00.186641Z app/a/5\n"))
	f.Add([]byte("1,1\n2,1\n4000000000,1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h := newHistory(time.UTC, clock)
		if _, err := h.readStream(t.Context(), bytes.NewReader(text), ""); err == nil {
			holds(t, h)
		}
	})
}

// TestBounded: neither a line nor a history fills the memory.
func TestBounded(t *testing.T) {
	h := newHistory(time.UTC, clock)
	for i := range int64(5 * maxSlots) {
		h.add(clock.Add(-time.Duration(i)*SlotLength), 1, SlotLength, 0)
	}
	for i := int64(5 * maxSlots); i > 0; i-- {
		h.add(clock.Add(-time.Duration(i)*SlotLength), 1, SlotLength, 0)
	}
	if len(h.slots) > 2*maxSlots+1 {
		t.Errorf("it keeps %d slots", len(h.slots))
	}
	h.seal()
	if weeks := h.to().Sub(h.from()); weeks != MaxWeeks*week {
		t.Errorf("it keeps %s", weeks)
	}
	if h.add(clock.Add(2*time.Hour), 1, 0, 0) || h.add(time.Time{}, 1, 0, 0) {
		t.Error("it believes times that can not be")
	}
	l := &lines{in: bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", 10*maxLine)+"\nnext\n"), maxLine)}
	line, err := l.next(t.Context())
	if err != nil || string(line) != "next" || l.unreadable != 1 || l.read != 2 {
		t.Errorf("behind a long line comes %q, %v; %+v", line, err, l)
	}
}
