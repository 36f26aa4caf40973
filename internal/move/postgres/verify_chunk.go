package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A table is cut in one of two ways.
//
// By ranges of its key, where both servers have the same order for the key's
// types, keep an index of it, and the rows lie on disk roughly in that order.
// Then a chunk is read fast and at nearly the same moment on both sides, so on
// moving data few chunks differ by chance. The bounds are keys of the source: a
// sample of its blocks, of which every n-th key is taken.
//
// Else by buckets of the row's hash, in one pass over the table in the disk's
// order, whatever the key: texts, which two servers may sort differently (another
// locale, another version of it), random keys, whose order would read the whole
// disk criss-cross, and tables without a key.

const (
	// chunkRows and chunkSize bound a chunk, in rows and bytes: small enough that
	// listing one is quick, large enough that its sum is worth a round trip.
	chunkRows = 20000
	chunkSize = 8 << 20
	// chunkLeast is the fewest rows worth a chunk, however wide they are.
	chunkLeast = 16
	// maxChunks bounds the chunks of a table, and with them the memory of its plan.
	maxChunks = 2000
	// maxBuckets bounds the sums of one statement.
	maxBuckets = 4096
	// sampleBlocks are the blocks that are read for a bound between two chunks.
	sampleBlocks = 8
	// orderedFrom is the correlation of a key with the disk's order from which
	// reading by key is about as fast as reading in the disk's order.
	orderedFrom = 0.5
	// unknownRow is the size of a row, in bytes, where the server has not counted them yet.
	unknownRow = 100
)

// unit is what one pair of statements compares: a chunk, or all buckets of a table.
type unit struct {
	table *comparedTable
	// low and high bound the key, [low, high); nil is open.
	low, high []string
	buckets   int
	rows      int64 // of the source, once it is compared
}

// digest is what is known of a chunk's rows.
type digest struct {
	rows int64
	a, b string // the sums of their hashes
}

// estimate is a guess of a table's rows.
func estimate(t *Table) int64 {
	if t.Rows == 0 {
		return t.Bytes / unknownRow
	}
	return t.Rows
}

// plan cuts a table.
func (v *verifier) plan(ctx context.Context, t *comparedTable) ([]*unit, error) {
	list, err := v.cut(ctx, t)
	t.left.Store(int64(len(list)))
	for _, u := range list {
		v.progress.board.ExpectSteps(u.buckets)
	}
	return list, err
}

func (v *verifier) cut(ctx context.Context, t *comparedTable) ([]*unit, error) {
	whole := &unit{table: t, buckets: 1}
	rows := estimate(t.source)
	size := chunkSize / max(1, t.source.Bytes/max(1, rows))
	size = max(min(size, chunkRows), chunkLeast, rows/maxChunks)
	if float64(rows) < splitFrom*float64(size) {
		return []*unit{whole}, nil
	}
	v.leading.Lock()
	defer v.leading.Unlock()
	byKey, err := v.ordered(ctx, t)
	if err != nil {
		return nil, err
	}
	n := rows / size
	if !byKey {
		whole.buckets = min(1<<bits.Len64(uint64(n)), maxBuckets)
		return []*unit{whole}, nil
	}
	bounds, err := v.sample(ctx, t, n)
	if err != nil {
		return nil, err
	}
	list := []*unit{whole}
	for _, b := range bounds {
		list[len(list)-1].high = b
		list = append(list, &unit{table: t, low: b, buckets: 1})
	}
	return list, nil
}

// sample takes about n keys of the source at equal distances.
func (v *verifier) sample(ctx context.Context, t *comparedTable, n int64) ([][]string, error) {
	percent := min(100, 100*float64(n*sampleBlocks)/float64(max(1, t.source.Pages)))
	every := max(1, int64(float64(estimate(t.source))*percent/100)/n)
	key := make([]string, len(t.key))
	for i, k := range t.key {
		key[i] = "t." + identifiers([]string{k.Name})
	}
	sql := fmt.Sprintf("SELECT k FROM (SELECT ARRAY[%s] AS k, row_number() OVER (ORDER BY %s) AS n FROM ONLY %s AS t TABLESAMPLE SYSTEM (%g)) s WHERE n %% %d = 0 ORDER BY n",
		strings.Join(t.keyTexts, ", "), strings.Join(key, ", "), t.source.SQL(), percent, every)
	rows, err := v.lead.source.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("sample its keys: %w", err)
	}
	bounds, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
	if err != nil {
		return nil, fmt.Errorf("sample its keys: %w", err)
	}
	return bounds, nil
}

// Types whose order is the same on every server. Of the second list it is also
// usual that rows are written in that order.
var (
	orderedTypes = []uint32{17, 26, 1700, 2950, 1083, 1266}
	risingTypes  = []uint32{20, 21, 23, 1082, 1114, 1184}
)

