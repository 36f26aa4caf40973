package mariadb

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"dhow/internal/mariadbserver"
	"dhow/internal/move"
)

const (
	// randomSeconds is how long the random moves go on, in a run of all tests.
	randomSeconds = 15
	// writersAtOnce write to the source at the same time.
	writersAtOnce = 3
	// childVariable tells this test program that it is a mover's process, to be killed.
	childVariable = "DHOW_TEST_MOVER"
)

// TestRandomTransactionsArriveExactly moves databases of random tables while
// several sessions run random transactions on them and the mover is stopped, and
// killed, at random; then it compares both sides row by row. DHOW_SEED repeats a
// run's tables (not how the sessions meet), DHOW_SECONDS says how long it goes on.
func TestRandomTransactionsArriveExactly(t *testing.T) {
	if testing.Short() {
		t.Skip("needs MariaDB servers: not with -short (testing.Short)")
	}
	seed, seconds := uint64(time.Now().UnixNano()), randomSeconds
	for name, set := range map[string]func(string) error{
		"DHOW_SEED":    func(s string) (err error) { seed, err = strconv.ParseUint(s, 10, 64); return err },
		"DHOW_SECONDS": func(s string) (err error) { seconds, err = strconv.Atoi(s); return err },
	} {
		if s := os.Getenv(name); s != "" {
			if err := set(s); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	t.Logf("DHOW_SEED=%d", seed)
	e := startEnds(t)
	e.counting = true
	x := &randomMoves{e: e, t: t}
	for began := time.Now(); time.Since(began) < time.Duration(seconds)*time.Second && !t.Failed(); x.voyages++ {
		x.r = rand.New(rand.NewPCG(seed, uint64(x.voyages)))
		x.voyage()
	}
	t.Logf("%d moves, %d transactions, %d stops and %d kills, %d of them in the copy; %d copies went on under a second snapshot", x.voyages, x.committed.Load(), x.stops, x.kills, x.inCopy, x.resumed)
	if t.Failed() {
		t.Logf("to repeat the tables: DHOW_SEED=%d, move %d", seed, x.voyages)
	}
}

// randomMoves are moves one after the other, between the same two servers.
type randomMoves struct {
	e *ends
	t *testing.T
	r *rand.Rand

	tables                                 []randomTable
	voyages, stops, kills, inCopy, resumed int
	committed                              atomic.Int64
}

// randomTable is a table with the ways in which it is written to.
type randomTable struct {
	name    string
	columns []string // without the key's
	kinds   []int
	key     string // how rows are chosen: an expression that gives a small number
	insert  string // of a row, with %s for the columns' names and values
	unique  bool
	child   bool
}

// randomKinds are types, and an expression that gives one of their values.
var randomKinds = []struct{ sql, value string }{
	{"INT", "FLOOR(RAND() * 1000)"},
	{"BIGINT UNSIGNED NULL", "IF(RAND() < 0.2, NULL, 18446744073709551615 - FLOOR(RAND() * 99))"},
	{"VARCHAR(60)", "CONCAT('ä\\\\\\t', FLOOR(RAND() * 999))"},
	{"VARCHAR(30) CHARACTER SET latin1", "CONCAT('é', FLOOR(RAND() * 9))"},
	{"VARBINARY(40)", "UNHEX(MD5(RAND()))"},
	{"DOUBLE", "RAND() * POW(10, FLOOR(RAND() * 40) - 20)"},
	{"FLOAT", "RAND()"},
	{"DECIMAL(20,6)", "RAND() * 1e9 - 5e8"},
	{"DATETIME(6)", "NOW(6)"},
	{"TIMESTAMP(3) NULL", "IF(RAND() < 0.3, NULL, NOW(3))"},
	{"ENUM('a','b','')", "1 + FLOOR(RAND() * 3)"},
	{"SET('x','y','z')", "FLOOR(RAND() * 8)"},
	{"BIT(12)", "FLOOR(RAND() * 4096)"},
	{"TEXT", "REPEAT(CHAR(32 + FLOOR(RAND() * 90)), FLOOR(RAND() * 200))"},
	{"JSON", "JSON_OBJECT('a', RAND())"},
	{"UUID", "UUID()"},
	{"YEAR", "1990 + FLOOR(RAND() * 40)"},
	{"POINT", "POINT(RAND(), RAND())"},
}

// makeTable makes a table of the source; the forms of keys take turns.
func (x *randomMoves) makeTable(i int) (randomTable, []string) {
	t := randomTable{name: fmt.Sprintf("t%d", i)}
	var defs []string
	for k := range 1 + x.r.IntN(4) {
		kind := x.r.IntN(len(randomKinds))
		t.columns, t.kinds = append(t.columns, fmt.Sprintf("c%d", k)), append(t.kinds, kind)
		defs = append(defs, fmt.Sprintf("c%d %s", k, randomKinds[kind].sql))
	}
	t.columns, t.kinds = append(t.columns, "n"), append(t.kinds, 0)
	defs = append(defs, "n INT", "KEY (n)")
	names := strings.Join(t.columns, ", ")
	pick := "FLOOR(RAND() * 2000)"
	switch x.r.IntN(7) {
	case 0, 1:
		defs = append(defs, "id INT AUTO_INCREMENT PRIMARY KEY")
		t.key, t.insert = "id", "("+names+") VALUES (%s)"
	case 2:
		defs = append(defs, "id VARCHAR(20) PRIMARY KEY")
		t.key, t.insert = "id", "(id, "+names+") VALUES (CONCAT('k', "+pick+"), %s)"
	case 3:
		defs = append(defs, "a INT", "b VARCHAR(10)", "PRIMARY KEY (b, a)")
		t.key, t.insert = "a", "(a, b, "+names+") VALUES ("+pick+", FLOOR(RAND() * 3), %s)"
	case 4:
		defs = append(defs, "u INT", "id INT NOT NULL", "UNIQUE KEY (id)", "UNIQUE KEY (u)")
		t.key, t.insert, t.unique = "id", "(id, u, "+names+") VALUES ("+pick+", "+pick+", %s)", true
	case 5:
		defs = append(defs, "id INT PRIMARY KEY", "u INT", "UNIQUE KEY (u)", "v INT AS (u % 10) STORED", "w INT AS (n + 1) VIRTUAL", "KEY (w)")
		t.key, t.insert, t.unique = "id", "(id, u, "+names+") VALUES ("+pick+", "+pick+", %s)", true
	case 6:
		defs = append(defs, "id INT")
		t.key, t.insert = "id", "(id, "+names+") VALUES ("+pick+", %s)"
	}
	if i > 0 && strings.Contains(strings.Join(defs, ","), "id INT AUTO_INCREMENT") && x.tables[0].key == "id" && x.r.IntN(2) == 0 {
		defs = append(defs, "p INT NULL, FOREIGN KEY (p) REFERENCES root (id) ON DELETE CASCADE ON UPDATE CASCADE")
		t.child = true
	}
	sql := []string{"CREATE TABLE " + t.name + " (" + strings.Join(defs, ", ") + ")"}
	return t, sql
}

func (t *randomTable) values() string {
	var list []string
	for _, k := range t.kinds {
		list = append(list, randomKinds[k].value)
	}
	return strings.Join(list, ", ")
}

// statement is a random change of a random table.
func (x *randomMoves) statement(r *rand.Rand) string {
	if r.IntN(20) == 0 {
		return []string{"DELETE FROM root WHERE id = FLOOR(1 + RAND() * 100)", "INSERT IGNORE INTO root VALUES (FLOOR(1 + RAND() * 100))", "UPDATE IGNORE root SET id = id + 1 WHERE id = FLOOR(1 + RAND() * 100)"}[r.IntN(3)]
	}
	t := x.tables[r.IntN(len(x.tables))]
	at := fmt.Sprintf("%d", r.IntN(2000))
	if t.insert[:2] == "(i" && strings.Contains(t.insert, "CONCAT('k'") {
		at = "'k" + at + "'"
	}
	set := t.columns[r.IntN(len(t.columns))]
	value := ""
	for i, c := range t.columns {
		if c == set {
			value = randomKinds[t.kinds[i]].value
		}
	}
	switch r.IntN(10) {
	case 0, 1, 2:
		return "INSERT IGNORE INTO " + t.name + " " + fmt.Sprintf(t.insert, t.values())
	case 3:
		return "REPLACE INTO " + t.name + " " + fmt.Sprintf(t.insert, t.values())
	case 4, 5:
		return fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s = %s", t.name, set, value, t.key, at)
	case 6:
		return fmt.Sprintf("UPDATE IGNORE %s SET %s = %s WHERE %s = %s", t.name, t.key, at, t.key, strings.Replace(at, "1", "2", 1))
	case 7:
		if t.unique {
			return fmt.Sprintf("UPDATE IGNORE %s SET u = FLOOR(RAND() * 2000) WHERE %s = %s", t.name, t.key, at)
		}
		if t.child {
			return fmt.Sprintf("UPDATE IGNORE %s SET p = (SELECT id FROM root ORDER BY RAND() LIMIT 1) WHERE %s = %s", t.name, t.key, at)
		}
		return fmt.Sprintf("UPDATE %s SET n = n + 1 ORDER BY %s LIMIT 20", t.name, t.key)
	case 8:
		return fmt.Sprintf("DELETE FROM %s WHERE %s = %s", t.name, t.key, at)
	default:
		return fmt.Sprintf("DELETE FROM %s WHERE n %% 100 = %d LIMIT 3", t.name, r.IntN(100))
	}
}

// write runs random transactions until stopped.
func (x *randomMoves) write(ctx context.Context, r *rand.Rand) error {
	db, err := x.e.open(x.e.source)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	defer conn.Close()
	do := func(sql string) error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), sql)
		return err
	}
	if err := do("USE app"); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := do("START TRANSACTION"); err != nil {
			return err
		}
		end := "COMMIT"
		if r.IntN(10) == 0 {
			end = "ROLLBACK"
		}
		for range 1 + r.IntN(4) {
			sql := x.statement(r)
			if err := do(sql); isNumber(err, 1205, 1213, 1020) { // writers meet: that is what they are for
				end = "ROLLBACK"
				break
			} else if err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		if err := do(end); err != nil {
			return err
		}
		x.committed.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond): // leaves the machine to the mover too
		}
	}
	return nil
}

