package estate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
)

const (
	// maxCA bounds a file of certificates, in bytes; the largest bundles in use are a fifth of it.
	maxCA = 4 << 20
	// noFile is a path that never exists. libpq verifies more than sslmode asks
	// for where it finds the user's own root certificates, and less than we say here.
	noFile = "/dev/null/none"
)

// systemRoots are where systems keep the certificates that they trust, as one
// file; libpq before version 16 has no name for them.
var systemRoots = []string{
	"/etc/ssl/certs/ca-certificates.crt", // Debian, Alpine
	"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL, Amazon Linux
	"/etc/ssl/ca-bundle.pem",             // openSUSE
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/cert.pem", // macOS
}

// tls is the endpoint's security, for Go's clients (nil is none) and for libpq.
func (e Endpoint) tls() (*tls.Config, []string, error) {
	mode := e.tlsMode()
	env := []string{"PGSSLMODE=" + mode, "PGSSLNEGOTIATION=postgres", "PGGSSENCMODE=disable", "PGHOSTADDR=", "PGOPTIONS=", "PGSSLCERT=" + noFile, "PGSSLKEY=" + noFile, "PGSSLCRL=" + noFile, "PGSSLCRLDIR=", "PGPASSFILE=" + noFile}
	if !slices.Contains(tlsModes, mode) {
		return nil, nil, fmt.Errorf("%s.mode: %q is unknown: %s", e.TLS.origin.in("tls"), mode, oneOf(mode, tlsModes))
	}
	switch {
	case mode == TLSDisable || e.isSocket():
		return nil, append(env, "PGSSLROOTCERT="+noFile), nil
	case mode == TLSRequire:
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.Host, InsecureSkipVerify: true}, append(env, "PGSSLROOTCERT="+noFile), nil //nolint:gosec // what the mode says
	}
	pool, file, err := e.TLS.roots()
	if err != nil {
		return nil, nil, fmt.Errorf("%s.ca: %w", e.TLS.origin.in("tls"), err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.Host, RootCAs: pool}
	if mode == TLSVerifyCA {
		cfg.InsecureSkipVerify = true // Go would check the name too; the chain is checked here
		cfg.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, pool) }
	}
	return cfg, append(env, "PGSSLROOTCERT="+file), nil
}

// verifyChain checks that a server's certificate was issued by one of the roots,
// whatever name it bears.
func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(o)
	return err
}

// roots are the certificates to trust, and the file that libpq finds them in.
func (t TLS) roots() (*x509.CertPool, string, error) {
	if t.CA == "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, "", fmt.Errorf("read the system's certificates: %w: name a file of them", err)
		}
		return pool, systemRootFile(), nil
	}
	info, err := os.Stat(t.CA)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("find the certificates to trust: %w", err)
	case !info.Mode().IsRegular() || info.Size() > maxCA:
		return nil, "", fmt.Errorf("%s is not a file of at most %s: name a file of certificates", t.CA, Size(maxCA))
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, "", fmt.Errorf("read the certificates to trust: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, "", fmt.Errorf("%s holds no certificate: it has to hold them in PEM form, begun by -----BEGIN CERTIFICATE-----", t.CA)
	}
	return pool, t.CA, nil
}

// systemRootFile is the file of the system's certificates, or libpq's own word
// for them, which its version 16 and newer understand.
func systemRootFile() string {
	for _, f := range append([]string{os.Getenv("SSL_CERT_FILE")}, systemRoots...) {
		if f == "" {
			continue
		}
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
			return f
		}
	}
	return "system"
}
