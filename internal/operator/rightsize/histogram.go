package rightsize

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
)

const (
	// growth is how much larger each bucket is than the one before: a percentile is at most so
	// much too high, and never too low.
	growth = 1.05
	// buckets bounds a histogram: from 1 to more than 10^12 of its unit.
	buckets = 600
	// most bounds a count, far below where it would be no number any more.
	most = 1 << 30
)

// Histogram counts values above zero in buckets. The zero value is empty.
type Histogram struct {
	counts [buckets]uint32
}

// Add counts a value; what is below 1 is counted as 1.
func (h *Histogram) Add(v float64) {
	at := bucket(v)
	if h.counts[at] >= most {
		h.Halve()
	}
	h.counts[at]++
}

// bucket is the first whose upper end is not below the value.
func bucket(v float64) int {
	if !(v > 1) { // not a number is nothing
		return 0
	}
	return min(int(math.Ceil(math.Log(v)/math.Log(growth)-slack)), buckets-1)
}

// slack keeps an end of a bucket in that bucket.
const slack = 1e-9

// Count is how many values were counted.
func (h *Histogram) Count() int {
	n := 0
	for _, c := range h.counts {
		n += int(c)
	}
	return n
}

// Quantile is the upper end of the bucket in which a part of the values lies, from 0 to 1; 0
// without any value.
func (h *Histogram) Quantile(q float64) float64 {
	n := h.Count()
	if n == 0 {
		return 0
	}
	rank := max(1, int(math.Ceil(q*float64(n)-slack)))
	for i, c := range h.counts {
		if rank -= int(c); rank <= 0 {
			return math.Pow(growth, float64(i))
		}
	}
	return math.Pow(growth, buckets-1)
}

// Halve lets what was counted count half as much. What was seen once is forgotten.
func (h *Histogram) Halve() {
	for i := range h.counts {
		h.counts[i] /= 2
	}
}

// MarshalText writes it as few characters.
func (h *Histogram) MarshalText() ([]byte, error) {
	var raw []byte
	last := -1
	for i, c := range h.counts {
		if c > 0 {
			raw = binary.AppendUvarint(binary.AppendUvarint(raw, uint64(i-last)), uint64(c))
			last = i
		}
	}
	return []byte(base64.RawStdEncoding.EncodeToString(raw)), nil
}

// UnmarshalText reads what MarshalText wrote.
func (h *Histogram) UnmarshalText(text []byte) error {
	*h = Histogram{}
	raw, err := base64.RawStdEncoding.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("read a histogram: %w", err)
	}
	at := -1
	for len(raw) > 0 {
		step, n := binary.Uvarint(raw)
		if n <= 0 {
			return errBroken
		}
		count, m := binary.Uvarint(raw[n:])
		if m <= 0 || step == 0 || step > buckets || at+int(step) >= buckets || count == 0 || count > most {
			return errBroken
		}
		at += int(step)
		h.counts[at] = uint32(count)
		raw = raw[n+m:]
	}
	return nil
}

var errBroken = fmt.Errorf("read a histogram: it is cut off, or was changed by hand")
