package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/mariadbserver"
)

// fenceEnds are a move that streams, tables of several engines, and accounts
// that are less and more than ordinary.
func fenceEnds(t *testing.T) *crossing {
	t.Helper()
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "CREATE TABLE app.u (id INT PRIMARY KEY, v INT)",
		"CREATE SEQUENCE app.s",
		"CREATE PROCEDURE app.put() INSERT INTO app.t (v) VALUES (1)", "CREATE FUNCTION app.add() RETURNS INT DETERMINISTIC BEGIN INSERT INTO app.t (v) VALUES (1); RETURN 1; END",
		"INSERT INTO app.t (v) VALUES (1), (2)", "INSERT INTO app.u VALUES (1, 1)")
	for _, s := range []*mariadbserver.Server{e.source, e.target} {
		e.sql(s, "SET sql_log_bin = 0", "CREATE USER app@'%' IDENTIFIED BY 'secret'", "GRANT ALL ON app.* TO app@'%'",
			"CREATE USER exempt@'%' IDENTIFIED BY 'secret'", "GRANT ALL ON *.* TO exempt@'%'")
	}
	c := cross(e, "app")
	// Tables of which no snapshot can be taken come by the stream alone.
	e.sql(e.source, "CREATE TABLE app.m (id INT PRIMARY KEY, v INT) ENGINE = MyISAM", "CREATE TABLE app.a (id INT PRIMARY KEY, v INT) ENGINE = Aria", "INSERT INTO app.m VALUES (1, 1)", "INSERT INTO app.a VALUES (1, 1)")
	c.stream.catchUp()
	return c
}

// as is a pool of an account's sessions.
func (e *ends) as(user string, s *mariadbserver.Server) *sql.DB {
	e.tb.Helper()
	c := e.config(s)
	c.User, c.Passwd, c.DBName = user, "secret", "app"
	connector, err := mysql.NewConnector(c)
	if err != nil {
		e.tb.Fatal(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(0)
	e.tb.Cleanup(func() { _ = db.Close() })
	return db
}

// rowWrites are what the guard must refuse, of any role.
var rowWrites = []string{"INSERT INTO app.t (v) VALUES (1)", "REPLACE INTO app.t VALUES (1, 5)", "UPDATE app.t SET v = v + 1", "DELETE FROM app.t", "INSERT INTO app.u VALUES (1, 2) ON DUPLICATE KEY UPDATE v = 3",
	"INSERT INTO app.t (v) SELECT v FROM app.u", "UPDATE app.t JOIN app.u USING (id) SET app.t.v = 4, app.u.v = 4", "DELETE app.t, app.u FROM app.t JOIN app.u", "CALL app.put()", "SELECT app.add()",
	"EXECUTE IMMEDIATE 'DELETE FROM app.u'", "BEGIN NOT ATOMIC DELETE FROM app.u; END", "INSERT INTO app.m VALUES (7, 7)", "UPDATE app.a SET v = 9", "DELETE FROM app.m"}

// schemaChanges are what only locks, or read_only, stop.
var schemaChanges = []string{"TRUNCATE app.t", "ALTER TABLE app.t ADD COLUMN w INT", "DROP TABLE app.u", "RENAME TABLE app.u TO app.v", "CREATE INDEX x ON app.t (v)", "TRUNCATE app.m",
	"CREATE OR REPLACE TABLE app.u (x INT)", "LOCK TABLES app.t WRITE", "DROP DATABASE app"}

func TestTheFenceStopsEveryRole(t *testing.T) {
	c := fenceEnds(t)
	e := c.ends
	step(t, "prepare", c.there.Prepare)
	before := e.rows(e.source, "SELECT * FROM app.t")
	if _, err := c.there.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"app", "exempt"} {
		db := e.as(user, e.source)
		for _, sql := range append(append([]string{"SELECT NEXTVAL(app.s)", "BEGIN NOT ATOMIC XA START 'x'; DELETE FROM app.t; XA END 'x'; XA PREPARE 'x'; END"}, rowWrites...), schemaChanges...) {
			conn, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.ExecContext(t.Context(), "SET SESSION lock_wait_timeout = 0"); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.ExecContext(t.Context(), sql); !isNumber(err, errLockWait) {
				t.Errorf("%s as %s: %v, want to wait for the fence", sql, user, err)
			}
			_ = conn.Close()
		}
	}
	if after := e.rows(e.source, "SELECT * FROM app.t"); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("rows %v became %v", before, after)
	}
	step(t, "unfence", c.there.Unfence)
	e.sql(e.source, "INSERT INTO app.t (v) VALUES (1)", "DO NEXTVAL(app.s)")
	c.state(c.there, following)
}

