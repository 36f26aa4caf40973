package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/cutover"
	"dhow/internal/pgserver/pgtest"
	"dhow/internal/process"
)

// TestTrouble gives the commands what can not be worked with, kills them and
// fills their disk, all with databases on the same two servers.
func TestTrouble(t *testing.T) {
	t.Parallel()
	s := newStage(t, 15, 15)
	for name, test := range map[string]func(*testing.T){
		"bad input":          s.testBadInput,
		"a second dhow":      s.testSecondDhow,
		"a full disk":        s.testFullDisk,
		"an unfinished move": s.testUnfinishedMove,
		"without a gate":     s.testWithoutGate,
		"few connections":    s.testFewConnections,
		"a terminal":         s.testTerminal,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			test(t)
		})
	}
}

// Each bad input is said with what to do next, ends with 1, and leaves both sides
// as they were.
func (s *stage) testBadInput(t *testing.T) {
	for _, c := range []struct {
		name string
		// bends an end of the estate, or both sides before the command.
		change  func(t *testing.T, database string) func(cutover.Side, *end)
		prepare func(t *testing.T, database string)
		says    []string
		// preflight finds it as an issue of this rule; empty: it fails as the others do.
		rule string
	}{
		{
			name:   "wrong credentials",
			change: func(*testing.T, string) func(cutover.Side, *end) { return wrongPassword(cutover.Source) },
			says:   []string{"connect to the source", "the server does not accept the password", "check what databases[].source.password points at"},
		},
		{
			name:   "wrong credentials of the target",
			change: func(*testing.T, string) func(cutover.Side, *end) { return wrongPassword(cutover.Target) },
			says:   []string{"connect to the target", "the server does not accept the password", "check what databases[].target.password points at"},
		},
		{
			name: "an unreachable host",
			change: func(t *testing.T, _ string) func(cutover.Side, *end) {
				port := freePort(t)
				return func(side cutover.Side, e *end) {
					if side == cutover.Target {
						e.port = port
					}
				}
			},
			says: []string{"connect to the target", "nothing answers on that port", "check databases[].target.host and databases[].target.port"},
		},
		{
			name: "a host that has no address",
			change: func(*testing.T, string) func(cutover.Side, *end) {
				return func(side cutover.Side, e *end) {
					if side == cutover.Source {
						e.host = "nowhere.invalid, tls: {mode: disable}"
					}
				}
			},
			says: []string{"connect to the source", "the name nowhere.invalid is not known", "check databases[].source.host"},
		},
		{
			name: "a database that is not there",
			change: func(*testing.T, string) func(cutover.Side, *end) {
				return func(side cutover.Side, e *end) {
					if side == cutover.Target {
						e.database = "another"
					}
				}
			},
			says: []string{"connect to the target", "there is no such database on that server", `CREATE DATABASE "another"`},
		},
		{
			// The estate compares names; that two names are one server only the server knows.
			name: "the same server as both ends",
			change: func(t *testing.T, _ string) func(cutover.Side, *end) {
				port := relay(t, s.source.Port)
				return func(side cutover.Side, e *end) {
					if side == cutover.Target {
						e.port, e.password = port, s.source.Password()
					}
				}
			},
			says: []string{"are the same database", "name another target in the estate"},
			rule: "same",
		},
		{
			name: "a target that is not empty",
			prepare: func(t *testing.T, database string) {
				s.exec(t, cutover.Target, database, "CREATE TABLE customers (id int PRIMARY KEY); INSERT INTO customers VALUES (1)")
			},
			says: []string{"is not empty, it holds public.customers", "name an empty database in the estate, or empty this one"},
			rule: "empty",
		},
		{
			name:    "an unsupported version",
			prepare: func(t *testing.T, database string) { s.exec(t, cutover.Source, database, pretend(120022)) },
			says:    []string{"is PostgreSQL 12; versions 13 to 17 are supported", "upgrade it, or use a newer dhow"},
			rule:    "version",
		},
		{
			name:    "a version that is too new",
			prepare: func(t *testing.T, database string) { s.exec(t, cutover.Target, database, pretend(190001)) },
			says:    []string{"is PostgreSQL 19; versions 13 to 17 are supported"},
			rule:    "version",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			database := strings.ReplaceAll(c.name, " ", "_")
			s.create(t, database)
			if c.prepare != nil {
				c.prepare(t, database)
			}
			var change func(cutover.Side, *end)
			if c.change != nil {
				change = c.change(t, database)
			}
			p := s.estateOf(t, "", change, database)
			before := s.look(t, database)

			replicate := p.run(t, 1, "replicate", "--until-streaming")
			replicate.says(t, c.says...)
			p.run(t, 1, "replicate", "--until-streaming", "-o", "json").says(t, `{"error":"`)
			p.run(t, 1, "cutover", "--yes")
			p.run(t, 1, "verify")
			preflight := p.run(t, 1, "preflight")
			if c.rule == "" {
				preflight.says(t, c.says...)
			} else {
				preflight.prints(t, c.rule, "fix: ")
			}
			s.unchanged(t, before, database)
			for _, side := range []cutover.Side{cutover.Source, cutover.Target} {
				for _, said := range []string{replicate.out.String(), replicate.err.String(), preflight.out.String(), preflight.err.String()} {
					if strings.Contains(said, s.server(side).Password()) || strings.Contains(said, wrong) {
						t.Errorf("a password is shown: %s", said)
					}
				}
			}
			// The source goes on.
			s.exec(t, cutover.Source, database, "INSERT INTO log (line) VALUES ('still open')")
		})
	}
}

