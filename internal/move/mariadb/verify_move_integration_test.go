package mariadb

import (
	"context"
	"slices"
	"strings"
	"testing"

	"dhow/internal/move"
)

// TestVerifyAMove compares a real move in each of its states: while it streams here,
// while nothing streams, after the stream broke, after the cutover by what was pinned,
// and the way back.
func TestVerifyAMove(t *testing.T) {
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "INSERT INTO app.t (v) SELECT seq FROM mysql.seq_1_to_1000",
		"CREATE TABLE app.log (v INT)", "INSERT INTO app.log VALUES (1), (1), (2)", "CREATE TABLE app.audit (n INT)", "CREATE TRIGGER app.audit_t AFTER INSERT ON app.t FOR EACH ROW INSERT INTO app.audit VALUES (1)",
		"CREATE TABLE app.past (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING", "INSERT INTO app.past VALUES (1, 1)", "UPDATE app.past SET v = 2", "CREATE SEQUENCE app.s")
	c := cross(e, "app")
	same := func(when string, m *Mover, o move.VerifyOptions) {
		t.Helper()
		got, err := m.Verify(t.Context(), o, nil)
		if err != nil || got.Different != 0 || got.Undecided != 0 || got.Tables != 4 || len(got.ByTable) != 4 || got.Rows < 1005 {
			t.Fatalf("%s: %+v, %v", when, got, err)
		}
	}
	repaired := func(when string, m *Mover, rows int64) {
		t.Helper()
		got, err := m.Verify(t.Context(), move.VerifyOptions{Repair: true}, nil)
		if err != nil || got.Different != rows || got.Repaired != rows {
			t.Fatalf("%s: %v, %v", when, told(got), err)
		}
	}
	wrong := func(statements ...string) {
		t.Helper()
		// As nobody can: without the guard and the application's triggers, unseen by the log.
		e.sql(e.target, slices.Concat([]string{"SET sql_log_bin = 0"}, statements)...)
	}
	same("while it streams", c.there, move.VerifyOptions{})
	wrong("TRUNCATE app.log")
	repaired("rows of the target are gone", c.there, 3)
	triggers := "SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = 'app'"
	if n := e.value(e.target, triggers); n != "13" {
		t.Errorf("the target has %s triggers", n)
	}
	e.refused(e.target, "INSERT INTO app.t (v) VALUES (9)")

	c.stream.end()
	e.sql(e.source, "INSERT INTO app.t (v) VALUES (2000)")
	c.anew("app")
	same("while nothing streams", c.there, move.VerifyOptions{})
	if n := e.value(e.target, "SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Slave%'"); n != "0" {
		t.Errorf("the replication goes on after the comparison")
	}

	// The stream breaks at a row that is not there.
	wrong("SET GLOBAL gtid_strict_mode = OFF", "TRUNCATE app.t")
	e.sql(e.source, "UPDATE app.t SET v = 7 WHERE id = 7", "DELETE FROM app.t WHERE id = 8")
	if _, err := c.there.Verify(t.Context(), move.VerifyOptions{}, nil); err == nil || !strings.Contains(err.Error(), "1032") {
		t.Fatalf("a stream that breaks: %v", err)
	}
	repaired("a stream that broke", c.there, 1000)
	same("after that", c.there, move.VerifyOptions{})
	if mode := e.value(e.target, "SELECT @@GLOBAL.slave_exec_mode"); mode != "STRICT" {
		t.Errorf("slave_exec_mode stays %s", mode)
	}
	if n := e.value(e.target, "SELECT COUNT(*) FROM app.audit"); n != e.value(e.source, "SELECT COUNT(*) FROM app.audit") {
		t.Errorf("a repair fired triggers: %s rows", n)
	}

	c.stream = e.replicate(c.there)
	c.stream.wait()
	c.fenced(c.there, c.stream)
	step(t, "pin", c.there.Pin)
	step(t, "seal", c.there.Seal)
	same("sealed", c.there, move.VerifyOptions{})
	step(t, "open", c.there.Open)
	e.sql(e.target, "DELETE FROM app.t WHERE id > 100", "INSERT INTO app.t (v) VALUES (1)", "INSERT INTO app.log VALUES (1)")
	if _, err := c.there.Verify(t.Context(), move.VerifyOptions{}, nil); err == nil || !strings.Contains(err.Error(), "way back") {
		t.Errorf("an open target: %v", err)
	}
	same("what was pinned", c.there, move.VerifyOptions{Pinned: true})
	c.there.Unpin(context.Background())

	back := e.replicate(c.back)
	back.wait()
	got, err := c.back.Verify(t.Context(), move.VerifyOptions{}, nil)
	if err != nil || got.Different != 0 || got.Undecided != 0 || got.Tables != 4 {
		t.Errorf("the way back: %+v, %v", got, err)
	}
	back.kill()
}
