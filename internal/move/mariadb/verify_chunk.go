package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dhow/internal/move"
)

// unit is a chunk of a table: the rows whose key is after one and up to another.
type unit struct {
	table       *comparedTable
	after, upTo []string // nil: no end
	rows        int64    // of the source, once it is compared
}

// where is the unit's condition.
func (u *unit) where() string {
	if condition := within(u.table.bounds, u.after, u.upTo); condition != "" {
		return " WHERE " + condition
	}
	return ""
}

func (u *unit) from(i int) string {
	return u.table.from(i, u.after != nil || u.upTo != nil) + u.where()
}

// plan cuts a table into chunks by the keys that the source has now. Together they
// hold all keys, also those that come later.
func (v *verifier) plan(ctx context.Context, t *comparedTable, units chan<- *unit) error {
	send := func(u *unit) error {
		select {
		case units <- u:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if len(t.bounds) == 0 {
		return send(&unit{table: t})
	}
	for after := []string(nil); ; {
		upTo, err := v.bound(ctx, t, after)
		if err != nil {
			return err
		}
		if err := send(&unit{table: t, after: after, upTo: upTo}); err != nil {
			return err
		}
		if after = upTo; after == nil {
			return nil
		}
	}
}

// chunkRows is how many rows a chunk of a table has.
func (t *comparedTable) chunkRows() int64 {
	average := max(1, t.source.Bytes/max(1, t.source.Rows))
	return min(chunkRowsMost, max(chunkRowsLeast, chunkBytes/average))
}

// bound is the key at which the chunk that begins after a key ends; nil for the last.
func (v *verifier) bound(ctx context.Context, t *comparedTable, after []string) (key []string, err error) {
	names := make([]string, len(t.bounds))
	list := ""
	for i, c := range t.bounds {
		names[i] = c.name
		list += ", " + c.value()
	}
	where := within(t.bounds, after, nil)
	if where != "" {
		where = " WHERE " + where
	}
	key = make([]string, len(t.bounds))
	into := make([]any, len(key))
	for i := range key {
		into[i] = &key[i]
	}
	err = v.unlocking(ctx, v.lead, func() error {
		return v.lead.source.QueryRowContext(ctx, "SELECT "+list[2:]+" FROM "+t.from(0, true)+where+" ORDER BY "+quoteNames(names)+" LIMIT 1 OFFSET "+strconv.FormatInt(t.chunkRows()-1, 10)).Scan(into...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return key, err
}

// compare compares a chunk's sums, and lists its rows where they differ.
func (v *verifier) compare(ctx context.Context, p *pair, u *unit) error {
	began := time.Now()
	var counts [2]int64
	var sums [2]string
	err := p.bothSides(ctx, func(ctx context.Context, i int, q querier) error {
		return q.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(SUM(CAST(CONV(LEFT("+digest(u.table.columns)+", 16), 16, 10) AS UNSIGNED)), 0) FROM "+u.from(i)).Scan(&counts[i], &sums[i])
	})
	if err == nil && (counts[0] != counts[1] || sums[0] != sums[1]) {
		err = v.listRows(ctx, p, u)
	}
	if err != nil {
		return explainSnapshot(err)
	}
	table := u.table.source.String()
	v.found.Compared(table, counts[0], 1, began)
	v.told.board.Done(table, counts[0], 0)
	v.told.board.StepDone()
	if u.upTo == nil { // the last in order
		v.told.board.TableDone(table)
	}
	v.told.tell(false)
	u.rows = counts[0]
	return nil
}

func explainSnapshot(err error) error {
	if isNumber(err, errTableChanged) {
		return &move.Refused{Reason: fmt.Sprintf("its definition was changed after the cutover, or it was emptied by TRUNCATE, so the snapshot can not show it any more (%v)", err), Fix: "compare the way back with `dhow verify`"}
	}
	return err
}
