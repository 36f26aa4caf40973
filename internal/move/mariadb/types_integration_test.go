package mariadb

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"dhow/internal/mariadbserver"
)

// charsets are all that a column may have.
func (e *ends) charsets() []string {
	var list []string
	for _, row := range e.rows(e.source, "SELECT character_set_name FROM information_schema.character_sets") {
		list = append(list, plain(row))
	}
	return list
}

// plain is a value as the server gave it.
func plain(value string) string {
	text, err := strconv.Unquote(value)
	if err != nil {
		panic(err)
	}
	return text
}

// exact compares a table's rows by the bytes that are stored, hidden columns and history included.
func (e *ends) exact(table Name) {
	e.tb.Helper()
	var list []string
	for _, row := range e.rows(e.source, fmt.Sprintf("SELECT LPAD(ordinal_position, 4, '0'), data_type, column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s", quoteText(table.Schema), quoteText(table.Name))) {
		words := strings.SplitN(row, " ", 3)
		column := quote(plain(words[2]))
		switch strings.Trim(words[1], `"`) {
		case "float":
			list = append(list, "CAST("+column+" AS DOUBLE)")
		case "enum", "set", "bit":
			list = append(list, column+" + 0")
		default:
			list = append(list, "HEX("+column+")")
		}
	}
	history := ""
	if len(e.rows(e.source, fmt.Sprintf("SELECT 1 FROM information_schema.tables WHERE table_type = 'SYSTEM VERSIONED' AND table_schema = %s AND table_name = %s", quoteText(table.Schema), quoteText(table.Name)))) > 0 {
		history = " FOR SYSTEM_TIME ALL"
		if !strings.Contains(e.create(e.source, table), "PERIOD FOR SYSTEM_TIME") {
			list = append(list, "row_start", "row_end")
		}
	}
	e.compare("SELECT " + strings.Join(list, ", ") + " FROM " + table.SQL() + history)
}

// create is a table's definition, without what the next row gets.
func (e *ends) create(s *mariadbserver.Server, table Name) string {
	e.tb.Helper()
	return strings.Join(e.rows(s, "SHOW CREATE TABLE "+table.SQL()), "")
}

var autoIncrement = regexp.MustCompile(` AUTO_INCREMENT=\d+`)

// tables are the moving tables of the source.
func (e *ends) tables(database string) []Name {
	var list []Name
	for _, row := range e.rows(e.source, "SELECT table_name FROM information_schema.tables WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_schema = '"+database+"'") {
		list = append(list, Name{database, plain(row)})
	}
	return list
}

// equal compares all of a database: definitions, rows, sequences and the rest.
func (e *ends) equal(database string) {
	e.tb.Helper()
	in := " WHERE %s_schema = '" + database + "'"
	for _, table := range e.tables(database) {
		a, b := e.create(e.source, table), e.create(e.target, table)
		if e.counting { // a number that was taken and rolled back is in no log
			a, b = autoIncrement.ReplaceAllString(a, ""), autoIncrement.ReplaceAllString(b, "")
		}
		if a != b {
			e.tb.Errorf("definition of %s:\nsource %s\ntarget %s", table, a, b)
		}
		e.exact(table)
	}
	for _, query := range []string{
		"SELECT table_name, table_type FROM information_schema.tables" + fmt.Sprintf(in, "table"),
		"SELECT table_name, view_definition, definer, character_set_client, collation_connection FROM information_schema.views" + fmt.Sprintf(in, "table"),
		"SELECT routine_name, routine_type, HEX(routine_definition), sql_mode, definer, character_set_client, collation_connection FROM information_schema.routines" + fmt.Sprintf(in, "routine"),
		"SELECT trigger_name, event_object_table, ROW_NUMBER() OVER (PARTITION BY event_object_table, action_timing, event_manipulation ORDER BY action_order), action_timing, event_manipulation, HEX(action_statement), sql_mode, definer, character_set_client FROM information_schema.triggers" + fmt.Sprintf(in, "trigger") + " AND trigger_name NOT LIKE 'dhow%'",
		"SELECT event_name, HEX(event_definition), time_zone, interval_value, interval_field, execute_at, starts, ends, on_completion, sql_mode, definer, event_comment FROM information_schema.events" + fmt.Sprintf(in, "event"),
		"SELECT default_collation_name, schema_comment FROM information_schema.schemata WHERE schema_name = '" + database + "'",
	} {
		e.compare(query)
	}
	for _, row := range e.rows(e.source, "SELECT table_name FROM information_schema.tables WHERE table_type = 'SEQUENCE' AND table_schema = '"+database+"'") {
		e.compare("SELECT * FROM " + database + "." + quote(plain(row)))
	}
}