const wrong = "not-the-password"

func wrongPassword(of cutover.Side) func(cutover.Side, *end) {
	return func(side cutover.Side, e *end) {
		if side == of {
			e.password = wrong
		}
	}
}

// pretend makes a database say that its server is of another version. No such
// server is needed: what dhow asks is answered as one would.
func pretend(version int) string {
	return `ALTER FUNCTION pg_catalog.current_setting(text) RENAME TO current_setting_of_this_server;
		CREATE FUNCTION pg_catalog.current_setting(name text) RETURNS text STABLE LANGUAGE sql AS
		$$ SELECT CASE name WHEN 'server_version_num' THEN '` + strconv.Itoa(version) + `' ELSE pg_catalog.current_setting_of_this_server(name) END $$`
}

// freePort is a port that nobody listens on, until the test's end.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := process.ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(port.Release)
	return port.Number()
}

// relay makes a port that leads to another one, as a tunnel does.
func relay(t *testing.T, port int) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				_ = client.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
				all.Go(func() {
					_, _ = io.Copy(way[0], way[1]) // an end of either is an end of both
					_, _ = client.Close(), server.Close()
				})
			}
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// A second dhow is refused on an estate that one works on, on the same machine
// and on another, until the first is killed.
func (s *stage) testSecondDhow(t *testing.T) {
	s.create(t, "twice")
	p := s.estateOf(t, roomy, nil, "twice")
	elsewhere := s.estateOf(t, "state: elsewhere\n"+roomy, nil, "twice")

	first := start(t, p.dir, "replicate")
	pid := strconv.Itoa(first.Process.Pid)
	eventually(t, "the first streams", func() bool {
		return strings.Contains(p.run(t, 0, "status", "-o", "json").out.String(), `"phase": "stream"`)
	})
	p.run(t, 1, "replicate").says(t, "another dhow works on this estate (dhow replicate, process "+pid+")", "wait for it, or stop it")
	elsewhere.run(t, 1, "replicate").says(t, "another dhow moves database twice already", "next: stop it, or look at it with `dhow status`")
	p.run(t, 0, "status").prints(t, "replicate: process "+pid+" streams to the target")

	// Killed, it holds nothing any more: neither the file's lock, nor the
	// database's, nor the socket.
	if err := first.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed
	p.run(t, 0, "status").prints(t, "replicate: not running")
	p.run(t, 0, "replicate", "--until-streaming").prints(t, "every stream follows closely")

	// A signal ends one cleanly.
	second := start(t, p.dir, "replicate")
	eventually(t, "the second streams", func() bool {
		return strings.Contains(p.run(t, 0, "status", "-o", "json").out.String(), `"phase": "stream"`)
	})
	if err := second.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("an interrupted replicate ends with %v", err)
	}
	p.run(t, 0, "finish", "--abandon", "--yes")
}

