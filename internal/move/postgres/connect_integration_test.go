package postgres

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/pgserver/pgtest"
)

// certificate makes a self-signed certificate for a name, as files that any account's server may read.
func certificate(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "dhow-cert") //nolint:usetesting // the server runs as another account, which may not enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestConnectSaysWhyAndWhatNext(t *testing.T) {
	ctx := context.Background()
	cert, key := certificate(t, "db.example")
	stranger, _ := certificate(t, "another.example")
	plain := pgtest.Start(t, 15)
	secured := pgtest.Start(t, 15)
	// The server reads the key from its own folder, as its own account.
	for from, name := range map[string]string{cert: "server.crt", key: "server.key"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := secured.Exec(ctx, "postgres", "COPY (SELECT unnest(string_to_array("+quote(strings.TrimSpace(string(text)))+", E'\\n'))) TO "+quote(filepath.Join(secured.Dir, "data", name))); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(secured.Dir, "data", name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{"ALTER SYSTEM SET ssl = on", "CREATE DATABASE locked", "REVOKE CONNECT ON DATABASE locked FROM PUBLIC", "CREATE ROLE nologin PASSWORD 'hush-hush'", "CREATE ROLE plain LOGIN PASSWORD 'hush-hush'"} {
		if err := secured.Exec(ctx, "postgres", sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := secured.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	base, err := url.Parse(secured.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(u *url.URL)) string {
		u := *base
		change(&u)
		return u.String()
	}
	hushed := func(user string) *url.Userinfo { return url.UserPassword(user, "hush-hush") }
	for _, c := range []struct{ name, url, says, next string }{
		{"wrong password", with(func(u *url.URL) { u.User = hushed("postgres") }), "does not accept the password", "databases[].source.password"},
		{"no such role", with(func(u *url.URL) { u.User = hushed("nobody") }), "does not accept the password", "databases[].source.password"},
		{"may not log in", with(func(u *url.URL) { u.User = hushed("nologin") }), "may not log in", `ALTER ROLE "nologin" LOGIN`},
		{"no such database", secured.URL("nowhere"), "no such database", `CREATE DATABASE "nowhere"`},
		{"no right to connect", with(func(u *url.URL) { u.User, u.Path = hushed("plain"), "/locked" }), "may not open this session", `GRANT CONNECT ON DATABASE "locked" TO "plain"`},
		{"closed port", with(func(u *url.URL) { u.Host = closed.Addr().String() }), "nothing answers", "databases[].source.port"},
		{"unknown host", with(func(u *url.URL) { u.Host = "no-such-host.invalid:5432" }), "name no-such-host.invalid is not known", "databases[].source.host"},
		{"silent host", with(func(u *url.URL) { u.Host, u.RawQuery = silent.Addr().String(), "sslmode=disable&connect_timeout=1" }), "did not answer in time", "security groups"},
		{"no TLS there", with(func(u *url.URL) {
			u.Host, u.RawQuery = net.JoinHostPort("127.0.0.1", strconv.Itoa(plain.Port)), "sslmode=require"
		}), "speaks no TLS", "databases[].source.tls.mode"},
		{"unknown authority", with(func(u *url.URL) { u.RawQuery = "sslmode=verify-ca&sslrootcert=" + url.QueryEscape(stranger) }), "authority that is not trusted", "databases[].source.tls.ca"},
		{"another name", with(func(u *url.URL) { u.RawQuery = "sslmode=verify-full&sslrootcert=" + url.QueryEscape(cert) }), "not for the name 127.0.0.1", "verify-ca"},
	} {
		cfg, err := pgx.ParseConfig(c.url)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := connect(ctx, cfg, "source")
		if err == nil {
			conn.Close(ctx)
			t.Errorf("%s: connected", c.name)
			continue
		}
		if text := err.Error(); !strings.Contains(text, c.says) || !strings.Contains(text, c.next) || !strings.Contains(text, "connect to the source, "+cfg.Host) {
			t.Errorf("%s: got %q, want %q and %q", c.name, text, c.says, c.next)
		} else if strings.Contains(text, cfg.Password) {
			t.Errorf("%s: the error holds the password", c.name)
		}
	}
	// With the authority's certificate and any name it works.
	cfg, err := pgx.ParseConfig(with(func(u *url.URL) { u.RawQuery = "sslmode=verify-ca&sslrootcert=" + url.QueryEscape(cert) }))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := connect(ctx, cfg, "source")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(ctx)
}

// TestConnectErrorKeepsItsCause: the change stream waits for a server that is
// away, and gives up at once where waiting does not help.
func TestConnectErrorKeepsItsCause(t *testing.T) {
	cfg := &pgx.ConnConfig{}
	for code, forever := range map[string]bool{invalidPassword: true, noSuchDatabase: true, cannotConnectNow: false, tooManyConnections: false} {
		err := explainConnect(context.Background(), cfg, "source", &pgconn.PgError{Code: code, Message: "no"})
		if permanent(err) != forever {
			t.Errorf("%s: permanent is %t", code, !forever)
		}
	}
	if err := explainConnect(context.Background(), cfg, "source", context.DeadlineExceeded); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the cause is lost: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := explainConnect(ctx, cfg, "source", context.Canceled); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "connect to") {
		t.Errorf("an ended context is no fault of the server's: %v", err)
	}
}

// TestHopeless: a stream is tried again for as long as that may help.
func TestHopeless(t *testing.T) {
	code := func(c string) error {
		return fmt.Errorf("the source ended the change stream: %w", &pgconn.PgError{Code: c})
	}
	for _, c := range []struct {
		err          error
		first, later bool // at once, and after reconnectMost
	}{
		{code(internalError), false, true}, {&collision{}, false, true}, {code("57P01"), false, false}, {code("42P01"), true, true}, {io.ErrUnexpectedEOF, false, false},
	} {
		if first, later := hopeless(c.err, 0), hopeless(c.err, reconnectMost+time.Second); first != c.first || later != c.later || !hopeless(c.err, reconnectFor+time.Second) {
			t.Errorf("%v: hopeless is %t at once and %t later", c.err, first, later)
		}
	}
}

func TestExplainRefusal(t *testing.T) {
	cfg := &pgx.ConnConfig{}
	cfg.User, cfg.Database = "u", "d"
	key := func(k string) string { return "target." + k }
	for _, c := range []struct{ code, message, why, fix string }{
		{invalidAuthorization, `no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption`, "encrypted sessions only", "target.tls.mode"},
		{invalidAuthorization, `no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", SSL encryption`, "does not let this user in", "pg_hba.conf"},
		{invalidAuthorization, `role "u" does not exist`, "refuses this user", "target.user"},
		{tooManyConnections, "sorry, too many clients already", "no connection left", "max_connections"},
		{cannotConnectNow, "the database system is starting up", "starting up", "wait"},
		{insufficientPrivilege, "must be superuser or replication role to start walsender", "may not open this session", `ALTER ROLE "u" REPLICATION`},
		{"XX000", "strange", "strange", ""},
	} {
		why, fix := explainRefusal(&pgconn.PgError{Code: c.code, Message: c.message}, cfg, key)
		if !strings.Contains(why, c.why) || !strings.Contains(fix, c.fix) {
			t.Errorf("%s: %q, %q", c.message, why, fix)
		}
	}
}
