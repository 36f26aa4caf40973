package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/mariadbserver"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/move"
	"dhow/internal/move/movetest"
)

// trap is a rule's trap: how it is laid, and on which side.
type trap struct {
	rule, object string
	on           string // where plant runs
	plant        string
	// undo cleans up what neither the fix nor dropping the database does.
	undo, undoOn string
	// byHand is what a fix in words means, run on the issue's side.
	byHand string
	change func(*Config)
	// as gives rights to another account, with which that side is looked at.
	as string
}

// looked is what a preflight found; every issue must be whole.
func looked(t *testing.T, m *Mover, limits thresholds) []move.Issue {
	t.Helper()
	issues, err := m.inspect(t.Context(), limits)
	return movetest.Issues(t, issues, err)
}

// settlesWithin bounds a test's wait for a preflight to see what is so already.
const settlesWithin = 20 * time.Second

// settled looks until the issues are as wanted, and returns the last. A busy server is
// still at the end of sessions that were closed before: it counts their connections
// and lists their transactions. And it lists transactions anew only when nobody has
// looked for a tenth of a second.
func settled(t *testing.T, m *Mover, limits thresholds, wanted func([]move.Issue) bool) []move.Issue {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(settlesWithin); ; <-tick.C {
		if issues := looked(t, m, limits); wanted(issues) || time.Now().After(end) {
			return issues
		}
	}
}

func none(issues []move.Issue) bool { return len(issues) == 0 }

// has and hasNot want a rule's issue to be found, or not.
func has(rule, object string) func([]move.Issue) bool {
	return func(issues []move.Issue) bool { return movetest.Find(issues, rule, object) != nil }
}

func hasNot(rule, object string) func([]move.Issue) bool {
	return func(issues []move.Issue) bool { return movetest.Find(issues, rule, object) == nil }
}

func named(issues []move.Issue) []string {
	list := []string{}
	for _, i := range issues {
		list = append(list, i.Rule+" "+i.Side+" "+i.Object)
	}
	return list
}

func (s mates) side(name string) *mariadbserver.Server {
	if name == target {
		return s.target
	}
	return s.source
}

// mend runs an issue's fix as it stands, without the remark.
func (s mates) mend(t *testing.T, i move.Issue) {
	t.Helper()
	statements, _, _ := strings.Cut(i.Fix, "; -- ")
	run(t, s.side(i.Side), "mysql", statements)
}

// soundApp is a database in which the preflight finds nothing.
const soundApp = "CREATE DATABASE app; USE app; CREATE TABLE parent (id INT PRIMARY KEY, v INT AS (id + 1) VIRTUAL, w INT AS (id + 2) STORED, h INT INVISIBLE); CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id)); CREATE SEQUENCE s; CREATE VIEW v AS SELECT * FROM parent; CREATE PROCEDURE p() SELECT 1; CREATE TABLE past (id INT PRIMARY KEY) WITH SYSTEM VERSIONING"

var everything = thresholds{}