// voyage is one move, from an empty target to equal sides.
func (x *randomMoves) voyage() {
	e := x.e
	e.reset()
	e.sql(e.source, "CREATE DATABASE app", "USE app", "CREATE TABLE root (id INT PRIMARY KEY)", "INSERT INTO root SELECT seq FROM seq_1_to_100", "CREATE SEQUENCE s")
	x.tables = nil
	for i := range 3 + x.r.IntN(3) {
		t, sql := x.makeTable(i)
		x.tables = append(x.tables, t)
		fill := "INSERT IGNORE INTO " + t.name + " " + strings.Replace(fmt.Sprintf(t.insert, t.values()), "VALUES (", "SELECT ", 1)
		fill = strings.TrimSuffix(fill, ")") + fmt.Sprintf(" FROM seq_1_to_%d", 500+x.r.IntN(4000))
		e.sql(e.source, append(append([]string{"USE app"}, sql...), fill, "ANALYZE TABLE "+t.name)...)
	}
	e.limits = Limits{ChunkBytes: int64(8<<10) << x.r.IntN(6), Copies: 1 + x.r.IntN(4), RowsPerSecond: []int{0, 4000, 8000}[x.r.IntN(3)]}
	ctx, stop := context.WithCancel(context.Background())
	var g errgroup.Group
	for i := range writersAtOnce {
		r := rand.New(rand.NewPCG(x.r.Uint64(), uint64(i)))
		g.Go(func() error { return x.write(ctx, r) })
	}
	defer func() {
		stop()
		if err := g.Wait(); err != nil {
			x.t.Errorf("write: %v", err)
		}
	}()
	for range x.r.IntN(5) {
		x.interrupted(time.Duration(50+x.r.IntN(1200)) * time.Millisecond)
	}
	last := e.replicate(e.mover("app"))
	last.wait()
	last.catchUp()
	last.end()
	last = e.replicate(e.mover("app"))
	last.wait()
	stop()
	if err := g.Wait(); err != nil {
		x.t.Errorf("write: %v", err)
	}
	last.catchUp()
	e.equal("app")
	last.end()
}

