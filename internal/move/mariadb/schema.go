package mariadb

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// deferFrom is the size of a table, in bytes, from which its indexes are made after
// its rows: below, one more ALTER TABLE costs more than it saves.
const deferFrom = 2 << 20

// definition is a CREATE TABLE, taken apart.
type definition struct {
	head, tail string
	// lines are the columns, the key, the checks: what the table has while it is loaded.
	lines []string
	// indexes and foreign are made after the rows.
	indexes, foreign []string
}

func (d definition) create() string {
	return d.head + "\n" + strings.Join(d.lines, ",\n") + "\n" + d.tail
}

// waiting says what of a table is made only after its rows.
type waiting struct{ indexes, foreign bool }

// definitionOf takes SHOW CREATE TABLE's answer apart: the server writes each column,
// index and constraint in a line of its own.
func definitionOf(show string, t *Table, w waiting) (definition, error) {
	var d definition
	all := strings.Split(show, "\n")
	end := slices.IndexFunc(all, func(l string) bool { return strings.HasPrefix(l, ")") })
	if end < 2 || !strings.HasSuffix(all[0], "(") {
		return d, fmt.Errorf("read the definition of table %s: the server wrote it in an unknown way", t.Name)
	}
	d.head, d.tail = all[0], strings.Join(all[end:], "\n")
	auto := autoIndex(t)
	for _, line := range all[1:end] {
		line = strings.TrimSuffix(line, ",")
		switch name, kind := lineOf(line); {
		case kind == lineForeign && w.foreign:
			d.foreign = append(d.foreign, strings.TrimSpace(line))
		case kind == lineIndex && w.indexes && name != t.KeyIndex && name != auto:
			d.indexes = append(d.indexes, strings.TrimSpace(line))
		default:
			d.lines = append(d.lines, line)
		}
	}
	return d, nil
}

// The kinds of a line.
const (
	lineOther = iota
	lineIndex
	lineForeign
)

// lineOf tells what a line of a definition is, and an index's name.
func lineOf(line string) (name string, kind int) {
	line = strings.TrimSpace(line)
	for _, prefix := range []string{"KEY ", "UNIQUE KEY ", "FULLTEXT KEY ", "SPATIAL KEY "} {
		if rest, ok := strings.CutPrefix(line, prefix); ok && strings.HasPrefix(rest, "`") {
			name, _ = unquoted(rest)
			return name, lineIndex
		}
	}
	if rest, ok := strings.CutPrefix(line, "CONSTRAINT "); ok {
		if name, rest, ok := unquotedRest(rest); ok && strings.HasPrefix(rest, " FOREIGN KEY ") {
			return name, lineForeign
		}
	}
	return "", lineOther
}

// unquoted reads the quoted identifier that a text begins with.
func unquoted(text string) (string, bool) {
	name, _, ok := unquotedRest(text)
	return name, ok
}

func unquotedRest(text string) (name, rest string, ok bool) {
	if !strings.HasPrefix(text, "`") {
		return "", text, false
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		if text[i] != '`' {
			b.WriteByte(text[i])
			continue
		}
		if i+1 < len(text) && text[i+1] == '`' {
			b.WriteByte('`')
			i++
			continue
		}
		return b.String(), text[i+1:], true
	}
	return "", text, false
}

// autoIndex names the index that an AUTO_INCREMENT column needs, beside the key.
func autoIndex(t *Table) string {
	i := slices.IndexFunc(t.Columns, func(c *Column) bool { return c.AutoIncrement })
	if i < 0 || len(t.Key) > 0 && t.Key[0] == t.Columns[i].Name {
		return ""
	}
	best := ""
	for _, x := range t.Indexes {
		for k, p := range x.Parts {
			if p.Column == t.Columns[i].Name && (k == 0 || best == "") {
				if best = x.Name; k == 0 {
					return best
				}
			}
		}
	}
	return best
}

// show runs a SHOW CREATE and returns the named column of its answer.
func show(ctx context.Context, q querier, query string, columns ...string) ([]string, error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	if !rows.Next() {
		return nil, cmpErr(rows.Err(), sql.ErrNoRows)
	}
	values := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	found := make([]string, len(columns))
	for i, c := range columns {
		k := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, c) })
		if k < 0 {
			return nil, fmt.Errorf("the server's answer has no %q", c)
		}
		if !values[k].Valid {
			return nil, errHidden
		}
		found[i] = values[k].String
	}
	return found, rows.Err()
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// errHidden says that the server has a definition but does not show it to us.
var errHidden = &move.Refused{Reason: "the server does not show its definition", Fix: "grant our account SELECT on the database mysql, or SHOW CREATE ROUTINE, and the rights on the object"}

// readDefinition reads a table's definition at the source.
func readDefinition(ctx context.Context, q querier, t *Table, w waiting) (definition, error) {
	text, err := show(ctx, q, "SHOW CREATE TABLE "+t.SQL(), "Create Table")
	if err != nil {
		return definition{}, fmt.Errorf("read the definition of table %s: %w", t.Name, err)
	}
	return definitionOf(text[0], t, w)
}

