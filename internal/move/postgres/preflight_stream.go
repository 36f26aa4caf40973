package postgres

import "dhow/internal/move"

// streamRules are about what else goes on: transactions, other streams, standbys.
var streamRules = []rule{
	{
		id: "long-transaction", severity: move.Warns, on: onSource,
		title: "A transaction is open for long.",
		sql: `SELECT format('pid %s (%s, %s)', pid, usename, coalesce(nullif(application_name, ''), 'no name')) AS object, pid, round(extract(epoch FROM clock_timestamp() - xact_start)) AS age FROM pg_stat_activity, given
			WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name NOT LIKE 'dhow%' AND xact_start < clock_timestamp() - make_interval(secs => patience) AND (backend_xid IS NOT NULL OR datname = current_database())`,
		consequence: "it is open for {age} s: the copy can not begin, and the fence can not be raised, before such a transaction ends",
		fix:         "SELECT pg_terminate_backend({pid}); -- or wait until it ends",
	},
	{
		id: "prepared-transaction", severity: move.Loses, on: onSource,
		title:       "A prepared transaction waits to be committed.",
		sql:         `SELECT gid AS object, database AS place, owner, date_trunc('second', prepared)::text AS since, format('COMMIT PREPARED %L', gid) AS commit, format('ROLLBACK PREPARED %L', gid) AS rollback FROM pg_prepared_xacts`,
		consequence: "it waits in database {place} since {since}: the copy can not begin while it does, and it could commit behind the fence, where it would be lost",
		fix:         "{commit}; -- or {rollback}; in database {place}, as {owner}",
		example:     "`COMMIT PREPARED <gid>` or `ROLLBACK PREPARED <gid>`, in its own database, as its owner",
	},
	{
		id: "subscription", severity: move.Loses, on: onEither,
		title:       "The database receives changes by a subscription of its own.",
		sql:         `SELECT subname AS object, quote_ident(subname) AS name FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND subenabled`,
		consequence: "its worker passes the fence as a replica does: what it writes to the {side} behind the cutover is on one side only",
		fix:         "ALTER SUBSCRIPTION {name} DISABLE; -- and subscribe anew on the target after the cutover",
	},
	{
		id: "publication", severity: move.Warns, on: onSource,
		title:       "The database publishes changes for others.",
		sql:         `SELECT pubname AS object FROM pg_publication WHERE pubname NOT LIKE 'dhow\_%'`,
		consequence: "publications do not move: their subscribers get nothing of what is written after the cutover",
		fix:         "create it on the target before the cutover is done, and let its subscribers subscribe there",
	},
	{
		id: "other-stream", severity: move.Warns, on: onSource,
		title:       "Somebody else reads a change stream of the database.",
		sql:         `SELECT slot_name AS object, plugin FROM pg_replication_slots WHERE slot_type = 'logical' AND active AND database = current_database() AND slot_name NOT LIKE 'dhow\_%'`,
		consequence: "the reader of slot {object} ({plugin}) gets nothing of what is written after the cutover, and its position means nothing on the target",
		fix:         "plan how that reader goes on from the target, with a slot made there before the cutover",
	},
	{
		id: "idle-slot", severity: move.Warns, on: onSource,
		title: "A slot that nobody reads keeps log.",
		sql: `SELECT slot_name AS object, pg_size_pretty(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)) AS kept, quote_literal(slot_name) AS literal
			FROM pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL AND slot_name NOT LIKE 'dhow\_%'`,
		consequence: "it keeps {kept} of the source's log and more with every write, on the disk that the move's own log needs",
		fix:         "SELECT pg_drop_replication_slot({literal}); -- or let its reader go on",
	},
	{
		id: "failover", severity: move.Warns, on: onSource,
		title: "The source has a standby that may take over.",
		sql: `SELECT 'slot ' || slot_name AS object FROM pg_replication_slots WHERE slot_type = 'physical'
			UNION SELECT 'standby ' || coalesce(nullif(application_name, ''), 'of ' || coalesce(client_addr::text, 'this host')) FROM pg_stat_replication r WHERE NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid)
				AND application_name NOT LIKE 'dhow%' AND state <> 'backup'`,
		consequence: "the move's slot is on the source alone: after a failover the changes since the last read cannot be had, and the move must begin again",
		fix:         "do not fail over by hand during the move; after a failover run `dhow finish --abandon` and begin again",
	},
	{
		id: "event-trigger", severity: move.Warns, on: onEither,
		title:       "An event trigger runs when a schema is changed.",
		sql:         `SELECT evtname AS object, evtevent AS event, quote_ident(evtname) AS name FROM pg_event_trigger t WHERE evtenabled <> 'D' AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_event_trigger'::regclass AND e.objid = t.oid AND e.deptype = 'e')`,
		consequence: "it runs at {event} for the move's own statements too, the fence's among them, where it costs stall or fails; and the source's event triggers do not move",
		fix:         "ALTER EVENT TRIGGER {name} DISABLE; -- during the move; it can be made on the target after the cutover",
	},
	{
		id: "scheduled-jobs", severity: move.Warns, on: onSource,
		title: "Jobs are scheduled in the database.",
		sql: `SELECT n.nspname || '.' || c.relname AS object FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind = 'r' AND (n.nspname, c.relname) IN (('cron', 'job'), ('pgagent', 'pga_job'), ('timetable', 'chain'), ('_timescaledb_config', 'bgw_job'), ('partman', 'part_config'))`,
		consequence: "jobs are not moved with the data, or run on both sides: on the target they are refused before the cutover, and missing or doubled after it",
		fix:         "stop the schedule on the source at the cutover, and schedule the jobs on the target after it",
	},
}
