package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dhow/internal/move"
)

// serverRules are about the servers themselves: settings, capacity, clocks.
var serverRules = []rule{
	unsupported(oldestVersion, newestVersion),
	{
		id: "standby", severity: move.Loses, on: onEither,
		title:       "The server is a standby: it takes no writes.",
		sql:         `SELECT current_setting('cluster_name') AS name, 'the server' AS object WHERE pg_is_in_recovery()`,
		consequence: "a standby can hold neither the move's state nor its fence, and the snapshot of the copy comes from the writer",
		fix:         "name the writer's address under databases[].{side}.host in the estate (on Aurora the cluster's writer endpoint, never a reader's)",
	},
	{
		id: "wal-level", severity: move.Loses, on: onEither,
		title:       "The server's log does not hold what a change stream needs.",
		sql:         `SELECT 'wal_level' AS object, current_setting('wal_level') AS found WHERE current_setting('wal_level') <> 'logical'`,
		consequence: "wal_level is {found}: no change can be read from the {side}'s log (the target's is needed for the way back)",
		fix:         "ALTER SYSTEM SET wal_level = 'logical'; -- then restart the server (on RDS and Aurora: rds.logical_replication = 1 in the parameter group, then reboot)",
	},
	{
		id: "replication-slots", severity: move.Loses, on: onEither,
		title: "Too few replication slots are free.",
		sql: `SELECT 'max_replication_slots' AS object, most, used, slots, used + slots AS want FROM (SELECT current_setting('max_replication_slots')::bigint AS most, slots,
				(SELECT count(*) FROM pg_replication_slots WHERE slot_name NOT IN (stream, stream || '_tmp', back)) AS used FROM given) q WHERE most - used < slots`,
		consequence: "{used} of {most} slots are taken by others and the move needs {slots} on the {side}: the change stream could not be opened",
		fix:         "ALTER SYSTEM SET max_replication_slots = {want}" + thenRestart,
	},
	{
		id: "wal-senders", severity: move.Loses, on: onEither,
		title: "Too few sessions that send the log are free.",
		sql: `SELECT 'max_wal_senders' AS object, most, used, slots, used + slots AS want FROM (SELECT current_setting('max_wal_senders')::bigint AS most, slots,
				(SELECT count(*) FROM pg_stat_replication WHERE application_name IS DISTINCT FROM 'dhow stream ' || stream AND application_name IS DISTINCT FROM 'dhow stream ' || back
					AND application_name IS DISTINCT FROM 'dhow snapshot ' || stream) AS used FROM given) q WHERE most - used < slots`,
		consequence: "{used} of {most} are taken and the move needs {slots} on the {side}: the change stream could not be opened",
		fix:         "ALTER SYSTEM SET max_wal_senders = {want}" + thenRestart,
	},
	{
		id: "wal-kept", severity: move.Warns, on: onEither,
		title: "The server gives up a slot that falls behind before the move itself would stop.",
		sql: `SELECT 'max_slot_wal_keep_size' AS object, setting AS found, wal_mb AS want FROM pg_settings, given
			WHERE name = 'max_slot_wal_keep_size' AND setting::bigint >= 0 AND setting::bigint < wal_mb`,
		consequence: "a stream that is {found} MB behind loses its slot, and the move must begin again; limits.wal_stop is {want} MB",
		fix:         "ALTER SYSTEM SET max_slot_wal_keep_size = '{want}MB'; SELECT pg_reload_conf(); -- or lower limits.wal_stop in the estate",
	},
	{
		id: "wal-sender-timeout", severity: move.Warns, on: onEither,
		title:       "An idle server is silent for so long that it seems to be dead.",
		sql:         `SELECT 'wal_sender_timeout' AS object, setting AS found FROM pg_settings WHERE name = 'wal_sender_timeout' AND setting::bigint NOT BETWEEN 1 AND ` + strconv.FormatInt(2*receiveQuiet.Milliseconds(), 10),
		consequence: "wal_sender_timeout is {found} ms: a stream without changes is taken for dead and opened again and again",
		fix:         "ALTER ROLE {role} IN DATABASE {database} SET wal_sender_timeout = '60s'",
	},
	{
		id: "old-snapshot", severity: move.Loses, on: onSource,
		title:       "The source takes the rows of an old snapshot away.",
		sql:         `SELECT name AS object, setting AS found FROM pg_settings WHERE name = 'old_snapshot_threshold' AND setting::int >= 0`,
		consequence: "a copy that takes longer than {found} minutes fails with \"snapshot too old\"",
		fix:         "ALTER SYSTEM SET old_snapshot_threshold = -1" + thenRestart,
	},
	{
		id: "session-timeout", severity: move.Loses, on: onEither,
		title:       "The server ends sessions or transactions that the move must keep.",
		sql:         `SELECT name AS object, setting AS found FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout') AND setting::bigint > 0`,
		consequence: "{object} is {found} ms: the snapshot of a long copy, the move's lock and the fence would end with their sessions",
		fix:         "ALTER ROLE {role} IN DATABASE {database} SET {object} = 0",
	},
	{
		id: "connections", severity: move.Loses, on: onEither, fresh: true,
		title: "Too few connections are free.",
		sql: `SELECT 'max_connections' AS object, free, sessions, most + sessions - free AS want FROM (SELECT sessions, current_setting('max_connections')::bigint AS most,
				current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint - coalesce(current_setting('reserved_connections', true)::bigint, 0)
				- (SELECT count(*) FROM pg_stat_activity WHERE datid <> 0 AND pid <> pg_backend_pid()) AS free FROM given) q WHERE free < sessions`,
		consequence: "{free} connections are free and the move may need {sessions} on the {side}: it would fail, or the application would",
		fix:         "ALTER SYSTEM SET max_connections = {want}; -- then restart the server; or lower limits.copies and limits.lanes in the estate",
	},
	{
		id: "connection-limit", severity: move.Loses, on: onEither,
		title: "The user or the database may have fewer connections than the move needs.",
		sql: `SELECT 'role ' || rolname AS object, rolconnlimit AS most, sessions, format('ALTER ROLE %I CONNECTION LIMIT -1', rolname) AS alter FROM pg_roles, given WHERE rolname = current_user AND NOT rolsuper AND rolconnlimit >= 0 AND rolconnlimit < sessions
			UNION ALL SELECT 'database ' || datname, datconnlimit, sessions, format('ALTER DATABASE %I CONNECTION LIMIT -1', datname) FROM pg_database, given
				WHERE datname = current_database() AND datconnlimit >= 0 AND datconnlimit < sessions AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)`,
		consequence: "{object} may have {most} connections and the move may need {sessions} on the {side}: it would fail, or the application would",
		fix:         "{alter}; -- or lower limits.copies and limits.lanes in the estate",
		example:     "`ALTER ROLE <role> CONNECTION LIMIT -1`, or ALTER DATABASE, or lower limits.copies and limits.lanes in the estate",
	},
	{
		id: "locks", severity: move.Loses, on: onEither,
		title: "The server has no room for a lock on every table at once.",
		sql: `SELECT 'max_locks_per_transaction' AS object, locks, room, ceil(locks * 2.0 / sessions) AS want FROM (SELECT locks, current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint AS sessions,
				current_setting('max_locks_per_transaction')::bigint * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint) AS room FROM given) q WHERE locks * 2 > room`,
		consequence: "one transaction of the move holds {locks} locks (the schema is made at once, and the fence locks every table), and the {side} has room for {room} in all: it fails with \"out of shared memory\", and so may others",
		fix:         "ALTER SYSTEM SET max_locks_per_transaction = {want}" + thenRestart,
	},
	{
		id: "synchronous-standby", severity: move.Warns, on: onTarget,
		title: "Commits on the target wait for a standby.",
		sql: `SELECT 'synchronous_standby_names' AS object, setting AS found, (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS standbys
			FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting <> ''`,
		consequence: "after the cutover every write of the application waits for the standby \"{found}\", and for ever when none is connected ({standbys} are now)",
		fix:         "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf(); -- or see to it that the standby is there before the cutover",
	},
	{
		id: "unsafe-disk", severity: move.Warns, on: onTarget,
		title:       "The target does not write to its disk safely.",
		sql:         `SELECT name AS object FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'`,
		consequence: "{object} is off: a crash of the target's host can lose what was committed, or the database",
		fix:         "ALTER SYSTEM SET {object} = on; SELECT pg_reload_conf()",
	},
	{
		id: "database-size", severity: move.Warns, on: onSource, fresh: true,
		title:       "The database is large: look at the disks first.",
		sql:         `SELECT current_database() AS object, pg_size_pretty(pg_database_size(current_database())) AS size, pg_size_pretty(wal_mb << 20) AS wal FROM given WHERE pg_database_size(current_database()) >= large`,
		consequence: "the target needs {size} and a half more for sorting and its log; the source's disk must hold up to {wal} of log that the move has not read yet",
		fix:         "look at the free space of both servers; limits.wal_stop bounds the source's log",
	},
	{
		id: "setting-lower", severity: move.Warns, on: onTarget, find: lowerSettings,
		title:       "The target allows fewer connections or prepared transactions than the source.",
		consequence: "{object} is {found} on the target and {want} on the source: an application that uses them all is refused after the cutover",
		fix:         "ALTER SYSTEM SET {object} = {want}" + thenRestart,
	},
	{
		id: "setting-differs", severity: move.Warns, on: onTarget, find: differentSettings,
		title:       "A setting that changes what statements mean is another one on the target.",
		consequence: "{object} is \"{found}\" on the target and \"{want}\" on the source: the same statements do something else after the cutover",
		fix:         "ALTER DATABASE {database} SET {object} = {value}",
	},
	{
		id: "clock-skew", severity: move.Warns, on: onTarget, find: differentClocks,
		title:       "The servers' clocks differ.",
		consequence: "the {object} differ by {skew}: times that the databases write go back or jump at the cutover",
		fix:         "let both servers take their time from NTP",
	},
}

