package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"

	"dhow/internal/mariadbserver"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/move"
)

// mates are two servers, the target a replica of the source where follow was called.
type mates struct {
	source, target *mariadbserver.Server
}

func startMates(t *testing.T, settings ...string) mates {
	t.Helper()
	return mates{mariadbtest.Start(t, settings...), mariadbtest.Start(t, settings...)}
}

// follow lets the target replicate the source from now on.
func (s mates) follow(t *testing.T) {
	t.Helper()
	at := ask(t, s.source, "SELECT @@GLOBAL.gtid_binlog_pos")
	run(t, s.target, "mysql", fmt.Sprintf("SET GLOBAL gtid_slave_pos = '%s'; CHANGE MASTER 'mate' TO master_host = '127.0.0.1', master_port = %d, master_user = '%s', master_password = '%s', master_use_gtid = slave_pos; START SLAVE 'mate'",
		at, s.source.Port, s.source.User(), s.source.Password()))
}

func run(t *testing.T, s *mariadbserver.Server, database, statements string) {
	t.Helper()
	if err := s.Exec(context.Background(), database, statements); err != nil {
		t.Fatalf("%v\n%s", err, statements)
	}
}

// unlogged runs statements that the other side must not read in the binary log.
func (s mates) unlogged(t *testing.T, of *mariadbserver.Server, database, statements string) {
	t.Helper()
	run(t, of, database, "SET sql_log_bin = 0; SET sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'; "+statements)
}

func dialect(s *mariadbserver.Server) *mysql.Config {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), s.User(), s.Password()
	return c
}

func ask(t *testing.T, s *mariadbserver.Server, query string) string {
	t.Helper()
	connector, err := mysql.NewConnector(dialect(s))
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	var answer sql.NullString
	if err := db.QueryRowContext(context.Background(), query).Scan(&answer); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	return answer.String
}

// mover is a mover of one database between the mates.
func (s mates) mover(t *testing.T, schemas ...string) *Mover {
	t.Helper()
	m, err := New(Config{Estate: "test", Name: schemas[0], Source: dialect(s.source), Target: dialect(s.target), Schemas: schemas})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(context.Background()) })
	return m
}

var (
	streaming = move.State{Started: true, Copied: true}
	sealed    = move.State{Started: true, Copied: true, Sealed: true}
)

