// Package seed fills an empty accounts database with a ledger that looks as if it
// had been in use: customers, their accounts in several currencies, opening
// balances, and payments between them. The same options give the same ledger. It keeps the
// ledger's rules: money is only moved, no customer is overdrawn, each balance is
// the sum of the entries and each version their number.
//
// Accounts are numbered from 1 without gaps. The first ones, one for each
// currency, are the system's and issue it; the currency of account id is
// currencies[(id-1) % len(currencies)]. Customer n has one account in each: those
// behind n*len(currencies).
package seed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"dhow/superapp/accounts"
	"dhow/superapp/money"
	"dhow/superapp/service"
)

const (
	// DefaultAccounts is how many accounts a demonstration needs.
	DefaultAccounts = 200_000
	// DefaultEntries is how many entries it needs.
	DefaultEntries = 1_000_000
	// DefaultSeed makes the ledger the same each time.
	DefaultSeed = 1
	// maxAccounts bounds the memory: 16 bytes each.
	maxAccounts = 50_000_000
	// instance is what seeded rows name as their writer.
	instance = "seed"

	// leastOpening and mostOpening are opening balances in whole units of the
	// currency; mostPaid is the largest payment.
	leastOpening, mostOpening = 1_000, 10_000
	mostPaid                  = 100
	// tries is how often a payer with money is looked for at random before the issuer pays.
	tries = 8
	// history is how far back the first transfer lies.
	history = 90 * 24 * time.Hour
	// workMemory is what the server may use to build an index.
	workMemory = "256MB"
)

// defaultCurrencies have two and three digits.
var defaultCurrencies = []string{"AED", "USD", "EUR", "INR", "KWD"}

// Options say what to write.
type Options struct {
	// Accounts is how many, the system's among them: at least two for each currency.
	Accounts int
	// Customers, if set, is how many, each with an account in each currency; it takes
	// the place of Accounts.
	Customers int
	// Entries is how many; even, since each transfer has two.
	Entries    int
	Currencies []string
	Seed       uint64
}

// checked are the options with Accounts set.
func (o Options) checked() (Options, error) {
	k := len(o.Currencies)
	if o.Customers != 0 && k > 0 {
		if most := maxAccounts/k - 1; o.Customers < 1 || o.Customers > most {
			return o, service.Usagef("--customers is %d: with %d currencies give a number from 1 to %d", o.Customers, k, most)
		}
		o.Accounts = (o.Customers + 1) * k
	}
	switch {
	case k == 0:
		return o, service.Usagef("--currencies is empty: name at least one, for example AED")
	case o.Accounts < 2*k || o.Accounts > maxAccounts:
		return o, service.Usagef("--accounts is %d: with %d currencies give a number from %d to %d", o.Accounts, k, 2*k, maxAccounts)
	case o.Entries < 0 || o.Entries%2 != 0:
		return o, service.Usagef("--entries is %d: give an even number, since each transfer has two entries", o.Entries)
	}
	for i, c := range o.Currencies {
		if _, ok := money.Digits(c); !ok {
			return o, service.Usagef("--currencies has %q, which is no ISO 4217 currency: write codes of three capital letters, for example AED,KWD", c)
		}
		if slices.Contains(o.Currencies[:i], c) {
			return o, service.Usagef("--currencies has %s twice: name it once", c)
		}
	}
	return o, nil
}

