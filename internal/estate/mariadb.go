package estate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"

	"github.com/go-sql-driver/mysql"
)

// MySQLConfig is how to connect to a MariaDB endpoint. It fetches the password.
// The connection is taken from the estate alone: the user's option files play no part.
func (e Endpoint) MySQLConfig(ctx context.Context) (*mysql.Config, error) {
	security, _, password, err := e.reach(ctx)
	if err != nil {
		return nil, err
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", e.addr(MariaDB)
	if e.isSocket() {
		cfg.Net, cfg.Addr = "unix", e.Host
	}
	cfg.User, cfg.Passwd, cfg.TLS = e.User, password, security
	cfg.Timeout = connectTimeout
	cfg.ConnectionAttributes = "program_name:" + applicationName
	return cfg, nil
}

// reach is what any connection to an endpoint takes: its security, for Go's clients
// and for libpq, and the password, which it fetches.
func (e Endpoint) reach(ctx context.Context) (security *tls.Config, env []string, password string, err error) {
	if e.Host == "" || e.Port < 0 || e.Port > math.MaxUint16 {
		return nil, nil, "", errors.New("the endpoint has no host or no valid port: load it with its estate")
	}
	if security, env, err = e.tls(); err != nil {
		return nil, nil, "", err
	}
	password, err = e.Password.Resolve(ctx)
	return security, env, password, err
}

// addr is where an engine's server listens.
func (e Endpoint) addr(engine Engine) string {
	port := e.Port
	if port == 0 {
		port = engine.DefaultPort()
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(port))
}

// end is the endpoint of a side.
func (d *Database) end(side Side) *Endpoint {
	if side == Target {
		return &d.Target
	}
	return &d.Source
}

// reach is what the file says of how the other server reaches a side.
func (d *Database) reach(side Side) Reach {
	switch {
	case d.Replication == nil:
		return Reach{}
	case side == Target:
		return d.Replication.Target
	}
	return d.Replication.Source
}

// Replica is how one server of MariaDB reaches the other for replication, and as whom.
type Replica struct {
	Host string
	Port int
	User string
	// Password is the secret itself.
	Password string
	TLS      bool
	// CA is a file on the machine of the server that connects; empty means its own trust.
	CA string
}

// Replicas are how the target reaches the source, and the source the target. They
// hold passwords, which they fetch.
func (d Database) Replicas(ctx context.Context) (source, target Replica, err error) {
	if source, err = d.replica(ctx, Source); err != nil {
		return Replica{}, Replica{}, err
	}
	if target, err = d.replica(ctx, Target); err != nil {
		return Replica{}, Replica{}, err
	}
	return source, target, nil
}

func (d *Database) replica(ctx context.Context, of Side) (Replica, error) {
	end, reach := d.end(of), d.reach(of)
	if end.isSocket() && reach.Host == "" {
		return Replica{}, fmt.Errorf("the other server can not reach the %s by a Unix socket: add replication to the estate, with %[1]s: {host: ...}", of)
	}
	r := Replica{Host: end.Host, Port: end.Port, User: end.User, TLS: end.tlsMode() != TLSDisable, CA: reach.CA}
	secret := end.Password
	if r.Port == 0 {
		r.Port = DefaultMariaDBPort
	}
	if reach.Host != "" {
		r.Host = reach.Host
		if end.isSocket() {
			r.Port = DefaultMariaDBPort // the endpoint's says nothing
		}
	}
	if reach.Port != 0 {
		r.Port = reach.Port
	}
	if p := d.Replication; p != nil {
		if p.User != "" {
			r.User, secret = p.User, p.Password
		}
		if p.TLS != nil {
			r.TLS = *p.TLS
		}
	}
	var err error
	if r.Password, err = secret.Resolve(ctx); err != nil {
		return Replica{}, err
	}
	return r, nil
}
