package mariadb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dhow/internal/move"
)

const (
	// kindSealed is the kind of the fence's row of a sealed source.
	kindSealed = "sealed"
	// waiterPoll is the pause between two looks at who waits for a locked table.
	waiterPoll = 2 * time.Millisecond
)

// seal is what a sealed source remembers, in its row of the fence, to be opened again.
type seal struct {
	// Events are those that were enabled.
	Events []timed `json:"events"`
	// ReadOnly: the server was made read_only by us.
	ReadOnly bool `json:"read_only"`
}

// Seal completes the target with what the stream does not carry, notes where the
// stream back begins, and closes the guard while the fence is held. It fails, and
// must be undone, when the fence was not held to the end.
func (m *Mover) Seal(ctx context.Context) error {
	m.mu.Lock()
	f, running := m.fence, m.running
	m.mu.Unlock()
	if f == nil {
		return errors.New("seal without a fence: fence the source first")
	}
	if running != nil {
		return errors.New("seal while the stream runs: stop it first")
	}
	s, err := m.take(ctx, source, seals)
	if err != nil {
		return err
	}
	defer hangUp(s.Conn)
	if err := m.steer(ctx, s); err != nil {
		return err
	}
	t, err := m.take(ctx, target, seals)
	if err != nil {
		return err
	}
	defer m.putBack(t)
	f.using.Lock()
	err = m.complete(ctx, f, s, t)
	if err == nil {
		err = m.closeSource(ctx, f, s, t)
	}
	f.using.Unlock()
	if err != nil {
		return err
	}
	m.dropFence(ctx)
	m.readOnly(ctx, s)
	return nil
}

// complete brings the target to the state in which it can serve.
func (m *Mover) complete(ctx context.Context, f *fence, s, t *worker) error {
	// The locks keep tables from being changed, but not from being created.
	tables, sequences, err := m.sameTables(ctx, s, t)
	if err != nil {
		return err
	}
	same := func(a, b lockable) bool { return a.Name == b.Name }
	if !slices.EqualFunc(tables, f.tables, same) || !slices.EqualFunc(sequences, f.sequences, same) {
		return fmt.Errorf("tables of database %s were created while it was fenced: try again", m.cfg.Name)
	}
	var is glance
	select {
	case is = <-f.seen:
		f.seen <- is // for another try
	case <-ctx.Done():
		return ctx.Err()
	}
	if is.err != nil {
		return is.err
	}
	if len(is.unguarded) > 0 {
		return fmt.Errorf("table %s was created since the guard was prepared: try again", is.unguarded[0].Name)
	}
	workers := []*worker{t}
	for range spareTarget - 1 {
		w, err := m.take(ctx, target, seals)
		if err != nil {
			return err
		}
		defer m.putBack(w)
		workers = append(workers, w)
	}
	if err := m.raiseAutoIncrements(ctx, is.next, workers, tables); err != nil {
		return err
	}
	return raiseSequences(ctx, f, t, sequences) // only the fence's session may read those at the source
}

// closeSource makes the fence durable.
func (m *Mover) closeSource(ctx context.Context, f *fence, s, t *worker) error {
	start, err := logPosition(ctx, t)
	if err != nil {
		return err
	}
	if start == "" {
		return &move.Refused{Reason: fmt.Sprintf("the %s of database %s writes no binary log, so there would be no way back", m.named(target), m.cfg.Name), Fix: "switch its binary log and log_slave_updates on"}
	}
	id, err := serverID(ctx, t)
	if err != nil {
		return err
	}
	if err := beginStream(ctx, s, m.back, start, id); err != nil {
		return err
	}
	row, err := m.noteSealed(ctx, s)
	if err != nil {
		return err
	}
	if err := m.closeGuard(ctx, f, s); err != nil {
		return err
	}
	if err := m.disableEvents(ctx, s, row.Events); err != nil {
		return err
	}
	if err := m.turnAway(ctx, s); err != nil {
		return err
	}
	return f.held(ctx)
}