// definitions reads some tables' definitions at the source, in their order, over a few sessions.
func definitions(ctx context.Context, conns []*sql.Conn, tables []*Table, waits func(*Table) waiting) ([]definition, error) {
	all := make([]definition, len(tables))
	g, ctx := errgroup.WithContext(ctx)
	for i, conn := range conns {
		g.Go(func() (err error) {
			for k := i; k < len(tables) && err == nil; k += len(conns) {
				all[k], err = readDefinition(ctx, conn, tables[k], waits(tables[k]))
			}
			return err
		})
	}
	return all, g.Wait()
}

// makeSchema makes the databases, sequences and tables on the target, without what waits for the rows.
func (l *loader) makeSchema(ctx context.Context) error {
	l.board.Begin(move.PhaseSchema, len(l.catalog.Tables)+len(l.catalog.Sequences))
	conn, err := l.m.writer(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	for _, s := range l.catalog.Schemas {
		sql := fmt.Sprintf("CREATE DATABASE IF NOT EXISTS %s CHARACTER SET %s COLLATE %s", quote(s.Name), s.Charset, s.Collation)
		if s.Comment != "" {
			sql += " COMMENT " + quoteText(s.Comment)
		}
		if _, err := conn.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("create database %s: %w", s.Name, err)
		}
	}
	for _, n := range l.catalog.Sequences {
		if err := makeSequence(ctx, l.snapshots.conns[0], conn, n); err != nil {
			return err
		}
		l.board.StepDone()
	}
	return l.makeTables(ctx, l.catalog.Tables, func(t *Table) waiting { return waiting{l.deferred(t), l.deferred(t)} })
}

// makeTables makes tables that the target does not have, without what waits for the rows.
func (l *loader) makeTables(ctx context.Context, tables []*Table, waits func(*Table) waiting) error {
	defs, err := definitions(ctx, l.snapshots.conns, tables, waits)
	if err != nil {
		return err
	}
	return l.eachTable(ctx, len(tables), ddlSessions*l.m.limits.Copies, func(ctx context.Context, conn *sql.Conn, i int) error {
		if err := makeTable(ctx, conn, tables[i].Name, defs[i]); err != nil {
			return fmt.Errorf("create table %s: %w", tables[i].Name, err)
		}
		l.board.StepDone()
		return nil
	})
}

// makeTable makes a table. One that is there all the same was made a moment ago, by the
// last statement of a process that is dead. To drop it unasked would cost the server
// half as many syncs again as to create it.
func makeTable(ctx context.Context, conn *sql.Conn, n Name, d definition) error {
	if _, err := conn.ExecContext(ctx, "USE "+quote(n.Schema)); err != nil {
		return err
	}
	_, err := conn.ExecContext(ctx, d.create())
	if !isNumber(err, errTableExists) {
		return err
	}
	if _, err := conn.ExecContext(ctx, "DROP TABLE "+quote(n.Name)); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, d.create())
	return err
}

const errTableExists = 1050

// makeSequence makes a sequence in the state that it has at the source.
func makeSequence(ctx context.Context, from querier, to *sql.Conn, n Name) error {
	text, err := show(ctx, from, "SHOW CREATE SEQUENCE "+n.SQL(), "Create Table")
	if err != nil {
		return fmt.Errorf("read the definition of sequence %s: %w", n, err)
	}
	for _, sql := range []string{"USE " + quote(n.Schema), "DROP SEQUENCE IF EXISTS " + quote(n.Name), text[0]} {
		if _, err := to.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("create sequence %s: %w", n, err)
		}
	}
	return carrySequence(ctx, from, to, n)
}

// carrySequence gives a sequence the state that it has at the source.
func carrySequence(ctx context.Context, from querier, to *sql.Conn, n Name) error {
	state, err := show(ctx, from, "SELECT CONCAT_WS(',', next_not_cached_value, minimum_value, maximum_value, start_value, increment, cache_size, cycle_option, cycle_count) AS state FROM "+n.SQL(), "state")
	if err != nil {
		return fmt.Errorf("read the state of sequence %s: %w", n, err)
	}
	if _, err := to.ExecContext(ctx, "INSERT INTO "+n.SQL()+" VALUES ("+state[0]+")"); err != nil {
		return fmt.Errorf("carry the state of sequence %s over: %w", n, err)
	}
	return nil
}

// ddlSessions is how many sessions make tables for each one that copies rows: such a
// statement waits for the server's disk most of its time.
const ddlSessions = 2

