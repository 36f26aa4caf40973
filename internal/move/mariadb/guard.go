package mariadb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"dhow/internal/move"
)

// The fence has two forms, see docs/adr/0012. This file is the durable one: the guard.
//
// On every moving table stand three triggers, before INSERT, UPDATE and DELETE, that
// read one row of one small table, dhow.gate, and refuse if it says so. So one
// statement closes or opens a server, however many tables it has.
//
// That table is no InnoDB table, and this is why the guard holds: a statement takes
// the gate's own lock after it has got its tables and reads the row as it then
// stands, whatever snapshot its transaction has and however long the program that
// it belongs to has been running. A stored procedure in the gate's place would be
// remembered by sessions that wait, and the rows of an InnoDB table by old snapshots.
//
// Triggers do not fire for what replication applies: the way back passes.

const (
	// guardTrigger begins the names of the guard's triggers.
	guardTrigger = ourPrefix + "guard_"
	// errRefused is the number of the guard's error, that of a server that is read-only:
	// drivers know that one.
	errRefused = 1290
	// guardText is what a refused client reads.
	guardText = "dhow: this database does not take writes: its data is served elsewhere"
)

const (
	// ddlWait bounds each wait for a table's lock while a trigger is made or dropped:
	// the application's statements queue behind ours no longer than that.
	ddlWait = 50 * time.Millisecond
	// ddlPause is left to the application between two tries.
	ddlPause = 50 * time.Millisecond
	// ddlPatience bounds all tries for one trigger.
	ddlPatience = 30 * time.Second
	// ddlWaitIdle is that wait at a target where nothing works yet, neither the
	// application nor the stream: only its disk is slow then.
	ddlWaitIdle = 2 * time.Second
	// generations bounds how often missing triggers are made anew, under other names.
	generations = 4
)

const (
	errLockWait    = 1205
	errDeadlock    = 1213
	errInterrupted = 1317
	errParse       = 1064
	errNoTable     = 1146
	errNoDatabase  = 1049
)

// gateDDL makes the gate. It is not replicated; and where a server replicates it all
// the same, each side has a row of its own.
const gateDDL = "CREATE TABLE IF NOT EXISTS dhow.gate (move VARCHAR(64) CHARACTER SET ascii NOT NULL, side VARCHAR(6) CHARACTER SET ascii NOT NULL, refuses BOOLEAN NOT NULL, PRIMARY KEY (move, side)) ENGINE = Aria TRANSACTIONAL = 1"

// forward is the name of the stream there, whichever direction this mover has: it names the move.
func (m *Mover) forward() string {
	if m.cfg.Back {
		return m.back
	}
	return m.stream
}

// steerLock is the user lock of the session that changes a server's guard.
func (m *Mover) steerLock() string { return "s:" + m.forward() } // such a name has at most 64 bytes

// steer makes a session the one that may change its server's guard. One that held
// this before is ended first, and waited for: it belongs to a process that died, and
// what it was told last must not happen later. The session must be closed, not put back.
func (m *Mover) steer(ctx context.Context, w *worker) error {
	for {
		if err := endHolder(ctx, w, m.steerLock()); err != nil {
			return err
		}
		var got int
		if err := w.QueryRowContext(ctx, "SELECT GET_LOCK(?, 0)", m.steerLock()).Scan(&got); err != nil {
			return fmt.Errorf("take the guard of the %s in hand: %w", m.named(w.side), err)
		}
		if got == 1 {
			return nil
		}
	}
}

// setGuard makes a server refuse, or take writes. The row is there already: it waits
// for the statements that have read it, and later ones read it anew.
func (m *Mover) setGuard(ctx context.Context, w *worker, refuse bool) error {
	if _, err := w.ExecContext(ctx, "UPDATE dhow.gate SET refuses = ? WHERE move = ? AND side = ?", refuse, m.forward(), m.named(w.side)); err != nil {
		return fmt.Errorf("change the guard at the %s: %w", m.named(w.side), err)
	}
	want := admits
	if refuse {
		want = refuses
	}
	says, err := m.askGuard(ctx, w, w.side)
	if err == nil && says != want {
		err = fmt.Errorf("the guard at the %s is not there: prepare again", m.named(w.side))
	}
	return err
}

