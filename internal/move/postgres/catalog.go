package postgres

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Catalog is what a database holds that moves row by row.
type Catalog struct {
	// Tables are the ordinary tables and partitions, sorted by name; they hold the rows.
	Tables []*Table
	// Roots are the partitioned tables; they hold none, but statements name them.
	Roots []*Table
	// Sequences are all sequences, owned or not, sorted by name.
	Sequences []Name
	// MaterializedViews are sorted by name.
	MaterializedViews []Name
}

// Name is a qualified name.
type Name struct{ Schema, Name string }

// SQL is the name as a statement needs it.
func (n Name) SQL() string { return pgx.Identifier{n.Schema, n.Name}.Sanitize() }

// String is the name as people write it.
func (n Name) String() string { return n.Schema + "." + n.Name }

// Identity is a table's replica identity (pg_class.relreplident).
type Identity string

// The replica identities.
const (
	IdentityDefault Identity = "d"
	IdentityIndex   Identity = "i"
	IdentityFull    Identity = "f"
	IdentityNothing Identity = "n"
)

// Table is a table that holds rows, or a partitioned one.
type Table struct {
	Name
	OID uint32
	// Filenode changes whenever the table is rewritten, and its ctids with it.
	Filenode uint32
	Columns  []Column
	// Key are the columns that name a row: of the replica identity's index, else
	// of the primary key, else of a usable unique index; empty when there is none.
	// Usable: not partial, not deferrable, all columns NOT NULL, no expression.
	Key []string
	// KeyIndex is the name of the index that Key is of.
	KeyIndex string
	Identity Identity
	// OtherUnique: a unique or exclusion constraint besides Key's exists, so
	// rows of the table depend upon each other's order.
	OtherUnique bool
	// Pages and Rows are the planner's estimates (relpages by real size); Bytes is the size with TOAST, without indexes.
	Pages    int64
	Rows     int64
	Bytes    int64
	Unlogged bool
	// RowSecurity: the table has row security that may hide rows from us.
	RowSecurity bool
}

// Column is a column that exists (dropped ones are not listed), in attnum order.
type Column struct {
	Name string
	// Type is format_type's name, for casts.
	Type    string
	TypeOID uint32
	NotNull bool
	// Generated columns are computed by the target; they are never sent.
	Generated bool
	// Binary: the type's binary form means the same on every server. It does not
	// where it holds OIDs of what each server numbers by itself, and no server
	// takes an empty vector or query in the form in which it sends it.
	Binary bool
	// Always: GENERATED ALWAYS AS IDENTITY, which no UPDATE may set.
	Always bool
	// ByInput: the type's cast from text is not its input function, which reads what the output function printed.
	ByInput bool
	// Equal is the operator of the type's own equality, qualified where it is an extension's.
	Equal string
	// Filled: a row that is inserted without it gets a value.
	Filled bool
}

// cast makes a value of the column's type of an expression of type text.
func (c *Column) cast(text string) string {
	if c.ByInput { // the cast takes a name only, and not "-" or a number
		text = "pg_catalog.regclassin(pg_catalog.textout(" + text + "))"
	}
	return text + "::" + c.Type
}

// Sent are the columns that are copied and streamed: all but the generated ones.
func (t *Table) Sent() []Column {
	sent := make([]Column, 0, len(t.Columns))
	for _, c := range t.Columns {
		if !c.Generated {
			sent = append(sent, c)
		}
	}
	return sent
}

// column finds a column by name; nil when there is none.
func (t *Table) column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// table finds a table that holds rows; nil when there is none.
func (c *Catalog) table(n Name) *Table {
	i := sort.Search(len(c.Tables), func(i int) bool { return !less(c.Tables[i].Name, n) })
	if i < len(c.Tables) && c.Tables[i].Name == n {
		return c.Tables[i]
	}
	return nil
}

// nonNil makes an empty array of nothing: a NULL parameter would compare to NULL.
func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func less(a, b Name) bool {
	if a.Schema != b.Schema {
		return a.Schema < b.Schema
	}
	return a.Name < b.Name
}

