// Package accounts is the service that keeps customers and their accounts, moves
// money between accounts and holds it for later: a double-entry ledger in
// PostgreSQL. A transfer is one serializable transaction, done once for each
// idempotency key; holds are as safe. It knows nothing of who may pay whom: other
// services ask it to.
package accounts

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/semaphore"

	client "dhow/superapp/ledger"
	"dhow/superapp/money"
	"dhow/superapp/service"
)

// Name is the service's name: of its command, its database and its logs.
const Name = "accounts"

// Kinds of accounts.
const (
	// KindCustomer is an account that may not go below zero.
	KindCustomer = "customer"
	// KindSystem is an account that issues a currency: it goes below zero by what
	// all others hold.
	KindSystem = "system"
)

//go:embed schema.sql
var schema string

//go:embed grants.sql
var grants string

//go:embed openapi.yaml
var openAPI []byte

// Command runs the service.
func Command() *cobra.Command {
	o := service.Options{Prepare: []string{lockAccounts, lockHold, insertTransfer, insertHold, insertCapture, updateReleased, selectAccount, selectStatement, selectHold}}
	cmd := &cobra.Command{
		Use:     Name,
		Short:   "Serve accounts and transfers between them",
		Long:    "Serves accounts, statements and transfers. DATABASE_URL names the database; `superapp migrate accounts` creates its schema.",
		Example: "  DATABASE_URL=postgres://superapp@localhost/accounts superapp accounts --listen 127.0.0.1:8081",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return Run(cmd.Context(), o)
		},
	}
	o.Flags(cmd.Flags())
	return cmd
}

// Run serves until ctx ends.
func Run(ctx context.Context, o service.Options) error {
	o.Needs.Postgres = true
	return service.Run(ctx, Name, o, New)
}

// Migrate creates what is missing of the schema in the database that DATABASE_URL names.
func Migrate(ctx context.Context) error { return service.Migrate(ctx, Schema()) }

// Schema is what the service needs in its database.
func Schema() service.Schema { return service.Schema{SQL: schema, Grants: grants} }

// ledger answers the requests.
type ledger struct {
	db        *pgxpool.Pool
	instance  string
	turns     *turns
	hashing   *semaphore.Weighted
	transfers *prometheus.CounterVec
	holds     *prometheus.CounterVec
	conflicts prometheus.Counter
}

// New is the service on a base.
func New(b service.Base) service.App {
	l := &ledger{db: b.DB, instance: b.Instance, turns: newTurns(), hashing: semaphore.NewWeighted(maxHashing)}
	l.transfers = service.NewCounter(b.Metrics, "transfers_total", "Transfers by outcome.", "outcome")
	l.holds = service.NewCounter(b.Metrics, "holds_total", "Holds by what was done with them and its outcome.", "operation", "outcome")
	l.conflicts = service.NewCounter(b.Metrics, "transfer_conflicts_total", "Transactions that lost against another and were tried again.").WithLabelValues()
	return service.App{OpenAPI: openAPI, Routes: map[string]service.Handler{
		"POST /accounts":             l.open,
		"GET /accounts/{id}":         l.account,
		"GET /accounts/{id}/entries": l.statement,
		"POST /transfers":            l.orderTransfer,
		"GET /transfers/{id}":        l.getTransfer,

		"POST /customers":              l.join,
		"POST /customers/verify":       l.verify,
		"GET /customers/{id}":          l.customer,
		"GET /customers/{id}/accounts": l.customerAccounts,
		"GET /payees":                  l.payee,

		"POST /holds":                              l.postHold,
		"GET /holds/{id}":                          l.getHold,
		"POST /holds/{id}/capture":                 l.capture,
		"POST /holds/{id}/release":                 l.release,
		"PUT /system/{purpose}/{currency}/{shard}": l.system,
		"POST /system/transfers":                   l.stepTransfer,
	}}
}

// customersKey is the key of a write that customers can ask for.
func customersKey(r *http.Request) (string, error) {
	key, err := service.Key(r)
	if err == nil && client.Reserved(key) {
		err = service.InvalidKey(fmt.Sprintf("an idempotency key may not begin with %s, %s or %s", client.PaymentKey, client.CardKey, client.SendKey))
	}
	return key, err
}

// opening is the body of POST /accounts.
type opening struct {
	Customer int64  `json:"customer"`
	Currency string `json:"currency"`
}

func (o opening) check() error {
	if o.Customer < 1 {
		return invalid("invalid_customer", "customer must be a whole number from 1")
	}
	return checkCurrency(o.Currency)
}

// invalid is the refusal of a request that can never succeed as it is.
func invalid(code, text string) *service.Refusal {
	return &service.Refusal{Status: http.StatusUnprocessableEntity, Code: code, Text: text}
}

func checkCurrency(code string) error {
	if _, ok := money.Digits(code); !ok {
		return invalid("unknown_currency", fmt.Sprintf("%q is no ISO 4217 currency: write its code of three capital letters, for example AED", code))
	}
	return nil
}

const insertAccount = `
WITH a AS (
    INSERT INTO accounts (customer, kind, currency) VALUES ($3, '` + KindCustomer + `', $4)
    RETURNING id, customer, currency, balance, version
)
INSERT INTO idempotency (key, request_hash, status, answer)
SELECT $1, $2, 201, jsonb_build_object('id', id, 'customer', customer, 'currency', currency, 'balance', balance, 'version', version) FROM a
RETURNING answer::text`

// open opens an empty customer's account.
func (l *ledger) open(r *http.Request) (service.Answer, error) {
	key, err := customersKey(r)
	if err != nil {
		return service.Answer{}, err
	}
	o, err := service.Decode[opening](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := o.check(); err != nil {
		return service.Answer{}, err
	}
	fingerprint, err := service.Fingerprint("POST /accounts", o)
	if err != nil {
		return service.Answer{}, err
	}
	var answer string
	err = l.db.QueryRow(r.Context(), insertAccount, key, fingerprint, o.Customer, o.Currency).Scan(&answer)
	if service.Duplicate(err) {
		return service.Taken(r.Context(), l.db, key, fingerprint)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("open an account: %w", err)
	}
	return service.Answer{Status: http.StatusCreated, Body: []byte(answer)}, nil
}

func unknownAccount(id int64) *service.Refusal {
	return &service.Refusal{Status: http.StatusNotFound, Code: "unknown_account", Text: fmt.Sprintf("there is no account %d", id)}
}

const selectAccount = "SELECT id, customer, kind, currency, balance, held, balance - held, version FROM accounts WHERE id = $1"

// account shows one account.
func (l *ledger) account(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	var a struct {
		ID       int64  `json:"id"`
		Customer int64  `json:"customer"`
		Kind     string `json:"kind"`
		Currency string `json:"currency"`
		Balance  int64  `json:"balance"`
		// Available is what is not held.
		Held      int64 `json:"held"`
		Available int64 `json:"available"`
		Version   int64 `json:"version"`
	}
	err = l.db.QueryRow(r.Context(), selectAccount, id).
		Scan(&a.ID, &a.Customer, &a.Kind, &a.Currency, &a.Balance, &a.Held, &a.Available, &a.Version)
	if errors.Is(err, pgx.ErrNoRows) {
		return service.Answer{}, unknownAccount(id)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("read an account: %w", err)
	}
	return service.JSON(http.StatusOK, a)
}
