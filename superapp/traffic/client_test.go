package traffic

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dhow/superapp/history"
)

func TestMain(m *testing.M) {
	if child() {
		return
	}
	goleak.VerifyTestMain(m)
}

// one is a worker of its own, with what it writes down.
func one(t *testing.T, url string, timeout time.Duration) (*worker, func() []history.Record) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history")
	h, err := history.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{cfg: Config{URL: url, Timeout: timeout}, clock: clock{time.Now()}, history: h, stats: newStats()}
	w := &worker{runner: r, client: newClient(url, r.clock)}
	return w, func() []history.Record {
		w.client.close()
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		return records(t, path)
	}
}

func records(t *testing.T, path string) []history.Record {
	t.Helper()
	var all []history.Record
	if err := history.Each(path, func(r *history.Record) error { all = append(all, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func answerWith(status int, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

func TestOutcomes(t *testing.T) {
	const noAnswer, noWholeAnswer = "no answer in time", "the body does not come" // these take their time-out
	const completed = `{"id":1,"state":"completed","transfer":2,"from_balance":5,"from_version":6,"to_version":7}`
	pay := operation{op: history.Pay, key: "k", from: 1, to: 5, amount: 10, currency: "USD"}
	transfer, request, accept := pay, pay, pay
	transfer.op, request.op, accept.op, accept.request = history.Transfer, history.Request, history.Accept, 1_000_005
	read := operation{op: history.Read, account: 4}
	statement := operation{op: history.Statement, account: 4}
	split := operation{op: history.Split, key: "k", to: 5, payers: []int64{1, 3}, amount: 10, currency: "USD"}
	quote := operation{op: history.Quote, key: "k", account: 5, amount: 10, corridor: &corridor{Country: "JO"}, other: "JOD"}
	send := operation{op: history.Send, key: "k", from: 5, amount: 17, quote: "q-5-10", corridor: &corridor{Country: "JO"}}
	newCard := operation{op: history.Card, key: "k", from: 5, customer: 9}
	authorise := operation{op: history.Authorise, key: "k", card: 5, from: 5, amount: 10, currency: "USD"}
	capture := operation{op: history.Capture, key: "k", card: 5, from: 5, amount: 10, authorisation: 8}
	reverse, refund := capture, capture
	reverse.op, refund.op = history.Reverse, history.Refund
	insights := operation{op: history.Insights, account: 4}
	rates := operation{op: history.Rates, currency: "AED", other: "USD"}
	for name, c := range map[string]struct {
		op      operation
		fault   func(http.ResponseWriter, *http.Request) bool
		outcome history.Outcome
		status  int
	}{
		"paid":                      {pay, nil, history.Acknowledged, 201},
		"transferred":               {transfer, nil, history.Acknowledged, 201},
		"requested":                 {request, nil, history.Acknowledged, 201},
		"accepted":                  {accept, nil, history.Acknowledged, 200},
		"accepted, no payment":      {accept, answerWith(200, `{"id":1000005,"state":"accepted","transfer":2,"from_version":6}`), history.Unknown, 200},
		"accepted, another request": {accept, answerWith(200, `{"id":8,"state":"accepted","payment":4,"transfer":2,"from_version":6}`), history.Unknown, 200},
		"accepted but open":         {accept, answerWith(200, `{"id":1000005,"state":"open","payment":4,"transfer":2,"from_version":6}`), history.Unknown, 200},
		"read":                      {read, nil, history.Acknowledged, 200},
		"statement":                 {statement, nil, history.Acknowledged, 200},
		"too little money":          {pay, answerWith(422, `{"code":"insufficient_funds"}`), history.Refused, 422},
		"another refusal":           {pay, answerWith(422, `{"code":"currency_mismatch"}`), history.Failed, 422},
		"not found":                 {read, answerWith(404, `{"code":"unknown_account"}`), history.Failed, 404},
		"bad request":               {pay, answerWith(400, ``), history.Failed, 400},
		"conflict":                  {pay, answerWith(409, `{}`), history.Failed, 409},
		"the server's time-out":     {pay, answerWith(408, ``), history.Unknown, 408},
		"too many":                  {pay, answerWith(429, ``), history.Unknown, 429},
		"unavailable":               {pay, answerWith(503, `{"code":"unavailable"}`), history.Unknown, 503},
		"the server's error":        {pay, answerWith(500, `<html>`), history.Unknown, 500},
		"a gateway's error":         {read, answerWith(502, ``), history.Unknown, 502},
		"a redirect": {pay, func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/payments", http.StatusTemporaryRedirect)
			return true
		}, history.Unknown, 307},
		"done, says a page":           {pay, answerWith(201, `<html>welcome</html>`), history.Unknown, 201},
		"done without an id":          {pay, answerWith(201, `{}`), history.Unknown, 201},
		"paid but pending":            {pay, answerWith(202, strings.Replace(completed, "completed", "pending", 1)), history.Unknown, 202},
		"paid without a version":      {pay, answerWith(201, `{"id":1,"state":"completed","transfer":2}`), history.Unknown, 201},
		"transferred, no version":     {transfer, answerWith(201, `{"id":1,"from_version":2}`), history.Unknown, 201},
		"request declined":            {request, answerWith(201, `{"id":1,"state":"declined"}`), history.Unknown, 201},
		"another account":             {read, answerWith(200, `{"id":5,"version":1}`), history.Unknown, 200},
		"account without version":     {read, answerWith(200, `{"id":4}`), history.Unknown, 200},
		"no entries":                  {statement, answerWith(200, `{}`), history.Unknown, 200},
		"empty statement":             {statement, answerWith(200, `{"entries":[]}`), history.Acknowledged, 200},
		"statement of another state":  {statement, answerWith(200, `{"version":5,"entries":[{"version":4}]}`), history.Unknown, 200},
		"entries with a gap":          {statement, answerWith(200, `{"entries":[{"version":4},{"version":2}]}`), history.Unknown, 200},
		"an endless answer":           {read, answerWith(200, strings.Repeat(" ", maxAnswer+1)), history.Unknown, 200},
		"split":                       {split, nil, history.Acknowledged, 201},
		"split with a share too few":  {split, answerWith(201, `{"id":1,"total":10,"payee_share":5,"shares":[{"payer":1,"amount":5,"request":7}]}`), history.Unknown, 201},
		"split that does not add up":  {split, answerWith(201, `{"id":1,"total":10,"payee_share":5,"shares":[{"payer":1,"amount":3,"request":7},{"payer":3,"amount":3,"request":8}]}`), history.Unknown, 201},
		"quoted":                      {quote, nil, history.Acknowledged, 201},
		"quote of another account":    {quote, answerWith(201, `{"id":"q","account":6,"total":10}`), history.Unknown, 201},
		"sent":                        {send, nil, history.Acknowledged, 201},
		"sent for another total":      {send, answerWith(201, `{"id":1,"state":"held","account":5,"total":18,"hold":3}`), history.Unknown, 201},
		"sent without a hold":         {send, answerWith(201, `{"id":1,"state":"held","account":5,"total":17}`), history.Unknown, 201},
		"sent and declined":           {send, answerWith(422, `{"code":"insufficient_funds"}`), history.Refused, 422},
		"sent with a used quote":      {send, answerWith(409, `{"code":"quote_used"}`), history.Failed, 409},
		"card":                        {newCard, nil, history.Acknowledged, 201},
		"card of another account":     {newCard, answerWith(201, `{"id":1,"state":"active","account":6}`), history.Unknown, 201},
		"frozen card":                 {newCard, answerWith(201, `{"id":1,"state":"frozen","account":5}`), history.Unknown, 201},
		"authorised":                  {authorise, nil, history.Acknowledged, 201},
		"above the limit":             {authorise, answerWith(422, `{"code":"limit_exceeded"}`), history.Refused, 422},
		"a limit with another status": {authorise, answerWith(409, `{"code":"limit_exceeded"}`), history.Failed, 409},
		"authorised without a move":   {authorise, answerWith(201, `{"id":1,"state":"authorised","from_version":3}`), history.Unknown, 201},
		"captured":                    {capture, nil, history.Acknowledged, 200},
		"captured another":            {capture, answerWith(200, `{"id":9,"state":"captured","movement":3,"transfer":4}`), history.Unknown, 200},
		"reversed":                    {reverse, nil, history.Acknowledged, 200},
		"refunded":                    {refund, nil, history.Acknowledged, 200},
		"refunded without a movement": {refund, answerWith(200, `{"id":8,"state":"captured","transfer":4}`), history.Unknown, 200},
		"an expired request":          {accept, answerWith(409, `{"code":"request_expired"}`), history.Refused, 409},
		"insights":                    {insights, nil, history.Acknowledged, 200},
		"insights of nothing":         {insights, answerWith(200, `{}`), history.Unknown, 200},
		"rates":                       {rates, nil, history.Acknowledged, 200},
		"old rates":                   {rates, answerWith(503, `{"code":"stale_rate"}`), history.Unknown, 503},
		"reset before the answer":     {pay, func(w http.ResponseWriter, _ *http.Request) bool { reset(w); return true }, history.Unknown, 0},
		"closed before the answer":    {pay, func(w http.ResponseWriter, _ *http.Request) bool { _ = hijack(w).Close(); return true }, history.Unknown, 0},
		"read closed":                 {read, func(w http.ResponseWriter, _ *http.Request) bool { _ = hijack(w).Close(); return true }, history.Unknown, 0},
		noAnswer:                      {pay, func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }, history.Unknown, 0},
		"the body is cut off":         {pay, cutOff, history.Unknown, 201},
		noWholeAnswer:                 {pay, noBody, history.Unknown, 201},
		"what answers is not an HTTP": {pay, gibberish, history.Unknown, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank(t)
			timeout := time.Minute
			if name == noAnswer || name == noWholeAnswer {
				timeout = time.Second
			}
			w, done := one(t, b.URL, timeout)
			defer b.CloseClientConnections()
			// The connection is used before, which is when net/http would send again.
			warm := w.client.exchange(context.Background(), http.MethodGet, "/accounts/2", "", nil)
			if warm.err != nil || warm.status != 200 {
				t.Fatal(warm.err, warm.status)
			}
			b.mu.Lock()
			b.fault, b.gets = c.fault, 0
			b.mu.Unlock()
			c.op.due = w.clock.now()
			w.do(context.Background(), c.op)
			got := done()
			if len(got) != 1 || got[0].Outcome != c.outcome || got[0].Status != c.status {
				t.Fatalf("got %+v, want %s with status %d", got, c.outcome, c.status)
			}
			if keys := b.twice(); len(keys) > 0 || c.op.key == "" && b.gets != 1 {
				t.Errorf("sent more than once: %v, %d reads", keys, b.gets)
			}
			if got[0].Sent < got[0].Scheduled || got[0].Done < got[0].Sent {
				t.Errorf("times of %+v", got[0])
			}
		})
	}
}

func cutOff(w http.ResponseWriter, _ *http.Request) bool {
	conn := hijack(w)
	_, _ = io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"id\":1")
	_ = conn.Close()
	return true
}

func noBody(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Content-Length", "100")
	w.WriteHeader(http.StatusCreated)
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
	return true
}

func gibberish(w http.ResponseWriter, _ *http.Request) bool {
	conn := hijack(w)
	_, _ = io.WriteString(conn, "220 mail.example.net ESMTP\r\n")
	_ = conn.Close()
	return true
}

func TestNothingWasSent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	w, done := one(t, "http://"+addr, time.Second)
	w.do(context.Background(), operation{op: history.Pay, key: "k", from: 1, to: 3, amount: 1, currency: "USD"})
	if got := done(); got[0].Outcome != history.Failed || !strings.Contains(got[0].Error, "refused") {
		t.Errorf("connection refused: %+v", got[0])
	}

	// A server that takes connections and answers nothing: the time ends with the request sent.
	l, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w, done = one(t, "http://"+l.Addr().String(), 100*time.Millisecond)
	w.do(context.Background(), operation{op: history.Pay, key: "k", from: 1, to: 3, amount: 1, currency: "USD"})
	if got := done(); got[0].Outcome != history.Unknown {
		t.Errorf("no answer: %+v", got[0])
	}
}

