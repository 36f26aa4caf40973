package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// copyFrom is the number of inserted rows from which COPY beats INSERT, though
// it takes a round trip of its own.
const copyFrom = 64

// effect is what a batch does to one row in the end.
type effect struct {
	remove row // an older row with this key goes
	insert row // then this one comes
	update row // or: these columns change; unchanged ones are datumUnchanged
}

// netEffect makes of a batch the fewest statements that have the same result.
// Tables do not depend on each other (constraints between them are not checked
// here), rows with different keys do not either, apart from secondary unique
// constraints, whose violation makes the caller go one by one.
func netEffect(batch []*change) []op {
	var ops []op
	var order []*relation
	byRelation := map[*relation][]*change{}
	flush := func() {
		for _, r := range order {
			ops = append(ops, tableOps(r, byRelation[r])...)
		}
		order, byRelation = nil, map[*relation][]*change{}
	}
	for _, c := range batch {
		if c.truncate != nil {
			flush()
			ops = append(ops, single(c)...)
			continue
		}
		if _, ok := byRelation[c.rel]; !ok {
			order = append(order, c.rel)
		}
		byRelation[c.rel] = append(byRelation[c.rel], c)
	}
	flush()
	return ops
}

// tableOps is netEffect for one table.
func tableOps(r *relation, changes []*change) []op {
	var ops []op
	if len(r.key) == 0 || !slices.ContainsFunc(changes, func(c *change) bool { return c.msg.kind != 'I' }) {
		return plainOps(r, changes)
	}
	effects := make([]effect, 0, len(changes))
	byKey := make(map[string]int, len(changes))
	flush := func() {
		ops = append(ops, setOps(r, effects)...)
		effects = effects[:0]
		clear(byKey)
	}
	var key []byte
	for _, c := range changes {
		if keyChanged(c) {
			flush()
			ops = append(ops, single(c)...)
			continue
		}
		of := c.msg.new
		if c.msg.kind == 'D' {
			of = c.msg.old
		}
		key = r.appendKey(key[:0], of)
		at, ok := byKey[string(key)]
		if !ok {
			at = len(effects)
			effects = append(effects, effect{})
			byKey[string(key)] = at
		}
		if !effects[at].merge(c) { // out of step: let the statements find out, one by one
			flush()
			ops = append(ops, single(c)...)
		}
	}
	flush()
	return ops
}

// plainOps is tableOps where no two changes can concern one row, or where it can
// not be told which do: inserts stay together, all else stays in order.
func plainOps(r *relation, changes []*change) []op {
	var ops []op
	var inserted []row
	for _, c := range changes {
		if c.msg.kind == 'I' {
			inserted = append(inserted, c.msg.new)
			continue
		}
		ops = append(append(ops, insertMany(r, inserted)...), single(c)...)
		inserted = nil
	}
	return append(ops, insertMany(r, inserted)...)
}

// merge adds a change to what was done to the row before.
func (e *effect) merge(c *change) bool {
	fresh := e.remove == nil && e.insert == nil && e.update == nil
	switch c.msg.kind {
	case 'I':
		if e.insert != nil || e.update != nil {
			return false
		}
		e.insert = c.msg.new
	case 'U':
		switch {
		case e.insert != nil:
			e.insert = overlay(e.insert, c.msg.new)
		case e.update != nil:
			e.update = overlay(e.update, resolved(c))
		case fresh:
			e.update = resolved(c)
		default:
			return false
		}
	case 'D':
		switch {
		case e.insert != nil:
			e.insert = nil // what it replaced, if anything, stays removed
		case e.update != nil || fresh:
			e.update, e.remove = nil, c.msg.old
		default:
			return false
		}
	}
	return true
}

// overlay is a newer row over an older one: what is unchanged stays.
func overlay(older, newer row) row {
	merged := slices.Clone(newer)
	for i := range merged {
		if merged[i].kind == datumUnchanged {
			merged[i] = older[i]
		}
	}
	return merged
}

// resolved is an update's new row, with unchanged values taken from the old row
// where that was sent whole.
func resolved(c *change) row {
	if c.msg.old == nil || c.msg.oldKey {
		return c.msg.new
	}
	return overlay(c.msg.old, c.msg.new)
}

// keyChanged says whether an update gives the row another key.
func keyChanged(c *change) bool {
	if c.msg.kind != 'U' || c.msg.old == nil {
		return false
	}
	for _, k := range c.rel.key {
		if c.msg.new[k].kind != datumUnchanged && string(c.msg.old[k].text) != string(c.msg.new[k].text) {
			return true
		}
	}
	return false
}

// setOps are the statements for rows with different keys.
func setOps(r *relation, effects []effect) []op {
	var removed, inserted []row
	var updates []*updateSet
	for i := range effects {
		e := &effects[i]
		if e.remove != nil {
			removed = append(removed, e.remove)
		}
		if e.insert != nil {
			inserted = append(inserted, e.insert)
		}
		if e.update != nil {
			updates = addUpdate(updates, e.update)
		}
	}
	var ops []op
	if len(removed) > 0 {
		ops = append(ops, op{sql: r.deleteSQL(), params: arrays(removed, r.key), binary: true, expect: int64(len(removed))})
	}
	for _, u := range updates {
		if o, ok := updateOp(r, u.rows); ok {
			ops = append(ops, o)
		}
	}
	return append(ops, insertMany(r, inserted)...)
}

