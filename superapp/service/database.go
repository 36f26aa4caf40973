package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// databaseVariable names the database: a URL in the arguments would be in every process list.
	databaseVariable = "DATABASE_URL"
	// connectTime bounds the opening of one connection.
	connectTime = 5 * time.Second
	// pingTime bounds the question whether the database answers.
	pingTime = 2 * time.Second
	// connectionLife makes connections be renewed, so that a failed-over address is
	// noticed; the jitter keeps them from ending all at once.
	connectionLife       = time.Hour
	connectionLifeJitter = 10 * time.Minute
	// schemaLock keeps two migrations of one database from running at once.
	schemaLock = 0x73757065726170
)

// SQLSTATEs that the services tell apart.
const (
	uniqueViolation      = "23505"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	readOnly             = "25006"
	undefinedTable       = "42P01"
	unknownDatabase      = "3D000"
	queryCanceled        = "57014"
	lockNotAvailable     = "55P03"
)

// awayClasses are the classes of SQLSTATE that say that the server can not serve
// now: connection, authorization, resources, operator intervention, its own system.
var awayClasses = []string{"08", "28", "53", "57", "58"}

// DatabaseURL is the connection string, from the environment.
func DatabaseURL() (string, error) {
	return fromEnvironment(databaseVariable, "postgres://user@host:5432/accounts")
}

// Connect opens one connection to the database that DATABASE_URL names.
func Connect(ctx context.Context) (*pgx.Conn, error) {
	u, err := DatabaseURL()
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(u)
	if err != nil {
		return nil, badDatabaseURL()
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: check %s: %w", databaseVariable, err)
	}
	return conn, nil
}

func badDatabaseURL() error {
	return badURL(databaseVariable, "PostgreSQL", "postgres://user:password@host:5432/database?sslmode=verify-full")
}

// openPool makes the pool; connections are opened in the background.
func openPool(ctx context.Context, name string, size int, prepare []string) (*pgxpool.Pool, error) {
	u, err := DatabaseURL()
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(u)
	if err != nil {
		return nil, badDatabaseURL()
	}
	config.MaxConns = int32(size)
	// All connections stand ready, so that a burst waits for none to be opened.
	config.MinConns = config.MaxConns
	config.MaxConnLifetime, config.MaxConnLifetimeJitter = connectionLife, connectionLifeJitter
	config.ConnConfig.ConnectTimeout = connectTime
	run := config.ConnConfig.RuntimeParams
	run["application_name"] = "superapp " + name
	run["statement_timeout"] = fmt.Sprint(requestTime.Milliseconds())
	run["idle_in_transaction_session_timeout"] = fmt.Sprint(2 * requestTime.Milliseconds())
	// Every query is by a key. A sequential scan of a small table would read all of
	// it, and to a serializable transaction all that it read is a possible conflict.
	run["enable_seqscan"] = "off"
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		for _, sql := range prepare {
			// A schema that is not there yet is no fault of the connection.
			if _, err := conn.Prepare(ctx, sql, sql); err != nil && sqlState(err) != undefinedTable {
				return fmt.Errorf("prepare a statement: %w", err)
			}
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("prepare the connections to the database: %w", err)
	}
	return pool, nil
}

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// Duplicate says that a row with this key is there already.
func Duplicate(err error) bool {
	return sqlState(err) == uniqueViolation || mariadbNumber(err) == mariadbDuplicate
}

// Conflict says that a transaction lost against another and may be tried again.
func Conflict(err error) bool {
	switch mariadbNumber(err) {
	case mariadbChanged, mariadbLockWait, mariadbDeadlock:
		return true
	}
	state := sqlState(err)
	return state == serializationFailure || state == deadlockDetected
}

// Away says that the database is gone, is not set up yet, takes no writes or has
// no time, or that a service beyond this one is Unavailable: nothing is wrong with
// the request, and later it may succeed.
func Away(err error) bool {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Status == http.StatusServiceUnavailable
	}
	if state := sqlState(err); state != "" {
		switch state {
		case readOnly, undefinedTable, unknownDatabase, queryCanceled, lockNotAvailable:
			return true
		}
		for _, class := range awayClasses {
			if strings.HasPrefix(state, class) {
				return true
			}
		}
		return Conflict(err)
	}
	if Conflict(err) || awayMariaDB(err) || awayRedis(err) {
		return true
	}
	var network net.Error
	var connect *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &connect) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// Migrate creates what is missing of a schema, in one transaction, and the table
// of idempotency keys with it, and grants the role what it needs. It may be called
// again, also by two at once.
func Migrate(ctx context.Context, s Schema) (err error) {
	conn, err := Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	statements := idempotencySchema + s.SQL
	if s.Role != "" {
		statements += s.grants(postgresIdempotencyGrants, pgx.Identifier{s.Role}.Sanitize())
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(schemaLock)); err != nil {
			return err
		}
		_, err := tx.Conn().PgConn().Exec(ctx, statements).ReadAll()
		return err
	})
	if err != nil {
		return fmt.Errorf("create the schema: %w", err)
	}
	return nil
}
