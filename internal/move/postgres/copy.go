package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

const (
	// copyBuffer joins the rows that a source sends into pieces worth a hand-over, in bytes.
	copyBuffer = 256 << 10
	// copyReport is how many rows are counted before the board hears of them.
	copyReport = 2000
	// freezeFrom is the size, in bytes, from which a table is worth a TRUNCATE of
	// its own so that its rows are written frozen and never have to be again.
	freezeFrom = 8 << 20
)

// importSnapshot makes a session see what the snapshot shows.
func importSnapshot(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT "+quote(name)); err != nil {
		return fmt.Errorf("take the snapshot over: %w", err)
	}
	return nil
}

// copyAll copies what is not copied yet.
func (l *loader) copyAll(ctx context.Context) error {
	l.progress.phase(move.PhaseCopy)
	// What others still copy under an earlier snapshot is done, or will not be.
	if err := withdraw(ctx, l.target, l.m.stream); err != nil {
		return err
	}
	chunks, err := readPlan(ctx, l.target, l.m.stream)
	if err != nil {
		return err
	}
	c, err := l.m.catalog(ctx, l.source)
	if err != nil {
		return err
	}
	again := map[Name]bool{}
	if l.snapshot == nil && left(chunks) > 0 {
		// The first snapshot is gone with its session. A second one, with a place
		// in the stream of its own, serves for the rest.
		if err := l.takeSnapshot(ctx, l.m.stream+"_tmp", true); err != nil {
			return err
		}
		if err := l.begunAnew(ctx, c, chunks); err != nil {
			return err
		}
		if chunks, err = readPlan(ctx, l.target, l.m.stream); err != nil {
			return err
		}
		if again, err = l.mixed(ctx, chunks); err != nil {
			return err
		}
	}
	seen := &counted{}
	for _, ch := range chunks {
		t := c.table(ch.Table)
		if t == nil {
			return &move.Refused{Reason: fmt.Sprintf("table %s is gone from the source since the copy began", ch.Table), Fix: "run `dhow finish --abandon` and begin the move again"}
		}
		l.progress.board.Expect(ch.Table.String(), t.Rows*ch.Estimate/max(t.Bytes, 1), ch.Estimate)
		if ch.Done && seen.first(ch.ID) {
			l.progress.board.Done(ch.Table.String(), t.Rows*ch.Estimate/max(t.Bytes, 1), ch.Estimate)
		}
	}
	l.progress.board.ExpectSteps(left(chunks))
	if left(chunks) > 0 {
		if err := l.share(ctx); err != nil {
			return err
		}
	}
	for left(chunks) > 0 {
		if err := l.copyLeft(ctx, c, chunks, again, seen); err != nil {
			return err
		}
		if chunks, err = readPlan(ctx, l.target, l.m.stream); err != nil {
			return err
		}
		l.countOthers(c, chunks, seen)
		if left(chunks) == 0 {
			break
		}
		select { // the rest is in others' work, or was given up by one that died
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(claimedPoll):
		}
	}
	if err := withdraw(ctx, l.target, l.m.stream); err != nil {
		return err
	}
	return l.copied(ctx)
}

// countOthers counts what others have copied.
func (l *loader) countOthers(c *Catalog, chunks []chunk, seen *counted) {
	for _, ch := range chunks {
		if t := c.table(ch.Table); t != nil && ch.Done && seen.first(ch.ID) {
			l.progress.board.Done(ch.Table.String(), t.Rows*ch.Estimate/max(t.Bytes, 1), ch.Estimate)
			l.progress.board.StepDone()
		}
	}
}

func left(chunks []chunk) int {
	n := 0
	for _, c := range chunks {
		if !c.Done {
			n++
		}
	}
	return n
}

