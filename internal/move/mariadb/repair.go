package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"dhow/internal/move"
)

// A repair makes the target's rows equal to the source's, and nothing else: no
// trigger acts, no foreign key cascades.
//
// It must not undo what the stream brings, nor be undone by it. For a table with a
// key it happens while the row is locked at the source and the stream has passed:
// nothing of that row is under way. For one without a key, what was proved is by how
// much a count differs; the stream changes both sides' counts alike, so that is made
// up for at any time.
//
// MariaDB offers no way to write without triggers. So those of a table, ours that
// guard the target among them, are taken away while it is locked against everybody
// else, and put back before the lock is given back. What they are is written down
// before: should we die in between, restoreTriggers puts them back.

// errDuplicate: rows stand in each other's way.
const errDuplicate = 1062

// untriggeredDDL makes the table of the triggers that a repair has taken away.
const untriggeredDDL = `CREATE TABLE IF NOT EXISTS dhow.untriggered (
	stream VARCHAR(64) NOT NULL,
	schema_name VARCHAR(64) NOT NULL,
	name VARCHAR(64) NOT NULL,
	place INT NOT NULL,
	statement LONGBLOB NOT NULL,
	settings TEXT NOT NULL,
	PRIMARY KEY (stream, schema_name, name)) ENGINE = InnoDB`

// menderSettings: a repair waits for nobody for long.
const menderSettings = "SET SESSION lock_wait_timeout = 5, innodb_lock_wait_timeout = 5"

// mender writes to the target what a repair wants.
type mender struct {
	m    *Mover
	conn *sql.Conn
}

func (m *Mover) newMender(ctx context.Context) (*mender, error) {
	conn, err := m.writer(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, menderSettings); err != nil {
		hangUp(conn)
		return nil, fmt.Errorf("prepare the session that repairs: %w", err)
	}
	return &mender{m: m, conn: conn}, nil
}

// mendable says why a table's rows can not be written, if so.
func (t *comparedTable) mendable() string {
	if t.target.Versioned {
		return "the server itself writes the history of a table with system versioning"
	}
	return ""
}

// written are the columns that a row is written with.
func (t *comparedTable) written() (columns []comparedColumn, names []string) {
	for _, c := range t.columns {
		if t.target.Column(c.name).Generated == "" {
			columns, names = append(columns, c), append(names, c.name)
		}
	}
	return columns, names
}

// rowToWrite is a row of the source, as a statement writes it.
type rowToWrite struct {
	places []string
	values []any
}

// mend replaces rows of a table with a key. From reads the source's; whether it
// worked is for the next look to say.
func (w *mender) mend(ctx context.Context, from querier, t *comparedTable, proved []*doubt) error {
	if why := t.mendable(); why != "" {
		w.m.log.Warn("rows can not be repaired: "+why, "table", t.source.String(), "rows", len(proved))
		return nil
	}
	rows := make(map[string]rowToWrite, len(proved))
	if err := t.readRows(ctx, from, digest(t.key), t.keysAre(proved), rows); err != nil {
		return err
	}
	return w.withoutTriggers(ctx, t, func() error {
		err := w.replace(ctx, t, proved, rows)
		if !isNumber(err, errDuplicate) {
			return err
		}
		stuck := 0
		for i := range proved {
			err := w.replace(ctx, t, proved[i:i+1], rows)
			switch {
			case isNumber(err, errDuplicate):
				stuck++
			case err != nil:
				return err
			}
		}
		if stuck > 0 {
			w.m.log.Warn("rows could not be repaired: others have values of theirs that must be unique; repair once more", "table", t.source.String(), "rows", stuck)
		}
		return nil
	})
}

