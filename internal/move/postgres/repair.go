package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

// A repair makes proved differences equal while the stream goes on. It must not
// undo what the stream brings, nor be undone by it, though both write the same
// rows. Two things see to that:
//
//   - A row of the target is only touched in the very version that was proved
//     wrong. When the stream has changed it since, it has another version, the
//     repair finds nothing, and the row is judged anew.
//   - A row of the source is taken in the very version that was proved, and
//     locked FOR SHARE until the target has committed: so no change of it can be
//     in the stream that was made before and arrives after. Rows that somebody is
//     changing just now are left out (SKIP LOCKED); nobody waits for a repair.
//
// A wrong row is deleted and inserted rather than updated: that covers every
// kind of column, and nothing follows from it, because in the session's role as
// a replica no foreign key cascades and no ordinary trigger fires. All of a
// batch's rows go before the first comes, so that values that must be unique can
// change places.

const (
	// repairBytes bounds the rows that a repair holds in memory, by the table's average.
	repairBytes = 8 << 20
	// repairRows bounds the rows of one transaction of a repair.
	repairRows = 500
)

// mend is a proved difference with what to do about it.
type mend struct {
	doubt  *doubt
	remove []string // versions on the target
	insert []string // versions at the source
}

// repair mends differences; whether it worked is for the next look to say.
func (v *verifier) repair(ctx context.Context, proved []*doubt) error {
	session, err := newApplySession(ctx, v.m)
	if err != nil {
		return err
	}
	defer session.close(ctx)
	// It is no writer of the stream, which may begin anew meanwhile.
	if _, err := session.conn.Exec(ctx, "SET application_name = 'dhow repair'"); err != nil {
		return fmt.Errorf("prepare the target's session: %w", err)
	}
	for _, of := range byTable(proved) {
		t := of[0].suspect.table
		mends, err := v.mends(ctx, of)
		if err != nil {
			return fmt.Errorf("repair table %s: %w", t.source.Name, withoutDetail(err))
		}
		size := int(max(1, min(repairRows, repairBytes/max(1, t.source.Bytes/max(1, estimate(t.source))))))
		var again []mend
		for batch := range slices.Chunk(mends, size) {
			left, err := v.mendApart(ctx, session, t, batch)
			if err != nil {
				return fmt.Errorf("repair table %s: %w", t.source.Name, withoutDetail(err))
			}
			again = append(again, left...)
		}
		if len(again) == 0 {
			continue
		}
		// Rows that met a value that must be unique, in a row of another batch.
		if err := v.mend(ctx, session, t, again); err != nil {
			if !isConstraint(err) {
				return fmt.Errorf("repair table %s: %w", t.source.Name, withoutDetail(err))
			}
			v.m.log.Warn("rows could not be repaired: others are in their way", "table", t.source.Name.String(), "rows", len(again), "error", withoutDetail(err))
		}
	}
	return nil
}

// mends says what to do about differences of one table.
func (v *verifier) mends(ctx context.Context, of []*doubt) ([]mend, error) {
	mends := make([]mend, len(of))
	for i, d := range of {
		mends[i] = mend{doubt: d, remove: d.target.versions, insert: d.source.versions}
	}
	if !of[0].suspect.table.keyless() {
		return mends, nil
	}
	for side, kind := range []move.Kind{move.Missing, move.Extra} {
		conn := [2]*pgx.Conn{v.lead.source, v.lead.target}[side]
		need := make(map[[2]int64]int64)
		var some []*doubt
		for _, d := range of {
			if d.kind == kind {
				some = append(some, d)
				need[d.suspect.hash] = d.count
			}
		}
		if len(some) == 0 {
			continue
		}
		_, _, place := textHashes(of)
		if err := versionsOf(ctx, conn, some, need, func(hash [2]int64, version string) {
			m := &mends[place[hash]]
			if side == 0 {
				m.insert = append(m.insert, version)
			} else {
				m.remove = append(m.remove, version)
			}
		}); err != nil {
			return nil, err
		}
	}
	return mends, nil
}

// versionsOf finds as many rows of each text as there are too many, or too few.
func versionsOf(ctx context.Context, conn *pgx.Conn, of []*doubt, need map[[2]int64]int64, found func([2]int64, string)) error {
	a, b, _ := textHashes(of)
	n := make([]int64, len(a))
	for i := range a {
		n[i] = need[[2]int64{a[i], b[i]}]
	}
	rows, err := conn.Query(ctx, fmt.Sprintf(`SELECT h0, h1, c0 FROM (SELECT h0, h1, c0, v.n, row_number() OVER (PARTITION BY h0, h1) AS i
		FROM %s JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS v (a, b, n) ON h0 = v.a AND h1 = v.b) z WHERE i <= n`,
		of[0].suspect.table.hashedRows([]string{"t.ctid::text || ' ' || t.xmin::text"}, "", "")), a, b, n)
	if err != nil {
		return err
	}
	var hash [2]int64
	var version string
	_, err = pgx.ForEachRow(rows, []any{&hash[0], &hash[1], &version}, func() error { found(hash, version); return nil })
	return err
}

