package mariadb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"
)

// fated is a mover whose connections die together, and what lets them.
func (e *ends) fated(schemas ...string) (*Mover, *mortal) {
	e.tb.Helper()
	p := &mortal{left: -1}
	cfg := e.mover(schemas...).cfg
	for _, c := range []**mysql.Config{&cfg.Source, &cfg.Target} {
		*c = (*c).Clone()
		(*c).DialFunc, (*c).Logger = p.dial, &mysql.NopLogger{}
	}
	m, err := New(cfg)
	if err != nil {
		e.tb.Fatal(err)
	}
	e.tb.Cleanup(func() { m.Close(context.Background()) })
	return m, p
}

// in lets the process die with so many more messages.
func (p *mortal) in(messages int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = messages
}

func (p *mortal) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// until waits for a condition, or for the end of a replication.
func (s *stream) until(what string, is func() bool) {
	s.e.tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !is(); <-tick.C {
		select {
		case <-s.ended:
			if !is() { // it may have come true just before the end
				s.e.tb.Fatalf("replicate ended before %s: %v", what, s.err)
			}
			return
		default:
		}
		if time.Since(began) > streamsWithin {
			s.e.tb.Fatalf("it takes too long until %s", what)
		}
	}
}

// TestGuardingThatWasCutOffGoesOn kills a mover again and again while it
// guards the target: it streams only once every table refuses, before all that the
// application's own triggers would do.
func TestGuardingThatWasCutOffGoesOn(t *testing.T) {
	const tables = 48
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "CREATE TABLE app.log (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(20))")
	for i := range tables {
		e.sql(e.source, fmt.Sprintf("CREATE TABLE app.t%d (id INT PRIMARY KEY, v INT)", i), fmt.Sprintf("INSERT INTO app.t%d VALUES (1, 1)", i))
	}
	e.sql(e.source, "CREATE TRIGGER app.second BEFORE INSERT ON app.t0 FOR EACH ROW INSERT INTO app.log (what) VALUES ('second')", "CREATE TRIGGER app.first BEFORE INSERT ON app.t0 FOR EACH ROW PRECEDES second INSERT INTO app.log (what) VALUES ('first')")
	const guards = "SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = 'app' AND trigger_name LIKE 'dhow\\_guard\\_%'"
	count := func() (n int) {
		if _, err := fmt.Sscan(e.value(e.target, guards), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, guarded := range []int{1, tables} {
		m, p := e.fated("app")
		p.only = []byte("CREATE TRIGGER IF NOT EXISTS")
		p.in(guarded)
		s := e.replicate(m)
		s.until("the process is dead", p.isDead)
		s.kill()
		if n := count(); n == 0 || n >= tables*len(guardedEvents) {
			t.Fatalf("the process died with %d triggers", n)
		}
		if phase := e.value(e.target, "SELECT phase FROM dhow.stream"); phase != phaseIndex {
			t.Fatalf("killed among the guards, it says that its phase is %s", phase)
		}
	}
	s := e.replicate(e.mover("app"))
	s.wait()
	if n, want := count(), (tables+1)*len(guardedEvents); n != want {
		t.Errorf("it streams under %d of %d triggers", n, want)
	}
	for i := range tables {
		for _, sql := range []string{"INSERT INTO app.t%d VALUES (2, 2)", "UPDATE app.t%d SET v = 3", "DELETE FROM app.t%d"} {
			e.refused(e.target, fmt.Sprintf(sql, i))
		}
	}
	if n := e.value(e.target, "SELECT COUNT(*) FROM app.log"); n != "0" {
		t.Errorf("the application's triggers acted %s times before the refusal", n)
	}
	e.sql(e.source, "INSERT INTO app.t0 VALUES (2, 2)", fmt.Sprintf("UPDATE app.t%d SET v = 3", tables-1))
	s.catchUp()
	e.equal("app")
	s.end()
	if err := s.m.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d triggers are left", n)
	}
	e.sql(e.target, "DROP DATABASE app") // the server's files are as they should be, for it to work
}

// TestTriggersAreMadeAlone: no two sessions of a server make triggers at the same time,
// and one that dies lets the next in.
func TestTriggersAreMadeAlone(t *testing.T) {
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app")
	movers := []*Mover{e.mover("app"), e.mover("app"), e.mover("app")}
	var inside atomic.Int64
	g, ctx := errgroup.WithContext(t.Context())
	for i, m := range movers {
		g.Go(func() error {
			w, err := m.worker(ctx, source)
			if err != nil {
				return err
			}
			defer hangUp(w.Conn)
			for round := range 20 {
				err := m.alone(ctx, w, func() error {
					defer inside.Add(-1)
					if n := inside.Add(1); n != 1 {
						return fmt.Errorf("%d at once", n)
					}
					_, err := w.ExecContext(ctx, "DO SLEEP(0.002)")
					return err
				})
				if err != nil {
					return err
				}
				if i == 0 && round == 10 { // it is cut off with the lock in its hand
					if err := m.alone(ctx, w, func() error { return w.Raw(func(any) error { return driver.ErrBadConn }) }); !errors.Is(err, driver.ErrBadConn) {
						return err
					}
					return nil
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// TestACopyKilledWhileItBeginsAgain kills a copy with each few messages more of its
// going on under the next snapshot: none of its tables is ever taken for whole that is not.
func TestACopyKilledWhileItBeginsAgain(t *testing.T) {
	const stride = 23 // messages: so many deaths as a test can wait for
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "USE app", "CREATE TABLE parent (id INT PRIMARY KEY, b VARCHAR(200))",
		"CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE, b VARCHAR(300))", "CREATE TABLE other (id INT PRIMARY KEY, b VARCHAR(300), KEY (b))",
		"INSERT INTO parent SELECT seq, REPEAT('p', 100) FROM seq_1_to_1000", "INSERT INTO child SELECT seq, seq, REPEAT('c', 200) FROM seq_1_to_1000", "INSERT INTO other SELECT seq, REPEAT('o', 150) FROM seq_1_to_2000", "ANALYZE TABLE parent, child, other")
	e.limits = Limits{Copies: 1, RowsPerSecond: stoppable, ChunkBytes: 100 << 10}
	e.stopInCopy(1, 1)
	e.limits.RowsPerSecond = 0
	deaths := 0
	for n := stride; ; n += stride {
		e.sql(e.source, fmt.Sprintf("DELETE FROM app.parent WHERE id = %d", n), fmt.Sprintf("UPDATE app.other SET b = 'changed' WHERE id = %d", n), fmt.Sprintf("UPDATE app.child SET b = 'changed' WHERE id = %d", n+1))
		m, p := e.fated("app")
		p.in(n)
		s := e.replicate(m)
		over := false
		s.until("it is dead or streams", func() bool {
			select {
			case <-s.streamed:
				over = true
			default:
			}
			return over || p.isDead()
		})
		s.kill()
		if over {
			break
		}
		deaths++
	}
	t.Logf("killed %d times", deaths)
	if deaths < 5 {
		t.Error("too few deaths")
	}
	s := e.replicate(e.mover("app"))
	s.wait()
	s.catchUp()
	e.equal("app")
	s.end()
}
