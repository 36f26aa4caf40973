package fx

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"time"

	"dhow/superapp/money"
	"dhow/superapp/service"
)

// maxAnswer is in bytes.
const maxAnswer = 64 << 10

// Client asks the rates' service. Its methods may be called by many at once, and again.
type Client struct {
	base *url.URL
	http *http.Client
}

// NewClient asks the service at an address.
func NewClient(rates *url.URL) *Client { return &Client{base: rates, http: service.NewClient()} }

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Mid is the middle of the market: what one unit of a currency is in another, and
// when it was. A *service.Refusal says that there is no such currency; any other
// error says that there is no fresh rate at the moment.
func (c *Client) Mid(ctx context.Context, from, to string) (*big.Rat, time.Time, error) {
	var a struct {
		Mid string    `json:"mid"`
		At  time.Time `json:"at"`
	}
	if err := c.get(ctx, &a, from, to); err != nil {
		return nil, time.Time{}, err
	}
	rate, err := money.ParseRate(a.Mid)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the rate from %s to %s: %w", from, to, err)
	}
	return rate, a.At, nil
}

// Providers are the offers for a pair of currencies, perhaps none; errors are as Mid's.
func (c *Client) Providers(ctx context.Context, from, to string) ([]Offer, error) {
	var a struct {
		Providers []Offer `json:"providers"`
	}
	err := c.get(ctx, &a, from, to, "providers")
	return a.Providers, err
}

func (c *Client) get(ctx context.Context, into any, path ...string) error {
	if err := c.ask(ctx, into, path...); err != nil {
		return fmt.Errorf("ask for the rate from %s to %s: %w", path[0], path[1], err)
	}
	return nil
}

func (c *Client) ask(ctx context.Context, into any, path ...string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath(append([]string{"rates"}, path...)...).String(), nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return service.Unavailable(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return service.Unavailable(fmt.Errorf("read the answer: %w", err))
	}
	if res.StatusCode != http.StatusOK {
		var no struct{ Error, Code string }
		if err := json.Unmarshal(body, &no); err == nil && res.StatusCode == http.StatusNotFound && no.Code == codeUnknownCurrency {
			return &service.Refusal{Status: res.StatusCode, Code: no.Code, Text: no.Error}
		}
		return service.Unavailable(fmt.Errorf("status %d, code %q", res.StatusCode, no.Code))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}
