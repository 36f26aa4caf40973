package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// suspect is a row, or for a table without a key all rows with the same text,
// that did not look the same on both sides.
type suspect struct {
	table *comparedTable
	key   []string // the key's columns as text; nil for a table without a key
	hash  [2]int64 // of the row's text, for a table without a key
}

// listed is a row of a listing: a row of the table, or for a table without a key
// a text and how often it is there.
type listed struct {
	key   []string
	hash  [2]int64
	count int64
	at    string // where one of them is (ctid), for a table without a key
}

// listing are a side's rows in the order in which both sides list them.
type listing struct {
	table *comparedTable
	rows  pgx.Rows
	row   listed
	more  bool
}

// listSQL selects a unit's rows, of some buckets, in an order that no locale
// has a say in.
func (u *unit) listSQL() (string, []any) {
	where, params := u.where()
	t := u.table
	filter := ""
	if u.buckets > 1 {
		filter = fmt.Sprintf(" WHERE h0 & %d = ANY ($%d::bigint[])", u.buckets-1, len(params)+1)
	}
	if t.keyless() {
		from := t.hashedRows([]string{"t.ctid::text"}, "", where)
		return fmt.Sprintf("SELECT h0, h1, count(*), min(c0) FROM %s%s GROUP BY h0, h1 ORDER BY h0, h1", from, filter), params
	}
	names, order := make([]string, len(t.key)), make([]string, len(t.key))
	for i := range t.key {
		names[i], order[i] = fmt.Sprintf("c%d", i), fmt.Sprintf(`c%d COLLATE "C"`, i)
		if t.mixed { // that is the order of the encoding's bytes
			order[i] = fmt.Sprintf("convert_to(c%d, 'UTF8')", i)
		}
	}
	return fmt.Sprintf("SELECT h0, h1, %s FROM %s%s ORDER BY %s", strings.Join(names, ", "), t.hashedRows(t.keyTexts, "", where), filter, strings.Join(order, ", ")), params
}

func (l *listing) next() error {
	if l.more = l.rows.Next(); !l.more {
		return l.rows.Err()
	}
	raw := l.rows.RawValues()
	if len(raw) < 2 || len(raw[0]) != 8 || len(raw[1]) != 8 {
		return errors.New("the server's list of rows has not the form that was asked for")
	}
	l.row = listed{hash: [2]int64{int64(binary.BigEndian.Uint64(raw[0])), int64(binary.BigEndian.Uint64(raw[1]))}, count: 1}
	if l.table.keyless() {
		l.row.count, l.row.at = int64(binary.BigEndian.Uint64(raw[2])), string(raw[3])
		return nil
	}
	l.row.key = make([]string, len(l.table.key))
	for i := range l.row.key {
		l.row.key[i] = string(raw[2+i])
	}
	return nil
}

// before says which of two rows comes first: -1, 0 or 1.
func (a *listed) compare(b *listed) int {
	if a.key == nil {
		for i := range a.hash {
			if a.hash[i] != b.hash[i] {
				if a.hash[i] < b.hash[i] {
					return -1
				}
				return 1
			}
		}
		return 0
	}
	for i := range a.key {
		if c := strings.Compare(a.key[i], b.key[i]); c != 0 {
			return c
		}
	}
	return 0
}

