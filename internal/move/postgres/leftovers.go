package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// leftovers are all objects that a move makes beside the moved data itself.
const leftovers = `
	SELECT 'slot', slot_name::text FROM pg_replication_slots WHERE database = current_database() AND slot_name LIKE 'dhow\_%'
	UNION ALL SELECT 'publication', pubname::text FROM pg_publication WHERE pubname LIKE 'dhow\_%'
	UNION ALL SELECT 'trigger', format('%I.%I', n.nspname, c.relname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname LIKE 'dhow\_%'
	UNION ALL SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname = 'dhow'
	ORDER BY 1, 2`

// tables are those that hold rows, as people write them.
const tables = `
	SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'dhow')
		AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1)) AND n.nspname || '.' || c.relname <> ALL ($2)
	ORDER BY 1`

// Leftovers lists what moves have left behind on a side, "source" or "target" as
// this direction names them; those of another estate in the same database too.
func (m *Mover) Leftovers(ctx context.Context, side string) ([]move.Leftover, error) {
	open := m.source
	if side == "target" {
		open = m.target
	}
	conn, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, conn)
	rows, err := conn.Query(ctx, leftovers)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[move.Leftover])
}

// Tables are the tables that move, sorted, as the source names them.
func (m *Mover) Tables(ctx context.Context) ([]string, error) {
	conn, err := m.source(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, conn)
	rows, err := conn.Query(ctx, tables, notNil(m.cfg.Schemas), notNil(m.cfg.Exclude))
	if err != nil {
		return nil, err
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