// traps are laid one after the other between two sound servers.
var traps = []trap{
	{rule: "server-id", object: "server_id", on: target, plant: "SET GLOBAL server_id = {source_id}"},
	{rule: "target-not-empty", object: "app", on: target, plant: "SET sql_log_bin = 0; CREATE DATABASE app; CREATE TABLE app.t (id INT PRIMARY KEY)"},
	{rule: "settings-differ", object: "sql_mode", on: target, plant: "SET GLOBAL sql_mode = 'ANSI_QUOTES'"},
	{rule: "settings-differ", object: "group_concat_max_len", on: target, plant: "SET GLOBAL group_concat_max_len = 1024"},
	{rule: "settings-differ", object: "time_zone", on: source, plant: "SET GLOBAL time_zone = '+01:00'", undo: "SET GLOBAL time_zone = '+00:00'", undoOn: "both"},
	{rule: "settings-differ", object: "collation_server", on: target, plant: "SET GLOBAL collation_server = 'utf8mb4_bin'"},
	{rule: "max-packet", object: "max_allowed_packet", on: target, plant: "SET GLOBAL max_allowed_packet = 1048576"},
	{rule: "engine-missing", object: "BLACKHOLE", on: source, plant: "INSTALL SONAME 'ha_blackhole'; CREATE TABLE app.hole (id INT PRIMARY KEY) ENGINE = BLACKHOLE", undo: "DROP TABLE IF EXISTS app.hole; UNINSTALL SONAME 'ha_blackhole'", undoOn: "both"},
	{rule: "time-zones", object: "mysql.time_zone_name", on: source, plant: zones, byHand: zones, undo: "DELETE FROM mysql.time_zone_name; DELETE FROM mysql.time_zone; DELETE FROM mysql.time_zone_transition_type", undoOn: "both"},
	{rule: "log-format", object: "binlog_format", on: source, plant: "SET GLOBAL binlog_format = 'MIXED'"},
	{rule: "log-format", object: "binlog_format", on: target, plant: "SET GLOBAL binlog_format = 'STATEMENT'"},
	{rule: "row-image", object: "binlog_row_image", on: source, plant: "SET GLOBAL binlog_row_image = 'MINIMAL'"},
	{rule: "log-kept", object: "binlog_expire_logs_seconds", on: source, plant: "SET GLOBAL binlog_expire_logs_seconds = 3600"},
	{rule: "log-kept", object: "binlog retention hours", on: target, plant: "SET sql_log_bin = 0; CREATE TABLE mysql.rds_configuration (name VARCHAR(100), value VARCHAR(100)); INSERT INTO mysql.rds_configuration VALUES ('binlog retention hours', NULL); CREATE PROCEDURE mysql.rds_set_external_master_gtid() SELECT 1; CREATE PROCEDURE mysql.rds_set_configuration(n VARCHAR(100), v INT) UPDATE mysql.rds_configuration SET value = v WHERE name = n",
		undo: "DROP PROCEDURE mysql.rds_set_external_master_gtid; DROP PROCEDURE mysql.rds_set_configuration; DROP TABLE mysql.rds_configuration", undoOn: target},
	{rule: "replica-filter", object: "replicate_ignore_table", on: target, plant: "SET GLOBAL replicate_ignore_table = 'app.parent'"},
	{rule: "replica-filter", object: "replicate_do_db", on: source, plant: "SET GLOBAL replicate_do_db = 'other'"},
	{rule: "durability", object: "sync_binlog", on: source, plant: "SET GLOBAL sync_binlog = 0"},
	{rule: "durability", object: "innodb_flush_log_at_trx_commit", on: source, plant: "SET GLOBAL innodb_flush_log_at_trx_commit = 2"},
	{rule: "local-infile", object: "local_infile", on: target, plant: "SET GLOBAL local_infile = OFF"},
	{rule: "event-scheduler", object: "event_scheduler", on: source, plant: "CREATE EVENT app.e ON SCHEDULE EVERY 1 DAY DO SELECT 1", undo: "SET GLOBAL event_scheduler = OFF; DROP EVENT IF EXISTS app.e", undoOn: "both"},
	{rule: "connections", object: "max_connections", on: target, plant: "SET GLOBAL max_connections = 12", undo: "SET GLOBAL max_connections = 200", undoOn: target},
	{rule: "other-replication", object: "other", on: target, plant: "CHANGE MASTER 'other' TO master_host = '127.0.0.1', master_port = 1, master_user = 'x', master_password = 'x', master_use_gtid = slave_pos; START SLAVE 'other'"},
	{rule: "replica-triggers", object: "slave_run_triggers_for_rbr", on: target, plant: "SET GLOBAL slave_run_triggers_for_rbr = 'YES'"},
	{rule: "forgiving-replication", object: "slave_exec_mode", on: target, plant: "SET GLOBAL slave_exec_mode = 'IDEMPOTENT'"},
	{rule: "loose-numbers", object: "gtid_strict_mode", on: source, plant: "SET GLOBAL gtid_strict_mode = OFF"},
	{rule: "log-ahead", object: "domain 0", on: target, plant: "SET gtid_seq_no = 100000; CREATE DATABASE ahead; DROP DATABASE ahead"},
	{rule: "several-domains", object: "gtid_binlog_pos", on: source, plant: "SET gtid_domain_id = 7; CREATE DATABASE domains; DROP DATABASE domains", byHand: "RESET MASTER"},
	{rule: "taken-triggers", object: "app.t", on: target, plant: "SET sql_log_bin = 0; CREATE DATABASE dhow; " + untriggeredDDL + "; INSERT INTO dhow.untriggered VALUES ('{stream}', 'app', 't', 0, '', '')", byHand: "SET sql_log_bin = 0; DROP DATABASE dhow"},
	{rule: "engine", object: "app.ari", on: source, plant: "CREATE TABLE app.ari (id INT PRIMARY KEY) ENGINE = Aria", undo: "DROP TABLE app.ari", undoOn: source},
	{rule: "engine", object: "app.mem", on: source, plant: "CREATE TABLE app.mem (id INT PRIMARY KEY) ENGINE = MEMORY", undo: "DROP TABLE app.mem", undoOn: source},
	{rule: "no-key", object: "app.keyless", on: source, plant: "CREATE TABLE app.keyless (a INT UNIQUE)", undo: "DROP TABLE app.keyless", undoOn: source},
	{rule: "history-by-transaction", object: "app.counted", on: source, plant: "CREATE TABLE app.counted (id INT PRIMARY KEY, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING", byHand: "DROP TABLE app.counted"},
	{rule: "parent-stays", object: "app.orphan", on: source, plant: "CREATE DATABASE beside; CREATE TABLE beside.parent (id INT PRIMARY KEY); CREATE TABLE app.orphan (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES beside.parent (id))", undo: "DROP TABLE app.orphan; DROP DATABASE beside", undoOn: source},
	{rule: "parent-stays", object: "app.orphan", on: source, plant: "CREATE TABLE app.away (id INT PRIMARY KEY); CREATE TABLE app.orphan (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES app.away (id) ON DELETE CASCADE)", undo: "DROP TABLE app.orphan, app.away", undoOn: source, change: func(c *Config) { c.Exclude = []string{"app.away"} }},
	{rule: "child-stays", object: "app.away", on: source, plant: "CREATE TABLE app.away (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES app.parent (id))", byHand: "DROP TABLE app.away", change: func(c *Config) { c.Exclude = []string{"app.away"} }},
	{rule: "child-stays", object: "beside.child", on: source, plant: "CREATE DATABASE beside; CREATE TABLE beside.child (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES app.parent (id))", byHand: "DROP DATABASE beside"},
	{rule: "our-names", object: "app.dhow_mine", on: source, plant: "CREATE TRIGGER app.dhow_mine BEFORE INSERT ON app.parent FOR EACH ROW SET @x = 1"},
	{rule: "broken-view", object: "app.broken", on: source, plant: "CREATE TABLE app.gone (id INT PRIMARY KEY); CREATE VIEW app.broken AS SELECT * FROM app.gone; DROP TABLE app.gone"},
	{rule: "account-missing", object: "`clerk`@`%`", on: source, plant: "CREATE USER clerk IDENTIFIED BY 'x'; GRANT SELECT ON app.* TO clerk", byHand: "SET sql_log_bin = 0; CREATE USER clerk IDENTIFIED BY 'x'", undo: "DROP USER clerk", undoOn: "both"},
	{rule: "definer-missing", object: "`owner`@`localhost`", on: source, plant: "CREATE USER owner@localhost; CREATE DEFINER = owner@localhost VIEW app.owned AS SELECT * FROM parent_of; DROP VIEW app.owned", undo: "DROP USER owner@localhost", undoOn: "both"},
	{rule: "writes-although-read-only", object: "'boss'@'%'", on: source, plant: "CREATE USER boss; GRANT READ_ONLY ADMIN ON *.* TO boss", undo: "DROP USER boss", undoOn: source},
	{rule: "right-databases", object: "app", on: source, as: "GRANT ALL ON *.* TO mover; REVOKE LOCK TABLES, TRIGGER ON *.* FROM mover"},
	{rule: "right-databases", object: "app", on: target, as: "GRANT ALL ON *.* TO mover; REVOKE ALTER, CREATE ROUTINE ON *.* FROM mover; GRANT SELECT ON `ap_`.* TO mover"},
	{rule: "right-state", object: "dhow", on: target, as: "GRANT ALL ON *.* TO mover; REVOKE CREATE ON *.* FROM mover; GRANT CREATE ON app.* TO mover"},
	{rule: "right-replicate", object: "REPLICATION SLAVE ADMIN", on: target, as: "GRANT ALL ON *.* TO mover; REVOKE SUPER, REPLICATION SLAVE ADMIN ON *.* FROM mover"},
	{rule: "right-watch", object: "SLAVE MONITOR", on: target, as: "GRANT ALL ON *.* TO mover; REVOKE SUPER, SLAVE MONITOR ON *.* FROM mover"},
	{rule: "right-log", object: "BINLOG MONITOR", on: source, as: "GRANT ALL ON *.* TO mover; REVOKE SUPER, BINLOG MONITOR ON *.* FROM mover"},
	{rule: "right-definers", object: "SET USER", on: target, as: "GRANT ALL ON *.* TO mover; REVOKE SUPER, SET USER ON *.* FROM mover"},
	{rule: "right-unlogged", object: "BINLOG ADMIN", on: target, as: "GRANT ALL ON *.* TO mover; REVOKE SUPER, BINLOG ADMIN ON *.* FROM mover"},
	{rule: "right-transactions", object: "PROCESS", on: source, as: "GRANT ALL ON *.* TO mover; REVOKE PROCESS ON *.* FROM mover"},
	{rule: "right-end", object: "CONNECTION ADMIN", on: source, as: "GRANT ALL ON *.* TO mover; REVOKE SUPER, CONNECTION ADMIN ON *.* FROM mover", change: func(c *Config) { c.Stragglers = TerminateSessions }},
	{rule: "right-read-only", object: "READ_ONLY ADMIN", on: source, as: "GRANT ALL ON *.* TO mover; REVOKE READ_ONLY ADMIN ON *.* FROM mover"},
	{rule: "resume-anew", object: "REPLICATION SLAVE ADMIN", on: target, as: "GRANT ALL ON *.* TO mover; REVOKE SUPER, REPLICATION SLAVE ADMIN ON *.* FROM mover", plant: "SET sql_log_bin = 0; CREATE PROCEDURE mysql.rds_set_external_master_gtid() SELECT 1; CREATE TABLE mysql.rds_configuration (name VARCHAR(100), value VARCHAR(100)); INSERT INTO mysql.rds_configuration VALUES ('binlog retention hours', '48')",
		undo: "SET sql_log_bin = 0; DROP PROCEDURE mysql.rds_set_external_master_gtid; DROP TABLE mysql.rds_configuration", undoOn: target},
	{rule: "trust-creators", object: "log_bin_trust_function_creators", on: target, as: "GRANT ALL ON *.* TO mover; REVOKE SUPER ON *.* FROM mover", plant: "SET GLOBAL log_bin_trust_function_creators = OFF", undo: "SET GLOBAL log_bin_trust_function_creators = ON", undoOn: target},
	{rule: "read-only", object: "read_only", on: target, as: "GRANT ALL ON *.* TO mover; REVOKE READ_ONLY ADMIN, SUPER ON *.* FROM mover", plant: "SET GLOBAL read_only = ON", undo: "SET GLOBAL read_only = OFF", undoOn: target},
	{rule: "hidden-routine", object: "app.p", on: source, as: "GRANT ALL ON app.* TO mover; GRANT ALL ON dhow.* TO mover"},
	{rule: "right-replica", object: "`reader`@`%`", on: source, plant: "CREATE USER reader", undo: "DROP USER reader", undoOn: source, change: func(c *Config) { c.SourceReplica.User = "reader" }},
}

