package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dhow/internal/move"
)

// On moving data a row that does not look the same on both sides may just be on
// its way. It is judged by looks in this order: the target (t1), the source (s1),
// then the stream passes, the target again (t2), the source again (s2).
//
// A source may show less than a target: a commit is sent to the target as soon as
// it is in the log, and seen by others at the source only after that (with a
// synchronous standby, a round trip after). So before each look at the source,
// those who were writing to the table when the target was looked at are waited
// for (see awaitWriters); what the target showed, the source then shows too.
//
// What the target shows of a row after the stream has passed is then what the
// source held at some moment between s1 and s2, because one row's changes arrive
// in their order. From that follows:
//
//   - t2 equals s1 or s2: the row arrived. Equal.
//   - s1 and s2 saw the same version of the row (its ctid and xmin): the source
//     held it all the time in between, and t2 is something else. Different.
//   - t1 and t2 saw the same version: what made it came before s1, and what s1 saw
//     reached the target before t2 without touching it; so s1 should have seen
//     its values, and did not. Different. This also proves rows that only the
//     target has.
//   - Else the row changes all the time; it is looked at again. After lookRounds it
//     is locked at the source against changes (and only against them: FOR SHARE)
//     for the moment that the stream takes to pass; see lookLocked.
//
// Comparing versions rather than values is what makes it a proof: a row that
// takes turns between two values has the same value in both looks, but never
// the same version. Rows of a table without a key are judged by how many there
// are with the same text, in the same way.

const (
	// lookRounds bounds the looks at a row that keeps changing.
	lookRounds = 5
	// writersPatience bounds the wait for those who write to a table at a moment,
	// writersPoll is the pause between two looks at them.
	writersPatience = time.Second
	writersPoll     = 2 * time.Millisecond
	// lockBatch is how many rows are locked at a time in the last resort.
	lockBatch = 16
	// lockPatience bounds the wait for the rows' locks, and lockHold how long they
	// are held: a request that writes one of the rows waits that long at most.
	lockPatience = 50 * time.Millisecond
	lockHold     = 150 * time.Millisecond
	// lockTries bounds the tries to lock rows that others hold.
	lockTries = 5
	// namedUndecided is how many undecided rows the log names.
	namedUndecided = 10
)

// sight is what one look at a suspect shows.
type sight struct {
	count    int64
	value    string   // tells values apart; of rows without a key, how many there are
	version  string   // tells versions apart
	versions []string // of a row with a key: the versions, each as "ctid xmin"
	at       string   // of rows without a key: where one of them is
}

// doubt is a suspect with what was seen of it.
type doubt struct {
	suspect        suspect
	source, target sight // as seen last
	s1, t1         sight
	// whole: those who were writing when the target was looked at had ended before
	// the source was; whole1 is that of s1.
	whole, whole1 bool
	difference    // once it is proved
}

// verdict is what looks say.
type verdict int

const (
	undecided verdict = iota
	equal
	different
)

// judge applies the rules above.
func (d *doubt) judge() verdict {
	if d.target.value == d.source.value || d.target.value == d.s1.value {
		return equal
	}
	sourceSteady := d.whole && d.s1.count > 0 && d.s1.version == d.source.version
	targetSteady := d.whole1 && d.t1.count > 0 && d.t1.version == d.target.version
	s := d.source
	if targetSteady && !sourceSteady {
		s = d.s1
	}
	decided := sourceSteady || targetSteady
	if d.suspect.key == nil && !targetSteady {
		// That the source's rows stayed says only that there were at least so many all the time.
		decided = sourceSteady && d.target.count < s.count
	}
	if !decided {
		return undecided
	}
	d.difference = difference{kind: move.Changed, count: 1, key: d.suspect.key, at: s.at}
	switch {
	case d.key == nil && d.target.count > s.count:
		d.kind, d.count = move.Extra, d.target.count-s.count
	case d.key == nil:
		d.kind, d.count = move.Missing, s.count-d.target.count
	case s.count == 0:
		d.kind = move.Extra
	case d.target.count == 0:
		d.kind = move.Missing
	}
	if d.kind == move.Extra {
		d.side, d.at = 1, d.target.at
	}
	return different
}

