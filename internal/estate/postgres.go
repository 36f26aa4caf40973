package estate

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// applicationName is what our sessions are called in the servers' lists of them.
	applicationName = "dhow"
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 10 * time.Second
)

// ConnConfig is how to connect to a PostgreSQL endpoint, by pgx and, as libpq's
// environment variables, by pg_dump. It fetches the password. Both ways take
// the connection from the estate alone: the user's own PG* variables, .pgpass
// and certificates play no part.
func (e Endpoint) ConnConfig(ctx context.Context) (*pgx.ConnConfig, []string, error) {
	security, env, password, err := e.reach(ctx)
	if err != nil {
		return nil, nil, err
	}
	// pgx takes only configurations that its parser made, and the parser looks at
	// the environment: each setting that it may find there is given here. For a
	// socket it leaves the files of certificates alone.
	cfg, err := pgx.ParseConfig("host=/nowhere port=5432 user=none dbname=none password=none sslmode=disable sslcertmode=allow sslnegotiation=postgres " +
		"connect_timeout=10 target_session_attrs=any channel_binding=prefer require_auth='' min_protocol_version=3.0 max_protocol_version=3.0")
	if err != nil {
		return nil, nil, fmt.Errorf("prepare the connection: unset PGSERVICE, for the estate names the connection: %w", err)
	}
	cfg.Host, cfg.Port, cfg.Database, cfg.User, cfg.Password = e.Host, uint16(e.Port), e.Database, e.User, password
	if e.Port == 0 {
		cfg.Port = DefaultPort
	}
	cfg.TLSConfig, cfg.Fallbacks = security, nil
	cfg.ConnectTimeout = connectTimeout
	cfg.KerberosSrvName, cfg.KerberosSpn = "", ""
	cfg.RuntimeParams = map[string]string{"application_name": applicationName}
	return cfg, env, nil
}