// dying is a server that answers the first request of each connection and closes
// it when the second arrives, without a word: what a proxy's restart looks like.
func dying(t *testing.T) (address string, arrived *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for n := 1; ; n++ {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					arrived.Add(1)
					if n == 2 {
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String(), arrived
}

func TestNothingIsSentAgainOverAnotherConnection(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		method, key string
		body        []byte
	}{
		"write with a body": {http.MethodPost, "k", []byte(`{"a":1}`)},
		"write, empty":      {http.MethodPost, "k", nil},
		"read":              {http.MethodGet, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			// What net/http does by itself, so that the test below means something.
			url, arrived := dying(t)
			plain := &http.Transport{MaxConnsPerHost: 1}
			defer plain.CloseIdleConnections()
			for range 2 {
				var body io.Reader
				if c.body != nil {
					body = bytes.NewReader(c.body)
				}
				req, err := http.NewRequestWithContext(ctx, c.method, url, body)
				if err != nil {
					t.Fatal(err)
				}
				if c.key != "" {
					req.Header.Set("Idempotency-Key", c.key)
				}
				resp, err := plain.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			if n := arrived.Load(); n != 3 {
				t.Fatalf("net/http sent %d times, and was expected to send the second request again", n)
			}

			url, arrived = dying(t)
			cl := newClient(url, clock{time.Now()})
			defer cl.close()
			if a := cl.exchange(ctx, c.method, "/", c.key, c.body); a.err != nil || a.status != 200 {
				t.Fatalf("first: %+v", a)
			}
			a := cl.exchange(ctx, c.method, "/", c.key, c.body)
			if a.err == nil || a.unsent {
				t.Errorf("second: %+v, want an error after it was sent", a)
			}
			if n := arrived.Load(); n != 2 {
				t.Errorf("%d requests arrived, want 2", n)
			}
		})
	}
}

func TestAnIdleConnectionThatWasClosedIsMadeAgain(t *testing.T) {
	b := newBank(t)
	w, done := one(t, b.URL, 5*time.Second)
	const rounds = 20
	for i := range rounds {
		w.do(context.Background(), operation{op: history.Transfer, key: string(rune('a' + i)), from: 1, to: 5, amount: 1, currency: "USD"})
		b.CloseClientConnections()
	}
	var acknowledged int
	for _, r := range done() {
		switch r.Outcome {
		case history.Acknowledged:
			acknowledged++
		case history.Unknown, history.Failed: // it went out while the connection was being closed
		default:
			t.Errorf("%+v", r)
		}
	}
	if keys := b.twice(); len(keys) > 0 {
		t.Errorf("sent more than once: %v", keys)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if int64(acknowledged) > b.versions[1] || acknowledged == 0 {
		t.Errorf("%d acknowledged, %d done", acknowledged, b.versions[1])
	}
}

func TestEnvironmentsProxyIsNotUsed(t *testing.T) {
	b := newBank(t)
	u, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	cl := newClient("http://"+u.Host, clock{time.Now()})
	defer cl.close()
	if a := cl.exchange(context.Background(), http.MethodGet, "/accounts/2", "", nil); a.err != nil {
		t.Error(a.err)
	}
}
