package window_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dhow/internal/window"
)

// prometheus is an HTTP server that answers range queries as Prometheus does.
func prometheus(t *testing.T, token string, series func(at time.Time) (float64, bool), names ...string) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked.Add(1)
		refuse := func(code int, kind, text string) {
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(map[string]any{"status": "error", "errorType": kind, "error": text})
		}
		if token != "" && q.Header.Get("Authorization") != "Bearer "+token {
			refuse(http.StatusUnauthorized, "unauthorized", "no such token")
			return
		}
		if q.URL.Path != "/api/v1/query_range" {
			http.NotFound(w, q)
			return
		}
		seconds := func(key string) float64 {
			f, err := strconv.ParseFloat(q.FormValue(key), 64)
			if err != nil {
				t.Errorf("%s is %q", key, q.FormValue(key))
			}
			return f
		}
		from, to, step := seconds("start"), seconds("end"), seconds("step")
		if (to-from)/step > 11_000 {
			refuse(http.StatusBadRequest, "bad_data", "exceeded maximum resolution of 11,000 points per timeseries")
			return
		}
		if strings.Contains(q.FormValue("query"), "((") {
			refuse(http.StatusBadRequest, "bad_data", "parse error: unclosed left parenthesis")
			return
		}
		var values [][]any
		for at := from; at <= to; at += step {
			if v, ok := series(time.Unix(int64(at), 0)); ok {
				values = append(values, []any{at, fmt.Sprint(v)})
			}
		}
		result := []map[string]any{}
		for _, n := range names {
			if len(values) > 0 {
				result = append(result, map[string]any{"metric": map[string]string{"route": n}, "values": values})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": "matrix", "result": result}})
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

func TestPrometheus(t *testing.T) {
	since := now.Add(-4 * week) // as long as the server keeps
	url, asked := prometheus(t, "secret", func(at time.Time) (float64, bool) {
		return bank(at.Add(-5 * time.Minute).In(doha)), at.After(since)
	}, "all")
	h, err := window.Read(t.Context(), window.Source{Where: url, Token: "secret\n", Zone: doha, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Find(window.Ahead{Now: now, Stall: stall})
	if err != nil {
		t.Fatal(err)
	}
	isDeepest(t, p, doha)
	if p.Weeks < 3.9 || p.Weeks > 4.1 || asked.Load() != 8 {
		t.Errorf("%d questions give %.2f weeks", asked.Load(), p.Weeks)
	}
}

func TestPrometheusRefuses(t *testing.T) {
	always := func(time.Time) (float64, bool) { return 1, true }
	one, _ := prometheus(t, "", always, "all")
	two, _ := prometheus(t, "", always, "a", "b")
	none, _ := prometheus(t, "", always)
	locked, _ := prometheus(t, "secret", always, "all")
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		line := []byte(strings.Repeat("x", 1<<20))
		for {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}))
	t.Cleanup(endless.Close)
	for name, c := range map[string]struct {
		s    window.Source
		want string
	}{
		"series":      {window.Source{Where: two}, "more than one series: sum them"},
		"nothing":     {window.Source{Where: none}, "the request history is empty"},
		"syntax":      {window.Source{Where: one, Query: "sum((rate(x[5m]))"}, "unclosed left parenthesis"},
		"token":       {window.Source{Where: locked, Token: "wrong"}, "401"},
		"no server":   {window.Source{Where: "http://127.0.0.1:1"}, "connection refused"},
		"password":    {window.Source{Where: "http://me:hidden@127.0.0.1:1"}, "would be seen by others"},
		"kind":        {window.Source{Where: one, Kind: window.CSV}, "is read from files"},
		"no URL":      {window.Source{Where: "some/folder", Kind: window.Prometheus}, "is named by its URL"},
		"other kind":  {window.Source{Where: one, Kind: "graphite"}, "is not known"},
		"long answer": {window.Source{Where: endless.URL}, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			c.s.Zone, c.s.Now = doha, now
			h, err := window.Read(t.Context(), c.s)
			if err == nil {
				_, err = h.Find(window.Ahead{Now: now, Stall: stall})
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it is refused with %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hidden") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := window.Read(ctx, window.Source{Where: one, Zone: doha, Now: now}); err == nil {
		t.Error("a cancelled read goes on")
	}
}
