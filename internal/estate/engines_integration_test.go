package estate

import (
	"database/sql"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"dhow/internal/mariadbserver/mariadbtest"
	"dhow/internal/process"
	"dhow/internal/redisserver/redistest"
)

// tlsCase is a connection of a mode to a server whose certificate bears the name localhost.
type tlsCase struct {
	name, host string
	tls        TLS
	secure     bool
	fault      string
}

// certificates are files for a server in a folder that its account can read, two
// authorities of which the first has issued them, and what each mode comes to.
func certificates(t *testing.T) (certFile, keyFile, caFile string, cases []tlsCase) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dhow-tls") //nolint:usetesting // the server's account must get into it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ca, other := newAuthority(t, dir, "bank"), newAuthority(t, dir, "other")
	certFile, keyFile = ca.server(t, dir, "localhost")
	for _, f := range []string{dir, certFile, keyFile, ca.file} {
		if err := os.Chmod(f, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, ca.file, []tlsCase{
		{name: "loopback in the clear", host: "127.0.0.1"},
		{name: "disable", host: "localhost", tls: TLS{Mode: TLSDisable}},
		{name: "require", host: "127.0.0.1", tls: TLS{Mode: TLSRequire}, secure: true},
		{name: "verify-ca", host: "127.0.0.1", tls: TLS{Mode: TLSVerifyCA, CA: ca.file}, secure: true},
		{name: "verify-ca of another", host: "127.0.0.1", tls: TLS{Mode: TLSVerifyCA, CA: other.file}, fault: "unknown authority"},
		{name: "verify-full", host: "localhost", tls: TLS{CA: ca.file}, secure: true},
		{name: "verify-full by another name", host: "127.0.0.1", tls: TLS{CA: ca.file}, fault: "127.0.0.1"},
		{name: "verify-full of another", host: "localhost", tls: TLS{CA: other.file}, fault: "unknown authority"},
		{name: "verify-full of the system's", host: "localhost", tls: TLS{Mode: TLSVerifyFull}, fault: "unknown authority"},
	}
}

func wantFault(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// TestMariaDBIsAsSecureAsNamed connects to a real server in every mode.
func TestMariaDBIsAsSecureAsNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server: not with -short (testing.Short)")
	}
	certFile, keyFile, _, cases := certificates(t)
	s := mariadbtest.Start(t, "ssl_cert", certFile, "ssl_key", keyFile)
	t.Setenv("DHOW_TEST_SECRET", s.Password())
	cases = append(cases, tlsCase{name: "socket", host: filepath.Join(s.Dir, "socket")})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := Endpoint{Host: c.host, Port: s.Port, User: s.User(), Password: Secret{Env: "DHOW_TEST_SECRET"}, TLS: c.tls}.MySQLConfig(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			cfg.Logger = &mysql.NopLogger{}
			connector, err := mysql.NewConnector(cfg)
			if err != nil {
				t.Fatal(err)
			}
			db := sql.OpenDB(connector)
			defer db.Close()
			var name, cipher string
			err = db.QueryRowContext(t.Context(), "SHOW SESSION STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher)
			if c.fault != "" {
				wantFault(t, err, c.fault)
				return
			}
			if err != nil || (cipher != "") != c.secure {
				t.Errorf("the cipher is %q, want one: %t; %v", cipher, c.secure, err)
			}
		})
	}
}

// TestRedisIsAsSecureAsNamed connects to a real server in every mode, as the
// default user and as one of ACL.
func TestRedisIsAsSecureAsNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server: not with -short (testing.Short)")
	}
	certFile, keyFile, caFile, cases := certificates(t)
	secured, err := process.ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(secured.Release)
	s := redistest.Start(t, "tls-port", strconv.Itoa(secured.Number()), "tls-cert-file", certFile, "tls-key-file", keyFile, "tls-ca-cert-file", caFile, "tls-auth-clients", "no")
	t.Setenv("DHOW_TEST_SECRET", s.Password())
	admin := redis.NewClient(&redis.Options{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), Password: s.Password()})
	defer admin.Close()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "mover", "on", ">"+s.Password(), "~*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		for _, user := range []string{"", "mover"} {
			t.Run(c.name+" as "+user, func(t *testing.T) {
				end := Endpoint{Host: c.host, Port: s.Port, User: user, Password: Secret{Env: "DHOW_TEST_SECRET"}, TLS: c.tls}
				if c.secure || c.fault != "" {
					end.Port = secured.Number()
				}
				opts, err := end.RedisOptions(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				opts.MaxRetries = -1
				client := redis.NewClient(opts)
				defer client.Close()
				who, err := client.Do(t.Context(), "ACL", "WHOAMI").Text()
				if c.fault != "" {
					wantFault(t, err, c.fault)
					return
				}
				want := user
				if want == "" {
					want = "default"
				}
				if err != nil || who != want {
					t.Errorf("connected as %q, want %q, %v", who, want, err)
				}
			})
		}
	}
}
