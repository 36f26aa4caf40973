package redis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/internal/move"
)

const (
	// answerTimeout bounds the wait for one answer where the caller's context does
	// not end sooner: a server that forks or loads a large script is silent for a while.
	answerTimeout = 30 * time.Second
	// anyPassword is sent where a user needs none: the driver names no user without one.
	anyPassword = "none"
)

// session is one connection to a side.
type session struct {
	*redis.Client
	side string // what the estate calls it
}

// given is how the estate says to connect to a side.
func (m *Mover) given(side string) *redis.Options {
	o := *m.cfg.Source
	if side == target {
		o = *m.cfg.Target
	}
	o.DB, o.PoolSize, o.MinIdleConns, o.MaxRetries, o.Protocol = 0, 1, 0, -1, 2
	o.ContextTimeoutEnabled, o.DisableIdentity = true, true
	o.ReadTimeout, o.WriteTimeout = answerTimeout, answerTimeout
	if o.DialTimeout == 0 {
		o.DialTimeout = connectTimeout
	}
	o.DialerRetries = 1
	o.OnConnect = nil
	return &o
}

// options is how to connect to a side so that writing is allowed there, sealed
// or not: as our own user once it exists, and as the estate says before. They
// are for one connection; who needs several sets PoolSize.
func (m *Mover) options(ctx context.Context, side string) (*redis.Options, error) {
	s, err := m.dialAs(ctx, side, m.given(side))
	if err != nil {
		return nil, err
	}
	defer s.hangUp()
	return m.optionsBy(ctx, side, s)
}

func (m *Mover) optionsBy(ctx context.Context, side string, s *session) (*redis.Options, error) {
	o := m.given(side)
	names, err := s.Do(ctx, "ACL", "USERS").StringSlice()
	if refusal(err) {
		return o, nil // who may not read the users can not have made one
	}
	if err != nil {
		return nil, fmt.Errorf("list the users of the %s: %w", s.side, err)
	}
	if slices.Contains(names, m.ownUser()) {
		o.Username = m.ownUser()
		if o.Password == "" {
			o.Password = anyPassword
		}
	}
	return o, nil
}

// dial opens a session in which writing is allowed, sealed or not.
func (m *Mover) dial(ctx context.Context, side string) (*session, error) {
	s, err := m.dialAs(ctx, side, m.given(side))
	if err != nil {
		return nil, err
	}
	o, err := m.optionsBy(ctx, side, s)
	if err != nil {
		s.hangUp()
		return nil, err
	}
	if o.Username == s.Options().Username {
		return s, nil
	}
	s.hangUp()
	return m.dialAs(ctx, side, o)
}

// dialGiven opens a session as the estate says: it may change users, but not
// write where a side is sealed.
func (m *Mover) dialGiven(ctx context.Context, side string) (*session, error) {
	return m.dialAs(ctx, side, m.given(side))
}

func (m *Mover) dialAs(ctx context.Context, side string, o *redis.Options) (*session, error) {
	s := &session{Client: redis.NewClient(o), side: m.named(side)}
	if m.onDial != nil {
		m.onDial(s)
	}
	if err := s.Ping(ctx).Err(); err != nil {
		s.hangUp()
		if own := m.insteadOf(o); own != nil && shutOut(err) {
			// What ends this one may be over a moment later, as while the server starts.
			if s, err := m.dialAs(ctx, side, own); err == nil || !shutOut(err) {
				return s, err
			}
		}
		return nil, explainConnect(ctx, o, s.side, err)
	}
	return s, nil
}

// insteadOf is how to connect as our own user where nobody can log in as default,
// as on a closed side that was restarted; nil for another user.
func (m *Mover) insteadOf(o *redis.Options) *redis.Options {
	if o.Username != "" && o.Username != defaultUser {
		return nil
	}
	own := *o
	own.Username = m.ownUser()
	if own.Password == "" {
		own.Password = anyPassword
	}
	return &own
}

// shutOut says that the server takes no such user and password.
func shutOut(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && (strings.HasPrefix(answer.Error(), "WRONGPASS") || strings.HasPrefix(answer.Error(), "NOAUTH"))
}

// dialBoth opens a session on each side.
func (m *Mover) dialBoth(ctx context.Context) (from, to *session, err error) {
	if from, err = m.dial(ctx, source); err != nil {
		return nil, nil, err
	}
	if to, err = m.dial(ctx, target); err != nil {
		from.hangUp()
		return nil, nil, err
	}
	return from, to, nil
}

