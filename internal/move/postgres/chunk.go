package postgres

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// The kinds of a chunk.
const (
	// chunkWhole is a table at once.
	chunkWhole = "whole"
	// chunkCTID is a range of a table's blocks, read in the order of the disk:
	// the fastest way to read a part, and any table has blocks. Servers from 14 on.
	chunkCTID = "ctid"
	// chunkKey is a range of the first column of the key, a whole number.
	chunkKey = "key"
)

// chunk is a piece of the copy.
type chunk struct {
	ID        int
	Table     Name
	Filenode  uint32
	Kind      string
	Low, High *string // the range [Low, High); nil is open
	Estimate  int64   // bytes
	Done      bool
	At        LSN // the snapshot it was copied under
}

const (
	// splitFrom is how many chunks' size makes a table worth to be split.
	splitFrom = 1.5
	// jobBytes and jobChunks bound the small tables that are copied in one
	// transaction: a commit for each of a thousand tables would cost more than the rows.
	jobBytes  = 4 << 20
	jobChunks = 50
)

// wholeNumbers are the types that a key range can be cut of: int2, int4, int8.
var wholeNumbers = []uint32{20, 21, 23}

// atSnapshot opens a session of the source that sees what the copy's snapshot shows.
func (l *loader) atSnapshot(ctx context.Context) (*pgx.Conn, error) {
	conn, err := l.m.source(ctx)
	if err != nil {
		return nil, err
	}
	if err := importSnapshot(ctx, conn, l.snapshot.name); err != nil {
		hangUp(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// plan cuts the tables, as the snapshot shows them, into chunks.
func (l *loader) plan(ctx context.Context, server version) ([]chunk, error) {
	conn, err := l.atSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, conn)
	c, err := l.m.catalog(ctx, conn)
	if err != nil {
		return nil, err
	}
	var chunks []chunk
	for _, t := range c.Tables {
		parts, err := cut(ctx, conn, t, l.m.limits.ChunkBytes, server)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, parts...)
	}
	for i := range chunks {
		chunks[i].ID = i
	}
	return chunks, nil
}

func cut(ctx context.Context, conn *pgx.Conn, t *Table, size int64, server version) ([]chunk, error) {
	whole := chunk{Table: t.Name, Filenode: t.Filenode, Kind: chunkWhole, Estimate: t.Bytes}
	n := t.Bytes / max(size, 1)
	if float64(t.Bytes) < splitFrom*float64(size) || n < 2 {
		return []chunk{whole}, nil
	}
	var low, high int64
	switch {
	case server.tidRangeScan() && t.Pages >= n:
		whole.Kind, high = chunkCTID, t.Pages
	case len(t.Key) > 0 && slices.Contains(wholeNumbers, t.column(t.Key[0]).TypeOID):
		whole.Kind = chunkKey
		key := identifiers(t.Key[:1])
		if err := conn.QueryRow(ctx, fmt.Sprintf("SELECT coalesce(min(%s), 0)::bigint, coalesce(max(%s), 0)::bigint FROM ONLY %s", key, key, t.SQL())).Scan(&low, &high); err != nil {
			return nil, fmt.Errorf("find the range of table %s: %w", t.Name, err)
		}
		if uint64(high)-uint64(low) < uint64(n) {
			whole.Kind = chunkWhole
			return []chunk{whole}, nil
		}
	default:
		return []chunk{whole}, nil
	}
	step := (uint64(high) - uint64(low)) / uint64(n)
	parts := make([]chunk, n)
	for i := range parts {
		parts[i] = whole
		parts[i].Estimate = t.Bytes / n
		bound := strconv.FormatInt(int64(uint64(low)+step*uint64(i)), 10)
		if i > 0 { // the first is open below, the last above
			parts[i].Low, parts[i-1].High = &bound, &bound
		}
	}
	return parts, nil
}

// where is the chunk's condition; empty for all rows.
func (c chunk) where(t *Table) string {
	column, quoteBound := "", func(b string) string { return b }
	switch c.Kind {
	case chunkWhole:
		return ""
	case chunkCTID:
		column, quoteBound = "ctid", func(b string) string { return "'(" + b + ",0)'::tid" }
	case chunkKey:
		column = identifiers(t.Key[:1])
	}
	sql := ""
	if c.Low != nil {
		sql = column + " >= " + quoteBound(*c.Low)
	}
	if c.High != nil {
		if sql != "" {
			sql += " AND "
		}
		sql += column + " < " + quoteBound(*c.High)
	}
	return sql
}

func storePlan(ctx context.Context, tx pgx.Tx, stream string, chunks []chunk) error {
	if _, err := tx.Exec(ctx, "DELETE FROM dhow.chunk WHERE stream = $1", stream); err != nil {
		return fmt.Errorf("store the plan of the copy: %w", err)
	}
	return addChunks(ctx, tx, stream, chunks)
}

func addChunks(ctx context.Context, tx pgx.Tx, stream string, chunks []chunk) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"dhow", "chunk"}, []string{"stream", "id", "schema_name", "table_name", "filenode", "kind", "low", "high", "estimate"},
		pgx.CopyFromSlice(len(chunks), func(i int) ([]any, error) {
			c := chunks[i]
			return []any{stream, c.ID, c.Table.Schema, c.Table.Name, c.Filenode, c.Kind, c.Low, c.High, c.Estimate}, nil
		}))
	if err != nil {
		return fmt.Errorf("store the plan of the copy: %w", err)
	}
	return nil
}

func readPlan(ctx context.Context, conn *pgx.Conn, stream string) ([]chunk, error) {
	rows, err := conn.Query(ctx, `SELECT id, schema_name, table_name, filenode, kind, low, high, estimate, done IS NOT NULL, coalesce(snapshot_lsn, '0/0')::text
		FROM dhow.chunk WHERE stream = $1 ORDER BY id`, stream)
	if err != nil {
		return nil, fmt.Errorf("read the plan of the copy: %w", err)
	}
	var c chunk
	var chunks []chunk
	_, err = pgx.ForEachRow(rows, []any{&c.ID, &c.Table.Schema, &c.Table.Name, &c.Filenode, &c.Kind, &c.Low, &c.High, &c.Estimate, &c.Done, &c.At}, func() error {
		chunks = append(chunks, c)
		c.Low, c.High = nil, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the plan of the copy: %w", err)
	}
	return chunks, nil
}

// job is what a worker copies in one transaction.
type job struct {
	chunks []chunk
	bytes  int64
}

// jobs orders the work: longest first, so that no table is left alone at the
// end, and small tables together.
func jobs(chunks []chunk) []job {
	sorted := slices.Clone(chunks)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].Estimate > sorted[j].Estimate })
	var list []job
	for _, c := range sorted {
		if n := len(list) - 1; n >= 0 && list[n].bytes+c.Estimate <= jobBytes && len(list[n].chunks) < jobChunks {
			list[n].chunks = append(list[n].chunks, c)
			list[n].bytes += c.Estimate
			continue
		}
		list = append(list, job{chunks: []chunk{c}, bytes: c.Estimate})
	}
	return list
}
