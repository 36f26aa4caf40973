package mariadb

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/move"
)

// mortal makes connections that all end at once, as those of a process that is
// killed, when a given number of messages has been sent.
type mortal struct {
	mu    sync.Mutex
	left  int    // messages until death; negative: it lives for ever
	only  []byte // nil: all count, else those that hold it
	sent  int
	dead  bool
	conns []net.Conn
}

var errDead = errors.New("this process is dead")

func (p *mortal) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return nil, errDead
	}
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	p.conns = append(p.conns, c)
	return &mortalConn{Conn: c, of: p}, nil
}

type mortalConn struct {
	net.Conn
	of *mortal
}

// Write sends a message, or kills all. The message of that moment is still sent: a
// server that does something whose answer nobody reads is the worst case.
func (c *mortalConn) Write(b []byte) (int, error) {
	p := c.of
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return 0, errDead
	}
	p.sent++
	n, err := c.Conn.Write(b)
	if bytes.Contains(b, p.only) {
		p.left--
	}
	if p.left == 0 {
		p.dead = true
		for _, c := range p.conns {
			_ = c.Close()
		}
		return 0, errDead
	}
	return n, err
}

// TestKilledBetweenAnyTwoStatements: whatever statement is the last, the servers say
// how it stands, never do both sides take writes, and all goes back or forth again.
func TestKilledBetweenAnyTwoStatements(t *testing.T) {
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "CREATE SEQUENCE app.s", "INSERT INTO app.t (v) VALUES (1)",
		"CREATE EVENT app.tick ON SCHEDULE EVERY 1 HOUR DO DELETE FROM app.t WHERE v = 12345")
	c := cross(e, "app")
	c.stream.catchUp()
	c.stream.end()
	quiet := func(c *mysql.Config, p *mortal) *mysql.Config {
		c = c.Clone()
		c.DialFunc, c.Logger = p.dial, &mysql.NopLogger{}
		return c
	}
	from, to := e.source, e.target
	here, there := c.there, c.back
	deaths, crossings := 0, 0
	for n := 1; crossings < 1; n++ {
		p := &mortal{left: -1}
		cfg := here.cfg
		cfg.Source, cfg.Target = quiet(cfg.Source, p), quiet(cfg.Target, p)
		m, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		step(t, "prepare", m.Prepare)
		e.sql(from, "BEGIN", "INSERT INTO app.t (v) VALUES (1)", "ROLLBACK") // a number to carry
		p.mu.Lock()
		p.left = n
		p.mu.Unlock()
		run := func(do func(context.Context) error) {
			if err == nil {
				err = do(t.Context())
			}
		}
		run(func(ctx context.Context) error { _, err := m.Fence(ctx); return err })
		run(m.Seal)
		run(m.Open)
		m.Close(context.Background())
		if err == nil && p.dead {
			err = errDead // of a last word
		}
		var s move.State
		step(t, "state", func(ctx context.Context) (err error) { s, err = here.State(ctx); return err })
		switch {
		case s.Open && !s.Sealed:
			t.Fatalf("killed at message %d, both sides take writes", n)
		case err == nil && !s.Open:
			t.Fatalf("nobody was killed, and the target is not open: %+v", s)
		}
		if !s.Open {
			ctx, cancel := context.WithTimeout(t.Context(), streamsWithin)
			undone := here.Unfence(ctx)
			cancel()
			var refused *move.Refused
			if errors.As(undone, &refused) {
				// The dead process's last word came after the server was asked how it
				// stands: the target is open, and who undoes must refuse.
				step(t, "state", func(ctx context.Context) (err error) { s, err = here.State(ctx); return err })
			}
			if undone != nil && (!s.Open || !s.Sealed) {
				t.Fatalf("killed at message %d, it can not be undone: %v (%+v)", n, undone, s)
			}
		}
		if !s.Open {
			deaths++
			c.state(here, following)
			if err := e.run(from, "INSERT INTO app.t (v) VALUES (2)", "DELETE FROM app.t WHERE v = 2", "DO NEXTVAL(app.s)"); err != nil {
				t.Fatalf("killed at message %d, the source takes no writes after all was undone: %v", n, err)
			}
			e.refused(to, "INSERT INTO app.t (v) VALUES (2)")
		} else { // the point of no return is behind: the next run goes on
			step(t, "open", here.Open)
			c.state(here, served)
			e.sql(to, "INSERT INTO app.t (v) VALUES (3)", "DELETE FROM app.t WHERE v = 3", "DO NEXTVAL(app.s)")
			e.refused(from, "INSERT INTO app.t (v) VALUES (3)")
		}
		firing := "SELECT count(*) FROM information_schema.events WHERE event_schema = 'app' AND status = 'ENABLED'"
		serving, other := from, to
		if s.Open {
			serving, other = to, from
		}
		if a, b := e.value(serving, firing), e.value(other, firing); a != "1" || b != "0" {
			t.Errorf("killed at message %d, the event fires %s times where it is served and %s times where not", n, a, b)
		}
		if s.Open {
			from, to, here, there = to, from, there, here
		}
		if err == nil {
			crossings++
			t.Logf("a crossing takes %d messages", p.sent)
			n = 0
		}
		if n > 500 {
			t.Fatal("a crossing does not end")
		}
	}
	t.Logf("killed %d times before the point of no return", deaths)
	if deaths < 40 {
		t.Error("too few deaths")
	}
}
