package mariadbserver_test

import (
	"database/sql"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"dhow/internal/mariadbserver"
	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/superapp/service"

	"github.com/go-sql-driver/mysql"
)

func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	c, err := service.MariaDBConfig(url, "the test's")
	if err != nil {
		t.Fatal(err)
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestServerKeepsWhatWasCommittedOverCrashAndRestart(t *testing.T) {
	s := mariadbtest.Start(t, "innodb_flush_log_at_trx_commit", "1")
	url := mariadbtest.Database(t, s, "app")
	if err := s.Exec(t.Context(), "app", "CREATE TABLE t (a int primary key); INSERT INTO t VALUES (41), (1)"); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	var sum int
	var format, zone string
	if err := open(t, url).QueryRowContext(t.Context(), "SELECT sum(a), @@binlog_format, @@global.time_zone FROM t").Scan(&sum, &format, &zone); err != nil {
		t.Fatal(err)
	}
	if sum != 42 || format != "ROW" || zone != "+00:00" {
		t.Errorf("sum %d, binlog format %s, time zone %s", sum, format, zone)
	}
	if args, err := os.ReadFile("/proc/" + strconv.Itoa(s.Pid()) + "/cmdline"); err == nil && strings.Contains(string(args), s.Password()) {
		t.Error("the password is in the process list")
	}
	dir := s.Dir
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))); err == nil {
		_ = c.Close()
		t.Error("the port still answers after Stop")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestServerListensOnAFurtherAddressAndKeepsItsFolder(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a MariaDB server: not with -short (testing.Short)")
	}
	dir, err := os.MkdirTemp("", "maria") //nolint:usetesting // the server's account must reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o := mariadbserver.Options{Dir: dir, Listen: "127.0.0.2"}
	first, err := mariadbserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Exec(t.Context(), "mysql", "CREATE DATABASE kept"); err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := mariadbserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Kill)
	there := strings.Replace(again.URL("kept"), "127.0.0.1", "127.0.0.2", 1)
	if err := open(t, there).PingContext(t.Context()); err != nil {
		t.Error(err)
	}
	if err := open(t, strings.Replace(there, again.Password(), "wrong", 1)).PingContext(t.Context()); err == nil {
		t.Error("a wrong password was taken")
	}
}