// updateSet are updates that set the same columns.
type updateSet struct{ rows []row }

// addUpdate adds a row to the updates that set the same columns as it does.
func addUpdate(sets []*updateSet, of row) []*updateSet {
	for _, s := range sets {
		if sameShape(s.rows[0], of) {
			s.rows = append(s.rows, of)
			return sets
		}
	}
	return append(sets, &updateSet{rows: []row{of}})
}

// sameShape says whether two rows set the same columns.
func sameShape(a, b row) bool {
	for i := range a {
		if (a[i].kind == datumUnchanged) != (b[i].kind == datumUnchanged) {
			return false
		}
	}
	return true
}

// insertMany inserts rows by COPY where they are many.
func insertMany(r *relation, rows []row) []op {
	switch {
	case len(rows) == 0:
		return nil
	case len(rows) < copyFrom || len(r.all) == 0:
		return insertOps(r, rows)
	}
	size := 0
	for _, d := range rows[0] {
		size += len(d.text) + 2
	}
	buf := make([]byte, 0, size*len(rows)*9/8)
	for _, in := range rows {
		buf = appendCopyText(buf, in, r.all)
	}
	return []op{{sql: r.copySQL(), copied: buf, expect: -1, inserts: len(rows)}}
}

func insertOps(r *relation, rows []row) []op {
	if len(r.all) == 0 {
		ops := make([]op, len(rows))
		for i := range ops {
			ops[i] = op{sql: r.insertSQL(), expect: 1}
		}
		return ops
	}
	return []op{{sql: r.insertSQL(), params: arrays(rows, r.all), binary: true, expect: int64(len(rows)), inserts: len(rows)}}
}

// upsertOps insert a row, or make the one with its key equal.
func upsertOps(r *relation, of row) []op {
	if r.always(r.notKey) {
		gone := op{sql: r.deleteSQL(), params: arrays([]row{of}, r.key), binary: true, expect: -1}
		return append([]op{gone}, insertOps(r, []row{of})...)
	}
	return []op{{sql: r.upsertSQL(), params: arrays([]row{of}, r.all), binary: true, expect: -1}}
}

// updateOp sets the columns that were sent; false when there is nothing to set.
func updateOp(r *relation, rows []row) (op, bool) {
	sent := sentColumns(rows[0], r.notKey)
	if len(sent) == 0 {
		return op{}, false
	}
	return op{sql: r.updateSQL(sent), params: arrays(rows, append(slices.Clone(r.key), sent...)), binary: true, expect: int64(len(rows))}, true
}

func sentColumns(of row, among []int) []int {
	var sent []int
	for _, c := range among {
		if of[c].kind != datumUnchanged {
			sent = append(sent, c)
		}
	}
	return sent
}

// arrays are the parameters of a set statement.
func arrays(rows []row, columns []int) [][]byte {
	params := make([][]byte, len(columns))
	for i, c := range columns {
		params[i] = textArray(rows, c)
	}
	return params
}

// single are the statements of one change.
func single(c *change) []op {
	r := c.rel
	switch {
	case c.truncate != nil:
		names := make([]string, len(c.truncate.relations))
		for i, t := range c.truncate.relations {
			names[i] = "ONLY " + t.table.SQL()
		}
		sql := "TRUNCATE " + strings.Join(names, ", ")
		if c.truncate.restart {
			sql += " RESTART IDENTITY"
		}
		if c.truncate.cascade {
			sql += " CASCADE"
		}
		return []op{{sql: sql, expect: -1}}
	case c.msg.kind == 'I':
		return insertOps(r, []row{c.msg.new})
	case c.msg.kind == 'D' && len(r.key) == 0:
		return []op{r.deleteWhole(c.msg.old)}
	case c.msg.kind == 'D':
		return []op{{sql: r.deleteSQL(), params: arrays([]row{c.msg.old}, r.key), binary: true, expect: 1}}
	case len(r.key) == 0:
		return r.updateWhole(c.msg.old, resolved(c))
	case keyChanged(c):
		return []op{moveOp(c)}
	}
	if o, ok := updateOp(r, []row{resolved(c)}); ok {
		return []op{o}
	}
	return nil
}

func moveOp(c *change) op {
	r := c.rel
	set := resolved(c)
	sent := sentColumns(set, r.all)
	return op{sql: r.moveSQL(sent), params: append(arrays([]row{c.msg.old}, r.key), arrays([]row{set}, sent)...), binary: true, expect: 1}
}

