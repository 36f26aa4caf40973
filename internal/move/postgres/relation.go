package postgres

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"

	"dhow/internal/move"
)

// relation is a published table as the stream describes it, joined with the
// target's table and the statements that change it.
type relation struct {
	table   *Table
	columns []*Column // of the target, in the stream's order
	all     []int     // indexes of all columns
	key     []int     // indexes of the columns that name a row; empty: the whole row does
	notKey  []int
	full    bool // REPLICA IDENTITY FULL: old rows come whole
	// together: rows depend upon each other, and should go through one lane.
	together bool
	// byKey: rows with different keys go through different lanes; see dealing.
	byKey bool
	seed  uint32 // of the rows' hash, see lane
	// start: changes that committed at or before it are in the copy already.
	start LSN
	// refused says why changes of this table can not be applied; nil mostly. It
	// matters only once there is a change that has to be.
	refused error
}

// lanableTypes are those whose equality is the equality of their text. Rows of
// a table whose key has another type (numeric: 1.0 = 1.00) stay in one lane.
var lanableTypes = []uint32{16, 17, 18, 19, 20, 21, 23, 26, 1082, 1083, 1114, 1184, 2950}

// newRelation joins a relation message with the target's table. A difference is
// refused before anything is applied: the source's schema was changed. The
// message describes the table as it was when its changes were made, so a column
// that is gone from both sides since (source is the source's catalog now, or nil
// when it was not looked at) is left out, and one that came since is filled by
// the target.
func newRelation(msg *pglogrepl.RelationMessage, c, source *Catalog, starts map[Name]LSN) (*relation, error) {
	name := Name{msg.Namespace, msg.RelationName}
	t := c.table(name)
	if t == nil {
		return nil, &move.Refused{Reason: fmt.Sprintf("the source sends changes of table %s, which the target does not have", name), Fix: "create it on the target as it is on the source, then start `dhow replicate` again"}
	}
	r := &relation{table: t, seed: laneSeed(name), full: msg.ReplicaIdentity == 'f', start: starts[name]}
	for i, col := range msg.Columns {
		tc := t.column(col.Name)
		const firstUserOID = 16384 // types below have the same OID everywhere
		switch {
		case tc == nil && source.lacks(name, col.Name) && (r.full || col.Flags&1 == 0):
			r.columns = append(r.columns, nil)
			continue
		case tc == nil:
			return nil, schemaChanged(name, fmt.Sprintf("column %s is not on the target", col.Name))
		case col.DataType < firstUserOID && tc.TypeOID < firstUserOID && col.DataType != tc.TypeOID:
			return nil, schemaChanged(name, fmt.Sprintf("column %s has type %s on the target and another one on the source", col.Name, tc.Type))
		case tc.Generated:
			return nil, schemaChanged(name, fmt.Sprintf("column %s is generated on the target and not on the source", col.Name))
		}
		r.columns = append(r.columns, tc)
		r.all = append(r.all, i)
		inKey := col.Flags&1 != 0
		if r.full {
			inKey = slices.Contains(t.Key, col.Name)
		}
		if inKey {
			r.key = append(r.key, i)
		} else {
			r.notKey = append(r.notKey, i)
		}
	}
	for _, c := range t.Sent() {
		if c.NotNull && !c.Filled && !slices.ContainsFunc(r.columns, func(have *Column) bool { return have != nil && have.Name == c.Name }) {
			return nil, schemaChanged(name, fmt.Sprintf("column %s, which may not be null, is not on the source", c.Name))
		}
	}
	r.together = t.OtherUnique
	for _, k := range r.key {
		r.together = r.together || !lanable(r.columns[k])
	}
	r.byKey = len(r.key) > 0 && !r.together
	return r, nil
}

// lacks says that the catalog was read and has no such column.
func (c *Catalog) lacks(table Name, column string) bool {
	if c == nil {
		return false
	}
	t := c.table(table)
	return t != nil && t.column(column) == nil
}

func schemaChanged(table Name, what string) error {
	return &move.Refused{Reason: fmt.Sprintf("the schema of table %s differs: %s; nothing of it was applied", table, what),
		Fix: "make the same change on the target (or take it back on the source), then start `dhow replicate` again"}
}

// lane says which of n lanes a row belongs to; it is stable over restarts. It is
// FNV-1a of the table's name and the key's values.
func (r *relation) lane(of row, n int) int {
	const prime = 16777619
	h := r.seed
	if r.byKey {
		for _, k := range r.key {
			h *= prime // a zero between two values
			for _, b := range of[k].text {
				h = (h ^ uint32(b)) * prime
			}
		}
	}
	return int(h % uint32(n))
}

