package mariadb

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"dhow/internal/move"
)

// chunk is a piece of the copy: a table, or the rows of a range of its key.
type chunk struct {
	ID    int
	Table Name
	// Low and High bound the key, as the literals of its first columns joined by a
	// comma: rows above Low up to High. Empty is without bound.
	Low, High string
	Estimate  int64 // bytes
	// Deferred: the table's indexes are made after its rows.
	Deferred bool
	// Done is the position of the snapshot under which the chunk was copied.
	Done        bool
	DoneAt      string
	Rows, Bytes int64
}

// whole says whether the chunk is a table.
func (c chunk) whole() bool { return c.Low == "" && c.High == "" }

// boundSeparator stands between the literals of a bound, none of which holds it.
const boundSeparator = ", "

// where is the condition that chooses the chunk's rows.
func (c chunk) where(t *Table) string {
	var conditions []string
	if c.Low != "" {
		conditions = append(conditions, beyond(t, c.Low, ">", ">"))
	}
	if c.High != "" {
		conditions = append(conditions, beyond(t, c.High, "<", "<="))
	}
	return strings.Join(conditions, " AND ")
}

// beyond compares the key's columns with a bound, one after another, in words for
// which the server uses the key's index; the last column is compared by last.
func beyond(t *Table, bound, strict, last string) string {
	values := strings.Split(bound, boundSeparator)
	var or []string
	for i := range values {
		var and []string
		for k := range i {
			and = append(and, quote(t.Key[k])+" = "+values[k])
		}
		op := strict
		if i == len(values)-1 {
			op = last
		}
		or = append(or, strings.Join(append(and, quote(t.Key[i])+" "+op+" "+values[i]), " AND "))
	}
	return "(" + strings.Join(or, " OR ") + ")"
}

// keyKind says how the bounds of a key's column are written.
func keyKind(c *Column) string {
	if c == nil || c.Generated != "" {
		return ""
	}
	switch kind := strings.ToLower(c.DataType); kind {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		return "integer"
	case "char", "varchar", "binary", "varbinary":
		return "bytes"
	case "decimal", "date", "datetime", "timestamp", "time":
		return "text"
	}
	return ""
}

// splitColumns are the first columns of the key by whose values the table can be split.
func splitColumns(t *Table) []*Column {
	var columns []*Column
	if t.KeyPrefixed || t.Versioned {
		return nil
	}
	for _, k := range t.Key {
		c := t.Column(k)
		if keyKind(c) == "" {
			break
		}
		columns = append(columns, c)
	}
	return columns
}

// literal writes a value of a key's column as it stands in a statement.
func literal(c *Column, value []byte) string {
	switch keyKind(c) {
	case "integer":
		return string(value)
	case "text":
		return "'" + string(value) + "'"
	}
	if c.Charset != "" && c.Charset != "binary" {
		return "_" + c.Charset + " X'" + hex.EncodeToString(value) + "'"
	}
	return "X'" + hex.EncodeToString(value) + "'"
}

