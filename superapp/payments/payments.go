// Package payments is the service through which customers pay each other, ask to be
// paid and split bills. It keeps no balances: for each payment it asks the accounts
// service for one transfer, under a key that follows from the payment's, so that
// asking again never pays twice.
//
// A payment is written as pending first, then the transfer is made, then the
// payment is completed or declined and answered. If the service dies between, the
// settler ends what is pending: it asks for the same transfer again.
package payments

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"dhow/superapp/analytics"
	"dhow/superapp/ledger"
	"dhow/superapp/money"
	"dhow/superapp/outbox"
	"dhow/superapp/service"
)

// Name is the service's name: of its command, its database and its logs.
const Name = "payments"

const (
	// requestKey begins the key of the payment of a request; the request's id follows.
	requestKey = "request:"
	// splitKey begins the key of the request for a share; the split's id and the share's place follow.
	splitKey = "split:"
	// maxKey leaves room for what begins the transfer's key at the accounts service.
	maxKey = service.MaxKey - len(ledger.PaymentKey)
	// maxNote is in characters.
	maxNote = 140
)

// States of payments.
const (
	Pending   = "pending"
	Completed = "completed"
	Declined  = "declined"
)

// States of requests; they share Declined.
const (
	Open     = "open"
	Accepted = "accepted"
	Expired  = "expired"
)

//go:embed schema.sql
var schema string

//go:embed grants.sql
var grants string

//go:embed openapi.yaml
var openAPI []byte

// Command runs the service.
func Command() *cobra.Command {
	o := service.Options{Prepare: []string{insertPayment, endPayment, insertRequest}}
	var bank, events service.URL
	cmd := &cobra.Command{
		Use:     Name,
		Short:   "Serve payments, requests for payment and split bills",
		Long:    "Serves payments, requests and splits. DATABASE_URL names the database; `superapp migrate payments` creates its schema.",
		Example: "  DATABASE_URL=postgres://superapp@localhost/payments superapp payments --listen 127.0.0.1:8082 --accounts-url http://127.0.0.1:8081",
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
	client := ledger.New(bank)
	defer client.Close()
	var send outbox.Send
	if events != nil {
		client := analytics.NewClient(events)
		defer client.Close()
		send = client.Send
	}
	o.Needs.Postgres = true
	return service.Run(ctx, Name, o, func(b service.Base) service.App { return build(b, client, send) })
}

// Migrate creates what is missing of the schema in the database that DATABASE_URL names.
func Migrate(ctx context.Context) error { return service.Migrate(ctx, Schema()) }

// Schema is what the service needs in its database.
func Schema() service.Schema {
	return service.Schema{SQL: schema + outbox.Postgres, Grants: grants + outbox.Grants}
}

// book answers the requests and settles what is pending.
type book struct {
	db       *pgxpool.Pool
	instance string
	accounts *ledger.Client
	send     outbox.Send // nil where nobody is to be told
	log      *slog.Logger
	payments *prometheus.CounterVec
	settled  prometheus.Counter
	expired  prometheus.Counter
}

func build(b service.Base, accounts *ledger.Client, send outbox.Send) service.App {
	k := &book{db: b.DB, instance: b.Instance, accounts: accounts, send: send, log: b.Log}
	k.payments = service.NewCounter(b.Metrics, "payments_total", "Payments by the state in which they ended.", "state")
	k.settled = service.NewCounter(b.Metrics, "payments_settled_total", "Payments that the settler ended.").WithLabelValues()
	k.expired = service.NewCounter(b.Metrics, "requests_expired_total", "Requests that nobody accepted in time.").WithLabelValues()
	return service.App{
		OpenAPI: openAPI,
		Routes: map[string]service.Handler{
			"POST /payments":              k.pay,
			"GET /payments":               k.listPayments,
			"GET /payments/{id}":          k.payment,
			"POST /requests":              k.ask,
			"GET /requests":               k.listRequests,
			"GET /requests/{id}":          k.request,
			"POST /requests/{id}/accept":  k.accept,
			"POST /requests/{id}/decline": k.decline,
			"POST /splits":                k.split,
			"GET /splits/{id}":            k.getSplit,
		},
		Background: k.work,
	}
}

// work is what goes on beside the requests, until ctx ends.
func (b *book) work(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { b.settleAll(ctx) })
	all.Go(func() { b.expireAll(ctx) })
	if b.send != nil {
		all.Go(func() { outbox.Relay(ctx, Name, outbox.InPostgres(b.db), b.send, b.log) })
	}
	all.Wait()
}

// key is the request's idempotency key. Names that the service makes itself are not the clients' to use.
func key(r *http.Request) (string, error) {
	k, err := service.Key(r)
	switch {
	case err != nil:
		return "", err
	case len(k) > maxKey:
		return "", service.InvalidKey(fmt.Sprintf("the idempotency key is longer than %d characters", maxKey))
	case strings.HasPrefix(k, requestKey) || strings.HasPrefix(k, splitKey):
		return "", service.InvalidKey("an idempotency key may not begin with " + requestKey + " or " + splitKey)
	}
	return k, nil
}

func invalid(code, text string) error {
	return &service.Refusal{Status: http.StatusUnprocessableEntity, Code: code, Text: text}
}

// check holds for payments and for requests alike; that the accounts exist and
// hold the currency is for the accounts service to say.
func check(payer, payee, amount int64, currency, note string) error {
	switch {
	case payer < 1 || payee < 1:
		return invalid("invalid_account", "accounts must be whole numbers from 1")
	case payer == payee:
		return invalid("same_account", "payer and payee are the same account")
	case amount < 1 || amount > money.MaxAmount:
		return invalid("invalid_amount", fmt.Sprintf("amount must be a whole number of minor units from 1 to %d", int64(money.MaxAmount)))
	}
	if utf8.RuneCountInString(note) > maxNote || strings.ContainsFunc(note, unicode.IsControl) {
		return invalid("invalid_note", fmt.Sprintf("note may have %d characters, no control characters", maxNote))
	}
	if _, ok := money.Digits(currency); !ok {
		return invalid("unknown_currency", fmt.Sprintf("%q is no ISO 4217 currency: write its code of three capital letters, for example AED", currency))
	}
	return nil
}

// finishTime bounds the end of a payment that has begun.
const finishTime = 5 * time.Second

// keepOn is a context for what should be ended although the client may have
// left: a payment that has begun is better ended now than by the settler.
func keepOn(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), finishTime)
}

// errVanished says that a row which was just there is gone: somebody deleted it.
var errVanished = errors.New("the row is gone")
