package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Statements for a service's schema.
const (
	// Postgres makes the table in PostgreSQL.
	Postgres = `
CREATE TABLE IF NOT EXISTS outbox (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event jsonb NOT NULL,
    at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
`
	// MariaDB makes it in MariaDB.
	MariaDB = `
CREATE TABLE IF NOT EXISTS outbox (
    id    bigint AUTO_INCREMENT PRIMARY KEY,
    event longtext NOT NULL,
    at    datetime(6) NOT NULL DEFAULT current_timestamp(6)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
`
	// Grants are what a role needs, in both.
	Grants = `
GRANT SELECT, INSERT, DELETE ON outbox TO {{role}};
`
)

// Text is an event as its row has it. It is written in the transaction of what it tells.
func (e Event) Text() (string, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("write an event: %w", err)
	}
	return string(text), nil
}

// InPostgres is the table in a PostgreSQL database.
func InPostgres(db *pgxpool.Pool) Store { return postgres{db} }

type postgres struct{ db *pgxpool.Pool }

func (s postgres) First(ctx context.Context, most int) ([]Row, error) {
	rows, err := s.db.Query(ctx, "SELECT id, event::text FROM outbox ORDER BY id LIMIT $1", most)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Row])
}

func (s postgres) Delete(ctx context.Context, ids []int64) error {
	_, err := s.db.Exec(ctx, "DELETE FROM outbox WHERE id = ANY($1)", ids)
	return err
}

// InMariaDB is the table in a MariaDB database.
func InMariaDB(db *sql.DB) Store { return mariadb{db} }

type mariadb struct{ db *sql.DB }

func (s mariadb) First(ctx context.Context, most int) ([]Row, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT id, event FROM outbox ORDER BY id LIMIT ?", most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Row
	for rows.Next() {
		var r Row
		if err := rows.Scan(&r.ID, &r.Event); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

func (s mariadb) Delete(ctx context.Context, ids []int64) error {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	_, err := s.db.ExecContext(ctx, "DELETE FROM outbox WHERE id IN (?"+strings.Repeat(", ?", len(ids)-1)+")", args...)
	return err
}