// zones make one time zone known.
const zones = "SET sql_log_bin = 0; INSERT INTO mysql.time_zone VALUES (1, 'N'); INSERT INTO mysql.time_zone_name VALUES ('Europe/London', 1); INSERT INTO mysql.time_zone_transition_type VALUES (1, 0, 0, 0, 'GMT'); FLUSH TABLES"

// soundSettings are settings under which the preflight finds nothing.
var soundSettings = []string{"sync_binlog", "1", "innodb_flush_log_at_trx_commit", "1", "log_bin_trust_function_creators", "ON", "expire_logs_days", "7", "plugin_maturity", "experimental", "lock_wait_timeout", "5"}

// TestPreflight lays each trap between two sound servers, sees that it is found, runs
// the fix as it is told, and sees that it is gone and all is sound again.
func TestPreflight(t *testing.T) {
	s := startMates(t, soundSettings...)
	run(t, s.source, "mysql", soundApp)
	run(t, s.target, "mysql", "RESET MASTER")
	sound := s.preflight(t, nil)
	if issues := settled(t, sound, everything, none); len(issues) != 0 {
		t.Fatalf("two sound servers: %+v", issues)
	}
	for _, x := range traps {
		t.Run(x.rule+" on the "+x.on, func(t *testing.T) { s.tryTrap(t, x) })
		if issues := settled(t, sound, everything, none); len(issues) != 0 {
			t.Fatalf("after %s something is left: %v", x.rule, named(issues))
		}
	}
	t.Run("long transaction", s.testLongTransaction)
	t.Run("prepared transaction", s.testPrepared)
	t.Run("definers", s.testDefiners)
	t.Run("same server", s.testSameServer)
	t.Run("unlike", s.testUnlike)
	t.Run("begun", s.testBegun)
	t.Run("unknown names", s.testUnknownNames)
	t.Run("away", s.testAway)
	t.Run("unseen", s.testUnseen)
	t.Run("special servers", s.testSpecialServers)
}

