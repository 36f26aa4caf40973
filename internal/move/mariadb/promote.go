package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dhow/internal/move"
)

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
		if err := m.ensureGuard(ctx, w, ddlWait, nil); err != nil {
			return err
		}
	}
	tables, sequences, err := m.sameTables(ctx, s, t)
	if err != nil {
		return err
	}
	if err := m.raiseBefore(ctx, s, t, tables); err != nil {
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

// raiseBefore sets next values while clients are served, as far as that is soon done:
// sealing does the rest. Only tables at rest are touched. Where rows are added the
// stream carries the values by itself, and it could stand still for long: the server
// changes the value under locks on the table and on those that refer to it, so that
// it and a transaction of the stream that changed one of those first would each wait
// for the other. A statement that takes too long is left alone with its session, so
// it gets one of its own.
func (m *Mover) raiseBefore(ctx context.Context, s, t *worker, tables []lockable) error {
	next, err := m.atRest(ctx, s, tables)
	if err != nil {
		return err
	}
	own, err := m.worker(ctx, target)
	if err != nil {
		return err
	}
	defer hangUp(own.Conn)
	if err := own.quiet(ctx); err != nil {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, raiseSoon)
	defer cancel()
	err = m.raiseAutoIncrements(soon, next, []*worker{own}, tables)
	if ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || isNumber(err, errLockWait, errDeadlock, errInterrupted)) {
		m.log.Warn("a table of the target is held open, or the target is busy, so a next AUTO_INCREMENT value is set under the fence", "error", err, "open", openTransactions(ctx, t))
		return nil
	}
	return err
}

// openTransactions describes the oldest transactions of a server, for people: by
// session, not by what they do, which may hold what must not reach a log.
func openTransactions(ctx context.Context, q querier) string {
	var list sql.NullString
	err := q.QueryRowContext(ctx, `SELECT GROUP_CONCAT(one ORDER BY since SEPARATOR '; ') FROM (
		SELECT t.trx_started AS since, CONCAT('session ', t.trx_mysql_thread_id, ' (', COALESCE(p.user, 'replication'), COALESCE(CONCAT(', ', NULLIF(p.state, '')), ''), ') for ',
			TIMESTAMPDIFF(SECOND, t.trx_started, NOW()), ' s') AS one
		FROM information_schema.innodb_trx t LEFT JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id ORDER BY t.trx_started LIMIT 5) AS oldest`).Scan(&list)
	if err != nil || list.String == "" {
		return "unknown"
	}
	return list.String
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
	defer hangUp(t.Conn)
	if err := m.steer(ctx, t); err != nil {
		return err
	}
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
	if err := m.enableEvents(ctx, w, events); err != nil {
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
	m.dropFence(ctx)
	m.closeSpares()
	s, err := m.worker(ctx, source)
	if err != nil {
		return err
	}
	defer hangUp(s.Conn)
	if err := s.quiet(ctx); err != nil {
		return err
	}
	if err := endHolder(ctx, s, m.fenceLock()); err != nil {
		return err
	}
	if err := m.steer(ctx, s); err != nil {
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
	if err := m.steer(ctx, t); err != nil { // an opening that was cut off must not come later
		return err
	}
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