// scope selects the relations of a move in a query over pg_class c and
// pg_namespace n. Its parameters are $1, the schemas (empty for all), and $2,
// the tables that stay behind. Extensions' own tables and temporary ones never move.
const scope = `n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'dhow')
	AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[]))
	AND NOT n.nspname || '.' || c.relname = ANY ($2::text[])
	AND c.relpersistence <> 't'
	AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')`

// catalog reads what moves, from either side. The sizes of tables take their
// locks, so it may meet a deadlock with an application that truncates: outside a
// transaction it reads again, inside one the caller's session begins anew.
func (m *Mover) catalog(ctx context.Context, conn *pgx.Conn) (*Catalog, error) {
	for try := 1; ; try++ {
		c, err := loadCatalog(ctx, conn, m.cfg.Schemas, m.cfg.Exclude)
		if err == nil {
			return c, nil
		}
		if !deadlocked(err) || conn.PgConn().TxStatus() != idle || try == deadlockTries {
			return nil, fmt.Errorf("read the catalog of database %s: %w", conn.Config().Database, err)
		}
	}
}

// idle is the status of a session that is in no transaction.
const idle = 'I'

func loadCatalog(ctx context.Context, conn *pgx.Conn, schemas, exclude []string) (*Catalog, error) {
	schemas, exclude = nonNil(schemas), nonNil(exclude)
	c := &Catalog{}
	byOID := map[uint32]*Table{}
	rows, err := conn.Query(ctx, `
		SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relfilenode, c.relreplident::text, c.relpersistence = 'u', c.relrowsecurity,
			CASE c.relkind WHEN 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::int ELSE 0 END,
			greatest(c.reltuples, 0)::bigint, CASE c.relkind WHEN 'r' THEN pg_table_size(c.oid) ELSE 0 END
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND `+scope, schemas, exclude)
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	var kind string
	t := Table{}
	if _, err = pgx.ForEachRow(rows, []any{&t.OID, &t.Schema, &t.Name.Name, &kind, &t.Filenode, &t.Identity, &t.Unlogged, &t.RowSecurity, &t.Pages, &t.Rows, &t.Bytes}, func() error {
		table := t
		byOID[t.OID] = &table
		if kind == "p" {
			c.Roots = append(c.Roots, &table)
		} else {
			c.Tables = append(c.Tables, &table)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	if err := loadColumns(ctx, conn, byOID); err != nil {
		return nil, err
	}
	if err := loadKeys(ctx, conn, byOID); err != nil {
		return nil, err
	}
	for _, list := range [][]*Table{c.Tables, c.Roots} {
		sort.Slice(list, func(i, j int) bool { return less(list[i].Name, list[j].Name) })
	}
	for _, of := range []struct {
		kind string
		into *[]Name
	}{{"S", &c.Sequences}, {"m", &c.MaterializedViews}} {
		rows, err := conn.Query(ctx, `SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind = $3 AND `+scope+` ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`, schemas, exclude, of.kind)
		if err != nil {
			return nil, fmt.Errorf("list the sequences and views: %w", err)
		}
		if *of.into, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Name]); err != nil {
			return nil, fmt.Errorf("list the sequences and views: %w", err)
		}
	}
	return c, nil
}

// relations are what moves by its names alone: tables without columns and keys, and
// sequences. It is what a fence needs to know, and one statement tells it.
func (m *Mover) relations(ctx context.Context, conn *pgx.Conn) (*Catalog, error) {
	c := &Catalog{}
	rows, err := conn.Query(ctx, `SELECT c.oid, n.nspname, c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'S') AND `+scope+` ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`, nonNil(m.cfg.Schemas), nonNil(m.cfg.Exclude))
	if err == nil {
		var t Table
		var kind string
		_, err = pgx.ForEachRow(rows, []any{&t.OID, &t.Schema, &t.Name.Name, &kind}, func() error {
			switch kind {
			case "S":
				c.Sequences = append(c.Sequences, t.Name)
			case "p":
				c.Roots = append(c.Roots, &Table{OID: t.OID, Name: t.Name})
			default:
				c.Tables = append(c.Tables, &Table{OID: t.OID, Name: t.Name})
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list the tables and sequences of database %s: %w", conn.Config().Database, err)
	}
	return c, nil
}

func oids(tables map[uint32]*Table) []uint32 {
	list := make([]uint32, 0, len(tables))
	for oid := range tables {
		list = append(list, oid)
	}
	return list
}

func loadColumns(ctx context.Context, conn *pgx.Conn, tables map[uint32]*Table) error {
	rows, err := conn.Query(ctx, `
		SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid, a.attnotnull, a.attgenerated <> '', a.attidentity = 'a', a.atthasdef OR a.attidentity <> '',
			'regclass'::regtype IN (ty.oid, ty.typbasetype),
			CASE WHEN ty.oid < 16384 OR ty.typtype IN ('e', 'c', 'r') THEN '=' ELSE coalesce((SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname) FROM pg_opclass oc
				JOIN pg_am am ON am.oid = oc.opcmethod AND am.amname = 'btree' JOIN pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3
					AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
				JOIN pg_operator o ON o.oid = ao.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
				WHERE oc.opcdefault AND oc.opcintype IN (ty.oid, ty.typbasetype) AND oc.opcintype >= 16384 LIMIT 1), '=') END,
			ty.typsend <> 0 AND ty.typreceive <> 0 AND ty.typname NOT LIKE 'reg%' AND ty.typname NOT LIKE '\_reg%' AND ty.typname !~ '^_?(int2vector|oidvector|tsquery)$' AND (ty.oid < 16384 OR ty.typtype = 'e' OR ty.typtype = 'b' AND ty.typelem = 0)
		FROM pg_attribute a JOIN pg_type ty ON ty.oid = a.atttypid WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum`, oids(tables))
	if err != nil {
		return fmt.Errorf("list the columns: %w", err)
	}
	var table uint32
	var col Column
	_, err = pgx.ForEachRow(rows, []any{&table, &col.Name, &col.Type, &col.TypeOID, &col.NotNull, &col.Generated, &col.Always, &col.Filled, &col.ByInput, &col.Equal, &col.Binary}, func() error {
		tables[table].Columns = append(tables[table].Columns, col)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the columns: %w", err)
	}
	return nil
}

// loadKeys finds each table's key. Best is the replica identity's index, then
// the primary key, then the narrowest usable unique index.
func loadKeys(ctx context.Context, conn *pgx.Conn, tables map[uint32]*Table) error {
	rows, err := conn.Query(ctx, `
		SELECT i.indrelid, ic.relname, i.indisreplident, i.indisprimary, i.indisunique AND i.indisvalid AND i.indimmediate
				AND i.indpred IS NULL AND i.indexprs IS NULL
				AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (num, pos) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
					WHERE k.pos <= i.indnkeyatts AND NOT a.attnotnull) AS usable,
			ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (num, pos) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
				WHERE k.pos <= i.indnkeyatts ORDER BY k.pos)
		FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
		WHERE i.indrelid = ANY ($1) AND (i.indisunique OR i.indisexclusion)
		ORDER BY i.indrelid, i.indisreplident DESC, i.indisprimary DESC, i.indnkeyatts, ic.relname COLLATE "C"`, oids(tables))
	if err != nil {
		return fmt.Errorf("list the unique indexes: %w", err)
	}
	var table uint32
	var index string
	var isIdentity, primary, usable bool
	var columns []string
	_, err = pgx.ForEachRow(rows, []any{&table, &index, &isIdentity, &primary, &usable, &columns}, func() error {
		t := tables[table]
		if usable && t.Key == nil {
			t.Key, t.KeyIndex = append([]string(nil), columns...), index
		} else {
			t.OtherUnique = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the unique indexes: %w", err)
	}
	return nil
}

// identifiers joins names as quoted identifiers with commas.
func identifiers(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = pgx.Identifier{n}.Sanitize()
	}
	return strings.Join(quoted, ", ")
}

// columnNames joins columns as quoted identifiers with commas.
func columnNames(columns []Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return identifiers(names)
}

// quote makes a literal of a text.
func quote(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