// interrupted runs a mover for a while and then stops it, or kills it.
func (x *randomMoves) interrupted(after time.Duration) {
	done := "0"
	inCopy := x.r.IntN(2) == 0
	if inCopy {
		done = strconv.Itoa(x.r.IntN(6))
	}
	// stopAt says when: after a time, or when so many pieces of the copy are done.
	stopAt := func(ended <-chan struct{}) {
		for began := time.Now(); ; {
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Millisecond):
			}
			switch {
			case inCopy && x.e.has(x.e.target, "SELECT 1 FROM dhow.stream WHERE phase <> 'schema' AND phase <> 'copy' OR phase = 'copy' AND (SELECT COUNT(done_gtid) FROM dhow.chunk) > "+done):
				return
			case !inCopy && time.Since(began) > after:
				return
			}
		}
	}
	if x.r.IntN(3) == 0 {
		x.killed(stopAt)
		x.kills++
	} else {
		s := x.e.replicate(x.e.mover("app"))
		stopAt(s.ended)
		s.end()
		x.stops++
	}
	if x.e.has(x.e.target, "SELECT 1 FROM dhow.stream WHERE phase = 'copy'") {
		x.inCopy++
	}
	if x.e.has(x.e.target, "SELECT 1 FROM dhow.stream WHERE settled_gtid LIKE '%;%'") {
		x.resumed++
	}
}

