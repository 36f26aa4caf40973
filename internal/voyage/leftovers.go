package voyage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"dhow/internal/cutover"
)

// Leftover is something of ours that stands in a database.
type Leftover struct {
	Database string       `json:"database"`
	Side     cutover.Side `json:"side"`
	// Kind is slot, publication, trigger or schema; of a trigger, Name is its table's.
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// leftovers are all objects that a move makes beside the moved data itself.
const leftovers = `
	SELECT 'slot', slot_name::text FROM pg_replication_slots WHERE database = current_database() AND slot_name LIKE 'dhow\_%'
	UNION ALL SELECT 'publication', pubname::text FROM pg_publication WHERE pubname LIKE 'dhow\_%'
	UNION ALL SELECT 'trigger', format('%I.%I', n.nspname, c.relname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname LIKE 'dhow\_%'
	UNION ALL SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname = 'dhow'
	ORDER BY 1, 2`

// end is a side of a database, to ask it what the movers' contract has no word for.
type end struct {
	database string
	side     cutover.Side
	cfg      *pgx.ConnConfig
}

// Leftovers lists what moves have left behind in the estate's databases, on both
// sides; those of another estate in the same database too.
func (v *Voyage) Leftovers(ctx context.Context) ([]Leftover, error) {
	var all []Leftover
	for _, e := range v.ends {
		found, err := e.leftovers(ctx)
		if err != nil {
			return nil, fmt.Errorf("list what a move left behind at the %s of database %s: %w", e.side, e.database, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func (e end) leftovers(ctx context.Context) ([]Leftover, error) {
	conn, err := pgx.ConnectConfig(ctx, e.cfg.Copy())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has said all
	rows, err := conn.Query(ctx, leftovers)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Leftover, error) {
		l := Leftover{Database: e.database, Side: e.side}
		return l, row.Scan(&l.Kind, &l.Name)
	})
}
