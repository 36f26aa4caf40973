package analytics_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/mariadbserver"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/superapp/analytics"
	"dhow/superapp/outbox"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

func event(id string, account, amount int64, day string) outbox.Event {
	at, _ := time.Parse(time.DateOnly, day)
	return outbox.Event{ID: id, Account: account, Kind: "card", Category: "groceries", Merchant: "Shop", Currency: "AED", Amount: amount, At: at.Add(12 * time.Hour)}
}

// stage is a service on a database, as its restricted role, and a look at the database.
type stage struct {
	*servicetest.Service
	t  *testing.T
	s  *mariadbserver.Server
	db *sql.DB
}

func setUp(t *testing.T) *stage {
	s := mariadbtest.Start(t)
	address := mariadbtest.Database(t, s, "analytics")
	if err := s.Exec(t.Context(), "mysql", "CREATE USER 'analytics'@'%' IDENTIFIED BY '"+s.Password()+"'"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MARIADB_URL", address)
	for range 2 { // again changes nothing
		if err := service.MigrateMariaDB(t.Context(), analytics.Schema().For("analytics")); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("analytics", s.Password())
	c, err := service.MariaDBConfig(u.String(), "the test's")
	if err != nil {
		t.Fatal(err)
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	t.Setenv("MARIADB_URL", u.String())
	return &stage{Service: servicetest.Start(t, "", service.Options{}, analytics.Run), t: t, s: s, db: db}
}

func TestAnalytics(t *testing.T) {
	g := setUp(t)
	for _, c := range []struct {
		name string
		test func(*stage)
	}{
		{"events are taken once", takenOnce}, {"bad events", badEvents}, {"insights", insights},
		{"the same events at once", atOnce}, {"history can not be changed", historyStays}, {"a relay over crashes of the service and of the database", relayOverCrash},
	} {
		if !t.Run(c.name, func(t *testing.T) { g.t = t; c.test(g) }) {
			return
		}
	}
}

func (g *stage) tell(events ...outbox.Event) servicetest.Reply {
	text, err := json.Marshal(map[string]any{"events": events})
	if err != nil {
		g.t.Fatal(err)
	}
	return g.Send("POST /events", "", string(text))
}

func (g *stage) number(statement string, args ...any) (n int64) {
	g.t.Helper()
	if err := g.db.QueryRowContext(g.t.Context(), statement, args...).Scan(&n); err != nil {
		g.t.Fatal(err)
	}
	return n
}

func taken(t *testing.T, a servicetest.Reply, n int) {
	t.Helper()
	if servicetest.Want(t, a, http.StatusOK, ""); a.Text != fmt.Sprintf(`{"taken":%d}`, n) {
		t.Errorf("%s, want %d", a.Text, n)
	}
}

func takenOnce(g *stage) {
	a, b := event("t:1", 1, 100, "2026-11-01"), event("t:2", 1, 50, "2026-11-02")
	taken(g.t, g.tell(a), 1)
	changed := a
	changed.Amount = 999
	taken(g.t, g.tell(changed, b), 1)
	taken(g.t, g.tell(a, b), 0)
	if n := g.number("SELECT sum(amount) FROM events WHERE account = 1"); n != 150 {
		g.t.Errorf("the events add up to %d", n)
	}
}

func badEvents(g *stage) {
	before := g.number("SELECT count(*) FROM events")
	bad := event("t:bad", 1, 1, "2026-11-01")
	bad.Currency = "dirham"
	servicetest.Want(g.t, g.tell(event("t:good", 1, 1, "2026-11-01"), bad), http.StatusUnprocessableEntity, "invalid_event")
	servicetest.Want(g.t, g.tell(), http.StatusUnprocessableEntity, "invalid_events")
	servicetest.Want(g.t, g.Send("POST /events", "", "{"), http.StatusBadRequest, "invalid_request")
	servicetest.Want(g.t, g.Send("POST /events", "", `{"events":[{"x":1}]}`), http.StatusBadRequest, "invalid_request")
	many := make([]outbox.Event, 501)
	if a := g.tell(many...); a.Status != http.StatusRequestEntityTooLarge {
		g.t.Errorf("501 events: %d %s", a.Status, a.Text)
	}
	servicetest.Want(g.t, g.Send("GET /insights/0", "", ""), http.StatusBadRequest, "invalid_request")
	servicetest.Want(g.t, g.Send("GET /insights/1?from=yesterday", "", ""), http.StatusBadRequest, "invalid_request")
	if n := g.number("SELECT count(*) FROM events"); n != before {
		g.t.Errorf("%d rows of refused events", n-before)
	}
}

func insights(g *stage) {
	var all []outbox.Event
	one := func(account, amount int64, at, category, merchant, currency string) {
		e := event(fmt.Sprint("i:", len(all)), account, amount, at)
		e.Category, e.Merchant, e.Currency = category, merchant, currency
		all = append(all, e)
	}
	for i := range 12 {
		one(20, int64(100+i), "2026-10-05", "groceries", fmt.Sprintf("Shop %02d", i), "AED")
	}
	one(20, 5000, "2026-10-31", "abroad", "مصر", "AED")
	one(20, -1000, "2026-10-31", "abroad", "مصر", "AED")
	one(20, 70, "2026-10-07", "friends", "", "AED")
	one(20, 33, "2026-10-07", "groceries", "Shop 00", "USD")
	one(20, 1, "2026-11-01", "friends", "", "AED")
	one(20, 1, "2026-12-01", "friends", "", "AED")
	one(21, 1, "2026-10-01", "friends", "", "AED")
	taken(g.t, g.tell(all...), len(all))
	a := servicetest.Want(g.t, g.Send("GET /insights/20?from=2026-10&to=2026-11", "", ""), http.StatusOK, "")
	var tops []string
	for i := 11; i > 2; i-- {
		tops = append(tops, fmt.Sprintf(`{"merchant":"Shop %02d","total":%d,"count":1}`, i, 100+i))
	}
	want := `{"account":20,"months":[` +
		`{"month":"2026-10","currency":"AED","total":5336,"count":15,"categories":[{"category":"abroad","total":4000,"count":2},{"category":"groceries","total":1266,"count":12},{"category":"friends","total":70,"count":1}],` +
		`"merchants":[{"merchant":"مصر","total":4000,"count":2},` + strings.Join(tops, ",") + `]},` +
		`{"month":"2026-10","currency":"USD","total":33,"count":1,"categories":[{"category":"groceries","total":33,"count":1}],"merchants":[{"merchant":"Shop 00","total":33,"count":1}]},` +
		`{"month":"2026-11","currency":"AED","total":1,"count":1,"categories":[{"category":"friends","total":1,"count":1}],"merchants":[]}]}`
	if a.Text != want {
		g.t.Errorf("got  %s\nwant %s", a.Text, want)
	}
	if a := servicetest.Want(g.t, g.Send("GET /insights/99", "", ""), http.StatusOK, ""); a.Text != `{"account":99,"months":[]}` {
		g.t.Errorf("an account without events: %s", a.Text)
	}
}

func atOnce(g *stage) {
	replies := make([]servicetest.Reply, 8)
	var all []outbox.Event
	for n := range 40 {
		all = append(all, event(fmt.Sprint("o:", n), 30, 1, "2026-11-01"))
	}
	var wait sync.WaitGroup
	for i := range replies {
		wait.Go(func() {
			servicetest.Await(g.t, "a try that loses against no other", func() bool {
				replies[i] = g.tell(all...)
				return replies[i].Status == http.StatusOK
			})
		})
	}
	wait.Wait()
	if n := g.number("SELECT count(*) FROM events WHERE account = 30"); n != 40 {
		g.t.Errorf("40 events came eight times, and %d are kept", n)
	}
}

// The service's role changes and deletes no event.
func historyStays(g *stage) {
	for _, statement := range []string{"UPDATE events SET amount = 1", "DELETE FROM events", "TRUNCATE events", "CREATE TABLE mine (id int)", "DROP TABLE events"} {
		var refused *mysql.MySQLError
		if _, err := g.db.ExecContext(g.t.Context(), statement); !errors.As(err, &refused) || refused.Number != 1142 && refused.Number != 1143 {
			g.t.Errorf("%s: %v", statement, err)
		}
	}
}

// queue is an outbox in memory.
type queue struct {
	mu   sync.Mutex
	rows []outbox.Row
}

func (q *queue) First(_ context.Context, most int) ([]outbox.Row, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]outbox.Row(nil), q.rows[:min(most, len(q.rows))]...), nil
}

func (q *queue) Delete(_ context.Context, ids []int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rows = q.rows[len(ids):]
	return nil
}

func (q *queue) add(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := event("", 40, 1, "2026-11-01")
	text, _ := json.Marshal(e)
	q.rows = append(q.rows, outbox.Row{ID: int64(n), Event: text})
}

// Events are delivered while the service and its database come and go, and each is counted once.
func relayOverCrash(g *stage) {
	u, err := url.Parse(g.URL)
	if err != nil {
		g.t.Fatal(err)
	}
	client := analytics.NewClient(u)
	defer client.Close()
	q := &queue{}
	ctx, cancel := context.WithCancel(g.t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { outbox.Relay(ctx, "shop", q, client.Send, slog.New(slog.DiscardHandler)) })
	count := func() int64 { return g.number("SELECT count(*) FROM events WHERE account = 40") }
	for n := 1; n <= 100; n++ {
		q.add(n)
	}
	servicetest.Await(g.t, "the first events", func() bool { return count() > 0 })
	if err := g.Stop(); err != nil {
		g.t.Fatal(err)
	}
	for n := 101; n <= 200; n++ {
		q.add(n)
	}
	g.Service = servicetest.Start(g.t, "", service.Options{Listen: strings.TrimPrefix(g.URL, "http://")}, analytics.Run)
	servicetest.Await(g.t, "events to the service's next run", func() bool { return count() > 100 })
	g.s.Kill()
	for n := 201; n <= 300; n++ {
		q.add(n)
	}
	if err := g.s.Restart(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	servicetest.Await(g.t, "all events", func() bool {
		left, _ := q.First(ctx, 1)
		return len(left) == 0
	})
	if n := count(); n != 300 {
		g.t.Errorf("%d of 300 events are kept", n)
	}
}
