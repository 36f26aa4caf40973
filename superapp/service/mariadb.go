package service

import (
	"context"
	"database/sql"
	"database/sql/driver"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

//go:embed idempotency_mariadb.sql
var idempotencyMariaDB string

const (
	// mariadbVariable names the MariaDB database.
	mariadbVariable = "MARIADB_URL"
	mariadbForm     = "mariadb://user:password@host:3306/database, with ?tls=true for TLS" //nolint:gosec // a form, with no password in it
	// schemaWait bounds the wait for another migration of the same server.
	schemaWait = time.Minute
)

// Error numbers of MariaDB that the services tell apart.
const (
	mariadbDuplicate    = 1062
	mariadbChanged      = 1020 // ER_CHECKREAD: the row changed under a snapshot
	mariadbLockWait     = 1205
	mariadbDeadlock     = 1213
	mariadbNoTable      = 1146
	mariadbNoDatabase   = 1049
	mariadbAccessDenied = 1045
	mariadbConnections  = 1040
	mariadbShutdown     = 1053
	mariadbOption       = 1290 // --read-only
	mariadbReadOnly     = 1792
	mariadbTimeout      = 1969 // max_statement_time
	mariadbKilled       = 1927
	mariadbInterrupted  = 1317
)

// MariaDBConfig reads a connection string; variable is where it came from, for
// the error, which never repeats the string.
func MariaDBConfig(text, variable string) (*mysql.Config, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "mariadb" && u.Scheme != "mysql") || u.Host == "" || u.User == nil || len(u.Path) < 2 {
		return nil, badURL(variable, "MariaDB", mariadbForm)
	}
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.DBName = "tcp", u.Host, u.User.Username(), strings.TrimPrefix(u.Path, "/")
	if u.Port() == "" {
		c.Addr += ":3306"
	}
	c.Passwd, _ = u.User.Password()
	c.TLSConfig = u.Query().Get("tls")
	c.Timeout, c.ReadTimeout, c.WriteTimeout = connectTime, requestTime+pingTime, requestTime
	c.ParseTime, c.Loc = true, time.UTC
	c.Logger = &mysql.NopLogger{} // what goes wrong comes back as an error
	c.InterpolateParams = true    // one round trip a statement
	c.Collation = "utf8mb4_general_ci"
	c.Params = map[string]string{
		"time_zone": "'+00:00'",
		"sql_mode":  "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
		// In seconds. What waits longer for a row would outlive its request.
		"innodb_lock_wait_timeout": strconv.Itoa(int(requestTime.Seconds()) / 2),
	}
	return c, nil
}

// openMariaDB makes the pool.
func openMariaDB(size int) (*sql.DB, error) {
	text, err := fromEnvironment(mariadbVariable, mariadbForm)
	if err != nil {
		return nil, err
	}
	c, err := MariaDBConfig(text, mariadbVariable)
	if err != nil {
		return nil, err
	}
	c.MultiStatements = true // what belongs together goes in one round trip; arguments can end no statement
	c.Params["max_statement_time"] = strconv.Itoa(int(requestTime.Seconds()))
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, badURL(mariadbVariable, "MariaDB", mariadbForm)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	db.SetConnMaxLifetime(connectionLife)
	return db, nil
}

// MariaDBQuerier is a pool, a connection or a transaction.
type MariaDBQuerier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// LookupMariaDB is what a key holds; false when the key is free.
func LookupMariaDB(ctx context.Context, q MariaDBQuerier, key string) (Stored, bool, error) {
	var s Stored
	err := q.QueryRowContext(ctx, "SELECT request_hash, status, answer FROM idempotency WHERE `key` = ?", key).Scan(&s.Fingerprint, &s.Status, &s.Answer)
	if errors.Is(err, sql.ErrNoRows) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("look up an idempotency key: %w", err)
	}
	return s, true, nil
}

// TakenMariaDB is Taken for a key that MariaDB keeps.
func TakenMariaDB(ctx context.Context, q MariaDBQuerier, key string, fingerprint []byte) (Answer, error) {
	s, _, err := LookupMariaDB(ctx, q, key)
	if err != nil {
		return Answer{}, err
	}
	return s.answer(fingerprint)
}

func mariadbNumber(err error) uint16 {
	var m *mysql.MySQLError
	if errors.As(err, &m) {
		return m.Number
	}
	return 0
}

// awayMariaDB says whether an error is MariaDB's and means that it is gone or takes nothing now.
func awayMariaDB(err error) bool {
	switch mariadbNumber(err) {
	case mariadbNoTable, mariadbNoDatabase, mariadbAccessDenied, mariadbConnections, mariadbShutdown, mariadbOption, mariadbReadOnly, mariadbTimeout, mariadbKilled, mariadbInterrupted:
		return true
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn)
}

// MigrateMariaDB is Migrate for the database that MARIADB_URL names. MariaDB has
// no transaction around such statements: each must be one that may be run again.
func MigrateMariaDB(ctx context.Context, s Schema) (err error) {
	text, err := fromEnvironment(mariadbVariable, mariadbForm)
	if err != nil {
		return err
	}
	c, err := MariaDBConfig(text, mariadbVariable)
	if err != nil {
		return err
	}
	c.MultiStatements = true
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return badURL(mariadbVariable, "MariaDB", mariadbForm)
	}
	db := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: check %s: %w", mariadbVariable, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	lock := "superapp " + c.DBName
	var taken sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", lock, int(schemaWait.Seconds())).Scan(&taken); err != nil {
		return fmt.Errorf("wait for another migration: %w", err)
	}
	if taken.Int64 != 1 {
		return fmt.Errorf("another migration of this database did not end in %s: look for it with SHOW PROCESSLIST", schemaWait)
	}
	// The lock ends with the connection.
	statements := idempotencyMariaDB + s.SQL
	if s.Role != "" {
		statements += s.grants(mariadbIdempotencyGrants, "`"+strings.ReplaceAll(s.Role, "`", "``")+"`@`%`")
	}
	if _, err := conn.ExecContext(ctx, statements); err != nil {
		return fmt.Errorf("create the schema: %w", err)
	}
	return nil
}
