// Package expiry looks at the certificate that a server shows for a name, as a client would
// see it, and says for how long it is good. It needs no right to read certificates or their
// keys anywhere, and finds also what was renewed and never put to use. It begins a handshake
// of TLS, and sends nothing after it.
package expiry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// handshakeTime bounds a look at one server.
	handshakeTime = 10 * time.Second
	// mostNames bounds how many names of a certificate a sentence lists.
	mostNames = 4
)

// The states of a certificate.
const (
	Valid     = "Valid"
	Ending    = "Ending"
	Ended     = "Ended"
	WrongName = "WrongName"
	Unknown   = "Unknown"
)

// State is what is known of the certificate for a name.
type State struct {
	State string
	// NotAfter is its last moment, zero where it is not known.
	NotAfter time.Time
	// Message says what is wrong, and what to do; "" if nothing is.
	Message string
}

// Dial connects, as net.Dialer's DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Outside connects to other machines alone: an address comes from what others have written.
func Outside() Dial {
	d := &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", address, err)
		}
		if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() {
			return fmt.Errorf("connect to %s: it is not the address of a load balancer", address)
		}
		return nil
	}}
	return d.DialContext
}

// Server is one that shows certificates.
type Server struct {
	// Addresses are tried in turn, as host and port.
	Addresses []string
	// Name is what is asked for; of a wildcard, some name that it covers.
	Name string
	// Pods says that the pods themselves hold the certificate.
	Pods bool
}

// Look asks the server. Times are those of now; what ends within ahead is Ending.
func (s Server) Look(ctx context.Context, dial Dial, now time.Time, ahead time.Duration) State {
	name := s.Name
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		name = "www." + rest
	}
	var failed error
	for _, address := range s.Addresses {
		c, err := shown(ctx, dial, address, name)
		if err == nil {
			return s.judge(c, name, now, ahead)
		}
		failed = errors.Join(failed, err)
	}
	if failed == nil {
		failed = errors.New("there is no load balancer yet")
	}
	return State{State: Unknown, Message: "it could not be looked at: " + strings.ReplaceAll(failed.Error(), "\n", "; ")}
}

// shown is the certificate that a server shows for a name.
func shown(ctx context.Context, dial Dial, address, name string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	defer raw.Close()
	// It is read, not trusted: one that has ended must be seen too, and nothing is sent.
	conn := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // see above
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("begin TLS with %s for %s: %w", address, name, err)
	}
	all := conn.ConnectionState().PeerCertificates
	if len(all) == 0 {
		return nil, fmt.Errorf("begin TLS with %s for %s: it shows no certificate", address, name)
	}
	return all[0], nil
}

func (s Server) judge(c *x509.Certificate, name string, now time.Time, ahead time.Duration) State {
	renew := "AWS Certificate Manager renews what it issued as long as the DNS record is there that proves the domain; what was imported is renewed by whom it came from"
	if s.Pods {
		renew = "the pods hold it: renew their Secret, and let them read it again"
	}
	state := State{State: Valid, NotAfter: c.NotAfter}
	day := c.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case !now.Before(c.NotAfter):
		state.State, state.Message = Ended, fmt.Sprintf("it ended on %s, and clients refuse it: %s", day, renew)
	case now.Before(c.NotBefore):
		state.State, state.Message = Ended, fmt.Sprintf("it is good only from %s on, and clients refuse it", c.NotBefore.UTC().Format(time.DateOnly))
	case c.VerifyHostname(name) != nil:
		names := slices.Clone(c.DNSNames)
		slices.Sort(names)
		if len(names) > mostNames {
			names = append(names[:mostNames], "others")
		}
		state.State, state.Message = WrongName, fmt.Sprintf("it is of %s and not of %s: name one under tls.certificates that fits", strings.Join(names, ", "), name)
	case c.NotAfter.Sub(now) <= ahead:
		state.State, state.Message = Ending, fmt.Sprintf("it ends on %s: %s", day, renew)
	}
	return state
}
