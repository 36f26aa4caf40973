package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/estate"
)

const (
	plainPath, h2cPath = "/plain", "/h2c"
	// warmUp is left out: connections are opened, caches filled.
	warmUp = 2 * time.Second
	// askTime bounds one request.
	askTime = 10 * time.Second
	// holdTime is how long the held requests wait for the switch: as long as a short cutover takes.
	holdTime = 200 * time.Millisecond
)

// order is the body of a request: as long as a payment is.
var order = []byte(`{"from":123456,"to":654321,"amount":12345,"currency":"AED","note":"rent of the month and some more"}`)

// The ways that a request goes.
const (
	direct = iota
	throughGate
	throughBare // a reverse proxy that does nothing else; it speaks HTTP/1.1 to the application
	ways
)

var wayNames = [ways]string{"direct", "through the gate", "through a bare proxy"}

// result is what one protocol's run gave; the entries of one index belong together.
type result struct {
	protocol string
	took     [ways][]time.Duration
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// added is what a way adds to the median request.
func (r result) added(way int) time.Duration {
	return quantile(slices.Sorted(slices.Values(r.took[way])), .5) - quantile(slices.Sorted(slices.Values(r.took[direct])), .5)
}

func (r result) print(out io.Writer) {
	line := func(name string, all []time.Duration) {
		s := slices.Sorted(slices.Values(all))
		_, _ = fmt.Fprintf(out, "%-9s %-20s p50 %5d µs   p99 %6d µs   (%d requests)\n", r.protocol, name, quantile(s, .5).Microseconds(), quantile(s, .99).Microseconds(), len(s))
	}
	for way, name := range wayNames {
		line(name, r.took[way])
	}
	differences := slices.Clone(r.took[throughGate])
	for i := range differences {
		differences[i] -= r.took[direct][i]
	}
	line("gate minus direct", differences)
}

func newClient(h2c bool) *http.Client {
	t := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	t.Protocols.SetHTTP1(!h2c)
	t.Protocols.SetUnencryptedHTTP2(h2c)
	return &http.Client{Transport: t, Timeout: askTime}
}

// measure sends triples of requests at a fixed rate.
func measure(ctx context.Context, s *stage, o options, h2c bool) (result, error) {
	r, path := result{protocol: "HTTP/1.1"}, plainPath
	if h2c {
		r.protocol, path = "h2c", h2cPath
	}
	each := make([]result, o.clients)
	every := time.Duration(o.clients) * time.Second / time.Duration(o.rate)
	g, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for i := range each {
		g.Go(func() error {
			hosts := [ways]string{s.source, s.gate, s.bare}
			var clients [ways]*http.Client
			for way := range clients {
				clients[way] = newClient(h2c)
				defer clients[way].CloseIdleConnections()
			}
			next := time.NewTimer(every * time.Duration(i) / time.Duration(o.clients))
			defer next.Stop()
			for k := 0; ; k++ {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-next.C:
				}
				if time.Since(began) > warmUp+o.duration {
					return nil
				}
				due := time.Now()
				var took [ways]time.Duration
				for n := range took {
					way := (n + k) % ways // who goes first changes
					var err error
					if took[way], err = ask(ctx, clients[way], "http://"+hosts[way]+path, fmt.Sprintf("%d-%d", i, k), k/ways%2 == 1); err != nil {
						return err
					}
				}
				if time.Since(began) > warmUp {
					for way := range took {
						each[i].took[way] = append(each[i].took[way], took[way])
					}
				}
				next.Reset(max(every-time.Since(due), 0))
			}
		})
	}
	if err := g.Wait(); err != nil {
		return r, err
	}
	for _, one := range each {
		for way := range one.took {
			r.took[way] = append(r.took[way], one.took[way]...)
		}
	}
	return r, nil
}

// ask sends a read or a write and says how long the whole answer took.
func ask(ctx context.Context, c *http.Client, url, key string, write bool) (time.Duration, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if write {
		method, body = http.MethodPost, bytes.NewReader(order)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, err
	}
	if write {
		r.Header.Set("Idempotency-Key", key)
		r.Header.Set("Content-Type", "application/json")
	}
	began := time.Now()
	res, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, res.Body)
	took := time.Since(began)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK || n != int64(len(reply)) {
		return 0, fmt.Errorf("%s %s was answered with status %d and %d bytes: %w", method, url, res.StatusCode, n, err)
	}
	return took, nil
}

// release holds requests, each on a connection of its own, switches, and says how
// long after the switch the last of them was answered.
func release(ctx context.Context, s *stage, n int) (time.Duration, error) {
	clients := make([]*http.Client, n)
	all := func(ctx context.Context, answered []time.Time) error {
		g, ctx := errgroup.WithContext(ctx)
		for i, c := range clients {
			g.Go(func() error {
				_, err := ask(ctx, c, "http://"+s.gate+plainPath, strconv.Itoa(i), true)
				answered[i] = time.Now()
				return err
			})
		}
		return g.Wait()
	}
	for i := range clients {
		clients[i] = newClient(false)
		defer clients[i].CloseIdleConnections()
	}
	answered := make([]time.Time, n)
	if err := all(ctx, answered); err != nil { // opens the connections
		return 0, err
	}
	if err := s.control.Hold(ctx); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- all(ctx, answered) }()
	for {
		status, err := s.control.Status(ctx)
		if err != nil {
			return 0, err
		}
		if status.Held == int64(n) {
			break
		}
		select {
		case err := <-ended:
			return 0, fmt.Errorf("a request was not held: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(holdTime):
	}
	began := time.Now()
	if err := s.control.SwitchAndRelease(ctx, estate.Target); err != nil {
		return 0, err
	}
	if err := <-ended; err != nil {
		return 0, err
	}
	return slices.MaxFunc(answered, func(a, b time.Time) int { return a.Compare(b) }).Sub(began), nil
}
