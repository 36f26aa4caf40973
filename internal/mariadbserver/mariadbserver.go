// Package mariadbserver runs MariaDB servers of one's own: on a free port, in a
// folder of their own, gone when their owner stops or dies. The demo and the
// tests use it. It is not for production servers: it creates a data folder, runs
// a server on it and stops it, and knows nothing of backups or upgrades.
package mariadbserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/process"
)

const (
	// superuser may do everything, from every address; its password is random.
	superuser = "dhow"
	loopback  = "127.0.0.1"
)

// Options say which server to run.
type Options struct {
	// Dir is the server's folder; it is created when it does not exist, and data
	// that is there is served again. Empty: a temporary folder, removed by Stop.
	Dir string
	// Listen is a further address of this machine to serve on, besides loopback:
	// for clients in other network namespaces. Empty means none.
	Listen string
	// Settings override the defaults of the option file, for example
	// "innodb_flush_log_at_trx_commit": "0".
	Settings map[string]string
}

// Server is a running MariaDB server.
type Server struct {
	*process.Server
	password string
	account  *syscall.Credential
}

// Start creates the data folder when there is none and starts the server. It ends
// when Stop or Kill is called and when this process dies, however it dies.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	for _, program := range []string{"mariadbd", "mariadb-install-db"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("no %s on this machine: run `make setup`", program)
		}
	}
	s := &Server{}
	if s.account, err = process.Unprivileged("mariadb", "mysql", "nobody"); err != nil {
		return nil, err
	}
	s.Server, err = process.NewServer(process.ServerOptions{Name: "mariadb", Dir: o.Dir, Command: s.command, Probe: s.probe, Orderly: syscall.SIGTERM, Crash: syscall.SIGKILL})
	if err != nil {
		return nil, err
	}
	if err = s.create(ctx); err == nil {
		err = s.configure(o)
	}
	if err == nil {
		err = s.Restart(ctx)
	}
	if err != nil {
		_ = s.Stop(ctx) // nothing runs
		return nil, err
	}
	return s, nil
}

func (s *Server) data() string    { return filepath.Join(s.Dir, "data") }
func (s *Server) options() string { return filepath.Join(s.Dir, "my.cnf") }
func (s *Server) initial() string { return filepath.Join(s.Dir, "init.sql") }

// create makes the folder, the password and the data, where they are not there yet.
func (s *Server) create(ctx context.Context) error {
	secret := filepath.Join(s.Dir, "password")
	old, err := os.ReadFile(secret)
	if s.password = strings.TrimSpace(string(old)); err == nil && s.password != "" {
		if _, err := os.Stat(filepath.Join(s.data(), "mysql")); err == nil {
			return nil
		}
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("create the folder of mariadb: %w", err)
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	s.password = hex.EncodeToString(random[:])
	// A server runs these statements each time it starts, before it lets anyone in.
	account := fmt.Sprintf("CREATE USER IF NOT EXISTS '%[1]s'@'%%' IDENTIFIED BY '%[2]s';\nGRANT ALL ON *.* TO '%[1]s'@'%%' WITH GRANT OPTION;\n", superuser, s.password)
	for path, text := range map[string]string{secret: s.password + "\n", s.initial(): account} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write the password of mariadb: %w", err)
		}
	}
	if err := s.hand(s.Dir, secret, s.initial()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mariadb-install-db", "--no-defaults", "--datadir="+s.data(), "--tmpdir="+s.Dir, "--skip-test-db", "--auth-root-authentication-method=normal")
	s.prepare(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("create the data of mariadb in %s: %w: %s", s.data(), err, bytes.TrimSpace(out))
	}
	return nil
}

// hand gives files to the server's account.
func (s *Server) hand(paths ...string) error {
	if s.account == nil {
		return nil
	}
	for _, p := range paths {
		if err := os.Chown(p, int(s.account.Uid), int(s.account.Gid)); err != nil {
			return fmt.Errorf("hand %s to the server's account: %w", p, err)
		}
	}
	return nil
}

