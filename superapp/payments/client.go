package payments

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"dhow/superapp/service"
)

const (
	// askTime bounds one question to the accounts service.
	askTime = 4 * time.Second
	// dialTime bounds a connection to it.
	dialTime = 2 * time.Second
	// maxConnections to it, all kept alive; more payments at once wait for one.
	maxConnections = 64
	// idleTime is shorter than the server's, so that no question goes into a
	// connection that the server is about to close.
	idleTime = time.Minute
	// maxAnswer is in bytes.
	maxAnswer = 64 << 10
)

// client asks the accounts service.
type client struct {
	transfers string // the address of transfers
	http      *http.Client
}

func newClient(accounts *url.URL) *client {
	return &client{
		transfers: accounts.JoinPath("transfers").String(),
		http: &http.Client{
			Timeout: askTime,
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: dialTime}).DialContext,
				MaxConnsPerHost:     maxConnections,
				MaxIdleConns:        maxConnections,
				MaxIdleConnsPerHost: maxConnections,
				IdleConnTimeout:     idleTime,
				DisableCompression:  true,
			},
		},
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// order is the body of a transfer.
type order struct {
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	Amount    int64  `json:"amount"`
	Currency  string `json:"currency"`
	Reference string `json:"reference"`
}

// outcome is the accounts service's last word on a transfer.
type outcome struct {
	// made is the transfer, nil when it was refused.
	made *made
	// refused says why not, nil when it was made.
	refused *service.Refusal
}

type made struct {
	Transfer    int64 `json:"id"`
	FromBalance int64 `json:"from_balance"`
	FromVersion int64 `json:"from_version"`
}

// transfer asks for a transfer. Asked again with the same key and order, it gives
// the same outcome and nothing is moved twice. An error says that there is no
// outcome yet.
func (c *client) transfer(ctx context.Context, key string, o order) (outcome, error) {
	var out outcome
	body, err := json.Marshal(o)
	if err != nil {
		return out, fmt.Errorf("write a transfer: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.transfers, bytes.NewReader(body))
	if err != nil {
		return out, fmt.Errorf("ask for a transfer: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	// With this header the transport itself repeats a request whose idle
	// connection turned out to be closed.
	req.Header.Set("Idempotency-Key", key)
	if id := service.RequestID(ctx); id != "" {
		req.Header.Set("X-Request-Id", id)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return out, service.Unavailable(fmt.Errorf("ask for a transfer: %w", err))
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return out, service.Unavailable(fmt.Errorf("read the answer to a transfer: %w", err))
	}
	switch res.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return out, service.Unavailable(fmt.Errorf("ask for a transfer: status %d", res.StatusCode))
	}
	if err := out.read(res.StatusCode, answer); err != nil {
		return out, fmt.Errorf("ask for a transfer: status %d: %w", res.StatusCode, err)
	}
	return out, nil
}

var errNoOutcome = errors.New("the accounts service gave no outcome")

// read takes only what the accounts service alone can have said for an outcome:
// a proxy's 404 must not decline a payment.
func (o *outcome) read(status int, answer []byte) error {
	switch status {
	case http.StatusCreated:
		var m made
		if err := json.Unmarshal(answer, &m); err != nil {
			return fmt.Errorf("read the transfer: %w", err)
		}
		if m.Transfer == 0 {
			return errNoOutcome
		}
		o.made = &m
		return nil
	case http.StatusNotFound, http.StatusUnprocessableEntity:
		var no struct{ Error, Code string }
		if err := json.Unmarshal(answer, &no); err != nil {
			return fmt.Errorf("read the refusal: %w", err)
		}
		if no.Code == "" || no.Code == "unknown_path" {
			return errNoOutcome
		}
		o.refused = &service.Refusal{Status: status, Code: no.Code, Text: no.Error}
		return nil
	}
	return errNoOutcome
}
