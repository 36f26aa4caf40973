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

// Prepare does before the fence what would otherwise lengthen it: the guard of both
// sides, counters that the stream does not carry, sessions.
func (m *Mover) Prepare(ctx context.Context) error {
	s, err := m.worker(ctx, source)
	if err != nil {
		return err
	}
	defer hangUp(s.Conn)
	t, err := m.worker(ctx, target)
	if err != nil {
		return err
	}
	defer hangUp(t.Conn)
	for _, w := range []*worker{s, t} {
		if err := m.triggersStayOut(ctx, w); err != nil {
			return err
		}
		if err := w.quiet(ctx); err != nil {
			return err
		}
	}
	for _, w := range []*worker{t, s} {
		if err := m.ensureGuard(ctx, w); err != nil {
			return err
		}
	}
	tables, sequences, err := m.sameTables(ctx, s, t)
	if err != nil {
		return err
	}
	next, err := m.autoIncrements(ctx, s, tables)
	if err != nil {
		return err
	}
	if err := m.raiseAutoIncrements(ctx, next, []*worker{t}, tables); err != nil {
		return err
	}
	if err := raiseSequences(ctx, s, t, sequences); err != nil {
		return err
	}
	if err := m.ownEvents(ctx, s, t); err != nil {
		return err
	}
	if err := m.restoreTriggers(ctx); err != nil { // of a repair that died
		return err
	}
	if err := m.readyPins(ctx); err != nil {
		return err
	}
	return m.openSpares(ctx)
}

// triggersStayOut refuses a server that runs triggers for what it replicates: the
// guard would refuse the change stream.
func (m *Mover) triggersStayOut(ctx context.Context, w *worker) error {
	var value string
	if err := w.QueryRowContext(ctx, "SELECT @@global.slave_run_triggers_for_rbr").Scan(&value); err != nil {
		return fmt.Errorf("ask the %s whether replication runs triggers: %w", m.named(w.side), err)
	}
	if value != "NO" {
		return &move.Refused{Reason: fmt.Sprintf("the %s of database %s runs triggers for what it replicates (slave_run_triggers_for_rbr is %s), so the guard would refuse the change stream", m.named(w.side), m.cfg.Name, value),
			Fix: "SET GLOBAL slave_run_triggers_for_rbr = 'NO', and in its configuration"}
	}
	return nil
}

