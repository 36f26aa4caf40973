package mariadb

import (
	"fmt"
	"slices"
	"strings"

	"dhow/internal/move"
)

// comparedTable is a table that is on both sides.
type comparedTable struct {
	source, target *Table
	columns        []comparedColumn // those that both sides have
	// key tells the rows apart; a table without one is compared as what it is: rows of
	// which there are so and so many.
	key []comparedColumn
	// bounds are what chunks are cut by: an index that both sides sort alike. Empty: the table is one chunk.
	bounds []comparedColumn
}

func (t *comparedTable) keyless() bool { return len(t.key) == 0 }

// from is the table in a statement, with its history where it keeps one.
func (t *comparedTable) from(i int, cut bool) string {
	of := [2]*Table{t.source, t.target}[i]
	sql := of.SQL()
	if of.Versioned {
		sql += " FOR SYSTEM_TIME ALL"
	}
	sql += " AS t"
	if cut && of.KeyIndex != "" {
		sql += " FORCE INDEX (" + quote(of.KeyIndex) + ")"
	}
	return sql
}

// joined pairs a table's columns by name.
func (v *verifier) joined(s, t *Table) *comparedTable {
	c := &comparedTable{source: s, target: t}
	name := s.String()
	for _, col := range s.Columns {
		other := t.Column(col.Name)
		switch {
		case other == nil:
			v.found.Object(name, "column "+col.Name, move.Missing)
		case col.Generated == "VIRTUAL" && other.Generated == "VIRTUAL":
			// Nothing of it is stored, and it may tell another value each time.
		case plainType(col) != plainType(other):
			v.found.Object(name, fmt.Sprintf("column %s: type %s instead of %s", col.Name, typeText(other), typeText(col)), move.Changed)
			if classOf(col) == classOf(other) {
				c.columns = append(c.columns, comparedColumn{name: col.Name, class: classOf(col), charset: plainCharset(col), wide: plainCharset(col) != plainCharset(other)})
			}
		default:
			c.columns = append(c.columns, comparedColumn{name: col.Name, class: classOf(col), charset: plainCharset(col)})
		}
	}
	for _, col := range t.Columns {
		if s.Column(col.Name) == nil {
			v.found.Object(name, "column "+col.Name, move.Extra)
		}
	}
	c.chooseKey()
	if s.Versioned != t.Versioned {
		kind := move.Missing
		if t.Versioned {
			kind = move.Extra
		}
		v.found.Object(name, "system versioning", kind)
		return c
	}
	c.addPeriod()
	return c
}

// chooseKey takes the source's key where both sides have its columns, and cuts by it
// where both sort it alike by an index.
func (t *comparedTable) chooseKey() {
	cut := !t.source.KeyPrefixed && strings.Join(t.source.Key, "\x00") == strings.Join(t.target.Key, "\x00")
	for _, name := range t.source.Key {
		col, ok := t.column(name)
		if !ok {
			t.key = nil
			return
		}
		t.key = append(t.key, col)
		cut = cut && sameCollation(t.source.Column(name).Collation, t.target.Column(name).Collation)
	}
	if cut {
		t.bounds = t.key
	}
}

// addPeriod lets the versions of a row be told apart.
func (t *comparedTable) addPeriod() {
	s := t.source
	if !s.Versioned {
		return
	}
	var rest []comparedColumn
	for _, col := range t.columns {
		if col.name != s.RowStart && col.name != s.RowEnd {
			rest = append(rest, col)
		}
	}
	t.columns = rest
	if end := s.Column(s.RowEnd); end != nil && strings.EqualFold(end.DataType, "bigint") {
		t.columns = append(t.columns, comparedColumn{name: s.RowEnd, class: classVersion})
		t.key = nil
		return
	}
	end := comparedColumn{name: s.RowEnd, class: classPeriod}
	t.columns = append(t.columns, comparedColumn{name: s.RowStart, class: classPlain}, end)
	if len(t.key) == 0 {
		return
	}
	key := make([]comparedColumn, 0, len(t.key)+1)
	for _, col := range t.key {
		if col.name != s.RowEnd {
			key = append(key, col)
		}
	}
	t.bounds = slices.Clone(key)
	t.key = slices.Concat(key, []comparedColumn{end})
	if strings.Join(s.Key, "\x00") != strings.Join(t.target.Key, "\x00") || s.KeyPrefixed || len(t.bounds) == 0 {
		t.bounds = nil
	}
}

func (t *comparedTable) column(name string) (comparedColumn, bool) {
	for _, col := range t.columns {
		if strings.EqualFold(col.name, name) {
			return col, true
		}
	}
	return comparedColumn{}, false
}

// plainCharset is a character set by one name: servers before 10.6 say utf8.
func plainCharset(c *Column) string {
	if c.Charset == "utf8" {
		return "utf8mb3"
	}
	return c.Charset
}

// plainType is what two columns must have in common for their values to be compared
// as they are stored.
func plainType(c *Column) string {
	kind := c.Type
	if cut := strings.Index(kind, " /*"); cut >= 0 { // for example COMPRESSED
		kind = kind[:cut]
	}
	return kind + " " + plainCharset(c)
}

func typeText(c *Column) string {
	if c.Charset == "" {
		return c.Type
	}
	return c.Type + " of " + plainCharset(c)
}

// sameCollation says whether two collations are one: utf8mb3 was called utf8, and
// the names of newer ones may leave the character set out.
func sameCollation(a, b string) bool {
	plain := func(name string) string {
		if rest, ok := strings.CutPrefix(name, "utf8_"); ok {
			return "utf8mb3_" + rest
		}
		return name
	}
	return plain(a) == plain(b)
}

// describe names a row by its key.
func (t *comparedTable) describe(key []string) string {
	parts := make([]string, len(key))
	for i, k := range key {
		parts[i] = t.key[i].name + "=" + t.key[i].shown(k)
	}
	return strings.Join(parts, ", ")
}

// values lists what names a row in a listing.
func (t *comparedTable) values() string {
	var list strings.Builder
	for _, c := range t.key {
		list.WriteString(", " + c.value())
	}
	return list.String()
}
