package inquire

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/estate"
	"dhow/internal/inventory"
)

// ownSchemas are those that a server of MariaDB or MySQL has for itself.
const ownSchemas = "('mysql', 'sys', 'information_schema', 'performance_schema')"

// mariadb asks a server of MariaDB or MySQL.
func mariadb(ctx context.Context, end estate.Endpoint, password string) (*inventory.Answers, error) {
	cfg, err := end.MySQLConfig(ctx)
	if err != nil {
		return nil, err
	}
	if password != "" {
		cfg.Passwd = password
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare the connection: %w", err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }() // all was read
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if errors.Is(err, mysql.ErrNoTLS) {
		return nil, fmt.Errorf("%w: %w", errNoTLS, err)
	}
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it wrote nothing
	// So that a statement ends even if nobody waits for it; MySQL does not know it, and needs it less.
	_, _ = tx.ExecContext(ctx, fmt.Sprintf("set session max_statement_time = %d", statementSeconds))
	a := &inventory.Answers{}
	if err := tx.QueryRowContext(ctx, "select version()").Scan(&a.Version); err != nil {
		return nil, fmt.Errorf("ask for its version: %w", err)
	}
	a.Product = "MySQL"
	if strings.Contains(strings.ToLower(a.Version), "mariadb") {
		a.Product = "MariaDB"
	}
	a.Version, _, _ = strings.Cut(strings.TrimPrefix(a.Version, "5.5.5-"), "-")
	of, args := "t.table_schema not in "+ownSchemas, []any(nil)
	if end.Database != "" {
		of, args = "t.table_schema = ?", []any{end.Database}
	}
	if err := tx.QueryRowContext(ctx, "select cast(coalesce(sum(t.data_length + t.index_length), 0) as unsigned), count(*) from information_schema.tables t where t.table_type = 'BASE TABLE' and "+of, args...).Scan(&a.Bytes, &a.Items); err != nil {
		return nil, fmt.Errorf("ask for its size: %w", err)
	}
	for _, query := range []string{
		"select lower(concat(plugin_name, ' ', plugin_version)) from information_schema.plugins where plugin_status = 'ACTIVE' and plugin_library is not null",
		"select distinct concat('engine ', lower(t.engine)) from information_schema.tables t where t.table_type = 'BASE TABLE' and t.engine is not null and t.engine <> 'InnoDB' and t.table_schema not in " + ownSchemas,
	} {
		more, err := texts(ctx, tx, query)
		if err != nil {
			return nil, fmt.Errorf("ask for its plugins and storage engines: %w", err)
		}
		a.Extensions = append(a.Extensions, more...)
	}
	slices.Sort(a.Extensions)
	numbers, err := variables(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("ask for its load: %w", err)
	}
	a.Connections, a.MaxConnections = int(numbers["threads_connected"])-1, int(numbers["max_connections"])
	a.Replicas = int(numbers["slaves_connected"])
	load(a, numbers["questions"], numbers["uptime"])
	return a, nil
}

// texts are the only column of an answer.
func texts(ctx context.Context, tx *sql.Tx, query string) (all []string, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// variables are the server's numbers of load.
func variables(ctx context.Context, tx *sql.Tx) (map[string]float64, error) {
	all := map[string]float64{}
	for _, query := range []string{"show global status where variable_name in ('Threads_connected', 'Questions', 'Uptime', 'Slaves_connected')", "show global variables where variable_name = 'max_connections'"} {
		if err := addVariables(ctx, tx, query, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func addVariables(ctx context.Context, tx *sql.Tx, query string, all map[string]float64) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return err
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			all[strings.ToLower(name)] = n
		}
	}
	return rows.Err()
}
