package estate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// authority issues certificates for tests.
type authority struct {
	file string // of its certificate, in PEM form
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, dir, name string) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(dir, name+".pem"), key: newKey(t)}
	a.cert = a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, a.key)
	writePEM(t, a.file, "CERTIFICATE", a.cert.Raw)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue signs a certificate for a key; an authority without one signs its own.
func (a *authority) issue(t testing.TB, cert *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	cert.SerialNumber = big.NewInt(time.Now().UnixNano())
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = cert
	}
	raw, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// server writes the certificate and the key of a server with a name to two files.
func (a *authority) server(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key := newKey(t)
	cert := a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, key)
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	writePEM(t, certFile, "CERTIFICATE", cert.Raw)
	writePEM(t, keyFile, "EC PRIVATE KEY", raw)
	return certFile, keyFile
}

func writePEM(t testing.TB, file, kind string, raw []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: raw}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConnConfig(t *testing.T) {
	ca := newAuthority(t, t.TempDir(), "bank")
	t.Setenv("DHOW_TEST_SECRET", hidden)
	// The user's own settings must not change what the estate says.
	home := t.TempDir()
	for key, value := range map[string]string{
		"HOME": home, "PGHOST": "elsewhere", "PGPORT": "1", "PGDATABASE": "x", "PGUSER": "x", "PGPASSWORD": "x", "PGOPTIONS": "-c x=y", "PGAPPNAME": "x", "PGTZ": "x",
		"PGSSLMODE": "require", "PGSSLROOTCERT": "/none", "PGCONNECT_TIMEOUT": "1", "PGTARGETSESSIONATTRS": "standby", "PGSSLNEGOTIATION": "direct", "PGCHANNELBINDING": "disable", "PGREQUIREAUTH": "none",
		"PGSSLCERTMODE": "require", "PGSSLCERT": "/none", "PGSSLKEY": "/none", "PGPASSFILE": filepath.Join(home, "pass"), "PGMINPROTOCOLVERSION": "3.2", "PGMAXPROTOCOLVERSION": "3.2",
	} {
		t.Setenv(key, value)
	}
	if err := os.WriteFile(filepath.Join(home, "pass"), []byte("*:*:*:*:from-the-pass-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		host     string
		tls      TLS
		mode     string // that libpq is told
		root     string
		verified bool // by Go's own check of chain and name
		chain    bool // by ours, of the chain alone
	}{
		{name: "far", host: "db.example.com", mode: TLSVerifyFull, root: systemRootFile(), verified: true},
		{name: "far with a CA", host: "db.example.com", tls: TLS{CA: ca.file}, mode: TLSVerifyFull, root: ca.file, verified: true},
		{name: "loopback", host: "127.0.0.1", mode: TLSDisable, root: noFile},
		{name: "loopback by IPv6", host: "::1", mode: TLSDisable, root: noFile},
		{name: "loopback by name", host: "localhost", mode: TLSDisable, root: noFile},
		{name: "loopback with a CA", host: "localhost", tls: TLS{CA: ca.file}, mode: TLSVerifyFull, root: ca.file, verified: true},
		{name: "a name that is not localhost", host: "localhost.example.com", mode: TLSVerifyFull, root: systemRootFile(), verified: true},
		{name: "socket", host: "/run/postgresql", mode: TLSDisable, root: noFile},
		{name: "in the clear", host: "db.example.com", tls: TLS{Mode: TLSDisable}, mode: TLSDisable, root: noFile},
		{name: "unverified", host: "db.example.com", tls: TLS{Mode: TLSRequire}, mode: TLSRequire, root: noFile},
		{name: "chain alone", host: "db.example.com", tls: TLS{Mode: TLSVerifyCA, CA: ca.file}, mode: TLSVerifyCA, root: ca.file, chain: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := Endpoint{Host: c.host, Database: "accounts", User: "dhow", Password: Secret{Env: "DHOW_TEST_SECRET"}, TLS: c.tls}
			cfg, env, err := e.ConnConfig(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Host != c.host || cfg.Port != DefaultPort || cfg.Database != "accounts" || cfg.User != "dhow" || cfg.Password != hidden {
				t.Errorf("connects to %s:%d/%s as %s", cfg.Host, cfg.Port, cfg.Database, cfg.User)
			}
			if len(cfg.Fallbacks) != 0 || cfg.ValidateConnect != nil || len(cfg.RuntimeParams) != 1 || cfg.RuntimeParams["application_name"] != "dhow" ||
				cfg.SSLNegotiation != "postgres" || cfg.ChannelBinding != "prefer" || cfg.RequireAuth != "" || cfg.MaxProtocolVersion != "3.0" || cfg.ConnectTimeout != connectTimeout {
				t.Errorf("the environment took part: %d fallbacks, parameters %v, %+v", len(cfg.Fallbacks), cfg.RuntimeParams, cfg.SSLNegotiation)
			}
			switch tc := cfg.TLSConfig; {
			case c.mode == TLSDisable:
				if tc != nil {
					t.Error("TLS is on")
				}
			case tc == nil:
				t.Error("TLS is off")
			case tc.ServerName != c.host || tc.InsecureSkipVerify == c.verified || (tc.VerifyConnection != nil) != c.chain:
				t.Errorf("server name %s, unverified %t, chain checked %t", tc.ServerName, tc.InsecureSkipVerify, tc.VerifyConnection != nil)
			}
			for _, want := range []string{"PGSSLMODE=" + c.mode, "PGSSLROOTCERT=" + c.root, "PGGSSENCMODE=disable"} {
				if !slices.Contains(env, want) {
					t.Errorf("libpq is told %v, without %s", env, want)
				}
			}
			if strings.Contains(strings.Join(env, " "), hidden) {
				t.Error("the password is in the settings that may be shown")
			}
			// No password is none, not that of somebody's .pgpass.
			e.Password = Secret{}
			if cfg, _, err = e.ConnConfig(t.Context()); err != nil || cfg.Password != "" {
				t.Errorf("without a password: %v, %d letters", err, len(cfg.Password))
			}
		})
	}
}

func TestConnConfigRefuses(t *testing.T) {
	t.Run("service", func(t *testing.T) {
		t.Setenv("PGSERVICE", "none-such")
		t.Setenv("PGSERVICEFILE", os.DevNull)
		if _, _, err := (Endpoint{Host: "localhost"}).ConnConfig(t.Context()); err == nil || !strings.Contains(err.Error(), "unset PGSERVICE") {
			t.Errorf("got %v", err)
		}
	})
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	from := origin{file: FileName, line: 7, path: "databases[0].source.tls"}
	for name, c := range map[string]struct {
		endpoint Endpoint
		want     string
	}{
		"no host":     {Endpoint{}, "no host"},
		"no port":     {Endpoint{Host: "a", Port: 70000}, "no valid port"},
		"no mode":     {Endpoint{Host: "a", TLS: TLS{Mode: "verify", origin: from}}, "dhow.yaml:7: databases[0].source.tls.mode"},
		"no CA":       {Endpoint{Host: "a", TLS: TLS{CA: filepath.Join(dir, "none.pem"), origin: from}}, "dhow.yaml:7: databases[0].source.tls.ca: find the certificates to trust"},
		"folder":      {Endpoint{Host: "a", TLS: TLS{CA: dir, origin: from}}, "not a file"},
		"nothing":     {Endpoint{Host: "a", TLS: TLS{CA: empty, origin: from}}, "holds no certificate"},
		"no password": {Endpoint{Host: "localhost", Password: Secret{Env: "DHOW_TEST_NONE"}}, "DHOW_TEST_NONE is not set"},
	} {
		if _, _, err := c.endpoint.ConnConfig(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
