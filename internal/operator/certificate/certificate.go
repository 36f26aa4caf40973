// Package certificate is the life of the certificate with which the operator serves the API
// server: it makes one, keeps it in a Secret that all operators share, and changes it before
// it ends. Nobody else is needed for that.
//
// Each certificate has an authority of its own, of which the key is thrown away when it has
// signed. A change goes in two steps, so that there is no moment in which the API server
// meets a certificate that it does not trust: the next authority is announced beside the
// present one, and only when that has had time to spread is its certificate served. One
// operator, the leader, makes and announces (Keeper); each serves (Loader, Store).
package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"time"
)

// Secret is the name of the Secret that holds the certificate.
const Secret = "dhow-operator-webhook"

// The keys of the Secret: what is served, with its authority; what is served next; and the
// authority of what was served before, which some operator may serve a moment longer.
const (
	certificateKey, privateKey, authorityKey             = "tls.crt", "tls.key", "ca.crt"
	nextCertificateKey, nextPrivateKey, nextAuthorityKey = "next.crt", "next.key", "next-ca.crt"
	oldAuthorityKey                                      = "old-ca.crt"
)

const (
	// clockSkew is how far the clocks of this machine and the API server's may be apart.
	clockSkew = time.Hour
	// name is the authority's and the certificate's.
	name = "dhow-operator"
	// thirds of a certificate's life are over when the next is made: the last is left for what
	// may keep that from happening.
	thirds, ofThirds = 2, 3
)

// Times are those of a certificate's life; those that are 0 are as usual.
type Times struct {
	// Life is how long a certificate is valid, as usual 90 days.
	Life time.Duration
	// Renew is how long after it was made the next one is, as usual two thirds of its life.
	Renew time.Duration
	// Settle is how long an authority has been announced before its certificate is served, as
	// usual two minutes.
	Settle time.Duration
	// Look is between two looks at the Secret, as usual 30 seconds.
	Look time.Duration
}

// WithDefaults fills in what is 0.
func (t Times) WithDefaults() Times {
	def := func(d *time.Duration, usual time.Duration) {
		if *d <= 0 {
			*d = usual
		}
	}
	def(&t.Life, 90*24*time.Hour)
	def(&t.Renew, t.Life*thirds/ofThirds)
	def(&t.Settle, 2*time.Minute)
	def(&t.Look, 30*time.Second)
	return t
}

// pair is a certificate with its key, and the authority that has signed it, in PEM.
type pair struct{ certificate, key, authority []byte }

func (p pair) empty() bool { return len(p.certificate) == 0 }

// generate makes a pair that is valid from now on.
func generate(hosts []string, now time.Time, life time.Duration) (pair, error) {
	fail := func(err error) (pair, error) { return pair{}, fmt.Errorf("make a certificate: %w", err) }
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	authority := &x509.Certificate{Subject: pkix.Name{CommonName: name + " authority"}, NotBefore: now.Add(-clockSkew), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign}
	signed, err := x509.CreateCertificate(rand.Reader, authority, authority, signer.Public(), signer)
	if err != nil {
		return fail(err)
	}
	// As it was made it has the key's name, which the certificate refers to.
	if authority, err = x509.ParseCertificate(signed); err != nil {
		return fail(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	made, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), signer)
	if err != nil {
		return fail(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fail(err)
	}
	return pair{encode("CERTIFICATE", made), encode("PRIVATE KEY", secret), encode("CERTIFICATE", signed)}, nil
}

func encode(kind string, b []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})
}

// errWrong says that what is in the Secret is no certificate that could be served.
var errWrong = errors.New("the certificate can not be served")

// check says what is wrong with a pair at a time; nil is nothing. Its error tells nothing of the key.
func (p pair) check(hosts []string, at time.Time) (*x509.Certificate, error) {
	if p.empty() {
		return nil, fmt.Errorf("%w: there is none", errWrong)
	}
	both, err := tls.X509KeyPair(p.certificate, p.key)
	if err != nil || both.Leaf == nil {
		return nil, fmt.Errorf("%w: it and its key are not a pair", errWrong)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(p.authority) {
		return nil, fmt.Errorf("%w: its authority is missing", errWrong)
	}
	if _, err := both.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return nil, fmt.Errorf("%w: %w", errWrong, err)
	}
	for _, h := range hosts {
		if err := both.Leaf.VerifyHostname(h); err != nil {
			return nil, fmt.Errorf("%w: %w", errWrong, err)
		}
	}
	return both.Leaf, nil
}

// state is what the Secret holds.
type state struct {
	now, next pair
	// old is the authority of what was served before.
	old []byte
}

func read(data map[string][]byte) state {
	return state{
		now:  pair{data[certificateKey], data[privateKey], data[authorityKey]},
		next: pair{data[nextCertificateKey], data[nextPrivateKey], data[nextAuthorityKey]},
		old:  data[oldAuthorityKey],
	}
}

// data is the state as the Secret has it, with no empty keys.
func (s state) data() map[string][]byte {
	all := map[string][]byte{
		certificateKey: s.now.certificate, privateKey: s.now.key, authorityKey: s.now.authority,
		nextCertificateKey: s.next.certificate, nextPrivateKey: s.next.key, nextAuthorityKey: s.next.authority,
		oldAuthorityKey: s.old,
	}
	maps.DeleteFunc(all, func(_ string, v []byte) bool { return len(v) == 0 })
	return all
}

// bundle are the authorities that are to be trusted, without those that have ended.
func (s state) bundle(at time.Time) []byte {
	var all []byte
	for _, a := range [][]byte{s.now.authority, s.next.authority, s.old} {
		if b, _ := pem.Decode(a); b != nil {
			if c, err := x509.ParseCertificate(b.Bytes); err == nil && at.Before(c.NotAfter) {
				all = append(all, encode("CERTIFICATE", b.Bytes)...)
			}
		}
	}
	return all
}

// advance makes of a state the one that follows, and says whether it is another. settled says
// that the authorities of the state have been announced for long enough.
func (s state) advance(hosts []string, at time.Time, t Times, settled bool) (state, bool, error) {
	present, wrong := s.now.check(hosts, at)
	_, notNext := s.next.check(hosts, at)
	switch {
	case notNext == nil && (settled || wrong != nil):
		return state{now: s.next, old: s.now.authority}, true, nil //nolint:nilerr // which mends what was wrong
	case wrong != nil:
		made, err := generate(hosts, at, t.Life)
		return state{now: made, old: s.now.authority}, err == nil, err
	case notNext != nil && at.After(present.NotBefore.Add(clockSkew+t.Renew)):
		made, err := generate(hosts, at, t.Life)
		return state{now: s.now, next: made, old: s.old}, err == nil, err
	}
	return s, false, nil
}

// same says that two bundles hold the same authorities.
func same(a, b []byte) bool { return bytes.Equal(bytes.TrimSpace(a), bytes.TrimSpace(b)) }
