package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"
)

// Every write carries a key that its client chose. The row of the key in the
// table idempotency is the arbiter: it is written in the transaction of the
// write itself, so of two identical requests at the same instant one writes and
// the other finds the row. It keeps the answer, which is sent again byte for
// byte. The answer is kept as jsonb, which has one form for each value;
// therefore the first answer too is sent as the database gives it back.

//go:embed idempotency.sql
var idempotencySchema string

const (
	keyHeader      = "Idempotency-Key"
	replayedHeader = "Idempotency-Replayed"
	// MaxKey is the longest key, in bytes.
	MaxKey = 255
	// InProgress is the status of a key whose write has begun and has no answer yet.
	InProgress = http.StatusProcessing
)

// Key is the idempotency key that a write must carry.
func Key(r *http.Request) (string, error) {
	key := r.Header.Get(keyHeader)
	switch {
	case key == "":
		return "", &Refusal{Status: http.StatusBadRequest, Code: "idempotency_key_missing", Text: "a write needs the header " + keyHeader + ": a name of your choice, the same each time that you send this request"}
	case !validToken(key, MaxKey):
		return "", InvalidKey(fmt.Sprintf("the header %s must have 1 to %d visible ASCII characters", keyHeader, MaxKey))
	}
	return key, nil
}

// InvalidKey is the refusal of a key that can not be used.
func InvalidKey(text string) error {
	return &Refusal{Status: http.StatusBadRequest, Code: "idempotency_key_invalid", Text: text}
}

// validToken says whether s has 1 to most characters, all visible ASCII.
func validToken(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Fingerprint tells requests with the same key apart: what is asked ("POST
// /transfers"), and the body as it was understood, so that white space and the
// order of fields do not matter.
func Fingerprint(operation string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("take the fingerprint of a request: %w", err)
	}
	h := sha256.New()
	h.Write([]byte(operation + "\n"))
	h.Write(text)
	return h.Sum(nil), nil
}

// Stored is what the database keeps under a key.
type Stored struct {
	Fingerprint []byte
	Status      int
	Answer      []byte
}

// Querier is a pool, a connection or a transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Lookup is what a key holds; false when the key is free.
func Lookup(ctx context.Context, q Querier, key string) (Stored, bool, error) {
	var s Stored
	var answer string
	err := q.QueryRow(ctx, "SELECT request_hash, status, answer::text FROM idempotency WHERE key = $1", key).Scan(&s.Fingerprint, &s.Status, &answer)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("look up an idempotency key: %w", err)
	}
	s.Answer = []byte(answer)
	return s, true, nil
}

// Check refuses a request that differs from the one that took the key.
func (s Stored) Check(fingerprint []byte) error {
	if bytes.Equal(s.Fingerprint, fingerprint) {
		return nil
	}
	return &Refusal{Status: http.StatusUnprocessableEntity, Code: CodeKeyConflict, Text: "this idempotency key was used for another request: choose a new one"}
}

// Replay is the stored answer once more.
func (s Stored) Replay() Answer {
	return Answer{Status: s.Status, Body: s.Answer, Replayed: true}
}

// Taken answers a request whose key is not free: with the stored answer, or with
// a refusal when the key is another request's. A key that has no row of its own
// belongs to a row that was not written by a request.
func Taken(ctx context.Context, q Querier, key string, fingerprint []byte) (Answer, error) {
	s, _, err := Lookup(ctx, q, key)
	if err != nil {
		return Answer{}, err
	}
	return s.answer(fingerprint)
}

// answer is the stored one, for the request that it belongs to.
func (s Stored) answer(fingerprint []byte) (Answer, error) {
	if err := s.Check(fingerprint); err != nil {
		return Answer{}, err
	}
	return s.Replay(), nil
}
