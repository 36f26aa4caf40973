package payments

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

// ExpireRequests is the worker's statement, for a test that runs it as often as it likes.
const ExpireRequests = expireRequests

func TestOpenAPI(t *testing.T) {
	app := build(service.Base{Metrics: prometheus.NewRegistry()}, nil, nil)
	servicetest.OpenAPI(t, app.OpenAPI, app.Routes)
}