func (s *session) hangUp() {
	if s != nil {
		_ = s.Close() // nothing is written behind the last answer
	}
}

// fails wraps an error with what was being done on which side.
func (s *session) fails(doing string, err error) error {
	return fmt.Errorf("%s on the %s: %w", doing, s.side, err)
}

// info reads a section of INFO.
func (s *session) info(ctx context.Context, section string) (map[string]string, error) {
	text, err := s.Info(ctx, section).Result()
	if err != nil {
		return nil, s.fails("read INFO "+section, err)
	}
	return parseInfo(text), nil
}

// parseInfo reads the lines name:value of INFO.
func parseInfo(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok && !strings.HasPrefix(line, "#") {
			values[name] = value
		}
	}
	return values
}

// passwordHash is how the server keeps a password.
func passwordHash(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// refusal says that the server does not let us use a command, or knows none of
// that name; of a transaction, that it was so with one of its commands.
func refusal(err error) bool {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return false
	}
	text := strings.ToLower(answer.Error())
	return strings.HasPrefix(text, "noperm") || strings.HasPrefix(text, "execabort") || strings.HasPrefix(text, "err unknown") || strings.Contains(text, "not allowed") || strings.Contains(text, "not permitted")
}

// explainConnect makes of a failed attempt an error that a person can act upon.
func explainConnect(ctx context.Context, o *redis.Options, side string, err error) error {
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	e := &move.ConnectError{Side: side, Where: o.Addr, Cause: err}
	if o.Username != "" {
		e.Where += " as " + o.Username
	}
	key := func(k string) string { return "databases[]." + side + "." + k }
	var dns *net.DNSError
	var network net.Error
	var answer redis.Error
	switch {
	case errors.As(err, &answer):
		e.Why, e.Fix = explainRefusal(answer.Error(), o, key)
	case errors.As(err, &dns):
		e.Why, e.Fix = fmt.Sprintf("the name %s is not known", dns.Name), "check "+key("host")+" in the estate, and this machine's name servers"
	case move.IsTLS(err):
		e.Why, e.Fix = explainTLS(err, key)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Why, e.Fix = "nothing answers on that port", "check "+key("host")+" and "+key("port")+", and that the server runs and listens on that address (bind)"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.Why, e.Fix = "there is no route to that host", "check "+key("host")+", and this machine's routes, VPN and peering"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		e.Why, e.Fix = "the server did not answer in time", "check "+key("host")+" and "+key("port")+", and that firewalls and security groups let this machine through; a server that takes TLS only does not answer without"
	default:
		e.Why = err.Error()
	}
	return e
}

// explainRefusal tells why a server that was reached takes no session.
func explainRefusal(text string, o *redis.Options, key func(string) string) (why, fix string) {
	kind, _, _ := strings.Cut(text, " ")
	switch {
	case kind == "WRONGPASS" && o.Username == "":
		return "the server does not accept the password", "check what " + key("password") + " points at"
	case kind == "WRONGPASS":
		return "the server does not accept user and password", "check " + key("user") + " and what " + key("password") + " points at, and that the user exists there and is on"
	case kind == "NOAUTH":
		return "the server asks for a password", "set " + key("password")
	case kind == "DENIED":
		return "the server is in protected mode and takes local sessions only", "set a password at the server (requirepass)"
	case kind == "LOADING":
		return "the server is loading its data", "wait until it is up"
	case kind == "MASTERDOWN":
		return "the server is a replica that has lost its primary", "name the primary in " + key("host")
	case strings.Contains(text, "max number of clients"):
		return "the server has no connection left", "raise maxclients, or end idle connections"
	case strings.Contains(text, "without any password configured"):
		return "the server has no password, and one was given", "remove " + key("password")
	}
	return text, ""
}

func explainTLS(err error, key func(string) string) (why, fix string) {
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &record) && bytes.HasPrefix(record.RecordHeader[:], []byte("-")):
		return "the server speaks no TLS on that port", "name its TLS port in " + key("port") + "; or, where the network in between can be trusted, set " + key("tls.mode") + " to disable"
	case errors.As(err, &unknown):
		return "the server's certificate is signed by an authority that is not trusted here", "set " + key("tls.ca") + " to the file of that authority's certificate"
	case errors.As(err, &name):
		return "the server's certificate is not for that name", "set " + key("host") + " to a name that the certificate holds, or " + key("tls.mode") + " to verify-ca"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate is expired, or not valid yet", "renew it, and check this machine's clock"
	}
	return "the TLS handshake failed (" + err.Error() + ")", "check " + key("tls.mode") + " and " + key("tls.ca")
}
