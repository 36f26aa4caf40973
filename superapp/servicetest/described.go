package servicetest

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// Description is an OpenAPI document that real answers are held against.
type Description struct{ router routers.Router }

// Described reads the document that a service serves.
func (s *Service) Described(t *testing.T) *Description {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(s.Send("GET /openapi.yaml", "", "").Text))
	if err != nil {
		t.Fatalf("read the document: %v", err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatalf("read the document: %v", err)
	}
	return &Description{router}
}

// Check fails unless an answer is as the document says; what was asked must be too
// where it was done.
func (d *Description) Check(t *testing.T, what, key, body string, a Reply) {
	t.Helper()
	// What any service may answer to anything is described nowhere.
	if a.Err != nil || slices.Contains([]int{http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusInternalServerError}, a.Status) {
		return
	}
	method, path, _ := strings.Cut(what, " ")
	r, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", key)
	route, parameters, err := d.router.FindRoute(r)
	if err != nil {
		return // a path or a method that leads nowhere
	}
	options := &openapi3filter.Options{IncludeResponseStatus: true}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: parameters, Route: route, Options: options}
	if a.Status < http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(t.Context(), in); err != nil {
			t.Errorf("%s %s was done, and the document does not allow it: %v", what, body, err)
		}
	}
	out := (&openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: a.Status, Header: a.Header, Options: options}).SetBodyBytes([]byte(a.Text))
	if err := openapi3filter.ValidateResponse(t.Context(), out); err != nil {
		t.Errorf("%s %s was answered %d %s, and the document says otherwise: %v", what, body, a.Status, a.Text, err)
	}
}
