package estate

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/pgserver"
	"dhow/internal/pgserver/pgtest"
)

// handTo gives files to the account that runs the server.
func handTo(t *testing.T, s *pgserver.Server, files ...string) {
	t.Helper()
	info, err := os.Stat(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	for _, f := range files {
		if err := os.Chown(f, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// secure turns a server's TLS on, with a certificate for a name.
func secure(t *testing.T, s *pgserver.Server, ca *authority, name string) {
	t.Helper()
	certFile, keyFile := ca.server(t, s.Dir, name)
	handTo(t, s, certFile, keyFile)
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, q := range []string{
		"ALTER SYSTEM SET ssl_cert_file = '" + certFile + "'", "ALTER SYSTEM SET ssl_key_file = '" + keyFile + "'", "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()",
	} {
		if _, err := conn.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		probe, err := pgx.Connect(t.Context(), strings.Replace(s.URL("postgres"), "sslmode=disable", "sslmode=require", 1))
		if err == nil {
			_ = probe.Close(t.Context())
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server speaks no TLS: %v", err)
		}
	}
}

// dump runs pg_dump as the mover does; it returns what it said when it failed.
func dump(t *testing.T, cfg *pgx.ConnConfig, env []string) error {
	t.Helper()
	bin, err := pgserver.Binaries(15)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "pg_dump"), "--schema-only", "-f", os.DevNull)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C", "PGHOST="+cfg.Host, "PGPORT="+strconv.Itoa(int(cfg.Port)), "PGDATABASE="+cfg.Database, "PGUSER="+cfg.User, "PGPASSWORD="+cfg.Password), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestConnectionsAreAsSecureAsNamed connects to a real server in every mode, by
// pgx and by pg_dump, which must agree.
func TestConnectionsAreAsSecureAsNamed(t *testing.T) {
	sockets, err := os.MkdirTemp("", "dhow") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	if err := os.Chmod(sockets, 0o777); err != nil {
		t.Fatal(err)
	}
	s := pgtest.Start(t, 15, "unix_socket_directories", sockets)
	dir := t.TempDir()
	ca, other := newAuthority(t, dir, "bank"), newAuthority(t, dir, "other")
	secure(t, s, ca, "localhost")

	// The user's own root certificate and settings would change what libpq does.
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".postgresql"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(other.file, filepath.Join(home, ".postgresql", "root.crt")); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{"HOME": home, "PGHOSTADDR": "192.0.2.1", "PGSSLMODE": "disable", "PGSSLROOTCERT": other.file, "PGOPTIONS": "-c nothing.valid", "SSL_CERT_FILE": other.file} {
		t.Setenv(key, value)
	}
	t.Setenv("DHOW_TEST_SECRET", s.Password())

	for _, c := range []struct {
		name   string
		host   string
		tls    TLS
		secure bool
		fault  string // what pgx says; empty when both connect
	}{
		{name: "loopback in the clear", host: "127.0.0.1"},
		{name: "socket", host: sockets},
		{name: "disable", host: "localhost", tls: TLS{Mode: TLSDisable}},
		{name: "require", host: "127.0.0.1", tls: TLS{Mode: TLSRequire}, secure: true},
		{name: "verify-ca", host: "127.0.0.1", tls: TLS{Mode: TLSVerifyCA, CA: ca.file}, secure: true},
		{name: "verify-ca of another", host: "127.0.0.1", tls: TLS{Mode: TLSVerifyCA, CA: other.file}, fault: "unknown authority"},
		{name: "verify-ca of the system's", host: "127.0.0.1", tls: TLS{Mode: TLSVerifyCA}, fault: "unknown authority"},
		{name: "verify-full", host: "localhost", tls: TLS{CA: ca.file}, secure: true},
		{name: "verify-full by another name", host: "127.0.0.1", tls: TLS{CA: ca.file}, fault: "127.0.0.1"},
		{name: "verify-full of another", host: "localhost", tls: TLS{CA: other.file}, fault: "unknown authority"},
		{name: "verify-full of the system's", host: "localhost", tls: TLS{Mode: TLSVerifyFull}, fault: "unknown authority"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, env, err := (Endpoint{Host: c.host, Port: s.Port, Database: "postgres", User: s.User(), Password: Secret{Env: "DHOW_TEST_SECRET"}, TLS: c.tls}).ConnConfig(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			dumped := dump(t, cfg, env)
			conn, err := pgx.ConnectConfig(t.Context(), cfg)
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("pgx: %v, want %q", err, c.fault)
				}
				if dumped == nil {
					t.Error("pg_dump connected")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(t.Context()))
			var encrypted bool
			if err := conn.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted); err != nil {
				t.Fatal(err)
			}
			if encrypted != c.secure {
				t.Errorf("encrypted: %t, want %t", encrypted, c.secure)
			}
			if dumped != nil {
				t.Errorf("pg_dump: %v", dumped)
			}
		})
	}
}
