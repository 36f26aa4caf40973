package analytics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"dhow/superapp/analytics"
	"dhow/superapp/outbox"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpenAPI(t *testing.T) {
	app := analytics.Build(service.Base{Metrics: prometheus.NewRegistry()})
	servicetest.OpenAPI(t, app.OpenAPI, app.Routes)
}

func TestCheck(t *testing.T) {
	ok := event("cards:1", 7, 100, "2026-11-25")
	if err := analytics.Check(ok); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*outbox.Event){
		"no id":         func(e *outbox.Event) { e.ID = "" },
		"long id":       func(e *outbox.Event) { e.ID = strings.Repeat("x", 65) },
		"no account":    func(e *outbox.Event) { e.Account = 0 },
		"no kind":       func(e *outbox.Event) { e.Kind = "" },
		"long merchant": func(e *outbox.Event) { e.Merchant = strings.Repeat("م", 101) },
		"control":       func(e *outbox.Event) { e.Category = "a\x00" },
		"currency":      func(e *outbox.Event) { e.Currency = "XX" },
		"nothing":       func(e *outbox.Event) { e.Amount = 0 },
		"too much":      func(e *outbox.Event) { e.Amount = -2_000_000_000_000 },
		"no time":       func(e *outbox.Event) { e.At = time.Time{} },
	} {
		e := ok
		edit(&e)
		if err := analytics.Check(e); err == nil || !strings.Contains(err.Error(), "invalid_event") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpan(t *testing.T) {
	now := time.Date(2026, 1, 31, 23, 0, 0, 0, time.FixedZone("", -2*3600)) // February in UTC
	for _, c := range []struct{ first, last, from, until string }{
		{"", "", "2025-03-01", "2026-03-01"},
		{"2026-01", "", "2026-01-01", "2026-03-01"},
		{"", "2024-12", "2024-01-01", "2025-01-01"},
		{"2026-01", "2026-01", "2026-01-01", "2026-02-01"},
		{"2026-02", "2026-01", "", ""},
		{"2000-01", "2026-01", "", ""},
		{"2026-1", "", "", ""},
		{"", "x", "", ""},
	} {
		from, until, err := analytics.Span(c.first, c.last, now)
		if (err != nil) != (c.from == "") {
			t.Errorf("%q to %q: %v", c.first, c.last, err)
		}
		if err == nil && (from.Format(time.DateOnly) != c.from || until.Format(time.DateOnly) != c.until) {
			t.Errorf("%q to %q: %s until %s", c.first, c.last, from, until)
		}
	}
}
