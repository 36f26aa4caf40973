package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/bcrypt"

	"dhow/superapp/service"
)

const (
	// maxName is in characters.
	maxName = 100
	// maxEmail is in bytes, as mail servers take it.
	maxEmail = 254
	// minPIN and maxPIN are in digits; bcrypt itself takes 72 bytes.
	minPIN, maxPIN = 4, 12
	// PINCost is bcrypt's: some 50 ms for each sign-in.
	PINCost = bcrypt.DefaultCost
	// maxHashing bounds how many PINs are hashed at once, so that many who sign in do
	// not keep the transfers from the processors.
	maxHashing = 2
	// nobodysPIN is a hash of PINCost which no PIN gives: to look for a customer who
	// is not there takes as long as to look at a wrong PIN.
	nobodysPIN = "$2a$10$eH.aWmMoECMwv2/VNOIx7OmYilQaNtZQW.VGWdOsFFOiLESDkhG5i"
	// firstCurrency is that of the account which a customer begins with.
	firstCurrency = "AED"
	// mostAccounts bounds one customer's list.
	mostAccounts = 200
)

// languages that a customer can be spoken to in.
func languages() []string { return []string{"en", "ar"} }

// joining is the body of POST /customers.
type joining struct {
	Name     string `json:"name"`
	Email    string `json:"email"`
	PIN      string `json:"pin"`
	Language string `json:"language"`
}

// normal is the one form of an email in which it is kept and looked for. What no
// email has, and the database would not take, is left out.
func normal(email string) string {
	return strings.ToLower(strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, email)))
}

func (j *joining) check() error {
	j.Name, j.Email = strings.TrimSpace(j.Name), normal(j.Email)
	address, err := mail.ParseAddress(j.Email)
	switch {
	case j.Name == "" || utf8.RuneCountInString(j.Name) > maxName || strings.ContainsFunc(j.Name, unicode.IsControl):
		return invalid("invalid_name", fmt.Sprintf("name must have 1 to %d characters, no control characters", maxName))
	case err != nil || address.Address != j.Email || len(j.Email) > maxEmail:
		return invalid("invalid_email", "email must be an address like name@example.com")
	case !slices.Contains(languages(), j.Language):
		return invalid("invalid_language", "language must be one of "+strings.Join(languages(), ", "))
	}
	return CheckPIN(j.PIN)
}

// CheckPIN says what is wrong with a PIN that is chosen.
func CheckPIN(pin string) error {
	if len(pin) < minPIN || len(pin) > maxPIN || strings.Trim(pin, "0123456789") != "" {
		return invalid("invalid_pin", fmt.Sprintf("pin must have %d to %d digits", minPIN, maxPIN))
	}
	return nil
}

const insertCustomer = `
WITH c AS (
    INSERT INTO customers (name, email, pin, language) VALUES ($3, $4, $5, $6) RETURNING id
), a AS (
    INSERT INTO accounts (customer, kind, currency) SELECT id, '` + KindCustomer + `', '` + firstCurrency + `' FROM c RETURNING id
)
INSERT INTO idempotency (key, request_hash, status, answer)
SELECT $1, $2, 201, jsonb_build_object('id', c.id, 'account', a.id) FROM c, a
RETURNING answer::text`

// join takes a customer in and opens the first account.
func (l *ledger) join(r *http.Request) (service.Answer, error) {
	key, err := customersKey(r)
	if err != nil {
		return service.Answer{}, err
	}
	j, err := service.Decode[joining](r)
	if err != nil {
		return service.Answer{}, err
	}
	if err := j.check(); err != nil {
		return service.Answer{}, err
	}
	if err := l.hashing.Acquire(r.Context(), 1); err != nil {
		return service.Answer{}, fmt.Errorf("wait to hash a PIN: %w", err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(j.PIN), PINCost)
	l.hashing.Release(1)
	if err != nil {
		return service.Answer{}, fmt.Errorf("hash a PIN: %w", err)
	}
	// The fingerprint is kept, and of a few digits it would tell all.
	j.PIN = ""
	fingerprint, err := service.Fingerprint("POST /customers", j)
	if err != nil {
		return service.Answer{}, err
	}
	var answer string
	err = l.db.QueryRow(r.Context(), insertCustomer, key, fingerprint, j.Name, j.Email, string(hash), j.Language).Scan(&answer)
	if service.Duplicate(err) {
		return l.joined(r.Context(), key, fingerprint)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("take a customer in: %w", err)
	}
	return service.Answer{Status: http.StatusCreated, Body: []byte(answer)}, nil
}

// joined answers when there is a customer of this email, or an answer under this key.
func (l *ledger) joined(ctx context.Context, key string, fingerprint []byte) (service.Answer, error) {
	taken := invalid("email_taken", "there is a customer with this email already")
	var answer string
	err := l.db.QueryRow(ctx, insertRefusal, key, fingerprint, taken.Status, taken.Body()).Scan(&answer)
	if service.Duplicate(err) {
		return service.Taken(ctx, l.db, key, fingerprint)
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("refuse a customer: %w", err)
	}
	return service.Answer{Status: taken.Status, Body: []byte(answer)}, nil
}

// credentials is the body of POST /customers/verify.
type credentials struct {
	Email string `json:"email"`
	PIN   string `json:"pin"`
}

// verify says who an email and a PIN belong to. It takes as long for an unknown
// email as for a wrong PIN, and says the same.
func (l *ledger) verify(r *http.Request) (service.Answer, error) {
	given, err := service.Decode[credentials](r)
	if err != nil {
		return service.Answer{}, err
	}
	var who struct {
		ID       int64  `json:"id"`
		Name     string `json:"name"`
		Language string `json:"language"`
	}
	hash := nobodysPIN
	err = l.db.QueryRow(r.Context(), "SELECT id, name, language, pin FROM customers WHERE email = $1", normal(given.Email)).Scan(&who.ID, &who.Name, &who.Language, &hash)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return service.Answer{}, fmt.Errorf("look up a customer: %w", err)
	}
	if err := l.hashing.Acquire(r.Context(), 1); err != nil {
		return service.Answer{}, fmt.Errorf("wait to check a PIN: %w", err)
	}
	wrong := bcrypt.CompareHashAndPassword([]byte(hash), []byte(given.PIN))
	l.hashing.Release(1)
	if wrong != nil || who.ID == 0 {
		return service.Answer{}, &service.Refusal{Status: http.StatusUnauthorized, Code: "wrong_credentials", Text: "the email or the PIN is wrong"}
	}
	return service.JSON(http.StatusOK, who)
}

