package kube

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	// certificateLife is far more than a cluster lives.
	certificateLife = 30 * 24 * time.Hour
	// clockSlack is how far a certificate's begin lies in the past.
	clockSlack = time.Hour
	// serialBits is the length of a serial number.
	serialBits = 120
)

// authority is a certificate authority of the cluster's; its key is never written.
type authority struct {
	dir  string
	file string // the certificate's
	cert *x509.Certificate
	key  crypto.Signer
}

// newAuthority makes an authority and writes its certificate into the folder.
func newAuthority(dir, name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of authority %s: %w", name, err)
	}
	a := &authority{dir: dir, key: key}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of authority %s: %w", name, err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("make the certificate of authority %s: %w", name, err)
	}
	a.file, err = writePEM(dir, name+".crt", "CERTIFICATE", der)
	return a, err
}

// identity is a certificate with its key, in files.
type identity struct{ cert, key string }

// server makes a certificate for a server at the names and addresses.
func (a *authority) server(name string, at []netip.Addr, names ...string) (identity, error) {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, ip := range at {
		t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
	}
	return a.issue(name, t)
}

// client makes a certificate for the user of that name, in the groups.
func (a *authority) client(name string, groups ...string) (identity, error) {
	return a.issue(name, &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: groups}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func (a *authority) issue(name string, t *x509.Certificate) (identity, error) {
	t.KeyUsage = x509.KeyUsageDigitalSignature
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, fmt.Errorf("make the key of %s: %w", name, err)
	}
	der, err := sign(t, a.cert, key.Public(), a.key)
	if err != nil {
		return identity{}, fmt.Errorf("make the certificate of %s: %w", name, err)
	}
	cert, err := writePEM(a.dir, a.cert.Subject.CommonName+"-"+name+".crt", "CERTIFICATE", der)
	if err != nil {
		return identity{}, err
	}
	file, err := writeKey(a.dir, a.cert.Subject.CommonName+"-"+name+".key", key)
	return identity{cert: cert, key: file}, err
}

func sign(t, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	t.NotBefore, t.NotAfter = time.Now().Add(-clockSlack), time.Now().Add(certificateLife)
	return x509.CreateCertificate(rand.Reader, t, parent, public, key)
}

// accountKeys makes the pair of keys by which service accounts' tokens are signed and
// verified, in files.
func accountKeys(dir string) (private, public string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make the service accounts' key: %w", err)
	}
	if private, err = writeKey(dir, "accounts.key", key); err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", "", fmt.Errorf("make the service accounts' key: %w", err)
	}
	public, err = writePEM(dir, "accounts.pub", "PUBLIC KEY", der)
	return private, public, err
}

func writeKey(dir, name string, key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("write the key %s: %w", name, err)
	}
	return writePEM(dir, name, "EC PRIVATE KEY", der)
}

func writePEM(dir, name, kind string, der []byte) (string, error) {
	return write(dir, name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// write makes a file that only root reads, and says where it is.
func write(dir, name string, text []byte) (string, error) {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("write the cluster's %s: %w", name, err)
	}
	return path, nil
}

// kubeconfig writes the file by which a client reaches the API server at the
// address: it trusts the authority and shows a certificate of it. All is in the
// file itself, which can be copied.
func (a *authority) kubeconfig(file, cluster, server, user string, groups ...string) (string, error) {
	id, err := a.client(user, groups...)
	if err != nil {
		return "", err
	}
	c := clientcmdapi.NewConfig()
	c.Clusters[cluster] = &clientcmdapi.Cluster{Server: server}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{}
	c.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user}
	c.CurrentContext = cluster
	for from, into := range map[string]*[]byte{
		a.file:  &c.Clusters[cluster].CertificateAuthorityData,
		id.cert: &c.AuthInfos[user].ClientCertificateData,
		id.key:  &c.AuthInfos[user].ClientKeyData,
	} {
		if *into, err = os.ReadFile(from); err != nil {
			return "", fmt.Errorf("read a certificate: %w", err)
		}
	}
	text, err := clientcmd.Write(*c)
	if err != nil {
		return "", fmt.Errorf("write the kubeconfig of %s: %w", user, err)
	}
	return write(a.dir, file, text)
}