func (s mates) preflight(t *testing.T, change func(*Config)) *Mover {
	t.Helper()
	cfg := Config{Estate: "test", Name: "app", Source: dialect(s.source), Target: dialect(s.target), Schemas: []string{"app"}}
	if change != nil {
		change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(context.Background()) })
	return m
}

func (s mates) tryTrap(t *testing.T, x trap) {
	m := s.preflight(t, x.change)
	if x.as != "" {
		run(t, s.side(x.on), "mysql", "SET sql_log_bin = 0; CREATE USER mover IDENTIFIED BY 'm'; "+x.as)
		defer run(t, s.side(x.on), "mysql", "SET sql_log_bin = 0; DROP USER mover")
		m = s.preflight(t, func(c *Config) {
			if x.change != nil {
				x.change(c)
			}
			as := c.Source
			if x.on == target {
				as = c.Target
			}
			as.User, as.Passwd = "mover", "m"
		})
	}
	plant := strings.NewReplacer("{source_id}", ask(t, s.source, "SELECT @@GLOBAL.server_id"), "{stream}", m.stream).Replace(x.plant)
	if x.rule == "definer-missing" { // a view that works until its definer is gone
		plant = "CREATE USER owner@localhost; GRANT SELECT ON app.* TO owner@localhost; CREATE DEFINER = owner@localhost VIEW app.owned AS SELECT id FROM app.child"
	}
	if plant != "" {
		run(t, s.side(x.on), "mysql", plant)
	}
	issues := settled(t, m, everything, has(x.rule, x.object))
	issue := movetest.Find(issues, x.rule, x.object)
	if issue == nil {
		t.Fatalf("not found; but %v", named(issues))
	}
	if x.byHand != "" {
		run(t, s.side(issue.Side), "mysql", x.byHand)
	} else {
		s.mend(t, *issue)
	}
	if again := movetest.Find(settled(t, s.again(t, m), everything, hasNot(x.rule, x.object)), x.rule, x.object); again != nil {
		t.Errorf("after its fix it is still there: %+v", *again)
	}
	if x.rule == "definer-missing" {
		run(t, s.source, "mysql", "DROP VIEW app.owned")
	}
	if x.undo == "" {
		return
	}
	for _, side := range []string{source, target} {
		if x.undoOn == side || x.undoOn == "both" {
			run(t, s.side(side), "mysql", "SET sql_log_bin = 0; "+x.undo)
		}
	}
}

