package mariadbtest

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"dhow/internal/mariadbserver"
)

// managedProcedures do what a managed server's owner lets its customers do of
// replication, under the names and with the arguments of RDS for MariaDB.
const managedProcedures = `
CREATE PROCEDURE mysql.rds_set_external_master_gtid(IN host VARCHAR(255), IN port INT, IN user_name VARCHAR(255), IN secret VARCHAR(255), IN gtid VARCHAR(1024), IN encrypted INT)
BEGIN
	EXECUTE IMMEDIATE CONCAT('SET GLOBAL gtid_slave_pos = ', QUOTE(gtid));
	EXECUTE IMMEDIATE CONCAT('CHANGE MASTER TO MASTER_HOST = ', QUOTE(host), ', MASTER_PORT = ', port, ', MASTER_USER = ', QUOTE(user_name), ', MASTER_PASSWORD = ', QUOTE(secret),
		', MASTER_SSL = ', encrypted, ', MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos');
END;
CREATE PROCEDURE mysql.rds_start_replication() BEGIN START SLAVE; END;
CREATE PROCEDURE mysql.rds_stop_replication() BEGIN STOP SLAVE; END;
CREATE PROCEDURE mysql.rds_reset_external_master() BEGIN RESET SLAVE ALL; END;
`

// managedRights are those of a managed server's first account: neither SUPER nor
// what it was divided into.
const managedRights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, " +
	"REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER, DELETE HISTORY"

// ManagedSettings are those of a managed server that differ from Start's.
func ManagedSettings() []string {
	return []string{"gtid_strict_mode", "OFF", "log_bin_trust_function_creators", "ON"}
}

// Manage makes a server refuse what RDS for MariaDB refuses and offer the
// procedures that it has instead, to the account that is returned.
func Manage(tb testing.TB, s *mariadbserver.Server) (user, password string) {
	tb.Helper()
	user, password = "admin", rand.Text()
	for sql := range strings.SplitSeq(strings.ReplaceAll(managedProcedures, "\nCREATE", "\x00CREATE"), "\x00") {
		if sql = strings.TrimSpace(sql); sql == "" {
			continue
		}
		if err := s.Exec(context.Background(), "mysql", sql); err != nil {
			tb.Fatal(err)
		}
	}
	for _, sql := range []string{"CREATE USER 'admin'@'%' IDENTIFIED BY '" + password + "'", "GRANT " + managedRights + " ON *.* TO 'admin'@'%' WITH GRANT OPTION"} {
		if err := s.Exec(context.Background(), "mysql", sql); err != nil {
			tb.Fatal(err)
		}
	}
	return user, password
}