// The disk of the state folder is full before a cutover, and within.
func (s *stage) testFullDisk(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("needs servers, and root to mount a small disk (testing.Short, or another account)")
	}
	s.create(t, "disk")
	p := s.estateOf(t, "state: small\n"+roomy, nil, "disk")
	state := filepath.Join(p.dir, "small")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(state, 0); err != nil {
			t.Error(err)
		}
	})
	p.run(t, 0, "replicate", "--until-streaming")
	before := s.look(t, "disk")

	// No room for a journal, and then none for one that is there.
	fill(t, filepath.Join(state, "ballast"))
	p.run(t, 1, "cutover", "--yes").says(t, "journal", "is the disk full")
	s.untouched(t, "disk", before)
	empty(t, filepath.Join(state, "ballast"))
	p.run(t, 0, "cutover", "--dry-run")
	fill(t, filepath.Join(state, "ballast"))
	refused := p.run(t, 1, "cutover", "--yes", "-o", "json")
	refused.says(t, "write the journal (nothing was changed; make room on its disk")
	s.untouched(t, "disk", before)
	p.run(t, 0, "status").prints(t, "source", "last run: none")

	empty(t, filepath.Join(state, "ballast"))

	// Full in the middle of a run, at each step: before the point of no return all
	// is undone, behind it the run goes on.
	for _, step := range []cutover.Step{cutover.StepFence, cutover.StepSeal, cutover.StepOpen} {
		r := p.runStopping(t, step, func() { fill(t, filepath.Join(state, "ballast")) }, "cutover", "--yes")
		if step != cutover.StepOpen {
			r.ends(t, 1)
			r.says(t, "into the journal", "database or disk is full")
			s.untouched(t, "disk", before)
			empty(t, filepath.Join(state, "ballast"))
			continue
		}
		r.ends(t, 1)
		r.prints(t, "the target serves")
		r.says(t, "the target serves, but that is not in the journal; run the same command again")
		empty(t, filepath.Join(state, "ballast"))
	}
	// What could not be written down is made good by the next run.
	p.run(t, 0, "cutover", "--yes").prints(t, "the target serves")
	p.run(t, 0, "finish", "--yes")
}

// untouched checks that the source serves as before, and the target does not.
func (s *stage) untouched(t *testing.T, database string, before sides) {
	t.Helper()
	s.exec(t, cutover.Source, database, "INSERT INTO log (line) VALUES ('still open')")
	if err := s.target.Exec(context.Background(), database, "INSERT INTO log (line) VALUES ('too early')"); err == nil {
		t.Error("the target takes writes")
	}
	for _, b := range s.belongings(t, cutover.Source, database) {
		// What a cutover prepares stays for the next one.
		if !slices.Contains(before["source "+database], b) && !strings.Contains(b, "_back") && !strings.HasPrefix(b, "trigger dhow_fence") && !strings.Contains(b, "dhow.") && b != "schema dhow" {
			t.Errorf("the source has %s", b)
		}
	}
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, piece := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, piece))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

