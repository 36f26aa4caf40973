package mariadb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dhow/internal/mariadbserver"
	"dhow/internal/move"
)

// crossing is a move that streams there, with its way back.
type crossing struct {
	*ends
	there, back *Mover
	stream      *stream
}

// cross sets a move up and lets it stream.
func cross(e *ends, schemas ...string) *crossing {
	e.tb.Helper()
	c := &crossing{ends: e}
	c.anew(schemas...)
	c.stream = e.replicate(c.there)
	c.stream.wait()
	return c
}

// anew replaces the movers, as a new process has them.
func (c *crossing) anew(schemas ...string) {
	c.tb.Helper()
	c.there = c.mover(schemas...)
	var err error
	if c.back, err = c.there.Reverse(); err != nil {
		c.tb.Fatal(err)
	}
	back := c.back
	c.tb.Cleanup(func() { back.Close(context.Background()) })
}

// step runs a step of a mover within the time that a test has.
func step(tb testing.TB, what string, do func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), streamsWithin)
	defer cancel()
	if err := do(ctx); err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
}

// fenced brings a mover to where its target has all that its fenced source has, and its stream has ended.
func (c *crossing) fenced(m *Mover, s *stream) {
	c.tb.Helper()
	step(c.tb, "prepare", m.Prepare)
	var mk move.Marker
	step(c.tb, "fence", func(ctx context.Context) (err error) { mk, err = m.Fence(ctx); return err })
	step(c.tb, "catch up", func(ctx context.Context) error { return m.CatchUp(ctx, mk) })
	s.end()
}

// over moves the service to a mover's target; the stream of the other direction runs then.
func (c *crossing) over(m, other *Mover) {
	c.tb.Helper()
	c.fenced(m, c.stream)
	step(c.tb, "seal", m.Seal)
	step(c.tb, "open", m.Open)
	c.stream = c.replicate(other)
	c.stream.wait()
	step(c.tb, "retire", m.Retire)
}

func (c *crossing) state(m *Mover, want move.State) {
	c.tb.Helper()
	step(c.tb, "state", func(ctx context.Context) error {
		got, err := m.State(ctx)
		if err == nil && got != want {
			err = fmt.Errorf("%+v, want %+v", got, want)
		}
		return err
	})
}

// refused runs a statement that the server must refuse for the guard's sake.
func (e *ends) refused(s *mariadbserver.Server, statement string) {
	e.tb.Helper()
	if err := e.run(s, statement); !isNumber(err, errRefused) {
		e.tb.Errorf("%s: %v, want the guard's error", statement, err)
	}
}

func (e *ends) value(s *mariadbserver.Server, query string) string {
	e.tb.Helper()
	rows := e.rows(s, query)
	if len(rows) != 1 {
		e.tb.Fatalf("%s: %d rows", query, len(rows))
	}
	return strings.Trim(rows[0], `"`)
}

var (
	served    = move.State{Started: true, Copied: true, Sealed: true, Open: true}
	following = move.State{Started: true, Copied: true}
)

