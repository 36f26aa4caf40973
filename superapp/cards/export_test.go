package cards

import (
	"context"
	"database/sql"

	"github.com/prometheus/client_golang/prometheus"
)

// What tests reach into.
var (
	Build      = build
	CheckDigit = checkDigit
)

// Numbers makes numbers with a key.
func Numbers(key string) (of func(token string) string, tag func(number string) []byte) {
	n := numbers{[]byte(key)}
	return n.of, n.tag
}

// NoNumbers makes none.
var NoNumbers = numbers{}

// Tries is how often a transaction begins at most.
const Tries = tries

// Transact runs a transaction as the service does.
func Transact(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	d := &desk{db: db, conflicts: prometheus.NewCounter(prometheus.CounterOpts{Name: "conflicts"})}
	return d.transact(ctx, do)
}