func compared(t *testing.T, m *Mover, o move.VerifyOptions, state move.State) move.Comparison {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := m.verify(ctx, o, nil, state)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// told are a comparison's differences in short.
func told(c move.Comparison) []string {
	list := []string{}
	for _, d := range c.Differences {
		text := fmt.Sprintf("%s %s %s", d.Kind, d.Table, d.Key)
		if d.Repaired {
			text += " repaired"
		}
		list = append(list, text)
	}
	return list
}

// everyType is a table with a column of each type, and rows that are easily got wrong.
const everyType = `CREATE TABLE every (id INT PRIMARY KEY,
	ti TINYINT UNSIGNED ZEROFILL, bi BIGINT UNSIGNED, de DECIMAL(38,10), fl FLOAT, db DOUBLE, fd FLOAT(7,3), bt BIT(64),
	ch CHAR(10), vc VARCHAR(300) CHARACTER SET latin1, uc VARCHAR(100) CHARACTER SET ucs2, u3 VARCHAR(100) CHARACTER SET utf8mb3, ci VARCHAR(50) COLLATE utf8mb4_general_ci,
	bn BINARY(8), vb VARBINARY(300), bl LONGBLOB, tx LONGTEXT, js JSON, en ENUM('', 'a', 'b'), st SET('x', 'y', 'z'),
	da DATE, ti6 TIME(6), dt DATETIME(6), ts TIMESTAMP(6) NULL, ye YEAR, ge GEOMETRY, uu UUID, ip INET6,
	cm TEXT COMPRESSED, vi INT AS (id * 2) VIRTUAL, sg INT AS (id * 3) STORED, hid INT INVISIBLE DEFAULT 7) ENGINE = InnoDB;
	INSERT INTO every (id, ti, bi, de, fl, db, fd, bt, ch, vc, uc, u3, ci, bn, vb, bl, tx, js, en, st, da, ti6, dt, ts, ye, ge, uu, ip, cm, hid) VALUES
	(1, 7, 18446744073709551615, 12345678901234567890.0123456789, 0.1, 0.1e0 + 0.2e0, 1.2345, 18446744073709551615, 'a', 'hé', 'h', 'x', 'X', 'ab', X'00FF27', X'0001', 'text', '{"a": 1}', '', 'x,z',
	 '2024-02-29', '-838:59:59.999999', '0000-00-00 00:00:00', '2038-01-19 03:14:07.999999', 1901, ST_GeomFromText('POINT(1 2)', 4326), '123e4567-e89b-12d3-a456-426614174000', '::ffff:1.2.3.4', 'compressed', 1),
	(2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(3, 0, 0, 0, 0, 0, 0, 0, '', '', '', '', '', '', '', '', '', '[]', 9, '', '0000-00-00', '0', '2024-02-30', '1970-01-01 00:00:01', 0, ST_GeomFromText('LINESTRING(0 0, 1 1)'), '00000000-0000-0000-0000-000000000000', '::', '', 0),
	(4, 1, 1, 1, 1e30, 1e300, 1, 1, 'a ', ',', ',1:', 'N', '1:a', 'a', 'a', REPEAT('x', 100000), REPEAT('y', 100000), '"N"', 'a', 'x', '2024-01-01', '00:00:01', '2024-01-01', '2024-01-01', 2024, NULL, NULL, NULL, REPEAT('z', 1000), 4)`

// changes are different values for a column of row 1, 2 or 3 of everyType.
var changes = map[string][]string{
	"ti": {"8"}, "bi": {"18446744073709551614"}, "de": {"12345678901234567890.0123456788"}, "fl": {"0.10000001"}, "db": {"0.3"}, "fd": {"1.236"}, "bt": {"18446744073709551614"},
	"ch": {"'b'", "'A'", "''"}, "vc": {"'he'", "''"}, "uc": {"'H'"}, "u3": {"'X'", "NULL"}, "ci": {"'x'", "'X '", "'x\u0301'"}, "bn": {"'abc'", "'ab\\0c'"}, "vb": {"X'00FF'", "X'00FF2700'"},
	"bl": {"X'0002'", "''", "NULL"}, "tx": {"'Text'", "'text '", "NULL"}, "js": {"'{\"a\":1}'"}, "en": {"'a'", "NULL", "9"}, "st": {"'x'", "''"},
	"da": {"'2024-02-28'", "'0000-00-00'"}, "ti6": {"'-838:59:59.999998'"}, "dt": {"'0000-00-00 00:00:00.000001'", "NULL"}, "ts": {"'2038-01-19 03:14:07.999998'"}, "ye": {"0"},
	"ge": {"ST_GeomFromText('POINT(1 2)', 0)", "ST_GeomFromText('POINT(1 3)', 4326)"}, "uu": {"'123e4567-e89b-12d3-a456-426614174001'"}, "ip": {"'::ffff:1.2.3.5'"}, "cm": {"'compresses'"}, "hid": {"2"},
}

// TestVerify compares databases of one pair of servers, one test after the other.
func TestVerify(t *testing.T) {
	s := startMates(t)
	for _, server := range []*mariadbserver.Server{s.source, s.target} {
		run(t, server, "mysql", stateDDL[0])
		for _, ddl := range stateDDL[1:] {
			run(t, server, "mysql", ddl)
		}
	}
	s.follow(t)
	t.Run("types", s.testTypes)
	t.Run("keys", s.testKeys)
	t.Run("keyless", s.testKeyless)
	t.Run("history", s.testHistory)
	t.Run("objects", s.testObjects)
	t.Run("moving", s.testMoving)
	t.Run("triggers", s.testTriggers)
	t.Run("pinned", s.testPinned)
	t.Run("chunks", s.testChunks)
}

// both makes the same on both sides, without replication.
func (s mates) both(t *testing.T, database, statements string) {
	t.Helper()
	for _, of := range []*mariadbserver.Server{s.source, s.target} {
		s.unlogged(t, of, "mysql", "CREATE DATABASE IF NOT EXISTS "+database)
		s.unlogged(t, of, database, statements)
	}
}

func (s mates) testTypes(t *testing.T) {
	s.both(t, "types", everyType)
	m := s.mover(t, "types")
	c := compared(t, m, move.VerifyOptions{}, sealed)
	if c.Different != 0 || c.Rows != 4 || c.Tables != 1 || len(c.ByTable) != 1 || c.ByTable[0].Rows != 4 {
		t.Fatalf("equal tables: %+v", c)
	}
	for column, values := range changes {
		for _, value := range values {
			s.unlogged(t, s.target, "types", fmt.Sprintf("UPDATE every SET %s = %s WHERE id = 1", column, value))
			want := []string{"changed types.every id=1"}
			if got := told(compared(t, m, move.VerifyOptions{}, sealed)); !slices.Equal(got, want) {
				t.Errorf("%s = %s: found %v", column, value, got)
			}
			got := told(compared(t, m, move.VerifyOptions{Repair: true}, sealed))
			if !slices.Equal(got, []string{want[0] + " repaired"}) {
				t.Errorf("%s = %s: repair says %v", column, value, got)
			}
			if c := compared(t, m, move.VerifyOptions{}, sealed); c.Different != 0 {
				t.Fatalf("%s = %s: after the repair %v", column, value, told(c))
			}
		}
	}
	// NULL, empty and zero are three things, in every column.
	for _, change := range []string{"UPDATE every SET %s = 0 WHERE id = 2", "UPDATE every SET %s = NULL WHERE id = 3"} {
		for column := range changes {
			if strings.Contains(change, "= 0") && slices.Contains([]string{"js", "ge", "uu", "ip"}, column) {
				continue // a zero is none of their values
			}
			s.unlogged(t, s.target, "types", fmt.Sprintf(change, column))
			c := compared(t, m, move.VerifyOptions{Repair: true}, sealed)
			if c.Different != 1 || c.Repaired != 1 {
				t.Errorf(change+": %v", column, told(c))
			}
		}
	}
	if c := compared(t, m, move.VerifyOptions{}, sealed); c.Different != 0 {
		t.Errorf("in the end: %v", told(c))
	}
}

func (s mates) testKeys(t *testing.T) {
	s.both(t, "keyed", `
		CREATE TABLE ci (k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT); INSERT INTO ci VALUES ('a', 1), ('B', 2), ('', 3);
		CREATE TABLE pair (a INT, b VARCHAR(10) CHARACTER SET latin1, c DATE, v INT, PRIMARY KEY (a, b, c)); INSERT INTO pair VALUES (1, 'x', '2024-01-01', 1), (1, 'y', '0000-00-00', 2), (2, '', '2024-01-01', 3);
		CREATE TABLE bin (k VARBINARY(20) PRIMARY KEY, v INT); INSERT INTO bin VALUES (X'00FF', 1), ('text', 2);
		CREATE TABLE flo (k DOUBLE PRIMARY KEY, v INT); INSERT INTO flo VALUES (0.1, 1), (1e300, 2);
		CREATE TABLE dec_ (k DECIMAL(30,2) PRIMARY KEY, v INT); INSERT INTO dec_ VALUES (9007199254740993.01, 1), (9007199254740993.02, 2);
		CREATE TABLE big (k BIGINT UNSIGNED PRIMARY KEY, v INT); INSERT INTO big VALUES (9007199254740992, 1), (9007199254740993, 2), (18446744073709551615, 3);
		CREATE TABLE en (k ENUM('z', 'a') PRIMARY KEY, v INT); INSERT INTO en VALUES ('z', 1), ('a', 2);
		CREATE TABLE uni (k INT NOT NULL UNIQUE, v INT UNIQUE); INSERT INTO uni VALUES (1, 1), (2, 2);
		CREATE TABLE pre (k VARCHAR(100), v INT, PRIMARY KEY (k(3))); INSERT INTO pre VALUES ('abcdef', 1), ('xyz', 2);
		CREATE TABLE bits (k BIT(10) PRIMARY KEY, v INT); INSERT INTO bits VALUES (5, 1), (6, 2);
		CREATE TABLE uid (k UUID PRIMARY KEY, v INT); INSERT INTO uid VALUES ('123e4567-e89b-12d3-a456-426614174000', 1);
		CREATE TABLE stamp (k TIMESTAMP(6) PRIMARY KEY, v INT); INSERT INTO stamp VALUES ('2024-10-27 00:30:00', 1), ('2024-10-27 01:30:00', 2);
		CREATE TABLE wide (k VARCHAR(20) CHARACTER SET ucs2 PRIMARY KEY, v INT); INSERT INTO wide VALUES ('hé', 1), ('b', 2);
		CREATE TABLE jis (k VARCHAR(20) CHARACTER SET cp932 PRIMARY KEY, v INT); INSERT INTO jis VALUES (_cp932 X'FA54', 1), (_cp932 X'81CA41', 2), ('b', 3);
		CREATE TABLE ari (k INT PRIMARY KEY, v INT) ENGINE = Aria; INSERT INTO ari VALUES (1, 1), (2, 2)`)
	m := s.mover(t, "keyed")
	if c := compared(t, m, move.VerifyOptions{}, sealed); c.Different != 0 || c.Tables != 15 {
		t.Fatalf("equal tables: %+v", c)
	}
	s.unlogged(t, s.target, "keyed", `
		UPDATE ci SET k = 'A' WHERE k = 'a'; DELETE FROM ci WHERE k = 'B';
		UPDATE pair SET v = 9 WHERE b = 'y'; INSERT INTO pair VALUES (3, 'é', '2024-01-01', 4);
		UPDATE bin SET v = 9;
		UPDATE flo SET v = 9 WHERE k = 0.1; UPDATE dec_ SET v = 9 WHERE k = 9007199254740993.02; UPDATE big SET v = 9 WHERE k = 9007199254740993;
		DELETE FROM en WHERE k = 'z'; UPDATE pre SET k = 'abcxyz' WHERE v = 1; UPDATE bits SET v = 9 WHERE k = 6; DELETE FROM uid;
		UPDATE stamp SET v = 9 WHERE v = 2; UPDATE uni SET v = 3 - v WHERE k = 3; UPDATE uni SET v = 9 WHERE k = 1; UPDATE uni SET v = 1 WHERE k = 2; UPDATE uni SET v = 2 WHERE k = 1;
		UPDATE wide SET v = 9 WHERE v = 1; UPDATE jis SET v = 9 WHERE v IN (1, 3); DELETE FROM ari WHERE k = 1; INSERT INTO ari VALUES (3, 3)`)
	want := []string{
		"extra keyed.ari k=3", "missing keyed.ari k=1", "changed keyed.big k=9007199254740993", "changed keyed.bin k=0x00ff", "changed keyed.bin k=text", "changed keyed.bits k=6",
		"extra keyed.ci k=A", "missing keyed.ci k=B", "missing keyed.ci k=a", "changed keyed.dec_ k=9007199254740993.02", "missing keyed.en k=1", "changed keyed.flo k=0.1",
		"changed keyed.pair a=1, b=y, c=0000-00-00", "extra keyed.pair a=3, b=é, c=2024-01-01", "missing keyed.pre k=abcdef", "extra keyed.pre k=abcxyz", "changed keyed.stamp k=2024-10-27 01:30:00.000000",
		"missing keyed.uid k=123e4567-e89b-12d3-a456-426614174000", "changed keyed.uni k=1", "changed keyed.uni k=2",
		"changed keyed.wide k=hé", "changed keyed.jis k=_cp932 0xfa54", "changed keyed.jis k=b",
	}
	slices.Sort(want)
	for _, state := range []move.State{sealed, streaming} {
		c := compared(t, m, move.VerifyOptions{}, state)
		got := told(c)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || c.Different != int64(len(want)) || c.Undecided != 0 {
			t.Errorf("%+v, undecided %d: %s", state, c.Undecided, diff)
		}
	}
	if c := compared(t, m, move.VerifyOptions{Repair: true, Tables: []string{"keyed.ci"}}, sealed); c.Different != 3 || c.Repaired != 3 || c.Tables != 1 {
		t.Errorf("one table: %+v", c)
	}
	if c := compared(t, m, move.VerifyOptions{Repair: true}, streaming); c.Different != int64(len(want)-3) || c.Repaired != c.Different {
		t.Errorf("repair: %v", told(c))
	}
	if c := compared(t, m, move.VerifyOptions{}, streaming); c.Different != 0 {
		t.Errorf("in the end: %v", told(c))
	}
	if _, err := m.verify(t.Context(), move.VerifyOptions{Tables: []string{"keyed.none"}}, nil, sealed); err == nil || !strings.Contains(err.Error(), "keyed.none") {
		t.Errorf("a table that is not there: %v", err)
	}
}

func (s mates) testKeyless(t *testing.T) {
	s.both(t, "keyless", `CREATE TABLE log (a INT, b TEXT, f FLOAT); INSERT INTO log VALUES (1, 'x', 0.1), (1, 'x', 0.1), (2, NULL, 0.2), (3, 'N', 0.3);
		CREATE TABLE named (id INT, hash INT); INSERT INTO named VALUES (1, 1), (2, 1), (2, 1);
		CREATE TABLE nul (k INT UNIQUE, v INT); INSERT INTO nul VALUES (NULL, 1), (NULL, 1), (1, 2)`)
	m := s.mover(t, "keyless")
	for _, state := range []move.State{sealed, streaming} {
		s.unlogged(t, s.target, "keyless", `DELETE FROM log WHERE a = 1 LIMIT 1; INSERT INTO log VALUES (4, 'y', 1), (4, 'y', 1); UPDATE log SET b = 'NULL' WHERE a = 2; INSERT INTO nul VALUES (NULL, 1); DELETE FROM named WHERE id = 2 LIMIT 1`)
		want := []string{"extra keyless.log a=2, b=NULL, f=0.20000000298023224", "missing keyless.log a=2, b=NULL, f=0.20000000298023224", "missing keyless.log a=1, b=x, f=0.10000000149011612",
			"extra keyless.log a=4, b=y, f=1", "extra keyless.log a=4, b=y, f=1", "extra keyless.nul k=NULL, v=1", "missing keyless.named id=2, hash=1"}
		slices.Sort(want)
		got := told(compared(t, m, move.VerifyOptions{}, state))
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v: %s", state, diff)
		}
		if c := compared(t, m, move.VerifyOptions{Repair: true}, state); c.Different != 7 || c.Repaired != 7 {
			t.Errorf("%+v: repair: %v", state, told(c))
		}
		if c := compared(t, m, move.VerifyOptions{}, state); c.Different != 0 {
			t.Errorf("%+v: in the end: %v", state, told(c))
		}
	}
}

