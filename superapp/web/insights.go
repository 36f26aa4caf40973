package web

import (
	"cmp"
	"fmt"
	"math/bits"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	// monthsShown is how many months the charts go back, this one among them.
	monthsShown = 6
	// tones is how many categories get a colour of their own; the rest share the last.
	tones = 7

	// The chart of the months, in its own units.
	chartWidth, chartHeight = 360, 180
	// chartTop and chartFoot leave room for the texts over and under the bars.
	chartTop, chartFoot = 24, 26
	// ringWhole is the length of the ring's circle, given as its pathLength.
	ringWhole = 1000
)

// spending is one month as the analytics service sums it up.
type spending struct {
	Month      string  `json:"month"`
	Currency   string  `json:"currency"`
	Total      int64   `json:"total"`
	Count      int64   `json:"count"`
	Categories []slice `json:"categories"`
	Merchants  []slice `json:"merchants"`
}

// slice is a part of a month.
type slice struct {
	Category string `json:"category"`
	Merchant string `json:"merchant"`
	Total    int64  `json:"total"`
	Count    int64  `json:"count"`
	// Share is of ringWhole, From where it begins, Tone its colour.
	Share, From int64 `json:"-"`
	Tone        int   `json:"-"`
}

// Percent is a share for people.
func (s slice) Percent() int64 { return (s.Share + ringWhole/200) * 100 / ringWhole }

// bar is a month in the chart.
type bar struct {
	Month               string
	Total               int64
	X, Y, Width, Height int64
	Chosen              bool
}

// Middle and Base are where a bar's texts stand.
func (b bar) Middle() int64 { return b.X + b.Width/2 }

// seen is the page of insights.
type seen struct {
	*form
	Account  account
	Bars     []bar
	Month    spending
	Away     bool
	ViewBox  string
	Baseline int64
}

func insights(v *visit) error {
	mine, err := v.accounts()
	if err != nil {
		return err
	}
	f := v.form(v.accountField(mine))
	if len(mine) == 0 {
		return errNotHere
	}
	s := seen{form: f, Account: mine[0], ViewBox: fmt.Sprintf("0 0 %d %d", chartWidth, chartHeight), Baseline: chartHeight - chartFoot}
	if asked := v.r.URL.Query().Get("account"); asked != "" {
		id, _ := strconv.ParseInt(asked, 10, 64) // 0 is no account
		a, ok := find(mine, id)
		if !ok {
			return errNotHere
		}
		s.Account = a
	}
	f.field("account").Value = strconv.FormatInt(s.Account.ID, 10)
	months := lastMonths(time.Now().UTC())
	var answer struct {
		Months []spending `json:"months"`
	}
	path := fmt.Sprintf("/insights/%d?from=%s&to=%s", s.Account.ID, months[0], months[len(months)-1])
	if err := v.services.get(v.r.Context(), v.services.Analytics, path, &answer); err != nil {
		v.note(err)
		s.Away = true
		return v.show(http.StatusOK, "insights", s)
	}
	chosen := months[len(months)-1]
	if asked := v.r.URL.Query().Get("month"); slices.Contains(months, asked) {
		chosen = asked
	}
	s.Bars = bars(months, chosen, s.Account.Currency, answer.Months, v.lang.Dir == "rtl")
	s.Month = spending{Month: chosen, Currency: s.Account.Currency}
	for _, m := range answer.Months {
		if m.Month == chosen && m.Currency == s.Account.Currency {
			s.Month = m
		}
	}
	s.Month.Categories = ring(s.Month.Categories)
	return v.show(http.StatusOK, "insights", s)
}

// lastMonths are the months that are shown, the oldest first.
func lastMonths(now time.Time) []string {
	months := make([]string, monthsShown)
	for i := range months {
		// From the first of the month: a month before the 31st is not always the month before.
		months[i] = time.Date(now.Year(), now.Month()-time.Month(monthsShown-1-i), 1, 0, 0, 0, 0, time.UTC).Format("2006-01")
	}
	return months
}

// bars draws a bar for each month, from the side at which the language begins.
func bars(months []string, chosen, currency string, all []spending, mirrored bool) []bar {
	totals := map[string]int64{}
	var most int64
	for _, m := range all {
		if m.Currency == currency {
			totals[m.Month] += m.Total
			most = max(most, totals[m.Month])
		}
	}
	step := int64(chartWidth / len(months))
	drawn := make([]bar, len(months))
	for i, month := range months {
		at := int64(i)
		if mirrored {
			at = int64(len(months) - 1 - i)
		}
		height := portion(totals[month], most, chartHeight-chartTop-chartFoot)
		drawn[i] = bar{
			Month: month, Total: totals[month], Chosen: month == chosen,
			X: at*step + step/6, Width: step * 2 / 3, Height: height, Y: chartHeight - chartFoot - height,
		}
	}
	return drawn
}

// ring shares a circle among the categories, the largest first. What was given
// back on the whole takes no room.
func ring(categories []slice) []slice {
	slices.SortStableFunc(categories, func(a, b slice) int { return cmp.Compare(b.Total, a.Total) })
	var whole, from int64
	for _, c := range categories {
		whole += max(c.Total, 0)
	}
	for i := range categories {
		c := &categories[i]
		c.Share, c.From, c.Tone = portion(c.Total, whole, ringWhole), from, min(i+1, tones)
		from += c.Share
	}
	return categories
}

// portion is part of size as part is of whole, rounded down; in whole numbers, as
// all that comes from money.
func portion(part, whole, size int64) int64 {
	if part <= 0 || whole <= 0 {
		return 0
	}
	high, low := bits.Mul64(uint64(min(part, whole)), uint64(size))
	quotient, _ := bits.Div64(high, low, uint64(whole)) // part <= whole, so it fits
	return int64(quotient)                              // at most size
}