// laneSeed is what the name of a table adds to its rows' hash.
func laneSeed(n Name) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.Schema + "\x00" + n.Name)) // never fails
	return h.Sum32()
}

// appendKey appends a row's key for maps: values with their lengths.
func (r *relation) appendKey(buf []byte, of row) []byte {
	for _, k := range r.key {
		buf = binary.AppendUvarint(buf, uint64(len(of[k].text)))
		buf = append(buf, of[k].text...)
	}
	return buf
}

// describe names a row for an error: its key, never its other values.
func (r *relation) describe(of row) string {
	if len(r.key) == 0 {
		return "a row (the table has no key)"
	}
	parts := make([]string, len(r.key))
	for i, k := range r.key {
		parts[i] = fmt.Sprintf("%s=%s", r.columns[k].Name, of[k].text)
	}
	return strings.Join(parts, ", ")
}

func (r *relation) name(i int) string { return identifiers([]string{r.columns[i].Name}) }

func (r *relation) names(idx []int) string {
	list := make([]string, len(idx))
	for i, c := range idx {
		list[i] = r.name(c)
	}
	return strings.Join(list, ", ")
}

// The statements take one text[] parameter for each column named, in the given order.

// unnest is the FROM item of n parameters, as v (c0, c1, ...).
func unnest(n int) string {
	params, cols := make([]string, n), make([]string, n)
	for i := range n {
		params[i], cols[i] = fmt.Sprintf("$%d::text[]", i+1), fmt.Sprintf("c%d", i)
	}
	return fmt.Sprintf("unnest(%s) AS v (%s)", strings.Join(params, ", "), strings.Join(cols, ", "))
}

// matches compares the table's key with v's first columns.
func (r *relation) matches() string {
	parts := make([]string, len(r.key))
	for i, k := range r.key {
		parts[i] = fmt.Sprintf("t.%s %s %s", r.name(k), r.columns[k].Equal, r.columns[k].cast(fmt.Sprintf("v.c%d", i)))
	}
	return strings.Join(parts, " AND ")
}

// deleteSQL deletes rows by key.
func (r *relation) deleteSQL() string {
	return fmt.Sprintf("DELETE FROM ONLY %s AS t USING %s WHERE %s", r.table.SQL(), unnest(len(r.key)), r.matches())
}

// updateSQL sets columns by key; the parameters are the key, then the columns.
func (r *relation) updateSQL(columns []int) string {
	if r.always(columns) {
		return r.replaceSQL(columns)
	}
	sets := make([]string, len(columns))
	for i, c := range columns {
		sets[i] = fmt.Sprintf("%s = %s", r.name(c), r.columns[c].cast(fmt.Sprintf("v.c%d", len(r.key)+i)))
	}
	return fmt.Sprintf("UPDATE ONLY %s AS t SET %s FROM %s WHERE %s", r.table.SQL(), strings.Join(sets, ", "), unnest(len(r.key)+len(columns)), r.matches())
}

// always says whether a column is GENERATED ALWAYS AS IDENTITY: an UPDATE may only
// set it anew, and an INSERT may give it any value.
func (r *relation) always(columns []int) bool {
	return slices.ContainsFunc(columns, func(c int) bool { return r.columns[c].Always })
}

// replaceSQL is updateSQL for columns that no UPDATE may set: the rows go, and
// come again with what they had and what is set.
func (r *relation) replaceSQL(columns []int) string {
	values := make([]string, len(r.all))
	for i, c := range r.all {
		values[i] = "t." + r.name(c)
		if at := slices.Index(columns, c); at >= 0 {
			values[i] = r.casts(columns[at:at+1], len(r.key)+at) + " AS " + r.name(c)
		}
	}
	return fmt.Sprintf("WITH old AS (DELETE FROM ONLY %s AS t USING %s WHERE %s RETURNING %s) INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT * FROM old",
		r.table.SQL(), unnest(len(r.key)+len(columns)), r.matches(), strings.Join(values, ", "), r.table.SQL(), r.names(r.all))
}

// casts are v's columns from offset on as the types of the given columns.
func (r *relation) casts(columns []int, offset int) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = r.columns[c].cast(fmt.Sprintf("v.c%d", offset+i))
	}
	return strings.Join(list, ", ")
}

// insertSQL inserts whole rows.
func (r *relation) insertSQL() string {
	if len(r.all) == 0 {
		return fmt.Sprintf("INSERT INTO %s DEFAULT VALUES", r.table.SQL())
	}
	return fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s", r.table.SQL(), r.names(r.all), r.casts(r.all, 0), unnest(len(r.all)))
}

