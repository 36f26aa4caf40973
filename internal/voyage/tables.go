package voyage

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"dhow/internal/cutover"
	"dhow/internal/estate"
)

// tables are those that hold rows, as people write them.
const tables = `
	SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'dhow')
		AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1)) AND n.nspname || '.' || c.relname <> ALL ($2)
	ORDER BY 1`

// Tables are the tables of a database that move, sorted, as its source names them.
func (v *Voyage) Tables(ctx context.Context, database string) ([]string, error) {
	d := slices.IndexFunc(v.Estate.Databases, func(d estate.Database) bool { return d.Name == database })
	at := slices.IndexFunc(v.ends, func(e end) bool { return e.database == database && e.side == cutover.Source })
	if d < 0 || at < 0 {
		return nil, fmt.Errorf("there is no database %s in %s", database, v.Estate.File)
	}
	conn, err := pgx.ConnectConfig(ctx, v.ends[at].cfg.Copy())
	if err != nil {
		return nil, fmt.Errorf("list the tables of database %s: %w", database, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has said all
	rows, err := conn.Query(ctx, tables, notNil(v.Estate.Databases[d].Schemas), notNil(v.Estate.Databases[d].Exclude))
	if err != nil {
		return nil, fmt.Errorf("list the tables of database %s: %w", database, err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// notNil makes an empty list of none, which the server takes for NULL.
func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
