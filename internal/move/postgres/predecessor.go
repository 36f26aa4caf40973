package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A server goes on with a statement, and with a commit that it was sent, when the
// client that sent it is gone already. So after a crash, or after work that was
// cut off, an older session of this move may still write to the target: a lane's
// transaction whose position is not to be seen yet, a copied chunk, an index.
// What begins where the target stands must not begin before that has ended.
//
// Such sessions carry the stream's name as their application_name. Whoever holds
// the move's lock ends those that are left; see Mover.lock.

// writerName is the setting that marks a session of the target as a writer of this move.
func (m *Mover) writerName() string { return "SET application_name = " + quote(m.stream) }

// endPredecessors returns once no writer of this move is left on the target.
func (m *Mover) endPredecessors(ctx context.Context, target *pgx.Conn) error {
	for {
		var left bool
		err := target.QueryRow(ctx, "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database() AND pid <> pg_backend_pid()", m.stream).Scan(&left)
		if err != nil {
			return fmt.Errorf("end what an earlier session still writes to the target: %w", err)
		}
		if !left {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(fenceRetry):
		}
	}
}
