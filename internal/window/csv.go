package window

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// firstRows is how many rows of a CSV file are looked at to find out how long
	// the time of a row is.
	firstRows = 64
	// longestRow is the longest time that a row may stand for: a week of longer ones
	// tells nothing of a night.
	longestRow = time.Hour
)

// readCSV reads rows of time and requests. A row's requests came between its time
// and that of the next; how long that is, most of the first rows say.
func (h *History) readCSV(ctx context.Context, l *lines) error {
	var head []row
	var c columns
	span := time.Duration(0)
	for begun := false; ; {
		line, err := l.next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		fields, err := splitCSV(string(line))
		if err != nil {
			l.unreadable++
			continue
		}
		if !begun {
			begun = true
			named, isHead := namedColumns(fields)
			if isHead {
				c = named
				continue
			}
			c = firstColumns(fields)
		}
		r, err := parseRow(fields, c, h.zone)
		if err != nil {
			l.unreadable++
			continue
		}
		if span > 0 {
			h.addRow(l, r, span)
			continue
		}
		if head = append(head, r); len(head) == firstRows {
			if span, err = usualSpan(head); err != nil {
				return err
			}
			for _, r := range head {
				h.addRow(l, r, span)
			}
		}
	}
	if span > 0 || len(head) == 0 {
		return nil
	}
	span, err := usualSpan(head)
	if err != nil {
		return err
	}
	for _, r := range head {
		h.addRow(l, r, span)
	}
	return nil
}

func (h *History) addRow(l *lines, r row, span time.Duration) {
	if !h.add(r.at, r.requests, span, r.stall) {
		l.unreadable++
	}
}

// usualSpan is the commonest distance of neighbouring rows.
func usualSpan(rows []row) (time.Duration, error) {
	times := map[time.Duration]int{}
	best := time.Duration(0)
	for i := 1; i < len(rows); i++ {
		d := rows[i].at.Sub(rows[i-1].at)
		if d <= 0 {
			continue
		}
		times[d]++
		if best == 0 || times[d] > times[best] || times[d] == times[best] && d < best {
			best = d
		}
	}
	switch {
	case best == 0:
		return 0, errors.New("its rows do not follow each other in time")
	case best > longestRow:
		return 0, fmt.Errorf("a row stands for %s: want rows of %s at most", best, longestRow)
	}
	return best, nil
}
