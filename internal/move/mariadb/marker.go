package mariadb

import (
	"context"
	"fmt"

	"dhow/internal/move"
)

// mark writes the stream's next marker at its source and returns it. Whatever was
// committed before stands before its position in the binary log. The session must
// not be an unlogged one.
func (m *Mover) mark(ctx context.Context, q querier) (move.Marker, error) {
	var mk move.Marker
	err := q.QueryRowContext(ctx, `INSERT INTO dhow.marker (stream, n) VALUES (?, 1)
		ON DUPLICATE KEY UPDATE n = n + 1, at = CURRENT_TIMESTAMP(6) RETURNING n`, m.stream).Scan(&mk.N)
	if err != nil {
		return mk, fmt.Errorf("write a marker at the %s: %w", m.named(source), err)
	}
	if mk.Position, err = logPosition(ctx, q); err != nil {
		return mk, err
	}
	return mk, nil
}

// logPosition is the GTID position of all that stands in a server's binary log.
func logPosition(ctx context.Context, q querier) (string, error) {
	var gtid string
	if err := q.QueryRowContext(ctx, "SELECT @@global.gtid_binlog_pos").Scan(&gtid); err != nil {
		return "", fmt.Errorf("read the server's position in its binary log: %w", err)
	}
	return gtid, nil
}
