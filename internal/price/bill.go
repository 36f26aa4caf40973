package price

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Line is one line of a bill.
type Line struct {
	Item  Item   `json:"item"`
	Group Group  `json:"group"`
	What  string `json:"what"`
	// Amount is how many units the month has, of the quote's.
	Amount Amount `json:"amount"`
	Quote  Quote  `json:"quote"`
	// Cost is in whole hundredths.
	Cost Money `json:"cost"`
}

// Bill is what a month costs, by item.
type Bill struct {
	Currency string `json:"currency"`
	// Date is the day of the newest part of the prices.
	Date  string `json:"date"`
	Hours int    `json:"hours"`
	// Lines are by group, environment, region, kind and name.
	Lines []Line `json:"lines"`
	// Groups, Environments and Regions are the same money again, each in a stable order.
	Groups       []Sum `json:"groups"`
	Environments []Sum `json:"environments"`
	Regions      []Sum `json:"regions"`
	// Total is the sum of the lines, to the hundredth.
	Total Money `json:"total"`
	// Estimated is how much of it is from prices that are estimates.
	Estimated Money `json:"estimated"`
}

// Sum is a part of a bill.
type Sum struct {
	Of   string `json:"of"`
	Cost Money  `json:"cost"`
}

// Monthly is what the items cost in a month. The order of the items is of no account.
// An error names an item that can not be counted, or that has no price.
func (l *List) Monthly(items []Item) (*Bill, error) {
	b := &Bill{Currency: l.Currency, Date: l.Date, Hours: l.Hours, Lines: []Line{}}
	for _, i := range items {
		lines, err := l.lines(i)
		if err != nil {
			return nil, err
		}
		b.Lines = append(b.Lines, lines...)
	}
	slices.SortStableFunc(b.Lines, compareLines)
	groups, environments, regions := map[string]Money{}, map[string]Money{}, map[string]Money{}
	for _, line := range b.Lines {
		var err error
		if b.Total, err = plus(b.Total, line.Cost); err != nil {
			return nil, fmt.Errorf("the whole bill: %w", err)
		}
		if line.Quote.Estimate {
			b.Estimated += line.Cost
		}
		groups[string(line.Group)] += line.Cost
		environments[line.Item.Environment] += line.Cost
		regions[line.Item.Region] += line.Cost
	}
	for _, g := range groupOrder {
		if c, ok := groups[string(g)]; ok {
			b.Groups = append(b.Groups, Sum{string(g), c})
		}
	}
	b.Environments, b.Regions = sums(environments), sums(regions)
	return b, nil
}

// Cost is what one item costs in a month.
func (l *List) Cost(i Item) (Money, error) {
	lines, err := l.lines(i)
	if err != nil {
		return 0, err
	}
	var sum Money
	for _, line := range lines {
		if sum, err = plus(sum, line.Cost); err != nil {
			return 0, fmt.Errorf("%s: %w", i, err)
		}
	}
	return sum, nil
}

func (l *List) lines(i Item) ([]Line, error) {
	if err := i.check(); err != nil {
		return nil, err
	}
	parts, err := i.parts(l.Hours)
	if err != nil {
		return nil, err
	}
	lines := make([]Line, 0, len(parts))
	for _, p := range parts {
		q, err := l.Quote(p.code, i.Region)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", i, err)
		}
		if p.committed && i.Percent > 0 {
			if q.Rate, err = scale(q.Rate, Amount(i.Percent*10)); err != nil {
				return nil, fmt.Errorf("%s: %w", i, err)
			}
			q.How = strings.TrimPrefix(fmt.Sprintf("%s; %d percent of it by a commitment", q.How, i.Percent), "; ")
			q.Estimate = true
		}
		c, err := cost(q.Rate, p.amount)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", i, p.what, err)
		}
		lines = append(lines, Line{Item: i, Group: p.group, What: p.what, Amount: p.amount, Quote: q, Cost: c})
	}
	return lines, nil
}

func compareLines(a, b Line) int {
	return cmp.Or(
		cmp.Compare(slices.Index(groupOrder[:], a.Group), slices.Index(groupOrder[:], b.Group)),
		first(a.Item.Production, b.Item.Production),
		strings.Compare(a.Item.Environment, b.Item.Environment),
		strings.Compare(a.Item.Region, b.Item.Region),
		strings.Compare(string(a.Item.Kind), string(b.Item.Kind)),
		strings.Compare(a.Item.Name, b.Item.Name),
		strings.Compare(a.What, b.What),
		strings.Compare(string(a.Quote.Code), string(b.Quote.Code)),
		cmp.Compare(a.Amount, b.Amount),
		strings.Compare(fmt.Sprint(a.Item), fmt.Sprint(b.Item)),
	)
}

// first puts true before false.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// sums are the dearest first.
func sums(of map[string]Money) []Sum {
	all := make([]Sum, 0, len(of))
	for name, c := range of {
		all = append(all, Sum{name, c})
	}
	slices.SortFunc(all, func(a, b Sum) int { return cmp.Or(cmp.Compare(b.Cost, a.Cost), strings.Compare(a.Of, b.Of)) })
	return all
}
