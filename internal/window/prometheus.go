package window

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

const (
	// DefaultQuery gives the requests a second that the gate lets through.
	DefaultQuery = "sum(rate(dhow_gate_requests_total[5m]))"
	// askedWeeks is how far back Prometheus is asked.
	askedWeeks = 8
	// step is the distance of two samples: three of them make a slot.
	step = 5 * time.Minute
	// askTime bounds each question.
	askTime = time.Minute
	// maxAnswer bounds an answer in bytes: the samples of a week are 60 KiB.
	maxAnswer = 8 << 20
)

// errManySeries says that a query gives more than one series.
var errManySeries = errors.New("the query gives more than one series: sum them, as sum(rate(http_requests_total[5m]))")

// readPrometheus asks week by week, so that no question is too large for the server.
func (h *History) readPrometheus(ctx context.Context, s Source) error {
	u, err := url.Parse(s.Where)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%q is no URL of a Prometheus server", s.Where)
	}
	if u.User != nil {
		return errors.New("a URL with a password in it would be seen by others: put a token into the environment variable instead")
	}
	if s.Query == "" {
		s.Query = DefaultQuery
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // the standard library's own
	defer transport.CloseIdleConnections()
	client, err := api.NewClient(api.Config{Address: s.Where, RoundTripper: &bounded{transport, s.Token}})
	if err != nil {
		return fmt.Errorf("ask Prometheus at %s: %w", u.Host, err)
	}
	prom := promv1.NewAPI(client)
	end := s.Now.Truncate(step)
	for from := end.Add(-askedWeeks * week); from.Before(end); from = from.Add(week) {
		if err := h.askWeek(ctx, prom, s.Query, from); err != nil {
			return fmt.Errorf("ask Prometheus at %s for %q: %w", u.Host, s.Query, err)
		}
	}
	return nil
}

// askWeek asks for a week. The rate at a sample's time is that of the step before it.
func (h *History) askWeek(ctx context.Context, prom promv1.API, query string, from time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	answer, warnings, _, err := prom.QueryRange(ctx, query, promv1.Range{Start: from.Add(step), End: from.Add(week), Step: step})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		h.say("Prometheus warns: " + w)
	}
	matrix, ok := answer.(model.Matrix)
	if !ok {
		return fmt.Errorf("it answers with a %s, and a range of values is wanted", answer.Type())
	}
	if len(matrix) > 1 {
		return errManySeries
	}
	for _, series := range matrix {
		if len(series.Histograms) > 0 {
			return errors.New("it gives histograms: ask for their count, as sum(rate(http_request_duration_seconds_count[5m]))")
		}
		for _, v := range series.Values {
			if !h.add(v.Timestamp.Time().Add(-step), float64(v.Value)*step.Seconds(), step, 0) {
				h.unreadable++
			}
		}
	}
	return nil
}

// say notes a sentence once.
func (h *History) say(text string) {
	for _, s := range h.said {
		if s == text {
			return
		}
	}
	h.said = append(h.said, text)
}

// bounded signs in, and reads no answer without end.
type bounded struct {
	to    http.RoundTripper
	token string
}

func (b *bounded) RoundTrip(q *http.Request) (*http.Response, error) {
	if b.token != "" {
		q = q.Clone(q.Context())
		q.Header.Set("Authorization", "Bearer "+strings.TrimSpace(b.token))
	}
	res, err := b.to.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	res.Body = &boundedBody{ReadCloser: res.Body, left: maxAnswer}
	return res, nil
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
