package voyage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	// askTime bounds a question that is answered at once.
	askTime = 5 * time.Second
	// maxRefusal bounds what is read of an answer that is an error, in bytes.
	maxRefusal = 4 << 10
)

// ErrNotRunning says that no process replicates this estate.
var ErrNotRunning = errors.New("no `dhow replicate` runs")

// Running asks the replication that runs in another process.
type Running struct{ v *Voyage }

// Running is the replication of this estate in whichever process; its methods
// fail with ErrNotRunning where there is none.
func (v *Voyage) Running() Running { return Running{v} }

// Status says how its databases stand.
func (r Running) Status(ctx context.Context) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	body, hangUp, err := r.ask(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	var s Status
	if err := json.NewDecoder(body).Decode(&s); err != nil {
		return nil, fmt.Errorf("read the answer of the running `dhow replicate`: %w", err)
	}
	return &s, nil
}

// Yield asks it to hand the estate over. It answers before it has: the lock says when.
func (r Running) Yield(ctx context.Context, what string) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	_, hangUp, err := r.ask(ctx, http.MethodPost, "/yield", yieldRequest{For: what})
	if err != nil {
		return err
	}
	hangUp()
	return nil
}

// ask puts a question; hangUp must be called after a successful one.
func (r Running) ask(ctx context.Context, method, path string, with any) (body io.Reader, hangUp func(), err error) {
	socket, err := r.v.socket()
	if err != nil {
		return nil, nil, err
	}
	var question io.Reader
	if with != nil {
		text, err := json.Marshal(with)
		if err != nil {
			return nil, nil, fmt.Errorf("write a question: %w", err)
		}
		question = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://dhow"+path, question)
	if err != nil {
		return nil, nil, fmt.Errorf("write a question: %w", err)
	}
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	res, err := t.RoundTrip(req) //nolint:bodyclose // hangUp closes it
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil, ErrNotRunning
	}
	if err != nil {
		return nil, nil, fmt.Errorf("ask the running `dhow replicate` over %s: %w", socket, err)
	}
	hangUp = func() { _ = res.Body.Close() }
	if res.StatusCode != http.StatusOK {
		defer hangUp()
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal)) // the status says enough
		return nil, nil, fmt.Errorf("the running `dhow replicate` refused %s: %s: %s", path, res.Status, strings.TrimSpace(string(text)))
	}
	return res.Body, hangUp, nil
}
