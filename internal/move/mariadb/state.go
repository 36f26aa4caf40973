package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/go-sql-driver/mysql"
)

// stateDatabase holds the move's state, on both servers. Finish drops it.
const stateDatabase = "dhow"

// stateDDL makes the tables of the state:
//
//	stream  one row for each change stream that ends at this server: how far the move
//	        is, and where the stream begins
//	chunk   the pieces of the copy and which are done, written together with their rows
//	marker  numbers written at a stream's source and seen at its target: the only
//	        table of this database that must be replicated
//	fence   what a sealed server must be given back when it is opened again
//
// and the gate, see guard.go.
//
// Their rows bear the stream's name and harm nobody where they are replicated.
var stateDDL = []string{ //nolint:gochecknoglobals // a constant in all but syntax
	"CREATE DATABASE IF NOT EXISTS dhow CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
	`CREATE TABLE IF NOT EXISTS dhow.stream (
		name VARCHAR(64) NOT NULL PRIMARY KEY,
		phase VARCHAR(16) NOT NULL,
		start_gtid TEXT NOT NULL,
		settled_gtid TEXT NOT NULL,
		positioned BOOLEAN NOT NULL DEFAULT FALSE,
		source_id VARCHAR(64) NOT NULL,
		created TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)) ENGINE = InnoDB`,
	`CREATE TABLE IF NOT EXISTS dhow.chunk (
		stream VARCHAR(64) NOT NULL,
		id INT NOT NULL,
		schema_name VARCHAR(64) NOT NULL,
		table_name VARCHAR(64) NOT NULL,
		low LONGTEXT NOT NULL,
		high LONGTEXT NOT NULL,
		estimate BIGINT NOT NULL,
		deferred BOOLEAN NOT NULL,
		done_gtid TEXT NULL,
		done_rows BIGINT NULL,
		done_bytes BIGINT NULL,
		PRIMARY KEY (stream, id)) ENGINE = InnoDB`,
	`CREATE TABLE IF NOT EXISTS dhow.marker (
		stream VARCHAR(64) NOT NULL PRIMARY KEY,
		n BIGINT NOT NULL,
		at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)) ENGINE = InnoDB`,
	`CREATE TABLE IF NOT EXISTS dhow.fence (
		stream VARCHAR(64) NOT NULL PRIMARY KEY,
		kind VARCHAR(16) NOT NULL,
		detail LONGTEXT NOT NULL DEFAULT '',
		at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)) ENGINE = InnoDB`,
}

// ensureState makes the state's database where it is missing. It may be called again.
func ensureState(ctx context.Context, q querier) error {
	for _, sql := range stateDDL {
		if _, err := q.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("create the database %s for the move's state: %w", stateDatabase, err)
		}
	}
	return nil
}

// hasState says whether the state's database is there, with its last table.
func hasState(ctx context.Context, q querier) (bool, error) {
	var n int
	if err := q.QueryRowContext(ctx, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'dhow' AND table_name = 'fence'").Scan(&n); err != nil {
		return false, fmt.Errorf("look for the database %s: %w", stateDatabase, err)
	}
	return n > 0, nil
}

// Numbers of the server's errors that decide what is done.
const (
	errAccessDenied   = 1227 // a privilege is missing: SUPER or what replaced it
	errSpecialMissing = 1228
)

// isNumber says whether a server's error has one of the numbers.
func isNumber(err error, numbers ...uint16) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && slices.Contains(numbers, e.Number)
}

// unlogged keeps what a session writes out of the server's binary log, so that the
// other side never reads it. It says whether it could: a managed server refuses.
func unlogged(ctx context.Context, q querier) (bool, error) {
	_, err := q.ExecContext(ctx, "SET SESSION sql_log_bin = 0")
	if isNumber(err, errAccessDenied, errSpecialMissing) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("keep a session out of the binary log: %w", err)
	}
	return true, nil
}

// phases of a stream's row, in order.
const (
	phaseSchema = "schema" // the target gets its schema; nothing is copied
	phaseCopy   = "copy"
	phaseSettle = "settle" // copied under several snapshots: the stream runs to the last of them, forgiving
	phaseIndex  = "index"  // copied; indexes, constraints, views and so on are made
	phaseStream = "stream"
)

// streamState is a row of dhow.stream.
type streamState struct {
	Phase string
	// Start is the GTID position from where the stream begins, Settled that of the
	// last snapshot of the copy where there was more than one, else empty.
	Start, Settled string
	// Positioned: the replication was told to begin at Start; from then on the
	// server itself knows how far it is.
	Positioned bool
	// SourceID tells the source from any other server.
	SourceID string
}

// readStream reads a stream's row at its target; nil when there is none.
func readStream(ctx context.Context, q querier, name string) (*streamState, error) {
	if has, err := hasState(ctx, q); err != nil || !has {
		return nil, err
	}
	var s streamState
	err := q.QueryRowContext(ctx, "SELECT phase, start_gtid, settled_gtid, positioned, source_id FROM dhow.stream WHERE name = ?", name).
		Scan(&s.Phase, &s.Start, &s.Settled, &s.Positioned, &s.SourceID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of stream %s: %w", name, err)
	}
	return &s, nil
}

// writeStream writes a stream's row at its target.
func writeStream(ctx context.Context, q querier, name string, s streamState) error {
	_, err := q.ExecContext(ctx, `INSERT INTO dhow.stream (name, phase, start_gtid, settled_gtid, positioned, source_id) VALUES (?, ?, ?, ?, ?, ?)
		ON DUPLICATE KEY UPDATE phase = VALUES(phase), start_gtid = VALUES(start_gtid), settled_gtid = VALUES(settled_gtid), positioned = VALUES(positioned), source_id = VALUES(source_id)`,
		name, s.Phase, s.Start, s.Settled, s.Positioned, s.SourceID)
	if err != nil {
		return fmt.Errorf("write the state of stream %s: %w", name, err)
	}
	return nil
}

// beginStream lets a stream begin at a position, at which its target is known to
// equal its source: nothing is copied. The sealing of one direction calls it for
// the other, on the server that is the other's target.
func beginStream(ctx context.Context, q querier, name, gtid, sourceID string) error {
	return writeStream(ctx, q, name, streamState{Phase: phaseStream, Start: gtid, SourceID: sourceID})
}

// serverID tells a server from every other that its owner has; it is replication's own number.
func serverID(ctx context.Context, q querier) (string, error) {
	var id string
	if err := q.QueryRowContext(ctx, "SELECT CONCAT(@@server_id, '')").Scan(&id); err != nil {
		return "", fmt.Errorf("ask the server for its id: %w", err)
	}
	return id, nil
}

// maxName bounds a stream's name, in bytes: a replication connection's has at most 64.
const maxName = 60