// TestTheFenceVanishesWithItsOwner: whatever becomes of the process that fences.
func TestTheFenceVanishesWithItsOwner(t *testing.T) {
	c := fenceEnds(t)
	e := c.ends
	c.stream.end()
	var conns sync.Map
	dialled := e.config(e.source)
	dialled.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			conns.Store(conn, true)
		}
		return conn, err
	}
	deaths := map[string]func(m *Mover){
		"killed": func(*Mover) {
			conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true }) // as the kernel does
		},
		"closed": func(m *Mover) { m.Close(context.Background()) },
		"silent": func(m *Mover) { // its host is gone: nothing is sent any more
			m.fence.stop()
			m.fence.working.Wait()
		},
	}
	for name, die := range deaths {
		t.Run(name, func(t *testing.T) {
			cfg := c.there.cfg
			cfg.Source = dialled
			m, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Close(context.Background()) })
			step(t, "prepare", m.Prepare)
			if _, err := m.Fence(t.Context()); err != nil {
				t.Fatal(err)
			}
			die(m)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), (fenceSilence+10)*time.Second)
			defer cancel()
			if _, err := e.as("app", e.source).ExecContext(ctx, "INSERT INTO app.t (v) VALUES (1)"); err != nil {
				t.Fatalf("the application still waits after %s: %v", time.Since(began), err)
			}
			if took := time.Since(began); took > (fenceSilence+2)*time.Second {
				t.Errorf("the application waited for %s", took)
			}
			if err := m.Seal(t.Context()); err == nil {
				t.Error("a fence that was lost was sealed")
			}
			m.Close(context.Background())
			c.anew("app")
			step(t, "unfence", c.there.Unfence)
			c.state(c.there, following)
			e.sql(e.source, "INSERT INTO app.t (v) VALUES (2)")
		})
	}
}

// counts waits until the source has got so many more commands of a kind.
func (e *ends) counts(variable string, more int) {
	e.tb.Helper()
	const count = "SELECT CAST(variable_value AS INT) FROM information_schema.global_status WHERE variable_name = '%s'"
	before := e.value(e.source, fmt.Sprintf(count, variable))
	e.wait(e.source, fmt.Sprintf("SELECT ("+count+") >= %s + %d", variable, before, more))
}

