package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/mariadbserver"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/move"
)

// streamsWithin bounds a test's wait for something to happen, on a machine that is busy.
const streamsWithin = 90 * time.Second

// ends are a source and a target with one database, app, that moves.
type ends struct {
	tb             testing.TB
	source, target *mariadbserver.Server
	managed        map[string][2]string // account and password on servers of which we are no masters, by address
	limits         Limits
	counting       bool // writers take AUTO_INCREMENT numbers and roll back
}

func startEnds(tb testing.TB, settings ...string) *ends {
	tb.Helper()
	return &ends{tb: tb, source: mariadbtest.Start(tb, settings...), target: mariadbtest.Start(tb, settings...)}
}

func (e *ends) config(s *mariadbserver.Server) *mysql.Config {
	c := login(s.Port, s.User(), s.Password())
	if account, ok := e.managed[c.Addr]; ok {
		c.User, c.Passwd = account[0], account[1]
	}
	return c
}

// login is how one connects to a server of this machine.
func login(port int, user, password string) *mysql.Config {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = "tcp", fmt.Sprintf("127.0.0.1:%d", port), user, password
	return c
}

func (e *ends) replica(s *mariadbserver.Server) Replica {
	c := e.config(s)
	return Replica{Host: "127.0.0.1", Port: s.Port, User: c.User, Password: c.Passwd}
}

// mover is a fresh mover, as a process that starts has it.
func (e *ends) mover(schemas ...string) *Mover {
	e.tb.Helper()
	m, err := New(Config{Estate: "test", Name: "cards", Source: e.config(e.source), Target: e.config(e.target),
		SourceReplica: e.replica(e.source), TargetReplica: e.replica(e.target), Schemas: schemas, Limits: e.limits})
	if err != nil {
		e.tb.Fatal(err)
	}
	e.tb.Cleanup(func() { m.Close(context.Background()) })
	return m
}

// sql runs statements on a server, one after another in one session.
func (e *ends) sql(s *mariadbserver.Server, statements ...string) {
	e.tb.Helper()
	if err := e.run(s, statements...); err != nil {
		e.tb.Fatal(err)
	}
}

func (e *ends) run(s *mariadbserver.Server, statements ...string) error {
	db, err := e.open(s)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(context.Background())
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, sql := range statements {
		if _, err := conn.ExecContext(context.Background(), sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

func (e *ends) open(s *mariadbserver.Server) (*sql.DB, error) {
	connector, err := mysql.NewConnector(prepared(login(s.Port, s.User(), s.Password())))
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// rows are a query's rows as text, sorted.
func (e *ends) rows(s *mariadbserver.Server, query string) []string {
	e.tb.Helper()
	db, err := e.open(s)
	if err != nil {
		e.tb.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(context.Background(), query)
	if err != nil {
		e.tb.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		e.tb.Fatal(err)
	}
	var list []string
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			e.tb.Fatal(err)
		}
		var row []string
		for _, v := range values {
			if v.Valid {
				row = append(row, fmt.Sprintf("%q", v.String))
			} else {
				row = append(row, "NULL")
			}
		}
		list = append(list, strings.Join(row, " "))
	}
	if err := rows.Err(); err != nil {
		e.tb.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// compare compares a query's answers on both servers.
func (e *ends) compare(query string) {
	e.tb.Helper()
	if a, b := e.rows(e.source, query), e.rows(e.target, query); !slices.Equal(a, b) {
		e.tb.Errorf("%s:\nsource %s\ntarget %s", query, brief(a, b), brief(b, a))
	}
}

// brief are some of the rows that the other side has not.
func brief(a, b []string) string {
	var only []string
	for _, r := range a {
		if !slices.Contains(b, r) && len(only) < 5 {
			only = append(only, r)
		}
	}
	return fmt.Sprintf("%d rows, only here: %s", len(a), strings.Join(only, "\n  "))
}

// stream is a Replicate that runs in a test.
type stream struct {
	e        *ends
	m        *Mover
	stop     context.CancelFunc
	ended    chan struct{}
	err      error
	streamed chan struct{}
	last     chan move.Progress
}

// replicate starts Replicate and returns at once.
func (e *ends) replicate(m *Mover) *stream {
	ctx, stop := context.WithCancel(context.Background())
	s := &stream{e: e, m: m, stop: stop, ended: make(chan struct{}), streamed: make(chan struct{}), last: make(chan move.Progress, 1)}
	go func() {
		defer close(s.ended)
		told := false
		s.err = m.Replicate(ctx, func(p move.Progress) {
			select {
			case <-s.last:
			default:
			}
			s.last <- p
			if p.Phase == move.PhaseStream && !told {
				told = true
				close(s.streamed)
			}
		})
	}()
	e.tb.Cleanup(s.kill)
	return s
}

// kill ends the replication, whatever it does.
func (s *stream) kill() {
	s.stop()
	<-s.ended
}

// wait returns when the stream runs.
func (s *stream) wait() {
	s.e.tb.Helper()
	select {
	case <-s.streamed:
	case <-s.ended:
		s.e.tb.Fatalf("replicate: %v", s.err)
	case <-time.After(streamsWithin):
		s.e.tb.Fatal("it does not stream")
	}
}

// catchUp returns when all that was written until now is on the target.
func (s *stream) catchUp() {
	s.e.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), streamsWithin)
	defer cancel()
	if _, err := s.m.Rehearse(ctx); err != nil {
		select {
		case <-s.ended:
			err = errors.Join(err, s.err)
		default:
		}
		s.e.tb.Fatal(err)
	}
}

// end stops the replication as the cutover does.
func (s *stream) end() {
	s.e.tb.Helper()
	s.kill()
	if !errors.Is(s.err, context.Canceled) {
		s.e.tb.Fatalf("replicate: %v", s.err)
	}
}

func TestReplicateCopiesAndStreams(t *testing.T) {
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "USE app", "CREATE DATABASE other", "CREATE TABLE other.t (a INT PRIMARY KEY)",
		"CREATE TABLE app.big (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100), n INT, KEY (n), UNIQUE KEY (name))",
		"CREATE TABLE app.small (a INT, b TEXT)",
		"INSERT INTO app.big (name, n) SELECT CONCAT('row ', seq, REPEAT('.', 60)), seq % 100 FROM seq_1_to_40000",
		"INSERT INTO app.small VALUES (1, 'a\\tb\\nc\\\\'), (2, NULL), (2, NULL)", "ANALYZE TABLE app.big")
	e.limits = Limits{ChunkBytes: 1 << 20}
	m := e.mover("app")
	s := e.replicate(m)
	s.wait()
	e.sql(e.source, "UPDATE app.big SET n = n + 1 WHERE id % 7 = 0", "DELETE FROM app.big WHERE id % 11 = 0", "INSERT INTO app.small VALUES (3, 'new')", "INSERT INTO other.t VALUES (1)", "CREATE TABLE app.later (a INT PRIMARY KEY)", "INSERT INTO app.later VALUES (5)")
	s.catchUp()
	e.compare("SELECT * FROM app.big")
	e.compare("SELECT * FROM app.small")
	e.compare("SELECT * FROM app.later")
	e.compare("SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics WHERE table_schema = 'app'")
	s.end()
	e.sql(e.source, "INSERT INTO app.later VALUES (6)")
	again := e.replicate(e.mover("app"))
	again.wait()
	again.catchUp()
	e.compare("SELECT * FROM app.later")
	again.end()
}
