package mariadb

import (
	"context"
	"fmt"
)

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
