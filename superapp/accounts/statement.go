package accounts

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/superapp/service"
)

const (
	// defaultEntries and maxEntries bound one page of a statement.
	defaultEntries = 20
	maxEntries     = 200
)

// entry is one line of a statement.
type entry struct {
	ID       int64 `json:"id"`
	Transfer int64 `json:"transfer"`
	// Amount is negative where money left the account.
	Amount int64 `json:"amount"`
	// Balance and Version are the account's after this entry.
	Balance   int64     `json:"balance"`
	Version   int64     `json:"version"`
	Reference string    `json:"reference"`
	At        time.Time `json:"at"`
}

// statement is a page of an account's entries, newest first.
type statement struct {
	Account  int64  `json:"account"`
	Currency string `json:"currency"`
	// Balance and Version are the account's now, read together with the entries.
	Balance int64   `json:"balance"`
	Version int64   `json:"version"`
	Entries []entry `json:"entries"`
	// Before is the parameter that gives the next page; absent on the last one.
	Before int64 `json:"before,omitempty"`
}

// One statement is one snapshot: the balance belongs to the entries below it.
const selectStatement = `
SELECT a.currency, a.balance, a.version, e.id, e.transfer, e.amount, e.balance, e.version, e.reference, e.at
FROM accounts a LEFT JOIN LATERAL (
    SELECT e.id, e.transfer, e.amount, e.balance, e.version, t.reference, t.at
    FROM entries e JOIN transfers t ON t.id = e.transfer
    WHERE e.account = a.id AND e.version < $2
    ORDER BY e.version DESC LIMIT $3
) e ON true
WHERE a.id = $1
ORDER BY e.version DESC`

// statement shows an account's entries. The parameter before is a version: only
// older entries are shown; limit is how many at most.
func (l *ledger) statement(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	before, err := service.QueryInt(r, "before", math.MaxInt64, 1, math.MaxInt64)
	if err != nil {
		return service.Answer{}, err
	}
	limit, err := service.QueryInt(r, "limit", defaultEntries, 1, maxEntries)
	if err != nil {
		return service.Answer{}, err
	}
	s := statement{Account: id, Entries: []entry{}}
	rows, err := l.db.Query(r.Context(), selectStatement, id, before, limit)
	if err != nil {
		return service.Answer{}, fmt.Errorf("read a statement: %w", err)
	}
	var entryID, transfer, amount, balance, version *int64
	var reference *string
	var at *time.Time
	found, err := pgx.ForEachRow(rows, []any{&s.Currency, &s.Balance, &s.Version, &entryID, &transfer, &amount, &balance, &version, &reference, &at}, func() error {
		if entryID != nil {
			s.Entries = append(s.Entries, entry{*entryID, *transfer, *amount, *balance, *version, *reference, at.UTC()})
		}
		return nil
	})
	if err != nil {
		return service.Answer{}, fmt.Errorf("read a statement: %w", err)
	}
	if found.RowsAffected() == 0 {
		return service.Answer{}, unknownAccount(id)
	}
	// Versions are dense and begin at 1, so the last entry says whether more follow.
	if n := len(s.Entries); n > 0 && s.Entries[n-1].Version > 1 {
		s.Before = s.Entries[n-1].Version
	}
	return service.JSON(http.StatusOK, s)
}

const selectTransfer = `
SELECT t.id, payer.account, payee.account, t.amount, t.currency, t.reference, payer.balance, payer.version, payee.version, t.at
FROM transfers t
JOIN entries payer ON payer.transfer = t.id AND payer.amount < 0
JOIN entries payee ON payee.transfer = t.id AND payee.amount > 0
WHERE t.id = $1`

// getTransfer shows one transfer.
func (l *ledger) getTransfer(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	t, err := l.readTransfer(r.Context(), id)
	if errors.Is(err, pgx.ErrNoRows) {
		return service.Answer{}, &service.Refusal{Status: http.StatusNotFound, Code: "unknown_transfer", Text: fmt.Sprintf("there is no transfer %d", id)}
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("read a transfer: %w", err)
	}
	return service.JSON(http.StatusOK, t)
}

// shown is a transfer as it is read.
type shown struct {
	ID          int64     `json:"id"`
	From        int64     `json:"from"`
	To          int64     `json:"to"`
	Amount      int64     `json:"amount"`
	Currency    string    `json:"currency"`
	Reference   string    `json:"reference"`
	FromBalance int64     `json:"from_balance"`
	FromVersion int64     `json:"from_version"`
	ToVersion   int64     `json:"to_version"`
	At          time.Time `json:"at"`
}

func (l *ledger) readTransfer(ctx context.Context, id int64) (shown, error) {
	var t shown
	err := l.db.QueryRow(ctx, selectTransfer, id).Scan(&t.ID, &t.From, &t.To, &t.Amount, &t.Currency, &t.Reference, &t.FromBalance, &t.FromVersion, &t.ToVersion, &t.At)
	t.At = t.At.UTC()
	return t, err
}
