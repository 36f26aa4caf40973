// Package transfers is the service through which customers send money abroad: to
// which countries, at which quote, and how far a send has come. It keeps no
// balances: the accounts service holds what is sent, and moves it. It sets no
// rates: the rates' service says what providers offer, and the best is taken.
//
// A quote is a promise with an end. It lives in Redis and is gone when its time
// is over. Whether a quote was used is PostgreSQL's to say, in the statement that
// writes the send. From there on a send goes through its states by the table in
// machine.go, driven by its request first and by a worker then.
package transfers

import (
	"context"
	_ "embed"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"dhow/superapp/analytics"
	"dhow/superapp/corridors"
	"dhow/superapp/fx"
	"dhow/superapp/ledger"
	"dhow/superapp/outbox"
	"dhow/superapp/service"
)

// Name is the service's name: of its command, its database and its logs.
const Name = "transfers"

const (
	// DefaultQuoteLife is how long a quote holds: time to type an account's number.
	DefaultQuoteLife = time.Minute
	// maxQuoteLife: nobody promises a rate for longer.
	maxQuoteLife = time.Hour
	// DefaultSubmitAfter is how long a customer has to think again.
	DefaultSubmitAfter = 2 * time.Second
	// DefaultPayAfter is how long a provider takes, which is simulated.
	DefaultPayAfter = time.Second
)

//go:embed schema.sql
var schema string

//go:embed grants.sql
var grants string

//go:embed openapi.yaml
var openAPI []byte

// Options say how sends are made.
type Options struct {
	service.Options
	// QuoteLife is how long a quote holds.
	QuoteLife time.Duration
	// SubmitAfter is how long a send waits, and can be cancelled, before it goes to its provider.
	SubmitAfter time.Duration
	// PayAfter is how long the provider takes.
	PayAfter time.Duration
}

// Beside are the addresses of the services that this one asks. Analytics may be nil.
type Beside struct{ Accounts, FX, Analytics *url.URL }

// Command runs the service.
func Command() *cobra.Command {
	var o Options
	o.Prepare = []string{insertSend, moveSend, claimDue, sendByID, sendsByAccount}
	var bank, rates, events service.URL
	cmd := &cobra.Command{
		Use:     Name,
		Short:   "Serve sends abroad: countries, quotes, sends",
		Long:    "Serves sends abroad. DATABASE_URL names the database, REDIS_URL the server of quotes; `superapp migrate transfers` creates the schema.",
		Example: "  DATABASE_URL=postgres://superapp@localhost/transfers REDIS_URL=redis://localhost:6379/0 superapp transfers --accounts-url http://127.0.0.1:8081 --fx-url http://127.0.0.1:8085",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := bank.Check("accounts-url"); err != nil {
				return err
			}
			if err := rates.Check("fx-url"); err != nil {
				return err
			}
			beside := Beside{Accounts: bank.URL(), FX: rates.URL()}
			var err error
			if beside.Analytics, err = events.Optional("analytics-url"); err != nil {
				return err
			}
			return Run(cmd.Context(), o, beside)
		},
	}
	f := cmd.Flags()
	o.Flags(f)
	service.URLFlag(f, &bank, "accounts-url", "`address` of the accounts service")
	service.URLFlag(f, &rates, "fx-url", "`address` of the rates' service")
	service.URLFlag(f, &events, "analytics-url", "`address` of the analytics service; without it what it should know waits in the outbox")
	f.DurationVar(&o.QuoteLife, "quote-life", DefaultQuoteLife, "how `long` a quote holds")
	f.DurationVar(&o.SubmitAfter, "submit-after", DefaultSubmitAfter, "how `long` a send can be cancelled before it goes to its provider")
	f.DurationVar(&o.PayAfter, "pay-after", DefaultPayAfter, "how `long` the simulated provider takes")
	return cmd
}

func (o Options) check() error {
	switch {
	case o.QuoteLife < time.Millisecond || o.QuoteLife > maxQuoteLife:
		return service.Usagef("--quote-life is %s: give a time up to %s", o.QuoteLife, maxQuoteLife)
	case o.SubmitAfter < 0 || o.PayAfter < 0:
		return service.Usagef("--submit-after is %s and --pay-after %s: give times from 0", o.SubmitAfter, o.PayAfter)
	}
	return nil
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options, beside Beside) error {
	if err := o.check(); err != nil {
		return err
	}
	book, err := corridors.Load()
	if err != nil {
		return err
	}
	bank, rates := ledger.New(beside.Accounts), fx.NewClient(beside.FX)
	defer bank.Close()
	defer rates.Close()
	var send outbox.Send
	if beside.Analytics != nil {
		events := analytics.NewClient(beside.Analytics)
		defer events.Close()
		send = events.Send
	}
	o.Needs.Postgres, o.Needs.Redis = true, true
	return service.Run(ctx, Name, o.Options, func(b service.Base) service.App {
		d := &desk{
			db: b.DB, redis: b.Redis, instance: b.Instance, log: b.Log, accounts: bank, rates: rates, corridors: book, send: send,
			quoteLife: o.QuoteLife, submitAfter: o.SubmitAfter, payAfter: o.PayAfter,
			quotes: service.NewCounter(b.Metrics, "quotes_total", "Quotes that were made.").WithLabelValues(),
			moves:  service.NewCounter(b.Metrics, "sends_total", "How often a send came into a state.", "state"),
		}
		return service.App{Routes: d.routes(), OpenAPI: openAPI, Background: d.work}
	})
}

// Migrate creates what is missing of the schema in the database that DATABASE_URL names.
func Migrate(ctx context.Context) error { return service.Migrate(ctx, Schema()) }

// Schema is what the service needs in its database.
func Schema() service.Schema {
	return service.Schema{SQL: schema + outbox.Postgres, Grants: grants + outbox.Grants}
}

// desk answers the requests, and drives what is on its way.
type desk struct {
	db        *pgxpool.Pool
	redis     *redis.Client
	instance  string
	log       *slog.Logger
	accounts  *ledger.Client
	rates     *fx.Client
	corridors *corridors.Book
	send      outbox.Send // nil where nobody is to be told

	quoteLife, submitAfter, payAfter time.Duration

	quotes prometheus.Counter
	moves  *prometheus.CounterVec
}

func (d *desk) routes() map[string]service.Handler {
	return map[string]service.Handler{
		"GET /corridors":           d.countries,
		"GET /corridors/{country}": d.country,
		"POST /quotes":             d.postQuote,
		"GET /quotes/{id}":         d.getQuote,
		"POST /sends":              d.postSend,
		"GET /sends":               d.listSends,
		"GET /sends/{id}":          d.getSend,
		"POST /sends/{id}/cancel":  d.cancel,
	}
}

// work is what goes on beside the requests, until ctx ends.
func (d *desk) work(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { d.drive(ctx) })
	if d.send != nil {
		all.Go(func() { outbox.Relay(ctx, Name, outbox.InPostgres(d.db), d.send, d.log) })
	}
	all.Wait()
}

func invalid(code, text string) *service.Refusal {
	return &service.Refusal{Status: http.StatusUnprocessableEntity, Code: code, Text: text}
}