// has says whether a query of the move's state gives a row; there may be no state yet.
func (e *ends) has(s *mariadbserver.Server, query string) bool {
	e.tb.Helper()
	return len(e.rows(s, "SELECT 1 FROM information_schema.tables WHERE table_schema = 'dhow' AND table_name = 'fence'")) > 0 && len(e.rows(s, query)) > 0
}

// killed runs a mover as a process of its own and kills that.
func (x *randomMoves) killed(stopAt func(<-chan struct{})) {
	self, err := os.Executable()
	if err != nil {
		x.t.Fatal(err)
	}
	task, err := json.Marshal(childTask{Source: x.e.source.Port, Target: x.e.target.Port, User: x.e.source.User(), SourcePassword: x.e.source.Password(), TargetPassword: x.e.target.Password(), Limits: x.e.limits})
	if err != nil {
		x.t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestMoverToBeKilled$")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stdin = strings.NewReader(string(task) + "\n")
	out, err := cmd.StdoutPipe()
	if err != nil {
		x.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	ended := make(chan struct{})
	var said string
	go func() {
		defer close(ended)
		_ = json.NewDecoder(out).Decode(&said) // it says nothing unless it fails
	}()
	stopAt(ended)
	_ = cmd.Process.Kill()
	<-ended
	_ = cmd.Wait() // it was killed
	if said != "" {
		x.t.Errorf("replicate: %s", said)
	}
}

type childTask struct {
	Source, Target                       int
	User, SourcePassword, TargetPassword string
	Limits                               Limits
}

// TestMoverToBeKilled is the mover's process of another test.
func TestMoverToBeKilled(t *testing.T) {
	if os.Getenv(childVariable) == "" || testing.Short() {
		t.Skip("it is a process of another test, which does not run with -short (testing.Short)")
	}
	var task childTask
	if err := json.NewDecoder(os.Stdin).Decode(&task); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Estate: "test", Name: "cards", Schemas: []string{"app"}, Limits: task.Limits,
		SourceReplica: Replica{Host: "127.0.0.1", Port: task.Source, User: task.User, Password: task.SourcePassword}, TargetReplica: Replica{Host: "127.0.0.1", Port: task.Target, User: task.User, Password: task.TargetPassword}}
	cfg.Source, cfg.Target = login(task.Source, task.User, task.SourcePassword), login(task.Target, task.User, task.TargetPassword)
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = m.Replicate(t.Context(), func(move.Progress) {})
	_ = json.NewEncoder(os.Stdout).Encode(fmt.Sprint(err)) // only if it ends before it is killed
}

// reset makes both servers as if no move had been.
func (e *ends) reset() {
	e.tb.Helper()
	e.sql(e.target, "SET sql_log_bin = 0", "STOP ALL SLAVES", "DROP DATABASE IF EXISTS app", "DROP DATABASE IF EXISTS dhow")
	for range e.rows(e.target, "SHOW ALL SLAVES STATUS") {
		e.sql(e.target, "RESET SLAVE 'dhow_test_cards' ALL")
	}
	e.sql(e.source, "DROP DATABASE IF EXISTS app", "SET sql_log_bin = 0", "DROP DATABASE IF EXISTS dhow")
}
