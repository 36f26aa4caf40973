package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/mariadbserver"
)

// hammer writes to both servers at once, as several roles and in several ways, and
// notes what each server has acknowledged, and when.
type hammer struct {
	e    *ends
	stop atomic.Bool
	wg   sync.WaitGroup
	mu   sync.Mutex
	acks []ack
}

// ack is an acknowledged row: who wrote it where, and when it began and ended.
type ack struct {
	table, id    string
	at           *mariadbserver.Server
	began, ended time.Time
}

// ways are how the hammer's writers write a row with an id into app.h0, app.h1, ...
var ways = map[string]func(ctx context.Context, c *sql.Conn, table, id string) error{
	"autocommit": func(ctx context.Context, c *sql.Conn, table, id string) error {
		_, err := c.ExecContext(ctx, fmt.Sprintf("INSERT INTO app.%s VALUES ('%s', 0)", table, id))
		return err
	},
	"transaction with an old snapshot": func(ctx context.Context, c *sql.Conn, table, id string) error {
		return together(ctx, c, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT", "SELECT count(*) FROM app."+table,
			fmt.Sprintf("INSERT INTO app.%s VALUES ('%s', 1)", table, id), fmt.Sprintf("UPDATE app.%s SET v = v + 1 WHERE id = '%s'", table, id), "COMMIT")
	},
	"procedure": func(ctx context.Context, c *sql.Conn, table, id string) error {
		return together(ctx, c, fmt.Sprintf("CALL app.put('%s', '%s')", table, id))
	},
	"prepared": func(ctx context.Context, c *sql.Conn, table, id string) error {
		st, err := c.PrepareContext(ctx, "INSERT INTO app."+table+" VALUES (?, 3)")
		if err != nil {
			return err
		}
		defer func() { _ = st.Close() }()
		_, err = st.ExecContext(ctx, id)
		return err
	},
	"locked": func(ctx context.Context, c *sql.Conn, table, id string) error {
		return together(ctx, c, "LOCK TABLES app."+table+" WRITE", fmt.Sprintf("INSERT INTO app.%s VALUES ('%s', 4)", table, id), "UNLOCK TABLES")
	},
}

// together runs statements until one fails; what is open is rolled back then.
func together(ctx context.Context, c *sql.Conn, statements ...string) error {
	for _, s := range statements {
		if _, err := c.ExecContext(ctx, s); err != nil {
			_, _ = c.ExecContext(ctx, "UNLOCK TABLES")
			_, _ = c.ExecContext(ctx, "ROLLBACK")
			return err
		}
	}
	return nil
}

// hammering starts the writers.
func hammering(e *ends, tables int) *hammer {
	h := &hammer{e: e}
	for _, s := range []*mariadbserver.Server{e.source, e.target} {
		for _, as := range []string{s.User(), "app", "admin"} {
			c := e.config(s)
			if as != s.User() {
				c.User, c.Passwd = as, "secret"
			}
			for way, write := range ways {
				h.wg.Go(func() { h.write(c, s, fmt.Sprintf("%s %s", as, way), write, tables) })
			}
		}
	}
	e.tb.Cleanup(h.end)
	return h
}

func (h *hammer) write(c *mysql.Config, s *mariadbserver.Server, who string, write func(context.Context, *sql.Conn, string, string) error, tables int) {
	connector, err := mysql.NewConnector(c)
	if err != nil {
		h.e.tb.Error(err)
		return
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	for n := 0; !h.stop.Load(); n++ {
		ctx, cancel := context.WithTimeout(context.Background(), streamsWithin)
		conn, err := db.Conn(ctx)
		if err == nil {
			a := ack{table: fmt.Sprintf("h%d", n%tables), id: fmt.Sprintf("%d %s %d", s.Port, who, n), at: s, began: time.Now()}
			if err = write(ctx, conn, a.table, a.id); err == nil {
				a.ended = time.Now()
				h.mu.Lock()
				h.acks = append(h.acks, a)
				h.mu.Unlock()
			}
			_ = conn.Close()
		}
		cancel()
		if err != nil { // refused, for example: leave the processors to the others
			time.Sleep(time.Millisecond)
		}
	}
}

func (h *hammer) end() {
	h.stop.Store(true)
	h.wg.Wait()
}

// written waits until a server has acknowledged more rows than it has now.
func (h *hammer) written(s *mariadbserver.Server, more int) {
	h.e.tb.Helper()
	count := func() (n int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, a := range h.acks {
			if a.at == s {
				n++
			}
		}
		return n
	}
	before := count()
	for until := time.Now().Add(streamsWithin); count() < before+more; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			h.e.tb.Fatalf("the server at port %d acknowledges nothing", s.Port)
		}
	}
}

