package analytics

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"dhow/superapp/service"
)

const (
	// monthForm is how months are written, for time.Format and for MariaDB.
	monthForm, monthFormSQL = "2006-01", "%Y-%m"
	// defaultMonths are shown when nothing else is asked for: a year, this month with it.
	defaultMonths = 12
	// maxMonths bounds the work of one request.
	maxMonths = 60
	// topMerchants are named; the rest is in the total only.
	topMerchants = 10
)

// month is what was spent from an account in one month and currency.
type month struct {
	Month      string     `json:"month"`
	Currency   string     `json:"currency"`
	Total      int64      `json:"total"`
	Count      int64      `json:"count"`
	Categories []category `json:"categories"`
	Merchants  []merchant `json:"merchants"`
}

type category struct {
	Category string `json:"category"`
	Total    int64  `json:"total"`
	Count    int64  `json:"count"`
}

type merchant struct {
	Merchant string `json:"merchant"`
	Total    int64  `json:"total"`
	Count    int64  `json:"count"`
}

// insights sums up an account's months.
func (b *book) insights(r *http.Request) (service.Answer, error) {
	account, err := strconv.ParseInt(r.PathValue("account"), 10, 64)
	if err != nil || account < 1 {
		return service.Answer{}, unreadable("the account in the path must be a whole number from 1")
	}
	from, until, err := span(r.URL.Query().Get("from"), r.URL.Query().Get("to"), time.Now())
	if err != nil {
		return service.Answer{}, err
	}
	months, err := b.sum(r.Context(), account, from, until)
	if err != nil {
		return service.Answer{}, fmt.Errorf("sum up an account: %w", err)
	}
	return service.JSON(http.StatusOK, struct {
		Account int64   `json:"account"`
		Months  []month `json:"months"`
	}{account, months})
}

func unreadable(text string) error {
	return &service.Refusal{Status: http.StatusBadRequest, Code: service.CodeInvalidRequest, Text: text}
}

// span is from the begin of the first month to the end of the last, in UTC. What
// is not given ends with this month and begins a year before the end.
func span(first, last string, now time.Time) (from, until time.Time, err error) {
	now = now.UTC()
	end := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	if last != "" {
		if end, err = time.Parse(monthForm, last); err != nil {
			return from, until, unreadable("the parameter to must be a month, for example 2026-11")
		}
	}
	until = end.AddDate(0, 1, 0)
	from = until.AddDate(0, -defaultMonths, 0)
	if first != "" {
		if from, err = time.Parse(monthForm, first); err != nil {
			return from, until, unreadable("the parameter from must be a month, for example 2026-01")
		}
	}
	if !from.Before(until) || from.Before(until.AddDate(0, -maxMonths, 0)) {
		return from, until, unreadable(fmt.Sprintf("the parameters from and to must span 1 to %d months", maxMonths))
	}
	return from, until, nil
}

const sumEvents = `
SELECT date_format(at, '` + monthFormSQL + `') AS month, currency, category, merchant, CAST(sum(amount) AS signed), count(*)
FROM events WHERE account = ? AND at >= ? AND at < ?
GROUP BY month, currency, category, merchant ORDER BY month, currency, category`

// sum reads an account's sums, the oldest month first.
func (b *book) sum(ctx context.Context, account int64, from, until time.Time) ([]month, error) {
	rows, err := b.db.QueryContext(ctx, sumEvents, account, from, until)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	months := []month{}
	merchants := map[string]merchant{} // of the last month
	for rows.Next() {
		var m month
		var c category
		var s merchant
		if err := rows.Scan(&m.Month, &m.Currency, &c.Category, &s.Merchant, &c.Total, &c.Count); err != nil {
			return nil, err
		}
		if n := len(months); n == 0 || months[n-1].Month != m.Month || months[n-1].Currency != m.Currency {
			finish(months, merchants)
			clear(merchants)
			months = append(months, m)
		}
		months[len(months)-1].add(c)
		if s.Merchant != "" {
			have := merchants[s.Merchant]
			merchants[s.Merchant] = merchant{s.Merchant, have.Total + c.Total, have.Count + c.Count}
		}
	}
	finish(months, merchants)
	return months, rows.Err()
}

// add takes in a sum of a category; those of one category come one after the other.
func (m *month) add(c category) {
	m.Total += c.Total
	m.Count += c.Count
	if n := len(m.Categories); n > 0 && m.Categories[n-1].Category == c.Category {
		m.Categories[n-1].Total += c.Total
		m.Categories[n-1].Count += c.Count
		return
	}
	m.Categories = append(m.Categories, c)
}

// finish puts the largest first in the last month, whose sums are complete.
func finish(months []month, merchants map[string]merchant) {
	if len(months) == 0 {
		return
	}
	m := &months[len(months)-1]
	slices.SortStableFunc(m.Categories, func(a, b category) int { return cmp.Compare(b.Total, a.Total) })
	m.Merchants = []merchant{}
	for _, one := range merchants {
		m.Merchants = append(m.Merchants, one)
	}
	slices.SortFunc(m.Merchants, func(a, b merchant) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Merchant, b.Merchant))
	})
	m.Merchants = m.Merchants[:min(len(m.Merchants), topMerchants)]
}
