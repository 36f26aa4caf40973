package postgres

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
)

// Large objects are not part of a change stream. They are copied before the
// fence and looked at again under it: only what changed in between costs stall.

// objectBlock is how much of a large object is in memory at a time, in bytes.
const objectBlock = 1 << 20

// objectSums lists the large objects with a checksum of their content each.
const objectSums = `SELECT m.oid, coalesce((SELECT sum(hashtextextended(encode(l.data, 'hex') COLLATE "C", l.pageno)) FROM pg_largeobject l WHERE l.loid = m.oid), 0)::text
	FROM pg_largeobject_metadata m ORDER BY m.oid`

// copyLargeObjects makes the target's large objects equal to the source's and
// says how many it had to change.
func (m *Mover) copyLargeObjects(ctx context.Context, source, target *pgx.Conn) (changed int, err error) {
	want, err := objects(ctx, source)
	if err != nil {
		return 0, fmt.Errorf("list the source's large objects: %w", err)
	}
	have, err := objects(ctx, target)
	if err != nil {
		return 0, fmt.Errorf("list the target's large objects: %w", err)
	}
	for oid, sum := range want {
		if old, ok := have[oid]; ok && old == sum {
			continue
		}
		if err := copyObject(ctx, source, target, oid); err != nil {
			return changed, fmt.Errorf("copy large object %d: %w", oid, err)
		}
		changed++
	}
	for oid := range have {
		if _, ok := want[oid]; ok {
			continue
		}
		if _, err := target.Exec(ctx, "SELECT lo_unlink($1)", oid); err != nil {
			return changed, fmt.Errorf("remove large object %d, which the source no longer has: %w", oid, err)
		}
		changed++
	}
	return changed, nil
}

func objects(ctx context.Context, conn *pgx.Conn) (map[uint32]string, error) {
	var has bool // their content needs a right that a database without them need not give
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)").Scan(&has); err != nil || !has {
		return nil, err
	}
	rows, err := conn.Query(ctx, objectSums)
	if err != nil {
		return nil, err
	}
	sums := map[uint32]string{}
	var oid uint32
	var sum string
	_, err = pgx.ForEachRow(rows, []any{&oid, &sum}, func() error { sums[oid] = sum; return nil })
	return sums, err
}

// copyObject makes the target's object equal to the source's, in one transaction of each.
func copyObject(ctx context.Context, source, target *pgx.Conn, oid uint32) error {
	from, err := source.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() {
		last, cancel := parting(ctx)
		defer cancel()
		_ = from.Rollback(last) // only read from
	}()
	return pgx.BeginFunc(ctx, target, func(to pgx.Tx) error {
		if _, err := to.Exec(ctx, "SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = $1", oid); err != nil {
			return err
		}
		objects := to.LargeObjects()
		if _, err := objects.Create(ctx, oid); err != nil {
			return err
		}
		w, err := objects.Open(ctx, oid, pgx.LargeObjectModeWrite)
		if err != nil {
			return err
		}
		fromObjects := from.LargeObjects()
		r, err := fromObjects.Open(ctx, oid, pgx.LargeObjectModeRead)
		if err != nil {
			return fmt.Errorf("open it at the source: %w", err)
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, objectBlock))
		return err
	})
}
