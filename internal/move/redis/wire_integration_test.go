package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
	"dhow/internal/redisserver/redistest"
)

// certificate makes a server's certificate that signs itself, for 127.0.0.1.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return cert, key, pool
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// TestReplicateByTLSAsAUser moves over TLS, as a user of the servers' lists.
func TestReplicateByTLSAsAUser(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Redis servers: not with -short (testing.Short)")
	}
	cert, key, pool := certificate(t)
	p := &pair{}
	var ports [2]string
	for i := range ports {
		ports[i] = freePort(t)
		s := redistest.Start(t, "appendonly", "no", "tls-port", ports[i], "tls-cert-file", cert, "tls-key-file", key, "tls-ca-cert-file", cert, "tls-auth-clients", "no", "tls-replication", "yes")
		c := redis.NewClient(serverOptions(t, s))
		t.Cleanup(func() { _ = c.Close() })
		if err := c.Do(t.Context(), "ACL", "SETUSER", "mover", "on", ">secret word", "~*", "&*", "+@all").Err(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			p.source, p.from = s, c
		} else {
			p.target, p.to = s, c
		}
	}
	by := func(i int, roots *x509.CertPool) *redis.Options {
		return &redis.Options{Addr: net.JoinHostPort("127.0.0.1", ports[i]), Username: "mover", Password: "secret word", TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}
	}
	if err := p.from.Set(t.Context(), "a", "1", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Estate: "e", Name: "tls", Source: by(0, pool), Target: by(1, pool)})
	if err != nil {
		t.Fatal(err)
	}
	p.m = m
	t.Cleanup(func() { m.Close(context.WithoutCancel(t.Context())) })
	stop := replicating(t, m)
	follows(t, m, stop)
	if err := p.from.Incr(t.Context(), "a").Err(); err != nil {
		t.Fatal(err)
	}
	follows(t, m, stop)
	same(t, p)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// A certificate that nobody here trusts is refused by our own connections too.
	if _, err := dialWire(t.Context(), by(0, x509.NewCertPool())); err == nil || !move.IsTLS(err) {
		t.Errorf("an unknown authority was trusted: %v", err)
	}
	wrong := by(0, pool)
	wrong.Password = "wrong"
	if _, err := dialWire(t.Context(), wrong); err == nil {
		t.Error("a wrong password was taken")
	}
}