func TestTheFenceWaitsForOpenWritesAndNeverBlocksForLong(t *testing.T) {
	c := fenceEnds(t)
	e := c.ends
	step(t, "prepare", c.there.Prepare)
	open, err := e.as("app", e.source).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := together(t.Context(), open, "BEGIN", "INSERT INTO u VALUES (50, 1)"); err != nil {
		t.Fatal(err)
	}
	var longest atomic.Int64
	var done atomic.Bool
	var wg sync.WaitGroup
	others := e.as("app", e.source)
	wg.Go(func() {
		for !done.Load() {
			began := time.Now()
			if _, err := others.ExecContext(context.Background(), "INSERT INTO t (v) VALUES (1)"); err != nil {
				t.Error(err)
			}
			longest.Store(max(longest.Load(), int64(time.Since(began))))
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fenced := make(chan error, 1)
	go func() { _, err := c.there.Fence(ctx); fenced <- err }()
	e.counts("Com_lock_tables", 5) // it tries again and again
	cancel()
	err = <-fenced
	done.Store(true)
	wg.Wait()
	if err == nil || !strings.Contains(err.Error(), "(app, Sleep)") {
		t.Errorf("fenced over an open transaction: %v", err)
	}
	if took := time.Duration(longest.Load()); took > 5*lockTry {
		t.Errorf("the application waited for %s", took)
	}
	if err := together(t.Context(), open, "INSERT INTO u VALUES (51, 1)", "COMMIT"); err != nil {
		t.Errorf("the open transaction was harmed: %v", err)
	}
	// Told to, the fence ends it.
	if err := together(t.Context(), open, "BEGIN", "INSERT INTO u VALUES (52, 1)"); err != nil {
		t.Fatal(err)
	}
	cfg := c.there.cfg
	cfg.Stragglers = TerminateSessions
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close(t.Context())
	step(t, "prepare", m.Prepare)
	step(t, "fence", func(ctx context.Context) error { _, err := m.Fence(ctx); return err })
	if err := together(t.Context(), open, "COMMIT"); err == nil {
		t.Error("the open transaction was not ended")
	}
	step(t, "unfence", m.Unfence)
	if n := e.value(e.source, "SELECT count(*) FROM app.u WHERE id >= 50"); n != "2" {
		t.Errorf("%s rows of open transactions, want those of the first", n)
	}
}

func TestPreparedTransactionsAreWaitedFor(t *testing.T) {
	c := fenceEnds(t)
	e := c.ends
	step(t, "prepare", c.there.Prepare)
	e.sql(e.source, "XA START 'x'", "INSERT INTO app.t (v) VALUES (77)", "XA END 'x'", "XA PREPARE 'x'")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fenced := make(chan error, 1)
	go func() { _, err := c.there.Fence(ctx); fenced <- err }()
	e.counts("Com_xa_recover", 3) // it looks again and again
	cancel()
	if err := <-fenced; err == nil || !strings.Contains(err.Error(), "XA RECOVER") {
		t.Errorf("fenced over a prepared transaction: %v", err)
	}
	committed := make(chan error, 1)
	go func() { committed <- e.run(e.source, "XA COMMIT 'x'") }()
	step(t, "fence", func(ctx context.Context) error {
		mk, err := c.there.Fence(ctx)
		if err != nil {
			return err
		}
		return c.there.CatchUp(ctx, mk)
	})
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	if n := e.value(e.target, "SELECT count(*) FROM app.t WHERE v = 77"); n != "1" {
		t.Errorf("the prepared transaction's row is %s times at the target", n)
	}
}

// TestASealedSourceRefusesForever: every role and way of writing, also of sessions
// and programs that began before, and after restarts.
func TestASealedSourceRefusesForever(t *testing.T) {
	c := fenceEnds(t)
	e := c.ends
	step(t, "prepare", c.there.Prepare)
	db := e.as("exempt", e.source)
	session := func(statements ...string) *sql.Conn {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		for _, s := range statements {
			if _, err := conn.ExecContext(t.Context(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		return conn
	}
	old := session("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT", "SELECT * FROM u")
	warm := session("CALL put()", "DO app.add()")
	prepared, err := session().PrepareContext(t.Context(), "UPDATE t SET v = ? WHERE id = 1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := prepared.ExecContext(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	gate := session("DO GET_LOCK('sealed', 0)")
	// Programs that write every now and then, and one that wrote before and writes again when all is over.
	loop := "BEGIN NOT ATOMIC DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN GET DIAGNOSTICS CONDITION 1 @n = MYSQL_ERRNO; END; WHILE TRUE DO INSERT INTO t (v) VALUES (9); COMMIT; DO SLEEP(0.001); END WHILE; END"
	var programs sync.WaitGroup
	ended := make([]string, 3)
	for i, statement := range []string{loop, loop, "CALL later()"} {
		if i == 2 {
			e.sql(e.source, "CREATE PROCEDURE app.later() BEGIN SET @x = app.add(); COMMIT; DO GET_LOCK('sealed', 60); SET @x = app.add(); END")
		}
		conn := session()
		programs.Go(func() {
			_, err := conn.ExecContext(context.Background(), statement)
			switch {
			case err == nil:
				_ = conn.QueryRowContext(context.Background(), "SELECT @n").Scan(&ended[i])
			case isNumber(err, errRefused):
				ended[i] = fmt.Sprint(errRefused)
			default:
				ended[i] = err.Error()
			}
		})
	}
	var mk = struct{ rows []string }{}
	step(t, "fence", func(ctx context.Context) error {
		m, err := c.there.Fence(ctx)
		if err != nil {
			return err
		}
		mk.rows = e.rows(e.source, "SELECT * FROM app.t")
		return c.there.CatchUp(ctx, m)
	})
	// These wait, and go on when the locks are gone.
	var waiting sync.WaitGroup
	for _, sql := range []string{"TRUNCATE t", "/* x */ ALTER TABLE t ADD COLUMN w INT", "INSERT INTO m VALUES (70, 7)", "INSERT INTO a VALUES (70, 7)", "CALL put()"} {
		conn := session()
		waiting.Go(func() {
			if _, err := conn.ExecContext(context.Background(), sql); !isNumber(err, errRefused, errInterrupted) {
				t.Errorf("%s waited and then: %v", sql, err)
			}
		})
	}
	for until := time.Now().Add(streamsWithin); e.value(e.source, "SELECT count(*) >= 5 FROM information_schema.processlist WHERE state LIKE 'Waiting for table%'") != "1"; {
		if time.Now().After(until) {
			t.Fatal("nobody waits for the fence")
		}
	}
	c.stream.end()
	step(t, "seal", c.there.Seal)
	waiting.Wait()
	_ = gate.Close()
	programs.Wait()
	for i, n := range ended {
		if n != fmt.Sprint(errRefused) {
			t.Errorf("program %d ended with %q, want the guard's error", i, n)
		}
	}
	for name, conn := range map[string]*sql.Conn{"old snapshot": old, "warm": warm} {
		for _, w := range rowWrites {
			if _, err := conn.ExecContext(t.Context(), w); !isNumber(err, errRefused) {
				t.Errorf("%s, %s: %v", name, w, err)
			}
		}
		_, _ = conn.ExecContext(t.Context(), "ROLLBACK") // rows that it has locked
	}
	if _, err := prepared.ExecContext(t.Context(), 6); !isNumber(err, errRefused) {
		t.Errorf("a prepared statement: %v", err)
	}
	for _, restart := range []func(){nil, e.source.Kill, func() { _ = e.source.Restart(t.Context()) }} {
		if restart != nil {
			restart()
			if err := e.source.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, user := range []string{"app", "exempt"} {
			db := e.as(user, e.source)
			for _, w := range rowWrites {
				if _, err := db.ExecContext(t.Context(), w); !isNumber(err, errRefused) {
					t.Errorf("%s as %s: %v", w, user, err)
				}
			}
		}
		if restart == nil { // read_only is gone with the first restart, and the guard is not
			for _, w := range schemaChanges {
				if _, err := e.as("app", e.source).ExecContext(t.Context(), w); !isNumber(err, errRefused) && !strings.HasPrefix(w, "LOCK") {
					t.Errorf("%s as app: %v", w, err)
				}
			}
		}
		c.state(c.there, sealed)
	}
	if rows := e.rows(e.source, "SELECT * FROM app.t"); strings.Join(rows, " ") != strings.Join(mk.rows, " ") {
		t.Errorf("rows changed behind the fence: %s", brief(rows, mk.rows))
	}
	step(t, "unfence", c.there.Unfence)
	c.state(c.there, following)
	if _, err := e.as("app", e.source).ExecContext(t.Context(), "INSERT INTO t (v) VALUES (1)"); err != nil {
		t.Error(err)
	}
}