// lookAgain judges the suspects, in batches, until there are no more.
func (v *verifier) lookAgain(ctx context.Context) error {
	type identity struct {
		table *comparedTable
		row   string
	}
	var batch []*doubt
	met := map[identity]bool{}
	for {
		var more bool
		select {
		case s, ok := <-v.suspects:
			if more = ok; ok && !met[identity{s.table, s.id()}] {
				met[identity{s.table, s.id()}] = true
				batch = append(batch, &doubt{suspect: s})
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if len(batch) == suspectBatch || !more && len(batch) > 0 {
			if err := v.judge(ctx, batch); err != nil {
				return err
			}
			batch, met = nil, map[identity]bool{}
		}
		if !more {
			return nil
		}
	}
}

// judge judges a batch, and repairs what differs when that is wanted.
func (v *verifier) judge(ctx context.Context, batch []*doubt) error {
	v.leading.Lock()
	defer v.leading.Unlock()
	proved, open, err := v.prove(ctx, batch)
	if err != nil {
		return err
	}
	for _, d := range proved {
		if err := v.print(ctx, v.lead, d.suspect.table, &d.difference); err != nil {
			return err
		}
	}
	if v.o.Repair && len(proved) > 0 {
		if err := v.repair(ctx, proved); err != nil {
			return err
		}
		if err := v.conclude(ctx, proved); err != nil {
			return err
		}
	}
	for _, d := range proved {
		v.note(d.suspect.table, d.difference)
	}
	if len(open) == 0 {
		return nil
	}
	v.found.Undecided(int64(len(open)))
	for _, d := range open[:min(len(open), namedUndecided)] {
		v.m.log.Warn("a row changes too fast to be compared; the cutover compares it where it stands still", "table", d.suspect.table.source.Name.String(), "row", d.suspect.name())
	}
	return nil
}

// conclude looks at repaired rows once more.
func (v *verifier) conclude(ctx context.Context, proved []*doubt) error {
	again := make([]*doubt, len(proved))
	for i, d := range proved {
		again[i] = &doubt{suspect: d.suspect}
	}
	still, unsure, err := v.prove(ctx, again)
	if err != nil {
		return err
	}
	for i, d := range proved {
		d.repaired = !slices.Contains(still, again[i]) && !slices.Contains(unsure, again[i])
	}
	return nil
}

// name names a suspect for a log: by its key, never by its values.
func (s suspect) name() string {
	if s.key == nil {
		return "(rows without a key)"
	}
	return s.table.describe(s.key)
}

// prove looks until every suspect is judged, or has changed too often.
func (v *verifier) prove(ctx context.Context, batch []*doubt) (proved, open []*doubt, err error) {
	open = batch
	if err := v.lookBoth(ctx, open); err != nil {
		return nil, nil, err
	}
	for round := 0; len(open) > 0 && round < lookRounds; round++ {
		for _, d := range open {
			d.s1, d.t1, d.whole1 = d.source, d.target, d.whole
		}
		if !v.exact { // else nothing has moved since the looks above
			if _, err := v.pass(ctx, 0); err != nil {
				return nil, nil, fmt.Errorf("wait for the stream to pass: %w", err)
			}
			if err := v.lookBoth(ctx, open); err != nil {
				return nil, nil, err
			}
		}
		open = sift(open, &proved)
	}
	if open, err = v.lookLocked(ctx, open, &proved); err != nil {
		return nil, nil, err
	}
	return proved, open, nil
}

// sift judges doubts and returns those that stay open.
func sift(doubts []*doubt, proved *[]*doubt) []*doubt {
	var open []*doubt
	for _, d := range doubts {
		switch d.judge() {
		case different:
			*proved = append(*proved, d)
		case undecided:
			open = append(open, d)
		}
	}
	return open
}

// look looks at suspects on one side: 0 is the source, 1 the target.
func (v *verifier) look(ctx context.Context, side int, doubts []*doubt) error {
	conn := [2]*pgx.Conn{v.lead.source, v.lead.target}[side]
	for _, of := range byTable(doubts) {
		seen, err := sights(ctx, conn, of, "")
		if err != nil {
			return fmt.Errorf("look at rows of table %s on the %s again: %w", of[0].suspect.table.source.Name, [2]string{"source", "target"}[side], withoutDetail(err))
		}
		for i, d := range of {
			if side == 0 {
				d.source = seen[i]
			} else {
				d.target = seen[i]
			}
		}
	}
	return nil
}

// lookBoth looks at the target, then at the source.
func (v *verifier) lookBoth(ctx context.Context, doubts []*doubt) error {
	if err := v.look(ctx, 1, doubts); err != nil {
		return err
	}
	busy, err := v.awaitWriters(ctx, doubts)
	if err != nil {
		return err
	}
	for _, d := range doubts {
		d.whole = !slices.Contains(busy, d.suspect.table.source.OID)
	}
	return v.look(ctx, 0, doubts)
}

// writers selects who may be in the middle of a commit that wrote to a table:
// they hold its lock until others see their commit. Who is idle in a transaction
// is not committing. $1 are the tables.
const writers = `SELECT l.relation::oid, l.virtualtransaction FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
	WHERE l.locktype = 'relation' AND l.granted AND l.relation = ANY ($1) AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
	AND l.pid IS DISTINCT FROM pg_backend_pid() AND coalesce(a.state, '') NOT LIKE 'idle in transaction%'`

// awaitWriters returns once those who are writing to the doubts' tables at the
// source have ended, or names the tables where they take too long.
func (v *verifier) awaitWriters(ctx context.Context, doubts []*doubt) (busy []uint32, err error) {
	if v.exact {
		return nil, nil
	}
	var tables []uint32
	for _, of := range byTable(doubts) {
		tables = append(tables, of[0].suspect.table.source.OID)
	}
	type writer struct {
		Table       uint32
		Transaction string
	}
	var first map[writer]bool
	for until := time.Now().Add(writersPatience); ; {
		rows, err := v.lead.source.Query(ctx, writers, tables)
		if err != nil {
			return nil, fmt.Errorf("look who writes at the source: %w", err)
		}
		now, err := pgx.CollectRows(rows, pgx.RowToStructByPos[writer])
		if err != nil {
			return nil, fmt.Errorf("look who writes at the source: %w", err)
		}
		still := map[writer]bool{}
		for _, w := range now {
			if first == nil || first[w] {
				still[w] = true
			}
		}
		if first = still; len(still) == 0 {
			return nil, nil
		}
		if time.Now().After(until) {
			for w := range still {
				busy = append(busy, w.Table)
			}
			return busy, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(writersPoll):
		}
	}
}

// byTable groups doubts, in the order of each table's first.
func byTable(doubts []*doubt) [][]*doubt {
	place := map[*comparedTable]int{}
	var groups [][]*doubt
	for _, d := range doubts {
		i, ok := place[d.suspect.table]
		if !ok {
			i = len(groups)
			place[d.suspect.table] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], d)
	}
	return groups
}

// sights reads what a session sees of suspects of one table. Locking is a clause
// for rows that have a key.
func sights(ctx context.Context, conn *pgx.Conn, of []*doubt, locking string) ([]sight, error) {
	t := of[0].suspect.table
	seen := make([]sight, len(of))
	if t.keyless() {
		return seen, sightsOfTexts(ctx, conn, of, seen)
	}
	params := make([]any, len(t.key))
	names, match := make([]string, len(t.key)), make([]string, len(t.key))
	for k := range t.key {
		values := make([]string, len(of))
		for i, d := range of {
			values[i] = d.suspect.key[k]
		}
		params[k] = values
		names[k] = fmt.Sprintf("k%d", k)
		// The second condition tells 1.0 from 1.00, which are one key but two texts.
		match[k] = fmt.Sprintf(`t.%s %s %s AND %s = v.k%d COLLATE "C"`, identifiers([]string{t.key[k].Name}), t.key[k].Equal, t.key[k].cast(fmt.Sprintf("v.k%d", k)), t.keyTexts[k], k)
	}
	list := make([]string, len(t.key))
	for i := range list {
		list[i] = fmt.Sprintf("$%d::text[]", i+1)
	}
	from := fmt.Sprintf("unnest(%s) WITH ORDINALITY AS v (%s, n) JOIN ONLY %s AS t ON %s", strings.Join(list, ", "), strings.Join(names, ", "), t.source.SQL(), strings.Join(match, " AND "))
	var sql string
	if locking == "" {
		sql = "SELECT c0, c1, h0, h1 FROM " + t.hashedRows([]string{"v.n", "t.ctid::text || ' ' || t.xmin::text"}, from, "")
	} else { // a locking clause must stand where the table does
		a, b := hashes(t.text)
		sql = fmt.Sprintf("SELECT v.n, t.ctid::text || ' ' || t.xmin::text, %s, %s FROM %s %s", a, b, from, locking)
	}
	rows, err := conn.Query(ctx, sql, params...)
	if err != nil {
		return nil, err
	}
	var n int64
	var version string
	var hash [2]int64
	if _, err := pgx.ForEachRow(rows, []any{&n, &version, &hash[0], &hash[1]}, func() error {
		s := &seen[n-1]
		s.count++
		s.versions = append(s.versions, version)
		s.value += fmt.Sprintf("%d %d;", hash[0], hash[1])
		return nil
	}); err != nil {
		return nil, err
	}
	for i := range seen {
		slices.Sort(seen[i].versions)
		seen[i].version = strings.Join(seen[i].versions, ";")
	}
	return seen, nil
}

// sightsOfTexts counts the rows that have the same text.
func sightsOfTexts(ctx context.Context, conn *pgx.Conn, of []*doubt, seen []sight) error {
	a, b, place := textHashes(of)
	for i := range seen {
		seen[i].value = "0"
	}
	version, _ := hashes("c1")
	rows, err := conn.Query(ctx, fmt.Sprintf(`SELECT h0, h1, count(*), sum(%s)::text, min(c0) FROM %s JOIN unnest($1::bigint[], $2::bigint[]) AS v (a, b) ON h0 = v.a AND h1 = v.b GROUP BY h0, h1`,
		version, of[0].suspect.table.hashedRows([]string{"t.ctid::text", "t.ctid::text || ' ' || t.xmin::text"}, "", "")), a, b)
	if err != nil {
		return err
	}
	var hash [2]int64
	var s sight
	_, err = pgx.ForEachRow(rows, []any{&hash[0], &hash[1], &s.count, &s.version, &s.at}, func() error {
		s.value = strconv.FormatInt(s.count, 10)
		seen[place[hash]] = s
		return nil
	})
	return err
}

// textHashes are the hashes of suspects without a key, and the place of each.
func textHashes(of []*doubt) (a, b []int64, place map[[2]int64]int) {
	place = make(map[[2]int64]int, len(of))
	for i, d := range of {
		if _, ok := place[d.suspect.hash]; !ok {
			place[d.suspect.hash] = i
			a, b = append(a, d.suspect.hash[0]), append(b, d.suspect.hash[1])
		}
	}
	return a, b, place
}

// lookLocked judges rows that change all the time: a few at a time are locked at
// the source, so that what the stream brings until it has passed is the last.
// Rows that stay locked by others, or whose stream takes too long, stay open; so
// do rows without a key, and rows that the source does not have at this moment.
func (v *verifier) lookLocked(ctx context.Context, doubts []*doubt, proved *[]*doubt) (open []*doubt, err error) {
	var todo []*doubt
	for _, d := range doubts {
		if d.suspect.key == nil || v.exact {
			open = append(open, d)
		} else {
			todo = append(todo, d)
		}
	}
	if len(todo) == 0 {
		return open, nil
	}
	conn, err := v.m.source(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, conn)
	for _, of := range byTable(todo) {
		for few := range slices.Chunk(of, lockBatch) {
			left := few
			for try := 0; len(left) > 0 && try < lockTries; try++ {
				if left, err = v.lockAndLook(ctx, conn, left, proved); err != nil {
					return nil, err
				}
			}
			open = append(open, left...)
		}
	}
	return open, nil
}

func (v *verifier) lockAndLook(ctx context.Context, conn *pgx.Conn, few []*doubt, proved *[]*doubt) (open []*doubt, err error) {
	if _, err := conn.Exec(ctx, fmt.Sprintf("BEGIN; SET LOCAL lock_timeout = %d", lockPatience.Milliseconds())); err != nil {
		return nil, fmt.Errorf("lock a few rows of table %s on the source: %w", few[0].suspect.table.source.Name, err)
	}
	defer func() {
		last, cancel := parting(ctx)
		defer cancel()
		if _, rerr := conn.Exec(last, "ROLLBACK"); err == nil && rerr != nil {
			err = fmt.Errorf("unlock rows on the source: %w", rerr)
		}
	}()
	seen, err := sights(ctx, conn, few, "FOR SHARE OF t")
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == lockNotAvailable || pg.Code == deadlockDetected) {
		return few, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock a few rows of table %s on the source: %w", few[0].suspect.table.source.Name, withoutDetail(err))
	}
	passed, err := v.pass(ctx, lockHold)
	if err != nil {
		return nil, fmt.Errorf("wait for the stream to pass: %w", err)
	}
	if !passed {
		return few, nil
	}
	if err := v.look(ctx, 1, few); err != nil {
		return nil, err
	}
	for i, d := range few {
		// Who has locked the row sees all that was done to it.
		d.source, d.s1, d.t1, d.whole = seen[i], seen[i], sight{}, true
	}
	return sift(few, proved), nil
}
