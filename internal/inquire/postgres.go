package inquire

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/estate"
	"dhow/internal/inventory"
)

// hangUpTimeout bounds the farewell to a server.
const hangUpTimeout = 2 * time.Second

// postgresFacts is one row. What a role may not see is not counted.
const postgresFacts = `select current_setting('server_version'), pg_database_size(current_database()),
	(select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_toast'),
	(select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()), current_setting('max_connections')::int,
	(select count(*) from pg_stat_replication), pg_is_in_recovery(),
	s.xact_commit + s.xact_rollback, extract(epoch from now() - coalesce(s.stats_reset, pg_postmaster_start_time()))::float8
from pg_stat_database s where s.datname = current_database()`

// postgres asks a database of PostgreSQL.
func postgres(ctx context.Context, end estate.Endpoint, password string) (*inventory.Answers, error) {
	cfg, _, err := end.ConnConfig(ctx)
	if err != nil {
		return nil, err
	}
	if password != "" {
		cfg.Password = password
	}
	if cfg.Database == "" {
		cfg.Database = cfg.User // as every client does
	}
	// A pool before the server may know neither parameters of a session nor prepared statements.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		if strings.Contains(err.Error(), "server refused TLS connection") { // the driver has no error of its own for it
			return nil, fmt.Errorf("%w: %w", errNoTLS, err)
		}
		return nil, fmt.Errorf("sign in: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpTimeout)
		defer cancel()
		_ = conn.Close(ctx) // all was read
	}()
	a := &inventory.Answers{Product: "PostgreSQL"}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("set local statement_timeout = '%ds'", statementSeconds)); err != nil {
			return fmt.Errorf("bound its statements: %w", err)
		}
		var ever int64
		var seconds float64
		err := tx.QueryRow(ctx, postgresFacts).Scan(&a.Version, &a.Bytes, &a.Items, &a.Connections, &a.MaxConnections, &a.Replicas, &a.Replica, &ever, &seconds)
		if err != nil {
			return fmt.Errorf("ask for its version, size and load: %w", err)
		}
		a.Version, _, _ = strings.Cut(a.Version, " ")
		load(a, float64(ever), seconds)
		rows, err := tx.Query(ctx, `select extname || ' ' || extversion from pg_extension where extname <> 'plpgsql' order by 1`)
		if err != nil {
			return fmt.Errorf("ask for its extensions: %w", err)
		}
		if a.Extensions, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return fmt.Errorf("ask for its extensions: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}