// again is a mover like another, with sessions of its own.
func (s mates) again(t *testing.T, m *Mover) *Mover {
	t.Helper()
	return s.preflight(t, func(c *Config) { *c = m.cfg })
}

func session(t *testing.T, c *mysql.Config) *sql.Conn {
	t.Helper()
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(0)
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func do(t *testing.T, conn *sql.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.ExecContext(context.Background(), sql); err != nil {
			t.Fatalf("%v\n%s", err, sql)
		}
	}
}

func (s mates) testLongTransaction(t *testing.T) {
	conn := session(t, dialect(s.source))
	do(t, conn, "BEGIN", "INSERT INTO app.parent (id) VALUES (99)")
	m := s.preflight(t, nil)
	issue := movetest.Find(settled(t, m, everything, has("long-transaction", "")), "long-transaction", "")
	if issue == nil {
		t.Fatal("an open transaction was not found")
	}
	if got := settled(t, m, defaultThresholds, none); len(got) != 0 {
		t.Errorf("a young transaction is in the way: %v", named(got))
	}
	s.mend(t, *issue)
	if got := settled(t, m, everything, none); len(got) != 0 {
		t.Errorf("after its fix it is still there: %v", named(got))
	}
}

func (s mates) testPrepared(t *testing.T) {
	conn := session(t, dialect(s.source))
	do(t, conn, "XA START 'left'", "INSERT INTO app.parent (id) VALUES (98)", "XA END 'left'", "XA PREPARE 'left'")
	_ = conn.Close()
	m := s.preflight(t, nil)
	issues := settled(t, m, defaultThresholds, has("prepared-transaction", "'left'"))
	issue := movetest.Find(issues, "prepared-transaction", "'left'")
	if issue == nil {
		t.Fatalf("not found; but %v", named(issues))
	}
	s.mend(t, *issue)
	if got := settled(t, m, defaultThresholds, none); len(got) != 0 {
		t.Errorf("after the fix: %v", named(got))
	}
}

