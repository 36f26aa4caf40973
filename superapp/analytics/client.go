package analytics

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"dhow/superapp/outbox"
	"dhow/superapp/service"
)

// maxAnswer is in bytes.
const maxAnswer = 4 << 10

// Client tells the analytics service what happened.
type Client struct {
	events string
	http   *http.Client
}

// NewClient tells the service at an address.
func NewClient(analytics *url.URL) *Client {
	return &Client{events: analytics.JoinPath("events").String(), http: service.NewClient()}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Send delivers events; it is an outbox.Send. A service that can not take them at
// the moment is service.Away.
func (c *Client) Send(ctx context.Context, events []outbox.Event) error {
	text, err := json.Marshal(told{events})
	if err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.events, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("ask the analytics service: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return service.Unavailable(fmt.Errorf("ask the analytics service: %w", err))
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return service.Unavailable(fmt.Errorf("read the answer of the analytics service: %w", err))
	}
	// Only the service's own word ends an event's way.
	var taken struct {
		Taken *int64 `json:"taken"`
	}
	switch {
	case res.StatusCode == http.StatusOK && json.Unmarshal(answer, &taken) == nil && taken.Taken != nil:
		return nil
	case res.StatusCode >= http.StatusInternalServerError || res.StatusCode == http.StatusTooManyRequests:
		return service.Unavailable(fmt.Errorf("the analytics service answers with status %d", res.StatusCode))
	}
	return fmt.Errorf("the analytics service takes no events: status %d: %.200s", res.StatusCode, answer)
}
