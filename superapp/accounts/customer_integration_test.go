package accounts_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"dhow/superapp/servicetest"
)

func joining(name, email, pin string) string {
	return fmt.Sprintf(`{"name":%q,"email":%q,"pin":%q,"language":"en"}`, name, email, pin)
}

func customers(b *bank) {
	b.exec("SELECT setval(pg_get_serial_sequence('customers', 'id'), 100)") // the bank's own accounts have lower customers
	one := servicetest.Want(b.t, b.Send("POST /customers", "j", joining("Omar Saleh", "Omar@Example.com", "1357")), http.StatusCreated, "")
	if again := b.Send("POST /customers", "j", joining("Omar Saleh", "omar@example.com", "1357")); !again.Replayed || again.Text != one.Text {
		b.t.Errorf("replayed %v: %s, want %s", again.Replayed, again.Text, one.Text)
	}
	servicetest.Want(b.t, b.Send("POST /customers", "j", joining("Omar S", "omar@example.com", "1357")), http.StatusUnprocessableEntity, "idempotency_conflict")
	no := servicetest.Want(b.t, b.Send("POST /customers", "k", joining("Omar Two", "OMAR@example.com", "9999")), http.StatusUnprocessableEntity, "email_taken")
	if again := b.Send("POST /customers", "k", joining("Omar Two", "omar@example.com", "9999")); !again.Replayed || again.Text != no.Text {
		b.t.Errorf("replayed %v: %s, want %s", again.Replayed, again.Text, no.Text)
	}

	who := servicetest.Want(b.t, b.Send("POST /customers/verify", "", `{"email":" omar@EXAMPLE.com","pin":"1357"}`), http.StatusOK, "")
	if who.ID != one.ID || who.Text != fmt.Sprintf(`{"id":%d,"name":"Omar Saleh","language":"en"}`, one.ID) {
		b.t.Errorf("%s", who.Text)
	}
	// A wrong PIN and an unknown email are told in the same words.
	wrong := servicetest.Want(b.t, b.Send("POST /customers/verify", "", `{"email":"omar@example.com","pin":"1358"}`), http.StatusUnauthorized, "wrong_credentials")
	for _, body := range []string{`{"email":"nobody@example.com","pin":"1357"}`, `{"email":"omar@example.com","pin":""}`, `{"email":"omar@example.com\u0000","pin":"0"}`, `{}`, `{"email":"x","pin":"` + strings.Repeat("1", 100) + `"}`} {
		if a := servicetest.Want(b.t, b.Send("POST /customers/verify", "", body), http.StatusUnauthorized, "wrong_credentials"); a.Text != wrong.Text {
			b.t.Errorf("%s, want %s", a.Text, wrong.Text)
		}
	}

	if c := b.Send(fmt.Sprint("GET /customers/", one.ID), "", ""); c.Text != fmt.Sprintf(`{"id":%d,"name":"Omar Saleh","email":"omar@example.com","language":"en"}`, one.ID) {
		b.t.Errorf("%s", c.Text)
	}
	var account int64
	if err := b.db.QueryRow(b.t.Context(), "SELECT id FROM accounts WHERE customer = $1", one.ID).Scan(&account); err != nil || !strings.Contains(one.Text, fmt.Sprintf(`"account": %d`, account)) {
		b.t.Errorf("%v: %s does not name account %d", err, one.Text, account)
	}
	servicetest.Want(b.t, b.transfer("gift", issuer, int(account), 70), http.StatusCreated, "")
	servicetest.Want(b.t, b.hold("h", int(account), 30), http.StatusCreated, "")
	more := servicetest.Want(b.t, b.Send("POST /accounts", "kwd", fmt.Sprintf(`{"customer":%d,"currency":"KWD"}`, one.ID)), http.StatusCreated, "")
	want := fmt.Sprintf(`{"accounts":[{"id":%d,"currency":"AED","balance":70,"held":30,"available":40,"version":1},{"id":%d,"currency":"KWD","balance":0,"held":0,"available":0,"version":0}]}`, account, more.ID)
	if a := b.Send(fmt.Sprintf("GET /customers/%d/accounts", one.ID), "", ""); a.Text != want {
		b.t.Errorf("%s, want %s", a.Text, want)
	}
	want = fmt.Sprintf(`{"customer":%d,"name":"Omar Saleh","accounts":[{"id":%d,"currency":"AED"},{"id":%d,"currency":"KWD"}]}`, one.ID, account, more.ID)
	if p := b.Send("GET /payees?email=Omar%40example.com", "", ""); p.Text != want {
		b.t.Errorf("%s, want %s", p.Text, want)
	}
	for _, what := range []string{"GET /customers/99", "GET /customers/99/accounts", "GET /payees?email=nobody@example.com", "GET /payees", "GET /payees?email=%00%ff"} {
		servicetest.Want(b.t, b.Send(what, "", ""), http.StatusNotFound, "unknown_customer")
	}
	// The PIN is nowhere but in its hash, and the fingerprint does not follow from it.
	var hash string
	if err := b.db.QueryRow(b.t.Context(), "SELECT pin FROM customers WHERE id = $1", one.ID).Scan(&hash); err != nil || bcrypt.CompareHashAndPassword([]byte(hash), []byte("1357")) != nil {
		b.t.Errorf("%v: %q is not the PIN's hash", err, hash)
	}
	if a := b.Send("POST /customers", "j", joining("Omar Saleh", "omar@example.com", "0000")); a.Text != one.Text {
		b.t.Errorf("the fingerprint depends on the PIN: %s", a.Text)
	}
}

// Of many who join with one email at the same instant, one does.
func joinAtOnce(b *bank) {
	const n = 8
	replies := make([]servicetest.Reply, n)
	var wait sync.WaitGroup
	for i := range replies {
		wait.Go(func() {
			replies[i] = b.Send("POST /customers", fmt.Sprint("join", i/2), joining("Sara", "sara@example.com", "1357"))
		})
	}
	wait.Wait()
	made := 0
	for i, a := range replies {
		switch {
		case a.Status == http.StatusCreated && !a.Replayed:
			made++
		case a.Status != http.StatusCreated:
			servicetest.Want(b.t, a, http.StatusUnprocessableEntity, "email_taken")
		}
		if pair := replies[i^1]; a.Text != pair.Text {
			b.t.Errorf("the same key gave %s and %s", a.Text, pair.Text)
		}
	}
	if n := b.number("SELECT count(*) FROM customers"); made != 1 || n != 1 {
		b.t.Errorf("%d joined, and there are %d", made, n)
	}
}
