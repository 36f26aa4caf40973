package mariadb

import (
	"context"
	"fmt"

	"dhow/internal/move"
)

// rdsReplication is the one replication of a managed server, which is steered by
// its owner's procedures: the account has no right to do it by itself. It knows no
// filters but those of the server's parameter group, and can not stop at a position.
type rdsReplication struct{ m *Mover }

func (r *rdsReplication) point(ctx context.Context, q querier, gtid string) error {
	if s, err := r.status(ctx, q); err != nil {
		return err
	} else if s != nil && s.host != "" {
		if s.host != r.m.cfg.SourceReplica.Host {
			return &move.Refused{Reason: "the target replicates from another server already, and a managed server follows only one", Fix: "end it with CALL mysql.rds_stop_replication; CALL mysql.rds_reset_external_master"}
		}
		if err := r.remove(ctx, q); err != nil {
			return err
		}
	}
	from := r.m.cfg.SourceReplica
	tls := 0
	if from.TLS {
		tls = 1
	}
	_, err := q.ExecContext(ctx, fmt.Sprintf("CALL mysql.rds_set_external_master_gtid(%s, %d, %s, %s, %s, %d)",
		quoteText(from.Host), from.Port, quoteText(from.User), quoteText(from.Password), quoteText(gtid), tls))
	if isNumber(err, errGTIDConflict, errGTIDConflictOwn) {
		return conflict(err)
	}
	if err != nil {
		return fmt.Errorf("tell the target where the source is: %w", withoutValues(err))
	}
	return nil
}

// connect changes nothing: the procedures set an address only together with a position.
func (r *rdsReplication) connect(context.Context, querier) error { return nil }

// filter takes the move's own filter for granted, which the preflight looks for in the parameter group.
func (r *rdsReplication) filter(_ context.Context, _ querier, only []Name) error {
	if only != nil {
		return errNoFilter
	}
	return nil
}

func (r *rdsReplication) filtered(context.Context, querier, []Name) (bool, error) { return true, nil }

// errNoFilter says that a replication can not be limited to some tables, or to a position.
var errNoFilter = &move.Refused{Reason: "a managed server's replication can not be limited to some tables"}

func (r *rdsReplication) start(ctx context.Context, q querier, until string) error {
	if until != "" {
		return errNoFilter
	}
	if s, err := r.status(ctx, q); err != nil {
		return err
	} else if s != nil && s.io != "No" && s.sql == "Yes" {
		return nil
	}
	if _, err := q.ExecContext(ctx, "CALL mysql.rds_start_replication"); err != nil && !isNumber(err, errAlreadyRunning) {
		return fmt.Errorf("start the target's replication: %w", err)
	}
	return nil
}

func (r *rdsReplication) stop(ctx context.Context, q querier) error {
	s, err := r.status(ctx, q)
	if err != nil {
		return err
	}
	if s == nil || s.io == "No" && s.sql == "No" {
		return nil
	}
	if _, err := q.ExecContext(ctx, "CALL mysql.rds_stop_replication"); err != nil {
		return fmt.Errorf("stop the target's replication: %w", err)
	}
	return nil
}

func (r *rdsReplication) remove(ctx context.Context, q querier) error {
	if err := r.stop(ctx, q); err != nil {
		return err
	}
	if s, err := r.status(ctx, q); err != nil || s == nil {
		return err
	}
	if _, err := q.ExecContext(ctx, "CALL mysql.rds_reset_external_master"); err != nil {
		return fmt.Errorf("remove the target's replication: %w", err)
	}
	return nil
}

func (r *rdsReplication) status(ctx context.Context, q querier) (*replicaStatus, error) {
	return readReplica(ctx, q, "SHOW SLAVE STATUS")
}
