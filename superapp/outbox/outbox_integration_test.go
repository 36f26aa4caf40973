package outbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/pgserver/pgtest"
	"dhow/superapp/outbox"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table is an outbox in one of the engines.
type table struct {
	outbox.Store
	// add writes an event in a transaction of its own.
	add func(outbox.Event) error
}

func inMariaDB(t *testing.T) table {
	url := mariadbtest.Database(t, mariadbtest.Start(t), "shop")
	t.Setenv("MARIADB_URL", url)
	if err := service.MigrateMariaDB(t.Context(), service.Schema{SQL: outbox.MariaDB}); err != nil {
		t.Fatal(err)
	}
	c, err := service.MariaDBConfig(url, "the test's")
	if err != nil {
		t.Fatal(err)
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return table{outbox.InMariaDB(db), func(e outbox.Event) error {
		text, err := e.Text()
		if err != nil {
			return err
		}
		_, err = db.ExecContext(t.Context(), "INSERT INTO outbox (event) VALUES (?)", text)
		return err
	}}
}

func inPostgres(t *testing.T) table {
	url := pgtest.Database(t, pgtest.Start(t, 15), "shop")
	t.Setenv("DATABASE_URL", url)
	if err := service.Migrate(t.Context(), service.Schema{SQL: outbox.Postgres}); err != nil {
		t.Fatal(err)
	}
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return table{outbox.InPostgres(db), func(e outbox.Event) error {
		_, err := db.Exec(t.Context(), `INSERT INTO outbox (event) SELECT jsonb_build_object('account', $1::bigint, 'kind', $2::text,
			'category', $3::text, 'merchant', $4::text, 'currency', $5::text, 'amount', $6::bigint, 'at', $7::timestamptz)`,
			e.Account, e.Kind, e.Category, e.Merchant, e.Currency, e.Amount, e.At)
		return err
	}}
}

func event(n int) outbox.Event {
	return outbox.Event{Account: int64(n), Kind: "card", Category: "مطاعم", Merchant: "M & <Sons>", Currency: "AED", Amount: 100, At: time.Date(2026, 11, 25, 7, 30, 0, 123456000, time.UTC)}
}

// receiver keeps what is delivered, and can be away or lose its answers.
type receiver struct {
	mu    sync.Mutex
	fault error // before anything is kept
	lost  error // behind
	got   [][]outbox.Event
	tries int
}

func (r *receiver) send(_ context.Context, events []outbox.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	if r.fault != nil {
		return r.fault
	}
	r.got = append(r.got, slices.Clone(events))
	return r.lost
}

func (r *receiver) set(fault, lost error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault, r.lost = fault, lost
}

func (r *receiver) tried() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries
}

// accounts are those of the events, each when it first came, in the order of coming.
func (r *receiver) accounts() (first []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]bool{}
	for _, e := range slices.Concat(r.got...) {
		if !seen[e.ID] {
			seen[e.ID] = true
			first = append(first, e.Account)
		}
	}
	return first
}

// page is a log.
type page struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *page) count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.text.String(), what)
}

// relay runs one until stop is called.
func relay(t *testing.T, store outbox.Store, send outbox.Send) (stop func(), log *page) {
	log = &page{}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer func() { over <- struct{}{} }()
		outbox.Relay(ctx, "shop", store, send, slog.New(slog.NewTextHandler(log, nil)))
	}()
	stop = sync.OnceFunc(func() { cancel(); <-over })
	t.Cleanup(stop)
	return stop, log
}

func left(t *testing.T, s outbox.Store) int {
	rows, err := s.First(t.Context(), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return len(rows)
}

func TestRelay(t *testing.T) {
	for name, in := range map[string]func(*testing.T) table{"mariadb": inMariaDB, "postgres": inPostgres} {
		t.Run(name, func(t *testing.T) {
			o := in(t)
			for name, test := range map[string]func(*testing.T, table){
				"each event once, in order": delivers, "the receiver is away": receiverAway, "the relay ends between delivery and deletion": relayEnds,
				"large events": largeEvents, "an event that is refused": refused, "two relays": twoRelays,
			} {
				t.Run(name, func(t *testing.T) {
					test(t, o)
					if n := left(t, o); n != 0 {
						t.Fatalf("%d events are left", n)
					}
				})
			}
		})
	}
}

func add(t *testing.T, o table, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := o.add(event(n)); err != nil {
			t.Fatal(err)
		}
	}
}

