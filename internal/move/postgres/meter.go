package postgres

import "time"

// meter tells a rate over the last seconds.
type meter struct {
	marks [meterSlots]struct {
		second      int64
		rows, bytes int64
	}
}

// meterSlots is how many seconds a rate looks back.
const meterSlots = 5

func (m *meter) add(now time.Time, rows, bytes int64) {
	s := now.Unix()
	slot := &m.marks[s%meterSlots]
	if slot.second != s {
		slot.second, slot.rows, slot.bytes = s, 0, 0
	}
	slot.rows += rows
	slot.bytes += bytes
}

func (m *meter) perSecond(now time.Time) (rows, bytes float64) {
	s := now.Unix()
	seconds := float64(meterSlots-1) + float64(now.Nanosecond())/1e9
	for _, slot := range m.marks {
		if slot.second > s-meterSlots {
			rows += float64(slot.rows)
			bytes += float64(slot.bytes)
		}
	}
	return rows / seconds, bytes / seconds
}
