package payments_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"dhow/superapp/payments"
	"dhow/superapp/servicetest"
)

// read takes an answer apart.
func read[T any](p *town, a servicetest.Reply, status int) T {
	p.t.Helper()
	servicetest.Want(p.t, a, status, "")
	var v T
	if err := json.Unmarshal([]byte(a.Text), &v); err != nil {
		p.t.Fatalf("%v: %s", err, a.Text)
	}
	return v
}

type bill struct {
	ID, Total int64
	Own       int64 `json:"payee_share"`
	Shares    []struct {
		Payer, Amount, Request int64
		State                  string
	}
}

func splits(p *town) {
	for round := range 4 {
		key := fmt.Sprint("s", round)
		body := `{"payee":4,"payers":[3,2],"total":100,"currency":"AED","note":"dinner","include_payee":true}`
		one := p.Send("POST /splits", key, body)
		b := read[bill](p, one, http.StatusCreated)
		if again := p.Send("POST /splits", key, body); !again.Replayed || again.Text != one.Text {
			p.t.Errorf("replayed %v: %s, want %s", again.Replayed, again.Text, one.Text)
		}
		if len(b.Shares) != 2 || b.Shares[0].Payer != 3 || b.Shares[1].Payer != 2 {
			p.t.Fatalf("%s", one.Text)
		}
		amounts := []int64{b.Shares[0].Amount, b.Shares[1].Amount, b.Own}
		want := []int64{33, 33, 33}
		want[b.ID%3]++ // who bears what is left over goes round
		if !slices.Equal(amounts, want) {
			p.t.Errorf("split %d: %v, want %v", b.ID, amounts, want)
		}
	}
	servicetest.Want(p.t, p.Send("POST /splits", "s0", `{"payee":4,"payers":[3],"total":100,"currency":"AED"}`), http.StatusUnprocessableEntity, "idempotency_conflict")

	// Each share is a request like any other.
	b := read[bill](p, p.Send("POST /splits", "own", `{"payee":3,"payers":[2],"total":70,"currency":"AED","note":"taxi"}`), http.StatusCreated)
	if b.Own != 0 || b.Shares[0].Amount != 70 {
		p.t.Fatalf("%+v", b)
	}
	path := fmt.Sprint("GET /splits/", b.ID)
	if got := read[bill](p, p.Send(path, "", ""), http.StatusOK); got.Total != 70 || got.Shares[0].State != payments.Open || got.Shares[0].Request != b.Shares[0].Request {
		p.t.Errorf("%+v", got)
	}
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /requests/%d/accept", b.Shares[0].Request), "yes", ""), http.StatusOK, "")
	if got := read[bill](p, p.Send(path, "", ""), http.StatusOK); got.Shares[0].State != payments.Accepted {
		p.t.Errorf("%+v", got)
	}
	p.paid(1, opening-70)
	if n := p.number(p.db, "SELECT count(*) FROM splits s WHERE total <> payee_share + (SELECT sum(amount) FROM requests WHERE split = s.id)"); n != 0 {
		p.t.Errorf("%d splits do not add up", n)
	}

	for _, c := range []struct{ body, code string }{
		{`{"payee":3,"payers":[],"total":70,"currency":"AED"}`, "invalid_payers"},
		{`{"payee":3,"payers":[2,4,2],"total":70,"currency":"AED"}`, "invalid_payers"},
		{`{"payee":3,"payers":[2,3],"total":70,"currency":"AED"}`, "same_account"},
		{`{"payee":3,"payers":[2,0],"total":70,"currency":"AED"}`, "invalid_account"},
		{`{"payee":3,"payers":[2,4],"total":2,"currency":"AED","include_payee":true}`, "invalid_amount"},
		{`{"payee":3,"payers":[2],"total":70,"currency":"XXQ"}`, "unknown_currency"},
		{`{"payee":3,"payers":[2],"total":70,"currency":"AED","note":"` + strings.Repeat("x", 141) + `"}`, "invalid_note"},
	} {
		servicetest.Want(p.t, p.Send("POST /splits", "no", c.body), http.StatusUnprocessableEntity, c.code)
	}
	servicetest.Want(p.t, p.Send("GET /splits/99", "", ""), http.StatusNotFound, "unknown_split")
	servicetest.Want(p.t, p.Send("POST /requests", "split:1:1", `{"payee":2,"payer":3,"amount":1,"currency":"AED"}`), http.StatusBadRequest, "idempotency_key_invalid")
}

func splitAtOnce(p *town) {
	replies := make([]servicetest.Reply, 12)
	var wait sync.WaitGroup
	for i := range replies {
		wait.Go(func() {
			replies[i] = p.Send("POST /splits", "k", `{"payee":3,"payers":[2],"total":70,"currency":"AED"}`)
		})
	}
	wait.Wait()
	for _, a := range replies {
		if servicetest.Want(p.t, a, http.StatusCreated, ""); a.Text != replies[0].Text {
			p.t.Errorf("two answers: %s and %s", a.Text, replies[0].Text)
		}
	}
	if n := p.number(p.db, "SELECT (SELECT count(*) FROM splits) + (SELECT count(*) FROM requests)"); n != 2 {
		p.t.Errorf("%d rows, want a split and its request", n)
	}
}

