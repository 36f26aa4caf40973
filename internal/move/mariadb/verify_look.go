package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dhow/internal/move"
)

const (
	// passPatience is how long the stream may need to pass before the comparison gives up.
	passPatience = time.Minute
	// lockedPatience is how long it may need while rows are locked at the source, and
	// somebody wants to write to them; lockedMost, while nobody does.
	lockedPatience = 150 * time.Millisecond
	lockedMost     = 5 * time.Second
	// looksMost is how often suspects are looked at without a lock.
	looksMost = 3
	// lockTries is how often rows are locked that somebody was changing, or that the
	// stream did not pass in time; lockPause is between two tries.
	lockTries = 40
	lockPause = 25 * time.Millisecond
	// namedUndecided bounds the rows that the log names because they could not be judged.
	namedUndecided = 10
)

// Numbers of the server's errors that a look must expect.
const (
	errHeld          = 1205
	errCycle         = 1213
	errStatementTime = 1969
)

// seen is what a side holds of a suspect: a digest of its row (of several, where the
// side lacks the key), or how many such rows a table without a key has.
type seen struct {
	hash  string
	count int64
}

// doubt is a suspect under judgement.
type doubt struct {
	suspect
	source, target seen
	repaired       bool
}

func (d *doubt) equal() bool { return d.source == d.target }

// difference is what a proved doubt amounts to.
func (d *doubt) difference() difference {
	of := difference{suspect: d.suspect, kind: move.Changed, count: 1, repaired: d.repaired}
	switch {
	case d.key == nil && d.target.count > d.source.count:
		of.kind, of.count = move.Extra, d.target.count-d.source.count
	case d.key == nil:
		of.kind, of.count = move.Missing, d.source.count-d.target.count
	case d.source.count == 0:
		of.kind = move.Extra
	case d.target.count == 0:
		of.kind = move.Missing
	}
	return of
}

// looker looks again at suspects. Its sessions are opened when they are needed.
type looker struct {
	v      *verifier
	pair   *pair
	locker *sql.Conn // at the source
	thread int64     // of the locker
	mender *mender   // at the target
}

func (l *looker) open(ctx context.Context) (err error) {
	if l.pair == nil {
		if l.pair, err = l.v.m.openPair(ctx); err != nil {
			return err
		}
	}
	if l.locker == nil {
		if l.locker, err = l.v.m.session(ctx, source); err != nil {
			return err
		}
		// Under this isolation the place of a row that is not there is locked too.
		if _, err := l.locker.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
			return fmt.Errorf("prepare a session that locks rows: %w", err)
		}
		if err := l.locker.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&l.thread); err != nil {
			return fmt.Errorf("prepare a session that locks rows: %w", err)
		}
	}
	if l.mender == nil && l.v.o.Repair {
		l.mender, err = l.v.m.newMender(ctx)
	}
	return err
}

func (l *looker) close() {
	l.pair.close()
	if l.locker != nil {
		hangUp(l.locker)
	}
	if l.mender != nil {
		hangUp(l.mender.conn)
	}
}