// applyAgain applies a change that the copy may hold already: the copy went on
// under a second snapshot, and until the stream has passed that one a row may be
// ahead of the stream. The result is right once the stream has passed.
func (l *lane) applyAgain(ctx context.Context, c *change) error {
	r := c.rel
	if c.truncate != nil || len(r.key) == 0 {
		// Such tables are copied whole under one snapshot, see relation.start, so the
		// row is there; it is not only where a repair has yet to bring it.
		return l.session.run(ctx, lenient(single(c)))
	}
	if c.msg.kind == 'D' {
		return l.session.run(ctx, lenient(single(c)))
	}
	set := resolved(c)
	if c.msg.kind == 'U' && keyChanged(c) {
		gone := op{sql: r.deleteSQL(), params: arrays([]row{c.msg.old}, r.key), binary: true, expect: -1}
		whole := len(sentColumns(set, r.all)) == len(r.all)
		if !whole { // keep the values that were not sent, where the row is there
			err := l.session.run(ctx, []op{{sql: "SAVEPOINT move", expect: -1}, moveOp(c)})
			if err == nil {
				return l.session.run(ctx, []op{{sql: "RELEASE move", expect: -1}})
			}
			if !retryOneByOne(err) {
				return err
			}
			if err := l.session.run(ctx, []op{{sql: "ROLLBACK TO move", expect: -1}, {sql: "RELEASE move", expect: -1}}); err != nil {
				return err
			}
		}
		if err := l.session.run(ctx, []op{gone}); err != nil {
			return err
		}
	}
	if len(sentColumns(set, r.all)) == len(r.all) {
		return l.session.run(ctx, upsertOps(r, set))
	}
	if o, ok := updateOp(r, []row{set}); ok {
		err := l.session.run(ctx, []op{o})
		if err == nil || !retryOneByOne(err) {
			return err
		}
	}
	return l.refetch(ctx, r, set)
}

// applyOrLeave applies a change for a stream that runs while rows are repaired: a
// row that is still wrong may hold a value that must be unique, and then the
// change is left out, for the repair to bring its row whole.
func (l *lane) applyOrLeave(ctx context.Context, c *change) error {
	if err := l.session.run(ctx, []op{{sql: "SAVEPOINT leave", expect: -1}}); err != nil {
		return err
	}
	end := []op{{sql: "RELEASE leave", expect: -1}}
	if err := l.applyAgain(ctx, c); err != nil {
		if !isConstraint(err) {
			return err
		}
		l.relay.leaveOut()
		end = append([]op{{sql: "ROLLBACK TO leave", expect: -1}}, end...)
	}
	return l.session.run(ctx, end)
}

func lenient(ops []op) []op {
	for i := range ops {
		ops[i].expect = -1
	}
	return ops
}

// refetch brings a row from the source, as it is now, because the stream did not
// send all of its values and the target does not have them. The row is then
// ahead of the stream, so the stream is settled only behind this moment.
func (l *lane) refetch(ctx context.Context, r *relation, of row) error {
	source, err := l.relay.m.source(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, source)
	cols := make([]string, len(r.columns))
	for i, c := range r.columns {
		cols[i] = "NULL"
		if c != nil {
			cols[i] = fmt.Sprintf("CASE WHEN num_nulls(t.%s) = 0 THEN format('%%s', t.%s) END", r.name(i), r.name(i))
		}
	}
	keys := make([]any, len(r.key))
	where := make([]string, len(r.key))
	for i, k := range r.key {
		keys[i] = string(of[k].text)
		where[i] = fmt.Sprintf("t.%s %s %s", r.name(k), r.columns[k].Equal, r.columns[k].cast(fmt.Sprintf("$%d::text", i+1)))
	}
	values := make([]*string, len(r.columns))
	scan := make([]any, len(r.all))
	for i := range values {
		scan[i] = &values[i]
	}
	rows, err := source.Query(ctx, fmt.Sprintf("SELECT %s FROM ONLY %s AS t WHERE %s", strings.Join(cols, ", "), r.table.SQL(), strings.Join(where, " AND ")), keys...)
	if err != nil {
		return fmt.Errorf("fetch a row again: %w", err)
	}
	found := false
	if _, err := pgx.ForEachRow(rows, scan, func() error { found = true; return nil }); err != nil {
		return fmt.Errorf("fetch a row again: %w", err)
	}
	if found { // otherwise it was deleted meanwhile, and the stream will say so
		fresh := make(row, len(values))
		for i, v := range values {
			fresh[i].kind = datumNull
			if v != nil {
				fresh[i] = datum{text: []byte(*v), kind: datumText}
			}
		}
		if err := l.session.run(ctx, upsertOps(r, fresh)); err != nil {
			return err
		}
	}
	at, err := insertPosition(ctx, source)
	if err != nil {
		return err
	}
	l.relay.settleBehind(at)
	return l.session.run(ctx, []op{{sql: "UPDATE dhow.stream SET settled_lsn = greatest(settled_lsn, $2::text::pg_lsn) WHERE name = $1::text",
		params: [][]byte{[]byte(l.relay.name), []byte(at.String())}, expect: 1}})
}