// begunAnew forgets the finished chunks of tables that can not go on in the
// middle: those without a key (their rows can not be told apart when the stream
// repeats changes) and those whose blocks were written anew.
func (l *loader) begunAnew(ctx context.Context, c *Catalog, chunks []chunk) error {
	unfinished := map[Name]bool{}
	for _, ch := range chunks {
		unfinished[ch.Table] = unfinished[ch.Table] || !ch.Done
	}
	for _, ch := range chunks {
		t := c.table(ch.Table)
		if !ch.Done || !unfinished[ch.Table] || t == nil || len(t.Key) > 0 && (ch.Kind != chunkCTID || ch.Filenode == t.Filenode) {
			continue
		}
		unfinished[ch.Table] = false // once for each table
		conn, err := newApplySession(ctx, l.m)
		if err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, conn.conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "TRUNCATE ONLY "+t.SQL()); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE dhow.chunk SET done = NULL, rows = NULL, bytes = NULL, snapshot_lsn = NULL, filenode = $4
				WHERE stream = $1 AND schema_name = $2 AND table_name = $3`, l.m.stream, t.Schema, t.Name.Name, t.Filenode)
			return err
		})
		conn.close(ctx)
		if err != nil {
			return fmt.Errorf("begin the copy of table %s anew: %w", t.Name, err)
		}
	}
	// Of the others no block was read yet: what they are like now is as good.
	for n := range unfinished {
		t := c.table(n)
		if t == nil {
			continue
		}
		if _, err := l.target.Exec(ctx, `UPDATE dhow.chunk SET filenode = $4 WHERE stream = $1 AND schema_name = $2 AND table_name = $3 AND filenode <> $4
			AND NOT EXISTS (SELECT FROM dhow.chunk d WHERE d.stream = $1 AND d.schema_name = $2 AND d.table_name = $3 AND d.done IS NOT NULL)`, l.m.stream, t.Schema, t.Name.Name, t.Filenode); err != nil {
			return fmt.Errorf("plan the copy of table %s anew: %w", t.Name, err)
		}
	}
	return nil
}

// mixed names the tables of which a part was copied under an earlier snapshot.
// Their keys are made now: a row that has moved to another block meanwhile is
// met again, and must replace its older form.
func (l *loader) mixed(ctx context.Context, chunks []chunk) (map[Name]bool, error) {
	done, open := map[Name]bool{}, map[Name]bool{}
	for _, ch := range chunks {
		done[ch.Table] = done[ch.Table] || ch.Done
		open[ch.Table] = open[ch.Table] || !ch.Done
	}
	again := map[Name]bool{}
	for n := range done {
		if done[n] && open[n] {
			again[n] = true
		}
	}
	if len(again) == 0 {
		return again, nil
	}
	return again, l.buildKeys(ctx, func(n Name) bool { return again[n] })
}

// copied notes that the copy is complete, and from where on the stream finds
// rows as it expects them.
func (l *loader) copied(ctx context.Context) error {
	l.state.Phase = phaseIndex
	err := l.target.QueryRow(ctx, `SELECT greatest(max(last), $2::text::pg_lsn, (SELECT settled_lsn FROM dhow.stream WHERE name = $1))::text FROM (SELECT min(snapshot_lsn) AS first, max(snapshot_lsn) AS last
		FROM dhow.chunk WHERE stream = $1 GROUP BY schema_name, table_name) t WHERE first <> last`, l.m.stream, l.state.Start.String()).Scan(&l.state.Settled)
	if err != nil {
		return fmt.Errorf("read under which snapshots the copy was made: %w", err)
	}
	return writeStream(ctx, l.target, l.m.stream, *l.state)
}

// copyLeft goes once over the chunks that are not done, and passes over those that
// others have in work.
func (l *loader) copyLeft(ctx context.Context, c *Catalog, chunks []chunk, again map[Name]bool, seen *counted) error {
	var todo []chunk
	number, alone := map[Name]int{}, map[Name]bool{}
	for _, ch := range chunks {
		number[ch.Table]++
		if !ch.Done {
			todo = append(todo, ch)
		}
	}
	for n, k := range number { // tables that one chunk copies whole
		alone[n] = k == 1 && !again[n]
	}
	return l.copyJobs(ctx, c, jobs(todo), alone, again, seen)
}

// copyJobs copies what nobody else has in work.
func (l *loader) copyJobs(ctx context.Context, c *Catalog, list []job, alone, again map[Name]bool, seen *counted) error {
	if len(list) == 0 {
		return nil
	}
	pace, snapshot := move.NewPace(l.m.limits.RowsPerSecond), *l.snapshot
	return l.m.workers(ctx, list, func() *copyWorker {
		return &copyWorker{m: l.m, catalog: c, snapshot: snapshot, pace: pace, board: &l.progress.board, alone: alone, again: again, counted: seen}
	})
}

// workers lets as many as may copy at once work on the jobs.
func (m *Mover) workers(ctx context.Context, list []job, worker func() *copyWorker) error {
	queue := make(chan job)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(queue)
		for _, j := range list {
			select {
			case queue <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(m.limits.Copies, len(list)) {
		g.Go(func() error { return worker().work(ctx, queue) })
	}
	return g.Wait()
}

// copyWorker copies jobs over a session to each side.
type copyWorker struct {
	m        *Mover
	catalog  *Catalog
	snapshot snapshot
	pace     *move.Pace
	board    *move.Board
	alone    map[Name]bool
	again    map[Name]bool
	counted  *counted
	// shared says that the snapshot is another process's.
	shared bool

	source *pgx.Conn
	target *applySession
}

func (w *copyWorker) open(ctx context.Context) (err error) {
	if w.source, err = w.m.source(ctx); err != nil {
		return err
	}
	if err := importSnapshot(ctx, w.source, w.snapshot.name); err != nil {
		hangUp(ctx, w.source)
		return err
	}
	if w.target, err = newApplySession(ctx, w.m); err != nil {
		hangUp(ctx, w.source)
		return err
	}
	// The rows and the note that they are there commit together, so a commit that
	// a crash of the target undoes is undone whole.
	if _, err := w.target.conn.Exec(ctx, "SET synchronous_commit = off"); err != nil {
		w.close(ctx)
		return fmt.Errorf("prepare the target's session: %w", err)
	}
	return nil
}

// work copies jobs until the queue ends.
func (w *copyWorker) work(ctx context.Context, queue <-chan job) error {
	if err := w.open(ctx); err != nil {
		return err
	}
	defer w.close(ctx)
	for j := range queue {
		if err := w.copy(ctx, j); err != nil {
			return err
		}
	}
	return nil
}

func (w *copyWorker) close(ctx context.Context) {
	hangUp(ctx, w.source)
	w.target.close(ctx)
}

// copy copies those of a job's chunks that nobody else has in work, and notes them
// as done, in one transaction.
func (w *copyWorker) copy(ctx context.Context, j job) error {
	return pgx.BeginFunc(ctx, w.target.conn, func(tx pgx.Tx) error {
		chunks, err := w.claim(ctx, tx, j)
		if err != nil || len(chunks) == 0 {
			return err
		}
		var marks strings.Builder
		for _, ch := range chunks {
			rewritten, err := w.hold(ctx, ch)
			if err != nil {
				return fmt.Errorf("copy table %s: %w", ch.Table, withoutDetail(err))
			}
			rows, bytes, err := w.chunk(ctx, ch)
			if err == nil {
				err = w.letGo(ctx)
			}
			if err != nil {
				return fmt.Errorf("copy table %s: %w", ch.Table, withoutDetail(err))
			}
			if rewritten != 0 {
				fmt.Fprintf(&marks, "UPDATE dhow.stream SET settled_lsn = greatest(settled_lsn, %s::pg_lsn) WHERE name = %s;\n", quote(rewritten.String()), quote(w.m.stream))
			}
			fmt.Fprintf(&marks, "UPDATE dhow.chunk SET done = clock_timestamp(), rows = %d, bytes = %d, snapshot_lsn = %s WHERE stream = %s AND id = %d;\n",
				rows, bytes, quote(w.snapshot.at.String()), quote(w.m.stream), ch.ID)
		}
		if _, err := tx.Exec(ctx, marks.String()); err != nil {
			return fmt.Errorf("note what is copied: %w", err)
		}
		for _, ch := range chunks {
			if w.counted.first(ch.ID) {
				w.board.StepDone()
			}
			if w.alone[ch.Table] {
				w.board.TableDone(ch.Table.String())
			}
		}
		return nil
	})
}

// errRewritten says that the blocks of a chunk's table are not those that were
// planned for any more.
var errRewritten = errors.New("it was truncated or rewritten while it was copied")

// hold locks a chunk's table against being rewritten while the chunk is read, and
// no longer: the application's TRUNCATE waits for one chunk, not for the copy.
//
// A table that was rewritten after the snapshot was taken is told by a position
// behind that. TRUNCATE leaves the snapshot an empty table, whose rows the stream
// changes before it truncates it: until it has passed the position it must not
// insist on finding them. VACUUM FULL and CLUSTER keep the rows, in other blocks.
func (w *copyWorker) hold(ctx context.Context, ch chunk) (rewritten LSN, err error) {
	t := w.catalog.table(ch.Table)
	results, err := w.source.PgConn().Exec(ctx, fmt.Sprintf(`SAVEPOINT dhow_chunk; LOCK TABLE ONLY %s IN ACCESS SHARE MODE;
		SELECT pg_relation_filenode(oid), relfilenode, pg_current_wal_insert_lsn() FROM pg_class WHERE oid = %d`, t.SQL(), t.OID)).ReadAll()
	if err != nil {
		return 0, err
	}
	rows := results[len(results)-1].Rows
	if len(rows) == 0 { // made since the snapshot: it shows none of its rows
		return 0, nil
	}
	now, then := string(rows[0][0]), string(rows[0][1])
	if ch.Kind == chunkCTID && now != strconv.FormatUint(uint64(ch.Filenode), 10) {
		return 0, errRewritten
	}
	if now == then {
		return 0, nil
	}
	err = rewritten.Scan(string(rows[0][2]))
	return rewritten, err
}

// letGo gives the lock of hold back; the snapshot stays.
func (w *copyWorker) letGo(ctx context.Context) error {
	_, err := w.source.PgConn().Exec(ctx, "ROLLBACK TO SAVEPOINT dhow_chunk; RELEASE SAVEPOINT dhow_chunk").ReadAll()
	return err
}

func (w *copyWorker) chunk(ctx context.Context, ch chunk) (rows, bytes int64, err error) {
	t := w.catalog.table(ch.Table)
	sent := t.Sent()
	if len(sent) == 0 {
		return w.nothingButRows(ctx, t, ch)
	}
	format := "binary"
	for _, c := range sent {
		if !c.Binary {
			format = "text"
		}
	}
	list := columnNames(sent)
	from := fmt.Sprintf("COPY %s (%s) TO STDOUT (FORMAT %s)", t.SQL(), list, format)
	if where := ch.where(t); where != "" {
		from = fmt.Sprintf("COPY (SELECT %s FROM ONLY %s WHERE %s) TO STDOUT (FORMAT %s)", list, t.SQL(), where, format)
	}
	if w.again[ch.Table] && ch.Kind == chunkCTID {
		return w.merge(ctx, ch, t, from, format)
	}
	options := "FORMAT " + format
	if w.alone[ch.Table] && ch.Kind == chunkWhole && ch.Estimate >= freezeFrom {
		if _, err := w.target.conn.Exec(ctx, "TRUNCATE ONLY "+t.SQL()); err != nil {
			return 0, 0, err
		}
		options += ", FREEZE"
	}
	return w.pipe(ctx, ch.Table, from, fmt.Sprintf("COPY %s (%s) FROM STDIN (%s)", t.SQL(), list, options))
}

// merge copies a chunk whose rows may be there already, in an older form.
func (w *copyWorker) merge(ctx context.Context, ch chunk, t *Table, from, format string) (rows, bytes int64, err error) {
	list := columnNames(t.Sent())
	temp := pgx.Identifier{fmt.Sprintf("dhow_merge_%d", ch.ID)}.Sanitize()
	if _, err := w.target.conn.Exec(ctx, fmt.Sprintf("CREATE TEMPORARY TABLE %s ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA", temp, list, t.SQL())); err != nil {
		return 0, 0, err
	}
	if rows, bytes, err = w.pipe(ctx, ch.Table, from, fmt.Sprintf("COPY pg_temp.%s (%s) FROM STDIN (FORMAT %s)", temp, list, format)); err != nil {
		return 0, 0, err
	}
	var sets []string
	for _, c := range t.Sent() {
		if !c.Always {
			n := identifiers([]string{c.Name})
			sets = append(sets, n+" = excluded."+n)
		}
	}
	action := "NOTHING"
	if len(sets) > 0 {
		action = "UPDATE SET " + strings.Join(sets, ", ")
	}
	_, err = w.target.conn.Exec(ctx, fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM pg_temp.%s ON CONFLICT (%s) DO %s", t.SQL(), list, list, temp, identifiers(t.Key), action))
	return rows, bytes, err
}

// nothingButRows copies a table without columns: only their number matters.
func (w *copyWorker) nothingButRows(ctx context.Context, t *Table, ch chunk) (rows, bytes int64, err error) {
	sql := "SELECT count(*) FROM ONLY " + t.SQL()
	if where := ch.where(t); where != "" {
		sql += " WHERE " + where
	}
	if err := w.source.QueryRow(ctx, sql).Scan(&rows); err != nil {
		return 0, 0, err
	}
	for range rows {
		if _, err := w.target.conn.Exec(ctx, fmt.Sprintf("INSERT INTO %s DEFAULT VALUES", t.SQL())); err != nil {
			return 0, 0, err
		}
	}
	return rows, 0, nil
}

// pipe streams a COPY of the source into a COPY of the target; memory is bounded by its buffers.
func (w *copyWorker) pipe(ctx context.Context, table Name, from, to string) (rows, bytes int64, err error) {
	r, pw := io.Pipe()
	counter := &rowCounter{ctx: ctx, out: bufio.NewWriterSize(pw, copyBuffer), pace: w.pace, heard: func(rows, bytes int64) { w.board.Done(table.String(), rows, bytes) }}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := w.source.PgConn().CopyTo(gctx, counter, from)
		if err == nil {
			err = counter.out.Flush()
		}
		counter.tell()
		_ = pw.CloseWithError(err) // never fails
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			return fmt.Errorf("read from the source: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		tag, err := w.target.conn.PgConn().CopyFrom(gctx, r, to)
		_ = r.CloseWithError(io.ErrClosedPipe) // never fails
		if err != nil {
			return fmt.Errorf("write to the target: %w", err)
		}
		rows = tag.RowsAffected()
		return nil
	})
	err = g.Wait()
	return rows, counter.bytes, err
}

// rowCounter counts the rows of a COPY: a server sends each in a message of its own.
type rowCounter struct {
	ctx   context.Context
	out   *bufio.Writer
	pace  *move.Pace
	heard func(rows, bytes int64)
	bytes int64

	newRows, newBytes int64
}

func (c *rowCounter) Write(p []byte) (int, error) {
	c.newRows++
	c.newBytes += int64(len(p))
	c.bytes += int64(len(p))
	if c.newRows == copyReport {
		if err := c.pace.Took(c.ctx, copyReport); err != nil {
			return 0, err
		}
		c.tell()
	}
	return c.out.Write(p)
}

func (c *rowCounter) tell() {
	c.heard(c.newRows, c.newBytes)
	c.newRows, c.newBytes = 0, 0
}