// bounds finds the bounds that split a table into about so many pieces of equal size.
func bounds(ctx context.Context, q querier, t *Table, pieces int64) ([]string, error) {
	columns := splitColumns(t)
	if len(columns) == 0 || pieces < 2 {
		return nil, nil
	}
	if len(t.Key) == 1 && keyKind(columns[0]) == "integer" {
		return evenBounds(ctx, q, t, pieces)
	}
	var names []string
	after := ""
	for _, c := range columns {
		names = append(names, quote(c.Name))
	}
	var list []string
	rows := max(1, t.Rows/pieces)
	for {
		query := fmt.Sprintf("SELECT %[1]s FROM %[2]s FORCE INDEX (%[3]s)%[4]s ORDER BY %[1]s LIMIT 1 OFFSET %[5]d", strings.Join(names, ", "), t.SQL(), quote(t.KeyIndex), after, rows)
		values := make([]sql.RawBytes, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		var bound []string
		err := scan(ctx, q, query, func(row func(...any) error) error {
			if err := row(into...); err != nil {
				return err
			}
			for i, c := range columns {
				bound = append(bound, literal(c, values[i]))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if bound == nil {
			return list, nil
		}
		next := strings.Join(bound, boundSeparator)
		if len(list) > 0 && next == list[len(list)-1] {
			return list, nil // the server sees no order in them
		}
		list = append(list, next)
		after = " WHERE " + beyond(t, next, ">", ">")
	}
}

// evenBounds splits the range of an integer key evenly.
func evenBounds(ctx context.Context, q querier, t *Table, pieces int64) ([]string, error) {
	var low, high sql.NullString
	k := quote(t.Key[0])
	if err := q.QueryRowContext(ctx, fmt.Sprintf("SELECT MIN(%s), MAX(%s) FROM %s", k, k, t.SQL())).Scan(&low, &high); err != nil || !low.Valid {
		return nil, err
	}
	from, okFrom := new(big.Int).SetString(low.String, 10)
	to, okTo := new(big.Int).SetString(high.String, 10)
	if !okFrom || !okTo {
		return nil, errors.New("the key's bounds are no numbers")
	}
	width := new(big.Int).Sub(to, from)
	n := big.NewInt(pieces)
	var list []string
	for i := int64(1); i < pieces; i++ {
		at := new(big.Int).Mul(width, big.NewInt(i))
		at.Div(at, n).Add(at, from)
		if s := at.String(); len(list) == 0 || list[len(list)-1] != s {
			list = append(list, s)
		}
	}
	return list, nil
}

// plan decides in which pieces the tables are copied, and writes it down.
func (l *loader) plan(ctx context.Context, tables []*Table, from int, deferred func(*Table) bool) ([]chunk, error) {
	var chunks []chunk
	for _, t := range tables {
		var cuts []string
		if deferred(t) && t.Bytes > l.m.limits.ChunkBytes {
			var err error
			if cuts, err = bounds(ctx, l.snapshots.conns[0], t, t.Bytes/l.m.limits.ChunkBytes+1); err != nil {
				return nil, fmt.Errorf("split table %s: %w", t.Name, withoutValues(err))
			}
		}
		low := ""
		for _, high := range append(cuts, "") {
			chunks = append(chunks, chunk{ID: from + len(chunks), Table: t.Name, Low: low, High: high, Estimate: t.Bytes / int64(len(cuts)+1), Deferred: deferred(t)})
			low = high
		}
	}
	return chunks, l.inTransaction(ctx, func(q querier) error {
		// Those of tables that are copied again, or of a whole copy that is.
		if _, err := q.ExecContext(ctx, "DELETE FROM dhow.chunk WHERE stream = ? AND (done_gtid IS NULL OR ?)", l.m.stream, from == 1); err != nil {
			return fmt.Errorf("forget the former pieces of the copy: %w", err)
		}
		const batch = 200 // rows of one INSERT: well below the smallest max_allowed_packet
		for part := range slices.Chunk(chunks, batch) {
			var values []string
			for _, c := range part {
				values = append(values, fmt.Sprintf("(%s, %d, %s, %s, %s, %s, %d, %t)", quoteText(l.m.stream), c.ID, quoteText(c.Table.Schema), quoteText(c.Table.Name), quoteText(c.Low), quoteText(c.High), c.Estimate, c.Deferred))
			}
			if _, err := q.ExecContext(ctx, "INSERT INTO dhow.chunk (stream, id, schema_name, table_name, low, high, estimate, deferred) VALUES "+strings.Join(values, ", ")); err != nil {
				return fmt.Errorf("write down the pieces of the copy: %w", err)
			}
		}
		return writeStream(ctx, q, l.m.stream, *l.state)
	})
}

// readPlan reads the pieces of the copy.
func readPlan(ctx context.Context, q querier, stream string) ([]chunk, error) {
	var list []chunk
	err := scan(ctx, q, `SELECT id, schema_name, table_name, low, high, estimate, deferred, done_gtid IS NOT NULL, COALESCE(done_gtid, ''), COALESCE(done_rows, 0), COALESCE(done_bytes, 0)
		FROM dhow.chunk WHERE stream = ? ORDER BY id`, func(row func(...any) error) error {
		var c chunk
		if err := row(&c.ID, &c.Table.Schema, &c.Table.Name, &c.Low, &c.High, &c.Estimate, &c.Deferred, &c.Done, &c.DoneAt, &c.Rows, &c.Bytes); err != nil {
			return err
		}
		list = append(list, c)
		return nil
	}, stream)
	if err != nil {
		return nil, fmt.Errorf("read the pieces of the copy: %w", err)
	}
	return list, nil
}

// Small tables are copied several in one transaction, each of which costs the target a sync.
const (
	jobBytes  = 4 << 20
	jobTables = 32
)

// job is chunks that one worker copies in one transaction.
type job struct{ chunks []chunk }

// jobs orders what is to be copied: tables without a key first, for they alone can
// not be begun anew when the snapshot is lost; then the large before the small, so
// that no worker is left with a large one at the end. A job has at most about so many bytes.
func jobs(c *Catalog, todo []chunk, most int64) []job {
	keyless := func(ch chunk) bool { t := c.Table(ch.Table); return t != nil && len(t.Key) == 0 }
	slices.SortStableFunc(todo, func(a, b chunk) int {
		if x, y := keyless(a), keyless(b); x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.Estimate, a.Estimate)
	})
	var list []job
	var small job
	var bytes int64
	for _, ch := range todo {
		if !ch.whole() || ch.Estimate >= most {
			list = append(list, job{chunks: []chunk{ch}})
			continue
		}
		if len(small.chunks) == jobTables || len(small.chunks) > 0 && bytes+ch.Estimate > most {
			list, small, bytes = append(list, small), job{}, 0
		}
		small.chunks = append(small.chunks, ch)
		bytes += ch.Estimate
	}
	if len(small.chunks) > 0 {
		list = append(list, small)
	}
	return list
}

// refuseUncopied refuses tables that can not be copied as they are.
func refuseUncopied(c *Catalog, history bool) error {
	for _, t := range c.Tables {
		if !t.Transactional() {
			return &move.Refused{Reason: fmt.Sprintf("table %s is of engine %s, of which no snapshot can be taken", t.Name, t.Engine),
				Fix: fmt.Sprintf("ALTER TABLE %s ENGINE = InnoDB; or exclude it", t.SQL())}
		}
		if t.Versioned && !history {
			return &move.Refused{Reason: fmt.Sprintf("table %s keeps its history, which the target can not take over before MariaDB 10.11", t.Name),
				Fix: "move to 10.11 or later, or exclude the table"}
		}
	}
	return nil
}
