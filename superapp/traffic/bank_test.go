package traffic

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// bank is an application in memory that keeps the contract, and breaks it where
// a test says so.
type bank struct {
	*httptest.Server
	// fault, if set, may answer in the bank's place; it says whether it did. It
	// is called before anything is done, and not for the questions before the start.
	fault func(w http.ResponseWriter, r *http.Request) bool
	// missing are accounts that do not exist.
	missing map[int64]bool

	mu       sync.Mutex
	versions map[int64]int64
	balances map[int64]int64
	answers  map[string][]byte
	arrivals map[string]int // by key
	gets     int
	last     int64
	conns    int
}

const poor = 3 // this account never has enough

func newBank(t *testing.T) *bank {
	b := &bank{versions: map[int64]int64{}, balances: map[int64]int64{}, answers: map[string][]byte{}, arrivals: map[string]int{}}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(b.serve))
	b.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			b.mu.Lock()
			b.conns++
			b.mu.Unlock()
		}
	}
	b.Start()
	t.Cleanup(b.Close)
	return b
}

func currency(id int64) string { return []string{"AED", "USD"}[id%2] }

func (b *bank) serve(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Idempotency-Key")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.mu.Lock()
	if key != "" {
		b.arrivals[key]++
	}
	if r.Method == http.MethodGet {
		b.gets++
	}
	fault := b.fault
	b.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Method == http.MethodPost {
		if key == "" {
			http.Error(w, `{"code":"key"}`, http.StatusBadRequest)
			return
		}
		if r.ContentLength < 0 || !json.Valid(body) {
			http.Error(w, `{"code":"body"}`, http.StatusBadRequest)
			return
		}
		if old, ok := b.answers[key]; ok {
			w.Header().Set("Idempotency-Replayed", "true")
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(old)
			return
		}
	} else if len(body) > 0 || len(r.TransferEncoding) > 0 {
		http.Error(w, `{"code":"body"}`, http.StatusBadRequest)
		return
	}
	status, answer := b.do(r, body)
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	if key != "" && status < 300 {
		b.answers[key] = text
	}
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

type object = map[string]any

func (b *bank) do(r *http.Request, body []byte) (int, object) {
	part := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	var id int64
	if len(part) > 1 {
		id, _ = strconv.ParseInt(part[1], 10, 64)
	}
	var in struct {
		From, To, Payer, Payee, Amount, Account, Total int64
		Payers                                         []int64
		Quote                                          string
	}
	_ = json.Unmarshal(body, &in)
	b.last++
	switch {
	case part[0] == "accounts" && len(part) == 2:
		if b.missing[id] {
			return http.StatusNotFound, object{"code": "unknown_account"}
		}
		return http.StatusOK, object{"id": id, "currency": currency(id), "balance": b.balances[id], "version": b.versions[id]}
	case part[0] == "accounts":
		entries := []object{}
		for v := b.versions[id]; v > 0 && len(entries) < 20; v-- {
			entries = append(entries, object{"version": v, "balance": b.balances[id]})
		}
		return http.StatusOK, object{"version": b.versions[id], "entries": entries}
	case part[0] == "transfers", part[0] == "payments":
		return b.pay(in.From, in.To, in.Amount)
	case part[0] == "requests" && len(part) == 1:
		return http.StatusCreated, object{"id": in.Payer*1_000_000 + in.Payee, "state": "open"}
	case part[0] == "requests":
		status, o := b.pay(id/1_000_000, id%1_000_000, 1)
		if status == http.StatusCreated {
			o["id"], o["state"], o["payment"], status = id, "accepted", b.last, http.StatusOK
		}
		return status, o
	case part[0] == "splits":
		shares, each := []object{}, in.Total/int64(len(in.Payers)+1)
		for _, payer := range in.Payers {
			shares = append(shares, object{"payer": payer, "amount": each, "request": payer*1_000_000 + in.Payee})
		}
		return http.StatusCreated, object{"id": b.last, "total": in.Total, "payee_share": in.Total - each*int64(len(in.Payers)), "shares": shares}
	case part[0] == "corridors" && len(part) == 1:
		return http.StatusOK, object{"corridors": []object{{"country": "JO", "currencies": []string{"JOD"}, "fields": []object{{"name": "iban", "example": "JO94"}}}}}
	case part[0] == "corridors":
		return http.StatusOK, object{"country": part[1], "fields": []object{}}
	case part[0] == "rates" && len(part) == 3:
		return http.StatusOK, object{"mid": "0.27"}
	case part[0] == "rates":
		return http.StatusOK, object{"rates": object{"AED": "3.6725"}}
	case part[0] == "insights":
		return http.StatusOK, object{"account": id, "months": []object{}}
	case part[0] == "quotes":
		return http.StatusCreated, object{"id": fmt.Sprint("q-", in.Account, "-", in.Amount), "account": in.Account, "total": in.Amount + 7}
	case part[0] == "sends":
		var account, amount int64
		_, _ = fmt.Sscanf(in.Quote, "q-%d-%d", &account, &amount)
		return http.StatusCreated, object{"id": b.last, "state": "held", "account": account, "total": amount + 7, "hold": b.last}
	case part[0] == "cards" && len(part) == 1:
		return http.StatusCreated, object{"id": in.Account, "state": "active", "account": in.Account}
	case part[0] == "cards":
		status, o := b.pay(id, id+2, in.Amount)
		o["state"], o["card"] = "authorised", id
		return status, o
	case part[0] == "authorisations":
		state := map[string]string{"capture": "captured", "reverse": "reversed", "refund": "captured"}[part[2]]
		return http.StatusOK, object{"id": id, "state": state, "movement": b.last, "transfer": b.last}
	}
	return http.StatusNotFound, object{"code": "path"}
}

func (b *bank) pay(from, to, amount int64) (int, object) {
	if currency(from) != currency(to) || from == to || amount <= 0 {
		return http.StatusUnprocessableEntity, object{"code": "currency_mismatch"}
	}
	if from == poor {
		return http.StatusUnprocessableEntity, object{"code": "insufficient_funds"}
	}
	b.versions[from]++
	b.versions[to]++
	b.balances[from] -= amount
	b.balances[to] += amount
	return http.StatusCreated, object{"id": b.last, "state": "completed", "transfer": b.last, "from": from, "to": to,
		"from_balance": b.balances[from], "from_version": b.versions[from], "to_version": b.versions[to]}
}

// twice names the keys that arrived more than once.
func (b *bank) twice() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for k, n := range b.arrivals {
		if n != 1 {
			keys = append(keys, fmt.Sprintf("%s: %d times", k, n))
		}
	}
	return keys
}

// hijack takes the connection from the server.
func hijack(w http.ResponseWriter) *net.TCPConn {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	return conn.(*net.TCPConn)
}

// reset ends a connection with a TCP reset.
func reset(w http.ResponseWriter) {
	conn := hijack(w)
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