func TestNoWriteSlipsThroughBetweenTheFormsOfTheFence(t *testing.T) {
	e := startEnds(t)
	const tables = 3
	for _, s := range []*mariadbserver.Server{e.source, e.target} {
		e.sql(s, "SET sql_log_bin = 0", "CREATE USER app@'%' IDENTIFIED BY 'secret'", "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE, LOCK TABLES ON app.* TO app@'%'",
			"CREATE USER admin@'%' IDENTIFIED BY 'secret'", "GRANT ALL ON app.* TO admin@'%'", "GRANT READ ONLY ADMIN, SUPER ON *.* TO admin@'%'")
	}
	e.sql(e.source, "CREATE DATABASE app", "CREATE PROCEDURE app.put(t TEXT, id TEXT) EXECUTE IMMEDIATE CONCAT('INSERT INTO app.', t, ' VALUES (?, 2)') USING id")
	for i := range tables {
		e.sql(e.source, fmt.Sprintf("CREATE TABLE app.h%d (id VARCHAR(100) PRIMARY KEY, v INT)", i))
	}
	c := cross(e, "app")
	step(t, "prepare", c.there.Prepare)
	h := hammering(e, tables)
	type span struct {
		opened             *mariadbserver.Server
		sealed, opens      time.Time
		fencedIn, sealedIn time.Duration
	}
	var spans []span
	from, to := e.source, e.target
	m, other := c.there, c.back
	for range 3 {
		h.written(from, 300)
		step(t, "prepare", m.Prepare)
		began := time.Now()
		mk, err := m.Fence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := span{opened: to, fencedIn: time.Since(began)}
		step(t, "catch up", func(ctx context.Context) error { return m.CatchUp(ctx, mk) })
		c.stream.end()
		began = time.Now()
		step(t, "seal", m.Seal)
		s.sealed, s.sealedIn, s.opens = time.Now(), time.Since(began), time.Now()
		step(t, "open", m.Open)
		spans = append(spans, s)
		h.written(to, 100)
		c.stream = e.replicate(other)
		c.stream.wait()
		step(t, "retire", m.Retire)
		t.Logf("fenced in %s, sealed in %s under load", s.fencedIn.Round(time.Millisecond), s.sealedIn.Round(time.Millisecond))
		from, to, m, other = to, from, other, m
	}
	h.end()
	c.stream.catchUp()
	c.stream.kill()
	for i := range tables {
		e.compare(fmt.Sprintf("SELECT * FROM app.h%d", i))
	}
	there := map[string]bool{}
	for i := range tables {
		for _, id := range e.rows(e.source, fmt.Sprintf("SELECT CONCAT('h%d ', id) FROM app.h%d", i, i)) {
			there[id] = true
		}
	}
	lost := 0
	for _, a := range h.acks {
		if !there[fmt.Sprintf("%q", a.table+" "+a.id)] {
			if lost++; lost < 5 {
				t.Errorf("row %s %s was acknowledged and is gone", a.table, a.id)
			}
		}
		// A server that is sealed takes nothing, until it is opened again.
		serving := e.source
		for _, s := range spans {
			if a.began.After(s.sealed) {
				serving = s.opened
			}
		}
		if a.at != serving && a.began.After(spans[0].sealed) {
			early := false // begun while it served, or after it was opened again
			for _, s := range spans {
				early = early || a.at == s.opened && a.began.Before(s.sealed) && a.ended.After(s.opens)
			}
			if !early {
				t.Errorf("row %s %s was written where nobody serves", a.table, a.id)
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged rows are lost", lost, len(h.acks))
	}
	t.Logf("%d rows acknowledged", len(h.acks))
}