func empty(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// A copy that was killed is started again: a target that holds a part of it is
// no stranger's.
func (s *stage) testUnfinishedMove(t *testing.T) {
	pgtest.Database(t, s.source, "half")
	pgtest.Database(t, s.target, "half")
	s.exec(t, cutover.Source, "half", schema+"; INSERT INTO log (line) SELECT repeat('x', 500) FROM generate_series(1, 40000)")
	// Slow enough that neither copy ends before it is ended, however slow this machine is.
	const slow = "limits: {rows_per_second: 400, chunk: 64KiB}\n"
	p := s.estateOf(t, slow+roomy, nil, "half")
	first := start(t, p.dir, "replicate")
	eventually(t, "the copy has begun", func() bool {
		status := p.run(t, 0, "status", "-o", "json").out.String()
		return strings.Contains(status, `"phase": "copy"`) && !strings.Contains(status, `"rows": 0,`)
	})
	if err := first.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed
	p.run(t, 0, "status").prints(t, "copying")

	// Interrupted, it says that it is not done.
	second := p.begin(t, "replicate")
	eventually(t, "the copy goes on", func() bool { return strings.Contains(second.out.String(), "copy") })
	second.stop()
	second.wait(t).ends(t, 1)
	second.says(t, "interrupted before every database was copied", "next: run `dhow replicate` again, it goes on from here")
	p.run(t, 1, "cutover", "--yes").says(t, "database half is not copied yet", "next: run `dhow replicate` until it streams")
	write(t, p.file(), strings.Replace(string(slurp(t, p.file())), slow, "", 1))
	p.run(t, 0, "replicate", "--until-streaming")
	is(t, p.run(t, 0, "verify", "-o", "json").object(t), 45600, "databases", 0, "rows")
	p.run(t, 0, "finish", "--abandon", "--yes").prints(t, "given up")
}

// Without a gate in the estate somebody else moves the traffic: all else is the
// same. This looks at what people read where nobody looks at a terminal.
func (s *stage) testWithoutGate(t *testing.T) {
	s.create(t, "alone")
	before := s.look(t, "alone")
	p := s.estateOf(t, roomy, nil, "alone")
	p.run(t, 0, "status").prints(t, "DATABASE", "alone", "not begun", "replicate: not running", "last run: none")
	p.run(t, 0, "replicate", "--until-streaming").prints(t, "replicating 1 database to the target; Ctrl-C ends it, started again it goes on",
		"alone  stream", "every stream follows closely: the move is ready for `dhow cutover`")
	p.run(t, 0, "cutover", "--dry-run").prints(t, "compared while both sides move:", "requests would be held for about", "of the 4s allowed", "nothing was held, fenced or moved")

	// Over the budget nothing is held.
	tight := s.estateOf(t, "cutover: {stall_budget: 1us}\n", nil, "alone")
	tight.run(t, 1, "cutover", "--dry-run").says(t, "over the stall budget", "raise cutover.stall_budget")

	stayed := p.begin(t, "cutover", "--yes", "--stay")
	eventually(t, "the way back streams", func() bool { return strings.Contains(stayed.out.String(), "replicating 1 database to the source") })
	eventually(t, "it says so", func() bool {
		return strings.Contains(p.run(t, 0, "status").out.String(), "streams to the source")
	})
	s.exec(t, cutover.Target, "alone", "INSERT INTO log (line) VALUES ('written at the target')")
	if err := s.source.Exec(context.Background(), "alone", "INSERT INTO log (line) VALUES ('too late')"); err == nil {
		t.Error("the source takes writes")
	}
	stayed.stop()
	stayed.wait(t).ends(t, 0)
	stayed.prints(t, "compared as it stood at the cutover:", "the target serves", "requests were held for", "report: ", "stopped; `dhow replicate` goes on from here")

	p.run(t, 0, "rollback", "--yes").prints(t, "the source serves", "the way back is open")
	if n := s.one(t, cutover.Source, "alone", "SELECT count(*)::text FROM log WHERE line = 'written at the target'"); n != "1" {
		t.Errorf("what was written at the target is at the source %s times", n)
	}
	p.run(t, 1, "finish", "--yes").says(t, "the source still serves database alone: finishing now throws the copy away", "give the move up with `dhow finish --abandon`")
	p.run(t, 0, "finish", "--abandon", "--yes").prints(t, "the fence's triggers of 3 tables", "schema dhow", "given up; the source goes on")
	s.handedOver(t, before, "alone")
	p.run(t, 0, "finish", "--yes").prints(t, "nothing of a move was there")
	if strings.Contains(stayed.out.String()+stayed.err.String(), "\x1b") {
		t.Error("there are escapes where there is no terminal")
	}
}

// limits.connections is the most that a move has open to a server at any moment.
func (s *stage) testFewConnections(t *testing.T) {
	s.create(t, "few")
	const limit = 10
	p := s.estateOf(t, fmt.Sprintf("limits: {connections: %d, chunk: 64KiB}\n%s", limit, roomy), nil, "few")
	ctx, stop := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	most := map[cutover.Side]*atomic.Int64{cutover.Source: {}, cutover.Target: {}}
	for side, high := range most {
		conn, err := pgx.Connect(ctx, s.server(side).URL("few"))
		if err != nil {
			t.Fatal(err)
		}
		watching.Go(func() {
			defer conn.Close(context.Background())
			for ; ctx.Err() == nil; time.Sleep(time.Millisecond) { // often enough to meet what is open for a moment
				var n int64
				var what string
				err := conn.QueryRow(ctx, `SELECT count(*), coalesce(string_agg(format('%s %s: %s', application_name, state, left(query, 80)), E'\n'), '') FROM pg_stat_activity
					WHERE datname = current_database() AND (application_name LIKE 'dhow%' OR application_name = 'pg_dump')`).Scan(&n, &what)
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				if n > limit && n > high.Load() {
					t.Errorf("%d connections to the %s are open at once, want at most %d:\n%s", n, side, limit, what)
				}
				high.Store(max(high.Load(), n))
			}
		})
	}
	p.run(t, 0, "replicate", "--until-streaming")
	p.run(t, 0, "verify")
	p.run(t, 0, "cutover", "--yes")
	p.run(t, 0, "rollback", "--yes")
	p.run(t, 0, "finish", "--abandon", "--yes")
	stop()
	watching.Wait()
	for side, high := range most {
		if n := high.Load(); n < 4 {
			t.Errorf("%d connections to the %s at most: that can not be all", n, side)
		}
	}
}
