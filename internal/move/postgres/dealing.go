package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// A lane's position tells what of its rows is applied, so it tells something only
// together with which rows are the lane's. That depends on the target: rows of a
// table with another unique constraint go through one lane together, and a copy
// that is being settled has none yet, or the constraint was made while the stream
// did not run. So how each table's rows are dealt out is kept on the target with
// the positions. What an earlier session may have applied is dealt out as that
// session did; behind it, when all lanes are idle, the dealing is changed and all
// lanes get the same position, in one transaction.

// dealing is how the rows of tables are dealt out.
type dealing struct {
	stored  map[Name]bool // together: all rows of the table go through one lane
	horizon place         // the furthest that an earlier session has applied
	changed map[Name]bool // tables that are still dealt out as stored, and should not be
}

// readDealing reads what earlier sessions did, and decides on the tables that none has met.
func readDealing(ctx context.Context, conn *pgx.Conn, stream string, c *Catalog, places []place) (dealing, error) {
	d := dealing{stored: map[Name]bool{}, changed: map[Name]bool{}}
	for _, p := range places {
		if d.horizon.lsn < p.lsn || d.horizon.lsn == p.lsn && d.horizon.ordinal < p.ordinal {
			d.horizon = p
		}
	}
	rows, err := conn.Query(ctx, "SELECT schema_name, table_name, together FROM dhow.dealing WHERE stream = $1", stream)
	if err != nil {
		return d, fmt.Errorf("read how rows are dealt out: %w", err)
	}
	var n Name
	var together bool
	if _, err := pgx.ForEachRow(rows, []any{&n.Schema, &n.Name, &together}, func() error { d.stored[n] = together; return nil }); err != nil {
		return d, fmt.Errorf("read how rows are dealt out: %w", err)
	}
	var schemas, tables []string
	var all []bool
	for _, t := range c.Tables {
		if _, known := d.stored[t.Name]; !known {
			d.stored[t.Name] = t.together()
			schemas, tables, all = append(schemas, t.Schema), append(tables, t.Name.Name), append(all, t.together())
		}
	}
	if len(tables) == 0 {
		return d, nil
	}
	if _, err := conn.Exec(ctx, "INSERT INTO dhow.dealing (stream, schema_name, table_name, together) SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bool[])", stream, schemas, tables, all); err != nil {
		return d, fmt.Errorf("store how rows are dealt out: %w", err)
	}
	return d, nil
}

// together says whether a table's rows should go through one lane: they depend
// upon each other, or their keys can be equal with different texts.
func (t *Table) together() bool {
	return t.OtherUnique || slices.ContainsFunc(t.Key, func(k string) bool { return !lanable(t.column(k)) })
}

func lanable(c *Column) bool {
	return c.TypeOID == textOID || c.TypeOID == 1043 || slices.Contains(lanableTypes, c.TypeOID)
}

// deal decides how the rows of a table that was described are dealt out.
func (in *intake) deal(ctx context.Context, r *relation) error {
	name := r.table.Name
	stored, known := in.dealing.stored[name]
	switch {
	case !known:
		return in.redeal(ctx, []Name{name}, []bool{r.together}, false)
	case stored == r.together:
		delete(in.dealing.changed, name)
		return nil
	case in.commit > in.dealing.horizon.lsn:
		return in.redeal(ctx, []Name{name}, []bool{r.together}, true)
	}
	in.dealing.changed[name] = true
	r.byKey = len(r.key) > 0 && !stored
	return nil
}

// dealAnew changes the dealing of tables once nothing comes any more that an
// earlier session may have applied. It is called between two transactions.
func (in *intake) dealAnew(ctx context.Context) error {
	if len(in.dealing.changed) == 0 || in.commit <= in.dealing.horizon.lsn {
		return nil
	}
	var names []Name
	var together []bool
	for _, r := range in.relations {
		if in.dealing.changed[r.table.Name] {
			names, together = append(names, r.table.Name), append(together, r.together)
		}
	}
	if err := in.redeal(ctx, names, together, true); err != nil {
		return err
	}
	for _, r := range in.relations {
		if in.dealing.changed[r.table.Name] {
			r.byKey = len(r.key) > 0 && !r.together
		}
	}
	clear(in.dealing.changed)
	return nil
}

// redeal stores how rows of tables are dealt out from here on. Was says that they
// were dealt out otherwise before: then all lanes first come to the same place.
func (in *intake) redeal(ctx context.Context, names []Name, together []bool, was bool) error {
	if was {
		if err := in.barrier(ctx); err != nil {
			return err
		}
	}
	conn, err := in.r.m.target(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	at := place{in.commit, in.ordinal}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for i, n := range names {
			if _, err := tx.Exec(ctx, `INSERT INTO dhow.dealing (stream, schema_name, table_name, together) VALUES ($1, $2, $3, $4)
				ON CONFLICT (stream, schema_name, table_name) DO UPDATE SET together = excluded.together`, in.r.name, n.Schema, n.Name, together[i]); err != nil {
				return err
			}
		}
		if !was {
			return nil
		}
		_, err := tx.Exec(ctx, `INSERT INTO dhow.position (stream, lane, commit_lsn, ordinal) SELECT $1, n, $3::text::pg_lsn, $4 FROM generate_series(0, $2 - 1) n
			ON CONFLICT (stream, lane) DO UPDATE SET commit_lsn = excluded.commit_lsn, ordinal = excluded.ordinal`, in.r.name, len(in.lanes), at.lsn.String(), at.ordinal)
		return err
	})
	if err != nil {
		return fmt.Errorf("store how rows are dealt out: %w", err)
	}
	for i, n := range names {
		in.dealing.stored[n] = together[i]
	}
	if was {
		for _, l := range in.lanes {
			l.mu.Lock()
			l.applied, l.enqueued = at, at
			l.mu.Unlock()
		}
	}
	return nil
}