// list merges the rows of both sides and hands on what is not the same.
func (v *verifier) list(ctx context.Context, p *pair, u *unit, buckets []int64) error {
	sql, params := u.listSQL()
	if u.buckets > 1 {
		params = append(params, buckets)
	}
	sides := [2]listing{{table: u.table}, {table: u.table}}
	ctx, cancel := context.WithCancel(ctx) // a list that is not read to its end is cut off
	defer cancel()
	defer func() {
		for i := range sides {
			if sides[i].rows != nil {
				sides[i].rows.Close()
			}
		}
	}()
	err := p.both(ctx, func(_ context.Context, i int, conn *pgx.Conn) (err error) {
		if sides[i].rows, err = conn.Query(ctx, sql, params...); err != nil {
			return err
		}
		return sides[i].next()
	})
	if err != nil {
		return err
	}
	var found []difference // that are still to be printed
	a, b := &sides[0], &sides[1]
	for a.more || b.more {
		var order int
		switch {
		case !b.more:
			order = -1
		case !a.more:
			order = 1
		default:
			order = a.row.compare(&b.row)
		}
		if order != 0 || a.row.hash != b.row.hash || a.row.count != b.row.count {
			row, other := &a.row, &b.row
			if order > 0 {
				row = &b.row
			}
			if !v.exact || v.o.Repair {
				select {
				case v.suspects <- suspect{table: u.table, key: row.key, hash: row.hash}:
				case <-ctx.Done():
					return ctx.Err()
				}
			} else {
				d := difference{kind: move.Changed, count: 1, key: row.key}
				d.side, d.at = max(0, order), row.at
				if order != 0 {
					d.kind, d.count = [2]move.Kind{move.Missing, move.Extra}[d.side], row.count
				} else if row.key == nil {
					if d.kind, d.count = move.Missing, row.count-other.count; d.count < 0 {
						d.kind, d.count = move.Extra, -d.count
					}
				}
				if d.key == nil && int64(len(found)) < v.found.Room(u.table.source.Name.String()) {
					found = append(found, d)
				} else {
					v.note(u.table, d)
				}
			}
		}
		if order <= 0 {
			if err := a.next(); err != nil {
				return err
			}
		}
		if order >= 0 {
			if err := b.next(); err != nil {
				return err
			}
		}
	}
	a.rows.Close()
	b.rows.Close()
	for _, d := range found {
		if err := v.print(ctx, p, u.table, &d); err != nil {
			return err
		}
		v.note(u.table, d)
	}
	return nil
}

// difference is a proved difference.
type difference struct {
	kind     move.Kind
	count    int64
	key      []string
	side     int    // of at: 0 is the source
	at       string // where such a row is, for a table without a key
	text     string // what such a row holds
	repaired bool
}

// note adds a difference to the findings.
func (v *verifier) note(t *comparedTable, d difference) {
	key := d.text
	if d.key != nil {
		key = t.describe(d.key)
	}
	v.found.Row(move.Difference{Table: t.source.Name.String(), Key: key, Kind: d.kind, Repaired: d.repaired}, d.count)
}

// print fetches what names a row that has no key, where there is room to name it.
func (v *verifier) print(ctx context.Context, p *pair, t *comparedTable, d *difference) (err error) {
	if d.key == nil && v.found.Room(t.source.Name.String()) > 0 {
		d.text, err = rowAt(ctx, [2]*pgx.Conn{p.source, p.target}[d.side], t, d.at)
	}
	return err
}

// rowTextMost bounds the text that names a row without a key, in characters.
const rowTextMost = 500

func rowAt(ctx context.Context, conn *pgx.Conn, t *comparedTable, at string) (string, error) {
	var text string
	err := conn.QueryRow(ctx, fmt.Sprintf("SELECT left(ROW(%s)::text, %d) FROM ONLY %s WHERE ctid = $1::text::tid", columnNames(t.columns), rowTextMost, t.source.SQL()), at).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return "(a row that is gone since)", nil
	}
	if err != nil {
		return "", fmt.Errorf("print a row: %w", err)
	}
	return text, nil
}

// describe names a row by its key.
func (t *comparedTable) describe(key []string) string {
	parts := make([]string, len(key))
	for i, k := range key {
		parts[i] = t.key[i].Name + "=" + k
	}
	return strings.Join(parts, ", ")
}

func (s suspect) id() string {
	if s.key == nil {
		return strconv.FormatInt(s.hash[0], 10) + " " + strconv.FormatInt(s.hash[1], 10)
	}
	var b strings.Builder
	for _, k := range s.key {
		fmt.Fprintf(&b, "%d:%s", len(k), k)
	}
	return b.String()
}
