package service_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

// A request that one service sends to another belongs to the trace of its client,
// and both tell the collector.
func TestTraceGoesFromServiceToService(t *testing.T) {
	var mu sync.Mutex
	spans := map[string][]string{} // trace ids by span name
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var told coltrace.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &told)
		}
		if err != nil {
			t.Errorf("the collector was sent: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range told.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					spans[s.GetName()] = append(spans[s.GetName()], string(s.GetTraceId()))
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	var asked string
	second := servicetest.Start(t, "", service.Options{}, app(map[string]service.Handler{"GET /second": func(r *http.Request) (service.Answer, error) {
		asked = r.Header.Get("X-Request-Id")
		return service.JSON(http.StatusOK, map[string]string{"traceparent": r.Header.Get("traceparent")})
	}}))
	client := service.NewClient()
	defer client.CloseIdleConnections()
	first := servicetest.Start(t, "", service.Options{}, app(map[string]service.Handler{"GET /first": func(r *http.Request) (service.Answer, error) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, second.URL+"/second", nil)
		if err != nil {
			return service.Answer{}, err
		}
		res, err := client.Do(req)
		if err != nil {
			return service.Answer{}, err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		return service.Answer{Status: http.StatusOK, Body: text}, err
	}}))
	r := servicetest.Want(t, first.Send("GET /first", "", ""), http.StatusOK, "")
	if !strings.Contains(r.Text, `"traceparent":"00-`) {
		t.Errorf("the second service got no trace: %s", r.Text)
	}
	if asked == "" || asked != r.Header.Get("X-Request-Id") {
		t.Errorf("the second service got request %q of %q", asked, r.Header.Get("X-Request-Id"))
	}
	for _, s := range []*servicetest.Service{first, second} { // the end sends what is left
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	one, two := spans["GET /first"], spans["GET /second"]
	if len(one) != 1 || len(two) != 1 || one[0] != two[0] {
		t.Errorf("the traces: %x and %x", one, two)
	}
}