// copySQL takes whole rows as COPY's text.
func (r *relation) copySQL() string {
	return fmt.Sprintf("COPY %s (%s) FROM STDIN", r.table.SQL(), r.names(r.all))
}

// upsertSQL inserts whole rows or makes those with their key equal.
func (r *relation) upsertSQL() string {
	set := "NOTHING"
	if len(r.notKey) > 0 {
		parts := make([]string, len(r.notKey))
		for i, c := range r.notKey {
			parts[i] = fmt.Sprintf("%s = excluded.%s", r.name(c), r.name(c))
		}
		set = "UPDATE SET " + strings.Join(parts, ", ")
	}
	return fmt.Sprintf("%s ON CONFLICT (%s) DO %s", r.insertSQL(), r.names(r.key), set)
}

// moveSQL gives a row another key: the old row goes, the new one takes over the
// values that were not sent. Parameters: the old key, then the sent columns.
func (r *relation) moveSQL(sent []int) string {
	var kept []string
	for _, c := range r.all {
		if !slices.Contains(sent, c) {
			kept = append(kept, r.name(c))
		}
	}
	keptList, returning := "", "ctid"
	if len(kept) > 0 {
		keptList, returning = ", "+strings.Join(kept, ", "), strings.Join(kept, ", ")
	}
	fromOld := ""
	for _, k := range kept {
		fromOld += ", old." + k
	}
	// v has one row; it is named once in each part.
	return fmt.Sprintf("WITH v AS MATERIALIZED (SELECT * FROM %s), old AS (DELETE FROM ONLY %s AS t USING v WHERE %s RETURNING t.%s) INSERT INTO %s (%s%s) OVERRIDING SYSTEM VALUE SELECT %s%s FROM v, old",
		unnest(len(r.key)+len(sent)), r.table.SQL(), r.matches(), strings.ReplaceAll(returning, ", ", ", t."), r.table.SQL(), r.names(sent), keptList, r.casts(sent, len(r.key)), fromOld)
}

// wholeRow matches one row by all its values. Types whose equality is that of
// their text are compared as such, which is fast and may use an index; all
// others as their output functions print them, which also works for types
// without equality and tells 1.0 from 1.00. The parameters are single texts, one
// for each value that is not null, from $first on.
func (r *relation) wholeRow(of row, first int) (where string, params [][]byte) {
	var parts, slow []string
	for _, c := range r.all {
		if of[c].kind == datumNull {
			parts = append(parts, fmt.Sprintf("num_nulls(%s) = 1", r.name(c))) // IS NULL is true of a composite of nulls
			continue
		}
		p := fmt.Sprintf("$%d::text", first+len(params))
		params = append(params, of[c].text)
		switch {
		case r.columns[c].TypeOID == textOID || r.columns[c].TypeOID == 1043:
			parts = append(parts, fmt.Sprintf("%s = %s", r.name(c), p))
			slow = append(slow, fmt.Sprintf(`%s COLLATE "C" = %s`, r.name(c), p)) // the column's own collation may take another text for the same
		case slices.Contains(lanableTypes, r.columns[c].TypeOID):
			parts = append(parts, fmt.Sprintf("%s = %s::%s", r.name(c), p, r.columns[c].Type))
		default:
			slow = append(slow, fmt.Sprintf("num_nulls(%s) = 0 AND concat(%s) = %s", r.name(c), r.name(c), p))
		}
	}
	parts = append(append(parts, slow...), "true")
	return fmt.Sprintf("ctid = (SELECT ctid FROM ONLY %s WHERE %s LIMIT 1)", r.table.SQL(), strings.Join(parts, " AND ")), params
}

func (r *relation) deleteWhole(old row) op {
	where, params := r.wholeRow(old, 1)
	return op{sql: fmt.Sprintf("DELETE FROM ONLY %s WHERE %s", r.table.SQL(), where), params: params, expect: 1}
}

// updateWhole makes one row out of another that is named by all its values.
func (r *relation) updateWhole(old, set row) []op {
	if r.always(r.all) {
		return append([]op{r.deleteWhole(old)}, insertOps(r, []row{set})...)
	}
	sets := make([]string, len(r.all))
	params := make([][]byte, len(r.all))
	for i, c := range r.all {
		sets[i] = fmt.Sprintf("%s = %s", r.name(c), r.columns[c].cast(fmt.Sprintf("$%d::text", i+1)))
		if set[c].kind == datumText {
			params[i] = set[c].text
		}
	}
	where, match := r.wholeRow(old, len(r.all)+1)
	return []op{{sql: fmt.Sprintf("UPDATE ONLY %s SET %s WHERE %s", r.table.SQL(), strings.Join(sets, ", "), where), params: append(params, match...), expect: 1}}
}
