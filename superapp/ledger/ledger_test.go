package ledger

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Only what the accounts service alone can have said is an outcome.
func TestOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		status        int
		body          string
		made, refused bool
	}{
		"made":                      {http.StatusCreated, `{"id":7,"from_balance":1,"from_version":2}`, true, false},
		"made, and read again":      {http.StatusOK, `{"id":7}`, true, false},
		"made, without an id":       {http.StatusCreated, `{}`, false, false},
		"made, half an answer":      {http.StatusCreated, `{"id":7`, false, false},
		"refused":                   {http.StatusUnprocessableEntity, `{"error":"x","code":"insufficient_funds"}`, false, true},
		"unknown account":           {http.StatusNotFound, `{"error":"x","code":"unknown_account"}`, false, true},
		"a proxy's 404":             {http.StatusNotFound, `not found`, false, false},
		"another path":              {http.StatusNotFound, `{"error":"x","code":"unknown_path"}`, false, false},
		"a key of another order":    {http.StatusUnprocessableEntity, `{"error":"x","code":"idempotency_conflict"}`, false, false},
		"away":                      {http.StatusServiceUnavailable, `{"error":"x","code":"unavailable"}`, false, false},
		"a defect":                  {http.StatusInternalServerError, `{"error":"x","code":"internal"}`, false, false},
		"a refusal without a code":  {http.StatusUnprocessableEntity, `{}`, false, false},
		"a redirect from elsewhere": {http.StatusFound, ``, false, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Idempotency-Key") != "k" || r.URL.Path != "/system/transfers" {
				t.Errorf("%s: asked %s under %q", name, r.URL, r.Header.Get("Idempotency-Key"))
			}
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}))
		at, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		client := New(at)
		out, err := client.Transfer(t.Context(), "k", Order{From: 1, To: 2, Amount: 3, Currency: "AED"})
		if (out.Made != nil) != c.made || (out.Refused != nil) != c.refused || (err == nil) != (c.made || c.refused) {
			t.Errorf("%s: made %v, refused %v, error %v", name, out.Made, out.Refused, err)
		}
		client.Close()
		server.Close()
	}
}

// The same user gets the same account of the system, which is asked for once.
func TestSystemAccountsAreAskedForOnce(t *testing.T) {
	asked := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.Method+" "+r.URL.Path]++
		shard := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		_, _ = w.Write([]byte(`{"id":10` + shard + `,"currency":"AED"}`))
	}))
	defer server.Close()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := New(at)
	defer client.Close()
	for user, want := range []int64{100, 101, 102, 103, 104, 105, 106, 107, 100, 101} {
		for range 2 {
			id, err := client.System(t.Context(), Cards, "AED", int64(user))
			if err != nil || id != want {
				t.Errorf("user %d: account %d, %v; want %d", user, id, err, want)
			}
		}
	}
	if len(asked) != Shards || asked["PUT /system/cards/AED/0"] != 1 {
		t.Errorf("asked %v", asked)
	}
}
