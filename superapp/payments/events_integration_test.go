package payments_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"

	"dhow/superapp/outbox"
	"dhow/superapp/servicetest"
)

// Each payment that moved money is told to the analytics, also one that was made while they were away.
func tells(p *town) {
	var mu sync.Mutex
	away := true
	got := map[string]outbox.Event{}
	analytics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Events []outbox.Event }
		mu.Lock()
		defer mu.Unlock()
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || away || r.URL.Path != "/events" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		for _, e := range body.Events {
			got[e.ID] = e
		}
		_, _ = fmt.Fprintf(w, `{"taken":%d}`, len(body.Events))
	}))
	p.t.Cleanup(analytics.Close)
	if err := p.Stop(); err != nil {
		p.t.Fatal(err)
	}
	var err error
	if p.events, err = url.Parse(analytics.URL); err != nil {
		p.t.Fatal(err)
	}
	p.start()
	servicetest.Want(p.t, p.pay("a", 2, 3, 100), http.StatusCreated, "")
	servicetest.Want(p.t, p.pay("no", 2, 3, opening), http.StatusUnprocessableEntity, "insufficient_funds")
	mu.Lock()
	away = false
	mu.Unlock()
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /requests/%d/accept", p.ask("r", 7)), "yes", ""), http.StatusOK, "")
	servicetest.Await(p.t, "the relay", func() bool { return p.number(p.db, "SELECT count(*) FROM outbox") == 0 })
	mu.Lock()
	defer mu.Unlock()
	p.told = int64(len(got))
	for id, amount := range map[string]int64{"payments:1": 100, "payments:2": 7} {
		e := got[id]
		if e.Account != 2 || e.Kind != "payment" || e.Category != "friends" || e.Currency != "AED" || e.Amount != amount || e.At.IsZero() {
			p.t.Errorf("%s: %+v", id, e)
		}
	}
}
