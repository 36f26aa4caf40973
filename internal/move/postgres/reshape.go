package postgres

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"
)

// This file compares two shapes of the source and says of each difference what
// it means for the move:
//
//   - what harms stops the stream until the target has been changed alike: a new
//     table's rows are in no publication, a new column's values have no place;
//   - what does not harm the rows (an index, a view, a grant) is named, because
//     after the cutover it would be missing;
//   - tables whose rows the change itself may have written anew, which no change
//     stream carries, are copied again when the move goes on.

// schemaChange is a difference of the source's schema from what the target follows.
type schemaChange struct {
	object string // column public.t.c
	what   string // was added
	// make are the statements that change the target alike; empty when a person
	// must find them.
	make []string
	harm bool
	// adds: it only adds something; nothing that was there is another now.
	adds bool
	// inherited: it comes with another change: of the table's parent, of an identity column.
	inherited bool
	// keys are the pieces that must be the same on both sides for the change to
	// count as followed.
	keys []pieceKey
	// again are tables that are copied again once the change is followed.
	again []Name
}

func (c schemaChange) String() string { return c.object + " " + c.what }

// compared are the kinds whose difference harms, in the order in which the
// target must follow.
var compared = []string{kindType, kindSequence, kindTable, kindColumn, kindKey, kindNotNull, kindConstraint, kindIndex, kindPublished}

// partOfTable are the kinds that come and go with their table.
var partOfTable = []string{kindColumn, kindKey, kindNotNull, kindDefault, kindConstraint, kindIndex, kindTrigger, kindRule, kindPolicy, kindSecurity, kindOwner, kindGrant, kindPublished}

// comparison is the work of finding the changes between two shapes.
type comparison struct {
	old, now shape
	changes  []schemaChange
	// whole are tables that appeared, went or were replaced: their pieces are not told one by one.
	whole map[Name]bool
	again map[Name]bool
}

// changesOf lists what changed, sorted by the order in which the target can follow.
func changesOf(old, now shape) []schemaChange {
	c := &comparison{old: old, now: now, whole: map[Name]bool{}, again: map[Name]bool{}}
	c.tables()
	var keys []pieceKey
	for k, p := range now {
		if before, ok := old[k]; !ok || before.Detail != p.Detail || replaced(k, before, p) {
			keys = append(keys, k)
		}
	}
	for k := range old {
		if _, ok := now[k]; !ok {
			keys = append(keys, k)
		}
	}
	sort.Slice(keys, func(i, j int) bool {
		a, b := keys[i], keys[j]
		if rank(a.Kind) != rank(b.Kind) {
			return rank(a.Kind) < rank(b.Kind)
		}
		if a.Kind == kindColumn && a.Schema == b.Schema && a.Relation == b.Relation { // as they stand in the table
			return c.number(a) < c.number(b)
		}
		return a.before(b)
	})
	renamed := c.renamedColumns()
	for _, k := range keys {
		if k.Kind == kindTable || c.whole[Name{k.Schema, k.Relation}] && slices.Contains(partOfTable, k.Kind) || renamed[k] {
			continue
		}
		c.piece(k)
	}
	sort.SliceStable(c.changes, func(i, j int) bool { return rank(c.changes[i].keys[0].Kind) < rank(c.changes[j].keys[0].Kind) })
	return c.changes
}

// number is a column's place in its table.
func (c *comparison) number(k pieceKey) int {
	p, ok := c.now[k]
	if !ok {
		p = c.old[k]
	}
	return parse[columnLocal](p.Local).Number
}

func rank(kind string) int {
	if i := slices.Index(compared, kind); i >= 0 {
		return i
	}
	return len(compared)
}

// replaced says whether a piece is another one of the same name: a column that
// was dropped and added again.
func replaced(k pieceKey, old, now piece) bool {
	return k.Kind == kindColumn && parse[columnLocal](old.Local).Number != parse[columnLocal](now.Local).Number
}

func (c *comparison) add(ch schemaChange) {
	sort.Slice(ch.again, func(i, j int) bool { return less(ch.again[i], ch.again[j]) })
	c.changes = append(c.changes, ch)
}