// configure writes the option file: what every move needs, then the caller's.
func (s *Server) configure(o Options) error {
	all := map[string]string{
		"datadir":                         s.data(),
		"tmpdir":                          s.Dir, // a server that starts deletes what others have in a shared one
		"socket":                          filepath.Join(s.Dir, "socket"),
		"pid_file":                        filepath.Join(s.Dir, "pid"),
		"init_file":                       s.initial(),
		"bind_address":                    loopback,
		"port":                            strconv.Itoa(s.Port),
		"server_id":                       strconv.Itoa(s.Port), // two servers of one machine differ in it
		"log_bin":                         "binlog",
		"binlog_format":                   "ROW",
		"binlog_row_image":                "FULL",
		"gtid_strict_mode":                "ON",
		"log_slave_updates":               "ON",
		"character_set_server":            "utf8mb4",
		"sql_mode":                        "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION",
		"default_time_zone":               "+00:00",
		"local_infile":                    "ON",
		"skip_name_resolve":               "ON",
		"performance_schema":              "OFF",
		"innodb_flush_log_at_trx_commit":  "1",
		"innodb_buffer_pool_size":         "64M",
		"max_connections":                 "200",
		"innodb_lock_wait_timeout":        "10",
		"expire_logs_days":                "1",
		"innodb_autoinc_lock_mode":        "2",
		"explicit_defaults_for_timestamp": "ON",
	}
	if o.Listen != "" {
		all["bind_address"] += "," + o.Listen
	}
	maps.Copy(all, o.Settings)
	var conf strings.Builder
	conf.WriteString("[mariadbd]\n")
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&conf, "%s = %s\n", k, all[k])
	}
	if err := os.WriteFile(s.options(), []byte(conf.String()), 0o600); err != nil {
		return fmt.Errorf("write the options of mariadb: %w", err)
	}
	return s.hand(s.options())
}

func (s *Server) command() *exec.Cmd {
	cmd := exec.Command("mariadbd", "--defaults-file="+s.options()) //nolint:noctx // it lives until Stop
	s.prepare(cmd)
	return cmd
}

func (s *Server) probe(ctx context.Context) error {
	db, err := s.open("mysql", false)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nothing is written behind the answer
	return db.PingContext(ctx)
}

// prepare gives a command the server's account, folder and a plain environment.
func (s *Server) prepare(cmd *exec.Cmd) {
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "HOME="+s.Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account}
}

// URL is the connection string of a database, as the superuser. It holds the
// password: give it to a client, never to a log.
func (s *Server) URL(database string) string {
	u := url.URL{Scheme: "mariadb", User: url.UserPassword(superuser, s.password), Host: net.JoinHostPort(loopback, strconv.Itoa(s.Port)), Path: "/" + database}
	return u.String()
}

// Password is the superuser's password.
func (s *Server) Password() string { return s.password }

// User is the superuser's name.
func (s *Server) User() string { return superuser }

// Open is a pool of sessions to a database, as the superuser.
func (s *Server) Open(database string) (*sql.DB, error) { return s.open(database, false) }

func (s *Server) open(database string, several bool) (*sql.DB, error) {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName = "tcp", net.JoinHostPort(loopback, strconv.Itoa(s.Port)), superuser, s.password, database
	c.MultiStatements = several
	c.Logger = &mysql.NopLogger{} // that a starting server does not answer is no news
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("prepare a connection to mariadb: %w", err)
	}
	return sql.OpenDB(connector), nil
}

// CreateDatabase creates an empty database.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.Exec(ctx, "mysql", "CREATE DATABASE `"+strings.ReplaceAll(name, "`", "``")+"`")
}

// Exec runs statements in a database as the superuser.
func (s *Server) Exec(ctx context.Context, database, statements string) error {
	db, err := s.open(database, true)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nothing is written behind the answer
	if _, err := db.ExecContext(ctx, statements); err != nil {
		return fmt.Errorf("run statements in database %s: %w", database, err)
	}
	return nil
}