func lists(p *town) {
	first, second := p.ask("a", 10), p.ask("b", 20)
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /requests/%d/accept", first), "yes", ""), http.StatusOK, "")
	servicetest.Want(p.t, p.pay("back", 3, 2, 5), http.StatusCreated, "")
	type requests struct {
		Requests []struct {
			ID    int64
			State string
		}
	}
	for query, want := range map[string][]int64{
		"payer=2":              {second, first},
		"payer=2&state=open":   {second},
		"payer=2&limit=1":      {second},
		"payee=3":              {second, first},
		"payee=2":              {},
		"payer=3":              {},
		"payer=2&state=closed": nil, "payer=2&payee=3": nil, "": nil, "payer=0": nil, "payer=x": nil, "payer=2&limit=201": nil,
	} {
		a := p.Send("GET /requests?"+query, "", "")
		if want == nil {
			servicetest.Want(p.t, a, http.StatusBadRequest, "invalid_request")
			continue
		}
		got := []int64{}
		for _, q := range read[requests](p, a, http.StatusOK).Requests {
			got = append(got, q.ID)
		}
		if !slices.Equal(got, want) || !strings.HasPrefix(a.Text, `{"requests":[`) {
			p.t.Errorf("%s: %v, want %v: %s", query, got, want, a.Text)
		}
	}
	type paid struct {
		Payments []struct {
			ID, From, To, Amount int64
			State                string
		}
	}
	got := read[paid](p, p.Send("GET /payments?account=2", "", ""), http.StatusOK).Payments
	if len(got) != 2 || got[0].From != 3 || got[0].Amount != 5 || got[1].To != 3 || got[1].State != payments.Completed {
		p.t.Errorf("%+v", got)
	}
	if got := read[paid](p, p.Send("GET /payments?account=2&limit=1", "", ""), http.StatusOK).Payments; len(got) != 1 || got[0].From != 3 {
		p.t.Errorf("%+v", got)
	}
	servicetest.Want(p.t, p.Send("GET /payments", "", ""), http.StatusBadRequest, "invalid_request")
	p.paid(2, opening-5)
}

// What is over can not be replied to, even before the worker has closed it.
func expires(p *town) {
	for in, code := range map[string]string{"0": "invalid_expiry", "-1": "invalid_expiry", "7776001": "invalid_expiry"} {
		servicetest.Want(p.t, p.Send("POST /requests", "no", `{"payee":3,"payer":2,"amount":1,"currency":"AED","expires_in":`+in+`}`), http.StatusUnprocessableEntity, code)
	}
	id := servicetest.Want(p.t, p.Send("POST /requests", "a", `{"payee":3,"payer":2,"amount":1,"currency":"AED","expires_in":3600}`), http.StatusCreated, "").ID
	if n := p.number(p.db, "SELECT count(*) FROM requests WHERE expires BETWEEN created + interval '3599 s' AND created + interval '3601 s'"); n != 1 {
		p.t.Error("it does not expire in an hour")
	}
	other := p.ask("b", 10)
	if n := p.number(p.db, "SELECT count(*) FROM requests WHERE id = $1 AND expires BETWEEN created + interval '167 h' AND created + interval '169 h'", other); n != 1 {
		p.t.Error("it does not expire in seven days")
	}
	p.exec(p.db, "UPDATE requests SET expires = clock_timestamp() WHERE id = $1", id)
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /requests/%d/accept", id), "yes", ""), http.StatusConflict, "request_expired")
	servicetest.Want(p.t, p.Send(fmt.Sprintf("POST /requests/%d/decline", id), "no", ""), http.StatusConflict, "request_expired")
	p.requestIs(id, payments.Expired)
	if a := p.Send("GET /requests?payer=2&state=open", "", ""); strings.Contains(a.Text, fmt.Sprintf(`{"id":%d,`, id)) {
		p.t.Errorf("it is listed as open: %s", a.Text)
	}
	servicetest.Await(p.t, "the worker", func() bool {
		return p.number(p.db, "SELECT count(*) FROM requests WHERE id = $1 AND state = 'expired'", id) == 1
	})
	if page := p.Send("GET /metrics", "", "").Text; !strings.Contains(page, "superapp_requests_expired_total 1\n") {
		p.t.Error("the expired request was not counted")
	}
	p.requestIs(other, payments.Open)
	p.paid(0, opening)
}

// Requests run out while they are accepted: each is paid or expired, never both.
func expiryAgainstAccept(p *town) {
	const n = 60
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = p.ask(fmt.Sprint("a", i), 1)
	}
	// The first is over at once, many run out meanwhile, and the last ten do not.
	p.exec(p.db, "UPDATE requests SET expires = clock_timestamp() + CASE WHEN id >= $1 + 50 THEN interval '1 hour' ELSE (id - $1) * interval '4 ms' END", ids[0])
	accepted := make([]bool, n)
	var wait sync.WaitGroup
	for i, id := range slices.Backward(ids) {
		wait.Go(func() {
			a := p.Send(fmt.Sprintf("POST /requests/%d/accept", id), fmt.Sprint("yes", id), "")
			if accepted[i] = a.Status == http.StatusOK; !accepted[i] && a.Code != "request_expired" {
				p.t.Errorf("%d %s", a.Status, a.Text)
			}
		})
	}
	worker := make(chan error, 1)
	go func() {
		var err error
		for range 50 {
			_, err = p.db.Exec(p.t.Context(), payments.ExpireRequests, 10)
			if err != nil {
				break
			}
		}
		worker <- err
	}()
	wait.Wait()
	if err := <-worker; err != nil {
		p.t.Error(err)
	}
	servicetest.Await(p.t, "the end of all", func() bool {
		return p.number(p.db, "SELECT count(*) FROM requests WHERE state = 'open'") == 0
	})
	paid := int64(0)
	for i, id := range ids {
		want := payments.Expired
		if accepted[i] {
			want = payments.Accepted
			paid++
		}
		p.requestIs(id, want)
	}
	p.paid(paid, opening-paid)
	if paid == 0 || paid == n {
		p.t.Errorf("%d of %d were accepted: the race was not run", paid, n)
	}
}
