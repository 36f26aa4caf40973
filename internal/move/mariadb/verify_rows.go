package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"unicode/utf8"

	"dhow/internal/move"
)

// suspect is a row, or for a table without a key all rows of the same values, that
// did not look the same on both sides.
type suspect struct {
	table *comparedTable
	id    string   // the key's digest; for a table without a key the row's
	key   []string // the key's values; nil for a table without one
}

// listed is a row of a listing; of a table without a key, all of the same values.
type listed struct {
	id, hash string
	key      []string
	count    int64
}

// listing are a side's rows in the order in which both sides list them: that of the
// keys' digests, in which no collation has a say.
type listing struct {
	rows  *sql.Rows
	next  listed // read ahead, for rows that are equal are counted
	ahead bool
	row   listed
	more  bool
}

func (u *unit) list(ctx context.Context, i int, q querier) (*listing, error) {
	t := u.table
	id, order := digest(t.key), "dhow_id, dhow_hash"
	if t.keyless() {
		id, order = "''", "dhow_hash"
	}
	rows, err := q.QueryContext(ctx, "SELECT "+id+" AS dhow_id, "+digest(t.columns)+" AS dhow_hash"+t.values()+" FROM "+u.from(i)+" ORDER BY "+order) //nolint:rowserrcheck // read does
	if err != nil {
		return nil, fmt.Errorf("list the rows: %w", err)
	}
	l := &listing{rows: rows}
	return l, l.advance(t)
}

// advance goes to the next row.
func (l *listing) advance(t *comparedTable) error {
	if l.row, l.more = l.next, l.ahead; !l.more {
		if err := l.read(t); err != nil {
			return err
		}
		if l.row, l.more = l.next, l.ahead; !l.more {
			return nil
		}
	}
	for {
		if err := l.read(t); err != nil {
			return err
		}
		if !t.keyless() || !l.ahead || l.next.id != l.row.id {
			return nil
		}
		l.row.count++
	}
}

// read reads a row ahead.
func (l *listing) read(t *comparedTable) error {
	if l.ahead = l.rows.Next(); !l.ahead {
		return l.rows.Err()
	}
	l.next = listed{count: 1}
	into := []any{&l.next.id, &l.next.hash}
	if !t.keyless() {
		l.next.key = make([]string, len(t.key))
		for i := range l.next.key {
			into = append(into, &l.next.key[i])
		}
	}
	if err := l.rows.Scan(into...); err != nil {
		return fmt.Errorf("read a listing: %w", err)
	}
	if t.keyless() {
		l.next.id = l.next.hash
	}
	return nil
}

// listRows merges both sides' lists of a chunk's rows. Where nothing moves, what
// differs is a difference; else, or when it is to be mended, it is a suspect.
func (v *verifier) listRows(ctx context.Context, p *pair, u *unit) error {
	t := u.table
	var of [2]*listing
	err := p.bothSides(ctx, func(_ context.Context, i int, q querier) (err error) {
		of[i], err = u.list(ctx, i, q) // its rows outlive this step
		return err
	})
	defer func() {
		for _, l := range of {
			if l != nil {
				_ = l.rows.Close() // it was read to its end, or something else failed
			}
		}
	}()
	if err != nil {
		return err
	}
	a, b := of[0], of[1]
	var nameless []difference
	for a.more || b.more {
		order := strings.Compare(a.row.id, b.row.id)
		if !b.more {
			order = -1
		} else if !a.more {
			order = 1
		}
		if order != 0 || a.row.hash != b.row.hash || a.row.count != b.row.count {
			row, kind, count := a.row, move.Missing, a.row.count
			switch {
			case order > 0:
				row, kind, count = b.row, move.Extra, b.row.count
			case order == 0 && !t.keyless():
				kind = move.Changed
			case order == 0 && a.row.count < b.row.count:
				kind, count = move.Extra, b.row.count-a.row.count
			case order == 0:
				count -= b.row.count
			}
			s := suspect{table: t, id: row.id, key: row.key}
			d := difference{kind: kind, count: count, suspect: s}
			switch {
			case !v.exact || v.o.Repair:
				select {
				case v.suspects <- s:
				case <-ctx.Done():
					return ctx.Err()
				}
			case t.keyless() && int64(len(nameless)) < v.found.Room(t.source.String()):
				nameless = append(nameless, d)
			default:
				v.note(t, d)
			}
		}
		if order <= 0 {
			if err := a.advance(t); err != nil {
				return err
			}
		}
		if order >= 0 {
			if err := b.advance(t); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for _, l := range of {
		if err := l.rows.Close(); err != nil {
			return fmt.Errorf("end a listing: %w", err)
		}
	}
	if err := v.print(ctx, p, t, nameless); err != nil {
		return err
	}
	for _, d := range nameless {
		v.note(t, d)
	}
	return nil
}

// difference is a proved difference.
type difference struct {
	suspect  suspect
	kind     move.Kind
	count    int64
	text     string // what such a row holds, for a table without a key
	repaired bool
}

const (
	// rowTextMost bounds the text that names a row without a key, in bytes.
	rowTextMost = 500
	// printBatch is how many such rows are looked for at once; it takes a scan of the table.
	printBatch = 500
)

// note adds a difference to the findings.
func (v *verifier) note(t *comparedTable, d difference) {
	key := d.text
	if d.suspect.key != nil {
		key = t.describe(d.suspect.key)
	}
	v.found.Row(move.Difference{Table: t.source.String(), Key: key, Kind: d.kind, Repaired: d.repaired}, d.count)
}

// print reads what names rows that have no key.
func (v *verifier) print(ctx context.Context, p *pair, t *comparedTable, of []difference) error {
	for len(of) > 0 {
		batch := of[:min(printBatch, len(of))]
		of = of[len(batch):]
		for i, kind := range []move.Kind{move.Missing, move.Extra} {
			wanted := map[string]*difference{}
			for j := range batch {
				if batch[j].kind == kind {
					wanted[batch[j].suspect.id] = &batch[j]
				}
			}
			if len(wanted) == 0 {
				continue
			}
			if err := printed(ctx, i, p.side(i), t, wanted); err != nil {
				return fmt.Errorf("print rows: %w", err)
			}
		}
	}
	return nil
}

func printed(ctx context.Context, i int, q querier, t *comparedTable, wanted map[string]*difference) error {
	list := ""
	for _, c := range t.columns {
		list += ", LEFT(" + c.printed() + ", " + fmt.Sprint(rowTextMost) + ")"
	}
	values := make([]sql.NullString, len(t.columns))
	var hash string
	into := []any{&hash}
	for j := range values {
		into = append(into, &values[j])
	}
	return scan(ctx, q, "SELECT "+digest(t.columns)+" AS dhow_hash"+list+" FROM "+t.from(i, false)+" HAVING dhow_hash IN ("+hexes(wanted)+")", func(row func(...any) error) error {
		if err := row(into...); err != nil {
			return err
		}
		d := wanted[hash]
		if d == nil || d.text != "" {
			return nil
		}
		parts := make([]string, len(values))
		for j, value := range values {
			switch {
			case !value.Valid:
				parts[j] = t.columns[j].name + "=NULL"
			default:
				parts[j] = t.columns[j].name + "=" + t.columns[j].readable(value.String)
			}
		}
		d.text = cutText(strings.Join(parts, ", "), rowTextMost)
		return nil
	})
}

// cutText cuts a text to so many bytes, between characters.
func cutText(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// hexes lists digests for a statement; they are hexadecimal digits.
func hexes[T any](ids map[string]T) string {
	var b strings.Builder
	for id := range ids {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString("'" + id + "'")
	}
	return b.String()
}
