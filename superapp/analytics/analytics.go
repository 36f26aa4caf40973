// Package analytics is the service that sums up what customers spent, by month,
// category and merchant. The other services tell it what happened; it moves no
// money and knows no balance, and what it says lags a moment behind.
package analytics

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"dhow/superapp/money"
	"dhow/superapp/outbox"
	"dhow/superapp/service"
)

// Name is the service's name: of its command, its database and its logs.
const Name = "analytics"

const (
	// MaxEvents is how many events one call may bring.
	MaxEvents = 500
	// The longest texts, in characters, as the table takes them.
	maxID, maxKind, maxCategory, maxMerchant = 64, 20, 40, 100
)

//go:embed schema.sql
var schema string

//go:embed grants.sql
var grants string

//go:embed openapi.yaml
var openAPI []byte

// Command runs the service.
func Command() *cobra.Command {
	var o service.Options
	cmd := &cobra.Command{
		Use:     Name,
		Short:   "Serve what customers spent, by month, category and merchant",
		Long:    "Serves insights into spending. MARIADB_URL names the database; `superapp migrate analytics` creates its schema.",
		Example: "  MARIADB_URL=mariadb://superapp@localhost/analytics superapp analytics --listen 127.0.0.1:8086",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), o) },
	}
	o.Flags(cmd.Flags())
	return cmd
}

// Run serves until ctx ends.
func Run(ctx context.Context, o service.Options) error {
	o.Needs.MariaDB = true
	return service.Run(ctx, Name, o, build)
}

// Schema is what the service needs in its database, which is MariaDB's.
func Schema() service.Schema { return service.Schema{SQL: schema, Grants: grants} }

// book keeps events and sums them up.
type book struct {
	db    *sql.DB
	taken prometheus.Counter
}

func build(b service.Base) service.App {
	k := &book{db: b.MariaDB}
	k.taken = service.NewCounter(b.Metrics, "events_total", "Events that were taken, repeated ones not counted.").WithLabelValues()
	return service.App{OpenAPI: openAPI, Routes: map[string]service.Handler{
		"POST /events":            k.take,
		"GET /insights/{account}": k.insights,
	}}
}

// told is the body of POST /events.
type told struct {
	Events []outbox.Event `json:"events"`
}

// check says what is wrong with an event.
func check(e outbox.Event) error {
	var wrong string
	switch _, known := money.Digits(e.Currency); {
	case e.ID == "" || len(e.ID) > maxID:
		wrong = fmt.Sprintf("id must have 1 to %d bytes", maxID)
	case e.Account < 1:
		wrong = "account must be a whole number from 1"
	case e.Kind == "" || bad(e.Kind, maxKind) || bad(e.Category, maxCategory) || bad(e.Merchant, maxMerchant):
		wrong = fmt.Sprintf("kind, category and merchant may have %d, %d and %d characters, no control characters, and kind must not be empty", maxKind, maxCategory, maxMerchant)
	case !known:
		wrong = fmt.Sprintf("%q is no ISO 4217 currency", e.Currency)
	case e.Amount == 0 || e.Amount > money.MaxAmount || e.Amount < -money.MaxAmount:
		wrong = fmt.Sprintf("amount must be a whole number of minor units, not 0, up to %d, or as much below 0", int64(money.MaxAmount))
	case e.At.Year() < 2000 || e.At.Year() > 9999:
		wrong = "at must be a time from the year 2000"
	default:
		return nil
	}
	return &service.Refusal{Status: http.StatusUnprocessableEntity, Code: "invalid_event", Text: fmt.Sprintf("event %q: %s", e.ID, wrong)}
}

func bad(text string, most int) bool {
	return !utf8.ValidString(text) || utf8.RuneCountInString(text) > most || strings.ContainsFunc(text, unicode.IsControl)
}

// One statement takes all or none; an event that is there already stays as it is.
// IGNORE would also cut what is too long for its column; check lets no such text pass.
const (
	insertEvents = "INSERT IGNORE INTO events (id, account, kind, category, merchant, currency, amount, at) VALUES "
	oneEvent     = "(?, ?, ?, ?, ?, ?, ?, ?)"
)

// take keeps the events that are new.
func (b *book) take(r *http.Request) (service.Answer, error) {
	body, err := service.Decode[told](r)
	if err != nil {
		return service.Answer{}, err
	}
	n := len(body.Events)
	if n < 1 || n > MaxEvents {
		return service.Answer{}, &service.Refusal{Status: http.StatusUnprocessableEntity, Code: "invalid_events", Text: fmt.Sprintf("there are %d events: send 1 to %d", n, MaxEvents)}
	}
	args := make([]any, 0, n*strings.Count(oneEvent, "?"))
	for _, e := range body.Events {
		if err := check(e); err != nil {
			return service.Answer{}, err
		}
		args = append(args, e.ID, e.Account, e.Kind, e.Category, e.Merchant, e.Currency, e.Amount, e.At.UTC())
	}
	res, err := b.db.ExecContext(r.Context(), insertEvents+oneEvent+strings.Repeat(", "+oneEvent, n-1), args...)
	if err != nil {
		return service.Answer{}, fmt.Errorf("write events: %w", err)
	}
	taken, err := res.RowsAffected()
	if err != nil {
		return service.Answer{}, fmt.Errorf("count the events that were new: %w", err)
	}
	b.taken.Add(float64(taken))
	return service.JSON(http.StatusOK, struct {
		Taken int64 `json:"taken"`
	}{taken})
}
