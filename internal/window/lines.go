package window

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// errUnreadable says that a line is none of the kind that is read.
var errUnreadable = errors.New("the line can not be read")

// albTypes are the words with which a line of a load balancer's access log begins.
var albTypes = map[string]bool{"http": true, "https": true, "h2": true, "grpcs": true, "ws": true, "wss": true} //nolint:gochecknoglobals // a set, never written

// parseALB reads when a request of a line of an AWS load balancer's access log came.
func parseALB(line []byte) (time.Time, error) {
	kind, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || !albTypes[string(kind)] {
		return time.Time{}, errUnreadable
	}
	at, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok || !bytes.HasPrefix(rest, []byte("app/")) {
		return time.Time{}, errUnreadable
	}
	t, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return time.Time{}, errUnreadable
	}
	return t, nil
}

// nginxTime is the time of the combined format, with the server's own offset.
const nginxTime = "02/Jan/2006:15:04:05 -0700"

// parseNginx reads when a request of a line of nginx's combined format came:
//
//	203.0.113.7 - - [10/Nov/2026:03:12:55 +0300] "GET / HTTP/1.1" 200 612 "-" "curl"
//
// The user's name may hold brackets, so the first that enclose a time count.
func parseNginx(line []byte) (time.Time, error) {
	for rest := line; ; {
		_, after, ok := bytes.Cut(rest, []byte(" ["))
		if !ok {
			return time.Time{}, errUnreadable
		}
		if len(after) > len(nginxTime) && bytes.HasPrefix(after[len(nginxTime):], []byte(`] "`)) {
			if t, err := time.Parse(nginxTime, string(after[:len(nginxTime)])); err == nil {
				return t, nil
			}
		}
		rest = after
	}
}

// row is a line of a CSV file.
type row struct {
	at       time.Time
	requests float64
	stall    time.Duration // 0 where it is not told
}

// columns say where the fields of a CSV file stand; stall is -1 where there is none.
type columns struct{ time, requests, stall int }

// firstColumns are those of a file that names none.
func firstColumns(fields []string) columns {
	c := columns{0, 1, -1}
	if len(fields) > 2 {
		c.stall = 2
	}
	return c
}

// namedColumns reads a line of names; false where it is none.
func namedColumns(fields []string) (columns, bool) {
	c := columns{-1, -1, -1}
	for i, f := range fields {
		switch strings.ToLower(strings.TrimSpace(f)) {
		case "time":
			c.time = i
		case "requests":
			c.requests = i
		case "stall":
			c.stall = i
		}
	}
	return c, c.time >= 0 && c.requests >= 0
}

// parseRow reads a row of a CSV file; a time without an offset is one of the zone.
func parseRow(fields []string, c columns, zone *time.Location) (row, error) {
	if len(fields) <= max(c.time, c.requests) {
		return row{}, errUnreadable
	}
	at, err := parseTime(strings.TrimSpace(fields[c.time]), zone)
	if err != nil {
		return row{}, err
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(fields[c.requests]), 64)
	if err != nil || n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
		return row{}, errUnreadable
	}
	r := row{at: at, requests: n}
	if c.stall >= 0 && c.stall < len(fields) {
		if text := strings.TrimSpace(fields[c.stall]); text != "" {
			if r.stall, err = parseStall(text); err != nil {
				return row{}, err
			}
		}
	}
	return r, nil
}

// parseStall reads 180ms, or a number of seconds.
func parseStall(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	s, err := strconv.ParseFloat(text, 64)
	if err != nil || s < 0 || !(s < day.Seconds()) {
		return 0, errUnreadable
	}
	return time.Duration(s * float64(time.Second)), nil
}

// localLayouts are the times without an offset that are understood.
var localLayouts = []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04"} //nolint:gochecknoglobals // a list, never written

// parseTime reads a time of a CSV file: RFC 3339, seconds since 1970, or a time of the zone.
func parseTime(text string, zone *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	for _, layout := range localLayouts {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	s, err := strconv.ParseFloat(text, 64)
	if err != nil || s < 0 || s > math.MaxUint32 {
		return time.Time{}, errUnreadable
	}
	return time.Unix(int64(s), 0), nil
}

// ParseMoment reads a time that a person names: RFC 3339, or a time of the zone
// as 2026-12-01 03:30. One that the zone's clocks skip, or show twice, is refused.
func ParseMoment(text string, zone *time.Location) (time.Time, error) {
	text = strings.TrimSpace(text)
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.In(zone), nil
	}
	for _, layout := range localLayouts {
		t, err := time.ParseInLocation(layout, text, zone)
		if err != nil {
			continue
		}
		if t.Format(layout) != text {
			return time.Time{}, fmt.Errorf("%s does not exist in %s: clocks are put forward over it", text, zone)
		}
		// Offsets of zones change by quarters of an hour, and by three hours at most.
		for d := SlotLength; d <= 3*time.Hour; d += SlotLength {
			for _, other := range []time.Time{t.Add(d), t.Add(-d)} {
				if other.Format(layout) == text {
					return time.Time{}, fmt.Errorf("%s comes twice in %s, because clocks are put back: write %s or %s", text, zone, earlier(t, other).Format(time.RFC3339), later(t, other).Format(time.RFC3339))
				}
			}
		}
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: want one as 2026-12-01 03:30, or with its offset as 2026-12-01T03:30:00+03:00", text)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.Before(a) {
		return a
	}
	return b
}