// testHistory: what a versioned table was is compared too, as the stream carries it.
func (s mates) testHistory(t *testing.T) {
	run(t, s.source, "mysql", `CREATE DATABASE past; USE past;
		CREATE TABLE v (id INT PRIMARY KEY, a INT) WITH SYSTEM VERSIONING;
		CREATE TABLE named (id INT PRIMARY KEY, a INT, s TIMESTAMP(6) GENERATED ALWAYS AS ROW START INVISIBLE, e TIMESTAMP(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING;
		CREATE TABLE counted (id INT PRIMARY KEY, a INT, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING ENGINE = InnoDB;
		INSERT INTO v VALUES (1, 1), (2, 2); UPDATE v SET a = 3 WHERE id = 1; DELETE FROM v WHERE id = 2;
		INSERT INTO named VALUES (1, 1); UPDATE named SET a = 2; INSERT INTO counted (id, a) VALUES (1, 1), (2, 2); UPDATE counted SET a = 5 WHERE id = 1`)
	m := s.mover(t, "past")
	s.wait(t)
	if c := compared(t, m, move.VerifyOptions{}, streaming); c.Different != 0 || c.Rows != 8 {
		t.Fatalf("as the stream carried it: %+v", c)
	}
	s.unlogged(t, s.target, "past", `DELETE HISTORY FROM v; INSERT INTO named VALUES (2, 2)`)
	c := compared(t, m, move.VerifyOptions{Repair: true}, streaming)
	if c.Different != 3 || c.Repaired != 0 || c.Undecided != 0 {
		t.Errorf("a lost history: %+v", told(c))
	}
	for _, d := range c.Differences {
		if !strings.Contains(d.Key, "row_end=2") && !strings.Contains(d.Key, "id=2, e=now") {
			t.Errorf("a version is called %s", d.Key)
		}
	}
}

