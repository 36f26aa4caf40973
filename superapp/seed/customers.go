package seed

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/bcrypt"

	"dhow/superapp/accounts"
	"dhow/superapp/service"
)

const (
	// pinVariable is the environment variable with the PIN of all seeded customers.
	pinVariable = "SEED_PIN"
	// defaultPIN is for demonstrations.
	defaultPIN = "2468"
	// arabicEvery says how many customers there are to one who writes in Arabic.
	arabicEvery = 3
)

// names are what customers are called in one language, in pairs of a first and a last one.
type names struct {
	language    string
	first, last []string
}

func english() names {
	return names{"en",
		[]string{"Layla", "Omar", "Priya", "James", "Fatima", "Chen", "Maria", "Yusuf", "Anna", "Ravi", "Sara", "Daniel", "Noor", "Grace", "Khalid", "Elena", "Samuel"},
		[]string{"Haddad", "Khan", "Sharma", "Smith", "Al Mansoori", "Wei", "Santos", "Rahman", "Kowalska", "Patel", "Nair", "Okafor", "Aziz", "Fernando", "Saleh", "Rossi", "Tan", "Müller", "Reyes"},
	}
}

func arabic() names {
	return names{"ar",
		[]string{"ليلى", "عمر", "فاطمة", "يوسف", "سارة", "خالد", "نور", "أحمد", "مريم", "حسن", "هدى"},
		[]string{"حداد", "المنصوري", "الهاشمي", "صالح", "عزيز", "النعيمي", "الكعبي", "رحمن", "الشامسي", "ناصر", "المري", "فارس", "الزعابي"},
	}
}

// called is a customer's name and language; they follow from the id.
func called(id int64) (name, language string) {
	of := english()
	if id%arabicEvery == 0 {
		of = arabic()
	}
	// The lists have no common divisor, so all pairs come up before one comes again.
	n := id / arabicEvery
	return of.first[n%int64(len(of.first))] + " " + of.last[n%int64(len(of.last))], of.language
}

// pin is that of all customers.
func pin() (string, error) {
	pin := os.Getenv(pinVariable)
	if pin == "" {
		return defaultPIN, nil
	}
	if err := accounts.CheckPIN(pin); err != nil {
		return "", service.Usagef("%s: %w", pinVariable, err)
	}
	return pin, nil
}

// copyCustomers writes the customers from 1 to last. They have one PIN and one hash
// of it, since each hash takes some 50 ms.
func copyCustomers(ctx context.Context, tx pgx.Tx, last int64, joined time.Time) error {
	pin, err := pin()
	if err != nil {
		return err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(pin), accounts.PINCost)
	if err != nil {
		return fmt.Errorf("hash the PIN of %s: %w", pinVariable, err)
	}
	id := int64(0)
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"customers"}, []string{"id", "name", "email", "pin", "language", "joined"}, pgx.CopyFromFunc(func() ([]any, error) {
		if id == last {
			return nil, nil
		}
		id++
		name, language := called(id)
		return []any{id, name, Email(id), string(hash), language, joined}, nil
	}))
	if err != nil {
		return fmt.Errorf("copy the customers: %w", err)
	}
	return nil
}

// Email is a seeded customer's.
func Email(id int64) string { return fmt.Sprintf("customer%d@example.com", id) }