// tables finds tables that appeared, went, were renamed or replaced, or changed as a whole.
func (c *comparison) tables() {
	oldNames := map[uint32]Name{}
	for k, p := range c.old {
		if k.Kind == kindTable {
			oldNames[parse[tableLocal](p.Local).OID] = Name{k.Schema, k.Relation}
		}
	}
	gone := map[Name]bool{}
	for k := range c.old {
		if _, still := c.now[k]; k.Kind == kindTable && !still {
			gone[Name{k.Schema, k.Relation}] = true
		}
	}
	for _, k := range c.now.keys() {
		if k.Kind != kindTable {
			continue
		}
		n := Name{k.Schema, k.Relation}
		now := c.now[k]
		before, had := c.old[k]
		local := parse[tableLocal](now.Local)
		switch from, known := oldNames[local.OID]; {
		case !had && known && gone[from]:
			delete(gone, from)
			c.whole[n], c.whole[from] = true, true
			c.add(schemaChange{object: "table " + from.String(), what: "was renamed to " + n.String(), harm: true, make: renameTable(from, n),
				keys: append(tableKeys(c.now, n), tableKeys(c.old, from)...), again: rows(c.now, n)})
		case !had:
			c.whole[n] = true
			c.add(schemaChange{object: describeTable(c.now, n), what: "was created", harm: true, adds: true, make: createTable(c.now, n), keys: tableKeys(c.now, n), again: rows(c.now, n)})
		case parse[tableLocal](before.Local).OID != local.OID:
			c.whole[n] = true
			c.add(schemaChange{object: "table " + n.String(), what: "was dropped and created again", harm: true, make: append([]string{"DROP TABLE " + n.SQL()}, createTable(c.now, n)...),
				keys: append(tableKeys(c.now, n), tableKeys(c.old, n)...), again: rows(c.now, n)})
		case before.Detail != now.Detail:
			c.altered(n, parse[tableDetail](before.Detail), parse[tableDetail](now.Detail))
		}
	}
	for _, k := range c.old.keys() {
		if n := (Name{k.Schema, k.Relation}); k.Kind == kindTable && gone[n] {
			c.whole[n] = true
			c.add(schemaChange{object: "table " + n.String(), what: "was dropped", harm: true, make: []string{"DROP TABLE " + n.SQL()}, keys: []pieceKey{k}})
		}
	}
}

func describeTable(s shape, n Name) string {
	d := parse[tableDetail](s[pieceKey{kindTable, n.Schema, n.Name, ""}].Detail)
	switch {
	case d.Bound != "":
		return "partition " + n.String()
	case d.Kind == "f":
		return "foreign table " + n.String()
	}
	return "table " + n.String()
}

// rows are the tables to copy when a table is new: itself, if it holds rows that are streamed.
func rows(s shape, n Name) []Name {
	d := parse[tableDetail](s[pieceKey{kindTable, n.Schema, n.Name, ""}].Detail)
	if d.Kind != "r" {
		return nil
	}
	return []Name{n}
}

// tableKeys are the pieces of a table that its rows depend upon.
func tableKeys(s shape, n Name) []pieceKey {
	return slices.Concat(s.of(kindTable, n), s.of(kindColumn, n), s.of(kindKey, n))
}

// altered is a change of a table as such.
func (c *comparison) altered(n Name, old, now tableDetail) {
	k := pieceKey{kindTable, n.Schema, n.Name, ""}
	ch := schemaChange{object: "table " + n.String(), harm: true, keys: []pieceKey{k}}
	var what []string
	alter := "ALTER TABLE " + n.SQL() + " "
	if old.Kind != now.Kind || old.By != now.By {
		what = append(what, "was replaced by one of another kind")
		ch.again = rows(c.now, n)
	}
	if old.Unlogged != now.Unlogged {
		what = append(what, map[bool]string{true: "became unlogged, so that its changes are in no log", false: "became logged"}[now.Unlogged])
		ch.make = append(ch.make, alter+map[bool]string{true: "SET UNLOGGED", false: "SET LOGGED"}[now.Unlogged])
		ch.again = rows(c.now, n)
	}
	if old.Identity != now.Identity {
		what = append(what, "got another replica identity")
		switch now.Identity {
		case IdentityDefault:
			ch.make = append(ch.make, alter+"REPLICA IDENTITY DEFAULT")
		case IdentityFull:
			ch.make = append(ch.make, alter+"REPLICA IDENTITY FULL")
		case IdentityNothing:
			ch.make = append(ch.make, alter+"REPLICA IDENTITY NOTHING")
		case IdentityIndex:
			ch.make = append(ch.make, identityByIndex(c.old, c.now, n)...)
		}
	}
	if !slices.Equal(old.Parents, now.Parents) || old.Bound != now.Bound {
		w, sql := reparent(n, old, now)
		what, ch.make = append(what, w), append(ch.make, sql...)
	}
	ch.what = strings.Join(what, ", ")
	c.add(ch)
}