// wait returns once the target has what the source has.
func (s mates) wait(t *testing.T) {
	t.Helper()
	if late := ask(t, s.target, "SELECT MASTER_GTID_WAIT('"+ask(t, s.source, "SELECT @@GLOBAL.gtid_binlog_pos")+"', 20)"); late != "0" {
		t.Fatalf("the target does not follow: %s", ask(t, s.target, "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'Slaves_running'"))
	}
}

func (s mates) testObjects(t *testing.T) {
	s.both(t, "objects", `CREATE TABLE same (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(10) CHARACTER SET latin1, b INT, c INT); INSERT INTO same VALUES (1, 'é', 1, 1);
		CREATE SEQUENCE seq INCREMENT BY 1; CREATE SEQUENCE down_ INCREMENT BY -1`)
	s.unlogged(t, s.source, "objects", `CREATE TABLE lost (id INT PRIMARY KEY); CREATE SEQUENCE gone; ALTER TABLE same AUTO_INCREMENT = 100; SELECT NEXTVAL(seq), NEXTVAL(down_)`)
	s.unlogged(t, s.target, "objects", `CREATE TABLE more (id INT PRIMARY KEY); ALTER TABLE same MODIFY a VARCHAR(10) CHARACTER SET utf8mb4, DROP COLUMN b, ADD COLUMN d INT, MODIFY c BIGINT`)
	got := told(compared(t, s.mover(t, "objects"), move.VerifyOptions{}, sealed))
	want := []string{"changed objects.down_ next value", "missing objects.gone sequence", "missing objects.lost table", "extra objects.more table", "changed objects.same AUTO_INCREMENT", "missing objects.same column b", "extra objects.same column d",
		"changed objects.same column a: type varchar(10) of utf8mb4 instead of varchar(10) of latin1", "changed objects.same column c: type bigint(20) instead of int(11)", "changed objects.seq next value"}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// testMoving: while rows are written all the time, what is on its way is no
// difference, and what is different is one.
func (s mates) testMoving(t *testing.T) {
	run(t, s.source, "mysql", `CREATE DATABASE busy; USE busy; CREATE TABLE hot (id INT PRIMARY KEY, v INT, s VARCHAR(20)); INSERT INTO hot SELECT seq, 0, 'x' FROM mysql.seq_1_to_2000;
		CREATE TABLE log (v INT); CREATE TABLE ari (id INT PRIMARY KEY, v INT) ENGINE = Aria; INSERT INTO ari VALUES (1, 0), (2, 0)`)
	s.wait(t)
	s.unlogged(t, s.target, "busy", `UPDATE hot SET s = 'wrong' WHERE id IN (5, 1999); DELETE FROM hot WHERE id = 1500; INSERT INTO hot VALUES (99999, 1, 'extra'); INSERT INTO log VALUES (-1); UPDATE ari SET v = 5 WHERE id = 2`)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.write(ctx, "busy") }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	m := s.mover(t, "busy")
	want := []string{"changed busy.ari id=2", "changed busy.hot id=5", "missing busy.hot id=1500", "changed busy.hot id=1999", "extra busy.hot id=99999", "extra busy.log v=-1"}
	for _, o := range []move.VerifyOptions{{}, {Repair: true}} {
		c := compared(t, m, o, streaming)
		if o.Repair {
			for i := range want {
				want[i] += " repaired"
			}
		}
		if diff := cmp.Diff(want, told(c)); diff != "" || c.Undecided != 0 {
			t.Errorf("%+v: undecided %d: %s", o, c.Undecided, diff)
		}
	}
	for range 3 {
		if c := compared(t, m, move.VerifyOptions{}, streaming); c.Different != 0 || c.Undecided != 0 {
			t.Errorf("in the end: undecided %d, %v", c.Undecided, told(c))
		}
	}
}

