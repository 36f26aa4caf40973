package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"dhow/superapp/service"
)

// maxAnswer bounds an answer of a service, in bytes; the longest, the corridors
// with their fields, has some hundred thousand.
const maxAnswer = 4 << 20

// Services are the addresses of those that the pages ask.
type Services struct {
	Accounts, Payments, Transfers, Cards, FX, Analytics *url.URL
}

// services asks them.
type services struct {
	Services
	http *http.Client
}

// get asks a question that changes nothing.
func (s *services) get(ctx context.Context, base *url.URL, path string, into any) error {
	return s.ask(ctx, http.MethodGet, base, path, "", nil, into)
}

// post sends a write under an idempotency key; the same again gives the same answer.
func (s *services) post(ctx context.Context, base *url.URL, path, key string, body, into any) error {
	return s.ask(ctx, http.MethodPost, base, path, key, body, into)
}

// ask sends a request and reads its answer. A *service.Refusal is the service's own
// word; service.Away of the error says that there is none yet.
func (s *services) ask(ctx context.Context, method string, base *url.URL, path, key string, body, into any) error {
	what := method + " " + base.Host
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("write a request: %w", err)
		}
		sent = bytes.NewReader(text)
	}
	address, err := base.Parse(path)
	if err != nil {
		return fmt.Errorf("%s: make the address: %w", what, err)
	}
	r, err := http.NewRequestWithContext(ctx, method, address.String(), sent)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	res, err := s.http.Do(r)
	if err != nil {
		var cause *url.Error // its text would hold the address, and with it whom a customer pays
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return service.Unavailable(fmt.Errorf("%s: %w", what, err))
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return service.Unavailable(fmt.Errorf("%s: read the answer: %w", what, err))
	}
	switch {
	case res.StatusCode < http.StatusMultipleChoices:
		if err := json.Unmarshal(answer, into); err != nil {
			return fmt.Errorf("%s: read the answer: %w", what, err)
		}
		return nil
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= http.StatusInternalServerError:
		return service.Unavailable(fmt.Errorf("%s: status %d", what, res.StatusCode))
	}
	var no struct{ Error, Code string }
	if err := json.Unmarshal(answer, &no); err != nil || no.Code == "" {
		return fmt.Errorf("%s: status %d without a code", what, res.StatusCode)
	}
	return &service.Refusal{Status: res.StatusCode, Code: no.Code, Text: no.Error}
}

// refused says whether an error is a service's refusal, and with which code.
func refused(err error) (string, bool) {
	var no *service.Refusal
	if errors.As(err, &no) && !service.Away(err) {
		return no.Code, true
	}
	return "", false
}
