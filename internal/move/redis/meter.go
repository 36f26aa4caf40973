package redis

import "time"

// meterSpan is the time over which a rate is measured.
const meterSpan = 3 * time.Second

// meter measures rates over the last seconds.
type meter struct{ samples []sample }

type sample struct {
	at          time.Time
	rows, bytes int64
}

// rates are rows and bytes a second, after so many in all.
func (m *meter) rates(rows, bytes int64) (perSecond, bytesPerSecond float64) {
	now := time.Now()
	m.samples = append(m.samples, sample{now, rows, bytes})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) > meterSpan {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	took := now.Sub(first.at).Seconds()
	if took <= 0 {
		return 0, 0
	}
	return float64(rows-first.rows) / took, float64(bytes-first.bytes) / took
}
