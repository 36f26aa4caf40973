package mariadb

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/move"
)

// promote hands the writes over, as the cutover does, and returns the way back.
func (s *stream) promote() *Mover {
	s.e.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), streamsWithin)
	defer cancel()
	step := func(name string, err error) {
		s.e.tb.Helper()
		if err != nil {
			s.e.tb.Fatalf("%s: %v", name, err)
		}
	}
	step("prepare", s.m.Prepare(ctx))
	mk, err := s.m.Fence(ctx)
	step("fence", err)
	step("catch up", s.m.CatchUp(ctx, mk))
	s.end()
	step("seal", s.m.Seal(ctx))
	step("open", s.m.Open(ctx))
	step("retire", s.m.Retire(ctx))
	back, err := s.m.Reverse()
	step("reverse", err)
	s.e.tb.Cleanup(func() { back.Close(context.Background()) })
	return back
}

// thereAndBackAndThere moves the writes to the target, back, and there again; after
// each step both sides are equal, and nothing is copied again.
func (e *ends) thereAndBackAndThere() {
	e.tb.Helper()
	s := e.replicate(e.mover("app"))
	s.wait()
	e.sql(e.source, "INSERT INTO app.t (a) VALUES ('in the stream')")
	s.catchUp()
	e.equal("app")
	s.end()
	e.sql(e.source, "INSERT INTO app.t (a) VALUES ('while it stood still')")
	s = e.replicate(e.mover("app"))
	s.wait()
	back := e.replicate(s.promote())
	back.wait()
	e.sql(e.target, "INSERT INTO app.t (a) VALUES ('at the new side')", "UPDATE app.t SET a = 'changed there' WHERE id = 1")
	if err := e.run(e.source, "INSERT INTO app.t (a) VALUES ('at the old side')"); err == nil {
		e.tb.Error("the old side takes writes")
	}
	back.catchUp()
	e.equal("app")
	again := e.replicate(back.promote())
	again.wait()
	e.sql(e.source, "INSERT INTO app.t (a) VALUES ('back again')", "DELETE FROM app.t WHERE id = 2")
	again.catchUp()
	e.equal("app")
	third := e.replicate(again.promote())
	third.wait()
	e.sql(e.target, "INSERT INTO app.t (a) VALUES ('and there again')")
	third.catchUp()
	e.equal("app")
	third.end()
	e.compare("SELECT COUNT(*), SUM(id), MAX(a) FROM app.t")
}

const threeRows = "INSERT INTO app.t (a) VALUES ('one'), ('two'), ('three')"

func TestThereAndBackWithNativeReplication(t *testing.T) {
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(40))", threeRows)
	e.thereAndBackAndThere()
}

func TestThereAndBackWithAManagedServer(t *testing.T) {
	e := &ends{tb: t, source: mariadbtest.Start(t), target: mariadbtest.Start(t, mariadbtest.ManagedSettings()...)}
	e.managed = map[string][2]string{}
	user, password := mariadbtest.Manage(t, e.target)
	e.managed[e.config(e.target).Addr] = [2]string{user, password}
	e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(40), KEY (a))", threeRows)
	m := e.mover("app")
	conn, err := m.session(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := unlogged(t.Context(), conn); ok || err != nil {
		t.Errorf("the account may leave the binary log out: %v, %v", ok, err)
	}
	if r, err := m.replication(t.Context(), conn); err != nil {
		t.Error(err)
	} else if _, is := r.(*rdsReplication); !is {
		t.Errorf("the replication is steered by %T", r)
	}
	hangUp(conn)
	e.thereAndBackAndThere()
}

func TestABrokenStreamSaysWhatToDo(t *testing.T) {
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, a VARCHAR(40))", "INSERT INTO app.t VALUES (1, 'a secret')")
	s := e.replicate(e.mover("app"))
	s.wait()
	e.sql(e.target, "SET sql_log_bin = 0", "UPDATE dhow.gate SET refuses = FALSE", "INSERT INTO app.t VALUES (2, 'a secret')")
	e.sql(e.source, "INSERT INTO app.t VALUES (2, 'my secret')")
	select {
	case <-s.ended:
	case <-time.After(streamsWithin):
		t.Fatal("it streams over a row that is there already")
	}
	var refused *move.Refused
	if !errors.As(s.err, &refused) || !strings.Contains(s.err.Error(), "app.t") || !strings.Contains(s.err.Error(), "somebody wrote on the target") || strings.Contains(s.err.Error(), "secret") {
		t.Errorf("replicate: %v", s.err)
	}
	e.sql(e.target, "SET sql_log_bin = 0", "DELETE FROM app.t WHERE id = 2")
	s = e.replicate(e.mover("app"))
	s.wait()
	s.catchUp()
	e.equal("app")
	// Only one moves it at a time.
	if err := e.mover("app").Replicate(t.Context(), func(move.Progress) {}); err == nil || !strings.Contains(err.Error(), "another dhow moves") {
		t.Errorf("a second mover: %v", err)
	}
	s.end()
	// Of a log that is gone nothing can be told.
	e.sql(e.source, "INSERT INTO app.t VALUES (3, '')", "FLUSH BINARY LOGS", "INSERT INTO app.t VALUES (4, '')", "FLUSH BINARY LOGS")
	// A reader that was stopped keeps its file until the source misses it.
	for _, id := range e.rows(e.source, "SELECT id FROM information_schema.processlist WHERE command = 'Binlog Dump'") {
		e.sql(e.source, "KILL "+plain(id))
	}
	e.until("SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Binlog Dump'", "0")
	logs := e.rows(e.source, "SHOW BINARY LOGS")
	last := plain(strings.Fields(logs[len(logs)-1])[0])
	// The server keeps a file until it has written down that it does not need it.
	for began := time.Now(); len(e.rows(e.source, "SHOW BINARY LOGS")) > 1 && time.Since(began) < streamsWithin; time.Sleep(50 * time.Millisecond) {
		e.sql(e.source, "PURGE BINARY LOGS TO '"+last+"'")
	}
	s = e.replicate(e.mover("app"))
	select {
	case <-s.ended:
	case <-time.After(streamsWithin):
		t.Fatal("it streams from a log that is gone")
	}
	if err := s.err; err == nil || !strings.Contains(err.Error(), "no longer keeps the log") {
		t.Errorf("with a purged log: %v", err)
	}
}

func TestATargetThatIsNotEmptyIsRefused(t *testing.T) {
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY)")
	e.sql(e.target, "CREATE DATABASE app", "CREATE TABLE app.x (id INT PRIMARY KEY)")
	if err := e.mover("app").Replicate(t.Context(), func(move.Progress) {}); err == nil || !strings.Contains(err.Error(), "not empty: it has app.x") {
		t.Errorf("replicate: %v", err)
	}
}