// refusal is what a server's guard says.
type refusal int

const (
	noGuard refusal = iota // there is none: nothing is refused
	admits
	refuses
)

// askGuard reads a side's gate as a write would.
func (m *Mover) askGuard(ctx context.Context, q querier, side string) (refusal, error) {
	var refuse bool
	err := q.QueryRowContext(ctx, "SELECT refuses FROM dhow.gate WHERE move = ? AND side = ?", m.forward(), m.named(side)).Scan(&refuse)
	switch {
	case err == nil && refuse:
		return refuses, nil
	case err == nil:
		return admits, nil
	case isNumber(err, errNoTable, errNoDatabase), errors.Is(err, sql.ErrNoRows):
		return noGuard, nil
	}
	return noGuard, fmt.Errorf("ask the guard of database %s: %w", m.cfg.Name, err)
}

// guardTarget closes the target for all but the stream, before that runs and until the
// target is opened. It may be called again; a target that is open stays open.
func (m *Mover) guardTarget(ctx context.Context, b *move.Board) error {
	return m.quietly(ctx, target, func(ctx context.Context, w *worker) error {
		return m.ensureGuard(ctx, w, ddlWaitIdle, b)
	})
}

// ensureGuard makes the guard where it is missing: at a source it admits, at a target it
// refuses. wait bounds each wait for a table's lock; b is told, unless it is nil.
func (m *Mover) ensureGuard(ctx context.Context, w *worker, wait time.Duration, b *move.Board) error {
	if err := ensureState(ctx, w); err != nil {
		return err
	}
	if _, err := w.ExecContext(ctx, gateDDL); err != nil {
		return fmt.Errorf("make the guard at the %s: %w", m.named(w.side), err)
	}
	// The row comes before the triggers: who reads it never finds none.
	if _, err := w.ExecContext(ctx, "INSERT IGNORE INTO dhow.gate (move, side, refuses) VALUES (?, ?, ?)", m.forward(), m.named(w.side), w.side == target); err != nil {
		return fmt.Errorf("make the guard at the %s: %w", m.named(w.side), err)
	}
	for generation := range generations {
		gaps, err := m.unguarded(ctx, w)
		if err != nil || len(gaps) == 0 {
			return err
		}
		if b != nil {
			b.Begin(move.PhaseGuard, len(gaps))
		}
		err = m.alone(ctx, w, func() error {
			for _, g := range gaps {
				if err := m.createTrigger(ctx, w, g, generation, wait); err != nil {
					return err
				}
				if b != nil {
					b.StepDone()
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("the guard's triggers at the %s do not last: does somebody change its tables just now?", m.named(w.side))
}

// alone makes or drops triggers while no other session of ours does so at the server.
// Where two do, MariaDB may leave a copy of a table's file of triggers behind (t.TRG-),
// with which nobody can drop the database any more: seen with 10.11, two to ten times
// among two thousand triggers of eight sessions.
func (m *Mover) alone(ctx context.Context, w *worker, do func() error) error {
	const lock, wait = "dhow: triggers", 1 // in seconds
	for got := false; !got; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait until others have made their triggers at the %s: %w", m.named(w.side), err)
		}
		if err := w.QueryRowContext(ctx, "SELECT COALESCE(GET_LOCK(?, ?), 0)", lock, wait).Scan(&got); err != nil {
			return fmt.Errorf("take the lock of triggers at the %s: %w", m.named(w.side), err)
		}
	}
	defer func() {
		last, cancel := parting(ctx)
		defer cancel()
		_, _ = w.ExecContext(last, "DO RELEASE_LOCK(?)", lock) // the session's end does it as well
	}()
	return do()
}

// guarded is one event of one table: INSERT, UPDATE or DELETE.
type guarded struct {
	Name
	event string
}

var guardedEvents = []string{"INSERT", "UPDATE", "DELETE"} //nolint:gochecknoglobals // a constant in all but syntax

// trigger names a trigger of the guard. A table's name may be as long as a trigger's.
// A later generation's names differ: a table that was renamed has taken its triggers along.
func (m *Mover) trigger(g guarded, side string, generation int) Name {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%d", m.forward(), m.named(side), g.Name.Name, generation))
	return Name{g.Schema, guardTrigger + strings.ToLower(g.event) + "_" + hex.EncodeToString(sum[:8])}
}

// ofMove is the part of a trigger's question that tells this move's triggers from those of others.
func (m *Mover) ofMove() string {
	return "(SELECT refuses FROM dhow.gate WHERE move = " + quoteText(m.forward()) + " AND side = "
}

// asks is the question of a side's triggers.
func (m *Mover) asks(side string) string { return m.ofMove() + quoteText(m.named(side)) + ")" }

// gap is an event of a table that has no trigger of ours yet.
type gap struct {
	guarded
	// first is the application's trigger that fires first before the event: ours must
	// precede it, or what it does in other tables would come before the refusal.
	first string
}

// unguarded lists what has no trigger of ours yet, table by table.
func (m *Mover) unguarded(ctx context.Context, w *worker) ([]gap, error) {
	tables, _, err := m.tableNames(ctx, w)
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	has, first := map[guarded]bool{}, map[guarded]string{}
	err = scan(ctx, w, "SELECT event_object_schema, event_object_table, event_manipulation, action_timing, trigger_name, action_statement FROM information_schema.triggers WHERE trigger_schema"+inSchemas(tables)+
		" ORDER BY event_object_schema, event_object_table, event_manipulation, action_timing, action_order", func(row func(...any) error) error {
		var g guarded
		var timing, name, does string
		if err := row(&g.Schema, &g.Name.Name, &g.event, &timing, &name, &does); err != nil {
			return err
		}
		if strings.HasPrefix(name, ourPrefix) {
			has[g] = has[g] || strings.HasPrefix(name, guardTrigger) && strings.Contains(does, m.asks(w.side))
		} else if first[g] == "" && timing == "BEFORE" {
			first[g] = name
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the triggers: %w", err)
	}
	var gaps []gap
	for _, t := range tables {
		for _, event := range guardedEvents {
			if g := (guarded{t.Name, event}); !has[g] {
				gaps = append(gaps, gap{g, first[g]})
			}
		}
	}
	return gaps, nil
}

// inSchemas is a condition that bounds a look at information_schema to the databases of these tables.
func inSchemas(tables []lockable) string {
	var names []string
	for _, t := range tables {
		if q := quoteText(t.Schema); !slices.Contains(names, q) {
			names = append(names, q)
		}
	}
	return " IN (" + strings.Join(names, ", ") + ")"
}

func (m *Mover) createTrigger(ctx context.Context, w *worker, g gap, generation int, wait time.Duration) error {
	precedes := ""
	if g.first != "" {
		precedes = "PRECEDES " + quote(g.first) + " "
	}
	// IF NOT EXISTS: where the statement is replicated the other side has the trigger already.
	sql := fmt.Sprintf("CREATE TRIGGER IF NOT EXISTS %s BEFORE %s ON %s FOR EACH ROW %sBEGIN IF %s THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = %d, MESSAGE_TEXT = %s; END IF; END",
		m.trigger(g.guarded, w.side, generation).SQL(), g.event, g.SQL(), precedes, m.asks(w.side), errRefused, quoteText(guardText))
	if err := m.shortDDL(ctx, w, wait, sql); err != nil {
		return fmt.Errorf("guard table %s at the %s: %w", g.Name, m.named(w.side), err)
	}
	return nil
}

// shortDDL runs a statement that needs a table for itself, in tries so short that
// the application, which queues behind each, does not notice.
func (m *Mover) shortDDL(ctx context.Context, w *worker, wait time.Duration, sql string) error {
	began := time.Now()
	for try := 1; ; try++ {
		err := m.bounded(ctx, w, wait, sql)
		if err == nil {
			return nil
		}
		if !isNumber(err, errLockWait, errDeadlock, errInterrupted) {
			return err
		}
		if time.Since(began) > ddlPatience {
			return fmt.Errorf("transactions held the table open at each of %d tries, run it again when long ones have ended: %w", try, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(ddlPause):
		}
	}
}

// bounded runs a statement that may wait for locks, and has the server interrupt it
// when it has waited too long or the context ends. Closing the session would not
// do: the server goes on waiting, with what it has locked, until it notices.
func (m *Mover) bounded(ctx context.Context, w *worker, most time.Duration, sql string) error {
	running, stop := context.WithTimeout(ctx, most)
	defer stop()
	// The server's answer is waited for a little longer than the server is.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), most+partingTime)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := w.ExecContext(last, sql)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-running.Done():
	}
	killed := false
	for {
		interrupted, failed := m.interruptWait(last, w)
		killed = killed || interrupted
		select {
		case err := <-done:
			if err == nil && killed {
				_, _ = w.ExecContext(last, "DO 0") // takes the interruption that came too late
			}
			if killed && isNumber(err, errParse) { // it came while the server read the table's triggers
				return &mysql.MySQLError{Number: errInterrupted, Message: "interrupted"}
			}
			if err != nil && failed != nil && !isNumber(err, errInterrupted) {
				return errors.Join(err, failed)
			}
			return err
		case <-time.After(waiterPoll):
		}
	}
}

// interruptWait interrupts what a session of ours is doing if it waits for a lock.
// What it does when it has it is soon over, and would leave the server confused about
// the table's triggers if it was cut off.
func (m *Mover) interruptWait(ctx context.Context, busy *worker) (bool, error) {
	w, err := m.take(ctx, busy.side, ordinary)
	if err != nil {
		return false, err
	}
	defer m.putBack(w)
	var waits bool
	if err := w.QueryRowContext(ctx, "SELECT COALESCE(MAX(state), '') LIKE 'Waiting for%' FROM information_schema.processlist WHERE id = ?", busy.id).Scan(&waits); err != nil || !waits {
		return false, err
	}
	return true, kill(ctx, w, "QUERY", busy.id)
}

// kill ends a session's statement (QUERY) or the session (CONNECTION); a managed
// server has procedures for those of others.
func kill(ctx context.Context, q querier, what string, id int64) error {
	_, err := q.ExecContext(ctx, fmt.Sprintf("KILL %s %d", what, id))
	if isNumber(err, errKillDenied) {
		procedure := "mysql.rds_kill"
		if what == "QUERY" {
			procedure = "mysql.rds_kill_query"
		}
		_, err = q.ExecContext(ctx, fmt.Sprintf("CALL %s(%d)", procedure, id))
	}
	if err != nil && !isNumber(err, errNoThread) {
		return fmt.Errorf("end session %d: %w", id, err)
	}
	return nil
}

const (
	errNoThread   = 1094
	errKillDenied = 1095
)

// dropGuard removes the guard from a server: the triggers of every table, then the row that they read.
func (m *Mover) dropGuard(ctx context.Context, w *worker) error {
	triggers, err := m.guardTriggers(ctx, w)
	if err != nil {
		return err
	}
	err = m.alone(ctx, w, func() error {
		for _, t := range triggers {
			if err := m.shortDDL(ctx, w, ddlWait, "DROP TRIGGER IF EXISTS "+t.SQL()); err != nil {
				return fmt.Errorf("remove trigger %s at the %s (run `dhow finish` again): %w", t.Name, m.named(w.side), err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = w.ExecContext(ctx, "DELETE FROM dhow.gate WHERE move = ?", m.forward())
	if err != nil && !isNumber(err, errNoDatabase, errNoTable) {
		return fmt.Errorf("remove the guard at the %s: %w", m.named(w.side), err)
	}
	return nil
}

// guardTriggers are this move's triggers, table by table.
func (m *Mover) guardTriggers(ctx context.Context, q querier) ([]Name, error) {
	var names []Name
	err := scan(ctx, q, "SELECT trigger_schema, trigger_name, action_statement FROM information_schema.triggers WHERE trigger_name LIKE 'dhow\\_guard\\_%' ORDER BY event_object_schema, event_object_table, event_manipulation", func(row func(...any) error) error {
		var n Name
		var does string
		if err := row(&n.Schema, &n.Name, &does); err != nil {
			return err
		}
		if m.moves(n.Schema) && strings.Contains(does, m.ofMove()) {
			names = append(names, n)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the guard's triggers: %w", err)
	}
	return names, nil
}