// mendApart mends a batch; when rows are in each other's way, each by itself.
// It returns those that did not go by themselves either.
func (v *verifier) mendApart(ctx context.Context, session *applySession, t *comparedTable, batch []mend) (left []mend, err error) {
	err = v.mend(ctx, session, t, batch)
	if err == nil || !isConstraint(err) {
		return nil, err
	}
	for i := range batch {
		if err := v.mend(ctx, session, t, batch[i:i+1]); err != nil {
			if !isConstraint(err) {
				return nil, err
			}
			left = append(left, batch[i])
		}
	}
	return left, nil
}

// isConstraint says whether rows stood in each other's way.
func isConstraint(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == uniqueViolation || pg.Code == exclusionViolation)
}

// mend mends differences in one transaction of each side.
func (v *verifier) mend(ctx context.Context, session *applySession, t *comparedTable, batch []mend) error {
	return pgx.BeginFunc(ctx, v.lead.source, func(source pgx.Tx) error {
		values, err := lockedRows(ctx, source, t, batch)
		if err != nil {
			return fmt.Errorf("read the source's rows: %w", err)
		}
		return pgx.BeginFunc(ctx, session.conn, func(target pgx.Tx) error {
			if _, err := target.Exec(ctx, "SET CONSTRAINTS ALL DEFERRED"); err != nil {
				return err
			}
			removed, err := removeRows(ctx, target, t, batch, values)
			if err != nil {
				return fmt.Errorf("remove wrong rows: %w", err)
			}
			r := t.relation()
			var rows []row
			for _, m := range batch {
				if !held(m.remove, removed) {
					continue // the stream has changed it since
				}
				for _, version := range m.insert {
					if of, ok := values[version]; ok {
						rows = append(rows, of)
					}
				}
			}
			if len(rows) == 0 {
				return nil
			}
			if err := session.run(ctx, insertOps(r, rows)); err != nil {
				return fmt.Errorf("insert rows: %w", err)
			}
			return nil
		})
	})
}

// held says whether all versions are among those that were got.
func held[T any](versions []string, got map[string]T) bool {
	return !slices.ContainsFunc(versions, func(v string) bool { _, ok := got[v]; return !ok })
}

// cutVersions parts versions into ctids and xmins.
func cutVersions(versions []string) (ctids, whole []string) {
	for _, v := range versions {
		ctid, _, _ := strings.Cut(v, " ")
		ctids = append(ctids, ctid)
	}
	return nonNil(ctids), nonNil(versions)
}

// lockedRows locks the source's rows, in the versions that were proved, and reads them.
func lockedRows(ctx context.Context, tx pgx.Tx, t *comparedTable, batch []mend) (map[string]row, error) {
	var versions []string
	for _, m := range batch {
		versions = append(versions, m.insert...)
	}
	if len(versions) == 0 {
		return nil, nil
	}
	ctids, whole := cutVersions(versions)
	sent := t.target.Sent()
	list := make([]string, 0, len(sent)+1)
	list = append(list, "t.ctid::text || ' ' || t.xmin::text")
	for _, c := range sent {
		n := identifiers([]string{c.Name})
		list = append(list, fmt.Sprintf("CASE WHEN num_nulls(t.%s) = 0 THEN format('%%s', t.%s) END", n, n))
	}
	rows, err := tx.Query(ctx, fmt.Sprintf("SELECT %s FROM ONLY %s AS t WHERE t.ctid = ANY ($1::text[]::tid[]) AND t.ctid::text || ' ' || t.xmin::text = ANY ($2::text[]) FOR SHARE SKIP LOCKED",
		strings.Join(list, ", "), t.source.SQL()), ctids, whole)
	if err != nil {
		return nil, err
	}
	values := map[string]row{}
	var version string
	texts := make([]*string, len(sent))
	scan := []any{&version}
	for i := range texts {
		scan = append(scan, &texts[i])
	}
	_, err = pgx.ForEachRow(rows, scan, func() error {
		of := make(row, len(sent))
		for i, text := range texts {
			of[i].kind = datumNull
			if text != nil {
				of[i] = datum{text: []byte(*text), kind: datumText}
			}
		}
		values[version] = of
		return nil
	})
	return values, err
}

// removeRows removes the target's wrong rows, where they are as they were seen
// and what replaces them is at hand.
func removeRows(ctx context.Context, tx pgx.Tx, t *comparedTable, batch []mend, values map[string]row) (map[string]bool, error) {
	var versions []string
	for _, m := range batch {
		if held(m.insert, values) {
			versions = append(versions, m.remove...)
		}
	}
	removed := map[string]bool{}
	if len(versions) == 0 {
		return removed, nil
	}
	ctids, whole := cutVersions(versions)
	rows, err := tx.Query(ctx, fmt.Sprintf("DELETE FROM ONLY %s AS t WHERE t.ctid = ANY ($1::text[]::tid[]) AND t.ctid::text || ' ' || t.xmin::text = ANY ($2::text[]) RETURNING t.ctid::text || ' ' || t.xmin::text",
		t.target.SQL()), ctids, whole)
	if err != nil {
		return nil, err
	}
	var version string
	_, err = pgx.ForEachRow(rows, []any{&version}, func() error { removed[version] = true; return nil })
	return removed, err
}

// relation is the table as the applier's statements need it.
func (t *comparedTable) relation() *relation {
	sent := t.target.Sent()
	r := &relation{table: t.target}
	for i := range sent {
		r.columns = append(r.columns, &sent[i])
		r.all = append(r.all, i)
	}
	return r
}
