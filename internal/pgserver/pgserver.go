// Package pgserver runs PostgreSQL servers of one's own: on a free port, in a
// folder of their own, gone when their owner stops or dies. The demo and the
// tests use it. It is not for production servers: it creates a cluster, runs it
// and stops it, and knows nothing of backups, upgrades or other people's data.
package pgserver

import (
	"bytes"
	"context"
	"crypto/rand"
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

	"github.com/jackc/pgx/v5"

	"dhow/internal/process"
)

// superuser is the role that initdb creates; its password is random.
const superuser = "postgres"

// Options say which server to run.
type Options struct {
	// Version is PostgreSQL's major version, 13 to 18.
	Version int
	// Dir is the cluster's folder; it is created when it does not exist, and a
	// cluster that is there is started again. Empty: a temporary folder, removed by Stop.
	Dir string
	// Listen is a further address of this machine to serve on, besides loopback:
	// for clients in other network namespaces. Empty means none.
	Listen string
	// Settings override the defaults in postgresql.conf, for example "fsync": "off".
	Settings map[string]string
}

// Server is a running PostgreSQL server.
type Server struct {
	*process.Server
	Version  int
	password string
	bin      string
	account  *syscall.Credential
}

// Start creates the cluster when there is none and starts it. The server ends
// when Stop or Kill is called and when this process dies, however it dies.
func Start(ctx context.Context, o Options) (*Server, error) {
	bin, err := Binaries(o.Version)
	if err != nil {
		return nil, err
	}
	s := &Server{Version: o.Version, bin: bin}
	if s.account, err = process.Unprivileged("postgresql", "postgres", "nobody"); err != nil {
		return nil, err
	}
	// SIGINT ends sessions; SIGQUIT is PostgreSQL's immediate shutdown.
	s.Server, err = process.NewServer(process.ServerOptions{Name: fmt.Sprintf("postgresql %d", o.Version), Dir: o.Dir, Command: s.command, Probe: s.probe, Orderly: syscall.SIGINT, Crash: syscall.SIGQUIT})
	if err != nil {
		return nil, err
	}
	if err = s.create(ctx, o); err == nil {
		err = s.Restart(ctx)
	}
	if err != nil {
		_ = s.Stop(ctx) // nothing runs
		return nil, err
	}
	return s, nil
}

// Binaries names the folder that holds initdb and postgres of a major version.
func Binaries(version int) (string, error) {
	v := strconv.Itoa(version)
	var places []string
	if c := os.Getenv("DHOW_CACHE"); c != "" {
		places = append(places, filepath.Join(c, "postgres", v, "bin"))
	}
	places = append(places, filepath.Join("/usr/lib/postgresql", v, "bin"), filepath.Join("/var/cache/dhow/postgres", v, "bin"))
	if home, err := os.UserHomeDir(); err == nil {
		places = append(places, filepath.Join(home, ".cache/dhow/postgres", v, "bin"))
	}
	for _, p := range places {
		if _, err := os.Stat(filepath.Join(p, "initdb")); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("no postgresql %d server on this machine (looked in %s): run `make setup`", version, strings.Join(places, ", "))
}

func (s *Server) create(ctx context.Context, o Options) error {
	data := s.data()
	secret := filepath.Join(s.Dir, "password")
	if old, err := os.ReadFile(secret); err == nil {
		if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
			s.password = strings.TrimSpace(string(old))
			return s.configure(o)
		}
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("create the folder of postgresql %d: %w", s.Version, err)
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	s.password = hex.EncodeToString(random[:])
	if err := os.WriteFile(secret, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the password of postgresql %d: %w", s.Version, err)
	}
	if s.account != nil {
		for _, p := range []string{s.Dir, secret} {
			if err := os.Chown(p, int(s.account.Uid), int(s.account.Gid)); err != nil {
				return fmt.Errorf("hand %s to the server's account: %w", p, err)
			}
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), "-D", data, "-U", superuser, "--pwfile="+secret,
		"-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
	s.prepare(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("create a cluster of postgresql %d in %s: %w: %s", s.Version, data, err, bytes.TrimSpace(out))
	}
	return s.configure(o)
}

// configure writes the settings that every voyage needs, then the caller's.
func (s *Server) configure(o Options) error {
	all := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "",
		"wal_level":               "logical",
		"max_wal_senders":         "20",
		"max_replication_slots":   "20",
		"max_connections":         "120",
		"track_commit_timestamp":  "on",
		"log_destination":         "stderr",
		"logging_collector":       "off",
	}
	if o.Listen != "" {
		all["listen_addresses"] += "," + o.Listen
		if err := s.admit(); err != nil {
			return err
		}
	}
	maps.Copy(all, o.Settings)
	var conf strings.Builder
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", k, strings.ReplaceAll(all[k], "'", "''"))
	}
	path := filepath.Join(s.data(), "dhow.conf")
	if err := os.WriteFile(path, []byte(conf.String()), 0o644); err != nil {
		return fmt.Errorf("write the settings of postgresql %d: %w", s.Version, err)
	}
	main := filepath.Join(s.data(), "postgresql.conf")
	text, err := os.ReadFile(main)
	if err != nil {
		return fmt.Errorf("read the settings of postgresql %d: %w", s.Version, err)
	}
	const include = "include 'dhow.conf'\n"
	if !bytes.Contains(text, []byte(include)) {
		if err := os.WriteFile(main, append(text, include...), 0o600); err != nil {
			return fmt.Errorf("write the settings of postgresql %d: %w", s.Version, err)
		}
	}
	return nil
}

// admit lets clients from any address in who know a password.
func (s *Server) admit() error {
	path := filepath.Join(s.data(), "pg_hba.conf")
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read who postgresql %d lets in: %w", s.Version, err)
	}
	const anyone = "host all all all scram-sha-256\nhost replication all all scram-sha-256\n"
	if bytes.Contains(text, []byte(anyone)) {
		return nil
	}
	if err := os.WriteFile(path, append(text, anyone...), 0o600); err != nil {
		return fmt.Errorf("write who postgresql %d lets in: %w", s.Version, err)
	}
	return nil
}

func (s *Server) command() *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", strconv.Itoa(s.Port)) //nolint:noctx // it lives until Stop
	s.prepare(cmd)
	return cmd
}

func (s *Server) probe(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// prepare gives a command the server's account, folder and a plain environment.
func (s *Server) prepare(cmd *exec.Cmd) {
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "LD_LIBRARY_PATH="+filepath.Join(s.bin, "../lib"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account}
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

// URL is the connection string of a database, as the cluster's superuser.
// It holds the password: give it to a client, never to a log.
func (s *Server) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(superuser, s.password), Path: "/" + database,
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), RawQuery: "sslmode=disable"}
	return u.String()
}

// Password is the superuser's password.
func (s *Server) Password() string { return s.password }

// User is the superuser's name.
func (s *Server) User() string { return superuser }

// CreateDatabase creates an empty database.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.Exec(ctx, "postgres", "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
}

// Exec runs statements in a database as the superuser.
func (s *Server) Exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		return fmt.Errorf("connect to database %s: %w", database, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has said all
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("run statements in database %s: %w", database, err)
	}
	return nil
}