func unknownCustomer() *service.Refusal {
	return &service.Refusal{Status: http.StatusNotFound, Code: "unknown_customer", Text: "there is no such customer"}
}

// customer shows one customer.
func (l *ledger) customer(r *http.Request) (service.Answer, error) {
	var c struct {
		ID       int64  `json:"id"`
		Name     string `json:"name"`
		Email    string `json:"email"`
		Language string `json:"language"`
	}
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	err = l.db.QueryRow(r.Context(), "SELECT id, name, email, language FROM customers WHERE id = $1", id).Scan(&c.ID, &c.Name, &c.Email, &c.Language)
	if errors.Is(err, pgx.ErrNoRows) {
		return service.Answer{}, unknownCustomer()
	}
	if err != nil {
		return service.Answer{}, fmt.Errorf("read a customer: %w", err)
	}
	return service.JSON(http.StatusOK, c)
}

// owned is an account as its owner sees it.
type owned struct {
	ID        int64  `json:"id"`
	Currency  string `json:"currency"`
	Balance   int64  `json:"balance"`
	Held      int64  `json:"held"`
	Available int64  `json:"available"`
	Version   int64  `json:"version"`
}

const selectOwned = `
SELECT id, currency, balance, held, balance - held, version FROM accounts
WHERE customer = $1 AND kind = '` + KindCustomer + `' ORDER BY id LIMIT $2`

// customerAccounts shows what a customer has.
func (l *ledger) customerAccounts(r *http.Request) (service.Answer, error) {
	id, err := service.PathID(r)
	if err != nil {
		return service.Answer{}, err
	}
	rows, err := l.db.Query(r.Context(), selectOwned, id, mostAccounts)
	if err != nil {
		return service.Answer{}, fmt.Errorf("read a customer's accounts: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[owned])
	if err != nil {
		return service.Answer{}, fmt.Errorf("read a customer's accounts: %w", err)
	}
	if len(all) == 0 { // every customer has one
		return service.Answer{}, unknownCustomer()
	}
	return service.JSON(http.StatusOK, struct {
		Accounts []owned `json:"accounts"`
	}{all})
}

// payable is an account as others see it.
type payable struct {
	ID       int64  `json:"id"`
	Currency string `json:"currency"`
}

const selectPayee = `
SELECT c.id, c.name, a.id, a.currency FROM customers c
JOIN accounts a ON a.customer = c.id AND a.kind = '` + KindCustomer + `'
WHERE c.email = $1 ORDER BY a.id LIMIT $2`

// payee finds who can be paid at an email.
func (l *ledger) payee(r *http.Request) (service.Answer, error) {
	var p struct {
		Customer int64     `json:"customer"`
		Name     string    `json:"name"`
		Accounts []payable `json:"accounts"`
	}
	rows, err := l.db.Query(r.Context(), selectPayee, normal(r.URL.Query().Get("email")), mostAccounts)
	if err != nil {
		return service.Answer{}, fmt.Errorf("look for a payee: %w", err)
	}
	var a payable
	if _, err = pgx.ForEachRow(rows, []any{&p.Customer, &p.Name, &a.ID, &a.Currency}, func() error {
		p.Accounts = append(p.Accounts, a)
		return nil
	}); err != nil {
		return service.Answer{}, fmt.Errorf("look for a payee: %w", err)
	}
	if len(p.Accounts) == 0 {
		return service.Answer{}, unknownCustomer()
	}
	return service.JSON(http.StatusOK, p)
}