// Command fills the database that DATABASE_URL names.
func Command() *cobra.Command {
	var o Options
	cmd := &cobra.Command{
		Use:   "seed",
		Short: "Fill an empty accounts database with a ledger",
		Long: `Fills the database that DATABASE_URL names, which "superapp migrate accounts" has
prepared, with customers, their accounts and a history of transfers between them.
Customer n signs in as customer<n>@example.com with the PIN that ` + pinVariable + ` names,
which is ` + defaultPIN + ` when it is not set.`,
		Example: "  DATABASE_URL=postgres://superapp@localhost/accounts superapp seed --customers 10000 --entries 1000000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f := cmd.Flags(); f.Changed("customers") && f.Changed("accounts") {
				return service.Usagef("--customers and --accounts both say how many accounts there are: give one of them")
			}
			began := time.Now()
			o, err := o.checked()
			if err == nil {
				err = Run(cmd.Context(), o)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %d accounts and %d entries in %s in %.1f s\n", o.Accounts, o.Entries, strings.Join(o.Currencies, ", "), time.Since(began).Seconds())
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Accounts, "accounts", DefaultAccounts, "`number` of accounts, the system's among them")
	f.IntVar(&o.Customers, "customers", 0, "`number` of customers, each with an account in each currency, instead of --accounts")
	f.IntVar(&o.Entries, "entries", DefaultEntries, "`number` of ledger entries, two for each transfer")
	f.StringSliceVar(&o.Currencies, "currencies", defaultCurrencies, "ISO 4217 `codes`")
	f.Uint64Var(&o.Seed, "seed", DefaultSeed, "`number` that the random ledger follows from")
	return cmd
}

// Run writes the ledger in one transaction: all of it or nothing. The database
// must have the schema and no account.
func Run(ctx context.Context, o Options) (err error) {
	if o, err = o.checked(); err != nil {
		return err
	}
	conn, err := service.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return write(ctx, tx, o) }); err != nil {
		return err
	}
	// The first readers need not find out which rows are visible, nor the planner
	// guess how many there are.
	if _, err := conn.Exec(ctx, "VACUUM (ANALYZE) customers, accounts, transfers, entries"); err != nil {
		return fmt.Errorf("analyze the ledger: %w", err)
	}
	return nil
}

func write(ctx context.Context, tx pgx.Tx, o Options) error {
	var filled bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM customers) OR EXISTS (SELECT FROM accounts) OR EXISTS (SELECT FROM transfers)").Scan(&filled)
	if err != nil {
		return fmt.Errorf("look whether the database is empty: create its schema with `superapp migrate accounts`: %w", err)
	}
	if filled {
		return errors.New("the database holds accounts already: seed an empty one")
	}
	if _, err := tx.Exec(ctx, "SET LOCAL maintenance_work_mem = '"+workMemory+"'"); err != nil {
		return fmt.Errorf("prepare the session: %w", err)
	}
	// Rows come in much faster while no index and no foreign key looks at each.
	bare, err := strip(ctx, tx, "transfers", "entries", "holds", "customers")
	if err != nil {
		return err
	}
	if err := copyRows(ctx, tx, o); err != nil {
		return err
	}
	for _, table := range []string{"customers", "accounts", "transfers", "entries"} {
		_, err := tx.Exec(ctx, fmt.Sprintf("SELECT setval(pg_get_serial_sequence('%s', 'id'), greatest(max(id), 1), max(id) IS NOT NULL) FROM %[1]s", table))
		if err != nil {
			return fmt.Errorf("set the next id of %s: %w", table, err)
		}
	}
	return bare.dress(ctx, tx)
}

