package window

import (
	"cmp"
	"math"
	"slices"
	"time"
)

const (
	// noWeek leaves no week out of what is learned.
	noWeek = -1
	// deviations is how far from a slot's median a value is unusual: a holiday, a
	// campaign, an outage. Of values that scatter as chance has them, one in a
	// million is.
	deviations = 5
	// perDeviation turns a median deviation into a standard one, for a normal distribution.
	perDeviation = 1.4826
	// judges is how many values a slot needs before one of them is called unusual.
	judges = 4
	// quietShare is the part of a week that counts as its quietest.
	quietShare = 0.1
)

// seen is what one slot of the week was in the weeks of a history.
type seen struct {
	// rates are sorted; unusual ones are left out.
	rates []float64
	// stall is the median of what the history tells, 0 where it tells nothing.
	stall time.Duration
	// unusual counts the values that were left out.
	unusual int
}

// usual is the median rate.
func (s seen) usual() float64 { return median(s.rates) }

// profile is a week, slot by slot.
type profile struct {
	slots [slotsPerWeek]seen
}

// expected is what a slot of the week ahead will be like.
type expected struct {
	rate, least, most float64
	stall             time.Duration
	weeks             int
}

// learn makes the profile of a history's week, leaving one of its weeks out.
func (h *History) learn(without int) *profile {
	var rates, stalls [slotsPerWeek][]float64
	for i, s := range h.slots {
		if h.weekOf(i) == without {
			continue
		}
		w := h.slotOfWeek(i)
		if r, ok := s.rate(); ok {
			rates[w] = append(rates[w], r)
		}
		if s.stalls > 0 {
			stalls[w] = append(stalls[w], s.stall/float64(s.stalls))
		}
	}
	p := &profile{}
	for w := range p.slots {
		p.slots[w] = settle(rates[w])
		slices.Sort(stalls[w])
		p.slots[w].stall = time.Duration(median(stalls[w]) * float64(time.Second))
	}
	return p
}

// weekOf numbers the weeks of a history from its beginning.
func (h *History) weekOf(i int64) int { return int((i - h.first) / int64(slotsPerWeek)) }

// settle sorts the values of a slot and leaves the unusual ones out.
func settle(values []float64) seen {
	slices.Sort(values)
	if len(values) < judges {
		return seen{rates: values}
	}
	middle := median(values)
	away := make([]float64, len(values))
	for i, v := range values {
		away[i] = math.Abs(v - middle)
	}
	slices.Sort(away)
	// However regular the weeks are, the requests of a slot scatter by the root of their number.
	chance := math.Sqrt(max(1, middle*SlotLength.Seconds())) / SlotLength.Seconds()
	limit := deviations * max(perDeviation*median(away), chance)
	kept := slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return math.Abs(v-middle) > limit })
	return seen{rates: kept, unusual: len(values) - len(kept)}
}

// median of sorted values; 0 of none.
func median(sorted []float64) float64 {
	n := len(sorted)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// smooth is a slot's rate, in which its neighbours count half as much together as
// it does itself: a quiet quarter of an hour beside a busy one is not taken for
// the best, traffic is not that punctual.
func (p *profile) smooth(w int) float64 {
	rate, weight := p.slots[w].usual(), 1.0
	for _, n := range []int{w - 1, w + 1} {
		if beside := p.slots[(n+slotsPerWeek)%slotsPerWeek]; len(beside.rates) > 0 {
			rate, weight = rate+beside.usual()/4, weight+1.0/4
		}
	}
	return rate / weight
}

// expect says what a slot of the week will be like.
func (p *profile) expect(w int, stall time.Duration) (expected, bool) {
	s := p.slots[w]
	if len(s.rates) < MinWeeks {
		return expected{}, false
	}
	rate := p.smooth(w)
	if s.stall > 0 {
		stall = s.stall
	}
	return expected{rate: rate, least: min(rate, s.rates[0]), most: max(rate, s.rates[len(s.rates)-1]), stall: stall, weeks: len(s.rates) + s.unusual}, true
}

// known counts the slots that were seen in enough weeks.
func (p *profile) known() int {
	n := 0
	for _, s := range p.slots {
		if len(s.rates) >= MinWeeks {
			n++
		}
	}
	return n
}

// compare are the requests that would be held in the median and in the busiest slot.
func (p *profile) compare(stall time.Duration) (usual, busiest float64) {
	var held []float64
	for w := range p.slots {
		if s, ok := p.expect(w, stall); ok {
			held = append(held, s.rate*s.stall.Seconds())
		}
	}
	slices.Sort(held)
	return median(held), held[len(held)-1]
}

// Sure says how good the guess would have been in the past: for each week of the
// history, a moment is chosen by the other weeks alone.
type Sure struct {
	// Weeks is how many weeks could be tried, Quiet in how many of them the moment
	// was among the quietest tenth of that week.
	Weeks int `json:"weeks"`
	Quiet int `json:"quiet"`
}

// Word says it in a word.
func (s Sure) Word() string {
	switch {
	case s.Weeks < MinWeeks || 2*s.Quiet < s.Weeks:
		return "unsure"
	case s.Weeks < judges || s.Quiet < s.Weeks:
		return "fairly sure"
	}
	return "sure"
}

// sure tries the past.
func (h *History) sure() Sure {
	var s Sure
	for w := 0; w <= h.weekOf(h.last); w++ {
		rates := map[int]float64{}
		for i, one := range h.slots {
			if r, ok := one.rate(); ok && h.weekOf(i) == w {
				rates[h.slotOfWeek(i)] = r
			}
		}
		if len(rates) < leastKnown {
			continue
		}
		all := make([]float64, 0, len(rates))
		for _, r := range rates {
			all = append(all, r)
		}
		slices.Sort(all)
		chosen, ok := h.learn(w).quietest(rates)
		if !ok {
			continue
		}
		s.Weeks++
		if rates[chosen] <= all[int(quietShare*float64(len(all)))] {
			s.Quiet++
		}
	}
	return s
}

// quietest is the slot of a profile that would have been chosen among those in which a week was seen.
func (p *profile) quietest(among map[int]float64) (best int, found bool) {
	type choice struct {
		slot int
		rate float64
	}
	var choices []choice
	for w := range among {
		if len(p.slots[w].rates) > 0 {
			choices = append(choices, choice{w, p.smooth(w)})
		}
	}
	if len(choices) == 0 {
		return 0, false
	}
	return slices.MinFunc(choices, func(a, b choice) int {
		return cmp.Or(cmp.Compare(a.rate, b.rate), cmp.Compare(a.slot, b.slot))
	}).slot, true
}