func TestEveryTypeArrivesAsItIs(t *testing.T) {
	e := startEnds(t)
	text := []string{"CREATE DATABASE app CHARACTER SET latin1 COMMENT 'it''s \\\\ ours'", "USE app", "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'"}
	for _, charset := range e.charsets() {
		text = append(text, fmt.Sprintf("CREATE TABLE cs_%[1]s (id INT PRIMARY KEY, c CHAR(12) CHARACTER SET %[1]s, v VARCHAR(40) CHARACTER SET %[1]s, x TEXT CHARACTER SET %[1]s, e ENUM('a','ä','ß') CHARACTER SET %[1]s, KEY (v))", charset))
		text = append(text, fmt.Sprintf("INSERT INTO cs_%[1]s VALUES (1, 'plain', 'tab\\tnl\\nbs\\\\cr\\rq''q\"z\\0end', 'Grüße ひらがな 漢字 表 ソ € ä ж 中文', 'ä'), (2, '', '', '', 1), (3, NULL, NULL, NULL, NULL), (4, '  x  ', ' ', '\\\\N', 'a')", charset))
	}
	text = append(text,
		"CREATE TABLE numbers (a TINYINT, b SMALLINT UNSIGNED, c MEDIUMINT ZEROFILL, d INT, e BIGINT, f BIGINT UNSIGNED, g DECIMAL(65,30), h DECIMAL(10,0) ZEROFILL, i FLOAT, j DOUBLE, k FLOAT(7,3), l DOUBLE(12,2) UNSIGNED, m BOOLEAN, n BIT(1), o BIT(64), p BIT(13), id INT PRIMARY KEY)",
		"INSERT INTO numbers VALUES (-128, 65535, 16777215, -2147483648, -9223372036854775808, 18446744073709551615, '99999999999999999999999999999999999.999999999999999999999999999999', 42, 1.17549435e-38, 2.2250738585072014e-308, 1234.567, 0.01, TRUE, b'1', b'1111111111111111111111111111111111111111111111111111111111111111', b'1010101010101', 1)",
		"INSERT INTO numbers VALUES (127, 0, 0, 2147483647, 9223372036854775807, 0, -0.000000000000000000000000000001, 0, 3.40282347e+38, 1.7976931348623157e308, -9999.999, 0, FALSE, b'0', b'0', b'0101', 2), (NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,3)",
		"INSERT INTO numbers (id, i, j, n, o) VALUES (4, 0.1, 0.1, 1, 10), (5, 16777217, 1e22, 0, 9), (6, -0.0, -0e0, 1, 92), (7, 123456.789, 4.9e-324, 1, 0x0a095c), (8, 1e-45, 1/3, 0, 0)",
		"CREATE TABLE times (id INT PRIMARY KEY, d DATE, t TIME, t6 TIME(6), dt DATETIME, dt6 DATETIME(6), ts TIMESTAMP NULL, ts6 TIMESTAMP(6) NULL, dt3 DATETIME(3), y YEAR)",
		"INSERT INTO times VALUES (1, '0000-00-00', '-838:59:59', '-00:00:00.000001', '0000-00-00', '0000-00-00 00:00:00.000000', '0000-00-00', '0000-00-00', '2026-02-31 10:00:00.123', 0), (2, '9999-12-31', '838:59:59', '838:59:59.999999', '9999-12-31 23:59:59', '1000-01-01 00:00:00.000001', '1970-01-01 00:00:01', '2038-01-19 03:14:07.999999', '2026-01-00', 2155), (3, '2026-02-31', '00:00:00', '12:00:00.5', '2026-03-29 02:30:00', NULL, NULL, '2026-10-25 00:30:00.5', NULL, 1901), (4, NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,2000)",
		"CREATE TABLE bytes (id INT PRIMARY KEY, b BINARY(5), v VARBINARY(300), t TINYBLOB, m MEDIUMBLOB, l LONGBLOB, j JSON, u UUID, i INET6, p VARCHAR(100) COMPRESSED, q BLOB COMPRESSED) ROW_FORMAT = DYNAMIC",
		"INSERT INTO bytes VALUES (1, 'a\\0', UNHEX('000102030405060708090A0B0C0D0E0F5C095C0A5C4E80FF'), '', REPEAT(UNHEX('5C0A0900FF'), 5000), REPEAT('x', 300000), '{\"a\": [1, \"ü\\\\n\", null]}', UUID(), '2001:db8::ff00:42:8329', REPEAT('ab', 40), REPEAT('z', 900)), (2, NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL), (3, '', '', '\\\\N', 'NULL', '', '[]', '00000000-0000-0000-0000-000000000000', '::', '', '')",
		"CREATE TABLE compressed (id INT PRIMARY KEY, a TEXT, KEY (a(20))) ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 8", "INSERT INTO compressed SELECT seq, REPEAT(seq, 50) FROM seq_1_to_500",
		"CREATE TABLE words (id INT PRIMARY KEY, e ENUM('', 'a', '1', '2', 'O''Brien', 'x\\\\y'), s SET('a', 'b', 'c d', '1'), f ENUM('x') NOT NULL)", "INSERT IGNORE INTO words VALUES (1, '', 'a,c d', 'bad'), (2, 'nothing like it', '', 'x'), (3, '2', 15, 'x'), (4, NULL, NULL, 'x'), (5, 'x\\\\y', '1', 'x')",
		"CREATE TABLE shapes (id INT PRIMARY KEY, g GEOMETRY, p POINT NOT NULL, SPATIAL KEY (p), l LINESTRING, mp MULTIPOLYGON)",
		"INSERT INTO shapes VALUES (1, ST_GeomFromText('POLYGON((0 0,0 9,9 9,0 0))', 4326), POINT(10.5, -9.25), ST_GeomFromText('LINESTRING(0 0,1 1,10 92)'), ST_GeomFromText('MULTIPOLYGON(((0 0,0 3,3 3,0 0)))')), (2, ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))'), POINT(1e300, 9), NULL, NULL)",
		"CREATE TABLE made (id INT PRIMARY KEY, a INT, v INT AS (a * 2) VIRTUAL, s VARCHAR(20) AS (CONCAT('s', a)) STORED, h INT INVISIBLE DEFAULT 7, u INT AS (a + 1) STORED, UNIQUE KEY (u), KEY (v), CHECK (a < 100 OR h = 7))", "INSERT INTO made (id, a, h) VALUES (1, 5, 8), (2, NULL, 7), (3, 99, 1)",
		"CREATE TABLE versioned (id INT PRIMARY KEY, a VARCHAR(20)) WITH SYSTEM VERSIONING", "INSERT INTO versioned VALUES (1, 'one'), (2, 'two')", "UPDATE versioned SET a = 'uno' WHERE id = 1", "DELETE FROM versioned WHERE id = 2",
		"CREATE TABLE dated (id INT PRIMARY KEY, a INT, b INT WITHOUT SYSTEM VERSIONING, rs TIMESTAMP(6) GENERATED ALWAYS AS ROW START INVISIBLE, re TIMESTAMP(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (rs, re)) WITH SYSTEM VERSIONING", "INSERT INTO dated VALUES (1, 1, 1), (2, 2, 2)", "UPDATE dated SET a = a + 1", "DELETE FROM dated WHERE id = 1",
		"CREATE TABLE keyless (a INT, b VARCHAR(20), c FLOAT)", "INSERT INTO keyless VALUES (1, 'same', 0.1), (1, 'same', 0.1), (NULL, NULL, NULL)",
		"CREATE TABLE stringkey (k VARCHAR(30) COLLATE utf8mb3_swedish_ci, n INT, PRIMARY KEY (k))", "INSERT INTO stringkey SELECT CONCAT('Schlüssel ', seq), seq FROM seq_1_to_300",
		"CREATE TABLE composite (a INT, b VARCHAR(10), c DATE, v BLOB, PRIMARY KEY (b, a, c), UNIQUE KEY (v(20)))", "INSERT INTO composite SELECT seq % 10, CONCAT('b', seq % 7), '2026-01-01' + INTERVAL seq DAY, CONCAT('v', seq) FROM seq_1_to_500",
		"CREATE TABLE prefixed (b BLOB NOT NULL, n INT, PRIMARY KEY (b(10)))", "INSERT INTO prefixed VALUES ('abc', 1), ('abd', 2)",
		"CREATE TABLE counted (id INT AUTO_INCREMENT PRIMARY KEY, a INT) AUTO_INCREMENT = 4242",
		"CREATE TABLE zeroed (id INT AUTO_INCREMENT PRIMARY KEY, a INT)", "INSERT INTO zeroed VALUES (0, 1), (-5, 2), (10, 3)",
		"CREATE TABLE second (a INT, id INT AUTO_INCREMENT, KEY other (a), UNIQUE KEY auto (id)) AUTO_INCREMENT = 9", "INSERT INTO second (a) VALUES (1), (1)",
		"CREATE TABLE parted (id INT PRIMARY KEY, a INT) PARTITION BY RANGE (id) (PARTITION low VALUES LESS THAN (10), PARTITION high VALUES LESS THAN MAXVALUE)", "INSERT INTO parted SELECT seq, seq FROM seq_1_to_30",
		"CREATE TABLE `we``ird na-me` (`co``l` INT PRIMARY KEY, `KEY y` INT, `a,\n  KEY ``b``` INT, KEY `id``x` (`KEY y`)) COMMENT 'two\nlines'", "INSERT INTO `we``ird na-me` VALUES (1, 2, 3)",
		"CREATE TABLE parent (id INT PRIMARY KEY, t TEXT, FULLTEXT KEY (t), FULLTEXT KEY again (t))", "CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT `f k` FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE SET NULL)", "INSERT INTO parent VALUES (1, 'a word'), (2, 'two')", "INSERT INTO child VALUES (1, 1), (2, NULL), (3, 2)",
		"CREATE SEQUENCE numbered START WITH 100 INCREMENT BY 5 MAXVALUE 200 CACHE 3 CYCLE", "DO NEXTVAL(numbered), NEXTVAL(numbered)", "CREATE TABLE fromseq (id INT PRIMARY KEY DEFAULT NEXTVAL(numbered), a INT)", "INSERT INTO fromseq (a) VALUES (1), (2)",
	)
	e.sql(e.source, text...)
	s := e.replicate(e.mover("app"))
	s.wait()
	e.equal("app")
	// The same by the stream.
	e.sql(e.source, "USE app", "UPDATE versioned SET a = 'eins' WHERE id = 1", "INSERT INTO versioned VALUES (2, 'again')", "UPDATE dated SET a = 50, b = 9", "DELETE FROM keyless WHERE a = 1 LIMIT 1", "DELETE FROM parent WHERE id = 1",
		"INSERT INTO numbers SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, id + 100 FROM numbers", "INSERT INTO bytes SELECT id + 100, b, v, t, m, l, j, u, i, p, q FROM bytes", "INSERT INTO times SELECT id + 100, d, t, t6, dt, dt6, ts, ts6, dt3, y FROM times",
		"INSERT INTO shapes SELECT id + 100, g, p, l, mp FROM shapes", "INSERT INTO fromseq (a) VALUES (3)", "INSERT INTO made (id, a) VALUES (9, 9)", "INSERT INTO counted (a) VALUES (1)", "UPDATE words SET s = 'b' WHERE id = 1", "DO NEXTVAL(numbered)")
	s.catchUp()
	e.equal("app")
	s.end()
}