// testDefiners: every kind of object has a definer, and each is missed.
func (s mates) testDefiners(t *testing.T) {
	run(t, s.source, "mysql", `CREATE USER d1, d2, d3, d4; CREATE DEFINER = d1 VIEW app.dv AS SELECT 1 AS one; CREATE DEFINER = d2 PROCEDURE app.dp() SELECT 1;
		CREATE DEFINER = d3 TRIGGER app.dt BEFORE INSERT ON app.parent FOR EACH ROW SET @x = 1; CREATE DEFINER = d4 EVENT app.de ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1`)
	defer run(t, s.source, "mysql", "DROP VIEW app.dv; DROP PROCEDURE app.dp; DROP TRIGGER app.dt; DROP EVENT app.de; DROP USER d1, d2, d3, d4")
	issues := looked(t, s.preflight(t, nil), defaultThresholds)
	for _, name := range []string{"`d1`@`%`", "`d2`@`%`", "`d3`@`%`", "`d4`@`%`"} {
		if movetest.Find(issues, "definer-missing", name) == nil {
			t.Errorf("%s is not missed: %v", name, named(issues))
		}
	}
}

func (s mates) testSameServer(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost"} {
		issues := looked(t, s.preflight(t, func(c *Config) {
			c.Target = c.Source.Clone()
			c.Target.Addr = strings.Replace(c.Target.Addr, "127.0.0.1", host, 1)
		}), defaultThresholds)
		if movetest.Find(issues, "same-server", "") == nil {
			t.Errorf("%s: %v", host, named(issues))
		}
	}
}

// testUnlike shows rules what two servers of one version can not.
func (s mates) testUnlike(t *testing.T) {
	for _, c := range []struct {
		rule   string
		change func(x *inspection)
	}{
		{"unsupported-version", func(x *inspection) { x.source.text, x.source.version = "10.4.1-MariaDB", serverVersion{10, 4} }},
		{"unsupported-version", func(x *inspection) { x.target.text, x.target.version = "8.0.40", serverVersion{8, 0} }},
		{"source-newer", func(x *inspection) { x.target.version = serverVersion{10, 6} }},
		{"target-newer", func(x *inspection) { x.target.version = serverVersion{11, 4} }},
		{"letter-case", func(x *inspection) { x.target.settings["lower_case_table_names"] = "1" }},
		{"history-lost", func(x *inspection) { x.target.version = serverVersion{10, 6} }},
		{"collation-missing", func(x *inspection) { x.source.catalog.Schemas[0].Collation = "utf8mb4_from_2030" }},
		{"no-log", func(x *inspection) { x.source.settings["log_bin"] = "OFF" }},
		{"replicas-log", func(x *inspection) { x.target.settings["log_slave_updates"] = "OFF" }},
	} {
		x, errs := s.preflight(t, nil).openInspection(t.Context(), defaultThresholds)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for _, planted := range []bool{false, true} {
			if planted {
				c.change(x)
			}
			issues, err := x.apply(t.Context(), ruleByID(c.rule))
			if err != nil || (len(issues) > 0) != planted {
				t.Errorf("%s, planted %v: %v, %v", c.rule, planted, issues, err)
			}
		}
		x.close()
	}
}

func ruleByID(id string) rule {
	for _, g := range groups() {
		for _, r := range g {
			if r.id == id {
				return r
			}
		}
	}
	return rule{}
}

