// Package cards is the service of payment cards: customers make, freeze and limit
// them, and merchants authorise, capture, reverse and refund amounts. It keeps no
// balances: each movement of money is one transfer that it asks the accounts service
// for, under a key that follows from the movement's id, so that asking again never
// moves money twice. It talks to no card network; numbers are of a range that none uses.
//
// What may happen is decided in one transaction, under a lock of the card or of the
// authorisation, and written with its movements as pending. Then the transfers are
// made, and the movements are posted, or declined, and answered. If the service dies
// between, the settler ends what is pending: it asks for the same transfers again.
package cards

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"dhow/superapp/analytics"
	"dhow/superapp/ledger"
	"dhow/superapp/money"
	"dhow/superapp/outbox"
	"dhow/superapp/service"
)

// Name is the service's name: of its command, its database and its logs.
const Name = "cards"

//go:embed schema.sql
var schema string

//go:embed grants.sql
var grants string

//go:embed openapi.yaml
var openAPI []byte

// Command runs the service.
func Command() *cobra.Command {
	var o service.Options
	var bank, events service.URL
	cmd := &cobra.Command{
		Use:   Name,
		Short: "Serve payment cards",
		Long: `Serves payment cards. MARIADB_URL names the database; ` + "`superapp migrate cards`" + ` creates its schema.
CARDS_KEY is a secret of at least 32 characters that card numbers are made with: with
another key every card has another number.`,
		Example: "  MARIADB_URL=mariadb://superapp@localhost/cards CARDS_KEY=... superapp cards --listen 127.0.0.1:8084 --accounts-url http://127.0.0.1:8081",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := bank.Check("accounts-url"); err != nil {
				return err
			}
			analytics, err := events.Optional("analytics-url")
			if err != nil {
				return err
			}
			return Run(cmd.Context(), o, bank.URL(), analytics)
		},
	}
	o.Flags(cmd.Flags())
	service.URLFlag(cmd.Flags(), &bank, "accounts-url", "`address` of the accounts service")
	service.URLFlag(cmd.Flags(), &events, "analytics-url", "`address` of the analytics service; without it what it should know waits in the outbox")
	return cmd
}

// Run serves until ctx ends; bank is the accounts service's address, and events that
// of the analytics service, nil for none.
func Run(ctx context.Context, o service.Options, bank, events *url.URL) error {
	numbers, err := readNumbers()
	if err != nil {
		return err
	}
	client := ledger.New(bank)
	defer client.Close()
	var send outbox.Send
	if events != nil {
		client := analytics.NewClient(events)
		defer client.Close()
		send = client.Send
	}
	o.Needs.MariaDB = true
	return service.Run(ctx, Name, o, func(b service.Base) service.App { return build(b, numbers, client, send) })
}

// Schema is what the service needs in its database, which is MariaDB's.
func Schema() service.Schema {
	return service.Schema{SQL: schema + outbox.MariaDB, Grants: grants + outbox.Grants}
}

// desk answers the requests and settles what is pending.
type desk struct {
	db        *sql.DB
	instance  string
	numbers   numbers
	accounts  *ledger.Client
	send      outbox.Send // nil where nobody is to be told
	log       *slog.Logger
	movements *prometheus.CounterVec
	settled   prometheus.Counter
	conflicts prometheus.Counter
}

func build(b service.Base, n numbers, accounts *ledger.Client, send outbox.Send) service.App {
	d := &desk{db: b.MariaDB, instance: b.Instance, numbers: n, accounts: accounts, send: send, log: b.Log}
	d.movements = service.NewCounter(b.Metrics, "card_movements_total", "Movements of cards by kind and the state in which they ended.", "kind", "state")
	d.settled = service.NewCounter(b.Metrics, "card_movements_settled_total", "Movements that the settler ended.").WithLabelValues()
	d.conflicts = service.NewCounter(b.Metrics, "card_conflicts_total", "Transactions that lost against another and were tried again.").WithLabelValues()
	return service.App{
		OpenAPI: openAPI,
		Routes: map[string]service.Handler{
			"POST /cards":                       d.create,
			"GET /cards":                        d.list,
			"GET /cards/{id}":                   d.card,
			"GET /cards/{id}/number":            d.number,
			"POST /cards/{id}/freeze":           d.freeze,
			"POST /cards/{id}/unfreeze":         d.unfreeze,
			"PUT /cards/{id}/limits":            d.limits,
			"POST /cards/{id}/authorisations":   d.authorise,
			"GET /authorisations/{id}":          d.authorisation,
			"POST /authorisations/{id}/capture": d.capture,
			"POST /authorisations/{id}/reverse": d.reverse,
			"POST /authorisations/{id}/refund":  d.refund,
		},
		Background: d.work,
	}
}

// work is what goes on beside the requests, until ctx ends.
func (d *desk) work(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { d.settleAll(ctx) })
	if d.send != nil {
		all.Go(func() { outbox.Relay(ctx, Name, outbox.InMariaDB(d.db), d.send, d.log) })
	}
	all.Wait()
}

func invalid(code, text string) *service.Refusal {
	return &service.Refusal{Status: http.StatusUnprocessableEntity, Code: code, Text: text}
}

func checkAmount(name string, amount int64) error {
	if amount < 1 || amount > money.MaxAmount {
		return invalid("invalid_"+name, fmt.Sprintf("%s must be a whole number of minor units from 1 to %d", name, int64(money.MaxAmount)))
	}
	return nil
}

func checkText(name, text string, most int) error {
	if text == "" || utf8.RuneCountInString(text) > most || strings.ContainsFunc(text, unicode.IsControl) {
		return invalid("invalid_"+name, fmt.Sprintf("%s must have 1 to %d characters, no control characters", name, most))
	}
	return nil
}
