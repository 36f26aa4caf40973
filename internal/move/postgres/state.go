package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"dhow/internal/move"
)

// The move's state lives in the databases, in a schema of its own, so that it
// commits together with what it describes. All of it is dropped by Finish.
//
//	stream    one row for each change stream that ends in this database: how far
//	          the move is, and where the stream began
//	position  how far each lane of a stream has applied, written in the very
//	          transaction that applies it
//	chunk     the pieces of the copy and which are done, likewise
//	shared    the snapshot under which others may copy chunks too
//	postdata  the indexes, constraints and so on that are made after the copy
//	marker    numbers written at a stream's source and seen by the applier: the
//	          only rows of this schema that are published
//	fence     a row while this database refuses writes
//	shape     the source's schema as this database last followed it, piece by piece
const stateDDL = `
CREATE SCHEMA IF NOT EXISTS dhow;
COMMENT ON SCHEMA dhow IS 'state of a move by dhow; removed by "dhow finish"';
CREATE TABLE IF NOT EXISTS dhow.stream (
	name text PRIMARY KEY,
	phase text NOT NULL,
	slot text NOT NULL,
	source_id text NOT NULL,
	lanes int NOT NULL,
	start_lsn pg_lsn,
	settled_lsn pg_lsn,
	created timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE IF NOT EXISTS dhow.position (
	stream text, lane int, commit_lsn pg_lsn NOT NULL, ordinal bigint NOT NULL,
	PRIMARY KEY (stream, lane));
CREATE TABLE IF NOT EXISTS dhow.dealing (
	stream text, schema_name text, table_name text, together boolean NOT NULL,
	PRIMARY KEY (stream, schema_name, table_name));
CREATE TABLE IF NOT EXISTS dhow.chunk (
	stream text, id int, schema_name text NOT NULL, table_name text NOT NULL, filenode oid NOT NULL,
	kind text NOT NULL, low text, high text, estimate bigint NOT NULL,
	snapshot_lsn pg_lsn, rows bigint, bytes bigint, done timestamptz,
	PRIMARY KEY (stream, id));
CREATE TABLE IF NOT EXISTS dhow.shared (stream text PRIMARY KEY, snapshot text NOT NULL, lsn pg_lsn NOT NULL);
CREATE TABLE IF NOT EXISTS dhow.postdata (
	stream text, id int, type text NOT NULL, name text NOT NULL, sql text NOT NULL, size bigint NOT NULL, done timestamptz,
	PRIMARY KEY (stream, id));
CREATE TABLE IF NOT EXISTS dhow.marker (stream text PRIMARY KEY, n bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE IF NOT EXISTS dhow.fence (move text PRIMARY KEY, reason text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE IF NOT EXISTS dhow.shape (
	stream text NOT NULL, kind text NOT NULL, schema_name text NOT NULL, relation text NOT NULL, item text NOT NULL, detail text NOT NULL, local text NOT NULL);`

// stateLock serialises the making of the schema: CREATE ... IF NOT EXISTS is not safe against itself.
const stateLock = 0x64686f77

// ensureState creates the dhow schema where it is missing.
func ensureState(ctx context.Context, conn *pgx.Conn) error {
	sql := fmt.Sprintf("BEGIN; SET LOCAL client_min_messages = warning; SELECT pg_advisory_xact_lock(%d);%s COMMIT", stateLock, stateDDL)
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		last, cancel := parting(ctx)
		defer cancel()
		_, _ = conn.Exec(last, "ROLLBACK")
		return fmt.Errorf("create the schema dhow in database %s: %w", conn.Config().Database, err)
	}
	return nil
}

// hasState says whether the dhow schema is there.
func hasState(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var has bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('dhow.fence') IS NOT NULL").Scan(&has); err != nil {
		return false, fmt.Errorf("look for the schema dhow: %w", err)
	}
	return has, nil
}

// maxName is the longest slot name that PostgreSQL takes, in bytes; slots take [a-z0-9_] only.
const maxName = 63

// phases of a stream's row, in order.
const (
	phaseSchema = "schema" // the target gets its schema; nothing is copied
	phaseCopy   = "copy"
	phaseIndex  = "index" // copied; indexes and constraints are built
	phaseStream = "stream"
)

// streamState is a row of dhow.stream.
type streamState struct {
	Phase    string
	Slot     string
	SourceID string
	Lanes    int
	// Start is the commit position behind which changes count; Settled is the
	// position behind which the target holds exactly the source's state, so that
	// a change that finds no row is an error. Before it (only after a copy that
	// went on under a second snapshot) changes are applied idempotently.
	Start, Settled LSN
}

// readStream reads a stream's row at its target; nil when there is none.
func readStream(ctx context.Context, conn *pgx.Conn, name string) (*streamState, error) {
	if has, err := hasState(ctx, conn); err != nil || !has {
		return nil, err
	}
	var s streamState
	err := conn.QueryRow(ctx, `SELECT phase, slot, source_id, lanes, coalesce(start_lsn, '0/0')::text, coalesce(settled_lsn, '0/0')::text FROM dhow.stream WHERE name = $1`, name).
		Scan(&s.Phase, &s.Slot, &s.SourceID, &s.Lanes, &s.Start, &s.Settled)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of stream %s: %w", name, err)
	}
	return &s, nil
}

// writeStream writes a stream's row, in the caller's transaction if it has one.
func writeStream(ctx context.Context, conn querier, name string, s streamState) error {
	_, err := conn.Exec(ctx, `INSERT INTO dhow.stream (name, phase, slot, source_id, lanes, start_lsn, settled_lsn) VALUES ($1, $2, $3, $4, $5, $6::text::pg_lsn, $7::text::pg_lsn)
		ON CONFLICT (name) DO UPDATE SET phase = excluded.phase, slot = excluded.slot, source_id = excluded.source_id, lanes = excluded.lanes,
			start_lsn = excluded.start_lsn, settled_lsn = excluded.settled_lsn`,
		name, s.Phase, s.Slot, s.SourceID, s.Lanes, s.Start.String(), s.Settled.String())
	if err != nil {
		return fmt.Errorf("write the state of stream %s: %w", name, err)
	}
	return nil
}

// databaseID tells databases apart, also when they are named by several addresses.
func databaseID(ctx context.Context, conn *pgx.Conn) (string, error) {
	var id string
	err := conn.QueryRow(ctx, "SELECT system_identifier || '/' || current_database() FROM pg_control_system()").Scan(&id)
	if err != nil {
		return "", fmt.Errorf("read the identity of database %s: %w", conn.Config().Database, err)
	}
	return id, nil
}

// mark writes the stream's next marker at its source and returns it. What
// committed before has a smaller position.
func (m *Mover) mark(ctx context.Context, conn *pgx.Conn) (move.Marker, error) {
	var mk move.Marker
	err := conn.QueryRow(ctx, `INSERT INTO dhow.marker (stream, n) VALUES ($1, 1)
		ON CONFLICT (stream) DO UPDATE SET n = marker.n + 1, at = clock_timestamp() RETURNING n`, m.stream).Scan(&mk.N)
	if err != nil {
		return mk, fmt.Errorf("write a marker at the source: %w", err)
	}
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&mk.Position); err != nil {
		return mk, fmt.Errorf("read the source's log position: %w", err)
	}
	return mk, nil
}