func TestThereBackAndThereAgain(t *testing.T) {
	for _, strict := range []string{"ON", "OFF"} {
		t.Run("gtid_strict_mode="+strict, func(t *testing.T) {
			t.Parallel()
			e := startEnds(t, "gtid_strict_mode", strict, "event_scheduler", "ON")
			e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "CREATE TABLE app.empty (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
				"CREATE TABLE app.log (side INT, n INT AUTO_INCREMENT PRIMARY KEY)", "CREATE SEQUENCE app.s", "CREATE SEQUENCE app.down INCREMENT -2 CACHE 3", "CREATE SEQUENCE app.plain NOCACHE",
				"INSERT INTO app.t (v) VALUES (1), (2), (3)", "ALTER TABLE app.empty AUTO_INCREMENT = 500", "DO NEXTVAL(app.s), NEXTVAL(app.down), NEXTVAL(app.plain)",
				"CREATE DEFINER = nobody@localhost EVENT app.idle ON SCHEDULE EVERY 1 YEAR DISABLE DO DELETE FROM app.t",
				"SET NAMES latin1", "CREATE EVENT app.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.log (side) VALUES (@@server_id)")
			c := cross(e, "app")
			kept := "SELECT event_name, definer, sql_mode, time_zone, character_set_client, collation_connection, event_definition, interval_value FROM information_schema.events WHERE event_schema = 'app'"
			events := e.rows(e.source, kept)
			c.state(c.there, following)
			e.refused(e.target, "INSERT INTO app.t (v) VALUES (9)")
			rounds := 0
			for _, leg := range []struct {
				m, other *Mover
				from, to *mariadbserver.Server
			}{{c.there, c.back, e.source, e.target}, {c.back, c.there, e.target, e.source}, {c.there, c.back, e.source, e.target}, {c.back, c.there, e.target, e.source}} {
				rounds++
				// Numbers that no row keeps.
				e.sql(leg.from, "BEGIN", "INSERT INTO app.t (v) VALUES (7), (8), (9)", "ROLLBACK", "INSERT INTO app.t (v) VALUES (10)", "DELETE FROM app.t WHERE v = 10",
					"BEGIN", "INSERT INTO app.empty (v) VALUES (7)", "ROLLBACK", "DO NEXTVAL(app.s), NEXTVAL(app.down), NEXTVAL(app.plain)")
				numbers := "SELECT table_name, auto_increment FROM information_schema.tables WHERE table_schema = 'app' AND table_name IN ('t', 'empty')"
				next := e.rows(leg.from, numbers)
				last := e.rows(leg.from, "SELECT NEXTVAL(app.s), NEXTVAL(app.down), NEXTVAL(app.plain)")[0]
				c.over(leg.m, leg.other)
				c.state(leg.m, served)
				c.state(leg.other, following)
				if got := e.rows(leg.to, numbers); !slices.Equal(got, next) {
					t.Errorf("round %d: next numbers %v, the other side's were %v", rounds, got, next)
				}
				var a, b, x, y, p, q int
				parse(t, last, &a, &b, &x)
				parse(t, e.rows(leg.to, "SELECT NEXTVAL(app.s), NEXTVAL(app.down), NEXTVAL(app.plain)")[0], &p, &q, &y)
				if p <= a || q >= b || y != x+1 {
					t.Errorf("round %d: sequences gave %d %d %d after %d %d %d", rounds, p, q, y, a, b, x)
				}
				e.refused(leg.from, "INSERT INTO app.t (v) VALUES (9)")
				e.refused(leg.from, "UPDATE app.t SET v = v + 1")
				e.refused(leg.from, "DELETE FROM app.t")
				e.sql(leg.to, fmt.Sprintf("INSERT INTO app.t (v) VALUES (%d)", 100+rounds))
				if got := e.value(leg.from, "SELECT count(*) FROM information_schema.events WHERE event_schema = 'app' AND status = 'ENABLED'"); got != "0" {
					t.Errorf("round %d: %s events are enabled where nobody serves", rounds, got)
				}
				if got := e.value(leg.to, "SELECT GROUP_CONCAT(event_name) FROM information_schema.events WHERE event_schema = 'app' AND status = 'ENABLED'"); got != "tick" {
					t.Errorf("round %d: enabled events are %s", rounds, got)
				}
				c.stream.catchUp()
				e.compare("SELECT * FROM app.t")
			}
			for _, s := range []*mariadbserver.Server{e.source, e.target} {
				if got := e.rows(s, kept); !slices.Equal(got, events) {
					t.Errorf("events became %v, were %v", got, events)
				}
			}
			c.stream.kill()
			step(t, "finish", c.there.Finish)
			step(t, "finish again", c.there.Finish)
			for _, side := range []string{source, target} {
				left, err := c.there.Leftovers(t.Context(), side)
				if err != nil || len(left) > 0 {
					t.Errorf("left at the %s: %v, %v", side, left, err)
				}
			}
			e.sql(e.source, "INSERT INTO app.t (v) VALUES (1000)")
		})
	}
}

// TestAnEventWhoseMomentPassesInBetweenFiresOnce: neither never nor twice, wherever
// the moves stands when the moment comes.
func TestAnEventWhoseMomentPassesInBetweenFiresOnce(t *testing.T) {
	e := startEnds(t, "event_scheduler", "ON")
	e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.log (n INT AUTO_INCREMENT PRIMARY KEY, side INT)", "CREATE TABLE app.t (id INT PRIMARY KEY)", "CREATE TABLE app.u (id INT PRIMARY KEY)")
	c := cross(e, "app")
	step(t, "prepare", c.there.Prepare)
	// Tables that change their names take their triggers along.
	e.sql(e.source, "RENAME TABLE app.t TO app.x, app.u TO app.t", "CREATE TABLE app.u (id INT PRIMARY KEY)",
		"CREATE EVENT app.once ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL 1 SECOND DO INSERT INTO app.log (side) VALUES (@@server_id)")
	c.stream.catchUp()
	c.fenced(c.there, c.stream)
	step(t, "seal", c.there.Seal)
	for _, table := range []string{"t", "u", "x"} {
		e.refused(e.source, "INSERT INTO app."+table+" VALUES (1)")
	}
	e.wait(e.target, "SELECT COALESCE(MAX(execute_at) < NOW(), TRUE) FROM information_schema.events WHERE event_name = 'once'")
	step(t, "open", c.there.Open)
	c.stream = e.replicate(c.back)
	c.stream.wait()
	e.wait(e.target, "SELECT count(*) = 0 FROM information_schema.events WHERE event_name = 'once' AND status = 'ENABLED'")
	e.wait(e.target, "SELECT count(*) > 0 FROM app.log")
	c.stream.catchUp()
	for _, s := range []*mariadbserver.Server{e.source, e.target} {
		if n := e.value(s, "SELECT count(*) FROM app.log"); n != "1" {
			t.Errorf("the event fired %s times", n)
		}
	}
}

// wait returns when a query's answer is 1.
func (e *ends) wait(s *mariadbserver.Server, query string) {
	e.tb.Helper()
	for until := time.Now().Add(streamsWithin); e.value(s, query) != "1"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			e.tb.Fatalf("it does not come true: %s", query)
		}
	}
}

// parse reads the quoted numbers of a row.
func parse(tb testing.TB, row string, into ...*int) {
	tb.Helper()
	words := strings.Fields(strings.ReplaceAll(row, `"`, ""))
	if len(words) != len(into) {
		tb.Fatalf("%d numbers in %s", len(words), row)
	}
	for i, w := range words {
		if _, err := fmt.Sscan(w, into[i]); err != nil {
			tb.Fatal(err)
		}
	}
}
