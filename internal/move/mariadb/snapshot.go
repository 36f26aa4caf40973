package mariadb

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

// snapshotTries bounds how often the sessions begin their snapshots anew until all
// show one position. Each try takes about a millisecond; a source that commits
// thousands of times a second needs some dozens.
const snapshotTries = 400

// snapshots are sessions at the source whose transactions all see the same data:
// that of one position of the binary log.
type snapshots struct {
	conns []*sql.Conn
	gtid  string
}

func (s *snapshots) close() {
	if s == nil {
		return
	}
	for _, c := range s.conns {
		hangUp(c)
	}
}

// binlogPlace is a position as the server shows it for a snapshot.
type binlogPlace struct {
	file     string
	position uint64
}

// takeSnapshots opens up to n sessions with snapshots at one position, and no lock:
// they begin at once, and again, until all show the same position. Where a busy
// source never lets all agree, fewer do.
func (m *Mover) takeSnapshots(ctx context.Context, n int) (_ *snapshots, err error) {
	s := &snapshots{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for range n {
		conn, err := m.session(ctx, source)
		if err != nil {
			return nil, err
		}
		s.conns = append(s.conns, conn)
		for _, set := range []string{"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET SESSION wait_timeout = 2147483", "SET SESSION character_set_results = NULL"} {
			if _, err := conn.ExecContext(ctx, set); err != nil {
				return nil, fmt.Errorf("prepare a session for a snapshot: %w", err)
			}
		}
	}
	for try := range snapshotTries {
		places := make([]binlogPlace, len(s.conns))
		g, gctx := errgroup.WithContext(ctx)
		for i, conn := range s.conns {
			g.Go(func() (err error) {
				places[i], err = begin(gctx, conn)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		place, agree := mostFrequent(places)
		if place.file == "" {
			return nil, &move.Refused{Reason: fmt.Sprintf("the %s of database %s writes no binary log", m.named(source), m.cfg.Name), Fix: "set log_bin and binlog_format = ROW there and start it again"}
		}
		if wanted := max(1, n-try*n/snapshotTries); agree < wanted {
			continue
		}
		var keep []*sql.Conn
		for i, conn := range s.conns {
			if places[i] == place {
				keep = append(keep, conn)
			} else {
				hangUp(conn)
			}
		}
		s.conns = keep
		s.gtid, err = m.gtidAt(ctx, keep[0], place)
		return s, err
	}
	return nil, fmt.Errorf("take a snapshot at the %s of database %s: no session got one", m.named(source), m.cfg.Name)
}

// begin begins a snapshot in a session, in place of the one it has, and says where it stands.
func begin(ctx context.Context, conn *sql.Conn) (binlogPlace, error) {
	var p binlogPlace
	if _, err := conn.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		return p, fmt.Errorf("begin a snapshot: %w", err)
	}
	err := scan(ctx, conn, "SHOW STATUS LIKE 'binlog\\_snapshot\\_%'", func(row func(...any) error) (err error) {
		var name, value string
		if err := row(&name, &value); err != nil {
			return err
		}
		switch name {
		case "Binlog_snapshot_file":
			p.file = value
		case "Binlog_snapshot_position":
			p.position, err = strconv.ParseUint(value, 10, 64)
		}
		return err
	})
	if err != nil {
		return p, fmt.Errorf("ask where a snapshot stands: %w", err)
	}
	return p, nil
}

func mostFrequent(places []binlogPlace) (most binlogPlace, times int) {
	count := map[binlogPlace]int{}
	for _, p := range places {
		if count[p]++; count[p] > times {
			most, times = p, count[p]
		}
	}
	return most, times
}

// gtidAt turns a position into the GTIDs that were written before it.
func (m *Mover) gtidAt(ctx context.Context, q querier, p binlogPlace) (string, error) {
	var gtid sql.NullString
	if err := q.QueryRowContext(ctx, "SELECT BINLOG_GTID_POS(?, ?)", p.file, p.position).Scan(&gtid); err != nil {
		return "", fmt.Errorf("turn position %s:%d into a GTID: %w", p.file, p.position, err)
	}
	if !gtid.Valid {
		return "", &move.Refused{Reason: fmt.Sprintf("the %s of database %s knows no GTID for its position %s:%d", m.named(source), m.cfg.Name, p.file, p.position), Fix: "keep its binary logs for longer (expire_logs_days, or binlog retention hours) and begin again"}
	}
	return gtid.String, nil
}
