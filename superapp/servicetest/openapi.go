package servicetest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"dhow/superapp/service"
)

// OpenAPI fails unless a document is valid and describes exactly a service's routes.
func OpenAPI(t *testing.T, document []byte, routes map[string]service.Handler) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatalf("read the document: %v", err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("the document is not valid: %v", err)
	}
	described := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			route := method + " " + path
			described[route] = true
			if operation.Summary == "" || operation.Responses.Len() == 0 {
				t.Errorf("%s has no summary or no answers", route)
			}
			if takesBody := method == "POST" || method == "PUT"; takesBody && operation.RequestBody == nil && !strings.HasSuffix(operation.Summary, "(no body)") {
				t.Errorf("%s takes a body, and it is not described: describe it, or end the summary with (no body)", route)
			}
		}
	}
	for _, route := range slices.Sorted(maps.Keys(routes)) {
		if !described[route] {
			t.Errorf("%s is not described", route)
		}
		delete(described, route)
	}
	for _, route := range slices.Sorted(maps.Keys(described)) {
		t.Errorf("%s is described, and there is no such route", route)
	}
}