// want waits until the events of accounts 1 to n have come, and fails unless they came in this order.
func want(t *testing.T, r *receiver, n int) {
	t.Helper()
	servicetest.Await(t, "the events", func() bool { return len(r.accounts()) >= n })
	for i, account := range r.accounts() {
		if account != int64(i+1) {
			t.Fatalf("event %d came as number %d", account, i+1)
		}
	}
	if got := len(r.accounts()); got != n {
		t.Fatalf("%d events came, want %d", got, n)
	}
}

func emptied(t *testing.T, o table) {
	t.Helper()
	servicetest.Await(t, "an empty outbox", func() bool { return left(t, o) == 0 })
}

func delivers(t *testing.T, o table) {
	r := &receiver{}
	add(t, o, 1, 60)
	relay(t, o, r.send)
	add(t, o, 61, 150)
	want(t, r, 150)
	emptied(t, o)
	var ids []string
	for _, e := range slices.Concat(r.got...) {
		ids = append(ids, e.ID)
		e.ID = ""
		if w := event(int(e.Account)); !e.At.Equal(w.At) || e.Category != w.Category || e.Merchant != w.Merchant || e.Amount != w.Amount || e.Currency != w.Currency || e.Kind != w.Kind {
			t.Fatalf("came %+v, want %+v", e, w)
		}
	}
	if len(ids) != 150 || !strings.HasPrefix(ids[0], "shop:") {
		t.Errorf("%d deliveries for 150 events, the first %q", len(ids), ids[0])
	}
}

func receiverAway(t *testing.T, o table) {
	r := &receiver{fault: service.Unavailable(errors.New("connection refused"))}
	add(t, o, 1, 5)
	_, log := relay(t, o, r.send)
	servicetest.Await(t, "some attempts", func() bool { return r.tried() >= 3 })
	add(t, o, 6, 10)
	if n := log.count("can not be delivered"); n != 1 {
		t.Errorf("%d lines tell that the receiver is away", n)
	}
	r.set(nil, nil)
	want(t, r, 10)
	emptied(t, o)
	servicetest.Await(t, "the line that it is back", func() bool { return log.count("again") == 1 })
}

// What came and was not deleted comes again, also from the next relay.
func relayEnds(t *testing.T, o table) {
	add(t, o, 1, 70)
	r := &receiver{lost: service.Unavailable(errors.New("the answer is lost"))}
	stop, _ := relay(t, o, r.send)
	servicetest.Await(t, "a delivery", func() bool { return r.tried() >= 2 })
	stop()
	if n := left(t, o); n != 70 {
		t.Fatalf("%d of 70 events are left", n)
	}
	r.set(nil, nil)
	relay(t, o, r.send)
	want(t, r, 70)
	emptied(t, o)
}

// Many large events are delivered in pieces that a body has room for; one that is larger than that goes alone.
func largeEvents(t *testing.T, o table) {
	const limit = 16 << 10
	r := &receiver{}
	for n := 1; n <= 12; n++ {
		e := event(n)
		e.Merchant = strings.Repeat("م", 1500)
		if n == 7 {
			e.Merchant = strings.Repeat("x", 13<<10)
		}
		if err := o.add(e); err != nil {
			t.Fatal(err)
		}
	}
	relay(t, o, r.send)
	want(t, r, 12)
	emptied(t, o)
	for _, batch := range r.got {
		size := 0
		for _, e := range batch {
			size += len(e.Merchant)
		}
		if size > limit {
			t.Errorf("a delivery of %d events has %d bytes", len(batch), size)
		}
	}
}

// A refused event loses nothing: it and those behind it wait, and each attempt is told.
func refused(t *testing.T, o table) {
	r := &receiver{fault: errors.New("status 422")}
	add(t, o, 1, 3)
	_, log := relay(t, o, r.send)
	servicetest.Await(t, "two attempts", func() bool { return log.count("status 422") >= 2 })
	if n := left(t, o); n != 3 {
		t.Errorf("%d of 3 events are left", n)
	}
	r.set(nil, nil)
	want(t, r, 3)
	emptied(t, o)
}

// Two instances deliver the same events: all come, none is left.
func twoRelays(t *testing.T, o table) {
	r := &receiver{}
	relay(t, o, r.send)
	relay(t, o, r.send)
	var writers sync.WaitGroup
	fail := make(chan error, 4)
	for w := range cap(fail) {
		writers.Go(func() {
			for n := range 25 {
				if err := o.add(event(w*25 + n + 1)); err != nil {
					fail <- fmt.Errorf("add an event: %w", err)
					return
				}
			}
		})
	}
	writers.Wait()
	select {
	case err := <-fail:
		t.Fatal(err)
	default:
	}
	servicetest.Await(t, "the events", func() bool { return len(r.accounts()) == 100 })
	emptied(t, o)
}