// ownEvents changes the state of each event to what it is, so that a missing
// privilege shows before the fence and not behind it.
func (m *Mover) ownEvents(ctx context.Context, sides ...*worker) error {
	for _, w := range sides {
		var off []timed
		err := scan(ctx, w, "SELECT event_schema, event_name, definer FROM information_schema.events WHERE status = 'DISABLED'", func(row func(...any) error) error {
			var e timed
			if err := row(&e.Schema, &e.Event, &e.Definer); err != nil {
				return err
			}
			if m.moves(e.Schema) {
				off = append(off, e)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list the events: %w", err)
		}
		if err := disableEvents(ctx, w, off); err != nil {
			return fmt.Errorf("at the %s (the user needs EVENT, and SET USER or SUPER where events belong to others): %w", m.named(w.side), err)
		}
	}
	return nil
}

// sameTables refuses sides that do not hold the same tables and sequences.
func (m *Mover) sameTables(ctx context.Context, s, t querier) (tables, sequences []lockable, err error) {
	tables, sequences, err = m.tableNames(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	there, thereSequences, err := m.tableNames(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	if err := m.sameNames(tables, there); err != nil {
		return nil, nil, err
	}
	return tables, sequences, m.sameNames(sequences, thereSequences)
}

// sameNames compares two sorted lists.
func (m *Mover) sameNames(here, there []lockable) error {
	only := func(a, b []lockable) []string {
		var names []string
		for _, l := range a {
			if !slices.ContainsFunc(b, func(x lockable) bool { return x.Name == l.Name }) {
				names = append(names, l.String())
			}
		}
		return names
	}
	if missing := only(here, there); len(missing) > 0 {
		return fmt.Errorf("the %s of database %s lacks %s: wait until the stream has brought them", m.named(target), m.cfg.Name, strings.Join(missing, ", "))
	}
	if extra := only(there, here); len(extra) > 0 {
		return &move.Refused{Reason: fmt.Sprintf("the %s of database %s has %s, which the %s lacks", m.named(target), m.cfg.Name, strings.Join(extra, ", "), m.named(source)), Fix: "drop them there, or exclude them"}
	}
	return nil
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
	defer m.putBack(s)
	t, err := m.take(ctx, target, seals)
	if err != nil {
		return err
	}
	defer m.putBack(t)
	if err := m.complete(ctx, f, s, t); err != nil {
		return err
	}
	if err := m.closeSource(ctx, f, s, t); err != nil {
		return err
	}
	m.dropFence()
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
	if err := disableEvents(ctx, s, row.Events); err != nil {
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

// canBeReadOnly says whether the whole server moves, is not read_only yet, and lets us change that.
func (m *Mover) canBeReadOnly(ctx context.Context, s *worker) (bool, error) {
	if len(m.cfg.Exclude) > 0 {
		return false, nil
	}
	var others int
	err := scan(ctx, s, "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema', 'dhow')", func(row func(...any) error) error {
		var name string
		if err := row(&name); err != nil {
			return err
		}
		if !m.moves(name) {
			others++
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("list the databases: %w", err)
	}
	if others > 0 {
		return false, nil
	}
	var is bool
	if err := s.QueryRowContext(ctx, "SELECT @@global.read_only").Scan(&is); err != nil {
		return false, fmt.Errorf("ask the %s whether it is read_only: %w", m.named(source), err)
	}
	if is {
		return false, nil
	}
	_, err = s.ExecContext(ctx, "SET GLOBAL read_only = 0") // what it is: only to learn whether we may
	if isNumber(err, errAccessDenied) {
		return false, nil
	}
	return err == nil, err
}

// readOnly keeps ordinary users also from TRUNCATE and changes of the schema, which
// no trigger stops, where the whole server moves. The guard stands in any case.
func (m *Mover) readOnly(ctx context.Context, s *worker) {
	row, err := m.readSealed(ctx, s)
	if err == nil && row.ReadOnly {
		_, err = s.ExecContext(ctx, "SET GLOBAL read_only = 1")
	}
	if err != nil {
		m.log.Warn("the source refuses rows, but not TRUNCATE and changes of its schema", "error", err)
	}
}

// writable takes read_only back, if we set it.
func (m *Mover) writable(ctx context.Context, w *worker, row seal) error {
	if !row.ReadOnly {
		return nil
	}
	if _, err := w.ExecContext(ctx, "SET GLOBAL read_only = 0"); err != nil {
		return fmt.Errorf("let the %s take writes: %w", m.named(w.side), err)
	}
	return nil
}

// Open lets the target take writes, once the source durably refuses them.
func (m *Mover) Open(ctx context.Context) error {
	s, err := m.take(ctx, source, ordinary)
	if err != nil {
		return err
	}
	defer m.putBack(s)
	says, err := m.askGuard(ctx, s, source)
	if err != nil {
		return err
	}
	if says != refuses {
		return fmt.Errorf("database %s still takes writes at the %s: the %s stays closed", m.cfg.Name, m.named(source), m.named(target))
	}
	here, err := m.readSealed(ctx, s)
	if err != nil {
		return err
	}
	t, err := m.take(ctx, target, seals)
	if err != nil {
		return err
	}
	defer m.putBack(t)
	// A server that was started again meanwhile has started its replication too.
	r, err := m.replication(ctx, t)
	if err != nil {
		return err
	}
	if err := r.stop(ctx, t); err != nil {
		return err
	}
	return m.openSide(ctx, t, here.Events)
}

// openSide lets a side take writes: its guard, its events, its read_only. What was
// noted when it was sealed itself is forgotten.
func (m *Mover) openSide(ctx context.Context, w *worker, events []timed) error {
	was, err := m.sealOf(w.side).readSealed(ctx, w)
	if err != nil {
		return err
	}
	if err := m.setGuard(ctx, w, false); err != nil {
		return err
	}
	if err := m.writable(ctx, w, was); err != nil {
		return err
	}
	if err := enableEvents(ctx, w, events); err != nil {
		return err
	}
	if _, err := w.ExecContext(ctx, "DELETE FROM dhow.fence WHERE stream = ?", m.sealOf(w.side).stream); err != nil {
		return fmt.Errorf("forget the seal of the %s: %w", m.named(w.side), err)
	}
	return nil
}

// sealOf is the direction that seals a side: this one its source, the other the target.
func (m *Mover) sealOf(side string) *Mover {
	if side == source {
		return m
	}
	return m.reversed()
}

// Retire removes the replication of a stream that has done its work, so that no
// restart begins it again. It may be called again.
func (m *Mover) Retire(ctx context.Context) error {
	m.closeSpares()
	t, err := m.session(ctx, target)
	if err != nil {
		return err
	}
	defer hangUp(t)
	return m.removeReplication(ctx, t)
}

func (m *Mover) removeReplication(ctx context.Context, t querier) error {
	r, err := m.replication(ctx, t)
	if err != nil {
		return err
	}
	return r.remove(ctx, t)
}

// Unfence lets the source take writes again, whatever stage the fence is at.
func (m *Mover) Unfence(ctx context.Context) error {
	m.Unpin(ctx)
	m.dropFence()
	m.closeSpares()
	s, err := m.worker(ctx, source)
	if err != nil {
		return err
	}
	defer hangUp(s.Conn)
	if err := s.quiet(ctx); err != nil {
		return err
	}
	if err := m.endFenceSession(ctx, s); err != nil {
		return err
	}
	says, err := m.askGuard(ctx, s, source)
	if err != nil {
		return err
	}
	row, err := m.readSealed(ctx, s)
	if err != nil {
		return err
	}
	if says == noGuard || says == admits && len(row.Events) == 0 && !row.ReadOnly {
		return nil
	}
	t, err := m.worker(ctx, target)
	if err != nil {
		return err
	}
	defer hangUp(t.Conn)
	there, err := m.askGuard(ctx, t, target)
	if err != nil {
		return err
	}
	if says == refuses && there == admits {
		return &move.Refused{Reason: fmt.Sprintf("database %s is served by the %s: the %s must not take writes too", m.cfg.Name, m.named(target), m.named(source)), Fix: "go back with `dhow rollback`"}
	}
	return m.openSide(ctx, s, row.Events)
}

// reversed is the mover of the other direction, for what it names: it has no sessions.
func (m *Mover) reversed() *Mover {
	r := &Mover{cfg: m.cfg, limits: m.limits, log: m.log, stream: m.back, back: m.stream}
	r.cfg.Source, r.cfg.Target, r.cfg.Back = m.cfg.Target, m.cfg.Source, !m.cfg.Back
	r.cfg.SourceReplica, r.cfg.TargetReplica = m.cfg.TargetReplica, m.cfg.SourceReplica
	return r
}