func unsupported(oldest, newest int) rule {
	return rule{
		id: "unsupported-version", severity: move.Loses, on: onEither,
		title:       "The server's version is not one that is supported.",
		sql:         fmt.Sprintf(`SELECT 'PostgreSQL ' || current_setting('server_version_num')::int / 10000 AS object WHERE current_setting('server_version_num')::int / 10000 NOT BETWEEN %d AND %d`, oldest, newest),
		consequence: fmt.Sprintf("the move is refused: versions %d to %d are supported, others were never tried", oldest, newest),
		fix:         "upgrade the {side}, or use a newer dhow",
	}
}

// lowerSettings are limits that an application may have got used to.
func lowerSettings(_ context.Context, x *inspection, _ *end) ([]finding, error) {
	var found []finding
	for _, name := range []string{"max_connections", "max_prepared_transactions"} {
		a, _ := strconv.Atoi(x.source.settings[name])
		b, _ := strconv.Atoi(x.target.settings[name])
		if b < a {
			found = append(found, finding{"object": name, "found": strconv.Itoa(b), "want": strconv.Itoa(a)})
		}
	}
	return found, nil
}

// meaningful are the settings that change what statements mean or which are taken.
var meaningful = []string{
	"DateStyle", "IntervalStyle", "TimeZone", "array_nulls", "bytea_output", "default_text_search_config", "default_transaction_deferrable", "default_transaction_isolation",
	"default_transaction_read_only", "extra_float_digits", "idle_in_transaction_session_timeout", "lc_monetary", "lc_numeric", "lc_time", "lo_compat_privileges", "lock_timeout",
	"quote_all_identifiers", "row_security", "search_path", "standard_conforming_strings", "statement_timeout", "synchronous_commit", "transform_null_equals", "xmlbinary", "xmloption",
}

func differentSettings(_ context.Context, x *inspection, _ *end) ([]finding, error) {
	var found []finding
	for _, name := range meaningful {
		want, known := x.source.settings[name]
		have, too := x.target.settings[name]
		if !known || !too || want == have || strings.HasPrefix(name, "lc_") && localeName(want) == localeName(have) {
			continue
		}
		value := quote(want)
		if name == "search_path" {
			value = want // a list of names, quoted already
		}
		found = append(found, finding{"object": name, "found": have, "want": want, "value": strings.TrimSpace(value)})
	}
	return found, nil
}

// clockTolerance is how far two clocks may differ before it is told.
const clockTolerance = 2 * time.Second

func differentClocks(_ context.Context, x *inspection, _ *end) ([]finding, error) {
	if by := skew(x.source, x.target); by > clockTolerance {
		return []finding{{"object": "clocks", "skew": by.Round(time.Second / 10).String()}}, nil
	}
	return nil, nil
}

// skew is by how much two servers' clocks differ at least.
func skew(a, b *end) time.Duration {
	ahead := func(e *end) time.Duration { return e.clock.Sub(e.began.Add(e.trip / 2)) }
	return max(0, (ahead(a)-ahead(b)).Abs()-(a.trip+b.trip)/2)
}