// testBegun: once the move has begun, what it made on the target is no finding.
func (s mates) testBegun(t *testing.T) {
	run(t, s.target, "mysql", "SET sql_log_bin = 0; CREATE DATABASE app; CREATE TABLE app.t (id INT PRIMARY KEY)")
	for _, ddl := range stateDDL {
		run(t, s.target, "mysql", "SET sql_log_bin = 0; "+ddl)
	}
	defer run(t, s.target, "mysql", "SET sql_log_bin = 0; DROP DATABASE dhow; DROP DATABASE app")
	m := s.preflight(t, nil)
	if movetest.Find(looked(t, m, defaultThresholds), "target-not-empty", "app") == nil {
		t.Error("a target that is not empty was not found")
	}
	run(t, s.target, "mysql", "SET sql_log_bin = 0; INSERT INTO dhow.stream (name, phase, start_gtid, settled_gtid, source_id) VALUES ('"+m.stream+"', 'copy', '', '', '')")
	if got := looked(t, m, defaultThresholds); len(got) != 0 {
		t.Errorf("of a move that has begun: %v", named(got))
	}
}

func (s mates) testUnknownNames(t *testing.T) {
	issues := looked(t, s.preflight(t, func(c *Config) { c.Schemas, c.Exclude = []string{"app", "ap"}, []string{"app.child", "app.chidl"} }), defaultThresholds)
	var got []string
	for _, i := range issues {
		if i.Rule == "unknown-name" {
			got = append(got, i.Object)
		}
	}
	if !slices.Equal(got, []string{"ap", "app.chidl"}) {
		t.Errorf("%v", got)
	}
}

// testAway: with one server away the other is looked at all the same.
func (s mates) testAway(t *testing.T) {
	run(t, s.source, "mysql", "SET GLOBAL binlog_row_image = 'MINIMAL'")
	defer run(t, s.source, "mysql", "SET GLOBAL binlog_row_image = 'FULL'")
	m := s.preflight(t, func(c *Config) { c.Target = c.Target.Clone(); c.Target.Addr = "127.0.0.1:1" })
	issues, err := m.Preflight(t.Context())
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") || movetest.Find(issues, "row-image", "binlog_row_image") == nil {
		t.Errorf("%v, %v", named(issues), err)
	}
}

// testUnseen: an account that may do nothing learns what it can not see, and no more.
func (s mates) testUnseen(t *testing.T) {
	run(t, s.source, "mysql", "SET sql_log_bin = 0; CREATE USER nobody IDENTIFIED BY 'n'; GRANT SELECT ON app.* TO nobody")
	defer run(t, s.source, "mysql", "SET sql_log_bin = 0; DROP USER nobody")
	issues := looked(t, s.preflight(t, func(c *Config) { c.Source.User, c.Source.Passwd = "nobody", "n" }), defaultThresholds)
	for _, rule := range []string{"log-filter", "account-missing"} {
		if movetest.Find(issues, unseen, rule) == nil {
			t.Errorf("it is not said that %s could not be looked for: %v", rule, named(issues))
		}
	}
	for _, rule := range []string{"right-databases", "right-state", "right-replica", "right-log"} {
		if movetest.Find(issues, rule, "") == nil {
			t.Errorf("%s is not found: %v", rule, named(issues))
		}
	}
}

// testSpecialServers looks at servers that were started in ways that no statement changes.
func (s mates) testSpecialServers(t *testing.T) {
	odd := mariadbtest.Start(t, slices.Concat(soundSettings, []string{"binlog_ignore_db", "app", "log_slave_updates", "OFF", "lower_case_table_names", "1"})...)
	none := mariadbtest.Start(t, slices.Concat(soundSettings, []string{"skip_log_bin", "1", "log_slave_updates", "OFF"})...)
	for _, c := range []struct {
		server *mariadbserver.Server
		rules  []string
	}{{odd, []string{"log-filter", "replicas-log", "letter-case"}}, {none, []string{"no-log"}}} {
		issues := looked(t, s.preflight(t, func(cfg *Config) { cfg.Target = dialect(c.server) }), defaultThresholds)
		for _, rule := range c.rules {
			if i := movetest.Find(issues, rule, ""); i == nil || i.Side != target || i.Severity != move.Loses {
				t.Errorf("%s: %v", rule, fmt.Sprint(named(issues)))
			}
		}
	}
}