// write writes to a database all the time: a value that goes back and forth, rows that come and go.
func (s mates) write(ctx context.Context, database string) error {
	c := dialect(s.source)
	c.DBName = database
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	for i := 0; ctx.Err() == nil; i++ {
		for _, statement := range []string{
			"UPDATE hot SET v = 1 - v WHERE id <= 3",
			fmt.Sprintf("REPLACE INTO hot VALUES (%d, %d, 'new')", 3000+i%50, i),
			fmt.Sprintf("DELETE FROM hot WHERE id = %d", 3000+(i+25)%50),
			fmt.Sprintf("INSERT INTO log VALUES (%d)", i%5),
			fmt.Sprintf("DELETE FROM log WHERE v = %d LIMIT 1", (i+2)%5),
			"UPDATE ari SET v = 1 - v WHERE id = 1",
		} {
			if _, err := db.ExecContext(context.WithoutCancel(ctx), statement); err != nil {
				return err
			}
		}
	}
	return nil
}

// testTriggers: a repair passes the triggers of the target by, and leaves them as they were.
func (s mates) testTriggers(t *testing.T) {
	s.both(t, "trig", `CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20)); INSERT INTO t VALUES (1, 'a'), (2, 'b'); CREATE TABLE audit (n INT)`)
	s.unlogged(t, s.target, "trig", `UPDATE t SET v = 'c' WHERE id = 1; INSERT INTO t VALUES (3, 'd');
		SET NAMES latin1; SET sql_mode = 'ANSI_QUOTES'; CREATE TRIGGER audit_i AFTER INSERT ON t FOR EACH ROW INSERT INTO audit VALUES (1);
		CREATE TRIGGER guard_i BEFORE INSERT ON t FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not yet';
		CREATE TRIGGER guard_d BEFORE DELETE ON t FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not yet'`)
	const list = "SELECT GROUP_CONCAT(CONCAT(trigger_name, action_order, event_manipulation, sql_mode, character_set_client, definer, action_statement) ORDER BY trigger_name) FROM information_schema.triggers WHERE trigger_schema = 'trig'"
	before := ask(t, s.target, list)
	m := s.mover(t, "trig")
	c := compared(t, m, move.VerifyOptions{Repair: true}, streaming)
	if c.Different != 2 || c.Repaired != 2 {
		t.Errorf("%v", told(c))
	}
	if after := ask(t, s.target, list); after != before {
		t.Errorf("the triggers were\n%s\nand are\n%s", before, after)
	}
	if n := ask(t, s.target, "SELECT COUNT(*) FROM dhow.untriggered"); n != "0" {
		t.Errorf("%s triggers are still noted", n)
	}
	if c := compared(t, m, move.VerifyOptions{}, streaming); c.Different != 0 {
		t.Errorf("in the end %v", told(c))
	}
	// Death in between: the triggers are noted, and one is gone.
	w, err := m.newMender(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	died := fmt.Errorf("died")
	catalog, err := m.catalog(t.Context(), w.conn)
	if err != nil {
		t.Fatal(err)
	}
	of := &comparedTable{source: catalog.Table(Name{"trig", "t"}), target: catalog.Table(Name{"trig", "t"})}
	if err := w.withoutTriggers(t.Context(), of, func() error {
		hangUp(w.conn)
		return died
	}); err == nil {
		t.Error("a session that is gone restored triggers")
	}
	if n := ask(t, s.target, "SELECT COUNT(*) FROM dhow.untriggered"); n != "3" {
		t.Errorf("%s triggers are noted", n)
	}
	if err := m.restoreTriggers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := ask(t, s.target, list); after != before {
		t.Errorf("the triggers were\n%s\nand after a death are\n%s", before, after)
	}
}

// testPinned: snapshots show what was, whatever is written later; and they hold nobody up.
func (s mates) testPinned(t *testing.T) {
	s.both(t, "pinned", `CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, v INT); INSERT INTO a SELECT seq, seq FROM mysql.seq_1_to_5000; CREATE TABLE b (v INT); INSERT INTO b VALUES (1), (1), (2); CREATE TABLE ari (v INT) ENGINE = Aria`)
	s.unlogged(t, s.target, "pinned", "UPDATE a SET v = 0 WHERE id = 77; INSERT INTO b VALUES (1)")
	m := s.mover(t, "pinned")
	if _, err := m.verify(t.Context(), move.VerifyOptions{Pinned: true}, nil, sealed); err == nil || !strings.Contains(err.Error(), "pinned") {
		t.Errorf("without a pin: %v", err)
	}
	if err := m.readyPins(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.verify(t.Context(), move.VerifyOptions{Pinned: true}, nil, sealed); err == nil {
		t.Error("compared snapshots that were not taken yet")
	}
	if err := m.Pin(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.unlogged(t, s.target, "pinned", "DELETE FROM a WHERE id < 1000; UPDATE a SET v = 77 WHERE id = 77; INSERT INTO b VALUES (7); ALTER TABLE a AUTO_INCREMENT = 100000")
	open := move.State{Started: true, Copied: true, Sealed: true, Open: true}
	want := []string{"changed pinned.a id=77", "extra pinned.b v=1"}
	for range 2 {
		c := compared(t, m, move.VerifyOptions{Pinned: true}, open)
		if diff := cmp.Diff(want, told(c)); diff != "" || c.Rows != 5003 || c.Tables != 2 || c.Undecided == 0 {
			t.Errorf("%+v: %s", c, diff)
		}
	}
	s.unlogged(t, s.target, "pinned", "SET lock_wait_timeout = 1; ALTER TABLE a ADD COLUMN w INT, ALGORITHM = INSTANT; TRUNCATE b") // nobody is held up
	if _, err := m.verify(t.Context(), move.VerifyOptions{Pinned: true}, nil, open); err == nil || !strings.Contains(err.Error(), "definition") {
		t.Errorf("after TRUNCATE: %v", err)
	}
	if err := m.Pin(t.Context()); err != nil { // again, as after a cutover that was given up
		t.Fatal(err)
	}
	m.Unpin(t.Context())
	if _, err := m.verify(t.Context(), move.VerifyOptions{}, nil, open); err == nil || !strings.Contains(err.Error(), "way back") {
		t.Errorf("an open target: %v", err)
	}
	if _, err := m.verify(t.Context(), move.VerifyOptions{}, nil, move.State{Started: true}); err == nil {
		t.Error("compared what was not copied yet")
	}
}

// testChunks: a table of many chunks, and more differences than are named.
func (s mates) testChunks(t *testing.T) {
	s.both(t, "chunks", `CREATE TABLE wide (a INT, b CHAR(8), pad VARCHAR(2000), PRIMARY KEY (a, b)); INSERT INTO wide SELECT seq DIV 7, seq, REPEAT('x', 1000) FROM mysql.seq_1_to_40000; ANALYZE TABLE wide`)
	s.unlogged(t, s.target, "chunks", "DELETE FROM wide WHERE a = 0; UPDATE wide SET pad = '' WHERE a BETWEEN 100 AND 199; INSERT INTO wide VALUES (-1, '', ''), (1000000, 'z', '')")
	m := s.mover(t, "chunks")
	var last move.Progress
	c, err := m.verify(t.Context(), move.VerifyOptions{Most: 10}, func(p move.Progress) { last = p }, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if c.Chunks < 3 || c.Rows != 40000 || c.Different != 6+700+2 || len(c.Differences) != 10 || c.ByTable[0].Different != c.Different || c.ByTable[0].Took <= 0 {
		t.Errorf("%d chunks, %d rows, %d different, %d named, %+v", c.Chunks, c.Rows, c.Different, len(c.Differences), c.ByTable)
	}
	if last.Rows != 40000 || last.Phase != move.PhaseVerify || len(last.Tables) != 1 || !last.Tables[0].Done || last.Steps != c.Chunks {
		t.Errorf("told %+v", last)
	}
	if c := compared(t, m, move.VerifyOptions{Repair: true}, streaming); c.Repaired != c.Different {
		t.Errorf("repaired %d of %d", c.Repaired, c.Different)
	}
	if c := compared(t, m, move.VerifyOptions{}, streaming); c.Different != 0 {
		t.Errorf("in the end %v", told(c))
	}
}
