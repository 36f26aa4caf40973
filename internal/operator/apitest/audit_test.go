package apitest

import (
	"strings"
	"testing"
)

func TestAsked(t *testing.T) {
	line := func(stage, verb, user, ref, uri string) []byte {
		return []byte(`{"kind":"Event","level":"Metadata","stage":"` + stage + `","requestURI":"` + uri + `","verb":"` + verb + `","user":{"username":"` + user + `","groups":["a"]},"userAgent":"x","objectRef":` + ref + `}`)
	}
	service := `{"resource":"services","namespace":"bank","name":"cart","apiVersion":"v1"}`
	for _, c := range []struct {
		line []byte
		want string
	}{
		{line("ResponseComplete", "patch", "me", service, "/api/v1/namespaces/bank/services/cart?fieldManager=dhow"), "patch services"},
		{line("ResponseComplete", "patch", "me", `{"resource":"exposures","subresource":"status"}`, "/apis"), "patch exposures/status"},
		{line("ResponseComplete", "patch", "another", service, "/"), ""},
		{line("ResponseStarted", "watch", "me", service, "/"), "watch services"},
		{line("ResponseComplete", "watch", "me", service, "/"), ""},
		{line("ResponseStarted", "get", "me", service, "/"), ""},
		{[]byte(`{"stage":"ResponseComplete","verb":"get","user":{"username":"me"},"requestURI":"/api/v1?timeout=32s"}`), "get /api/v1"},
	} {
		if have, err := asked(c.line, "me"); err != nil || have != c.want {
			t.Errorf("%s: got %q, %v: want %q", c.line, have, err, c.want)
		}
	}
	if _, err := asked([]byte("{"), "me"); err == nil {
		t.Error("half a line was read")
	}
}

func TestRequests(t *testing.T) {
	r := Requests{"get nodes": 1, "patch services": 3, "create exposures": 1, "watch services": 2, "deletecollection pods": 1}
	if r.All() != 8 || r.Writes().All() != 5 {
		t.Errorf("got %d, %d writes: want 8 and 5", r.All(), r.Writes().All())
	}
	if have := strings.Join(r.Names(), ", "); have != "patch services, watch services, create exposures, deletecollection pods, get nodes" {
		t.Errorf("got %s", have)
	}
}
