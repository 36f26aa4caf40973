package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// A copy belongs to one process, which holds the move's lock and the snapshot. It
// says in dhow.shared what that snapshot is called, and others may copy chunks
// under it:
//
//	claim     the rows of the chunks in dhow.chunk are locked by the transaction
//	          that copies them, so that no two processes copy the same
//	share     the row of dhow.shared is locked against its withdrawal by each
//	          helper's transaction, so that no chunk commits under a snapshot that
//	          the owner has given up: a table's chunks would be of two times, and
//	          the owner would not know
//
// The owner withdraws the snapshot before it takes another one and before it
// builds indexes. A helper that dies leaves what it had claimed to the others.

const (
	// assistPoll is the pause between two looks for a copy to help with, or for
	// chunks that others have in work.
	assistPoll = time.Second
	// claimedPoll is the owner's pause while the last chunks are in others' work.
	claimedPoll = 200 * time.Millisecond
)

// share lets others copy under the snapshot.
func (l *loader) share(ctx context.Context) error {
	if err := ensureState(ctx, l.target); err != nil {
		return err
	}
	_, err := l.target.Exec(ctx, `INSERT INTO dhow.shared (stream, snapshot, lsn) VALUES ($1, $2, $3::text::pg_lsn)
		ON CONFLICT (stream) DO UPDATE SET snapshot = excluded.snapshot, lsn = excluded.lsn`, l.m.stream, l.snapshot.name, l.snapshot.at.String())
	if err != nil {
		return fmt.Errorf("let others copy too: %w", err)
	}
	return nil
}

// withdraw ends that; it returns once no chunk is copied under the snapshot that was shared.
func withdraw(ctx context.Context, conn *pgx.Conn, stream string) error {
	var there bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('dhow.shared') IS NOT NULL").Scan(&there); err != nil {
		return fmt.Errorf("look whether others copy too: %w", err)
	}
	if !there { // a move that an older dhow began
		return nil
	}
	if _, err := conn.Exec(ctx, "DELETE FROM dhow.shared WHERE stream = $1", stream); err != nil {
		return fmt.Errorf("wait until nobody else copies: %w", err)
	}
	return nil
}

// errWithdrawn says that the owner has given the snapshot up.
var errWithdrawn = errors.New("the copy's snapshot was given up")

// claim locks chunks that are not done, and leaves out those that others have in work.
func (w *copyWorker) claim(ctx context.Context, tx pgx.Tx, j job) ([]chunk, error) {
	if w.shared {
		var there bool
		err := tx.QueryRow(ctx, "SELECT true FROM dhow.shared WHERE stream = $1 AND snapshot = $2 AND lsn = $3::text::pg_lsn FOR SHARE", w.m.stream, w.snapshot.name, w.snapshot.at.String()).Scan(&there)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, errWithdrawn
		}
		if err != nil {
			return nil, fmt.Errorf("keep the copy's snapshot: %w", err)
		}
	}
	ids := make([]int, len(j.chunks))
	for i, ch := range j.chunks {
		ids[i] = ch.ID
	}
	rows, err := tx.Query(ctx, "SELECT id FROM dhow.chunk WHERE stream = $1 AND id = ANY($2) AND done IS NULL ORDER BY id FOR UPDATE SKIP LOCKED", w.m.stream, ids)
	if err != nil {
		return nil, fmt.Errorf("claim chunks of the copy: %w", err)
	}
	free, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("claim chunks of the copy: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(j.chunks), func(ch chunk) bool { return !slices.Contains(free, ch.ID) }), nil
}

// counted notes which chunks the board has heard of.
type counted struct {
	mu     sync.Mutex
	chunks map[int]bool
}

// first says whether a chunk is counted for the first time.
func (c *counted) first(id int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chunks == nil {
		c.chunks = map[int]bool{}
	}
	was := c.chunks[id]
	c.chunks[id] = true
	return !was
}

// Assist copies chunks of a copy that another process owns, until that copy is
// over. It waits for one to begin. part, from 0, of parts says where among the
// chunks it begins, so that few want the same. It changes nothing but the target's
// rows, so it may be killed, and called again, at any time and in any number.
func (m *Mover) Assist(ctx context.Context, part, parts int, report func(move.Progress)) error {
	if m.cfg.Back {
		return nil
	}
	p := newProgress(m.cfg.Name, report)
	stop := p.start(ctx)
	defer stop()
	p.phase(move.PhaseCopy)
	for {
		over, err := m.assistOnce(ctx, p, part, parts)
		if over || ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the owner meets it too, if it is not the helper's own
			m.log.Info("helping with the copy goes on", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(assistPoll):
		}
	}
}

// assistOnce copies what is left under the snapshot that is shared now.
func (m *Mover) assistOnce(ctx context.Context, p *progress, part, parts int) (over bool, err error) {
	target, err := m.target(ctx)
	if err != nil {
		return false, err
	}
	defer hangUp(ctx, target)
	state, err := readStream(ctx, target, m.stream)
	if err != nil || state == nil || state.Phase == phaseSchema {
		return false, err
	}
	if state.Phase != phaseCopy {
		return true, nil
	}
	s := snapshot{}
	err = target.QueryRow(ctx, "SELECT snapshot, lsn::text FROM dhow.shared WHERE stream = $1", m.stream).Scan(&s.name, &s.at)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the copy's snapshot: %w", err)
	}
	chunks, err := readPlan(ctx, target, m.stream)
	if err != nil {
		return false, err
	}
	source, err := m.source(ctx)
	if err != nil {
		return false, err
	}
	defer hangUp(ctx, source)
	id, err := databaseID(ctx, source)
	if err != nil {
		return false, err
	}
	if id != state.SourceID {
		return false, &move.Refused{Reason: fmt.Sprintf("the target of %s holds a move from another source", m.cfg.Name), Fix: "name the right source in the estate"}
	}
	c, err := m.catalog(ctx, source)
	if err != nil {
		return false, err
	}
	return false, m.assistUnder(ctx, p, c, s, chunks, part, parts)
}

// assistUnder copies chunks under a snapshot. A table of which a part was copied
// under another one is the owner's alone: its rows have to be merged.
func (m *Mover) assistUnder(ctx context.Context, p *progress, c *Catalog, s snapshot, chunks []chunk, part, parts int) error {
	number, other := map[Name]int{}, map[Name]bool{}
	for _, ch := range chunks {
		number[ch.Table]++
		other[ch.Table] = other[ch.Table] || ch.Done && ch.At != s.at
	}
	var todo []chunk
	alone := map[Name]bool{}
	for _, ch := range chunks {
		if !ch.Done && !other[ch.Table] && c.table(ch.Table) != nil {
			todo = append(todo, ch)
			alone[ch.Table] = number[ch.Table] == 1
		}
	}
	if len(todo) == 0 {
		return nil
	}
	list := jobs(todo)
	at := len(list) * (part + 1) / (parts + 1) // the owner begins at the first
	list = append(slices.Clone(list[at:]), list[:at]...)
	pace, seen := move.NewPace(m.limits.RowsPerSecond), &counted{}
	return m.workers(ctx, list, func() *copyWorker {
		return &copyWorker{m: m, catalog: c, snapshot: s, pace: pace, board: &p.board, alone: alone, counted: seen, shared: true}
	})
}
