package cards

import (
	"context"
	"database/sql"
	"errors"

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
func Transact(ctx context.Context, db *sql.DB, do func(write func(statement string, args ...any)) error) error {
	d := &desk{db: db, conflicts: prometheus.NewCounter(prometheus.CounterOpts{Name: "conflicts"})}
	_, err := d.transact(ctx, func(t *transaction) error {
		err := do(func(statement string, args ...any) { t.write(statement, args...) })
		_, sent := t.send(ctx) // so that something is left to be undone
		return errors.Join(sent, err)
	})
	return err
}