// reparent attaches a table to other parents.
func reparent(n Name, old, now tableDetail) (what string, sql []string) {
	for _, p := range old.Parents {
		if old.Bound != "" {
			sql = append(sql, "ALTER TABLE "+p+" DETACH PARTITION "+n.SQL())
		} else if !slices.Contains(now.Parents, p) {
			sql = append(sql, "ALTER TABLE "+n.SQL()+" NO INHERIT "+p)
		}
	}
	for _, p := range now.Parents {
		if now.Bound != "" {
			sql = append(sql, "ALTER TABLE "+p+" ATTACH PARTITION "+n.SQL()+" "+now.Bound)
		} else if !slices.Contains(old.Parents, p) {
			sql = append(sql, "ALTER TABLE "+n.SQL()+" INHERIT "+p)
		}
	}
	switch {
	case now.Bound == "" && old.Bound != "":
		return "was detached from " + strings.Join(old.Parents, ", "), sql
	case now.Bound != "":
		return "was attached to " + strings.Join(now.Parents, ", ") + " " + now.Bound, sql
	}
	return "got other parents", sql
}

// renamedColumns finds columns that have another name and their old number, and
// returns the pieces that this explains.
func (c *comparison) renamedColumns() map[pieceKey]bool {
	explained := map[pieceKey]bool{}
	byNumber := map[Name]map[int]pieceKey{}
	for k, p := range c.old {
		if _, still := c.now[k]; k.Kind != kindColumn || still {
			continue
		}
		n := Name{k.Schema, k.Relation}
		if byNumber[n] == nil {
			byNumber[n] = map[int]pieceKey{}
		}
		byNumber[n][parse[columnLocal](p.Local).Number] = k
	}
	for _, k := range c.now.keys() {
		n := Name{k.Schema, k.Relation}
		if _, had := c.old[k]; k.Kind != kindColumn || had || c.whole[n] {
			continue
		}
		local := parse[columnLocal](c.now[k].Local)
		from, ok := byNumber[n][local.Number]
		if !ok {
			continue
		}
		explained[k], explained[from] = true, true
		for _, kind := range []string{kindNotNull, kindDefault} {
			a, b := pieceKey{kind, k.Schema, k.Relation, from.Item}, pieceKey{kind, k.Schema, k.Relation, k.Item}
			if _, had := c.old[a]; had && c.old[a].Detail == c.now[b].Detail {
				explained[a], explained[b] = true, true
			}
		}
		ch := schemaChange{object: columnName(from), what: "was renamed to " + k.Item, harm: true, keys: []pieceKey{from, k}, again: rows(c.now, n), inherited: local.Inherited}
		if !local.Inherited {
			ch.make = []string{"ALTER TABLE " + n.SQL() + " RENAME COLUMN " + ident(from.Item) + " TO " + ident(k.Item)}
		}
		c.again[n] = true
		c.add(ch)
	}
	return explained
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

func columnName(k pieceKey) string { return "column " + k.Schema + "." + k.Relation + "." + k.Item }

// piece tells one piece that appeared, went or changed.
func (c *comparison) piece(k pieceKey) {
	old, had := c.old[k]
	now, has := c.now[k]
	switch k.Kind {
	case kindColumn:
		c.column(k, old, now, had, has)
	case kindKey:
		c.key(k, old, now)
	case kindType:
		c.typeChanged(k, old, now, had, has)
	case kindSequence:
		c.sequence(k, old, now, had, has)
	case kindPublished:
		if !has {
			n := Name{k.Schema, k.Relation}
			c.add(schemaChange{object: "table " + n.String(), what: "was taken out of the move's publication", harm: true, adds: true, keys: []pieceKey{k}, again: rows(c.now, n)})
		}
	default:
		c.other(k, old, now, had, has)
	}
}

// constant is a default that gives every row the same value, whenever it is
// computed: a literal, with casts.
var constant = regexp.MustCompile(`^(?:-?[0-9][0-9.]*|true|false|NULL|'(?:[^']|'')*'|\(-?[0-9.]+\))(?:::[a-zA-Z_"][a-zA-Z0-9_." ]*(?:\([0-9, ]+\))?(?:\[\])*)*$`)

// column tells a column that appeared, went or changed.
func (c *comparison) column(k pieceKey, old, now piece, had, has bool) {
	n := Name{k.Schema, k.Relation}
	alter := "ALTER TABLE " + n.SQL() + " "
	ch := schemaChange{object: columnName(k), harm: true, keys: []pieceKey{k}}
	ch.inherited = parse[columnLocal](old.Local).Inherited || parse[columnLocal](now.Local).Inherited
	if had && has && replaced(k, old, now) {
		ch.what = "was dropped and added again"
		ch.make = []string{alter + "DROP COLUMN " + ident(k.Item), addColumn(c.now, n, k.Item, false)}
		ch.again = rows(c.now, n)
		c.add(ch)
		return
	}
	switch a, b := parse[columnDetail](old.Detail), parse[columnDetail](now.Detail); {
	case !had:
		ch.what, ch.adds = "was added ("+b.Type+")", true
		def, hasDefault := c.now[pieceKey{kindDefault, k.Schema, k.Relation, k.Item}]
		steady := !hasDefault || constant.MatchString(def.Detail)
		if b.Identity != "" || b.Generated == "" && (!steady || c.rewritten(n)) || c.droppedToo(n) {
			ch.again = rows(c.now, n)
		}
		if !ch.inherited {
			ch.make = []string{addColumn(c.now, n, k.Item, steady)}
			if hasDefault && !steady {
				ch.make = append(ch.make, alter+"ALTER COLUMN "+ident(k.Item)+" SET DEFAULT "+def.Detail)
			}
		}
	case !has:
		ch.what = "was dropped"
		if !ch.inherited {
			ch.make = []string{alter + "DROP COLUMN " + ident(k.Item)}
		}
	default:
		var what []string
		column := alter + "ALTER COLUMN " + ident(k.Item) + " "
		if a.Type != b.Type || a.Collation != b.Collation {
			what = append(what, "has type "+b.Type+" instead of "+a.Type)
			sql := column + "TYPE " + b.Type
			if b.Collation != "" {
				sql += " COLLATE " + b.Collation
			}
			ch.make = append(ch.make, sql+" USING "+ident(k.Item)+"::"+b.Type)
			if baseType(a.Type) != baseType(b.Type) || c.rewritten(n) {
				ch.again = rows(c.now, n)
			}
		}
		if a.Generated != b.Generated {
			what = append(what, "is computed in another way")
			ch.again = rows(c.now, n)
			if b.Generated == "" {
				ch.make = append(ch.make, column+"DROP EXPRESSION")
			} else {
				ch.make = append(ch.make, alter+"DROP COLUMN "+ident(k.Item), addColumn(c.now, n, k.Item, false))
			}
		}
		if a.Identity != b.Identity {
			what = append(what, "is an identity in another way")
			ch.make = append(ch.make, column+identityChange(a.Identity, b.Identity))
		}
		ch.what = strings.Join(what, ", ")
		if ch.inherited {
			ch.make = nil
		}
	}
	for _, t := range ch.again {
		c.again[t] = true
	}
	c.add(ch)
}

func identityChange(old, now string) string {
	how := map[string]string{"a": "GENERATED ALWAYS", "d": "GENERATED BY DEFAULT"}
	switch {
	case now == "":
		return "DROP IDENTITY"
	case old == "":
		return "ADD " + how[now] + " AS IDENTITY"
	}
	return "SET " + how[now]
}

// baseType is a type without its length or precision.
func baseType(t string) string { return typeModifier.ReplaceAllString(t, "") }

var typeModifier = regexp.MustCompile(`\([0-9, -]+\)`)

// rewritten says whether a table was written anew.
func (c *comparison) rewritten(n Name) bool {
	k := pieceKey{kindTable, n.Schema, n.Name, ""}
	return parse[tableLocal](c.old[k].Local).Filenode != parse[tableLocal](c.now[k].Local).Filenode
}

// droppedToo says whether a table lost a column: with one that is new, the two
// can not be told from one that was moved.
func (c *comparison) droppedToo(n Name) bool {
	for _, k := range c.old.of(kindColumn, n) {
		if _, still := c.now[k]; !still {
			return true
		}
	}
	return false
}

// key tells that other columns name a table's rows.
func (c *comparison) key(k pieceKey, old, now piece) {
	n := Name{k.Schema, k.Relation}
	ch := schemaChange{object: "table " + n.String(), what: fmt.Sprintf("names its rows by (%s) instead of (%s)", now.Detail, old.Detail), harm: true, keys: []pieceKey{k}, again: rows(c.now, n)}
	for _, t := range ch.again {
		c.again[t] = true
	}
	for _, con := range c.old.of(kindConstraint, n) {
		if strings.HasPrefix(c.old[con].Detail, "PRIMARY KEY") && c.old[con] != c.now[con] {
			ch.make = append(ch.make, "ALTER TABLE "+n.SQL()+" DROP CONSTRAINT "+ident(con.Item))
		}
	}
	for _, con := range c.now.of(kindConstraint, n) {
		if strings.HasPrefix(c.now[con].Detail, "PRIMARY KEY") && c.old[con] != c.now[con] {
			ch.make = append(ch.make, "ALTER TABLE "+n.SQL()+" ADD CONSTRAINT "+ident(con.Item)+" "+c.now[con].Detail)
		}
	}
	if parse[tableDetail](c.now[pieceKey{kindTable, n.Schema, n.Name, ""}].Detail).Identity == IdentityIndex {
		ch.make = append(ch.make, identityByIndex(c.old, c.now, n)...)
	}
	c.add(ch)
}

// typeChanged tells a type that changed. A new one is in nobody's way.
func (c *comparison) typeChanged(k pieceKey, old, now piece, had, has bool) {
	if !had || !has {
		c.other(k, old, now, had, has)
		return
	}
	a, b := parse[typeDetail](old.Detail), parse[typeDetail](now.Detail)
	ch := schemaChange{object: "type " + k.Schema + "." + k.Relation, what: "was changed", harm: true, keys: []pieceKey{k}}
	grown := a.Kind == "e" && b.Kind == "e"
	for _, l := range a.Labels {
		grown = grown && slices.Contains(b.Labels, l)
	}
	if grown {
		ch.what, ch.adds = "has new values", true
		for i, l := range b.Labels {
			if slices.Contains(a.Labels, l) {
				continue
			}
			where := ""
			if i > 0 {
				where = " AFTER " + quote(b.Labels[i-1])
			} else if len(a.Labels) > 0 {
				where = " BEFORE " + quote(a.Labels[0])
			}
			ch.make = append(ch.make, "ALTER TYPE "+now.Local+" ADD VALUE "+quote(l)+where)
		}
	} else {
		ch.make = renameLabels(now.Local, a, b)
		// values that were written before the change may not be readable behind it
		for col, p := range c.now {
			t := parse[columnDetail](p.Detail).Type
			if n := (Name{col.Schema, col.Relation}); col.Kind == kindColumn && strings.TrimSuffix(t, "[]") == now.Local && !c.again[n] {
				c.again[n] = true
				ch.again = append(ch.again, rows(c.now, n)...)
			}
		}
	}
	c.add(ch)
}

// renameLabels are the statements for an enum some of whose values have other names.
func renameLabels(name string, old, now typeDetail) []string {
	if old.Kind != "e" || now.Kind != "e" || len(old.Labels) != len(now.Labels) {
		return nil
	}
	var sql []string
	for i, l := range now.Labels {
		switch was := old.Labels[i]; {
		case was == l:
		case slices.Contains(now.Labels, was) || slices.Contains(old.Labels, l):
			return nil
		default:
			sql = append(sql, "ALTER TYPE "+name+" RENAME VALUE "+quote(was)+" TO "+quote(l))
		}
	}
	return sql
}

// sequence tells a sequence that appeared or changed. One that went is in nobody's way.
func (c *comparison) sequence(k pieceKey, old, now piece, had, has bool) {
	if !has {
		c.other(k, old, now, had, has)
		return
	}
	n := Name{k.Schema, k.Relation}
	ch := schemaChange{object: "sequence " + n.String(), what: "was changed", harm: true, adds: true, keys: []pieceKey{k}}
	verb := "ALTER SEQUENCE "
	if !had {
		ch.what, verb = "was created", "CREATE SEQUENCE "
	}
	local := parse[sequenceLocal](now.Local)
	ch.inherited = !had && local.Identity // an identity column brings its own
	if !ch.inherited {
		ch.make = []string{verb + n.SQL() + sequenceOptions(parse[sequenceDetail](now.Detail))}
		if !had && local.OwnedBy != "" {
			ch.make = append(ch.make, "ALTER SEQUENCE "+n.SQL()+" OWNED BY "+local.OwnedBy)
		}
	}
	c.add(ch)
}

func sequenceOptions(d sequenceDetail) string {
	cycle := " NO CYCLE"
	if d.Cycle {
		cycle = " CYCLE"
	}
	return fmt.Sprintf(" AS %s START WITH %d INCREMENT BY %d MINVALUE %d MAXVALUE %d CACHE %d%s", d.Type, d.Start, d.Increment, d.Min, d.Max, d.Cache, cycle)
}

// other tells what concerns no row, unless the target would refuse what the source takes.
func (c *comparison) other(k pieceKey, old, now piece, had, has bool) {
	n := Name{k.Schema, k.Relation}
	ch := schemaChange{object: objectName(k), keys: []pieceKey{k}}
	switch {
	case !had:
		ch.what = "was created"
	case !has:
		ch.what = "was dropped"
	default:
		ch.what = "was changed"
	}
	ch.inherited = parse[columnLocal](old.Local).Inherited || parse[columnLocal](now.Local).Inherited
	alter := "ALTER TABLE " + n.SQL() + " "
	drop := had && old.Detail != "" // replace it
	switch k.Kind {
	case kindNotNull:
		ch.what = map[bool]string{true: "may not be null any more", false: "may be null now"}[has]
		ch.harm = !has
		ch.make = []string{alter + "ALTER COLUMN " + ident(k.Item) + map[bool]string{true: " SET NOT NULL", false: " DROP NOT NULL"}[has]}
	case kindDefault:
		ch.make = []string{alter + "ALTER COLUMN " + ident(k.Item) + " DROP DEFAULT"}
		if has {
			ch.make = []string{alter + "ALTER COLUMN " + ident(k.Item) + " SET DEFAULT " + now.Detail}
		}
	case kindConstraint:
		if had && has && strings.TrimSuffix(old.Detail, " NOT VALID") == now.Detail {
			ch.what, ch.make = "was validated", []string{alter + "VALIDATE CONSTRAINT " + ident(k.Item)}
			break
		}
		ch.harm = had && !strings.HasPrefix(old.Detail, "FOREIGN KEY")
		if drop {
			ch.make = append(ch.make, alter+"DROP CONSTRAINT "+ident(k.Item))
		}
		if has {
			ch.make = append(ch.make, alter+"ADD CONSTRAINT "+ident(k.Item)+" "+now.Detail)
		}
	case kindIndex:
		ch.harm = had && parse[indexLocal](old.Local).Unique
		if drop {
			ch.make = append(ch.make, "DROP INDEX "+Name{k.Schema, k.Item}.SQL())
		}
		if has {
			ch.make = append(ch.make, now.Detail)
		}
	default:
		ch.make = remake(k, n, old, now, had, has)
	}
	if ch.inherited {
		ch.make = nil
	}
	c.add(ch)
}

func objectName(k pieceKey) string {
	name := k.Schema
	if k.Relation != "" {
		name = strings.TrimPrefix(name+"."+k.Relation, ".")
	}
	switch k.Kind {
	case kindNotNull:
		return columnName(k)
	case kindDefault:
		return "the default of " + columnName(k)
	case kindIndex:
		return "index " + k.Schema + "." + k.Item
	case kindConstraint, kindTrigger, kindRule, kindPolicy:
		return k.Kind + " " + k.Item + " of " + name
	case kindGrant:
		who := k.Item
		if who == "" {
			who = "PUBLIC"
		}
		return "the grant on " + name + " to " + who
	case kindOwner, kindSecurity:
		return "the " + k.Kind + " of " + name
	}
	return k.Kind + " " + name
}
