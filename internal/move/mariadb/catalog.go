package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// querier is a session, or a transaction of one.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// ourPrefix begins the names of all that we put into the application's
// databases, triggers for example: it does not move.
const ourPrefix = "dhow_"

// Name is the qualified name of an object.
type Name struct{ Schema, Name string }

// String is the name as people and estates write it.
func (n Name) String() string { return n.Schema + "." + n.Name }

// SQL is the name as a statement needs it.
func (n Name) SQL() string { return quote(n.Schema) + "." + quote(n.Name) }

func compareNames(a, b Name) int {
	if c := strings.Compare(a.Schema, b.Schema); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// quoteText quotes a text under the sql_mode of our sessions.
func quoteText(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`, "\x00", `\0`).Replace(text) + "'"
}

// quoteNames joins quoted identifiers.
func quoteNames(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, ", ")
}

// Catalog is what a server holds of the databases that move. Each list is sorted by name.
type Catalog struct {
	Schemas   []Schema
	Tables    []*Table
	Views     []Name
	Sequences []Name
	Triggers  []Trigger
	Routines  []Routine
	Events    []Event
}

// Schema is a database.
type Schema struct{ Name, Charset, Collation, Comment string }

// Table is a base table.
type Table struct {
	Name
	Engine, RowFormat, Collation string
	// Options are those of CREATE TABLE, as the server lists them; "partitioned" is one.
	Options string
	// AutoIncrement is the next value; 0 when the table has no such column.
	AutoIncrement uint64
	// Versioned: the table keeps its history (WITH SYSTEM VERSIONING). RowStart and
	// RowEnd are its two columns, also where they are implicit and not in Columns.
	Versioned        bool
	RowStart, RowEnd string
	// Rows and Bytes are the server's estimates.
	Rows, Bytes int64
	// Columns are in the table's order, the invisible ones included.
	Columns []*Column
	// Key are the columns that tell rows apart: of the primary key, or without one of
	// the first unique index of columns that are never null. Empty: the table has no key.
	// KeyIndex is that index's name, KeyPrefixed says that it holds only beginnings of values.
	Key         []string
	KeyIndex    string
	KeyPrefixed bool
	// Indexes are all the others.
	Indexes     []Index
	ForeignKeys []ForeignKey
}

// Column is one of a table's columns.
type Column struct {
	Name string
	// Type is written out, for example int(10) unsigned; DataType is its first word.
	Type, DataType string
	// Charset and Collation are empty for what is no text.
	Charset, Collation string
	Nullable           bool
	// Generated is empty, "VIRTUAL", "STORED", "ROW START" or "ROW END".
	Generated     string
	Expression    string // of a generated column
	Invisible     bool
	AutoIncrement bool
	Compressed    bool
}

// Index is an index of a table.
type Index struct {
	Name   string
	Unique bool
	Kind   string // BTREE, HASH, FULLTEXT, SPATIAL, RTREE
	Parts  []IndexPart
}

// IndexPart is a column of an index; Prefix is the length of the beginning that it holds, 0 for the whole.
type IndexPart struct {
	Column   string
	Prefix   int
	Nullable bool
}

// ForeignKey is a reference to another table. OnDelete and OnUpdate are as in CREATE TABLE.
type ForeignKey struct {
	Name               string
	Parent             Name
	OnDelete, OnUpdate string
}

// Trigger is a trigger of the application; ours are left out.
type Trigger struct {
	Name
	Table         string
	Timing, Event string
	Definer       string
}

// Routine is a procedure, function or package.
type Routine struct {
	Name
	Kind    string // PROCEDURE, FUNCTION, PACKAGE, PACKAGE BODY
	Definer string
}

// Event is an event of the scheduler. Status is ENABLED, DISABLED or SLAVESIDE_DISABLED.
type Event struct {
	Name
	Status, Definer string
}

// Table finds a table; nil when there is none of that name.
func (c *Catalog) Table(n Name) *Table {
	i, ok := slices.BinarySearchFunc(c.Tables, n, func(t *Table, n Name) int { return compareNames(t.Name, n) })
	if !ok {
		return nil
	}
	return c.Tables[i]
}

// Column finds a column; nil when there is none of that name.
func (t *Table) Column(name string) *Column {
	for _, c := range t.Columns {
		if strings.EqualFold(c.Name, name) {
			return c
		}
	}
	return nil
}

// Sent are the columns whose values are copied: the server makes those of the others.
func (t *Table) Sent() []*Column {
	var sent []*Column
	for _, c := range t.Columns {
		if c.Generated != "VIRTUAL" && c.Generated != "STORED" {
			sent = append(sent, c)
		}
	}
	if t.Versioned && t.Column(t.RowStart) == nil {
		for _, name := range []string{t.RowStart, t.RowEnd} {
			sent = append(sent, &Column{Name: name, Type: "timestamp(6)", DataType: "timestamp", Invisible: true})
		}
	}
	return sent
}

// Transactional says whether a snapshot shows the table as it was.
func (t *Table) Transactional() bool {
	return strings.EqualFold(t.Engine, "InnoDB") || strings.EqualFold(t.Engine, "ROCKSDB")
}

// catalog reads what a server holds of the databases that move.
func (m *Mover) catalog(ctx context.Context, q querier) (*Catalog, error) {
	c := &Catalog{}
	if err := m.readSchemas(ctx, q, c); err != nil || len(c.Schemas) == 0 {
		return c, err
	}
	in := make([]string, len(c.Schemas))
	for i, s := range c.Schemas {
		in[i] = quoteText(s.Name)
	}
	r := &catalogReader{c: c, in: " IN (" + strings.Join(in, ", ") + ")", q: q, excluded: m.cfg.Exclude, tables: map[Name]*Table{}}
	for _, read := range []func(context.Context) error{r.readTables, r.readColumns, r.readIndexes, r.readForeignKeys, r.readTriggers, r.readRoutines, r.readEvents} {
		if err := read(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (m *Mover) readSchemas(ctx context.Context, q querier, c *Catalog) error {
	err := scan(ctx, q, "SELECT schema_name, default_character_set_name, default_collation_name, schema_comment FROM information_schema.schemata ORDER BY BINARY schema_name", func(row func(...any) error) error {
		var s Schema
		if err := row(&s.Name, &s.Charset, &s.Collation, &s.Comment); err != nil {
			return err
		}
		if m.moves(s.Name) {
			c.Schemas = append(c.Schemas, s)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the server's databases: %w", err)
	}
	return nil
}

// scan runs a query and hands each row's Scan to a function.
func scan(ctx context.Context, q querier, query string, each func(row func(...any) error) error, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

type catalogReader struct {
	c        *Catalog
	q        querier
	in       string // the databases, as a condition
	excluded []string
	tables   map[Name]*Table
}

func (r *catalogReader) readTables(ctx context.Context) error {
	err := scan(ctx, r.q, `SELECT table_schema, table_name, table_type, COALESCE(engine, ''), COALESCE(row_format, ''), COALESCE(table_collation, ''), COALESCE(create_options, ''),
		COALESCE(auto_increment, 0), COALESCE(table_rows, 0), COALESCE(data_length, 0)
		FROM information_schema.tables WHERE table_schema`+r.in+` ORDER BY BINARY table_schema, BINARY table_name`, func(row func(...any) error) error {
		t := &Table{}
		var kind string
		if err := row(&t.Schema, &t.Name.Name, &kind, &t.Engine, &t.RowFormat, &t.Collation, &t.Options, &t.AutoIncrement, &t.Rows, &t.Bytes); err != nil {
			return err
		}
		switch {
		case slices.Contains(r.excluded, t.Name.String()):
		case kind == "VIEW":
			r.c.Views = append(r.c.Views, t.Name)
		case kind == "SEQUENCE":
			r.c.Sequences = append(r.c.Sequences, t.Name)
		case kind == "BASE TABLE", kind == "SYSTEM VERSIONED":
			if t.Versioned = kind == "SYSTEM VERSIONED"; t.Versioned {
				t.RowStart, t.RowEnd = "row_start", "row_end"
			}
			r.c.Tables = append(r.c.Tables, t)
			r.tables[t.Name] = t
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the tables: %w", err)
	}
	return nil
}

func (r *catalogReader) readColumns(ctx context.Context) error {
	err := scan(ctx, r.q, `SELECT table_schema, table_name, column_name, column_type, data_type, COALESCE(character_set_name, ''), COALESCE(collation_name, ''), is_nullable = 'YES', extra,
		COALESCE(generation_expression, '') FROM information_schema.columns WHERE table_schema`+r.in+` ORDER BY table_schema, table_name, ordinal_position`, func(row func(...any) error) error {
		c := &Column{}
		var n Name
		var extra string
		if err := row(&n.Schema, &n.Name, &c.Name, &c.Type, &c.DataType, &c.Charset, &c.Collation, &c.Nullable, &extra, &c.Expression); err != nil {
			return err
		}
		t := r.tables[n]
		if t == nil { // a view's or a sequence's
			return nil
		}
		extra = strings.ToUpper(extra)
		c.Invisible, c.AutoIncrement = strings.Contains(extra, "INVISIBLE"), strings.Contains(extra, "AUTO_INCREMENT")
		c.Compressed = strings.Contains(c.Type, "COMPRESSED")
		switch {
		case c.Expression == "ROW START":
			c.Generated, t.RowStart = c.Expression, c.Name
		case c.Expression == "ROW END":
			c.Generated, t.RowEnd = c.Expression, c.Name
		case strings.Contains(extra, "VIRTUAL GENERATED"):
			c.Generated = "VIRTUAL"
		case strings.Contains(extra, "STORED GENERATED"), strings.Contains(extra, "PERSISTENT"):
			c.Generated = "STORED"
		}
		t.Columns = append(t.Columns, c)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the columns: %w", err)
	}
	return nil
}

func (r *catalogReader) readIndexes(ctx context.Context) error {
	all := map[*Table][]*Index{}
	err := scan(ctx, r.q, `SELECT table_schema, table_name, index_name, non_unique = 0, index_type, column_name, COALESCE(sub_part, 0), COALESCE(nullable, '') = 'YES'
		FROM information_schema.statistics WHERE table_schema`+r.in+` ORDER BY table_schema, table_name, index_name, seq_in_index`, func(row func(...any) error) error {
		var n Name
		var x Index
		var p IndexPart
		if err := row(&n.Schema, &n.Name, &x.Name, &x.Unique, &x.Kind, &p.Column, &p.Prefix, &p.Nullable); err != nil {
			return err
		}
		t := r.tables[n]
		if t == nil {
			return nil
		}
		list := all[t]
		if len(list) == 0 || list[len(list)-1].Name != x.Name {
			list = append(list, &x)
		}
		last := list[len(list)-1]
		last.Parts = append(last.Parts, p)
		all[t] = list
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the indexes: %w", err)
	}
	for t, list := range all {
		key := slices.IndexFunc(list, func(x *Index) bool { return x.Name == "PRIMARY" })
		if key < 0 {
			key = slices.IndexFunc(list, func(x *Index) bool {
				return x.Unique && x.Kind == "BTREE" && !slices.ContainsFunc(x.Parts, func(p IndexPart) bool { return p.Nullable || p.Prefix > 0 || t.virtual(p.Column) })
			})
		}
		for i, x := range list {
			if i != key {
				t.Indexes = append(t.Indexes, *x)
				continue
			}
			t.KeyIndex = x.Name
			for _, p := range x.Parts {
				t.Key = append(t.Key, p.Column)
				t.KeyPrefixed = t.KeyPrefixed || p.Prefix > 0
			}
		}
	}
	return nil
}

func (t *Table) virtual(column string) bool {
	c := t.Column(column)
	return c == nil || c.Generated == "VIRTUAL"
}

func (r *catalogReader) readForeignKeys(ctx context.Context) error {
	err := scan(ctx, r.q, `SELECT constraint_schema, table_name, constraint_name, COALESCE(unique_constraint_schema, ''), referenced_table_name, delete_rule, update_rule
		FROM information_schema.referential_constraints WHERE constraint_schema`+r.in+` ORDER BY constraint_schema, table_name, constraint_name`, func(row func(...any) error) error {
		var n Name
		var f ForeignKey
		if err := row(&n.Schema, &n.Name, &f.Name, &f.Parent.Schema, &f.Parent.Name, &f.OnDelete, &f.OnUpdate); err != nil {
			return err
		}
		if t := r.tables[n]; t != nil {
			t.ForeignKeys = append(t.ForeignKeys, f)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the foreign keys: %w", err)
	}
	return nil
}

func (r *catalogReader) readTriggers(ctx context.Context) error {
	err := scan(ctx, r.q, `SELECT trigger_schema, trigger_name, event_object_table, action_timing, event_manipulation, definer FROM information_schema.triggers
		WHERE trigger_schema`+r.in+` ORDER BY trigger_schema, event_object_table, event_manipulation, action_timing, action_order`, func(row func(...any) error) error {
		var t Trigger
		if err := row(&t.Schema, &t.Name.Name, &t.Table, &t.Timing, &t.Event, &t.Definer); err != nil {
			return err
		}
		if !strings.HasPrefix(t.Name.Name, ourPrefix) && r.tables[Name{t.Schema, t.Table}] != nil {
			r.c.Triggers = append(r.c.Triggers, t)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the triggers: %w", err)
	}
	return nil
}

func (r *catalogReader) readRoutines(ctx context.Context) error {
	err := scan(ctx, r.q, `SELECT routine_schema, routine_name, routine_type, definer FROM information_schema.routines
		WHERE routine_schema`+r.in+` ORDER BY routine_schema, routine_name, routine_type`, func(row func(...any) error) error {
		var p Routine
		if err := row(&p.Schema, &p.Name.Name, &p.Kind, &p.Definer); err != nil {
			return err
		}
		r.c.Routines = append(r.c.Routines, p)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the routines: %w", err)
	}
	return nil
}

func (r *catalogReader) readEvents(ctx context.Context) error {
	err := scan(ctx, r.q, `SELECT event_schema, event_name, status, definer FROM information_schema.events
		WHERE event_schema`+r.in+` ORDER BY event_schema, event_name`, func(row func(...any) error) error {
		var e Event
		if err := row(&e.Schema, &e.Name.Name, &e.Status, &e.Definer); err != nil {
			return err
		}
		r.c.Events = append(r.c.Events, e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the events: %w", err)
	}
	return nil
}
