package accounts

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	client "dhow/superapp/ledger"
	"dhow/superapp/service"
)

// purposes are what the system keeps accounts for.
func purposes() []string {
	return []string{client.Cards, client.Merchants, client.Payouts, client.Fees}
}

const (
	selectSystem = "SELECT id FROM accounts WHERE purpose = $1 AND currency = $2 AND shard = $3"
	insertSystem = `
INSERT INTO accounts (customer, kind, currency, purpose, shard) VALUES (0, '` + KindSystem + `', $2, $1, $3)
ON CONFLICT (purpose, currency, shard) WHERE purpose IS NOT NULL DO NOTHING`
)

// system shows one of the system's accounts of a purpose, and makes it when it is
// missing. It needs no key: asked again, it finds the account.
func (l *ledger) system(r *http.Request) (service.Answer, error) {
	purpose, currency := r.PathValue("purpose"), r.PathValue("currency")
	if !slices.Contains(purposes(), purpose) {
		return service.Answer{}, invalid("unknown_purpose", fmt.Sprintf("the system has no accounts for %q: ask for one of %s", purpose, strings.Join(purposes(), ", ")))
	}
	if err := checkCurrency(currency); err != nil {
		return service.Answer{}, err
	}
	shard, err := strconv.Atoi(r.PathValue("shard"))
	if err != nil || shard < 0 || shard >= client.Shards {
		return service.Answer{}, invalid("unknown_shard", fmt.Sprintf("the system has accounts 0 to %d of a purpose", client.Shards-1))
	}
	a := struct {
		ID       int64  `json:"id"`
		Currency string `json:"currency"`
	}{Currency: currency}
	ctx := r.Context()
	find := func() error { return l.db.QueryRow(ctx, selectSystem, purpose, currency, shard).Scan(&a.ID) }
	err = find()
	if errors.Is(err, pgx.ErrNoRows) {
		// Of two at once one inserts, and both find its row.
		if _, err = l.db.Exec(ctx, insertSystem, purpose, currency, shard); err == nil {
			err = find()
		}
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("find the system's account for %s: %w", purpose, err)
	}
	return service.JSON(http.StatusOK, a)
}