// noteSealed writes what the source must remember, before anything of it is changed.
// What an earlier attempt noted and nobody undid is kept.
func (m *Mover) noteSealed(ctx context.Context, s *worker) (seal, error) {
	row, err := m.readSealed(ctx, s)
	if err != nil {
		return row, err
	}
	events, err := m.enabledEvents(ctx, s)
	if err != nil {
		return row, err
	}
	for _, e := range events {
		if !slices.Contains(row.Events, e) {
			row.Events = append(row.Events, e)
		}
	}
	if !row.ReadOnly {
		if row.ReadOnly, err = m.canBeReadOnly(ctx, s); err != nil {
			return row, err
		}
	}
	text, err := json.Marshal(row)
	if err != nil {
		return row, fmt.Errorf("note the seal: %w", err)
	}
	if _, err := s.ExecContext(ctx, "REPLACE INTO dhow.fence (stream, kind, detail) VALUES (?, ?, ?)", m.stream, kindSealed, string(text)); err != nil {
		return row, fmt.Errorf("note the seal: %w", err)
	}
	return row, nil
}

func (m *Mover) readSealed(ctx context.Context, q querier) (seal, error) {
	var row seal
	if has, err := hasState(ctx, q); err != nil || !has {
		return row, err
	}
	var text string
	err := q.QueryRowContext(ctx, "SELECT detail FROM dhow.fence WHERE stream = ? AND kind = ?", m.stream, kindSealed).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return row, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &row)
	}
	if err != nil {
		return row, fmt.Errorf("read the note of the seal: %w", err)
	}
	return row, nil
}

// closeGuard closes the guard. Statements that wait for a table whose engine let them
// come as far as its lock have read the gate already, and are interrupted.
func (m *Mover) closeGuard(ctx context.Context, f *fence, s *worker) error {
	if !slices.ContainsFunc(f.tables, func(l lockable) bool { return l.waits }) {
		return m.setGuard(ctx, s, true)
	}
	k, err := m.take(ctx, source, ordinary)
	if err != nil {
		return err
	}
	defer m.putBack(k)
	done := make(chan error, 1)
	go func() { done <- m.setGuard(ctx, s, true) }()
	for {
		if err := m.interruptWaiting(ctx, k, s.id, "Waiting for table level lock", nil); err != nil && ctx.Err() == nil {
			m.log.Warn("the guard may have to wait for a statement", "error", err)
		}
		select {
		case err := <-done:
			return err
		case <-time.After(waiterPoll):
		}
	}
}

// turnAway interrupts statements that wait for our locks and that no trigger stops:
// once the locks are gone they would change tables that have moved.
func (m *Mover) turnAway(ctx context.Context, s *worker) error {
	return m.interruptWaiting(ctx, s, s.id, "Waiting for table metadata lock", []string{"TRUNCATE", "ALTER", "DROP", "CREATE", "RENAME", "OPTIMIZE", "REPAIR", "EXECUTE"})
}

// interruptWaiting interrupts the statements of all but one session that are in a
// state; with words, only those that begin with one of them. Sessions whose database
// does not move are left alone.
func (m *Mover) interruptWaiting(ctx context.Context, q querier, own int64, state string, words []string) error {
	var waiting []int64
	err := scan(ctx, q, "SELECT id, COALESCE(info, ''), COALESCE(db, '') FROM information_schema.processlist WHERE state = ? AND id <> ?", func(row func(...any) error) error {
		var id int64
		var text, db string
		if err := row(&id, &text, &db); err != nil {
			return err
		}
		if db != "" && !m.moves(db) {
			return nil
		}
		text = strings.ToUpper(withoutComments(text))
		if words == nil || slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(text, w) }) {
			waiting = append(waiting, id)
		}
		return nil
	}, state, own)
	if err != nil {
		return fmt.Errorf("look for statements that wait: %w", err)
	}
	for _, id := range waiting {
		if err := kill(ctx, q, "QUERY", id); err != nil {
			return err
		}
	}
	return nil
}

// withoutComments is a statement from its first word on.
func withoutComments(text string) string {
	for {
		text = strings.TrimLeft(text, " \t\r\n(")
		rest, is := strings.CutPrefix(text, "/*")
		if !is {
			return text
		}
		_, text, is = strings.Cut(rest, "*/")
		if !is {
			return ""
		}
	}
}