// lookAgain judges the suspects, table by table in batches, until there are no more.
func (v *verifier) lookAgain(ctx context.Context) error {
	batches := map[*comparedTable][]*doubt{}
	for {
		select {
		case s, ok := <-v.suspects:
			if !ok {
				for t, batch := range batches {
					if err := v.looks.judge(ctx, t, batch); err != nil {
						return err
					}
				}
				return nil
			}
			batches[s.table] = append(batches[s.table], &doubt{suspect: s})
			if len(batches[s.table]) < suspectBatch {
				continue
			}
			if err := v.looks.judge(ctx, s.table, batches[s.table]); err != nil {
				return err
			}
			delete(batches, s.table)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// judge judges suspects of one table, and repairs what differs when that is wanted.
func (l *looker) judge(ctx context.Context, t *comparedTable, batch []*doubt) error {
	if err := l.open(ctx); err != nil {
		return err
	}
	proved, open, err := l.prove(ctx, t, batch)
	if err != nil {
		return fmt.Errorf("look again at rows of table %s: %w", t.source, err)
	}
	found := make([]difference, len(proved))
	for i, d := range proved {
		found[i] = d.difference()
	}
	if t.keyless() && len(found) > 0 {
		if err := l.v.print(ctx, l.pair, t, found[:min(int64(len(found)), l.v.found.Room(t.source.String()))]); err != nil {
			return err
		}
		if l.v.o.Repair {
			if err := l.mender.mendCounts(ctx, l.pair.source, t, found); err != nil {
				return fmt.Errorf("repair table %s: %w", t.source, err)
			}
		}
	}
	for _, d := range found {
		l.v.note(t, d)
	}
	if len(open) == 0 {
		return nil
	}
	l.v.found.Undecided(int64(len(open)))
	for _, d := range open[:min(len(open), namedUndecided)] {
		l.v.m.log.Warn("a row changes too fast to be compared; the cutover compares it where it stands still", "table", t.source.String(), "row", d.id)
	}
	return nil
}

// prove parts suspects into those that are proved different, and those that are
// still open; the others are equal. Those of a table with a key are repaired at once.
func (l *looker) prove(ctx context.Context, t *comparedTable, open []*doubt) (proved, left []*doubt, err error) {
	if l.v.exact {
		if err := l.look(ctx, t, open); err != nil {
			return nil, nil, err
		}
		proved = differing(open)
		return proved, nil, l.mend(ctx, t, l.pair.source, proved)
	}
	for range looksMost {
		if open, err = l.lookAround(ctx, t, open); err != nil || len(open) == 0 {
			return nil, nil, err
		}
	}
	for try := 0; try < lockTries && len(open) > 0; try++ {
		if try > 0 {
			select {
			case <-time.After(lockPause):
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		}
		var found []*doubt
		if t.keyless() || !t.source.Transactional() {
			found, open, err = l.lookUnderTableLock(ctx, t, open)
		} else {
			found, open, err = l.lookUnderRowLocks(ctx, t, open)
		}
		if err != nil {
			return nil, nil, err
		}
		proved = append(proved, found...)
	}
	return proved, open, nil
}

func differing(of []*doubt) (different []*doubt) {
	for _, d := range of {
		if !d.equal() {
			different = append(different, d)
		}
	}
	return different
}

// lookAround looks at the source, lets the stream pass, and looks at the target and
// at the source once more. What the target shows and the source showed has arrived.
func (l *looker) lookAround(ctx context.Context, t *comparedTable, open []*doubt) (left []*doubt, err error) {
	before, err := readSuspects(ctx, 0, l.pair.source, t, open, "")
	if err != nil {
		return nil, err
	}
	passed, err := l.pass(ctx, passPatience)
	if err != nil {
		return nil, err
	}
	if !passed {
		return nil, l.v.stuck()
	}
	if err := l.look(ctx, t, open); err != nil {
		return nil, err
	}
	for _, d := range open {
		if !d.equal() && d.target != before[d.id] {
			left = append(left, d)
		}
	}
	return left, nil
}

// look reads the suspects on the target, then at the source.
func (l *looker) look(ctx context.Context, t *comparedTable, open []*doubt) error {
	at, err := readSuspects(ctx, 1, l.pair.target, t, open, "")
	if err != nil {
		return err
	}
	from, err := readSuspects(ctx, 0, l.pair.source, t, open, "")
	if err != nil {
		return err
	}
	for _, d := range open {
		d.source, d.target = from[d.id], at[d.id]
	}
	return nil
}

// pass returns true once the target has applied all that the source had committed at
// the call, or false after the patience.
func (l *looker) pass(ctx context.Context, patience time.Duration) (bool, error) {
	at, err := l.position(ctx)
	if err != nil {
		return false, err
	}
	return l.applied(ctx, at, patience)
}

func (l *looker) position(ctx context.Context) (at string, err error) {
	if err := l.pair.source.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&at); err != nil {
		return "", fmt.Errorf("ask the source for its position: %w", err)
	}
	return at, nil
}

func (l *looker) applied(ctx context.Context, at string, patience time.Duration) (bool, error) {
	var late sql.NullInt64
	if err := l.pair.target.QueryRowContext(ctx, "SELECT MASTER_GTID_WAIT(?, "+strconv.FormatFloat(patience.Seconds(), 'f', 3, 64)+")", at).Scan(&late); err != nil {
		return false, fmt.Errorf("wait until the target has applied %s: %w", at, err)
	}
	return late.Valid && late.Int64 == 0, nil
}

// mend makes proved rows of a table with a key equal to the source's, which a session
// reads that may hold them locked.
func (l *looker) mend(ctx context.Context, t *comparedTable, from querier, proved []*doubt) error {
	if !l.v.o.Repair || t.keyless() || len(proved) == 0 {
		return nil
	}
	if err := l.mender.mend(ctx, from, t, proved); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	at, err := readSuspects(ctx, 1, l.pair.target, t, proved, "")
	if err != nil {
		return err
	}
	for _, d := range proved {
		d.repaired = at[d.id] == d.source
	}
	return nil
}

// searched are the columns by which a key is searched for.
func (t *comparedTable) searched() (columns []comparedColumn, places []int) {
	for i, c := range t.key {
		if c.class != classPeriod {
			columns, places = append(columns, c), append(places, i)
		}
	}
	return columns, places
}

// keysAre is the condition of several keys. Where collations take different
// keys for one, it holds for more rows: their digests tell them apart.
func (t *comparedTable) keysAre(of []*doubt) string {
	columns, places := t.searched()
	alternatives := make([]string, len(of))
	for i, d := range of {
		parts := make([]string, len(columns))
		for j, c := range columns {
			if parts[j] = c.literal(d.key[places[j]]); len(columns) > 1 {
				parts[j] = "t." + quote(c.name) + " = " + parts[j]
			}
		}
		alternatives[i] = strings.Join(parts, " AND ")
	}
	if len(columns) == 1 {
		return "t." + quote(columns[0].name) + " IN (" + strings.Join(alternatives, ", ") + ")"
	}
	return "(" + strings.Join(alternatives, " OR ") + ")"
}

// readSuspects reads what a side holds of suspects, by their ids.
func readSuspects(ctx context.Context, i int, q querier, t *comparedTable, of []*doubt, mode string) (map[string]seen, error) {
	return readSQL(ctx, q, of, t.readSQL(i, of)+mode)
}

func readLimited(ctx context.Context, limit string, i int, q querier, t *comparedTable, of []*doubt) (map[string]seen, error) {
	return readSQL(ctx, q, of, limit+t.readSQL(i, of))
}

func (t *comparedTable) readSQL(i int, of []*doubt) string {
	if t.keyless() {
		wanted := make(map[string]bool, len(of))
		for _, d := range of {
			wanted[d.id] = true
		}
		hash := digest(t.columns)
		return "SELECT " + hash + " AS dhow_id, '', COUNT(*) FROM " + t.from(i, false) + " WHERE " + hash + " IN (" + hexes(wanted) + ") GROUP BY dhow_id"
	}
	return "SELECT " + digest(t.key) + " AS dhow_id, " + digest(t.columns) + " AS dhow_hash, 1 FROM " + t.from(i, false) + " WHERE " + t.keysAre(of) + " ORDER BY dhow_id, dhow_hash"
}

func readSQL(ctx context.Context, q querier, of []*doubt, sql string) (map[string]seen, error) {
	found := make(map[string]seen, len(of))
	err := scan(ctx, q, sql, func(row func(...any) error) error {
		var id string
		var s seen
		if err := row(&id, &s.hash, &s.count); err != nil {
			return err
		}
		had := found[id]
		found[id] = seen{hash: had.hash + s.hash, count: had.count + s.count}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read suspects: %w", err)
	}
	return found, nil
}