// eachTable does something for each of n tables, over a few sessions of the target.
func (l *loader) eachTable(ctx context.Context, n, sessions int, do func(context.Context, *sql.Conn, int) error) error {
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(sessions, n) {
		g.Go(func() error {
			conn, err := l.m.writer(ctx)
			if err != nil {
				return err
			}
			defer hangUp(conn)
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(ctx, conn, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// writer opens a session to the target that writes what needs no check: it was
// checked at the source. What it writes stays out of the binary log where it may.
func (m *Mover) writer(ctx context.Context) (*sql.Conn, error) {
	conn, err := m.session(ctx, target)
	if err != nil {
		return nil, err
	}
	if _, err := unlogged(ctx, conn); err != nil {
		hangUp(conn)
		return nil, err
	}
	for _, set := range []string{"foreign_key_checks = 0", "check_constraint_checks = 0", "max_error_count = 65535", "innodb_lock_wait_timeout = 3600", "wait_timeout = 2147483"} {
		if _, err := conn.ExecContext(ctx, "SET SESSION "+set); err != nil {
			hangUp(conn)
			return nil, fmt.Errorf("prepare a session of the target: %w", err)
		}
	}
	// From 10.11 on a session may write a table's history; before, tables that keep one are refused.
	if _, err := conn.ExecContext(ctx, "SET SESSION system_versioning_insert_history = 1"); err != nil && !isNumber(err, errUnknownVariable) {
		hangUp(conn)
		return nil, fmt.Errorf("prepare a session of the target: %w", err)
	}
	return conn, nil
}

// makeIndexes makes the indexes and foreign keys that waited for the rows. What is
// there already is left as it is.
func (l *loader) makeIndexes(ctx context.Context) error {
	return l.makeIndexesOf(ctx, func(*Table) bool { return true }, func(ForeignKey) bool { return true })
}

func (l *loader) makeIndexesOf(ctx context.Context, chosen func(*Table) bool, foreign func(ForeignKey) bool) error {
	dst, err := l.m.session(ctx, target)
	if err != nil {
		return err
	}
	there, err := l.m.catalog(ctx, dst)
	hangUp(dst)
	if err != nil {
		return err
	}
	var tables []*Table
	for _, t := range l.catalog.Tables {
		if !chosen(t) {
			continue
		}
		has := there.Table(t.Name)
		if has == nil {
			return &move.Refused{Reason: fmt.Sprintf("table %s is gone from the target", t.Name), Fix: "run `dhow finish --abandon` and begin the move again"}
		}
		if lacks(t, has, foreign) {
			tables = append(tables, t)
		}
	}
	slices.SortStableFunc(tables, func(a, b *Table) int { return cmp.Compare(b.Bytes, a.Bytes) })
	l.board.Begin(move.PhaseIndex, len(tables))
	if len(tables) == 0 {
		return nil
	}
	src, err := l.m.session(ctx, source)
	if err != nil {
		return err
	}
	defer hangUp(src)
	defs, err := definitions(ctx, []*sql.Conn{src}, tables, func(*Table) waiting { return waiting{true, true} })
	if err != nil {
		return err
	}
	return l.eachTable(ctx, len(tables), l.m.limits.Copies, func(ctx context.Context, conn *sql.Conn, i int) error {
		t := tables[i]
		for _, sql := range append([]string{"USE " + quote(t.Schema)}, missing(t, there.Table(t.Name), defs[i], foreign)...) {
			if _, err := conn.ExecContext(ctx, sql); err != nil {
				return fmt.Errorf("make the indexes and foreign keys of table %s: %w", t.Name, withoutValues(err))
			}
		}
		l.board.StepDone()
		return nil
	})
}

// lacks says whether a table of the target lacks an index, or a foreign key that is wanted.
func lacks(t, has *Table, foreign func(ForeignKey) bool) bool {
	return slices.ContainsFunc(t.Indexes, func(x Index) bool {
		return x.Name != has.KeyIndex && !slices.ContainsFunc(has.Indexes, func(h Index) bool { return h.Name == x.Name })
	}) || slices.ContainsFunc(t.ForeignKeys, func(f ForeignKey) bool {
		return foreign(f) && !slices.ContainsFunc(has.ForeignKeys, func(h ForeignKey) bool { return h.Name == f.Name })
	})
}

// missing is the ALTER TABLE statements that complete a table: one for all, but for
// the second and later full-text indexes, of which the server makes one at a time.
func missing(t, has *Table, d definition, foreign func(ForeignKey) bool) []string {
	names := map[string]bool{has.KeyIndex: true}
	for _, x := range has.Indexes {
		names[x.Name] = true
	}
	for _, f := range has.ForeignKeys {
		names["foreign "+f.Name] = true
	}
	var first, alone []string
	fulltext := false
	for _, line := range d.indexes {
		name, _ := lineOf(line)
		switch text := strings.HasPrefix(line, "FULLTEXT"); {
		case names[name]:
		case text && fulltext:
			alone = append(alone, "ALTER TABLE "+quote(t.Name.Name)+" ADD "+line)
		default:
			fulltext = fulltext || text
			first = append(first, "ADD "+line)
		}
	}
	for _, line := range d.foreign {
		name, _ := lineOf(line)
		wanted := slices.ContainsFunc(t.ForeignKeys, func(f ForeignKey) bool { return f.Name == name && foreign(f) })
		if wanted && !names["foreign "+name] {
			first = append(first, "ADD "+line)
		}
	}
	if len(first) == 0 {
		return alone
	}
	return append([]string{"ALTER TABLE " + quote(t.Name.Name) + " " + strings.Join(first, ", ")}, alone...)
}