// replace removes all wrong rows and then writes the right ones, in one transaction.
func (w *mender) replace(ctx context.Context, t *comparedTable, proved []*doubt, rows map[string]rowToWrite) error {
	return w.transaction(ctx, func() error {
		ids := make(map[string]bool, len(proved))
		for _, d := range proved {
			ids[d.id] = true
		}
		if _, err := w.conn.ExecContext(ctx, "DELETE FROM "+t.target.SQL()+" WHERE "+unaliased(t.keysAre(proved)+" AND "+digest(t.key))+" IN ("+hexes(ids)+")"); err != nil {
			return fmt.Errorf("remove wrong rows: %w", err)
		}
		for _, d := range proved {
			if row, ok := rows[d.id]; ok {
				if err := w.insert(ctx, t, row, 1); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// unaliased is an expression of a table's columns for a statement that can not give
// the table a name of its own. Values in it are hexadecimal, or printed by the server.
func unaliased(expression string) string { return strings.ReplaceAll(expression, "t.`", "`") }

// mendCounts adds or removes rows of a table without a key.
func (w *mender) mendCounts(ctx context.Context, from querier, t *comparedTable, found []difference) error {
	if why := t.mendable(); why != "" {
		w.m.log.Warn("rows can not be repaired: "+why, "table", t.source.String(), "rows", len(found))
		return nil
	}
	missing := map[string]bool{}
	for _, d := range found {
		if d.kind == move.Missing {
			missing[d.suspect.id] = true
		}
	}
	rows := make(map[string]rowToWrite, len(missing))
	hash := digest(t.columns)
	if len(missing) > 0 {
		if err := t.readRows(ctx, from, hash, hash+" IN ("+hexes(missing)+")", rows); err != nil {
			return err
		}
	}
	return w.withoutTriggers(ctx, t, func() error {
		return w.transaction(ctx, func() error {
			for i := range found {
				d := &found[i]
				if d.kind == move.Missing {
					row, ok := rows[d.suspect.id]
					if !ok {
						continue // it is gone at the source since
					}
					if err := w.insert(ctx, t, row, d.count); err != nil {
						return err
					}
					d.repaired = true
					continue
				}
				done, err := w.conn.ExecContext(ctx, fmt.Sprintf("DELETE FROM %s WHERE %s = '%s' LIMIT %d", t.target.SQL(), unaliased(hash), d.suspect.id, d.count))
				if err != nil {
					return fmt.Errorf("remove rows that are too many: %w", err)
				}
				n, err := done.RowsAffected()
				if err != nil {
					return fmt.Errorf("count removed rows: %w", err)
				}
				d.repaired = n == d.count
			}
			return nil
		})
	})
}

// readRows reads rows of the source, as they are to be written, by an id.
func (t *comparedTable) readRows(ctx context.Context, from querier, id, where string, into map[string]rowToWrite) error {
	columns, _ := t.written()
	list := ""
	for _, c := range columns {
		list += ", " + c.stored()
	}
	values := make([]sql.RawBytes, len(columns))
	var key string
	scanned := []any{&key}
	for i := range values {
		scanned = append(scanned, &values[i])
	}
	err := scan(ctx, from, "SELECT "+id+" AS dhow_id"+list+" FROM "+t.from(0, false)+" WHERE "+where, func(row func(...any) error) error {
		if err := row(scanned...); err != nil {
			return err
		}
		var r rowToWrite
		for i, c := range columns {
			value := []byte(values[i])
			if value != nil {
				value = append([]byte{}, value...)
			}
			place, param, err := c.given(value)
			if err != nil {
				return err
			}
			r.places, r.values = append(r.places, place), append(r.values, param)
		}
		into[key] = r
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the source's rows: %w", err)
	}
	return nil
}

func (w *mender) insert(ctx context.Context, t *comparedTable, row rowToWrite, times int64) error {
	_, names := t.written()
	for range times {
		if _, err := w.conn.ExecContext(ctx, "INSERT INTO "+t.target.SQL()+" ("+quoteNames(names)+") VALUES ("+strings.Join(row.places, ", ")+")", row.values...); err != nil {
			return fmt.Errorf("insert a row: %w", err)
		}
	}
	return nil
}

// transaction does something in one.
func (w *mender) transaction(ctx context.Context, do func() error) error {
	if _, err := w.conn.ExecContext(ctx, "SET autocommit = 0"); err != nil {
		return fmt.Errorf("begin a repair: %w", err)
	}
	err := do()
	end := "COMMIT"
	if err != nil {
		end = "ROLLBACK"
	}
	late, cancel := parting(ctx)
	defer cancel()
	for _, sql := range []string{end, "SET autocommit = 1"} {
		if _, e := w.conn.ExecContext(late, sql); e != nil {
			err = errors.Join(err, fmt.Errorf("end a repair: %w", e))
		}
	}
	return err
}

// withoutTriggers does something while a table has none, and is locked.
func (w *mender) withoutTriggers(ctx context.Context, t *comparedTable, do func() error) (err error) {
	triggers, err := w.triggers(ctx, t.target.Name)
	if err != nil || len(triggers) == 0 {
		if err == nil {
			err = do()
		}
		return err
	}
	if _, err := w.conn.ExecContext(ctx, untriggeredDDL); err != nil {
		return fmt.Errorf("note the triggers: %w", err)
	}
	for i, g := range triggers {
		if _, err := w.conn.ExecContext(ctx, "REPLACE INTO dhow.untriggered (stream, schema_name, name, place, statement, settings) VALUES (?, ?, ?, ?, ?, ?)",
			w.m.stream, g.name.Schema, g.name.Name, i, []byte(g.text), strings.Join(g.settings, ", ")); err != nil {
			return fmt.Errorf("note the triggers: %w", err)
		}
	}
	defer func() {
		end, cancel := parting(ctx)
		defer cancel()
		if e := w.restore(end, triggers); e != nil {
			err = errors.Join(err, e)
		}
	}()
	if _, err := w.conn.ExecContext(ctx, "LOCK TABLES "+t.target.SQL()+" WRITE"); err != nil {
		return fmt.Errorf("lock the target's table: %w", err)
	}
	for _, g := range triggers {
		if _, err := w.conn.ExecContext(ctx, "DROP TRIGGER "+g.name.SQL()); err != nil {
			return fmt.Errorf("take trigger %s away: %w", g.name, err)
		}
	}
	return do()
}

// triggers are a table's, ours too, in the order in which they are to be made again.
func (w *mender) triggers(ctx context.Context, table Name) ([]object, error) {
	var c Catalog
	err := scan(ctx, w.conn, "SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = ? AND event_object_table = ? ORDER BY event_manipulation, action_timing, action_order", func(row func(...any) error) error {
		g := Trigger{Name: Name{Schema: table.Schema}}
		if err := row(&g.Name.Name); err != nil {
			return err
		}
		c.Triggers = append(c.Triggers, g)
		return nil
	}, table.Schema, table.Name)
	if err != nil {
		return nil, fmt.Errorf("read the triggers of table %s: %w", table, err)
	}
	if len(c.Triggers) == 0 {
		return nil, nil
	}
	// A body's text is in its own session's character set, and comes back as it is.
	if _, err := w.conn.ExecContext(ctx, "SET SESSION character_set_results = NULL"); err != nil {
		return nil, fmt.Errorf("read the triggers of table %s: %w", table, err)
	}
	of, err := objects(ctx, w.conn, &c)
	return of, errors.Join(err, w.settle(ctx))
}

// settle gives the session its settings back.
func (w *mender) settle(ctx context.Context) error {
	for _, sql := range []string{"SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SET SESSION sql_mode = " + sessionSettings["sql_mode"]} {
		if _, err := w.conn.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("give the session that repairs its settings back: %w", err)
		}
	}
	return nil
}

// restore makes triggers again, gives the table's lock back and forgets them.
func (w *mender) restore(ctx context.Context, triggers []object) error {
	var errs []error
	for _, g := range triggers {
		if err := makeObject(ctx, w.conn, g); err != nil {
			errs = append(errs, fmt.Errorf("put trigger %s back (it is noted in dhow.untriggered; `dhow verify --repair` tries again): %w", g.name, err))
		}
	}
	if _, err := w.conn.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
		errs = append(errs, fmt.Errorf("unlock the target's table: %w", err))
	}
	errs = append(errs, w.settle(ctx))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, g := range triggers {
		if _, err := w.conn.ExecContext(ctx, "DELETE FROM dhow.untriggered WHERE stream = ? AND schema_name = ? AND name = ?", w.m.stream, g.name.Schema, g.name.Name); err != nil {
			return fmt.Errorf("forget the triggers: %w", err)
		}
	}
	return nil
}

// restoreTriggers puts triggers back that a repair has taken away before it died.
func (m *Mover) restoreTriggers(ctx context.Context) error {
	w, err := m.newMender(ctx)
	if err != nil {
		return err
	}
	defer hangUp(w.conn)
	var n int
	if err := w.conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'dhow' AND table_name = 'untriggered'").Scan(&n); err != nil || n == 0 {
		return err
	}
	var all []object
	err = scan(ctx, w.conn, "SELECT schema_name, name, statement, settings FROM dhow.untriggered WHERE stream = ? ORDER BY schema_name, place", func(row func(...any) error) error {
		g := object{kind: "TRIGGER"}
		var settings string
		if err := row(&g.name.Schema, &g.name.Name, &g.text, &settings); err != nil {
			return err
		}
		g.settings = []string{settings}
		all = append(all, g)
		return nil
	}, m.stream)
	if err != nil {
		return fmt.Errorf("look for triggers that a repair took away: %w", err)
	}
	if len(all) == 0 {
		return nil
	}
	return w.restore(ctx, all)
}
