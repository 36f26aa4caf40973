package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

// SQLSTATEs of a refused session.
const (
	invalidPassword      = "28P01"
	invalidAuthorization = "28000"
	noSuchDatabase       = "3D000"
	tooManyConnections   = "53300"
	cannotConnectNow     = "57P03"
)

// explainConnect makes of a failed attempt an error that a person can act upon.
// The driver's own text is not repeated where the reason is known; it holds the
// host, the user and the database, never a password.
func explainConnect(ctx context.Context, cfg *pgx.ConnConfig, side string, err error) error {
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	e := &move.ConnectError{Side: side, Where: fmt.Sprintf("%s:%d/%s as %s", cfg.Host, cfg.Port, cfg.Database, cfg.User), Cause: err}
	key := func(k string) string { return "databases[]." + side + "." + k }
	var pg *pgconn.PgError
	var dns *net.DNSError
	var network net.Error
	switch {
	case errors.As(err, &pg):
		e.Why, e.Fix = explainRefusal(pg, cfg, key)
	case errors.As(err, &dns):
		e.Why, e.Fix = fmt.Sprintf("the name %s is not known", dns.Name), "check "+key("host")+" in the estate, and this machine's name servers"
	case isTLS(err):
		e.Why, e.Fix = explainTLS(err, cfg, key)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Why, e.Fix = "nothing answers on that port", "check "+key("host")+" and "+key("port")+", and that the server runs and listens on that address (listen_addresses)"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.Why, e.Fix = "there is no route to that host", "check "+key("host")+", and this machine's routes, VPN and peering"
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err), errors.As(err, &network) && network.Timeout():
		e.Why, e.Fix = "the server did not answer in time", "check "+key("host")+" and "+key("port")+", and that firewalls and security groups let this machine through"
	default:
		e.Why = err.Error()
	}
	return e
}

// explainRefusal tells why a server that was reached takes no session.
func explainRefusal(pg *pgconn.PgError, cfg *pgx.ConnConfig, key func(string) string) (why, fix string) {
	role := pgx.Identifier{cfg.User}.Sanitize()
	switch pg.Code {
	case invalidPassword:
		return "the server does not accept the password", "check what " + key("password") + " points at, or set the password anew with ALTER ROLE " + role + " PASSWORD '...'"
	case invalidAuthorization:
		switch {
		case strings.Contains(pg.Message, "no encryption"), strings.Contains(pg.Message, "SSL off"):
			return "the server takes encrypted sessions only (" + pg.Message + ")", "set " + key("tls.mode") + " to verify-full"
		case strings.Contains(pg.Message, "pg_hba.conf"):
			return "the server does not let this user in from here (" + pg.Message + ")", "add a line to the server's pg_hba.conf and reload it; the change stream needs none of its own"
		case strings.Contains(pg.Message, "not permitted to log in"):
			return "the role may not log in", "ALTER ROLE " + role + " LOGIN"
		}
		return "the server refuses this user (" + pg.Message + ")", "check " + key("user") + ", and that the role exists on that server"
	case noSuchDatabase:
		return "there is no such database on that server", "check " + key("database") + ", or CREATE DATABASE " + pgx.Identifier{cfg.Database}.Sanitize()
	case insufficientPrivilege:
		return "the user may not open this session (" + pg.Message + ")", "GRANT CONNECT ON DATABASE " + pgx.Identifier{cfg.Database}.Sanitize() + " TO " + role +
			"; for the change stream ALTER ROLE " + role + " REPLICATION (on RDS: GRANT rds_replication TO " + role + ")"
	case tooManyConnections:
		return "the server has no connection left (" + pg.Message + ")", "lower limits.copies and limits.lanes, end idle sessions, or raise max_connections (or the role's or the database's CONNECTION LIMIT)"
	case cannotConnectNow:
		return "the server is starting up or shutting down (" + pg.Message + ")", "wait until it is up"
	}
	return pg.Message + " (SQLSTATE " + pg.Code + ")", ""
}

// noTLS is what the driver says of a server that speaks no TLS; it has no type of its own.
const noTLS = "server refused TLS connection"

func isTLS(err error) bool { return move.IsTLS(err) || strings.Contains(err.Error(), noTLS) }

func explainTLS(err error, cfg *pgx.ConnConfig, key func(string) string) (why, fix string) {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case strings.Contains(err.Error(), noTLS):
		return "the server speaks no TLS", "turn ssl on at the server; or, where the network in between can be trusted, set " + key("tls.mode") + " to disable"
	case errors.As(err, &unknown):
		return "the server's certificate is signed by an authority that is not trusted here", "set " + key("tls.ca") + " to the file of that authority's certificate (for RDS its region's bundle)"
	case errors.As(err, &name):
		return fmt.Sprintf("the server's certificate is not for the name %s", cfg.Host), "set " + key("host") + " to a name that the certificate holds, or " + key("tls.mode") + " to verify-ca"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate is expired, or not valid yet", "renew it, and check this machine's clock"
	}
	return "the TLS handshake failed (" + tlsCause(err) + ")", "check " + key("tls.mode") + " and " + key("tls.ca")
}

// tlsCause is the innermost error: the driver's prefixes say nothing more.
func tlsCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
