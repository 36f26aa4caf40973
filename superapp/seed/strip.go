package seed

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// bared is what was taken off some tables: the statements that put it back, in order.
type bared []string

// Foreign keys go first, since they stand on the keys; indexes of their own last.
const selectConstraints = `
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
       format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE conrelid::regclass::text = ANY ($1) AND contype IN ('f', 'u', 'p')
ORDER BY position(contype::text IN 'fup'), conname`

const selectIndexes = `
SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index i WHERE indrelid::regclass::text = ANY ($1)
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid AND conrelid = i.indrelid)
ORDER BY indexrelid::regclass::text`

// strip takes the keys, the foreign keys and the indexes off tables. What to put
// back is asked of the catalog, so that it is the schema's to say.
func strip(ctx context.Context, tx pgx.Tx, tables ...string) (bared, error) {
	var drop, create []string
	for _, sql := range []string{selectConstraints, selectIndexes} {
		rows, err := tx.Query(ctx, sql, tables)
		if err != nil {
			return nil, fmt.Errorf("read the indexes of the ledger: %w", err)
		}
		var off, on string
		if _, err := pgx.ForEachRow(rows, []any{&off, &on}, func() error {
			drop, create = append(drop, off), append([]string{on}, create...)
			return nil
		}); err != nil {
			return nil, fmt.Errorf("read the indexes of the ledger: %w", err)
		}
	}
	return create, run(ctx, tx, drop)
}

// dress puts everything back, in the opposite order.
func (b bared) dress(ctx context.Context, tx pgx.Tx) error { return run(ctx, tx, b) }

func run(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