// ordered says whether to cut a table by ranges of its key.
func (v *verifier) ordered(ctx context.Context, t *comparedTable) (bool, error) {
	var collated []string
	for _, k := range t.key {
		switch {
		case slices.Contains(orderedTypes, k.TypeOID), slices.Contains(risingTypes, k.TypeOID):
		case slices.Contains(measuredTypes, k.TypeOID):
			collated = append(collated, k.Name)
		default:
			return false, nil
		}
	}
	if t.keyless() || t.target.KeyIndex == "" || !slices.Equal(t.source.Key, t.target.Key) {
		return false, nil
	}
	var correlation float64
	err := v.lead.source.QueryRow(ctx, "SELECT abs(correlation) FROM pg_stats WHERE schemaname = $1 AND tablename = $2 AND attname = $3 AND NOT inherited AND correlation IS NOT NULL",
		t.source.Schema, t.source.Name.Name, t.key[0].Name).Scan(&correlation)
	if errors.Is(err, pgx.ErrNoRows) {
		correlation = 0
		if slices.Contains(risingTypes, t.key[0].TypeOID) {
			correlation = 1
		}
	} else if err != nil {
		return false, fmt.Errorf("read the statistics of its key: %w", err)
	}
	if correlation < orderedFrom {
		return false, nil
	}
	if len(collated) == 0 {
		return true, nil
	}
	same := !t.mixed
	for i, conn := range []*pgx.Conn{v.lead.source, v.lead.target} {
		bytewise, err := bytewiseOrder(ctx, conn, []*Table{t.source, t.target}[i].OID, collated)
		if err != nil {
			return false, err
		}
		same = same && bytewise
	}
	return same, nil
}

// bytewiseOrder says whether columns sort by their bytes: the only order of
// texts that every server has alike.
func bytewiseOrder(ctx context.Context, conn *pgx.Conn, table uint32, columns []string) (bool, error) {
	var is bool
	err := conn.QueryRow(ctx, `SELECT bool_and(CASE WHEN c.collname = 'default' THEN d.datcollate IN ('C', 'POSIX') AND coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c'
			ELSE c.collname IN ('C', 'POSIX') AND c.collnamespace = 'pg_catalog'::regnamespace END)
		FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation, pg_database d
		WHERE a.attrelid = $1 AND a.attname = ANY ($2::text[]) AND d.datname = current_database()`, table, columns).Scan(&is)
	if err != nil {
		return false, fmt.Errorf("read the collation of its key: %w", err)
	}
	return is, nil
}

// where is the unit's condition and its parameters.
func (u *unit) where() (string, []any) {
	var parts []string
	var params []any
	for _, b := range []struct {
		sign  string
		bound []string
	}{{">=", u.low}, {"<", u.high}} {
		if b.bound == nil {
			continue
		}
		names, values := make([]string, len(b.bound)), make([]string, len(b.bound))
		for i, text := range b.bound {
			params = append(params, text)
			names[i] = "t." + identifiers([]string{u.table.key[i].Name})
			values[i] = u.table.key[i].cast(fmt.Sprintf("$%d::text", len(params)))
		}
		parts = append(parts, fmt.Sprintf("(%s) %s (%s)", strings.Join(names, ", "), b.sign, strings.Join(values, ", ")))
	}
	return strings.Join(parts, " AND "), params
}

// digests reads a unit's sums on one side, by bucket.
func (u *unit) digests(ctx context.Context, conn *pgx.Conn) (map[int64]digest, error) {
	where, params := u.where()
	from := u.table.hashedRows(nil, "", where)
	sql := "SELECT 0::bigint, count(*), coalesce(sum(h0), 0)::text, coalesce(sum(h1), 0)::text FROM " + from
	if u.buckets > 1 {
		sql = fmt.Sprintf("SELECT h0 & %d, count(*), sum(h0)::text, sum(h1)::text FROM %s GROUP BY 1", u.buckets-1, from)
	}
	rows, err := conn.Query(ctx, sql, params...)
	if err != nil {
		return nil, err
	}
	sums := make(map[int64]digest, u.buckets)
	var bucket int64
	var d digest
	_, err = pgx.ForEachRow(rows, []any{&bucket, &d.rows, &d.a, &d.b}, func() error { sums[bucket] = d; return nil })
	return sums, err
}

// compare compares a unit, and lists the rows of what differs.
func (v *verifier) compare(ctx context.Context, p *pair, u *unit) error {
	began := time.Now()
	var sums [2]map[int64]digest
	err := p.both(ctx, func(ctx context.Context, i int, conn *pgx.Conn) (err error) {
		sums[i], err = u.digests(ctx, conn)
		return err
	})
	if err != nil {
		return err
	}
	var rows int64
	var differing []int64
	for b := range int64(u.buckets) {
		rows += sums[0][b].rows
		if sums[0][b] != sums[1][b] {
			differing = append(differing, b)
		}
	}
	v.found.Compared(u.table.source.Name.String(), rows, u.buckets, began)
	t := u.table.source
	v.progress.board.Done(t.Name.String(), rows, rows*(t.Bytes/max(1, estimate(t))))
	if len(differing) > 0 {
		if err := v.list(ctx, p, u, differing); err != nil {
			return err
		}
	}
	for range u.buckets {
		v.progress.board.StepDone()
	}
	if u.table.left.Add(-1) == 0 {
		v.progress.board.TableDone(t.Name.String())
	}
	u.rows = rows
	return nil
}