func TestViewsRoutinesTriggersAndEvents(t *testing.T) {
	e := startEnds(t, "event_scheduler", "ON")
	e.sql(e.source, "CREATE DATABASE app", "CREATE DATABASE lib CHARACTER SET latin1", "USE app",
		"CREATE USER 'owner'@'%'", "GRANT ALL ON app.* TO 'owner'@'%'", "GRANT ALL ON lib.* TO 'owner'@'%'",
		"CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT)", "CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, t INT, what VARCHAR(60))", "CREATE TABLE ticks (id INT AUTO_INCREMENT PRIMARY KEY, at TIMESTAMP(6) DEFAULT NOW(6))",
		"CREATE DEFINER='owner'@'%' FUNCTION lib.twice(n INT) RETURNS INT DETERMINISTIC RETURN n * 2",
		"CREATE VIEW z_first AS SELECT id, a, lib.twice(a) AS b FROM t", "CREATE DEFINER='owner'@'%' SQL SECURITY INVOKER VIEW b_middle AS SELECT * FROM z_first WHERE b > 1 WITH CHECK OPTION", "CREATE VIEW a_last AS SELECT m.*, 'Grüße' AS w FROM b_middle m JOIN log USING (id)",
		"CREATE PROCEDURE p(IN `in` INT, OUT o VARCHAR(20)) COMMENT 'ü' BEGIN SET o = CONCAT('ü', `in`, '\\n'); INSERT INTO log (what) VALUES ('p'); END",
		"SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'", "CREATE FUNCTION ansi(a VARCHAR(10)) RETURNS VARCHAR(30) NO SQL RETURN a || 'x'", "SET sql_mode = 'ORACLE'",
		"CREATE PACKAGE pack AS FUNCTION f RETURN INT; END", "CREATE PACKAGE BODY pack AS FUNCTION f RETURN INT AS BEGIN RETURN 7; END; END", "SET sql_mode = DEFAULT",
		"CREATE TRIGGER one AFTER INSERT ON t FOR EACH ROW INSERT INTO log (t, what) VALUES (NEW.id, 'one')", "CREATE TRIGGER two AFTER INSERT ON t FOR EACH ROW FOLLOWS one INSERT INTO log (t, what) VALUES (NEW.id, 'two')", "CREATE TRIGGER zero AFTER INSERT ON t FOR EACH ROW PRECEDES one INSERT INTO log (t, what) VALUES (NEW.id, 'zero')",
		"CREATE TRIGGER b BEFORE UPDATE ON t FOR EACH ROW SET NEW.a = NEW.a + 1000",
		"CREATE EVENT tick ON SCHEDULE EVERY 1 SECOND COMMENT 'ON COMPLETION PRESERVE ENABLE' DO INSERT INTO ticks VALUES ()",
		"CREATE EVENT off ON SCHEDULE EVERY 1 HOUR STARTS '2030-01-01' ON COMPLETION PRESERVE DISABLE DO DELETE FROM ticks",
		"INSERT INTO t (a) VALUES (1), (2)")
	e.sql(e.target, "CREATE USER 'owner'@'%'", "GRANT ALL ON *.* TO 'owner'@'%'")
	s := e.replicate(e.mover("app", "lib"))
	s.wait()
	e.sql(e.source, "INSERT INTO app.t (a) VALUES (3)", "UPDATE app.t SET a = 5 WHERE id = 1")
	e.until("SELECT IF(COUNT(*) >= 3, 'yes', 'no') FROM app.ticks", "yes")
	e.sql(e.source, "ALTER EVENT app.tick DISABLE")
	s.catchUp()
	e.equal("app")
	e.equal("lib")
	if got := e.rows(e.target, "SELECT event_name FROM information_schema.events WHERE event_schema = 'app' AND status = 'ENABLED'"); len(got) > 0 {
		t.Errorf("events run on the target: %v", got)
	}
	e.compare("SELECT * FROM app.a_last")
	e.compare("SELECT app.ansi('a')")
	s.end()
}

// until waits until a query of the source gives an answer.
func (e *ends) until(query, answer string) {
	e.tb.Helper()
	for began := time.Now(); time.Since(began) < streamsWithin; time.Sleep(10 * time.Millisecond) {
		if got := e.rows(e.source, query); len(got) == 1 && got[0] == fmt.Sprintf("%q", answer) {
			return
		}
	}
	e.tb.Fatalf("%s never gave %s", query, answer)
}
