package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// compareObjects compares what no stream carries, once the source is sealed: it
// is handed over under the fence, and moves freely before.
func (v *verifier) compareObjects(ctx context.Context) error {
	if err := v.compareSequences(ctx); err != nil {
		return fmt.Errorf("compare the sequences: %w", err)
	}
	if err := v.compareLargeObjects(ctx); err != nil {
		return fmt.Errorf("compare the large objects: %w", err)
	}
	return nil
}

// compareSequences compares where the sequences stand. No snapshot shows a
// sequence as it was, so once the target serves, and counts on, its sequences
// must only not be behind: a number given out twice is what must not happen.
func (v *verifier) compareSequences(ctx context.Context) error {
	p := &pair{}
	defer p.close(ctx)
	var err error
	if p.source, err = v.m.source(ctx); err != nil { // under the pins there is no way to see them now
		return err
	}
	if p.target, err = v.m.target(ctx); err != nil {
		return err
	}
	closed, err := fenced(ctx, p.target, v.m.moveName())
	if err != nil {
		return err
	}
	var states [2]map[Name]sequenceState
	var names [2][]Name
	if err := p.both(ctx, func(ctx context.Context, i int, conn *pgx.Conn) error {
		c, err := v.m.catalog(ctx, conn)
		if err != nil {
			return err
		}
		names[i] = c.Sequences
		states[i], err = readSequences(ctx, conn, c.Sequences)
		return err
	}); err != nil {
		return err
	}
	down, err := descending(ctx, p.source)
	if err != nil {
		return err
	}
	for _, n := range names[0] {
		s := states[0][n]
		t, ok := states[1][n]
		if !ok {
			v.found.Object(n.String(), "sequence", move.Missing)
			continue
		}
		behind := t.Last < s.Last
		if slices.Contains(down, n) {
			behind = t.Last > s.Last
		}
		behind = behind || t.Last == s.Last && s.Called && !t.Called
		if closed && s != t || behind {
			v.found.Object(n.String(), fmt.Sprintf("sequence: last_value=%d is_called=%t instead of last_value=%d is_called=%t", t.Last, t.Called, s.Last, s.Called), move.Changed)
		}
	}
	for _, n := range names[1] {
		if _, ok := states[0][n]; !ok && closed {
			v.found.Object(n.String(), "sequence", move.Extra)
		}
	}
	return nil
}

// descending lists the sequences that count down.
func descending(ctx context.Context, conn *pgx.Conn) ([]Name, error) {
	rows, err := conn.Query(ctx, "SELECT schemaname::text, sequencename::text FROM pg_sequences WHERE increment_by < 0")
	if err != nil {
		return nil, fmt.Errorf("list the sequences that count down: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Name])
}

// largeObjects name the large objects among the differences.
const largeObjects = "pg_largeobject"

// compareLargeObjects merges both sides' lists of objects with their sums.
func (v *verifier) compareLargeObjects(ctx context.Context) error {
	a, b := hashes("encode(l.data, 'hex') || l.pageno")
	sql := fmt.Sprintf(`SELECT m.oid::bigint, coalesce(s.a, 0)::text || ' ' || coalesce(s.b, 0)::text FROM pg_largeobject_metadata m
		LEFT JOIN (SELECT l.loid, sum(%s) AS a, sum(%s) AS b FROM pg_largeobject l GROUP BY 1) s ON s.loid = m.oid ORDER BY 1`, a, b)
	p, err := v.connect(ctx)
	if err != nil {
		return err
	}
	defer p.close(ctx)
	var lists [2]pgx.Rows
	var oid [2]int64
	var sum [2]string
	var more [2]bool
	next := func(i int) error {
		if more[i] = lists[i].Next(); !more[i] {
			return lists[i].Err()
		}
		return lists[i].Scan(&oid[i], &sum[i])
	}
	err = p.both(ctx, func(_ context.Context, i int, conn *pgx.Conn) (err error) {
		if lists[i], err = conn.Query(ctx, sql); err != nil { //nolint:sqlclosecheck // closed below, with the other side's
			return err
		}
		return next(i)
	})
	defer func() {
		for _, l := range lists {
			if l != nil {
				l.Close()
			}
		}
	}()
	if err != nil {
		return err
	}
	for more[0] || more[1] {
		s, t := more[0] && (!more[1] || oid[0] <= oid[1]), more[1] && (!more[0] || oid[1] <= oid[0])
		switch {
		case s && t && sum[0] != sum[1]:
			// Pages of zeros may be stored on one side and left out on the other.
			same, err := v.sameObject(ctx, oid[0])
			if err != nil {
				return err
			}
			if !same {
				v.found.Object(largeObjects, fmt.Sprintf("loid=%d", oid[0]), move.Changed)
			}
		case s && !t:
			v.found.Object(largeObjects, fmt.Sprintf("loid=%d", oid[0]), move.Missing)
		case t && !s:
			v.found.Object(largeObjects, fmt.Sprintf("loid=%d", oid[1]), move.Extra)
		}
		for i, at := range [2]bool{s, t} {
			if at {
				if err := next(i); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// sameObject compares a large object block by block, as its readers see it.
func (v *verifier) sameObject(ctx context.Context, oid int64) (bool, error) {
	a, b := hashes("encode(x, 'hex')")
	sql := fmt.Sprintf("SELECT octet_length(x)::bigint, %s, %s FROM lo_get($1::bigint::oid, $2::bigint, %d) x", a, b, objectBlock)
	for at := int64(0); ; at += objectBlock {
		var blocks [2][3]int64
		if err := v.lead.both(ctx, func(ctx context.Context, i int, conn *pgx.Conn) error {
			return conn.QueryRow(ctx, sql, oid, at).Scan(&blocks[i][0], &blocks[i][1], &blocks[i][2])
		}); err != nil {
			return false, fmt.Errorf("read large object %d: %w", oid, err)
		}
		if blocks[0] != blocks[1] {
			return false, nil
		}
		if blocks[0][0] < objectBlock {
			return true, nil
		}
	}
}

// rewritten refuses the verdict on tables that a snapshot can not show any more:
// TRUNCATE and some forms of ALTER TABLE leave an older snapshot an empty table.
func (v *verifier) rewritten(ctx context.Context, tables []*comparedTable) error {
	var names []string
	for _, t := range tables {
		if !v.found.Differ(t.source.Name.String()) {
			continue
		}
		for i, of := range []*Table{t.source, t.target} {
			var now uint32
			conn := [2]*pgx.Conn{v.lead.source, v.lead.target}[i]
			if err := conn.QueryRow(ctx, "SELECT coalesce(pg_relation_filenode($1), 0)", of.OID).Scan(&now); err != nil {
				return fmt.Errorf("look at table %s again: %w", of.Name, err)
			}
			if now != of.Filenode {
				names = append(names, fmt.Sprintf("%s (on the %s)", of.Name, [2]string{"source", "target"}[i]))
			}
		}
	}
	if len(names) > 0 {
		return &move.Refused{Reason: fmt.Sprintf("tables were truncated or rewritten since the cutover, so that they can not be compared as they were: %s", strings.Join(names, ", ")), Fix: "compare the way back instead, with `dhow verify`"}
	}
	return nil
}