// copyRows goes through the history twice, once for the transfers and once for
// their entries, so that it need not be kept; at its end the balances stand.
func copyRows(ctx context.Context, tx pgx.Tx, o Options) error {
	now := time.Now()
	n := int64(o.Entries / 2)
	step := history / time.Duration(max(n, 1))

	h := newStory(o)
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"transfers"}, []string{"id", "key", "reference", "currency", "amount", "instance", "at"}, pgx.CopyFromFunc(func() ([]any, error) {
		if h.told == n {
			return nil, nil
		}
		m := h.next()
		return []any{h.told, fmt.Sprintf("seed:%d", h.told), m.reference, o.Currencies[m.currency], m.amount, instance, now.Add(-step * time.Duration(n-h.told+1))}, nil
	}))
	if err != nil {
		return fmt.Errorf("copy the transfers: %w", err)
	}

	h = newStory(o)
	var m movement
	second := false
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"entries"}, []string{"id", "transfer", "account", "amount", "balance", "version"}, pgx.CopyFromFunc(func() ([]any, error) {
		if second {
			second = false
			return []any{2 * h.told, h.told, m.to, m.amount, h.balance[m.to], h.version[m.to]}, nil
		}
		if h.told == n {
			return nil, nil
		}
		m, second = h.next(), true
		return []any{2*h.told - 1, h.told, m.from, -m.amount, h.balance[m.from], h.version[m.from]}, nil
	}))
	if err != nil {
		return fmt.Errorf("copy the entries: %w", err)
	}

	id, k, opened := int64(0), int64(len(o.Currencies)), now.Add(-history-step)
	if err := copyCustomers(ctx, tx, (int64(o.Accounts)-1)/k, opened); err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"accounts"}, []string{"id", "customer", "kind", "currency", "balance", "version", "opened"}, pgx.CopyFromFunc(func() ([]any, error) {
		if id == int64(o.Accounts) {
			return nil, nil
		}
		id++
		// A customer has one account in each currency; customer 0 is the system.
		customer, kind := (id-1)/k, accounts.KindCustomer
		if customer == 0 {
			kind = accounts.KindSystem
		}
		return []any{id, customer, kind, o.Currencies[(id-1)%k], h.balance[id], h.version[id], opened}, nil
	}))
	if err != nil {
		return fmt.Errorf("copy the accounts: %w", err)
	}
	return nil
}

// movement is one transfer of the history.
type movement struct {
	from, to, amount int64
	currency         int
	reference        string
}

// story makes the history up, one transfer after the other.
type story struct {
	random           *rand.Rand
	units            []int64
	currencies       int64
	accounts         int64
	told             int64   // transfers so far
	balance, version []int64 // by account, after them
}

func newStory(o Options) *story {
	s := &story{
		random:     rand.New(rand.NewPCG(o.Seed, o.Seed)),
		currencies: int64(len(o.Currencies)),
		accounts:   int64(o.Accounts),
		balance:    make([]int64, o.Accounts+1),
		version:    make([]int64, o.Accounts+1),
	}
	for _, c := range o.Currencies {
		unit, _ := money.Unit(c) // checked with the options
		s.units = append(s.units, unit)
	}
	return s
}

// next tells of an opening balance while an account has none, then of a payment.
func (s *story) next() movement {
	s.told++
	var m movement
	if to := s.told + s.currencies; to <= s.accounts {
		m = s.issue(to, "opening balance")
	} else {
		m = s.pay()
	}
	s.balance[m.from] -= m.amount
	s.balance[m.to] += m.amount
	s.version[m.from]++
	s.version[m.to]++
	return m
}

func (s *story) issue(to int64, reference string) movement {
	c := int((to - 1) % s.currencies)
	amount := (leastOpening + s.random.Int64N(mostOpening-leastOpening+1)) * s.units[c]
	return movement{from: int64(c) + 1, to: to, amount: amount, currency: c, reference: reference}
}

// pay moves money between two customers' accounts of one currency.
func (s *story) pay() movement {
	for range tries {
		from := s.customer(s.random.Int64N(s.accounts - s.currencies))
		c := (from - 1) % s.currencies
		// Accounts of a currency stand currencies apart: to is one of them, not the issuer.
		of := (s.accounts - 1 - c) / s.currencies
		to := c + 1 + s.currencies*(1+s.random.Int64N(of))
		if to == from || s.balance[from] == 0 {
			continue
		}
		amount := 1 + s.random.Int64N(min(s.balance[from], mostPaid*s.units[c]))
		return movement{from: from, to: to, amount: amount, currency: int(c), reference: "payment"}
	}
	return s.issue(s.customer(s.random.Int64N(s.accounts-s.currencies)), "deposit")
}

// customer is the nth account that is not the system's.
func (s *story) customer(n int64) int64 { return s.currencies + 1 + n }
